"""The networks that measure pictures: CLIP (pictures and texts), DINO (pictures), LPIPS (pairs).

Loaded with transformers' own classes and without torchvision, from a folder, the Drive or the hub.
Not run here: the weights of DINO ViT-S/16, CLIP ViT-L/14 and LPIPS. The tests load small networks
of the same classes with random weights, and the pocket model's own scorer.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib import hub
from s2i_lib.drive import Drive, folder_name, sha256_of
from s2i_lib.errors import InputError, S2iError
from s2i_lib.hub import Source, first_line
from s2i_lib.models import (
    SAFETY_CHECKER,
    SD1,
    BaseModel,
    digest_of,
    pick_device,
    quiet_transformers,
)
from s2i_lib.scores import unit

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
# Where the registry's networks are, pinned. The main branches of the safety checker and of DINO
# hold pickles alone, which are never opened: pull requests of the hub's own converter have
# safetensors, and Stable Diffusion 1 has the same checker as a part.
SOURCES: dict[str, tuple[Source, ...]] = {
    "openai/clip-vit-large-patch14": (
        Source("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"),
    ),
    "facebook/dino-vits16": (Source("facebook/dino-vits16", "refs/pr/1", commit="a7a4d16"),),
    SAFETY_CHECKER: (
        Source(SAFETY_CHECKER, "refs/pr/41", commit="1664e30"),
        replace(SD1, folder="safety_checker"),
    ),
}
BATCH = 32  # pictures at a time: a ViT-L/14 in fp32 then takes under 2 GiB


# --- pictures as tensors ------------------------------------------------------------------------


@dataclass(frozen=True)
class Preparation:
    """How a network wants its pictures, as its folder's JSON says."""

    size: int
    """Shorter side after resizing, in pixels."""
    crop: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int = 3  # bicubic
    is_square: bool = False
    """Resizes both sides to ``size``, whatever the shape was."""

    @classmethod
    def read(cls, folder: Path, default: Preparation | None = None) -> Preparation:
        """Read processor_config.json (transformers 5) or preprocessor_config.json (before).

        Where there is neither, it is ``default``.
        """
        names = ("processor_config.json", "preprocessor_config.json")
        here = [folder / name for name in names if (folder / name).is_file()]
        if not here and default is not None:
            return default
        try:
            found: dict[str, Any] = json.loads(here[0].read_text()) if here else {}
            found = found.get("image_processor", found)
            size, crop = found["size"], found.get("crop_size")
            sides = size if isinstance(size, dict) else {"shortest_edge": size}
            return cls(
                size=sides.get("shortest_edge") or sides["height"],
                crop=_side(crop) if found.get("do_center_crop") else None,
                mean=tuple(found["image_mean"]),
                std=tuple(found["image_std"]),
                resample=found.get("resample", 3),
                is_square="shortest_edge" not in sides or not found.get("do_center_crop"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder} does not say how pictures are prepared for it ({error!r}). "
                "Expected a processor_config.json or preprocessor_config.json as transformers "
                "writes it. Copy the whole folder again."
            ) from error

    def __call__(self, images: Sequence[Image]) -> torch.Tensor:
        """Pictures of any size as the network's input, shape = (n, 3, side, side), float32."""
        import torch

        arrays = np.stack([np.asarray(self._fit(image), np.float32) for image in images]) / 255
        arrays = (arrays - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(arrays.transpose(0, 3, 1, 2).copy())

    def _fit(self, image: Image) -> Image:
        image, short = image.convert("RGB"), min(image.size)
        # the longer side is cut off, not rounded, as transformers does
        width, height = (
            self.size if self.is_square or side == short else int(side * self.size / short)
            for side in image.size
        )
        image = image.resize((width, height), self.resample)
        if self.crop is None:
            return image
        left, top = (width - self.crop) // 2, (height - self.crop) // 2
        return image.crop((left, top, left + self.crop, top + self.crop))


# What CLIP was trained with. Source: openai/CLIP, clip/clip.py, ``_transform``.
CLIP_PREPARATION = Preparation(
    size=224,
    crop=224,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def _side(crop: Any) -> int:
    return crop["height"] if isinstance(crop, dict) else crop


# --- the networks -------------------------------------------------------------------------------


@dataclass
class ClipScorer:
    """A two-tower network that sees pictures and reads texts."""

    network: Any
    tokenizer: Any
    prepare: Preparation
    name: str
    """Goes into the report beside every number that it gave."""
    sha256: str

    def images(self, images: Sequence[Image]) -> np.ndarray:
        """Unit vectors, shape = (len(images), features)."""
        return _embed(images, self.network, self._see)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, shape = (len(texts), features); a text too long for it is cut."""
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
        """Unit vectors of the class token, shape = (len(images), features)."""
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
        """Of every picture to every other, shape = (n, n), symmetric, zero on the diagonal."""
        table = _on_the_cpu_if_full(self.network, lambda: self._table(images))
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
    """AlexNet's convolutions and LPIPS's five linear layers, under the lpips package's names."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def conv(place: int, i: int, o: int, kernel: int, stride: int = 1, padding: int = 0) -> Any:
        layer = nn.Conv2d(i, o, kernel, stride=stride, padding=padding)
        return nn.ModuleDict({str(place): layer})

    class Lpips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            a, b, c, d, e = channels
            # the numbers are the layers' places in torchvision's AlexNet, as the names keep them
            self.net = nn.ModuleDict(
                {
                    "slice1": conv(0, 3, a, 11, stride=4, padding=2),
                    "slice2": conv(3, a, b, 5, padding=2),
                    "slice3": conv(6, b, c, 3, padding=1),
                    "slice4": conv(8, c, d, 3, padding=1),
                    "slice5": conv(10, d, e, 3, padding=1),
                }
            )
            for i, width in enumerate(channels):
                linear = nn.ModuleDict({"1": nn.Conv2d(width, 1, 1, bias=False)})
                setattr(self, f"lin{i}", nn.ModuleDict({"model": linear}))
            self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]), persistent=False)
            self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]), persistent=False)

        def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
            """Of pictures in -1 to 1: each layer's maps, of length 1 at every place."""
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

    return _on_the_cpu_if_full(network, work)


