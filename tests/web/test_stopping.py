"""A server that is told to stop: who waits is answered, who follows is let go, and all can go on elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from durable import ProcessHost
from durable.web import app
from tests.web.served import SOON, Server, client, serving
from tests.web.shop import SHOP, reporting

LONG = 60  # seconds: what is asked for, and what the server would give


@pytest.fixture(autouse=True)
def signals() -> Iterator[list[int]]:
    """Takes the signal that uvicorn raises again once it has stopped, and that would end the test program."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


@asynccontextmanager
async def mounted(host: ProcessHost) -> AsyncIterator[Server]:
    """A service of one's own with the application in it, and a process that waits for ever."""
    await host.start(reporting(), id="r")
    api = FastAPI()
    api.mount("/durable", app(host, SHOP))
    async with serving(api, grace=LONG) as server:
        yield server


async def tell(server: Server, requests: int) -> None:
    """Tell *server* to stop, once it has begun with so many *requests*."""
    async with asyncio.timeout(SOON):
        while len(server.server_state.tasks) < requests:
            await asyncio.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


async def test_a_long_poll_is_answered(host: ProcessHost, signals: list[int]) -> None:
    """With how things stand and when to ask again, on another connection; long before the server would cut it."""
    async with mounted(host) as server, client(server.address) as web:
        etag = (await web.get("/durable/processes/r")).headers["etag"]
        polls = [
            asyncio.create_task(web.get("/durable/processes/r/result", params={"wait": LONG})),
            asyncio.create_task(
                web.get("/durable/processes/r", params={"wait": LONG}, headers={"If-None-Match": etag})
            ),
        ]
        await tell(server, requests=2)
        result, status = await asyncio.wait_for(asyncio.gather(*polls), SOON)
    assert (result.status_code, result.json()["status"]) == (202, "running")
    assert (status.status_code, status.headers["etag"]) == (304, etag)
    for answer in (result, status):
        assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
    assert signals == [signal.SIGTERM]


async def test_a_wait_that_is_over_in_the_moment_of_the_signal_holds_up_no_other(host: ProcessHost) -> None:
    """However busy the program was: one long poll's time runs out just when the server ends them all, and all end."""
    async with mounted(host) as server, client(server.address) as web:
        await web.get("/durable/processes/r")  # what a first request does is done
        waits = [0.1] + [LONG] * 3  # the first runs out before the server has been looked at
        polls = [asyncio.create_task(web.get("/durable/processes/r/result", params={"wait": wait})) for wait in waits]
        async with asyncio.timeout(SOON):
            while len(server.server_state.tasks) + polls[0].done() < len(polls):
                await asyncio.sleep(0.001)
        await tell(server, requests=3)
        time.sleep(0.5)  # keeps the loop, so that both are due in its next turn
        answers = await asyncio.wait_for(asyncio.gather(*polls), SOON)
    assert [answer.status_code for answer in answers] == [202] * 4


async def test_streams_end_so_that_clients_come_back(host: ProcessHost) -> None:
    """Server-Sent Events end in order, which a browser takes as a loss; a WebSocket is closed as one restarting."""
    async with mounted(host) as server, client(server.address) as web:
        watch = f"{server.address}/durable/processes/r/watch"
        async with web.stream("GET", f"http://{watch}") as events, connect(f"ws://{watch}") as socket:
            await tell(server, requests=2)
            async with asyncio.timeout(SOON):
                await socket.wait_closed()
                assert "event: status" in (await events.aread()).decode()  # would raise if it was cut
            assert socket.close_code == 1012
