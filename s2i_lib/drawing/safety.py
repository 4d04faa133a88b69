"""Classroom mode: words that are not drawn, and pictures that are looked at before they are shown.

Wishes are refused by a short list that anybody can read; pictures by diffusers' own safety checker,
or, where that cannot be had, by the small one of a package.
"""

from __future__ import annotations

import itertools
import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.registry import SAFETY_CHECKER
from s2i_lib.models.vision import CLIP_PREPARATION, Preparation, find_network, is_here, load_network
from s2i_lib.photos.photo_checker import INSTALL, PhotoChecker, load_photo_checker
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.layout import Drive, folder_name

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from s2i_lib.models.loading import Model

log = logging.getLogger(__name__)

WORDS = Path(__file__).with_name("classroom_words.txt")
# What is not left out of people in a class: "a woman", and in the negative prompt "clothes".
COVERS = frozenset({
    "clothes", "clothing", "dress", "shirt", "blouse", "skirt", "pants", "trousers", "jeans",
    "shorts", "underwear", "bra", "panties", "swimsuit", "bikini", "fabric", "garment", "outfit",
})  # fmt: skip


class Classroom:
    """What a class may wish for, and which pictures it may see.

    Parameters
    ----------
    drive : Drive
        A ``classroom_words.txt`` on it takes the place of the list that ships with this package;
        the safety checker is kept in its ``models``.

    Raises
    ------
    InputError
        When the list cannot be read.
    """

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self.list = drive.classroom_words if drive.classroom_words.is_file() else WORDS
        self.words = read_words(self.list)
        self._checkers: dict[str, Checker | str] = {}
        """By source; why there is none, for one that could not be had."""
        self._is_said: set[str] = set()  # models of which somebody knows that none is checked

    def check(self, *texts: str) -> None:
        """Raise `InputError`, in one kind sentence, where a text has a word of the list."""
        for text in texts:
            if found := find_word(text, self.words):
                raise InputError(
                    f"Let us draw something else: “{found}” is on the list of words that are not "
                    f"drawn in classroom mode ({self.list})."
                )

    def check_prompt(self, prompt: Prompt, guidance: float = 1.0) -> None:
        """Compare the prompt, and what was heard in either language, with the list.

        Below a guidance of 1 what must not be in a picture is drawn into it, so it counts, too. And
        above it, leaving out clothes draws people without.
        """
        heard = prompt.transcript
        if found := find_word(prompt.negative, COVERS):
            raise InputError(
                f"Let us draw something else: “{found}” cannot be left out in classroom mode."
            )
        drawn = [prompt.text] if guidance >= 1 else [prompt.text, prompt.negative]
        said = (heard.text, heard.english, heard.first_heard) if heard else ()
        self.check(*drawn, *said)

    def find_unfit(self, model: Model, images: Sequence[Image]) -> list[bool]:
        """Say of each picture whether a checker flags it; all False where there is none."""
        (checker, why), name = self.find_checker(model), model.base.name
        if name not in self._is_said and why:
            self._is_said.add(name)
            looks = f"by {checker.name} only" if checker else "not at all"
            log.warning("In classroom mode words are checked, and pictures %s: %s", looks, why)
        return checker.find_unfit(images) if checker else [False] * len(images)

    def find_checker(self, model: Model) -> tuple[Checker | PhotoChecker | None, str]:
        """Return the checker for a model's pictures, and why it is not the one they should have."""
        found = self._find_safety_checker(model)
        if isinstance(found, Checker):
            return found, ""
        small = load_photo_checker()
        if small is not None:
            return small, found if model.base.safety_checker else ""
        return None, f"{found} A small checker that knows photographs: {INSTALL}."

    def _find_safety_checker(self, model: Model) -> Checker | str:
        """Stable Diffusion's, loaded once for all models; else why it is not there.

        It is loaded into 1.2 GB, and most models name the same.
        """
        source = model.base.safety_checker
        if source is None and is_here(SAFETY_CHECKER, self.drive):
            source = SAFETY_CHECKER
        if source is None:
            return (
                f"{model.base.name} was trained on harmless things only. To have its pictures "
                f"checked all the same, copy {SAFETY_CHECKER} to "
                f"models/{folder_name(SAFETY_CHECKER)} on the Drive."
            )
        if source not in self._checkers:
            try:
                self._checkers[source] = Checker(source, self.drive, model.device)
            except S2iError as error:
                self._checkers[source] = str(error)
        return self._checkers[source]

    def describe(self, model: Model) -> str:
        """Return what classroom mode does with a model, for those who look at the pictures.

        Whoever shows this needs no warning in the log besides.
        """
        self._is_said.add(model.base.name)
        checker, why = self.find_checker(model)
        checked = "checked by " + checker.name if checker else "not checked"
        checked += f": {why}" if why else "."
        words = f"{self.list.parent.name}/{self.list.name}"  # the whole path fills a line on stage
        return f"Classroom mode: the words in {words} are not drawn, and pictures are {checked}"


