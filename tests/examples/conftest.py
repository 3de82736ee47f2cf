"""The file service for tests: one program without infrastructure, or several on PostgreSQL and S3."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.examples.file_service_runs import Distributed, Embedded, Service
from tests.examples.s3_server import Proxy, let_through, s3_server

MODES = ["embedded", "distributed"]


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[str, Proxy]]:
    """The address of an S3 server, and a proxy before it."""
    with s3_server() as server, Proxy(server).open() as proxy:
        yield server, proxy


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service in one program; each test has tasks of its own."""
    with _running(Embedded(tmp_path_factory.mktemp("embedded"))) as service:
        service.start()
        yield service


@pytest.fixture(scope="session")
def distributed(
    tmp_path_factory: pytest.TempPathFactory, s3: tuple[str, Proxy], postgres_server: str
) -> Iterator[Distributed]:
    """The service in several programs; each test has tasks of its own."""
    service = Distributed(tmp_path_factory.mktemp("distributed"), _make_database(postgres_server), *s3)
    with _running(service):
        service.start()
        yield service


@pytest.fixture(params=MODES)
def service(request: pytest.FixtureRequest) -> Service:
    """The service, in both modes."""
    service: Service = request.getfixturevalue(request.param)
    return service


@pytest.fixture(params=MODES)
def new_service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service that has not been started yet, in both modes."""
    if request.param == "embedded":
        made: Service = Embedded(tmp_path)
    else:
        database = _make_database(request.getfixturevalue("postgres_server"))
        made = Distributed(tmp_path, database, *request.getfixturevalue("s3"))
    with _running(made):
        yield made


@contextmanager
def _running(service: Service) -> Iterator[Service]:
    try:
        yield service
    finally:
        if isinstance(service, Distributed):
            service.proxy.decide = let_through
        service.close()


def _make_database(server: str) -> str:
    name = f"files_{uuid4().hex[:12]}"

    async def create() -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    with ThreadPoolExecutor(1) as thread:  # the event loop of this one belongs to the plugin for async tests
        thread.submit(asyncio.run, create()).result()
    before, _, options = server.partition("?")
    return f"{before.rpartition('/')[0]}/{name}" + (f"?{options}" if options else "")
