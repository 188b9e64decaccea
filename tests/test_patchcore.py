"""PatchCore's parts against their definitions, and a planted defect."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from attentdiffernet import patchcore
from attentdiffernet.networks import load_network
from attentdiffernet.options import PatchCoreConfig
from attentdiffernet.patchcore import (
    PatchBank,
    PatchCore,
    Places,
    anomaly_maps,
    centres,
    compare,
    fit,
    fit_places,
    greedy_coreset,
    image_scores,
    nearest,
    places_of,
    projected,
    whitening_of,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def grids(n, height=5, width=6, channels=7, seed=0):
    """Places (n, h, w, C) of n images, some way apart from each other."""
    shift = torch.randn(n, 1, 1, channels, generator=generator(seed))
    return shift + torch.randn(n, height, width, channels, generator=generator(seed + 1))


def fitted_to(places, readout="mean_of_highest", seed=0, whitening=False, weigh_places=False, **sizes):
    sizes = PatchCoreConfig(whitening=whitening, **sizes)
    return fit_places(places, len(places), sizes, readout, seed, weigh_places=weigh_places)


# -- places


def test_places_of_one_level_are_means_of_the_neighbours_inside():
    map = torch.arange(12.0).view(1, 1, 3, 4)
    places = places_of([map])
    assert places.shape == (1, 3, 4, 1)
    assert places[0, 0, 0, 0] == (0 + 1 + 4 + 5) / 4
    assert places[0, 1, 1, 0] == 5


def test_coarser_levels_come_to_the_finest_grid():
    fine, coarse = torch.randn(2, 3, 8, 6), torch.full((2, 5, 4, 3), 2.0)
    places = places_of([fine, coarse])
    assert places.shape == (2, 8, 6, 8)
    assert torch.equal(places[..., 3:], torch.full((2, 8, 6, 5), 2.0))


def test_centres_of_a_grid():
    assert torch.allclose(centres(1, 2), torch.tensor([[0.5, 0.25], [0.5, 0.75]]))


def test_whitened_places_have_a_covariance_of_one():
    places = torch.randn(4000, 5, generator=generator()) @ torch.randn(5, 5, generator=generator(1))
    whitened = (places - places.mean(0)) @ whitening_of(places)
    variances = torch.linalg.eigvalsh(whitened.T.cov())
    assert variances.max() <= 1 + 1e-4  # shrinkage makes them a little less
    assert variances.max() > 0.98
    assert whitening_of(torch.ones(10, 3)).isfinite().all()


# -- distances


def test_nearest_equals_cdist():
    points, bank = torch.randn(2500, 9, generator=generator()), torch.randn(70, 9, generator=generator(1))
    expected = torch.cdist(points, bank).min(1)
    assert torch.equal(nearest(points, bank), expected.indices)
    places = compare(points.view(1, 50, 50, 9), bank)
    torch.testing.assert_close(places.distance.flatten(), expected.values, atol=1e-5, rtol=1e-5)


def test_the_distance_to_an_equal_entry_is_zero_far_from_the_origin():
    points = torch.randn(1, 4, 4, 8, generator=generator()) + 1000
    assert torch.equal(compare(points, points.flatten(0, 2)).distance, torch.zeros(1, 4, 4))


# -- the bank


def k_center(points, n, chosen):
    """Greedy k-center by its definition, from points chosen before."""
    while len(chosen) < n:
        chosen = [*chosen, int(torch.cdist(points, points[chosen]).amin(1).argmax())]
    return chosen


@pytest.mark.parametrize("pool", [4, 16, 1000])
def test_coreset_equals_its_definition(monkeypatch, pool):
    monkeypatch.setattr(patchcore, "POOL", pool)
    points = torch.randn(300, 6, generator=generator()).double()
    chosen, radius = greedy_coreset(points, 40, 2)
    assert chosen.tolist() == k_center(points, 40, [int(chosen[0])])
    assert radius == pytest.approx(float(torch.cdist(points, points[chosen]).amin(1).max()))


def test_coreset_of_few_different_points_ends_early():
    points = torch.randn(5, 8, generator=generator()).repeat(20, 1)
    chosen, radius = greedy_coreset(points, 50, 0)
    assert sorted((chosen % 5).tolist()) == [0, 1, 2, 3, 4]
    assert radius < 1e-2


def test_coreset_of_all_points_holds_each_once():
    points = torch.randn(30, 3, generator=generator())
    assert sorted(greedy_coreset(points, 100, 0)[0].tolist()) == list(range(30))


def test_projection_about_keeps_distances():
    points = torch.randn(40, 2000, generator=generator())
    ratio = torch.pdist(projected(points, 256, generator(1))) / torch.pdist(points)
    assert abs(ratio.mean() - 1) < 0.05 and ratio.std() < 0.1
    assert projected(points, 2000, generator()) is points


# -- training


def test_without_a_coreset_an_image_is_compared_with_all_places_of_the_others():
    """Where the bank holds all places and images are few, cross-validation leaves out one by one."""
    places = grids(6)
    fitted = fitted_to(places, bank_size=10_000)
    assert fitted.radius < 1e-2 and len(fitted.bank.vector) == 6 * 30
    for number in range(6):
        others = torch.cat([places[:number], places[number + 1 :]]).flatten(0, 2)
        expected = torch.cdist(places[number].flatten(0, 1), others).amin(1).view(5, 6)
        torch.testing.assert_close(fitted.distance[number], expected, atol=5e-3, rtol=1e-3)  # float16


@pytest.mark.parametrize("whitening", [False, True])
def test_an_image_is_scored_as_by_a_detector_fitted_without_its_part(whitening):
    """Equal where all places are candidates. Beside random candidates, it is only selected alike. Whitened with itself
    among few others, an image would lie far closer than a new one does."""
    places = grids(20)
    fitted = fitted_to(places, bank_size=50, readout="maximum", whitening=whitening)
    for fold in range(patchcore.FOLDS):
        others = torch.cat([of_one[None] for k, of_one in enumerate(places) if k % patchcore.FOLDS != fold])
        without = fitted_to(others, bank_size=50, whitening=whitening).bank
        for number in range(fold, 20, patchcore.FOLDS):
            distance = without(places[number][None]).distance[0]
            torch.testing.assert_close(fitted.distance[number], distance, atol=5e-3, rtol=1e-3)
            assert float(fitted.score[number]) == pytest.approx(float(distance.max()), abs=5e-3)


def test_a_bank_covers_within_its_radius():
    """So a distance lies between that to all places of the training images and the radius more."""
    places, others = grids(8), grids(4, seed=5)
    fitted = fitted_to(places, bank_size=25)
    least = torch.cdist(others.flatten(0, 2), places.flatten(0, 2)).amin(1)
    distance = fitted.bank(others).distance.flatten()
    assert (distance >= least - 1e-2).all() and (distance <= least + fitted.radius + 1e-2).all()


def test_a_place_weighs_less_where_normal_images_differ_more():
    distances = torch.tensor([[[1.0, 3.0], [2.0, 0.0]], [[1.0, 1.0], [4.0, 0.0]]])
    # Mean and two deviations: 1 + 0, 2 + 2, 3 + 2, and 0, for which a tenth of the mean of 2.5 stands.
    inverse = 1 / torch.tensor([[1.0, 4.0], [5.0, 0.25]])
    torch.testing.assert_close(patchcore.weights_of_places(distances), inverse / inverse.mean())
    assert torch.equal(patchcore.weights_of_places(torch.zeros(2, 2, 3)), torch.ones(2, 3)), "normals do not differ"


def test_images_are_weighed_by_what_the_others_reach():
    """An image's own distances would make it look more usual than a new one."""
    places = grids(6)
    plain = fitted_to(places, readout="maximum")
    weighed = fitted_to(places, readout="maximum", weigh_places=True)
    for number in range(6):
        others = torch.stack([plain.distance[k] for k in range(6) if k != number])
        expected = plain.distance[number] * patchcore.weights_of_places(others)
        torch.testing.assert_close(weighed.distance[number], expected)
        assert float(weighed.score[number]) == pytest.approx(float(expected.max()))
    weight = patchcore.weights_of_places(torch.stack(plain.distance))
    new = grids(1, seed=5)
    torch.testing.assert_close(weighed.bank(new).distance, plain.bank(new).distance * weight)
    finer = new.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert weighed.bank(finer).distance.shape == (1, 10, 12), "on another grid, where images keep their aspect"


