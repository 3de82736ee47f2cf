"""The jobs system as its users see it: HTTP in, e-mail out, worker hosts in between, and what fails there."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from email import message_from_bytes
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.examples.zip_runs import ROOT
from tests.postgres_server import with_options

SOON = 30.0


class Mailbox:
    """A real SMTP server on the loopback interface, which takes mail, refuses it, or lets its client wait."""

    def __init__(self) -> None:
        self.taken: list[str] = []  # Message-IDs
        self.refusals: list[str] = []  # answers for the next messages
        self.is_holding = threading.Event()  # somebody is being kept waiting
        self.hold_next = False
        self._changed = threading.Condition()
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._controller.port}"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.hold_next:
            self.hold_next = False
            self.is_holding.set()
            await asyncio.Event().wait()  # until the client is gone
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        with self._changed:
            self.taken.append(message_from_bytes(envelope.content)["Message-ID"])
            self._changed.notify_all()
        return "250 taken"

    def wait(self, count: int) -> list[str]:
        """Wait until so many messages were taken, and return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.taken) >= count, SOON), self.taken
            return list(self.taken)

    @contextmanager
    def open(self) -> Iterator[Mailbox]:
        self._controller.start()
        try:
            yield self
        finally:
            self._controller.stop()


class Jobs:
    """The programs of the jobs system, as OS processes with one store."""

    def __init__(self, folder: Path, store: str, mailbox: Mailbox) -> None:
        self._folder = folder
        self._store = store
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH"), str(ROOT / "storage")]))
        self._environment = {**os.environ, "PYTHONPATH": path}
        self._environment |= {"JOBS_SMTP": mailbox.address, "JOBS_FIRST_PAUSE": "0.05"}
        self._running: list[subprocess.Popen[str]] = []
        self._port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=SOON)

    def start_api(self) -> None:
        self._start("api", "--port", str(self._port))
        until = time.monotonic() + SOON
        while True:
            try:
                assert self.http.get("/health").json()["status"] == "ok"
                return
            except httpx.TransportError:
                assert time.monotonic() < until, self.log()
                time.sleep(0.02)

    def start_worker(self) -> subprocess.Popen[str]:
        worker = self._start("worker", "--lease", "1.5")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "worker is ready\n", self.log()
        return worker

    def _start(self, program: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"examples.jobs.{program}", "--store", self._store, *options]
        with open(self._folder / "log", "a") as log:
            started = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._running.append(started)
        return started

    def submit(self, key: str | None = None, subject: str = "hello") -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        job = {"type": "send_email", "payload": {"to": "ann@example.com", "subject": subject}}
        return self.http.post("/jobs", json=job, headers=headers)

    def wait(self, id: str, is_right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look at a job until it is as it should be."""
        until = time.monotonic() + SOON
        while not is_right(job := self.http.get(f"/jobs/{id}").json()):
            assert time.monotonic() < until, (job, self.log())
            time.sleep(0.01)
        return dict(job)

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def close(self) -> None:
        self.http.close()
        for program in self._running:
            program.terminate()
        for program in self._running:
            assert program.stdout is not None
            try:
                program.wait(SOON)
            finally:
                program.kill()
                program.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox().open() as mailbox:
        yield mailbox


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    return with_options(request.getfixturevalue("postgres_server"), schema=f"jobs_{uuid4().hex[:12]}")


@pytest.fixture
def jobs(tmp_path: Path, store: str, mailbox: Mailbox) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path, store, mailbox)
    try:
        jobs.start_api()
        yield jobs
    finally:
        jobs.close()


def ended(job: dict[str, Any]) -> bool:
    return job["status"] not in ("running", "stalled")


def test_job_is_taken_run_and_found(jobs: Jobs, mailbox: Mailbox) -> None:
    """A job is written down while no worker runs, done when one comes, and found by its id in between and after."""
    answer = jobs.submit()
    assert answer.status_code == 202
    id = answer.json()["id"]
    assert answer.headers["location"] == f"/jobs/{id}"
    assert jobs.http.get(f"/jobs/{id}").json()["status"] == "running"
    assert jobs.http.get("/health").json()["unfinished"] == 1
    jobs.start_worker()
    assert jobs.wait(id, ended)["status"] == "completed"
    assert len(mailbox.wait(1)) == 1
    assert jobs.http.get("/health").json() == {"status": "ok", "unfinished": 0, "stalled": 0}
    assert jobs.http.get("/jobs/another").status_code == 404


def test_duplicate_delivery_is_skipped(jobs: Jobs, mailbox: Mailbox) -> None:
    """The same job sent again, before and after it was done, is one job; another one under its key is refused."""
    jobs.start_worker()
    for _ in range(3):
        assert jobs.submit("order-1").status_code == 202
    jobs.wait("order-1", ended)
    assert jobs.submit("order-1").json()["status"] == "completed"
    assert jobs.submit("order-1", subject="another").status_code == 409
    assert jobs.submit("order-2").status_code == 202
    jobs.wait("order-2", ended)
    assert len(mailbox.taken) == 2


def test_two_workers_on_one_job(jobs: Jobs, mailbox: Mailbox) -> None:
    """Of two workers that hear of the same jobs at the same moment, one wins each: nothing is sent twice."""
    jobs.start_worker()
    jobs.start_worker()
    ids = [jobs.submit().json()["id"] for _ in range(40)]
    for id in ids:
        assert jobs.wait(id, ended)["status"] == "completed"
    assert len(mailbox.taken) == len(set(mailbox.taken)) == 40


def test_hard_crash_in_the_middle_is_taken_over(jobs: Jobs, mailbox: Mailbox) -> None:
    """A worker is killed while it sends a message: another one sends it, and the job is done."""
    mailbox.hold_next = True
    victim = jobs.start_worker()
    id = jobs.submit().json()["id"]
    assert mailbox.is_holding.wait(SOON)
    jobs.start_worker()
    victim.send_signal(signal.SIGKILL)
    job = jobs.wait(id, ended)
    assert (job["status"], job["failed_attempts"]) == ("completed", 0)
    assert len(mailbox.taken) == 1


def test_third_party_down_backs_off_then_succeeds(jobs: Jobs, mailbox: Mailbox) -> None:
    """While the mail server refuses, the pauses grow, each at least as long as asked for; then the job succeeds."""
    mailbox.refusals = ["451 try again later"] * 4
    jobs.start_worker()
    id = jobs.submit().json()["id"]
    job = jobs.wait(id, ended)
    assert (job["status"], job["failed_attempts"]) == ("completed", 4)
    failed = [datetime.fromisoformat(moment) for moment in job["failed_at"]]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(failed)]
    assert all(pause >= 0.05 * 2**number * 0.9 for number, pause in enumerate(pauses)), pauses  # jitter takes a tenth
    assert len(mailbox.taken) == 1


def test_refused_for_good(jobs: Jobs, mailbox: Mailbox) -> None:
    """A message that will never be taken fails at once, and the job says so."""
    mailbox.refusals = ["550 nobody here"]
    jobs.start_worker()
    id = jobs.submit().json()["id"]
    assert jobs.wait(id, ended)["status"] == "failed"
    assert mailbox.taken == []


def test_bad_jobs_are_refused(jobs: Jobs) -> None:
    """What is not a job, or names no address, is refused before anything is written down."""
    for job in ({"type": "dance", "payload": {}}, {"type": "send_email", "payload": {"to": "nobody"}}):
        assert jobs.http.post("/jobs", json=job).status_code == 422
    assert jobs.http.get("/health").json()["unfinished"] == 0


def test_clean_shutdown_hands_over(jobs: Jobs, mailbox: Mailbox) -> None:
    """A worker told to stop lets its message be sent, leaves with 0, and its waiting jobs go on with the next one."""
    mailbox.refusals = ["451 try again later"] * 5
    first = jobs.start_worker()
    id = jobs.submit().json()["id"]
    jobs.wait(id, lambda job: job["failed_attempts"] >= 1)
    first.terminate()
    assert first.wait(SOON) == 0
    jobs.start_worker()
    assert jobs.wait(id, ended)["status"] == "completed"
    assert len(mailbox.taken) == 1
