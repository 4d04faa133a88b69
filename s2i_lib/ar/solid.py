"""Blow up the outline of what a picture shows, like a cushion, into a solid figure.

Within the outline a membrane is stretched and blown up (Poisson's equation): it stands highest far
from the edge, so a disk becomes a ball and an arm a roll. That is the front; its mirror image is
the back. The surface is where ``height(x, y) = z²``, found by marching cubes, so it is closed.

Source: Igarashi et al. 1999, Teddy: a sketching interface for 3D freeform design (SIGGRAPH), for
blowing up outlines; Lorensen & Cline 1987 for marching cubes, here scikit-image's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

CELLS = 72  # of the longer side of the outline: a GLB has 1.1 MB then
MARGIN = 4  # cells around it, so that the surface closes
PUFF = 0.7  # thickness of a disk, in parts of a ball's
SMOOTH = 0.8  # cells: stairs at the outline become a curve
TEXTURE_PX = (256, 1024)  # longer side of the texture, at least and at most
SOFT, BLEND = 0.06, 0.08  # of the longer side: blur of the back; where the front goes over into it
HOLE = 0.01  # of the subject: smaller holes in a mask are mistakes, and not handles
HELD_M = 0.2  # longer side of the figure: it fits a hand and a table


@dataclass(frozen=True)
class Solid:
    """A closed surface with the picture on it, upright, the front towards +z, in metres."""

    vertices: np.ndarray
    """shape = (n, 3), float32; those of the seam between front and back are there twice."""
    normals: np.ndarray
    """shape = (n, 3), float32, of length 1."""
    uv: np.ndarray
    """Place of each vertex in the texture: shape = (n, 2), float32 in 0 to 1, from the top left."""
    faces: np.ndarray
    """shape = (m, 3), int32, counter-clockwise seen from outside."""
    texture: Image
    """RGB: the front, and below it the back."""

    @cached_property
    def mesh(self) -> Any:
        """The closed surface alone, without seam: a trimesh.Trimesh."""
        import trimesh

        mesh = trimesh.Trimesh(self.vertices, self.faces, process=False)
        mesh.merge_vertices(merge_norm=True, merge_tex=True, digits_vertex=7)
        mesh.update_faces(mesh.nondegenerate_faces())
        return mesh


def inflate(image: Image, alpha: np.ndarray) -> Solid:
    """Blow up what a mask holds of a picture.

    Parameters
    ----------
    image
        RGB.
    alpha
        Share of the subject in each pixel: shape = (height, width), 0 to 1.
    """
    cut, inside = _cut(image, _without_small_holes(alpha))
    height = membrane(inside)
    vertices, normals, faces = _front(height)
    # From cells, y down, to parts of the picture: a cell's middle is half a cell in.
    rows, columns = height.shape
    uv = (vertices[:, [1, 0]] + 0.5) / (columns, rows)
    flip = np.array([1, 1, -1])
    back = vertices * flip
    both = np.concatenate([vertices, back])
    scale = HELD_M / (CELLS - 1)
    places = (both[:, [1, 0, 2]] - (columns / 2, rows / 2, 0)) * (scale, -scale, scale)
    return Solid(
        places.astype(np.float32),
        np.concatenate([normals, normals * flip])[:, [1, 0, 2]].astype(np.float32) * (1, -1, 1),
        np.concatenate([uv * (1, 0.5), uv * (1, 0.5) + (0, 0.5)]).clip(0, 1).astype(np.float32),
        np.concatenate([faces, faces[:, ::-1] + len(vertices)]).astype(np.int32),
        _paint(cut, inside),
    )


def _without_small_holes(alpha: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    inside = alpha >= 0.5
    parts, _ = ndimage.label(~np.pad(inside, 1))
    small = np.bincount(parts.ravel()) < HOLE * inside.sum()
    small[0] = False  # the subject itself
    return np.where(small[parts[1:-1, 1:-1]], 1.0, alpha)


def _cut(image: Image, alpha: np.ndarray) -> tuple[Image, np.ndarray]:
    """Cut the subject out with a margin: the picture, and its mask with a value a cell."""
    from PIL import Image as Pillow

    rows, columns = (np.flatnonzero((alpha >= 0.5).any(axis=axis)) for axis in (1, 0))
    size = max(np.ptp(rows), np.ptp(columns)) + 1
    margin = size * MARGIN / CELLS
    box = (
        columns[0] - margin, rows[0] - margin,
        columns[-1] + 1 + margin, rows[-1] + 1 + margin,
    )  # fmt: skip
    wide, high = (max(2 * MARGIN + 1, round((box[i + 2] - box[i]) * CELLS / size)) for i in (0, 1))
    # What lies beyond the picture's edge is not the subject; its colour is the edge's.
    beyond = int(np.ceil(margin)) + 1
    padded = np.pad(alpha, beyond)
    colours = np.pad(
        np.asarray(image.convert("RGB")), ((beyond,) * 2, (beyond,) * 2, (0, 0)), "edge"
    )
    box = tuple(edge + beyond for edge in box)
    inside = Pillow.fromarray(padded.astype(np.float32)).resize(
        (wide, high), Pillow.Resampling.BILINEAR, box=box
    )
    scale = np.clip(size, *TEXTURE_PX) / max(wide, high)
    cut = Pillow.fromarray(colours).resize(
        (round(wide * scale), round(high * scale)), Pillow.Resampling.BICUBIC, box=box
    )
    return cut, np.asarray(inside).clip(0, 1)


def membrane(inside: np.ndarray) -> np.ndarray:
    """Return the squared height of the blown-up membrane a cell, in cells²; below 0 outside."""
    from scipy import ndimage, sparse
    from scipy.sparse.linalg import spsolve

    soft = ndimage.gaussian_filter(inside, SMOOTH, mode="constant")
    is_in = soft >= 0.5
    number = np.full(is_in.shape, -1)
    number[is_in] = np.arange(is_in.sum())
    count = int(is_in.sum())
    matrix = sparse.identity(count, format="lil") * 4
    for axis in (0, 1):
        one, other = np.roll(number, 1, axis)[is_in], number[is_in]
        both = one >= 0
        matrix[one[both], other[both]] = -1
        matrix[other[both], one[both]] = -1
    raised = np.zeros(is_in.shape)
    raised[is_in] = spsolve(matrix.tocsr(), np.full(count, 4.0))
    # Outside it goes on downwards as it rises inside, so that the outline lies between the cells.
    away = ndimage.distance_transform_edt(~is_in)
    edge = is_in & (ndimage.distance_transform_edt(is_in) < 1.5)
    slope = float(np.median(raised[edge])) if edge.any() else 1.0
    squared = np.where(is_in, raised, -slope * away)
    return ndimage.gaussian_filter(squared, SMOOTH)


def _front(height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the front half in cells: vertices (row, column, z), normals, faces."""
    from scipy import ndimage
    from skimage.measure import marching_cubes

    scaled = height * PUFF**2
    top = int(np.ceil(np.sqrt(max(scaled.max(), 1.0)))) + 2
    z = np.arange(top)
    volume = scaled[:, :, None] - z**2
    vertices, faces, _, _ = marching_cubes(volume.astype(np.float32), 0.0)
    rows, columns = np.gradient(scaled)
    at = vertices[:, :2].T
    slopes = [
        ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in (rows, columns)
    ]
    normals = np.stack([-slopes[0], -slopes[1], 2 * vertices[:, 2]], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    is_outwards = (across * normals[faces].mean(axis=1)).sum() > 0
    return vertices, normals, faces if is_outwards else faces[:, ::-1]


def _paint(cut: Image, inside: np.ndarray) -> Image:
    """Return the texture: the subject's colours to beyond its edge; for the back soft ones.

    Of the back only the colours can be guessed: no second face looks out of it.
    """
    import cv2
    from PIL import Image as Pillow
    from PIL import ImageFilter

    mask = np.asarray(Pillow.fromarray(inside).resize(cut.size, Pillow.Resampling.BILINEAR))
    sure = (mask >= 0.8).astype(np.uint8)
    reach = max(1, round(0.4 * cut.width / inside.shape[1]))  # the edge has some of the ground's
    sure = cv2.erode(sure, np.ones((2 * reach + 1,) * 2, np.uint8)) if sure.any() else sure
    sure = sure if sure.any() else (mask >= 0.5 * mask.max()).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        1 - sure, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixels = np.asarray(cut)
    colours = np.zeros((nearest.max() + 1, 3), np.uint8)
    colours[nearest[sure > 0]] = pixels[sure > 0]
    front = Pillow.fromarray(colours[nearest])
    back = front.filter(ImageFilter.GaussianBlur(SOFT * max(cut.size)))
    # Towards the edge the front goes over into the back, so that no seam is seen from the side.
    depth = cv2.distanceTransform((mask >= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    near = np.clip(1 - depth / (BLEND * max(cut.size)), 0, 1) ** 2
    front = Pillow.composite(back, front, Pillow.fromarray((255 * near).astype(np.uint8)))
    texture = Pillow.new("RGB", (cut.width, 2 * cut.height))
    texture.paste(front, (0, 0))
    texture.paste(back, (0, cut.height))
    return texture
