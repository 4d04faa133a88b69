"""Two Whisper engines behind one interface, and where their weights come from."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.speech import tiny_en
from s2i_lib.speech.audio import RATE_HZ
from s2i_lib.storage import hub
from s2i_lib.storage.layout import Drive

logger = logging.getLogger(__name__)

ENGINES = ("openai-whisper", "faster-whisper")
FRAMES_PER_S = 100  # columns of the mel spectrogram: one every 160 samples
WINDOW_S = 30  # what Whisper was trained on; no window is longer
Task = Literal["transcribe", "translate"]
# Of the repositories that faster-whisper names, as they were when this was tested.
REVISIONS = {
    "tiny.en": "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
    "tiny": "d90ca5fe260221311c53c58e660288d3deb8d356",
    "base.en": "3d3d5dee26484f91867d81cb899cfcf72b96be6c",
    "base": "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
    "small.en": "d1d751a5f8271d482d14ca55d9e2deeebbae577f",
    "small": "536b0662742c02347bc0e980a01041f333bce120",
    "medium.en": "a29b04bd15381511a9af671baec01072039215e3",
    "medium": "08e178d48790749d25932bbc082711ddcfdfbc4f",
    "large-v3": "edaa852ec7e145841d8ffdb056a99866b5f0a478",
    "turbo": "0c94664816ec82be77b20e824c8e8675995b0029",
}
FASTER_FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json")


@dataclass(frozen=True)
class WhisperModel:
    """One size of Whisper, as data."""

    name: str
    memory_gib: float
    """What it takes on a GPU in half precision, or on the CPU in int8."""
    is_multilingual: bool = True
    can_translate: bool = True
    window_s: float = WINDOW_S
    """Shortest window in which it heard as well as in Whisper's 30 s, measured on the CPU. In 10 s
    base misses words of other languages than English, and larger models are said to repeat
    themselves (benchmarks/README.md)."""


# Memory: the table in openai/whisper's README, in halves because that table is for float32.
MODELS = {
    model.name: model
    for model in (
        WhisperModel("tiny.en", 0.5, is_multilingual=False, can_translate=False, window_s=10.0),
        WhisperModel("tiny", 0.5),
        WhisperModel("base.en", 0.7, is_multilingual=False, can_translate=False),
        WhisperModel("base", 0.7),
        WhisperModel("small.en", 1.3, is_multilingual=False, can_translate=False),
        WhisperModel("small", 1.3),
        WhisperModel("medium.en", 3.0, is_multilingual=False, can_translate=False),
        WhisperModel("medium", 3.0),
        WhisperModel("large-v3", 6.0),
        WhisperModel("turbo", 3.5, can_translate=False),  # was not trained on translation
    )
}


def shortest_window_s(model: str, device: str) -> float:
    """The shortest window to hear a model in: as measured with it on the CPU, else Whisper's own.

    On a GPU 30 s cost little, and no shorter window was measured there.
    """
    known = MODELS.get(model)
    return known.window_s if known is not None and device == "cpu" else float(WINDOW_S)


@dataclass(frozen=True)
class Decoded:
    """What one pass of the decoder said about one window, with Whisper's own signals."""

    text: str
    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float

    @property
    def compression_ratio(self) -> float:
        """How much the text shrinks in zlib: endless repetition shrinks a lot."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data)) if data else 1.0


@dataclass(frozen=True)
class Word:
    text: str
    start_s: float
    end_s: float
    probability: float


class Engine(Protocol):
    """What ``speech`` needs; ``encoded`` is whatever ``encode`` of the same engine returned."""

    name: str
    model: str
    device: str
    is_multilingual: bool

    def encode(self, samples: np.ndarray, context_s: float) -> Any:
        """Samples (16 kHz, at most ``context_s``) -> features of a window of that length."""

    def detect_language(self, encoded: Any) -> tuple[str, float]:
        """The likeliest language ("en") and its probability."""

    def decode(
        self,
        encoded: Any,
        *,
        language: str,
        task: Task,
        hint: str,
        temperature: float,
        max_tokens: int,
    ) -> Decoded:
        """One pass of the decoder. ``hint`` is text that might have been said just before."""

    def word_times(self, encoded: Any, decoded: Decoded, language: str) -> list[Word]:
        """When each word was said, in seconds from the window's start."""


