"""The frames of English that say what is changed and how: "make the car ...", "... instead".

A frame is a pattern with a reader for what it holds, tried in the order of `_FRAMES`. A reader
returns None where the words fit and the meaning does not, and the next frame has its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import regex as re

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import singular_of
from s2i_lib.speech.phrases import (
    BESIDE,
    CLOTHES,
    COLOURS,
    DET,
    FAR,
    MASS,
    PLACE,
    SIZE,
    SIZES,
    WITHIN,
    Part,
    count_of,
    is_adjective,
    is_same_noun,
    parse_head,
    size_of,
    split_parts,
)
from s2i_lib.speech.scene import Edit, Scene, is_thing
from s2i_lib.speech.templates import article_for
from s2i_lib.speech.values import (
    NO_ADJECTIVES,
    THIRD_PERSON,
    read_ground,
    read_part,
    read_value,
    refuse_other,
    where,
)

_PRONOUN = (
    r"(?:it|all of (?:it|them)|both(?: of them)?|them|this|that|these|those|him|her|everything|"
    r"the whole thing|the picture|the image|this one|they|he|she)"
)
_TARGET = "(?P<target>TARGET)"
# Which of these it is, what stands in the prompt says: "make the teddy | bear blue" finds nothing.
_TARGETS = (_PRONOUN, *(rf"(?:the|his|her|its|their|my)(?: [\w'’-]+){{{n}}}" for n in (1, 2, 3)))
_VERB = r"(?:make|paint|colou?r|dye|turn|draw|put|place|set|move|change|have|want|need|show|let|" \
        r"render|get|see|transform|convert|like|do|try)"  # fmt: skip
_BE = (
    r"(?:(?:to )?(?:be|become|look(?! (?:at|up|down|out|in|into|over)\b)|appear|get|turn)|"
    r"into|to|as|all|look like)"
)
_SHOULD = r"(?:should|must|could|can|has to|have to|needs to|ought to|is now|are now)(?: rather)?"
_THING = r"(?P<thing>.+?)"
# What somebody may wear or get: "a hat", "red shoes", but not "to fly over houses".
_SOMETHING = rf"(?:{DET}\b|(?!to |be )[\w' -]+s$)"
_NOT = r"(?:n['’]?t| not)"
# What stands before a thing that is not wanted.
_UNWANTED = (
    rf"(?:i do{_NOT} (?:want|like|need)(?: {_PRONOUN}(?: to (?:have|wear|be))?| to see)?|"
    rf"(?P<who>{_PRONOUN}|the [\w' -]+?) (?:(?:should|must|do|does|can|is|are){_NOT}"
    r"(?: (?:have|has|wear|need|want|be|get))?|(?:has|have|(?:should|must) (?:have|wear)) no)|"
    rf"it['’]s not|there should(?:{_NOT} be| be no)|"
    rf"do{_NOT} (?:draw|paint|show|put|add|make it|give (?:it|him|her|them))|"
    rf"(?:{_VERB} {_PRONOUN} )?not)(?: (?:so|too|that|as|quite|with))?"
)


def read_framed(scene: Scene, words: str) -> Edit | None:
    """Return what a sentence in a frame makes of a scene; None where no frame fits."""
    for read, pattern in _FRAMES:
        for target in _TARGETS if "TARGET" in pattern else [""]:
            found = re.fullmatch(pattern.replace("TARGET", target), words, re.IGNORECASE)
            said = {name: value or "" for name, value in found.groupdict().items()} if found else {}
            if found and (edit := read(scene, said)):
                return edit
    return None


def _is_pronoun(target: str) -> bool:
    return re.fullmatch(_PRONOUN, target, re.IGNORECASE) is not None


def _set(scene: Scene, said: dict[str, str]) -> Edit | None:
    if ground := said.get("ground"):
        return read_ground(scene, ground)
    target, thing = said.get("target", ""), said["thing"]
    if not target or _is_pronoun(target):
        return read_value(scene, thing, is_framed=True)
    if re.search(r"\b(?:back)?ground$", target):
        return read_ground(scene, thing)
    at = scene.find(target)
    if at is not None and re.fullmatch(WITHIN, thing, re.IGNORECASE):
        return "place", scene.attach(at, Part("within", thing))
    if at == 0:
        return read_value(scene, thing, is_framed=True)
    return None if at is None else read_part(scene, at, thing)


def _new(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Add what the sentence speaks of, where it is not there: "make the sky dark"."""
    thing, what = said["thing"], said["what"]
    is_word = re.fullmatch(rf"{COLOURS}|{SIZE}|[a-z]+", thing, re.IGNORECASE)
    if not is_word or thing in NO_ADJECTIVES or scene.find(what) is not None:
        return None
    is_one = singular_of(what) == what and what not in MASS
    article = f"{article_for(thing)} " if is_one else ""
    return "add", scene.insert(Part("with", f"with {article}{thing} {what}"))


