"""Overview: every run with its interval and its paired test; published numbers beside them, under their own name."""

import numpy as np
import pandas as pd
import streamlit as st

from attentdiffernet.datasets import category_title, dataset_title
from attentdiffernet.study.answer import summary_text
from attentdiffernet.study.comparison import DEFINITIONS, Group, Measured, grouped
from attentdiffernet.study.formats import difference_text, interval_text
from attentdiffernet.study.tables import TABLE_FORMATS, overview_frame, overview_text
from demo import shipped
from demo.dashboard import parts

MOST_ROWS, ROW_PX = 24, 35  # of the table; a longer one scrolls in itself
ORDERS = {"category": "Data set", "auroc": "AUROC", "difference": "Difference to DifferNet"}


def forest(found: list[Group], published: pd.DataFrame) -> str:
    """Intervals on one axis, by category, as HTML that wraps on a phone; several seeds open into a row for each."""
    lowest = min([0.9, *(m.interval.low for group in found for m in group.runs), *published["auroc"]])
    low = int(np.floor(10 * lowest)) / 10
    ticks = np.arange(round(10 * low), 11) / 10
    ticks = ticks if len(ticks) < 7 else ticks[::-2][::-1]

    def left(area: float) -> str:
        return f"{100 * (area - low) / (1 - low):.2f}%"

    grid = "".join(f"<span class='grid' style='left:{left(tick)}'></span>" for tick in ticks)

    def row(runs: tuple[Measured, ...], name: str, auroc: float, value: str, difference: str, tag: str = "div") -> str:
        share = 0.55 / len(runs) ** 0.5  # intervals of several seeds lie on each other
        bars = "".join(
            f"<span class='bar' style='left:{left(m.interval.low)};width:"
            f"{100 * (m.interval.high - m.interval.low) / (1 - low):.2f}%;opacity:{share:.2f}'></span>"
            for m in runs
        )
        seeds = "".join(f"<span class='seed' style='left:{left(m.interval.auroc)}'></span>" for m in runs[1:] and runs)
        return (
            f"<{tag} class='row variant-{parts.text(runs[0].run.variant)}{' flatters' * runs[0].best_on_test}'>"
            f"<span class='name'>{name}</span>"
            f"<span class='track'>{grid}{bars}{seeds}<span class='dot' style='left:{left(auroc)}'></span></span>"
            f"<span class='value nowrap'>{value}</span><span class='difference small'>{parts.text(difference)}</span>"
            f"</{tag}>"
        )

    def rows(group: Group) -> str:
        m = group.first
        how = ", ".join(filter(None, (m.run.backbone, str(m.recipe))))
        name = f"{parts.variant_name(m.run.variant)} <small>{parts.text(how)}</small>"
        tag = "div" if len(group.runs) == 1 else "summary"
        whole = row(group.runs, name, group.auroc, group.auroc_text, group.difference_text, tag)
        if tag == "div":
            return whole
        each = (
            row((m,), f"seed {m.run.seed}", m.interval.auroc, interval_text(m.interval), difference_text(m.delong))
            for m in group.runs
        )
        return f"<details>{whole}{''.join(each)}</details>"

    sections = []
    for key in dict.fromkeys(group.first.key for group in found):
        lines = [rows(group) for group in found if group.first.key == key]
        for _, category, method, auroc, source in shipped.published_of(key).to_numpy():
            kind = "published, average" if category == "average" else "published"
            lines.append(
                f"<div class='row published'><span class='name'>{parts.text(method)} <small>{kind}</small></span>"
                f"<span class='track'>{grid}<span class='diamond' style='left:{left(auroc)}'></span></span>"
                f"<span class='value nowrap'>{100 * auroc:.1f} %</span>"
                f"<span class='difference small' title='{parts.text(source)}'>{parts.text(source)}</span></div>"
            )
        sections.append(f"<section><h3>{parts.text(category_title(key))}</h3>{''.join(lines)}</section>")
    scale = "".join(f"<span style='left:{left(tick)}'>{100 * tick:.0f} %</span>" for tick in ticks)
    axis = f"<div class='axis'><span></span><span class='track'>{scale}</span><span></span><span></span></div>"
    return f"<div class='forest'>{axis}{''.join(sections)}{axis}</div>"


