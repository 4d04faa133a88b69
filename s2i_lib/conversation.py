"""A conversation about one picture: wishes, changes by voice, undo, and everything that came of it.

Each sentence is taken for a new wish or for a change of the last picture (`speech.changes`), and
the answer says for which; ``otherwise`` takes it the other way. A change is drawn from the same
noise with the changed prompt, so that the rest stays. Every picture becomes a turn, and no turn is
ever taken out: undo, redo and going back only move the place where the next change begins, and what
was deleted comes back with undo until it is emptied. Each picture's record holds what was said from
the first wish on, so `redo` makes each step again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.drawing.gallery import Section, save
from s2i_lib.drawing.records import Chain, Picture, prompt_of
from s2i_lib.drawing.sampling import SEEDS, DrawOptions
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject
from s2i_lib.pipeline import SpeechToImage, Taken, Wish
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.commands import COMMANDS, NEW_WISH, Change
from s2i_lib.speech.name_matching import find_names
from s2i_lib.speech.prompt import Prompt, fit, replace_names
from s2i_lib.speech.transcript import Transcript
from s2i_lib.storage.files import make_folder, remove, write_file
from s2i_lib.storage.layout import composed

if TYPE_CHECKING:
    from s2i_lib.pipeline import Recording

WISH = "wish"
"""Kind of a sentence that is a new wish; all others are those of `Change`."""
AS_NEW, AS_CHANGE = "Take it as a new wish", "Change the last picture instead"
"""Labels for what `Conversation.otherwise` does."""


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


@dataclass(frozen=True)
class _State:
    position: int | None = None
    deleted: frozenset[tuple[int, int]] = frozenset()


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
        self.turns: list[Turn] = []
        """Everything that was drawn, the oldest first, deleted ones too."""
        self.answer: Answer | None = None
        """Last answer; what `otherwise` takes the other way."""
        self._state = _State()
        self._past: list[_State] = []
        self._future: list[_State] = []
        self._before = self._snapshot()  # the last sentence
        self._removed: dict[tuple[int, int], dict[Path, bytes]] = {}

    @property
    def position(self) -> int | None:
        """Number of the turn that is shown and that the next change begins from."""
        return self._state.position

    @property
    def turn(self) -> Turn | None:
        """Turn that is shown; None at the beginning."""
        return None if self.position is None else self.turns[self.position]

    @property
    def can_undo(self) -> bool:
        """Whether `undo` has anywhere to go."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether `redo` has anywhere to go."""
        return bool(self._future)

    def is_deleted(self, number: int, picture: int | None = None) -> bool:
        """Return whether a picture of a turn, or all of them, were deleted."""
        places = _places(self.turns[number]) if picture is None else [picture]
        return all((number, place) in self._state.deleted for place in places)

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
        change = self._read(transcript.english, is_forced=False)
        if change is None:
            return self.speech.prompt(transcript), None
        if change.kind in COMMANDS:
            raise InputError(f"{transcript.text!r} draws nothing.")
        assert self.turn is not None
        return self._changed_prompt(change, transcript), self.turn.wish.options.seed

    def draw(self, prompt: Prompt) -> Answer:
        """Draw a prompt as it is, as a new wish."""
        self._before, before = self._snapshot(), dict(self.speech.seconds)
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
        if not (words if isinstance(words, str) else words.english).strip():
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
        after = self._snapshot()
        self._restore(self._before)
        try:
            new = self.say(answer.words, as_new=answer.kind != WISH)
        except BaseException:
            self._restore(after)
            self.answer = answer
            raise
        if new.turn and answer.turn and answer.is_drawn:
            self.amend(new.turn.number, recording=answer.turn.wish.recording)
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
        self._before = self._snapshot()
        english = words.english if isinstance(words, Transcript) else words
        change = None if as_new else self._read(english, is_forced=as_new is False)
        said = words.text if isinstance(words, Transcript) else words.strip()
        if change is not None and change.kind in COMMANDS and change.kind != "again":
            answer = self._obey(change)
            self.answer = replace(answer, said=said, words=words, other=AS_NEW)
            return self.answer
        self.speech.callback(Taken(change.taken if change else NEW_WISH))
        if change is None:
            wish = self.speech.say(words, notes=notes, chain=Chain(english, WISH))
            kind, taken, parent = WISH, NEW_WISH, None
            other = AS_CHANGE if self.turn else ""
        else:
            wish = self._draw_change(change, words, notes)
            kind, taken, parent, other = change.kind, change.taken, self.position, AS_NEW
        answer = self._append(
            replace(wish, recording=recording), said, (kind, taken, parent, other), before
        )
        self.answer = replace(answer, words=words)
        return self.answer

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
        self._before = self._snapshot()
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
        self.turns.append(Turn(len(self.turns), said, kind, taken, wish, parent))
        self._move(replace(self._state, position=len(self.turns) - 1))
        self.answer = Answer(said, kind, taken, self.turn, other, said, is_drawn=True)
        return self.answer

    def _read(self, english: str, *, is_forced: bool) -> Change | None:
        """Read a sentence, names and all, against the picture that is shown."""
        last = self.turn.wish.prompt if self.turn else Prompt("a picture")
        subjects = self.speech.subjects
        chosen = self.speech.taught
        sentence = _name_subjects(english, subjects, chosen)
        change = read_change(sentence, last.text, subjects, is_forced=is_forced)
        own = next((s for s in last.subjects if s.phrase in last.text), None)
        if change and own and chosen is None and _count_identifiers(change.text, subjects) > 1:
            # One picture knows one subject by looks: the one that is there.
            sentence = _name_subjects(english, subjects, own)
            change = read_change(sentence, last.text, subjects, is_forced=is_forced)
        if change is None or self.turn is not None:
            return change
        if change.kind in COMMANDS and change.kind != "again":
            return change
        if change.is_explicit or change.kind == "again":
            raise InputError(
                f"There is no picture yet that “{english.strip()}” could change. Say first what "
                "you want to see, for instance: a red car on a yellow background."
            )
        return None  # "on a beach" alone is a wish, too

    def _draw_change(self, change: Change, words: str | Transcript, notes: Sequence[str]) -> Wish:
        """Draw the changed prompt from the same noise; "again" the same from another."""
        turn, speech = self.turn, self.speech
        assert turn is not None
        english = words.english if isinstance(words, Transcript) else words
        if find_names(english, speech.subjects):
            notes = [*notes, *speech.take_run(words)]
        prompt = self._changed_prompt(change, words)
        seed = turn.wish.options.seed
        if change.kind == "again":
            after = [(one.wish.options.seed or 0) + one.wish.options.count for one in self.turns]
            seed = max(after) % SEEDS
        options = replace(speech.options, seed=seed)
        chain = Chain(english, change.kind, turn.wish.pictures)
        return speech.draw(prompt, options=options, notes=notes, chain=chain)

    def _changed_prompt(self, change: Change, words: str | Transcript) -> Prompt:
        turn, speech = self.turn, self.speech
        assert turn is not None
        last = turn.wish.prompt
        english = words.english if isinstance(words, Transcript) else words
        named = find_names(english, speech.subjects)
        text = change.text or last.text
        with speech.use_model() as model:
            text, more = fit(text, model.count_tokens, model.base.token_limit)
        known = dict.fromkeys([*(mention.subject for mention in named), *last.subjects])
        there = [subject for subject in known if subject.phrase in text]
        return Prompt(
            text,
            subjects=(*there, *(subject for subject in known if subject not in there)),
            transcript=words if isinstance(words, Transcript) else None,
            notes=tuple(more),
        )

    # ---- What is pressed, or said as a command ----

    def undo(self) -> Answer:
        """Go back to how it was before the last wish, change, deletion or jump."""
        if not self._past:
            raise InputError(
                "There is nothing to undo: this is the beginning. Say or type what you want to see."
            )
        now = self._state
        self._set(self._past[-1])
        self._past.pop()
        self._future.append(now)
        return self._tell("undo", f"One step back, to {self._where()}.")

    def redo(self) -> Answer:
        """Do again what was undone last."""
        if not self._future:
            raise InputError("There is nothing to redo: nothing was undone since the last change.")
        now = self._state
        self._set(self._future[-1])
        self._future.pop()
        self._past.append(now)
        return self._tell("redo", f"One step forward, to {self._where()}.")

    def go_to(self, number: int) -> Answer:
        """Show a turn again, to go on from there."""
        if number not in range(len(self.turns)) or self.is_deleted(number):
            there = [turn.number for turn in self.turns if not self.is_deleted(turn.number)]
            raise InputError(
                f"There is no picture number {number + 1} to go to: so far there "
                f"{'is one' if len(there) == 1 else f'are {len(there)}'}."
            )
        if number != self.position:
            self._move(replace(self._state, position=number))
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
        unsaved = [i for i, path in enumerate(paths) if path is None and picture in (None, i)]
        for i in unsaved:
            paths[i] = save(
                turn.wish.pictures[i], make_folder(folder), speech.mark, root=speech.drive.root
            )
            self.amend(turn.number, paths=tuple(paths))
        said = f"Kept: {self._name(turn)}." if unsaved else f"Kept already: {self._name(turn)}."
        return self._tell("keep", said)

    def delete(self, number: int | None = None, picture: int | None = None) -> Answer:
        """Delete a turn's pictures, files and all; `undo` brings them back until `empty`.

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
        places = _places(turn) if picture is None else [picture]
        gone = self._state.deleted | {(turn.number, place) for place in places}
        position = self.position
        if position == turn.number and all((turn.number, i) in gone for i in _places(turn)):
            left = [t.number for t in self.turns[:position] if not self.is_deleted(t.number)]
            position = left[-1] if left else None
        self._move(_State(position, gone))
        return self._tell("delete", f"Deleted: {self._name(turn)}. Undo brings it back.")

    def start_over(self) -> Answer:
        """Begin again with nothing; `undo`, or a picture of the strip, leads back."""
        if self.position is not None:
            self._move(replace(self._state, position=None))
        return self._tell("start_over", "A new beginning. The pictures so far are still there.")

    def empty(self) -> int:
        """Forget what was deleted for good; return how many pictures those were."""
        gone = self._state.deleted
        for number in {number for number, _ in gone if self.is_deleted(number)}:
            self.amend(number, pictures=(), paths=())

        def lasting(states: list[_State]) -> list[_State]:
            kept = [replace(state, deleted=state.deleted | gone) for state in states]
            return [s for s in kept if s.position is None or not self.is_deleted(s.position)]

        self._past, self._future = lasting(self._past), lasting(self._future)
        n_emptied = len(self._removed)
        self._removed.clear()
        self.answer = None
        return n_emptied

    def _obey(self, change: Change) -> Answer:
        """Do what a command says."""
        if change.kind == "go_to":
            there = [turn.number for turn in self.turns if not self.is_deleted(turn.number)]
            assert change.number is not None
            at = change.number - 1 if change.number > 0 else len(there) - 1
            return self.go_to(there[at] if 0 <= at < len(there) else change.number - 1)
        do: Callable[[], Answer] = getattr(self, change.kind)
        return do()

    def _pick(self, number: int | None, verb: str) -> Turn:
        number = self.position if number is None else number
        if number is None or number not in range(len(self.turns)) or self.is_deleted(number):
            raise InputError(
                f"There is no picture here to {verb}. Say or type what you want to see."
            )
        return self.turns[number]

    def amend(self, number: int, **changes: Any) -> None:
        """Change fields of a turn's wish: its files, or its recording."""
        turn = self.turns[number]
        self.turns[number] = replace(turn, wish=replace(turn.wish, **changes))

    def _tell(self, kind: str, taken: str) -> Answer:
        self.answer = Answer("", kind, taken, self.turn)
        return self.answer

    def _where(self) -> str:
        return self._name(self.turn) if self.turn else "the beginning"

    def _name(self, turn: Turn) -> str:
        return f"“{turn.wish.prompt.text}”"

    # ---- Where one is ----

    def _snapshot(self) -> tuple[_State, list[_State], list[_State]]:
        return self._state, [*self._past], [*self._future]

    def _restore(self, then: tuple[_State, list[_State], list[_State]]) -> None:
        self._set(then[0])
        self._past, self._future = [*then[1]], [*then[2]]

    def _move(self, state: _State) -> None:
        """Go to a new state, from which `undo` leads back to this one."""
        now = self._state
        self._set(state)
        self._past.append(now)
        self._future.clear()

    def _set(self, state: _State) -> None:
        """Take a state, and have on the disk what it says."""
        for key in state.deleted - self._state.deleted:
            self._remove_files(*key)
        for key in self._state.deleted - state.deleted:
            for path, data in self._removed.pop(key, {}).items():
                write_file(path, data)
        self._state = state
        self.speech.last = self.turn.wish if self.turn else None

    def _remove_files(self, number: int, place: int) -> None:
        path = self.turns[number].wish.paths[place]
        files = [path, path.with_suffix(".json")] if path else []
        there = [file for file in files if file.exists()]
        self._removed[number, place] = {file: file.read_bytes() for file in there}
        for file in there:
            remove(file)


def _places(turn: Turn) -> range:
    return range(len(turn.wish.pictures))


def _name_subjects(english: str, subjects: Sequence[Subject], chosen: Subject | None) -> str:
    words = composed(english)
    return replace_names(words, find_names(words, subjects), chosen)[0]


def _count_identifiers(text: str, subjects: Sequence[Subject]) -> int:
    return sum(subject.phrase in text for subject in subjects)
