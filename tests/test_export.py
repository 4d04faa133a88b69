"""Round trips: exported, loaded by the library it is for, the same numbers for the same seed."""

import json
import shutil

import pytest
import torch
from test_finetune import start
from test_single_file import SMALL, make_sd2
from tiny_model import draw_dataset, make_pipeline
from typer.testing import CliRunner

from s2i_lib import batches, models, prior
from s2i_lib.__main__ import app
from s2i_lib.drive import Drive, Lease, local_folder
from s2i_lib.errors import InputError, S2iError
from s2i_lib.export import export
from s2i_lib.runs import list_runs, prunable, prune

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


def latents(pipe):
    """What the model samples for one seed."""
    pipe.to(dtype=torch.float32)
    embeddings = batches.embed_prompts(pipe, ["", "a sks cat"])
    options = prior.SamplerOptions(steps=4, guidance_scale=2.0)
    return prior.sample_latents(pipe, embeddings, [1, 2], options)


def check_same_pictures(trained, pipe, run):
    """Within 5 % of what the training changed: weights are kept in fp16."""
    expected = latents(models.load(drive=trained, run=run).pipeline)
    error = float((latents(pipe) - expected).abs().mean())
    change = float((latents(make_pipeline()) - expected).abs().mean())
    assert change > 0.01, "training changed too little to see an error by"
    assert error < 0.05 * change, (error, change)


@pytest.mark.parametrize("run", ["violet/full", "violet/lora"])
def test_a_diffusers_folder_draws_what_the_run_does(trained, tmp_path, run):
    from diffusers import StableDiffusionPipeline

    folder = export(trained, run, "diffusers", tmp_path / "out")
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    check_same_pictures(trained, pipe, run)
    assert not list(folder.rglob("*.bin"))
    assert json.loads((folder / "run.json").read_text())["subject"]["name"] == "Violet"


def test_a_lora_file_with_kohyas_names_draws_what_the_run_does(trained, tmp_path):
    from safetensors import safe_open

    path = export(trained, "violet/lora", "lora", tmp_path / "violet.safetensors")
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
    base = models.read_card(trained.runs / "violet" / "lora")["base"]["source"]
    pipe = models.load(base, drive=trained).pipeline
    pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    check_same_pictures(trained, pipe, "violet/lora")


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
    call("--prune", input="n\nn\nn\nn\n")
    assert json.loads(call("--json").splitlines()[0]) == full
    call("--prune", input="y\nn\nn\nn\n")
    left = json.loads(call("--json").splitlines()[0])
    assert 0 < left["state_bytes"] < full["state_bytes"]
    call("--prune", "--yes")
    assert [json.loads(line)["state_bytes"] for line in call("--json").splitlines()] == [0, 0]
    assert models.load(drive=trained, run="violet/full").run == "violet/full"


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
        prune([path])
    assert state.exists()
    lease.release()
    assert prune([path]) == 100 and not state.exists()
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
