"""Calls that the trader's own code made, as evidence: when they were made, and what was answered.

What is handed over is judged and never trusted. A mistake in the arguments raises an error; an answer
that proves nothing, or an exception that cannot even say what it is, is a fault like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, cast

from brokerwatch.actors.protocol import BrokerMessage, Called, Observed, Ordered, Unanswered
from brokerwatch.clock import Instant
from brokerwatch.cluster.observed_call import capability_of, is_from_ccxt, symbol_of
from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.exchanges.faults import Failure, classify, is_callers_mistake, is_pythons_own, unreadable
from brokerwatch.health.capabilities import ALL, READ, TRADE
from brokerwatch.health.stated import Fill
from brokerwatch.log import logger
from brokerwatch.messages import Balance, Fault, FaultKind, Reading, Wallet

_log: Final = logger(__name__)

ASKED: Final = "asked_s: expected when you asked, by time.monotonic(), or None"


def asked_at(asked_s: object, now: Instant, ordered_s: float, reading: Reading) -> Instant:
    """When the trader's own call was made. Raises TypeError and ValueError.

    `ordered_s` is when the newest order of the key ended, in monotonic seconds; infinite while one is under
    way, and minus infinity where there was none. Without `asked_s` the call may have been made before that
    order: such a balance proves that the account answers, and never that it has the order in it.
    """
    if asked_s is None:
        asked = now.up_s
        if math.isfinite(ordered_s):
            asked = min(asked, math.nextafter(ordered_s, -math.inf))
        if reading.overtaken and reading.as_of is not None:
            # By an order of another life of ours, or of the moment.
            asked = min(asked, math.nextafter(reading.as_of.up_s, -math.inf))
    elif isinstance(asked_s, bool) or not isinstance(asked_s, int | float):
        raise TypeError(f"{ASKED}, not {type(asked_s).__name__}")
    elif not 0 <= asked_s <= now.up_s:
        raise ValueError(f"{ASKED}: from 0 to now, which is {now.up_s:.3f}, not {asked_s!r}")
    else:
        asked = float(asked_s)
    return Instant(now.wall_us - round((now.up_s - asked) * 1_000_000), asked)


def check_kind(outcome: object, capability: object) -> None:
    """Raise ValueError where there is no such kind of call, or it is not answered with a balance."""
    if capability is not None and capability not in ALL:
        raise ValueError(f"capability: expected one of {', '.join(ALL)}, not {capability!r}")
    if isinstance(outcome, Mapping) and capability not in (None, READ):
        raise ValueError(f"outcome: expected None or an exception for {capability}, not a balance")


def observe(
    outcome: object,
    capability: str | None,
    asked: Instant,
    read: Callable[[object], FetchedBalance],
    explain: Callable[[Exception], Fault],
) -> Called | Observed | None:
    """What the broker's actor is told of a call that the trader's own code made. Raises as `judged` does.

    Without a `capability` that of an exception is taken from the call that raised it. None: it counts
    nowhere.
    """
    found = judged(outcome, asked, read, explain)
    if isinstance(found, Fault) and isinstance(outcome, Exception):
        kind = capability or capability_of(outcome)
        if is_from_ccxt(outcome) and found.kind in (FaultKind.CLIENT_BUG, FaultKind.BAD_RESPONSE):
            if kind == READ:
                found = unreadable(outcome, found)  # ccxt stumbled over the answer
            elif is_pythons_own(Failure.of(outcome, text=found.detail)):
                return None  # over what the order was made of
        if is_callers_mistake(Failure.of(outcome, text=found.detail or str(found.kind)), found):
            return None
        if kind is None and not found.closes_market_s and found.kind not in ABOUT_EVERY_CALL:
            _log.warning(
                "an exception was observed that does not say which call raised it, so it counts nowhere; "
                "give observe() its capability: %s: %s",
                found.kind,
                found.detail,
            )
            return None
        if found.closes_market_s and kind in (TRADE, None):
            return Called(TRADE, found, symbol_of(outcome))
        capability = kind
    return observed(capability or READ, found)


def judged(
    outcome: object,
    asked: Instant,
    read: Callable[[object], FetchedBalance],
    explain: Callable[[Exception], Fault],
) -> Balance | Fault | None:
    """What an outcome is: a balance, a fault, or None for an answer of another kind. Raises TypeError.

    `read` reads a balance or raises; `explain` says which fault an exception is.
    """
    if outcome is None:
        return None
    if isinstance(outcome, Exception):
        try:
            return explain(outcome)
        except Exception as unspeakable:  # noqa: BLE001 - an error whose own text raises is a fault all the same
            return _fault(f"{type(outcome).__name__}, and {type(unspeakable).__name__} in it")
    if not isinstance(outcome, Mapping):
        raise TypeError(
            "outcome: expected what fetch_balance gave (a mapping), the exception that a call raised, or "
            f"None for an answer of another kind, not {type(outcome).__name__}"
        )
    try:
        found = read(cast("object", outcome))
        wallets = {name: Wallet(holdings=held, as_of=asked) for name, held in found.apart.items()}
        return Balance(
            holdings=found.holdings,
            as_of=asked,
            wallets=wallets,
            unread=found.unread,
            summed=found.summed,
        )
    except Exception as error:  # noqa: BLE001 - whatever cannot be read proves nothing
        return _fault(f"the balance that was observed: {_words(error)}")


def observed(capability: str, outcome: Balance | Fault | None) -> Called | Observed:
    """What the broker's actor is told of it."""
    if isinstance(outcome, Balance) or (outcome is not None and capability == READ):
        return Observed(outcome)
    return Called(capability, outcome)


def explained(error: Exception) -> Fault:
    """The fault that an exception of the trader's own code is."""
    return classify(Failure.of(error))


def _fault(words: str) -> Fault:
    return Fault(FaultKind.BAD_RESPONSE, words)


def _words(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - as above
        return type(error).__name__


ABOUT_EVERY_CALL: Final = frozenset(
    {
        FaultKind.NETWORK,
        FaultKind.EXCHANGE_DOWN,
        FaultKind.BLOCKED,
        FaultKind.MAINTENANCE,
        FaultKind.RATE_LIMITED,
        FaultKind.AUTH,
        FaultKind.NONCE_CLOCK,
    }
)
"""Faults of the exchange, the network or the key as a whole: they count whatever was asked."""

UNREACHED: Final = frozenset({FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.BLOCKED})
"""Faults that are about no question in particular."""


class CallReporter:
    """Tells a broker's actor how its calls ended; it is the `Reporter` of `orders/executor.py`."""

    def __init__(self, send: Callable[[BrokerMessage], bool]) -> None:
        self._send = send
        self.muted = False
        """Whether the calls are made with a key that the account does not have any more, or the account has
        left: how they end says nothing about it then. Any thread may set it."""

    def called(self, capability: str, fault: Fault | None, symbol: str = "") -> None:
        """A call of this kind has ended; an order in the market of this symbol."""
        if not self.muted:
            self._send(Called(capability, fault, symbol))

    def unanswered(self, fault: Fault) -> None:
        """A private question met this."""
        if not self.muted:
            self._send(Unanswered(fault) if fault.kind in UNREACHED else Called(READ, fault))

    def ordered(self, fill: Fill | None = None) -> Future[None]:
        """An order goes out, or with a `fill` has ended."""
        shown: Future[None] = Future()
        if not self._send(Ordered(fill, shown)):
            shown.set_result(None)
        return shown
