"""What the tests of notebook 0's page share: what is typed into it, and a quick training."""

from __future__ import annotations

from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "s2i_lib/samples/rc_car"
PATIENCE_S = 300
MUG = {"type": "subject", "name": "Cuppa", "kind": "object", "noun": "mug", "language": "en"}
ADA = {"type": "subject", "name": "Ada", "kind": "person", "noun": "", "by": "", "language": "en"}
REX = {"type": "subject", "name": "Rex", "kind": "animal", "noun": "dog", "language": "en"}


def short(tiny) -> dict:
    """Arguments of `FinetuneRun` for a training of seconds."""
    return {
        "model": str(tiny), "steps": 4, "class_image_count": 2, "background_count": 2,
        "sample_every": 2, "save_every": 2, "sample_prompts": ("a {subject}",),
    }  # fmt: skip


def messages(part) -> list[str]:
    """Keys of what a card says."""
    return [key for key, _ in part.data.get("messages", ())]
