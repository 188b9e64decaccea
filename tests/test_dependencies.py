"""The versions that were checked, what is known against them, and the oldest ones that are allowed."""

import csv
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from attentdiffernet.study.readme import audit_text

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
with (ROOT / "docs" / "dependencies.csv").open(encoding="utf-8", newline="") as stream:
    REPORT = list(csv.DictReader(stream))


def requirements(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def wanted():
    """Everything that pyproject.toml asks for, by name."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    lists = [PROJECT["build-system"]["requires"], PROJECT["project"]["dependencies"], *extras]
    return [Requirement(line) for lines in lists for line in lines]


def concerns(affected, version):
    """Whether a version lies in one of the ranges, which semicolons part."""
    if affected in ("", "all"):
        return affected == "all"
    return any(SpecifierSet(part).contains(version, prereleases=True) for part in affected.split(";"))


def test_the_report_is_about_the_packages_of_the_lock():
    locked = {canonicalize_name(line.name): str(line.specifier) for line in requirements("requirements.lock")}
    assert {row["package"]: f"=={row['version']}" for row in REPORT} == locked
    assert len({(row["package"], row["version"]) for row in REPORT}) == len(locked)


def test_the_lock_is_what_the_requirements_allow():
    locked = {canonicalize_name(line.name): line.specifier for line in requirements("requirements.lock")}
    for line in wanted():
        (exact,) = locked[canonicalize_name(line.name)]
        assert line.specifier.contains(exact.version), line


def test_every_verdict_follows_from_the_ranges():
    for row in REPORT:
        expected = {"not used", "affected"} if concerns(row["affected"], row["version"]) else {"not affected"}
        if not row["advisory"]:
            expected = {"no advisory"}
        elif row["verdict"] == "withdrawn":
            expected = {"withdrawn"}
        assert row["verdict"] in expected, row
        assert row["remark"] or row["fixed"] or row["affected"] or row["verdict"] == "no advisory", row
        assert not row["fixed"] or not concerns(row["affected"], row["fixed"]), row
        assert re.fullmatch(r"(PYSEC-\d{4}-\d+)?", row["advisory"]), row


def test_no_version_that_is_allowed_has_a_known_vulnerability():
    oldest = {
        canonicalize_name(line.name): clause.version
        for line in wanted()
        for clause in line.specifier
        if clause.operator == ">="
    }
    found = [
        f"{row['package']} {oldest[row['package']]}: {row['advisory']}"
        for row in REPORT
        if row["package"] in oldest and row["verdict"] == "not affected"
        if concerns(row["affected"], Version(oldest[row["package"]]))
    ]
    assert not found


def test_the_demo_asks_for_what_the_library_asks_for():
    extras = PROJECT["project"]["optional-dependencies"]["demo"]
    expected = [Requirement(line) for line in [*PROJECT["project"]["dependencies"], *extras]]
    assert {str(line) for line in requirements("requirements.txt")} == {str(line) for line in expected}


def test_the_page_names_what_affects_us():
    rows = pd.DataFrame(REPORT)
    rows.loc[rows["advisory"] == "PYSEC-2026-2286", ["verdict", "remark"]] = ["affected", "reads .pth files"]
    text = audit_text(rows)
    assert "; 1 of these affects what is used here" in text
    assert "| torch | PYSEC-2026-2286, CVE-2026-24747 | affected | reads .pth files |" in text
    assert "; none of these affects what is used here" in audit_text(pd.DataFrame(REPORT))
