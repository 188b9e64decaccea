"""Memory and rate of `attentdiffernet score` on a very large folder.

    python -m benchmarks.score_folder [--images 100000] [--done 0] [--image-size 448 --scales 3] [--views 16]

Scores a temporary folder of hard links to a few drawn images, by the command line and with a small random model, and
prints the memory of that process at every tenth of the images, its peak, and the rate. With --done, the list starts
with rows for that many images, as after a kill, and is continued. The exit code is 1 if the list lacks an image or has
one twice, or if the peak exceeds 1.5 GB.

By default the model takes 64 px at one scale, so that the time is that of the folder and not of the backbone.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from attentdiffernet.card import DataCard
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.findings import Calibration, Findings
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import FlowConfig, Options
from attentdiffernet.packing import round_as_stored
from attentdiffernet.score_log import Made, open_log

LINKS_PER_IMAGE = 10_000  # file systems allow some ten thousand links to one file
LIMIT_BYTES = 1.5e9


def make_folder(folder: Path, n_images: int, side: int = 256) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for n in range(n_images):
        path = folder / f"{n:07}.jpg"
        if n % LINKS_PER_IMAGE == 0:
            coarse = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(path)
            original = path
        else:
            os.link(original, path)


def make_model(folder: Path, image_size: int, n_scales: int, views: int) -> str:
    flow = FlowConfig(n_blocks=2, hidden_width=64, hidden_layers=1)
    options = Options(flow=flow, weights="random", image_size=image_size, n_scales=n_scales)
    findings = Findings("rotations", "squeeze", "as_is", "z2_of_mean", training_views=8, scoring_views=views)
    model = round_as_stored(AttentDifferNet(ModelConfig.of(options, findings)).eval())
    detector = DifferNetDetector(model, options, findings, Calibration(1.0, views, 0.05, (1.0,), {}), DataCard())
    detector.save(folder)
    return detector.fingerprint


def memory(pid: int, what: str) -> int:
    """VmRSS or VmHWM (its peak) of a process in bytes; 0 where the system does not say, or the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:")), 0)


def count_rows(path: Path) -> int:
    try:
        with open(path, "rb") as file:
            return max(0, sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1)
    except FileNotFoundError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--image-size", type=int, default=64, help="of the network's input, px")
    parser.add_argument("--scales", type=int, default=1)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--done", type=int, default=0, help="images whose rows are there at the start")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, model, out = (Path(temporary) / name for name in ("images", "model", "scores.csv"))
        make_folder(folder, asked.images)
        fingerprint = make_model(model, asked.image_size, asked.scales, asked.views)
        if asked.done:
            with open_log(str(out), "csv", Made(1.0, asked.views, fingerprint)) as log:
                for path in sorted(folder.iterdir())[: asked.done]:
                    log.add(str(path), 0.5, False, None)
        command = [sys.executable, "-m", "attentdiffernet.cli", "score", str(model), str(folder), "--out", str(out)]
        start = first = time.monotonic()
        peak, tenth = 0, asked.done * 10 // asked.images
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                peak = max(peak, memory(process.pid, "VmHWM"))
                rows = count_rows(out)
                if rows <= asked.done:
                    first = time.monotonic()
                if rows * 10 >= asked.images * (tenth + 1):
                    tenth = rows * 10 // asked.images
                    now = memory(process.pid, "VmRSS")
                    print(f"{rows} images, {time.monotonic() - start:.0f} s: {now / 1e6:.0f} MB", flush=True)
                time.sleep(0.5)
        end = time.monotonic()
        with out.open(newline="") as file:
            names = [row["image"] for row in csv.DictReader(file)]
        complete = len(names) == len(set(names)) == asked.images
        print(
            f"{asked.images} images, {asked.done} of them done before, {asked.image_size} px, {asked.scales} scales, "
            f"{asked.views} views: {(len(names) - asked.done) / (end - first):.1f}/s after the first, "
            f"peak {peak / 1e6:.0f} MB, {'each once' if complete else 'NOT each once'}"
        )
        sys.exit(process.returncode or int(not complete or peak > LIMIT_BYTES))


if __name__ == "__main__":
    main()
