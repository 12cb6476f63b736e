"""The commands about messages to people: `notify` and `silence`.

Each command imports what it needs by itself, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from brokerwatch.cli import exits
from brokerwatch.cli.key_options import KeyChoice, key_options, listening
from brokerwatch.cli.log_output import LogChoice, log_options, logging_to
from brokerwatch.cli.service import ServiceManager, accounts_line
from brokerwatch.clock import local_text

if TYPE_CHECKING:
    from brokerwatch.bus.listener import Listener
    from brokerwatch.config.notify_settings import NotifySettings
    from brokerwatch.notify.silences import Silence

STOP_S: Final = 3.0


@click.command()
@click.option("--test", "is_test", is_flag=True, help="Send a test message over every channel, and end.")
@click.option(
    "--connect",
    "endpoints",
    multiple=True,
    metavar="ENDPOINT",
    help="A health topic to listen to, such as tcp://127.0.0.1:5571; may be given several times.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where it remembers what it has said; needed with --connect.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The TOML file with [notify]; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml.",
)
@key_options
@log_options
def notify(
    *,
    is_test: bool,
    endpoints: tuple[str, ...],
    state: Path | None,
    config: Path | None,
    keys: KeyChoice,
    log: LogChoice,
) -> None:
    """Tell people what a cluster publishes, from another process.

    `brokerwatch run` does it by itself when its configuration has [notify]. This is for a cluster that runs
    elsewhere: it needs no API key. Status 1 of --test: a channel did not take the message.
    """
    from brokerwatch.cli.config_lookup import config_path
    from brokerwatch.config.single_tables import load_notify

    if is_test == bool(endpoints):
        exits.fail("expected either --test or --connect ENDPOINT; `brokerwatch run` sends messages by itself")
    path = config_path(config)
    settings = load_notify(path)
    if is_test:
        _test(settings, path)
    elif state is None:
        exits.fail("expected --state FOLDER beside --connect: it remembers there what it has said")
    elif not settings:
        exits.fail(f"{path}: [notify] has neither urls nor heartbeat_url")
    else:
        with logging_to(log):
            _run(settings, listening(endpoints, config, keys), state)


def _test(settings: NotifySettings, path: Path) -> None:
    from brokerwatch.clock import SystemClock
    from brokerwatch.notify.deliveries import Outcome
    from brokerwatch.notify.trial import tried

    if not settings.urls:
        exits.fail(f"{path}: [notify] has no urls")
    all_sent = True
    for name, answer in tried(settings, str(path), SystemClock().now()):
        match answer.outcome:
            case Outcome.SENT:
                click.echo(f"{name}: sent")
            case Outcome.FAILED:
                click.echo(f"{name}: not sent: {answer.words}")
            case Outcome.UNKNOWN:
                click.echo(f"{name}: not known whether it was sent: {answer.words}")
        all_sent = all_sent and answer.outcome is Outcome.SENT
    if settings.heartbeat_url:
        click.echo("heartbeat_url: not called, because a call says that all is watched")
    if not all_sent:
        sys.exit(exits.NO)


def _run(settings: NotifySettings, subscribed: tuple[Listener, tuple[str, ...]], state: Path) -> None:
    from brokerwatch.cli.signals import stop_signals
    from brokerwatch.notify.notifier import Notifier

    listener, endpoints = subscribed
    with stop_signals() as stopped, listener:
        notifier = Notifier(listener, settings, state)
        notifier.start()
        channels = f"{len(settings.urls)} channel{'' if len(settings.urls) == 1 else 's'}"
        exits.say(f"listening to {', '.join(endpoints)}, and sending over {channels}   Ctrl-C ends")
        with ServiceManager().watched(str, lambda: accounts_line(listener)):
            stopped.wait()
        if not notifier.stop(STOP_S):
            exits.say("a channel did not stop in time and is left behind")


@click.group()
def silence() -> None:
    """Send no messages about some accounts for a while.

    A silence mutes messages and never a state: the accounts are watched and shown as ever. What still holds
    when it ends is said then. Holding an account out is another thing: brokerwatch hold.
    """


_STATE: Final = click.option(
    "--state", type=click.Path(path_type=Path), metavar="FOLDER", help="The state folder of what sends."
)
_CLUSTER: Final = click.option(
    "--cluster", metavar="NAME", help="The cluster's name; default: as configured, else main."
)
_CONFIG: Final = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The cluster's TOML file; default: $BROKERWATCH_CONFIG, else ./brokerwatch.toml.",
)


@silence.command()
@click.argument("name")
@click.option("--why", required=True, metavar="TEXT", help="The reason.")
@click.option(
    "--until", required=True, metavar="WHEN", help="When it ends: 30m, 2h, 18:00, 2026-11-22T18:00Z."
)
@click.option("--broker", "brokers", multiple=True, metavar="BROKER", help="An account; may be repeated.")
@click.option("--exchange", "exchanges", multiple=True, metavar="ID", help="An exchange; may be repeated.")
@_CONFIG
@_CLUSTER
@_STATE
def add(
    *,
    name: str,
    why: str,
    until: str,
    brokers: tuple[str, ...],
    exchanges: tuple[str, ...],
    config: Path | None,
    cluster: str | None,
    state: Path | None,
) -> None:
    """Make the silence NAME, in place of one of that name.

    Without --broker and --exchange it covers everything, and our own line too.
    """
    from brokerwatch.cli.time_arguments import moment
    from brokerwatch.clock import SystemClock
    from brokerwatch.errors import ControlError
    from brokerwatch.notify.silence_file import SilenceFile
    from brokerwatch.notify.silences import Silence

    try:
        until_us = round(moment(until, datetime.now().astimezone(), ahead=True).timestamp() * 1_000_000)
        made = Silence(
            name=name,
            why=" ".join(why.split()),
            by=_user(),
            since_us=SystemClock().now().wall_us,
            until_us=until_us,
            brokers=brokers,
            exchanges=exchanges,
        )
        SilenceFile(_folder(config, cluster, state)).add(made)
    except (ValueError, OverflowError, ControlError) as error:
        exits.fail(str(error))
    except OSError as error:
        exits.fail(f"the silence cannot be stored: {error.strerror or error}")
    click.echo(f"no messages about {_covered(made)} {_until(made)}: {made.why}")


@silence.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_CONFIG
@_CLUSTER
@_STATE
def list_silences(*, as_json: bool, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """Show the silences, also those that exchanges' own announcements of maintenance have made.

    Status 1: there is none.
    """
    from brokerwatch.cli import output
    from brokerwatch.clock import SystemClock
    from brokerwatch.notify.record_file import announced
    from brokerwatch.notify.silence_file import SilenceFile

    folder, now_us = _folder(config, cluster, state), SystemClock().now().wall_us
    try:
        found = [*SilenceFile(folder).read(), *announced(folder)]
    except (OSError, ValueError) as error:
        exits.fail(f"the silences in {folder} cannot be read: {error}")
    current = [each for each in found if not each.is_over(now_us)]
    if not current:
        exits.say("there is no silence")
        sys.exit(exits.NO)
    output.emit_all([_object(each) if as_json else _line(each) for each in current])


@silence.command()
@click.argument("name")
@_CONFIG
@_CLUSTER
@_STATE
def end(*, name: str, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """End the silence NAME. What still holds is said then. Status 1: there is no such silence."""
    from brokerwatch.clock import SystemClock
    from brokerwatch.errors import ControlError
    from brokerwatch.notify.silence_file import SilenceFile

    try:
        ended = SilenceFile(_folder(config, cluster, state)).end(name, SystemClock().now().wall_us)
    except ControlError as error:
        exits.say(str(error))
        sys.exit(exits.NO)
    except OSError as error:
        exits.fail(f"the silence cannot be ended: {error.strerror or error}")
    click.echo(f"messages about {_covered(ended)} are sent again")


def _folder(config: Path | None, cluster: str | None, state: Path | None) -> Path:
    from brokerwatch.cli.config_lookup import meant_cluster
    from brokerwatch.storage.state_folder import folder_of

    return folder_of(meant_cluster(config, name=cluster, state=state))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "an unknown user"


def _covered(each: Silence) -> str:
    return "everything" if each.covers_all else ", ".join((*each.brokers, *each.exchanges))


def _until(each: Silence) -> str:
    return f"until {local_text(each.until_us, shows_zone=True)}"


def _line(each: Silence) -> str:
    return f"{each.name:<16} {_covered(each)} {_until(each)}, by {each.by}: {each.why}"


def _object(each: Silence) -> str:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(each)
    return json.dumps(found, ensure_ascii=False)
