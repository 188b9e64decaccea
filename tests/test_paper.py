"""The figures and tables of a paper: all of them, their texts, the same bytes each time, bold where tests allow."""

import pytest

from attentdiffernet.figures import paper
from attentdiffernet.figures.print import FORMATS, figure_file
from attentdiffernet.study.comparison import measured
from attentdiffernet.study.tables import Column, Strong, Table
from attentdiffernet.study.usual import usual_groups
from demo import shipped

pytestmark = pytest.mark.quick
GEAR = "sample/gear"


@pytest.fixture(scope="module")
def groups():
    return [group for group in usual_groups(measured(shipped.RESULTS)) if group.first.key == GEAR]


def test_a_cell_is_bold_in_every_format():
    table = Table([Column("a"), Column("b")], [[Strong("1_2"), "3"]])
    assert table.markdown().splitlines()[-1] == "| **1_2** | 3 |"
    assert r"\textbf{1\_2} & 3 \\" in table.latex()


def test_the_table_of_auroc_is_bold_where_a_method_is_better(groups):
    tested = {c.group.first.run.run: c for c in paper.method_contrasts(groups)}
    assert [c.helps for c in tested.values()] == [True], "PatchCore on gear wheels"
    last = paper.auroc_table(groups, tested).markdown().splitlines()[-1]
    assert last.startswith("| Gear wheel (synthetic) | ") and last.count("**") == 2
    bold = last.split("**")[1]
    (group,) = [group for group in groups if group.first.run.variant == "patchcore-places"]
    assert bold.startswith(f"{100 * group.auroc:.1f} (+")
    assert "**" not in paper.auroc_table(groups, {}).markdown()


def test_figures_have_their_texts_and_are_the_same_each_time(groups):
    tested = {c.group.first.run.run: c for c in paper.method_contrasts(groups)}
    runs = [group.first for group in groups if not group.left_at_one]
    made = [
        lambda: paper.differences_figure(groups, tested, paper.TWO_COLUMNS_MM * paper.MM),
        lambda: paper.histogram_figure(runs, lambda m: 0.55, paper.ONE_COLUMN_MM * paper.MM),
    ]
    for draw, word in zip(made, ("Gear wheel (synthetic)", "anomalous"), strict=True):
        drawn = figure_file(draw(), "svg")
        assert f">{word}</text>".encode() in drawn and b"<dc:date>" not in drawn
        assert figure_file(draw(), "svg") == drawn and figure_file(draw(), "pdf") == figure_file(draw(), "pdf")


def test_the_set_has_every_category_in_every_format(groups, monkeypatch):
    drawn = []
    monkeypatch.setattr(paper, "usual_groups", lambda found: groups)
    monkeypatch.setattr(paper, "figure_file", lambda figure, suffix: drawn.append(figure.get_size_inches()) or b"")
    names = [name for name, _ in paper.paper_set(shipped.RESULTS, shipped.MODELS)]
    stems = ("differences", "roc-sample-gear", "scores-sample-gear")
    assert names == [*(f"{stem}.{suffix}" for stem in stems for suffix in FORMATS), "auroc.tex", "auroc.md"]
    assert {round(25.4 * width) for width, _ in drawn} == {84, 174}
