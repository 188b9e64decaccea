"""The training itself, in a process of its own: it can be killed at any time, and yields to the pages of others.

Reads a job from standard input as JSON once it has imported what it needs, and writes a line of JSON for each step of
progress and for the end.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from attentdiffernet import Options, fit
from attentdiffernet.backbone import imagenet_at_hand
from attentdiffernet.calibration import split_normals
from attentdiffernet.card import DataCard
from attentdiffernet.errors import AttentDifferNetError

NICENESS = 10  # a visitor who waits for a verdict goes first


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Fits and saves; returns scores of photographs that the detector was not fitted to, by their number."""
    weights = "imagenet" if job["method"] == "patchcore" or imagenet_at_hand() else "bundled"
    options = Options(method=job["method"], variant=job["variant"], weights=weights)
    images = [Path(path) for path in job["images"]]
    data = DataCard("own", job["name"], len(images), "A visitor's own photographs")
    # In the visitor's folder, so that what a killed training leaves goes with it.
    with tempfile.TemporaryDirectory(prefix="features-", dir=Path(job["out"]).parent) as cache:
        detector = fit(images, options, data=data, cache=Path(cache), progress=_tell)
        detector.save(job["out"])
        scores = detector.left_out
        if not scores:
            _, held_out = split_normals(list(enumerate(images)), options)
            verdicts = detector.inspect_all([path for _, path in held_out], cache=Path(cache))
            scores = {k: verdict.score for (k, _), verdict in zip(held_out, verdicts, strict=True)}
    return {"scores": sorted(scores.items())}


def _tell(stage: str, done: int, total: int) -> None:
    print(json.dumps({"stage": stage, "done": done, "total": total}), flush=True)


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        print(json.dumps(train(json.load(sys.stdin))), flush=True)
    except AttentDifferNetError as error:
        print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    main()
