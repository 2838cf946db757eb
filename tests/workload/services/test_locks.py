"""One load on one engine: an experiment alone, the continuous load while no other command wants it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from workload.errors import StorageError
from workload.services.locks import FileLock, InUseError, Requester, engine_lock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, pathlib
from workload.services.locks import FileLock, Requester, InUseError, engine_lock
with FileLock(pathlib.Path(sys.argv[1])).acquire():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_an_experiment_keeps_the_load_out(tmp_path: Path) -> None:
    """Two loads on one engine measure neither."""
    with FileLock(tmp_path).acquire_shared() as may_ask:
        assert may_ask
    with FileLock(tmp_path).acquire(), FileLock(tmp_path).acquire_shared() as may_ask:
        assert not may_ask
    with FileLock(tmp_path).acquire_shared() as may_ask:
        assert may_ask


def test_an_experiment_waits_for_the_question_under_way(tmp_path: Path) -> None:
    """Cut off, it would be a failure without a cause; and the command that waits says why."""
    reported, held = threading.Event(), threading.Event()

    def experiment() -> None:
        with FileLock(tmp_path).acquire(Requester(say=lambda _: reported.set())):
            held.set()

    thread = threading.Thread(target=experiment)
    with FileLock(tmp_path).acquire_shared():
        thread.start()
        assert reported.wait(60)
        assert not held.is_set()
    thread.join(60)
    assert held.is_set()


def test_a_killed_experiment_blocks_nothing(tmp_path: Path) -> None:
    """A file that says "busy" would outlive it, and the load would stay away for ever."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with FileLock(tmp_path).acquire_shared() as may_ask:
            assert not may_ask
        process.kill()
        process.wait()
    with FileLock(tmp_path).acquire_shared() as may_ask:
        assert may_ask


def test_whoever_comes_second_reads_whose_it_is(tmp_path: Path) -> None:
    """Without a name the user is sent to ps: the command, its run, its process and its beginning say what to do."""
    first = Requester("hop2rag soak", "20250131-235959-soak")
    said = list[str]()
    with FileLock(tmp_path).acquire_now(first):
        owner = FileLock(tmp_path).owner()
        assert owner is not None
        assert (owner.command, owner.run, owner.pid) == ("hop2rag soak", "20250131-235959-soak", os.getpid())
        refused = (
            rf"The engine is in use by hop2rag soak \(run 20250131-235959-soak, process {os.getpid()}, since \d{{4}}"
        )
        with pytest.raises(InUseError, match=refused), FileLock(tmp_path).acquire_now():
            pass
        second = threading.Thread(target=lambda: FileLock(tmp_path).acquire(by=Requester(say=said.append)).__enter__())
        second.start()
        while not said:
            second.join(0.01)
    second.join(60)
    assert said == [f"Waiting for the engine, which is in use by {owner}. Ctrl-C gives up."]
    assert FileLock(tmp_path).owner() is None


def test_a_question_of_the_load_is_reported_as_one(tmp_path: Path) -> None:
    """It has no record: many may share the lock."""
    with FileLock(tmp_path).acquire_shared(), pytest.raises(InUseError, match="a question of `hop2rag load`"):
        FileLock(tmp_path).acquire_now().__enter__()


@pytest.mark.parametrize(
    "other",
    [
        "localhost:8000",
        "LOCALHOST.:8000",
        "127.0.0.1:8000",
        "127.0.1.1:8000",
        "[::1]:8000",
        "::1:8000",
        "0:0:0:0:0:0:0:1:8000",
        "::ffff:127.0.0.1:8000",
        ":::8000",
        "0.0.0.0:8000",
        f"{socket.gethostname()}:8000",
    ],
)
def test_one_engine_has_one_lock_however_it_is_named(tmp_path: Path, other: str) -> None:
    """`run --vllm-endpoint http://localhost:8000` and `soak` load the same engine."""
    with engine_lock(tmp_path, "127.0.0.1:8000").acquire_now(), pytest.raises(InUseError):
        engine_lock(tmp_path, other).acquire_now().__enter__()
    with engine_lock(tmp_path, "127.0.0.1:8000").acquire_now(), engine_lock(tmp_path, "gpu-1:8000").acquire_now():
        assert engine_lock(tmp_path, "127.0.0.1:8001").owner() is None


