"""Each request over ASGI in memory: what it does, what it answers, what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from durable import Process, ProcessClient, ProcessHost, ProcessStatus, process
from durable.storage import Status, open_storage
from durable.web import Limits, app
from tests.web.counting import Counted
from tests.web.served import SOON, direct
from tests.web.shop import SHOP, echo, failing, order, reporting

ORDER: dict[str, Any] = {"items": [{"name": "tea", "price": "2.50"}], "address": {"street": "Main 1"}}
PAYMENT = {"card": "card-17", "at": "2026-11-21T10:00:00Z"}
START = "/definitions/order/processes"


async def start(web: httpx.AsyncClient, id: str, given: dict[str, Any] | None = None) -> httpx.Response:
    return await web.post(START, json={"id": id, "input": ORDER if given is None else given})


# --- start ---


async def test_a_start_is_typed_by_the_function(web: httpx.AsyncClient) -> None:
    """Arguments arrive as the annotated classes: a dataclass, a model, an enum; the result shows that they were."""
    answer = await start(web, "order-1", ORDER | {"speed": "fast"})
    assert (answer.status_code, answer.json()["status"]) == (201, "running")
    await web.post("/processes/order-1/events", json={"event": "paid", "payload": PAYMENT})
    outcome = (await web.get("/processes/order-1/result", params={"wait": SOON})).json()
    assert outcome["result"] == "2.50 by card-17 to Zürich, fast"


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"items": [], "address": {}}, ["body", "input", "address", "street"]),
        (
            {"items": [{"name": "tea", "price": "much"}], "address": {"street": "x"}},
            ["body", "input", "items", 0, "price"],
        ),
        (ORDER | {"speed": "medium"}, ["body", "input", "speed"]),
        (ORDER | {"gift": True}, ["body", "input", "gift"]),
        (ORDER | {"items": "tea"}, ["body", "input", "items"]),
        ({"address": {"street": "x"}}, ["body", "input", "items"]),
    ],
)
async def test_invalid_arguments_are_named(
    web: httpx.AsyncClient, host: ProcessHost, given: dict[str, Any], where: list[Any]
) -> None:
    """What does not fit the function is a problem that says where, and nothing is started."""
    answer = await start(web, "order-1", given)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert where in [error["loc"] for error in answer.json()["errors"]]
    assert answer.json()["detail"].startswith("body.input")
    assert await host.count() == 0


async def test_the_same_start_is_one_process(web: httpx.AsyncClient, host: ProcessHost) -> None:
    """By header or in the body: the same key and input give the same process, other input a conflict with its code."""
    header = {"Idempotency-Key": '"order 1"'}
    first = await web.post(START, json={"input": ORDER}, headers=header)
    again = await web.post(START, json={"input": ORDER}, headers={"Idempotency-Key": "order 1"})
    in_body = await start(web, "order 1")
    assert [one.status_code for one in (first, again, in_body)] == [201, 200, 200]
    assert {one.json()["id"] for one in (first, again, in_body)} == {"order 1"}
    assert httpx.URL("http://shop.test" + START).join(first.headers["location"]).raw_path == b"/processes/order%201"
    other = await web.post(START, json={"input": ORDER | {"speed": "fast"}}, headers=header)
    assert (other.status_code, other.json()["code"]) == (409, "D306")
    assert "fix" in other.json()
    different = await web.post(START, json={"id": "order 2", "input": ORDER}, headers=header)
    assert different.status_code == 409
    assert await host.count() == 1


async def test_starts_at_the_same_time_are_one_process(web: httpx.AsyncClient, host: ProcessHost) -> None:
    """Twenty requests with one key at once start one process, and all are answered with it."""
    answers = await asyncio.gather(*(start(web, "order-1") for _ in range(20)))
    assert sorted(one.status_code for one in answers) == [200] * 19 + [201]
    assert await host.count() == 1


@pytest.mark.parametrize("given", [{"message": "oh"}, {"message": "oh", "times": 1}])
async def test_a_start_from_code_and_one_from_here_are_the_same(
    web: httpx.AsyncClient, host: ProcessHost, given: dict[str, Any]
) -> None:
    """What code started by position is found again by a request that names its arguments, or spells out a default."""
    await host.start(failing("oh"), id="f")
    answer = await web.post("/definitions/failing/processes", json={"id": "f", "input": given})
    assert answer.status_code == 200


@process
async def by_position(proc: Process, first: int = 1, second: int = 2, /, third: int = 3) -> list[int]:
    return [first, second, third]


@pytest.mark.parametrize(
    ("given", "result"),
    [({}, [1, 2, 3]), ({"second": 7}, [1, 7, 3]), ({"third": 7}, [1, 2, 7]), ({"first": 7, "third": 8}, [7, 2, 8])],
)
async def test_what_has_no_name_for_code_has_one_here(given: dict[str, Any], result: list[int]) -> None:
    """Positional-only parameters are given by name as all others, and any with a default may be left out."""
    async with ProcessHost("memory://", [by_position]) as host, direct(app(host, [by_position])) as web:
        await web.post("/definitions/by_position/processes", json={"id": "p", "input": given})
        assert (await web.get("/processes/p/result", params={"wait": SOON})).json()["result"] == result


async def test_a_slash_at_the_end_changes_nothing(web: httpx.AsyncClient) -> None:
    """It may follow the path of a listing or a start; the location of what was started is right for both."""
    started = await web.post(f"{START}/", json={"id": "a", "input": ORDER})
    assert started.status_code == 201
    assert (await web.get(started.url.join(started.headers["location"]))).json()["id"] == "a"
    listed = await web.get("/processes/")
    assert [one["id"] for one in listed.json()["processes"]] == ["a"]


async def test_without_a_key_each_start_is_another_process(web: httpx.AsyncClient, host: ProcessHost) -> None:
    """No key, no identity: two requests are two processes."""
    for _ in range(2):
        assert (await web.post(START, json={"input": ORDER})).status_code == 201
    assert await host.count() == 2


async def test_only_what_is_served_can_be_started(host: ProcessHost) -> None:
    """A definition of the host that was not given to the application is unknown to it."""
    async with direct(app(host, [echo])) as web:
        answer = await web.post(START, json={"input": ORDER})
    assert (answer.status_code, answer.json()["code"]) == (404, "D108")


async def test_any_json_is_an_argument_without_annotation(web: httpx.AsyncClient) -> None:
    """A parameter without annotation takes JSON as it is, and the result gives it back."""
    value: dict[str, Any] = {"a": [1, 2.5, None, True, "Ü\n", {"$tuple": []}]}
    await web.post("/definitions/echo/processes", json={"id": "e", "input": {"value": value, "times": 2}})
    outcome = (await web.get("/processes/e/result", params={"wait": SOON})).json()
    assert outcome["result"] == [value, value]


# --- look ---


async def test_a_failure_has_type_message_and_cause_but_no_traceback(web: httpx.AsyncClient) -> None:
    """Result and history of a failed process say what happened, and neither says where in our files."""
    await web.post("/definitions/failing/processes", json={"id": "f", "input": {"message": "card declined"}})
    result = await web.get("/processes/f/result", params={"wait": SOON})
    outcome = result.json()
    assert (result.status_code, outcome["status"], outcome["result"]) == (200, "failed", None)
    assert outcome["error"]["type"] == "ValueError"
    assert outcome["error"]["message"] == "card declined"
    assert outcome["error"]["cause"]["type"] == "KeyError"
    history = await web.get("/processes/f/history")
    assert [record["kind"] for record in history.json()["records"]] == ["started", "failed", "erred"]
    for answer in (result, history):
        assert "Traceback" not in answer.text
        assert "shop.py" not in answer.text


async def test_a_cancelled_process_has_its_reason(web: httpx.AsyncClient) -> None:
    """Cancelling and terminating end a process with the reason that was given."""
    await start(web, "a")
    await start(web, "b")
    await start(web, "c")
    assert (await web.post("/processes/a/cancel", json={"reason": "by the customer"})).status_code == 202
    assert (await web.post("/processes/b/terminate", json={"reason": "by hand"})).status_code == 202
    assert (await web.post("/processes/c/cancel")).status_code == 202
    for id, status, reason, code in (
        ("a", "cancelled", "by the customer", "D112"),
        ("b", "terminated", "by hand", "D114"),
        ("c", "cancelled", "on request", "D112"),
    ):
        outcome = (await web.get(f"/processes/{id}/result", params={"wait": SOON})).json()
        assert (outcome["status"], outcome["reason"], outcome["error"]["code"]) == (status, reason, code)
    ended = await web.post("/processes/a/cancel")
    assert (ended.status_code, ended.json()["code"]) == (409, "D305")


async def test_a_result_that_is_not_there_yet_is_202(web: httpx.AsyncClient) -> None:
    """A running process is answered at once, or after as long as was asked for, with how it stands."""
    await start(web, "a")
    for wait in (0, 0.05):
        answer = await web.get("/processes/a/result", params={"wait": wait})
        assert (answer.status_code, answer.json()["waits_for"]) == (202, ["event 'paid'"])


async def test_polling_is_told_what_changed(web: httpx.AsyncClient, host: ProcessHost) -> None:
    """With the ETag of what is known a poll is 304 at once, or waits for the change; without, it is the state."""
    await host.start(reporting(), id="r")
    first = await web.get("/processes/r")
    known = {"If-None-Match": first.headers["etag"]}
    assert (await web.get("/processes/r", headers=known)).status_code == 304
    poll = asyncio.create_task(web.get("/processes/r", params={"wait": SOON}, headers=known))
    await web.post("/processes/r/events", json={"event": "report", "payload": 7})
    answer = await poll
    while answer.json()["progress"] is None:
        answer = await web.get("/processes/r", params={"wait": SOON}, headers={"If-None-Match": answer.headers["etag"]})
    assert answer.json()["progress"] == {"done": 7, "total": 100, "message": "step 1", "steps": {}}
    await web.post("/processes/r/events", json={"event": "finish", "payload": "done"})


async def test_a_state_has_one_name_on_every_host(tmp_path: Path) -> None:
    """Only its host knows what a process waits for, so that is no part of the ETag: another host says 304 to it."""
    url = f"sqlite:///{tmp_path}/p.db"
    async with (
        ProcessHost(url, SHOP) as host,
        ProcessClient(url) as client,
        direct(app(host)) as here,
        direct(app(client)) as elsewhere,
    ):
        await host.start(reporting(), id="r")
        statuses = cast("AsyncGenerator[ProcessStatus]", host.get("r").watch())
        async with aclosing(statuses):
            async for status in statuses:
                if status.waits_for:
                    break
        known = await here.get("/processes/r")
        assert known.json()["waits_for"]
        header = {"If-None-Match": known.headers["etag"]}
        for wait in (0, 0.05):
            answer = await elsewhere.get("/processes/r", params={"wait": wait}, headers=header)
            assert (answer.status_code, answer.headers["etag"]) == (304, known.headers["etag"])


async def test_history_is_decoded_and_paged(web: httpx.AsyncClient) -> None:
    """Records come with readable values, in pages that join without gap or repetition."""
    await start(web, "a")
    await web.post("/processes/a/events", json={"event": "paid", "payload": PAYMENT})
    await web.get("/processes/a/result", params={"wait": SOON})
    whole = (await web.get("/processes/a/history")).json()
    assert whole["next"] is None
    started, paid = whole["records"][0], whole["records"][1]
    assert started["value"]["keywords"]["items"] == [{"name": "tea", "price": "2.50"}]
    assert (paid["kind"], paid["value"][0]["card"]) == ("event", "card-17")
    pages: list[dict[str, Any]] = []
    after = 0
    while after is not None:
        page = (await web.get("/processes/a/history", params={"after": after, "limit": 1})).json()
        pages += page["records"]
        after = page["next"]
    assert pages == whole["records"]


@process
async def counting_down(proc: Process, number: int) -> str:
    """Lives once for each number."""
    if number:
        await proc.restart(counting_down(number - 1))
    return "done"


async def test_a_later_life_shows_what_it_was_started_with() -> None:
    """The first record of a process that has restarted itself has its arguments, as that of any other."""
    async with ProcessHost("memory://", [counting_down]) as host, direct(app(host, [counting_down])) as web:
        await host.start(counting_down(2), id="c")
        await web.get("/processes/c/result", params={"wait": SOON})
        started = (await web.get("/processes/c/history")).json()["records"][0]
    assert started["value"] == {"arguments": [0], "keywords": {}}


async def test_a_listing_has_filters_and_pages(web: httpx.AsyncClient) -> None:
    """Pages hold every process once, newest first; status and definition narrow them."""
    for number in range(7):
        await start(web, f"order-{number}")
    await web.post("/definitions/echo/processes", json={"id": "e", "input": {"value": 1}})
    await web.get("/processes/e/result", params={"wait": SOON})
    seen: list[str] = []
    query: dict[str, Any] | None = {"limit": 3}
    while query is not None:
        page = (await web.get("/processes", params=query)).json()
        seen += [one["id"] for one in page["processes"]]
        query = {"limit": 3, "cursor": page["next"]} if page["next"] else None
    assert seen == ["e", *(f"order-{number}" for number in reversed(range(7)))]

    async def ids(**query: Any) -> list[str]:
        return [one["id"] for one in (await web.get("/processes", params=query)).json()["processes"]]

    assert await ids(definition="echo") == ["e"]
    assert await ids(status="completed") == ["e"]
    assert len(await ids(status=["completed", "running"])) == 8
    assert await ids(status="failed") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "status=gone", "cursor=", "cursor=gone", "definition=%00"])
async def test_a_wrong_query_is_named(web: httpx.AsyncClient, query: str) -> None:
    """A query that means nothing is refused, naming the parameter."""
    answer = await web.get(f"/processes?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][:2] == ["query", query.partition("=")[0]]


async def test_a_cursor_outlives_its_process() -> None:
    """A page whose last process was deleted meanwhile is followed by the next one, and not by the first again."""
    storage = open_storage("memory://")
    async with ProcessHost(storage, SHOP) as host, direct(app(host)) as web:
        for number in range(4):
            await host.start(failing("oh"), id=f"f{number}")
            await web.get(f"/processes/f{number}/result", params={"wait": SOON})
        page = (await web.get("/processes", params={"limit": 2})).json()
        assert [one["id"] for one in page["processes"]] == ["f3", "f2"]
        assert isinstance(page["next"], str)
        assert await storage.purge([(await host.get("f2").status()).key]) == 1
        following = (await web.get("/processes", params={"limit": 2, "cursor": page["next"]})).json()
        assert [one["id"] for one in following["processes"]] == ["f1", "f0"]
        beyond = (await web.get("/processes", params={"cursor": "9" * 20})).json()
        assert len(beyond["processes"]) == 3


@pytest.mark.parametrize("id", ["a/b", "a/result", "ä ö", "100%", "a?b#c", "%2F", "x" * 1000, ".a"])
async def test_any_id_can_be_asked_for(web: httpx.AsyncClient, host: ProcessHost, id: str) -> None:
    """Ids with slashes, spaces, percents and other alphabets are found again by the path they are quoted into."""
    location = (await start(web, id)).headers["location"]
    path = httpx.URL("http://shop.test" + START).join(location).raw_path.decode()
    assert (await web.post(f"{path}/cancel", json={"reason": "enough"})).status_code == 202
    outcome = (await web.get(f"{path}/result", params={"wait": SOON})).json()
    assert (outcome["id"], outcome["reason"]) == (id, "enough")


@pytest.mark.parametrize("path", ["", "/result", "/result?wait=0.05", "?wait=0.05", "/watch"])
async def test_a_store_that_does_not_answer_is_503(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A look at a process has an end, whatever the store does; when it is back, all is as before."""
    storage = Counted("memory://")
    async with ProcessHost(storage, SHOP) as host, direct(app(host)) as web:
        await host.start(reporting(), id="r")
        known = {"If-None-Match": (await web.get("/processes/r")).headers["etag"]}
        storage.answers.clear()
        with monkeypatch.context() as impatient:
            impatient.setattr("durable.web.patience._LOOK_WITHIN", 0.05)
            answer = await asyncio.wait_for(web.get(f"/processes/r{path}", headers=known), SOON)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        storage.answers.set()
        assert (await web.get("/processes/r", headers=known)).status_code == 304


