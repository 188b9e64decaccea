"""The Inspect tab without a browser and without models: which updates a visitor's actions yield."""

import asyncio
import dataclasses
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

from attentdiffernet.errors import DatasetError, ImageError
from attentdiffernet.words import ON_WHITE
from demo import shipped
from demo.service import catalogue
from demo.service.catalogue import CategoryInfo, Example
from demo.service.comparison import MAX_IMAGES
from demo.service.stranger import Stranger
from demo.service.verdict import Comparison, Heat, Verdict
from demo.space import inspect
from demo.space.cards import cards_html, expectation
from demo.space.choice import category_html
from demo.space.files import kept
from demo.space.inspect import Inspect
from demo.space.inspected_table import inspected_html
from demo.space.results import stranger_html
from demo.space.session import Session, Upload

KEY = "sample/wafer"
INFO = CategoryInfo(KEY, "Wafer map (synthetic)", "", "Synthetic sample set", "CC0-1.0", ())


def verdict(n_views):
    return Verdict("se", "AttentDifferNet (SE)", 2.0, 0.1, n_views, 4, 1.0, 0.05, 100.0, (0.5, 1.0), "SE after pool")


def fake_compare(path, key, method, chosen):
    """A provisional result, a final one, and the maps. A file called bad cannot be read; a worst one scores more."""
    name = os.path.basename(path)
    if "bad" in name:
        raise ImageError(f"{name} is empty")
    found = Comparison(name, INFO, np.zeros((20, 30, 3), np.uint8), {"se": verdict(2)})
    yield found
    last = dataclasses.replace(verdict(4), score=3.0) if "worst" in name else verdict(4)
    final = dataclasses.replace(found, verdicts={"se": last})
    yield final
    heat = Heat({"se": method}, {"se": np.ones((3, 3), np.float32)}, {"se": "A map."}, {"se": (0.0, 2.0)})
    yield dataclasses.replace(final, heat=heat)


