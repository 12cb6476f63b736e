"""The [[supervisors]] tables: the supervisors elsewhere that hear the accounts of this configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from brokerwatch.config.curve_keys import is_key, public_key
from brokerwatch.config.toml_lines import TomlLines
from brokerwatch.config.toml_table import TomlTable, typed
from brokerwatch.errors import Problem

SUPERVISOR_KEYS: Final = ("broker_endpoint", "health_endpoint", "server_key")
"""The keys of one of these tables."""
MOST_SUPERVISORS: Final = 16
"""Each costs a node two sockets and two threads."""


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """Where one supervisor is. The values are checked when a `Cluster` is made with them."""

    broker_endpoint: str
    """Its own broker_endpoint, to which the accounts are reported."""
    health_endpoint: str
    """Its own health_endpoint, from which the commands of its operators come."""
    server_key: str = ""
    """Its public key, or the file that has it; empty: the connection is not encrypted."""


def supervisors_of(
    listed: object, where: str, folder: Path, problems: list[Problem], lines: TomlLines
) -> tuple[SupervisorSettings, ...]:
    """What the [[supervisors]] tables say. Paths count from the folder of the configuration."""
    if listed is None:
        return ()
    if not isinstance(listed, list):
        expected = f"expected [[supervisors]] tables, not {typed(listed)}"
        problems.append(Problem(where, "supervisors", expected, lines.nearest("supervisors")))
        return ()
    found: list[SupervisorSettings] = []
    for number, content in enumerate(cast("list[object]", listed), start=1):
        path = f"supervisors #{number}"
        if not isinstance(content, dict):
            expected = f"expected a table, not {typed(content)}"
            problems.append(Problem(where, path, expected, lines.nearest(path)))
            continue
        table = TomlTable(where, path, cast("Mapping[str, Any]", content), problems, lines)
        server_key = table.text("server_key", "")
        if server_key and not is_key(server_key):
            server_key = str(folder.absolute() / server_key)
        found.append(
            SupervisorSettings(
                table.text("broker_endpoint", "", needed="the broker_endpoint of the supervisor"),
                table.text("health_endpoint", "", needed="the health_endpoint of the supervisor"),
                server_key,
            )
        )
        table.end(", ".join(SUPERVISOR_KEYS))
    return tuple(found)


def server_key_mistake(server_key: str | os.PathLike[str]) -> str:
    """What is wrong with the public key of a supervisor; empty when nothing is. It reads the file."""
    try:
        public_key(server_key)
    except ValueError as error:
        return str(error)
    return ""
