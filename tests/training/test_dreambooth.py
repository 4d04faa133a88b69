"""The loss against hand-computed values and diffusers; randomness; caches; the loop."""

import contextlib
import dataclasses
import math
import re

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tiny_model import as_model, draw_dataset, make_pipeline

from s2i_lib.drawing.sampling import encode_prompts, token_ids
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import devices
from s2i_lib.models.lora import MOST_RANK
from s2i_lib.models.registry import REGISTRY
from s2i_lib.training import dreambooth
from s2i_lib.training.config import FinetuneOptions, learning_rate_at, parse_options
from s2i_lib.training.data import (
    CLASS,
    INSTANCE,
    TrainingData,
    draw,
    encode_images,
    pick,
    read_images,
)
from s2i_lib.training.recipes import RECIPES, want
from s2i_lib.training.train_state import find_8bit_fault, make_train_state

OPTIONS = FinetuneOptions(steps=6, learning_rate=1e-3, batch_size=2, class_image_count=8)


@pytest.fixture
def pipe():
    return make_pipeline()


@pytest.fixture
def data(pipe, tmp_path):
    return make_data(pipe, tmp_path)


def make_data(pipe, folder):
    dataset = draw_dataset(folder / "photos")
    prompts = [f"a {dataset.subject.phrase}", "a cat"]
    images = read_images(dataset.images, 16)
    return TrainingData(
        instances=encode_images(pipe.vae, images),
        mirrored=encode_images(pipe.vae, images.flip(3)),
        class_latents=torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
        tokens=token_ids(as_model(pipe), prompts),
        embeddings=encode_prompts(as_model(pipe), prompts),
    )


def run(pipe, data, options, train_state=None, until=None):
    """Train and return the train_state and its losses."""
    train_state = train_state or make_train_state(pipe, options)
    losses = []

    def note(step, step_losses):
        losses.append(tuple(float(x) for x in step_losses))
        if step == until:
            raise StopIteration

    with contextlib.suppress(StopIteration):
        dreambooth.train(train_state, data, options, Accelerator(cpu=True), note)
    return train_state, losses


def difference(a, b) -> float:
    """Mean, not largest: of a gradient that is all but 0 AdamW makes a whole step."""
    return float((a - b).abs().mean())


def weights_of(train_state):
    return torch.cat([p.detach().flatten() for p in train_state.parameters.values()])


# ---- Loss ----


def test_velocity_and_noise_agree_with_diffusers(pipe):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 5, 3, 8, 8, generator=rng)
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    alpha, sigma = dreambooth.signal_and_noise(scheduler.alphas_cumprod, timesteps)
    expected = scheduler.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(alpha * latents + sigma * noise, expected)
    velocity = dreambooth.target("v_prediction", latents, noise, alpha, sigma)
    torch.testing.assert_close(velocity, scheduler.get_velocity(latents, noise, timesteps))
    assert dreambooth.target("epsilon", latents, noise, alpha, sigma) is noise


def test_min_snr_weight_agrees_with_diffusers_and_with_the_paper(pipe):
    from diffusers.training_utils import compute_snr

    timesteps = torch.tensor([1, 100, 500, 999])
    alpha, sigma = dreambooth.signal_and_noise(pipe.scheduler.alphas_cumprod, timesteps)
    snr = (alpha / sigma).square().flatten()
    torch.testing.assert_close(snr, compute_snr(pipe.scheduler, timesteps))
    given = torch.tensor([0.5, 5.0, 20.0])
    epsilon = dreambooth.min_snr_weight("epsilon", given, gamma=5)
    torch.testing.assert_close(epsilon, torch.tensor([1.0, 1.0, 0.25]))
    velocity = dreambooth.min_snr_weight("v_prediction", given, gamma=5)
    torch.testing.assert_close(velocity, torch.tensor([0.5 / 1.5, 5 / 6, 5 / 21]))


def test_loss_of_each_sample_is_its_own_mean_weighted_by_its_own_timestep():
    prediction = torch.tensor([[[[1.0, 3.0]]], [[[0.0, 2.0]]]])
    losses = dreambooth.sample_losses(
        prediction, torch.zeros(2, 1, 1, 2), "epsilon", torch.tensor([10.0, 2.5]), gamma=5
    )
    torch.testing.assert_close(losses, torch.tensor([5.0 * 0.5, 2.0]))


