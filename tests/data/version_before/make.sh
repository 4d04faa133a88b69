# Make what lies in drive/ again, by running the version before the move into packages:
#   git worktree add BEFORE 8e9879d && bash make.sh BEFORE PYTHON NEW_FOLDER
set -e
python=$2
mkdir -p "$3" && export S2I_DRIVE=$(realpath "$3") S2I_LOCAL=$(mktemp -d) OMP_NUM_THREADS=1
cd "$1"

train() {
    exec "$python" -m s2i_lib finetune --subject Racer --model pocket --method lora \
        --class-images 2 --option lora_rank=1 --option sample_every=0 --option save_every=2 \
        --option lora_targets=mid_block.attentions.0.transformer_blocks.0.attn1.to_q "$@"
}

# The car of s2i_lib/samples, small and in eight colours, so that its crops take little.
"$python" - "$S2I_LOCAL/photos" <<'CODE'
import sys
from pathlib import Path
from PIL import Image

folder = Path(sys.argv[1])
folder.mkdir()
for name in ("00", "01", "02", "04"):
    photo = Image.open(f"s2i_lib/samples/rc_car/{name}.jpg")
    size = [round(side * 288 / min(photo.size)) for side in photo.size]
    small = photo.resize(size, Image.Resampling.LANCZOS)
    small.quantize(8, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)
CODE
"$python" -m s2i_lib dataset "$S2I_LOCAL/photos" --subject Racer --class-noun car
"$python" -m s2i_lib dataset --subject Racer --class-noun car --crop 01.png=16,20,256
(train --steps 4)
(train --steps 8 --name cut-short) & pid=$!
until [ -e "$S2I_DRIVE/runs/racer/cut-short/latest.json" ]; do sleep 0.01; done
kill -9 $pid
wait $pid || true
"$python" -m s2i_lib draw "Racer on a yellow background" --run racer/pocket-01 --steps 6 --seed 7

# Left out for their size, and the lease, which names the machine.
cd "$S2I_DRIVE"
rm -r runs/racer/*/samples runs/racer/cut-short/lease.json runs/racer/pocket-01/state-00000002
rm subjects/racer/contact_sheet.jpg
