"""Records a name, several times, to be taught as it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s2i_lib.widgets.microphone import Microphone

if TYPE_CHECKING:
    import numpy as np


class NameRecorder(Microphone):
    """A microphone that keeps each recording; a press a name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_s": 5.0, **kwargs})
        self.recordings: list[np.ndarray] = []
        self.on_recording(self.recordings.append)
