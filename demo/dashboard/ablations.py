"""Ablations: every run of a category, with other trainings and places of attention, and those best on test."""

from typing import Any

import numpy as np
import streamlit as st

from attentdiffernet.datasets import category_title
from attentdiffernet.study.across import averages, averages_table, averages_text, cautions_text
from attentdiffernet.study.answer import all_contrasts, by_category, by_recipe
from attentdiffernet.study.comparison import DEFINITIONS, Group, Measured, grouped, without_best_on_test
from attentdiffernet.study.tables import TABLE_FORMATS, Table, overview_frame, overview_text
from demo import shipped
from demo.dashboard import address, widgets
from demo.dashboard.forest import SEVERAL_SEEDS, forest
from demo.markup import text

ALL = "all"
MOST_ROWS, ROW_PX = 24, 35  # of the table; a longer one scrolls
ORDERS = {"category": "Data set", "auroc": "AUROC", "difference": "Difference to DifferNet"}
PERCENT_COLUMNS = ["auroc", "ci_low", "ci_high", "difference", "difference_low", "difference_high"]
SUFFIXES = {"csv": "csv", "markdown": "md", "latex": "tex"}
BEST_ON_TEST = (
    "The best epoch was chosen on the test images, as DifferNet's own code does. This is optimistic. Shown for "
    "comparison with published numbers only."
)


def choose_groups(everything: list[Measured]) -> list[Group]:
    """The runs of the category chosen, or all, in the order chosen."""
    left, middle, right = st.columns([3, 2, 3], vertical_alignment="bottom")
    keys = dict.fromkeys(m.key for m in everything)
    with left:
        key = address.choice("Category", {key: category_title(key) for key in keys} | {ALL: "All"}, "category")
    with middle:
        order = address.choice("Order", ORDERS, "order")
    here = [m for m in everything if key in (ALL, m.key)]
    fair = without_best_on_test(here)
    with right:
        label = "Best epoch chosen on test images"
        if len(fair) < len(here) and not address.switch(label, "best_on_test", False, help=BEST_ON_TEST):
            here = fair
    return arranged(grouped(here), order)


def arranged(groups: list[Group], order: str) -> list[Group]:
    """In this order; groups that are best on test come last in every data set."""
    if order == "auroc":
        return sorted(groups, key=lambda group: (group.first.best_on_test, -group.auroc))
    if order == "difference":
        return sorted(
            groups, key=lambda group: (group.first.best_on_test, np.isnan(group.difference), -group.difference)
        )
    return groups


def recipes(everything: list[Measured]) -> bool:
    """What each training and placement of the blocks changes, on average over the categories; whether there are any."""
    if not (found := all_contrasts(everything)):
        return False
    st.header("Trainings and places of attention", anchor=False)
    widgets.small("Mean difference to DifferNet over all categories, in points of AUROC.")
    as_table(by_recipe(found), "Trainings and places")
    if mean := averages(all_contrasts(everything, with_left_at_one=True)):
        st.header("Averaged over categories", anchor=False)
        st.markdown(f"{averages_text(mean)} {cautions_text(mean)}")
        as_table(averages_table(mean), "Averaged over categories")
    if (blocks := by_category(found)).rows:
        st.header("Other blocks", anchor=False)
        widgets.small("Difference to DifferNet in points of AUROC, by block and by what its gates were trained on.")
        as_table(blocks, "Other blocks")
    return True


def as_table(made: Table, name: str) -> None:
    cells = [[text(cell) for cell in row] for row in made.cells]
    widgets.table([text(column.title) for column in made.columns], cells, name=name)


# -- every run


def every_run(everything: list[Measured]) -> list[Measured]:
    """Intervals of the runs chosen, which are returned."""
    groups = choose_groups(everything)
    found = [m for group in groups for m in group.runs]
    st.html(forest(groups))
    if any(m.best_on_test for m in found):
        st.caption(f"Best epoch chosen on test images: {BEST_ON_TEST}")
    if any(len(group.runs) > 1 for group in groups):
        st.caption(SEVERAL_SEEDS)
    return found


