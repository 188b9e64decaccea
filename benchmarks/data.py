"""Where the images of a category lie, for all benchmarks."""

import os
from pathlib import Path

DRAWN = Path(__file__).resolve().parent.parent / "data"


def folder_of(name: str) -> Path:
    """DATASET/CATEGORY below $ATTENTDIFFERNET_DATA, or below data/ where it was drawn (`sample/...`)."""
    return (DRAWN if name.startswith("sample/") else Path(os.environ["ATTENTDIFFERNET_DATA"])) / name


def weights_of(name: str) -> str:
    """Of the backbone that a category is measured with."""
    return "bundled" if name.startswith("sample/") else "imagenet"
