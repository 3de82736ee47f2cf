"""
How commands fail: an error of ours is its text on standard error and an exit code by its family, never a traceback.

``docs/command-line.md`` lists the codes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import typer
from typer.core import TyperGroup

from durable.cli.output import say_error
from durable.errors import DurableError


class ExitCode(IntEnum):
    """What a command's exit code says."""

    FINE = 0
    NO = 1  # the answer of `check` or `copy` is no: something would not go on, or was left behind
    USAGE = 2  # as every program written with click or argparse
    CODE = 3  # D1: the code of processes: a module that cannot be imported, a definition, a name
    STORAGE = 4  # D2: the store or file: missing, not ours, newer, damaged, full, not to be written
    PROCESS = 5  # D3: processes and sessions: no such process, ended, its id taken, session lost
    VALUE = 6  # D4: values: cannot be encoded or decoded
    INTERRUPTED = 130  # Ctrl-C


_FAMILIES = {"D1": ExitCode.CODE, "D2": ExitCode.STORAGE, "D3": ExitCode.PROCESS, "D4": ExitCode.VALUE}


def exit_code(error: DurableError) -> ExitCode:
    """The exit code of *error*: that of its family."""
    return _FAMILIES.get(error.code[:2], ExitCode.NO)


class Commands(TyperGroup):
    """The group of all commands: here errors end."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DurableError as error:
            say_error(str(error))
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
