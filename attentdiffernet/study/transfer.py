"""Whether what attention gains on synthetic defects, by which it is chosen, carries over to real ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..datasets import category_title
from ..words import ALWAYS_KEPT, short_title
from .comparison import Contrast
from .formats import counted, points
from .tables import Column, Table

# Trials of benchmarks/attention_trials.py that became a variant, by its name in runs.csv.
VARIANT_OF = {
    "blocks: SimAM": "simam",
    "rarity 1": "rarity",
    "surprise 1": "surprise",
    "PatchCore, over mean and two deviations there": "patchcore-places",
}


def transfers(trials: pd.DataFrame, found: Sequence[Contrast]) -> pd.DataFrame:
    """A row per variant and category that has both: the change of AUROC by kind of synthetic defect, and `real`, that
    on test images. trials: attention_trials.csv. found: comparisons on test images."""
    trials = trials.assign(variant=trials["trial"].map(VARIANT_OF)).dropna(subset="variant")
    synthetic = trials.pivot_table("difference", ["variant", "category"], "defects", sort=False)
    runs = [(c.group.first, c.test.difference) for c in found]
    runs.sort(key=lambda of: ALWAYS_KEPT in of[0].run.attention_training)  # where both were measured, these count
    real = {(m.run.variant, m.key): difference for m, difference in runs}
    known = [key for key in synthetic.index if key in real]
    return synthetic.loc[known].assign(real=[real[key] for key in known]).reset_index()


def transfer_table(changes: pd.DataFrame) -> Table:
    kinds = list(changes.columns.drop(["variant", "category", "real"]))
    columns = [Column("Attention", short_title), Column("Category", category_title)]
    columns += [Column(kind, points, number=True) for kind in kinds]
    columns.append(Column("test images", points, number=True))
    return Table(columns, changes[["variant", "category", *kinds, "real"]].to_numpy().tolist())


def transfer_text(changes: pd.DataFrame) -> str:
    """For each variant, what it gains on average on synthetic and on real defects, and how often both go one way."""
    kinds = changes.columns.drop(["variant", "category", "real"])
    sentences = []
    for variant, rows in changes.groupby("variant", sort=False):
        synthetic = rows[kinds].mean(axis=1)
        title = short_title(str(variant))
        alike = int((np.sign(synthetic) == np.sign(rows["real"])).sum())
        sentences.append(
            f"{title[0].upper()}{title[1:]}: {points(synthetic.mean())} points on synthetic defects and "
            f"{points(rows['real'].mean())} on test images, on average over "
            f"{counted(len(rows), 'category', 'categories')}; both go the same way in {alike}."
        )
    return " ".join(sentences)
