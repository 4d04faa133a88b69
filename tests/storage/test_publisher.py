"""A queue that never gives up, and that nobody waits for."""

import errno
import threading
import time
import weakref

import pytest

from s2i_lib.storage.publisher import NotYetError, Publisher
from s2i_lib.storage.publishing import NotTakenError


def wait_until(is_true, seconds=20):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_has_been_written_is_let_go_of():
    """What a job holds is not held until the next one comes."""

    class State:
        pass

    publisher, state = Publisher(pytest.fail), State()
    seen = weakref.ref(state)
    publisher.submit("state", lambda state=state: None)
    del state
    wait_until(lambda: seen() is None)
    publisher.close()


def test_submitting_never_waits_and_a_newer_job_takes_an_older_ones_place(tmp_path):
    gate, done = threading.Event(), []
    publisher = Publisher(pytest.fail)
    began = time.monotonic()
    publisher.submit("slow", gate.wait)
    for number in range(3):
        publisher.submit("state", lambda number=number: done.append(number))
    assert time.monotonic() - began < 0.5
    gate.set()
    assert publisher.close() == []
    assert done == [2]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The Drive is full"),
        (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "mount has died"),
        (NotTakenError("x reads back different."), "reads back different"),
    ],
)
def test_a_job_that_fails_is_reported_once_kept_and_done_when_the_drive_is_back(error, words):
    said, tries = [], []

    def job():
        tries.append(None)
        if len(tries) < 4:
            raise error

    publisher = Publisher(said.append, retry_s=0.01, limit_s=0.02)
    publisher.submit("state", job)
    assert publisher.close() == []
    assert len(tries) == 4 and len(said) == 2
    assert "did not take state" in said[0] and words in said[0]
    assert "takes files again" in said[1]


def test_what_could_not_be_written_in_time_is_named():
    def fail():
        raise OSError(errno.EIO, "Input/output error")

    publisher = Publisher(lambda text: None, retry_s=0.01)
    publisher.submit("the weights", fail)
    assert publisher.close(patience_s=0.2) == ["the weights"]


def test_a_mistake_of_ours_is_raised_not_retried():
    publisher = Publisher(pytest.fail)
    publisher.submit("state", lambda: {}["typo"])
    with pytest.raises(KeyError, match="typo"):
        publisher.close()


def test_a_job_that_has_to_wait_is_tried_again_without_a_word_and_holds_up_no_other(tmp_path):
    said, tries = [], []
    publisher = Publisher(said.append, retry_s=0.01)

    def waits():
        tries.append(None)
        if len(tries) < 3:
            raise NotYetError("until the one before it is uploaded")

    publisher.submit("a state", waits)
    done = threading.Event()
    publisher.submit("a sample", done.set)
    assert done.wait(10)
    while len(tries) < 3:
        time.sleep(0.01)
    assert publisher.close() == [] and said == []


def test_a_job_that_still_has_to_wait_at_the_end_is_named_at_once():
    def waits():
        raise NotYetError("until the one before it is uploaded")

    publisher = Publisher(pytest.fail, retry_s=0.01)
    publisher.submit("a state", waits)
    began = time.monotonic()
    assert publisher.close(patience_s=60) == ["a state"] and time.monotonic() - began < 30
