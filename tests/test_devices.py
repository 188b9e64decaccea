"""Where tensors are computed. No GPU is needed: `meta` tensors have no values, so that whatever waits for one or mixes
devices raises; batches and threads are tried on the CPU."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import attention_training, features, paper_recipe
from attentdiffernet.category import InspectionDataset
from attentdiffernet.devices import find_device, read_behind
from attentdiffernet.errors import AttentDifferNetError, ImageError
from attentdiffernet.features import FeatureExtractor, Pace
from attentdiffernet.flow_fitting import fit_flow
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, FlowConfig, Options
from attentdiffernet.scoring import score_images
from attentdiffernet.views import FEW_VIEWS, even_angles, make_views

# -- which device


@pytest.fixture
def gpus(monkeypatch):
    """gpus(n): as if the machine had so many."""

    def have(n):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: n)

    return have


@pytest.mark.parametrize(
    ("n", "name", "device"),
    [(0, "cpu", "cpu"), (0, "auto", "cpu"), (2, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cuda:1", "cuda:1")],
)
def test_a_device_that_is_there(n, name, device, gpus):
    gpus(n)
    assert find_device(name) == torch.device(device) == find_device(torch.device(device))


@pytest.mark.parametrize(
    ("n", "name", "here"),
    [(0, "cuda", "cpu"), (2, "cuda:2", "cpu, cuda:0, cuda:1"), (2, "mps", "cpu, cuda:0, cuda:1"), (0, "meta", "cpu")],
)
def test_a_device_that_is_not_there(n, name, here, gpus):
    gpus(n)
    with pytest.raises(AttentDifferNetError, match=f"^There is no device {name} here; there is {here}$"):
        find_device(name)


# -- nothing is waited for


@pytest.fixture
def on_meta(small):
    return lambda kind="cbam", **config: copy.deepcopy(small(kind, **config)).to("meta")


@pytest.mark.parametrize("kind", ["none", "se", "cbam"])
@pytest.mark.parametrize("views", [even_angles(8), FEW_VIEWS["dihedral"]])
def test_from_image_to_score_no_value_is_asked_for(kind, views, on_meta, small):
    model, image = on_meta(kind), torch.rand(3, 63, 63)
    seen = make_views(image.to("meta"), views)
    assert seen.stride() == make_views(image, views).stride() and seen.device.type == model.device.type == "meta"
    z, log_det_jac = model.latent(model.features(seen))
    assert (z.shape, log_det_jac.shape) == ((8, 256), (8,)) and z.is_meta and log_det_jac.is_meta
    for readout in ("z2_of_mean", "likelihood", "gaussian_full_scale"):
        assert on_meta(kind, readout=readout).score(model.features(seen)[None]).is_meta


def test_a_batch_is_launched_without_waiting(on_meta):
    """Images on the CPU, of two shapes; one that needs no run."""
    batch = [(torch.rand(3, 63, side), FEW_VIEWS["flips"][:n], "") for side, n in ((63, 2), (70, 1), (63, 4))]
    batch.insert(1, (None, FEW_VIEWS["flips"][:0], ""))
    assert FeatureExtractor(on_meta())._launched(batch).is_meta
    assert FeatureExtractor(on_meta())._launched(batch).shape == (7, 256)
    assert FeatureExtractor(on_meta()).pace == features.ON_GPU


@pytest.mark.parametrize("whitening", [True, False])
def test_the_flow_is_fitted_without_waiting(whitening, on_meta, monkeypatch):
    flow = on_meta("none", flow=FlowConfig(2, 16, 1, whitening=whitening), readout="z2").flow
    monkeypatch.setattr(torch, "Generator", lambda device: torch.default_generator)  # `meta` has none of its own
    for parameter in flow.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with torch.random.fork_rng(devices=[]):
        fit_flow(flow, torch.rand(20, 256), Options(epochs=2, batch_size=8))
    assert all(parameter.is_meta for parameter in flow.parameters())


def test_the_papers_recipe_fits_without_waiting(on_meta, category):
    model = on_meta("none", flow=FlowConfig(1, 8, 1, whitening=False), readout="z2")
    for parameter in model.flow.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    paths = [image.path for image in InspectionDataset(category).train[:3]]
    assert paper_recipe.fit(model, paths, Options(recipe="paper", epochs=2, training_views=1)) == 2


def test_attention_is_trained_without_waiting(category, monkeypatch):
    monkeypatch.setattr(attention_training, "STEPS", {"proxy": 2})
    config = ModelConfig("cbam", AttentionConfig(training="proxy"), weights="random", image_size=256)
    paths = [image.path for image in InspectionDataset(category).train[:3]]
    losses = []
    model = AttentDifferNet(config).to("meta")
    assert attention_training.fit_attention(model, paths, 0, watch=lambda k, loss, spread: losses.append(loss)) == 2
    assert [loss.is_meta for loss in losses] == [True, True], "who watches may read them"


@pytest.mark.parametrize(
    ("behind", "order"), [(False, "launch 0, read 0, launch 1, read 1"), (True, "launch 0, launch 1, read 0, read 1")]
)
def test_a_result_is_read_when_the_next_one_is_under_way(behind, order):
    told = []

    def launched():
        for k in range(2):
            told.append(f"launch {k}")
            yield torch.tensor(k), f"with {k}"

    for value, came_along in read_behind(launched(), behind):
        assert came_along == f"with {value}"
        told.append(f"read {value}")
    assert ", ".join(told) == order


# -- batches of several images


@pytest.fixture
def files(tmp_path):
    """Seven pictures of three shapes, mixed; the third is a copy of the first."""
    rng, paths = np.random.default_rng(0), []
    for k, shape in enumerate([(40, 40), (40, 60), (40, 40), (60, 40), (60, 40), (40, 40), (40, 60)]):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(paths[-1])
    paths[2].write_bytes(paths[0].read_bytes())
    return paths


@pytest.fixture
def model(small):
    return small("se", views="flips", resize="keep_aspect", image_size=100)


@pytest.fixture
def in_batches(monkeypatch):
    return lambda: monkeypatch.setattr(features, "ON_CPU", Pace(views=10, shared=True, threads=3, ahead=5))


def entries(cache):
    return {path.name: np.load(path) for path in cache.glob("*/*.npy")}


def test_images_in_batches_have_the_features_they_have_alone(model, files, in_batches, monkeypatch, tmp_path):
    caches = tmp_path / "alone", tmp_path / "together"
    alone = list(FeatureExtractor(model, caches[0]).even_views(files, 4))
    in_batches()
    runs = []
    monkeypatch.setattr(model, "features", lambda x: runs.append(len(x)) or type(model).features(model, x))
    stream = FeatureExtractor(model, caches[1]).even_views(files, 4)
    first = next(stream)
    assert runs == [4, 4, 4, 4], "two batches of two images are launched before one is read"
    together = [first, *stream]
    assert runs == [4, 4, 4, 4, 4, 4, 4]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other)
    names = [entries(cache) for cache in caches]
    assert names[0].keys() == names[1].keys() and len(names[0]) == 6 * 4
    assert all(np.allclose(row, names[1][name], atol=1e-6) for name, row in names[0].items())

    again = list(FeatureExtractor(model, caches[1]).even_views(files, 4))
    assert len(runs) == 7 and all(torch.equal(one, other) for one, other in zip(together, again, strict=True))
    list(FeatureExtractor(model).even_views([files[0], files[5]], 4))
    assert runs[7:] == [8], "two of one shape run together"
    assert FeatureExtractor(model).random_views(files[:2], 3, seed=1).shape == (2, 3, 256)


def test_scores_in_batches_are_those_of_single_images(model, files, in_batches, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    alone = [score.value for score in score_images(model, files, 4)]
    mixed = [*map(str, files[:3]), str(tmp_path / "bad.png"), *map(str, files[3:])]
    in_batches()
    scores = list(score_images(model, mixed, 4))
    assert isinstance(scores.pop(3), ImageError)
    assert [score.value for score in scores] == pytest.approx(alone, rel=1e-4)
    assert [str(error) for error in score_images(model, [str(tmp_path / "gone.png")] * 12, 4)] == [
        "There is no file gone.png"
    ] * 12


def test_an_image_with_more_views_than_a_batch_runs_in_parts(small, in_batches, monkeypatch):
    in_batches()
    model, runs = small("none"), []
    monkeypatch.setattr(model, "features", lambda x: runs.append(len(x)) or type(model).features(model, x))
    ((rows, _),) = FeatureExtractor(model).stream([(torch.rand(3, 63, 63), even_angles(23), None)])
    assert runs == [10, 10, 3] and rows.shape == (23, 256)


def test_all_commands_that_run_a_model_name_a_device_that_is_not_there(gpus, category, monkeypatch, capsys, tmp_path):
    from attentdiffernet import cli

    gpus(0)
    model = Path(__file__).parents[1] / "models" / "sample" / "wafer" / "none"
    image = InspectionDataset(category).test[0].path
    for command in (
        ["train", category, "--out", tmp_path / "model"],
        ["evaluate", model, category, "--out", tmp_path / "scores.csv"],
        ["score", model, image],
        ["explain", model, image, "--out", tmp_path / "map.png"],
        ["localise", model, category, "--results", tmp_path],
    ):
        monkeypatch.setattr("sys.argv", ["attentdiffernet", *map(str, command), "--device", "cuda"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        assert capsys.readouterr() == ("", "Error: There is no device cuda here; there is cpu\n")
    assert not list(tmp_path.iterdir())
