"""What may stand in the URL of a PostgreSQL store: options of ours and of libpq, hosts, names of schemas."""

from __future__ import annotations

import pytest

from durable.errors import StorageError
from durable.testing.storage_parts import Host, creation, event, step
from durable_storage.postgres.address import parse
from durable_storage.postgres.provider import PostgresStorage
from tests.postgres_server import with_options
from tests.storage.conftest import OpenPostgres


def test_url() -> None:
    """Our options are taken out of the URL, the others are the driver's; no password is ever shown."""
    url = "postgresql+asyncpg://ann:s%40cret@a:1,b:2/shop?schema=jobs&pooler=transaction&sslmode=require&patience=3"
    address = parse(url)
    assert address.dsn == "postgresql://ann:s%40cret@a:1,b:2/shop?sslmode=require&target_session_attrs=read-write"
    assert (address.schema, address.pooled, address.patience) == ("jobs", True, 3.0)
    assert address.shown == "a:1,b:2/shop"
    assert parse("postgres:///shop?host=/run/postgresql").shown == "/run/postgresql/shop"


def test_several_hosts() -> None:
    """Wherever several hosts stand in the URL, the one that takes writes is looked for, unless it says otherwise."""
    assert parse("postgresql:///shop?host=a,b&port=1,2").dsn.endswith("target_session_attrs=read-write")
    assert parse("postgresql://a,b/shop?target_session_attrs=any").dsn.endswith("?target_session_attrs=any")
    assert "target_session_attrs" not in parse("postgresql:///shop?host=/run/postgresql").dsn


def test_options_of_libpq() -> None:
    """What libpq knows and the driver does not is followed, needless, or refused with what to do instead."""
    address = parse("postgresql://host/shop?connect_timeout=3&fallback_application_name=a")
    assert (address.connect_timeout, address.application, address.dsn) == (3.0, "a", "postgresql://host/shop")
    address = parse("postgresql://host/shop?fallback_application_name=a&application_name=b&connect_timeout=0")
    assert (address.connect_timeout, address.application) == (60.0, "b")
    needless = "channel_binding=prefer&gssencmode=disable&sslcompression=0&load_balance_hosts=disable&keepalives=1"
    assert parse(f"postgresql://host/shop?{needless}").dsn == "postgresql://host/shop"


@pytest.mark.parametrize(
    "option",
    [
        "channel_binding=require",
        "gssencmode=require",
        "hostaddr=127.0.0.1",
        "keepalives_idle=5",
        "load_balance_hosts=random",
        "sslcompression=1",
        "tcp_user_timeout=5",
        "connect_timeout=soon",
    ],
)
def test_options_that_cannot_be_followed(option: str) -> None:
    """An option that asks for what the driver cannot do is named, before anything is connected."""
    with pytest.raises(StorageError, match=option.partition("=")[0]):
        parse(f"postgresql://host/shop?{option}")


@pytest.mark.parametrize("schema", ["user", "select", "concurrently", "table"])
async def test_schema_of_any_name(open_postgres: OpenPostgres, postgres: str, schema: str) -> None:
    """A schema may be called by a word of SQL: its store is made, written, listed and heard of."""
    storage = await open_postgres(with_options(postgres, schema=schema))
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)], records=[(1, step(2))])
    await host.commit(records=[(1, step(3))])
    await host.commit(records=[(1, step(4))], mails=[event(1)])
    assert len(await host.collect()) == await storage.count() == len(await storage.rows()) == 1
    assert len(await storage.journal(1)) == 4


async def test_unknown_option(postgres: str) -> None:
    """What is no option of anybody is a setting for the server, which says its name."""
    with pytest.raises(StorageError, match="no_such_option"):
        await PostgresStorage(with_options(postgres, no_such_option=1)).open()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:",
        "postgresql://",
        "postgresql://host/shop?schema=Jobs",
        "postgresql://host/shop?schema=",
        "postgresql://host/shop?schema=pg_jobs",
        "postgresql://host/shop?pooler=session",
        "postgresql://host/shop?patience=0",
    ],
)
def test_wrong_url(url: str) -> None:
    """A URL that names no server, or an option that is wrong, is refused where it is given."""
    with pytest.raises(StorageError):
        PostgresStorage(url)
