"""Live progress over real HTTP: Server-Sent Events and WebSocket, many listeners, resuming, and leaving."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx_sse import aconnect_sse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from durable import ProcessClient, ProcessHost, StorageError
from durable.housekeeping import Retention, keep_house
from durable.storage import Status
from durable.web import Limits, app
from durable.web.pictures import Update, update
from durable.web.watching import Watched, Watching
from tests.web.counting import Counted
from tests.web.listening import Listener, listening
from tests.web.served import SOON, Server, client, serving
from tests.web.shop import EVENTS, SHOP, Finish, Report, failing_later, reporting

FREE = Limits(rate=None)


def watching_tasks() -> list[str]:
    return [name for task in asyncio.all_tasks() if (name := task.get_name()).startswith("durable: watch")]


async def nobody_watches() -> None:
    """Return once no process is watched any more."""
    while tasks := [task for task in asyncio.all_tasks() if task.get_name().startswith("durable: watch")]:
        await asyncio.wait(tasks, timeout=SOON)


# --- Server-Sent Events ---


async def test_events_tell_each_change_and_the_end(host: ProcessHost) -> None:
    """A browser's stream: the state, each progress, the end; and after the end was seen there is nothing to come."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server, client(server.address) as web:
        async with aconnect_sse(web, "GET", "/processes/r/watch") as source:
            assert source.response.headers["content-type"].startswith("text/event-stream")
            assert source.response.headers["cache-control"] == "no-store"
            seen, last = [], ""
            async for event in source.aiter_sse():
                status = json.loads(event.data)
                assert event.event == "status"
                last = event.id
                done = status["progress"]["done"] if status["progress"] else 0
                if done not in seen:
                    seen.append(done)
                    if done < 3:
                        await host.raise_event("r", Report, done + 1)
                    else:
                        await host.raise_event("r", Finish, "done")
        assert seen == [0, 1, 2, 3]
        assert status["status"] == "completed"
        again = await web.get("/processes/r/watch", headers={"Last-Event-ID": last})
        assert again.status_code == 204
        by_query = await web.get("/processes/r/watch", params={"last_event_id": last})
        assert by_query.status_code == 204


async def test_what_was_told_is_not_kept(host: ProcessHost) -> None:
    """A state is in memory for as long as somebody may be told of it: when all listeners have left there is none."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server, client(server.address) as web:
        async with aconnect_sse(web, "GET", "/processes/r/watch") as source:
            async for event in source.aiter_sse():
                done = (json.loads(event.data)["progress"] or {"done": 0})["done"]
                if done == 3:
                    break
                await host.raise_event("r", Report, done + 1)
        await nobody_watches()
    gc.collect()
    assert [found for found in gc.get_objects() if type(found) is Update] == []


async def test_a_stream_is_resumed_where_it_was_left(host: ProcessHost) -> None:
    """Who comes back with the state that still holds is told only what follows; with an older one, the newest."""
    await host.start(failing_later(), id="f")
    async with serving(app(host, limits=FREE)) as server:
        async with listening(server.address, "f") as listener:
            first = await waited(listener)
        async with listening(server.address, "f", seen=first.id) as listener:
            await host.raise_event("f", Finish, "now")
            told = await waited(listener)
            while not told.status["ended"]:  # what it waits for has changed, which is no other state
                assert told.id == first.id
                told = await waited(listener)
            assert told.id != first.id
        with suppress(RuntimeError):
            await host.get("f").result()
        async with listening(server.address, "f", seen=first.id) as listener:
            assert (await waited(listener)).status["status"] == "failed"
            assert await listener.next() is None


async def test_what_it_waits_for_is_told_under_the_same_id(host: ProcessHost) -> None:
    """Only its host knows, so it names no other state: an open stream is told that it changed, a long poll goes on."""
    await host.start(reporting(), id="r")
    status = await host.get("r").status()
    before, after = (update(replace(status, waits_for=waits)) for waits in ((), ("event 'report 2'",)))
    watched = Watched()
    watched.publish(before)
    poll, stream = asyncio.create_task(watched.after(before.version)), asyncio.create_task(watched.next(before))
    await asyncio.sleep(0)
    watched.publish(after)
    assert (await stream, after.version) == (after, before.version)
    assert not poll.done()
    watched.publish(update(replace(status, status=Status.STALLED)))
    assert (await poll).version != before.version


async def test_a_stream_is_resumed_elsewhere(tmp_path: Path) -> None:
    """Who comes to another host with the state that still holds is told nothing until something new happens."""
    url = f"sqlite:///{tmp_path}/p.db"
    async with (
        ProcessHost(url, SHOP) as host,
        ProcessClient(url) as client,
        serving(app(host, limits=FREE)) as here,
        serving(app(client, limits=FREE)) as elsewhere,
    ):
        await host.start(reporting(), id="r")
        async with listening(here.address, "r") as listener:
            told = await waited(listener)
            while not told.status["waits_for"]:
                told = await waited(listener)
        async with listening(elsewhere.address, "r", seen=told.id) as listener:
            await host.raise_event("r", Report, 1)
            assert (await waited(listener)).status["progress"]["done"] == 1


async def waited(listener: Listener) -> Any:
    async with asyncio.timeout(SOON):
        told = await listener.next()
    assert told is not None
    return told


async def test_a_head_request_opens_no_stream(host: ProcessHost) -> None:
    """HEAD has the headers of the stream, and leaves nobody watching."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server, client(server.address) as web:
        answer = await web.head("/processes/r/watch")
        assert answer.headers["content-type"].startswith("text/event-stream")
        await nobody_watches()


