"""Weights and folders of strangers: nothing in them runs, takes the machine or speaks for itself.

Each test is an attack that worked, harmless here: the stranger's code writes a mark. What the
libraries import by name was read in diffusers 0.39 (pipelines/pipeline_loading_utils.py) and
transformers 5.15 (modeling_utils.py, tokenization_utils_base.py, integrations/peft.py).
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from s2i_lib.drawing.draw import draw, redo
from s2i_lib.drawing.records import weights_named_in
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import digests, loading
from s2i_lib.models import folder as door
from s2i_lib.models.encoders import load_scorers
from s2i_lib.models.registry import PACKAGE, REGISTRY, choose
from s2i_lib.models.vision import find_network
from s2i_lib.storage.run_card import LORA
from s2i_lib.training.finetune import load_for_training

EVIL = "from pathlib import Path\nPath({mark!r}).touch()\nclass EvilScheduler: pass\n"
ONE = DrawOptions(steps=1, seed=1)


@pytest.fixture
def model(tiny, tmp_path, monkeypatch) -> Path:
    """A stranger's folder below one that Python imports from, as the Drive is to a notebook."""
    folder = shutil.copytree(tiny, tmp_path / "shared" / "Model Files")
    (folder / "evil.py").write_text(EVIL.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    assert not (tmp_path / "mark").exists(), "the stranger's code ran"
    assert not any("evil" in name for name in sys.modules), "the stranger's code was imported"


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, drive) -> str:
    """The one paragraph with which a folder is refused."""
    with pytest.raises(InputError) as error:
        loading.load(str(folder), drive=drive)
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 900, text
    return text


# ---- Code ----


@pytest.mark.parametrize("library", ["shared.Model Files.evil", "evil", "diffusers.pipelines", ""])
def test_a_library_that_model_index_names_is_not_imported(model, drive, library):
    (model / "evil.py").rename(model.parent / "evil.py")  # outside of the folder, beside it
    shutil.copy(model.parent / "evil.py", model.parent.parent / "evil.py")
    (model.parent / "Model Files").mkdir(exist_ok=True)
    change(model / "model_index.json", scheduler=[library, "EvilScheduler"])
    assert "EvilScheduler" in refused(model, drive)


def test_a_dotted_library_inside_the_folder_is_not_imported(model, drive):
    change(model / "model_index.json", scheduler=["shared.Model Files.evil", "EvilScheduler"])
    refused(model, drive)


