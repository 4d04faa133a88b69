"""Whether a sentence changes the last picture, and what its prompt is then (pure functions).

    read_change("make it blue", "a red car on a beach").text == "a blue car on a beach"
    read_change("undo", ...).kind == "undo"
    read_change("a cat on a sofa", ...) is None        # a new wish

A sentence is read in four steps. Politeness goes ("could you please ... now?"). What its speaker
put right is as it was meant ("make it red, no, blue"). A frame says what is changed and how ("make
the car ...", "add ...", "I don't want ...", "... instead"); without a frame only what could not be
a wish of its own is a change ("blue", "on a beach", "bigger"). What the frame holds is a value: a
colour, a size, a number, a place, a time, a style, something worn, or a thing in place of another.
Everything else is a new wish: so a scene is never taken for a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TypeAlias

import regex as re

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.commands import Change, read_command
from s2i_lib.speech.frames import read_framed
from s2i_lib.speech.habits import MARKER, put_right, strip_habits, strip_politeness
from s2i_lib.speech.phrases import (
    CLOTHES,
    COLOURS,
    DET,
    NUMBERS,
    PLACE,
    SET_PLACE,
    SIZE,
    STYLE_NOUN,
    Part,
    is_adjective,
)
from s2i_lib.speech.scene import Edit, Scene, is_thing
from s2i_lib.speech.values import DOING, MUCH, read_ground, read_value, read_with, refuse_other

MOST_WORDS, MOST_CUTS = 40, 6
"""More words, or more places where one change may end, are no change: each is read on its own."""
_Read: TypeAlias = "tuple[str, str, bool] | None"
_Memo: TypeAlias = dict[tuple[str, str], _Read]


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
    if len(sentence.split()) > MOST_WORDS:
        added = f"{last}, {strip_habits(sentence).strip(' ,.;!?…')}"
        return _make_change("add", last, added, True) if is_forced else None
    memo: _Memo = {}
    words = strip_politeness(sentence)
    for subject in subjects:
        if subject.is_in(last):  # the one that is there
            words = re.sub(rf"\ba (?=(?:[\w-]+ )?{re.escape(subject.phrase)}\b)", "the ", words)
    if not words:
        return None
    words = _put_right(Scene(last, subjects), words[0].lower() + words[1:], memo)
    if command := read_command(words):
        return command
    if read_command(f"{words} picture"):  # "keep the"
        _refuse_cut_short(words)
    for said in dict.fromkeys((words, re.sub(r"^(?:and|but|then|now|just|only) ", "", words))):
        if edit := _read(Scene(last, subjects), said, memo):
            _refuse_cut_short(said)
            kind, text, is_explicit = edit
            return _make_change(kind, last, text, is_explicit)
    if not is_forced:
        return None
    _refuse_cut_short(words)
    words = strip_habits(sentence).strip(" ,.;!?…") or words
    kind, text = read_value(Scene(last, subjects), words, is_framed=True) or (
        "add",
        f"{last}, {words}",
    )
    return _make_change(kind, last, text, True)


_CUT_SHORT = re.compile(
    r"\b(?:very|really|quite|so|much|(?<=it )more|(?<=it )a (?:bit|little)|an?|the|my|with|"
    r"without|to|of|in|and|or)$",
    re.IGNORECASE,
)


def _refuse_cut_short(words: str) -> None:
    """Ask for the end of a change that stops before it: "make it very"."""
    if found := _CUT_SHORT.search(words):
        raise InputError(
            f"“{words}” stops at “{found.group()}”. Say it to its end, for instance: "
            "make it very small."
        )


_ALIKE = (COLOURS, "|".join([r"\d+", *NUMBERS]), "bigger|smaller")
"""Kinds of words of which one puts another right without a comma: "red, no blue"."""
_NO = "|".join(rf"(?<=\b(?:{kind})[,.] )no(?= (?:{kind})$)" for kind in _ALIKE)
_PUT_RIGHT = re.compile(
    rf"(?P<wrong>.+?)[\s,.?!…-]+(?:(?:{MARKER}|actually\b,?|{_NO})\s+)+(?P<right>.+)", re.IGNORECASE
)


def _put_right(scene: Scene, words: str, memo: _Memo) -> str:
    """Return a change as it was meant: "make it red, no, blue" is "make it blue"."""
    found = _PUT_RIGHT.fullmatch(words)
    if not found or _read(scene, found["wrong"], memo) is None:
        return put_right(words)
    right = _put_right(scene, strip_politeness(found["right"]), memo)
    if read_command(right):  # "make it blue, no, go back"
        return right
    for pattern in _what_goes(right):
        goes = re.search(pattern, found["wrong"], re.IGNORECASE)
        meant = goes and goes.string[: goes.start()] + right + goes.string[goes.end() :]
        if meant and _read(scene, meant, memo):
            return meant
    return right if _read(scene, right, memo) else words


def _what_goes(right: str) -> tuple[str, ...]:
    """Return patterns for what is said anew: from the same word on, or the last word."""
    if re.fullmatch(rf"{COLOURS}|[\w'-]+", right, re.IGNORECASE):
        return (rf"(?:{COLOURS}|[\w'-]+)$",)
    if re.match(rf"{DET} ", right, re.IGNORECASE):
        return (rf"\b{DET} (?:(?!\b{DET} ).)+?(?= on (?:it|them|him|her)$|$)", r"[\w'-]+$")
    first = (
        PLACE
        if re.match(rf"{PLACE} ", right, re.IGNORECASE)
        else re.escape(right.partition(" ")[0])
    )
    return (rf"\b{first} (?!.*\b{first} ).+",)


def _make_change(kind: str, last: str, text: str, is_explicit: bool) -> Change:
    old, new = last.split(), text.split()
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    went = [word for tag, a, b, _, _ in steps if tag != "equal" for word in old[a:b]]
    came = [word for tag, _, _, a, b in steps if tag != "equal" for word in new[a:b]]
    return Change(kind, text, tuple(went), tuple(came), is_explicit=is_explicit)


def _read(scene: Scene, words: str, memo: _Memo) -> _Read:
    """Return kind, new prompt, and whether the sentence says that it is a change."""
    key = scene.text, words
    if key not in memo:
        memo[key] = _read_anew(scene, words, memo)
    return memo[key]


def _read_anew(scene: Scene, words: str, memo: _Memo) -> _Read:
    plain = re.sub(r" (?:again|now|then)$", "", words, flags=re.IGNORECASE)
    if edit := _read_bare(scene, plain):
        return (*edit, False)
    if edit := read_framed(scene, plain):
        return (*edit, True)
    return _read_several(scene, plain, memo)


def _read_bare(scene: Scene, words: str) -> Edit | None:
    """Read what says no verb of change, and could be no wish of its own: "blue", "on a beach"."""
    value = re.sub(r" (?:instead|one|ones)$", "", words, flags=re.IGNORECASE)
    value = re.sub(r"^(?:more |now |rather |but )", "", value, flags=re.IGNORECASE)
    refuse_other(value)
    if re.match(r"with(?:out)? ", value, re.IGNORECASE):
        return read_with(scene, value)
    if re.match(rf"(?:and|plus|also) {DET} ", words, re.IGNORECASE) and is_thing(words):
        return "add", scene.insert(Part("with", re.sub("^also ", "and ", words)))
    if re.fullmatch(rf"(?:and|plus|also) {CLOTHES}s?", words, re.IGNORECASE):  # "and glasses"
        return scene.add(words.partition(" ")[2])
    if more := re.fullmatch(r"(?P<stem>[a-z]+?)(?P<y>i?)er", value.lower()):
        plain = more["stem"] + ("y" if more["y"] else "")  # "happier"
        if is_adjective(plain) and not re.fullmatch(rf"{SIZE}|\w+(?:ing|ed)", plain):
            return read_value(scene, plain, is_framed=True)
    if re.fullmatch(rf"(?:an? |the )?(?:in )?{COLOURS}", value, re.IGNORECASE) or re.match(
        rf"(?:{PLACE}|wear(?= {DET}\b)|wearing|holding|dressed|as|during|by) |"
        rf"{SET_PLACE}$|{SIZE}\b|"
        rf"\w+ of them|"
        rf"[a-z]+er\b|"
        rf"(?:(?:have|get|draw|make|see|show) )?an? (?:[a-z]+er|{COLOURS})$|{DOING}$|"
        rf"(?:{'|'.join(NUMBERS[1:])})$|{MUCH} |half |twice |double the size$|"
        rf"(?:(?:more|further) )?to the (?:left|right)$|(?:in|out)(?:side|doors)$|into space$|"
        r"made (?:out )?of ",
        value,
        re.IGNORECASE,
    ):
        value = re.sub(r"^(?:have|get|draw|make|see|show) (?=an? )", "", value)
        value += " one" if re.fullmatch(rf"an? {COLOURS}", value) else ""
        return read_value(scene, value, is_framed=False)
    if re.fullmatch(rf"like an? {STYLE_NOUN}", value, re.IGNORECASE):
        return read_value(scene, value, is_framed=False)
    ground = rf"(?:an? )?(?P<what>{COLOURS}|plain|simple|dark|bright) background"
    if found := re.fullmatch(ground, value, re.IGNORECASE):
        return read_ground(scene, found["what"])
    return None


def _read_several(scene: Scene, words: str, memo: _Memo) -> _Read:
    """Read "make it blue and put it on a beach": each part has to be a change."""
    ends = re.finditer(r"(?:[,.;!]\s*(?:and |but |then )?| (?:and(?: then)?|then) )", words)
    cuts = list(ends)
    for cut in cuts if len(cuts) <= MOST_CUTS else ():
        first = _read(scene, words[: cut.start()], memo)
        rest = re.sub(r"^(?:also|please|now) ", "", words[cut.end() :], flags=re.IGNORECASE)
        if first is None:
            continue
        changed = Scene(first[1], scene.subjects)
        then = _read(changed, rest, memo)
        if then is None and first[2] and re.match("(?:the|his|her|its) ", rest):
            then = _read(changed, f"make {rest}", memo)  # "make the dog blue and the hat red"
        is_word = first[0] != "add" and re.fullmatch(r"[\w-]+", rest)
        if then is None and first[2] and is_word:  # "happy and fat"
            edit = read_value(changed, rest, is_framed=True)
            then = edit and (*edit, True)
        if then:
            return "several", then[1], first[2] or then[2]
    return None
