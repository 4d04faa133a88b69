"""Audio -> Transcript: what was said, in English, and how far to trust it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.devices import free_memory
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.audio import LIMIT_S, RATE_HZ, Audio, Recording, read_audio
from s2i_lib.speech.decoding import (
    Decoder,
    Take,
    doubt_english,
    doubt_language,
    find_doubts,
    is_silence,
    name_language,
)
from s2i_lib.speech.transcript import Transcript
from s2i_lib.speech.vocabulary import Vocabulary
from s2i_lib.speech.weights import (
    MODELS,
    OFFLINE_ADVICE,
    WINDOW_S,
    choose_models,
    find_weights,
    shortest_window_s,
)
from s2i_lib.speech.whisper import ENGINES, Engine, has_cuda, load_engine
from s2i_lib.speech.windows import Window, find_windows
from s2i_lib.storage.disk import GIB
from s2i_lib.storage.layout import Drive, at_home, open_drive


@dataclass(frozen=True)
class HearOptions:
    """How to listen. Every default is the one that measured best in benchmarks/hearing.py."""

    engine: str = "auto"
    """Engine of ``whisper``; auto: openai-whisper on a GPU and for a file of weights, which only it
    reads; else faster-whisper."""
    model: str = "auto"
    """Model (tiny.en to turbo) or path of weights; auto: by device, memory and language."""
    language: str | None = None
    """Language that is spoken, such as "de", for which a GPU with room takes a larger model; None:
    Whisper finds out."""
    subjects: tuple[Subject, ...] = ()
    """Subjects that may be named; Whisper is told their names beforehand."""
    vocabulary: Vocabulary | None = None
    """What the picture's model knows, where that is little: English with other words in it is heard
    once more, for words that sound alike."""
    limit_s: float = LIMIT_S
    """Longest recording that is accepted."""
    word_times: bool = False
    """Whether segments carry the time of every word (costs one more pass)."""
    device: str = "auto"
    beam_size: int = 5
    """Beams of the search, as in faster-whisper; greedy search mishears short sentences."""
    context_s: float | None = None
    """Shortest window that is encoded. Whisper's is 30 s, however little was said; None: shorter
    only where the model was measured so (tiny.en on the CPU)."""
    margin_s: float = 2.0
    """Silence that must fit behind the speech, or Whisper repeats itself."""

    @property
    def loads(self) -> tuple[str | int | None, ...]:
        """What an engine is loaded for; all else may change from one recording to the next."""
        language = self.language if self.model == "auto" else None
        return self.engine, self.model, language, self.device, self.beam_size

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


class Listener:
    """A loaded engine that hears one recording after another (from one thread at a time).

    ``load`` may run in the background while the user is still speaking; ``hear`` waits for it.
    ``options`` may be others for the next recording, but for what `HearOptions.loads` says.
    """

    def __init__(self, options: HearOptions | None = None, drive: Drive | None = None):
        self.options = options or HearOptions()
        self.drive = drive or open_drive()
        self._engine: Engine | None = None
        self._untold: tuple[str, ...] = ()  # about the engine, said with the next transcript
        self._lock = threading.RLock()

    @property
    def is_loaded(self) -> bool:
        """Whether ``hear`` need not wait for weights."""
        return self._engine is not None

    def load(self) -> Listener:
        """Find the weights, load them and the voice detector. Doing so again costs nothing."""
        with self._lock:
            if self._engine is None:
                from faster_whisper.vad import get_vad_model

                get_vad_model()
                self._engine, self._untold = _load_chosen(self.options, self.drive)
        return self

    def hear(self, source: Recording, rate_hz: int | None = None) -> Transcript:
        """Listen to one recording (``rate_hz`` is for arrays).

        Raises
        ------
        InputError
            When the recording cannot be used, or nothing was said in it.
        S2iError
            When the weights are found nowhere.
        """
        started = time.perf_counter()
        audio = read_audio(source, rate_hz=rate_hz, limit_s=self.options.limit_s)
        windows = find_windows(audio, self.options.margin_s)
        took_s = time.perf_counter() - started
        with self._lock:
            self.load()  # its seconds are not counted: it happens once
            started = time.perf_counter()
            assert self._engine is not None
            transcript = hear_windows(self._engine, audio, windows, self.options)
            notes, self._untold = self._untold, ()
        took_s += time.perf_counter() - started
        return replace(transcript, took_s=round(took_s, 3), notes=notes)


def hear(
    source: Recording,
    options: HearOptions | None = None,
    drive: Drive | None = None,
    *,
    rate_hz: int | None = None,
) -> Transcript:
    """Listen to a single recording: ``Listener(options, drive).hear(source)``."""
    return Listener(options, drive).hear(source, rate_hz)


def _load_chosen(options: HearOptions, drive: Drive) -> tuple[Engine, tuple[str, ...]]:
    """Return the engine, and sentences on what the choice means for those who speak."""
    device = options.device
    if device == "auto":
        device = "cuda" if has_cuda() else "cpu"
    engine = options.engine
    if engine == "auto":
        is_file = options.model not in ("auto", *MODELS) and at_home(options.model).is_file()
        engine = "openai-whisper" if device == "cuda" or is_file else "faster-whisper"
    if options.model != "auto":
        return load_engine(engine, options.model, device, drive, options.beam_size), ()
    return _load_auto(options, engine, device, drive)


def best_model() -> str:
    """Return the Whisper model that suits this machine best, whether or not it is here yet."""
    device = "cuda" if has_cuda() else "cpu"
    return choose_models(None, device, free_memory(device) / GIB)[0]


def _load_auto(
    options: HearOptions, engine: str, device: str, drive: Drive
) -> tuple[Engine, tuple[str, ...]]:
    """Load the best model that is already here; else the best that can be downloaded.

    One that hears English only, where nobody said that English is spoken, is the last resort.
    """
    names = choose_models(options.language, device, free_memory(device) / GIB)
    fitting = [name for name in names if options.language or MODELS[name].is_multilingual]
    rest = [name for name in names if name not in fitting]
    # Without a network every download fails alike: one is tried before the last resort.
    order = [(name, False) for name in fitting] + [(fitting[0], True)]
    order += [(name, False) for name in rest] + [(name, True) for name in (*fitting[1:], *rest)]
    reason = ""
    for name, download in order:
        try:
            find_weights(engine, name, drive, download=download)
        except S2iError as error:
            if download and not reason:
                reason = getattr(error, "reason", str(error).rstrip("."))
            continue
        loaded = load_engine(engine, name, device, drive, options.beam_size)
        return loaded, (_english_only(name, reason),) if name in rest else ()
    raise S2iError(_nothing_hears(options.language, names[0], reason))


def _english_only(model: str, reason: str) -> str:
    return (
        f"Only English is heard now, by {model}. For other languages connect to the internet, or "
        "install them once: pip install 's2i_lib[multilingual]'. Their Whisper could not be "
        f"downloaded ({reason})."
    )


def _nothing_hears(language: str | None, model: str, reason: str) -> str:
    what = f"Hearing {name_language(language)}" if language else "Hearing"
    kind = "" if language == "en" else " that knows more than English"
    return (
        f"{what} needs a Whisper{kind}, such as {model}, and none was found on the Drive, in a "
        f"package or on this disk, nor could it be downloaded ({reason}). {OFFLINE_ADVICE}"
    )


def hear_windows(
    engine: Engine, audio: Audio, windows: Sequence[Window], options: HearOptions
) -> Transcript:
    """Return what ``engine`` hears in the windows of a recording.

    Raises
    ------
    InputError
        When the model cannot hear or translate the language, or nothing was understood.
    """
    lengths_s = [_context_s(engine, window, options) for window in windows]
    takes = [
        Take(window, engine.encode(window.samples, length_s), length_s)
        for window, length_s in zip(windows, lengths_s, strict=True)
    ]
    language, probability = options.language or "en", 1.0
    found, likely = engine.detect_language(takes[0].encoded) if engine.is_multilingual else ("", 0)
    if found and options.language is None:
        language, probability = found, likely
    elif not found and language != "en":
        raise InputError(
            f"The model {engine.model} hears English only, and {language!r} was asked for. "
            "Name a multilingual model, for instance --whisper small."
        )
    decoder = Decoder(engine, language, options.subjects, options.vocabulary)
    n_decodes = decoder.transcribe(takes)
    spoken = [take for take in takes if take.best.text]
    text = english = " ".join(take.best.text for take in spoken)
    if language != "en" and spoken:
        _check_translation(engine, text, language, probability)
        english = " ".join(map(decoder.translate, spoken))
        n_decodes += len(spoken)
    is_other = any(take.first for take in spoken)
    if not any(map(str.isalnum, text)) or all(is_silence(take.best) for take in takes):
        raise InputError(
            f"Nothing was said that Whisper {engine.model} understands in these "
            f"{audio.duration_s:.1f} s. Speak closer to the microphone, or try a larger model."
        )
    doubts = find_doubts(takes, language)
    language_doubt = (
        doubt_language(found, likely, options.language)
        if found
        else doubt_english(takes, engine.model, is_doubted=bool(doubts))
    )
    return Transcript(
        text=text,
        language=language,
        language_probability=round(probability, 4),
        english=english,
        segments=tuple(decoder.segment(t, word_times=options.word_times) for t in takes),
        engine=engine.name,
        model=engine.model,
        audio_s=round(audio.duration_s, 3),
        took_s=0.0,
        doubts=(*audio.remarks, *doubts, *filter(None, [language_doubt])),
        n_decodes=n_decodes,
        language_doubt=language_doubt,
        first_heard=" ".join(take.first or take.best.text for take in spoken if is_other),
    )


def _context_s(engine: Engine, window: Window, options: HearOptions) -> float:
    """Return the length of the window that is encoded at first."""
    least_s = options.context_s
    if least_s is None:
        least_s = shortest_window_s(engine.model, engine.device)
    needed_s = len(window.samples) / RATE_HZ + options.margin_s
    return float(min(WINDOW_S, max(least_s, math.ceil(needed_s))))


def _check_translation(engine: Engine, text: str, language: str, probability: float) -> None:
    model = MODELS.get(engine.model)
    if model and not model.can_translate:
        raise InputError(
            f"{_cannot_translate(engine.model, language)} Heard ({language}, probability "
            f"{probability:.2f}): {text!r}. If that was English, say so with --language en."
        )
