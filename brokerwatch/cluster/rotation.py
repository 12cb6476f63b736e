"""Another API key of an account: verified against the exchange before the old one is dropped.

Each account that gets another key has a thread of its own for as long as that takes, so that an exchange
which does not answer holds up no other account. The account goes on with its old key meanwhile.

A key is taken over when the exchange has stated a balance for it. It is refused when the exchange refuses it
twice, when it may not trade where orders go out, or when it is of another account than was said. Whatever
else goes wrong proves nothing, and is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from brokerwatch.actors.protocol import LATE_S
from brokerwatch.cluster.control import NOT_TAKEN
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import BrokerwatchError
from brokerwatch.health.outcome import FetchOutcome, NotAsked
from brokerwatch.log import logger
from brokerwatch.messages import Balance, Fault, FaultKind

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access

_log: Final = logger(__name__)

T = TypeVar("T")

CONFIRM_S: Final = 1.0
"""A key that was refused is asked once more after so long: a new key is not known everywhere at once."""
REFUSALS: Final = 2
"""So many refusals in a row are believed; exchanges lock out keys that go on asking."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
"""The first and the longest wait after what proves nothing; it doubles in between."""
REFUSED: Final = frozenset({FaultKind.AUTH, FaultKind.PERMISSION})


@dataclass(frozen=True, slots=True)
class Verified:
    """A new key that the exchange has answered to."""

    spec: BrokerSpec
    """The configuration with it."""
    access: Access
    found: Balance
    account_id: str
    """Whose it is, as the exchange states it; empty: it does not."""
    same_account: bool
    """Whether it is of the same account as the key before."""
    is_other: bool
    """Whether it is known to be of another one."""


class Rotating(Protocol):
    """What a rotation needs of the cluster: `cluster.members.Members` has it. For any thread."""

    def candidate(self, rotation: KeyRotation) -> tuple[BrokerSpec, Access] | None:
        """The configuration with the new key, and the ways to the account with it; None: it is not wanted
        any more. Raises ConfigError."""
        ...

    def dismiss(self, rotation: KeyRotation, access: Access) -> None:
        """These ways are not taken."""
        ...

    def account_ids(
        self, rotation: KeyRotation, spec: BrokerSpec, access: Access
    ) -> tuple[str, str, bool | None] | Fault:
        """Whose the key until now is, and whose the new one, as the exchange states it; and whether the new
        one may trade, if that is stated. It waits for the exchange."""
        ...

    def take_key(self, rotation: KeyRotation, verified: Verified) -> bool:
        """Go on with the new key. False when the configuration has changed meanwhile."""
        ...

    def end_rotation(self, rotation: KeyRotation) -> None:
        """The rotation has ended, whatever came of it."""
        ...


