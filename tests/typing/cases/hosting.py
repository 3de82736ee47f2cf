"""Hosting: a handle has the result type of its process function, and so has everything that gives it."""

from datetime import timedelta
from typing import Any, assert_type

from durable import AnyDefinition, Event, Handle, Process, ProcessClient, ProcessHost, ProcessStatus, process, run

Paid = Event("paid", int)


@process
async def order(proc: Process, number: int) -> list[str]:
    return []


@process
async def other(proc: Process) -> None: ...


definitions: list[AnyDefinition] = [order, other]


async def host() -> None:
    async with ProcessHost("memory://", [order, other]) as host:
        assert_type(host, ProcessHost)
        handle = await host.start(order(1), id="one")
        assert_type(handle, Handle[list[str]])
        assert_type(await handle.result(timedelta(seconds=1)), list[str])
        assert_type(await (await host.start(other())).result(), None)
        assert_type(host.get("one"), Handle[Any])
        assert_type(await handle.status(), ProcessStatus)
        assert_type(await host.list(status="running"), list[ProcessStatus])
        async for update in handle.watch():
            assert_type(update, ProcessStatus)
        await host.raise_event("one", Paid, 5)
        await host.raise_event("one", "by name", object())
        await host.raise_event("one", Paid, "five")  # expect-error: misc | reportArgumentType | reportCallIssue
        await host.start(order)  # expect-error: arg-type | reportArgumentType
        await host.start(order("1"))  # expect-error: arg-type | reportArgumentType
        wrong: Handle[int] = await host.start(order(1))  # expect-error: assignment | arg-type | reportAssignmentType
        await handle.result(5)  # expect-error: arg-type | reportArgumentType
    async with ProcessClient("memory://") as client:
        assert_type(client, ProcessClient)
        assert_type(await client.start(order(1)), Handle[list[str]])


ProcessHost("memory://", definitions)
ProcessHost("memory://", [host])  # expect-error: list-item | reportArgumentType
assert_type(run(order(1), id="one"), list[str])
