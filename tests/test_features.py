"""Features on disk: the same as computed, found again by content alone, and a damaged cache costs time only."""

import copy
import dataclasses
import os
import tempfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import features as module
from attentdiffernet.backbone import load_weights
from attentdiffernet.category import InspectionDataset
from attentdiffernet.errors import ImageError
from attentdiffernet.features import FeatureExtractor, Pace, ahead, default_cache
from attentdiffernet.images import read_image
from attentdiffernet.model import AttentDifferNet
from attentdiffernet.views import even_angles, make_views, to_tensor

NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.fixture
def paths(category):
    return [image.path for image in InspectionDataset(category).train[:3]]


@pytest.fixture
def runs(tiny, monkeypatch):
    """How many views each run of the backbone of tiny("se") has had."""
    model, calls = tiny("se"), []
    monkeypatch.setattr(model, "features", lambda views: calls.append(len(views)) or type(model).features(model, views))
    return calls


def entries(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_features_are_those_of_the_views(tiny, paths):
    model = tiny("se")
    (features,) = FeatureExtractor(model).even_views(paths[:1], 3)
    with torch.no_grad():
        expected = model.features(make_views(to_tensor(read_image(paths[0]), 256), even_angles(3)))
    torch.testing.assert_close(features, expected)


def test_many_views_run_in_batches(runs, tiny, image):
    assert FeatureExtractor(tiny("se")).of_image(image, even_angles(19)).shape == (19, 768)
    assert runs == [16, 3]


def test_the_second_time_nothing_is_computed(runs, tiny, paths, tmp_path):
    first = list(FeatureExtractor(tiny("se"), tmp_path).even_views(paths, 2))
    assert runs == [2, 2, 2] and len(entries(tmp_path)) == 6
    again = list(FeatureExtractor(tiny("se"), tmp_path).even_views(paths, 2))
    assert runs == [2, 2, 2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[0].read_bytes())
    list(FeatureExtractor(tiny("se"), tmp_path).even_views([copy], 2))
    assert runs == [2, 2, 2], "content counts, not the name"


def test_whatever_changes_the_features_is_a_miss(runs, tiny, tmp_path, monkeypatch):
    path, cache = tmp_path / "x.png", tmp_path / "cache"
    Image.fromarray(NOISE).save(path)
    weights = {key: tensor.clone() for key, tensor in load_weights("random").items()}
    weights["features.10.bias"][0] += 1

    def ask(model=None, n_views=2):
        list(FeatureExtractor(model or tiny("se"), cache).even_views([path], n_views))
        return len(entries(cache))

    assert [ask(), ask()] == [2, 2] and runs == [2]
    assert ask(n_views=4) == 4 and runs == [2, 2], "two of the four were there"
    assert ask(tiny("se", seed=1)) == 6, "other attention weights"
    assert ask(tiny("se", placement="before_pool")) == 8
    assert ask(tiny("none")) == 10
    assert ask(AttentDifferNet(tiny("none").config, weights=weights)) == 12
    assert ask(tiny("none", seed=1)) == 12, "another flow on the same backbone has the same features"
    Image.fromarray(255 - NOISE).save(path)
    assert ask() == 14
    monkeypatch.setattr(module, "FEATURES_VERSION", module.FEATURES_VERSION + 1)
    assert ask() == 16, "features of other code"


def digest(model, attention=None, **changes):
    """Of the same weights under another configuration."""
    blocks = dataclasses.replace(model.config.attention, **attention or {})
    copied = copy.copy(model)
    copied._config = dataclasses.replace(model.config, attention=blocks, **changes)
    return FeatureExtractor(copied).backbone_digest


def test_features_are_told_apart_by_what_makes_them_not_by_how_it_was_learned(tiny):
    model = tiny("se", training="joint")
    assert digest(model) == digest(model, {"training": "separation", "keep": "always"})
    assert digest(model) != digest(model, {"training": "untrained"})
    assert digest(model, gates_kept=False) == digest(tiny("none")) != digest(model), "gates at 1 are DifferNet"


def test_random_views_depend_on_content_and_seed_alone(tiny, paths, tmp_path):
    extractor = FeatureExtractor(tiny("none"), tmp_path)
    features = extractor.random_views(paths, 2, seed=5)
    assert features.shape == (3, 2, 768) and not features.is_inference()
    assert torch.equal(FeatureExtractor(tiny("none")).random_views(paths[::-1], 2, seed=5).flip(0), features)
    assert not torch.allclose(extractor.random_views(paths, 2, seed=6), features)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "pickle", "shape", "dtype", "one bit"])
