"""The ZIP pipeline into a local folder and into memory: killed, cancelled, repeated, disturbed, and with a big file."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable import ProcessCancelled, ProcessHost, Retry
from examples import zip_pipeline
from examples.zip_pipeline import ArchiveDamaged, SourceChanged, zip_files
from examples.zipping.objects import Folder
from examples.zipping.zip_format import Member
from tests.examples.waiting import until
from tests.examples.zip_runs import Pipeline, unpacked, write_files

SOON = timedelta(seconds=30)
MB = 1_000_000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def pipeline(tmp_path: Path, target: Path, *more: str) -> Pipeline:
    return Pipeline(tmp_path, "input", "--to", target.as_uri(), "--id", "archive", *more)


def everything_in(target: Path) -> list[str]:
    """Every file and folder below *target*, hidden and half-written ones too."""
    return sorted(str(path.relative_to(target)) for path in target.rglob("*"))


def test_killed_again_and_again_it_makes_one_correct_archive(tmp_path: Path, target: Path) -> None:
    """`kill -9` in the middle, many times: in the end one right archive, nothing beside it, and most steps replayed."""
    contents = write_files(tmp_path, files=12, size=MB)
    command = pipeline(tmp_path, target)
    kills = sum(command.kill(lines) for lines in (0, 4, 9, 3, 6, 14))
    output = command.finish()
    assert kills >= 3, output
    assert everything_in(target) == ["archive.zip"]
    assert unpacked((target / "archive.zip").read_bytes()) == contents
    assert "all identical to the originals" in output
    replayed, ran = (int(number) for number in re.findall(r"^(?:replayed|ran) (\d+) steps", output, re.MULTILINE))
    assert replayed + ran == len(contents) + 4
    assert replayed > ran, output


def test_the_same_id_again_runs_nothing(tmp_path: Path, target: Path) -> None:
    """Started again when it is done, the same id gives the same archive, untouched."""
    write_files(tmp_path, files=2, size=1000)
    command = pipeline(tmp_path, target)
    assert "replayed 0 steps\n" in command.finish()
    first = (target / "archive.zip").stat()
    assert "ran 0 steps\n" in command.finish()
    assert (target / "archive.zip").stat().st_mtime_ns == first.st_mtime_ns
    assert everything_in(target) == ["archive.zip"]


@pytest.mark.parametrize("lines", [2, 9])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, target: Path, lines: int) -> None:
    """Ctrl-C cancels the process, which takes away whatever it has made; the next start makes another archive."""
    write_files(tmp_path, files=12, size=MB)
    command = pipeline(tmp_path, target)
    output = command.strike(signal.SIGINT, lines)
    assert "cancelled; nothing is left behind" in output
    assert everything_in(target) == []
    if lines == 2:
        assert "process archive-2: 0 steps" in command.finish()
        assert everything_in(target) == ["archive-2.zip"]


def test_ctrl_c_after_kill_leaves_nothing_behind(tmp_path: Path, target: Path) -> None:
    """What a killed run left half-written is taken away too, by the run that is cancelled after it."""
    write_files(tmp_path, files=12, size=MB)
    command = pipeline(tmp_path, target)
    assert command.kill(when=lambda: everything_in(target))
    assert everything_in(target) != []
    assert "cancelled; nothing is left behind" in command.strike(signal.SIGINT, 0)
    assert everything_in(target) == []


def test_memory_stays_flat(tmp_path: Path, target: Path) -> None:
    """A file of 200 MB and one of 40 MB that cannot be packed take hardly more memory than two small ones."""
    small, large = tmp_path / "small", tmp_path / "large"
    write_files(small, files=2, size=1000)
    write_files(large, files=1, size=1000)
    with open(large / "input" / "sparse.bin", "wb") as sparse:
        sparse.truncate(200 * MB)
    block = os.urandom(MB)
    with open(large / "input" / "random.bin", "wb") as random:
        for _ in range(40):
            random.write(block)
    peaks = []
    for folder in (small, large):
        with pipeline(folder, target / folder.name).running() as run:
            output = run.stdout.read() if run.stdout else ""
            _, status, usage = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
        assert run.returncode == 0, output
        peaks.append(usage.ru_maxrss / 1024)
    assert peaks[1] - peaks[0] < 100, f"{peaks[0]:.0f} MiB for small files, {peaks[1]:.0f} MiB for large ones"


# --- in this OS process, so that its parts can be disturbed ---


async def run_in_memory(tmp_path: Path, name: str) -> tuple[Folder, Any]:
    """Run the process over the input files into a store in memory; the store, and the result or the error."""
    url = f"memory://{name}"
    async with ProcessHost("memory://", [zip_files]) as host:
        handle = await host.start(zip_files([str(tmp_path / "input")], url, "archive.zip"))
        (result,) = await asyncio.gather(handle.result(SOON), return_exceptions=True)
    return Folder(url), result


async def test_into_a_store_in_memory(tmp_path: Path) -> None:
    """Another URL is all it takes; the parts are gone when the archive is there."""
    contents = write_files(tmp_path, files=5, size=50_000)
    folder, result = await run_in_memory(tmp_path, "plain")
    assert (result.files, result.size) == (5, len(b"".join(folder.read("archive.zip"))))
    assert folder.names() == ["archive.zip"]
    assert unpacked(b"".join(folder.read("archive.zip"))) == contents


async def test_a_file_that_changes_fails_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the old nor the new content would be right, so there is no archive, and nothing else either."""
    write_files(tmp_path, files=5, size=50_000)
    find_sources = zip_pipeline.find_sources

    def find_and_touch(paths: list[str]) -> list[zip_pipeline.Source]:
        sources = find_sources(paths)
        with open(sources[3].path, "ab") as file:
            file.write(b"more")
        return sources

    monkeypatch.setattr(zip_pipeline, "find_sources", find_and_touch)
    folder, result = await run_in_memory(tmp_path, "changing")
    assert isinstance(result, ExceptionGroup)
    assert [type(error) for error in result.exceptions] == [SourceChanged]
    assert folder.names() == []


