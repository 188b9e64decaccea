"""Cards of public data sets: what they show, their licence, and how to get them.

prepare   converts the originals to the MVTec AD layout, with archives, layouts, pickles and wafer
sample    draws the synthetic sample set
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counts:
    """Images of one category: normal ones to train on, normal and anomalous ones to test on."""

    train: int
    test_good: int
    anomalous: int

    def __str__(self) -> str:
        return f"{self.train} normal to train, {self.test_good} normal and {self.anomalous} anomalous to test"


@dataclass(frozen=True)
class DatasetCard:
    """What a model card and a page state about a data set.

    categories: published counts, which `prepare` checks. photographed: what is on the images of a category, in
    sentences. file: an example of the source that `prepare` takes. archive: what to download, and what is in it. split:
    where the split of training and test comes from. checksums: SHA-256 of published files by name. caveat: what is not
    known or was not checked.
    """

    title: str
    description: str
    licence: str
    source: str
    shows: str = ""
    citation: str = ""
    file: str = ""
    archive: str = ""
    split: str = ""
    caveat: str = ""
    categories: Mapping[str, Counts] = field(default_factory=dict)
    photographed: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)


# By the name of the folder that holds the categories.
CARDS = {
    "sample": DatasetCard(
        title="Synthetic sample set",
        description="Synthetic images, drawn by this project's own code; no photographs",
        licence="CC0-1.0 (drawn by this project)",
        source="`attentdiffernet datasets sample`",
        shows="An insulator string outdoors, a gear wheel and a wafer map: four defects each, in three levels, masks.",
        archive="Nothing to download: `attentdiffernet datasets sample --out data/sample` draws it.",
        split="Every image has a scene of its own; no scene is in both training and test.",
        caveat="No benchmark: results on it say nothing about real images.",
        categories={name: Counts(160, 40, 96) for name in ("insulator", "gear", "wafer")},
    ),
    "mvtec_ad": DatasetCard(
        title="MVTec AD",
        description="MVTec AD, official split",
        licence="CC BY-NC-SA 4.0: no commercial use of the images; mind it for what is trained on them",
        source="Bergmann et al., CVPR 2019 and IJCV 2021, mvtec.com/company/research/datasets/mvtec-ad",
        shows="Ten kinds of objects and five textures in the laboratory; 73 kinds of defects, with masks.",
        citation=(
            "P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger: The MVTec Anomaly Detection Dataset. "
            "International Journal of Computer Vision 129, 2021. And: P. Bergmann, M. Fauser, D. Sattlegger, "
            "C. Steger: MVTec AD. CVPR 2019."
        ),
        file="mvtec_anomaly_detection.tar.xz",
        archive=(
            "mvtec_anomaly_detection.tar.xz (5,264,982,680 bytes), or the archive of a single category, or a folder "
            "with what was in it: CATEGORY/train/good/000.png, CATEGORY/test/DEFECT/000.png, "
            "CATEGORY/ground_truth/DEFECT/000_mask.png."
        ),
        split="The official one.",
        caveat="Counts and checksum as public projects report them; not compared with the original file.",
        categories={
            "bottle": Counts(209, 20, 63),
            "cable": Counts(224, 58, 92),
            "capsule": Counts(219, 23, 109),
            "carpet": Counts(280, 28, 89),
            "grid": Counts(264, 21, 57),
            "hazelnut": Counts(391, 40, 70),
            "leather": Counts(245, 32, 92),
            "metal_nut": Counts(220, 22, 93),
            "pill": Counts(267, 26, 141),
            "screw": Counts(320, 41, 119),
            "tile": Counts(230, 33, 84),
            "toothbrush": Counts(60, 12, 30),
            "transistor": Counts(213, 60, 40),
            "wood": Counts(247, 19, 60),
            "zipper": Counts(240, 32, 119),
        },
        photographed={
            "bottle": "One bottle, from above, in the middle of a white ground. Defects: small and large breaks of the "
            "rim, dirt inside."
        },
        checksums={
            "mvtec_anomaly_detection.tar.xz": "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d"
        },
    ),
    "insplad_fault": DatasetCard(
        title="InsPLAD-fault",
        description="InsPLAD-fault, the authors' split for unsupervised anomaly detection",
        licence="CC BY 4.0, as the LICENSE of its repository says",
        source="Vieira e Silva et al., International Journal of Remote Sensing 2023, github.com/andreluizbvs/InsPLAD",
        shows=(
            "Five parts of power lines, cut out of photographs taken from drones: a missing insulator cap, rust, "
            "birds' nests."
        ),
        citation=(
            "A. L. B. Vieira e Silva, H. Felix, F. P. Simões, V. Teichrieb, M. dos Santos, H. Santiago, V. Sgotti, "
            "H. Lott Neto: InsPLAD: A Dataset and Benchmark for Power Line Asset Inspection in UAV Images. "
            "International Journal of Remote Sensing, 2023. doi:10.1080/01431161.2023.2283900"
        ),
        file="unsupervised_anomaly_detection.zip",
        archive=(
            "unsupervised_anomaly_detection.zip (in the folder InsPLAD-fault of the authors' Google Drive, which the "
            "source page links to), or a folder with what was in it: ASSET/train/good, ASSET/test/good, "
            "ASSET/test/DEFECT."
        ),
        split="The authors'.",
        caveat="Counts as published; not compared with the original file. There are no masks.",
        categories={
            "glass-insulator": Counts(2298, 581, 90),
            "lightning-rod-suspension": Counts(462, 117, 50),
            "polymer-insulator-upper-shackle": Counts(935, 235, 102),
            "vari-grip": Counts(477, 114, 111),
            "yoke-suspension": Counts(4834, 1207, 49),
        },
    ),
    "mtd": DatasetCard(
        title="Magnetic Tile Defects",
        description="Magnetic Tile Defects, DifferNet's train/test split",
        licence="Free to use; cite the paper",
        source="Huang, Qiu & Yuan, The Visual Computer 2020, github.com/abin24/Magnetic-tile-defect-datasets.",
        shows="Grey photographs of magnetic tiles: blowholes, breaks, cracks, frayed and uneven ones, with masks.",
        photographed={
            "magnetic_tile": "The surface of a magnetic tile, in grey, cut out so that it fills the picture; the "
            "exposure varies. Defects: blowholes, breaks, cracks, frayed and uneven places."
        },
        citation="Y. Huang, C. Qiu, K. Yuan: Surface defect saliency of magnetic tile. The Visual Computer 36, 2020.",
        file="Magnetic-tile-defect-datasets.-master.zip",
        archive=(
            "The repository as a zip, or a folder with what was in it: MT_Free/Imgs/*.jpg, and MT_Blowhole, MT_Break, "
            "MT_Crack, MT_Fray, MT_Uneven with a mask NAME.png beside each NAME.jpg."
        ),
        split="DifferNet's: its authors publish which normal images they trained on (mtd_train_filenames.txt).",
        categories={"magnetic_tile": Counts(761, 191, 392)},
    ),
    "cplid": DatasetCard(
        title="CPLID",
        description="Windows along the insulator strings of CPLID; a disc is missing in the defective ones",
        licence="Not stated by its authors; images of State Grid of China, cite the paper",
        source="Tao et al., IEEE Transactions on SMC: Systems 2018, github.com/InsulatorData/InsulatorDataSet",
        shows="Insulator strings of power lines before changing backgrounds; a missing disc, with masks.",
        photographed={
            "insulator": "A window along an insulator string of a power line, before any background. Defect: a disc is "
            "missing."
        },
        citation=(
            "X. Tao, D. Zhang, Z. Wang, X. Liu, H. Zhang, D. Xu: Detection of Power Line Insulator Defects Using "
            "Aerial Images Analyzed With Convolutional Neural Networks. IEEE Transactions on Systems, Man, and "
            "Cybernetics: Systems, 2018."
        ),
        file="cplid/",
        archive=(
            "A folder or archive of windows in the layout of MVTec AD: insulator/train/good, insulator/test/good, "
            "insulator/test/missing_disc. How windows are cut is not part of this project."
        ),
        split="Pictures are split before windows are cut: none is in both training and test.",
        caveat="Its makers pasted photographed insulators onto photographed backgrounds: no picture is untouched.",
        categories={"insulator": Counts(296, 91, 60)},
    ),
    "semiconductor_wafer": DatasetCard(
        title="Semiconductor Wafer",
        description="",
        licence="",
        source="",
        shows="What the AttentDifferNet paper calls Semiconductor Wafer.",
        file="wafers/",
        archive="A folder or archive of your own with a folder good and one folder per defect.",
        split="A fifth of the normal images, drawn by a hash of their names, is held out for the test.",
        caveat="The paper names no source, size or licence of its images; for public wafer maps see wm811k, mixedwm38.",
    ),
    "wm811k": DatasetCard(
        title="WM-811K",
        description="WM-811K wafer maps with a label, drawn as images",
        licence="CC0 1.0, as its page at Kaggle says",
        source="Wu, Jang & Chen, IEEE TSM 2015, kaggle.com/datasets/qingyi/wm811k-wafer-map",
        shows="Test maps of real wafers: 147,431 without a pattern of failures, 25,519 with one of eight.",
        citation=(
            "M.-J. Wu, J.-S. R. Jang, J.-L. Chen: Wafer Map Failure Pattern Recognition and Similarity Ranking for "
            "Large-Scale Data Sets. IEEE Transactions on Semiconductor Manufacturing 28(1), 2015. "
            "doi:10.1109/TSM.2014.2364237"
        ),
        file="LSWMD.pkl --limit 2000",
        archive=(
            "LSWMD.pkl (2,095,505,977 bytes), or the zip with it. The file is a pickle, which can hold a program: the "
            "table is read from it without running anything."
        ),
        split=(
            "The file's column trianTestLabel splits the wafers without a pattern; all with a pattern go to the "
            "test. 638,507 wafers without a label are left out. Wafers of one lot may be in both training and test."
        ),
        caveat="Counts and checksum as public projects report them; not compared with the original file.",
        checksums={"LSWMD.pkl": "1d04fccb3dd3176b276878b926b20fead7e077c5751e4d353ea9741a5e7b5c65"},
    ),
    "mixedwm38": DatasetCard(
        title="MixedWM38",
        description="MixedWM38 wafer maps, drawn as images",
        licence="Not stated by its authors",
        source="Wang et al., IEEE TSM 2020, github.com/Junliangwangdhu/WaferMap",
        shows="Test maps of wafers, partly generated: eight patterns of failures, 29 mixtures of them, and none.",
        citation=(
            "J. Wang, C. Xu, Z. Yang, J. Zhang, X. Li: Deformable Convolutional Networks for Efficient Mixed-Type "
            "Wafer Defect Pattern Recognition. IEEE Transactions on Semiconductor Manufacturing 33(4), 2020."
        ),
        file="Wafer_Map_Datasets.npz",
        archive="The .npz with arr_0 (38015, 52, 52) and arr_1 (38015, 8), or the zip with it.",
        split="A fifth of the 1,000 wafers without a pattern, by a hash of their numbers, is held out for the test.",
        caveat="A few maps hold a stray value 3, which is read as a failed die, as others do.",
        categories={"wafer": Counts(800, 200, 37015)},
    ),
}

# The user's own images, prepared by the same command.
FOLDER = DatasetCard(
    title="A folder of your own",
    description="",
    licence="yours to state: `attentdiffernet train ... --licence`",
    source="you",
    shows="Anything, as long as normal images show the same kind of part in the same kind of view.",
    file="photographs/ --category bolt",
    archive=(
        "A folder or archive with a folder good (or normal, or ok) and one folder per defect; or name the folders "
        "with --normal and --anomalous; or the MVTec AD layout itself."
    ),
    split=(
        "A fifth of the normal images (--held-out), drawn by a hash of their names, is held out for the test; all "
        "anomalous ones go there. A folder in the MVTec AD layout keeps its own split."
    ),
)


def dataset_title(dataset: str) -> str:
    return CARDS[dataset].title if dataset in CARDS else dataset


def category_title(key: str) -> str:
    """Of `DATASET/CATEGORY`: `Wafer map (synthetic)`, `Bottle (MVTec AD)`."""
    from .sample import CATEGORIES

    dataset, name = key.split("/")
    if dataset == "sample" and name in CATEGORIES:
        return f"{CATEGORIES[name].title} (synthetic)"
    return f"{name.replace('_', ' ').capitalize()} ({dataset_title(dataset)})"