# --- many ---


async def test_500_listeners_share_one_look(tmp_path: Path) -> None:
    """500 streams of one process cost less than one query per second each: the looks do not grow with the listeners."""
    storage = Counted(f"sqlite:///{tmp_path}/p.db")
    async with ProcessHost(storage, SHOP) as host, AsyncExitStack() as stack:
        await host.start(reporting(), id="r")
        server = await stack.enter_async_context(serving(app(host, limits=FREE)))
        listeners = [await stack.enter_async_context(listening(server.address, "r")) for _ in range(500)]
        assert watching_tasks() == ["durable: watch 'r'"]
        began, before = asyncio.get_running_loop().time(), storage.reads
        for number in range(1, 11):
            await host.raise_event("r", Report, number)
            told = await asyncio.gather(*(listener.until(number) for listener in listeners))
            assert {one.status["progress"]["done"] for one in told} == {number}
        elapsed = asyncio.get_running_loop().time() - began
        reads = storage.reads - before
        assert reads < 500 * elapsed
        assert reads <= 10 * 5 + 4 * elapsed  # a few looks for each change, two per second besides
        await stack.aclose()
        await nobody_watches()
        await host.raise_event("r", Finish, "done")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
async def test_500_listeners_of_100_processes_share_their_looks(tmp_path: Path, *, elsewhere: bool) -> None:
    """Five streams each of a hundred processes, in the host that has them or in a client: a few queries per change."""
    url = f"sqlite:///{tmp_path}/p.db"
    async with AsyncExitStack() as stack:
        storage = Counted(url)
        host = await stack.enter_async_context(ProcessHost(url if elsewhere else storage, SHOP))
        served = await stack.enter_async_context(ProcessClient(storage)) if elsewhere else host
        ids = [f"r{number}" for number in range(100)]
        await asyncio.gather(*(host.start(reporting(), id=id) for id in ids))
        server = await stack.enter_async_context(serving(app(served, limits=FREE)))
        listeners = [(id, await stack.enter_async_context(listening(server.address, id))) for id in ids * 5]
        assert len(watching_tasks()) == 100
        began, before = asyncio.get_running_loop().time(), storage.reads
        for number in range(1, 6):
            await asyncio.gather(*(host.raise_event(id, Report, number) for id in ids))
            told = await asyncio.gather(*(listener.until(number) for _, listener in listeners))
            assert [one.status["id"] for one in told] == ids * 5
        elapsed = asyncio.get_running_loop().time() - began
        reads = storage.reads - before
        assert reads < 500 * elapsed
        assert reads <= 5 * 25 + 3 * elapsed  # whatever the number of processes and listeners


async def test_a_listener_elsewhere_is_told_too(tmp_path: Path) -> None:
    """A client on the same file, with no process of its own, streams what a host does."""
    url = f"sqlite:///{tmp_path}/p.db"
    async with (
        ProcessHost(url, SHOP) as host,
        ProcessClient(url) as elsewhere,
        serving(app(elsewhere, limits=FREE)) as server,
    ):
        await host.start(reporting(), id="r")
        async with listening(server.address, "r") as listener:
            await host.raise_event("r", Report, 1)
            assert (await listener.until(1)).status["progress"]["message"] == "step 1"
            await host.raise_event("r", Finish, "done")
            told = await waited(listener)
            while not told.status["ended"]:
                told = await waited(listener)
            assert await listener.next() is None


