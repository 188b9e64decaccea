"""Synthetic defects: a copy with one defect of the size asked for, and a generator that decides all."""

import pytest
import torch

from attentdiffernet.synthetic_defects import ALTERED_AREA, AREA, add_defect, alter_structure, paste_patch

pytestmark = pytest.mark.quick


def noise(seed, size=64):
    rng = torch.Generator().manual_seed(seed)
    return rng, torch.rand(3, size, size, generator=rng), torch.rand(4, 3, size, size, generator=rng)


@pytest.mark.parametrize("seed", range(8))
def test_a_pasted_patch_is_one_rectangle(seed):
    rng = torch.Generator().manual_seed(seed)
    image, normals = torch.rand(3, 64, 64, generator=rng), torch.rand(4, 3, 64, 64, generator=rng)
    before = image.clone(), normals.clone()
    pasted = paste_patch(image, normals, rng, area=(0.02, 0.2))
    assert torch.equal(image, before[0]) and torch.equal(normals, before[1])
    assert pasted.min() >= 0 and pasted.max() <= 1
    changed = (pasted != image).any(0)
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    box = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert box.float().mean() > 0.99, "noise on noise: every pixel of the patch differs, and none outside of it"
    assert 0.02 * 0.6 < changed.float().mean() < 0.2 * 1.1


@pytest.mark.usefixtures("global_state_kept")
@pytest.mark.parametrize("seed", range(24))
def test_a_defect_is_small_and_leaves_the_rest_alone(seed):
    rng, image, normals = noise(seed, 128)
    before = image.clone(), normals.clone()
    defective = add_defect(image, normals, rng)
    assert torch.equal(image, before[0]) and torch.equal(normals, before[1])
    assert defective.shape == image.shape and defective.min() >= 0 and defective.max() <= 1
    share = float(((defective - image).abs() > 0.02).any(0).float().mean())
    assert 0.1 * AREA[0] < share < 3 * AREA[1]
    rng, image, normals = noise(seed, 128)
    assert torch.equal(add_defect(image, normals, rng), defective)


@pytest.mark.usefixtures("global_state_kept")
@pytest.mark.parametrize("seed", range(24))
def test_an_altered_piece_is_small_and_nothing_foreign(seed):
    rng, image, normals = noise(seed, 128)
    before = image.clone()
    altered = alter_structure(image, normals, rng)
    assert torch.equal(image, before)
    assert altered.shape == image.shape and altered.min() >= image.min() and altered.max() <= image.max()
    share = float(((altered - image).abs() > 0.1).any(0).float().mean())
    assert 0.3 * ALTERED_AREA[0] < share < 5 * ALTERED_AREA[1]
    rng, image, normals = noise(seed, 128)
    assert torch.equal(alter_structure(image, normals, rng), altered)


def test_pieces_are_altered_where_there_is_detail():
    image = torch.full((3, 128, 128), 0.5)
    image[:, :, 64:] = torch.rand(3, 128, 64, generator=torch.Generator().manual_seed(0))
    changed = 0.0
    for seed in range(20):
        altered = alter_structure(image, image[None], torch.Generator().manual_seed(seed))
        centre = ((altered - image).abs().sum(0) > 0).nonzero().float().mean(0)
        changed += float(centre[1] >= 56)
    assert changed >= 18, "one of four places near the middle lies on the detailed half nearly always"
