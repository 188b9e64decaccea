"""Pixel AUROC and AUPRO: against scikit-learn, against a case by hand, and from the stored counts."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from attentdiffernet.errors import ResultsError
from attentdiffernet.study import records as results
from attentdiffernet.study.localisation import BINS, EDGES, PixelCounts, aupro, count_pixels, pixel_auroc
from attentdiffernet.study.maps import summary_of_pixels
from attentdiffernet.study.page import pixels_told_apart

pytestmark = pytest.mark.quick

# Two defects, of 1 and of 2 pixels that do not touch, in a row of 13: ten normal pixels, one of them high.
MASK = np.array([[True, False, True, True] + [False] * 9])
VALUES = np.array([[3.0, 0, 3.0, 1.0] + [0.0] * 8 + [2.0]])


def maps(seed=0, n=6):
    """(map, mask) of some images, the first two normal: values of a wide spread, higher on defects."""
    rng = np.random.default_rng(seed)
    for k in range(n):
        mask = np.zeros((40, 50), bool)
        if k > 1:
            mask[5:20, 10 : 10 + 3 * k] = mask[30:34, 40:44] = True
        yield rng.lognormal(0, 1, mask.shape) * np.where(mask, 2, 1), mask


def counted(found):
    return sum((count_pixels(values, mask) for values, mask in found), PixelCounts.none())


def test_pixel_auroc_is_that_of_the_values():
    found = list(maps())
    labels = np.concatenate([mask.ravel() for _, mask in found])
    exact = roc_auc_score(labels, np.concatenate([values.ravel() for values, _ in found]))
    assert pixel_auroc(counted(found)) == pytest.approx(exact, abs=1e-3) and 0.6 < exact < 0.8
    in_classes = [(EDGES[np.searchsorted(EDGES, values) - 1], mask) for values, mask in found]
    exact = roc_auc_score(labels, np.concatenate([values.ravel() for values, _ in in_classes]))
    assert pixel_auroc(counted(in_classes)) == pytest.approx(exact, abs=1e-12), "ties count half"


def test_aupro_by_hand():
    counts = count_pixels(VALUES, MASK)
    assert counts.n_regions == 2 and counts.normal.sum() == 10
    # No normal pixel is above 2: all of one defect and half of the other. One in ten is above 0, and both defects.
    assert aupro(counts) == pytest.approx((0.1 * 0.75 + 0.2 * 1) / 0.3)
    assert aupro(counts, 0.05) == pytest.approx(0.75)
    assert aupro(counts, 1.0) == pytest.approx(0.1 * 0.75 + 0.9 * 1)


def test_perfect_maps_and_flat_ones():
    perfect = count_pixels(MASK * 1.0, MASK)
    assert (pixel_auroc(perfect), aupro(perfect)) == (1, 1)
    for flat in (np.zeros(MASK.shape), np.full(MASK.shape, 1e9)):
        assert pixel_auroc(count_pixels(flat, MASK)) == 0.5
        assert aupro(count_pixels(flat, MASK)) == pytest.approx(0.15)


def test_regions_touch_by_their_corners():
    assert count_pixels(np.ones((3, 3)), np.eye(3, dtype=bool)).n_regions == 1
    assert count_pixels(np.ones((3, 3)), np.eye(3, dtype=bool) * [True, False, True] > 0).n_regions == 2


def test_both_kinds_of_pixels_are_needed():
    with pytest.raises(ValueError, match="got 13 and 0"):
        pixel_auroc(count_pixels(VALUES, np.zeros_like(MASK)))
    with pytest.raises(ValueError, match="got 0 and 13"):
        aupro(count_pixels(VALUES, np.ones_like(MASK)))


# -- stored


def run_of(variant="patchcore"):
    values = {"dataset": "sample", "category": "gear", "variant": variant, "seed": 0, "backbone": "x", "epochs": 0}
    values |= {"attention_training": "", "selection": "last", "n_views": 1, "commit": "", "source": "a test"}
    return results.Run(run=f"gear-{variant}", **values)


def test_counts_come_back_as_they_were_and_make_the_table(tmp_path):
    counts = counted(maps())
    results.write_pixels(tmp_path, run_of("none"), {"grad-cam": counted(maps(1))})
    path = results.write_pixels(tmp_path, run_of(), {"distance": counts})
    run, found = results.read_pixels(path)
    assert run == run_of() and found["distance"].n_regions == 8
    assert np.array_equal(found["distance"].normal, counts.normal)
    assert np.allclose(found["distance"].overlap, counts.overlap, rtol=1e-5)
    table = summary_of_pixels(tmp_path)
    assert list(table["method"]) == ["grad-cam", "distance"]
    assert table["pixel_auroc"][1] == pytest.approx(pixel_auroc(counts), abs=1e-9)
    assert table["aupro"][1] == pytest.approx(aupro(counts), abs=1e-5)
    text = "\n".join(pixels_told_apart(table))
    assert f"| PatchCore | Distance to normal places | 8 | {100 * pixel_auroc(counts):.1f} |" in text
    assert pixels_told_apart(summary_of_pixels(tmp_path / "empty")) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("distance,", "magic,", r"line \d+: method must be one of grad-cam"),
        ("distance,3", f"distance,{BINS}", "bin must be below"),
        ("distance,", "distance,-", "bin must be a whole number"),
    ],
)
def test_bad_counts_are_refused_with_their_place(tmp_path, old, new, message):
    path = results.write_pixels(tmp_path, run_of(), {"distance": counted(maps())})
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ResultsError, match=message):
        results.read_pixels(path)
    path.write_text("method,bin,normal,anomalous,overlap\n")
    with pytest.raises(ResultsError, match="holds no map"):
        results.read_pixels(path)


def test_counts_say_which_model_they_are_of(tmp_path):
    path = results.write_pixels(tmp_path, run_of(), {"distance": counted(maps())})
    described = path.with_suffix(".json")
    described.write_text(json.dumps(json.loads(described.read_text()) | {"run": "another"}))
    with pytest.raises(ResultsError, match="belongs to sample/gear/another"):
        results.read_pixels(path)
