"""What has been measured, and what can be said of it: everything that score files alone tell.

No torch, so that pages of tables and curves do not wait for it. Part of `service`, which offers what both faces use.
"""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from attentdiffernet.datasets import CARDS
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.errors import ResultsError
from attentdiffernet.figures import Curve, interval_text, roc_figure
from attentdiffernet.study import maps as localisation
from attentdiffernet.study import records as results
from attentdiffernet.study import statistics
from attentdiffernet.study.statistics import AurocInterval, Difference, OperatingPoint
from attentdiffernet.words import VARIANT_TITLES

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("ATTENTDIFFERNET_MODELS") or ROOT / "models")
RESULTS = Path(os.environ.get("ATTENTDIFFERNET_RESULTS") or ROOT / "results")
DATA_ENVIRONMENT = "ATTENTDIFFERNET_DATA"  # folder of data sets, DATASET/CATEGORY/test/..., where images are looked up
SHIPPED_BACKBONES = ("imagenet", "bundled")  # in the order of the papers' first; others are for comparison
# Columns of runs.csv that say how a run was made, beside backbone and seed; those to come are taken for such, too.
RECIPE = [
    name
    for name in results.RUN_COLUMNS
    if name not in ("run", "dataset", "category", "variant", "seed", "backbone", "commit", "source")
]
RECIPE_WORDS = {
    "attention_training": "attention {}",
    "epochs": "{} epochs",
    "selection": "selection {}",
    "n_views": "{} views",
}
TRAINED = "attention_training"
OUTCOMES = ("epochs", "selection")  # of a run that is the best on test: no recipe, it may differ from seed to seed
FLATTERS = "best on test (flatters)"


@dataclass(frozen=True)
class Measured:
    """One run: its row of runs.csv, its scores, and what follows from them.

    recipe: what tells it from other runs of its variant on the same backbone, seeds aside, in words; mostly empty, and
    `FLATTERS` at its end where the test images have had a say. name: unique among the runs of its setting and alike for
    all seeds: the variant, with the recipe unless it is the first one. delong: AUROC minus DifferNet's with the same
    backbone and seed, chosen in the same way, on the same images; base: the scores of that DifferNet; None for
    DifferNet itself and where it was not measured. left_at_one: whether training of attention left all gates at 1,
    by which the detector is DifferNet. judged: AUROC on synthetic defects with gates and without, which decided that.
    """

    run: results.Run
    name: str
    recipe: str
    scores: pd.DataFrame = field(compare=False, repr=False)
    interval: AurocInterval
    delong: Difference | None
    base: pd.DataFrame | None = field(compare=False, repr=False)
    left_at_one: bool = False
    judged: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.run.dataset}/{self.run.category}"

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (variant_title(self.run.variant), self.recipe)))

    @property
    def flatters(self) -> bool:
        return self.run.flatters

    @property
    def setting(self) -> str:
        """Backbone and seed: what runs that may be compared in pairs have in common."""
        return f"{self.run.backbone}-{self.run.seed}"

    @property
    def setting_title(self) -> str:
        return f"{self.run.backbone} backbone, seed {self.run.seed}"

    @property
    def detail(self) -> str:
        columns = [name for name in RECIPE if not (self.flatters and name == "selection")]
        label = [FLATTERS] if self.flatters else []
        gates = [self.gates] if self.gates else []
        return ", ".join([*label, *_words(self.run, columns), *gates, f"seed {self.run.seed}"])

    @property
    def gates(self) -> str:
        """Whether they were kept, and why, where that was judged."""
        said = "gates left at 1" if self.left_at_one else "gates kept" if self.judged else ""
        if self.judged:
            said += " (AUROC on synthetic defects {:.1f} % with, {:.1f} % without)".format(
                *(100 * x for x in self.judged)
            )
        return said

    @property
    def labels(self) -> "pd.Series[int]":
        return self.scores["label"]

    @property
    def values(self) -> "pd.Series[float]":
        return self.scores["score"]

    def of_class(self, label: int) -> np.ndarray:
        """Scores of normal (0) or anomalous (1) images."""
        return self.values[self.labels == label].to_numpy()

    def curve(self, threshold: float | None = None) -> Curve:
        return Curve(self.title, self.run.variant, self.labels, self.values, threshold, self.recipe)

    def at(self, threshold: float) -> OperatingPoint:
        return statistics.operating_point(self.labels, self.values, threshold)

    def at_fpr(self, false_positive_rate: float) -> OperatingPoint:
        return statistics.operating_point_at_fpr(self.labels, self.values, false_positive_rate)

    @cached_property
    def bootstrap(self) -> Difference | None:
        """As `delong`, by resampling: some 30 ms, so only where it is asked for."""
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
    "is perfect. What counts where false alarms are dear.",
    "Average precision": "Area under precision over recall. Depends on the share of anomalous images among those "
    "tested, unlike AUROC.",
    "FPR at 95 % TPR": "Share of normal images that must be flagged so that 95 % of anomalous ones are found. Lower is "
    "better.",
    "F1-max": "Highest harmonic mean of precision and recall over all thresholds. That threshold is chosen on the test "
    "images, so the number flatters.",
}


