"""A grid of runs, category x variant x weights x seed, from one TOML file: trained, scored, written to `results/`.

    results = "results"                          # paths are relative to this file
    data = "data"                                # or the environment variable ATTENTDIFFERNET_DATA
    models = "models/{dataset}/{category}/{run}" # optional: where checkpoints are kept
    categories = ["sample/*", "mvtec_ad/bottle"] # DATASET/CATEGORY below data; globs
    variants = ["none", "se", "cbam"]
    weights = ["imagenet"]
    seeds = [0, 1, 2]
    tag = "long"                                 # optional: ends the runs' names, to keep other options apart
    best_on_test = true                          # optional: a second run, RUN-best, as DifferNet reports (selection.py)
    [training]                                   # optional, as [model] and [scoring]: options of `config.py`
    epochs = 90

Several `[[grid]]` tables in one file take what they do not say from the top of it.

What is done is skipped, so a grid that was killed goes on where it was. Each run is a process of its own with its share
of the cores, or a task of a Ray cluster; this process alone writes results. A run that fails costs only itself.
"""

import concurrent.futures
import dataclasses
import json
import logging
import os
import platform
import subprocess
import sys
import threading
import time
import tomllib
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import FLOW_SIZES, AttentionConfig, ModelConfig, ScoringConfig, TrainingConfig
from ..errors import AttentDifferNetError
from ..study import records as results

if TYPE_CHECKING:
    import torch

DATA_ENVIRONMENT = "ATTENTDIFFERNET_DATA"
LISTS = {"categories": str, "variants": str, "weights": str, "seeds": int}
TEXTS = ("results", "data", "models", "tag")
TABLES = ("model", "training", "scoring")
KEYS = (*TEXTS, *LISTS, "best_on_test", *TABLES)
RAY_RETRIES = 5  # of a run whose node was lost
CHOSEN = {
    "views": "model",
    "resize": "model",
    "exposure": "model",
    "readout": "model",
    "views_per_image": "training",
    "n_views": "scoring",
}
AXES = {"model": ("weights",), "training": ("seed",)}  # options that the lists give


@dataclass(frozen=True)
class Task:
    """One run, as plain data for another process, perhaps on another machine. model_dir: where to keep it, or None.
    fixed: options that the file gives, of those that are chosen for the category otherwise. best_on_test: whether the
    best of several evaluations on test images is kept, too, as a run of its own. device: where it runs, as of
    `devices.find_device`."""

    run: str
    dataset: str
    category: str
    folder: str
    model_dir: str | None
    model: ModelConfig
    training: TrainingConfig
    scoring: ScoringConfig
    results: Path
    fixed: tuple[str, ...]
    best_on_test: bool = False
    device: str = "cpu"

    @property
    def best_run(self) -> str:
        return self.run + results.BEST

    @property
    def runs(self) -> list[str]:
        """The names of what it writes."""
        return [self.run, self.best_run] if self.best_on_test else [self.run]

    @property
    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name).to_dict() for name in TABLES} | {"fixed": list(self.fixed)}

    @property
    def chooses(self) -> bool:
        """Whether views and readout are chosen for the category (input_choice.choose), and not all given."""
        return self.training.recipe == "fast" and not {"views", "resize", "exposure", "readout"} <= set(self.fixed)

    @property
    def features(self) -> tuple[str, str]:
        """Runs of equal value share cached features: blocks are initialised by the seed, convolutions are not. The
        recipe `paper` caches none."""
        if self.training.recipe == "paper":
            return self.folder, self.run
        model = dataclasses.replace(self.model, flow=FLOW_SIZES["compact"])
        seed = "" if model.attention.kind == "none" else str(self.training.seed)
        return self.folder, f"{model} {seed}"

    def to_json(self) -> str:
        names = ("run", "dataset", "category", "folder", "model_dir", "best_on_test", "device")
        plain = {name: getattr(self, name) for name in names}
        return json.dumps(plain | self.options | {"results": str(self.results)})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        plain = json.loads(text)
        plain["model"] = ModelConfig.from_dict(plain["model"])
        plain["training"] = TrainingConfig.from_dict(plain["training"])
        plain["scoring"] = ScoringConfig.from_dict(plain["scoring"])
        return cls(**plain | {"results": Path(plain["results"]), "fixed": tuple(plain["fixed"])})


