"""The synthetic sample set: same arguments, same bytes; a defect differs from its normal twin inside the mask only."""

import functools
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from attentdiffernet.datasets import sample
from attentdiffernet.datasets.sample import CATEGORIES, SIZE, insulator, write, writing
from attentdiffernet.errors import DatasetError

DEFECTS = [(category, defect) for category, known in CATEGORIES.items() for defect in known.defects]
PICTURES = DEFECTS + [(category, "good") for category in CATEGORIES]

draw = functools.cache(sample.draw)  # tests look at the same few pictures


def digest(category: str, defect: str, seed: int) -> str:
    drawn = sample.draw(category, defect, seed)
    return hashlib.sha256(drawn.image.tobytes() + drawn.mask.tobytes()).hexdigest()


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("category", "defect"), PICTURES)
def test_a_picture_is_a_pure_function_of_its_arguments(category, defect):
    before = np.random.get_state()[1].tobytes()
    assert digest(category, defect, 0) == digest(category, defect, 0) != digest(category, defect, 1)
    assert before == np.random.get_state()[1].tobytes(), "global random state was used"


# Mean of the image of seed 0, and pixels of its mask. Shipped models and committed scores are of these pictures.
DRAWN = (
    ("insulator", "good", 81.74, 0),
    ("insulator", "missing_cap", 81.30, 6131),
    ("insulator", "broken_cap", 81.69, 1578),
    ("insulator", "corrosion", 81.56, 2114),
    ("insulator", "flashover", 81.69, 678),
    ("gear", "good", 96.24, 0),
    ("gear", "broken_tooth", 96.10, 1824),
    ("gear", "dent", 96.22, 370),
    ("gear", "scratch", 96.24, 84),
    ("gear", "stain", 96.06, 2663),
    ("wafer", "good", 59.29, 0),
    ("wafer", "centre", 59.63, 1440),
    ("wafer", "edge_ring", 60.44, 4800),
    ("wafer", "scratch", 60.05, 3120),
    ("wafer", "donut", 62.29, 12840),
)


@pytest.mark.parametrize(("category", "defect", "mean", "area"), DRAWN)
def test_pictures_stay_as_they_are(category, defect, mean, area):
    drawn = draw(category, defect, 0)
    assert drawn.image.mean() == pytest.approx(mean, abs=0.02)
    assert drawn.mask.sum() == pytest.approx(area, rel=0.01)


