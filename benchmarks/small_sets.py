"""What few photographs are worth: AUROC, and the share of good parts flagged beside the share promised.

    python -m benchmarks.small_sets                              bottle and tiles below $ATTENTDIFFERNET_DATA
    python -m benchmarks.small_sets --methods patchcore          one method
    python -m benchmarks.small_sets --categories mvtec_ad/bottle

Of the training normals of a category, 5, 10, 20 and 50 are drawn five times each, the same for every method. Each draw
trains a detector with every default, which judges test images with its own threshold: 60 normal and 60 anomalous ones,
drawn once, or all where there are fewer. Test normals stand for new good parts. DifferNet's rows also say which method
the rule would take (attentdiffernet/method_choice.py). Writes benchmarks/small_sets.csv, each row as soon as it is
known; a row that it holds is not measured again.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from attentdiffernet.category import InspectionDataset, InspectionImage
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.features import default_cache
from attentdiffernet.findings import Findings
from attentdiffernet.method_choice import choose_method
from attentdiffernet.methods import fit
from attentdiffernet.options import MethodName, Options
from attentdiffernet.study.statistics import auroc

from .data import folder_of

OUT = Path(__file__).resolve().parent / "small_sets.csv"
CATEGORIES = ["mvtec_ad/bottle", "mtd/magnetic_tile"]
OPTIONS = {
    one.key if one.method == "patchcore" else one.method: one
    for one in (Options(), Options(method="patchcore"), Options(method="patchcore", variant="places"))
}
SIZES, DRAWS = (5, 10, 20, 50), 5
TESTED = 60  # images of each kind, at most
KEY = ["category", "method", "n_images", "draw"]


def drawn(paths: Sequence[Path], n_images: int, draw: int) -> list[Path]:
    """n_images of the training normals. Those of a smaller size are among those of a larger one, with the same draw."""
    order = np.random.default_rng(draw).permutation(len(paths))
    return [paths[k] for k in order[:n_images]]


def to_test(dataset: InspectionDataset) -> list[InspectionImage]:
    rng = np.random.default_rng(0)
    kinds = [[image for image in dataset.test if image.label == label] for label in (0, 1)]
    return [kind[k] for kind in kinds for k in sorted(rng.permutation(len(kind))[:TESTED])]


def by_rule(images: Sequence[Path]) -> tuple[MethodName, Findings]:
    """(method that the rule takes, what suits DifferNet)."""
    options, findings = choose_method(images, Options(), default_cache())
    if options.method != "differnet":
        findings = DifferNetDetector.choose(images, Options(), default_cache())
    return options.method, findings


def measure(category: str, method: str, n_images: int, draw: int) -> dict[str, object]:
    dataset = InspectionDataset(folder_of(category))
    tested = to_test(dataset)
    images = drawn([image.path for image in dataset.train], n_images, draw)
    chosen, findings = by_rule(images) if method == "differnet" else ("", None)
    start = time.process_time()
    detector = fit(images, OPTIONS[method], cache=default_cache(), findings=findings)
    trained_s = time.process_time() - start
    verdicts = detector.inspect_all([image.path for image in tested], cache=default_cache())
    scores, labels = [verdict.score for verdict in verdicts], [image.label for image in tested]
    calibration = detector.calibration
    normal = np.array(scores)[np.array(labels) == 0]
    return {
        **dict(zip(KEY, (category, method, n_images, draw), strict=True)),
        "auroc": auroc(labels, scores),
        "n_calibrated": len(calibration.scores),
        "promised": calibration.false_positive_rate,
        "n_normal": len(normal),
        "flagged": int((normal > calibration.threshold).sum()),
        "chosen": chosen,
        "cpu_s": round(trained_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--categories", nargs="+", default=CATEGORIES)
    parser.add_argument("--methods", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    asked = parser.parse_args()
    for method, draw, n_images, category in itertools.product(asked.methods, range(DRAWS), SIZES, asked.categories):
        known = pd.read_csv(OUT) if OUT.is_file() else pd.DataFrame(columns=KEY)
        if (category, method, n_images, draw) in set(known[KEY].itertuples(index=False, name=None)):
            continue
        row = measure(category, method, n_images, draw)
        print(row, flush=True)
        pd.DataFrame([row]).to_csv(
            OUT, mode="a", header=not OUT.is_file(), index=False, float_format="%.6g", lineterminator="\n"
        )


if __name__ == "__main__":
    main()