def table(found: list[Measured]) -> None:
    frame = overview_frame(found)
    for column in ("auroc", "ci_low", "ci_high", "difference", "difference_low", "difference_high"):
        frame[column] = (100 * frame[column]).round(1)  # as everywhere else on the page
    frame["category"] = [category_title(m.key) for m in found]
    frame["variant"] = [m.title for m in found]
    frame["detail"] = [m.detail for m in found]
    hidden = {"dataset", "run", "attention_training", "selection"} | (
        {"seed"} if frame["seed"].nunique() == 1 else set()
    )
    percent = "AUROC in percent, computed from the committed score file. "
    number = st.column_config.NumberColumn
    st.dataframe(
        frame,
        height="content" if len(frame) <= MOST_ROWS else ROW_PX * (MOST_ROWS + 1),
        hide_index=True,
        placeholder="–",
        column_order=[str(name) for name in frame if name not in hidden],
        column_config={
            "category": st.column_config.TextColumn("Category", pinned=True),
            "variant": st.column_config.TextColumn(
                "Variant", width=300 if any(str(m.recipe) for m in found) else None, help="And what sets the run apart."
            ),
            "backbone": st.column_config.TextColumn("Backbone", help="Where AlexNet's weights come from."),
            "seed": number("Seed", help="Of the flow's start and of the gates' where there are any."),
            "n_normal": number("Normal", help="Normal test images."),
            "n_anomalous": number("Anomalous", help="Anomalous test images."),
            "auroc": number("AUROC %", format="%.1f", help=percent + DEFINITIONS["AUROC"]),
            "ci_low": number("from", format="%.1f", help="Lower end of the 95 % interval."),
            "ci_high": number("to", format="%.1f", help="Upper end of the 95 % interval."),
            "difference": number(
                "Δ points",
                format="%+.1f",
                help="AUROC minus DifferNet's with the same backbone and seed, on the same images, in points.",
            ),
            "difference_low": number("Δ from", format="%+.1f", help="Lower end of its 95 % interval (DeLong)."),
            "difference_high": number("Δ to", format="%+.1f", help="Upper end of its 95 % interval (DeLong)."),
            "p_delong": number("p, DeLong", format="%.2g", help="Paired test of no difference, DeLong et al. 1988."),
            "p_bootstrap": number(
                "p, bootstrap",
                format="%.2g",
                help="Paired stratified bootstrap, 2,000 resamples: no normal curve assumed. 0.001 is the least that "
                "they can show.",
            ),
            "detail": st.column_config.TextColumn("Run", help="Epochs, how they were chosen, views, seed, attention."),
        },
        alt="Measured AUROC of every run with interval, difference to DifferNet and p values",
    )


def arranged(found: list[Group], order: str) -> list[Group]:
    """Groups that are the best on test come behind the others of their data set in any order."""
    if order == "auroc":
        return sorted(found, key=lambda group: (group.first.best_on_test, -group.auroc))
    if order == "difference":
        return sorted(
            found, key=lambda group: (group.first.best_on_test, np.isnan(group.difference), -group.difference)
        )
    return found


def copies(found: list[Measured]) -> None:
    kind = parts.choice("Copy the table as", TABLE_FORMATS, "format", segments=True)
    copy = overview_text(found, kind)
    language = {"csv": "text", "markdown": "markdown", "latex": "latex"}[kind]
    st.code(copy, language=language, height=220)
    suffix = {"csv": "csv", "markdown": "md", "latex": "tex"}[kind]
    st.download_button(
        "Download", copy, f"attentdiffernet-auroc.{suffix}", icon=":material/download:", on_click="ignore"
    )


parts.head(
    "Does attention help?",
    "Area under the ROC curve (AUROC) of every run, from the committed score files, with 95 % intervals. Bars and dots "
    "are measured here; hollow diamonds are what papers state, and are never averaged or compared with the measured "
    "ones.",
)
everything = list(shipped.measured())
if not everything:
    parts.empty("No results yet.", parts.HOW_TO_MEASURE)
    st.stop()

left, right, _ = st.columns([2, 2, 3])
datasets = {"all": "All"} | {m.run.dataset: dataset_title(m.run.dataset) for m in everything}
with left:
    dataset = parts.choice("Data set", datasets, "dataset")
with right:
    order = parts.choice("Order", ORDERS, "order")
groups = arranged(grouped(m for m in everything if dataset in ("all", m.run.dataset)), order)
found = [m for group in groups for m in group.runs]
if said := summary_text(found):
    st.markdown(said)
here = pd.concat([shipped.published_of(key) for key in dict.fromkeys(m.key for m in found)])
st.html(forest(groups, here))
if any(m.best_on_test for m in found):
    st.caption(
        "Best on test: as DifferNet's own code reports, the epoch was chosen on the test images. It flatters, stands "
        "here for comparison with published numbers only, and has no say in the sentence above."
    )
if len(found) > len(groups):
    st.caption(
        "Where a run was repeated with other seeds: mean ± standard deviation over them, and DeLong's test of the mean "
        "on the same test images; small strokes are the seeds, bars their intervals over test images. Open a row to "
        "see each."
    )

st.subheader("Measured here", anchor=False)
st.markdown(
    "<span class='small'>Click a column's head to sort, hover over it for what it means.</span>", unsafe_allow_html=True
)
table(found)
with st.expander("Copy as CSV, Markdown or LaTeX"):
    copies(found)

st.subheader("Published elsewhere", anchor=False)
published = shipped.published()
if dataset != "all":
    published = published[published["dataset"] == dataset]
if published.empty:
    st.markdown("No published number is known to us for this data set.")
else:
    shown = published.assign(auroc=100 * published["auroc"], dataset=published["dataset"].map(dataset_title))
    st.dataframe(
        shown,
        hide_index=True,
        height=320 if len(shown) > 8 else "content",
        column_config={
            "dataset": "Data set",
            "category": "Category",
            "method": "Method",
            "auroc": st.column_config.NumberColumn("AUROC %", format="%.1f", help="As printed in the source."),
            "source": st.column_config.TextColumn("Source", width="large"),
        },
        alt="AUROC values that papers state, with their sources",
    )
    st.markdown(
        "<span class='small'>Copied from the sources named; “recalled” means from memory of the paper, not checked "
        "again. Backbones, splits, views and the choice of epochs differ from the runs above.</span>",
        unsafe_allow_html=True,
    )
