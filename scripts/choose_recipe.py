"""How the compact flow's size, noise and epochs were chosen: on training normals alone, no test image is read.

    python scripts/choose_recipe.py ROOT/CATEGORY

Fits flows to the training part of `train/good` and prints, every 15 epochs, for the held-out part: negative
log-likelihood, the AUROC of telling held-out normals from the same with a pasted patch of 0.2 to 2 % of the area (by
mean z² and by likelihood), and the highest score over the median one. Beside them: a Gaussian with Ledoit-Wolf
covariance on the same features.
"""

import sys
import time

import numpy as np
import torch
from sklearn.covariance import LedoitWolf

from attentdiffernet.config import FlowConfig, ModelConfig, TrainingConfig
from attentdiffernet.data import InspectionDataset, even_angles, read_image, to_tensor
from attentdiffernet.features import FeatureExtractor, default_cache
from attentdiffernet.flow import build_flow, negative_log_likelihood
from attentdiffernet.model import AttentDifferNet
from attentdiffernet.statistics import auroc
from attentdiffernet.training import fit_flow, paste_patch, split_normals

N_VIEWS = 16
EPOCHS = 60
CANDIDATES = [
    (FlowConfig(n_blocks=blocks, hidden_width=width, hidden_layers=layers), noise)
    for blocks, width, layers, noise in [
        (8, 64, 2, 0.1),
        (8, 64, 2, 0.2),
        (8, 128, 2, 0.03),
        (8, 128, 2, 0.1),
        (8, 128, 2, 0.2),
        (8, 256, 2, 0.1),
        (4, 128, 2, 0.1),
        (4, 192, 1, 0.1),
    ]
]


def main(root: str) -> None:
    config = TrainingConfig()
    fit, held_out = split_normals(InspectionDataset(root).train, config)
    extractor = FeatureExtractor(AttentDifferNet(ModelConfig()).eval(), default_cache())
    rows = extractor.random_views([i.path for i in fit], config.views_per_image, config.data_seed).flatten(0, 1)
    images = torch.stack([to_tensor(read_image(i.path), 448) for i in held_out])
    rng = torch.Generator().manual_seed(1)
    pasted = [paste_patch(image, images, rng, (0.002, 0.02)) for _ in range(2) for image in images]
    views = torch.cat([extractor.of_image(image, even_angles(N_VIEWS)) for image in [*images, *pasted]])
    labels = np.repeat([0, 1], [len(images), len(pasted)])
    distance = LedoitWolf().fit(rows.numpy()).mahalanobis(views.numpy()).reshape(-1, N_VIEWS).mean(1)
    print(f"Gaussian: AUROC {auroc(labels, distance):.4f}")
    for flow_config, noise in CANDIDATES:
        torch.manual_seed(0)
        flow = build_flow(rows.shape[1], flow_config)
        start = time.perf_counter()
        print(f"{flow_config}, noise {noise}")

        def report(stage: str, epoch: int, total: int) -> None:
            if epoch % 15:
                return
            with torch.inference_mode():
                z, log_det_jac = flow(views)  # noqa: B023  called within this turn of the loop
                nll = negative_log_likelihood(z, log_det_jac).view(-1, N_VIEWS).mean(1).numpy()
                score = z.square().mean(1).view(-1, N_VIEWS).mean(1).numpy()
            normal = score[: len(images)]
            print(
                f"  epoch {epoch}: NLL {nll[: len(images)].mean():.3f}, AUROC by z² {auroc(labels, score):.4f}, by "
                f"likelihood {auroc(labels, nll):.4f}, highest / median {normal.max() / np.median(normal):.2f}, "
                f"{time.perf_counter() - start:.0f} s",  # noqa: B023
                flush=True,
            )

        fit_flow(flow, rows, TrainingConfig(epochs=EPOCHS, feature_noise=noise), report)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
