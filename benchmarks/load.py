"""Many visitors at once: real requests to a real demo, as browsers send them.

    python -m benchmarks.load                     20 visitors for 5 minutes, then 200 at once: about 10 minutes
    python -m benchmarks.load --seconds 20 --burst 30
    python -m benchmarks.load --only burst        measures one part anew; the others stay as they were
    python -m benchmarks.load --only light        400 visitors, of whom the page keeps something, then 30 minutes of
                                                  a visitor every 5 s, for the memory

Among the visitors are some who vanish while they wait or while they are served, and uploads that trickle. Writes
load.json beside this file.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from attentdiffernet.datasets.sample import draw
from demo.space.session import MAX_SESSIONS

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "load.json"
CATEGORY = "sample/wafer"
VISITORS, SECONDS, BURST, LIGHT_MINUTES = 20, 300, 200, 30
PATIENCE_S = 1200.0
MANY = 12  # photographs of one long request
PAUSE_S = 5.0  # between those who vanish, and visitors of the light load

numbers = itertools.count()


@dataclass
class Visit:
    """What became of one request. place: how many were ahead at first, as the page was told; None if it was not.
    error: empty where it was answered."""

    seconds: float = 0.0
    place: int | None = None
    error: str = ""


@dataclass
class Memory:
    """Of a process, in MB, by the seconds since the first sample."""

    pid: int
    samples: list[tuple[float, float]] = field(default_factory=list)

    async def follow(self) -> None:
        start = time.monotonic()
        while True:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            self.samples.append((time.monotonic() - start, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
            await asyncio.sleep(1)

    def summary(self) -> dict[str, float]:
        """The slope is that of the second half: models, caches and threads are there by then."""
        seconds, mb = np.array(self.samples).T
        late = seconds >= seconds[-1] / 2
        slope = np.polyfit(seconds[late] / 60, mb[late], 1)[0] if late.sum() > 2 else 0.0
        return {
            "minutes": round(float(seconds[-1]) / 60, 1),
            "most_mb": round(float(mb.max())),
            "last_mb": round(float(mb[-1])),
            "slope_mb_per_minute": round(float(slope), 2),
        }


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """A running demo: its address, its process, and what it prints. folder: of its uploads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    environment["PYTHONPATH"] = str(ROOT)
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health", process)
        yield address, process, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(address)
            return
        assert process.poll() is None, "the demo ended"
        time.sleep(0.2)
    raise TimeoutError(address)


# -- a visitor


def photograph() -> bytes:
    """Another one at each call: the page remembers what it has scored."""
    stream = io.BytesIO()
    Image.fromarray(draw("wafer", "donut", seed=next(numbers)).image).resize((320, 320)).save(stream, "PNG")
    return stream.getvalue()


class Visitor:
    """A tab of a browser."""

    def __init__(self, http: httpx.AsyncClient, function: int) -> None:
        self.http, self.function = http, function
        self.session = f"visitor{next(numbers)}"

    async def join(self, n_photographs: int, detectors: str) -> None:
        """Uploads, and stands in the queue. Raises HTTPError."""
        files = [("files", (f"part {k}.png", photograph(), "image/png")) for k in range(n_photographs)]
        uploaded = await self.http.post("/gradio_api/upload", files=files)
        uploaded.raise_for_status()
        sent = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in uploaded.json()]
        asked = {"data": [sent, CATEGORY, "grad-cam", detectors], "fn_index": self.function}
        joined = await self.http.post("/gradio_api/queue/join", json=asked | {"session_hash": self.session})
        joined.raise_for_status()

    async def told(self) -> AsyncIterator[dict[str, Any]]:
        """What the page says to this tab. Whoever stops to iterate vanishes."""
        address = f"/gradio_api/queue/data?session_hash={self.session}"
        async with self.http.stream("GET", address, timeout=PATIENCE_S) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    async def visit(self, detectors: str = "", n_photographs: int = 1) -> Visit:
        start, found = time.monotonic(), Visit()
        try:
            await self.join(n_photographs, detectors)
            found.error = await self._served(found)
        except (httpx.HTTPError, KeyError) as error:
            found.error = f"{type(error).__name__}: {error}"
        found.seconds = time.monotonic() - start
        return found

    async def _served(self, found: Visit) -> str:
        async with contextlib.aclosing(self.told()) as messages:
            async for message in messages:
                if message["msg"] == "estimation" and found.place is None:
                    found.place = message["rank"]
                if message["msg"] == "process_completed":
                    said = message["output"].get("data", [{}])[0]
                    whole = message["success"] and all("verdicts" in image for image in said["images"])
                    return "" if whole else json.dumps(message["output"])[:300]
        return "the page ended the answer"

    async def vanish(self, served: bool) -> None:
        """Goes while it waits, or while it is served."""
        await self.join(MANY, "")
        async with contextlib.aclosing(self.told()) as messages:
            async for message in messages:
                if message["msg"] == ("process_generating" if served else "estimation"):
                    return


# -- what they do together


async def crowd(http: httpx.AsyncClient, function: int, visitors: int, seconds: float) -> list[list[Visit]]:
    """Each asks, waits for its answer, and asks again."""
    end = time.monotonic() + seconds

    async def one() -> list[Visit]:
        found = []
        while time.monotonic() < end:
            found.append(await Visitor(http, function).visit())
        return found

    return list(await asyncio.gather(*(one() for _ in range(visitors))))


async def burst(http: httpx.AsyncClient, function: int, visitors: int) -> list[Visit]:
    """All within a second, each with its own photograph."""
    return list(await asyncio.gather(*(Visitor(http, function).visit("patchcore-places") for _ in range(visitors))))


