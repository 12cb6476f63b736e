"""A pool whose nodes are programs, started by anything: one file, its accounts, and who calls for them."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Final

from brokerwatch.simulator import SimulatedExchange
from brokerwatch.simulator.account import PrivateCall
from brokerwatch.storage.claims import ClaimRow, PoolStore
from tests.support.clusters import until
from tests.support.pools import DEADLINE_S, SKEW_S, overlaps, pool_spec
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH, ROOT, Program

POOL: Final = "desk"
POLL_S: Final = 0.5
START_S: Final = 60.0
"""So long several programs that start at once may take on a machine that is busy with others."""
HOOK: Final = ROOT / "tests" / "support" / "caller_hook"


class CallLog(list[PrivateCall]):
    """The private calls of an exchange, and those of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.of: defaultdict[str, list[PrivateCall]] = defaultdict(list)

    def append(self, call: PrivateCall, /) -> None:
        super().append(call)
        self.of[call.key].append(call)


class StartedPool:
    """One file for the nodes of a pool, on one database. `close` ends what still runs."""

    def __init__(
        self, url: str, exchange: SimulatedExchange, folder: Path, count: int, lease_s: float
    ) -> None:
        self.folder, self.lease_s = folder, lease_s
        self._exchange, self._url = exchange, url
        self._calls = exchange.private_log = CallLog()
        self._stack = ExitStack()
        self._store = PoolStore(url, POOL)
        self._stack.callback(self._store.close)
        self._programs: list[Program] = []
        self.specs = [pool_spec(exchange, f"k{number}") for number in range(count)]
        self._keys = {spec.name: spec.credentials["api_key"] for spec in self.specs}
        # The programs compile themselves once, also where the environment forbids the files.
        self.environment = {"PYTHONPATH": str(HOOK), "PYTHONDONTWRITEBYTECODE": ""}
        """What each process of the pool needs: the keys, and by whom its calls are."""
        for spec in self.specs:
            self.environment[f"{spec.name.upper()}_API_KEY"] = spec.credentials["api_key"]
            self.environment[f"{spec.name.upper()}_API_SECRET"] = spec.credentials["secret"]
        self.file = folder / "brokerwatch.toml"
        self.file.write_text(self._text())
        self.file.chmod(0o600)

    def _text(self) -> str:
        urls = "\n".join(f'{name} = "{self._exchange.url}"' for name in self._exchange.url_names)
        text = (
            f'version = 1\n[cluster]\nname = "desk"\nheartbeat_s = 0.5\nstate = "memory"\n'
            f'store = "{self._url}"\n'
            f'health_endpoint = "{free_endpoint()}"\nbroker_endpoint = "{free_endpoint()}"\n'
            f'[pool]\nname = "{POOL}"\nlease_s = {self.lease_s}\nskew_s = {SKEW_S}\n'
        )
        for spec in self.specs:
            text += (
                f'[brokers.{spec.name}]\nexchange = "{spec.exchange}"\npoll_interval_s = {POLL_S}\n'
                f"fetch_deadline_s = {DEADLINE_S}\n[brokers.{spec.name}.ccxt.urls.api]\n{urls}\n"
            )
        return text

    def program(self, *command: str, environment: Mapping[str, str] | None = None) -> Program:
        """A program beside the file."""
        made = Program(
            *command,
            cwd=self.folder,
            environment={**self.environment, **(environment or {})},
            output=subprocess.DEVNULL,
        )
        self._programs.append(made)
        return self._stack.enter_context(made)

    def plain(self, name: str) -> Program:
        """A node that nothing but a shell has started."""
        return self.program(
            *BROKERWATCH, "node", "--pool", POOL, "--name", name, "--config", self.file.name, "--json"
        )

    def short_folder(self) -> str:
        """A folder whose path is short enough for sockets in folders below it. It is removed at the end."""
        return self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="bw-", ignore_cleanup_errors=True)
        )

    # --- what the exchange saw ----------------------------------------------------------------------------

    def owners(self) -> dict[str, int]:
        """Which process each account was asked by last, by its id, where that was not long ago."""
        now_s = time.monotonic()
        newest = {name: self._calls.of[key][-1] for name, key in self._keys.items() if self._calls.of[key]}
        return {name: int(call.caller) for name, call in newest.items() if now_s - call.at_s < self.lease_s}

    def until_shared(self, nodes: int) -> dict[str, int]:
        """Wait until the pool has so many nodes, and each account is asked for; who asks for which.

        At least two processes do. That a node has no share is rare and no mistake.
        """
        found: dict[str, int] = {}

        def shared() -> bool:
            nonlocal found
            found = self.owners()
            return len(found) == len(self.specs) and len(set(found.values())) >= min(nodes, 2)

        try:
            until(lambda: self.nodes() == nodes, START_S)
            until(shared, START_S)
        except AssertionError as error:
            said = "\n".join(each.errors[-2_000:] for each in self._programs)
            raise AssertionError(f"{self.nodes()} nodes, {found}: {said}") from error
        return found

    def nodes(self) -> int:
        """How many nodes the pool has, by the database."""
        return len(self._store.live_nodes())

    def until_all_with(self, pid: int) -> None:
        """Wait until one process asks for all accounts."""
        until(lambda: self.owners() == dict.fromkeys(self._keys, pid))

    def gap_s(self, name: str, before: int) -> float:
        """Wait until another process than `before` asks for an account; seconds between their calls."""
        calls = self._calls.of[self._keys[name]]
        until(lambda: int(calls[-1].caller) != before)
        last = max(number for number, call in enumerate(calls) if int(call.caller) == before)
        return calls[last + 1].at_s - calls[last].at_s

    def asked_of_each_since(self, since_s: float) -> bool:
        """Whether each account was asked for after a moment, in monotonic seconds."""
        of_each = [self._calls.of[key] for key in self._keys.values()]
        return all(calls and calls[-1].at_s > since_s for calls in of_each)

    def callers_since(self, since_s: float) -> set[int]:
        """The processes that asked for an account after a moment, in monotonic seconds."""
        return {int(call.caller) for call in tuple(self._calls) if call.at_s > since_s}

    def longest_gap_s(self, since_s: float) -> float:
        """The longest time without a call of one account from a moment, in monotonic seconds, until now."""
        longest_s = 0.0
        for key in self._keys.values():
            at_s = [since_s, *(call.at_s for call in self._calls.of[key] if call.at_s > since_s)]
            at_s.append(time.monotonic())
            longest_s = max(longest_s, *(later - one for one, later in pairwise(at_s)))
        return longest_s

    def claims(self) -> tuple[ClaimRow, ...]:
        """What the database says of each key."""
        return self._store.claims()

    def overlaps(self) -> list[str]:
        """Keys that two processes used at one time."""
        return overlaps(self._calls, self.specs, self.claims())

    def close(self) -> None:
        self._stack.close()


def account_of(found: Mapping[str, int], pid: int) -> list[str]:
    """The accounts that a process asked for."""
    return sorted(name for name, one in found.items() if one == pid)
