"""Data sets brought into the layout: small archives of the same structure as the originals, and hostile ones."""

import contextlib
import copyreg
import dataclasses
import io
import json
import lzma
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import types
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from attentdiffernet import datasets, files
from attentdiffernet.category import InspectionDataset
from attentdiffernet.datasets import CARDS, Counts, archives, layouts, pickles, sample, wafer
from attentdiffernet.datasets import prepare as preparing
from attentdiffernet.datasets.prepare import Options, prepare
from attentdiffernet.errors import AttentDifferNetError, DatasetError, ImageError
from attentdiffernet.files import locked
from attentdiffernet.images import read_image

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]


# -- what the originals look like


def png(seed, mode="RGB", size=(20, 16)):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def jpeg(seed):
    stream = io.BytesIO()
    Image.open(io.BytesIO(png(seed))).save(stream, "JPEG")
    return stream.getvalue()


def mvtec_files(*categories, n_train=5):
    """As in mvtec_anomaly_detection.tar.xz, with two defects of one image each."""
    files = {"readme.txt": b"MVTec AD", "license.txt": b"CC BY-NC-SA 4.0"}
    for k, category in enumerate(categories):
        names = [f"train/good/{n:03d}.png" for n in range(n_train)] + ["test/good/000.png"]
        for defect in ("crack", "poke"):
            files[f"{category}/ground_truth/{defect}/000_mask.png"] = png(k, "1")
            names.append(f"test/{defect}/000.png")
        files |= {f"{category}/{name}": png(100 * k + n) for n, name in enumerate(names)}
        files[f"{category}/license.txt"] = files[f"{category}/readme.txt"] = b"text"
    return files


SMALL = Counts(5, 1, 2)  # of mvtec_files


