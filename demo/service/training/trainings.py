"""Who trains and who waits: one training at a time, one of each visitor, and few that wait."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from attentdiffernet.study.formats import counted

MOST_WAITING = 6  # trainings, the one that runs among them
STALE_S = 120  # a training of which nothing was heard for so long is over: its page is gone
POLL_S = 0.5  # how often one that waits asks for its place
FULL = f"{MOST_WAITING} trainings are running or waiting already, which is the limit. Try again in a few minutes."
ELSEWHERE = "You started another training in another tab, which ended this one."


def ahead_text(ahead: int) -> str:
    return f"{counted(ahead, 'training')} ahead of you …"


@dataclass
class _Training:
    visitor: str
    session: str
    heard_s: float


class Trainings:
    """clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._in_order: dict[int, _Training] = {}
        self._replaced: dict[int, None] = {}  # ended by the same visitor in another tab
        self._last = 0

    def enter(self, visitor: str, session: str) -> int | None:
        """A number for a new training, last in the queue; None where too many wait. Ends others of this visitor.
        visitor: the same in all tabs of a browser; session: of one tab."""
        with self._lock:
            self._forget_stale()
            for number in [k for k, one in self._in_order.items() if visitor == one.visitor or session == one.session]:
                if self._in_order.pop(number).session != session:
                    self._replaced[number] = None
            if len(self._in_order) >= MOST_WAITING:
                return None
            self._last += 1
            self._in_order[self._last] = _Training(visitor, session, self._clock())
            return self._last

    def ahead(self, number: int) -> int | None:
        """How many are before it; None once it is over. Asking keeps it alive."""
        with self._lock:
            if number not in self._in_order:
                return None
            self._in_order[number].heard_s = self._clock()
            self._forget_stale()
            return list(self._in_order).index(number)

    def over(self, number: int) -> bool:
        return self.ahead(number) is None

    def replaced(self, number: int) -> bool:
        """Whether the visitor has started another one in another tab. Is told once."""
        with self._lock:
            return self._replaced.pop(number, 0) is None

    def leave(self, number: int) -> None:
        with self._lock:
            self._in_order.pop(number, None)

    def end(self, session: str) -> None:
        """Ends what runs or waits in a tab."""
        with self._lock:
            for number in [k for k, one in self._in_order.items() if one.session == session]:
                del self._in_order[number]

    def _forget_stale(self) -> None:
        now = self._clock()
        for number in [k for k, one in self._in_order.items() if now - one.heard_s > STALE_S]:
            del self._in_order[number]
