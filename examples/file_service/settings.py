"""Everything that differs between a laptop and production. The first two are all that a distributed service needs."""

import os
from datetime import timedelta
from pathlib import Path

from sqlalchemy.engine import make_url


def _length(name: str, default: timedelta) -> timedelta:
    seconds = os.environ.get(f"FILE_SERVICE_{name}")
    return default if seconds is None else timedelta(seconds=float(seconds))


DATABASE = os.environ.get("FILE_SERVICE_DATABASE", "sqlite:///file-service.db")
BUCKET = os.environ.get("FILE_SERVICE_BUCKET", Path("file-service").absolute().as_uri()).rstrip("/")

QUEUE = "files"  # what workers serve; the API serves none
TIMEOUT = _length("TIMEOUT", timedelta(hours=6))  # longest life of a task
# Before a step, or a message to a webhook, is tried again; then longer and longer.
FIRST_PAUSE = _length("FIRST_PAUSE", timedelta(seconds=1))
LEASE = _length("LEASE", timedelta(seconds=30))  # after which the tasks of a worker that hangs go to others
ABANDONED_AFTER = _length("ABANDONED_AFTER", timedelta(days=1))  # more than it takes to upload all files of a task
KEEP = _length("KEEP", timedelta(days=7))  # how long a finished task, and its archive, can be asked for
ARCHIVE_EVERY = _length("ARCHIVE_EVERY", timedelta(minutes=10))  # how often it is looked for such that are older
WEBHOOK_SECRET = os.environ.get("FILE_SERVICE_WEBHOOK_SECRET")  # of `durable.webhooks.new_secret`; without, no webhooks
WEBHOOK_PRIVATE = "FILE_SERVICE_WEBHOOK_PRIVATE" in os.environ  # also to this machine and its private network
LONGEST_UPLOAD = int(os.environ.get("FILE_SERVICE_LONGEST_UPLOAD", 100 << 30))  # bytes of one file


def products() -> str:
    """The database of the shop whose products are imported: on SQLite a file of its own, beside that of the tasks."""
    url = make_url(DATABASE)
    if url.drivername == "sqlite":
        return f"sqlite+aiosqlite:///{url.database}-products"
    url = url.difference_update_query(["schema", "pooler", "patience"])  # what `durable` adds
    return url.set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
