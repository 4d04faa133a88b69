"""On a free Google Drive, with little room and late uploads, a run starts, goes on and ends.

The Drive is tests/twin/google_drive.py, which says what it was made from. Everything is scaled: a
"GB" here is to this model's state what a GB is to the state of Stable Diffusion, 5.2 GB. AdamW is
not the 8-bit one, which takes seconds a step on a CPU: weights are a sixth of a state, not a third.
"""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tiny_model import draw_dataset, make_pipeline
from tiny_run import SHORT, KilledError, digest, kill_at

from s2i_lib.errors import InputError
from s2i_lib.storage import disk
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import LORA, read_card
from s2i_lib.training import saves, storage_plan
from s2i_lib.training.finetune import FinetuneRun

pytestmark = pytest.mark.slow

STATE_GB = 5.2  # of Stable Diffusion: 866 million parameters, 6 bytes each; here it is 12
FREE_GB = 15.0
UPLOAD_S = 0.3  # that a state takes here: less than a step, as there
OPTIONS = {
    **{k: v for k, v in SHORT.items() if k != "save_every"},
    "with_8bit_adam": False,
    "with_prior": False,
    "sample_prompts": (),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_pipeline(widths=(16, 32)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gb(model):
    """Bytes of a GB, scaled."""
    from s2i_lib.models.loading import load

    with torch.no_grad():
        unet = load(str(model), drive=Drive(model.parent)).pipeline.unet
    return 12 * sum(p.numel() for p in unet.parameters()) / STATE_GB


@pytest.fixture(autouse=True)
def scaled(gb, tmp_path, monkeypatch):
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    monkeypatch.setattr(storage_plan, "LARGE_STATE_GIB", gb / 2**30)
    monkeypatch.setattr(storage_plan, "SAVE_EVERY", 1)
    monkeypatch.setattr(disk, "UPLOAD_BYTES_S", STATE_GB * gb / UPLOAD_S)


class Ground:
    """A Drive with so many GB free, a machine, and runs of one subject on it."""

    def __init__(self, mount, tmp_path, model):
        self.mount, self.model = mount, model
        self.local = tmp_path / "local"
        self.drive = Drive(mount.path / "s2i")
        self.dataset = draw_dataset(tmp_path / "photos")
        self.run = self.drive.runs / "violet" / "tiny-01"
        self.said: list[str] = []

    def train(self, callback=lambda event, info: None, **changes):
        self.said.clear()
        changes = {**OPTIONS, "patience_s": 5, "retry_s": 0.1, **changes}
        changes |= {"callback": callback, "report": self.said.append}
        return FinetuneRun(self.drive, self.dataset, model=str(self.model), **changes).train()

    def heard(self, words: str) -> bool:
        return any(words in line for line in self.said)

    def unhurried(self, event, info):
        """Let each step last until the state before it is in the cloud, however slow this is."""
        until = time.monotonic() + 10
        while event == "step" and not self.is_uploaded() and time.monotonic() < until:
            time.sleep(0.05)

    def is_uploaded(self) -> bool:
        found = [save for run in self.local.rglob(self.run.name) for save in saves.list_saves(run)]
        last = max((saves.age(save)[0] for save in found), default=0)
        due = [self.run / save.name for save in found if saves.age(save)[0] == last]
        if self.heard("no room for a state"):
            due = [save for save in due if not saves.is_state(save)]
        return all(save.exists() and disk.has_had_time(save) for save in due)

    def machine_dies(self):
        shutil.rmtree(self.local, ignore_errors=True)
        self.mount.machine_dies()


@pytest.fixture
def ground(google_drive, tmp_path, model, gb):
    def make(free_gb: float) -> Ground:
        mount = google_drive(
            quota=int(FREE_GB * gb),
            taken=int((FREE_GB - free_gb) * gb),
            at_once=int(0.05 * gb),  # 40 MB are there at once, 3 GB are not (issue 2607)
            bytes_a_second=STATE_GB * gb / UPLOAD_S,
        )
        return Ground(mount, tmp_path, model)

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model):
    """The digest of the run's weights on a Drive without limits."""
    place = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2I_LOCAL", str(place / "local"))
        dataset = draw_dataset(place / "photos")
        said = lambda text: None  # noqa: E731
        drive = Drive(place / "drive")
        run = FinetuneRun(drive, dataset, model=str(model), report=said, **OPTIONS)
        return digest(run.train())


def slow_steps(event, info):
    if event == "step":
        time.sleep(0.4)  # so that uploads have the time that minutes of training give them


@pytest.mark.parametrize(
    ("free_gb", "how"),
    [(14.0, "the last two on the Drive"), (12.0, "the last two on the Drive"),
     (8.0, "one on the Drive"), (4.0, "no room for a state")],
)  # fmt: skip
def test_a_default_run_starts_and_ends_whatever_is_free(ground, whole, free_gb, how):
    place = ground(free_gb)
    run = place.train(place.unhurried)
    assert place.heard(how), place.said
    assert run == place.run and digest(run) == whole
    card = read_card(run)
    assert card["status"] == "finished" and card["options"]["method"] == "full"
    assert not place.heard("did not take"), place.said
    time.sleep(2 * UPLOAD_S)
    place.machine_dies()
    assert digest(place.run) == whole, "the weights are in the cloud"
    storage_gone = [save.name for save in saves.list_saves(place.run)]
    place.train()
    assert place.heard("finished already"), place.said
    assert len(storage_gone) <= 1, "at most the newest waits for the upload of the weights"


def test_full_weights_are_not_begun_where_nothing_could_go_on(ground):
    """1.5 GB take the weights at the end, but none on the way: LoRA's files fit many times."""
    place = ground(1.5)
    asked = FinetuneRun(place.drive, place.dataset, model=str(place.model), **OPTIONS).plan()
    assert "LoRA of rank 8" in str(asked) and not asked.problems
    run = place.train(slow_steps)
    assert place.heard("LoRA of rank 8") and (run / "weights" / LORA).is_file()
    place.train()
    assert place.heard("finished already"), "Run all finds it again"


def test_full_weights_that_are_asked_for_say_what_may_be_lost(ground, whole):
    place = ground(1.5)
    run = place.train(slow_steps, method="full")
    assert place.heard("IF THIS MACHINE GOES BEFORE THE END, THE RUN BEGINS AGAIN")
    assert digest(run) == whole


def test_a_run_is_refused_only_where_nothing_fits(ground):
    place = ground(0.001)
    with pytest.raises(InputError, match=r"on the Drive even if nothing but.* --prune"):
        place.train()


@pytest.mark.parametrize(("free_gb", "is_exact"), [(12.0, True), (8.0, True), (4.0, False)])
def test_when_the_machine_dies_a_new_one_goes_on(ground, whole, free_gb, is_exact):
    place = ground(free_gb)
    with pytest.raises(KilledError):
        place.train(lambda event, info: (slow_steps(event, info), kill_at(7)(event, info)))
    place.machine_dies()
    assert saves.list_saves(place.run), "something to go on from was uploaded"
    run = place.train(slow_steps)
    assert place.heard("goes on at step"), place.said
    assert place.heard("fresh optimizer") == (not is_exact), place.said
    assert (digest(run) == whole) == is_exact
    assert read_card(run)["status"] == "finished"


def listed(folder: Path) -> list[tuple[str, int]] | None:
    """Return all files below a folder, and their sizes; None where one goes meanwhile."""
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return sorted((str(path), path.stat().st_size) for path in files)
    except OSError:
        return None


@pytest.mark.parametrize("free_gb", [12.0, 8.0, 4.0])
def test_at_no_moment_is_the_cloud_without_something_whole(ground, free_gb, tmp_path, monkeypatch):
    """The cloud as it is each time that anything is done; from the first upload on."""
    place = ground(free_gb)
    cloud, found = place.mount.cloud / "s2i" / "runs" / "violet" / "tiny-01", []

    def look(event, info):
        slow_steps(event, info)
        if event in ("class_images", "samples"):
            return
        # Of its own: the thread that trains and the one that publishes may look at once.
        copy = Path(tempfile.mkdtemp(dir=tmp_path)) / "cloud"
        for _ in range(20):  # a copy of one moment: the uploader renames and deletes meanwhile
            before = listed(cloud)
            shutil.rmtree(copy, ignore_errors=True)
            with suppress(shutil.Error):
                if cloud.exists():
                    shutil.copytree(cloud, copy)
                if listed(cloud) == before is not None:
                    break
        else:
            return  # too busy to be looked at
        save = saves.newest_save([copy], lambda text: None)
        is_over = read_card(copy).get("status") == "finished"
        has_weights = is_over and saves.has_weights(copy / "weights")
        found.append((event, bool(save or has_weights)))
        shutil.rmtree(copy.parent)

    place.train(look, steps=12)
    first = [is_whole for _, is_whole in found].index(True)
    assert len(found) - first > 12, "it was looked at often enough"
    assert all(is_whole for _, is_whole in found[first:]), found
    place.machine_dies()
    assert saves.list_saves(place.run) or saves.has_weights(place.run / "weights")
    assert digest(place.train(steps=12))


def test_a_card_that_is_there_before_its_weights_does_not_end_a_run(ground, whole, gb, monkeypatch):
    """The small file is uploaded at once, the weights are not: then the machine goes."""
    monkeypatch.setattr(disk, "UPLOAD_BYTES_S", STATE_GB * gb / (60 * UPLOAD_S))
    place = ground(12.0)

    def stall(event, info):
        slow_steps(event, info)
        if event == "publishing" and list(place.local.rglob("weights")):
            place.mount.fault("uploads stall")

    place.train(stall)
    assert place.heard("Leave this tab open"), place.said
    time.sleep(0.5)
    place.machine_dies()
    assert read_card(place.run).get("status") == "finished"
    assert not saves.has_weights(place.run / "weights")
    run = place.train(slow_steps)
    assert run == place.run and place.heard("goes on at step") and digest(run) == whole


def test_more_steps_go_on_from_the_weights_where_no_state_is_left(ground):
    place = ground(4.0)
    place.train(slow_steps)
    for save in saves.list_saves(place.run):
        saves.remove_save(save)
    run = place.train(slow_steps, steps=10, name="tiny-01")
    assert place.heard("goes on at step 8 of 10, from that step's weights"), place.said
    assert read_card(run)["step"] == 10


def test_a_burst_of_files_that_is_refused_is_written_later(ground, whole):
    place = ground(12.0)
    place.mount.fault("burst of 4")

    def note(event, info):
        slow_steps(event, info)
        if event == "step" and info["lines"][-1]["step"] == 6:
            place.mount.fault("")

    assert digest(place.train(note, patience_s=30)) == whole
    assert place.heard("errno 122") and place.heard("takes files again")
