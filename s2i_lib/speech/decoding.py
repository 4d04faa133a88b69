"""Windows of speech -> words: decoded, tried again where that helps, and doubted where it does not.

Every window is decoded once. One that comes out bad is decoded again in Whisper's whole window and
without a hint, which may have led it astray, then less strictly, as long as the clip stays within
MAX_DECODES. That bound holds for the clip: 28 s of English can be tried three times, two windows
have one more try between them (the worse one gets it), and three, which take 60 s, have none. What
is left is for English that may be other words: it is heard once more where a name may have been
missed (``missed_names``), and where words are strange to a small picture model (``vocabulary``).
What is not English needs another decode a window for the translation, so that its bound holds for
one window, and there are no second tries beyond that. A longer limit means one decode a window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import regex as re

from s2i_lib.photos.subject import Subject
from s2i_lib.speech.audio import RATE_HZ
from s2i_lib.speech.glossary import add_missing_things, find_words, join_phrases, usual_words
from s2i_lib.speech.missed_names import MAX_TOLD, MissedNames
from s2i_lib.speech.transcript import Segment
from s2i_lib.speech.vocabulary import Vocabulary, sentences_of
from s2i_lib.speech.weights import OFFLINE_ADVICE, WINDOW_S
from s2i_lib.speech.whisper import Decoded, DecodeOptions, Engine, Word
from s2i_lib.speech.windows import LEAD_S, MAX_DECODES, Window
from s2i_lib.speech.words import words_of

# Whisper's own thresholds. Source: openai/whisper, transcribe.py:44-46.
MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH = 0.6
# Below it 55 of 62 clips with a third of their words wrong were doubted, and one of 36 good ones
# (tiny.en, 25 clips clean and in noise of 10, 5 and 0 dB, see benchmarks/README.md).
DOUBTFUL_LOGPROB = -0.45
# What is not English is heard after bare words, and is as likely as English was without WISHES.
DOUBTFUL_ELSEWHERE = -0.6
# Mean log probability less that of no speech, below which a model that knows English only may have
# heard another language. Of tiny.en: 34 sentences in 16 languages had -0.68 or less; 77 in English
# (flite, espeak-ng, recordings) -0.48 or more.
FOREIGN = -0.58
SURELY = 0.8  # probability of a language above which another one that was named is doubted
WISHES = (
    "A dog asleep in an armchair at night. Make it purple. Two owls wearing scarves in the fog. "
    "Undo. A white car on a pink background."
)
"""What English is heard after, so that Whisper expects short wishes and changes of them.

