"""Steps, states and an oracle for the tests of the stricter rules."""

from __future__ import annotations

from typing import Final

from brokerwatch.config.policy import Rules
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState
from tests.support import strategies as our
from tests.support.strategies import Step, moved

U, H, D = HealthState.UNKNOWN, HealthState.HEALTHY, HealthState.DEGRADED
X, R, M = HealthState.UNAVAILABLE, HealthState.RECOVERING, HealthState.MAINTENANCE
NOW: Final = our.THE_START
DOWN: Final = Fault(FaultKind.NETWORK, "no route")
REFUSED: Final = Fault(FaultKind.AUTH, "invalid key")
FORBIDDEN: Final = Fault(FaultKind.PERMISSION, "not from this address")
CLOSED: Final = Fault(FaultKind.MAINTENANCE, "back at noon")
ODD: Final = Fault(FaultKind.BAD_RESPONSE)
LOCKED: Final = Fault(FaultKind.RATE_LIMITED, "locked", lockout_s=900.0)
MONEY: Final = our.SMALL_BALANCES[1]
THE_TABLE: Final = {
    # Every state that may follow, copied by hand from the contract and not imported.
    (U, "success"): {H},
    (U, "fault"): {U, X},
    (U, "closed"): {M},
    (U, "restart"): {U},
    (H, "success"): {H},
    (H, "fault"): {D, X},
    (H, "closed"): {M},
    (H, "restart"): {U},
    (D, "success"): {H},
    (D, "fault"): {D, X},
    (D, "closed"): {M},
    (D, "restart"): {U},
    (X, "success"): {H, R},
    (X, "fault"): {X},
    (X, "closed"): {M},
    (X, "restart"): {X},
    (R, "success"): {H, R},
    (R, "fault"): {X},
    (R, "closed"): {M},
    (R, "restart"): {X},
    (M, "success"): {H},
    (M, "fault"): {M},
    (M, "closed"): {M},
    (M, "restart"): {U},
}


def column(step: Step, rules: Rules) -> str:
    """Under which of the contract's columns a step falls."""
    if step.fault is not None and step.fault.kind is FaultKind.MAINTENANCE and rules.maintenance_state:
        return "closed"
    return step.what if step.what in ("success", "fault", "restart") else "neutral"


def success(balance: Balance = MONEY) -> Step:
    return Step("success", balance=balance)


def fault(what: Fault = DOWN) -> Step:
    return Step("fault", fault=what)


NEUTRAL, RESTART, RESET, WOKEN = Step("neutral"), Step("restart"), Step("reset"), Step("woken")
ENDED: Final = moved(NOW, 900.0)
EVENTS: Final = {
    "success": success(),
    "no route": fault(),
    "odd": fault(ODD),
    "refused": fault(REFUSED),
    "forbidden": fault(FORBIDDEN),
    "closed": fault(CLOSED),
    "locked": fault(LOCKED),
    "neutral": NEUTRAL,
    "restart": RESTART,
    "reset": RESET,
    "woken": WOKEN,
}
"""One step of each kind by its name."""
