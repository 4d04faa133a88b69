"""Transcript + subjects -> Prompt: what the picture's model is asked for (pure functions)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import regex as re  # unlike the built-in module it takes a letter's signs for a part of the word

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject, plural_of
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.habits import find_wanted, strip_habits, write_marks
from s2i_lib.speech.name_matching import Mention, find_names
from s2i_lib.speech.near_names import NearName, find_near_names
from s2i_lib.speech.phrases import DET, MASS, NUMBERS, PLACE, is_adjective, is_doing
from s2i_lib.speech.templates import article_for
from s2i_lib.speech.transcript import Transcript
from s2i_lib.speech.values import DOES
from s2i_lib.speech.words import POSSESSIVES, tokenize, word_set
from s2i_lib.storage.layout import composed

TOKEN_LIMIT = 77  # CLIP's, of which two mark the start and the end


@dataclass(frozen=True)
class Prompt:
    """What is asked of the picture's model, traceable to the words that were said."""

    text: str
    negative: str = ""
    subjects: tuple[Subject, ...] = ()
    """Subjects that were named; the first is the one that is drawn with its identifier."""
    transcript: Transcript | None = None
    notes: tuple[str, ...] = ()
    """Sentences for the user: what was changed that might surprise."""
    near_names: tuple[NearName, ...] = ()
    """Subjects that may have been meant, the likeliest first: ``question`` asks, and ``sentence``
    is what to draw if the answer is yes."""

    @property
    def marks(self) -> list[tuple[int, int]]:
        """Return where the text names subjects: start and end of each place, once."""
        phrases = {subject.phrase for subject in self.subjects}
        patterns = [f"{re.escape(plural_of(one))}|{re.escape(one)}" for one in phrases]
        found = (re.search(pattern, self.text) for pattern in patterns)
        return sorted(place.span() for place in found if place)

    @property
    def by_looks(self) -> list[Subject]:
        """Return the subjects that the text has with their identifiers."""
        return [subject for subject in self.subjects if subject.is_in(self.text)]

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for a report; of a picture `drawing.records.prompt_of` reads it."""
        return asdict(self)


def make_prompt(
    heard: str | Transcript,
    subjects: Sequence[Subject] = (),
    *,
    chosen: Subject | None = None,
    count_tokens: Callable[[str], int] | None = None,
    token_limit: int = TOKEN_LIMIT,
) -> Prompt:
    """Turn what was said into what the picture's model understands.

    Parameters
    ----------
    heard : a transcript (its English is used) or text
    subjects : whose names may have been said
    chosen : the one that the run knows, which gets its identifier; None: the first that was named.
        Every other one becomes its class noun ("a cat"), and the notes say so.
    count_tokens : the tokenizer's count of a text with its start and end marks; None: not checked
    token_limit : what the text encoder reads, in tokens

    Raises
    ------
    InputError
        When nothing is left that could be drawn.
    """
    said = heard.english if isinstance(heard, Transcript) else heard
    known = list(subjects)
    if chosen is not None and chosen not in known:
        known.insert(0, chosen)
    text, used, notes, near = _read(said, known, chosen)
    if count_tokens is not None:
        if count_tokens(text) > token_limit and (wanted := find_wanted(said)):
            text, used, notes, near = _read(wanted, known, chosen)
            notes.append("That was long, so only what you asked for at the end is drawn.")
        text, more = fit(text, count_tokens, token_limit)
        notes += more
        used = [s for s in used if _has_noun(text.lower(), s.class_noun.lower())]
    return Prompt(
        text=text,
        negative=find_negatives(text),
        subjects=tuple(used),
        transcript=heard if isinstance(heard, Transcript) else None,
        notes=tuple(notes),
        near_names=tuple(near),
    )


def _has_noun(text: str, noun: str) -> bool:
    """Return whether one or several of a kind are in a text: who was left out is not."""
    return noun in text or plural_of(noun) in text


def _read(
    said: str, known: Sequence[Subject], chosen: Subject | None
) -> tuple[str, list[Subject], list[str], list[NearName]]:
    """What words ask for, its subjects, notes, near names; InputError where nothing is left."""
    names = [composed(subject.name) for subject in known]
    plain, notes = without_weights(composed(said))
    text = strip_habits(write_marks(" ".join(plain.split())), names)
    mentions = find_names(text, known)
    near_names = find_near_names(text, known, mentions)
    text, used, more = replace_names(text, mentions, chosen)
    text = _obey(text, said, used)
    notes += more
    if chosen is not None and chosen not in used:
        notes.append(
            f"{chosen.name} was not named, so the picture need not show {chosen.name}. "
            f"Say the name, or write it with a capital letter, to have it drawn."
        )
    text = tidy(number_words(text))
    if not any(character.isalnum() for character in text):
        raise InputError(
            f"Nothing is left to draw of {said.strip()!r}. Say what the picture shows, for "
            "instance: a dog wearing a hat in the snow."
        )
    return text, used, notes, near_names


def with_negative(prompt: Prompt, given: str | None, own: str) -> Prompt:
    """Return the prompt with the model's or the user's own negative prompt after what was said.

    Parameters
    ----------
    given : what the user leaves out always; "" for nothing, None for the model's ``own``
    """
    always = own if given is None else given.strip()
    return replace(prompt, negative=", ".join(filter(None, [prompt.negative, always])))


# --- what was typed for other programs ----------------------------------------------------------

# Patterns, and what stays of each. Sources: AUTOMATIC1111's wiki ("Features"), NovelAI's and
# Midjourney's documentation, compel (which diffusers' documentation recommends).
_FOREIGN = [
    (re.compile(pattern, flags), stays)
    for pattern, flags, stays in (
        (r"<(?:lora|lyco|hypernet|embedding):[^<>]*>|\bembedding:[\w-]+", re.IGNORECASE, ""),
        (r"^\s*/imagine\b(?:\s*prompt\s*:)?", re.IGNORECASE, ""),
        (r"(?<!\S)--no\s+(?=\w)", 0, ", no "),
        (r"(?<!\S)--(?:style|profile|[sc]ref)\s+\S+|(?<!\S)--[a-z]\w*(?:\s+[\d.:]+)?", 0, ""),
        (r"(?<=\w)::\s*-?\d*\.?\d*", 0, ", "),  # cat::2 dog
        (r"\bBREAK\b", 0, ","),
        (r"[(\[]+([^()\[\]:|]+):\s*\d*\.?\d+\s*[)\]]+", 0, r"\1"),  # (red:1.3)
        (r"\[[^\[\]:|]*:([^\[\]:|]*):\s*\d*\.?\d+\s*\]", 0, r"\1"),  # [red:blue:0.5]
        (r"\(\(([^()]+)\)\)", 0, r"\1"),
        (r"\(([^()]+)\)(?:\d*\.\d+|[+-]+)(?!\w)", 0, r"\1"),  # (red)1.3, (red)++
        (r"(?<=\w)(?:\+{2,}|-{2,})(?!\w)", 0, ""),  # red++
        (r"\{([^{}|]*)(?:\|[^{}]*)?\}|\[([^\[\]:|]+)(?:\|[^\[\]:]*)?\]", 0, r"\1\2"),  # {red|blue}
        (r"(?<!\w)__([\w-]+?)__(?!\w)", 0, r"\1"),
        (r"\\([()\[\]])", 0, r"\1"),
    )
]


def without_weights(text: str) -> tuple[str, list[str]]:
    """Leave out weights, flags and add-ons as other programs write them, with a note.

    "a (red:1.3) car <lora:x:0.8> --ar 3:2" -> "a red car".
    """
    plain, before = text, None
    while plain != before:  # one may stand inside of another
        before = plain
        for pattern, stays in _FOREIGN:
            plain = pattern.sub(stays, plain)
    if plain == text:
        return text, []
    return plain, [
        "Weights in brackets, flags and <lora:...> are the language of other programs and were "
        "left out. Say what matters first; a LoRA is named with --run."
    ]


# --- names --------------------------------------------------------------------------------------

_ARTICLES = word_set("a an the this that one")
_ADJECTIVES = word_set(
    """happy sad little big small tiny giant huge old young cute funny sleepy sleeping angry wet
    dirty brave fat thin good bad beautiful pretty lovely smiling laughing flying running swimming
    jumping dancing red blue green yellow white black brown golden silver pink purple orange grey
    gray fluffy scared proud grumpy tired muddy snowy baby"""
)


def replace_names(
    text: str,
    mentions: Sequence[Mention],
    chosen: Subject | None,
    there: Collection[Subject] = (),
) -> tuple[str, list[Subject], list[str]]:
    """Put identifier and class noun, or the class noun alone, where names were said.

    Whoever is ``there`` was seen before: "the dog". Returns the text, the subjects in it (the one
    with its identifier first), and notes.
    """
    named = list(dict.fromkeys(mention.subject for mention in mentions))
    if chosen is None and named:
        chosen = named[0]
    notes, parts, at = [], [], 0
    seen = set(there)
    for mention in mentions:
        subject = mention.subject
        start, words, has_article = _phrase_start(text, mention)
        end = _phrase_end(text, mention)
        noun = subject.phrase if subject == chosen else subject.class_noun
        noun = plural_of(noun) if mention.is_plural else noun
        body = " ".join([*words, noun])
        # Before an identifier, which is no word, "a", as in the prompt that a run is trained with.
        article = "a" if not words and subject == chosen else article_for(body)
        article = "the " if subject in seen else f"{article} "
        ending = "'s" if mention.is_possessive else ""
        has_article = has_article and not mention.is_plural
        parts.append(text[at:start] + (article if has_article else "") + body + ending)
        at = end
        if subject not in seen and mention.similarity < 1:
            notes.append(f"{mention.heard!r} was taken for {subject.name}.")
        seen.add(subject)
    for subject in named:
        if subject != chosen and chosen is not None:
            notes.append(say_became_any(subject, chosen))
    used = [s for s in named if s == chosen] + [s for s in named if s != chosen]
    return "".join(parts) + text[at:], used, notes


def say_became_any(subject: Subject, chosen: Subject) -> str:
    """Say that a subject who was named is any of its kind in a picture of another."""
    return (
        f"{subject.name} became {article_for(subject.class_noun)} {subject.class_noun}: "
        f"one picture knows one subject by looks, and that is {chosen.name}."
    )


def _phrase_start(text: str, mention: Mention) -> tuple[int, list[str], bool]:
    """Where the noun phrase around a name begins ("my happy dog Rex"), its adjectives, its article.

    There is no article after a possessor: "Anika's dog Rex" is "Anika's ohwx dog".
    """
    tokens = [token for token in tokenize(text) if token.end <= mention.start]
    start = mention.start
    words: list[str] = []
    noun = mention.subject.class_noun.lower().split()
    is_named = bool(tokens) and tokens[-1].text.lower() in (",", "named", "called")
    before = tokens[:-1] if is_named else tokens  # "my dog, Rex", "a dog named Rex"
    if [token.text.lower() for token in before[-len(noun) :]] == noun:
        tokens, start = before[: -len(noun)], before[-len(noun)].start
    while tokens and tokens[-1].text.lower() in _ADJECTIVES:
        token = tokens.pop()
        words.insert(0, token.text.lower())
        start = token.start
    if tokens and tokens[-1].text.lower() in _ARTICLES | POSSESSIVES:
        return tokens[-1].start, words, True
    possessed = bool(tokens) and re.search(r"['’]s$|s['’]$", tokens[-1].text) is not None
    return start, words, not (possessed and start < mention.start)


def _phrase_end(text: str, mention: Mention) -> int:
    """Swallow what only says again what the subject is: "Rex the dog", "Rex, my dog"."""
    noun = re.escape(mention.subject.class_noun)
    again = re.compile(rf",?\s+(?:the|my|our|your)\s+{noun}\b(?!['’])", re.IGNORECASE)
    found = again.match(text, mention.end)
    return found.end() if found and not mention.is_possessive else mention.end


# --- orders -------------------------------------------------------------------------------------

_ASKED = r"(?:please |(?:can|could|would|will) you (?:please )?|let's )*"
_ORDER = re.compile(
    rf"\W*{_ASKED}(?P<verb>put|place|give|make|let|have|dress|turn|can|could|i want|"
    r"i(?:'d| would) like) (?!(?:me|us|it|an?)\b)",
    re.IGNORECASE,
)
# What is said to do with somebody, what follows, and what is seen in its place.
_SEEN = (
    ("put|place", rf"(?={PLACE} \w)", ""),
    ("give", rf"(?={DET} \w|[\w-]+s$)", "with "),
    ("dress", r"(?:up )?(?=(?:as|in) \w)", "dressed "),
    ("turn", r"into (?=an? \w)", "as "),
    ("let|can|could|i .+", r"(?:to )?be (?=an? \w)", "as "),
)
_MAKE_IT = re.compile(
    r"(?P<before>[^.;]+?)(?P<gap>[,.;]|,? and) make (?:it|him|her|them) (?P<value>[^,.;]+)\W*",
    re.IGNORECASE,
)


def _obey(text: str, said: str, named: Sequence[Subject]) -> str:
    """Return what an order shows: "put a ohwx dog on the moon", "a house and make it red"."""
    text = _make_it(text)
    if not named:
        return text
    noun = "|".join(re.escape(noun) for one in named for noun in (one.phrase, one.class_noun))
    who = rf"(?P<who>an? (?:{noun})(?: and an? (?:{noun}))*)"
    what = rf"(?P<what>(?:(?!(?:and|with|{PLACE})\b)[\w'-]+ ){{1,4}})"
    if gift := re.fullmatch(rf"{_ASKED}put {what}on {who}", text, re.IGNORECASE):
        return f"{gift['who']} with {gift['what'].strip()}"
    told = _ORDER.match(said)
    verb = told["verb"].lower() if told else ""  # what makes a picture went with the politeness
    order = re.fullmatch(rf"{_ASKED}(?:{verb} )?{who} (?P<rest>.+)", text, re.IGNORECASE)
    if not verb or not order:
        return text
    return _shown(order["who"], verb, order["rest"].rstrip(" ,.;!?…")) or text


def _shown(who: str, verb: str, rest: str) -> str:
    """Return what is seen where somebody does what is ordered; "" where that is not sure."""
    for verbs, ahead, seen in _SEEN:
        found = re.match(ahead, rest, re.IGNORECASE)
        if found and re.fullmatch(verbs, verb):
            return f"{who} {seen}{rest[found.end() :]}"
    if verb in ("put", "place", "give", "dress", "turn"):
        return ""
    first, _, what = re.sub("^to ", "", rest).partition(" ")
    if doing := DOES.get(first.lower()):
        return f"{who} {doing} {what}".strip()
    kinds = ("colour", "size", *(["attribute"] if is_adjective(rest) else []))
    return _changed(f"make it {rest}", who, kinds) if verb == "make" else ""


def _make_it(text: str) -> str:
    """Return a scene with what is said of it behind: "a house, make it red" is "a red house"."""
    found = _MAKE_IT.fullmatch(text)
    begins = r"an? (?!.*\b(?:to|can|could|will|who|that|and)\b)"  # "workers cut wood and make it"
    begins = begins if found and "and" in found["gap"] else rf"{DET} "
    if not found or not re.match(begins, found["before"], re.IGNORECASE):
        return text
    kinds = ("colour", "size", "place", "time", "worn")
    return _changed(f"make it {found['value']}", found["before"], kinds) or text


def _changed(order: str, last: str, kinds: Sequence[str]) -> str:
    """Return what an order of one of these kinds makes of a scene; "" where it is none."""
    try:
        change = read_change(order, last)
    except InputError:
        return ""
    return change.text if change and change.kind in kinds else ""


# --- numbers, negatives, length -----------------------------------------------------------------

_LABEL = re.compile(r"\b(?:number|no\.|route|bus|room|page|line|gate|level)\s*$", re.IGNORECASE)
_LABEL_OF_ONE = re.compile(
    r"\b(?:(?i:size|type|version|chapter|channel|apollo|formula)|\w*[a-z][A-Z]\w*)\s*$"
)
"""What stands before a number that counts nothing, where no plural follows: "a size 12 shoe", "the
PlayStation 5 pad"."""
_COUNT = re.compile(
    r"(?<![\w.,:/#-])(?:0?\d|1[0-2])(?=\s+[^\W\d])(?!\s*(?:mm|cm|m|km|am|pm|px|d)\b)"
)


