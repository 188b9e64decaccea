"""Where a face is served: its port, from `--port`, the environment or the usual one, and whether it is free."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence


def port_asked_for(usual: int, environment: str, arguments: Sequence[str] | None = None) -> int:
    """environment: name of a variable that holds a port, after `--port` and `PORT`. Ends the program with a sentence
    where the port is none or taken."""
    given = os.environ.get("PORT") or os.environ.get(environment) or str(usual)
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default=given, help=f"1 to 65535; by default PORT, {environment} or {usual}")
    text = parser.parse_args(arguments).port
    if not text.isdecimal() or not 0 < int(text) < 65536:
        sys.exit(f"The port must be a number from 1 to 65535, got {text!r}")
    if not is_free(int(text)):
        sys.exit(f"Port {text} is taken, by this program or another one. Name another: --port {another(int(text))}")
    return int(text)


def is_free(port: int) -> bool:
    with socket.socket() as asked:
        # As servers do: a port whose last connections are still closing is free.
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def another(port: int) -> int:
    """The next one that is free."""
    return next((other for other in range(port + 1, min(port + 100, 65536)) if is_free(other)), port + 1)
