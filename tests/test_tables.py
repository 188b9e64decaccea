"""Numbers as text, and tables of values with a format."""

import pandas as pd
import pytest

from attentdiffernet.study.formats import counted, mean_points_text, mean_text, p_text, points
from attentdiffernet.study.tables import Column, Table, csv_text


def test_numbers_as_text():
    assert [p_text(p) for p in (0.0009995, 0.001, 0.0314, 1.0)] == ["< 0.001", "0.001", "0.031", "1"]
    assert (p_text(0.03, "p"), p_text(0.0001, "p")) == ("p = 0.03", "p < 0.001")
    assert (points(0.0123), points(-0.0001), points(-0.0123)) == ("+1.2", "+0.0", "-1.2")
    assert (mean_text([0.97, 0.99]), mean_text([0.973])) == ("98.0 ± 1.4", "97.3")
    assert mean_points_text([0.01, -0.01]) == "+0.0 ± 1.4"
    assert (counted(1, "run"), counted(2, "run"), counted(2, "category", "categories")) == (
        "1 run",
        "2 runs",
        "2 categories",
    )


TABLE = Table(
    [Column("Name & kind"), Column("p", p_text, number=True), Column("Δ", points, number=True)],
    [["a|b", 0.0001, -0.02], ["50 % _x_", None, None]],
)


def test_markdown_escapes_what_would_end_a_cell():
    assert TABLE.markdown() == (
        "| Name & kind | p | Δ |\n| --- | --- | --- |\n| a\\|b | < 0.001 | -2.0 |\n| 50 % _x_ |  |  |\n"
    )


def test_latex_escapes_and_aligns():
    head, *_ = lines = TABLE.latex().splitlines()
    assert head == r"\begin{tabular}{lrr}" and lines[-1] == r"\end{tabular}"
    assert r"Name \& kind & p & Δ \\" in lines
    assert r"a|b & $<$ 0.001 & $-$2.0 \\" in lines and r"50 \% \_x\_ &  &  \\" in lines


def test_csv_has_all_digits_and_leaves_out_what_is_not_a_number():
    frame = pd.DataFrame({"run": ["a,b", "c"], "auroc": [0.123456789012, float("nan")], "n": [3, 4]})
    assert csv_text(frame) == 'run,auroc,n\n"a,b",0.123456789,3\nc,,4\n'


def test_a_row_of_another_length_is_rejected():
    with pytest.raises(ValueError, match="zip"):
        Table([Column("a")], [[1, 2]]).markdown()


def test_a_hostile_name_of_a_run_stays_text_in_every_format():
    hostile = Table([Column("run")], [[r"<img src=x onerror=alert(1)>\input{/etc/passwd}^~"], ["a\nb"]])
    assert "<img" not in hostile.markdown() and "| a b |" in hostile.markdown()
    assert r"\input" not in hostile.latex() and r"\textbackslash{}input\{/etc/passwd\}" in hostile.latex()
    written = csv_text(pd.DataFrame({"run": ['=HYPERLINK("x")', "-1+1", "plain"], "points": [-2.5, 1.0, 0.0]}))
    assert written.splitlines()[1:] == ['"\'=HYPERLINK(""x"")",-2.5', "'-1+1,1", "plain,0"]
