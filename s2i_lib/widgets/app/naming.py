"""Makes a subject of what was typed into the page's form, and touches nobody who is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from s2i_lib.errors import InputError
from s2i_lib.photos.consent import Consent
from s2i_lib.photos.manifest import CHOICES
from s2i_lib.photos.subject import Subject, card_path, load_subject, save_subject
from s2i_lib.speech.glossary import find_words
from s2i_lib.storage.files import make_folder, write_json
from s2i_lib.storage.layout import Drive


def make_subject(drive: Drive, form: dict[str, Any]) -> Subject:
    """Return the subject that a form names: a new one, or the very same that is there.

    Raises
    ------
    InputError
        When something is missing, or another subject has the folder of that name.
    S2iError
        When the disk does not take it; the same form can be given again then.
    """
    name, kind = str(form["name"]).strip(), str(form["kind"])
    noun, language = str(form.get("noun", "")).strip(), str(form.get("language", "en"))
    if not name:
        raise InputError("The name is empty. Type what you will call it, for instance Bella.")
    consent = None
    if kind == "person":
        noun = noun or "person"
        consent = Consent(str(form.get("by", "")).strip() or name, date.today().isoformat())
    elif not noun:
        raise InputError(f"What {name} is one of is not said. Type it, for instance dog or mug.")
    noun = " ".join(find_words(noun, language)) or noun
    subject = Subject.choose(drive, name, noun, kind=kind)
    if card_path(drive, name).is_file():
        there = load_subject(drive, name)
        if replace(subject, name=there.name) != there:
            raise InputError(
                f"{there.name} is there already: {there.class_noun}. Press that face to go on "
                "with it, or give this one another name."
            )
        return there
    if consent:  # with the first photo it goes into the manifest
        choices = {"consent": consent.record(subject.name), "photos": []}
        write_json(make_folder(drive.subject(name)) / CHOICES, choices)
    save_subject(drive, subject)
    return load_subject(drive, name)
