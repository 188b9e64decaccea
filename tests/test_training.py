"""A visitor's own parts: photographs gathered and looked over; a detector trained, used, taken away, brought back."""

import asyncio
import csv
import dataclasses
import io
import json
import os
import subprocess
import time
import zipfile
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from gradio.state_holder import StateHolder

from attentdiffernet.errors import AttentDifferNetError, CheckpointError, DatasetError, ImageError
from attentdiffernet.findings import Calibration
from attentdiffernet.methods import load
from attentdiffernet.model_zip import FILES
from attentdiffernet.study.formats import interval_text
from attentdiffernet.study.statistics import auroc, auroc_interval, conformal_threshold, false_alarm_interval
from demo import shipped
from demo.service import private
from demo.service.comparison import compare_by
from demo.service.training import judging, making, own
from demo.service.training.answers import Answer, corrected, percentile, standing, unmet
from demo.service.training.asked import Asked, Progress
from demo.service.training.judging import Photograph, curve, flagged, judged, readable
from demo.service.training.numbers import answers_csv, verdicts_csv, verdicts_json, verdicts_zip
from demo.service.training.photographs import (
    Looked,
    Remark,
    gather,
    gather_to_judge,
    look_over,
    shows_the_same,
)
from demo.service.training.report import check_html, counts_text, report_page, summary_html
from demo.service.training.run import Step, Trained, train, worker
from demo.service.training.state import Own, rate_of
from demo.service.training.trainings import MOST_WAITING, STALE_S, Trainings
from demo.space import judge as space_judge
from demo.space import page
from demo.space import train as space


def photograph(seed, defect=False, size=(80, 80)):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    grey = 120 + 50 * np.sin(x / 4 + seed) + 6 * rng.normal(size=y.shape)
    if defect:
        grey[20:50, 30:60] = 250 * rng.random((30, 30))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own parts")
    for k in range(8):
        photograph(k).save(folder / f"part {k}.png")
    return sorted(folder.iterdir())


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


# -- photographs


def test_photographs_come_from_files_and_archives_under_names_of_our_own(parts, tmp_path):
    names = ["b/ü ß.PNG", "a/deep/er/x.png", "c.png", "__MACOSX/._c.png", "notes.txt"]
    archive = zipped(tmp_path / "Parts.ZIP", {name: png(photograph(30 + k)) for k, name in enumerate(names)})
    found = gather([archive, *parts[:2]], tmp_path / "private")
    assert [path.name for path in found] == ["000-x.png", "001-___.png", "002-c.png", "part 0.png", "part 1.png"]
    assert (tmp_path / "private") in found[0].parents
    pixels = np.asarray(Image.open(found[0]))
    assert np.array_equal(pixels, np.asarray(photograph(31))), "sorted by their names in the archive"


