"""A run, as one row of runs.csv: what was trained and how; its recipe, its order, and the run to compare it with."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ResultsError
from ..options import ALEXNET, Options
from ..options import BACKBONES as OPTIONS_BACKBONES
from ..words import (
    ATTENTIVE_METHODS,
    DETECTOR_TITLES,
    OTHER_METHODS,
    attention_title,
    differs_from_default,
    training_title,
)

LAST, BEST_ON_TEST = "last", "best-on-test"  # how the number of epochs is chosen (Run.selection)
BEST = "-best"  # ends the name of the run that is the best on test of a training
BEST_ON_TEST_LABEL = "best epoch chosen on test images (optimistic)"
BACKBONES = ("imagenet", "bundled")  # those of the shipped models, which stand first
RECIPES = {"fast": "", "paper": "published procedure"}
FORMER_TRAININGS = {"separation_unjudged": "separation, always kept"}  # as runs.csv has them, and as they are called
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


@dataclass(frozen=True)
class Run:
    """One row of runs.csv.

    variant: `none`, `se`, `cbam` or another method, as `Options.key`, or the name of a baseline. backbone: as
    `backbone_of`. attention_training: as in the options; empty without attention. epochs: 0 for a method that has none.
    selection: how the number of epochs was chosen: `last` means in advance, `best-on-test` on the images
    that are scored, which is optimistic. commit: of the code. source: who measured, where. views, readout: as in the
    options. blocks: how the attention blocks differ from the default ones. recipe: `fast`, or `paper` for the published
    procedure.
    """

    run: str
    dataset: str
    category: str
    variant: str
    seed: int
    backbone: str
    attention_training: str
    epochs: int
    selection: str
    n_views: int
    commit: str
    source: str
    views: str = ""
    readout: str = ""
    blocks: str = ""
    recipe: str = "fast"

    @classmethod
    def of(cls, options: Options, views: tuple[int, str], readout: str, **names: Any) -> Self:
        """The row of a run with these options. views: number and kind of those that images are scored on. names: `run`,
        `dataset`, `category`, `commit`, `source`, and what is not as usual."""
        return cls(
            **{
                "variant": options.key,
                "seed": options.seed,
                "backbone": backbone_of(options),
                "attention_training": attention_title(options.variant, options.attention),
                "epochs": options.epochs if options.method == "differnet" else 0,
                "selection": LAST,
                "n_views": views[0],
                "views": views[1],
                "readout": readout,
                "blocks": differs_from_default(options.variant, options.attention),
                "recipe": options.recipe,
                "source": "measured by this project",
                **names,
            }
        )

    def __post_init__(self) -> None:
        for name in ("run", "dataset", "category"):
            check_name(getattr(self, name), name)
        if not self.variant:
            raise ResultsError(f"Run {self.run} needs a variant, got an empty one")
        for name in ("seed", "epochs", "n_views"):
            if getattr(self, name) < 0:
                raise ResultsError(f"Run {self.run}: {name} must be 0 or more, got {getattr(self, name)}")
        if self.recipe not in RECIPES:
            raise ResultsError(f"Run {self.run}: recipe must be one of {', '.join(RECIPES)}, got {self.recipe!r}")

    @property
    def key(self) -> str:
        """`DATASET/CATEGORY`"""
        return f"{self.dataset}/{self.category}"

    @property
    def best_on_test(self) -> bool:
        """Whether the epoch was chosen on the test images."""
        return self.selection == BEST_ON_TEST

    @classmethod
    def from_text(cls, row: dict[str, str]) -> Self:
        """Columns that have a default may be missing."""
        values: dict[str, Any] = dict(row)
        for name in ("seed", "epochs", "n_views"):
            if not re.fullmatch(r"[0-9]{1,18}", row[name]):
                raise ResultsError(f"{name} must be a whole number, got {row[name]!r}")
            values[name] = int(row[name])
        training = values["attention_training"]
        return cls(**values | {"attention_training": FORMER_TRAININGS.get(training, training)})


def backbone_of(options: Options) -> str:
    """The weights of AlexNet; another network by name, with its weights if not ImageNet's."""
    if options.backbone == ALEXNET:
        return options.weights
    return options.backbone if options.weights == "imagenet" else f"{options.backbone} {options.weights}"


def run_name(options: Options, dataset: str, category: str, tag: str = "") -> str:
    """The name of a run with these options: `mvtec_ad-bottle-se-imagenet-s0`, and the tag."""
    weights = Path(options.weights).stem
    parts = [weights]
    if options.backbone != ALEXNET:
        parts = [options.backbone] + [weights] * (options.weights != "imagenet")
    return "-".join(filter(None, [dataset, category, options.key, *parts, f"s{options.seed}", tag]))


RUN_COLUMNS = [field.name for field in dataclasses.fields(Run)]
N_REQUIRED = sum(field.default is dataclasses.MISSING for field in dataclasses.fields(Run))  # the first ones
# Columns that say how a run was made, beside backbone and seed: those that tell most of a difference first. A column
# that is added to Run later counts as one of them.
_FIRST = ["recipe", "attention_training", "blocks", "readout", "views", "n_views", "epochs", "selection"]
_OTHER = ["run", "dataset", "category", "variant", "seed", "backbone", "commit", "source"]
RECIPE_COLUMNS = _FIRST + [name for name in RUN_COLUMNS if name not in _FIRST + _OTHER]
OUTCOMES = ("epochs", "selection")  # found, not chosen, in a run that is best on test: no part of its recipe
PHRASES = {"epochs": "{} epochs", "selection": "selection {}", "n_views": "{} views"}


