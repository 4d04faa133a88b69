"""A prompt's parts, found and exchanged: subject, count, size, colour, what it wears, place, style.

English puts what changes into few places: "two small red cars with a hat on a beach at night" is a
count, a size, a colour and a noun, then phrases that each begin with a word of a short list. So a
prompt is cut before those words, and a change exchanges one piece; what it does not understand it
carries along as it was written. Pure functions on text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import regex as re

from s2i_lib.photos.subject import PAIRS, UNCOUNTED, Subject, plural_of, singular_of
from s2i_lib.speech.templates import article_for
from s2i_lib.speech.words import word_set

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip
SIZES = ("tiny", "small", "", "big", "huge")
"""Sizes as steps; "" is the one that nobody says."""
_STEP = {"tiny": 0, "little": 1, "small": 1, "big": 3, "large": 3, "huge": 4, "giant": 4,
         "enormous": 4, "gigantic": 4}  # fmt: skip

_HUES = (
    "red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|gr[ae]y|gold|golden|silver|"
    "turquoise|cyan|magenta|beige|navy|crimson|scarlet|teal|maroon|lilac|copper|bronze|ivory|"
    "rainbow[ -]colou?red|colou?rful|transparent|multicolou?red"
)
COLOUR = rf"(?:(?:light|dark|bright|pale|deep|neon|royal|sky|lime|olive|hot)[ -])?(?:{_HUES})"
COLOURS = rf"{COLOUR}(?:(?:,? and|,) {COLOUR})*"
SIZE = "|".join(_STEP)
STYLE_NOUN = (
    r"(?:(?:oil |water ?colou?r |pencil |charcoal |ink |pixel |digital |3d |line )?"
    r"(?:painting|drawing|sketch|photo|photograph|picture|image|illustration|cartoon|comic|"
    r"sticker|icon|emoji|logo|render|poster|portrait|woodcut|mosaic|statue|sculpture|"
    r"water ?colou?r|pixel art))"
)
IN_STYLE = (
    rf"(?:in the style of\b|(?:in|as) (?:an? )?{STYLE_NOUN}\b|in (?:an? |the )?[\w'’ -]+ style$)"
)
QUALITY = (
    r"in (?:[\w-]+ ){0,3}(?:quality|resolution|definition|details?|colou?rs?|3d|4k|8k|hd|focus|"
    r"motion|mood)"
)
# Where in the picture something is, wherever the picture is.
FAR = r"in the (?:background|foreground|distance)"
WITHIN = (
    rf"(?:{FAR}|(?:on|in|at|to) the (?:(?:far|very|upper|lower|other|top|bottom|left|right) )*"
    r"(?:left|right|top|bottom|middle|cent(?:er|re)|corner|edge|side)"
    r"(?: of (?:it|the (?:picture|image)))?)"
)
DET = r"(?:an?|the|some|my|our|your|his|her|their|its|another|many|several|one|two|three|four|" \
      r"five|six|seven|eight|nine|ten|eleven|twelve|\d+)"  # fmt: skip
PLACE = (
    r"(?:on top of|in front of|next to|close to|outside of|inside of|in the middle of|on|in|at|"
    r"under|over|above|below|behind|beside|near|by|inside|outside|against|among|between|beneath|"
    r"underneath|across|through|along|around|amid|surrounded by)"
)
# Places that are said with a word for being beside something.
SET_PLACE = (
    r"(?:under ?water|under the (?:sea|water|ocean)|above the (?:clouds|city|sea)|indoors|outdoors)"
)
BESIDE = r"(?:next to|close to|beside|near|by|in front of|behind|on top of|under|above|between)"
WITHOUT = r"(?:without|(?:(?:with|and|but) )?no)(?: any)?"
TIME = (
    r"(?:at (?:night|noon|midnight|dawn|dusk|sunrise|sunset|daytime|christmas)|"
    r"(?:in|during) (?:the )?(?:early |late )?(?:morning|evening|afternoon|dark|daytime|night|"
    r"day|winter|summer|spring|autumn|fall|twilight|moonlight|sunlight|daylight)|"
    r"(?:in|under) (?:the )?(?:moonlight|moon|stars|sun)|"
    r"by (?:day|night|moonlight|daylight|candlelight)|"
    r"(?:in|during) (?:the |a )?(?:heavy |light )?(?:rain|storm|fog|thunderstorm|snowstorm|mist))"
)
MASS = UNCOUNTED | word_set(
    """snow rain water grass sand ice fog mist smoke sunshine sunlight moonlight thunder light mud
    fur hair coffee tea milk juice food music steam dust foam rust confetti glitter"""
)
"""What is said without an article: "with snow"."""
CLOTHES = (
    r"(?:hat|cap|dress|suit|shirt|t-shirt|coat|jacket|costume|scarf|helmet|crown|boots|shoes|"
    r"glasses|sunglasses|uniform|tie|tuxedo|sweater|gown|armou?r|skirt|apron|headphones|bow|"
    r"ribbon|cape)"
)
# "With mountains in the background" is one part.
_ITS = rf"(?<=\b(?:with|(?:and|plus) {DET}) [^,]+ )"
_CUTS = re.compile(
    rf"(?<=\S)(?:,\s*|\s+)(?!{_ITS}{FAR}\b)"
    rf"(?=(?:wearing|dressed in|dressed as|with|holding|without|{PLACE})\s|"
    rf"(?:and|plus)\s+{DET}\s|(?:and|but)\s+no\s|in the style of\b|"
    rf"(?:in|as) (?:an? )?{STYLE_NOUN}\b|(?:{TIME}|{SET_PLACE})(?:$|[\s,.]))|(?<=\S),\s*",
    re.IGNORECASE,
)
_STYLE_AHEAD = re.compile(
    rf"^(?:(?:an?|the|some)\s+)?(?:[\w-]+\s+){{0,2}}?{STYLE_NOUN} (?:of|showing) ", re.IGNORECASE
)
GROUND = re.compile(
    r"(?:on|with|in front of|against) (?:an? |the )?(?:(?:[\w-]+) ){0,2}background$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Part:
    """A piece of a prompt, with what stood between it and the one before."""

    role: str
    """head, wears, with, beside, within, place, time, style, quality, without, or other."""
    text: str
    gap: str = " "


@dataclass(frozen=True)
class Head:
    """What the picture shows, in pieces: "two | small | red | ohwx cars | driving"."""

    det: str
    words: tuple[str, ...]
    """What stands between the determiner and the noun, sizes and colours among them."""
    noun: str
    tail: str = ""
    is_subject: bool = False
    """Whether the noun begins with a subject's identifier, which is no word."""

    @property
    def text(self) -> str:
        return " ".join(filter(None, [self.det, *self.words, self.noun, self.tail]))


