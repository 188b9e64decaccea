"""PatchCore (Roth et al., CVPR 2022): an image is as anomalous as its places that look like no normal place.

Feature maps of a pretrained network are averaged over 3 x 3 neighbours and brought to one grid. A *place* is one cell
of the grid, a vector of C channels. A greedy coreset of the places of all training images is the *bank*. The *distance*
of a place is the Euclidean one to its nearest entry of the bank. The distances of an image are its map, and the highest
ones its score.

What differs from the authors' code: neighbours outside of the image do not count in the average (zeros there), the
greedy selection is exact, among a random subset of all places (there approximate, among all), and training images are
scored by cross-validation (`Fitted`), so that none has to be held out to calibrate.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import DatasetError
from .features import ON_CPU, ON_GPU, ahead
from .options import PATCHCORE_READOUTS, PatchCoreConfig, Readout
from .stages import Progress, no_progress

MOST_CANDIDATES = 60_000  # places, of all images together, that the bank is selected from
FOLDS = 8  # parts of the training images, each scored with a bank of the others
MOST_CHANNELS = 256  # longer vectors are projected to this many for the selection
POOL = 1024  # the farthest candidates, among which the selection goes on before all distances are updated
ROWS = 1024  # of a matrix of distances at a time
ROUNDING = 1e-6  # of the largest squared norm: what squared distances by matrix products are uncertain by
SHRINKAGE = 0.01  # of the mean variance of a channel: added to all variances before whitening
NEIGHBOURS = 9  # entries around the nearest one, in the paper's reweighting
REACH_DEVIATIONS = 2  # above the mean: what distances of normal images hardly exceed
LEAST_REACH = 0.1  # of its mean over all places: what counts where normal images differ less
BLUR_PX = 4.0  # standard deviation, as in the paper


class Images(Protocol):
    """Images (3, H, W) in [0, 1] by number: a list, or what reads them by need."""

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Tensor: ...


@dataclass(frozen=True)
class Places:
    """The places of B images. vector: (B, h, w, C) as the bank compares them. distance: (B, h, w) to the nearest entry
    of the bank. entry: (B, h, w) its number."""

    vector: Tensor
    distance: Tensor
    entry: Tensor


class PatchBank(nn.Module):
    """The places of normal images that others are compared with. Tensors only.

    vector: (M, C) float16. image: (M,) number of the training image each is from. position: (M, 2) its centre (y, x) as
    shares of that image's height and width. mean (C,) and whitening (C, C), or (0, 0) for none: places are compared as
    (place - mean) @ whitening. place_weight: (h, w) factors on distances, of mean 1, by where a place lies; brought to
    other grids. None: all are 1.
    """

    vector: Tensor
    image: Tensor
    position: Tensor
    mean: Tensor
    whitening: Tensor
    place_weight: Tensor | None

    def __init__(
        self,
        vector: Tensor,
        image: Tensor,
        position: Tensor,
        mean: Tensor,
        whitening: Tensor,
        place_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("vector", vector.half())
        self.register_buffer("image", image.int())
        self.register_buffer("position", position.float())
        self.register_buffer("mean", mean.float())
        self.register_buffer("whitening", whitening.float())
        self.register_buffer("place_weight", None if place_weight is None else place_weight.float())

    def forward(self, places: Tensor) -> Places:
        """places: (B, h, w, C), as `places_of` gives them."""
        compared = compare(_standardised(places, self.mean, self.whitening), self.vector.float())
        if self.place_weight is None:
            return compared
        return replace(compared, distance=compared.distance * on_grid(self.place_weight, *places.shape[1:3]))


class PatchCore(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> their places. `score` and `anomaly_maps` read those.

    network: images -> feature maps (B, C_k, h_k, w_k), finest first.
    """

    def __init__(self, network: nn.Module, bank: PatchBank, readout: Readout, highest: float) -> None:
        super().__init__()
        self.network, self.bank, self.readout, self.highest = network, bank, readout, highest

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Places:
        return self.bank(places_of(self.network(images)))

    def score(self, places: Places) -> Tensor:
        """(B,) anomaly scores, ≥ 0."""
        return image_scores(places, self.bank.vector.float(), self.readout, self.highest)


# -- places


def places_of(maps: Sequence[Tensor]) -> Tensor:
    """Feature maps (B, C_k, h_k, w_k), finest first -> places (B, h_0, w_0, sum of C_k)."""
    averaged = [F.avg_pool2d(map, 3, 1, 1, count_include_pad=False) for map in maps]
    shape = averaged[0].shape[2:]
    on_one_grid = [averaged[0]] + [
        F.interpolate(map, shape, mode="bilinear", align_corners=False) for map in averaged[1:]
    ]
    return torch.cat(on_one_grid, 1).permute(0, 2, 3, 1)


