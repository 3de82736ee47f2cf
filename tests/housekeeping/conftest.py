"""Stores and archives for tests of housekeeping, and an S3 server in an OS process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from durable.storage import JournalStorage, open_storage


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JournalStorage]:
    """An open store, of each kind in turn."""
    url = f"memory://{uuid4()}" if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"
    storage = open_storage(url)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture(params=["memory", "file", "s3"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an archive that is empty, in each kind of object store in turn."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{uuid4()}"
    return f"memory://{uuid4()}" if request.param == "memory" else f"file://{tmp_path}/archive"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    pytest.importorskip("moto")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            threading.Thread(target=server.stderr.read, daemon=True).start()  # or a full pipe would stop the server
            yield address
        finally:
            server.kill()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a bucket on that server, which the environment leads to."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"archive-{uuid4()}"
    with urlopen(Request(f"{s3_server}/{bucket}", method="PUT")):
        return f"s3://{bucket}"
