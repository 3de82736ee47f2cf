"""Who may do what: the hook, the rate limit, and pages of other origins."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from durable import InvalidDefinition, ProcessHost, StorageError
from durable.web import Access, AccessKind, Limits, Principal, app
from tests.web.served import client, direct, serving
from tests.web.shop import EVENTS, SHOP, reporting

LOOK = "/processes/r"


class Doorman:
    """A hook: ann may do everything, bob may look; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Access] = []

    async def __call__(self, connection: HTTPConnection, access: Access) -> Principal | None:
        self.asked.append(access)
        match connection.headers.get("authorization"):
            case "Bearer ann":
                return Principal("ann")
            case "Bearer bob":
                return Principal("bob") if access.kind in (AccessKind.LOOK, AccessKind.WATCH) else None
            case _:
                raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


def token(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def test_the_hook_decides(host: ProcessHost) -> None:
    """No credentials: 401 with what the hook asks for. Not allowed: 403. Allowed: it happens."""
    await host.start(reporting(), id="r")
    async with direct(app(host, SHOP, authorize=Doorman())) as web:
        nobody = await web.get(LOOK)
        assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
        assert nobody.headers["content-type"] == "application/problem+json"
        assert (await web.get(LOOK, headers=token("bob"))).status_code == 200
        assert (await web.post(f"{LOOK}/cancel", headers=token("bob"))).status_code == 403
        assert not (await host.get("r").status()).ended
        assert (await web.post(f"{LOOK}/cancel", headers=token("ann"))).status_code == 202


async def test_the_hook_is_asked_for_everything(host: ProcessHost) -> None:
    """Every request but health, readiness and the document comes past the hook, with its kind and process."""
    doorman = Doorman()
    await host.start(reporting(), id="r")
    async with direct(app(host, SHOP, events=EVENTS, authorize=doorman)) as web:
        for path in ("", "/result", "/history"):
            await web.get(f"{LOOK}{path}", headers=token("ann"))
        await web.get("/processes", params={"definition": "order"}, headers=token("ann"))
        start = {"id": "s", "input": {}}
        await web.post("/definitions/reporting/processes", json=start, headers=token("ann"))
        await web.post("/definitions/reporting/processes", json={}, headers=token("ann") | {"Idempotency-Key": '"t"'})
        for path in ("events", "cancel", "resume", "terminate"):
            await web.post(f"{LOOK}/{path}", json={"event": "note", "payload": "x"}, headers=token("ann"))
        await web.get(f"{LOOK}/watch", headers=token("nobody"))
        asked = list(doorman.asked)
        for path in ("/health", "/ready", "/openapi.json"):
            assert (await web.get(path)).status_code == 200
    assert (
        asked
        == doorman.asked
        == [
            Access(AccessKind.LOOK, "r"),
            Access(AccessKind.RESULT, "r"),
            Access(AccessKind.HISTORY, "r"),
            Access(AccessKind.LIST, None, "order"),
            Access(AccessKind.START, "s", "reporting"),
            Access(AccessKind.START, "t", "reporting"),
            Access(AccessKind.RAISE_EVENT, "r"),
            Access(AccessKind.CANCEL, "r"),
            Access(AccessKind.RESUME, "r"),
            Access(AccessKind.TERMINATE, "r"),
            Access(AccessKind.WATCH, "r"),
        ]
    )


async def test_who_is_refused_learns_nothing(host: ProcessHost) -> None:
    """Without credentials an unknown process, an unknown definition and an invalid body all look the same."""
    async with direct(app(host, SHOP, authorize=Doorman())) as web:
        answers = [
            await web.get("/processes/nobody"),
            await web.post("/definitions/nothing/processes", json={}),
            await web.post("/definitions/order/processes", json={"input": 7}),
            await web.post("/processes/nobody/events", json=7),
        ]
    assert [answer.status_code for answer in answers] == [401] * 4


async def test_changes_are_noted_with_who_asked(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """Each change has a line in the log, with the name of the principal."""
    caplog.set_level(logging.INFO, "durable.web")
    await host.start(reporting(), id="r")
    async with direct(app(host, SHOP, authorize=Doorman())) as web:
        await web.get(LOOK, headers=token("ann"))
        await web.post(f"{LOOK}/terminate", headers=token("ann"))
        await web.post("/definitions/reporting/processes", json={"id": "s"}, headers=token("ann"))
    assert [record.getMessage() for record in caplog.records] == [
        "principal 'ann': terminate process 'r'",
        "principal 'ann': start process 's' of 'reporting'",
    ]


async def test_a_name_forges_no_line_of_the_log(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """The name of a principal is quoted where it is noted, whatever it holds."""
    caplog.set_level(logging.INFO, "durable.web")

    async def authorize(*_: object) -> Principal:
        return Principal("ann\nINFO forged")

    async with direct(app(host, SHOP, authorize=authorize)) as web:
        await web.post("/definitions/reporting/processes", json={"id": "s"})
    assert [record.getMessage() for record in caplog.records] == [
        "principal 'ann\\nINFO forged': start process 's' of 'reporting'"
    ]


@pytest.mark.parametrize("status", [204, 304, 404, 599])
async def test_a_hook_may_refuse_with_any_status(host: ProcessHost, status: int) -> None:
    """What it raises is answered, over real HTTP, also where the status has no body or no phrase."""

    async def authorize(*_: object) -> None:
        raise HTTPException(status, "not for you")

    async with serving(app(host, SHOP, authorize=authorize)) as server, client(server.address) as web:
        answer = await web.get(LOOK)
        assert answer.status_code == status
        assert ("not for you" in answer.text) == (status not in (204, 304))
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{server.address}{LOOK}/watch")
        assert refused.value.response.status_code == (403 if status in (204, 304) else status)


# --- rates ---


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"rate": 0}, "`rate` of Limits is at least 1, not 0"),
        ({"burst": 0}, "`burst` of Limits is at least 1"),
        ({"body": "1 MB"}, "`body` of Limits is a whole number"),
        ({"streams": -1}, "`streams` of Limits is at least 0"),
        ({"wait": 20}, "`wait` of Limits is a timedelta, not 20"),
    ],
)
def test_limits_are_checked_where_they_are_written(limits: dict[str, Any], told: str) -> None:
    """A limit of a wrong type or out of its range is named, and not met by the first request."""
    with pytest.raises(InvalidDefinition, match=told):
        Limits(**limits)


