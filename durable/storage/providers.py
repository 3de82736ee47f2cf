"""Providers by URL scheme: ours in a table of strings, others by the entry point group ``durable.storage``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from durable.errors import UnknownScheme, needing_extra
from durable.storage.protocol import JournalStorage

_BUILT_IN = {
    "file": "durable_storage.filesystem.provider:FilesystemStorage",
    "memory": "durable_storage.memory:MemoryStorage",
    "postgres": "durable_storage.postgres.provider:PostgresStorage",
    "postgresql": "durable_storage.postgres.provider:PostgresStorage",
    "sqlite": "durable_storage.sqlite.provider:SqliteStorage",
}
_EXTRAS = {"postgres": "postgres", "postgresql": "postgres"}


def open_storage(url: str) -> JournalStorage:
    """
    Make the store behind *url* (``sqlite:///file.db``, ``memory://``, …); it still has to be `open`\\ ed.

    Raises:
        UnknownScheme: No provider is built in or installed for the scheme.
        MissingExtra: The provider needs a package that is not installed.
    """
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if target := _BUILT_IN.get(scheme):
        return _built_in(scheme, *target.split(":"))(url)
    for entry in entry_points(group="durable.storage", name=scheme):
        return entry.load()(url)  # type: ignore[no-any-return]
    known = ", ".join(sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group="durable.storage"))}))
    if ":" not in url:
        fix = f"write sqlite:///{url}" if url else "write sqlite:///processes.db"
        raise UnknownScheme(f"{url!r} is not the URL of a store", known=known, fix=fix)
    raise UnknownScheme(
        f"No storage provider is known for {url.partition(':')[0]!r}",
        url=url,
        known=known,
        fix="write one of the known schemes, or install the provider that brings this one",
    )


def _built_in(scheme: str, module: str, attribute: str) -> Callable[[str], JournalStorage]:
    if scheme not in _EXTRAS:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    with needing_extra(_EXTRAS[scheme], f"A store at {scheme}://"):
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
