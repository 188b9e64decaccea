"""The parts of scripts/gpu_session.sh, which says what they are for: pack, merge; checks, speed, runs."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / os.environ.get("GPU_PACK", ".gpu")
OUT = ROOT / os.environ.get("OUT", "gpu-out")
DEVICE = os.environ.get("DEVICE", "cuda")
CATEGORIES = os.environ.get("CATEGORIES", "").split()
LIMIT = 64 * 2**20  # bytes that travel
WHEELS = ("freia", "grad-cam", "ttach")  # of this project's needs, what torch's own companions do not bring
NOT_NEEDED = "models", "models/sample/wafer"  # of what is committed: all below the first but the second
FLOP_PER_VIEW = 2 * (3.58e9 + 0.172e9)  # backbone at three scales, and the flow of 172 M parameters
SAME, SAME_AUROC = 1e-4, 0.002  # relative difference of scores, and of AUROC after another training


def left() -> float:
    """Seconds until the session ends."""
    return float(os.environ.get("GPU_SESSION_ENDS", "inf")) - time.time()


# -- here, before


def pack() -> None:
    """Wheels, weights, images to train on and to test, and the commit, into PACK; refused above LIMIT."""
    below, but = NOT_NEEDED
    _git("sparse-checkout", "set", "--no-cone", "/*", f"!/{below}/*", f"/{but}/")
    shutil.rmtree(PACK, ignore_errors=True)
    wheels = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS]
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(PACK / "wheels"), *wheels]
    subprocess.run(pip, check=True)
    weights = Path(os.environ["ATTENTDIFFERNET_IMAGENET_WEIGHTS"])
    (PACK / "weights").mkdir(parents=True)
    shutil.copyfile(weights, PACK / "weights" / weights.name)
    for category in CATEGORIES:
        for part in ("train/good", "test"):
            source = Path(os.environ["ATTENTDIFFERNET_DATA"]) / category / part
            shutil.copytree(source, PACK / "data" / category / part, copy_function=shutil.copyfile)
    (PACK / "commit").write_text(
        _git("rev-parse", "--short", "HEAD") + "+" * bool(_git("status", "--porcelain", "--", "attentdiffernet"))
    )
    tree = [ROOT / name for name in _git("ls-files", "-co", "--exclude-standard", "-z").split("\0") if name]
    sizes = {"working tree": _bytes(path for path in tree if path.is_file())}
    sizes |= {
        str(path.relative_to(PACK)): _bytes(path.rglob("*"))
        for path in [PACK / "wheels", PACK / "weights", *(PACK / "data" / category for category in CATEGORIES)]
    }
    for name, size in (sizes | {"together": sum(sizes.values())}).items():
        print(f"{name:24} {size / 1e6:6.1f} MB")
    if sum(sizes.values()) > LIMIT:
        sys.exit(f"More than {LIMIT / 1e6:.1f} MB: name fewer CATEGORIES")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _bytes(files: Iterator[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.is_file())


# -- there


def checks() -> None:
    """Whether a GPU gives what the CPU gives: in gpu_checks.json, with numbers and whether they are small enough."""
    import torch

    from attentdiffernet.devices import find_device

    told = _Told("gpu_checks.json")
    device = find_device(DEVICE)
    told["machine"] = {"torch": torch.__version__, "device": _device_name(device), "auto": str(find_device("auto"))}
    told["auto"] = {"passed": find_device("auto").type == device.type}
    told.tried("scores and features", lambda: _shipped_models(device, maps=False))
    told.tried("maps", lambda: _shipped_models(device, maps=True))
    told.tried("training", lambda: _training(device))


class _Told(dict[str, Any]):
    """What is found, written to a file as soon as it is there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.path = OUT / name

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self, indent=1) + "\n")
        print(key, json.dumps(value), flush=True)

    def tried(self, key: str, find: Callable[[], Any]) -> None:
        """A fault is a finding, too, and costs only itself."""
        try:
            self[key] = find()
        except Exception as error:
            self[key] = {"passed": False, "error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _shipped_models(device: Any, maps: bool) -> dict[str, Any]:
    """Largest relative differences over the shipped DifferNets of drawn wafers, on the demo's example images: of scores
    and features, or of the maps of one image, whose gradients add up more rounding. PatchCore's network does not
    travel."""
    import numpy as np
    import torch

    import attentdiffernet as adn
    from attentdiffernet.differnet import DifferNetDetector
    from attentdiffernet.features import FeatureExtractor
    from attentdiffernet.images import read_image

    worst: dict[str, float] = {}

    def differ(what: str, one: Any, other: Any) -> None:
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        worst[what] = max(worst.get(what, 0.0), float(np.linalg.norm(other - one) / np.linalg.norm(one)))

    folders = [ROOT / "models" / "sample" / "wafer" / variant for variant in ("none", "se", "cbam")]
    for folder in folders:
        paths = sorted((ROOT / "demo" / "examples" / "sample" / folder.parent.name).glob("*.*"))[:4]
        here, there = (adn.load(folder, device=place) for place in ("cpu", device))
        assert isinstance(here, DifferNetDetector)
        assert isinstance(there, DifferNetDetector)
        pixels = read_image(paths[0])
        for method in here.maps if maps else ():
            differ(method, *(detector.raw_map(pixels, method) for detector in (here, there)))
        if maps:
            continue
        for one, other in zip(*(detector.inspect_all(paths) for detector in (here, there)), strict=True):
            differ("scores", one.score, other.score)
        image, views = here.model.prepare(pixels), here.model.views(4)
        with torch.inference_mode():
            differ("features", *(FeatureExtractor(d.model).of_image(image, views).cpu() for d in (here, there)))
    passed = bool(worst) and max(worst.values()) < (10 if maps else 1) * SAME
    return {"models": len(folders), "largest": worst, "passed": passed}


def _training(device: Any) -> dict[str, Any]:
    """AUROC of the recipe `fast`, four quarter turns, trained on the CPU and on the device; random numbers differ."""
    import attentdiffernet as adn
    from attentdiffernet.category import InspectionDataset
    from attentdiffernet.options import Options
    from attentdiffernet.study.statistics import auroc

    name = CATEGORIES[-1]
    data = InspectionDataset(PACK / "data" / name)
    options = Options(views="quarter_turns", resize="squeeze", exposure="as_is", readout="z2_of_mean")
    found: dict[str, Any] = {"category": name}
    for place in ("cpu", str(device)):
        start = time.perf_counter()
        detector = adn.fit(data.train, options, device=place)
        found[f"{place}_training_s"] = round(time.perf_counter() - start, 1)
        scores = [verdict.score for verdict in detector.inspect_all(data.test)]
        found[f"{place}_auroc"] = auroc([image.label for image in data.test], scores)
    found["passed"] = abs(found["cpu_auroc"] - found[f"{device}_auroc"]) <= SAME_AUROC
    return found


def speed() -> None:
    """Views and images per second, on the device and on the CPU beside it, and matrix products, into gpu_speed.json."""
    import torch

    from attentdiffernet.devices import find_device

    told, device = _Told("gpu_speed.json"), find_device(DEVICE)
    told["machine"] = {"torch": torch.__version__, "device": _device_name(device), "threads": torch.get_num_threads()}
    told.tried("matrix_product_tflops", lambda: _products(device))
    for kind in ("none", "se", "cbam"):
        told.tried(f"paper_{kind}", partial(_paper_speed, kind, device))
    told.tried("fast", lambda: _fast_speed(device))
    told.tried("fast_on_the_cpu", lambda: _fast_speed(torch.device("cpu")))
    told.tried("paper_none_on_the_cpu", lambda: _paper_speed("none", torch.device("cpu")))


def _score_all(model: Any, paths: list[Path], n_views: int) -> list[object]:
    from attentdiffernet.scoring import score_images

    return list(score_images(model, paths, n_views))


def _seconds(do: Callable[[], object], device: Any, least: int = 3) -> float:
    """The median of some runs after one to warm up, waited for."""
    import torch

    def once() -> float:
        start = time.perf_counter()
        do()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(least))


