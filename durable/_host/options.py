"""
What hosts, clients and handles are given, checked where it is given.

A wrong argument is an error of the line that wrote it; taken as it is, it makes a host that does nothing, in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from os import PathLike, fspath
from typing import Any, TypeVar

from durable.errors import InvalidDefinition
from durable.invocation import AnyDefinition, Invocation
from durable.journal import check_name
from durable.storage import JournalStorage, Status

K = TypeVar("K")

SHORTEST_LEASE = timedelta(milliseconds=100)


def check_length(length: object, what: str, least: timedelta | None = timedelta(0)) -> timedelta:
    """
    Return *length* if it is a timedelta of at least *least*; *what* names it in the error ("`lease` of a host").

    Raises:
        InvalidDefinition: It is something else, or too short.
    """
    if not isinstance(length, timedelta):
        raise InvalidDefinition(f"{what} is a timedelta, not {length!r:.80}", fix="write `timedelta(seconds=…)`")
    if least is not None and length < least:
        raise InvalidDefinition(f"{what} is at least {least}, not {length}")
    return length


def check_number(number: object, what: str, least: int = 1) -> int:
    """
    Return *number* if it is a whole one of at least *least*; *what* names it in the error ("`threads` of a host").

    Raises:
        InvalidDefinition: It is something else, or too small.
    """
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidDefinition(f"{what} is a whole number, not {number!r:.80}")
    if number < least:
        raise InvalidDefinition(f"{what} is at least {least}, not {number}")
    return number


def check_object(given: K, kind: type[Any], what: str) -> K:
    """
    Return *given* if it is a *kind*; *what* names it in the error ("`codec`").

    Raises:
        InvalidDefinition: It is something else, or a class where an object of it is meant, as is easily written.
    """
    if isinstance(given, type):
        name = given.__name__
        raise InvalidDefinition(f"{what} is an object, not the class {name}", fix=f"write `{name}(…)`")
    if not isinstance(given, kind):
        raise InvalidDefinition(f"{what} is no {kind.__name__}: {given!r:.80}")
    return given


def check_store(store: JournalStorage) -> JournalStorage:
    """
    Return *store*, which was given instead of a URL, if it can be one.

    Raises:
        InvalidDefinition: It is something else, as the path of a file.
    """
    if isinstance(store, PathLike):
        fix = f"write {f'sqlite:///{fspath(store)}'!r}"
        raise InvalidDefinition(f"A store is told by its URL, not by a path: {store!r:.80}", fix=fix)
    if isinstance(store, type) or not hasattr(store, "commit"):  # a wrapper may have its methods by `__getattr__`
        raise InvalidDefinition(f"A store is a URL or a `JournalStorage`, not {store!r:.80}")
    return store


def check_invocation(invocation: object, caller: str) -> None:
    """
    Check what *caller*, a function, was given to start.

    Raises:
        InvalidDefinition: It is no invocation: the process function itself, as a rule.
    """
    if not isinstance(invocation, Invocation):
        raise InvalidDefinition(
            f"`{caller}` takes an invocation, not {invocation!r:.80}",
            fix=f"call the process function: `{caller}(the_function(arguments), id=…)`",
        )


def check_statuses(status: Status | str | Iterable[Status | str]) -> list[Status]:
    """
    The status, or each of several, that processes are asked for by.

    Raises:
        ValueError: There is no such status.
    """
    asked = [status] if isinstance(status, str) else list(status)
    try:
        return [Status(one) for one in asked]
    except ValueError as error:
        known = ", ".join(one.value for one in Status)
        raise ValueError(f"{error}; the statuses of processes are {known}") from None


def by_name(definitions: Iterable[AnyDefinition]) -> dict[str, AnyDefinition]:
    """
    The definitions of a host by their names.

    Raises:
        InvalidDefinition: It is no list of process functions, or two have one name.
    """
    if isinstance(definitions, AnyDefinition) or not isinstance(definitions, Iterable):
        fix = f"write `[{definitions.name}]`" if isinstance(definitions, AnyDefinition) else "write `[the_function]`"
        raise InvalidDefinition(f"The definitions of a host are a list, not {definitions!r:.80}", fix=fix)
    found: dict[str, AnyDefinition] = {}
    for definition in definitions:
        if not isinstance(definition, AnyDefinition):
            raise InvalidDefinition(
                f"{definition!r:.80} is not a process function", fix="mark the `async def` with `@process`"
            )
        if definition.name in found and found[definition.name] is not definition:
            raise InvalidDefinition(
                f"Two process functions of one host are called {definition.name!r}",
                fix='give one of them another durable name: `@process(name="…")`',
            )
        found[definition.name] = definition
    return found


def check_queues(queues: Iterable[str]) -> frozenset[str]:
    """
    The queues a host was told to serve.

    Raises:
        InvalidDefinition: It is no list of names; a single string would be taken for a list of its letters.
        InvalidName: One of them cannot be the name of a queue.
    """
    if isinstance(queues, str | bytes) or not isinstance(queues, Iterable):
        fix = f"write `queues=[{queues!r:.80}]`" if isinstance(queues, str) else 'write `queues=["default"]`'
        raise InvalidDefinition(f"The queues of a host are a list of names, not {queues!r:.80}", fix=fix)
    return frozenset(check_name(queue, "queue name") for queue in queues)


def left_out(definitions: Mapping[str, AnyDefinition], queues: frozenset[str]) -> tuple[str, bool]:
    """
    The definitions that no queue of a host serves, in words, and whether that looks like a mistake.

    Several hosts may share one list of definitions and serve some of its queues each, which is no mistake. It looks
    like one if a host runs nothing of what it was given, or serves a queue of none of them as well, as after a typo.
    """
    names = [f"{one.name} (queue {one.queue!r})" for one in definitions.values() if one.queue not in queues]
    own = {definition.queue for definition in definitions.values()}
    return ", ".join(names), bool(names) and not (queues and queues <= own)


def without_secrets(url: str) -> str:
    """The URL of a store for a log: without user, password and options, which may be secrets, too."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    if not separator:
        return f"{scheme.partition(':')[0]}:…"
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
