"""
What each request does: read it, ask whether it may, call the host or client, answer.

Errors are raised and become answers in `problems`; streams are in `streams`. No endpoint knows how anything is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from durable.client import ProcessClient
from durable.errors import UnknownDefinition
from durable.event import Event
from durable.handle import NO_REASON, Handle, ProcessStatus
from durable.storage import Status
from durable.web.access import Access, AccessKind, Gate, Limits
from durable.web.inputs import REASON, Cursor, Key, Name, Startable, event_body
from durable.web.patience import FAREWELL, Patience, answering, is_stopping
from durable.web.pictures import Update, entry, outcome, picture, to_json, update
from durable.web.problems import Invalid
from durable.web.watching import Watching

Q = TypeVar("Q", bound=BaseModel)

_LAST_KEY = 2**63 - 1
_KEY: TypeAdapter[str] = TypeAdapter(Key)


class Listing(BaseModel):
    """The query of a listing; ``cursor`` is the ``next`` of the page before."""

    status: list[Status] = []
    definition: Name | None = None
    limit: Annotated[int, Field(ge=1)] = 100
    cursor: Cursor | None = None


class Records(BaseModel):
    """The query of a history: records with a higher number than ``after``."""

    after: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1)] = 1000


class Waiting(BaseModel):
    """How many seconds to wait for a result, or for a change."""

    wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0


class Endpoints:
    """The endpoints of one application, over one host or client."""

    def __init__(
        self,
        connection: ProcessClient,
        startables: Mapping[str, Startable],
        events: Iterable[Event[Any]] | None,
        *,
        gate: Gate,
        watching: Watching,
        limits: Limits,
    ) -> None:
        self._connection = connection
        self._startables = startables
        self.event = event_body(events)
        self._gate = gate
        self._watching = watching
        self._limits = limits
        self._patience = Patience()

    # --- all processes ---

    async def list(self, request: Request) -> Response:
        """A page of the listing, newest first."""
        query = _query(request, Listing)
        await self._gate.admit(request, Access(AccessKind.LIST, definition=query.definition))
        # A place in the order of creation: it is there whatever becomes of the process it was taken from.
        before = None if query.cursor is None else min(int(query.cursor), _LAST_KEY)
        limit = min(query.limit, self._limits.page)
        async with answering():
            found = await self._connection.list(
                status=query.status or None, name=query.definition, limit=limit, before=before
            )
        last = str(found[-1].key) if len(found) == limit else None  # as a text, for JavaScript
        return _json({"processes": [picture(status) for status in found], "next": last})

    async def start(self, request: Request) -> Response:
        """Start a process: 201 by the request that created it, 200 if the same has been started before."""
        name = request.path_params["definition"]
        body = await self._body(request)
        id = _one_id(request, body)
        await self._gate.admit(request, Access(AccessKind.START, id, name))
        startable = self._startables.get(name)
        if startable is None:
            raise UnknownDefinition(
                f"No process function {name!r} can be started here",
                fix="ask /openapi.json which can be; what is to be started is given to `durable.web.app`",
            )
        invocation = startable.invocation(startable.body.read(body))
        handle = await self._connection.start(invocation, id=id)
        # Relative, since only the client knows under which address it reached us.
        up = "../../.." if request.scope["path"].endswith("/") else "../.."
        location = f"{up}/processes/{quote(handle.id, safe='')}"
        return _json(picture(await handle.status()), 201 if handle.created else 200, {"Location": location})

    # --- one process ---

    async def status(self, request: Request) -> Response:
        """How a process stands; with ``wait`` and ``If-None-Match``, as soon as that changes."""
        handle = await self._admitted(request, AccessKind.LOOK)
        known = request.headers.get("if-none-match", "").removeprefix("W/").strip('"') or None
        wait = self._wait(request)
        if known and wait:
            found = await self._changed(request, handle.id, known, wait)
        else:
            found = update(await _look(handle))
        # Weak, since what it waits for is not part of it.
        headers = {"ETag": f'W/"{found.version}"', "Cache-Control": "no-cache", **_farewell()}
        if found.version == known:
            return Response(status_code=304, headers=headers)
        return Response(found.text, 200, headers, "application/json")

    async def result(self, request: Request) -> Response:
        """What came of a process: 200 with its result or its error; 202 while it runs."""
        handle = await self._admitted(request, AccessKind.RESULT)
        if wait := self._wait(request):
            await self._ended(request, handle.id, wait)
        status = await _look(handle)
        if not status.ended:
            return _json(picture(status), 202, {"Retry-After": "1", **_farewell()})
        async with answering(journal=True):
            return _json(await outcome(handle, status))

    async def history(self, request: Request) -> Response:
        """Its journal, decoded."""
        query = _query(request, Records)
        handle = await self._admitted(request, AccessKind.HISTORY)
        async with answering(journal=True):
            records = [record for record in await handle.history() if record.seq > query.after]
        shown = records[: min(query.limit, self._limits.page)]
        last = shown[-1].seq if len(shown) < len(records) else None
        return _json({"records": [entry(record) for record in shown], "next": last})

    async def raise_event(self, request: Request) -> Response:
        """Send it an event."""
        id = request.path_params["id"]
        await self._gate.admit(request, Access(AccessKind.RAISE_EVENT, id))
        event = self.event.read(await self._body(request))
        await self._connection.raise_event(id, event["event"], event.get("payload"), key=event.get("key"))
        return Response(status_code=202)

    async def cancel(self, request: Request) -> Response:
        """Ask it to stop."""
        handle = await self._admitted(request, AccessKind.CANCEL)
        await handle.cancel(await self._reason(request))
        return Response(status_code=202)

    async def terminate(self, request: Request) -> Response:
        """End it without running any of its code."""
        handle = await self._admitted(request, AccessKind.TERMINATE)
        await self._connection.terminate(handle.id, await self._reason(request))
        return Response(status_code=202)

    async def resume(self, request: Request) -> Response:
        """Let it try again if it is stalled."""
        handle = await self._admitted(request, AccessKind.RESUME)
        await self._connection.resume(handle.id)
        return Response(status_code=202)

    # --- the service itself ---

    async def health(self, request: Request) -> Response:
        """Whether this program answers."""
        return _json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether the store answers, too; else 503."""
        async with answering():
            await self._connection.list(limit=1)
        return _json({"status": "ok"})

    # --- parts of requests ---

    async def _admitted(self, request: Request, kind: AccessKind) -> Handle[Any]:
        id = request.path_params["id"]
        await self._gate.admit(request, Access(kind, id))
        return self._connection.get(id)

    async def _changed(self, request: Request, id: str, version: str, wait: float) -> Update:
        async with self._watching.following(id) as watched:
            async with answering():
                found = await watched.after(None)
            async with self._patience.within(wait, request):
                return await watched.after(version)
            return found

    async def _ended(self, request: Request, id: str, wait: float) -> None:
        async with self._watching.following(id) as watched, self._patience.within(wait, request):
            found = await watched.after(None)
            while not found.ended:
                found = await watched.after(found.version)

    def _wait(self, request: Request) -> float:
        return min(_query(request, Waiting).wait, self._limits.wait / timedelta(seconds=1))

    async def _reason(self, request: Request) -> str:
        body = await self._body(request, optional=True)
        return REASON.read(body).get("reason", NO_REASON) if body else NO_REASON

    async def _body(self, request: Request, *, optional: bool = False) -> bytes:
        """The body, if it is JSON by its type and within the limit."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.body:
                raise HTTPException(413, f"The body is longer than {self._limits.body} bytes")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (optional and not body):
            raise HTTPException(415, "The body must be JSON, with `Content-Type: application/json`")
        return bytes(body)


async def _look(handle: Handle[Any]) -> ProcessStatus:
    async with answering():
        return await handle.status()


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(content), status, headers, "application/json")


def _farewell() -> dict[str, str]:
    return FAREWELL if is_stopping() else {}


def _query(request: Request, kind: type[Q]) -> Q:
    given = {
        name: values if name == "status" else values[-1]
        for name in request.query_params
        if (values := request.query_params.getlist(name))
    }
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise Invalid.of(error, "query") from None


def _one_id(request: Request, body: bytes) -> str | None:
    """The id a start asks for, by its header or in its body; both may be given if they agree."""
    key = request.headers.get("idempotency-key")
    if key is not None:
        try:
            key = _KEY.validate_python(key)
        except ValidationError as error:
            raise Invalid.of(error, "idempotency-key") from None
        # The standard's form is a text in quotes; without them it is what people send.
        key = key[1:-1] if len(key) > 2 and key[0] == key[-1] == '"' else key
    own = _id_in(body)
    if key is not None and own is not None and key != own:
        raise HTTPException(409, "The id in the body is another one than in Idempotency-Key")
    return own if key is None else key


def _id_in(body: bytes) -> str | None:
    # Who asks is checked before what is asked for is looked at, and the id belongs to the former.
    try:
        request = from_json(body)
    except ValueError:
        return None
    id = request.get("id") if isinstance(request, dict) else None
    return id if isinstance(id, str) else None
