#!/bin/bash
# Trains the pocket model on a rented GPU for some minutes, from packed icons and nothing else.
#
#   tools/pocket/on_gpu.sh pack PACK.tgz             here: icons, tokenizer, encoder (< 60 MiB)
#   OUT=folder tools/pocket/on_gpu.sh PACK.tgz [MINUTES] [options of gpu.py]   there
#   tools/pocket/on_gpu.sh join folder               here: the pieces made whole again
#
# There: Python with torch, diffusers, transformers, safetensors, numpy and Pillow; what is missing is
# installed from WHEELS, a folder of wheels that was carried along. U-Net and text encoder are
# trained; with SCORER (options of scorer.py) beside them the scorer from nothing, which wants sixteen
# cores that are as fast as they look: the scenes for it are painted first.
# Left in OUT: the EMA weights, cut into pieces of 16 MiB at most (44 MB in all), scorer.tgz (11 MB),
# run.json and logs. They are the state too: the rate has fallen to zero, so the raw weights are
# nearly the same (RAW=1 brings them as well), and `gpu.py --from ema.safetensors` warms up again.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}

if [ "${1:-}" = pack ]; then
    tar -C "${S2I_POCKET_WORK:-tools/pocket/.work}" -czhf "$2" \
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

SCORER=${SCORER:-}
pack=$1
minutes=${2:-8}
shift $(($# > 1 ? 2 : 1))
out=${OUT:?the folder that comes back}
export S2I_POCKET_WORK=${S2I_POCKET_WORK:-$(mktemp -d)}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
cores=$(nproc)
export S2I_POCKET_CORES=${S2I_POCKET_CORES:-$cores}
painters=$((cores > 4 && ${#SCORER} > 0 ? cores / 4 : 1))  # of the scorer's individuals
mkdir -p "$S2I_POCKET_WORK" "$out"
tar -C "$S2I_POCKET_WORK" -xzf "$pack"
if [ -n "${WHEELS:-}" ]; then
    $PYTHON -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi
$PYTHON -c "import diffusers, transformers, safetensors, PIL"  # before minutes are spent

$PYTHON -m tools.pocket.places
echo "$SECONDS s until there are places"
scorer=
if [ -n "$SCORER" ]; then
    (
        $PYTHON -m tools.pocket.data learned > "$S2I_POCKET_WORK/data.log"
        echo "$SECONDS s until there are scenes for the scorer"
        # shellcheck disable=SC2086
        $PYTHON -m tools.pocket.scorer $SCORER --painters "$painters" || echo "It was not finished."
        tar -C "$S2I_POCKET_WORK" -czf "$out/scorer.tgz" scorer
    ) > "$out/scorer.log" 2>&1 &
    scorer=$!
    trap 'kill $scorer 2> /dev/null || true' EXIT
fi
whole=$S2I_POCKET_WORK/trained
$PYTHON -m tools.pocket.gpu "$whole" --minutes "$minutes" \
    --cores $((cores > 4 ? cores - painters - 2 : 1)) "$@" 2>&1 | tee "$out/log.txt"

cp "$whole/run.json" "$out"
for name in ema ${RAW:+raw}; do
    split -b 16777216 -d -a 1 "$whole/$name.safetensors" "$out/$name."
done
[ -z "$scorer" ] || wait $scorer || echo "The scorer was not finished: see scorer.log."
ls -l "$out"
