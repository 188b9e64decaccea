"""Processes killed at random moments, and started again: do they end as if nothing had happened?

    python -m benchmarks.kills                200 kills, about eight minutes on two quiet cores (18 take one)
    python -m benchmarks.kills --kills 20     over all kinds of work

Each kind of work is done once undisturbed. Then, again and again from the start, it is killed (SIGKILL) at a random
moment and started again. All files must be the same afterwards, and no others; no process may be left. The second start
is an hour later by the times of all files: what is younger could belong to a process that lives. Writes kills.json
beside this file.
"""

import argparse
import atexit
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from attentdiffernet import cli
from attentdiffernet.category import InspectionDataset
from attentdiffernet.datasets.sample import write
from attentdiffernet.features import FeatureExtractor
from attentdiffernet.files import LEFTOVER_SECONDS
from attentdiffernet.grid import Engine, Outcome, Task, execute, read_grid, run_grid, split_done
from attentdiffernet.methods import fit, load
from attentdiffernet.options import FlowConfig, Options
from demo.service.training.judging import judged
from demo.service.training.numbers import answers_csv
from demo.service.training.state import Own

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "kills.json"
KILLS, SEED = 200, 0
PATIENCE_S = 60.0
TINY = Options(
    weights="random",
    image_size=63,
    n_scales=1,
    views="none",
    resize="squeeze",
    exposure="as_is",
    readout="z2_of_mean",
    flow=FlowConfig(n_blocks=2, hidden_width=16, hidden_layers=1),
    epochs=20,
    training_views=1,
    scoring_views=1,
)
GRID = """
results = "results"
models = "models/{run}"
data = "{DATA}"
categories = ["sample/wafer"]
variants = ["none"]
weights = ["random"]
seeds = [0, 1]
[options]
views = "none"
resize = "squeeze"
exposure = "as_is"
readout = "z2_of_mean"
image_size = 63
n_scales = 1
flow = {n_blocks = 2, hidden_width = 16, hidden_layers = 1}
epochs = 5
training_views = 1
scoring_views = 1
"""


@dataclass(frozen=True)
class Given:
    """What work begins with. category: a folder of images. models: two of the same category."""

    category: Path
    models: tuple[Path, Path]


def train(given: Given, folder: Path) -> None:
    fit(given.category / "train" / "good", TINY, cache=folder / "cache").save(folder / "model")


def command(*arguments: object) -> None:
    sys.argv = ["attentdiffernet", *map(str, arguments)]
    with contextlib.suppress(SystemExit):
        cli.main()


def evaluate(given: Given, folder: Path) -> None:
    asked = ("--results", folder / "results", "--report", folder / "report.html", "--picture", folder / "roc.svg")
    command("evaluate", given.models[0], given.category, *asked)


def score_csv(given: Given, folder: Path) -> None:
    command("score", given.models[0], given.category / "test", "--out", folder / "scores.csv")


def score_json(given: Given, folder: Path) -> None:
    command("score", given.models[0], given.category / "test", "--format", "json", "--out", folder / "scores.jsonl")


def grid(given: Given, folder: Path) -> None:
    """Runs one after another, in this process: starting another one takes seconds."""
    file = folder / "grid.toml"
    if not file.exists():
        file.write_text(GRID.replace("{DATA}", str(given.category.parent.parent)), encoding="utf-8")
        return

    def at_once(task: Task) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(execute(task))
        return future

    _, _, to_do = split_done(read_grid(file))
    run_grid(to_do, Engine(at_once, 1))


def prepare(given: Given, folder: Path) -> None:
    command("datasets", "prepare", "folder", given.category, "--out", folder / "data", "--category", "part", "--normal",
            "train/good", "--anomalous", "test/donut")  # fmt: skip


def save(given: Given, folder: Path) -> None:
    """One model over another one, again and again."""
    for model in (*given.models * 3, given.models[0]):
        load(model).save(folder / "model")


def cache(given: Given, folder: Path) -> None:
    images = [image.path for image in InspectionDataset(given.category).test]
    extractor = FeatureExtractor(load(given.models[0]).model, folder / "cache")
    list(extractor.even_views(images, 1))


