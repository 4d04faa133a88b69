"""Pictures told to who cannot see them: what is seen, and that a machine drew it.

What was asked is what is probably seen, but not surely. Where a scorer has looked
(`s2i_lib.evaluation.look`; what it saw stands in the record as ``seen``), the text begins with what
it saw, and says whether that is what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s2i_lib.speech.templates import article_for


@dataclass(frozen=True)
class Seen:
    """What a scorer takes a picture to show, of what it knows."""

    agrees: bool
    """Whether that is what was asked."""
    words: str
    """What it sees, such as "a red car on a yellow background", in English."""


# {seen}: what is seen; {asked}: what was asked, where that differs.
TEXTS = {
    "en": (
        "{seen}. Drawn by a machine that was asked for this; nobody has checked the picture.",
        "{seen}. Drawn by a machine that was asked for this; the scorer agrees.",
        "Perhaps {seen}. Drawn by a machine that was asked for {asked}; the scorer does not agree.",
    ),
    "de": (
        "{seen}. Von einer Maschine gezeichnet, so gewünscht; das Bild hat niemand geprüft.",
        "{seen}. Von einer Maschine gezeichnet, so gewünscht; der Prüfer stimmt zu.",
        "Vielleicht {seen}. Von einer Maschine gezeichnet, gewünscht war: {asked}; "
        "der Prüfer stimmt nicht zu.",
    ),
    "fr": (
        "{seen}. Dessiné par une machine, comme demandé ; personne n'a vérifié l'image.",
        "{seen}. Dessiné par une machine, comme demandé ; le vérificateur est d'accord.",
        "Peut-être {seen}. Dessiné par une machine, demandé : {asked} ; "
        "le vérificateur n'est pas d'accord.",
    ),
    "es": (
        "{seen}. Dibujado por una máquina, como se pidió; nadie ha comprobado la imagen.",
        "{seen}. Dibujado por una máquina, como se pidió; el evaluador está de acuerdo.",
        "Quizás {seen}. Dibujado por una máquina, se pidió: {asked}; "
        "el evaluador no está de acuerdo.",
    ),
    "it": (
        "{seen}. Disegnato da una macchina, come richiesto; nessuno ha controllato l'immagine.",
        "{seen}. Disegnato da una macchina, come richiesto; il valutatore è d'accordo.",
        "Forse {seen}. Disegnato da una macchina, richiesto: {asked}; "
        "il valutatore non è d'accordo.",
    ),
}


def alt_text(
    record: Mapping[str, Any], seen: Seen | None = None, language: str | None = None
) -> str:
    """Return the alternative text of a picture, of its record and what a scorer saw.

    Parameters
    ----------
    seen
        What a scorer saw; None: as the record says, if one has looked.
    language
        Code of a language in ``TEXTS``, others are told in English. Default: the one that was
        spoken.
    """
    transcript = record.get("transcript")
    spoken = transcript if isinstance(transcript, dict) else {}
    language = language or str(spoken.get("language") or "en")
    language = language if language in TEXTS else "en"
    unchecked, agreed, differs = TEXTS[language]
    # In the speaker's own words where they are in the language that the text is in.
    own = str(spoken.get("text") or "") if spoken.get("language") == language else ""
    asked = (own or asked_words(record)).strip().rstrip(".!?") or "something"
    if seen is None and isinstance(record.get("seen"), dict):
        seen = Seen(bool(record["seen"].get("agrees")), str(record["seen"].get("words")))
    if seen is None:
        return unchecked.format(seen=asked[0].upper() + asked[1:])
    if seen.agrees:
        return agreed.format(seen=asked[0].upper() + asked[1:])
    return differs.format(seen=seen.words, asked=asked)


def asked_words(record: Mapping[str, Any]) -> str:
    """Return the prompt with names in place of identifiers: "a ohwx dog" is "Rex, a dog"."""
    text = str(record.get("prompt") or "a picture")
    for subject in record.get("subjects") or []:
        if isinstance(subject, dict) and subject.get("identifier"):
            noun, name = str(subject.get("class_noun")), str(subject.get("name"))
            phrase = rf"\b(?:an?\s+)?{re.escape(str(subject['identifier']))}\s+{re.escape(noun)}\b"
            words = f"{name}, {article_for(noun or 'a')} {noun},".replace("\\", r"\\")
            text = re.sub(phrase, words, text, flags=re.IGNORECASE)
    return text.rstrip(",")