def test_a_record_of_anything_else_is_nobody_s(tmp_path: Path) -> None:
    """A file that was cut, or is of another release, is no reason to end with a traceback."""
    for text in ("{", "[]", '{"pid": 1}', '{"command": 1, "child": 7}', "null"):
        (tmp_path / ".claim").write_text(text)
        with FileLock(tmp_path).acquire_now() as record:
            assert record.killed is None


def test_an_owner_without_a_record_yet_is_waited_for(tmp_path: Path) -> None:
    """A lock is taken before its record is written; whoever asks in between would refuse a user for nobody's sake."""
    lock = FileLock(tmp_path)
    with lock.acquire():
        pass
    (path,) = (found for found in tmp_path.iterdir() if found.is_file())
    with path.open("r+") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        assert str(lock.owner()) == "another process"
        release = threading.Timer(0.2, fcntl.flock, (taken, fcntl.LOCK_UN))
        release.start()
        assert lock.owner() is None
        release.join()


def test_a_lock_is_not_a_link(tmp_path: Path) -> None:
    """What a link in a shared folder points to must not be overwritten with our record."""
    (tmp_path / "victim").write_text("dear")
    (tmp_path / ".claim").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError):
        FileLock(tmp_path).acquire_now().__enter__()
    assert (tmp_path / "victim").read_text() == "dear"


@pytest.mark.parametrize(
    "record",
    [
        '{"command": "x", "pid": 1, "since": 1e300}',
        '{"command": "x", "pid": 1, "since": NaN}',
        '{"command": "x", "pid": -1, "since": 0}',
        '{"command": "x", "pid": 1, "since": 0, "child": [-1, 0], "is_ready": true}',
        '{"command": "x", "pid": 1, "since": 0, "child": [1, Infinity]}',
    ],
)
def test_no_number_in_a_record_ends_with_a_traceback(tmp_path: Path, record: str) -> None:
    """A waiting command reads what another release, or a damaged disk, has left under a held lock."""
    (tmp_path / ".claim").write_text(record)
    with (tmp_path / ".claim").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InUseError, match=r"in use by another process\."):
            FileLock(tmp_path).acquire_now(attempts=1).__enter__()
    with FileLock(tmp_path).acquire_now() as ours:
        assert ours.killed is None


def test_a_record_is_one_line_without_escape_sequences(tmp_path: Path) -> None:
    """It is printed in the middle of a sentence."""
    with FileLock(tmp_path).acquire_now(Requester("a\nb\x1b[31m", "r\n")), pytest.raises(InUseError) as refused:
        FileLock(tmp_path).acquire_now(attempts=1).__enter__()
    assert "\n" not in refused.value.cause
    assert "\x1b" not in refused.value.cause


@pytest.mark.parametrize(
    ("argv", "reported"),
    [
        (["/x/hop2rag", "ask", "Who is it?\nTell me."], "hop2rag ask"),
        (["/x/hop2rag", "run", "latency", "--limit", "3"], "hop2rag run latency"),
        (["/x/hop2rag", "soak", "--vllm-endpoint", "http://secret@host"], "hop2rag soak"),
        (["/x/workload/__main__.py", "run", "--limit", "3"], "hop2rag run"),
        (["/x/hop2rag"], "hop2rag"),
    ],
)
def test_a_question_is_shown_to_no_other_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], reported: str
) -> None:
    """A user's question is private; and a long one left no room for the name of the lock's owner."""
    monkeypatch.setattr(sys, "argv", argv)
    with FileLock(tmp_path).acquire_now():
        owner = FileLock(tmp_path).owner()
    assert owner is not None
    assert owner.command == reported


def _fails(code: int) -> Any:
    def call(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize(
    ("name", "code"), [("fcntl.flock", errno.ENOLCK), ("fcntl.flock", errno.EOPNOTSUPP), ("os.pwrite", errno.ENOSPC)]
)
def test_a_file_system_that_cannot_lock_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """A full disk, and a network's file system without locks, are no traceback (exit code 5)."""
    monkeypatch.setattr(name, _fails(code))
    for lock in (FileLock(tmp_path).acquire_now(), FileLock(tmp_path).acquire()):
        with pytest.raises(StorageError, match=os.strerror(code)):
            lock.__enter__()


def test_a_pipe_is_not_a_lock(tmp_path: Path) -> None:
    """Opened for reading and writing it would take the lock, and then no record."""
    os.mkfifo(tmp_path / ".claim")
    with pytest.raises(StorageError, match="is not a regular file"):
        FileLock(tmp_path).acquire_now().__enter__()
