"""The list of scores: continued after a kill at any byte, never mixed, never written by two at once."""

import csv
import dataclasses
import json
import os
import stat

import pytest

from attentdiffernet.errors import ResultsError
from attentdiffernet.score_log import COLUMNS, Made, open_log

pytestmark = pytest.mark.quick

MADE = Made(1.25, 8, "0123456789abcdef")
ODD_NAMES = ["a,b.png", 'a"b.png', "a\nb.png", "a\rb.png", " é .png", "[red].png"]
FORMS = ["csv", "json"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.csv"


def write(path, form, names, made=MADE, **options):
    """Adds a row for each name that the list lacks; returns those."""
    with open_log(str(path), form, made, **options) as log:
        lacking = [name for name in names if log.lacks(name)]
        for name in lacking:
            log.add(name, float(len(name)), True, None)
    return lacking


def read(path, form):
    if form == "json":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", FORMS)
def test_rows_say_what_they_were_made_with(path, form):
    write(path, form, ["x.png"])
    (row,) = read(path, form)
    assert list(row) == COLUMNS
    as_text = {"score": "5.0", "threshold": "1.25", "verdict": "anomalous", "error": "", "n_views": "8"}
    as_json = {"score": 5.0, "threshold": 1.25, "verdict": "anomalous", "error": None, "n_views": 8}
    values = as_text if form == "csv" else as_json
    assert row == {"image": "x.png", **values, "model": "0123456789abcdef"}


@pytest.mark.parametrize("form", FORMS)
def test_cut_at_any_byte_it_ends_as_if_uninterrupted(path, form):
    names = [*ODD_NAMES, "last.png"]
    write(path, form, names)
    whole = path.read_bytes()
    assert [row["image"] for row in read(path, form)] == names
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        lacking = write(path, form, names)
        assert path.read_bytes() == whole, size
        assert 1 <= len(lacking) <= len(names)
    assert write(path, form, names) == []
    assert os.listdir(path.parent) == [path.name], "nothing is left beside it"


@pytest.mark.parametrize("form", FORMS)
def test_a_name_that_is_a_formula_runs_in_no_spreadsheet_and_is_found_again(path, form):
    names = ["=HYPERLINK(1).png", "@a.png", "'quoted.png"]
    assert write(path, form, names) == names and write(path, form, names) == []
    if form == "csv":
        assert [row["image"] for row in read(path, form)] == ["'=HYPERLINK(1).png", "'@a.png", "'quoted.png"]


@pytest.mark.parametrize("form", FORMS)
def test_names_that_are_no_text_are_found_again(path, form):
    name = os.fsdecode(b"caf\xe9.png")
    assert write(path, form, [name]) == [name] and write(path, form, [name]) == []
    assert read(path, form)[0]["image"] == r"caf\xe9.png"


@pytest.mark.parametrize("form", FORMS)
def test_images_that_could_not_be_read_are_tried_again(path, form):
    with open_log(str(path), form, MADE) as log:
        log.add("a.png", 1.0, False, None)
        log.add("b.png", None, None, "=b.png is damaged")
        log.add("c.png", 0.0, False, None)
    if form == "csv":
        assert "'=b.png is damaged" in [row["error"] for row in read(path, form)], "it runs in no spreadsheet"
    assert write(path, form, ["a.png", "b.png", "c.png"]) == ["b.png"]
    assert [(row["image"], float(row["score"])) for row in read(path, form)] == [
        ("a.png", 1.0),
        ("c.png", 0.0),
        ("b.png", 5.0),
    ]


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (
            Made(1.25, 16, MADE.model),
            r"holds scores of 8 views, not 16 views\. Name another file with --out, or replace",
        ),
        (
            Made(1.25, 8, "f" * 16),
            r"holds scores of another model \(fingerprint 0123456789abcdef, not f{16}\)\. Name another",
        ),
        (Made(1.5, 8, MADE.model), r"holds scores with the threshold 1\.25, not 1\.5\. Name another file"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_scores_of_other_settings_are_not_mixed(path, form, made, complaint):
    write(path, form, ["x.png"])
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=complaint):
        write(path, form, ["y.png"], made)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    assert write(path, form, ["x.png"], made, overwrite=True) == ["x.png"]
    assert len(read(path, form)) == 1


HEADER = ",".join(COLUMNS).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"years of work",
        b"years of work\n",
        b"image,defect,label,score\ngood/1.png,good,0,1\n",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400,
        b"\0" * 100_000,
        b'{"image": "x.png"}\n',
        b"[1]\n",
        HEADER + b"x.png,1,1.25,0,,8\n",
        HEADER + b"x.png,one,1.25,0,,8,0123456789abcdef\n",
        HEADER + b"\n",
        HEADER + b'"' + b"x\n" * 100_000,
        HEADER.replace(b"\n", b"\r\n"),
        HEADER + b"\xff.png,1,1.25,0,,8,0123456789abcdef\n",
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_another_file_is_left_alone(path, form, content):
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"list of scores.* or replace this one with --overwrite$"):
        write(path, form, ["x.png"])
    assert path.read_bytes() == content and os.listdir(path.parent) == [path.name]


