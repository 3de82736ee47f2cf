#!/usr/bin/env python3
"""
Everything one does with a checkout of durable, one command each, from a bare Python 3.11 or newer (POSIX).

  python3 dev.py demo [FILES...]   run the ZIP pipeline over FILES (default: the files of this repository)
  python3 dev.py test [ARGS...]    run the tests; ARGS go to pytest. With CI set: against the built wheel
  python3 dev.py check             format, lint, import contracts, mypy, pyright, then the tests
  python3 dev.py lint              the same without the tests
  python3 dev.py matrix [ARGS...]  run `test` on 3.11, 3.12 and 3.13; --others: on those found beside this one
  python3 dev.py chaos [ARGS...]   run the long form of the chaos, crash and property tests
  python3 dev.py bench [ARGS...]   run the benchmarks
  python3 dev.py build             write sdist and wheel to dist/
  python3 dev.py pin               write constraints.txt anew from the newest versions

The first run of a Python version makes its environment, .venv-X.Y; so does the first after pyproject.toml or
constraints.txt changed. The standard library is all this file needs.
"""

import sys

# Before anything else, and in syntax that old versions read: they get this sentence, not a stack of errors.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"dev.py: durable needs Python 3.11 or newer; this is {sys.version_info[0]}.{sys.version_info[1]} "
        f"({sys.executable}). Run it as, say, `python3.11 dev.py`."
    )

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VERSIONS = ("3.11", "3.12", "3.13")
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"

Arguments = Sequence[str | Path]


# --- environments --------------------------------------------------------------------------------------------


def environment(name: str, install: Arguments) -> Path:
    """
    Return the Python of environment *name*, made with `pip install` of *install* if it is missing or out of date.

    The stamp is written last and removed first, so an interrupted installation is done again from the start.
    """
    folder = ROOT / name
    stamp = folder / "made-from"
    key = environment_key(ROOT, install)
    if not _is_stamped(stamp, key):
        with open(ROOT / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second dev.py waits for the first one's installation
            if not _is_stamped(stamp, key):
                stamp.unlink(missing_ok=True)
                _make_environment(folder, install, lock.fileno())
                stamp.write_text(key)
    return folder / "bin" / "python"


def environment_key(root: Path, install: Arguments) -> str:
    """What an environment is made from, as a hash: place, interpreter, requirements."""
    digest = hashlib.sha256()
    for fact in (root, sys.version, sys.base_prefix, *install):
        digest.update(f"{fact}\0".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes() + b"\0")
    return digest.hexdigest()


def _is_stamped(stamp: Path, key: str) -> bool:
    try:
        return stamp.read_text() == key
    except FileNotFoundError:
        return False


def _make_environment(folder: Path, install: Arguments, lock: int) -> None:
    started = time.monotonic()
    say(f"making {folder.name} with Python {HERE} ({sys.executable}); this happens once")
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    if find_spec("ensurepip"):
        run(sys.executable, "-m", "venv", folder)
        pip: Arguments = (python, "-m", "pip")
    elif find_spec("pip"):  # Debian's Python: its venv cannot install pip, but its pip can install into a venv
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        pip = (sys.executable, "-m", "pip", "--python", python)
    else:
        sys.exit(f"dev.py: {sys.executable} has neither pip nor ensurepip. On Debian: apt install python3-venv")
    # Should this dev.py be killed, its pip goes on, keeping the lock: the next dev.py waits before it clears away.
    run(*pip, "install", "-qq", "--disable-pip-version-check", *install, keep_open=lock)
    say(f"made {folder.name} in {time.monotonic() - started:.0f} s")


def development() -> Path:
    """The environment of this checkout: the sources, editable, and every tool."""
    return environment(f".venv-{HERE}", ("--constraint", ROOT / "constraints.txt", "--editable", f"{ROOT}[test]"))


# --- commands ------------------------------------------------------------------------------------------------


def demo(arguments: Sequence[str]) -> NoReturn:
    # Where the user is, because FILES are relative to it; -P keeps that folder out of the import path.
    become(development(), "-P", "-m", "examples.zip_pipeline", *arguments, PYTHONPATH=str(ROOT))


def test(arguments: Sequence[str]) -> NoReturn:
    if os.environ.get("CI"):
        test_wheel(arguments)
    python = development()
    os.chdir(ROOT)
    become(python, "-m", "pytest", *pytest_arguments(arguments))


def test_wheel(arguments: Sequence[str]) -> NoReturn:
    """Run the tests of the sdist against the wheel built from it: where they run, there are no sources to import."""
    wheel = Path(os.environ.get("DURABLE_WHEEL") or build_wheel())
    python = environment(f".venv-{HERE}-wheel", ("--constraint", ROOT / "constraints.txt", f"{wheel}[test]"))
    run(python, "-m", "pip", "install", "-qq", "--no-deps", "--force-reinstall", wheel)
    folder = ROOT / "build" / HERE
    shutil.rmtree(folder, ignore_errors=True)
    (sdist,) = wheel.parent.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder)
    (checkout,) = folder.iterdir()
    for sources in ("durable", "storage"):
        shutil.rmtree(checkout / sources)
    say(f"testing {wheel.name}, without sources, in {checkout.relative_to(ROOT)}")
    os.chdir(checkout)
    become(python, "-m", "pytest", "-o", "pythonpath=.", *pytest_arguments(arguments), DURABLE_WHEEL=str(wheel))


