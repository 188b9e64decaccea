"""How long a visitor waits who trains on photographs of 12 megapixels: the way of both pages, drawn parts.

    python -m benchmarks.own_parts             20 photographs by each detector, 200 by PatchCore: about eight minutes
    python -m benchmarks.own_parts 20 none     one of these

From the upload to a calibrated detector on the screen, looking over the photographs included; then a photograph that
it has not seen, up to its verdict, and up to its map. Goals on two idle cores: 60 s for 20 photographs (DifferNet and a
variant of it: 90 s), 240 s for 200, 1 s for the verdict. Writes benchmarks/own_parts.json.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from attentdiffernet.datasets.sample import draw
from attentdiffernet.grid.run import cpu_name
from demo.service.training.asked import Asked, Progress
from demo.service.training.judging import judged, judging
from demo.service.training.making import trained
from demo.service.training.run import CHOICES
from demo.service.training.state import Own

OUT = Path(__file__).resolve().parent / "own_parts.json"
SIDE = 3464  # px: 12 megapixels
ASKED = [(20, "patchcore-places"), (20, "none"), (20, "se"), (200, "patchcore-places")]


def photograph(folder: Path, seed: int) -> Path:
    """A drawn wafer in 12 megapixels, with the noise of a camera, as JPEG."""
    path = folder / f"part {seed:03d}.jpg"
    if not path.exists():
        large = Image.fromarray(draw("wafer", "good", 10_000 + seed).image).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        noise = np.random.default_rng(seed).integers(-4, 5, (SIDE, SIDE, 1), np.int16)
        Image.fromarray((np.asarray(large, np.int16) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def measure(n: int, choice: str, folder: Path) -> dict[str, object]:
    parts, warm, unseen = (
        [photograph(folder, seed) for seed in range(n)],
        photograph(folder, 998),
        photograph(folder, 999),
    )
    fresh, start = Own.new("benchmark"), time.perf_counter()
    made = [step for step in trained(fresh, Asked(parts, [], "drawn wafer", choice)) if not isinstance(step, Progress)]
    train_s = time.perf_counter() - start
    list(judged([warm], made[-1].detector))  # a page has imported what it needs
    start, steps = time.perf_counter(), []
    for step in judging([unseen], made[-1].detector):
        assert not step.error
        steps.append(round(time.perf_counter() - start, 2))
    fresh.remove()
    first, last = steps
    return {
        "n_photographs": n,
        "detector": choice,
        "train_s": round(train_s, 1),
        "verdict_s": first,
        "with_map_s": last,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int)
    parser.add_argument("detector", nargs="?", choices=list(CHOICES), default=next(iter(CHOICES)))
    asked = parser.parse_args()
    known = json.loads(OUT.read_text())["measured"] if OUT.is_file() else []
    measured = {(row["n_photographs"], row["detector"]): row for row in known}
    with tempfile.TemporaryDirectory() as folder:
        for n, choice in [(asked.n, asked.detector)] if asked.n else ASKED:
            measured[n, choice] = measure(n, choice, Path(folder))
            print(measured[n, choice], flush=True)
            found = {"cpu": cpu_name(), "cores": os.cpu_count(), "measured": list(measured.values())}
            OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