def number_words(text: str) -> str:
    """Write small numbers out: "2 cats" -> "two cats".

    Whisper writes the first where the second was said, and text encoders count words better.
    """

    def word(match: re.Match[str]) -> str:
        before, is_plural = text[: match.start()], re.match(r"\s+\w+s\b", text[match.end() :])
        is_label = _LABEL.search(before) or (_LABEL_OF_ONE.search(before) and not is_plural)
        return match.group() if is_label else NUMBERS[int(match.group())]

    return _COUNT.sub(word, text)


def tidy(text: str) -> str:
    """Leave single spaces, none before marks or at the ends, and no sentence mark at the end."""
    text = re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
    text = re.sub(r"([,.;])(?:\s*[,;])+", r"\1", text)
    return text.strip(" ,;.?!…")


_STOP = (
    r"(?=$|[,.;:!?]|\s(?:in|on|at|under|over|by|near|behind|beside|with|without|while|but|during|"
    r"from|of|for|to|as|like|that|who|which|next|made|because|where|when|is|are|around|inside|"
    r"through|there|anywhere|and (?:an?|the|with|without|no|my|one|two|some))\b)"
)
# Behind a comma only what has no article and is no kind: "a lake, no boats, a swan or a duck".
_SOME = rf"(?:people|[\w'-]+s|{'|'.join(sorted(MASS))})"
_LISTED = rf"(?:[\w'-]+ )?[\w'-]+(?:, {_SOME})+,? (?:or|nor) \S.*?"
_NOBODY = re.compile(
    r"(?:\b(?:with|and|there is|there's)|(?<=,)) nobody(?= *(?:$|[,.]| (?:in|on|at|there)\b))",
    re.IGNORECASE,
)
_WITHOUT = re.compile(
    rf"\b(?:without|(?:with|but|and|has|have|are|is|there's|should be|wearing|wears|holding) no|"
    rf"(?<=, )no|^no(?= (?:[\w'-]+s|people|one|water|snow|rain), )|"
    rf"(?:do|does|should|must)(?:n['’]t| not) (?:have|wear|show|contain|include)|"
    rf"(?<=\bI )do(?:n['’]t| not) want|should(?:n['’]t| not) be(?= any?\b)|"
    rf"(?:not|(?:is|are)n['’]t) (?:wearing|holding|carrying)|with neither)\s+"
    r"(?!(?:longer|more|matter|doubt|to)\b)"
    rf"(?P<what>{_LISTED}|\S.*?){_STOP}",
    re.IGNORECASE,
)


