"""What the rule chooses for DifferNet's input in each category, and what the choice costs.

    python -m benchmarks.input_choice mvtec_ad/bottle sample/gear     below $ATTENTDIFFERNET_DATA; samples in data/

Writes benchmarks/input_choice.csv, each row as soon as it is known; a category that it holds is not examined again.
`views_computed`: copies of images put through the backbone, nothing cached; it does not depend on the machine, `cpu_s`
does. `as_before`: whether views, aspect, exposure and readout are those of the committed run of DifferNet with seed 0.
"""

import argparse
import time
from pathlib import Path

import pandas as pd

from attentdiffernet.category import InspectionDataset
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.findings import Findings
from attentdiffernet.input_choice import examine
from attentdiffernet.options import Options
from attentdiffernet.study.records import runs_of
from attentdiffernet.words import input_title

from .data import folder_of, weights_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "input_choice.csv"
COLUMNS = ["category", "n_train", "input", "readout", "scoring_views", "as_before", "views_computed", "cpu_s"]


def training_images(name: str) -> list[Path]:
    return [image.path for image in InspectionDataset(folder_of(name)).train]


def measure(name: str) -> dict[str, object]:
    options, images = Options(weights=weights_of(name)), training_images(name)
    start, before = time.process_time(), FeatureExtractor.views_computed
    found = examine(images, options).findings
    return {
        "category": name,
        "n_train": len(images),
        "input": input_title(found.views, found.resize, found.exposure),
        "readout": found.readout,
        "scoring_views": found.scoring_views,
        "as_before": as_committed(name, options, found),
        "views_computed": FeatureExtractor.views_computed - before,
        "cpu_s": time.process_time() - start,
    }


def as_committed(name: str, options: Options, found: Findings) -> bool:
    """Whether the committed run chose the same, by the columns that a run has."""
    run = runs_of(ROOT / "results")[f"{name.replace('/', '-')}-none-{options.weights}-s0"]
    chosen = input_title(found.views, found.resize, found.exposure), found.readout, found.scoring_views
    return chosen == (run.views, run.readout, run.n_views)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="*")
    known = set(pd.read_csv(OUT)["category"]) if OUT.is_file() else set()
    for name in parser.parse_args().categories:
        if name not in known:
            row = pd.DataFrame([measure(name)]).reindex(columns=COLUMNS)
            row.to_csv(OUT, mode="a", header=not OUT.is_file(), index=False, float_format="%.4g", lineterminator="\n")
            print(row.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
