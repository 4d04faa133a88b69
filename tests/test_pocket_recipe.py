"""How the pocket model is made: properties of the recipe that need neither icons nor training."""

import json

import numpy as np
import torch

from tools.pocket import unet, vae, world
from tools.pocket.training import SHIPPED


def test_held_out_pairs_are_never_drawn_for_training():
    rng = np.random.default_rng(0)
    drawn = {(s.noun, s.colour) for s in (world.random_scene(rng) for _ in range(5000))}
    assert len(drawn) > 900
    assert not drawn & set(world.HELD_OUT)
    assert 0.03 < len(world.HELD_OUT) / (len(world.NOUNS) * len(world.COLOURS)) < 0.07


def test_captions_say_what_is_painted():
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = world.random_scene(rng)
        said = world.words(rng, scene).replace(",", "").split()
        assert (scene.count > 1) == bool({"two", "three"} & set(said))
        for size, ways in world.SIZES.items():
            assert (scene.size == size) == bool(set(ways) & set(said))


def test_words_json_is_the_world():
    words = json.loads((SHIPPED / "words.json").read_text())
    assert words == world.known_words(unseen=words["unseen"])
    assert set(words["unseen"]) <= set(words["nouns"])


def test_the_encoder_is_the_pca_it_was_given():
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(192, vae.LATENTS)))[0].T
    mean = rng.normal(size=192) * 0.1
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    patches = pictures.reshape(3, 3, 8, 8, 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(3, 64, 192)
    expected = (patches.double() - torch.tensor(mean)) @ torch.tensor(basis).T
    with torch.no_grad():
        made = vae.build(mean, basis).eval().encode(pictures).latent_dist
    found = made.mean.reshape(3, vae.LATENTS, 64).transpose(1, 2)
    assert (found - expected).abs().max() < 0.02  # of a spread of 0.6: the norm is not quite still
    assert torch.allclose(made.logvar, torch.full_like(made.logvar, vae.LOG_VARIANCE), atol=1e-4)


def test_orthogonalising_makes_singular_values_alike():
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(300, 40, generator=generator) @ torch.diag(torch.logspace(0, -1, 40))
    for matrix in (tall, tall.T):
        before = torch.linalg.svdvals(matrix)
        after = torch.linalg.svdvals(unet.orthogonalised(matrix).float())
        assert before.max() > 3 * before.min()
        assert after.max() < 3 * after.min()
        assert after.max() < 1.4


def test_a_branch_ends_at_a_rate_of_zero_and_the_trunk_keeps_its_own():
    branch = unet.Plan("branch", branch_steps=100)
    assert branch.share(1000, 1000) == 1
    assert 0 < branch.share(1099, 1000) < 0.02
    assert unet.Plan("trunk").share(1000, 0) == unet.Plan("trunk").share(29_999, 0) == 1