def split_parts(text: str) -> tuple[str, list[Part]]:
    """Return a prompt's style ahead ("a painting of "; "" for none) and its parts, head first.

    `join_parts` gives the text again, letter by letter.
    """
    ahead = _STYLE_AHEAD.match(text)
    style = ahead.group() if ahead else ""
    rest = text[len(style) :]
    parts: list[Part] = []
    at, gap = 0, ""
    for cut in _CUTS.finditer(rest):
        parts.append(Part(_role(rest[at : cut.start()], not parts), rest[at : cut.start()], gap))
        at, gap = cut.end(), cut.group()
    parts.append(Part(_role(rest[at:], not parts), rest[at:], gap))
    return style, parts


def join_parts(style: str, parts: Sequence[Part]) -> str:
    """Return the text of parts; a gap before the first one goes."""
    return style + "".join((part.gap if i else "") + part.text for i, part in enumerate(parts))


def _role(text: str, is_first: bool) -> str:
    low = text.lower()
    if is_first:
        return "head"
    if re.match(rf"{TIME}$", low):
        return "time"
    if re.match(IN_STYLE, low):
        return "style"
    if re.fullmatch(WITHIN, low):
        return "within"
    if re.fullmatch(QUALITY, low):
        return "quality"
    if GROUND.match(low) or re.match(rf"{SET_PLACE}$", low):
        return "place"
    for role, ahead in (
        ("wears", rf"wearing|dressed|in (?:{DET} )?(?:[\w-]+ )?{CLOTHES}$"),
        ("without", WITHOUT),
        ("with", r"with|holding|and|plus"),
        ("beside", BESIDE),
        ("place", PLACE),
    ):
        if re.match(rf"(?:{ahead})(?!\w)", low):
            return role
    return "other"


