"""The pocket model's AutoencoderKL: a fixed encoder that is a PCA, and a decoder that is trained.

A few dozen numbers say what is in each 16 x 16 patch. The best linear ones (PCA) are known before
any training, and a diffusers `Encoder` can be given weights that compute just those: stride-2
convolutions as space-to-depth, residual branches that add nothing, a GroupNorm held still by large
constant channels, and SiLU undone by silu(x) - silu(-x) = x. So the latents are settled at once and
for good: the U-Net starts without waiting, and a better decoder never makes it stale.

A 16 x 16 patch has 768 numbers, which would ask for wide layers; so each of its four 8 x 8 patches
is first reduced to the 96 that matter most.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from tools.pocket import data
from tools.pocket.training import (
    as_tensor,
    cosine,
    load_state,
    psnr_db,
    save_state,
    work_folder,
)

LATENTS = 48
HALF = 96  # numbers kept of each 8 x 8 patch on the way
CHANNELS = (32, 48, 96, 128, 256)
GROUPS = 4  # at least 8 channels a group: GroupNorm over fewer erases flat colours
STILL = 100.0  # the constant channels; the signal is of order 1, so the norm moves by 1e-4
LOG_VARIANCE = -8.0  # posterior: standard deviation 0.018 beside latents of order 1
WHITENING = 0.5  # latent k is divided by sd_k ** 0.5: what matters most keeps most of the variance

STEPS, BATCH, PHOTOS, PEAK_LR, WARMUP = 6000, 8, 2, 1e-3, 100


def patches(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """Return square patches, (n, rows, columns, side * side * 3), in the order (y, x, colour)."""
    n, c, height, width = pictures.shape
    cut = pictures.reshape(n, c, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, height // side, width // side, -1)


def halves(found: torch.Tensor) -> torch.Tensor:
    """Join what is known of four neighbouring patches: (n, 2h, 2w, k) to (n, h, w, 4k)."""
    n, height, width, k = found.shape
    cut = found.reshape(n, height // 2, 2, width // 2, 2, k).permute(0, 1, 3, 2, 4, 5)
    return cut.reshape(n, height // 2, width // 2, 4 * k)


def _components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov((rows - mean).astype(np.float32), rowvar=False))
    order = np.argsort(-values)[:count]
    kept = values[order].sum() / values.sum()
    return mean, vectors[:, order].T, np.sqrt(values[order]), float(kept)


def fit(count: int = LATENTS) -> dict[str, np.ndarray]:
    """Return the two steps of the PCA, fitted on scenes and photo crops, pixels in [-1, 1].

    `first` (96, 192) and `offset` (96,) take an 8 x 8 patch; `second` (count, 384) and `shift`
    (count,) take four of those and give the latents, scaled by their spread.
    """
    scenes = data.shard(900)[0][:3000]
    photos = np.load(work_folder() / "photo_crops.npy")[:1000]
    pixels = as_tensor(np.concatenate([scenes, photos]))
    small = patches(pixels, 8)
    rng = np.random.default_rng(0)
    rows = small.reshape(-1, 192).numpy()
    mean, first, _, kept_first = _components(rows[rng.choice(len(rows), 200_000)], HALF)
    offset = -first @ mean
    joined = halves(small @ torch.tensor(first).T.float() + torch.tensor(offset).float())
    rows = joined.reshape(-1, 4 * HALF).numpy()
    mean, second, spread, kept = _components(rows[rng.choice(len(rows), 100_000)], count)
    second = second / spread[:, None] ** WHITENING
    print(f"PCA keeps {kept_first:.5f}, then {kept:.4f} of the variance; {np.round(spread, 2)}")
    return {"first": first, "offset": offset, "second": second, "shift": -second @ mean}


@functools.cache
def pca() -> dict[str, torch.Tensor]:
    with np.load(work_folder() / "pca.npz") as saved:
        return {name: torch.tensor(saved[name]).float() for name in saved.files}


def encode(pixels: torch.Tensor, p: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Return the latents (unscaled means) of pictures in [-1, 1]: (n, LATENTS, h / 16, w / 16)."""
    p = p or pca()
    found = halves(patches(pixels, 8) @ p["first"].T + p["offset"]) @ p["second"].T + p["shift"]
    return found.permute(0, 3, 1, 2)


def latents(pictures: np.ndarray) -> torch.Tensor:
    """Return the latents that the encoder gives, by two matrix products: float16."""
    chunks = [encode(as_tensor(pictures[i : i + 250])).half() for i in range(0, len(pictures), 250)]
    return torch.cat(chunks)


