"""What one visitor looks at, and which of a visitor's runs is the latest."""

import dataclasses
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ..service.private import KEPT_S as KEPT_S  # how long uploads, pictures and sessions are kept
from ..service.rate import USUAL
from ..service.verdict import Comparison

MAX_SESSIONS = 400  # more than wait; a session holds scores, no pictures


@dataclass(frozen=True)
class Upload:
    """One image of a visitor, and its result so far: a comparison without pictures, or an error. picture: address of a
    small copy, where several are shown."""

    path: str
    comparison: Comparison | None = None
    error: str = ""
    picture: str = ""

    @property
    def name(self) -> str:
        return Path(self.path).name


@dataclass(frozen=True)
class Session:
    """What one visitor looks at. Immutable: a cancelled run leaves the last complete one behind.

    detectors: those chosen, by `Detector.key`. shown: the upload whose maps are shown; None as long as none could be
    read. picked: whether the visitor chose it. rate: share of good parts that may be flagged.
    """

    category: str = ""
    detectors: tuple[str, ...] = ()
    uploads: tuple[Upload, ...] = ()
    shown: int | None = None
    picked: bool = False
    rate: float = USUAL

    @property
    def comparisons(self) -> list[Comparison]:
        return [upload.comparison for upload in self.uploads if upload.comparison is not None]

    @property
    def next_upload(self) -> int | None:
        """The first without a result."""
        waiting = (k for k, upload in enumerate(self.uploads) if not upload.error and upload.comparison is None)
        return next(waiting, None)

    @property
    def errors(self) -> list[str]:
        return [upload.error for upload in self.uploads if upload.error]

    def with_result(self, index: int, comparison: Comparison | None, error: str = "") -> "Session":
        found = comparison.without_pictures() if comparison else None
        upload = dataclasses.replace(self.uploads[index], comparison=found, error=error)
        return dataclasses.replace(self, uploads=(*self.uploads[:index], upload, *self.uploads[index + 1 :]))

    def with_picture(self, index: int, address: str) -> "Session":
        upload = dataclasses.replace(self.uploads[index], picture=address)
        return dataclasses.replace(self, uploads=(*self.uploads[:index], upload, *self.uploads[index + 1 :]))

    def at_rate(self, rate: float) -> "Session":
        """Judged again, as `Comparison.at_rate`."""
        uploads = (
            dataclasses.replace(one, comparison=one.comparison.at_rate(rate)) if one.comparison else one
            for one in self.uploads
        )
        return dataclasses.replace(self, uploads=tuple(uploads), rate=rate)

    def showing(self, index: int, picked: bool = False) -> "Session":
        return dataclasses.replace(self, shown=index, picked=self.picked or picked)


class Turns:
    """Numbers a visitor's runs, so that a run can stop when a later one has started.

    Gradio's own `cancels` loses events, and logs errors, if a run is cancelled in its first moments.
    """

    def __init__(self) -> None:
        self._latest: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, request: gr.Request) -> int:
        visitor = str(request.session_hash)
        with self._lock:
            turn = self._latest.pop(visitor, 0) + 1
            self._latest[visitor] = turn
            if len(self._latest) > MAX_SESSIONS:
                self._latest.popitem(last=False)
        return turn

    def over(self, turn: int, request: gr.Request) -> bool:
        return self._latest.get(str(request.session_hash), turn) != turn
