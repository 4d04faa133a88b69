"""Audio -> Transcript: what was said, in English, and how far to trust it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.devices import free_memory
from s2i_lib.speech.audio import LIMIT_S, RATE_HZ, Audio, load_audio, normalise, read_audio
from s2i_lib.speech.whisper import (
    ENGINES,
    MODELS,
    WINDOW_S,
    Decoded,
    Engine,
    Word,
    find_weights,
    has_cuda,
    load_engine,
    shortest_window_s,
)
from s2i_lib.storage.files import GIB
from s2i_lib.storage.layout import Drive, open_drive

__all__ = ["HearOptions", "Listener", "Segment", "Transcript", "Word", "hear", "load_audio"]

logger = logging.getLogger(__name__)

DRAWING_GIB = 8.0  # the most GPU memory that a base model of the registry asks for
MAX_DECODES = 3  # of a clip: plain Whisper takes up to six of every 30 s
# Whisper's own thresholds. Source: openai/whisper, transcribe.py:44-46.
MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH = 0.6
# Below it 60 of 67 clips with a third of their words wrong were doubted, and 2 of 33 good ones
# (tiny.en, 25 clips clean and in noise of 10, 5 and 0 dB, see benchmarks/README.md).
DOUBTFUL_LOGPROB = -0.6
MAX_HINTS = 20  # names that Whisper is told: its memory of earlier text has 223 tokens
# Of chunks no longer than this three windows hold 60 s: each is filled to 27.5 - 10 s at least.
PACKED_S = 10.0
LEAD_S = 0.5  # silence put before the speech: a first word without a beginning is misheard
MAX_WORDS_PER_S = 7.0  # auctioneers reach six; endless repetition far more


@dataclass(frozen=True)
class HearOptions:
    """How to listen. Every default is the one that measured best in benchmarks/hearing.py."""

    engine: str = "auto"
    """openai-whisper on a GPU, faster-whisper on the CPU."""
    model: str = "auto"
    """tiny.en to turbo, or a path to weights; auto chooses by device, memory and language."""
    language: str | None = None
    """Such as "de", for which a GPU with room takes a larger model; None: Whisper finds out."""
    names: tuple[str, ...] = ()
    """Names that may be said; Whisper is told them beforehand."""
    limit_s: float = LIMIT_S
    """Longest recording that is accepted."""
    word_times: bool = False
    """Whether segments carry the time of every word (costs one more pass)."""
    device: str = "auto"
    beam_size: int = 5
    """As faster-whisper has it; greedy search is faster and mishears short sentences."""
    context_s: float | None = None
    """Shortest window that is encoded. Whisper's is 30 s, however little was said; None: shorter
    only where the model was measured so (tiny.en on the CPU)."""
    margin_s: float = 2.0
    """Silence that must fit behind the speech, or Whisper repeats itself."""

    def __post_init__(self) -> None:
        if self.engine not in ("auto", *ENGINES):
            raise InputError(
                f"There is no engine {self.engine!r}. Expected auto, {' or '.join(ENGINES)}."
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"There is no device {self.device!r}. Expected auto, cpu or cuda.")
        if not self.limit_s > 0:
            raise InputError(f"The limit is {self.limit_s:g} s. Expected more than 0, usually 60.")
        context_s = WINDOW_S if self.context_s is None else self.context_s
        if not 1 <= context_s <= WINDOW_S or not 0 <= self.margin_s < WINDOW_S - 1:
            raise InputError(
                f"A window of {context_s:g} s with a margin of {self.margin_s:g} s cannot be "
                f"heard. Expected 1 to {WINDOW_S} s, and a margin below {WINDOW_S - 1} s."
            )
        if not 1 <= self.beam_size <= 10:
            raise InputError(f"The beam size is {self.beam_size}. Expected 1 to 10, usually 5.")
        if self.language is not None:
            _check_language(self.language)
            model = MODELS.get(self.model)
            if model and self.language != "en" and not model.can_translate:
                raise InputError(_cannot_translate(model.name, self.language))


def _check_language(language: str) -> None:
    from whisper.tokenizer import LANGUAGES

    if language not in LANGUAGES:
        raise InputError(
            f"Whisper knows no language {language!r}. Expected a code such as en, de, fr, es, ja "
            f"(all of them: {', '.join(LANGUAGES)})."
        )


def _cannot_translate(model: str, language: str) -> str:
    why = "hears English only" if not MODELS[model].is_multilingual else "cannot translate"
    return (
        f"The model {model} {why}, and {language!r} has to become English for the picture. "
        "Use --whisper tiny, base, small, medium or large-v3, or --whisper auto."
    )


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    """Whisper's mean log probability of its words: -0.3 is usual, below -0.6 doubtful."""
    no_speech_prob: float = 0.0


