"""Keep the record of a dataset: what was said of each photo, and hashes to compare files with."""

from __future__ import annotations

import html
import logging
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
from s2i_lib.storage.json_file import TEXT_OR_NONE, check_fields, load_object, read_json
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
ODD = (ValueError, KeyError, TypeError)  # raised where a record is not what it should be
CHOICES = "choices.json"  # consent, crops by hand, choices of masks: nobody can make them again
_BOX = {"left": int, "top": int, "size": int}
CHOICES_SHAPE = {
    "consent": (dict, type(None)),
    "written": {"*": [str]},
    "photos": [
        {
            "photo": str,
            "verdict": str,
            "reason": str,
            "method": TEXT_OR_NONE,
            "crop": (dict, type(None)),
            "image": TEXT_OR_NONE,
            "sha256": TEXT_OR_NONE,
            "image_sha256": TEXT_OR_NONE,
            "mask_sha256": TEXT_OR_NONE,
            "width": int,
            "height": int,
            "cut_out": bool,
            "doubt": str,
        }
    ],
}
MASKS = "masks"  # folder beside the crops: the subject's mask of each, under its name


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

    masks: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each mask by the name of its crop."""

    def mask_of(self, image: Path) -> Path | None:
        """Return the mask of a crop whose subject is to be cut out; None where it is used whole.

        One that is gone, or was changed by hand, is none.
        """
        path = self.folder / MASKS / image.name
        is_cut_out = {v.image: v.cut_out for v in self.verdicts}.get(image.name, False)
        if not is_cut_out or not _is_whole(path, self.masks.get(image.name, "")):
            return None
        return path

    @property
    def lost_masks(self) -> str:
        """Sentence on masks that are gone or were changed by hand; empty where all are right."""
        wanted = {v.image for v in self.verdicts if v.cut_out}
        lost = [i.name for i in self.images if i.name in wanted and self.mask_of(i) is None]
        if not lost:
            return ""
        shown = ", ".join(lost[:5]) + " ..." * (len(lost) > 5)
        return (
            f"The masks of {len(lost)} photos ({shown}) are gone or were changed by hand, so these "
            "are learned whole. To have them again, build the dataset with notebook 1."
        )

    def as_markdown(self) -> str:
        """Return the verdicts as a table, with the advice below; names of files stay names."""
        rows = [f"| {_plain(v.photo)} | {v.verdict} | {_plain(v.reason)} |" for v in self.verdicts]
        advice = [f"- {_plain(sentence)}" for sentence in self.advice]
        return "\n".join(["| Photo | Verdict | Why |", "|---|---|---|", *rows, "", *advice])

    @property
    def manifest(self) -> Path:
        return self.folder.parent / "manifest.json"


def manifest_of(dataset: Dataset, looks: list[Look], options: DatasetOptions) -> dict[str, Any]:
    """Return the manifest as a record."""
    return {
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
                "mask_sha256": look.mask_sha256 if look.verdict.image else None,
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


def _plain(text: str) -> str:
    """Return text that Markdown and HTML show as it is: no tag, link, picture, or cell's end."""
    shown = html.escape(" ".join(text.split()))
    return re.sub(r"[\\`*_{}\[\]()#+!|~$:]", lambda sign: f"&#{ord(sign[0])};", shown)


