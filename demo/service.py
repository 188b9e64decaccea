"""One call per user action, for every face: typed results, user-facing texts, a bounded cache of models.

Knows nothing of Gradio or Streamlit. What a visitor can mend is raised as AttentDifferNetError with a sentence for
them. What score files alone tell is in `attentdiffernet.study`, and where things lie in `shipped`: both need no torch.
"""

import csv
import hashlib
import io
import os
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from attentdiffernet import checkpoint
from attentdiffernet.backbone import imagenet_at_hand, load_weights
from attentdiffernet.checkpoint import Detector
from attentdiffernet.config import ScoringConfig
from attentdiffernet.datasets import CARDS, category_title
from attentdiffernet.datasets.sample import CATEGORIES as SAMPLE_CATEGORIES
from attentdiffernet.errors import DatasetError
from attentdiffernet.explain import (
    AttentionReading,
    explain,
    grad_cam,
    methods_of,
    read_attention,
    relative_heat,
    what_it_shows,
)
from attentdiffernet.figures.overlay import colour_bar, overlay, pixels
from attentdiffernet.figures.palette import INK
from attentdiffernet.figures.print import GridRow, qualitative_grid
from attentdiffernet.figures.screen import percentile_svg
from attentdiffernet.images import IMAGE_SUFFIXES, read_image
from attentdiffernet.model import AttentDifferNet
from attentdiffernet.scoring import RunningScore, prepared, score_progressively
from attentdiffernet.study.statistics import percentile_among
from attentdiffernet.views import even_angles, make_views
from attentdiffernet.words import METHOD_TITLES, VARIANT_TITLES

from . import shipped
from .roc_page import RocPage, RocRow, roc_page  # noqa: F401
from .shipped import MODELS, ROOT, measured_categories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = ROOT / "demo" / "examples"
DOWNLOAD_ENVIRONMENT = "ATTENTDIFFERNET_DOWNLOAD"  # 1: the demo may download the ImageNet weights when first needed

METHODS = {name: METHOD_TITLES[name] for name in ("grad-cam", "attention", "gradient")}
SHOWN_SIDE = 1024  # px: photographs are shown and downloaded no larger than this
FAINT = 0.15  # share of the colour scale below which overlays are too clear to be seen
MAX_IMAGES = 12  # of one upload
MAX_MODELS = 18  # kept in memory, about 15 MB each
MAX_COMPARISONS = 16  # kept so that another map of the same image needs no new score

# torch uses all cores for one image; two comparisons at once would only slow each other, and hooks share the model.
_compute = threading.Lock()
_figures = threading.Lock()  # Matplotlib's options are global


@dataclass(frozen=True)
class CategoryInfo:
    """One category with shipped models. key: `DATASET/CATEGORY`. why_not: empty where it can be used now."""

    key: str
    title: str
    description: str
    dataset_title: str
    licence: str
    examples: tuple[Path, ...]
    why_not: str = ""


@dataclass(frozen=True)
class Verdict:
    """One variant's answer for one image. percentile: share of held-out normals that score lower, in percent."""

    variant: str
    title: str
    score: float
    standard_error: float
    n_views: int
    n_views_wanted: int
    threshold: float
    false_positive_rate: float
    percentile: float
    calibration_scores: tuple[float, ...]
    choices: str

    @property
    def provisional(self) -> bool:
        return self.n_views < self.n_views_wanted

    @property
    def anomalous(self) -> bool:
        return self.score > self.threshold

    @property
    def word(self) -> str:
        return "anomalous" if self.anomalous else "normal"

    @property
    def histogram_svg(self) -> str:
        return percentile_svg(self.calibration_scores, self.score, self.threshold)