def test_a_folder_with_python_is_not_opened(model, drive):
    assert "evil.py" in refused(model, drive)
    (model / "evil.py").rename(model / "unet" / "modeling.py")
    assert "modeling.py" in refused(model, drive)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("model_index.json", {"_class_name": ["evil", "Evil"]}),
        ("model_index.json", {"_class_name": "FluxPipeline"}),
        ("model_index.json", {"more": ["shared.evil", "Evil"]}),
        ("model_index.json", {"unet": ["diffusers", "FluxTransformer2DModel"]}),
        ("unet/config.json", {"_class_name": ["evil", "Evil"]}),
        ("unet/config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}),
        ("vae/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("text_encoder/config.json", {"attn_implementation": "kernels-community/flash-attn3"}),
        ("text_encoder/config.json", {"configuration_files": ["config.4.0.0.json"]}),
        ("text_encoder/config.json", {"text_config": {"transformers_weights": "../x.safetensors"}}),
        ("scheduler/scheduler_config.json", {"_class_name": "EvilScheduler"}),
        ("tokenizer/tokenizer_config.json", {"tokenizer_class": "EvilTokenizer"}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        ("tokenizer/tokenizer_config.json", {"tokenizer_file": "/etc/hostname"}),
    ],
)
def test_what_makes_libraries_import_by_name_is_refused(tiny, drive, tmp_path, file, values):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    change(folder / file, **values)
    assert Path(file).name in refused(folder, drive)


def test_a_text_encoder_is_not_taken_from_where_an_adapter_points(tiny, drive, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    adapter = {"base_model_name_or_path": str(tiny / "text_encoder"), "peft_type": "LORA"}
    (folder / "text_encoder" / "adapter_config.json").write_text(json.dumps(adapter))
    assert "adapter_config.json" in refused(folder, drive)


@pytest.mark.parametrize("end", ["json", "fp16.json"])
def test_an_index_of_shards_names_files_of_its_own_folder_only(tiny, drive, tmp_path, end):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "x.safetensors")
    index = {"metadata": {}, "weight_map": {"conv_in.weight": "../../x.safetensors"}}
    name = f"diffusion_pytorch_model.safetensors.index.{end}"
    (folder / "unet" / name).write_text(json.dumps(index))
    assert name in refused(folder, drive)


@pytest.mark.slow
def test_the_real_repositories_pass_the_door(repositories, tiny):
    for folder in (PACKAGE / "pocket", tiny, *map(Path, models_of(repositories))):
        assert door.check_model(folder).scheduler in door.SCHEDULERS, folder


def models_of(repositories):
    revisions = {str(path) for one in repositories.values() for path in one.values()}
    return [path for path in revisions if (Path(path) / "unet").is_dir()]


def test_the_base_that_a_run_names_in_its_own_folder_is_not_loaded(model, tiny, drive, tmp_path):
    run = drive.runs / "rex" / "shared-01"
    shutil.copytree(model.parent, run / "base")
    base = {"name": "shared", "source": str(run / "base" / "Model Files")}
    (run / "run.json").write_text(json.dumps({"base": base, "instance_prompt": "a ohwx dog"}))
    weights = loading.load(str(tiny), drive=drive).pipeline.unet.half().state_dict()
    (run / "weights" / "unet").mkdir(parents=True)
    save_file(weights, run / "weights" / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match="--model"):
        loading.load(drive=drive, run="rex/shared-01")
    assert loading.load(str(tiny), drive=drive, run="rex/shared-01").run == "rex/shared-01"


@pytest.mark.parametrize("where", ["source", "run"])
def test_a_picture_does_not_choose_the_folder_that_redo_loads(model, tiny, drive, where):
    record = {"model": "shared", "source": str(model), "run": None}
    if where == "run":
        record = {"model": "pocket", "source": "the package", "run": str(model)}
    with pytest.raises(InputError, match=f"--{'model' if where == 'source' else 'run'}"):
        weights_named_in(record, drive)
    given = {"model": str(tiny)} if where == "source" else {"run": str(tiny)}
    assert str(tiny) in weights_named_in(record, drive, **given)


def test_a_run_that_a_picture_names_is_one_of_the_drives_own(drive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rex" / "pocket-01").mkdir(parents=True)
    own = drive.runs / "rex" / "pocket-01"
    own.mkdir(parents=True)
    for record_run in ("rex/pocket-01", str(own)):
        record = {"model": "pocket", "run": record_run}
        assert weights_named_in(record, drive) == ("pocket", str(own))
    for elsewhere in ("../../rex/pocket-01", str(tmp_path / "rex"), 7, ["rex"]):
        with pytest.raises(InputError, match="--run"):
            weights_named_in({"model": "pocket", "run": elsewhere}, drive)


def test_a_folder_that_is_called_as_one_of_ours_is_not_taken_for_it(tiny, drive, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "pocket")
    base = choose(str(folder))
    assert loading.find_weights(base, drive) == (folder, str(folder))
    assert load_for_training(base, drive).source == str(folder)


# ---- Scorers ----


@pytest.mark.parametrize("lies", ["in the model", "in the working folder"])
def test_a_stranger_does_not_bring_the_scorer_that_judges_him(
    tiny, drive, tmp_path, monkeypatch, lies
):
    """Its config.json asks for its own code, and its embeddings are what it likes."""
    folder = shutil.copytree(tiny, tmp_path / "folder")
    for config in ("unet", "vae"):  # of 512 px: the registry names a CLIP of the hub for it
        change(folder / config / "config.json", sample_size=256)
    base = choose(str(folder))
    assert base.scorer == "openai/clip-vit-large-patch14"
    root = folder if lies == "in the model" else tmp_path
    shutil.copytree(PACKAGE / "pocket" / "scorer", root / base.scorer)
    monkeypatch.chdir(tmp_path)
    scorers = load_scorers(base, drive)
    assert scorers.clip is None and "could not be found. Tried:" in scorers.missing["clip"]
    assert load_scorers(base, drive, clip=str(root / base.scorer)).clip is not None


@pytest.mark.parametrize(
    "values",
    [
        {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}},
        {"model_type": "timm_wrapper"},
        {"vision_config": {"model_type": "timm_wrapper"}},
    ],
)
def test_a_scorer_on_the_drive_does_not_ask_to_run_code(drive, monkeypatch, values):
    place = drive.models / "openai-clip-vit-large-patch14"
    shutil.copytree(PACKAGE / "pocket" / "scorer", place)
    change(place / "config.json", **values)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked whether to run code"))
    scorers = load_scorers(REGISTRY["sd2.1-base"], drive, dino=str(place), lpips=str(place))
    assert scorers.clip is None and "config.json" in scorers.missing["clip"]


# ---- Exhaustion ----

SIZES = [
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 400_000_000}),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 4e8}),
    ("text_encoder/config.json", {"num_hidden_layers": 20_000}),
    ("text_encoder/config.json", {"num_hidden_layers": 60, "hidden_size": 4096}),
    ("text_encoder/config.json", {"max_position_embeddings": 4_000_000}),
    ("unet/config.json", {"layers_per_block": 20_000}),
    ("unet/config.json", {"layers_per_block": [20_000, 1]}),
    ("unet/config.json", {"block_out_channels": [8] * 5000}),
    ("unet/config.json", {"num_class_embeds": 50_000}),
    ("unet/config.json", {"sample_size": 100_000_000}),
    ("unet/config.json", {"norm_num_groups": 10**400}),
    ("unet/config.json", {"down_block_types": ["DownBlock2D"] * 5000}),
    ("vae/config.json", {"mid_block_add_attention": True}),
]


