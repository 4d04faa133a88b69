"""A picture while one speaks: when the first draft comes, and the picture after the last word.

    python -m benchmarks.live                  # 12 sentences, three minutes on two idle cores
    python -m benchmarks.live --cores 1        # at half the speed
    python -m benchmarks.live --write          # both, into benchmarks/README.md

The recording comes in quarters of a second, at the speed at which it was spoken, as a microphone
gives it. It ends with the last word (a press), or with 1.5 seconds of silence behind it (the studio
stops by itself). The usual recipe and s2i_lib without drafts begin when it has ended. Each side has
a process of its own and gets the clips in turn with the others. Needs Debian's flite, which tells
when the noun ends.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hearing import speak, write
from benchmarks.pocket import Asked
from benchmarks.speech_to_image import USUAL, Side, judge, make_weights, make_wishes
from s2i_lib.speech.audio import RATE_HZ, load_audio
from s2i_lib.storage.layout import Drive
from tools.pocket import words

MARKS = ("<!-- live: made by benchmarks/live.py -->", "<!-- end of live -->")
PIECE_S = 0.25  # as the studio's page sends them
SILENCE_S = 1.5  # after which it stops by itself
WHOLE, PRESSED, SILENT = "s2i_lib, without drafts", "s2i_lib, stopped", "s2i_lib, silence"
AFTER = {WHOLE: 0.0, PRESSED: 0.0, SILENT: SILENCE_S}
"""Seconds of silence behind the speech, by the way to end a recording."""


def end_of_noun_s(noun: str, sentence: str) -> float:
    """Return when the noun of "a NOUN on ..." has been said, by the voice that says it."""
    n_sounds = len(sounds(words.with_article(noun)))
    return sounds(sentence)[n_sounds - 1]


def sounds(text: str) -> list[float]:
    """Return the end of each sound of a text in seconds, without the pauses around it."""
    said = subprocess.run(
        ["flite", "-voice", "slt", "-psdur", "-t", text, "-o", "none"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [float(end) for name, end in re.findall(r"(\w+):([\d.]+)", said) if name != "pau"]


# ---- One side ----


class LiveSide:
    """s2i_lib in its own process, fed at the speed of speech."""

    def __init__(self, folder: Path, threads: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, str(folder / "drive"), threads)
        context.Process(target=_serve, args=arguments, daemon=True).start()
        self._pipe.recv()

    def ask(self, way: str, samples: np.ndarray, seed: int) -> dict[str, Any]:
        """Return text, picture, seconds after the last piece, and (when, prompt) of each draft."""
        self._pipe.send((way, samples, seed))
        return self._pipe.recv()

    def stop(self) -> None:
        self._pipe.send(None)


def _serve(pipe: Connection, drive: str, threads: int) -> None:
    import torch

    from s2i_lib.drawing.sampling import DrawOptions
    from s2i_lib.pipeline import SpeechToImage

    torch.set_num_threads(threads)
    speech = SpeechToImage(Drive(Path(drive)), model="pocket").load()
    speech.folder = None  # the usual recipe saves nothing either
    speech.say("a red car")  # the first call warms up
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        way, samples, seed = asked
        speech.options = DrawOptions(seed=seed)
        pipe.send(_draw_whole(speech, samples) if way == WHOLE else _draw_live(speech, samples))


def _draw_whole(speech: Any, samples: np.ndarray) -> dict[str, Any]:
    began = time.perf_counter()
    wish = speech(samples)
    return _answer(wish, time.perf_counter() - began, [])


def _draw_live(speech: Any, samples: np.ndarray) -> dict[str, Any]:
    from s2i_lib.live import Draft, Live

    drafts: list[tuple[float, str]] = []
    began = time.perf_counter()

    def note(event: object) -> None:
        if isinstance(event, Draft):
            drafts.append((time.perf_counter() - began, event.prompt))

    live = Live(speech, note)
    size = round(PIECE_S * RATE_HZ)
    for at in range(0, len(samples), size):
        piece = samples[at : at + size]
        spoken_s = (at + len(piece)) / RATE_HZ
        time.sleep(max(0.0, began + spoken_s - time.perf_counter()))
        live.add(piece)
    ended = time.perf_counter()
    wish = live.finish()
    return _answer(wish, time.perf_counter() - ended, drafts)


def _answer(wish: Any, seconds: float, drafts: list[tuple[float, str]]) -> dict[str, Any]:
    picture = wish.pictures[0].image
    return {"text": wish.prompt.text, "picture": picture, "seconds": seconds, "drafts": drafts}


# ---- The table ----


def measure(folder: Path, prompts: int, threads: int) -> str:
    """Ask every side for every sentence in turn, and return the table of it."""
    wishes = make_wishes(prompts)
    (folder / "clips").mkdir()
    clips = [speak(f"{wish.prompt}.", folder / "clips") for wish in wishes]
    usual = Side(USUAL, make_weights(folder), threads)
    ours = LiveSide(folder, threads)
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in (USUAL, *AFTER)}
    for seed, clip in enumerate(clips):
        one = usual.ask(clip, seed)
        answers[USUAL].append(one | {"seconds": one["hear"][0] + one["draw"][0]})
        for way, silence_s in AFTER.items():
            quiet = np.zeros(round(silence_s * RATE_HZ), np.float32)
            samples = np.concatenate([load_audio(clip), quiet])
            answers[way].append(ours.ask(way, samples, seed))
    usual.stop()
    ours.stop()
    delays = [
        delay
        for wish, one in zip(wishes, answers[SILENT], strict=True)
        if (delay := first_draft_s(wish.noun, f"{wish.prompt}.", one["drafts"])) is not None
    ]
    return write_table(wishes, answers, delays, threads)


def first_draft_s(noun: str, sentence: str, drafts: list[tuple[float, str]]) -> float | None:
    """Return the seconds from the noun's end to the first draft with it; None: it was misheard."""
    after = [when - end_of_noun_s(noun, sentence) for when, prompt in drafts if noun in prompt]
    return after[0] if after else None


