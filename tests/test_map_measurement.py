"""Maps against masks: which images are measured, and that the map measured is the map shown."""

import numpy as np
import pytest
from PIL import Image

from attentdiffernet.category import InspectionDataset
from attentdiffernet.errors import DatasetError
from attentdiffernet.images import read_image, read_mask
from attentdiffernet.map_measurement import images_with_masks, measure_maps, normal_images
from attentdiffernet.study.maps import localise


def test_the_first_images_of_each_defect_are_measured(tmp_path):
    for name in ("good/0.png", "crack/b.png", "crack/a.png", "crack/c.png", "rust/z.png", "rust/y.png"):
        defect, stem = name[:-4].split("/")
        for path in (tmp_path / "test" / name, tmp_path / "ground_truth" / defect / f"{stem}_mask.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), 255).save(path)
    (tmp_path / "ground_truth/crack/a_mask.png").unlink()
    Image.new("L", (16, 16), 0).save(tmp_path / "ground_truth/rust/x_mask.png")  # as one of the magnetic tiles
    Image.new("L", (16, 16), 255).save(tmp_path / "test/rust/x.png")
    dataset = InspectionDataset(tmp_path)
    assert [i.name for i in images_with_masks(dataset, 1)] == ["crack/b.png", "rust/y.png"]
    assert [i.name for i in images_with_masks(dataset)] == ["crack/b.png", "crack/c.png", "rust/y.png", "rust/z.png"]
    for path in tmp_path.glob("ground_truth/*/*"):
        path.unlink()
    with pytest.raises(DatasetError, match="has no masks"):
        images_with_masks(dataset)


def test_what_is_measured_is_the_map_of_explain(detector, category):
    se, dataset = detector("se"), InspectionDataset(category)
    image = images_with_masks(dataset)[1]
    normal = normal_images(dataset, 1)
    (rows, counts), (none, of_normal) = measure_maps(se, dataset, [image, *normal])
    found = {(row["method"], row["map"], row["target"]): row for row in rows}
    assert len(found) == len(rows) == 3 * 2 * 2
    pixels = read_image(image.path)
    heatmap = se.raw_map(pixels, "gradient")
    whole = read_mask(dataset.object_path(image), pixels.shape[:2])
    expected = localise(heatmap, whole)
    row = found["gradient", "raw", "object"]
    assert (row["energy"], row["hit"], row["chance"], row["empty"]) == (
        expected.energy,
        expected.hit,
        expected.chance,
        False,
    )
    assert none == [] and set(counts) == set(of_normal) == set(se.maps)
    on_defect = read_mask(dataset.mask_path(image), pixels.shape[:2]).sum()
    assert counts["gradient"].anomalous.sum() == on_defect and not of_normal["gradient"].anomalous.any()
    assert counts["gradient"].normal.sum() == pixels.shape[0] * pixels.shape[1] - on_defect
    above = localise(np.maximum(heatmap - 0.5, 0), whole)  # the fixture's references are 0.5
    assert found["gradient", "excess", "object"]["empty"] == above.empty
    assert found["gradient", "excess", "object"]["energy"] == above.energy
    assert found["gradient", "raw", "defect"]["chance"] < row["chance"]