@pytest.fixture
def small_mvtec(monkeypatch):
    """The card of MVTec AD as if its categories were bottle, cable and screw, each as small as mvtec_files."""
    card = dataclasses.replace(CARDS["mvtec_ad"], categories=dict.fromkeys(("bottle", "cable", "screw"), SMALL))
    monkeypatch.setitem(CARDS, "mvtec_ad", card)


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar_of(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def folder_of(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def images_of(files, category):
    inside = {
        name.removeprefix(f"{category}/"): data for name, data in files.items() if name.startswith(f"{category}/")
    }
    return {name: data for name, data in inside.items() if name.endswith(".png")}


PACKERS = {
    "a.zip": zip_of,
    "a.tar": tar_of,
    "a.tar.gz": lambda path, files: tar_of(path, files, "w:gz"),
    "a.tar.bz2": lambda path, files: tar_of(path, files, "w:bz2"),
    "a.tar.xz": lambda path, files: tar_of(path, files, "w:xz"),
    "folder": folder_of,
}


@pytest.mark.parametrize("name", PACKERS)
def test_mvtec_ad_from_whatever_it_came_in(name, small_mvtec, tmp_path):
    files = mvtec_files("bottle", "cable", "screw")
    left_behind = {
        "bottle/.DS_Store": b"x",
        "__MACOSX/bottle/train/good/._000.png": b"x",
        "cable/train/.good/1.png": b"",
    }
    source = PACKERS[name](
        tmp_path / name, {f"./{n}" if "tar" in name else n: d for n, d in (files | left_behind).items()}
    )
    out = tmp_path / "data" / "mvtec_ad"
    seen = []
    outcome = prepare("mvtec_ad", source, out, progress=lambda *step: seen.append(step))
    assert sorted(path.name for path in out.iterdir()) == ["bottle", "cable", "screw"]
    assert [(p.category, p.counts, p.n_masks, p.already) for p in outcome.prepared] == [
        (category, SMALL, 2, False) for category in ("bottle", "cable", "screw")
    ]
    assert seen[-1] == ("preparing images", 30, 30) and outcome.notes == ()
    for category in ("bottle", "cable", "screw"):
        made = tree(out / category)
        record = json.loads(made.pop("dataset.json"))
        assert made == images_of(files, category), "the bytes as they came"
        assert record["licence"].startswith("CC BY-NC-SA 4.0") and record["made_of"]["file"] == name
        assert (record["made_of"]["sha256"] != "") == (name != "folder")
        data = InspectionDataset(out / category)
        assert (data.dataset, len(data.train), len(data.test)) == ("mvtec_ad", 5, 3)
        assert all(data.mask_path(image) for image in data.test if image.label)


def test_one_category_alone_and_the_rest_later(small_mvtec, tmp_path):
    source = zip_of(tmp_path / "mvtec.zip", mvtec_files("bottle", "cable"))
    out = tmp_path / "out"
    (bottle,) = prepare("mvtec_ad", source, out, Options(("bottle",))).prepared
    assert bottle.folder == out / "bottle" and not (out / "cable").exists()
    before = {path: path.stat().st_mtime_ns for path in bottle.folder.rglob("*")}
    outcome = prepare("mvtec_ad", source, out)
    assert [(p.category, p.already) for p in outcome.prepared] == [("bottle", True), ("cable", False)]
    assert before == {path: path.stat().st_mtime_ns for path in bottle.folder.rglob("*")}, "not touched"
    assert outcome.notes == ("mvtec.zip lacks 1 of 3 categories: screw",)


def test_a_published_checksum_is_compared(small_mvtec, monkeypatch, tmp_path):
    import hashlib

    source = zip_of(tmp_path / "mvtec.zip", mvtec_files("bottle"))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for published, says in ((digest, "mvtec.zip is the file as published (SHA-256)"), ("0" * 64, "is not the file as")):
        card = dataclasses.replace(CARDS["mvtec_ad"], checksums={"mvtec.zip": published})
        monkeypatch.setitem(CARDS, "mvtec_ad", card)
        notes = prepare("mvtec_ad", source, tmp_path / published[:4], Options(("bottle",))).notes
        assert says in notes[0] and digest in json.dumps([*notes, digest])


def test_insplad_fault_as_the_authors_zip(monkeypatch, tmp_path):
    assets = {"glass-insulator": "missingcap", "vari-grip": "nest"}
    card = dataclasses.replace(CARDS["insplad_fault"], categories=dict.fromkeys(assets, Counts(5, 2, 1)))
    monkeypatch.setitem(CARDS, "insplad_fault", card)
    files = {}
    for k, (asset, defect) in enumerate([*assets.items(), ("damper-preformed", "rust")]):
        for n in range(8):
            where = "train/good" if n < 5 else "test/good" if n < 7 else f"test/{defect}"
            files[f"{asset}/{where}/{n}.jpg"] = jpeg(10 * k + n)
    outcome = prepare("insplad_fault", zip_of(tmp_path / "unsupervised_anomaly_detection.zip", files), tmp_path / "out")
    assert [p.category for p in outcome.prepared] == list(assets), "the five of the paper, not other assets"
    assert (tmp_path / "out/vari-grip/test/nest/7.jpg").read_bytes() == jpeg(17)


def tile_files():
    names = {"train": ["exp6_num_34208", "exp5_num_180393", "exp1_num_195647", "exp1_num_37978", "exp2_num_10410"]}
    names["test"] = ["exp0_num_743", "exp1_num_824", "exp6_num_359029"]
    top, files = "Magnetic-tile-defect-datasets.-master", {}
    for k, stem in enumerate(names["train"] + names["test"]):
        files[f"{top}/MT_Free/Imgs/{stem}.jpg"] = jpeg(k)
        files[f"{top}/MT_Free/Imgs/{stem}.png"] = png(k, "1")
    for k, kind in enumerate(("Blowhole", "Break", "Crack", "Fray", "Uneven")):
        files[f"{top}/MT_{kind}/Imgs/exp1_num_{k}.jpg"] = jpeg(50 + k)
        files[f"{top}/MT_{kind}/Imgs/exp1_num_{k}.png"] = png(k, "1")
    return names, {f"{top}/README.md": b"text", f"{top}/dataset.jpg": jpeg(99)} | files


def test_magnetic_tiles_are_split_as_differnet_did(tmp_path):
    names, files = tile_files()
    source = zip_of(tmp_path / "tiles.zip", files)
    with pytest.raises(
        DatasetError, match=r"has 5 normal to train, 3 normal and 5 .*published counts are 761 normal to train"
    ):
        prepare("mtd", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (made,) = prepare("mtd", source, tmp_path / "out", Options(any_counts=True)).prepared
    assert (made.counts, made.n_masks) == (Counts(5, 3, 5), 5)
    for split in ("train", "test"):
        assert sorted(p.stem for p in (made.folder / split / "good").iterdir()) == sorted(names[split])
    assert (made.folder / "ground_truth/fray/exp1_num_3_mask.png").read_bytes() == png(3, "1")


def test_the_test_tiles_are_as_many_as_differnet_left():
    numbers = [number for numbers in layouts._TEST_TILES.values() for number in numbers.split()]
    assert len(numbers) == 191 == CARDS["mtd"].categories["magnetic_tile"].test_good


# -- cards


def test_cards_agree_with_what_is_published():
    def total(name):
        counts = [dataclasses.astuple(c) for c in CARDS[name].categories.values()]
        return tuple(map(sum, zip(*counts, strict=True)))

    assert total("mvtec_ad") == (3629, 467, 1258) and len(CARDS["mvtec_ad"].categories) == 15
    assert total("insplad_fault") == (9006, 2254, 402) and len(CARDS["insplad_fault"].categories) == 5
    assert sum(total("mtd")) == 1344 and sum(total("mixedwm38")) == 38015
    drawn = {c.name: Counts(160, 40, 3 * sample.N_PER_LEVEL * len(c.defects)) for c in sample.CATEGORIES.values()}
    assert CARDS["sample"].categories == drawn and (sample.N_TRAIN, sample.N_TEST_GOOD) == (160, 40)
    assert sum(wafer.WM811K_LABELS.values()) == 172_950
    for card in [*CARDS.values(), datasets.FOLDER]:
        assert card.title and card.shows and card.archive and card.split
        assert all(len(digest) == 64 for digest in card.checksums.values())


# -- counts, and what came instead


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (
            mvtec_files("bottle", n_train=6),
            "bottle has 6 normal to train, 1 normal and 2",
        ),
        ({"photos/1.png": png(1)}, r"holds nothing of MVTec AD. It holds photos. Wanted: mvtec_anomaly"),
        ({}, "holds nothing of MVTec AD. It is empty"),
        ({"inner.zip": b""}, r"It holds archives \(inner.zip\): unpack it"),
        (
            mvtec_files("bottle") | {"bottle/ground_truth/poke/001_mask.png": png(1, "1")},
            "mask ground_truth/poke/001_mask.png belongs to no image",
        ),
        (
            mvtec_files("bottle") | {"copy/bottle/train/good/000.png": png(1)},
            "Both bottle/train/good/000.png and copy/bottle/train/good/000.png would become bottle/train/good/000.png",
        ),
        (
            mvtec_files("bottle") | {"bottle/ground_truth/poke/000_mask.png": png(1, "1", (30, 16))},
            "bottle: the mask ground_truth/poke/000_mask.png has 30 x 16 px, its image 20 x 16",
        ),
    ],
    ids=["counts", "other", "empty", "nested", "lone mask", "twice", "mask of another size"],
)
def test_what_is_not_the_data_set_is_refused(files, complaint, small_mvtec, tmp_path):
    with pytest.raises(DatasetError, match=complaint):
        prepare("mvtec_ad", zip_of(tmp_path / "a.zip", files), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("mvtec", {}, "There is no data set 'mvtec'; there are sample, mvtec_ad"),
        ("sample", {}, "The sample set is drawn, not prepared"),
        ("mvtec_ad", {"categories": ("nut",)}, "There is no category 'nut' here; there are bottle"),
        ("mvtec_ad", {"normal": ("good",)}, "--normal cannot be used with mvtec_ad"),
        ("mvtec_ad", {"limit": 3}, "--limit cannot be used with mvtec_ad"),
        ("folder", {}, "Name the one category that the folder becomes: --category NAME"),
        ("folder", {"categories": ("../x",)}, "The name of a category has up to 64 letters"),
        ("wm811k", {"limit": 0}, "--limit must be 1 or more, got 0"),
        ("wm811k", {}, "a.zip must hold one file .pkl, got none"),
        ("mixedwm38", {}, "a.zip must hold one file .npz, got none"),
    ],
)
def test_what_cannot_be_asked_for(name, options, complaint, small_mvtec, tmp_path):
    source = zip_of(tmp_path / "a.zip", mvtec_files("bottle"))
    with pytest.raises(DatasetError, match=complaint):
        prepare(name, source, tmp_path / "out", Options(**options))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_places_that_cannot_be(small_mvtec, tmp_path):
    source = folder_of(tmp_path / "in", mvtec_files("bottle"))
    with pytest.raises(DatasetError, match="There is no file or folder"):
        prepare("mvtec_ad", tmp_path / "gone", tmp_path / "out")
    with pytest.raises(DatasetError, match="lies inside"):
        prepare("mvtec_ad", source, source / "out")
    with pytest.raises(DatasetError, match=r"readme.txt is a file; --out must be a folder"):
        prepare("mvtec_ad", source, source / "readme.txt")
    with pytest.raises(
        DatasetError, match=r"readme.txt is neither a folder nor an archive that can be read \(zip, tar"
    ):
        prepare("mvtec_ad", source / "readme.txt", tmp_path / "out")


