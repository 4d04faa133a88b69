"""Records speech in the browser, 16 kHz mono, and hands it to Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import traitlets

from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.texts import catalogue
from s2i_lib.widgets.transport import ByteWidget

if TYPE_CHECKING:
    import numpy as np

RATE_HZ = 16_000


def pcm_to_float(data: bytes) -> np.ndarray:
    """Little-endian 16-bit PCM -> float32 in -1 to 1, shape = (n_samples,)."""
    import numpy as np

    return np.frombuffer(data, "<i2").astype(np.float32) / 32767


class Microphone(ByteWidget):
    """One press, one utterance; ``audio`` holds the last.

    Never wait for it in a cell: the cell would keep the kernel from taking what was said. Use
    `on_recording`, or read ``audio`` in a later cell.
    """

    _esm = join_modules("microphone/microphone.js")
    _css = join_styles("microphone/microphone.css")

    texts = traitlets.Dict(help="language -> key -> text").tag(sync=True)
    max_s = traitlets.Float(60.0, help="longest recording, in seconds").tag(sync=True)
    silence_s = traitlets.Float(
        0.0, help="stop after so many silent seconds behind speech; 0: never"
    ).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(texts=catalogue(), **kwargs)
        self.audio: np.ndarray | None = None
        self._callbacks: list[Callable[[np.ndarray], Any]] = []

    def on_recording(self, callback: Callable[[np.ndarray], Any]) -> None:
        """Call ``callback(audio)`` with each recording: float32, 16 kHz, shape = (n_samples,)."""
        self._callbacks.append(callback)

    def _received(self, data: bytes, meta: dict[str, Any]) -> None:
        self.audio = pcm_to_float(data)
        self.problem = self.problem_code = ""
        for callback in self._callbacks:
            callback(self.audio)
