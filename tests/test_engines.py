"""Weights, languages and bounded decoding; what has no weights here runs on small random ones."""

import hashlib
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import JFK

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech import tiny_en
from s2i_lib.speech.audio import LIMIT_S, RATE_HZ, read_audio
from s2i_lib.speech.transcribe import HearOptions, Listener, choose_models, hear, hear_windows
from s2i_lib.speech.weights import MODELS, WINDOW_S, find_weights
from s2i_lib.speech.whisper import Decoded, keep_in_half
from s2i_lib.speech.windows import MAX_DECODES, PACKED_S, Window, find_windows, join_chunks
from s2i_lib.storage.layout import Drive


@pytest.fixture(scope="module")
def random_multilingual(tmp_path_factory):
    """Multilingual Whisper in miniature, untrained: right in every shape, in no word."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, 64, 2, 1, 51865, 448, 64, 2, 1)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding, std=0.02)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"dims": asdict(dims), "model_state_dict": model.state_dict()}, path)
    return path


@pytest.mark.slow
def test_language_is_detected_and_decodes_are_bounded_in_a_real_multilingual_model(
    random_multilingual, tmp_path
):
    options = HearOptions(engine="openai-whisper", model=str(random_multilingual), device="cpu")
    listener = Listener(options, Drive(tmp_path)).load()
    engine = listener._engine
    assert engine.is_multilingual
    passes = []
    decode = engine.decode
    engine.decode = lambda features, how: passes.append(how.task) or decode(features, how)
    try:
        transcript = listener.hear(read_audio(JFK).samples[: 4 * RATE_HZ], RATE_HZ)
    except InputError as error:
        assert "Nothing was said" in str(error)
    else:
        assert 0 < transcript.language_probability < 0.5
        assert any("The language is a guess" in doubt for doubt in transcript.doubts)
    assert 1 <= len(passes) <= MAX_DECODES
    assert "transcribe" in passes


class Scripted:
    """An engine that says what it is told to: the trained multilingual weights are not here."""

    name = "scripted"

    def __init__(self, said, model="small", language=("de", 0.97), device="cpu"):
        self.said, self.model, self.language = list(said), model, language
        self.device = device
        self.is_multilingual = True
        self.passes = []

    def encode(self, samples, context_s):
        return context_s

    def detect_language(self, encoded):
        return self.language

    def decode(self, encoded, options):
        self.passes.append((options.task, encoded, options.hint, options.temperature))
        text, avg_logprob = self.said[min(len(self.passes), len(self.said)) - 1]
        return Decoded(text, (1, 2), avg_logprob, 0.01)

    def word_times(self, encoded, decoded, language):
        return []


def listen(engine, options=None, seconds=3.0, count=1):
    window = Window(0, np.zeros(int(seconds * RATE_HZ), np.float32), seconds)
    audio = read_audio(JFK)
    return hear_windows(engine, audio, [window] * count, options or HearOptions())


def test_german_is_kept_and_translated():
    engine = Scripted([("ein roter Hund", -0.2), ("a red dog", -0.3)])
    transcript = listen(engine)
    assert (transcript.text, transcript.english) == ("ein roter Hund", "a red dog")
    assert (transcript.language, transcript.language_probability) == ("de", 0.97)
    assert [task for task, *_ in engine.passes] == ["transcribe", "translate"]
    assert transcript.doubts == ()


def test_turbo_refuses_german_and_says_what_it_heard():
    with pytest.raises(InputError, match=r"cannot translate.*ein roter Hund.*--language en"):
        listen(Scripted([("ein roter Hund", -0.2)], model="turbo"))


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_clip_takes_more_than_three_decodes(language):
    loop = ("draw me a cat " * 12, -0.1)
    engine = Scripted([loop], language=(language, 0.99))
    transcript = listen(engine)
    assert len(engine.passes) == transcript.n_decodes == MAX_DECODES
    assert any("repeat" in doubt for doubt in transcript.doubts)


def test_windows_of_a_long_clip_share_its_three_decodes():
    loop, sound, lost = ("draw me a cat " * 12, -0.1), ("a cat", -0.2), ("mumble", -1.4)
    for said, texts in (
        ([lost, loop, sound], ["mumble", "a cat"]),  # the loop is the worse of the two
        ([sound, loop, sound], ["a cat", "a cat"]),
        ([sound, sound], ["a cat", "a cat"]),
        ([sound, loop, loop, sound], ["a cat", loop[0], loop[0]]),  # three windows: none to spare
    ):
        engine = Scripted(said, language=("en", 0.99))
        transcript = listen(engine, seconds=20.0, count=len(texts))
        assert [segment.text for segment in transcript.segments] == texts
        assert len(engine.passes) == transcript.n_decodes <= MAX_DECODES
    assert any("repeat" in doubt for doubt in transcript.doubts)


def test_a_long_clip_in_german_has_one_decode_and_one_translation_a_window():
    engine = Scripted([("der Hund " * 40, -0.1)])
    assert listen(engine, seconds=20.0, count=2).n_decodes == 4
    assert [task for task, *_ in engine.passes] == ["transcribe"] * 2 + ["translate"] * 2


@given(st.lists(st.tuples(st.floats(0, 12), st.floats(0.2, PACKED_S)), min_size=1, max_size=40))
def test_three_windows_hold_any_minute_of_chunks(pauses_and_lengths):
    chunks, at_s = [], 0.0
    for pause_s, length_s in pauses_and_lengths:
        if at_s + pause_s + length_s > LIMIT_S:
            continue
        start, end = at_s + pause_s, at_s + pause_s + length_s
        chunks.append({"start": int(start * RATE_HZ), "end": int(end * RATE_HZ)})
        at_s = end
    spans = join_chunks(chunks, 27.5)
    assert len(spans) <= MAX_DECODES
    assert all(end - start <= 27.5 * RATE_HZ for start, end, _ in spans)
    assert sum(speech for *_, speech in spans) == sum(c["end"] - c["start"] for c in chunks)


def test_a_minute_that_packs_badly_is_cut_into_three_windows():
    """2, 26, 2 and 26 s of speech without a breath: as they come, no two fit into one window."""
    words = read_audio(JFK).samples[int(0.5 * RATE_HZ) : 2 * RATE_HZ]
    speech = np.resize(words, 26 * RATE_HZ)
    pause = np.zeros(int(0.9 * RATE_HZ), np.float32)
    short = speech[: 2 * RATE_HZ]
    clip = np.concatenate([short, pause, speech, pause, short, pause, speech])
    audio = read_audio(clip, rate_hz=RATE_HZ)
    assert 55 < audio.duration_s < 60
    windows = find_windows(audio, 2.0)
    assert len(windows) <= MAX_DECODES
    assert all(len(window.samples) <= 28.0 * RATE_HZ for window in windows)


def test_a_loop_is_heard_again_in_the_whole_window_without_the_names():
    loop = ("a dog on the beach a dog on the beach", -0.1)
    said = [loop, ("a dog on the beach", -0.3)]
    engine = Scripted(said, model="tiny.en", language=("en", 0.99))
    transcript = listen(engine, HearOptions(names=("Rex",)))
    assert transcript.text == "a dog on the beach"
    assert [(context_s, bool(hint)) for _, context_s, hint, _ in engine.passes] == [
        (10, True),
        (30, False),
    ]


def test_uncertain_words_and_languages_are_doubted():
    transcript = listen(Scripted([("mumble mumble", -1.4)], language=("en", 0.3)))
    assert any("unsure of the words" in doubt for doubt in transcript.doubts)
    assert any("language is a guess" in doubt for doubt in transcript.doubts)


def test_long_recordings_are_split_at_pauses_into_windows_that_whisper_takes():
    clip = read_audio(JFK).samples
    pause = np.zeros(RATE_HZ, np.float32)
    audio = read_audio(np.concatenate([clip, pause] * 5), rate_hz=RATE_HZ)
    windows = find_windows(audio, 2.0)
    assert len(windows) >= 3
    assert all(len(window.samples) <= 28.0 * RATE_HZ for window in windows)
    speech_s = sum(window.speech_s for window in windows)
    assert 5 * 7 < speech_s < 5 * 11.5


@pytest.mark.parametrize(
    ("language", "device", "memory_gib", "best"),
    [
        (None, "cuda", 14, "small"),
        ("en", "cuda", 14, "small.en"),
        ("de", "cuda", 14.6, "medium"),  # a T4 with nothing on it
        ("de", "cuda", 12, "medium"),  # and with sd2.1-base loaded
        ("de", "cuda", 10, "small"),
        ("fr", "cuda", 80, "medium"),
        ("en", "cuda", 80, "small.en"),
        (None, "cuda", 80, "small"),
        ("de", "cpu", 80, "base"),
        (None, "cuda", 3, "base"),
        (None, "cpu", 12, "base"),
        ("de", "cpu", 1, "tiny"),
    ],
)
def test_auto_fits_device_memory_and_language(language, device, memory_gib, best):
    names = choose_models(language, device, memory_gib)
    assert names[0] == best
    assert all(name in MODELS for name in names)
    if language not in (None, "en"):
        assert all(MODELS[name].can_translate for name in names)


def test_a_larger_model_leaves_the_picture_its_memory():
    largest_gib = max(base.gpu_gib for base in REGISTRY.values())
    for memory_gib in np.arange(1, 24, 0.25):
        best = MODELS[choose_models("de", "cuda", memory_gib)[0]]
        rest_gib = memory_gib - best.memory_gib
        assert rest_gib >= min(largest_gib, 0.75 * memory_gib) or best.name == "tiny"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("model", [*MODELS, "/somewhere/mine.pt"])
def test_a_window_is_shortened_only_where_it_was_measured(model, device):
    """benchmarks/README.md has tables of shorter windows for these models, all on a CPU."""
    engine = Scripted([("a cat", -0.2)], model=model, language=("en", 0.99), device=device)
    listen(engine, seconds=3.0)
    [(_, context_s, *_)] = engine.passes
    assert context_s == (10 if (model, device) in {("tiny.en", "cpu")} else WINDOW_S)
    asked = Scripted([("a cat", -0.2)], model=model, language=("en", 0.99), device=device)
    listen(asked, HearOptions(context_s=12.0), seconds=3.0)
    assert asked.passes[0][1] == 12


def test_weights_kept_in_half_precision_say_the_same(random_multilingual):
    """Bit for bit, because a checkpoint's weights are halves to begin with."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    checkpoint = torch.load(random_multilingual, weights_only=True)
    whole, halved = (Whisper(ModelDimensions(**checkpoint["dims"])).eval() for _ in range(2))
    state = {name: weight.half() for name, weight in checkpoint["model_state_dict"].items()}
    for model in (whole, halved):
        model.load_state_dict(state)
    keep_in_half(halved)
    size = [sum(p.numel() * p.element_size() for p in m.parameters()) for m in (whole, halved)]
    assert size[1] < 0.6 * size[0]
    mel = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0)).half()
    tokens = torch.tensor([[50258, 50259, 50359, 50363, 1000]])
    with torch.inference_mode():
        said = [model.logits(tokens, model.embed_audio(mel)) for model in (whole, halved)]
    assert torch.isfinite(said[0]).all() and torch.equal(*said)


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"not the weights")
    monkeypatch.setattr(tiny_en, "package_folder", lambda: folder)
    with pytest.raises(
        S2iError, match=r"model\.bin have the SHA-256 .* expected 1a5afae0"
    ) as error:
        hear(JFK, HearOptions(engine="faster-whisper", model="tiny.en"), Drive(tmp_path))
    assert error.value.exit_status == 1


