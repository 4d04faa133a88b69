"""Make the pocket model's CLIPTokenizer, in which every word of the world is one token.

Byte-level BPE in CLIP's format, learned on common English words; then whatever the world can say,
the identifiers and the words that people speak most are made whole tokens by further merges. All
else is spelled in pieces, so no word is lost. Capital letters become small ones, as in CLIP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tools.pocket import words as the_world
from tools.pocket.training import work_folder

MAX_LENGTH = 32  # tokens; the longest caption of the world has some 24
LEARNED_SIZE = 3000  # tokens of the BPE itself, before the whole words are added
COMMON_WORDS = 1500  # the most spoken English words, whole
ASKING = ["please", "draw", "show", "me", "make", "see", "want", "paint"]
BOS, EOS, PAD = "<|startoftext|>", "<|endoftext|>", "!"  # "!" is id 0, SD 2's padding
SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def english(count: int) -> list[str]:
    """Return the most common English words of letters only, most common first."""
    from wordfreq import top_n_list

    return [w for w in top_n_list("en", count) if w.isascii() and w.isalpha()]


def whole_words() -> list[str]:
    """Return every word that must be one token, each once."""
    known = the_world.known_words()
    said: list[str] = []
    for key in (
        "nouns",
        "colours",
        "sizes",
        "counts",
        "patterns",
        "accessories",
        "identifiers",
        "other",
    ):
        said += list(known[key])
    said += [*known["plurals"].values(), *known["places"]]
    said += ASKING + english(COMMON_WORDS)
    return list(dict.fromkeys(w for phrase in said for w in phrase.split()))


def byte_letters() -> list[str]:
    """Return GPT-2's 256 printable stand-ins for bytes, in its order, so that id 0 is "!"."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def learned_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNED_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(words, trainer)
    return [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]


def pieces(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Split a word by the merges, as BPE does: the pair of lowest rank first."""
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda p: ranks.get(p, 1 << 30))
        if best not in ranks:
            break
        joined: list[str] = []
        for part in parts:
            if joined and (joined[-1], part) == best:
                joined[-1] += part
            else:
                joined.append(part)
        parts = joined
    return parts


def make(folder: Path) -> None:
    """Write the tokenizer's files to `folder`."""
    from transformers import CLIPTokenizer

    merges = learned_merges(english(5000) + whole_words() * 3)
    ranks = {pair: i for i, pair in enumerate(merges)}
    for word in whole_words():
        parts = pieces(word, ranks)
        while len(parts) > 1:  # append the merges that are missing, left to right
            ranks[(parts[0], parts[1])] = len(merges)
            merges.append((parts[0], parts[1]))
            parts = pieces(word, ranks)
    letters = byte_letters()
    tokens = letters + [x + "</w>" for x in letters] + [a + b for a, b in merges]
    vocabulary = {t: i for i, t in enumerate([*dict.fromkeys(tokens), BOS, EOS])}

    folder.mkdir(parents=True, exist_ok=True)
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    vocab_text = json.dumps(vocabulary, ensure_ascii=False)
    merges_text = "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""])
    vocab_file.write_text(vocab_text, encoding="utf-8")
    merges_file.write_text(merges_text, encoding="utf-8")
    tokenizer = CLIPTokenizer(
        vocab=str(vocab_file),
        merges=str(merges_file),
        unk_token=EOS,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=MAX_LENGTH,
    )
    tokenizer.save_pretrained(folder)
    # The classic files stay beside tokenizer.json, for whoever reads CLIP's own format.
    vocab_file.write_text(vocab_text, encoding="utf-8")
    merges_file.write_text(merges_text, encoding="utf-8")


def main() -> None:
    from transformers import CLIPTokenizer

    folder = work_folder() / "tokenizer"
    make(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    broken = [w for w in whole_words() if len(tokenizer(w)["input_ids"]) != 3]
    if broken:
        raise SystemExit(f"Not whole tokens: {broken}")
    print(f"{len(tokenizer)} tokens, {len(whole_words())} words whole, {MAX_LENGTH} at most")


if __name__ == "__main__":
    main()
