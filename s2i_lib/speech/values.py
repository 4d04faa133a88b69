"""What the thing in a picture is to be: a colour, a size, a number, a place, something else.

A value is what a frame holds ("make it ..."), or what is said alone ("on a beach"). Each kind has a
reader, which knows its own words and returns None for all others.
"""

from __future__ import annotations

from dataclasses import replace

import regex as re

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import PAIRS, UNCOUNTED
from s2i_lib.speech.phrases import (
    BESIDE,
    CLOTHES,
    COLOURS,
    DET,
    GROUND,
    NUMBERS,
    PLACE,
    QUALITY,
    SET_PLACE,
    SIZE,
    SIZES,
    STYLE_NOUN,
    TIME,
    WITHIN,
    WITHOUT,
    Part,
    count_of,
    is_adjective,
    is_same_noun,
    join_parts,
    noun_of,
    parse_head,
    size_of,
    split_parts,
    with_article,
    with_colour,
    with_noun,
    with_size,
)
from s2i_lib.speech.scene import NEXT, Edit, Scene, is_place, is_thing
from s2i_lib.speech.templates import article_for
from s2i_lib.speech.words import word_set

NO_ADJECTIVES = word_set("around back over up down off out on again work no sorry wait")
"""Words behind "make it" that are no adjectives."""
_TIMES = {
    "night": "at night", "night-time": "at night", "nighttime": "at night", "day": "by day",
    "daytime": "by day", "evening": "in the evening", "morning": "in the morning",
    "winter": "in winter", "summer": "in summer", "autumn": "in autumn", "spring": "in spring",
    "rain": "in the rain", "raining": "in the rain", "rainy": "in the rain",
    "sunset": "at sunset", "sunrise": "at sunrise", "foggy": "in the fog", "dawn": "at dawn",
    "night time": "at night", "misty": "in the mist", "stormy": "in a storm", "dark": "in the dark",
    "sunny": "in the sun", "snow": "in the snow", "snowing": "in the snow", "snowy": "in the snow",
}  # fmt: skip
_SKY = r"\b(?:rain|snow|storm|fog|thunderstorm|snowstorm|mist|stars)$"
"""Times that are places as well: in the rain there is no red background, and no kitchen."""
_UNDER_NO_SKY = re.compile(rf"{GROUND.pattern}|in the snow$", re.IGNORECASE)
"""Places that give way to such a time."""
_BARE_NOUNS = PAIRS | UNCOUNTED
"""Nouns that need no article to be things: "make it bread"."""
_GERUNDS = {
    "fly": "flying", "sleep": "sleeping", "run": "running", "jump": "jumping", "smile": "smiling",
    "laugh": "laughing", "dance": "dancing", "swim": "swimming", "sit": "sitting",
    "sing": "singing", "stand": "standing", "eat": "eating", "read": "reading",
    "cry": "crying", "walk": "walking",
    "drive": "driving", "wave": "waving", "play": "playing", "ride": "riding", "hide": "hiding",
    "drink": "drinking", "cook": "cooking", "climb": "climbing", "glow": "glowing",
    "burn": "burning",
}  # fmt: skip
THIRD_PERSON = {
    f"{verb[:-1]}ies" if verb[-1] == "y" and verb != "play" else f"{verb}s": gerund
    for verb, gerund in _GERUNDS.items()
}
DOES = {"wear": "wearing", "hold": "holding", "look": "looking", **_GERUNDS} | {
    gerund: gerund for gerund in _GERUNDS.values()
}
"""What somebody may be told to do, and what is seen then."""
DOING = f"(?:{'|'.join(_GERUNDS.values())})"

_FOR_INSTANCE = {
    "colour": "make it blue", "color": "make it blue", "style": "as a painting",
    "place": "on a beach", "size": "make it bigger", "background": "make the background green",
}  # fmt: skip
"""What somebody may say who wants another one of these."""


MUCH = (
    r"(?:much|a lot|(?:quite )?a bit|a (?:little|tiny) bit|a little|slightly|even|really|very|way)"
    r"(?! of\b)"
)
"""Words before a value that make it more or less so; "a lot of people" is a thing."""
MATERIAL = (
    r"(?:wood|gold|silver|bronze|copper|iron|steel|metal|glass|crystal|stone|marble|concrete|bricks?|"
    r"clay|sand|ice|snow|paper|cardboard|plastic|rubber|wool|felt|fabric|leather|lego|"
    r"chocolate|candy|cheese|bread|cake|gingerbread|cookies|diamonds?|flowers|leaves|balloons)"
)
_LOOK = r"look(?:ing)?(?= (?:at|up|down|out|in|into|over)\b)"


