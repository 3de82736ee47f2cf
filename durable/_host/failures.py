"""What a store should never raise, and does: an error of ours that says so, for whoever waits."""

from __future__ import annotations

from durable.errors import StorageError


def unexpected(error: BaseException) -> StorageError:
    """The `StorageError` to pass on in place of *error*, which is none."""
    refused = StorageError(f"The store failed in a way it should not: {error!r}", fix="report it with this text")
    refused.__cause__ = error
    return refused
