"""Attention blocks for PatchCore: one behind each feature map that makes a place, trained on normal images.

The network stays as it is, so that its feature maps are computed once. The gates are trained as DifferNet's are
(attention_training.py): the distances of images with a synthetic defect are raised over those of the same images
without. They are kept only if the whole detector then tells defects in other normal images better than without gates.
Weights of places (`patchcore.weights_of_places`) are kept by the same rule, and nothing of them is trained.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import ATTENTION, NoAttention, resized
from .attention_training import IMAGES_PER_STEP, LEARNING_RATE, REFIT_STEPS, n_steps
from .networks import FeatureMaps
from .options import MEASURED_VARIANTS, AttentionConfig, Options, Readout, Variant
from .patchcore import Images, compare, fit_places, image_scores, places_of, whitening_of
from .stages import Progress
from .study.statistics import BEYOND_STANDARD_ERROR, auroc, beats
from .synthetic_defects import Normals, add_defect, alter_structure

MOST_LEARNED, MOST_JUDGED = 64, 32  # normal images that gates are trained with, and judged on
DEFECTS = 2  # synthetic ones of each image
BANK = 1000  # places that distances are measured to in training
SUBGRID = 2  # of an image, every second place in both directions is measured in training

Maps = list[Tensor]  # of one image: (1, C_k, h_k, w_k)
Transform = Callable[[Tensor], Tensor]  # of one image (3, H, W)


class AttendedMaps(nn.Module):
    """A network's feature maps, each behind an attention block of its own: images (B, 3, H, W) in [0, 1] -> as
    `FeatureMaps`. With the variant `none` they are the network's."""

    def __init__(self, network: FeatureMaps, variant: Variant, config: AttentionConfig, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            block = NoAttention if variant == "places" else ATTENTION[variant]  # those weigh distances, not features
            self.blocks = nn.ModuleList(block(channels, config) for channels in network.channels)
        self.blocks.requires_grad_(False)

    def forward(self, images: Tensor) -> Maps:
        return self.attended(self.network(images))

    def attended(self, maps: Sequence[Tensor]) -> Maps:
        return [block(map) for block, map in zip(self.blocks, maps, strict=True)]


@dataclass(frozen=True)
class Gates:
    """maps: with trained gates, or with gates at 1 where those did not help (kept: false). aurocs: on synthetic
    defects, with the gates and without; empty where that was not asked."""

    maps: AttendedMaps
    kept: bool = True
    aurocs: tuple[float, ...] = ()


def attend(
    network: FeatureMaps, images: Images, expose: Transform, options: Options, readout: Readout, progress: Progress
) -> Gates:
    """The network's maps with gates as the options say, on its device. images: the training normals as photographed.
    expose: what the network sees of one. Gates that cannot be judged, because there are under 8 images, are left at 1.
    Deterministic in the options' seeds."""
    made, left_at_one = (
        AttendedMaps(network, options.variant, options.attention, options.attention_seed).to(network.mean.device)
        for _ in range(2)
    )
    measured = options.variant in MEASURED_VARIANTS  # from the distances of the bank, when that is there
    if not options.trains_attention or (measured and not options.judges_gates):
        return Gates(made)
    n_judged = min(MOST_JUDGED, len(images) // 4) if options.judges_gates else 0
    if options.judges_gates and n_judged < 2:
        return Gates(left_at_one, kept=False)
    rng = torch.Generator().manual_seed(options.data_seed)
    order = torch.randperm(len(images), generator=rng).tolist()
    judged, learned = order[:n_judged], order[n_judged:][:MOST_LEARNED]
    defective = alter_structure if options.attention.training == "structure" else add_defect
    seen = _seen(network, [images[i] for i in learned], expose, defective, rng, progress)
    if not measured:
        _train(made, seen, options, progress)
    if not judged:
        return Gates(made)
    others = _seen(network, [images[i] for i in judged], expose, add_defect, rng, progress)
    candidates = made, left_at_one
    with_gates, without = (
        _scores(maps, seen, others, options, readout, weigh_places=measured and maps is made) for maps in candidates
    )
    labels = np.repeat([0, 1], [len(others.normal), len(others.defective)])
    helps = beats(labels, with_gates, without, BEYOND_STANDARD_ERROR)
    return Gates(candidates[0 if helps else 1], helps, (auroc(labels, with_gates), auroc(labels, without)))


# -- feature maps, computed once


@dataclass(frozen=True)
class _Seen:
    """Feature maps of N normal images, and of each with DEFECTS synthetic ones: image i's are defective[DEFECTS * i]
    and on."""

    normal: list[Maps]
    defective: list[Maps]


def _seen(
    network: FeatureMaps,
    images: Sequence[Tensor],
    expose: Transform,
    defective: Callable[[Tensor, Normals, torch.Generator], Tensor],
    rng: torch.Generator,
    progress: Progress,
) -> _Seen:
    """Defects are put on squares; images that keep their aspect are brought to one and back."""
    device, side = network.mean.device, min(min(image.shape[1:]) for image in images)
    squares = torch.stack([resized(image, (side, side)) for image in images])
    seen = _Seen([], [])
    with torch.no_grad():  # not inference_mode: gates are trained on these
        for k, image in enumerate(images):
            progress("features to train attention", k, len(images))
            altered = [_altered(image, defective(squares[k], squares, rng), squares[k]) for _ in range(DEFECTS)]
            seen.normal.append(network(expose(image)[None].to(device)))
            seen.defective.extend(network(expose(one)[None].to(device)) for one in altered)
    return seen


def _altered(image: Tensor, defective: Tensor, square: Tensor) -> Tensor:
    """The image (3, H, W) with what the defect changed on its square: the rest is as sharp as before."""
    change = resized(defective - square, (image.shape[1], image.shape[2]))
    return (image + change).clamp(0, 1)


# -- training


def _train(made: AttendedMaps, seen: _Seen, options: Options, progress: Progress) -> None:
    """One half of the images is measured, the other measured against, as in `attention_training`."""
    objective = options.attention.training
    rng = torch.Generator().manual_seed(options.seed)
    order = torch.randperm(len(seen.normal), generator=rng).tolist()
    against, measured = order[: len(order) // 2], order[len(order) // 2 :]
    made.blocks.requires_grad_(True)
    optimiser = torch.optim.Adam(made.blocks.parameters(), lr=LEARNING_RATE[objective])
    steps = n_steps(objective, len(measured))
    for k in range(steps):
        if k % REFIT_STEPS == 0:
            bank = _Bank.of([made.attended(seen.normal[i]) for i in against], rng)
        chosen = [measured[int(i)] for i in torch.randint(len(measured), (IMAGES_PER_STEP,), generator=rng)]
        defects = torch.randint(DEFECTS, (len(chosen),), generator=rng).tolist()
        pairs = [seen.normal[i] for i in chosen]
        pairs += [seen.defective[DEFECTS * i + d] for i, d in zip(chosen, defects, strict=True)]
        scores = torch.cat([bank.scores(made.attended(maps), options.patchcore.highest) for maps in pairs])
        normal, anomalous = scores.clamp(min=1e-6).log().chunk(2)
        optimiser.zero_grad()
        F.softplus(normal[:, None] - anomalous[None]).mean().backward()
        optimiser.step()
        progress("training attention", k + 1, steps)
    made.blocks.requires_grad_(False)


@dataclass(frozen=True)
class _Bank:
    """Random normal places, whitened: what distances are measured to between two refits."""

    vector: Tensor
    mean: Tensor
    whitening: Tensor

    @classmethod
    def of(cls, maps: Sequence[Maps], rng: torch.Generator) -> "_Bank":
        with torch.no_grad():
            places = torch.cat([places_of(one)[:, ::SUBGRID, ::SUBGRID].flatten(0, 2) for one in maps])
            mean, whitening = places.mean(0), whitening_of(places)
            drawn = torch.randperm(len(places), generator=rng)[:BANK].to(places.device)
            return cls((places[drawn] - mean) @ whitening, mean, whitening)

    def scores(self, maps: Maps, highest: float) -> Tensor:
        places = (places_of(maps)[:, ::SUBGRID, ::SUBGRID] - self.mean) @ self.whitening
        return image_scores(compare(places, self.vector), self.vector, "mean_of_highest", highest)


# -- judging


def _scores(
    maps: AttendedMaps, seen: _Seen, others: _Seen, options: Options, readout: Readout, weigh_places: bool
) -> np.ndarray:
    """Of the others, normal ones first, by a bank of what was seen in training."""
    with torch.inference_mode():
        places = (places_of(maps.attended(one))[0] for one in seen.normal)
        sizes = options.patchcore
        if not weigh_places:
            sizes = dataclasses.replace(sizes, n_calibrated=0)
        bank = fit_places(places, len(seen.normal), sizes, readout, options.seed, weigh_places=weigh_places).bank
        scores = [
            image_scores(bank(places_of(maps.attended(one))), bank.vector.float(), readout, sizes.highest)
            for one in (*others.normal, *others.defective)
        ]
        return torch.cat(scores).cpu().numpy()
