"""Round trips: exported, loaded by the library it is for, the same numbers for the same seed."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_original_layout import SMALL, make_sd2
from tiny_model import as_model, draw_dataset, make_pipeline
from tiny_run import start, write_run
from typer.testing import CliRunner

from s2i_lib.cli.main import app
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions, sample_latents
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import loading
from s2i_lib.models.export import export
from s2i_lib.models.registry import PACKAGE
from s2i_lib.models.schedulers import SCHEDULERS
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage import run_card
from s2i_lib.storage.layout import Drive, local_folder
from s2i_lib.storage.lease import Lease
from s2i_lib.training.run import list_runs, prunable, prune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Drive with a full run and a LoRA run, whose alpha is not its rank."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2I_LOCAL", str(root / "local"))
        make_pipeline().save_pretrained(root / "tiny")
        drive, dataset = Drive(root / "drive"), draw_dataset(root / "photos")
        start(drive, dataset, root / "tiny", name="full", learning_rate=1e-2)
        lora = {"method": "lora", "lora_rank": 2, "lora_alpha": 6, "learning_rate": 1e-1}
        start(drive, dataset, root / "tiny", name="lora", **lora)
    return drive


def base_of(drive):
    """The folder of the model that the runs of ``trained`` were made from."""
    return str(drive.root.parent / "tiny")


def latents(pipe):
    """What the model samples for one seed."""
    pipe.to(dtype=torch.float32)
    options = DrawOptions(steps=4, guidance_scale=2.0)
    return sample_latents(as_model(pipe), Prompt("a sks cat"), options, [1, 2])


def check_same_pictures(trained, pipe, run):
    """Within 5 % of what the training changed: weights are kept in fp16."""
    expected = latents(loading.load(base_of(trained), drive=trained, run=run).pipeline)
    error = float((latents(pipe) - expected).abs().mean())
    change = float((latents(make_pipeline()) - expected).abs().mean())
    assert change > 0.01, "training changed too little to see an error by"
    assert error < 0.05 * change, (error, change)


OLD_SCHEDULERS = {
    "epsilon": {"_class_name": "PNDMScheduler", "skip_prk_steps": True},
    "v_prediction": {"_class_name": "DDIMScheduler", "skip_prk_steps": True},
}


def write_like_the_hub(folder, prediction_type="epsilon"):
    """A small model laid out as the repositories of Stable Diffusion 2.1: what they say, no more.

    Facts, of stabilityai/stable-diffusion-2-1(-base) and its mirrors: the scheduler's file is of
    diffusers 0.8 to 0.10 and has no timestep_spacing; the tokenizer is vocab.json and merges.txt;
    whole fp32 weights, and fp16 ones beside them.
    """
    pipe = make_sd2(SMALL, prediction_type)
    pipe.save_pretrained(folder)
    old = {
        **OLD_SCHEDULERS[prediction_type],
        "_diffusers_version": "0.10.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": prediction_type,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "trained_betas": None,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(old))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", old["_class_name"]]
    (folder / "model_index.json").write_text(json.dumps(index))
    tokenizer = PACKAGE / "pocket" / "tokenizer"
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / "tokenizer")
    return folder


def halve_beside(folder):
    """fp16 variants, as the repositories have them beside the whole weights."""
    for path in folder.glob("*/*.safetensors"):
        if path.parent.name in ("unet", "vae", "text_encoder"):
            half = {k: w.half() if w.is_floating_point() else w for k, w in load_file(path).items()}
            save_file(half, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})


@pytest.fixture(scope="module", params=["pocket", "whole", "whole and fp16", "v_prediction"])
def any_base(request, tmp_path_factory):
    """A Drive with a full run, its text encoder trained, and a LoRA run of one base model."""
    root = tmp_path_factory.mktemp("bases")
    base = "pocket"
    if request.param != "pocket":
        prediction = "v_prediction" if request.param == "v_prediction" else "epsilon"
        base = write_like_the_hub(root / "base", prediction)
    if request.param == "whole and fp16":
        halve_beside(base)
    drive = Drive(root / "drive")
    write_run(drive, base, "full", method="full", with_text_encoder=True)
    write_run(drive, base, "lora", method="lora", lora_alpha=6, lora_rank=2)
    return drive, base


def pixels(model, scheduler="dpm++"):
    options = DrawOptions(steps=3, seed=7, scheduler=scheduler)
    return [picture.image.tobytes() for picture in draw(model, "a sks cat", options)]


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_diffusers_folder_draws_the_runs_pictures_bit_for_bit(any_base, tmp_path, name):
    drive, base = any_base
    folder = export(drive, f"violet/{name}", "diffusers", tmp_path / "out", str(base))
    run = loading.load(str(base), drive=drive, run=f"violet/{name}")
    exported = loading.load(drive=drive, run=str(folder))
    assert pixels(run) != pixels(loading.load(str(base), drive=drive))
    for scheduler in SCHEDULERS:
        assert pixels(exported, scheduler) == pixels(run, scheduler), scheduler
    assert exported.taught == "a sks cat" and exported.run == str(folder)
    if base == "pocket":
        assert exported.base == run.base
    assert not list(folder.rglob("*.bin"))
    assert json.loads((folder / "run.json").read_text())["subject"]["name"] == "Violet"


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_diffusers_folder_draws_the_runs_picture_in_plain_diffusers(any_base, tmp_path, name):
    """The sampler that it finds there is the one that runs are drawn with."""
    from diffusers import StableDiffusionPipeline

    drive, base = any_base
    folder = export(drive, f"violet/{name}", "diffusers", tmp_path / "out", str(base))
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    model = loading.load(str(base), drive=drive, run=f"violet/{name}")
    [mine] = draw(model, "a sks cat", DrawOptions(steps=6, seed=7))
    theirs = pipe(
        "a sks cat", num_inference_steps=6, guidance_scale=model.base.guidance_scale,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    difference = np.abs(np.asarray(mine.image).astype(int) - np.asarray(theirs).astype(int))
    assert difference.max() <= 1, "rounding at most"


PLAIN = """if True:
    import sys, torch, transformers
    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1])
    pipe(
        "a sks cat", num_inference_steps=6, guidance_scale=float(sys.argv[2]),
        generator=torch.Generator().manual_seed(7),
    ).images[0].save(sys.argv[3])
    print(transformers.__version__)
