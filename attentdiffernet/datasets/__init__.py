"""Where images come from: cards of public data sets, and the synthetic sample set (`sample.py`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetCard:
    """What a model card and a page must say about a data set."""

    title: str
    description: str
    licence: str
    source: str


# By the name of the folder that holds the categories.
CARDS = {
    "sample": DatasetCard(
        "Synthetic sample set",
        "Synthetic images, drawn by this project's own code; no photographs",
        "CC0-1.0 (drawn by this project)",
        "`attentdiffernet datasets sample`",
    ),
    "mvtec_ad": DatasetCard(
        "MVTec AD",
        "MVTec AD, official split, resized to 448 x 448 px",
        "CC BY-NC-SA 4.0: no commercial use of the images; mind it for what is trained on them",
        "Bergmann et al., CVPR 2019 and IJCV 2021, mvtec.com/company/research/datasets/mvtec-ad",
    ),
    "mtd": DatasetCard(
        "Magnetic Tile Defects",
        "Magnetic Tile Defects, DifferNet's train/test split",
        "Free to use; cite the paper",
        "Huang, Qiu & Yuan, The Visual Computer 2020, github.com/abin24/Magnetic-tile-defect-datasets.",
    ),
    "insplad_fault": DatasetCard("InsPLAD-fault", "", "", ""),
    "semiconductor_wafer": DatasetCard("Semiconductor Wafer", "", "", ""),
}
