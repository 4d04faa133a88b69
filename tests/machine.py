"""`accelerate launch tests/machine.py FOLDER WORDS...`: the command line on several machines.

Each process works in a folder of its own below FOLDER; with a relative $S2I_LOCAL it has a local
disk that no other one sees. What it sampled is noted there, in sampled.jsonl.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    place = Path(sys.argv.pop(1)) / os.environ.get("RANK", "0")
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)

    from s2i_lib import prior
    from s2i_lib.__main__ import main

    sample = prior.sample_latents

    def note(pipe, embeddings, seeds, options):
        with Path("sampled.jsonl").open("a") as file:
            file.write(json.dumps(list(seeds)) + "\n")
        return sample(pipe, embeddings, seeds, options)

    prior.sample_latents = note
    sys.exit(main())


if __name__ == "__main__":
    main()
