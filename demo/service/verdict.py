"""The answer to one image: verdict and map of each detector of a category, as every face shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from attentdiffernet.figures.overlay import OPACITY, colour_bar, outline, overlay, pixels, with_outline, with_ring
from attentdiffernet.figures.palette import INK
from attentdiffernet.figures.screen import percentile_svg
from attentdiffernet.study.statistics import conformal_threshold
from attentdiffernet.words import METHOD_TITLES, score_text, times_text, verdict_word

from .catalogue import CategoryInfo
from .stranger import Stranger, a

MAPS = {name: METHOD_TITLES[name] for name in ("grad-cam", "attention", "gradient")}
NO_NORMAL = "The nearest normal image is not on this machine."
FAINT = 0.15  # share of the colour scale below which an overlay is hardly visible
FLOODED = 0.25  # share of the picture at the end of the scale, from which its differences are not seen
GLOWING = 0.5  # from which it looks like a finding


@dataclass(frozen=True)
class Verdict:
    """One detector's answer for one image. percentile: share of held-out normals that score lower, in percent.

    key: `Detector.key`. score, standard_error: of all views; while `provisional`, those to be expected after all of
    them.
    """

    key: str
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

    def at_rate(self, rate: float) -> Self:
        """With the threshold that flags at most this share of good parts, or the least share that can be promised."""
        threshold, promised = conformal_threshold(self.calibration_scores, rate)
        return replace(self, threshold=threshold, false_positive_rate=promised)

    @property
    def provisional(self) -> bool:
        return self.n_views < self.n_views_wanted

    @property
    def anomalous(self) -> bool:
        return self.score > self.threshold

    @property
    def word(self) -> str:
        return verdict_word(self.anomalous)

    @property
    def times(self) -> str:
        """The score as a multiple of the threshold, for readers: `3.2 ×`."""
        return times_text(self.score, self.threshold)

    @property
    def multiple(self) -> float:
        """The score as a multiple of the threshold, where that has a meaning; else the score."""
        return self.score / self.threshold if self.threshold > 0 else self.score

    @property
    def views_text(self) -> str:
        """`4 of 16 views`, in the end `16 views`; empty for a detector that takes the image as it is."""
        if self.provisional:
            return f"{self.n_views} of {self.n_views_wanted} views"
        return "" if self.n_views == 1 else f"{self.n_views} views"

    @property
    def histogram_svg(self) -> str:
        return percentile_svg(self.calibration_scores, self.score, self.threshold)


@dataclass(frozen=True)
class Heat:
    """Maps of the detectors, those of one kind on one colour scale, by `Detector.key`.

    methods: the kind of each map. heat: log2 of value / reference of held-out normals, (h, w). shows: what each map
    shows, whatever the image. scales: (low, high) of the heat, shared by all maps of a kind.
    """

    methods: dict[str, str]
    heat: dict[str, np.ndarray]
    shows: dict[str, str]
    scales: dict[str, tuple[float, float]]

    def title(self, key: str) -> str:
        return METHOD_TITLES[self.methods[key]]

    def scaled(self, key: str, own_scale: bool) -> tuple[np.ndarray, float, float]:
        """(values, low, high) to draw a map with: its heat on the shared scale, or its values from its own lowest to
        its own highest."""
        if not own_scale:
            return self.heat[key], *self.scales[key]
        values = np.exp2(self.heat[key])
        return values, float(values.min()), float(values.max())

    @property
    def kinds(self) -> dict[str, tuple[float, float]]:
        """The scale of each kind of map shown."""
        return {method: self.scales[key] for key, method in self.methods.items()}

    def share(self, key: str) -> float:
        """How far up the shared scale the highest value of a map reaches: 0 where none exceeds what normals reach."""
        low, high = self.scales[key]
        return float(np.clip((self.heat[key].max() - low) / (high - low), 0, 1))

    def highest(self, key: str) -> str:
        """The highest value of a map, as a multiple of what normals reach."""
        return score_text(2.0 ** float(self.heat[key].max()), 2)

    def outline(self, key: str) -> list[np.ndarray]:
        """Around the places beyond what normals reach, as of `figures.overlay.outline`."""
        return outline(self.heat[key], self.scales[key][0])

    def peak(self, key: str, own_scale: bool = False) -> tuple[float, float] | None:
        """The highest place, (x, y) as shares of width and height; None where the map shows nothing."""
        if not own_scale and self.share(key) == 0:
            return None
        y, x = np.unravel_index(int(self.heat[key].argmax()), self.heat[key].shape)
        height, width = self.heat[key].shape
        return (float(x) + 0.5) / width, (float(y) + 0.5) / height

    def visibility(self, key: str) -> str:
        """Where a map is empty, faint or one bright surface, which would look like an error; else empty."""
        share = self.share(key)
        if float(np.mean(self.heat[key] >= self.scales[key][1])) > FLOODED:
            return "Much of this map is above the scale. Turn on one scale per map to see where it is highest."
        if share == 0:
            return "No place of this map exceeds what normal images reach."
        if share < FAINT:
            highest = self.highest(key)
            return f"Hardly visible on this scale: the highest place reaches {highest} × what normal images reach."
        return ""

    def contradiction(self, key: str, anomalous: bool) -> str:
        """Where a map contradicts the verdict; else empty."""
        if anomalous and self.share(key) == 0:
            return "The verdict comes from the image as a whole, and this map does not show why."
        if not anomalous and self.share(key) >= GLOWING:
            return "Normal all the same: single places stand out, the image as a whole does not."
        return ""


@dataclass(frozen=True)
class Likeness:
    """The place of an image that is farthest from all normal places, and the normal place nearest to it.

    found, normal: crops (h, w, 3) uint8 of the same share of the image. normal is None where the training image is not
    on this machine. times: their distance, as a multiple of what places of normal images reach.
    """

    found: np.ndarray
    normal: np.ndarray | None
    times: float

    @property
    def sentence(self) -> str:
        return (
            f"PatchCore: the most unusual place, at {self.times:.1f} × what places of normal images reach, and the "
            "most similar place of all normal images:"
        )


@dataclass(frozen=True)
class Comparison:
    """One image as the detectors of a category see it. heat is None until the scores are final.

    image: (H, W, 3) uint8 at its own aspect, at most `comparison.SHOWN_SIDE` px. on_white: whether parts of the file
    were transparent. likenesses: of the detectors that compare places, the last that is known. stranger: where it is a
    picture of another thing, the very last.
    """

    name: str
    category: CategoryInfo
    image: np.ndarray
    verdicts: dict[str, Verdict]
    heat: Heat | None = None
    likenesses: dict[str, Likeness] = field(default_factory=dict)
    stranger: Stranger | None = None
    on_white: bool = False

    @property
    def conclusion(self) -> str:
        """The verdicts in a sentence, or that it is a picture of another thing."""
        if self.stranger:
            return f"{self.name}: probably not {a(self.category.part)}."
        anomalous = [key for key, verdict in self.verdicts.items() if verdict.anomalous]
        return f"{self.name}: {verdict_word(bool(anomalous))} by {self.who(anomalous or list(self.verdicts))}."

    def who(self, keys: Sequence[str]) -> str:
        """These detectors by their titles; `all detectors` where they are all of several."""
        if len(keys) == len(self.verdicts) > 1:
            return "all detectors"
        return listed([self.verdicts[key].title for key in keys])

    @property
    def rank(self) -> float:
        """Orders photographs by how many detectors flag them; where these are equally many, by the highest score."""
        highest = max(0.0, *(verdict.multiple for verdict in self.verdicts.values()))
        return sum(verdict.anomalous for verdict in self.verdicts.values()) + highest / (1 + highest)

    @property
    def warning(self) -> str:
        """That it is a picture of another thing, and what else may be why it looks like one; else empty."""
        if self.stranger is None:
            return ""
        why = " The transparent parts of the picture were put on white, which may be why." if self.on_white else ""
        return f"{self.stranger.sentence}{why}"

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
        return f"provisional, {verdict.views_text}" if verdict.provisional else "Verdict final; drawing the maps"

    def overlay(
        self, key: str, own_scale: bool = False, outlined: bool = False, opacity: float = OPACITY
    ) -> np.ndarray:
        """The photograph with a detector's map on it; the photograph alone as long as there is none. outlined: with
        the outline of what exceeds normal images, and the highest place."""
        if self.heat is None or key not in self.heat.heat:
            return self.image
        drawn = overlay(self.image, *self.heat.scaled(key, own_scale), opacity)
        if not outlined:
            return drawn
        drawn, peak = with_outline(drawn, self.heat.outline(key)), self.heat.peak(key, own_scale)
        return with_ring(drawn, *peak) if peak else drawn

    def note(self, key: str, own_scale: bool = False) -> str:
        """What a detector's map shows, and what would puzzle whoever sees it beside the verdict."""
        if (heat := self.heat) is None:
            return ""
        seen = f"Its highest place reaches {heat.highest(key)} × what normal images reach."
        remarks = seen if own_scale else heat.visibility(key), heat.contradiction(key, self.verdicts[key].anomalous)
        return " ".join(filter(None, (heat.shows[key], *remarks)))

    def at_rate(self, rate: float) -> "Comparison":
        """Judged again, as `Verdict.at_rate`; nothing is scored anew."""
        return replace(self, verdicts={key: verdict.at_rate(rate) for key, verdict in self.verdicts.items()})

    def without_pictures(self) -> "Comparison":
        """What a session keeps of many images."""
        return replace(self, image=self.image[:0, :0], heat=None, likenesses={})


def listed(titles: Sequence[str]) -> str:
    """`DifferNet, AttentDifferNet (SE) and PatchCore`"""
    return " and ".join(filter(None, (", ".join(titles[:-1]), *titles[-1:])))


def heat_bar(scale: tuple[float, float], label: str = "", ink: str = INK) -> np.ndarray:
    """The colour scale of a kind of map as a picture (H, W, 4) uint8, in multiples of what normals reach."""
    figure = colour_bar(*scale, label=f"{label or 'Map'}, × what normal images reach", ink=ink)
    low, high = scale
    step = 1.0 if high - low >= 2 else 0.25
    ticks = np.arange(np.ceil(low), high + 1e-6, step)
    figure.axes[0].set_xticks(ticks, [f"{2.0**tick:.2g}" for tick in ticks])
    return pixels(figure)
