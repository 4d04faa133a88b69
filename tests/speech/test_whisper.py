"""The two engines; what has no weights here runs on small random ones."""

from dataclasses import asdict

import pytest
from sounds import JFK

from s2i_lib.errors import InputError, S2iError
from s2i_lib.speech.audio import RATE_HZ, read_audio
from s2i_lib.speech.transcribe import HearOptions, Listener
from s2i_lib.speech.whisper import keep_in_half
from s2i_lib.speech.windows import MAX_DECODES
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
