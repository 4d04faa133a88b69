"""A picture to feel: a relief on a plate, for a printer; and the same heights as two views.

The heights are the figure's: the subject is raised, and its ground is flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.ar.solid import PUFF, membrane

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE_MM = 60.0  # a hand's width: two fingers feel all of it
PLATE_MM, RAISED_MM, EDGE_MM = 2.0, 5.0, 0.8
POINTS = 150  # a side: 0.4 mm, as fine as a printer's nozzle
SHIFT = 0.04  # of the width: how far the two views move what is nearest


def figure_heights(alpha: np.ndarray) -> np.ndarray:
    """Return heights of what a mask holds, 0 to 1, blown up as the figure is; the ground is 0."""
    import PIL.Image

    longest = max(alpha.shape)
    size = [max(2, round(side * POINTS / longest)) for side in alpha.shape[::-1]]
    small = PIL.Image.fromarray(alpha.astype(np.float32)).resize((size[0], size[1]))
    heights = np.sqrt(np.clip(membrane(np.asarray(small)), 0, None)) * PUFF
    return heights / max(heights.max(), 1e-6)


def to_relief(heights: np.ndarray) -> Any:
    """Return a closed plate, a trimesh in mm, with heights (0 to 1) raised on it.

    Its longer side has `SIDE_MM`. What is raised has a step at its edge, which fingers find.
    """
    import trimesh

    rows, columns = heights.shape
    cell = SIDE_MM / (max(rows, columns) - 1)
    y, x = np.mgrid[:rows, :columns] * cell
    step = np.where(heights > 0.02, EDGE_MM, 0.0)
    top = PLATE_MM + step + heights * (RAISED_MM - EDGE_MM)
    layers = [np.stack([x, y[::-1], z], axis=-1).reshape(-1, 3) for z in (top, np.zeros_like(top))]
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        part.ravel()
        for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])
    )
    upper = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
    # The rim, once around, and a wall below each piece of it.
    rim = np.concatenate([number[:-1, 0], number[-1, :-1], number[:0:-1, -1], number[0, :0:-1]])
    after, down = np.roll(rim, -1), rows * columns
    walls = np.concatenate(
        [np.stack([rim, rim + down, after], 1), np.stack([after, rim + down, after + down], 1)]
    )
    faces = np.concatenate([upper, upper[:, ::-1] + down, walls])
    mesh = trimesh.Trimesh(np.concatenate(layers), faces, process=False)
    mesh.fix_normals()
    return mesh


def stereo_pair(image: Image, heights: np.ndarray) -> Image:
    """Return the views of the left and the right eye side by side, for a viewer with two lenses.

    Each pixel is moved by its height, the near ones last, over those behind them; gaps take the
    colour beside them that is further away.
    """
    import PIL.Image

    pixels = np.asarray(image.convert("RGB"))
    high, wide = pixels.shape[:2]
    near = np.asarray(PIL.Image.fromarray(heights.astype(np.float32)).resize((wide, high)))
    views = [_moved(pixels, near, sign * SHIFT * wide / 2) for sign in (1, -1)]
    return PIL.Image.fromarray(np.concatenate(views, axis=1))


def _moved(pixels: np.ndarray, near: np.ndarray, shift: float) -> np.ndarray:
    high, wide = near.shape
    rows, columns = np.mgrid[:high, :wide]
    order = np.argsort(near, axis=None, kind="stable")  # the nearest are written last
    to = np.rint(columns + near * shift).astype(int).clip(0, wide - 1)
    source = np.full((high, wide), -1)
    source[rows.ravel()[order], to.ravel()[order]] = columns.ravel()[order]
    # Uncovered ground is on the side that the near things came from.
    order_of_filling = range(1, wide) if shift > 0 else range(wide - 2, -1, -1)
    if shift > 0:
        source[:, 0] = np.where(source[:, 0] < 0, 0, source[:, 0])
    else:
        source[:, -1] = np.where(source[:, -1] < 0, wide - 1, source[:, -1])
    for column in order_of_filling:
        beside = source[:, column - 1 if shift > 0 else column + 1]
        source[:, column] = np.where(source[:, column] < 0, beside, source[:, column])
    return np.take_along_axis(pixels, source[:, :, None], axis=1)