async def test_an_address_has_its_rate(host: ProcessHost) -> None:
    """Beyond the burst a request is 429 and says when to come back; another address is not concerned."""
    application = app(host, limits=Limits(rate=1, burst=5))
    async with direct(application, client=("10.0.0.1", 1)) as one, direct(application, client=("10.0.0.2", 1)) as other:
        answers = [await one.get("/processes") for _ in range(8)]
        assert [answer.status_code for answer in answers][:5] == [200] * 5
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await other.get("/processes")).status_code == 200
        assert (await one.get("/health")).status_code == 200


async def test_a_principal_has_its_rate_wherever_it_comes_from(host: ProcessHost) -> None:
    """With a hook, names are counted: ann's flood neither hides behind addresses nor shuts out bob at her address."""
    await host.start(reporting(), id="r")
    application = app(host, authorize=Doorman(), limits=Limits(rate=1, burst=4))
    statuses = []
    for number in range(8):
        async with direct(application, client=(f"10.0.0.{number % 2}", 1)) as web:
            statuses.append((await web.get(LOOK, headers=token("ann"))).status_code)
    assert (statuses[:4], statuses[-1]) == ([200] * 4, 429)
    async with direct(application, client=("10.0.0.0", 1)) as web:
        assert (await web.get(LOOK, headers=token("bob"))).status_code == 200


async def test_credentials_cannot_be_tried_without_end(host: ProcessHost) -> None:
    """Refused requests are counted by address: after the burst the hook is not even asked."""
    doorman = Doorman()
    async with direct(app(host, authorize=doorman, limits=Limits(rate=1, burst=5))) as web:
        for number in range(20):
            await web.get(LOOK, headers=token(f"guess {number}"))
    assert len(doorman.asked) < 10


async def test_forgotten_clients_take_no_memory(host: ProcessHost) -> None:
    """However many addresses come, only so many are kept in mind."""
    application = app(host, limits=Limits(rate=1, burst=1, clients=3))
    for number in range(10):
        async with direct(application, client=(f"10.0.0.{number}", 1)) as web:
            assert (await web.get("/processes")).status_code == 200
    async with direct(application, client=("10.0.0.9", 1)) as web:
        assert (await web.get("/processes")).status_code == 429
    async with direct(application, client=("10.0.0.0", 1)) as web:
        assert (await web.get("/processes")).status_code == 200


# --- pages ---


async def test_a_page_of_another_origin_may_nothing(web: httpx.AsyncClient, host: ProcessHost) -> None:
    """CORS is off: no header lets a page read, and what a page could send unasked is refused."""
    await host.start(reporting(), id="r")
    for origin in ("http://elsewhere.test", "null", "http://shop.test.elsewhere.test", "http://[", ""):
        answer = await web.post(f"{LOOK}/terminate", headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert (await web.get(LOOK, headers={"Origin": "http://shop.test"})).status_code == 200
    assert not (await host.get("r").status()).ended


async def test_an_origin_can_be_allowed(host: ProcessHost) -> None:
    """A page of an allowed origin may ask, after a preflight that says so; others still may not."""
    shop = {"Origin": "https://shop.example"}
    async with direct(app(host, SHOP, origins=["https://shop.example"])) as web:
        preflight = await web.options(
            "/processes",
            headers=shop
            | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"},
        )
        assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
        assert (await web.get("/processes", headers=shop)).headers[
            "access-control-allow-origin"
        ] == "https://shop.example"
        other = await web.get("/processes", headers={"Origin": "https://elsewhere.example"})
        assert other.status_code == 403


# --- what gets out ---


async def test_being_open_to_others_is_warned_of_once(host: ProcessHost, caplog: pytest.LogCaptureFixture) -> None:
    """Without a hook, the first request from another machine is a warning; with one, or from this machine, none is."""
    async with direct(app(host), client=("127.0.0.1", 1)) as web:
        await web.get("/processes")
    async with direct(app(host, authorize=Doorman()), client=("10.0.0.1", 1)) as web:
        await web.get("/processes", headers=token("ann"))
    assert caplog.records == []
    async with direct(app(host), client=("10.0.0.1", 1)) as web:
        for _ in range(3):
            await web.get("/processes")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


class Broken(ProcessHost):
    """A host whose listing fails as a test wants it to."""

    error: Exception

    async def list(self, **which: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [(StorageError("cannot reach db.internal", url="postgres://shop:secret@db"), 503), (RuntimeError("secret"), 500)],
)
async def test_errors_of_ours_tell_nothing(error: Exception, status: int) -> None:
    """A store that fails, or a bug, is answered by its status and code only; texts and tracebacks stay here."""
    async with Broken("memory://", SHOP) as host, direct(app(host)) as web:
        host.error = error
        answer = await web.get("/processes")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    for told in ("secret", "db.internal", "Traceback", "test_access"):
        assert told not in answer.text
