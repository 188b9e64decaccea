"""Runs beside each other: each with its scores and AUROC, seeds grouped, attention tested against DifferNet."""

import dataclasses
import math
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ResultsError
from ..words import ATTENTIVE_METHODS, OTHER_METHODS, VARIANT_TITLES, training_title, variant_title
from . import statistics
from .formats import difference_text, interval_text, mean_points_text, mean_text, p_text
from .records import Gates, gates_of, read_options, read_scores, runs_of, score_path
from .runs import Recipe, Run, base_of, distinguishing_recipe, rank, recipe_of
from .statistics import AurocInterval, Difference, OperatingPoint

SIGNIFICANT = 0.05  # p values below it count, after correction for the number of tests
GATES_LEFT_AT_1 = "gates left at 1"


@dataclass(frozen=True, eq=False)
class Measured:
    """One run: its row of runs.csv, its scores, and what follows from them.

    name: unique among the runs of a setting, and the same for all seeds: the variant, with the recipe unless it is the
    first one, and the network of another method unless it is the first one. recipe: what tells the run from others of
    its variant (`distinguishing_recipe`). network: of another method, where it is not the first one.
    base_run: the DifferNet that the run is compared with (`base_of`). delong: AUROC minus DifferNet's, on the same
    images; base: the scores of that DifferNet. All three are None for DifferNet itself and where it was not measured.
    against_itself: of another method with attention, itself with the same method without attention as its base; None of
    all others. record: RUN.json, with the options; empty where it was not kept.
    """

    run: Run
    name: str
    recipe: Recipe
    scores: pd.DataFrame = field(compare=False, repr=False)
    interval: AurocInterval
    gates: Gates
    record: dict[str, Any] = field(compare=False, repr=False)
    delong: Difference | None = None
    base: pd.DataFrame | None = field(default=None, compare=False, repr=False)
    base_run: Run | None = None
    network: str = ""
    setting_backbone: str = ""
    against_itself: "Measured | None" = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        return self.run.key

    @property
    def cost(self) -> dict[str, Any]:
        """Seconds, views and machine; empty where they were not kept."""
        return self.record.get("cost", {})

    @property
    def title(self) -> str:
        """`AttentDifferNet (SE), gates untrained`"""
        return ", ".join(filter(None, (variant_title(self.run.variant), self.network, str(self.recipe))))

    @property
    def best_on_test(self) -> bool:
        return self.run.best_on_test

    @property
    def setting(self) -> str:
        """Backbone and seed: what runs that may be compared in pairs have in common. Another method stands in the
        setting of the DifferNet that it is compared with, and with attention where it stands without."""
        return f"{self.setting_backbone}-{self.run.seed}"

    @property
    def setting_title(self) -> str:
        return ", ".join(filter(None, (self.setting_backbone, f"seed {self.run.seed}")))

    @property
    def detail(self) -> str:
        """The whole recipe, what was decided about the gates, and the seed."""
        return ", ".join(filter(None, (str(recipe_of(self.run)), str(self.gates), f"seed {self.run.seed}")))

    @property
    def labels(self) -> "pd.Series[int]":
        return self.scores["label"]

    @property
    def values(self) -> "pd.Series[float]":
        return self.scores["score"]

    def of_class(self, label: int) -> np.ndarray:
        """Scores of normal (0) or anomalous (1) images."""
        return self.values[self.labels == label].to_numpy()

    @cached_property
    def auroc_by_defect(self) -> dict[str, float]:
        """Of the images of each kind of defect against all normal ones."""
        found = {}
        for kind in sorted(self.scores["defect"][self.labels == 1].unique()):
            chosen = (self.labels == 0) | (self.scores["defect"] == kind)
            found[str(kind)] = statistics.auroc(self.labels[chosen], self.values[chosen])
        return found

    def at(self, threshold: float) -> OperatingPoint:
        return statistics.operating_point(self.labels, self.values, threshold)

    def at_fpr(self, false_positive_rate: float) -> OperatingPoint:
        return statistics.operating_point_at_fpr(self.labels, self.values, false_positive_rate)

    @cached_property
    def bootstrap(self) -> Difference | None:
        """As `delong`, by resampling. Takes some 30 ms, so it is computed only when asked for."""
        if self.base is None:
            return None
        return statistics.bootstrap_difference(self.labels, self.values, self.base["score"])

    @cached_property
    def quality(self) -> dict[str, float]:
        """The numbers of `DEFINITIONS`, in [0, 1]."""
        labels, values = self.labels, self.values
        return {
            "AUROC": self.interval.auroc,
            "Partial AUROC": statistics.partial_auroc(labels, values),
            "Average precision": statistics.average_precision(labels, values),
            "FPR at 95 % TPR": statistics.fpr_at_tpr(labels, values),
            "F1-max": statistics.f1_max(labels, values).f1,
        }


