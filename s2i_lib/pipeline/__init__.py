"""Speech in, picture out: the product as one object.

A wish takes one way through `SpeechToImage` (``session``): a recording is *heard*, its words become
a *prompt*, the prompt is *drawn*, the pictures are *saved*. It does all four, or each alone; the
command line, the studio, and the evaluation of speech are made of it. What goes on is told by
``events`` to one callback, never printed, and a callback that raises `Cancelled` ends the wish
between two steps. What draws and what hears is loaded when it is first needed (``loading``). The
last ``wish`` is remembered with its noise, so that it can be drawn again, changed.
"""

from s2i_lib.pipeline.events import (
    Cancelled,
    Drawing,
    Event,
    Heard,
    Hearing,
    Loaded,
    Loading,
    Taken,
    Understood,
)
from s2i_lib.pipeline.session import SpeechToImage
from s2i_lib.pipeline.wish import Sketch, Wish
from s2i_lib.speech.audio import Recording

__all__ = [
    "Cancelled",
    "Drawing",
    "Event",
    "Heard",
    "Hearing",
    "Loaded",
    "Loading",
    "Recording",
    "Sketch",
    "SpeechToImage",
    "Taken",
    "Understood",
    "Wish",
]
