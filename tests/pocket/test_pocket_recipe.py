"""How the pocket model is made: properties of the recipe that need neither icons nor training."""

import copy
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import pocket as benchmark
from tools.pocket import assemble, gpu, icons, judge, mix, unet, vae, world
from tools.pocket.training import SHIPPED, load_state, save_state


def test_the_encoder_is_the_pca_it_was_given():
    g = torch.Generator().manual_seed(0)
    first = torch.linalg.qr(torch.randn(192, vae.HALF, generator=g))[0].T
    second = torch.linalg.qr(torch.randn(4 * vae.HALF, vae.LATENTS, generator=g))[0].T
    p = {
        "first": first,
        "offset": torch.randn(vae.HALF, generator=g) * 0.1,
        "second": second * 0.5,
        "shift": torch.randn(vae.LATENTS, generator=g) * 0.1,
    }
    pictures = torch.rand(2, 3, 128, 128, generator=g) * 2 - 1
    expected = vae.encode(pictures, p)
    with torch.no_grad():
        made = vae.build(p).eval().encode(pictures).latent_dist
    assert made.mean.shape == (2, vae.LATENTS, 8, 8)
    assert torch.allclose(made.logvar, torch.full_like(made.logvar, vae.LOG_VARIANCE), atol=1e-4)
    assert (made.mean - expected).abs().max() < 0.03  # of 1: the norm is not quite still


def test_a_checkpoint_is_there_even_between_two_renamings(tmp_path):
    path = tmp_path / "state.pt"
    assert load_state(path) is None
    save_state({"step": 1}, path)
    save_state({"step": 2}, path)
    assert load_state(path) == {"step": 2}
    path.unlink()
    assert load_state(path) == {"step": 1}


def test_orthogonalising_makes_singular_values_alike():
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(300, 40, generator=generator) @ torch.diag(torch.logspace(0, -1, 40))
    for matrix in (tall, tall.T):
        before = torch.linalg.svdvals(matrix)
        after = torch.linalg.svdvals(unet.orthogonalised(matrix).float())
        assert before.max() > 3 * before.min()
        assert after.max() < 3 * after.min()
        assert after.max() < 1.4


def test_a_step_on_a_gpu_moves_what_a_step_on_a_cpu_moves():
    torch.manual_seed(0)
    parts = {
        "unet": torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 8, 3)),
        "token_embedding": torch.nn.Embedding(5, 4),
        "narrow": torch.nn.Linear(6, 4),
    }
    here = torch.nn.ModuleDict(parts)
    there = copy.deepcopy(here)
    zeros = [torch.zeros_like(p) for p in here.parameters()]
    shared = unet.Shared(
        here, [[torch.randn_like(z) for z in zeros]], [z.clone() for z in zeros],
        [z.clone() for z in zeros], [z.clone() for z in zeros],
        torch.zeros(1), torch.zeros(()), torch.zeros(()),
    )  # fmt: skip
    optimizer = gpu.Optimizer(there, torch.device("cpu"))
    optimizer.set_share(0.5)
    kinds = set()
    for step in range(3):
        for p, gradient in zip(there.parameters(), shared.gradients[0], strict=True):
            p.grad = gradient.clone()
        optimizer.step()
        for i, (name, p) in enumerate(here.named_parameters()):
            kinds.add(kind := unet.kind_of(name, p))
            with torch.no_grad():
                unet.update(shared, p, i, kind, 0.5, step, 0.9)
    assert kinds == {"matrix", "embedding", "other"}
    for mine, its in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(mine, its, atol=2e-5, rtol=1e-3)


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
        one = torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)})
        zero = torch.zeros((), dtype=torch.long)
        shared = unet.Shared(one, [], [], [], [], torch.zeros(1), zero.clone(), zero.clone())
        for mode, step in (("trunk", trunk), ("branch", branch)):
            state = {"modules": shared.modules.state_dict(), "step": step, "fork": fork, "seen": 7}
            state |= {"momentum": [], "squares": [], "ema": []}
            save_state(state, tmp_path / f"unet_{mode}.pt")
        step, fork = unet.restore(shared, plan)
        return step, fork, plan.end(fork)

    assert restored(trunk=10, branch=13, fork=10) == (13, 10, 16)
    assert restored(trunk=20, branch=13, fork=10) == (13, 10, 16)
    assert restored(trunk=10, branch=16, fork=10) == (16, 10, 16)
    assert restored(trunk=20, branch=16, fork=10) == (20, 20, 26)


