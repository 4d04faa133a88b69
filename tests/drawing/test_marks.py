"""What was drawn says so, for machines to read, wherever it goes; and what others say is read.

Outside facts: exiftool (Debian's) reads our marks and writes those that we read, C2PA's own library
reads our signatures, and `others` are what other tools are documented to write.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from s2i_lib.drawing import gallery, marks, pages
from s2i_lib.drawing.made_by import read_statements
from s2i_lib.drawing.records import Picture
from s2i_lib.errors import InputError

BEFORE = Path(__file__).parents[1] / "data" / "version_before" / "drive" / "creations"
DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
RECORD = {
    "prompt": "a red car", "negative": "", "seed": 7, "model": "pocket", "source": "the package",
    "run": None, "subjects": [], "transcript": None,
}  # fmt: skip


def exiftool(*words: object) -> str:
    """Run exiftool; a test that needs it says where it is missing."""
    if not shutil.which("exiftool"):
        pytest.skip("no exiftool: apt-get install libimage-exiftool-perl")
    done = subprocess.run(["exiftool", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(path: Path) -> dict[str, str]:
    return {one.what: one.said for one in read_statements(path) if one.where != "PNG text"}


@pytest.fixture
def picture(tmp_path) -> Path:
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    return gallery.save(Picture(image, RECORD | {"run": "rex/pocket-01"}), tmp_path)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_exiftool_reads_source_tool_and_model(tmp_path, file_format):
    path = tmp_path / f"picture.{file_format.lower()}"
    mark = marks.Mark('pocket & "more"', is_composite=True)
    path.write_bytes(marks.encode_marked(Image.new("RGB", (9, 9)), file_format, mark))
    [found] = json.loads(exiftool("-j", "-G1", "-n", path))
    assert found["XMP-iptcExt:DigitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert found["XMP-iptcExt:AISystemUsed"] == 'pocket & "more"'
    assert found["XMP-xmp:CreatorTool"] == mark.tool
    assert exiftool("-validate", "-warning", "-a", path).count("Warning") == 0


def test_the_mark_survives_gallery_pages_copies_and_another_save(picture, tmp_path):
    [copy] = gallery.share([picture], tmp_path)
    grid = tmp_path / "grid.png"
    grid.write_bytes(gallery.grid_png([picture]))
    page = pages.write_page([pages.Section("a", [picture])], tmp_path / "p.html", title="Page")
    inside = tmp_path / "inside.png"
    [uri] = re.findall(r"data:image/png;base64,([^\"]+)", page.read_text())
    inside.write_bytes(base64.b64decode(uri))
    again = gallery.save(Picture(Image.open(picture), gallery.read_record(picture)), tmp_path)
    for path in (
        picture,
        copy,
        grid,
        page,
        inside,
        again,
        shutil.copy(picture, tmp_path / "c.png"),
    ):
        found = said(Path(path))
        assert found["digital source type"] == DRAWN, path
        assert found["model"] == "pocket, fine-tuned" and found["tool"].startswith("s2i "), path


def test_what_the_version_before_saved_is_read_and_marked_when_it_is_given_away(tmp_path):
    [path] = BEFORE.glob("*.png")
    [one] = read_statements(path)
    assert one.where == "PNG text" and one.is_of_machine and "sks car" in one.said
    [copy] = gallery.share([path], tmp_path)
    assert said(copy)["digital source type"] == DRAWN
    assert said(copy)["model"] == "pocket, fine-tuned"


def test_a_folders_name_which_may_be_somebodys_is_not_in_the_mark():
    mark = marks.mark_of_record(RECORD | {"model": "weights-of-ada"})
    assert b"ada" not in mark.xmp() and "ada" not in mark.html() + json.dumps(mark.to_json())


def test_a_messengers_recompression_takes_it_away_and_that_proves_nothing(picture, tmp_path):
    """As messengers do: decoded, made smaller, encoded as a JPEG without what stood beside it."""
    with Image.open(picture) as image:
        small = Image.new("RGB", (32, 32))
        small.paste(image.resize((32, 32)))
        small.save(tmp_path / "sent.jpg", quality=60)
    assert read_statements(tmp_path / "sent.jpg") == []


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_xmp_that_exiftool_wrote_is_read(tmp_path, suffix):
    path = tmp_path / f"other.{suffix}"
    Image.new("RGB", (8, 8)).save(path)
    exiftool("-q", f"-XMP-iptcExt:DigitalSourceType={DRAWN}", "-XMP-xmp:CreatorTool=DALL·E", path)
    assert said(path) == {"digital source type": DRAWN, "tool": "DALL·E"}
    exiftool("-q", "-XMP-iptcExt:DigitalSourceType=" + DRAWN.replace("trainedAlgorithmicMedia",
             "digitalCapture"), path)  # fmt: skip
    assert not any(one.is_of_machine for one in read_statements(path))


def test_what_other_tools_write_into_pngs_is_read(tmp_path):
    others = {
        "parameters": "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512",
        "workflow": json.dumps({"nodes": ["KSampler"] * 9_000}),
        "invokeai_metadata": '{"app_version": "4.2.0"}',
    }
    for key, text in others.items():
        info = PngInfo()
        info.add_text(key, text)
        Image.new("RGB", (8, 8)).save(tmp_path / f"{key}.png", pnginfo=info)
        [one] = read_statements(tmp_path / f"{key}.png")
        assert one.what == key and one.is_of_machine and len(one.said) < 600


def test_odd_files_are_one_sentence(tmp_path):
    for name, data in {
        "a.txt": b"hello", "b.glb": b"glTF" + bytes(9), "c.usdz": b"PK\x03\x04" + bytes(40),
        "d.png": b"\x89PNG\r\n\x1a\n" + bytes(30), "e.jpg": b"",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"cannot be read|does not begin|opened"):
            read_statements(tmp_path / name)
    with pytest.raises(InputError, match="no file"):
        read_statements(tmp_path / "none.png")


def test_xmp_that_would_unpack_to_a_large_one_is_not_parsed(tmp_path):
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a;</x:xmpmeta>'
    Image.new("RGB", (8, 8)).save(tmp_path / "bomb.jpg", xmp=bomb)
    found = read_statements(tmp_path / "bomb.jpg")
    assert [one.what for one in found] in ([], ["damaged"])


# ---- C2PA ----

OPENSSL = """
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    """A certificate of an authority of the test's own, made by OpenSSL."""
    from s2i_lib.drawing.credentials import Signer

    pytest.importorskip("c2pa", reason="C2PA's library is missing: pip install c2pa-python")
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "openssl.cnf").write_text(OPENSSL)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "leaf"):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                f"{name}.key")  # fmt: skip
    openssl("req", "-x509", "-new", "-key", "ca.key", "-days", "9", "-subj", "/O=Test/CN=Authority",
            "-config", "openssl.cnf", "-extensions", "ca", "-out", "ca.pem")  # fmt: skip
    openssl("req", "-new", "-key", "leaf.key", "-subj", "/O=Ada L/CN=Ada L", "-config",
            "openssl.cnf", "-out", "leaf.csr")  # fmt: skip
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "9",
            "-CAcreateserial", "-extfile", "openssl.cnf", "-extensions", "leaf", "-out",
            "leaf.pem")  # fmt: skip
    chain = folder / "chain.pem"
    chain.write_bytes((folder / "leaf.pem").read_bytes() + (folder / "ca.pem").read_bytes())
    return Signer(chain, folder / "leaf.key")