@dataclass(frozen=True)
class Heat:
    """Maps of all variants on one colour scale. heat: log2 of value / reference of held-out normals, (h, w) each;
    a variant that has no such map is left out. shows: what its map shows, by variant, whatever the image."""

    method: str
    heat: dict[str, np.ndarray]
    shows: dict[str, str]
    scale: tuple[float, float]

    @property
    def notes(self) -> dict[str, str]:
        """As `shows`; a map that is empty, or faint beside another's, is an answer: it is said, or it looks like a
        fault."""
        low, high = self.scale
        notes = {}
        for variant, values in self.heat.items():
            top, more = float(values.max()), ""
            if top <= low:
                more = " No place here exceeds what held-out normals reach."
            elif top < low + FAINT * (high - low):
                more = (
                    f" Hardly seen on this scale: the highest place reaches {2.0**top:.1f} × what held-out normals do."
                )
            notes[variant] = self.shows[variant] + more
        return notes

    @property
    def title(self) -> str:
        return METHOD_TITLES[self.method]


@dataclass(frozen=True)
class Comparison:
    """One image seen by all variants of a category. heat is None until the scores are final.

    image: (H, W, 3) uint8 at its own aspect, at most SHOWN_SIDE px.
    """

    name: str
    category: CategoryInfo
    image: np.ndarray
    verdicts: dict[str, Verdict]
    heat: Heat | None = None

    def overlay(self, variant: str) -> np.ndarray:
        """The photograph with this variant's map on it; the plain photograph where there is none (yet)."""
        if self.heat is None or variant not in self.heat.heat:
            return self.image
        return overlay(self.image, self.heat.heat[variant], *self.heat.scale)


# -- categories and models


def categories() -> list[CategoryInfo]:
    """All categories with shipped models, those that can be used now first."""
    found = [_category_info(folder) for folder in sorted(MODELS.glob("*/*")) if any(folder.glob("*/config.json"))]
    return sorted(found, key=lambda info: (bool(info.why_not), not info.key.startswith("sample/"), info.key))


def _category_info(folder: Path) -> CategoryInfo:
    dataset, name = folder.parent.name, folder.name
    key, card = f"{dataset}/{name}", CARDS.get(dataset)
    sample = SAMPLE_CATEGORIES.get(name) if dataset == "sample" else None
    examples = EXAMPLES / dataset / name
    return CategoryInfo(
        key=key,
        title=category_title(key),
        description=sample.description if sample else card.description if card else "",
        dataset_title=card.title if card else dataset,
        licence=card.licence if card else "",
        examples=tuple(sorted(p for p in examples.glob("*") if p.suffix in IMAGE_SUFFIXES)),
        why_not=_why_not(folder),
    )


def _why_not(folder: Path) -> str:
    needs_imagenet = '"weights": "imagenet"' in next(folder.glob("*/config.json")).read_text(encoding="utf-8")
    if not needs_imagenet or imagenet_at_hand() or os.environ.get(DOWNLOAD_ENVIRONMENT) == "1":
        return ""
    return (
        "needs AlexNet's ImageNet weights, which are not on this machine: name a local file in "
        f"ATTENTDIFFERNET_IMAGENET_WEIGHTS, or set {DOWNLOAD_ENVIRONMENT}=1 to let torchvision download them (244 MB)"
    )


def category(key: str) -> CategoryInfo:
    """Raises DatasetError for a category that is unknown or cannot be used now."""
    known = {info.key: info for info in categories()}
    if key not in known:
        raise DatasetError(
            f"There is no category {key!r}; there are {', '.join(known) or 'none: no models are shipped'}"
        )
    if known[key].why_not:
        raise DatasetError(f"{known[key].title} {known[key].why_not}")
    return known[key]


_load_weights = lru_cache(maxsize=2)(load_weights)  # one reading for all variants


@lru_cache(maxsize=MAX_MODELS)
def detector(key: str, variant: str) -> Detector:
    """The shipped model of a category and variant; kept in memory, the least used one goes first."""
    return checkpoint.load(MODELS / key / variant, load_weights=_load_weights)


def detectors(key: str) -> dict[str, Detector]:
    """All variants of a category, in their usual order."""
    category(key)
    return {v: detector(key, v) for v in VARIANT_TITLES if (MODELS / key / v / "config.json").is_file()}


