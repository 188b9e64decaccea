"""Trains attention blocks on normal images, convolutions frozen, before the flow is fitted to their features.

Weights by rarity (`RarityPooling`, `SurprisePooling`) are not trained: what is normal is measured. All other blocks are
trained by one of four objectives (`AttentionConfig.training`):

- `joint`: likelihood, together with a flow. It ignores the backbone's own Jacobian, so gates that shrink all features
  towards one point win without learning anything; a guard detects that and stops.
- `proxy`: a linear head on the pooled features tells normal images from the same with a pasted patch (CutPaste, Li et
  al., CVPR 2021).
- `separation`: the score itself tells them apart. The squared Mahalanobis distance to other normal images is raised
  for images with a synthetic defect (synthetic_defects.py) over that of the same images without. Whether the gates are
  kept is decided later, by the whole detector (gate_decision.py).
- `structure`: the same with defects that add nothing foreign: a piece of the object covered by what lies beside it,
  bent, or blurred.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import RarityPooling, SurprisePooling
from .copies import Copy, copy_of
from .devices import in_float32, to_device
from .flow import Whitening, build_flow, negative_log_likelihood
from .model import AttentDifferNet
from .options import MEASURED_VARIANTS, FlowConfig
from .sources import ImageSource
from .stages import Progress, no_progress
from .synthetic_defects import add_defect, alter_structure, paste_patch
from .views import make_views, random_views

STEPS = {"joint": 80, "proxy": 120, "separation": 160, "structure": 160}
LEARNING_RATE = {"joint": 3e-3, "proxy": 3e-3, "separation": 1e-3, "structure": 1e-3}
IMAGES_PER_STEP = 8
MOST_PASSES = 40  # over the images that are measured: of fewer than 32, gates are trained in fewer steps
BANK_IMAGES = 160  # at most: what distances are measured to, in `separation`
REFIT_STEPS = 40  # of that bank's Gaussian, as the gates move
COLLAPSE = 0.5  # of the features' spread at the start: mean standard deviation over PROBES x IMAGES_PER_STEP views
PROBES, PROBE_STEPS = 3, 5  # that are measured anew after so many steps

Watch = Callable[[int, Tensor, float], None]
"""Called as watch(step, loss, spread) after each step. loss: a scalar on the model's device; reading it waits for the
device. spread: mean deviation of the features, over that at the start of `joint`, and 1 elsewhere."""


@dataclass(frozen=True)
class _Training:
    """What an objective works with. blocks: of the model, to be trained. Others as of `fit_attention`."""

    model: AttentDifferNet
    blocks: nn.ModuleList
    sources: Sequence[ImageSource]
    rng: torch.Generator
    progress: Progress
    watch: Watch
    guard: bool


def fit_attention(
    model: AttentDifferNet,
    sources: Sequence[ImageSource],
    seed: int,
    progress: Progress = no_progress,
    watch: Watch = lambda step, loss, spread: None,
    guard: bool = True,
) -> int:
    """Trains the attention blocks of a model in place, as its configuration says; returns the steps that were kept.

    guard: whether `joint` stops when the features' spread has fallen below COLLAPSE, and undoes the steps since it was
    last measured above. Deterministic in seed; leaves the global random state alone.
    """
    objectives = {"joint": _joint, "proxy": _proxy, "separation": _separation, "structure": _separation}
    objective = objectives[model.config.attention.training]
    rng = torch.Generator().manual_seed(seed)
    if model.config.variant in MEASURED_VARIANTS:
        return _measure_places(model, sources, rng, progress)
    blocks = nn.ModuleList(model.backbone.attention_blocks().values()).requires_grad_(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return objective(_Training(model, blocks, sources, rng, progress, watch, guard))
    finally:
        blocks.requires_grad_(False)


def _measure_places(
    model: AttentDifferNet, sources: Sequence[ImageSource], rng: torch.Generator, progress: Progress
) -> int:
    """One view each of BANK_IMAGES normal images at most, at the full scale: 169 places of each at 448 px."""
    order = torch.randperm(len(sources), generator=rng)[:BANK_IMAGES].tolist()
    images = LazyImages([sources[i] for i in order], model.config.image_size)
    before = nn.Sequential(model.backbone.stem, *list(model.backbone.trunk.children())[:-1])
    maps = []
    with torch.no_grad(), in_float32(model.device):
        for k in range(len(images)):
            maps.append(before(_viewed(model, images[k][None], rng)))
            progress("measuring normal places", k + 1, len(images))
    block = model.backbone.attention_blocks()["attention3"]
    assert isinstance(block, RarityPooling)
    block.normal_places.fit(torch.cat([map.flatten(2)[0].T for map in maps]))
    if isinstance(block, SurprisePooling):
        block.measure_usual(maps)
    return len(images)


def n_steps(objective: str, n_images: int) -> int:
    """How often the gates are moved with so many images to draw from."""
    return min(STEPS[objective], math.ceil(MOST_PASSES * n_images / IMAGES_PER_STEP))


def _descend(
    parameters: Sequence[nn.Parameter], objective: str, n_images: int
) -> tuple[range, Callable[[Tensor], Tensor]]:
    """(steps, one step of descent on a loss, which it returns)."""
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE[objective])

    def step(loss: Tensor) -> Tensor:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return range(n_steps(objective, n_images)), step


def _joint(work: _Training) -> int:
    model, blocks, rng = work.model, work.blocks, work.rng
    normals = LazyImages(work.sources, model.config.image_size)

    def drawn() -> Tensor:
        return _viewed(model, _drawn(normals, rng), rng)

    probes = [drawn() for _ in range(PROBES)]

    def rows_of_probes() -> Tensor:
        with torch.no_grad():
            return torch.cat([model.features(views) for views in probes])

    first = rows_of_probes()
    mean, deviation = first.mean(0), first.std(0).mean()
    flow = build_flow(model.n_features, FlowConfig()).to(model.device)
    trained = [*blocks.parameters(), *(p for p in flow.parameters() if p.requires_grad)]
    steps, step = _descend(trained, "joint", len(normals))
    kept, n_kept, spread = copy.deepcopy(blocks.state_dict()), 0, 1.0
    for k in steps:
        loss = step(negative_log_likelihood(*flow((model.features(drawn()) - mean) / deviation)).mean())
        if (k + 1) % PROBE_STEPS == 0 or k + 1 == len(steps):
            spread = float(rows_of_probes().std(0).mean() / deviation)
            if work.guard and not spread >= COLLAPSE:  # also where it has become NaN
                blocks.load_state_dict(kept)
                return n_kept
            kept, n_kept = copy.deepcopy(blocks.state_dict()), k + 1
        work.watch(k + 1, loss, spread)
        work.progress("training attention with a flow", k + 1, len(steps))
    return len(steps)


def _proxy(work: _Training) -> int:
    """Runs at the half and quarter scale, where a step is cheap; the blocks are the same at all scales."""
    model, rng = work.model, work.rng
    size = model.config.image_size // 2
    normals = LazyImages(work.sources, size)
    head = nn.Linear(model.backbone.channels, 1).to(model.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    steps, step = _descend([*work.blocks.parameters(), *head.parameters()], "proxy", len(normals))
    for k in steps:
        batch = _drawn(normals, rng)
        pasted = torch.stack([paste_patch(image, normals, rng) for image in batch])
        views = _viewed(model, torch.cat([batch, pasted]), rng)
        if k % 2:
            views = F.interpolate(views, size=size // 2)
        logits = head(model.backbone(views).mean((2, 3)))[:, 0]
        labels = (torch.arange(len(logits), device=model.device) >= len(batch)).float()
        work.watch(k + 1, step(F.binary_cross_entropy_with_logits(logits, labels)), 1.0)
        work.progress("training attention", k + 1, len(steps))
    return len(steps)


def _separation(work: _Training) -> int:
    """At the half and quarter scale, as `_proxy`. One half of the images is measured, the other measured against."""
    model, rng = work.model, work.rng
    make_defect = alter_structure if model.config.attention.training == "structure" else add_defect
    size = model.config.image_size // 2
    order = [work.sources[i] for i in torch.randperm(len(work.sources), generator=rng).tolist()]
    half = len(order) // 2
    bank, normals = LazyImages(order[:half][:BANK_IMAGES], size), LazyImages(order[half:], size)
    whitening = Whitening(2 * model.backbone.channels).to(model.device)

    def features(images: Tensor) -> Tensor:
        views = _viewed(model, images, rng)
        return torch.cat([model.backbone(x).mean((2, 3)) for x in (views, F.interpolate(views, size=size // 2))], 1)

    steps, step = _descend(list(work.blocks.parameters()), "separation", len(normals))
    for k in steps:
        if k % REFIT_STEPS == 0:
            with torch.no_grad():
                groups = torch.arange(len(bank)).split(IMAGES_PER_STEP)
                whitening.fit(torch.cat([features(torch.stack([bank[int(i)] for i in group])) for group in groups]))
        batch = _drawn(normals, rng)
        defective = torch.stack([make_defect(image, normals, rng) for image in batch])
        z, _ = whitening(features(torch.cat([batch, defective])))
        normal, anomalous = z.square().mean(1).log().chunk(2)
        work.watch(k + 1, step(F.softplus(normal[:, None] - anomalous[None]).mean()), 1.0)
        work.progress("training attention", k + 1, len(steps))
    return len(steps)


def _drawn(normals: "LazyImages", rng: torch.Generator) -> Tensor:
    return torch.stack([normals[int(i)] for i in torch.randint(len(normals), (IMAGES_PER_STEP,), generator=rng)])


def _viewed(model: AttentDifferNet, images: Tensor, rng: torch.Generator) -> Tensor:
    """One view of each image, on the model's device; of 2 x IMAGES_PER_STEP, which are pairs, the same of both in a
    pair."""
    few = random_views(model.config.views, IMAGES_PER_STEP, rng)
    drawn = few[torch.randint(len(few), (min(len(images), IMAGES_PER_STEP),), generator=rng)]
    return make_views(model.exposed(to_device(images, model.device)), drawn.repeat(len(images) // len(drawn), 1, 1))


class LazyImages:
    """Images (3, S, S) in [0, 1] by number, each read when first needed and kept in 8 bits, so that a large set is
    never in memory as a whole."""

    def __init__(self, sources: Sequence[ImageSource], size: int) -> None:
        self.sources, self.size = sources, size
        self._read: dict[int, Copy] = {}

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, i: int) -> Tensor:
        if i not in self._read:
            self._read[i] = copy_of(self.sources[i], self.size)
        return self._read[i].tensor()