def variant_title(variant: str) -> str:
    return VARIANT_TITLES.get(variant, variant)


def category_title(key: str) -> str:
    """`Wafer map (synthetic)`, `Bottle (MVTec AD)`."""
    dataset, name = key.split("/")
    if dataset == "sample" and name in SAMPLE_CATEGORIES:
        return f"{SAMPLE_CATEGORIES[name].title} (synthetic)"
    return f"{name.replace('_', ' ').capitalize()} ({dataset_title(dataset)})"


def dataset_title(dataset: str) -> str:
    return CARDS[dataset].title if dataset in CARDS else dataset


# -- what has been measured


def measured(results_dir: Path | None = None) -> tuple[Measured, ...]:
    """Every run with its score file, in order of data set, category, setting and variant, those that are the best on
    test behind the others; read again when files change. results_dir: `RESULTS`, unless given.

    Raises ResultsError for damaged files.
    """
    folder = results_dir or RESULTS
    if not (folder / "runs.csv").is_file():
        return ()
    files = [folder / "runs.csv", *sorted((folder / "scores").rglob("*.csv"))]
    return _measured(folder, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=2)
def _measured(results_dir: Path, _stamp: tuple[tuple[Path, int, int], ...]) -> tuple[Measured, ...]:
    rows = results.read_runs(results_dir).to_dict("records")
    runs = [results.Run(**{str(name): value for name, value in row.items()}) for row in rows]
    order = [*VARIANT_TITLES]

    def rank(run: results.Run) -> tuple[Any, ...]:
        # Backbones of shipped models first; baselines behind the variants.
        variant = order.index(run.variant) if run.variant in order else len(order)
        shipped = run.backbone in SHIPPED_BACKBONES
        backbone = SHIPPED_BACKBONES.index(run.backbone) if shipped else len(SHIPPED_BACKBONES)
        return run.dataset, run.category, backbone, run.backbone, run.flatters, run.seed, variant

    runs.sort(key=rank)
    scores = {
        run.run: results.read_scores(results.score_path(results_dir, run.dataset, run.category, run.run))
        for run in runs
    }
    recipes: dict[tuple[str, ...], list[str]] = {}  # in the order of the runs; the first one needs no name of its own
    found = []
    for run in runs:
        own, recipe = scores[run.run], _recipe(run, runs)
        known = recipes.setdefault((run.dataset, run.category, run.backbone, run.variant), [recipe])
        name = run.variant if recipe == known[0] and not run.flatters else f"{run.variant}, {recipe}"
        delong, base = None, _base(run, runs)
        other = scores[base] if base else None
        if other is not None:
            if not own["image"].equals(other["image"]):
                raise ResultsError(f"{run.run} and {base} were not scored on the same images and cannot be compared")
            delong = statistics.delong_test(own["label"], own["score"], other["score"])
        interval = statistics.auroc_interval(own["label"], own["score"])
        options = results.read_options(results_dir, run) or {}
        left, judged = options.get("attention_strength") == 0, tuple(options.get("attention_judged", ()))
        found.append(Measured(run, name, recipe, own, interval, delong, other, left, judged))
    return tuple(found)


def _words(run: results.Run, columns: list[str]) -> list[str]:
    values = {name: getattr(run, name) for name in columns}
    return [RECIPE_WORDS.get(name, "{}").format(value) for name, value in values.items() if value != ""]


