"""The lanes of one process: one for each API key, as long as an account uses it.

A key is claimed while it is used here, so that another process on this machine which uses it too is noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.registry import profile_of
from brokerwatch.gateway.address import Address
from brokerwatch.gateway.catalogue import lane_name
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.lease import KeyLease, LaneLease, TermOf, no_term
from brokerwatch.gateway.loop import Loop
from brokerwatch.log import logger
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.locks import Claim, claim
from brokerwatch.storage.records import KeyState, Remembered
from brokerwatch.tally import Tally

_log: Final = logger(__name__)

KEPT_LANES: Final = 100
"""So many lanes of keys that are used no more are kept: what they know of nonces and lockouts holds when one
of these keys comes back."""


class Lanes:
    """Makes the lanes, and lets go of them. One thread at a time may call it.

    `claims`: the folder in which all processes of this user claim their keys; None: there is none. `term_of`
    gives the term of a key by its fingerprint, in a pool.
    """

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        known: Remembered,
        claims: Path | None,
        tally: Tally,
        term_of: TermOf = no_term,
    ) -> None:
        self._term_of = term_of
        self._clock = clock
        self._journal = journal
        self._known = known
        self._claims_folder = claims
        self._tally = tally
        self._lanes: dict[str, tuple[Loop, Lane]] = {}
        self._users: dict[str, Counter[str]] = {}
        """By the lane, which brokers use it, and by how many connections each."""
        self._former: dict[str, Lane] = {}
        """The lanes that are not in use: of a loop that was replaced, or of a key that no account has now."""
        self._claims: dict[str, Claim] = {}

    def of(self, spec: BrokerSpec, family: str, loop: Loop, budget: Budget, address: Address) -> Lane:
        """The lane of this broker's API key, in use from now on; brokers on one key share it.

        Raises ConfigError.
        """
        name = lane_name(spec)
        if name in self._lanes:
            lanes_loop, lane = self._lanes[name]
            if lanes_loop is not loop:
                expected = (
                    "its API key is also that of a broker on another event loop, and one key is one queue; "
                    "expected the same ccxt instance for both, or another key"
                )
                raise ConfigError((Problem("", f"brokers.{spec.name}", expected),))
            if spec.name not in self._users[name]:
                _log.warning(
                    "%s has the API key of another broker here: one account, and one lane", spec.name
                )
            self._tally.key(name, spec.name)
        else:
            known, tally = self._known.keys.get(name, KeyState(name)), self._tally.key(name, spec.name)
            former = self._former.pop(name, None)
            lease = self._lease(name, loop, former)
            lane = Lane(name, budget, self._clock, self._journal, known, address, lease, tally)
            lane.counts_nonces = profile_of(family).rising_nonces
            if former is not None:
                lane.go_on_from(former)
            self._lanes[name] = (loop, lane)
            self._users[name] = Counter()
            if name not in self._claims and spec.credentials and not spec.simulated:
                self._claim(name, spec)
        if spec.nonce_fence:
            self._fence(lane, spec.name)
        lane.join(spec.name, spec.fetch_deadline_s, budget, address, spec.reserved_requests)
        self._users[name][spec.name] += 1
        return lane

    def _fence(self, lane: Lane, broker: str) -> None:
        """Let the numbers of this key carry the epoch of its claim, if it has one."""
        if lane.lease.term is None:
            _log.warning("%s: nonce_fence is ignored, because this process is in no pool", broker)
        elif lane.counts_nonces:
            lane.nonces.fence = lane.lease.term

    def _lease(self, name: str, loop: Loop, former: Lane | None) -> LaneLease:
        term = self._term_of(name) or (None if former is None else former.lease.term)
        return loop.lease if term is None else KeyLease(loop.lease, term, self._clock)

    def leave(self, lane: Lane, broker: str) -> bool:
        """One connection of this broker uses the lane no more. Whether none does, of any broker."""
        name = lane.fingerprint
        if self._lanes.get(name, (None, None))[1] is not lane:
            return False  # it is on a loop that was replaced
        users = self._users[name]
        users[broker] -= 1
        if users[broker] > 0:
            return False
        del users[broker]
        lane.leave(broker)
        self._tally.leave(name, broker)
        if users:
            return False
        del self._lanes[name], self._users[name]
        self._former[name] = lane
        while len(self._former) > KEPT_LANES:
            del self._former[next(iter(self._former))]
        if name in self._claims:
            self._claims.pop(name).release()
        return True

    def move(self, old: Loop) -> None:
        """The lanes of this loop are to be made anew on another one."""
        for name, (loop, lane) in tuple(self._lanes.items()):
            if loop is old:
                del self._lanes[name], self._users[name]
                self._former[name] = lane

    def forget(self, keys: Collection[str], known: Remembered) -> None:
        """The lanes of these keys, which are not in use, begin anew when they are made again.

        `known`: what is remembered of all keys from now on.
        """
        self._known = known
        for key in keys:
            self._former.pop(key, None)

    def recall(self, known: Remembered) -> None:
        """What is remembered of the keys could be read only now."""
        for name, (loop, lane) in tuple(self._lanes.items()):
            state = known.keys.get(name, KeyState(name))
            loop.call(partial(lane.recall, state))

    def close(self) -> None:
        """Claim no key any more."""
        for held in self._claims.values():
            held.release()
        self._claims = {}

    def _claim(self, name: str, spec: BrokerSpec) -> None:
        """Warn when another process on this machine uses the same key: their nonces would collide."""
        if self._claims_folder is None:
            return
        try:
            claimed = claim(self._claims_folder / f"{name}.lock")
        except OSError as error:
            _log.warning("cannot tell whether another process uses the key of %s: %s", spec.name, error)
            return
        if isinstance(claimed, Claim):
            self._claims[name] = claimed
        else:
            _log.warning(
                "%s: %s watches with the same API key; give each a key of its own, or nonces and rate limits "
                "will collide",
                spec.name,
                claimed,
            )
