"""CLIP's real vocabulary, and the tokenizer files that repositories make of it.

``clip_bpe_vocab_16e6.txt.gz`` is ``bpe_simple_vocab_16e6.txt.gz`` of openai/CLIP (copyright OpenAI,
MIT licence), byte for byte. CLIP takes its first 48,894 merges, and so do Stable Diffusion 1 and 2.
Source: ``SimpleTokenizer.__init__`` in openai/CLIP, clip/simple_tokenizer.py.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("clip_bpe_vocab_16e6.txt.gz")
SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
SIZE = 49408  # 256 bytes, these at the end of a word, the merges, begin and end of a text
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def byte_letters() -> list[str]:
    """Return the printable stand-in of each byte, in the order of CLIP's first 256 ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    printable += range(ord("®"), ord("ÿ") + 1)
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(others)]


@cache
def merges() -> tuple[str, ...]:
    """Return the merges that CLIP uses, such as "i n", the most frequent first."""
    lines = gzip.decompress(FILE.read_bytes()).decode().split("\n")
    return tuple(lines[1 : 1 + SIZE - 2 * 256 - 2])  # the first line is a title


@cache
def vocabulary() -> dict[str, int]:
    """Return each token's id; a word that is one token ends in "</w>"."""
    letters = byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(merge.split()) for merge in merges()]
    return {token: i for i, token in enumerate([*tokens, BOS, EOS])}


def write_tokenizer(folder: Path) -> Path:
    """Write vocab.json and merges.txt, as the repositories of Stable Diffusion have them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(vocabulary(), ensure_ascii=False)
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    lines = "\n".join(["#version: 0.2", *merges(), ""])
    (folder / "merges.txt").write_text(lines, encoding="utf-8")
    return folder