_NO_ADJECTIVE = r"(?:thing|king|ring|ding|wing|string|building|painting|drawing|ceiling|wedding|" \
                r"duckling|pudding|evening|morning|spring|lightning|clothing|earring)"  # fmt: skip


def parse_head(text: str, subjects: Sequence[Subject] = ()) -> Head:
    """Return the pieces of a noun phrase; a subject's identifier belongs to its noun."""
    det = ""
    if found := re.match(rf"{DET}\b\s*", text, re.IGNORECASE):
        det, text = found.group().strip(), text[found.end() :]
    words = text.split()
    end = len(words)
    for i, word in enumerate(words):
        is_clause = re.match(r"(?:that|who|which|is|are|of|to|and|as|from|for|like|made)$", word)
        around = (*words[max(i - 1, 0) : i], *words[i + 1 : i + 2])
        joins = word == "and" and all(map(is_adjective, around))  # "a black and white dog"
        if i and (is_doing(words[i - 1], word) or (is_clause and not joins)):
            end = i
            break
    core, tail = words[:end], " ".join(words[end:])
    at = 0
    identifiers = {subject.identifier for subject in subjects}
    while (
        at < len(core) - 1
        and core[at] not in identifiers
        and is_adjective(core[at])
        and not _COMPOUND.match(" ".join(core[at:]))
    ):
        at += 1
    is_subject = core[at : at + 1] != [] and core[at] in identifiers
    return Head(det, tuple(core[:at]), " ".join(core[at:]), tail, is_subject)


def is_doing(before: str, word: str) -> bool:
    """Return whether a word says what the one before does: "cats sleeping", no "sleeping cat"."""
    is_verb = re.match(r"(?:[a-z]{2,}ing|painted|dressed|covered|filled)$", word)
    if not is_verb or re.match(rf"{_NO_ADJECTIVE}$", word):
        return False
    is_noun = re.match(rf"{_NO_ADJECTIVE}$", before)
    leads = is_adjective(before) or re.match(rf"(?:{DET}|any|single)$", before, re.IGNORECASE)
    return bool(is_noun) or not leads


_ADJECTIVE = re.compile(
    rf"(?:{SIZE}|{_HUES}|and|light|dark|bright|pale|deep|old|young|new|happy|sad|angry|cute|funny|"
    r"sleepy|wet|dirty|brave|fat|thin|good|bad|beautiful|pretty|lovely|fluffy|scared|proud|grumpy|"
    r"tired|muddy|snowy|tall|short|long|round|shiny|fancy|fast|slow|furry|hairy|wooden|metal|"
    r"glass|plastic|golden|magic|evil|friendly|broken|scary|spooky|hungry|thirsty|silly|clean|"
    r"modern|ancient|rusty|realistic|elegant|crazy|lazy|strong|weak|very|really|[a-z]{3,}ing|[a-z]{3,}ed),?$",
    re.IGNORECASE,
)
# Nouns that begin with what is an adjective elsewhere: a blue light bulb, no light blue bulb.
_COMPOUND = re.compile(
    r"(?:light bulb|magic (?:wand|carpet|lamp)|flying (?:saucer|fish|carpet)|golden retriever|"
    r"stuffed (?:animal|toy)|swimming pool|washing machine|sewing machine|sleeping bag|red panda|"
    r"rocking (?:chair|horse)|shooting star|fishing rod|wedding (?:cake|dress|ring)|snowy owl|"
    r"building block|orange (?:juice|tree))s?$",
    re.IGNORECASE,
)


def is_adjective(word: str) -> bool:
    """Return whether a word is one of those that are said of things: "happy"."""
    return _ADJECTIVE.match(word) is not None