def test_a_full_disk_is_seen_before(small_mvtec, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=50_000_000))
    with pytest.raises(DatasetError, match=r"needs 0.1 GB of free space, but there are 0.1"):
        prepare("mvtec_ad", zip_of(tmp_path / "a.zip", mvtec_files("bottle")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- hostile archives


def hostile_zip(path, name, mode=0, flag=0):
    files = mvtec_files("bottle")
    zip_of(path, files)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.filename = name
        info.create_system, info.external_attr = 3, (mode | 0o644) << 16
        archive.writestr(info, b"/etc/passwd")
    if flag:
        data = path.read_bytes()
        at = data.rindex(b"PK\x01\x02") + 8
        path.write_bytes(data[:at] + struct.pack("<H", flag) + data[at + 2 :])


def hostile_tar(path, name, kind=tarfile.REGTYPE, link=""):
    tar_of(path, mvtec_files("bottle"))
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member, io.BytesIO())


BAD_NAMES = {
    "../../escaped.png": "leads out of its folder",
    "bottle/../../../escaped.png": "leads out of its folder",
    "/tmp/escaped.png": "is an absolute name",
    "C:/escaped.png": "is an absolute name",
    "bottle\\..\\escaped.png": "has backslashes",
    "bottle/\x1b[2Jescaped.png": "has characters that are not allowed in names",
    "bottle/" + "d/" * 30 + "deep.png": "is too deep or too long",
    "bottle/" + "n" * 300 + ".png": "has a part of more than 255 bytes",
    "bottle/train/good/000.png": "occurs twice",
    "bottle/train/GOOD/000.png": "differs from bottle/train/good/000.png only in case",
    "bottle/train/good": "occurs twice",
    "bottle/train/good/000.png/x.png": "occurs twice",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(("name", "complaint"), BAD_NAMES.items(), ids=range(len(BAD_NAMES)))
def test_bad_names_in_archives(kind, name, complaint, small_mvtec, tmp_path):
    path = tmp_path / "box" / f"a.{kind}"
    path.parent.mkdir()
    (hostile_zip if kind == "zip" else hostile_tar)(path, name)
    with pytest.raises(DatasetError, match=f"{path.name} is rejected: .* {complaint}") as refused:
        prepare("mvtec_ad", path, tmp_path / "box" / "out")
    assert str(refused.value).isprintable()
    assert [p.name for p in tmp_path.iterdir()] == ["box"] and list(path.parent.iterdir()) == [path]


def test_a_zip_name_with_a_nul_is_refused(small_mvtec, tmp_path):
    path = tmp_path / "a.zip"
    hostile_zip(path, "bottle/x.png~.exe")
    path.write_bytes(path.read_bytes().replace(b"x.png~.exe", b"x.png\0.exe"))
    with pytest.raises(DatasetError, match="has characters that are not allowed in names"):
        prepare("mvtec_ad", path, tmp_path / "out")


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [(stat.S_IFLNK, "is a link"), (stat.S_IFCHR, "is neither a file"), (stat.S_IFIFO, "is neither")],
)
def test_links_and_devices_in_a_zip(mode, complaint, small_mvtec, tmp_path):
    hostile_zip(tmp_path / "a.zip", "bottle/train/good/9.png", mode)
    with pytest.raises(DatasetError, match=f"bottle/train/good/9.png {complaint}"):
        prepare("mvtec_ad", tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "is neither a file"),
        (tarfile.BLKTYPE, "is neither a file"),
        (tarfile.FIFOTYPE, "is neither a file"),
    ],
)
def test_links_and_devices_in_a_tar(kind, complaint, small_mvtec, tmp_path):
    hostile_tar(tmp_path / "a.tar", "bottle/train/good/9.png", kind, "../../../../etc/passwd")
    with pytest.raises(DatasetError, match=f"bottle/train/good/9.png {complaint}"):
        prepare("mvtec_ad", tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_entry(small_mvtec, tmp_path):
    hostile_zip(tmp_path / "a.zip", "bottle/train/good/9.png", flag=1)
    with pytest.raises(DatasetError, match=r"bottle/train/good/9.png is encrypted"):
        prepare("mvtec_ad", tmp_path / "a.zip", tmp_path / "out")


def test_links_and_pipes_in_a_folder(small_mvtec, tmp_path):
    source = folder_of(tmp_path / "in", mvtec_files("bottle"))
    (source / "bottle" / "more").symlink_to("/etc")
    with pytest.raises(DatasetError, match="in is rejected: bottle/more is a link; replace it by what it points to"):
        prepare("mvtec_ad", source, tmp_path / "out")
    (source / "bottle" / "more").unlink()
    os.mkfifo(source / "bottle" / "pipe.png")
    with pytest.raises(DatasetError, match=r"bottle/pipe.png is neither a file nor a folder"):
        prepare("mvtec_ad", source, tmp_path / "out")


def test_a_link_put_there_after_the_listing_is_not_followed(tmp_path):
    source = folder_of(tmp_path / "in", {"a.png": b"12345"})
    (tmp_path / "secret").write_bytes(b"54321")
    listed = archives.open_source(source)
    (source / "a.png").unlink()
    (source / "a.png").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match=r"a\.png"):
        list(listed.read(["a.png"], 100))


