"""Does attention help? The answer that the paired tests give, as one line, as a paragraph and by recipe."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..datasets import category_title, dataset_title
from ..options import AttentionConfig
from ..words import (
    ALWAYS_KEPT,
    DEFAULT_TRAININGS,
    FIXED,
    MEASURED,
    PAPER_VARIANTS,
    TRAININGS,
    VARIANT_TITLES,
    percent,
    short_title,
    training_title,
    variant_title,
)
from .comparison import SIGNIFICANT, Contrast, Measured, contrasts, grouped, without_best_on_test
from .formats import counted, p_text, points, points_range
from .runs import RECIPES
from .statistics import auroc
from .tables import Column, Table

MOST_NAMED = 3  # categories that attention helped in, in one sentence
GATES_AS_TRAINED = tuple(f"{training}, {ALWAYS_KEPT}" for training in ("separation", "structure", MEASURED, FIXED))
KINDS = {
    "default": f"With the default training ({TRAININGS[AttentionConfig().training]}), places and width of the blocks",
    "published": "With the published procedure, in which attention is trained together with the flow",
    "ablation": "With other trainings, places or widths of the blocks (ablations)",
    "other": "With other blocks than the paper's",
}


def kind_of(c: Contrast) -> str:
    """One of `KINDS`, which are never averaged together."""
    run = c.group.first.run
    if run.recipe == "paper" and run.attention_training == "joint" and not run.blocks:
        return "published"
    if run.variant not in PAPER_VARIANTS:
        return "other"
    default = run.recipe == "fast" and run.attention_training in DEFAULT_TRAININGS and not run.blocks
    return "default" if default else "ablation"


def training_text(m: Measured) -> str:
    """How attention was trained, and what else tells the run apart: `gates trained together with a flow, published
    procedure`."""
    details = m.recipe.without("attention_training", "recipe")
    return ", ".join(filter(None, (training_title(m.run.attention_training), RECIPES[m.run.recipe], str(details))))


def method_text(m: Measured) -> str:
    """`AttentDifferNet (SE), gates untrained`"""
    return ", ".join(filter(None, (variant_title(m.run.variant), m.network, training_text(m))))


@dataclass(frozen=True)
class Answer:
    """Counts over comparisons: an attention variant with DifferNet, of one category, backbone and recipe. where: what
    helped, and on which category."""

    comparisons: int
    categories: int
    helped: int
    harmed: int
    where: tuple[str, ...] = ()

    @property
    def inconclusive(self) -> int:
        return self.comparisons - self.helped - self.harmed

    def __str__(self) -> str:
        if not self.comparisons:
            return "No attention variant was compared with DifferNet."
        where = f"{counted(self.comparisons, 'comparison')} on {counted(self.categories, 'category', 'categories')}"
        harmed = f"harmed it in {self.harmed or 'none'}"
        named = f" Helped: {'; '.join(self.where)}." if 0 < self.helped <= MOST_NAMED else ""
        return f"In {where} attention helped DifferNet in {self.helped or 'none'} and {harmed}.{named}"


def answer(found: Iterable[Contrast]) -> Answer:
    """The answer to "Does attention help?"."""
    found = list(found)
    helped, harmed = [c for c in found if c.helps], sum(c.harms for c in found)
    where = tuple(
        f"{short_title(c.group.first.run.variant)} on {category_title(c.group.first.key)} ({points(c.test.difference)} "
        "points)"
        for c in helped
    )
    return Answer(len(found), len({c.group.first.key for c in found}), len(helped), harmed, where)


def all_contrasts(found: Iterable[Measured], with_left_at_one: bool = False) -> list[Contrast]:
    """Of all runs but those that are best on test; with_left_at_one as of `contrasts`."""
    return contrasts(grouped(without_best_on_test(found)), with_left_at_one=with_left_at_one)


# -- by recipe


def mean_difference(found: Sequence[Contrast]) -> float:
    return float(np.mean([c.test.difference for c in found]))


def means_text(found: Sequence[Contrast]) -> str:
    """The mean of each kind."""
    by_kind = {kind: [c for c in found if kind_of(c) == kind] for kind in KINDS}
    return " ".join(_mean_text(KINDS[kind], some) for kind, some in by_kind.items() if some)


def _mean_text(what: str, found: Sequence[Contrast]) -> str:
    one = answer(found)
    n = counted(len(found), "comparison")
    return (
        f"{what}, AUROC changes by {points(mean_difference(found))} points on average over {n}: {one.helped} better, "
        f"{one.harmed} worse, {one.inconclusive} inconclusive."
    )


def by_recipe(found: Sequence[Contrast]) -> Table:
    """A row per training and placement of the paper's blocks, with the mean over the categories; the default first."""
    found = [c for c in found if kind_of(c) != "other"]
    rows: dict[str, list[Contrast]] = {}
    for c in sorted(found, key=lambda c: list(KINDS).index(kind_of(c))):
        rows.setdefault(training_text(c.group.first), []).append(c)
    variants = list(dict.fromkeys(c.group.first.run.variant for c in found))
    columns = [Column("Attention"), Column("Comparisons", number=True)]
    columns += [Column(f"{short_title(v)}: mean Δ, points", points, number=True) for v in variants]
    columns += [Column(title, number=True) for title in ("better", "worse", "inconclusive")]
    body = []
    for title, some in rows.items():
        one, by_variant = answer(some), {v: [c for c in some if c.group.first.run.variant == v] for v in variants}
        means = [mean_difference(of_one) if of_one else None for of_one in by_variant.values()]
        body.append([title, len(some), *means, one.helped, one.harmed, one.inconclusive])
    return Table(columns, body)