A quarter to a half of tiny.en's errors go, and of base's, most with voices that they hear badly
(figures: benchmarks/README.md); larger models were not measured.
"""
_TOLD = frozenset(words_of(WISHES))
_LOOP = re.compile(r"((?=\S*[-,.])\S{2,12}?)\1{5}")  # "2-7-4-8-4-8-4-8-4-8-4-8-4-8"
MAX_WORDS_PER_S = 7.0  # auctioneers reach six; endless repetition far more


@dataclass
class Take:
    """A window and what was decoded of it so far, each with the features that it came from."""

    window: Window
    encoded: Any
    context_s: float
    """Length of the window that was encoded."""
    tries: list[tuple[Decoded, Any]] = field(default_factory=list)
    first: str = ""
    """What was heard before it was heard again, for a name or for words that the model knows."""

    @property
    def is_bad(self) -> bool:
        said = self.tries[-1][0]
        return not said.text or said.avg_logprob < MIN_AVG_LOGPROB or self.repeats(said)

    @property
    def chosen(self) -> tuple[Decoded, Any]:
        """Last try, or the likeliest of several bad ones, with its features."""
        if not self.is_bad:
            return self.tries[-1]
        worded = [one for one in self.tries if one[0].text] or self.tries
        sane = [one for one in worded if not self.repeats(one[0])] or worded
        return max(sane, key=lambda one: one[0].avg_logprob)

    @property
    def best(self) -> Decoded:
        return self.chosen[0]

    def repeats(self, said: Decoded) -> bool:
        """Return whether Whisper went on after the end, as it does before too little silence."""
        words = said.text.lower().split()
        # The sentence, and the same sentence again from its first word.
        loops = any(words[n : 2 * n] == words[:n] for n in range(3, len(words) // 2 + 1))
        loops = loops or _LOOP.search(said.text) is not None
        too_fast = len(words) / max(self.window.speech_s, 1.0) > MAX_WORDS_PER_S
        return loops or too_fast or said.compression_ratio > MAX_COMPRESSION_RATIO


@dataclass(frozen=True)
class Decoder:
    """An engine that hears one clip, in one language."""

    engine: Engine
    language: str
    subjects: Sequence[Subject] = ()
    vocabulary: Vocabulary | None = None
    """What the picture's model knows, where that is little."""

    def transcribe(self, takes: Sequence[Take]) -> int:
        """Decode every window, and bad ones again; return the number of decodes."""
        for take in takes:
            self._try(take)
        n_decodes = len(takes)
        spare = MAX_DECODES - n_decodes * (1 if self.language == "en" else 2)
        while spare > 0 and (bad := [take for take in takes if take.is_bad]):
            self._try(min(bad, key=_promise))
            n_decodes += 1
            spare -= 1
        if self.language == "en":
            for take, hear in product(takes, (self._hear_names, self._hear_things)):
                if spare > 0 and hear(take):
                    n_decodes += 1
                    spare -= 1
        return n_decodes

    def _hear_names(self, take: Take) -> bool:
        """Where a name may have been missed, hear it; return whether that was tried."""
        first = take.best
        missed = MissedNames(tuple(self.subjects), first.text)

        def is_better(said: Decoded) -> bool:
            return missed.is_better(said.text, said.avg_logprob - first.avg_logprob)

        if missed.places:
            self._hear_again(take, missed.sentences, is_better)
        return bool(missed.places)

    def _hear_things(self, take: Take) -> bool:
        """Where words are strange to the model, hear it again; return whether that was tried."""
        vocabulary, first = self.vocabulary, take.best.text
        strange = vocabulary.strange(first) if vocabulary else []
        if not (vocabulary and strange):
            return False
        told = vocabulary.nearest(first, strange)
        hint = f"{names_hint(self._names)} {sentences_of(told)}".strip()
        self._hear_again(take, hint, lambda said: vocabulary.is_better(said.text, first, told))
        return True

    def _hear_again(self, take: Take, hint: str, is_better: Callable[[Decoded], bool]) -> None:
        """Decode once more after a hint; what is heard then is taken where it is better."""
        first, features = take.chosen
        options = replace(self._options(take.window), hint=hint)
        again = replace(take, tries=[(self.engine.decode(features, options), features)])
        if is_better(again.best) and not again.is_bad:
            take.first, take.tries = take.first or first.text, [*take.tries, *again.tries]

    def _try(self, take: Take) -> None:
        attempt = len(take.tries)
        if attempt == 1 and take.context_s < WINDOW_S:
            take.encoded = self.engine.encode(take.window.samples, float(WINDOW_S))
        options = replace(self._options(take.window), temperature=0.4 if attempt == 2 else 0.0)
        if attempt:
            options = replace(options, hint="")
        said = self.engine.decode(take.encoded, options)
        is_unlikely = said.avg_logprob < MIN_AVG_LOGPROB
        if not attempt and is_unlikely and _TOLD.issuperset(words_of(said.text)):
            said = replace(said, text="")  # of noise it makes what it was told
        take.tries.append((said, take.encoded))

    def translate(self, take: Take) -> str:
        """Return what was said in English (Whisper translates in one more pass).

        It is told what the words that are in the glossary mean; a thing that it left out all the
        same comes at the end.
        """
        words = find_words(take.best.text, self.language)
        hint = names_hint([*self._names, *join_phrases(words)], ", ")
        options = replace(self._options(take.window), task="translate", hint=hint)
        return add_missing_things(self.engine.decode(take.chosen[1], options).text, words)

    @property
    def _names(self) -> list[str]:
        return [one.spoken for one in self.subjects[:MAX_TOLD]]

    def _options(self, window: Window) -> DecodeOptions:
        """With room for the fastest speaker; a loop ends here at the latest."""
        tokens_per_s = 8 if self.language == "en" else 25  # some scripts take several a letter
        max_tokens = min(220, 16 + int(tokens_per_s * len(window.samples) / RATE_HZ))
        usual = usual_words(self.language)
        names = names_hint(self._names)
        # English wishes stand behind the names: before them a name in 31 was lost.
        parts = (names, WISHES) if self.language == "en" else (usual and f"{usual}.", names)
        return DecodeOptions(self.language, max_tokens, hint=" ".join(filter(None, parts)))

    def segment(self, take: Take, *, word_times: bool) -> Segment:
        """Return what was said in a window, when, and how sure Whisper was."""
        window, (said, features) = take.window, take.chosen
        offset_s = window.start / RATE_HZ
        start_s = max(0.0, offset_s + LEAD_S)
        end_s = offset_s + len(window.samples) / RATE_HZ
        words: list[Word] = []
        for word in self.engine.word_times(features, said, self.language) if word_times else ():
            text = word.text.strip()
            if words and text and not any(map(str.isalnum, text)):
                words[-1] = replace(words[-1], text=words[-1].text + text)  # a mark is no word
            elif text:
                begin, end = (
                    min(max(offset_s + t, start_s), end_s) for t in (word.start_s, word.end_s)
                )
                words.append(Word(text, round(begin, 2), round(end, 2), round(word.probability, 3)))
        return Segment(
            start_s=round(start_s, 2),
            end_s=round(end_s, 2),
            text=said.text,
            words=tuple(words),
            avg_logprob=round(said.avg_logprob, 3),
            no_speech_prob=round(said.no_speech_prob, 4),
        )


