"""Places for children on their host, and children whose end says something that cannot be read."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import DecodeError, MessagePackCodec, Process, ProcessExists, ProcessHost, process
from tests.host.staging import SOON

UNREADABLE = "what a class that is gone has written"


@process
async def double(proc: Process, number: int) -> int:
    return await proc.do(lambda: 2 * number, "double")


@process
async def start_again(proc: Process, id: str) -> str:
    try:
        return str(await proc.call(double(1), id=id))
    except ProcessExists as error:
        return type(error).__name__


async def test_a_refused_child_takes_no_place(url: str) -> None:
    """Children whose id is in use were never here: the host has as much room as before."""
    async with ProcessHost(url, [start_again, double], limit=10) as host:
        await (await host.start(double(1), id="taken")).result(SOON)
        handles = [await host.start(start_again("taken")) for _ in range(5)]
        assert [await handle.result(SOON) for handle in handles] == ["ProcessExists"] * 5
        assert host._engine.room() == 10


async def test_children_come_one_by_one_where_there_is_little_room(url: str) -> None:
    """A parent that starts many at once does not bring more of them into memory than its host has places for."""
    residents: list[int] = []

    @process
    async def count_residents(proc: Process) -> None:
        residents.append(len(host._engine.residents))

    @process
    async def start_many(proc: Process) -> None:
        await asyncio.gather(*(proc.call(count_residents(), f"child {number}") for number in range(10)))

    async with ProcessHost(url, [start_many, count_residents], limit=1) as host:
        await (await host.start(start_many())).result(SOON)
    assert set(residents) == {1}


class Forgetful(MessagePackCodec):
    """Writes one result that it does not read again."""

    def decode(self, data: bytes) -> Any:
        value = super().decode(data)
        if isinstance(value, tuple) and value[0] == UNREADABLE:
            raise DecodeError("The class of the result is gone")
        return value


@process
async def return_unreadable(proc: Process) -> str:
    return UNREADABLE


@process
async def call_unreadable(proc: Process) -> tuple[str, bool]:
    try:
        return await proc.call(return_unreadable(), "child"), False
    except DecodeError as error:
        return str(error), any("'p/child'" in note for note in error.__notes__)


async def test_a_result_nobody_can_read_is_an_error_for_the_parent(url: str) -> None:
    """A parent does not wait for ever for what cannot be told: it gets the reason where it waits for the child."""
    async with ProcessHost(url, [call_unreadable, return_unreadable], codec=Forgetful()) as host:
        text, is_named = await (await host.start(call_unreadable(), id="p")).result(SOON)
        assert "The class of the result is gone" in text
        assert is_named