@pytest.mark.parametrize("engine", ["openai-whisper", "faster-whisper"])
def test_weights_that_cannot_be_loaded_are_named(engine, tmp_path):
    bad = tmp_path / "mine"
    if engine == "openai-whisper":
        bad.write_bytes(b"PK\x03\x04 not a checkpoint")
    else:
        bad.mkdir()
    with pytest.raises(S2iError, match=f"The weights {bad} cannot be loaded") as error:
        hear(JFK, HearOptions(engine=engine, model=str(bad)), Drive(tmp_path))
    assert "\n" not in str(error.value)


def test_a_gpu_that_faster_whisper_cannot_use_is_said(tmp_path, monkeypatch):
    """As an H200 with CUDA 13 said it; no such GPU is here."""
    options = HearOptions(engine="faster-whisper", model="tiny.en")
    listener = Listener(options, Drive(tmp_path)).load()
    fault = RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")

    def encode(features):
        raise fault

    monkeypatch.setattr(listener._engine._whisper, "encode", encode)
    with pytest.raises(S2iError, match=r"cublas.*--engine openai-whisper"):
        listener.hear(JFK)


def test_downloaded_weights_are_checked_and_kept_on_the_drive(tmp_path, monkeypatch):
    import whisper

    content = b"weights" * 1000
    source = tmp_path / hashlib.sha256(content).hexdigest() / "base.pt"
    source.parent.mkdir()
    source.write_bytes(content)
    monkeypatch.setitem(whisper._MODELS, "base", source.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drive = Drive(tmp_path / "drive")
    kept = find_weights("openai-whisper", "base", drive)
    assert kept == drive.models / "whisper" / "base.pt"
    assert kept.read_bytes() == content
    shutil.rmtree(source.parent)  # from now on there is no network
    assert find_weights("openai-whisper", "base", drive) == kept


def test_download_with_a_wrong_checksum_is_not_kept(tmp_path, monkeypatch):
    import whisper

    source = tmp_path / ("0" * 64) / "base.pt"
    source.parent.mkdir()
    source.write_bytes(b"something else")
    monkeypatch.setitem(whisper._MODELS, "base", source.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drive = Drive(tmp_path / "drive")
    with pytest.raises(S2iError, match="checksum"):
        find_weights("openai-whisper", "base", drive)
    assert not (drive.models / "whisper" / "base.pt").exists()
