"""The file service as its clients and its operators see it: HTTP, OS processes, and what lies in the bucket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit

import boto3  # type: ignore[import-untyped]
import httpx
from httpx_sse import ServerSentEvent, connect_sse

from durable.webhooks import new_secret
from tests.examples.s3_server import Hold, Proxy, let_through
from tests.examples.zip_runs import ROOT, unpacked
from tests.postgres_server import free_port

SOON = 60.0
SECRET = new_secret()
_QUICK = {"FIRST_PAUSE": 0.05, "LEASE": 1.5, "WEBHOOK_SECRET": SECRET, "WEBHOOK_PRIVATE": "yes"}
_OPERATOR = ROOT / "tests" / "examples" / "file_service_operator"  # what Python finds there it runs at its start


class Service(ABC):
    """The programs of the service, in a folder, on a database and a bucket of its own."""

    def __init__(self, folder: Path, database: str, bucket: str, environment: dict[str, str]) -> None:
        self.folder = folder
        self.database = database
        self.bucket = bucket
        (folder / "temporary").mkdir(parents=True)
        path = os.pathsep.join(
            filter(None, [str(_OPERATOR), str(ROOT), os.environ.get("PYTHONPATH"), str(ROOT / "storage")])
        )
        self._environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder / "temporary"), **environment}
        self._environment |= {
            "SPANS": str(folder / "spans"),
            "FILE_SERVICE_DATABASE": database,
            "FILE_SERVICE_BUCKET": bucket,
        }
        self._port = free_port()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=SOON)
        self.programs: dict[str, subprocess.Popen[bytes]] = {}

    # --- its programs ---

    products: str  # URL of the database of the shop
    roles: tuple[str, ...]  # the programs it consists of
    api: str  # which of them answers
    worker: str  # which of them works

    def start(self, *roles: str, **settings: float | str | None) -> None:
        """Start all programs, or those of *roles*, and wait until they are there."""
        for name, value in {**_QUICK, **settings}.items():
            self._environment.pop(f"FILE_SERVICE_{name}", None)
            if value is not None:
                self._environment[f"FILE_SERVICE_{name}"] = str(value)
        for role in roles or self.roles:
            self._start(role)
        if self.api in self.programs:
            self._wait_for_api()

    def _start(self, role: str) -> None:
        command = [sys.executable, "-P", "-m", "examples.file_service", role, "--port", str(self._port)]
        with open(self.folder / "log", "ab") as log:
            output = subprocess.PIPE if role == "worker" else log
            program = subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=output, stderr=log)
        self.programs[role] = program
        if program.stdout is not None:
            with program.stdout:
                assert program.stdout.readline() == b"worker is ready\n", self.log()

    def _wait_for_api(self) -> None:
        until = time.monotonic() + SOON
        while True:
            with suppress(httpx.TransportError):
                assert self.http.get("/tasks/ready").status_code == 200
                return
            assert time.monotonic() < until and self.programs[self.api].poll() is None, self.log()
            time.sleep(0.02)

    def kill(self, role: str) -> None:
        """`kill -9`."""
        program = self.programs.pop(role)
        program.send_signal(signal.SIGKILL)
        assert program.wait(SOON) == -signal.SIGKILL, self.log()

    def stop(self) -> None:
        """Tell all programs to stop, and wait until they have, each by itself and in order."""
        for program in self.programs.values():
            program.terminate()
        codes = {role: program.wait(SOON) for role, program in self.programs.items()}
        self.programs.clear()
        # uvicorn, when everything is closed, sends itself the signal again, so that who sent it sees what became of it.
        expected = {role: 0 if role == "worker" else -signal.SIGTERM for role in codes}
        assert codes == expected, self.log()

    def close(self) -> None:
        try:
            self.stop()
        finally:
            for program in self.programs.values():
                program.kill()
                program.wait()
            self.http.close()

    def log(self) -> str:
        return (self.folder / "log").read_text()[-5000:]

    def spans(self, task: str) -> list[dict[str, Any]]:
        """What the programs have told OpenTelemetry about a task."""
        told = [json.loads(line) for line in (self.folder / "spans").read_text().splitlines()]
        return [span for span in told if span["attributes"].get("durable.process.id") == task]

    # --- its clients ---

    def put(self, task: str, contents: dict[str, bytes | Path]) -> None:
        """Upload files; each again for as long as it is told to try again."""
        for name, content in contents.items():
            while (answer := self._put(task, name, content)).status_code == 503:
                pass
            assert answer.status_code == 201, (answer.text, self.log())

    def _put(self, task: str, name: str, content: bytes | Path) -> httpx.Response:
        url = f"/uploads/{task}/{name}"
        if isinstance(content, bytes):
            return self.http.put(url, content=content)
        with open(content, "rb") as file:
            return self.http.put(url, content=file, headers={"Content-Length": str(content.stat().st_size)})

    def submit(self, task: str, definition: str = "create_zip", **given: Any) -> httpx.Response:
        """Start a task."""
        return self.http.post(f"/tasks/definitions/{definition}/processes", json={"id": task, "input": given})

    def zip(self, task: str, contents: dict[str, bytes]) -> None:
        """Upload files and start."""
        self.put(task, dict(contents))
        assert self.submit(task, files=list(contents)).status_code == 201, self.log()

    def result(self, task: str) -> dict[str, Any]:
        """Wait for the end of a task."""
        answer = self.http.get(f"/tasks/processes/{task}/result", params={"wait": SOON})
        assert answer.status_code == 200, (answer.text, self.log())
        return dict(answer.json())

    def history(self, task: str) -> list[dict[str, Any]]:
        return list(self.http.get(f"/tasks/processes/{task}/history").json()["records"])

    def failed_attempts(self, task: str) -> list[str]:
        """The steps of which an attempt failed and another one followed."""
        return [record["name"] for record in self.history(task) if record["kind"] == "attempt"]

    def suspects(self) -> str:
        """What `reconcile` has found and will remove, if it finds it again."""
        return str(self.history("reconcile")[0]["value"])

    def wait_until_suspected(self, name: str) -> None:
        until = time.monotonic() + SOON
        while name not in self.suspects():
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def cancel(self, task: str) -> None:
        answer = self.http.post(f"/tasks/processes/{task}/cancel", json={"reason": "by the client"})
        assert answer.status_code in (202, 409), answer.text  # 409: it has ended

    def follow(
        self, task: str, last_event_id: str | None = None
    ) -> Generator[tuple[ServerSentEvent, dict[str, Any]], None, None]:
        """The updates of a task by Server-Sent Events."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        with connect_sse(self.http, "GET", f"/tasks/processes/{task}/watch", headers=headers) as source:
            for event in source.iter_sse():
                yield event, json.loads(event.data)

    def archive(self, task: str) -> dict[str, bytes]:
        """The files in the archive of a task."""
        while (answer := self.http.get(f"/archives/{task}")).status_code == 503:
            pass
        assert answer.status_code == 200, answer.text
        assert f'filename="{quote(task)}.zip"' in answer.headers["content-disposition"]
        return unpacked(answer.content)

    # --- its bucket ---

    @abstractmethod
    def names(self) -> list[str]:
        """All objects, whole or not, and all uploads that were cut off."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """An object."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Put an object there, past the service."""

    @abstractmethod
    def expect_upload(self, folder: str) -> Upload:
        """The next upload of several parts into *folder*, to be waited for until it is half-way."""

    def left_of(self, task: str) -> list[str]:
        """What there is of a task; and nothing is in a folder for temporary files, ever."""
        assert os.listdir(self.folder / "temporary") == []
        return [name for name in self.names() if name.split("/")[1] == task]

    def wait_until_gone(self, task: str) -> None:
        until = time.monotonic() + SOON
        while left := self.left_of(task):
            assert time.monotonic() < until, (left, self.log())
            time.sleep(0.05)


