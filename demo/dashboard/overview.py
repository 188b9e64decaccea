"""Overview: every run with its interval and its paired test; published numbers beside them, under their own name."""

from typing import Any

import numpy as np
import streamlit as st

from attentdiffernet.datasets import category_title, dataset_title
from attentdiffernet.study.answer import summary_text
from attentdiffernet.study.comparison import DEFINITIONS, Group, Measured, grouped
from attentdiffernet.study.tables import TABLE_FORMATS, overview_frame, overview_text
from demo import shipped
from demo.dashboard import address, widgets
from demo.dashboard.forest import forest

MOST_ROWS, ROW_PX = 24, 35  # of the table; a longer one scrolls
ORDERS = {"category": "Data set", "auroc": "AUROC", "difference": "Difference to DifferNet"}
PERCENT_COLUMNS = ["auroc", "ci_low", "ci_high", "difference", "difference_low", "difference_high"]
SUFFIXES = {"csv": "csv", "markdown": "md", "latex": "tex"}


def choose_groups(everything: list[Measured]) -> tuple[str, list[Group]]:
    """(data set or `all`, its runs in the order chosen)."""
    left, right, _ = st.columns([2, 2, 3])
    datasets = {"all": "All"} | {m.run.dataset: dataset_title(m.run.dataset) for m in everything}
    with left:
        dataset = address.choice("Data set", datasets, "dataset")
    with right:
        order = address.choice("Order", ORDERS, "order")
    return dataset, arranged(grouped(m for m in everything if dataset in ("all", m.run.dataset)), order)


def arranged(groups: list[Group], order: str) -> list[Group]:
    """In this order; groups that are best on test come last in every data set."""
    if order == "auroc":
        return sorted(groups, key=lambda group: (group.first.best_on_test, -group.auroc))
    if order == "difference":
        return sorted(
            groups, key=lambda group: (group.first.best_on_test, np.isnan(group.difference), -group.difference)
        )
    return groups


def captions(groups: list[Group]) -> None:
    if any(group.first.best_on_test for group in groups):
        st.caption(
            "Best on test: the epoch was chosen on the test images, as DifferNet's own code does. This is optimistic. "
            "It is shown for comparison with published numbers only, and does not count in the summary above."
        )
    if any(len(group.runs) > 1 for group in groups):
        st.caption(
            "Runs with several seeds: mean ± standard deviation over the seeds, and DeLong's test of the mean on the "
            "same test images. Small strokes are the seeds, bars are their intervals over test images. Open a row to "
            "see each seed."
        )


# -- the table of measured runs


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


# -- published numbers


def published_numbers(dataset: str) -> None:
    published = shipped.published()
    if dataset != "all":
        published = published[published["dataset"] == dataset]
    if published.empty:
        st.markdown("We know of no published number for this data set.")
        return
    st.dataframe(
        published.assign(auroc=100 * published["auroc"], dataset=published["dataset"].map(dataset_title)),
        hide_index=True,
        height=320 if len(published) > 8 else "content",
        column_config={
            "dataset": "Data set",
            "category": "Category",
            "method": "Method",
            "auroc": st.column_config.NumberColumn("AUROC %", format="%.1f", help="As printed in the source."),
            "source": st.column_config.TextColumn("Source", width="large"),
        },
        alt="AUROC values from papers, with their sources",
    )
    small(
        "Copied from the sources named; “recalled” means from memory of the paper, not checked again. Backbones, "
        "splits, views and the choice of epochs differ from the runs above."
    )


def small(sentence: str) -> None:
    st.markdown(f"<span class='small'>{sentence}</span>", unsafe_allow_html=True)


# -- the page


widgets.head(
    "Does attention help?",
    "Area under the ROC curve (AUROC) of every run, with 95 % intervals. Bars and dots are measured here, from the "
    "score files in <code>results/</code>. Hollow diamonds are numbers from papers; they are never averaged or "
    "compared with the measured ones.",
)
everything = list(shipped.measured())
if not everything:
    widgets.empty("No results yet.", widgets.HOW_TO_MEASURE)
    st.stop()
dataset, groups = choose_groups(everything)
found = [m for group in groups for m in group.runs]
if summary := summary_text(found):
    st.markdown(summary)
st.html(forest(groups, shipped.published_of))
captions(groups)
st.subheader("Measured here", anchor=False)
small("Click a column's head to sort. Hover over it to see what it means.")
table(found)
with st.expander("Copy as CSV, Markdown or LaTeX"):
    copies(found)
st.subheader("Published elsewhere", anchor=False)
published_numbers(dataset)
