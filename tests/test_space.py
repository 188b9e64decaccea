"""The Inspect tab without a browser and without models: which updates a visitor's actions yield."""

import asyncio
import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr

from attentdiffernet.errors import DatasetError, ImageError
from demo import shipped
from demo.service import catalogue
from demo.service.catalogue import CategoryInfo
from demo.service.verdict import Comparison, Heat, Verdict
from demo.space import inspect
from demo.space.choice import category_html
from demo.space.inspect import Inspect
from demo.space.session import Session, Upload

KEY = "sample/wafer"
INFO = CategoryInfo(KEY, "Wafer map (synthetic)", "", "Synthetic sample set", "CC0-1.0", ())


def verdict(n_views):
    return Verdict("se", "AttentDifferNet (SE)", 2.0, 0.1, n_views, 4, 1.0, 0.05, 100.0, (0.5, 0.9), "SE after pool")


def fake_compare(path, key, method):
    """A provisional result, a final one, and the maps; a file called bad cannot be read."""
    name = os.path.basename(path)
    if "bad" in name:
        raise ImageError(f"{name} is empty")
    found = Comparison(name, INFO, np.zeros((20, 30, 3), np.uint8), {"se": verdict(2)})
    yield found
    final = dataclasses.replace(found, verdicts={"se": verdict(4)})
    yield final
    heat = Heat(method, {"se": np.ones((3, 3), np.float32)}, {"se": "A map."}, (0.0, 2.0))
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
    return list(tab.run(tab.turns.take(request), [f"/uploads/{name}" for name in names], KEY, "grad-cam", request))


def said(tab, updates):
    return [update[tab.status] for update in updates if tab.status in update]


def test_an_image_is_shown_as_it_is_scored(tab):
    updates = run(tab, "part.png")
    reading, first, final, maps, done = said(tab, updates)
    assert "Reading part.png" in reading
    assert "provisional, 2 of 4 views" in first
    assert "drawing the maps" in final and "drawing the maps" in maps
    assert done == "<p>Done. part.png: anomalous by all variants.</p>"
    pictures = [tab.results.maps["se"] in update for update in updates]
    assert pictures == [False, True, False, True, False], "sent with the first verdicts and with the maps"
    session = updates[-1][tab.session]
    assert session.shown == 0 and [c.name for c in session.comparisons] == ["part.png"]
    assert session.comparisons[0].image.size == 0 and session.comparisons[0].heat is None, "a session keeps no pictures"


def test_a_file_that_cannot_be_read_stops_nothing(tab):
    updates = run(tab, "bad.png", "one.png", "two.png")
    session = updates[-1][tab.session]
    assert session.errors == ["bad.png is empty"] and session.shown == 1
    assert [c.name for c in session.comparisons] == ["one.png", "two.png"]
    assert said(tab, updates)[-1] == "<p>Done: 2 of 3 images.</p>"
    table = inspect.overview_html(session)
    assert table.count("<tr") == 4 and table.count('role="alert"') == 1 and table.count("aria-current") == 2


def test_only_files_that_cannot_be_read(tab):
    updates = run(tab, "bad.png")
    assert 'role="alert"' in said(tab, updates)[-1] and "bad.png is empty" in said(tab, updates)[-1]
    assert updates[-1][tab.results.section].visible is False
    assert said(tab, run(tab, "bad.png", "bad2.png"))[-1] == "<p>Done: 0 of 2 images.</p>"


def test_no_image_and_too_many(tab):
    assert inspect.INVITATION in said(tab, run(tab))[-1]
    assert "13 images were given; the limit is 12" in said(tab, run(tab, *(f"{k}.png" for k in range(13))))[-1]


def test_a_run_stops_when_its_visitor_has_started_another(tab):
    one, other = visitor("one"), visitor("other")
    updates = tab.run(tab.turns.take(one), ["/uploads/part.png"], KEY, "grad-cam", one)
    next(updates)
    tab.turns.take(other)
    next(updates)
    tab.turns.take(one)
    assert list(updates) == []


def test_another_image_and_another_map_are_shown(tab):
    session = run(tab, "bad.png", "one.png", "two.png")[-1][tab.session]
    updates = list(tab.show(session, "gradient", pick=2))
    assert said(tab, updates)[-1] == "<p>Gradient map of two.png.</p>"
    assert updates[-1][tab.session].shown == 2
    assert tab.results.image in updates[0], "the photograph is another one"
    updates = list(tab.show(updates[-1][tab.session], "grad-cam"))
    assert said(tab, updates)[-1] == "<p>Grad-CAM of two.png.</p>"
    assert not any(tab.results.image in update for update in updates), "the photograph is the same"
    for pick in (-1, 0, 3):  # no button, a file that cannot be read, no image
        assert said(tab, tab.show(session, "grad-cam", pick)) == [gr.skip()]
    assert said(tab, tab.show(Session(KEY, (Upload("/uploads/part.png"),)), "grad-cam")) == [gr.skip()]


def test_names_of_files_are_shown_as_they_are(tab):
    session = run(tab, "<b>${x}.png", "bad{{y}}.png")[-1][tab.session]
    table = inspect.overview_html(session)
    assert "<b>" not in table and not {"$", "{", "}"} & set(table)


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


def test_an_example_goes_with_its_category_and_an_upload_stays(tab, tmp_path):
    example = catalogue.category(KEY).examples[0]
    copy, own = tmp_path / example.name, tmp_path / "own.png"
    copy.write_bytes(example.read_bytes())
    own.write_bytes(b"mine")
    update = tab.choose_category("sample/gear", [str(copy)], visitor("one"))
    assert update[tab.files] is None
    update = tab.choose_category("sample/gear", [str(copy), str(own)], visitor("one"))
    assert update[tab.files] == [str(own)]
    update = tab.choose_category("sample/gear", [str(own)], visitor("one"))
    assert update[tab.turn] == 1, "which starts a run"
    assert "gear" in update[tab.about]
