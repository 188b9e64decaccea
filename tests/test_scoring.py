"""Anomaly scores: the formula, and that all ways to a score end at the same number."""

import math
from types import GeneratorType

import pytest
import torch

from attentdiffernet.data import InspectionDataset, even_angles, make_views, read_image, to_tensor
from attentdiffernet.errors import ImageError
from attentdiffernet.scoring import (
    READ_AHEAD,
    anomaly_score,
    score_files,
    score_image,
    score_images,
    score_progressively,
    view_scores,
)


def test_anomaly_score_by_hand():
    z = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0], [2.0, 2.0]])
    assert view_scores(z).tolist() == [2.5, 4.5, 0, 4]
    assert anomaly_score(z, 1).tolist() == [2.5, 4.5, 0, 4]
    assert anomaly_score(z, 2).tolist() == [3.5, 2]
    assert anomaly_score(z, 4).tolist() == [2.75]


@pytest.mark.parametrize("n_views", [0, -1, 3, 5])
def test_a_number_of_rows_that_does_not_divide_is_refused(n_views):
    with pytest.raises(ValueError, match=f"needs a multiple of {n_views} rows of z, got 4"):
        anomaly_score(torch.zeros(4, 2), n_views)


@pytest.mark.parametrize("n_views", [1, 3])
def test_all_ways_lead_to_the_same_score(n_views, tiny, category):
    models = {"DifferNet": tiny("none"), "SE": tiny("se"), "other": tiny("cbam", placement="before_pool")}
    path = InspectionDataset(category).test[0].path
    image = to_tensor(read_image(path), 256)
    *_, last = score_progressively(models, image, n_views)
    for name, model in models.items():
        with torch.no_grad():
            z, _ = model(make_views(image, even_angles(n_views)))
        expected = pytest.approx(z.square().mean().item(), rel=1e-4)
        assert score_image(model, image, n_views) == expected
        assert list(score_images(model, [path], n_views)) == [expected]
        assert list(score_files(model, [str(path)], n_views)) == [expected]
        assert last[name].value == expected and last[name].n_views == n_views


def test_a_score_can_be_had_after_any_group_of_views(tiny, image):
    model, n_views = tiny("se"), 13
    with torch.no_grad():
        each = view_scores(model(make_views(image, even_angles(n_views)))[0])
    running = [scores["SE"] for scores in score_progressively({"SE": model}, image, n_views)]
    assert [score.n_views for score in running] == [2, 10, 13]
    for score in running:
        seen = each[: score.n_views]
        assert score.value == pytest.approx(seen.mean().item(), rel=1e-4)
        assert score.standard_error == pytest.approx(seen.std().item() / math.sqrt(len(seen)), rel=1e-2)
    (only,) = score_progressively({"SE": model}, image, 1)
    assert only["SE"].n_views == 1 and math.isnan(only["SE"].standard_error)
    assert [s["SE"].n_views for s in score_progressively({"SE": model}, image, 4, first=1)] == [1, 4]


def test_stems_are_run_once_for_variants_that_share_them(tiny, image, monkeypatch):
    models = {kind: tiny(kind) for kind in ("none", "se", "cbam")} | {"apart": tiny("se", placement="before_pool")}
    calls = []
    for name, model in models.items():
        monkeypatch.setattr(model, "stems", lambda views, n=name, m=model: calls.append(n) or type(m).stems(m, views))
    list(score_progressively(models, image, 4))
    assert calls == ["none", "apart"] * 2


def test_scores_are_streamed(tiny, category, monkeypatch):
    model = tiny("none")
    calls = []
    monkeypatch.setattr(model, "features", lambda views: calls.append(len(views)) or type(model).features(model, views))
    paths = [image.path for image in InspectionDataset(category).test]
    told = []
    scores = score_images(model, paths, 2, progress=lambda *what: told.append(what))
    assert isinstance(scores, GeneratorType) and calls == []
    next(scores)
    assert calls == [2], "one image at a time"
    assert len(list(scores)) == len(paths) - 1
    assert [done for _, done, _ in told] == list(range(len(paths) + 1))
    assert {(stage, total) for stage, _, total in told} == {("features of images to score", len(paths))}


@pytest.mark.usefixtures("global_state_kept")
def test_scoring_leaves_global_state_alone(tiny, image):
    score_image(tiny("cbam"), image, 2)


def test_files_are_read_a_few_ahead_and_a_bad_one_stops_nothing(tiny, category, tmp_path, monkeypatch):
    from attentdiffernet import scoring

    good = str(InspectionDataset(category).test[0].path)
    (tmp_path / "bad.png").write_bytes(b"no image")
    too_long = "x" * 5000 + ".png"  # the system refuses to look it up
    asked = []
    monkeypatch.setattr(scoring, "read_image", lambda path: asked.append(path) or read_image(path))
    paths = [good, str(tmp_path / "bad.png"), str(tmp_path / "gone.png"), too_long, good] + [good] * 20
    scores = score_files(tiny("none"), paths, 1)
    first = next(scores)
    assert 1 <= len(asked) <= READ_AHEAD + 1 and len(asked) < len(paths)
    rest = [next(scores) for _ in range(4)]
    assert [type(value) for value in rest] == [ImageError, ImageError, ImageError, float] and rest[-1] == first
    assert str(rest[0]).startswith("bad.png is not an image") and str(rest[1]) == "There is no file gone.png"
    assert "name too long" in str(rest[2])
    scores.close()
    assert len(asked) < len(paths)
