"""From hearing to seeing: how much of a wish survives the microphone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.evaluation.dreambench import EvaluateOptions, batches
from s2i_lib.evaluation.metrics import (
    bootstrap,
    caption,
    name_recall,
    r_precision,
    speech_gap,
    text_cosines,
    word_error_rate,
)
from s2i_lib.pipeline import SpeechToImage
from s2i_lib.speech.prompt import Prompt, make_prompt
from s2i_lib.speech.transcribe import HearOptions
from s2i_lib.storage.files import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.models.encoders import ClipScorer
    from s2i_lib.photos.subject import Subject

AUDIO = {
    ".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".webm", ".aac", ".aiff", ".mp4", ".mov",
    ".amr", ".3gp", ".wma", ".mka", ".mkv", ".avi", ".mpg", ".wv", ".tta", ".voc", ".au", ".caf",
}  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A recording, and the words that are said in it."""

    audio: Path
    text: str


def list_recordings(folder: Path) -> list[Path]:
    """Return the recordings of a folder, by name; whatever else lies there is passed over.

    Raises
    ------
    InputError
        When there is none, or no such folder.
    """
    audio = sorted(p for p in folder.glob("*") if p.suffix.lower() in AUDIO)
    if not audio:
        found = "found 0, need 1 or more" if folder.is_dir() else "there is no such folder"
        raise InputError(
            f"There are no recordings in {folder} ({found}). Expected files such as one.wav "
            f"({', '.join(sorted(AUDIO))}). Put some there, or name the folder that holds them."
        )
    return audio


def read_clips(folder: Path) -> list[Clip]:
    """Return the recordings of a folder, each with the words in a .txt of the same name.

    Raises
    ------
    InputError
        When there is no recording, or one has no words, none that can be read, or none that could
        be drawn.
    """
    clips = []
    for path in list_recordings(folder):
        words = path.with_suffix(".txt")
        text = _read_words(words) if words.is_file() else ""
        if not text:
            raise InputError(
                f"{path.name} has no {words.name} with the words that are said, so what is heard "
                "cannot be compared with them. Write that file."
            )
        try:
            make_prompt(text)  # refused now, and not after all pictures of the run
        except InputError as error:
            raise InputError(f"{words}: {error}") from error
        clips.append(Clip(path, text))
    return clips


def _read_words(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()  # Windows puts a mark before the text
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}). Expected the words that are said, as "
            "text in UTF-8. Save it again as that."
        ) from error


def evaluate_speech(
    speech: SpeechToImage,
    clips: Sequence[Clip],
    clip_scorer: ClipScorer | None,
    options: EvaluateOptions,
) -> dict[str, Any]:
    """Hear every clip, draw what was heard and what was typed from the same noise, and compare.

    Returns
    -------
    dict
        listener (engine, model, version, options), word_error_rate, name_recall (None: no name was
        said), speech_gap and r_precision (missing without a scorer, the latter also with one
        clip), r_precision_captions (among how many it found its own), and of each clip its hash
        and what was said, heard and drawn.
    """
    rows: list[dict[str, Any]] = []
    listened: dict[str, str] = {}
    spoken, typed = [], []
    for clip in clips:
        meant, heard = speech.prompt(clip.text), None
        try:
            transcript = speech.hear(clip.audio)
            heard = speech.prompt(transcript)
        except S2iError as error:  # silence is a result, too: every word is missing
            rows.append({"problem": str(error)})
        else:
            rows.append({"heard": transcript.text})
            listened = {"engine": transcript.engine, "model": transcript.model}
        rows[-1] |= _row(clip, meant, heard)
        if clip_scorer is not None:
            typed.append(clip_scorer.images(_draw(speech, meant, options)))
            spoken.append(clip_scorer.images(_draw(speech, heard, options)) if heard else None)
    settings = {"seed": options.bootstrap_seed, "resamples": options.resamples}
    scores: dict[str, Any] = {
        "word_error_rate": word_error_rate(
            [row["said"] for row in rows], [row.get("heard", "") for row in rows], **settings
        ),
        "name_recall": name_recall(
            [row["names_said"] for row in rows], [row["names_heard"] for row in rows], **settings
        ),
        "listener": _describe_listener(speech.hearing, listened),
        "clips": rows,
    }
    if clip_scorer is not None:
        captions = [_bare(row["typed_prompt"], speech.subjects) for row in rows]
        texts = clip_scorer.texts(captions)
        scores |= _fidelity(texts, captions, spoken, typed, options.seeds, settings)
    return scores


def _row(clip: Clip, meant: Prompt, heard: Prompt | None) -> dict[str, Any]:
    """What the report says of a clip, beside the words that were heard."""
    return {
        "clip": clip.audio.name,
        "sha256": sha256_of(clip.audio),
        "said": clip.text,
        "typed_prompt": meant.text,
        "typed_negative": meant.negative,
        "spoken_prompt": heard.text if heard else None,
        "spoken_negative": heard.negative if heard else None,
        "names_said": [s.name for s in meant.subjects],
        "names_heard": [s.name for s in heard.subjects] if heard else [],
    }


def _describe_listener(options: HearOptions, listened: dict[str, str]) -> dict[str, Any]:
    """Engine and model as they were chosen, the engine's version, and the options."""
    engine = listened.get("engine")
    return {
        "options": asdict(options),
        **listened,
        "version": version(engine) if engine else None,
    }


def _fidelity(
    texts: np.ndarray,
    captions: list[str],
    spoken: list[np.ndarray | None],
    typed: list[np.ndarray],
    seeds: int,
    settings: dict[str, int],
) -> dict[str, Any]:
    """Speech gap and R-precision; a clip that gave no picture counts as 0 and as a miss."""

    def own(images: np.ndarray, i: int) -> np.ndarray:
        return text_cosines(images, np.repeat(texts[i : i + 1], seeds, axis=0))

    gap = speech_gap(
        [np.zeros(seeds) if s is None else own(s, i) for i, s in enumerate(spoken)],
        [own(t, i) for i, t in enumerate(typed)],
        **settings,
    )
    found: dict[str, Any] = {"speech_gap": gap}
    choices = list(dict.fromkeys(captions))
    if len(choices) > 1:
        table = np.stack([texts[captions.index(text)] for text in choices])
        hits = [
            np.zeros(seeds)
            if s is None
            else r_precision(s @ table.T, [choices.index(captions[i])] * seeds)
            for i, s in enumerate(spoken)
        ]
        found["r_precision"] = bootstrap(np.stack(hits), **settings)
        found["r_precision_captions"] = len(choices)
    return found


def _draw(speech: SpeechToImage, prompt: Prompt, options: EvaluateOptions) -> list[Image]:
    wishes = [speech.draw(prompt, options=some) for some in batches(options, options.seeds)]
    return [picture.image for wish in wishes for picture in wish.pictures]


def _bare(prompt: str, subjects: Sequence[Subject]) -> str:
    for subject in subjects:
        prompt = caption(prompt, subject)
    return prompt
