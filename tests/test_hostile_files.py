"""Files that were made to hold up, crash or mislead whoever decodes them, and damaged ones that look whole."""

import contextlib
import io
import itertools
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from attentdiffernet.decoding_apart import DecodingPool, DecodingProcess
from attentdiffernet.errors import ImageError
from attentdiffernet.images import find_images, highest_grey, read_image
from attentdiffernet.sources import all_ranged, value_range_of
from benchmarks.hostile_files import by_library, mutants

pytestmark = pytest.mark.quick


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def photograph(mode="RGB"):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (24, 30, 3), np.uint8)).resize((240, 200)).convert(mode)


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(before=b"", parts=b""):
    rows = zlib.compress(b"".join(b"\0" + b"\x80" * 64 for _ in range(64)))
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + size
        + before
        + chunk(b"IDAT", rows[:9])
        + parts
        + chunk(b"IDAT", rows[9:])
        + chunk(b"IEND")
    )


def jpeg(after_start=b""):
    whole = saved(Image.new("L", (64, 64)), "JPEG")
    return whole[:2] + after_start + whole[2:]


def scanned(n_scans):
    """A progressive picture of 4 million pixels whose last scan comes again and again."""
    whole = saved(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    return whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * n_scans + whole[-2:]


def gif(extension):
    whole = saved(Image.new("P", (64, 64)), "GIF")
    start = 13 + 3 * (2 << (whole[10] & 7))
    return whole[:start] + extension + whole[start:]


def bmp(n_runs):
    palette = bytes(1024)
    code = b"\x01\x05" * n_runs + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, 4000, 4000, 1, 8, 1, len(code), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(code), 0, 0, 54 + 1024) + header + palette + code


def tiff(n_strips, order="<"):
    start = 8 + 2 + 9 * 12 + 4
    fields = [(256, 16), (257, n_strips), (258, 8), (259, 1), (262, 1), (273, start), (277, 1), (278, 1)]
    fields.append((279, start + 4 * n_strips))
    rows = [struct.pack(f"{order}HHII", tag, 4, n_strips if tag in (273, 279) else 1, value) for tag, value in fields]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(rows))
    return (
        head
        + b"".join(rows)
        + bytes(4)
        + struct.pack(f"{order}I", start) * n_strips
        + struct.pack(f"{order}I", 16) * n_strips
    )