"""


@pytest.mark.full
def test_a_diffusers_folder_draws_the_runs_picture_with_transformers_4(any_base, tmp_path):
    """Its 4.57 and what it needs lie before ours on the path; torch and diffusers are ours."""
    older = tmp_path / "older"
    done = subprocess.run(
        [
            sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", older,
            "--python", sys.executable, "transformers==4.57.*", "huggingface_hub==0.36.*",
            "tokenizers==0.22.*",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"transformers 4 could not be had: {done.stderr.strip()[-300:]}")
    drive, base = any_base
    folder = export(drive, "violet/full", "diffusers", tmp_path / "out", str(base))
    model = loading.load(str(base), drive=drive, run="violet/full")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, folder, str(model.base.guidance_scale), tmp_path / "a.png"],
        env={**os.environ, "PYTHONPATH": str(older)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.57.")
    assert "TRAIN this model" not in done.stderr, "weights that were not found are random"
    [mine] = draw(model, "a sks cat", DrawOptions(steps=6, seed=7))
    theirs = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert np.abs(np.asarray(mine.image).astype(int) - theirs).max() <= 1


def test_a_lora_file_with_kohyas_names_draws_what_the_run_does(trained, tmp_path):
    from safetensors import safe_open

    path = export(trained, "violet/lora", "lora", tmp_path / "a.safetensors", base_of(trained))
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        assert file.metadata()["modelspec.trigger_phrase"] == "a sks cat"
        assert "ss_v2" not in file.metadata()
    assert all(name.startswith("lora_unet_") for name in names)
    assert {name.split(".", 1)[1] for name in names} == {
        "lora_down.weight",
        "lora_up.weight",
        "alpha",
    }
    base = run_card.read_card(trained.runs / "violet" / "lora")["base"]["source"]
    pipe = loading.load(base, drive=trained).pipeline
    pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    check_same_pictures(trained, pipe, "violet/lora")


@pytest.mark.parametrize(("run", "form"), [("full", "diffusers"), ("lora", "lora")])
def test_an_export_says_whom_it_was_taught_wherever_it_lies(trained, tmp_path, run, form):
    base, path = base_of(trained), tmp_path / ("a" if form == "diffusers" else "a.safetensors")
    export(trained, f"violet/{run}", form, path, base)
    model = loading.load(base, drive=trained, run=str(path))
    [picture] = draw(model, "a sks cat", DrawOptions(steps=1))
    assert picture.record["run"] == str(path) and picture.record["run_subject"] == "Violet"


def kohya_keys():
    """Those of a LoRA on the attention of Stable Diffusion 1 and 2, as kohya's scripts name them.

    Source: https://github.com/kohya-ss/sd-scripts, networks/lora.py; the first of them is
    lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k.alpha.
    """
    blocks = [
        *(f"down_blocks_{i}_attentions_{j}" for i in (0, 1, 2) for j in (0, 1)),
        "mid_block_attentions_0",
        *(f"up_blocks_{i}_attentions_{j}" for i in (1, 2, 3) for j in (0, 1, 2)),
    ]
    return {
        f"lora_unet_{block}_transformer_blocks_0_{attention}_{layer}.{part}"
        for block in blocks
        for attention in ("attn1", "attn2")
        for layer in ("to_q", "to_k", "to_v", "to_out_0")
        for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }


def test_a_lora_of_sd2_has_kohyas_keys_and_tells_a1111_what_it_is_for(tmp_path, monkeypatch):
    """Its metadata alone decides there beside which models it is shown."""
    from safetensors import safe_open

    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    text = {"hidden_size": 1024, "intermediate_size": 8, "num_attention_heads": 16}
    sizes = {**SMALL, "text": {**text, "num_hidden_layers": 1}}
    make_sd2(sizes, "epsilon").save_pretrained(tmp_path / "base")
    drive, dataset = Drive(tmp_path / "drive"), draw_dataset(tmp_path / "photos")
    short = {"method": "lora", "steps": 1, "with_prior": False, "sample_prompts": ()}
    start(drive, dataset, tmp_path / "base", name="lora", **short)
    path = export(drive, "violet/lora", "lora", tmp_path / "violet.safetensors")
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == kohya_keys()
        assert file.metadata()["ss_v2"] == "True"


def test_what_cannot_be_exported_is_explained(trained, tmp_path):
    with pytest.raises(InputError, match="method full, so it has no LoRA"):
        export(trained, "violet/full", "lora")
    with pytest.raises(InputError, match="Choose one of"):
        export(trained, "violet/full", "gguf")
    (tmp_path / "there").write_text("mine")
    with pytest.raises(InputError, match="not overwritten"):
        export(trained, "violet/full", "diffusers", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"


def test_runs_lists_sizes_and_prunes_only_states_that_the_user_agrees_to(trained):
    def call(*arguments, **settings):
        done = CliRunner().invoke(
            app, ["runs", "--drive", str(trained.root), *arguments], **settings
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    (trained.runs / ".ipynb_checkpoints").mkdir(exist_ok=True)
    full, lora = (json.loads(line) for line in call("--json").splitlines())
    assert full["run"] == "violet/full" and full["status"] == "finished" and full["step"] == 8
    assert full["bytes"] > full["state_bytes"] > lora["state_bytes"] > 0
    call("--prune", input="n\nn\n")  # one state each, so small that it stays
    assert json.loads(call("--json").splitlines()[0]) == full
    call("--prune", input="y\nn\n")
    left = [json.loads(line) for line in call("--json").splitlines()]
    assert left[0]["state_bytes"] == 0 < left[1]["state_bytes"] == lora["state_bytes"]
    call("--prune", "--yes")
    assert [json.loads(line)["state_bytes"] for line in call("--json").splitlines()] == [0, 0]
    kept = loading.load(base_of(trained), drive=trained, run="violet/full")
    assert kept.run == "violet/full"


def test_states_of_an_unfinished_run_are_deleted_only_when_asked_about(trained, tmp_path):
    """They are all that it has; a session that trains it keeps them."""
    folder = trained.runs / "violet" / "left"
    state = folder / "state-00000003"
    state.mkdir(parents=True)
    (state / "trained.safetensors").write_bytes(bytes(100))
    (folder / "run.json").write_text(json.dumps({"status": "training", "step": 3}))
    runs = [run for run in list_runs(trained) if run.folder == folder]
    assert prunable(runs) == [], "as with --yes"
    [(path, meaning)] = prunable(runs, with_unfinished=True)
    assert path == state and "violet/left is unfinished; without state-00000003" in meaning
    lease = Lease(folder, print).acquire()
    with pytest.raises(S2iError, match="is being trained"):
        prune(trained, [path])
    assert state.exists()
    lease.release()
    assert prune(trained, [path]) == 100 and not state.exists()
    shutil.rmtree(folder)


def test_a_whole_run_is_deleted_only_when_asked_for_by_name_and_agreed_to(trained):
    def call(*arguments, **settings):
        return CliRunner().invoke(
            app, ["runs", "--drive", str(trained.root), *arguments], **settings
        )

    folder = trained.runs / "violet" / "old"
    local = local_folder(trained, folder)
    for place in (folder, local):
        shutil.copytree(trained.runs / "violet" / "lora", place)
    others = {path for path in trained.root.rglob("*") if folder not in (path, *path.parents)}
    wrong = call("--delete", "violet/nowhere")
    assert wrong.exit_code == 2 or isinstance(wrong.exception, InputError)
    call("--delete", "violet/old", input="n\n")
    lease = Lease(folder, print).acquire()
    assert isinstance(call("--delete", "violet/old", "--yes").exception, S2iError)
    lease.release()
    assert (folder / "weights").exists() and local.exists()
    done = call("--delete", "violet/old", "--yes")
    assert done.exit_code == 0 and "Freed" in done.output
    assert not folder.exists() and not local.exists()
    assert {path for path in trained.root.rglob("*") if path.exists()} == others
