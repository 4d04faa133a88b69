"""Damaged files and odd words, to all that reads other people's: an answer, or one of our errors.

Each example is a real file of its kind with a few of its bytes (or parts of its JSON, or words)
changed as damage, other programs and mischief change them. Nothing may end in another error,
compute for ten seconds, or write outside of its folder. `make full` tries 500 of each kind, other
ones each time.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from s2i_lib.cli.main import main
from s2i_lib.drawing.records import prompt_of
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import single_file
from s2i_lib.photos.crop import parse_crop
from s2i_lib.photos.importing import keep_photo
from s2i_lib.photos.manifest import load_dataset
from s2i_lib.photos.reading import read_photo
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.audio import read_audio
from s2i_lib.speech.prompt import find_negatives, make_prompt
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import EDITIONS
from s2i_lib.storage.tensor_file import read_head
from tests.photo_files import encode, exif, photo
from tests.sounds import JFK, KINDS
from tests.sounds import encode as encode_sound

DATA = Path(__file__).parents[1] / "data"
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
N_SHORT = {"photos": 40, "sounds": 30, "safetensors": 15, "cards": 8, "prompts": 40}
N_FULL = 500


class TookTooLongError(BaseException):
    """No error of the library, nor one that it could take for a damaged file."""


LIMITS_S = {
    (signal.ITIMER_PROF, signal.SIGPROF): 10,  # of computing
    (signal.ITIMER_REAL, signal.SIGALRM): 120,  # of waiting, where the machine is busy, too
}


@contextlib.contextmanager
def soon():
    """Stop what takes longer than `LIMITS_S`."""

    def stop(number, _):
        raise TookTooLongError(signal.Signals(number).name)

    with contextlib.ExitStack() as stack:
        for (timer, number), seconds in LIMITS_S.items():
            stack.callback(signal.signal, number, signal.signal(number, stop))
            stack.callback(signal.setitimer, timer, 0)
            signal.setitimer(timer, seconds)
        yield


@pytest.fixture
def count(full):
    return lambda kind: N_FULL if full else N_SHORT[kind]


def fuzz(kind, count, strategy, check):
    """Check examples of a strategy, each with its own time limit."""

    @settings(max_examples=count(kind), suppress_health_check=list(HealthCheck), print_blob=True)
    @given(strategy)
    def run(example):
        with soon():
            check(example)

    run()


# ---- Damage to bytes ----


@st.composite
def damaged(draw, wholes: list[bytes]) -> bytes:
    """One of ``wholes`` after one to six changes, each at a place of its own."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 6))):
        # Headers are where the lengths and counts are.
        in_head = draw(st.booleans())
        at = draw(st.integers(0, max(0, min(len(data), 400 if in_head else len(data)) - 1)))
        how = draw(st.integers(0, 7))
        length = draw(st.integers(1, 64))
        if how == 0:
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == 1:
            data[at : at + length] = b""
        elif how == 2:
            data[at:at] = draw(st.binary(max_size=64))
        elif how == 3:
            data[at:at] = data[at : at + length] * draw(st.integers(1, 50))
        elif how == 4:
            del data[at + 8 :]
        elif how == 5:
            number = draw(st.sampled_from(EXTREMES))
            order = draw(st.sampled_from("<>"))
            data[at : at + 4] = struct.pack(f"{order}I", number)
        elif how == 6:
            data[at : at + length] = bytes(length)
        else:
            other = draw(st.sampled_from(wholes))
            data[at:] = other[min(at, len(other)) :]
    return bytes(data)


# ---- Photos ----


