"""Whether a drawn subject came out, told by its cut-out and the run's own scores."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from s2i_lib.drawing.presence import Lookout
from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.photos.dataset import build_dataset
from s2i_lib.photos.manifest import open_photo
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import make_prompt
from s2i_lib.storage.files import write_json

HEART = Image.new("RGB", (64, 64), "white")
HEART.paste("pink", (20, 20, 44, 44))
PHOTO = "00.jpg"
SCORES = {"likeness": 0.8, "class_likeness": 0.5, "surroundings": 0.3}


@pytest.fixture
def racer(drive):
    subject = Subject("Racer", "car")
    dataset = build_dataset(subject, drive, photos=PACKAGE / "samples" / "rc_car" / PHOTO)
    run = drive.runs / "racer" / "pocket-01"
    (run / "weights").mkdir(parents=True)
    model = SimpleNamespace(
        run="racer/pocket-01", taught=f"a {subject.phrase}", base=REGISTRY["pocket"]
    )
    return SimpleNamespace(subject=subject, photos=dataset.images, run=run, model=model)


def look(racer, drive, pictures, scores=SCORES, words="Racer on a blue background"):
    write_json(racer.run / "run.json", {"status": "finished", "scores": scores})
    prompt = make_prompt(words, [racer.subject])
    return Lookout(drive).find_absent(racer.model, prompt, pictures)


@pytest.mark.slow
def test_subject_that_came_out_in_one_picture_is_not_absent(racer, drive):
    assert look(racer, drive, [HEART]) == racer.subject
    photo = open_photo(racer.photos[0]).resize((64, 64))
    assert look(racer, drive, [HEART, photo]) is None


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"likeness": 0.8, "class_likeness": 0.5}, "Racer"),  # of the version before
        ({**SCORES, "likeness": 0.4}, "Racer"),  # no more alike than any car
        (SCORES, "a heart"),  # nobody asked for it
    ],
)
def test_nothing_is_said_where_nobody_can_tell(racer, drive, scores, words):
    assert look(racer, drive, [HEART], scores, words) is None
