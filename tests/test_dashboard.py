"""Every page of the dashboard on the committed score files, without a browser."""

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from streamlit.components.v2 import manifest_scanner
from streamlit.config import get_option, set_option
from streamlit.testing.v1 import AppTest

from attentdiffernet.datasets import category_title
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.errors import DatasetError, ResultsError
from attentdiffernet.study import records as results
from attentdiffernet.study.comparison import grouped, training_once
from attentdiffernet.study.failures import failures
from attentdiffernet.study.formats import interval_text, p_text, points
from attentdiffernet.study.statistics import auroc, delong_test_of_means, percentile_among
from attentdiffernet.study.tables import overview_frame, overview_text
from attentdiffernet.study.usual import usual, usual_groups
from attentdiffernet.words import ON_WHITE, PAPER_VARIANTS, percent, score_text, times_text
from demo import shipped
from demo.dashboard import widgets
from demo.markup import literal
from demo.service import catalogue, comparison, own_results, private
from demo.service.comparison import MAX_IMAGES
from demo.service.rate import on_slider
from demo.service.roc import roc_page
from demo.service.stranger import Stranger
from demo.service.training import making, own
from demo.service.training.run import Step, Trained
from demo.service.training.state import Own
from demo.service.training.trainings import Trainings
from demo.service.training.visit import Visit

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["overview", "roc", "ablations", "failures", "compare", "attention", "figures", "method"]
KEY = "sample/wafer"
PATIENCE_S = 240  # for a loaded machine
IMAGE = "scratch/obvious_001.png"
COMPARED = f"Your photographs (up to {MAX_IMAGES})"


@pytest.fixture(scope="module", autouse=True)
def _as_served():
    """AppTest does not read the config.toml of the dashboard, and looks through all packages of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", lambda *_, **__: [])
        magic = get_option("runner.magicEnabled")
        set_option("runner.magicEnabled", False)
        yield
        set_option("runner.magicEnabled", magic)


@pytest.fixture
def visit():
    """visit(page, **address) -> the page, as a link to it shows it."""

    def build(page, **address):
        at = AppTest.from_file(str(ROOT / "demo" / "dashboard" / "app.py"), default_timeout=PATIENCE_S)
        at.run()  # registers the pages
        at.switch_page(f"{page}.py")
        for name, value in address.items():
            at.query_params[name] = value
        return whole(at.run())

    return build


def whole(at):
    """The page, unless something was raised on it."""
    assert not at.exception, at.exception[0].value
    return at


def opened(at, label="As a table, to sort and to copy"):
    """The page with that part of it open, which is made on demand."""
    at.session_state[f"on demand: {label}"] = True
    return whole(at.run())


def runs(key=KEY):
    return shipped.of_setting(key, next(iter(shipped.settings(key))))


def in_groups():
    """Everything measured, seeds of one recipe together."""
    return [m for group in grouped(shipped.measured()) for m in group.runs]


def html(at):
    return " ".join(element.proto.body for element in at.get("html"))


def charts(at):
    """The Plotly figures, by the first word of their alt text."""
    return {e.proto.alt.split(" ")[0]: json.loads(e.proto.spec) for e in at.get("plotly_chart")}


def stills(at):
    """The alternative texts of figures that need no pointer."""
    return re.findall("<div class='still'><img [^>]*alt='([^']*)'", html(at))


def numbers(values):
    """A list in a figure, which Plotly may have packed."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return values


def widget(at, kind, label):
    return next(element for element in at.get(kind) if element.label == label)


# -- every page


@pytest.mark.parametrize("page", ["overview", "roc", "ablations", "failures", "method"])
def test_a_page_of_results_opens(visit, page):
    at = visit(page)
    assert at.title[0].value
    assert not at.error


@pytest.mark.parametrize("page", ["compare", "attention", "figures"])
def test_a_page_of_models_opens_and_says_what_to_do(visit, page):
    at = visit(page, category=KEY, image=IMAGE, columns="none")
    assert at.title[0].value
    assert not at.error
    if page == "compare":
        assert "Drop photographs" in at.info[0].value
    if page == "attention":
        config = json.loads((shipped.MODELS / KEY / "cbam" / "config.json").read_text())
        said = " ".join(element.value for element in (*at.warning, *at.info))
        trained = config["options"]["attention"]["training"] != "untrained"
        assert ("were trained" if trained else "untrained (random)") in said
        assert ("between 0 and 2" if trained else "between 0 and 1") in said
        assert [alt for alt in stills(at) if alt.startswith("Channel gates of Block 3 (256 channels) at 3 scales")]
        at = opened(at, "Grad-CAM at any layer and scale")
        assert "raise the anomaly score" in " ".join(element.value for element in at.markdown)


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        ("failures", {"category": "nope/x"}),
        ("failures", {"category": KEY, "image": "no.png"}),
        ("roc", {"category": KEY, "setting": "zzz"}),
        ("attention", {"category": KEY, "variant": "zz"}),
        ("figures", {"category": KEY, "image": IMAGE, "columns": "none", "method": "zz"}),
        ("overview", {"dataset": "zz"}),
    ],
)
def test_what_an_address_asks_for_in_vain_is_told_once(visit, page, asked):
    name, value = list(asked.items())[-1]
    at = visit(page, **asked)
    (said,) = [warning.value for warning in at.warning if "The link asks for" in warning.value]
    assert f"{name} '{value}'" in said.replace("\\", "")
    assert not any("The link asks for" in warning.value for warning in whole(at.run()).warning)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "method"])
