"""The file service end to end over HTTP: the same tests for one program without infrastructure, and for a real one."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from threading import Event, Thread

import asyncpg
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from durable.webhooks import verify
from tests.examples.file_service_runs import SECRET, SOON, Distributed, Service, make_files
from tests.examples.s3_server import Fate, let_through
from tests.webhooks.receiver import Answer, Received, Receiver

pytestmark = pytest.mark.slow


def test_files_become_an_archive(service: Service) -> None:
    """Files go in, each step is seen by Server-Sent Events, the archive comes out, and nothing else is left."""
    contents = make_files("happy 世界", [9_000_000, 300_000, 0]) | {"Größe (1)+2@3=4.bin": b"x"}
    service.zip("happy 世界", contents)
    updates = [update for _, update in service.follow("happy 世界")]
    assert updates[-1]["status"] == "completed"
    seen = {update["progress"]["message"].split()[0] for update in updates if update["progress"]}
    assert {"packing", "publishing"} <= seen
    steps = [record["name"] for record in service.history("happy 世界") if record["kind"] == "done"]
    assert steps[0] == "files found"
    assert steps[-4:] == ["published", "parts removed", "uploads removed", "cut off uploads removed"]
    answer = service.result("happy 世界")
    assert answer["result"]["files"] == 4
    assert service.archive("happy 世界") == contents
    assert service.left_of("happy 世界") == ["results/happy 世界/files.zip"]


def test_who_comes_back_sees_only_what_is_new(service: Service) -> None:
    """A client that lost its connection goes on from the last update it saw; after the end there is nothing more."""
    contents = make_files("resumed", [9_000_000])
    service.zip("resumed", contents)
    with closing(service.follow("resumed")) as updates:
        first, _ = next(updates)
    later = list(service.follow("resumed", first.id))
    assert first.id not in [event.id for event, _ in later]
    last, status = later[-1]
    assert status["status"] == "completed"
    answer = service.http.get("/tasks/processes/resumed/watch", headers={"Last-Event-ID": last.id})
    assert answer.status_code == 204


def test_submitted_again_it_is_the_same_task(service: Service) -> None:
    """Sent many times at once, and again after its end, a task runs once; another one under its id is refused."""
    contents = make_files("again", [300_000, 300_000])
    service.put("again", dict(contents))
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: service.submit("again", files=list(contents)), range(4)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    service.result("again")
    assert service.submit("again", files=list(contents)).json()["status"] == "completed"
    assert service.submit("again", files=["another"]).status_code == 409
    assert service.http.put("/uploads/again/late.bin", content=b"x").status_code == 409
    assert [record["name"] for record in service.history("again")].count("published") == 1
    assert service.archive("again") == contents
    assert service.left_of("again") == ["results/again/files.zip"]


def test_what_makes_no_sense_is_refused(service: Service) -> None:
    """Names that are no file names, and tasks without files, never become a task."""
    assert service.http.put("/uploads/odd/..%2Fsecret", content=b"x").status_code in (404, 422)
    for name in (".hidden", "x" * 201, "x (unfinished upload 1)", "x%00", "x%0A"):
        assert service.http.put(f"/uploads/odd/{name}", content=b"x").status_code == 422, name
    assert service.http.put("/uploads/odd/endless.bin", content=iter([b"x"])).status_code == 422  # how long is it?
    assert service.submit("odd", files=[]).status_code == 422
    assert service.submit("odd", files=["../secret"]).status_code == 422
    assert service.submit("odd", files="a.bin").status_code == 422
    assert service.submit("odd", files=["a.bin", "b.bin", "a.bin"]).status_code == 422
    assert service.http.get("/tasks/processes/odd").status_code == 404
    assert service.http.get("/archives/odd").status_code == 404
    assert service.submit("../odd", files=["a.bin"]).status_code == 201  # any text is an id; this task refuses its own
    error = service.http.get("/tasks/processes/..%2Fodd/result", params={"wait": 30}).json()["error"]
    assert error["type"] == "ValueError"


def test_a_missing_upload_is_a_typed_error(service: Service) -> None:
    """A task whose files are not all there fails at once, says which is missing, and removes the others."""
    service.put("missing", {"here.bin": b"x"})
    service.submit("missing", files=["here.bin", "not here.bin"])
    answer = service.result("missing")
    assert answer["status"] == "failed"
    assert answer["error"]["type"] == "examples.file_service.bucket.UploadMissing"
    assert answer["error"]["message"] == "not uploaded: not here.bin"
    assert service.left_of("missing") == []


async def test_the_second_task(service: Service) -> None:
    """A CSV file becomes rows; the same service, the same promises."""
    lines = ["sku,name,price,stock", *(f"sku-{number},Näme {number},{number}.50,{number}" for number in range(2500))]
    service.put("import", {"products.csv": "\n".join(lines).encode()})
    service.submit("import", "import_products", file="products.csv")
    assert service.result("import")["result"] == {"rows": 2500, "errors": []}
    engine = create_async_engine(service.products)
    async with engine.connect() as connection:
        found = (await connection.execute(text("SELECT count(*), sum(stock) FROM products"))).one()
    await engine.dispose()
    assert tuple(found) == (2500, sum(range(2500)))
    assert service.left_of("import") == []


def test_the_second_task_says_what_is_wrong(service: Service) -> None:
    """A file with errors changes nothing and is answered with a list of them, whatever is in it."""
    service.put("wrong", {"products.csv": b"sku,name,price,stock\na,Tea,cheap,3\nb,,1\n"})
    service.submit("wrong", "import_products", file="products.csv")
    result = service.result("wrong")["result"]
    assert result["rows"] == 0
    assert [(error["line"], error["column"]) for error in result["errors"]] == [(2, "price"), (3, "name"), (3, "stock")]
    assert service.left_of("wrong") == []


_HEADER = b"sku,name,price,stock\na,Tea,1,3\n"


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (b"\xff\xfe\x00", [(1, "")]),
        (b"x" * 5_000_000, [(1, "")]),
        (_HEADER + b'b,"' + b"x" * 5_000_000, [(3, "")]),
        (_HEADER + b'"x\n",' * 100_000, [(3, "")]),
        (_HEADER + b"b,T\xe9,1,3\nc,Tea,\xe9,3\n", [(3, "name"), (4, "price")]),
        (_HEADER + b"b\0,T\0a,1,3\n", [(3, "sku"), (3, "name")]),
        (
            _HEADER + b"%b,%b,12345678901,2147483648" % (b"x" * 41, b"x" * 201),
            [(3, name) for name in _HEADER.decode().split()[0].split(",")],
        ),
    ],
    ids=["binary", "one line", "one field", "one row", "not UTF-8", "NUL", "too long"],
)
def test_a_hostile_file_is_told_what_is_wrong(
    service: Service, content: bytes, errors: list[tuple[int, str]], request: pytest.FixtureRequest
) -> None:
    """What no database takes, and what would not fit into memory, are errors of their lines, and no failed task."""
    task = request.node.callspec.id
    service.put(task, {"products.csv": content})
    service.submit(task, "import_products", file="products.csv")
    answer = service.result(task)
    assert answer["status"] == "completed", answer
    assert answer["result"]["rows"] == 0
    assert [(error["line"], error["column"]) for error in answer["result"]["errors"]] == errors
    assert service.left_of(task) == []


def test_empty_lines_are_no_rows(service: Service) -> None:
    """However many stand between two rows, in all longer than a row may be."""
    service.put("empty lines", {"products.csv": _HEADER + b"\r\n" * 30_000 + b"b,Tea,1,3\n"})
    service.submit("empty lines", "import_products", file="products.csv")
    assert service.result("empty lines")["result"] == {"rows": 2, "errors": []}


def test_a_file_has_the_size_it_was_said_to_have(new_service: Service) -> None:
    """More or less than Content-Length says, which only Transfer-Encoding allows, or more than is taken, is refused."""
    service = new_service
    service.start(LONGEST_UPLOAD=1_000_000)
    assert service.http.put("/uploads/size/right.bin", content=bytes(1_000_000)).status_code == 201
    assert send_chunks(service, 5, [b"more", b"than that"]) == 400
    assert send_chunks(service, 5, [b"less"]) == 400
    assert send_chunks(service, 5, [bytes(1 << 20)] * 20) == 400
    assert send_chunks(service, 1_000_001, []) == 413
    assert send_chunks(service, 5, [b"ri", b"ght"]) == 201
    assert service.left_of("size") == ["uploads/size/chunked.bin", "uploads/size/right.bin"]
    assert service.read("uploads/size/chunked.bin") == b"right"


def send_chunks(service: Service, length: int, chunks: Iterable[bytes]) -> int:
    """Send a file in chunks beside a Content-Length, until it is answered."""
    with closing(HTTPConnection("127.0.0.1", service.http.base_url.port, timeout=SOON)) as connection:
        connection.putrequest("PUT", "/uploads/size/chunked.bin")
        connection.putheader("Content-Length", str(length))
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        with suppress(ConnectionError):  # it was refused before its end
            for chunk in chunks:
                connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.send(b"0\r\n\r\n")
        return connection.getresponse().status


def test_worker_killed_in_the_middle_of_an_upload(service: Service) -> None:
    """`kill -9` while a part of the archive is uploaded: the next worker goes on, and what was cut off is removed."""
    contents = make_files("killed", [20_000_000, 300_000])
    upload = service.expect_upload("parts/killed/")
    service.zip("killed", contents)
    upload.wait()
    service.kill(service.worker)
    upload.let_go()
    assert any(name.startswith("parts/killed/000000") for name in service.names())  # it was in the middle
    service.start(service.worker)
    assert service.result("killed")["status"] == "completed"
    assert service.archive("killed") == contents
    assert service.left_of("killed") == ["results/killed/files.zip"]


def test_api_killed_between_upload_and_start(service: Service) -> None:
    """`kill -9` of the API after the upload: the files are there, and the client starts its task with the next one."""
    contents = make_files("patient", [300_000, 300_000])
    service.put("patient", dict(contents))
    service.kill(service.api)
    service.start(service.api)
    service.submit("patient", files=list(contents))
    assert service.result("patient")["status"] == "completed"
    assert service.archive("patient") == contents
    assert service.left_of("patient") == ["results/patient/files.zip"]


def test_stopped_and_started_again(service: Service) -> None:
    """Told to stop in the middle of a step, each program ends it and leaves by itself; the next ones do the rest."""
    contents = make_files("stopped", [20_000_000])
    upload = service.expect_upload("parts/stopped/")
    service.zip("stopped", contents)
    upload.wait()
    upload.let_go()
    before = service.programs[service.worker].pid
    service.stop()
    service.start()
    assert service.result("stopped")["status"] == "completed"
    assert service.archive("stopped") == contents
    assert service.left_of("stopped") == ["results/stopped/files.zip"]
    (packed,) = [span for span in service.spans("stopped") if span["name"].startswith("packed")]
    assert packed["attributes"]["durable.action.outcome"] == "done"
    assert packed["resource"]["attributes"]["process.pid"] == before


def test_cancelled_while_it_works(service: Service) -> None:
    """Who cancels a task is told that it was cancelled, once everything of it is gone."""
    upload = service.expect_upload("parts/cancelled/")
    service.zip("cancelled", make_files("cancelled", [20_000_000, 300_000]))
    upload.wait()
    service.cancel("cancelled")
    upload.let_go()
    answer = service.result("cancelled")
    assert answer["status"] == "cancelled"
    assert answer["error"]["type"] == "ProcessCancelled"
    assert service.left_of("cancelled") == []


def test_the_journal_says_what_happened_when_and_why(service: Service) -> None:
    """Who looks later finds each step in its order and with its time, and who asked for the end, and why."""
    upload = service.expect_upload("parts/audited/")
    service.zip("audited", make_files("audited", [20_000_000]))
    upload.wait()
    service.cancel("audited")
    upload.let_go()
    service.result("audited")
    records = service.history("audited")
    told = [(record["kind"], record["name"]) for record in records]
    assert told[:2] == [("started", "create_zip"), ("done", "files found")]
    assert told[-4:-1] == [("done", f"{place} undone") for place in ("results", "parts", "uploads")]
    (asked,) = [record for record in records if record["kind"] == "cancel"]
    assert asked["value"] == "by the client"
    times = [record["time"] for record in records]
    assert times == sorted(times)


@pytest.mark.parametrize("moment", [0, 2, 5, 9, 13, 17])
def test_cancelled_at_any_moment(service: Service, moment: int) -> None:
    """Cancelled after any number of updates: it says so and nothing is left, or it was through already."""
    task = f"cancelled-after-{moment}"
    contents = make_files(task, [9_000_000])
    service.zip(task, contents)
    for number, _ in enumerate(service.follow(task)):
        if number == moment:
            service.cancel(task)
    if service.result(task)["status"] == "completed":
        assert service.archive(task) == contents
        assert service.left_of(task) == [f"results/{task}/files.zip"]
    else:
        assert service.result(task)["error"]["type"] == "ProcessCancelled"
        assert service.left_of(task) == []


def test_a_task_has_a_time_limit(new_service: Service) -> None:
    """A task that takes too long is cancelled by its own limit, says so, and leaves nothing."""
    service = new_service
    service.start(TIMEOUT=0.1)
    upload = service.expect_upload("parts/late/")
    service.zip("late", make_files("late", [24_000_000]))
    service.http.get("/tasks/processes/late/result", params={"wait": 1})  # longer than it may take
    upload.let_go()
    answer = service.result("late")
    assert answer["status"] == "cancelled"
    assert answer["error"]["type"] == "ProcessTimedOut"
    assert service.left_of("late") == []


def test_what_nobody_needs_is_found_and_removed(new_service: Service) -> None:
    """
    The API is killed between upload and start, and in the middle of an upload: what lies there is removed.

    A task that ended long ago goes into the archive of journals, and its result goes with it.
    """
    service = new_service
    service.start(ABANDONED_AFTER=2, KEEP=2, ARCHIVE_EVERY=0.5, BUCKET=f"{service.bucket}/")  # a slash changes nothing
    contents = make_files("old", [300_000])
    service.zip("old", contents)
    assert service.result("old")["status"] == "completed"
    assert service.archive("old") == contents
    upload = service.expect_upload("uploads/half/")
    sender = Thread(target=send_half, args=[service])
    sender.start()
    upload.wait()
    service.put("abandoned", {"a.bin": b"x"})
    service.kill(service.api)
    upload.let_go()
    sender.join()
    assert service.left_of("abandoned")
    assert service.left_of("half")
    service.start(service.api, ABANDONED_AFTER=2, KEEP=2, ARCHIVE_EVERY=0.5)
    for task in ("abandoned", "half", "old"):
        service.wait_until_gone(task)
    assert service.http.get("/tasks/processes/old").status_code == 404
    journals = [name for name in service.names() if name.startswith("journals/processes/")]
    assert any(b'"id":"old"' in gzip.decompress(service.read(name)).replace(b": ", b":") for name in journals)


def send_half(service: Service) -> None:
    """Send a file whose second half never comes."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(1 << 20)
        while service.api in service.programs:
            time.sleep(0.01)
        raise ConnectionAbortedError("the client has gone")

    with suppress(httpx.TransportError, ConnectionAbortedError):
        service.http.put("/uploads/half/b.bin", content=chunks(), headers={"Content-Length": str(40 << 20)})