def _recipe(run: results.Run, runs: list[results.Run]) -> str:
    """`Measured.recipe`. A column counts where runs of one seed differ in it, as what seeds alone change is no recipe;
    the training of attention always does."""
    place = (run.dataset, run.category, run.backbone, run.variant, run.flatters)
    alike = [r for r in runs if (r.dataset, r.category, r.backbone, r.variant, r.flatters) == place]
    seeds = [[r for r in alike if r.seed == seed] for seed in {r.seed for r in alike}]
    columns = [
        name
        for name in RECIPE
        if not (run.flatters and name in OUTCOMES)
        and any(len({getattr(r, name) for r in same}) > 1 for same in ([alike] if name == TRAINED else seeds))
    ]
    words = _words(run, columns)
    if sum(r.seed == run.seed and _words(r, columns) == words for r in alike) > 1:  # nothing but its name is left
        words.append(run.run)
    return ", ".join([*words, FLATTERS] if run.flatters else words)


def _base(run: results.Run, runs: list[results.Run]) -> str | None:
    """The run of DifferNet to compare with: same backbone and seed, both best on test or neither, and of several the
    one most alike in its recipe."""
    place = (run.dataset, run.category, run.backbone, run.seed, run.flatters)
    plain = [r for r in runs if r.variant == "none"]
    bases = [r for r in plain if (r.dataset, r.category, r.backbone, r.seed, r.flatters) == place]
    if run.variant == "none" or not bases:
        return None
    return max(bases, key=lambda r: sum(getattr(r, name) == getattr(run, name) for name in RECIPE)).run


def maps_of(key: str) -> pd.DataFrame:
    """`localisation.summary_of_maps` of a category; empty where no maps were measured; read again when files change.

    Raises ResultsError for damaged files.
    """
    files = sorted((RESULTS / "maps" / key).glob("*.*"))
    return _maps_of(RESULTS, key, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=8)
def _maps_of(results_dir: Path, key: str, _stamp: tuple[tuple[Path, int, int], ...]) -> pd.DataFrame:
    return localisation.summary_of_maps(results_dir, key)


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone, one or more, in the order of their seeds."""

    runs: tuple[Measured, ...]

    @property
    def first(self) -> Measured:
        return self.runs[0]

    @property
    def auroc(self) -> float:
        """Mean over the seeds."""
        return float(np.mean([m.interval.auroc for m in self.runs]))

    @property
    def auroc_text(self) -> str:
        """`97.3 % (95.1 to 98.6)`, the interval over test images, or `97.3 ± 0.4 %`, the deviation over seeds."""
        if len(self.runs) == 1:
            return interval_text(self.first.interval)
        return f"{mean_text([m.interval.auroc for m in self.runs])} % ({len(self.runs)} seeds)"

    @property
    def left_at_one(self) -> bool:
        """Whether training of attention left all gates of all runs at 1."""
        return all(m.left_at_one for m in self.runs)

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
        """`difference_text`, or `+1.2 ± 0.3 points, p = 0.03`: the deviation over seeds, the test of their mean; or
        that there is nothing to compare."""
        if self.left_at_one:
            return "gates left at 1"
        if self.test is None or len(self.differences) < 2:
            return difference_text(self.test)
        return f"{mean_text(self.differences, '+')} points, p {p_text(self.test.p_value, '= ')}"


def mean_text(shares: list[float], sign: str = "") -> str:
    """`97.3 ± 0.4`: mean and standard deviation of shares, in percent; of one share there is no deviation."""
    if len(shares) == 1:
        return f"{100 * shares[0]:{sign}.1f}"
    return f"{100 * float(np.mean(shares)):{sign}.1f} ± {100 * float(np.std(shares, ddof=1)):.1f}"


def grouped(found: Iterable[Measured]) -> list[Group]:
    """Runs by all but their seed, in their order."""
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for m in found:
        groups.setdefault((m.key, m.run.backbone, m.name), []).append(m)
    return [Group(tuple(runs)) for runs in groups.values()]


@dataclass(frozen=True)
class Contrast:
    """An attention variant against DifferNet, over the seeds that both have. test: of the mean over these seeds, on the
    same test images (DeLong); over_seeds: mean and 95 % interval of the seeds' differences, None for one seed;
    p_holm: of `test`, corrected for all contrasts that were made together."""

    group: Group
    test: Difference
    over_seeds: tuple[float, float, float] | None
    p_holm: float

    @property
    def beyond_chance(self) -> bool:
        """On other images of this kind, with these seeds."""
        return self.p_holm < 0.05

    @property
    def real(self) -> bool:
        """Beyond chance, and with other seeds as well, as far as more than one was tried."""
        if self.over_seeds is None:
            return self.beyond_chance
        _, low, high = self.over_seeds
        return self.beyond_chance and not low <= 0 <= high


def contrasts(groups: Iterable[Group]) -> list[Contrast]:
    """Every attention variant that was measured beside DifferNet, in the order of the groups. Runs that are the best on
    test are left out, and groups in which all gates were left at 1: that is DifferNet beside itself. Errors as
    `Group.test`."""
    found = []
    for group in groups:
        if group.first.flatters or group.first.run.variant not in VARIANT_TITLES or group.test is None:
            continue
        if group.left_at_one:
            continue
        over_seeds = statistics.mean_interval(group.differences) if len(group.differences) > 1 else None
        found.append((group, group.test, over_seeds))
    adjusted = statistics.holm([test.p_value for _, test, _ in found])
    return [Contrast(*parts, float(p_value)) for parts, p_value in zip(found, adjusted, strict=True)]


def of_category(key: str) -> list[Measured]:
    """The runs of `DATASET/CATEGORY`. Raises ResultsError where there are none."""
    if found := [m for m in measured() if m.key == key]:
        return found
    raise ResultsError(f"No results of {key!r} are shipped; there are {', '.join(roc_categories()) or 'none'}")


def fair(found: list[Measured]) -> list[Measured]:
    """Without the runs that are the best on test; all, where there are no others."""
    return [m for m in found if not m.flatters] or found


def roc_categories() -> list[str]:
    """`DATASET/CATEGORY` of everything measured."""
    return sorted({m.key for m in measured()})


def published() -> pd.DataFrame:
    """Numbers from papers (`results.read_published`); empty where there is no such file."""
    if not (RESULTS / "published.csv").is_file():
        return pd.DataFrame(columns=results.PUBLISHED_COLUMNS)
    return results.read_published(RESULTS)


def published_of(key: str) -> pd.DataFrame:
    """Published numbers of a category, and of the average over its data set."""
    everything, (dataset, name) = published(), key.split("/")
    return everything[(everything["dataset"] == dataset) & everything["category"].isin([name, "average"])]


# -- ROC page


@dataclass(frozen=True)
class RocRow:
    """One run of a category. difference: AUROC minus DifferNet's on the same images, with its p-value (DeLong)."""

    title: str
    run: str
    backbone: str
    auroc: str
    difference: str
    n_normal: int
    n_anomalous: int
    detail: str


