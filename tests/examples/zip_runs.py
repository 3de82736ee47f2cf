"""The ZIP pipeline as its user runs it: an OS process of its own, watched line by line."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[2]


class Pipeline:
    """The command, with its arguments and the folder it runs in."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._command = [sys.executable, "-P", "-m", "examples.zip_pipeline", *arguments]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT / "storage")])
        self._environment = {**os.environ, "PYTHONPATH": path, **(environment or {})}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The command under way; its output is read from ``stdout``. It is ended if the block does not see its end."""
        pipeline = subprocess.Popen(
            self._command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield pipeline
        finally:
            pipeline.kill()
            pipeline.communicate()

    def finish(self, code: int = 0) -> str:
        """Run it to its end; what it printed."""
        with self.running() as pipeline:
            output, _ = pipeline.communicate(timeout=60)
        assert pipeline.returncode == code, output
        return output

    def strike(self, number: int, lines: int) -> str:
        """Send signal *number* once it has printed so many *lines* of progress, or at its end; what it printed."""
        with self.running() as pipeline:
            assert pipeline.stdout is not None
            output = ""
            for line in pipeline.stdout:
                output += line
                lines -= line.startswith("[")
                if lines < 0:
                    pipeline.send_signal(number)
                    break
            output += pipeline.stdout.read()
            pipeline.wait(60)
        return output

    def kill(self, lines: int = 0, when: Callable[[], object] = lambda: True) -> bool:
        """`kill -9` after so many *lines* of progress, and *when* that is true; whether it was still running then."""
        with self.running() as pipeline:
            assert pipeline.stdout is not None
            for line in pipeline.stdout:
                lines -= line.startswith("[")
                if lines < 0 and when():
                    pipeline.kill()
                    break
        return pipeline.wait() == -signal.SIGKILL


def write_files(folder: Path, files: int, size: int) -> dict[str, bytes]:
    """Make *files* files of about *size* bytes that do not get smaller; their names in the archive, and their bytes."""
    random = Random(folder.name)
    contents = {}
    for number in range(files):
        name = f"input/folder {number % 3}/file-{number}.bin"
        contents[name] = random.randbytes(size + number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents[name])
    return contents


def unpacked(archive: bytes) -> dict[str, bytes]:
    """What is in an archive; its checksums are checked on the way."""
    with ZipFile(io.BytesIO(archive)) as stored:
        return {name: stored.read(name) for name in stored.namelist()}
