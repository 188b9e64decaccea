"""PatchCore by image size, aspect, exposure, whitening, size of the bank and score: on synthetic defects and on test.

    python -m benchmarks.patchcore mvtec_ad/bottle sample/gear    below $ATTENTDIFFERNET_DATA; the sample set in data/
    python -m benchmarks.patchcore                                all seven categories
    python -m benchmarks.patchcore cplid/insulator --setups 0 2   some of SETUPS, by their place there
    python -m benchmarks.patchcore --summary                      the table by configuration, from the file
    python -m benchmarks.patchcore --cost mvtec_ad/bottle         seconds, memory and size, in a process of its own
    python -m benchmarks.patchcore --memory 1000                  the same for so many drawn images of 1 megapixel

Configurations are those of SETUPS: one change at a time; all scores are read from each. Defaults are chosen by
`auroc_synthetic` alone, over all categories: normal images held out of training against the same images with synthetic
defects. `auroc_test` stands beside, of a bank of all training images; --synthetic leaves it out, which takes a third of
the time. `flagged_normal` and `flagged_anomalous` are the shares of test images above the threshold for 5 % that
cross-validation gives (base only).

Writes benchmarks/patchcore.csv, each row as soon as it is known; what it holds is not measured again.
"""

import argparse
import dataclasses
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from attentdiffernet.category import InspectionDataset, InspectionImage
from attentdiffernet.images import read_image
from attentdiffernet.networks import FeatureMaps, load_network
from attentdiffernet.options import PatchCoreConfig, Readout
from attentdiffernet.patchcore import (
    Fitted,
    PatchBank,
    Places,
    anomaly_maps,
    fit,
    fit_places,
    image_scores,
    places_of,
)
from attentdiffernet.study.statistics import auroc_interval, conformal_threshold
from attentdiffernet.synthetic_defects import DefectTest
from attentdiffernet.views import standardise_exposure, to_tensor

from .data import folder_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "patchcore.csv"
CATEGORIES = (
    "sample/gear",
    "mvtec_ad/bottle",
    "sample/insulator",
    "cplid/insulator",
    "sample/wafer",
    "wm811k/wafer",
    "mtd/magnetic_tile",
)
RECTANGULAR = {"mtd/magnetic_tile"}  # in all others, images are square
LEAST_SIDE = 160  # px, of images whose aspect is kept
HELD_OUT, DEFECTS = 32, 2  # normals, and synthetic defects of each
FALSE_POSITIVES, CALIBRATED = 0.05, 100


@dataclasses.dataclass(frozen=True)
class Setup:
    image_size: int = 448
    resize: str = "squeeze"
    exposure: str = "as_is"
    whitening: bool = False
    bank_size: int = 4000


# In turn, each for all categories; setups that are measured together share the features. Whitening was better on
# synthetic defects in the first ones (mean over categories), so that all others change one thing of that.
SETUPS = (
    (Setup(), Setup(whitening=True)),
    (Setup(whitening=True, image_size=320),),
    (Setup(whitening=True, resize="keep_aspect"),),  # where images are no squares
    (Setup(whitening=True, exposure="standardised"),),
    (Setup(whitening=True, image_size=256),),
    (Setup(whitening=True, bank_size=2000),),
)


SCORES: dict[str, tuple[Readout, float]] = {
    "maximum": ("maximum", 1),
    "reweighted": ("reweighted", 1),
    "mean of 20": ("mean_of_highest", 20),
    "mean of 100": ("mean_of_highest", 100),
    "mean of 1 %": ("mean_of_highest", 0.01),
}


@dataclasses.dataclass
class Inputs:
    """Images of files by number, as a setup shows them to the network."""

    images: Sequence[InspectionImage]
    setup: Setup

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        least_side = LEAST_SIDE if self.setup.resize == "keep_aspect" else None
        return exposed(to_tensor(read_image(self.images[i].path), self.setup.image_size, least_side), self.setup)


def each(inputs: Inputs) -> Iterator[Tensor]:
    return (inputs[i] for i in range(len(inputs)))


def exposed(image: Tensor, setup: Setup) -> Tensor:
    return standardise_exposure(image) if setup.exposure == "standardised" else image


