"""The catalogue: every language says all of it, with the same placeholders; nothing is unused."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from s2i_lib.conversation.reading import read
from s2i_lib.drawing.advice import unknown_words
from s2i_lib.drawing.draw import EMPTY_PROMPT
from s2i_lib.errors import InputError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech.glossary import find_words
from s2i_lib.speech.prompt import make_prompt
from s2i_lib.widgets import FOLDER, join_modules
from s2i_lib.widgets.studio.controls import what_came
from s2i_lib.widgets.texts import catalogue, in_english

ENGLISH = catalogue()["en"]
CHECKBOXES = {"is_seed_locked", "stop_on_silence", "drafts", "read_aloud", "keep_recordings"}


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w*)\}", text))


def test_the_languages_are_those_that_are_promised():
    assert set(catalogue()) == {"en", "de", "fr", "es", "pt", "hi", "zh", "ar"}


@pytest.mark.parametrize("language", catalogue())
def test_language_has_every_key_with_the_same_placeholders(language):
    texts = catalogue()[language]
    assert list(texts) == list(ENGLISH)
    for key, text in texts.items():
        assert text.strip() and placeholders(text) == placeholders(ENGLISH[key]), key
    same = [key for key in texts if texts[key] == ENGLISH[key] and key != "obeyed"]
    assert language == "en" or len(same) < 5, f"not translated: {same}"


@pytest.mark.parametrize("language", catalogue())
def test_button_says_another_thing_once_it_has_been_pressed(language):
    """German has one word for "Keep" and "Kept": nobody saw whether a picture was."""
    texts = catalogue()[language]
    pairs = [("keep", "kept"), ("speak", "stop"), ("cam_start", "cam_off_button")]
    assert all(texts[before] != texts[after] for before, after in pairs)


def test_scripts_are_those_of_the_languages():
    for language, first, last in (("hi", "ऀ", "ॿ"), ("zh", "一", "鿿"), ("ar", "؀", "ۿ")):
        texts = catalogue()[language]
        lacking = [key for key, text in texts.items() if not any(first <= c <= last for c in text)]
        assert lacking == ["obeyed"], language


@pytest.mark.parametrize("language", catalogue())
def test_example_is_one_that_is_understood(language):
    """Every word that counts is found in the language, and the small model knows the English."""
    example = re.split("[:：]", catalogue()[language]["hint"])[1].strip(" .。।")
    if language == "en":
        assert unknown_words(REGISTRY["pocket"], example) == []
    else:
        assert set(find_words(example, language)) == {"dog", "hat", "snow"}


def test_errors_give_the_same_example_as_the_page():
    example = ENGLISH["hint"].partition(": ")[2].strip(" .")
    assert example in EMPTY_PROMPT
    nobody = SimpleNamespace(subjects=[], chosen=None)
    for fails in (lambda: make_prompt("..."), lambda: read(nobody, "make it blue", None)):
        with pytest.raises(InputError, match=example):
            fails()


def test_every_key_is_used_and_every_used_key_is_there():
    names = ("studio", "microphone", "app", "upload", "camera", "cropper")
    entries = [f"{name}/{name}.js" for name in names]
    scripts = "\n".join(map(join_modules, entries))
    files = [path for name in ("studio", "app") for path in (FOLDER / name).glob("*.py")]
    python = "\n".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r'"(\w+)"', scripts)) | set(re.findall(r'"(\w+)"', python))
    named |= {f"{device}_{why}" for device in ("camera", "microphone") for why in named}
    assert set(ENGLISH) <= named, set(ENGLISH) - named
    said = set(re.findall(r'\bsay\(\s*"(\w+)"', scripts)) | set(
        re.findall(r'\(\("?(\w+)", \{', python)
    )
    said |= set(re.findall(r' button\("(\w+)"', scripts)) | CHECKBOXES
    assert said <= set(ENGLISH), said - set(ENGLISH)


@pytest.mark.parametrize(
    ("came", "said"),
    [
        ((1, 0, 0.04), "Done: the picture was there when you had spoken."),
        ((1, 0, 0.06), "Done: the picture is here after 0.1 seconds."),
        ((4, 0, 0.0), "Done: 4 pictures are here after 0.0 seconds."),
        (
            (3, 1, 2.04),
            "Done: 3 pictures are here after 2.0 seconds. The safety checker held 1 more back.",
        ),
    ],
)
def test_a_picture_that_was_there_already_is_said_to_have_been(came, said):
    assert in_english(*what_came(*came)) == said


def test_python_says_it_in_english():
    text = in_english(("done", {"count": "1", "seconds": "2.0"}), ("held_back", {"count": "3"}))
    assert text.startswith("Done: the picture is here after 2.0 seconds. The safety checker held 3")