def table(found: list[Measured]) -> None:
    frame = overview_frame(found)
    frame[PERCENT_COLUMNS] = (100 * frame[PERCENT_COLUMNS]).round(1)  # as everywhere else on the page
    frame["category"] = [category_title(m.key) for m in found]
    frame["variant"] = [m.title for m in found]
    frame["detail"] = [m.detail for m in found]
    hidden = {"dataset", "run", "attention_training", "selection"}
    hidden |= {"seed"} if frame["seed"].nunique() == 1 else set()
    st.dataframe(
        frame,
        height="content" if len(frame) <= MOST_ROWS else ROW_PX * (MOST_ROWS + 1),
        hide_index=True,
        placeholder="–",
        column_order=[str(name) for name in frame if name not in hidden],
        column_config=columns(wide=any(str(m.recipe) for m in found)),
        alt="Measured AUROC of every run with interval, difference to DifferNet and p values",
    )


def columns(wide: bool) -> dict[str, Any]:
    """Titles and explanations of the table's columns. wide: whether titles of variants include a recipe."""
    number, words = st.column_config.NumberColumn, st.column_config.TextColumn
    difference = "AUROC minus DifferNet's with the same backbone and seed, on the same images, in points."
    bootstrap = "Paired stratified bootstrap, 2,000 resamples, without a normal approximation. Its smallest p is 0.001."
    return {
        "category": words("Category", pinned=True),
        "variant": words("Variant", width=300 if wide else None, help="And what distinguishes the run."),
        "backbone": words("Backbone", help="Where AlexNet's weights come from."),
        "seed": number("Seed", help="Of the flow's initialisation, and of the gates' if there are any."),
        "n_normal": number("Normal", help="Normal test images."),
        "n_anomalous": number("Anomalous", help="Anomalous test images."),
        "auroc": number("AUROC %", format="%.1f", help=f"From the run's score file. {DEFINITIONS['AUROC']}"),
        "ci_low": number("from", format="%.1f", help="Lower end of the 95 % interval."),
        "ci_high": number("to", format="%.1f", help="Upper end of the 95 % interval."),
        "difference": number("Δ points", format="%+.1f", help=difference),
        "difference_low": number("Δ from", format="%+.1f", help="Lower end of its 95 % interval (DeLong)."),
        "difference_high": number("Δ to", format="%+.1f", help="Upper end of its 95 % interval (DeLong)."),
        "p_delong": number("p, DeLong", format="%.2g", help="Paired test of no difference, DeLong et al. 1988."),
        "p_bootstrap": number("p, bootstrap", format="%.2g", help=bootstrap),
        "detail": words("Run", help="Epochs, how they were chosen, views, seed, attention."),
    }


def copies(found: list[Measured]) -> None:
    kind = address.choice("Copy the table as", TABLE_FORMATS, "format", segments=True)
    copy = overview_text(found, kind)
    st.code(copy, language="text" if kind == "csv" else kind, height=220)
    file = f"attentdiffernet-auroc.{SUFFIXES[kind]}"
    st.download_button("Download", copy, file, icon=":material/download:", on_click="ignore")


# -- the page


widgets.head(
    "What do other trainings and placements change?",
    "How the area under the ROC curve (AUROC) changes with the training, the place and the kind of attention. All runs "
    "are measured here, from the score files in <code>results/</code>.",
)
everything = list(shipped.measured())
if not everything:
    widgets.empty("No results yet.", widgets.HOW_TO_MEASURE)
    st.stop()
opened = not recipes(everything) or address.asked_for("category", "order", "best_on_test")
with widgets.on_demand("Every run", opened) as runs_open:
    found = every_run(everything) if runs_open else []
if runs_open:
    with widgets.on_demand("As a table, to sort and to copy") as is_open:
        if is_open:
            widgets.small("Click a column's head to sort. Hover over it to see what it means.")
            table(found)
            copies(found)
