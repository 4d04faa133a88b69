"""A state is saved whole, verified to the byte, and goes on exactly where it was."""

import dataclasses
import hashlib
import json

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from test_dreambooth import OPTIONS, make_data, run, weights_of
from tiny_model import make_pipeline

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.training import checkpoint, saves
from s2i_lib.training.config import as_json
from s2i_lib.training.train_state import find_8bit_fault, make_train_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(make_pipeline(), tmp_path_factory.mktemp("data"))


def save(train_state, folder):
    meta = {"options": dataclasses.asdict(OPTIONS)}
    return checkpoint.save_state(checkpoint.take_snapshot(train_state, meta), folder)


VARIANTS = {
    "full": {},
    "lora": {"method": "lora", "lora_rank": 2, "lora_alpha": 4},
    "mean of weights": {"ema_decay": 0.9},
    "8-bit": {"with_8bit_adam": True},
    "text encoder": {"with_text_encoder": True},
    "schedule": {"schedule": "cosine", "warmup_steps": 2},
    "accumulation": {"accumulation": 2},
}


SLOW = {"mean of weights", "schedule", "accumulation"}  # the others are the four kinds of state


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=[pytest.mark.slow] * (v in SLOW)) for v in VARIANTS]
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(data, tmp_path, variant):
    options = dataclasses.replace(OPTIONS, **VARIANTS[variant])
    if options.with_8bit_adam and (fault := find_8bit_fault("cpu")):
        pytest.skip(f"bitsandbytes does not work here: {fault}")
    whole, losses = run(make_pipeline(), data, options)
    first, before = run(make_pipeline(), data, options, until=3)
    state = save(first, tmp_path)
    second = make_train_state(make_pipeline(seed=5), options)
    base = make_pipeline()  # what is not trained comes from the base model, not from the state
    second.unet.load_state_dict(
        {k: v for k, v in base.unet.state_dict().items() if k in second.unet.state_dict()},
        strict=False,
    )
    if options.method == "lora":
        second = make_train_state(base, options)
    if not options.with_text_encoder:
        second.text_encoder = None
    checkpoint.restore(second, state)
    assert second.step == 3
    second, after = run(None, data, options, train_state=second)
    assert torch.equal(weights_of(whole), weights_of(second))
    assert losses == before + after
    for name, mean in whole.ema.items():
        assert torch.equal(mean, second.ema[name])


