"""A training as the page sees it: started, followed, cancelled."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attentdiffernet.errors import AttentDifferNetError
from attentdiffernet.options import MethodName, Variant

from ...shipped import ROOT

# What a visitor can train, by `Detector.key`: (method, variant). The first is the default.
CHOICES: dict[str, tuple[MethodName, Variant]] = {
    "patchcore-places": ("patchcore", "places"),
    "none": ("differnet", "none"),
    "se": ("differnet", "se"),
    "cbam": ("differnet", "cbam"),
}

HEARTBEAT_S = 0.5


@dataclass(frozen=True)
class Step:
    """How far a stage is. seconds_left: of the stage, None as long as nobody can tell."""

    stage: str
    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class Trained:
    """A finished training. folder: of the checkpoint. left_out: scores of photographs that the detector was not fitted
    to when they were scored, by their number."""

    folder: Path
    left_out: dict[int, float]


@contextlib.contextmanager
def worker() -> Iterator["subprocess.Popen[str]"]:
    """A process that will train: it imports what it needs, which takes seconds, before it is told what. It ends with
    the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.service.training.worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what a dead process was not told
                if stream is not None:
                    stream.close()


def train(
    process: "subprocess.Popen[str]", images: list[Path], folder: Path, name: str, choice: str
) -> Iterator[Step | Trained]:
    """Steps, and in the end what was trained, by a `worker`. Raises AttentDifferNetError in words for visitors, also
    where the process has died."""
    method, variant = CHOICES[choice]
    out = folder / "model"
    job = {"images": [str(path) for path in images], "out": str(out), "name": name}
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # of a dead process, the end of its output tells
        process.stdin.write(json.dumps(job | {"method": method, "variant": variant}))
        process.stdin.close()
    yield from _followed(_lines(process.stdout), out)


def _lines(stream: IO[str]) -> Iterator[str]:
    """The lines, and an empty one whenever none has come for HEARTBEAT_S: who follows may want to stop."""
    waiting = queue.Queue[str | None]()

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in stream:
                waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            line = ""
        if line is None:
            return
        yield line


def _followed(lines: Iterator[str], out: Path) -> Iterator[Step | Trained]:
    stage, start = "", time.monotonic()
    last = Step("starting", 0, 1, None)
    for line in lines:
        if not line:
            yield last
            continue
        told = json.loads(line)
        if "error" in told:
            raise AttentDifferNetError(told["error"])
        if "scores" in told:
            yield Trained(out, {int(k): float(score) for k, score in told["scores"]})
            return
        if told["stage"] != stage:
            stage, start = told["stage"], time.monotonic()
        done, total = told["done"], told["total"]
        left = (time.monotonic() - start) * (total - done) / done if done else None
        last = Step(stage, done, total, left)
        yield last
    raise AttentDifferNetError("The training ended unexpectedly. Fewer or smaller photographs may help")
