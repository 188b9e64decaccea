"""What may be sent to the page: how much, by whom, and how slowly.

Gradio writes whatever is sent into its folder, and forgets the files of an upload that is cut off. Here, an upload
needs room, among all uploads and among those of its visitor; one that stalls is cut off, and what was cut off is
removed.
"""

import asyncio
import logging
import os
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Never

import gradio as gr
from gradio import processing_utils
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from ..service import private

VISITORS = 4  # a visitor may use up so great a part of the room
MOST_OTHER_BYTES = 50_000_000  # of a request that is no upload: a drawing, the largest
MOST_IGNORED_BYTES = 100_000_000  # read before an upload is refused: browsers show no answer they do not wait for
STALLED_S = 30.0
SLOWEST = 20_000  # bytes per second, of what takes longer than STALLED_S
HOUR_S = private.KEPT_S
ON_A_SPACE = "SPACE_ID"  # which Hugging Face sets

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served: a status of HTTP, and a sentence for the visitor."""

    status: int
    sentence: str


TOO_SLOW = Refusal(408, "The upload stalled; try again")
NO_LENGTH = Refusal(411, "An upload must state its length")


def too_large(most_bytes: int) -> Refusal:
    return Refusal(413, f"The request is larger than {most_bytes / 1e6:.0f} MB, the limit")


class Body:
    """What is sent with one request, as it comes in. It ends as if the sender had gone where it is too long or too
    slow; `refusal` says so."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self.received, self.most_bytes = 0, most_bytes
        self.complete, self.gone = False, False
        self.refusal: Refusal | None = None
        self._receive, self._start_s = receive, time.monotonic()

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._left_s()))
        except TimeoutError:
            return self._ended(TOO_SLOW)
        self.received += len(message.get("body", b""))
        if self.received > self.most_bytes:
            return self._ended(too_large(self.most_bytes))
        self.gone = message["type"] == "http.disconnect"
        self.complete = self.gone or not message.get("more_body", False)
        return message

    async def ignored(self, most_bytes: int = MOST_IGNORED_BYTES) -> None:
        """Reads it to its end, or up to so much."""
        while not self.complete and self.received <= most_bytes:
            await self()

    def _left_s(self) -> float:
        allowed_s = STALLED_S + self.received / SLOWEST
        return min(STALLED_S, self._start_s + allowed_s - time.monotonic())

    def _ended(self, refusal: Refusal) -> Message:
        self.refusal, self.complete = refusal, True
        return {"type": "http.disconnect"}


class Uploads:
    """Stands before Gradio's application (ASGI)."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self._running: list[tuple[str, Body]] = []
        self._brought: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)  # (when, bytes), by visitor

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
        elif scope["path"].rstrip("/").endswith("/upload"):
            await self._upload(scope, receive, send)
        else:
            body = Body(receive, MOST_OTHER_BYTES)
            if (_length(scope) or 0) > MOST_OTHER_BYTES:
                await _refuse(too_large(MOST_OTHER_BYTES), scope, body, send)
            else:
                await self._pass_on(scope, body, send)

    async def _upload(self, scope: Message, receive: Receive, send: Send) -> None:
        length, visitor = _length(scope), _visitor(scope)
        body = Body(receive, length or 0)
        refusal = NO_LENGTH if length is None else self._no_room(visitor, length)
        if refusal is not None:
            log.info("An upload of %s bytes was refused: %s", length, refusal.sentence)
            await _refuse(refusal, scope, body, send)
            return
        self._running.append((visitor, body))
        try:
            await self._pass_on(scope, body, send)
        finally:
            self._running.remove((visitor, body))
            self._brought[visitor].append((time.monotonic(), body.received))
            if not self._running:
                private.forget_received()

    async def _pass_on(self, scope: Message, body: Body, send: Send) -> None:
        """To Gradio. Where it was ended meanwhile, the visitor is told why, whatever Gradio says."""

        async def answer(message: Message) -> None:
            if body.refusal is None:
                await send(message)

        try:
            await self.app(scope, body, answer)
        except ClientDisconnect:
            if not body.gone and body.refusal is None:
                raise
        if body.refusal is not None:
            await _refuse(body.refusal, scope, body, send)

    def _no_room(self, visitor: str, length: int) -> Refusal | None:
        coming = [(who, body.most_bytes, body.received) for who, body in self._running]
        most, held = private.most_bytes(), private.held_bytes()
        if held + sum(whole - received for _, whole, received in coming) + length > most:
            return Refusal(507, private.full(held))
        mine = self._brought_lately(visitor) + sum(whole for who, whole, _ in coming if who == visitor)
        if mine + length > most // VISITORS:
            return Refusal(
                429,
                f"You have brought {mine / 1e6:.0f} MB within the last hour, and {most // VISITORS / 1e6:.0f} MB are "
                "the most here; try again in a few minutes",
            )
        return None

    def _brought_lately(self, visitor: str) -> int:
        now = time.monotonic()
        for one in list(self._brought):
            while self._brought[one] and now - self._brought[one][0][0] > HOUR_S:
                self._brought[one].popleft()
            if not self._brought[one]:
                del self._brought[one]
        return sum(n_bytes for _, n_bytes in self._brought.get(visitor, ()))


def _visitor(scope: Message) -> str:
    """An address: an upload says nothing else about who sends it. On a Space it is the one that the proxy names, which
    stands before all visitors; whoever lies about it is still bounded by the room that all have together."""
    if os.environ.get(ON_A_SPACE) and (named := dict(scope["headers"]).get(b"x-forwarded-for", b"")):
        return str(named.decode("latin-1").partition(",")[0].strip()[:45])
    return str((scope.get("client") or ("",))[0])


def _length(scope: Message) -> int | None:
    given = dict(scope["headers"]).get(b"content-length", b"")
    return int(given) if given.isdigit() else None


async def _refuse(refusal: Refusal, scope: Message, body: Body, send: Send) -> None:
    await body.ignored()
    await PlainTextResponse(refusal.sentence, refusal.status)(scope, body, send)


def fetch_nothing() -> None:
    """Gradio would fetch whatever address a caller of the API names in place of an upload. Here, it does not."""

    def refuse(*_: object, **__: object) -> Never:
        raise gr.Error("Files of other addresses are not fetched: upload them", print_exception=False)

    async def refuse_when_awaited(*_: object, **__: object) -> Never:
        refuse()

    processing_utils.async_ssrf_protected_download = refuse_when_awaited
    processing_utils.ssrf_protected_download = refuse
    processing_utils.save_url_to_cache = refuse
