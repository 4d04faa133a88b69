"""A conversation about one picture: wishes, changes by voice, undo, and everything that came of it.

Each sentence is taken for a new wish or for a change of the last picture (`speech.changes`), and
the answer says for which; ``otherwise`` takes it the other way. A change is drawn from the same
noise with the changed prompt, and what it does not speak of is kept (`drawing.keeping`). Every
picture becomes a turn, and no turn is ever taken out: undo, redo and going back only move the place
where the next change begins, and what was deleted comes back with undo. Each picture's record holds
what was said from the first wish on, so `redo` makes each step again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from s2i_lib.conversation.history import History
from s2i_lib.conversation.reading import (
    change_prompt,
    changed,
    english_of,
    find_what_stays,
    read,
    say_who_became_any,
)
from s2i_lib.conversation.turns import AS_CHANGE, AS_NEW, WISH, Answer, Turn, Unfinished
from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.drawing.gallery import save
from s2i_lib.drawing.records import Chain, Picture, prompt_of
from s2i_lib.drawing.sampling import SEEDS, DrawOptions
from s2i_lib.errors import InputError
from s2i_lib.pipeline import Cancelled, SpeechToImage, Taken, Wish
from s2i_lib.speech.commands import COMMANDS, NEW_WISH, Change
from s2i_lib.speech.prompt import Prompt, make_prompt
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.files import make_folder

if TYPE_CHECKING:
    from s2i_lib.pipeline import Recording


class Conversation:
    """Hears or reads one sentence after another, and draws what is wished or changed.

    Whatever is set on ``speech`` (options, run, callback, classroom, folder) counts from the next
    sentence on. An error leaves everything as it was.

    Parameters
    ----------
    speech : SpeechToImage
        Hears, draws and saves.

    Examples
    --------
    >>> talk = Conversation(SpeechToImage(model="pocket"))
    >>> talk.say("a red car").turn.wish.pictures[0].image
    >>> talk.say("make it blue").taken
    'Taken as a change: “blue” in place of “red”.'
    >>> talk.say("undo").turn.said
    'a red car'
    >>> talk("on_a_beach.wav")  # a recording
    """

    def __init__(self, speech: SpeechToImage) -> None:
        self.speech = speech
        self.history = History()
        self.turns = self.history.turns
        """Everything that was drawn, the oldest first, deleted ones too."""
        self.answer: Answer | None = None
        """Last answer; what `otherwise` takes the other way."""
        self._before = self.history.snapshot()  # the last sentence
        self.unfinished: Unfinished | None = None
        """Wish that was given up while it was drawn; a change that comes then is one of it."""

    @property
    def position(self) -> int | None:
        """Number of the turn that is shown and that the next change begins from."""
        return self.history.state.position

    @property
    def turn(self) -> Turn | None:
        """Turn that is shown; None at the beginning."""
        return self.history.turn

    # ---- What is said ----

    def __call__(self, recording: Recording, as_new: bool | None = None) -> Answer:
        """Hear a recording, and do what was said."""
        before = dict(self.speech.seconds)
        self.speech.start_wish()
        return self.take(self.speech.hear(recording), recording, as_new, before=before)

    def take(
        self,
        transcript: Transcript,
        recording: Recording,
        as_new: bool | None = None,
        *,
        before: dict[str, float] | None = None,
    ) -> Answer:
        """Do what was heard in a recording; ``before``: the pipeline's seconds before that."""
        notes = self.speech.keep_recording(recording, transcript)
        return self._take(transcript, as_new, notes, recording, before or dict(self.speech.seconds))

    def foresee(self, transcript: Transcript) -> tuple[Prompt, int | None]:
        """Return the prompt and the seed (None: a fresh one) that words would be drawn with.

        Raises
        ------
        InputError
            When nothing would be drawn.
        """
        last = self._last_prompt
        change = read(self.speech, transcript.english, last)
        if change is None:
            return self.speech.prompt(transcript), None
        if change.kind in COMMANDS:
            raise InputError(f"{transcript.text!r} draws nothing.")
        assert last is not None
        prompt = change_prompt(self.speech, last, change, transcript)
        seed = self.turn.wish.options.seed if self.turn and not self.unfinished else None
        return prompt, seed

    def draw(self, prompt: Prompt) -> Answer:
        """Draw a prompt as it is, as a new wish."""
        self._before, before = self.history.snapshot(), dict(self.speech.seconds)
        with self._remember_if_given_up(prompt.text, lambda: prompt):
            wish = self.speech.draw(prompt, chain=Chain(prompt.text, WISH))
        return self._append(wish, prompt.text, (WISH, NEW_WISH, None, ""), before)

    def say(self, words: str | Transcript, as_new: bool | None = None) -> Answer:
        """Do what typed words, or a transcript, say.

        Parameters
        ----------
        words : a wish, a change ("make it blue"), or a command ("undo", "keep this one")
        as_new : True draws them as a new wish, False changes the last picture by them; None: as
            they are understood

        Raises
        ------
        InputError
            When they cannot be drawn, or there is nothing that they could change.
        """
        if not english_of(words).strip():
            raise InputError(EMPTY_PROMPT)
        return self._take(words, as_new, (), None, dict(self.speech.seconds))

    def otherwise(self) -> Answer:
        """Take the last sentence the other way: as a new wish in place of a change, or back.

        Raises
        ------
        InputError
            When there is no sentence that has another meaning.
        """
        answer = self.answer
        if answer is None or not answer.other:
            raise InputError(
                "The last sentence has no other meaning. Say or type what you want to see."
            )
        after = self.history.snapshot()
        self.history.restore(self._before)
        try:
            new = self.say(answer.words, as_new=answer.other == AS_NEW)
        except BaseException:
            self.history.restore(after)
            self.answer = answer
            raise
        if new.turn and answer.turn and answer.is_drawn:
            self.history.amend(new.turn.number, recording=answer.turn.wish.recording)
            self.answer = new = replace(new, turn=self.turn)
        return new

    def _take(
        self,
        words: str | Transcript,
        as_new: bool | None,
        notes: Sequence[str],
        recording: Recording | None,
        before: dict[str, float],
    ) -> Answer:
        self._before = self.history.snapshot()
        english, last = english_of(words), self._last_prompt
        change = None if as_new else read(self.speech, english, last, is_forced=as_new is False)
        said = words.text if isinstance(words, Transcript) else words.strip()
        if change is not None and change.kind in COMMANDS and change.kind != "again":
            answer = self._obey(change)
            self.answer = replace(answer, said=said, words=words, other=AS_NEW)
            return self.answer
        meaning: tuple[str, str, int | None, str]
        if change is None:
            meaning = WISH, NEW_WISH, None, AS_CHANGE if self.turn else ""
        elif self.unfinished:
            said = f"{self.unfinished.said}; {said}"
            meaning = WISH, change.taken, None, AS_NEW
        else:
            meaning = change.kind, change.taken, self.position, AS_NEW
        with self._remember_if_given_up(said, lambda: self._prompt_of(words, change, last)):
            self.speech.callback(Taken(meaning[1]))
            if change is None:
                wish = self.speech.say(words, notes=notes, chain=Chain(english, WISH))
            else:
                wish = self._draw_change(change, words, notes)
        answer = self._append(replace(wish, recording=recording), said, meaning, before)
        self.answer = replace(answer, words=words)
        return self.answer

    @contextmanager
    def _remember_if_given_up(self, said: str, prompt: Callable[[], Prompt]) -> Iterator[None]:
        try:
            yield
        except Cancelled:
            self.unfinished = Unfinished(said, prompt())
            raise

    def _prompt_of(
        self, words: str | Transcript, change: Change | None, last: Prompt | None
    ) -> Prompt:
        """Return what words ask for, however long; no model is waited for."""
        if change is None or last is None:
            return make_prompt(words, self.speech.subjects, chosen=self.speech.chosen)
        return changed(self.speech, last, change, words)

    def adopt(self, picture: Picture, path: Path) -> Answer:
        """Go on from a picture that was drawn before this conversation.

        Raises
        ------
        LookupError, TypeError, ValueError
            When its record does not say how it was drawn.
        """
        record = picture.record
        options = DrawOptions(
            steps=record["steps"], guidance_scale=record["guidance_scale"], seed=record["seed"]
        )
        wish = Wish(prompt_of(record), options, pictures=(picture,), paths=(path,))
        said = wish.transcript.text if wish.transcript else wish.prompt.text
        self._before = self.history.snapshot()
        return self._append(wish, said, (WISH, NEW_WISH, None, ""), dict(self.speech.seconds))

    def _append(
        self,
        wish: Wish,
        said: str,
        meaning: tuple[str, str, int | None, str],
        before: dict[str, float],
    ) -> Answer:
        """Make a turn of a wish: its kind, what it was taken for, its parent, the other reading."""
        kind, taken, parent, other = meaning
        took = {name: total - before.get(name, 0.0) for name, total in self.speech.seconds.items()}
        seconds = {name: second for name, second in took.items() if second > 0}
        wish = replace(wish, seconds=seconds)
        self.history.append(Turn(len(self.turns), said, kind, taken, wish, parent))
        return self._show(Answer(said, kind, taken, self.turn, other, said, is_drawn=True))

    def _draw_change(self, change: Change, words: str | Transcript, notes: Sequence[str]) -> Wish:
        """Draw the changed prompt from the same noise; "again" the same from another.

        Of a wish that was given up there is no noise: the changed prompt is drawn as a wish.
        """
        speech, last = self.speech, self._last_prompt
        assert last is not None
        english, wanted = english_of(words), changed(speech, last, change, words)
        taken = speech.take_run_of(wanted.by_looks)
        became = say_who_became_any(speech, words, wanted)
        # Whose run it is, is news only where somebody was named.
        notes = [*notes, *(taken if wanted.subjects != last.subjects else ()), *became]
        prompt = change_prompt(speech, last, change, words)
        if self.unfinished:
            chain = Chain(f"{self.unfinished.said}; {english}", WISH)
            return speech.draw(prompt, notes=notes, chain=chain)
        turn = self.turn
        assert turn is not None, "there is a last prompt"
        seed = turn.wish.options.seed
        if change.kind == "again":
            after = [(one.wish.options.seed or 0) + one.wish.options.count for one in self.turns]
            seed = max(after) % SEEDS
        options = replace(speech.options, seed=seed)
        stays = find_what_stays(change, turn.wish.prompt.text)
        chain = Chain(english, change.kind, turn.wish.pictures, stays)
        return speech.draw(prompt, options=options, notes=notes, chain=chain)

    def _show(self, answer: Answer) -> Answer:
        """Remember an answer, and what is drawn again by `SpeechToImage.again` from now on."""
        self.answer, self.unfinished = answer, None
        self.speech.last = answer.turn.wish if answer.turn else None
        return answer

    # ---- What is pressed, or said as a command ----

    def undo(self) -> Answer:
        """Go back to how it was before the last wish, change, deletion or jump.

        Where one was given up while it was drawn, that was the last: nothing else is undone.
        """
        if self.unfinished:
            return self._tell("undo", f"Given up. Back at {self._where()}.")
        self.history.undo()
        return self._tell("undo", f"One step back, to {self._where()}.")

    def redo(self) -> Answer:
        """Do again what was undone last."""
        self.history.redo()
        return self._tell("redo", f"One step forward, to {self._where()}.")

    def go_to(self, number: int) -> Answer:
        """Show a turn again, to go on from there."""
        left = self.history.left
        if number not in left:
            there = {0: "is none", 1: "is one"}.get(len(left), f"are {len(left)}")
            raise InputError(
                f"There is no picture number {number + 1} to go to: so far there {there}."
            )
        self.history.show(number)
        return self._tell("go_to", f"Back to {self._where()}.")

    def keep(self, number: int | None = None, picture: int | None = None) -> Answer:
        """Save a turn's pictures where they are not saved yet.

        Parameters
        ----------
        number : of the turn; None: the one that is shown
        picture : its place in the turn; None: all of them

        Raises
        ------
        InputError
            When there is no picture.
        S2iError
            When the disk does not take it.
        """
        turn = self._pick(number, "keep")
        speech, paths = self.speech, [*turn.wish.paths]
        folder = speech.folder or speech.drive.creations
        there = [i for i in turn.places if not self.history.is_deleted(turn.number, i)]
        unsaved = [i for i in there if paths[i] is None and picture in (None, i)]
        for i in unsaved:
            paths[i] = save(
                turn.wish.pictures[i], make_folder(folder), speech.mark, root=speech.drive.root
            )
            self.history.amend(turn.number, paths=tuple(paths))
        said = f"Kept: {turn.name}." if unsaved else f"Kept already: {turn.name}."
        return self._tell("keep", said)

    def delete(self, number: int | None = None, picture: int | None = None) -> Answer:
        """Delete a turn's pictures, files and all; `undo` brings them back.

        Parameters
        ----------
        number : of the turn; None: the one that is shown
        picture : its place in the turn; None: all of them

        Raises
        ------
        InputError
            When there is no such picture.
        """
        turn = self._pick(number, "delete")
        self.history.delete(turn, picture)
        return self._tell("delete", f"Deleted: {turn.name}. Undo brings it back.")

    def start_over(self) -> Answer:
        """Begin again with nothing; `undo`, or a picture of the strip, leads back."""
        self.history.show(None)
        return self._tell("start_over", "A new beginning. The pictures so far are still there.")

    def _obey(self, change: Change) -> Answer:
        """Do what a command says."""
        if change.kind == "go_to":
            left = self.history.left
            assert change.number is not None
            at = change.number - 1 if change.number >= 0 else max(len(left) - 1, 0)
            return self.go_to(left[at] if 0 <= at < len(left) else at)
        do: Callable[[], Answer] = getattr(self, change.kind)
        return do()

    def _pick(self, number: int | None, verb: str) -> Turn:
        number = self.position if number is None else number
        if number is None or number not in self.history.left:
            raise InputError(
                f"There is no picture here to {verb}. Say or type what you want to see."
            )
        return self.turns[number]

    def _tell(self, kind: str, taken: str) -> Answer:
        return self._show(Answer("", kind, taken, self.turn))

    @property
    def _last_prompt(self) -> Prompt | None:
        if self.unfinished:
            return self.unfinished.prompt
        return self.turn.wish.prompt if self.turn else None

    def _where(self) -> str:
        return self.turn.name if self.turn else "the beginning"
