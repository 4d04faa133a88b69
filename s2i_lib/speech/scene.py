"""A prompt taken apart, and one part of it put in, taken out or exchanged.

`phrases` cuts a prompt into parts and changes a noun phrase; here a change comes to stand where
such a part belongs. What comes out is an edit: its kind, and the prompt that it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import regex as re

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, singular_of
from s2i_lib.speech.phrases import (
    CLOTHES,
    COLOURS,
    DET,
    FAR,
    MASS,
    PLACE,
    WITHOUT,
    Head,
    Part,
    is_same_noun,
    join_parts,
    noun_of,
    parse_head,
    split_parts,
    with_article,
    with_colour,
    with_count,
)

Edit: TypeAlias = tuple[str, str]
"""Kind of a change, and the new prompt."""

_ORDER = ("head", "other", "wears", "with", "beside", "within", "place", "time", "without", "style",
          "quality")  # fmt: skip


class Scene:
    """What a prompt says a picture shows: its style, and its parts, the head first."""

    def __init__(self, text: str, subjects: Sequence[Subject] = ()) -> None:
        self.text, self.subjects = text, subjects
        self.style, self.parts = split_parts(text)
        self.head = parse_head(self.parts[0].text, subjects)

    def find(self, target: str) -> int | None:
        """Return the part that a definite description means; None where none is meant."""
        words = re.sub(r"^(?:the|his|her|its|their|my|an?) ", "", target.strip().lower())
        wanted = parse_head(words, self.subjects).noun or words
        wanted = re.split(r"['’]s ", wanted)[-1]
        if is_same_noun(wanted, self.head.noun):
            return 0
        for i, part in enumerate(self.parts[1:], start=1):
            if part.role != "without" and is_same_noun(wanted, noun_of(part, self.subjects)):
                return i
        return None

    def join(self, parts: Sequence[Part]) -> str:
        """Return the prompt with other parts, in the same style."""
        return join_parts(self.style, parts)

    def allow(self, wanted: str) -> Scene:
        """Return the scene where nothing leaves out a thing, or a colour, that is wanted now."""
        parts = [self._allow(wanted, p) if p.role == "without" else p for p in self.parts]
        return Scene(self.join([part for part in parts if part.text]), self.subjects)

    def _allow(self, wanted: str, part: Part) -> Part:
        """Take what is wanted out of "without cars or people"."""
        noun = noun_of(Part("", wanted), self.subjects)
        lead = re.match(WITHOUT, part.text, re.IGNORECASE).group()
        left_out = re.split(r"\s+(?:or|and|nor)\s+", part.text[len(lead) :].strip())
        kept = [
            what
            for what in left_out
            if not is_same_noun(parse_head(what).noun, noun)
            and not re.search(rf"\b{re.escape(what)}\b", wanted)
        ]
        if kept == left_out:
            return part
        doing = parse_head(left_out[-1]).tail  # "with no shoes playing football"
        return replace(part, text=f"{lead} {' or '.join(kept)}" if kept else doing)

    def with_head(self, head: Head) -> str:
        """Return the prompt with another thing in the first place."""
        return self.join([replace(self.parts[0], text=head.text), *self.parts[1:]])

    def exchange(self, new: Part) -> str:
        """Put a part where those of its role stand, or where such a one belongs."""
        parts = self.allow(new.text).parts
        at = [i for i, part in enumerate(parts) if part.role == new.role]
        if not at:
            return self.insert(new)
        kept = [part for i, part in enumerate(parts) if i not in at[1:]]
        kept[at[0]] = replace(new, gap=kept[at[0]].gap)
        return self.join(kept)

    def put(self, at: int, text: str) -> str:
        """Put other words where a part stands."""
        return self.join(
            [*self.parts[:at], replace(self.parts[at], text=text), *self.parts[at + 1 :]]
        )

    def insert(self, new: Part) -> str:
        """Add a part behind those that usually stand before it."""
        parts = self.allow(new.text).parts
        rank = {role: i for i, role in enumerate(_ORDER)}
        place = rank.get(new.role, len(rank))
        at = len(parts)
        while at > 1 and rank.get(parts[at - 1].role, 0) > place:
            at -= 1
        return self.join([*parts[:at], new, *parts[at:]])

    def attach(self, at: int, new: Part) -> str:
        """Add a part right behind the one that it is said of, where it stands anew."""
        after = self.parts[at + 1 :]
        if after and after[0].role == new.role == "within":
            after = after[1:]
        parts = [*self.parts[: at + 1], new, *after]
        return Scene(self.join(parts), self.subjects).allow(new.text).text

    def count(self, count: int) -> Edit:
        """Show so many of the first thing."""
        return "count", self.with_head(with_count(self.head, count))

    def add(self, thing: str, to: int | None = None) -> Edit | None:
        """Add a thing, to one of the parts or to it all; None for what is none."""
        thing = re.sub(r"^(?:also|in|with|wearing) ", "", thing)
        thing = re.sub(r" (?:too|as well|to (?:it|them|the picture))$", "", thing)
        if not is_thing(thing):
            return None
        if not re.match(rf"{DET}\b|[\w-]+s\b|some\b", thing) and " " not in thing:
            is_one = singular_of(thing) == thing and thing not in MASS
            thing = f"a {thing}" if is_one else thing
        new = Part("with", f"with {thing}")
        if not to and (text := self._wear(thing, by_first=to == 0)):
            return "worn", text
        return "add", self.insert(new) if to is None else self.attach(to, new)

    def _wear(self, thing: str, by_first: bool) -> str:
        """Put something worn where such a thing is worn, perhaps by the first; "" where none is."""
        worn = re.fullmatch(rf"(?!another|a second)(?P<first>.* )?(?P<noun>{CLOTHES}s?)", thing)
        if not worn:
            return ""
        lead, noun = r"(?<=\b(?:wearing|with|and) )", worn["noun"].removesuffix("s")
        there = rf"{lead}(?:(?!(?:and|with) )[\w'-]+ )*{noun}s?(?= and |$)"
        is_as_it_is = re.fullmatch("(?:an?|the|some|his|her|their|its) ", worn["first"] or "the ")
        for at, part in enumerate(self.parts[1:], start=1):
            if by_first and (part.role == "beside" or re.match("(?:and|plus) ", part.text)):
                break  # what follows is somebody else's
            if part.role in ("wears", "with") and re.search(there, part.text):
                return self.text if is_as_it_is else self.put(at, re.sub(there, thing, part.text))
        return ""

    def remove(self, thing: str) -> Edit | None:
        """Take a thing, a colour or the background out; what is not there is drawn without."""
        thing = re.sub(rf"^(?:{PLACE} )?(?:(?:{DET}|any) )?", "", thing)
        if re.fullmatch(COLOURS, thing, re.IGNORECASE) and thing in self.head.words:
            return "remove", self.with_head(with_colour(self.head, ""))
        if thing in self.head.words:
            words = tuple(word for word in self.head.words if word != thing)
            return "remove", self.with_head(with_article(replace(self.head, words=words)))
        if thing in ("background", "ground"):
            kept = [part for part in self.parts if part.role != "place"]
            return "remove", self.join(kept)
        if thing == "one":  # of several
            return None
        if thing in ("everything else", "all else"):
            return "remove", self.join(self.parts[:1])
        thing = re.sub(r"^every(?:one|body)$", "people", re.sub(r"^all(?: the)? ", "", thing))
        at = self.find(thing)
        if at == 0:
            return self._remove_head()
        if at is not None:
            return "remove", self.join(self.parts[:at] + self.parts[at + 1 :])
        if not re.fullmatch(r"[\w' -]+", thing) or len(thing.split()) > 3:
            return None
        return "remove", self.insert(Part("without", f"without {thing}"))

    def _remove_head(self) -> Edit:
        """Let what stands beside take the place of the first: "a dog and a cat" without the dog."""
        for i, part in enumerate(self.parts[1:], start=1):
            if found := re.match(rf"(?:and|with|plus) (?={DET}\b)", part.text):
                beside = Part("head", part.text[found.end() :], "")
                kept = [beside, *self.parts[1:i], *self.parts[i + 1 :]]
                return "remove", self.join(kept)
        raise InputError(
            f"Without the {self.head.noun} nothing would be left in the picture. Say what it shows "
            f"instead, for instance: make it a house."
        )


# Behind these another change begins: "add a dog, add a cat". Some are nouns where nothing follows.
NEXT = (
    r"(?:\b(?:and|then)|[,;]) (?:also |now )?(?:put|make|add|draw|turn|remove|take|give|replace|"
    r"delete|erase|exchange|swap|include|insert|get rid|leave out|"
    r"(?:paint|change|set|move|colou?r|show|hide) (?:the|it|its|them|him|his|her|their))\b"
)


def is_thing(text: str) -> bool:
    """Return whether a text names things and is no clause of its own."""
    is_clause = re.search(
        rf"{NEXT}|\b(?:and|then) (?:at|in|on)\b|"
        r"\b(?:is|are|was|it|them|i|you|we|please|there)\b(?!$)|\band$|"
        r"(?<!\b(?:Mr|Mrs|Ms|Dr|St))[.!?] ",
        text,
        re.IGNORECASE,
    )
    return is_clause is None and len(text.split()) <= 14


def is_place(text: str) -> bool:
    """Return whether a text is a place alone: "in a forest", but not "in a forest a fox sleeps"."""
    _, parts = split_parts(text)
    for part in parts:
        text = re.sub(rf" {FAR}$", "", part.text)
        words = re.sub(rf"^(?:{PLACE}|with|and)\s+", "", text, flags=re.IGNORECASE).split()
        ahead = [i for i, word in enumerate(words) if re.fullmatch(DET, word, re.IGNORECASE)]
        ahead = [i for i in ahead if i == 0 or words[i - 1] not in ("of", "to")]
        n_most = 4 if ahead == [0] else 2
        is_clause = re.search(r"\b(?:is|are|was|were|has|have|there|sits|stands)\b", part.text)
        if ahead not in ([], [0]) or is_clause or len(words) > n_most + 3 * words.count("of"):
            return False
    return True