def read_value(scene: Scene, said: str, *, is_framed: bool) -> Edit | None:
    """Understand what the picture's first thing is to be."""
    value = re.sub(r"^(?:to be|be|look|all|in|be in)\s+(?=" + COLOURS + r"$)", "", said)
    value = re.sub(rf"^{MUCH}\s+", "", value, flags=re.IGNORECASE)
    aside = r"^(?:(?:more|further) )?(?:to (?:the|its|his|her) )?(left|right)$"
    value = re.sub(aside, r"on the \1", value, flags=re.IGNORECASE)
    value = re.sub("^into (?=space|the |an? )", "in ", value, flags=re.IGNORECASE)
    value = {"inside": "indoors", "outside": "outdoors"}.get(value.lower(), value)
    value = re.sub(r"^more\s+(?=" + COLOURS + "$)", "", value)
    value = re.sub(rf"^in (?:an? |the )?({COLOURS}) colou?rs?$", r"\1", value)
    low = value.lower()
    if re.search(NEXT, low):  # one change after another is read one by one
        return None
    refuse_other(low)
    if re.fullmatch(rf"(?:the )?{COLOURS}|(?:an? |the )?{COLOURS} ones?", low):
        colour = re.sub(r"^(?:an?|the) | ones?$", "", low)
        return "colour", scene.allow(colour).with_head(with_colour(scene.head, colour))
    for read in (_size, _number, _time, _style, _clothes, _doing, _made_of):
        if edit := read(scene, value):
            return edit
    if re.match(rf"(?!in the style ){PLACE} |{SET_PLACE}$", low):
        return _place(scene, value)
    is_noun = re.match(rf"{DET} |[\w-]+s$", low) or low.rpartition(" ")[2] in _BARE_NOUNS
    if is_framed and is_noun and is_thing(value):
        return _replace(scene, value)
    if is_framed and re.fullmatch(r"(?:more )?[a-z-]+", low):
        adjective = re.sub(r"^more ", "", low)
        if adjective not in (*scene.head.words, *NO_ADJECTIVES):
            words = (*scene.head.words, adjective)
            return "attribute", scene.with_head(with_article(replace(scene.head, words=words)))
    return None


def refuse_other(value: str) -> None:
    """Ask which one it is to be: somebody wants "a different colour"."""
    what = "|".join(_FOR_INSTANCE)
    found = re.fullmatch(
        rf"(?:(?:in|with|at|on) )?(?:another|(?:an? )?(?:different|new|other|wrong)|wrong) "
        rf"(?P<what>{what})s?|"
        rf"(?:change|switch) (?:the|its|his|her) (?P<what>{what})",
        value.lower(),
    )
    if found:
        raise InputError(
            f"“{value}” does not say which {found['what']}. Say it, for instance: "
            f"{_FOR_INSTANCE[found['what']]}."
        )


def _size(scene: Scene, value: str) -> Edit | None:
    step, low = size_of(scene.head), value.lower()
    if found := re.fullmatch(rf"(?:an? )?(?P<size>{SIZE})(?: one)?", low):
        return "size", scene.with_head(with_size(scene.head, found["size"]))
    low = re.sub(r"^an? ", "", low)
    times = "(?:as big|as large|the size)"
    grows = re.fullmatch(rf"(?:bigger|larger|greater|(?:twice|double) {times}|grow)", low)
    shrinks = re.fullmatch(rf"(?:smaller|littler|tinier|half {times}|shrink)", low)
    if most := re.fullmatch(r"(?:the )?(?:(?P<big>bigg|larg)|small|tini)est", low):
        return "size", scene.with_head(with_size(scene.head, SIZES[-1 if most["big"] else 0]))
    if not grows and not shrinks:
        return None
    to = step + (1 if grows else -1)
    if not 0 <= to < len(SIZES):
        raise InputError(
            f"The prompt says {SIZES[step]} already, and there is no word for still "
            f"{'bigger' if grows else 'smaller'}. Say another thing to change."
        )
    return "size", scene.with_head(with_size(scene.head, SIZES[to]))


def _doing(scene: Scene, value: str) -> Edit | None:
    """Let it do something: "make it fly", "reading a book"."""
    verbs = f"{_LOOK}|{DOING}|{'|'.join(_GERUNDS)}"
    found = re.fullmatch(rf"(?P<verb>{verbs})(?P<what> .+)?", value, re.IGNORECASE)
    if not found or not is_thing(value):
        return None
    verb = found["verb"].lower()
    verb = DOES.get(verb, verb)
    what = (found["what"] or "").strip()
    is_alone = all(part.role in ("place", "time", "style", "quality") for part in scene.parts[1:])
    is_there = is_alone and verb != "looking" and re.match(rf"{PLACE} ", what, re.IGNORECASE)
    if is_there and is_place(what):  # "flying over a city" is elsewhere, too
        doing = Scene(scene.with_head(replace(scene.head, tail=verb)), scene.subjects)
        place = _place(doing, what)
        return ("attribute", place[1]) if place else None
    tail = verb + (found["what"] or "")
    return "attribute", scene.with_head(replace(scene.head, tail=tail))


