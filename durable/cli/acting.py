"""`raise`, `cancel`, `terminate`, `resume`: mail for a process. Its host carries it out, at once if one is running."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from durable.cli import applications, options
from durable.cli.output import say, say_json
from durable.cli.stores import check_exists
from durable.client import ProcessClient
from durable.codec import JsonCodec
from durable.errors import DecodeError, UnknownClass
from durable.storage import Status

Payload = Annotated[
    str,
    typer.Argument(
        metavar="PAYLOAD",
        help='JSON; {"$datetime": "2026-11-23T10:00:00+00:00"} and so on for what JSON has not.',
    ),
]


def raise_event(
    url: options.Url,
    id: options.Id,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Name of the event.")],
    payload: Payload = "null",
    key: Annotated[str | None, typer.Option("--key", help="De-duplicates: raised again with this key, once.")] = None,
    app: options.App = None,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """Raise an event for a process, which takes it now or later."""
    if app is not None:
        applications.load(app)
    try:
        value = JsonCodec().decode(payload.encode())
    except UnknownClass:
        raise  # it is well written, and its class is not loaded: the text says what to do
    except DecodeError as error:
        raise typer.BadParameter(_why_not(payload, error), param_hint="PAYLOAD") from None
    _act(url, codec, lambda client: client.raise_event(id, event, value, key=key))
    _say(id, "raised", f"event {event!r} was raised for process {id!r}", as_json)


def cancel(
    url: options.Url,
    id: options.Id,
    reason: Annotated[str, typer.Option("--reason", help="Why; the process sees it.")] = "from the command line",
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """Ask a process to stop; it may compensate, and may take its time."""
    _act(url, codec, lambda client: client.cancel(id, reason))
    _say(id, "cancel requested", f"process {id!r} was asked to stop", as_json)


def terminate(
    url: options.Url,
    id: options.Id,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the journal.")] = "from the command line",
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """End a process without running any of its code: no compensation. For one that cannot be saved."""
    _act(url, codec, lambda client: client.terminate(id, reason))
    _say(id, "terminate requested", f"process {id!r} will be ended by a host, without running its code", as_json)


def resume(
    url: options.Url,
    id: options.Id,
    as_json: options.Json = False,
) -> None:
    """Let a stalled process try again, with the code its hosts have now."""
    is_running = False

    async def try_again(client: ProcessClient) -> None:
        nonlocal is_running
        is_running = (await client.get(id).status()).status is Status.RUNNING
        if not is_running:
            await client.resume(id)

    _act(url, "msgpack", try_again)
    if is_running:
        _say(id, "nothing", f"process {id!r} is not stalled, so there is nothing to do", as_json)
    else:
        _say(id, "resume requested", f"process {id!r} tries again as soon as a host takes it", as_json)


def _why_not(payload: str, error: DecodeError) -> str:
    """What is wrong with *payload*; mostly it is a text without its quotes."""
    try:
        json.loads(payload)
    except ValueError as wrong:
        text = shlex.quote(json.dumps(payload, ensure_ascii=False))
        return f"{payload!r} is not JSON ({wrong}); text is written {text}"
    return str(error.args[0])


def _act(url: str, codec: str, act: Callable[[ProcessClient], Awaitable[None]]) -> None:
    values = applications.codec(codec)

    async def run() -> None:
        check_exists(url)
        async with ProcessClient(url, codec=values) as client:
            await act(client)

    asyncio.run(run())


def _say(id: str, done: str, sentence: str, as_json: bool) -> None:
    if as_json:
        say_json({"id": id, "done": done})
    else:
        say(sentence)