def test_what_is_uploaded_again_has_not_lain_there_for_long(new_service: Service) -> None:
    """What was written between two looks is another thing than what the first one saw, and waits as long."""
    service = new_service
    service.start(ABANDONED_AFTER=1.5)
    service.put("order", {"a.bin": b"old"})
    service.wait_until_suspected("uploads/order/a.bin")
    service.put("later", {"a.bin": b"x"})
    service.put("order", {"a.bin": b"new"})
    service.wait_until_suspected("uploads/later/a.bin")  # it has looked again
    assert service.read("uploads/order/a.bin") == b"new"
    service.wait_until_gone("order")


@pytest.mark.parametrize("new_service", ["distributed"], indirect=True)
def test_what_is_removed_late_is_looked_at_again(new_service: Distributed) -> None:
    """A removal that is held up removes nothing that was written meanwhile, and of a task that has begun nothing."""
    service = new_service
    service.start(ABANDONED_AFTER=1)
    service.write("results/order/files.zip", b"of a task that was purged long ago")
    refused = Event()

    def decide(method: str, path: str) -> Fate:
        if method != "DELETE" and "?delete" not in path:
            return Fate.GOES_THROUGH
        refused.set()
        return Fate.REFUSED

    service.proxy.decide = decide
    assert refused.wait(SOON)
    contents = make_files("order", [300])
    service.put("order", dict(contents))
    removing = service.history("reconcile")[0]["time"]
    service.submit("order", files=list(contents))
    published = False
    while not published:
        published = "published" in [record["name"] for record in service.history("order")]
    service.proxy.decide = let_through
    assert service.result("order")["status"] == "completed"
    until = time.monotonic() + SOON
    while service.history("reconcile")[0]["time"] == removing:
        assert time.monotonic() < until, service.log()
        time.sleep(0.05)
    assert service.archive("order") == contents


