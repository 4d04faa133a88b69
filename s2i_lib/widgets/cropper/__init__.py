"""Moves and sizes the square that is cropped from each photo; says whether to cut it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import traitlets

from s2i_lib.errors import InputError
from s2i_lib.photos.crop import Box
from s2i_lib.widgets import join_modules, join_styles
from s2i_lib.widgets.texts import catalogue
from s2i_lib.widgets.transport import ByteWidget


class Cropper(ByteWidget):
    """One photo at a time with its crop, moved by dragging, arrow keys or buttons.

    Parameters
    ----------
    preview : callable
        ``preview(name)`` gives a small upright JPEG of the photo.
    sizes : mapping of str to (width, height)
        Each photo's size in pixels, upright, in the order in which to show them.
    crops : mapping of str to (left, top, side)
        Each photo's crop in its pixels. ``crops`` of the widget holds what it is now, ``changed``
        the names that somebody moved.
    cut_out : mapping of str to bool
        Whether training cuts each photo's subject out.
    """

    _esm = join_modules("cropper/cropper.js")
    _css = join_styles("cropper/cropper.css")

    texts = traitlets.Dict(help="language -> key -> text").tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sizes = traitlets.Dict().tag(sync=True)
    crops = traitlets.Dict().tag(sync=True)
    changed = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cut_out = traitlets.Dict(help="photo -> whether training cuts its subject out").tag(sync=True)
    doubts = traitlets.Dict(help="photo -> why its mask is doubted, in words").tag(sync=True)
    least_px = traitlets.Int(64, help="smallest side of a crop").tag(sync=True)

    def __init__(
        self,
        preview: Callable[[str], bytes],
        sizes: Mapping[str, tuple[int, int]],
        crops: Mapping[str, tuple[int, int, int]],
        cut_out: Mapping[str, bool] | None = None,
        **kwargs: Any,
    ) -> None:
        for name, (left, top, side) in crops.items():
            width, height = sizes[name]
            if not (0 <= left <= width - side and 0 <= top <= height - side and side > 0):
                raise InputError(
                    f"The crop of {name} (left {left}, top {top}, side {side}) is not inside its "
                    f"{width} by {height} pixels. Give one that is."
                )
        super().__init__(
            texts=catalogue(),
            names=list(crops),
            sizes={name: list(sizes[name]) for name in crops},
            crops={name: list(crop) for name, crop in crops.items()},
            cut_out=dict(cut_out or {}),
            **kwargs,
        )
        self._preview, self._cut_out_before = preview, dict(cut_out or {})

    @property
    def moved(self) -> dict[str, Box]:
        """Return the crops that somebody moved, by photo."""
        return {name: Box(*self.crops[name]) for name in self.changed}

    @property
    def chosen(self) -> dict[str, bool]:
        """Return for which photos somebody chose otherwise whether the subject is cut out."""
        before = self._cut_out_before
        return {name: now for name, now in self.cut_out.items() if now != before.get(name)}

    def _asked(self, name: str) -> bytes:
        return self._preview(name)
