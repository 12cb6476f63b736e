"""The doors: `brokerwatch run`, `listen`, `status`, `init`.

Exit statuses of all commands: 0 yes, 1 no, 2 usage or configuration, 3 yes with warnings, 4 nothing
heard. What a command needs it imports itself, so that `--help` and `listen` do not pay for ccxt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from brokerwatch.errors import BrokerwatchError, ConfigError

YES, NO, USAGE, WARNINGS, NOTHING_HEARD = 0, 1, 2, 3, 4

STATUS_PATIENCE_S: Final = 5.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which exchange accounts can be trusted right now, and how much money is in each.",
    epilog="Exit statuses: 0 yes, 1 no, 2 usage or configuration, 3 yes with warnings, 4 nothing heard.",
)


def run(
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml.", show_default=False
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run on simulated exchanges that break and recover.")
    ] = False,
    duration: Annotated[
        float | None, typer.Option(help="Stop after so many seconds.", min=0.0, show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for every change.")] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Start the sound brokers although others are configured wrongly."),
    ] = False,
) -> None:
    """Watch the accounts of a configuration, and publish their health."""
    from brokerwatch import program

    program.run(config=config, demo=demo, duration_s=duration, as_json=as_json, keep_going=keep_going)


app.command()(run)


@app.command()
def listen(
    endpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ENDPOINT]...", help="Health topics; default tcp://127.0.0.1:5571.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for every change.")] = False,
    count: Annotated[
        int | None, typer.Option(help="End after so many objects.", min=1, show_default=False)
    ] = None,
) -> None:
    """Show what a cluster publishes, from another process. Says so when nothing is heard."""
    from brokerwatch import screen
    from brokerwatch.clock import SystemClock
    from brokerwatch.listener import NOTHING_HEARD_S, Listener
    from brokerwatch.signals import stop_signals

    where = ", ".join(endpoints or ()) or "tcp://127.0.0.1:5571"
    with stop_signals() as stopped, Listener(*(endpoints or ())) as listener:
        heard = screen.watch(
            listener,
            stopped.is_set,
            as_json=as_json,
            count=count,
            title=f"brokerwatch: listening to {where}",
            caption=lambda: _hearing(where, heard_anything=bool(listener.readings())),
            quiet_after_s=NOTHING_HEARD_S,
            on_quiet=lambda: (
                f"nothing heard from {where} for {NOTHING_HEARD_S:g} s: is a cluster running there?"
            ),
            up_s=SystemClock().up_s,
        )
    if not heard:
        raise typer.Exit(NOTHING_HEARD)


def _hearing(where: str, *, heard_anything: bool) -> str:
    return "Ctrl-C ends" if heard_anything else f"nothing heard yet from {where}   Ctrl-C ends"


@app.command()
def status(
    endpoint: Annotated[
        str | None, typer.Argument(help="Health topic; default tcp://127.0.0.1:5571.", show_default=False)
    ] = None,
    broker: Annotated[
        str | None, typer.Argument(help="One broker; default: all must be available.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each broker.")] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for the cluster.", min=0.1)
    ] = STATUS_PATIENCE_S,
) -> None:
    """Ask once, for cron and probes: 0 available, 1 not, 3 available with warnings, 4 nothing heard."""
    from brokerwatch import screen
    from brokerwatch.listener import Listener

    if endpoint is not None and broker is None and "://" not in endpoint:
        endpoint, broker = None, endpoint
    where = endpoint or "tcp://127.0.0.1:5571"
    with Listener(where) as listener:
        complete = listener.complete.wait(timeout)
        heard = [one for one in listener.heard() if broker in (None, one.reading.broker)]
        if not complete and not heard:
            detail = f"nothing heard from {where} within {timeout:g} s: is a cluster running there?"
            screen.emit(screen.nothing_heard_object(detail) if as_json else detail)
            raise typer.Exit(NOTHING_HEARD)
        if broker is not None and not heard:
            known = ", ".join(sorted(listener.readings()))
            _fail(f"{where} publishes no broker named {broker!r}; there are: {known}")
        for one in heard:
            screen.emit(screen.json_object(one) if as_json else screen.change_line(one.reading))
        if not all(one.reading.available for one in heard):
            raise typer.Exit(NO)
        if any(one.reading.stale for one in heard):
            raise typer.Exit(WARNINGS)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("brokerwatch.toml"),
) -> None:
    """Write a commented configuration to fill in. An existing file is left alone."""
    from brokerwatch.template import CONFIG_TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(CONFIG_TEMPLATE)
    except FileExistsError:
        _fail(f"{path} exists already and was left alone; name another file: brokerwatch init PATH")
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")
    screen_path = f"--config {path}" if str(path) != "brokerwatch.toml" else ""
    typer.echo(f"wrote {path}; fill in your accounts, then: brokerwatch run {screen_path}".rstrip())


def main() -> None:
    """The command line, with errors as sentences and not as tracebacks."""
    _guarded(app)


def run_alone() -> None:
    """`run` as a program of its own."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(run)
    _guarded(alone)


def _guarded(program: typer.Typer) -> None:
    try:
        program()
    except ConfigError as error:
        _fail(str(error))
    except BrokerwatchError as error:
        _fail(str(error))
    except BrokenPipeError:
        # Whoever read our lines has enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(YES)


def _fail(text: str) -> NoReturn:
    for line in text.splitlines():
        sys.stderr.write(f"brokerwatch: {line}\n")
    sys.exit(USAGE)
