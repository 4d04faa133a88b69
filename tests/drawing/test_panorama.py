"""A panorama goes around: nobody finds where it begins, and it is drawn again the same."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2i_lib.drawing import gallery
from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.panorama import going_around
from s2i_lib.drawing.sampling import DrawOptions

pytestmark = pytest.mark.slow  # each needs what takes seconds to make
OPTIONS = DrawOptions(seed=5, count=10, is_panorama=True)
LATENTS = 8  # a side, of the pocket model
PROMPT = "a tree on a green background"


@pytest.fixture(scope="module")
def drawn(pocket):
    return draw(pocket, PROMPT, OPTIONS)


def steps_of(picture) -> np.ndarray:
    """Mean absolute step of each column from the one before it; the first is over the edge."""
    pixels = np.asarray(picture.image).astype(float)
    return np.abs(pixels - np.roll(pixels, 1, axis=1)).mean(axis=(0, 2))


def join_and_cells(picture) -> tuple[float, float]:
    """Step where the network's own edges meet, and the median of those between its other cells.

    Between the cells of the latents the steps are larger than within one, all over a picture.
    """
    ours = np.roll(steps_of(picture), picture.record["begins_px"])
    cells = ours[:: picture.image.height // LATENTS]
    return cells[0], float(np.median(cells[1:]))


def test_the_seam_of_each_is_no_steeper_than_its_mean_column(pocket, drawn):
    side = pocket.base.size_px
    assert [picture.image.size for picture in drawn] == [(2 * side, side)] * 10
    for picture in drawn:
        assert steps_of(picture)[0] <= steps_of(picture).mean(), picture.record["seed"]


def test_where_the_edges_of_the_network_meet_is_a_place_like_any_other(drawn):
    """The file begins elsewhere, so its own edge says nothing of how well those two meet."""
    joins, cells = zip(*map(join_and_cells, drawn), strict=True)
    assert np.median(joins) <= np.median(cells) * 1.1


def test_without_going_around_there_is_a_seam(pocket, drawn, monkeypatch):
    """What the test above measures is what the padding does."""
    monkeypatch.setattr("s2i_lib.drawing.draw.going_around", lambda pipeline: nullcontext())
    cut = draw(pocket, PROMPT, replace(OPTIONS, count=4))
    assert np.median([join_and_cells(one)[0] for one in cut]) > 3 * np.median(
        [join_and_cells(one)[0] for one in drawn]
    )


def test_a_turned_circle_is_drawn_as_the_same_circle_turned(pocket):
    """By whole cells of the coarsest grid, where the network has no place of its own."""
    pipeline = pocket.pipeline
    coarsest = 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    side = pocket.base.size_px // pipeline.vae_scale_factor
    latents = torch.randn(1, pipeline.unet.config.in_channels, side, 2 * side)
    text = torch.randn(1, pocket.base.token_limit, pipeline.unet.config.cross_attention_dim)

    def ask(noisy):
        return pipeline.unet(noisy, 500, encoder_hidden_states=text).sample

    with torch.inference_mode():
        own = ask(latents)
        with going_around(pipeline):
            turned = ask(latents.roll(coarsest, -1)).roll(-coarsest, -1)
            straight = ask(latents)
        assert torch.allclose(turned, straight, atol=1e-4)
        assert not torch.allclose(straight, own, atol=1e-2)
        assert torch.equal(ask(latents), own), "the model is as it was"


def test_a_panorama_is_made_again_from_its_record(pocket, tmp_path):
    drawn = draw(pocket, PROMPT, replace(OPTIONS, count=2, steps=2))
    path = gallery.save(drawn[1], tmp_path)
    record = gallery.read_record(path)
    again = redo(pocket, record)
    assert np.array_equal(np.asarray(again.image), np.asarray(drawn[1].image))
    # The version before cut them where the network does.
    begins = record.pop("begins_px")
    older = np.asarray(redo(pocket, record).image)
    assert begins and np.array_equal(older, np.roll(drawn[1].image, begins, axis=1))
