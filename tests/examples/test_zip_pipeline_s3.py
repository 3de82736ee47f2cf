"""The ZIP pipeline over the S3 protocol, against a server in an OS process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.zipping.objects import Folder
from tests.examples.zip_runs import Pipeline, unpacked, write_files

boto3 = pytest.importorskip("boto3")
BUCKET = "archives"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """An S3 server on this machine; what a program must have in its environment to use it."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            threading.Thread(target=server.stderr.read, daemon=True).start()  # or a full pipe would stop the server
            yield {
                "AWS_ENDPOINT_URL": address,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_REGION": "us-east-1",
            }
        finally:
            server.kill()


@pytest.fixture
def folder(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    """A folder of its own in a bucket of that server."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return Folder(f"s3://{BUCKET}/{tmp_path.name}")


def test_killed_again_and_again_over_s3(tmp_path: Path, folder: Folder, environment: dict[str, str]) -> None:
    """`kill -9` in the middle, many times: one archive that is right, no part and no unfinished upload beside it."""
    contents = write_files(tmp_path, files=4, size=9_000_000)
    command = Pipeline(tmp_path, "input", "--to", folder.url, "--id", "archive", environment=environment)
    kills = sum(command.kill(lines) for lines in (2, 1, 5))
    unfinished = [name for name in folder.names() if "unfinished upload" in name]
    output = command.finish()
    assert kills >= 2, output
    assert unfinished, "no kill hit an upload, so this proves nothing about them"
    assert folder.names() == ["archive.zip"]
    assert unpacked(b"".join(folder.read("archive.zip"))) == contents
    assert "all identical to the originals" in output


@pytest.mark.parametrize("lines", [1, 8])
def test_ctrl_c_leaves_nothing_in_the_bucket(
    tmp_path: Path, folder: Folder, environment: dict[str, str], lines: int
) -> None:
    """Ctrl-C while packing or publishing removes the parts, and aborts the uploads S3 would charge for."""
    write_files(tmp_path, files=4, size=9_000_000)
    command = Pipeline(tmp_path, "input", "--to", folder.url, "--id", "archive", environment=environment)
    assert "cancelled; nothing is left behind" in command.strike(signal.SIGINT, lines)
    assert folder.names() == []
