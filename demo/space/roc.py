"""The tab of ROC curves, drawn from the score files."""

from typing import Any

import gradio as gr

from attentdiffernet.datasets import category_title
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.study.answer import all_contrasts, answer
from attentdiffernet.study.comparison import grouped, without_best_on_test
from attentdiffernet.study.methods import attentive_text

from .. import shipped
from ..markup import alert, scrolling, text
from ..service.roc import RocPage, RocRow, roc_page
from .results import Update
from .status import seen

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
MEASURED = ("Method", "AUROC", "Against DifferNet", "Backbone")
RUNS = ("Method", "Backbone", "AUROC (95 %)", "Against DifferNet", "Images (normal + anomalous)", "Run")
PUBLISHED = ("Method", "Category", "AUROC", "Source")


class Roc:
    """The components of the tab. It is filled when it is opened, because Plotly's code is large; with the category that
    is inspected, if it was measured."""

    def __init__(self, tab: gr.Tab, inspected: gr.Dropdown) -> None:
        gr.Markdown(
            "How many defects are found for how many false alarms, at every threshold. All curves are computed from "
            "the score files in `results/`; bands and intervals are 95 %."
        )
        self.answer = gr.HTML(elem_id="answer")
        self.category = gr.Dropdown(label="Data set and category", filterable=False, elem_id="roc-category")
        with gr.Row():
            with gr.Column(min_width=440, scale=5):
                self.plot = gr.Plot(show_label=False, container=False, elem_id="roc-plot")
            with gr.Column(min_width=440, scale=7):
                self.tables = gr.HTML(elem_id="roc-tables")
        tab.select(
            self.enter, [self.category, inspected], [self.answer, self.category, self.plot, self.tables], **QUIET
        )
        self.category.input(self.draw, self.category, [self.plot, self.tables], **QUIET)

    def enter(self, key: str | None, inspected: str | None) -> Update:
        keys = shipped.measured_categories()
        if not keys:
            none = "<p>No results yet: <code>make results</code> builds them from score files.</p>"
            return {self.category: gr.Dropdown(elem_classes=seen(False)), self.plot: None, self.tables: none}
        if key in keys:  # drawn when the tab was first opened; a page that is loaded again draws anew
            return {self.category: gr.skip()}
        key = inspected if inspected in keys else keys[0]
        titled = [(category_title(key), key) for key in keys]
        fair = without_best_on_test(shipped.measured())
        found = f"<b>{text(answer(all_contrasts(fair)))}</b> {text(attentive_text(grouped(fair)))}"
        return {
            self.answer: f"<p>Does attention help? {found}</p>",
            self.category: gr.Dropdown(titled, value=key, elem_classes=seen(True)),
            **self.draw(key),
        }

    def draw(self, key: str | None) -> Update:
        try:
            found = roc_page(key or "")
        except AttentDifferNetError as error:
            return {self.plot: None, self.tables: alert(str(error))}
        return {self.plot: found.figure(), self.tables: tables_html(found)}


def tables_html(page: RocPage) -> str:
    """Measured and published numbers, in tables of their own."""
    methods = [[g.first.title, g.auroc_text, g.difference_text, g.first.run.backbone] for g in page.groups]
    summary = f"All {len(page.rows)} runs: every seed, training, place, backbone, and epochs chosen on test images"
    published = [
        [method, category, f"{100 * auroc:.2f} %", source]
        for method, category, auroc, source in page.published[["method", "category", "auroc", "source"]].to_numpy()
    ]
    remarks = " ".join(filter(None, (page.seeds, page.training)))
    return (
        f"<h2>Measured here</h2>{_table('Measured here', MEASURED, methods)}<p class='small'>{text(remarks)}</p>"
        f"<details><summary>{summary}</summary>{_table('All runs', RUNS, _cells(page.rows))}</details>"
        "<h2>Published elsewhere</h2><p>Numbers as reported in the sources named. They are never mixed with the "
        "measured ones: backbones, splits, views and the choice of epochs may differ.</p>"
        + (_table("Published", PUBLISHED, published) if published else "<p>We know of none for this category.</p>")
    )


def _cells(rows: tuple[RocRow, ...]) -> list[list[str]]:
    return [[r.title, r.backbone, r.auroc, r.difference, f"{r.n_normal} + {r.n_anomalous}", r.detail] for r in rows]


def _table(name: str, columns: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in others)}</tr>'
        for first, *others in rows
    )
    return f"<div {scrolling(name)}><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
