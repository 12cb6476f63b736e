"""The program: settings, a cluster on them, and a screen, until somebody says stop.

`run_cluster.py` and `brokerwatch run` are both this.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from brokerwatch.clock import SystemClock
from brokerwatch.cluster import Cluster
from brokerwatch.config import ClusterSettings, Settings, cluster_mistakes
from brokerwatch.configfile import load, load_cluster
from brokerwatch.demo import simulated_settings
from brokerwatch.errors import ConfigError, EndpointUnavailable, Problem, StateFolderTaken
from brokerwatch.screen import Screen
from brokerwatch.signals import stop_signals

CONFIG_VARIABLE: Final = "BROKERWATCH_CONFIG"
CONFIG_FILE: Final = "brokerwatch.toml"


def run(
    *, config: Path | None, demo: bool, duration_s: float | None, as_json: bool, keep_going: bool
) -> None:
    """Run a cluster and show it. Returns when it was stopped, or after `duration_s`.

    Raises ConfigError when the configuration cannot be used, EndpointUnavailable when an endpoint is taken.
    """
    in_lines = as_json or not sys.stdout.isatty()
    if in_lines:
        # Where there is no live table to say it, flips and warnings are lines on standard error.
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with stop_signals() as stopped, ExitStack() as stack:
        story = [""]

        def tell(sentence: str) -> None:
            story[0] = sentence
            if in_lines:
                sys.stderr.write(f"simulation: {sentence}\n")

        if demo:
            settings = stack.enter_context(simulated_settings(tell))
        else:
            settings = _load(_config_path(config), keep_going=keep_going)
        cluster = stack.enter_context(_started(settings, beside_others=demo))
        listener = stack.enter_context(cluster.listener())
        if duration_s is not None:
            # A thread of its own, so that the time ends however quiet the brokers are.
            timer = threading.Timer(duration_s, stopped.set)
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        title = _title(settings, demo=demo)
        if in_lines:  # a table has the endpoint below it
            title = f"{title}\nhealth topic {cluster.health_endpoint}"
        if as_json:
            sys.stderr.write(f"{title}\n")
        Screen(
            listener,
            stopped.is_set,
            SystemClock().up_s,
            as_json=as_json,
            title=title,
            caption=lambda: _caption(cluster, story[0]),
        ).show()


@contextmanager
def _started(settings: Settings, *, beside_others: bool) -> Generator[Cluster]:
    """The running cluster. A demo makes do when another one has the usual port or the state folder."""
    cluster = Cluster.from_settings(settings)
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


def _load(path: Path, *, keep_going: bool) -> Settings:
    from brokerwatch.exchange import Catalogue

    return load(path, Catalogue(), keep_going=keep_going)


def meant_cluster(config: Path | None, *, name: str | None, state: Path | None) -> ClusterSettings:
    """The cluster that an operator means: by its configuration, where there is one, or by name or folder."""
    if config is None and (name is not None or state is not None):
        settings = ClusterSettings()
    else:
        try:
            settings = load_cluster(_config_path(config))
        except ConfigError:
            if config is not None or os.environ.get(CONFIG_VARIABLE) or Path(CONFIG_FILE).exists():
                raise
            settings = ClusterSettings()
    meant = replace(
        settings,
        name=settings.name if name is None else name,
        state=settings.state if state is None else str(state),
    )
    problems = [Problem("", f"cluster.{key}", expected) for key, expected in cluster_mistakes(meant)]
    if problems:
        raise ConfigError(tuple(problems))
    return meant


def _config_path(config: Path | None) -> Path:
    """The configuration to run: the one named, else the environment's, else the one that lies here."""
    if config is not None:
        return config
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    here = Path(CONFIG_FILE)
    if here.exists():
        return here
    raise ConfigError(
        (
            Problem(
                "",
                "",
                f"no configuration: neither --config, nor ${CONFIG_VARIABLE}, nor ./{CONFIG_FILE}; "
                "`brokerwatch init` writes one to fill in, and --demo runs on simulated exchanges",
            ),
        )
    )


def _title(settings: Settings, *, demo: bool) -> str:
    count = len(settings.brokers) + len(settings.broken)
    if demo:
        return f"brokerwatch: {count} SIMULATED accounts on simulated exchanges; no real exchange is asked"
    return f"brokerwatch: cluster {settings.cluster.name}, {count} account{'s' if count != 1 else ''}"


def _caption(cluster: Cluster, story: str) -> str:
    lines = [f"in another terminal: brokerwatch listen {cluster.health_endpoint}   Ctrl-C ends"]
    return "\n".join([f"simulation: {story}", *lines] if story else lines)
