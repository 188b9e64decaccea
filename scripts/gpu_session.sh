#!/usr/bin/env bash
# What only a GPU can tell, in one command on a machine that has a CUDA GPU and no network: whether scores, features and
# maps are the CPU's, how fast it is, and runs of grids, the published procedure in full (grids/paper.toml) among them.
#
#   bash scripts/gpu_session.sh pack    here: puts wheels, weights and images into .gpu/, which travels with the tree, and
#                                       takes models that are not needed there out of the working tree
#   bash scripts/gpu_session.sh         there: runs, and writes to $OUT as soon as anything is done
#   bash scripts/gpu_session.sh merge RESULTS.tar.gz...     here: brings models back and adds the runs to results/
#
# Variables, each with its default:
#   PYTHON=python3            its torch must see the GPU; numpy, pandas, scipy, scikit-learn, OpenCV, typer, rich as well
#   GPU_PACK=.gpu             what `pack` makes
#   OUT=gpu-out               where results go: gpu_checks.json, gpu_speed.json, results-N.tar.gz of each queue, logs
#   SECONDS_AVAILABLE=540     after which it stops by itself; it may also be killed at any moment
#   DEVICE=cuda
#   PARTS="checks runs"       done side by side; `speed`, where it is named, is measured before them and alone
#   QUEUES="3:grids/paper.toml 12:grids/attention.toml,grids/blocks.toml"    each so many runs at once, of these grids:
#                             `paper` keeps the GPU busy, and short kernels of one run fill the gaps of another; the
#                             others wait for a core each. Runs that results/ holds are left out
#   BEST_ON_TEST=no           yes: also the best epoch on test, where a grid asks for it, which takes longer
#   CATEGORIES="cplid/insulator wm811k/wafer mvtec_ad/bottle"        in this order; `pack` takes their images
#   ATTENTDIFFERNET_DATA, ATTENTDIFFERNET_IMAGENET_WEIGHTS           where `pack` finds images and weights
set -u
cd "$(dirname "$0")/.." || exit 1
export SECONDS_AVAILABLE="${SECONDS_AVAILABLE:-540}" GPU_PACK="${GPU_PACK:-.gpu}" OUT="${OUT:-gpu-out}"
export CATEGORIES="${CATEGORIES:-cplid/insulator wm811k/wafer mvtec_ad/bottle}"
export DEVICE="${DEVICE:-cuda}" BEST_ON_TEST="${BEST_ON_TEST:-no}"
GPU_SESSION_ENDS=$(($(date +%s) + SECONDS_AVAILABLE))
export GPU_SESSION_ENDS PYTHONUNBUFFERED=1
PYTHON="${PYTHON:-python3}"
if [ $# -gt 0 ]; then
    PYTHONPATH="$PWD" exec "$PYTHON" scripts/gpu_session.py "$@"
fi

mkdir -p "$OUT"
site=$(mktemp -d)
for wheel in "$GPU_PACK"/wheels/*.whl; do "$PYTHON" -m zipfile -e "$wheel" "$site"; done # all of pure Python
export PYTHONPATH="$PWD:$site" ATTENTDIFFERNET_CACHE="$site/cache"
ATTENTDIFFERNET_DATA="$(cd "$GPU_PACK/data" && pwd)"
ATTENTDIFFERNET_IMAGENET_WEIGHTS="$(echo "$(cd "$GPU_PACK" && pwd)"/weights/*)"
export ATTENTDIFFERNET_DATA ATTENTDIFFERNET_IMAGENET_WEIGHTS

part() { # SECONDS_AT_MOST LOG ARGUMENTS...
    local left=$((GPU_SESSION_ENDS - $(date +%s))) log="$OUT/$2.log"
    echo "== ${*:3}, $left s left" | tee -a "$log"
    timeout "$((left < $1 ? left : $1))" "$PYTHON" scripts/gpu_session.py "${@:3}" 2>&1 | tee -a "$log"
}
parts=" ${PARTS:-checks runs} "
[[ $parts == *" speed "* ]] && part 75 speed speed
[[ $parts == *" checks "* ]] && part 200 checks checks &
number=0
if [[ $parts == *" runs "* ]]; then
    for queue in ${QUEUES:-3:grids/paper.toml 12:grids/attention.toml,grids/blocks.toml}; do
        part "$SECONDS_AVAILABLE" "runs-$number" runs "$number" "${queue%%:*}" "${queue#*:}" &
        number=$((number + 1))
    done
fi
wait
rm -rf "$site"
echo "== done, $((GPU_SESSION_ENDS - $(date +%s))) s left"