# --- where they are -----------------------------------------------------------------------------


@contextmanager
def awake(network: Any, device: torch.device) -> Iterator[None]:
    """Have a network on ``device`` while it works, if there is room for it there.

    It may wait on the CPU in half precision, which takes half the memory; a CPU computes in full,
    since half is slow there.
    """
    from s2i_lib.batches import visiting_if_there_is_room

    waits_in = network.dtype
    with visiting_if_there_is_room(network, device):
        if network.device.type == "cpu":
            network.float()
        try:
            yield
        finally:
            network.to(waits_in)


def _on_the_cpu_if_full(network: Any, work: Callable[[], np.ndarray]) -> np.ndarray:
    """What ``work`` gives; where the GPU has no memory left, ``network`` does it on the CPU."""
    import torch

    try:
        return work()
    except torch.OutOfMemoryError:
        _move_to_cpu(network)
    return work()


def _place(network: Any, device: torch.device | None) -> Any:
    """The network on ``device``, if one is named and has room for it."""
    import torch

    try:
        return network if device is None else network.to(device)
    except torch.OutOfMemoryError:
        return _move_to_cpu(network)


def _move_to_cpu(network: Any) -> Any:
    import torch

    log.warning("The GPU is full, so %s works on the CPU, slowly.", type(network).__name__)
    network.to("cpu").float()  # where half precision is slow
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return network


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


