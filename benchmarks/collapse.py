"""What happens to attention that is trained by likelihood together with a flow, with no guard to stop it.

    python -m benchmarks.collapse mvtec_ad/bottle mtd/magnetic_tile    below $ATTENTDIFFERNET_DATA, ImageNet features

Likelihood does not count the backbone's own Jacobian: gates that bring all features to one point are rewarded without
bound. Writes benchmarks/collapse.csv, the loss and the spread of the features (over that at the start) after each step,
and a picture. No test image is read.
"""

import sys
from pathlib import Path

import pandas as pd
from torch import Tensor

from attentdiffernet.attention_training import COLLAPSE, fit_attention
from attentdiffernet.calibration import split_normals
from attentdiffernet.category import InspectionDataset
from attentdiffernet.figures.palette import VARIANT_COLOURS
from attentdiffernet.input_choice import exposure_for, spread_of_exposure
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, Options
from attentdiffernet.words import VARIANT_TITLES

from .data import folder_of

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "collapse.csv"


def measure(name: str, variant: str) -> list[dict[str, object]]:
    options = Options()
    dataset = InspectionDataset(folder_of(name))
    fit, _ = split_normals([image.path for image in dataset.train], options)
    exposure = exposure_for(spread_of_exposure(fit))
    blocks = AttentionConfig(training="joint")
    config = ModelConfig(variant, blocks, views="quarter_turns", exposure=exposure)  # type: ignore[arg-type]
    model = AttentDifferNet(config, options.seed).eval()
    rows: list[dict[str, object]] = []

    def watch(step: int, loss: Tensor, spread: float) -> None:
        rows.append({"category": name, "variant": variant, "step": step, "loss": float(loss), "spread": spread})

    fit_attention(model, fit, options.seed, watch=watch, guard=False)
    print(rows[-1], flush=True)
    return rows


def picture(frame: pd.DataFrame) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for (name, variant), rows in frame.groupby(["category", "variant"], sort=False):
        style = "-" if name == frame["category"].iloc[0] else "--"
        label = f"{VARIANT_TITLES[variant]}, {name}"
        for ax, column in zip(axes, ("spread", "loss"), strict=True):
            ax.plot(rows["step"], rows[column], style, color=VARIANT_COLOURS[variant], label=label)
    axes[0].axhline(COLLAPSE, color="#888888", lw=0.8)
    axes[0].annotate("the guard stops here", (1, COLLAPSE), va="bottom", fontsize=8)
    axes[0].set(xlabel="step", ylabel="spread of the features / that at the start", ylim=(0, None))
    axes[1].set(xlabel="step", ylabel="negative log-likelihood per dimension")
    axes[1].legend(fontsize=8)
    figure.suptitle("Attention and flow trained together by likelihood, no guard", fontsize=10)
    figure.savefig(OUT.with_suffix(".png"), dpi=110)


def main(names: list[str]) -> None:
    if not names:
        sys.exit(__doc__)
    frame = pd.DataFrame([row for name in names for variant in ("se", "cbam") for row in measure(name, variant)])
    frame.to_csv(OUT, index=False, float_format="%.6g", lineterminator="\n")
    picture(frame)


if __name__ == "__main__":
    main(sys.argv[1:])
