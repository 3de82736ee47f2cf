"""The file service with files that are larger than the memory it may take. Long, and run by `dev.py chaos` only."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.examples.file_service_runs import Distributed, Service

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

MEGABYTE = 1 << 20
_RANDOM = os.urandom(7 * MEGABYTE)  # does not get smaller, and what repeats is too far away for deflate to see


def write_large(path: Path, megabytes: int) -> int:
    """Write a file; its checksum."""
    checksum = 0
    with open(path, "wb") as file:
        for chunk in large(megabytes):
            file.write(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def large(megabytes: int) -> Iterator[bytes]:
    for number in range(megabytes):
        offset = number * 7919 % (6 * MEGABYTE)
        yield _RANDOM[offset : offset + MEGABYTE]


def download(service: Service, task: str, path: Path) -> None:
    with service.http.stream("GET", f"/archives/{task}") as answer, open(path, "wb") as file:
        assert answer.status_code == 200
        for chunk in answer.iter_bytes():
            file.write(chunk)


def peak(pid: int) -> int:
    """The most memory a program has had so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1000


@pytest.mark.parametrize("roles", [("all",), ("api", "worker")], ids=["one program", "two programs"])
def test_memory_does_not_grow_with_files(new_service: Service, roles: tuple[str, ...], tmp_path: Path) -> None:
    """A file of 1 GB goes in, and comes out as an archive: no program, both in one or each alone, ever takes 150 MB."""
    service = new_service
    service.roles, service.api, service.worker = roles, roles[0], roles[-1]
    service.start()
    checksum = write_large(tmp_path / "large.bin", 1024)
    service.put("large", {"large.bin": tmp_path / "large.bin"})
    service.submit("large", files=["large.bin"])
    while (answer := service.http.get("/tasks/processes/large/result", params={"wait": 60})).status_code == 202:
        pass
    assert answer.json()["status"] == "completed", answer.text
    download(service, "large", tmp_path / "large.zip")
    memory = {role: peak(program.pid) for role, program in service.programs.items()}
    with ZipFile(tmp_path / "large.zip") as archive:
        assert checksum == archive.getinfo("large.bin").CRC
        assert archive.testzip() is None
    assert service.left_of("large") == ["results/large/files.zip"]
    print(f"{type(service).__name__}: {memory}")
    assert max(memory.values()) < 150, memory


@pytest.mark.parametrize("folder", ["parts", "results"])
def test_killed_in_the_middle_of_200_megabytes(distributed: Distributed, tmp_path: Path, folder: str) -> None:
    """`kill -9` of the worker while it uploads 200 MB to S3: the next one goes on, and what was cut off is removed."""
    task = f"killed-in-{folder}"
    checksum = write_large(tmp_path / "large.bin", 200)
    distributed.put(task, {"large.bin": tmp_path / "large.bin"})
    upload = distributed.expect_upload(f"{folder}/{task}/")
    distributed.submit(task, files=["large.bin"])
    upload.wait()
    distributed.kill("worker")
    upload.let_go()
    assert any(name.startswith(f"{folder}/{task}/") and "unfinished" in name for name in distributed.names())
    distributed.start("worker")
    assert distributed.result(task)["status"] == "completed"
    download(distributed, task, tmp_path / "large.zip")
    with ZipFile(tmp_path / "large.zip") as archive:
        assert checksum == archive.getinfo("large.bin").CRC
        assert archive.testzip() is None
    assert distributed.left_of(task) == [f"results/{task}/files.zip"]
