"""Speed of the recipe `fast` against `paper`, DifferNet's own procedure, in turn on the same machine and images.

    make benchmark                     under 10 minutes: paper's cost per image and epoch from 2 x 30 seconds of it
    make benchmark LONG=1              also training at 50, 200 and all images (magnetic tiles where they are at hand)

Takes MVTec AD's bottle from $ATTENTDIFFERNET_DATA with ImageNet features where both are at hand, else the synthetic
wafer maps with the bundled backbone. Writes benchmarks/latest.json and latest.png. What is compared with what
it is divided by is always timed in the same run, alternately; times are medians.
"""

import argparse
import io
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

import attentdiffernet as adn
from attentdiffernet import paper_recipe
from attentdiffernet.backbone import imagenet_at_hand
from attentdiffernet.category import InspectionDataset, InspectionImage
from attentdiffernet.datasets.sample import write as draw_sample
from attentdiffernet.differnet import DifferNetDetector
from attentdiffernet.grid.run import cpu_name
from attentdiffernet.images import read_image
from attentdiffernet.model import AttentDifferNet, ModelConfig, Precision
from attentdiffernet.options import Options
from attentdiffernet.scoring import faster_precision, score_image, score_until_settled
from attentdiffernet.views import make_views
from demo.service import catalogue
from demo.service.comparison import compare, warm_up

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks"
PAPER = Options(recipe="paper")
PAPER_SLICE_S = 30.0
GEMM = 2048


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def data(temporary: Path) -> tuple[str, str, InspectionDataset]:
    """(name, backbone weights, images): real ones where they are at hand."""
    root = os.environ.get("ATTENTDIFFERNET_DATA")
    if root and (Path(root) / "mvtec_ad" / "bottle").is_dir() and imagenet_at_hand():
        return "mvtec_ad/bottle", "imagenet", InspectionDataset(Path(root) / "mvtec_ad" / "bottle")
    draw_sample(temporary / "sample")
    return "sample/wafer", "bundled", InspectionDataset(temporary / "sample" / "wafer")


def paper_model(weights: str) -> AttentDifferNet:
    model = AttentDifferNet(ModelConfig(flow=PAPER.flow, weights=weights, readout="z2")).eval()
    model.backbone.to(memory_format=torch.contiguous_format)  # as torchvision and the reference code have it
    return model


class Stages:
    """Progress that keeps the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def train_fast(
    images: Sequence[InspectionImage], weights: str, cache: Path
) -> tuple[DifferNetDetector, dict[str, float]]:
    """A calibrated detector by the recipe `fast`, everything included, and the seconds of each stage."""
    clock = Stages()
    detector = adn.fit(images, Options(weights=weights), cache=cache, progress=clock)
    assert isinstance(detector, DifferNetDetector)
    return detector, clock.seconds


def convolution_flop(model: AttentDifferNet, image: torch.Tensor) -> float:
    """Floating-point operations of the backbone's convolutions for one view (two per multiplication and addition)."""
    counted = [0.0]

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counted[0] += 2.0 * output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        model.features(image[None])
    for hook in hooks:
        hook.remove()
    return counted[0]


def backbone_rate(model: AttentDifferNet, image: torch.Tensor) -> dict[str, float]:
    """GFLOP/s of the backbone on the views of a score and of a float32 matrix product, alternately."""
    views = make_views(image, model.views(16))
    flop = convolution_flop(model, views[0]) * len(views)
    a, b = torch.rand(GEMM, GEMM), torch.rand(GEMM, GEMM)
    gemm, backbone, all_else = [], [], []
    with torch.inference_mode():
        for _ in range(12):
            gemm.append(seconds(lambda: a @ b))
            backbone.append(seconds(lambda: model.features(views)))
            all_else.append(seconds(lambda: make_views(image, model.views(16))))
            features = model.features(views)[None]
            all_else[-1] += seconds(lambda: model.score(features))  # noqa: B023  called at once
    gemm_rate = 2 * GEMM**3 / statistics.median(gemm) / 1e9
    rate = flop / statistics.median(backbone) / 1e9
    return {
        "gemm_gflops": gemm_rate,
        "backbone_gflops": rate,
        "backbone_fraction_of_gemm": rate / gemm_rate,
        "rest_over_backbone": statistics.median(all_else) / statistics.median(backbone),
    }


def scoring(detector: DifferNetDetector, paper: AttentDifferNet, paths: Sequence[Path]) -> dict[str, float]:
    """Seconds per image file, decoding included: by `paper`'s 64 views, and at the default, alternately."""
    model, calibration = detector.model, detector.calibration
    slow, all_views, until_settled, taken = [], [], [], []
    score_image(model, model.prepare(read_image(paths[0])), calibration.n_views)
    for k, path in enumerate(paths):

        def image(path: Path = path) -> torch.Tensor:
            return model.prepare(read_image(path))

        if k % 4 == 0:
            slow.append(seconds(lambda: paper_recipe.Scores([path], paper.config.image_size, 0)(paper)))  # noqa: B023  called at once
        all_views.append(seconds(lambda: score_image(model, image(), calibration.n_views)))
        start = time.perf_counter()
        taken.append(score_until_settled(model, calibration, image()).n_views)
        until_settled.append(time.perf_counter() - start)
    return {
        "paper_score_seconds": statistics.median(slow),
        "score_seconds": statistics.median(all_views),
        "score_speedup": statistics.median(slow) / statistics.median(all_views),
        "score_views": calibration.n_views,
        "settled_score_seconds": statistics.mean(until_settled),
        "settled_score_views": statistics.mean(taken),
    }


