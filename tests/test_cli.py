"""The command line from training to a map on real files; what a user can mend is one sentence and an exit code."""

import contextlib
import csv
import functools
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import attentdiffernet
from attentdiffernet import checkpoint, cli
from attentdiffernet.backbone import load_weights
from attentdiffernet.errors import CheckpointError
from attentdiffernet.figures.palette import VARIANT_COLOURS
from attentdiffernet.images import read_image
from attentdiffernet.methods import load
from attentdiffernet.options import AttentionTraining, Options, Placement, Readout, Variant, ViewKind
from attentdiffernet.study import records as results
from attentdiffernet.study.localisation import pixel_auroc
from attentdiffernet.words import input_title, percent
from demo.service import comparison
from demo.service.training import own

ROOT = Path(__file__).parents[1]
DATASETS = ["datasets list", "datasets info", "datasets prepare", "datasets sample"]
COMMANDS = ["train", "evaluate", "score", "explain", "localise", "summarise", "grid", *DATASETS]
QUICK = ["--weights", "random", "--epochs", "2", "--train-views", "1", "--views", "2"]
FLIPS = ["--view-kind", "flips", "--resize", "squeeze"]  # only exposure and readout are chosen
AS_GIVEN = [*FLIPS, "--exposure", "as_is", "--readout", "z2"]
N_FILES = 200  # too many to be scored before the process is killed
CARD = ["--licence", "CC0", "--no-cache"]


