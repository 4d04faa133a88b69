"""What a callback is told while a wish is heard and drawn, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from s2i_lib.drawing.sampling import Step, preview
from s2i_lib.models.loading import Model
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript

if TYPE_CHECKING:
    import PIL.Image

    from s2i_lib.drawing.safety import Classroom


class Cancelled(Exception):  # noqa: N818  (it is no error: nobody wants the picture any more)
    """Raised by a callback to end the running wish between two steps."""


@dataclass(frozen=True)
class Loading:
    """A model is being loaded; a wish waits for it."""

    what: str
    """Name for people: "the model pocket", "Whisper"."""


@dataclass(frozen=True)
class Loaded:
    """The model that draws has been loaded."""

    model: Model


@dataclass(frozen=True)
class Hearing:
    """A recording is being listened to."""


@dataclass(frozen=True)
class Heard:
    """The words are known."""

    transcript: Transcript


@dataclass(frozen=True)
class Taken:
    """Sentence of a conversation has been taken for a wish or a change, and is drawn next."""

    sentence: str
    """What it was taken for, in words for the user."""


@dataclass(frozen=True)
class Understood:
    """The prompt is known, and is drawn next."""

    model: Model
    prompt: Prompt
    notes: tuple[str, ...]
    """Sentences on what was made of the words."""


@dataclass(frozen=True)
class Drawing:
    """A denoising step has been made."""

    step: Step
    model: Model
    classroom: Classroom | None = None

    def preview(self) -> PIL.Image.Image:
        """Return the first picture as far as it has come: a pixel a latent.

        In classroom mode it is gray where the checker that looks at the model's pictures flags it.
        """
        image = preview(self.model, self.step.denoised[:1])[0]
        rules, checker = self.classroom, self.model.base.safety_checker
        if rules and checker and any(rules.find_unfit(self.model, [image])):
            image.paste("gray", (0, 0, *image.size))
        return image


Event: TypeAlias = Loading | Loaded | Hearing | Heard | Taken | Understood | Drawing
