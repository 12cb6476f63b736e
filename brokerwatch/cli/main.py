"""The doors: `brokerwatch run`, `listen`, `status`, `history`, `hold`, `release`, `reset`, `init`,
`simulate`, `verify`, `doctor`.

Exit statuses of all commands: 0 yes, 1 no, 2 usage or configuration, 3 yes with warnings, 4 nothing
heard. What a command needs it imports itself, so that `--help` and `listen` do not pay for ccxt.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

import click

from brokerwatch.errors import BrokerwatchError, ReaderGone
from brokerwatch.verification.checklist import CHECKLIST, MAXIMUM

if TYPE_CHECKING:
    from brokerwatch.config.cluster_settings import ClusterSettings


YES, NO, USAGE, WARNINGS, NOTHING_HEARD = 0, 1, 2, 3, 4

STATUS_PATIENCE_S: Final = 5.0

_JSON_HELP: Final = "One JSON object a line for every change."


@click.group(
    epilog="Exit statuses: 0 yes, 1 no, 2 usage or configuration, 3 yes with warnings, 4 nothing heard."
)
@click.version_option(package_name="brokerwatch")
def app() -> None:
    """Which exchange accounts can be trusted right now, and how much money is in each."""


@app.command()
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
def run(*, config: Path | None, demo: bool, duration: float | None, as_json: bool, keep_going: bool) -> None:
    """Watch the accounts of a configuration, and publish their health."""
    from brokerwatch.cli import run

    run.run(config=config, demo=demo, duration_s=duration, as_json=as_json, keep_going=keep_going)


_CONFIG_HELP: Final = "TOML file that says where the cluster publishes; default: as for run."


@app.command()
@click.argument("endpoints", metavar="[ENDPOINT]...", nargs=-1)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_CONFIG_HELP)
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N objects.")
def listen(*, endpoints: tuple[str, ...], config: Path | None, as_json: bool, count: int | None) -> None:
    """Show what a cluster publishes, from another process.

    ENDPOINT is a health topic; there may be several. Without one it is the configuration's, and where there
    is no configuration tcp://127.0.0.1:5571. When nothing is heard, it says so.
    """
    from brokerwatch.bus.listener import Listener
    from brokerwatch.bus.station import NOTHING_HEARD_S
    from brokerwatch.cli.config_lookup import health_endpoint
    from brokerwatch.cli.screen import Screen
    from brokerwatch.cli.signals import stop_signals
    from brokerwatch.clock import SystemClock

    endpoints = endpoints or (health_endpoint(config),)
    where = ", ".join(endpoints)
    with stop_signals() as stopped, Listener(*endpoints) as listener:
        heard = Screen(
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
            on_quiet=f"nothing heard from {where} for {NOTHING_HEARD_S:g} s: is a cluster running there?",
        ).show()
    if not heard:
        sys.exit(NOTHING_HEARD)


@app.command()
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
def status(
    *, endpoint: str | None, broker: str | None, config: Path | None, as_json: bool, timeout: float
) -> None:
    """Ask once, for cron and probes.

    ENDPOINT is a health topic; without one it is the configuration's, and where there is no configuration
    tcp://127.0.0.1:5571. Status 0: BROKER is available, or all of them; 1: not; 3: available, but a balance
    is not fresh; 4: nothing heard.
    """
    from brokerwatch.bus.listener import Listener
    from brokerwatch.cli import output, text
    from brokerwatch.cli.config_lookup import health_endpoint

    if endpoint is not None and broker is None and ":" not in endpoint:
        endpoint, broker = None, endpoint
    where = endpoint or health_endpoint(config)
    with Listener(where) as listener:
        listener.complete.wait(timeout)
        heard = sorted(listener.heard(), key=lambda one: one.reading.broker)
        asked = [one for one in heard if broker in (None, one.reading.broker)]
    if not heard:
        detail = f"nothing heard from {where} within {timeout:g} s: is a cluster running there?"
        output.emit_all([text.nothing_heard_object(detail) if as_json else detail])
        sys.exit(NOTHING_HEARD)
    if not asked:
        known = ", ".join(sorted(one.reading.broker for one in heard))
        _fail(f"{where} publishes no broker named {broker!r}; there are: {known}")
    # The answer is settled before it is written: a slow reader must not let it expire.
    available = all(one.reading.available for one in asked)
    fresh = not any(one.reading.stale for one in asked)
    output.emit_all([text.json_object(one) if as_json else text.change_line(one) for one in asked])
    if not available:
        sys.exit(NO)
    if not fresh:
        sys.exit(WARNINGS)


def _which_cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which cluster is meant."""
    for option in (
        click.option(
            "--state", type=click.Path(path_type=Path), metavar="FOLDER", help="The cluster's state folder."
        ),
        click.option(
            "--cluster", metavar="NAME", help="The cluster's name; default: as configured, else main."
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The cluster's TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml.",
        ),
    ):
        command = option(command)
    return command


