"""Keep of the last picture what a change does not speak of.

A change is drawn from the same noise, which alone keeps the rest only roughly. So the sampler takes
the latents that stay from the last picture at every step, noised to that step's level; what is
drawn can go on from them. At the end the last picture's own pixels are laid back with a soft edge.

Which part stays is told by the subject's mask: of a new ground the subject, of a change of the
subject its surroundings. Where the subject will be then, nobody knows before it is drawn: it is
looked for again in what the model takes the finished picture to be, part of the way. And where what
was drawn differs much from the last picture, a mask has erred, or something new stands there:
nothing is laid over it, so that no ghost of the old subject or ground is left.

Source: Avrahami et al. 2022, Blended Latent Diffusion (arXiv:2206.02779); the masks are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2i_lib.drawing.sampling import DrawOptions, Step, decode, encode
from s2i_lib.photos.mask import IS_SUBJECT, find_mask

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

    from s2i_lib.drawing.records import Chain
    from s2i_lib.models.loading import Model

SUBJECT, SURROUNDINGS = "subject", "surroundings"
"""What may stay of a picture."""
BEGIN = 0.4  # share of the steps before a changed subject is looked for: by then it has a shape
# In parts of the picture's side, chosen on pictures of the 64 px model and good for 128 px, too
# (benchmarks/README.md, changes by voice):
GROWN = 1 / 32  # around a subject that changes: its soft edge and its shadow go with it
SHRUNK = 1 / 64  # within one that stays, for what the sampler keeps: the old ground is in its edge
FEATHER = 1 / 32  # over which what is laid back fades in
BLUR = 1 / 64  # over which two pictures are compared: not pixel by pixel
# Mean difference of a colour channel, 0 to 255, up to which all of the last picture is laid back,
# and from which on nothing is. Around a subject that stays all else changes, so more is allowed.
ALIKE = {SUBJECT: (33, 67), SURROUNDINGS: (13, 27)}


@dataclass(frozen=True)
class Kept:
    """The picture that a change is made of, and what of it stays."""

    image: Image
    stays: str
    """`SUBJECT` or `SURROUNDINGS`"""


def kept_of(model: Model, chain: Chain | None, options: DrawOptions) -> list[Kept]:
    """Return what a change keeps of each picture before it; nothing where that cannot be done.

    The weights have to be those of the picture before: `redo` draws it again with them.
    """
    if chain is None or not chain.stays or options.is_panorama:
        return []
    sides = (model.base.size_px,) * 2
    fits = [
        one.image.size == sides and one.record.get("hashes") == model.hashes()
        for one in chain.before
    ]
    return [Kept(one.image, chain.stays) for one in chain.before] if all(fits) else []


class Keeper:
    """Keeps a part of one picture while the next is drawn; nothing where its mask is doubtful."""

    def __init__(self, model: Model, kept: Kept) -> None:
        self.model, self.kept = model, kept
        self.latents = encode(model, kept.image)
        mask = find_mask(kept.image)
        self.is_sure = not mask.doubt
        self._subject = mask.alpha >= IS_SUBJECT
        self._cells: torch.Tensor | None = None

    def blend(self, step: Step, noised: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return the latents after a step with those of the last picture where that stays.

        Parameters
        ----------
        noised : makes of finished latents what they are after this step
        """
        import torch

        if self._cells is None and self.is_sure:
            self._cells = self._find_cells(step)
        if self._cells is None:
            return step.latents
        return torch.where(self._cells, noised(self.latents), step.latents)

    def lay_over(self, drawn: Image) -> Image:
        """Lay what stays over what was drawn, with a soft edge, where the two are alike."""
        import cv2
        import numpy as np
        from PIL import Image as Pillow

        if not self.is_sure:
            return drawn
        before, after = (np.asarray(one, np.float32) for one in (self.kept.image, drawn))
        is_subject_kept = self.kept.stays == SUBJECT
        stays = self._subject if is_subject_kept else ~self._grow(self._subject, GROWN)
        depth = cv2.distanceTransform(stays.astype(np.uint8), cv2.DIST_L2, 5)
        share = (depth / self._px(FEATHER)).clip(0, 1) * self._alike(drawn)
        share = share[..., None]
        mixed = share * before + (1 - share) * after
        return Pillow.fromarray(mixed.round().astype(np.uint8))

    def _find_cells(self, step: Step) -> torch.Tensor | None:
        """Which latents stay, shape = (1, 1, h, w): cells that lie inside with all their pixels."""
        import torch

        if self.kept.stays == SUBJECT:
            stays = ~self._grow(~self._subject, SHRUNK)
        elif step.number < BEGIN * step.total:
            return None
        else:
            [seen] = decode(self.model, step.denoised)
            new = find_mask(seen)
            if new.doubt:
                return None
            stays = ~self._grow(self._subject | (new.alpha >= IS_SUBJECT), GROWN)
            stays &= self._alike(seen) == 1  # a mask misses what hardly stands out
        height, width = self.latents.shape[-2:]
        cells = stays.reshape(height, len(stays) // height, width, -1).all(axis=(1, 3))
        return torch.from_numpy(cells)[None, None].to(self.latents.device)

    def _alike(self, drawn: Image) -> np.ndarray:
        """How far what was drawn is like the last picture, 0 to 1, shape = (height, width)."""
        import cv2
        import numpy as np

        before, after = (np.asarray(one, np.float32) for one in (self.kept.image, drawn))
        difference = np.abs(before - after).mean(axis=2)
        difference = cv2.GaussianBlur(difference, (0, 0), self._px(BLUR))
        least, most = ALIKE[self.kept.stays]
        alike: np.ndarray = ((most - difference) / (most - least)).clip(0, 1)
        return alike

    def _grow(self, area: np.ndarray, share: float) -> np.ndarray:
        import cv2
        import numpy as np

        reach = self._px(share)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
        return cv2.dilate(area.astype(np.uint8), disc).astype(bool)

    def _px(self, share: float) -> int:
        return max(1, round(share * len(self._subject)))
