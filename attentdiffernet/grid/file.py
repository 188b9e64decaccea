"""The TOML file of a grid.

    results = "results"                          # paths are relative to this file
    data = "data"                                # or the environment variable ATTENTDIFFERNET_DATA
    models = "models/{dataset}/{category}/{run}" # optional: where models are saved
    categories = ["sample/*", "mvtec_ad/bottle"] # DATASET/CATEGORY below data; globs
    methods = ["differnet", "patchcore"]         # optional: DifferNet alone
    backbones = ["tf_efficientnet_lite0"]        # optional: networks of timm; the method's own if left out
    variants = ["none", "se", "cbam"]            # of several methods each takes those that it has
    weights = ["imagenet"]
    seeds = [0, 1, 2]
    tag = "long"                                 # optional: added to the runs' names, to keep other options apart
    best_on_test = true                          # optional: also the best epoch on test, as RUN-best; not of PatchCore
    [options]                                    # optional: of `options.py`, flow also by its size, "paper"
    epochs = 90
    [options.attention]
    training = "joint"

A file may hold several `[[grid]]` tables. What such a table does not state is taken from the top of the file.
"""

import itertools
import os
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..errors import AttentDifferNetError
from ..options import FLOW_SIZES, PATCHCORE_VARIANTS, Options
from ..study.records import score_path
from ..study.runs import BEST, run_name
from .task import Task

Table = dict[str, Any]

DATA_ENVIRONMENT = "ATTENTDIFFERNET_DATA"
LISTS = {"categories": str, "methods": str, "backbones": str, "variants": str, "weights": str, "seeds": int}
OPTIONAL: Table = {"methods": ["differnet"], "backbones": [None], "variants": ["none"]}  # lists that may be left out
TEXTS = ("results", "data", "models", "tag")
KEYS = (*TEXTS, *LISTS, "best_on_test", "options")
# Options that lists give.
AXES = {"method": "methods", "backbone": "backbones", "variant": "variants", "weights": "weights", "seed": "seeds"}


def read_grid(file: str | Path, among: Collection[str] | None = None, categories: Sequence[str] = ()) -> list[Task]:
    """All runs of a grid file; runs that share features are neighbours. Raises AttentDifferNetError naming the file.

    among: the DATASET/CATEGORY names there are; without it, the folders of the data are looked up. categories:
    DATASET/CATEGORY or globs, instead of those of the file.
    """
    file = Path(file)
    table = _read(file)
    parts = table.pop("grid", [{}])
    instead = {"categories": list(categories)} if categories else {}
    try:
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise AttentDifferNetError("grids are tables [[grid]]")
        tables = [_merged(table, part) | instead for part in parts]
        tasks = [task for part in tables for task in _tasks(part, file.absolute().parent, among)]
        _check_unique("run", (run for task in tasks for run in task.runs))
        _check_unique("model", (task.model_dir for task in tasks if task.model_dir))
    except AttentDifferNetError as error:
        raise AttentDifferNetError(f"{file}: {error}") from error
    return sorted(tasks, key=lambda task: (task.dataset, task.category, task.features, task.run))


