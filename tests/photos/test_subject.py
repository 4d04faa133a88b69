"""Identifiers: what is offered is one token, for CLIP and for the pocket model, and means nothing.

From outside: CLIP's own vocabulary (tests/twin), and that SKS is the name of a rifle, which a run
that has learnt little may draw.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from s2i_lib.errors import InputError
from s2i_lib.models.registry import PACKAGE
from s2i_lib.photos.dataset import sample_subject
from s2i_lib.photos.subject import (
    RARE_TOKENS,
    Subject,
    check_identifier,
    choose_identifier,
    load_subject,
    save_subject,
    warn_of_identifier,
)
from tests.twin import clip_vocabulary

ROOT = Path(__file__).parents[2]
RIFLE = "sks"
# Of clip/bpe_simple_vocab_16e6.txt.gz in openai/CLIP.
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
# What tells people which identifier to take, or shows them one at work.
ADVICE = [
    ROOT / "README.md", ROOT / "drive_layout.md", *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "s2i_lib").rglob("*.py")),
]  # fmt: skip
POCKET_NOTE = (
    ROOT / "s2i_lib" / "training" / "recipes.py"
)  # quotes what was measured with the rifle's name


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    clip_vocabulary.write(folder)
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def pocket_tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(PACKAGE / "pocket" / "tokenizer")


def test_the_vocabulary_is_clips_own(clip):
    packed = Path(clip_vocabulary.__file__).with_name("clip_bpe_vocab_16e6.txt.gz").read_bytes()
    assert hashlib.sha256(packed).hexdigest() == SHA256
    # The texts of CLIP's README, and the ids that its clip.tokenize gives for them.
    assert clip(["a diagram", "a dog", "a cat"]).input_ids == [
        [49406, 320, 22697, 49407],
        [49406, 320, 1929, 49407],
        [49406, 320, 2368, 49407],
    ]


@pytest.mark.parametrize("which", ["clip", "pocket_tokenizer"])
def test_every_identifier_offered_is_one_token(which, request):
    tokenizer = request.getfixturevalue(which)
    assert len(RARE_TOKENS) >= 8
    cut = {token: tokenizer.tokenize(token) for token in RARE_TOKENS}
    assert {token: pieces for token, pieces in cut.items() if len(pieces) != 1} == {}


def test_identifiers_offered_are_of_the_rarest_in_clips_vocabulary():
    """A pair is merged the later the rarer it was in the text that the vocabulary was made of."""
    ids = clip_vocabulary.vocabulary()
    words = [i for token, i in ids.items() if token.endswith("</w>")]
    rare = sorted(words)[len(words) // 2]
    assert {token: ids[token + "</w>"] for token in RARE_TOKENS if ids[token + "</w>"] < rare} == {}


def test_no_rifle_is_offered(drive):
    assert RIFLE not in RARE_TOKENS
    assert Subject.parse("Rex:dog").identifier == Subject("Rex", "dog").identifier == RARE_TOKENS[0]
    assert sample_subject(drive).identifier == RARE_TOKENS[0]


@pytest.mark.parametrize("path", ADVICE, ids=lambda path: path.name)
def test_nothing_that_gives_advice_shows_a_rifle_or_an_identifier_in_pieces(path):
    text = path.read_text(encoding="utf-8")
    shown = re.findall(r"\b[A-Z][a-z]+:[a-z]+:([a-z]+)\b", text)
    assert set(shown) <= set(RARE_TOKENS)
    warned = text.replace(f'"{RIFLE}" is a rifle', "")
    assert path == POCKET_NOTE or re.findall(rf"\b{RIFLE}\b", warned) == []


def test_notebook_1_offers_these_and_the_subjects_own():
    text = (ROOT / "notebooks" / "1_capture_dataset.ipynb").read_text(encoding="utf-8")
    [choices] = re.findall(r'IDENTIFIER = \\"automatic\\"  # @param \[(.*?)\]', text)
    assert re.findall(r"\w+", choices) == ["automatic", *RARE_TOKENS[:3]]


def test_the_command_line_offers_these():
    from typer.testing import CliRunner

    from s2i_lib.cli.main import app

    said = CliRunner().invoke(app, ["dataset", "--help"], env={"COLUMNS": "200"}).output
    assert all(token in said for token in RARE_TOKENS) and RIFLE not in said


def test_a_subject_that_was_made_with_the_rifles_name_keeps_it(drive):
    card = drive.subject("Rex") / "subject.json"
    card.parent.mkdir(parents=True)
    written = {"name": "Rex", "class_noun": "dog", "identifier": RIFLE, "kind": "animal"}
    card.write_text(json.dumps(written))
    assert load_subject(drive, "Rex") == Subject("Rex", "dog", RIFLE, "animal")
    clip_vocabulary.write(drive.models / "sd2.1-base" / "tokenizer")
    check_identifier(RIFLE, drive)
    assert choose_identifier(drive, "Rex") == RIFLE
    assert choose_identifier(drive, "Luna") == RARE_TOKENS[0]
    assert json.loads(card.read_text()) == written


def test_the_sample_that_is_on_a_drive_keeps_the_rifles_name(drive):
    """As the version before wrote it, whose runs were taught it."""
    card = drive.subject("Racer") / "subject.json"
    card.parent.mkdir(parents=True)
    card.write_text('{"name": "Racer", "class_noun": "car", "identifier": "sks", "kind": "object"}')
    assert sample_subject(drive).identifier == load_subject(drive, "Racer").identifier == RIFLE


@pytest.mark.slow
def test_dataset_without_an_identifier_keeps_the_cards(drive):
    from typer.testing import CliRunner

    from s2i_lib.cli.main import app

    photos = PACKAGE / "samples" / "rc_car"
    words = ["dataset", str(photos), "--subject", "Rex", "--class-noun", "dog"]
    root = ["--drive", str(drive.root)]
    for given, kept in (([], RARE_TOKENS[0]), (["--identifier", RIFLE], RIFLE), ([], RIFLE)):
        assert CliRunner().invoke(app, [*words, *given, *root]).exit_code == 0
        assert load_subject(drive, "Rex").identifier == kept


@pytest.mark.slow
def test_a_known_subject_gets_what_is_given_without_its_class_noun(drive):
    from typer.testing import CliRunner

    from s2i_lib.cli.main import app

    save_subject(drive, Subject("Rex", "mascot", kind="animal"))
    words = ["dataset", str(PACKAGE / "samples" / "rc_car"), "--subject", "rex"]
    for given, known in (
        (["--identifier", "gawx"], Subject("Rex", "mascot", "gawx", "animal")),
        (["--kind", "object"], Subject("Rex", "mascot", "gawx", "object")),
        ([], Subject("Rex", "mascot", "gawx", "object")),
    ):
        asked = [*words, *given, "--drive", str(drive.root)]
        assert CliRunner().invoke(app, asked).exit_code == 0
        assert load_subject(drive, "Rex") == known


@pytest.mark.parametrize(
    ("given", "noun"),
    [
        ("a car", "car"), (" dog ", "dog"), ("The  old   mug", "old mug"), ("dogs", "dog"),
        ("puppies", "puppy"), ("boxes", "box"), ("an owl", "owl"), ("glass", "glass"),
        ("bus", "bus"), ("glasses", "glasses"), ("people", "people"),
        ("action figure", "action figure"), ("cookies", "cookie"), ("horses", "horse"),
        ("snowmen", "snowman"), ("ramen", "ramen"), ("tomatoes", "tomato"), ("shoes", "shoes"),
        ("octopuses", "octopus"), ("houses", "house"), ("roses", "rose"), ("taxis", "taxi"),
        ("dog.", "dog"), ('"dog"', "dog"), ("women", "woman"), ("mice", "mouse"),
        ("T-shirt", "T-shirt"), ("rhinoceros", "rhinoceros"), ("thermos", "thermos"),
        ("white canvas", "white canvas"), ("shelf", "shelf"), ("triceratops", "triceratops"),
        ("black and white cat", "black and white cat"), ("cats'", "cat"), ("गाय", "गाय"),
    ],
)  # fmt: skip
def test_a_class_noun_is_a_noun_in_the_singular(given, noun, drive, caplog):
    assert Subject.parse(f"Rex:{given}").class_noun == noun
    assert Subject.choose(drive, "Rex", given).class_noun == noun
    assert ("in the singular" in caplog.text) == (
        given
        in (
            "dogs",
            "puppies",
            "boxes",
            "cookies",
            "horses",
            "women",
            "mice",
            "cats'",
            "snowmen",
            "tomatoes",
            "octopuses",
            "houses",
            "roses",
            "taxis",
        )
    )


def test_no_noun_of_the_pocket_model_is_taken_for_a_plural(drive):
    nouns = json.loads((ROOT / "s2i_lib/pocket/words.json").read_text())["nouns"]
    assert "rhinoceros" in nouns
    assert [one for one in nouns if Subject.choose(drive, "Rex", one).class_noun != one] == []


def test_who_is_given_in_one_word_is_of_the_kind_of_its_noun():
    """An object, it was judged by prompts that are not a dog's."""
    assert Subject.parse("Rex:dogs:ohwx").kind == "animal"
    assert Subject.parse("Ada:woman").kind == "person"


@pytest.mark.parametrize(
    "given",
    [
        "photo of a dog",
        "dog:brown",
        "d" * 800,
        "a",
        "a picture of my cat",
        "dog, brown",
        "dog/cat",
        "12",
        "🐶",
        "dogs and cats",
        "dog's",
        "dog (brown)",
        "my_dog",
    ],
)
def test_what_is_no_class_noun_is_refused(given, drive):
    with pytest.raises(InputError, match="class noun"):
        Subject.choose(drive, "Rex", given)


def test_an_identifier_that_means_something_is_named(drive, caplog):
    save_subject(drive, Subject("Rex", "dog"))
    for who, doubt in (
        (Subject("Luna", "cat", "dog"), "'dog' is a word that means something"),
        (Subject("Luna", "cat"), "'ohwx' is that of Rex, too"),
        (Subject("rex", "dog"), ""),
        (Subject("Luna", "cat", "gawx"), ""),
    ):
        caplog.clear()
        warn_of_identifier(who, drive)
        assert (doubt in caplog.text and "such as flwx" in caplog.text) if doubt else (
            not caplog.text
        )  # fmt: skip
