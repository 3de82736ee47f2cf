"""A server of the test's own: killed and started again, with passwords and TLS; and the one of a run leaves nothing."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import gettempdir
from uuid import uuid4

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from durable.errors import StorageDenied
from durable.testing.storage_parts import Host, creation, step
from durable_storage.postgres.provider import PostgresStorage
from tests.postgres_server import Missing, Server, Shared, binaries, given, running, start


@contextmanager
def own_server(*, tls: bool = False) -> Iterator[Server]:
    """A server that only this test uses, on a short path."""
    try:
        programs = binaries(tls=tls)
    except Missing as missing:
        pytest.skip(f"a server of our own is NOT tested: {missing}")
    with running(Path(gettempdir()) / f"durable-pg-{uuid4().hex[:8]}", programs=programs) as server:
        yield server


async def test_crash_of_the_server_is_a_pause() -> None:
    """While the server is killed and recovers, commits and renewals wait; nothing acknowledged is lost or doubled."""
    with own_server() as server:
        storage = PostgresStorage(server.url("postgres"))
        await storage.open()
        host = Host(storage, await storage.begin_session("host", 30))
        await host.commit(creations=[creation(1)])
        acknowledged: list[int] = []
        enough = asyncio.Event()

        async def write() -> None:
            for seq in range(2, 10_000):
                await host.commit(records=[(1, step(seq))])
                acknowledged.append(seq)
                if len(acknowledged) >= 50:
                    enough.set()

        writing = asyncio.create_task(write())
        await enough.wait()
        await asyncio.to_thread(server.crash)
        while storage._writing.is_connected():
            await asyncio.sleep(0.001)
        before = len(acknowledged)
        with start(server.folder, port=server.port):
            assert await storage.renew(host.session, 30)
            while len(acknowledged) < before + 50:
                await asyncio.sleep(0.001)
            writing.cancel()
            await asyncio.wait([writing])
            journal = [record.seq for record in await storage.journal(1)]
            assert journal == list(range(1, len(journal) + 1))
            assert journal[: len(acknowledged) + 1] == [1, *acknowledged]
            await storage.close()


async def test_wrong_password() -> None:
    """The right password is let in, a wrong one is a `StorageDenied` that does not repeat it."""
    with own_server() as server:
        admin = await asyncpg.connect(server.url("postgres"))
        await admin.execute("CREATE ROLE ann LOGIN SUPERUSER PASSWORD 'right'")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("host all ann 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        with pytest.raises(StorageDenied, match="password") as denied:
            await PostgresStorage(server.url("postgres", "ann", "wr0ng")).open()
        assert "wr0ng" not in str(denied.value)
        storage = PostgresStorage(server.url("postgres", "ann", "right"))
        await storage.open()
        await storage.close()


async def test_tls() -> None:
    """With ``sslmode=verify-full`` every connection is encrypted, and a server with another certificate is refused."""
    with own_server(tls=True) as server:
        certificate, key = certify(server.folder)
        admin = await asyncpg.connect(server.url("postgres"))
        for name, value in (("ssl_cert_file", certificate), ("ssl_key_file", key), ("ssl", "on")):
            await admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await admin.execute("SELECT pg_reload_conf()")
        url = f"{server.url('postgres').replace('127.0.0.1', 'localhost')}?sslmode=verify-full&sslrootcert="
        storage = PostgresStorage(url + str(certificate))
        await storage.open()
        await storage.row("opens the connection for reads")
        encrypted = (
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            "WHERE ssl AND application_name = 'durable'"
        )
        assert await admin.fetchval(encrypted) == 3
        await storage.close()
        await admin.close()
        other, _ = certify(server.folder, "other")
        with pytest.raises(Exception) as refused:
            await PostgresStorage(url + str(other)).open()
        assert isinstance(refused.value.__cause__, ssl.SSLError)


def certify(folder: Path, name: str = "server") -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    paths[1].chmod(0o600)
    owner = (folder / "data").stat()
    os.chown(paths[1], owner.st_uid, owner.st_gid)
    return paths


# --- the server of a test run ------------------------------------------------------------------------------------

_USER = """
import sys, time
from tests.postgres_server import Shared
print(Shared(sys.argv[1]).url(), flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(given() is not None, reason="a given server is nobody's to stop")
def test_killed_users_leave_nothing() -> None:
    """Two programs of one run share a server; when both were killed it is gone, with its folder."""
    run = uuid4().hex[:8]
    folder = Path(gettempdir()) / f"durable-pg-{run}"
    root = str(Path(__file__).parents[2])
    users = [
        subprocess.Popen([sys.executable, "-c", _USER, run], stdout=subprocess.PIPE, text=True, cwd=root)
        for _ in range(2)
    ]
    try:
        urls = {user.stdout.readline() for user in users if user.stdout is not None}
        assert len(urls) == 1
        if not urls.pop().startswith("postgresql:"):
            pytest.skip("no server: nothing to stop")
        pid = int((folder / "pg" / "data" / "postmaster.pid").read_text().splitlines()[0])
        users[0].kill()
        users[0].wait()
        assert is_there(pid)
    finally:
        for user in users:
            user.kill()
            user.wait()
            assert user.stdout is not None
            user.stdout.close()
    wait_until(lambda: not is_there(pid) and not folder.exists())


@pytest.mark.skipif(given() is not None, reason="a given server is nobody's to stop")
def test_left_run_can_come_back() -> None:
    """A run whose server was stopped because nobody used it for a moment gets another."""
    shared = Shared(uuid4().hex[:8])
    try:
        first = shared.url()
    except Missing as missing:
        pytest.skip(str(missing))
    shared.leave()
    assert shared.url().startswith("postgresql:")
    shared.leave()
    assert first.startswith("postgresql:")


def is_there(pid: int) -> bool:
    """Whether a process has that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Look until *condition* holds: it is other programs that make it true; the test's own timeout ends it."""
    while not condition():
        os.sched_yield()
