"""How the pocket model is made: properties of the recipe that need neither icons nor training."""

import json
import shutil
import signal
import sys

import numpy as np
import pytest
import torch

from benchmarks import pocket as benchmark
from tools.pocket import icons, unet, vae, world
from tools.pocket.training import SHIPPED, save_state


def test_held_out_pairs_are_never_drawn_for_training():
    rng = np.random.default_rng(0)
    drawn = {(s.noun, s.colour) for s in (world.random_scene(rng) for _ in range(5000))}
    assert len(drawn) > 900
    assert not drawn & set(world.HELD_OUT)
    assert 0.03 < len(world.HELD_OUT) / (len(world.NOUNS) * len(world.COLOURS)) < 0.07


def test_captions_say_what_is_painted():
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = world.random_scene(rng)
        said = world.words(rng, scene).replace(",", "").split()
        assert (scene.count > 1) == bool({"two", "three"} & set(said))
        for size, ways in world.SIZES.items():
            assert (scene.size == size) == bool(set(ways) & set(said))


def test_words_json_is_the_world():
    words = json.loads((SHIPPED / "words.json").read_text())
    assert words == world.known_words(unseen=words["unseen"])
    assert set(words["unseen"]) <= set(words["nouns"])


def test_the_encoder_is_the_pca_it_was_given():
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(192, vae.LATENTS)))[0].T
    mean = rng.normal(size=192) * 0.1
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    patches = pictures.reshape(3, 3, 8, 8, 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(3, 64, 192)
    expected = (patches.double() - torch.tensor(mean)) @ torch.tensor(basis).T
    with torch.no_grad():
        made = vae.build(mean, basis).eval().encode(pictures).latent_dist
    found = made.mean.reshape(3, vae.LATENTS, 64).transpose(1, 2)
    assert (found - expected).abs().max() < 0.02  # of a spread of 0.6: the norm is not quite still
    assert torch.allclose(made.logvar, torch.full_like(made.logvar, vae.LOG_VARIANCE), atol=1e-4)


def test_orthogonalising_makes_singular_values_alike():
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(300, 40, generator=generator) @ torch.diag(torch.logspace(0, -1, 40))
    for matrix in (tall, tall.T):
        before = torch.linalg.svdvals(matrix)
        after = torch.linalg.svdvals(unet.orthogonalised(matrix).float())
        assert before.max() > 3 * before.min()
        assert after.max() < 3 * after.min()
        assert after.max() < 1.4


def test_a_branch_ends_at_a_rate_of_zero_and_the_trunk_keeps_its_own():
    branch = unet.Plan("branch", branch_steps=100)
    assert branch.share(1000, 1000) == 1
    assert 0 < branch.share(1099, 1000) < 0.02
    assert unet.Plan("trunk").share(1000, 0) == unet.Plan("trunk").share(29_999, 0) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", ["while it is watched", "before"])
def test_when_a_worker_dies_the_one_that_waits_for_it_is_ended(when):
    context = torch.multiprocessing.get_context("spawn")
    meet = context.Barrier(2)
    killed = context.Process(target=signal.raise_signal, args=(signal.SIGKILL,), daemon=True)
    crew = [context.Process(target=meet.wait, daemon=True), killed]
    for worker in crew:
        worker.start()
    if when == "before":
        killed.join()
    with pytest.raises(RuntimeError, match="Worker 1 died with exit code -9"):
        unet.watch(crew)
    assert not any(worker.is_alive() for worker in crew)


@pytest.mark.slow
def test_training_does_not_end_as_if_done_when_its_workers_died(tmp_path, monkeypatch):
    """Its workers find no VAE."""
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    shutil.copytree(SHIPPED / "tokenizer", tmp_path / "tokenizer")
    with pytest.raises(RuntimeError, match=r"Worker [01] died with exit code 1 "):
        unet.train(unet.Plan(shards=1))


def test_a_finished_branch_is_left_alone_until_the_trunk_has_gone_on(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    plan = unet.Plan("branch", branch_steps=6)

    def restored(trunk: int, branch: int, fork: int) -> tuple[int, int, int]:
        shared = unet.Shared(torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)}), [], [], [], [], 0)
        for mode, step in (("trunk", trunk), ("branch", branch)):
            state = {"modules": shared.modules.state_dict(), "step": step, "fork": fork}
            state |= {"momentum": [], "squares": [], "ema": []}
            save_state(state, tmp_path / f"unet_{mode}.pt")
        step, fork = unet.restore(shared, plan)
        return step, fork, plan.end(fork)

    assert restored(trunk=10, branch=13, fork=10) == (13, 10, 16)
    assert restored(trunk=20, branch=13, fork=10) == (13, 10, 16)
    assert restored(trunk=10, branch=16, fork=10) == (16, 10, 16)
    assert restored(trunk=20, branch=16, fork=10) == (20, 20, 26)


def test_without_npm_the_icons_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"No npm .* @iconify-json/noto@.* apt-get install npm"):
        icons.fetch(tmp_path / "icons")


def test_without_icons_it_is_said_how_to_draw_them(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    world.icons.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"python -m tools\.pocket\.icons"):
        world.paint(np.random.default_rng(0), world.Scene("cat"))


def run_benchmark(monkeypatch, *options) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.pocket", *map(str, options)])
    benchmark.main()


def test_the_benchmark_makes_the_grids_folder_before_its_work(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=r"model_index\.json"):  # its work begins with a load
        run_benchmark(monkeypatch, "--model", tmp_path, "--grid", tmp_path / "new" / "grid.png")
    assert (tmp_path / "new").is_dir()


def test_the_benchmark_refuses_a_grid_that_is_no_picture_before_its_work(
    tmp_path, monkeypatch, capsys
):
    with pytest.raises(SystemExit):
        run_benchmark(monkeypatch, "--model", tmp_path, "--grid", tmp_path / "grid")
    assert "--grid" in capsys.readouterr().err


def test_the_benchmark_refuses_a_folder_without_photos_before_its_work(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"No photos .*found 0"):
        run_benchmark(monkeypatch, "--model", tmp_path, "--photos", tmp_path)
