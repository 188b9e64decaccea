"""Tables: values with a format for each column, written as Markdown, LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..datasets import dataset_title
from ..words import without_formula
from .comparison import Group, Measured, grouped
from .formats import auroc_text, mean_points_text, mean_text, p_text, points_text


def _as_it_is(value: object) -> str:
    return value if isinstance(value, str) else str(value)


@dataclass(frozen=True)
class Column:
    """text: how a value of this column is written. number: aligned to the right, where the kind of table allows it."""

    title: str
    text: Callable[[Any], str] = _as_it_is
    number: bool = False


class Strong(str):
    """A cell in bold, where the kind of table allows it."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """rows: one value per column; None is an empty cell."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]

    @property
    def cells(self) -> list[list[str]]:
        """The values as text."""
        return [
            ["" if value is None else column.text(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    def markdown(self) -> str:
        head = [column.title for column in self.columns]
        lines = [head, ["---"] * len(head), *self.cells]
        return "".join("| " + " | ".join(map(markdown_text, line)) + " |\n" for line in lines)

    def latex(self) -> str:
        """A booktabs table."""
        align = "".join("r" if column.number else "l" for column in self.columns)
        head, *body = (
            " & ".join(map(_latex, line)) for line in ([column.title for column in self.columns], *self.cells)
        )
        rows = "".join(f"{line} \\\\\n" for line in body)
        return (
            f"\\begin{{tabular}}{{{align}}}\n\\toprule\n{head} \\\\\n\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n"
        )


def markdown_text(text: str) -> str:
    """One line, also as the cell of a table. Names come from elsewhere: no HTML of theirs is shown as such."""
    plain = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.splitlines())).replace("|", "\\|")
    return f"**{plain}**" if isinstance(text, Strong) else plain


ESCAPED_IN_LATEX = {sign: "\\" + sign for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\n": " ",
    "\r": " ",
}


def _latex(text: str) -> str:
    plain = "".join(ESCAPED_IN_LATEX.get(sign, sign) for sign in text)
    plain = re.sub(r"(?<!\w)-(?=\d)", "$-$", plain).replace("< ", "$<$ ").replace("±", r"$\pm$")
    return rf"\textbf{{{plain}}}" if isinstance(text, Strong) else plain


def csv_text(frame: pd.DataFrame) -> str:
    """All digits that matter; nan is an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(frame.columns)
    for row in frame.itertuples(index=False):
        writer.writerow(["" if x != x else f"{x:.9g}" if isinstance(x, float) else _cell(x) for x in row])
    return stream.getvalue()


def _cell(value: object) -> object:
    return without_formula(value) if isinstance(value, str) else value


# -- the overview of all runs

TABLE_FORMATS = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}
OVERVIEW_COLUMNS = [
    *("dataset", "category", "variant", "backbone", "seed", "attention_training", "selection"),
    *("n_normal", "n_anomalous", "auroc", "ci_low", "ci_high"),
    *("difference", "difference_low", "difference_high", "p_delong", "p_bootstrap", "run"),
]
LATEX_NOTES = (
    "% needs \\usepackage{booktabs}; in brackets: 95 % intervals, like p after DeLong, over test images\n"
    "% ±: standard deviation over seeds, p then of their mean; n: normal + anomalous test images\n"
)


def overview_frame(found: Iterable[Measured]) -> pd.DataFrame:
    """One row per run, `OVERVIEW_COLUMNS`. Areas and differences are shares, nan where there is nothing to compare."""
    rows = []
    for m in found:
        run, i, d, b = m.run, m.interval, m.delong, m.bootstrap
        row = [run.dataset, run.category, run.variant, run.backbone, run.seed, run.attention_training, run.selection]
        row += [i.n_normal, i.n_anomalous, i.auroc, i.low, i.high]
        row += [d.difference, d.low, d.high, d.p_value] if d else [np.nan] * 4
        rows.append([*row, b.p_value if b else np.nan, run.run])
    return pd.DataFrame(rows, columns=OVERVIEW_COLUMNS)


def overview_table(found: Iterable[Measured]) -> Table:
    """One row per group of seeds, in percent: mean and standard deviation, or the interval of a single seed."""
    columns = [
        Column("Data set", dataset_title),
        Column("Category"),
        Column("Variant"),
        Column("Backbone"),
        Column("Seeds", number=True),
        Column("AUROC, %", group_auroc_text, number=True),
        Column("Against DifferNet, points", group_points_text, number=True),
        Column("p", p_text, number=True),
        Column("n", number=True),
    ]
    rows = []
    for group in grouped(found):
        m, p_value = group.first, group.test.p_value if group.test else None
        where = [m.run.dataset, m.run.category.replace("_", " "), m.title, m.run.backbone]
        counts = f"{m.interval.n_normal} + {m.interval.n_anomalous}"
        rows.append([*where, len(group.runs), group, group, p_value, counts])
    return Table(columns, rows)


def overview_text(found: Iterable[Measured], kind: str) -> str:
    """The overview as one of `TABLE_FORMATS`: CSV has a row per run, the others one per group of seeds."""
    found = list(found)
    if kind == "csv":
        return csv_text(overview_frame(found))
    if kind == "markdown":
        return overview_table(found).markdown()
    if kind == "latex":
        return LATEX_NOTES + overview_table(found).latex()
    raise ValueError(f"kind must be one of {', '.join(TABLE_FORMATS)}, got {kind!r}")


def group_auroc_text(group: Group) -> str:
    """`97.3 ± 0.4`, or `97.3 (95.1 to 98.6)` of a single seed"""
    return mean_text(group.aurocs) if len(group.runs) > 1 else auroc_text(group.first.interval)


def group_points_text(group: Group) -> str:
    """`+1.2 ± 0.4`, or `+1.2 (-0.3 to +2.7)` of a single seed; empty where nothing was compared"""
    if group.test is None:
        return ""
    return mean_points_text(group.differences) if len(group.runs) > 1 else points_text(group.test)
