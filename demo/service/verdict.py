"""The answer to one image: verdict and map of each variant of a category, as every face shows it."""

from dataclasses import dataclass, replace

import numpy as np

from attentdiffernet.figures.overlay import colour_bar, overlay, pixels
from attentdiffernet.figures.palette import INK
from attentdiffernet.figures.screen import percentile_svg
from attentdiffernet.words import METHOD_TITLES

from .catalogue import CategoryInfo

MAPS = {name: METHOD_TITLES[name] for name in ("grad-cam", "attention", "gradient")}
FAINT = 0.15  # share of the colour scale below which an overlay is hardly visible


@dataclass(frozen=True)
class Verdict:
    """One variant's answer for one image. percentile: share of held-out normals that score lower, in percent.

    score, standard_error: of all views; while `provisional`, those to be expected after all of them.
    """

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
    def views_text(self) -> str:
        """`provisional, 4 of 16 views`, in the end `16 views`."""
        if self.provisional:
            return f"provisional, {self.n_views} of {self.n_views_wanted} views"
        return "1 view" if self.n_views == 1 else f"{self.n_views} views"

    @property
    def histogram_svg(self) -> str:
        return percentile_svg(self.calibration_scores, self.score, self.threshold)


@dataclass(frozen=True)
class Heat:
    """Maps of all variants on one colour scale; a variant that has no such map is left out.

    heat: log2 of value / reference of held-out normals, (h, w) each. shows: what the map of each variant shows,
    whatever the image.
    """

    method: str
    heat: dict[str, np.ndarray]
    shows: dict[str, str]
    scale: tuple[float, float]

    @property
    def notes(self) -> dict[str, str]:
        """As `shows`, and whether the map is empty or faint: without that, it would look like an error."""
        return {variant: self.shows[variant] + self._visibility(values) for variant, values in self.heat.items()}

    def _visibility(self, values: np.ndarray) -> str:
        (low, high), highest = self.scale, float(values.max())
        if highest <= low:
            return " No place here exceeds what held-out normals reach."
        if highest < low + FAINT * (high - low):
            return f" Hardly visible on this scale: its maximum is {2.0**highest:.1f} × what held-out normals reach."
        return ""

    @property
    def title(self) -> str:
        return METHOD_TITLES[self.method]


@dataclass(frozen=True)
class Comparison:
    """One image as all variants of a category see it. heat is None until the scores are final.

    image: (H, W, 3) uint8 at its own aspect, at most `comparison.SHOWN_SIDE` px.
    """

    name: str
    category: CategoryInfo
    image: np.ndarray
    verdicts: dict[str, Verdict]
    heat: Heat | None = None

    @property
    def slowest(self) -> Verdict:
        """The verdict that needs the most views: its progress is that of the comparison."""
        return max(self.verdicts.values(), key=lambda verdict: verdict.n_views_wanted)

    @property
    def progress(self) -> float:
        """Share of the views that are scored."""
        return self.slowest.n_views / self.slowest.n_views_wanted

    @property
    def progress_text(self) -> str:
        verdict = self.slowest
        return verdict.views_text if verdict.provisional else "verdict final; drawing the maps"

    def overlay(self, variant: str) -> np.ndarray:
        """The photograph with this variant's map on it; the photograph alone as long as there is none."""
        if self.heat is None or variant not in self.heat.heat:
            return self.image
        return overlay(self.image, self.heat.heat[variant], *self.heat.scale)

    def without_pictures(self) -> "Comparison":
        """What a session keeps of many images."""
        return replace(self, image=self.image[:0, :0], heat=None)


def heat_bar(scale: tuple[float, float], ink: str = INK) -> np.ndarray:
    """The colour scale of a `Heat` as a picture (H, W, 4) uint8, with ticks in multiples of what normals reach."""
    figure = colour_bar(*scale, label="× the 99th percentile of held-out normal images", ink=ink)
    axes = figure.axes[0]
    low, high = int(np.ceil(scale[0])), int(np.floor(scale[1]))
    ticks = list(range(low, high + 1, max(1, (high - low) // 6)))
    axes.set_xticks(ticks, [f"{2.0**tick:g}" if tick < 10 else f"$2^{{{tick}}}$" for tick in ticks])
    return pixels(figure)
