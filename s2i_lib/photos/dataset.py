"""Make of a subject's photos checked square crops, a contact sheet and a manifest."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from s2i_lib.errors import InputError
from s2i_lib.photos.consent import Consent
from s2i_lib.photos.contact_sheet import draw_contact_sheet
from s2i_lib.photos.crop import Box
from s2i_lib.photos.diversity import advise, find_duplicates
from s2i_lib.photos.importing import import_zip, keep_photo, safe_name
from s2i_lib.photos.inspection import Callback, Inspector, Look, who_checked
from s2i_lib.photos.manifest import (
    CHOICES,
    MASKS,
    Dataset,
    choices_in,
    choices_of_mask,
    crops_by_hand,
    dataset_hash,
    hashes_of_crops,
    manifest_of,
    read_earlier,
)
from s2i_lib.photos.quality import DatasetOptions, Verdict
from s2i_lib.photos.reading import FORMATS, is_photo_name, no_decoder_warnings, read_bytes
from s2i_lib.photos.subject import (
    Subject,
    card_path,
    check_folder_is_its_own,
    check_identifier,
    is_latin,
    load_subject,
    save_subject,
    warn_of_identifier,
    with_spellings,
)
from s2i_lib.storage.files import (
    SCRATCH,
    alone_in,
    free_path,
    make_folder,
    scratch_folder,
    sha256_of,
    sweep,
    write_file,
    write_json,
)
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.layout import (
    NAME_BYTES,
    Drive,
    as_text,
    at_home,
    composed,
    cut_name,
    folder_name,
    is_there,
)

log = logging.getLogger(__name__)

STAGED = f"{SCRATCH}dataset-"  # then the subject's folder and the process: for `s2i_lib.privacy`


def build_dataset(
    subject: Subject,
    drive: Drive,
    *,
    photos: str | Path | None = None,
    options: DatasetOptions | None = None,
    crops: Mapping[str, Box | None] | None = None,
    cut_out: Mapping[str, bool] | None = None,
    consent: Consent | None = None,
    callback: Callback | None = None,
) -> Dataset:
    """Check and crop the photos of a subject, and write what training needs beside them.

    Reads subjects/<name>/photos; writes subjects/<name>/dataset/*.png, contact_sheet.jpg,
    manifest.json and subject.json. The photos themselves stay as they are. Doing it twice gives the
    same bytes.

    Parameters
    ----------
    photos
        A folder, a zip or one photo elsewhere: copies of what can be read first go to the
        subject's photos, without GPS and other EXIF (see `keep_photo`).
    crops
        Name of a photo -> the square to cut from it. It lasts until the photo changes; None takes
        it back.
    cut_out
        Name of a photo -> whether training cuts the subject out of it, or sees it whole. It lasts;
        without a choice a mask is used unless it is doubted.
    consent
        For people: who agrees, and when. Kept in the manifest, so it is asked for once.

    Raises
    ------
    InputError
        No photos at all, no consent, an unknown name in ``crops``, a crop outside of its photo, a
        folder that is another subject's.
    """
    options = options or DatasetOptions()
    check_identifier(subject.identifier, drive)
    [subject] = with_spellings(drive, [subject])
    home = drive.subject(subject.name)
    check_folder_is_its_own(subject, drive)
    warn_of_identifier(subject, drive)
    folder = home / "photos"
    with _alone_at(home), no_decoder_warnings(), _staging_folder(subject) as staged:
        earlier = read_earlier(home)
        consent = _settle_consent(subject, consent, earlier)
        refused, ignored = _take_photos(at_home(photos), folder) if photos else ([], [])
        _shorten_names(folder)
        names, others = _list_photos(folder)
        if not names and not refused:
            raise InputError(
                f"No photos in {folder} (found 0, need 1; {options.few} to {options.many} are "
                "best). Run notebooks/1_capture_dataset.ipynb, or copy photos there."
            )
        crops, cut_out = _by_name(crops, names), _by_name(cut_out, names)
        if unknown := sorted({*crops, *cut_out} - set(names)):
            raise InputError(
                f"There is no photo {unknown[0]!r} to cut. There are: {', '.join(names) or 'none'}."
            )
        by_hand, chosen = crops_by_hand(earlier) | crops, choices_of_mask(earlier) | cut_out
        inspector = Inspector(subject, options, by_hand, Path(staged), chosen)
        looks = list(inspector.inspect_all([folder / name for name in names], callback))
        looks = _without_duplicates(looks, options)
        looks = sorted([*(Look(v) for v in refused), *looks], key=lambda look: look.verdict.photo)
        dataset = _dataset_of(subject, home, looks, options, consent, {*ignored, *others})
        manifest = manifest_of(dataset, looks, options)
        _publish_crops(looks, Path(staged), home, choices_in(manifest))
        _write_contact_sheet(dataset, looks)
        save_subject(drive, subject)
        write_json(dataset.manifest, manifest)
        write_json(home / CHOICES, choices_in(manifest))
    return dataset


@contextmanager
def _alone_at(home: Path) -> Iterator[None]:
    """Have a subject's folder to oneself; two builds would mix their crops."""
    make_folder(home)
    try:
        with alone_in(home):
            with suppress(OSError):  # photos that may only be read are read all the same
                sweep(home / "photos")
            yield
    finally:
        with suppress(OSError):  # only where nothing came of it, so that it is empty
            home.rmdir()


def _dataset_of(
    subject: Subject,
    home: Path,
    looks: list[Look],
    options: DatasetOptions,
    consent: Consent | None,
    ignored: set[str],
) -> Dataset:
    kept = [look.traits for look in looks if look.verdict.is_kept and look.traits]
    advice = advise(kept, len(looks) - len(kept), options)
    if crowded := sum(bool(look.found and look.found.n_others) for look in looks):
        advice = [*advice, _not_alone(crowded, subject.name)]
    if options.is_for_class:
        advice = [*advice, who_checked()]
    if not is_latin(subject.spoken):
        advice = [*advice, _cannot_be_spoken(subject.name)]
    return Dataset(
        subject=subject,
        folder=home / "dataset",
        verdicts=tuple(look.verdict for look in looks),
        ignored=tuple(sorted(ignored)),
        advice=tuple(advice),
        contact_sheet=home / "contact_sheet.jpg",
        sha256=dataset_hash(looks),
        mirror=subject.kind == "animal" if options.mirror is None else options.mirror,
        consent=consent,
        masks={
            look.verdict.image: look.mask_sha256
            for look in looks
            if look.verdict.image and look.mask_sha256
        },
    )


def _write_contact_sheet(dataset: Dataset, looks: list[Look]) -> None:
    sheet = draw_contact_sheet(
        f"{dataset.subject.name}: {sum(v.is_kept for v in dataset.verdicts)} of "
        f"{len(dataset.verdicts)} photos kept",
        dataset.verdicts,
        {look.verdict.photo: (look.thumb, look.mask) for look in looks if look.thumb is not None},
        dataset.advice,
    )
    write_file(dataset.contact_sheet, sheet)


def _not_alone(count: int, name: str) -> str:
    photos = f"{count} photo{'s' * (count > 1)}"
    return (
        f"{photos} with more than one face: a model that learns two people draws a mixture. Take "
        f"photos of {name} alone, or leave these out. (Whether two photos show the same person, "
        "nobody looks.)"
    )


def _cannot_be_spoken(name: str) -> str:
    return (
        f"Whisper writes English in Latin letters, so a spoken English sentence will not match "
        f"{name}. Teach how it sounds: record the name alone three times, and give the files with "
        "--say-name, or say it in notebook 1."
    )


def _by_name(chosen: Mapping[str, Any] | None, names: list[str]) -> dict[str, Any]:
    """Return choices by the names that photos have on the disk, however their letters are made."""
    written = {composed(name): name for name in names}
    return {written.get(composed(name), name): choice for name, choice in (chosen or {}).items()}


def _staging_folder(subject: Subject) -> TemporaryDirectory[str]:
    """Make a folder for crops; its name says whose it is, for `s2i_lib.privacy` after a kill."""
    whose = folder_name(subject.name)[:40]
    return scratch_folder(f"{STAGED.removeprefix(SCRATCH)}{whose}")


def sample_subject(drive: Drive) -> Subject:
    """Put the sample photos that ship with this package on the Drive, if they are not there yet.

    A card that is there stays as it is: runs were taught its identifier.

    Raises
    ------
    InputError
        When a subject of the user's own has that name. Nothing is written then.
    """
    source = Path(__file__).parents[1] / "samples"
    (card,) = source.glob("*/subject.json")
    subject = Subject.from_record(load_object(card))
    samples = {path.name: path.read_bytes() for path in sorted(card.parent.glob("*.jpg"))}
    is_known = card_path(drive, subject.name).is_file()
    there = load_subject(drive, subject.name) if is_known else subject
    photos = drive.subject(subject.name) / "photos"
    own = [(photos / name).read_bytes() for name in _list_photos(photos)[0]]
    is_anothers = bool(own) or there.class_noun != subject.class_noun
    if is_anothers and not set(own) & set(samples.values()):
        raise InputError(
            f"{photos.parent} is that of a subject of your own ({there.phrase}, {len(own)} "
            f"photos), and the sample photos, of a toy car called {subject.name}, would be put "
            "among its photos. Nothing was changed. Go on with your own subject, or name another "
            "Drive folder for the sample (S2I_DRIVE)."
        )
    make_folder(photos)
    for name, data in samples.items():
        keep_photo(data, name, photos)
    if not is_known:
        save_subject(drive, subject)
    return there


