"""Records a name, several times, to be taught as it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s2i_lib.widgets.microphone import Microphone

if TYPE_CHECKING:
    import numpy as np

    from s2i_lib.photos.subject import Subject
    from s2i_lib.storage.layout import Drive


class NameRecorder(Microphone):
    """A microphone that keeps each recording; a press a name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_s": 5.0, **kwargs})
        self.recordings: list[np.ndarray] = []
        self.on_recording(self.recordings.append)

    def teach(self, drive: Drive, subject: Subject) -> Subject:
        """Teach how the subject's name sounds; return it as it was where nothing was recorded.

        Raises
        ------
        InputError
            As `teach_name` does.
        """
        from s2i_lib.speech.taught_names import teach_name

        return teach_name(drive, subject, self.recordings) if self.recordings else subject
