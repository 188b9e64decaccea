"""Layouts of the originals, and where each file goes in the MVTec AD layout.

Each function uses names only: the image files of a source (with slashes, none hidden) -> {category: {target: name}},
where a target is the path below the category, such as `test/crack/000.png`. Two names for one target are an error.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from ..errors import DatasetError
from .archives import common_folder

Plan = dict[str, dict[str, str]]

NORMAL_NAMES = ("good", "normal", "ok")
MASK = "_mask.png"


def mvtec(names: Iterable[str], categories: Collection[str]) -> Plan:
    """Files that are in the layout already, for the given categories, at any depth (MVTec AD, InsPLAD-fault).

    Subfolders of train/good, test/DEFECT and ground_truth/DEFECT are kept.
    """
    plan: Plan = {}
    for name in names:
        parts = name.split("/")
        for at in range(len(parts) - 4, -1, -1):
            if parts[at] in categories and _belongs(*parts[at + 1 : at + 3]):
                _place(plan, parts[at], "/".join(parts[at + 1 :]), name)
                break
    return plan


def _belongs(split: str, defect: str) -> bool:
    if split == "train":
        return defect == "good"
    return split == "test" or (split == "ground_truth" and defect != "good")


def folder(
    names: Collection[str],
    category: str,
    normal: Collection[str] = (),
    anomalous: Collection[str] = (),
    held_out: float = 0.2,
) -> Plan:
    """Any folder: one subfolder with normal images, one per defect. Images in the layout already keep their split.

    normal, anomalous: names of subfolders. By default, `good`, `normal` or `ok` holds the normal images, and all others
    are defects. Deeper folders are included; they become part of the images' names. held_out: share of the normal
    images that goes to the test.
    """
    if not normal and not anomalous and (plan := _as_laid_out(names, category)):
        return plan
    chosen = {_folder_name(name): True for name in normal} | {_folder_name(name): False for name in anomalous}
    groups = _groups(names, chosen)
    normals = _normal_groups(groups, chosen)
    plan = {}
    good = {name: _file_name(name, group, len(normals) > 1) for group in normals for name in groups[group]}
    test = hold_out(set(good.values()), held_out)
    for name, file in good.items():
        _place(plan, category, f"{'test' if file in test else 'train'}/good/{file}", name)
    for group, members in groups.items():
        if group in normals or not group or (anomalous and group not in chosen):
            continue
        defect = group.replace("/", "-")
        for name in members:
            _place(plan, category, f"test/{defect}/{_file_name(name, group, False)}", name)
    return plan


def _as_laid_out(names: Collection[str], category: str) -> Plan:
    """The plan of a folder that is in the layout already; empty for others."""
    if plan := mvtec(names, [category]):
        return plan
    targets = {name: target for name in names if (target := _in_layout(name))}
    plan = {}
    if any(target.startswith("train/") for target in targets.values()):
        for name, target in targets.items():
            _place(plan, category, target, name)
    return plan


def _groups(names: Collection[str], chosen: Collection[str]) -> dict[str, list[str]]:
    """The images of each subfolder; '' for those in none."""
    top = common_folder(names)
    if top.split("/")[-2:-1] and top.split("/")[-2].casefold() in NORMAL_NAMES:  # there are only normal images
        top = top[: -len(top.split("/")[-2]) - 1]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_group(name.removeprefix(top), name, chosen), []).append(name)
    return groups


def _normal_groups(groups: Collection[str], chosen: dict[str, bool]) -> list[str]:
    """The subfolders with normal images. chosen: whether a subfolder that the user named is normal."""
    found = ", ".join(sorted(group for group in groups if group)) or "none"
    for wanted in chosen:
        if wanted not in groups:
            raise DatasetError(f"There are no images in a subfolder {wanted}; subfolders with images: {found}")
    by_name = not any(chosen.values())
    normals = [group for group in groups if chosen.get(group, by_name and group.casefold() in NORMAL_NAMES)]
    if not normals:
        raise DatasetError(
            f"Which images are normal? No subfolder is called {', '.join(NORMAL_NAMES)}; name it with --normal. "
            f"Subfolders with images: {found}"
        )
    return normals


def _in_layout(name: str) -> str:
    """The part of a name that lies in the layout, such as `test/crack/000.png`; '' if there is none."""
    parts = name.split("/")
    for at in range(len(parts) - 3, -1, -1):
        if _belongs(*parts[at : at + 2]):
            return "/".join(parts[at:])
    return ""


def _folder_name(text: str) -> str:
    clean = str(PurePosixPath(text.replace("\\", "/"))).strip("/")
    if clean in ("", ".") or ".." in clean.split("/"):
        raise DatasetError(f"--normal and --anomalous name subfolders of the source, got {text!r}")
    return clean


def _group(short: str, name: str, chosen: Collection[str]) -> str:
    """The subfolder that a name belongs to: the chosen one that holds it, else its first folder; '' for none."""
    for path in (name, short):
        parents = ["/".join(path.split("/")[:depth]) for depth in range(path.count("/"), 0, -1)]
        for parent in parents:
            if parent in chosen:
                return parent
    return short.split("/")[0] if "/" in short else ""


def _file_name(name: str, group: str, with_group: bool) -> str:
    """The name of a file, made from its path below its group: `a/b/1.png` becomes `a-b-1.png`."""
    parts = f"/{name}".split(f"/{group}/", 1)[1].split("/")
    file = "-".join([*group.split("/"), *parts] if with_group else parts)
    if len(file.encode()) > 255:
        raise DatasetError(f"{name} is in folders whose names are too long to become part of its name")
    return file


def hold_out(names: Collection[str], share: float) -> set[str]:
    """A share of the names, for testing."""
    if not 0 <= share <= 0.9:
        raise DatasetError(f"The share of normal images held out for the test must be from 0 to 0.9, got {share}")
    return draw(names, round(share * len(names)))


def draw(names: Collection[str], count: int) -> set[str]:
    """`count` of the names, those with the smallest SHA-256: the same ones on every machine and in any order."""
    return set(sorted(names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))[:count])


def magnetic_tile(names: Iterable[str]) -> Plan:
    """MT_Free/Imgs/NAME.jpg, and MT_DEFECT/Imgs/NAME.jpg with its mask NAME.png, split as DifferNet's authors did."""
    plan: Plan = {}
    for name in names:
        *_, kind, imgs, file = ["", "", *name.split("/")]
        if not kind.startswith("MT_") or imgs != "Imgs":
            continue
        defect, (stem, _, suffix) = kind.removeprefix("MT_").lower(), file.rpartition(".")
        if suffix.lower() == "jpg":
            if defect == "free":
                split = "test" if _is_test_tile(stem) else "train"
                _place(plan, "magnetic_tile", f"{split}/good/{file}", name)
            else:
                _place(plan, "magnetic_tile", f"test/{defect}/{file}", name)
        elif suffix.lower() == "png" and defect != "free":  # normal tiles have a mask, too, which is all black
            _place(plan, "magnetic_tile", f"ground_truth/{defect}/{stem}{MASK}", name)
    return plan


