"""What training normals answered: the input and readout that suit them (`Findings`), the threshold (`Calibration`)."""

import math
from dataclasses import dataclass, field, replace
from typing import Self

from .checked import Checked
from .errors import AttentDifferNetError
from .options import Exposure, Readout, Resize, ViewKind, check_scoring_views, check_value_range


@dataclass(frozen=True)
class Findings(Checked):
    """What the training normals answered, and what a detector was built with.

    views, resize, exposure, readout, training_views, scoring_views: as asked, else chosen by the rule.
    feature_scale: factor on the features before the flow (flow_fitting.fit_gaussian).
    gates_kept: false where trained gates did not help and were left at 1: the detector then is the one without them.
    gates_judged: AUROC on synthetic defects with the gates and without, which decided that; empty where nothing was
        decided.
    exposure_varies: how much brightness and contrast vary together from image to image (input_choice.py).
    mirror_auroc, turn_auroc: how well mirrored normals, and normals turned by 45°, are told from the others.
    by_input, by_readout, by_method: AUROC on synthetic defects of what was compared.
    value_range: the grey value shown as white, where training files have more than 8 bits.
    The last seven are None or empty where the rule did not have to ask.
    """

    views: ViewKind
    resize: Resize
    exposure: Exposure
    readout: Readout
    training_views: int
    scoring_views: int
    feature_scale: float = 1.0
    gates_kept: bool = True
    gates_judged: tuple[float, ...] = ()
    exposure_varies: float | None = None
    mirror_auroc: float | None = None
    turn_auroc: float | None = None
    by_input: dict[str, float] = field(default_factory=dict)
    by_readout: dict[str, float] = field(default_factory=dict)
    by_method: dict[str, float] = field(default_factory=dict)
    value_range: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scoring_views(self.scoring_views)
        if self.training_views < 1:
            raise AttentDifferNetError(f"training_views must be 1 or more, got {self.training_views}")
        check_value_range(self.value_range)
        if not 1e-9 <= self.feature_scale <= 1e9:
            raise AttentDifferNetError(f"feature_scale must lie in 1e-9..1e9, got {self.feature_scale}")
        if len(self.gates_judged) not in (0, 2):
            raise AttentDifferNetError(f"gates_judged must be two numbers or none, got {self.gates_judged}")


@dataclass(frozen=True)
class Calibration(Checked):
    """What held-out training normals say about a model.

    threshold: an image is anomalous above it. n_views: of the scores it was set on. false_positive_rate: the share of
    normal images above it that is guaranteed in expectation. scores: of the held-out normals, ascending.
    map_references: per method, the 99th percentile of map values over held-out normals, the unit of colour scales.
    early_ratio: for a smaller number of views, the median over held-out normals of the score after so many over the
        final one: an average of fewer views lies farther out.
    settling: for the same numbers, the factor by which the score of a new normal image, divided by that median, may
        still lie above or below its final one, with `confidence`. Empty, as `early_ratio`, where too few normals are
        held out, or where scores have no ratio (`likelihood`).
    cross_validated: whether none was held out: each was scored by a detector that was fitted to others.
    """

    threshold: float
    n_views: int
    false_positive_rate: float
    scores: tuple[float, ...]
    map_references: dict[str, float]
    early_ratio: dict[str, float] = field(default_factory=dict)
    settling: dict[str, float] = field(default_factory=dict)
    confidence: float = 0.0
    cross_validated: bool = False

    @classmethod
    def none(cls) -> Self:
        """Of a detector that is scored and thrown away."""
        return cls(math.inf, 1, 1.0, (), {})

    def for_rate(self, false_alarm_rate: float) -> Self:
        """With the threshold that flags at most this share of new normals, or the least share that so few held-out
        normals can promise."""
        from .study.statistics import conformal_threshold  # which loads SciPy: `--help` does not wait for it

        if not 0 < false_alarm_rate < 1:
            raise AttentDifferNetError(
                f"The false-alarm rate must lie between 0 and 1 (0.05 is 5 of 100), got {false_alarm_rate}"
            )
        threshold, rate = conformal_threshold(self._held_out(), false_alarm_rate)
        return replace(self, threshold=threshold, false_positive_rate=rate)

    def for_threshold(self, threshold: float) -> Self:
        """With another threshold, and the share of new normals that it flags at most."""
        from .study.statistics import conformal_rate

        if not math.isfinite(threshold):
            raise AttentDifferNetError(f"The threshold must be a finite number, got {threshold}")
        return replace(self, threshold=threshold, false_positive_rate=conformal_rate(self._held_out(), threshold))

    def _held_out(self) -> tuple[float, ...]:
        if not self.scores:
            raise AttentDifferNetError("This detector has no scores of held-out normals to set a threshold by")
        return self.scores

    def expected(self, score: float, n_views: int) -> float:
        """The final score to be expected of an image that has this score after n_views."""
        return score / self.early_ratio.get(str(n_views), 1.0)

    def settled(self, score: float, n_views: int) -> bool:
        """Whether more views would not change the verdict of an image that has this score after n_views, at
        `confidence`.

        Beyond `n_views` of the calibration, the factor of half of them is scaled as the noise of a mean is.
        """
        if not self.settling:
            return n_views >= self.n_views
        if n_views < self.n_views:
            factor = self.settling.get(str(n_views), math.inf)
        else:
            half = max(map(int, self.settling))
            factor = self.settling[str(half)] ** math.sqrt(half / n_views)
        return not self.threshold / factor <= self.expected(score, n_views) <= self.threshold * factor
