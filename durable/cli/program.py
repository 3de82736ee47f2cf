"""The command line put together: each command under its name."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from durable.cli import acting, checks, keeping, listing, moving, showing
from durable.cli.failures import Commands
from durable.cli.output import say

app = typer.Typer(
    cls=Commands,
    help="Look into a store of durable processes, act on them, move them, check them against code.",
    epilog="The store is --url, or the environment variable DURABLE_URL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        try:
            say(version("durable"))
        except PackageNotFoundError:  # a source tree that is not installed
            say("unknown")
        raise typer.Exit


@app.callback()
def durable(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What stands before every command."""


app.command("ps")(listing.ps)
app.command("show")(showing.show)
app.command("history")(showing.history)
app.command("raise")(acting.raise_event)
app.command("cancel")(acting.cancel)
app.command("terminate")(acting.terminate)
app.command("resume")(acting.resume)
app.command("export")(moving.export)
app.command("import")(moving.import_file)
app.command("copy")(moving.copy)
app.command("check")(checks.check)
app.command("archive")(keeping.archive)
app.command("purge")(keeping.purge)
app.command("ddl")(keeping.ddl)
