"""What answers look like, as JSON Schema for the OpenAPI document; `pictures` and `problems` write them."""

from __future__ import annotations

from typing import Any

from durable.storage import Status


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_NUMBER = {"type": ["number", "string"], "description": "A number, or one that JSON lacks: Infinity, -Infinity, NaN."}

_PROCESS = {
    "id": _TEXT,
    "definition": _TEXT,
    "status": {"enum": [status.value for status in Status]},
    "ended": {"type": "boolean"},
    "created_at": _TIME,
    "ended_at": {"type": ["string", "null"], "format": "date-time"},
    "reason": _TEXT_OR_NULL | {"description": "Why it is stalled, cancelled or terminated."},
    "progress": {"anyOf": [{"$ref": "#/components/schemas/Progress"}, {"type": "null"}]},
    "waits_for": {"type": "array", "items": _TEXT},
}

ANSWERS: dict[str, Any] = {
    "Progress": _object(
        {
            "done": _NUMBER,
            "total": {"anyOf": [_NUMBER, {"type": "null"}]},
            "message": _TEXT,
            "steps": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/Progress"},
                "description": "What each action that runs says of itself, by the name of its checkpoint.",
            },
        }
    ),
    "Process": _object(_PROCESS),
    "Processes": _object({"processes": _list_of("Process"), "next": _TEXT_OR_NULL}),
    "Outcome": _object(
        {
            **_PROCESS,
            "result": {"description": "What the process function returned, if it completed."},
            "error": {"anyOf": [{"$ref": "#/components/schemas/Failure"}, {"type": "null"}]},
        }
    ),
    "Failure": _object(
        {
            "type": _TEXT | {"description": "The class of the exception."},
            "message": _TEXT,
            "code": _TEXT,
            "cause": {"$ref": "#/components/schemas/Failure"},
        },
        optional=("code", "cause"),
    ),
    "History": _object(
        {
            "records": _list_of("Record"),
            "next": {"type": ["integer", "null"], "description": "For `after`, where there are more."},
        }
    ),
    "Record": _object(
        {"seq": {"type": "integer"}, "kind": _TEXT, "name": _TEXT, "time": _TIME, "value": {}},
    ),
    "Event": _object(
        {"id": _TEXT, "event": {"const": "status"}, "data": _TEXT | {"description": "A `Process`, as JSON."}}
    ),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "code": _TEXT | {"description": "The code of the error; see the documentation of errors."},
            "fix": _TEXT,
            "facts": {"type": "object", "additionalProperties": _TEXT},
            "errors": {"type": "array", "items": {"type": "object"}},
        },
        optional=("detail", "code", "fix", "facts", "errors"),
    ),
    "Service": _object({"status": {"const": "ok"}}),
}