@pytest.mark.parametrize("new_service", ["distributed"], indirect=True)
def test_an_upload_that_was_cut_off_is_not_its_object(new_service: Distributed) -> None:
    """Of two uploads of one object only that is aborted which has lain there for long."""
    service = new_service
    service.start(ABANDONED_AFTER=3)
    old = service.begin_upload("uploads/order/a.bin")
    service.wait_until_suspected(old)
    new = service.begin_upload("uploads/order/a.bin")
    until = time.monotonic() + SOON
    while old in (uploads := service.uploads()):
        assert time.monotonic() < until, service.log()
        time.sleep(0.05)
    assert uploads == [new]
    service.wait_until_gone("order")


def test_what_is_not_its_own_is_left_alone(new_service: Service) -> None:
    """Objects that the service has not written neither go nor stop it; if `reconcile` was ended, another one begins."""
    service = new_service
    foreign = ["uploads/stray", "uploads/.hidden/a.bin", f"uploads/{'x' * 250}/a.bin", "uploads/a/b/c.bin"]
    if isinstance(service, Distributed):
        foreign += ["uploads/", "uploads/folder/", "uploads//a.bin"]  # what no file system has; consoles make folders
    for name in foreign:
        service.write(name, b"")
    service.start(ABANDONED_AFTER=0.5)
    service.put("lost", {"a.bin": b"x"})
    service.wait_until_gone("lost")
    service.cancel("reconcile")
    assert service.result("reconcile")["status"] == "cancelled"
    service.stop()
    service.start(ABANDONED_AFTER=0.5)
    assert "'reconcile' has ended (cancelled)" in service.log()
    service.put("lost", {"a.bin": b"x"})
    service.wait_until_gone("lost")
    service.stop()
    service.start(ABANDONED_AFTER=0.5)
    (running,) = service.http.get("/tasks/processes?definition=reconcile&status=running").json()["processes"]
    assert running["id"].startswith("reconcile after ")
    assert service.names() == sorted(foreign)


