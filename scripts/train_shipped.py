"""Trains and evaluates the models that the project ships, and copies examples for the demo from their test images.

    python -m scripts.train_shipped sample     grids/sample.toml: the synthetic sample set, drawn first if missing
    python -m scripts.train_shipped real       grids/real.toml: real images below $ATTENTDIFFERNET_DATA, three seeds

Finished runs are skipped.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path

from attentdiffernet.datasets.sample import CATEGORIES, Level
from attentdiffernet.grid import read_grid

ROOT = Path(__file__).resolve().parent.parent


def attentdiffernet(*arguments: str | Path) -> None:
    print("attentdiffernet", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "attentdiffernet.cli", *map(str, arguments)], check=True)


def gallery(defects: Iterable[str]) -> list[tuple[Level, str]]:
    """Level and defect of each example: obvious and moderate in turn, by name, and the last defect once more, hard."""
    names = sorted(defects)
    levels: Iterator[Level] = cycle(("obvious", "moderate"))
    return [*zip(levels, names, strict=False), ("hard", names[-1])]


def copy_examples(folder: Path) -> None:
    """A good test image, and of each level and defect of the gallery the first one with its mask: neither the best nor
    the worst. Replaces the examples that were there."""
    examples = ROOT / "demo" / "examples" / folder.parent.name / folder.name
    shutil.rmtree(examples, ignore_errors=True)
    (examples / "masks").mkdir(parents=True)
    good = min((folder / "test" / "good").iterdir())
    shutil.copyfile(good, examples / f"good{good.suffix}")
    for level, defect in gallery(CATEGORIES[folder.name].defects):
        first = min((folder / "test" / defect).glob(f"{level}_*"))
        shutil.copyfile(first, examples / f"{level}-{defect}{first.suffix}")
        mask = folder / "ground_truth" / defect / f"{first.stem}_mask.png"
        shutil.copyfile(mask, examples / "masks" / f"{level}-{defect}.png")


def main(names: list[str]) -> None:
    if not names or set(names) - {"sample", "real"}:
        sys.exit(__doc__)
    for name in names:
        file = ROOT / "grids" / f"{name}.toml"
        if name == "sample" and not (ROOT / "data" / "sample").exists():
            attentdiffernet("datasets", "sample", "--out", ROOT / "data" / "sample")
        attentdiffernet("grid", file)
        if name == "sample":
            for folder in sorted({task.folder for task in read_grid(file)}):
                copy_examples(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
