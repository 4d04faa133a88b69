"""Undo, redo, jumps and deletions, and the files that follow them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from s2i_lib.conversation.history import History
from s2i_lib.conversation.turns import WISH, Turn
from s2i_lib.drawing.records import Picture
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.pipeline import Wish
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.removal import remove

PICTURE = Picture(Image.new("RGB", (8, 8)), {"seed": 1})


def make_turn(number: int, folder=None, count: int = 1) -> Turn:
    paths = [folder and folder / f"{number}-{i}.png" for i in range(count)]
    for path in filter(None, paths):
        path.write_bytes(f"picture {number}".encode())
        path.with_suffix(".json").write_bytes(b"{}")
    wish = Wish(Prompt("a car"), DrawOptions(), pictures=(PICTURE,) * count, paths=tuple(paths))
    return Turn(number, "a car", WISH, "", wish, None)


def made(n_turns: int, folder=None, count: int = 1) -> History:
    history = History()
    for number in range(n_turns):
        history.append(make_turn(number, folder, count))
    return history


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_undo_goes_back_to_the_beginning_and_redo_to_the_end():
    history = made(3)
    seen = []
    while history.can_undo:
        history.undo()
        seen.append(history.turn and history.turn.number)
    assert seen == [1, 0, None]
    with pytest.raises(InputError, match="nothing to undo"):
        history.undo()
    for _ in range(3):
        history.redo()
    assert history.turn.number == 2 and not history.can_redo
    with pytest.raises(InputError, match="nothing to redo"):
        history.redo()


def test_a_new_turn_ends_what_could_be_redone_and_takes_no_turn_out():
    history = made(2)
    history.undo()
    history.append(make_turn(2))
    assert not history.can_redo and [turn.number for turn in history.turns] == [0, 1, 2]
    history.undo()
    assert history.turn.number == 0


def test_files_are_deleted_with_their_pictures_and_come_back_with_undo(tmp_path):
    history = made(2, tmp_path, count=2)
    before = files(tmp_path)
    history.delete(history.turns[1], 0)
    assert set(before) - set(files(tmp_path)) == {"1-0.png", "1-0.json"}
    assert history.turn.number == 1, "one of its pictures is left"
    history.delete(history.turns[1])
    assert history.turn.number == 0 and history.left == [0]
    history.undo()
    history.undo()
    assert files(tmp_path) == before and history.left == [0, 1]
    history.redo()
    assert "1-0.png" not in files(tmp_path)


def test_what_the_disk_does_not_take_at_first_comes_back_when_it_does(tmp_path, monkeypatch):
    history = made(1, tmp_path, count=2)
    before = files(tmp_path)

    def is_full(path, data):
        raise S2iError("No space left")

    def fails_at_the_second(file):
        if len(files(tmp_path)) == 2:
            raise S2iError("Input/output error")
        remove(file)

    with monkeypatch.context() as faulty:
        faulty.setattr("s2i_lib.conversation.history.remove", fails_at_the_second)
        with pytest.raises(S2iError, match="Input"):
            history.delete(history.turns[0])
    history.delete(history.turns[0])
    with monkeypatch.context() as faulty:
        faulty.setattr("s2i_lib.conversation.history.write_file", is_full)
        with pytest.raises(S2iError, match="No space"):
            history.undo()
    assert history.turn is None and files(tmp_path) == {}
    history.undo()
    assert files(tmp_path) == before


def test_restore_is_as_if_nothing_had_been_done_since(tmp_path):
    history = made(2, tmp_path)
    then, before = history.snapshot(), files(tmp_path)
    history.delete(history.turns[1])
    history.undo()
    history.show(0)
    history.restore(then)
    assert history.snapshot() == then and files(tmp_path) == before


MOVES = st.lists(st.sampled_from(["undo", "redo", "show 0", "show 1", "delete 0", "delete 1"]))


@pytest.mark.slow
@given(MOVES)
def test_undoing_every_move_leads_back_and_redoing_them_forth_again(moves):
    history = made(3)
    begun = history.state
    n_before = len(history.snapshot()[1])
    for move in moves:
        name, _, number = move.partition(" ")
        try:
            if name == "delete":
                history.delete(history.turns[int(number)])
            elif name == "show":
                history.show(int(number))
            else:
                getattr(history, name)()
        except InputError:
            assert not (history.can_undo if name == "undo" else history.can_redo)
    end, n_now = history.state, len(history.snapshot()[1])
    for _ in range(n_now - n_before):
        history.undo()
    if n_now > n_before and not {"undo", "redo"} & {m.split()[0] for m in moves}:
        assert history.state == begun
    for _ in range(max(0, n_now - n_before)):
        history.redo()
    assert history.state == end
