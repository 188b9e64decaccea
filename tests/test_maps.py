"""Maps against masks: hand-computed shares, what counts as chance, and the table made from results/maps alone."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from attentdiffernet.errors import ResultsError
from attentdiffernet.study import records as results
from attentdiffernet.study.formats import energy_difference_text, energy_text, hit_difference_text, hit_text
from attentdiffernet.study.maps import (
    SUMMARY_COLUMNS,
    Localisation,
    excess,
    localise,
    summary_of_maps,
)
from attentdiffernet.study.page import beside_differnet, maps_against_differnet, maps_in_short, maps_table

pytestmark = pytest.mark.quick

LEFT = np.array([[True, False], [True, False]])


def run_of(variant="none", **changes):
    values = {"dataset": "sample", "category": "gear", "variant": variant, "seed": 0, "backbone": "bundled"}
    values |= {"attention_training": "" if variant == "none" else "untrained", "epochs": 45, "selection": "last"}
    values |= {"n_views": 16, "commit": "", "source": "a test", "views": "rotations", "readout": "z2", **changes}
    return results.Run(run=changes.get("run", f"gear-{variant}"), **{k: v for k, v in values.items() if k != "run"})


def frame_of(energies, hits=None, method="grad-cam", kind="raw", target="defect", chance=0.1, empty=0, defects=None):
    n = len(energies)
    return pd.DataFrame(
        {
            "image": [f"dent/{k:03d}.jpg" for k in range(n)],
            "defect": defects or ["dent"] * n,
            "method": method,
            "map": kind,
            "target": target,
            "chance": chance,
            "energy": energies,
            "hit": hits or [0.0] * n,
            "empty": empty,
        }
    )


# -- one map, one mask


def test_shares_by_hand():
    found = localise(np.array([[3.0, 1.0], [2.0, 4.0]]), LEFT)
    assert found == Localisation(chance=0.5, energy=0.5, hit=0.0, empty=False)  # (3 + 2) of 10; the 4 lies outside
    assert localise(np.array([[5.0, 1.0], [2.0, 4.0]]), LEFT) == Localisation(0.5, pytest.approx(7 / 12), 1.0, False)


def test_a_coarse_map_is_brought_to_the_mask_as_it_is_drawn():
    """Bilinear, by hand: 2 columns 0 | 8 become 0, 2, 6, 8 at the centres of 4."""
    mask = np.zeros((4, 4), bool)
    mask[:, 2] = True
    found = localise(np.array([[0.0, 8.0], [0.0, 8.0]]), mask)
    assert found == Localisation(0.25, pytest.approx(6 / 16), 0.0, False)


def test_a_mask_wider_than_the_map_is_met_at_its_own_aspect():
    mask = np.zeros((2, 6), bool)
    mask[:, 3:] = True
    found = localise(np.array([[1.0, 1.0], [3.0, 3.0]]), mask)  # what differs differs along the other axis
    assert found == Localisation(0.5, pytest.approx(0.5), pytest.approx(0.5), False)


@pytest.mark.parametrize("value", [1e-30, 0.3, 1.0, 1e20])
def test_a_flat_map_is_chance(value):
    mask = np.zeros((37, 53), bool)
    mask[3:9, 40:50] = True
    found = localise(np.full((13, 13), value, np.float32), mask)
    assert not found.empty
    assert found.energy == pytest.approx(found.chance, rel=1e-5)
    assert found.hit == pytest.approx(60 / (37 * 53))


def test_a_zero_map_is_chance_and_said():
    assert localise(np.zeros((3, 3), np.float32), LEFT) == Localisation(0.5, 0.5, 0.5, True)


def test_a_tied_maximum_hits_by_its_share():
    found = localise(np.array([[7.0, 7.0], [0.0, 7.0]]), LEFT)
    assert found.hit == pytest.approx(1 / 3)


def test_scale_does_not_matter():
    heatmap = np.random.default_rng(0).random((13, 13)).astype(np.float32)
    mask = np.random.default_rng(1).random((64, 80)) < 0.2
    one, tiny = localise(heatmap, mask), localise(heatmap * np.float32(1e-25), mask)
    assert (tiny.energy, tiny.hit) == (pytest.approx(one.energy, rel=1e-5), one.hit)
    assert one.energy + localise(heatmap, ~mask).energy == pytest.approx(1)


def test_excess_by_hand():
    assert excess(np.array([[1.0, 2.0], [3.0, 5.0]]), 2.5).tolist() == [[0, 0], [0.5, 2.5]]
    assert not excess(np.array([[1.0, 2.0]]), 2.0).any()


@pytest.mark.parametrize(
    ("heatmap", "mask"),
    [
        (np.array([[1.0, -1.0]]), LEFT),
        (np.array([[1.0, math.nan]]), LEFT),
        (np.ones(3), LEFT),
        (np.ones((2, 2)), ~np.ones((2, 2), bool)),
        (np.ones((2, 2)), np.ones((2, 2))),
    ],
    ids=["negative", "nan", "flat list", "marks nothing", "no bool"],
)
def test_what_is_no_map_or_no_mask_is_refused(heatmap, mask):
    with pytest.raises(ValueError, match="must be"):
        localise(heatmap, mask)


# -- files


def test_measured_maps_come_back(tmp_path):
    frame = frame_of([0.123456789, 0.2], hits=[1.0, 1 / 3])
    path = results.write_maps(tmp_path, run_of("se", views="none"), frame)
    assert path == tmp_path / "maps/sample/gear/gear-se.csv"
    run, back = results.read_maps(path)
    assert run == run_of("se", views="none")
    assert back["energy"].tolist() == [0.123457, 0.2] and back["hit"].tolist() == [1.0, 0.333333]
    assert list(back) == results.MAP_COLUMNS and results.map_files(tmp_path) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": 1.5}, "must lie in"),
        ({"chance": 0.0}, "must lie in"),
        ({"method": "tea leaves"}, "method must be one of"),
        ({"target": "sky"}, "target must be one of"),
        ({"image": "../x.png"}, "inside the test folder"),
        ({"hit": math.nan}, "finite"),
    ],
)
def test_nothing_wrong_is_written(tmp_path, change, message):
    with pytest.raises(ResultsError, match=message):
        results.write_maps(tmp_path, run_of(), frame_of([0.1]).assign(**change))
    assert not list(tmp_path.rglob("*.csv"))


def test_damaged_files_are_refused(tmp_path):
    path = results.write_maps(tmp_path, run_of(), frame_of([0.1]))
    text, described = path.read_text(), path.with_suffix(".json")
    path.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(ResultsError, match="may stand once"):
        results.read_maps(path)
    path.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(ResultsError, match="holds no image"):
        results.read_maps(path)
    path.write_text(text)
    good = described.read_text()
    for wrong in ("[]", "{", json.dumps({"run": "gear-none"})):
        described.write_text(wrong)
        with pytest.raises(ResultsError, match="does not say what model"):
            results.read_maps(path)
    described.write_text(good.replace("gear-none", "other"))
    with pytest.raises(ResultsError, match="belongs to sample/gear/other"):
        results.read_maps(path)
    described.unlink()
    with pytest.raises(ResultsError, match="does not say what model"):
        results.read_maps(path)


# -- the summary


def test_no_maps_no_rows(tmp_path):
    assert summary_of_maps(tmp_path).empty and list(summary_of_maps(tmp_path)) == SUMMARY_COLUMNS


def test_summary_by_hand(tmp_path):
    base = frame_of([0.2, 0.1, 0.3, 0.2], hits=[1.0, 0.0, 0.0, 0.5])
    own = frame_of([0.4, 0.3, 0.5, 0.4], hits=[1.0, 1.0, 1.0, 0.5])
    gate = frame_of([0.1] * 4, hits=[0.1] * 4, method="spatial-gate", kind="excess", empty=1)
    results.write_maps(tmp_path, run_of(), base)
    results.write_maps(tmp_path, run_of("cbam"), pd.concat([own, gate]))
    results.write_maps(tmp_path, run_of(category="nut", run="nut-none"), base)
    summary = summary_of_maps(tmp_path, "sample/gear")
    assert summary[["variant", "method"]].to_numpy().tolist() == [
        ["none", "grad-cam"],
        ["cbam", "grad-cam"],
        ["cbam", "spatial-gate"],
    ]
    differnet, cbam, gates = (row for _, row in summary.iterrows())
    assert (differnet["energy_ratio"], differnet["hit_rate"]) == (pytest.approx(2), 0.375)
    assert differnet["against"] == "" and math.isnan(differnet["energy_difference"])
    assert cbam["energy_ratio"] == pytest.approx(4)
    assert 3 <= cbam["energy_ratio_low"] < 4 < cbam["energy_ratio_high"] <= 5
    # Every image gains 0.2 of energy, which is two times chance: no resample says anything else.
    assert (cbam["against"], cbam["n_paired"]) == ("gear-none", 4)
    gain = [cbam[f"energy_difference{end}"] for end in ("", "_low", "_high")]
    assert gain == [pytest.approx(2)] * 3 and cbam["energy_difference_p"] == pytest.approx(2 / 2001)
    assert cbam["hit_difference"] == 0.5 and cbam["hit_difference_low"] == 0
    assert (gates["n_images"], gates["n_empty"], gates["n_paired"]) == (4, 4, 0)
    assert energy_difference_text(cbam) == "+2.00, p < 0.001"
    assert hit_difference_text(cbam).startswith("+50 points, p = ")
    assert energy_text(gates) == "1.00 (1.00 to 1.00)" and hit_text(gates).startswith("10 % (0 to ")
    assert energy_difference_text(gates) == hit_difference_text(gates) == ""
    assert len(summary_of_maps(tmp_path)) == 4


def test_maps_against_differnet_in_a_sentence(tmp_path):
    flat = frame_of([0.3, 0.1, 0.3, 0.1], method="gradient")
    results.write_maps(tmp_path, run_of(), pd.concat([frame_of([0.2] * 4), flat]))
    results.write_maps(tmp_path, run_of("cbam"), pd.concat([frame_of([0.4] * 4), flat]))
    results.write_maps(tmp_path, run_of("se"), frame_of([0.1] * 4))
    maps = summary_of_maps(tmp_path)
    assert maps_in_short(maps) == (
        "Maps of attention variants: 1 of 3 put more of their energy on the defect than DifferNet's, 1 less "
        "([below](#where-the-maps-look))."
    )
    said = maps_against_differnet(beside_differnet(maps, "defect"), "defect")
    assert said.startswith("Of 3 maps of attention variants") and "1 put more of their energy on the defect" in said
    assert "and 1 less" in said and "(CBAM) on Gear wheel (synthetic), Grad-CAM +2.00; " in said
    assert said.endswith("AttentDifferNet (SE) on Gear wheel (synthetic), Grad-CAM -1.00, in units of chance.")


def test_only_images_that_both_have_are_compared(tmp_path):
    results.write_maps(tmp_path, run_of(), frame_of([0.1, 0.1]))
    results.write_maps(tmp_path, run_of("se"), frame_of([0.3, 0.1, 0.9, 0.9]))
    row = summary_of_maps(tmp_path).iloc[1]
    assert (row["n_images"], row["n_paired"], row["energy_difference"]) == (4, 2, pytest.approx(1))


def test_the_differnet_most_alike_is_compared_with(tmp_path):
    results.write_maps(tmp_path, run_of(run="a", views="flips"), frame_of([0.1, 0.1]))
    results.write_maps(tmp_path, run_of(run="b"), frame_of([0.2, 0.2]))
    results.write_maps(tmp_path, run_of(run="c", seed=1), frame_of([0.3, 0.3]))
    results.write_maps(tmp_path, run_of("se"), frame_of([0.4, 0.4]))
    results.write_maps(tmp_path, run_of("cbam", backbone="imagenet"), frame_of([0.4, 0.4]))
    against = summary_of_maps(tmp_path).set_index("run")["against"].to_dict()
    assert against == {"a": "", "b": "", "c": "", "gear-se": "b", "gear-cbam": ""}


def test_one_image_has_no_interval(tmp_path):
    results.write_maps(tmp_path, run_of(), frame_of([0.2], hits=[0.5]))
    row = summary_of_maps(tmp_path).iloc[0]
    assert row["energy_ratio"] == pytest.approx(2) and math.isnan(row["energy_ratio_low"])
    assert row["hit_rate_low"] < 0.1 and row["hit_rate_high"] > 0.9


def test_the_table_says_what_the_summary_says(tmp_path):
    both = pd.concat([frame_of([0.2, 0.1]), frame_of([0.5, 0.6], target="object", chance=0.5)])
    results.write_maps(tmp_path, run_of(), both)
    trained = dataclasses.replace(run_of("se"), attention_training="proxy")
    results.write_maps(tmp_path, trained, pd.concat([both, frame_of([0.1, 0.1], kind="excess", empty=1)]))
    maps = summary_of_maps(tmp_path)
    lines = maps_table(maps[maps["target"] == "defect"], "defect").markdown().splitlines()
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == 2 + 3
    assert lines[2].startswith(
        "| Gear wheel (synthetic) | bundled, 0 | Grad-CAM | DifferNet | 2 (0) | 1.50 (1.00 to 2.00) |  |"
    )
    assert lines[2].endswith("| 0 % (0 to 84) | 10.0 % |  |")
    assert (
        "AttentDifferNet (SE), gates trained by a classifier of synthetic defects | 2 (0)" in lines[3]
        and "| +0.00, p = 1 |" in lines[3]
    )
    assert "| Grad-CAM, excess over normals | " in lines[4] and "| 2 (2) |" in lines[4]
    objects = maps_table(maps[maps["target"] == "object"], "object").markdown()
    assert "Maximum on the object" in objects and "| 1.10 (1.00 to 1.20) |" in objects