def with_defects(images: Sequence[InspectionImage], setup: Setup) -> tuple[np.ndarray, Iterator[Tensor]]:
    """Labels, and the images in turn: normals, then the same with synthetic defects."""
    rng = torch.Generator().manual_seed(0)
    test = DefectTest([image.path for image in images], DEFECTS, setup.image_size, LEAST_SIDE, rng)

    def inputs() -> Iterator[Tensor]:
        for k, square in enumerate(test.squares):
            if setup.resize == "keep_aspect":
                shape = test.shapes[k % test.n_normals]
                square = F.interpolate(square[None], shape, mode="bilinear", antialias=True, align_corners=False)[0]
            yield exposed(square, setup)

    return test.labels, inputs()


def places(network: FeatureMaps, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return places_of(network(image[None]))[0].half()


def scores_of(bank: PatchBank, images: Sequence[Tensor]) -> dict[str, np.ndarray]:
    found: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for image in images:
        compared = bank(image[None].float())
        for name, asked in SCORES.items():
            found[name].append(image_scores(compared, bank.vector.float(), *asked))
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def scores_left_out(fitted: Fitted) -> dict[str, np.ndarray]:
    """Of training images, for the scores that distances alone tell."""
    maps = [Places(of_one[None, ..., None], of_one[None], of_one[None].long()) for of_one in fitted.distance]
    return {
        name: torch.cat([image_scores(of_one, torch.empty(0), *asked) for of_one in maps]).numpy()
        for name, asked in SCORES.items()
        if maps and name != "reweighted"
    }


def measure(
    name: str, setups: Sequence[Setup], network: FeatureMaps, on_test: bool, most: int | None
) -> Iterator[dict[str, Any]]:
    """Rows of a category for setups of one input. on_test: also on the test images. most: training images."""
    dataset = InspectionDataset(folder_of(name))
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0)).tolist()[:most]
    start = time.process_time()
    train = [places(network, image) for image in each(Inputs([dataset.train[i] for i in order], setups[0]))]
    seconds_of_one = (time.process_time() - start) / len(train)
    test = [places(network, image) for image in each(Inputs(dataset.test, setups[0]))] if on_test else []
    labels = np.array([image.label for image in dataset.test])
    judged_labels, made = with_defects([dataset.train[i] for i in order[:HELD_OUT]], setups[0])
    judged = [places(network, image) for image in made]
    for setup in setups:
        config = PatchCoreConfig(bank_size=setup.bank_size, whitening=setup.whitening, n_calibrated=0)
        start = time.process_time()
        part = fit_places((of.float() for of in train[HELD_OUT:]), len(train) - HELD_OUT, config, "maximum", 0)
        seconds = time.process_time() - start
        start = time.process_time()
        by_synthetic = scores_of(part.bank, judged)
        seconds_of_one_compared = (time.process_time() - start) / len(judged)
        tested = test_columns(train, test, labels, setup) if on_test else {}
        for score in SCORES:
            on_synthetic = auroc_interval(judged_labels, by_synthetic[score])
            row = {"category": name} | dataclasses.asdict(setup) | {"score": score, "n_train": len(train)}
            row |= {"auroc_synthetic": on_synthetic.auroc, "synthetic_low": on_synthetic.low}
            row |= {"synthetic_high": on_synthetic.high, "entries": len(part.bank.vector), "radius": part.radius}
            row |= {"cpu_seconds_features": seconds_of_one, "cpu_seconds_fit": seconds}
            yield row | {"cpu_seconds_compare": seconds_of_one_compared} | tested.get(score, {})


def test_columns(
    train: Sequence[Tensor], test: Sequence[Tensor], labels: np.ndarray, setup: Setup
) -> dict[str, dict[str, float]]:
    """By score, of a bank of all training images."""
    config = PatchCoreConfig(bank_size=setup.bank_size, whitening=setup.whitening)
    config = dataclasses.replace(config, n_calibrated=CALIBRATED if setup == Setup() else 0)
    whole = fit_places((of.float() for of in train), len(train), config, "maximum", 0)
    tested, left_out, columns = scores_of(whole.bank, test), scores_left_out(whole), {}
    for score in SCORES:
        interval = auroc_interval(labels, tested[score])
        row = {"auroc_test": interval.auroc, "test_low": interval.low, "test_high": interval.high}
        row |= {"entries": len(whole.bank.vector), "radius": whole.radius}
        if score in left_out:
            threshold, _ = conformal_threshold(left_out[score], FALSE_POSITIVES)
            row["flagged_normal"] = float((tested[score][labels == 0] > threshold).mean())
            row["flagged_anomalous"] = float((tested[score][labels == 1] > threshold).mean())
        columns[score] = row
    return columns


KEY = ["category", *(field.name for field in dataclasses.fields(Setup))]


