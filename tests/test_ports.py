"""Where the faces are served: the port asked for, and a plain sentence where it cannot be had."""

import socket

import pytest

from demo.ports import is_free, port_asked_for

pytestmark = pytest.mark.quick


@pytest.fixture
def taken():
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def free_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        return other.getsockname()[1]


def test_the_argument_wins_over_the_environment(monkeypatch):
    usual, given, argument = (free_port() for _ in range(3))
    for name in ("PORT", "A_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert port_asked_for(usual, "A_PORT", []) == usual
    monkeypatch.setenv("A_PORT", str(given))
    assert port_asked_for(usual, "A_PORT", []) == given
    monkeypatch.setenv("PORT", str(argument))
    assert port_asked_for(usual, "A_PORT", []) == argument
    assert port_asked_for(usual, "A_PORT", ["--port", str(usual)]) == usual


def test_a_port_that_is_taken_is_said_with_another_that_is_free(taken):
    with pytest.raises(SystemExit) as ended:
        port_asked_for(1, "A_PORT", ["--port", str(taken)])
    said = str(ended.value)
    assert said.startswith(f"Port {taken} is taken")
    assert is_free(int(said.rsplit(" ", 1)[1]))


@pytest.mark.parametrize("asked", ["http", "0", "65536", "-1"])
def test_no_port_is_no_traceback(asked):
    with pytest.raises(SystemExit, match="a number from 1 to 65535"):
        port_asked_for(1, "A_PORT", [f"--port={asked}"])