@pytest.mark.parametrize(("name", "mode"), [("a.zip", ""), ("a.tar.gz", "w:gz"), ("a.tar.xz", "w:xz")])
def test_a_bomb_is_not_unpacked(name, mode, tmp_path):
    bomb = {"bottle/train/good/000.png": bytes(110_000_000)}
    path = tar_of(tmp_path / name, bomb, mode) if mode else zip_of(tmp_path / name, bomb)
    assert path.stat().st_size < 200_000
    with pytest.raises(DatasetError, match=r"is rejected: it would unpack to \d+ times its size or more"):
        prepare("mvtec_ad", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_than_the_limits_allow(tmp_path):
    source = zip_of(tmp_path / "a.zip", {f"{k}.png": b"1234567890" for k in range(20)})
    for limits, complaint in (
        (archives.Limits(entries=19), "it has more than 19 entries"),
        (archives.Limits(total_bytes=199), "it would unpack to more than 0 GB"),
        (archives.Limits(file_bytes=9), r"0.png would unpack to 0.0 GB"),
    ):
        with pytest.raises(DatasetError, match=complaint):
            archives.open_source(source, limits)
    with pytest.raises(DatasetError, match=r"0.png has 0 MB; the limit is 0 MB"):
        list(archives.open_source(source).read(["0.png"], 9))


def test_a_tar_name_of_a_gigabyte_is_not_read(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    with pytest.raises(DatasetError, match="a header of unreasonable size"):
        archives.open_source(tmp_path / "a.tar")


def test_a_sparse_file_is_refused(tmp_path):
    member = tarfile.TarInfo("bottle/train/good/000.png")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"00000000010\0"  # its true size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(DatasetError, match="is a sparse file"):
        archives.open_source(tmp_path / "a.tar")


def test_an_xz_file_cannot_ask_for_gigabytes(tmp_path):
    data = bytearray(lzma.compress(bytes(10_000)))
    size = (data[12] + 1) * 4  # of the block header
    assert data[14:16] == b"\x21\x01", "the filter LZMA2 with one byte for the size of its dictionary"
    data[16] = 40  # 4 GiB
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    (tmp_path / "a.tar.xz").write_bytes(data)
    with pytest.raises(DatasetError, match=r"damaged or incomplete .*[Mm]emory"):
        archives.open_source(tmp_path / "a.tar.xz")


# -- damage


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_download_that_broke_off(name, share, small_mvtec, tmp_path):
    path = PACKERS[name](tmp_path / name, mvtec_files("bottle", "cable"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetError, match=r"is damaged or incomplete|but the published counts are"):
        prepare("mvtec_ad", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tar_with_a_damaged_entry_in_the_middle(small_mvtec, tmp_path):
    path = tar_of(tmp_path / "a.tar", mvtec_files("bottle", "cable"))
    data = bytearray(path.read_bytes())
    at = data.index(b"cable/train/good/003.png")
    data[at : at + 3] = b"\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a.tar is damaged or incomplete \(an entry cannot be read\)"):
        prepare("mvtec_ad", path, tmp_path / "out")


def test_a_flipped_byte_in_a_zip(small_mvtec, tmp_path):
    files = mvtec_files("bottle")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    content = path.read_bytes()
    at = content.index(files["bottle/test/poke/000.png"]) + 60
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(DatasetError, match=r"a.zip is damaged or incomplete \(Bad CRC-32"):
        prepare("mvtec_ad", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_image_stops_its_category_alone(small_mvtec, tmp_path):
    files = mvtec_files("bottle", "cable") | {"cable/test/poke/000.png": b"no image"}
    with pytest.raises(ImageError, match=r"cable/test/poke/000.png is not an image that can be read"):
        prepare("mvtec_ad", zip_of(tmp_path / "a.zip", files), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["bottle"], "whole, and nothing beside it"


def test_an_archive_that_changes_while_it_is_read(tmp_path):
    source = archives.open_source(tar_of(tmp_path / "a.tar", {"a.png": b"1234", "b.png": b"1"}))
    tar_of(tmp_path / "a.tar", {"a.png": b"12345"})
    for name in ("a.png", "b.png"):
        with pytest.raises(DatasetError, match=r"a.tar changed while it was read"):
            list(source.read([name], 100))


# -- ends without notice, and going on

KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from attentdiffernet import images as data
from attentdiffernet.datasets import CARDS, Counts, prepare as preparing
source, out = Path(sys.argv[1]), Path(sys.argv[2])
small = dict.fromkeys(("bottle", "cable"), Counts(5, 1, 2))
CARDS["mvtec_ad"] = dataclasses.replace(CARDS["mvtec_ad"], categories=small)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def rename_and_die(source, target, rename=os.rename):
    rename(source, target)
    die()

def run(progress=None):
    return preparing.prepare("mvtec_ad", source, out, progress=progress)

def killed_at(step):
    # After that many images have been written (0: while the archive is listed), or between the two renames.
    child = os.fork()
    if not child:
        if step == "rename":
            os.replace = rename_and_die
        run(lambda stage, done, total: (done if stage == "preparing images" else 0) == step and die())
        os._exit(3)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, step
    there = {p.name: sum(f.is_file() for f in p.rglob("*")) for p in out.glob("[!.]*")} if out.exists() else {}
    assert set(there.values()) <= {11}, (step, there)  # whole: ten images and the record
    return sorted(there)

def whole():
    assert sorted(p.name for p in out.iterdir()) == ["bottle", "cable"]

for step in (0, 1, 5, 10):
    assert killed_at(step) == [], step
assert killed_at(11) == ["bottle"]
assert killed_at(10) == ["bottle"]  # of the other category: the finished one is not made again
assert [p.already for p in run().prepared] == [True, False]
whole()
(out / "bottle/train/good/000.png").unlink()
assert killed_at("rename") == ["cable"]
assert [p.already for p in run().prepared] == [True, True]  # the new one was whole
whole()
print("whole")
"""


@pytest.mark.process
def test_killed_at_any_moment_no_half_category_is_left(tmp_path):
    files = mvtec_files("bottle", "cable")
    source = PACKERS["a.tar.xz"](tmp_path / "a.tar.xz", files)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, source, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
    for category in ("bottle", "cable"):
        assert images_of(files, category).items() <= tree(tmp_path / "out" / category).items()


def test_a_category_that_lost_a_file_is_made_anew(small_mvtec, tmp_path):
    source, out = zip_of(tmp_path / "a.zip", mvtec_files("bottle", "cable")), tmp_path / "out"
    prepare("mvtec_ad", source, out)
    before = tree(out)
    (out / "bottle/test/poke/000.png").unlink()
    (out / "cable/test/poke/000.png").write_bytes(b"")
    assert [p.already for p in prepare("mvtec_ad", source, out).prepared] == [False, False]
    assert tree(out) == before and sorted(p.name for p in out.iterdir()) == ["bottle", "cable"]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (
            lambda bottle: (bottle / "dataset.json").unlink(),
            "exists and was not made by this command; nothing was changed",
        ),
        (lambda bottle: (bottle / "dataset.json").write_text("[]"), "exists and was not made by this command"),
        (
            lambda bottle: (bottle / "notes.txt").write_text("mine"),
            "holds other files, such as notes.txt",
        ),
        (
            lambda bottle: _record(bottle, dataset="insplad_fault"),
            "was made from another data set; nothing was changed",
        ),
        (lambda bottle: _record(bottle, files=dict.fromkeys(_recorded(bottle), 1)), "was made from another data set"),
        (
            lambda bottle: _record(bottle, files={}),
            "was made from other files or with other options; nothing was changed",
        ),
    ],
)
def test_what_is_not_ours_is_left_alone(spoil, complaint, small_mvtec, tmp_path):
    source, out = zip_of(tmp_path / "a.zip", mvtec_files("bottle")), tmp_path / "out"
    prepare("mvtec_ad", source, out)
    spoil(out / "bottle")
    before = tree(out)
    with pytest.raises(DatasetError, match=complaint):
        prepare("mvtec_ad", source, out)
    assert tree(out) == before


def _recorded(bottle):
    return json.loads((bottle / "dataset.json").read_text())["files"]


def _record(bottle, **changes):
    record = json.loads((bottle / "dataset.json").read_text())
    (bottle / "dataset.json").write_text(json.dumps(record | changes))


def test_two_at_once_do_not_meet(small_mvtec, tmp_path):
    pytest.importorskip("fcntl")
    source = zip_of(tmp_path / "a.zip", mvtec_files("bottle"))
    with locked(tmp_path / "out"), pytest.raises(DatasetError, match="Another process is preparing a data set in"):
        prepare("mvtec_ad", source, tmp_path / "out")
    assert len(prepare("mvtec_ad", source, tmp_path / "out").prepared) == 1


def test_preparing_needs_no_locks(small_mvtec, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    source = zip_of(tmp_path / "a.zip", mvtec_files("bottle"))
    assert len(prepare("mvtec_ad", source, tmp_path / "out").prepared) == 1


# -- any folder


def own_files(good="good", n=20, defects=("scratch", "dent"), top=""):
    files = {f"{top}{good}/{k}.png": png(k) for k in range(n)}
    return files | {f"{top}{defect}/{k}.png": png(90 + k) for defect in defects for k in range(2)}


@pytest.mark.parametrize("good", ["good", "Normal", "OK"])
@pytest.mark.parametrize("top", ["", "my photographs/2026/"])
def test_a_folder_of_ones_own(good, top, tmp_path):
    source = folder_of(tmp_path / "in", own_files(good, top=top) | {f"{top}notes.png": png(0)})
    (made,) = prepare("folder", source, tmp_path / "own", Options(("bolt",))).prepared
    assert made.counts == Counts(16, 4, 4) and made.folder == tmp_path / "own" / "bolt"
    data = InspectionDataset(made.folder)
    assert {image.defect for image in data.test} == {"good", "scratch", "dent"}
    tested = {image.path.name for image in data.test if not image.label}
    assert tested == layouts.hold_out([f"{k}.png" for k in range(20)], 0.2), "wherever the folder lies"


def test_normal_and_anomalous_named(tmp_path):
    files = own_files("fine", defects=("bad", "worse", "unclear")) | {"fine/deep/1.png": png(7)}
    source = zip_of(tmp_path / "a.zip", files)
    with pytest.raises(
        DatasetError, match=r"Which images are normal\? .* Subfolders with images: bad, fine, unclear, worse"
    ):
        prepare("folder", source, tmp_path / "own", Options(("bolt",)))
    with pytest.raises(DatasetError, match="There are no images in a subfolder gone"):
        prepare("folder", source, tmp_path / "own", Options(("bolt",), normal=("gone",)))
    with pytest.raises(DatasetError, match=r"name subfolders of the source, got '../x'"):
        prepare("folder", source, tmp_path / "own", Options(("bolt",), normal=("../x",)))
    options = Options(("bolt",), normal=("fine/",), anomalous=("bad", "worse"), held_out=0.0)
    (made,) = prepare("folder", source, tmp_path / "own", options).prepared
    assert made.counts == Counts(21, 0, 4) and (made.folder / "train/good/deep-1.png").is_file()
    with pytest.raises(DatasetError, match="made from other files or with other options"):
        prepare("folder", source, tmp_path / "own", dataclasses.replace(options, held_out=0.5))


def test_several_normal_folders_and_names_that_meet(tmp_path):
    files = {f"{day}/ok/{k}.png": png(k) for day in ("monday", "tuesday") for k in range(4)} | {"dents/1.png": png(9)}
    options = Options(("bolt",), normal=("monday/ok", "tuesday/ok"))
    (made,) = prepare("folder", folder_of(tmp_path / "in", files), tmp_path / "own", options).prepared
    assert made.counts == Counts(6, 2, 1)
    names = {p.name for p in made.folder.rglob("*.png")}
    assert names == {f"{day}-ok-{k}.png" for day in ("monday", "tuesday") for k in range(4)} | {"1.png"}
    clash = folder_of(tmp_path / "clash", own_files() | {"good/a/b.png": png(1), "good/a-b.png": png(2)})
    with pytest.raises(
        DatasetError, match=r"Both .* would become bolt/train/good/a-b.png|would become bolt/test/good/a-b"
    ):
        prepare("folder", clash, tmp_path / "other", Options(("bolt",)))


def test_a_folder_in_the_layout_keeps_its_split(tmp_path):
    files = mvtec_files("bottle", "cable")
    source = folder_of(tmp_path / "in", files)
    (made,) = prepare("folder", source, tmp_path / "own", Options(("cable",))).prepared
    assert images_of(files, "cable").items() <= tree(made.folder).items() and made.counts == SMALL
    (made,) = prepare("folder", source / "bottle", tmp_path / "own", Options(("flask",))).prepared
    assert images_of(files, "bottle").items() <= tree(made.folder).items()


def test_subfolders_and_other_names_of_masks_are_kept(small_mvtec, tmp_path):
    layout = mvtec_files("bottle")
    moved = {
        "train/good/004.png": "train/good/cam 1/004.png",
        "test/poke/000.png": "test/poke/cam 1/000.png",
        "ground_truth/poke/000_mask.png": "ground_truth/poke/cam 1/000_GT.png",
    }
    files = {name: data for name, data in layout.items() if name.removeprefix("bottle/") not in moved}
    files |= {f"bottle/{new}": layout[f"bottle/{old}"] for old, new in moved.items()}
    (made,) = prepare("mvtec_ad", folder_of(tmp_path / "in", files), tmp_path / "out").prepared
    assert images_of(files, "bottle").items() <= tree(made.folder).items() and made.counts == SMALL
    data = InspectionDataset(made.folder)
    assert "good/cam 1/004.png" in [image.name for image in data.train]
    assert [bool(data.mask_path(image)) for image in data.test] == [bool(image.label) for image in data.test]
    (made,) = prepare("folder", tmp_path / "in" / "bottle", tmp_path / "own", Options(("flask",))).prepared
    assert images_of(files, "bottle").items() <= tree(made.folder).items()


def test_normal_images_alone_can_be_trained_on(tmp_path):
    source = folder_of(tmp_path / "in", own_files(defects=()))
    outcome = prepare("semiconductor_wafer", source, tmp_path / "semiconductor_wafer")
    assert outcome.prepared[0].category == "wafer" and outcome.prepared[0].counts == Counts(16, 4, 0)
    assert outcome.notes == ("wafer has no anomalous images: it can be used for training, but gives no AUROC",)


def test_too_few_to_train_on(tmp_path):
    source = folder_of(tmp_path / "in", own_files(n=4))
    with pytest.raises(DatasetError, match="bolt has 3 normal images to train on; training needs 5 or more"):
        prepare("folder", source, tmp_path / "own", Options(("bolt",)))
    with pytest.raises(DatasetError, match=r"must be from 0 to 0.9, got 1"):
        prepare("folder", source, tmp_path / "own", Options(("bolt",), held_out=1))


def test_what_is_held_out_depends_on_names_alone():
    names = [f"{k:03d}.png" for k in range(50)]
    test = layouts.hold_out(names, 0.2)
    assert len(test) == 10 and test == layouts.hold_out(names[::-1], 0.2)
    assert layouts.hold_out(names, 0.1) < test
    assert sorted(test)[:3] == ["002.png", "003.png", "004.png"], "the same on every machine and in every version"


# -- pickles, not unpickled


class Python2(pickle._Pickler):
    """Writes what Python 2 and the NumPy of its time wrote: one kind of string, and the module names of old."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, text):
        data = text if isinstance(text, bytes) else text.encode("latin-1")
        head = b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
        self.write(head + data)
        self.memoize(text)

    def save_name(self, thing, name=None):
        module, name = getattr(thing, "stands_for", (thing.__module__, thing.__qualname__))
        module = {"numpy._core.multiarray": "numpy.core.multiarray", "builtins": "__builtin__"}.get(module, module)
        self.write(f"c{module}\n{name}\n".encode())
        self.memoize(thing)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[type] = dispatch[types.FunctionType] = dispatch[types.BuiltinFunctionType] = save_name


def stand_in(module, name):
    """A class that is pickled under another name, with the state that its instance is given."""
    made = type(name, (), {"stands_for": (module, name)})
    made.__reduce_ex__ = lambda self, protocol: (copyreg.__newobj__, (made,), self.state)
    return made


class Made:
    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def new_index(kind, content): ...


new_index.stands_for = "pandas.indexes.base", "_new_Index"
COLUMNS = ["waferMap", "dieSize", "lotName", "waferIndex", "trianTestLabel", "failureType"]


def python2_table(rows):
    """LSWMD.pkl as Python 2 and pandas 0.x wrote it: blocks of floats and of objects in a BlockManager."""
    n = len(rows["waferMap"])
    objects, floats = np.empty((4, n), object), np.zeros((2, n))
    for block, names in ((objects, (0, 2, 4, 5)), (floats, (1, 3))):
        for line, column in enumerate(names):
            for k in range(n):
                block[line, k] = rows[COLUMNS[column]][k]

    def index(values):
        kind = stand_in("pandas.indexes.base", "Index")
        return Made(new_index, kind, {"data": np.array(values, object), "name": None})

    row_index = stand_in("pandas.indexes.range", "RangeIndex")
    axes = [index(COLUMNS), Made(new_index, row_index, {"start": 0, "stop": n, "step": 1, "name": None})]
    blocks = [{"values": floats, "mgr_locs": slice(1, 5, 2)}, {"values": objects, "mgr_locs": np.array([0, 2, 4, 5])}]
    manager, frame = (
        stand_in(*name)() for name in (("pandas.core.internals", "BlockManager"), ("pandas.core.frame", "DataFrame"))
    )
    items = [index([COLUMNS[k] for k in (1, 3)]), index([COLUMNS[k] for k in (0, 2, 4, 5)])]
    manager.state = (axes, [floats, objects], items, {"0.14.1": {"axes": axes, "blocks": blocks}})
    frame.state = {"_data": manager, "_typ": "dataframe", "_metadata": []}
    stream = io.BytesIO()
    Python2(stream, 2).dump(frame)
    return stream.getvalue()


def todays_table(rows, protocol):
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in rows.items()})
    frame.columns = pd.Index(COLUMNS, dtype=object)
    return pickle.dumps(frame.astype({"dieSize": float, "waferIndex": float}), protocol)


def table_of_texts(rows, storage):
    """As pandas 3 writes it, where labels and names of columns are texts, not objects; one label is missing."""
    pytest.importorskip("pandas", minversion="3")  # older ones have no such texts, or other classes for them
    texts = pd.StringDtype(storage, na_value=np.nan)
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in rows.items()})
    for name in ("lotName", "trianTestLabel", "failureType"):
        labels = [str(value[0, 0]) if value.size else "" for value in map(np.atleast_2d, rows[name])]
        frame[name] = pd.Series(labels, dtype=texts).where(pd.Series(labels) != "")
    frame.columns = pd.Index(COLUMNS, dtype=texts)
    return pickle.dumps(frame, 5)


def wafer_rows(labels=("none", "none", "Edge-Ring", "", "none", "Near-full", "none", "none", "none", "none")):
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 3, (8 + k, 11)).astype(np.uint8) for k in range(len(labels))]
    maps[1] = np.asfortranarray(maps[1])
    nothing = np.zeros((0, 0))
    return {
        "waferMap": maps,
        "dieSize": [float((dies > 0).sum()) for dies in maps],
        "lotName": [f"lot{k // 4}" for k in range(len(maps))],
        "waferIndex": [float(k % 4) for k in range(len(maps))],
        "trianTestLabel": [
            np.array([["Test" if k % 4 == 1 else "Training"]]) if label else nothing for k, label in enumerate(labels)
        ],
        "failureType": [
            np.array([[label]], object if k % 2 else None) if label else nothing for k, label in enumerate(labels)
        ],
    }


