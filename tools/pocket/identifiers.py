"""Give the tokenizer that ships more identifiers, without training anything anew.

    python -m tools.pocket.identifiers     # does nothing where they are tokens already

A new token needs a row of the text encoder's embedding. 26 rows belong to bytes that no text has
(in UTF-8 there is no 192, 193 or 245 to 255), so that no training has met them either, as it has
met no identifier. Such a row gets the identifier's name, and the merges one more, the last: words
that do not end in the whole identifier are cut as before.
"""

from __future__ import annotations

import json
from pathlib import Path

from s2i_lib.models.registry import PACKAGE
from tools.pocket.tokenizer import byte_letters, pieces
from tools.pocket.world import IDENTIFIERS, known_words

NEVER = (192, 193, *range(245, 256))


def free_tokens() -> list[str]:
    """Return the tokens of bytes that no text has."""
    letters = byte_letters()
    assert letters[124] == chr(192)  # above 173 the order is the bytes'
    return [chr(byte) + "</w>" for byte in NEVER] + [chr(byte) for byte in NEVER]


def add(folder: Path, identifiers: list[str]) -> list[str]:
    """Make identifiers tokens in vocab.json, merges.txt and tokenizer.json; return the new ones.

    Raises
    ------
    ValueError
        When one is in more than two pieces so far: its middle would need a row, too.
    """
    files = [folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json")]
    vocabulary, lines, whole = (
        json.loads(files[0].read_text(encoding="utf-8")),
        files[1].read_text(encoding="utf-8").splitlines(),
        json.loads(files[2].read_text(encoding="utf-8")),
    )
    ranks = {tuple(line.split()): i for i, line in enumerate(lines[1:])}
    free = [token for token in free_tokens() if token in vocabulary]
    names, added = {}, []
    for word in identifiers:
        parts = pieces(word, ranks)
        if len(parts) == 1:
            continue
        if len(parts) != 2:
            raise ValueError(f"{word!r} is {parts}; expected two pieces.")
        ranks[tuple(parts)] = len(ranks)
        lines.append(" ".join(parts))
        whole["model"]["merges"].append(parts)
        names[free.pop(0)] = f"{word}</w>"
        added.append(word)

    def renamed(tokens: dict[str, int]) -> dict[str, int]:
        return {names.get(token, token): i for token, i in tokens.items()}

    whole["model"]["vocab"] = renamed(whole["model"]["vocab"])
    files[0].write_text(json.dumps(renamed(vocabulary), ensure_ascii=False), encoding="utf-8")
    files[1].write_text("\n".join([*lines, ""]), encoding="utf-8")
    files[2].write_text(json.dumps(whole, ensure_ascii=False, indent=2), encoding="utf-8")
    return added


def main() -> None:
    folder = PACKAGE / "pocket"
    print("New:", ", ".join(add(folder / "tokenizer", IDENTIFIERS)) or "none")
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    words["identifiers"] = known_words()["identifiers"]
    text = json.dumps(words, indent=1, ensure_ascii=False)
    (folder / "words.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
