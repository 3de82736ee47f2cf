"""
Files, however large, become one ZIP archive in any object store, and nothing short of finishing stops it.

Shows: steps that run side by side and are each tried again when they fail, progress from inside an action, and
compensation: whatever goes wrong, Ctrl-C included, no part of an archive stays behind. Kill it with `kill -9` and start
it again: what was packed is not packed again. The same id is the same archive, however often it is started.
Memory stays the same for files of any size. It only ever waits for its own actions, so it is never parked.

    python -m examples.zip_pipeline                                   this repository, into build/zip-pipeline
    python -m examples.zip_pipeline FILES… --to s3://bucket/folder    other files and folders, into any object store
"""

import argparse
import asyncio
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

from durable import (
    Process,
    ProcessCancelled,
    ProcessClient,
    ProcessNotFound,
    Retry,
    Step,
    current_step,
    process,
    run,
)
from examples.zipping.objects import CHUNK, TROUBLE, Folder
from examples.zipping.terminal import Meter, ProgressBar
from examples.zipping.zip_format import Member, Packer, directory, header

PATIENT = Retry(attempts=5, on=TROUBLE)
STUBBORN = Retry(attempts=None, on=TROUBLE)  # what cleans up must get there, whenever the store is back


@dataclass(frozen=True)
class Source:
    """A file as it was found: should it change later, the archive would hold neither the old nor the new one."""

    path: str
    name: str
    mode: int
    size: int
    modified: datetime


@dataclass(frozen=True)
class Archive:
    """A finished archive."""

    name: str
    files: int
    size: int


class SourceChanged(Exception):
    """A file changed while it was packed."""


class ArchiveDamaged(Exception):
    """The archive does not hold what was packed."""


# --- the process ---


@process
async def zip_files(proc: Process, paths: list[str], url: str, archive: str) -> Archive:
    """Pack all files at and below *paths* into *archive*, a new object in the folder *url*: all of it, or nothing."""
    sources = await proc.do(lambda: find_sources(paths), "sources found")
    parts = f"{archive}.parts/"
    try:
        members = await pack_all(proc, sources, url, parts)
        await proc.do(lambda: publish(members, url, parts, archive), "published", retry=PATIENT)
        await proc.do(lambda: verify(members, url, archive), "verified", retry=PATIENT)
        await proc.do(lambda: clean_up(url, parts, archive), "cleaned up", retry=STUBBORN)
    except BaseException:  # also where it was cancelled while it was cleaning up, so this does all of it again
        await proc.do(lambda: Folder(url).remove(archive), "archive removed", retry=STUBBORN)
        await proc.do(lambda: clean_up(url, parts, archive), "undone", retry=STUBBORN)
        raise
    return Archive(archive, len(members), archive_size(members))


async def pack_all(proc: Process, sources: list[Source], url: str, parts: str) -> list[Member]:
    """Pack every source into a part of its own, a few at a time."""
    meter = Meter(sum(source.size for source in sources))
    lanes = asyncio.Semaphore(4)

    async def pack_one(number: int, source: Source) -> Member:
        part = f"{parts}{number:06}"
        async with lanes:
            member = await proc.do(
                lambda: pack(source, url, part, meter), checkpoint_name(number, source), retry=PATIENT
            )
        proc.progress(*meter.at(part, source.size), f"packed {source.name}")
        return member

    async with asyncio.TaskGroup() as group:
        packing = [group.create_task(pack_one(number, source)) for number, source in enumerate(sources)]
    return [task.result() for task in packing]


def checkpoint_name(number: int, source: Source) -> str:
    return f"packed {number:06} {source.name[-150:]}"  # a name has at most 200 characters, a path may have more


# --- its actions: each runs in a thread of the host, with a few chunks in memory ---


def find_sources(paths: list[str]) -> list[Source]:
    """Every regular file at and below *paths*, by name; without what Python makes again by itself."""
    base = Path(os.path.commonpath([Path(path).parent for path in paths]))
    found = {file for path in paths for file in files_below(Path(path)) if "__pycache__" not in file.parts}
    return [source(file, base) for file in sorted(found)]