async def vanishing(http: httpx.AsyncClient, function: int, gone: list[str]) -> None:
    """Somebody with many photographs goes again and again."""
    for served in itertools.cycle((True, False)):
        await Visitor(http, function).vanish(served)
        gone.append("served" if served else "waiting")
        await asyncio.sleep(PAUSE_S)


async def trickle(address: str, ended_s: list[float]) -> None:
    """An upload of a byte a second, until the page ends it."""
    host, port = address.removeprefix("http://").split(":")
    start = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n"
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode())
    writer.write(b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n')
    answered = asyncio.create_task(reader.read(100))
    with contextlib.suppress(ConnectionError):
        while not answered.done():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(1)
    ended_s.append(time.monotonic() - start)
    writer.close()


async def freed_s(http: httpx.AsyncClient, function: int, cancel: bool) -> float:
    """Somebody with many photographs goes, or cancels, while served: seconds until the next visitor's turn comes."""
    long, following = Visitor(http, function), Visitor(http, function)
    await long.join(MANY, "")
    async with contextlib.aclosing(long.told()) as messages:
        async for message in messages:
            if message["msg"] == "process_generating":
                break
        await following.join(1, "patchcore-places")
        if cancel:
            asked = {"session_hash": long.session, "fn_index": function, "event_id": message["event_id"]}
            (await http.post("/gradio_api/cancel", json=asked)).raise_for_status()
            start = time.monotonic()
    if not cancel:
        start = time.monotonic()
    async with contextlib.aclosing(following.told()) as messages:
        async for message in messages:
            if message["msg"] == "process_starts":
                break
    return time.monotonic() - start


async def light(http: httpx.AsyncClient, function: int, minutes: float) -> list[Visit]:
    end, found = time.monotonic() + 60 * minutes, []
    while time.monotonic() < end:
        found.append(await Visitor(http, function).visit())
        await asyncio.sleep(max(0.0, PAUSE_S - found[-1].seconds))
    return found


# -- the measurement


def told_of(visits: list[Visit]) -> dict[str, Any]:
    seconds = [one.seconds for one in visits if not one.error]
    return {
        "asked": len(visits),
        "answered": len(seconds),
        "errors": sorted({one.error for one in visits if one.error})[:5],
        "place_shown": sum(one.place is not None for one in visits),
        "median_s": round(float(np.median(seconds)), 1) if seconds else None,
        "longest_s": round(max(seconds), 1) if seconds else None,
    }


@contextlib.asynccontextmanager
async def meanwhile(*works: Any) -> AsyncIterator[None]:
    """The works go on until the block ends. Raises what one of them raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                raise ended


async def known_to(http: httpx.AsyncClient, function: int, n_sessions: int) -> None:
    """As many visitors as the page keeps something of, each by the quickest detector: memory grows with each until
    then."""
    for _ in range(n_sessions):
        await Visitor(http, function).visit("patchcore-places")


async def measured(address: str, pid: int, asked: argparse.Namespace) -> dict[str, Any]:
    """The parts that were asked for, by name."""
    # A connection for each request, as if of another visitor: what is sent over one that the page is closing is lost,
    # and browsers send it again.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_S, limits=limits) as http:
        config = (await http.get("/config")).json()
        function = next(one["id"] for one in config["dependencies"] if one["api_name"] == "compare")
        await Visitor(http, function).visit()  # models are loaded
        found: dict[str, Any] = {}
        for name in asked.only:
            if name == "light":
                await known_to(http, function, asked.sessions)
            memory = Memory(pid)
            async with meanwhile(memory.follow()):
                found[name] = await PARTS[name](http, function, asked)
            found[name]["memory"] = memory.summary()
        return found


async def crowd_part(http: httpx.AsyncClient, function: int, asked: argparse.Namespace) -> dict[str, Any]:
    gone, ended_s, address = list[str](), list[float](), str(http.base_url).rstrip("/")
    async with meanwhile(vanishing(http, function, gone), *(trickle(address, ended_s) for _ in range(5))):
        each = await crowd(http, function, asked.visitors, asked.seconds)
    shares = [sum(not visit.error for visit in visits) for visits in each]
    freed = [await freed_s(http, function, cancel) for cancel in (True, False) * 3]
    return told_of([visit for visits in each for visit in visits]) | {
        "visitors": asked.visitors,
        "seconds": asked.seconds,
        "shares": [min(shares), max(shares)],
        "vanished": len(gone),
        "trickling_uploads_ended_s": [round(one, 1) for one in sorted(ended_s)],
        "freed_s": round(max(freed), 2),
    }


async def burst_part(http: httpx.AsyncClient, function: int, asked: argparse.Namespace) -> dict[str, Any]:
    return told_of(await burst(http, function, asked.burst))


async def light_part(http: httpx.AsyncClient, function: int, asked: argparse.Namespace) -> dict[str, Any]:
    return told_of(await light(http, function, asked.minutes))


PARTS = {"crowd": crowd_part, "burst": burst_part, "light": light_part}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=VISITORS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--burst", type=int, default=BURST)
    parser.add_argument("--minutes", type=float, default=LIGHT_MINUTES, help="of the light load")
    parser.add_argument("--sessions", type=int, default=MAX_SESSIONS, help="that the page knows before the light load")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=["crowd", "burst"])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, demo(Path(folder)) as (address, process, log):
        found = asyncio.run(measured(address, process.pid, asked))
        said = log.read_text(encoding="utf-8")
    if "Traceback" in said:
        sys.exit(said)
    before = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.exists() else {}
    found = before | {"cores": os.cpu_count()} | found
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
