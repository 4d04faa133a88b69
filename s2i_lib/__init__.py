"""Speak a sentence, see the picture: photograph a subject, teach it to a model, say what to see.

    import s2i_lib as s2i

    drive = s2i.start()
    dataset = s2i.build_dataset(s2i.Subject("Rex", "dog", kind="animal"), drive, photos="photos/")
    run = s2i.FinetuneRun(drive, dataset).train()
    wish = s2i.SpeechToImage(drive, run="rex")("my.wav")
    wish.pictures[0].image

The names below are the face; behind each stands a package that does more, in the order of the data:
storage, models, photos, speech, drawing, evaluation, training. A name is loaded when it is first
used, so importing this loads neither torch nor anything else that takes a second.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from s2i_lib.ar.hold import hold as hold
    from s2i_lib.conversation import Conversation as Conversation
    from s2i_lib.drawing.draw import draw as draw
    from s2i_lib.errors import InputError as InputError
    from s2i_lib.evaluation.runs import evaluate_run as evaluate  # noqa: F401
    from s2i_lib.models.loading import load as load
    from s2i_lib.notebook import start as start
    from s2i_lib.photos.dataset import build_dataset as build_dataset
    from s2i_lib.photos.dataset import sample_subject as sample_subject
    from s2i_lib.photos.manifest import load_dataset as load_dataset
    from s2i_lib.photos.subject import Subject as Subject
    from s2i_lib.pipeline import SpeechToImage as SpeechToImage
    from s2i_lib.speech.transcribe import hear as hear
    from s2i_lib.storage.layout import open_drive as open_drive
    from s2i_lib.training.finetune import FinetuneRun as FinetuneRun

__version__ = "0.1.0"

# Name here -> where it lives, in the order in which a project uses them.
_FACE = {
    "start": "notebook.start",
    "open_drive": "storage.layout.open_drive",
    "Subject": "photos.subject.Subject",
    "sample_subject": "photos.dataset.sample_subject",
    "build_dataset": "photos.dataset.build_dataset",
    "load_dataset": "photos.manifest.load_dataset",
    "FinetuneRun": "training.finetune.FinetuneRun",
    "load": "models.loading.load",
    "hear": "speech.transcribe.hear",
    "draw": "drawing.draw.draw",
    "SpeechToImage": "pipeline.SpeechToImage",
    "Conversation": "conversation.Conversation",
    "hold": "ar.hold.hold",
    "evaluate": "evaluation.runs.evaluate_run",
    "InputError": "errors.InputError",
}


def _leave_processors_to_others() -> None:
    """Compute on half of the processors; OMP_NUM_THREADS, where somebody set it, decides instead.

    Two processors are mostly the two halves of one core, which share what multiplies, and of a
    virtual machine nobody can tell. Threads on both gain next to nothing, and beside busy programs
    they spin for each other until the system takes the processor away: seen, a step that took 20
    times as long. benchmarks/README.md has the numbers. The number does not follow how busy the
    machine is, as the last bits of a training step depend on it.

    OpenMP reads both variables when it is loaded: torch and CTranslate2 each bring their own GNU
    OpenMP. 10,000 rounds of spinning are a fraction of a millisecond; OpenMP's own are 300,000.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if "OMP_NUM_THREADS" not in os.environ:
        # Not all systems can keep a program to some of their processors.
        given = getattr(os, "sched_getaffinity", lambda process: range(os.cpu_count() or 1))(0)
        n_threads = max(1, len(given) // 2)
        os.environ["OMP_NUM_THREADS"] = str(n_threads)
        if "torch" in sys.modules:  # too late for the variable
            sys.modules["torch"].set_num_threads(n_threads)
    # openai-whisper finds when words were said by numba, which sets OpenMP's number for the thread
    # that asked, torch's as well. Once numba has threads, it refuses another number.
    said = os.environ["OMP_NUM_THREADS"]
    if "numba" not in sys.modules and said.isdecimal() and int(said):
        os.environ.setdefault("NUMBA_NUM_THREADS", said)


_leave_processors_to_others()


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _FACE[name].rpartition(".")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
