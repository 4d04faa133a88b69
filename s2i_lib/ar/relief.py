"""A picture to feel: a relief on a plate, for a printer or the hand; and its heights as two views.

The heights are the figure's, where a subject was cut out: it is raised, and its ground is flat. Of
a whole picture they are what `s2i_lib.ar.depth` sees in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.ar.solid import HELD_M, PUFF, SOFT, TEXTURE_PX, Solid, membrane

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE_MM = 60.0  # a hand's width: two fingers feel all of it
PLATE_MM, RAISED_MM, EDGE_MM = 2.0, 5.0, 0.8
POINTS = 150  # a side: 0.4 mm, as fine as a printer's nozzle
HELD_POINTS = 112  # a side of one to look at: a GLB has 0.9 MB then
HELD_PLATE_M, HELD_RAISED_M = 0.006, 0.05
SHIFT = 0.04  # of the width: how far the two views move what is nearest


def figure_heights(alpha: np.ndarray) -> np.ndarray:
    """Return heights of what a mask holds, 0 to 1, blown up as the figure is; the ground is 0."""
    heights = np.sqrt(np.clip(membrane(resized(alpha, POINTS)), 0, None)) * PUFF
    return heights / max(heights.max(), 1e-6)


def resized(values: np.ndarray, points: int) -> np.ndarray:
    """Return values on a grid of the same proportions whose longer side has ``points``."""
    import PIL.Image

    longest = max(values.shape)
    wide, high = (max(2, round(side * points / longest)) for side in values.shape[::-1])
    return np.asarray(PIL.Image.fromarray(values.astype(np.float32)).resize((wide, high)))


def to_relief(heights: np.ndarray, edge_mm: float = EDGE_MM) -> Any:
    """Return a closed plate, a trimesh in mm, with heights (0 to 1) raised on it.

    Its longer side has `SIDE_MM`. What is raised has a step at its edge, which fingers find; a
    whole picture has no edge to find, and 0 here.
    """
    import trimesh

    rows, columns = heights.shape
    cell = SIDE_MM / (max(rows, columns) - 1)
    y, x = np.mgrid[:rows, :columns] * cell
    step = np.where(heights > 0.02, edge_mm, 0.0)
    top = PLATE_MM + step + heights * (RAISED_MM - edge_mm)
    layers = [np.stack([x, y[::-1], z], axis=-1).reshape(-1, 3) for z in (top, np.zeros_like(top))]
    upper, rim = _grid(rows, columns)
    # A wall below each piece of the rim.
    after, down = np.roll(rim, -1), rows * columns
    walls = np.concatenate(
        [np.stack([rim, rim + down, after], 1), np.stack([after, rim + down, after + down], 1)]
    )
    faces = np.concatenate([upper, upper[:, ::-1] + down, walls])
    mesh = trimesh.Trimesh(np.concatenate(layers), faces, process=False)
    mesh.fix_normals()
    return mesh


def _grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangles of a grid, shape = (m, 3), and its rim, once around from the top left.

    Counter-clockwise, where rows go down.
    """
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        part.ravel()
        for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1])
    )
    rim = np.concatenate([number[:-1, 0], number[-1, :-1], number[:0:-1, -1], number[0, :0:-1]])
    return np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]), rim


def to_solid(image: Image, heights: np.ndarray) -> Solid:
    """Return a closed plate with the picture on it, raised by heights (0 to 1), to hold.

    Its longer side has `HELD_M`; its sides carry on the picture's edge, and its back is soft.
    """
    heights = resized(heights, HELD_POINTS) * HELD_RAISED_M
    rows, columns = heights.shape
    y, x = np.mgrid[:rows, :columns]
    cell = HELD_M / (max(rows, columns) - 1)
    places = np.stack(
        [(x - (columns - 1) / 2) * cell, ((rows - 1) / 2 - y) * cell, heights], -1
    ).reshape(-1, 3)
    uv = np.stack([x / (columns - 1), y / (rows - 1) / 2], -1).reshape(-1, 2)
    down, across = np.gradient(heights, cell)
    slopes = np.stack([-across, down, np.ones_like(across)], -1).reshape(-1, 3)
    faces, rim = _grid(rows, columns)
    parts = [(places, slopes, uv, faces), *_sides_and_back(places[rim], uv[rim])]
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    normals = np.concatenate([part[1] for part in parts])
    return Solid(
        np.concatenate([part[0] for part in parts]).astype(np.float32),
        (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        np.concatenate([part[2] for part in parts]).astype(np.float32),
        np.concatenate(
            [part[3] + start for part, start in zip(parts, starts, strict=False)]
        ).astype(np.int32),
        _painted(image),
    )


def _sides_and_back(rim: np.ndarray, uv: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Close a surface below its rim: places, normals, places in the texture and triangles of each.

    The sides are a rectangle for each piece of the rim, and the back is a fan.
    """
    low = rim * (1, 1, 0) - (0, 0, HELD_PLATE_M)
    after, around = np.roll(rim, -1, axis=0), np.arange(len(rim))
    corners = [rim, low, after, np.roll(low, -1, axis=0)]
    outward = (after - rim)[:, [1, 0, 2]] * (1, -1, 0)
    ends = [uv, uv, *[np.roll(uv, -1, axis=0)] * 2]
    sides = (
        np.stack(corners, 1).reshape(-1, 3),
        outward.repeat(4, axis=0),
        np.stack(ends, 1).reshape(-1, 2),
        (4 * around[:, None, None] + [[0, 1, 2], [2, 1, 3]]).reshape(-1, 3),
    )
    middle, below = (0.0, 0.0, -HELD_PLATE_M), np.array([0, 0.5])
    back = (
        np.concatenate([low, [middle]]),
        np.tile([0.0, 0.0, -1.0], (len(rim) + 1, 1)),
        np.concatenate([uv, [(0.5, 0.25)]]) + below,
        np.stack([np.roll(around, -1), around, np.full_like(around, len(rim))], 1),
    )
    return [sides, back]


def _painted(image: Image) -> Image:
    """Return the texture of a whole picture: the front, and below it soft colours for the back."""
    import PIL.Image
    from PIL import ImageFilter

    scale = np.clip(max(image.size), *TEXTURE_PX) / max(image.size)
    wide, high = (max(1, round(side * scale)) for side in image.size)
    front = image.convert("RGB").resize((wide, high), PIL.Image.Resampling.BICUBIC)
    texture = PIL.Image.new("RGB", (wide, 2 * high))
    texture.paste(front, (0, 0))
    texture.paste(front.filter(ImageFilter.GaussianBlur(SOFT * max(wide, high))), (0, high))
    return texture


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
