"""Two Whisper engines behind one interface."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, Protocol

import numpy as np

from s2i_lib.errors import S2iError, first_line
from s2i_lib.models.building import building
from s2i_lib.speech import packaged
from s2i_lib.speech.audio import RATE_HZ
from s2i_lib.speech.weights import MODELS, find_weights
from s2i_lib.storage.layout import Drive

logger = logging.getLogger(__name__)

ENGINES = ("openai-whisper", "faster-whisper")
FRAMES_PER_S = 100  # columns of the mel spectrogram: one every 160 samples
MAX_HINT_TOKENS = 223  # that Whisper was trained to read of earlier text; openai-whisper cuts there


@dataclass(frozen=True)
class DecodeOptions:
    """How the decoder is run once."""

    language: str
    max_tokens: int
    task: Literal["transcribe", "translate"] = "transcribe"
    hint: str = ""
    """Text that might have been said just before."""
    temperature: float = 0.0
    """0 for beam search; more for sampling, with a fixed seed."""


@dataclass(frozen=True)
class Decoded:
    """What one pass of the decoder said about one window, with Whisper's own signals."""

    text: str
    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float

    @property
    def compression_ratio(self) -> float:
        """Ratio by which zlib shrinks the text: endless repetition shrinks a lot."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data)) if data else 1.0


@dataclass(frozen=True)
class Word:
    """A word and when it was said."""

    text: str
    start_s: float
    end_s: float
    probability: float


class Engine(Protocol):
    """What ``transcribe`` needs; ``encoded`` is what ``encode`` of the same engine returned."""

    name: str
    model: str
    device: str
    is_multilingual: bool

    def encode(self, samples: np.ndarray, context_s: float) -> Any:
        """Return the features of samples (16 kHz, at most ``context_s``) in a window so long."""

    def detect_language(self, encoded: Any) -> tuple[str, float]:
        """Return the likeliest language ("en") and its probability."""

    def decode(self, encoded: Any, options: DecodeOptions) -> Decoded:
        """Run the decoder once."""

    def word_times(self, encoded: Any, decoded: Decoded, language: str) -> list[Word]:
        """Return when each word was said, in seconds from the window's start."""


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
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise _unreadable(folder, model, error) from error
        self.is_multilingual = self._whisper.model.is_multilingual

    def _tokenizer(self, language: str, task: str) -> Any:
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

    def decode(self, encoded: Any, options: DecodeOptions) -> Decoded:
        import ctranslate2
        from faster_whisper.transcribe import get_suppressed_tokens

        tokenizer = self._tokenizer(options.language, options.task)
        told = tokenizer.encode(" " + options.hint)[-MAX_HINT_TOKENS:] if options.hint else []
        before = [tokenizer.sot_prev, *told] if told else []
        prompt = [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]
        search: dict[str, Any] = {"beam_size": self._beam_size}
        if options.temperature:
            ctranslate2.set_random_seed(0)
            search = {
                "beam_size": 1,
                "sampling_topk": 0,
                "sampling_temperature": options.temperature,
            }
        result = self._whisper.model.generate(
            encoded[0],
            [prompt],
            max_length=min(len(prompt) + options.max_tokens, self._whisper.max_length),
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
                checkpoint = packaged.openai_checkpoint(path)
            else:
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            with building:
                self._whisper = Whisper(ModelDimensions(**checkpoint["dims"]))
            self._whisper.load_state_dict(checkpoint["model_state_dict"])
        except (
            RuntimeError, ValueError, TypeError, KeyError, OSError, EOFError, UnpicklingError
        ) as error:  # fmt: skip
            raise _unreadable(path, model, error) from error
        if model in _ALIGNMENT_HEADS:
            self._whisper.set_alignment_heads(_ALIGNMENT_HEADS[model])
        if device == "cuda":
            keep_in_half(self._whisper)
        self._whisper.to(device).eval()
        self.is_multilingual = self._whisper.is_multilingual

    @contextmanager
    def _context(self, n_ctx: int) -> Iterator[None]:
        """Let the model take windows of ``n_ctx`` positions (20 ms each) instead of 1500."""
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

    def decode(self, encoded: Any, options: DecodeOptions) -> Decoded:
        import torch
        from whisper.decoding import DecodingOptions

        theirs = DecodingOptions(
            task=options.task,
            language=options.language,
            temperature=options.temperature,
            beam_size=None if options.temperature else self._beam_size,
            prompt=options.hint or None,
            without_timestamps=True,
            sample_len=options.max_tokens,
            fp16=self.device == "cuda",
        )
        with self._context(encoded[0].shape[1]), torch.random.fork_rng():
            torch.manual_seed(0)
            (result,) = self._whisper.decode(encoded[0], theirs)
        return Decoded(result.text, tuple(result.tokens), result.avg_logprob, result.no_speech_prob)

    def _text_tokens(self, decoded: Decoded, language: str) -> tuple[Any, list[int]]:
        """Return the tokenizer of a language, and the tokens without those that are no text."""
        from whisper.tokenizer import get_tokenizer

        tokenizer = get_tokenizer(
            self.is_multilingual,
            num_languages=self._whisper.num_languages,
            language=language,
            task="transcribe",
        )
        return tokenizer, [token for token in decoded.tokens if token < tokenizer.eot]

    def word_times(self, encoded: Any, decoded: Decoded, language: str) -> list[Word]:
        from whisper.timing import find_alignment

        features, mel = encoded
        tokenizer, text_tokens = self._text_tokens(decoded, language)
        with self._context(features.shape[1]):
            found = find_alignment(self._whisper, tokenizer, text_tokens, mel, mel.shape[1])
        return [Word(w.word, float(w.start), float(w.end), float(w.probability)) for w in found]

    def listening(
        self, encoded: Any, decoded: Decoded, language: str
    ) -> tuple[list[str], np.ndarray]:
        """Return each token's text, and where in the sound the decoder listened to choose it.

        The second has the shape (tokens, positions of 20 ms), and each row sums to 1: the mean of
        the alignment heads, before the smoothing that ``word_times`` adds.
        Source: ``find_alignment`` in openai/whisper, timing.py.
        """
        import torch
        from whisper.model import disable_sdpa

        tokenizer, text_tokens = self._text_tokens(decoded, language)
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


def _unreadable(path: Path, model: str, error: Exception) -> S2iError:
    advice = (
        "Delete them, so that they are downloaded again, or name another model."
        if model in MODELS
        else "Name the engine that they are for (--engine), or another model."
    )
    return S2iError(f"The weights {path} cannot be loaded ({first_line(error)}). {advice}")


def has_cuda() -> bool:
    """Return whether there is a GPU to hear on.

    CTranslate2 is asked first, because importing torch takes seconds.
    """
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
