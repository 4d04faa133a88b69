"""The turns of a conversation, and the way among them: undo, redo, jumps, deletions.

No turn is ever taken out. A state is the turn that is shown and the pictures that are deleted; a
move goes to another state, undo and redo go along the states that there were, and the files on the
disk follow the state: what was deleted comes back with undo.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from s2i_lib.conversation.turns import Turn
from s2i_lib.errors import InputError
from s2i_lib.storage.files import files_beside, write_file
from s2i_lib.storage.removal import remove


@dataclass(frozen=True)
class State:
    """Where one is."""

    position: int | None = None
    """Number of the turn that is shown; None at the beginning."""
    deleted: frozenset[tuple[int, int]] = frozenset()
    """Pictures that are deleted: the turn's number, and the place in it."""


Snapshot: TypeAlias = tuple[State, list[State], list[State]]
"""A state, with those that undo and redo lead to."""


class History:
    """Turns in the order in which they were drawn, and which of them is shown."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.state = State()
        self._past: list[State] = []
        self._future: list[State] = []
        self._removed: dict[tuple[int, int], dict[Path, bytes]] = {}

    @property
    def turn(self) -> Turn | None:
        """Turn that is shown; None at the beginning."""
        position = self.state.position
        return None if position is None else self.turns[position]

    @property
    def can_undo(self) -> bool:
        """Whether `undo` has anywhere to go."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether `redo` has anywhere to go."""
        return bool(self._future)

    @property
    def left(self) -> list[int]:
        """Numbers of the turns that are not deleted."""
        return [turn.number for turn in self.turns if not self.is_deleted(turn.number)]

    def is_deleted(self, number: int, picture: int | None = None) -> bool:
        """Return whether a picture of a turn, or all of them, were deleted."""
        places = self.turns[number].places if picture is None else [picture]
        return all((number, place) in self.state.deleted for place in places)

    def append(self, turn: Turn) -> None:
        """Add a turn, and show it."""
        self.turns.append(turn)
        self.show(turn.number)

    def amend(self, number: int, **changes: Any) -> None:
        """Change fields of a turn's wish: its files, or its recording."""
        turn = self.turns[number]
        self.turns[number] = replace(turn, wish=replace(turn.wish, **changes))

    # ---- Moves ----

    def undo(self) -> None:
        """Go back to the state before the last move.

        Raises
        ------
        InputError
            When there is none.
        """
        if not self._past:
            raise InputError(
                "There is nothing to undo: this is the beginning. Say or type what you want to see."
            )
        self._go_along(self._past, self._future)

    def redo(self) -> None:
        """Do again what was undone last.

        Raises
        ------
        InputError
            When nothing was undone since the last move.
        """
        if not self._future:
            raise InputError("There is nothing to redo: nothing was undone since the last change.")
        self._go_along(self._future, self._past)

    def show(self, number: int | None) -> None:
        """Show another turn, or none."""
        if number != self.state.position:
            self._move(replace(self.state, position=number))

    def delete(self, turn: Turn, picture: int | None = None) -> None:
        """Delete a picture of a turn, or all; where none is left, show the turn before."""
        places = turn.places if picture is None else [picture]
        gone = self.state.deleted | {(turn.number, place) for place in places}
        position = self.state.position
        if position == turn.number and all((turn.number, i) in gone for i in turn.places):
            position = max((number for number in self.left if number < position), default=None)
        self._move(State(position, gone))

    # ---- States ----

    def snapshot(self) -> Snapshot:
        """Return where one is, for `restore`."""
        return self.state, [*self._past], [*self._future]

    def restore(self, then: Snapshot) -> None:
        """Be again where one was, as if nothing had been done since."""
        self._set(then[0])
        self._past, self._future = [*then[1]], [*then[2]]

    def _move(self, state: State) -> None:
        """Go to a new state, from which `undo` leads back to this one."""
        now = self.state
        self._set(state)
        self._past.append(now)
        self._future.clear()

    def _go_along(self, states: list[State], behind: list[State]) -> None:
        """Take the last of some states; this one goes to the others."""
        now = self.state
        self._set(states[-1])
        states.pop()
        behind.append(now)

    def _set(self, state: State) -> None:
        """Take a state, and have on the disk what it says."""
        for key in state.deleted - self.state.deleted:
            self._remove_files(*key)
        for key in self.state.deleted - state.deleted:
            for path, data in self._removed.get(key, {}).items():
                write_file(path, data)
            self._removed.pop(key, None)  # not before: the disk may be full
        self.state = state

    def _remove_files(self, number: int, place: int) -> None:
        path = self.turns[number].wish.paths[place]
        there = files_beside(path) if path else []
        saved = self._removed.setdefault((number, place), {})  # some, where the last try failed
        saved.update((file, file.read_bytes()) for file in there)
        for file in there:
            remove(file)