def by_category(found: Sequence[Contrast]) -> Table:
    """A row per block and training, a column per category: gates that were always kept, the paper's blocks among them,
    so that blocks can be compared. Empty where no other block than the paper's was measured."""
    kept = [c for c in found if _shows_the_block(c)]
    keys = list(dict.fromkeys(c.group.first.key for c in kept))
    rows: dict[tuple[str, str], dict[str, Contrast]] = {}
    for c in sorted(kept, key=_block_and_training):
        rows.setdefault((c.group.first.run.variant, training_text(c.group.first)), {})[c.group.first.key] = c
    columns = [Column("Attention", short_title), Column("Training")]
    columns += [Column(category_title(key), _change_and_seeds, number=True) for key in keys]
    others = any(kind_of(c) == "other" for c in kept)
    body = [[*row, *(of.get(key) for key in keys)] for row, of in rows.items()]
    return Table(columns, body if others else [])


def by_defect(found: Sequence[Contrast]) -> Table:
    """A row per kind of defect of categories that are not drawn, a column per block: change of AUROC in points, mean
    over the seeds. Of the default training, weights that are measured, and what has nothing to train; always kept."""
    trainings = tuple(f"{training}, {ALWAYS_KEPT}" for training in (AttentionConfig().training, MEASURED, FIXED))
    real = [c for c in found if not c.group.first.key.startswith("sample/")]
    kept = [c for c in real if _shows_the_block(c) and c.group.first.run.attention_training in trainings]
    variants = sorted({c.group.first.run.variant for c in kept}, key=list(VARIANT_TITLES).index)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    counts: dict[tuple[str, str], int] = {}
    for c in kept:
        first = c.group.first
        for kind in first.auroc_by_defect:
            rows.setdefault((first.key, kind), {})[first.run.variant] = _change_of_defect(c, kind)
            counts[first.key, kind] = int((first.scores["defect"] == kind).sum())
    columns = [Column("Category", category_title), Column("Defect"), Column("Images", number=True)]
    columns += [Column(f"{short_title(v)}: Δ, points", points, number=True) for v in variants]
    body = [[*row, counts[row], *(of.get(v) for v in variants)] for row, of in sorted(rows.items())]
    return Table(columns, body)


def _change_of_defect(c: Contrast, kind: str) -> float:
    """Mean over the seeds of AUROC minus DifferNet's, of one kind of defect against all normal images."""
    changes = []
    for m in c.group.runs:
        if m.base is not None:
            chosen = (m.labels == 0) | (m.scores["defect"] == kind)
            changes.append(m.auroc_by_defect[kind] - auroc(m.labels[chosen], m.base["score"][chosen]))
    return float(np.mean(changes))