def _products(device: Any) -> dict[str, float]:
    """TFLOP/s of float32 matrices, in full and with TF32."""
    import torch

    n, found, before = (8192 if device.type == "cuda" else 1024), {}, torch.get_float32_matmul_precision()
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        found[name] = 2 * n**3 / _seconds(lambda: a @ b, device, 5) / 1e12
    torch.set_float32_matmul_precision(before)
    return found


def _paper_speed(kind: str, device: Any) -> dict[str, float]:
    """Views per second of `paper`: of training, attention with the flow, and of scoring; of full size on a GPU."""
    import torch

    from attentdiffernet import paper_recipe
    from attentdiffernet.category import InspectionDataset
    from attentdiffernet.model import AttentDifferNet, ModelConfig
    from attentdiffernet.options import AttentionConfig, Options

    n, epochs = (48, 12) if device.type == "cuda" else (2, 1)
    options = Options(recipe="paper", epochs=epochs + 1)
    blocks = AttentionConfig(training="joint")
    config = ModelConfig(kind, blocks, flow=options.flow, readout="z2")  # type: ignore[arg-type]
    model = AttentDifferNet(config).eval().to(device)
    paths = [image.path for image in InspectionDataset(PACK / "data" / CATEGORIES[-1]).train]
    marks: list[float] = []

    def mark(epoch: int) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    paper_recipe.fit(model, paths[:n], options, after_epoch=mark)
    scores = paper_recipe.Scores(paths[:n], config.image_size, 0)

    def score() -> None:
        scores._features = None  # computed anew
        scores(model)

    taken = _seconds(score, device, 3 if device.type == "cuda" else 1)
    found = {"training_views_per_s": n * 4 * epochs / (marks[-1] - marks[0]), "scoring_views_per_s": n * 64 / taken}
    found |= {"scoring_images_per_s": n / taken, "scoring_tflops": n * 64 / taken * FLOP_PER_VIEW / 1e12}
    if device.type == "cuda":
        found["highest_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def _fast_speed(device: Any) -> dict[str, float]:
    """Images per second of `score_images`, decoding included, compact flow, on 4 and 8 views; bfloat16 as well."""
    from attentdiffernet.category import InspectionDataset
    from attentdiffernet.model import AttentDifferNet, ModelConfig

    model, found = AttentDifferNet(ModelConfig(views="dihedral")).eval().to(device), {}
    paths = [image.path for image in InspectionDataset(PACK / "data" / CATEGORIES[-1]).test]
    paths = paths if device.type == "cuda" else paths[:16]
    for n_views in (4, 8):
        taken = _seconds(partial(_score_all, model, paths, n_views), device, 2)
        found[f"images_per_s_{n_views}_views"] = len(paths) / taken
    return found


def runs(number: str, jobs: str, files: str) -> None:
    """The DifferNet runs of grids (files, by commas) that the results lack, so many at once: first seed first, then
    categories and grids in the order given. results-NUMBER.tar.gz is made anew after each."""
    from attentdiffernet.grid import Engine, Outcome, Task, read_grid, run_grid, split_done
    from attentdiffernet.study.statistics import auroc

    folder, at_once = Path(tempfile.mkdtemp()) / "results", int(jobs)
    best_on_test = os.environ["BEST_ON_TEST"] == "yes"
    tasks = [task for name in files.split(",") for task in read_grid(ROOT / name, categories=CATEGORIES)]
    tasks = [task for task in tasks if task.options.method == "differnet"]
    tasks = [
        dataclasses.replace(task, best_on_test=task.best_on_test and best_on_test, model_dir=None) for task in tasks
    ]
    order = {name: k for k, name in enumerate(CATEGORIES)}
    tasks.sort(key=lambda t: (t.options.seed, order[f"{t.dataset}/{t.category}"], t.options.variant != "none"))
    to_do = split_done(tasks)[2]  # not what the tree's results hold
    tasks = [dataclasses.replace(task, results=folder, device=DEVICE) for task in to_do]
    print(len(tasks), "runs to do", flush=True)

    def report(task: Task, outcome: Outcome) -> None:
        areas = [
            f"{100 * auroc(*zip(*(row[2:] for row in rows), strict=True)):.2f}"
            for rows in (outcome.scores, outcome.best_scores)
            if rows
        ]
        told = [f"{task.run}: {' and '.join(areas) or outcome.error}, {left():.0f} s left", json.dumps(outcome.cost)]
        told += [] if outcome.spread is None else [f"spread {outcome.spread:.3g}"]
        print(*told, outcome.details, flush=True)
        if outcome.scores is not None:
            _tar(folder, OUT / f"results-{number}.tar.gz")

    commit = (PACK / "commit").read_text().strip()
    with _lanes(at_once) as submit_to_free_lane:

        def submit(task: Task) -> Future[Outcome]:
            if left() < _least_seconds(task):
                skipped: Future[Outcome] = Future()
                skipped.set_result(Outcome(error="no time is left for it"))
                return skipped
            return submit_to_free_lane(task)

        run_grid(tasks, Engine(submit, at_once), commit, report)


@contextlib.contextmanager
def _lanes(jobs: int) -> Iterator[Callable[[Any], Future[Any]]]:
    """Submits a run to one of so many processes, each with a cache of its own: hundreds of runs fill one cache with
    more files than can be looked through after each."""
    from attentdiffernet.features import CACHE_ENVIRONMENT, default_cache
    from attentdiffernet.grid import local_processes, share_cores

    cache, threads = default_cache(), share_cores(jobs, jobs)[1]
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for k in range(jobs):
            os.environ[CACHE_ENVIRONMENT] = str(cache / str(k))
            free.put(stack.enter_context(local_processes(1, threads)))

        def submit(task: Any) -> Future[Any]:
            lane = free.get()
            future: Future[Any] = lane.submit(task)
            future.add_done_callback(lambda _: free.put(lane))
            return future

        yield submit


def _least_seconds(task: Any) -> float:
    """What a run takes by itself at the speed that was measured; 0 where none was."""
    from attentdiffernet.best_on_test import evaluated_epochs
    from attentdiffernet.category import InspectionDataset

    with contextlib.suppress(OSError, ValueError, KeyError):
        rates = json.loads((OUT / "gpu_speed.json").read_text())[f"paper_{task.options.variant}"]
        data, epochs = InspectionDataset(task.folder), task.options.epochs
        looks = 1 if task.options.variant == "none" else len(evaluated_epochs(epochs))
        trained = len(data.train) * (1 - task.options.calibration_fraction) * task.options.training_views * epochs
        scored = len(data.test) * task.options.scoring_views * looks
        return float(trained / rates["training_views_per_s"] + scored / rates["scoring_views_per_s"])
    return 0.0


def _tar(folder: Path, target: Path) -> None:
    """In one step: whoever is killed leaves the one before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    with tarfile.open(temporary, "w:gz") as tar:
        tar.add(folder, "results")
    os.replace(temporary, target)


# -- here, after


def merge(*archives: str) -> None:
    """Brings back what `pack` took out of the working tree, and adds the runs of results-N.tar.gz to results/; a run
    that is there is replaced."""
    from attentdiffernet.study import records as results

    _git("sparse-checkout", "disable")
    for archive in archives:
        with tempfile.TemporaryDirectory() as place:
            with tarfile.open(archive) as tar:
                tar.extractall(place, filter="data")
            folder = Path(place) / "results"
            for run in results.runs_of(folder).values():
                scores = results.read_scores(results.score_path(folder, run.dataset, run.category, run.run))
                results.write_run(ROOT / "results", run, scores, results.read_options(folder, run) or {})
                print(run.run)
    results.summarise(ROOT / "results")


if __name__ == "__main__":
    parts = {part.__name__: part for part in (pack, merge, checks, speed, runs)}
    if len(sys.argv) < 2 or sys.argv[1] not in parts:
        sys.exit(f"{sys.argv[0]} {{{','.join(parts)}}}")
    parts[sys.argv[1]](*sys.argv[2:])