def choices_in(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what people said: it is kept in `CHOICES`, too, for when the manifest is damaged."""
    fields = ("photo", "method", "crop", "sha256", "cut_out", "doubt")
    photos = [{key: photo[key] for key in fields} for photo in manifest["photos"]]
    return {"consent": manifest["consent"], "photos": photos}


def read_earlier(home: Path) -> dict[str, Any]:
    """Return the manifest of a subject's folder; of a damaged or missing one what people chose.

    Raises
    ------
    InputError
        When it is of a newer version.
    """
    if (home / "manifest.json").exists():
        try:
            return read_manifest(home / "manifest.json")
        except DamagedManifestError as error:
            log.warning("%s What was chosen by hand is taken from %s.", error, CHOICES)
    try:
        choices = load_object(home / CHOICES)
        _check_choices(choices)
    except FileNotFoundError:
        return {}
    except (OSError, *ODD) as error:
        log.warning("%s cannot be read (%s): nothing is known of what was chosen.", CHOICES, error)
        return {}
    return choices


def hashes_of_crops(home: Path) -> defaultdict[str, set[str]]:
    """Return, by file name, the SHA-256 of crops and masks that builds here wrote or began to."""
    hashes: defaultdict[str, set[str]] = defaultdict(set)
    for name in ("manifest.json", CHOICES):
        record = read_json(home / name, CHOICES_SHAPE)
        for image, written in record.get("written", {}).items():
            hashes[image] |= set(written)
        for photo in record.get("photos", []):
            if image := photo.get("image"):
                own = (photo.get("image_sha256"), photo.get("mask_sha256"))
                hashes[image] |= set(filter(None, own))
    return hashes


class DamagedManifestError(InputError):
    """A manifest that is cut, or says something else than manifests do."""


def _check_choices(record: dict[str, Any]) -> None:
    check_fields(record, CHOICES_SHAPE)
    for entry in record["photos"]:
        _ = [entry[key] for key in ("photo", "method", "crop", "sha256")]
        if entry["crop"] or entry["method"] == "by hand":
            check_fields(entry["crop"], _BOX, "a crop")
            Box(**entry["crop"])


def _check_manifest(manifest: dict[str, Any]) -> None:
    """Check what is read from a manifest; the names in it lead into no other folder."""
    _check_choices(manifest)
    kinds = {"subject": dict, "sha256": str, "mirror": bool, "ignored": [str], "advice": [str]}
    check_fields(manifest, kinds)
    for entry in manifest["photos"]:
        _ = entry["image_sha256"]
        if entry["image"] and Path(entry["image"]).name != entry["image"]:
            raise ValueError(f"the crop {entry['image']!r} lies elsewhere")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; InputError where it is damaged or of a newer version."""
    try:
        manifest = load_object(path)
        version = manifest["schema_version"]
        if version == SCHEMA_VERSION:
            _check_manifest(manifest)
    except (OSError, *ODD) as error:
        raise DamagedManifestError(
            f"The manifest {path} cannot be read ({error}). Build the dataset again with "
            "notebooks/1_capture_dataset.ipynb or `python -m s2i_lib dataset`."
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
            subject=Subject.from_record(manifest["subject"]),
            folder=home / "dataset",
            verdicts=tuple(_verdict_from(entry) for entry in manifest["photos"]),
            ignored=tuple(manifest["ignored"]),
            advice=tuple(manifest["advice"]),
            contact_sheet=home / "contact_sheet.jpg",
            sha256=manifest["sha256"],
            mirror=manifest["mirror"],
            consent=Consent.from_record(manifest["consent"]),
            masks={
                e["image"]: e["mask_sha256"] for e in manifest["photos"] if e.get("mask_sha256")
            },
        )
        sums = {e["image"]: e["image_sha256"] for e in manifest["photos"] if e["image"]}
    except (KeyError, TypeError, ValueError) as error:
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
    new = {"cut_out": False, "doubt": ""}  # manifests of before had no masks
    fields = {key: entry.get(key, new[key]) if key in new else entry[key]
              for key in Verdict.__dataclass_fields__}  # fmt: skip
    return Verdict(**fields | {"crop": Box(**entry["crop"]) if entry["crop"] else None})


def crops_by_hand(earlier: dict[str, Any]) -> dict[str, Any]:
    """Return the crops that somebody made, each with the hash of the photo for which it holds."""
    return {
        entry["photo"]: (Box(**entry["crop"]), entry["sha256"])
        for entry in earlier.get("photos", [])
        if entry["method"] == "by hand"
    }


def choices_of_mask(earlier: dict[str, Any]) -> dict[str, bool]:
    """Return for which photos somebody chose whether the subject is cut out."""
    return {
        entry["photo"]: entry["cut_out"]
        for entry in earlier.get("photos", [])
        # What was not read has no doubt either, and nobody chose anything.
        if entry["crop"] and "cut_out" in entry and entry["cut_out"] == bool(entry.get("doubt"))
    }


def dataset_hash(looks: list[Look]) -> str:
    """Return one SHA-256 for all crops, their names, and the masks that are used."""
    lines = [
        f"{look.verdict.image} {look.png_sha256} {look.verdict.cut_out and look.mask_sha256}\n"
        for look in looks
        if look.verdict.image
    ]
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
