"""The commands that show accounts: `run`, `listen`, `status`; and `init`, which writes a configuration.

Each command imports what it needs by itself, so that `--help` and `listen` do not load ccxt.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brokerwatch.cli import exits
from brokerwatch.cli.key_options import KeyChoice, key_options, listening
from brokerwatch.cli.log_output import LogChoice, log_options
from brokerwatch.cli.pool_options import PoolOptions, pool_options

if TYPE_CHECKING:
    from brokerwatch.config.shard import Shard

STATUS_PATIENCE_S: Final = 5.0

_JSON_HELP: Final = "One JSON object a line for every change."
_WHY_NOTHING: Final = "is a cluster running there? One that is encrypted lets in only keys on its list"
_RUN_CONFIG_HELP: Final = "TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml."
_CONFIG_HELP: Final = "TOML file that says where the cluster publishes; default: as for run."


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_RUN_CONFIG_HELP)
@click.option("--demo", is_flag=True, help="Run on simulated exchanges that break and recover.")
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop after so long.")
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@click.option(
    "--keep-going", is_flag=True, help="Start the sound brokers although others are configured wrongly."
)
@click.option("--engine", type=click.Choice(["ray"]), help="Start nodes of a pool by this engine instead.")
@click.option("--pool", metavar="NAME", help="With --engine: the pool of the nodes.")
@click.option("--nodes", type=click.IntRange(1, 64), metavar="N", help="With --engine: how many. Default: 2.")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="With --engine: of a Ray cluster that runs. Default: one of its own on this host.",
)
@log_options
def run(
    *,
    config: Path | None,
    demo: bool,
    duration: float | None,
    as_json: bool,
    keep_going: bool,
    engine: str | None,
    pool: str | None,
    nodes: int | None,
    address: str | None,
    log: LogChoice,
) -> None:
    """Watch the accounts of a configuration, and publish their health.

    With --engine ray this starts nodes of a pool, as `node --pool` does, as actors of Ray, which starts them
    again when they die. They share the accounts, and report them to supervisors.
    """
    if engine is not None:
        if demo or pool is None:
            raise click.UsageError("--engine starts nodes of a pool: expected --pool NAME and no --demo")
        from brokerwatch.cli.engine import EngineChoice, run_nodes

        run_nodes(
            config=config,
            choice=EngineChoice(pool, address or "", nodes or 2),
            duration_s=duration,
            as_json=as_json,
            keep_going=keep_going,
            log=log,
        )
        return
    if pool is not None or nodes is not None or address is not None:
        raise click.UsageError(
            "--pool, --nodes and --address are for --engine; `brokerwatch node --pool NAME` is one node"
        )
    from brokerwatch.cli import run as program

    program.run(
        config=config,
        demo=demo,
        duration_s=duration,
        as_json=as_json,
        keep_going=keep_going,
        log=log,
    )


def _read_shard(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Shard:
    from brokerwatch.config.shard import WHOLE, shard_of

    try:
        return WHOLE if value is None else shard_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_RUN_CONFIG_HELP)
@click.option(
    "--only", metavar="A,B", default="", help="The accounts that this node runs; default: all of the file."
)
@click.option(
    "--name",
    metavar="NAME",
    default="",
    help="The node's name; two on one host need two, since each has a state folder of its own. Default: "
    "node; in a pool the host's name, with a number where that is taken.",
)
@pool_options
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop after so long.")
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@click.option(
    "--keep-going", is_flag=True, help="Start the sound brokers although others are configured wrongly."
)
@click.option(
    "--alive-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Touch this file every 5 s while the watcher itself works; for a probe, such as one of Kubernetes.",
)
@log_options
def node(
    *,
    config: Path | None,
    only: str,
    name: str,
    pool: PoolOptions,
    duration: float | None,
    as_json: bool,
    keep_going: bool,
    alive_file: Path | None,
    log: LogChoice,
) -> None:
    """Run some accounts, and report them to a supervisor.

    The supervisor may be started before or later, and end and come again. The accounts are watched all the
    time. Where it is stand the [[supervisors]] tables of the file; without one it is on this host, where the
    file's own endpoints are.

    With --pool, nodes that were started with the same file share its accounts: each API key is with one node
    at a time, by a claim in the PostgreSQL under `store`, and goes on at another one when its node ends.
    """
    from brokerwatch.cli import node as program

    names = tuple(dict.fromkeys(part.strip() for part in only.split(",") if part.strip()))
    program.run_node(
        config=config,
        choice=pool.choice(name, names),
        duration_s=duration,
        as_json=as_json,
        keep_going=keep_going,
        alive_file=alive_file,
        log=log,
    )


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_RUN_CONFIG_HELP)
@click.option(
    "--shard",
    metavar="K/N",
    default=None,
    callback=_read_shard,
    help="The K-th of N supervisors, which share the accounts of the file.",
)
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop after so long.")
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@log_options
def supervise(
    *, config: Path | None, shard: Shard, duration: float | None, as_json: bool, log: LogChoice
) -> None:
    """Run a supervisor alone, which hears nodes.

    It publishes the health of the accounts that nodes report. It needs no API key and asks no exchange. There
    may be two or more, each heard by every listener that names both. With --shard each of them has a part of
    the accounts, for more of them than one supervisor can carry. Page and messages to people are here,
    and operators' commands reach the node that has the account.
    """
    from brokerwatch.cli import node as program

    program.run_supervisor(config=config, shard=shard, duration_s=duration, as_json=as_json, log=log)


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
