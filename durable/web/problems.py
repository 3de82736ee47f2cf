"""
What goes wrong, as problem details (RFC 9457) with code, fix and facts of a `DurableError`.

An error of whoever asked is explained. One of ours or of the store says only its code, and the rest is in the log: its
text may name addresses, files and users. A traceback is never part of an answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from durable.errors import (
    DurableError,
    HostBusy,
    HostClosed,
    InvalidName,
    PayloadTooLarge,
    ProcessEnded,
    ProcessExists,
    ProcessNotFound,
    SessionLost,
    StorageError,
    UnknownDefinition,
)
from durable.web.pictures import to_json

logger = logging.getLogger("durable.web")

PROBLEM = "application/problem+json"

# The first that fits.
_STATUS: tuple[tuple[type[DurableError], int], ...] = (
    (ProcessNotFound, 404),
    (UnknownDefinition, 404),
    (ProcessEnded, 409),
    (ProcessExists, 409),
    (PayloadTooLarge, 413),
    (InvalidName, 422),
    (HostBusy, 503),
    (HostClosed, 503),
    (SessionLost, 503),
    (StorageError, 503),
)
_WITHOUT_BODY = (204, 304)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_RETRY = {"Retry-After": "1"}
_NOTHING_HERE = "There is nothing under this path; /openapi.json, beside /processes, says what can be asked for"


class Invalid(Exception):
    """A part of a request is not what the OpenAPI document says; each of *errors* has ``loc``, ``msg`` and ``type``."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.errors = errors

    @classmethod
    def of(cls, error: ValidationError, where: str) -> Invalid:
        """What pydantic found in the part of the request called *where*; what was sent is not repeated."""
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return cls([{"loc": [where, *one["loc"]], "msg": one["msg"], "type": one["type"]} for one in found])


async def on_durable_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer with what a `DurableError` says, as far as it concerns whoever asked."""
    assert isinstance(error, DurableError)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    members: dict[str, Any] = {"type": f"urn:durable:{error.code}", "title": _title(error), "code": error.code}
    if status < 500:
        members |= {"detail": str(error.args[0]) if error.args else None, "fix": error.fix}
        members["facts"] = {name: str(value) for name, value in error.facts.items() if value is not None} or None
    else:
        logger.error("%s %s: %s", connection.scope.get("method", "WebSocket"), connection.url.path, error)
    return await _answer(connection, status, members, _RETRY if status == 503 else None)


async def on_invalid(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer which parts of the request are wrong."""
    assert isinstance(error, Invalid)
    return await _answer(
        connection,
        422,
        {"title": "Invalid request", "detail": _in_one_line(error.errors), "errors": error.errors},
        None,
    )


async def on_http_exception(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer with what was refused; also what Starlette refuses by itself, as an unknown path."""
    assert isinstance(error, HTTPException)
    if error.status_code in _WITHOUT_BODY and not isinstance(connection, WebSocket):
        return Response(status_code=error.status_code, headers=error.headers)
    title = _PHRASES.get(error.status_code, "Refused")
    detail = _NOTHING_HERE if error.status_code == 404 and error.detail == title else error.detail
    return await _answer(connection, error.status_code, {"title": title, "detail": detail}, error.headers)


async def on_unexpected(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer that something is wrong here; the server logs what."""
    return await _answer(connection, 500, {"title": "Internal Server Error"}, None)


async def _answer(
    connection: HTTPConnection, status: int, members: Mapping[str, Any], headers: Mapping[str, str] | None
) -> Response | None:
    content = {"type": "about:blank", **members, "status": status}
    body = to_json({name: value for name, value in content.items() if value is not None})
    response = Response(body, status, headers, PROBLEM)
    if not isinstance(connection, WebSocket):
        return response
    is_refused = connection.application_state is WebSocketState.CONNECTING and status not in _WITHOUT_BODY
    if is_refused and "websocket.http.response" in connection.scope.get("extensions", {}):
        del response.headers["content-length"]  # older releases of uvicorn and websockets send it twice
        await connection.send_denial_response(response)
    elif connection.application_state is not WebSocketState.DISCONNECTED:
        with suppress(WebSocketDisconnect):  # it has gone meanwhile
            await connection.close(1008 if status < 500 else 1011, str(members["title"]))
    return None


def _in_one_line(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first of *errors*, for who shows nothing but the detail."""
    first = f"{'.'.join(map(str, errors[0]['loc']))}: {errors[0]['msg']}"
    return first if len(errors) == 1 else f"{first} (and {len(errors) - 1} more)"


def _title(error: DurableError) -> str:
    """``ProcessNotFound`` as "Process not found"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).capitalize()