def whole_photos() -> list[bytes]:
    from PIL import ImageCms

    small = photo(48)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = exif(6, private=True)
    alpha = small.convert("RGBA")
    alpha.putalpha(128)
    film = [photo(32, number) for number in (1, 2, 3)]
    return [
        encode(small, "JPEG", exif=tags, icc_profile=profile),
        encode(small, "JPEG", progressive=True, comment=b"words"),
        encode(small.convert("CMYK"), "JPEG"),
        encode(small, "MPO", save_all=True, append_images=film[:1]),
        encode(alpha, "PNG", exif=tags, icc_profile=profile),
        encode(Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257), "PNG"),
        encode(small.quantize(16), "PNG", transparency=3),
        encode(film[0], "PNG", save_all=True, append_images=film[1:]),
        encode(small, "WEBP", exif=tags, icc_profile=profile),
        encode(film[0], "WEBP", save_all=True, append_images=film[1:]),
        encode(small, "HEIF", exif=tags),
        encode(small, "AVIF", exif=tags),
        encode(small, "TIFF", compression="tiff_lzw", exif=tags),
        encode(small, "TIFF", compression="jpeg"),
        encode(small, "BMP"),
        encode(film[0], "GIF", save_all=True, append_images=film[1:]),
    ]


def test_a_damaged_photo_is_read_or_refused(tmp_path, count):
    folder = tmp_path / "kept" / "photos"
    folder.mkdir(parents=True)

    def check(example):
        data, name = example
        with contextlib.suppress(InputError):
            kept = keep_photo(data, name, folder)
            assert kept.parent == folder
            assert read_photo(kept).image.mode == "RGB"
        assert set(tmp_path.iterdir()) == {folder.parent}
        assert set(folder.parent.iterdir()) == {folder}
        shutil.rmtree(folder)
        folder.mkdir()

    names = st.sampled_from(["a.jpg", "../../b.PNG", "c.heic", "/d.webp", "e\\..\\f.tif", "g.gif"])
    fuzz("photos", count, st.tuples(damaged(whole_photos()), names), check)


# ---- Sounds ----


def whole_sounds(folder: Path) -> list[bytes]:
    samples, _ = read_audio(JFK).samples[8_000:16_000], folder.mkdir()
    made = []
    for name, codec, rate_hz, layout in KINDS.values():
        film = codec == "aac" and not name.endswith("m4a")
        path = encode_sound(samples, folder / name, codec, rate_hz, layout, with_video=film)
        made.append(path.read_bytes())
    odd = [DATA / "odd" / name for name in ("a.wv", "cam.mpg", "mandarin_0.opus")]
    return [*made, *(path.read_bytes() for path in odd)]


@pytest.mark.slow
def test_a_damaged_sound_is_heard_or_refused(tmp_path, count):
    def check(data):
        with contextlib.suppress(InputError):
            audio = read_audio(data)
            assert np.isfinite(audio.samples).all() and np.abs(audio.samples).max() <= 1
            assert audio.duration_s <= 60

    fuzz("sounds", count, damaged(whole_sounds(tmp_path / "sounds")), check)


# ---- Weights ----


def whole_weights(folder: Path) -> list[bytes]:
    import torch
    from safetensors.torch import save

    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    pairs = {"lora_A.weight": torch.zeros(2, 16), "lora_B.weight": torch.ones(16, 2)}
    kohya = f"lora_unet_{layer.replace('.', '_')}"
    return [
        save({f"unet.{layer}.{name}": tensor for name, tensor in pairs.items()}),
        save({f"base_model.model.{layer}.{name}": tensor for name, tensor in pairs.items()}),
        save({f"{kohya}.lora_down.weight": pairs["lora_A.weight"],
              f"{kohya}.lora_up.weight": pairs["lora_B.weight"],
              f"{kohya}.alpha": torch.tensor(1.0)}, metadata={"ss_network_dim": "2"}),
        save({"model.diffusion_model.x.attn2.to_k.weight": torch.zeros(2, 1024)}),
    ]  # fmt: skip


