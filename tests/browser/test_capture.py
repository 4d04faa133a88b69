"""Camera, upload and crop widgets in a real JupyterLab, by hand of a real Chromium."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from s2i_lib.widgets import join_modules
from s2i_lib.widgets.texts import catalogue

WIDTH, HEIGHT = 640, 480
CORNERS = {"top left": (255, 0, 0), "top right": (0, 255, 0), "bottom left": (0, 0, 255)}

CAMERA = "from s2i_lib.widgets.capture import camera; w = camera(drive, 'Rex'); w"
UPLOAD = "from s2i_lib.widgets.capture import upload; w = upload(drive, 'Rex'); w"


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """A y4m file: red, green, blue and white quarters, and a grey bar that moves through white."""
    head = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F20:1 Ip A1:1 C420jpeg\n".encode()
    frames = []
    for i in range(20):
        rgb = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        rgb[: HEIGHT // 2, : WIDTH // 2] = CORNERS["top left"]
        rgb[: HEIGHT // 2, WIDTH // 2 :] = CORNERS["top right"]
        rgb[HEIGHT // 2 :, : WIDTH // 2] = CORNERS["bottom left"]
        rgb[HEIGHT // 2 :, WIDTH // 2 + 16 * i : WIDTH // 2 + 16 * i + 16] = 128
        y, cb, cr = (np.asarray(plane) for plane in Image.fromarray(rgb).convert("YCbCr").split())
        frames.append(b"FRAME\n" + y.tobytes() + cb[::2, ::2].tobytes() + cr[::2, ::2].tobytes())
    path = tmp_path_factory.mktemp("video") / "quarters.y4m"
    path.write_bytes(head + b"".join(frames))
    return path


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_shot_arrives_whole_upright_and_not_mirrored(
    lab, chromium, set_up, tmp_path, video, look, assert_accessible, is_dark
):
    page = chromium(video=video)
    notebook = lab.open(page, set_up, CAMERA, is_dark=is_dark)
    frame = page.locator("section.s2i")
    frame.get_by_role("button", name="Start camera").click()
    take = frame.get_by_role("button", name="Take photo")
    take.wait_for()
    assert (
        frame.locator("video")
        .evaluate("v => getComputedStyle(v).transform")
        .startswith("matrix(-1")
    )
    page.keyboard.press("Enter")  # the focus has gone to "Take photo"
    frame.locator(".s2i-strip img").wait_for()
    frame.get_by_text("kept as").wait_for()
    look(frame, f"camera-live-{'dark' if is_dark else 'light'}")
    assert_accessible(page)
    (photo,) = (tmp_path / "drive/subjects/rex/photos").iterdir()
    assert notebook.python("w.photos") == [photo.name]
    image = Image.open(photo)
    assert (image.format, image.size) == ("JPEG", (WIDTH, HEIGHT))
    found = {
        "top left": image.getpixel((50, 50)),
        "top right": image.getpixel((WIDTH - 50, 50)),
        "bottom left": image.getpixel((50, HEIGHT - 50)),
    }
    for corner, colour in CORNERS.items():
        assert max(abs(a - b) for a, b in zip(found[corner], colour, strict=True)) < 50, found


def test_burst_counts_down_and_photos_can_be_deleted_and_brought_back(
    lab, chromium, set_up, video, look
):
    page = chromium(video=video)
    more = "w.burst, w.countdown_s, w.pause_s = 4, 1, 0.3"
    notebook = lab.open(
        page, set_up, CAMERA.replace("; w = ", "\nw = ").replace("; w", f"\n{more}\nw")
    )
    frame = page.locator("section.s2i")
    frame.get_by_text("0 of 4 to 30 photos: 1 is needed").wait_for()
    frame.get_by_role("button", name="Start camera").click()
    frame.get_by_role("button", name="4 photos after 1 seconds").click()
    frame.get_by_text("4 of 4 to 30 photos: enough to train").wait_for()
    before = notebook.python("w.photos")
    assert len(set(before)) == 4
    frame.get_by_role("button", name=f"Delete {before[1]}").press("Enter")
    frame.get_by_text("3 of 4 to 30 photos: enough to try, 1 more would help").wait_for()
    assert notebook.python("w.photos") == [before[0], *before[2:]]
    frame.get_by_role("button", name="Undo delete").press("Enter")
    frame.get_by_text("4 of 4 to 30 photos").wait_for()
    assert sorted(notebook.python("w.photos")) == sorted(before)


PROBLEMS = {
    "refused": ({"allow": False}, "en", "The camera was refused."),
    "missing": ({"has_devices": False}, "de", "Es wurde keine Kamera gefunden."),
}


@pytest.mark.parametrize("code", PROBLEMS)
def test_camera_says_why_it_does_not_open(lab, chromium, set_up, look, assert_accessible, code):
    devices, language, sentence = PROBLEMS[code]
    page = chromium(**devices, locale=language)
    notebook = lab.open(page, set_up, CAMERA)
    frame = page.locator("section.s2i")
    frame.get_by_role("button", name=catalogue()[language]["cam_start"]).click()
    frame.locator("[role=alert]", has_text=sentence).wait_for()
    assert notebook.wait_for("w.problem_code") == code
    assert notebook.python("w.problem").startswith(sentence)
    look(frame, f"camera-{code}")
    assert_accessible(page)


def test_blocked_and_insecure_pages_have_sentences_of_their_own(chromium):
    """Pages as a proxy would serve them: one that forbids cameras, one without TLS."""
    page = chromium()
    page.route(
        "**/*",
        lambda route: route.fulfill(
            body="<title>page</title>",
            content_type="text/html",
            headers={"Permissions-Policy": "camera=()"} if "proxy" in route.request.url else {},
        ),
    )
    found = {}
    for code, address in {
        "blocked": "https://proxy.example/",
        "insecure": "http://hub.example/",
    }.items():
        page.goto(address)
        answer = page.evaluate(ASK, [join_modules("transport/page.js"), catalogue()["en"]])
        assert answer["code"] == code
        found[code] = answer["message"]
    assert "does not let it use the camera" in found["blocked"]
    assert "plain http" in found["insecure"]


ASK = """async ([source, texts]) => {
  const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
  const { openDevice } = await import(url);
  try { await openDevice('camera', {video: true}, (key) => texts[key]); return {code: 'open'}; }
  catch (error) { return {code: error.code, message: error.message}; }
}"""


def noise_png(megabytes: float) -> bytes:
    """A photo of about this size that cannot be compressed."""
    side = int((megabytes * 1e6 / 3) ** 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def test_upload_of_25_megabytes_arrives_whole(lab, chromium, set_up, tmp_path, look):
    data = noise_png(25)
    file = tmp_path / "large.png"
    file.write_bytes(data)
    page = chromium()
    spy = """
