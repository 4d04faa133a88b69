"""`accelerate launch tests/machine.py FOLDER WORDS...`: the command line on several machines.

Each process works in a folder of its own below FOLDER; with a relative $S2I_LOCAL it has a local
disk that no other one sees. What it sampled is noted there, in sampled.jsonl. All but the first
one are slow to read a state that they have opened.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    place = Path(sys.argv.pop(1)) / os.environ.get("RANK", "0")
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)

    import safetensors

    from s2i_lib.cli.main import main
    from s2i_lib.training import class_images

    sample = class_images.sample_latents

    def note(model, prompts, options, seeds):
        with Path("sampled.jsonl").open("a") as file:
            file.write(json.dumps(list(seeds)) + "\n")
        return sample(model, prompts, options, seeds)

    class_images.sample_latents = note
    if os.environ.get("RANK", "0") != "0":
        safe_open = safetensors.safe_open

        def open_slowly(*args, **options):
            mapped = safe_open(*args, **options)
            time.sleep(1)
            return mapped

        safetensors.safe_open = open_slowly
    sys.exit(main())


if __name__ == "__main__":
    main()