def _made_of(scene: Scene, value: str) -> Edit | None:
    """Let it be of another material, or somebody else for once: "as a pirate"."""
    made = (
        r"made (?:(?:out )?of|from) (?!(?:the|an?|above|behind|below|far|here|there)\b)"
        rf"(?P<what>[a-z]+(?: [a-z]+)?)|(?:out )?of (?P<what>(?:\w+ )?{MATERIAL})"
    )
    found = re.fullmatch(made, value, re.IGNORECASE)
    role = re.fullmatch(
        r"as an? (?:(?P<kind>[\w-]+) )?(?!(?:matter|team|rule|result|whole|joke|gift|test)$)"
        r"[\w'-]+",
        value,
        re.IGNORECASE,
    )
    if not found and (not role or not is_adjective(role["kind"] or "old")):
        return None
    tail = f"made of {found['what']}" if found else value
    return "attribute", scene.with_head(replace(scene.head, tail=tail))


def _number(scene: Scene, value: str) -> Edit | None:
    numbers = rf"\d+|{'|'.join(NUMBERS)}"
    found = re.fullmatch(
        rf"(?:just |only )?(?P<n>{numbers})(?: of (?:them|those|these|him|her|it)| times)?",
        value.lower(),
    )
    if not found:
        return None
    n = int(found["n"]) if found["n"].isdigit() else NUMBERS.index(found["n"])
    if n == 0:
        raise InputError(
            f"A picture shows at least one {scene.head.noun}. Say how many, or what it shows "
            "instead."
        )
    return scene.count(n)


def _time(scene: Scene, value: str) -> Edit | None:
    time = _TIMES.get(value.lower(), value.lower())
    if value.lower() not in _TIMES and not re.fullmatch(TIME, time):
        return None
    for i, part in enumerate(scene.parts[1:], start=1):
        if re.search(_SKY, time) and _UNDER_NO_SKY.match(part.text):
            return "place", scene.put(i, time)
        if time == "by day" and part.text.lower() == "at night":  # day is what nobody says
            return "time", scene.join([*scene.parts[:i], *scene.parts[i + 1 :]])
    return "time", scene.exchange(Part("time", time))


def _move(scene: Scene, where: str) -> Edit:
    """Put everything elsewhere, out of the rain, too."""
    roles = [part.role for part in scene.parts]
    for i, part in enumerate(scene.parts):
        if "place" not in roles and part.role == "time" and re.search(_SKY, part.text.lower()):
            return "place", scene.put(i, where)
    return "place", scene.exchange(Part("place", where))


def _style(scene: Scene, value: str) -> Edit | None:
    low = value.lower()
    if found := re.fullmatch(rf"(?:(?:as|like|in) )?(?P<style>(?:an? )?{STYLE_NOUN})", low):
        style = re.sub(r"^an? ", "", found["style"])
        if re.fullmatch(r"water ?colou?r|pixel art", style):
            style += " picture"
        kept = [part for part in scene.parts if part.role != "style"]
        return "style", join_parts(f"{article_for(style)} {style} of ", kept)
    named = r"(?!in |has |have )(?:(?:an?|the) )?[\w'’-]+(?: [\w'’-]+)? style$"
    if re.match(named, low):  # "make it anime style"
        value = low = f"in {value}"
    if re.match(rf"in the style of [^\s,][^,]*$|in {named}|like a (?:van gogh|picasso|monet)", low):
        return "style", scene.exchange(Part("style", value, ", "))
    if re.fullmatch(QUALITY, low):
        return "style", scene.insert(Part("quality", value, ", "))
    return None


def _clothes(scene: Scene, value: str) -> Edit | None:
    low = value.lower()
    if re.match(rf"wear(?:ing)? |dressed (?:in|as) |in (?:{DET} )?(?:[\w-]+ )?{CLOTHES}$", low):
        clothes = re.sub(r"^wear ", "wearing ", value, flags=re.IGNORECASE)
        return "worn", scene.exchange(Part("wears", clothes))
    if re.match(r"hold(?:ing)? ", low) and is_thing(value):
        return "add", scene.insert(Part("with", f"holding {value.split(' ', 1)[1]}"))
    return read_with(scene, value) if re.match(r"with(?:out)? ", low) else None


def read_with(scene: Scene, value: str) -> Edit | None:
    """Read "with a hat", "without the hat", "with a green background"."""
    if re.match(r"without ", value, re.IGNORECASE):
        return scene.remove(value.split(" ", 1)[1])
    if found := re.fullmatch(r"with (?:an? |the )?(?P<what>.+?)(?<! in the) background", value):
        return read_ground(scene, found["what"])
    thing = value.split(" ", 1)[1]
    return scene.add(thing) if is_thing(thing) else None


