"""Copies of training images: what they are, and when a file is read again."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet import copies
from attentdiffernet.copies import copy_of
from attentdiffernet.errors import ImageError
from attentdiffernet.images import RangedPath, read_image
from attentdiffernet.sources import pixels_of
from attentdiffernet.views import to_tensor

pytestmark = pytest.mark.quick


def pixels(seed=0, height=40, width=60):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def read(monkeypatch):
    """The files and arrays that were read so far."""
    found = []
    monkeypatch.setattr(copies, "pixels_of", lambda source: found.append(source) or pixels_of(source))
    return found


def test_a_copy_is_the_networks_input_and_is_made_once(read, tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "part.png")
    for least_side in (None, 24, None, 24):
        copy = copy_of(tmp_path / "part.png", 32, least_side)
        assert torch.equal(copy.tensor(), to_tensor(pixels(), 32, least_side)), "8 bits are what an image has"
        assert copy.shape == (40, 60)
    assert len(read) == 2
    assert torch.equal(copy_of(pixels(), 32).tensor(), to_tensor(pixels(), 32))


def test_a_file_that_has_changed_is_read_again(read, tmp_path):
    for seed in (1, 2):
        Image.fromarray(pixels(seed)).save(tmp_path / "part.bmp")
        os.utime(tmp_path / "part.bmp", (0, 0))  # of the same size and date
        assert torch.equal(copy_of(tmp_path / "part.bmp", 32).tensor(), to_tensor(pixels(seed), 32))
    assert len(read) == 2


def test_another_white_is_another_copy(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.linspace(0, 1000, 1024).astype(np.uint16).reshape(32, 32)).save(path)
    for white in (1023.0, 4095.0):
        expected = to_tensor(read_image(path, white=white), 32)
        assert torch.equal(copy_of(RangedPath.of(path, white), 32).tensor(), expected)


def test_what_cannot_be_read_says_so_each_time(tmp_path):
    for _ in range(2):
        with pytest.raises(ImageError, match="There is no file gone"):
            copy_of(tmp_path / "gone.png", 32)
