"""The list that `attentdiffernet score` writes: a row per image, added as it is ready, continued after a stop.

    image, score, threshold, anomalous, error, n_views, model         CSV with a header, or one JSON object per line

Each row says what it was made with, so a list is continued by the same model and number of views only. Rows that are
there stay; one that a kill cut short, and images that could not be read, are scored (again). An image counts by its
path as given: one that has changed since is not noticed.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from . import files
from .errors import ResultsError

COLUMNS = ["image", "score", "threshold", "anomalous", "error", "n_views", "model"]
HEADER = (",".join(COLUMNS) + "\n").encode()
MAX_TORN_BYTES = 65_536  # what a kill cuts short is one row; more without an end is damage of another kind
ListFormat = Literal["csv", "json"]


@dataclass(frozen=True)
class Made:
    """What the scores of a list are made with; `model` is `Detector.fingerprint`, and `-bfloat16` with that."""

    threshold: float
    n_views: int
    model: str


@dataclass
class ScoreLog:
    """An open list. done: images, as written, whose scores were there when it was opened."""

    stream: IO[bytes]
    form: ListFormat
    made: Made
    done: set[str] = field(default_factory=set)

    def lacks(self, image: str) -> bool:
        return _printable(image) not in self.done

    def add(self, image: str, score: float | None, anomalous: bool | None, error: str | None) -> None:
        """One row, for other processes to see at once."""
        message = error and _printable(error)
        values = (_printable(image), score, self.made.threshold, anomalous, message, self.made.n_views, self.made.model)
        row = dict(zip(COLUMNS, values, strict=True))
        self.stream.write(_json_line(row) if self.form == "json" else _csv_line(row))
        self.stream.flush()


def _printable(text: str) -> str:
    """What of a file name is no UTF-8, written as \\xff."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


@contextmanager
def open_log(out: str, form: ListFormat, made: Made, overwrite: bool = False) -> Iterator[ScoreLog]:
    """The list `out` to add rows to, `-` for standard output; no other process may write it meanwhile.

    Raises ResultsError, and leaves the file as it is, where it holds anything but such a list made with the same
    settings (unless `overwrite` is given), or where another process is writing it.
    """
    if out == "-" or (os.path.exists(out) and not os.path.isfile(out)):  # a pipe, a device: nothing to continue
        with nullcontext(sys.stdout.buffer) if out == "-" else open(out, "wb") as stream:
            stream.write(HEADER if form == "csv" else b"")
            yield ScoreLog(stream, form, made)
        return
    path = Path(os.path.realpath(out))  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = _open_alone(path)
    try:
        if overwrite:
            stream.truncate(0)
        header = HEADER if form == "csv" else b""
        done, size = set(), len(header)
        for image, record in _rows_to_keep(stream, path, form, made):
            done.add(image)
            size += len(record)
        if size != stream.seek(0, os.SEEK_END):
            with files.replace_file(path) as kept:
                kept.write(header)
                kept.writelines(record for _, record in _rows_to_keep(stream, path, form, made))
                stream.close()  # Windows cannot replace an open file
            stream = _open_alone(path)
        yield ScoreLog(stream, form, made, done)
    finally:
        stream.close()


def _open_alone(path: Path) -> IO[bytes]:
    """The file, to read and to add to. Raises ResultsError where another process has it."""
    try:
        return files.open_locked(path)
    except BlockingIOError as error:
        raise ResultsError(f"Another process is writing {path}") from error


_WAY_OUT = "Name another file with --out, or replace this one with --overwrite"


def _rows_to_keep(stream: IO[bytes], path: Path, form: ListFormat, made: Made) -> Iterator[tuple[str, bytes]]:
    """(image, record) of the rows whose images need not be scored again."""
    stream.seek(0)
    done = set()
    for number, record in enumerate(_records(stream, path, form), 1):
        if form == "csv" and number == 1:
            if record != HEADER:
                raise _no_list(path)
            continue
        row = _row(record, f"{path}, row {number}", form)
        _compare(row, made, path)
        if row["score"] is not None and row["image"] not in done:
            done.add(row["image"])
            yield row["image"], record


def _records(stream: IO[bytes], path: Path, form: ListFormat) -> Iterator[bytes]:
    """Whole rows; one at the end that a kill cut short is left out. In CSV, a quoted name may hold newlines."""
    record, start = b"", HEADER if form == "csv" else b'{"image": "'
    while line := stream.readline(MAX_TORN_BYTES):
        record += line
        if len(record) > MAX_TORN_BYTES:
            raise _no_list(path)
        if record.endswith(b"\n") and (form == "json" or record.count(b'"') % 2 == 0):
            yield record
            record, start = b"", b"" if form == "csv" else start
    if record[: len(start)] != start[: len(record)]:
        raise _no_list(path)


def _no_list(path: Path) -> ResultsError:
    return ResultsError(f"{path} is no list of scores in the form that was asked for, or damaged. {_WAY_OUT}")


def _row(record: bytes, place: str, form: ListFormat) -> dict[str, Any]:
    """image, score, threshold, n_views and model of a row, as numbers and text."""
    try:
        text = record.decode()
        if form == "json":
            row = json.loads(text)
        else:
            ((*values,),) = csv.reader(io.StringIO(text, newline=""), strict=True)
            row = {name: value or None for name, value in zip(COLUMNS, values, strict=True)}
            row["score"] = row["score"] and float(row["score"])
            row |= {"threshold": float(row["threshold"] or ""), "n_views": int(row["n_views"] or "")}
        if not isinstance(row, dict) or list(row) != COLUMNS or not isinstance(row["image"], str):
            raise ValueError
    except (ValueError, csv.Error) as error:
        raise ResultsError(f"{place} is no row of a list of scores in {form} form. {_WAY_OUT}") from error
    return row


def _compare(row: dict[str, Any], made: Made, path: Path) -> None:
    if row["n_views"] != made.n_views:
        what = f"of {row['n_views']} views, not {made.n_views}"
    elif row["model"] != made.model:
        what = f"of another model (fingerprint {row['model']}, not {made.model})"
    elif row["threshold"] != made.threshold:
        what = f"with the threshold {row['threshold']}, not {made.threshold}"
    else:
        return
    raise ResultsError(f"{path} holds scores {what}. {_WAY_OUT}")


def _json_line(row: dict[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _csv_line(row: dict[str, Any]) -> bytes:
    buffer = io.StringIO(newline="")
    verdict = None if row["anomalous"] is None else int(row["anomalous"])
    # \r\n, and cut: with \n alone, csv leaves a lone carriage return in a name unquoted, which reads as a new line.
    csv.writer(buffer, lineterminator="\r\n").writerow(({**row, "anomalous": verdict}).values())
    return buffer.getvalue()[:-2].encode() + b"\n"
