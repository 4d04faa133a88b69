"""Where each word of a prompt looks while a picture is drawn: the U-Net's cross-attention, as maps.

At every place of the latents the U-Net asks which tokens matter there (softmax over the tokens).
Source: Rombach et al. 2022 (arXiv:2112.10752), section 3.3; read out as in Hertz et al. 2022
(arXiv:2208.01626) and averaged over heads, layers and steps as in Tang et al. 2022
(arXiv:2210.04885).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions, Step
from s2i_lib.errors import InputError
from s2i_lib.models.loading import Model

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

BEGIN, END = "(begin)", "(end)"
WORD_END = "</w>"  # how CLIP's tokenizer marks a token that ends a word


@dataclass(frozen=True)
class Attention:
    """One picture, and how much each of its places looked at each word of the prompt."""

    image: Image
    words: tuple[str, ...]
    """(begin), the words, and (end), which includes the padding behind it."""
    maps: np.ndarray
    """Shares, shape = (steps, words, side, side); over the words they sum to 1."""

    def of(self, word: str) -> np.ndarray:
        """Return the map of a word, mean over the steps, shape = (side, side).

        Raises
        ------
        InputError
            When the prompt has no such word; its words are listed.
        """
        places = [i for i, known in enumerate(self.words) if known == word.lower()]
        if not places:
            raise InputError(
                f"The prompt has no word {word!r}. It has: {', '.join(self.words)}. Take one of "
                "these."
            )
        return self.maps[:, places].sum(axis=1).mean(axis=0)

    def shares(self) -> dict[str, float]:
        """Return how much of all attention each word got; they sum to 1."""
        totals = self.maps.mean(axis=(0, 2, 3))
        found: dict[str, float] = {}
        for word, total in zip(self.words, totals, strict=True):
            found[word] = found.get(word, 0.0) + float(total)
        return found


def split_words(tokenizer: Any, text: str, length: int) -> list[tuple[str, list[int]]]:
    """Return the words of ``text`` and the places of their tokens, among ``length`` padded ones.

    (begin) comes first; (end) last, with the padding. Every place belongs to exactly one of them.
    """
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)[1:-1]
    words: list[tuple[str, list[int]]] = [(BEGIN, [0])]
    is_open = False
    for place, piece in enumerate(pieces, start=1):
        if is_open:
            word, places = words.pop()
            words.append((word + piece.removesuffix(WORD_END), [*places, place]))
        else:
            words.append((piece.removesuffix(WORD_END), [place]))
        is_open = not piece.endswith(WORD_END)
    words.append((END, list(range(len(pieces) + 1, length))))
    return words


class Reader:
    """An attention processor that notes the shares and leaves the work to the one before it."""

    def __init__(self, processor: Any, seen: list[torch.Tensor]) -> None:
        self.processor, self.seen = processor, seen

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **others: Any,
    ) -> torch.Tensor:
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        shares = attn.get_attention_scores(query, key)  # (batch x heads, places, tokens)
        shares = shares.unflatten(0, (len(hidden_states), attn.heads))
        self.seen.append(shares[-1].float().mean(dim=0).cpu())  # of a guided pair the second
        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, **others)


@contextmanager
def record_attention(unet: Any) -> Iterator[list[torch.Tensor]]:
    """Note what each cross-attention layer of ``unet`` does, without changing it.

    Yields the list that they are added to, one a layer and call: shape = (places, tokens), the
    mean over the heads, for the last picture of the batch.
    """
    from diffusers.models.attention_processor import Attention as Layer

    seen: list[torch.Tensor] = []
    layers = [m for m in unet.modules() if isinstance(m, Layer) and m.is_cross_attention]
    before = [layer.get_processor() for layer in layers]
    try:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(Reader(processor, seen))
        yield seen
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


def mean_map(layers: list[torch.Tensor]) -> torch.Tensor:
    """Return the layers' mean share at the finest one's size, shape = (tokens, side, side)."""
    import torch

    sides = [round(len(layer) ** 0.5) for layer in layers]
    squares = [
        layer.T.reshape(1, -1, side, side) for layer, side in zip(layers, sides, strict=True)
    ]
    # Bilinear weights sum to 1, so shares stay shares.
    enlarged = [
        torch.nn.functional.interpolate(square, size=max(sides), mode="bilinear")
        for square in squares
    ]
    return torch.cat(enlarged).mean(dim=0)


def draw_with_attention(model: Model, text: str, options: DrawOptions | None = None) -> Attention:
    """Draw one picture, the same as ``draw`` does, and note where each word looked.

    Raises
    ------
    InputError
        When the prompt is empty or longer than the model can read.
    """
    import torch

    options = replace(options or DrawOptions(), count=1)
    words = split_words(model.pipeline.tokenizer, text.strip(), model.base.token_limit)
    maps: list[np.ndarray] = []
    with record_attention(model.pipeline.unet) as seen:

        def note(step: Step) -> None:
            by_token = mean_map(seen)
            seen.clear()
            by_word = [by_token[places].sum(dim=0) for _, places in words]
            maps.append(torch.stack(by_word).numpy())

        (picture,) = draw(model, text, options, on_step=note)
    return Attention(picture.image, tuple(word for word, _ in words), np.stack(maps))