async def test_a_slow_listener_gets_only_the_newest() -> None:
    """What came while a listener was busy is not kept for it; the state it had is not told again."""
    watched = Watched()
    for number in range(1000):
        watched.publish(Update(str(number), b"{}", ended=False))
    assert (await watched.after("5")).version == "999"
    waiting = asyncio.create_task(watched.after("999"))
    await asyncio.sleep(0)
    watched.publish(Update("999", b"{}", ended=False))
    await asyncio.sleep(0)
    assert not waiting.done()
    watched.publish(Update("1000", b"{}", ended=True))
    assert (await waiting).version == "1000"
    assert (await watched.after("1000")).ended


async def test_streams_are_counted(host: ProcessHost) -> None:
    """Beyond the limit a stream is refused with 503; one that was closed makes room."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=Limits(rate=None, streams=2))) as server, client(server.address) as web:
        async with listening(server.address, "r"), listening(server.address, "r"):
            refused = await web.get("/processes/r/watch")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        await nobody_watches()
        async with listening(server.address, "r"):
            pass
    await host.raise_event("r", Finish, "done")


# --- a store that fails ---


async def test_a_listener_outlives_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away a stream stays open; when it is back it goes on. Who comes meanwhile gets 503."""
    monkeypatch.setattr("durable.web.watching._PAUSE", 0.01)
    storage = Counted("memory://")
    async with ProcessHost(storage, SHOP) as host, serving(app(host, limits=FREE)) as server:
        await host.start(reporting(), id="r")
        async with listening(server.address, "r") as listener, client(server.address) as web:
            await waited(listener)
            storage.broken = True
            await host.raise_event("r", Report, 1)
            assert (await web.get("/processes/r")).status_code == 503
            storage.broken = False
            assert (await listener.until(1)).status["progress"]["done"] == 1
        await host.raise_event("r", Finish, "done")


async def test_who_comes_first_to_a_failing_store_is_told() -> None:
    """A look that never succeeded raises to all who wait for it, and the next one looks anew."""
    storage = Counted("memory://")
    async with ProcessHost(storage, SHOP) as host:
        await host.start(reporting(), id="r")
        watching = Watching(host)
        storage.broken = True
        async with watching.following("r") as first, watching.following("r") as second:
            for watched in (first, second):
                with pytest.raises(StorageError):
                    await watched.after(None)
            storage.broken = False
            async with watching.following("r") as third:
                assert not (await third.after(None)).ended


async def test_a_process_that_was_purged_ends_its_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose end nobody saw: events end in order, a socket is closed with 1008, and who comes back gets 404."""
    monkeypatch.setattr("durable.web.watching._PAUSE", 0.01)
    url = f"sqlite:///{tmp_path}/p.db"
    storage = Counted(url)
    async with (
        ProcessHost(url, SHOP) as host,
        ProcessClient(storage) as elsewhere,
        serving(app(elsewhere, limits=FREE)) as server,
        client(server.address) as web,
    ):
        await host.start(reporting(), id="r")
        async with (
            web.stream("GET", "/processes/r/watch") as events,
            connect(f"ws://{server.address}/processes/r/watch") as socket,
        ):
            await messages(socket)()
            storage.broken = True  # so that the end is not seen
            await host.raise_event("r", Finish, "done")
            await host.get("r").result()
            await keep_house(url, Retention(keep=timedelta(0), archive=None))
            storage.broken = False
            async with asyncio.timeout(SOON):
                assert '"ended":true' not in (await events.aread()).decode()  # would raise if it was cut
                await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (1008, "Process not found")
        assert (await web.get("/processes/r/watch")).status_code == 404


# --- WebSocket ---


def messages(socket: ClientConnection) -> Any:
    async def next_one() -> Any:
        async with asyncio.timeout(SOON):
            return json.loads(await socket.recv())

    return next_one


async def test_a_websocket_tells_the_same(host: ProcessHost) -> None:
    """Over WebSocket: the state, the progress, the end, then a close; and resuming by the id that was seen."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server:
        address = f"ws://{server.address}/processes/r/watch"
        async with connect(address) as socket:
            message = messages(socket)
            assert (await message())["data"]["status"] == "running"
            await host.raise_event("r", Report, 5)
            told = await message()
            while told["data"]["progress"] is None:
                told = await message()
            assert told["data"]["progress"]["done"] == 5
            await socket.send("a word that nobody reads")
            await host.raise_event("r", Finish, "done")
            while not told["data"]["ended"]:
                told = await message()
            await asyncio.wait_for(socket.wait_closed(), SOON)
            assert socket.close_code == 1000
        async with connect(f"{address}?last_event_id={told['id']}") as socket:
            await asyncio.wait_for(socket.wait_closed(), SOON)
            assert socket.close_code == 1000
        await nobody_watches()