def test_a_branch_begins_with_the_weights_of_a_gpu_and_then_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    of_gpu = torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)})
    save_file(of_gpu.state_dict(), tmp_path / "ema.safetensors")
    begun_from = str(tmp_path / "ema.safetensors")
    plan = unet.Plan("branch", branch_steps=6, rate=0.5, begin_from=begun_from)

    def restored() -> tuple[int, int, torch.Tensor, torch.Tensor]:
        one = torch.nn.ModuleDict({"one": torch.nn.Linear(1, 1)})
        zero = torch.zeros((), dtype=torch.long)
        ema = [torch.zeros_like(p) for p in one.parameters()]
        shared = unet.Shared(one, [], [], [], ema, torch.zeros(1), zero.clone(), zero.clone())
        return *unet.restore(shared, plan), one["one"].weight.detach(), ema[0]

    step, fork, weight, average = restored()
    assert step == fork
    assert weight == average == of_gpu["one"].weight
    assert plan.share(fork, fork) < 0.02, "it warms up"
    assert max(plan.share(fork + k, fork) for k in range(6)) <= 0.5
    moved = {"one.weight": torch.full((1, 1), 7.0), "one.bias": torch.zeros(1)}
    state = {"modules": moved, "step": step + 2, "fork": fork, "seen": 256, "momentum": []}
    averages = [torch.full((1, 1), 6.0), torch.zeros(1)]
    save_state(state | {"squares": [], "ema": averages}, tmp_path / "unet_branch.pt")
    assert restored() == (step + 2, fork, 7.0, 6.0)


def test_weights_are_mixed_by_their_share(tmp_path):
    gpus = {"unet.w": torch.full((2,), 1.0).half(), "text.w": torch.full((2,), 5.0).half()}
    save_file(gpus, tmp_path / "ema.safetensors")
    for file in mix.FILES.values():
        (tmp_path / "on" / file).parent.mkdir(parents=True)
        weights = {"w": torch.full((2,), 3.0), "ids": torch.arange(2)}
        save_file(weights, tmp_path / "on" / file, {"format": "pt"})
    mix.mix(tmp_path / "ema.safetensors", tmp_path / "on", 0.25, tmp_path / "out")
    unet_made, text_made = (load_file(tmp_path / "out" / file) for file in mix.FILES.values())
    assert unet_made["w"].tolist() == [1.5, 1.5]
    assert text_made["w"].tolist() == [4.5, 4.5]
    assert unet_made["ids"].tolist() == [0, 1]


def test_a_judge_out_of_a_snapshot_is_finished(tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    weights = judge.Judge().state_dict()
    save_state({"judge": weights}, tmp_path / "judge.pt")  # as `snapshot.restore` does
    made = judge.train(10).state_dict()
    assert all(torch.equal(made[name], weight) for name, weight in weights.items())


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


def test_what_ships_is_not_written_without_a_scorer_of_its_own(tmp_path, monkeypatch):
    """The one that lies there would score the new pictures."""
    monkeypatch.setenv("S2I_POCKET_WORK", str(tmp_path))
    before = sorted(SHIPPED.rglob("*"))
    with pytest.raises(SystemExit, match=r"No scorer in .*python -m tools\.pocket\.scorer"):
        assemble.assemble(tmp_path / "unet_branch", SHIPPED)
    assert sorted(SHIPPED.rglob("*")) == before