def test_the_bank_remembers_image_and_position():
    places = grids(4)
    bank = fitted_to(places, bank_size=20).bank
    row, column = (bank.position[:, 0] * 5).long(), (bank.position[:, 1] * 6).long()
    torch.testing.assert_close(
        places[bank.image.long(), row, column] - bank.mean, bank.vector.float(), atol=5e-3, rtol=0
    )


def test_every_image_calibrates_up_to_a_limit(monkeypatch):
    fitted = fitted_to(grids(9), bank_size=20)
    assert fitted.image.tolist() == list(range(9)) and len(fitted.score) == 9
    monkeypatch.setattr(patchcore, "MOST_CANDIDATES", 45)
    fitted = fitted_to(grids(9), bank_size=1000, n_calibrated=4)
    assert len(fitted.image) == len(fitted.score) == len(fitted.distance) == 4
    assert torch.bincount(fitted.bank.image).tolist() == [5] * 9


def test_the_seed_decides_and_global_random_state_stays():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (fitted_to(grids(5), seed=seed, bank_size=20, whitening=True) for seed in (0, 0, 1))
    assert torch.equal(one.bank.vector, same.bank.vector) and torch.equal(one.score, same.score)
    assert not torch.equal(one.bank.image, other.bank.image)
    assert torch.equal(before, torch.get_rng_state())


