"""
A filesystem that forgets: content reaches its disk by syncing the file only, names by syncing their directory only.

It runs in an OS process of its own, on FUSE, below whatever uses it: nothing is patched, the kernel hands over every
write. Setting the attribute ``user.cut`` of its root to a path cuts the power: what is on the disk is copied there.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

try:
    import mfusepy  # type: ignore[import-untyped]
except (ImportError, OSError) as error:  # the package, or the system's libfuse that it loads
    missing = str(error)
    FUSE: Any = None
    Operations: Any = object
else:
    missing = "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse is missing or forbidden"
    FUSE, Operations = mfusepy.FUSE, mfusepy.Operations


def cut_power(mount: Path, into: Path) -> Path:
    """A directory with what is on the disk under *mount* now, and nothing else."""
    os.setxattr(mount, "user.cut", bytes(into))
    return into


@contextmanager
def mounted(mount: Path) -> Iterator[None]:
    """The filesystem, on the empty directory *mount*."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-m", __name__, str(mount)], env=environment) as disk:
        try:
            while not os.path.ismount(mount):
                assert disk.poll() is None, "the filesystem has ended"
                time.sleep(0.001)
            yield
        finally:
            disk.terminate()  # it unmounts itself
            while disk.poll() is None:  # a signal just before it waits for a request is noticed at the next one
                os.path.exists(mount / "wake up")
                time.sleep(0.001)


class Disk(Operations):  # type: ignore[misc]  # what there is to do, by the names of libfuse
    """Everything in memory, and beside it what of it was synced."""

    use_ns = True

    def __init__(self) -> None:
        self._numbers = count(1)
        self._content: dict[int, bytearray] = {}
        self._changed: dict[int, int] = {}
        self._names: dict[PurePosixPath, dict[str, int]] = {PurePosixPath("/"): {}}  # 0: a directory
        self._synced_content: dict[int, bytes] = {}
        self._synced_names: dict[PurePosixPath, dict[str, int]] = {}

    # --- looking

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        number = self._number(path)
        if number == 0:
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_mtime": self._changed.get(-hash(path), 0)}
        size = len(self._content[number])
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": size, "st_mtime": self._changed[number]}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._names[PurePosixPath(path)]]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._content[fh][offset : offset + size])

    # --- changing

    def create(self, path: str, mode: int, fi: object = None) -> int:
        number = next(self._numbers)
        self._content[number] = bytearray()
        self._changed[number] = time.time_ns()
        self._directory(path)[PurePosixPath(path).name] = number
        return number

    def open(self, path: str, flags: int) -> int:
        return self._number(path)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        content = self._content[fh]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        self._changed[fh] = time.time_ns()
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        content = self._content[fh or self._number(path)]
        del content[length:]
        content.extend(bytes(length - len(content)))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._directory(path)[PurePosixPath(path).name] = 0
        self._names[PurePosixPath(path)] = {}
        return 0

    def unlink(self, path: str) -> int:
        del self._directory(path)[PurePosixPath(path).name]
        return 0

    def rename(self, old: str, new: str, *_: int) -> int:
        self._directory(new)[PurePosixPath(new).name] = self._directory(old).pop(PurePosixPath(old).name)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._changed[self._number(path) or -hash(path)] = times[1] if times else time.time_ns()
        return 0

    # --- the disk

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._synced_content[fh] = bytes(self._content[fh])
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._synced_names[PurePosixPath(path)] = dict(self._names[PurePosixPath(path)])
        return 0

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        self._write_image(PurePosixPath("/"), Path(os.fsdecode(value)))
        return 0

    def _write_image(self, directory: PurePosixPath, into: Path) -> None:
        into.mkdir()
        for name, number in self._synced_names.get(directory, {}).items():
            if number == 0:
                self._write_image(directory / name, into / name)
            else:
                (into / name).write_bytes(self._synced_content.get(number, b""))

    # --- inside

    def _directory(self, path: str) -> dict[str, int]:
        self._changed[-hash(str(PurePosixPath(path).parent))] = time.time_ns()
        return self._names[PurePosixPath(path).parent]

    def _number(self, path: str) -> int:
        where = PurePosixPath(path)
        number = 0 if where in self._names else self._names.get(where.parent, {}).get(where.name)
        if number is None:
            raise FileNotFoundError(errno.ENOENT, path)
        return number


if __name__ == "__main__":
    with suppress(RuntimeError):  # so it ends when it is told to
        FUSE(Disk(), sys.argv[1], foreground=True, nothreads=True)
