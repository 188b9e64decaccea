"""What a person sees in a file is what is read, or a plain sentence; views turn as they say; folders are checked."""

import io
import os
import struct
import tempfile
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attentdiffernet.category import InspectionDataset, image_of_mask
from attentdiffernet.errors import DatasetError, ImageError
from attentdiffernet.images import find_images, read_image, read_mask, read_upload
from attentdiffernet.views import (
    FEW_VIEWS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    even_angles,
    even_views,
    input_shape,
    make_views,
    possible_views,
    random_angles,
    random_views,
    rotations,
    standardise_exposure,
    to_tensor,
)

pytestmark = pytest.mark.quick

RAMP = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24) % 256  # 20 high, 24 wide, every grey value
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=2).astype(np.uint8)
GREY = np.repeat(RAMP[:, :, None], 3, axis=2).astype(np.uint8)


def png(width, height, data=b""):
    """A PNG whose header promises more than its data hold."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(image, format, **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


# -- reading

TRANSPARENT = Image.fromarray(np.where(RAMP < 128, 0, 1).astype(np.uint8), "P")
TRANSPARENT.putpalette([200, 0, 0, 10, 20, 30])
ON_WHITE = np.where((RAMP < 128)[:, :, None], 255, [[[10, 20, 30]]])
HALF = np.dstack([COLOUR, np.full_like(COLOUR[:, :, 0], 51)])  # a fifth of the colour on white
FRAMES = [Image.new("RGB", (24, 20), colour) for colour in ("red", "blue", "lime")]
EXIF = {turn: Image.Exif() for turn in (3, 5, 6, 8)}
for turn, exif in EXIF.items():
    exif[0x0112] = turn


@pytest.mark.parametrize(
    ("suffix", "content", "expected", "tolerance"),
    [
        pytest.param("png", encoded(Image.fromarray(COLOUR), "PNG"), COLOUR, 0, id="colour"),
        pytest.param("tif", encoded(Image.fromarray(COLOUR), "TIFF"), COLOUR, 0, id="tiff"),
        pytest.param("bmp", encoded(Image.fromarray(COLOUR), "BMP"), COLOUR, 0, id="bmp"),
        pytest.param("webp", encoded(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR, 0, id="webp"),
        pytest.param("jpg", encoded(Image.fromarray(COLOUR), "PNG"), COLOUR, 0, id="png named jpg"),
        pytest.param("png", encoded(Image.fromarray(GREY[:, :, 0]), "PNG"), GREY, 0, id="grey"),
        pytest.param("jpg", encoded(Image.fromarray(GREY[:, :, 0]), "JPEG", quality=100), GREY, 3, id="grey jpeg"),
        pytest.param("png", encoded(Image.fromarray(RAMP * 257), "PNG"), GREY, 0, id="16-bit grey"),
        pytest.param("png", encoded(Image.fromarray(RAMP), "PNG"), np.round(GREY / 257), 0, id="16-bit grey, all dark"),
        pytest.param("tif", encoded(Image.fromarray(RAMP * 257), "TIFF"), GREY, 0, id="16-bit tiff"),
        pytest.param("tif", encoded(Image.fromarray(RAMP.astype("f4") / 255), "TIFF"), GREY, 0, id="floats to 1"),
        pytest.param("tif", encoded(Image.fromarray(RAMP.astype("i4") * 257), "TIFF"), GREY, 0, id="16 bits in 32"),
        pytest.param("png", encoded(Image.fromarray(RAMP > 127), "PNG"), np.where(GREY > 127, 255, 0), 0, id="1 bit"),
        pytest.param("png", encoded(TRANSPARENT, "PNG", transparency=0), ON_WHITE, 0, id="palette with transparency"),
        pytest.param("png", encoded(Image.fromarray(HALF), "PNG"), 204 + COLOUR / 5, 1, id="half transparent on white"),
        pytest.param("gif", encoded(TRANSPARENT, "GIF", transparency=0), ON_WHITE, 0, id="gif with transparency"),
        pytest.param(
            "gif",
            encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
            np.full((20, 24, 3), [255, 0, 0]),
            0,
            id="animation: its first frame",
        ),
        pytest.param(
            "jpg",
            encoded(Image.new("CMYK", (24, 20), (0, 255, 255, 0)), "JPEG", quality=100),
            np.full((20, 24, 3), [255, 0, 0]),
            2,
            id="CMYK: no cyan, all magenta and yellow is red",
        ),
        # 3: lies upside down; 6 and 8: to be turned right and left; 5: mirrored at its diagonal.
        pytest.param("png", encoded(Image.fromarray(COLOUR), "PNG", exif=EXIF[3]), COLOUR[::-1, ::-1], 0, id="EXIF 3"),
        pytest.param(
            "png", encoded(Image.fromarray(COLOUR), "PNG", exif=EXIF[6]), np.rot90(COLOUR, -1), 0, id="EXIF 6"
        ),
        pytest.param("png", encoded(Image.fromarray(COLOUR), "PNG", exif=EXIF[8]), np.rot90(COLOUR), 0, id="EXIF 8"),
        pytest.param(
            "jpg",
            encoded(Image.fromarray(GREY), "JPEG", quality=100, exif=EXIF[5]),
            GREY.transpose(1, 0, 2),
            3,
            id="EXIF 5",
        ),
    ],
)
def test_an_image_is_read_as_a_person_sees_it(suffix, content, expected, tolerance, tmp_path):
    path = tmp_path / f"image.{suffix}"
    path.write_bytes(content)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert np.abs(pixels.astype(float) - expected).max() <= tolerance
    assert np.array_equal(read_image(io.BytesIO(content)), pixels)
    assert np.array_equal(read_image(str(path)), pixels)
    again, transparent = read_upload(path)
    assert np.array_equal(again, pixels) and transparent == (expected is ON_WHITE or tolerance == 1)


PHOTOGRAPH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty$"),
        (b"no image at all", "is not an image that can be read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "is a HEIC or AVIF image.*: save it as JPEG or PNG$"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(99), "is not an image that can be read"),  # a film
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "is not an image that can be read"),
        (b"P6 64 64 255 " + bytes(64 * 64 * 3), "is not an image that can be read"),  # outside the decoders allowed
        (encoded(PHOTOGRAPH, "PNG")[:900], "is damaged and could not be decoded$"),
        (encoded(PHOTOGRAPH, "JPEG")[:900], "is damaged and could not be decoded$"),
        (encoded(PHOTOGRAPH, "WEBP")[:900], "is damaged and could not be decoded$|is not an image"),
        (encoded(PHOTOGRAPH, "GIF")[:900], "is damaged and could not be decoded$"),
        (encoded(PHOTOGRAPH, "TIFF")[:900], "is damaged and could not be decoded$|is not an image"),
        (png(64, 64), "is damaged and could not be decoded$"),
        (encoded(Image.new("RGB", (1, 1)), "PNG"), "has 1 x 1 px; each side needs 16 px or more$"),
        (encoded(Image.new("RGB", (500, 15)), "PNG"), "has 500 x 15 px; each side needs 16 px or more$"),
        (png(60_000, 60_000), "has too many pixels; the limit is 64 million$"),
        (png(10_000, 10_000), "has 10000 x 10000 px; the limit is 64 million pixels$"),
        (encoded(Image.fromarray(np.full((20, 20), np.nan, "f4")), "TIFF"), "has grey values from nan to nan; here "),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(content, complaint, tmp_path, recwarn):
    path = tmp_path / "strange.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"^strange\.png ({complaint})") as caught:
        read_image(path)
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)
    with pytest.raises(ImageError, match=rf"^upload\.png ({complaint})"):  # the same for an open file
        read_image(io.BytesIO(content), name="upload.png")
    assert not recwarn.list


def test_reading_in_many_threads_leaves_the_warnings_alone():
    before = list(warnings.filters)
    content = encoded(PHOTOGRAPH.resize((400, 400)), "PNG")
    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(lambda _: read_image(io.BytesIO(content)), range(64))
    assert all(np.array_equal(first, other) for other in others)
    assert warnings.filters == before


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"^There is no file gone\.png$"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"is a folder, not an image file$"):
        read_image(tmp_path)


def test_a_forbidden_file_is_not_called_damaged(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(encoded(PHOTOGRAPH, "PNG"))
    monkeypatch.setattr(Image, "open", forbidden)  # tests may run as root, who may read all
    with pytest.raises(ImageError, match=r"^a\.png may not be read: permission denied$"):
        read_image(tmp_path / "a.png")


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(100_000_001)  # a hole: takes no room
    with pytest.raises(ImageError, match="has 100 MB; the limit is 100 MB"):
        read_image(tmp_path / "large.png")


def test_exposure_is_forgotten_and_colour_is_kept():
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.9, 0.5, 0.2]).view(
        3, 1, 1
    )
    found = standardise_exposure(image)
    assert abs(found.mean() - np.mean(IMAGENET_MEAN)) < 1e-3 and abs(found.std() - np.mean(IMAGENET_STD)) < 1e-3
    torch.testing.assert_close(standardise_exposure(0.3 * image + 0.1), found, atol=1e-5, rtol=1e-5)
    assert found[0].mean() > found[1].mean() > found[2].mean()
    two = torch.stack([image, image.flip(2) * 0.5])
    torch.testing.assert_close(standardise_exposure(two), torch.stack([found, found.flip(2)]), atol=1e-5, rtol=1e-5)
    flat = standardise_exposure(torch.full((3, 8, 8), 0.7) + 1e-4 * torch.rand(3, 8, 8))
    assert flat.std() < 0.01, "noise of a flat image is not raised to a picture"


def test_to_tensor():
    tensor = to_tensor(COLOUR, 8)
    assert tensor.shape == (3, 8, 8) and tensor.dtype == torch.float32
    same = to_tensor(np.full((30, 50, 3), [0, 51, 255], np.uint8), 16)
    torch.testing.assert_close(same, torch.tensor([0, 0.2, 1])[:, None, None].expand(3, 16, 16))
    square = PHOTOGRAPH.resize((32, 32))
    torch.testing.assert_close(
        to_tensor(np.asarray(square), 32) * 255, torch.from_numpy(np.array(square)).permute(2, 0, 1).float()
    )


# -- views


def unnormalised(views):
    return views * torch.tensor(IMAGENET_STD).view(3, 1, 1) + torch.tensor(IMAGENET_MEAN).view(3, 1, 1)


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [
        (300, 300, (448, 448)),
        (100, 200, (317, 633)),  # 448 / sqrt(2), 448 * sqrt(2)
        (200, 100, (634, 317)),
        (10, 1000, (252, 796)),  # no side below 252: 448^2 / 252 = 796
        (1000, 10, (796, 252)),
    ],
)
def test_a_kept_aspect_keeps_the_area(height, width, shape):
    found = input_shape(height, width, 448, 252)
    assert np.abs(np.subtract(found, shape)).max() <= 1 and min(found) >= 252
    assert found[0] * found[1] == pytest.approx(448**2, rel=0.005)
    assert to_tensor(np.zeros((height, width, 3), np.uint8), 448, 252).shape == (3, *found)


def test_angle_0_is_the_image_normalised(image):
    (view,) = make_views(image, torch.zeros(1))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(view, (image - mean[:, None, None]) / std[:, None, None], rtol=0, atol=2e-4)


@pytest.mark.parametrize("quarters", [1, 2, 3, 4, -1])
def test_quarter_turns_are_counter_clockwise(quarters, image):
    (view,) = unnormalised(make_views(image, torch.tensor([90.0 * quarters])))
    torch.testing.assert_close(view, torch.rot90(image, quarters, dims=(1, 2)), rtol=0, atol=1e-3)


def test_corners_are_black_and_the_middle_is_kept(image):
    views = unnormalised(make_views(image, torch.tensor([45.0, 30.0])))
    assert views[..., 0, 0].abs().max() < 1e-6 and views[..., -1, -1].abs().max() < 1e-6
    middle = slice(126, 130)
    torch.testing.assert_close(views[0, :, middle, middle], image[:, middle, middle], rtol=0, atol=0.03)
    # 45 degrees counter-clockwise: what was at the right edge is now at the top right.
    dot = torch.zeros_like(image)
    dot[:, 120:136, 215:231] = 1
    (turned,) = unnormalised(make_views(dot, torch.tensor([45.0])))
    assert turned[0, 57:64, 191:198].min() > 0.9 and turned[0, 191:198, 191:198].max() < 1e-6


def test_views_of_many_images_are_those_of_each(image):
    images, angles = torch.stack([image, 1 - image]), torch.tensor([20.0, 200.0])
    views = make_views(images, angles)
    assert views.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(views[1:], make_views(1 - image, angles[1:]))
    torch.testing.assert_close(make_views(image, angles)[:1], views[:1])
    with pytest.raises(ValueError, match="got 2 images, 3 views"):
        make_views(images, torch.zeros(3))


@pytest.mark.parametrize("n_views", [1, 2, 3, 4, 6, 8, 12, 16, 64, 100])
def test_even_angles_are_spaced_evenly(n_views):
    angles = even_angles(n_views)
    assert angles[0] == 0 and len(angles) == n_views
    torch.testing.assert_close(angles.sort().values, torch.arange(n_views) * 360.0 / n_views)


@pytest.mark.parametrize("n_views", [2, 8, 16, 64])
def test_beginnings_of_even_angles_are_spaced_evenly(n_views):
    first = 1
    while first <= n_views:
        assert torch.equal(even_angles(n_views)[:first].sort().values, even_angles(first).sort().values)
        first *= 2


def test_random_angles_fall_one_in_each_sector():
    rng = torch.Generator().manual_seed(0)
    for n_views in (1, 5, 8):
        many = torch.stack([random_angles(n_views, rng) for _ in range(200)])
        sectors = many / (360 / n_views)
        assert torch.equal(sectors.floor(), torch.arange(n_views).float().expand(200, -1))
        assert (sectors - sectors.floor()).mean().item() == pytest.approx(0.5, abs=0.1)


NOISE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))  # every pixel another: no symmetry
TURNS = [0, 2, 1, 3]  # quarter turns counter-clockwise, half a turn first: two views are as far apart as can be
EXACT = {
    "none": [lambda x: x],
    "quarter_turns": [lambda x, k=k: torch.rot90(x, k, (1, 2)) for k in TURNS],
    "flips": [lambda x: x, lambda x: x.flip(1, 2), lambda x: x.flip(2), lambda x: x.flip(1)],
    "dihedral": [
        *[lambda x, k=k: torch.rot90(x, k, (1, 2)) for k in TURNS],
        *[lambda x, k=k: torch.rot90(x.flip(2), k, (1, 2)) for k in TURNS],
    ],
}


@pytest.mark.parametrize("size", [63, 64])
@pytest.mark.parametrize("kind", EXACT)
def test_few_views_are_turned_and_mirrored_copies(kind, size):
    picture = NOISE[:, :size, :size]
    views = unnormalised(make_views(picture, FEW_VIEWS[kind]))
    assert len(views) == len(EXACT[kind])
    for view, exact in zip(views, EXACT[kind], strict=True):
        torch.testing.assert_close(view, exact(picture), rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", EXACT)
def test_few_views_are_a_group(kind):
    """Turning or mirroring a part leaves the set of its views as it is, and so its score."""
    views = FEW_VIEWS[kind]
    members = {tuple(view.flatten().tolist()) for view in views}  # -0.0 == 0.0
    assert len(members) == len(views) and torch.equal(views[0], torch.eye(2))
    assert set(views.flatten().tolist()) <= {-1.0, 0.0, 1.0}, "exact"
    products = (views[:, None] @ views[None]).flatten(0, 1)
    assert {tuple(product.flatten().tolist()) for product in products} == members
    mirrored = torch.linalg.det(views) < 0
    assert mirrored.sum() == (len(views) / 2 if kind in ("flips", "dihedral") else 0)
    dihedral = {tuple(view.flatten().tolist()) for view in FEW_VIEWS["dihedral"]}
    assert members <= dihedral


@pytest.mark.parametrize("angle", [0.0, 17.0, 90.0, 200.0])
def test_views_compose(angle, image):
    """A product of views is the one on the left after the one on the right."""
    turn = rotations(torch.tensor([angle]))
    for view, exact in zip(FEW_VIEWS["dihedral"], EXACT["dihedral"], strict=True):
        torch.testing.assert_close(make_views(image, turn @ view), make_views(exact(image), turn), rtol=0, atol=5e-3)
    torch.testing.assert_close(rotations(torch.tensor([40.0])) @ turn, rotations(torch.tensor([40.0 + angle])))
    assert torch.equal(make_views(image, turn), make_views(image, torch.tensor([angle])))


def test_rotations_are_orthogonal_and_quarter_turns_exact():
    matrices = rotations(torch.arange(-360.0, 720.0, 7.5))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(2).expand_as(matrices))
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(len(matrices)))
    quarters = rotations(torch.tensor([-90, 0, 90, 180, 270, 360, 36000]))
    expected = [[[0, 1], [-1, 0]], [[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]]
    assert quarters.tolist() == [*expected, expected[1], expected[1]]


@pytest.mark.parametrize("n_views", [1, 2, 3, 4, 8, 100])
@pytest.mark.parametrize("kind", EXACT)
def test_of_a_kind_with_few_views_there_are_no_more(kind, n_views):
    expected = FEW_VIEWS[kind][:n_views]
    assert torch.equal(even_views(kind, n_views), expected)
    assert torch.equal(random_views(kind, n_views, torch.Generator()), expected)
    assert possible_views(kind, n_views) == len(expected) == min(n_views, len(EXACT[kind]))


def test_rotations_are_as_many_as_wanted():
    assert torch.equal(even_views("rotations", 64)[:16], even_views("rotations", 16)), "a score may go on from 16 to 64"
    assert torch.equal(even_views("rotations", 4), FEW_VIEWS["quarter_turns"])
    a, b, c = (random_views("rotations", 5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and len(a) == possible_views("rotations", 5) == 5
    degrees = torch.rad2deg(torch.atan2(a[:, 1, 0], a[:, 0, 0])) % 360
    expected = random_angles(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(degrees, expected, rtol=0, atol=1e-3)


# -- folders


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_a_category(tmp_path):
    root = touch(
        tmp_path / "set" / "bottle",
        *["train/good/b.png", "train/good/a.JPG", "train/good/notes.txt", "train/good/._a.JPG"],
        *["test/good/1.png", "test/crack/2.png", "test/crack/._2.png", "test/readme.txt"],
        *["ground_truth/crack/2_mask.png", "objects/crack/2_mask.png"],
    )
    dataset = InspectionDataset(root)
    assert (dataset.category, dataset.dataset) == ("bottle", "set")
    assert [(i.name, i.defect, i.label) for i in dataset.train] == [
        ("good/a.JPG", "good", 0),
        ("good/b.png", "good", 0),
    ]
    assert [(i.name, i.defect, i.label) for i in dataset.test] == [
        ("crack/2.png", "crack", 1),
        ("good/1.png", "good", 0),
    ]
    crack, good = dataset.test
    assert dataset.mask_path(crack) == root / "ground_truth/crack/2_mask.png" and dataset.mask_path(good) is None
    assert dataset.object_path(crack) == root / "objects/crack/2_mask.png" and dataset.object_path(good) is None


def test_images_in_subfolders(tmp_path):
    root = touch(
        tmp_path / "bottle",
        *["train/good/b/1.png", "train/good/a.png", "train/good/.hidden/2.png", "train/good/b/c/3.png"],
        *["test/good/cam2/1.png", "test/good/cam1/1.png", "test/crack/cam1/1.png", "test/crack/1.png"],
        *["test/.cache/4.png", "ground_truth/crack/cam1/1_mask.png"],
    )
    (root / "train/good/b/loop").symlink_to(root / "train", target_is_directory=True)
    (root / "test/good/cam2/loop").symlink_to("..", target_is_directory=True)
    dataset = InspectionDataset(root)
    assert [i.name for i in dataset.train] == ["good/a.png", "good/b/1.png", "good/b/c/3.png"]
    names = ["crack/1.png", "crack/cam1/1.png", "good/cam1/1.png", "good/cam2/1.png"]
    assert [i.name for i in dataset.test] == names
    assert all(i.path == root / "test" / i.name and i.label == (i.defect == "crack") for i in dataset.test)
    masks = [dataset.mask_path(image) for image in dataset.test]
    assert masks == [None, root / "ground_truth/crack/cam1/1_mask.png", None, None], "1_mask.png is cam1's alone"


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("1.png", "1_mask.png"),
        ("1.bmp", "1.png"),
        ("1.bmp", "1.bmp"),
        ("1.jpg", "1_GT.png"),
        ("1.JPG", "1_gt.tif"),
        ("a.b.jpg", "a.b_mask.png"),
    ],
)
def test_a_mask_is_found_by_its_name(image, mask, tmp_path):
    root = touch(
        tmp_path, f"test/good/{image}", f"test/crack/{image}", f"ground_truth/crack/{mask}", f"objects/crack/{mask}"
    )
    crack, good = InspectionDataset(root).test
    assert InspectionDataset(root).mask_path(crack) == root / "ground_truth/crack" / mask
    assert InspectionDataset(root).object_path(crack) == root / "objects/crack" / mask
    assert InspectionDataset(root).mask_path(good) is None
    assert image_of_mask(f"crack/{mask}", {"crack/1", "crack/a.b"}) == f"crack/{image.rpartition('.')[0]}"


def disc(h=40, w=48):
    y, x = np.mgrid[:h, :w]
    return np.hypot(y - h / 2, x - w / 2)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "I", "F"])
@pytest.mark.parametrize("labels", [(255, 255), (1, 3)])
def test_a_mask_of_few_values_holds_labels(mode, labels, tmp_path):
    wanted = disc() < 9
    values = np.where(disc() < 5, *labels) * wanted
    if mode in ("I;16", "I", "F"):
        made = Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    elif mode == "RGBA":  # marked where it is opaque
        made = Image.fromarray(np.dstack([np.full((*wanted.shape, 3), 255), wanted * 255]).astype(np.uint8))
    else:
        made = Image.fromarray(wanted if mode == "1" else values.astype(np.uint8)).convert(mode)
    path = tmp_path / f"mask.{'tif' if mode in ('I', 'F') else 'png'}"
    made.save(path)
    mask = read_mask(path, wanted.shape)
    assert mask.dtype == bool and np.array_equal(mask, wanted)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_mask_of_many_values_counts_in_its_upper_half(suffix, tmp_path):
    """Soft edges, and the noise of JPEG around sharp ones."""
    grey = np.clip(255 * (12 - disc()) / 9, 0, 255) if suffix == "png" else 255.0 * (disc() < 8)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / f"mask.{suffix}")
    assert np.array_equal(read_mask(tmp_path / f"mask.{suffix}", grey.shape), grey.astype(np.uint8) >= 128)


def test_a_mask_of_another_size_is_scaled(tmp_path):
    small = disc() < 9
    Image.fromarray(small).save(tmp_path / "mask.png")
    doubled = small.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(read_mask(tmp_path / "mask.png", (80, 96)), doubled)
    Image.fromarray(doubled).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", (40, 48)), small)
    assert read_mask(tmp_path / "mask.png", (27, 32)).shape == (27, 32), "26.67 rounded"


def test_a_mask_that_cannot_be_meant_is_refused(tmp_path):
    Image.new("L", (24, 20), 0).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match=r"mask\.png marks nothing"):
        read_mask(tmp_path / "mask.png", (20, 24))
    with pytest.raises(ImageError, match=r"mask\.png has 24 x 20 px, its image 20 x 24 px"):
        read_mask(tmp_path / "mask.png", (24, 20))
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not an image"):
        read_mask(tmp_path / "mask.png", (20, 24))


@pytest.mark.parametrize(
    ("files", "part", "complaint"),
    [
        ([], "train", "^There is no folder .*part$"),
        (["x.txt"], "train", "has no folder train/good with normal images to train on$"),
        (["x.png", "test/crack/x.png"], "train", "photographs, and a folder test with images"),
        (["x.png", "crack/x.png"], "train", "photographs, and a folder crack with images"),
        (["bottle/x.png"], "train", "has no folder train/good"),
        (["train/x.png"], "train", "has no folder train/good"),
        (["train/good/x.txt"], "train", r"train/good and its subfolders hold no images \(.bmp, "),
        (["train/good/x.png"], "test", "has no folder test with test/good and test/DEFECT$"),
        (["test/good/x.txt", "test/x.png"], "test", "test holds no images in test/good or test/DEFECT$"),
    ],
)
def test_a_folder_in_another_layout_is_refused(files, part, complaint, tmp_path):
    touch(tmp_path / "part", *files)
    with pytest.raises(DatasetError, match=complaint):
        getattr(InspectionDataset(tmp_path / "part"), part)


def test_a_folder_of_photographs_is_one_of_good_parts(tmp_path):
    dataset = InspectionDataset(touch(tmp_path / "part", "b.JPG", "a.png", ".hidden.png", "notes/of the day.txt"))
    assert [(i.name, i.label) for i in dataset.train] == [("good/a.png", 0), ("good/b.JPG", 0)]
    assert [i.path for i in dataset.train] == [tmp_path / "part" / "a.png", tmp_path / "part" / "b.JPG"]
    assert (dataset.dataset, dataset.category) == ("own", "part"), "the name of the folder above is nobody's business"
    with pytest.raises(DatasetError, match="has no folder test"):
        _ = dataset.test


@pytest.mark.parametrize(
    ("image", "complaint"),
    [("good", "test holds no anomalous images in test/DEFECT"), ("crack", "test holds no normal images in test/good")],
)
def test_a_test_set_of_one_kind(image, complaint, tmp_path):
    dataset = InspectionDataset(touch(tmp_path, f"test/{image}/x.png", "test/empty/x.txt"))
    assert [i.name for i in dataset.test] == [f"{image}/x.png"]
    with pytest.raises(DatasetError, match=complaint):
        dataset.test_of_both_kinds()


def test_find_images(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "a/deep/2.JPEG", "a/notes.txt", "a/.hidden.png", "b/x[1].png", "b/x1.png", "odd.dat")
    monkeypatch.chdir(tmp_path)
    names = lambda *patterns: find_images(patterns)  # noqa: E731
    assert names("a") == ["a/1.png", "a/deep/2.JPEG"]
    assert names("b/x1.png", "a", "a/1.png") == ["b/x1.png", "a/1.png", "a/deep/2.JPEG"]
    assert names("a/*") == ["a/1.png"] and names("**/2*") == ["a/deep/2.JPEG"]
    assert names("b/x[1].png") == ["b/x[1].png"], "a file of that name comes before a pattern"
    assert names("odd.dat") == ["odd.dat"], "named outright"
    assert names(str(tmp_path / "b" / "x?.png")) == [str(tmp_path / "b" / "x1.png")]
    assert find_images([Path("a/1.png")]) == ["a/1.png"]
    assert names(".") == ["a/1.png", "a/deep/2.JPEG", "b/x1.png", "b/x[1].png"] and names("./a//") == names("a")


def test_links_lead_in_no_circles_and_to_no_image_twice(tmp_path):
    touch(tmp_path, "root/b/1.png", "outside/2.png")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "root", target_is_directory=True)
    (tmp_path / "root" / "b" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "root" / "self.png").symlink_to("self.png")
    (tmp_path / "root" / "c.png").symlink_to(tmp_path / "outside" / "2.png")
    (tmp_path / "link").symlink_to(tmp_path / "root", target_is_directory=True)
    for named in ("root", "link"):
        found = find_images([tmp_path / named])
        assert found == [str(tmp_path / named / name) for name in ("b/1.png", "c.png")]


def test_listing_many_images_costs_little_memory():
    with tempfile.TemporaryDirectory() as root:  # not tmp_path, which stays for some runs
        for n in range(20_000):
            os.close(os.open(f"{root}/image-{n:06}.png", os.O_CREAT))
        tracemalloc.start()
        found = find_images([root])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(found) == 20_000 and found == sorted(found)
    assert peak < 20e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("gone.png", r"^There is no file or folder gone\.png$"),
        ("gone*.png", r"^gone\*.png finds no images"),
        ("empty", "^empty finds no images"),
        ("", "^"),
    ],
)
def test_a_pattern_that_finds_nothing(pattern, complaint, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=complaint):
        find_images([pattern])
