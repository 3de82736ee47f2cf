"""`app`: puts gate, endpoints, streams and the OpenAPI document together as one Starlette application."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from durable.client import ProcessClient
from durable.errors import DurableError, InvalidDefinition
from durable.event import Event
from durable.invocation import AnyDefinition
from durable.web.access import Authorize, Gate, Limits
from durable.web.document import document
from durable.web.endpoints import Endpoints
from durable.web.inputs import Startable
from durable.web.pictures import to_json
from durable.web.problems import Invalid, on_durable_error, on_http_exception, on_invalid, on_unexpected
from durable.web.streams import Streams
from durable.web.watching import Watching

_HANDLERS: dict[Any, Any] = {  # each for requests and WebSockets alike, for which Starlette's type has no form
    DurableError: on_durable_error,
    Invalid: on_invalid,
    HTTPException: on_http_exception,
    Exception: on_unexpected,
}


def app(
    connection: ProcessClient,
    definitions: Iterable[AnyDefinition] | None = None,
    *,
    events: Iterable[Event[Any]] | None = None,
    authorize: Authorize | None = None,
    limits: Limits | None = None,
    origins: Collection[str] = (),
    title: str = "Processes",
) -> Starlette:
    """
    An ASGI application over a host or client: start, look, follow, raise, cancel. Serve it, or mount it in another.

    It needs no lifespan: open *connection* in yours, before the first request and until after the last.

    Args:
        connection: A `ProcessHost` or `ProcessClient`; it may still be closed.
        definitions: What can be started, by name, with input checked by the annotations of the function.
        events: The events that can be raised, with payloads of their types; None: any name with any JSON.
        authorize: Says who asks and whether they may, see `Authorize`; None: everybody may do everything.
        limits: How much may be asked for.
        origins: Origins of other web pages that may call it (CORS), as ``https://shop.example``; by default none.
        title: Title of the OpenAPI document.

    Raises:
        InvalidDefinition: Arguments of a definition, or a payload of an event, cannot be read from JSON.
    """
    limits = Limits() if limits is None else limits
    startables = _by_name(definitions or ())
    events = None if events is None else list(events)
    gate = Gate(authorize, limits, origins)
    watching = Watching(connection)
    endpoints = Endpoints(connection, startables, events, gate=gate, watching=watching, limits=limits)
    streams = Streams(watching, gate, limits.streams)
    description = to_json(document(startables.values(), endpoints.event, limits, title, is_protected=bool(authorize)))

    async def openapi(request: Request) -> Response:
        return Response(description, media_type="application/json")

    served = Starlette(
        routes=_routes(endpoints, streams, openapi),
        middleware=[Middleware(_PathAsAsked), *([_cross_origin(origins)] if origins else [])],
        exception_handlers=_HANDLERS,
    )
    served.router.redirect_slashes = False
    return served


def _routes(endpoints: Endpoints, streams: Streams, openapi: Callable[..., Any]) -> list[BaseRoute]:
    # An id may hold slashes. So what is asked about a process stands last, and is looked for first.
    one = "/processes/{id:path}"
    return [
        Route("/health", endpoints.health),
        Route("/ready", endpoints.ready),
        Route("/openapi.json", openapi),
        *(Route(path, endpoints.list) for path in _with_slash("/processes")),
        *(
            Route(path, endpoints.start, methods=["POST"])
            for path in _with_slash("/definitions/{definition:path}/processes")
        ),
        Route(f"{one}/result", endpoints.result),
        Route(f"{one}/history", endpoints.history),
        Route(f"{one}/watch", streams.events),
        WebSocketRoute(f"{one}/watch", streams.websocket),
        Route(f"{one}/events", endpoints.raise_event, methods=["POST"]),
        Route(f"{one}/cancel", endpoints.cancel, methods=["POST"]),
        Route(f"{one}/terminate", endpoints.terminate, methods=["POST"]),
        Route(f"{one}/resume", endpoints.resume, methods=["POST"]),
        Route(one, endpoints.status),
        WebSocketRoute("/{path:path}", _no_such_socket),
    ]


async def _no_such_socket(_: WebSocket) -> None:
    raise HTTPException(404)  # of itself Starlette refuses with 403 and says nothing


def _with_slash(path: str) -> tuple[str, str]:
    # Many write one, and a redirect would cost a request. About a process it stays as it is: an id may end with it.
    return path, f"{path}/"


class _PathAsAsked:
    """Takes back the slash that Litestar puts at the end of the path of what is mounted in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, asked = scope.get("path", ""), scope.get("raw_path")
        if path.endswith("/") and asked and not unquote_to_bytes(asked).endswith(b"/"):
            scope = {**scope, "path": path.removesuffix("/")}
        await self._app(scope, receive, send)


def _cross_origin(origins: Collection[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID"],
        expose_headers=["ETag", "Location", "Retry-After"],
    )


def _by_name(definitions: Iterable[AnyDefinition]) -> dict[str, Startable]:
    found: dict[str, Startable] = {}
    for definition in definitions:
        if definition.name in found and found[definition.name].definition is not definition:
            raise InvalidDefinition(
                f"Two process functions to serve are called {definition.name!r}",
                fix='give one of them another durable name: `@process(name="…")`',
            )
        found[definition.name] = Startable(definition)
    return found