def feedback(given: Given, folder: Path) -> None:
    """A visitor of the page answers about parts, and trains again with them."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    mine = Own.new("a tab")
    model = shutil.copytree(given.models[0], mine.folder / "model")
    mine = mine.with_model(model)
    parts = sorted((given.category / "test").rglob("*.png"))[:6]
    mine = replace(mine, tests=tuple(judged(parts, mine.detector)))
    for k in range(len(mine.tests)):
        mine = mine.with_answer(k, fine=k % 2 == 0)
    assert len(Own.new("a tab").with_added(mine).added) == 3
    said = answers_csv(mine)
    mine.remove()
    (folder / "answers.csv").write_text(said, encoding="utf-8")


WORKS = (train, evaluate, score_csv, score_json, grid, prepare, save, cache, feedback)
Work = Callable[[Given, Path], None]


# -- started, killed, compared


def started(work: Work, given: Given, folder: Path) -> int:
    """The number of a new process that does the work, and is a group of its own."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        atexit._clear()  # what the first process does at its end: it removes all files here
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        work(given, folder)
        atexit._run_exitfuncs()
        code = 0
    finally:
        os._exit(code)


def done(work: Work, given: Given, folder: Path) -> float:
    """Seconds that it took."""
    start = time.monotonic()
    _, status = os.waitpid(started(work, given, folder), 0)
    assert status == 0, f"{work.__name__} failed"
    return time.monotonic() - start


def killed(work: Work, given: Given, folder: Path, after_s: float) -> bool:
    """Whether it was still at work. Raises AssertionError where one of its processes outlives it."""
    process = started(work, given, folder)
    time.sleep(after_s)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    end = time.monotonic() + PATIENCE_S
    while _lives(process):
        assert time.monotonic() < end, f"a process of {work.__name__} is left"
        time.sleep(0.01)
    return os.WIFSIGNALED(status)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def an_hour_later(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        then = path.lstat().st_mtime - 2 * LEFTOVER_SECONDS
        os.utime(path, (then, then), follow_symlinks=False)


def content(folder: Path) -> dict[str, str]:
    """By name, what is in each file; of what a run cost, that differs each time, nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        data = b"" if path.is_dir() else path.read_bytes()
        if path.suffix == ".json" and b'"cost"' in data:
            record = json.loads(data)
            del record["cost"]
            data = json.dumps(record).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def trials(work: Work, given: Given, folder: Path, kills: int, rng: random.Random) -> dict[str, object]:
    """How many were killed at work, and what was wrong afterwards."""
    (folder / "whole").mkdir(parents=True)
    begin(work, given, folder / "whole")
    seconds = done(work, given, folder / "whole")
    expected, n_kills, wrong = content(folder / "whole"), 0, []
    while n_kills < kills:
        again = folder / "again"
        again.mkdir()
        begin(work, given, again)
        after_s = rng.uniform(0, seconds)
        n_kills += killed(work, given, again, after_s)
        an_hour_later(again)
        done(work, given, again)
        if (found := content(again)) != expected:
            differ = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
            wrong.append(f"{work.__name__} killed after {after_s:.2f} s: {', '.join(differ[:5])}")
        shutil.rmtree(again)
    return {"kills": n_kills, "seconds": round(seconds, 2), "wrong": wrong}


def begin(work: Work, given: Given, folder: Path) -> None:
    """What is there before the work: the file of a grid, a model that is to be replaced."""
    if work is grid:
        grid(given, folder)
    if work is save:
        shutil.copytree(given.models[1], folder / "model")


def made(folder: Path) -> Given:
    written = write(folder / "sample", ["wafer"], n_train=8, n_test_good=12, n_per_level=8, levels=["moderate"])
    category = written / "wafer"
    models = []
    for seed in range(2):
        options = replace(TINY, seed=seed)
        models.append(fit(category / "train" / "good", options).save(folder / f"model {seed}"))
    return Given(category, (models[0], models[1]))


def imported(given: Given, folder: Path) -> None:
    """Does all work once in this process, so that those that are forked from it import nothing: that takes seconds."""
    for work in WORKS:
        if work is not feedback:  # it claims a folder for its process
            (folder / work.__name__).mkdir(parents=True)
            begin(work, given, folder / work.__name__)
            with contextlib.redirect_stdout(None), contextlib.redirect_stderr(io.StringIO()):
                work(given, folder / work.__name__)


def measure(kills: int, seed: int = SEED) -> dict[str, object]:
    """kills: of all kinds of work together."""
    torch.set_num_threads(1)  # threads do not survive a fork
    os.environ["GIT_DIR"] = os.devnull  # rows of results name the commit, which may change meanwhile
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        given, found = made(Path(folder) / "given"), {}
        imported(given, Path(folder) / "imports")
        for k, work in enumerate(WORKS):
            n_kills = kills // len(WORKS) + (k < kills % len(WORKS))
            found[work.__name__] = trials(work, given, Path(folder) / work.__name__, n_kills, rng)
            print(work.__name__, json.dumps(found[work.__name__]), flush=True)
    return {"kills": kills, "works": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    found = measure(asked.kills)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
