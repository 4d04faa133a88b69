"""Draw docs/lead.png, the promise in one picture: photos of a subject, a sentence, what is drawn.

Everything in it is real: photos that a run was trained on, a recording, the words that Whisper
heard in it, and the picture that the run drew of them. It was made, with duck_toy of the DreamBooth
dataset (github.com/google/dreambooth, CC BY 4.0), by

    python -m s2i_lib dataset duck_toy --subject Daisy --class-noun duck --kind object
    python -m s2i_lib finetune --subject Daisy --model pocket --name lead \
        --option sample_every=0 --option sample_prompts= --option keep=last
    flite -voice slt -t "Daisy on a beach." -o daisy.wav
    python -m tools.lead_picture daisy/lead daisy.wav --seed 1
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from matplotlib.patches import FancyArrowPatch
from PIL import Image, ImageOps

import s2i_lib as s2i
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.pipeline import Wish
from s2i_lib.speech.audio import load_audio

DOCS = Path(__file__).parents[1] / "docs"
INK, BLUE, GREY = "#1f2328", "#2f6fd0", "#656d76"


def main(
    run: Annotated[str, typer.Argument(help="SUBJECT/RUN on the Drive.")],
    clip: Annotated[Path, typer.Argument(help="Recording that names the subject.")],
    seed: int = 0,
    drive: Path | None = None,
) -> None:
    """Speak to a run, and lay out what went in and what came out."""
    place = s2i.open_drive(drive)
    dataset = s2i.load_dataset(place, run.partition("/")[0])
    speech = s2i.SpeechToImage(place, run=run, options=DrawOptions(seed=seed))
    speech.folder = None
    wish = speech(str(clip))
    photos = [ImageOps.fit(Image.open(path), (256, 256)) for path in dataset.images]
    lay_out(photos, load_audio(clip), wish).savefig(DOCS / "lead.png", dpi=110, facecolor="white")


def lay_out(photos: list[Image.Image], samples: np.ndarray, wish: Wish) -> plt.Figure:
    """Put the photos on the left, the sentence in the middle and the picture on the right."""
    figure = plt.figure(figsize=(9, 3.1))

    def panel(left: float, bottom: float, width: float, height: float) -> plt.Axes:
        axes = figure.add_axes((left, bottom, width, height))
        axes.axis("off")
        return axes

    def say(x: float, y: float, text: str, **style: object) -> None:
        figure.text(x, y, text, ha="center", va="center", **{"color": INK, **style})

    for number, photo in enumerate(photos[:6]):
        row, column = divmod(number, 3)
        panel(0.015 + 0.087 * column, 0.52 - 0.25 * row, 0.083, 0.24).imshow(photo)
    sound = panel(0.35, 0.42, 0.28, 0.22)
    parts = np.array_split(samples, 90)  # a bar for each: its loudest sample
    height = np.array([np.abs(part).max() for part in parts])
    sound.bar(range(len(height)), 2 * height, bottom=-height, width=0.6, color=BLUE)
    image, model = wish.pictures[0].image, wish.pictures[0].record["model"]
    panel(0.71, 0.14, 0.27, 0.78).imshow(image, interpolation="lanczos")
    for left, right in ((0.285, 0.335), (0.645, 0.695)):
        arrow = FancyArrowPatch((left, 0.53), (right, 0.53), arrowstyle="-|>", mutation_scale=16,
                                transform=figure.transFigure, color=GREY)  # fmt: skip
        figure.add_artist(arrow)
    assert wish.transcript is not None
    say(0.145, 0.84, "photograph it", weight="bold")
    say(0.49, 0.84, "say it", weight="bold")
    say(0.49, 0.33, f"“{wish.transcript.text.strip().rstrip('.')}”", size=11, style="italic")
    say(0.145, 0.06, f"{len(photos)} photos, trained on", size=8, color=GREY)
    say(0.49, 0.06, f"heard by Whisper {wish.transcript.model}", size=8, color=GREY)
    say(0.845, 0.06, f"drawn by the {model} model, {image.width} px, on a CPU", size=8, color=GREY)
    return figure


if __name__ == "__main__":
    typer.run(main)
