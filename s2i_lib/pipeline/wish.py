"""What somebody asked for, and what came of it: a `Wish` that has ended, or a `Sketch` of one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from s2i_lib.drawing.pages import Section
from s2i_lib.drawing.records import Picture
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import S2iError
from s2i_lib.models.loading import Model
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.audio import Recording, samples_of
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript


@dataclass(frozen=True)
class Wish:
    """What somebody asked for, and what came of it."""

    prompt: Prompt
    options: DrawOptions
    """How it was drawn, with the seed that was drawn from."""
    notes: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    paths: tuple[Path | None, ...] = ()
    """File of each picture; None for one that was not saved."""
    failures: tuple[S2iError, ...] = ()
    """Why pictures could not be saved, where they could not."""
    absent: Subject | None = None
    """Subject that was asked for and came out in none of the pictures; another try may help."""
    recording: Recording | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage took."""

    @property
    def transcript(self) -> Transcript | None:
        """What was heard; None for typed words."""
        return self.prompt.transcript

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences on why what was heard may not be what was said."""
        return self.transcript.doubts if self.transcript else ()

    @property
    def unsaved_seeds(self) -> list[int]:
        """Seeds of the pictures that were not saved."""
        both = zip(self.pictures, self.paths, strict=True)
        return [picture.record["seed"] for picture, path in both if path is None]

    def section(self) -> Section:
        """Return its part of a page: the saved pictures, the words, the recording."""
        return Section(
            self.prompt.text,
            [path for path in self.paths if path],
            heard=self.transcript.text if self.transcript else None,
            clip=None if self.recording is None else samples_of(self.recording),
            notes=[*self.doubts, *self.notes],
        )


@dataclass(frozen=True)
class Sketch:
    """Pictures of a wish that has not ended yet, saved nowhere."""

    model: Model
    prompt: Prompt
    options: DrawOptions
    pictures: tuple[Picture, ...]

    def pictures_of(
        self, model: Model, prompt: Prompt, options: DrawOptions
    ) -> list[Picture] | None:
        """Return the pictures, if drawing this would give the same; None if not.

        The same words may have been heard once more since: their records have what was heard last.
        """
        as_heard_then = replace(prompt, transcript=self.prompt.transcript)
        if (self.model, self.prompt, self.options) != (model, as_heard_then, options):
            return None
        heard = {"transcript": prompt.transcript.to_json() if prompt.transcript else None}
        return [replace(one, record=one.record | heard) for one in self.pictures]