def load_scorers(
    base: BaseModel, drive: Drive, device: torch.device | None = None, **instead: str | None
) -> Scorers:
    """Load what the registry names for ``base``; one that cannot be had does not stop the others.

    Parameters
    ----------
    device
        By default the GPU, if there is one.
    **instead
        clip, dino, lpips: a folder, a file or a hub repository to take in place of the registry's.
    """
    scorers, device = Scorers(), device or pick_device()
    for kind, named, load in (
        ("clip", base.scorer, load_clip),
        ("dino", base.dino, load_dino),
        ("lpips", base.lpips, load_lpips),
    ):
        source = instead.get(kind) or _below(base, named)
        if source is None:
            scorers.missing[kind] = f"{base.name} names no {kind.upper()} network."
            continue
        try:
            scorer = load(source, drive, device)
            if source != (instead.get(kind) or named):  # it ships with the model: no path of ours
                scorer.name = f"{base.name}/{named}"
            setattr(scorers, kind, scorer)
        except S2iError as error:
            scorers.missing[kind] = str(error)
    return scorers


def _below(base: BaseModel, named: str | None) -> str | None:
    if named and base.folder is not None and (base.folder / named).exists():
        return str(base.folder / named)
    return named


def clip_source(base: BaseModel) -> str | None:
    """Where the CLIP of ``base`` is: a folder that ships with it, or a hub repository."""
    return _below(base, base.scorer)


def is_here(source: str, drive: Drive) -> bool:
    """Return whether a network is on this disk or the Drive, so that nothing is downloaded."""
    return Path(source).is_dir() or hub.is_whole(drive.models / folder_name(source), choose_files)


