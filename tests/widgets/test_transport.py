"""The Python half of the transport: whatever order, damage or repetition, files arrive whole."""

from __future__ import annotations

import random
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2i_lib.errors import InputError
from s2i_lib.widgets import FOLDER, join_modules
from s2i_lib.widgets.transport import CHUNK_BYTES, Inbox


def chunks(data: bytes, key: str = "a"):
    count = max(1, -(-len(data) // CHUNK_BYTES))
    for index in range(count):
        piece = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        message = {"id": key, "index": index, "count": count, "size": len(data)}
        message["crc"] = zlib.crc32(piece)
        if index == 0:
            message["meta"] = {"name": "x.jpg"}
        if index == count - 1:
            message["total_crc"] = zlib.crc32(data)
        yield message, piece


@given(size=st.integers(0, 6 * CHUNK_BYTES), seed=st.integers(0, 2**32 - 1))
def test_pieces_in_any_order_repeated_and_damaged_give_the_file_once(size, seed):
    order = random.Random(seed)
    data = order.randbytes(size)
    arrived = []
    inbox = Inbox(10**9, lambda data, meta: arrived.append((data, meta)))
    sent = [pair for pair in chunks(data) for _ in range(order.choice([1, 1, 2]))]
    order.shuffle(sent)
    answers = []
    for message, piece in sent:
        if piece and order.random() < 0.3:
            damaged = bytes([piece[0] ^ 1]) + piece[1:]
            answers += inbox.take(message, damaged)
        answers += inbox.take(message, piece)
    assert arrived == [(data, {"name": "x.jpg"})]
    assert {"type": "done", "id": "a", "note": None} in answers
    assert not [a for a in answers if a["type"] == "failed"]


def test_damage_that_the_pieces_do_not_show_is_refused():
    pairs = list(chunks(b"x" * (CHUNK_BYTES + 5)))
    pairs[-1][0]["total_crc"] ^= 1
    arrived = []
    inbox = Inbox(10**9, lambda data, meta: arrived.append(data))
    answers = [answer for pair in pairs for answer in inbox.take(*pair)]
    assert answers[-1]["type"] == "failed" and "damaged" in answers[-1]["message"]
    assert not arrived


def test_too_large_a_file_is_refused_before_it_takes_memory():
    inbox = Inbox(1000, lambda data, meta: None)
    (message, piece), *_ = chunks(b"x" * 2000)
    (answer,) = inbox.take(message, piece)
    assert answer["type"] == "failed" and "Put it on the Drive" in answer["message"]


def refuse(data, meta):
    raise InputError("x.jpg is no photo.")


def crash(data, meta):
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(("callback", "words"), [(refuse, "x.jpg is no photo."), (crash, "oh")])
def test_what_the_callback_raises_is_said_in_the_page(callback, words):
    inbox = Inbox(1000, callback)
    answers = inbox.take(*next(chunks(b"abc")))
    assert answers[-1]["type"] == "failed" and words in answers[-1]["message"]


def test_late_pieces_of_a_stopped_transfer_change_nothing():
    arrived = []
    inbox = Inbox(10**9, lambda data, meta: arrived.append(data))
    first, last = chunks(b"x" * (CHUNK_BYTES + 1))
    inbox.take(*first)
    inbox.drop("a")
    assert inbox.take(*last)[-1]["type"] == "failed" and not arrived


def test_joined_module_has_each_part_once_and_no_import_left():
    text = join_modules("camera/camera.js")
    assert text == join_modules("camera/camera.js")
    assert text.count("class Transport") == 1
    assert text.count("function makeFrame") == 1
    assert "\nimport " not in text and text.count("export ") == text.count("export default") == 1


def test_widgets_are_found_where_the_library_lies_behind_a_link(tmp_path):
    """As with a folder on a Drive that is a shortcut to another."""
    (tmp_path / "s2i_lib").symlink_to(FOLDER.parent, target_is_directory=True)
    code = "from s2i_lib.widgets import join_modules; print(join_modules('camera/camera.js'))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == join_modules("camera/camera.js").strip()
