"""Every shipped model gives the scores, threshold and fingerprint that it has always given."""

import csv
import functools
import os
from collections import defaultdict
from pathlib import Path

import pytest

import attentdiffernet as adn
from attentdiffernet.backbone import IMAGENET_ENVIRONMENT, load_weights

ROOT = Path(__file__).parents[1]
IMAGENET = os.environ.get(IMAGENET_ENVIRONMENT)  # read here: a fixture takes it away from the tests
NEEDS_IMAGENET = ("mtd/", "mvtec_ad/")

with open(ROOT / "tests" / "golden" / "shipped_scores.csv", newline="") as file:
    GOLDEN = defaultdict(list)
    for row in csv.DictReader(file):
        GOLDEN[row["model"]].append(row)

weights_of = functools.cache(load_weights)


@pytest.mark.parametrize("model", GOLDEN)
def test_shipped_scores_do_not_change(model, monkeypatch):
    if model.startswith(NEEDS_IMAGENET):
        if not IMAGENET:
            pytest.skip(f"needs the ImageNet weights that {IMAGENET_ENVIRONMENT} names")
        monkeypatch.setenv(IMAGENET_ENVIRONMENT, IMAGENET)
    rows = GOLDEN[model]
    detector = adn.load(ROOT / "models" / model, load_weights=weights_of)
    assert {row["fingerprint"] for row in rows} == {detector.fingerprint}
    for row, verdict in zip(rows, detector.inspect_all([ROOT / row["image"] for row in rows]), strict=True):
        assert not verdict.error
        assert verdict.score == pytest.approx(float(row["score"]), rel=1e-6)
        assert verdict.threshold == pytest.approx(float(row["threshold"]), rel=1e-6)
