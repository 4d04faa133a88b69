"""The pocket model's world: properties of its words and of how it is painted."""

import json
import zlib

import numpy as np
import pytest
from PIL import Image

from tools.pocket import dress, icons, individuals, judge, places, words, world
from tools.pocket.training import SHIPPED


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A world whose icons are discs and whose places are of one colour."""
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    disc = np.zeros((128, 128, 4), np.uint8)
    disc[np.hypot(x, y) < 0.9] = (200, 60, 50, 255)
    mask = disc[..., 3].copy()
    count = len(words.NOUNS)
    made = world.Icons(
        np.broadcast_to(disc, (count, 3, 128, 128, 4)),
        np.broadcast_to(mask, (count, 3, 128, 128)),
        np.full((count, 3), "red"),
    )
    grounds = {
        (p, n): np.full((2, places.BANK_PX, places.BANK_PX, 3), 90 + 60 * n, np.uint8)
        for p in words.PLACE_NAMES
        for n in (False, True)
    }
    worn = dict.fromkeys(words.ACCESSORY_NAMES, disc)
    for module, name, value in (
        (world, "icons", lambda: made),
        (places, "bank", lambda: grounds),
        (dress, "worn", lambda: worn),
    ):
        monkeypatch.setattr(module, name, value)
    for cached in (dress.head_of, dress.paintable_part, world.painted_accessory):
        cached.cache_clear()
    yield made
    for cached in (dress.head_of, dress.paintable_part, world.painted_accessory):
        cached.cache_clear()


def test_the_world_is_as_large_as_it_was_to_be():
    assert len(words.NOUNS) >= 200
    assert len(set(words.NOUNS)) == len(words.NOUNS)
    assert len(words.PLACES) >= 20
    assert len(words.ACCESSORIES) >= 10
    assert set(places.PAINTERS) == set(words.PLACE_NAMES)
    said = [w for t in words.THINGS for w in (t.noun, *t.also)]
    assert len(set(said)) == len(said)  # no word means two things


def test_no_word_means_two_things():
    known = words.known_words()
    nouns = {w for noun in known["nouns"] for w in noun.split()}
    assert not nouns & set(known["sizes"])
    assert not set(known["identifiers"]) & nouns
    assert nouns & set(known["colours"]) == {"orange"}  # the fruit


def test_words_json_is_the_world():
    assert json.loads((SHIPPED / "words.json").read_text()) == words.known_words()


@pytest.mark.slow
def test_held_out_pairs_are_one_in_twenty_and_never_drawn(drawn):
    rng = np.random.default_rng(0)
    for relation in ("on", "in", "at", "wearing"):
        share = len(words.held_out(relation)) / len(words.NOUNS)
        assert 0.2 < share < 1.0, relation  # of 11, 11, 20 and 11 others
    for _ in range(4000):
        s = world.random_scene(rng)
        if s.place:
            assert not words.is_held_out(s.noun, "at", s.place)
        else:
            assert not words.is_held_out(s.noun, "on", s.colour)
        assert not (s.painted and words.is_held_out(s.noun, "in", s.painted))
        assert not (s.accessory and words.is_held_out(s.noun, "wearing", s.accessory))


def test_a_pair_of_noun_and_ground_is_held_out_by_its_names_alone():
    expected = zlib.crc32(b"cat|blue") % 20 == 0
    assert words.is_held_out("cat", "on", "blue") is expected


def test_captions_say_what_is_painted(drawn):
    rng = np.random.default_rng(1)
    for _ in range(500):
        scene = world.random_scene(rng)
        said = f" {world.caption(rng, scene)} "
        tokens = said.split()
        assert (scene.count > 1) == bool({"two", "three"} & set(tokens))
        assert scene.night == said.endswith(" at night ")
        for size, ways in words.SIZES.items():
            assert (scene.size == size) == bool(set(ways) & set(tokens))
        if scene.place:
            assert any(f" {way} " in said for way in words.BY_PLACE[scene.place].ways)
        if scene.accessory:
            worn = words.BY_ACCESSORY[scene.accessory]
            assert any(f" {name} " in said for name in (worn.name, *worn.also))
        if scene.second:
            assert f" {scene.link} " in said


def test_no_identifier_is_ever_said(drawn):
    rng = np.random.default_rng(2)
    said = {w for _ in range(500) for w in world.caption(rng, world.random_scene(rng)).split()}
    assert not said & set(words.IDENTIFIERS)


def test_bare_ground_is_said_and_shows_nothing_else(drawn):
    rng = np.random.default_rng(5)
    for _ in range(40):
        scene = world.bare_ground(rng)
        said = world.caption(rng, scene)
        assert said.startswith("nothing ") and scene.is_plain
        if not scene.place:
            pixels = world.paint(rng, scene).astype(int)
            assert np.abs(pixels - pixels.mean((0, 1))).mean() < 12, said


def test_a_thing_is_not_of_its_grounds_colour(drawn):
    rng = np.random.default_rng(3)
    for _ in range(1000):
        scene = world.random_scene(rng)
        assert scene.place or world.shown_colour(scene) != scene.colour


def test_scenes_depend_on_the_seed_alone(drawn):
    def made():
        rng = np.random.default_rng(4)
        return [world.paint(rng, world.random_scene(rng)) for _ in range(20)]

    first = made()
    assert all(p.shape == (128, 128, 3) and p.dtype == np.uint8 for p in first)
    assert all((a == b).all() for a, b in zip(first, made(), strict=True))


def test_paint_is_the_colour_that_was_asked_for(drawn):
    disc, mask = drawn.rgba[0, 0], drawn.masks[0, 0]
    for colour in words.COLOURS:
        made = world.recoloured(disc, mask, colour)
        mean = made[64, 64, :3].astype(float)
        away = {c: np.abs(mean - np.array(v)).sum() for c, v in world.PAINTS.items()}
        assert min(away, key=away.__getitem__) == colour
        assert (made[..., 3] == disc[..., 3]).all()


def test_what_is_worn_makes_the_outline_larger(drawn):
    worn = dress.worn()["hat"]
    made = dress.dressed(drawn.rgba[0, 0], "cat", 0, "hat", worn, np.zeros(4))
    alpha = np.asarray(Image.fromarray(made).getchannel("A"))
    assert (alpha[: dress.MARGIN] > 0).any()  # above the icon


@pytest.mark.slow
def test_two_views_of_an_individual_are_more_alike_than_two_individuals(drawn):
    one, other = individuals.pairs(np.random.default_rng(3), nouns=8).astype(np.float32)
    colours = [[picture[40:88, 40:88].mean((0, 1)) for picture in views] for views in (one, other)]
    apart = np.linalg.norm(np.array(colours[0])[:, None] - np.array(colours[1])[None], axis=-1)
    others = apart[~np.eye(len(apart), dtype=bool)]
    assert apart.diagonal().mean() < 0.5 * others.mean()
    assert one.shape == (24, 128, 128, 3) and not np.array_equal(one, other)
    corners = one[:, :6, :6].reshape(-1, 3)
    assert np.abs(corners - 127).max() < 40, "around what was cut out it is grey"


def test_plurals_and_articles():
    assert words.plural("mouse") == "mice"
    assert words.plural("butterfly") == "butterflies"
    assert words.plural("box") == "boxes"
    assert words.with_article("unicorn") == "a unicorn"
    assert words.with_article("owl") == "an owl"
    assert words.with_article("red scissors") == "red scissors"


def test_own_colours_are_named_as_people_would():
    disc = np.zeros((128, 128, 4), np.uint8)
    for colour, name in (
        ((200, 40, 40), "red"),
        ((120, 75, 45), "brown"),
        ((60, 160, 70), "green"),
    ):
        disc[20:100, 20:100] = (*colour, 255)
        assert icons.own_colour(disc, icons.paintable(disc, "")) == name


def test_the_judge_learns_two_nouns_as_half_of_each(drawn):
    scenes = [vars(world.Scene("cat")), vars(world.Scene("dog", second="robot", place="beach"))]
    right = judge.truths([{**scene, "caption": "", "plain": True} for scene in scenes])
    cat, dog = (words.NOUNS.index(noun) for noun in ("cat", "dog"))
    assert right["noun"][0, cat] == 1 and right["noun"].sum(1).tolist() == [1, 1]
    assert right["noun"][1, dog] == 0.5
    assert [judge.ANSWERS["place"][i] for i in right["place"]] == ["", "beach"]


def test_coloured_sunglasses_have_dark_lenses_still_and_glasses_clear_ones(drawn):
    plain, red = (world.painted_accessory("sunglasses", colour) for colour in ("", "red"))
    assert (plain[64, 64] == red[64, 64]).all() and (plain != red).any()
    made = np.zeros((128, 128, 4), np.uint8)
    made[30:90, 10:118] = (60, 50, 80, 255)
    made[38:82, 18:110] = (60, 150, 250, 255)  # blue lenses
    clear = dress._with_clear_lenses(made)
    assert (clear[60, 64] == dress.LENS).all()
    assert (clear[60, 12] == clear[60, 19]).all(), "the rim is broader than it was"


def test_what_is_worn_on_the_smallest_heads_can_be_seen(drawn):
    for noun in dress.HEADS:
        for look in (0, 1):
            assert dress.head_of(noun, look).width >= dress.LEAST_WIDTH