@dataclass(frozen=True)
class RocPage:
    """Measured curves of one category, of several seeds the first, none that is the best on test; a row for every run;
    published numbers for it, never mixed with the measured ones."""

    key: str
    curves: tuple[Curve, ...]
    rows: tuple[RocRow, ...]
    published: pd.DataFrame = field(compare=False)

    def figure(self, band: bool = True) -> object:
        """The Plotly figure of the curves."""
        return roc_figure(self.curves, band=band)


def roc_page(key: str) -> RocPage:
    """ROC curves of the measured runs of `DATASET/CATEGORY`, from the committed score files."""
    found = of_category(key)
    curves = []
    for group in grouped(fair(found)):
        m, style = group.first, f"{group.first.run.backbone} {group.first.recipe}"
        seed = f", seed {m.run.seed}" if len(group.runs) > 1 else ""
        curves.append(Curve(f"{m.title}, {m.run.backbone}{seed}", m.run.variant, m.labels, m.values, style=style))
    rows = [
        RocRow(
            title=m.title,
            run=m.run.run,
            backbone=m.run.backbone,
            auroc=interval_text(m.interval),
            difference=difference_text(m.delong),
            n_normal=m.interval.n_normal,
            n_anomalous=m.interval.n_anomalous,
            detail=m.detail,
        )
        for m in found
    ]
    return RocPage(key, tuple(curves), tuple(rows), published_of(key))


def difference_text(difference: Difference | None) -> str:
    """`+1.2 points, p = 0.03`; empty without a difference."""
    if difference is None:
        return ""
    return f"{100 * difference.difference:+.1f} points, p {p_text(difference.p_value, '= ')}"


def p_text(p_value: float, equals: str = "") -> str:
    return "< 0.001" if p_value < 0.001 else f"{equals}{p_value:.2g}"


@dataclass(frozen=True)
class ShippedThreshold:
    """The threshold of a shipped model, set on held-out training normals. scores: theirs, ascending."""

    threshold: float
    false_positive_rate: float
    scores: tuple[float, ...]


