"""
What comes in: JSON to typed arguments and event payloads, by the annotations of process functions and events.

pydantic reads the JSON of a body straight into the annotated types (builtins, dataclasses, named tuples, enums, models
of its own, …) and writes the schemas of the OpenAPI document from the same adapters. It is strict: a text is no number.
A parameter without annotation takes any JSON. Nothing but JSON is ever decoded here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar, get_type_hints

from pydantic import ConfigDict, Discriminator, Field, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from durable.errors import InvalidDefinition
from durable.event import Event
from durable.invocation import AnyDefinition, Invocation
from durable.journal import ID_LIMIT, NAME_LIMIT
from durable.web.problems import Invalid

T = TypeVar("T")

_NO_NUL = r"^[^\x00]+$"
Id = Annotated[str, Field(min_length=1, max_length=ID_LIMIT, pattern=_NO_NUL)]
VISIBLE = "^[!-~]([ -~]*[!-~])?$"  # what a header may hold on every way here
Key = Annotated[str, Field(min_length=1, max_length=ID_LIMIT, pattern=VISIBLE)]
Cursor = Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT, pattern=_NO_NUL)]
_EXACT = ConfigDict(extra="forbid")


class Body(Generic[T]):
    """The JSON body of a request, of a type that pydantic knows."""

    def __init__(self, kind: Any) -> None:
        self.adapter: TypeAdapter[T] = TypeAdapter(kind)

    def read(self, body: bytes) -> T:
        """
        The body as that type.

        Raises:
            Invalid: It is not JSON, or not of that type.
        """
        try:
            return self.adapter.validate_json(body, strict=True)
        except ValidationError as error:
            raise Invalid.of(error, "body") from None


# --- starting ---------------------------------------------------------------------------------------------------


class StartRequest(TypedDict):
    """What the body of a start holds; each definition has its own type of input."""

    id: NotRequired[str]
    input: NotRequired[dict[str, Any]]


class Startable:
    """
    A definition that can be started by name.

    Raises:
        InvalidDefinition: pydantic cannot read one of its parameters from JSON.
    """

    def __init__(self, definition: AnyDefinition) -> None:
        self.definition = definition
        parameters = list(inspect.signature(definition.function).parameters.values())[1:]
        self._by_position = [one for one in parameters if one.kind is one.POSITIONAL_ONLY]
        try:
            self.body: Body[StartRequest] = Body(_start_type(definition, parameters))
        except (PydanticUserError, NameError, TypeError) as error:
            raise InvalidDefinition(
                f"The parameters of {definition.name!r} cannot be read from JSON: {_first_line(error)}",
                fix="annotate them with types pydantic knows, importable where the function stands; or do not serve it",
            ) from error

    def invocation(self, request: StartRequest) -> Invocation[Any]:
        """The invocation that a valid *request* asks for."""
        given = dict(request.get("input", {}))
        # By name, as it came, apart from what no name reaches. There a value needs all those before it.
        reached = max((number for number, one in enumerate(self._by_position, 1) if one.name in given), default=0)
        args = tuple(given.pop(one.name, one.default) for one in self._by_position[:reached])
        return Invocation(self.definition, args, given)


def _start_type(definition: AnyDefinition, parameters: Iterable[inspect.Parameter]) -> Any:
    hints = get_type_hints(definition.function, include_extras=True)
    fields: dict[str, Any] = {}
    for one in parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue  # what has no name of its own is not offered
        kind = hints.get(one.name, Any)
        fields[one.name] = kind if one.default is one.empty else NotRequired[kind]
    needs_input = any(one.default is one.empty and one.name in fields for one in parameters)
    given = _typed_dict(f"{definition.name} input", fields)
    return _typed_dict(
        f"{definition.name} start", {"id": NotRequired[Id], "input": given if needs_input else NotRequired[given]}
    )


def _typed_dict(name: str, fields: Mapping[str, Any]) -> Any:
    # A TypedDict and not a model: any parameter may be called anything, and what is not given is left to the function.
    make: Any = TypedDict  # called with what is only known when it runs, which no checker follows
    return with_config(_EXACT)(make(name, dict(fields)))


# --- the other bodies -------------------------------------------------------------------------------------------


class EventRequest(TypedDict):
    """An event to raise; ``key`` makes raising it twice the same as once."""

    event: str
    payload: NotRequired[Any]
    key: NotRequired[str]


def event_body(events: Iterable[Event[Any]] | None) -> Body[EventRequest]:
    """The body of a raise: one of *events* with a payload of its type, or of any name with any JSON."""
    if events is None:
        return Body(_typed_dict("event", {"event": Name, "payload": NotRequired[Any], "key": NotRequired[Id]}))
    kinds = {one.name: _event_type(one) for one in events}
    if not kinds:
        return Body(_typed_dict("no event", {"event": Annotated[str, Field(min_length=1, max_length=0)]}))
    # `Union[a, b]` of what is only known when it runs.
    return Body(
        Annotated[reduce(or_, kinds.values()), Discriminator("event")] if len(kinds) > 1 else kinds.popitem()[1]
    )


def _event_type(event: Event[Any]) -> Any:
    fields = {"event": Literal[event.name], "payload": event.type, "key": NotRequired[Id]}
    try:
        TypeAdapter(event.type)
    except (PydanticUserError, TypeError) as error:
        raise InvalidDefinition(
            f"The payload of event {event.name!r} cannot be read from JSON: {_first_line(error)}",
            fix="give the event a type pydantic knows, or do not serve it",
        ) from error
    return _typed_dict(f"event {event.name}", fields)


@with_config(_EXACT)
class ReasonRequest(TypedDict):
    """Why something is asked for."""

    reason: NotRequired[Annotated[str, Field(min_length=1, max_length=ID_LIMIT, pattern=_NO_NUL)]]


REASON: Body[ReasonRequest] = Body(ReasonRequest)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
