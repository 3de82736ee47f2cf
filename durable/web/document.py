"""
The OpenAPI 3.1 document: made from the definitions and events that are served, by the adapters that read the requests.

``schemas`` holds what answers look like; here is which request gives which. WebSocket has no place in OpenAPI, so it is
told in words. Each start has a path of its own, so that a client made from the document has a typed method for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DecimalSchema

from durable.journal import ID_LIMIT
from durable.web.access import Limits
from durable.web.endpoints import Listing, Records, Waiting
from durable.web.inputs import REASON, VISIBLE, Body, EventRequest, Startable
from durable.web.problems import PROBLEM
from durable.web.schemas import ANSWERS

_REFERENCE = "#/components/schemas/{model}"
_EVENT, _REASON = "an event", "a reason"  # names for bodies beside those of definitions, which are tuples

_PROBLEMS = {
    400: "The request is no HTTP that makes sense.",
    401: "Credentials are asked for.",
    403: "Whoever asks may not do this.",
    404: "There is no such process or process function.",
    405: "Another method is meant.",
    409: "It has ended, or the id is taken by another process.",
    413: "The body, or a value in it, is too long.",
    415: "The body is not JSON.",
    422: "Some part of the request is invalid; `errors` says which.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The host is busy or the store does not answer; come back later.",
}

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The id of a process, percent-encoded.",
    "schema": {"type": "string", "minLength": 1, "maxLength": ID_LIMIT},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Becomes the id of the process: the same request with the same key starts it once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": ID_LIMIT, "pattern": VISIBLE},
}
_LOCATION = {
    "Location": {
        "required": True,
        "description": "The path of the process, relative to that of the request.",
        "schema": {"type": "string", "format": "uri-reference"},
    }
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was seen. The query parameter `last_event_id` does the same.",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of the state that is known.",
    "schema": {"type": "string"},
}


class _Schemas(GenerateJsonSchema):
    """pydantic's own, which takes any text for a decimal where it describes what is read."""

    def decimal_schema(self, schema: DecimalSchema) -> JsonSchemaValue:
        described = super().decimal_schema(schema)
        for form in described.get("anyOf", []):
            if form.get("type") == "string":
                form.setdefault("pattern", r"^[+-]?[0-9]+(\.[0-9]+)?$")
        return described


def document(
    startables: Iterable[Startable], event: Body[EventRequest], limits: Limits, title: str, *, is_protected: bool
) -> dict[str, Any]:
    """The document of an application that serves these."""
    startables = list(startables)
    bodies: dict[Any, TypeAdapter[Any]] = {_EVENT: event.adapter, _REASON: REASON.adapter}
    bodies |= {("start", one.definition.name): one.body.adapter for one in startables}
    schemas, shared = TypeAdapter.json_schemas(
        [(key, "validation", adapter) for key, adapter in bodies.items()],
        ref_template=_REFERENCE,
        schema_generator=_Schemas,
    )
    described = {key: schema for (key, _), schema in schemas.items()}
    paths = dict(_start(one, described["start", one.definition.name]) for one in startables)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": _description(limits, is_protected)},
        "paths": paths | _paths(described[_EVENT], described[_REASON]),
        "components": {"schemas": ANSWERS | shared.get("$defs", {})},
    }


def _description(limits: Limits, is_protected: bool) -> str:
    rate = "any number of" if limits.rate is None else f"{limits.rate}"
    return (
        f"Bodies hold at most {limits.body} bytes; {rate} requests per second are answered.\n\n"
        "`/processes/{id}/watch` speaks WebSocket, too: each message is `{id, data}`, as the events of the stream.\n\n"
        + ("Requests need credentials." if is_protected else "No credentials are asked for.")
    )