def shipped_threshold(found: Measured) -> ShippedThreshold | None:
    """Of the model that gave these scores, from its config.json; None where another one, or none, is shipped."""
    run = found.run
    if run.flatters:  # such a model is never kept
        return None
    path = MODELS / run.dataset / run.category / run.variant / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        calibration = config["calibration"]
        model, training = config["model"], config["training"]
        gates = model["attention"]["training"] if run.variant != "none" else ""
        shipped = (model["weights"], gates, training["epochs"], training["seed"], calibration["n_views"])
        if shipped != (run.backbone, run.attention_training, run.epochs, run.seed, run.n_views):
            return None
        return ShippedThreshold(
            calibration["threshold"], calibration["false_positive_rate"], tuple(calibration["scores"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- the overview


LEFT_AT_ONE = (
    "In {left} of {runs} runs the gates were left at 1, since on synthetic defects in held-out normals the detector "
    "did no better with them: those are DifferNet, and where all seeds are, nothing is compared."
)


def finding(found: Iterable[Measured]) -> str:
    """What the paired tests say together, in a sentence or two; empty where nothing was compared. Runs that are the
    best on test have no say."""
    found = fair(list(found))
    tested = contrasts(grouped(found))
    if not tested:
        return ""
    runs = [m for m in found if m.run.attention_training]
    left = sum(m.left_at_one for m in runs)
    better = sum(c.real and c.test.difference > 0 for c in tested)
    worse = sum(c.real and c.test.difference < 0 for c in tested)
    mean = 100 * float(np.mean([c.test.difference for c in tested]))
    n = f"{len(tested)} comparison{'s' * (len(tested) > 1)}"
    return (
        f"Attention against DifferNet on the same images: {mean:+z.1f} points of AUROC on average over {n}, each over "
        f"all its seeds. After correction for the number of tests (Holm), and where the interval over seeds leaves out "
        f"0, attention is better in {better} and worse in {worse}; the others cannot be told from no attention."
        + (f" {LEFT_AT_ONE.format(left=left, runs=len(runs))}" if left else "")
    )


TABLE_FORMATS = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}
TABLE_COLUMNS = [
    *("dataset", "category", "variant", "backbone", "seed", "attention_training", "selection"),
    *("n_normal", "n_anomalous", "auroc", "ci_low", "ci_high"),
    *("difference", "difference_low", "difference_high", "p_delong", "p_bootstrap", "run"),
]


def overview_frame(found: tuple[Measured, ...] | list[Measured]) -> pd.DataFrame:
    """One row per run, `TABLE_COLUMNS`; areas and differences as shares, nan where there is nothing to compare with."""
    rows = []
    for m in found:
        run, i, d, b = m.run, m.interval, m.delong, m.bootstrap
        row = [run.dataset, run.category, run.variant, run.backbone, run.seed, run.attention_training, run.selection]
        row += [
            i.n_normal,
            i.n_anomalous,
            i.auroc,
            i.low,
            i.high,
            *((d.difference, d.low, d.high, d.p_value) if d else [np.nan] * 4),
        ]
        rows.append([*row, b.p_value if b else np.nan, run.run])
    return pd.DataFrame(rows, columns=TABLE_COLUMNS)


def overview_text(found: tuple[Measured, ...] | list[Measured], kind: str) -> str:
    """The table as `TABLE_FORMATS` to copy: CSV with every run, all digits and areas in [0, 1]; the others in percent,
    with mean and standard deviation where there are several seeds."""
    if kind == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(TABLE_COLUMNS)
        for row in overview_frame(found).itertuples(index=False):
            writer.writerow(["" if x != x else f"{x:.9g}" if isinstance(x, float) else x for x in row])
        return stream.getvalue()
    head = ["Data set", "Category", "Variant", "Backbone", "Seeds", "AUROC, %", "Against DifferNet, points", "p", "n"]
    rows = []
    for group in grouped(found):
        m, i, d = group.first, group.first.interval, group.test
        area = f"{100 * i.auroc:.1f} ({100 * i.low:.1f} to {100 * i.high:.1f})"
        points = f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})" if d else ""
        p_value = p_text(d.p_value) if d else ""
        if len(group.runs) > 1:
            area = mean_text([m.interval.auroc for m in group.runs])
            points = mean_text(group.differences, "+") if group.differences else ""
        where = [dataset_title(m.run.dataset), m.run.category.replace("_", " "), m.title, m.run.backbone]
        rows.append([*where, str(len(group.runs)), area, points, p_value, f"{i.n_normal} + {i.n_anomalous}"])
    if kind == "markdown":
        lines = [head, ["---"] * len(head), *rows]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    if kind == "latex":
        body = "".join(" & ".join(map(_latex, row)) + r" \\" + "\n" for row in rows)
        return (
            "% needs \\usepackage{booktabs}; in brackets: 95 % intervals, like p after DeLong, over test images\n"
            "% ±: standard deviation over seeds, p then of their mean; n: normal + anomalous test images\n"
            f"\\begin{{tabular}}{{{'l' * 4}{'r' * 5}}}\n\\toprule\n"
            + " & ".join(map(_latex, head))
            + f" \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
        )
    raise ValueError(f"kind must be one of {', '.join(TABLE_FORMATS)}, got {kind!r}")


