"""The networks that measure pictures: CLIP (pictures and texts), DINO (pictures), LPIPS (pairs).

Loaded with transformers' own classes and without torchvision, from a folder, the Drive or the hub.
Not run here: the weights of DINO ViT-S/16, CLIP ViT-L/14 and LPIPS. The tests load small networks
of the same classes with random weights, and the pocket model's own scorer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.devices import pick_device, visiting_if_there_is_room
from s2i_lib.models.digests import digest_of
from s2i_lib.models.folder import load_or_refuse
from s2i_lib.models.registry import PACKAGE, BaseModel
from s2i_lib.models.vision import (
    Preparation,
    find_network,
    load_network,
    load_tokenizer,
    on_the_cpu_if_full,
    place,
)
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike
    from PIL.Image import Image

log = logging.getLogger(__name__)

BATCH = 32  # pictures at a time: a ViT-L/14 in fp32 then takes under 2 GiB


def unit(vectors: ArrayLike) -> np.ndarray:
    """Return vectors of length 1 in the same directions, shape = (n, features), float64.

    Raises
    ------
    S2iError
        When a vector is zero or not a number: nothing has that direction.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise S2iError(
            "The scorer gave embeddings that are zero or not numbers, so nothing can be compared. "
            "Its weights are damaged, or do not work in this precision: use fp32."
        )
    return rows / lengths


@dataclass
class ClipScorer:
    """A two-tower network that sees pictures and reads texts."""

    network: Any
    tokenizer: Any
    prepare: Preparation
    name: str
    """Name that the report has beside every number that it gave."""
    sha256: str

    def images(self, images: Sequence[Image]) -> np.ndarray:
        """Return unit vectors, shape = (len(images), features)."""
        return _embed(images, self.network, self._see)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape = (len(texts), features); a text too long for it is cut."""
        return _embed(texts, self.network, self._read)

    def _see(self, images: Sequence[Image]) -> torch.Tensor:
        pixels = self.prepare(images).to(self.network.device, self.network.dtype)
        return _pooled(self.network.get_image_features(pixel_values=pixels))

    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.network.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.network.device)
        return _pooled(
            self.network.get_text_features(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            )
        )


@dataclass
class DinoScorer:
    """A vision transformer trained without labels, so that it sees what tells individuals apart."""

    network: Any
    prepare: Preparation
    name: str
    sha256: str

    def images(self, images: Sequence[Image]) -> np.ndarray:
        """Return unit vectors of the class token, shape = (len(images), features)."""
        return _embed(images, self.network, self._see)

    def _see(self, images: Sequence[Image]) -> torch.Tensor:
        pixels = self.prepare(images).to(self.network.device, self.network.dtype)
        return self.network(pixels).last_hidden_state[:, 0]


@dataclass
class LpipsScorer:
    """The learned perceptual distance of two pictures, 0 for equal ones.

    Source: Zhang et al. 2018, https://arxiv.org/abs/1801.03924, version 0.1 on AlexNet.
    """

    network: Any
    name: str
    sha256: str
    size_px: int = 224

    def distances(self, images: Sequence[Image]) -> np.ndarray:
        """Return the distance of each picture to each, shape = (n, n), symmetric, 0 to itself."""
        table = on_the_cpu_if_full(self.network, lambda: self._table(images))
        if not np.isfinite(table).all():
            raise S2iError(
                f"The network {self.name} gave distances that are not numbers, so nothing can be "
                "compared. Its weights are damaged: copy them again."
            )
        return table

    def _table(self, images: Sequence[Image]) -> np.ndarray:
        import torch

        prepare = Preparation(self.size_px, self.size_px, (0.5,) * 3, (0.5,) * 3, is_square=True)
        table = np.zeros((len(images),) * 2)
        with torch.inference_mode():
            pixels = prepare(images).to(next(self.network.parameters()).device)
            features = [self.network.features(image[None]) for image in pixels]
            for i, one in enumerate(features):
                for j in range(i):
                    table[i, j] = table[j, i] = float(self.network.distance(one, features[j]))
        return table


def make_lpips_network(channels: Sequence[int] = (64, 192, 384, 256, 256)) -> Any:
    """Make AlexNet's convolutions and LPIPS's linear layers, under the lpips package's names."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    # Each layer's number in torchvision's AlexNet, which the names keep; kernel, stride, padding.
    layers = ((0, 11, 4, 2), (3, 5, 1, 2), (6, 3, 1, 1), (8, 3, 1, 1), (10, 3, 1, 1))

    class Lpips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.ModuleDict()
            for i, (number, *shape) in enumerate(layers):
                conv = nn.Conv2d((3, *channels)[i], channels[i], *shape)
                self.net[f"slice{i + 1}"] = nn.ModuleDict({str(number): conv})
            for i, width in enumerate(channels):
                linear = nn.ModuleDict({"1": nn.Conv2d(width, 1, 1, bias=False)})
                setattr(self, f"lin{i}", nn.ModuleDict({"model": linear}))
            self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]), persistent=False)
            self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]), persistent=False)

        def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
            """Return of pictures in -1 to 1 each layer's maps, of length 1 at every place."""
            x = (pixels - self.shift.view(3, 1, 1)) / self.scale.view(3, 1, 1)
            maps = []
            for i, part in enumerate(self.net.values()):
                x = F.max_pool2d(x, 3, 2) if i in (1, 2) else x
                (layer,) = part.values()
                x = F.relu(layer(x))
                maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
            return maps

        def distance(self, one: list[torch.Tensor], other: list[torch.Tensor]) -> torch.Tensor:
            total = torch.zeros(len(one[0]), device=one[0].device)
            for i, (a, b) in enumerate(zip(one, other, strict=True)):
                linear = getattr(self, f"lin{i}")["model"]["1"]
                total = total + linear((a - b).square()).mean(dim=(1, 2, 3))
            return total

    return Lpips().eval()