@dataclass(frozen=True)
class Transcript:
    """What was heard. ``english`` is what a prompt is made of."""

    text: str
    """In the language that was spoken."""
    language: str
    language_probability: float
    english: str
    segments: tuple[Segment, ...]
    engine: str
    model: str
    audio_s: float
    took_s: float
    doubts: tuple[str, ...] = ()
    """Sentences that say why this may not be what was said; none is good."""
    n_decodes: int = 1

    @property
    def words(self) -> tuple[Word, ...]:
        """Every word with its time, where ``HearOptions.word_times`` asked for it."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Transcript:
        """Read what ``to_json`` wrote.

        Raises
        ------
        InputError
            When fields are missing or unknown.
        """
        try:
            segments = tuple(
                Segment(**{**segment, "words": tuple(Word(**word) for word in segment["words"])})
                for segment in record["segments"]
            )
            return cls(**{**record, "segments": segments, "doubts": tuple(record["doubts"])})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"This is not a transcript's record ({error}). Expected what Transcript.to_json "
                "wrote."
            ) from error


class Listener:
    """A loaded engine that hears one recording after another (from one thread at a time).

    ``load`` may run in the background while the user is still speaking; ``hear`` waits for it.
    """

    def __init__(self, options: HearOptions | None = None, drive: Drive | None = None):
        self.options = options or HearOptions()
        self.drive = drive or open_drive()
        self._engine: Engine | None = None
        self._lock = threading.RLock()

    def load(self) -> Listener:
        """Find the weights, load them and the voice detector. Doing so again costs nothing."""
        with self._lock:
            if self._engine is None:
                from faster_whisper.vad import get_vad_model

                get_vad_model()
                self._engine = _load_chosen(self.options, self.drive)
        return self

    def share(self, other: Listener) -> Listener:
        """Use the engine that ``other`` has loaded, for other names or another language."""
        self._engine, self._lock = other.load()._engine, other._lock
        return self

    def hear(
        self, source: str | Path | bytes | np.ndarray, rate_hz: int | None = None
    ) -> Transcript:
        """Listen to one recording (``rate_hz`` is for arrays).

        Raises
        ------
        InputError
            When the recording cannot be used, or nothing was said in it.
        S2iError
            When the weights cannot be had.
        """
        started = time.perf_counter()
        audio = read_audio(source, rate_hz=rate_hz, limit_s=self.options.limit_s)
        windows = find_windows(audio, self.options.margin_s)
        took_s = time.perf_counter() - started
        with self._lock:
            self.load()  # its seconds are not counted: it happens once
            started = time.perf_counter()
            assert self._engine is not None
            transcript = _hear_windows(self._engine, audio, windows, self.options)
        took_s += time.perf_counter() - started
        return replace(transcript, took_s=round(took_s, 3))


def hear(
    source: str | Path | bytes | np.ndarray,
    options: HearOptions | None = None,
    drive: Drive | None = None,
    *,
    rate_hz: int | None = None,
) -> Transcript:
    """``Listener(options, drive).hear(source)``, for a single recording."""
    return Listener(options, drive).hear(source, rate_hz)


def _load_chosen(options: HearOptions, drive: Drive) -> Engine:
    device = options.device
    if device == "auto":
        device = "cuda" if has_cuda() else "cpu"
    engine = options.engine
    if engine == "auto":
        engine = "openai-whisper" if device == "cuda" else "faster-whisper"
    if options.model != "auto":
        return load_engine(engine, options.model, device, drive, options.beam_size)
    return _load_auto(options, engine, device, drive)


def choose_models(language: str | None, device: str, memory_gib: float) -> list[str]:
    """Models that suit, best first: large enough to hear well, small enough to answer in seconds.

    English is heard well by small ones. Another language gains most from a larger one, and has to
    be translated besides.

    Parameters
    ----------
    memory_gib : free memory of the device; the picture's model needs most of it. A quarter may be
        taken, and on a GPU whatever is left beside the largest of these
    """
    names = ["small", "base", "tiny"] if device == "cuda" else ["base", "tiny"]
    room_gib = memory_gib / 4
    if device == "cuda":
        room_gib = max(room_gib, memory_gib - DRAWING_GIB)
        names = ["medium"] * (language not in (None, "en")) + names
    suiting = [name for name in names if MODELS[name].memory_gib <= room_gib] or ["tiny"]
    if language == "en":
        return [f"{name}.en" for name in suiting] + (["tiny.en"] if "tiny" not in suiting else [])
    return suiting + (["tiny.en"] if language is None else [])


def best_model(language: str | None = None) -> str:
    """The Whisper model that suits this machine best, be it here or to be downloaded."""
    device = "cuda" if has_cuda() else "cpu"
    return choose_models(language, device, free_memory(device) / GIB)[0]


def _load_auto(options: HearOptions, engine: str, device: str, drive: Drive) -> Engine:
    """The best model that is already here; else the best that can be downloaded."""
    names = choose_models(options.language, device, free_memory(device) / GIB)
    errors = []
    for download in (False, True):
        for name in names:
            try:
                find_weights(engine, name, drive, download=download)
            except S2iError as error:
                errors.append(str(error))
                continue
            return load_engine(engine, name, device, drive, options.beam_size)
    raise S2iError(f"No Whisper model could be had. {' '.join(errors[len(names) :])}")


@dataclass(frozen=True)
class Window:
    """A stretch with speech in it, short enough for Whisper."""

    start: int
    """In samples of the recording; before its first where the leading silence reaches out."""
    samples: np.ndarray
    """LEAD_S of silence, then the speech."""
    speech_s: float
    """Of it, without the pauses."""


def find_windows(audio: Audio, margin_s: float) -> list[Window]:
    """Trim silence, even out the loudness, split what is longer than Whisper's window at pauses.

    A clip of up to 60 s gives at most MAX_DECODES windows (with the default margin).

    Raises
    ------
    InputError
        When no speech is found: Whisper would make some up.

    Source: the options are faster-whisper's defaults for Silero VAD except for the shorter pause,
    so that a split falls between sentences.
    """
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    samples = normalise(audio.samples)
    longest_s = WINDOW_S - margin_s - LEAD_S
    options = VadOptions(
        min_speech_duration_ms=200,  # a cough or a click is shorter
        min_silence_duration_ms=500,
        speech_pad_ms=300,
        max_speech_duration_s=longest_s,
    )
    chunks = get_speech_timestamps(samples, options)
    spans = _join(chunks, longest_s)
    if len(spans) > MAX_DECODES:  # one decode each: shorter chunks fill the windows better
        shorter = replace(options, max_speech_duration_s=PACKED_S)
        spans = min(spans, _join(get_speech_timestamps(samples, shorter), longest_s), key=len)
    if not spans:
        raise InputError(
            f"Nothing was said: there is sound in these {audio.duration_s:.1f} s, but no speech. "
            "Speak closer to the microphone, or choose another file."
        )
    lead = np.zeros(int(LEAD_S * RATE_HZ), np.float32)
    return [
        Window(a - len(lead), np.concatenate([lead, samples[a:b]]), speech / RATE_HZ)
        for a, b, speech in spans
    ]


def _join(chunks: Sequence[dict[str, int]], longest_s: float) -> list[tuple[int, int, int]]:
    """Chunks of speech -> as few windows as a walk from the left finds: start, end, its speech."""
    spans: list[tuple[int, int, int]] = []
    for chunk in chunks:
        start, speech = chunk["start"], 0
        if spans and chunk["end"] - spans[-1][0] <= longest_s * RATE_HZ:
            start, _, speech = spans.pop()
        spans.append((start, chunk["end"], speech + chunk["end"] - chunk["start"]))
    return spans


def _hear_windows(
    engine: Engine, audio: Audio, windows: Sequence[Window], options: HearOptions
) -> Transcript:
    encoded = [
        engine.encode(window.samples, _context_s(engine, window, options)) for window in windows
    ]
    language, probability = options.language or "en", 1.0
    if engine.is_multilingual and options.language is None:
        language, probability = engine.detect_language(encoded[0])
    elif not engine.is_multilingual and language != "en":
        raise InputError(
            f"The model {engine.model} hears English only, and {language!r} was asked for. "
            "Name a multilingual model, for instance --whisper small."
        )
    takes = [_Takes(window, features) for window, features in zip(windows, encoded, strict=True)]
    n_decodes = _transcribe(engine, takes, options, language)
    heard = [take.best for take in takes]
    segments = [_segment(engine, take, options, language) for take in takes]
    english = [said.text for said in heard]
    if language != "en":
        english = []
        for take in takes:
            if take.best.text:
                english.append(_translate(engine, take, options, language, probability))
                n_decodes += 1
    text = " ".join(said.text for said in heard if said.text)
    if not any(character.isalnum() for character in text) or all(map(_is_silence, heard)):
        raise InputError(
            f"Nothing was said that Whisper {engine.model} understands in these "
            f"{audio.duration_s:.1f} s. Speak closer to the microphone, or try a larger model."
        )
    return Transcript(
        text=text,
        language=language,
        language_probability=round(probability, 4),
        english=" ".join(english),
        segments=tuple(segments),
        engine=engine.name,
        model=engine.model,
        audio_s=round(audio.duration_s, 3),
        took_s=0.0,
        doubts=(*audio.remarks, *find_doubts(heard, windows, engine, language, probability)),
        n_decodes=n_decodes,
    )


def _context_s(engine: Engine, window: Window, options: HearOptions) -> float:
    """Of the window that is encoded at first."""
    least_s = options.context_s
    if least_s is None:
        least_s = shortest_window_s(engine.model, engine.device)
    needed_s = len(window.samples) / RATE_HZ + options.margin_s
    return float(min(WINDOW_S, max(least_s, np.ceil(needed_s))))


@dataclass
class _Takes:
    """A window and what was made of it so far, each with the features that it came from."""

    window: Window
    encoded: Any
    tries: list[tuple[Decoded, Any]] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        return _is_bad(self.tries[-1][0], self.window)

    @property
    def _chosen(self) -> tuple[Decoded, Any]:
        if not self.is_bad:
            return self.tries[-1]
        sane = [one for one in self.tries if not _repeats(one[0], self.window)] or self.tries
        return max(sane, key=lambda one: one[0].avg_logprob)

    @property
    def best(self) -> Decoded:
        return self._chosen[0]

    @property
    def best_encoded(self) -> Any:
        return self._chosen[1]


def _transcribe(
    engine: Engine, takes: Sequence[_Takes], options: HearOptions, language: str
) -> int:
    """Decode every window; those that come out bad again, in Whisper's whole window, then less
    strictly, as long as the clip stays within MAX_DECODES. Returns the number of decodes.

    The bound holds for the clip: 28 s of English can be tried three times, two windows have one
    more try between them (the worse one gets it), and three, which take 60 s, have none. What no
    second try can mend is said in the transcript's doubts. What is not English needs another decode
    a window for the translation, so that its bound holds for one window, and there are no second
    tries beyond that. A longer limit means one decode a window.
    """
    for take in takes:
        _try(engine, take, options, language)
    n_decodes = len(takes)
    spare = MAX_DECODES - n_decodes * (1 if language == "en" else 2)
    while spare > 0 and (bad := [take for take in takes if take.is_bad]):
        _try(engine, min(bad, key=_promise), options, language)
        n_decodes += 1
        spare -= 1
    return n_decodes


def _promise(take: _Takes) -> tuple[int, bool, float]:
    """Orders windows by how much another try may help: the least tried, then the worst, first."""
    said = take.best
    return len(take.tries), not _repeats(said, take.window), said.avg_logprob


def _try(engine: Engine, take: _Takes, options: HearOptions, language: str) -> None:
    attempt = len(take.tries)
    if attempt == 1 and _context_s(engine, take.window, options) < WINDOW_S:
        take.encoded = engine.encode(take.window.samples, float(WINDOW_S))
    said = engine.decode(
        take.encoded,
        language=language,
        task="transcribe",
        hint=names_hint(options.names) if attempt == 0 else "",  # they may have led it astray
        temperature=0.4 if attempt == 2 else 0.0,
        max_tokens=_max_tokens(take.window, language),
    )
    take.tries.append((said, take.encoded))


def _translate(
    engine: Engine, take: _Takes, options: HearOptions, language: str, probability: float
) -> str:
    model = MODELS.get(engine.model)
    if model and not model.can_translate:
        raise InputError(
            f"{_cannot_translate(engine.model, language)} Heard ({language}, probability "
            f"{probability:.2f}): {take.best.text!r}. If that was English, say so with "
            "--language en."
        )
    said = engine.decode(
        take.best_encoded,
        language=language,
        task="translate",
        hint=names_hint(options.names),
        temperature=0.0,
        max_tokens=_max_tokens(take.window, language),
    )
    return said.text


def names_hint(names: Sequence[str]) -> str:
    """What Whisper is told was said just before, so that it expects these names.

    A sentence of the kind that is said here does as well as a bare list, without the list's habit
    of turning ordinary words into names (benchmarks/README.md).
    """
    return f"A picture of {' and '.join(names[:MAX_HINTS])}." if names else ""


def _max_tokens(window: Window, language: str) -> int:
    """Room for the fastest speaker; a loop ends here at the latest."""
    tokens_per_s = 8 if language == "en" else 25  # some scripts take several tokens a letter
    return min(220, 16 + int(tokens_per_s * len(window.samples) / RATE_HZ))


def _repeats(said: Decoded, window: Window) -> bool:
    """Whether Whisper went on after the end, as it does where too little silence follows."""
    words = said.text.lower().split()
    # The sentence, and the same sentence again from its first word.
    loops = any(words[n : 2 * n] == words[:n] for n in range(3, len(words) // 2 + 1))
    words_per_s = len(words) / max(window.speech_s, 1.0)
    too_fast = words_per_s > MAX_WORDS_PER_S
    return loops or too_fast or said.compression_ratio > MAX_COMPRESSION_RATIO


def _is_bad(said: Decoded, window: Window) -> bool:
    return not said.text or said.avg_logprob < MIN_AVG_LOGPROB or _repeats(said, window)


def _is_silence(said: Decoded) -> bool:
    return said.no_speech_prob > MAX_NO_SPEECH and said.avg_logprob < MIN_AVG_LOGPROB


def _segment(engine: Engine, take: _Takes, options: HearOptions, language: str) -> Segment:
    window, said = take.window, take.best
    offset_s = window.start / RATE_HZ
    start_s = max(0.0, offset_s + LEAD_S)
    end_s = offset_s + len(window.samples) / RATE_HZ
    words: list[Word] = []
    if options.word_times:
        for word in engine.word_times(take.best_encoded, said, language):
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


def find_doubts(
    heard: Sequence[Decoded],
    windows: Sequence[Window],
    engine: Engine,
    language: str,
    probability: float,
) -> list[str]:
    """Whisper's own signals as sentences."""
    doubts = []
    worst = min(said.avg_logprob for said in heard)
    if worst < DOUBTFUL_LOGPROB:
        doubts.append(
            f"Whisper was unsure of the words (mean log probability {worst:.2f}; clear speech has "
            f"more than {DOUBTFUL_LOGPROB:g})."
        )
    silent = max(said.no_speech_prob for said in heard)
    if silent > MAX_NO_SPEECH:
        doubts.append(f"It may not have been speech at all (probability {silent:.2f}).")
    if any(_repeats(said, window) for said, window in zip(heard, windows, strict=True)):
        doubts.append("The words repeat themselves, as Whisper does when it is lost.")
    if probability < 0.5:
        doubts.append(
            f"The language is a guess ({language}, probability {probability:.2f}); "
            "name it with --language."
        )
    if doubts and not engine.is_multilingual:
        doubts.append(f"{engine.model} understands English only.")
    return doubts