def preload() -> None:
    """Loads what can be used now, so that the first visitor does not wait for it."""
    for info in categories():
        if not info.why_not:
            detectors(info.key)


def warm_up() -> None:
    """What the first comparison would wait for: the imports behind maps, torch's first run."""
    usable = [info.key for info in categories() if not info.why_not]
    for key in usable[:1]:
        black = io.BytesIO(png(np.zeros((64, 64, 3), np.uint8)))
        for comparison in compare(black, key, n_views=2):
            if comparison.heat is not None:
                comparison.overlay(next(iter(comparison.heat.heat)))
                heat_bar(comparison.heat.scale)


# -- one image, all variants

_comparisons: OrderedDict[tuple[str, str, int], dict[str, RunningScore]] = OrderedDict()


def compare(
    source: str | Path | BinaryIO,
    key: str,
    method: str = "grad-cam",
    name: str | None = None,
    n_views: int | None = None,
) -> Iterator[Comparison]:
    """Scores, verdicts and maps of one image by all variants; yields after each group of views, the maps last.

    n_views: as many as the thresholds were set for, unless stated. Raises ImageError and DatasetError in plain words.
    """
    check_method(method)
    info, models = category(key), detectors(key)
    name = name or (Path(source).name if isinstance(source, str | Path) else "image")
    full = read_image(source, name)
    wanted = ScoringConfig(n_views or max(d.calibration.n_views for d in models.values())).n_views
    image = _shown(full)
    entry = (hashlib.sha256(full.tobytes() + repr(full.shape).encode()).hexdigest(), key, wanted)
    networks = {variant: found.model for variant, found in models.items()}
    images = prepared(networks, full)
    with _compute:
        running = _comparisons.get(entry, {})
    steps = iter(()) if running else score_progressively(networks, images, wanted)
    while True:
        with _compute:  # taken anew for each group of views: a visitor who leaves in between holds nobody up
            step = next(steps, None)
        if step is None:
            break
        running = step
        yield Comparison(name, info, image, _verdicts(models, running, wanted))
    with _compute:
        _comparisons[entry] = running
        _comparisons.move_to_end(entry)
        while len(_comparisons) > MAX_COMPARISONS:
            _comparisons.popitem(last=False)
        heat = _heat(models, images, method)
    yield Comparison(name, info, image, _verdicts(models, running, wanted), heat)


def heat_of(source: str | Path | BinaryIO, key: str, method: str, name: str | None = None) -> tuple[np.ndarray, Heat]:
    """The maps of all variants without scoring anything: (image as shown, maps). Errors as `compare`."""
    check_method(method)
    models = detectors(key)
    full = read_image(source, name)
    images = prepared({variant: found.model for variant, found in models.items()}, full)
    with _compute:
        return _shown(full), _heat(models, images, method)


def _heat(models: dict[str, Detector], images: dict[str, Tensor], method: str) -> Heat:
    maps = {v: explain(d.model, images[v], method) for v, d in models.items() if method in methods_of(d.model.config)}
    references = {v: models[v].map_reference(method) for v in maps}
    heat, scale = relative_heat(maps, references)
    return Heat(method, heat, {v: what_it_shows(method, models[v].model.config) for v in maps}, scale)


def check_method(method: str) -> None:
    """Raises DatasetError for a map that there is not."""
    if method not in METHODS:
        raise DatasetError(f"There is no map {method!r}; there are {', '.join(METHODS)}")


def _shown(image: np.ndarray) -> np.ndarray:
    if max(image.shape[:2]) <= SHOWN_SIDE:
        return image
    shown = Image.fromarray(image)
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(shown)