WRITERS = {
    "Python 2": python2_table,
    "pandas, protocol 2": lambda rows: todays_table(rows, 2),
    "pandas, protocol 3": lambda rows: todays_table(rows, 3),
    "pandas, protocol 4": lambda rows: todays_table(rows, 4),
    "pandas, protocol 5": lambda rows: todays_table(rows, 5),
    "texts in NumPy": lambda rows: table_of_texts(rows, "python"),
    "texts in Arrow": lambda rows: table_of_texts(rows, "pyarrow"),
}
WANTED = ["waferMap", "failureType", "trianTestLabel"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_table_is_read_without_unpickling(writer, monkeypatch):
    rows = wafer_rows()
    data = WRITERS[writer](rows)
    for name in ("loads", "load", "Unpickler"):  # nothing of it is used, in C or in Python
        monkeypatch.setattr(pickle, name, None)
    seen = []
    table = pickles.read_table(data, WANTED, lambda *step: seen.append(step))
    assert set(table.columns) == set(WANTED) and seen == []
    for got, wanted in zip(table.columns["waferMap"], rows["waferMap"], strict=True):
        array = table.array(got)
        assert array.dtype == np.uint8 and np.array_equal(array, wanted)
    for column in ("failureType", "trianTestLabel"):
        wanted = [str(label[0, 0]) if label.size else "" for label in rows[column]]
        assert [table.text(value) for value in table.columns[column]] == wanted


def test_a_big_table_in_little_memory():
    """Bytes of the maps stay in the file, and what is not used again is not kept."""
    import tracemalloc

    rows = {name: values * 200 for name, values in wafer_rows().items()}
    rows["waferMap"] = [np.full((64, 60), k % 3, np.uint8) for k in range(2000)]
    data = todays_table(rows, 5)
    assert len(data) > 7_000_000
    tracemalloc.start()
    table = pickles.read_table(data, WANTED)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table.columns["waferMap"]) == 2000 and peak < 5_000_000
    assert (table.array(table.columns["waferMap"][1999]) == 1).all()


