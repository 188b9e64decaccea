"""Results files: round trips, refusals that name file and line, and the committed files themselves."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attentdiffernet.errors import ResultsError
from attentdiffernet.study import records as results
from attentdiffernet.study.statistics import auroc_interval

pytestmark = pytest.mark.quick

COMMITTED = Path(__file__).parent.parent / "results"
RUN = results.Run(
    run="bottle-se-s0",
    dataset="mvtec_ad",
    category="bottle",
    variant="se",
    seed=0,
    backbone="imagenet",
    attention_training="untrained",
    epochs=20,
    selection="fixed in advance",
    n_views=16,
    commit="abc123",
    source='measured, "2 cores", no GPU',
)
HEADER = "image,defect,label,score\n"
GOOD, BAD = "good/0.png,good,0,1.5\n", "crack/0.png,crack,1,2.5\n"


def scores_frame(n_normal=4, n_anomalous=3, seed=0):
    rng = np.random.default_rng(seed)
    images = [f"good/{i:03}.png" for i in range(n_normal)] + [f"crack/{i:03}.png" for i in range(n_anomalous)]
    labels = np.repeat([0, 1], [n_normal, n_anomalous])
    scores = rng.normal(labels).astype(np.float32)
    return pd.DataFrame(
        {"image": images, "defect": ["crack" if x else "good" for x in labels], "label": labels, "score": scores}
    )


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


# -- score files


def test_scores_come_back_as_they_were(tmp_path):
    frame = scores_frame()
    path = tmp_path / "new" / "run.csv"
    results.write_scores(path, frame.sample(frac=1, random_state=0))
    back = results.read_scores(path)
    expected = frame.sort_values("image", ignore_index=True)
    assert back[["image", "defect", "label"]].equals(expected[["image", "defect", "label"]])
    assert (back["score"].to_numpy(np.float32) == expected["score"].to_numpy()).all()  # %.9g restores a float32
    assert back["image"].is_monotonic_increasing
    assert b"\r" not in path.read_bytes() and path.read_bytes().startswith(HEADER.encode())
    assert [file.name for file in path.parent.iterdir()] == ["run.csv"]  # no temporary file is left


def test_writing_again_changes_no_byte(tmp_path):
    results.write_scores(tmp_path / "a.csv", scores_frame())
    results.write_scores(tmp_path / "b.csv", results.read_scores(tmp_path / "a.csv"))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_names_of_strangers_survive(tmp_path):
    names = [
        'a,b".png',
        "=1+1.png",
        "new\nline.png",
        "carriage\rreturn.png",
        "été 画像.png",
        "NA",
        "'; DROP.png",
        "#.png",
    ]
    frame = pd.DataFrame(
        {
            "image": [f"NA/{name}" for name in names] + ["good/0.png"],
            "defect": ["NA"] * len(names) + ["good"],
            "label": [1] * len(names) + [0],
            "score": range(len(names) + 1),
        }
    )
    results.write_scores(tmp_path / "run.csv", frame)
    back = results.read_scores(tmp_path / "run.csv").set_index("image")["score"]
    assert back.to_dict() == frame.set_index("image")["score"].to_dict()


def test_spreadsheet_marks_and_line_ends_are_read(tmp_path):
    path = put(tmp_path / "run.csv", "\ufeff" + (HEADER + GOOD + BAD).replace("\n", "\r\n"))
    assert results.read_scores(path)["score"].tolist() == [2.5, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label,score\n", "line 1: the columns must be image,defect,label,score, got image,label,score"),
        ("", "line 1: the columns must be"),
        (HEADER + GOOD + "crack/0.png,crack,2,1\n", "line 3: label must be 0 .normal. or 1 .anomalous., got '2'"),
        (HEADER + GOOD + "crack/0.png,crack,0,1\n", "line 3: label 0 goes with defect 'good'"),
        (HEADER + "good/0.png,good,1,1\n" + BAD, "line 2: label 0 goes with defect 'good'"),
        (HEADER + GOOD + "crack/0.png,crack,1,nan\n", "line 3: score must be a finite number, got 'nan'"),
        (HEADER + GOOD + "crack/0.png,crack,1,-inf\n", "line 3: score must be a finite number"),
        (HEADER + GOOD + "crack/0.png,crack,1,\n", "line 3: score must be a finite number, got ''"),
        (HEADER + GOOD + "crack/0.png,crack,1\n", "line 3: 4 values are needed, got 3"),
        (HEADER + GOOD + BAD + BAD, "line 4: each image may stand once, but 'crack/0.png' is repeated"),
        (HEADER + GOOD + ",crack,1,2\n", "line 3: image and defect must not be empty"),
        (HEADER + GOOD + "../../etc/x.png,crack,1,2\n", "line 3: the image must be a path inside the test folder"),
        (HEADER + GOOD + "/etc/x.png,crack,1,2\n", "line 3: the image must be a path inside"),
        (HEADER + GOOD + "..\\x.png,crack,1,2\n", "line 3: the image must be a path inside"),
        (HEADER + GOOD + "C:\\x.png,crack,1,2\n", "line 3: the image must be a path inside"),
        (HEADER + GOOD + '"crack/0.png,crack,1,2\n', "line 3: not valid CSV"),
        (HEADER + GOOD, "normal and anomalous images are needed, got only normal ones"),
        (HEADER + BAD, "got only anomalous ones"),
        (HEADER, "got no images"),
    ],
)
def test_a_bad_score_file_is_refused_with_its_place(tmp_path, text, message):
    path = put(tmp_path / "run.csv", text)
    with pytest.raises(ResultsError, match=message) as caught:
        results.read_scores(path)
    assert str(path) in str(caught.value)


def test_files_that_are_missing_or_no_text_are_refused(tmp_path):
    with pytest.raises(ResultsError, match="cannot be read: No such file"):
        results.read_scores(tmp_path / "none.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ResultsError, match="not UTF-8 text"):
        results.read_scores(tmp_path / "image.csv")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("score", np.nan, "score must be a finite number"),
        ("label", 1, "label 0 goes with defect"),
        ("image", "good/001.png", "each image may stand once"),
        ("defect", None, "must not be empty"),
        ("image", "good/\udcff.png", "not valid text"),
    ],
)
def test_nothing_wrong_is_written(tmp_path, column, value, message):
    frame = scores_frame().astype(object)
    frame.loc[0, column] = value
    with pytest.raises(ResultsError, match=message):
        results.write_scores(tmp_path / "run.csv", frame)
    with pytest.raises(ResultsError, match="defect is missing"):
        results.write_scores(tmp_path / "run.csv", scores_frame().drop(columns="defect"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_kind_can_be_written(tmp_path, label):
    frame = scores_frame()
    results.write_scores(tmp_path / "run.csv", frame[frame["label"] == label])
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 1 + (frame["label"] == label).sum()


# -- runs and summary


def test_runs_are_added_and_replaced(tmp_path):
    other = replace(RUN, run="a-none-s1", category="carpet", variant="none", attention_training="", seed=1)
    for run in (other, RUN, replace(RUN, epochs=40)):
        results.append_run(tmp_path, run)
    assert list(results.runs_of(tmp_path).values()) == [replace(RUN, epochs=40), other]
    header = (tmp_path / "runs.csv").read_text().splitlines()[0]
    assert header.split(",") == results.RUN_COLUMNS


APPEND = """
import dataclasses, sys
from attentdiffernet.study import records as results
run = results.Run("r", "d", "c", "none", 0, "random", "", 1, "last", 1, "", "here")
for n in range(20):
    results.append_run(sys.argv[1], dataclasses.replace(run, run=f"{sys.argv[2]}-{n}"))