def test_a_page_without_anything_tells_what_to_do(visit, page, monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "RESULTS", tmp_path)
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    at = visit(page)
    command = (
        "attentdiffernet evaluate" if page in ("overview", "roc", "ablations", "failures") else "attentdiffernet train"
    )
    assert command in at.info[0].value


def test_damaged_results_are_a_sentence_not_a_crash(visit, monkeypatch, tmp_path):
    (tmp_path / "runs.csv").write_text("run,what\n")
    monkeypatch.setattr(shipped, "RESULTS", tmp_path)
    at = visit("overview")
    assert "the columns must be" in at.error[0].value


def test_nonsense_in_the_address_is_passed_over(visit):
    at = visit("roc", category="nothing/here", fpr="many", by="magic", log="perhaps", variant="<b>")
    assert widget(at, "selectbox", "Category").value == shipped.measured_categories()[0]
    assert at.slider[0].value == 5.0


@pytest.mark.process
def test_pages_of_tables_do_not_wait_for_torch():
    heavy = ("torch", "plotly", "matplotlib", "sklearn")
    code = f"import sys, demo.service.roc; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- overview


def test_the_overview_shows_the_usual_methods_and_published_numbers_apart(visit):
    assert "class='forest'" not in html(visit("overview")), "the answer first"
    at = opened(visit("overview"), "AUROC of every method")
    groups = usual_groups(shipped.measured())
    assert all(group.auroc_text in html(at) for group in groups)
    lines = sum(1 + len(group.runs) * (len(group.runs) > 1) for group in groups)
    assert html(at).count("class='row ") == lines and "optimistic" not in html(at)
    compared = [group for group in groups if group.test]
    assert html(at).count("<div class='line ") == len(compared) > 0
    assert all(f"{points(group.test.difference)} <small>" in html(at) for group in compared)
    assert not at.dataframe
    (published,) = (element.value for element in opened(at, "Published elsewhere").dataframe)
    assert list(published["source"]) == list(shipped.published()["source"])
    assert "row published" not in html(at) and "row published" in html(visit("overview", published="True"))


def test_what_a_visitor_closes_stays_closed(visit):
    at = visit("ablations")
    for is_open in (True, False, True, False):  # what it holds writes its own choice into the address
        at.session_state["on demand: Every run"] = is_open
        at = whole(at.run())
        assert ("class='forest'" in html(at)) == is_open


EVERYTHING = {"category": "all", "best_on_test": "True"}


def test_the_ablations_show_what_the_score_files_say(visit):
    measured = opened(visit("ablations", **EVERYTHING)).dataframe[0].value
    found = in_groups()
    assert len(measured) == len(found)
    for row, m in zip(measured.itertuples(), found, strict=True):
        assert row.auroc == pytest.approx(100 * auroc(m.labels, m.values), abs=0.051)
        assert np.isnan(row.difference) == (m.run.variant == "none" or m.delong is None)
    assert "source" not in measured, "measured and published stand apart"


def test_one_category_is_shown_at_first_and_best_on_test_only_if_asked_for(visit):
    at = opened(visit("ablations", category=KEY))
    here = [m for m in in_groups() if m.key == KEY]
    assert list(at.dataframe[0].value["run"]) == [m.run.run for m in here if not m.best_on_test]
    at = opened(visit("ablations", category=KEY, best_on_test="True"))
    assert sorted(at.dataframe[0].value["run"]) == sorted(m.run.run for m in here)
    assert "This is optimistic" in " ".join(caption.value for caption in at.caption)


def test_numbers_of_a_table_stay_in_one_line_and_sentences_get_room(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets.st, "html", shown.append)
    row = ["SE", "gates trained on synthetic defects", "+4.0 (3 seeds)", "95.5 %", "scratch", "<b>1</b> of 2"]
    widgets.table(["", "Training", "Bottle", "AUROC", "Defect", "Found"], [row])
    cells = dict(re.findall(r"<td(.*?)>(.*?)</td>", shown[0]))
    assert cells == {
        " class='long'": "gates trained on synthetic defects",
        " class='nowrap'": "95.5 %",
        "": "<b>1</b> of 2",
    }
    assert "<td class='nowrap'>+4.0 (3 seeds)</td>" in shown[0] and "<td>scratch</td>" in shown[0]