BOMBS = {
    "scans": (scanned(300), "251 or more scans over 4 million pixels"),
    "JPEG segments": (jpeg(b"\xff\xfe\x00\x02" * 2500), "more than 2000 segments"),
    "JPEG filling": (jpeg(b"\xff" * 5000), "more than 2000 segments"),
    "PNG chunks": (png(chunk(b"teSt") * 60_000), "more than 50000 chunks"),
    "PNG pieces": (png(parts=chunk(b"IDAT") * 60_000), "more than 50000 chunks"),
    "PNG texts": (png(chunk(b"tEXt", b"a\0b") * 1200), "more than 1000 texts"),
    "GIF comment": (gif(b"\x21\xfe" + (b"\xff" + b"a" * 255) * 1000 + b"\0"), "too many comments"),
    "GIF comments": (gif(b"\x21\xfe\x01a\0" * 3000), "too many comments"),
    "GIF filling": (gif(bytes(3000)), "too many comments"),
    "BMP runs": (bmp(1_100_000), "over 2 MB of run-length code"),
    "TIFF strips": (tiff(70_000), "more than 65536 strips or tiles"),
    "TIFF strips, big-endian": (tiff(70_000, ">"), "more than 65536 strips or tiles"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_would_keep_its_decoder_busy_is_refused_at_once(name):
    data, complaint = BOMBS[name]
    start = time.process_time()
    with pytest.raises(ImageError, match=rf"^bomb has .*{complaint}"):
        read_image(io.BytesIO(data), "bomb")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "data",
    [scanned(20), jpeg(b"\xff\xfe\x00\x02" * 500), png(chunk(b"teSt") * 500), gif(b"\x21\xfe\x01a\0" * 50), tiff(500)],
    ids=["scans", "segments", "chunks", "comments", "strips"],
)
def test_an_elaborate_file_is_read(data):
    assert read_image(io.BytesIO(data)).shape[2] == 3


WAYS = [{}, {"quality": 95, "subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}]


@pytest.mark.parametrize(("mode", "way"), list(itertools.product(["RGB", "L"], WAYS)))
def test_a_jpeg_that_was_cut_off_and_closed_again_is_refused(mode, way):
    whole = saved(photograph(mode), "JPEG", **way)
    read_image(io.BytesIO(whole))
    with pytest.raises(
        ImageError, match=r"^part\.jpg is cut off: (only the upper [2-5]\d %|its last scans are missing)"
    ):
        read_image(io.BytesIO(whole[: 4 * len(whole) // 10] + b"\xff\xd9"), "part.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_of_which_hardly_anything_is_left_is_refused(mode):
    whole = saved(photograph(mode).resize((512, 512)), "JPEG")
    code = whole.index(b"\xff\xda") + 2 + int.from_bytes(whole[whole.index(b"\xff\xda") + 2 :][:2])
    for n_bytes in range(5, 45, 5):
        with pytest.raises(ImageError, match=r"^part\.jpg is cut off: only the upper \d+ %"):
            read_image(io.BytesIO(whole[: code + n_bytes] + b"\xff\xd9"), "part.jpg")


@pytest.mark.parametrize("side", [96, 200, 512])
@pytest.mark.parametrize("colour", [(90, 100, 110), (128, 128, 128), (7, 200, 31)])
@pytest.mark.parametrize("way", [{}, {"optimize": True}, {"optimize": True, "subsampling": 0, "quality": 95}])
def test_a_whole_jpeg_of_one_colour_is_read(side, colour, way):
    for picture in (Image.new("RGB", (side, side), colour), Image.new("L", (side, side), colour[0])):
        assert read_image(io.BytesIO(saved(picture, "JPEG", **way))).shape == (side, side, 3)


@pytest.mark.parametrize("colour", [(90, 100, 110), (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("way", WAYS)
def test_a_whole_jpeg_with_a_flat_lower_part_is_read(colour, way):
    picture = photograph()
    picture.paste(colour, (0, 90, 240, 200))
    assert read_image(io.BytesIO(saved(picture, "JPEG", **way))).shape == (200, 240, 3)


def test_damaged_metadata_do_not_refuse_a_picture_and_sound_ones_turn_it():
    picture = photograph()
    exif = picture.getexif()
    exif[274] = 6  # a quarter turn
    assert read_image(io.BytesIO(saved(picture, "JPEG", exif=exif))).shape == (240, 200, 3)
    damaged = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff\xff\xff\xff\xff" * 3
    assert read_image(io.BytesIO(saved(picture, "JPEG", exif=damaged))).shape == (200, 240, 3)


def test_an_over_long_name_and_a_link_to_nothing_are_said_and_stop_nothing(tmp_path):
    with pytest.raises(ImageError, match="File name too long"):
        read_image(tmp_path / ("a" * 300 + ".png"))
    (tmp_path / "part.png").write_bytes(png())
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    assert find_images([tmp_path / "gone.png", tmp_path / "part.png"]) == [
        str(tmp_path / name) for name in ("gone.png", "part.png")
    ]
    with pytest.raises(ImageError, match=r"^There is no file gone\.png$"):
        read_image(tmp_path / "gone.png")


def test_mutated_files_are_read_or_refused_in_a_sentence():
    found = by_library(mutants(240, seed=1))
    assert sum(count for counts in found["outcomes"].values() for count in counts.values()) == 240
    assert all(counts["refused"] for counts in found["outcomes"].values()) and found["slowest_s"] < 5


def test_a_damaged_tiff_is_said_once_and_not_by_its_decoder(capfd):
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
        whole = saved(photograph(), "TIFF", compression=compression)
        for place in range(100, len(whole), len(whole) // 20):
            with contextlib.suppress(ImageError):
                read_image(io.BytesIO(whole[:place] + b"\xff" * 40 + whole[place + 40 :]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.process
def test_a_process_of_its_own_decodes_as_this_one_does_and_is_ended_when_it_takes_too_long(tmp_path, monkeypatch):
    path = tmp_path / "part.png"
    photograph().save(path)
    expected = read_image(path)
    process = DecodingProcess()
    np.testing.assert_array_equal(process.read_upload(path)[0], expected)
    stream = io.BytesIO(path.read_bytes())
    stream.seek(0, io.SEEK_END)  # as whoever has just written it leaves it
    np.testing.assert_array_equal(process.read_upload(stream)[0], expected)
    with pytest.raises(ImageError, match=r"^upload is empty$"):
        process.read_upload(io.BytesIO(), "upload")
    with pytest.raises(ImageError, match=r"^There is no file gone\.png$"):
        process.read_upload(tmp_path / "gone.png")
    process.deadline_s = 0
    with pytest.raises(ImageError, match=r"^part\.png could not be decoded: it takes longer than 0 s$"):
        process.read_upload(path)
    with pytest.raises(ImageError, match=r"^part\.png could not be decoded: it takes longer than 0 s$"):
        process.highest_grey(path)
    process.deadline_s = 60
    np.testing.assert_array_equal(process.read_upload(path)[0], expected)  # by a new process
    for values in (np.full((32, 32), 4000, np.uint16), np.full((32, 32), 0.5, np.float32)):
        file = deep(tmp_path / "deep.tif", values)
        assert process.highest_grey(file) == highest_grey(file) == (values.max(), values.dtype == np.float32)
    process.close()


@pytest.mark.process
def test_a_decoder_that_dies_takes_nothing_with_it(tmp_path, monkeypatch):
    path = tmp_path / "part.png"
    photograph().save(path)
    pool = DecodingPool(processes=1)
    running = DecodingProcess._running

    def killed(self):
        process = running(self)
        process.kill()
        return process

    with monkeypatch.context() as patched:
        patched.setattr(DecodingProcess, "_running", killed)
        with pytest.raises(ImageError, match=r"^part\.png could not be decoded: it ended the decoder$"):
            pool.read_image(path)
    assert pool.read_image(path).shape == (200, 240, 3)


# -- grey values of more than 8 bits


def deep(path, values):
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "white", "expected"),
    [("u2", None, 255 / 65535), ("u2", 4095, 255 / 4095), ("i4", 4095, 255 / 4095), ("f4", 4095, 255 / 4095)],
)
def test_grey_values_are_scaled_by_a_range_and_never_by_the_image(kind, white, expected, tmp_path):
    values = np.arange(32 * 32, dtype=kind).reshape(32, 32) * 3
    grey = read_image(deep(tmp_path / "a.tif", values), white=white)[..., 0]
    np.testing.assert_array_equal(grey, np.round(values * expected))
    brighter = values.copy()
    brighter[0, 0] = 4095
    other = read_image(deep(tmp_path / "b.tif", brighter), white=white)[..., 0]
    np.testing.assert_array_equal(other[1:], grey[1:])


@pytest.mark.parametrize(("low", "high", "white"), [(0, 1.001, None), (-1, 100, 4095), (0, 4096, 4095), (0, np.nan, 1)])
def test_grey_values_out_of_range_are_refused_with_the_range(low, high, white, tmp_path):
    values = np.full((32, 32), low, np.float32)
    values[3, 4] = high
    with pytest.raises(
        ImageError, match=rf"^a\.tif has grey values from .* to .*; here they may be 0 to {white or 1}$"
    ):
        read_image(deep(tmp_path / "a.tif", values), white=white)


@pytest.mark.parametrize(
    ("kind", "highest", "white"),
    [("f4", 1.0, 1), ("f4", 200, 255), ("u2", 1, 255), ("u2", 1000, 1023), ("i4", 4095, 4095), ("u2", 65535, 65535)],
)
def test_the_range_of_a_data_set_is_the_usual_one_that_holds_its_values(kind, highest, white, tmp_path):
    files = [deep(tmp_path / f"{k}.tif", np.full((32, 32), value).astype(kind)) for k, value in enumerate((0, highest))]
    photograph().save(tmp_path / "eight bits.png")
    assert value_range_of([*files, tmp_path / "eight bits.png"]) == white
    assert value_range_of(files, 4000) == 4000
    assert value_range_of([tmp_path / "eight bits.png", np.zeros((32, 32, 3), np.uint8)], 4000) is None
    assert value_range_of(all_ranged(files, 77)) == 77, "decided before"


def test_more_than_16_bits_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"^Grey values up to 65536 are more than 16 bits$"):
        value_range_of([deep(tmp_path / "a.tif", np.full((32, 32), 65536, np.int32))])
