"""A panorama goes around: nobody finds where it begins, and it is drawn again the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s2i_lib.drawing import gallery
from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.panorama import going_around
from s2i_lib.drawing.sampling import DrawOptions

OPTIONS = DrawOptions(steps=4, seed=5, count=4, is_panorama=True)
LATENTS = 8  # a side, of the pocket model
PROMPT = "a tree on a green background"


@pytest.fixture(scope="module")
def drawn(pocket):
    return draw(pocket, PROMPT, OPTIONS)


def gradients(picture) -> tuple[float, float]:
    """Mean step from the last column to the first, and at the other edges of the latents' cells.

    There the steps are larger than within a cell, all over a picture of the VAE.
    """
    pixels = np.asarray(picture.image).astype(float)
    cell = picture.image.height // LATENTS
    inside = np.abs(np.diff(pixels, axis=1))[:, cell - 1 :: cell].mean()
    return np.abs(pixels[:, 0] - pixels[:, -1]).mean(), inside


def test_the_seam_is_no_steeper_than_the_picture(drawn):
    assert {picture.image.size for picture in drawn} == {(128, 64)}
    seams, insides = zip(*map(gradients, drawn), strict=True)
    assert sum(seams) <= sum(insides)


def test_without_going_around_there_is_a_seam(pocket, drawn, monkeypatch):
    """What the test above measures is what the padding does."""
    from contextlib import nullcontext

    monkeypatch.setattr("s2i_lib.drawing.draw.going_around", lambda pipeline: nullcontext())
    cut = draw(pocket, PROMPT, OPTIONS)
    assert sum(gradients(one)[0] for one in cut) > 3 * sum(gradients(one)[0] for one in drawn)


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


def test_a_panorama_is_made_again_from_its_record(pocket, drawn, tmp_path):
    path = gallery.save(drawn[1], tmp_path)
    again = redo(pocket, gallery.read_record(path))
    assert np.array_equal(np.asarray(again.image), np.asarray(drawn[1].image))
