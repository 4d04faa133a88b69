"""What people say to the machine and not about the picture, taken away (pure functions).

"Um, can you please draw me a dog" is "a dog"; marks that were said are written. Style stays ("a
painting of"), and so does every word that could be part of the scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import regex as re
from rapidfuzz.distance import Levenshtein

from s2i_lib.speech.phrases import COLOURS, NUMBERS, SIZE
from s2i_lib.speech.values import DOES
from s2i_lib.speech.words import DETERMINERS, POSSESSIVES, is_word, tokenize, word_set

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

_BACKGROUND = re.compile(r"\bback[\s-]+(?=grounds?\b)", re.IGNORECASE)


def join_background(text: str) -> str:
    """Write "background" as one word: Whisper hears "on a blue back ground" as well."""
    return _BACKGROUND.sub(lambda match: match.group()[:4], text)


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
    r"let me think|let me see|let's see|maybe|perhaps|kindly|you know|i mean)\b(?!')[\s,.…]*"
    r"|(?:well|right|now|and|hey|hi|hello|then|like)\s*[,.…]\s*|no, (?=an? )"
    r"|(?:hey|hi|hello) (?:there|computer|whisper)\b[\s,.]*)",
    re.IGNORECASE,
)
_MAKE = r"(?:draw|paint|make|create|generate|show|give|sketch|imagine|render|produce|design|get|do)"
_SEE = r"(?:see|have|get|draw|look at|make|create|generate|paint|try)"
_POLITELY = (
    r"(?:(?:please|maybe|just|possibly|perhaps|kindly|now|also|first|quickly|try (?:to|and))"
    r"[\s,]+)*"
)
_HELLO = (
    r"(?:(?:hey|hi|hello|ok|okay|dear) )?(?:computer|machine|siri|alexa|google|whisper|mum|mummy|"
    r"mom|mommy|dad|daddy|everybody|everyone)|hey|hi|hello|good (?:morning|afternoon|evening|day)"
)
_IS_HELLO = re.compile(rf"(?:{_HELLO})\W*", re.IGNORECASE)
_IS_GREETING = re.compile(
    r"(?:(?:hey|hi|hello|okay|ok)(?: (?:siri|alexa|google))?|siri|alexa|"
    r"good (?:morning|afternoon|evening|day))\W*",
    re.IGNORECASE,
)
_DRAW = r"(?:draw|paint|create|generate|show|sketch|imagine|render)"
_ASK = (
    rf"(?:(?:please,? |kindly )?(?:{_DRAW} (?:me|us|{_DET}|NAME)|(?:give|make|get) (?:me|us))|"
    rf"(?:can|could|would|will|may|might) (?:you|we|i) {_POLITELY}(?:{_MAKE}|{_SEE})|"
    r"(?:i|we)(?:'d| would)? (?:want|like|need))\b"
)
_IS_ASKED = re.compile(_ASK, re.IGNORECASE)
# What each way of asking is like, and how it is recognised; the first that fits is taken.
REQUESTS = {
    "be so kind as to draw": rf"(?:please |kindly )?be so kind (?:as to|and) {_MAKE}\b",
    "would you be so kind as to draw": (
        rf"(?:would|could) you be so (?:kind|nice|good)(?: as to| and to| and)? {_MAKE}\b"
    ),
    "computer, can you draw": rf"(?:{_HELLO})[\s,.!]+(?={_ASK})",
    "and now show me": (
        rf"(?:(?:and )?(?:now|then|first|just|also|quickly|simply)|and)\s+(?={_ASK})"
    ),
    "is it possible to see": (
        rf"(?:would it be|is it) possible (?:for you )?to (?:{_MAKE}|{_SEE})\b"
    ),
    "why don't you draw": rf"(?:how about|why do(?:n't| not)) (?:you|we) {_DRAW}\b",
    "why not": rf"why not(?= {_DET}\b)",
    "i think": r"i (?:think|guess)[\s,]+(?=an? (?!lot|bit))",
    "i was thinking of": rf"i was thinking(?: of| about)?(?: maybe)?(?= {_DET}\b)",
    "do you have": r"(?:do you have|have you got)(?= an? (?:picture|image|photo)\b)",
    "my wish is": rf"my wish is(?= {_DET}\b)",
    "i wish for": rf"i (?:wish|ask) for(?= {_DET}\b)",
    "please try to draw": rf"(?:please )?try (?:to|and) {_DRAW}(?= (?:me|us|{_DET}|NAME)\b)",
    "could you try drawing": (r"(?:can|could|would) you try (?:drawing|painting|making|showing)\b"),
    "the picture should show": (
        rf"(?:the|my|this) (?:picture|image) (?:(?:should|must) show|shows)(?= {_DET}\b)"
    ),
    "it should show": rf"it should show(?= {_DET}\b)",
    "in the picture there is": (
        r"[io]n (?:the|my|this) (?:picture|image),? there (?:is|are|should be)\b"
    ),
    "it should be": r"it should be (?=an? )",
    "i was wondering if you could draw": (
        r"(?:i was wondering|i'm wondering|i am wondering|i wonder) (?:if|whether) "
        rf"(?:you|we|i) (?:can|could|might) {_POLITELY}(?:{_MAKE}|{_SEE})\b"
    ),
    "do you think you could draw": (
        rf"do you (?:think|mind if) (?:you|we|i) (?:can|could|might)? ?{_POLITELY}"
        rf"(?:{_MAKE}|{_SEE})\b"
    ),
    "it would be nice to see": (
        r"(?:it would|it'd|that would) be (?:nice|great|lovely|cool|awesome) "
        rf"(?:if you (?:could|can|would) {_MAKE}|to (?:{_SEE}|{_MAKE}))\b"
    ),
    "may i see": rf"(?:may|might) (?:i|we) {_POLITELY}(?:{_SEE}|ask for)\b",
    "i was hoping for": rf"(?:i am|i'm|i was) hoping (?:to {_SEE}|for)\b",
    "if you don't mind, draw": (
        r"(?:if you (?:could|can|would)|if you don't mind|if it's no trouble),? "
        rf"{_POLITELY}{_MAKE}\b"
    ),
    "what i really want is": (
        r"what (?:i|we)(?:'d| would)? (?:\w+ )?(?:want|like|need)(?: for| to (?:see|have))? is\b"
    ),
    "kindly draw": rf"kindly {_MAKE}\b",
    "can you please draw": (
        rf"(?:can|could|would|will) (?:you|we|i) {_POLITELY}(?:{_MAKE}|{_SEE})\b"
    ),
    "would you mind drawing": r"would you mind (?:drawing|painting|making|showing)\b",
    "i would like to see": (
        r"(?:i|we)(?:'d| would| really)* (?:want|like|love|wish|need)(?: you)?"
        rf"(?: to {_SEE}| to {_MAKE})?\b"
    ),
    "let me see": rf"(?:let's|let us|let me|i'll|i will|i'm going to) {_SEE}\b",
    "i'm thinking of": r"(?:i am|i'm) (?:thinking of|imagining|looking for)\b",
    "draw": rf"{_MAKE}(?= (?:me|us|please)\b| NAME\b| {_DET}\b)",
    "how about": r"(?:how|what) about\b",
}
_REQUEST = re.compile(
    rf"^(?:{'|'.join(REQUESTS.values())})(?:[\s,]+(?:me|us|please|just|for me)\b)*[\s,]*",
    re.IGNORECASE,
)
_PICTURE_OF = re.compile(
    r"^(?:an?|the|this|one)?\s*(?:nice |quick |new )?(?:picture|image|pic) "
    r"(?:of|with|that shows|showing)\b\s*",
    re.IGNORECASE,
)
_LOOKS_LIKE = re.compile(
    r"^what (?P<who>(?:an?|the|my)(?: [\w'-]+){1,2}?) (?:(?:would|could|might) look|looks?) like"
    r"(?=\W*$| (?:in|on|at|under|as|from|with|without|during)\b)",
    re.IGNORECASE,
)
_SAYS = r"\b(?:says?|said|saying|reads?|reading|words?)"
_CLOSERS = re.compile(
    rf"[\s,.!?]*\b(?<!{_SAYS} )(?:please|thank you(?: very much| so much)?|"
    r"(?:many )?thanks(?: a lot| a million| so much)?|"
    rf"(?<!{_SAYS}\b[^,.!?]*)(?:"  # what is written there
    r"if you can|if you please|(?<=[,.!?] )(?:would|is) (?:that|it) (?:be )?(?:possible|okay|ok)|"
    r"(?<=, )right(?=\?)|"
    r"if possible|that's it|that's all|pretty please|thank you in advance|thanks in advance|"
    r"(?:that|it|this) would be (?:nice|great|lovely|awesome|cool|perfect|wonderful)|"
    r"if (?:you (?:don't|wouldn't) mind|it's not too much trouble|that's okay|you would|you could)|"
    r"cheers|"
    r"or (?:something(?: like that)?|whatever)|would you|you know|okay|ok))\b"
    r"[\s,.!?…]*$",
    re.IGNORECASE,
)


def strip_habits(text: str, names: Sequence[str] = ()) -> str:
    """Take away what is said to the machine and not about the picture.

    "Um, can you please draw me a dog" -> "a dog". Style stays ("a painting of"), and so does every
    word that could be part of the scene ("a well", "paint on the wall"). What was said twice, begun
    and broken off, or put right ("a dog, no, a cat") is left once, as it was meant.
    """
    request = _REQUEST
    if names:
        one = "|".join(re.escape(name) for name in names)
        request = re.compile(_REQUEST.pattern.replace("NAME", f"(?:{one})"), re.IGNORECASE)
    text = _STUTTER.sub("", _UM.sub(_without_um, join_background(_write_out(text))))
    text = without_repeats(_ASIDE.sub("", put_right(text)).strip(" ,"))
    cuts = [0, *(cut.end() for cut in _CLAUSE_END.finditer(text)), len(text)]
    clauses = [text[a:b].strip() for a, b in pairwise(cuts)]
    clauses = [
        clause
        for clause, then in zip(clauses, [*clauses[1:], ""], strict=True)
        if not (then and _IS_GREETING.fullmatch(clause))  # "Alexa, show me a cat"
        and not (_IS_HELLO.fullmatch(clause) and _IS_ASKED.match(then))
    ]
    stripped = [_strip_clause(clause, request) for clause in clauses]
    return " ".join(_without_twins(stripped)).strip()


def _strip_clause(text: str, request: re.Pattern[str]) -> _Clause:
    is_request = False
    while True:
        shorter = _OPENERS.sub("", text, count=1)
        asked = request.sub("", shorter, count=1)
        is_request = is_request or asked != shorter
        shorter = _LOOKS_LIKE.sub(r"\g<who>", _PICTURE_OF.sub("", asked, count=1))
        if shorter == text or not shorter:
            text = shorter
            break
        text = shorter
    while (shorter := _CLOSERS.sub("", text)) != text:
        text = shorter
    if is_request:
        text = re.sub(r"\s+for (?:me|us)[.!?]*$", "", text).rstrip("? ")
    return _Clause(text, is_request)


# --- said twice, begun and broken off, put right ------------------------------------------------


class _Clause(NamedTuple):
    text: str
    is_request: bool

    @property
    def content(self) -> frozenset[str]:
        """Words that say something of a picture."""
        return frozenset(_words(self.text)) - _FUNCTION_WORDS


_STUTTER = re.compile(
    r"\b(?P<letter>\w)(?:-+|…|\.{3})\s+(?=(?P=letter))", re.IGNORECASE
)  # "b- blue"
# Where a sentence ends, or where somebody begins again with a request: "A, please paint a ..."
_CLAUSE_END = re.compile(
    rf"(?<!\b(?:Mr|Mrs|Ms|Dr|St|No|vs|[A-Z]))[.?!…]+\s+(?=\S)|"
    rf"(?<=^(?:with |on |in )?(?:[Aa]n?|[Tt]he))\s+(?=(?:can|could|would) you\b|please {_MAKE}\b)|"
    rf"[,;]\s+(?=(?:(?:so|and|then|now|no|um|okay|ok),? )*(?:please,? {_MAKE}\b|"
    rf"(?:can|could|would|will) you\b|{_MAKE} (?:me|us)\b|what (?:i|we) (?:really )?want\b|"
    rf"(?:i|we)(?:'d| would) like\b|(?:i|we) (?:really )?want\b))",
)
_FUNCTION_WORDS = word_set(
    """a an the some my our your this that and or on in at of to with for from by is are it i you
    we me us please can could would will want like see have get draw paint make show create so just
    then now okay ok um uh there be picture image photo"""
)
_MAY_DOUBLE = word_set(
    "a an the on in at with of and to for by i you my me is can please draw paint"
)


def _words(text: str) -> list[str]:
    return [token.text.lower() for token in tokenize(text) if is_word(token.text)]


def without_repeats(text: str) -> str:
    """Leave once what was said twice in a row: "a cat on a a cat on a sofa", "the the dog".

    Of single words only small ones: "a very very big dog" is meant so.
    """
    tokens = [token for token in tokenize(text) if is_word(token.text)]
    longest = len(tokens) // 2
    for size in range(longest, 0, -1):
        for at in range(len(tokens) - 2 * size + 1):
            words = [token.text.lower() for token in tokens[at : at + 2 * size]]
            between = text[tokens[at + size - 1].end : tokens[at + size].start]
            is_doubled = words[:size] == words[size:] and not re.search(r"\w", between)
            if is_doubled and (size > 1 or words[0] in _MAY_DOUBLE):
                first, again = tokens[at].start, tokens[at + size].start
                kept = text[again:]
                case = str.upper if text[first].isupper() else str.lower
                return without_repeats(text[:first] + case(kept[0]) + kept[1:])
    return text


def _without_twins(clauses: list[_Clause]) -> list[str]:
    """Leave out what another clause says as well, and what says nothing beside others."""
    kept = [clause for clause in clauses if clause.content] or clauses[-1:]
    twins: set[int] = set()
    for i, one in enumerate(kept):
        for j, other in enumerate(kept):
            if i == j or j in twins or i in twins:
                continue
            is_same = one.content == other.content and (i > j or other.is_request > one.is_request)
            is_part = one.content < other.content and _begins_anew(other.text)
            is_misheard = (
                other.is_request > one.is_request
                and Levenshtein.normalized_similarity(one.text.lower(), other.text.lower()) > 0.8
            )
            if is_same or is_part or is_misheard:
                twins.add(i)
    return [clause.text for i, clause in enumerate(kept) if i not in twins]


def _begins_anew(text: str) -> bool:
    """Return whether a clause says what a picture shows, not more of what was said before."""
    return (
        re.match(r"(?:the|it|its|he|his|she|her|they|their|there|this|that)\b", text.lower())
        is None
    )


MARKER = (
    r"(?:(?:oh |uh )?(?:no|sorry|wait|no wait|wait no|no sorry|oops)\b"
    r"(?:,? (?:i (?:mean|meant)|sorry|actually))?[,.…!]+|"
    r"(?<=[,.…!] )(?:(?:(?:oh |uh )?(?:no|wait|no wait|wait no)(?= (?:an?|the|my)\b)|"
    r"sorry(?= an? ))(?! an? (?:moment|minute|second|bit|while)\b)|"
    r"(?:no,? actually\b,?|actually)(?= (?:an?|two|three) ))|"
    r"(?:no,? )?(?:i mean|i meant|or rather|make that|scratch that|correction)\b[,.…]*)"
)
_PUT_RIGHT = re.compile(
    rf"(?P<wrong>[^.?!…]*?[^\s,.?!…])[\s,.?!…-]+{MARKER}\s+"
    rf"(?:make (?:it|that) |just )?"
    rf"(?P<right>(?P<first>an?|the|two|three|four|five|some|my|on|in|at|under|with(?:out)?)\b[^.?!]*)",
    re.IGNORECASE,
)


_ALIKE = "|".join(
    rf"\b(?:{kind})[,.!…]+ "
    rf"(?:(?:oh )?(?:{no}|sorry|wait|actually|i mean|i meant|or rather)[\s,.!…]+)+"
    rf"(?P<right>{kind})\b(?:,(?= (?!(?:{kind}|and|or)\b)[a-z]))?"
    for kind, no in (
        (COLOURS, "no(?=[,.!…])"),  # "a piano in black, no white keys"
        (SIZE, "no(?=[,.!…])"),
        (rf"\d+|{'|'.join(NUMBERS)}", "no"),
    )
)
_ALIKE_PUT_RIGHT = re.compile(_ALIKE, re.IGNORECASE)  # "a red, no, blue car"


def put_right(text: str) -> str:
    """Take what somebody put right for what was meant: "a dog on a red, no, on a blue sofa"."""

    def right(match: re.Match[str]) -> str:
        wrong, first = match["wrong"], match["first"].lower()
        is_small = first in ("on", "in", "at", "under", "with", "without")
        first = "with(?:out)?" if "with" in first else first
        same = rf"\b{first}\b" if is_small else rf"\b{_DET}\b"
        places = [found.start() for found in re.finditer(same, wrong, re.IGNORECASE)]
        if not places and is_small and "with" not in first:  # "on the beach, no, in the mountains"
            others = re.finditer(r"\b(?:on|in|at|under)\b", wrong, re.IGNORECASE)
            places = [found.start() for found in others]
        # What names a place of its own is said all over again.
        is_whole = not is_small and re.search(r"\s(?:on|in|at|under|with)\s", match["right"])
        if not places:
            return match.group()
        at = places[0] if is_whole else places[-1]
        return wrong[:at] + match["right"]

    text = _ALIKE_PUT_RIGHT.sub(r"\g<right>", text)
    while (meant := _PUT_RIGHT.sub(right, text)) != text:  # "a dog, no, a cat, no, a horse"
        text = meant
    return text


_WANTED = re.compile(
    rf"\b(?:what (?:i|we)(?:'d| would)? (?:\w+ )?(?:want|like|need|wish)(?: for| to (?:see|have))?"
    rf"(?: you to {_MAKE})? is|my wish is|(?:i|we)(?:'d| would)? (?:\w+ )?"
    rf"(?:want|like|love|wish|need) (?:you )?to (?:see|have|{_MAKE})|"
    rf"(?:can|could|would|will) you (?:please )?{_MAKE}|please {_MAKE}|so {_MAKE} (?:me|us)|"
    rf"let's (?:see|draw))\b(?:[\s,:]+(?:me|us|please)\b)*[\s,:]*",
    re.IGNORECASE,
)


def find_wanted(text: str) -> str:
    """Return what was asked for last in a long speech; "" where nothing was."""
    asked = [text[found.end() :] for found in _WANTED.finditer(text)]
    return next((rest for rest in reversed(asked) if _Clause(rest, True).content), "")


_SHORT = (
    (r"\bgimme(?= (?:an?|the|some|my)\b)", "give me"),
    (r"\blemme(?= see (?:an?|the|some|my)\b)", "let me"), (r"\b(?:pls|plz)\b", "please"),
    (r"\bthx\b", "thanks"), (r"(?<=\b(?:i|we|you) )wanna\b", "want to"),
    (r"(?<=\b(?:can|could|would|will) )(?:u|ya)\b", "you"),
)  # fmt: skip


def _write_out(text: str) -> str:
    """Write out what is said or typed short: "I wanna see", "gimme", "pls"."""
    for short, words in _SHORT:
        text = re.sub(short, words, text, flags=re.IGNORECASE)
    return text


def _without_um(match: re.Match[str]) -> str:
    """The commas around "um" are its own; a comma on one side only belongs to the sentence."""
    return ", " if match["before"] and not match["after"] else " "


_FILLERS = (
    r"(?:please|okay|ok|alright|all right|yes|yeah|yep|so|well|oh|actually|maybe|perhaps|hey|"
    r"i (?:said|meant|mean)|i think|thanks|thank you|(?:very )?(?:great|nice|good|cool)(?=[,.!])|"
    r"instead(?! of\b)|perfect|wow|hmm|that's (?:nice|good|great)|and now|now|no(?=[,.!])|"
    r"(?:can|could|would|will) (?:you|we|i)(?: please| just| maybe| also| now)*(?! ?$)|"
    r"(?:i|we)(?:'d| would| really)* (?:want|like|love|wish|need) (?:you )?to(?= )|"
    r"(?:i'd|we'd|i would|we would|i|we) (?:like|love|want|prefer|rather have)"
    r"(?= (?:it|them|that|the) (?!one\b))|"
    r"(?:that )?(?:looks|is) (?:good|great|nice|fine),? but|"
    r"not (?:this|that) one(?=, the\b)|better(?= (?:in|with)\b)|"
    r"it(?:'d| would) (?:be|look) (?:better|nicer|nice|good|great|lovely|cool)|"
    r"(?:keep|leave) (?:everything|the rest|it)(?: else)?(?: the same| as it is)?,? "
    r"(?:but|and just)|"
    r"(?:i'd|i would) (?:rather|prefer)|would you mind|let's|let us|let me|"
    r"(?:how|what) about(?: making)?|try to|just|also|then|but|"
    r"(?:(?:draw|paint|show|make|do) (?:me )?)?(?:the )?same(?: thing| one| picture)?"
    r"(?:,? but)?(?=,? ))"
)
_POLITE = re.compile(rf"^{_FILLERS}\b(?!')[\s,.!…]*", re.IGNORECASE)
# "What if it were blue?", "Could the car be blue?"
_AS_QUESTION = re.compile(
    r"^(?:what if (?P<what>it|they|the [\w' -]+?) (?:was|were|would be|is|are)|"
    r"(?:could|can|should|would) (?P<what>it|they|the [\w' -]+?) be) ",
    re.IGNORECASE,
)
_AS_ASKED = re.compile(
    rf"^(?:could|can|should) (it|they|he|she) (?=(?:{'|'.join(DOES)})\b)", re.IGNORECASE
)
_POLITE_END = re.compile(
    r"[\s,.!?…]+(?:please|thank you(?: very much| so much)?|thanks(?: a lot)?|if you can|"
    r"if possible|would you|could you|will you|for me|maybe|i think|i guess|"
    r"would be (?:nice|great|good|better|lovely|cool)|though|too|as well|right now)[\s,.!?…]*$",
    re.IGNORECASE,
)


# "Make it red, I mean, blue" is no aside: it puts right.
_ASIDE_IN_CHANGE = re.compile(rf"(?!,\s*(?:i mean|actually)\b){_ASIDE.pattern}", re.IGNORECASE)


def strip_politeness(text: str) -> str:
    """Leave of a sentence what it asks for, verb and all: "Could you make it blue, please?".

    Unlike `strip_habits`, which leaves what a picture shows.
    """
    text = _ASIDE_IN_CHANGE.sub("", _UM.sub(_without_um, join_background(_write_out(text))))
    text = re.sub(r"[\p{Extended_Pictographic}\uFE0F]+\W*$", "", text)
    text = " ".join(text.split()).strip(" ,.;!?…")
    while (shorter := _POLITE_END.sub("", text)) != text:
        text = shorter
    while (shorter := _POLITE.sub("", text)) != text and shorter:
        text = shorter
    text = _AS_ASKED.sub(r"\1 should ", text)
    text = _AS_QUESTION.sub(r"\g<what> should be ", text)
    return text.strip(" ,.;!?…")
