"""
Orders of a shop: a web service whose requests start processes, look at them, send them events and cancel them.

Shows: a host inside the lifespan of FastAPI, several workers on one SQLite file, starts that are idempotent because the
caller names the process. Each worker runs the processes it started; when it dies, the others go on with them. An order
that waits for its payment can be parked, so a million unpaid ones cost rows, no memory.

    python -m examples.web_service          two workers on http://127.0.0.1:8000
    curl -X PUT  http://127.0.0.1:8000/orders/1 -H 'content-type: application/json' -d '{"items": ["tea", "milk"]}'
    curl -X POST http://127.0.0.1:8000/orders/1/payment -H 'content-type: application/json' -d '{"payment": "card-17"}'
    curl         http://127.0.0.1:8000/orders/1
"""

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from durable import (
    Event,
    Process,
    ProcessEnded,
    ProcessExists,
    ProcessHost,
    ProcessNotFound,
    ProcessStatus,
    ResultNotReady,
    Retry,
    Status,
    process,
)

Paid = Event("paid", str)
PATIENCE = timedelta(seconds=20)  # of a request that waits for a result
STORE = "ORDERS_STORE"  # each worker is an OS process of its own, so the environment is what they share


@process
async def fulfil_order(proc: Process, items: list[str]) -> str:
    try:
        await proc.do(lambda: warehouse.reserve(proc.id, items), "reserved", retry=Retry(5))
        payment = await proc.event(Paid, timeout=timedelta(days=3))
        await proc.do(lambda: warehouse.ship(proc.id), "shipped", retry=Retry(None))
    except BaseException:  # refused, not paid in time, or cancelled
        await proc.do(lambda: warehouse.release(proc.id), "released", retry=Retry(None))
        raise
    return f"{len(items)} items shipped, paid by {payment}"


# --- the web service ---


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with ProcessHost(os.environ[STORE], [fulfil_order]) as host:
        app.state.host = host
        yield


app = FastAPI(lifespan=lifespan)


def get_host(request: Request) -> ProcessHost:
    host: ProcessHost = request.app.state.host
    return host


Host = Annotated[ProcessHost, Depends(get_host)]


class Order(BaseModel):
    items: list[str]


class Payment(BaseModel):
    payment: str


@app.put("/orders/{order_id}", status_code=202)
async def start(order_id: str, order: Order, host: Host) -> dict[str, Any]:
    """Start an order; sent again, the same request changes nothing, and another one under its name is refused."""
    handle = await host.start(fulfil_order(order.items), id=order_id)
    return picture(await handle.status())


@app.get("/orders/{order_id}")
async def look(order_id: str, host: Host) -> dict[str, Any]:
    return picture(await host.get(order_id).status())


@app.get("/orders")
async def look_at_all(host: Host, status: Status | None = None) -> list[dict[str, Any]]:
    return [picture(one) for one in await host.list(status=status, name="fulfil_order")]


@app.post("/orders/{order_id}/payment", status_code=202)
async def pay(order_id: str, payment: Payment, host: Host) -> None:
    """Pay an order. The name of the payment is the key of the event: sent twice, it is one payment."""
    await host.raise_event(order_id, Paid, payment.payment, key=payment.payment)


@app.delete("/orders/{order_id}", status_code=202)
async def cancel(order_id: str, host: Host) -> None:
    """Cancel an order: what it reserved is released."""
    await host.get(order_id).cancel("by the customer")


@app.get("/orders/{order_id}/result")
async def result(order_id: str, host: Host) -> str:
    """Wait until an order is through, but no longer than a request should take. One that came to nothing is a 409."""
    handle = host.get(order_id)
    try:
        text: str = await handle.result(PATIENCE)
    except ResultNotReady:  # and not TimeoutError, which is how an order ends that nobody pays
        raise HTTPException(504, "not finished yet, ask again") from None
    except Exception as error:  # whatever the process raised; or there is none, or no way to ask
        status = await handle.status()
        if not status.ended:
            raise
        raise HTTPException(409, f"{status.status}: {status.reason or error}") from None
    return text


@app.middleware("http")
async def name_worker(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers["x-worker"] = str(os.getpid())
    return response


@app.exception_handler(ProcessNotFound)
async def not_found(_: Request, error: ProcessNotFound) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404)


@app.exception_handler(ProcessExists)
@app.exception_handler(ProcessEnded)
async def conflict(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 409)


def picture(status: ProcessStatus) -> dict[str, Any]:
    return {"id": status.id, "status": status.status, "reason": status.reason, "waits_for": status.waits_for}


# --- the world around it ---


class Warehouse:
    """The warehouse; it knows each reservation by its order, so each of these may be asked for twice."""

    async def reserve(self, order: str, items: list[str]) -> None:
        print(f"worker {os.getpid()} reserved {', '.join(items)} for {order}", flush=True)

    async def ship(self, order: str) -> None:
        print(f"worker {os.getpid()} shipped {order}", flush=True)

    async def release(self, order: str) -> None:
        print(f"worker {os.getpid()} released what was reserved for {order}", flush=True)


warehouse = Warehouse()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="examples.web_service")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", default="sqlite:///orders.db")
    options = parser.parse_args(arguments)
    os.environ[STORE] = options.store
    uvicorn.run("examples.web_service:app", port=options.port, workers=options.workers, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main(sys.argv[1:])
