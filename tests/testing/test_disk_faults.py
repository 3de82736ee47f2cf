"""Faults below a store: what is torn is what a power cut may leave, and what fails fails in another OS process."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from durable.testing.disk_faults import failing_disk, find_strace, syncs_before, torn_places, watched_syncs

WRITER = """
import os, socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
file = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
while order := connection.recv(10):
    try:
        os.write(file, b"x")
        if order == b"sync":
            os.fsync(file)
        connection.send(b"done")
    except OSError as error:
        connection.send(b"error %d" % error.errno)
"""


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Directories before and after a commit, and one to work in."""
    before, after, into = [tmp_path / name for name in ("before", "after", "into")]
    for place in (before, after, into):
        place.mkdir()
    return before, after, into


def contents(places: tuple[Path, Path, Path], name: str, order: list[str] | None = None) -> list[bytes | None]:
    """What a file is in each of the torn places."""
    return [(one / name).read_bytes() if (one / name).exists() else None for one in torn_places(*places, order=order)]


def test_appended_file_is_torn_at_every_byte(places: tuple[Path, Path, Path]) -> None:
    """A file that has grown ends anywhere between before and after, also with zeros up to its length."""
    before, after, _ = places
    (before / "log").write_bytes(b"ab")
    (after / "log").write_bytes(b"abcde")
    assert contents(places, "log") == [b"ab", b"ab\0\0\0", b"abc", b"abc\0\0", b"abcd", b"abcd\0"]


def test_overwritten_file_keeps_its_old_end(places: tuple[Path, Path, Path]) -> None:
    """Where bytes were overwritten those after the cut are the old ones, and equal bytes are not torn."""
    before, after, _ = places
    (before / "log").write_bytes(b"--12--")
    (after / "log").write_bytes(b"--34--")
    assert contents(places, "log") == [b"--12--", b"--32--"]


def test_new_file_may_be_missing(places: tuple[Path, Path, Path]) -> None:
    """A file that the commit has created may not be there at all."""
    (places[1] / "log").write_bytes(b"x")
    assert contents(places, "log") == [None, b"", b"\0"]


def test_order_of_files(places: tuple[Path, Path, Path]) -> None:
    """With several files the earlier ones are whole and the later ones as before; without an order it is refused."""
    before, after, _ = places
    for name in ("a", "b", "same"):
        (before / name).write_bytes(b"")
        (after / name).write_bytes(b"x" if name != "same" else b"")
    with pytest.raises(ValueError, match="in which order"):
        next(iter(torn_places(*places)))
    assert contents(places, "a", order=["b", "a"]) == [b"", b"", b"", b"\0"]
    assert contents(places, "b", order=["b", "a"]) == [b"", b"\0", b"x", b"x"]


def test_failing_and_watched_disk(tmp_path: Path) -> None:
    """Another OS process gets the errors while they last, and the report tells which answers were synced before."""
    if find_strace() is None:
        pytest.skip("strace is missing or not permitted: failures of the disk are NOT tested")
    own, given = socket.socketpair()
    own.settimeout(60)
    words = [sys.executable, "-c", WRITER, str(given.fileno()), str(tmp_path / "place" / "file")]
    (tmp_path / "place").mkdir()
    with own, given, subprocess.Popen(words, pass_fds=[given.fileno()]) as writer:

        def ask(order: bytes) -> bytes:
            own.send(order)
            return own.recv(20)

        assert ask(b"sync") == b"done"
        with failing_disk(writer.pid, "ENOSPC"):
            assert ask(b"write") == b"error 28"
        with failing_disk(writer.pid, "EIO", syncs_only=True):
            assert [ask(b"write"), ask(b"sync")] == [b"done", b"error 5"]
        with watched_syncs(writer.pid, tmp_path / "report"):
            assert [ask(b"sync"), ask(b"write"), ask(b"sync")] == [b"done"] * 3
        writer.kill()
    assert syncs_before(tmp_path / "report", '"done"', tmp_path / "place") == [1, 0, 1]
