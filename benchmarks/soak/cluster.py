"""The cluster that is looked at: its processes, and their configurations."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from benchmarks.measure import ROOT
from benchmarks.soak.program import Program
from benchmarks.soak.script import Configured
from benchmarks.soak.watch import HEARTBEAT_S, TTL_S

ACCOUNT: Final[Mapping[str, Any]] = {
    "poll_interval_s": 1.0,
    "fetch_deadline_s": 1.5,
    "max_proof_age_s": TTL_S,
    "policy": "guarded",
}
RULES: Final[Mapping[str, Any]] = {
    "backoff_s": [0.5, 3.0],
    "auth_probes_s": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0],
}
"""Shorter than the usual ones, so that an account comes back while the soak goes on."""


WORDS_OF_ONE: Final[Mapping[str, tuple[str, ...]]] = {"cluster": ("run",)}
WORDS_OF_THREE: Final[Mapping[str, tuple[str, ...]]] = {
    "supervisor": ("supervise",),
    "node-a": ("node", "--name", "a"),
    "node-b": ("node", "--name", "b"),
}


def free_port() -> int:
    """A port of this machine that no program has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """One cluster: `brokerwatch run`, or a supervisor and two nodes with half of the accounts each.

    For one thread.
    """

    def __init__(self, folder: Path, logs: Path, served: Mapping[str, Any], *, is_split: bool) -> None:
        self._folder = folder
        self._served = served
        self._is_split = is_split
        self._commands = logs / "commands.log"
        self._commands.unlink(missing_ok=True)
        self.health_port = free_port()
        self.http_port = free_port()
        self.broker_port = free_port()
        words = WORDS_OF_THREE if is_split else WORDS_OF_ONE
        self.programs: Final = tuple(
            Program(name, command, folder / f"{name}.toml", folder, logs) for name, command in words.items()
        )
        """The first one publishes the health topic."""
        for name, values in served["credentials"].items():
            for key, value in values.items():
                file = folder / f"{name}.{key}"
                file.touch(mode=0o600)
                file.write_text(value)

    @property
    def endpoint(self) -> str:
        """Its health topic."""
        return f"tcp://127.0.0.1:{self.health_port}"

    @property
    def url(self) -> str:
        """Its page."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def ports(self) -> frozenset[int]:
        """Where it listens."""
        return frozenset((self.health_port, self.http_port, self.broker_port))

    def configure(self, configured: Configured, *, mistaken: bool = False) -> None:
        """Write the configuration, with a mistake in it on request."""
        for number, program in enumerate(self.programs):
            lines = ["version = 1", "[cluster]", 'name = "soak"', f'health_endpoint = "{self.endpoint}"']
            lines += [f"heartbeat_s = {HEARTBEAT_S}", "status_interval_s = 5.0", 'state = "state"']
            if self._is_split:
                lines.append(f'broker_endpoint = "tcp://127.0.0.1:{self.broker_port}"')
            if number == 0:
                lines += ["[http]", f'listen = "127.0.0.1:{self.http_port}"']
            for name, differing in configured.items():
                # The supervisor knows all accounts, and each node its own.
                if number in (0, 1 + int(name[-1]) % 2):
                    lines += self._account(name, differing)
            if mistaken:
                lines.append('[brokers.nothing]\nexchange = "no-exchange"')
            fresh = program.config.with_suffix(".new")
            fresh.write_text("\n".join(lines) + "\n")
            fresh.replace(program.config)

    def _account(self, name: str, differing: Mapping[str, Any]) -> list[str]:
        exchange = name.rpartition("-")[0]
        values: dict[str, Any] = {"exchange": exchange, **ACCOUNT, **differing}
        values |= {f"{key}_file": f"{name}.{key}" for key in self._served["credentials"][name]}
        lines = [f"[brokers.{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        if values["policy"] == "guarded":
            lines += [f"[brokers.{name}.rules]", *(f"{key} = {_toml(value)}" for key, value in RULES.items())]
        urls = self._served["options"][exchange]["urls"]["api"]
        return [
            *lines,
            f"[brokers.{name}.ccxt.urls.api]",
            *(f"{key} = {_toml(url)}" for key, url in urls.items()),
        ]

    def reload(self) -> None:
        """Have all of it read its configuration again."""
        for program in self.programs:
            program.reload()

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        """One of its operator's commands, such as `hold`. Does not wait."""
        return self._started("brokerwatch", *words, "--config", str(self.programs[0].config))

    def make_history(self, account: str) -> subprocess.Popen[bytes]:
        """Fill what keeps pages of the history in memory, by holds of an account. Does not wait.

        Else the memory rises for hours by nothing but that, up to its limit.
        """
        return self._started("benchmarks.soak.holds", str(self.programs[0].config), account)

    def _started(self, *words: str) -> subprocess.Popen[bytes]:
        with self._commands.open("a") as said:
            said.write(f"{' '.join(words)}\n")
            said.flush()
            return subprocess.Popen(
                (sys.executable, "-m", *words),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                start_new_session=True,
            )


def _toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, object]", value).items()
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in pairs) + " }"
    return json.dumps(value)  # texts, numbers and lists of them look the same in both