async def test_a_damaged_archive_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not survive the comparison with the originals is no longer there at the end."""
    write_files(tmp_path, files=3, size=50_000)
    publish = zip_pipeline.publish

    def publish_something_else(members: list[Member], *where: str) -> None:
        publish(list(reversed(members)), *where)

    monkeypatch.setattr(zip_pipeline, "publish", publish_something_else)
    folder, result = await run_in_memory(tmp_path, "damaged")
    assert isinstance(result, ArchiveDamaged)
    assert folder.names() == []


async def test_a_store_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is tried again by itself: every upload fails once here, and not one is made a third time."""
    contents = write_files(tmp_path, files=6, size=50_000)
    monkeypatch.setattr(zip_pipeline, "PATIENT", Retry(5, delay=timedelta(milliseconds=1)))
    put = Folder.put
    puts: list[str] = []

    def put_or_fail(self: Folder, path: str, *what: Any) -> None:
        puts.append(path)
        put(self, path, *what)
        if puts.count(path) == 1:
            raise ConnectionError("the store did not answer")

    monkeypatch.setattr(Folder, "put", put_or_fail)
    folder, _ = await run_in_memory(tmp_path, "failing")
    assert unpacked(b"".join(folder.read("archive.zip"))) == contents
    assert len(puts) == 2 * len(set(puts)) == 14


async def test_cancelled_while_it_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled after the store failed under the clean-up, before that is tried again: nothing is left all the same."""
    write_files(tmp_path, files=3, size=50_000)
    monkeypatch.setattr(zip_pipeline, "STUBBORN", Retry(None, delay=timedelta(hours=1)))
    remove = Folder.remove
    fails = iter([ConnectionError("the store did not answer")])

    def remove_or_fail(self: Folder, path: str) -> None:
        for error in fails:
            raise error
        remove(self, path)

    monkeypatch.setattr(Folder, "remove", remove_or_fail)
    url = "memory://cancelled"
    async with ProcessHost("memory://", [zip_files]) as host:
        handle = await host.start(zip_files([str(tmp_path / "input")], url, "archive.zip"))

        async def is_pausing() -> bool:
            return any(entry.kind == "ATTEMPT" and entry.name == "cleaned up" for entry in await handle.history())

        await until(is_pausing)
        assert len(Folder(url).names()) == 4
        await handle.cancel("no longer wanted")
        with pytest.raises(ProcessCancelled):
            await handle.result(SOON)
    assert Folder(url).names() == []
