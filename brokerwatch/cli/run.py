"""The program: settings, a cluster on them, and a screen, until it is stopped.

`run_cluster.py` and `brokerwatch run` are both this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from brokerwatch.cli.config_lookup import config_path
from brokerwatch.cli.demo import simulated_settings
from brokerwatch.cli.log_output import LogChoice
from brokerwatch.cli.showing import ASK_AGAIN_S, Watching, accounts, logged, reload, show
from brokerwatch.cli.signals import Stop, on_hangup
from brokerwatch.cluster.changeable import ReadAgain
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.loader import load
from brokerwatch.errors import (
    BalanceUnknown,
    ConfigError,
    EndpointUnavailable,
    Problem,
    StateFolderTaken,
)
from brokerwatch.log import logger

_log: Final = logger(__name__)


def run(
    *,
    config: Path | None,
    demo: bool,
    duration_s: float | None,
    as_json: bool,
    keep_going: bool,
    log: LogChoice,
) -> None:
    """Run a cluster and show it. Returns when it was stopped, or after `duration_s`.

    Raises SystemExit with a status of its own when an event loop hangs and cannot be replaced: a new process
    can watch again. ConfigError when the configuration cannot be used, EndpointUnavailable when an endpoint
    is taken.
    """
    if demo:
        beside = [
            option for option, is_given in (("--config", config), ("--keep-going", keep_going)) if is_given
        ]
        expected = "expected without --demo: the demo runs on simulated exchanges and reads no configuration"
        if beside:
            raise ConfigError(tuple(Problem("", option, expected) for option in beside))
    with logged(log, as_json=as_json) as showing, ExitStack() as stack:

        def tell(sentence: str) -> None:
            showing.story = sentence
            if showing.in_lines:
                sys.stderr.write(f"simulation: {sentence}\n")

        begin: Callable[[], None] | None = None
        read: ReadAgain | None = None
        if demo:
            settings, begin = stack.enter_context(simulated_settings(tell))
        else:
            path = config_path(config)
            settings = _load(path, keep_going)
            read = partial(_load, path.absolute())
        title = _title(settings, demo=demo)
        if demo and showing.as_json:
            # Before anything that a start may log: the first line says that it is a demo.
            sys.stderr.write(f"{title}\n")
            title = "brokerwatch: the simulated accounts run"
        running: list[Watching] = []
        stack.enter_context(on_hangup(lambda: reload(running, showing.stopped, demo=demo)))
        cluster = stack.enter_context(_started(settings, read, beside_others=demo))
        running.append(cluster)

        def begin_the_story() -> None:
            # Not before every account has answered: a slow machine would start with the first outage.
            if begin is not None and _every_account_has_answered(cluster, settings, showing.stopped):
                begin()

        show(cluster, settings, showing, title, duration_s, then=begin_the_story)


@contextmanager
def _started(settings: Settings, read: ReadAgain | None, *, beside_others: bool) -> Generator[Cluster]:
    """The running cluster. A demo makes do when another one has the usual port or the state folder."""
    cluster = Cluster.from_settings(settings, read)
    try:
        cluster.start()
    except (EndpointUnavailable, StateFolderTaken):
        if not beside_others:
            raise
        modest = replace(settings.cluster, health_endpoint="tcp://127.0.0.1:*", remember=False)
        cluster = Cluster(settings.brokers, modest)
        cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


def _every_account_has_answered(cluster: Cluster, settings: Settings, stopped: Stop) -> bool:
    """Ask each account until it has answered. False when the program was stopped before that."""
    for broker in (cluster.broker(spec.name) for spec in settings.brokers):
        while True:
            if stopped.is_set():
                return False
            try:
                broker.get_account_balance()
            except BalanceUnknown:  # on a busy machine the first answer may come after the deadline
                stopped.wait(ASK_AGAIN_S)
            else:
                break
    return True


def _load(path: Path, keep_going: bool) -> Settings:  # noqa: FBT001 - as a reload calls it
    from brokerwatch.gateway.catalogue import Catalogue

    return load(path, Catalogue(), keep_going=keep_going)


def _title(settings: Settings, *, demo: bool) -> str:
    count = len(settings.brokers) + len(settings.broken)
    if demo:
        return f"brokerwatch: {count} SIMULATED accounts; no real exchange is asked"
    return f"brokerwatch: cluster {settings.cluster.name}, {accounts(count)}"