from s2i_lib.widgets.capture import upload
import hashlib
w = upload(drive, 'Rex')
arrived = []
keep = w.store.add
def add(name, data):
    arrived.append(hashlib.sha256(data).hexdigest())
    return keep(name, data)
w.store.add = add
w
"""
    notebook = lab.open(page, set_up, spy)
    frame = page.locator("section.s2i")
    with page.expect_file_chooser() as chooser:
        frame.get_by_role("button", name="Choose photos").press("Enter")
    chooser.value.set_files(file)
    frame.locator("progress").wait_for()
    look(frame, "upload-sending")
    frame.get_by_text("1 file arrived, 1 photo kept.").wait_for(timeout=120_000)
    assert notebook.python("arrived") == [hashlib.sha256(data).hexdigest()]


def photo(colour, format_="JPEG", size=(800, 600)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, format_)
    return stream.getvalue()


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_upload_takes_drops_zips_and_folders_and_refuses_with_reasons(
    lab, chromium, set_up, tmp_path, look, assert_accessible, is_dark
):
    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "beach.png").write_bytes(photo("yellow", "PNG"))
    (holiday / "notes.txt").write_text("not a photo")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a/one.jpg", photo("red"))
        zipped.writestr("a/two.jpg", photo("green"))
        zipped.writestr("../escape.jpg", photo("blue"))
    page = chromium()
    notebook = lab.open(page, set_up, UPLOAD, is_dark=is_dark)
    frame = page.locator("section.s2i")
    drop(frame.locator(".s2i-zone"), {"x.zip": archive.getvalue(), "broken.jpg": b"\xff\xd8 no"})
    frame.get_by_text("1 file arrived, 2 photos kept.").wait_for()
    frame.locator("[role=alert]", has_text="broken.jpg").wait_for()
    frame.get_by_label("Folder on the Drive").fill(str(holiday))
    page.keyboard.press("Enter")
    frame.get_by_text("1 photo copied.").wait_for()
    frame.get_by_text("3 of 4 to 30 photos: enough to try, 1 more would help").wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.s2i-strip img')].every(i => i.naturalWidth > 0)"
    )
    look(frame, f"upload-{'dark' if is_dark else 'light'}")
    assert_accessible(page)
    assert notebook.python("w.photos") == ["one.jpg", "two.jpg", "beach.png"]
    frame.get_by_label("Folder on the Drive").fill("nowhere")
    page.keyboard.press("Enter")
    frame.locator("[role=alert]", has_text="There is no folder 'nowhere'").wait_for()


def drop(zone, files: dict[str, bytes]) -> None:
    """Drop files on an element as a file manager does."""
    import base64

    encoded = {name: base64.b64encode(data).decode() for name, data in files.items()}
    zone.evaluate(
        """async (zone, files) => {
          const transfer = new DataTransfer();
          for (const [name, data] of Object.entries(files)) {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], name));
          }
          zone.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true}));
        }""",
        encoded,
    )


def test_upload_goes_on_after_a_long_cell(lab, chromium, set_up, tmp_path):
    """An old kernel answers nothing while a cell runs: what waits must neither flood nor fail."""
    page = chromium()
    notebook = lab.open(page, set_up, UPLOAD)
    frame = page.locator("section.s2i")
    page.evaluate(
        """() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
             .requestExecute({code: 'import time; time.sleep(8)'}); }"""
    )
    drop(frame.locator(".s2i-zone"), {"large.png": noise_png(3)})
    frame.get_by_text("1 file arrived, 1 photo kept.").wait_for(timeout=60_000)
    assert notebook.python("w.photos") == ["large.png"]


CROPPER = """
import io
from PIL import Image
from s2i_lib.widgets.cropper import Cropper
def preview(name):
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((400, 300)).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()
w = Cropper(preview, {"a.jpg": (800, 600), "b.jpg": (800, 600)},
            {"a.jpg": (100, 0, 400), "b.jpg": (0, 0, 600)},
            {"a.jpg": True, "b.jpg": False}, doubts={"b.jpg": "nothing stands out"})
