"""Trains and evaluates the models that the project ships, and copies examples for the demo from their test images.

    python -m scripts.train_shipped sample     grids/sample.toml: the synthetic sample set, drawn first if missing
    python -m scripts.train_shipped real       grids/real.toml: real images below $ATTENTDIFFERNET_DATA, three seeds

Finished runs are skipped.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from attentdiffernet.grid import read_grid

ROOT = Path(__file__).resolve().parent.parent


def attentdiffernet(*arguments: str | Path) -> None:
    print("attentdiffernet", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "attentdiffernet.cli", *map(str, arguments)], check=True)


def copy_examples(folder: Path) -> None:
    """One test image per defect for the demo's page: the first, neither the best nor the worst."""
    examples = ROOT / "demo" / "examples" / folder.parent.name / folder.name
    examples.mkdir(parents=True, exist_ok=True)
    for defect in (folder / "test").iterdir():
        first = min(defect.iterdir())
        shutil.copyfile(first, examples / f"{defect.name}{first.suffix}")


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
