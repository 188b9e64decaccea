"""How well the maps of a detector locate defects: every map against the masks of a category."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from .category import InspectionDataset, InspectionImage
from .detector import Detector
from .errors import DatasetError
from .images import read_image, read_mask
from .study.maps import excess, localise


def images_with_masks(dataset: InspectionDataset, limit: int | None = None) -> list[InspectionImage]:
    """The anomalous test images whose defect has a mask; of each defect the first `limit` by name, never by score.

    Raises DatasetError where there is none.
    """
    found: dict[str, list[InspectionImage]] = {}
    for image in dataset.test:
        if image.label and dataset.mask_path(image):
            found.setdefault(image.defect, []).append(image)
    if not found:
        raise DatasetError(f"{dataset.root} has no masks of its test images, such as ground_truth/DEFECT/NAME_mask.png")
    return [image for images in found.values() for image in images[:limit]]


def measure_maps(
    detector: Detector, dataset: InspectionDataset, images: Sequence[InspectionImage]
) -> Iterator[list[dict[str, object]]]:
    """For each image the rows of `study.records.MAP_COLUMNS`: every map of the model, raw and above what held-out
    normals reach, against the mask of the defect and, where it is known, of the object."""
    references = {method: detector.map_reference(method) for method in detector.maps}
    for image in images:
        pixels = read_image(image.path)
        paths = {"defect": dataset.mask_path(image), "object": dataset.object_path(image)}
        masks = {target: read_mask(path, pixels.shape[:2]) for target, path in paths.items() if path}
        rows: list[dict[str, object]] = []
        for method, reference in references.items():
            heatmap = detector.raw_map(pixels, method)
            for kind, values in (("raw", heatmap), ("excess", excess(heatmap, reference))):
                for target, mask in masks.items():
                    found = asdict(localise(values, mask)) | {"method": method, "map": kind, "target": target}
                    rows.append({"image": image.name, "defect": image.defect, **found})
        yield rows