class Upload(ABC):
    """An upload of several parts that is awaited."""

    @abstractmethod
    def wait(self) -> None:
        """Until it is half-way."""

    @abstractmethod
    def let_go(self) -> None:
        """It need not be half-way any longer."""


class LocalUpload(Upload):
    """An upload into a local folder: nothing can hold it, but while it lasts there is a file for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wait(self) -> None:
        until = time.monotonic() + SOON
        while not any(self._folder.glob("*#*")):
            assert time.monotonic() < until
            time.sleep(0.001)

    def let_go(self) -> None:
        """It was never held."""


class HeldUpload(Upload):
    """An upload to S3, which is held at its second part."""

    def __init__(self, proxy: Proxy, folder: str) -> None:
        self._proxy = proxy
        self._hold = Hold(lambda _, call: call.startswith("PUT") and folder in call and "partNumber=2" in call)
        proxy.decide = self._hold

    def wait(self) -> None:
        assert self._hold.is_held.wait(SOON)

    def let_go(self) -> None:
        self._proxy.decide = let_through
        self._hold.let_go.set()


class Embedded(Service):
    """Everything in one program, on SQLite and a local folder."""

    roles: tuple[str, ...] = ("all",)
    api = "all"
    worker = "all"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, f"sqlite:///{folder}/tasks.db", (folder / "bucket").as_uri(), {})
        self.products = f"sqlite+aiosqlite:///{folder}/tasks.db-products"

    def names(self) -> list[str]:
        bucket = self.folder / "bucket"
        return sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self.folder / "bucket" / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        file = self.folder / "bucket" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def expect_upload(self, folder: str) -> Upload:
        return LocalUpload(self.folder / "bucket" / folder)


class Distributed(Service):
    """API and worker as programs of their own, on PostgreSQL and S3."""

    roles = ("api", "worker")
    api, worker = roles

    def __init__(self, folder: Path, database: str, server: str, proxy: Proxy) -> None:
        self.proxy = proxy
        name = f"files-{folder.name}".lower().replace("_", "-")
        secrets = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        regions = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        endpoint = {"AWS_ENDPOINT_URL": proxy.address, "AWS_ALLOW_HTTP": "true"}
        super().__init__(folder, database, f"s3://{name}", {**secrets, **regions, **endpoint})
        self.products = database.replace("postgresql://", "postgresql+asyncpg://")
        self._s3 = boto3.client(
            "s3",
            endpoint_url=f"http://{server}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self._s3.create_bucket(Bucket=name)

    def names(self) -> list[str]:
        bucket = urlsplit(self.bucket).netloc
        objects = [one["Key"] for one in self._s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
        uploads = self._s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return sorted([*objects, *(f"{one['Key']} (unfinished)" for one in uploads)])

    def read(self, name: str) -> bytes:
        return bytes(self._s3.get_object(Bucket=urlsplit(self.bucket).netloc, Key=name)["Body"].read())

    def write(self, name: str, content: bytes) -> None:
        self._s3.put_object(Bucket=urlsplit(self.bucket).netloc, Key=name, Body=content)

    def begin_upload(self, name: str) -> str:
        """Begin an upload of several parts, past the service; its id."""
        return str(self._s3.create_multipart_upload(Bucket=urlsplit(self.bucket).netloc, Key=name)["UploadId"])

    def uploads(self) -> list[str]:
        """The ids of all uploads that have not come to their end."""
        uploads = self._s3.list_multipart_uploads(Bucket=urlsplit(self.bucket).netloc).get("Uploads", ())
        return [one["UploadId"] for one in uploads]

    def remove_bucket(self) -> None:
        self._s3.delete_bucket(Bucket=urlsplit(self.bucket).netloc)

    def expect_upload(self, folder: str) -> Upload:
        return HeldUpload(self.proxy, folder)


def make_files(task: str, sizes: Iterable[int]) -> dict[str, bytes]:
    """Files that do not get smaller, by name."""
    random = Random(task)
    return {f"file {number}.bin": random.randbytes(size) for number, size in enumerate(sizes)}
