"""The list that `attentdiffernet score` writes: a row per image, added as it is ready, continued after a stop.

    image, score, threshold, verdict, error, n_views, model         CSV with a header, or one JSON object per line

Each row says what it was made with, so a list is continued only with the same model and settings. verdict: `normal` or
`anomalous`, empty without a score. n_views: how many views made the score. model: `Detector.fingerprint`, then
`-bfloat16` where the backbone ran in that, then `-settled-64` where each image got as many views as its verdict needed,
at most 64.

Existing rows stay. A row that a kill cut short, and images that could not be read, are scored again. An image is
identified by its path as given: a file that has changed since is not noticed.
"""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Self

from . import files
from .errors import ResultsError
from .words import verdict_word, with_formula, without_formula

COLUMNS = ["image", "score", "threshold", "verdict", "error", "n_views", "model"]
HEADER = (",".join(COLUMNS) + "\n").encode()
MAX_TORN_BYTES = 65_536  # what a kill cuts short is one row; more without an end is damage of another kind
SETTLED = "-settled-"
ListFormat = Literal["csv", "json"]


@dataclass(frozen=True)
class Made:
    """What the scores of a list are made with. model: fingerprint and precision. until_settled: whether n_views are
    only the most that an image gets."""

    threshold: float
    n_views: int
    model: str
    until_settled: bool = False

    @property
    def column(self) -> str:
        """What the column `model` holds."""
        return f"{self.model}{SETTLED}{self.n_views}" if self.until_settled else self.model

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """What a row was made with."""
        model, n_views = row["model"], row["n_views"]
        if match := re.fullmatch(rf"(.*){SETTLED}([0-9]+)", model, re.DOTALL):
            return cls(row["threshold"], int(match[2]), match[1], until_settled=True)
        return cls(row["threshold"], n_views, model)


@dataclass
class ScoreLog:
    """An open list. done: images, as written, whose scores were there when it was opened."""

    stream: IO[bytes]
    form: ListFormat
    made: Made
    done: set[str] = field(default_factory=set)

    def lacks(self, image: str) -> bool:
        return _printable(image) not in self.done

    def add(
        self,
        image: str,
        score: float | None,
        anomalous: bool | None,
        error: str | None,
        n_views: int | None = None,
    ) -> None:
        """Writes one row, which other processes see at once. n_views: of this score; by default those of the list."""
        made, message = self.made, error and _printable(error)
        verdict = None if anomalous is None else verdict_word(anomalous)
        values = (_printable(image), score, made.threshold, verdict, message, n_views or made.n_views, made.column)
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
    """Complete rows; one at the end that a kill cut short is left out. In CSV, a quoted name may hold newlines."""
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
    return ResultsError(f"{path} is not a list of scores in the requested format, or it is damaged. {_WAY_OUT}")


def _row(record: bytes, place: str, form: ListFormat) -> dict[str, Any]:
    """image, score, threshold, n_views and model of a row, as numbers and text."""
    try:
        text = record.decode()
        if form == "json":
            row = json.loads(text)
        else:
            ((*values,),) = csv.reader(io.StringIO(text, newline=""), strict=True)
            row = {name: value or None for name, value in zip(COLUMNS, values, strict=True)}
            row["image"] = row["image"] and with_formula(row["image"])
            row["score"] = row["score"] and float(row["score"])
            row |= {"threshold": float(row["threshold"] or ""), "n_views": int(row["n_views"] or "")}
        if not isinstance(row, dict) or list(row) != COLUMNS or not isinstance(row["image"], str):
            raise ValueError
        if type(row["n_views"]) is not int or not isinstance(row["model"], str):
            raise ValueError
    except (ValueError, csv.Error) as error:
        raise ResultsError(f"{place} is not a row of a list of scores in the format {form}. {_WAY_OUT}") from error
    return row


def _compare(row: dict[str, Any], made: Made, path: Path) -> None:
    found = Made.of(row)
    if found == made:
        return
    if (found.n_views, found.until_settled) != (made.n_views, made.until_settled):
        what = f"of {_views(found)}, not {_views(made)}"
    elif found.model != made.model:
        what = f"of another model (fingerprint {found.model}, not {made.model})"
    else:
        what = f"with the threshold {found.threshold}, not {made.threshold}"
    raise ResultsError(f"{path} holds scores {what}. {_WAY_OUT}")


def _views(made: Made) -> str:
    return f"up to {made.n_views} views" if made.until_settled else f"{made.n_views} views"


def _json_line(row: dict[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _csv_line(row: dict[str, Any]) -> bytes:
    buffer = io.StringIO(newline="")
    # An error begins with the file's name, which is untrusted.
    safe = {name: without_formula(row[name] or "") for name in ("image", "error")}
    # \r\n, and cut: with \n alone, csv leaves a lone carriage return in a name unquoted, which reads as a new line.
    csv.writer(buffer, lineterminator="\r\n").writerow((row | safe).values())
    return buffer.getvalue()[:-2].encode() + b"\n"
