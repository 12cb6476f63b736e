"""Who is in a round, and the configuration of each. Pure: ports and folders are given.

Two nodes run two accounts each and report them to two supervisors, which publish them. `desk` is a trading
program with a cluster of its own, which publishes its accounts itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brokerwatch.simulator import steady_credentials
from tests.chaos.recording import Promises

HEARTBEAT_S: Final = 0.5
POLL_S: Final = 1.0
DEADLINE_S: Final = 2.0
THRESHOLD: Final = 3
PROMISES: Final = Promises(
    ttl_s=4 * HEARTBEAT_S + 1.0,
    deadline_s=DEADLINE_S,
    threshold=THRESHOLD,
    # docs/configuration.md, "How long a success counts", with an account alone on its key.
    proof_s=THRESHOLD * max(POLL_S, DEADLINE_S) + DEADLINE_S + HEARTBEAT_S,
    written_s=3.0,
    rewritten_s=35.0,
    grace_s=1.5,
)
EXCHANGES: Final = ("kraken", "coinbase", "okx")

DESK: Final = "desk"
NODES: Final[Mapping[str, tuple[str, ...]]] = {"left": ("kraken", "coinbase"), "right": ("okx", "kraken")}
SUPERVISORS: Final = ("first", "second")
SIMPLE: Final = frozenset(("okx-right",))
"""Accounts that keep to the rules which existing users rely on; the others are `guarded`."""
ACCOUNTS: Final[Mapping[str, Mapping[str, str]]] = {
    owner: {f"{exchange}-{owner}": exchange for exchange in exchanges}
    for owner, exchanges in {DESK: EXCHANGES, **NODES}.items()
}
"""By the process that watches them: the accounts, and the exchange of each."""
PUBLISHERS: Final = (DESK, *SUPERVISORS)
SUBSCRIBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "near": (DESK, "first"),
    "far": PUBLISHERS,
    "lone": ("second",),
    "other": ("second",),
    "abroad": PUBLISHERS,
}
"""What each listens to: `near` directly, `abroad` from another network, the others over links."""
ABROAD: Final = "abroad"
DIRECT: Final = "near"
OTHER_LANGUAGE: Final = "other"


def accounts_published_by(publisher: str) -> tuple[str, ...]:
    """The accounts that a subscriber hears of from a publisher."""
    return tuple(ACCOUNTS[DESK]) if publisher == DESK else tuple(a for node in NODES for a in ACCOUNTS[node])


def credentials_of(owner: str) -> dict[str, str]:
    """The API keys of a process's accounts, as its environment has them."""
    words = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}
    return {
        f"{name.upper().replace('-', '_')}_{words[what]}": value
        for name, exchange in ACCOUNTS[owner].items()
        for what, value in steady_credentials(exchange, name).items()
    }


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is in one round."""

    folder: Path
    health: Mapping[str, str]
    """The health endpoint of each publisher."""
    brokers: Mapping[str, str]
    """Where each supervisor hears the nodes."""
    reported: Mapping[tuple[str, str], str]
    """Where each node (the first) connects to in order to report to a supervisor (the second)."""
    urls: Mapping[str, Mapping[str, str]]
    """ccxt's addresses of each exchange."""
    encrypted: bool

    def state(self, name: str) -> Path:
        """The folder in which a process remembers."""
        return self.folder / f"{name}-state"

    def configuration(self, name: str) -> str:
        """The configuration file of a process."""
        if name in SUPERVISORS:
            return self._supervisor(name)
        head = f'version = 1\n[cluster]\nname = "{name if name == DESK else "both"}"\n' + self._memory(name)
        if name == DESK:
            return head + f'health_endpoint = "{self.health[DESK]}"\n' + self._curve() + self._brokers(name)
        reports = "".join(
            f'[[supervisors]]\nbroker_endpoint = "{self.reported[name, supervisor]}"\n'
            f'health_endpoint = "{_reachable(self.health[supervisor])}"\n'
            + ('server_key = "cluster.pub"\n' if self.encrypted else "")
            for supervisor in SUPERVISORS
        )
        curve = '[curve]\nkey_file = "node.key"\n' if self.encrypted else ""
        return head + curve + reports + self._brokers(name)

    def _supervisor(self, name: str) -> str:
        text = (
            f'version = 1\n[cluster]\nname = "both"\n{self._memory(name)}'
            f'health_endpoint = "{self.health[name]}"\nbroker_endpoint = "{self.brokers[name]}"\n'
        )
        text += self._curve() + ('brokers = "nodes.keys"\n' if self.encrypted else "")
        for node in NODES:
            for account, exchange in ACCOUNTS[node].items():
                text += f'[brokers.{account}]\nexchange = "{exchange}"\n'
        return text

    def _memory(self, name: str) -> str:
        return f'state = "{self.state(name)}"\nheartbeat_s = {HEARTBEAT_S}\n'

    def _curve(self) -> str:
        return (
            '[curve]\nkey_file = "cluster.key"\nsubscribers = "subscribers.keys"\n' if self.encrypted else ""
        )

    def _brokers(self, owner: str) -> str:
        text = ""
        for name, exchange in ACCOUNTS[owner].items():
            text += (
                f'[brokers.{name}]\nexchange = "{exchange}"\n'
                f'policy = "{"simple" if name in SIMPLE else "guarded"}"\n'
                f"poll_interval_s = {POLL_S}\nfetch_deadline_s = {DEADLINE_S}\n"
                f"max_consecutive_errors = {THRESHOLD}\ntrading = {str(owner == DESK).lower()}\n"
                f"[brokers.{name}.rules]\nbackoff_s = [0.5, 2]\n[brokers.{name}.ccxt.urls.api]\n"
            )
            text += "".join(f'"{key}" = "{url}"\n' for key, url in self.urls[exchange].items())
        return text

    def program(self, name: str) -> list[str]:
        """The module and the arguments of a process that watches or publishes."""
        config = str(self.folder / f"{name}.toml")
        if name == DESK:
            return ["tests.chaos.trader", config, str(self.folder / f"{name}.journal")]
        if name in SUPERVISORS:
            return ["brokerwatch", "supervise", "--config", config]
        return ["brokerwatch", "node", "--config", config, "--only", ",".join(ACCOUNTS[name]), "--name", name]


def _reachable(endpoint: str) -> str:
    return endpoint.replace("//0.0.0.0:", "//127.0.0.1:")