def _settle_consent(
    subject: Subject, consent: Consent | None, earlier: dict[str, Any]
) -> Consent | None:
    """Return the consent given now or earlier; refuse to crop people without."""
    consent = consent or Consent.from_record(earlier.get("consent"))
    if subject.kind == "person" and consent is None:
        raise InputError(
            f"{subject.name} is a person, whose consent is needed (a parent's for a child). Give "
            "the name of who agrees and the day: --consent-by "
            f"'{subject.name}' --consent-on {date.today()}, or CONSENT_BY and CONSENT_ON in the "
            "notebook."
        )
    return consent


def _shorten_names(folder: Path) -> None:
    """Rename photos whose names leave no room for .mask.png behind them, or are no text."""
    for name in _list_photos(folder)[0]:
        if len(os.fsencode(name)) > NAME_BYTES - len(".mask.png") or name != as_text(name):
            short = free_path(folder / safe_name(name))
            log.warning("%r is called %s now: its name was too long or no text.", name, short.name)
            (folder / name).rename(short)


def _list_photos(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the photos in a folder, and of everything else there, both sorted."""
    if not folder.is_dir():
        return [], []
    names = sorted(path.name for path in folder.iterdir())
    photos = [name for name in names if is_photo_name(name) and not (folder / name).is_dir()]
    return photos, [as_text(name) for name in names if name not in photos]


def _take_photos(source: Path, folder: Path) -> tuple[list[Verdict], list[str]]:
    """Keep the photos of a folder, a zip or one file; return what is unreadable, what no photo."""
    if not is_there(source):
        raise InputError(f"There is no {source}. Name a folder of photos, a zip, or one photo.")
    if source.resolve() == folder.resolve():
        return [], []
    if source.is_file() and source.suffix.lower() == ".zip":
        imported = import_zip(source, folder)
        refused = [
            Verdict(Path(name).name, "unreadable", why)
            for name, why in imported.refused
            if is_photo_name(Path(name).name)
        ]
        ignored = [name for name, _ in imported.refused if not is_photo_name(Path(name).name)]
        if not imported.kept and not refused:
            raise _no_photos_in(source, ignored)
        return refused, ignored
    own = [source.name] if is_photo_name(source.name) else []
    names, ignored = _list_photos(source) if source.is_dir() else (own, [])
    if not names:
        raise _no_photos_in(source, ignored)
    refused = []
    for name in names:
        path = source / name if source.is_dir() else source
        try:
            keep_photo(read_bytes(path), name, folder)
        except InputError as error:
            refused.append(Verdict(as_text(name), "unreadable", str(error)))
    return refused, ignored


def _no_photos_in(source: Path, others: list[str]) -> InputError:
    found = f"found {', '.join(others[:5])}{' ...' * (len(others) > 5)}" if others else "found none"
    return InputError(
        f"There are no photos in {source} ({found}). Expected files such as JPEG, PNG or HEIC "
        f"({', '.join(FORMATS)}) in the folder or zip itself; name it, or one photo."
    )


def _without_duplicates(looks: list[Look], options: DatasetOptions) -> list[Look]:
    """Return the looks with near-duplicates named, and a file name for every crop that is kept."""
    # Of a burst the one with the largest, then the sharpest crop stays.
    ranked = sorted(
        (
            (-min(look.verdict.crop.size, options.max_crop_px), look.measures.blur, number, look)
            for number, look in enumerate(looks)
            if look.verdict.is_kept and look.verdict.crop and look.measures
        ),
    )
    duplicates = find_duplicates(
        [(look.verdict.photo, look.traits) for *_, look in ranked if look.traits], options
    )
    result, taken = [], set()
    for look in looks:
        verdict = look.verdict
        twin = duplicates.get(verdict.photo)
        if twin is not None and verdict.is_kept:  # one of its name may have been refused
            verdict = replace(
                verdict,
                verdict="near-duplicate",
                reason=f"Nearly the same as {twin}: move, turn the subject, or change the place.",
            )
        if verdict.is_kept:
            stem = cut_name(Path(verdict.photo).stem, NAME_BYTES - 20)  # .-999.mask.png.part
            names = (f"{stem}{tail}.png" for tail in ("", *(f"-{n}" for n in range(2, 999))))
            image = next(name for name in names if name.lower() not in taken)
            taken.add(image.lower())
            verdict = replace(verdict, image=image)
        result.append(replace(look, verdict=verdict))
    return result


def _publish_crops(looks: list[Look], staged: Path, home: Path, choices: dict[str, Any]) -> None:
    """Make a subject's ``dataset`` hold the kept crops, and their masks in a folder of it.

    What is going to be written is noted first, so that a build after a kill knows it for its own.
    """
    kept = [look for look in looks if look.verdict.image]
    ours = hashes_of_crops(home)
    for look in kept:
        ours[str(look.verdict.image)] |= set(filter(None, (look.png_sha256, look.mask_sha256)))
    noted = {name: sorted(hashes) for name, hashes in ours.items()}
    write_json(home / CHOICES, choices | {"written": noted})
    folder = make_folder(home / "dataset")
    for where, ending in ((folder, ".png"), (make_folder(folder / MASKS), ".mask.png")):
        new = {str(l.verdict.image): staged / f"{l.verdict.photo}{ending}" for l in kept}  # noqa: E741
        _publish(new, where, ours, home / "set_aside")


def _publish(
    new: dict[str, Path], folder: Path, ours: Mapping[str, set[str]], set_aside: Path
) -> None:
    """Make ``folder`` hold the new files; what a user put or changed there is set aside."""
    for path in sorted(folder.glob("*.png")):
        if path.is_dir():
            continue  # somebody's own
        found = sha256_of(path)
        if path.name in new and found == sha256_of(new[path.name]):
            del new[path.name]
        elif found in ours[path.name]:
            path.unlink()
        elif path.name in new:
            log.warning("%s was changed by someone; it is now in %s.", path, set_aside)
            shutil.move(path, free_path(make_folder(set_aside) / path.name))
    for name, source in new.items():
        write_file(folder / name, source.read_bytes())
