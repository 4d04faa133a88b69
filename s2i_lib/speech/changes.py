"""Whether a sentence changes the last picture, and what its prompt is then (pure functions).

    read_change("make it blue", "a red car on a beach").text == "a blue car on a beach"
    read_change("undo", ...).kind == "undo"
    read_change("a cat on a sofa", ...) is None        # a new wish

A sentence is read in three steps. Politeness goes ("could you please ... now?"). A frame says what
is changed and how ("make the car ...", "add ...", "take off ...", "... instead"); without a frame
only what could not be a wish of its own is a change ("blue", "on a beach", "bigger"). What the
frame holds is a value: a colour, a size, a number, a place, a time, a style, something worn, or a
thing in place of another. Everything else is a new wish: so a scene is never taken for a change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

import regex as re

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.commands import Change, read_command
from s2i_lib.speech.habits import strip_habits, strip_politeness
from s2i_lib.speech.phrases import (
    BESIDE,
    CLOTHES,
    COLOURS,
    DET,
    NUMBERS,
    PLACE,
    SIZE,
    SIZES,
    STYLE_NOUN,
    TIME,
    Head,
    Part,
    count_of,
    is_same_noun,
    join_parts,
    noun_of,
    parse_head,
    singular_of,
    size_of,
    split_parts,
    with_colour,
    with_count,
    with_noun,
    with_size,
)
from s2i_lib.speech.templates import article_for


def read_change(
    sentence: str, last: str, subjects: Sequence[Subject] = (), *, is_forced: bool = False
) -> Change | None:
    """Return what a sentence changes in the last picture; None where it is a new wish.

    Parameters
    ----------
    sentence : English, with identifiers where names were said ("make it a ohwx dog")
    last : the last picture's prompt
    subjects : whose identifiers the two may have
    is_forced : somebody says that it is a change: a thing takes the place of the last one, and what
        is not understood is added at the end

    Raises
    ------
    InputError
        When it is a change that cannot be made: the words for size end, nothing would be left.
    """
    words = strip_politeness(sentence)
    for subject in subjects:
        if subject.phrase in last:  # the one that is there
            words = re.sub(rf"\ba (?=(?:[\w-]+ )?{re.escape(subject.phrase)}\b)", "the ", words)
    if not words:
        return None
    if command := read_command(words):
        return command
    words = words[0].lower() + words[1:]
    for said in dict.fromkeys((words, re.sub(r"^(?:and|but|then|now|just|only) ", "", words))):
        if edit := _Reader(last, subjects).read(said):
            kind, text, is_explicit = edit
            return _make_change(kind, last, text, is_explicit)
    if not is_forced:
        return None
    words = strip_habits(sentence).strip(" ,.;!?…") or words
    kind, text = _Reader(last, subjects).set("", words) or ("add", f"{last}, {words}")
    return _make_change(kind, last, text, True)


def _make_change(kind: str, last: str, text: str, is_explicit: bool) -> Change:
    old, new = last.split(), text.split()
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    went = [word for tag, a, b, _, _ in steps if tag != "equal" for word in old[a:b]]
    came = [word for tag, _, _, a, b in steps if tag != "equal" for word in new[a:b]]
    return Change(kind, text, tuple(went), tuple(came), is_explicit=is_explicit)


# --- what is changed ----------------------------------------------------------------------------

_PRONOUN = (
    r"(?:it|all of (?:it|them)|both of them|them|this|that|these|those|him|her|everything|"
    r"the whole thing|the picture|the image|this one|they|he|she)"
)
_TARGET = "(?P<target>TARGET)"
# Which of these it is, what stands in the prompt says: "make the teddy | bear blue" finds nothing.
_TARGETS = (_PRONOUN, *(rf"(?:the|his|her|its|their|my)(?: [\w'’-]+){{{n}}}" for n in (1, 2, 3)))
_VERB = r"(?:make|paint|colou?r|dye|turn|draw|put|place|set|move|change|have|want|need|show|let|" \
        r"render|get|see|transform|convert|like|do|try)"  # fmt: skip
_BE = r"(?:(?:to )?(?:be|become|look|stand|sit|appear|get|turn)|into|to|as|all|look like)"
_SHOULD = r"(?:should|must|could|can|has to|have to|needs to|ought to|is now|are now)(?: rather)?"
_THING = r"(?P<thing>.+?)"

_GERUNDS = {
    "fly": "flying", "sleep": "sleeping", "run": "running", "jump": "jumping", "smile": "smiling",
    "laugh": "laughing", "dance": "dancing", "swim": "swimming", "sit": "sitting",
    "sing": "singing", "stand": "standing", "eat": "eating", "read": "reading",
    "cry": "crying", "walk": "walking",
    "drive": "driving", "wave": "waving", "play": "playing", "ride": "riding", "hide": "hiding",
    "drink": "drinking", "cook": "cooking", "climb": "climbing", "glow": "glowing",
    "burn": "burning",
}  # fmt: skip
_DOING = f"(?:{'|'.join(_GERUNDS.values())})"

Edit = tuple[str, str]  # kind, new prompt
_FRAMES: tuple[tuple[str, str], ...] = (
    ("remove", rf"(?:take|leave|cut) {_TARGET} (?:off|away|out)"),
    ("remove", rf"(?:remove|delete|take away|take off|leave out|lose|drop|erase|get rid of|cut out|"
               rf"without|no more|no(?! \w+ing\b)|not|hide) (?:any )?{_THING}(?: please)?"),
    ("wear", rf"put {_THING} on (?P<target>it|them|him|her|the [\w' -]+)"),
    ("wear", rf"(?P<target>{_PRONOUN}|the [\w' -]+?) (?:should|must|has to|needs to) "
             rf"(?:wear|have) {_THING}"),
    ("wear", rf"(?:give|let) (?P<target>it|them|him|her|the [\w' -]+?) (?:wear |have )?"
             rf"(?={DET}\b|[\w-]+s$){_THING}"),
    ("wear", rf"(?P<target>it|he|she|they) (?:needs?|wants?|could use|gets?) {_THING}"),
    ("wear", rf"(?:i(?:'d| would) like |i want |{_VERB} )?{_THING} on (?P<target>it|them|him|her)"),
    ("beside", rf"(?:put|place|add|set|draw|paint|show)? ?{_THING} "
               rf"(?P<where>{BESIDE} (?:it|them|him|her))"),
    ("more", r"(?:add )?(?:another|one more|an extra|an additional) (?P<thing>[\w' -]+)|"
             r"(?P<thing>more) of (?:them|those|these)|more (?P<thing>[\w' -]+)|"
             r"add (?P<thing>another|one more)"),
    ("less", r"(?:one )?(?:less|fewer) (?P<thing>[\w' -]+)|one (?:less|fewer)|"
             r"remove one(?: of them)?"),
    ("move", rf"(?:take|bring|move|send|put) {_TARGET} (?:in)?to (?P<thing>(?:the|an?) .+)"),
    ("add", rf"(?:add|include|put in|insert|throw in|also add|append) (?:in )?{_THING}"),
    ("swap", rf"(?:replace|swap|exchange|switch|change|turn) {_TARGET} "
             rf"(?:with|for|by|into|to) {_THING}"),
    ("swap", rf"{_THING},? (?:instead of|rather than|in place of|not|and not) (?P<target>[^,]+)"),
    ("swap", rf"(?:instead of|in place of|rather than|not) (?P<target>(?:{DET} )?[\w'-]+"
             rf"(?: [\w'-]+)?)(?:, but|,| but|(?= an? )) (?:{_VERB} )?{_THING}"),
    ("instead", rf"(?:{_VERB} )?{_THING} instead"),
    ("set", rf"(?:change|set|make|turn) (?:the |its |their )?colou?r (?:of {_TARGET} )?"
            rf"(?:to |into |be )?{_THING}"),
    ("set", r"(?:change|set|turn|make|paint) (?:the |its )?(?:background|ground)(?: colou?r)? "
            r"(?:to |into |be )?(?P<ground>.+)"),
    ("set", rf"{_VERB} (?:that )?{_TARGET}(?: {_BE})* {_THING}"),
    ("set", rf"{_TARGET} (?:{_SHOULD}|to be|to become|to look)(?: {_BE})* {_THING}"),
    ("strict", rf"(?:it|them)(?: {_BE})* {_THING}"),  # "I want it blue"
    ("new", rf"(?:make|paint|colou?r|turn) the (?P<what>[\w-]+) {_THING}"),
)  # fmt: skip


class _Reader:
    """Reads one sentence against one prompt."""

    def __init__(self, last: str, subjects: Sequence[Subject]) -> None:
        self.last, self.subjects = last, subjects
        self.style, self.parts = split_parts(last)
        self.head = parse_head(self.parts[0].text, subjects)

    def read(self, words: str) -> tuple[str, str, bool] | None:
        """Return kind, new prompt, and whether the sentence says that it is a change."""
        plain = re.sub(r" (?:again|now|then)$", "", words, flags=re.IGNORECASE)
        if edit := self._read_bare(plain):
            return (*edit, False)
        if edit := self._read_framed(plain):
            return (*edit, True)
        return self._read_several(plain)

    def _read_several(self, words: str) -> tuple[str, str, bool] | None:
        """Read "make it blue and put it on a beach": each part has to be a change."""
        for cut in re.finditer(r"(?:[,.;!]\s*(?:and |but |then )?| and (?:then )?)", words):
            first = self.read(words[: cut.start()])
            rest = re.sub(r"^(?:also|please) ", "", words[cut.end() :], flags=re.IGNORECASE)
            if first is None:
                continue
            reader = _Reader(first[1], self.subjects)
            then = reader.read(rest)
            if then is None and first[2] and re.fullmatch(r"[\w-]+", rest):  # "happy and fat"
                edit = reader.set("", rest)
                then = edit and (*edit, True)
            if then:
                return "several", then[1], first[2] or then[2]
        return None

    def _read_framed(self, words: str) -> Edit | None:
        for frame, pattern in _FRAMES:
            do: Callable[[dict[str, str]], Edit | None] = getattr(self, f"_{frame}")
            for target in _TARGETS if "TARGET" in pattern else [""]:
                found = re.fullmatch(pattern.replace("TARGET", target), words, re.IGNORECASE)
                groups = (
                    {name: value or "" for name, value in found.groupdict().items()}
                    if found
                    else {}
                )
                if found and (edit := do(groups)):
                    return edit
        return None

    # ---- without a frame: only what is no wish of its own ----

    def _read_bare(self, words: str) -> Edit | None:
        value = re.sub(r" (?:instead|one|ones)$", "", words, flags=re.IGNORECASE)
        value = re.sub(r"^(?:more |now |rather |but )", "", value, flags=re.IGNORECASE)
        if re.match(r"with(?:out)? ", value, re.IGNORECASE):
            return self._with(value)
        if re.match(rf"(?:and|plus|also) {DET} ", words, re.IGNORECASE) and _is_thing(words):
            return "add", self._insert(Part("with", re.sub("^also ", "and ", words)))
        if re.fullmatch(rf"(?:an? |the )?(?:in )?{COLOURS}", value, re.IGNORECASE) or re.match(
            rf"(?:{PLACE}|wearing|dressed|as|during|by) |{SIZE}\b|\w+ of them|[a-z]+er\b|"
            rf"(?:(?:have|get|draw|make|see|show) )?an? (?:[a-z]+er|{COLOURS})$|{_DOING}$|"
            rf"(?:{'|'.join(NUMBERS[1:])})$|(?:a (?:bit|little)|much|even) |half |twice ",
            value,
            re.IGNORECASE,
        ):
            value = re.sub(r"^(?:have|get|draw|make|see|show) (?=an? )", "", value)
            value += " one" if re.fullmatch(rf"an? {COLOURS}", value) else ""
            return self._value(value, is_framed=False)
        ground = rf"(?:an? )?(?P<what>{COLOURS}) background"
        if found := re.fullmatch(ground, value, re.IGNORECASE):
            return self._ground(found["what"])
        return None

    # ---- frames ----

    def set(self, target: str, thing: str) -> Edit | None:
        """Give ``target``, "" for what the picture shows, what was said of it."""
        return self._set({"target": target, "thing": thing})

    def _set(self, said: dict[str, str]) -> Edit | None:
        if ground := said.get("ground"):
            return self._ground(ground)
        target, thing = said.get("target", ""), said["thing"]
        if not target or re.fullmatch(_PRONOUN, target, re.IGNORECASE):
            return self._value(thing, is_framed=True)
        if re.search(r"\b(?:back)?ground$", target):
            return self._ground(thing)
        at = self._find(target)
        if at == 0:
            return self._value(thing, is_framed=True)
        return None if at is None else self._in_part(at, thing)

    def _new(self, said: dict[str, str]) -> Edit | None:
        """Add what the sentence speaks of, where it is not there: "make the sky dark"."""
        thing, what = said["thing"], said["what"]
        is_word = re.fullmatch(rf"{COLOURS}|{SIZE}|[a-z]+", thing, re.IGNORECASE)
        if not is_word or thing in _NO_ADJECTIVES or self._find(what) is not None:
            return None
        return "add", self._insert(Part("with", f"with {article_for(thing)} {thing} {what}"))

    def _strict(self, said: dict[str, str]) -> Edit | None:
        """Take what stands behind "it" for a value, but not for any word that could be a verb."""
        edit = self._value(said["thing"], is_framed=True)
        return edit if edit and edit[0] != "attribute" else None

    def _swap(self, said: dict[str, str]) -> Edit | None:
        target = said["target"]
        if re.fullmatch(_PRONOUN, target, re.IGNORECASE):
            return self._value(said["thing"], is_framed=True)
        is_word = re.search(rf"\b{re.escape(target)}\b", self.last, re.IGNORECASE)
        if is_word and re.fullmatch(rf"{COLOURS}|{SIZE}", target, re.IGNORECASE):
            if re.search(rf"\b{re.escape(target)}\b", self.head.text, re.IGNORECASE):
                return self._value(said["thing"], is_framed=True)  # "not red, blue"
            return self._ground(said["thing"])
        return self._set(said) if self._find(target) is not None or "ground" in target else None

    def _move(self, said: dict[str, str]) -> Edit | None:
        """Read "take it to the beach"."""
        is_first = re.fullmatch(_PRONOUN, said["target"]) or self._find(said["target"]) == 0
        return self._ground(said["thing"]) if is_first else None

    def _instead(self, said: dict[str, str]) -> Edit | None:
        return self._value(said["thing"], is_framed=True)

    def _wear(self, said: dict[str, str]) -> Edit | None:
        target = said.get("target") or "it"
        if not re.fullmatch(_PRONOUN, target, re.IGNORECASE) and self._find(target) is None:
            return None
        return self._add(said) if re.match(rf"{DET}\b|[\w-]+s$", said["thing"]) else None

    def _beside(self, said: dict[str, str]) -> Edit | None:
        thing = said["thing"]
        if not _is_thing(thing) or not re.match(rf"{DET}\b", thing):
            return None
        where = re.sub(r"\w+$", "it", said["where"])
        return "add", self._insert(Part("with", f"with {thing} {where}"))

    def _add(self, said: dict[str, str]) -> Edit | None:
        thing = re.sub(r"^(?:also|in|with|wearing) ", "", said["thing"])
        thing = re.sub(r" (?:too|as well|to (?:it|them|the picture))$", "", thing)
        if not _is_thing(thing):
            return None
        if not re.match(rf"{DET}\b|[\w-]+s\b|some\b", thing) and " " not in thing:
            thing = f"a {thing}" if singular_of(thing) == thing else thing
        return "add", self._insert(Part("with", f"with {thing}"))

    def _more(self, said: dict[str, str]) -> Edit | None:
        thing = said["thing"].lower()
        one_more = ("more", "another", "one more", "one", "of them", "of those")
        if thing in one_more or is_same_noun(thing, self.head.noun):
            count = count_of(self.head)
            return self._count((count or 1) + 1)
        return self._add({"thing": f"another {thing}"}) if self._find(thing) else None

    def _less(self, said: dict[str, str]) -> Edit | None:
        thing, count = said["thing"], count_of(self.head)
        if thing and not is_same_noun(thing, self.head.noun):
            return None
        if count is None or count < 2:
            raise InputError(
                f"There is one {self.head.noun} only, and a picture shows at least one. Say what "
                "it shows instead, or delete it."
            )
        return self._count(count - 1)

    def _remove(self, said: dict[str, str]) -> Edit | None:
        thing = re.sub(rf"^(?:{DET}|any) ", "", said.get("thing") or said["target"])
        if re.fullmatch(COLOURS, thing, re.IGNORECASE) and thing in self.head.words:
            return "remove", self._join(with_colour(self.head, ""))
        if thing in ("background", "ground"):
            kept = [part for part in self.parts if part.role != "place"]
            return "remove", join_parts(self.style, kept)
        at = self._find(thing)
        if at == 0:
            return self._remove_head()
        if at is not None:
            return "remove", join_parts(self.style, self.parts[:at] + self.parts[at + 1 :])
        if not re.fullmatch(r"[\w' -]+", thing) or len(thing.split()) > 3:
            return None
        return "remove", self._insert(Part("without", f"without {thing}"))

    def _remove_head(self) -> Edit:
        """Let what stands beside take the place of the first: "a dog and a cat" without the dog."""
        for i, part in enumerate(self.parts[1:], start=1):
            if found := re.match(rf"(?:and|with|plus) (?={DET}\b)", part.text):
                beside = Part("head", part.text[found.end() :], "")
                kept = [beside, *self.parts[1:i], *self.parts[i + 1 :]]
                return "remove", join_parts(self.style, kept)
        raise InputError(
            f"Without the {self.head.noun} nothing would be left in the picture. Say what it shows "
            f"instead, for instance: make it a house."
        )

    # ---- values ----

    def _value(self, said: str, *, is_framed: bool) -> Edit | None:
        """Understand what the picture's first thing is to be."""
        value = re.sub(r"^(?:to be|be|look|all|in|be in)\s+(?=" + COLOURS + r"$)", "", said)
        much = r"^(?:much|a lot|a bit|a little|slightly|even|really|very|way)\s+"
        value = re.sub(much, "", value, flags=re.IGNORECASE)
        value = re.sub(r"^more\s+(?=" + COLOURS + "$)", "", value)
        low = value.lower()
        if re.fullmatch(rf"(?:the )?{COLOURS}|(?:an? |the )?{COLOURS} ones?", low):
            colour = re.sub(r"^(?:an?|the) | ones?$", "", low)
            return "colour", self._join(with_colour(self.head, colour))
        for read in (
            self._size, self._number, self._time, self._style, self._clothes, self._doing,
        ):  # fmt: skip
            if edit := read(low, value):
                return edit
        if re.match(rf"{PLACE} ", low):
            return self._place(value)
        if is_framed and re.match(rf"{DET} |[\w-]+s$", low) and _is_thing(value):
            return self._replace(value)
        if is_framed and re.fullmatch(r"(?:more )?[a-z-]+", low):
            adjective = re.sub(r"^more ", "", low)
            if adjective not in (*self.head.words, *_NO_ADJECTIVES):
                words = (*self.head.words, adjective)
                return "attribute", self._join(replace(self.head, words=words))
        return None

    def _size(self, low: str, value: str) -> Edit | None:
        step = size_of(self.head)
        if found := re.fullmatch(rf"(?:an? )?(?P<size>{SIZE})(?: one)?", low):
            return "size", self._join(with_size(self.head, found["size"]))
        low = re.sub(r"^an? ", "", low)
        grows = re.fullmatch(r"(?:bigger|larger|greater|twice as (?:big|large)|grow)", low)
        shrinks = re.fullmatch(r"(?:smaller|littler|tinier|half as (?:big|large)|shrink)", low)
        if not grows and not shrinks:
            return None
        to = step + (1 if grows else -1)
        if not 0 <= to < len(SIZES):
            raise InputError(
                f"The prompt says {SIZES[step]} already, and there is no word for still "
                f"{'bigger' if grows else 'smaller'}. Say another thing to change."
            )
        return "size", self._join(with_size(self.head, SIZES[to]))

    def _doing(self, low: str, value: str) -> Edit | None:
        """Let it do something: "make it fly", "reading a book"."""
        found = re.fullmatch(rf"(?P<verb>{_DOING}|{'|'.join(_GERUNDS)})(?P<what> .+)?", low)
        if not found or not _is_thing(low):
            return None
        verb = _GERUNDS.get(found["verb"], found["verb"])
        tail = verb + (found["what"] or "")
        return "attribute", self._join(replace(self.head, tail=tail))

    def _number(self, low: str, value: str) -> Edit | None:
        numbers = "|".join(NUMBERS[1:])
        found = re.fullmatch(
            rf"(?:just |only )?(?P<n>\d+|{numbers})(?: of (?:them|those|these)| times)?", low
        )
        if not found:
            return None
        n = found["n"]
        return self._count(int(n) if n.isdigit() else NUMBERS.index(n))

    def _count(self, count: int) -> Edit:
        return "count", self._join(with_count(self.head, count))

    def _time(self, low: str, value: str) -> Edit | None:
        if low in _TIMES:
            low = _TIMES[low]
        if not re.fullmatch(TIME, low):
            return None
        return "time", self._exchange(("time",), Part("time", low))

    def _style(self, low: str, value: str) -> Edit | None:
        if found := re.fullmatch(rf"(?:(?:as|like|in) )?(?P<style>(?:an? )?{STYLE_NOUN})", low):
            style = re.sub(r"^an? ", "", found["style"])
            if re.fullmatch(r"water ?colou?r|pixel art", style):
                style += " picture"
            kept = [part for part in self.parts if part.role != "style"]
            article = "an" if style[0] in "aeiou" else "a"
            return "style", join_parts(f"{article} {style} of ", kept)
        if re.match(r"in the style of \S|like a (?:van gogh|picasso|monet)", low):
            return "style", self._exchange(("style",), Part("style", value, ", "))
        return None

    def _clothes(self, low: str, value: str) -> Edit | None:
        if re.match(rf"wear(?:ing)? |dressed (?:in|as) |in (?:{DET} )?(?:[\w-]+ )?{CLOTHES}$", low):
            clothes = re.sub(r"^wear ", "wearing ", value, flags=re.IGNORECASE)
            return "worn", self._exchange(("wears",), Part("wears", clothes))
        return self._with(value) if re.match(r"with(?:out)? ", low) else None

    def _with(self, value: str) -> Edit | None:
        if re.match(r"without ", value, re.IGNORECASE):
            return self._remove({"thing": value.split(" ", 1)[1]})
        if found := re.fullmatch(r"with (?:an? |the )?(?P<what>.+?) background", value):
            return self._ground(found["what"])
        thing = value.split(" ", 1)[1]
        return self._add({"thing": thing}) if _is_thing(thing) else None

    def _place(self, value: str) -> Edit | None:
        """Move everything elsewhere: "on a beach", if that is all that was said."""
        ground = re.fullmatch(rf"(?:on|against) (?:an? )?(?P<what>{COLOURS})", value.lower())
        if ground:
            return self._ground(ground["what"])
        if not _is_place(value):
            return None
        if re.match(rf"{BESIDE} ", value, re.IGNORECASE):
            return "place", self._exchange(("beside",), Part("beside", value))
        return "place", self._exchange(("place",), Part("place", value))

    def _ground(self, what: str) -> Edit | None:
        what = re.sub(r"^(?:to be|be|into|to|all) ", "", what)
        if re.match(rf"{PLACE} ", what, re.IGNORECASE):
            return self._place(what)
        bare = re.sub(r"^(?:an?|the) | background$", "", what)
        if re.fullmatch(COLOURS + r"|[a-z]+(?: [a-z]+)?", bare) and not re.match(f"{DET} ", what):
            article = "an" if bare[0] in "aeiou" else "a"
            return "place", self._exchange(
                ("place",), Part("place", f"on {article} {bare} background")
            )
        return self._place(f"in {what}" if _is_inside(what) else f"on {what}")

    def _replace(self, value: str) -> Edit | None:
        """Put a thing, with what is said of it, where the first one is."""
        style, parts = split_parts(value)
        head = parse_head(parts[0].text, self.subjects)
        is_noun = head.noun and not re.match(rf"(?:and |or )|(?:{COLOURS}|{SIZE})$", head.noun)
        is_noun = is_noun or value.lower() == "an orange"
        if not is_noun or not _is_thing(value):
            return None
        reader = _Reader(self._join(with_noun(self.head, head)), self.subjects)
        if style:  # "make it a sticker of a cat"
            reader = _Reader(join_parts(style, reader.parts), self.subjects)
        for part in parts[1:]:
            roles = (part.role,) if part.role in ("place", "time", "wears", "beside") else ()
            reader = _Reader(reader._exchange(roles, replace(part, gap=" ")), self.subjects)
        return "replace", reader.last

    # ---- the prompt, put together again ----

    def _in_part(self, at: int, thing: str) -> Edit | None:
        """Change what stands in a later part: "make the hat blue"."""
        part = self.parts[at]
        lead = re.match(rf"(?:wearing|dressed in|without|with|and|plus|{PLACE}) ", part.text)
        ahead = lead.group() if lead else ""
        inner = _Reader(part.text[len(ahead) :], self.subjects)
        if edit := inner._value(thing, is_framed=True):
            parts = [*self.parts]
            parts[at] = replace(part, text=ahead + edit[1])
            return edit[0], join_parts(self.style, parts)
        return None

    def _find(self, target: str) -> int | None:
        """Return the part that a definite description means; None where none is meant."""
        words = re.sub(r"^(?:the|his|her|its|their|my|an?) ", "", target.strip().lower())
        wanted = parse_head(words, self.subjects).noun or words
        wanted = re.split(r"['’]s ", wanted)[-1]
        if is_same_noun(wanted, self.head.noun):
            return 0
        for i, part in enumerate(self.parts[1:], start=1):
            if is_same_noun(wanted, noun_of(part, self.subjects)):
                return i
        return None

    def _join(self, head: Head) -> str:
        return join_parts(self.style, [replace(self.parts[0], text=head.text), *self.parts[1:]])

    def _exchange(self, roles: tuple[str, ...], new: Part) -> str:
        """Put a part where those of a role stand, or where such a one belongs."""
        at = [i for i, part in enumerate(self.parts) if part.role in roles]
        if not at:
            return self._insert(new)
        kept = [part for i, part in enumerate(self.parts) if i not in at[1:]]
        kept[at[0]] = replace(new, gap=kept[at[0]].gap)
        return join_parts(self.style, kept)

    def _insert(self, new: Part) -> str:
        """Add a part behind those that usually stand before it."""
        rank = {role: i for i, role in enumerate(_ORDER)}
        place = rank.get(new.role, len(rank))
        at = len(self.parts)
        while at > 1 and rank.get(self.parts[at - 1].role, 0) > place:
            at -= 1
        return join_parts(self.style, [*self.parts[:at], new, *self.parts[at:]])


