"""Results that a visitor brings: a folder as `evaluate --results` writes it, file by file or as a zip, or score files
alone. No torch."""

import io
import itertools
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from attentdiffernet.datasets.archives import Limits, is_hidden, open_source
from attentdiffernet.errors import AttentDifferNetError, ResultsError
from attentdiffernet.study import records
from attentdiffernet.study.comparison import Measured, measured
from attentdiffernet.study.runs import LAST, SAFE_NAME, Run

from .naming import safe_stem

Files = Sequence[tuple[str, bytes]]  # names, which may come twice, and contents
TYPES = ["zip", "csv", "json"]
LIMITS = Limits(entries=20_000, total_bytes=200_000_000, file_bytes=20_000_000)
RUNS = "runs.csv"
ALONE = ("own", "uploaded")  # data set and category of score files alone
WANTED = (
    "Wanted is a results folder with its runs.csv, as `attentdiffernet evaluate --results FOLDER` writes it, or score "
    "files with the columns image, defect, label and score"
)


def take(uploads: Files, folder: Path) -> tuple[Measured, ...]:
    """Writes what was uploaded (names and contents) as a results folder, and reads it. Raises ResultsError and
    DatasetError for anything that is none."""
    files, total = list[tuple[str, bytes]](), 0
    for name, content in _unpacked(uploads):
        files.append((name, content))
        total += len(content)
        if total > LIMITS.total_bytes or len(files) > LIMITS.entries:  # before the next archive is opened
            raise ResultsError(f"That is more than {LIMITS.total_bytes / 1e6:.0f} MB or {LIMITS.entries} files")
    try:
        return _taken(files, folder)
    except ResultsError as error:
        raise ResultsError(as_brought(error, folder)) from error


def as_brought(error: AttentDifferNetError, folder: Path) -> str:
    """What is wrong with a file, under the name that it was brought by: where it lies here tells a visitor nothing."""
    alone = records.score_path(folder, *ALONE, "run").parent
    return str(error).replace(f"{alone}{os.sep}", "").replace(f"{folder}{os.sep}", "")


def _taken(files: Files, folder: Path) -> tuple[Measured, ...]:
    listed = sorted((name for name, _ in files if PurePosixPath(name).name == RUNS), key=len)
    if listed:
        _write_folder(files, PurePosixPath(listed[0]).parent, folder)
    else:
        _write_scores(files, folder)
    try:
        found = measured(folder)
    except ResultsError:
        raise  # it says what is wrong
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what is kept beside scores is no such file
        raise ResultsError(f"The results are damaged. {WANTED}") from error
    if not found:
        raise ResultsError(f"No run was found. {WANTED}")
    return found


def _unpacked(uploads: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    for name, content in uploads:
        if zipfile.is_zipfile(io.BytesIO(content)):
            with tempfile.TemporaryDirectory() as folder:
                archive = Path(folder, "results.zip")
                archive.write_bytes(content)
                source = open_source(archive, LIMITS)
                yield from source.read([one for one in source.files if _counts(one)], LIMITS.file_bytes)
        elif _counts(name):
            yield name, content


def _counts(name: str) -> bool:
    return name.endswith((".csv", ".json")) and not is_hidden(name)


def _write_folder(files: Files, root: PurePosixPath, folder: Path) -> None:
    """Those below the root whose names are such as results have, which lead nowhere else."""
    for name, content in files:
        below = PurePosixPath(name)
        if below.is_relative_to(root) and all(map(SAFE_NAME.fullmatch, below.relative_to(root).parts)):
            path = folder / below.relative_to(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _write_scores(files: Files, folder: Path) -> None:
    """A run for each score file, called as the file, with a number where names come twice; all of one category."""
    dataset, category = ALONE
    runs = set[str]()
    for name, content in files:
        if name.endswith(".csv"):
            stem = safe_stem(name)
            numbered = (f"{stem}-{k}" for k in itertools.count(2))
            run = next(run for run in itertools.chain([stem], numbered) if run not in runs)
            runs.add(run)
            path = records.score_path(folder, dataset, category, run)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            records.read_scores(path)  # raises where it is none
            records.append_run(folder, Run(run, dataset, category, run, 0, "", "", 0, LAST, 1, "", "uploaded"))
