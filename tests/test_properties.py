"""What holds for all inputs of the pure parts: parsers of untrusted bytes, lists of scores, addresses, words."""

import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attentdiffernet.decoding_limits import CHECKS, check_structure
from attentdiffernet.errors import AttentDifferNetError, ImageError, ResultsError
from attentdiffernet.score_log import Made, open_log
from attentdiffernet.study.records import SCORE_COLUMNS, read_scores, score_path, write_scores
from attentdiffernet.words import score_text, times_text, with_formula, without_formula
from demo.service.naming import safe_stem
from demo.service.rate import LEAST, MOST, STEP, asked, on_slider

pytestmark = pytest.mark.quick

some = settings(max_examples=60, deadline=None, database=None, derandomize=True)
few = settings(max_examples=25, deadline=None, database=None, derandomize=True)
LETTERS = "ab.0-_/\\ '\"=+@,;<&\t\r\n\0é漢\u2028\u202e😀"  # all characters would take seconds to list
names = st.text(LETTERS, min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
pieces = st.one_of(st.binary(max_size=12), st.sampled_from([b"\xff\xda", b"\xff" * 50, bytes(40), b"\x21\xfe\xff"]))


@some
@given(st.sampled_from(list(CHECKS)), st.lists(pieces, max_size=30).map(b"".join))
def test_whatever_follows_the_first_bytes_of_a_format_it_is_let_through_or_refused(start, rest):
    said = "part has nothing against it"
    try:
        check_structure(start + rest, "part")
    except ImageError as error:
        said = str(error)
    assert re.fullmatch(r"part has [^\n]+", said)


@few
@given(st.lists(st.tuples(names, finite), max_size=5, unique_by=lambda row: row[0]), st.sampled_from(["csv", "json"]))
def test_a_list_of_scores_knows_what_it_holds_whatever_the_names(rows, form):
    made = Made(1.0, 8, "0123456789abcdef")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores"
        with open_log(str(path), form, made) as log:
            for name, score in rows:
                log.add(name, score, score > 1, None)
        before = path.read_bytes()
        with open_log(str(path), form, made) as log:
            assert not any(log.lacks(name) for name, _ in rows)
            assert len(log.done) == len(rows)
        assert path.read_bytes() == before


@few
@given(st.binary(max_size=200), st.sampled_from(["csv", "json"]))
def test_a_file_that_is_no_list_of_scores_is_left_as_it_is(content, form):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes"
        path.write_bytes(content)
        try:
            with open_log(str(path), form, Made(1.0, 8, "0123456789abcdef")):
                pass
        except ResultsError:
            assert path.read_bytes() == content


@few
@given(st.lists(st.tuples(names, finite, st.booleans()), max_size=5, unique_by=lambda row: row[0]))
def test_score_files_are_read_as_they_were_written(rows):
    both = [*rows, ("first", 0.0, False), ("second", 1.0, True)]
    table = [(f"{defect}/{k}-{name}.png", defect, label, score)
             for k, (name, score, bad) in enumerate(both)
             for defect, label in [("crack", 1) if bad else ("good", 0)]]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        try:
            write_scores(path, pd.DataFrame(table, columns=SCORE_COLUMNS, dtype=object))
        except ResultsError:  # a name that no file has
            return
        found = read_scores(path)
    assert sorted(found["image"]) == sorted(row[0] for row in table)
    by_name = dict(zip(found["image"], found["score"], strict=True))
    assert all(by_name[name] == float(f"{score:.9g}") for name, _, _, score in table)


@some
@given(names, names, names)
def test_names_of_a_run_never_lead_out_of_the_results(dataset, category, run):
    try:
        path = score_path("results", dataset, category, run)
    except AttentDifferNetError:
        return
    assert path.parts[:2] == ("results", "scores") and ".." not in path.parts and len(path.parts) == 5


@some
@given(names)
@example("'=1")
def test_a_name_comes_back_from_a_spreadsheet_and_is_no_formula_there(name):
    written = without_formula(name)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert with_formula(written) == name


@some
@given(names)
@example("..")
def test_a_safe_name_is_a_name_of_a_file(name):
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,60}", safe_stem(name)) and not safe_stem(name).startswith(".")


@some
@given(st.one_of(st.text("0123456789.,-einfa ", max_size=8), st.floats().map(str)))
def test_a_rate_in_an_address_is_on_the_slider_or_none(text):
    rate = asked(text)
    assert rate is None or LEAST <= rate <= MOST


@some
@given(st.floats(LEAST / 100, MOST / 100))
def test_the_slider_promises_no_less_than_was_asked(rate):
    shown = on_slider(rate)
    assert shown >= rate * 100 - 1e-6 and shown - rate * 100 < STEP + 1e-6


@some
@given(st.floats(0, 1))
def test_a_rate_beyond_the_slider_is_shown_at_its_end(rate):
    assert LEAST <= on_slider(rate) <= MOST


@some
@given(finite, st.floats(allow_nan=False))
@example(1.7976e308, 1.0)
def test_a_score_in_words_is_short_and_its_multiple_says_its_side(score, threshold):
    assert len(score_text(score)) < 16 and "e" not in score_text(score)
    said = times_text(score, threshold)
    if said.startswith(("just over", "over", "above")):
        assert score > threshold
    if said.startswith(("just under", "under", "below")):
        assert not score > threshold