# --- act ---


async def test_an_event_is_typed_and_counts_once_by_its_key(web: httpx.AsyncClient, host: ProcessHost) -> None:
    """A payload of the wrong type is refused; the same key twice is one event."""
    await start(web, "a")
    wrong = await web.post("/processes/a/events", json={"event": "paid", "payload": {"card": 17}})
    assert wrong.status_code == 422
    unknown = await web.post("/processes/a/events", json={"event": "payed", "payload": PAYMENT})
    assert unknown.status_code == 422
    for _ in range(2):
        note = {"event": "note", "payload": "hello", "key": "n1"}
        assert (await web.post("/processes/a/events", json=note)).status_code == 202
    await web.post("/processes/a/events", json={"event": "paid", "payload": PAYMENT})
    await web.get("/processes/a/result", params={"wait": SOON})
    notes = [entry for entry in await host.get("a").history() if entry.name == "note"]
    assert len(notes) == 1


async def test_without_events_any_name_takes_any_json(host: ProcessHost) -> None:
    """An application that was given no events raises by name, with the payload as it is."""
    async with direct(app(host, SHOP)) as web:
        await start(web, "a")
        assert (await web.post("/processes/a/events", json={"event": "paid", "payload": {"x": [1]}})).status_code == 202
    values = [entry.value[0] for entry in await host.get("a").history() if entry.kind == "EVENT"]
    assert values == [{"x": [1]}]