def test_one_image_is_refused():
    with pytest.raises(ValueError, match="2 or more"):
        fitted_to(grids(1))


# -- scores and maps


def test_scores_read_the_highest_distances():
    distance = torch.arange(12.0).view(1, 3, 4)
    places = Places(torch.zeros(1, 3, 4, 2), distance, torch.zeros(1, 3, 4, dtype=torch.long))

    def score(readout, highest=1):
        return float(image_scores(places, torch.zeros(1, 2), readout, highest))

    assert score("maximum") == 11
    assert score("mean_of_highest", 3) == 10
    assert score("mean_of_highest", 100) == 5.5
    assert score("mean_of_highest", 0.25) == 10
    with pytest.raises(ValueError, match="z2"):
        score("z2")


def test_reweighting_by_hand():
    bank = torch.tensor([[0.0], [1.0], [5.0]])
    places = compare(torch.tensor([[[[-2.0], [0.5]]]]), bank)
    weight = 1 - math.exp(2) / (math.exp(2) + math.exp(3) + math.exp(7))
    found = image_scores(places, bank, "reweighted", 1)
    assert float(found) == pytest.approx(2 * weight)


def test_smoothing_keeps_a_constant_map_and_the_place_of_a_peak():
    torch.testing.assert_close(anomaly_maps(torch.full((2, 4, 5), 3.0), (32, 40)), torch.full((2, 32, 40), 3.0))
    peak = torch.zeros(1, 9, 7)
    peak[0, 2, 5] = 1
    row, column = divmod(int(anomaly_maps(peak, (72, 56))[0].argmax()), 56)
    assert abs(row - 2.5 * 8) <= 4 and abs(column - 5.5 * 8) <= 4


# -- the whole


@pytest.fixture(scope="module")
def planted():
    """A detector of smooth stripes, and an image with a defect in rows 40..56, columns 64..80 of 96 x 128."""

    def stripes(seed):
        phase = 6 * torch.rand((), generator=generator(seed))
        x = torch.arange(128.0).expand(96, 128)
        noise = 0.02 * torch.randn(96, 128, generator=generator(seed))
        return (0.5 + 0.3 * torch.sin(x / 6 + phase) + noise).clamp(0, 1).expand(3, 96, 128)

    network = load_network("tf_efficientnet_lite0")
    fitted = fit(network, [stripes(seed) for seed in range(8)], PatchCoreConfig(bank_size=400), "mean_of_highest", 0)
    defective = stripes(20).clone()
    defective[:, 40:56, 64:80] = torch.rand(3, 16, 16, generator=generator())
    return network, fitted, stripes(20), defective


def test_a_planted_defect_is_the_maximum_of_the_map(planted):
    network, fitted, normal, defective = planted
    model = PatchCore(network, fitted.bank, "mean_of_highest", 0.01)
    places = model(torch.stack([normal, defective]))
    row, column = divmod(int(anomaly_maps(places.distance, (96, 128))[1].argmax()), 128)
    assert 36 <= row < 60 and 60 <= column < 84
    scores = model.score(places)
    assert scores[1] > max(float(scores[0]), float(fitted.score.max()))


def test_a_saved_bank_gives_the_same_scores(planted, tmp_path):
    network, fitted, normal, defective = planted
    save_file(fitted.bank.state_dict(), tmp_path / "bank.safetensors")
    again = PatchBank(**load_file(tmp_path / "bank.safetensors"))
    images = torch.stack([normal, defective])
    one, other = (PatchCore(network, bank, "reweighted", 1) for bank in (fitted.bank, again))
    assert torch.equal(one.score(one(images)), other.score(other(images)))
    assert (tmp_path / "bank.safetensors").stat().st_size < 400 * (152 * 2 + 12) + 4 * 152**2 + 10_000