class KeyRotation:
    """The rotation of one account's API key. Any thread may look, cancel it and have it try again at once."""

    def __init__(
        self, wanted: BrokerSpec, cluster: Rotating, said: Callable[[KeyRotation, str], object]
    ) -> None:
        """`wanted`: the configuration with the new key. `said` is called once, with how it ended."""
        self.wanted = wanted
        self.done: Future[str] = Future()
        """How it ended, in words."""
        self._cluster = cluster
        self._said = said
        self._wake = threading.Event()
        self._cancelled: Future[None] = Future()
        self._trouble = "the exchange was not asked yet"
        self._thread = threading.Thread(target=self._run, name=f"brokerwatch-key {wanted.name}", daemon=True)

    @property
    def name(self) -> str:
        """The account's."""
        return self.wanted.name

    @property
    def words(self) -> str:
        """How it stands, in words."""
        if self.done.done():
            return self.done.result()
        return (
            f"{NOT_TAKEN} yet: the new API key is not verified, and the old one is used until it is "
            f"({self._trouble}; it is tried again)"
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def try_now(self) -> None:
        """Wait no longer for the next attempt."""
        self._wake.set()

    def cancel(self) -> None:
        """Give it up; nothing is taken over from here on."""
        if not self._cancelled.done():
            self._cancelled.set_result(None)
        self._wake.set()

    def answer_of(self, asked: Future[T], limit_s: float) -> T | None:
        """What a question is answered with; None when it is not within the limit, or not wanted any more."""
        both: list[Future[Any]] = [asked, self._cancelled]
        wait(both, limit_s, FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
        return None if asked.cancelled() else asked.result()

    def pause(self, seconds: float) -> None:
        """Wait so long, or until it is given up."""
        wait([self._cancelled], seconds)

    def ended(self, deadline_s: float) -> bool:
        """Wait for its thread. False when it has not ended in time."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            words = self._outcome()
        except BrokerwatchError as error:
            words = f"{NOT_TAKEN}: the new API key cannot be used, and the old one stays: {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the old key stays, and it is said
            _log.exception("%s: its new API key could not be verified", self.name)
            words = f"{NOT_TAKEN}: the new API key could not be verified, and the old one stays: {error}"
        self._cluster.end_rotation(self)
        self.done.set_result(words)
        if not self._cancelled.done():
            self._said(self, words)

    def _outcome(self) -> str:
        refusals, wait_s = 0, FIRST_WAIT_S
        while not self._cancelled.done():
            found = self._attempt()
            if isinstance(found, str):
                return found
            refused = isinstance(found, Fault) and found.kind in REFUSED
            refusals = refusals + 1 if refused else 0
            if isinstance(found, Fault):
                self._trouble = f"{found.kind}: {found.detail}"
                if refusals >= REFUSALS:
                    return f"{NOT_TAKEN}: the new API key was refused, and the old one stays: {self._trouble}"
            elif isinstance(found, NotAsked):
                self._trouble = found.why
            if self._wake.wait(CONFIRM_S if refused else wait_s):
                wait_s = FIRST_WAIT_S
            self._wake.clear()
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
        return f"{NOT_TAKEN}: the new API key is not wanted any more, and the old one stays"

    def _attempt(self) -> FetchOutcome | str | None:
        """Ask the exchange once: what went wrong, or in words how it ended; None: it changed meanwhile."""
        candidate = self._cluster.candidate(self)
        if candidate is None:
            self.cancel()
            return None
        spec, access = candidate
        taken = False
        try:
            outcome = self._fetched(spec, access)
            if not isinstance(outcome, Balance):
                return outcome
            ids = self._cluster.account_ids(self, spec, access)
            if isinstance(ids, Fault):
                return ids
            old, new, trades = ids
            if spec.trading and trades is False:
                return f"{NOT_TAKEN}: the new API key may not trade, and the old one stays"
            stated = bool(old and new)
            if stated and old != new and spec.same_account:
                return (
                    f"{NOT_TAKEN}: the new API key is of another account, although `same_account = true` "
                    "says otherwise; the old one stays"
                )
            same = old == new if stated else spec.same_account
            is_other = stated and old != new
            verified = Verified(spec, access, outcome, new, same, is_other)
            taken = self._cluster.take_key(self, verified)
            if not taken:
                return None
            return _taken_words(same=same, stated=stated, is_other=is_other)
        finally:
            if not taken:
                self._cluster.dismiss(self, access)

    def _fetched(self, spec: BrokerSpec, access: Access) -> FetchOutcome:
        """The balance that the exchange states for the new key. A loop that hangs counts as the network."""
        answer: Future[FetchOutcome] = Future()

        def done(outcome: FetchOutcome) -> None:
            if answer.set_running_or_notify_cancel():
                answer.set_result(outcome)

        limit_s = access.source.queue_s + spec.fetch_deadline_s + LATE_S
        fetching = access.source.fetch(spec.fetch_deadline_s, done)
        outcome = self.answer_of(answer, limit_s)
        if outcome is None:
            fetching.cancel()
            return Fault(FaultKind.NETWORK, f"no answer within {limit_s:g} s")
        return outcome


def _taken_words(*, same: bool, stated: bool, is_other: bool) -> str:
    taken = "the new API key was verified and is used, and the old one was dropped"
    if same:
        return f"{taken}; it is of the same account" + (", as the exchange states" if stated else "")
    if is_other:
        return f"{taken}; the exchange states another account for it, which starts with nothing known"
    return (
        f"{taken}; whether it is of the same account is not known (`same_account = true` says so), so the "
        "account starts with nothing known"
    )
