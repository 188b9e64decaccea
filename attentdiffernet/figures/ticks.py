"""Where logarithmic axes have their numbers, on screen and in print."""

import math
from collections.abc import Sequence

import numpy as np

from ..words import score_text
from .curves import Curve

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MOST_DECADES = 7  # with a number each


def score_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """(values, texts) of an axis from `low` to `high`, both positive; few enough not to run into each other."""
    steps = (1, 2, 5) if high < 300 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades[:: 1 + len(decades) // MOST_DECADES] for step in steps]
    return ticks, [score_text(tick) for tick in ticks]


def least_rate(curves: Sequence[Curve]) -> float:
    """Half the lowest false-positive rate that so many normal images can show: what lies at 0 is drawn there."""
    return 0.5 / max([1, *(int((np.asarray(curve.labels) == 0).sum()) for curve in curves)])


def band_points(edge: float) -> int:
    """How many rates a band is computed at, on an axis that begins at `edge`; 0 for a linear one. Steps of a quarter of
    an image are enough on a logarithmic one."""
    return min(2001, 1 + round(2 / edge)) if edge else 201


def rate_ticks(edge: float) -> tuple[list[float], list[str]]:
    """(values, texts) of an axis of false-positive rates that begins at `edge`, which stands for 0."""
    ticks = [rate for rate in RATES if rate > 1.3 * edge]
    return [edge, *ticks], ["0", *(f"{100 * rate:g}%" for rate in ticks)]