DEFINITIONS = {
    "AUROC": "Probability that an anomalous image scores higher than a normal one, ties counting half: 50 % is chance, "
    "100 % is perfect. Interval: 95 %, DeLong on the logit scale, over the choice of test images.",
    "Partial AUROC": "Area under the curve up to 10 % false positives, standardised (McClish): 50 % is chance, 100 % "
    "is perfect. It matters where false alarms are expensive.",
    "Average precision": "Area under precision over recall. Depends on the share of anomalous images among those "
    "tested, unlike AUROC.",
    "FPR at 95 % TPR": "Share of normal images that must be flagged so that 95 % of anomalous ones are found. Lower is "
    "better.",
    "F1-max": "Highest harmonic mean of precision and recall over all thresholds. That threshold is chosen on the test "
    "images, so the number is optimistic.",
}


# -- reading


def measured(results_dir: Path) -> tuple[Measured, ...]:
    """Every run with its score file, sorted by `rank`; read again when files change. Empty without a runs.csv.

    Raises ResultsError for damaged files.
    """
    if not (results_dir / "runs.csv").is_file():
        return ()
    below = os.walk(results_dir / "scores")  # hundreds of files, several times for a page; pathlib is slower
    files = [os.path.join(folder, name) for folder, _, names in below for name in names if name[0] != "."]
    return _measured(results_dir, stamp([results_dir / "runs.csv", *files]))


Stamp = tuple[tuple[str, int, int], ...]


def stamp(files: Iterable[Path | str]) -> Stamp:
    """Changes when one of the files does."""
    return tuple((str(path), (found := os.stat(path)).st_mtime_ns, found.st_size) for path in files)


@lru_cache(maxsize=8)
def _measured(results_dir: Path, _stamp: Stamp) -> tuple[Measured, ...]:
    runs = sorted(runs_of(results_dir).values(), key=rank)
    scores = {run.run: read_scores(score_path(results_dir, run.dataset, run.category, run.run)) for run in runs}
    first: dict[tuple[str, ...], Recipe] = {}  # by category, backbone and variant: the recipe that needs no name
    network: dict[tuple[str, str], str] = {}  # by category and method: the network that needs none
    found = []
    for run in runs:
        own, recipe, base = scores[run.run], distinguishing_recipe(run, runs), base_of(run, runs)
        usual = first.setdefault((run.key, run.backbone, run.variant), recipe)
        other_network = run.variant in OTHER_METHODS and run.backbone != network.setdefault(
            (run.key, run.variant), run.backbone
        )
        parts = [run.variant, run.backbone if other_network else ""]
        parts.append("" if recipe == usual and not run.best_on_test else recipe.short)
        name = ", ".join(filter(None, parts))
        record = read_options(results_dir, run) or {}
        alone = Measured(
            run,
            name,
            recipe,
            scores=own,
            interval=statistics.auroc_interval(own["label"], own["score"]),
            gates=gates_of(record),
            record=record,
            network=run.backbone if other_network else "",
            setting_backbone=(base or run).backbone,
        )
        m = _compared_with(alone, base, scores)
        if run.variant in ATTENTIVE_METHODS:
            without = base_of(run, runs, ATTENTIVE_METHODS[run.variant])
            m = dataclasses.replace(m, against_itself=_compared_with(m, without, scores))
        found.append(m)
    return tuple(found)


def _compared_with(m: Measured, base: Run | None, scores: Mapping[str, pd.DataFrame]) -> Measured:
    if base is None:
        return dataclasses.replace(m, base_run=None, delong=None, base=None)
    other = scores[base.run]
    return dataclasses.replace(m, base_run=base, delong=_delong(m.run, m.scores, base, other), base=other)


def _delong(run: Run, own: pd.DataFrame, base: Run, other: pd.DataFrame) -> Difference:
    if not own["image"].equals(other["image"]):
        raise ResultsError(f"{run.run} and {base.run} were not scored on the same images and cannot be compared")
    return statistics.delong_test(own["label"], own["score"], other["score"])


def without_best_on_test(found: Iterable[Measured]) -> list[Measured]:
    """All, where there are no others."""
    found = list(found)
    return [m for m in found if not m.best_on_test] or found


def training_once(found: Sequence[Measured]) -> tuple[list[Measured], str]:
    """Runs beside each other, and a sentence on how attention was trained in all of them: their titles do not repeat
    it. Where trainings differ, titles are as they were and the sentence is empty."""
    trainings = {m.run.attention_training for m in found} - {""}
    if len(trainings) != 1:
        return list(found), ""
    return [_without_training(m) for m in found], f"Attention: {training_title(trainings.pop())}."


@lru_cache(maxsize=1024)
def _without_training(m: Measured) -> Measured:
    """The same one each time, with what it has computed."""
    return dataclasses.replace(m, recipe=m.recipe.without("attention_training"))


