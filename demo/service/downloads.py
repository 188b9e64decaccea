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
from attentdiffernet.words import DETECTOR_TITLES, METHOD_TITLES, without_formula

from .verdict import Comparison, heat_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSV_COLUMNS = ("image", "category", "detector", "score", "threshold", "anomalous", "percentile", "n_views", "choices")


def numbers_csv(comparisons: list[Comparison]) -> str:
    """A row for each image and detector, `CSV_COLUMNS`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        image, category = without_formula(comparison.name), comparison.category.key
        for v in comparison.verdicts.values():
            numbers = [f"{v.score:.9g}", f"{v.threshold:.9g}", int(v.anomalous), f"{v.percentile:.4g}", v.n_views]
            writer.writerow([image, category, v.key, *numbers, v.choices])
    return stream.getvalue()


def maps_zip(comparisons: list[Comparison], own_scale: bool = False) -> bytes:
    """PNG files of images, overlays and colour bars, with the numbers as CSV. own_scale: as of `Heat.scaled`."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for k, comparison in enumerate(comparisons, 1):
            folder = f"{k:02d}-{safe_stem(comparison.name)}"
            archive.writestr(f"{folder}/image.png", png(comparison.image))
            if comparison.heat is not None:
                for key, method in comparison.heat.methods.items():
                    file = f"{folder}/{key}-{method}.png"
                    archive.writestr(file, png(comparison.overlay(key, own_scale)))
                for method, scale in () if own_scale else comparison.heat.kinds.items():
                    archive.writestr(f"{folder}/colour-bar-{method}.png", png(heat_bar(scale, METHOD_TITLES[method])))
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


def paper_grid(comparisons: list[Comparison], keys: list[str]) -> "Figure":
    """Finished comparisons as `figures.qualitative_grid`: rows are images, columns detectors (`Detector.key`). Maps of
    a kind share a scale over all rows.

    Raises DatasetError if a map is missing.
    """
    heats = [comparison.heat for comparison in comparisons if comparison.heat]
    if not keys or len(heats) < len(comparisons) or not all(set(keys) <= set(heat.heat) for heat in heats):
        raise DatasetError("A figure needs one detector or more, and maps of each for every image")
    tops: dict[str, float] = {}
    for heat in heats:
        for key in keys:
            tops[heat.methods[key]] = max(tops.get(heat.methods[key], 0.0), heat.scales[key][1])
    rows = [
        GridRow(
            c.name,
            c.image,
            [heat.heat[key] / tops[heat.methods[key]] for key in keys],
            [c.verdicts[key].score for key in keys],
        )
        for c, heat in zip(comparisons, heats, strict=True)
    ]
    ends = ", ".join(f"{METHOD_TITLES[method]} {2.0**top:.2g}" for method, top in tops.items())
    label = f"Heat (logarithmic): 0 is what 99 % of places in normal images reach,\n1 is so many times that: {ends}"
    return qualitative_grid(rows, [DETECTOR_TITLES[key] for key in keys], vmax=1.0, label=label)
