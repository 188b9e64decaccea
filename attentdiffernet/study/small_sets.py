"""The table of `benchmarks/small_sets.csv`: what few training images are worth."""

from collections import Counter

import pandas as pd

from ..datasets import category_title
from ..words import percent, variant_title
from .formats import counted, mean_text, percent_range
from .statistics import flagged_range
from .tables import Column, Table


def small_sets_table(frame: pd.DataFrame) -> str:
    """A row for each category, method and number of images: AUROC over draws, and good parts flagged beside the share
    that was promised."""
    columns = [
        Column("Category", category_title),
        Column("Method", variant_title),
        Column("Images", number=True),
        Column("Draws", number=True),
        Column("AUROC", number=True),
        Column("Promised", number=True),
        Column("Flagged", number=True),
        Column("Draws within the range"),
        Column("The rule takes"),
    ]
    by = ["category", "method", "n_images"]
    rows = [_row(some) for _, some in frame.sort_values(by).groupby(by, sort=False)]
    numbers = [row[3] for row in rows]
    rest = " Rows with fewer draws are not finished: the command goes on where it stopped." * (len(set(numbers)) > 1)
    return (
        f"{Table(columns, rows).markdown()}\n"
        "AUROC in percent: mean ± standard deviation over draws of training images. Of 100 good parts, promised "
        "on average; and flagged among test normals, all draws together, with the least and the most of a draw. So few "
        "images leave a wide range for one draw, in which the number flagged lies in 95 of 100 draws. "
        f"`python -m benchmarks.small_sets`.{rest}"
    )


def _row(draws: pd.DataFrame) -> list[object]:
    """draws: of one category, method and number of images."""
    method, shares = str(draws["method"].iloc[0]), draws["flagged"] / draws["n_normal"]
    ranges = map(flagged_range, draws["n_calibrated"].tolist(), draws["promised"].tolist(), draws["n_normal"].tolist())
    inside = sum(low <= flagged <= high for (low, high), flagged in zip(ranges, draws["flagged"], strict=True))
    chosen = Counter(draws["chosen"].dropna().tolist())
    return [
        draws["category"].iloc[0],
        "none" if method == "differnet" else method,
        draws["n_images"].iloc[0],
        len(draws),
        mean_text(draws["auroc"].tolist()),
        percent(draws["promised"].mean()),
        f"{percent(draws['flagged'].sum() / draws['n_normal'].sum())} ({percent_range(shares.min(), shares.max())})",
        f"{inside} of {len(draws)}",
        ", ".join(f"{_title(name)} {counted(n, 'time')}" for name, n in chosen.items()) or None,
    ]


def _title(method: str) -> str:
    return variant_title("none" if method == "differnet" else method)
