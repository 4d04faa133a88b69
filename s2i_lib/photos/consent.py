"""Keep who agrees, and when, that a model is taught to draw a person."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from s2i_lib.errors import InputError

# What people type to get past a field.
NO_NAMES = frozenset({
    "i", "me", "myself", "yes", "ok", "okay", "agree", "i agree", "agreed", "name", "your name",
    "none", "no", "nobody", "someone", "anonymous", "test",
})  # fmt: skip


@dataclass(frozen=True)
class Consent:
    """The consent of a person, or of a parent for a child."""

    by: str
    """Name of who agrees."""
    on: str
    """Day on which they did, as 2026-08-19."""

    def __post_init__(self) -> None:
        name = " ".join(self.by.split())
        if sum(letter.isalpha() for letter in name) < 2 or name.lower().strip(".!") in NO_NAMES:
            raise InputError(
                f"Consent needs the name of who agrees, and {self.by!r} is none. "
                "Write it as that person does, for instance Ada Lovelace."
            )
        object.__setattr__(self, "by", name)
        object.__setattr__(self, "on", _day(self.on).isoformat())

    @classmethod
    def given(cls, by: str | None, on: str | None) -> Consent | None:
        """Make a consent of two fields of a form; None where both were left empty."""
        by, on = (by or "").strip(), (on or "").strip()
        if bool(by) != bool(on):
            missing = f"the day on which {by} gave it" if by else f"who gave it on {on}"
            raise InputError(
                f"Consent needs {missing}, and that is not given. Give both: --consent-by 'Ada "
                "Lovelace' --consent-on 2026-08-19, or CONSENT_BY and CONSENT_ON in the notebook."
            )
        return cls(by, on) if by or on else None

    @classmethod
    def from_record(cls, record: Any) -> Consent | None:
        """Read it back from a manifest; None for anything that lacks a name or a date."""
        try:
            return cls(record["by"], record["on"])
        except (KeyError, TypeError, AttributeError, InputError):
            return None

    def sentence(self, subject: str) -> str:
        """Say it in words, for the person called ``subject``."""
        is_own = self.by.lower() == subject.lower()
        whose, whom = ("me", "me") if is_own else (subject, subject)
        return (
            f"I, {self.by}, agree that photos of {whose} are used to train a model that draws "
            f"{whom}. {self.on}"
        )

    def record(self, subject: str) -> dict[str, str]:
        """Return what the manifest keeps."""
        return asdict(self) | {"sentence": self.sentence(subject)}


def _day(text: str) -> date:
    """Read a day as people and calendars write it, unless it could be another, and it has come."""
    written = " ".join(text.replace(",", " ").split())
    if parts := re.fullmatch(r"(\d{1,2})\.\s*(\d{1,2})\.\s*(\d{4})", written):
        written = "-".join(parts.groups()[::-1])
    elif parts := re.fullmatch(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[T ]\d\d:\d\d.*)?", written):
        written = "-".join(parts.group(1, 3, 4))
    for form in ("%Y-%m-%d", "%Y%m%d", "%d %B %Y", "%d %b %Y", "%B %d %Y", "%b %d %Y"):
        with suppress(ValueError):
            day = datetime.strptime(written, form).date()
            break
    else:
        raise InputError(
            f"Consent needs the date on which it was given, and {text!r} is none. "
            "Write year, month and day, for instance 2026-08-19."
        )
    # The clock of a machine elsewhere may be a day behind.
    if day > date.today() + timedelta(days=1):
        raise InputError(f"Consent cannot have been given on {day}, which is still to come.")
    return day