def load_clip(
    source: str,
    drive: Drive,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> ClipScorer:
    """A CLIPModel or VisionTextDualEncoderModel from a folder or the hub.

    On the CPU, if no device is named; in fp32, if no ``dtype`` is.

    Raises
    ------
    S2iError
        When it cannot be had or read.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = find_network(source, drive)
    network = load_network(folder, AutoModel, device, dtype)
    if not hasattr(network, "get_text_features"):
        raise InputError(
            f"{folder} is a {type(network).__name__}, which cannot compare pictures with texts. "
            "Expected a CLIPModel or a VisionTextDualEncoderModel."
        )
    tokenizer = _read(folder, lambda: AutoTokenizer.from_pretrained(str(folder)))
    scorer = ClipScorer(network, tokenizer, Preparation.read(folder), source, _digest(folder))
    with awake(network, network.device):
        _read(folder, lambda: scorer.images([_blank()]) @ scorer.texts(["a picture"]).T)
    return scorer


def load_dino(source: str, drive: Drive, device: torch.device | None = None) -> DinoScorer:
    """A ViTModel from a folder or the hub, in fp32. Raises as ``load_clip`` does."""
    from transformers import AutoModel

    folder = find_network(source, drive)
    network = load_network(folder, AutoModel, device)
    if not hasattr(network.config, "patch_size") or hasattr(network, "get_text_features"):
        raise InputError(
            f"{folder} is a {type(network).__name__}. Expected a vision transformer: ViTModel."
        )
    scorer = DinoScorer(network, Preparation.read(folder), source, _digest(folder))
    _read(folder, lambda: scorer.images([_blank()]))
    return scorer


def load_lpips(source: str, drive: Drive, device: torch.device | None = None) -> LpipsScorer:
    """LPIPS from a safetensors file, or REPOSITORY:FILE on the hub. Raises as ``load_clip`` does.

    The file has the tensors of the lpips package's own network (net.slice1.0.weight ...).
    """
    from safetensors.torch import load_file

    path = Path(source)
    if not path.is_file():
        repository, _, name = source.partition(":")
        if not name:
            raise InputError(
                f"There is no LPIPS file {source}. Expected a safetensors file, or "
                "REPOSITORY:FILE on the hub."
            )
        path = find_network(repository, drive, only=name) / name
    tensors = _read(path, lambda: load_file(path))
    # Names sort by slice: slice1.0, slice2.3, slice3.6 ...
    names = [k for k in sorted(tensors) if k.startswith("net.") and k.endswith("weight")]
    widths = [len(tensors[k]) for k in names if tensors[k].dim() == 4]
    if len(widths) != 5:
        raise InputError(
            f"{path} has {len(widths)} convolutions under net. and LPIPS has 5. Expected the "
            "tensors of the lpips package (net.slice1.0.weight ...)."
        )
    network = _read(path, lambda: _filled(make_lpips_network(widths), tensors))
    network = _place(network, device)
    return LpipsScorer(network, source, sha256_of(path))


def _blank() -> Image:
    """To ask a network once when it is loaded: what does not fit together is found here."""
    from PIL import Image

    return Image.new("RGB", (64, 64), "gray")


def _filled(network: Any, tensors: dict[str, Any]) -> Any:
    wanted = {k: v for k, v in tensors.items() if k.startswith(("net.", "lin"))}
    wanted = {k: v for k, v in wanted.items() if not k.startswith("lins.")}
    network.load_state_dict(wanted)
    return network


def find_network(source: str, drive: Drive, *, only: str | None = None) -> Path:
    """Return a folder with a network: ``source`` itself, the Drive's copy, else the hub's.

    Parameters
    ----------
    source : str
        A folder, a name in ``SOURCES``, or a repository on the hub.
    only : str, optional
        The one file that is wanted of it.

    Raises
    ------
    S2iError
        When it is nowhere; each place is named with its reason.
    """
    if Path(source).is_dir():
        hub.verify(Path(source))
        return Path(source)
    kept = drive.models / folder_name(source)
    return hub.find(
        hub.Wanted(
            what=f"The network {source}, which looks at pictures,",
            sources=SOURCES.get(source, (Source(source),)),
            kept=kept,
            choose=functools.partial(choose_files, only=only),
            remedy=f"Check the network connection and try again, or copy it to {kept} (with "
            f"{only or WEIGHTS}). What needs no such network goes on all the same.",
        )
    )[0]


def choose_files(names: Collection[str], only: str | None = None) -> list[str]:
    """Choose the files of a network: its weights as safetensors, what says how it is built.

    Raises
    ------
    S2iError
        When the weights are not among them.
    """
    if (weights := only or WEIGHTS) not in names:
        raise S2iError(f"it has no {weights}")
    return [weights] if only else [n for n in names if n == weights or _is_small(n)]


def _is_small(name: str) -> bool:
    return "/" not in name and name.endswith((".json", ".txt")) and name != hub.CHECKSUMS


def load_network(
    folder: Path,
    kind: Any,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """A network of class ``kind`` from a folder, safetensors only, ready to be asked.

    In fp32, if no ``dtype`` is named.
    """
    import torch

    quiet_transformers()
    network, info = _read(
        folder,
        lambda: kind.from_pretrained(
            str(folder),
            dtype=dtype or torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        ),
    )
    # transformers makes up what it does not find. A ViT's pooler is never asked here.
    weights = {name for name, _ in network.named_parameters()}
    made_up = sorted(
        name for name in weights & set(info["missing_keys"]) if not name.startswith("pooler.")
    )
    if made_up:
        raise InputError(
            f"The weights in {folder} lack {len(made_up)} of the {len(weights)} that its "
            f"config.json calls for ({made_up[0]} ...). They are another network's, or a part: "
            "copy the whole folder again."
        )
    return _place(network.eval(), device)


def _read(path: Path, load: Callable[[], Any]) -> Any:
    """What ``load`` gives; what the libraries raise over a damaged file becomes our error."""
    try:
        return load()
    except S2iError:
        raise
    except Exception as error:  # odd files raise anything, from TypeError to validators of the hub
        raise InputError(
            f"{path} cannot be loaded ({first_line(error)}). Expected a network as transformers "
            "or lpips saves it, with safetensors weights. Copy it again."
        ) from error


def _digest(folder: Path) -> str:
    """Of the weights; of several files, over the digests of all of them."""
    files = sorted(folder.glob("*.safetensors"))
    digests = [digest_of(file) for file in files]
    return digests[0] if len(files) == 1 else sha256("".join(digests).encode()).hexdigest()