def files_below(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def source(file: Path, base: Path) -> Source:
    facts = file.stat()
    name = file.relative_to(base).as_posix()
    return Source(str(file), name, facts.st_mode, facts.st_size, modified(facts))


def modified(facts: os.stat_result) -> datetime:
    return datetime.fromtimestamp(facts.st_mtime_ns // 1000 / 1_000_000, UTC)


def pack(source: Source, url: str, part: str, meter: Meter) -> Member:
    """Pack one file into the object *part*."""
    packer = Packer()
    step = current_step()

    def chunks() -> Iterator[bytes]:
        with open(source.path, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
                stop_if_cancelled(step)
                step.progress(*meter.at(part, packer.size), f"packing {source.name}")
            facts = os.fstat(file.fileno())
        if (packer.size, modified(facts)) != (source.size, source.modified):
            raise SourceChanged(f"{source.path} changed while it was packed")

    Folder(url).put(part, packer.pack(chunks()), source.size)
    return Member(source.name, source.mode, source.modified, packer.size, packer.packed_size, packer.crc, packer.sha256)


def publish(members: list[Member], url: str, parts: str, archive: str) -> None:
    """Put the archive together from its parts: one upload, so it is there as a whole or not at all."""
    folder = Folder(url)
    step = current_step()
    total = archive_size(members)

    def pieces() -> Iterator[bytes]:
        for number, member in enumerate(members):
            yield header(member)
            yield from folder.read(f"{parts}{number:06}")
        yield directory(members)

    def chunks() -> Iterator[bytes]:
        done = 0
        for chunk in pieces():
            yield chunk
            done += len(chunk)
            stop_if_cancelled(step)
            step.progress(done, total, f"publishing {archive}")

    folder.put(archive, chunks(), total)


def verify(members: list[Member], url: str, archive: str) -> None:
    """Read the archive back: the very names, and under each the very bytes that were packed."""
    step = current_step()
    meter = Meter(sum(member.size for member in members))
    with Folder(url).open(archive) as file, ZipFile(file) as stored:
        if stored.namelist() != [member.name for member in members]:
            raise ArchiveDamaged(f"{archive} has other members than were packed")
        for member in members:
            digest = hashlib.sha256()
            with stored.open(member.name) as content:
                while chunk := content.read(CHUNK):
                    digest.update(chunk)
                    stop_if_cancelled(step)
            step.progress(*meter.at(member.name, member.size), f"verified {member.name}")
            if digest.hexdigest() != member.sha256:
                raise ArchiveDamaged(f"{member.name} in {archive} is not what was packed")


def clean_up(url: str, parts: str, archive: str) -> None:
    """Remove the parts, and what uploads left behind that were cut off by a crash."""
    folder = Folder(url)
    folder.remove(parts)
    folder.forget_uploads(archive)


def archive_size(members: list[Member]) -> int:
    return sum(len(header(member)) + member.packed_size for member in members) + len(directory(members))


def stop_if_cancelled(step: Step) -> None:
    if step.cancelled:
        raise InterruptedError("nobody waits for this any more")


# --- the command ---


def main(arguments: list[str]) -> int:
    options = read_arguments(arguments)
    paths = sorted(str(Path(path).resolve()) for path in options.files)
    os.makedirs(options.here, exist_ok=True)
    journal = options.journal or f"sqlite:///{options.here}/journal.db"
    id, before = asyncio.run(choose_id(journal, options.id or default_id(paths, options.to)))
    invocation = zip_files(paths, options.to, f"{id}.zip")
    print(f"process {id}: {len(before)} steps are in its journal already", flush=True)
    try:
        with ProgressBar() as bar:
            archive = run(invocation, id=id, url=journal, watch=bar.show)
    except ProcessCancelled:
        print("cancelled; nothing is left behind")
        return 130
    except KeyboardInterrupt:
        print("interrupted; start it again to go on")
        return 130
    finally:
        after = asyncio.run(steps(journal, id))
        print_steps("replayed", after[: len(before)])
        print_steps("ran", after[len(before) :])
    return compare(archive, paths, options.to)


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    here = Path("build/zip-pipeline").resolve()
    parser = argparse.ArgumentParser(
        prog="examples.zip_pipeline", description="Pack files into one ZIP archive, durably."
    )
    parser.add_argument("files", nargs="*", metavar="FILES", default=own_files(), help="files and folders")
    parser.add_argument(
        "--to", metavar="URL", default=here.as_uri(), help="folder of an object store: file://, s3://, …"
    )
    parser.add_argument("--id", help="the archive is called after it; the same id is the same archive")
    parser.add_argument(
        "--journal", metavar="URL", help="where the process lives; default: build/zip-pipeline/journal.db"
    )
    options = parser.parse_args(arguments)
    options.here = here
    for path in options.files:
        if not os.path.exists(path):
            parser.error(f"there is no {path}")
    return options


def own_files() -> list[str]:
    """The files of this repository that are under version control, as its top folder shows them."""
    root = Path(__file__).resolve().parent.parent
    made = {"build", "dist"}
    shown = [path for path in root.iterdir() if not path.name.startswith(".") and path.name not in made]
    return [str(path) for path in shown if path.is_dir() or path.suffix in (".md", ".py", ".toml", ".txt", "")]


def default_id(paths: list[str], url: str) -> str:
    """The same files as they are now, to the same folder: the same archive."""
    facts = repr((url, find_sources(paths)))
    return f"zip-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


async def choose_id(journal: str, id: str) -> tuple[str, list[str]]:
    """The first of *id*, *id*-2, … that was not given up, and the steps in its journal."""
    async with ProcessClient(journal) as client:
        number = 1
        while True:
            name = id if number == 1 else f"{id}-{number}"
            try:
                status = await client.get(name).status()
            except ProcessNotFound:
                return name, []
            if status.status in ("running", "stalled", "completed"):
                return name, await finished_steps(client, name)
            number += 1


async def steps(journal: str, id: str) -> list[str]:
    async with ProcessClient(journal) as client:
        return await finished_steps(client, id)


async def finished_steps(client: ProcessClient, id: str) -> list[str]:
    try:
        return [entry.name for entry in await client.get(id).history() if entry.kind == "DONE"]
    except ProcessNotFound:
        return []


def print_steps(what: str, names: list[str]) -> None:
    shown = [*names[:3], "…", *names[-3:]] if len(names) > 7 else names
    print(f"{what} {len(names)} steps{': ' if names else ''}{', '.join(shown)}")


def compare(archive: Archive, paths: list[str], url: str) -> int:
    """Compare the archive with the originals, byte by byte, by the standard library's reader."""
    with Folder(url).open(archive.name) as file, ZipFile(file) as stored:
        sources = find_sources(paths)
        different = {source.name for source in sources} ^ set(stored.namelist())
        different |= {source.name for source in sources if source.name not in different and differs(stored, source)}
    for name in sorted(different):
        print(f"differs from the original as it is now: {name}")
    print(f"{url}/{archive.name}: {archive.files} files, {archive.size} bytes", end=", ")
    print(f"{len(different)} of them differ" if different else "all identical to the originals")
    return 1 if different else 0


def differs(stored: ZipFile, source: Source) -> bool:
    with stored.open(source.name) as copy, open(source.path, "rb") as original:
        while chunk := original.read(CHUNK):
            if copy.read(len(chunk)) != chunk:
                return True
        return bool(copy.read(1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