def _verdicts(models: dict[str, Detector], running: dict[str, RunningScore], wanted: int) -> dict[str, Verdict]:
    verdicts = {}
    for variant, score in running.items():
        found = models[variant]
        calibration = found.calibration
        expected = calibration.expected(score.value, score.n_views)  # an average of fewer views lies farther out
        verdicts[variant] = Verdict(
            variant=variant,
            title=found.title,
            score=expected,
            standard_error=calibration.expected(score.standard_error, score.n_views),
            n_views=score.n_views,
            n_views_wanted=len(found.model.views(wanted)),  # of some kinds of views there are few
            threshold=calibration.threshold,
            false_positive_rate=calibration.false_positive_rate,
            percentile=percentile_among(calibration.scores, expected),
            calibration_scores=calibration.scores,
            choices=found.model.config.attention.choices,
        )
    return verdicts


def heat_bar(scale: tuple[float, float], ink: str = INK) -> np.ndarray:
    """The colour scale of a `Heat` as a picture (H, W, 4) uint8, ticked in multiples of what normals reach."""
    figure = colour_bar(*scale, label="× the 99th percentile of held-out normal images", ink=ink)
    axes = figure.axes[0]
    low, high = int(np.ceil(scale[0])), int(np.floor(scale[1]))
    ticks = list(range(low, high + 1, max(1, (high - low) // 6)))
    axes.set_xticks(ticks, [f"{2.0**tick:g}" if tick < 10 else f"$2^{{{tick}}}$" for tick in ticks])
    return pixels(figure)


def numbers_csv(comparisons: list[Comparison]) -> str:
    """All verdicts of some images as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = ["image", "category", "variant", "score", "threshold", "anomalous", "percentile", "n_views", "attention"]
    writer.writerow(columns)
    for comparison in comparisons:
        for v in comparison.verdicts.values():
            row = [_cell(comparison.name), comparison.category.key, v.variant, f"{v.score:.9g}", f"{v.threshold:.9g}"]
            writer.writerow([*row, int(v.anomalous), f"{v.percentile:.4g}", v.n_views, v.choices])
    return stream.getvalue()


def _cell(text: str) -> str:
    """A file name from a stranger must not become a formula in a spreadsheet."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def maps_zip(comparisons: list[Comparison]) -> bytes:
    """PNG files of images, overlays and colour bars, with the numbers beside them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for k, comparison in enumerate(comparisons, 1):
            stem = f"{k:02d}-{safe_stem(comparison.name)}"
            archive.writestr(f"{stem}/image.png", png(comparison.image))
            if comparison.heat is not None:
                for variant in comparison.heat.heat:
                    file = f"{stem}/{variant}-{comparison.heat.method}.png"
                    archive.writestr(file, png(comparison.overlay(variant)))
                archive.writestr(f"{stem}/colour-bar.png", png(heat_bar(comparison.heat.scale)))
        archive.writestr("numbers.csv", numbers_csv(comparisons))
    return stream.getvalue()


def safe_stem(name: str) -> str:
    """A file name without suffix, of letters, digits and `._-` only."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in Path(name).stem)[:60] or "image"


def png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3 or 4) uint8 as a PNG file; compressed for speed."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


# -- images that are at hand

IMAGE_TYPES = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


def images_to_choose(key: str) -> dict[str, Callable[[], bytes]]:
    """What gives the file of each image of a category, by name: test images where they are at hand, else examples."""
    if shipped.images_at_hand(key) and key in measured_categories():
        names = shipped.of_category(key)[0].scores["image"]
        return {str(name): partial(_image_file, key, str(name)) for name in names}
    return {path.name: path.read_bytes for path in category(key).examples}


def _image_file(key: str, name: str) -> bytes:
    file = shipped.image_file(key, name)
    if file is None:
        raise DatasetError(f"The image {name} of {key} is not at hand")
    return file


def first_anomalous(names: Iterable[str]) -> str | None:
    """The first that is not normal by its name, else the first."""
    ordered = list(names)
    return next((name for name in ordered if not name.startswith("good")), ordered[0] if ordered else None)


# -- one variant's attention


@dataclass(frozen=True)
class AttentionView:
    """What the attention blocks of one variant do to one image. readings: by (block, scale); empty for DifferNet.
    highest_gate: the end of their range, `AttentionConfig.highest_gate`."""

    variant: str
    image: np.ndarray
    readings: dict[tuple[str, int], AttentionReading]
    scale_sizes: tuple[int, ...]
    highest_gate: float
    choices: str
    note: str

    @property
    def summary(self) -> list[tuple[str, int, int, float, float, float]]:
        """Of each block and scale: (block, scale, channels, lowest, median and highest channel gate)."""
        rows = []
        for (block, scale), reading in self.readings.items():
            if (gates := reading.channel_gates) is not None:
                lowest, median, highest = (float(x) for x in np.quantile(gates, [0, 0.5, 1]))
                rows.append((block, scale, gates.size, lowest, median, highest))
        return rows


def attention_view(source: str | Path | BinaryIO, key: str, variant: str, name: str | None = None) -> AttentionView:
    """Gates, and activations before and after, of every block at every scale, for the unrotated image."""
    model = _model_of(key, variant)
    full = read_image(source, name)
    config = model.config
    view = make_views(model.prepare(full), even_angles(1))[0]
    with _compute:
        readings = {
            (block, scale): read_attention(model, view, block, scale)
            for block in (model.backbone.attention_blocks() if config.attention.kind != "none" else ())
            for scale in range(config.n_scales)
        }
    sizes = tuple(config.image_size >> scale for scale in range(config.n_scales))
    attention = config.attention
    said = attention.choices, attention.training_note
    return AttentionView(variant, _shown(full), readings, sizes, attention.highest_gate, *said)


def grad_cam_view(
    source: str | Path | BinaryIO, key: str, variant: str, layer: str, scale: int, name: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(image as shown, raw Grad-CAM (h, w)) of one variant through one scale, at `features` or an attention block."""
    model = _model_of(key, variant)
    if layer not in layers_of(key, variant) or not 0 <= scale < model.config.n_scales:
        raise DatasetError(f"There is no layer {layer!r} at scale {scale} of {variant}")
    full = read_image(source, name)
    view = make_views(model.prepare(full), even_angles(1))[0]
    with _compute:
        return _shown(full), grad_cam(model, view, scale, layer)


def layers_of(key: str, variant: str) -> list[str]:
    """Where Grad-CAM can look: the last features, and each attention block of a variant that has them."""
    model = _model_of(key, variant)
    return ["features", *(model.backbone.attention_blocks() if model.config.attention.kind != "none" else ())]


def _model_of(key: str, variant: str) -> AttentDifferNet:
    models = detectors(key)
    if variant not in models:
        raise DatasetError(f"There is no variant {variant!r} of {key}; there are {', '.join(models)}")
    return models[variant].model


# -- figures for papers


def paper_grid(comparisons: list[Comparison], variants: list[str]) -> "Figure":
    """Finished comparisons by one method as `figures.qualitative_grid`: rows are images, columns variants."""
    heats = [comparison.heat for comparison in comparisons]
    if not variants or not all(heat and set(variants) <= set(heat.heat) for heat in heats):
        raise DatasetError("A figure needs one variant or more, and maps of each for every image")
    rows = [
        GridRow(c.name, c.image, [heat.heat[v] for v in variants], [c.verdicts[v].score for v in variants])
        for c, heat in zip(comparisons, heats, strict=True)
        if heat is not None
    ]
    vmax = max(heat.scale[1] for heat in heats if heat is not None)
    label = "log₂ of heat over the 99th percentile of held-out normal images"
    return qualitative_grid(rows, [VARIANT_TITLES[v] for v in variants], vmax=vmax, label=label)


FIGURE_FORMATS = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png"}


def figure_file(figure: "Figure", suffix: str, dpi: int = 300) -> bytes:
    """A Matplotlib figure as a file of `FIGURE_FORMATS`, on white; in PDF and SVG its words stay text."""
    import matplotlib

    if suffix not in FIGURE_FORMATS:
        raise DatasetError(f"There is no format {suffix!r}; there are {', '.join(FIGURE_FORMATS)}")
    stream = io.BytesIO()
    with _figures, matplotlib.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(stream, format=suffix, facecolor="white", dpi=dpi)
    return stream.getvalue()
