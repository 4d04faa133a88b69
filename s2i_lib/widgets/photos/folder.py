"""The photos of one subject on the Drive, as the camera and the upload show and fill them."""

from __future__ import annotations

from pathlib import Path

from s2i_lib.errors import InputError
from s2i_lib.photos.importing import import_zip, keep_photo
from s2i_lib.photos.reading import encode_image, is_photo_name, read_bytes, read_photo
from s2i_lib.storage.disk import list_folder
from s2i_lib.storage.layout import COLAB_MOUNT, at_home, is_folder

THUMBNAIL_PX = 192  # shown at 96, sharp on dense screens


class PhotoFolder:
    """The photos of one subject, in ``subjects/<name>/photos``; what the widgets show and fill.

    Photos are kept as `keep_photo` does: checked, without GPS and EXIF, never over another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused: list[str] = []
        """Sentences on what was not kept of the last zip or folder, beside what was."""

    def names(self) -> list[str]:
        """Return all photos, the oldest first; hidden and other files are left out."""
        files = [f for f in list_folder(self.path) if is_photo_name(f.name) and f.is_file()]
        return [f.name for f in sorted(files, key=lambda f: (f.stat().st_mtime_ns, f.name))]

    def add(self, name: str, data: bytes) -> list[str]:
        """Keep a photo, or the photos of a zip; return the names that they got.

        Raises
        ------
        InputError
            When it is no photo or a broken one, or a zip without a single good one.
        """
        self.refused = []
        if Path(name).suffix.lower() != ".zip":
            return [keep_photo(data, name, self.path).name]
        result = import_zip(data, self.path)
        self.refused = [why for one, why in result.refused if is_photo_name(Path(one).name)]
        if not result.kept:
            reasons = " ".join(reason for _, reason in result.refused[:3]) or "It is empty."
            raise InputError(f"No photo was found in {name}. {reasons}")
        return [path.name for path in result.kept]

    def add_folder(self, folder: str) -> list[str]:
        """Copy the photos of ``folder``: a path, or one below the Drive ("MyDrive/holiday").

        Raises
        ------
        InputError
            When there is no such folder, or no good photo in it.
        """
        source = _find_folder(folder)
        added: list[str] = []
        refused: list[str] = []
        for file in sorted(source.iterdir()):
            if file.is_dir() or not is_photo_name(file.name):
                continue
            try:
                added += self.add(file.name, read_bytes(file))
            except InputError as error:
                refused.append(str(error))
        self.refused = refused
        if not added:
            reasons = " ".join(refused[:3]) or "Put JPEG, PNG or HEIC files there."
            raise InputError(f"No photo was found in the folder {source}. {reasons}")
        return added

    def remove(self, name: str) -> bytes:
        """Delete a photo and return its bytes, so that it can be brought back."""
        file = self._file(name)
        data = file.read_bytes()
        file.unlink()
        return data

    def thumbnail(self, name: str, size_px: int = THUMBNAIL_PX) -> bytes:
        """Return the photo as a JPEG of at most ``size_px`` a side, upright."""
        image = read_photo(self._file(name), at_least_px=size_px).image
        image.thumbnail((size_px, size_px))
        return encode_image(image, "JPEG", quality=85)

    def _file(self, name: str) -> Path:
        file = self.path / name
        if file.parent != self.path or not file.is_file():
            raise InputError(f"There is no photo {name!r} in {self.path}.")
        return file


def _find_folder(folder: str) -> Path:
    """The folder that a person means who types "MyDrive/holiday" or "/content/drive/MyDrive/x"."""
    given = at_home(folder.strip())
    places = [given]
    if not given.is_absolute():
        places += [COLAB_MOUNT.parent / given, COLAB_MOUNT / given]
    for place in places:
        if is_folder(place):
            return place
    tried = ", ".join(str(place) for place in places)
    raise InputError(
        f"There is no folder {folder!r} (tried {tried}). Give the path as the file browser on the "
        "left shows it, for instance MyDrive/holiday."
    )
