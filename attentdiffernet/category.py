"""One category on disk, in the MVTec AD layout: normal images to train on, labelled ones to test on, masks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import DatasetError
from .images import IMAGE_SUFFIXES, is_image


@dataclass(frozen=True)
class InspectionImage:
    """One image file of a data set. `name` is its path below `train` or `test`; `label` 0 normal, 1 anomalous."""

    path: Path
    name: str
    defect: str
    label: int


class InspectionDataset:
    """One category in the MVTec AD layout: CATEGORY/train/good, CATEGORY/test/good, CATEGORY/test/DEFECT.

    Raises DatasetError where the folder, `train/good` or (when asked for) `test` is missing or holds no images.
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
        return self.root.resolve().parent.name

    @cached_property
    def train(self) -> list[InspectionImage]:
        """The normal images in train/good, sorted by name."""
        folder = self.root / "train" / "good"
        if not folder.is_dir():
            raise DatasetError(f"{self.root} has no folder train/good with normal images to train on")
        if not (images := _images_in(folder, "good")):
            raise DatasetError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return images

    @cached_property
    def test(self) -> list[InspectionImage]:
        """The labelled images in test/good and test/DEFECT, sorted by defect and name."""
        folder = self.root / "test"
        if not folder.is_dir():
            raise DatasetError(f"{self.root} has no folder test with test/good and test/DEFECT")
        images = [
            image
            for defect in sorted(path for path in folder.iterdir() if path.is_dir())
            for image in _images_in(defect, defect.name)
        ]
        for label, what in ((0, "normal images in test/good"), (1, "anomalous images in test/DEFECT")):
            if not any(image.label == label for image in images):
                raise DatasetError(f"{folder} holds no {what}")
        return images

    def mask_path(self, image: InspectionImage) -> Path | None:
        """The defect mask ground_truth/DEFECT/NAME_mask.png of a test image, or None."""
        return self._mask("ground_truth", image)

    def object_path(self, image: InspectionImage) -> Path | None:
        """The mask objects/DEFECT/NAME_mask.png of the whole part, without its background, or None. MVTec AD has none;
        the sample set has."""
        return self._mask("objects", image)

    def _mask(self, kind: str, image: InspectionImage) -> Path | None:
        path = self.root / kind / image.defect / f"{image.path.stem}_mask.png"
        return path if path.is_file() else None


def _images_in(folder: Path, defect: str) -> list[InspectionImage]:
    return [
        InspectionImage(path, f"{defect}/{path.name}", defect, int(defect != "good"))
        for path in sorted(folder.iterdir())
        if is_image(path)
    ]
