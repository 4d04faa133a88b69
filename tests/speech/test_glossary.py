"""Words of twenty languages, found in what was heard, and kept through its translation."""

import json
import unicodedata
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
from tools.pocket import words as world

TABLE = (files("s2i_lib") / "words" / "many_languages.tsv").read_text(encoding="utf-8")
ROWS = [line.split("\t") for line in TABLE.splitlines()]
NAMES = [row[0].split("|")[0] for row in ROWS[1:]]
PLACES = NAMES[NAMES.index("three") + 1 :]


@pytest.mark.slow
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
        ("de", "Ein Drache mit Sonnenbrille in der Wüste", ["dragon", "sunglasses", "desert"]),
        ("de", "Ein junger Hund mit Schal im Regen", ["dog", "scarf", "rain"]),  # and no "Junge"
        ("fr", "Un chat qui porte une casquette sous la pluie", ["cat", "cap", "rain"]),  # no door
        ("fr", "Un ours polaire dans les nuages", ["polar bear", "clouds"]),
        ("es", "Un gato rosa a rayas bajo el agua", ["pink", "striped", "cat", "under water"]),
        ("it", "Un pinguino con le cuffie sul palco", ["penguin", "headphones", "stage"]),
        ("pt", "Uma princesa com óculos escuros na cozinha", ["princess", "sunglasses", "kitchen"]),
        ("pl", "Astronauta w kosmosie z szalikiem", ["astronaut", "space", "scarf"]),
        ("ru", "Зебра на сцене в синем плаще", ["zebra", "stage", "blue", "cape"]),
        ("uk", "Принцеса в горах під нічним небом", ["princess", "mountains", "night sky"]),
        ("tr", "Ayda uzaylı bir ayı", ["moon", "alien", "bear"]),
        ("ar", "رائد فضاء تحت الماء", ["astronaut", "under water"]),
        ("hi", "धूप का चश्मा पहने बंदर बारिश में", ["sunglasses", "monkey", "rain"]),
        ("id", "Kereta api di pegunungan", ["train", "mountains"]),  # "api" is fire
        ("vi", "Chú hề đội mũ sinh nhật ở nông trại", ["clown", "party hat", "farm"]),
        ("zh", "沙漠里戴着蝴蝶结的长颈鹿", ["desert", "bow", "giraffe"]),
        ("ja", "カバンを持った宇宙飛行士", ["backpack", "astronaut"]),  # no hippo, no space
        ("ko", "빨간 망토를 입은 소방관이 부엌에", ["red", "cape", "firefighter", "kitchen"]),
        ("de", "Der Rottweiler schläft im Hundehaus", []),  # other words that begin alike
        ("xx", "anything", []),
    ],
)
def test_words_are_found_as_they_are_said(language, text, words):
    assert find_words(text, language) == words


def test_every_word_of_pocket_is_in_twenty_languages():
    pocket = json.loads((files("s2i_lib") / "pocket" / "words.json").read_text())
    english = {word for row in ROWS[1:] for word in row[0].split("|")}
    assert set(pocket["colours"]) | set(pocket["counts"]) - {"one"} <= english
    assert {*world.NOUNS, *world.PLACE_NAMES, *world.ACCESSORY_NAMES} <= english
    assert {*world.COLOUR_NAMES, *world.PATTERNS, "night"} <= english
    assert len(languages()) == 20 and all(len(row) == 21 for row in ROWS)
    assert all(cell.strip() == cell and cell for row in ROWS for cell in row)


@pytest.mark.parametrize("language", languages())
def test_no_form_is_claimed_by_two_words(language):
    """The later of the two would never be found."""
    column = ROWS[0].index(language)
    claims: dict[str, set[int]] = {}
    for number, row in enumerate(ROWS[1:]):
        for form in row[column].split("|"):
            plain = unicodedata.normalize("NFC", form.casefold())
            claims.setdefault(plain, set()).add(number)
    twice = {form: [NAMES[n] for n in sorted(by)] for form, by in claims.items() if len(by) > 1}
    assert twice == {}


@pytest.mark.parametrize("language", ["de", "ru", "hi", "zh", "ar"])
def test_what_whisper_is_told_ends_in_places_and_fits(language):
    told = usual_words(language).split(", ")
    meant = [glossary(language)[word.casefold()] for word in told]
    assert len(", ".join(told)) <= HINT_LENGTH
    assert meant[-1] in PLACES
    assert {"red", "water"} <= set(meant)


def test_a_thing_that_got_lost_is_added_and_a_colour_is_not():
    words = ["red", "dog", "yellow", "background"]
    lost = add_missing_things("A light on a yellow background.", words)
    assert lost == "A light on a yellow background, a dog"
    kept = "Two butterflies and a cup."
    assert add_missing_things(kept, ["two", "butterfly", "mug"]) == kept
    assert join_phrases(words) == ["red dog", "yellow background"]
    assert join_phrases(["two", "green", "apple", "table"]) == ["two green apples", "table"]
