"""DifferNet and AttentDifferNet as a detector: features, a normalizing flow over them, one score per image."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from . import format2, input_choice, paper_recipe
from .attention_training import fit_attention
from .calibration import calibrate, split_normals
from .card import DataCard
from .checkpoint import Checkpoint, read_tensors
from .cross_calibration import cross_calibrate, cross_calibrates
from .detector import Arithmetic, Detector, FitContext
from .errors import ImageError, WeightsError
from .explain import explain, methods_of, what_it_shows
from .features import FEATURES_VERSION, FeatureExtractor
from .findings import Calibration, Findings
from .flow_fitting import fit_flow, fit_gaussian
from .gate_decision import keep_gates_if_better
from .model import AttentDifferNet, ModelConfig, Precision
from .options import ALEXNET, Options, Readout
from .packing import packed, round_as_stored, unpack
from .scoring import RunningScore, faster_precision, score_images, score_images_until_settled
from .sources import ImageSource
from .stages import Progress, no_progress
from .words import VARIANT_TITLES, attention_choices, training_note


class DifferNetDetector(Detector):
    """model: the network, fitted, on the device where the detector runs."""

    def __init__(
        self, model: AttentDifferNet, options: Options, findings: Findings, calibration: Calibration, data: DataCard
    ) -> None:
        self.model, self.options, self.findings = model, options, findings
        self.calibration, self.data = calibration, data

    # -- fitting

    @classmethod
    def choose(
        cls,
        images: Sequence[ImageSource],
        options: Options,
        cache: Path | None = None,
        progress: Progress = no_progress,
        device: torch.device | str = "cpu",
    ) -> Findings:
        return input_choice.choose(images, options, cache, progress, device)

    @classmethod
    def fit(cls, images: Sequence[ImageSource], options: Options, run: FitContext) -> Self:
        findings = run.findings or cls.choose(images, options, run.cache, run.progress, run.device)
        numbers = split_normals(range(len(images)), options)
        fitted, held_out = ([images[k] for k in part] for part in numbers)
        model = AttentDifferNet(ModelConfig.of(options, findings), options.seed).eval().to(run.device)
        together = options.recipe == "paper" and paper_recipe.trains_attention(model.config)  # with the flow
        if options.trains_attention and not together:
            fit_attention(model, fitted, options.attention_seed, run.progress)
        calibration, left_out = Calibration.none(), {}
        if options.recipe == "paper":
            paper_recipe.fit(model, fitted, options, run.progress, after_epoch=partial(run.after_epoch, model))
        else:
            model, features, findings = _to_fit(model, fitted, held_out, options, findings, run)
            gates_have_seen = options.trains_attention and findings.gates_kept
            if run.calibrated and cross_calibrates(len(images), options) and not gates_have_seen:
                fitted = [*fitted, *held_out]
                features = torch.cat([features, _features_of(model, held_out, options, findings, run)])
                calibration, scores = cross_calibrate(
                    model, fitted, features, options, findings.scoring_views, run.cache, run.progress
                )
                left_out = dict(zip([*numbers[0], *numbers[1]], scores, strict=True))
            gaussian = fit_gaussian(model, features.flatten(0, 1))
            fit_flow(model.flow, gaussian, options, run.progress, partial(run.after_epoch, model))
        round_as_stored(model).requires_grad_(False)  # calibrated as a reloaded checkpoint scores
        if run.calibrated and not left_out:
            n_views, rate = findings.scoring_views, options.false_positive_rate
            calibration = calibrate(model, held_out, n_views, rate, run.cache, run.progress)
        findings = dataclasses.replace(findings, feature_scale=model.feature_scale)
        data = dataclasses.replace(run.data, n_fitted=len(fitted))
        detector = cls(model, options, findings, calibration, data)
        detector.left_out = left_out
        return detector

    # -- inspecting

    def scores(
        self, images: Iterable[ImageSource], n_views: int, until_settled: bool, cache: Path | None
    ) -> Iterator[RunningScore | ImageError]:
        if until_settled:
            return score_images_until_settled(self.model, self.calibration, images, n_views)
        return score_images(self.model, images, n_views, cache)

    @property
    def maps(self) -> tuple[str, ...]:
        return tuple(methods_of(self.model.config))

    def raw_map(self, image: np.ndarray, method: str) -> np.ndarray:
        self.check_map(method)
        return explain(self.model, self.model.prepare(image), method)

    def what_it_shows(self, method: str) -> str:
        return what_it_shows(method, self.model.config)

    def compute_in(self, precision: Arithmetic) -> Precision:
        self.model.precision = faster_precision(self.model) if precision == "auto" else precision
        return self.model.precision

    def with_readout(self, readout: Readout) -> Self:
        other = copy.copy(self)
        other.model = self.model.with_options(readout=readout)
        other.findings = dataclasses.replace(self.findings, readout=readout)
        return other

    # -- storing and words

    @property
    def choices(self) -> str:
        return attention_choices(self.options, self.findings.gates_kept, self.findings.gates_judged)

    @property
    def note(self) -> str:
        """One sentence on what the gates can show."""
        return training_note(self.options.variant, self.options.attention, self.findings.gates_kept)

    @property
    def title(self) -> str:
        return VARIANT_TITLES[self.options.variant]

    @property
    def backbone_fingerprint(self) -> str:
        return self.model.weights_fingerprint

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{FEATURES_VERSION} {self.backbone_fingerprint}".encode())
        digest.update(json.dumps(format2.model_of(self.options, self.findings), sort_keys=True).encode())
        if self.findings.value_range is not None:
            digest.update(repr(self.findings.value_range).encode())
        for key, tensor in sorted(self.tensors().items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        return packed(self.model)

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path,
        stored: Checkpoint,
        load_weights: Callable[[str], dict[str, Tensor]] | None,
        device: torch.device,
    ) -> Self:
        options, findings = stored.options, stored.findings
        weights = load_weights(options.weights) if load_weights and options.backbone == ALEXNET else None
        model = AttentDifferNet(ModelConfig.of(options, findings), weights=weights).eval()
        model.feature_scale = findings.feature_scale
        if model.weights_fingerprint != stored.backbone_fingerprint:
            raise WeightsError(
                f"{folder} was made with a backbone of fingerprint {stored.backbone_fingerprint}; "
                f"the weights {options.weights!r} here have {model.weights_fingerprint}"
            )
        unpack(model, read_tensors(folder), str(folder / "model.safetensors"))
        return cls(model.requires_grad_(False).to(device), options, findings, stored.calibration, stored.data)


def _to_fit(
    model: AttentDifferNet,
    fitted: Sequence[ImageSource],
    held_out: Sequence[ImageSource],
    options: Options,
    findings: Findings,
    run: FitContext,
) -> tuple[AttentDifferNet, Tensor, Findings]:
    """Recipe `fast`: the model whose flow is to be fitted, which is another one where its gates do not help, and the
    features (N, V, 768) to fit it to, computed once."""

    def features_of(model: AttentDifferNet) -> Tensor:
        return _features_of(model, fitted, options, findings, run)

    if not options.judges_gates:
        return model, features_of(model), findings
    n_views = findings.scoring_views
    decision = keep_gates_if_better(model, held_out, options, n_views, features_of, run.cache, run.progress)
    kept = decision.model.config.gates_kept
    return (
        decision.model,
        decision.features,
        dataclasses.replace(findings, gates_kept=kept, gates_judged=decision.aurocs),
    )


def _features_of(
    model: AttentDifferNet, images: Sequence[ImageSource], options: Options, findings: Findings, run: FitContext
) -> Tensor:
    extractor = FeatureExtractor(model, run.cache)
    return extractor.random_views(images, findings.training_views, options.data_seed, run.progress)
