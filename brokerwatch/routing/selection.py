"""Which account can take this order, and why each other one cannot: a pure choice among readings.

A `Need` says what is to be traded. Each `Candidate` is asked on its own whether anything speaks against
it; those against whom nothing does are put in one total order, so the same knowledge always gives the
same choice, in whatever order it is handed in, and a candidate more never changes how two others stand.
The order is:

1. the place in `prefer`; who is not listed there comes after all who are;
2. a fresh balance before a stale one;
3. healthy evidence before degraded;
4. fewer errors in a row;
5. the order of the configuration, and of equals the name.

Amounts do not rank. A balance is compared with what the need asks for and with nothing else: a stale
amount beside a fresh one, or dollars beside a dollar stablecoin, are two different kinds of number, and
any rule such as "where there is most" would set them against one another. Whoever needs an amount that
no single account has gets nobody, never a sum.

An exit is never blocked by what we know of health, age or configuration. For an exit only the facts of
the market and a fresh balance without the asset refuse; all else is a caution, and who has fewer of them
comes first.
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

__all__ = ["NOBODY", "Candidate", "Choice", "Need", "Ranked", "Refusal", "RefusalCode", "choose"]

NOBODY: Final = "nobody"
"""What stands in `Choice.why()` when there is no choice."""

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
    """The very reading that was judged."""
    stale: bool
    """Whether its balance is anything but the newest truth; then it was not compared with a fresh one."""
    free: Decimal | None
    """What is free of the currency that would leave the account; None when unknown."""
    cautions: tuple[str, ...] = ()
    """What a person should know before he uses it."""
    behind: str = ""
    """The first criterion by which it stands behind the one before it; empty for the best."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer to a need: true when somebody was found."""

    need: Need
    ranked: tuple[Ranked, ...]
    """Those who can take it, the best first."""
    refused: tuple[Refusal, ...]
    """Those who cannot, in the order of the configuration; then names that are nobody's."""

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
        """Who was chosen, and why each other was not: a line for each, for a person or a log."""
        lines = [f"{self.need}: {self.broker or NOBODY}"]
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
    """Where somebody stands: compared from the front, and the smaller is the better."""

    lacks: bool
    """Only of exits: whether it has enough is not known."""
    hindrances: int
    """Only of exits: how many things would have refused an entry."""
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
"""What is said of whoever stands behind, for each part of `_Standing`."""


def choose(need: Need, candidates: Iterable[Candidate], *, strict_products: bool = True) -> Choice:
    """Who can take `need`, the best first, and why nobody else can.

    `strict_products`: whether a broker whose markets are not known is refused; a process that only listens
    never knows them, and is told by a caution. So is whoever watches an account of his own with a callable,
    whose markets nobody can know. The symbol of the choice's need is the one that was read. Raises
    InvalidSymbol when the need's could mean two markets or none; ValueError for two candidates of one name.
    """
    ranked: list[tuple[_Standing, Ranked]] = []
    refused: list[Refusal] = []
    ordered = sorted(candidates, key=lambda one: (one.listed, one.reading.broker))
    names = [one.reading.broker for one in ordered]
    if len(set(names)) < len(names):
        raise ValueError("two candidates have the same name; of each broker there is one reading")
    need = need.read(
        one.products
        for one in ordered
        if one.products is not None and (need.only is None or one.reading.broker in need.only)
    )
    for candidate in ordered:
        seen = seen_of(need, candidate)
        against = list(objections(need, seen, strict_products=strict_products))
        final = [one for one in against if not need.exit or refuses_exit(one, seen)]
        if final:
            refused.append(final[0])
        else:
            ranked.append((_standing(need, seen, against), _ranked(need, seen, against)))
    named = dict.fromkeys((*need.prefer, *(need.only or ())))
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
        cautions.append(f"nobody can know its markets: whether it has {need.symbol} is yours to know")
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