def _place(scene: Scene, value: str) -> Edit | None:
    """Move everything elsewhere: "on a beach", if that is all that was said."""
    ground = re.fullmatch(rf"(?:on|against) (?:an? )?(?P<what>{COLOURS})", value.lower())
    if ground:
        return read_ground(scene, ground["what"])
    if re.fullmatch(WITHIN, value.lower()):
        return "place", scene.exchange(Part("within", value))
    if not is_place(value):
        return None
    if re.match(rf"(?!{SET_PLACE}$){BESIDE} ", value, re.IGNORECASE):
        return "place", scene.exchange(Part("beside", value))
    return _move(scene, value)


def read_ground(scene: Scene, what: str) -> Edit | None:
    """Put another ground behind everything, a colour or a place."""
    what = re.sub(r"^(?:to be|be|into|to|all) ", "", what)
    if re.match(rf"{PLACE} |{SET_PLACE}$", what, re.IGNORECASE):
        return _place(scene, what)
    bare = re.sub(r"^(?:an?|the) | background$", "", what)
    if re.fullmatch(COLOURS + r"|[a-z]+(?: [a-z]+)?", bare) and not re.match(f"{DET} ", what):
        return _move(scene, f"on {article_for(bare)} {bare} background")
    return _place(scene, where(what))


def where(what: str) -> str:
    """Return a place with the word that leads to it: "in a forest", "on the left"."""
    return f"in {what}" if _is_inside(what) else f"on {what}"


def _replace(scene: Scene, value: str) -> Edit | None:
    """Put a thing, with what is said of it, where the first one is."""
    style, parts = split_parts(value)
    head = parse_head(parts[0].text, scene.subjects)
    if head.noun in ("left", "right"):
        return None
    number = count_of(head) if scene.head.is_subject and value == f"{head.det} {head.noun}" else 1
    if number and number > 1 and is_same_noun(head.noun, scene.head.noun):
        return scene.count(number)  # "two dogs" of one who is drawn by looks
    is_noun = head.noun and not re.match(rf"(?:and |or )|(?:{COLOURS}|{SIZE})$", head.noun)
    is_noun = is_noun or value.lower() == "an orange"
    if not is_noun or not is_thing(value):
        return None
    text = scene.allow(head.noun).with_head(with_noun(scene.head, head))
    if style:  # "make it a sticker of a cat"
        text = join_parts(style, Scene(text, scene.subjects).parts)
    for part in parts[1:]:
        new = Scene(text, scene.subjects)
        is_single = part.role in ("place", "time", "wears", "beside")
        put = new.exchange if is_single else new.insert
        words = re.sub(rf"^{WITHOUT}\b", "without", part.text, flags=re.IGNORECASE)
        is_out = part.role == "without" and new.find(noun_of(part))
        edit = new.remove(noun_of(part)) if is_out else None  # "make it a cat without a hat"
        text = edit[1] if edit else put(replace(part, text=words, gap=" "))
    return "replace", text


def read_part(scene: Scene, at: int, thing: str) -> Edit | None:
    """Change what stands in a later part: "make the hat blue"."""
    part = scene.parts[at]
    if part.role == "with" and re.match(rf"{PLACE} ", thing):
        return "place", scene.attach(at, Part("place", thing))
    if part.role == "place" and re.match(rf"{PLACE} ", thing):
        return _place(scene, thing)
    if part.role == "place" and _is_inside(thing) and not re.match(rf"{DET} ", thing):
        return _place(scene, f"in {thing}")  # "the beach by snow"
    lead = re.match(rf"(?:wearing|holding|dressed in|without|with|and|plus|{PLACE}) ", part.text)
    ahead = lead.group() if lead else ""
    inner = Scene(part.text[len(ahead) :], scene.subjects)
    if edit := read_value(inner, thing, is_framed=True):
        parts = [*scene.parts]
        if part.role == "place" and edit[0] == "replace" and ahead.lower() in ("in ", "on "):
            if _is_inside(edit[1]):
                ahead = "in "
            elif _is_inside(inner.text):  # from a forest to a beach, but from a box into a bag
                ahead = "on "
        parts[at] = replace(part, text=ahead + edit[1])
        return edit[0], Scene(scene.join(parts), scene.subjects).allow(thing).text
    return None


def _is_inside(what: str) -> bool:
    return re.search(r"\b(?:forest|wood|city|kitchen|room|street|desert|garden|sea|ocean|snow|rain|"
                     r"park|jungle|space|town|village|house|school|castle|cave|sky|cloud|meadow|"
                     r"field|mountain|middle|cent(?:er|re)|corner|foreground|distance)s?$",
                     what) is not None  # fmt: skip
