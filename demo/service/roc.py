"""The ROC page of a category: curves, every run, and published numbers, from the committed score files."""

from dataclasses import dataclass, field

import pandas as pd

from attentdiffernet.figures.curves import Curve
from attentdiffernet.figures.screen import roc_figure
from attentdiffernet.study.comparison import Group, Measured, grouped, training_once
from attentdiffernet.study.formats import difference_text, interval_text
from attentdiffernet.study.usual import usual_groups

from .. import shipped


@dataclass(frozen=True)
class RocRow:
    """One run of a category. difference: AUROC minus DifferNet's on the same images, with its p value (DeLong)."""

    title: str
    run: str
    backbone: str
    auroc: str
    difference: str
    n_normal: int
    n_anomalous: int
    detail: str


@dataclass(frozen=True)
class RocPage:
    """The usual methods of a category (`study.usual`), seeds together, and the curve of the first seed of each;
    training: how the attention of all of these was trained, where that is one way. All runs, those first; published
    numbers, never mixed with the measured ones."""

    key: str
    groups: tuple[Group, ...]
    curves: tuple[Curve, ...]
    training: str
    rows: tuple[RocRow, ...]
    published: pd.DataFrame = field(compare=False)

    @property
    def seeds(self) -> str:
        """What curves and table differ in, where runs were repeated with several seeds; else empty."""
        if all(len(group.runs) == 1 for group in self.groups):
            return ""
        return (
            "Each curve is of one training, the first seed; the table has the mean of all seeds, and differences over "
            "those that DifferNet has, too."
        )

    def figure(self) -> object:
        """The Plotly figure of the curves."""
        return roc_figure(self.curves, band=True)


def roc_page(key: str) -> RocPage:
    """The measured runs of `DATASET/CATEGORY`. Raises ResultsError where there are none."""
    found = shipped.of_category(key)
    usual = [m for group in usual_groups(found) for m in group.runs]
    rows = tuple(map(_row, [*usual, *(m for m in found if m not in usual)]))
    short, training = training_once(usual)
    groups = tuple(grouped(short))
    return RocPage(key, groups, tuple(map(_curve, groups)), training, rows, shipped.published_of(key))


def _curve(group: Group) -> Curve:
    m = group.first
    seed = f", seed {m.run.seed}" if len(group.runs) > 1 else ""
    title = f"{m.title}, {m.run.backbone}{seed}"
    return Curve(title, m.run.variant, m.labels, m.values)


def _row(m: Measured) -> RocRow:
    return RocRow(
        title=m.title,
        run=m.run.run,
        backbone=m.run.backbone,
        auroc=interval_text(m.interval),
        difference=difference_text(m.delong),
        n_normal=m.interval.n_normal,
        n_anomalous=m.interval.n_anomalous,
        detail=m.detail,
    )
