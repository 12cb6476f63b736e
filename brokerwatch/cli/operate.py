"""The commands of an operator: `history`, `hold`, `release`, `reset`, `reload`.

Each command imports what it needs by itself, so that `--help` stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brokerwatch.cli import exits
from brokerwatch.clock import local_text
from brokerwatch.errors import ConfigError

if TYPE_CHECKING:
    from brokerwatch.config.cluster_settings import ClusterSettings


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


@click.command()
@click.argument("broker", required=False)
@click.option("--since", metavar="WHEN", help="Only what is newer: 30m, 2h, 3d, 18:00, 2026-11-22T18:00Z.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@click.option("--orders", "only_orders", is_flag=True, help="Only the lives of the orders.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_which_cluster
def history(
    *,
    broker: str | None,
    since: str | None,
    limit: int | None,
    only_orders: bool,
    as_json: bool,
    config: Path | None,
    cluster: str | None,
    state: Path | None,
) -> None:
    """Show what happened to BROKER, or to all, oldest first.

    Every change of state, every veto, every operator's command, and the life of every order. It reads what
    was stored, whether the cluster runs or not.
    """
    from brokerwatch.cli import output, text
    from brokerwatch.storage.state_folder import found_cluster, stored_history, stored_order_events

    since_us = None if since is None else _moment_us(since, ahead=False)
    settings = _meant(config, cluster, state)
    if state is not None and cluster is None:
        # A folder says which cluster is meant, whatever its name.
        settings = found_cluster(settings)
    found = [] if only_orders else stored_history(settings, broker, since_us, limit)
    events = stored_order_events(settings, broker, since_us, limit)
    width = text.name_width([*(one.broker for one in found), *(one.broker for one in events)])
    lines = [
        (one.at_us, text.history_object(one) if as_json else text.history_line(one, width)) for one in found
    ]
    lines += [
        (one.at_us, text.order_object(one) if as_json else text.order_line(one, width)) for one in events
    ]
    lines.sort(key=itemgetter(0))
    shown = [line for _, line in lines][-limit if limit else 0 :]
    if not shown:
        exits.say(f"nothing is stored{f' of {broker}' if broker else ''}{f' since {since}' if since else ''}")
    output.emit_all(shown)


@click.command()
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
        # Readings show the end in UTC. The operator wrote it in local time.
        click.echo(f"the end in local time: {local_text(until_us, shows_zone=True)}")


@click.command()
@click.argument("broker")
@_which_cluster
def release(*, broker: str, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """End the hold on BROKER.

    Its state is what it would have been without the hold. Status 1: it was not held out.
    """
    _command(_meant(config, cluster, state), "release", broker)


@click.command()
@click.argument("broker")
@_which_cluster
def reset(*, broker: str, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """Ask again for BROKER, after what was final is mended. The files of its API key are read again.

    That is credentials that its exchange refused, or whatever made its actor fail. It asks its exchange
    again at once, and is available when it has proven itself. A lockout by the
    exchange goes on until its end.
    """
    _command(_meant(config, cluster, state), "reset", broker)


@click.command()
@click.option(
    "--force-key",
    is_flag=True,
    help="Drop the old API key of each account that has another one at once; for a key that has leaked.",
)
@_which_cluster
def reload(*, force_key: bool, config: Path | None, cluster: str | None, state: Path | None) -> None:
    """Have the cluster read its configuration again.

    All of it takes effect, or with a mistake nothing: every mistake is named, and so is each key that needs a
    restart (status 2). Accounts that have not changed are not touched. An account that is new, or was not
    available, is available after its next success. Another API key is verified first, and the old one is
    used until then. Status 0: each new key is used, and the old one may be deleted; 1: one is not.
    """
    try:
        settings = _meant(config, cluster, state)
    except ConfigError as error:
        # It does not say which cluster is meant, so that one cannot tell the mistakes.
        exits.fail(f"nothing was changed:\n{_every_mistake(config, error)}")
    _command(settings, "reload", "", force_key=force_key)


def _every_mistake(config: Path | None, error: ConfigError) -> ConfigError:
    """Every mistake in the configuration, where it names the mistakes of [cluster] alone.

    But for credentials in the environment: this process need not have those of the cluster.
    """
    from brokerwatch.cli.config_lookup import config_path
    from brokerwatch.config.loader import examine
    from brokerwatch.gateway.catalogue import Catalogue

    try:
        found = examine(config_path(config), Catalogue())
    except ConfigError:
        return error
    own = [mistake for _, mistakes in found.broken.values() for mistake in mistakes]
    return ConfigError((*found.problems, *(one for one in own if not one.key.endswith("_env"))))


def _command(
    settings: ClusterSettings,
    verb: str,
    broker: str,
    why: str = "",
    until_us: int | None = None,
    *,
    force_key: bool = False,
) -> None:
    from brokerwatch.cluster.control import NOT_TAKEN, SOCKET_NAME, Command, ask
    from brokerwatch.errors import ControlError
    from brokerwatch.storage.state_folder import folder_of

    try:
        said = ask(folder_of(settings) / SOCKET_NAME, Command(verb, broker, why, until_us, force_key))
    except ControlError as error:
        if verb == "release" and str(error) == f"{broker} is not held out":
            # Nothing is wrong with the command: the answer is no. A script that wants it released goes on.
            exits.say(f"{error}: there was nothing to release")
            sys.exit(exits.NO)
        exits.fail(str(error))
    click.echo(said)
    if verb in ("reload", "reset") and (f": {NOT_TAKEN}" in said or f"; {NOT_TAKEN}" in said):
        sys.exit(exits.NO)


def _moment_us(text: str, *, ahead: bool) -> int:
    from brokerwatch.cli.time_arguments import moment

    try:
        return round(moment(text, datetime.now().astimezone(), ahead=ahead).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        exits.fail(str(error))
