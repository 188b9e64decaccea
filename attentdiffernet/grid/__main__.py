"""A process of `engines.local_processes`: a task comes on standard input, its outcome goes to standard output."""

import dataclasses
import json
import os
import sys
import threading

from .run import execute
from .task import Task


def main() -> None:
    task = Task.from_json(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not part of the outcome
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with out:
        json.dump(dataclasses.asdict(execute(task)), out)
        out.flush()
    os._exit(0)


def _end_with_parent() -> None:
    """Standard input is closed when the parent ends, even if it is killed."""
    sys.stdin.read()
    os._exit(1)


main()
