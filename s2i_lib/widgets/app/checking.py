"""Checks the photos of a subject as they arrive, and shows what training will see of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import S2iError
from s2i_lib.photos.dataset import build_dataset
from s2i_lib.photos.manifest import inspect_dataset
from s2i_lib.photos.own_png import open_png
from s2i_lib.photos.reading import encode_image
from s2i_lib.storage.disk import fault_of
from s2i_lib.storage.layout import Drive
from s2i_lib.widgets.app.part import Message, drop_what_is_displayed
from s2i_lib.widgets.photos.folder import THUMBNAIL_PX, PhotoFolder
from s2i_lib.widgets.studio.worker import Worker

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.photos.inspection import Look
    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.photos.quality import Verdict
    from s2i_lib.photos.subject import Subject

AGAIN_S, MOST_WAIT_S = 3.0, 60.0  # after a fault of the Drive; each wait is twice the one before
QUIET_S = 0.6  # without another photo, until those that came are checked
GROUND = (46, 125, 91)  # in place of what is not the subject, as on the contact sheet


class CheckedPhotos(PhotoFolder):
    """Photos that are shown as training sees them, once they have been checked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.dataset: Dataset | None = None
        self._previews: dict[str, bytes] = {}

    def thumbnail(self, name: str, size_px: int = THUMBNAIL_PX) -> bytes:
        """Return a photo's crop, with green for what is cut away; of others the photo."""
        if name in self._previews and size_px == THUMBNAIL_PX:
            return self._previews[name]
        image = self._crop_of(name)
        if image is None:
            return super().thumbnail(name, size_px)
        image.thumbnail((size_px, size_px))
        return encode_image(image, "JPEG", quality=85)

    def take_look(self, look: Look) -> None:
        """Show a photo as it was just seen, until the whole set has been checked."""
        verdict = look.verdict
        self._previews.pop(verdict.photo, None)
        if not verdict.is_kept or verdict.crop is None or look.thumb is None:
            return
        ratio = look.thumb.width / (verdict.width or look.thumb.width)
        left, top, right, bottom = (edge * ratio for edge in verdict.crop.corners)
        side, box = (THUMBNAIL_PX, THUMBNAIL_PX), (left, top, right, bottom)
        mask = look.mask.resize(side, box=box) if look.mask and verdict.cut_out else None
        crop = _on_green(look.thumb.convert("RGB").resize(side, box=box), mask)
        self._previews[verdict.photo] = encode_image(crop, "JPEG", quality=85)

    def take_dataset(self, dataset: Dataset) -> None:
        """Show photos as they are in their dataset from now on."""
        self.dataset = dataset
        self._previews.clear()

    def _crop_of(self, name: str) -> Image | None:
        dataset = self.dataset
        verdict = next((v for v in dataset.verdicts if v.photo == name), None) if dataset else None
        if dataset is None or verdict is None or not (verdict.is_kept and verdict.image):
            return None
        path = dataset.folder / verdict.image
        if not path.is_file():
            return None
        crop = open_png(path).convert("RGB")
        mask = dataset.mask_of(path)
        return _on_green(crop, open_png(mask).convert("L").resize(crop.size) if mask else None)


def _on_green(crop: Image, mask: Image | None) -> Image:
    """Return a crop with green for what its mask cuts away."""
    from PIL import Image

    ground = Image.new("RGB", crop.size, GROUND)
    return Image.composite(crop, ground, mask) if mask else crop


@dataclass(frozen=True)
class Checked:
    """What is said of the photos of a subject."""

    verdicts: dict[str, dict[str, Any]]
    """By photo: whether it is used (``kept``), and why or why not (``why``)."""
    messages: tuple[Message, ...]
    advice: tuple[str, ...]
    """Sentences on the set as a whole."""
    left_out: tuple[str, ...]
    """A sentence on each photo that is left out."""


def entry_of(verdict: Verdict) -> dict[str, Any]:
    """Return what the strip shows of a verdict."""
    return {"kept": verdict.is_kept, "why": verdict.reason}


def describe(dataset: Dataset) -> Checked:
    """Say for the page what became of each photo."""
    kept = len(dataset.images)
    key = "app_checked_one" if kept == 1 else "app_checked"
    said = (key, {"kept": str(kept), "count": str(len(dataset.verdicts))})
    verdicts = {v.photo: entry_of(v) for v in dataset.verdicts}
    left_out = tuple(f"{v.photo}: {v.reason}" for v in dataset.verdicts if not v.is_kept)
    return Checked(verdicts, (said,), dataset.advice, left_out)


class Checking:
    """Builds the dataset of one subject again whenever its photos have changed.

    Parameters
    ----------
    said : callable
        ``said(messages)`` is told how far it is.
    looked : callable
        ``looked(name, look)`` gets the name of the subject, and what was just seen of a photo.
    ended : callable
        ``ended(dataset)`` gets what came of it.
    failed : callable
        ``failed(error)`` is told why there is none; where the Drive is at fault it is tried again.
    """

    def __init__(
        self,
        said: Callable[[tuple[Message, ...]], None],
        looked: Callable[[str, Look], None],
        ended: Callable[[Dataset], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._said, self._looked, self._ended, self._failed = said, looked, ended, failed
        self._worker = Worker(failed)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is checked; never in a cell that the page needs."""
        return self._worker.wait(timeout_s)

    def cancel(self) -> None:
        """Stop; nobody wants these photos any more."""
        self._worker.cancel()

    def check(self, drive: Drive, subject: Subject) -> None:
        """Check all photos of a subject soon; a newer call takes the place of this one."""
        self._worker.submit(lambda: self._check(drive, subject))

    def _check(self, drive: Drive, subject: Subject) -> None:
        drop_what_is_displayed()
        self._said((("app_waiting_photos", {}),))
        self._pause(QUIET_S)
        wait_s = AGAIN_S
        while True:
            try:
                dataset = self._build(drive, subject)
                break
            except (S2iError, OSError) as error:
                if fault_of(error) is None:
                    raise
                self._failed(error)
            self._pause(wait_s)
            wait_s = min(2 * wait_s, MOST_WAIT_S)
        self._ended(dataset)

    def _build(self, drive: Drive, subject: Subject) -> Dataset:
        def looked(done: int, total: int, look: Look) -> None:
            self._worker.check()
            self._looked(subject.name, look)
            self._said((("app_checking", {"done": str(done), "total": str(total)}),))

        return build_dataset(subject, drive, callback=looked)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._worker.check()
            time.sleep(0.05)


def checked_before(drive: Drive, name: str, photos: list[str]) -> Dataset | None:
    """Return the dataset of an earlier check, where it is whole and of these very photos."""
    try:
        dataset, damaged = inspect_dataset(drive, name)
    except (S2iError, OSError):
        return None
    is_same = sorted(v.photo for v in dataset.verdicts) == sorted(photos)
    return dataset if is_same and not damaged else None