def check_name(name: str, what: str = "run") -> str:
    """A name that is also a file name everywhere: letters, digits, dot, dash, underscore; at most 120."""
    if not SAFE_NAME.fullmatch(name):
        raise ResultsError(f"A {what} needs a name of letters, digits, '.', '-' and '_' (up to 120), got {name!r}")
    return name


# -- recipes


@dataclass(frozen=True)
class Recipe:
    """How a run was made, as (column of runs.csv, value), as far as needed to tell it from others.

    run: its name, where nothing else tells it apart. best_on_test: whether the epoch was chosen on the test images.
    """

    values: tuple[tuple[str, str | int], ...] = ()
    run: str = ""
    best_on_test: bool = False

    def __str__(self) -> str:
        """`gates trained together with a flow, 90 epochs`; empty where there is nothing to tell."""
        plain = (training_title(str(value)) if name == "attention_training" else value for name, value in self.values)
        return self._in_phrases(plain, "{}")

    @property
    def short(self) -> str:
        """The same as runs.csv has it, for names and addresses: `attention joint, 90 epochs`."""
        return self._in_phrases((value for _, value in self.values), "attention {}")

    def _in_phrases(self, values: Iterable[str | int], training: str) -> str:
        phrases = PHRASES | {"attention_training": training}
        parts = [_phrase(phrases, name, value) for (name, _), value in zip(self.values, values, strict=True)]
        parts += [self.run, BEST_ON_TEST_LABEL if self.best_on_test else ""]
        return ", ".join(filter(None, parts))

    def without(self, *columns: str) -> "Recipe":
        return dataclasses.replace(self, values=tuple(pair for pair in self.values if pair[0] not in columns))


def _phrase(phrases: Mapping[str, str], column: str, value: str | int) -> str:
    if column == "recipe":
        return RECIPES[str(value)]
    return phrases.get(column, "{}").format(value) if value != "" else ""


def recipe_of(run: Run, columns: Iterable[str] = RECIPE_COLUMNS) -> Recipe:
    """The recipe of a run in these columns; that it is best on test is said by its own label."""
    kept = [name for name in columns if not (run.best_on_test and name == "selection")]
    return Recipe(tuple((name, getattr(run, name)) for name in kept), best_on_test=run.best_on_test)


def distinguishing_recipe(run: Run, runs: Iterable[Run]) -> Recipe:
    """What tells a run from others of its variant on the same backbone, seeds aside; mostly empty.

    A column counts where runs of one seed differ in it that agree in the columns before: what seeds alone change is not
    a recipe. The training of attention counts wherever it differs.
    """
    place = (run.key, run.backbone, run.variant, run.best_on_test)
    alike = [r for r in runs if (r.key, r.backbone, r.variant, r.best_on_test) == place]
    columns = []
    for name in RECIPE_COLUMNS:
        if name in OUTCOMES and run.best_on_test:
            continue
        seeds = {r.seed for r in alike}
        groups = [alike] if name == "attention_training" else [[r for r in alike if r.seed == seed] for seed in seeds]
        if any(len({getattr(r, name) for r in group}) > 1 for group in groups):
            columns.append(name)
            alike = [r for r in alike if getattr(r, name) == getattr(run, name)]
    recipe = recipe_of(run, columns)
    return dataclasses.replace(recipe, run=run.run) if sum(r.seed == run.seed for r in alike) > 1 else recipe


# -- order, and what to compare with


def rank(run: Run) -> tuple[Any, ...]:
    """Sorts by category, method, backbone (those of shipped models first), selection, seed and detector (baselines
    last)."""
    detectors, usual = list(DETECTOR_TITLES), (*BACKBONES, *OPTIONS_BACKBONES.values())
    detector = detectors.index(run.variant) if run.variant in detectors else len(detectors)
    backbone = usual.index(run.backbone) if run.backbone in usual else len(usual)
    method = run.variant in OTHER_METHODS or run.variant in ATTENTIVE_METHODS
    return run.dataset, run.category, method, backbone, run.backbone, run.best_on_test, run.seed, detector


def base_of(run: Run, runs: Iterable[Run], without: str = "none") -> Run | None:
    """The run of DifferNet to compare with; None for DifferNet itself and where there is none. without: the variant to
    compare with instead, as another method without attention (`ATTENTIVE_METHODS`).

    It has the same backbone and seed, and both or neither are best on test. Another method has a backbone of its own:
    it is compared with DifferNet on the first of `BACKBONES` that was measured, else on the same network. Of
    several, the one with the most similar recipe.
    """
    if run.variant == without:
        return None
    place = (run.key, run.seed, run.best_on_test)
    bases = [r for r in runs if r.variant == without and (r.key, r.seed, r.best_on_test) == place]

    def alike(other: Run) -> int:
        return sum(getattr(other, name) == getattr(run, name) for name in RECIPE_COLUMNS)

    of_another_network = without == "none" and (run.variant in OTHER_METHODS or run.variant in ATTENTIVE_METHODS)
    for backbone in (*BACKBONES, run.backbone) if of_another_network else (run.backbone,):
        if on_it := [r for r in bases if r.backbone == backbone]:
            return max(on_it, key=alike)
    return None
