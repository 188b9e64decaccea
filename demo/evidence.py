"""What has been measured, and what can be said of it: everything that score files alone tell.

No torch, so that pages of tables and curves do not wait for it. Part of `service`, which offers what both faces use.
"""

import csv
import io
import json
import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from attentdiffernet import results, statistics
from attentdiffernet.config import VARIANT_TITLES
from attentdiffernet.datasets import CARDS
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.datasets.sample import file_of
from attentdiffernet.errors import ResultsError
from attentdiffernet.figures import Curve, interval_text, roc_figure
from attentdiffernet.statistics import AurocInterval, Difference, OperatingPoint

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("ATTENTDIFFERNET_MODELS") or ROOT / "models")
RESULTS = Path(os.environ.get("ATTENTDIFFERNET_RESULTS") or ROOT / "results")
DATA_ENVIRONMENT = "ATTENTDIFFERNET_DATA"  # folder of data sets, DATASET/CATEGORY/test/..., where images are looked up
SHIPPED_BACKBONES = ("imagenet", "bundled")  # in the order of the papers' first; others are for comparison


@dataclass(frozen=True)
class Measured:
    """One run: its row of runs.csv, its scores, and what follows from them. delong, bootstrap: AUROC minus DifferNet's
    with the same backbone and seed, on the same images; None for DifferNet itself and where it was not measured."""

    run: results.Run
    scores: pd.DataFrame = field(compare=False, repr=False)
    interval: AurocInterval
    delong: Difference | None
    bootstrap: Difference | None

    @property
    def key(self) -> str:
        return f"{self.run.dataset}/{self.run.category}"

    @property
    def title(self) -> str:
        return variant_title(self.run.variant)

    @property
    def setting(self) -> str:
        """Backbone and seed: what runs that may be compared in pairs have in common."""
        return f"{self.run.backbone}-{self.run.seed}"

    @property
    def setting_title(self) -> str:
        return f"{self.run.backbone} backbone, seed {self.run.seed}"

    @property
    def detail(self) -> str:
        run = self.run
        trained = f", attention {run.attention_training}" if run.attention_training else ""
        return f"{run.epochs} epochs ({run.selection}), {run.n_views} views, seed {run.seed}{trained}"

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
        return Curve(self.title, self.run.variant, self.labels, self.values, threshold)

    def at(self, threshold: float) -> OperatingPoint:
        return statistics.operating_point(self.labels, self.values, threshold)

    def at_fpr(self, false_positive_rate: float) -> OperatingPoint:
        return statistics.operating_point_at_fpr(self.labels, self.values, false_positive_rate)

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