def _read(file: Path) -> Table:
    try:
        with open(file, "rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError as error:
        raise AttentDifferNetError(f"There is no grid file {file}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AttentDifferNetError(f"{file} is not valid TOML: {error}") from error


def _merged(above: Table, below: Table) -> Table:
    """The values of both tables, and of their tables; `below` takes precedence."""
    both = {
        name: _merged(above[name], below[name])
        for name in set(above) & set(below)
        if isinstance(above[name], dict) and isinstance(below[name], dict)
    }
    return above | below | both


def _check_unique(what: str, names: Iterable[str]) -> None:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise AttentDifferNetError(f"two runs have the same {what}, {repeated[0]}; a tag keeps them apart")


# -- from a table to tasks


def _tasks(table: Table, base: Path, among: Collection[str] | None) -> Iterator[Task]:
    table = {**OPTIONAL, **table}
    _check_values(table)
    given = _given_options(table)
    folders = _folders(table, base, among)
    axes = (table[name] for name in ("backbones", "weights", "seeds"))
    for folder, (method, variant), backbone, weights, seed in itertools.product(folders, _detectors(table), *axes):
        of_lists = {"method": method, "backbone": backbone, "variant": variant, "weights": weights, "seed": seed}
        options = Options.from_dict(given | of_lists)
        dataset, category = folder.parent.name, folder.name
        run = run_name(options, dataset, category, table.get("tag", ""))
        score_path(base, dataset, category, run + BEST)  # raises for names that are not file names
        names = {"dataset": dataset, "category": category, "variant": options.key, "run": run, "seed": seed}
        yield Task(
            run=run,
            dataset=dataset,
            category=category,
            folder=str(folder),
            model_dir=_model_dir(table.get("models", ""), base, names),
            options=options,
            results=base / Path(table["results"]).expanduser(),
            best_on_test=table.get("best_on_test", False) and method == "differnet",  # others have no epochs
        )


def _detectors(table: Table) -> list[tuple[str, str]]:
    """(method, variant) of each; of several methods, each takes the variants that it has."""
    pairs = list(itertools.product(table["methods"], table["variants"]))
    if len(table["methods"]) == 1:
        return pairs
    return [
        (method, variant)
        for method, variant in pairs
        if (variant != "places" if method == "differnet" else variant in PATCHCORE_VARIANTS)
    ]


def _check_values(table: Table) -> None:
    """Raises AttentDifferNetError for keys that are unknown or missing, and for values of another type."""
    if unknown := sorted(set(table) - {*KEYS}):
        raise AttentDifferNetError(f"a grid has no {', '.join(unknown)}; it has {', '.join(KEYS)}")
    for name, kind in LISTS.items():
        values = table.get(name)
        if values == OPTIONAL.get(name):
            continue
        if not isinstance(values, list) or not values or not all(type(value) is kind for value in values):
            kinds = "whole numbers" if kind is int else "texts"
            raise AttentDifferNetError(f"{name} must be a list of {kinds}, got {values!r}")
    for name in TEXTS:
        if not isinstance(table.get(name, ""), str):
            raise AttentDifferNetError(f"{name} must be text, got {table[name]!r}")
    if not isinstance(best := table.get("best_on_test", False), bool):
        raise AttentDifferNetError(f"best_on_test must be true or false, got {best!r}")
    if not table.get("results"):
        raise AttentDifferNetError("results must name a folder")


def _given_options(table: Table) -> Table:
    """The options that the file gives. A size of the flow is replaced by its options."""
    given = table.get("options", {})
    if not isinstance(given, dict):
        raise AttentDifferNetError(f"options must be a table [options], got {given!r}")
    for axis in sorted(set(AXES) & set(given)):
        raise AttentDifferNetError(f"{axis} is given by the list {AXES[axis]} at the top, not in [options]")
    if isinstance(flow := given.get("flow"), str):
        if flow not in FLOW_SIZES:
            raise AttentDifferNetError(f"flow must be a table or one of {', '.join(FLOW_SIZES)}, got {flow!r}")
        return given | {"flow": FLOW_SIZES[flow].to_dict()}
    return given


def _folders(table: Table, base: Path, among: Collection[str] | None) -> list[Path]:
    """The folders of the categories, or DATASET/CATEGORY of those `among` the given names."""
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
        seen = (path for path in data.glob(pattern) if not path.name.startswith("."))  # hidden: not whole yet
        matches = sorted(path for path in seen if (path / "train" / "good").is_dir())
        if not matches:
            raise AttentDifferNetError(f"there is no category {pattern} with a folder train/good in {data}")
        found.update(dict.fromkeys(matches))
    return list(found)


def _model_dir(pattern: str, base: Path, names: dict[str, Any]) -> str | None:
    try:
        return str(base / Path(pattern.format(**names)).expanduser()) if pattern else None
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        allowed = ", ".join(f"{{{name}}}" for name in names)
        raise AttentDifferNetError(f"models may hold {allowed}, got {pattern!r}") from error