# --- what its operator, and other programs, hear of it ---


def test_it_says_that_it_is_healthy(service: Service) -> None:
    """Whoever balances the load may ask whether the API lives, and whether its store answers."""
    for question in ("health", "ready"):
        answer = service.http.get(f"/tasks/{question}")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("new_service", ["distributed"], indirect=True)
async def test_without_its_database_it_lives_and_is_not_ready(new_service: Service) -> None:
    """While the database is away nobody should ask this API, and nobody should restart it for that."""
    service = new_service
    service.start(service.api)
    server, _, name = service.database.rpartition("/")
    name, _, options = name.partition("?")
    connection = await asyncpg.connect(f"{server}/postgres?{options}")
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
    assert service.http.get("/tasks/ready").status_code == 503
    assert service.http.get("/tasks/health").status_code == 200
    refused = service.http.put("/uploads/early/a.bin", content=b"x")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    service.kill(service.api)


@pytest.mark.parametrize("new_service", ["distributed"], indirect=True)
def test_without_its_bucket_it_asks_to_come_again(new_service: Distributed) -> None:
    """While the bucket is away nobody is told that an archive is not there, or that a file has arrived."""
    service = new_service
    service.start(service.api)
    assert service.http.get("/archives/order").status_code == 404
    service.remove_bucket()
    assert service.http.get("/archives/order").status_code == 503
    for size in (1, 6_000_000):
        assert service.http.put("/uploads/order/a.bin", content=bytes(size)).status_code == 503


