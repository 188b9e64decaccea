"""Does attention help? The answer that the paired tests give, as one line, as a paragraph and by recipe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..config import AttentionConfig
from ..datasets import category_title, dataset_title
from .comparison import SIGNIFICANT, Contrast, Measured, contrasts, grouped, without_best_on_test
from .formats import counted, p_text, percent, points, points_range
from .runs import Run, variant_title
from .tables import Column, Table

TRAININGS = {
    "separation": "separation, kept if better",
    "separation_unjudged": "separation, always kept",
}


def is_default(run: Run) -> bool:
    """Whether the attention blocks are trained and placed as by default; other runs are ablations."""
    return run.attention_training.startswith(AttentionConfig().training) and not run.blocks


def training_text(m: Measured) -> str:
    """How attention was made, and what else tells the run from others: `proxy`, `separation, always kept, 90 epochs`."""
    training = TRAININGS.get(m.run.attention_training, m.run.attention_training)
    return ", ".join(filter(None, (training, str(m.recipe.without("attention_training")))))


def method_text(m: Measured) -> str:
    """`AttentDifferNet (SE), proxy`"""
    return ", ".join(filter(None, (variant_title(m.run.variant), training_text(m))))


@dataclass(frozen=True)
class Answer:
    """Counts over comparisons: an attention variant with DifferNet, of one category, backbone and recipe."""

    comparisons: int
    categories: int
    helped: int
    harmed: int

    @property
    def inconclusive(self) -> int:
        return self.comparisons - self.helped - self.harmed

    def __str__(self) -> str:
        if not self.comparisons:
            return "No attention variant was compared with DifferNet."
        where = f"{counted(self.comparisons, 'comparison')} on {counted(self.categories, 'category', 'categories')}"
        harmed = f"harmed in {self.harmed or 'none'}"
        return f"In {where} attention helped in {self.helped or 'none'} and {harmed}."


def answer(found: Iterable[Contrast]) -> Answer:
    """The answer to "Does attention help?"."""
    found = list(found)
    helped, harmed = sum(c.helps for c in found), sum(c.harms for c in found)
    return Answer(len(found), len({c.group.first.key for c in found}), helped, harmed)


def all_contrasts(found: Iterable[Measured]) -> list[Contrast]:
    """Of all runs but those that are best on test."""
    return contrasts(grouped(without_best_on_test(found)))


# -- by recipe


def mean_difference(found: Sequence[Contrast]) -> float:
    return float(np.mean([c.test.difference for c in found]))


def default_text(found: Sequence[Contrast]) -> str:
    """The mean of the default recipe and of the ablations, which are never averaged with it."""
    default = [c for c in found if is_default(c.group.first.run)]
    ablations = [c for c in found if not is_default(c.group.first.run)]
    said = [_mean_text("With the default training and placement of the blocks", default)] if default else []
    said += [_mean_text("With other trainings, places or widths of the blocks (ablations)", ablations)] if ablations else []
    return " ".join(said)


def _mean_text(what: str, found: Sequence[Contrast]) -> str:
    one = answer(found)
    return (
        f"{what}, AUROC changes by {points(mean_difference(found))} points on average over "
        f"{counted(len(found), 'comparison')}: {one.helped} better, {one.harmed} worse, {one.inconclusive} inconclusive."
    )


def by_recipe(found: Sequence[Contrast]) -> Table:
    """A row per recipe, variant and backbone, over the categories; the default recipe first."""
    rows: dict[tuple[str, str, str], list[Contrast]] = {}
    for c in sorted(found, key=lambda c: not is_default(c.group.first.run)):
        m = c.group.first
        rows.setdefault((training_text(m), variant_title(m.run.variant), m.run.backbone), []).append(c)
    columns = [Column("Attention"), Column("Variant"), Column("Backbone"), Column("Categories", number=True)]
    columns += [Column("Mean Δ, points", points, number=True)]
    columns += [Column(title, number=True) for title in ("better", "worse", "inconclusive")]
    counts = [(answer(some), some) for some in rows.values()]
    return Table(
        columns,
        [
            [*names, len(some), mean_difference(some), one.helped, one.harmed, one.inconclusive]
            for names, (one, some) in zip(rows, counts, strict=True)
        ],
    )


# -- in a paragraph


def left_at_one_text(found: Iterable[Measured]) -> str:
    """In how many runs training left the gates at 1; empty where in none."""
    trained = [m for m in found if m.run.attention_training]
    left = sum(not m.gates.kept for m in trained)
    if not left:
        return ""
    return (
        f"In {left} of {len(trained)} runs the gates were left at 1, because they did not help to detect synthetic "
        "defects in held-out normal images. Such a run is DifferNet; where this holds for all its seeds, it is not "
        "compared."
    )


def summary_text(found: Iterable[Measured]) -> str:
    """The answer, what it counts, and the means by recipe; empty where nothing was compared."""
    found = without_best_on_test(found)
    tested = all_contrasts(found)
    if not tested:
        return ""
    rule = (
        f"A difference counts if p < {SIGNIFICANT} after Holm's correction for the number of tests and, with several "
        "seeds, the interval over seeds excludes 0; all others are inconclusive."
    )
    return " ".join(filter(None, (f"**{answer(tested)}**", default_text(tested), rule, left_at_one_text(found))))


def contrast_text(c: Contrast) -> str:
    """One comparison in a sentence."""
    m = c.group.first
    seeds = "one seed only"
    if c.over_seeds:
        seeds = f"{points_range(*c.over_seeds[1:])} over {len(c.group.differences)} seeds"
    return (
        f"{category_title(m.key)}, {method_text(m)}, {m.run.backbone} backbone: {points(c.test.difference)} points "
        f"({points_range(c.test.low, c.test.high)} over test images, {seeds}; {p_text(c.p_holm, 'p')} after Holm)."
    )


# -- beside what the paper states


def claim_text(found: Sequence[Contrast], published: pd.DataFrame) -> str:
    """What the paper states that attention gains, and how many comparisons here reach it.

    From the source that states both averages for the most data sets; empty where none does.
    """
    averages = published[published["category"] == "average"].pivot_table("auroc", ["source", "dataset"], "method")
    if not found or not {"DifferNet", "AttentDifferNet"} <= {*averages}:
        return ""
    gains = (averages["AttentDifferNet"] - averages["DifferNet"]).dropna()
    source = gains.groupby("source").size().idxmax()
    of_source = gains[source]
    claim = float(of_source.mean())
    stated = ", ".join(f"{dataset_title(name)} {points(gain)}" for name, gain in of_source.items())
    below = sum(c.test.high < claim for c in found)
    reached = [c.real for c in found if c.test.difference >= claim]
    no_room = sum(c.test.auroc_b > 1 - claim for c in found)
    return (
        f"The paper states {100 * claim:+.2f} points on average over its data sets ({stated}; {source}), with its own "
        f"weights, views and choice of epochs. Here {len(reached)} of {counted(len(found), 'comparison')} reach that, "
        f"{sum(reached)} of them beyond chance. In {below} the whole interval over test images lies below it. In "
        f"{no_room} DifferNet is so good that less than that is left to gain ({percent(1 - claim)} % and more)."
    )


def published_text(published: pd.DataFrame) -> str:
    """`DifferNet 97.7 % (DifferNet paper)`, all in a row."""
    return "; ".join(f"{row.method} {percent(float(row.auroc))} % ({row.source})" for row in published.itertuples())