"""


@pytest.mark.process
def test_processes_that_add_runs_at_once_lose_none(tmp_path):
    pytest.importorskip("fcntl")
    adding = [subprocess.Popen([sys.executable, "-c", APPEND, tmp_path, name]) for name in "abc"]
    assert [process.wait(300) for process in adding] == [0, 0, 0]
    assert set(results.runs_of(tmp_path)) == {f"{name}-{n}" for name in "abc" for n in range(20)}
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_columns_that_came_later_may_be_missing(tmp_path):
    results.append_run(tmp_path, RUN)
    path = tmp_path / "runs.csv"
    first, row = path.read_text().splitlines()
    put(path, f"{first.removesuffix(',blocks,recipe')}\n{row.removesuffix(',,fast')}\n")
    assert results.runs_of(tmp_path) == {RUN.run: RUN}
    put(path, f"{first.removesuffix(',source,views,readout,blocks,recipe')}\n")
    with pytest.raises(ResultsError, match="line 1: the columns must be run,"):
        results.runs_of(tmp_path)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "x" * 121, "é", "a\n"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    for field in ("run", "dataset", "category"):
        with pytest.raises(ResultsError, match=f"A {field} needs a name of letters"):
            replace(RUN, **{field: name})
    with pytest.raises(ResultsError):
        results.score_path(tmp_path, "mvtec_ad", "bottle", name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",16,", ",many,", "line 2: n_views must be a whole number, got 'many'"),
        (",16,", ",-1,", "line 2: n_views must be a whole number"),
        (",se,", ",,", "line 2: Run bottle-se-s0 needs a variant"),
        ("bottle-se-s0", "../x", "line 2: A run needs a name of letters"),
    ],
)
def test_a_bad_run_is_refused_with_its_place(tmp_path, old, new, message):
    results.append_run(tmp_path, RUN)
    path = tmp_path / "runs.csv"
    put(path, path.read_text().replace(old, new))
    with pytest.raises(ResultsError, match=message):
        results.runs_of(tmp_path)


def test_a_repeated_run_is_refused(tmp_path):
    results.append_run(tmp_path, RUN)
    path = tmp_path / "runs.csv"
    put(path, path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(ResultsError, match="line 3: each run may stand once"):
        results.runs_of(tmp_path)


def test_summary_is_a_function_of_the_score_files(tmp_path):
    for seed, (dataset, category, run) in enumerate([("b", "x", "r2"), ("a", "y", "r1"), ("a", "x", "r3")]):
        results.write_scores(results.score_path(tmp_path, dataset, category, run), scores_frame(30, 20, seed))
    summary = results.summarise(tmp_path)
    assert summary["run"].tolist() == ["r3", "r1", "r2"]  # by data set, then category
    first = (tmp_path / "summary.csv").read_bytes()
    results.summarise(tmp_path)
    assert (tmp_path / "summary.csv").read_bytes() == first and b"\r" not in first
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "summary.csv"), summary, rtol=1e-5)
    scores = results.read_scores(tmp_path / "scores/b/x/r2.csv")
    interval = auroc_interval(scores["label"], scores["score"])
    assert summary.iloc[2].tolist() == ["r2", 30, 20, interval.auroc, interval.low, interval.high]


def test_an_empty_summary_is_a_header(tmp_path):
    assert results.summarise(tmp_path).empty
    assert (tmp_path / "summary.csv").read_text() == "run,n_normal,n_anomalous,auroc,ci_low,ci_high\n"


def test_score_files_in_a_wrong_place_or_twice_are_refused(tmp_path):
    put(tmp_path / "scores/a/x/r.csv", HEADER + GOOD + BAD)
    put(tmp_path / "scores/a/y/r.csv", HEADER + GOOD + BAD)
    with pytest.raises(ResultsError, match="unique, but r stands for both"):
        results.summarise(tmp_path)
    (tmp_path / "scores/a/y/r.csv").rename(tmp_path / "scores/a/s.csv")
    with pytest.raises(ResultsError, match="must lie in"):
        results.summarise(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [("a,b,c,94.3,d", "in percent"), ("a,b,c,0.9,", "source must not be empty"), ("a,b,c,x,d", "finite")],
)
def test_a_bad_published_number_is_refused(tmp_path, row, message):
    put(tmp_path / "published.csv", f"dataset,category,method,auroc,source\n{row}\n")
    with pytest.raises(ResultsError, match=f"line 2: .*{message}"):
        results.read_published(tmp_path)


# -- the committed files


def test_each_committed_score_file_has_its_run_and_each_run_its_file():
    runs = results.runs_of(COMMITTED).values()
    expected = [results.score_path(COMMITTED, run.dataset, run.category, run.run) for run in runs]
    assert sorted(results.score_files(COMMITTED)) == sorted(expected)


def test_committed_summary_equals_recomputation(tmp_path):
    recomputed = results.summary_of(COMMITTED)
    pd.testing.assert_frame_equal(pd.read_csv(COMMITTED / "summary.csv"), recomputed, rtol=1e-5)


def test_committed_score_files_are_in_the_written_form(tmp_path):
    for path in results.score_files(COMMITTED):
        results.write_scores(tmp_path / path.name, results.read_scores(path))
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path


def test_published_averages_are_the_means_of_their_categories():
    published = results.read_published(COMMITTED)
    assert not published.duplicated(["dataset", "category", "method", "source"]).any()
    for (_, method, source), group in published.groupby(["dataset", "method", "source"]):
        categories = group[group["category"] != "average"]
        average = group.loc[group["category"] == "average", "auroc"]
        if len(categories) and len(average):
            if "recalled" in source:  # the category values average 0.947, the recalled average is 0.949: see the README
                continue
            half_a_digit = 0.0005 if "InsPLAD paper" in source else 0.00005
            assert categories["auroc"].mean() == pytest.approx(average.item(), abs=half_a_digit * 1.02), (
                method,
                source,
            )


@pytest.mark.process
def test_right_of_the_bar_is_free_of_torch_and_quick_to_import():
    code = (
        "import sys, attentdiffernet.study.statistics, attentdiffernet.study.records\n"
        "from attentdiffernet.figures import overlay, print as _, screen\n"
        "print(sorted({'torch', 'plotly', 'matplotlib', 'sklearn', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
