"""Results as files: numbers as CSV, maps as PNG and ZIP, figures for papers."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from attentdiffernet.errors import DatasetError
from attentdiffernet.figures.print import GridRow, qualitative_grid
from attentdiffernet.words import DETECTOR_TITLES, METHOD_TITLES, without_formula

from .naming import safe_stem
from .verdict import Comparison, Verdict, heat_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = (
    *("title", "score", "threshold", "anomalous", "percentile"),
    *("n_views", "n_views_wanted", "provisional", "choices"),
)
CSV_COLUMNS = ("image", "category", "detector", "score", "threshold", "anomalous", "percentile", "n_views", "choices")


def numbers(verdict: Verdict) -> dict[str, Any]:
    """`NUMBERS` of a verdict, for programs."""
    return {name: getattr(verdict, name) for name in NUMBERS}


def numbers_json(comparisons: Sequence[Comparison]) -> str:
    """The category and, of each image, the numbers of each detector (by `Detector.key`)."""
    images = [
        {"name": one.name, "verdicts": {key: numbers(verdict) for key, verdict in one.verdicts.items()}}
        for one in comparisons
    ]
    told = {"category": comparisons[0].category.key if comparisons else "", "images": images}
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def numbers_csv(comparisons: Sequence[Comparison]) -> str:
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


class MapsZip:
    """PNG files of images, overlays and colour bars, with the numbers as CSV and JSON at the end of a `with` block.
    Written one comparison after the other: all their pictures together would take much memory. own_scale: as of
    `Heat.scaled`."""

    def __init__(self, stream: IO[bytes], own_scale: bool = False) -> None:
        self._archive, self._own_scale = zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED), own_scale
        self._done: list[Comparison] = []

    def __enter__(self) -> Self:
        return self

    def add(self, comparison: Comparison) -> None:
        folder = f"{len(self._done) + 1:02d}-{safe_stem(comparison.name)}"
        self._archive.writestr(f"{folder}/image.png", png(comparison.image))
        for file, picture in _maps(comparison, self._own_scale):
            self._archive.writestr(f"{folder}/{file}", png(picture))
        self._done.append(comparison.without_pictures())

    def __exit__(self, *_: object) -> None:
        with self._archive:
            self._archive.writestr("numbers.csv", numbers_csv(self._done))
            self._archive.writestr("numbers.json", numbers_json(self._done))


def _maps(comparison: Comparison, own_scale: bool) -> Iterator[tuple[str, np.ndarray]]:
    if (heat := comparison.heat) is None:
        return
    for key, method in heat.methods.items():
        yield f"{key}-{method}.png", comparison.overlay(key, own_scale)
    for method, scale in () if own_scale else heat.kinds.items():
        yield f"colour-bar-{method}.png", heat_bar(scale, METHOD_TITLES[method])


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
            [f"{c.verdicts[key].times} threshold" for key in keys],
        )
        for c, heat in zip(comparisons, heats, strict=True)
    ]
    ends = ", ".join(f"{METHOD_TITLES[method]} {2.0**top:.2g}" for method, top in tops.items())
    label = f"Heat (logarithmic): 0 is what 99 % of places in normal images reach,\n1 is so many times that: {ends}"
    return qualitative_grid(rows, [DETECTOR_TITLES[key] for key in keys], vmax=1.0, label=label)
