"""Whether a refusal comes from a wrong clock of ours, and not from a wrong key.

Requests are signed with the time. An exchange refuses one that was signed at another time than its own, and
some say no more than "Unauthorized". Such a key is right again when the clock is, so its refusal must not be
final. The exchange's time stands in the Date of its answer, and at a question of its own.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from brokerwatch.exchanges.faults import Failure
from brokerwatch.exchanges.pauses import DATE, MAX_SEARCHED, moment_s
from brokerwatch.messages import Fault, FaultKind

TOLERATED_S: Final = 5.0
"""A smaller difference of the clocks causes no refusal. (Binance takes 5 s by default, OKX 30; Coinbase's
tokens live for 120 and are not valid before their time.)"""
NEVER_S: Final = float("inf")
"""The tolerance of an exchange that does not look at the time in a request."""
WORTH_SAYING_S: Final = 1.0
"""A smaller difference explains nothing."""

_SIGNED: Final = re.compile(
    r"time[ _-]?stamp|recv.?window|nonce|expire|clock|jwt|signature|token|unauthori[sz]ed", re.IGNORECASE
)
"""What a refusal may speak of that a wrong clock causes."""
_REFUSED: Final = frozenset({FaultKind.AUTH, FaultKind.PERMISSION})
_VAGUE: Final = frozenset({FaultKind.CLIENT_BUG, FaultKind.BAD_RESPONSE, FaultKind.EXCHANGE_DOWN})
_STATUSES: Final = frozenset({400, 401, 403})


def may_be_caused(fault: Fault, failure: Failure) -> bool:
    """Whether a wrong clock may have caused this failure."""
    if fault.kind in _REFUSED or fault.kind is FaultKind.NONCE_CLOCK:
        return True
    text = failure.body or failure.text
    vague = fault.kind in _VAGUE and failure.status in _STATUSES
    return vague and bool(_SIGNED.search(text[:MAX_SEARCHED]))


def dated_skew_s(failure: Failure, wall_s: float) -> float | None:
    """How far our clock is ahead of the answer's Date, in seconds; None where it has none."""
    theirs_s = moment_s(failure.headers.get(DATE, ""))
    if theirs_s is None:
        return None
    # A Date has whole seconds: within the second that it names, there is no difference to be seen.
    ahead_s = wall_s - theirs_s
    return min(ahead_s, 0.0) if ahead_s < 1.0 else ahead_s - 1.0


def explained(fault: Fault, failure: Failure, skew_s: float | None, tolerance_s: float) -> Fault:
    """The fault, by a clock that is ahead by `skew_s` seconds; None: that is not known.

    A refusal that goes back to the clock is a fault of the clock, which ends with it.
    """
    if skew_s is None or abs(skew_s) < WORTH_SAYING_S or not may_be_caused(fault, failure):
        return fault
    clock = fault.kind is FaultKind.NONCE_CLOCK
    if not clock and not abs(skew_s) > tolerance_s:
        return fault
    side = "ahead of" if skew_s > 0 else "behind"
    words = f"this machine's clock is {abs(skew_s):.1f} s {side} the exchange's; {fault.detail}"
    kind = FaultKind.NONCE_CLOCK
    return msgspec.structs.replace(fault, kind=kind, detail=words)
