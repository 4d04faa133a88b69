"""What a change does not speak of stays, and what it speaks of changes."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.keeping import SUBJECT, SURROUNDINGS, Keeper, Kept, kept_of
from s2i_lib.drawing.records import Chain, Picture, steps_of
from s2i_lib.drawing.sampling import DrawOptions, encode, sample_latents
from s2i_lib.errors import InputError
from s2i_lib.models.schedulers import SCHEDULERS
from s2i_lib.speech.prompt import Prompt

CAR = "a red car on a yellow background"
OPTIONS = DrawOptions(steps=5, seed=7)


@pytest.fixture(scope="module")
def car(pocket) -> Picture:
    return draw(pocket, CAR, OPTIONS)[0]


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(picture.image, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "stays", "channel"),
    [
        ("a blue car on a yellow background", SURROUNDINGS, 2),
        ("a red car on a blue background", SUBJECT, 2),
    ],
)
def test_rest_is_nearer_than_from_the_noise_alone_and_the_change_is_done(
    pocket, car, text, stays, channel
):
    [same] = draw(pocket, text, OPTIONS)
    [kept] = draw(pocket, text, OPTIONS, kept=[Kept(car.image, stays)])
    subject = Keeper(pocket, Kept(car.image, stays))._subject
    edge = np.zeros_like(subject)
    edge[[0, 1, -2, -1]] = edge[:, [0, 1, -2, -1]] = True
    rest, changed = (subject, edge) if stays == SUBJECT else (edge, subject)
    before = pixels(car)
    errors = [np.square(pixels(one) - before)[rest].mean() for one in (same, kept)]
    assert errors[1] < 0.7 * errors[0]
    rise = (pixels(kept) - before)[changed].mean(axis=0)
    assert rise[channel] > 20 and rise[0] < -20, "blue comes, and red goes"
    assert (same.record["kept"], kept.record["kept"]) == ("", stays)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_latents_that_stay_are_those_of_the_last_picture(pocket, car, scheduler):
    keeper = Keeper(pocket, Kept(car.image, SUBJECT))
    options = DrawOptions(steps=2, scheduler=scheduler)
    latents = sample_latents(pocket, Prompt("a blue car"), options, [7], blend=keeper.blend)
    stays = keeper._cells.expand_as(latents)
    assert 0 < stays.float().mean() < 0.9
    assert latents[stays].equal(encode(pocket, car.image)[stays])


@pytest.mark.slow
def test_picture_in_which_nothing_stands_out_is_drawn_as_without(pocket):
    plain = PIL.Image.new("RGB", (pocket.base.size_px,) * 2, "gray")
    [without] = draw(pocket, CAR, DrawOptions(steps=1, seed=7))
    [kept] = draw(pocket, CAR, DrawOptions(steps=1, seed=7), kept=[Kept(plain, SUBJECT)])
    assert kept.image.tobytes() == without.image.tobytes()


def test_nothing_is_kept_where_redo_could_not_draw_the_picture_before(pocket, car):
    chain = Chain("make it blue", "colour", [car], SURROUNDINGS)
    assert [one.stays for one in kept_of(pocket, chain, OPTIONS)] == [SURROUNDINGS]
    other = Picture(car.image, car.record | {"hashes": {}})
    assert kept_of(pocket, Chain("", "colour", [car, other], SURROUNDINGS), OPTIONS) == []
    assert kept_of(pocket, Chain("", "colour", [car]), OPTIONS) == []
    assert kept_of(pocket, chain, DrawOptions(is_panorama=True)) == []
    assert kept_of(pocket, None, OPTIONS) == []


def test_step_of_an_older_version_kept_nothing(car):
    old = {name: value for name, value in car.record.items() if name != "kept"}
    new = Picture(car.image, car.record | {"kept": SUBJECT, "prompt": "a car"})
    chain = Chain("on the moon", "place", [Picture(car.image, old)], SUBJECT)
    steps = steps_of(chain.write_in(new, 0).record)
    assert [(step["kept"], step["prompt"]) for step in steps] == [("", CAR), (SUBJECT, "a car")]


@pytest.mark.parametrize(
    ("kept", "hint"), [(SUBJECT, "not what that was"), ("all", "'all' was kept")]
)
def test_record_that_lacks_what_it_keeps_is_refused(pocket, car, kept, hint):
    with pytest.raises(InputError, match=hint):
        redo(pocket, car.record | {"kept": kept})
