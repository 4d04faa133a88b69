"""CLIP's real vocabulary, as the files of a `CLIPTokenizer`.

`clip_bpe_vocab_16e6.txt.gz` is OpenAI's own list of merges (https://github.com/openai/CLIP,
clip/bpe_simple_vocab_16e6.txt.gz, MIT). How a vocabulary is made of it: clip/simple_tokenizer.py
there. The hub's repositories hold the two files that `write` makes, and no tokenizer.json.
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

SIZE = 49408


def _letters_of_bytes() -> list[str]:
    """Return the printable letters that stand for the 256 bytes, in the vocabulary's order."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    shown += range(ord("®"), ord("ÿ") + 1)
    hidden = 256 - len(shown)
    return [chr(byte) for byte in shown] + [chr(256 + i) for i in range(hidden)]


@functools.cache
def merges() -> list[str]:
    """Return the merges that CLIP uses, most frequent first: "i n", "t h", ..."""
    packed = Path(__file__).with_name("clip_bpe_vocab_16e6.txt.gz").read_bytes()
    return (
        gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    )  # as simple_tokenizer.py cuts it


@functools.cache
def vocabulary() -> dict[str, int]:
    """Return token -> number; a word that is one token ends in ``</w>``."""
    letters = _letters_of_bytes()
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(merge.split()) for merge in merges()]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}


def write(folder: Path) -> None:
    """Write vocab.json and merges.txt into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vocabulary(), ensure_ascii=False)
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    lines = "".join(f"{merge}\n" for merge in merges())
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