def measured() -> tuple[Measured, ...]:
    """Every run with its score file, in order of data set, category, setting and variant; read again when files change.

    Raises ResultsError for damaged files.
    """
    if not (RESULTS / "runs.csv").is_file():
        return ()
    files = [RESULTS / "runs.csv", *sorted((RESULTS / "scores").rglob("*.csv"))]
    return _measured(RESULTS, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


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
        return run.dataset, run.category, backbone, run.backbone, run.seed, variant

    runs.sort(key=rank)
    scores = {
        run.run: results.read_scores(results.score_path(results_dir, run.dataset, run.category, run.run))
        for run in runs
    }
    found = []
    for run in runs:
        own = scores[run.run]
        same = [r for r in runs if (r.dataset, r.category, r.backbone, r.seed) == _setting(run)]
        base = next((r.run for r in same if r.variant == "none"), run.run)
        delong = bootstrap = None
        if base != run.run:
            if not own["image"].equals(scores[base]["image"]):
                raise ResultsError(f"{run.run} and {base} were not scored on the same images and cannot be compared")
            pair = own["label"], own["score"], scores[base]["score"]
            delong, bootstrap = statistics.delong_test(*pair), statistics.bootstrap_difference(*pair)
        found.append(Measured(run, own, statistics.auroc_interval(own["label"], own["score"]), delong, bootstrap))
    return tuple(found)


def _setting(run: results.Run) -> tuple[str, str, str, int]:
    return run.dataset, run.category, run.backbone, run.seed


def of_category(key: str) -> list[Measured]:
    """The runs of `DATASET/CATEGORY`. Raises ResultsError where there are none."""
    if found := [m for m in measured() if m.key == key]:
        return found
    raise ResultsError(f"No results of {key!r} are shipped; there are {', '.join(roc_categories()) or 'none'}")


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
    """Measured curves of one category; published numbers for it, never mixed with the measured ones."""

    key: str
    curves: tuple[Curve, ...]
    rows: tuple[RocRow, ...]
    published: pd.DataFrame = field(compare=False)

    def figure(self, band: bool = True) -> object:
        """The Plotly figure of the curves."""
        return roc_figure(self.curves, band=band)


def roc_page(key: str) -> RocPage:
    """ROC curves of the measured runs of `DATASET/CATEGORY`, from the committed score files."""
    curves, rows = [], []
    for m in of_category(key):
        curves.append(Curve(f"{m.title}, {m.run.backbone}", m.run.variant, m.labels, m.values))
        rows.append(
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
        )
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
    path = MODELS / run.dataset / run.category / run.variant / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        calibration = config["calibration"]
        same = (config["model"]["weights"], config["training"]["seed"]) == (run.backbone, run.seed)
        if not same or calibration["n_views"] != run.n_views:
            return None
        return ShippedThreshold(
            calibration["threshold"], calibration["false_positive_rate"], tuple(calibration["scores"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- the overview


def finding(found: tuple[Measured, ...] | list[Measured]) -> str:
    """What the paired tests say together, in a sentence or two; empty where nothing was compared."""
    tests = [m.delong for m in found if m.delong is not None and m.run.variant in VARIANT_TITLES]
    if not tests:
        return ""
    low = sum(test.p_value < 0.05 for test in tests)
    mean = 100 * float(np.mean([test.difference for test in tests]))
    return (
        f"Attention against DifferNet on the same images: {mean:+.1f} points of AUROC on average over {len(tests)} "
        f"paired tests, {low} of them below p = 0.05, where {0.05 * len(tests):.1g} would be expected by chance alone."
    )


TABLE_FORMATS = {"csv": "CSV", "markdown": "Markdown", "latex": "LaTeX"}
TABLE_COLUMNS = [
    *("dataset", "category", "variant", "backbone", "seed", "n_normal", "n_anomalous", "auroc", "ci_low", "ci_high"),
    *("difference", "difference_low", "difference_high", "p_delong", "p_bootstrap", "run"),
]


def overview_frame(found: tuple[Measured, ...] | list[Measured]) -> pd.DataFrame:
    """One row per run, `TABLE_COLUMNS`; areas and differences as shares, nan where there is nothing to compare with."""
    rows = []
    for m in found:
        run, i, d, b = m.run, m.interval, m.delong, m.bootstrap
        row = [run.dataset, run.category, run.variant, run.backbone, run.seed, i.n_normal, i.n_anomalous]
        row += [i.auroc, i.low, i.high, *((d.difference, d.low, d.high, d.p_value) if d else [np.nan] * 4)]
        rows.append([*row, b.p_value if b else np.nan, run.run])
    return pd.DataFrame(rows, columns=TABLE_COLUMNS)


def overview_text(found: tuple[Measured, ...] | list[Measured], kind: str) -> str:
    """The table as `TABLE_FORMATS` to copy: CSV with all digits and areas in [0, 1], the others in percent."""
    if kind == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(TABLE_COLUMNS)
        for row in overview_frame(found).itertuples(index=False):
            writer.writerow(["" if x != x else f"{x:.9g}" if isinstance(x, float) else x for x in row])
        return stream.getvalue()
    head = ["Data set", "Category", "Variant", "Backbone", "AUROC, % (95 %)", "Against DifferNet, points", "p", "n"]
    rows = []
    for m in found:
        i, d = m.interval, m.delong
        points = f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})" if d else ""
        area = f"{100 * i.auroc:.1f} ({100 * i.low:.1f} to {100 * i.high:.1f})"
        where = [dataset_title(m.run.dataset), m.run.category.replace("_", " "), m.title, m.run.backbone]
        rows.append([*where, area, points, p_text(d.p_value) if d else "", f"{i.n_normal} + {i.n_anomalous}"])
    if kind == "markdown":
        lines = [head, ["---"] * len(head), *rows]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    if kind == "latex":
        body = "".join(" & ".join(map(_latex, row)) + r" \\" + "\n" for row in rows)
        return (
            "% needs \\usepackage{booktabs}; intervals and p: DeLong, over test images\n"
            f"\\begin{{tabular}}{{{'l' * 4}{'r' * 4}}}\n\\toprule\n"
            + " & ".join(map(_latex, head))
            + f" \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
        )
    raise ValueError(f"kind must be one of {', '.join(TABLE_FORMATS)}, got {kind!r}")


def _latex(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, "\\" + sign)
    return text.replace("< ", "$<$ ").replace("(-", "($-$").replace("to -", "to $-$")


# -- failures

FAILURES = {
    "normals": "Highest-scoring normals",
    "anomalies": "Lowest-scoring anomalies",
    "disagreements": "Disagreements",
}


@dataclass(frozen=True)
class Failure:
    """One test image. scores: by variant. place: share of the test normals that it outscores, by variant, in percent;
    unlike scores it can be compared between variants."""

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
    """The runs of one setting, by variant."""
    return {m.run.variant: m for m in of_category(key) if m.setting == setting}


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
