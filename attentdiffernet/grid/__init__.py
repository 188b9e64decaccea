"""A grid of runs, category x variant x weights x seed, from one TOML file: trained, scored, written to `results/`.

    file      the TOML file -> tasks
    task      one run as data for another process, and its outcome
    done      which runs the results hold already
    run       one run: train, save, score
    engines   where runs are executed: processes of this machine, or a Ray cluster
    schedule  all runs: which goes next, and writing each as it comes

Finished runs are skipped, so an interrupted grid is continued by the same command. Each run is a process of its own
with its share of the cores, or a task of a Ray cluster; only this process writes results. A run that fails does not
affect the others.
"""

from .done import made_by, split_done
from .engines import Engine, local_processes, ray_cluster, share_cores
from .file import read_grid
from .run import execute
from .schedule import run_grid
from .task import Outcome, Task

__all__ = [
    "Engine",
    "Outcome",
    "Task",
    "execute",
    "local_processes",
    "made_by",
    "ray_cluster",
    "read_grid",
    "run_grid",
    "share_cores",
    "split_done",
]
