"""Which account can take this order, and why each other one cannot: a pure choice among readings.

A `Need` says what is to be traded. Each `Candidate` is judged on its own. Those without an objection are put
in one total order. So the same readings always give the same choice, in whatever order they come, and one
candidate more never changes the order of two others. The order is:

1. the place in `prefer`; brokers that are not listed there come after all that are;
2. a fresh balance before a stale one;
3. healthy evidence before degraded;
4. fewer errors in a row;
5. the order of the configuration, and then the name.

Amounts do not rank. A balance is compared with the need's amount and with nothing else: a stale amount and a
fresh one, or dollars and a dollar stablecoin, are two different kinds of number, and a rule such as "where
there is most" would compare them. When no single account has the amount, no account is chosen, and amounts
are never added up.

Health, age and configuration never block an exit. Only the facts of the market and a fresh balance without
the asset refuse one. Every other objection is a caution, and a broker with fewer cautions comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, NamedTuple

from brokerwatch.messages import CapabilityState, HealthState, Reading, Side
from brokerwatch.money import plain
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import (
    MONEY,
    Candidate,
    Refusal,
    RefusalCode,
    Seen,
    objections,
    refuses_exit,
    seconds,
    seen_of,
)

__all__ = ["NO_BROKER", "Candidate", "Choice", "Need", "Ranked", "Refusal", "RefusalCode", "choose"]

NO_BROKER: Final = "nobody"
"""The text in `Choice.why()` in place of a name when no broker was chosen."""

_EVIDENCE: Final[Mapping[HealthState, int]] = {
    HealthState.HEALTHY: 0,
    HealthState.DEGRADED: 1,
    HealthState.RECOVERING: 2,
    HealthState.MAINTENANCE: 3,
    HealthState.UNAVAILABLE: 4,
    HealthState.UNKNOWN: 5,
}
"""Better evidence first. Only the first two can be available; the others matter to exits alone."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One broker that can be chosen."""

    broker: str
    reading: Reading
    """The reading that was judged."""
    stale: bool
    """Whether its balance is not the newest truth. Stale and fresh amounts are never compared."""
    free: Decimal | None
    """The free amount of the currency that would leave the account; None when unknown."""
    cautions: tuple[str, ...] = ()
    """What the trader should know before using it, as sentences."""
    behind: str = ""
    """The first criterion by which it stands behind the one before it; empty for the best."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to a `Need`. It is true when at least one broker can take it."""

    need: Need
    """The need, with its symbol as ccxt writes it."""
    ranked: tuple[Ranked, ...]
    """The brokers that can take it, the best first."""
    refused: tuple[Refusal, ...]
    """The brokers that cannot, in the order of the configuration; then names without a broker."""

    @property
    def best(self) -> Ranked | None:
        """The first of the ranked; None when there is none."""
        return self.ranked[0] if self.ranked else None

    @property
    def broker(self) -> str | None:
        """The name of the best; None when there is none."""
        return self.ranked[0].broker if self.ranked else None

    def __bool__(self) -> bool:
        return bool(self.ranked)

    def why(self) -> str:
        """Which broker was chosen, and why each other was not: one line per broker, for people and logs."""
        lines = [f"{self.need}: {self.broker or NO_BROKER}"]
        if not self.ranked and not self.refused:
            lines.append("  there is no broker to choose from")
        for place, one in enumerate(self.ranked, 1):
            free = "balance unknown" if one.free is None else f"{plain(one.free)} {self.need.spends} free"
            if one.free is not None and one.stale:
                free += " (stale)"
            parts = [f"behind, {one.behind}"] if one.behind else ["chosen"]
            lines.append(f"  {place}. {one.broker}: {'; '.join([*parts, free, *one.cautions])}")
        lines.extend(f"  -  {one.broker}: {one.code}: {one.text}" for one in self.refused)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.why()


class _Standing(NamedTuple):
    """The rank of one broker. It is compared from the first field on, and the smaller is the better."""

    lacks: bool
    """Only of exits: whether it has enough is not known."""
    hindrances: int
    """Only of exits: how many objections would have refused an entry."""
    place: int
    stale: bool
    evidence: int
    errors: int
    listed: int
    broker: str