_ORDER = ("head", "other", "wears", "with", "beside", "place", "time", "without", "style")
_NO_ADJECTIVES = ("around", "back", "over", "up", "down", "off", "out", "on", "again", "work")
_TIMES = {
    "night": "at night", "night-time": "at night", "nighttime": "at night", "day": "by day",
    "daytime": "by day", "evening": "in the evening", "morning": "in the morning",
    "winter": "in winter", "summer": "in summer", "autumn": "in autumn", "spring": "in spring",
    "rain": "in the rain", "raining": "in the rain", "rainy": "in the rain",
    "sunset": "at sunset", "sunrise": "at sunrise", "foggy": "in the fog", "dawn": "at dawn",
}  # fmt: skip


def _is_thing(text: str) -> bool:
    """Return whether a text names things and is no clause of its own."""
    is_clause = re.search(
        r"\b(?:and|then) (?:put|make|add|draw|turn|paint|remove|take|give|at|in|on)\b|"
        r"\b(?:is|are|was|it|them|i|you|we|please|there)\b(?!$)|\band$",
        text,
        re.IGNORECASE,
    )
    return is_clause is None and len(text.split()) <= 14


def _is_place(text: str) -> bool:
    """Return whether a text is a place alone: "in a forest", but not "in a forest a fox sleeps"."""
    _, parts = split_parts(text)
    for part in parts:
        words = re.sub(rf"^(?:{PLACE}|with|and)\s+", "", part.text, flags=re.IGNORECASE).split()
        ahead = [i for i, word in enumerate(words) if re.fullmatch(DET, word, re.IGNORECASE)]
        ahead = [i for i in ahead if i == 0 or words[i - 1] not in ("of", "to")]
        n_most = 4 if ahead == [0] else 2
        is_clause = re.search(r"\b(?:is|are|was|were|has|have|there|sits|stands)\b", part.text)
        if ahead not in ([], [0]) or is_clause or len(words) > n_most + 3 * words.count("of"):
            return False
    return True


def _is_inside(what: str) -> bool:
    return re.search(r"\b(?:forest|wood|city|kitchen|room|street|desert|garden|sea|ocean|snow|rain|"
                     r"park|jungle|space|town|village|house|school|castle|cave|sky)s?$",
                     what) is not None  # fmt: skip
