"""The application inside others, beside routes of their own; and served alone."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi, get
from litestar.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from durable import InvalidDefinition, ProcessHost
from durable.web import Principal, app, serve
from tests.web.listening import listening
from tests.web.served import SOON, client, serving
from tests.web.shop import SHOP, echo, reporting

ROOT = Path(__file__).parents[2]
START = "/durable/definitions/echo/processes"


async def check_mounted(web: httpx.AsyncClient) -> None:
    """Starts, follows the location, has a result and a problem under the prefix, and the own route beside it."""
    assert "mine" in (await web.get("/own")).text
    started = await web.post(START, json={"input": {"value": 7}})
    assert started.status_code == 201
    path = started.url.join(started.headers["location"]).path
    assert path.startswith("/durable/processes/")
    outcome = await web.get(f"{path}/result", params={"wait": SOON})
    assert outcome.json()["result"] == [7]
    slash = await web.post(START, json={"id": "a/", "input": {"value": 7}})
    assert (await web.get(slash.url.join(slash.headers["location"]))).json()["id"] == "a/"
    missing = await web.get("/durable/processes/nobody")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    async with web.stream("GET", f"{path}/watch") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert '"status":"completed"' in (await stream.aread()).decode()


async def test_mounted_in_fastapi(host: ProcessHost) -> None:
    """A mount beside a route of its own, over real HTTP."""
    api = FastAPI()

    @api.get("/own")
    async def own() -> str:
        return "mine"

    api.mount("/durable", app(host, SHOP))
    async with serving(api) as server, client(server.address) as web:
        await check_mounted(web)


async def test_mounted_in_litestar(host: ProcessHost) -> None:
    """The same in Litestar."""
    served = app(host, SHOP)

    @get("/own")
    async def own() -> str:
        return "mine"

    @asgi("/durable", is_mount=True, copy_scope=True)
    async def durable(scope: Scope, receive: Receive, send: Send) -> None:
        await served(scope, receive, send)  # type: ignore[arg-type]

    api: Any = Litestar([own, durable], openapi_config=None, logging_config=None)  # its `send` has a type of its own
    async with serving(api) as server, client(server.address) as web:
        await check_mounted(web)


# --- alone ---


async def started(
    host: ProcessHost, caplog: pytest.LogCaptureFixture, **options: Any
) -> tuple[asyncio.Task[None], str]:
    """`serve` on a free port, and the address it listens at."""
    caplog.set_level(logging.INFO, "uvicorn.error")
    task = asyncio.create_task(serve(host, [echo], port=0, **options))
    async with asyncio.timeout(SOON):
        while not (found := re.search(r"running on http://(\S+)", caplog.text)):
            assert not task.done()
            await asyncio.sleep(0.001)
    return task, found[1]


@asynccontextmanager
async def served(host: ProcessHost, caplog: pytest.LogCaptureFixture, **options: Any) -> AsyncIterator[str]:
    """`serve` on a free port; leaving sends this program the signal that stops it."""
    task, address = await started(host, caplog, grace=timedelta(seconds=1), **options)
    try:
        yield address
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, SOON)


async def test_served_alone(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """On this machine only, under its own names only; a signal stops it, an open stream included."""
    await host.start(reporting(), id="r")
    async with served(host, caplog) as address:
        assert address.startswith("127.0.0.1:")
        async with client(address) as web:
            assert (await web.get("/ready")).status_code == 200
            for name in (f"localhost:{address.rpartition(':')[2]}", "127.0.0.1", "[::1]:8000"):
                assert (await web.get("/processes", headers={"Host": name})).status_code == 200
            for name in ("rebound.test", "127.0.0.1.rebound.test", "[", ""):
                rebound = await web.get("/processes", headers={"Host": name})
                assert (rebound.status_code, rebound.headers["content-type"]) == (400, "application/problem+json")
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{address}/processes/r/watch", additional_headers={"Host": "rebound.test"})
            assert refused.value.response.status_code == 400
        listener = await listening(address, "r").__aenter__()
        assert await listener.next() is not None
    while await listener.next() is not None:
        pass
    assert not [record for record in caplog.records if record.name == "durable.web"]


async def test_serving_that_is_cancelled_stops(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """Cancelling `serve` ends it as a signal does: open streams end, nobody listens any more, and it is raised."""
    await host.start(reporting(), id="r")
    task, address = await started(host, caplog)
    listener = await listening(address, "r").__aenter__()
    assert await listener.next() is not None
    task.cancel()
    while await listener.next() is not None:
        pass
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, SOON)
    async with client(address) as web:
        with pytest.raises(httpx.ConnectError):
            await web.get("/ready")


async def test_serving_that_is_cancelled_twice_waits_for_nobody(
    host: ProcessHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that lasts is waited for, until `serve` is cancelled once more: then that is cancelled, too."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def authorize(*_: object) -> Principal:
        try:
            asked.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        finally:
            ended.set()

    task, address = await started(host, caplog, grace=timedelta(hours=1), authorize=authorize)
    async with client(address) as web:
        request = asyncio.create_task(web.get("/processes"))
        await asked.wait()
        task.cancel()
        async with asyncio.timeout(SOON):
            while "Waiting for connections" not in caplog.text:
                await asyncio.sleep(0.001)
        assert not ended.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, SOON)
        await asyncio.wait_for(ended.wait(), SOON)
        await asyncio.wait([request])
        assert request.exception() is not None or request.result().is_error


async def test_the_grace_of_serving_is_a_length(host: ProcessHost) -> None:
    """A number for a length of time is refused before anything listens."""
    with pytest.raises(InvalidDefinition, match="`grace` of `serve` is a timedelta, not 5"):
        await serve(host, [echo], port=0, grace=5)  # type: ignore[arg-type]


async def test_served_to_others_without_a_hook(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """Listening on every address without a hook is warned of before the first request; with one it is not."""
    async with served(host, caplog, address="0.0.0.0"):
        pass
    assert [record.levelname for record in caplog.records if record.name == "durable.web"] == ["WARNING"]
    caplog.clear()

    async def authorize(*_: object) -> Principal:
        return Principal("ann")

    async with served(host, caplog, address="0.0.0.0", authorize=authorize):
        pass
    assert not [record for record in caplog.records if record.name == "durable.web"]


PROGRAM = """
import asyncio, logging, sys
from durable import InvalidDefinition, ProcessHost
from durable.web import serve
from tests.web.shop import SHOP, reporting

async def main(url):
    async with ProcessHost(url, SHOP) as host:
        await host.start(reporting(), id="r")
        await serve(host, SHOP, port=0)
        print("served")
    print("left")

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_program_without_handlers_leaves_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """A signal makes `serve` return, where nobody else handles it: the host is left, and the program ends with 0."""
    command = [sys.executable, "-u", "-c", PROGRAM, f"sqlite:///{tmp_path}/p.db"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        while "running on" not in (line := program.stdout.readline()):
            assert line
        program.send_signal(number)
        said, _ = program.communicate(timeout=SOON)
    assert program.returncode == 0
    assert [line for line in said.splitlines() if line in ("served", "left")] == ["served", "left"]