def test_a_damaged_entry_is_computed_again(damage, runs, tiny, paths, tmp_path):
    extractor = FeatureExtractor(tiny("se"), tmp_path)
    (features,) = extractor.even_views(paths[:1], 2)
    entry, other = entries(tmp_path)
    whole = entry.read_bytes()
    if damage in ("shape", "dtype", "pickle"):
        contents = {"shape": np.zeros((1, 768), np.float32), "dtype": np.zeros(768), "pickle": np.array([{}, 1])}
        np.save(entry, contents[damage], allow_pickle=True)
        entry.write_bytes(entry.read_bytes() + module._checksum(entry.read_bytes()))
    elif damage == "one bit":
        entry.write_bytes(whole[:-100] + bytes([whole[-100] ^ 64]) + whole[-99:])
    else:
        entry.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"no features"}[damage])
    (again,) = extractor.even_views(paths[:1], 2)
    assert runs == [2, 1] and torch.allclose(again, features, atol=1e-6)
    assert len(entry.read_bytes()) == len(whole) and entries(tmp_path) == [entry, other]


def test_a_disk_that_takes_nothing_costs_time_only(tiny, paths, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    (features,) = FeatureExtractor(tiny("se"), tmp_path).even_views(paths[:1], 2)
    assert features.shape == (2, 768) and not entries(tmp_path), "no half file is left behind"
    (tmp_path / "file").write_bytes(b"")
    (features,) = FeatureExtractor(tiny("se"), tmp_path / "file" / "cache").even_views(paths[:1], 2)
    assert features.shape == (2, 768)


def test_the_oldest_entries_go_when_the_cache_is_full(tiny, paths, tmp_path, monkeypatch):
    extractor = FeatureExtractor(tiny("none"), tmp_path)
    for age, path in enumerate(paths):
        list(extractor.even_views([path], 1))
        for entry in entries(tmp_path):
            os.utime(entry, (entry.stat().st_mtime - 100,) * 2)
        if age == 0:
            (oldest,) = entries(tmp_path)
    assert len(entries(tmp_path)) == 3
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * oldest.stat().st_size)
    list(extractor.even_views([paths[2]], 1))
    assert len(entries(tmp_path)) == 2 and not oldest.exists()


def test_a_missing_file_is_an_error_with_and_without_cache(tiny, tmp_path):
    for cache in (None, tmp_path):
        (found,) = FeatureExtractor(tiny("none"), cache).even_views([tmp_path / "gone.png"], 1)
        assert isinstance(found, ImageError) and str(found) == "There is no file gone.png"
        with pytest.raises(ImageError, match=r"^There is no file gone\.png$"):
            FeatureExtractor(tiny("none"), cache).random_views([tmp_path / "gone.png"], 1, seed=0)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert default_cache() == tmp_path / "cache"
    monkeypatch.delenv("ATTENTDIFFERNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(default_cache()) == "/x/attentdiffernet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 987654, raising=False)  # a number that no user of this machine has
    assert str(default_cache()) == f"{tempfile.gettempdir()}/attentdiffernet"
    monkeypatch.setenv("ATTENTDIFFERNET_CACHE", "/y")
    assert str(default_cache()) == "/y"


def test_what_was_left_unfinished_may_be_closed_by_one_of_its_own_threads():
    """The garbage collector runs where it likes."""
    goes_on, closed, errors = threading.Event(), threading.Event(), []

    def do(k):
        if k == 1 and goes_on.wait(10):
            try:
                results.close()
            except RuntimeError as error:
                errors.append(error)
            closed.set()
        return k

    results = ahead(do, range(9), Pace(views=1, shared=False, threads=1, ahead=2))
    assert next(results) == 0
    goes_on.set()
    assert closed.wait(10) and not errors and list(results) == []