def _promise(take: Take) -> tuple[int, bool, float]:
    """Orders windows by how much another try may help: the least tried, then the worst, first."""
    return len(take.tries), not take.repeats(take.best), take.best.avg_logprob


def names_hint(names: Sequence[str], between: str = " and ") -> str:
    """Return what Whisper is told was said just before, so that it expects these names.

    A sentence of the kind that is said here does as well as a bare list, without the list's habit
    of turning ordinary words into names (benchmarks/README.md).
    """
    return f"A picture of {between.join(names)}." if names else ""


def is_silence(said: Decoded) -> bool:
    """Return whether Whisper itself takes what it heard for silence."""
    return said.no_speech_prob > MAX_NO_SPEECH and said.avg_logprob < MIN_AVG_LOGPROB


def find_doubts(takes: Sequence[Take], language: str) -> list[str]:
    """Return Whisper's own signals as sentences."""
    doubts = []
    worst = min(take.best.avg_logprob for take in takes)
    clear = DOUBTFUL_LOGPROB if language == "en" else DOUBTFUL_ELSEWHERE
    if worst < clear:
        doubts.append(
            f"Whisper was unsure of the words (mean log probability {worst:.2f}; clear speech has "
            f"more than {clear:g})."
        )
    silent = max(take.best.no_speech_prob for take in takes)
    if silent > MAX_NO_SPEECH:
        doubts.append(f"It may not have been speech at all (probability {silent:.2f}).")
    if any(take.repeats(take.best) for take in takes):
        doubts.append("The words repeat themselves, as Whisper does when it is lost.")
    return doubts


def doubt_english(takes: Sequence[Take], model: str, *, is_doubted: bool) -> str:
    """Return why a model that knows English only may have heard another language; "" for no reason.

    Parameters
    ----------
    is_doubted : whether `find_doubts` has any
    """
    surest = min(take.best.avg_logprob - take.best.no_speech_prob for take in takes)
    if not is_doubted and surest >= FOREIGN:
        return ""
    return (
        f"This does not sound like English, and {model} understands English only: of what was said "
        "in another language it makes words that nobody said. Hearing that needs a Whisper for all "
        f"languages (--whisper base). {OFFLINE_ADVICE}"
    )


def doubt_language(found: str, probability: float, language: str | None) -> str:
    """Return why the language that was ``found`` may not be the one spoken; "" for no reason.

    Parameters
    ----------
    language : that the user named, in which it was heard
    """
    if language is not None and found != language and probability > SURELY:
        return (
            f"This sounds like {name_language(found)} (probability {probability:.2f}), and "
            f"{name_language(language)} was asked for. Leave --language out, or name {found}."
        )
    if language is None and probability < 0.5:
        return (
            f"The language is a guess ({name_language(found)}, probability {probability:.2f}). "
            f"Name it: --language {found}, or another."
        )
    return ""


def name_language(code: str) -> str:
    """Return the English name of a language that Whisper knows: "de" is German."""
    from whisper.tokenizer import LANGUAGES

    return LANGUAGES[code].title()