def _strict(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Take what stands behind "it" for a value, but not for any word that could be a verb."""
    first, *rest = said["thing"].split()
    if doing := THIRD_PERSON.get(first.lower()):  # "it flies"
        return read_value(scene, " ".join([doing, *rest]), is_framed=True)
    edit = read_value(scene, said["thing"], is_framed=True)
    is_noun = edit is not None and edit[0] == "replace" and not re.match(DET, first)
    return edit if edit and edit[0] != "attribute" and not is_noun else None


def _is(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Read "it's night", "it is blue"; but "it's a cat on a sofa" is a wish of its own."""
    edit = read_value(scene, said["thing"], is_framed=True)
    kinds = ("colour", "count", "place", "size", "time", "worn")
    is_known = edit is not None and edit[0] == "attribute" and is_adjective(said["thing"])
    return edit if edit and (edit[0] in kinds or is_known) else None


def _swap(scene: Scene, said: dict[str, str]) -> Edit | None:
    target = said["target"]
    if _is_pronoun(target):
        return read_value(scene, said["thing"], is_framed=True)
    if re.fullmatch(rf"{COLOURS}|{SIZE}", target, re.IGNORECASE):
        word = rf"\b{re.escape(target)}\b"
        is_grounds = re.search(word, scene.text, re.IGNORECASE) and not re.search(
            word, scene.head.text, re.IGNORECASE
        )
        is_clause = re.search(r"\b(?:is|are)$", said["thing"])  # "the sky is not blue"
        if is_grounds:
            return read_ground(scene, said["thing"])
        return None if is_clause else read_value(scene, said["thing"], is_framed=True)
    return _set(scene, said) if scene.find(target) is not None or "ground" in target else None


def _move(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Read "take it to the beach", "move the cat to the left"."""
    target, place = said["target"], where(said["thing"])
    at = 0 if _is_pronoun(target) else scene.find(target)
    if at is None or scene.parts[at].role == "place":
        return None
    if re.fullmatch(WITHIN, place, re.IGNORECASE) and not _is_pronoun(target):
        return "place", scene.attach(at, Part("within", place))
    return read_part(scene, at, place) if at else read_ground(scene, said["thing"])


def _instead(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Read what stands before "instead" in a frame of its own, or as what the thing is to be."""
    thing = re.sub(rf"^{_VERB} (?:(?:me|us) )?", "", said["thing"], flags=re.IGNORECASE)
    return read_framed(scene, said["thing"]) or read_value(scene, thing, is_framed=True)


def _wear(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Put something on what the sentence names: of a dog and a cat on one of them."""
    target = said.get("target") or "it"
    at = None if _is_pronoun(target) else scene.find(target)
    is_there = at is not None or _is_pronoun(target)
    if not is_there or not re.match(_SOMETHING, said["thing"]):
        return None
    return scene.add(said["thing"], at)


def _beside(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Put something next to what is there; "the cat", where it is there, goes there."""
    thing, target, beside = said["thing"], said["target"], said["where"]
    if not is_thing(thing) or not re.match(rf"{DET}\b", thing):
        return None
    if _is_pronoun(target):
        beside = re.sub(r"\w+$", "it", beside)
    elif scene.find(target) is None:
        return None
    if thing.startswith("the ") and (at := scene.find(thing)):
        return "place", scene.attach(at, Part("beside", beside))
    return "add", scene.insert(Part("with", f"with {thing} {beside}"))


def _far(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Put one thing behind it all: "mountains in the background", but no scene of its own."""
    thing = said["thing"]
    is_there = re.match(rf"the |{_PRONOUN}$", thing, re.IGNORECASE)
    if is_there or len(split_parts(thing)[1]) > 1:
        return None
    return scene.add(f"{thing} {said['where']}")


def _more(scene: Scene, said: dict[str, str]) -> Edit | None:
    thing = said["thing"].lower()
    one_more = ("more", "another", "one more", "one", "of them", "of those")
    if thing in one_more or is_same_noun(thing, scene.head.noun):
        count = count_of(scene.head)
        return scene.count((count or 1) + 1)
    if not said.get("more"):
        return scene.add(f"another {thing}") if scene.find(thing) else None
    if thing in ("detail", "details"):
        return read_value(scene, "in more detail", is_framed=True)
    if singular_of(thing) == thing and thing not in MASS:
        # "More realistic", but not "more money".
        return read_value(scene, thing, is_framed=True) if is_adjective(thing) else None
    if at := scene.find(thing):
        noun = rf"(?:{re.escape(thing)}|{re.escape(singular_of(thing))})\b"
        there = rf"\b(?:{DET}|more) ((?:[\w-]+ )??){noun}|\b{noun}"
        return "add", scene.put(at, re.sub(there, rf"more \1{thing}", scene.parts[at].text))
    return scene.add(f"more {thing}")


def _aspect(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Read "change the weather to rain", "the style to Picasso", "the place to a beach"."""
    what, thing = said["what"].lower(), said["thing"]
    if what in ("scene", "place", "location", "setting"):
        return read_ground(scene, thing)
    edit = read_value(scene, thing, is_framed=what != "style")
    by = f"in the style of {thing}"
    return edit or (read_value(scene, by, is_framed=True) if what == "style" else None)


def _number_of(scene: Scene, said: dict[str, str]) -> Edit | None:
    return read_value(scene, said["thing"], is_framed=False)


def _dress(scene: Scene, said: dict[str, str]) -> Edit | None:
    return _set(scene, {**said, "thing": f"dressed {said['thing']}"})


def _less(scene: Scene, said: dict[str, str]) -> Edit | None:
    thing, count = said["thing"], count_of(scene.head)
    if thing in scene.head.words:  # "less scary"
        return scene.remove(thing)
    if thing and not is_same_noun(thing, scene.head.noun):
        return None
    if count is None or count < 2:
        raise InputError(
            f"There is one {scene.head.noun} only, and a picture shows at least one. Say what "
            "it shows instead, or delete it."
        )
    return scene.count(count - 1)


def _stop(scene: Scene, said: dict[str, str]) -> Edit | None:
    return scene.remove(said["thing"]) if scene.find(said["thing"]) else None


def _remove(scene: Scene, said: dict[str, str]) -> Edit | None:
    return scene.remove(said.get("thing") or said["target"])


def _unwanted(scene: Scene, said: dict[str, str]) -> Edit | None:
    """Take out what somebody does not want; "not so big" is smaller."""
    thing, who = said["thing"], said.get("who", "")
    thing = re.sub(r" (?:on|in|to) (?:it|them|him|her)$", "", thing)
    if who.startswith("the ") and scene.find(who) is None:
        return None
    refuse_other(f"another {thing.removeprefix('the ')}")
    if thing == "there":
        thing = who
    if re.fullmatch(SIZE, thing, re.IGNORECASE):
        is_big = size_of(parse_head(f"a {thing} thing")) > SIZES.index("")
        return _set(scene, {"target": who or "it", "thing": "smaller" if is_big else "bigger"})
    is_none = rf"(?:{_PRONOUN}|to|for)\b|one$|\w+ing$|.+ (?:but|for)\b"
    return None if re.match(is_none, thing, re.IGNORECASE) else scene.remove(thing)


_Read: TypeAlias = Callable[[Scene, dict[str, str]], "Edit | None"]
_FRAMES: tuple[tuple[_Read, str], ...] = (
    (_instead, rf"{_THING},? instead"),
    (_swap, rf"(?:(?:{_VERB}|give) (?:{_PRONOUN} (?:{_BE} )*)?)?{_THING},? "
             r"(?:instead of|rather than|in place of|not|and not) (?P<target>[^,]+)"),
    # What a change is in place of is left out: "put it in a forest instead of on the beach".
    (lambda scene, said: read_framed(scene, said["thing"]),
     rf"{_THING},? (?:instead of|rather than|in place of) .+"),
    (_remove, rf"(?:take|leave|cut) {_TARGET} (?:off|away|out)"
               rf"(?: (?:of )?(?:{_PRONOUN}|the [\w' -]+))?"),
    (_remove, rf"(?:remove|delete|take away|take off|leave out|lose|drop|"
               rf"erase|get rid of|cut out|"
               rf"without|no more|no(?! \w+ing\b| (?:no|an?)\b)|hide) (?:any )?{_THING}"
               r"(?: please)?"),
    (_stop, r"stop (?P<thing>the [\w-]+)"),
    (_unwanted, rf"{_UNWANTED} (?:any )?{_THING}(?: please)?"),
    (_unwanted, rf"(?:(?P<who>{_PRONOUN}|the [\w' -]+?)(?:['’]s| is| are|['’]re) )?(?:\w+ )?too "
                 rf"(?P<thing>{SIZE})"),
    (_wear, rf"(?:put|add) {_THING} (?:on|(?<!next |close )to) (?:(?:its|his|her|their) heads?|"
             rf"(?P<target>{_PRONOUN}|the [\w' -]+?)(?:['’]s heads?)?)"),
    (_wear, rf"(?P<target>{_PRONOUN}|the [\w' -]+?) (?:should|must|has to|needs to) "
             rf"(?:wear|have) {_THING}"),
    (_wear, rf"(?:give|let) (?P<target>it|them|him|her|the [\w' -]+?) (?:wear |have )?"
             rf"(?={DET}\b|[\w-]+s$){_THING}"),
    (_wear, rf"give (?P<target>{_PRONOUN}|the [\w' -]+?) (?={_SOMETHING}){_THING}"),
    (_wear, rf"(?P<target>it|he|she|they|the [\w' -]+?) (?:needs?|wants?|could use|gets?) "
             rf"{_THING}"),
    # "A cake with no candles on it" is a wish.
    (_wear, rf"(?!.*\bwith(?:out)?\b)(?:i(?:'d| would) like |i want |{_VERB} )?{_THING} on "
            rf"(?P<target>it|them|him|her)"),
    (_wear, rf"put (?:on (?P<thing>an? (?:[\w-]+ )?{CLOTHES})|"
            rf"(?P<thing>an? (?:[\w-]+ )?{CLOTHES}) on)"),
    (_beside, rf"(?:put|place|add|set|draw|paint|show)? ?{_THING} "
               rf"(?P<where>{BESIDE} (?P<target>it|them|him|her))"),
    (_beside, rf"(?:put|place|add|set|draw|paint|show|move) {_THING} "
               rf"(?P<where>{BESIDE} (?P<target>the [\w' -]+))"),
    (_far, rf"(?:put|place|add|set) {_THING} (?P<where>{WITHIN})"),
    (_far, rf"(?:put|place|add|set|draw|paint|show|i want|i(?:['’]d| would) like|"
            rf"there should be) {_THING} "
            rf"(?P<where>{FAR})"),
    (_more, r"(?:add )?(?:another|one more|an extra|an additional) (?P<thing>[\w' -]+)|"
             r"(?P<thing>more) of (?:them|those|these)|"
             r"(?:add )?(?P<more>more) (?!(?:than|or|like|and)\b)(?P<thing>[\w-]+)|"
             r"add (?P<thing>another|one more|one)"),
    (_less, r"(?:make (?:it|them|him|her) )?(?:one )?(?:less|fewer) (?P<thing>[\w' -]+)|"
             r"one (?:less|fewer)|"
             r"remove one(?: of them)?"),
    (_move, rf"(?:take|bring|move|send|put) {_TARGET} (?:in)?to (?P<thing>(?:the|an?) .+)"),
    (lambda scene, said: scene.add(said["thing"]),
     rf"(?:add|include|put in|insert|throw in|also add|append) (?:in )?{_THING}"),
    (_aspect, rf"(?:change|set|make|turn) (?:the |its )?(?P<what>weather|time|time of day|season|"
               rf"scene|place|location|setting|style) (?:to|into) {_THING}"),
    (_swap, rf"(?:replace|swap|exchange|switch|change|turn) {_TARGET} "
             rf"(?:with|for|by|into|to) {_THING}"),
    (_swap, rf"(?:{_PRONOUN}(?:['’]s| is| are| should be) )?"
             rf"(?:instead of|in place of|rather than|not|no) (?:{PLACE} )?(?P<target>(?:{DET} )?"
             rf"[\w'-]+(?: [\w'-]+)??)(?:, but|,| but|(?= an? )) (?:{_VERB} )?{_THING}"),
    (_number_of, rf"{_VERB} (?P<thing>\w+ of (?:them|those|these|him|her|it))"),
    (_dress, rf"(?:dress|dress up) {_TARGET} (?:up )?(?P<thing>(?:as|in) .+)"),
    (_set, rf"(?:change|set|make|turn) (?:the |its |their |his |her )?colou?r (?:of {_TARGET} )?"
            rf"(?:to |into |be )?{_THING}"),
    (_set, r"(?:change|set|turn|make|paint) (?:the |its )?(?:background|ground)(?: colou?r)? "
            r"(?:to |into |be )?(?P<ground>.+)"),
    (_set, rf"{_VERB} (?:that )?{_TARGET}(?: {_BE})* {_THING}"),
    (_set, rf"{_TARGET} (?:{_SHOULD}|to be|to become|to look)(?: {_BE})* {_THING}"),
    (_is, rf"(?:it|he|she|they)(?:['’](?:s|re)| is| are)(?: now)? {_THING}"),
    (_strict, rf"(?:it|them)(?: {_BE})* {_THING}"),  # "I want it blue"
    (_set, rf"(?P<target>the [\w-]+) (?P<thing>{COLOURS})"),  # "I want the cat white"
    (_new, rf"(?:make|paint|colou?r|turn) (?:the|its|his|her) (?P<what>[\w-]+) {_THING}"),
)  # fmt: skip
