"""Trains and evaluates the models that the project ships, and writes their score files to `results/`.

    python scripts/train_shipped.py sample                 the synthetic sample set, bundled backbone
    python scripts/train_shipped.py mvtec_ad/bottle        real images below $ATTENTDIFFERNET_DATA, ImageNet backbone
    python scripts/train_shipped.py mtd/magnetic_tile      ... and DifferNet with bundled and random weights

What is done already (a score file of the run is there) is skipped. Options are fixed here, before any test image is
seen, and are the same for the three variants.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attentdiffernet.datasets.sample import CATEGORIES

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("none", "se", "cbam")


def attentdiffernet(*arguments: str | Path) -> None:
    print("attentdiffernet", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "attentdiffernet.cli", *map(str, arguments)], check=True)


def chosen_in(model_dir: Path) -> list[str]:
    """What the rule chose for DifferNet. It looks at the plain backbone, so it would choose the same for the others."""
    config = json.loads((model_dir / "config.json").read_text())
    options = ["--view-kind", config["model"]["views"], "--readout", config["model"]["readout"]]
    options += ["--train-views", config["training"]["views_per_image"], "--views", config["scoring"]["n_views"]]
    return [str(option) for option in options]


def run(folder: Path, variant: str, weights: str, model_dir: Path, chosen: list[str] | None = None) -> None:
    dataset, category = folder.parent.name, folder.name
    name = f"{dataset}-{category}-{variant}-{weights}-s0"
    if (ROOT / "results" / "scores" / dataset / category / f"{name}.csv").exists() and (
        model_dir.exists() or not model_dir.is_relative_to(ROOT)
    ):
        print(f"{name} is there already", flush=True)
        return
    options = ["--variant", variant, "--weights", weights, *(chosen or [])]
    attentdiffernet("train", folder, "--out", model_dir, *options)
    attentdiffernet("evaluate", model_dir, folder, "--results", ROOT / "results", "--run", name)


def copy_examples(folder: Path) -> None:
    """One test image per defect for the demo's page: the first, neither the best nor the worst."""
    examples = ROOT / "demo" / "examples" / folder.parent.name / folder.name
    examples.mkdir(parents=True, exist_ok=True)
    for defect in (folder / "test").iterdir():
        first = min(defect.iterdir())
        shutil.copyfile(first, examples / f"{defect.name}{first.suffix}")


def main(names: list[str]) -> None:
    if not names:
        sys.exit(__doc__)
    for name in names:
        if name == "sample":
            data = ROOT / "data" / "sample"
            if not data.exists():
                attentdiffernet("datasets", "sample", "--out", data)
            for folder in sorted(data / name for name in CATEGORIES):
                for variant in VARIANTS:
                    models = ROOT / "models" / "sample" / folder.name
                    run(
                        folder,
                        variant,
                        "bundled",
                        models / variant,
                        None if variant == "none" else chosen_in(models / "none"),
                    )
                copy_examples(folder)
            continue
        folder = Path(os.environ["ATTENTDIFFERNET_DATA"]) / name
        for variant in VARIANTS:
            models = ROOT / "models" / name
            run(
                folder, variant, "imagenet", models / variant, None if variant == "none" else chosen_in(models / "none")
            )
        with tempfile.TemporaryDirectory() as temporary:  # measured for comparison, not shipped
            for weights in ("random", "bundled"):
                run(folder, "none", weights, Path(temporary) / weights, chosen_in(models / "none"))
    attentdiffernet("summarise", ROOT / "results")


if __name__ == "__main__":
    main(sys.argv[1:])