@pytest.mark.process
def test_pictures_do_not_depend_on_pythons_hash_seed():
    code = (
        "from tests.test_sample import digest; print([digest(*a, 1) for a in (('wafer', 'donut'), ('gear', 'dent'))])"
    )
    root = Path(__file__).parents[1]
    prints = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_defect_and_twin_differ_exactly_in_the_mask(category, defect):
    for seed in range(3):
        twin, drawn = draw(category, "good", seed), draw(category, defect, seed)
        difference = np.abs(drawn.image.astype(int) - twin.image).max(-1)
        assert not twin.mask.any()
        assert drawn.image.shape == (SIZE, SIZE, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.mask.shape == (SIZE, SIZE)
        assert drawn.mask.dtype == bool
        assert (difference[~drawn.mask] == 0).all()
        assert (difference[drawn.mask] >= sample.MIN_DIFFERENCE).all()
        assert sample.MIN_AREA <= drawn.mask.sum() <= 0.15 * SIZE**2


@pytest.mark.parametrize("category", CATEGORIES)
def test_normals_vary_and_use_the_range_of_values(category):
    images = np.stack([draw(category, "good", seed).image for seed in range(4)]).astype(float)
    assert len({image.tobytes() for image in images}) == 4
    assert images.min() < 40
    assert images.max() > 200
    assert ((images == 0) | (images == 255)).mean() < 0.02, "shadows or lights are clipped"
    assert images.std(axis=0).mean() > 1


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_defects_come_in_different_sizes(category, defect):
    areas = [draw(category, defect, seed).mask.sum() for seed in range(5)]
    assert max(areas) > 1.25 * min(areas)


def test_categories_are_described():
    for name, category in CATEGORIES.items():
        assert category.name == name
        assert len(category.defects) >= 3
        assert category.title
        assert category.description.endswith(".")
        assert all(category.defects.values())
    assert [category.mirrors for category in CATEGORIES.values()] == [
        "InsPLAD-fault",
        "MVTec AD",
        "Semiconductor Wafer",
    ]


@pytest.mark.parametrize(
    "wrong", [("bottle",), ("wafer", "dent"), ("wafer", "good", -1)], ids=["category", "defect", "seed"]
)
def test_draw_refuses_what_it_does_not_know(wrong):
    with pytest.raises(DatasetError):
        draw(*wrong)


def test_write_fills_the_mvtec_layout(tmp_path):
    seen = []
    root = write(tmp_path / "new" / "sample", ["wafer", "gear"], 3, 2, 1, progress=lambda *now: seen.append(now))
    assert seen == [(k + 1, 18) for k in range(18)]
    assert sorted(folder.name for folder in root.iterdir()) == ["gear", "wafer"]
    for name, suffix in (("gear", ".jpg"), ("wafer", ".png")):
        found = files(root / name)
        defects = CATEGORIES[name].defects
        wanted = {f"train/good/{k:03d}{suffix}" for k in range(3)} | {f"test/good/{k:03d}{suffix}" for k in range(2)}
        wanted |= {f"test/{defect}/000{suffix}" for defect in defects}
        masks = {f"ground_truth/{defect}/000_mask.png" for defect in defects}
        objects = {path.replace("ground_truth", "objects") for path in masks}
        assert set(found) == wanted | masks | objects | {"license.txt"}
        assert len({found[path] for path in wanted}) == len(wanted)
        for path in masks | objects:
            with Image.open(root / name / path) as mask:
                assert mask.mode == "1"
                assert mask.size == (SIZE, SIZE)
                assert mask.getbbox()


def test_no_scene_occurs_twice(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(writing, "draw", lambda *what: drawn.append(what) or draw("wafer", "centre"))
    for seed in (0, 1):
        write(tmp_path / str(seed), ["wafer", "gear"], 5, 3, 2, seed=seed)
    scenes = [(category, seed) for category, _, seed in drawn]
    assert len(scenes) == len(set(scenes)) == 2 * 2 * 16


def test_written_masks_and_maps_are_what_draw_gives(tmp_path):
    root = write(tmp_path, ["wafer"], 1, 1, 1)
    drawn = draw("wafer", "centre", 2)
    with (
        Image.open(root / "wafer/test/centre/000.png") as image,
        Image.open(root / "wafer/ground_truth/centre/000_mask.png") as mask,
        Image.open(root / "wafer/objects/centre/000_mask.png") as whole,
    ):
        assert np.array_equal(np.asarray(image), drawn.image)
        assert np.array_equal(np.asarray(mask), drawn.mask)
        assert np.array_equal(np.asarray(whole), drawn.object)


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_the_object_is_the_twins_and_holds_the_defect(category, defect):
    for seed in range(3):
        drawn = draw(category, defect, seed)
        assert np.array_equal(drawn.object, draw(category, "good", seed).object)
        assert drawn.object.dtype == bool and 0.05 < drawn.object.mean() < 0.75
        if defect != "broken_tooth":  # with the tooth goes its shadow on the mat
            assert not (drawn.mask & ~ndimage.binary_dilation(drawn.object, iterations=2)).any(), "but for soft edges"


def test_the_background_of_an_insulator_does_not_depend_on_its_discs(monkeypatch):
    drawn = draw("insulator", "good", 1)
    monkeypatch.setattr(insulator.Layer, "add", lambda self, light, opacity, row=0: None)
    bare = sample.draw("insulator", "good", 1)
    assert not bare.object.any(), "nothing hangs there"
    # The cable, which is no part of the object, is gone as well; soft edges reach a pixel farther than the object.
    changed = np.abs(drawn.image.astype(int) - bare.image).max(-1) >= sample.MIN_DIFFERENCE
    assert changed[drawn.object].mean() > 0.9
    assert changed[~drawn.object].mean() < 0.05


def test_no_random_number_is_spent_on_the_object(monkeypatch):
    drawn = draw("insulator", "flashover", 0)
    monkeypatch.setattr(insulator.Layer, "silhouette", lambda *_: np.zeros((SIZE, SIZE), bool))
    assert np.array_equal(sample.draw("insulator", "flashover", 0).image, drawn.image)


def test_write_replaces_its_own_folder_and_no_other(tmp_path):
    write(tmp_path, ["wafer"], 2, 0, 0)
    write(tmp_path, ["wafer"], 1, 0, 0)
    assert set(files(tmp_path)) == {"wafer/train/good/000.png", "wafer/license.txt"}
    (tmp_path / "gear").mkdir()
    (tmp_path / "gear/photo.png").write_bytes(b"mine")
    before = files(tmp_path)
    with pytest.raises(DatasetError, match="nothing was changed"):
        write(tmp_path, ["wafer", "gear"], 3, 0, 0)
    (tmp_path / "gear/license.txt").write_text("CC BY-NC-SA 4.0")
    with pytest.raises(DatasetError, match="another data set"):
        write(tmp_path, ["gear"], 1, 0, 0)
    del before["gear/photo.png"]
    assert before.items() <= files(tmp_path).items()
    assert (tmp_path / "gear/photo.png").read_bytes() == b"mine"


def test_a_stopped_run_leaves_nothing_half_made(tmp_path):
    write(tmp_path, ["wafer"], 1, 0, 0)
    before = files(tmp_path)

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, ["wafer"], 5, 0, 0, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, ["gear"], 5, 0, 0, progress=stop)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["wafer"]


@pytest.mark.parametrize("wrong", [{"n_train": -1}, {"seed": -1}, {"categories": ["bottle"]}, {"n_per_defect": 10**6}])
def test_write_refuses_before_it_touches_the_disk(tmp_path, wrong):
    with pytest.raises(DatasetError):
        write(tmp_path / "sample", **wrong)
    assert not (tmp_path / "sample").exists()


def test_write_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is a file"):
        write(tmp_path / "file")


def test_write_sweeps_what_a_killed_run_left(tmp_path):
    for name, age in (("0123abcd", 7200), ("4567abcd", 60)):
        (tmp_path / f".gear.{name}.new/train").mkdir(parents=True)
        os.utime(tmp_path / f".gear.{name}.new", (time.time() - age,) * 2)
    write(tmp_path, ["wafer"], 1, 0, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"wafer", ".gear.4567abcd.new"}
