"""The OpenAPI document: made from the definitions and events that are served, and kept by the application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.applications import Starlette
from starlette.routing import Route

from durable import AnyDefinition, Event, InvalidDefinition, Process, ProcessClient, ProcessHost, process
from durable.web import Limits, app
from tests.web.served import direct
from tests.web.shop import EVENTS, SHOP, Paid, order


def served(definitions: Iterable[AnyDefinition]) -> Starlette:
    """The application with a host of its own, opened by its lifespan: the tool has a loop of its own."""
    host = ProcessHost("memory://", SHOP)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with host:
            yield

    application = app(host, definitions, events=EVENTS, limits=Limits(rate=None, wait=timedelta(milliseconds=10)))
    application.router.lifespan_context = lifespan
    return application


def loaded(application: Starlette) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", application)


STREAM = "/watch$"
requests = loaded(served(SHOP)).exclude(path_regex=STREAM)
streams = loaded(served([])).include(path_regex=STREAM)  # of a running process a stream would not end
bounded = settings(
    max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)


@requests.parametrize()
@bounded
def test_the_application_keeps_its_document(case: schemathesis.Case[Any]) -> None:
    """Whatever is sent, valid or not, is answered as the document says: status, type, schema, no error of ours."""
    case.call_and_validate()


@streams.parametrize()
@bounded
def test_streams_keep_the_document(case: schemathesis.Case[Any]) -> None:
    """So are requests for a stream, as far as they end."""
    case.call_and_validate()


async def described(*definitions: AnyDefinition, events: Iterable[Event[Any]] | None = None) -> dict[str, Any]:
    async with direct(app(ProcessClient("memory://"), definitions, events=events)) as web:
        document: dict[str, Any] = (await web.get("/openapi.json")).json()
        return document


async def test_a_start_is_described_by_the_function() -> None:
    """A path for each definition, with its docstring, its parameters by type, and only what has no default required."""
    document = await described(order)
    start = document["paths"]["/definitions/order/processes"]["post"]
    assert start["description"] == "An order: waits until it is paid."
    schemas = document["components"]["schemas"]
    given = schemas["order_input"]
    assert set(given["properties"]) == {"items", "address", "speed"}
    assert given["required"] == ["items", "address"]
    assert given["additionalProperties"] is False
    assert schemas["Speed"]["enum"] == ["slow", "fast"]
    assert schemas["Item"]["required"] == ["name", "price"]


async def test_events_are_described_with_their_payloads() -> None:
    """One event, several, none, or any: the body is what the application was given."""

    async def body(events: Iterable[Event[Any]] | None) -> Any:
        document = await described(events=events)
        content = document["paths"]["/processes/{id}/events"]["post"]["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    one = (await body([Paid]))["properties"]
    assert (one["event"]["const"], one["payload"]) == ("paid", {"$ref": "#/components/schemas/Payment"})
    assert set((await body(EVENTS))["discriminator"]["mapping"]) == {"paid", "note", "report", "finish"}
    assert (await body([]))["properties"]["event"]["maxLength"] == 0
    assert (await body(None))["properties"]["payload"] == {"title": "Payload"}


class Unknown:
    """A class that no JSON makes."""


@process
async def takes_unknown(proc: Process, thing: Unknown) -> None: ...


@process(name="order")
async def another_order(proc: Process) -> None: ...


def test_what_cannot_be_read_from_json_is_refused_at_once() -> None:
    """A parameter or payload of a class pydantic does not know, and two functions of one name, are named."""
    client = ProcessClient("memory://")
    with pytest.raises(InvalidDefinition, match="takes_unknown"):
        app(client, [takes_unknown])
    with pytest.raises(InvalidDefinition, match="'strange'"):
        app(client, events=[Event("strange", Unknown)])
    with pytest.raises(InvalidDefinition, match="Two process functions"):
        app(client, [order, another_order])


async def test_every_route_is_in_the_document() -> None:
    """What can be asked for is described, apart from the document itself."""
    routes = [route for route in app(ProcessClient("memory://"), [order]).routes if isinstance(route, Route)]
    paths = {route.path.replace(":path", "").removesuffix("/") for route in routes}
    document = await described(order)
    told = {path.replace("/definitions/order/", "/definitions/{definition}/") for path in document["paths"]}
    assert paths - told == {"/openapi.json"}
