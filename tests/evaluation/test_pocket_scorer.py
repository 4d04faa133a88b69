"""The shipped scorer, on renders that it never saw."""

import itertools
import json

import numpy as np
import torch
from PIL import Image

from s2i_lib.models.registry import PACKAGE

FOLDER = PACKAGE / "pocket"


def test_the_scorer_names_fresh_renders(request):
    """tests/data/pocket_renders.png: one render of every noun, in the order of words.json."""
    from transformers import AutoModel, AutoProcessor

    nouns = json.loads((request.path.parents[1] / "data" / "pocket_renders.json").read_text())
    with Image.open(request.path.parents[1] / "data" / "pocket_renders.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    tiles = [
        Image.fromarray(pixels[y * 64 : y * 64 + 64, x * 64 : x * 64 + 64])
        for y, x in itertools.product(range(10), range(10))
    ]
    scorer = AutoModel.from_pretrained(FOLDER / "scorer").eval()
    processor = AutoProcessor.from_pretrained(FOLDER / "scorer")
    texts = [("an " if n[0] in "aeiou" else "a ") + n for n in nouns]
    with torch.no_grad():
        given = processor(text=texts, images=tiles, return_tensors="pt", padding=True)
        logits = scorer(
            input_ids=given["input_ids"], pixel_values=given["pixel_values"]
        ).logits_per_image
    right = (logits.argmax(1) == torch.arange(len(nouns))).float().mean()
    assert right >= 0.85
