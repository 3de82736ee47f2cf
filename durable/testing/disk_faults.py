"""
Faults below a store: torn writes, disks that fail, and a look at whether what was acknowledged was synced at all.

Nothing here knows a provider. A torn write is made in copies of a directory of files; a failing disk, and the trace of
what is synced, are made by ``strace`` on another OS process, because they must also reach what is written in C.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_WRITES = "?write,?pwrite64,?writev,?pwritev,?pwritev2,?fallocate"
_SYNCS = "?fsync,?fdatasync,?sync_file_range,?msync,?syncfs,?sync"

# --- torn writes -----------------------------------------------------------------------------------------------


def torn_places(before: Path, after: Path, into: Path, *, order: Sequence[str] | None = None) -> Iterator[Path]:
    """
    Yield directories as a power cut during the last commit may leave them, one after the other, below *into*.

    A file that changed between *before* and *after* is cut at many places: up to the cut it is as after, from there on
    as before; and once more with zeros where it had grown, as some filesystems leave it. Each is deleted when the next
    one is asked for.

    Args:
        before: A copy of the directory before the last commit.
        after: A copy of it after that commit.
        into: An empty directory to work in.
        order: Names (relative paths) of the files that the commit writes, in the order in which each is synced before
            the next is written. Needed only if one commit changes several files. What is not named counts as written.

    Raises:
        ValueError: Several files changed and no *order* was given, or nothing did.
    """
    changed = _changed(before, after)
    if order is None and len(changed) != 1:
        raise ValueError(f"One commit has changed {changed or 'nothing'}: say in which order its files are synced")
    names = [name for name in order or changed if name in changed]
    for position, name in enumerate(names):
        for number, content in enumerate(_torn(_content(before / name), _content(after / name))):
            place = into / f"{position}-{number}"
            shutil.copytree(after, place)
            for later in names[position + 1 :]:
                _write(place / later, _content(before / later))
            _write(place / name, content)
            yield place
            shutil.rmtree(place)


def _changed(before: Path, after: Path) -> list[str]:
    names = {path.relative_to(root) for root in (before, after) for path in root.rglob("*") if path.is_file()}
    return sorted(str(name) for name in names if _content(before / name) != _content(after / name))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _write(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def _torn(before: bytes | None, after: bytes | None) -> Iterator[bytes | None]:
    """What is left of a file that was to become *after*."""
    if before is None:
        yield None
    old, new = before or b"", after or b""
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    last = len(new) if len(new) != len(old) else max(i for i in range(len(new)) if old[i] != new[i]) + 1
    for cut in _cuts(first, last):
        yield new[:cut] + old[cut:]
        if len(new) > len(old):
            yield new[:cut] + old[cut:] + bytes(len(new) - max(cut, len(old)))


def _cuts(first: int, last: int, most: int = 24) -> list[int]:
    """Where to cut what was written from *first* to *last*: near both ends at every byte, evenly between."""
    near = {first + n for n in range(4)} | {last - n for n in range(1, 5)}
    spread = {first + (last - first) * n // most for n in range(most)}
    return sorted(cut for cut in near | spread if first <= cut < last)


# --- failing disks, and what is synced -------------------------------------------------------------------------


def find_strace() -> str | None:
    """The program that makes system calls fail, or None if it is missing or may not trace."""
    program = shutil.which("strace")
    if program is None or subprocess.run([program, "-qq", "-o", "/dev/null", "true"], check=False).returncode:
        return None
    return program


@contextmanager
def failing_disk(pid: int, error: str, *, syncs_only: bool = False) -> Iterator[None]:
    """
    Let every write and every sync of OS process *pid* fail with *error* (``ENOSPC``, ``EIO``) while this is entered.

    All its files are meant, standard output too; sockets work. Needs `find_strace`.

    Args:
        syncs_only: Writes go through, only syncing fails.
    """
    calls = _SYNCS if syncs_only else f"{_WRITES},{_SYNCS}"
    with _traced(pid, "/dev/null", f"trace={calls}", f"inject={calls}:error={error}"):
        yield


@contextmanager
def watched_syncs(pid: int, report: Path) -> Iterator[None]:
    """Write to the file *report* what OS process *pid* syncs and sends over sockets; read it by `syncs_before`."""
    with _traced(pid, str(report), f"trace={_SYNCS},sendto"):
        yield


def syncs_before(report: Path, answer: str, place: Path) -> list[int]:
    """How many times a file below *place* was synced before each time *answer* was sent, and since the time before."""
    counts = [0]
    for line in report.read_text(errors="replace").splitlines():
        if answer in line and "sendto" in line:
            counts.append(0)
        elif re.search(r"\bsync\(|msync\(", line) or f"<{place}/" in line or f"<{place}>" in line:
            counts[-1] += 1
    return counts[:-1]


@contextmanager
def _traced(pid: int, report: str, *options: str) -> Iterator[None]:
    words = [option for pair in options for option in ("-e", pair)]
    program = find_strace()
    assert program is not None, "strace is missing or not permitted"
    tracer = subprocess.Popen(
        [program, "-f", "-y", "-s", "64", "-o", report, *words, "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    said = []
    for line in tracer.stderr:
        said.append(line)
        if "attached" in line:
            break
    else:
        raise RuntimeError("".join(said))
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate()
