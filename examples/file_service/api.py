"""
The API: takes files, and hands everything about tasks to `durable.web`: start, status, progress, result, cancel.

An upload ends before its task starts, so it is no step of it: it happens here, while the request lasts. If this program
is killed meanwhile, or the client never starts the task, what was uploaded is an orphan, and `orphans` removes it.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from durable import AnyDefinition, HostBusy, HostClosed, ProcessClient, SessionLost, StorageError, web
from examples.file_service import settings
from examples.file_service.bucket import Bucket, WrongSize
from examples.file_service.imports import import_products
from examples.file_service.orphans import keep_reconciling, status_of
from examples.file_service.tasks import FileName, Places, TaskId
from examples.file_service.zips import create_zip
from examples.zipping.objects import TROUBLE

logger = logging.getLogger("examples.file_service")

_ATTACHED = "attachment; filename=\"{0}\"; filename*=UTF-8''{0}"  # the first one for curl, which knows no other
_NO_MORE = {"Connection": "close"}  # or the rest of the file would be read, and thrown away

TASKS: list[AnyDefinition] = [create_zip, import_products]


def make_app(connection: ProcessClient) -> FastAPI:
    """The service over *connection*, a client, or a host that runs the tasks in this very program."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with connection:
            await keep_reconciling(connection)
            yield

    app = FastAPI(title="Files", lifespan=lifespan)
    app.state.connection = connection
    app.put("/uploads/{task}/{file}", status_code=201)(upload)
    app.get("/archives/{task}")(download)
    app.mount("/tasks", web.app(connection, TASKS, title="Tasks"))
    for trouble in (*TROUBLE, StorageError, SessionLost, HostClosed, HostBusy, ClientDisconnect):
        app.add_exception_handler(trouble, unavailable)
    return app


def get_connection(request: Request) -> ProcessClient:
    connection: ProcessClient = request.app.state.connection
    return connection


async def upload(
    task: TaskId,
    file: FileName,
    request: Request,
    connection: Annotated[ProcessClient, Depends(get_connection)],
    content_length: Annotated[int, Header(ge=0)],
) -> dict[str, str]:
    """Take one file of a task that has not started yet: it goes into the bucket as it comes, whole or not at all."""
    if content_length > settings.LONGEST_UPLOAD:
        raise HTTPException(413, f"a file has at most {settings.LONGEST_UPLOAD} bytes", _NO_MORE)
    if await status_of(connection, task) is not None:
        raise HTTPException(409, f"task {task} has started")
    try:
        await Bucket().receive(f"{Places.of(task).uploads}{file}", request.stream(), content_length)
    except WrongSize as error:  # with Transfer-Encoding beside it, Content-Length is only what somebody claims
        raise HTTPException(400, f"this is {error}", _NO_MORE) from None
    return {"task": task, "file": file}


async def download(task: TaskId) -> StreamingResponse:
    """The archive of a task that is through."""
    try:
        size, chunks = await Bucket().stream(f"{Places.of(task).results}files.zip")
    except FileNotFoundError:
        raise HTTPException(404, f"there is no archive of task {task}") from None
    headers = {"Content-Length": str(size), "Content-Disposition": _ATTACHED.format(quote(f"{task}.zip"))}
    return StreamingResponse(chunks, headers=headers, media_type="application/zip")


async def unavailable(request: Request, error: Exception) -> Response:
    """A store does not answer, or the client has gone in the middle; the same request may be sent again."""
    logger.warning("%s %s is to be sent again: %r", request.method, request.url.path, error)
    return JSONResponse({"detail": "try again"}, 503, {"Retry-After": "1"})