def test_the_table_to_copy_holds_every_run_with_all_digits(visit):
    at = opened(visit("ablations", **EVERYTHING))
    copied = pd.read_csv(io.StringIO(at.code[0].value)).fillna({"attention_training": ""})
    pd.testing.assert_frame_equal(copied, overview_frame(in_groups()), check_dtype=False, rtol=1e-8)
    at = opened(visit("ablations", format="latex", **EVERYTHING))
    rows = [line for line in at.code[0].value.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(grouped(shipped.measured()))
    assert all(row.count(" & ") == 8 for row in rows)
    at = opened(visit("ablations", format="markdown", **EVERYTHING))
    assert all(line.count(" | ") == 8 for line in at.code[0].value.splitlines())


def test_the_order_is_that_of_the_address(visit):
    for order, key in (("auroc", "auroc"), ("difference", "difference")):
        shown = list(opened(visit("ablations", order=order, **EVERYTHING)).dataframe[0].value["run"])
        groups = grouped(shipped.measured())
        values = [getattr(g, key) for g in groups if np.isfinite(getattr(g, key)) and not g.first.best_on_test]
        by_run = {m.run.run: (not m.best_on_test, getattr(group, key)) for group in groups for m in group.runs}
        finite = [by_run[run] for run in shown if np.isfinite(by_run[run][1])]
        assert finite == sorted(finite, reverse=True), "best on test comes last"
        assert finite[0][1] == max(values)


@pytest.fixture
def repeated(monkeypatch, tmp_path):
    """Results of three seeds, SE with a second recipe of one seed, and a baseline: (what was measured, its names)."""
    rng = np.random.default_rng(0)
    scores = runs()["none"].scores
    for seed in (0, 1, 2):
        for variant, training in (("none", ""), ("se", "untrained"), ("cbam", "untrained"), ("gaussian", "")):
            _add(tmp_path, scores, f"{variant}-s{seed}", variant, seed, training, rng)
    _add(tmp_path, scores, "se-trained-s0", "se", 0, "proxy", rng)
    monkeypatch.setattr(shipped, "RESULTS", tmp_path)
    return shipped.measured()


def _add(folder, scores, name, variant, seed, training, rng):
    noisy = scores.assign(score=scores["score"] * rng.uniform(0.7, 1.4, len(scores)))
    results.write_scores(results.score_path(folder, "sample", "wafer", name), noisy)
    values = {"run": name, "dataset": "sample", "category": "wafer", "variant": variant, "seed": seed}
    values |= {"backbone": "bundled", "attention_training": training, "epochs": 45, "selection": "last", "n_views": 16}
    results.append_run(folder, results.Run(**values, commit="", source="a test"))


def test_seeds_are_gathered_and_recipes_are_told_apart(repeated):
    groups = {group.first.name: group for group in grouped(repeated)}
    sizes = {name: len(group.runs) for name, group in groups.items()}
    assert sizes == {"none": 3, "se": 3, "se, attention proxy": 1, "cbam": 3, "gaussian": 3}
    areas = [auroc(m.labels, m.values) for m in groups["cbam"].runs]
    mean, spread = (float(number) for number in re.findall(r"[\d.]+", groups["cbam"].auroc_text)[:2])
    assert (mean, spread) == pytest.approx((100 * np.mean(areas), 100 * np.std(areas, ddof=1)), abs=0.051)
    for m in groups["cbam"].runs:
        base = next(b for b in groups["none"].runs if b.run.seed == m.run.seed)
        assert m.delong.difference == pytest.approx(m.interval.auroc - base.interval.auroc), "pairs share a seed"
        assert m.bootstrap.difference == pytest.approx(m.delong.difference)
    assert list(shipped.settings(KEY)) == ["bundled-0", "bundled-1", "bundled-2"]
    assert len(shipped.of_setting(KEY, "bundled-0")) == 5 and len(shipped.of_setting(KEY, "bundled-1")) == 4


def test_the_ablations_show_mean_spread_and_every_seed(visit, repeated):
    at = opened(visit("ablations"), "Every run")
    groups = grouped(repeated)
    assert html(at).count("<details>") == sum(len(group.runs) > 1 for group in groups) == 4
    assert all(group.auroc_text in html(at) for group in groups)
    assert all(interval_text(m.interval) in html(at) for m in repeated)
    assert sorted(opened(at).dataframe[0].value["run"]) == sorted(m.run.run for m in repeated)
    for group in groups:
        if group.first.run.variant == "none":
            assert group.test is None and group.difference_text == ""
            continue
        own, others = [m.values for m in group.runs], [m.base["score"] for m in group.runs]
        p_value = delong_test_of_means(group.first.labels, own, others).p_value
        assert group.difference_text.endswith(p_text(p_value, "p"))
        assert p_text(p_value) in overview_text(group.runs, "markdown")


@pytest.mark.parametrize("page", ["compare", "attention", "figures"])
def test_a_category_of_which_only_some_detectors_can_be_used_says_why(visit, monkeypatch, page):
    monkeypatch.delenv("ATTENTDIFFERNET_DOWNLOAD", raising=False)
    monkeypatch.setattr(catalogue, "imagenet_at_hand", lambda: False)
    at = visit(page, category="mvtec_ad/bottle")
    said = " ".join([html(at), *(element.value for element in at.info)])
    assert "AlexNet" in said and "ImageNet weights" in said
    assert ("No variant of DifferNet" if page == "attention" else "Not available on this machine: DifferNet") in said
    assert not [one for one in at.get("button_group") if one.label.startswith("Map of DifferNet")]


@pytest.mark.parametrize("page", ["roc", "failures"])
def test_a_seed_can_be_chosen(visit, repeated, page):
    at = visit(page, category=KEY)
    assert widget(at, "selectbox", "Backbone and seed").value == "bundled-0"
    short, training = training_once(usual(shipped.of_setting(KEY, "bundled-0").values()))
    assert [m.title for m in short] == ["DifferNet", "AttentDifferNet (SE)", "AttentDifferNet (CBAM)"]
    assert all(m.title in html(at) for m in short) and training == "Attention: gates untrained."
    assert any(training in caption.value for caption in at.caption)
    assert "by a classifier" not in html(at)
    at = visit(page, category=KEY, setting="bundled-2", variant="cbam")
    m = shipped.of_setting(KEY, "bundled-2")["cbam"]
    worst = f"{score_text(m.of_class(0).max())}"
    assert (f"threshold {score_text(m.at_fpr(0.05).threshold)}" if page == "roc" else worst) in html(at)


def test_the_demo_shows_one_curve_per_variant_with_its_seeds_together(repeated):
    page = roc_page(KEY)
    assert len(page.curves) == len(page.groups) == 3 and len(page.rows) == len(repeated)
    assert [len(group.runs) for group in page.groups] == [3, 3, 3]
    assert len({curve.title for curve in page.curves}) == 3
    assert page.figure().layout.height > 0


# -- ROC


def test_curve_histogram_and_counts_follow_the_slider_at_once(visit):
    at = visit("roc", category=KEY, explore="True")
    for rate in (10.0, 30.0):
        at.slider[0].set_value(rate)
        whole(at.run())
        assert at.query_params["fpr"] == str(rate)
        points = {m.name: m.at_fpr(rate / 100) for m in usual(runs().values())}
        shown = charts(at)
        dots = [t for t in shown["ROC"]["data"] if t.get("mode") == "markers"]
        assert [numbers(dot["y"]) for dot in dots] == [pytest.approx([point.tpr]) for point in points.values()]
        first = next(iter(points.values()))
        assert stills(at)[0].endswith(f"; threshold {score_text(first.threshold)}")
        for point in points.values():
            assert f"<td class='right'>{point.true_positives}</td>" in html(at)
            assert f"threshold {score_text(point.threshold)}" in html(at)


def test_what_is_called_a_difference_to_differnet_is_one(visit):
    """Also of PatchCore with attention, whose own comparison is with PatchCore."""
    at, (plain, weighted) = visit("roc", category=KEY), (runs()[name] for name in ("none", "patchcore-places"))
    table = html(at).split("AUROC against DifferNet")[1].split("</table>")[0]
    (row,) = (row for row in table.split("<tr>") if "Weighted PatchCore" in row)
    assert f"{points(auroc(weighted.labels, weighted.values) - auroc(plain.labels, plain.values))} points" in row


def test_more_curves_are_drawn_if_asked_for(visit):
    best = next(m for m in runs().values() if m.best_on_test)
    assert best.title not in stills(visit("roc", category=KEY))[0]
    at = visit("roc", category=KEY, curves=["none", best.name])
    assert best.title in stills(at)[0] and html(at).count("<div class='card") == 2


def test_a_link_reproduces_the_view(visit):
    at = visit("roc", category=KEY, fpr="20.0", log="True", variant="se", explore="True")
    at.slider[0].set_value(25.0)
    whole(at.run())
    again = visit("roc", **at.query_params)
    assert again.slider[0].value == 25.0
    assert stills(again) == stills(at) and len(stills(at)) == 1, "the histogram; the curves are to be explored"
    assert charts(again)["ROC"]["layout"]["xaxis"]["type"] == "log"


def test_a_threshold_sets_the_others_to_the_same_share_of_normals(visit):
    m = next(m for m in usual(runs().values()) if m.run.variant == "se")
    at = visit("roc", category=KEY, by="threshold", variant=m.name)
    slider = at.select_slider[0]
    assert slider.value == pytest.approx(m.at_fpr(0.05).threshold)
    assert len(slider.options) == m.values.nunique(), "a step from image to image, over how many powers of ten ever"
    threshold = sorted(m.values)[-3]
    slider.set_value(threshold)
    whole(at.run())
    assert f"threshold {score_text(threshold)}" in html(at)
    others = [o.at_fpr(m.at(threshold).fpr) for o in usual(runs().values()) if o.name != m.name]
    assert all(f"threshold {score_text(point.threshold)}" in html(at) for point in others)
    again = visit("roc", **at.query_params)
    assert again.select_slider[0].value == threshold
    assert visit("roc", category=KEY, by="threshold", threshold="-1e9").select_slider[0].value == min(
        runs()["none"].values
    )


def test_a_shipped_threshold_is_that_of_the_model(visit):
    at = visit("roc", category=KEY, by="shipped")
    thresholds = {m.run.variant: t for m in runs().values() if (t := shipped.shipped_threshold(m))}
    assert list(thresholds) == [*PAPER_VARIANTS, "patchcore-places"]
    for variant, found in thresholds.items():
        config = json.loads((shipped.MODELS / KEY / variant / "config.json").read_text())
        assert found.threshold == config["calibration"]["threshold"]
        assert f"threshold {score_text(config['calibration']['threshold'])}" in html(at)


# -- failures


def test_failures_are_the_worst_and_their_places_are_percentiles():
    found = runs()
    normals = failures(found, "normals", "se", 5)
    m = found["se"]
    assert [f.scores["se"] for f in normals] == sorted(m.of_class(0), reverse=True)[:5]
    anomalies = failures(found, "anomalies", "se", 5)
    assert [f.scores["se"] for f in anomalies] == sorted(m.of_class(1))[:5]
    for failure in (*normals, *anomalies):
        assert failure.place["se"] == pytest.approx(percentile_among(m.of_class(0), failure.scores["se"]))
    spreads = [f.spread for f in failures(found, "disagreements", "se", 10**6)]
    assert spreads == sorted(spreads, reverse=True) and spreads[-1] > 0
    with pytest.raises(ResultsError, match="no list"):
        failures(found, "luck", "se")


def test_a_failure_is_looked_at_by_its_button_and_by_its_address(visit):
    worst = failures(runs(), "anomalies", "cbam", 3)
    at = visit("failures", category=KEY, variant="cbam", list="anomalies")
    assert at.header[0].value == literal(worst[0].image)
    at.button(f"look-anomalies-{worst[2].image}").click()
    whole(at.run())
    assert at.header[0].value == literal(worst[2].image)
    assert at.query_params["image"] == worst[2].image
    captions = {picture.caption for image in at.image for picture in image.proto.imgs}
    assert captions >= {"Image", "DifferNet", "AttentDifferNet (CBAM)"}


def test_as_many_failures_as_asked_for(visit):
    at = visit("failures", category=KEY, list="anomalies", n="24")
    assert sum(str(button.key).startswith("look-") for button in at.button) == 24
    cards = next(body for element in at.get("html") if (body := element.proto.body).startswith("<div class='place'>"))
    first = usual(runs().values())[0]
    worst = failures({first.name: first}, "anomalies", first.name, 1)[0]
    times = times_text(worst.scores[first.name], shipped.shipped_threshold(first).threshold)
    assert f"<b>{times}</b> threshold" in cards
    assert cards.count("<img ") == len(usual(runs().values())), "where its score lies among those of normal images"


def test_disagreements_are_drawn_by_two_runs(visit):
    at = visit("failures", category=KEY, list="disagreements", variant="none", against="patchcore-places")
    (drawn,) = (json.loads(chart.proto.spec) for chart in at.get("plotly_chart"))
    m, other = runs()["none"], runs()["patchcore-places"]
    assert drawn["layout"]["yaxis"]["title"]["text"].startswith("Weighted PatchCore")
    thresholds = [shipped.shipped_threshold(one).threshold for one in (m, other)]
    assert numbers(drawn["data"][0]["x"]) == pytest.approx(m.of_class(0) / thresholds[0])
    assert numbers(drawn["data"][1]["y"]) == pytest.approx(np.clip(other.of_class(1) / thresholds[1], 0.01, 100))


def test_defects_have_an_auroc_each(visit):
    m = runs()["none"]
    found = m.auroc_by_defect
    kind = next(iter(found))
    here = m.scores[(m.scores["label"] == 0) | (m.scores["defect"] == kind)]
    assert found[kind] == auroc(here["label"], here["score"])
    at = visit("roc", category=KEY)
    assert all(kind.replace("_", " ") in html(at) for kind in found)
    assert f">{100 * found[kind]:.1f} %</td>" in html(at)


def test_thresholds_are_of_one_kind_at_a_time(visit):
    first = usual(runs().values())[0]
    worst = failures({first.name: first}, "anomalies", first.name, 1)[0]
    assert shipped.shipped_threshold(first).threshold != first.at_fpr(0.05).threshold
    for way, threshold in {
        "shipped": shipped.shipped_threshold(first).threshold,
        "rate": first.at_fpr(0.05).threshold,
    }.items():
        at = visit("failures", category=KEY, list="anomalies", variant=first.name, thresholds=way)
        assert html(at).count(f"{times_text(worst.scores[first.name], threshold)}</b> threshold") >= 1
        assert f"<dt>Threshold</dt><dd>{score_text(threshold)}" in html(at)


def test_without_images_the_page_says_so_and_works_from_score_files(visit, monkeypatch):
    monkeypatch.setattr(shipped, "images_at_hand", lambda key: False)
    at = visit("failures", category=KEY)
    assert "not on this machine" in at.info[0].value and shipped.DATA_ENVIRONMENT in at.info[0].value
    worst = failures(runs(), "normals", "none", 8)
    assert all(failure.image in html(at) for failure in worst)
    at.selectbox[-1].set_value(worst[3].image)
    whole(at.run())
    assert at.header[0].value == literal(worst[3].image)


def test_images_of_other_data_sets_are_looked_up_below_the_folder_named(monkeypatch, tmp_path):
    monkeypatch.delenv(shipped.DATA_ENVIRONMENT, raising=False)
    folder = tmp_path / "mvtec_ad" / "bottle" / "test" / "good"
    folder.mkdir(parents=True)
    (folder / "000.png").write_bytes(b"file")
    assert shipped.image_file("mvtec_ad/bottle", "good/000.png") is None
    monkeypatch.setenv(shipped.DATA_ENVIRONMENT, str(tmp_path))
    assert shipped.images_at_hand("mvtec_ad/bottle")
    assert shipped.image_file("mvtec_ad/bottle", "good/000.png") == b"file"
    assert shipped.image_file("mvtec_ad/bottle", "good/001.png") is None


@pytest.mark.parametrize("name", ["scratch/moderate_000.png", "good/002.png"])
def test_a_sample_image_is_drawn_again_as_it_was_written(category, name):
    written = category / "test" / name  # 8 images to train on and other counts: other seeds, so another image
    assert written.is_file() and file_of("wafer", name) != written.read_bytes()
    assert file_of("wafer", name) == file_of("wafer", name)


def test_a_sample_image_that_is_not_in_the_set_is_refused():
    for name in ("scratch/hard_020.png", "good/000.jpg", "../x.png", ""):
        with pytest.raises(DatasetError, match="no image"):
            file_of("wafer", name)


# -- own results


def csv_of(scores):
    return scores.to_csv(index=False, columns=["image", "defect", "label", "score"]).encode()


def test_own_results_are_shown_instead_and_stay_in_the_session(visit, monkeypatch, tmp_path):
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    at = visit("roc", category=KEY)
    files = [(f"{name}.csv", csv_of(runs()[name].scores), "text/csv") for name in ("none", "patchcore")]
    widget(at, "file_uploader", "Or its zip, or score files").set_value(files)
    at = whole(at.run())
    assert "2 runs in 1 category" in at.info[0].value
    assert widget(at, "selectbox", "Category").options == [category_title("own/uploaded")]
    assert percent(runs()["none"].interval.auroc) in stills(at)[0]
    other = visit("roc", category=KEY)
    assert not other.info and "own/uploaded" not in shipped.measured_categories()
    widget(at, "file_uploader", "Or its zip, or score files").set_value([("none.csv", b"image,score\n", "text/csv")])
    at = whole(at.run())
    assert "The results of this project are shown" in at.error[0].value and not at.info
    assert widget(at, "selectbox", "Category").options == widget(other, "selectbox", "Category").options


def test_a_folder_of_results_comes_as_a_zip_and_leads_nowhere_else(tmp_path):
    first, *rest = (shipped.RESULTS / "runs.csv").read_text().splitlines()
    files = {"runs.csv": "\n".join([first, *(line for line in rest if f",{KEY.replace('/', ',')}," in line)])}
    files |= {
        str(path.relative_to(shipped.RESULTS)): path.read_text()
        for path in (shipped.RESULTS / "scores" / KEY).iterdir()
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {**files, "a b/evil.csv": "x", "notes.txt": "x", ".hidden.csv": "x"}.items():
            archive.writestr(f"my results/{name}", content)
    found = own_results.take([("results.zip", stream.getvalue())], tmp_path)
    assert {m.run.run for m in found} == {m.run.run for m in shipped.of_category(KEY)}
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(files)
    one_by_one = [(f"chosen/{name}", content.encode()) for name, content in files.items()]
    assert len(own_results.take([*one_by_one, ("chosen/../evil.csv", b"x")], tmp_path / "again")) == len(found)
    assert not (tmp_path / "evil.csv").exists()
    options = next(name for name in files if name.endswith(".json"))
    with pytest.raises(ResultsError, match="damaged"):
        own_results.take([*one_by_one, (f"chosen/{options}", b'{"findings": 1}')], tmp_path / "damaged")
    with pytest.raises(ResultsError, match="No run was found"):
        own_results.take([("runs.json", b"{}")], tmp_path / "nothing")
    with pytest.raises(ResultsError, match=r"^mine\.csv, line 1: the columns must be"):
        own_results.take([("mine.csv", b"a,b\n")], tmp_path / "columns")
    with pytest.raises(ResultsError, match=r"^runs\.csv, line 1: the columns must be"):
        own_results.take([("runs.csv", b"a,b\n")], tmp_path / "rows")


def test_score_files_of_one_name_are_runs_of_their_own(tmp_path):
    scores = next((shipped.RESULTS / "scores" / KEY).glob("*.csv")).read_bytes()
    names = ["scores-2.csv", "a/scores.csv", "b/scores.csv", "scores (1).csv", "scores.csv"]
    found = own_results.take([(name, scores) for name in names], tmp_path)
    assert sorted(m.run.run for m in found) == ["scores", "scores-2", "scores-3", "scores-4", "scores__1_"]


def test_archives_are_counted_together_before_the_next_one_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(own_results, "LIMITS", dataclasses.replace(own_results.LIMITS, total_bytes=2500))
    stream, opened = io.BytesIO(), []
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("scores.csv", b"x" * 1000)
    source = own_results.open_source
    monkeypatch.setattr(own_results, "open_source", lambda *what: opened.append(what) or source(*what))
    with pytest.raises(ResultsError, match="That is more than"):
        own_results.take([(f"{k}.zip", stream.getvalue()) for k in range(9)], tmp_path)
    assert len(opened) == 3


# -- own parts


def trained_at_once(process, photographs, folder, name, choice):
    """In place of a training: a shipped model, and scores of two photographs."""
    yield Step("training", 1, 2, 1.0)
    shutil.copytree(shipped.MODELS / "sample" / "gear" / "none", folder / "model")
    yield Trained(folder / "model", {0: 0.1, 1: 0.2})


def photographs(n, seed=0):
    """Small ones that differ."""
    files = []
    for k in range(seed, seed + n):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (60, 60, 3), np.uint8)).save(
            file := io.BytesIO(), "PNG"
        )
        files.append((f"part {k}.png", file.getvalue(), "image/png"))
    return files


