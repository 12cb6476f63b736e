"""The board: the newest reading of each broker, for a trading thread that must not wait.

Two actors write here: the broker its evidence, and the supervisor its vetoes. Each write computes the whole
reading anew under that broker's lock and swaps one reference. So a reader takes no lock, and sees either the
old reading or the new one. A reading expires (`valid_until_s`): when the actors that would renew it have
died, it turns unavailable by itself. The board refuses the writes of an older incarnation of a broker, so an
actor that hung and was replaced changes nothing when it wakes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec

from brokerwatch.clock import LEAP_S, Instant
from brokerwatch.errors import UnknownBroker
from brokerwatch.health.reading import composed
from brokerwatch.health.state_machine import Health, Vetoes
from brokerwatch.messages import Balance, Reading, Reason

NO_FAILURE: Final = Vetoes()
FAILED: Final = "brokerwatch itself is broken, so restart this program ({})"


class Slot:
    """One broker's place on the board, for any thread. To read it is one attribute access, without a lock."""

    __slots__ = (
        "__weakref__", "_changed", "_evidence", "_failure", "_health", "_lock", "_shown", "_vetoes",
        "closed", "reading", "until",
    )  # fmt: skip

    def __init__(
        self,
        evidence: Reading,
        health: Health,
        vetoes: Vetoes,
        changed: Callable[[Reading, Reading], object] | None = None,
    ) -> None:
        self._lock = threading.Condition()
        self._changed = changed
        self._evidence = evidence
        self._health = health
        self._shown = health.balance
        self._vetoes = vetoes
        self._failure = NO_FAILURE
        self.closed = False
        """Whether the broker does not belong to the cluster any more."""
        self.reading = composed(evidence, vetoes)
        self.until = _until(self.reading)
        """Until when the reading is available: in monotonic seconds, and as leads of the other clocks."""

    def write_evidence(self, evidence: Reading, health: Health, shown: Balance | None = None) -> bool:
        """Write the broker's evidence. False, and nothing changes, when newer evidence stands here.

        `shown`: the last known balance with what was pushed since; None: the balance of the health.
        """
        with self._lock:
            have = self._evidence
            if self.closed or (evidence.broker_epoch, evidence.version) < (have.broker_epoch, have.version):
                return False
            self._evidence = evidence
            self._health = health
            self._shown = health.balance if shown is None else shown
            self._compose()
            return True

    def write_vetoes(self, vetoes: Vetoes) -> None:
        """Write the supervisor's vetoes."""
        with self._lock:
            if self.closed:
                return  # its supervisor has not heard of it yet
            self._vetoes = vetoes
            self._compose()
            self._lock.notify_all()

    def fail(self, failure: Vetoes) -> None:
        """Lay this veto beside those of the supervisor, which may be what is broken; none: lift it."""
        with self._lock:
            self._failure = failure
            self._compose()

    def parts(self) -> tuple[Reading, Vetoes]:
        """The evidence and the vetoes, as they were written."""
        with self._lock:
            return self._evidence, self._vetoes

    def known(self) -> tuple[Reading, Balance | None]:
        """The reading and the whole last known balance, both of one moment."""
        with self._lock:
            return self.reading, self._shown

    def wait_until_lifted(self, reason: Reason, deadline_s: float) -> bool:
        """Wait until this veto is not laid. False when it still is after `deadline_s` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: reason not in self._vetoes.laid, deadline_s)

    def supersede(self, epoch: str, now: Instant) -> Health:
        """Hand the place to a new incarnation with this epoch. From now on writes of the old one are refused.

        Returns the health that the new one starts with: all that was known, and no proof of health.
        """
        with self._lock:
            self._health = self._health.restarted(now)
            self._evidence = msgspec.structs.replace(
                self._evidence,
                broker_epoch=epoch,
                version=self._health.version,
                state=self._health.state,
                since_us=self._health.since.wall_us,
            )
            self._compose()
            return self._health

    def close(self, vetoes: Vetoes) -> Reading:
        """The broker leaves the cluster, with these vetoes as its last word. No later write counts.

        Returns its last reading.
        """
        with self._lock:
            self._vetoes = vetoes
            self._compose()
            self.closed = True
            self._lock.notify_all()
            return self.reading

    def reopen(self, evidence: Reading, health: Health, vetoes: Vetoes) -> None:
        """A broker of this name is in the cluster again: with other evidence, whatever stood here."""
        with self._lock:
            self.closed = False
            self._evidence, self._health, self._vetoes = evidence, health, vetoes
            self._shown = health.balance
            self._compose()

    def _composed(self) -> Reading:
        failed = self._failure.laid.get(Reason.FAILED)
        if failed is None:
            return composed(self._evidence, self._vetoes)
        reading = composed(self._evidence, self._vetoes.lay(Reason.FAILED, failed.detail, failed.since))
        # It stays as it is until it is lifted: what would renew it may be what is broken.
        return msgspec.structs.replace(reading, valid_until_s=float("inf"))

    def _compose(self) -> None:
        before, reading = self.reading, self._composed()
        until = _until(reading)
        # There is no call between these two, at which another thread could run: it must not read that this
        # broker is unavailable and then see it as available.
        self.reading = reading
        self.until = until
        if self._changed is not None:
            self._changed(before, reading)


_NO_LEAP: Final = (float("inf"), float("inf"))


def _until(reading: Reading) -> tuple[float, float, float]:
    wall_s, asleep_s = _NO_LEAP if reading.leads is None else reading.leads
    return reading.available_until_s, wall_s + LEAP_S, asleep_s + LEAP_S


class Board:
    """All slots, for any thread. One thread at a time changes which brokers it has.

    The table of the slots is never changed: another one takes its place. So a reader needs no lock.
    """

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._slots = {slot.reading.broker: slot for slot in slots}
        self.arrangement = 0
        """The number of the newest change of which brokers it has."""
        self._since = dict.fromkeys(self._slots, 0)
        """By the broker, the change with which it came, or came back."""
        self._former: weakref.WeakValueDictionary[str, Slot] = weakref.WeakValueDictionary()
        """The slots of brokers that left, as long as a handle of them is held."""
        self._failure = NO_FAILURE

    def fail(self, why: str, now: Instant) -> None:
        """Make every broker `failed`, for this reason; empty: not any more. For one thread at a time.

        It is for what no supervisor can say, because it may be the supervisor that is broken.
        """
        self._failure = NO_FAILURE.lay(Reason.FAILED, FAILED.format(why), now) if why else NO_FAILURE
        for slot in self._slots.values():
            slot.fail(self._failure)

    def arrange(self, names: Collection[str], added: Mapping[str, Slot]) -> None:
        """Have these brokers from now on, in this order. What `added` does not have keeps its slot."""
        before, since, number = self._slots, self._since, self.arrangement + 1
        # First: from here on what is known of a broker that left, or came back, counts no more.
        self._since = {name: number if name in added else since[name] for name in names}
        self.arrangement = number
        self._slots = {name: added.get(name) or before[name] for name in names}
        for slot in added.values():
            slot.fail(self._failure)
        self._former.update({name: slot for name, slot in before.items() if name not in self._slots})

    def former(self, broker: str) -> Slot | None:
        """The slot of a broker that left, if a handle of it is still held: the handle works again with it."""
        return self._former.get(broker)

    def is_as_of(self, arrangement: int, broker: str) -> bool:
        """Whether this broker has been in the cluster since this change, and all the time."""
        return self._since.get(broker, arrangement + 1) <= arrangement

    def __contains__(self, broker: str) -> bool:
        return broker in self._slots

    def find(self, broker: str) -> Slot | None:
        """The place of one broker; None: it is in this cluster no more."""
        return self._slots.get(broker)

    def slot(self, broker: str) -> Slot:
        """The place of one broker. Raises UnknownBroker, which names those that exist."""
        try:
            return self._slots[broker]
        except KeyError:
            known = ", ".join(sorted(self._slots)) or "none"
            raise UnknownBroker(f"no broker named {broker!r} in this cluster; there are: {known}") from None

    def reading(self, broker: str) -> Reading:
        """One broker's reading. Raises UnknownBroker."""
        return self.slot(broker).reading

    def is_available(self, broker: str) -> bool:
        """Whether this broker can be trusted right now. Raises UnknownBroker."""
        return self.slot(broker).reading.available

    def parts(self) -> dict[str, tuple[Reading, Vetoes]]:
        """Broker to its evidence and its vetoes, as they were written."""
        return {name: slot.parts() for name, slot in self._slots.items()}

    def readings(self) -> tuple[Reading, ...]:
        """Every broker's reading, in the order of the configuration."""
        return tuple(slot.reading for slot in self._slots.values())
