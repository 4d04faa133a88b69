"""The page of notebook 0 on a Drive that goes away or is full: one sentence, and on it goes."""

from __future__ import annotations

import time
import zlib

import pytest
from app_pages import MUG, PATIENCE_S, SAMPLES, short

from s2i_lib.storage.layout import Drive
from s2i_lib.widgets.app import App
from s2i_lib.widgets.app import checking as checking_module

FAULTS = {
    "dead mount": "The mount has died: run the set-up cell",
    "full": "The Drive is full: delete something",
}


@pytest.fixture
def mount(faulty_drive, monkeypatch):
    monkeypatch.setattr(checking_module, "AGAIN_S", 0.2)
    return faulty_drive


@pytest.fixture
def page(mount, local_disk, tiny) -> App:
    return App(Drive(mount.path / "s2i"), **short(tiny), patience_s=1, retry_s=0.1)


def send(widget, name: str, data: bytes) -> dict:
    """Send a small file as the page does; what it is told at the end."""
    crc = zlib.crc32(data)
    piece = {"id": name + str(time.monotonic()), "index": 0, "count": 1, "size": len(data)}
    piece |= {"crc": crc, "total_crc": crc, "meta": {"name": name}}
    return widget._inbox.take(piece, data)[-1]


def small_photo() -> bytes:
    from PIL import Image

    from s2i_lib.photos.reading import encode_image

    image = Image.open(SAMPLES / "00.jpg")
    image.thumbnail((512, 512))
    return encode_image(image, "JPEG", quality=70)


def until(is_so) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_photos_and_their_check_go_on_when_the_drive_is_back(page, mount, fault):
    page.faces._told(MUG)
    upload, head = page._widgets[1], page.heads["photos"]
    mount.fault(fault)
    refused = send(upload, "a.jpg", small_photo())
    assert refused["type"] == "failed" and FAULTS[fault] in refused["message"]
    assert "Python could not use it" not in refused["message"]
    mount.fault("")
    assert send(upload, "a.jpg", small_photo())["type"] == "done"
    mount.fault(fault)
    until(lambda: FAULTS[fault] in head.data["complaint"])
    upload._told({"type": "remove", "name": "nobody.jpg"})
    assert upload.photos == ["a.jpg"], "what cannot be listed has not gone"
    mount.fault("")
    assert page.wait(PATIENCE_S)
    assert upload.verdicts["a.jpg"]["kept"] and not head.data["complaint"]
    assert page.heads["teach"].data["state"] == "ready"


@pytest.mark.slow
def test_every_press_says_that_the_drive_is_away_and_works_once_it_is_back(page, mount):
    page.faces._told(MUG)
    send(page._widgets[1], "a.jpg", small_photo())
    assert page.wait(PATIENCE_S)
    mount.fault("dead mount")
    presses = {
        "faces": {"type": "choose", "name": "Cuppa"},
        "teach": {"type": "start"},
        "keep": {"type": "list"},
    }
    parts = {"faces": page.faces, "teach": page.heads["teach"], "keep": page.keep}
    for name, message in presses.items():
        parts[name]._told(message)
        complaint = parts[name].data["complaint"]
        assert FAULTS["dead mount"] in complaint and "[Errno" not in complaint, name
    page.faces._told({**MUG, "name": "Other"})
    assert FAULTS["dead mount"] in page.faces.data["complaint"]
    assert page.subject.name == "Cuppa" and page.teaching.busy == ""
    assert len(page.faces.data["subjects"]) == 1
    mount.fault("")
    for name, message in presses.items():
        parts[name]._told(message)
        assert not parts[name].data["complaint"], name
    assert page.wait(PATIENCE_S)
    assert page.heads["teach"].data["state"] == "done"


@pytest.mark.slow
def test_studio_that_opens_once_the_drive_is_back_stands_under_no_complaint(page, mount):
    page.faces._told(MUG)
    speak, press = page.heads["speak"], {"type": "open", "part": "speak", "is_open": True}
    mount.fault("dead mount")
    speak._told(press)
    assert FAULTS["dead mount"] in speak.data["complaint"] and page.studio is None
    mount.fault("")
    speak._told(press)
    assert page.studio is not None and speak.data["complaint"] == ""


@pytest.mark.slow
def test_taught_while_the_drive_is_away_says_so_and_start_brings_it_there(page, mount):
    page.faces._told(MUG)
    send(page._widgets[1], "a.jpg", small_photo())
    assert page.wait(PATIENCE_S)
    teach = page.heads["teach"]

    def goes_away(event):
        if event["new"].get("before"):
            mount.fault("dead mount")

    teach.observe(goes_away, "data")
    teach._told({"type": "start"})
    assert page.wait(PATIENCE_S)
    assert teach.data["state"] == "failed" and FAULTS["dead mount"] in teach.data["complaint"]
    teach.unobserve(goes_away, "data")
    mount.fault("")
    page.look_again()  # the cell is run again
    assert page.wait(PATIENCE_S)
    assert teach.data["state"] == "done" and not teach.data["complaint"]


@pytest.mark.slow
def test_full_at_start_leaves_nothing_half_begun(page, mount):
    page.faces._told(MUG)
    send(page._widgets[1], "a.jpg", small_photo())
    assert page.wait(PATIENCE_S)
    mount.fault("full")
    page.heads["teach"]._told({"type": "start"})
    assert FAULTS["full"] in page.heads["teach"].data["complaint"]
    assert page.teaching.busy == "" and page.heads["teach"].data["state"] == "ready"