def test_the_other_form_is_refused(path):
    write(path, "csv", ["x.png"])
    with pytest.raises(ResultsError, match="list of scores in"):
        write(path, "json", ["x.png"])
    write(path, "json", ["x.png"], overwrite=True)
    with pytest.raises(ResultsError, match="list of scores in"):
        write(path, "csv", ["x.png"])


def test_one_process_at_a_time(path):
    pytest.importorskip("fcntl")
    with open_log(str(path), "csv", MADE) as log:
        log.add("x.png", 1.0, False, None)
        for overwrite in (False, True):
            with pytest.raises(ResultsError, match=r"^Another process is writing .*scores\.csv$"):
                write(path, "csv", ["y.png"], overwrite=overwrite)
        log.add("y.png", 1.0, False, None)
    assert write(path, "csv", ["x.png", "y.png", "z.png"]) == ["z.png"]


def test_a_link_stays_a_link_and_rights_stay(path, tmp_path):
    target = tmp_path / "elsewhere" / "list.csv"
    target.parent.mkdir()
    path.symlink_to(target)
    write(path, "csv", ["x.png"])
    target.chmod(0o640)
    with open(target, "ab") as file:
        file.write(b"torn")
    assert write(path, "csv", ["x.png", "y.png"]) == ["y.png"]
    assert path.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o640 and len(read(target, "csv")) == 2


def test_what_is_no_file_is_written_to_as_it_is():
    assert write("/dev/null", "csv", ["x.png"]) == ["x.png"]


# -- as few views as each verdict needs

SETTLED = Made(1.25, 64, "0123456789abcdef", until_settled=True)


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_few_views_say_how_many_made_the_score(path, form):
    with open_log(str(path), form, SETTLED) as log:
        log.add("a.png", 1.0, False, None, n_views=4)
        log.add("b.png", None, None, "b.png is damaged")
    first, second = read(path, form)
    assert (int(first["n_views"]), first["model"]) == (4, "0123456789abcdef-settled-64")
    assert int(second["n_views"]) > 0
    assert write(path, form, ["a.png", "b.png"], SETTLED) == ["b.png"]


@pytest.mark.parametrize(
    ("there", "asked", "what"),
    [
        (SETTLED, MADE, "of up to 64 views, not 8 views"),
        (MADE, SETTLED, "of 8 views, not up to 64 views"),
        (dataclasses.replace(SETTLED, n_views=32), SETTLED, "of up to 32 views, not up to 64 views"),
        (dataclasses.replace(SETTLED, model="other"), SETTLED, "of another model"),
    ],
)
def test_lists_made_in_other_ways_are_not_mixed(there, asked, what, path):
    write(path, "csv", ["a.png"], there)
    with pytest.raises(ResultsError, match=what):
        write(path, "csv", ["b.png"], asked)
