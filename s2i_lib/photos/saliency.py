"""Find what stands out in a picture: its box, and how much of it the picture's edge cuts off."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def salient_box(pixels: np.ndarray) -> tuple[tuple[int, int, int, int], float] | None:
    """Return left, top, right, bottom of what stands out, and how much touches the edge; or None.

    What the border of a picture cannot reach through like colours is the subject (geodesic saliency
    on superpixels), more so near the centre; GrabCut then draws its outline.

    Parameters
    ----------
    pixels : np.ndarray, shape = (height, width, 3), uint8

    Returns
    -------
    The box in pixels, and the longest part of the outline that lies on an edge of the picture, in
    parts of the subject's width or height.

    Source: Wei et al., Geodesic Saliency Using Background Priors, ECCV 2012; Rother et al.,
    GrabCut, SIGGRAPH 2004.
    """
    import numpy as np

    height, width = pixels.shape[:2]
    if min(height, width) < 16:
        return None
    saliency = _geodesic_saliency(pixels)
    y, x = np.mgrid[:height, :width]
    distance2 = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2
    saliency = saliency * np.exp(-distance2 / (2 * 0.35**2))
    if saliency.max() < 1:  # a plain wall
        return None
    inside, whole = _outlines(pixels, saliency)
    subject = _heaviest_parts(inside, saliency)
    if subject.sum() < 0.001 * height * width:
        return None
    columns, rows = np.flatnonzero(subject.any(axis=0)), np.flatnonzero(subject.any(axis=1))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return box, _touching(_heaviest_parts(whole, saliency))


def _outlines(pixels: np.ndarray, saliency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of what stands out: with the edge taken for background, and left open.

    The first gives the tighter box. In the second a subject that is cut off grows to the edge,
    since its colours are known by then.
    """
    import cv2
    import numpy as np

    scaled = (saliency / saliency.max() * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)
    labels = np.where(scaled > threshold, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[scaled > max(threshold * 1.6, np.quantile(scaled, 0.95))] = cv2.GC_FGD
    is_edge = np.ones(labels.shape, bool)
    edge = max(2, min(labels.shape) // 50)
    is_edge[edge:, edge:-edge] = False  # below it stays open: things stand there
    labels[is_edge | (scaled < 13)] = cv2.GC_BGD
    is_subject = labels & 1 == 1
    if not is_subject.any() or is_subject.all():
        return is_subject, is_subject
    bgr, models = np.ascontiguousarray(pixels[..., ::-1]), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.setRNGSeed(0)  # GrabCut begins with a random k-means
    cv2.grabCut(bgr, labels, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    inside = labels & 1 == 1
    labels[is_edge] = cv2.GC_PR_BGD
    cv2.grabCut(bgr, labels, None, *models, 1, cv2.GC_EVAL)
    return inside, labels & 1 == 1


def _heaviest_parts(mask: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """Return the connected parts of ``mask`` with a quarter or more of the heaviest's saliency."""
    import cv2
    import numpy as np

    count, parts = cv2.connectedComponents(mask.astype(np.uint8))
    weights = np.bincount(parts.ravel(), saliency.ravel(), minlength=count)[1:]
    if count < 2 or weights.max() <= 0:
        return np.zeros_like(mask)
    return np.isin(parts, 1 + np.flatnonzero(weights >= 0.25 * weights.max()))


def _touching(subject: np.ndarray) -> float:
    """Return the longest part of a mask on an edge, in parts of the mask's width or height."""
    height, width = subject.any(axis=1).sum(), subject.any(axis=0).sum()
    if not height:
        return 0.0
    upright = max(subject[:, 0].sum(), subject[:, -1].sum()) / height
    level = max(subject[0].sum(), subject[-1].sum()) / width
    return float(max(upright, level))


def _geodesic_saliency(pixels: np.ndarray) -> np.ndarray:
    """Return for each pixel the least sum of colour steps (CIELAB) on a way to the border."""
    import cv2
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra
    from skimage.segmentation import slic

    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    parts = slic(
        lab, 250, compactness=10, max_num_iter=5, convert2lab=False, start_label=0, channel_axis=-1
    )
    count = int(parts.max()) + 1
    areas = np.bincount(parts.ravel(), minlength=count)
    channels = lab.reshape(-1, 3).T
    mean = np.stack([np.bincount(parts.ravel(), c, minlength=count) / areas for c in channels], 1)
    first = np.concatenate([parts[:, :-1].ravel(), parts[:-1].ravel()])
    second = np.concatenate([parts[:, 1:].ravel(), parts[1:].ravel()])
    beside = np.stack([first, second], axis=1)[first != second]
    first, second = np.unique(np.sort(beside, axis=1), axis=0).T
    steps = np.linalg.norm(mean[first] - mean[second], axis=1)
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    # A part of the border that is unlike most of the border may be the subject, cut off there.
    apart = np.linalg.norm(mean[border][:, None] - mean[border][None], axis=2)
    unlike = np.sort(apart, axis=1)[:, len(border) // 3]
    outside = count
    weights = np.maximum(np.concatenate([steps, unlike]) - 3, 0.01)  # 3: just visible in CIELAB
    ends = np.concatenate([first, border]), np.concatenate([second, np.full(len(border), outside)])
    ways = coo_matrix((weights, ends), shape=(count + 1, count + 1))
    return dijkstra(ways.tocsr(), directed=False, indices=outside)[parts]
