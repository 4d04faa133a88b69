"""How Whisper sees a sentence: shares that sum to one, and moments in the order of the words."""

from pathlib import Path

import numpy as np
import pytest

import s2i_lib
from s2i_lib.errors import InputError
from s2i_lib.speech import packaged
from s2i_lib.speech.alignment import hear_inside
from s2i_lib.speech.audio import RATE_HZ, load_audio
from s2i_lib.storage.layout import Drive

CLIP = Path(s2i_lib.__file__).parent / "samples" / "red_car.wav"
POSITIONS_PER_S = 50  # the encoder makes one of every two columns of the spectrogram

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return hear_inside(CLIP, Drive(tmp_path_factory.mktemp("drive")))


def test_tokens_are_the_sentence(heard):
    assert "".join(heard.tokens).strip() == heard.text
    assert "red car on a yellow background" in heard.text.lower()


def test_each_token_shares_out_one_over_the_window(heard):
    n_positions = round(heard.seconds * POSITIONS_PER_S)
    assert heard.attention.shape == (len(heard.tokens), n_positions)
    assert heard.mel.shape[1] == 2 * n_positions
    assert heard.attention.min() >= 0
    np.testing.assert_allclose(heard.attention.sum(axis=1), 1, atol=1e-4)


def test_later_words_are_listened_to_later_and_within_the_clip(heard):
    starts = [word.start_s for word in heard.words]
    assert starts == sorted(starts)
    assert heard.words[-1].start_s < len(heard.samples) / RATE_HZ
    centres = heard.attention @ np.arange(heard.attention.shape[1])
    order = np.corrcoef(centres, np.arange(len(centres)))[0, 1]
    assert order > 0.8, "the alignment heads do not run along the sentence"


def test_too_long_and_silent_recordings_are_refused(drive):
    with pytest.raises(InputError, match="lasts 40 s"):
        hear_inside(np.tile(load_audio(CLIP), 20)[: 40 * RATE_HZ], drive)
    with pytest.raises(InputError):
        hear_inside(np.zeros(RATE_HZ, np.float32), drive)


def test_weights_that_no_short_window_was_measured_with_have_their_whole_one(tmp_path):
    """Such as weights named by their path; here they are tiny.en's."""
    heard = hear_inside(CLIP, Drive(tmp_path), model=str(packaged.checked_folder("tiny.en")))
    assert heard.seconds == 30 and "red car on a yellow background" in heard.text.lower()