def test_instance_and_prior_losses_are_those_of_a_step_written_out(pipe, data):
    options = dataclasses.replace(OPTIONS, min_snr_gamma=5.0, steps=1)
    batch = data.batch(options, 0, range(2), 1000)
    noisy = pipe.scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    with torch.no_grad():
        prediction = pipe.unet(noisy, batch.timesteps, data.embeddings[batch.prompts]).sample
    mean = pipe.scheduler.alphas_cumprod[batch.timesteps]
    velocity = [
        m.sqrt() * n - (1 - m).sqrt() * x
        for m, n, x in zip(mean, batch.noise, batch.latents, strict=True)
    ]
    snr = mean / (1 - mean)
    error = (prediction - torch.stack(velocity)).square().mean((1, 2, 3))
    expected = error * snr.clamp(max=5) / (snr + 1)
    _, ((instance, prior),) = run(pipe, data, options)
    assert instance == pytest.approx(float(expected[:2].mean()), rel=1e-5)
    assert prior == pytest.approx(float(expected[2:].mean()), rel=1e-5)


@pytest.mark.slow
def test_the_prior_weight_scales_only_the_class_images_gradient(pipe, data):
    """Without weight the class images leave no trace, as if there were none."""
    weights = {}
    for name, changes in {
        "weightless": {"prior_weight": 0.0},
        "absent": {"with_prior": False},
        "usual": {},
    }.items():
        options = dataclasses.replace(OPTIONS, steps=2, **changes)
        own = data if options.with_prior else dataclasses.replace(data, class_latents=None)
        train_state, _ = run(make_pipeline(), own, options)
        weights[name] = weights_of(train_state)
    assert difference(weights["weightless"], weights["absent"]) < 1e-6
    assert difference(weights["usual"], weights["absent"]) > 1e-4


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_learning_rate_agrees_with_diffusers_schedulers(name):
    from diffusers.optimization import get_scheduler

    options = FinetuneOptions(steps=40, learning_rate=0.5, schedule=name, warmup_steps=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    full_name = "constant_with_warmup" if name == "constant" else name
    schedule = get_scheduler(full_name, optimizer, num_warmup_steps=10, num_training_steps=40)
    for step in range(40):
        assert learning_rate_at(step, options) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()


# ---- Randomness ----


def test_a_draw_depends_on_seed_step_position_and_stream_and_on_nothing_else():
    def noise(seed=0, step=3, position=1, stream=INSTANCE):
        options = dataclasses.replace(OPTIONS, seed=seed)
        return draw(options, step, position, stream, (3, 8, 8), 1000).noise

    torch.manual_seed(1)
    first = noise()
    torch.manual_seed(2)
    assert torch.equal(first, noise())
    for other in ({"seed": 1}, {"step": 4}, {"position": 0}, {"stream": CLASS}):
        assert not torch.equal(first, noise(**other))


def test_the_global_batch_is_the_same_however_it_is_divided(data):
    whole = data.batch(OPTIONS, 5, range(4), 1000)
    halves = [data.batch(OPTIONS, 5, positions, 1000) for positions in (range(2), range(2, 4))]
    assert whole.weights is None, "without masks every place counts as much"
    for together, *parts in zip(whole[:4], *(half[:4] for half in halves), strict=True):
        instances = torch.cat([part[:2] for part in parts])
        classes = torch.cat([part[2:] for part in parts])
        assert torch.equal(together, torch.cat([instances, classes]))


def test_every_image_comes_once_before_any_comes_again():
    for epoch in range(5):
        seen = [pick(7, INSTANCE, epoch * 6 + i, 6) for i in range(6)]
        assert sorted(seen) == list(range(6))


def test_noise_is_standard_normal_and_timesteps_are_uniform():
    draws = [draw(OPTIONS, s, 0, INSTANCE, (3, 8, 8), 1000) for s in range(1000)]
    noise = torch.stack([d.noise for d in draws])
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    counts = torch.histc(torch.tensor([float(d.timestep) for d in draws]), 10, 0, 1000)
    assert ((counts - 100).square() / 100).sum() < 27.9  # chi-squared, 9 degrees, p = 0.001


def test_offset_noise_is_constant_over_each_channel():
    plain = draw(OPTIONS, 0, 0, INSTANCE, (3, 8, 8), 1000)
    options = dataclasses.replace(OPTIONS, offset_noise=0.1)
    added = draw(options, 0, 0, INSTANCE, (3, 8, 8), 1000).noise - plain.noise
    assert added.abs().max() > 0.001
    torch.testing.assert_close(added, added[:, :1, :1].expand(3, 8, 8))


def test_a_share_of_the_class_images_is_shown_with_the_empty_prompt(data):
    options = dataclasses.replace(OPTIONS, class_dropout=0.25)
    half = OPTIONS.batch_size
    seen = torch.stack([data.batch(options, s, range(half), 1000).prompts for s in range(400)])
    assert (seen[:, :half] == 0).all()
    n_dropped, n_class = int((seen[:, half:] == 2).sum()), 400 * half
    assert set(seen[:, half:].unique().tolist()) == {1, 2}
    assert abs(n_dropped / n_class - 0.25) < 4 * (0.25 * 0.75 / n_class) ** 0.5
    plain = data.batch(OPTIONS, 0, range(half), 1000)  # nothing else at a step is changed by it
    dropped = data.batch(dataclasses.replace(OPTIONS, class_dropout=1.0), 0, range(half), 1000)
    assert plain.prompts.tolist() == [0] * half + [1] * half
    assert dropped.prompts.tolist() == [0] * half + [2] * half
    for before, after in zip(plain[:3], dropped[:3], strict=True):
        assert torch.equal(before, after)


def test_class_images_are_shown_with_the_prompt_that_they_were_drawn_for(data):
    """Eight images of three prompts; the empty prompt is the row after those."""
    data = dataclasses.replace(data, class_rows=[1, 2, 1, 3, 1, 2, 1, 3])
    options = dataclasses.replace(OPTIONS, class_dropout=0.25)
    half, seen = OPTIONS.batch_size, set()
    for step in range(40):
        batch = data.batch(options, step, range(half), 1000)
        for latents, prompt in zip(
            batch.latents[half:], batch.prompts[half:].tolist(), strict=True
        ):
            (image,) = (i for i, own in enumerate(data.class_latents) if torch.equal(own, latents))
            assert prompt in (data.class_rows[image], 4)
            seen.add((image, prompt))
    assert {image for image, prompt in seen if prompt != 4} == set(range(8))
    assert any(prompt == 4 for _, prompt in seen)


def test_a_step_encodes_only_the_prompts_of_its_batch_and_each_once(data, pipe):
    prompts = ["a sks cat", "a cat", "a red cat", "a green cat"]
    data = dataclasses.replace(
        data,
        tokens=token_ids(as_model(pipe), prompts),
        embeddings=encode_prompts(as_model(pipe), prompts),
        class_rows=[1, 2, 1, 3, 1, 2, 1, 3],
    )
    options = dataclasses.replace(OPTIONS, steps=3, with_text_encoder=True)
    train_state, rows = make_train_state(pipe, options), []
    train_state.text_encoder.register_forward_pre_hook(
        lambda module, args: rows.append(len(args[0]))
    )
    run(pipe, data, options, train_state)
    batches_ = [data.batch(options, step, range(2), 1000) for step in range(3)]
    assert rows == [len(set(batch.prompts.tolist())) for batch in batches_]


@pytest.mark.slow
def test_the_empty_prompt_drifts_less_where_class_images_are_shown_with_it(pipe, data):
    """What guidance compares with: its loss on class images after training either way."""
    with_empty = dataclasses.replace(
        data,
        tokens=token_ids(as_model(pipe), ["a sks cat", "a cat", ""]),
        embeddings=encode_prompts(as_model(pipe), ["a sks cat", "a cat", ""]),
    )

    def loss_of_empty(dropout):
        options = dataclasses.replace(OPTIONS, steps=60, class_dropout=dropout)
        train_state, _ = run(make_pipeline(), with_empty, options)
        weights, held = train_state.unet, dataclasses.replace(options, seed=9, class_dropout=1.0)
        total = 0.0
        for step in range(8):
            batch = with_empty.batch(held, step, range(4), 1000)
            alpha, sigma = dreambooth.signal_and_noise(train_state.alphas_cumprod, batch.timesteps)
            noisy = alpha * batch.latents + sigma * batch.noise
            wanted = dreambooth.target(
                train_state.prediction_type, batch.latents, batch.noise, alpha, sigma
            )
            with torch.no_grad():
                seen = weights(noisy, batch.timesteps, with_empty.embeddings[batch.prompts]).sample
            total += float((seen - wanted)[4:].square().mean())
        return total

    assert loss_of_empty(0.5) < loss_of_empty(0.0)


# ---- Caches ----


def test_the_cached_step_has_the_loss_of_the_uncached_one(pipe, data, tmp_path):
    """Encode the photo and the prompt anew, as a loop without caches does every step."""
    options = dataclasses.replace(OPTIONS, steps=1, with_prior=False)
    own = dataclasses.replace(data, class_latents=None)
    _, ((cached, _),) = run(pipe, own, options)

    pipe = make_pipeline()
    dataset = draw_dataset(tmp_path / "photos")
    losses = []
    for position in range(2):
        chance = draw(options, 0, position, INSTANCE, (3, 8, 8), 1000)
        image = dataset.images[pick(0, INSTANCE, position, 3)]
        with torch.no_grad():
            posterior = pipe.vae.encode(read_images([image], 16)).latent_dist
            latents = (posterior.mean + posterior.std * chance.posterior) * 0.7
            timestep = torch.tensor([chance.timestep])
            noisy = pipe.scheduler.add_noise(latents, chance.noise[None], timestep)
            embedding, _ = pipe.encode_prompt("a sks cat", "cpu", 1, False)
            prediction = pipe.unet(noisy, timestep, embedding).sample
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
        velocity = scheduler.get_velocity(latents, chance.noise[None], timestep)
        losses.append(float((prediction - velocity).square().mean()))
    assert cached == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_mirrored_moments_are_used_only_when_asked_for(data):
    plain = data.batch(dataclasses.replace(OPTIONS, with_mirror=False), 0, range(16), 1000)
    mixed = data.batch(dataclasses.replace(OPTIONS, with_mirror=True), 0, range(16), 1000)
    same = (plain.latents == mixed.latents).flatten(1).all(1)[:16]
    assert 2 < int(same.sum()) < 14


# ---- The loop ----


@pytest.mark.slow
def test_training_lowers_the_loss_on_its_own_data(data):
    """Compared with a train_state that stands still, on the very same draws."""
    options = dataclasses.replace(OPTIONS, steps=40, learning_rate=4e-3, batch_size=4)
    _, learnt = run(make_pipeline(), data, options)
    _, still = run(make_pipeline(), data, dataclasses.replace(options, learning_rate=1e-12))
    for instance_or_prior in (0, 1):
        after, before = (sum(x[instance_or_prior] for x in part[20:]) for part in (learnt, still))
        assert after < 0.95 * before


def test_gradients_are_clipped_to_the_norm_that_the_options_give(pipe, data):
    norms = {}
    for limit in (1e-3, 1e6):
        options = dataclasses.replace(OPTIONS, steps=2, gradient_clip=limit)
        train_state = make_train_state(make_pipeline(), options)

        def note(optimizer, *rest, train_state=train_state, limit=limit):
            gradients = [p.grad.flatten() for p in train_state.parameters.values()]
            norms.setdefault(limit, []).append(float(torch.cat(gradients).norm()))

        train_state.optimizer.register_step_pre_hook(note)
        run(None, data, options, train_state=train_state)
    assert norms[1e-3] == pytest.approx([1e-3] * 2, rel=1e-2)
    assert min(norms[1e6]) > 0.01


@pytest.mark.slow
def test_accumulated_parts_give_the_weights_of_the_whole_batch(data):
    options = dataclasses.replace(OPTIONS, batch_size=4, steps=3)
    whole, _ = run(make_pipeline(), data, options)
    parts, _ = run(make_pipeline(), data, dataclasses.replace(options, accumulation=4))
    assert difference(weights_of(whole), weights_of(parts)) < 1e-6


def test_lora_trains_only_its_additions_and_starts_as_the_base_model(pipe, data):
    options = dataclasses.replace(OPTIONS, method="lora", lora_rank=2, lora_alpha=2)
    _, before = run(make_pipeline(), data, dataclasses.replace(OPTIONS, steps=1))
    base = {k: v.clone() for k, v in pipe.unet.state_dict().items()}
    train_state, losses = run(pipe, data, options)
    assert losses[0] == pytest.approx(before[0], rel=1e-5)
    assert all("lora_" in name for name in train_state.parameters)
    after = {k.replace(".base_layer", ""): v for k, v in pipe.unet.state_dict().items()}
    assert all(torch.equal(base[name], after[name]) for name in base)


@pytest.mark.slow
def test_checkpointing_gives_the_same_weights(data):
    plain, _ = run(make_pipeline(), data, OPTIONS)
    saved, _ = run(make_pipeline(), data, dataclasses.replace(OPTIONS, with_checkpointing=True))
    assert difference(weights_of(plain), weights_of(saved)) < 1e-6


def test_the_text_encoder_is_trained_when_asked_for_and_only_then(data):
    for is_trained in (False, True):
        pipe = make_pipeline()
        before = {k: v.clone() for k, v in pipe.text_encoder.named_parameters()}
        run(pipe, data, dataclasses.replace(OPTIONS, with_text_encoder=is_trained))
        changed = any(
            not torch.equal(v, before[k]) for k, v in pipe.text_encoder.named_parameters()
        )
        assert changed is is_trained


@pytest.mark.slow
def test_the_mean_of_weights_trails_behind_them(pipe, data):
    train_state, _ = run(pipe, data, dataclasses.replace(OPTIONS, ema_decay=0.9))
    start = weights_of(make_train_state(make_pipeline(), OPTIONS))
    mean = torch.cat([m.flatten() for m in train_state.ema.values()])
    assert (
        0 < difference(weights_of(train_state), mean) < difference(weights_of(train_state), start)
    )


@pytest.mark.slow
def test_8bit_adam_trains(pipe, data):
    fault = find_8bit_fault("cpu")
    if fault:
        pytest.skip(f"bitsandbytes does not work here: {fault}")
    options = dataclasses.replace(OPTIONS, steps=20)
    start = {k: p.detach().clone() for k, p in make_train_state(pipe, options).parameters.items()}
    eight, losses = run(pipe, data, dataclasses.replace(options, with_8bit_adam=True))
    assert all(math.isfinite(x) for pair in losses for x in pair)
    plain, _ = run(make_pipeline(), data, options)
    ends = [torch.cat([one.parameters[k].detach().flatten() for k in start])
            for one in (eight, plain)]  # fmt: skip
    change = (ends[1] - torch.cat([p.flatten() for p in start.values()])).norm()
    error = (ends[0] - ends[1]).norm()
    assert 0 < error < 0.2 * change, (float(error), float(change))


def test_half_precision_is_for_the_way_forward_alone(pipe, data):
    """Under autocast the backward pass would keep a half-precision copy of all weights."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    forward, backward = [], []
    train_state = make_train_state(pipe, OPTIONS)

    def is_half(*_):
        return torch.is_autocast_enabled("cpu")

    train_state.unet.conv_out.register_forward_hook(lambda *_: forward.append(is_half()))
    train_state.unet.conv_in.weight.register_hook(lambda *_: backward.append(is_half()))
    try:
        dreambooth.train(train_state, data, OPTIONS, accelerator, lambda step, losses: None)
    finally:
        AcceleratorState._reset_state()
    assert forward == [True] * OPTIONS.steps and backward == [False] * OPTIONS.steps


# ---- What it refuses ----


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"method": "textual"},
        {"batch_size": 3, "accumulation": 2},
        {"ema_decay": 1.0},
        {"save_every": -1},
        {"sample_every": -1},
        {"warmup_steps": -1},
        {"min_snr_gamma": -5.0},
        {"offset_noise": math.nan},
        {"seed": -1},
        {"method": "lora", "with_text_encoder": True},
        {"class_prompts": ()},
        {"class_prompts": "a {noun}"},
        {"class_prompts": ("a {noun}", "a red {subject}")},
        {"class_prompts": ("a {noun}", "a red {noun} | ")},
        {"ground_prompt": "an empty {place}"},
        {"sample_prompts": ("a {subject}", "a {dog}")},
        {"sample_prompts": ("a {subject[a]}",)},
        {"sample_prompts": "a {subject}"},
        {"background_prompts": "on a beach"},
        {"lora_targets": "to_q"},
        {"method": "lora", "lora_targets": ()},
        {"lora_rank": MOST_RANK + 1},
    ],
)
def test_options_that_cannot_work_are_refused(wrong):
    with pytest.raises(InputError):
        FinetuneOptions(**wrong)


def test_options_of_the_command_line_become_what_the_fields_hold():
    pairs = ["steps=9", "learning_rate=2e-5", "with_mirror=True", "keep=last", "ema_decay=0.9"]
    pairs += ["sample_prompts=a {subject}, smiling", "sample_prompts=a = b", "lora_targets=to_q"]
    options = FinetuneOptions(**parse_options(pairs))
    assert (options.steps, options.learning_rate, options.ema_decay) == (9, 2e-5, 0.9)
    assert options.with_mirror is True and options.keep == "last"
    assert options.sample_prompts == ("a {subject}, smiling", "a = b")
    assert options.lora_targets == ("to_q",)
    assert parse_options(["sample_prompts="]) == {"sample_prompts": ()}
    changed = {
        f"{field.name}={getattr(options, field.name)}"
        for field in dataclasses.fields(options)
        if not isinstance(field.default, tuple)
    }
    tuples = {"sample_prompts", "class_prompts", "background_prompts", "lora_targets"}
    assert set(parse_options(sorted(changed))) | tuples == {
        field.name for field in dataclasses.fields(options)
    }, "every field can be given"


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("steps=many", "steps=<int>"),
        ("with_prior=perhaps", "with_prior=<bool>"),
        ("steps", "steps=<int>"),
        ("stepz=3", "one of method, steps"),
        ("=3", "one of method, steps"),
    ],
)
def test_an_option_that_cannot_be_read_says_what_was_expected(pair, expected):
    with pytest.raises(InputError, match=re.escape(f"--option {pair} cannot be used; expected")):
        parse_options([pair])
    with pytest.raises(InputError, match=re.escape(expected)):
        parse_options([pair])


def test_unknown_options_are_named():
    with pytest.raises(InputError, match="batchsize"):
        FinetuneOptions.for_model({}, batchsize=2)


def test_a_prompt_that_is_too_long_is_an_error(pipe):
    with pytest.raises(InputError, match="tokens"):
        token_ids(as_model(pipe), ["a cat " * 50])


def test_an_unknown_prediction_type_is_an_error():
    one = torch.ones(1, 1, 1, 1)
    with pytest.raises(S2iError, match="sample"):
        dreambooth.target("sample", one, one, one, one)


def test_a_text_encoder_trained_by_default_does_not_forbid_lora():
    defaults = {"with_text_encoder": True, "steps": 5}
    assert FinetuneOptions.for_model(defaults).with_text_encoder
    assert not FinetuneOptions.for_model(defaults, method="lora").with_text_encoder
    with pytest.raises(InputError, match="method full"):
        FinetuneOptions.for_model(defaults, method="lora", with_text_encoder=True)


@pytest.mark.parametrize(
    ("name", "rate"), [("sd2.1-base", 1e-4), ("sd2.1", 1e-4), ("pocket", 4e-4)]
)
def test_lora_does_not_learn_at_the_low_rate_of_full_fine_tuning(name, rate):
    defaults = dict(want(RECIPES[REGISTRY[name].family], "auto", "object", 5, False, {}).defaults)
    assert FinetuneOptions.for_model(defaults).learning_rate == defaults["learning_rate"]
    lora = FinetuneOptions.for_model(defaults, method="lora")
    assert lora.learning_rate == rate
    chosen = FinetuneOptions.for_model(defaults, method="lora", learning_rate=1e-6)
    assert chosen.learning_rate == 1e-6, "what the user chose holds"
    assert FinetuneOptions.for_model(dataclasses.asdict(chosen)) == chosen, "a saved one as well"


class Large:
    """Takes a device by half before it finds no room; no GPU here that could be filled."""

    device = torch.device("cpu")

    def to(self, device):
        self.device = device
        if device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_network_that_finds_no_room_on_a_device_is_back_where_it_was():
    network = Large()
    with devices.visiting_if_there_is_room(network, torch.device("meta")):
        assert network.device.type == "cpu"
    with pytest.raises(torch.OutOfMemoryError), devices.visiting(network, torch.device("meta")):
        pass
    assert network.device.type == "cpu"