_BEHIND: Final = (
    "whether it has enough is not known",
    "more speaks against it",
    "preferred less",
    "its balance is stale",
    "its evidence is worse",
    "more errors in a row",
    "later in the configuration",
    "later by its name",
)
"""For each field of `_Standing`, why a broker ranks behind the previous one."""


def choose(need: Need, candidates: Iterable[Candidate], *, strict_products: bool = True) -> Choice:
    """Choose the brokers that can take `need`.

    Args:
        need: what is to be traded.
        candidates: every broker that is known, one candidate each.
        strict_products: whether a broker with unknown markets is refused. A process that only listens never
            knows the markets, so there it is a caution. It is one, too, for an account that a callable of the
            trader's reads, whose markets cannot be known.

    Returns:
        The choice. The symbol of its need is written as ccxt writes it.

    Raises:
        InvalidSymbol: the symbol could mean two markets, or cannot be read.
        ValueError: two candidates have the same name.
    """
    ranked: list[tuple[_Standing, Ranked]] = []
    refused: list[Refusal] = []
    ordered = sorted(candidates, key=lambda one: (one.listed, one.reading.broker))
    names = [one.reading.broker for one in ordered]
    if len(set(names)) < len(names):
        raise ValueError("two candidates have the same name; of each broker there is one reading")
    need = need.read(
        one.products for one in ordered if one.products is not None and need.admits(one.reading.broker)
    )
    for candidate in ordered:
        seen = seen_of(need, candidate)
        against = list(objections(need, seen, strict_products=strict_products))
        final = [one for one in against if not need.exit or refuses_exit(one, seen)]
        if final:
            refused.append(final[0])
        else:
            ranked.append((_standing(need, seen, against), _ranked(need, seen, against)))
    named = dict.fromkeys((*need.prefer, *(need.only or ()), *need.avoid))
    refused += [
        Refusal(name, RefusalCode.NO_SUCH_BROKER, "no broker of this name is known here")
        for name in named
        if name not in names
    ]
    ranked.sort(key=lambda pair: pair[0])
    return Choice(need, _explained(ranked), tuple(refused))


def _standing(need: Need, seen: Seen, against: Sequence[Refusal]) -> _Standing:
    reading = seen.candidate.reading
    return _Standing(
        lacks=any(one.code in MONEY for one in against),
        hindrances=len(against),
        place=need.prefer.index(seen.broker) if seen.broker in need.prefer else len(need.prefer),
        stale=seen.stale,
        evidence=_EVIDENCE[reading.state],
        errors=reading.error_count,
        listed=seen.candidate.listed,
        broker=seen.broker,
    )


def _ranked(need: Need, seen: Seen, against: Sequence[Refusal]) -> Ranked:
    cautions = [one.text for one in against]  # there are none but for an exit
    if seen.candidate.is_own:
        cautions.append(f"its markets cannot be known: make sure that it has {need.symbol}")
    elif seen.candidate.products is None and not any(
        one.code is RefusalCode.PRODUCTS_UNKNOWN for one in against
    ):
        cautions.append(f"whether it has a market {need.symbol} is not known")
    if seen.stale and seen.age_ms is not None:
        cautions.append(f"its balance is stale: the last known, read {seconds(seen.age_ms)} ago")
    data = seen.candidate.reading.capabilities.get("data")
    if data is not None and data.state is CapabilityState.DOWN:
        cautions.append(f"gives no prices just now: {data.reason}")
    asked = need.base_amount if need.side == Side.BUY else need.quote_amount
    if asked is not None and seen.free is not None:
        currency = need.base if need.side == Side.BUY else need.quote
        only_a_price = f"only a price tells whether its {plain(seen.free)} {need.spends} are enough"
        cautions.append(f"{only_a_price} for {plain(asked)} {currency}")
    return Ranked(seen.broker, seen.candidate.reading, seen.stale, seen.free, tuple(cautions))


def _explained(ranked: Sequence[tuple[_Standing, Ranked]]) -> tuple[Ranked, ...]:
    """The ranked with the criterion by which each stands behind the one before it."""
    found: list[Ranked] = []
    for place, (standing, one) in enumerate(ranked):
        if place == 0:
            found.append(one)
            continue
        before = ranked[place - 1][0]
        behind = next(
            words for words, mine, theirs in zip(_BEHIND, standing, before, strict=True) if mine != theirs
        )
        found.append(replace(one, behind=behind))
    return tuple(found)