def noun_of(part: Part, subjects: Sequence[Subject] = ()) -> str:
    """Return the noun of a part without what leads to it: "with a red hat" is "hat"."""
    inside = re.sub(
        rf"^(?:wearing|holding|dressed in|dressed as|{WITHOUT}|with|and|plus|{PLACE})\s+",
        "", part.text, flags=re.IGNORECASE,
    )  # fmt: skip
    return parse_head(split_parts(inside)[1][0].text, subjects).noun


def is_same_noun(one: str, other: str) -> bool:
    """Return whether two nouns are one, whatever their number: "the cars", "car"; "Rex's hat"."""
    first, second = (singular_of(noun.lower().strip()) for noun in (one, other))
    return bool(first) and (
        first == second or second.endswith(" " + first) or first.endswith(" " + second)
    )


# --- one thing changed in a noun phrase ---------------------------------------------------------


def count_of(head: Head) -> int | None:
    """Return how many there are; None where the phrase does not say."""
    det = head.det.lower()
    if det in ("a", "an", "the", "my", "his", "her", "another"):
        return 1
    if det.isdigit():
        return int(det)
    return NUMBERS.index(det) if det in NUMBERS else None


def with_count(head: Head, count: int) -> Head:
    """Return a phrase with another number, and its noun in the plural or singular for it."""
    one = singular_of(head.noun) if count_of(head) != 1 else head.noun
    noun = one if count == 1 else plural_of(one)
    det = "a" if count == 1 else NUMBERS[count] if count < len(NUMBERS) else str(count)
    return with_article(replace(head, det=det, noun=noun))


def with_colour(head: Head, colour: str) -> Head:
    """Return a phrase in another colour; "" takes the colour away."""
    words, pattern = " ".join(head.words), rf"\b{COLOURS}\b"
    if re.search(pattern, words, re.IGNORECASE):
        words = re.sub(pattern, colour, words, count=1, flags=re.IGNORECASE)
    else:
        words = f"{words} {colour}"
    return with_article(replace(head, words=tuple(words.split())))


def size_of(head: Head) -> int:
    """Return the phrase's size as an index into `SIZES`."""
    return next((_STEP[w.lower()] for w in head.words if w.lower() in _STEP), SIZES.index(""))


def with_size(head: Head, size: str) -> Head:
    """Return a phrase with another word for the size; "" takes it away."""
    words = [word for word in head.words if word.lower() not in _STEP]
    return with_article(replace(head, words=tuple(filter(None, [size, *words]))))


def with_noun(head: Head, new: Head) -> Head:
    """Return a phrase with another noun, and with what is said of that one."""
    if not new.det and new.noun.lower().rpartition(" ")[2] in PAIRS | UNCOUNTED:
        head = replace(head, det="")
    size = next((word for word in new.words if word.lower() in _STEP), "")
    colour = re.search(rf"\b{COLOURS}\b", " ".join(new.words), re.IGNORECASE)
    count = count_of(new) if new.det.lower() not in ("a", "an", "the", "") else None
    changed = replace(head, noun=new.noun, tail=new.tail or head.tail, is_subject=new.is_subject)
    changed = with_size(changed, size) if size else changed
    changed = with_colour(changed, colour.group()) if colour else changed
    known = {size.lower(), *(colour.group().lower().split() if colour else [])}
    others = [w for w in new.words if w.lower() not in known and w not in changed.words]
    changed = replace(changed, words=(*changed.words, *others))
    before = count_of(head)
    if count is not None and new.det.lower() != "another":
        return with_article(replace(changed, det=new.det))
    if before is not None and before != 1:  # two dogs become two cats
        plural = new.noun if singular_of(new.noun) != new.noun else plural_of(new.noun)
        return replace(changed, noun=plural)
    return with_article(replace(changed, det=new.det or head.det))


def with_article(head: Head) -> Head:
    """Return a phrase with "a" or "an" as it sounds."""
    if head.det.lower() not in ("a", "an"):
        return head
    body = " ".join([*head.words, head.noun])
    is_identifier = head.is_subject and not head.words
    return replace(head, det="a" if is_identifier or not body else article_for(body))