def made(at):
    """The page when what is being made has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while at.session_state["visit"].progress and time.monotonic() < deadline:
        time.sleep(0.05)
    return whole(at.run())


def test_a_detector_of_own_parts_is_trained_judged_with_taken_away_and_brought_back(visit, monkeypatch, tmp_path):
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    monkeypatch.setattr(making, "train", trained_at_once)
    at = visit("own", rate="20.0")
    assert "5 to 200 photographs" in at.info[0].value and not at.slider
    widget(at, "button", "Train").click()
    assert "needs 5 photographs of good parts or more, got 0" in made(whole(at.run())).error[0].value.replace("\\", "")
    assert list(tmp_path.iterdir()) == []

    widget(at, "file_uploader", "Good parts: 5 to 200 photographs, or a zip").set_value(photographs(5))
    widget(at, "button", "Train").click()
    at = made(whole(at.run()))
    mine = at.session_state["visit"].mine
    assert "Trained" in at.success[0].value and mine.typical.is_file()
    assert "of 100 good parts" in html(at) and "The most unusual photographs" in html(at)
    assert at.slider[0].value == 20 and mine.rate == 0.2, "that of the address"

    to_judge = [*photographs(2, seed=4), ("no.png", b"hello", "image/png")]
    widget(at, "file_uploader", "Parts to judge (up to 50)").set_value(to_judge)
    at = whole(at.run())
    assert "of 2 anomalous" in " ".join(element.value for element in at.markdown)
    assert html(at).count('class="badge') == 2 and "no.png is not an image" in html(at)
    assert "1 part is almost the same as a photograph that it was trained on" in html(at)
    at.slider[0].set_value(50.0)
    at = whole(at.run())
    lenient = at.session_state["visit"].mine
    assert lenient.rate == 0.5 and lenient.calibration.threshold < mine.calibration.threshold
    assert at.query_params["rate"] in ("50.0", ["50.0"]) and lenient.tests == at.session_state["visit"].mine.tests

    promised, threshold = lenient.promised.false_positive_rate, lenient.calibration.threshold
    (model,) = [e for e in at.file_uploader if e.label.startswith("A model")]
    model.set_value(("model.zip", own.packed(lenient.detector), "application/zip"))
    widget(whole(at.run()), "button", "Bring it back").click()
    at = whole(at.run())
    back = at.session_state["visit"]
    assert at.slider[0].value == on_slider(promised), "that of the model"
    assert "is back" in at.success[0].value and back.mine.calibration.threshold == threshold
    assert lenient.gone and not back.mine.gone
    back.leave()
    assert list(tmp_path.iterdir()) == []


def test_parts_to_judge_are_written_once_and_those_before_are_removed(visit, monkeypatch, tmp_path):
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    monkeypatch.setattr(making, "train", trained_at_once)
    at = visit("own")
    widget(at, "file_uploader", "Good parts: 5 to 200 photographs, or a zip").set_value(photographs(5))
    widget(at, "button", "Train").click()
    at = made(whole(at.run()))
    here, (first, second) = at.session_state["visit"], photographs(2, seed=4)

    def judged(*parts):
        widget(at, "file_uploader", "Parts to judge (up to 50)").set_value(list(parts))
        shown = whole(at.run())
        return shown, [path for path in (here.mine.folder / "tests").rglob("*") if path.is_file()]

    assert len(judged(first, second)[1]) == 2 * len(judged(first)[1]) > 0
    shown, _ = judged(*[first] * 51)
    assert "50" in shown.error[0].value and not here.mine.tests
    monkeypatch.setattr(Visit, "changed", lambda *what: pytest.fail("it is tried again"))
    assert whole(at.run()).error, "what was refused is still said"
    here.leave()


def test_what_is_changed_while_another_detector_takes_over_does_not_bring_the_old_one_back(monkeypatch, tmp_path):
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    here = Visit(Trainings())
    before, after = Own.new(here.session), Own.new(here.session)
    here.take_over(before)
    changed = dataclasses.replace(before, rate=0.2)
    assert here.changed(changed) is changed is here.mine
    here.take_over(after)  # while parts were judged by the one before
    assert here.changed(dataclasses.replace(changed, rate=0.3)) is after is here.mine


# -- compare


def test_two_visitors_do_not_see_each_others_images(visit):
    at = visit("compare", category=KEY, detectors=["none", "patchcore-places"])
    widget(at, "file_uploader", COMPARED).set_value(
        [
            ("no.png", b"hello", "image/png"),
            ("good.png", file_of("wafer", "good/001.png"), "image/png"),
            ("mine.png", file_of("wafer", "donut/obvious_003.png"), "image/png"),
        ]
    )
    whole(at.run())
    table = at.dataframe[0].value
    assert list(table["Image"]) == ["mine.png", "good.png", "no.png"], "the worst first"
    assert "mine.png" in [header.value.replace("\\", "") for header in at.header], "and it is shown"
    assert table["Verdict"][0].startswith(("▲ anomalous by ", "✓ normal by all "))
    assert "could not be read" in table["Verdict"][2]
    assert html(at).count("Higher than") == 2
    other = visit("compare", category=KEY)
    assert not other.dataframe and "Drop photographs" in other.info[0].value
    assert "mine.png" not in str(other.session_state)


def test_a_picture_of_another_thing_is_offered_to_the_category_that_it_fits(visit, monkeypatch):
    """That it is told from a defect: tests/test_service.py."""
    known = catalogue.usable_categories()
    lost = {"sample/gear": Stranger(known["sample/gear"], known[KEY])}
    monkeypatch.setattr(comparison, "_stranger", lambda found, _: lost.get(found.category.key))
    at = visit("compare", category="sample/gear", detectors="patchcore-places")
    widget(at, "file_uploader", COMPARED).set_value(("a wafer.png", file_of("wafer", IMAGE), "image/png"))
    whole(at.run())
    assert lost["sample/gear"].sentence in " ".join(warning.value for warning in at.warning).replace("\\", "")
    whole(widget(at, "button", f"Inspect it as {category_title(KEY)}").click().run())
    assert at.query_params["category"] == KEY and not at.warning
    assert html(at).count("Higher than") == 1


def test_a_link_brings_the_choice_of_detectors_and_the_opacity_and_what_was_put_on_white_is_said(visit):
    at = visit("compare", category=KEY, detectors="none", opacity="0.0")
    assert widget(at, "button_group", "Detectors").value == ["none"] and not at.slider
    wafer = Image.open(io.BytesIO(file_of("wafer", IMAGE))).convert("RGBA")
    wafer.putpixel((0, 0), (0, 0, 0, 0))
    stream = io.BytesIO()
    wafer.save(stream, "PNG")
    widget(at, "file_uploader", COMPARED).set_value(("clear.png", stream.getvalue(), "image/png"))
    whole(at.run())
    assert widget(at, "slider", "Opacity of the heat, %").value == 0
    assert ON_WHITE in [caption.value for caption in at.caption]
    assert html(at).count("Higher than") == 1
    _, _, found = at.session_state["whole"]
    assert list(found.verdicts) == ["none"]


def test_a_figure_asks_only_the_detectors_that_it_shows_and_each_once(visit):
    at = visit("figures", category=KEY, image=IMAGE, columns=["none", "se"])
    (first,) = at.session_state["grid"].values()
    assert list(first.verdicts) == ["none", "se"]
    columns = widget(at, "button_group", "Detectors")
    whole(columns.set_value(["se"]).run())
    assert list(at.session_state["grid"].values()) == [first], "fewer are at hand"
    whole(columns.set_value(["none", "se", "cbam"]).run())
    (more,) = at.session_state["grid"].values()
    assert list(more.verdicts) == ["none", "se", "cbam"]


def test_a_broken_file_spoils_no_figure(visit):
    at = visit("figures", category=KEY, image=IMAGE, columns="none")
    widget(at, "file_uploader", "And your own").set_value(
        [("no.png", b"hello", "image/png"), ("mine.png", file_of("wafer", "donut/obvious_003.png"), "image/png")]
    )
    whole(at.run())
    assert [literal("no.png is not an image")[:8]] == [error.value[:8] for error in at.error]
    (preview,) = (picture for image in at.image for picture in image.proto.imgs)
    (alt,) = (image.proto.alt for image in at.image) if hasattr(at.image[0].proto, "alt") else (preview.alt,)
    assert "scratch obvious 001, mine by" in alt


# -- attention: maps against masks


@pytest.fixture
def maps(monkeypatch, tmp_path, detector):
    """A tiny model to open the page with, and results without maps yet: the folder of the results."""
    detector("se").save(tmp_path / "models" / KEY / "se")
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    monkeypatch.setattr(shipped, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def _maps(folder, variant, energy, targets=("defect",)):
    values = {"run": f"wafer-{variant}", "dataset": "sample", "category": "wafer", "variant": variant, "seed": 0}
    values |= {"backbone": "bundled", "attention_training": "", "epochs": 45, "selection": "last", "n_views": 16}
    rows = [
        (
            f"donut/{k:03d}.png",
            "donut",
            "grad-cam",
            kind,
            target,
            0.1,
            energy if kind == "raw" else 0.1,
            0.5,
            kind[0] == "e",
        )
        for k in range(4)
        for kind in results.MAP_KINDS
        for target in targets
    ]
    frame = pd.DataFrame(rows, columns=results.MAP_COLUMNS)
    frame["empty"] = frame["empty"].astype(int)
    results.write_maps(folder, results.Run(**values, commit="", source="a test"), frame)


def test_maps_against_masks_stand_below_the_maps(visit, maps):
    part = "Do the maps look at the defect?"
    at = opened(visit("attention", category=KEY, image=IMAGE), part)
    assert "Not measured for this category" in at.info[-1].value and f"DATA/{KEY}" in at.info[-1].value
    _maps(maps, "none", 0.1)
    _maps(maps, "se", 0.3, targets=("defect", "object"))
    at = opened(visit("attention", category=KEY, image=IMAGE), part)
    assert not at.error and "1.00 (1.00 to 1.00)" in html(at)
    cells = re.sub(" class='nowrap'", "", html(at))
    assert "3.00 (3.00 to 3.00)</td><td>+2.00, p &lt; 0.001</td><td>50 % (7 to 93)</td><td>10.0 %" in cells
    at = visit("attention", category=KEY, image=IMAGE, target="object", map="excess")
    assert "4, 4 maps all zero" in html(at) and "3.00" not in html(at)
    (table,) = (e.proto.body for e in at.get("html") if "Energy over chance" in e.proto.body)
    assert table.count("variant-se") == 1 and "variant-none" not in table, "DifferNet was not measured on objects"


def test_a_map_that_cannot_be_seen_is_told_of():
    from demo.service.verdict import Heat

    heights = {"none": 10.0, "se": 1.0, "cbam": -0.5}  # log2: 1,024 and 2 times what normals reach, and less than that
    heat = {variant: np.full((2, 2), height, np.float32) for variant, height in heights.items()}
    maps, scales = dict.fromkeys(heights, "grad-cam"), dict.fromkeys(heights, (0.0, 10.0))
    found = Heat(maps, heat, dict.fromkeys(heights, "A map."), scales)
    assert (
        found.visibility("se")
        == "Hardly visible on this scale: the highest place reaches 2 × what normal images reach."
    )
    assert found.visibility("cbam") == "No place of this map exceeds what normal images reach."
    assert "above the scale" in found.visibility("none")
    assert found.peak("cbam") is None and found.peak("none") and found.peak("cbam", own_scale=True)
    assert "does not show why" in found.contradiction("cbam", anomalous=True)
    assert "Normal all the same" in found.contradiction("none", anomalous=False)
    assert not found.contradiction("none", anomalous=True) and not found.contradiction("cbam", anomalous=False)
