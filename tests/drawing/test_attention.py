"""Attention maps: shares that sum to one, for the words of the prompt, of the unchanged picture."""

import numpy as np
import pytest
import torch
from tiny_model import make_pipeline

from s2i_lib.drawing.attention import (
    BEGIN,
    END,
    draw_with_attention,
    mean_map,
    record_attention,
    split_words,
)
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError

PROMPT = "a red car on a yellow background"
FEW = DrawOptions(steps=3, seed=5)


@pytest.fixture(scope="module")
def seen(pocket):
    return draw_with_attention(pocket, PROMPT, FEW)


def test_maps_are_shares_of_the_words_at_every_place_and_step(seen):
    assert seen.words == (BEGIN, *PROMPT.split(), END)
    steps, words, high, wide = seen.maps.shape
    assert (steps, words) == (3, len(seen.words)) and high == wide > 1
    assert seen.maps.min() >= 0
    np.testing.assert_allclose(seen.maps.sum(axis=1), 1, atol=1e-5)
    assert sum(seen.shares().values()) == pytest.approx(1, abs=1e-5)


def test_words_are_looked_at_in_different_places(seen):
    """The object is read where the object is, the background's colour around it."""
    car, yellow = seen.of("car"), seen.of("yellow")
    assert min(car.std() / car.mean(), yellow.std() / yellow.mean()) > 0.1
    assert np.corrcoef(car.ravel(), yellow.ravel())[0, 1] < -0.1


def test_watching_changes_neither_the_picture_nor_the_model(pocket, seen):
    before = dict(pocket.pipeline.unet.attn_processors)
    (unwatched,) = draw(pocket, PROMPT, FEW)
    assert seen.image.tobytes() == unwatched.image.tobytes()
    assert dict(pocket.pipeline.unet.attn_processors) == before
    with pytest.raises(InputError, match="empty"):
        draw_with_attention(pocket, " ", FEW)
    assert dict(pocket.pipeline.unet.attn_processors) == before


def test_without_guidance_the_prompt_is_watched_too(pocket, seen):
    plain = draw_with_attention(pocket, PROMPT, DrawOptions(steps=3, seed=5, guidance_scale=1))
    # The first step sees the same noise and the same prompt.
    np.testing.assert_allclose(plain.maps[0], seen.maps[0], atol=1e-5)


def test_a_word_that_comes_twice_has_both_its_maps(seen):
    twice = [i for i, word in enumerate(seen.words) if word == "a"]
    assert len(twice) == 2
    np.testing.assert_allclose(seen.of("a"), seen.maps[:, twice].sum(axis=1).mean(axis=0))
    with pytest.raises(InputError, match=r"no word 'dog'.*yellow"):
        seen.of("dog")


def test_pieces_of_a_rare_word_are_one_word(pocket):
    tokenizer = pocket.pipeline.tokenizer
    text = "a photograph of unbelievable sks"
    limit = pocket.base.token_limit
    words = split_words(tokenizer, text, limit)
    assert [word for word, _ in words] == [BEGIN, *text.split(), END]
    assert [place for _, places in words for place in places] == list(range(limit))
    assert max(len(places) for _, places in words[1:-1]) > 1


def test_shares_are_the_softmax_that_the_layer_itself_computes():
    """Against torch's own attention in a small U-Net with other shapes than the shipped one."""
    pipeline = make_pipeline()
    unet = pipeline.unet
    layer = next(module for name, module in unet.named_modules() if name.endswith("attn2"))
    width, text_width = layer.to_q.in_features, layer.to_k.in_features
    generator = torch.Generator().manual_seed(0)
    places, text = (
        torch.randn((2, n, size), generator=generator) for n, size in ((9, width), (5, text_width))
    )
    with torch.inference_mode(), record_attention(unet) as seen:
        layer(places, encoder_hidden_states=text)
        heads = [x.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                 for x in (layer.to_q(places), layer.to_k(text))]  # fmt: skip
        one_hot = torch.eye(5).expand(2, layer.heads, 5, 5)
        expected = torch.nn.functional.scaled_dot_product_attention(*heads, one_hot)
    torch.testing.assert_close(seen[0], expected[1].mean(dim=0))


def test_coarse_layers_are_enlarged_and_stay_shares():
    fine, coarse = torch.rand(64, 7).softmax(dim=1), torch.rand(16, 7).softmax(dim=1)
    whole = mean_map([fine, coarse])
    assert whole.shape == (7, 8, 8)
    torch.testing.assert_close(whole.sum(dim=0), torch.ones(8, 8))
    torch.testing.assert_close(mean_map([fine]).flatten(1).T, fine)
