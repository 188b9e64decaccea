#!/usr/bin/env bash
# What only a GPU can tell, in one command on a machine that has a CUDA GPU and no network: whether scores, features and
# maps are the CPU's, how fast it is, and the published procedure in full (grids/paper.toml).
#
#   bash scripts/gpu_session.sh pack    here: puts wheels, weights and images into .gpu/, which travels with the tree
#   bash scripts/gpu_session.sh         there: runs, and writes to $OUT as soon as anything is done
#   bash scripts/gpu_session.sh merge RESULTS.tar.gz [RESULTS_FOLDER]     here: adds the runs to results/
#
# Variables, each with its default:
#   PYTHON=python3            its torch must see the GPU; numpy, pandas, scipy, scikit-learn, OpenCV, typer, rich as well
#   GPU_PACK=.gpu             what `pack` makes
#   OUT=gpu-out               where results go: gpu_checks.json, gpu_speed.json, results.tar.gz, gpu_session.log
#   SECONDS_AVAILABLE=540     after which it stops by itself; it may also be killed at any moment
#   DEVICE=cuda  GRID=grids/paper.toml               one or more grid files
#   JOBS=3                    runs at once; short kernels of one fill the gaps of another
#   PARTS="checks speed runs"  what is done, in this order
#   CATEGORIES="cplid/insulator wm811k/wafer mvtec_ad/bottle"        in this order; `pack` takes their images
#   ATTENTDIFFERNET_DATA, ATTENTDIFFERNET_IMAGENET_WEIGHTS           where `pack` finds images and weights
set -u
cd "$(dirname "$0")/.." || exit 1
export SECONDS_AVAILABLE="${SECONDS_AVAILABLE:-540}" GPU_PACK="${GPU_PACK:-.gpu}" OUT="${OUT:-gpu-out}"
export CATEGORIES="${CATEGORIES:-cplid/insulator wm811k/wafer mvtec_ad/bottle}"
export DEVICE="${DEVICE:-cuda}" GRID="${GRID:-grids/paper.toml}" JOBS="${JOBS:-3}"
GPU_SESSION_ENDS=$(($(date +%s) + SECONDS_AVAILABLE))
export GPU_SESSION_ENDS PYTHONUNBUFFERED=1
PYTHON="${PYTHON:-python3}"
if [ $# -gt 0 ]; then
    PYTHONPATH="$PWD" exec "$PYTHON" scripts/gpu_session.py "$@"
fi

mkdir -p "$OUT"
exec > >(tee -a "$OUT/gpu_session.log") 2>&1
site=$(mktemp -d)
for wheel in "$GPU_PACK"/wheels/*.whl; do "$PYTHON" -m zipfile -e "$wheel" "$site"; done # all of pure Python
export PYTHONPATH="$PWD:$site" ATTENTDIFFERNET_CACHE="$site/cache"
ATTENTDIFFERNET_DATA="$(cd "$GPU_PACK/data" && pwd)"
ATTENTDIFFERNET_IMAGENET_WEIGHTS="$(echo "$(cd "$GPU_PACK" && pwd)"/weights/*)"
export ATTENTDIFFERNET_DATA ATTENTDIFFERNET_IMAGENET_WEIGHTS
for part in ${PARTS:-checks speed runs}; do
    echo "== $part, $((GPU_SESSION_ENDS - $(date +%s))) s left"
    limit=$((GPU_SESSION_ENDS - $(date +%s)))
    case $part in checks) limit=$((limit < 100 ? limit : 100)) ;; speed) limit=$((limit < 75 ? limit : 75)) ;; esac
    [ "$limit" -gt 0 ] && timeout "$limit" "$PYTHON" scripts/gpu_session.py "$part"
done
rm -rf "$site"
echo "== done, $((GPU_SESSION_ENDS - $(date +%s))) s left"
