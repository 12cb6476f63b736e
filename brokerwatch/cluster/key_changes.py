"""API keys that change while the cluster runs: which rotations are under way, and how a key is taken over.

An account has the old key until the new one is taken over, and that is one step under the lock of the
members. What is under way with the old key goes on to its end. Orders go on under the new key where both keys
are known to be of one account. Else the old key goes on looking them up, and no entry goes out with the new
one as long as an order is not accounted for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, wait
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from brokerwatch.clock import Clock
from brokerwatch.cluster.leaving import Leaving
from brokerwatch.cluster.members import SETTLES_S, Members
from brokerwatch.cluster.reloaded import Reloaded
from brokerwatch.cluster.rotation import KeyRotation, Verified
from brokerwatch.cluster.wiring import access_of, rebuilt
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.credentials import read_again
from brokerwatch.config.reload_plan import with_key_of
from brokerwatch.errors import CouldNotAsk, NotAllowed, NotSupported
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.log import logger
from brokerwatch.messages import Balance, Fault, FaultKind
from brokerwatch.storage.journal import Journal

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access

_log: Final = logger(__name__)

KEYS_S: Final = 5.0
"""How long a reload waits for the new keys to be verified; what takes longer goes on in the background."""
LOOK_S: Final = 0.02
"""How often it is looked whether the orders that are under way with the old key have ended."""
FACTS_S: Final = 30.0
"""What a question about a key may take beyond its deadline: it waits in the queue of the key."""
UNREACHED: Final = frozenset(
    {
        FaultKind.NETWORK,
        FaultKind.EXCHANGE_DOWN,
        FaultKind.MAINTENANCE,
        FaultKind.RATE_LIMITED,
        FaultKind.BLOCKED,
    }
)
"""Faults after which a question about a key is asked again. After any other it counts as not stated."""
DROPPED: Final = "its API key was replaced"
FORCED: Final = (
    "the new API key is used, unverified, and the old one was dropped at once, as was asked for; the account "
    "is available after its next success"
)
BY: Final = "its new API key"
"""By whom an account was changed, in the history."""


class KeyChanges:
    """Changes of a cluster's members, with those of their API keys. Any thread may use it."""

    def __init__(self, members: Members, journal: Journal, clock: Clock) -> None:
        self._members = members
        self._journal = journal
        self._clock = clock
        self._changing = threading.Lock()
        """Held by the change that is under way, but not while its new keys are verified."""
        self._rotations: dict[str, KeyRotation] = {}
        """Under the lock of the members, as all here."""
        self._ids: dict[str, str] = {}
        """By the fingerprint of a key that was taken over, whose account the exchange states."""

    def change(
        self, configuration: Callable[[Settings], Settings], by: str, *, force_key: bool = False
    ) -> Reloaded:
        """Go on by another configuration; see `Members.change`. A key that is new is verified first.

        It is waited for, for some seconds. With `force_key` it is taken over at once, unverified.
        """
        with self._changing:
            planned = self._members.change(lambda before: configuration(self._with_wanted(before)), by)
            wanted = {one.after.name: one.after for one in planned.changed if one.new_key}
            forced, started = self._begun(wanted, force_key=force_key)
        wait(forced.values(), SETTLES_S)
        return Reloaded.of(planned, {**dict.fromkeys(forced, FORCED), **self._awaited(started)})

    def _begun(
        self, wanted: Mapping[str, BrokerSpec], *, force_key: bool
    ) -> tuple[dict[str, Future[bool]], list[KeyRotation]]:
        """Begin with the keys that are wanted from now on, and no others: those that were taken over at once,
        and those that are verified first."""
        members = self._members
        forced: dict[str, Future[bool]] = {}
        started: list[KeyRotation] = []
        with members.lock:
            self._cancel([name for name in self._rotations if not self._goes_on(name, wanted.get(name))])
            for name, spec in wanted.items():
                if not members.running or name not in members.wired.accounts:
                    continue
                if force_key:
                    self._cancel([name])
                    forced[name] = self._forced(spec)
                else:
                    started.append(self._rotate(spec))
        return forced, started

    def renew(self, broker: str) -> str:
        """Read the files of a broker's API key again, and take what has changed; in words, or nothing.

        Raises ConfigError, UnknownBroker.
        """
        members = self._members
        members.board.slot(broker)
        spec = members.specs.get(broker)
        if spec is None or not members.running:
            return ""
        credentials = read_again(spec)
        if credentials == spec.credentials:
            return ""
        with members.lock:
            rotation = self._rotate(replace(spec, credentials=credentials, instance=None))
        return self._awaited([rotation])[broker]

    def stop(self, deadline_s: float) -> bool:
        """Take no key over any more. False when a thread does not end."""
        until_s = self._clock.up_s() + deadline_s
        with self._members.lock:
            rotations = tuple(self._rotations.values())
            self._cancel(tuple(self._rotations))
        return all(each.ended(max(0.0, until_s - self._clock.up_s())) for each in rotations)

    def _with_wanted(self, before: Settings) -> Settings:
        """What holds, with the keys that are being verified: a change of something else keeps these."""
        wanted = {name: each.wanted for name, each in self._rotations.items()}
        brokers = tuple(
            with_key_of(spec, wanted[spec.name]) if spec.name in wanted else spec for spec in before.brokers
        )
        return replace(before, brokers=brokers)

    def _goes_on(self, name: str, wanted: BrokerSpec | None) -> bool:
        """Whether the rotation under way is for this key."""
        under_way = self._rotations[name].wanted
        return wanted is not None and with_key_of(wanted, under_way) == wanted

    def _cancel(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._rotations:
                self._rotations.pop(name).cancel()

    def _rotate(self, wanted: BrokerSpec) -> KeyRotation:
        """Begin to verify this key, or try again at once where it is being verified."""
        name = wanted.name
        if name in self._rotations and self._goes_on(name, wanted):
            self._rotations[name].try_now()
            return self._rotations[name]
        self._cancel([name])
        rotation = self._rotations[name] = KeyRotation(wanted, self, self._said)
        rotation.start()
        return rotation

    def _awaited(self, rotations: list[KeyRotation]) -> dict[str, str]:
        """How these rotations stand, some seconds later at the most."""
        wait([each.done for each in rotations], KEYS_S)
        return {each.name: each.words for each in rotations}

    def _said(self, rotation: KeyRotation, words: str) -> None:
        _log.warning("%s: %s", rotation.name, words)
        board = self._members.board
        if rotation.name in board:
            reading = board.slot(rotation.name).reading
            self._journal.commanded("reload", BY, reading, words, self._clock.now())

    def _forced(self, wanted: BrokerSpec) -> Future[bool]:
        members = self._members
        spec = with_key_of(members.specs[wanted.name], wanted)
        access = access_of(spec, members.gateway)
        old = members.wired.accounts[spec.name].access
        same = spec.same_account or old.lane is access.lane
        return self._take(spec, access, None, same_account=same, drops_old=True)

    # --- what a rotation asks of the cluster -----------------------------------------------------------

    def candidate(self, rotation: KeyRotation) -> tuple[BrokerSpec, Access] | None:
        """See `Rotating`."""
        members = self._members
        with members.lock:
            if not self._is_wanted(rotation):
                return None
            spec = with_key_of(members.specs[rotation.name], rotation.wanted)
            return spec, access_of(spec, members.gateway)

    def dismiss(self, rotation: KeyRotation, access: Access) -> None:
        """See `Rotating`."""
        with self._members.lock:
            self._members.let_go(rotation.name, access)

    def account_ids(
        self, rotation: KeyRotation, spec: BrokerSpec, access: Access
    ) -> tuple[str, str, bool | None] | Fault:
        """See `Rotating`."""
        members = self._members
        before = members.specs.get(spec.name)
        old = None if before is None else members.wired.accounts.get(spec.name)
        new = self._facts(rotation, spec, access)
        if isinstance(new, Fault):
            return new
        if old is None or before is None:
            return "", new.account_id, new.trade
        if old.access.lane is access.lane:  # another secret of the same key
            return access.lane.fingerprint, access.lane.fingerprint, new.trade
        fingerprint = old.access.lane.fingerprint
        known = self._ids.get(fingerprint) or members.keys.account_ids.get(fingerprint, "")
        refused = members.board.slot(spec.name).reading.fault is FaultKind.AUTH
        if not known and new.account_id and not refused:  # one that is refused is not asked for this
            facts = self._facts(rotation, before, old.access)
            # An old key that was deleted says nothing any more.
            known = "" if isinstance(facts, Fault) else facts.account_id
        return known, new.account_id, new.trade

    def take_key(self, rotation: KeyRotation, verified: Verified) -> bool:
        """See `Rotating`."""
        members, spec = self._members, verified.spec
        with members.lock:
            wanted = self._is_wanted(rotation)
            if not wanted or spec != with_key_of(members.specs[spec.name], rotation.wanted):
                return False
            old = members.wired.accounts[spec.name].executor.succession
            taken = self._take(
                spec,
                verified.access,
                verified.found,
                same_account=verified.same_account,
                is_other=verified.is_other,
            )
            used = {account.access.lane.fingerprint for account in members.wired.accounts.values()}
            self._ids = {key: account_id for key, account_id in self._ids.items() if key in used}
            self._ids[verified.access.lane.fingerprint] = verified.account_id
        wait([taken], SETTLES_S)
        # Only then the old key may be deleted: an order that is under way with it would be refused.
        until_s = self._clock.up_s() + spec.fetch_deadline_s + SETTLES_S
        while old.pending and self._clock.up_s() < until_s:
            rotation.pause(LOOK_S)
        return True

    def end_rotation(self, rotation: KeyRotation) -> None:
        """See `Rotating`."""
        with self._members.lock:
            if self._rotations.get(rotation.name) is rotation:
                del self._rotations[rotation.name]

    def _is_wanted(self, rotation: KeyRotation) -> bool:
        members = self._members
        known = rotation.name in members.specs and rotation.name in members.wired.accounts
        return members.running and known and self._rotations.get(rotation.name) is rotation

    def _facts(self, rotation: KeyRotation, spec: BrokerSpec, access: Access) -> KeyFacts | Fault:
        """What the exchange states of a key; a fault where it could not be asked."""
        from brokerwatch.gateway.key_owner import stated_of_key

        try:
            asked = access.loop.submit(stated_of_key(spec, access))
            found = rotation.answer_of(asked, FACTS_S + spec.fetch_deadline_s)
        except (NotAllowed, NotSupported):
            return KeyFacts()
        except CouldNotAsk as error:
            fault = error.fault or Fault(FaultKind.NETWORK, str(error))
            # An exchange, or what stands before it, that has no such question is not asked for ever.
            return fault if fault.kind in UNREACHED else KeyFacts()
        except (CancelledError, RuntimeError) as error:  # its loop was given up
            return Fault(FaultKind.NETWORK, str(error))
        return Fault(FaultKind.NETWORK, "no answer about the API key") if found is None else found

    # --- taking over -----------------------------------------------------------------------------------

    def _take(
        self,
        spec: BrokerSpec,
        access: Access,
        found: Balance | None,
        *,
        same_account: bool,
        is_other: bool = False,
        drops_old: bool = False,
    ) -> Future[bool]:
        """Go on with another API key, under the lock; done when the account's actor does.

        Args:
            spec: The configuration with it.
            access: The ways to the account with it.
            found: What the account answered to it; None: it was not asked.
            same_account: Whether both keys are known to be of one account.
            is_other: Whether they are known to be of two.
            drops_old: Whether the old key is used for nothing any more from here on.
        """
        members, name = self._members, spec.name
        before, old = members.specs[name], members.wired.accounts[name]
        one_lane = old.access.lane is access.lane
        shares = same_account and (one_lane or self._shares_orders(name, old.access, access))
        members.wired = rebuilt(members.wired, spec, members.parts, access)
        members.specs = {**members.specs, name: spec}
        members.follow_all()
        taken = members.lives.rekey(spec, found, same_account=same_account)
        old.reporter.muted = not one_lane
        new = members.wired.accounts[name].executor
        if drops_old:
            old.executor.stop(DROPPED)
        if shares:
            old.executor.hand_over(new)
        elif not is_other and old.executor.is_open:
            new.succession.earlier = old.executor
        if shares or drops_old:
            members.let_go(name, old.access)
        else:
            leaving = Leaving(before, members.board.slot(name), old, DROPPED)
            members.leavers.see_off(leaving, members.parts.alarms)
        return taken

    def _shares_orders(self, name: str, old: Access, new: Access) -> bool:
        """Have the orders of an account looked up with its new key. False where they cannot be."""
        members = self._members
        key, taken = members.wired.in_flight[old.lane.fingerprint], new.lane.fingerprint
        there = members.wired.in_flight.get(taken)
        if key.loop is not new.loop or (there is not None and there.orders is not key.orders):
            return False
        members.wired = replace(members.wired, in_flight={**members.wired.in_flight, taken: key})
        new.loop.call(partial(key.orders.rekey, name, taken))
        return True