@pytest.mark.parametrize(("file", "values"), SIZES, ids=lambda x: str(x)[:40])
def test_sizes_have_bounds_before_anything_is_built(tiny, drive, tmp_path, file, values):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    change(folder / file, **values)
    within(10, lambda: refused(folder, drive))


def within(seconds: float, work) -> None:
    """Fail where ``work`` takes more of a core; a busy machine has twenty times as long for it.

    It goes on in a thread that the program does not await.
    """
    caught: list[BaseException] = []
    took: list[float] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            caught.append(error)
        took.append(time.thread_time())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20 * seconds)
    assert took, f"not done after {20 * seconds} s"
    assert took[0] < seconds, f"it took {took[0]:.0f} s of a core"
    if caught:
        raise caught[0]


LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def hostile_lora(path: Path, rank: int = 4, tensors=None, **said) -> Path:
    """A LoRA of one layer of the tiny model, with what its head says of it."""
    metadata = {f"unet.{key}": value for key, value in said.items()}
    tensors = tensors or {
        f"{LAYER}.lora_A.weight": torch.zeros(rank, 16),
        f"{LAYER}.lora_B.weight": torch.zeros(16, rank),
    }
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps(metadata)} if said else None)
    return path


PLAIN = {"r": 4, "lora_alpha": 4, "target_modules": ["to_q"], "rank_pattern": {}}


def test_a_plain_lora_of_this_kind_is_loaded(tiny, drive, tmp_path):
    path = hostile_lora(tmp_path / "plain.safetensors", **PLAIN)
    assert loading.load(str(tiny), drive=drive, run=str(path)).run == str(path)


@pytest.mark.parametrize("is_run", [False, True], ids=["a file", "a run"])
@pytest.mark.parametrize(
    "said",
    [
        {"r": 30_000_000},
        {"r": "4"},
        {"target_modules": "(a|a)*(a|aa)*(a|a)*$"},
        {"target_modules": ["(x+x+)+y"]},
        {"rank_pattern": {"(x+x+)+y": 4}},
        {"rank_pattern": {"to_q": 30_000_000}},
        {"alpha_pattern": {"(.*)*z": 4}},
        {"lora_alpha": None},
        {"rank_pattern": None},
    ],
    ids=str,
)
def test_what_a_lora_says_of_itself_has_bounds(tiny, drive, tmp_path, said, is_run):
    path = hostile_lora(tmp_path / LORA, **PLAIN | said)
    within(10, lambda: lora_refused(path, tiny, drive, is_run))


def lora_refused(path: Path, tiny: Path, drive, is_run: bool = False) -> None:
    if is_run:
        pipeline = loading.load(str(tiny), drive=drive).pipeline
        with pytest.raises(InputError, match="does not fit"):
            loading.load_weights(pipeline, path.parent)
    else:
        with pytest.raises(InputError, match="does not fit"):
            loading.load(str(tiny), drive=drive, run=str(path))


