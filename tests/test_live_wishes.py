"""A wish while it is spoken: firm words stay, the newest wins, the end is what it was without."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2i_lib import live as live_wishes
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.live import Draft, Live, is_loud, listen_live
from s2i_lib.models.registry import PACKAGE
from s2i_lib.pipeline import Drawing, Hearing, SpeechToImage
from s2i_lib.speech.audio import RATE_HZ, load_audio
from s2i_lib.speech.live import LocalAgreement, Partial, is_all_heard
from s2i_lib.speech.transcript import Transcript
from tests.studios import wait_until

CLIP = PACKAGE / "samples" / "red_car.wav"
WORDS = st.lists(st.sampled_from(["a", "red", "car", "Car.", "on", "grass"]), max_size=6)


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_firm_words_were_heard_twice_and_never_change(hearings):
    agreement, before = LocalAgreement(), ""
    for last, words in zip([[], *hearings], hearings, strict=False):
        partial = agreement.add(" ".join(words))
        assert partial.firm.startswith(before)
        new = partial.firm.split()[len(before.split()) :]
        plain = [[w.strip(".").lower() for w in text] for text in (last, words, new)]
        at = slice(len(before.split()), len(partial.firm.split()))
        assert not new or plain[0][at] == plain[1][at] == plain[2]
        before = partial.firm
    assert agreement.is_whole == (bool(before) and not partial.loose and len(words) >= 1
                                  and len(before.split()) == len(words))  # fmt: skip


def test_loose_words_follow_the_firm_ones():
    agreement = LocalAgreement()
    assert agreement.add("I read") == Partial("", "I read")
    assert agreement.add("a red car") == Partial("", "a red car")
    assert agreement.add("A red car on grass") == Partial("A red car", "on grass")
    assert agreement.add("a red car on grass").text == "A red car on grass"


def test_silence_after_speech_adds_nothing_and_speech_does():
    clip = load_audio(CLIP)
    quiet = np.zeros(RATE_HZ, np.float32)
    heard = np.concatenate([quiet, clip, quiet[: RATE_HZ // 2]])
    assert is_all_heard(heard, np.concatenate([heard, quiet, quiet]), 2.0)
    assert not is_all_heard(heard, np.concatenate([heard, clip]), 2.0)
    assert not is_all_heard(quiet, heard, 2.0)
    assert is_loud(clip) and not is_loud(quiet)


def spoken(seconds_after: float, rate: float = 1.0):
    """The clip in quarters of a second, as a microphone gives them, then silence."""
    samples = np.concatenate([load_audio(CLIP), np.zeros(int(seconds_after * RATE_HZ), np.float32)])
    began = time.perf_counter()
    for at in range(0, len(samples), RATE_HZ // 4):
        time.sleep(max(0.0, began + at / RATE_HZ * rate - time.perf_counter()))
        yield samples[at : at + RATE_HZ // 4]


@pytest.fixture
def speech(drive, pocket):
    speech = SpeechToImage(drive, model=pocket, options=DrawOptions(steps=6, seed=7))
    speech.load_listener()
    return speech


@pytest.mark.slow
def test_words_and_drafts_come_while_it_is_spoken_and_the_picture_is_the_same(speech):
    told = []
    wish = listen_live(speech, spoken(2.5, rate=1.5), told.append)
    partials = [event for event in told if isinstance(event, Partial)]
    drafts = [event for event in told if isinstance(event, Draft)]
    assert "red" in partials[-1].firm and len(partials) >= 3
    assert drafts and drafts[0].image.size == wish.pictures[0].image.size
    without = listen_live(speech, spoken(0, rate=0), drafts=False)
    assert wish.prompt.text == without.prompt.text and wish.transcript.text.startswith("A red car")
    assert wish.pictures[0].image.tobytes() == without.pictures[0].image.tobytes()
    assert wish.pictures[0].record["steps"] == 6 and all(wish.paths)


@pytest.mark.slow
def test_silence_at_the_end_is_time_enough_to_hear_the_last_syllable(speech):
    """It is no louder than a room, so loudness alone does not tell that it was missed."""
    samples = load_audio(CLIP)
    early = samples[: round(1.9 * RATE_HZ)]
    assert not is_loud(samples[len(early) :])
    shown, told = [], []
    live = Live(speech, shown.append)
    live.add(early)
    wait_until(lambda: any(isinstance(event, Draft) for event in shown))
    live.add(np.concatenate([samples[len(early) :], np.zeros(RATE_HZ, np.float32)]))
    wait_until(lambda: len(live._heard[0]) > len(early))
    speech.callback = told.append
    wish = live.finish()
    assert "background" in wish.transcript.text
    assert not any(isinstance(event, Hearing) for event in told), "it was heard after the end"


@pytest.mark.slow
def test_what_a_listener_says_once_of_itself_is_with_the_wish(speech):
    """It goes with its first hearing, which was of the first syllables."""
    with speech.use_listener() as listener:
        listener._untold = ("Only English is heard now.",)
    wish = listen_live(speech, spoken(1.0), drafts=False)
    assert wish.notes[0] == "Only English is heard now."
    assert not listen_live(speech, spoken(1.0, rate=0), drafts=False).notes


def test_doubts_of_words_half_heard_go_when_they_are_heard_whole(speech, monkeypatch):
    """The same words were heard of a recording that ended within the last syllable."""
    whole = Transcript("a red car", "en", 1.0, "a red car", (), "test", "none", 1.0, 0.1)
    heard = [replace(whole, doubts=("Whisper was unsure of the words.",)), whole]
    with speech.use_listener() as listener:
        monkeypatch.setattr(listener, "hear", lambda *_: heard.pop(0))
    live, clip = Live(speech, drafts=False), load_audio(CLIP)
    live.add(clip[:RATE_HZ])
    wait_until(lambda: live._heard is not None)
    live.add(clip[RATE_HZ:])
    wait_until(lambda: len(live._heard[0]) == len(clip))
    assert live.hear() == whole and heard == []


@pytest.mark.slow
def test_what_was_drawn_is_not_drawn_again_as_the_words_were_heard_once_more(speech, monkeypatch):
    heard = Transcript("a red car", "en", 1.0, "a red car", (), "test", "none", 1.0, 0.1)
    each = [replace(heard, took_s=float(number)) for number in range(3)]
    with speech.use_listener() as listener:
        monkeypatch.setattr(listener, "hear", lambda *_: each.pop(0))
    live, clip = Live(speech), np.tile(load_audio(CLIP), 2)
    for number in range(3):
        live.add(clip[number * RATE_HZ : (number + 1) * RATE_HZ])
        wait_until(lambda number=number: len(each) == 2 - number)
        wait_until(lambda number=number: live.sketch and live._agreement.is_whole == (number > 0))
    wait_until(lambda: live.sketch.pictures[0].record["steps"] == 6)
    told: list[object] = []
    speech.callback = told.append
    [picture] = live.finish().pictures
    assert picture.record["transcript"]["took_s"] == 2.0
    assert not any(isinstance(event, Drawing) for event in told)


@pytest.mark.slow
def test_drafts_end_where_the_quickest_is_slow_and_not_for_a_slow_first_one(speech, monkeypatch):
    """The first of a session readies what the others find ready: seen in a browser."""
    monkeypatch.setattr(live_wishes, "SLOW_DRAFT_S", -1.0)
    live = Live(speech)
    for text, goes_on in (("a red car", True), ("a red car on a beach", False)):
        live._draft(Transcript(text, "en", 1.0, text, (), "test", "none", 1.0, 0.1), 0)
        assert live.sketch.prompt.text == text and live.drafts == goes_on
    live.close()


@pytest.mark.slow
def test_end_of_speech_ends_the_draft_that_is_drawn(speech):
    speech.options = DrawOptions(steps=1000, seed=7)  # minutes
    live = Live(speech)
    for piece in spoken(1.0):
        live.add(piece)
    time.sleep(1)
    began = time.perf_counter()
    assert "red car" in live.hear().text
    assert time.perf_counter() - began < 10, "a step of the draft, and a hearing"
    assert [kind for kind, _ in live.seconds] and not live._thread.is_alive()