async def test_a_stalled_process_is_resumed(tmp_path: Any) -> None:
    """A stalled process says why in one line, and goes on when it is told to by a host that can."""
    url = f"memory://{tmp_path.name}"
    async with ProcessHost(url, SHOP) as first:
        await first.start(order([], None), id="a")  # type: ignore[arg-type]
    async with (
        ProcessHost(url, [], queues=["default"]) as without,
        direct(app(without, limits=Limits(rate=None))) as web,
    ):
        answer = await web.get("/processes/a")
        while answer.json()["status"] != "stalled":
            known = {"If-None-Match": answer.headers["etag"]}
            answer = await web.get("/processes/a", params={"wait": SOON}, headers=known)
        assert answer.json()["reason"].startswith("[D108]")
        assert "\n" not in answer.json()["reason"]
        assert (await web.post("/processes/a/resume")).status_code == 202


@pytest.mark.parametrize("path", ["", "/result", "/history", "/watch"])
async def test_an_unknown_process_is_404(web: httpx.AsyncClient, path: str) -> None:
    """Whatever is asked about a process that does not exist, the answer is the same problem."""
    answer = await web.get(f"/processes/nobody{path}")
    assert answer.status_code == 404
    problem = answer.json()
    assert (problem["type"], problem["code"], problem["status"]) == ("urn:durable:D304", "D304", 404)
    assert problem["title"] == "Process not found"


