"""Speech is cut at pauses into windows that Whisper takes, and into few of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sounds import JFK

from s2i_lib.speech.audio import LIMIT_S, RATE_HZ, read_audio
from s2i_lib.speech.live import is_all_heard
from s2i_lib.speech.windows import MAX_DECODES, PACKED_S, find_windows, join_chunks


@given(st.lists(st.tuples(st.floats(0, 12), st.floats(0.2, PACKED_S)), min_size=1, max_size=40))
def test_three_windows_hold_any_minute_of_chunks(pauses_and_lengths):
    chunks, at_s = [], 0.0
    for pause_s, length_s in pauses_and_lengths:
        if at_s + pause_s + length_s > LIMIT_S:
            continue
        start, end = at_s + pause_s, at_s + pause_s + length_s
        chunks.append({"start": int(start * RATE_HZ), "end": int(end * RATE_HZ)})
        at_s = end
    spans = join_chunks(chunks, 27.5)
    assert len(spans) <= MAX_DECODES
    assert all(end - start <= 27.5 * RATE_HZ for start, end, _ in spans)
    assert sum(speech for *_, speech in spans) == sum(c["end"] - c["start"] for c in chunks)


def test_a_minute_that_packs_badly_is_cut_into_three_windows():
    """2, 26, 2 and 26 s of speech without a breath: as they come, no two fit into one window."""
    words = read_audio(JFK).samples[int(0.5 * RATE_HZ) : 2 * RATE_HZ]
    speech = np.resize(words, 26 * RATE_HZ)
    pause = np.zeros(int(0.9 * RATE_HZ), np.float32)
    short = speech[: 2 * RATE_HZ]
    clip = np.concatenate([short, pause, speech, pause, short, pause, speech])
    audio = read_audio(clip, rate_hz=RATE_HZ)
    assert 55 < audio.duration_s < 60
    windows = find_windows(audio, 2.0)
    assert len(windows) <= MAX_DECODES
    assert all(len(window.samples) <= 28.0 * RATE_HZ for window in windows)


def test_long_recordings_are_split_at_pauses_into_windows_that_whisper_takes():
    clip = read_audio(JFK).samples
    pause = np.zeros(RATE_HZ, np.float32)
    audio = read_audio(np.concatenate([clip, pause] * 5), rate_hz=RATE_HZ)
    windows = find_windows(audio, 2.0)
    assert len(windows) >= 3
    assert all(len(window.samples) <= 28.0 * RATE_HZ for window in windows)
    speech_s = sum(window.speech_s for window in windows)
    assert 5 * 7 < speech_s < 5 * 11.5


def test_silence_behind_a_long_recording_adds_nothing_where_it_may_be_that_long():
    clip, quiet = read_audio(JFK).samples, np.zeros(RATE_HZ, np.float32)
    heard = np.concatenate([*[clip, quiet] * 5, quiet])
    longer = np.concatenate([heard, quiet])
    assert len(heard) > LIMIT_S * RATE_HZ
    assert is_all_heard(heard, longer, 2.0, limit_s=90)
    assert not is_all_heard(heard, longer, 2.0), "it may not be that long"
