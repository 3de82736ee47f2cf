"""The web service: its requests in one OS process, then two workers on one file of which one is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from durable import ProcessHost
from durable.testing.clock import ManualClock
from examples import web_service
from examples.web_service import Paid, fulfil_order
from tests.examples.waiting import parked
from tests.examples.zip_runs import ROOT

SOON = 30.0
NO_KEEPING = httpx.Limits(max_keepalive_connections=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the service, which runs with two workers on one SQLite file."""
    port = free_port()
    command = [sys.executable, "-m", "examples.web_service", "--port", str(port)]
    command += ["--store", f"sqlite:///{tmp_path}/orders.db"]
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "storage"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    with (
        open(tmp_path / "log", "w+") as log,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log) as server,
        # A connection for every request, or one worker would answer them all.
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SOON, limits=NO_KEEPING) as client,
    ):
        try:
            request(client, "GET", "/orders")
            yield client
        finally:
            server.terminate()
            server.wait(SOON)
            log.seek(0)
            print(log.read())  # shown if the test fails


def request(shop: httpx.Client, method: str, path: str, **what: object) -> httpx.Response:
    """One request, sent until somebody answers it: every request of this service may be repeated."""
    until = time.monotonic() + SOON
    while True:
        try:
            return shop.request(method, path, **what)  # type: ignore[arg-type]
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_requests_start_look_pay_and_cancel(shop: httpx.Client) -> None:
    """Each request does what it says, from whichever worker, and may be repeated."""
    order = {"items": ["tea", "milk"]}
    assert request(shop, "GET", "/orders/1").status_code == 404
    for _ in range(4):
        assert request(shop, "PUT", "/orders/1", json=order).status_code == 202
    assert request(shop, "PUT", "/orders/1", json={"items": ["beer"]}).status_code == 409
    assert request(shop, "GET", "/orders/1").json()["status"] == "running"
    for _ in range(4):
        assert request(shop, "POST", "/orders/1/payment", json={"payment": "card-17"}).status_code in (202, 409)
    assert request(shop, "GET", "/orders/1/result").json() == "2 items shipped, paid by card-17"
    assert request(shop, "POST", "/orders/1/payment", json={"payment": "card-18"}).status_code == 409

    request(shop, "PUT", "/orders/2", json=order)
    assert request(shop, "DELETE", "/orders/2").status_code == 202
    cancelled: list[dict[str, object]] = []
    until = time.monotonic() + SOON
    while not cancelled and time.monotonic() < until:
        cancelled = request(shop, "GET", "/orders", params={"status": "cancelled"}).json()
    assert [(one["id"], one["reason"]) for one in cancelled] == [("2", "by the customer")]


def test_a_killed_worker_leaves_its_orders_to_the_other(shop: httpx.Client) -> None:
    """Orders of both workers wait for payment; one is killed with `kill -9`; every order is paid and shipped."""
    workers: dict[str, str] = {}
    while len(set(workers.values())) < 2 or len(workers) < 20:
        id = f"order-{len(workers)}"
        answer = request(shop, "PUT", f"/orders/{id}", json={"items": ["tea"]})
        workers[id] = answer.headers["x-worker"]
        assert len(workers) < 500, "one worker answers everything"
    os.kill(int(workers["order-0"]), signal.SIGKILL)
    for id in workers:
        assert request(shop, "POST", f"/orders/{id}/payment", json={"payment": f"card-{id}"}).status_code in (202, 409)
    for id in workers:
        assert request(shop, "GET", f"/orders/{id}/result").json() == f"1 items shipped, paid by card-{id}"


async def test_an_unpaid_order_is_parked(capsys: pytest.CaptureFixture[str]) -> None:
    """While an order waits for its payment it takes no memory, and no line of its compensation runs."""
    async with ProcessHost("memory://", [fulfil_order], park_after=timedelta(0)) as host:
        handle = await host.start(fulfil_order(["tea"]))
        await parked(handle)
        assert "released" not in capsys.readouterr().out
        await host.raise_event(handle.id, Paid, "card-17")
        assert await handle.result(timedelta(seconds=10)) == "1 items shipped, paid by card-17"


async def test_a_result_is_there_or_not_yet_or_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again is said only while it helps: an order nobody paid, or that was cancelled, is answered as ended."""
    monkeypatch.setattr(web_service, "PATIENCE", timedelta(0))
    clock = ManualClock()
    transport = httpx.ASGITransport(web_service.app)
    async with (
        ProcessHost("memory://", [fulfil_order], clock=clock) as host,
        httpx.AsyncClient(transport=transport, base_url="http://shop") as shop,
    ):
        monkeypatch.setattr(web_service.app.state, "host", host, raising=False)
        unpaid = await host.start(fulfil_order(["tea"]), id="unpaid")
        cancelled = await host.start(fulfil_order(["milk"]), id="cancelled")
        assert (await shop.get("/orders/unpaid/result")).status_code == 504
        await cancelled.cancel("by the customer")
        await clock.advance(timedelta(days=4))
        monkeypatch.setattr(web_service, "PATIENCE", timedelta(seconds=SOON))
        answers = [await shop.get(f"/orders/{id}/result") for id in ("unpaid", "cancelled", "unknown")]
        assert [answer.status_code for answer in answers] == [409, 409, 404]
        assert answers[0].json()["detail"].startswith("failed: No event 'paid' came in time")
        assert answers[1].json()["detail"] == "cancelled: by the customer"
        with pytest.raises(TimeoutError):
            await unpaid.result()
