"""What actors say to the store: a broker's health, and each turn of its history.

It hands on to the backlog and returns at once. Two rules of what may be stored stand here: nothing
replaces a balance that could not be looked at yet, and a health belongs to one account, which is an
API key at an exchange.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.config.balance_params import account_choice
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.fingerprint import fingerprint, key_fingerprint
from brokerwatch.health.state_machine import OWN_VETOES, Health
from brokerwatch.health.watched import NOTHING_WATCHED, Watched
from brokerwatch.log import logger
from brokerwatch.messages import Reading
from brokerwatch.storage.backlog import Backlog
from brokerwatch.storage.health_record import carried_over, read, written
from brokerwatch.storage.records import Hold, KeyState, OrderEvent, SentOrder, Stored, Transition

_log: Final = logger(__name__)


class Journal:
    """The pen. `backlog` is None where nothing is to be remembered."""

    def __init__(self, backlog: Backlog | None) -> None:
        self._backlog = backlog
        self._boot = boot_id()
        self.loaded = True
        """False as long as what was stored before could not be read."""
        self.unread: set[str] = set()
        """Brokers whose stored health cannot be read, by this version at least: it may hold a balance."""

    def health(
        self,
        spec: BrokerSpec,
        epoch: str,
        health: Health,
        now: Instant,
        *,
        news: bool = True,
        watched: Watched = NOTHING_WATCHED,
    ) -> None:
        """A broker's newest health, and what is watched beside it.

        No `news`: it is as it was known, and may wait a little.
        """
        hidden = not self.loaded or spec.name in self.unread
        if self._backlog is None or (health.balance is None and hidden):
            return
        self._backlog.health(
            Stored(
                broker=spec.name,
                exchange=identity(spec),
                credentials=fingerprint(spec.exchange, spec.credentials),
                epoch=epoch,
                version=health.version,
                saved_us=now.wall_us,
                document=written(health, now, self._boot, watched),
            ),
            urgent=news,
        )

    def moved(self, before: Reading, after: Reading, board: Reading, now: Instant) -> None:
        """A broker's evidence moved, or what it lays over it.

        The line says what the evidence did, and whether the account is available by the whole verdict:
        `board` is the reading with the supervisor's vetoes.
        """
        if before.state is not after.state:
            self._note("state", before.status, after.status, board, now, after.detail)
        if before.verdict.reason is not after.verdict.reason and _is_veto(before, after):
            self._note("veto", before.verdict.reason, after.verdict.reason, board, now, after.detail)

    def overruled(self, before: Reading, after: Reading, now: Instant) -> None:
        """A veto of the supervisor changed the answer or its reason."""
        if before.verdict != after.verdict:
            self._note("veto", before.verdict.reason, after.verdict.reason, after, now, after.detail)

    def commanded(self, verb: str, by: str, reading: Reading, detail: str, now: Instant) -> None:
        """An operator said something."""
        if self._backlog is not None:
            self._backlog.transitions([_line("operator", by, verb, reading, detail, now)])

    def warned(
        self, event: str, before: str, after: str, reading: Reading, detail: str, now: Instant
    ) -> None:
        """A warning that is no matter of health has begun or ended; `event` says about what it is."""
        self._note(event, before, after, reading, now, detail)

    @property
    def remembers(self) -> bool:
        """Whether anything outlives the process."""
        return self._backlog is not None

    def held(self, broker: str, hold: Hold | None) -> Future[bool] | None:
        """A hold begins, or with None ends.

        The future says whether a restart would know of it; None where nothing is remembered.
        """
        return None if self._backlog is None else self._backlog.hold(broker, hold)

    def key(self, state: KeyState) -> Future[bool]:
        """A key's nonces and lockout."""
        return _never() if self._backlog is None else self._backlog.key(state)

    def stored_key(self, fingerprint: str) -> Future[KeyState | None]:
        """What the store has of a key, which another process may have written; None: that is not known."""
        if self._backlog is not None:
            return self._backlog.stored_key(fingerprint)
        unknown: Future[KeyState | None] = Future()
        unknown.set_result(None)
        return unknown

    def order(self, order: SentOrder) -> Future[bool]:
        """An order is about to be sent."""
        return _never() if self._backlog is None else self._backlog.order(order)

    def order_event(self, event: OrderEvent) -> None:
        """One line in the life of an order."""
        if self._backlog is not None:
            self._backlog.order_event(event)

    def order_ended(self, fingerprint: str, client_order_id: str) -> None:
        """It is known what became of an order."""
        if self._backlog is not None:
            self._backlog.order_ended(fingerprint, client_order_id)

    def settled(self) -> Future[bool]:
        """Whether all that was said until now is in the store, once that is known."""
        return _never() if self._backlog is None else self._backlog.settled()

    def newest(self, broker: str) -> Stored | None:
        """The newest health of a broker, also of one that is not in the cluster now; None: none is known."""
        return None if self._backlog is None else self._backlog.known_health(broker)

    def hold_of(self, broker: str) -> Hold | None:
        """The hold on a broker, also on one that is not in the cluster now."""
        return None if self._backlog is None else self._backlog.known_hold(broker)

    def restored(self, spec: BrokerSpec, stored: Stored | None, now: Instant, *, known: bool) -> Health:
        """The health that a broker starts with: its first life, or what is left of the one before.

        `known` is False when something was stored and is lost, or cannot be read: it may have been a
        conviction, so nothing is proven then. Another account than the stored one starts anew. Other
        credentials for the same key end what was final for the old ones.
        """
        first = Health.begin(now, threshold=spec.max_consecutive_errors, rules=spec.rules)
        if not known:
            return first.restarted(now)
        if stored is None or not _is_same(stored.exchange, spec):
            return first
        try:
            found = read(stored.document, threshold=spec.max_consecutive_errors, rules=spec.rules)
        except ValueError as error:
            self.unread.add(spec.name)
            _log.error("what was stored of %s cannot be read and is left as it is: %s", spec.name, error)
            return first.restarted(now)
        health = carried_over(found, now, self._boot).restarted(now).woken(now)
        if stored.credentials != fingerprint(spec.exchange, spec.credentials):
            health = health.reset(now)
        return replace(health, version=0)

    def watched(self, spec: BrokerSpec, stored: Stored | None) -> Watched:
        """What was watched of a broker beside its health; nothing of another account, or where it is lost."""
        if stored is None or stored.exchange != identity(spec):
            return NOTHING_WATCHED
        try:
            return read(stored.document, threshold=spec.max_consecutive_errors, rules=spec.rules).watched
        except ValueError:
            return NOTHING_WATCHED

    def _note(self, event: str, before: str, after: str, reading: Reading, now: Instant, detail: str) -> None:
        if self._backlog is not None:
            self._backlog.transitions([_line(event, before, after, reading, detail, now)])