@pytest.fixture
def tab(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(inspect, "compare", fake_compare)

    async def build():
        with gr.Blocks():
            return Inspect()

    return asyncio.run(build())  # outside of an event loop, Gradio opens one and leaves it open


def visitor(name):
    return SimpleNamespace(session_hash=name)


def run(tab, *names, request=None):
    request = request or visitor("one")
    paths = [f"/uploads/{name}" for name in names]
    updates = list(tab.run(tab.turns.take(request), paths, KEY, ["se"], "grad-cam", False, 5, request))
    while tab.step in updates[-1]:
        updates += tab.go_on(updates[-1][tab.step], updates[-1][tab.session], "grad-cam", False, request)
    return updates


def said(tab, updates):
    return [update[tab.status] for update in updates if tab.status in update]


def test_an_image_is_shown_as_it_is_scored(tab):
    updates = run(tab, "part.png")
    reading, first, final, maps, done = said(tab, updates)
    assert "Reading part.png" in reading
    assert "provisional, 2 of 4 views" in first
    assert "drawing the maps" in final and "drawing the maps" in maps
    assert done == "<p>Done. part.png: anomalous by AttentDifferNet (SE).</p>"
    cards = [update.get(tab.results.view, "") for update in updates]
    assert [card.count("class='photo'") for card in cards] == [0, 2, 2, 2, 0], "the photograph alone, and under the map"
    assert [card.count("class='heat'") for card in cards] == [0, 0, 0, 1, 0]
    assert "2 ×</b> the threshold" in cards[3] and "A map." in cards[3]
    session = updates[-1][tab.session]
    assert session.shown == 0 and [c.name for c in session.comparisons] == ["part.png"]
    assert session.comparisons[0].image.size == 0 and session.comparisons[0].heat is None, "a session keeps no pictures"


def test_transparent_parts_are_said_to_be_on_white():
    found = Comparison("part.png", INFO, np.zeros((2, 2, 3), np.uint8), {"se": verdict(4)})
    assert ON_WHITE not in cards_html(found, None, False, lambda data, name: name)
    assert ON_WHITE in cards_html(dataclasses.replace(found, on_white=True), None, False, lambda data, name: name)


def test_a_file_that_cannot_be_read_stops_nothing(tab):
    updates = run(tab, "bad.png", "one.png", "two.png")
    session = updates[-1][tab.session]
    assert session.errors == ["bad.png is empty"] and session.shown == 1
    assert [c.name for c in session.comparisons] == ["one.png", "two.png"]
    assert said(tab, updates)[-1] == "<p>Done: 2 of 3 images inspected, 1 could not be read.</p>"
    table = inspected_html(session)
    assert table.count("<tr") == 3 and table.count('role="alert"') == 1 and table.count("data-open") == 1
    assert all(one.picture for one in session.uploads[1:]), "small copies"


def test_in_the_end_the_photograph_on_top_is_shown_unless_the_visitor_picked_one(tab):
    updates = run(tab, "bad.png", "one.png", "worst.png", "two.png")
    assert updates[-1][tab.session].shown == 2 and "over worst.png" in updates[-2][tab.results.view]
    assert said(tab, updates)[-1].startswith("<p>Done: 3 of 4 images inspected")
    one, paths = visitor("picks"), ["/uploads/one.png", "/uploads/worst.png"]
    *_, last = tab.run(tab.turns.take(one), paths, KEY, ["se"], "grad-cam", False, 5, one)
    *_, picked = tab.show(last[tab.session], "grad-cam", False, pick=0)
    *_, done = tab.go_on(last[tab.step], picked[tab.session], "grad-cam", False, one)
    assert done[tab.session].shown == 0


def test_the_table_of_many_images_starts_with_the_worst_and_tells_who_disagrees():
    def found(name, *scores):
        verdicts = {key: dataclasses.replace(verdict(4), key=key, score=s) for key, s in zip("ab", scores, strict=True)}
        return Upload(name, Comparison(name, INFO, np.zeros((0, 0, 3), np.uint8), verdicts))

    uploads = (found("good", 0.5, 0.5), Upload("waiting"), found("one", 0.5, 1e9), found("both", 1.1, 1.2))
    table = inspected_html(Session(KEY, ("none", "patchcore-places"), uploads, shown=2))
    rows = re.findall(r"<tr data-k='(\d)' data-name='(\w+)' data-kinds='([\w ]*)'", table)
    assert rows == [
        ("3", "both", "anomalous"),
        ("2", "one", "anomalous disputed"),
        ("0", "good", "normal"),
        ("1", "waiting", ""),
    ]
    assert "data-index='1'" not in table, "there are no details yet"
    assert re.search(r"data-k='2'[^>]* data-open>", table) and table.count("data-open") == 1


def test_only_files_that_cannot_be_read(tab):
    updates = run(tab, "bad.png")
    assert 'role="alert"' in said(tab, updates)[-1] and "bad.png is empty" in said(tab, updates)[-1]
    assert updates[-1][tab.results.section].elem_classes == ["away"]
    assert (
        said(tab, run(tab, "bad.png", "bad2.png"))[-1] == "<p>Done: 0 of 2 images inspected, 2 could not be read.</p>"
    )


def test_no_image_and_too_many(tab):
    assert inspect.INVITATION in said(tab, run(tab))[-1]
    many = [f"{k}.png" for k in range(MAX_IMAGES + 1)]
    assert f"{MAX_IMAGES + 1} images were given; the limit is {MAX_IMAGES}" in said(tab, run(tab, *many))[-1]


def test_a_run_stops_when_its_visitor_has_started_another(tab):
    one, other = visitor("one"), visitor("other")
    updates = tab.run(tab.turns.take(one), ["/uploads/part.png"], KEY, ["se"], "grad-cam", False, 5, one)
    next(updates)
    tab.turns.take(other)
    next(updates)
    tab.turns.take(one)
    assert list(updates) == []


def test_the_computer_is_free_for_others_after_each_image_and_a_run_that_is_over_does_not_go_on(tab):
    one = visitor("one")
    paths = ["/uploads/a.png", "/uploads/b.png"]
    *_, last = tab.run(tab.turns.take(one), paths, KEY, ["se"], "grad-cam", False, 5, one)
    step, session = last[tab.step], last[tab.session]
    assert [upload.comparison is not None for upload in session.uploads] == [True, False]
    *_, done = tab.go_on(step, session, "grad-cam", False, one)
    assert len(done[tab.session].comparisons) == 2 and tab.step not in done
    tab.turns.take(one)
    assert list(tab.go_on(step, session, "grad-cam", False, one)) == []


def test_another_image_and_another_map_are_shown(tab):
    session = run(tab, "bad.png", "one.png", "two.png")[-1][tab.session]
    updates = list(tab.show(session, "gradient", False, pick=2))
    assert said(tab, updates)[-1] == "<p>two.png: anomalous by AttentDifferNet (SE). Shown: Gradient map.</p>"
    assert updates[-1][tab.session].shown == 2
    assert "Gradient map of AttentDifferNet (SE) over two.png" in updates[-2][tab.results.view]
    assert "Colour scale of Gradient map" in updates[-2][tab.results.bar]
    updates = list(tab.show(updates[-1][tab.session], "grad-cam", True))
    assert said(tab, updates)[-1] == "<p>two.png: anomalous by AttentDifferNet (SE). Shown: Grad-CAM.</p>"
    assert "Each map from its own lowest" in updates[-2][tab.results.bar]
    for pick in (-1, 0, 3):  # no button, a file that cannot be read, no image
        assert said(tab, tab.show(session, "grad-cam", False, pick)) == [gr.skip()]
    assert said(tab, tab.show(Session(KEY, ("se",), (Upload("/uploads/part.png"),)), "grad-cam", False)) == [gr.skip()]


def test_another_rate_judges_all_images_again_without_scoring(tab, monkeypatch):
    """Of two held-out normals, 0.5 and 1: a rate below 2 of 3 has the threshold 1, from there on 0.5."""
    session = run(tab, "one.png", "two.png")[-1][tab.session]
    first, *others, last = tab.judge_again(70, session, "grad-cam", False)
    assert first[tab.table].value.count("4 ×") == 2 and "2 ×" not in first[tab.table].value
    assert "4 ×</b> the threshold" in others[-1][tab.results.view] and "66.7 of 100" in others[-1][tab.results.view]
    again = last[tab.session]
    assert [c.verdicts["se"].threshold for c in again.comparisons] == [0.5, 0.5]
    assert [c.verdicts["se"].false_positive_rate for c in again.comparisons] == [2 / 3, 2 / 3]
    with open(last[tab.csv_file]) as stream:
        assert stream.read().count(",2,0.5,1,") == 2, "score, threshold, verdict"
    back = again.at_rate(0.05).comparisons
    assert [c.verdicts["se"].threshold for c in back] == [1.0, 1.0]


def test_names_of_files_are_shown_as_they_are(tab):
    session = run(tab, "<b>${x}.png", "bad{{y}}.png")[-1][tab.session]
    table = inspected_html(session)
    assert "<b>" not in table and not {"$", "{", "}"} & set(table)


def test_detectors_that_cannot_be_used_are_named_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    monkeypatch.delenv("ATTENTDIFFERNET_DOWNLOAD", raising=False)
    monkeypatch.setattr(catalogue, "imagenet_at_hand", lambda: False)
    for name in ("none", "se", "patchcore-places"):
        folder = tmp_path / "mvtec_ad" / "bottle" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model": {"weights": "imagenet"}}')
    shown = category_html("mvtec_ad/bottle")
    assert "Not available on this machine: DifferNet, AttentDifferNet (SE)</summary>" in shown
    assert "They need AlexNet" in shown and catalogue.detector_names("mvtec_ad/bottle") == ["patchcore-places"]


def test_categories_that_cannot_be_used_are_named_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    assert "No models were found" in category_html(None)
    monkeypatch.delenv("ATTENTDIFFERNET_DOWNLOAD", raising=False)
    monkeypatch.setattr(catalogue, "imagenet_at_hand", lambda: False)
    for name in ("bottle", "cable"):
        folder = tmp_path / "mvtec_ad" / name / "none"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model": {"weights": "imagenet"}}')
    shown = category_html(None)
    assert shown.count("<details") == 1 and "Bottle (MVTec AD), Cable (MVTec AD)" in shown
    assert "Each needs AlexNet" in shown
    assert not catalogue.usable_categories()
    with pytest.raises(DatasetError, match=r"Bottle .* needs AlexNet"):
        catalogue.category("mvtec_ad/bottle")


@pytest.fixture
def copies(tmp_path):
    """(an example as it is uploaded, a file of the visitor's own), and the example."""
    example = catalogue.category(KEY).examples[0]
    copy, own = tmp_path / example.path.name, tmp_path / "own.png"
    copy.write_bytes(example.path.read_bytes())
    own.write_bytes(b"mine")
    return str(copy), str(own), example


def test_an_example_goes_with_its_category_and_an_upload_stays(tab, copies):
    copy, own, _ = copies
    everything = catalogue.detector_names(KEY)
    update = tab.choose_category("sample/gear", KEY, [copy], everything, visitor("one"))
    assert update[tab.files] is None
    update = tab.choose_category("sample/gear", KEY, [copy, own], everything, visitor("one"))
    assert update[tab.files] == [own]
    assert update[tab.detectors].value == catalogue.detector_names("sample/gear")
    update = tab.choose_category("sample/gear", KEY, [own], ["se"], visitor("one"))
    assert update[tab.turn] == 1, "which starts a run"
    assert "gear" in update[tab.about] and update[tab.detectors].value == ["se"]


def test_an_upload_replaces_an_example(tab, copies):
    copy, own, example = copies
    one = visitor("one")
    update = tab.choose_files([copy, own], KEY, example.name, one)
    assert update[tab.files] == [own] and update[tab.turn] == gr.skip(), "the run starts when the example is gone"
    update = tab.choose_files([own], KEY, example.name, one)
    assert (update[tab.files], update[tab.example], update[tab.turn]) == (gr.skip(), "", 1)
    update = tab.choose_files([copy], KEY, "", one)
    assert (update[tab.example], update[tab.turn]) == (example.name, 2)
    update = tab.choose_files([own, copy], KEY, "", one)
    assert (update[tab.files], update[tab.turn]) == (gr.skip(), 3), "brought together, both are the visitor's"


def asking(**params):
    return SimpleNamespace(session_hash="one", query_params=params)


def test_the_address_brings_a_choice_back(tab):
    example = catalogue.category("sample/gear").examples[1]
    asked = {"category": "sample/gear", "detectors": "cbam,none", "map": "gradient", "scale": "own"}
    update = tab.restore(asking(**asked, example=example.name))
    assert update[tab.category] == "sample/gear" and update[tab.files] == [str(example.path)]
    assert update[tab.detectors].value == ["none", "cbam"] and update[tab.results.method].value == "gradient"
    assert update[tab.results.own_scale] is True and update[tab.notice].elem_classes == ["away"]
    assert tab.restore(asking(rate="12.5"))[tab.results.rate] == 12.5
    update = tab.restore(asking(map="gradient"))
    assert update[tab.results.rate] == 5
    assert update[tab.category] == catalogue.start() and update[tab.files] == gr.skip()
    assert update[tab.detectors].value == catalogue.detector_names(catalogue.start())
    assert tab.restore(asking()) == {tab.notice: gr.skip()}, "what was chosen before the page was ready stays"


def test_what_is_unknown_in_the_address_is_said(tab):
    update = tab.restore(asking(category="<b>", detectors="se,yolo", map="tea", scale="x", example="teapot", rate="99"))
    said = update[tab.notice].value
    assert update[tab.notice].elem_classes == [] and "<b>" not in said
    for unknown in ("&lt;b&gt;", "yolo", "map &#x27;tea&#x27;", "scale &#x27;x&#x27;", "teapot", "99"):
        assert unknown in said
    assert update[tab.category] == catalogue.start() and update[tab.detectors].value == ["se"]
    assert update[tab.results.method].value == "grad-cam" and update[tab.results.own_scale] is False


def test_an_example_says_what_was_expected_and_who_missed_it():
    found = Comparison("x.png", INFO, np.zeros((2, 2, 3), np.uint8), {"se": verdict(4), "cbam": verdict(4)})
    normal = dataclasses.replace(verdict(4), key="cbam", title="CBAM", score=0.5)
    torn = dataclasses.replace(found, verdicts={"se": verdict(4), "cbam": normal})
    defect, good = Example(Path("hard-broken_tooth.png")), Example(Path("good.png"))
    assert expectation(found, defect) == "Expected: anomalous (broken tooth, hard). Found by all detectors."
    assert expectation(torn, defect) == "Expected: anomalous (broken tooth, hard). Missed by CBAM."
    assert expectation(found, good) == "Expected: normal (good part). Called anomalous by all detectors."
    provisional = dataclasses.replace(found, verdicts={"se": verdict(2)})
    assert expectation(provisional, good) == "Expected: normal (good part)."


def test_a_picture_that_is_being_fetched_is_not_cut_off_when_it_is_kept_again(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = Path(kept(b"picture", "a/map.png"))
    with path.open("rb") as fetched:
        assert kept(b"picture", "map.png") == str(path) and path.name == "map.png"
        assert fetched.read() == b"picture"
        assert os.fstat(fetched.fileno()).st_ino != path.stat().st_ino, "another file took its place"
    assert kept(b"another", "map.png") != str(path)


def test_an_offer_takes_the_same_images_to_the_category_they_look_like(monkeypatch, tab):
    other = dataclasses.replace(INFO, key="sample/gear", title="Gear wheel (synthetic)")
    found = Stranger(INFO, other)
    comparison = Comparison("a.png", INFO, np.zeros((4, 4, 3), np.uint8), {"se": verdict(4)}, stranger=found)
    monkeypatch.setattr(catalogue, "detector_names", lambda key: ["none", "se"])
    html = stranger_html(comparison)
    assert found.sentence in html and "Inspect it as Gear wheel (synthetic)" in html
    assert stranger_html(dataclasses.replace(comparison, stranger=None)) == ""
    white = "put on white, which may be why"
    assert white not in html and white in stranger_html(dataclasses.replace(comparison, on_white=True))
    assert comparison.conclusion == "a.png: probably not a wafer map."
    now = Session(KEY, ("se",), (Upload("a.png"),)).with_result(0, comparison).showing(0)
    update = tab.take_offer(now, KEY, KEY, ["a.png"], ["se"], SimpleNamespace(session_hash="visitor"))
    assert update[tab.category] == "sample/gear"
    assert "value" not in update[tab.files], "they stay"
    plain = now.with_result(0, dataclasses.replace(comparison, stranger=None))
    with pytest.raises(gr.Error, match="fits no other category"):
        tab.take_offer(plain, KEY, KEY, [], [], SimpleNamespace(session_hash="v"))
