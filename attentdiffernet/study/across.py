"""Attention averaged over categories: is a gain in one paid for by a loss in another?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from ..datasets import CARDS, category_title
from ..options import BACKBONES
from ..words import DETECTOR_TITLES, short_title, variant_title
from .answer import mean_difference, method_text, training_text
from .comparison import SIGNIFICANT, Contrast
from .formats import p_text, points, points_range
from .statistics import holm, mean_interval
from .tables import Column, Table

ROOM = 0.0177  # what the authors state that attention gains: where DifferNet leaves less, nobody can gain it
LEVEL = 0.95
PICKED_HERE = "Blocks were compared on these very categories, so the best of them looks better here than it is."
DEFAULT_NETWORKS = ("imagenet", BACKBONES["patchcore"])  # as runs.csv names them


@dataclass(frozen=True)
class Average:
    """One variant and training against the same method without attention, the mean over categories.

    contrasts: one of each category. difference: of AUROC, with its interval over test images, which are other ones in
    each category, and the p value for 0. p_holm: corrected for all averages that were made together. over_seeds: mean
    and interval of the seeds' means over the categories, of the seeds that all have; None for one seed.
    """

    contrasts: tuple[Contrast, ...]
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    over_seeds: tuple[float, float, float] | None

    @property
    def n_seeds(self) -> int:
        """That all categories have."""
        return len(_common_seeds(self.contrasts))

    @property
    def helps(self) -> bool:
        """Whether it is beyond chance, corrected, and so over seeds, as far as more than one was tried."""
        return self.difference > 0 and self.p_holm < SIGNIFICANT and (self.over_seeds is None or self.over_seeds[1] > 0)

    @property
    def title(self) -> str:
        return method_text(self.contrasts[0].group.first)


def averages(found: Sequence[Contrast]) -> list[Average]:
    """Of each variant and training that was measured in all categories with room, but for drawn ones; or in the most
    of them that any was measured in.

    found: of attention in one method, with those left at 1; networks that it does not have by default are left out
    (`DEFAULT_NETWORKS`).
    """
    groups: dict[tuple[str, str], list[Contrast]] = {}
    for c in found:
        real = not c.group.first.key.startswith("sample/")
        if real and c.group.first.run.backbone in DEFAULT_NETWORKS and 1 - c.test.auroc_b > ROOM:
            groups.setdefault((c.group.first.run.variant, training_text(c.group.first)), []).append(c)
    most = max((len(some) for some in groups.values()), default=0)
    order = sorted(groups, key=lambda of: list(DETECTOR_TITLES).index(of[0]))
    made = [_average(groups[of]) for of in order if len(groups[of]) == most > 1]
    adjusted = holm([one.p_value for one in made])
    return [replace(one, p_holm=float(p)) for one, p in zip(made, adjusted, strict=True)]


def _average(found: Sequence[Contrast]) -> Average:
    width = float(norm.ppf((1 + LEVEL) / 2))
    errors = [(c.test.high - c.test.low) / 2 / width for c in found]
    mean, error = mean_difference(found), math.hypot(*errors) / len(found)
    by_seed = [_by_seed(c) for c in found]
    seeds = [float(np.mean([of[seed] for of in by_seed])) for seed in _common_seeds(found)]
    return Average(
        tuple(found),
        mean,
        mean - width * error,
        mean + width * error,
        p_value := float(2 * norm.sf(abs(mean) / error)) if error else float(mean == 0),
        p_value,
        mean_interval(seeds, LEVEL) if len(seeds) > 1 else None,
    )


def _by_seed(c: Contrast) -> dict[int, float]:
    return {m.run.seed: m.delong.difference for m in c.group.runs if m.delong}


def _common_seeds(found: Sequence[Contrast]) -> list[int]:
    return sorted(set.intersection(*(set(_by_seed(c)) for c in found)))


def averages_table(found: Sequence[Average]) -> Table:
    columns = [Column("Attention", short_title), Column("Training"), Column("Seeds", number=True)]
    columns += [
        Column("Mean Δ, points (over test images)"),
        Column("over seeds"),
        Column("p", p_text, number=True),
        Column("Holm", number=True),
    ]
    body = []
    for one in found:
        first = one.contrasts[0].group.first
        mean = f"{points(one.difference)} ({points_range(one.low, one.high)})"
        seeds = points_range(*one.over_seeds[1:]) if one.over_seeds else "one seed"
        body.append([first.run.variant, training_text(first), one.n_seeds, mean, seeds, one.p_value, _holm_text(one)])
    return Table(columns, body)


def _holm_text(one: Average) -> str:
    return f"**{p_text(one.p_holm)}**" if one.p_holm < SIGNIFICANT else p_text(one.p_holm)


def averages_text(found: Sequence[Average]) -> str:
    """Whether any helps, and which comes nearest to what the authors state; empty where there is none."""
    if not found:
        return ""
    keys = ", ".join(category_title(c.group.first.key) for c in found[0].contrasts)
    base = found[0].contrasts[0].group.first.base_run
    without = variant_title(base.variant if base else "none")
    n = len(found[0].contrasts)
    where = f"Averaged over the {n} categories not drawn by this project in which {without} leaves room ({keys})"
    if helping := [f"{_change(one)} by {one.title}" for one in found if one.helps]:
        return f"{where}, attention helps: {'; '.join(helping)}."
    best = max(found, key=lambda one: one.difference)
    return f"{where}, no attention helps beyond chance. The largest change is {_change(best)} by {best.title}."


def cautions_text(found: Sequence[Average]) -> str:
    """What must be known to read the averages: where the best was picked, and whose pictures were put together."""
    datasets = {c.group.first.run.dataset for one in found for c in one.contrasts}
    card = CARDS["cplid"]
    composites = f"{card.title}: {card.caveat[0].lower()}{card.caveat[1:]}" if "cplid" in datasets else ""
    return " ".join(filter(None, [PICKED_HERE if any(one.helps for one in found) else "", composites]))


def _change(one: Average) -> str:
    """`+0.9 points (-0.8 to +2.6 over test images, 0.0 to +1.8 over 5 seeds)`"""
    seeds = "one seed"
    if one.over_seeds:
        seeds = f"{points_range(*one.over_seeds[1:])} over {one.n_seeds} seeds"
    return f"{points(one.difference)} points ({points_range(one.low, one.high)} over test images, {seeds})"