def _shows_the_block(c: Contrast) -> bool:
    """Whether gates are as trained on synthetic defects or measured, whatever they do; default places and width."""
    run = c.group.first.run
    return run.backbone == "imagenet" and not run.blocks and run.attention_training in GATES_AS_TRAINED


def _block_and_training(c: Contrast) -> tuple[int, int]:
    run = c.group.first.run
    return list(VARIANT_TITLES).index(run.variant), GATES_AS_TRAINED.index(run.attention_training)


def _change_and_seeds(c: Contrast | None) -> str:
    """`+4.0 (3 seeds)`"""
    return f"{points(c.test.difference)} ({counted(len(c.group.runs), 'seed')})" if c else ""


# -- in a paragraph


def left_at_one_text(found: Iterable[Measured]) -> str:
    """In how many runs training left the gates at 1; empty where in none."""
    trained = [m for m in found if m.run.attention_training and m.run.variant in VARIANT_TITLES]
    left = sum(not m.gates.kept for m in trained)
    if not left:
        return ""
    return (
        f"In {left} of {len(trained)} runs the gates were left at 1, because they did not help to detect synthetic "
        "defects in held-out normal images. Such a run is DifferNet; where this holds for all its seeds, it is not "
        "compared."
    )


def counting_text(found: Iterable[Measured]) -> str:
    """The means by recipe, when a difference counts, and how many runs have no attention after all."""
    found = without_best_on_test(found)
    rule = (
        f"A difference counts if p < {SIGNIFICANT} after Holm's correction for the number of tests and, with several "
        "seeds, the interval over seeds excludes 0; all others are inconclusive."
    )
    return " ".join(filter(None, (means_text(all_contrasts(found)), rule, left_at_one_text(found))))


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


def stated_gains(published: pd.DataFrame) -> tuple[str, dict[str, float]]:
    """The source that states the averages of both DifferNet and AttentDifferNet for the most data sets, and the gain
    in each; empty where none does."""
    averages: dict[str, dict[str, dict[str, float]]] = {}  # by source, data set and method
    for row in published[published["category"] == "average"].to_dict("records"):
        averages.setdefault(row["source"], {}).setdefault(row["dataset"], {})[row["method"]] = row["auroc"]
    gains = {
        source: {
            dataset: area["AttentDifferNet"] - area["DifferNet"]
            for dataset, area in by_dataset.items()
            if {"AttentDifferNet", "DifferNet"} <= set(area)
        }
        for source, by_dataset in averages.items()
    }
    source = max(gains, key=lambda source: len(gains[source]), default="")
    return source, gains.get(source, {})


def claim_text(found: Sequence[Contrast], published: pd.DataFrame) -> str:
    """What the authors state that attention gains, and how many comparisons here reach it; empty without either."""
    source, gains = stated_gains(published)
    if not found or not gains:
        return ""
    claim = float(np.mean(list(gains.values())))
    stated = ", ".join(f"{dataset_title(name)} {points(gain)}" for name, gain in gains.items())
    below = sum(c.test.high < claim for c in found)
    reached = [c.real for c in found if c.test.difference >= claim]
    no_room = sum(c.test.auroc_b > 1 - claim for c in found)
    return (
        f"The authors state {100 * claim:+.2f} points on average over {counted(len(gains), 'data set')} ({stated}; "
        f"{source}), with their own weights, views and choice of epochs. Here {len(reached)} of "
        f"{counted(len(found), 'comparison')} reach that, {sum(reached)} of them beyond chance. In {below} the whole "
        f"interval over test images lies below it. In {no_room} DifferNet is above {percent(1 - claim)} %, so that "
        "less than that is left to gain."
    )


def published_text(published: pd.DataFrame) -> str:
    """`DifferNet 97.7 % (DifferNet paper)`, all in a row."""
    rows = published.to_dict("records")
    return "; ".join(f"{row['method']} {percent(row['auroc'])} % ({row['source']})" for row in rows)
