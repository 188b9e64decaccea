"""Where the runs of a grid are executed: processes of this machine, or a Ray cluster."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..errors import AttentDifferNetError
from .run import execute
from .task import Outcome, Task

RAY_RETRIES = 5  # of a run whose node was lost


@dataclass(frozen=True)
class Engine:
    """at_once: how many runs it is given at a time."""

    submit: Callable[[Task], "Future[Outcome]"]
    at_once: int


# -- processes of this machine


def share_cores(n_runs: int, jobs: int | None = None, cores: int | None = None) -> tuple[int, int]:
    """(processes, threads of each), together at most the number of cores; by default two threads each."""
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = max(1, min(jobs or cores // 2, cores, n_runs))
    return jobs, cores // jobs


@contextmanager
def local_processes(jobs: int, threads: int) -> Iterator[Engine]:
    """Up to `jobs` processes of `threads` threads each. They end with this process, even if it is killed."""
    processes = _Processes(threads)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            yield Engine(lambda task: pool.submit(processes.run, task), jobs)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop()


class _Processes:
    """Processes that run one task each (`__main__.py`), started from several threads."""

    def __init__(self, threads: int) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._environment = os.environ | dict.fromkeys(names, str(threads))
        self._alive: set[subprocess.Popen[str]] = set()
        self._stopping = threading.Event()

    def run(self, task: Task) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, "-m", __package__],
            stdin=subprocess.PIPE,  # kept open: the child ends when it is closed
            stdout=subprocess.PIPE,
            env=self._environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches this process only
        )
        self._alive.add(process)
        if self._stopping.is_set():
            process.kill()
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError), process:  # the child was killed
            with suppress(BrokenPipeError):
                process.stdin.write(task.to_json() + "\n")
                process.stdin.flush()
            answer = process.stdout.read()
            process.wait()
        self._alive.discard(process)
        return _outcome_of(process.returncode, answer)

    def stop(self) -> None:
        self._stopping.set()
        for process in list(self._alive):
            process.kill()


def _outcome_of(code: int, answer: str) -> Outcome:
    """From the exit code and the output of a process."""
    if code < 0:
        return Outcome(error=f"its process was killed by signal {-code}" + (", perhaps for memory" * (code == -9)))
    try:
        return Outcome.from_json(answer)
    except (ValueError, KeyError, TypeError):
        return Outcome(error=f"its process ended with exit code {code} and without a result")


# -- a Ray cluster


@contextmanager
def ray_cluster(address: str, threads: int = 2) -> Iterator[Engine]:
    """A running Ray cluster; each run takes `threads` CPUs. If a node is lost, its runs are repeated elsewhere.

    The nodes need this package, and the data and models at the same paths.
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
        threads = min(threads, max(cpus))  # more than any node has would never be scheduled
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