def centres(height: int, width: int) -> Tensor:
    """(h · w, 2) centre (y, x) of each cell of a grid, row by row, as shares of its height and width."""
    y, x = ((torch.arange(n) + 0.5) / n for n in (height, width))
    return torch.cartesian_prod(y, x)


def whitening_of(places: Tensor) -> Tensor:
    """(C, C) that brings centred places (N, C) to a covariance of about one; shrunk towards equal variances."""
    covariance = places.T.cov().double()
    variances, axes = torch.linalg.eigh(covariance)
    shrunk = variances.clamp(min=0) + SHRINKAGE * variances.mean().clamp(min=1e-12)
    return ((axes * shrunk.rsqrt()) @ axes.T).float()


def _standardised(places: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    centred = places - mean
    return centred @ whitening if len(whitening) else centred


# -- distances


def compare(vectors: Tensor, bank: Tensor) -> Places:
    """Places (B, h, w, C) with the distance to the nearest entry of the bank (M, C), and which one that is."""
    entry = nearest(vectors.flatten(0, 2), bank).view(vectors.shape[:3])
    return Places(vectors, (vectors - bank[entry]).norm(dim=-1), entry)


def nearest(points: Tensor, bank: Tensor) -> Tensor:
    """(N,) number of the row of the bank (M, C) nearest to each of the points (N, C)."""
    offset = -bank.square().sum(1) / 2  # |p - b|² = |p|² - 2 (p · b + offset)
    return torch.cat([torch.addmm(offset, part, bank.T).argmax(1) for part in points.split(ROWS)])


# -- the bank


def greedy_coreset(points: Tensor, n: int, seed: int) -> tuple[Tensor, float]:
    """Numbers of at most n of the points (N, C), and the largest distance that is left of any point to those.

    The first is random, each next one the point farthest from all before (greedy k-center; Gonzalez 1985): what is left
    is at most twice what the best n would leave. Ends early once every point equals a chosen one.

    Exact in few passes over the points: distances only shrink, so that no point outside of the POOL farthest can be
    next before the farthest within it has fallen below them. Only then all distances are updated, by one product.
    """
    nothing = ROUNDING * float(points.square().sum(1).amax())
    chosen = torch.randint(len(points), (1,), generator=torch.Generator().manual_seed(seed)).to(points.device)
    reach = _nearest_squared(points, points[chosen])
    while len(chosen) < n:
        far, pool = reach.topk(min(POOL, len(points)))
        new = _farthest_within(_squared_distances(points[pool], points[pool]), far, n - len(chosen), nothing)
        if not new:
            break
        numbers = pool[torch.tensor(new, device=pool.device)]
        reach = torch.minimum(reach, _nearest_squared(points, points[numbers]))
        reach[numbers] = 0
        chosen = torch.cat([chosen, numbers])
    return chosen, math.sqrt(float(reach.amax()))


def _farthest_within(within: Tensor, far: Tensor, n: int, nothing: float) -> list[int]:
    """At most n of a pool of points, until one outside of it may be farther. within: (P, P) squared distances between
    them, far: (P,) those to the points chosen before, descending."""
    within, far = within.cpu(), far.cpu()  # many small steps
    outside, new = float(far[-1]), list[int]()
    while len(new) < n:
        farthest = int(far.argmax())
        if float(far[farthest]) <= nothing or (new and float(far[farthest]) < outside):
            break
        new.append(farthest)
        far = torch.minimum(far, within[farthest])
        far[farthest] = 0
    return new


def projected(points: Tensor, n_channels: int, rng: torch.Generator) -> Tensor:
    """Points (N, C) on n_channels random directions, which keeps distances about as they are (Johnson and Lindenstrauss
    1984); as they are where they have no more channels."""
    if points.shape[1] <= n_channels:
        return points
    directions = torch.randn(points.shape[1], n_channels, generator=rng) / math.sqrt(n_channels)
    return points @ directions.to(points.device)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(len(a), len(b)), ≥ 0."""
    return torch.addmm(a.square().sum(1)[:, None] + b.square().sum(1), a, b.T, alpha=-2).clamp_(min=0)


def _nearest_squared(points: Tensor, others: Tensor) -> Tensor:
    """(N,) squared distance of each point to the nearest of the others."""
    offset = -others.square().sum(1) / 2
    closeness = torch.cat([torch.addmm(offset, part, others.T).amax(1) for part in points.split(ROWS)])
    return (points.square().sum(1) - 2 * closeness).clamp_(min=0)


def on_grid(map: Tensor, height: int, width: int) -> Tensor:
    """(h, w) -> (height, width)"""
    if map.shape == (height, width):
        return map
    return F.interpolate(map[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]


def weights_of_places(distances: Tensor) -> Tensor:
    """(h, w) of mean 1, from distances of normal images (N, h, w): the farther they reach at a place, the less another
    distance there says. Chosen on synthetic defects (benchmarks/attention_trials.py)."""
    reach = distances.mean(0) + REACH_DEVIATIONS * distances.std(0, correction=0)
    inverse = 1 / reach.clamp(min=LEAST_REACH * float(reach.mean()) or 1)
    return inverse / inverse.mean()


# -- training


@dataclass(frozen=True)
class Fitted:
    """A bank, and what training images get from banks that they are not in.

    image: (n,) which of the training images. score: (n,) theirs. distance: n maps (h, w). radius: the largest distance
    of a candidate to the bank.

    Training images are dealt to FOLDS parts, or as many as there are images; a part is scored with a bank whitened and
    selected from the other parts (cross-validation; leave-one-out where there are few). The entries of an image could
    also be taken from the bank, which is cheaper. But its scores are biased whatever they are replaced by: distances
    are about as large as the radius that the bank leaves, so that few entries more or less count.
    """

    bank: PatchBank
    image: Tensor
    score: Tensor
    distance: list[Tensor]
    radius: float


def fit(
    network: nn.Module,
    images: Images,
    config: PatchCoreConfig,
    readout: Readout,
    seed: int,
    progress: Progress = no_progress,
    weigh_places: bool = False,
) -> Fitted:
    """PatchCore's bank from 2 or more normal images, computed where the network is.

    weigh_places: whether distances are weighed by place (`weights_of_places`), which takes 2 or more calibrated images.

    Deterministic in the seed. Time is linear in the number of images and memory bounded: a few random places of each
    image are candidates, and all places of n_calibrated images at most are kept, in half precision.
    """
    device = next(network.buffers()).device

    def places() -> Iterator[Tensor]:
        read = ahead(images.__getitem__, range(len(images)), ON_CPU if device.type == "cpu" else ON_GPU)
        for done, image in enumerate(read):
            progress("features of training images", done, len(images))
            with torch.inference_mode():  # not over the yield: it would hold in the caller's loop, too
                places = places_of(network(image[None].to(device)))[0]
            yield places

    return fit_places(places(), len(images), config, readout, seed, progress, weigh_places)


def fit_places(
    places: Iterable[Tensor],
    n_images: int,
    config: PatchCoreConfig,
    readout: Readout,
    seed: int,
    progress: Progress = no_progress,
    weigh_places: bool = False,
) -> Fitted:
    """As `fit`, from the places (h, w, C) of each image, read once and in order."""
    if n_images < 2:
        raise DatasetError(f"PatchCore needs 2 or more normal images, got {n_images}")
    rng = torch.Generator().manual_seed(seed)
    calibrated = torch.randperm(n_images, generator=rng)[: config.n_calibrated].sort().values
    candidates, kept = _draw(places, n_images, set(calibrated.tolist()), rng)

    progress("selecting places", 0, 1)
    bank, radius = _selected(candidates, config, seed, rng)

    n_folds = min(FOLDS, n_images) if kept else 0
    found: dict[int, tuple[float, Tensor]] = {}
    for fold in range(n_folds):
        progress("calibrating", fold, n_folds)
        # Whitened anew, too. A few images leave variances small where a new one differs: with the image itself among
        # them, its distances would come out far too short.
        without, _ = _selected(candidates.but_fold(fold, n_folds), config, seed, rng)
        for number in (number for number in kept if number % n_folds == fold):
            places_of_one = without(kept[number][None].float())
            score = image_scores(places_of_one, without.vector.float(), readout, config.highest)
            found[number] = float(score), places_of_one.distance[0].cpu()
    scores = torch.tensor([found[number][0] for number in kept])
    distances = [found[number][1] for number in kept]
    if weigh_places:
        weight, scores, distances = _weighed(distances, readout, config.highest)
        bank.place_weight = weight.to(bank.vector.device)
    return Fitted(bank, calibrated, scores, distances, radius)


def _weighed(distances: Sequence[Tensor], readout: Readout, highest: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Weights of places by the distances (h, w) of 2 or more normal images, on the grid of the first; scores and
    distances of each by weights of the others, because its own distances would make it look more usual."""
    on_one_grid = torch.stack([on_grid(of_one, *distances[0].shape) for of_one in distances])
    weighed, scores = [], []
    for k, of_one in enumerate(distances):
        others = torch.cat([on_one_grid[:k], on_one_grid[k + 1 :]])
        distance = of_one * on_grid(weights_of_places(others), *of_one.shape)
        places = Places(distance[None, ..., None], distance[None], distance[None].long())
        scores.append(image_scores(places, distance.new_empty(0), readout, highest))
        weighed.append(distance)
    return weights_of_places(on_one_grid), torch.cat(scores), weighed


@dataclass(frozen=True)
class _Candidates:
    """vector (N, C), image (N,) and position (N, 2), as in `PatchBank`."""

    vector: Tensor
    image: Tensor
    position: Tensor

    def but_fold(self, fold: int, n_folds: int) -> "_Candidates":
        others = self.image % n_folds != fold
        return _Candidates(self.vector[others], self.image[others], self.position[others])


def _selected(
    candidates: _Candidates, config: PatchCoreConfig, seed: int, rng: torch.Generator
) -> tuple[PatchBank, float]:
    """The bank of these places, and its radius."""
    mean = candidates.vector.mean(0)
    whitening = whitening_of(candidates.vector) if config.whitening else mean.new_empty(0, 0)
    vectors = _standardised(candidates.vector, mean, whitening)
    chosen, radius = greedy_coreset(projected(vectors, MOST_CHANNELS, rng), config.bank_size, seed)
    bank = PatchBank(vectors[chosen], candidates.image[chosen], candidates.position[chosen], mean, whitening)
    return bank, radius


def _draw(
    places: Iterable[Tensor], n_images: int, keep: set[int], rng: torch.Generator
) -> tuple[_Candidates, dict[int, Tensor]]:
    """Random places of each image, and all places of the images to keep, as float16."""
    per_image = max(1, MOST_CANDIDATES // n_images)
    vectors, positions, kept = [], [], {}
    for number, of_one in enumerate(places):
        height, width = of_one.shape[:2]
        drawn = torch.randperm(height * width, generator=rng)[:per_image].sort().values
        vectors.append(of_one.flatten(0, 1)[drawn.to(of_one.device)])
        positions.append(centres(height, width)[drawn])
        if number in keep:
            kept[number] = of_one.half()
    device = vectors[0].device
    image = torch.arange(len(vectors)).repeat_interleave(torch.tensor([len(part) for part in vectors]))
    return _Candidates(torch.cat(vectors), image.to(device), torch.cat(positions).to(device)), kept


# -- what is read from distances


def image_scores(places: Places, bank: Tensor, readout: Readout, highest: float) -> Tensor:
    """(B,) scores of images by their highest distances. bank: (M, C). highest: as of `PatchCoreConfig`."""
    distance = places.distance.flatten(1)
    if readout == "mean_of_highest":
        n = highest if highest >= 1 else math.ceil(highest * distance.shape[1])
        return distance.topk(min(int(n), distance.shape[1])).values.mean(1)
    most, where = distance.max(1)
    if readout == "maximum":
        return most
    if readout != "reweighted":
        raise ValueError(f"PatchCore has the readouts {', '.join(PATCHCORE_READOUTS)}, got {readout}")
    rows = torch.arange(len(distance), device=distance.device)
    vector, entry = places.vector.flatten(1, 2)[rows, where], places.entry.flatten(1)[rows, where]
    return most * _reweighting(vector, entry, bank)


def _reweighting(vector: Tensor, entry: Tensor, bank: Tensor) -> Tensor:
    """(B,) weights of the paper's equation 7 for places (B, C) whose nearest entries are entry (B,): near 1 where the
    entries around that one are much farther away, so that it is itself rare among normal places, and less elsewhere."""
    around = _squared_distances(bank[entry], bank).topk(min(NEIGHBOURS, len(bank)), largest=False).indices
    distances = (vector[:, None] - bank[around]).norm(dim=-1)
    own = (vector - bank[entry]).norm(dim=-1)
    return 1 - (own - distances.logsumexp(1)).exp()


def anomaly_maps(distance: Tensor, shape: tuple[int, int]) -> Tensor:
    """Distances (B, h, w) on an image of this (H, W): (B, H, W), smoothed by a Gaussian of BLUR_PX."""
    maps = F.interpolate(distance[:, None], shape, mode="bilinear", align_corners=False)
    reach = math.ceil(3 * BLUR_PX)
    offsets = torch.arange(-reach, reach + 1, device=distance.device)
    kernel = torch.exp(-0.5 * (offsets / BLUR_PX).square())
    kernel = kernel / kernel.sum()
    padded = F.pad(maps, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]
