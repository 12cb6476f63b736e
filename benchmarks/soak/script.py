"""What happens in a soak, and when, drawn from a seed before it begins.

The module is pure: the same seed and the same length give the same script. `ACCOUNTS` are all that there are.
The configuration begins with `FIRST` of each exchange, and reloads add and remove others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.simulator import FAULTS

EXCHANGES: Final = ("kraken", "coinbase", "okx")
PER_EXCHANGE: Final = 5
FIRST: Final = 3
ACCOUNTS: Final = tuple(f"{exchange}-{number}" for exchange in EXCHANGES for number in range(PER_EXCHANGE))
BEGINNING: Final = tuple(name for name in ACCOUNTS if int(name[-1]) < FIRST)

LEFT_OUT: Final[Mapping[str, str]] = MappingProxyType(
    {"locked_out": "Kraken locks a key out for 15 minutes, which is longer than a soak"}
)
"""Faults that are not drawn, and why."""
DRAWN: Final = tuple(name for name in FAULTS if name not in LEFT_OUT)

CALM_S: Final = 15.0
"""Nothing happens in the first seconds: what is there when everything was used once is looked at."""
RESTARTS_WITHIN: Final = (0.05, 0.2)
"""The share of the time in which the restarts fall. The rest is one long life, whose memory is judged."""
FULL_S: Final = 40.0
"""After the last restart all accounts are in the configuration for so long. What a process keeps of an
account that was there once is then no growth any more."""
HISTORY_AFTER_S: Final = 10.0
"""So long after the last restart there is as much history as a cluster has after some days."""
MOST, LEAST = len(BEGINNING) + 2, len(BEGINNING) - 2
"""So many accounts are in the configuration later."""
RESTARTS: Final = ("orderly", "killed", "killed")
FAULT_EVERY_S, FAULT_LASTS_S = 3.0, (0.5, 12.0)
RELOAD_EVERY_S: Final = 12.0
MISTAKES: Final = 0.2
"""So many of the reloads find a mistake in the configuration."""
MONEY_EVERY_S: Final = 4.0
STALL_EVERY_S, STALL_LASTS_S = 45.0, (3.0, 15.0)
CUT_EVERY_S, CUT_LASTS_S = 20.0, (0.2, 4.0)
REPLACE_EVERY_S: Final = 15.0
HOLD_EVERY_S, HOLD_LASTS_S = 60.0, (5.0, 15.0)

Configured = dict[str, dict[str, Any]]
"""Each account in the configuration, and its keys that differ from the usual ones."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens. Which fields count depends on the kind."""

    at_s: float
    kind: str
    """`fault`, `mend`, `money`, `reload`, `mistake`, `restart`, `history`, `stall`, `go_on`, `cut`,
    `replace`, `hold` or `release`."""
    exchange: str = ""
    account: str = ""
    """Empty for `fault` and `mend`: all accounts of the exchange."""
    says: str = ""
    """The fault, the amount of money, how a restart is done, or what a reload changes."""
    lasts_s: float = 0.0
    public: bool = False
    configured: Configured | None = None
    """Of a reload: all that is in the configuration then."""


def script(seed: int, length_s: float) -> tuple[Event, ...]:
    """All events of a soak, by their time.

    Args:
        seed: the seed of chance.
        length_s: seconds in which they happen.
    """
    chance = random.Random(seed)
    restarts = tuple(_restarts(chance, length_s))
    events = [
        *restarts,
        Event(restarts[-1].at_s + HISTORY_AFTER_S, "history", account=BEGINNING[0]),
        *_faults(chance, length_s),
        *_reloads(chance, length_s, restarts[-1].at_s),
        *_others(chance, length_s),
    ]
    return tuple(sorted((each for each in events if each.at_s < length_s), key=lambda each: each.at_s))


def _moments(chance: random.Random, length_s: float, every_s: float) -> Iterator[float]:
    at_s = CALM_S + chance.expovariate(1 / every_s)
    while at_s < length_s:
        yield at_s
        at_s += chance.expovariate(1 / every_s)


