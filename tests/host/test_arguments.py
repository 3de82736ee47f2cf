"""A wrong argument is an error of the line that wrote it, with what to write instead, and makes no silent host."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from durable import (
    EncodeError,
    Event,
    InvalidDefinition,
    InvalidName,
    JsonCodec,
    Process,
    ProcessClient,
    ProcessEnded,
    ProcessFailed,
    ProcessHost,
    ProcessNotFound,
    ResultNotReady,
    Retry,
    StorageUnavailable,
    UnknownScheme,
    process,
    run,
)
from durable.housekeeping import Retention
from durable.observer import Observer
from durable.run import HostOptions

SOON = timedelta(seconds=20)
NOBODY = timedelta(milliseconds=1)


@process
async def wait(proc: Process) -> str:
    payload: str = await proc.event("go")
    return payload


@process(queue="slow")
async def job(proc: Process) -> None:
    pass


@process
async def too_late(proc: Process) -> None:
    raise TimeoutError("nobody answered the process")


WRONG_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "queues of a str": ({"queues": "default"}, r"fix: write `queues=\['default'\]`"),
    "queues of a number": ({"queues": 5}, "a list of names"),
    "limit": ({"limit": 0}, "`limit` of a host is at least 1, not 0"),
    "limit of a str": ({"limit": "10"}, "`limit` of a host is a whole number"),
    "threads": ({"threads": 0}, "`threads` of a host is at least 1, not 0"),
    "threads of a bool": ({"threads": True}, "`threads` of a host is a whole number"),
    "max_pending": ({"max_pending": -1}, "`max_pending` of a host is at least 0, not -1"),
    "lease": ({"lease": timedelta(0)}, "`lease` of a host is at least 0:00:00.1"),
    "lease of a number": ({"lease": 5}, r"`lease` of a host is a timedelta, not 5\n  fix: write `timedelta\("),
    "grace": ({"grace": timedelta(-1)}, "`grace` of a host is at least 0:00:00"),
    "grace of a number": ({"grace": 5}, "`grace` of a host is a timedelta, not 5"),
    "park_after of a number": ({"park_after": 5}, "`park_after` of a host is a timedelta, not 5"),
    "payload_limit": ({"payload_limit": 0}, "`payload_limit` is at least 1"),
    "codec of a class": (
        {"codec": JsonCodec},
        r"`codec` is an object, not the class JsonCodec\n  fix: write `JsonCodec",
    ),
    "codec of a str": ({"codec": "json"}, "`codec` is no Codec: 'json'"),
    "observer of a class": ({"observer": Observer}, r"`observer` is an object.*\n  fix: write `Observer\("),
    "observer of something else": ({"observer": print}, "`observer` is no Observer: <built-in"),
    "retention of a length": ({"retention": timedelta(30)}, "`retention` is no Retention: datetime"),
}


@pytest.mark.parametrize(("options", "told"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_a_host_is_not_made_with_a_wrong_option(options: dict[str, Any], told: str) -> None:
    """Each option of a wrong type or out of its range is named, before anything is opened."""
    with pytest.raises(InvalidDefinition, match=told):
        ProcessHost("memory://never-opened", [wait], **options)


@pytest.mark.parametrize(("options"), [{"limit": 1, "threads": 1, "max_pending": 0}, {"grace": timedelta(0)}])
async def test_the_ends_of_the_ranges_can_be_used(options: dict[str, Any], url: str) -> None:
    """What the documentation calls the least there can be is taken, and such a host works."""
    async with ProcessHost(url, [wait], park_after=timedelta(0), **options) as host:
        handle = await host.start(wait())
        await host.raise_event(handle.id, "go", "went")
        assert await handle.result(SOON) == "went"


def test_queues_and_hosts_need_names() -> None:
    """What cannot be the name of a queue or host is refused as such."""
    with pytest.raises(InvalidName, match="The queue name must not be empty"):
        ProcessHost("memory://never-opened", [wait], queues=[""])
    with pytest.raises(InvalidName, match="The host name must be a string, not int"):
        ProcessHost("memory://never-opened", [wait], name=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("definitions", "told"), [(wait, r"write `\[wait\]`"), (5, "are a list"), (len, "are a list")])
def test_definitions_are_a_list(definitions: Any, told: str) -> None:
    """A single process function, and anything that is no list, is refused with what to write."""
    with pytest.raises(InvalidDefinition, match=told):
        ProcessHost("memory://never-opened", definitions)


WRONG_RETRIES: dict[str, tuple[dict[str, Any], str]] = {
    "delay": ({"delay": 5}, r"a timedelta as delay, not 5\n  fix: write `delay=timedelta\(seconds"),
    "longest": ({"longest": 60.0}, "a timedelta as longest"),
    "attempts": ({"attempts": "3"}, "a whole number of attempts"),
    "attempts of a float": ({"attempts": 3.5}, "a whole number of attempts"),
    "factor": ({"factor": "2"}, "a number as factor"),
    "jitter": ({"jitter": None}, "a number as jitter"),
    "on a str": ({"on": "OSError"}, "exception classes"),
    "on a list": ({"on": [OSError]}, "fix: write `on=ConnectionError`"),
    "on another class": ({"on": str}, "exception classes"),
    "on a tuple of something else": ({"on": (OSError, "EOFError")}, "exception classes"),
}


@pytest.mark.parametrize(("options", "told"), WRONG_RETRIES.values(), ids=WRONG_RETRIES)
def test_a_retry_is_not_made_with_a_wrong_argument(options: dict[str, Any], told: str) -> None:
    """Arguments of a wrong type are refused where the retry is written, not when an action fails."""
    with pytest.raises(InvalidDefinition, match=told):
        Retry(**options)


@pytest.mark.parametrize("on", [OSError, (OSError, EOFError), (), lambda error: True, str.isdigit])
def test_a_retry_may_be_on_classes_and_functions(on: Any) -> None:
    """Whatever `on` is documented to take is taken."""
    assert Retry(on=on, attempts=None, factor=1, jitter=0).on is on


@pytest.mark.parametrize("timeout", [5, timedelta(0), timedelta(seconds=-1)])
def test_the_timeout_of_a_process_is_a_positive_length(timeout: Any) -> None:
    """A definition with another one is refused where it is written."""

    async def function(proc: Process) -> None: ...

    with pytest.raises(InvalidDefinition, match="no positive timedelta"):
        process(timeout=timeout)(function)


def test_an_archive_is_a_url() -> None:
    """A folder is refused with its URL, also one given as a path; an empty text with how URLs look."""
    with pytest.raises(InvalidDefinition, match="fix: write file:///tmp/arch"):
        Retention(timedelta(0), "/tmp/arch")
    with pytest.raises(InvalidDefinition, match="fix: write file:///folder or"):
        Retention(timedelta(0), "")
    with pytest.raises(InvalidDefinition, match="`keep` of Retention is a timedelta"):
        Retention(30, None)  # type: ignore[arg-type]


async def test_the_timeout_of_a_result_is_a_length(url: str) -> None:
    """A number is refused with what to write, and not in the middle of the waiting."""
    async with ProcessHost(url, [wait]) as host:
        handle = await host.start(wait())
        with pytest.raises(InvalidDefinition, match=r"`timeout` of `result` is a timedelta, not 5"):
            await handle.result(5)  # type: ignore[arg-type]


async def test_a_timeout_of_zero_only_looks(url: str) -> None:
    """A result that is there is given at once, one that is not there is not waited for."""
    async with ProcessHost(url, [wait]) as host, ProcessClient(url) as client:
        handle = await host.start(wait(), id="p")
        for connection in (host, client):
            with pytest.raises(ResultNotReady):
                await connection.get("p").result(timedelta(0))
        await host.raise_event("p", "go", 1)
        result = await handle.result()
        for connection in (host, client):
            assert await connection.get("p").result(timedelta(0)) == result


async def test_a_result_that_is_not_there_yet_is_told_from_a_timeout_of_the_process(url: str) -> None:
    """`ResultNotReady` is the caller's own timeout, and only that; both are a `TimeoutError`."""
    async with ProcessHost(url, [wait, too_late]) as host, ProcessClient(url) as client:
        waiting = await host.start(wait(), id="waiting")
        for handle in (waiting, client.get("waiting")):
            for length in (NOBODY, timedelta(0), timedelta(-1)):
                with pytest.raises(ResultNotReady, match=f"'waiting' has not ended within {length}"):
                    await handle.result(length)
        failed = await host.start(too_late())
        with pytest.raises(TimeoutError, match="nobody answered the process") as caught:
            await failed.result(SOON)
        assert not isinstance(caught.value, ResultNotReady)
        await waiting.cancel()