def identity(spec: BrokerSpec) -> str:
    """Which account a broker is: another key, another account of the key, or a simulated exchange, is another
    account's money."""
    kind = "simulated " if spec.simulated else ""
    key = key_fingerprint(spec.exchange, spec.credentials)
    choice = account_choice(spec.balance_params, spec.ccxt.get("options"))
    return " ".join(filter(None, (f"{kind}{spec.exchange}", key, choice)))


def former_key(stored: Stored | None, spec: BrokerSpec) -> str:
    """The API key that an account had when it was stored, if that is another one of it; empty: it is not."""
    if stored is None or stored.exchange == identity(spec) or not _is_same(stored.exchange, spec):
        return ""
    return stored.exchange.split()[2 if spec.simulated else 1]


def _is_same(stored: str, spec: BrokerSpec) -> bool:
    """Whether a stored identity is that of this account, of which another key may be said to be too."""
    own = identity(spec)
    if stored == own or not spec.same_account:
        return stored == own
    at = 2 if spec.simulated else 1  # where the key stands, after what kind of account it is
    then, now = stored.split(), own.split()
    return len(then) == len(now) > at and then[:at] + then[at + 1 :] == now[:at] + now[at + 1 :]


def _is_veto(before: Reading, after: Reading) -> bool:
    return not {before.verdict.reason, after.verdict.reason}.isdisjoint(OWN_VETOES)


def _line(event: str, before: str, after: str, reading: Reading, detail: str, now: Instant) -> Transition:
    return Transition(
        at_us=now.wall_us,
        broker=reading.broker,
        exchange=reading.exchange,
        event=event,
        before=str(before),
        after=str(after),
        available=reading.verdict.available,
        reason=reading.verdict.reason,
        error_count=reading.error_count,
        fault=reading.fault,
        detail=detail,
    )


@cache
def boot_id() -> str:
    """Which boot of which machine this is, where the system says so: its monotonic clock is one for all."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _never() -> Future[bool]:
    """Nothing is remembered, so a restart will not know of it."""
    never: Future[bool] = Future()
    never.set_result(False)
    return never