def _latex(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, "\\" + sign)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text).replace("< ", "$<$ ").replace("±", r"$\pm$")


# -- failures

FAILURES = {
    "normals": "Highest-scoring normals",
    "anomalies": "Lowest-scoring anomalies",
    "disagreements": "Disagreements",
}


@dataclass(frozen=True)
class Failure:
    """One test image. scores: by `Measured.name`. place: share of the test normals that it outscores, likewise, in
    percent; unlike scores it can be compared between variants."""

    image: str
    defect: str
    label: int
    scores: dict[str, float]
    place: dict[str, float]

    @property
    def spread(self) -> float:
        return max(self.place.values()) - min(self.place.values())


def settings(key: str) -> dict[str, str]:
    """Title of each setting (backbone and seed) in which a category was measured."""
    return {m.setting: m.setting_title for m in of_category(key)}


def of_setting(key: str, setting: str) -> dict[str, Measured]:
    """The runs of one setting, by `Measured.name`."""
    return {m.name: m for m in of_category(key) if m.setting == setting}


def images_of(runs: dict[str, Measured]) -> list[Failure]:
    """All test images with what each run says of them, in the order of the score file."""
    places = {variant: _places(m.of_class(0), m.values) for variant, m in runs.items()}
    scores = {variant: m.values.to_numpy() for variant, m in runs.items()}
    first = next(iter(runs.values())).scores
    return [
        Failure(
            image=image,
            defect=defect,
            label=label,
            scores={variant: float(values[k]) for variant, values in scores.items()},
            place={variant: float(values[k]) for variant, values in places.items()},
        )
        for k, (image, defect, label) in enumerate(zip(first["image"], first["defect"], first["label"], strict=True))
    ]


def _places(normal: np.ndarray, scores: ArrayLike) -> np.ndarray:
    """`statistics.percentile_among` of many scores: (n,) in percent."""
    ranked = np.sort(normal)
    below, upto = np.searchsorted(ranked, scores, "left"), np.searchsorted(ranked, scores, "right")
    return np.asarray(50.0 * (below + upto) / ranked.size)


def failures(runs: dict[str, Measured], kind: str, variant: str, n: int = 8) -> list[Failure]:
    """The n worst of a kind of `FAILURES`. variant: whose scores count; for disagreements all of them do."""
    images = images_of(runs)
    if kind == "normals":
        return sorted((f for f in images if f.label == 0), key=lambda f: -f.scores[variant])[:n]
    if kind == "anomalies":
        return sorted((f for f in images if f.label == 1), key=lambda f: f.scores[variant])[:n]
    if kind == "disagreements":
        return sorted((f for f in images if f.spread > 0), key=lambda f: -f.spread)[:n]
    raise ResultsError(f"There is no list {kind!r}; there are {', '.join(FAILURES)}")


def image_file(key: str, image: str) -> bytes | None:
    """A test image's file: of the sample set drawn anew, of others from below `DATA_ENVIRONMENT`; None where it is not
    at hand."""
    dataset, category = key.split("/")
    if dataset == "sample" and category in SAMPLE_CATEGORIES:
        return file_of(category, image)
    root = os.environ.get(DATA_ENVIRONMENT)
    path = Path(root or "", dataset, category, "test", image)
    return path.read_bytes() if root and path.is_file() else None


def images_at_hand(key: str) -> bool:
    dataset, category = key.split("/")
    if dataset == "sample" and category in SAMPLE_CATEGORIES:
        return True
    root = os.environ.get(DATA_ENVIRONMENT)
    return bool(root) and Path(root or "", dataset, category, "test").is_dir()
