"""How the number of epochs is chosen: `last`, fixed in advance, or `best-on-test`, DifferNet's own way.

DifferNet's reference code evaluates on the test images 24 times during training and prints the best AUROC of them. A
number chosen on the test images is too high: it is measured to see by how much, and is only shown beside `last`.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .category import InspectionImage
from .features import FeatureExtractor, readable
from .model import AttentDifferNet
from .packing import round_as_stored
from .sources import all_ranged
from .study.statistics import auroc

EVALUATIONS = 24  # as in DifferNet's reference code
BATCH = 64  # images scored at once


def evaluated_epochs(n_epochs: int) -> list[int]:
    """After which epochs, counted from 1, the test images are looked at: evenly spread, the last one among them."""
    n = min(EVALUATIONS, n_epochs)
    return [math.ceil(n_epochs * k / n) for k in range(1, n + 1)]


class BestOnTest:
    """The evaluations of one training, as `after_epoch` of `fit`: keeps the scores of the best one.

    Scores are those of a checkpoint of that epoch, up to rounding: here images are scored in batches. The last
    evaluation is the run `last` itself, which `best` is given. scores_of: gives the images' scores by a model; by
    default on n_views even views. white: as of RangedPath. seconds: how long the evaluations took.
    """

    def __init__(
        self,
        images: Sequence[InspectionImage],
        n_epochs: int,
        n_views: int,
        cache: Path | None,
        scores_of: Callable[[AttentDifferNet], list[float]] | None = None,
        white: float | None = None,
    ) -> None:
        self.images, self.n_epochs, self.n_views, self.cache = images, n_epochs, n_views, cache
        self.paths = all_ranged((image.path for image in images), white)
        self.scores_of = scores_of or self._on_even_views
        self.seconds = 0.0
        self._epochs = set(evaluated_epochs(n_epochs)) - {n_epochs}
        self._features = torch.empty(0)
        self._features_of = ""
        self._best: tuple[float, int, list[float]] | None = None

    def __call__(self, model: AttentDifferNet, epoch: int) -> None:
        if epoch not in self._epochs:
            return
        if model.device.type == "cuda":  # wait for work of the training, which is not timed here
            torch.cuda.synchronize(model.device)
        start = time.perf_counter()
        self._keep(epoch, self.scores_of(round_as_stored(copy.deepcopy(model))))
        self.seconds += time.perf_counter() - start

    def best(self, last: Sequence[float]) -> tuple[int, list[float]]:
        """(epoch, scores in the order of the images) of the highest AUROC, the earliest of equal ones."""
        self._keep(self.n_epochs, list(last))
        assert self._best is not None
        _, epoch, scores = self._best
        return epoch, scores

    def _on_even_views(self, model: AttentDifferNet) -> list[float]:
        batches = self._test_features(model).split(BATCH)
        with torch.inference_mode():
            return torch.cat([model.score(features) for features in batches]).tolist()

    def _test_features(self, model: AttentDifferNet) -> Tensor:
        """(N, V, 768), computed once, or anew where the backbone has changed since."""
        extractor = FeatureExtractor(model, self.cache)
        if extractor.backbone_digest != self._features_of:
            self._features = torch.stack(list(readable(extractor.even_views(self.paths, self.n_views)))).to(
                model.device
            )
            self._features_of = extractor.backbone_digest
        return self._features

    def _keep(self, epoch: int, scores: list[float]) -> None:
        area = auroc([image.label for image in self.images], scores)
        if self._best is None or area > self._best[0]:
            self._best = area, epoch, scores