def test_a_damaged_weights_file_is_loaded_or_refused(tmp_path, count):
    from tests.tiny_model import make_pipeline

    pipeline, path = make_pipeline(), tmp_path / "a.safetensors"

    def check(data):
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            head = read_head(path)
            assert all(isinstance(name, str) for name in head.shapes)
            file = single_file.inspect(path)
            if file.kind == "lora":
                try:
                    single_file.load_lora(pipeline, file, "tiny")
                finally:
                    with contextlib.suppress(Exception):
                        pipeline.unload_lora_weights()

    fuzz("safetensors", count, damaged(whole_weights(tmp_path)), check)


# ---- Cards ----

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["", "../../..", "/etc", "a" * 300, "\0", "\ud83d", "CON", "rex", ".", "nan"]),
)  # fmt: skip
ODD = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, at=()):
    """The path of every value in a record."""
    yield at
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*at, key))


@st.composite
def odd_record(draw, whole: dict) -> bytes:
    """A record of which one to three values are gone, others, or under another name."""
    record = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([at for at in places(record) if at] or [("x",)]))
        inside = record
        for key in way:
            inside = inside[key]
        how = draw(st.integers(0, 3))
        if how == 0 and (isinstance(inside, list) or last in inside):
            del inside[last]
        elif how == 1 and isinstance(inside, dict):
            inside[draw(st.text(max_size=5))] = inside.pop(last, None)
        else:
            inside[last] = draw(ODD)
    text = json.dumps(record).encode()
    cut = draw(st.integers(0, 40))
    return text[: draw(st.integers(0, len(text)))] if cut == 0 else text


def png_with(record: bytes, whole: Path) -> bytes:
    """A picture with another record in it."""
    from PIL.PngImagePlugin import PngInfo

    from s2i_lib.drawing.gallery import RECORD_KEY

    info = PngInfo()
    info.add_itxt(RECORD_KEY, record.decode(errors="replace"))
    with Image.open(whole) as image:
        return encode(image, "PNG", pnginfo=info)


COMMANDS = [
    ["runs"], ["gallery"], ["gallery", "--subject", "Racer", "--prompt", "a"],
    ["gallery", "--grid", "OUT/grid.png"], ["gallery", "--share", "OUT/shared"],
    ["forget", "Racer", "--yes"], ["runs", "--json"], ["runs", "--prune", "--yes"],
    ["export", "racer/pocket-01", "--format", "lora", "--out", "OUT/a"],
    ["dataset", "OUT/none", "--subject", "Racer"], ["dataset", "--subject", "Racer", "--crop", "?"],
]  # fmt: skip


@pytest.fixture(scope="module")
def whole_drive(tmp_path_factory) -> Path:
    """A Drive with a subject, its dataset, a run and two pictures, as the program writes them."""
    from s2i_lib.drawing import gallery
    from s2i_lib.drawing.records import Picture
    from s2i_lib.photos.dataset import build_dataset

    drive, photos = (
        Drive(tmp_path_factory.mktemp("whole") / "drive"),
        tmp_path_factory.mktemp("own"),
    )
    (photos / "one.png").write_bytes(encode(photo(64), "PNG"))
    dataset = build_dataset(Subject("Racer", "car", "wawx"), drive, photos=photos)
    run = drive.runs / "racer" / "pocket-01"
    (run / "weights").mkdir(parents=True)
    (run / "weights" / "step.json").write_text('{"step": 3}')
    subject = json.loads((drive.subjects / "racer" / "subject.json").read_text())
    base = {"name": "pocket", "edition": EDITIONS["pocket"], "source": "pocket"}
    base |= {"fingerprint": "0", "licence": "MIT"}
    card = {
        "status": "finished", "step": 3, "subject": subject, "instance_prompt": "a ohwx car",
        "class_prompt": "a car", "class_images": None, "base": base, "options": {"steps": 3},
        "wanted": {"steps": 3}, "dataset": {"sha256": dataset.sha256, "images": 1},
        "scores": {"value": 0.3}, "versions": {"torch": "2"}, "kept_step": 3,
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(card))
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}')
    drive.creations.mkdir(parents=True)
    for number in (1, 2):
        record = {
            "prompt": "a car", "negative": "", "seed": number, "run": "racer/pocket-01",
            "subjects": [subject], "steps": 3, "seeds": [number], "index": 0, "transcript": None,
            "model": "pocket", "source": "pocket", "hashes": {"unet": "0"}, "device": "cpu",
        }  # fmt: skip
        gallery.save(Picture(photo(16), record), drive.creations)
    return drive.root


