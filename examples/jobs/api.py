"""The API: writes jobs down, looks them up. It runs none of them, so it may be restarted or multiplied at will."""

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import uvicorn
from fastapi import Body, Depends, FastAPI, Header, HTTPException, Request, Response

from durable import ProcessClient, ProcessExists, ProcessNotFound, Status, StorageError
from examples.jobs.processes import Job

STORE = "JOBS_STORE"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with ProcessClient(os.environ[STORE]) as client:
        app.state.client = client
        yield


app = FastAPI(title="Jobs", lifespan=lifespan)


def get_client(request: Request) -> ProcessClient:
    client: ProcessClient = request.app.state.client
    return client


Client = Annotated[ProcessClient, Depends(get_client)]


@app.post("/jobs", status_code=202)
async def create(
    job: Annotated[Job, Body()],
    client: Client,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> dict[str, Any]:
    """
    Take a job: it is on storage when the answer comes.

    Sent again under the same ``Idempotency-Key`` it is one job; another job under that key is refused.
    """
    try:
        handle = await client.start(job.invocation(), id=idempotency_key or str(uuid4()))
    except ProcessExists as error:
        raise HTTPException(409, str(error)) from error
    response.headers["Location"] = f"/jobs/{handle.id}"
    return await look(handle.id, client)


@app.get("/jobs/{job_id}")
async def look(job_id: str, client: Client) -> dict[str, Any]:
    """How a job stands: its status, how often it was tried, and why the last try failed."""
    handle = client.get(job_id)
    try:
        status, history = await handle.status(), await handle.history()
    except ProcessNotFound as error:
        raise HTTPException(404, str(error)) from error
    failures = [entry for entry in history if entry.kind == "ATTEMPT"]
    return {
        "id": job_id,
        "type": status.definition,
        "status": status.status,
        "created_at": status.created_at,
        "ended_at": status.ended_at,
        "failed_attempts": len(failures),
        "failed_at": [entry.time for entry in failures],
        "reason": status.reason,
    }


@app.get("/health")
async def health(client: Client) -> dict[str, Any]:
    """Whether jobs can be taken, and how many there are that somebody should look at."""
    try:
        return {
            "status": "ok",
            "unfinished": await client.count(status=Status.RUNNING),
            "stalled": await client.count(status=Status.STALLED),
        }
    except StorageError as error:
        raise HTTPException(503, str(error)) from error


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="examples.jobs.api")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--store", default="sqlite:///jobs.db")
    options = parser.parse_args(arguments)
    os.environ[STORE] = options.store
    uvicorn.run(app, port=options.port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main(sys.argv[1:])