def _pooled(output: Any) -> torch.Tensor:
    """transformers 5 wraps the features that 4 returned as they were."""
    return getattr(output, "pooler_output", output)


def _embed(
    things: Sequence[Any], network: Any, ask: Callable[[Sequence[Any]], torch.Tensor]
) -> np.ndarray:
    import torch

    if not things:
        raise InputError("There is nothing to embed (found 0 pictures or texts, need 1 or more).")

    def work() -> np.ndarray:
        with torch.inference_mode():
            parts = [
                ask(things[i : i + BATCH]).float().cpu().numpy()
                for i in range(0, len(things), BATCH)
            ]
        return unit(np.concatenate(parts))

    return on_the_cpu_if_full(network, work)


@contextmanager
def awake(network: Any, device: torch.device) -> Iterator[None]:
    """Have a network on ``device`` while it works, if there is room for it there.

    It may wait on the CPU in half precision, which takes half the memory; a CPU computes in full,
    since half is slow there.
    """
    waits_in = network.dtype
    with visiting_if_there_is_room(network, device):
        if network.device.type == "cpu":
            network.float()
        try:
            yield
        finally:
            network.to(waits_in)


# --- loading ------------------------------------------------------------------------------------


@dataclass
class Scorers:
    """What can measure here; ``missing`` says why the others cannot, a sentence each."""

    clip: ClipScorer | None = None
    dino: DinoScorer | None = None
    lpips: LpipsScorer | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            kind: {"name": scorer.name, "sha256": scorer.sha256}
            for kind in ("clip", "dino", "lpips")
            if (scorer := getattr(self, kind)) is not None
        } | ({"missing": self.missing} if self.missing else {})


def load_scorers(base: BaseModel, drive: Drive, **instead: str | None) -> Scorers:
    """Load what the registry names for ``base``; one that is missing does not stop the others.

    Parameters
    ----------
    **instead
        clip, dino, lpips: a folder, a file or a hub repository to take in place of the registry's.
    """
    scorers, device = Scorers(), pick_device()
    for kind, named, load in (
        ("clip", base.scorer, load_clip),
        ("dino", base.dino, load_dino),
        ("lpips", base.lpips, load_lpips),
    ):
        source = instead.get(kind) or named
        if source is None:
            scorers.missing[kind] = f"{base.name} names no {kind.upper()} network."
            continue
        try:
            scorer = load(source, drive, device)
            if (path := Path(source)).is_relative_to(PACKAGE):  # it ships with us
                scorer.name = path.relative_to(PACKAGE).as_posix()
            setattr(scorers, kind, scorer)
        except S2iError as error:
            scorers.missing[kind] = str(error)
    return scorers


