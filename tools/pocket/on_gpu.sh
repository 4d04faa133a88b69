#!/bin/bash
# Trains the pocket model on a rented GPU for some minutes, from packed icons and nothing else.
#
#   tools/pocket/on_gpu.sh pack PACK.tgz             here: icons, tokenizer, encoder (< 60 MiB)
#   OUT=folder tools/pocket/on_gpu.sh PACK.tgz [MINUTES] [options of gpu.py]   there
#   tools/pocket/on_gpu.sh join folder               here: the pieces made whole again
#
# There: Python with torch, diffusers, transformers, safetensors, numpy and Pillow; what is missing is
# installed from WHEELS, a folder of wheels that was carried along. Left in OUT: the
# EMA weights, cut into pieces of 16 MiB at most (60 MB in all), run.json and log.txt. They are the
# state too: the rate has fallen to zero, so the raw weights are nearly the same (RAW=1 brings them
# as well), and `gpu.py --from ema.safetensors` warms up again from there.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}

if [ "${1:-}" = pack ]; then
    tar -C "${S2I_POCKET_WORK:-tools/pocket/.work}" -czf "$2" \
        icons.npz tokenizer pca.npz vae/config.json
    ls -l "$2"
    exit
fi
if [ "${1:-}" = join ]; then
    cat "$2"/ema.[0-9]* > "$2/ema.safetensors"
    if ls "$2"/raw.[0-9]* > /dev/null 2>&1; then
        cat "$2"/raw.[0-9]* > "$2/raw.safetensors"
    fi
    ls -l "$2"
    exit
fi

pack=$1
minutes=${2:-8}
shift $(($# > 1 ? 2 : 1))
out=${OUT:?the folder that comes back}
export S2I_POCKET_WORK=${S2I_POCKET_WORK:-$(mktemp -d)}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
export S2I_POCKET_SHARD=${S2I_POCKET_SHARD:-2000}
# Shards come sooner if they are small; a core is left to the trainer.
export S2I_POCKET_CORES=${S2I_POCKET_CORES:-$(($(nproc) > 2 ? $(nproc) - 1 : 1))}
mkdir -p "$S2I_POCKET_WORK" "$out"
tar -C "$S2I_POCKET_WORK" -xzf "$pack"
if [ -n "${WHEELS:-}" ]; then
    $PYTHON -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi
$PYTHON -c "import diffusers, transformers, safetensors, PIL"  # before minutes are spent

$PYTHON -m tools.pocket.places
$PYTHON -m tools.pocket.data 0 "${SHARDS:-800}" > "$S2I_POCKET_WORK/data.log" 2>&1 &
renders=$!
trap 'kill $renders 2> /dev/null || true' EXIT
whole=$S2I_POCKET_WORK/trained
$PYTHON -m tools.pocket.gpu "$whole" --minutes "$minutes" "$@" 2>&1 | tee "$out/log.txt"
tail -n 3 "$S2I_POCKET_WORK/data.log"

cp "$whole/run.json" "$out"
for name in ema ${RAW:+raw}; do
    split -b 16777216 -d -a 1 "$whole/$name.safetensors" "$out/$name."
done
ls -l "$out"