def test_a_task_is_one_trace(service: Service) -> None:
    """OpenTelemetry, as the operator has set it up, is told of a task as one trace, though a worker was killed."""
    upload = service.expect_upload("parts/traced/")
    service.zip("traced", make_files("traced", [20_000_000]))
    upload.wait()
    service.kill(service.worker)
    upload.let_go()
    service.start(service.worker)
    assert service.result("traced")["status"] == "completed"
    until = time.monotonic() + SOON
    while not (roots := [span for span in service.spans("traced") if span["parent_id"] is None]):
        assert time.monotonic() < until, service.log()
        time.sleep(0.01)
    (root,) = roots
    spans = service.spans("traced")
    assert (root["name"], root["attributes"]["durable.process.outcome"]) == ("create_zip", "completed")
    assert {span["context"]["trace_id"] for span in spans} == {root["context"]["trace_id"]}
    assert {span["parent_id"] for span in spans} == {None, root["context"]["span_id"]}
    assert {"files found", "published"} < {span["name"] for span in spans}
    assert len({span["resource"]["attributes"]["process.pid"] for span in spans}) == 2


async def test_the_end_is_told_to_a_url(service: Service) -> None:
    """A URL that came with a task hears how it ended, signed, and again until it answers that it did."""
    with Receiver(Answer(503)) as receiver:
        service.put("told", {"a.bin": b"x"})
        assert service.submit("told", files=["a.bin"], webhook=receiver.url()).status_code == 201
        refused, received = await receiver.next(), await receiver.next()
        assert heard(received) == ("task.completed", "told")
        assert (refused.headers["webhook-id"], refused.body) == (received.headers["webhook-id"], received.body)
        assert service.result("told")["status"] == "completed"

        service.submit("told-of-a-failure", files=["never uploaded.bin"], webhook=receiver.url())
        assert heard(await receiver.next()) == ("task.failed", "told-of-a-failure")

        service.put("told-of-a-cancel", dict(make_files("told-of-a-cancel", [20_000_000])))
        upload = service.expect_upload("parts/told-of-a-cancel/")
        service.submit("told-of-a-cancel", files=["file 0.bin"], webhook=receiver.url())
        upload.wait()
        service.cancel("told-of-a-cancel")
        upload.let_go()
        assert heard(await receiver.next()) == ("task.cancelled", "told-of-a-cancel")


