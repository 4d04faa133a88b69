"""Keep the record of a dataset: what was said of each photo, and hashes to compare files with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError
from s2i_lib.photos.consent import Consent
from s2i_lib.photos.crop import Box
from s2i_lib.photos.inspection import Look
from s2i_lib.photos.own_png import open_png
from s2i_lib.photos.quality import DatasetOptions, Verdict
from s2i_lib.photos.subject import Subject, load_subject
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Dataset:
    """What training reads."""

    subject: Subject
    folder: Path
    """Folder of the crops: subjects/<name>/dataset."""
    verdicts: tuple[Verdict, ...]
    """Verdicts on all photos, in the order of their names."""
    ignored: tuple[str, ...]
    """Other files that lay among the photos, and were left alone."""
    advice: tuple[str, ...]
    """Advice on the set as a whole, and what to shoot next; a sentence each."""
    contact_sheet: Path
    sha256: str
    """SHA-256 over the names and hashes of all crops."""
    mirror: bool
    """Whether training may mirror the crops."""
    consent: Consent | None = None

    @property
    def images(self) -> tuple[Path, ...]:
        """Return the crops of the photos that are kept: square RGB PNGs."""
        return tuple(self.folder / v.image for v in self.verdicts if v.is_kept and v.image)

    @property
    def manifest(self) -> Path:
        return self.folder.parent / "manifest.json"


def manifest_of(dataset: Dataset, looks: list[Look], options: DatasetOptions) -> bytes:
    """Return the manifest as JSON."""
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "subject": asdict(dataset.subject),
        "sha256": dataset.sha256,
        "mirror": dataset.mirror,
        "consent": dataset.consent.record(dataset.subject.name) if dataset.consent else None,
        "advice": dataset.advice,
        "options": asdict(options),
        "photos": [
            {
                **asdict(look.verdict),
                "sha256": look.sha256,
                "image_sha256": look.png_sha256 if look.verdict.image else None,
                "transform": "upright, 8-bit sRGB, square crop, Lanczos down to max_crop_px",
                **(look.facts or {}),
                "measures": {
                    key: round(value, 4) for key, value in asdict(look.measures).items()
                } if look.measures else None,
            }
            for look in looks
        ],
        "ignored": dataset.ignored,
    }  # fmt: skip
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; InputError where it is damaged or of a newer version."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
        if version == SCHEMA_VERSION:
            for entry in manifest["photos"]:
                _ = [entry[key] for key in ("photo", "method", "crop", "image", "image_sha256")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The manifest {path} cannot be read ({error}). Delete it and build the dataset again."
        ) from error
    if version != SCHEMA_VERSION:
        raise InputError(
            f"The manifest {path} has schema version {version}, and this program reads "
            f"{SCHEMA_VERSION}. Update the program, or delete the file and build the dataset again."
        )
    return manifest


def load_dataset(drive: Drive, name: str) -> Dataset:
    """Load the dataset of a subject, after comparing every crop with the manifest.

    Raises
    ------
    InputError
        There is none, it has no usable photo, or a crop is missing or was changed.
    """
    dataset, damaged = inspect_dataset(drive, name)
    if damaged:
        raise InputError(
            f"{damaged[0]} is missing or not what the manifest says. Build the dataset again with "
            "notebooks/1_capture_dataset.ipynb or `python -m s2i_lib dataset`."
        )
    return dataset


def inspect_dataset(drive: Drive, name: str) -> tuple[Dataset, list[Path]]:
    """Return the dataset of a subject, and those of its crops that are missing or were changed.

    Raises
    ------
    InputError
        There is none, or it has no usable photo.
    """
    home = drive.subject(name)
    if not (home / "manifest.json").is_file():
        load_subject(drive, name)  # says so where not even the subject is known
        raise InputError(
            f"The photos of {name} have not been checked and cropped yet: {home} has no "
            "manifest.json. Run notebooks/1_capture_dataset.ipynb or `python -m s2i_lib dataset`."
        )
    manifest = read_manifest(home / "manifest.json")
    try:
        dataset = Dataset(
            subject=Subject(**manifest["subject"]),
            folder=home / "dataset",
            verdicts=tuple(_verdict_from(entry) for entry in manifest["photos"]),
            ignored=tuple(manifest["ignored"]),
            advice=tuple(manifest["advice"]),
            contact_sheet=home / "contact_sheet.jpg",
            sha256=manifest["sha256"],
            mirror=manifest["mirror"],
            consent=Consent.from_record(manifest["consent"]),
        )
        sums = {e["image"]: e["image_sha256"] for e in manifest["photos"] if e["image"]}
    except (KeyError, TypeError) as error:
        raise InputError(
            f"The manifest {home / 'manifest.json'} lacks {error}. Build the dataset again with "
            "notebooks/1_capture_dataset.ipynb or `python -m s2i_lib dataset`."
        ) from error
    if not dataset.images:
        raise InputError(
            f"None of the photos of {name} can be used; {dataset.contact_sheet} says why. "
            "Take others and run notebooks/1_capture_dataset.ipynb again."
        )
    return dataset, [path for path in dataset.images if not _is_whole(path, sums[path.name])]


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:  # gone, or on a disk that cannot read it any more
        return False


def _verdict_from(entry: dict[str, Any]) -> Verdict:
    fields = {key: entry[key] for key in Verdict.__dataclass_fields__}
    return Verdict(**fields | {"crop": Box(**entry["crop"]) if entry["crop"] else None})


def crops_by_hand(earlier: dict[str, Any]) -> dict[str, Any]:
    """Return the crops that somebody made, each with the hash of the photo for which it holds."""
    return {
        entry["photo"]: (Box(**entry["crop"]), entry["sha256"])
        for entry in earlier.get("photos", [])
        if entry["method"] == "by hand"
    }


def dataset_hash(looks: list[Look]) -> str:
    """Return one SHA-256 for all crops and their names."""
    lines = [f"{look.verdict.image} {look.png_sha256}\n" for look in looks if look.verdict.image]
    return sha256_of("".join(lines).encode())


def open_photo(path: Path) -> Image:
    """Open a crop in RGB; InputError where that fails."""
    try:
        return open_png(path).convert("RGB")
    except InputError as error:
        raise InputError(
            f"The photo {path} cannot be opened ({error}). Build the dataset again with "
            "notebooks/1_capture_dataset.ipynb."
        ) from error
