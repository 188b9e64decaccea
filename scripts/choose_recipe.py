"""How the compact flow's size, noise and epochs were chosen: on training normals alone, no test image is read.

    python -m scripts.choose_recipe ROOT/CATEGORY [quarter_turns]

Fits flows to the training part of `train/good` and prints, after several numbers of epochs, how well normals held out
and the same normals with a synthetic defect (two of each) are told apart, by readout, and the negative log-likelihood
of the normals held out. Beside them: what the whitening alone gives (`gaussian...`).
"""

import dataclasses
import sys
import time
from typing import cast

import numpy as np
import torch

from attentdiffernet.calibration import split_normals
from attentdiffernet.category import InspectionDataset
from attentdiffernet.features import FeatureExtractor, default_cache
from attentdiffernet.flow import negative_log_likelihood
from attentdiffernet.flow_fitting import fit_flow, fit_gaussian
from attentdiffernet.images import read_image
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import TRAINING_VIEWS, FlowConfig, Options, Readout, ViewKind
from attentdiffernet.study.statistics import auroc
from attentdiffernet.synthetic_defects import add_defect
from attentdiffernet.views import to_tensor
from attentdiffernet.words import READOUTS

EPOCHS = (15, 30, 60, 120)
CANDIDATES = [(FlowConfig(4, width), noise) for width, noise in ((64, 0.1), (64, 0.2), (128, 0.1), (128, 0.3))]


def main(root: str, views: str = "quarter_turns") -> None:
    options = Options(epochs=max(EPOCHS))
    base = ModelConfig(views=cast(ViewKind, views))
    fit, held_out = split_normals([image.path for image in InspectionDataset(root).train], options)
    extractor = FeatureExtractor(AttentDifferNet(base).eval(), default_cache())
    rows = extractor.random_views(fit, TRAINING_VIEWS, options.data_seed).flatten(0, 1)
    normals = torch.stack([to_tensor(read_image(path), base.image_size) for path in held_out])
    rng = torch.Generator().manual_seed(1)
    defective = [add_defect(image, normals, rng) for _ in range(2) for image in normals]
    features = torch.stack([extractor.of_image(image, extractor.model.views(16)) for image in [*normals, *defective]])
    labels = np.repeat([0, 1], [len(normals), len(defective)])

    def table(model: AttentDifferNet, names: list[str]) -> str:
        cells = []
        for name in names:
            with torch.inference_mode():
                scores = model.with_options(readout=cast(Readout, name)).score(features).numpy()
            cells.append(f"{name} {100 * auroc(labels, scores):.1f}")
        return ", ".join(cells)

    for flow, noise in CANDIDATES:
        model = AttentDifferNet(dataclasses.replace(base, flow=flow)).eval()
        whitened = fit_gaussian(model, rows)
        without_flow = table(model, [name for name in READOUTS if name.startswith("gaussian")])
        print(f"{flow.n_blocks} x {flow.hidden_width}, noise {noise}: {without_flow}")
        start = time.perf_counter()

        def report(stage: str, epoch: int, total: int) -> None:
            if epoch not in EPOCHS:
                return
            with torch.inference_mode():
                likelihood = negative_log_likelihood(*model.latent(features[: len(normals)].flatten(0, 1)))  # noqa: B023
            print(
                f"  epoch {epoch}: {table(model, ['z2', 'z2_of_mean', 'likelihood'])}, "  # noqa: B023
                f"likelihood of normals {likelihood.median():.3f} (median), {time.perf_counter() - start:.0f} s",  # noqa: B023
                flush=True,
            )

        fit_flow(model.flow, whitened, dataclasses.replace(options, feature_noise=noise), report)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
