"""What the pocket model is measured by: prompts, verdicts and rests, on made pictures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import changes, dreambooth_quality, pocket
from benchmarks.pocket import Asked
from benchmarks.speech_to_image import make_wishes
from tools.pocket import dress, words, world

# Own colours of the three looks, as the drawn icons have them; the table names those of others.
OWN = {"cactus": "green", "snowman": "white", "cloud": "white", "bread": "orange"}


@pytest.fixture(scope="module", autouse=True)
def icons():
    """What is known of the icons without drawing them: in one look of three, some own colours."""
    own = np.array([[OWN.get(noun, ""), "", ""] for noun in words.NOUNS])
    made = world.Icons(np.zeros(0, np.uint8), np.zeros(0, np.uint8), own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "icons", lambda: made)
        yield


@pytest.fixture(scope="module")
def cases(icons):
    """Changes by voice: twenty of each kind and more."""
    return changes.make_cases(400)


def seen(**answers):
    """What the judge might say of a picture of a cat on a plain ground."""
    one = {"noun": "cat", "pair": ("cat", "cat"), "count": "one", "place": "", "accessory": ""}
    return SimpleNamespace(**one | {"colour": "orange"} | answers)


def picture(ground: str, thing: str = "", top: int = 40, low: int = 88) -> np.ndarray:
    """A square thing on a plain ground, 128 px."""
    made = np.full((128, 128, 3), words.COLOURS[ground], np.uint8)
    if thing:
        made[top:low, 40:88] = words.COLOURS[thing]
    return made


def test_prompts_ask_for_pairs_that_were_never_trained_on():
    asked = pocket.make_prompts(60)
    relations = {
        "ground": ("on", "ground"),
        "place": ("at", "place"),
        "worn": ("wearing", "accessory"),
    }
    for kind, (relation, key) in relations.items():
        assert all(words.is_held_out(one.noun, relation, getattr(one, key)) for one in asked[kind])
        assert len({one.prompt for one in asked[kind]}) == 60
    assert all(len(some) == 60 for some in asked.values())
    assert {one.count for one in asked["number"]} == {"one", "two", "three"}
    assert set(pocket.ROWS) == {
        (kind, key) for kind, some in asked.items()
        for key in some[0].rights(picture("red"), seen())
    }  # fmt: skip


def test_no_noun_is_asked_for_in_its_own_colour_or_on_a_ground_of_it():
    asked = pocket.make_prompts(300)
    own = {noun: world.own_colours(noun) for noun in words.NOUNS}
    assert own["bear"] == {"brown"} and own["cactus"] == {"green"} and own["cow"] == set()
    for one in ("bear", "in", "brown"), ("cactus", "in", "green"), ("penguin", "on", "black"):
        assert words.is_held_out(*one), "else this tests nothing"
    for wish in (*asked["ground"], *make_wishes(4000)):
        assert wish.place or wish.ground not in own[wish.noun], wish
    for noun, colour in pocket.held_out("in", 300):
        assert colour not in own[noun] and noun in words.PAINTABLE
        assert any(f"{colour} {noun} on" in one.prompt for one in asked["paint"])


def test_only_what_has_a_head_is_asked_to_wear_something():
    worn = pocket.make_prompts(200)["worn"]
    assert {one.noun for one in worn} <= set(dress.WEARERS)
    assert not {"crocodile", "sloth"} & set(dress.WEARERS)
    assert any(noun in dress.NO_HEAD for noun, _ in words.held_out("wearing"))


def test_two_things_and_numbers_of_things_are_of_all_kinds():
    asked = pocket.make_prompts(300)
    kinds = {thing.kind for thing in words.THINGS}
    counted = {one.prompt.split(" ", 1)[1] for one in asked["number"]}
    plurals = {words.plural(noun): words.BY_NOUN[noun].kind for noun in words.COUNTABLE}
    assert {kind for noun, kind in plurals.items() if noun in counted} == kinds
    two = asked["two"]
    assert {words.BY_NOUN[noun].kind for one in two for noun in (one.noun, one.second)} == kinds
    assert {"and", "with"} == {
        link for one in two for link in ("and", "with") if f" {link} " in one.prompt
    }
    assert not any(one.noun == one.second or one.second == "balloon" for one in two)


def test_small_and_big_things_are_said_as_people_do_and_stand_out():
    small, big = pocket.size_prompts(60)
    assert [prompt.replace(" small ", " big ") for prompt in small] == big
    for prompt in small:
        noun, _, ground = prompt.partition(" on ")
        noun = noun.removeprefix("a small ")
        assert noun in words.COUNTABLE
        assert pocket.shows_on(noun, ground.removeprefix("a ").removesuffix(" background"))
    assert pocket.ground_for("snowman") != "white" == pocket.ground_for("dog")
    assert pocket.ground_for("dog", painted="white") != "white"


def test_a_verdict_speaks_of_what_was_asked_for_and_of_nothing_else():
    red = picture("red", "white")
    assert Asked("a cat", "cat").rights(red, seen()) == {"noun": True}
    assert Asked("a cat on red", "cat", ground="red").rights(red, seen()) == {
        "ground": True, "noun": True,
    }  # fmt: skip
    assert Asked("", place="beach").rights(red, seen()) == {"place": False}
    two = Asked("a cat and a dog", "cat", second="dog")
    assert two.rights(red, seen(pair=("dog", "cat"))) == {"both": True}
    assert two.rights(red, seen(pair=("cat", "cat"))) == {"both": False}


@pytest.mark.parametrize("colour", words.COLOUR_NAMES)
def test_a_ground_is_told_by_the_border_whatever_stands_on_it(colour):
    other = "white" if colour != "white" else "black"
    assert pocket.background_of(picture(colour, other, 8, 128)) == colour


def test_wishes_are_for_grounds_and_places_in_turn():
    wishes = make_wishes(40)
    assert len({wish.prompt for wish in wishes}) == 40
    assert [bool(wish.place) for wish in wishes] == [False, True] * 20
    assert all(bool(wish.place) != bool(wish.ground) for wish in wishes)


def test_changes_are_read_as_the_kind_that_they_are(cases):
    assert {case.kind for case in cases} == set(changes.KINDS)
    read_as = {"ground": "place", "take off": "remove"}  # the others by their own name
    for case in cases:
        assert case.change.kind == read_as.get(case.kind, case.kind), case


def test_the_prompt_after_a_change_has_what_is_asked_for_and_not_what_is_gone(cases):
    ways = {
        "place": lambda name: words.BY_PLACE[name].ways[0],
        "accessory": words.way_of_wearing,
        "ground": words.on_ground,
    }
    asked = {
        "ground": ["ground"], "place": ["place"], "colour": ["colour"], "replace": ["noun"],
        "worn": ["accessory"], "take off": ["noun"], "add": ["noun", "second"],
        "remove": ["noun"], "size": [], "count": ["count"],
    }  # fmt: skip
    for case in cases:
        wanted = {name: said for name, said in vars(case.wanted).items() if said}
        assert [*wanted] == ["prompt", *asked[case.kind]], case
        for name in asked[case.kind]:
            assert ways.get(name, str)(wanted[name]) in case.wanted.prompt, case
        if case.kind in ("take off", "remove"):
            taken = case.said.split(" ")[-1]
            assert f" {taken} " in case.before and f" {taken} " not in case.wanted.prompt, case
        if case.kind == "size":
            size = {"make it bigger": "big", "make it smaller": "small"}[case.said]
            assert f" {size} " in case.wanted.prompt, case


def test_nothing_is_changed_that_has_the_colour_of_its_ground(cases):
    for case in cases:
        things = [noun for noun in changes.NOUNS if f" {noun} " in f" {case.before} {case.said} "]
        ground = case.before.split(" ")[-2]
        assert all(pocket.shows_on(noun, ground) for noun in things), case
        if case.kind == "ground":
            assert all(pocket.shows_on(noun, case.wanted.ground) for noun in things), case


def test_kept_pictures_of_another_model_or_of_other_changes_are_refused(cases, tmp_path):
    file, images = tmp_path / "kept.npz", np.zeros((4, 2, 8, 8, 3), np.uint8)
    wanted = ["model", "8", "a cat: make it blue", "a dog: make it red", "an owl: make it two"]
    for more in ({}, {"drawn": ["another", *wanted[1:4]]}, {"drawn": [*wanted[:3], "a fox: no"]}):
        np.savez(file, images=images, **more)
        with pytest.raises(SystemExit, match="of another model, of other changes or with other"):
            changes.read_kept(file, wanted)
    np.savez(file, images=images, drawn=wanted[:4])
    assert changes.read_kept(file, wanted).shape == images.shape
    assert changes.read_kept(file, wanted[:3]).shape == images.shape


def test_what_was_measured_of_another_model_does_not_count(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert dreambooth_quality.read_lines(path, "new") == []
    lines = [{"seed": 0}, {"seed": 1, "model": "old"}, {"seed": 2, "model": "new"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert dreambooth_quality.read_lines(path, "new") == lines[2:]


def test_a_change_of_size_is_done_where_more_or_less_stands_out(cases):
    bigger = next(c for c in cases if c.said == "make it bigger")
    small, big = picture("red", "white", 60, 80), picture("red", "white", 20, 110)
    assert changes.is_done(bigger, small, big, seen())
    assert not changes.is_done(bigger, big, small, seen())


def test_what_is_taken_off_or_away_must_be_gone(cases):
    by_kind = {case.kind: case for case in cases}
    off, away = by_kind["take off"], by_kind["remove"]
    shot = picture("red")
    assert changes.is_done(off, shot, shot, seen(noun=off.wanted.noun))
    assert not changes.is_done(off, shot, shot, seen(noun=off.wanted.noun, accessory="hat"))
    assert changes.is_done(away, shot, shot, seen(noun=away.wanted.noun))
    pair = (away.wanted.noun, away.gone)
    assert not changes.is_done(away, shot, shot, seen(noun=away.wanted.noun, pair=pair))


def test_the_rest_of_a_new_ground_is_the_thing_and_of_a_new_thing_the_ground(cases):
    by_kind = {case.kind: case for case in cases}
    one, other = picture("red", "white"), picture("blue", "white", 40, 100)
    rest = changes.find_rests(by_kind["ground"], one, other)["ground"]
    assert rest.sum() == 48 * 48 and rest[64, 64]
    rest = changes.find_rests(by_kind["colour"], one, picture("red", "green"))["colour"]
    assert rest.sum() == 128 * 128 - 48 * 48 and not rest[64, 64]
    rests = changes.find_rests(by_kind["worn"], one, one)
    assert rests["worn: the lower half"][80, 64] and not rests["worn: the lower half"][50, 64]
    assert changes.square_error(rests["worn"], one, one) == 0
    assert changes.square_error(np.zeros((128, 128), bool), one, one) is None