def test_a_shared_copy_is_signed_and_another_word_breaks_it(picture, tmp_path, signer):
    [copy] = gallery.share([picture], tmp_path, signer)
    found = read_statements(copy)
    credentials = {one.what: one.said for one in found if one.where == "C2PA"}
    assert credentials["signature"].startswith("valid, by Ada L")
    assert credentials["action"] == f"c2pa.created {DRAWN}"
    assert said(copy)["digital source type"] == DRAWN  # the XMP is there, too
    assert gallery.same_pixels(copy, picture)

    data = copy.read_bytes()
    at = data.index(b"iTXt")
    end = at + 4 + int.from_bytes(data[at - 4 : at])
    chunk = data[at:end].replace(b"fine-tuned", b"by my hand")
    forgery = data[:at] + chunk + zlib.crc32(chunk).to_bytes(4) + data[end + 4 :]
    (tmp_path / "forged.png").write_bytes(forgery)
    forged = {one.what: one.said for one in read_statements(tmp_path / "forged.png")}
    assert forged["model"] == "pocket, by my hand"
    assert forged["signature"].startswith("invalid")


def test_a_manifest_is_noticed_without_the_library(picture, tmp_path, signer, monkeypatch):
    [copy] = gallery.share([picture], tmp_path, signer)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    [one] = [one for one in read_statements(copy) if one.where == "C2PA"]
    assert one.what == "manifest" and "s2i_lib[c2pa]" in one.said


def test_a_certificate_that_cannot_sign_is_one_sentence(picture, tmp_path, signer):
    from s2i_lib.drawing.credentials import Signer

    for wrong in (
        Signer(tmp_path / "none.pem", signer.key),
        Signer(signer.key, signer.key),
        Signer(signer.certificate, signer.certificate),
    ):
        with pytest.raises(InputError, match="Nothing can be signed with"):
            wrong.sign(picture.read_bytes(), "image/png", marks.Mark())


def test_another_programs_credentials_are_read(tmp_path, signer):
    """A JPEG signed by C2PA's library alone, as a camera's would be."""
    import c2pa

    plain, signed = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(plain, "JPEG")
    capture = DRAWN.replace("trainedAlgorithmicMedia", "digitalCapture")
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": capture}]}
    manifest = {
        "claim_generator_info": [{"name": "Camera", "version": "1"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": actions}],
    }
    chain, key = signer.certificate.read_bytes(), signer.key.read_bytes()
    with c2pa.Signer.from_info(c2pa.C2paSignerInfo("es256", chain, key, None)) as one:
        c2pa.Builder(manifest).sign(one, "image/jpeg", io.BytesIO(plain.getvalue()), signed)
    (tmp_path / "photo.jpg").write_bytes(signed.getvalue())
    found = read_statements(tmp_path / "photo.jpg")
    assert ("C2PA", "tool", "Camera 1") in found
    assert not any(one.is_of_machine for one in found)
