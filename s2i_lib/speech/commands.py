"""What is said to the conversation, not of the picture: undo, another one, keep it.

A whole sentence is a command, or none is: "undo", but "an undo button" is a wish.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex as re

from s2i_lib.speech.phrases import NUMBERS

COMMANDS = ("undo", "redo", "go_to", "again", "keep", "delete", "start_over")
"""Kinds of change that have no new prompt; all others do."""


@dataclass(frozen=True)
class Change:
    """What a sentence does to the last picture."""

    kind: str
    """One of `COMMANDS`, or colour, size, count, place, time, style, worn, add, remove, replace,
    attribute, or several (more than one of these)."""
    text: str = ""
    """The new prompt; "" for a command."""
    old_words: tuple[str, ...] = ()
    """Words of the last prompt that go."""
    new_words: tuple[str, ...] = ()
    """Words of the new prompt that come."""
    number: int | None = None
    """Of "go back to the second": 1 for the first picture, -1 for the last."""
    is_explicit: bool = True
    """Whether the sentence says that something is changed ("make it blue"); "on a beach" does not,
    and is a wish where there is no picture yet."""

    @property
    def taken(self) -> str:
        """Sentence on what the words were taken for."""
        if self.kind in COMMANDS:
            return _TAKEN[self.kind]
        came, went = (" ".join(words) for words in (self.new_words, self.old_words))
        if came and went:
            return f"Taken as a change: “{came}” in place of “{went}”."
        if came or went:
            return f"Taken as a change: {'with' if came else 'without'} “{came or went}”."
        return "Taken as a change, but the words stay the same."


_TAKEN = {
    "undo": "Taken as: one step back.",
    "redo": "Taken as: one step forward.",
    "go_to": "Taken as: back to an earlier picture.",
    "again": "Taken as: the same words again, as another picture.",
    "keep": "Taken as: keep this picture.",
    "delete": "Taken as: delete this picture.",
    "start_over": "Taken as: start over.",
}
NEW_WISH = "Taken as a new wish."


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
             "tenth")  # fmt: skip
_NTH = rf"(?P<nth>{'|'.join(_ORDINALS)}|last|latest|newest|beginning|start|original|very first)"
_NOUN = r" (?:one|picture|image|version|try|drawing|photo)"
_ONE = rf"(?:{_NOUN})?"
# "The" alone is no picture: "Remove the ..." was cut off.
_IT = rf"(?:it|this|that|them|these|those|(?:this|that|the last){_ONE}|the{_NOUN})"
_DO = r"(?:draw|do|try|paint|make|show|give|create|generate)"

# A whole sentence is a command, or none is: "undo", but "an undo button".
_COMMANDS = (
    ("undo", rf"undo(?: {_IT}| the last (?:change|step|thing))?|undo undo|"
             rf"(?:go |take me )?back(?: up)?(?: (?:one|a)(?: step)?)?|"
             rf"go back to the (?:one before|previous{_ONE})|one (?:step )?back|step back|"
             rf"take (?:it|that) back|(?:the |show the |go to the )?(?:previous{_ONE}|one before)|"
             rf"(?:go )?back to (?:how|what|the way) it was(?: before)?|as it was(?: before)?|"
             rf"(?:change|turn|put|bring) {_IT} back|never ?mind|cancel(?: (?:that|it))?|"
             rf"(?:it|that|the one before) was better(?: before)?|revert(?: {_IT})?"),
    ("redo", rf"redo(?: {_IT})?|undo the undo|(?:go )?forwards?(?: again)?(?: one(?: step)?)?|"
             rf"one (?:step )?forwards?|(?:the |go to the )?next{_ONE}"),
    ("go_to", rf"(?:go|take me|get|bring me|jump|switch|return)?(?: ?back)? ?to (?:the )?{_NTH}"
              rf"{_ONE}|(?:show|give)(?: me)? (?:the )?{_NTH}{_ONE}(?: again| back)?|"
              rf"(?:the )?{_NTH} (?:one|picture|version|try)(?: again)?|the {_NTH}|"
              rf"i (?:like|liked|prefer|preferred|want|meant|mean) (?:the )?{_NTH}{_ONE}"
              rf"(?: better| more| best)?|"
              rf"(?:go |back |to |show |go back )*(?:to )?(?:number|picture|picture number) "
              rf"(?P<number>\d+|{'|'.join(NUMBERS[1:])})"),
    ("keep", rf"keep {_IT}|save {_IT}|(?:i(?:'ll| will)? )?(?:take|keep) (?:this|that)(?: one)?|"
             rf"i (?:like|love) (?:this|that|it)(?: one)?(?: keep (?:it|this|that))?"),
    ("delete", rf"(?:delete|remove|erase|trash|discard|throw away|get rid of|bin|scrap) {_IT}|"
               rf"throw {_IT} away|(?:delete|erase|discard|trash)"),
    ("start_over", r"(?:start|begin)(?: all)? (?:over|again|afresh|from scratch|new|anew|"
                   r"from the (?:beginning|start))(?: again| from the (?:beginning|start))?|"
                   r"(?:from scratch|reset|all new)|"
                   r"(?:a )?new (?:picture|one|wish|start)|clear(?: (?:everything|it|all))?|"
                   r"forget (?:it|that|everything|all that)|(?:i want )?something else"),
    ("again", rf"again|once more|one more time|another(?: go|{_ONE})?|one more{_ONE}|"
              rf"{_DO}(?: me| us)?(?: {_IT}| the same)? (?:again|once more|one more time)|"
              rf"(?:{_DO}(?: me| us)? )?(?:another|a different|a new|one more){_ONE}|"
              rf"(?:try|{_DO}) (?:another|a different) one|more like (?:this|that)|"
              rf"(?:{_DO}(?: me)? )?more|more of (?:this|that|the same)|"
              r"something different|the same again|shuffle|reroll"),
)  # fmt: skip


def read_command(words: str) -> Change | None:
    """Return the command that a whole sentence is; None where it is none."""
    plain = re.sub(r"[,.!]", "", words)
    for kind, pattern in _COMMANDS:
        if found := re.fullmatch(pattern, plain, re.IGNORECASE):
            return Change(kind, number=_number_of(found.groupdict()))
    return None


def _number_of(groups: dict[str, str | None]) -> int | None:
    if number := (groups.get("number") or "").lower():
        return int(number) if number.isdigit() else NUMBERS.index(number)
    nth = (groups.get("nth") or "").lower()
    if not nth:
        return None
    if nth in ("last", "latest", "newest"):
        return -1
    return _ORDINALS.index(nth) + 1 if nth in _ORDINALS else 1
