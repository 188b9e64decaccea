"""Do maps lie on the defect? Their energy and their maximum on a mask, against chance and against DifferNet's maps.

Chance is the share of the image that the mask covers, which is what a map without preference gives for energy and for
the maximum. It is a low bar: parts lie in the middle of their images, so a map that is always high there beats it
without having detected anything. The comparison with DifferNet's map of the same image has no such weakness.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..words import METHOD_TITLES
from .localisation import aupro, brought_to, pixel_auroc
from .records import MAP_KINDS, TARGETS, map_files, pixel_files, read_maps, read_pixels
from .runs import Run, base_of, rank
from .statistics import Estimate, bootstrap_ratio, rate_interval

TIE = 1e-6  # of the maximum: less is rounding

SUMMARY_COLUMNS = [
    *("dataset", "category", "run", "variant", "backbone", "seed", "attention_training"),
    *("method", "map", "target", "n_images", "n_empty", "chance"),
    *("energy_ratio", "energy_ratio_low", "energy_ratio_high", "hit_rate", "hit_rate_low", "hit_rate_high"),
    *("against", "n_paired"),
    *("energy_difference", "energy_difference_low", "energy_difference_high", "energy_difference_p"),
    *("hit_difference", "hit_difference_low", "hit_difference_high", "hit_difference_p"),
]

PIXEL_COLUMNS = [*SUMMARY_COLUMNS[:7], "method", "n_regions", "pixel_auroc", "aupro"]


@dataclass(frozen=True)
class Localisation:
    """One map against one mask, shares in [0, 1].

    chance: of the image that the mask covers. energy: of the map's sum that lies on the mask. hit: of the map's
    highest pixels that lie on the mask, mostly 0 or 1 (the pointing game); where all are equally high this is chance.
    empty: the map is zero everywhere; energy and hit are then chance.
    """

    chance: float
    energy: float
    hit: float
    empty: bool


def localise(heatmap: NDArray[np.floating], mask: NDArray[np.bool_]) -> Localisation:
    """A map (h, w), finite and >= 0, that covers the image, against a mask (H, W) at the image's own size.

    The map is brought to the mask's size as it is drawn over an image (`figures.overlay`), bilinearly. Raises
    ValueError for other maps and for masks that mark nothing.
    """
    if heatmap.ndim != 2 or not np.isfinite(heatmap).all() or heatmap.min() < 0:
        raise ValueError(f"A map must be (h, w) of finite numbers >= 0, got shape {heatmap.shape}")
    if mask.ndim != 2 or mask.dtype != bool or not mask.any():
        raise ValueError(f"A mask must be (H, W) of bool with at least one pixel set, got {mask.dtype} {mask.shape}")
    chance = float(mask.mean())
    if (top := float(heatmap.max())) == 0:
        return Localisation(chance, chance, chance, True)
    brought = brought_to(heatmap / top, mask.shape)  # gradients may be too small for sums of float32
    highest = brought >= brought.max() * (1 - TIE)
    energy = float(brought[mask].sum(dtype=np.float64) / brought.sum(dtype=np.float64))
    return Localisation(chance, min(energy, 1.0), float(mask[highest].mean()), False)


def excess(heatmap: NDArray[np.floating], reference: float) -> NDArray[np.floating]:
    """The part of a map above the reference of held-out normals (`Calibration.map_references`). A raw map also contains
    places where normal images are high, for example at edges."""
    return np.maximum(heatmap - reference, 0)


# -- summary of what was measured


def summary_of_maps(results_dir: str | Path, key: str | None = None) -> pd.DataFrame:
    """SUMMARY_COLUMNS from the files in results/maps alone; a row per run, method, kind of map and target.

    energy_ratio: sum over images of the energy on the mask over the sum of chance; 1 is chance, 2 is twice as much as a
    map without preference puts there. hit_rate: share of images whose maximum lies on the mask; its chance is `chance`,
    the mean. Differences (ratio minus ratio, rate minus rate) to DifferNet with the same backbone and seed, `against`,
    are over the n_paired images that both have; nan where there is none (DifferNet has no spatial gates). Intervals
    (95 %) and p values: bootstrap over images within each defect, Clopper-Pearson for the hit rate; they cover
    other images, not other seeds.
    key: only of this `DATASET/CATEGORY`. Raises ResultsError for damaged files.
    """
    paths = [path for path in map_files(results_dir) if key is None or "/".join(path.parts[-3:-1]) == key]
    measured = {run: dict(list(frame.groupby(["method", "map", "target"]))) for run, frame in map(read_maps, paths)}
    rows = []
    for run in sorted(measured, key=lambda run: (rank(run), run.run)):
        base = base_of(run, measured)
        for method, target, kind in itertools.product(METHOD_TITLES, TARGETS, MAP_KINDS):
            if (what := (method, kind, target)) in measured[run]:
                other = measured[base].get(what) if base else None
                row = dict(zip(("method", "map", "target"), what, strict=True))
                rows.append(row | _described(run, base) | _figures(measured[run][what], other))
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _described(run: Run, base: Run | None) -> dict[str, object]:
    return {name: getattr(run, name) for name in SUMMARY_COLUMNS[:7]} | {"against": base.run if base else ""}


def _figures(frame: pd.DataFrame, other: pd.DataFrame | None) -> dict[str, object]:
    """Of one method, kind of map and target; other: the same of DifferNet."""
    row: dict[str, object] = {"n_images": len(frame), "n_empty": int(frame["empty"].sum())}
    row["chance"] = float(frame["chance"].mean())
    strata = frame["defect"].tolist()
    row |= _cells("energy_ratio", bootstrap_ratio(frame["energy"], frame["chance"], strata))
    row |= dict(zip(("hit_rate", "hit_rate_low", "hit_rate_high"), rate_interval(frame["hit"]), strict=True))
    if other is None:
        return row | {"n_paired": 0}
    pairs = frame.merge(other[["image", "energy", "hit"]], on="image", suffixes=("", "_base"))
    row["n_paired"] = len(pairs)
    if len(pairs):
        strata = pairs["defect"].tolist()
        energy = bootstrap_ratio(pairs["energy"] - pairs["energy_base"], pairs["chance"], strata)
        hit = bootstrap_ratio(pairs["hit"] - pairs["hit_base"], np.ones(len(pairs)), strata)
        row |= _cells("energy_difference", energy) | {"energy_difference_p": energy.p_value}
        row |= _cells("hit_difference", hit) | {"hit_difference_p": hit.p_value}
    return row


def _cells(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def summary_of_pixels(results_dir: str | Path) -> pd.DataFrame:
    """PIXEL_COLUMNS from the files in results/pixels alone; a row per run and map. Raises ResultsError for damaged
    files."""
    rows = []
    for run, counts in sorted(map(read_pixels, pixel_files(results_dir)), key=lambda found: rank(found[0])):
        for method in (method for method in METHOD_TITLES if method in counts):
            found, described = counts[method], _described(run, None)
            described |= {"method": method, "n_regions": found.n_regions}
            rows.append(described | {"pixel_auroc": pixel_auroc(found), "aupro": aupro(found)})
    return pd.DataFrame(rows, columns=PIXEL_COLUMNS)
