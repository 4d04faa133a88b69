"""Networks that look at pictures: found, loaded, and fed as each wants its pictures."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.building import building
from s2i_lib.models.folder import TOWER_CONFIGS, check_network, check_vocabulary, load_or_refuse
from s2i_lib.models.parts import quiet_transformers
from s2i_lib.models.registry import DEPTH, SAFETY_CHECKER, SD1
from s2i_lib.storage import hub
from s2i_lib.storage.hub import Source
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.layout import Drive, folder_name

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
MOST_PX = 4096

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
    DEPTH: (Source(DEPTH, "5426e4f0f36572d16453bbda7a8389317b1bef99"),),
}


@dataclass(frozen=True)
class Preparation:
    """How a network wants its pictures, as its folder's JSON says."""

    size: int
    """Shorter side after resizing, in pixels."""
    crop: int | None
    """Side of the square that is cut from the middle, in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int = 3  # bicubic
    is_square: bool = False
    """Whether both sides become ``size``, whatever the shape was."""
    multiple: int = 0
    """Number of pixels that both sides become a multiple of, and the shape nearly stays; 0: no."""

    @classmethod
    def read(cls, folder: Path, default: Preparation | None = None) -> Preparation:
        """Read processor_config.json (transformers 5) or preprocessor_config.json (before).

        Return ``default`` where there is neither.
        """
        names = ("processor_config.json", "preprocessor_config.json")
        here = [folder / name for name in names if (folder / name).is_file()]
        if not here and default is not None:
            return default
        try:
            found: dict[str, Any] = load_object(here[0]) if here else {}
            found = found.get("image_processor", found)
            size, crop = found["size"], found.get("crop_size")
            sides = size if isinstance(size, dict) else {"shortest_edge": size}
            side = sides.get("shortest_edge") or sides["height"]
            cut = _side(crop) if found.get("do_center_crop") else None
            multiple = found.get("ensure_multiple_of", 0) if found.get("keep_aspect_ratio") else 0
            if not all(1 <= px <= MOST_PX for px in (side, cut or 1, multiple or 1)):
                raise ValueError(f"pictures of {side} px, cut to {cut}, a multiple of {multiple}")
            return cls(
                size=side,
                crop=cut,
                mean=tuple(found["image_mean"]),
                std=tuple(found["image_std"]),
                resample=found.get("resample", 3),
                is_square="shortest_edge" not in sides or not found.get("do_center_crop"),
                multiple=multiple,
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder} does not say how pictures are prepared for it ({error!r}). "
                "Expected a processor_config.json or preprocessor_config.json as transformers "
                "writes it. Copy the whole folder again."
            ) from error

    def __call__(self, images: Sequence[Image]) -> torch.Tensor:
        """Return pictures of any size as input, shape = (n, 3, high, wide), float32."""
        import torch

        arrays = np.stack([np.asarray(self._fit(image), np.float32) for image in images]) / 255
        arrays = (arrays - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(arrays.transpose(0, 3, 1, 2).copy())

    def _fit(self, image: Image) -> Image:
        image, short = image.convert("RGB"), min(image.size)
        if self.multiple:
            # By whichever side it grows or shrinks less for, as transformers' DPTImageProcessor.
            scales = (self.size / image.height, self.size / image.width)
            scale = min(scales, key=lambda one: abs(1 - one))
            wide, high = (
                max(1, round(side * scale / self.multiple)) * self.multiple for side in image.size
            )
            return image.resize((wide, high), self.resample)
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


def on_the_cpu_if_full(network: Any, work: Callable[[], np.ndarray]) -> np.ndarray:
    """Return what ``work`` gives; where the GPU is full, ``network`` does it on the CPU."""
    import torch

    try:
        return work()
    except torch.OutOfMemoryError:
        _move_to_cpu(network)
    return work()


def place(network: Any, device: torch.device | None) -> Any:
    """Return the network on ``device``, if one is named and has room for it."""
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


def is_here(source: str, drive: Drive) -> bool:
    """Return whether a network is on this disk or the Drive, so that nothing is downloaded."""
    return _is_folder(source) or hub.is_whole(drive.models / folder_name(source), choose_files)


def _is_folder(source: str) -> bool:
    """Return whether a folder is meant; a repository of ours is never one in the working folder."""
    return source not in SOURCES and Path(source).is_dir()


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
    if _is_folder(source):
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
    towers: Collection[str] = TOWER_CONFIGS,
) -> Any:
    """Load a network of class ``kind`` from a folder, safetensors only, in ``dtype`` or fp32."""
    import torch

    check_network(folder, towers)
    with building:  # a library that another thread imports lacks names meanwhile
        quiet_transformers()
        network, info = load_or_refuse(
            folder,
            lambda: kind.from_pretrained(
                str(folder),
                dtype=dtype or torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
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
    return place(network.eval(), device)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a network that reads texts, from a folder that was checked."""
    from transformers import AutoTokenizer

    check_vocabulary(folder)
    return load_or_refuse(
        folder,
        lambda: AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        ),
    )