def load_clip(
    source: str,
    drive: Drive,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> ClipScorer:
    """Load a CLIPModel or VisionTextDualEncoderModel from a folder or the hub.

    On the CPU, if no device is named; in fp32, if no ``dtype`` is.

    Raises
    ------
    S2iError
        When it is found nowhere or cannot be read.
    """
    from transformers import AutoModel

    folder = find_network(source, drive)
    network = load_network(folder, AutoModel, device, dtype)
    if not hasattr(network, "get_text_features"):
        raise InputError(
            f"{folder} is a {type(network).__name__}, which cannot compare pictures with texts. "
            "Expected a CLIPModel or a VisionTextDualEncoderModel."
        )
    reads = load_tokenizer(folder)
    scorer = ClipScorer(network, reads, Preparation.read(folder), source, _digest(folder))
    with awake(network, network.device):
        load_or_refuse(folder, lambda: scorer.images([_blank()]) @ scorer.texts(["a picture"]).T)
    return scorer


def load_dino(source: str, drive: Drive, device: torch.device | None = None) -> DinoScorer:
    """Load a ViTModel from a folder or the hub, in fp32. Raises as ``load_clip`` does."""
    from transformers import AutoModel

    folder = find_network(source, drive)
    network = load_network(folder, AutoModel, device)
    if not hasattr(network.config, "patch_size") or hasattr(network, "get_text_features"):
        raise InputError(
            f"{folder} is a {type(network).__name__}. Expected a vision transformer: ViTModel."
        )
    scorer = DinoScorer(network, Preparation.read(folder), source, _digest(folder))
    load_or_refuse(folder, lambda: scorer.images([_blank()]))
    return scorer


def load_lpips(source: str, drive: Drive, device: torch.device | None = None) -> LpipsScorer:
    """Load LPIPS from a safetensors file, or REPOSITORY:FILE on the hub.

    The file has the tensors of the lpips package's own network (net.slice1.0.weight ...). Raises as
    ``load_clip`` does.
    """
    from s2i_lib.storage.tensor_file import load_tensors

    path = Path(source)
    if not path.is_file():
        repository, _, name = source.partition(":")
        if not name:
            raise InputError(
                f"There is no LPIPS file {source}. Expected a safetensors file, or "
                "REPOSITORY:FILE on the hub."
            )
        path = find_network(repository, drive, only=name) / name
    tensors = load_or_refuse(path, lambda: load_tensors(path))
    # Names sort by slice: slice1.0, slice2.3, slice3.6 ...
    names = [k for k in sorted(tensors) if k.startswith("net.") and k.endswith("weight")]
    widths = [len(tensors[k]) for k in names if tensors[k].dim() == 4]
    if len(widths) != 5:
        raise InputError(
            f"{path} has {len(widths)} convolutions under net. and LPIPS has 5. Expected the "
            "tensors of the lpips package (net.slice1.0.weight ...)."
        )
    network = make_lpips_network(widths)
    own = {name: tensors[name] for name in network.state_dict() if name in tensors}
    load_or_refuse(path, lambda: network.load_state_dict(own))  # also where one is missing
    return LpipsScorer(place(network, device), source, sha256_of(path))


def _blank() -> Image:
    """To ask a network once when it is loaded: what does not fit together is found here."""
    from PIL import Image

    return Image.new("RGB", (64, 64), "gray")


def _digest(folder: Path) -> str:
    """Of the weights; of several files, over the digests of all of them."""
    files = sorted(folder.glob("*.safetensors"))
    digests = [digest_of(file) for file in files]
    return digests[0] if len(files) == 1 else sha256("".join(digests).encode()).hexdigest()
