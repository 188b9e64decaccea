"""How well the maps of a detector locate defects: every map against the masks of a category."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from .category import InspectionDataset, InspectionImage
from .detector import Detector
from .errors import DatasetError
from .images import marks_something, read_mask
from .study.localisation import PixelCounts, brought_to, count_pixels
from .study.maps import excess, localise


def images_with_masks(dataset: InspectionDataset, limit: int | None = None) -> list[InspectionImage]:
    """The anomalous test images whose defect has a mask that marks something; of each defect the first `limit` by name,
    never by score.

    Raises DatasetError where there is none.
    """
    found: dict[str, list[InspectionImage]] = {}
    for image in dataset.test:
        path = dataset.mask_path(image) if image.label else None
        if path and marks_something(path):
            found.setdefault(image.defect, []).append(image)
    if not found:
        raise DatasetError(f"{dataset.root} has no masks of its test images, such as ground_truth/DEFECT/NAME_mask.png")
    return [image for images in found.values() for image in images[:limit]]


def normal_images(dataset: InspectionDataset, limit: int | None = None) -> list[InspectionImage]:
    """The normal test images, or the first `limit` by name."""
    return [image for image in dataset.test if not image.label][:limit]


def measure_maps(
    detector: Detector, dataset: InspectionDataset, images: Sequence[InspectionImage]
) -> Iterator[tuple[list[dict[str, object]], dict[str, PixelCounts]]]:
    """For each image, normal or with a mask, the rows of `study.records.MAP_COLUMNS` (every map of the model, raw and
    above what held-out normals reach, against the mask of the defect and, where it is known, of the object; none for a
    normal image), and by map how many pixels have which value."""
    references = {method: detector.map_reference(method) for method in detector.maps}
    for image in images:
        pixels = detector.read(image.path)
        shape = (pixels.shape[0], pixels.shape[1])
        paths = {"defect": dataset.mask_path(image), "object": dataset.object_path(image)} if image.label else {}
        masks = {target: read_mask(path, shape) for target, path in paths.items() if path}
        rows: list[dict[str, object]] = []
        counts: dict[str, PixelCounts] = {}
        for method, reference in references.items():
            heatmap = detector.raw_map(pixels, method)
            of_defect = masks.get("defect", np.zeros(shape, bool))
            counts[method] = count_pixels(brought_to(heatmap / np.float32(reference), shape), of_defect)
            for kind, values in (("raw", heatmap), ("excess", excess(heatmap, reference))):
                for target, mask in masks.items():
                    found = asdict(localise(values, mask)) | {"method": method, "map": kind, "target": target}
                    rows.append({"image": image.name, "defect": image.defect, **found})
        yield rows, counts
