#!/usr/bin/env bash
# Makes the spoken clips again. Needs Debian's flite (voice slt); see s2i_lib/samples/README.md.
#   bash tools/samples.sh                    s2i_lib/samples/red_car.wav
#   bash tools/samples.sh JFK.flac           also tests/data/jfk.flac, from OpenAI Whisper's test clip
set -euo pipefail
cd "$(dirname "$0")/.."
flite -voice slt -t "a red car on a yellow background" -o s2i_lib/samples/red_car.wav
if [ $# -gt 0 ]; then
    .venv/bin/python - "$1" <<'PY'
import sys

import soundfile

from s2i_lib.speech.audio import RATE_HZ, load_audio

# 44.1 kHz stereo -> what Whisper hears: 16 kHz mono, 16 bit, and FLAC loses nothing of that.
soundfile.write("tests/data/jfk.flac", load_audio(sys.argv[1]), RATE_HZ, subtype="PCM_16")
PY
fi