def is_known(name: str, setup: Setup) -> bool:
    if not OUT.is_file():
        return False
    known = pd.read_csv(OUT)[KEY].astype(str)
    return bool((known == [name, *(str(value) for value in dataclasses.astuple(setup))]).all(axis=1).any())


def add(row: dict[str, Any]) -> None:
    columns = [*KEY, "score", "n_train", "auroc_synthetic", "synthetic_low", "synthetic_high", "auroc_test", "test_low"]
    columns += ["test_high", "flagged_normal", "flagged_anomalous", "entries", "radius"]
    columns += ["cpu_seconds_features", "cpu_seconds_fit", "cpu_seconds_compare"]
    frame = pd.DataFrame([row]).reindex(columns=columns)
    frame.to_csv(OUT, mode="a", header=not OUT.is_file(), index=False, float_format="%.6g", lineterminator="\n")


def summary() -> None:
    frame = pd.read_csv(OUT)
    frame["setup"] = [
        f"{row.image_size} px, {row.resize}, {row.exposure}{', whitened' if row.whitening else ''}, {row.bank_size}"
        for row in frame.itertuples()
    ]
    for column in ("auroc_synthetic", "auroc_test"):
        table = 100 * frame.pivot_table(column, ["setup", "score"], "category", sort=False)
        table["mean"] = table.mean(axis=1)
        print(f"\n{column}, %\n{table.round(1).to_string()}")


def cost(name: str) -> None:
    """Training and scoring as a user's machine does them, images read from files."""
    start, used = time.perf_counter(), time.process_time()
    network = load_network("tf_efficientnet_lite0")
    dataset, setup = InspectionDataset(folder_of(name)), Setup()
    loaded = time.perf_counter()
    fitted = fit(network, Inputs(dataset.train, setup), PatchCoreConfig(), "mean_of_highest", 0)
    trained, cpu = time.perf_counter(), time.process_time()
    seconds = []
    for image in each(Inputs(dataset.test[:20], setup)):
        begin = time.perf_counter()
        with torch.inference_mode():
            compared = fitted.bank(places_of(network(image[None])))
            image_scores(compared, fitted.bank.vector.float(), "mean_of_highest", PatchCoreConfig().highest)
            anomaly_maps(compared.distance, image.shape[1:])  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - begin)
    told = {"category": name, "threads": torch.get_num_threads(), "n_train": len(dataset.train)}
    told |= {
        "seconds_loading": loaded - start,
        "seconds_training": trained - loaded,
        "cpu_seconds_training": cpu - used,
    }
    told |= {"seconds_per_image": float(np.median(seconds))}
    told |= {"peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    told |= {"bank_bytes": sum(buffer.nbytes for buffer in fitted.bank.buffers())}
    print(json.dumps(told))


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Images (1000, 1000, 3) of blurred noise, each made when it is asked for: none is kept."""

    n: int

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Tensor:
        coarse = np.random.default_rng(i).integers(0, 256, (125, 125, 3), np.uint8)
        return to_tensor(np.kron(coarse, np.ones((8, 8, 1), np.uint8)), Setup().image_size, None)


def memory(n: int) -> None:
    """Of training on n images of 1 megapixel, calibrated."""
    network, start = load_network("tf_efficientnet_lite0"), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    fitted = fit(network, Drawn(n), PatchCoreConfig(), "mean_of_highest", 0)
    told = {"n_train": n, "calibrated": len(fitted.score), "megabytes_before": before}
    told |= {"peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    print(json.dumps(told | {"cpu_seconds": time.process_time() - start}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="*", default=CATEGORIES)
    parser.add_argument("--setups", nargs="+", type=int, choices=range(len(SETUPS)), default=range(len(SETUPS)))
    parser.add_argument("--synthetic", action="store_true", help="leave the test images out")
    parser.add_argument("--most", type=int, help="random training images, at most; all by default")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--memory", type=int, help="number of drawn images")
    asked = parser.parse_args()
    if asked.summary:
        return summary()
    if asked.memory:
        return memory(asked.memory)
    if asked.cost:
        return cost(*asked.categories)
    network = load_network("tf_efficientnet_lite0")
    for together in (SETUPS[number] for number in asked.setups):
        for name in asked.categories:
            pending = [setup for setup in together if not is_known(name, setup)]
            if pending and (name in RECTANGULAR or pending[0].resize == "squeeze"):
                for row in measure(name, pending, network, not asked.synthetic, asked.most):
                    add(row)
    return None


if __name__ == "__main__":
    main()
