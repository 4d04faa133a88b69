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
from s2i_lib.storage.layout import Drive
from s2i_lib.widgets.app.part import Message, drop_what_is_displayed
from s2i_lib.widgets.capture import THUMBNAIL_PX, PhotoFolder
from s2i_lib.widgets.studio.worker import Worker

if TYPE_CHECKING:
    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.photos.subject import Subject

QUIET_S = 0.6  # without another photo, until those that came are checked
GROUND = (46, 125, 91)  # in place of what is not the subject, as on the contact sheet


class CheckedPhotos(PhotoFolder):
    """Photos that are shown as training sees them, once they have been checked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.dataset: Dataset | None = None

    def thumbnail(self, name: str, size_px: int = THUMBNAIL_PX) -> bytes:
        """Return a photo's crop, with green for what is cut away; of others the photo."""
        image = self._crop_of(name)
        if image is None:
            return super().thumbnail(name, size_px)
        image.thumbnail((size_px, size_px))
        return encode_image(image, "JPEG", quality=85)

    def _crop_of(self, name: str) -> Any:
        from PIL import Image

        dataset = self.dataset
        verdict = next((v for v in dataset.verdicts if v.photo == name), None) if dataset else None
        if dataset is None or verdict is None or not (verdict.is_kept and verdict.image):
            return None
        path = dataset.folder / verdict.image
        if not path.is_file():
            return None
        crop = open_png(path).convert("RGB")
        if mask := dataset.mask_of(path):
            ground = Image.new("RGB", crop.size, GROUND)
            crop = Image.composite(crop, ground, open_png(mask).convert("L").resize(crop.size))
        return crop


@dataclass(frozen=True)
class Checked:
    """What is said of the photos of a subject."""

    verdicts: dict[str, dict[str, Any]]
    """By photo: whether it is used (``kept``), and why or why not (``why``)."""
    messages: tuple[Message, ...]
    advice: tuple[str, ...]
    """Sentences on the set as a whole, and on each photo that is left out."""


def describe(dataset: Dataset) -> Checked:
    """Say for the page what became of each photo."""
    kept = len(dataset.images)
    key = "app_checked_one" if kept == 1 else "app_checked"
    said = (key, {"kept": str(kept), "count": str(len(dataset.verdicts))})
    verdicts = {v.photo: {"kept": v.is_kept, "why": v.reason} for v in dataset.verdicts}
    left_out = [f"{v.photo}: {v.reason}" for v in dataset.verdicts if not v.is_kept]
    return Checked(verdicts, (said,), (*dataset.advice, *left_out))


class Checking:
    """Builds the dataset of one subject again whenever its photos have changed.

    Parameters
    ----------
    said : callable
        ``said(messages)`` is told how far it is.
    ended : callable
        ``ended(dataset)`` gets what came of it.
    failed : callable
        ``failed(error)`` is told why there is none.
    """

    def __init__(
        self,
        said: Callable[[tuple[Message, ...]], None],
        ended: Callable[[Dataset], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._said, self._ended = said, ended
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
        until = time.monotonic() + QUIET_S
        while time.monotonic() < until:
            self._worker.check()
            time.sleep(0.05)

        def looked(done: int, total: int, name: str) -> None:
            self._worker.check()
            self._said((("app_checking", {"done": str(done), "total": str(total)}),))

        self._ended(build_dataset(subject, drive, callback=looked))


def checked_before(drive: Drive, name: str, photos: list[str]) -> Dataset | None:
    """Return the dataset of an earlier check, where it is whole and of these very photos."""
    try:
        dataset, damaged = inspect_dataset(drive, name)
    except (S2iError, OSError):
        return None
    is_same = sorted(v.photo for v in dataset.verdicts) == sorted(photos)
    return dataset if is_same and not damaged else None