@pytest.mark.parametrize("shapes", [((30_000_000, 0), (16, 0)), ((4, 16), (16, 2000)),
                                    ((2000, 16), (16, 2000)), ((4, 17), (16, 4))])  # fmt: skip
def test_the_shapes_of_a_lora_are_the_models(tiny, drive, tmp_path, shapes):
    down, up = (torch.zeros(shape, dtype=torch.int8) for shape in shapes)
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    path = hostile_lora(tmp_path / "shapes.safetensors", tensors=tensors)
    within(10, lambda: lora_refused(path, tiny, drive))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_lora_that_was_trained_to_pieces_is_refused(tiny, drive, tmp_path, value):
    """It would draw black after a minute on a GPU, and blame the base model."""
    down, up = torch.zeros(4, 16), torch.full((16, 4), value)
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    path = hostile_lora(tmp_path / "nan.safetensors", tensors=tensors)
    with pytest.raises(InputError, match="no number"):
        loading.load(str(tiny), drive=drive, run=str(path))


@pytest.mark.parametrize("length", [2**63, 2**40, 90_000_000])
def test_the_head_of_a_file_has_bounds(tiny, drive, tmp_path, length):
    path = tmp_path / "head.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", length) + b"{")
        file.truncate(100_000_000)  # sparse
    with pytest.raises(InputError, match="head"):
        loading.load(str(tiny), drive=drive, run=str(path))


# ---- Checksums ----


@pytest.mark.parametrize("text", ["{}", "[]", "7", '{"sha256": 7}', '{"sha256": {"a": 7}}', "{",
                                  '{"sha256": {"../../x.safetensors": "0"}}', '{"source": []}',
                                  '{"sha256": {}, "source": 7}', "[" * 99999])  # fmt: skip
def test_odd_checksums_end_in_a_sentence_and_not_in_waiting(tiny, drive, tmp_path, text):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    (folder / "checksums.json").write_text(text)
    within(10, lambda: refused(folder, drive))


def test_forged_checksums_are_not_believed(tiny, drive, tmp_path):
    """Neither in a picture's hashes nor for where the weights came from."""
    folder = shutil.copytree(tiny, tmp_path / "folder")
    sums = {"vae/diffusion_pytorch_model.safetensors": "0" * 64}
    (folder / "checksums.json").write_text(json.dumps({"source": "x", "sha256": sums}))
    assert digests.digest_of(folder) == digests.digest_of(tiny)
    kept = drive.models / "sd2.1-base"
    shutil.copytree(tiny, kept)
    (kept / "checksums.json").write_text(json.dumps({"source": "a/b@123", "sha256": {}}))
    _, source = loading.find_weights(REGISTRY["sd2.1-base"], drive)
    assert source == "a/b@123, by its checksums.json"


def test_a_digest_that_fails_does_not_make_a_picture_wait(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "gone.safetensors").symlink_to(tmp_path / "elsewhere")
    said = digests.digest_in_background(tmp_path).result(timeout=60)
    assert said == "unknown (No such file or directory)"


# ---- Odd configurations and records end in a sentence ----


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("unet/config.json", {"sample_size": None}),
        ("unet/config.json", {"sample_size": "8"}),
        ("unet/config.json", {"sample_size": [8, 8]}),
        ("unet/config.json", {"cross_attention_dim": "wide"}),
        ("vae/config.json", {"block_out_channels": 7}),
        ("vae/config.json", {"block_out_channels": []}),
        ("vae/config.json", {"scaling_factor": None}),
        ("text_encoder/config.json", {"max_position_embeddings": None}),
        ("text_encoder/config.json", {"hidden_act": ["gelu"]}),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}),
        ("scheduler/scheduler_config.json", {"beta_start": "low"}),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1] * 90_000}),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "long"}),
    ],
    ids=str,
)
def test_an_odd_configuration_ends_in_one_sentence(tiny, drive, tmp_path, file, values):
    folder = shutil.copytree(tiny, tmp_path / "folder")
    change(folder / file, **values)
    with pytest.raises(S2iError) as error:
        draw(loading.load(str(folder), drive=drive), "a cat", ONE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"seeds": "1"}, {"seeds": []}, {"seeds": [1] * 5000}, {"seeds": ["a"]}, {"index": 9},
        {"index": -1}, {"index": "0"}, {"index": True}, {"steps": "many"}, {"steps": 10**9},
        {"seed": None}, {"guidance_scale": "high"}, {"guidance_interval": 3},
        {"guidance_interval": [0, 0.5, 1]}, {"scheduler": ["dpm++"]}, {"precision": "nn"},
        {"precision": 7}, {"subjects": 5}, {"subjects": [{"name": 7}]}, {"subjects": ["Rex"]},
        {"subjects": [{"evil": 1}]}, {"transcript": "said"}, {"transcript": {"text": 1}},
        {"prompt": 7}, {"negative": ["x"]}, {"prompt": None}, {"subject_guidance": "half"},
        {"subject_guidance": 2}, {"subject_guidance": None},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_record_ends_in_one_sentence(pocket_record, pocket, values):
    with pytest.raises(InputError) as error:
        redo(pocket, pocket_record | values)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def pocket_record(pocket):
    [picture] = draw(pocket, "a red car", ONE)
    return json.loads(json.dumps(picture.record))


