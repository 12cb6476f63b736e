"""Which configuration is meant, and where the cluster is that it describes: its name, folder and endpoint.

`run` and the commands beside it look in the same places, so that an operator names a cluster
once. A command that only listens reads the [cluster] table alone, and loads nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes, reachable
from brokerwatch.config.curve_keys import KeyPair, read_pair
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.errors import ConfigError, Problem

CONFIG_VARIABLE: Final = "BROKERWATCH_CONFIG"
CONFIG_FILE: Final = "brokerwatch.toml"


def config_path(config: Path | None) -> Path:
    """The configuration: the one named, else the environment's, else the one that lies here.

    Raises ConfigError where there is none.
    """
    found = _found(config)
    if found is not None:
        return found
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


def meant_cluster(config: Path | None, *, name: str | None, state: Path | None) -> ClusterSettings:
    """The cluster that an operator means: by its configuration, where there is one, or by name or folder.

    Raises ConfigError.
    """
    by_name = config is None and (name is not None or state is not None)
    settings = ClusterSettings() if by_name else _settings(config)
    meant = replace(
        settings,
        name=settings.name if name is None else name,
        state=settings.state if state is None else str(state),
    )
    problems = [Problem("", f"cluster.{key}", expected) for key, expected in cluster_mistakes(meant)]
    if problems:
        raise ConfigError(tuple(problems))
    return meant


def health_endpoint(config: Path | None) -> str:
    """Where the configured cluster publishes; the usual endpoint where nothing is configured.

    Raises ConfigError, also for an endpoint of which only the running cluster knows the port.
    """
    endpoint = reachable(_settings(config).health_endpoint)
    if endpoint.endswith((":*", ":0")):
        expected = f"{endpoint!r} is any free port; name the endpoint that `brokerwatch run` shows"
        raise ConfigError((Problem(str(_found(config) or ""), "cluster.health_endpoint", expected),))
    return endpoint


def configured_curve(config: Path | None, endpoints: Collection[str]) -> tuple[str, KeyPair] | None:
    """The endpoint among these that is the configured cluster's, and the cluster's own key pair.

    None: none is, or it is not encrypted. Raises ConfigError.
    """
    settings = _settings(config)
    own = reachable(settings.health_endpoint)
    if settings.curve is None or own not in endpoints:
        return None
    try:
        return own, read_pair(settings.curve.key_file)
    except ValueError as error:
        raise ConfigError((Problem(str(_found(config) or ""), "curve.key_file", str(error)),)) from error


def configured_http(config: Path | None) -> HttpSettings | None:
    """Where the configuration says that HTTP is served; None where it says nothing. Raises ConfigError."""
    path = _found(config)
    if path is None:
        return None
    from brokerwatch.config.single_tables import load_http

    return load_http(path)


def _settings(config: Path | None) -> ClusterSettings:
    """The [cluster] table of the configuration; what is usual where there is no configuration."""
    path = _found(config)
    if path is None:
        return ClusterSettings()
    from brokerwatch.config.loader import load_cluster

    return load_cluster(path)


def _found(config: Path | None) -> Path | None:
    if config is not None:
        return config
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    here = Path(CONFIG_FILE)
    return here if here.exists() else None
