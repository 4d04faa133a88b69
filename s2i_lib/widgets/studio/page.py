"""What a studio's page shows: its state and words, what is heard, and pictures as they appear."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from s2i_lib.conversation.turns import AS_NEW, WISH, Answer
from s2i_lib.drawing.marks import Mark, encode_marked, mark_of_model
from s2i_lib.drawing.presence import say_absent
from s2i_lib.live import Draft, LiveEvent
from s2i_lib.pipeline import Drawing
from s2i_lib.speech.live import Partial
from s2i_lib.widgets.studio.album import Album
from s2i_lib.widgets.studio.controls import DEFAULTS
from s2i_lib.widgets.texts import in_english
from s2i_lib.widgets.transport import ByteWidget

if TYPE_CHECKING:
    from s2i_lib.conversation import Conversation, Turn
    from s2i_lib.speech.prompt import Prompt
    from s2i_lib.speech.transcript import Transcript

PREVIEW_EVERY_S = 0.2  # five rough pictures a second are enough to see it appear


class StudioPage(ByteWidget):
    """The page of a conversation: words, controls, pictures, and how they are set together.

    What is set within ``hold_sync`` reaches the page as one message.
    """

    state = traitlets.Unicode(
        "loading",
        help="loading, ready, waiting, hearing, asking, drawing, holding, done, stopped, error",
    ).tag(sync=True)
    status = traitlets.Unicode("", help="what goes on, in English words")
    messages: traitlets.List[Any] = traitlets.List(
        help="the same for the page: key of a text, and what its placeholders stand for"
    ).tag(sync=True)
    texts = traitlets.Dict(help="language -> key -> text").tag(sync=True)
    answer = traitlets.Dict(
        help="taken (what the words were taken for), other (as_new, as_change), undo, redo, "
        "absent (who did not come out)"
    ).tag(sync=True)
    offers: traitlets.List[Any] = traitlets.List(
        help="sentences that may have been meant: with a name of a subject, or as first heard"
    ).tag(sync=True)
    complaint = traitlets.Unicode("", help="what went wrong, in words").tag(sync=True)
    subjects: traitlets.List[Any] = traitlets.List(help="names that can be spoken").tag(sync=True)
    models: traitlets.List[Any] = traitlets.List(help="models and runs to choose from").tag(
        sync=True
    )
    languages = traitlets.Dict(help="code -> name").tag(sync=True)
    settings = traitlets.Dict(help="what the controls say").tag(sync=True)
    heard = traitlets.Dict(help="text, language, code, english, doubts").tag(sync=True)
    prompt = traitlets.Dict(help="text, negative, marks (start, end), notes").tag(sync=True)
    pictures: traitlets.List[Any] = traitlets.List(
        help="those that are shown: id, said, alt, told (alt in parts of one language), seed, "
        "is_kept, thumb"
    ).tag(sync=True)
    held = traitlets.Dict(help="id of the picture whose figure is shown").tag(sync=True)
    strip: traitlets.List[Any] = traitlets.List(help="all of this session, the newest first").tag(
        sync=True
    )
    earlier: traitlets.List[Any] = traitlets.List(help="the last on the Drive, before it").tag(
        sync=True
    )
    rules = traitlets.Unicode("", help="what classroom mode does, in words").tag(sync=True)
    max_s = traitlets.Float(60.0, help="longest recording, in seconds").tag(sync=True)

    def __init__(self, talk: Conversation, **traits: Any) -> None:
        self._talk, self._shown = talk, Album(talk)
        self._prompt: Prompt | None = None  # the one in the page's box, as it was before any edit
        self._own_negative: str | None = None  # of the model whose words the field shows
        self._previewed_at = 0.0
        super().__init__(**traits)

    def _say(self, *messages: tuple[str, dict[str, str]]) -> None:
        with self.hold_sync():
            self.messages = [list(message) for message in messages]
            self.status = in_english(*messages)

    def _show(self, state: str, *messages: tuple[str, dict[str, str]]) -> None:
        with self.hold_sync():
            self.state = state
            self._say(*messages)
            if state != "error":
                self.complaint = ""

    # ---- Where the conversation is ----

    def _show_answer(self, answer: Answer) -> None:
        turn, talk = answer.turn, self._talk
        absent = turn.wish.absent if turn else None
        with self.hold_sync():
            self._show_own_prompt(turn)
            self._show_pictures()
            other = {"": "", AS_NEW: "as_new"}.get(answer.other, "as_change")
            # What was obeyed, not drawn, is said as the status.
            is_news = answer.is_drawn and (other or answer.kind != WISH)
            self.answer = {
                "taken": answer.taken if is_news else "",
                "other": other,
                "undo": talk.history.can_undo,
                "redo": talk.history.can_redo,
                "absent": absent.name if absent else "",
            }

    def _show_own_prompt(self, turn: Turn | None) -> None:
        """Show the prompt of the pictures that are there, and what is noted of them."""
        if turn is None:
            self.prompt, self._prompt = {}, None
            return
        absent = turn.wish.absent
        asked_again = say_absent(absent) if absent else ""  # a button says it
        notes = [note for note in turn.wish.notes if note != asked_again]
        self._show_prompt(turn.wish.prompt, notes)

    def _show_pictures(self) -> None:
        self.pictures, self.strip = self._shown.shown(), self._shown.strip()
        there = {entry["id"] for entry in (*self.strip, *self.earlier)}
        if self.held and self.held["id"] not in there:
            self.held = {}

    def _tell_in(self, language: str) -> None:
        """Tell pictures in the language of the page, to who cannot see them."""
        if language == self._shown.language:
            return
        self._shown.language = language
        with self.hold_sync():
            self.strip, self.earlier = self._shown.strip(), self._shown.earlier()
            there = {entry["id"]: entry for entry in self._shown.shown()}
            self.pictures = [there.get(entry["id"], entry) for entry in self.pictures]

    def _show_what_is_left(self) -> None:
        """Show again what belongs to the pictures that are there, not what was given up."""
        if self._talk.answer is not None:
            self._show_answer(self._talk.answer)
        else:
            self._show_own_prompt(None)
            self.answer = {}

    # ---- A wish on its way ----

    def _show_heard(self, transcript: Transcript) -> None:
        self.heard = {
            "text": transcript.text,
            "language": self.languages.get(transcript.language, transcript.language),
            "code": transcript.language,
            "english": transcript.english if transcript.language != "en" else "",
            "doubts": list(transcript.doubts),
        }

    def _show_live(self, event: LiveEvent) -> None:
        """Show what is heard, and drawn, while somebody speaks."""
        if isinstance(event, Partial):
            self.send({"type": "partial", "firm": event.firm, "loose": event.loose})
        elif isinstance(event, Draft):
            data = encode_marked(event.image, "JPEG", Mark(), quality=85)
            self.send({"type": "draft", "prompt": event.prompt}, buffers=[data])

    def _show_step(self, event: Drawing) -> None:
        """Send a rough picture now and then, and the last one always."""
        step, now = event.step, time.monotonic()
        if now - self._previewed_at < PREVIEW_EVERY_S and step.number < step.total:
            return
        self._previewed_at = now
        mark = mark_of_model(event.model)
        self.send(
            {"type": "step", "number": step.number, "total": step.total},
            buffers=[encode_marked(event.preview(), "JPEG", mark, quality=80)],
        )

    def _show_prompt(self, prompt: Prompt, notes: Sequence[str] = ()) -> None:
        self._prompt = prompt
        self.prompt = {
            "text": prompt.text,
            "negative": prompt.negative,
            "marks": [list(mark) for mark in prompt.marks],
            "notes": list(notes),
        }

    # ---- Controls ----

    def _set(self, name: str, value: Any) -> None:
        """Change what one control says, whatever the others have come to say meanwhile."""
        if name in DEFAULTS:
            with self.hold_sync():
                self.settings = {**self.settings, name: value}

    def _offer_negative(self, own: str) -> None:
        """Put a model's own negative prompt into the field, unless the user has changed it."""
        said = self.settings["negative"]
        if said in (None, self._own_negative) and said != own:
            self._set("negative", own)
        if said in (None, self._own_negative):
            self._own_negative = own
