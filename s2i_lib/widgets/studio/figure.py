"""The figure of a picture, to hold in the hand: made when it is asked for, the last one kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from s2i_lib.errors import InputError
from s2i_lib.storage.files import files_beside

if TYPE_CHECKING:
    from pathlib import Path

    from s2i_lib.storage.layout import Drive
    from s2i_lib.widgets.studio.album import Shown


class FigureMaker:
    """Makes the figure of one picture after another; the page of the last one stays."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._key, self._page = "", b""

    def page(self, key: str) -> bytes:
        """Return the page of a figure, as HTML.

        Raises
        ------
        InputError
            When it is another one's, or there is none yet.
        """
        if not key or key != self._key:
            raise InputError(f"There is no figure of {key!r} any more. Press Hold it again.")
        return self._page

    def make(self, key: str, shown: Shown, check: Callable[[], object]) -> list[Path]:
        """Make the figure of a picture; return its files, which lie beside a kept picture.

        ``check`` is called between the parts of the work; what it raises ends it.

        Raises
        ------
        InputError
            When nothing stands out in the picture, and no network sees depth in it.
        S2iError
            When the disk does not take the files; the page is there all the same.
        """
        from s2i_lib.ar.hold import hold

        held = hold(shown.picture, drive=self._drive)
        check()
        stem = shown.path.stem if shown.path else "figure"
        page = held.page(stem)
        check()
        self._key, self._page = key, page.encode()
        if shown.path is None:
            return []
        beside = [file for file in files_beside(shown.path) if file.suffix in (".glb", ".usdz")]
        return beside or held.write(shown.path.parent, stem)