@pytest.fixture(scope="module")
def tiny_by_default():
    """What the command line trains: it has no option for the size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.train, "Options", functools.partial(Options, image_size=63, n_scales=1))
        yield


@pytest.fixture(scope="module")
def model_dir(category, tiny_by_default, tmp_path_factory):
    """A model trained on real files."""
    out, errors = tmp_path_factory.mktemp("models") / "wafer-cbam", io.StringIO()
    asked = ["train", category, *QUICK, *FLIPS, "--variant", "cbam", "--attention-training", "untrained"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.setattr(cli.console, "SECONDS_BETWEEN_LINES", float("inf"))
        patch.setattr(sys, "argv", ["attentdiffernet", *map(str, asked), "--seed", "3", "--out", str(out), *CARD])
        with pytest.raises(SystemExit):
            cli.main()
    said = (
        r"^AttentDifferNet \(CBAM\) of wafer: 8 normal images fitted, 8 scored by cross-validation\. "
        r"Threshold [\d.e+]+, "
        rf"flags at most 11\.1 % of normal images on average\. Written to {re.escape(str(out))}\n\Z"
    )
    assert re.search(said, errors.getvalue(), re.MULTILINE)
    return out


def test_train_keeps_what_was_asked_for(model_dir):
    detector = load(model_dir)
    assert detector.variant == "cbam" and detector.options.weights == "random"
    assert (detector.options.seed, detector.options.epochs, detector.options.training_views) == (3, 2, 1)
    assert detector.calibration.n_views == 2
    assert (detector.data.dataset, detector.data.category, detector.data.licence) == ("sample", "wafer", "CC0")
    assert detector.data.source == "`attentdiffernet datasets sample`", "from the card of the data set"


def test_evaluate_writes_scores_and_prints_the_auroc(run, model_dir, category, tmp_path):
    code, output, errors = run("evaluate", model_dir, category, "--out", tmp_path / "scores.csv")
    assert (code, errors) == (0, "")
    first, second = output.splitlines()
    assert re.fullmatch(
        r"AUROC [01]\.\d{4} \(95 %: [01]\.\d{4} to [01]\.\d{4}, [\w, -]+\), 3 normal and 4 anomalous images, 2 views",
        first,
    )
    assert re.match(
        r"At the threshold [\d.e+]+ from training normals: [\d.]+ % of anomalous and [\d.]+ % of normal", second
    )
    frame = results.read_scores(tmp_path / "scores.csv")
    assert len(frame) == 7 and set(frame["defect"]) == {"good", "centre", "donut", "edge_ring", "scratch"}
    assert set(frame["image"]) >= {"good/000.png", "donut/moderate_000.png"}


def test_evaluate_by_another_readout_prints_its_auroc_and_no_threshold(run, model_dir, category, tmp_path):
    code, output, _ = run("evaluate", model_dir, category, "--readout", "z2", "--out", tmp_path / "scores.csv")
    assert code == 0 and output.startswith("AUROC ") and "threshold" not in output


@pytest.mark.parametrize(("kind", "n"), [("normal", 3), ("anomalous", 4)])
def test_evaluate_images_of_one_kind(kind, n, run, model_dir, category, tmp_path):
    """In subfolders, whose names the score file keeps."""
    data = tmp_path / "sample" / "wafer"
    for folder in (category / "test").iterdir():
        if (folder.name == "good") == (kind == "normal"):
            shutil.copytree(folder, data / "test" / folder.name / "camera 1")
    code, output, errors = run("evaluate", model_dir, data, "--out", tmp_path / "scores.csv")
    assert (code, errors) == (0, "")
    first, second = output.splitlines()
    assert first.startswith("No AUROC: it needs normal and anomalous images. ") and f"{n} {kind}" in first
    assert re.fullmatch(rf"At the threshold \S+ from training normals: [\d.]+ % of {kind} images flagged", second)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert len(rows) == n and all(
        row["image"] == f"{row['defect']}/camera 1/moderate_000.png" or kind == "normal" for row in rows
    )
    for asked, target in (("--results", tmp_path / "results"), ("--picture", tmp_path / "roc.svg")):
        page = tmp_path / "early.html"
        code, output, errors = run("evaluate", model_dir, data, asked, target, *["--report", page] * (kind == "normal"))
        assert code == 2 and "ROC curve needs normal and anomalous images" in errors
        assert output == "" and not target.exists() and not page.exists(), "before anything is scored"
    page = tmp_path / "report.html"
    assert run("evaluate", model_dir, data, "--report", page)[0] == 0
    assert first in page.read_text(encoding="utf-8") and "class='roc'" not in page.read_text(encoding="utf-8")


def test_evaluate_into_a_results_folder_and_summarise(run, model_dir, category, tmp_path):
    assert run("evaluate", model_dir, category, "--results", tmp_path, "--run", "mine", "--views", "1")[0] == 0
    assert (tmp_path / "scores" / "sample" / "wafer" / "mine.csv").is_file()
    (row,) = results.runs_of(tmp_path).values()
    assert (row.run, row.variant, row.seed, row.backbone, row.n_views) == ("mine", "cbam", 3, "random", 1)
    assert row.attention_training == "untrained"
    code, output, errors = run("summarise", tmp_path)
    assert (code, errors) == (0, "") and "1 runs summarised in" in output
    (summary,) = pd.read_csv(tmp_path / "summary.csv").itertuples()
    assert (summary.run, summary.n_normal, summary.n_anomalous) == ("mine", 3, 4)


@pytest.fixture
def photographs(category, tmp_path, monkeypatch):
    """A folder with two good files and one that is no image."""
    folder = tmp_path / "photographs"
    (folder / "deep").mkdir(parents=True)
    for name, source in (("a.png", "train/good/000.png"), ("deep/b.png", "test/donut/moderate_000.png")):
        (folder / name).write_bytes((category / source).read_bytes())
    (folder / "bad.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    return folder


def test_score_as_csv(run, model_dir, photographs):
    code, output, errors = run("score", model_dir, "photographs")
    assert code == 1 and errors == "1 of 3 files could not be read; see the column error\n"
    good, bad, deep = csv.DictReader(io.StringIO(output))
    assert [row["image"] for row in (good, bad, deep)] == [
        f"photographs/{n}" for n in ("a.png", "bad.png", "deep/b.png")
    ]
    calibration = load(model_dir).calibration
    for row in (good, deep):
        assert row["error"] == "" and float(row["threshold"]) == calibration.threshold
        assert row["verdict"] == ("anomalous" if float(row["score"]) > calibration.threshold else "normal")
    assert bad["score"] == bad["verdict"] == "" and bad["error"].startswith("bad.png is not an image that can be read")


def test_score_as_json_lines_from_globs_into_a_file(run, model_dir, photographs, tmp_path):
    out = tmp_path / "new" / "scores.jsonl"
    code, output, errors = run(
        "score", model_dir, "photographs/a*.png", "photographs/deep", "--format", "json", "--out", out
    )
    assert (code, output, errors) == (0, "", "")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["image"] for row in rows] == ["photographs/a.png", "photographs/deep/b.png"]
    assert all(row["error"] is None and row["verdict"] in ("anomalous", "normal") and row["score"] > 0 for row in rows)
    _, output, _ = run("score", model_dir, "photographs/a.png", "--format", "json", "--out", "-")
    assert json.loads(output) == rows[0], "the same image, the same score"


@pytest.mark.process
def test_score_killed_and_started_again_scores_each_image_once(run, detector, small, category, tmp_path):
    model = detector(model=small("none")).save(tmp_path / "model")
    folder = tmp_path / "photographs"
    folder.mkdir()
    originals = sorted((category / "train" / "good").iterdir())
    for n in range(N_FILES):
        (folder / f"{n:03}.png").hardlink_to(originals[n % len(originals)])
    arguments = ["score", model, folder, "--views", "1", "--out"]
    command = [sys.executable, "-m", "attentdiffernet.cli", *arguments, tmp_path / "killed.csv"]
    rows = 0
    for wanted in (10, 20):  # killed twice, the second time while it continues
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while process.poll() is None and rows < wanted:
            with contextlib.suppress(FileNotFoundError):
                rows = (tmp_path / "killed.csv").read_bytes().count(b"\n") - 1
            time.sleep(0.005)
        process.kill()
        process.wait()
        rows = (tmp_path / "killed.csv").read_bytes().count(b"\n") - 1
        assert wanted <= rows < N_FILES, "killed in the middle"
    code, _, errors = run(*arguments, tmp_path / "killed.csv")
    assert code == 0 and f"has the scores of {rows} of {N_FILES} images already; {N_FILES - rows} to go\n" in errors
    assert run(*arguments, tmp_path / "whole.csv")[0] == 0
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(set((tmp_path / "whole.csv").read_text().splitlines())) == 1 + N_FILES


def test_score_continues_with_the_same_settings_only(run, model_dir, detector, small, photographs, tmp_path):
    out, other = tmp_path / "scores.csv", detector(model=small()).save(tmp_path / "other")
    assert run("score", model_dir, "photographs", "--out", out)[0] == 1
    before = out.read_bytes()
    code, _, errors = run("score", model_dir, "photographs", "--out", out, "--views", "3")
    assert (
        code == 2 and f"Error: {out} holds scores of 2 views, not 3 views. Name another file with --out, or" in errors
    )
    code, _, errors = run("score", other, "photographs", "--out", out)
    assert code == 2 and f"Error: {out} holds scores of another model (fingerprint " in errors
    assert out.read_bytes() == before
    code, _, errors = run("score", model_dir, "photographs", "--out", out, "--precision", "bfloat16")
    assert code == 2 and re.search(r"holds scores of another model \(fingerprint (\w{16}), not \1-bfloat16\)", errors)
    assert out.read_bytes() == before
    (photographs / "bad.png").write_bytes((photographs / "a.png").read_bytes())
    code, _, errors = run("score", model_dir, "photographs", "--out", out)
    assert (code, errors) == (0, f"{out} has the scores of 2 of 3 images already; 1 to go\n"), "the bad one, mended"
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert sorted(row["image"] for row in rows) == [f"photographs/{n}" for n in ("a.png", "bad.png", "deep/b.png")]
    assert rows[2]["score"] == rows[0]["score"], "the same content, the same score"
    assert run("score", other, "photographs", "--out", out, "--overwrite")[0] == 0
    assert {row["model"] for row in csv.DictReader(io.StringIO(out.read_text()))} == {load(other).fingerprint}


def test_score_until_settled_says_how_many_views_made_each_score(run, model_dir, photographs, tmp_path):
    out = tmp_path / "scores.csv"
    assert run("score", model_dir, "photographs", "--until-settled", "--views", "5", "--out", out)[0] == 1
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert all(1 <= int(row["n_views"]) <= 5 for row in rows)
    assert {row["model"] for row in rows} == {load(model_dir).fingerprint + "-settled-5"}
    code, _, errors = run("score", model_dir, "photographs", "--until-settled", "--views", "5", "--out", out)
    assert code == 1 and "has the scores of 2 of 3 images already" in errors
    code, _, errors = run("score", model_dir, "photographs", "--out", out)
    assert code == 2 and "holds scores of up to 5 views, not 2 views" in errors


def test_until_settled_takes_no_more_views_than_were_asked_for(run, model_dir, photographs):
    """The threshold was set for two views."""
    asked = ["score", model_dir, photographs / "a.png", "--until-settled", "--format", "json", "--views"]
    code, output, errors = run(*asked, "1")
    assert code == 0 and json.loads(output)["n_views"] == 1
    assert errors == "The threshold was set for scores of 2 views, not 1: verdicts may be wrong\n"
    code, output, errors = run(*asked, "4")
    assert code == 0 and json.loads(output)["n_views"] <= 4 and errors == ""


def test_a_threshold_and_a_rate_that_are_asked_for(run, model_dir, photographs, category, tmp_path):
    """Of eight normals the highest score promises 1 of 9, the lowest one 8 of 9."""
    low, *_, high = load(model_dir).calibration.scores
    picture = category / "test" / "donut" / "moderate_000.png"

    def judged(*asked):
        code, output, errors = run("score", model_dir, picture, "--format", "json", *asked)
        assert code == 0
        return json.loads(output), errors

    row, errors = judged("--false-alarm-rate", "0.89")
    assert row["threshold"] == low and "flags at most 88.9 % of good parts on average\n" in errors
    row, errors = judged("--false-alarm-rate", "0.01")
    assert row["threshold"] == high and "11.1 %" in errors and "the least that 8 held-out normals can promise" in errors
    beyond = 2 * row["score"]
    assert judged("--threshold", beyond)[0] == row | {"threshold": beyond, "verdict": "normal"}
    row, errors = judged("--threshold", low / 2)
    assert row["verdict"] == "anomalous" and "flags at most 100.0 % of good parts" in errors

    scored = ["--out", tmp_path / "scores.csv"]
    _, output, _ = run("evaluate", model_dir, category, *scored, "--threshold", beyond)
    frame = results.read_scores(tmp_path / "scores.csv")
    shares = [np.mean(frame["score"][frame["label"] == label] > beyond) for label in (1, 0)]
    said = f"{percent(shares[0])} % of anomalous and {percent(shares[1])} % of normal images flagged"
    assert "that was asked for: " + said in output
    for asked, complaint in (
        (["--threshold", "1", "--false-alarm-rate", "0.1"], "not both"),
        (["--threshold", "nan"], "finite"),
        (["--false-alarm-rate", "5"], "0.05 is 5 of 100"),
        (["--threshold", "1", "--readout", "z2"], "leave out --readout"),
    ):
        code, _, errors = run("evaluate", model_dir, category, *scored, *asked)
        assert code == 2 and complaint in errors


def test_without_a_terminal_progress_is_a_line_now_and_then(run, model_dir, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.console, "SECONDS_BETWEEN_LINES", 0.0)
    (photographs / "bad.png").unlink()
    code, _, errors = run("score", model_dir, "photographs", "--out", tmp_path / "scores.csv")
    assert code == 0
    assert re.fullmatch(
        r"scoring: 0 of 2\nscoring: 1 of 2, [\d.e+]+/s, 0:\d\d:\d\d left\n"
        r"scoring: 2 of 2, [\d.e+]+/s, 0:00:00 left\n",
        errors,
    )


def test_train_tells_stages_of_how_many(category, tiny_by_default, run, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.console, "SECONDS_BETWEEN_LINES", 0.0)
    code, _, errors = run("train", category, *QUICK, *AS_GIVEN, *CARD, "--out", tmp_path / "m")
    assert code == 0
    told = re.findall(r"^Stage (\d) of (\d), ([a-z -]+): (\d+) of (\d+)(?:, \S+/s, 0:00:\d\d left)?$", errors, re.M)
    assert list(dict.fromkeys(number for number, *_ in told)) == ["1", "2", "3", "4", "5"]
    assert {total for _, total, *_ in told} == {"5"} and told[-1][3] == told[-1][4], "all that was announced came"


def test_a_disk_that_is_full_after_the_training_does_not_lose_the_model(
    category, tiny_by_default, run, tmp_path, monkeypatch
):
    out, save = tmp_path / "m", checkpoint.write

    def full(folder, *stored):
        if folder == out:
            raise CheckpointError(f"The model could not be written to {folder}: No space left on device")
        return save(folder, *stored)

    monkeypatch.setattr(checkpoint, "write", full)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path / f"{prefix}x"))
    code, _, errors = run("train", category, *QUICK, *AS_GIVEN, *CARD, "--out", out)
    kept = tmp_path / "attentdiffernet-x" / "m"
    assert code == 0 and f"No space left on device. The model is kept in {kept} instead: move it" in errors
    assert errors.endswith(f"Written to {kept}\n") and load(kept).data.n_fitted > 0 and not out.exists()


def test_a_folder_that_takes_nothing_is_noticed_before_the_training(category, run, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    code, _, errors = run("train", category, *QUICK, *CARD, "--out", tmp_path / "file" / "m")
    assert code == 2 and "The model could not be written to" in errors and "Stage" not in errors


def test_files_that_are_no_images_are_counted(run, model_dir, photographs, tmp_path):
    (photographs / "bad.png").unlink()
    for name in ("notes.txt", "deep/table.csv", ".hidden"):
        (photographs / name).write_text("")
    code, _, errors = run("score", model_dir, "photographs", "--out", tmp_path / "s.csv")
    assert (code, errors) == (0, "2 images found; 2 other files skipped\n")


def test_a_phones_photograph_in_a_folder_is_not_passed_over(run, model_dir, photographs):
    (photographs / "bad.png").unlink()
    (photographs / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    _, output, _ = run("score", model_dir, "photographs")
    assert "IMG_1.HEIC is a HEIC or AVIF image, which cannot be read: save it as JPEG or PNG" in output


def test_a_report_is_one_page_that_loads_nothing(run, model_dir, category, tmp_path):
    page, curve = tmp_path / "new" / "report.html", tmp_path / "roc.svg"
    asked = ["--report", page, "--picture", curve, "--threshold", "1e9", "--no-cache"]
    code, output, errors = run("evaluate", model_dir, category, *asked)
    assert code == 0 and f"Written to {page}" in errors and f"Written to {curve}" in errors
    text = page.read_text(encoding="utf-8")
    assert all(line in text for line in output.splitlines()), "it says what is printed"
    assert set(re.findall(r"(?:src|href)=['\"]([a-z]+):", text)) == {"data"}
    assert not re.search(r"<script|<link|@import|url\(", text)
    assert "content=\"default-src 'none'; img-src data:" in text
    n = len([path for path in (category / "test").rglob("*.png") if path.parent.name != "good"])
    assert f"Missed defects ({n})" in text and text.count("<li>") == n > 0, "nothing is flagged"
    assert "<h2>False alarms</h2><p>None.</p>" in text
    drawing = ElementTree.parse(curve).getroot()
    assert drawing.tag.endswith("svg")
    colours = {key for key, colour in VARIANT_COLOURS.items() if colour.lower() in curve.read_text().lower()}
    assert colours == {"cbam"}, "a detector has its colour in every chart"


def test_explain_of_a_folder_writes_a_map_for_each(run, model_dir, photographs, tmp_path):
    out = tmp_path / "maps"
    code, output, errors = run("explain", model_dir, "photographs", "--out", out)
    assert code == 1 and "1 of 3 files could not be read" in errors
    assert sorted(path.name for path in out.iterdir()) == ["a-png-map.png", "deep-b-png-map.png"]
    assert read_image(out / "a-png-map.png").shape == read_image(photographs / "a.png").shape
    assert output.count("Written to ") == 2


def test_explain_names_maps_apart_however_files_are_named(run, model_dir, photographs, tmp_path):
    shutil.copy(photographs / "a.png", photographs / "deep-b.png")
    given = [photographs / "a.png", "photographs/deep/b.png"]
    code, _, errors = run("explain", model_dir, *given, "--out", tmp_path / "maps")
    assert code == 0 and len(list((tmp_path / "maps").iterdir())) == 2, f"an absolute and a relative path: {errors}"
    code, _, errors = run("explain", model_dir, *given, photographs / "deep-b.png", "--out", tmp_path / "again")
    assert code == 2 and "would both be" in errors and not (tmp_path / "again").exists()


def test_blocks_without_a_kind_are_refused_before_the_training(category, run, tmp_path):
    code, _, errors = run("train", category, *CARD, "--attention-training", "structure", "--out", tmp_path / "m")
    assert code == 2 and "add --variant, such as se" in errors and "Stage" not in errors


def test_another_projects_commit_is_not_ours(tmp_path, monkeypatch):
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command], cwd=tmp_path, check=True)
    package = tmp_path / ".venv" / "attentdiffernet"
    (package / "cli").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(cli.runs, "__file__", str(package / "cli" / "runs.py"))
    assert cli.runs.commit() == ""


def test_the_version_is_printed(run):
    assert run("--version") == (0, f"attentdiffernet {attentdiffernet.__version__}\n", "")


def test_the_help_of_train_is_in_groups_and_breaks_no_word(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = run("train", "--help")
    titles = re.findall(r"╭─ ([^─]+?) ─", output)
    assert titles == ["Arguments", "Options", "Views and read-out", "Attention", "Advanced"]
    words = set(re.findall(r"[a-z_0-9]+", output))
    kinds = (ViewKind, Readout, Placement, AttentionTraining, Variant)
    assert {name for kind in kinds for name in get_args(kind)} <= words


def test_the_help_of_train_names_what_decides_the_method(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    _, output, _ = run("train", "--help")
    (said,) = (line for line in output.splitlines() if "--method" in line and "patchcore its places" in line)
    renamed = {"views": "view_kind", "training_views": "train_views", "scoring_views": "views"}
    asked = {renamed.get(name, name) for name in cli.train.OF_ONE_METHOD} | {"variant", "recipe", "weights"}
    assert set(re.findall(r"--([a-z-]+)", said)) == {name.replace("_", "-") for name in asked} | {"method"}


def test_every_way_leads_to_the_same_score(run, model_dir, category, tmp_path):
    """Commands, Python, the pages and their endpoint /compare; with a cache or none, alone or among others, on one
    thread or two, saved and loaded again."""
    name = "donut/moderate_000.png"
    path, detector = category / "test" / name, load(model_dir)
    images = sorted((category / "test").rglob("*.png"))
    found = {"an array": detector.inspect(read_image(path)).score}
    found["among others"] = next(v.score for v in detector.inspect_all(images) if v.name == str(path))
    found["saved again"] = load(detector.save(tmp_path / "copy")).inspect(path).score
    for what, cache in (("evaluate", "--no-cache"), ("cache written", "--cache"), ("cache read", "--cache")):
        run("evaluate", model_dir, category, "--out", tmp_path / "scores.csv", cache)
        found[what] = results.read_scores(tmp_path / "scores.csv").set_index("image").loc[name, "score"]
    found["json"] = json.loads(run("score", model_dir, path, "--format", "json")[1])["score"]
    found["csv"] = float(next(csv.DictReader(io.StringIO(run("score", model_dir, path)[1])))["score"])
    *_, compared = comparison.compare_by(path, own.info(detector), {"cbam": detector})
    found["pages"] = compared.verdicts["cbam"].score
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    found["two threads"] = detector.inspect(path).score
    torch.set_num_threads(threads)
    assert found == dict.fromkeys(found, pytest.approx(detector.inspect(path).score, rel=1e-5))


@pytest.mark.parametrize("method", ["grad-cam", "attention", "gradient", "spatial-gate"])
def test_explain(method, run, model_dir, category, tmp_path):
    out, raw = tmp_path / "maps" / "map.png", tmp_path / "raw.npy"
    picture = category / "test" / "donut" / "moderate_000.png"
    code, output, errors = run("explain", model_dir, picture, "--method", method, "--out", out, "--raw", raw)
    assert (code, errors) == (0, "")
    assert read_image(out).shape == read_image(picture).shape
    values = np.load(raw)
    assert values.dtype == np.float32 and values.min() >= 0
    sentence, numbers = output.splitlines()
    assert sentence.endswith(".")
    assert ("untrained" in sentence) == (method in ("attention", "spatial-gate"))
    reference = load(model_dir).calibration.map_references[method]
    told = re.fullmatch(
        r"Highest value: (\S+) times the 99th percentile of held-out normals\. Written to .*map\.png", numbers
    )
    assert float(told[1]) == pytest.approx(values.max() / reference, rel=0.01)


@pytest.fixture(scope="session")
def small_dir(detector, small, tmp_path_factory):
    """A model whose maps are not one pixel."""
    return detector(model=small("cbam", image_size=126)).save(tmp_path_factory.mktemp("models") / "small")


def test_localise(run, small_dir, category, tmp_path):
    code, output, errors = run("localise", small_dir, category, "--results", tmp_path, "--run", "cbam")
    assert (code, errors) == (0, "")
    measured, frame = results.read_maps(tmp_path / "maps/sample/wafer/cbam.csv")
    found = load(small_dir).findings
    assert (measured.variant, measured.seed, measured.backbone, measured.views) == (
        "cbam",
        0,
        "random",
        input_title(found.views, found.resize, found.exposure),
    )
    assert len(frame) == 4 * 4 * 2 * 2, "images, methods, raw and excess, defect and object"
    assert {Path(image).parent.name for image in frame["image"]} == {"centre", "edge_ring", "scratch", "donut"}
    masks = {target: set(part) for target, part in frame.groupby("target")["chance"]}
    assert len(masks["object"]) == 1 and len(masks["defect"]) == 4 and min(masks["object"]) > max(masks["defect"])
    lines = output.splitlines()
    assert len(lines) == 4 * 2 * 2 + 4 + 1
    assert re.match(r"grad-cam \(raw\) on the defect: energy \S+ \(\S+ to \S+\) times chance, maximum ", lines[0])
    _, counts = results.read_pixels(tmp_path / "pixels/sample/wafer/cbam.csv")
    assert f"grad-cam: pixel AUROC {percent(pixel_auroc(counts['grad-cam']))} %, AUPRO " in output
    assert lines[-1].startswith("4 images with masks and 3 normal ones, ")


def test_localise_compares_with_differnet_and_says_what_was_left_out(run, small_dir, category, tmp_path):
    data = shutil.copytree(category, tmp_path / "sample" / "wafer")
    shutil.rmtree(data / "objects")
    (data / "ground_truth/donut/moderate_000_mask.png").unlink()
    command = ("localise", small_dir, data, "--results", tmp_path, "--run", "cbam", "--limit", "1")
    assert run(*command)[0] == 0
    described = tmp_path / "maps/sample/wafer/cbam.json"
    text = described.read_text()
    for suffix in (".json", ".csv"):
        shutil.copy(described.with_suffix(suffix), described.with_name(f"plain{suffix}"))
    plain = json.loads(text) | {"run": "plain", "variant": "none", "attention_training": ""}
    described.with_name("plain.json").write_text(json.dumps(plain))
    code, output, errors = run(*command)
    assert (code, errors) == (0, "1 anomalous images have no mask, or one that marks nothing, and were left out\n")
    assert output.count("on the defect") == 8 and "on the object" not in output
    assert "; against plain +0.00, p = 1, +0 points, p = 1" in output.splitlines()[0]


def test_localise_needs_masks(run, small_dir, category, tmp_path):
    data = shutil.copytree(category, tmp_path / "sample" / "wafer")
    shutil.rmtree(data / "ground_truth")
    code, _, errors = run("localise", small_dir, data, "--results", tmp_path)
    assert code == 2 and "has no masks" in errors
    assert not (tmp_path / "maps").exists()


# -- what a user can mend


@pytest.fixture
def bad(category, tmp_path, monkeypatch):
    """Folders and files to go wrong with."""
    (tmp_path / "bare").mkdir()
    one = tmp_path / "one" / "train" / "good"
    one.mkdir(parents=True)
    (one / "0.png").write_bytes((category / "train/good/000.png").read_bytes())
    (tmp_path / "odd[red]").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    (tmp_path / "text.png").write_text("no image")
    weights = load_weights("random")
    save_file({**weights, "features.3.weight": torch.zeros(192, 64, 3, 3)}, tmp_path / "other.safetensors")
    save_file({}, tmp_path / "none.safetensors")
    monkeypatch.chdir(tmp_path)
    return category


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("train gone --out m", "There is no folder gone"),
        ("train bare --out m", "bare has no folder train/good with normal images to train on"),
        ("train odd[red] --out m", "odd[red] has no folder train/good with normal images to train on"),
        ("train one --weights random --out m", "Training needs 5 normal images or more, got 1"),
        (
            "train CATEGORY --weights vgg --out m",
            "weights must be imagenet, bundled, random or a .safetensors or .pth file, got 'vgg'",
        ),
        ("train CATEGORY --weights gone.pth --out m", "There is no weights file gone.pth"),
        (
            "train CATEGORY --weights none.safetensors --out m",
            "none.safetensors lacks the tensor 'features.0.weight' of AlexNet's features",
        ),
        (
            "train CATEGORY --weights other.safetensors --out m",
            "other.safetensors has 'features.3.weight' of shape (192, 64, 3, 3), AlexNet's is (192, 64, 5, 5)",
        ),
        ("train CATEGORY --out taken", "taken holds other files; a model needs a folder of its own"),
        ("train CATEGORY --kernel-size 4 --variant cbam --out m", "kernel_size must be odd and lie in 1..127, got 4"),
        ("train CATEGORY --views 257 --out m", "An image is scored on 1 to 256 views, got 257"),
        ("train CATEGORY --false-positive-rate 2 --out m", "false_positive_rate must lie between 0 and 1, got 2.0"),
        (
            "evaluate MODEL CATEGORY",
            "evaluate needs something to write: --out SCORES.csv, --results FOLDER, --report P.html or --picture P.svg",
        ),
        (
            "evaluate MODEL CATEGORY --picture roc.jpg",
            "The ROC curve is written as one of .pdf, .svg, .png; got roc.jpg",
        ),
        (
            "evaluate MODEL CATEGORY --report r.html --readout z2",
            "A report needs the threshold, which applies to scores of the model's own read-out",
        ),
        ("explain MODEL CATEGORY --out m.png", "Maps of several images go to a folder, without --raw; got --out m.png"),
        ("evaluate MODEL one --out s.csv", "one has no folder test with test/good and test/DEFECT"),
        ("evaluate bare CATEGORY --out s.csv", "bare is not a model folder: it has no config.json"),
        ("score gone text.png", "There is no model folder gone"),
        ("score MODEL gone.png", "There is no file or folder gone.png"),
        ("score MODEL x[/red].png", "x[/red].png finds no images (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp)"),
        ("score MODEL text.png --views 0", "An image is scored on 1 to 256 views, got 0"),
        ("score MODEL text.png --views 0 --until-settled", "An image is scored on 1 to 256 views, got 0"),
        ("score MODEL text.png --views 257 --until-settled", "An image is scored on 1 to 256 views, got 257"),
        ("explain MODEL text.png --out m.jpg", "The map is written as PNG; --out must end in .png, got m.jpg"),
        (
            "explain MODEL text.png --out m.png",
            "text.png is not an image that can be read (JPEG, PNG, TIFF, BMP, WebP or GIF)",
        ),
        ("explain MODEL gone.png --out m.png", "There is no file or folder gone.png"),
        ("datasets sample --out taken/thesis.tex", "taken/thesis.tex is a file; the sample set needs a folder"),
        ("datasets prepare mtd gone.zip", "There is no file or folder gone.zip"),
        (
            "datasets prepare mtd text.png",
            "text.png is neither a folder nor an archive that can be read (zip, tar, tar.gz, tar.bz2, tar.xz)",
        ),
        (
            "datasets prepare folder taken --category part",
            "Which images are normal? No subfolder is called good, normal, "
            "ok; name it with --normal. Subfolders with images: none",
        ),
    ],
)
def test_one_sentence_and_exit_code_2(arguments, complaint, run, bad, model_dir):
    words = [{"CATEGORY": bad, "MODEL": model_dir}.get(word, word) for word in arguments.split()]
    assert run(*words) == (2, "", f"Error: {complaint}\n")
    assert not Path("m").exists() and not Path("m.png").exists() and not Path("s.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("train CATEGORY --variant lime --out m", "Invalid value for '--variant'"),
        ("train CATEGORY", "Missing option '--out'"),
        ("train CATEGORY --seed -1 --out m", "Invalid value for '--seed'"),
        ("explain MODEL text.png --method lime --out m.png", "Invalid value for '--method'"),
        ("improve", "No such command 'improve'"),
    ],
)
def test_wrong_options_are_named(arguments, word, run, bad):
    code, output, errors = run(*arguments.replace("CATEGORY", str(bad)).split())
    assert code == 2 and output == ""
    assert word in " ".join(re.sub(r"[│╭╮╰╯─]", " ", errors).split()) and "Traceback" not in errors


def test_a_map_that_a_variant_lacks_is_refused(run, detector, small, category, tmp_path):
    folder = detector(model=small("se")).save(tmp_path / "se")
    picture = category / "test" / "donut" / "moderate_000.png"
    code, _, errors = run("explain", folder, picture, "--method", "spatial-gate", "--out", tmp_path / "m.png")
    assert code == 2
    assert errors == "Error: AttentDifferNet (SE) has no spatial-gate map; it has grad-cam, attention, gradient\n"


@pytest.mark.process
def test_without_a_traceback_from_a_real_process_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "attentdiffernet.cli", "train", "gone", "--out", tmp_path / "m"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "Error: There is no folder gone\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example_in_lines_as_long_as_the_terminal_in_which_no_word_breaks(command, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, output, errors = run(*command.split(), "--help")
    assert (code, errors) == (0, "")
    assert f"Example: attentdiffernet {command} " in " ".join(re.sub(r"[│╭╮╰╯─]", " ", output).split())
    lines = [line.strip() for line in output.partition("╭")[0].splitlines()[3:]]
    for line, following in itertools.pairwise(lines):
        assert not line or not following or len(f" {line} {following.split()[0]}") >= 80, "a line of the source"
    assert not re.search(r"<[^\s>]*\|[^\s>]*(\s|$)", output, re.M), "a list of values that is too long for its column"


def test_help_lists_the_commands(run):
    code, output, _ = run("--help")
    assert code == 0 and all(command.split()[0] in output for command in COMMANDS)


def test_data_sets_one_line_each(run):
    from attentdiffernet.datasets import CARDS

    code, output, errors = run("datasets", "list")
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()] == [*CARDS, "folder"]
    assert "MVTec AD. 15 categories, 5,354 images. Licence: CC BY-NC-SA 4.0" in output


@pytest.mark.parametrize("name", ["mvtec_ad", "wm811k", "folder", "sample"])
def test_the_page_of_a_data_set(name, run):
    from attentdiffernet.datasets.prepare import card_of

    code, output, errors = run("datasets", "info", name)
    card = card_of(name)
    assert (code, errors) == (0, "")
    page = " ".join(output.split())
    for text in (card.title, card.shows, card.licence, card.citation, card.archive, card.split, card.caveat):
        assert text in page
    for category, counts in card.categories.items():
        assert f"{category} {counts.train} {counts.test_good} {counts.anomalous} " in page
    assert (
        "\nattentdiffernet datasets " in output
        and f"\nattentdiffernet train data/{'own' if name == 'folder' else name}/" in output
    )


@pytest.mark.usefixtures("tiny_by_default")
def test_a_new_category_takes_one_line_and_no_code(run, category, tmp_path, monkeypatch):
    """A folder of photographs, prepared and trained on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    for kind, folder in (("good", "train/good"), ("donut", "test/donut")):
        shutil.copytree(category / folder, tmp_path / "photographs" / kind)
    code, output, errors = run(
        "datasets", "prepare", "folder", "photographs", "--category", "part", "--held-out", "0.25"
    )
    assert (code, errors) == (0, "")
    first, *_, last = output.splitlines()
    assert first == "data/own/part: 6 normal to train, 2 normal and 1 anomalous to test"
    assert last == "Next: attentdiffernet train data/own/part --variant se --out runs/part-se"
    assert (
        "(already there)"
        in run("datasets", "prepare", "folder", "photographs", "--category", "part", "--held-out", "0.25")[1]
    )
    code, _, errors = run(*last.split()[2:], *QUICK, *AS_GIVEN, "--attention-training", "untrained")
    assert code == 0 and "of part: 6 normal images fitted, 6 scored by cross-validation" in errors


def test_drawing_the_sample_set(run, tmp_path, monkeypatch):
    from attentdiffernet.datasets import sample

    asked = {}
    monkeypatch.setattr(sample, "write", lambda out, **options: asked.update(out=out, **options))
    code, output, _ = run("datasets", "sample", "--out", tmp_path / "s", "--seed", "4")
    assert code == 0 and (asked["out"], asked["seed"]) == (tmp_path / "s", 4)
    assert f"attentdiffernet train {tmp_path / 's'}/wafer" in output


def test_a_fault_of_the_program_is_no_fault_of_the_user_and_keeps_its_traceback(run, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "summarise", lambda _: np.zeros(2).reshape(3))
    with pytest.raises(ValueError, match="cannot reshape"):
        run("summarise", tmp_path)