def test_what_cannot_be_trained_on_is_refused_in_a_sentence(parts, tmp_path):
    with pytest.raises(DatasetError, match="needs 5 photographs of good parts or more, got 2"):
        gather(parts[:2], tmp_path)
    with pytest.raises(DatasetError, match="more than 200"):
        gather(parts * 26, tmp_path)
    with pytest.raises(DatasetError, match="more than 50 defective parts"):
        gather_to_judge(parts * 7, tmp_path, "defective parts")
    assert gather_to_judge([], tmp_path, "defective parts") == []
    with pytest.raises(DatasetError, match=r"\.\."):
        gather([zipped(tmp_path / "evil.zip", {"../../x.png": b"1"})], tmp_path)
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DatasetError):
        gather([tmp_path / "no.zip"], tmp_path)
    phones = {f"IMG_{k}.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99) for k in range(5)}
    with pytest.raises(ImageError, match="is a HEIC or AVIF image, which cannot be read: save it as JPEG or PNG"):
        look_over(gather([zipped(tmp_path / "phone.zip", phones)], tmp_path))
    with pytest.raises(DatasetError, match="show the same"):
        look_over([parts[0]] * 5)


def test_unusual_photographs_are_named(parts, tmp_path):
    odd = {
        "copy": photograph(0),
        "wide": photograph(40, size=(120, 60)),
        "dark": photograph(41).point(lambda v: v // 9),
    }
    odd["soft"] = Image.fromarray(np.full((80, 80, 3), 130, np.uint8))
    for name, image in odd.items():
        image.save(tmp_path / f"{name}.png")
    files = [*parts, *(tmp_path / f"{name}.png" for name in odd)]
    remarks = {remark.sentence: [files[k].stem for k in remark.images] for remark in look_over(files).remarks}
    assert remarks.pop("12 photographs are few: the threshold is uncertain. 20 or more are better") == []
    assert list(remarks.values()) == [["copy"], ["wide"], ["dark", "soft"], ["dark"]]
    assert "1 photograph is very dark" in remarks and "2 photographs are much less sharp than most" in remarks


# -- the promise


def test_the_false_alarm_rate_of_one_draw_lies_where_it_is_said_to():
    assert false_alarm_interval(19, 0.05) == pytest.approx(stats.beta(1, 19).ppf([0.025, 0.975]))
    rng, inside = np.random.default_rng(0), []
    for _ in range(2000):
        threshold, rate = conformal_threshold(rng.random(40), 0.05)
        low, high = false_alarm_interval(40, rate)
        inside.append(low <= 1 - threshold <= high)  # of uniform scores, the share above is known
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


# -- a training


# What the worker trains on, smaller: it takes no options. As it is, it is started and ended further below.
SMALL_WORKER = """
import functools
from attentdiffernet.options import PatchCoreConfig
from demo.service.training import worker
worker.Options = functools.partial(worker.Options, image_size=128, patchcore=PatchCoreConfig(bank_size=200))
worker.main()
"""


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    popen = subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda asked, **how: popen([asked[0], "-c", SMALL_WORKER], **how))
        with worker() as process:
            *told, last = train(process, parts, tmp_path_factory.mktemp("private"), "my part", "patchcore-places")
    assert process.poll() is not None
    assert isinstance(last, Trained) and all(isinstance(step, Step) for step in told)
    assert {"features of training images", "calibrating"} <= {step.stage for step in told}
    return last


@pytest.mark.process
def test_what_is_trained_judges_and_survives_the_way_through_a_zip(trained, tmp_path):
    assert list(trained.folder.parent.iterdir()) == [trained.folder], "features that stages shared are gone"
    file = tmp_path / "model.zip"
    file.write_bytes(own.packed(load(trained.folder)))
    detector = own.unpacked(file, tmp_path / "back")
    assert load(file).calibration == detector.calibration, "the library and the command line read it, too"
    assert detector.key == "patchcore-places" and detector.data.category == "my part"
    assert sorted(trained.left_out) == list(range(8)), "every photograph is used, and scored by a bank without it"
    assert sorted(trained.left_out.values()) == pytest.approx(list(detector.calibration.scores))
    promise = own.promise(detector.calibration)
    assert (promise.n_images, promise.expected) == (8, pytest.approx(1 / 9)) and promise.low < 1 / 9 < promise.high
    photograph(99, defect=True).save(tmp_path / "bad.png")
    *_, found = compare_by(tmp_path / "bad.png", own.info(detector), {detector.key: detector})
    assert found.verdicts[detector.key].anomalous
    x, y = found.heat.peak(detector.key)
    assert 30 <= 80 * x <= 60 and 20 <= 80 * y <= 50, "where the defect is"


@pytest.mark.process
def test_whoever_stops_to_follow_ends_the_training(parts, tmp_path, monkeypatch):
    """Also one that stops while the photographs are looked at, when the process only imports what it needs."""
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    for n_steps in (1, 2, len(parts) + 2):  # before, while and after the photographs are looked at
        steps = making.trained(Own.new("visitor"), Asked(parts, [], "my part", "patchcore-places"))
        told = [next(steps) for _ in range(n_steps)]
        assert isinstance(told[-1], Progress)
        steps.close()
    assert len(started) == 2, "the photographs were not yet looked at in the first"
    assert all(process.poll() is not None for process in started) and not list(tmp_path.rglob("model"))


@pytest.mark.process
def test_a_process_that_has_died_is_told_of(parts, tmp_path):
    with worker() as process:
        process.kill()
        process.wait()
        with pytest.raises(AttentDifferNetError, match="ended unexpectedly"):
            list(train(process, parts, tmp_path, "my part", "patchcore-places"))


def test_an_unreadable_photograph_is_named(parts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(AttentDifferNetError, match=r"broken\.png"):
        look_over([*parts, broken])


def test_a_model_that_names_files_of_this_machine_is_refused(trained, tmp_path):
    config = json.loads((trained.folder / "config.json").read_text())
    config["options"]["weights"] = "/etc/passwd.pth"
    files = {name: (trained.folder / name).read_bytes() for name in FILES} | {"config.json": json.dumps(config)}
    with pytest.raises(CheckpointError, match="this page has"):
        own.unpacked(zipped(tmp_path / "evil.zip", files), tmp_path)
    damaged = bytearray(own.packed(load(trained.folder)))
    damaged[200:260] = b"\xff" * 60  # within the first file, which is compressed
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"damaged\.zip is no model"):
        own.unpacked(tmp_path / "damaged.zip", tmp_path)
    with pytest.raises(CheckpointError, match=r"other\.zip is no model: a model is a zip with config\.json"):
        own.unpacked(zipped(tmp_path / "other.zip", {"x.txt": "x"}), tmp_path)


# -- what it is checked with, another threshold, the report


@pytest.fixture(scope="module")
def judged_parts(parts, trained, tmp_path_factory):
    """Two defective parts, one that passes for good, one that cannot be read, and a name that is an attack."""
    folder = tmp_path_factory.mktemp("defective parts")
    names = ["clear.png", "<img src=x onerror=alert(1)>.png", "hidden.png", "broken.png"]
    for k, name in enumerate(names[:2]):
        photograph(60 + k, defect=True).save(folder / name)
    (folder / "hidden.png").write_bytes(parts[3].read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    defects = tuple(judged([folder / name for name in names], load(trained.folder)))
    tests = tuple(judged([parts[0]], load(trained.folder)))
    looked = Looked([Remark("1 photograph is odd", (2,))], look_over(parts).copies)
    mine = Own(tmp_path_factory.mktemp("private")).with_model(trained.folder)
    return dataclasses.replace(mine.with_good(parts, looked, trained.left_out), defects=defects, tests=tests)


@pytest.mark.process
def test_defective_parts_say_how_many_are_found_and_which_are_missed(judged_parts, trained):
    bad, normals = judged_parts.defects, load(trained.folder).calibration.scores
    assert [one.name for one in flagged(bad, max(normals))] == [one.name for one in readable(bad)[:2]]
    drawn = curve(judged_parts.detector, judged_parts.detector.calibration, bad)
    assert auroc(drawn.labels, drawn.scores) == np.mean([one.score > n for one in readable(bad) for n in normals])
    said = check_html(judged_parts)
    assert "<b>2 of 3 defective parts</b>" in said and "9.4 to 99.2 of 100" in said  # Clopper-Pearson of 2 of 3
    assert interval_text(auroc_interval(drawn.labels, drawn.scores)) in said
    missed, found = said.split("<h4>Missed: 1</h4>")[1].split("<summary>Found: 2</summary>")
    assert "hidden.png" in missed and "hidden.png" not in found and "broken.png is not an image" in found


@pytest.mark.process
def test_another_rate_judges_again_without_scoring(judged_parts, trained, monkeypatch, tmp_path):
    monkeypatch.setattr(judging, "compare_by", None)  # would fail
    scores = load(trained.folder).calibration.scores  # 8, ascending
    for rate, above, promised in ((0.01, 1, "11.1"), (0.05, 1, "11.1"), (0.12, 1, "11.1"), (0.4, 3, "33.3")):
        now = dataclasses.replace(judged_parts, rate=rate)
        assert now.detector.calibration.threshold == scores[8 - above]
        assert f"<b>{promised} of 100 good parts</b>" in summary_html(now)
        assert ("cannot promise less than 11.1" in summary_html(now)) == (rate < 1 / 9)
    between = tuple(Photograph(f"{k}.png", "", scores[k] + 1e-6) for k in (0, 3, 7))
    lenient, strict = (dataclasses.replace(judged_parts, defects=between, rate=rate) for rate in (0.8, 0.05))
    assert "<b>2 of 3 defective parts</b>" in check_html(lenient), "the threshold is the second of 8"
    assert "<b>1 of 3 defective parts</b>" in check_html(strict), "the threshold is the last"
    assert counts_text(between, lenient.detector.calibration) == "2 of 3 anomalous."
    with_broken = (*between, Photograph("broken.png", error="is damaged"))
    assert counts_text(with_broken, lenient.detector.calibration) == "2 of 3 anomalous, 1 could not be read."
    assert counts_text(with_broken[-1:], lenient.detector.calibration) == "1 could not be read."
    (tmp_path / "model.zip").write_bytes(own.packed(lenient.detector))
    back = own.unpacked(tmp_path / "model.zip", tmp_path / "back")
    assert back.calibration.threshold == scores[1] and rate_of(back) == pytest.approx(7 / 9)
    assert rate_of(load(trained.folder)) == 0.05, "as asked, not as few photographs allow"


class Attributes(HTMLParser):
    """All that a browser would take for a tag with attributes."""

    def __init__(self, page):
        super().__init__()
        self.found, self.seen = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.seen += data


@pytest.mark.process
def test_the_report_is_one_file_that_asks_nobody_and_runs_nothing(judged_parts):
    page = report_page(judged_parts).decode()
    read = Attributes(page)
    assert "<script" not in page and not [name for _, name, _ in read.found if name.startswith("on")]
    addresses = [value for _, name, value in read.found if name in ("src", "href", "srcset", "data", "action")]
    assert len(addresses) == 1 + 4 + 1 + 3 + 1, "remark, unusual, curve, defective parts, judged"
    assert all(address.startswith("data:image/") for address in addresses)
    assert "url(" not in page and "@import" not in page
    for text in ("<img src=x onerror=alert(1)>.png", "my part", "1 photograph is odd", "of 3 defective parts"):
        assert text in read.seen
    assert "Weighted PatchCore of my part" in read.seen
    assert "memory-bank" not in read.seen, "the card without its front matter"


# -- answers


def said(score, fine):
    return Answer(Photograph(f"{score}.png", "", score, digest=str(score)), fine)


def test_answers_move_the_threshold_as_little_as_they_ask_for():
    nineteen = Calibration(19.0, 1, 0.05, tuple(map(float, range(1, 20))), {})
    assert corrected(nineteen, []) == nineteen
    agreed = corrected(nineteen, [said(12.0, True), said(30.0, False)])
    assert agreed == nineteen, "verdicts that are confirmed change nothing"

    raised = corrected(nineteen, [said(25.0, True)])
    assert 25.0 < raised.threshold < 25.01 and raised.false_positive_rate == 0.05, "which it flags at most"
    assert raised.scores == nineteen.scores, "no sample of good parts"

    lowered = corrected(nineteen, [said(16.5, False)])
    assert 16.49 < lowered.threshold < 16.5
    assert lowered.false_positive_rate == 4 / 20  # 17, 18, 19 and a new one of 19 + 1
    between = corrected(nineteen, [said(16.5, False), said(17.5, True), said(18.5, False)])
    assert 17.5 < between.threshold < 17.51 and between.false_positive_rate == 3 / 20
    assert [one.photograph.score for one in unmet(between, [said(16.5, False), said(17.5, True)])] == [16.5]

    both = [said(25.0, True), said(10.0, False), said(26.0, False)]
    assert 25.0 < corrected(nineteen, both).threshold < 25.01, "a part that was fine is not flagged again"
    assert [one.photograph.score for one in unmet(corrected(nineteen, both), both)] == [10.0]
    negative = corrected(Calibration(-3.0, 1, 0.2, (-6.0, -5.0, -4.0, -3.0), {}), [said(-2.0, True)])
    assert -2.0 < negative.threshold < -1.99


def test_the_last_answer_about_a_photograph_stands_and_good_parts_count_in_the_percentile():
    log = [said(25.0, True), said(12.0, True), said(25.0, False)]
    assert [(one.photograph.score, one.fine) for one in standing(log)] == [(25.0, False), (12.0, True)]
    four = Calibration(4.0, 1, 0.2, (1.0, 2.0, 3.0, 4.0), {})
    assert percentile(four, [], 3.5) == 75
    assert percentile(four, [said(6.0, True), said(9.0, False)], 5.0) == 80  # above 4 of 5
    assert percentile(four, [said(6.0, True)], 6.0) == 90  # an equal one counts half


@pytest.mark.process
def test_what_was_said_judges_again_and_can_be_taken_back_and_taken_away(judged_parts, trained, monkeypatch, tmp_path):
    monkeypatch.setattr(judging, "compare_by", None)  # would fail
    now = dataclasses.replace(judged_parts, tests=judged_parts.defects)
    flagged_before = flagged(now.tests, now.calibration.threshold)
    worst = now.tests.index(flagged_before[0])
    fine = now.with_answer(worst, True)
    assert flagged(fine.tests, fine.calibration.threshold) == []
    assert "still holds, as an upper limit" in summary_html(fine) and "What you said" not in summary_html(now)
    assert fine.with_answer(3, True) == fine.with_answer(99, True) == fine, "3 could not be read"
    defect = now.with_answer(2, False)
    assert len(flagged(defect.tests, defect.calibration.threshold)) == 3
    assert "does not hold any more" in summary_html(defect)
    assert fine.without_last_answer() == now and now.without_last_answer() == now
    assert "No threshold fits all your answers: hidden.png scores" in summary_html(fine.with_answer(2, False))

    rows = list(csv.DictReader(io.StringIO(answers_csv(fine.with_answer(2, False)))))
    assert [(row["image"], row["said"]) for row in rows] == [
        (now.tests[worst].name, "good"),
        ("hidden.png", "defect"),
    ]
    with zipfile.ZipFile(io.BytesIO(verdicts_zip(fine))) as archive:
        assert archive.read("verdicts.csv").decode() == verdicts_csv(fine)
        maps = sorted(name for name in archive.namelist() if name.startswith("maps/"))
        assert len(maps) == 3 and Image.open(archive.open(maps[0])).width == 80
    rows = list(csv.DictReader(io.StringIO(verdicts_csv(fine))))
    assert [row["anomalous"] for row in rows] == ["0", "0", "0", ""] and rows[0]["said"] == "good"
    told = json.loads(verdicts_json(fine))
    assert told["threshold"] > told["threshold_of_the_promise"] and len(told["verdicts"]) == 4
    assert told["promised_false_alarm_rate"] == pytest.approx(1 / 9)

    (tmp_path / "model.zip").write_bytes(own.packed(fine.detector))
    back = own.unpacked(tmp_path / "model.zip", tmp_path / "back")
    mine = Own(tmp_path).with_model(tmp_path / "back" / "model")
    assert mine.calibration.threshold == back.calibration.threshold == fine.calibration.threshold


@pytest.mark.process
def test_answers_go_into_the_next_training_and_the_one_after(judged_parts, tmp_path):
    first = dataclasses.replace(judged_parts, tests=judged_parts.defects).with_answer(0, True).with_answer(2, False)
    for name in ("next", "after"):
        (tmp_path / name).mkdir()
    following = Own(tmp_path / "next").with_added(first)
    after = Own(tmp_path / "after").with_added(following)
    for mine in (following, after):
        assert [path.read_bytes() for path in mine.added] == [first.tests[0].path.read_bytes()]
        assert [path.read_bytes() for path in mine.added_defects] == [first.tests[2].path.read_bytes()]
        assert mine.added[0].parent == mine.folder and mine.answers == ()


@pytest.mark.process
def test_the_verdict_is_told_before_its_map_is_drawn(judged_parts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    found, seen = judged_parts.defects[0], judged_parts.defects[2]
    first, mapped, refused, *rest = judging.judging([found.path, broken, seen.path], judged_parts.detector)
    assert first.map_follows and not mapped.map_follows and first.score == mapped.score == found.score
    assert first.picture != mapped.picture == found.picture and refused.error
    assert [one.map_follows for one in rest] == [True, False]


@pytest.mark.process
def test_a_photograph_that_was_trained_on_is_named(judged_parts, parts, trained):
    training = look_over(parts).copies
    again, other = judged([parts[3], judged_parts.defects[0].path], judged_parts.detector, training)
    assert again.trained_on and not other.trained_on
    said_of = check_html(dataclasses.replace(judged_parts, defects=(again, other)))
    assert "1 defective part is almost the same as a photograph that it was trained on" in said_of
    assert "almost the same" not in check_html(dataclasses.replace(judged_parts, defects=(other,)))
    one = np.asarray(photograph(0))
    assert shows_the_same(one, training) and not shows_the_same(np.asarray(photograph(0, defect=True)), training)


@pytest.mark.process
def test_a_defect_that_was_drawn_is_caught_and_nothing_drawn_is_said(tab, judged_parts, tmp_path):
    mine = dataclasses.replace(judged_parts, folder=tmp_path)
    good, bad = (np.asarray(photograph(0, defect=defect)) for defect in (False, True))
    drawing = tab.draw
    assert "Nothing was drawn" in drawing.is_caught({"background": good, "composite": good}, mine)
    found = drawing.is_caught({"background": good, "composite": bad}, mine)
    assert "<b>Caught</b>" in found and "With your defect" in found
    assert "nothing to judge" in drawing.is_caught(None, mine)
    assert drawing.take_good(dataclasses.replace(mine, typical=judged_parts.typical))[drawing.editor][
        "background"
    ].any()


# -- who trains, who waits


def test_one_trains_and_few_wait_one_of_each_visitor():
    now = [0.0]
    queue = Trainings(lambda: now[0])
    first, second, third = (queue.enter(visitor, f"tab {visitor}") for visitor in "abc")
    assert [queue.ahead(number) for number in (first, second, third)] == [0, 1, 2]
    again = queue.enter("a", "another tab")
    assert queue.over(first) and queue.replaced(first) and not queue.replaced(first)
    assert [queue.ahead(number) for number in (second, third, again)] == [0, 1, 2]
    assert queue.enter("b", "tab b") is not None and queue.over(second) and not queue.replaced(second)
    queue.leave(third)
    queue.end("another tab")
    assert queue.over(again)
    entered = [queue.enter(f"visitor {k}", f"tab {k}") for k in range(MOST_WAITING)]
    assert entered[-1] is None and queue.ahead(entered[-2]) == MOST_WAITING - 1
    now[0] = STALE_S / 2
    assert queue.ahead(entered[-2])
    now[0] = STALE_S + 1
    assert queue.ahead(entered[-2]) == 0, "the others were not heard of"


def test_who_waits_is_told_the_place_and_trains_when_the_one_before_is_done(tab, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    monkeypatch.setattr(space, "POLL_S", 0)
    monkeypatch.setattr(making, "train", lambda *asked: iter([Step("training", 1, 2, None)] * 2))
    one, other = SimpleNamespace(session_hash="one"), SimpleNamespace(session_hash="two")
    before = tab.enter("first visitor", one)[tab.turn]
    number = tab.enter("second visitor", other)[tab.turn]
    waiting = tab.run(number, [str(path) for path in parts], None, "my part", "patchcore-places", False, None, other)
    assert "1 training ahead of you" in next(waiting)[tab.status]
    tab.trainings.leave(before)
    assert "Looking at the photographs …" in next(waiting)[tab.status]
    for k in range(len(parts)):
        assert f"Looking at the photographs: {k + 1} of {len(parts)}" in next(waiting)[tab.status]
    assert "Training: 1 of 2" in next(waiting)[tab.status]
    tab.enter("second visitor", one)
    assert "in another tab" in next(waiting)[tab.status] and list(waiting) == []
    assert list(tmp_path.iterdir()) == []


# -- what is left behind


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_kept(tmp_path):
    mine = private.claim(tmp_path)
    left = tmp_path / f"{private.PREFIX}left"
    for folder in (mine, left):
        (folder / "own-1").mkdir(parents=True)
        (folder / "own-1" / "part.png").write_bytes(b"private")
    (tmp_path / "another").mkdir()
    private.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["another", mine.name])
    assert (mine / "own-1" / "part.png").exists()


@pytest.fixture
def tab():
    async def build():
        with gr.Blocks():
            return space.Train()

    return asyncio.run(build())  # outside of an event loop, Gradio opens one and leaves it open


def test_a_visitor_has_one_training_at_a_time(tab, parts, tmp_path, monkeypatch):
    """A second one ends the first, whose folder goes."""
    ended = []

    def endless(process, images, folder, name, choice):
        try:
            while True:
                yield Step("training", 1, 2, None)
        finally:
            ended.append(folder)

    monkeypatch.setattr(making, "train", endless)
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    visitor = SimpleNamespace(session_hash="one")
    asked = ([str(path) for path in parts], None, "my part", "patchcore-places", False, None, visitor)
    first = tab.run(tab.enter("", visitor)[tab.turn], *asked)
    assert "Training: 1 of 2" in [next(first) for _ in range(2 + len(parts))][-1][tab.status]
    second = tab.run(tab.enter("", visitor)[tab.turn], *asked)
    assert list(first) == [] and [next(second) for _ in range(2)]
    assert len(list(tmp_path.iterdir())) == 1 and not ended[0].exists()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_verdicts_of_a_detector_that_was_replaced_meanwhile_are_dropped(tab, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(space_judge, "judging", lambda paths, *_: (Photograph(path.name, "", 1.0) for path in paths))
    uploads, judge = [str(path) for path in parts[:2]], tab.judge

    def judging(folder):
        folder.mkdir()
        steps = judge.judge(uploads, Own(folder).with_model(shipped.ROOT / "models" / "sample" / "gear" / "none"))
        assert [next(steps) for _ in range(2)][1][judge.status].startswith("<p>Judging: 1 of 2")
        return steps

    *_, last = judging(tmp_path / "kept")
    assert [one.name for one in last[judge.own].tests] == ["part 0.png", "part 1.png"]
    steps = judging(tmp_path / "replaced")
    (tmp_path / "replaced").rmdir()
    assert list(steps) == []


def test_what_is_a_visitors_goes_after_the_hour_and_when_the_page_is_closed(tmp_path, monkeypatch):
    """Gradio's own expiry, with a short time; the sweep of what was forgotten; a page that is left."""
    monkeypatch.setattr(private, "root", lambda: tmp_path)
    monkeypatch.setattr(space, "KEPT_S", 0.2)

    async def build():
        with gr.Blocks() as blocks:
            return blocks, space.Train()

    blocks, tab = asyncio.run(build())
    holder = StateHolder()
    holder.set_blocks(blocks)
    mine = Own.new("a tab")
    holder["a tab"][tab.own._id] = mine
    holder.delete_all_expired_state()
    assert not mine.gone
    time.sleep(0.25)
    holder.delete_all_expired_state()
    assert mine.gone and not mine.in_use()

    forgotten, used, left = Own.new("a tab"), Own.new("../a tab"), Own.new("another")
    for one in (forgotten, used):
        os.utime(one.folder, (0, 0))
    assert used.in_use()
    private.forget_old()
    assert forgotten.gone and not used.gone
    tab.leave(SimpleNamespace(session_hash="another"))
    assert left.gone and not used.gone


def test_what_was_removed_is_said_and_nothing_else_happens(tab, parts, tmp_path):
    mine = Own(tmp_path / "gone").with_model(shipped.ROOT / "models" / "sample" / "gear" / "none")
    assert "is gone" in tab.judge.take_back(mine)[tab.judge.status]
    (told,) = tab.judge.judge([str(parts[0])], mine)
    assert "is gone" in told[tab.judge.table]


def test_a_detector_takes_the_place_of_the_one_before_once_it_is_made(tab, tmp_path):
    model = shipped.ROOT / "models" / "sample" / "gear" / "none"
    before, fresh = (Own(tmp_path / name).with_model(model) for name in ("before", "fresh"))
    for mine in (before, fresh):
        mine.folder.mkdir()
    assert list(tab.take_over(None, before)) == [tab.fresh] and not before.gone  # a training that failed
    update = tab.take_over(fresh, before)
    assert before.gone and not fresh.gone
    assert update[tab.own] == fresh and update[tab.fresh] is None and update[tab.judge.rate] == 5


def test_no_event_in_steps_sets_what_the_visitor_may_have_changed_meanwhile(monkeypatch, tmp_path):
    """Gradio applies the last update of a generator a second time when it ends. Only `judge` touches a control: it
    locks the rate."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    async def build():
        return page.build()

    controls = (gr.Slider, gr.File, gr.Textbox, gr.Radio, gr.Checkbox, gr.CheckboxGroup, gr.Dropdown)
    events = asyncio.run(build()).fns.values()
    in_steps = [event for event in events if event.types_generator and event.api_visibility == "private"]
    assert len(in_steps) >= 8
    set_by = {event.name: [one for one in event.outputs if isinstance(one, controls)] for event in in_steps}
    assert {name: [one.elem_id for one in found] for name, found in set_by.items() if found} == {"judge": ["own-rate"]}
