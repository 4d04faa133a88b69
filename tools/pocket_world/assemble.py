"""Put the trained parts together in a folder, as fp16 safetensors with checksums: a model to load.

python -m tools.pocket_world.assemble OUT [--unet FOLDER]

OUT is drawn with as any folder is (``python -m s2i_lib speak ... --model OUT``). What is not
trained yet is left out (the scorer) or as it begins (the decoder, which shows a thumbnail).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from s2i_lib.storage.hub import write_checksums
from tools.pocket.assemble import write_parts, write_scorer
from tools.pocket_world import samples, words
from tools.pocket_world.training import work_folder


def assemble(unet_folder: Path, out: Path) -> None:
    work = work_folder()
    write_parts(samples.parts(unet_folder), work / "tokenizer", out)
    if (work / "scorer").exists():
        write_scorer(work, out)
    (out / "words.json").write_text(json.dumps(words.known_words(), indent=1) + "\n")
    write_checksums(out, "the package")
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--unet", type=Path, default=work_folder() / "unet_trunk")
    options = parser.parse_args()
    assemble(options.unet, options.out)


if __name__ == "__main__":
    main()
