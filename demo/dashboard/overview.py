"""Overview: does attention help? The usual methods of every category; published numbers under their own name."""

import streamlit as st

from attentdiffernet.datasets import dataset_title
from attentdiffernet.study.answer import all_contrasts, answer, counting_text
from attentdiffernet.study.comparison import Measured, grouped, without_best_on_test
from attentdiffernet.study.methods import attentive_text, method_contrasts
from attentdiffernet.study.usual import usual_groups
from demo import shipped
from demo.dashboard import address, widgets
from demo.dashboard.differences import differences
from demo.dashboard.forest import SEVERAL_SEEDS, forest

WEIGHTED = (
    "Weighted PatchCore is another method: it compares places instead of whole images, and counts a distance less "
    "where normal images differ."
)


def summary(everything: list[Measured]) -> None:
    """The answer in a sentence and in a picture."""
    tested = all_contrasts(everything)
    fair = grouped(without_best_on_test(everything))
    others, attentive = method_contrasts(fair), attentive_text(fair)
    if tested:
        st.markdown(f"**{answer(tested)}**")
    if not tested and not others:
        return
    st.header("Difference to DifferNet", anchor=False)
    widgets.small(
        "Points of AUROC on the same test images, with 95 % intervals over these images. Right of the line is better. "
        "A filled dot counts: beyond chance after correction, and for other seeds as well."
    )
    real = {c.group.first.run.run for c in (*tested, *others) if c.real}
    st.html(differences(usual_groups(everything), real))
    if attentive:
        st.markdown(f"{WEIGHTED} {attentive}")
    with st.expander("How this is counted"):
        st.markdown(counting_text(everything))
        st.markdown("Other trainings and places of the blocks are on the page Ablations.")


# -- every method


def every_method(everything: list[Measured]) -> None:
    """AUROC of the usual methods, of all data sets or of the one chosen."""
    datasets = {"all": "All"} | {m.run.dataset: dataset_title(m.run.dataset) for m in everything}
    left, right = st.columns([2, 5], vertical_alignment="bottom")
    with left:
        dataset = address.choice("Data set", datasets, "dataset")
    with right:
        beside = address.switch("Published numbers beside them", "published", False)
    groups = [group for group in usual_groups(everything) if dataset in ("all", group.first.run.dataset)]
    st.html(forest(groups, shipped.published_of if beside else None, recipes=False))
    if any(len(group.runs) > 1 for group in groups):
        st.caption(SEVERAL_SEEDS)


def published_numbers() -> None:
    published = shipped.published()
    if published.empty:
        st.markdown("These results name no published numbers.")
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
    widgets.small(
        "Copied from the sources named; “recalled” means from memory of the paper, not checked again. Backbones, "
        "splits, views and the choice of epochs differ from the runs above."
    )


# -- the page


widgets.head(
    "Does attention help?",
    "Measured here, from the score files in <code>results/</code>. SE and CBAM keep their gates even where they do not "
    "help; by default they are then left out. You have a photograph? <a href='compare'>Compare the detectors on it</a>"
    ", or <a href='own'>train on your own parts</a>.",
)
everything = list(shipped.measured())
if not everything:
    widgets.empty("No results yet.", widgets.HOW_TO_MEASURE)
    st.stop()
summary(everything)
with widgets.on_demand("AUROC of every method", address.asked_for("dataset", "published")) as is_open:
    if is_open:
        every_method(everything)
with widgets.on_demand("Published elsewhere") as is_open:
    if is_open:
        published_numbers()