def _meant(config: Path | None, cluster: str | None, state: Path | None) -> ClusterSettings:
    from brokerwatch.cli.config_lookup import meant_cluster

    return meant_cluster(config, name=cluster, state=state)


@app.command()
@click.argument("broker", required=False)
@click.option("--since", metavar="WHEN", help="Only what is newer: 30m, 2h, 3d, 18:00, 2026-11-22T18:00Z.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_which_cluster
def history(
    *,
    broker: str | None,
    since: str | None,
    limit: int | None,
    as_json: bool,
    config: Path | None,
    cluster: str | None,
    state: Path | None,
) -> None:
    """Show what happened to BROKER, or to all, oldest first.

    Every change of state, every veto and every operator's command. It reads what was stored, whether
    the cluster runs or not.
    """
    from brokerwatch.cli import output, text
    from brokerwatch.storage.state_folder import stored_history

    since_us = None if since is None else _moment_us(since, ahead=False)
    found = stored_history(_meant(config, cluster, state), broker, since_us, limit)
    shown = [text.history_object(line) if as_json else text.history_line(line) for line in found]
    if not shown:
        _say(f"nothing is stored{f' of {broker}' if broker else ''}{f' since {since}' if since else ''}")
    output.emit_all(shown)


@app.command()
@click.argument("broker")
@click.option("--why", required=True, metavar="TEXT", help="The reason; everybody is shown it.")
@click.option("--until", metavar="WHEN", help="When it ends by itself: 30m, 2h, 18:00, 2026-11-22T18:00Z.")
@_which_cluster
def hold(
    *, broker: str, why: str, until: str | None, config: Path | None, cluster: str | None, state: Path | None
) -> None:
    """Hold BROKER out until you release it.

    It is not available, whatever its exchange says. The hold outlives a restart and is shown everywhere
    with who and why. It is still watched meanwhile.
    """
    until_us = None if until is None else _moment_us(until, ahead=True)
    _command(_meant(config, cluster, state), "hold", broker, why, until_us)
    if until_us is not None:
        # What everybody is shown is in UTC; who set the end wrote it in his own time.
        local = datetime.fromtimestamp(until_us // 1_000_000, UTC).astimezone()
        click.echo(f"the end in local time: {local.isoformat(sep=' ')}")


@app.command()
@click.argument("broker")
@_which_cluster
def release(*, broker: str, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """End the hold on BROKER.

    Its state is what it would have been without the hold. Status 1: it was not held out.
    """
    _command(_meant(config, cluster, state), "release", broker)


@app.command()
@click.argument("broker")
@_which_cluster
def reset(*, broker: str, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """Ask again for BROKER, after what was final is mended.

    That is credentials that its exchange refused, or whatever made its actor fail. It asks its exchange
    again at once, and is available when it has proven itself. A lockout by the
    exchange goes on until its end.
    """
    _command(_meant(config, cluster, state), "reset", broker)


def _command(
    settings: ClusterSettings, verb: str, broker: str, why: str = "", until_us: int | None = None
) -> None:
    from brokerwatch.cluster.control import SOCKET_NAME, Command, ask
    from brokerwatch.errors import ControlError
    from brokerwatch.storage.state_folder import folder_of

    try:
        click.echo(ask(folder_of(settings) / SOCKET_NAME, Command(verb, broker, why, until_us)))
    except ControlError as error:
        if verb == "release" and str(error) == f"{broker} is not held out":
            # Nothing is wrong with the command: the answer is no. A script that wants it released goes on.
            _say(f"{error}: there was nothing to release")
            sys.exit(NO)
        _fail(str(error))


def _moment_us(text: str, *, ahead: bool) -> int:
    from brokerwatch.cli.time_arguments import moment

    try:
        return round(moment(text, datetime.now().astimezone(), ahead=ahead).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        _fail(str(error))


@app.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("brokerwatch.toml"))
def init(*, path: Path) -> None:
    """Write a commented configuration to fill in.

    PATH is brokerwatch.toml unless you name another. An existing file is left alone.
    """
    from brokerwatch.config.template import CONFIG_TEMPLATE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(CONFIG_TEMPLATE)
    except FileExistsError:
        _fail(f"{path} exists already and was left alone; name another file: brokerwatch init PATH")
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")
    option = "" if str(path) == "brokerwatch.toml" else f" --config {path}"
    click.echo(f"wrote {path}; fill in your accounts, then: brokerwatch run{option}")


@app.command()
@click.argument("exchange", required=False)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, metavar="N",
    help="On this port of 127.0.0.1, with the same keys every time; default: any port that is free.",
)  # fmt: skip
@click.option("--fault", metavar="NAME", help="Break it from the beginning.")
@click.option("--faults", is_flag=True, help="List all faults, and end.")
@click.option(
    "--script", type=click.Path(path_type=Path), metavar="FILE", help="TOML file that says what happens when."
)
@click.option(
    "--balance", "balances", multiple=True, metavar="CUR=FREE[:HELD]",
    help="What is in the account, such as USD=100.00:5; once for each currency.",
)  # fmt: skip
@click.option(
    "--accounts", type=click.IntRange(1, 10_000), default=1, metavar="N",
    help="So many accounts, up to 10000; default: 1.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the words.")
def simulate(
    *,
    exchange: str | None,
    port: int,
    fault: str | None,
    faults: bool,
    script: Path | None,
    balances: tuple[str, ...],
    accounts: int,
    as_json: bool,
) -> None:
    """Be a kraken, coinbase or okx on this machine, for a bot to meet.

    It prints what ccxt, or brokerwatch, needs to come here instead of to the real exchange, and serves
    until Ctrl-C. Keys and money are made up.
    """
    from brokerwatch.cli import simulate

    if faults:
        simulate.list_faults(as_json=as_json)
        return
    simulate.run(
        exchange,
        port=port,
        fault=fault,
        script=script,
        balances=balances,
        accounts=accounts,
        as_json=as_json,
    )


_VERIFY_CONFIG: Final = "TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml."
_JSON_FILE: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


_VERIFY_HELP: Final = f"""Verify BROKER before it goes live: {len(CHECKLIST)} checks, {MAXIMUM} points.

Each check does what it says, with real questions to the exchange: balances, positions, candles, an outage
that is provoked on this side, orders in the exchange's dry run, and what the key may do. Nothing is ever
placed. An account at an exchange without a dry run cannot reach every point.
"""
_VERIFY_STATUSES: Final = (
    "Exit statuses: 0 everything passed, 1 something failed, 2 it could not be run, "
    "3 passed, with warnings or with something that could not be checked."
)


@app.command(help=_VERIFY_HELP, epilog=_VERIFY_STATUSES)
@click.argument("broker")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_VERIFY_CONFIG)
@click.option(
    "--json", "json_file", type=_JSON_FILE, metavar="FILE",
    help="Write the report there; - is standard output.",
)  # fmt: skip
@click.option("--demo", is_flag=True, help="Verify a simulated account: BROKER is kraken, coinbase or okx.")
def verify(*, broker: str, config: Path | None, json_file: Path | None, demo: bool) -> None:
    with _unfinished():
        from brokerwatch.cli import verify

        if demo:
            with verify.of_demo(broker) as subject:
                sys.exit(verify.run(subject, json_file))
        sys.exit(verify.run(verify.of_config(broker, config), json_file))


@contextlib.contextmanager
def _unfinished() -> Generator[None]:
    """Ctrl-C before there is anything to stop in order: not status 1, which says that something failed."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("stopped before the end; there is no report")


@app.command(
    epilog="Exit statuses: 0 all is well, 1 something would not work, "
    "2 there is no configuration to look at, 3 it works, with warnings."
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=_VERIFY_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(*, config: Path | None, as_json: bool) -> None:
    """Look at a whole configuration, and change nothing.

    Keys and who may read them, the state folder, the store, the endpoints, this machine's clock, and
    whether each exchange can be reached: a line for each, with what to do. No exchange is asked with a key.
    """
    from brokerwatch.cli import doctor as looks

    sys.exit(looks.run(config, as_json=as_json))


MASTER_REPORT: Final = Path("kraken_e2e_verification_report.json")


@click.command(epilog=_VERIFY_STATUSES)
@click.option(
    "--json", "json_file", type=_JSON_FILE, default=MASTER_REPORT, show_default=True, metavar="FILE",
    help="Where the report is written.",
)  # fmt: skip
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of the cluster that shall let entries through.",
)
@click.option("--url", metavar="URL", help="Another address than Kraken's own, such as a simulator's.")
@click.option("--demo", is_flag=True, help="Verify a simulated account.")
def verify_kraken(*, json_file: Path, config: Path | None, url: str | None, demo: bool) -> None:
    """Verify Kraken's master account end to end, as `brokerwatch verify` does.

    Its keys are in the environment: KRAKEN_MASTER_API_KEY and KRAKEN_MASTER_API_SECRET.
    """
    with _unfinished():
        from brokerwatch.cli import verify

        if demo:
            # Not over the report of a real account.
            shown = json_file.with_suffix(".demo.json") if json_file == MASTER_REPORT else json_file
            with verify.of_demo("kraken") as subject:
                sys.exit(verify.run(subject, shown))
        sys.exit(verify.run(verify.of_master(config, url), json_file))


def main() -> None:
    """The command line, with errors as sentences and not as tracebacks."""
    _guarded(app)


def run_alone() -> None:
    """`run` as a program of its own."""
    _guarded(run)


def verify_kraken_alone() -> None:
    """The verification of Kraken's master account as a program of its own."""
    _guarded(verify_kraken)


def _guarded(command: click.Command) -> NoReturn:
    """Run it, and end the process although a thread of a library hangs: a name server that does not
    answer holds one for half a minute, and Python would wait for it."""
    status = _status(command)
    streams: tuple[TextIO | None, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(OSError):
            if stream is not None:  # one that was closed for us
                stream.flush()
    os._exit(status)


def _status(command: click.Command) -> int:
    try:
        command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else NO if ended.code else YES
    except BrokerwatchError as error:
        _say(str(error))
        return USAGE
    except ReaderGone:
        return YES
    except Exception:  # noqa: BLE001 - a bug of ours: shown whole, and the process still ends
        traceback.print_exc()
        return NO
    return YES


def _say(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"brokerwatch: {line}\n")


def _fail(text: str) -> NoReturn:
    _say(text)
    sys.exit(USAGE)
