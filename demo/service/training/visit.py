"""What a visitor makes on a page that only looks in now and then: trained in a thread, kept in a private folder.

No torch until something is made.
"""

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol

from attentdiffernet.errors import AttentDifferNetError

from .. import private
from .asked import Asked, Progress
from .limits import AWAY_S, GONE
from .trainings import ELSEWHERE, FULL, POLL_S, Trainings, ahead_text

if TYPE_CHECKING:
    from .state import Own

LOST = "The training ended unexpectedly. Try again, perhaps with fewer photographs"


class Upload(Protocol):
    """As Streamlit hands a file over."""

    name: str

    def getvalue(self) -> bytes: ...


class Visit:
    """One detector, and one training at a time. mine: what is in use. progress: of what is being made, None where
    nothing is. error, message: how it ended. trainings: those of all visitors."""

    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings
        self.session = secrets.token_hex(8)
        self.mine: Own | None = None
        self.progress: Progress | None = None
        self.error = self.message = ""
        self.asked: object = None  # for what the tests of `mine` were judged
        self.refused = ""  # why they could not be
        self._lock = threading.Lock()  # of `mine`: a training takes over in a thread of its own
        self._end: threading.Timer | None = None

    # -- made in a thread

    def train(self, visitor: str, parts: Sequence[Upload], bad_parts: Sequence[Upload], name: str, choice: str) -> None:
        """Starts a training, or says why not. visitor: the same in all tabs of a browser."""
        self.error = self.message = ""
        number = self.trainings.enter(visitor, self.session)
        if number is None:
            self.error = FULL
            return
        self.progress = Progress(0, "Starting …")
        work = (number, list(parts), list(bad_parts), name, choice)
        threading.Thread(target=self._train, args=work, daemon=True).start()

    def _train(self, number: int, parts: list[Upload], bad_parts: list[Upload], name: str, choice: str) -> None:
        from . import making
        from .state import Own

        fresh: Own | None = None
        now: Own | None = None
        error = LOST
        try:
            fresh = Own.new(self.session)
            asked = Asked(written(parts, fresh.folder), written(bad_parts, fresh.folder), name, choice)
            while ahead := self.trainings.ahead(number):
                self.progress = Progress(0, ahead_text(ahead))
                time.sleep(POLL_S)
            with closing(making.trained(fresh, asked)) as steps:
                for step in steps:
                    if self.trainings.over(number):
                        break
                    if isinstance(step, Progress):
                        self.progress = step
                    else:
                        now = step
            error = ""
        except AttentDifferNetError as refused:
            error = str(refused)
        finally:
            self._ended(number, fresh, now, error)

    def _ended(self, number: int, fresh: "Own | None", now: "Own | None", error: str) -> None:
        from .making import trained_text

        replaced, over = self.trainings.replaced(number), self.trainings.over(number)
        self.trainings.leave(number)
        if now is None or over:
            if fresh is not None:
                fresh.remove()
            if over and not replaced:  # cancelled: another one may run already
                return
            self.error = ELSEWHERE if replaced else error
        else:
            self.take_over(now)
            self.message = trained_text(now)
        self.progress = None

    def cancel(self) -> None:
        self.trainings.end(self.session)
        self.progress, self.message = None, "Cancelled."

    # -- at once

    def bring_back(self, file: Upload, bad_parts: Sequence[Upload]) -> Iterator[Progress]:
        """Takes a model that was downloaded into use. Raises AttentDifferNetError."""
        from . import making
        from .state import Own

        fresh, now = Own.new(self.session), None
        try:
            (path,), bad = written([file], fresh.folder), written(bad_parts, fresh.folder)
            for step in making.brought_back(fresh, path, bad):
                if isinstance(step, Progress):
                    yield step
                else:
                    now = step
        finally:
            if now is None:
                fresh.remove()
        if now is not None:
            self.take_over(now)
            self.error, self.message = "", "The model is back. Drop parts below to judge them."

    def take_over(self, now: "Own") -> None:
        with self._lock:
            before, self.mine = self.mine, now
        if before is not None:
            before.remove()

    def changed(self, now: "Own") -> "Own | None":
        """What is in use: `now`, unless another detector has taken over since."""
        with self._lock:
            if self.mine is not None and self.mine.folder == now.folder:
                self.mine = now
            return self.mine

    # -- how long it is kept

    def used(self) -> None:
        """Keeps all for `private.KEPT_S` from now on; what is gone already is forgotten."""
        self._stay()
        if self.mine is not None and not self.mine.in_use():
            self.mine, self.message = None, GONE

    def away(self) -> None:
        """The page was closed, or has lost the connection for a while."""
        self._stay()
        self._end = threading.Timer(AWAY_S, self.leave)
        self._end.daemon = True
        self._end.start()

    def _stay(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def leave(self) -> None:
        """Ends a training that runs or waits, and removes the files."""
        self._stay()
        self.trainings.end(self.session)
        if self.mine is not None:
            self.mine.remove()


def written(uploads: Sequence[Upload], folder: Path) -> list[Path]:
    """Files of these uploads in a private folder, each in a folder of its own: names of uploads are untrusted, and may
    come twice. Raises AttentDifferNetError where there is no room."""
    private.check_room(sum(len(upload.getvalue()) for upload in uploads))
    found = []
    for upload in uploads:
        name = "".join(c if c.isalnum() or c in " ._-()" else "_" for c in PurePath(upload.name).name)
        path = folder / secrets.token_hex(4) / (name.lstrip(".")[-100:] or "upload")
        path.parent.mkdir()
        path.write_bytes(upload.getvalue())
        found.append(path)
    return found
