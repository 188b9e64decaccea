"""How attention is best trained, on training normals alone: no test image is read.

    python -m scripts.choose_attention mvtec_ad/bottle mtd/magnetic_tile      below $ATTENTDIFFERNET_DATA
    python -m scripts.choose_attention --half mtd/magnetic_tile               quicker: see below

Normals held out and the same with synthetic defects (two of each, other ones than training draws) are told apart by a
detector of each variant and training, whose gates are kept even where they do not help; prints and adds to
benchmarks/attention.csv the AUROC. By default that detector is the whole one: all scales, four quarter turns, exposure
by the rule, the flow. With --half it is the Gaussian of the half and quarter scale, which gates are trained at: the
default training was chosen so, and the whole detector does not bear it out.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import pandas as pd
import torch

from attentdiffernet.attention_training import fit_attention
from attentdiffernet.calibration import split_normals
from attentdiffernet.category import InspectionDataset
from attentdiffernet.features import FeatureExtractor, default_cache
from attentdiffernet.files import replace_file
from attentdiffernet.flow_fitting import fit_flow, fit_gaussian
from attentdiffernet.input_choice import exposure_for, spread_of_exposure
from attentdiffernet.model import AttentDifferNet, ModelConfig
from attentdiffernet.options import AttentionConfig, Options
from attentdiffernet.study.statistics import auroc
from attentdiffernet.synthetic_defects import DefectTest
from benchmarks.data import folder_of

OUT = Path(__file__).resolve().parent.parent / "benchmarks" / "attention.csv"
TRAININGS = ("untrained", "joint", "proxy", "separation")
HELD_OUT, DEFECTS, VIEWS = 80, 2, 4


def measure(name: str, variant: str, training: str, seed: int, half: bool) -> dict[str, object]:
    options = Options(seed=seed)
    train = InspectionDataset(folder_of(name)).train
    paths, held_out = split_normals([image.path for image in train], options)
    blocks = AttentionConfig(training=training)  # type: ignore[arg-type]
    size = {"image_size": 224, "n_scales": 2} if half else {}
    exposure = exposure_for(spread_of_exposure(paths))
    config_of_gates = ModelConfig(variant, blocks, views="quarter_turns", exposure=exposure)  # type: ignore[arg-type]
    full = AttentDifferNet(config_of_gates, seed).eval()
    start = time.perf_counter()
    kept = 0 if training == "untrained" or variant == "none" else fit_attention(full, paths, seed)
    seconds = time.perf_counter() - start
    readout = "gaussian_of_mean" if half else "z2_of_mean"
    model = AttentDifferNet(dataclasses.replace(config_of_gates, readout=readout, **size), seed).eval()  # type: ignore[arg-type]
    model.backbone.load_state_dict(full.backbone.state_dict())
    rng = torch.Generator().manual_seed(77)
    test = DefectTest(held_out[:HELD_OUT], DEFECTS, model.config.image_size, model.config.least_side, rng)
    extractor = FeatureExtractor(model, default_cache())
    rows = fit_gaussian(model, extractor.random_views(paths, VIEWS, options.data_seed).flatten(0, 1))
    if not half:
        fit_flow(model.flow, rows, options)
    features = torch.stack(list(extractor.of_tensors(test.inputs(model), model.views(VIEWS))))
    with torch.inference_mode():
        area = auroc(test.labels, model.score(features).tolist())
    row: dict[str, object] = {"category": name, "variant": variant}
    row |= {"detector": "half scale, Gaussian" if half else "whole"}
    row |= {"attention_training": "" if variant == "none" else training, "seed": seed, "auroc_synthetic": area}
    return row | {"steps": kept, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", help="DATASET/CATEGORY")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trainings", nargs="+", default=TRAININGS, choices=TRAININGS)
    asked = parser.parse_args()
    for name in asked.categories:
        for variant, trainings in (("none", ["separation"]), ("se", asked.trainings), ("cbam", asked.trainings)):
            for training in trainings:
                for seed in asked.seeds:
                    row = measure(name, variant, training, seed, asked.half)
                    print(row, flush=True)
                    rows = pd.DataFrame([row])
                    if OUT.exists():
                        rows = pd.concat([pd.read_csv(OUT, keep_default_na=False), rows])
                    keys = ["category", "detector", "variant", "attention_training", "seed"]
                    rows = rows.drop_duplicates(keys, keep="last").sort_values(keys)
                    with replace_file(OUT) as file:
                        file.write(rows.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())


if __name__ == "__main__":
    main()
