"""Carry a text encoder over to another vocabulary, so that weights and tokenizer can change apart.

The first pocket model was trained with a vocabulary of its own. Every token of the new one takes
the embedding of the same token in the old one; a word that the old one spelled in pieces takes that
of its everyday word (kitten: cat, plural: singular), else the mean of its pieces; identifiers get
random embeddings as long as trained ones. Nothing is trained.

    python -m tools.pocket.carry_over OLD_MODEL TOKENIZER OUT
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from tools.pocket import world


def stand_ins() -> dict[str, list[str]]:
    """For each word those that show the same: {"kittens": ["cat", "kitten", "kitty"], ...}."""
    groups = [[thing.noun, *thing.also] for thing in world.THINGS]
    groups += list(world.SIZES.values())
    groups += [[painted, heard] for heard, painted in world.SAME_COLOUR.items()]
    same = {word: group for group in groups for word in group}
    return same | {world.plural(word): group for word, group in same.items()}


def embed(
    token: str, old: CLIPTokenizer, table: torch.Tensor, words: dict[str, list[str]]
) -> torch.Tensor | None:
    """The old table's row, or mean of rows, for a token of the new vocabulary; None: unknown."""
    vocabulary = old.get_vocab()
    if token in vocabulary:
        return table[vocabulary[token]]
    if not token.endswith("</w>"):
        return None  # a piece that only ever stood inside longer words
    word = token.removesuffix("</w>")
    spelled = [old.tokenize(each) for each in (*words.get(word, ()), word)]
    pieces = min(spelled, key=len)  # of equals the first: the everyday word
    return table[[vocabulary[piece] for piece in pieces]].mean(0) if pieces else None


def carry_over(model: Path, tokenizer: Path, out: Path) -> None:
    old, new = (CLIPTokenizer.from_pretrained(str(f)) for f in (model / "tokenizer", tokenizer))
    encoder = CLIPTextModel.from_pretrained(str(model / "text_encoder"), dtype=torch.float32)
    source = encoder.get_input_embeddings().weight.detach()
    length = source.norm(dim=1).median()
    generator = torch.Generator().manual_seed(0)
    table = torch.randn((len(new), source.shape[1]), generator=generator)
    table *= length / table.norm(dim=1, keepdim=True)
    words, kept = stand_ins(), 0
    for token, row in new.get_vocab().items():
        if token.removesuffix("</w>") in world.IDENTIFIERS:
            continue
        found = embed(token, old, source, words)
        if found is not None:
            table[row] = found
            kept += 1
    encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(table, freeze=False))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(encoder.config, name, getattr(new, name))
    encoder.config.vocab_size = len(new)
    encoder.half().save_pretrained(out / "text_encoder")
    config = out / "text_encoder" / "config.json"
    # a plain load must not mix precisions: see the prototype's lesson on stored dtypes
    config.write_text(config.read_text().replace('"float16"', '"float32"'))
    shutil.copytree(tokenizer, out / "tokenizer", dirs_exist_ok=True)
    print(f"{kept} of {len(new)} tokens carried over to {out}")


if __name__ == "__main__":
    carry_over(*map(Path, sys.argv[1:4]))
