"""What notebook 1 shows: camera, upload and cropper for photos, and a recorder for the name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.widgets.camera import Camera
    from s2i_lib.widgets.cropper import Cropper
    from s2i_lib.widgets.name_recorder import NameRecorder
    from s2i_lib.widgets.photos.folder import PhotoFolder
    from s2i_lib.widgets.upload import Upload

PREVIEW_PX = 840  # shown at 420 in the crop widget


def photo_folder(drive: Drive, subject: str) -> PhotoFolder:
    """Return the photos of the subject that is called ``subject``; nothing is created yet."""
    from s2i_lib.widgets.photos.folder import PhotoFolder

    return PhotoFolder(drive.subject(subject) / "photos")


def camera(drive: Drive, subject: str) -> Camera:
    """Return a widget that photographs the subject with the browser's camera."""
    from s2i_lib.widgets.camera import Camera

    return Camera(photo_folder(drive, subject))


def upload(drive: Drive, subject: str) -> Upload:
    """Return a widget that brings photos from the computer, a zip, or a folder on the Drive."""
    from s2i_lib.widgets.upload import Upload

    return Upload(photo_folder(drive, subject))


def cropper(drive: Drive, dataset: Dataset) -> Cropper:
    """Return a widget that moves crops; build the dataset again with what it changed."""
    from s2i_lib.widgets.cropper import Cropper

    folder = photo_folder(drive, dataset.subject.name)
    shown = [v for v in dataset.verdicts if v.crop is not None]
    return Cropper(
        lambda name: folder.thumbnail(name, PREVIEW_PX),
        {v.photo: (v.width, v.height) for v in shown},
        {v.photo: (v.crop.left, v.crop.top, v.crop.size) for v in shown if v.crop},
        {v.photo: v.cut_out for v in shown},
        doubts={v.photo: v.doubt for v in shown if v.doubt},
    )


def name_recorder() -> NameRecorder:
    """Return a microphone for the subject's name; its ``teach`` teaches what was recorded."""
    from s2i_lib.widgets.name_recorder import NameRecorder

    return NameRecorder()
