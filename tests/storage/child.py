"""
What tests of the SQLite store run in OS processes of their own: ``python child.py COMMAND PATH [ARGUMENTS]``.

A child says each thing it has done in one line of output and waits for a line of input before the next, so a test
decides what happens when, without waiting for time to pass.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from durable.errors import DurableError
from durable.journal import Kind, Record
from durable.storage import Batch, Creation, End, Status
from durable_storage.local.locks import StoreLock
from durable_storage.sqlite.migrations import migrate
from durable_storage.sqlite.provider import SqliteStorage


def say(*words: object) -> None:
    """One line for the test, at once."""
    print(*words, flush=True)


def listen() -> list[str]:
    """The next line of the test; the end of input ends the child."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return line.split()


def new(key: int, owned: bool = True, size: int = 1) -> Creation:
    """A process whose first record has *size* bytes."""
    record = Record(1, Kind.STARTED, "definition", b"x" * size, 1)
    return Creation(key, f"id {key}", "definition", "default", owned, None if owned else 0, record)


async def attempt(action: Awaitable[object]) -> str:
    """How *action* ended, in one word."""
    try:
        await action
    except DurableError as error:
        return type(error).__name__
    return "done"


async def serve(path: str) -> None:
    """
    Hold a session and do what it is told.

    ``commit KEY [SIZE]`` creates a process, ``end KEY`` ends it, ``last`` tells the last batch, ``renew`` renews.
    """
    storage = SqliteStorage(f"sqlite:///{path}")
    await storage.open()
    session = await storage.begin_session("child", 30)
    say("session", session)
    number = 0
    while True:
        match listen():
            case ["commit", key, *size]:
                number += 1
                batch = Batch(session, number, creations=[new(int(key), size=int(*size or ["1"]))])
                outcome = await attempt(storage.commit(batch))
                say(outcome)
                if outcome != "done":
                    number -= 1
            case ["end", key]:
                number += 1
                end = End(int(key), Status.COMPLETED, None, Record(2, Kind.COMPLETED, "", b"", 2), 0)
                say(await attempt(storage.commit(Batch(session, number, ends=[end]))))
            case ["last"]:
                say(await storage.last_batch(session))
            case ["renew"]:
                say(await storage.renew(session, 30))


async def write(path: str, first: str, processes: str) -> None:
    """After a line of input create and end *processes* processes with keys from *first*, each in three commits."""
    storage = SqliteStorage(f"sqlite:///{path}")
    await storage.open()
    session = await storage.begin_session("child", 30)
    say("ready")
    listen()
    number = 0
    for key in range(int(first), int(first) + int(processes)):
        number += 3
        await storage.commit(Batch(session, number - 2, creations=[new(key)]))
        await storage.commit(Batch(session, number - 1, records=[(key, Record(2, Kind.VALUE, "", b"v" * 2000, 2))]))
        end = End(key, Status.COMPLETED, None, Record(3, Kind.COMPLETED, "", b"", 3), 0)
        await storage.commit(Batch(session, number, ends=[end]))
    await storage.end_session(session)
    await storage.close()
    say("done")


async def claim(path: str) -> None:
    """Claim everything that is due, five at a time, after one line of input; say the keys."""
    storage = SqliteStorage(f"sqlite:///{path}")
    await storage.open()
    session = await storage.begin_session("child", 30)
    say("ready")
    listen()
    keys: list[int] = []
    while claims := await storage.claim(session, ["default"], 5, 1):
        keys += [claim.row.key for claim in claims]
    say(*keys)
    listen()


async def create(path: str) -> None:
    """A short life on a new store."""
    storage = SqliteStorage(f"sqlite:///{path}")
    await storage.open()
    session = await storage.begin_session("child", 30)
    await storage.commit(Batch(session, 1, creations=[new(1)]))
    await storage.end_session(session)
    await storage.close()


def create_again(path: str) -> None:
    """
    For each line of input: fork, say the child's number, let it live a short life after a line, say its exit code.

    Forking spares the imports, and nothing is open here that a fork could break.
    """
    while True:
        listen()
        if (pid := os.fork()) == 0:
            say(os.getpid())
            listen()
            asyncio.run(create(path))
            os._exit(0)
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


async def try_to_open(path: str, user: str = "") -> None:
    """Open a store, if wished as another *user*, and say how that ends."""
    storage = SqliteStorage(f"sqlite:///{path}")
    if user and os.geteuid() == 0:
        os.setuid(int(user))
    say(await attempt(storage.open()))


async def hold_lock(path: str) -> None:
    """Hold the lock of a store until the next line."""
    lock = StoreLock.share(f"{path}-lock")
    with lock:
        say("locked")
        listen()


async def fork(path: str) -> None:
    """Fork with an open store, and say what the child of the child may do."""
    storage = SqliteStorage(f"sqlite:///{path}")
    await storage.open()
    session = await storage.begin_session("parent", 30)
    if os.fork() == 0:
        # No event loop may run here: the parent's stands in this thread. Coroutines are driven by hand.
        say(drive(storage.commit(Batch(session, 1))))
        say(drive(storage.row("id")))
        say(drive(SqliteStorage(f"sqlite:///{path}").open()))
        os._exit(0)
    await asyncio.to_thread(os.wait)
    say(await attempt(storage.commit(Batch(session, 1))))
    other = SqliteStorage(f"sqlite:///{path}")
    await other.open()
    say(await other.bury())


def drive(coroutine: Awaitable[object]) -> str:
    """Run what refuses before it first waits."""
    try:
        coroutine.__await__().send(None)
    except DurableError as error:
        return type(error).__name__
    return "not refused"


async def migrate_and_die(path: str) -> None:
    """Migrate the store to a next version whose step kills this OS process half-way."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
    migrate(connection, path, [(), ("CREATE TABLE extra (number INTEGER)", "SELECT die()")])


ASYNC = (serve, write, claim, try_to_open, hold_lock, fork, migrate_and_die)

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == create_again.__name__:
        create_again(*arguments)
    commands: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {command.__name__: command for command in ASYNC}
    asyncio.run(commands[name](*arguments))