class Malicious:
    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return self.how


def attacks(mark):
    touch = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    yield from (
        Malicious((os.system, (f"touch {mark}",))),
        Malicious((exec, (touch,))),
        Malicious((eval, (f"open({str(mark)!r}, 'w')",))),
    )
    yield {"_data": Malicious((os.system, (f"touch {mark}",)))}
    frame = pd.DataFrame({"waferMap": pd.Series([Malicious((os.system, (f"touch {mark}",)))], dtype=object)})
    yield frame
    yield Malicious((pd.read_pickle, (str(mark),)))


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_runs_nothing(protocol, tmp_path):
    mark = tmp_path / "mark"
    for k, attack in enumerate(attacks(mark)):
        data = pickle.dumps(attack, protocol)
        (tmp_path / "LSWMD.pkl").write_bytes(data)
        with pytest.raises(DatasetError, match=r"[Pp]ickle file|nothing in it was run"):
            prepare("wm811k", tmp_path / "LSWMD.pkl", tmp_path / "out", Options(any_counts=True))
        assert not mark.exists() and not (tmp_path / "out").exists()
        if k == 0:  # the attack is a real one
            pickle.loads(data)
            assert mark.exists()
            mark.unlink()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cos\nsystem\n(U\x04trueR.",
        b"(cos\nsystem\nU\x04trueo.",  # OBJ
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x02cnumpy\nndarray\n\x82\x01R.",  # EXT1
        b"\x80\x02U\x01xQ.",  # BINPERSID
        b"\x80\x05\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02cnumpy\nndarray\n}(U\x0c__setstate__cnumpy\nndarray\nub.",  # a state for a name itself
        b"\x80\x02U\x02os)R.",
        b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x06N.",
        b"\x80\x02cnumpy.testing\nmeasure\n.",
        b"\x80\x02}U\x01x(lU\x01ysh\x07.",
        b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",  # lists in lists
        b"\x80\x02" + b")" + b"\x85" * 200_000 + b".",
        b"\x80\x02cpandas\nDataFrame\n)\x81}(U\x04_mgrcpandas\nBlockManager\n)R" + b"ub.",
    ],
)
def test_programs_that_no_table_needs(program):
    with pytest.raises(DatasetError):
        pickles.read_table(program, WANTED)


