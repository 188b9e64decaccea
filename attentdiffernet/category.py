"""One category on disk, in the MVTec AD layout: normal images to train on, labelled ones to test on, masks."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import DatasetError
from .images import IMAGE_SUFFIXES, images_below

MASK_ENDINGS = ("_mask", "_GT", "_gt", "")  # of a file name without suffix (MVTec AD; KolektorSDD2; BTAD)
MASK_SUFFIXES = sorted(IMAGE_SUFFIXES, key=lambda suffix: (suffix != ".png", suffix))  # PNG first


@dataclass(frozen=True)
class InspectionImage:
    """One image file of a data set. `name` is its path below `train` or `test`; `label` 0 normal, 1 anomalous."""

    path: Path
    name: str
    defect: str
    label: int


class InspectionDataset:
    """One category in the MVTec AD layout: CATEGORY/train/good, CATEGORY/test/good, CATEGORY/test/DEFECT.

    Images may lie in subfolders of these (test/crack/camera-1/001.png); masks then lie in the same subfolders. Hidden
    files and folders are left out, and linked subfolders are not entered. A folder of photographs without subfolders of
    images is one of good parts to train on. Raises DatasetError where the folder, `train/good` or (when asked for)
    `test` is missing or holds no images.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetError(f"There is no folder {self.root}")

    @property
    def category(self) -> str:
        return self.root.resolve().name

    @property
    def dataset(self) -> str:
        """The folder above; of photographs, which lie anywhere, nothing that a model card would make public."""
        root = self.root.resolve()
        return root.parent.name if (root / "train").is_dir() or (root / "test").is_dir() else "own"

    @cached_property
    def train(self) -> list[InspectionImage]:
        """The normal images in train/good and its subfolders, sorted by name; else the photographs of the folder."""
        folder = self.root / "train" / "good"
        if not folder.is_dir():
            if photographs := self._photographs():
                return photographs
            raise DatasetError(f"{self.root} has no folder train/good with normal images to train on")
        if not (images := list(_images_in(folder))):
            raise DatasetError(f"{folder} and its subfolders hold no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return images

    def _photographs(self) -> list[InspectionImage]:
        """Those that lie in the folder itself. Images in a subfolder may be of defects: they raise DatasetError."""
        paths = [Path(file) for file in images_below(str(self.root))]
        own = [path for path in paths if path.parent == self.root]
        if own and len(own) < len(paths):
            below = next(path for path in paths if path.parent != self.root).relative_to(self.root).parts[0]
            raise DatasetError(
                f"{self.root} has no folder train/good, but photographs, and a folder {below} with images: to train on "
                "photographs of good parts, put them into a folder of their own"
            )
        return [InspectionImage(path, f"good/{path.name}", "good", 0) for path in own]

    @cached_property
    def test(self) -> list[InspectionImage]:
        """The labelled images in test/good, test/DEFECT and their subfolders, sorted by defect and name."""
        folder = self.root / "test"
        if not folder.is_dir():
            raise DatasetError(f"{self.root} has no folder test with test/good and test/DEFECT")
        defects = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        images = [image for defect in defects for image in _images_in(defect)]
        if not images:
            raise DatasetError(f"{folder} holds no images in test/good or test/DEFECT")
        return images

    def test_of_both_kinds(self) -> list[InspectionImage]:
        """As `test`. Raises DatasetError where all images are normal or all are anomalous: no AUROC or ROC curve."""
        for label, what in enumerate(("normal images in test/good", "anomalous images in test/DEFECT")):
            if not any(image.label == label for image in self.test):
                raise DatasetError(
                    f"{self.root / 'test'} holds no {what}; an AUROC or a ROC curve needs normal and anomalous images"
                )
        return self.test

    def mask_path(self, image: InspectionImage) -> Path | None:
        """The defect mask of a test image, or None.

        For test/DEFECT/NAME.jpg it is ground_truth/DEFECT/NAME_mask.png, NAME_GT.png or NAME.png, or the same with
        another suffix of an image.
        """
        return self._mask("ground_truth", image)

    def object_path(self, image: InspectionImage) -> Path | None:
        """The mask of the whole part without its background, or None: in `objects`, named as in `ground_truth`.

        MVTec AD has none; the sample set has.
        """
        return self._mask("objects", image)

    def _mask(self, kind: str, image: InspectionImage) -> Path | None:
        stem = (self.root / kind / image.name).with_suffix("")
        names = (f"{stem.name}{ending}{suffix}" for ending in MASK_ENDINGS for suffix in MASK_SUFFIXES)
        return next((path for name in names if (path := stem.parent / name).is_file()), None)


def image_of_mask(mask: str, images: Collection[str]) -> str | None:
    """The image that a mask belongs to by its name, or None. Both are paths below ground_truth and test, the images
    without suffix: `crack/001_mask.png` belongs to `crack/001`."""
    stem = mask.rpartition(".")[0]
    names = (stem.removesuffix(ending) for ending in MASK_ENDINGS if stem.endswith(ending))
    return next((name for name in names if name in images), None)


def _images_in(folder: Path) -> Iterator[InspectionImage]:
    """The images in test/DEFECT, or train/good, and its subfolders."""
    for file in images_below(str(folder)):
        path = Path(file)
        name = path.relative_to(folder.parent).as_posix()
        yield InspectionImage(path, name, folder.name, int(folder.name != "good"))