w
"""


@pytest.mark.parametrize(("is_dark", "language"), [(False, "en"), (True, "ar")])
def test_crop_moves_by_drag_and_keys_and_stays_inside(
    lab, chromium, set_up, look, assert_accessible, is_dark, language
):
    texts = catalogue()[language]
    page = chromium(locale=language)
    notebook = lab.open(page, set_up, CROPPER, is_dark=is_dark)
    frame = page.locator("section.s2i")
    box = frame.get_by_role("slider", name=texts["crop_of"].format(name="a.jpg"))
    page.wait_for_function("() => document.querySelector('.s2i-cropstage img').naturalWidth > 0")
    box.press("ArrowRight")  # one hundredth of the shorter side
    assert notebook.wait_for("w.crops['a.jpg'] if w.changed else None") == [106, 0, 400]
    box.press("Shift+ArrowDown")
    assert notebook.wait_for("w.crops['a.jpg'][1] and w.crops['a.jpg']") == [106, 60, 400]
    bounds = box.bounding_box()
    x, y = bounds["x"] + 30, bounds["y"] + 30
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 2000, y + 2000, steps=5)
    page.mouse.up()
    assert notebook.wait_for("w.crops['a.jpg'][0] > 106 and w.crops['a.jpg']") == [400, 200, 400]
    frame.get_by_role("button", name=texts["crop_larger"]).click()
    left, top, side = notebook.wait_for("w.crops['a.jpg'][2] > 400 and w.crops['a.jpg']")
    assert side == 440 and left + side <= 800 and top + side <= 600
    look(frame, f"cropper-{'dark' if is_dark else 'light'}")
    assert_accessible(page)
    frame.get_by_role("button", name=texts["crop_next"]).press("Enter")
    frame.get_by_role("slider", name=texts["crop_of"].format(name="b.jpg")).wait_for()
    assert notebook.python("w.changed") == ["a.jpg"]
    frame.get_by_text(texts["crop_doubted"].format(doubt="nothing stands out")).wait_for()
    frame.get_by_role("button", name=texts["crop_previous"]).press("Enter")
    box.wait_for()
    cut_out = frame.get_by_role("checkbox", name=texts["crop_cut_out"])
    assert cut_out.is_checked()
    cut_out.uncheck()
    assert notebook.wait_for("w.chosen") == {"a.jpg": False}
    frame.get_by_text(texts["crop_whole"]).wait_for()
