"""Which method the rule takes for each category, and whether the test images agree.

    python -m benchmarks.method_choice mvtec_ad/bottle sample/gear    below $ATTENTDIFFERNET_DATA; samples in data/
    python -m benchmarks.method_choice --summary                      the table, with the measured AUROC beside it

The rule (attentdiffernet/method_choice.py) sees training normals only. `fused`: the mean of both methods' ranks among
held-out normals, on the same synthetic defects; `fused_helps`: whether that beats the better method by more than the
standard error of the difference. Test figures are read from results/summary.csv
afterwards: the mean over seeds of each method, with every default. Writes benchmarks/method_choice.csv, each row as
soon as it is known; a category that it holds is not examined again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from attentdiffernet.features import default_cache
from attentdiffernet.method_choice import by_rule, judge
from attentdiffernet.options import Options
from attentdiffernet.study.statistics import BEYOND_STANDARD_ERROR, auroc, beats

from .input_choice import training_images

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "method_choice.csv"
COLUMNS = ["category", "n_train", "differnet", "patchcore", "chosen", "fused", "fused_helps", "cpu_s"]


def examine(name: str) -> dict[str, object]:
    sources, start = training_images(name), time.process_time()
    judged = judge(sources, Options(), default_cache())
    cpu_s = time.process_time() - start
    method, aurocs = by_rule(judged)
    fused = np.mean([ranks(scores, judged.labels) for scores in judged.scores.values()], axis=0)
    better = max(judged.scores, key=aurocs.__getitem__)
    return {
        "category": name,
        "n_train": len(sources),
        **aurocs,
        "chosen": method,
        "fused": auroc(judged.labels, fused),
        "fused_helps": beats(judged.labels, fused, judged.scores[better], BEYOND_STANDARD_ERROR),
        "cpu_s": cpu_s,
    }


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Conformal: the share of the other normals that score lower."""
    normals = scores[labels == 0]
    lower = (normals < scores[:, None]).sum(1)
    return lower / (len(normals) - (labels == 0))


def summary() -> pd.DataFrame:
    """The file, with AUROC on test images in percent: the mean over seeds, runs with every default only."""
    found = pd.read_csv(OUT).set_index("category")
    runs = pd.read_csv(ROOT / "results" / "runs.csv", keep_default_na=False)
    runs = runs.merge(pd.read_csv(ROOT / "results" / "summary.csv"), on="run")
    runs = runs[(runs["recipe"] == "fast") & (runs["selection"] == "last")]
    runs = runs[runs["backbone"].isin(["imagenet", "tf_efficientnet_lite0"])]
    runs["category"] = runs["dataset"] + "/" + runs["category"]
    for method, variant in (("differnet", "none"), ("patchcore", "patchcore")):
        of_method = runs[runs["variant"] == variant].groupby("category")["auroc"].mean()
        found[f"{method}_test"] = 100 * of_method
        found[method] = 100 * found[method]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="*")
    parser.add_argument("--summary", action="store_true")
    asked = parser.parse_args()
    known = set(pd.read_csv(OUT)["category"]) if OUT.is_file() else set()
    for name in asked.categories:
        if name not in known:
            row = pd.DataFrame([examine(name)]).reindex(columns=COLUMNS)
            row.to_csv(OUT, mode="a", header=not OUT.is_file(), index=False, float_format="%.4g", lineterminator="\n")
    if asked.summary:
        print(summary().round(1).to_string())


if __name__ == "__main__":
    main()