@pytest.mark.parametrize("action", ["events", "cancel", "terminate", "resume"])
async def test_acting_on_an_unknown_process_is_404(web: httpx.AsyncClient, action: str) -> None:
    """So it is for whatever would change it."""
    answer = await web.post(
        f"/processes/nobody/{action}", json={"event": "note", "payload": "x"} if action == "events" else {}
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "D304")


# --- bodies ---


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b'{"input": NaN}', "application/json", 422),
        (b"[" * 900, "application/json", 422),
        (b'{"id": "\\ud800"}', "application/json", 422),
        (b'{"id": "\\u0000", "input": {}}', "application/json", 422),
        (b"\xff", "application/json", 422),
        (b"", "application/json", 422),
        (json.dumps({"input": ORDER}).encode(), "text/plain", 415),
        (b"\x80\x04K\x01.", "application/octet-stream", 415),
        (b"x" * 2000, "application/json", 413),
    ],
)
async def test_a_body_that_is_no_json_is_refused(host: ProcessHost, body: bytes, kind: str, status: int) -> None:
    """Other formats, broken JSON and long bodies are refused before anything is started."""
    async with direct(app(host, SHOP, limits=Limits(body=1000))) as web:
        answer = await web.post(START, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await host.count() == 0


async def test_a_body_without_length_is_counted(host: ProcessHost) -> None:
    """A body that comes in pieces, its length not told, is refused once it is too long."""

    async def pieces() -> Any:
        for _ in range(100):
            yield b" " * 100

    async with direct(app(host, SHOP, limits=Limits(body=1000))) as web:
        answer = await web.post(START, content=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


# --- the service itself ---


async def test_health_and_readiness() -> None:
    """A program whose host is not open is healthy and not ready; an open one is both."""
    host = ProcessHost("memory://", SHOP)
    async with direct(app(host)) as web:
        assert (await web.get("/health")).status_code == 200
        closed = await web.get("/ready")
        assert (closed.status_code, closed.json()["code"]) == (503, "D303")
        async with host:
            assert (await web.get("/ready")).json() == {"status": "ok"}


async def test_unknown_paths_and_methods_are_problems(web: httpx.AsyncClient) -> None:
    """What Starlette refuses by itself is a problem, too, and says where to look."""
    unknown = await web.get("/nothing")
    assert (unknown.status_code, unknown.json()["title"]) == (404, "Not Found")
    assert "openapi.json" in unknown.json()["detail"]
    wrong = await web.put("/processes")
    assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert wrong.headers["content-type"] == "application/problem+json"


async def test_every_status_is_in_the_document(web: httpx.AsyncClient) -> None:
    """The document knows each status a process can have."""
    schemas = (await web.get("/openapi.json")).json()["components"]["schemas"]
    assert set(schemas["Process"]["properties"]["status"]["enum"]) == {status.value for status in Status}
