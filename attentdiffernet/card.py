"""The model card: what a model was trained on, in numbers and in words."""

from dataclasses import dataclass
from typing import Self

from .category import InspectionDataset
from .checked import Checked
from .datasets import CARDS, DatasetCard
from .findings import Calibration, Findings
from .options import ALEXNET, Options
from .words import (
    PATCHCORE_READOUTS,
    READOUTS,
    attention_choices,
    input_title,
    percent,
    training_note,
    variant_title,
)


@dataclass(frozen=True)
class DataCard(Checked):
    """What a model was trained on. n_fitted: images the detector has seen; held-out ones come on top."""

    dataset: str = "images"
    category: str = "parts"
    n_fitted: int = 0
    description: str = ""
    licence: str = ""
    source: str = ""

    @classmethod
    def of(cls, dataset: InspectionDataset, description: str = "", licence: str = "", source: str = "") -> Self:
        """Of one category; what is not given is that of the data set, if it is known."""
        known = CARDS.get(dataset.dataset, DatasetCard("", "", "", ""))
        return cls(
            dataset.dataset,
            dataset.category,
            description=description or known.description,
            licence=licence or known.licence,
            source=source or known.source,
        )


def model_card(
    options: Options, findings: Findings, calibration: Calibration, data: DataCard, backbone_fingerprint: str
) -> str:
    """Markdown with the Hub's front matter: what the model is, what it was trained on, how it decides, its limits."""
    of_patchcore = options.method == "patchcore"
    seen = input_title(findings.views, findings.resize, findings.exposure)
    tag = "memory-bank" if of_patchcore else "normalizing-flow"
    front = ["---", "library_name: attentdiffernet", "pipeline_tag: image-classification", "tags:"]
    front += [f"- {tag}" for tag in ("anomaly-detection", "industrial-inspection", tag)] + ["---"]
    lines = [
        *front,
        "",
        f"# {variant_title(options.key)}: {data.category}",
        "",
        f"Gives one anomaly score per image; trained on normal images of *{data.category}* ({data.dataset}) only.",
        "",
        "| | |",
        "| --- | --- |",
        f"| Data | {data.description or data.dataset} |",
        f"| Source | {data.source or 'not stated'} |",
        f"| Licence of the data | {data.licence or 'not stated'} |",
        *(_patchcore_rows if of_patchcore else _differnet_rows)(
            options, findings, calibration, data, backbone_fingerprint
        ),
        f"| Score | {(READOUTS | PATCHCORE_READOUTS)[findings.readout]}; {calibration.n_views} views ({seen}); "
        "higher = more anomalous, not a probability |",
        *([f"| Grey values | 0 to {findings.value_range:g} |"] if findings.value_range else []),
        f"| Threshold | {calibration.threshold:.6g}, flags at most "
        f"{percent(calibration.false_positive_rate)} % of normal images on average |",
        "",
        *([] if options.key == "patchcore" else _attention_notes(options, findings)),
        "The score says nothing about parts of another kind, another camera or other light than in the training",
        "images.",
    ]
    return "\n".join(lines) + "\n"


def _differnet_rows(
    options: Options, findings: Findings, calibration: Calibration, data: DataCard, backbone_fingerprint: str
) -> list[str]:
    flow = options.flow
    views = "cached" if options.recipe == "fast" else "ever new"
    whitened = "features whitened, " if flow.whitening else ""
    return [
        _images_row(calibration, data),
        f"| Backbone | {_network(options)}, weights `{options.weights}`, frozen, "
        f"fingerprint `{backbone_fingerprint}` |",
        _attention_row(options, findings),
        f"| Flow | {whitened}{flow.n_blocks} coupling blocks, {flow.hidden_layers} hidden layers of "
        f"{flow.hidden_width}, stored in half precision |",
        f"| Training | {options.epochs} epochs, fixed in advance, on {findings.training_views} {views} views per "
        f"image, seed {options.seed} |",
    ]


def _images_row(calibration: Calibration, data: DataCard) -> str:
    n_scored = len(calibration.scores)
    if calibration.cross_validated:
        return f"| Normal images | {data.n_fitted}; {n_scored} of them set the threshold (cross-validation) |"
    return f"| Normal images | {data.n_fitted} fitted, {n_scored} held out for the threshold |"


def _network(options: Options) -> str:
    if options.backbone == ALEXNET:
        return "AlexNet features"
    return f"`{options.backbone}`, feature map of stride 32 px"


def _patchcore_rows(
    options: Options, findings: Findings, calibration: Calibration, data: DataCard, backbone_fingerprint: str
) -> list[str]:
    sizes = options.patchcore
    strides = " and ".join(map(str, sizes.strides))
    return [
        _images_row(calibration, data),
        f"| Backbone | `{options.backbone}`, feature maps of stride {strides} px, weights `{options.weights}`, frozen, "
        f"fingerprint `{backbone_fingerprint}` |",
        *([] if options.variant == "none" else [_attention_row(options, findings)]),
        f"| Bank | at most {sizes.bank_size} normal places, greedy coreset{', whitened' * sizes.whitening}, stored in "
        f"half precision, seed {options.seed} |",
    ]


def _attention_row(options: Options, findings: Findings) -> str:
    return f"| Attention | {attention_choices(options, findings.gates_kept, findings.gates_judged)} |"


def _attention_notes(options: Options, findings: Findings) -> list[str]:
    return [
        training_note(options.variant, options.attention, findings.gates_kept),
        "",
        "Placement, reduction and training of the attention blocks are choices of this reproduction: the authors of",
        "AttentDifferNet (e Silva et al., WACV 2024) published no code.",
    ]
