"""The live panel: what it shows follows from the events, and nothing in it can run."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from s2i_lib.evaluation.model_selection import Point, as_curve
from s2i_lib.storage.run_card import read_card
from s2i_lib.widgets.training_panel import LivePanel, train_on_button


@pytest.fixture
def panel(monkeypatch):
    panel = LivePanel()
    monkeypatch.setattr(panel, "show", lambda: None)  # there is no notebook around a test
    return panel


def lines(first, last, loss=0.5):
    return [
        {"step": s, "instance_loss": loss, "prior_loss": loss / 2} for s in range(first, last + 1)
    ]


def test_progress_and_both_losses_are_shown(panel):
    panel("class_images", {"done": 8, "total": 48})
    assert "Class images: 8 of 48." in panel.html()
    panel("step", {"lines": lines(1, 10), "steps": 40})
    panel("step", {"lines": lines(11, 20), "steps": 40})
    shown = panel.html()
    assert "Step 20 of 40, loss 0.500, 0.0 minutes left." in shown
    assert shown.count("<polyline") == 2 and "prior loss" in shown
    last_x = float(shown.split("points='")[1].split("'")[0].split()[-1].split(",")[0])
    assert last_x == 560


def test_scores_are_curves_with_the_best_step_marked_and_named(panel):
    points = [Point(0, 0.1, 0.3, 0.5), Point(50, 0.8, 0.3, 0.6), Point(100, 0.9, 0.1, 0.9)]
    panel("scores", {"curve": as_curve(points)})
    shown = panel.html()
    assert shown.count("<polyline") == 3 and "prior drift" in shown
    assert "<line x1='280.0' x2='280.0'" in shown, "half way along 560 px"
    assert "step 50, likeness 0.800, prompt fidelity 0.300, prior drift 0.200." in shown
    panel("scores", {"curve": as_curve([Point(0, None, 0.3, None)])})
    shown = panel.html()
    assert shown.count("<polyline") == 1 and "<line" not in shown and "Best" not in shown


def test_the_first_and_the_newest_samples_stand_side_by_side(panel, tmp_path):
    for step in (0, 100, 200):
        path = tmp_path / f"{step}.png"
        Image.new("RGB", (8, 8), (step, 0, 0)).save(path)
        panel("samples", {"step": step, "path": path, "prompts": ["a <b>sks</b> cat"]})
    shown = panel.html()
    assert "Step 0<" in shown and "Step 200<" in shown and "Step 100<" not in shown
    assert "<b>sks" not in shown and "&lt;b&gt;sks" in shown


@pytest.mark.slow
def test_a_large_grid_is_sent_as_a_small_picture(panel, tmp_path):
    """The panel goes to the browser again every ten steps."""
    noise = np.random.default_rng(0).integers(0, 256, (2048, 1024, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    for step in range(5):
        panel("samples", {"step": step, "path": tmp_path / "large.png", "prompts": ["a cat"]})
    assert len(panel.html()) < 2_000_000 < (tmp_path / "large.png").stat().st_size
    data = base64.b64decode(panel.samples[-1][1].split(",")[1])
    assert Image.open(io.BytesIO(data)).size == (640, 1280)


def test_events_of_saving_from_another_thread_change_nothing(panel):
    before = panel.html()
    panel("publishing", {})
    assert panel.html() == before


@pytest.mark.slow
def test_train_on_button_trains_a_finished_run_to_twice_its_steps(drive, dataset, tiny, capsys):
    few = {"steps": 2, "class_image_count": 8, "sample_every": 0, "learning_rate": 1e-3}
    from s2i_lib.training.finetune import FinetuneRun

    training = FinetuneRun(drive, dataset, model=str(tiny), **few)
    run = training.train()
    button, output = train_on_button(training, run).children
    for steps in (4, 8):
        button.click()
        card = read_card(run)
        assert (card["status"], card["step"], button.disabled) == ("finished", steps, False)
    assert f"{run.name} has been trained on." in capsys.readouterr().out
    training.changes |= {"batch_size": 3, "accumulation": 2}
    button.click()
    assert not button.disabled and read_card(run)["step"] == 8
    assert "cannot be computed in 2 equal parts" in output.outputs[0]["text"]