class FasterWhisper:
    """CTranslate2: int8 on the CPU, half precision on a GPU."""

    name = "faster-whisper"

    def __init__(self, folder: Path, model: str, device: str, beam_size: int):
        from faster_whisper import WhisperModel

        self.model, self.device = model, device
        self._beam_size = beam_size
        try:
            self._whisper = WhisperModel(
                str(folder),
                device=device,
                compute_type="float16" if device == "cuda" else "int8",
                cpu_threads=0 if "OMP_NUM_THREADS" in os.environ else min(4, os.cpu_count() or 1),
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise _unreadable(folder, error) from error
        self.is_multilingual = self._whisper.model.is_multilingual

    def _tokenizer(self, language: str, task: Task) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        return Tokenizer(
            self._whisper.hf_tokenizer, self.is_multilingual, task=task, language=language
        )

    def encode(self, samples: np.ndarray, context_s: float) -> Any:
        # CTranslate2 takes fewer frames than 3000 and then uses the first positions only.
        n_frames = int(context_s * FRAMES_PER_S)
        padded = np.zeros(n_frames * RATE_HZ // FRAMES_PER_S, np.float32)
        padded[: len(samples)] = samples
        features = self._whisper.feature_extractor(padded, padding=0)[:, :n_frames]
        try:
            return self._whisper.encode(np.ascontiguousarray(features, np.float32)), n_frames
        except RuntimeError as error:  # seen: a GPU whose CUDA is not the one it was built for
            raise S2iError(
                f"faster-whisper could not compute ({error}). Close other programs if memory is "
                "short; else take the other engine (--engine openai-whisper)."
            ) from error

    def detect_language(self, encoded: Any) -> tuple[str, float]:
        (token, probability), *_ = self._whisper.model.detect_language(encoded[0])[0]
        return token.strip("<|>"), float(probability)

    def decode(
        self,
        encoded: Any,
        *,
        language: str,
        task: Task,
        hint: str,
        temperature: float,
        max_tokens: int,
    ) -> Decoded:
        import ctranslate2
        from faster_whisper.transcribe import get_suppressed_tokens

        tokenizer = self._tokenizer(language, task)
        before = [tokenizer.sot_prev, *tokenizer.encode(" " + hint)] if hint else []
        prompt = [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]
        search: dict[str, Any] = {"beam_size": self._beam_size}
        if temperature:
            ctranslate2.set_random_seed(0)
            search = {"beam_size": 1, "sampling_topk": 0, "sampling_temperature": temperature}
        result = self._whisper.model.generate(
            encoded[0],
            [prompt],
            max_length=min(len(prompt) + max_tokens, self._whisper.max_length),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            **search,
        )[0]
        tokens = tuple(result.sequences_ids[0])
        # The score is a mean over the tokens; openai-whisper also counts the end token.
        avg_logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
        text = tokenizer.decode(list(tokens)).strip()
        return Decoded(text, tokens, avg_logprob, result.no_speech_prob)

    def word_times(self, encoded: Any, decoded: Decoded, language: str) -> list[Word]:
        features, n_frames = encoded
        tokenizer = self._tokenizer(language, "transcribe")
        text_tokens = [token for token in decoded.tokens if token < tokenizer.eot]
        found = self._whisper.find_alignment(tokenizer, [text_tokens], features, n_frames)
        words = found[0] if found else []
        return [
            Word(w["word"], float(w["start"]), float(w["end"]), float(w["probability"]))
            for w in words
        ]


class OpenAIWhisper:
    """PyTorch: half precision on a GPU, float32 on the CPU."""

    name = "openai-whisper"

    def __init__(self, path: Path, model: str, device: str, beam_size: int):
        import torch
        from whisper import _ALIGNMENT_HEADS
        from whisper.model import ModelDimensions, Whisper

        self.model, self.device = model, device
        self._beam_size = beam_size
        try:
            if path.is_dir():
                checkpoint = tiny_en.openai_checkpoint(path)
            else:
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            self._whisper = Whisper(ModelDimensions(**checkpoint["dims"]))
            self._whisper.load_state_dict(checkpoint["model_state_dict"])
        except (RuntimeError, ValueError, TypeError, KeyError, OSError, EOFError) as error:
            raise _unreadable(path, error) from error
        except Exception as error:  # pickle.UnpicklingError has no common parent with the others
            if type(error).__name__ != "UnpicklingError":
                raise
            raise _unreadable(path, error) from error
        if model in _ALIGNMENT_HEADS:
            self._whisper.set_alignment_heads(_ALIGNMENT_HEADS[model])
        if device == "cuda":
            keep_in_half(self._whisper)
        self._whisper.to(device).eval()
        self.is_multilingual = self._whisper.is_multilingual

    @contextmanager
    def _context(self, n_ctx: int) -> Iterator[None]:
        """Let the model take windows of ``n_ctx`` positions (20 ms each) instead of 1500."""
        from dataclasses import replace

        dims, whole = self._whisper.dims, self._whisper.encoder.positional_embedding
        try:
            self._whisper.dims = replace(dims, n_audio_ctx=n_ctx)
            self._whisper.encoder.positional_embedding = whole[:n_ctx]
            yield
        finally:
            self._whisper.dims = dims
            self._whisper.encoder.positional_embedding = whole

    def encode(self, samples: np.ndarray, context_s: float) -> Any:
        import torch
        from whisper.audio import log_mel_spectrogram, pad_or_trim

        n_samples = int(context_s * RATE_HZ)
        padded = pad_or_trim(torch.from_numpy(samples), n_samples)
        mel = log_mel_spectrogram(padded, self._whisper.dims.n_mels, device=self.device)
        mel = mel.to(torch.float16 if self.device == "cuda" else torch.float32)
        with torch.inference_mode(), self._context(mel.shape[1] // 2):
            return self._whisper.embed_audio(mel[None]), mel

    def detect_language(self, encoded: Any) -> tuple[str, float]:
        with self._context(encoded[0].shape[1]):
            _, probabilities = self._whisper.detect_language(encoded[0])
        language = max(probabilities[0], key=probabilities[0].get)
        return language, probabilities[0][language]

    def decode(
        self,
        encoded: Any,
        *,
        language: str,
        task: Task,
        hint: str,
        temperature: float,
        max_tokens: int,
    ) -> Decoded:
        import torch
        from whisper.decoding import DecodingOptions

        options = DecodingOptions(
            task=task,
            language=language,
            temperature=temperature,
            beam_size=None if temperature else self._beam_size,
            prompt=hint or None,
            without_timestamps=True,
            sample_len=max_tokens,
            fp16=self.device == "cuda",
        )
        with self._context(encoded[0].shape[1]), torch.random.fork_rng():
            torch.manual_seed(0)
            (result,) = self._whisper.decode(encoded[0], options)
        return Decoded(result.text, tuple(result.tokens), result.avg_logprob, result.no_speech_prob)

    def word_times(self, encoded: Any, decoded: Decoded, language: str) -> list[Word]:
        from whisper.timing import find_alignment
        from whisper.tokenizer import get_tokenizer

        features, mel = encoded
        tokenizer = get_tokenizer(
            self.is_multilingual,
            num_languages=self._whisper.num_languages,
            language=language,
            task="transcribe",
        )
        text_tokens = [token for token in decoded.tokens if token < tokenizer.eot]
        with self._context(features.shape[1]):
            found = find_alignment(self._whisper, tokenizer, text_tokens, mel, mel.shape[1])
        return [Word(w.word, float(w.start), float(w.end), float(w.probability)) for w in found]

    def listening(
        self, encoded: Any, decoded: Decoded, language: str
    ) -> tuple[list[str], np.ndarray]:
        """Each token's text, and where in the sound the decoder listened to choose it.

        The second has the shape (tokens, positions of 20 ms), and each row sums to 1: the mean of
        the alignment heads, before the smoothing that ``word_times`` adds.
        Source: ``find_alignment`` in openai/whisper, timing.py.
        """
        import torch
        from whisper.model import disable_sdpa
        from whisper.tokenizer import get_tokenizer

        tokenizer = get_tokenizer(
            self.is_multilingual,
            num_languages=self._whisper.num_languages,
            language=language,
            task="transcribe",
        )
        text_tokens = [token for token in decoded.tokens if token < tokenizer.eot]
        before = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        tokens = torch.tensor([[*before, *text_tokens]], device=self.device)
        scores: list[torch.Tensor] = []
        hooks = [
            block.cross_attn.register_forward_hook(lambda _, __, outs: scores.append(outs[-1][0]))
            for block in self._whisper.decoder.blocks
        ]
        try:
            with torch.inference_mode(), disable_sdpa(), self._context(encoded[0].shape[1]):
                self._whisper.decoder(tokens, encoded[0])
        finally:
            for hook in hooks:
                hook.remove()
        heads = self._whisper.alignment_heads.indices().T
        shares = torch.stack([scores[layer][head] for layer, head in heads]).softmax(dim=-1)
        chosen_at = slice(len(before) - 1, len(before) - 1 + len(text_tokens))
        texts = [tokenizer.decode([token]) for token in text_tokens]
        return texts, shares.mean(dim=0)[chosen_at].float().cpu().numpy()


def keep_in_half(model: Any) -> None:
    """Keep openai-whisper's weights in the half precision that they came in, in place.

    Whisper brings a layer's weights to the precision of its input each time: what it says stays,
    and medium takes 1.4 GiB in place of 2.8. Its norms compute in single precision and stay so.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Embedding):
            module.half()


def _unreadable(path: Path, error: Exception) -> S2iError:
    return S2iError(
        f"The weights {path} cannot be loaded ({first_line(error)}). "
        "Delete them, so that they are fetched again, or name another model."
    )


def has_cuda() -> bool:
    """Asked of CTranslate2 first, because importing torch takes seconds."""
    import ctranslate2

    if not ctranslate2.get_cuda_device_count():
        return False
    import torch

    return torch.cuda.is_available()


def load_engine(engine: str, model: str, device: str, drive: Drive, beam_size: int = 5) -> Engine:
    """Find the weights of ``model`` and load them into ``engine``.

    Raises
    ------
    InputError
        When the model has no such name.
    S2iError
        When no place has the weights; every place tried is named.
    """
    path = find_weights(engine, model, drive)
    logger.info("hearing with %s, %s from %s", engine, model, path)
    if engine == "openai-whisper":
        return OpenAIWhisper(path, model, device, beam_size)
    return FasterWhisper(path, model, device, beam_size)


def find_weights(engine: str, model: str, drive: Drive, *, download: bool = True) -> Path:
    """A folder (CTranslate2) or file (openai-whisper): the Drive's, a package's, or downloaded."""
    if model not in MODELS:
        path = Path(model).expanduser()
        if path.exists():
            return path
        raise InputError(
            f"There is no Whisper model {model!r}. Expected one of {', '.join(MODELS)}, auto, "
            "or the path of weights (a CTranslate2 folder, or openai-whisper's .pt file)."
        )
    places = _openai_places if engine == "openai-whisper" else _faster_places
    tried = []
    for place, look in places(model, drive):
        if place.startswith("http") and not download:
            continue
        try:
            found = look()
        except S2iError:
            raise
        except Exception as error:  # whatever the network or the hub's client can raise
            tried.append(f"{place} ({type(error).__name__}: {first_line(error)})")
            continue
        if found is not None:
            return found
        tried.append(f"{place} (not there)")
    raise S2iError(
        f"The weights of Whisper {model} for {engine} were found nowhere. Tried: "
        f"{'; '.join(tried)}. Connect to the internet, or hear English offline with "
        "pip install 's2i_lib[tiny-en]' and --whisper tiny.en."
    )


Place = tuple[str, Callable[[], Path | None]]


def _openai_places(model: str, drive: Drive) -> list[Place]:
    from whisper import _MODELS, _download

    url = _MODELS[model]
    filename = url.rsplit("/", 1)[1]
    ours = drive.models / "whisper"
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "whisper"

    def look_in(folder: Path) -> Callable[[], Path | None]:
        return lambda: folder / filename if (folder / filename).is_file() else None

    places: list[Place] = [(str(folder / filename), look_in(folder)) for folder in (ours, home)]
    if model == "tiny.en":
        places.append((f"the package {tiny_en.PACKAGE}", tiny_en.checked_folder))

    def fetch() -> Path:
        # Under another name until its checksum has been compared (which _download does).
        part = home / "incoming"
        done = Path(str(_download(url, str(part), False))).replace(home / filename)
        return hub.keep(done, ours / filename)

    places.append((url, fetch))
    return places


def _faster_places(model: str, drive: Drive) -> list[Place]:
    from faster_whisper.utils import _MODELS

    ours = drive.models / "whisper" / f"{model}-ctranslate2"
    source = hub.Source(_MODELS[model], REVISIONS.get(model, "main"))

    def on_drive() -> Path | None:
        return ours if hub.is_whole(ours, choose_faster) else None

    def in_hub_cache() -> Path | None:
        found = hub.from_cache(source, choose_faster)
        return found and found[0]

    def fetch() -> Path:
        return hub.keep(hub.download(source, choose_faster)[0], ours)

    places: list[Place] = [(str(ours), on_drive)]
    if model == "tiny.en":
        places.append((f"the package {tiny_en.PACKAGE}", tiny_en.checked_folder))
    places.append(("the hub's cache", in_hub_cache))
    places.append((f"https://huggingface.co/{source}", fetch))
    return places


def choose_faster(names: Collection[str]) -> list[str]:
    """Choose the files of a Whisper in CTranslate2's format; S2iError where it has no weights."""
    if "model.bin" not in names:
        raise S2iError("it has no model.bin")
    return [n for n in names if n in FASTER_FILES or n.startswith("vocabulary.")]
