"""What ways to attend do for synthetic defects in held-out training normals. No test image is read.

    python -m benchmarks.attention_trials mvtec_ad/bottle mtd/magnetic_tile     below $ATTENTDIFFERNET_DATA
    python -m benchmarks.attention_trials --only blocks mvtec_ad/bottle         some alone: blocks, or PatchCore
    python -m benchmarks.attention_trials --summary                             the table, from the file

Normals are told from the same normals with defects of three kinds: `foreign` ones (synthetic_defects.add_defect),
`wide` ones (the same on 3 to 30 % of the image) and `structure` (alter_structure). Every trial sees the same feature
maps: AlexNet's last one, three scales, quarter turns.

- places: what the average over places is replaced by. `rarity b`: a place weighs as its squared Mahalanobis distance to
  the places of normal images, to the power b. `channelwise`: the same with channels taken for independent. `surprise
  b`: rarity over what is usual at that place, to the power b; `half`: the mean of the features so weighed and the
  average.
- blocks: SimAM in the backbone, which needs no training, at both placements.
- scales, views: what the sum over scales and the average over views are replaced by, among it weights that are trained
  on one kind of defect: do they find the others?
- flow: squeeze-and-excitation inside of the sub-networks of the couplings.
- patchcore: each place's distance in units of what normal images reach at that place, by cross-validation.

Writes benchmarks/attention_trials.csv, each category as soon as it is known; its trials are replaced there.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attentdiffernet.attention import ChannelGate, resized
from attentdiffernet.calibration import split_normals
from attentdiffernet.category import InspectionDataset
from attentdiffernet.copies import copy_of
from attentdiffernet.flow import Whitening, build_flow
from attentdiffernet.flow_fitting import fit_flow
from attentdiffernet.input_choice import exposure_for, spread_of_exposure
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.networks import load_network
from attentdiffernet.options import AttentionConfig, Options, PatchCoreConfig, Placement, Variant
from attentdiffernet.patchcore import Places, fit_places, image_scores, places_of, weights_of_places
from attentdiffernet.study.statistics import auroc_interval, delong_test
from attentdiffernet.synthetic_defects import add_defect, alter_structure
from attentdiffernet.views import make_views, standardise_exposure

from .data import folder_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "attention_trials.csv"
FITTED, HELD_OUT, DEFECTS, VIEWS = 120, 60, 2, 4
WIDE = (0.03, 0.3)  # share of the image that a wide defect covers, drawn log-uniformly
KINDS = {"foreign": add_defect, "structure": alter_structure, "wide": partial(add_defect, area=WIDE)}
MOST_PLACES, LEARNING_STEPS = 60_000, 300
COLUMNS = ["category", "trial", "defects", "auroc", "low", "high", "difference", "p"]

Maps = dict[str, list[Tensor]]  # by set of images, of each scale: (N, V, 256, P)
Scores = dict[str, Tensor]  # by set of images: (N,)
Rarity = Callable[[Tensor], Tensor]  # of places: (..., 256) -> (...)


def images_of(name: str) -> tuple[dict[str, list[Tensor]], str]:
    """Squares (3, 448, 448) of the normals to fit to, of those held out, and of these with defects of each kind; and
    the exposure that the rule chooses."""
    options = Options()
    paths = [image.path for image in InspectionDataset(folder_of(name)).train]
    rng = torch.Generator().manual_seed(5)
    some = [
        [part[i] for i in torch.randperm(len(part), generator=rng)[:most].tolist()]
        for part, most in zip(split_normals(paths, options), (FITTED, HELD_OUT), strict=True)
    ]
    fitted, held_out = ([copy_of(path, options.image_size).tensor() for path in part] for part in some)
    rng = torch.Generator().manual_seed(77)
    normals = torch.stack(held_out)
    made = {
        kind: [add(image, normals, rng) for _ in range(DEFECTS) for image in normals] for kind, add in KINDS.items()
    }
    return {"fitted": fitted, "normal": held_out} | made, exposure_for(spread_of_exposure(some[0]))


def maps_of(
    images: dict[str, list[Tensor]], exposure: str, variant: Variant = "none", placement: Placement = "after_pool"
) -> Maps:
    attention = AttentionConfig(placement, training="untrained")
    config = ModelConfig(variant, attention, views="quarter_turns", exposure=exposure)  # type: ignore[arg-type]
    model = AttentDifferNet(config).eval()
    turns = model.views(VIEWS)

    def of(image: Tensor) -> list[Tensor]:
        views = make_views(model.exposed(image).expand(VIEWS, -1, -1, -1), turns)
        return [model.backbone(x).flatten(2).half() for x in model.scales(views)]

    with torch.inference_mode():
        return {
            part: [torch.stack(scale).float() for scale in zip(*map(of, some), strict=True)]
            for part, some in images.items()
        }


# -- places


def average(maps: list[Tensor]) -> Tensor:
    return torch.cat([scale.mean(-1) for scale in maps], -1)


def pooled_by(rarity: Rarity, power: float, usual: Tensor | None = None) -> Callable[[list[Tensor]], Tensor]:
    """usual: rarity that is usual at each place (H, W), resized to each scale; 1 if left out."""

    def pool(maps: list[Tensor]) -> Tensor:
        weighted = []
        for scale in maps:
            weights = rarity(scale.transpose(2, 3)) + 1e-6
            if usual is not None:
                weights = weights / resized(usual[None], (math.isqrt(scale.shape[-1]),) * 2).flatten()
            weights = weights**power
            weights = weights / weights.sum(-1, keepdim=True)
            weighted.append((scale * weights[:, :, None]).sum(-1))
        return torch.cat(weighted, -1)

    return pool


def place_trials(maps: Maps) -> Iterator[tuple[str, Callable[[list[Tensor]], Tensor]]]:
    rows = maps["fitted"][0].transpose(2, 3).flatten(0, 2)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_PLACES]]
    whitening = Whitening(rows.shape[1])
    whitening.fit(rows)
    mean, variance = rows.mean(0), rows.var(0)

    def rarity(places: Tensor) -> Tensor:
        return whitening(places)[0].square().mean(-1)

    for power in (0.5, 1, 2):
        yield f"rarity {power:g}", pooled_by(rarity, power)
    full_scale = maps["fitted"][0].transpose(2, 3)  # (N, V, P, 256)
    usual = rarity(full_scale).mean((0, 1)).view((math.isqrt(full_scale.shape[2]),) * 2)
    for power in (0.5, 1, 2):
        yield f"surprise {power:g}", pooled_by(rarity, power, usual)
    surprise = pooled_by(rarity, 1, usual)
    yield "surprise 1, half", lambda maps: (surprise(maps) + average(maps)) / 2
    scale = (variance + 0.01 * variance.mean()).rsqrt()
    yield "rarity 1, channelwise", pooled_by(lambda places: ((places - mean) * scale).square().mean(-1), 1)
    yield "generalised mean, power 3", lambda maps: torch.cat([m.pow(3).mean(-1).pow(1 / 3) for m in maps], -1)
    yield "maximum", lambda maps: torch.cat([scale.amax(-1) for scale in maps], -1)


# -- scores


def block_trials(images: dict[str, list[Tensor]], exposure: str) -> Iterator[tuple[str, Scores]]:
    placements: dict[str, Placement] = {"": "after_pool", " before pool": "before_pool"}
    for said, placement in placements.items():
        yield f"blocks: SimAM{said}", of_average(maps_of(images, exposure, "simam", placement))


def of_average(maps: Maps) -> Scores:
    features = {part: average(some) for part, some in maps.items()}
    whitening = gaussian(features["fitted"])
    return {part: of_mean(whitening, rows) for part, rows in features.items()}


def gaussian(rows: Tensor) -> Whitening:
    whitening = Whitening(rows.shape[-1])
    whitening.fit(rows.flatten(0, -2))
    return whitening


def of_mean(whitening: Whitening, features: Tensor) -> Tensor:
    """(N, V, D) -> (N,)"""
    return whitening(features.mean(1))[0].square().mean(-1)


def scale_trials(maps: Maps) -> Iterator[tuple[str, Scores]]:
    by_scale = []
    for k in range(len(maps["fitted"])):
        features = {part: some[k].mean(-1) for part, some in maps.items()}
        whitening = gaussian(features["fitted"])
        by_scale.append({part: of_mean(whitening, rows).log() for part, rows in features.items()})
    scores = {part: torch.stack([scale[part] for scale in by_scale], 1) for part in maps}
    mean, deviation = scores["fitted"].mean(0), scores["fitted"].std(0)
    yield "scales: each by itself, summed", {part: rows.exp().sum(1) for part, rows in scores.items()}
    unusual = {part: (rows - mean) / deviation for part, rows in scores.items()}
    yield "scales: by softmax of how unusual", {part: (rows * rows.softmax(1)).sum(1) for part, rows in unusual.items()}


def view_trials(maps: Maps) -> Iterator[tuple[str, Scores]]:
    features = {part: average(some) for part, some in maps.items()}
    whitening = gaussian(features["fitted"])
    by_view = {part: whitening(rows)[0].square().mean(-1) for part, rows in features.items()}
    yield "views: each by itself, averaged", {part: rows.mean(1) for part, rows in by_view.items()}
    yield "views: by rarity", {part: (rows * rows / rows.sum(1, keepdim=True)).sum(1) for part, rows in by_view.items()}


class LearnedWeights(nn.Module):
    """Unusualness of each view and scale (N, V, S) -> scores (N,): the weighted sum over one of the two, the mean over
    the other. The weights are a softmax of a u + b."""

    def __init__(self, n_scales: int, over_views: bool) -> None:
        super().__init__()
        self.over_views = over_views
        self.a, self.b = (nn.Parameter(torch.zeros(1 if over_views else n_scales)) for _ in range(2))

    def forward(self, unusual: Tensor) -> Tensor:
        u = unusual.mean(2) if self.over_views else unusual
        weights = (self.a * u + self.b).softmax(-1)
        return (u * weights).sum(-1) if self.over_views else (u * weights).sum(-1).mean(1)


def learned_trials(maps: Maps) -> Iterator[tuple[str, Scores]]:
    """Trained to raise the scores of one kind of defect over those of normals, on one half of the images at a time, and
    read off on the other half."""
    unusual = unusual_views_and_scales(maps)
    for over_views in (False, True):
        for kind in ("foreign", "structure"):
            scores = {part: torch.empty(len(rows)) for part, rows in unusual.items()}
            for side in (0, 1):
                half = {part: torch.arange(len(rows)) % HELD_OUT % 2 == side for part, rows in unusual.items()}
                weights = LearnedWeights(unusual["fitted"].shape[2], over_views)
                optimiser = torch.optim.Adam(weights.parameters(), lr=0.03)
                for _ in range(LEARNING_STEPS):
                    normal, anomalous = (weights(unusual[part][half[part]]) for part in ("normal", kind))
                    optimiser.zero_grad()
                    F.softplus(normal[:, None] - anomalous[None]).mean().backward()
                    optimiser.step()
                for part, rows in unusual.items():
                    scores[part][~half[part]] = weights(rows[~half[part]]).detach()
            yield f"{'views' if over_views else 'scales'}: weights trained on {kind} defects", scores


def unusual_views_and_scales(maps: Maps) -> Scores:
    """By set of images: log squared Mahalanobis distance of each view at each scale, standardised, (N, V, S)."""
    by_scale = []
    for k in range(len(maps["fitted"])):
        features = {part: some[k].mean(-1) for part, some in maps.items()}
        whitening = gaussian(features["fitted"])
        by_scale.append({part: whitening(rows)[0].square().mean(-1).log() for part, rows in features.items()})
    found = {part: torch.stack([scale[part] for scale in by_scale], 2) for part in maps}
    mean, deviation = found["fitted"].mean((0, 1)), found["fitted"].std((0, 1))
    return {part: (rows - mean) / deviation for part, rows in found.items()}


class GatedSubnet(nn.Module):
    """A sub-network of a coupling with a channel gate behind its hidden layers."""

    def __init__(self, subnet: nn.Sequential) -> None:
        super().__init__()
        *hidden, last = subnet
        self.hidden, self.last = nn.Sequential(*hidden), last
        self.gate = ChannelGate(last.in_features, AttentionConfig(reduction=4), pool_max=False)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gate(self.hidden(x)[..., None, None])[..., 0, 0])


def flow_trials(maps: Maps) -> Iterator[tuple[str, Scores]]:
    features = {part: average(some) for part, some in maps.items()}
    whitening, options = gaussian(features["fitted"]), Options()
    rows = whitening(features["fitted"].flatten(0, 1))[0]
    for trial, gated in (("flow", False), ("flow with gates in its sub-networks", True)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            flow = build_flow(rows.shape[1], options.flow)
            if gated:
                for block in flow.module_list:
                    for side in ("subnet1", "subnet2"):
                        if hasattr(block, side):
                            setattr(block, side, GatedSubnet(getattr(block, side)))
        fit_flow(flow, rows, options)
        with torch.inference_mode():
            yield trial, {part: flow(whitening(some.mean(1))[0])[0].square().mean(1) for part, some in features.items()}


def patchcore_trials(images: dict[str, list[Tensor]], exposure: str) -> Iterator[tuple[str, Scores]]:
    network, config = load_network("tf_efficientnet_lite0"), PatchCoreConfig(n_calibrated=FITTED)

    def places(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return places_of(network((standardise_exposure(image) if exposure == "standardised" else image)[None]))[0]

    fitted = fit_places(map(places, images["fitted"]), len(images["fitted"]), config, "mean_of_highest", 0)
    distances = torch.stack(fitted.distance)
    mean, deviation = distances.mean(0), distances.std(0, correction=0)
    with torch.inference_mode():
        found = {
            part: torch.stack([fitted.bank(places(image)[None]).distance[0] for image in some])
            for part, some in images.items()
            if part != "fitted"
        }
    for trial, weighed in (
        ("PatchCore", lambda d: d),
        ("PatchCore, distances over their mean at each place", lambda d: d / mean),
        ("PatchCore, over mean and two deviations there", lambda d: d * weights_of_places(distances)),
        ("PatchCore, over the deviation, less the mean", lambda d: (d - mean) / deviation),
    ):
        yield trial, {part: highest(weighed(of_part), config) for part, of_part in found.items()}


def highest(distance: Tensor, config: PatchCoreConfig) -> Tensor:
    places = Places(distance[..., None], distance, distance.long())
    return image_scores(places, torch.empty(0), "mean_of_highest", config.highest)


# -- all of a category


def trials(name: str, only: str | None) -> Iterator[tuple[str, Scores]]:
    images, exposure = images_of(name)
    if only != "blocks":
        yield from patchcore_trials(images, exposure)
    if only == "PatchCore":
        return
    maps = maps_of(images, exposure)
    yield "average (DifferNet)", of_average(maps)
    yield from block_trials(images, exposure)
    if only == "blocks":
        return
    for trial, pool in place_trials(maps):
        features = {part: pool(some) for part, some in maps.items()}
        whitening = gaussian(features["fitted"])
        yield trial, {part: of_mean(whitening, rows) for part, rows in features.items()}
    yield from scale_trials(maps)
    yield from view_trials(maps)
    yield from learned_trials(maps)
    yield from flow_trials(maps)


BASES = {"PatchCore": "PatchCore", "flow": "flow"}  # what a trial is compared with, by its first word


def measure(name: str, only: str | None) -> pd.DataFrame:
    rows, found = [], dict(trials(name, only))
    for trial, scores in found.items():
        base = found[BASES.get(trial.split()[0].rstrip(","), "average (DifferNet)")]
        for kind in KINDS:
            labels = np.repeat([0, 1], [len(scores["normal"]), len(scores[kind])])
            ours, theirs = (torch.cat([of["normal"], of[kind]]).numpy() for of in (scores, base))
            interval, test = auroc_interval(labels, ours), delong_test(labels, ours, theirs)
            rows.append([name, trial, kind, interval.auroc, interval.low, interval.high, test.difference, test.p_value])
            print(*rows[-1], flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def summary() -> None:
    """AUROC in percent, by kind of defect; the mean over the categories last."""
    frame = pd.read_csv(OUT)
    for kind, part in frame.groupby("defects"):
        table = 100 * part.pivot_table("auroc", "trial", "category", sort=False)
        table["mean"] = table.mean(axis=1)
        print(f"\n{kind}\n{table.round(1).to_string()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="*", help="DATASET/CATEGORY")
    parser.add_argument("--only", choices=["blocks", "PatchCore"], help="these trials alone")
    parser.add_argument("--summary", action="store_true")
    asked = parser.parse_args()
    if asked.summary:
        return summary()
    for name in asked.categories:
        frame = measure(name, asked.only)
        if OUT.is_file():
            known = pd.read_csv(OUT)
            again = known["trial"].isin(frame["trial"]) if asked.only else True
            frame = pd.concat([known[~((known["category"] == name) & again)], frame])
        frame.to_csv(OUT, index=False, float_format="%.4g", lineterminator="\n")
    return None


if __name__ == "__main__":
    main()