def test_a_state_is_written_from_the_learners_own_tensors(data, tmp_path):
    """None is copied: in main memory one of Stable Diffusion's states would take 5 GiB."""
    train_state, _ = run(make_pipeline(), data, OPTIONS, until=2)
    state = checkpoint.take_snapshot(train_state, {})
    for name, weight in state.tensors[checkpoint.TRAINED].items():
        assert weight.data_ptr() == train_state.parameters[name].data_ptr()
    saved = load_file(checkpoint.save_state(state, tmp_path) / checkpoint.TRAINED)
    assert saved.keys() == train_state.parameters.keys()
    assert all(torch.equal(saved[name], p) for name, p in train_state.parameters.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.safetensors", "state.json"])
def test_a_state_changed_by_one_byte_is_noticed_and_the_one_before_is_used(data, tmp_path, name):
    train_state, _ = run(make_pipeline(), data, OPTIONS, until=1)
    older = save(train_state, tmp_path)
    run(None, data, OPTIONS, train_state=train_state)
    newer = save(train_state, tmp_path)
    assert saves.newest_save([tmp_path], pytest.fail) == newer
    for position in (0.1, 0.5, 0.9):
        content = bytearray((newer / name).read_bytes())
        place = int(position * len(content))
        content[place] ^= 1
        (newer / name).write_bytes(content)
        said = []
        assert saves.newest_save([tmp_path], said.append) == older
        assert newer.name in said[0] and "before it is used" in said[0]
        content[place] ^= 1
        (newer / name).write_bytes(content)


def test_a_state_of_an_earlier_version_is_still_read(data, tmp_path):
    """Written by safetensors' own writer, which had all tensors in memory."""
    train_state, _ = run(make_pipeline(), data, OPTIONS, until=2)
    state = save(train_state, tmp_path)
    meta = json.loads((state / "state.json").read_text())
    for name in meta["files"]:
        save_file(load_file(state / name), tmp_path / name)
        (tmp_path / name).rename(state / name)
        meta["files"][name] = hashlib.sha256((state / name).read_bytes()).hexdigest()
    meta["sha256"] = checkpoint._digest(meta)
    (state / "state.json").write_text(json.dumps(meta))
    other = make_train_state(make_pipeline(seed=5), OPTIONS)
    checkpoint.restore(other, saves.newest_save([tmp_path], pytest.fail))
    assert torch.equal(weights_of(other), weights_of(train_state)) and other.step == 2


def test_weights_that_are_not_numbers_are_never_saved(data):
    train_state = make_train_state(make_pipeline(), OPTIONS)
    with torch.no_grad():
        train_state.unet.conv_in.weight[0, 0] = torch.nan
    with pytest.raises(S2iError, match=r"conv_in.*not numbers"):
        checkpoint.take_snapshot(train_state, {})


def test_a_state_of_another_model_is_refused(data, tmp_path):
    state = save(make_train_state(make_pipeline(), OPTIONS), tmp_path)
    lora = make_train_state(make_pipeline(), dataclasses.replace(OPTIONS, method="lora"))
    with pytest.raises(InputError, match="another model or method"):
        checkpoint.restore(lora, state)


def test_only_safetensors_and_json_are_written(data, tmp_path):
    train_state, _ = run(make_pipeline(), data, OPTIONS)
    save(train_state, tmp_path)
    checkpoint.save_weights(train_state, OPTIONS, tmp_path / "weights")
    endings = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert endings == {".safetensors", ".json"}


# ---- Options that changed ----


def test_changed_options_are_named_with_what_they_mean():
    saved = json.loads(json.dumps(dataclasses.asdict(OPTIONS)))
    assert checkpoint.compare_options(saved, OPTIONS) == []
    longer = dataclasses.replace(OPTIONS, steps=9, learning_rate=0.5)
    steps, rate = checkpoint.compare_options(saved, longer)
    assert steps == "steps was 6 and is 9: training now ends at step 9."
    assert "learning_rate was 0.001 and is 0.5" in rate and "differs" in rate
    falling = dataclasses.replace(OPTIONS, schedule="linear")
    (steps,) = checkpoint.compare_options(as_json(falling), dataclasses.replace(falling, steps=9))
    assert "the learning rate is that of a run of so many steps" in steps


def test_a_default_that_came_after_a_state_is_named_too():
    saved = as_json(OPTIONS)
    del saved["class_prompts"]
    assert checkpoint.compare_options(saved, OPTIONS) == []
    coloured = dataclasses.replace(OPTIONS, class_prompts=("a {noun}", "a red {noun}"))
    (sentence,) = checkpoint.compare_options(saved, coloured)
    assert sentence.startswith("class_prompts was ['a {noun}'] and is ['a {noun}', 'a red {noun}']")


@pytest.mark.parametrize("change", [{"method": "lora"}, {"with_8bit_adam": True}])
def test_options_that_the_state_cannot_follow_are_refused(change):
    saved = json.loads(json.dumps(dataclasses.asdict(OPTIONS)))
    with pytest.raises(InputError, match="cannot go on"):
        checkpoint.compare_options(saved, dataclasses.replace(OPTIONS, **change))


# ---- Weights ----


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_pipeline_with_the_saved_weights_predicts_what_the_learner_does(data, tmp_path, method):
    changes = {"method": method, "lora_rank": 2, "lora_alpha": 6, "learning_rate": 1e-2}
    options = dataclasses.replace(OPTIONS, **changes)
    train_state, _ = run(make_pipeline(), data, options)
    folder = checkpoint.save_weights(train_state, options, tmp_path / "weights")
    loaded, untrained = make_pipeline(), make_pipeline()
    loading.load_weights(loaded, folder)
    latents = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = (latents, torch.tensor([100, 900]), data.embeddings)
    with torch.no_grad():
        expected = train_state.unet(*inputs).sample
        error = float((loaded.unet(*inputs).sample - expected).abs().max())
        change = float((untrained.unet(*inputs).sample - expected).abs().max())
    assert error < 0.1 * change


FROM_WEIGHTS = {"full": {}, "lora": VARIANTS["lora"], "text encoder": VARIANTS["text encoder"],
                "mean of weights": VARIANTS["mean of weights"]}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("variant", FROM_WEIGHTS)
def test_a_run_goes_on_from_its_weights_in_fp16_with_a_fresh_optimizer(data, tmp_path, variant):
    options = dataclasses.replace(OPTIONS, **FROM_WEIGHTS[variant])
    first, _ = run(make_pipeline(), data, options, until=3)
    folder = checkpoint.save_weights(first, options, tmp_path / "so-far-00000003")
    assert checkpoint.verify_weights(folder)["step"] == 3
    second = make_train_state(make_pipeline(), options)
    if not options.with_text_encoder:
        second.text_encoder = None
    checkpoint.restore_weights(second, folder, 3)
    for name, weight in (first.ema or first.parameters).items():
        assert torch.equal(second.parameters[name], weight.half().float())
        assert not options.ema_decay or torch.equal(second.ema[name], weight.half().float())
    assert second.step == 3 and not second.optimizer.state
    second, losses = run(None, data, options, train_state=second)
    assert second.step == OPTIONS.steps and len(losses) == OPTIONS.steps - 3


def test_weights_of_another_method_are_not_gone_on_from(data, tmp_path):
    first, _ = run(make_pipeline(), data, OPTIONS, until=1)
    folder = checkpoint.save_weights(first, OPTIONS, tmp_path / "weights")
    other = make_train_state(make_pipeline(), dataclasses.replace(OPTIONS, method="lora"))
    with pytest.raises(InputError, match="of another model or method"):
        checkpoint.restore_weights(other, folder, 1)


def test_weights_so_far_that_are_not_whole_are_passed_over_for_what_was_before(data, tmp_path):
    train_state, _ = run(make_pipeline(), data, OPTIONS, until=1)
    state = save(train_state, tmp_path)
    run(None, data, OPTIONS, train_state=train_state, until=2)
    newer = checkpoint.save_weights(train_state, OPTIONS, tmp_path / "so-far-00000002")
    assert saves.newest_save([tmp_path], pytest.fail) == newer
    assert saves.list_saves(tmp_path) == [state, newer] and saves.has_weights(newer)
    (file,) = newer.rglob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert saves.newest_save([tmp_path], lambda text: None) == state
    file.unlink()
    assert saves.newest_save([tmp_path], lambda text: None) == state
    assert not saves.has_weights(newer), "the small file alone was uploaded"
    file.write_bytes(content)
    save(train_state, tmp_path)
    assert saves.is_state(saves.newest_save([tmp_path], pytest.fail)), "of one step"


def test_weights_that_are_missing_or_of_another_shape_are_explained(data, tmp_path):
    with pytest.raises(InputError, match="no weights"):
        loading.load_weights(make_pipeline(), tmp_path)
    train_state, _ = run(make_pipeline(), data, dataclasses.replace(OPTIONS, steps=1))
    folder = checkpoint.save_weights(train_state, OPTIONS, tmp_path / "weights")
    other = make_pipeline()
    other.unet.conv_in = torch.nn.Conv2d(3, 4, 3)
    with pytest.raises(InputError, match="does not fit"):
        loading.load_weights(other, folder)


def test_the_accelerator_is_not_needed_to_restore(data, tmp_path):
    """Wrapped by it or not, the same state goes in and out."""
    train_state, _ = run(make_pipeline(), data, OPTIONS, until=2)
    state = save(train_state, tmp_path)
    wrapped = make_train_state(make_pipeline(), OPTIONS)
    accelerator = Accelerator(cpu=True)
    wrapped.optimizer = accelerator.prepare(wrapped.optimizer)
    checkpoint.restore(wrapped, state)
    again = checkpoint.take_snapshot(wrapped, {})
    for name, value in (
        checkpoint.take_snapshot(train_state, {}).tensors["optimizer.safetensors"].items()
    ):
        assert torch.equal(value, again.tensors["optimizer.safetensors"][name])


def test_the_scaler_of_half_precision_goes_on_where_it_was(data, tmp_path):
    """torch's own also works on a CPU: after a step that overflowed and two that did not."""
    scaler, weight = torch.amp.GradScaler("cpu", 1024.0, growth_interval=4), torch.ones(1)
    weight.requires_grad_()

    def step(scaler, factor=1.0):
        optimizer = torch.optim.SGD([weight], lr=0.0)
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        return scaler.get_scale()

    assert [step(scaler, factor) for factor in (torch.inf, 1.0, 1.0)] == [512.0] * 3
    train_state, _ = run(make_pipeline(), data, OPTIONS, until=1)
    state = checkpoint.save_state(checkpoint.take_snapshot(train_state, {}, scaler), tmp_path)
    other = torch.amp.GradScaler("cpu")
    checkpoint.restore(make_train_state(make_pipeline(), OPTIONS), state, other)
    assert other.state_dict() == scaler.state_dict()
    ends = [[step(one) for _ in range(3)] for one in (scaler, other)]
    assert ends[0] == ends[1] == [512.0, 1024.0, 1024.0], "it counts the good steps on"
