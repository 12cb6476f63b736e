"""This process as a node of a pool: it takes the accounts that fall to it, and hands over those that do not.

Two threads. The keeper renews the claims and does nothing else (`pool.keeper`). The other one here moves
accounts, and may wait for calls, actors and the database meanwhile. Both decide nothing by what another node
says: what falls to this node follows from the table of live nodes, and what it may use from its own claims.

An account comes in this order: the claim, what is stored of it, its lane and its actor. It goes in the
reverse order: its actor says goodbye, its last call ends, what is known is written, and only then the claim
is given back. Where the claim was lost it just goes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.cluster.handover import Handover
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.pool_settings import (
    PoolSettings,
    lease_mistake,
    lease_of,
    longest_call_s,
    longest_heartbeat_s,
)
from brokerwatch.errors import ClusterStopped, ConfigError, Problem, StoreError
from brokerwatch.log import logger
from brokerwatch.pool.keeper import ClaimKeeper
from brokerwatch.pool.settling import Settling
from brokerwatch.pool.share import left_out, placed_accounts, placement_of, share_of
from brokerwatch.pool.terms import Asked, Terms
from brokerwatch.storage.claims import PoolNode, PoolStore

_log: Final = logger(__name__)

NAME: Final = "brokerwatch-pool"
HANDED_OVER: Final = "it is handed over to another node of the pool"
LOST: Final = "the claim on its API key was lost"
HUNG_S: Final = 120.0
"""A move that takes longer hangs: thousands of accounts that come at once take half a minute."""
CALL_ENDS_S: Final = 1.0
"""What a call that is under way may take beyond its deadline."""


class Pooling:
    """The accounts of one node. `start` and the ends are for the thread of the cluster; `mine` for any.

    Args:
        settings: of a node of a pool.
        specs: all accounts of the pool.
    """

    def __init__(self, settings: ClusterSettings, specs: Iterable[BrokerSpec], clock: Clock) -> None:
        pool = settings.pool
        if pool is None or pool.node is None:
            raise ValueError("these settings are not of a node of a pool")
        self._pool: PoolSettings = pool
        self._written_heartbeat_s = settings.heartbeat_s
        """As it is configured. The cluster runs with one that fits the pool (`heartbeat_s`)."""
        self._clock = clock
        self._specs = {spec.name: spec for spec in specs}
        self.terms = Terms(
            lease_of(pool, self._specs.values()), pool.skew_s, longest_call_s(self._specs.values())
        )
        node = pool.node
        self._node = PoolNode(
            node.name,
            secrets.token_hex(4),
            node.capacity,
            dict(node.labels),
            node.egress,
            node.calls_per_s,
            clock.now().wall_us,
        )
        self._store = PoolStore(settings.store, pool.name)
        self._keeper = ClaimKeeper(
            PoolStore(settings.store, pool.name), self._node, self.terms, clock, self._wake
        )
        self.changing = threading.Lock()
        """Held while accounts come, and from `mine` to `follow`: none comes by a configuration of before."""
        self._lock = threading.Lock()
        self._here: dict[str, str] = {}
        """The accounts that this process runs, by name, and what each of them is claimed by."""
        self._leaving: dict[str, str] = {}
        """Accounts that went and whose claims are still held, with their keys: not all is written yet."""
        self._unfit: dict[str, str] = {}
        """Why an account cannot be set up here, until another configuration comes."""
        self._placed: tuple[tuple[PoolNode, ...], frozenset[str]] | None = None
        """For which nodes it was computed what falls to this one, and what does."""
        self._said: Mapping[str, str] = {}
        self._fingerprints: dict[str, tuple[BrokerSpec, str]] = {}
        """What each account is claimed by, with the configuration that it was computed from."""
        self._settling = Settling()
        self._missing = 0
        """Keys that fall to this node and that another one had at the last look."""
        self._event = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._began_s: float | None = None
        """When the move under way began, in monotonic seconds; None: none is."""

    @property
    def heartbeat_s(self) -> float:
        """The longest heartbeat that readings allow which end with a claim."""
        return longest_heartbeat_s(self.terms.lease_s)

    @property
    def accounts(self) -> Mapping[str, BrokerSpec]:
        """All accounts of the pool, by name."""
        return self._specs

    @property
    def is_member(self) -> bool:
        """Whether this node is one of the live ones of its pool."""
        return any(node.owner == self._node.owner for node in self._keeper.nodes)

    def start(self, handover: Handover) -> None:
        """Begin to take accounts. It asks the database on threads of its own alone."""
        self._thread = threading.Thread(target=self._run, args=(handover,), name=NAME, daemon=True)
        self._state()
        self._keeper.start()
        self._thread.start()

    def stop_moving(self, deadline_s: float) -> bool:
        """Take and hand over nothing more. The claims are kept. False when that took too long."""
        self._over.set()
        self._event.set()
        if self._thread is not None:
            self._thread.join(deadline_s)
            return not self._thread.is_alive()
        return True

    def leave(self, deadline_s: float, *, is_quiet: bool) -> bool:
        """Give back all claims and say goodbye to the pool. False when that took too long.

        `is_quiet`: whether it is certain that no call is under way any more. Else the claims end by
        themselves, so that no other node has a key too early.
        """
        ended = self._keeper.stop(deadline_s)
        keys = self.terms.held
        self.terms.ended(keys, "this node is being stopped")
        if not is_quiet or not ended:
            _log.warning("pool: the claims of this node are not given back; they end with their lease")
            return ended
        try:
            self._store.leave(self._node.owner)
        except StoreError as error:
            _log.warning("pool: the claims of this node end with their lease: %s", error)
        self._store.close()
        return True

    def fault(self) -> str:
        """What is wrong with one of its threads; empty where nothing is. Any thread; never waits."""
        if self._over.is_set() or self._thread is None:
            return ""
        if not self._thread.is_alive():
            return "its thread has ended: no account comes or goes any more"
        began_s = self._began_s
        if began_s is not None and self._clock.up_s() - began_s > HUNG_S:
            return f"a move of accounts has not ended for {HUNG_S:g} s"
        return self._keeper.fault()

    def whole(self, now: Settings) -> Settings:
        """The configuration that holds now with all accounts of the pool, not only those that are here."""
        return replace(now, brokers=tuple(self._specs.values()))

    def mine(self, wanted: Settings, now: Settings) -> Settings:
        """What of another configuration of all accounts is for this process, which goes by it with `follow`.

        An account that changes its API key keeps the old one here until it is taken anew with the new one.

        Args:
            wanted: all accounts of the pool.
            now: the accounts that are here.

        Raises:
            ConfigError: the lease is too short for them.
        """
        if mistake := lease_mistake(self._pool, wanted.brokers):
            raise ConfigError((Problem("", "pool.lease_s", mistake),))
        # From before the first longer call on until after the last one.
        self.terms.call_within(longest_call_s((*self._specs.values(), *wanted.brokers)))
        if wanted.cluster.heartbeat_s == self._written_heartbeat_s:
            cluster = replace(wanted.cluster, heartbeat_s=now.cluster.heartbeat_s)
            wanted = replace(wanted, cluster=cluster)
        specs = {spec.name: spec for spec in wanted.brokers}
        here: list[BrokerSpec] = []
        for before in now.brokers:
            after = specs.get(before.name, before)
            here.append(after if claimed_by(after) == claimed_by(before) else before)
        return replace(wanted, brokers=tuple(here))

    def follow(self, wanted: Settings) -> None:
        """These are all accounts of the pool from now on, and those that are here go by them."""
        with self._lock:
            self._specs = {spec.name: spec for spec in wanted.brokers}
            self._placed, self._unfit = None, {}
            known = self._fingerprints
            self._fingerprints = {name: known[name] for name in self._specs if name in known}
        self._state()
        self.terms.call_within(longest_call_s(wanted.brokers))
        self._wake()

    # --- the thread that moves accounts -----------------------------------------------------------------

    def _state(self) -> None:
        """Have the pool know which accounts this node can watch."""
        self._keeper.state(self._fit())

    def _fit(self) -> frozenset[tuple[str, str]]:
        """The accounts that this node can watch, each as its key and its name."""
        specs, unfit = self._specs, self._unfit
        return frozenset((self._claimed_by(spec), name) for name, spec in specs.items() if name not in unfit)

    def _wake(self) -> None:
        self._event.set()

    def _run(self, handover: Handover) -> None:
        try:
            self._move_until_over(handover)
        finally:
            self._store.close()

    def _move_until_over(self, handover: Handover) -> None:
        said, settles_s = "", float("inf")
        while not self._over.is_set():
            again_s = self._settling.take_again_s(self._missing, self._clock.up_s())
            self._event.wait(min(self._keeper.round_s, settles_s, again_s))
            self._event.clear()
            if self._over.is_set():
                return
            self._began_s = now_s = self._clock.up_s()
            settles_s = self._settling.look(self._keeper.nodes, len(self._specs), now_s)
            try:
                self._move(handover)
            except StoreError as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("pool: no account comes or goes until the database answers: %s", error)
            except ClusterStopped:
                return
            else:
                said = ""
            finally:
                self._began_s = None

    def _move(self, handover: Handover) -> None:
        share = self._share()
        lost = self._keeper.lost
        self._drop(handover, lost)
        if self._settling.nodes:  # before the first look at the pool nothing is handed over
            self._hand_over(handover, self._foreign(share))
        self._give_back(handover)
        with self.changing:
            self._take(handover, self._share() - lost)

    def _foreign(self, share: frozenset[str]) -> dict[str, str]:
        """The accounts here that do not fall to this node any more, and what they are claimed by."""
        specs = self._specs
        return {
            name: key
            for name, key in self._here.items()
            if key not in share or name not in specs or self._claimed_by(specs[name]) != key
        }

    def _share(self) -> frozenset[str]:
        nodes = self._settling.nodes
        with self._lock:
            specs, before = self._specs, self._placed
        if before is not None and before[0] == nodes:
            return before[1]
        accounts = placed_accounts(
            {name: self._claimed_by(spec) for name, spec in specs.items()}, specs.values()
        )
        stated = self._fit()
        # The pool knows what has just come here only after the next round of the keeper.
        live = [replace(each, accounts=stated) if each.owner == self._node.owner else each for each in nodes]
        where = placement_of(accounts, live)
        found = share_of(self._node, accounts, live, where)
        self._say_left_out(left_out(accounts, live, where) if live else {})
        with self._lock:
            if specs is self._specs:
                self._placed = nodes, found
        return found

    def _claimed_by(self, spec: BrokerSpec) -> str:
        """What an account is claimed by. Each round asks it of all accounts, and a fingerprint is a hash."""
        found = self._fingerprints.get(spec.name)
        if found is None or found[0] is not spec:
            found = self._fingerprints[spec.name] = spec, claimed_by(spec)
        return found[1]

    def _say_left_out(self, found: Mapping[str, str]) -> None:
        for name, why in found.items():
            if self._said.get(name) != why:
                _log.error("pool: no node watches %s: %s", name, why)
        self._said = found

    def _drop(self, handover: Handover, lost: frozenset[str]) -> None:
        """Let go of accounts whose claims were lost: another node may have them already."""
        names = [name for name, key in self._here.items() if key in lost]
        if names:
            handover.part(names, LOST)
            self._left(names)
            handover.forget(names, lost)
        for name in [name for name, key in self._leaving.items() if key in lost]:
            del self._leaving[name]
        if lost:
            self._keeper.settle(lost)

    def _hand_over(self, handover: Handover, gone: Mapping[str, str]) -> None:
        """Let go of accounts that do not fall to this node any more."""
        if not gone:
            return
        _log.warning("pool: %d accounts are handed over", len(gone))
        lanes = handover.part(tuple(gone), HANDED_OVER)
        self._leaving |= gone
        self._left(gone)
        keys = self._unused(gone.values())
        self.terms.closed(keys, HANDED_OVER)
        last = [lane for lane in lanes if lane.fingerprint in keys]
        if not handover.quiet(last, longest_call_s(self._specs.values()) + CALL_ENDS_S):
            _log.warning("pool: a call of an account that is handed over has not ended in time")
            lost = frozenset(lane.fingerprint for lane in last if lane.is_taken)
            # Its claim ends with its lease, so that its next owner does not begin too early.
            self.terms.ended(lost, HANDED_OVER)
            names = [name for name, key in self._leaving.items() if key in lost]
            for name in names:
                del self._leaving[name]
            handover.forget(names, lost)

    def _give_back(self, handover: Handover) -> None:
        """Give back the claims on the keys of accounts that went, once all that is known is written."""
        if not self._leaving or not handover.written():
            return
        names, keys = tuple(self._leaving), self._unused(self._leaving.values())
        handover.forget(names, keys)
        self.terms.ended(keys, HANDED_OVER)
        self._leaving = {}
        self._store.release(keys, self._node.owner)

    def _take(self, handover: Handover, share: frozenset[str]) -> None:
        """Take the accounts that fall to this node and that no other one has."""
        specs = {
            name: spec
            for name, spec in self._specs.items()
            if name not in self._here and name not in self._leaving and name not in self._unfit
        }
        ending = self._unused(self._leaving.values())
        goes_here = share - ending
        wanted = {name: key for name, spec in specs.items() if (key := self._claimed_by(spec)) in goes_here}
        keys = frozenset(wanted.values()) - self.terms.held.keys()
        if keys:
            asked = Asked.now(self._clock)
            names = _names_by_key(wanted)
            taken = self._store.take(keys, self._node.owner, self.terms.lease_s, names)
            self.terms.taken(taken, asked)
        held = self.terms.held
        self._missing = len(keys - held.keys())
        coming = {name: key for name, key in wanted.items() if key in held}
        if coming:
            self._join(handover, [specs[name] for name in coming], coming)
            if unfit := {name: key for name, key in coming.items() if name in self._unfit}:
                self._leave_to_others(handover, unfit)

    def _join(self, handover: Handover, specs: list[BrokerSpec], keys: Mapping[str, str]) -> None:
        try:
            # What is known of a key that another account uses here is newer than what is stored.
            handover.join(specs, self._unused(keys.values()))
        except ConfigError as error:
            if len(specs) > 1:
                for spec in specs:
                    self._join(handover, [spec], {spec.name: keys[spec.name]})
                return
            _log.error("pool: %s cannot be watched here: %s", specs[0].name, error)
            self._unfit[specs[0].name] = str(error)
            return
        self._here |= {spec.name: keys[spec.name] for spec in specs}
        _log.warning("pool: %d accounts have come to this node", len(specs))

    def _leave_to_others(self, handover: Handover, unfit: Mapping[str, str]) -> None:
        """Give back the claims on the keys of accounts that cannot be set up here, which others may watch."""
        with self._lock:
            self._placed = None
        self._state()
        keys = self._unused(unfit.values())
        handover.forget(tuple(unfit), keys)
        self.terms.ended(keys, "its account cannot be watched here")
        self._store.release(keys, self._node.owner)

    def _unused(self, keys: Iterable[str]) -> frozenset[str]:
        """Those of these keys that no account uses here."""
        return frozenset(keys).difference(self._here.values())

    def _left(self, names: Iterable[str]) -> None:
        for name in names:
            self._here.pop(name, None)


def _names_by_key(keys: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of the accounts behind each key."""
    found: dict[str, list[str]] = {}
    for name, key in keys.items():
        found.setdefault(key, []).append(name)
    return found


def pooling_of(settings: ClusterSettings, specs: Iterable[BrokerSpec], clock: Clock) -> Pooling | None:
    """This process in its pool; None: it is in none."""
    if settings.pool is None or settings.pool.node is None:
        return None
    return Pooling(settings, specs, clock)


def claimed_by(spec: BrokerSpec) -> str:
    """What an account is claimed by: the fingerprint of its API key, as its lane goes by it."""
    from brokerwatch.gateway.catalogue import lane_name

    return lane_name(spec)
