"""Names that were nearly said are offered; names that were taught by saying them are found."""

import json
from dataclasses import asdict, replace

import pytest

from s2i_lib.photos.subject import Subject, known_subjects, load_subject, save_subject
from s2i_lib.speech.prompt import make_prompt

BELLA = Subject("Bella", "dog")
TAUGHT = Subject("Bella", "dog", spellings=("Bell", "Bela", "Bell a"))
RAM = Subject("राम", "man", spellings=("Ram",))


def test_a_near_name_is_offered_as_a_sentence_and_not_taken():
    prompt = make_prompt("Um, Bell on the beach.", [BELLA])
    assert prompt.subjects == ()
    [near] = prompt.near_names
    assert (near.question, near.heard) == ("Did you mean Bella?", "Bell")
    assert make_prompt(near.sentence, [BELLA]).text == "a ohwx dog on the beach"
    [hat] = make_prompt("Bell's hat on a chair", [BELLA]).near_names
    assert hat.sentence == "Bella's hat on a chair"


def test_a_name_in_the_plural_that_is_a_word_is_asked_about():
    [near] = make_prompt("Maxes on the beach", [Subject("Max", "dog")]).near_names
    assert (near.question, near.sentence) == ("Did you mean Max?", "Max on the beach")


@pytest.mark.parametrize(
    "text",
    [
        "a bell on the beach", "ring the bell", "a cat on a table", "Bella on the beach",
        "a mug of bell peppers", "A ball in the grass.", "balls and bells",
    ],
)  # fmt: skip
def test_what_is_no_name_is_not_offered(text):
    assert make_prompt(text, [BELLA]).near_names == ()


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Bell on the beach", "a ohwx dog on the beach"),
        ("a picture of bell and a cat", "a ohwx dog and a cat"),
        ("Bell's hat", "a ohwx dog's hat"),
        ("a bell on the beach", "a bell on the beach"),
        ("someone rings the bell at night", "someone rings the bell at night"),
        ("bells in a tower", "bells in a tower"),
        ("the word bell a child wrote", "the word bell a child wrote"),
    ],
)
def test_a_spelling_that_was_taught_counts_where_the_name_could_stand(text, drawn):
    assert make_prompt(text, [TAUGHT]).text == drawn


def test_a_name_in_another_script_is_found_by_its_spoken_form():
    prompt = make_prompt("Ram on the beach.", [RAM])
    assert prompt.text == "a ohwx man on the beach"
    assert make_prompt("A ram on the beach.", [RAM]).text == "A ram on the beach"
    assert (RAM.spoken, BELLA.spoken, Subject("小明", "boy").spoken) == ("Ram", "Bella", "小明")


def test_two_subjects_with_one_identifier_are_marked_once():
    prompt = make_prompt("Rex and Bella on a hill", [Subject("Rex", "dog"), BELLA])
    assert len(prompt.subjects) == 2
    assert [prompt.text[start:end] for start, end in prompt.marks] == ["ohwx dog"]


def test_report_of_a_prompt_says_who_may_have_been_meant():
    record = json.loads(json.dumps(make_prompt("Bell on the beach", [BELLA]).to_json()))
    assert [near["name"] for near in record["near_names"]] == ["Bella"]


def test_spellings_stay_on_the_card_and_reach_every_subject_of_that_name(drive):
    save_subject(drive, TAUGHT)
    assert load_subject(drive, "Bella").spellings == TAUGHT.spellings
    save_subject(drive, BELLA)  # as building its dataset again does
    assert load_subject(drive, "Bella").spellings == TAUGHT.spellings
    [known] = known_subjects(drive, [Subject.parse("Bella:dog:ohwx")])
    assert known.spellings == TAUGHT.spellings
    assert Subject.from_record(json.loads(json.dumps(asdict(TAUGHT)))).spellings == TAUGHT.spellings
    other_case = replace(BELLA, name="bella")  # `dataset --subject bella`
    [known, _] = known_subjects(drive, [other_case, Subject("...", "dog")])
    assert (known.name, known.spellings) == ("bella", TAUGHT.spellings)
    save_subject(drive, other_case)
    assert load_subject(drive, "Bella").spellings == TAUGHT.spellings
    with pytest.raises(ValueError, match="spellings"):
        Subject.from_record(asdict(BELLA) | {"spellings": "Bell"})