def reduced_precision(detector: DifferNetDetector, paths: Sequence[Path]) -> dict[str, Any]:
    """What bfloat16 gains on this machine and what it changes, where it gains at all; float32 in turn."""
    model, n_views = detector.model, detector.calibration.n_views
    faster = faster_precision(model)
    if faster == "float32":  # processors without it take half a minute per image
        return {"faster_precision": faster}
    times: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    ratios, changed = [], 0
    for image in (model.prepare(read_image(path)) for path in paths):
        scores = {}
        for precision, taken in times.items():
            model.precision, start = precision, time.perf_counter()
            scores[precision] = score_image(model, image, n_views)
            taken.append(time.perf_counter() - start)
        ratios.append(scores["bfloat16"] / scores["float32"])
        changed += len(set(map(detector.is_anomalous, scores.values()))) - 1
    model.precision = "float32"
    return {
        "faster_precision": faster,
        "bfloat16_speedup": statistics.median(times["float32"]) / statistics.median(times["bfloat16"]),
        "bfloat16_over_float32_score": [min(ratios), statistics.median(ratios), max(ratios)],
        "bfloat16_verdicts_changed": f"{changed} of {len(paths)}",
    }


def comparison() -> dict[str, float]:
    """Seconds from an upload in memory to the first verdict and to all maps of three variants, models loaded."""
    key = next(iter(catalogue.usable_categories()))
    catalogue.detectors(key)
    warm_up()
    first, whole = [], []
    for example in catalogue.category(key).examples[:5]:
        start = time.perf_counter()
        steps = compare(io.BytesIO(example.read_bytes()), key)
        next(steps)
        first.append(time.perf_counter() - start)
        for _ in steps:
            pass
        whole.append(time.perf_counter() - start)
    return {
        "compare_first_seconds": statistics.median(first),
        "compare_seconds": statistics.median(whole),
    }


def growth(dataset: InspectionDataset, weights: str) -> list[dict[str, float]]:
    """Training cost at several numbers of images: total seconds and the flow's share, for quarter turns; what does not
    grow with the images, the choice of views and maps of a few normals, aside."""
    tiles = Path(os.environ.get("ATTENTDIFFERNET_DATA", "")) / "mtd" / "magnetic_tile"
    if weights == "imagenet" and tiles.is_dir():
        dataset = InspectionDataset(tiles)
    given = {"views": "quarter_turns", "resize": "squeeze", "exposure": "as_is", "readout": "z2_of_mean"}
    options = Options(weights=weights, training_views=4, **given)  # type: ignore[arg-type]
    rows = []
    for n in sorted({50, 200, len(dataset.train)}):
        if n > len(dataset.train):
            continue
        clock = Stages()
        adn.fit(dataset.train[:n], options, progress=clock)
        total = sum(s for stage, s in clock.seconds.items() if "maps" not in stage)
        flow = sum(s for stage, s in clock.seconds.items() if "flow" in stage)
        rows.append({"images": n, "seconds": total, "seconds_per_image": total / n, "flow_share": flow / total})
    return rows


def picture(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pairs = [
        ("Train to a calibrated\ncheckpoint", result["paper_train_seconds"], result["train_seconds"]),
        ("Score one image", result["paper_score_seconds"], result["score_seconds"]),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax, (title, paper, fast) in zip(axes, pairs, strict=True):
        bars = ax.bar(["paper", "fast"], [paper, fast], color=["#888888", "#0072B2"])
        ax.set_yscale("log")
        ax.set_title(f"{title}: {paper / fast:.0f} times faster", fontsize=10)
        ax.set_ylabel("seconds")
        ax.bar_label(bars, [f"{value:.3g} s" for value in (paper, fast)], fontsize=9)
        ax.margins(y=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def paper_seconds(weights: str, paths: Sequence[Path]) -> float:
    """Seconds per image and epoch of the recipe `paper`, from a slice of its training."""
    model = paper_model(weights)
    start = time.perf_counter()
    steps = paper_recipe.fit(model, paths, PAPER, enough=lambda elapsed: elapsed > PAPER_SLICE_S)
    images = steps * (PAPER.batch_size // (PAPER.training_views or 1))
    seconds = (time.perf_counter() - start) / images
    print(f"paper: {seconds:.3f} s per image and epoch ({steps} steps)", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="also how training grows with the images")
    parser.add_argument("--out", type=Path, default=OUT / "latest.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        name, weights, dataset = data(temporary)
        result |= {"data": name, "backbone": weights, "images": len(dataset.train)}
        paths = [image.path for image in dataset.train]
        costs: list[float] = []
        print(f"{name}, {len(paths)} images, backbone {weights}", flush=True)

        costs.append(paper_seconds(weights, paths))
        start = time.perf_counter()
        detector, stages = train_fast(dataset.train, weights, temporary / "cache")
        result["train_seconds"] = time.perf_counter() - start
        result["train_stages_seconds"] = {stage: round(s, 2) for stage, s in stages.items()}
        print(f"fast: {result['train_seconds']:.0f} s, {detector.findings.views}", flush=True)
        costs.append(paper_seconds(weights, paths))
        result["paper_seconds_per_image_and_epoch"] = statistics.mean(costs)
        result["paper_train_seconds"] = statistics.mean(costs) * len(paths) * PAPER.epochs
        result["train_speedup"] = result["paper_train_seconds"] / result["train_seconds"]
        result["views"] = detector.findings.views
        result["readout"] = detector.findings.readout
        tests = [image.path for image in dataset.test]
        result |= scoring(detector, paper_model(weights), tests[:: max(1, len(tests) // 16)])
        result |= reduced_precision(detector, tests)
        rotating = detector.model.with_options(views="rotations")
        result |= backbone_rate(rotating, rotating.prepare(read_image(tests[0])))
        result |= comparison()
        if options.long:
            result["growth"] = growth(dataset, weights)
    result["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    picture(result, options.out.with_suffix(".png"))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
