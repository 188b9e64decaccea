"""Test images that a detector gets most wrong, and those on which detectors disagree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ResultsError
from .comparison import Measured

FAILURES = {
    "normals": "Highest-scoring normals",
    "anomalies": "Lowest-scoring anomalies",
    "disagreements": "Disagreements",
}


@dataclass(frozen=True)
class Failure:
    """One test image. scores: by `Measured.name`. place: share of the test normals that score lower, likewise, in
    percent; unlike scores it can be compared between variants."""

    image: str
    defect: str
    label: int
    scores: dict[str, float]
    place: dict[str, float]

    @property
    def spread(self) -> float:
        return max(self.place.values()) - min(self.place.values())


def images_of(runs: dict[str, Measured]) -> list[Failure]:
    """All test images with their score in each run, in the order of the score file."""
    places = {name: _places(m.of_class(0), m.values) for name, m in runs.items()}
    scores = {name: m.values.to_numpy() for name, m in runs.items()}
    first = next(iter(runs.values())).scores
    return [
        Failure(
            image=image,
            defect=defect,
            label=label,
            scores={name: float(values[k]) for name, values in scores.items()},
            place={name: float(values[k]) for name, values in places.items()},
        )
        for k, (image, defect, label) in enumerate(zip(first["image"], first["defect"], first["label"], strict=True))
    ]


def _places(normal: np.ndarray, scores: ArrayLike) -> np.ndarray:
    """`statistics.percentile_among` of many scores: (n,) in percent."""
    ranked = np.sort(normal)
    below, upto = np.searchsorted(ranked, scores, "left"), np.searchsorted(ranked, scores, "right")
    return np.asarray(50.0 * (below + upto) / ranked.size)


def failures(runs: dict[str, Measured], kind: str, name: str, n: int = 8) -> list[Failure]:
    """The n worst of a kind of `FAILURES`. name: the run whose scores count; for disagreements all of them do."""
    images = images_of(runs)
    if kind == "normals":
        return sorted((f for f in images if f.label == 0), key=lambda f: -f.scores[name])[:n]
    if kind == "anomalies":
        return sorted((f for f in images if f.label == 1), key=lambda f: f.scores[name])[:n]
    if kind == "disagreements":
        return sorted((f for f in images if f.spread > 0), key=lambda f: -f.spread)[:n]
    raise ResultsError(f"There is no list {kind!r}; there are {', '.join(FAILURES)}")