def build_wheel() -> Path:
    """Build the sdist, and the wheel from it, for a test; the sdist stays beside the wheel."""
    folder = ROOT / "build" / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    run(development(), "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def pytest_arguments(arguments: Sequence[str]) -> list[str]:
    """The whole suite runs on all cores; what was asked for in particular runs as it was asked for."""
    return list(arguments) or ["-n", "auto"]


def lint(arguments: Sequence[str]) -> int:
    refuse(arguments)
    python = development()
    folder = python.parent
    failed = []
    for what, command in {
        "format": (python, "-m", "ruff", "format", "--check", "."),
        "lint": (python, "-m", "ruff", "check", "."),
        "import contracts": (folder / "lint-imports", "--no-logo"),
        "mypy": (python, "-m", "mypy"),
        "pyright": (folder / "basedpyright", "--pythonpath", python),
    }.items():
        say(what)
        if call(*command):
            failed.append(what)
    say(f"failed: {', '.join(failed)}" if failed else "format, lint, import contracts, mypy and pyright: fine")
    return 1 if failed else 0


def check(arguments: Sequence[str]) -> int:
    failed = lint(arguments)
    return call(sys.executable, __file__, "test") or failed


def matrix(arguments: Sequence[str]) -> int:
    others = "--others" in arguments
    arguments = [argument for argument in arguments if argument != "--others"]
    if os.environ.get("CI"):
        os.environ["DURABLE_WHEEL"] = str(build_wheel())  # the same one for all versions
    outcomes: dict[str, int] = {}
    for version in VERSIONS:
        if others and version == HERE:
            continue
        interpreter = find_interpreter(version)
        if interpreter is not None:
            say(f"Python {version}: {interpreter}")
            outcomes[version] = call(interpreter, __file__, "test", *arguments)
        else:
            say(f"Python {version}: not found. `pyenv install {version}`, or put python{version} on the PATH")
            if not others:
                outcomes[version] = 1
    failed = [version for version, code in outcomes.items() if code]
    say(f"matrix failed: {', '.join(failed)}" if failed else f"matrix passed: {', '.join(outcomes) or 'nothing found'}")
    return next((code for code in outcomes.values() if code), 0)


def chaos(arguments: Sequence[str]) -> NoReturn:
    python = development()
    os.chdir(ROOT)
    long_form = ("-m", "chaos", "--hypothesis-profile", "chaos", "-o", "timeout=3600")
    become(python, "-m", "pytest", *long_form, *pytest_arguments(arguments))


def bench(arguments: Sequence[str]) -> NoReturn:
    become(development(), "-P", "-m", "benchmarks", *arguments, PYTHONPATH=str(ROOT))


def build(arguments: Sequence[str]) -> NoReturn:
    refuse(arguments)
    become(development(), "-m", "build", "--no-isolation", "--outdir", ROOT / "dist", ROOT)


def pin(arguments: Sequence[str]) -> None:
    refuse(arguments)
    python = environment(f".venv-{HERE}-newest", (f"{ROOT}[test]", f"{ROOT}[postgres]"))
    frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    pins = [line for line in frozen.splitlines() if re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]
    head = "# What tests and checks run with. Users get the bounds of pyproject.toml. Made by `python3 dev.py pin`.\n"
    (ROOT / "constraints.txt").write_text(head + "\n".join(sorted(pins, key=str.lower)) + "\n")
    shutil.rmtree(ROOT / f".venv-{HERE}-newest")
    say(f"pinned {len(pins)} packages in constraints.txt")


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "demo": demo,
    "test": test,
    "check": check,
    "lint": lint,
    "matrix": matrix,
    "chaos": chaos,
    "bench": bench,
    "build": build,
    "pin": pin,
}


# --- interpreters --------------------------------------------------------------------------------------------


def find_interpreter(version: str) -> Path | None:
    """The first Python of this *version* that starts and says so itself: a name on the PATH may be an empty shim."""
    return next((path for path in _candidates(version) if real_version(path) == version), None)


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    yield from sorted(pyenv.glob(f"{version}.*/bin/python{version}"), key=_patch_level, reverse=True)
    for folder in os.get_exec_path():
        yield Path(folder, f"python{version}")


def _patch_level(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.parts[-3])]


def real_version(interpreter: Path) -> str | None:
    """What *interpreter* says its version is; None if it does not run."""
    question = "import sys; print('{}.{}'.format(*sys.version_info))"
    try:
        answer = subprocess.run([interpreter, "-c", question], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


# --- running things ------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(f"dev.py: {text}", flush=True)


def refuse(arguments: Sequence[str]) -> None:
    if arguments:
        sys.exit(f"dev.py: this command takes no arguments: {' '.join(arguments)}")


def call(*command: str | Path, keep_open: int | None = None) -> int:
    """Run *command* in the root of the checkout and return its exit code; it inherits the descriptor *keep_open*."""
    inherited = () if keep_open is None else (keep_open,)
    return subprocess.run(command, cwd=ROOT, env=_variables(), pass_fds=inherited).returncode


def run(*command: str | Path, keep_open: int | None = None) -> None:
    """Run *command*; end with its exit code if it fails."""
    code = call(*command, keep_open=keep_open)
    if code:
        say(f"failed with exit code {code}: {' '.join(map(str, command))}")
        sys.exit(code)


def become(*command: str | Path, **variables: str) -> NoReturn:
    """Go on as *command*: same process id, so that signals and the exit code are its own."""
    sys.stdout.flush()
    os.execve(command[0], [str(part) for part in command], _variables() | variables)


def _variables() -> dict[str, str]:
    # Whatever points at other packages would let the sources in where only the wheel may be.
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}


def main(arguments: Sequence[str]) -> int | None:
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    print(__doc__.strip())
    return 0 if arguments and arguments[0] in ("-h", "--help", "help") else 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