def linear_decode(found: torch.Tensor, p: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the best linear guess at the pictures that have these latents."""
    back = torch.linalg.pinv(p["second"])
    rows = (found.permute(0, 2, 3, 1) - p["shift"]) @ back.T
    n, height, width, _ = rows.shape
    small = rows.reshape(n, height, width, 2, 2, HALF).permute(0, 1, 3, 2, 4, 5)
    small = small.reshape(n, 2 * height, 2 * width, HALF) - p["offset"]
    pixels = (small @ p["first"]).reshape(n, 2 * height, 2 * width, 8, 8, 3)
    return pixels.permute(0, 5, 1, 3, 2, 4).reshape(n, 3, 16 * height, 16 * width)


@torch.no_grad()
def build(p: dict[str, torch.Tensor]) -> AutoencoderKL:
    """Return an AutoencoderKL whose encoder computes the PCA and whose decoder is a thumbnail."""
    torch.manual_seed(0)
    count = len(p["second"])
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=count,
        norm_num_groups=GROUPS,
        sample_size=128,
        mid_block_add_attention=False,
    )
    for name, parameter in vae.named_parameters():
        if ".conv2." in name:
            parameter.zero_()
    for conv in (vae.quant_conv, vae.post_quant_conv):
        torch.nn.init.dirac_(conv.weight)
        conv.bias.zero_()
    _set_encoder(vae.encoder, p)
    _set_decoder(vae.decoder, p)
    return vae


def _blank(conv: torch.nn.Conv2d) -> None:
    conv.weight.zero_()
    conv.bias.zero_()


def _keep(block: torch.nn.Module, count: int) -> None:
    """Make a block's shortcut, if it has one, keep the first channels."""
    shortcut = block.resnets[0].conv_shortcut
    if shortcut is not None:
        _blank(shortcut)
        shortcut.weight[range(count), range(count), 0, 0] = 1


def _set_encoder(encoder: torch.nn.Module, p: dict[str, torch.Tensor]) -> None:
    _blank(encoder.conv_in)
    encoder.conv_in.weight[range(3), range(3), 1, 1] = 1
    blocks = encoder.down_blocks
    convs = [block.downsamplers[0].conv for block in blocks[:4]]
    for block, carried in zip(blocks[:4], (3, 12, 48, HALF), strict=True):
        _keep(block, carried)
    for conv in convs:  # padded right and below: taps 0 and 1 are the patch
        _blank(conv)
    for conv, carried in zip(convs[:2], (3, 12), strict=True):  # space to depth
        for y in range(2):
            for x in range(2):
                for c in range(carried):
                    conv.weight[(y * 2 + x) * carried + c, c, y, x] = 1
    # A pixel (y, x, colour) of a 4 x 4 patch is by now at channel ((y2 x2) (y1 x1) colour).
    first = p["first"].reshape(HALF, 8, 8, 3)
    for y in range(8):
        for x in range(8):
            y4, y2, y1 = y // 4, y // 2 % 2, y % 2
            x4, x2, x1 = x // 4, x // 2 % 2, x % 2
            at = ((y2 * 2 + x2) * 4 + y1 * 2 + x1) * 3
            convs[2].weight[:HALF, at : at + 3, y4, x4] = first[:, y, x]
    convs[2].bias[:HALF] = p["offset"]
    count = len(p["second"])
    second = p["second"].reshape(count, 2, 2, HALF)
    for y in range(2):
        for x in range(2):
            convs[3].weight[:count, :HALF, y, x] = second[:, y, x]
    convs[3].bias[:count] = p["shift"]
    # Each latent twice, with both signs, beside constants that hold its group's norm still.
    per_group, width = count // GROUPS, CHANNELS[-1] // GROUPS
    shortcut, norm = blocks[4].resnets[0].conv_shortcut, encoder.conv_norm_out
    _blank(shortcut)
    _blank(encoder.conv_out)
    norm.weight.zero_()
    norm.bias.zero_()
    encoder.conv_out.bias[count:] = LOG_VARIANCE
    for k in range(count):
        group, place = divmod(k, per_group)
        for half, sign in enumerate((1.0, -1.0)):
            channel = group * width + place * 2 + half
            shortcut.weight[channel, k] = sign
            norm.weight[channel] = STILL * (2 / width) ** 0.5
            encoder.conv_out.weight[k, channel, 1, 1] = sign
    for group in range(GROUPS):
        last = (group + 1) * width
        shortcut.bias[last - 2], shortcut.bias[last - 1] = STILL, -STILL


def _set_decoder(decoder: torch.nn.Module, p: dict[str, torch.Tensor]) -> None:
    count = len(p["second"])
    flat = torch.zeros(1, count, 1, 1)
    colour = linear_decode(flat, p).mean((0, 2, 3))
    unit = torch.eye(count)[:, :, None, None]
    back = (linear_decode(unit, p).mean((2, 3)) - colour).T  # mean colour of a patch, (3, count)
    decoder.conv_in.weight[:6] = 0
    decoder.conv_in.weight[:3, :, 1, 1], decoder.conv_in.weight[3:6, :, 1, 1] = back, -back
    decoder.conv_in.bias[:3], decoder.conv_in.bias[3:6] = colour, -colour
    for block in decoder.up_blocks:
        convs = [r.conv_shortcut for r in block.resnets if r.conv_shortcut is not None]
        convs += [u.conv for u in block.upsamplers or []]
        for conv in convs:
            middle = conv.weight.shape[-1] // 2
            conv.weight[:6], conv.bias[:6] = 0, 0
            conv.weight[range(6), range(6), middle, middle] = 1
    _blank(decoder.conv_out)
    decoder.conv_out.weight[range(3), range(3), 1, 1] = 0.6
    decoder.conv_out.weight[range(3), range(3, 6), 1, 1] = -0.6


def report(vae: AutoencoderKL) -> str:
    """Say the signal-to-noise ratio of held-back scenes and of the last photo crops."""
    scenes = data.shard(data.HELD_BACK)[0][:100]
    photos = np.load(work_folder() / "photo_crops.npy")[-100:]
    said = []
    with torch.no_grad():
        for name, pictures in (("scenes", scenes), ("photo crops", photos)):
            real = as_tensor(pictures)
            found = encode(real)
            with torch.autocast("cpu", torch.bfloat16):
                made = torch.cat([vae.decode(x).sample for x in found.split(25)])
            said.append(f"{name} {psnr_db(made, real):.2f} dB")
    return ", ".join(said)


def load() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(work_folder() / "vae").eval()


def scaling_factor() -> float:
    return json.loads((work_folder() / "vae" / "config.json").read_text())["scaling_factor"]


def start(folder: Path) -> None:
    """Write the untrained autoencoder: its encoder, hence the latents, is already final."""
    np.savez(work_folder() / "pca.npz", **fit())
    pca.cache_clear()
    vae = build(pca()).eval()
    spread = float(latents(data.shard(900)[0][3000:4000]).float().std())
    vae.register_to_config(scaling_factor=round(1 / spread, 4))
    vae.save_pretrained(folder)
    print(f"scaling factor {vae.config.scaling_factor}; before training: {report(vae)}")


def train(steps: int) -> None:
    """Train the decoder alone, from where the last run stopped, `steps` in all."""
    folder = work_folder() / "vae"
    vae = load().train()
    state_file = work_folder() / "vae_state.pt"
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=1e-4)
    begin = 0
    if state := load_state(state_file):
        vae.decoder.load_state_dict(state["decoder"])
        vae.post_quant_conv.load_state_dict(state["post_quant_conv"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    vae.decoder.to(memory_format=torch.channels_last)
    scenes = data.shard(data.PIXELS.start)[0]
    photos = np.load(work_folder() / "photo_crops.npy")[:-200]
    began, losses = time.time(), []
    for step in range(begin, steps):
        rng = np.random.default_rng([step, 7])
        chosen = np.sort(rng.choice(len(scenes), BATCH - PHOTOS, replace=False))
        crops = photos[rng.choice(len(photos), PHOTOS)]
        pictures = np.concatenate([scenes[chosen], crops])
        real = as_tensor(pictures).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps, WARMUP)
        with torch.no_grad():
            found = encode(real)
            found += 0.02 * torch.randn_like(found)
        with torch.autocast("cpu", torch.bfloat16):
            error = vae.decode(found).sample.float() - real
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = error.abs().mean() + 4 * error.pow(2).mean() + 0.5 * edges
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        done = step + 1
        if done % 25 == 0:
            rate = (done - begin) * BATCH / (time.time() - began)
            print(
                f"step {done}/{steps} loss {np.mean(losses[-25:]):.4f} {rate:.1f} pictures/s",
                flush=True,
            )
        if done % 100 == 0 or done == steps:
            vae.eval()
            print("  ", report(vae), flush=True)
            vae.train()
            state = {
                "decoder": vae.decoder.state_dict(),
                "post_quant_conv": vae.post_quant_conv.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": done,
            }
            save_state(state, state_file)
            vae.save_pretrained(folder)


def main() -> None:
    folder = work_folder() / "vae"
    if not (folder / "config.json").exists():
        start(folder)
    if sys.argv[1:] == ["start"]:
        return
    train(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)


if __name__ == "__main__":
    main()