def _is_test_tile(stem: str) -> bool:
    match = re.fullmatch(r"exp(\d+)_num_(\d+)", stem)
    return match is not None and match[2] in _TEST_TILES.get(match[1], "").split()


# The 191 normal tiles exp{key}_num_{number} that are not among the 761 that DifferNet's authors list for training
# (github.com/marco-rudolph/differnet, mtd_train_filenames.txt, MIT licence).
_TEST_TILES = {
    "0": ("743"),
    "1": (
        "824 1810 2038 6508 7871 11276 16503 29469 31106 37243 54107 69803 94899 157675 193104 258819 263839 "
        "270753 276985 280939 286232 293254 304293 304836 309352 311322 316333 317560 338856 342849 349824 "
        "351039 351427 355636"
    ),
    "2": (
        "1836 3811 5924 13549 19728 37263 38004 54126 106752 127664 128095 138627 154576 165392 187533 192155 "
        "256286 257132 257656 258847 275685 293276 293729 299741 301499 304861 311334 316715 319334 320463 "
        "320822 332707 344570"
    ),
    "3": (
        "3539 5941 29508 31138 50415 53038 54145 106186 110136 147971 174699 177963 183198 195685 257158 "
        "257678 262674 263864 269668 270803 282911 283229 290081 293289 317925 329247 349856 358127"
    ),
    "4": (
        "933 6552 6586 10227 11314 29521 39469 54165 65043 68413 71245 117012 126840 138670 143255 147986 "
        "180371 192192 245804 246354 263875 277041 282921 286277 309692 317600 319357 319469 319729 329260 "
        "331970 337703 338897 351474"
    ),
    "5": (
        "13636 18227 19790 29537 65054 71267 117033 241403 257962 258905 262702 275722 277059 292160 299793 "
        "306654 308863 315045 316375 326642 326973 338911 351099 358149"
    ),
    "6": (
        "3981 6600 10280 11001 19822 29564 31184 39559 61501 65067 71297 110224 126419 127730 180428 251550 "
        "258043 262294 266375 275466 286336 290165 292199 293912 299824 304352 304811 306696 309719 311392 "
        "313921 316396 317640 319398 323405 355732 359029"
    ),
}


def _place(plan: Plan, category: str, target: str, name: str) -> None:
    files = plan.setdefault(category, {})
    if target in files:
        raise DatasetError(f"Both {files[target]} and {name} would become {category}/{target}; remove one of them")
    files[target] = name
