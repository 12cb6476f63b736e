"""The commands that show accounts: `run`, `listen`, `status`; and `init`, which writes a configuration.

Each command imports what it needs by itself, so that `--help` and `listen` do not load ccxt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from brokerwatch.cli import exits
from brokerwatch.cli.key_options import KeyChoice, key_options, listening
from brokerwatch.cli.log_output import LogChoice, log_options

STATUS_PATIENCE_S: Final = 5.0

_JSON_HELP: Final = "One JSON object a line for every change."
_WHY_NOTHING: Final = "is a cluster running there? One that is encrypted lets in only keys on its list"
_CONFIG_HELP: Final = "TOML file that says where the cluster publishes; default: as for run."


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml.",
)
@click.option("--demo", is_flag=True, help="Run on simulated exchanges that break and recover.")
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop after so long.")
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@click.option(
    "--keep-going", is_flag=True, help="Start the sound brokers although others are configured wrongly."
)
@log_options
def run(
    *,
    config: Path | None,
    demo: bool,
    duration: float | None,
    as_json: bool,
    keep_going: bool,
    log: LogChoice,
) -> None:
    """Watch the accounts of a configuration, and publish their health."""
    from brokerwatch.cli import run as program

    program.run(
        config=config,
        demo=demo,
        duration_s=duration,
        as_json=as_json,
        keep_going=keep_going,
        log=log,
    )


@click.command()
@click.argument("endpoints", metavar="[ENDPOINT]...", nargs=-1)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_CONFIG_HELP)
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N objects.")
@click.option(
    "--on-change",
    metavar="COMMAND",
    help="Run this for each change, with the reading as a JSON object on its standard input.",
)
@key_options
def listen(
    *,
    endpoints: tuple[str, ...],
    config: Path | None,
    as_json: bool,
    count: int | None,
    on_change: str | None,
    keys: KeyChoice,
) -> None:
    """Show what a cluster publishes, from another process.

    ENDPOINT is a health topic; there may be several. Without one it is the configuration's, and where there
    is no configuration tcp://127.0.0.1:5571. When nothing is heard, it says so.
    """
    if on_change is None:
        _show(endpoints, config, keys, as_json=as_json, count=count)
    else:
        _listen_for(on_change, endpoints, config, keys, count)


@click.command()
@click.argument("endpoints", metavar="[ENDPOINT]...", nargs=-1)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_CONFIG_HELP)
@key_options
def top(*, endpoints: tuple[str, ...], config: Path | None, keys: KeyChoice) -> None:
    """Show the live table of any cluster in this terminal.

    ENDPOINT is as for listen.
    """
    from brokerwatch.cli.streams import can_draw

    if not can_draw():
        exits.fail(
            "top draws a table and needs a terminal whose TERM is not dumb; `brokerwatch listen` prints "
            "lines, and `brokerwatch status` asks once"
        )
    _show(endpoints, config, keys, as_json=False, count=None)


def _show(
    endpoints: tuple[str, ...], config: Path | None, keys: KeyChoice, *, as_json: bool, count: int | None
) -> None:
    """Show what is heard, until it is stopped or after `count` lines."""
    from brokerwatch.bus.station import NOTHING_HEARD_S
    from brokerwatch.cli.screen import Screen
    from brokerwatch.cli.signals import stop_signals
    from brokerwatch.clock import SystemClock

    subscribed, endpoints = listening(endpoints, config, keys)
    where = ", ".join(endpoints)
    with stop_signals() as stopped, subscribed as listener:
        received = Screen(
            listener,
            stopped.is_set,
            SystemClock().up_s,
            as_json=as_json,
            title=f"brokerwatch: listening to {where}",
            caption=lambda: (
                f"{'' if listener.readings() else f'nothing heard yet from {where}   '}Ctrl-C ends"
            ),
            count=count,
            quiet_after_s=NOTHING_HEARD_S,
            on_quiet=f"nothing heard from {where} for {NOTHING_HEARD_S:g} s: {_WHY_NOTHING}",
        ).show()
    if not received:
        sys.exit(exits.NOTHING_HEARD)


def _listen_for(
    command: str, endpoints: tuple[str, ...], config: Path | None, keys: KeyChoice, count: int | None
) -> None:
    from brokerwatch.cli.on_change import command_words, run_on_change
    from brokerwatch.cli.signals import stop_signals

    try:
        words = command_words(command)
    except ValueError as error:
        exits.fail(f"--on-change: {error}")
    with stop_signals() as stopped, listening(endpoints, config, keys)[0] as listener:
        if not run_on_change(listener, words, stopped.is_set, count):
            sys.exit(exits.NOTHING_HEARD)


@click.command()
@click.argument("endpoint", required=False)
@click.argument("broker", required=False)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_CONFIG_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each broker.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=STATUS_PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the cluster.",
)
@key_options
def status(
    *,
    endpoint: str | None,
    broker: str | None,
    config: Path | None,
    as_json: bool,
    timeout: float,
    keys: KeyChoice,
) -> None:
    """Ask once, for cron and probes.

    ENDPOINT is a health topic; without one it is the configuration's, and where there is no configuration
    tcp://127.0.0.1:5571. Status 0: BROKER is available, or all of them; 1: not; 3: available, but a balance
    is not fresh; 4: nothing heard.
    """
    from brokerwatch.cli import output, text

    if endpoint is not None and broker is None and ":" not in endpoint:
        endpoint, broker = None, endpoint
    subscribed, (where,) = listening(() if endpoint is None else (endpoint,), config, keys)
    with subscribed as listener:
        listener.complete.wait(timeout)
        received = sorted(listener.heard(), key=lambda one: one.reading.broker)
        asked = [one for one in received if broker in (None, one.reading.broker)]
    if not received:
        detail = f"nothing heard from {where} within {timeout:g} s: {_WHY_NOTHING}"
        output.emit_all([text.nothing_heard_object(detail) if as_json else detail])
        sys.exit(exits.NOTHING_HEARD)
    if not asked:
        known = ", ".join(sorted(one.reading.broker for one in received))
        exits.fail(f"{where} publishes no broker named {broker!r}; there are: {known}")
    # The answer is settled before it is written: a slow reader must not let it expire.
    available = all(one.reading.available for one in asked)
    fresh = not any(one.reading.stale for one in asked)
    width = text.name_width(one.reading.broker for one in asked)
    output.emit_all([text.json_object(one) if as_json else text.change_line(one, width) for one in asked])
    if not available:
        sys.exit(exits.NO)
    if not fresh:
        sys.exit(exits.WARNINGS)


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("brokerwatch.toml"))
def init(*, path: Path) -> None:
    """Write a commented configuration to fill in.

    PATH is brokerwatch.toml unless you name another. An existing file is left alone.
    """
    from brokerwatch.config.template import CONFIG_TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(CONFIG_TEMPLATE)
            # Under a umask of 002 a group could write it, and then it would be refused.
            os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & ~0o022)
    except FileExistsError:
        exits.fail(f"{path} exists already and was left alone; name another file: brokerwatch init PATH")
    except OSError as error:
        exits.fail(f"{path} cannot be written: {error.strerror}")
    option = "" if str(path) == "brokerwatch.toml" else f" --config {path}"
    click.echo(f"wrote {path}; fill in your accounts, then: brokerwatch run{option}")