def _faults(chance: random.Random, length_s: float) -> Iterator[Event]:
    for at_s in _moments(chance, length_s, FAULT_EVERY_S):
        name = chance.choice(ACCOUNTS)
        exchange, account = name.rpartition("-")[0], name if chance.random() < 0.8 else ""
        lasts_s, public = chance.uniform(*FAULT_LASTS_S), chance.random() < 0.25
        yield Event(at_s, "fault", exchange, account, chance.choice(DRAWN), lasts_s, public)
        yield Event(at_s + lasts_s, "mend", exchange, account)


def _reloads(chance: random.Random, length_s: float, restarted_s: float) -> Iterator[Event]:
    """`restarted_s`: when the last life begins."""
    full_until_s = restarted_s + FULL_S
    yield Event(restarted_s, "reload", says="all", configured={name: {} for name in ACCOUNTS})
    configured: Configured = {name: {} for name in BEGINNING}
    for at_s in sorted((*_moments(chance, length_s, RELOAD_EVERY_S), full_until_s)):
        if restarted_s <= at_s < full_until_s:
            continue
        if at_s > full_until_s and chance.random() < MISTAKES:
            yield Event(at_s, "mistake")
            continue
        kind, name = _changed(chance, configured)
        now = {each: dict(values) for each, values in configured.items()}
        yield Event(at_s, "reload", account=name, says=kind, configured=now)


def _changed(chance: random.Random, configured: Configured) -> tuple[str, str]:
    """Change one account in the configuration. Returns what has changed, and the name of the account."""
    kind = chance.choice(("add", "remove", "change", "change"))
    if kind == "add" and len(configured) < MOST:
        name = chance.choice([name for name in ACCOUNTS if name not in configured])
        configured[name] = {}
        return kind, name
    name = chance.choice(tuple(configured))
    if kind == "remove" and len(configured) > LEAST:
        del configured[name]
        return kind, name
    key, value = chance.choice(
        (
            ("poll_interval_s", chance.choice((0.5, 1.0, 2.0))),
            ("max_consecutive_errors", chance.randint(2, 4)),
            ("labels", {"round": str(chance.randrange(1_000))}),
            ("policy", chance.choice(("simple", "guarded"))),
            ("cash_currencies", chance.choice((["USD"], ["USD", "USDT"], ["USDC", "USD", "USDT"]))),
        )
    )
    configured[name] = {**configured[name], key: value}
    return key, name


def _restarts(chance: random.Random, length_s: float) -> Iterator[Event]:
    begin, end = (share * length_s for share in RESTARTS_WITHIN)
    ways = chance.sample(RESTARTS, len(RESTARTS))
    for at_s, way in zip(sorted(chance.uniform(begin, end) for _ in ways), ways, strict=True):
        yield Event(at_s, "restart", says=way)


def _others(chance: random.Random, length_s: float) -> Iterator[Event]:
    for at_s in _moments(chance, length_s, MONEY_EVERY_S):
        name = chance.choice(ACCOUNTS)
        amount = f"{chance.randrange(100, 1_000_000) / 100:.2f}"
        yield Event(at_s, "money", name.rpartition("-")[0], name, amount)
    busy_s = 0.0
    for at_s in _moments(chance, length_s, STALL_EVERY_S):
        if at_s >= busy_s:
            busy_s = at_s + chance.uniform(*STALL_LASTS_S)
            yield Event(at_s, "stall", lasts_s=busy_s - at_s)
            yield Event(busy_s, "go_on")
    for at_s in _moments(chance, length_s, CUT_EVERY_S):
        yield Event(at_s, "cut", lasts_s=chance.uniform(*CUT_LASTS_S))
    for at_s in _moments(chance, length_s, REPLACE_EVERY_S):
        yield Event(at_s, "replace")
    for at_s in _moments(chance, length_s, HOLD_EVERY_S):
        name, lasts_s = chance.choice(BEGINNING), chance.uniform(*HOLD_LASTS_S)
        yield Event(at_s, "hold", account=name, lasts_s=lasts_s)
        yield Event(at_s + lasts_s, "release", account=name)