def write_table(
    wishes: list[Asked],
    answers: dict[str, list[dict[str, Any]]],
    delays: list[float],
    threads: int,
) -> str:
    seconds = {way: np.array([one["seconds"] for one in some]) for way, some in answers.items()}
    rows = []
    for way, some in answers.items():
        heard = np.mean(
            [wish.noun in one["text"].lower() for wish, one in zip(wishes, some, strict=True)]
        )
        right = judge([one["picture"] for one in some], wishes)["background or place"]
        ratio = np.median(seconds[way] / seconds[USUAL])
        rows.append(
            f"| {way} | {np.median(seconds[way]):.2f} | {np.quantile(seconds[way], 0.9):.2f} | "
            f"{ratio:.2f} | {heard:.2f} | {right:.2f} |"
        )
    return "\n".join(
        [
            f"### On {threads} core{'s'[: threads > 1]}: {len(wishes)} sentences",
            "",
            "From the end of the recording to the picture:",
            "",
            "| | median, s | ninth tenth, s | of the usual | noun heard | background or place |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "The target of a live wish is 0.15 of the usual recipe's time, at the same or better "
            "accuracy, and no later than without drafts. “Stopped”: the recording ends with the "
            f"last word; “silence”: {SILENCE_S:g} s after it, as the studio does by itself.",
            "",
            f"From the end of the first noun to the first draft that has it: median "
            f"{np.median(delays):.2f} s, ninth tenth {np.quantile(delays, 0.9):.2f} s; the target "
            f"is 1.0 s. In {len(wishes) - len(delays)} of {len(wishes)} sentences no draft had it: "
            "it was misheard.",
        ]
    )


def run(
    about: str | None,
    measure: Callable[[Path, int, int], str],
    prompts: int,
    head: str,
    marks: tuple[str, str],
) -> None:
    """Do what the command line says: measure(folder, prompts, cores), and on one core if written.

    Parameters
    ----------
    head : what stands before the tables in the README, with {command}
    """
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=prompts)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    tables = []
    for cores in (options.cores, 1) if options.write else (options.cores,):
        os.sched_setaffinity(0, range(cores))  # what it starts has these and no others
        with tempfile.TemporaryDirectory() as folder:
            tables.append(measure(Path(folder), options.prompts, cores))
        print(tables[-1], flush=True)
    if options.write:
        command = f"python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(sys.argv[1:])}"
        write("\n\n".join([head.format(command=command), *tables]), marks)


HEAD = (
    f"## Live\n\nMade by `{{command}}` on {platform.machine()}, {os.cpu_count()} cores, CPU only, "
    "pocket model. The clips are synthesised (flite, voice slt)."
)

if __name__ == "__main__":
    run(__doc__, measure, 12, HEAD, MARKS)
