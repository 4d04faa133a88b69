"""How names sound: what Whisper writes for one is known again, and another name is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2i_lib.speech.sounds import (
    same_consonants,
    similarity,
    similarity_of_words,
    sound_key,
    sounds_same,
    words_sound_same,
)

WORDS = st.text("abcdefghijklmnoprstuvwyz", min_size=1, max_size=10)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rex", "wrecks"), ("mia", "miya"), ("freya", "fraya"), ("luna", "lunar"),
        ("max", "macks"), ("phil", "fill"), ("johan", "yohan"), ("sian", "shan"),
        ("bello", "belo"), ("thea", "tea"), ("wanda", "vanda"), ("hana", "ana"),
    ],
)  # fmt: skip
def test_what_sounds_the_same_is_the_same(name, said):
    assert sounds_same(name, said) and same_consonants(name, said)


@pytest.mark.parametrize(
    ("name", "said"), [("rex", "rocks"), ("mia", "mae"), ("bella", "bill"), ("tom", "tim")]
)
def test_another_vowel_is_another_word_with_the_same_consonants(name, said):
    assert not sounds_same(name, said) and same_consonants(name, said)


@pytest.mark.parametrize(("name", "said"), [("rex", "dog"), ("max", "mats"), ("luna", "una")])
def test_other_consonants_are_another_word(name, said):
    assert not sounds_same(name, said) and not same_consonants(name, said)


def test_words_may_be_parted_elsewhere():
    assert words_sound_same(["mary", "ann"], ["marry", "an"])
    assert words_sound_same(["maryann"], ["mary", "ann"])
    assert not words_sound_same(["mary", "ann"], ["ann", "mary"])


@given(WORDS, WORDS)
def test_similarity_is_a_share_and_whole_for_the_word_itself(name, said):
    assert similarity(name, name) == 1.0
    assert 0.0 <= similarity(name, said) <= 1.0
    assert sounds_same(name, name)
    assert sound_key(name) == sound_key(name.upper())


def test_nearer_names_are_more_alike():
    heard = ["rex", "recks", "rocks", "bella"]
    scores = [similarity("Rex", word) for word in heard]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.5
    assert similarity("Mia Rose", "mia rose") == similarity("Mia Rose", "miarose") == 1.0


def test_one_unlike_word_of_several_makes_them_unlike():
    assert similarity_of_words(["mia", "rose"], ["miya", "rows"]) > 0.6
    assert similarity_of_words(["mia", "rose"], ["mia", "dog"]) == 0.0


def test_names_of_other_scripts_are_compared_by_their_letters():
    assert similarity("Рекс", "Рекс") == 1.0
    assert similarity("Рекс", "Рекс!") == pytest.approx(1.0)
    assert 0.5 < similarity("Рекс", "Реке") < 1.0
