"""Decodes untrusted images in processes of their own, which are killed when they take too long.

A decoder that runs cannot be interrupted from within: a thread that waits for it would wait, too. `decoding_limits`
rejects what is known to take long; this is for what is not known, and for a file that crashes its decoder.
"""

import io
import json
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np

from .errors import ImageError
from .images import highest_grey, read_upload

DEADLINE_S = 15.0  # far more than the largest photograph needs
PROCESSES = 2
PIPE_BYTES = 1 << 20


class DecodingProcess:
    """One process, started when it is first needed and again after it has ended. Decodes one image at a time."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[Any, Any] | None = None  # ends it, at the latest when this process ends

    def read_upload(
        self, source: str | Path | BinaryIO, name: str | None = None, white: float | None = None
    ) -> tuple[np.ndarray, bool]:
        """As `images.read_upload`. Raises ImageError also where decoding takes longer than the deadline, or ends the
        process."""
        path, content = None, b""
        if isinstance(source, str | Path):
            path, name = str(Path(source).absolute()), name or Path(source).name
        else:
            content, name = _all_of(source), name or "the image"
        asked = {"read": "pixels", "path": path, "name": name, "white": white}
        answer, pixels = self._answered(asked, content)
        return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]), answer["transparent"]

    def highest_grey(self, path: str | Path) -> tuple[float, bool]:
        """As `images.highest_grey`. Raises as `read_upload`."""
        asked = {"read": "highest grey", "path": str(Path(path).absolute()), "name": Path(path).name}
        answer, _ = self._answered(asked, b"")
        return answer["highest"], answer["is_float"]

    def _answered(self, asked: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytearray]:
        process, late = self._running(), threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.deadline_s, stop)
        timer.start()
        try:
            assert process.stdin is not None
            assert isinstance(process.stdout, io.BufferedReader)
            _send(process.stdin, asked, content)
            answer, pixels = _receive(process.stdout)
        except (OSError, EOFError) as error:
            self.close()
            why = f"it takes longer than {self.deadline_s:.3g} s" if late.is_set() else "it ended the decoder"
            raise ImageError(f"{asked['name']} could not be decoded: {why}") from error
        finally:
            timer.cancel()
        if "error" in answer:
            raise ImageError(answer["error"])
        return answer, pixels

    def close(self) -> None:
        if self._end is not None:
            self._end()
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            folder = Path(__file__).resolve().parent.parent  # so that the package is found from anywhere
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # some decoders print what they find
                pipesize=PIPE_BYTES,
            )
            self._end = weakref.finalize(self, _ended, self._process)
        return self._process


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


class DecodingPool:
    """As `DecodingProcess`, for several threads: one slow file holds up one process only."""

    def __init__(self, processes: int = PROCESSES, deadline_s: float = DEADLINE_S) -> None:
        self._free = queue.LifoQueue[DecodingProcess]()  # the one used last first: often one is enough
        for _ in range(processes):
            self._free.put(DecodingProcess(deadline_s))

    def read_upload(
        self, source: str | Path | BinaryIO, name: str | None = None, white: float | None = None
    ) -> tuple[np.ndarray, bool]:
        with self._one() as process:
            return process.read_upload(source, name, white)

    def read_image(
        self, source: str | Path | BinaryIO, name: str | None = None, white: float | None = None
    ) -> np.ndarray:
        return self.read_upload(source, name, white)[0]

    def highest_grey(self, path: str | Path) -> tuple[float, bool]:
        with self._one() as process:
            return process.highest_grey(path)

    @contextmanager
    def _one(self) -> Iterator[DecodingProcess]:
        process = self._free.get()
        try:
            yield process
        finally:
            self._free.put(process)


def _all_of(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


def _send(stream: IO[bytes], message: dict[str, Any], content: bytes | memoryview) -> None:
    """A line of JSON, which says how many bytes follow."""
    stream.write(json.dumps(message | {"bytes": len(content)}).encode() + b"\n")
    stream.write(content)
    stream.flush()


def _receive(stream: io.BufferedReader) -> tuple[dict[str, Any], bytearray]:
    """Raises EOFError where the other side has ended."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    message = json.loads(line)
    content = bytearray(message["bytes"])
    if stream.readinto(content) < len(content):
        raise EOFError
    return message, content


def main() -> None:
    questions = cast(io.BufferedReader, sys.stdin.buffer)
    while True:
        try:
            asked, content = _receive(questions)
        except EOFError:
            return
        try:
            _send(sys.stdout.buffer, *_answer(asked, content))
        except ImageError as error:
            _send(sys.stdout.buffer, {"error": str(error)}, b"")


def _answer(asked: dict[str, Any], content: bytearray) -> tuple[dict[str, Any], bytes | memoryview]:
    if asked["read"] == "highest grey":
        highest, is_float = highest_grey(asked["path"])
        return {"highest": highest, "is_float": is_float}, b""
    pixels, transparent = read_upload(asked["path"] or io.BytesIO(content), asked["name"], asked["white"])
    return {"shape": pixels.shape, "transparent": transparent}, np.ascontiguousarray(pixels).data.cast("B")


if __name__ == "__main__":
    main()
