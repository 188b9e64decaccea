"""The model card: what a model was trained on, in numbers and in words."""

from dataclasses import dataclass
from typing import Self

from .category import InspectionDataset
from .checked import Checked
from .datasets import CARDS, DatasetCard
from .findings import Calibration, Findings
from .options import ALEXNET, MEASURED_VARIANTS, Options
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
    from .study.formats import counted  # these load pandas
    from .study.tables import Column, Table, markdown_text

    of_patchcore = options.method == "patchcore"
    seen = input_title(findings.views, findings.resize, findings.exposure)
    tag = "memory-bank" if of_patchcore else "normalizing-flow"
    front = ["---", "library_name: attentdiffernet", "pipeline_tag: image-classification", "tags:"]
    front += [f"- {tag}" for tag in ("anomaly-detection", "industrial-inspection", tag)] + ["---"]
    rows = {
        "Data": data.description or data.dataset,
        "Source": data.source or "not stated",
        "Licence of the data": data.licence or "not stated",
        "Normal images": _images(calibration, data),
        **(_patchcore_rows if of_patchcore else _differnet_rows)(options, findings, backbone_fingerprint),
        "Score": f"{(READOUTS | PATCHCORE_READOUTS)[findings.readout]}; "
        f"{counted(calibration.n_views, 'view')} ({seen}); "
        "higher = more anomalous, not a probability",
        **({"Grey values": f"0 to {findings.value_range:g}"} if findings.value_range else {}),
        "Threshold": f"{calibration.threshold:.6g}, flags at most {percent(calibration.false_positive_rate)} % of "
        "normal images on average",
    }
    dataset, category = markdown_text(data.dataset), markdown_text(data.category)
    lines = [
        *front,
        "",
        f"# {variant_title(options.key)}: {category}",
        "",
        f"Gives one anomaly score per image; trained on normal images of *{category}* ({dataset}) only.",
        "",
        Table([Column(""), Column("")], list(rows.items())).markdown(),
        *([] if options.key == "patchcore" else _attention_notes(options, findings)),
        "The score says nothing about parts of another kind, another camera or other light than in the training",
        "images.",
    ]
    return "\n".join(lines) + "\n"


def _differnet_rows(options: Options, findings: Findings, backbone_fingerprint: str) -> dict[str, str]:
    flow = options.flow
    views = "cached" if options.recipe == "fast" else "ever new"
    whitened = "features whitened, " if flow.whitening else ""
    return {
        "Backbone": f"{_network(options)}, {_frozen(options, backbone_fingerprint)}",
        "Attention": attention_choices(options, findings.gates_kept, findings.gates_judged),
        "Flow": f"{whitened}{flow.n_blocks} coupling blocks, {flow.hidden_layers} hidden layers of "
        f"{flow.hidden_width}, stored in half precision",
        "Training": f"{options.epochs} epochs, fixed in advance, on {findings.training_views} {views} views per "
        f"image, seed {options.seed}",
    }


def _images(calibration: Calibration, data: DataCard) -> str:
    n_scored = len(calibration.scores)
    if calibration.cross_validated:
        return f"{data.n_fitted}; {n_scored} of them set the threshold (cross-validation)"
    return f"{data.n_fitted} fitted, {n_scored} held out for the threshold"


def _frozen(options: Options, backbone_fingerprint: str) -> str:
    return f"weights `{options.weights}`, frozen, fingerprint `{backbone_fingerprint}`"


def _network(options: Options) -> str:
    if options.backbone == ALEXNET:
        return "AlexNet features"
    return f"`{options.backbone}`, feature map of stride 32 px"


def _patchcore_rows(options: Options, findings: Findings, backbone_fingerprint: str) -> dict[str, str]:
    sizes = options.patchcore
    strides = " and ".join(map(str, sizes.strides))
    attention = attention_choices(options, findings.gates_kept, findings.gates_judged)
    return {
        "Backbone": f"`{options.backbone}`, feature maps of stride {strides} px, "
        f"{_frozen(options, backbone_fingerprint)}",
        **({} if options.variant == "none" else {"Attention": attention}),
        "Bank": f"at most {sizes.bank_size} normal places, greedy coreset{', whitened' * sizes.whitening}, stored in "
        f"half precision, seed {options.seed}",
    }


def _attention_notes(options: Options, findings: Findings) -> list[str]:
    judged = bool(findings.gates_judged)
    note = [training_note(options.variant, options.attention, findings.gates_kept, judged), ""]
    if options.method == "patchcore" or options.variant in MEASURED_VARIANTS:
        return note
    return [
        *note,
        "Placement, reduction and training of the attention blocks are choices of this reproduction: the authors of",
        "AttentDifferNet (e Silva et al., WACV 2024) published no code.",
    ]
