"""Numbers as text, one way for each: pages, tables and figures all write them by these functions.

Areas and differences of areas come as shares of 1 and are written in percent or in points.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..words import percent
from .statistics import AurocInterval, Difference


def percent_range(low: float, high: float) -> str:
    """`95.1 to 98.6`"""
    return f"{percent(low)} to {percent(high)}"


def points(difference: float) -> str:
    """`+1.2`, never `-0.0`"""
    return f"{100 * difference:+z.1f}"


def points_range(low: float, high: float) -> str:
    """`-3.1 to +0.7`"""
    return f"{points(low)} to {points(high)}"


def auroc_text(interval: AurocInterval) -> str:
    """`97.3 (95.1 to 98.6)`"""
    return f"{percent(interval.auroc)} ({percent_range(interval.low, interval.high)})"


def interval_text(interval: AurocInterval) -> str:
    """`97.3 % (95.1 to 98.6)`"""
    return f"{percent(interval.auroc)} % ({percent_range(interval.low, interval.high)})"


def points_text(difference: Difference) -> str:
    """`+1.2 (-0.3 to +2.7)`"""
    return f"{points(difference.difference)} ({points_range(difference.low, difference.high)})"


def difference_text(difference: Difference | None) -> str:
    """`+1.2 points, p = 0.03`; empty without a difference"""
    if difference is None:
        return ""
    return f"{points(difference.difference)} points, {p_text(difference.p_value, 'p')}"


def p_text(p_value: float, name: str = "") -> str:
    """`0.03` or `< 0.001`; with a name `p = 0.03` or `p < 0.001`"""
    if p_value < 0.001:
        return f"{name} < 0.001".lstrip()
    return f"{name} = {p_value:.2g}" if name else f"{p_value:.2g}"


def mean_text(shares: Sequence[float]) -> str:
    """`97.3 ± 0.4`: mean and standard deviation; of one share there is no deviation"""
    return percent(float(np.mean(shares))) + _deviation(shares)


def mean_points_text(differences: Sequence[float]) -> str:
    """`+1.2 ± 0.4`"""
    return points(float(np.mean(differences))) + _deviation(differences)


def _deviation(shares: Sequence[float]) -> str:
    return f" ± {percent(float(np.std(shares, ddof=1)))}" if len(shares) > 1 else ""


def counted(n: int, one: str, more: str = "") -> str:
    """`1 run`, `3 runs`, `2 categories`"""
    return f"{n} {one if n == 1 else more or one + 's'}"


# -- rows of maps.summary_of_maps


def energy_text(row: Mapping[Any, Any]) -> str:
    """`1.84 (1.52 to 2.20)`, in units of chance"""
    return f"{row['energy_ratio']:.2f} ({row['energy_ratio_low']:.2f} to {row['energy_ratio_high']:.2f})"


def hit_text(row: Mapping[Any, Any]) -> str:
    """`31 % (22 to 41)`"""
    return f"{100 * row['hit_rate']:.0f} % ({100 * row['hit_rate_low']:.0f} to {100 * row['hit_rate_high']:.0f})"


def energy_difference_text(row: Mapping[Any, Any]) -> str:
    """`+0.21, p = 0.03`; empty where there is nothing to compare with"""
    if not row["n_paired"]:
        return ""
    return f"{row['energy_difference']:+z.2f}, {p_text(row['energy_difference_p'], 'p')}"


def hit_difference_text(row: Mapping[Any, Any]) -> str:
    """`+4 points, p = 0.3`; empty where there is nothing to compare with"""
    if not row["n_paired"]:
        return ""
    return f"{100 * row['hit_difference']:+z.0f} points, {p_text(row['hit_difference_p'], 'p')}"
