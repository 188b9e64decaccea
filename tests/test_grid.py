"""A grid of runs: what its file says, what is skipped, and that kills, failures and lost nodes cost no other run."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import attentdiffernet as adn
from attentdiffernet import grid
from attentdiffernet.best_on_test import BestOnTest, evaluated_epochs
from attentdiffernet.category import InspectionDataset
from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.grid import (
    Engine,
    Outcome,
    Task,
    execute,
    local_processes,
    made_by,
    read_grid,
    run_grid,
    share_cores,
    split_done,
)
from attentdiffernet.study import comparison
from attentdiffernet.study import records as results
from attentdiffernet.study.statistics import auroc

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 600  # seconds, for a machine that others use too
SCORES = [("good/0.png", "good", 0, 1.0), ("crack/0.png", "crack", 1, 2.0)]
TINY = """
[options]
views = "none"
resize = "squeeze"
exposure = "as_is"
readout = "z2_of_mean"
image_size = 63
n_scales = 1
flow = {n_blocks = 2, hidden_width = 16, hidden_layers = 1}
epochs = 1
training_views = 1
scoring_views = 1
"""
HEAD = """
results = "results"
models = "models/{category}/{run}"
categories = ["sample/wafer"]
variants = ["none"]
weights = ["random"]
seeds = [0]
"""


@pytest.fixture
def file(tmp_path, category, monkeypatch):
    """file(head, tail) -> a grid file on the tiny category."""
    monkeypatch.setenv("ATTENTDIFFERNET_DATA", str(category.parent.parent))

    def write(head=HEAD, tail=TINY):
        path = tmp_path / "grid.toml"
        path.write_text(head + tail)
        return path

    return write


def command(file, *options):
    return [sys.executable, "-m", "attentdiffernet.cli", "grid", str(file), *map(str, options)]


def call(file, *options):
    done = subprocess.run(command(file, *options), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


def wait_for(condition):
    """The first true value of the condition."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def children(parent):
    """Processes that a process has started, by number, with their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- the file


def test_a_grid_is_all_combinations_with_equal_features_together(file, tmp_path):
    head = HEAD.replace('["none"]', '["cbam", "none"]').replace("[0]", "[0, 1]").replace("sample/w", "*/w")
    tasks = read_grid(file(head + 'tag = "x"\n', TINY + "[options.attention]\nreduction = 8\n"))
    assert sorted(task.run for task in tasks) == [
        f"sample-wafer-{variant}-random-s{seed}-x" for variant in ("cbam", "none") for seed in (0, 1)
    ]
    none = [task for task in tasks if task.options.variant == "none"]
    assert none[0].features == none[1].features and abs(tasks.index(none[0]) - tasks.index(none[1])) == 1
    assert len({task.features for task in tasks}) == 3, "blocks start from the seed"
    for task in tasks:
        options = task.options
        assert (options.image_size, options.flow.n_blocks, options.attention.reduction) == (63, 2, 8)
        assert (options.epochs, options.batch_size, options.scoring_views) == (1, 96, 1)
        assert task.results == tmp_path / "results"
        assert task.model_dir == str(tmp_path / "models" / "wafer" / task.run)
        assert Task.from_json(task.to_json()) == task


def test_parts_take_from_the_top_what_they_do_not_say(file):
    one, two = read_grid(file(tail=TINY + "[[grid]]\n[[grid]]\ntag = 'b'\n[grid.options]\nepochs = 7\n"))
    assert (one.options.epochs, two.options.epochs, two.options.training_views) == (1, 7, 1)
    assert two == replace(one, run=two.run, model_dir=two.model_dir, options=two.options)


def test_methods_have_their_own_backbones_and_variants_and_only_differnet_has_epochs(file):
    head = HEAD.replace("[0]", "[0]\nbest_on_test = true").replace("{run}", "{variant}")
    lists = 'methods = ["differnet", "patchcore"]\nvariants = ["none", "se", "eca", "places"]'
    tasks = read_grid(file(head.replace('variants = ["none"]', lists), ""))
    assert {task.run: (Path(task.model_dir).name, task.best_on_test) for task in tasks} == {
        "sample-wafer-eca-random-s0": ("eca", True),
        "sample-wafer-none-random-s0": ("none", True),
        "sample-wafer-patchcore-tf_efficientnet_lite0-random-s0": ("patchcore", False),
        "sample-wafer-patchcore-se-tf_efficientnet_lite0-random-s0": ("patchcore-se", False),
        "sample-wafer-patchcore-places-tf_efficientnet_lite0-random-s0": ("patchcore-places", False),
        "sample-wafer-se-random-s0": ("se", True),
    }
    head = head.replace('variants = ["none"]', 'methods = ["patchcore"]\nbackbones = ["resnet18", "mobilenetv2_100"]')
    head = head.replace("random", "imagenet").replace("{variant}", "{run}")
    tasks = read_grid(file(head, ""))
    assert [task.options.backbone for task in tasks] == ["mobilenetv2_100", "resnet18"]


PATCHCORE = """
[options]
image_size = 128
n_scales = 1
patchcore = {bank_size = 100}
"""


def test_a_run_of_patchcore_is_written_as_what_it_is_and_found_again(file, tmp_path, monkeypatch):
    head = HEAD.replace('variants = ["none"]', 'methods = ["patchcore"]').replace("{run}", "{variant}")
    path = file(head, PATCHCORE)
    (task,) = read_grid(path)
    assert run_grid([task], Engine(lambda task: answered(execute(task)), 1)) == {}
    (row,) = results.runs_of(tmp_path / "results").values()
    assert (row.variant, row.backbone, row.epochs, row.n_views) == ("patchcore", "tf_efficientnet_lite0 random", 0, 1)
    assert (row.views, row.readout, row.attention_training) == ("none", "mean_of_highest", "")
    assert names(*split_done([task])) == [[task.run], [], []] and made_by(path, tmp_path / "results") == {task.run}
    cost = results.read_options(tmp_path / "results", row)["cost"]
    assert cost["views_computed"] == 15 and set(cost) >= {"choosing_s", "training_s", "scoring_s"}

    from demo import shipped

    folder = tmp_path / "models" / "sample" / "wafer" / "patchcore"
    folder.parent.mkdir(parents=True)
    Path(task.model_dir).rename(folder)
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    (measured,) = comparison.measured(tmp_path / "results")
    assert shipped.shipped_threshold(measured).threshold == adn.load(folder).calibration.threshold
    assert measured.title == "PatchCore"


def test_categories_may_be_given_instead_of_those_of_the_file(file):
    path = file(HEAD.replace('["sample/wafer"]', '["nowhere/gone"]'))
    with pytest.raises(AttentDifferNetError, match="no category nowhere/gone"):
        read_grid(path)
    assert [task.run for task in read_grid(path, categories=["sample/w*"])] == ["sample-wafer-none-random-s0"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('results = "results"', "", "results must name a folder"),
        ('results = "results"', "results = 3", "results must be text, got 3"),
        ("[0]", "0", "seeds must be a list of whole numbers, got 0"),
        ("[0]", "[true]", "seeds must be a list of whole numbers"),
        ("[0]", "[-1]", "seed must lie in 0"),
        ("[0]", "[0, 0]", "two runs have the same run, sample-wafer-none-random-s0; a tag keeps them apart"),
        (
            '["none"]',
            '["gct"]',
            "variant must be one of none, se, cbam, .*, pooling, rarity, surprise, places, got 'gct'",
        ),
        ('["none"]', "[]", r"variants must be a list of texts, got \[\]"),
        ("sample/wafer", "sample/gone*", r"there is no category sample/gone\* with a folder train/good in "),
        ("sample/wafer", "wafer", "categories are DATASET/CATEGORY, got 'wafer'"),
        ("sample/wafer", "../wafer", "categories are DATASET/CATEGORY"),
        ("/{run}", "/{name}", r"models may hold \{dataset\}, .*, got 'models/\{category\}/\{name\}'"),
        ("[0]", "[0, 1]\nmodels2 = 1", "a grid has no models2; it has results, data"),
        ("/{run}", '"\nseeds = [0, 1]\nx = "', "is not valid TOML: "),
        ("epochs", "epoch", "Options has no option epoch; it has variant, recipe"),
        ("epochs = 1", "seed = 1", r"seed is given by the list seeds at the top, not in \[options\]"),
        ("image_size = 63", "method = 'patchcore'", "method is given by the list methods"),
        ('variants = ["none"]', 'methods = ["padim"]', "method must be one of differnet, patchcore, got 'padim'"),
        ("image_size = 63", "variant = 'se'", "variant is given by the list variants"),
        ("image_size = 63", "attention = {kind = 'se'}", "AttentionConfig has no option kind"),
        ("[options]", "[training]", "a grid has no training; it has results"),
        ("image_size = 63", "image_size = 10", "AlexNet needs 63 px"),
        ("flow = {", "flow = 'big' #", "flow must be a table or one of paper, compact, got 'big'"),
        ('results = "results"', 'results = "r"\ntag = "a b"', "A run needs a name of letters"),
    ],
)
def test_a_bad_grid_is_refused_with_its_name(file, old, new, complaint):
    assert old in HEAD + TINY
    path = file(HEAD.replace(old, new), TINY.replace(old, new))
    with pytest.raises(AttentDifferNetError, match=complaint) as caught:
        read_grid(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_without_data_or_file(file, tmp_path, monkeypatch):
    path = file()
    monkeypatch.delenv("ATTENTDIFFERNET_DATA")
    with pytest.raises(AttentDifferNetError, match="data must name the folder of the data sets, or ATTENTDIFFERNET_DA"):
        read_grid(path)
    with pytest.raises(AttentDifferNetError, match=r"^There is no grid file "):
        read_grid(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("n_runs", "jobs", "cores", "shares"),
    [(9, None, 16, (8, 2)), (3, None, 16, (3, 5)), (9, 16, 4, (4, 1)), (9, None, 1, (1, 1)), (1, 3, 2, (1, 2))],
)
def test_cores_are_shared_and_never_more_than_there_are(n_runs, jobs, cores, shares):
    assert share_cores(n_runs, jobs, cores) == shares and shares[0] * shares[1] <= cores


# -- order and results, without any training


@pytest.fixture
def tasks(file):
    return read_grid(file(HEAD.replace('["none"]', '["none", "se"]').replace("[0]", "[0, 1, 2]")))


def answered(outcome):
    future = Future()
    future.set_result(outcome) if isinstance(outcome, Outcome) else future.set_exception(outcome)
    return future


def test_the_first_of_equal_features_goes_alone_and_the_others_next(tasks):
    started, pending = [], []

    def submit(task):  # runs end two by two
        started.append(task.run.removeprefix("sample-wafer-"))
        pending.append(Future())
        if len(pending) == 2:
            for future in pending:
                future.set_result(Outcome(SCORES, (1, "rotations", "z2")))
            pending.clear()
            return future
        return pending[0]

    assert run_grid(tasks, Engine(submit, 2)) == {}
    assert started == [f"{name}-random-s{seed}" for name, seed in
                       [("none", 0), ("se", 0), ("none", 1), ("none", 2), ("se", 1), ("se", 2)]]  # fmt: skip


def test_what_failed_is_told_and_the_others_are_written(tasks, tmp_path):
    answers = {tasks[0].run: Outcome(error="no light"), tasks[1].run: RuntimeError("node\nlost")}
    nan = [*SCORES[:1], ("crack/0.png", "crack", 1, float("nan"))]
    answers[tasks[2].run] = Outcome(nan)
    seen = []
    failed = run_grid(
        tasks,
        Engine(lambda task: answered(answers.get(task.run, Outcome(SCORES, (1, "rotations", "z2")))), 4),
        "abc1234",
        lambda task, outcome: seen.append(task.run),
    )
    assert sorted(seen) == sorted(task.run for task in tasks)
    assert {name: outcome.error[:40] for name, outcome in failed.items()} == {
        tasks[0].run: "no light",
        tasks[1].run: "RuntimeError: node lost",
        tasks[2].run: "its scores could not be written: " + str(tmp_path)[:7],
    }
    assert set(results.runs_of(tmp_path / "results")) == {task.run for task in tasks[3:]}
    row = results.runs_of(tmp_path / "results")[tasks[3].run]
    assert (row.epochs, row.n_views, row.commit, row.backbone) == (1, 1, "abc1234", "random")


def with_epochs(task, epochs):
    return replace(task, options=replace(task.options, epochs=epochs))


def names(*groups):
    return [[task.run for task in group] for group in groups]


def test_done_is_what_is_complete_and_made_with_the_same_options(tasks, file, tmp_path):
    one, two, three = tasks[:3]
    run_grid(tasks[:3], Engine(lambda task: answered(Outcome(SCORES, (1, "rotations", "z2"))), 1))
    assert names(*split_done(tasks[:3])) == [[], [], [t.run for t in tasks[:3]]], "their models are missing"
    for task in tasks[:3]:
        Path(task.model_dir).mkdir(parents=True)
    assert names(*split_done(tasks[:4])) == [[t.run for t in tasks[:3]], [], [tasks[3].run]]
    longer = with_epochs(one, 9)
    assert names(*split_done([longer, two])) == [[two.run], [one.run], []]
    results.score_path(two.results, two.dataset, two.category, two.run).unlink()
    assert names(*split_done([two])) == [[], [], [two.run]]
    path = results.score_path(three.results, three.dataset, three.category, three.run).with_suffix(".json")
    options = path.read_text()
    older = json.loads(options)
    del older["options"]["attention"]["reduction"]
    path.write_text(json.dumps(older))
    assert names(*split_done([three])) == [[three.run], [], []], "an option that came later had its default"
    path.write_text(options.replace('"epochs"', '"epochen"'))
    assert names(*split_done([three])) == [[], [three.run], []], "an option that is no more"
    path.unlink()
    assert names(*split_done([three])) == [[three.run], [], []], "of a run that no grid made, the row decides"
    longer = with_epochs(three, 9)
    assert names(*split_done([longer])) == [[], [three.run], []]


FORMER_TABLES = """
[model]
attention = {kind = "se", training = "separation_unjudged", strength = 1.0, reduction = 8}
weights = "random"
views = "flips"
readout = "z2"
image_size = 300
[training]
epochs = 7
seed = 3
views_per_image = 8
[scoring]
n_views = 16
"""


@pytest.mark.parametrize(
    ("fixed", "given"),
    [
        ([], {}),
        (["views", "views_per_image"], {"views": "flips", "training_views": 8}),
        (["n_views", "readout"], {"scoring_views": 16, "readout": "z2"}),
    ],
)
def test_runs_of_older_versions_are_recognised(fixed, given, file, tmp_path):
    """Their options are in three tables; `fixed` names those that were asked for and not chosen by the rule."""
    tail = "[options]\nimage_size = 300\nepochs = 7\n" + "".join(f"{k} = {v!r}\n" for k, v in given.items())
    tail += '[options.attention]\nkeep = "always"\nreduction = 8\n'
    head = HEAD.replace('["none"]', '["se"]').replace("[0]", "[3]")
    (task,) = read_grid(file(head, tail))
    run_grid([task], Engine(lambda task: answered(Outcome(SCORES, (1, "rotations", "z2"))), 1))
    Path(task.model_dir).mkdir(parents=True)
    path = results.score_path(task.results, task.dataset, task.category, task.run).with_suffix(".json")
    path.write_text(json.dumps(tomllib.loads(FORMER_TABLES) | {"fixed": fixed}))
    assert names(*split_done([task])) == [[task.run], [], []]
    path.write_text(json.dumps(tomllib.loads(FORMER_TABLES) | {"fixed": ["resize"]}))
    assert names(*split_done([task])) == [[], [task.run], []]
    table = tmp_path / "results" / "runs.csv"
    assert ',"separation, always kept",' in table.read_text()
    table.write_text(table.read_text().replace('"separation, always kept"', "separation_unjudged"))
    path.unlink()
    assert names(*split_done([task])) == [[task.run], [], []], "the row decides"


# -- best on test


BEST = HEAD.replace("[0]", "[0, 1]") + "best_on_test = true\n"
FIVE = TINY.replace("epochs = 1", "epochs = 5")
UNTRAINED = '[options.attention]\ntraining = "untrained"\n'


def test_each_run_has_a_second_one_that_is_the_best_on_test(file, tmp_path, monkeypatch):
    monkeypatch.setattr("attentdiffernet.best_on_test.EVALUATIONS", 3)
    (task,) = read_grid(file(BEST.replace("[0, 1]", "[0]").replace('["none"]', '["se"]'), FIVE + UNTRAINED))
    assert Task.from_json(task.to_json()) == task and task.runs == ["sample-wafer-se-random-s0", f"{task.run}-best"]
    looked = []
    keep = BestOnTest._keep
    monkeypatch.setattr(BestOnTest, "_keep", lambda *a: looked.append(a[1:]) or keep(*a))
    outcome = execute(task)
    assert outcome.error == ""
    labels = [row[2] for row in outcome.scores]
    areas = {epoch: auroc(labels, scores) for epoch, scores in looked}
    assert list(areas) == [2, 4, 5] and outcome.best_epoch == min(areas, key=lambda epoch: (-areas[epoch], epoch))
    assert auroc(labels, [row[3] for row in outcome.best_scores]) == max(areas.values())
    assert Outcome.from_json(json.dumps(asdict(outcome))) == outcome
    plain = execute(replace(task, best_on_test=False, model_dir=None))
    assert plain.scores == outcome.scores and plain.best_scores is None, "a look changes nothing"
    shorter = with_epochs(replace(task, model_dir=None, best_on_test=False), looked[0][0])
    assert [row[3] for row in execute(shorter).scores] == pytest.approx(looked[0][1], rel=1e-6), (
        "as a training that ends there"
    )


def test_a_pair_is_done_when_both_are_there(file, tmp_path):
    one, two = read_grid(file(BEST))
    both = Outcome(SCORES, (1, "rotations", "z2"), best_epoch=1, best_scores=SCORES, cost={"training_s": 1.5})
    assert run_grid([one, two], Engine(lambda task: answered(both), 1), "abc") == {}
    for task in (one, two):
        Path(task.model_dir).mkdir(parents=True)
    rows = results.runs_of(one.results)
    assert list(rows) == [*one.runs, *two.runs]
    assert [rows[name].selection for name in one.runs] == ["last", "best-on-test"]
    assert [rows[name].best_on_test for name in one.runs] == [False, True]
    assert results.read_options(one.results, rows[one.run])["cost"] == {"training_s": 1.5}
    assert names(*split_done([one, two])) == [[one.run, two.run], [], []], "what it cost is no option"
    results.score_path(one.results, one.dataset, one.category, one.best_run).unlink()
    assert names(*split_done([one, two])) == [[two.run], [], [one.run]]
    assert names(*split_done([replace(one, best_on_test=False)])) == [[one.run], [], []]
    longer = with_epochs(two, 9)
    assert names(*split_done([longer])) == [[], [two.run], []]
    for name in two.runs:
        results.score_path(two.results, two.dataset, two.category, name).with_suffix(".json").unlink()
    assert names(*split_done([two])) == [[two.run], [], []], "of a run that no grid made, the row decides"


def test_the_name_of_the_best_run_is_taken(file):
    with pytest.raises(AttentDifferNetError, match="two runs have the same run, sample-wafer-none-random-s0-best"):
        read_grid(file(BEST, TINY + "[[grid]]\n[[grid]]\ntag = 'best'\nmodels = 'other/{run}'\nbest_on_test = false\n"))
    with pytest.raises(AttentDifferNetError, match="best_on_test must be true or false, got 1"):
        read_grid(file(HEAD + "best_on_test = 1\n"))


@contextmanager
def in_this_process(jobs, threads):
    """In place of `local_processes`: no process that imports torch for each run. Outcomes are sent as from there."""
    yield Engine(lambda task: answered(Outcome.from_json(json.dumps(asdict(execute(task))))), jobs)


def test_a_pair_killed_between_its_rows_is_made_whole(run, file, tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    monkeypatch.setattr(grid, "local_processes", in_this_process)
    path = file(BEST.replace("[0, 1]", "[0]"), FIVE.replace('readout = "z2_of_mean"\n', ""))  # to be chosen
    code, output, errors = run("grid", path)
    assert code == 0, errors
    rows = results.runs_of(tmp_path / "results")
    assert re.search(
        r"^sample-wafer-none-random-s0-best: AUROC [01]\.\d{4} after epoch \d, the best on the test", output, re.M
    )
    last, best = rows.values()
    areas = pd.read_csv(tmp_path / "results" / "summary.csv").set_index("run")["auroc"]
    assert areas[best.run] >= areas[last.run] and 1 <= best.epochs <= last.epochs == 5
    cost = results.read_options(tmp_path / "results", last)["cost"]
    assert cost == results.read_options(tmp_path / "results", best)["cost"], "of both: one training"
    assert cost["views_computed"] > 7 and cost["training_s"] > 0 < cost["scoring_s"] and cost["threads"] >= 1
    assert cost["choosing_s"] > 0 and cost["cpu"] and cost["cores"] >= 1
    files = {file: file.read_bytes() for file in results.score_files(tmp_path / "results")}
    table = (tmp_path / "results" / "runs.csv").read_text().splitlines(keepends=True)
    (tmp_path / "results" / "runs.csv").write_text("".join(line for line in table if not line.startswith(best.run)))
    code, output, errors = run("grid", path)
    assert code == 0 and output.startswith("0 of 1 runs are done, 1 to do"), errors
    assert {file: file.read_bytes() for file in results.score_files(tmp_path / "results")} == files
    assert list(results.runs_of(tmp_path / "results")) == [last.run, best.run]
    assert run("grid", path)[1].startswith("1 of 1 runs are done, 0 to do")
    assert made_by(path, tmp_path / "results") == {last.run, best.run}
    path.write_text(path.read_text().replace("epochs = 5", "epochs = 6"))
    assert made_by(path, tmp_path / "results") == set(), "made with other options"


def test_looks_are_evenly_spread_and_end_with_the_last_epoch():
    for n in (1, 2, 23, 24, 25, 60, 192):
        epochs = evaluated_epochs(n)
        assert len(set(epochs)) == min(n, 24) and epochs[-1] == n and epochs[0] >= 1
        assert max(np.diff([0, *epochs])) - min(np.diff([0, *epochs])) <= 1
    assert evaluated_epochs(192) == list(range(8, 193, 8)), "as in DifferNet's reference code"


def test_features_are_computed_anew_where_the_backbone_has_changed(tiny, category):
    model, images = copy.deepcopy(tiny("se")), InspectionDataset(category).test
    looks = BestOnTest(images, 4, 1, None)
    before = FeatureExtractor.views_computed
    looks(model, 1)
    looks(model, 2)
    assert FeatureExtractor.views_computed - before == len(images)
    with torch.no_grad():
        for block in model.backbone.attention_blocks().values():
            next(block.parameters()).add_(0.3)
    looks(model, 3)
    assert FeatureExtractor.views_computed - before == 2 * len(images)


# -- real runs in real processes


def test_a_run_fails_in_words(tasks, category, tmp_path):
    empty = tmp_path / "data" / "sample" / "wafer"
    (empty / "train" / "good").mkdir(parents=True)
    assert "has no folder test" in execute(replace(tasks[0], folder=str(empty))).error
    outcome = execute(replace(tasks[0], options=None))
    assert outcome.error.startswith("AttributeError: ") and "Traceback" in outcome.details, "a fault of the program"


@pytest.mark.process
def test_a_killed_run_costs_only_itself(tasks):
    pytest.importorskip("fcntl")
    with local_processes(1, 1) as engine:
        futures = [engine.submit(task) for task in tasks[:2]]
        (victim,) = wait_for(lambda: [p for p, line in children(os.getpid()).items() if "attentdiffernet.grid" in line])
        os.kill(victim, signal.SIGKILL)
        assert futures[0].result(PATIENCE).error == "its process was killed by signal 9, perhaps for memory"
        assert futures[1].result(PATIENCE).error == "" and len(futures[1].result().scores) == 7
    assert not [p for p, line in children(os.getpid()).items() if "attentdiffernet.grid" in line and running(p)]


@pytest.mark.process
def test_a_grid_killed_and_started_again_ends_as_one_that_was_not(run, file, tmp_path, category, monkeypatch):
    pytest.importorskip("fcntl")
    bad = tmp_path / "data" / "bad" / "few"
    for part in ("train/good", "test/good", "test/donut"):
        (bad / part).mkdir(parents=True)
        source = sorted((category / part).iterdir())[0]
        (bad / part / source.name).write_bytes(source.read_bytes())
    (tmp_path / "data" / "sample").symlink_to(category.parent)
    head = HEAD.replace("[0]", "[0, 1]") + 'data = "data"\n'
    path = file(head)
    assert run("grid", path, "--dry-run") == (
        0,
        "0 of 2 runs are done, 2 to do\nsample-wafer-none-random-s0\nsample-wafer-none-random-s1\n",
        "",
    )
    assert not (tmp_path / "results").exists()
    process = subprocess.Popen(command(path, "--jobs", "1"), cwd=ROOT, stdout=subprocess.DEVNULL)
    done = wait_for(lambda: process.poll() is None and results.runs_of(tmp_path / "results"))
    at_work = wait_for(lambda: {p for p, line in children(process.pid).items() if "attentdiffernet.grid" in line})
    process.kill()
    process.wait()
    wait_for(lambda: not any(running(child) for child in at_work))
    done = results.runs_of(tmp_path / "results")
    assert len(done) == 1, "killed in the middle"
    kept = {file: file.stat().st_mtime_ns for file in results.score_files(tmp_path / "results")}
    monkeypatch.setattr(grid, "local_processes", in_this_process)
    path = file(head)
    path.write_text(path.read_text() + "[[grid]]\n[[grid]]\ncategories = ['bad/few']\nseeds = [0]\n")
    code, output, errors = run("grid", path, "--jobs", "2")
    assert code == 1 and output.startswith("1 of 3 runs are done, 2 to do\n")
    assert "bad-few-none-random-s0 failed: Training needs 5 normal images or more, got 1\n" in errors
    assert errors.endswith("1 of 2 runs failed; the same command tries them again\n")
    rows = results.runs_of(tmp_path / "results")
    assert sorted(rows) == [f"sample-wafer-none-random-s{seed}" for seed in range(2)]
    assert len(re.findall(r"^sample-wafer-none-random-s\d: AUROC [01]\.\d{4}$", output, re.M)) == 1
    assert all(file.stat().st_mtime_ns == when for file, when in kept.items()), "what was done was left alone"
    assert pd.read_csv(tmp_path / "results" / "summary.csv")["run"].tolist() == sorted(rows)
    task = read_grid(file(head))[-1]
    detector = adn.load(task.model_dir)
    assert (detector.options, detector.data.dataset) == (task.options, "sample")
    path = file(head, TINY.replace("epochs = 1", "epochs = 2"))
    code, output, errors = run("grid", path)
    assert code == 2 and "2 runs are in the results with other options" in errors and "--overwrite" in errors


@pytest.mark.process
def test_a_ray_cluster_that_loses_a_node_finishes_all_runs(file, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'attentdiffernet[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    path = file(HEAD.replace('["none"]', '["none", "se"]'), TINY + UNTRAINED)  # a run for each node
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        with (tmp_path / "log").open("w+") as log:
            process = subprocess.Popen(command(path, "--ray", cluster.address), cwd=ROOT, stdout=log, stderr=log)
            raylet = nodes[0].all_processes["raylet"][0].process.pid
            wait_for(lambda: process.poll() is not None or "_on_ray" in " ".join(children(raylet).values()))
            assert process.poll() is None, (tmp_path / "log").read_text()
            cluster.remove_node(nodes[0], allow_graceful=False)
            assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    finally:
        cluster.shutdown()
    assert len(results.runs_of(tmp_path / "results")) == 2
    assert "0 of 2 runs are done, 2 to do" in (tmp_path / "log").read_text()


@pytest.mark.process
def test_a_cluster_that_is_not_there(file):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'attentdiffernet[ray]'")
    code, _, errors = call(file(), "--ray", "no-such-address")
    assert code == 2 and "There is no Ray cluster to reach at no-such-address" in errors
