"""The synthetic sample set: same arguments, same bytes; a defect differs from its normal twin inside the mask only."""

import functools
import hashlib
import itertools
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
from attentdiffernet.datasets.sample import CATEGORIES, LEVELS, SIZE, file_of, insulator, write, writing
from attentdiffernet.datasets.sample.render import SCENES
from attentdiffernet.errors import DatasetError

DEFECTS = [(category, defect) for category, known in CATEGORIES.items() for defect in known.defects]
PICTURES = DEFECTS + [(category, "good") for category in CATEGORIES]

drawn_once = functools.cache(sample.draw)  # tests look at the same few pictures


def draw(category: str, defect: str = "good", seed: int = 0, level: str = "moderate") -> sample.Sample:
    return drawn_once(category, defect, seed, level)


def digest(category: str, defect: str, seed: int, draw=sample.draw) -> str:
    drawn = draw(category, defect, seed)
    return hashlib.sha256(drawn.image.tobytes() + drawn.mask.tobytes()).hexdigest()


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("category", "defect"), PICTURES)
def test_a_picture_is_a_pure_function_of_its_arguments(category, defect):
    before = np.random.get_state()[1].tobytes()
    assert digest(category, defect, 0) == digest(category, defect, 0, draw) != digest(category, defect, 1, draw)
    assert before == np.random.get_state()[1].tobytes(), "global random state was used"


# Mean of the image of seed 0, and pixels of its mask. Shipped models and committed scores are of these pictures.
DRAWN = (
    ("insulator", "good", 101.73, 0),
    ("insulator", "missing_cap", 100.46, 16192),
    ("insulator", "broken_cap", 100.56, 13790),
    ("insulator", "corrosion", 100.83, 7834),
    ("insulator", "flashover", 100.55, 6292),
    ("gear", "good", 96.24, 0),
    ("gear", "broken_tooth", 96.15, 1934),
    ("gear", "dent", 96.16, 2297),
    ("gear", "scratch", 96.26, 870),
    ("gear", "stain", 95.68, 5391),
    ("wafer", "good", 60.46, 0),
    ("wafer", "centre", 61.12, 2880),
    ("wafer", "edge_ring", 61.09, 3000),
    ("wafer", "scratch", 61.00, 2400),
    ("wafer", "donut", 61.84, 6120),
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
    for seed, level in enumerate(LEVELS):
        twin, drawn = draw(category, "good", seed), draw(category, defect, seed, level)
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
    areas = [draw(category, defect, 0, level).mask.sum() for level in LEVELS]
    assert max(areas) > 1.25 * min(areas)


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_a_harder_level_changes_less_of_the_image(category, defect):
    twin = draw(category, "good", 0).image.astype(int)
    changed = [np.abs(draw(category, defect, 0, level).image - twin).sum() for level in LEVELS]
    assert changed[0] > 1.2 * changed[1] > 1.2**2 * changed[2] > 0


@pytest.mark.quick
@pytest.mark.parametrize("category", CATEGORIES)
def test_ranges_of_levels_are_ordered_and_apart(category):
    table = SCENES[category][1]
    assert list(table) == list(CATEGORIES[category].defects)
    for defect, parameters in table.items():
        for ranges in parameters.values():
            assert all(low <= high for low, high in ranges), defect
            assert all(easier[0] >= harder[1] for easier, harder in itertools.pairwise(ranges)), defect
        assert any(ranges[0][0] > ranges[1][1] for ranges in parameters.values()), defect
        assert any(ranges[1][0] > ranges[2][1] for ranges in parameters.values()), defect


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
    "wrong",
    [("bottle",), ("wafer", "dent"), ("wafer", "good", -1), ("wafer", "donut", 0, "easy")],
    ids=["category", "defect", "seed", "level"],
)
def test_draw_refuses_what_it_does_not_know(wrong):
    with pytest.raises(DatasetError):
        draw(*wrong)


def test_write_fills_the_mvtec_layout(tmp_path):
    seen = []
    root = write(tmp_path / "new" / "sample", ["wafer", "gear"], 3, 2, 1, progress=lambda *now: seen.append(now))
    assert seen == [(k + 1, 34) for k in range(34)]
    assert sorted(folder.name for folder in root.iterdir()) == ["gear", "wafer"]
    for name, suffix in (("gear", ".jpg"), ("wafer", ".png")):
        found = files(root / name)
        defects = CATEGORIES[name].defects
        wanted = {f"train/good/{k:03d}{suffix}" for k in range(3)} | {f"test/good/{k:03d}{suffix}" for k in range(2)}
        images = [f"{defect}/{level}_000" for defect in defects for level in LEVELS]
        wanted |= {f"test/{image}{suffix}" for image in images}
        masks = {f"ground_truth/{image}_mask.png" for image in images}
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
        write(tmp_path / str(seed), ["wafer", "gear"], 3, 2, 1, seed=seed)
    scenes = [(category, seed) for category, _, seed, _ in drawn]
    assert len(scenes) == len(set(scenes)) == 2 * 2 * 17


@pytest.fixture(scope="module")
def wafers(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sample"), ["wafer"], 1, 1, 1)


def test_an_image_of_the_set_is_drawn_again_by_its_name(wafers, monkeypatch):
    for name in ("N_TRAIN", "N_TEST_GOOD", "N_PER_LEVEL"):
        monkeypatch.setattr(writing, name, 1)
    root = wafers
    names = [path.relative_to(root / "wafer/test").as_posix() for path in (root / "wafer/test").rglob("*.png")]
    assert len(names) == 1 + 4 * 3
    for name in names:
        assert file_of("wafer", name) == (root / "wafer/test" / name).read_bytes()
    assert file_of("wafer", "good/000.png", "train") == (root / "wafer/train/good/000.png").read_bytes()
    for wrong in ("donut/000.png", "donut/hard_001.png", "donut/hard_000.jpg", "../x.png", ""):
        with pytest.raises(DatasetError):
            file_of("wafer", wrong)


def test_written_masks_and_maps_are_what_draw_gives(wafers):
    root = wafers
    drawn = draw("wafer", "centre", 4, "hard")
    with (
        Image.open(root / "wafer/test/centre/hard_000.png") as image,
        Image.open(root / "wafer/ground_truth/centre/hard_000_mask.png") as mask,
        Image.open(root / "wafer/objects/centre/hard_000_mask.png") as whole,
    ):
        assert np.array_equal(np.asarray(image), drawn.image)
        assert np.array_equal(np.asarray(mask), drawn.mask)
        assert np.array_equal(np.asarray(whole), drawn.object)


@pytest.mark.parametrize(("category", "defect"), DEFECTS)
def test_the_object_is_the_twins_and_holds_the_defect(category, defect):
    for seed, level in enumerate(LEVELS):
        drawn = draw(category, defect, seed, level)
        assert np.array_equal(drawn.object, draw(category, "good", seed).object)
        assert drawn.object.dtype == bool and 0.05 < drawn.object.mean() < 0.75
        if defect != "broken_tooth":  # with the tooth goes its shadow on the mat
            assert not (drawn.mask & ~ndimage.binary_dilation(drawn.object, iterations=3)).any(), "but for soft edges"


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


@pytest.mark.parametrize("wrong", [{"n_train": -1}, {"seed": -1}, {"categories": ["bottle"]}, {"n_per_level": 10**6}])
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
