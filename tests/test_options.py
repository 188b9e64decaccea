"""Options: what no detector can have is refused in words, what is stored anywhere goes on being accepted."""

import json
import math
from pathlib import Path

import pytest
import torch

from attentdiffernet import checkpoint, format2
from attentdiffernet.card import DataCard
from attentdiffernet.errors import AttentDifferNetError, CheckpointError
from attentdiffernet.findings import Calibration, Findings
from attentdiffernet.grid import read_grid
from attentdiffernet.options import AttentionConfig, FlowConfig, Options, PatchCoreConfig

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("learning_rate", (-1, 0, 2, NAN, INF), "above 0 and at most at 1"),
        ("eps", (-1, 0, 2, NAN, INF), "above 0 and at most at 1"),
        ("weight_decay", (-1e-9, 2, NAN, INF), r"in 0\.\.1"),
        ("betas", ((2, 3), (0.8, 1.0), (-0.1, 0.8), (0.8, NAN)), r"in 0\.\.1, below 1"),
        ("feature_noise", (-0.1, 11, NAN, INF), r"in 0\.\.10"),
        ("epochs", (0, -1, 10**9), r"in 1\.\.1000000"),
        ("batch_size", (0, -1, 10**9), r"in 1\.\.1000000"),
        ("training_views", (0, -1, 10**9), r"in 1\.\.1000000"),
        ("seed", (-1, 2**31), r"in 0\.\.2147483647"),
        ("data_seed", (-1, 2**31), r"in 0\.\.2147483647"),
        ("calibration_fraction", (0, 1, -1, NAN, INF), "between 0 and 1"),
        ("false_positive_rate", (0, 1, -1, NAN, INF), "between 0 and 1"),
        ("value_range", (0, -1, 65536, NAN, INF), "above 0 and at most at 65535"),
        ("n_scales", (0, -1, 5), r"in 1\.\.4"),
    ],
)
def test_an_impossible_option_is_refused_with_what_came_and_what_is_wanted(name, values, wanted):
    for value in values:
        with pytest.raises(AttentDifferNetError, match=rf"^{name} must lie {wanted}, got ") as caught:
            Options(**{name: value})
        assert str(caught.value).endswith(f", got {value}")


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (FlowConfig, "n_blocks", (0, 65)),
        (FlowConfig, "hidden_width", (0, 8193)),
        (FlowConfig, "hidden_layers", (0, 17)),
        (FlowConfig, "clamp", (0, -1, 101, NAN, INF)),
        (AttentionConfig, "reduction", (0, 65)),
        (AttentionConfig, "kernel_size", (0, 4, 129)),
        (PatchCoreConfig, "strides", ((), (0,), (16, 8))),
        (PatchCoreConfig, "bank_size", (0, 100_001)),
        (PatchCoreConfig, "n_calibrated", (-1, 100_001)),
        (PatchCoreConfig, "highest", (0, -1, 2.5, 1e7, NAN, INF)),
    ],
)
def test_an_impossible_size_is_refused(kind, name, values):
    for value in values:
        with pytest.raises(AttentDifferNetError, match=rf"^{name} must .*, got "):
            kind(**{name: value})


def test_patchcore_needs_scores_for_its_threshold():
    with pytest.raises(AttentDifferNetError, match="n_calibrated must be 1 or more"):
        Options(method="patchcore", patchcore=PatchCoreConfig(n_calibrated=0))


# -- what is accepted can be stored


def stored(options):
    """A checkpoint of such a detector."""
    differnet = options.method == "differnet"
    readout = "z2" if differnet else "mean_of_highest"
    findings = Findings("none", "squeeze", "as_is", readout, training_views=1, scoring_views=1)
    calibration = Calibration(1.0, 1, 0.5, (1.0,), {}, cross_validated=not differnet)
    return checkpoint.Checkpoint(options, findings, calibration, DataCard(), "0" * 16)


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"image_size": 1152}, "image_size must be 1024 px or less, got 1152"),
        ({"n_scales": 5, "image_size": 1024}, r"n_scales must lie in 1\.\.4, got 5"),
        (
            {"flow": FlowConfig(64, 8192, 9)},
            "A flow has 400 million parameters at most, got 69927 million: n_blocks 64",
        ),
        ({"method": "patchcore", "image_size": 1152}, "image_size must be 1024 px or less, got 1152"),
        ({"method": "patchcore", "image_size": 31}, "needs 32 px at its last scale: 31 px"),
        ({"method": "patchcore", "n_scales": 5}, r"n_scales must lie in 1\.\.4, got 5"),
    ],
)
def test_a_size_that_could_not_be_loaded_is_refused_before_the_training(sizes, complaint):
    with pytest.raises(AttentDifferNetError, match=complaint):
        Options(**sizes)


@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": 1024, "n_scales": 4},
        {"image_size": 63, "n_scales": 1},
        {"method": "patchcore", "image_size": 1024, "n_scales": 4},
        {"method": "patchcore", "image_size": 32},
    ],
)
def test_the_largest_and_smallest_models_are_read_back(sizes, tmp_path):
    written = stored(Options(**sizes))
    folder = checkpoint.write(tmp_path / "model", written, {"any": torch.zeros(1)})
    assert checkpoint.read(folder) == written


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    uncalibrated = checkpoint.Checkpoint(**vars(stored(Options())) | {"calibration": Calibration.none()})
    with pytest.raises(CheckpointError, match="The model has a calibration without finite numbers"):
        checkpoint.write(tmp_path / "model", uncalibrated, {"any": torch.zeros(1)})
    assert not list(tmp_path.iterdir())


# -- what is stored is accepted


def test_options_of_all_results_models_and_grids_are_accepted():
    models = [json.loads(path.read_text()) for path in ROOT.glob("models/*/*/*/config.json")]
    assert len([format2.options_and_findings(config) for config in models]) == 20
    records = [json.loads(path.read_text()) for path in ROOT.glob("results/scores/*/*/*.json")]
    today = [Options.from_dict(record["options"]) for record in records if "options" in record]
    older = [format2.options_of(record) for record in records if "training" in record]
    assert today and older and len(today) + len(older) == len(records)
    categories = {f"{path.parent.name}/{path.name}" for path in ROOT.glob("results/scores/*/*")}
    assert all(read_grid(path, among=categories) for path in ROOT.glob("grids/*.toml"))
