"""What people say to the machine and not about the picture, taken away (pure functions).

"Um, can you please draw me a dog" is "a dog"; marks that were said are written. Style stays ("a
painting of"), and so does every word that could be part of the scene.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex as re

from s2i_lib.speech.name_matching import DETERMINERS, POSSESSIVES

_MARKS = {
    "comma": ",",
    "full stop": ".",
    "exclamation mark": "!",
    "question mark": "?",
    "semicolon": ";",
    "new line": ",",
}
_MARK = re.compile(
    rf"(?P<before>\b[\w'-]+\b)?[\s,.]*\b(?P<mark>{'|'.join(_MARKS)})\b[,.]?", re.IGNORECASE
)


def write_marks(text: str) -> str:
    """Write marks that were said: "a cat comma a dog full stop" -> "a cat, a dog."

    "a comma butterfly" stays.
    """

    def mark(match: re.Match[str]) -> str:
        before = match["before"] or ""
        if not before or before.lower() in DETERMINERS | POSSESSIVES | {"big", "red", "of"}:
            return match.group()
        return before + _MARKS[match["mark"].lower()]

    return _MARK.sub(mark, text)


_UM = re.compile(
    r"(?P<before>,)?\s*\b(?:u+m+|u+h+|u+h+m+|e+r+m+|h+m+|m{2,}|er|eh)\b(?:\.{3}|…)?(?P<after>,)?\s*",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r",\s*(?:you know|i mean|like|well|i guess|i think|let's say|let me think|let me see|actually|"
    r"basically|maybe|please)\s*(?=,)",
    re.IGNORECASE,
)
_DET = r"(?:an?|the|some|my|our|your|his|her|their|two|three|four|five|many|several|\d+)"
_OPENERS = re.compile(
    r"^(?:(?:okay|ok|alright|all right|so|and so|um|oh|yeah|yes|please|actually|basically|"
    r"let me think|let me see|let's see|maybe|perhaps|you know|i mean)\b(?!')[\s,.…]*"
    r"|(?:well|right|now|and|hey|hi|hello|then|like)\s*[,.…]\s*"
    r"|(?:hey|hi|hello) (?:there|computer|whisper)\b[\s,.]*)",
    re.IGNORECASE,
)
_MAKE = r"(?:draw|paint|make|create|generate|show|give|sketch|imagine|render|produce|design|get|do)"
_SEE = r"(?:see|have|get|draw|look at|make|create|generate|paint|try)"
_REQUEST = re.compile(
    rf"^(?:"
    rf"(?:can|could|would|will) (?:you|we|i) (?:(?:please|maybe|just|possibly|perhaps)[\s,]+)*"
    rf"(?:{_MAKE}|{_SEE})\b"
    rf"|would you mind (?:drawing|painting|making|showing)\b"
    rf"|(?:i|we)(?:'d| would| really)* (?:want|like|love|wish|need)(?: you)?"
    rf"(?: to {_SEE}| to {_MAKE})?\b"
    rf"|(?:let's|let us|let me|i'll|i will|i'm going to) {_SEE}\b"
    rf"|(?:i am|i'm) (?:thinking of|imagining|looking for)\b"
    rf"|{_MAKE}(?= (?:me|us|please)\b| NAME\b| {_DET}\b)"
    rf"|(?:how|what) about\b"
    rf")(?:[\s,]+(?:me|us|please|just|for me)\b)*[\s,]*",
    re.IGNORECASE,
)
_PICTURE_OF = re.compile(
    r"^(?:an?|the|this|one)?\s*(?:nice |quick |new )?(?:picture|image|pic) "
    r"(?:of|with|that shows|showing)\b\s*",
    re.IGNORECASE,
)
_CLOSERS = re.compile(
    r"[\s,.!?]*\b(?:please|thank you(?: very much| so much)?|thanks(?: a lot)?|if you can|"
    r"if possible|that's it|that's all|or something(?: like that)?|would you|you know|okay|ok)\b"
    r"[\s,.!?…]*$",
    re.IGNORECASE,
)


def strip_habits(text: str, names: Sequence[str] = ()) -> str:
    """Take away what is said to the machine and not about the picture.

    "Um, can you please draw me a dog" -> "a dog". Style stays ("a painting of"), and so does every
    word that could be part of the scene ("a well", "paint on the wall").
    """
    request = _REQUEST
    if names:
        one = "|".join(re.escape(name) for name in names)
        request = re.compile(_REQUEST.pattern.replace("NAME", f"(?:{one})"), re.IGNORECASE)
    text = _ASIDE.sub("", _UM.sub(_without_um, text)).strip(" ,")
    is_request = False
    while True:
        shorter = _OPENERS.sub("", text, count=1)
        asked = request.sub("", shorter, count=1)
        is_request = is_request or asked != shorter
        shorter = _PICTURE_OF.sub("", asked, count=1)
        if shorter == text:
            break
        if not shorter:
            return ""
        text = shorter
    while (shorter := _CLOSERS.sub("", text)) != text:
        text = shorter
    if is_request:
        text = re.sub(r"\s+for (?:me|us)[.!?]*$", "", text).rstrip("? ")
    return text


def _without_um(match: re.Match[str]) -> str:
    """The commas around "um" are its own; a comma on one side only belongs to the sentence."""
    return ", " if match["before"] and not match["after"] else " "


_FILLERS = (
    r"(?:please|okay|ok|alright|all right|yes|yeah|yep|so|well|oh|actually|maybe|perhaps|hey|"
    r"i (?:said|meant|mean)|i think|thanks|thank you|great|nice|good|cool|perfect|wow|hmm|"
    r"very nice|very good|that's (?:nice|good|great)|and now|now|no|"
    r"(?:can|could|would|will) (?:you|we|i)(?: please| just| maybe| also| now)*(?! ?$)|"
    r"(?:i|we)(?:'d| would| really)* (?:want|like|love|wish|need) (?:you |it |them )?to(?= )|"
    r"(?:i'd|we'd|i would|we would|i|we) (?:like|love|want|prefer|rather have)(?= (?:it|them|that|the)\b)|"
    r"(?:i'd|i would) (?:rather|prefer)|would you mind|let's|let us|let me|"
    r"(?:how|what) about|try to|just|also|then|but)"
)
_POLITE = re.compile(rf"^{_FILLERS}\b(?!')[\s,.!…]*", re.IGNORECASE)
_POLITE_END = re.compile(
    r"[\s,.!?…]+(?:please|thank you(?: very much| so much)?|thanks(?: a lot)?|if you can|"
    r"if possible|would you|could you|will you|for me|though|too|as well|right now)[\s,.!?…]*$",
    re.IGNORECASE,
)


def strip_politeness(text: str) -> str:
    """Leave of a sentence what it asks for, verb and all: "Could you make it blue, please?".

    Unlike `strip_habits`, which leaves what a picture shows.
    """
    text = " ".join(_ASIDE.sub("", _UM.sub(_without_um, text)).split()).strip(" ,.;!?…")
    while (shorter := _POLITE_END.sub("", text)) != text:
        text = shorter
    while (shorter := _POLITE.sub("", text)) != text and shorter:
        text = shorter
    return text.strip(" ,.;!?…")
