"""What the tests share: --full, which also lengthens the tests that have a short form; models."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from s2i_lib.storage.layout import Drive

# Nothing here may wait for a hub: its client is pointed at a port where nobody listens.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# What a test expects to the last bit is a CPU's. `make cuda` asks for the tests of a GPU by name.
is_for_gpu = any("test_cuda" in word for word in sys.argv[1:])
if not is_for_gpu and "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Workers beside each other share the cores, and so do the programs that they start.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))


NEEDED_GB = 8  # the most that make full had below /tmp at once was 6.8


def pytest_configure(config):
    """Property tests try the same examples in every run, so that CI answers for the change alone;
    `make full` tries new ones. No deadline: the machine may be busy."""
    import hypothesis

    is_full = config.getoption("--full")
    hypothesis.settings.register_profile("s2i", derandomize=not is_full, deadline=None)
    hypothesis.settings.load_profile("s2i")


def pytest_sessionstart(session):
    """Say at once what a disk that fills would say late, and by errors that name anything else."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 1e9
    everything = session.config.getoption("--full") or session.config.option.markexpr == "not full"
    if everything and not hasattr(session.config, "workerinput") and free < NEEDED_GB:
        reason = (
            f"All tests need {NEEDED_GB} GB for temporary files, and {folder} has {free:.1f} GB "
            "left. Free some (what stopped test runs left lies there in pytest-of-*), name another "
            "folder with TMPDIR=/path, or run the part that needs little: make quick"
        )
        pytest.exit(reason, returncode=2)


def pytest_collection_modifyitems(items):
    """The longest files first: begun last, they would leave one of two workers idle."""
    longest = ("test_notebooks.py", "test_twin_notebooks.py")
    items.sort(key=lambda item: item.path.name not in longest)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run at the full lengths and counts")


@pytest.fixture(scope="session")
def full(request) -> bool:
    """Whether this is `make full`: tests with a short form run at their full length then."""
    return request.config.getoption("--full")


@pytest.fixture(autouse=True)
def nothing_is_loaded_behind_a_test():
    """Wait for models that a test's studio still loads: the libraries patch torch meanwhile, and
    the next test may build a network of its own without the library's lock."""
    yield
    for thread in threading.enumerate():
        if thread.name in ("studio-load", "load model"):
            thread.join(60)


@pytest.fixture
def drive(tmp_path) -> Drive:
    return Drive(tmp_path / "drive")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A diffusers folder with the tiny model."""
    from tiny_model import make_pipeline

    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def dataset(tmp_path):
    """Photos of a drawn cat."""
    from tiny_model import draw_dataset

    return draw_dataset(tmp_path / "photos")


@pytest.fixture
def local_disk(tmp_path, monkeypatch) -> Path:
    """Where runs work, in a folder of the test's own."""
    monkeypatch.setenv("S2I_LOCAL", str(tmp_path / "local"))
    return tmp_path / "local"


@pytest.fixture(scope="session")
def pocket(tmp_path_factory):
    """The shipped model, loaded once."""
    from s2i_lib.models import loading

    return loading.load("pocket", drive=Drive(tmp_path_factory.mktemp("drive")))


@pytest.fixture(scope="session")
def repositories(tmp_path_factory):
    """The hub's repositories as they are, with tiny networks (tests/twin/repositories.py)."""
    from tests.twin.repositories import write_all

    return write_all(tmp_path_factory.mktemp("repositories"))


@pytest.fixture
def serve_hub(tmp_path, monkeypatch):
    """Serve repositories to the hub's client in this process; its cache begins empty."""
    import huggingface_hub.constants as constants

    from tests.twin.hub import serve

    with contextlib.ExitStack() as stack:

        def start(repositories):
            hub = stack.enter_context(serve(repositories))
            files = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "ENDPOINT", hub.url)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
            monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            return hub

        yield start


@pytest.fixture(scope="session")
def colab_python(tmp_path_factory) -> Path:
    """The Python of an environment with Colab's versions; what cannot be had is said aloud."""
    from tests.colab_python import make_environment

    python, why_not = make_environment(tmp_path_factory.mktemp("colab") / "made")
    if python is None:
        pytest.skip(why_not)
    return python


class Mount:
    """A mounted Drive that misbehaves; ``fault`` says how (see twin/google_drive.py).

    With options it has a cloud, too: ``quota``, ``taken``, ``at_once``, ``bytes_a_second``.
    """

    def __init__(self, folder: Path, **options: float):
        self.behind, self.path = folder / "behind", folder / "mounted"
        self.cloud, self.control, self.options = folder / "cloud", folder / "fault", options
        for place in (self.behind, self.path, self.cloud):
            place.mkdir(parents=True)
        self._mount()

    def _mount(self) -> None:
        self.fault("")
        script = Path(__file__).parent / "twin" / "google_drive.py"
        command = [sys.executable, script, self.behind, self.path, self.control]
        if self.options:
            command += ["--cloud", self.cloud]
        for name, value in self.options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not os.path.ismount(self.path):
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)

    def fault(self, name: str) -> None:
        part = self.control.with_suffix(".new")
        part.write_text(name)
        part.rename(self.control)

    def machine_dies(self) -> None:
        """What was not uploaded is gone; the next machine mounts what Google has."""
        self.process.kill()
        self.close()
        shutil.rmtree(self.behind)
        shutil.copytree(self.cloud, self.behind)
        self._mount()

    def close(self) -> None:
        self.fault("")
        subprocess.run(["fusermount3", "-u", "-z", self.path], check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()


@pytest.fixture
def google_drive(tmp_path):
    """Makes a mounted Google Drive with the given options (see `Mount`)."""
    # Not a failure: containers without /dev/fuse cannot mount anything, whatever is installed.
    if not (Path("/dev/fuse").exists() and shutil.which("fusermount3")):
        pytest.skip("FUSE is missing here, so a Drive that misbehaves cannot be made")
    made: list[Mount] = []

    def make(**options: float) -> Mount:
        made.append(Mount(tmp_path / f"fuse-{len(made)}", **options))
        return made[-1]

    yield make
    for mount in made:
        mount.close()


@pytest.fixture
def faulty_drive(google_drive):
    """One without a cloud."""
    return google_drive()
