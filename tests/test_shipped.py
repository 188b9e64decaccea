"""What the repository ships says the truth: tables equal the score files, models load, give the scores they gave."""

import sys
from pathlib import Path

import pytest

import attentdiffernet as adn
from attentdiffernet import checkpoint
from attentdiffernet.backbone import imagenet_at_hand
from attentdiffernet.datasets.sample import CATEGORIES
from attentdiffernet.options import ALEXNET
from attentdiffernet.study.records import read_scores, runs_of, score_path
from scripts import write_tables

ROOT = Path(__file__).resolve().parent.parent
RUNS = list(runs_of(ROOT / "results").values())
SHIPPED = sorted(path.parent for path in (ROOT / "models").glob("*/*/*/config.json"))


def test_generated_parts_of_both_readmes_are_drawn_from_the_score_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["write_tables", "--check"])
    with pytest.raises(SystemExit) as done:
        write_tables.main()
    assert done.value.code == 0


def test_every_sample_category_has_the_three_variants_with_a_measured_run() -> None:
    shipped = {path.relative_to(ROOT / "models").as_posix() for path in SHIPPED}
    measured = {f"{run.dataset}/{run.category}/{run.variant}" for run in RUNS}
    for category in CATEGORIES:
        for variant in ("none", "se", "cbam"):
            assert f"sample/{category}/{variant}" in shipped
    assert shipped <= measured


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: "-".join(path.parts[-3:]))
def test_a_shipped_model_loads_and_its_card_names_data_and_licence(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert folder.parent.name in card
    assert "| Licence of the data | not stated |" not in card
    options = checkpoint.read(folder).options
    if (options.backbone, options.weights) == (ALEXNET, "imagenet") and not imagenet_at_hand():
        pytest.skip("needs the ImageNet weights, which are not on this machine")
    detector = adn.load(folder)
    assert detector.key == folder.name
    assert detector.calibration.scores[0] <= detector.calibration.threshold <= detector.calibration.scores[-1]


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_demo_examples_get_the_scores_of_the_score_file(category: str) -> None:
    # Other processors round differently: 1 % is far less than the distance between normal and anomalous.
    detector = adn.load(ROOT / "models" / "sample" / category / "none")
    run = next(r for r in RUNS if (r.dataset, r.category, r.variant) == ("sample", category, "none"))
    path = score_path(ROOT / "results", "sample", category, run.run)
    scores = read_scores(path).set_index("image")["score"]
    examples = sorted((ROOT / "demo" / "examples" / "sample" / category).iterdir())
    assert len(examples) == 1 + len(CATEGORIES[category].defects)
    for example in examples[:2]:
        stored = scores[f"{example.stem}/000{example.suffix}"]
        assert detector.inspect(example, run.n_views).score == pytest.approx(stored, rel=0.01)
