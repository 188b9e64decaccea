"""Shared by the tests: tiny models, a tiny category of real files, and a guard on global state."""

import contextlib
import functools
import gc
import importlib.resources
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from attentdiffernet.card import DataCard
from attentdiffernet.datasets.sample import write
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.explain import methods_of
from attentdiffernet.findings import Calibration, Findings
from attentdiffernet.methods import fit
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, FlowConfig, Options, PatchCoreConfig
from attentdiffernet.packing import round_as_stored
from attentdiffernet.words import PAPER_VARIANTS

ROOT = Path(__file__).resolve().parent.parent
SIZE = 256  # px: 252 are the least for three scales of AlexNet
FLOW = FlowConfig(n_blocks=2, hidden_width=16, hidden_layers=1)

# Tensors are tiny here: on cores that others use too, threads that wait for each other take ten times as long.
torch.set_num_threads(1)
threadpool_limits(1)  # of the libraries that are loaded
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # of others, and of processes of tests


gc.disable()  # until all is imported, which stays


def pytest_collection_finish():
    """The collector need not look through what was imported, again and again."""
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path, config):
    """Where quick tests are asked for, files without one are not even imported: gradio and streamlit take seconds."""
    asked_for = config.getoption("markexpr").startswith("quick")
    is_file = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if asked_for and is_file and "mark.quick" not in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items):
    """Long files first, so that workers end together: those that drive a browser, then those that start processes."""
    rank = {}
    for item in items:
        place = next((k for k, mark in enumerate(("browser", "process")) if item.get_closest_marker(mark)), 2)
        rank[item.path] = min(place, rank.get(item.path, place))
    items.sort(key=lambda item: rank[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker takes a whole file, so that its fixtures are made once; the files that need `page_url` go together."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "demo" if nodeid.startswith("tests/test_demo_") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def stirred(model):
    """The model, ready to score, with a whitening and couplings that do something, in place: they start as identity."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.flow.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
        if model.whitening is not None:
            model.whitening.mean.copy_(0.1 * torch.rand(model.n_features, generator=rng))
            noise = 0.02 * torch.randn(model.n_features, model.n_features, generator=rng)
            model.whitening.factor.copy_(torch.diag(1 + torch.rand(model.n_features, generator=rng)) + noise.tril(-1))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny():
    """tiny(kind, seed, **attention) -> a small model on the random backbone, built once: leave it as it is."""

    @functools.cache
    def build(kind="none", seed=0, **attention):
        blocks = AttentionConfig(**{"training": "untrained", **attention})
        return stirred(AttentDifferNet(ModelConfig(kind, blocks, flow=FLOW, weights="random", image_size=SIZE), seed))

    return build


@pytest.fixture(scope="session")
def small():
    """small(kind, **config) -> as tiny, at one scale of 63 px: 256 features, and a view takes no time."""

    @functools.cache
    def build(kind="none", **config):
        config = {"flow": FLOW, "weights": "random", "image_size": 63, "n_scales": 1, **config}
        return stirred(AttentDifferNet(ModelConfig(kind, AttentionConfig(training="untrained"), **config)))

    return build


@pytest.fixture
def small_image():
    """A picture with no symmetry for `small`, (3, 63, 63) in [0, 1]."""
    return torch.rand(3, 63, 63, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def detector(tiny):
    """detector(kind) -> a tiny model with a made-up calibration, as a checkpoint would hold it."""

    def build(kind="cbam", model=None, **changes):
        model = round_as_stored(stirred(AttentDifferNet(tiny(kind).config)) if model is None else model)
        config = model.config
        asked = {name: getattr(config, name) for name in ("variant", "attention", "flow", "weights", "image_size")}
        found = {name: getattr(config, name) for name in ("views", "resize", "exposure", "readout", "gates_kept")}
        references = dict.fromkeys(methods_of(config), 0.5)
        parts = {
            "options": Options(**asked, n_scales=config.n_scales, epochs=3),
            "findings": Findings(**found, training_views=8, scoring_views=2, feature_scale=model.feature_scale),
            "calibration": Calibration(1.25, 2, 0.25, (0.5, 1.0, 1.25), references),
            "data": DataCard("sample", "wafer", 12, "Wafer maps, drawn", "CC0-1.0", "our own pencil"),
        }
        return DifferNetDetector(model, **parts | changes)

    return build


@pytest.fixture(scope="session")
def category(tmp_path_factory):
    """A folder in the MVTec layout with real files: 8 normal wafer maps to train on, 3 + 4 to test."""
    root = tmp_path_factory.mktemp("data") / "sample"
    return write(root, ["wafer"], n_train=8, n_test_good=3, n_per_level=1, levels=["moderate"]) / "wafer"


@pytest.fixture
def image():
    """A picture with no symmetry, (3, SIZE, SIZE) in [0, 1]: smooth, so that turning it loses little."""
    y, x = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="ij")
    return torch.stack([x * y, (1 - x) * y**2, 0.5 + 0.4 * torch.sin(9 * x + 4 * y)])


@pytest.fixture
def run(monkeypatch, capsys):
    """run(*arguments) -> (exit code, stdout, stderr) of the command line, in this process."""
    from attentdiffernet import cli

    monkeypatch.setattr(cli.console, "SECONDS_BETWEEN_LINES", float("inf"))  # nor on a slow machine

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["attentdiffernet", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        output, errors = capsys.readouterr()
        return code, output, errors

    return call


@pytest.fixture(autouse=True)
def _cache_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTENTDIFFERNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ATTENTDIFFERNET_IMAGENET_WEIGHTS", raising=False)


@pytest.fixture
def global_state_kept():
    """Fails where the test has moved the global random state of NumPy or torch, or the number of threads."""
    before = np.random.get_state()[1].tobytes(), torch.get_rng_state(), torch.get_num_threads()
    yield
    assert np.random.get_state()[1].tobytes() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == before[2]


@pytest.fixture(scope="session")
def serious():
    """serious(page, *selectors) -> what axe-core finds serious or critical on a page, outside of what is selected."""
    source = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

    def find(page, *excluded):
        if not page.evaluate("'axe' in window"):
            page.evaluate(source)
            page.add_style_tag(content="* { transition: none !important; }")  # a colour on its way has no contrast
        run = "excluded => axe.run({exclude: excluded}, {resultTypes: ['violations']})"
        found = page.evaluate(run, [[selector] for selector in excluded])["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    return find


@pytest.fixture(scope="session")
def models(tmp_path_factory, category):
    """The shipped models of wafer maps, with a small PatchCore, and PatchCore's of two other categories."""
    folder = tmp_path_factory.mktemp("models")
    used = [f"sample/wafer/{variant}" for variant in PAPER_VARIANTS]
    for name in (*used, "sample/gear/patchcore-places", "mvtec_ad/bottle/none", "mvtec_ad/bottle/patchcore-places"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / "models" / name)
    options = Options(method="patchcore", variant="places", image_size=256, patchcore=PatchCoreConfig(bank_size=200))
    fit(category / "train" / "good", options).save(folder / "sample" / "wafer" / "patchcore-places")
    return folder


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory):
    """Where the demo of `page_url` writes."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="session")
def page_url(page_folder, models):
    """The demo as visitors meet it: app.py in a process of its own. What it did not expect fails the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(page_folder / "uploads")}
    environment |= {"ATTENTDIFFERNET_MODELS": str(models)}
    log = page_folder / "log.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            break
        time.sleep(0.2)
    yield url
    alive = process.poll() is None
    process.terminate()
    process.wait(30)
    said = log.read_text()
    assert alive, f"the page went down:\n{said}"
    # Gradio logs a path that it refuses, as a test provokes, with its traceback.
    assert said.count("Traceback") == said.count("gradio.exceptions.InvalidPathError: "), said