# -- seeds together


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ by their seed alone, one or more, in the order of their seeds. What is computed is kept."""

    runs: tuple[Measured, ...]

    @property
    def first(self) -> Measured:
        return self.runs[0]

    @property
    def auroc(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.aurocs))

    @property
    def aurocs(self) -> list[float]:
        return [m.interval.auroc for m in self.runs]

    @property
    def auroc_text(self) -> str:
        """`97.3 % (95.1 to 98.6)`, the interval over test images, or `97.3 ± 0.4 % (3 seeds)`."""
        if len(self.runs) == 1:
            return interval_text(self.first.interval)
        return f"{mean_text(self.aurocs)} % ({len(self.runs)} seeds)"

    @property
    def left_at_one(self) -> bool:
        """Whether the gates of all runs were left at 1, so that the detector is what it is compared with."""
        run, base = self.first.run, self.first.base_run
        of_itself = base is None or base.variant == ATTENTIVE_METHODS.get(run.variant, "none")
        return of_itself and not any(m.gates.kept for m in self.runs)

    @property
    def differences(self) -> list[float]:
        """To DifferNet, of the seeds where it was measured."""
        return [m.delong.difference for m in self.runs if m.delong]

    @property
    def difference(self) -> float:
        """Mean over the seeds; nan where there is none."""
        return float(np.mean(self.differences)) if self.differences else math.nan

    @cached_property
    def test(self) -> Difference | None:
        """DeLong's paired test of the mean over the seeds that DifferNet has as well; None where there is none.

        Raises ResultsError where the seeds did not score the same images.
        """
        pairs = [(m, m.base) for m in self.runs if m.base is not None]
        if not pairs:
            return None
        if len(pairs) == 1:
            return pairs[0][0].delong
        first = pairs[0][0]
        for m, _ in pairs:
            if not m.scores["image"].equals(first.scores["image"]):
                raise ResultsError(f"{m.run.run} and {first.run.run} were not scored on the same images")
        return statistics.delong_test_of_means(
            first.labels, [m.values for m, _ in pairs], [base["score"] for _, base in pairs]
        )

    @property
    def difference_text(self) -> str:
        """`+1.2 ± 0.3 points, p = 0.03`: deviation over the seeds, test of their mean; or that the gates were left."""
        if self.left_at_one:
            return GATES_LEFT_AT_1
        if self.test is None or len(self.differences) < 2:
            return difference_text(self.test)
        return f"{mean_points_text(self.differences)} points, {p_text(self.test.p_value, 'p')}"


def grouped(found: Iterable[Measured]) -> list[Group]:
    """Runs by all but their seed, in their order."""
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for m in found:
        groups.setdefault((m.key, m.run.backbone, m.name), []).append(m)
    return [_group(tuple(runs)) for runs in groups.values()]


def of_seeds(group: Group, other: Group) -> Group:
    """The runs whose seeds the other group has as well; all where it has none of them."""
    seeds = {m.run.seed for m in other.runs}
    return _group(tuple(m for m in group.runs if m.run.seed in seeds) or group.runs)


def against_itself(group: Group) -> Group:
    """The same runs of another method with attention, compared with that method without."""
    return _group(tuple(m.against_itself or m for m in group.runs))


@lru_cache(maxsize=1024)
def _group(runs: tuple[Measured, ...]) -> Group:
    """The same one each time, with the tests that it has made."""
    return Group(runs)


# -- attention, or another method, against DifferNet


@dataclass(frozen=True)
class Contrast:
    """An attention variant or another method against DifferNet, over the seeds that both have.

    test: of the mean over these seeds, on the same test images (DeLong). over_seeds: mean and 95 % interval of the
    seeds' differences, None for one seed. p_holm: of `test`, corrected for all contrasts that were made together.
    """

    group: Group
    test: Difference
    over_seeds: tuple[float, float, float] | None
    p_holm: float

    @property
    def beyond_chance(self) -> bool:
        """Whether other images of this kind would show a difference, too, with these seeds."""
        return self.p_holm < SIGNIFICANT

    @property
    def real(self) -> bool:
        """Beyond chance, and for other seeds as well, as far as more than one was tried."""
        if self.over_seeds is None:
            return self.beyond_chance
        _, low, high = self.over_seeds
        return self.beyond_chance and not low <= 0 <= high

    @property
    def helps(self) -> bool:
        return self.real and self.test.difference > 0

    @property
    def harms(self) -> bool:
        return self.real and self.test.difference < 0


def contrasts(
    groups: Iterable[Group], detectors: Container[str] = VARIANT_TITLES, with_left_at_one: bool = False
) -> list[Contrast]:
    """Every attention variant that was measured beside DifferNet, in the order of the groups; other methods with
    `OTHER_METHODS`. The two are never counted together.

    Left out are runs that are best on test, and groups whose gates were all left at 1: those would compare DifferNet
    with itself. with_left_at_one: these, too, as changes of 0, which an average over categories needs. Errors as
    `Group.test`.
    """
    found = []
    for group in groups:
        variant = group.first.run.variant
        if group.first.best_on_test or variant not in detectors or group.test is None:
            continue
        if group.left_at_one and not with_left_at_one:
            continue
        over_seeds = statistics.mean_interval(group.differences) if len(group.differences) > 1 else None
        found.append((group, group.test, over_seeds))
    adjusted = statistics.holm([test.p_value for _, test, _ in found])
    return [Contrast(*parts, float(p_value)) for parts, p_value in zip(found, adjusted, strict=True)]
