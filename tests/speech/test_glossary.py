"""Words of twenty languages, found in what was heard, and kept through its translation."""

import json
from importlib.resources import files

import pytest

from s2i_lib.speech.glossary import (
    HINT_LENGTH,
    add_missing_things,
    find_words,
    glossary,
    join_phrases,
    languages,
    usual_words,
)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("de", "Zwei grüne Äpfel auf einem Tisch.", ["two", "green", "apple", "table"]),
        ("fr", "2 pommes vertes sur une table.", ["two", "green", "apple", "table"]),
        ("es", "Un perro rojo sobre un fondo amarillo", ["red", "dog", "yellow", "background"]),
        ("it", "2.000 verdi su un tavolo", ["green", "table"]),  # a number is no count
        ("pt", "Um gato com um chapéu na neve.", ["cat", "hat", "snow"]),
        ("hi", "लाल कुत्ता पीली पृष्ठभूमि पर", ["red", "dog", "yellow", "background"]),
        ("zh", "雪地里有一只戴帽子的猫", ["snow", "hat", "cat"]),
        ("ja", "雪の中の帽子をかぶった猫", ["snow", "hat", "cat"]),
        ("ar", "كلب أحمر على خلفية صفراء", ["red", "dog", "yellow", "background"]),
        ("ar", "القطة في الثلج", ["cat", "snow"]),
        ("ru", "Красная собака на жёлтом фоне", ["red", "dog", "yellow", "background"]),
        ("ko", "빨간 강아지가 눈 속에", ["red", "dog", "snow"]),
        ("tr", "Sarı arka planda kırmızı bir köpek", ["yellow", "background", "red", "dog"]),
        ("de", "Der Rottweiler schläft im Hundehaus", []),  # other words that begin alike
        ("xx", "anything", []),
    ],
)
def test_words_are_found_as_they_are_said(language, text, words):
    assert find_words(text, language) == words


def test_every_word_of_pocket_is_in_twenty_languages():
    pocket = json.loads((files("s2i_lib") / "pocket" / "words.json").read_text())
    table = (files("s2i_lib") / "words" / "many_languages.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines()]
    english = {word for row in rows[1:] for word in row[0].split("|")}
    renders = json.loads(
        (files("s2i_lib").parent / "tests" / "data" / "pocket_renders.json").read_text()
    )
    assert set(renders) - {"hot dog", "sunglasses"} <= english
    assert set(pocket["colours"]) | set(pocket["counts"]) - {"one"} <= english
    assert len(languages()) == 20 and all(len(row) == 21 for row in rows)
    assert all(cell.strip() == cell and cell for row in rows for cell in row)


@pytest.mark.parametrize("language", ["de", "ru", "hi", "zh", "ar"])
def test_what_whisper_is_told_ends_in_places_and_fits(language):
    told = usual_words(language).split(", ")
    assert len(", ".join(told)) <= HINT_LENGTH
    assert glossary(language)[told[-1].casefold()] == "water"
    assert "red" in {glossary(language)[word.casefold()] for word in told}


def test_a_thing_that_got_lost_is_added_and_a_colour_is_not():
    words = ["red", "dog", "yellow", "background"]
    lost = add_missing_things("A light on a yellow background.", words)
    assert lost == "A light on a yellow background, a dog"
    kept = "Two butterflies and a cup."
    assert add_missing_things(kept, ["two", "butterfly", "mug"]) == kept
    assert join_phrases(words) == ["red dog", "yellow background"]
    assert join_phrases(["two", "green", "apple", "table"]) == ["two green apples", "table"]