class Checker:
    """diffusers' StableDiffusionSafetyChecker with what prepares pictures for it."""

    name = "Stable Diffusion's safety checker"

    def __init__(self, source: str, drive: Drive, device: torch.device | None = None) -> None:
        """Load it from a folder, the Drive or the hub, in fp32; raises S2iError where it is not."""
        from diffusers.pipelines.stable_diffusion.safety_checker import (
            StableDiffusionSafetyChecker,
        )

        folder = find_network(source, drive)
        self.prepare = Preparation.read(folder, CLIP_PREPARATION)  # it is made of CLIP
        self.network: Any = load_network(
            folder, StableDiffusionSafetyChecker, device, towers=["vision_config"]
        )
        side = self.network.config.vision_config.image_size
        if (self.prepare.crop or self.prepare.size) != side:
            raise InputError(
                f"{folder} prepares pictures of {self.prepare.crop or self.prepare.size} px for a "
                f"network that sees {side} px. Copy the whole folder again."
            )

    def find_unfit(self, images: Sequence[Image]) -> list[bool]:
        """Say of each picture whether it is flagged."""
        import numpy as np
        import torch

        with torch.inference_mode():
            pixels = self.prepare(images).to(self.network.device)
            # It also blackens what it is given as pictures: ours are left alone.
            blank = np.zeros((len(images), 1, 1, 3), np.float32)
            _, flags = self.network(clip_input=pixels, images=blank)
        return [bool(flag) for flag in flags]


def read_words(path: Path) -> frozenset[str]:
    """Read the words of a list: one a line, in any case; # begins a comment.

    Raises
    ------
    InputError
        When it cannot be read, has no words, or a line has more than a word.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The list of words {path} cannot be read ({error}). Expected a text file in UTF-8 "
            "with one word a line."
        ) from error
    entries = [(i, line.split("#")[0].strip()) for i, line in enumerate(lines, start=1)]
    for number, entry in entries:
        if entry and _split(entry) != [_fold(entry)]:
            raise InputError(
                f"Line {number} of {path} is {entry!r}. Expected one word of letters a line, for "
                "instance: blood. Split it, or put a # before it."
            )
    words = frozenset(_fold(entry) for _, entry in entries if entry)
    if not words:
        raise InputError(
            f"The list of words {path} has none, so that nothing would be refused. Put one word a "
            "line into it, or delete it: then the list of this package counts."
        )
    return words


def find_word(text: str, words: frozenset[str]) -> str | None:
    """Return the first word of ``text`` that is one of ``words``, or its plural; else None.

    Also where it is spelled ("g u n", "n-a-k-e-d") or has digits for letters ("n4k3d").
    """
    plain = _fold(text)
    for word in (*_split(plain), *_split(_without_digits(plain))):
        if words & _singulars(word):
            return word
    return next((word for run in _spelled(plain) for word in sorted(words) if word in run), None)


_LOOKS_LIKE = str.maketrans("0134578@$", "oieastbas")


def _without_digits(plain: str) -> str:
    """Return the words that have letters and signs in them, with the letters they look like."""
    mixed = re.findall(r"[\w@$]+", plain)
    return " ".join(word.translate(_LOOKS_LIKE) for word in mixed if re.search(r"[^\W\d_]", word))


def _spelled(plain: str) -> Iterator[str]:
    """Find what is spelled letter by letter."""
    for length, letters in itertools.groupby(re.findall(r"[^\W_]+", plain), key=len):
        run = "".join(letters)
        if length == 1 and len(run) > 2:
            yield run


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", _fold(text))


def _fold(text: str) -> str:
    """Without case, accents, invisible characters and letters in fancy dress (fullwidth, bold)."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Mn"))


def _singulars(word: str) -> set[str]:
    """What ``word`` may be the plural of, itself included: corpses, boxes, bodies."""
    endings = (("s", ""), ("es", ""), ("ies", "y"))
    return {word} | {word.removesuffix(end) + new for end, new in endings if word.endswith(end)}