def _start(startable: Startable, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    definition = startable.definition
    about = (definition.function.__doc__ or "").strip()
    return f"/definitions/{quote(definition.name, safe='')}/processes", {
        "post": {
            "operationId": f"start {definition.name}",
            "summary": f"Start {definition.name}",
            **({"description": about} if about else {}),
            "parameters": [_IDEMPOTENCY_KEY],
            "requestBody": _json_body(body, required=True),
            "responses": {
                "201": {**_answer("This request has created it.", "Process"), "headers": _LOCATION},
                "200": {**_answer("The same was there already.", "Process"), "headers": _LOCATION},
                **_problems(403, 409, 413, 415, 422, 429, 503),
            },
        }
    }


def _paths(event: Mapping[str, Any], reason: Mapping[str, Any]) -> dict[str, Any]:
    listed = _answer("A page, newest first.", "Processes")
    return {
        "/processes": {"get": _get("list", "List processes", listed, *_query(Listing))},
        "/processes/{id}": {
            "get": _get(
                "status",
                "How a process stands",
                _answer("Its state; `ETag` names it.", "Process"),
                _ID,
                _IF_NONE_MATCH,
                *_query(Waiting),
                others={"304": {"description": "It is as in `If-None-Match`, for as long as `wait` says."}},
            )
        },
        "/processes/{id}/result": {
            "get": _get(
                "result",
                "What came of a process",
                _answer("It has ended, with a result or an error.", "Outcome"),
                _ID,
                *_query(Waiting),
                others={"202": _answer("It has not ended yet.", "Process")},
            )
        },
        "/processes/{id}/history": {
            "get": _get("history", "Its journal", _answer("Records.", "History"), _ID, *_query(Records))
        },
        "/processes/{id}/watch": {
            "get": _get(
                "watch",
                "Its state and each change, as Server-Sent Events",
                {
                    "description": "Events `status` with a `Process` as data, until it has ended.",
                    "content": {"text/event-stream": {"schema": {"$ref": _REFERENCE.format(model="Event")}}},
                },
                _ID,
                _LAST_EVENT_ID,
                others={"204": {"description": "Its end was seen; there is nothing more to come."}},
            )
        },
        "/processes/{id}/events": {"post": _post("raise event", "Send it an event", event, required=True)},
        "/processes/{id}/cancel": {"post": _post("cancel", "Ask it to stop; it may compensate", reason)},
        "/processes/{id}/terminate": {"post": _post("terminate", "End it without running its code", reason)},
        "/processes/{id}/resume": {"post": _post("resume", "Let it try again, if it is stalled")},
        "/health": {"get": _service("health", "Whether this program answers")},
        "/ready": {"get": _service("ready", "Whether the store answers, too", 503)},
    }


def _get(
    name: str, summary: str, answer: Mapping[str, Any], *parameters: Any, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    responses = {"200": answer, **(others or {}), **_problems(403, 404, 422, 429, 503)}
    return {"operationId": name, "summary": summary, "parameters": list(parameters), "responses": responses}


def _post(name: str, summary: str, body: Mapping[str, Any] | None = None, *, required: bool = False) -> dict[str, Any]:
    accepted = {"202": {"description": "It is on storage, and the process will be told."}}
    responses = accepted | _problems(403, 404, 409, 413, 415, 422, 429, 503)
    described: dict[str, Any] = {"operationId": name, "summary": summary, "parameters": [_ID], "responses": responses}
    if body is not None:
        described["requestBody"] = _json_body(body, required=required)
    return described


def _service(name: str, summary: str, *problems: int) -> dict[str, Any]:
    responses = {"200": _answer("Yes.", "Service"), **_problems(*problems)}
    return {"operationId": name, "summary": summary, "responses": responses}


def _query(kind: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a query, each a parameter."""
    schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE)
    return [
        {"name": name, "in": "query", "schema": _inline(field, schema.get("$defs", {}))}
        for name, field in schema["properties"].items()
    ]


def _inline(field: Any, shared: Mapping[str, Any]) -> Any:
    """A field without references, and without the null of what is not given: a query has no null."""
    if isinstance(field, list):
        return [_inline(part, shared) for part in field if part != {"type": "null"}]
    if not isinstance(field, dict):
        return field
    if "$ref" in field:
        return shared[field["$ref"].rpartition("/")[2]]
    return {key: _inline(part, shared) for key, part in field.items() if (key, part) != ("default", None)}


def _json_body(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _answer(description: str, name: str) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=name)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: int) -> dict[str, Any]:
    content = {PROBLEM: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}
    return {str(status): {"description": _PROBLEMS[status], "content": content} for status in statuses}