def test_any_damage_to_a_table_is_one_sentence():
    rows = wafer_rows()
    for data in (python2_table(rows), todays_table(rows, 5), *(table_of_texts(rows, s) for s in ("python", "pyarrow"))):
        rng = np.random.default_rng(1)
        for cut in rng.integers(0, len(data), 60):
            with pytest.raises(DatasetError):
                _all_of(data[:cut])
        for at, value in zip(rng.integers(0, len(data), 600), rng.integers(0, 256, 600), strict=True):
            damaged = bytearray(data)
            damaged[at] = value
            with contextlib.suppress(DatasetError):  # a byte of a map may be any; anything else would fail the test
                _all_of(bytes(damaged))


def _all_of(data):
    table = pickles.read_table(data, WANTED)
    with pickles.guarded():
        _ = [table.array(value) for value in table.columns["waferMap"]]
        _ = [table.text(value) for name in WANTED[1:] for value in table.columns[name]]


# -- wafer maps


def test_a_map_is_drawn_die_by_die():
    dies = np.array([[0, 1, 2], [1, 2, 0]], np.uint8)
    picture = read_image(io.BytesIO(wafer.draw(dies)))
    assert picture.shape == (448, 448, 3)
    colours = np.array(list(wafer.COLOURS.values()))
    assert (picture[56::224, 75::149] == colours[dies]).all()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3, "no blending between dies"
    for wrong in (
        np.zeros((1, 5), int),
        np.zeros((500, 5), int),
        np.zeros((4, 4, 4), int),
        np.full((4, 4), 3),
        np.ones((4, 4)),
    ):
        with pytest.raises(DatasetError, match="A wafer map must"):
            wafer.draw(wrong)


