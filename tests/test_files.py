"""Replacing whole files and folders, locks, and what killed processes leave; the processes here are really killed."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attentdiffernet import files
from attentdiffernet.files import (
    finish_replacement,
    leftovers,
    locked,
    open_locked,
    replace_file,
    replace_folder,
    sweep,
    sweep_folder,
)

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def short_gap(monkeypatch):
    monkeypatch.setattr(files, "GAP_SECONDS", 0.01)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def put_file(path, text):
    with replace_file(path) as stream:
        stream.write(text.encode())


def put_folder(folder, text):
    with replace_folder(folder) as new:
        (new / "deep").mkdir()
        (new / "a.txt").write_text(text)
        (new / "deep" / "b.txt").write_text(text)


def texts(folder):
    return [(folder / name).read_text() for name in ("a.txt", "deep/b.txt")]


# -- replace


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_made_and_replaced(durable, tmp_path):
    path = tmp_path / "new" / "x.txt"
    for text in ("old", "new"):
        with replace_file(path, durable) as stream:
            stream.write(text.encode())
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == text
    assert names(path.parent) == ["x.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_of_a_file_are_kept_and_new_ones_are_as_usual(tmp_path):
    path, usual = tmp_path / "x.txt", tmp_path / "usual"
    usual.touch()
    put_file(path, "old")
    assert path.stat().st_mode == usual.stat().st_mode
    path.chmod(0o640)
    put_file(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_error_leaves_the_old_content(tmp_path):
    put_file(tmp_path / "x.txt", "old")
    put_folder(tmp_path / "x", "old")
    with pytest.raises(TypeError), replace_file(tmp_path / "x.txt") as stream:
        stream.writelines([b"half", None])
    with pytest.raises(TypeError), replace_folder(tmp_path / "x") as new:
        (new / "a.txt").write_bytes("text")
    assert (tmp_path / "x.txt").read_text() == "old" and texts(tmp_path / "x") == ["old", "old"]
    assert names(tmp_path) == ["x", "x.txt"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_is_made_and_replaced(durable, tmp_path):
    folder = tmp_path / "up" / "model"
    put_folder(folder, "old")
    (folder / "only in the old one").touch()
    with replace_folder(folder, durable) as new:
        (new / "a.txt").write_text("new")
        assert texts(folder) == ["old", "old"]
    assert names(folder) == ["a.txt"] and names(folder.parent) == ["model"]


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path):
    put_folder(tmp_path / "elsewhere", "old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    put_folder(tmp_path / "link", "new")
    assert texts(tmp_path / "elsewhere") == ["old", "old"] and texts(tmp_path / "link") == ["new", "new"]
    assert names(tmp_path) == ["elsewhere", "link"] and not (tmp_path / "link").is_symlink()


def test_if_the_second_rename_fails_the_old_folder_is_moved_back(tmp_path, monkeypatch):
    put_folder(tmp_path / "model", "old")
    replace, calls = os.replace, []

    def fail_once(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail_once)
    with pytest.raises(OSError, match="No space left"):
        put_folder(tmp_path / "model", "new")
    assert texts(tmp_path / "model") == ["old", "old"] and names(tmp_path) == ["model"]


# -- killed

KILLED = """
import os, pathlib, signal, sys
from attentdiffernet import files

