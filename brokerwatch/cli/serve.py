"""The command `serve`: page and API of any cluster, from a process of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from brokerwatch.cli import exits
from brokerwatch.cli.key_options import KeyChoice, key_options, listening
from brokerwatch.cli.log_output import LogChoice, log_options, logging_to
from brokerwatch.cli.service import ServiceManager, accounts_line

if TYPE_CHECKING:
    from brokerwatch.bus.listener import Listener
    from brokerwatch.clock import Clock
    from brokerwatch.config.http_settings import HttpSettings
    from brokerwatch.web.chronicle import Chronicle
    from brokerwatch.web.view import Operate

DEFAULT_LISTEN: Final = "127.0.0.1:5572"


@click.command()
@click.option(
    "--connect",
    "endpoints",
    multiple=True,
    metavar="ENDPOINT",
    help="A health topic to show, such as tcp://127.0.0.1:5571; may be given several times.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with [http] and [cluster]; default: as for run.",
)
@click.option(
    "--listen", metavar="ADDRESS:PORT", help=f"Where to serve; default: [http], else {DEFAULT_LISTEN}."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the token that a reader has to show.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A folder of its own, in which it writes down what it hears: timelines outlive it.",
)
@click.option(
    "--cluster-state",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The cluster's state folder, to hold and release its accounts; default: as for hold.",
)
@key_options
@log_options
def serve(
    *,
    endpoints: tuple[str, ...],
    config: Path | None,
    listen: str | None,
    token_file: Path | None,
    state: Path | None,
    cluster_state: Path | None,
    keys: KeyChoice,
    log: LogChoice,
) -> None:
    """Serve the page and the API of a cluster over HTTP.

    It listens to the cluster like any other program, so it needs no API key. It may be started and stopped at
    any time. Hold and release need a token and the cluster's control socket.
    """
    from brokerwatch.cli.signals import stop_signals
    from brokerwatch.clock import SystemClock
    from brokerwatch.web.server import HttpServer
    from brokerwatch.web.view import View

    settings = _settings(config, listen, token_file)
    subscribed, endpoints = listening(endpoints, config, keys)
    with logging_to(log), stop_signals() as stopped, subscribed as listener:
        operate, reachable = _operate(config, cluster_state)
        clock = SystemClock()
        chronicle = _chronicle(listener, clock, config, state)
        server = HttpServer(View(settings, listener, clock, operate, reachable, chronicle=chronicle))
        server.start()
        chronicle.start()
        exits.say(f"serving {', '.join(endpoints)} at {server.url}   Ctrl-C ends")
        with ServiceManager().watched(str, lambda: accounts_line(listener)):
            stopped.wait()
        if not (server.stop() & chronicle.stop()):
            exits.say("the server did not stop in time and is left behind")


def _chronicle(listener: Listener, clock: Clock, config: Path | None, state: Path | None) -> Chronicle:
    """What was heard before now: in the folder `state`, else in memory."""
    from brokerwatch.cli.config_lookup import meant_cluster
    from brokerwatch.storage.chronicle import ChronicleStore, chronicle_url
    from brokerwatch.web.chronicle import LOCK_NAME, Chronicle

    days = meant_cluster(config, name=None, state=None).history_days
    if state is None:
        return Chronicle(listener, clock, None, keep_days=lambda: days)
    store = ChronicleStore(chronicle_url(state), "heard")
    return Chronicle(listener, clock, store, keep_days=lambda: days, lock=state / LOCK_NAME)


def _settings(config: Path | None, listen: str | None, token_file: Path | None) -> HttpSettings:
    """The [http] table, with what the options say otherwise. Raises ConfigError."""
    import os
    from dataclasses import replace

    from brokerwatch.cli.config_lookup import configured_http
    from brokerwatch.config.credentials import read_secret
    from brokerwatch.config.http_settings import HttpSettings, http_mistakes
    from brokerwatch.config.toml_table import TomlTable
    from brokerwatch.errors import ConfigError, Problem

    settings = configured_http(config) or HttpSettings(listen=DEFAULT_LISTEN)
    if listen is not None:
        settings = replace(settings, listen=listen)
    problems: list[Problem] = []
    if token_file is not None:
        options = TomlTable("", "", {}, problems)
        token = read_secret(token_file, os.fspath(token_file), "--token-file", options)
        settings = replace(settings, token=token)
    if not problems:
        problems = [Problem("", f"http.{key}", expected) for key, expected in http_mistakes(settings)]
    if problems:
        raise ConfigError(tuple(problems))
    return settings


def _operate(config: Path | None, state: Path | None) -> tuple[Operate, Callable[[], bool]]:
    """How the cluster is commanded, and whether its control socket is there."""
    from brokerwatch.cli.config_lookup import meant_cluster
    from brokerwatch.cluster.control import SOCKET_NAME, Command, ask
    from brokerwatch.storage.state_folder import folder_of

    path = folder_of(meant_cluster(config, name=None, state=state)) / SOCKET_NAME

    def operate(verb: str, broker: str, why: str, until_us: int | None) -> str:
        return ask(path, Command(verb, broker, why, until_us))

    return operate, path.exists