@dataclass(frozen=True)
class Outcome:
    """What a run came to: rows of its score file, or why it failed; details: a traceback where that is a fault.

    best_epoch, best_scores: of the run that is the best on test images, where the task asks for it. cost: seconds,
    views and machine, as in RUN.json. strength, judged: of attention, as of AttentionConfig. spread: of the features,
    where attention was trained with the flow, as of `paper_recipe.spread`.
    """

    scores: list[tuple[str, str, int, float]] | None = None
    chosen: tuple[int, str, str] = (0, "", "")  # number and kind of views, readout
    error: str = ""
    details: str = ""
    best_epoch: int = 0
    best_scores: list[tuple[str, str, int, float]] | None = None
    cost: dict[str, float | int | str] = field(default_factory=dict)
    strength: float = 1.0
    judged: tuple[float, ...] = ()
    spread: float | None = None

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Raises ValueError or TypeError for anything else."""
        plain = json.loads(text)
        for name in ("scores", "best_scores"):
            plain[name] = plain[name] and [tuple(row) for row in plain[name]]
        return cls(**plain | {name: tuple(plain[name]) for name in ("chosen", "judged")})


# -- the file


def read_grid(file: str | Path, among: Collection[str] | None = None, categories: Sequence[str] = ()) -> list[Task]:
    """All runs of a grid file, those that share features one after the other. Raises AttentDifferNetError naming it.

    among: DATASET/CATEGORY of those that there are, where the data are not at hand. categories: DATASET/CATEGORY or
    globs, instead of those of the file.
    """
    file = Path(file)
    try:
        with open(file, "rb") as stream:
            table = tomllib.load(stream)
    except FileNotFoundError as error:
        raise AttentDifferNetError(f"There is no grid file {file}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AttentDifferNetError(f"{file} is no TOML: {error}") from error
    parts = table.pop("grid", [{}])
    instead = {"categories": list(categories)} if categories else {}
    try:
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise AttentDifferNetError("grids are tables [[grid]]")
        tables = [_merged(table, part) | instead for part in parts]
        tasks = [task for part in tables for task in _tasks(part, file.absolute().parent, among)]
        for what, places in (
            ("run", [run for t in tasks for run in t.runs]),
            ("model", [t.model_dir for t in tasks if t.model_dir]),
        ):
            if twice := [place for place, count in Counter(places).items() if count > 1]:
                raise AttentDifferNetError(f"two runs have the same {what}, {twice[0]}; a tag keeps them apart")
    except AttentDifferNetError as error:
        raise AttentDifferNetError(f"{file}: {error}") from error
    return sorted(tasks, key=lambda task: (task.dataset, task.category, task.features, task.run))


def _merged(above: dict[str, Any], below: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(above[name], below[name]) for name in set(above) & set(below)
            if isinstance(above[name], dict) and isinstance(below[name], dict)}  # fmt: skip
    return above | below | both


def _tasks(table: dict[str, Any], base: Path, among: Collection[str] | None) -> Iterator[Task]:
    if unknown := sorted(set(table) - {*KEYS}):
        raise AttentDifferNetError(f"a grid has no {', '.join(unknown)}; it has {', '.join(KEYS)}")
    for name, kind in LISTS.items():
        values = table.get(name)
        if not isinstance(values, list) or not values or not all(type(value) is kind for value in values):
            kinds = "whole numbers" if kind is int else "texts"
            raise AttentDifferNetError(f"{name} must be a list of {kinds}, got {values!r}")
    for name in TEXTS:
        if not isinstance(table.get(name, ""), str):
            raise AttentDifferNetError(f"{name} must be text, got {table[name]!r}")
    best = table.get("best_on_test", False)
    if not isinstance(best, bool):
        raise AttentDifferNetError(f"best_on_test must be true or false, got {best!r}")
    if not table.get("results"):
        raise AttentDifferNetError("results must name a folder")
    given = {name: dict(table.get(name, {})) for name in TABLES if isinstance(table.get(name, {}), dict)}
    if wrong := [name for name in TABLES if name not in given]:
        raise AttentDifferNetError(f"{wrong[0]} must be a table [{wrong[0]}], got {table[wrong[0]]!r}")
    for name, axes in AXES.items():
        for axis in set(axes) & set(given[name]):
            raise AttentDifferNetError(f"{axis} is given by a list at the top, not in [{name}]")
    attention = given["model"].pop("attention", {})
    if not isinstance(attention, dict) or "kind" in attention:
        raise AttentDifferNetError("[model.attention] is a table without kind, which the list variants gives")
    if isinstance(flow := given["model"].get("flow"), str):
        if flow not in FLOW_SIZES:
            raise AttentDifferNetError(f"flow must be a table or one of {', '.join(FLOW_SIZES)}, got {flow!r}")
        given["model"]["flow"] = FLOW_SIZES[flow].to_dict()
    scoring = ScoringConfig.from_dict(given["scoring"])
    fixed = tuple(option for option, part in CHOSEN.items() if option in given[part])
    for folder in _folders(table, base, among):
        dataset, category = folder.parent.name, folder.name
        for variant in table["variants"]:
            blocks = AttentionConfig.from_dict(attention | {"kind": variant})
            for weights in table["weights"]:
                model = ModelConfig.from_dict(given["model"] | {"attention": blocks.to_dict(), "weights": weights})
                for seed in table["seeds"]:
                    parts = [dataset, category, variant, Path(weights).stem, f"s{seed}", table.get("tag", "")]
                    run = "-".join(part for part in parts if part)
                    results.score_path(
                        base, dataset, category, run + results.BEST
                    )  # raises for names that are no file names
                    training = TrainingConfig.from_dict(given["training"] | {"seed": seed})
                    names = {"dataset": dataset, "category": category, "variant": variant, "run": run, "seed": seed}
                    model_dir = _model_dir(table.get("models", ""), base, names)
                    where = base / Path(table["results"]).expanduser()
                    configs = model, training, scoring
                    yield Task(run, dataset, category, str(folder), model_dir, *configs, where, fixed, best)


def _folders(table: dict[str, Any], base: Path, among: Collection[str] | None) -> list[Path]:
    if among is not None:
        wanted = table["categories"]
        return [Path(name) for name in sorted(among) if any(fnmatchcase(name, pattern) for pattern in wanted)]
    root = table.get("data") or os.environ.get(DATA_ENVIRONMENT)
    if not root:
        raise AttentDifferNetError(f"data must name the folder of the data sets, or {DATA_ENVIRONMENT} be set")
    data = (base if table.get("data") else Path.cwd()) / Path(root).expanduser()
    found: dict[Path, None] = {}
    for pattern in table["categories"]:
        if len(Path(pattern).parts) != 2 or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise AttentDifferNetError(f"categories are DATASET/CATEGORY, got {pattern!r}")
        matches = sorted(path for path in data.glob(pattern) if (path / "train" / "good").is_dir())
        if not matches:
            raise AttentDifferNetError(f"there is no category {pattern} with a folder train/good in {data}")
        found.update(dict.fromkeys(matches))
    return list(found)


def _model_dir(pattern: str, base: Path, names: dict[str, Any]) -> str | None:
    try:
        return str(base / Path(pattern.format(**names)).expanduser()) if pattern else None
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        names_there = ", ".join(f"{{{name}}}" for name in names)
        raise AttentDifferNetError(f"models may hold {names_there}, got {pattern!r}") from error


# -- what is done


def split_done(tasks: Iterable[Task]) -> tuple[list[Task], list[Task], list[Task]]:
    """(done, done with other options, to do). A run without a row, a score file or a model to be kept is to do, and one
    of two, `best_on_test`, of which either is."""
    done, other, to_do = [], [], []
    known: dict[Path, dict[str, results.Run]] = {}
    for task in tasks:
        if task.results not in known:
            known[task.results] = results.runs_of(task.results)
        rows = [
            row
            for row in map(known[task.results].get, task.runs)
            if row and results.score_path(task.results, task.dataset, task.category, row.run).is_file()
        ]
        if not all(_made_with(row, task) for row in rows):
            other.append(task)
        elif len(rows) < len(task.runs) or (task.model_dir and not Path(task.model_dir).is_dir()):
            to_do.append(task)
        else:
            done.append(task)
    return done, other, to_do


def _made_with(row: results.Run, task: Task) -> bool:
    """Whether a run was made with the options of a task; of one that no grid made, what its row says must agree."""
    options = results.read_options(task.results, row)
    if options is None:
        outcome = Outcome(chosen=(row.n_views, row.views, row.readout), best_epoch=row.epochs)
        expected = _row(task, outcome, row.commit, best=row.run == task.best_run)
        return dataclasses.replace(expected, source=row.source) == row
    try:  # an option that is newer than the run had its default
        return (
            ModelConfig.from_dict(options["model"]) == task.model
            and TrainingConfig.from_dict(options["training"]) == task.training
            and ScoringConfig.from_dict(options["scoring"]) == task.scoring
            and options.get("fixed", list(CHOSEN)) == list(task.fixed)
        )
    except (KeyError, AttentDifferNetError):
        return False


def made_by(file: str | Path, results_dir: str | Path, categories: Sequence[str] = ()) -> set[str]:
    """The runs in a results folder that a grid file makes, with the options they have; data need not be at hand.

    categories: as of `read_grid`.
    """
    rows = results.runs_of(results_dir)
    tasks = read_grid(file, {f"{row.dataset}/{row.category}" for row in rows.values()}, categories)
    found = {name: dataclasses.replace(task, results=Path(results_dir)) for task in tasks for name in task.runs}
    return {name for name, task in found.items() if name in rows and _made_with(rows[name], task)}


def _row(task: Task, outcome: Outcome, commit: str, best: bool = False) -> results.Run:
    n_views, views, readout = outcome.chosen
    attention = task.model.attention
    return results.Run(
        run=task.best_run if best else task.run,
        dataset=task.dataset,
        category=task.category,
        variant=attention.kind,
        seed=task.training.seed,
        backbone=task.model.weights,
        attention_training="" if attention.kind == "none" else attention.training,
        epochs=outcome.best_epoch if best else task.training.epochs,
        selection=results.BEST_ON_TEST if best else results.LAST,
        n_views=n_views,
        commit=commit,
        source="measured by this project",
        views=views,
        readout=readout,
        blocks=attention.unusual,
    )


# -- one run


def execute(task: Task) -> Outcome:
    """Trains, keeps the model where asked, and scores the test images. Never raises: a failed run is an outcome."""
    try:
        from .. import checkpoint, input_choice, paper_recipe, scoring, training
        from ..best_on_test import BestOnTest
        from ..category import InspectionDataset
        from ..datasets import CARDS, DatasetCard
        from ..devices import find_device
        from ..features import FeatureExtractor, default_cache

        dataset = InspectionDataset(task.folder)
        images, device = dataset.test, find_device(task.device)  # refused before hours of training
        published = task.training.recipe == "paper"
        if task.model_dir:
            checkpoint.check_folder(Path(task.model_dir))
        known = CARDS.get(task.dataset, DatasetCard("", "", "", ""))
        card = checkpoint.DataCard(
            task.dataset,
            task.category,
            description=known.description,
            licence=known.licence,
            source=known.source,
        )
        configs, cache = (task.model, task.training, task.scoring), default_cache()
        paths, before = [image.path for image in images], FeatureExtractor.views_computed
        seconds: dict[str, float] = {}
        with _timed(seconds, "choosing_s"):
            if task.chooses:
                found = input_choice.choose(dataset.train, task.model, task.training, cache, fixed=task.fixed)
                configs = found.applied(*configs, task.fixed)
        as_published = None
        if published:
            as_published = paper_recipe.Scores(
                paths, task.model.image_size, task.training.data_seed, task.scoring.n_views
            )
        looks = BestOnTest(images, task.training.epochs, configs[2].n_views, cache, as_published)
        best = looks if task.best_on_test else None
        with _timed(seconds, "training_s"):
            look = best or training.no_look
            calibrated = bool(task.model_dir) or not published
            detector = training.train(
                dataset.train, *configs, card, cache, after_epoch=look, device=device, calibrated=calibrated
            )
        if task.model_dir:
            checkpoint.save(detector, task.model_dir)
        n_views, model = len(detector.model.views(configs[2].n_views)), detector.model.config
        with _timed(seconds, "scoring_s"):
            if as_published:
                scores = as_published(detector.model)
            else:
                scores = list(scoring.score_images(detector.model, paths, n_views, cache))

        def rows(scores: list[float]) -> list[tuple[str, str, int, float]]:
            return [(i.name, i.defect, i.label, score) for i, score in zip(images, scores, strict=True)]

        chosen = (n_views, "random " * published + model.input_title, model.readout)
        outcome = Outcome(rows(scores), chosen, strength=model.attention.strength, judged=model.attention.judged)
        if best:
            seconds["training_s"] -= best.seconds
            seconds["scoring_s"] += best.seconds
            epoch, best_scores = best.best(scores)
            outcome = dataclasses.replace(outcome, best_epoch=epoch, best_scores=rows(best_scores))
        cost = {name: round(value, 2) for name, value in seconds.items()}
        views = FeatureExtractor.views_computed - before
        if published and paper_recipe.trains_attention(model):
            fitted, _ = training.split_normals(dataset.train, task.training)
            spread = paper_recipe.spread(detector.model, [image.path for image in fitted])
            outcome = dataclasses.replace(outcome, spread=spread)
        return dataclasses.replace(outcome, cost=cost | {"views_computed": views} | _machine(device))
    except (AttentDifferNetError, OSError) as error:
        return Outcome(error=str(error))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}", details=traceback.format_exc())


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _machine(device: "torch.device") -> dict[str, Any]:
    import torch

    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {"threads": torch.get_num_threads(), "cpu": cpu_name(), "cores": os.cpu_count() or 1} | gpu


def cpu_name() -> str:
    """As the system calls it."""
    with suppress(OSError):  # not on Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Engine:
    """Where runs are executed. at_once: how many are given to it at a time."""

    submit: Callable[[Task], "Future[Outcome]"]
    at_once: int


def share_cores(n_runs: int, jobs: int | None = None, cores: int | None = None) -> tuple[int, int]:
    """(processes, threads of each), together no more than the cores; by default two threads each."""
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = max(1, min(jobs or cores // 2, cores, n_runs))
    return jobs, cores // jobs


@contextmanager
def local_processes(jobs: int, threads: int) -> Iterator[Engine]:
    """Runs tasks in up to `jobs` processes of `threads` threads each. None outlives this one, even if it is killed."""
    alive: set[subprocess.Popen[str]] = set()
    stopping = threading.Event()
    numbers = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}

    def run(task: Task) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}"],
            stdin=subprocess.PIPE,  # held open: it ends the child when this process is gone
            stdout=subprocess.PIPE,
            env=os.environ | numbers,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for this process alone
        )
        alive.add(process)
        if stopping.is_set():
            process.kill()
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError), process:  # the pipe of one that was killed
            with suppress(BrokenPipeError):
                process.stdin.write(task.to_json() + "\n")
                process.stdin.flush()
            said = process.stdout.read()
            process.wait()
        alive.discard(process)
        code = process.returncode
        if code < 0:
            return Outcome(error=f"its process was killed by signal {-code}" + (", perhaps for memory" * (code == -9)))
        try:
            return Outcome.from_json(said)
        except (ValueError, KeyError, TypeError):
            return Outcome(error=f"its process ended with exit code {code} and without a result")

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            yield Engine(lambda task: pool.submit(run, task), jobs)
        finally:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(alive):
                process.kill()


def _child() -> None:
    """A process of `local_processes`: a task on the first line of standard input, its outcome on standard output."""
    task = Task.from_json(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no part of the outcome

    def end_with_parent() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    with out:
        json.dump(dataclasses.asdict(execute(task)), out)
        out.flush()
    os._exit(0)


@contextmanager
def ray_cluster(address: str, threads: int = 2) -> Iterator[Engine]:
    """Runs tasks on a Ray cluster that is there; each takes `threads` CPUs. What a lost node was doing runs elsewhere.

    The nodes need this package, and the data (and models, where kept) at the same paths.
    """
    try:
        import ray
    except ImportError as error:
        raise AttentDifferNetError("--ray needs Ray: pip install 'attentdiffernet[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise AttentDifferNetError(f"There is no Ray cluster to reach at {address}: {error}") from error
    try:
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        if max(cpus, default=0) < 1:
            raise AttentDifferNetError(f"The Ray cluster at {address} has no CPUs to run on")
        threads = min(threads, max(cpus))  # more than a node has would wait for ever
        remote = ray.remote(num_cpus=threads, max_retries=RAY_RETRIES)(_on_ray)

        def submit(task: Task) -> "Future[Outcome]":
            future: Future[Outcome] = remote.remote(task.to_json(), threads).future()
            return future

        yield Engine(submit, 2 * sum(count // threads for count in cpus))  # some wait: a cluster may grow
    finally:
        ray.shutdown()


def _on_ray(task: str, threads: int) -> Outcome:
    import torch

    torch.set_num_threads(threads)
    return execute(Task.from_json(task))


# -- all runs


def run_grid(
    tasks: Iterable[Task], engine: Engine, commit: str = "", report: Callable[[Task, Outcome], None] | None = None
) -> dict[str, Outcome]:
    """Runs tasks and writes each as it comes; returns those that failed, by name.

    Of the runs that share features, the first goes alone; the others come next, and find them computed.
    """
    groups: dict[tuple[str, str], deque[Task]] = {}
    for task in tasks:
        groups.setdefault(task.features, deque()).append(task)
    ready = deque(group.popleft() for group in groups.values())
    running: dict[Future[Outcome], Task] = {}
    failed: dict[str, Outcome] = {}
    while ready or running:
        while ready and len(running) < engine.at_once:
            task = ready.popleft()
            running[engine.submit(task)] = task
        ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in ended:
            task = running.pop(future)
            outcome = _outcome(future)
            if outcome.scores is not None:
                outcome = _written(task, outcome, commit)
            if outcome.error:
                failed[task.run] = outcome
            if report is not None:
                report(task, outcome)
            ready.extendleft(reversed(groups.pop(task.features, ())))
    return failed


def _outcome(future: "Future[Outcome]") -> Outcome:
    try:
        return future.result()
    except Exception as error:  # of the cluster: what the run itself raises is in its outcome
        return Outcome(error=f"{type(error).__name__}: {' '.join(str(error).split())}", details=traceback.format_exc())


def _written(task: Task, outcome: Outcome, commit: str) -> Outcome:
    import pandas as pd

    options = task.options | {"cost": outcome.cost, "attention_strength": outcome.strength}
    options |= {"attention_judged": outcome.judged} if outcome.judged else {}
    options |= {} if outcome.spread is None else {"features_spread": outcome.spread}
    try:  # `last` first: the other is shown beside it only
        for found, best in ((outcome.scores, False), (outcome.best_scores, True)):
            if found is not None:
                scores = pd.DataFrame(found, columns=results.SCORE_COLUMNS, dtype=object)
                results.write_run(task.results, _row(task, outcome, commit, best), scores, options)
    except (AttentDifferNetError, OSError) as error:
        return Outcome(error=f"its scores could not be written: {error}")
    return outcome
