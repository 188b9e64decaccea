"""Every shipped model gives the scores, threshold and fingerprint that it has always given.

After a model or an example was changed on purpose, `python -m tests.test_golden_scores` writes the file anew. It needs
the ImageNet weights that ATTENTDIFFERNET_IMAGENET_WEIGHTS names.
"""

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

GOLDEN_FILE = ROOT / "tests" / "golden" / "shipped_scores.csv"
COLUMNS = ("model", "image", "score", "threshold", "fingerprint")
EXAMPLES = Path("demo/examples")
VIEWS = 2  # of the 8 of the sample models: the first ones, whose scores take the same way
ANY_EXAMPLES = (EXAMPLES / "sample/gear/good.jpg", EXAMPLES / "sample/wafer/obvious-centre.png")

with open(GOLDEN_FILE, newline="") as file:
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
    for row, verdict in zip(rows, detector.inspect_all([ROOT / row["image"] for row in rows], VIEWS), strict=True):
        assert not verdict.error
        assert verdict.score == pytest.approx(float(row["score"]), rel=1e-6)
        assert verdict.threshold == pytest.approx(float(row["threshold"]), rel=1e-6)


def write_anew() -> None:
    """Scores of every shipped model on the examples of its category, or on two others where it has none."""
    with open(GOLDEN_FILE, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for folder in sorted(path.parent for path in (ROOT / "models").glob("*/*/*/config.json")):
            model = folder.relative_to(ROOT / "models").as_posix()
            own = sorted(path.relative_to(ROOT) for path in (ROOT / EXAMPLES / model).parent.glob("*.*"))
            images, detector = own or list(ANY_EXAMPLES), adn.load(folder, load_weights=weights_of)
            for image, verdict in zip(
                images, detector.inspect_all([ROOT / image for image in images], VIEWS), strict=True
            ):
                scores = f"{verdict.score:.9g}", f"{verdict.threshold:.9g}"
                writer.writerow((model, image.as_posix(), *scores, detector.fingerprint))


if __name__ == "__main__":
    write_anew()