async def test_worker_killed_while_it_tells(service: Service) -> None:
    """`kill -9` between the message and its answer: the next worker sends it again, under the same id."""
    hold = Event()
    with Receiver(Answer(after=hold)) as receiver:
        service.put("told twice", {"a.bin": b"x"})
        service.submit("told twice", files=["a.bin"], webhook=receiver.url())
        first = await receiver.next()
        assert service.result("told twice")["status"] == "completed"  # no task waits for its webhook
        service.kill(service.worker)
        hold.set()
        service.start(service.worker)
        second = await receiver.next()
    assert heard(first) == heard(second) == ("task.completed", "told twice")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_what_makes_no_webhook_is_refused(new_service: Service) -> None:
    """No URL is taken that cannot be told anything, and nobody makes the service call into its own network."""
    service = new_service
    service.start(WEBHOOK_PRIVATE=None)
    for url in ("shop.example/hooks", "ftp://shop.example/hooks", "https://ann:secret@shop.example/hooks"):
        assert service.submit("untold", files=["a.bin"], webhook=url).status_code == 422, url
    with Receiver() as receiver:
        service.put("untold", {"a.bin": b"x"})
        service.submit("untold", files=["a.bin"], webhook=receiver.url())
        assert service.result("untold")["status"] == "completed"
        (delivery,) = service.http.get("/tasks/processes?definition=durable.webhook").json()["processes"]
        assert service.result(delivery["id"])["error"]["type"] == "WebhookRefused"
        assert receiver.connections == 0
    service.stop()
    service.start(WEBHOOK_SECRET=None)
    assert service.submit("unsigned", files=["a.bin"], webhook="https://shop.example/hooks").status_code == 422


def heard(received: Received) -> tuple[str, str]:
    """What a message says of which task; it is signed by the service."""
    message = verify(SECRET, received.headers, received.body)
    return message["type"], message["process"]