def cards_of(drive: Path) -> list[Path]:
    found = [path for path in drive.rglob("*") if path.suffix in (".json", ".jsonl", ".png")]
    return sorted(p for p in found if p.suffix != ".png" or p.parent.name == "creations")


def record_in(path: Path) -> dict:
    from s2i_lib.drawing.gallery import RECORD_KEY

    if path.suffix != ".png":
        return json.loads(path.read_text())
    with Image.open(path) as image:
        return json.loads(image.info[RECORD_KEY])


def ends_well(words: list[str], monkeypatch) -> tuple[str, str]:
    """Run a command in this process; its output, where it ends as `main` promises."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.argv", ["s2i_lib", *words])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code or 0
    assert status in (0, 1, 2)
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def test_an_odd_card_costs_no_command_more_than_an_error(whole_drive, tmp_path, count, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    monkeypatch.setattr("s2i_lib.cli.main.log_to_stderr", lambda: None)
    cards = {path: record_in(path) for path in cards_of(whole_drive)}
    drive, out = tmp_path / "drive", tmp_path / "out"

    def check(example):
        path, data, words = example
        shutil.rmtree(drive, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole_drive, drive)
        changed = drive / path.relative_to(whole_drive)
        changed.write_bytes(png_with(data, path) if path.suffix == ".png" else data)
        given = [word.replace("OUT", str(out)) for word in words]
        with contextlib.suppress(S2iError):
            load_dataset(Drive(drive), "Racer")
        ends_well([*given, "--drive", str(drive)], monkeypatch)
        assert {p.name for p in tmp_path.iterdir()} <= {"drive", "out", "local"}

    example = st.sampled_from(sorted(cards)).flatmap(
        lambda path: st.tuples(st.just(path), odd_record(cards[path]), st.sampled_from(COMMANDS))
    )
    fuzz("cards", count, example, check)


# ---- Prompts ----

SUBJECTS = [
    Subject("Rex", "dog"),
    Subject("Ann Mary", "woman", "flwx"),
    Subject("राम", "man", "gawx"),
]
SENTENCES = [
    "Rex on the beach at sunset", "a picture of Ann Mary's hat without any trees", "राम और Rex",
    "two Rexes, no snow (red:1.3) <lora:x:0.8>", "In May, Ann Mary and Rex don't wear a hat!",
    "make it blue, please. A [cat|dog] BREAK {rain} --ar 16:9 ((masterpiece))",
]  # fmt: skip
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()} | {
    "", " ", "\0", "\n", "\u202e", "\ufeff",
    "👨‍👩‍👧", "é", "e\u0301", "((", "))", ":", "<", ">", "'s",
    "’s", "without", "no", "not", "and", "\ud83d", "ﬁ", "ẞ", "İ", "１", "a" * 400, "\\", "%s", "{}",
})  # fmt: skip


def test_any_words_make_a_prompt_or_are_refused(count):
    def check(text):
        with contextlib.suppress(InputError):
            prompt = make_prompt(text, SUBJECTS)
            record = json.loads(json.dumps(prompt.to_json()))
            told = prompt_of(record | {"prompt": prompt.text})
            assert prompt.text and told == replace(prompt, notes=(), near_names=())
            find_negatives(prompt.text)
        for read in (Subject.parse, parse_crop, Drive(Path("x")).subject):
            with contextlib.suppress(InputError):
                read(text)

    words = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=16).map(" ".join)
    signs = st.lists(st.sampled_from(WORDS), max_size=8).map("".join)
    fuzz("prompts", count, words | signs | st.text(max_size=40), check)