def find_negatives(text: str) -> str:
    """Return what was said not to be there: "a street without cars or people" -> "cars, people"."""
    found: list[str] = []
    for match in _WITHOUT.finditer(_NOBODY.sub(" with no people", text)):
        for part in _without_doings(match["what"]):
            part = re.sub(
                r"^(?:any|either|a|an|the|a single|even|much|many|its|his|her|their)\s+",
                "",
                part.strip(),
                flags=re.IGNORECASE,
            )
            part = {"anyone": "people", "anybody": "people", "one": "people"}.get(part, part)
            if part and part not in found:
                found.append(part)
    return ", ".join(found)


def _without_doings(what: str) -> list[str]:
    """Return what is left out without what somebody does: "shoes playing football" -> shoes."""
    found = []
    for part in re.split(r",?\s+(?:or|nor)\s+|,\s+", what):
        words = part.split()
        ends = [i for i, word in enumerate(words) if i and is_doing(words[i - 1], word)]
        found += re.split(r"\s+and\s+", " ".join(words[: min(ends, default=len(words))]))
    return found


# Words that colour speech but not pictures, in the order in which they may go.
_PADDING = (
    "really", "very", "quite", "actually", "basically", "kind of", "sort of", "just", "maybe",
    "please", "you know", "I think", "some kind of", "that is", "which is", "there is", "there are",
)  # fmt: skip


def fit(text: str, count_tokens: Callable[[str], int], limit: int) -> tuple[str, list[str]]:
    """Drop padding while the text is too long, then whole words at its end; the notes say which."""
    dropped: list[str] = []
    for padding in _PADDING:
        if count_tokens(text) <= limit:
            break
        shorter = tidy(re.sub(rf"\b{padding}\b\s*", "", text, flags=re.IGNORECASE))
        if shorter != text:
            dropped.append(padding)
            text = shorter
    notes = []
    if dropped:
        words = ", ".join(repr(word) for word in dropped)
        notes.append(f"The sentence is long, so {words} was left out.")
    n_tokens = count_tokens(text)
    if n_tokens > limit:
        said = text.split(" ")
        n_fitting = bisect_right(
            range(1, len(said) + 1), limit, key=lambda n: count_tokens(" ".join(said[:n]))
        )
        beyond = " ".join(said[n_fitting:])
        text = tidy(" ".join(said[:n_fitting]))
        notes.append(
            f"The sentence has {n_tokens} tokens and the model reads {limit}, so {beyond!r} was "
            "left out. Say it in fewer words, the important ones first."
        )
    return text, notes
