"""AUROC by kind and number of views, and by readout, against what it costs. Nothing is chosen by these numbers.

    python -m benchmarks.accuracy mvtec_ad/bottle mtd/magnetic_tile      below $ATTENTDIFFERNET_DATA, ImageNet features
    python -m benchmarks.accuracy sample/wafer                           the synthetic sample set in data/, bundled
    python -m benchmarks.accuracy --exposure as_is ...                   another exposure than the rule's
    python -m benchmarks.accuracy --paper 6 mvtec_ad/bottle              adds the recipe `paper` after so many epochs

Each row is one DifferNet of the recipe `fast` with the views of that row (the rule's own choice is in `results/`), and
one readout. Cost: views through the backbone while training, times the seconds one takes on this machine, plus the fit.
Of `paper`, the cost is measured as a whole, and its full schedule of 192 epochs drawn at that cost times epochs, with
the AUROC that its authors state. Writes benchmarks/accuracy.csv (other rows stay) and a picture per category.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from attentdiffernet import paper_recipe
from attentdiffernet.calibration import split_normals
from attentdiffernet.category import InspectionDataset
from attentdiffernet.features import FeatureExtractor, default_cache, readable
from attentdiffernet.flow_fitting import fit_flow, fit_gaussian
from attentdiffernet.input_choice import exposure_for, spread_of_exposure
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import Exposure, Options, Readout, ViewKind
from attentdiffernet.scoring import group_ends
from attentdiffernet.study.records import read_published
from attentdiffernet.study.statistics import auroc_interval
from attentdiffernet.views import FEW_VIEWS, make_views
from attentdiffernet.words import READOUTS

from .data import folder_of, weights_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "accuracy.csv"
COLOURS = {
    "rotations": "#0072B2",
    "quarter_turns": "#E69F00",
    "flips": "#009E73",
    "dihedral": "#CC79A7",
    "none": "#555555",
    "paper": "#D55E00",
}
MARKERS = {1: "o", 4: "o", 8: "s", 16: "^"}  # by views in training
# Rotations in training x in scoring. Tiles are many; the rule takes none for the sample set, and they cost the most.
ROTATIONS: dict[str, list[tuple[int, int]]] = {"magnetic_tile": [(4, 4)], "insulator": [], "gear": [], "wafer": []}
MORE_ROTATIONS = [(4, 16), (8, 16), (16, 16)]
PAPER = Options(recipe="paper")
PUBLISHED = read_published(ROOT / "results")
RECIPE = ["exposure", "views", "train_views"]  # what tells detectors of a category apart
PAPER_VIEWS = 16  # in scoring; its own 64 take most of an hour for the tiles


def seconds_per_view(model: AttentDifferNet) -> float:
    views = make_views(torch.rand(3, model.config.image_size, model.config.image_size), model.views(8))
    times = []
    with torch.inference_mode():
        for _ in range(8):
            start = time.perf_counter()
            model.features(views)
            times.append(time.perf_counter() - start)
    return float(np.median(times)) / len(views)


def measure(name: str, exposure: Exposure | None) -> list[dict[str, object]]:
    dataset, weights = InspectionDataset(folder_of(name)), weights_of(name)
    options = Options()
    fit, _ = split_normals([image.path for image in dataset.train], options)
    labels = [image.label for image in dataset.test]
    base = ModelConfig(weights=weights, exposure=exposure or exposure_for(spread_of_exposure(fit)))
    model = AttentDifferNet(base).eval()
    cost = seconds_per_view(model)
    rows: list[dict[str, object]] = []

    def features(kind: str, n_train: int, n_test: int) -> tuple[torch.Tensor, torch.Tensor]:
        extractor = FeatureExtractor(model.with_options(views=cast(ViewKind, kind)), default_cache())
        fitted = extractor.random_views(fit, n_train, options.data_seed)
        found = extractor.even_views([image.path for image in dataset.test], n_test)
        tested = torch.stack(list(readable(found)))
        return fitted, tested

    def add(kind: str, fitted: torch.Tensor, tested: torch.Tensor) -> None:
        model = AttentDifferNet(dataclasses.replace(base, views=cast(ViewKind, kind)), options.seed).eval()
        start = time.perf_counter()
        fit_flow(model.flow, fit_gaussian(model, fitted.flatten(0, 1)), options)
        seconds = time.perf_counter() - start + cost * fitted.shape[0] * fitted.shape[1]
        for readout in READOUTS:
            reading = model.with_options(readout=cast(Readout, readout))
            for n in group_ends(tested.shape[1]):
                with torch.inference_mode():
                    interval = auroc_interval(labels, reading.score(tested[:, :n]).tolist())
                row = {"category": name, "exposure": base.exposure, "views": kind}
                row |= {"train_views": fitted.shape[1], "score_views": n}
                row |= {"readout": readout, "auroc": interval.auroc, "ci_low": interval.low, "ci_high": interval.high}
                rows.append(row | {"train_seconds": round(seconds, 1), "epochs": options.epochs})
        last = {str(row["readout"]): round(100 * cast(float, row["auroc"]), 2) for row in rows[-len(READOUTS) * 9 :]}
        print(name, kind, fitted.shape[1], tested.shape[1], last, flush=True)

    fitted, tested = features("dihedral", 8, 8)
    for kind, few in FEW_VIEWS.items():
        which = [int((FEW_VIEWS["dihedral"] - view).abs().sum((1, 2)).argmin()) for view in few]
        add(kind, fitted[:, which], tested[:, which])
    for n_train, n_test in ROTATIONS.get(name.split("/")[1], MORE_ROTATIONS):
        add("rotations", *features("rotations", n_train, n_test))
    return rows


def measure_paper(name: str, epochs: int) -> list[dict[str, object]]:
    """The recipe `paper`, stopped after some of its 192 epochs."""
    dataset, weights = InspectionDataset(folder_of(name)), weights_of(name)
    options = dataclasses.replace(PAPER, epochs=epochs)
    fit, _ = split_normals([image.path for image in dataset.train], options)
    model = AttentDifferNet(ModelConfig(weights=weights, flow=options.flow, readout="z2"), options.seed).eval()
    model.backbone.to(memory_format=torch.contiguous_format)
    start = time.perf_counter()
    paper_recipe.fit(model, fit, options, lambda *told: print(*told, flush=True))
    seconds = time.perf_counter() - start
    paths = [image.path for image in dataset.test]
    scores = paper_recipe.Scores(paths, model.config.image_size, options.data_seed, PAPER_VIEWS)(model)
    interval = auroc_interval([image.label for image in dataset.test], scores)
    row = {"category": name, "exposure": "as_is", "views": "paper"}
    row |= {"train_views": options.training_views, "score_views": PAPER_VIEWS}
    row |= {"readout": "z2", "auroc": interval.auroc, "ci_low": interval.low, "ci_high": interval.high}
    print(row, f"{seconds:.0f} s", flush=True)
    return [row | {"train_seconds": round(seconds, 1), "epochs": epochs}]


def picture(frame: pd.DataFrame, name: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    paper, frame = frame[frame["views"] == "paper"], frame[frame["views"] != "paper"]
    full = frame[frame["score_views"] == frame.groupby(RECIPE)["score_views"].transform("max")]
    exposures = set(frame["exposure"])
    # Standardising takes no time that counts: of two measurements, the one that other work disturbed less.
    full = full.assign(train_seconds=full.groupby(["views", "train_views"])["train_seconds"].transform("min"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", sharey=True)

    def point(row: Any, marker: str, colour: str, **look: Any) -> None:
        error = [[100 * (row.auroc - row.ci_low)], [100 * (row.ci_high - row.auroc)]]
        left.errorbar(row.train_seconds, 100 * row.auroc, error, fmt=marker, color=colour, capsize=2, **look)

    for row in full[full["readout"] == "z2_of_mean"].drop_duplicates(RECIPE).itertuples():
        hollow = {"mfc": "none"} if row.exposure == "as_is" and len(exposures) > 1 else {}
        point(row, MARKERS[row.train_views], COLOURS[row.views], **hollow)
    for row in paper.itertuples():
        point(row, "*", COLOURS["paper"], ms=9, label=f"paper, {row.epochs} of {PAPER.epochs} epochs")
        stated = PUBLISHED[(PUBLISHED["method"] == "DifferNet") & (PUBLISHED["category"] == name.split("/")[1])]
        for auroc in stated["auroc"][:1]:
            label = f"paper, {PAPER.epochs} epochs: AUROC as\npublished, cost extrapolated"
            cost = row.train_seconds / row.epochs * PAPER.epochs
            left.plot(cost, 100 * auroc, "*", ms=9, mfc="none", color=COLOURS["paper"], label=label)
    left.set(xlabel="training cost, seconds on two cores", ylabel="AUROC, %", xscale="log")
    low, high = left.get_xlim()
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(NullFormatter())
    for (exposure, kind, n), group in frame[frame["readout"] == "z2_of_mean"].groupby(RECIPE):
        label = f"{kind.replace('_', ' ')}, {n} in training"
        style, hollow = "-", {}
        if exposure == "as_is" and len(exposures) > 1:
            label, style, hollow = None, ":", {"mfc": "none"}  # explained below the axis
        right.plot(
            group["score_views"],
            100 * group["auroc"],
            MARKERS[n] + style,
            color=COLOURS[kind],
            label=label,
            ms=4,
            **hollow,
        )
    note = "; dotted, hollow: exposure as is" if len(exposures) > 1 else ""
    right.set(xlabel=f"views per scored image{note}", xscale="log")
    right.set_xticks(ticks := sorted(set(frame["score_views"])), [str(tick) for tick in ticks])
    right.minorticks_off()
    figure.legend(fontsize=8, loc="outside right center")
    figure.suptitle(f"{name}: DifferNet, recipe fast, z² of the mean; 95 % intervals (DeLong)", fontsize=10)
    figure.savefig(OUT.with_name(f"accuracy-{name.replace('/', '-')}.png"), dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", help="DATASET/CATEGORY")
    parser.add_argument("--exposure", choices=["as_is", "standardised"], help="by default what the rule chooses")
    parser.add_argument("--paper", type=int, metavar="EPOCHS", help="measure the recipe paper instead")
    asked = parser.parse_args()
    for name in asked.categories:
        rows = pd.DataFrame(measure_paper(name, asked.paper) if asked.paper else measure(name, asked.exposure))
        if OUT.exists():
            others = pd.read_csv(OUT)
            anew = (others["category"] == name) & (others["exposure"] == rows["exposure"].iloc[0])
            rows = pd.concat([others[~(anew & ((others["views"] == "paper") == bool(asked.paper)))], rows])
        rows.sort_values("category", kind="stable").to_csv(OUT, index=False, float_format="%.6g", lineterminator="\n")
        picture(rows[rows["category"] == name], name)


if __name__ == "__main__":
    main()