what, target, step = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def counted(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

files.os.replace, files.os.fsync, files.shutil.rmtree = map(counted, (os.replace, os.fsync, files.shutil.rmtree))
if what == "file":
    with files.replace_file(target) as stream:
        stream.write(b"new")
else:
    with files.replace_folder(target) as new:
        (new / "deep").mkdir()
        for name in ("a.txt", "deep/b.txt"):
            (new / name).write_text("new")
print(calls)
"""


def killed_at(step, what, target):
    """Whether the process was killed before that call of os.replace, os.fsync or rmtree, or had fewer of them."""
    command = [sys.executable, "-c", KILLED, what, str(target), str(step)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(what, tmp_path):
    target, seen, step = tmp_path / "x", [], 1
    put, read = (put_file, Path.read_text) if what == "file" else (put_folder, lambda path: texts(path)[1])
    while True:
        put(target, "old")
        if not killed_at(step, what, target):
            break
        finish_replacement(target)
        seen.append(read(target))
        put(target, "newest")
        assert read(target) == "newest"
        sweep(target, older_than=0)
        assert names(tmp_path) == ["x"]
        step += 1
    assert set(seen) == {"old", "new"} and seen == sorted(seen, reverse=True), "the new one from some step on"


def test_a_folder_between_two_renames_is_finished_once(tmp_path):
    """The old folder was moved away, the new one is complete: it takes its place."""
    put_folder(tmp_path / ".x.0123abcd.old", "old")
    put_folder(tmp_path / ".x.0123abcd.new", "new")
    finish_replacement(tmp_path / "x")
    assert texts(tmp_path / "x") == ["new", "new"] and names(tmp_path) == ["x"]


def test_an_old_folder_alone_is_not_brought_back(tmp_path):
    put_folder(tmp_path / ".x.0123abcd.old", "old")  # its target was removed later
    finish_replacement(tmp_path / "x")
    assert names(tmp_path) == [".x.0123abcd.old"]


# -- leftovers


def made(path, age=0.0):
    path.mkdir()
    (path / "file").touch()
    os.utime(path, (time.time() - age,) * 2)


def test_leftovers_go_when_they_are_old(tmp_path):
    made(tmp_path / ".x.0123abcd.new", age=7200)
    made(tmp_path / ".x.4567abcd.new", age=60)
    made(tmp_path / ".y.0123abcd.new", age=7200)
    assert [path.name for path in leftovers(tmp_path / "x")] == [".x.0123abcd.new", ".x.4567abcd.new"]
    put_folder(tmp_path / "x", "new")
    assert names(tmp_path) == [".x.4567abcd.new", ".y.0123abcd.new", "x"]
    sweep_folder(tmp_path)
    assert names(tmp_path) == [".x.4567abcd.new", "x"]
    sweep_folder(tmp_path, older_than=0)
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    "name", [".x.of-my-mother.new", ".x.settings", "x.0123abcd.new", ".x.0123abcd", ".0123abcd.new"]
)
def test_what_only_looks_like_a_leftover_stays(name, tmp_path):
    made(tmp_path / name, age=7200)
    put_folder(tmp_path / "x", "new")
    sweep_folder(tmp_path, older_than=0)
    assert name in names(tmp_path)


def test_a_folder_that_cannot_be_listed_has_no_leftovers(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    put_file(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new" and leftovers(tmp_path / "gone" / "x") == []


def test_sweeping_a_folder_finishes_what_was_complete(tmp_path):
    put_folder(tmp_path / ".x.0123abcd.old", "old")
    put_folder(tmp_path / ".x.0123abcd.new", "new")
    sweep_folder(tmp_path, older_than=0)
    assert texts(tmp_path / "x") == ["new", "new"] and names(tmp_path) == ["x"]


# -- locks

HOLDER = """
import sys, time
from attentdiffernet.files import locked, open_locked

if sys.argv[1] == "folder":
    with locked(sys.argv[2]):
        print("held", flush=True)
        time.sleep(60)
stream = open_locked(sys.argv[2])
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder():
    """Starts a process that holds a lock; killed at the end."""
    started = []

    def start(what, path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, what, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.process
def test_a_locked_folder_is_held_until_its_process_is_killed(tmp_path, holder):
    pytest.importorskip("fcntl")
    process = holder("folder", tmp_path / "new")
    with pytest.raises(BlockingIOError), locked(tmp_path / "new", wait=False):
        pass
    process.kill()
    with locked(tmp_path / "new", wait=True), pytest.raises(BlockingIOError), locked(tmp_path / "new", wait=False):
        pass


@pytest.mark.process
def test_a_locked_file_is_held_until_its_process_is_killed(tmp_path, holder):
    pytest.importorskip("fcntl")
    path = tmp_path / "list.csv"
    process = holder("file", path)
    with pytest.raises(BlockingIOError):
        open_locked(path)
    process.kill()
    process.wait()
    with open_locked(path) as stream:
        stream.write(b"row\n")
        with pytest.raises(BlockingIOError):
            open_locked(path)
    assert path.read_bytes() == b"row\n"


def test_a_folder_removed_while_it_is_waited_for_is_made_again(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    flock, calls = fcntl.flock, []

    def removed_meanwhile(descriptor, how):
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / "out").rmdir()
        flock(descriptor, how)

    monkeypatch.setattr(files.fcntl, "flock", removed_meanwhile)
    with locked(tmp_path / "out"):
        assert (tmp_path / "out").is_dir() and len(calls) == 2


def test_where_there_are_no_locks_everything_else_works(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    with locked(tmp_path / "out", wait=False), open_locked(tmp_path / "out" / "x") as stream:
        stream.write(b"row\n")
    assert (tmp_path / "out" / "x").read_bytes() == b"row\n"


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")

    def refused(descriptor, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with locked(tmp_path), open_locked(tmp_path / "x"):
        pass