# ---- Anything else ----

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 10**9, 4e8])
ODD = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
FILES = (
    "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
    "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json",
    "text_encoder/adapter_config.json", "checksums.json",
)  # fmt: skip


def cases(function):
    """Have it tried with 60 cases, and with 1,000 in `make full`."""
    count = 1000 if "--full" in sys.argv else 60
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    options = {"max_examples": count, "deadline": None, "suppress_health_check": checks}
    return settings(**options)(function)


def test_a_name_in_a_file_ends_no_line_and_moves_no_cursor(tiny, drive, tmp_path):
    """Found by the odd files below: what a key is called stands in the message."""
    folder = tmp_path / "folder"
    shutil.copytree(tiny, folder)
    path = folder / "unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"a\n\x1b[2Jb": 10**9}))
    with pytest.raises(InputError, match="is 1000000000") as refused:
        loading.load(str(folder), drive=drive)
    assert str(refused.value).isprintable()


@pytest.mark.slow
@cases
@given(st.data())
def test_odd_json_in_a_folder_ends_in_our_error(tiny, drive, tmp_path_factory, data):
    """A key more, a key changed, or something else altogether; the folder loads or is refused."""
    file = data.draw(st.sampled_from(FILES))
    path = tiny / file
    good = json.loads(path.read_text()) if path.is_file() else {}
    keys = st.sampled_from(sorted(good)) if good else st.text(max_size=9)
    odd = st.dictionaries(keys | st.text(max_size=9), ODD, min_size=1, max_size=2)
    content = data.draw(odd.map(lambda values: good | values) | ODD)
    folder = tmp_path_factory.mktemp("odd") / "folder"
    shutil.copytree(tiny, folder)
    (folder / file).write_text(json.dumps(content))
    seen = set(sys.modules)

    def load() -> None:
        try:
            loading.load(str(folder), drive=drive)
        except S2iError as error:
            assert "\n" not in str(error)

    within(10, load)
    new = {name for name in set(sys.modules) - seen if not name.startswith(OURS)}
    assert not new, new
    shutil.rmtree(folder.parent)


OURS = (
    "diffusers", "transformers", "torch", "accelerate", "tokenizers", "safetensors", "s2i_lib",
    "peft", "huggingface_hub", "encodings", "numpy", "PIL", "scipy", "google.protobuf",
)  # fmt: skip


@cases
@given(
    header=st.dictionaries(
        st.text(max_size=9) | st.sampled_from([f"{LAYER}.lora_A.weight", "__metadata__"]),
        ODD | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "I8", "X"]),
                "shape": st.lists(st.integers(0, 2**40), max_size=3),
                "data_offsets": st.lists(st.integers(0, 2**40), min_size=2, max_size=2),
            }
        ),
        max_size=3,
    ),
    length=st.none() | st.integers(0, 2**64 - 1),
    rest=st.binary(max_size=64),
)  # fmt: skip
def test_an_odd_head_of_a_file_ends_in_our_error(tiny, drive, tmp_path, header, length, rest):
    text = json.dumps(header).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + rest)

    def load() -> None:
        with pytest.raises(S2iError):
            loading.load(str(tiny), drive=drive, run=str(path))

    within(10, load)


def test_the_hub_network_is_not_looked_for_in_the_working_folder(drive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facebook" / "dino-vits16").mkdir(parents=True)
    with pytest.raises(S2iError, match=r"could not be found. Tried:"):
        find_network("facebook/dino-vits16", drive)