@pytest.mark.parametrize("writer", ["Python 2", "pandas, protocol 5"])
@pytest.mark.parametrize("packed", ["LSWMD.pkl", "archive.zip", "folder"])
def test_wm811k(writer, packed, tmp_path):
    rows = wafer_rows()
    data = WRITERS[writer](rows)
    source = tmp_path / packed
    if packed == "LSWMD.pkl":
        source.write_bytes(data)
    else:
        {"archive.zip": zip_of, "folder": folder_of}[packed](source, {"LSWMD.pkl": data})
    out = tmp_path / "out" / "wm811k"
    with pytest.raises(DatasetError, match=r"has none 7, Edge-Ring 1, .*published counts of WM-811K are none 147431"):
        prepare("wm811k", source, out)
    (made,) = prepare("wm811k", source, out, Options(any_counts=True)).prepared
    assert made.counts == Counts(5, 2, 2)
    names = {p.relative_to(made.folder).as_posix() for p in made.folder.rglob("*.png")}
    assert {n for n in names if not n.startswith("train")} == {
        "test/good/000001.png",
        "test/good/000009.png",
        "test/edge_ring/000002.png",
        "test/near_full/000005.png",
    }
    assert (made.folder / "test/good/000001.png").read_bytes() == wafer.draw(rows["waferMap"][1])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([packed, "out"])


def test_wm811k_in_part_and_with_strange_labels(tmp_path):
    def write(**changes):
        (tmp_path / "LSWMD.pkl").write_bytes(python2_table(wafer_rows(["none"] * 30 + ["Donut"] * 9) | changes))
        return tmp_path / "LSWMD.pkl"

    options = Options(any_counts=True, limit=6)
    (made,) = prepare("wm811k", write(), tmp_path / "out", options).prepared
    assert made.counts == Counts(6, 6, 6)
    assert prepare("wm811k", write(), tmp_path / "out", options).prepared[0].already
    strange = [np.array([["Round"]])] * 39
    with pytest.raises(DatasetError, match="labels that WM-811K does not: Round"):
        prepare("wm811k", write(failureType=strange), tmp_path / "other", options)
    with pytest.raises(DatasetError, match="trianTestLabel must be Training, Test or empty, got Round"):
        prepare("wm811k", write(trianTestLabel=strange), tmp_path / "other", options)
    with pytest.raises(DatasetError, match=r"Wafer \d+: A wafer map must hold only 0 \(no die\)"):
        prepare("wm811k", write(waferMap=[np.full((4, 4), 7, np.uint8)] * 39), tmp_path / "other", options)
    with pytest.raises(DatasetError, match="The pickle file"):
        prepare("wm811k", write(waferMap=["a text"] * 39), tmp_path / "other", options)
    assert not (tmp_path / "other").exists()


def mixed_arrays(n_normal=10, dtype=np.int64):
    marks = np.array([[0] * 8] * n_normal + [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1, 0]], dtype)
    dies = np.random.default_rng(0).integers(0, 4, (len(marks), 52, 52)).astype(dtype)
    return {"arr_0": dies, "arr_1": marks}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
@pytest.mark.parametrize("packed", [False, True])
def test_mixedwm38(save, dtype, packed, tmp_path):
    arrays = mixed_arrays(dtype=dtype)
    source = tmp_path / "Wafer_Map_Datasets.npz"
    save(source, **arrays)
    if packed:
        source = zip_of(
            tmp_path / "archive.zip", {"Wafer_Map_Datasets.npz": source.read_bytes(), "description.pdf": b""}
        )
    with pytest.raises(DatasetError, match=r"as published has shape \(38015, 52, 52\), got \(12, 52, 52\)"):
        prepare("mixedwm38", source, tmp_path / "out")
    (made,) = prepare("mixedwm38", source, tmp_path / "out", Options(any_counts=True)).prepared
    assert made.counts == Counts(8, 2, 2)
    assert {p.name for p in (made.folder / "test").iterdir()} == {"good", "center", "edge_ring+scratch"}
    dies = arrays["arr_0"][11].astype(np.uint8)
    assert (made.folder / "test/edge_ring+scratch/000011.png").read_bytes() == wafer.draw(np.minimum(dies, 2))


def test_npz_files_that_are_refused(tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / "a.npz"
    good = mixed_arrays()

    def complaint(pattern, **changes):
        np.savez(path, **{name: value for name, value in (good | changes).items() if value is not None})
        return told(pattern)

    def told(pattern):
        with pytest.raises(DatasetError, match=pattern):
            prepare("mixedwm38", path, tmp_path / "out", Options(any_counts=True))
        assert not (tmp_path / "out").exists() and not mark.exists()

    bad = np.array([Malicious((os.system, (f"touch {mark}",)))], object)
    complaint("arr_0 must hold numbers in 3 dimensions, got object", arr_0=bad)
    complaint("arr_0 must hold numbers in 3 dimensions, got int64 in 2", arr_0=np.zeros((4, 4), int))
    complaint(r"The .npz holds no arr_1; it holds arr_0.npy", arr_1=None)
    complaint("arr_0 must hold whole numbers from 0 to 255", arr_0=good["arr_0"] - 1)
    complaint("arr_0 must hold whole numbers from 0 to 255", arr_0=np.full((12, 52, 52), np.nan))
    complaint("arr_0 is stored by columns", arr_0=np.asfortranarray(good["arr_0"]))
    complaint("arr_1 must hold 8 marks of 0 or 1 for each of the 12 maps", arr_1=good["arr_1"][:5])
    complaint("arr_1 must hold 8 marks of 0 or 1", arr_1=good["arr_1"] + 2)
    complaint(r"Wafer \d+: A wafer map must hold", arr_0=np.full((12, 52, 52), 9))
    np.savez(path, **good)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    told("is damaged or incomplete")
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 52, 52), }"
    lies = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    zip_of(path, {"arr_0.npy": lies, "arr_1.npy": b""})
    told("arr_0 states 21,632,000,000,000 bytes, but there are")
    zip_of(path, {"arr_0.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "arr_1.npy": b""})
    told("is damaged or incomplete")


def test_every_message_is_for_users(small_mvtec, tmp_path):
    with pytest.raises(AttentDifferNetError):
        prepare("mvtec_ad", tmp_path, tmp_path.parent / "out")
    assert preparing.card_of("folder") is datasets.FOLDER
