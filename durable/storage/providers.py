"""Providers by URL scheme: ours in a table of strings, others by the entry point group ``durable.storage``."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from durable.errors import UnknownScheme
from durable.storage.protocol import JournalStorage

_BUILT_IN = {
    "file": "durable_storage.filesystem.provider:FilesystemStorage",
    "memory": "durable_storage.memory:MemoryStorage",
    "postgres": "durable_storage.postgres.provider:PostgresStorage",
    "postgresql": "durable_storage.postgres.provider:PostgresStorage",
    "sqlite": "durable_storage.sqlite.provider:SqliteStorage",
}


def open_storage(url: str) -> JournalStorage:
    """
    Make the store behind *url* (``sqlite:///file.db``, ``memory://``, …); it still has to be `open`\\ ed.

    Raises:
        UnknownScheme: No provider is built in or installed for the scheme.
    """
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if target := _BUILT_IN.get(scheme):
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)(url)  # type: ignore[no-any-return]
    for entry in entry_points(group="durable.storage", name=scheme):
        return entry.load()(url)  # type: ignore[no-any-return]
    raise UnknownScheme(
        f"No storage provider is known for {url.partition(':')[0]!r}",
        url=url,
        known=", ".join(sorted({*_BUILT_IN, *(e.name for e in entry_points(group="durable.storage"))})),
    )