async def test_a_websocket_that_leaves_is_let_go(host: ProcessHost) -> None:
    """The look ends when the only client closes its socket, though nothing happens in the process."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server:
        async with connect(f"ws://{server.address}/processes/r/watch") as socket:
            await messages(socket)()
            assert watching_tasks() == ["durable: watch 'r'"]
        await nobody_watches()


async def test_a_websocket_is_refused_with_a_status(host: ProcessHost) -> None:
    """An unknown process or path, and a page of another origin, are refused before the socket opens."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server:
        with pytest.raises(InvalidStatus) as unknown:
            await connect(f"ws://{server.address}/processes/nobody/watch")
        assert unknown.value.response.status_code == 404
        with pytest.raises(InvalidStatus) as nowhere:
            await connect(f"ws://{server.address}/nothing")
        assert nowhere.value.response.status_code == 404
        assert nowhere.value.response.headers["content-type"] == "application/problem+json"
        with pytest.raises(InvalidStatus) as foreign:
            await connect(f"ws://{server.address}/processes/r/watch", origin="http://elsewhere.test")  # type: ignore[arg-type]
        assert foreign.value.response.status_code == 403


# --- leaving ---


async def test_a_long_poll_whose_client_has_gone_is_let_go(host: ProcessHost) -> None:
    """Nobody watches for it any more, though its time is not over and nothing happens in the process."""
    await host.start(reporting(), id="r")
    async with serving(app(host, limits=FREE)) as server, client(server.address) as web:
        known = {"If-None-Match": (await web.get("/processes/r")).headers["etag"]}
        for path in ("/processes/r/result", "/processes/r"):
            poll = asyncio.create_task(web.get(path, params={"wait": 60}, headers=known))
            async with asyncio.timeout(SOON):
                while not watching_tasks():
                    await asyncio.sleep(0.001)
            poll.cancel()
            async with asyncio.timeout(SOON):
                await nobody_watches()


async def test_a_server_with_open_streams_stops(host: ProcessHost, capfd: pytest.CaptureFixture[str]) -> None:
    """Told to stop, a server with an open stream, socket and long poll stops within its grace; nobody watches on."""
    await host.start(reporting(), id="r")
    server: Server
    async with AsyncExitStack() as stack:
        async with serving(app(host, limits=FREE), grace=1) as server:
            listener = await stack.enter_async_context(listening(server.address, "r"))
            await waited(listener)
            socket = await stack.enter_async_context(connect(f"ws://{server.address}/processes/r/watch"))
            web = await stack.enter_async_context(client(server.address))
            poll = asyncio.create_task(web.get("/processes/r/result", params={"wait": 60}))
            await messages(socket)()
            async with asyncio.timeout(SOON):
                while len(server.server_state.tasks) < 3:
                    await asyncio.sleep(0.001)
        while await listener.next() is not None:
            pass
        await asyncio.wait_for(socket.wait_closed(), SOON)
        await asyncio.wait_for(poll, SOON)  # uvicorn cuts it off: 500
        assert "without completing response" not in capfd.readouterr().err  # the stream ended in order
    await nobody_watches()
    await host.raise_event("r", Finish, "done")


async def test_a_closed_host_ends_its_streams() -> None:
    """Streams of a host that is left end by themselves."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(ProcessHost("memory://", SHOP))
        await host.start(reporting(), id="r")
        application = app(host, events=EVENTS, limits=FREE)
        async with serving(application) as server, listening(server.address, "r") as listener:
            await waited(listener)
            await stack.aclose()
            while await asyncio.wait_for(listener.next(), SOON) is not None:
                pass
