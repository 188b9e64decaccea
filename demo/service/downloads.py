"""Results as files: numbers as CSV, maps as PNG and ZIP, figures for papers."""

import csv
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from attentdiffernet.errors import DatasetError
from attentdiffernet.figures.print import GridRow, qualitative_grid
from attentdiffernet.words import VARIANT_TITLES

from .verdict import Comparison, heat_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSV_COLUMNS = ("image", "category", "variant", "score", "threshold", "anomalous", "percentile", "n_views", "attention")


def numbers_csv(comparisons: list[Comparison]) -> str:
    """A row for each image and variant, `CSV_COLUMNS`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        image, category = _without_formula(comparison.name), comparison.category.key
        for v in comparison.verdicts.values():
            numbers = [f"{v.score:.9g}", f"{v.threshold:.9g}", int(v.anomalous), f"{v.percentile:.4g}", v.n_views]
            writer.writerow([image, category, v.variant, *numbers, v.choices])
    return stream.getvalue()


def _without_formula(text: str) -> str:
    """The name of an untrusted file, so that a spreadsheet does not run it as a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def maps_zip(comparisons: list[Comparison]) -> bytes:
    """PNG files of images, overlays and colour bars, with the numbers as CSV."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for k, comparison in enumerate(comparisons, 1):
            folder = f"{k:02d}-{safe_stem(comparison.name)}"
            archive.writestr(f"{folder}/image.png", png(comparison.image))
            if comparison.heat is not None:
                for variant in comparison.heat.heat:
                    file = f"{folder}/{variant}-{comparison.heat.method}.png"
                    archive.writestr(file, png(comparison.overlay(variant)))
                archive.writestr(f"{folder}/colour-bar.png", png(heat_bar(comparison.heat.scale)))
        archive.writestr("numbers.csv", numbers_csv(comparisons))
    return stream.getvalue()


def safe_stem(name: str) -> str:
    """A file name without suffix, of letters, digits and `._-` only."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in Path(name).stem)[:60] or "image"


def png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3 or 4) uint8 as a PNG file, compressed for speed."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def paper_grid(comparisons: list[Comparison], variants: list[str]) -> "Figure":
    """Finished comparisons by one method as `figures.qualitative_grid`: rows are images, columns variants.

    Raises DatasetError if a map is missing.
    """
    heats = [comparison.heat for comparison in comparisons]
    if not variants or not all(heat and set(variants) <= set(heat.heat) for heat in heats):
        raise DatasetError("A figure needs one variant or more, and maps of each for every image")
    rows = [
        GridRow(c.name, c.image, [heat.heat[v] for v in variants], [c.verdicts[v].score for v in variants])
        for c, heat in zip(comparisons, heats, strict=True)
        if heat is not None
    ]
    vmax = max(heat.scale[1] for heat in heats if heat is not None)
    label = "log₂ of heat over the 99th percentile of held-out normal images"
    return qualitative_grid(rows, [VARIANT_TITLES[v] for v in variants], vmax=vmax, label=label)
