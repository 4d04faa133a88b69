"""What was said, what it was taken for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from s2i_lib.drawing.pages import Section
from s2i_lib.pipeline import Wish
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.transcript import Transcript

WISH = "wish"
"""Kind of a sentence that is a new wish; all others are those of `Change`."""
AS_NEW, AS_CHANGE = "Take it as a new wish", "Change the last picture instead"
"""Labels for what `Conversation.otherwise` does."""


@dataclass(frozen=True)
class Unfinished:
    """A wish that was given up before its picture was there."""

    said: str
    prompt: Prompt


@dataclass(frozen=True)
class Turn:
    """A wish or a change, and the pictures that came of it: one place in the strip."""

    number: int
    """Place in `Conversation.turns`, from 0."""
    said: str
    """Words, as they were heard or typed."""
    kind: str
    """`WISH`, or a kind of `Change` ("colour", "place", ...)."""
    taken: str
    """Sentence on what the words were taken for."""
    wish: Wish
    parent: int | None
    """Number of the turn that it changes; None for a new wish."""

    @property
    def places(self) -> range:
        """Places of its pictures, from 0."""
        return range(len(self.wish.pictures))

    @property
    def name(self) -> str:
        """Prompt, in quotes, for sentences to the user."""
        return f"“{self.wish.prompt.text}”"

    def section(self) -> Section:
        """Return its part of a page: what was said, what it was taken for, the pictures."""
        own = self.wish.section()
        said = None if own.heard else self.said
        return replace(own, said=said, notes=[self.taken, *own.notes])


@dataclass(frozen=True)
class Answer:
    """What a sentence, or a press, did."""

    said: str
    kind: str
    taken: str
    """One sentence for the user: what it was taken for, or what was done."""
    turn: Turn | None
    """What is to be shown now; None for nothing: the beginning."""
    other: str = ""
    """Label of the button for the other reading; "" where there is no other."""
    words: str | Transcript = ""
    """What `Conversation.otherwise` takes the other way."""
    is_drawn: bool = False
    """Whether ``turn`` was drawn for it; it was there before an undo or a jump."""
