"""Accounts that come to this process from another one, or go to one, while both run.

What is known of an account is in the store. It is read anew before an account comes, and all that waits is
written before it goes. Orders of it that are under way are not followed to their end here: the next owner
finds them in the store and looks them up first.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from brokerwatch.clock import Clock
from brokerwatch.cluster.members import Members
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import Settings

if TYPE_CHECKING:
    from brokerwatch.gateway.lane import Lane

BY: Final = "the pool"
"""By whom the accounts of this process are changed, in the history."""
LOOK_S: Final = 0.02
"""How often it is looked whether the last call of an account has ended."""
WRITTEN_S: Final = 5.0
"""What writing all that waits may take before it is tried again later."""


class Handover:
    """For one thread, which may wait for a database and for calls that are under way."""

    def __init__(self, members: Members, state: Persistence, clock: Clock) -> None:
        self._members = members
        self._state = state
        self._clock = clock
        self._pause = threading.Event()

    def join(self, specs: Iterable[BrokerSpec], keys: Collection[str]) -> None:
        """Take these accounts up, with what is stored of them. They have everything to prove.

        Args:
            specs: the accounts.
            keys: the fingerprints that their lanes go by. This process has the claims on them.

        Raises:
            StoreError: what is stored cannot be read now. Nothing was changed.
            ConfigError: one of them cannot be set up. Nothing was changed.
            ClusterStopped: the cluster does not run.
        """
        coming = tuple(specs)
        names = [spec.name for spec in coming]
        self._state.take_over(names, keys)
        self._forget_keys(keys)

        def more(now: Settings) -> Settings:
            here = {spec.name for spec in now.brokers}
            return replace(now, brokers=(*now.brokers, *(one for one in coming if one.name not in here)))

        self._members.change(more, BY)

    def part(self, names: Collection[str], why: str) -> list[Lane]:
        """Let these accounts go: no new call of them begins. Returns their lanes, for `quiet`.

        Raises ClusterStopped.
        """
        parting = frozenset(names)
        lanes = [
            account.access.lane for name, account in self._members.wired.accounts.items() if name in parting
        ]

        def fewer(now: Settings) -> Settings:
            return replace(now, brokers=tuple(one for one in now.brokers if one.name not in parting))

        self._members.change(fewer, BY, gone=why)
        self._abandon(parting)
        return lanes

    def quiet(self, lanes: Iterable[Lane], within_s: float) -> bool:
        """Whether no call of these lanes is under way any more, after so many seconds at the most."""
        until_s = self._clock.up_s() + within_s
        while busy := [lane for lane in lanes if lane.is_taken]:
            if self._clock.up_s() >= until_s:
                return False
            lanes = busy
            self._pause.wait(LOOK_S)
        return True

    def written(self) -> bool:
        """Whether all that was known until now is in the store."""
        try:
            return self._state.journal.settled().result(WRITTEN_S)
        except FutureTimeout:
            return False

    def forget(self, names: Collection[str], keys: Collection[str]) -> None:
        """Another process has these accounts from now on."""
        self._state.forget(frozenset(names), frozenset(keys))
        self._forget_keys(frozenset(keys))

    def _abandon(self, names: frozenset[str]) -> None:
        """Follow no order of these accounts, which have left: their next owner does."""
        with self._members.lock:
            for leaving in self._members.leavers:
                if leaving.spec.name in names:
                    leaving.account.executor.stop()
                    self._members.leavers.release(leaving)

    def _forget_keys(self, keys: Collection[str]) -> None:
        """What is known here of these API keys, which no account uses now, counts no more."""
        members = self._members
        with members.lock:
            kept = {key: each for key, each in members.wired.in_flight.items() if key not in keys}
            members.wired = replace(members.wired, in_flight=kept)
            if members.gateway is not None:
                members.gateway.forget_keys(keys, self._state.remembered)