async def test_a_process_that_gave_up_on_another_one_has_failed(url: str) -> None:
    """`ResultNotReady` out of an action is a failure of that process, for ever, and not told as "ask again"."""

    @process(name="asks")
    async def asks(proc: Process) -> None:
        await proc.do(lambda: host.get("waiting").result(NOBODY), "asked")

    async with ProcessHost(url, [wait, asks]) as host:
        await host.start(wait(), id="waiting")
        handle = await host.start(asks(), id="asking")
        with pytest.raises(ProcessFailed, match="'asking' failed: Process 'waiting' has not ended") as caught:
            await handle.result(SOON)
        assert caught.value.type_name == "durable.errors.ResultNotReady"
        assert not isinstance(caught.value, TimeoutError)


async def test_processes_are_counted_by_several_statuses(url: str) -> None:
    """`count` takes what `list` takes, and both name the statuses there are when asked for another."""
    async with ProcessHost(url, [wait, too_late]) as host:
        await host.start(wait())
        with pytest.raises(TimeoutError):
            await (await host.start(too_late())).result(SOON)
        assert await host.count(status="running") == await host.count(status=["failed"]) == 1
        assert await host.count(status=["running", "failed"]) == await host.count() == 2
        for ask in (host.list, host.count):
            with pytest.raises(ValueError, match=r"'done' is not .*are running, stalled, completed, failed"):
                await ask(status="done")


