"""The rules of a broker's health and their numbers: `simple`, the default, and `guarded`.

Values only: `health.state_machine` folds by them and `health.backoff` asks again by them. Each rule
can be switched for each broker. `simple` is the contract that its users know: every fault counts one,
three in a row make a broker unavailable, one success brings it back. `guarded` is for live money and
strictly more careful: whatever `simple` calls unavailable, so does `guarded`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.messages import FaultKind

POLLS_UNTIL_STALE: Final = 3.0
"""A balance that is as old as so many polls is stale, where polls are seldom."""
LONGEST_S: Final = 86_400.0
"""No rule waits longer than a day."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy decides by: when an account is unavailable, and when it is available again.

    Each field is one rule, with its unit. The defaults are the policy `simple`, in which every rule is off.
    `GUARDED` has them on. Rules are checked when a `BrokerSpec` is made with them, which raises ConfigError.
    """

    start_unknown: bool = False
    """Every start of an account is in state UNKNOWN; else its very first start is in state HEALTHY."""
    final_auth: bool = False
    """Credentials that the exchange refuses make the broker unavailable at once, and are asked again as
    `auth_probes_s` says. Then all private calls end, until an operator's reset or other credentials.
    Permissions that it refuses make the broker unavailable at once."""
    auth_probes_s: tuple[float, ...] = ()
    """Seconds until a refused key is asked again: the first number after the first refusal, the next after
    the second. After the last one the refusal is final. A key that has never worked is asked again once.
    Only with `final_auth`."""
    maintenance_state: bool = False
    """Maintenance that the exchange announces is a state and not an error."""
    window_fetches: int = 0
    """How many of the newest fetches the rolling window holds; 0: no window."""
    window_minimum: int = 6
    """How many fetches must be in the window before it decides."""
    window_share: float = 0.5
    """The share of weighted faults in the window, from 0 to 1, that makes the broker unavailable."""
    successes_to_recover: int = 1
    """Consecutive successes that bring an unavailable broker back."""
    confirm_after_s: tuple[float, ...] = ()
    """Seconds until the exchange is asked again: the first number after the first fault, the next after
    the second. Empty: it is asked at the usual poll."""
    backoff_s: tuple[float, float] | None = None
    """(shortest, longest) seconds between two probes of an unavailable broker; None: the usual poll."""
    max_age_s: float | None = None
    """A balance older than this many seconds is stale; None: only the state makes it stale."""


SIMPLE: Final = Rules()
GUARDED: Final = Rules(
    start_unknown=True,
    final_auth=True,
    # Six requests at most, the first refused one included: exchanges lock out keys that go on asking.
    auth_probes_s=(1.0, 60.0, 300.0, 900.0, 3_600.0),
    maintenance_state=True,
    window_fetches=20,
    successes_to_recover=2,
    confirm_after_s=(0.25, 0.5),
    backoff_s=(1.0, 60.0),
    max_age_s=60.0,
)
POLICIES: Final[Mapping[str, Rules]] = MappingProxyType({"simple": SIMPLE, "guarded": GUARDED})

WEIGHTS: Final[Mapping[FaultKind, float]] = MappingProxyType(
    {
        FaultKind.NETWORK: 1.0,
        FaultKind.EXCHANGE_DOWN: 1.0,
        FaultKind.MAINTENANCE: 1.0,
        FaultKind.RATE_LIMITED: 0.2,  # it is up, and we are too fast
        FaultKind.AUTH: 1.0,
        FaultKind.PERMISSION: 1.0,
        FaultKind.NONCE_CLOCK: 0.2,
        FaultKind.BAD_RESPONSE: 0.5,
        FaultKind.CLIENT_BUG: 0.0,  # says nothing about the exchange
        FaultKind.BLOCKED: 1.0,
        FaultKind.OTHER: 1.0,
    }
)
"""What a fault weighs in the rolling window. The consecutive count takes every fault as one."""


def default_policy(*, trading: bool) -> str:
    """The policy of a broker that names none: an account that may trade is not available before an answer."""
    return "guarded" if trading else "simple"


def default_rules(policy: str, poll_interval_s: float) -> Rules:
    """The rules of a policy. A broker that is polled seldom is not stale between two polls."""
    rules = POLICIES[policy]
    if rules.max_age_s is None or not math.isfinite(poll_interval_s):
        return rules
    return replace(rules, max_age_s=max(rules.max_age_s, POLLS_UNTIL_STALE * poll_interval_s))


def rule_mistakes(rules: Rules) -> list[tuple[str, str]]:
    """(key, what was expected) for each rule that cannot be."""
    found: list[tuple[str, str]] = []
    if not 0 <= rules.window_fetches <= 1_000:
        found.append(("window_fetches", f"expected from 0 (no window) to 1,000, not {rules.window_fetches}"))
    if not 1 <= rules.window_minimum <= max(rules.window_fetches, 1_000):
        found.append(("window_minimum", f"expected from 1 to 1,000, not {rules.window_minimum}"))
    elif 0 < rules.window_fetches < rules.window_minimum:
        found.append(("window_minimum", f"expected at most window_fetches, {rules.window_fetches}"))
    if not 0 < rules.window_share <= 1:
        found.append(("window_share", f"expected above 0 and up to 1, not {rules.window_share:g}"))
    if not 1 <= rules.successes_to_recover <= 100:
        found.append(("successes_to_recover", f"expected from 1 to 100, not {rules.successes_to_recover}"))
    if len(rules.confirm_after_s) > 10 or not all(0 < wait <= LONGEST_S for wait in rules.confirm_after_s):
        found.append(("confirm_after_s", "expected up to 10 numbers of seconds above 0; [] switches it off"))
    if len(rules.auth_probes_s) > 10 or not all(0 < wait <= LONGEST_S for wait in rules.auth_probes_s):
        found.append(
            ("auth_probes_s", "expected up to 10 numbers of seconds above 0; [] makes it final at once")
        )
    if rules.backoff_s is not None and not 0 < rules.backoff_s[0] <= rules.backoff_s[1] <= LONGEST_S:
        found.append(("backoff_s", "expected [shortest, longest] in seconds above 0; [] switches it off"))
    if rules.max_age_s is not None and (math.isnan(rules.max_age_s) or rules.max_age_s <= 0):
        found.append(("max_age_s", f"expected seconds above 0, or inf for no limit, not {rules.max_age_s:g}"))
    return found