async def test_a_page_has_at_least_one_line(url: str) -> None:
    """`list` takes no limit that is not a whole number of at least 1."""
    async with ProcessHost(url, [wait]) as host:
        for limit in (0, "10"):
            with pytest.raises(InvalidDefinition, match="`limit` of `list` is "):
                await host.list(limit=limit)  # type: ignore[arg-type]


async def test_an_event_that_cannot_be_written_is_named(url: str) -> None:
    """The error names event and payload, and the part of the payload; nothing of how it is kept."""
    async with ProcessHost(url, [wait]) as host:
        handle = await host.start(wait())
        with pytest.raises(EncodeError, match=r"payload of event 'go': Cannot encode value: ") as caught:
            await host.raise_event(handle.id, "go", object())
        assert caught.value.path == "value"
        with pytest.raises(EncodeError, match=r"event 'paid': Cannot encode value\['by'\]: "):
            await host.raise_event(handle.id, Event("paid", dict), {"by": object()}, key="card")


async def test_who_is_not_found_and_what_has_ended_have_a_next_step(url: str) -> None:
    """The two errors of a wrong or late id say what to do about it."""
    async with ProcessHost(url, [job]) as host:
        with pytest.raises(ProcessNotFound, match="fix: compare the id and the URL"):
            await host.get("nobody").status()
        handle = await host.start(job())
        await handle.result(SOON)
        with pytest.raises(ProcessEnded, match=r"fix: its `result\(\)`"):
            await handle.cancel()


def test_a_file_is_no_url() -> None:
    """The name of a file is refused with the URL that is meant, an unknown scheme with those there are."""
    with pytest.raises(UnknownScheme, match=r"fix: write sqlite:///processes\.db"):
        ProcessClient("processes.db")
    with pytest.raises(UnknownScheme, match=r"known: .*sqlite"):
        ProcessClient("mysql://somewhere/processes")


@pytest.mark.parametrize("store", [None, ProcessClient, open, ["sqlite:///a.db"]])
def test_a_store_is_a_url_or_stores_journals(store: Any) -> None:
    """What is neither is refused before anything is opened."""
    with pytest.raises(InvalidDefinition, match="a URL or a `JournalStorage`, not "):
        ProcessHost(store, [wait])


def test_a_path_is_no_url() -> None:
    """A path, which has an `open` too, is refused with the URL that is meant."""
    for path, url in ((Path("a.db"), "sqlite:///a.db"), (Path("/var/a.db"), "sqlite:////var/a.db")):
        with pytest.raises(InvalidDefinition, match=f"by its URL, not by a path.*\n  fix: write '{url}'"):
            ProcessClient(path)  # type: ignore[arg-type]


def test_run_takes_an_invocation() -> None:
    """The process function itself is refused with what to write, before anything is opened."""
    with pytest.raises(
        InvalidDefinition, match=r"`run` takes an invocation, .*\n.*`run\(the_function\(arguments\), id=…"
    ):
        run(wait, id="w", url="memory://never-opened")  # type: ignore[arg-type]


def test_run_takes_what_a_host_takes() -> None:
    """The options of `run` are those of `ProcessHost`, with the same types."""
    hints = get_type_hints(ProcessHost.__init__)
    options = {
        name: hints[name]
        for name, parameter in inspect.signature(ProcessHost).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert get_type_hints(HostOptions) == options


async def test_a_server_that_is_away_is_not_said_to_be_tried_again(unused_tcp_port: int) -> None:
    """Entering a host fails at once where there is no server, and says who tries again and who does not."""
    with pytest.raises(StorageUnavailable, match="a host that runs tries again by itself, anything else is yours"):
        async with ProcessHost(f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/shop?patience=1", [wait]):
            pass
