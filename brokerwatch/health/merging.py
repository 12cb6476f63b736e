"""What several receivers' readings of one account amount to: endpoints of one cluster, or several clusters.

The owner of a reading is the life of the supervisor that published it. The readings of one owner differ by
what has arrived: one endpoint may be behind another. Their evidence has an order, (broker epoch, version),
and the newest counts. The vetoes of the supervisor have none, so those that are fresh are united. A hold that
one endpoint has published is not lost because the other one has not published it yet.

Between owners nothing can be ordered: each counts its own events. So the account is available only if every
owner that is still heard says so. The amounts are those that were asked for last, and the detail says where
the owners disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import OWN_VETOES, PRECEDENCE
from brokerwatch.messages import Reading, clipped
from brokerwatch.messages.balance import amount_text

_VETOES = frozenset(PRECEDENCE) - OWN_VETOES
"""The reasons that a supervisor lays over the evidence of a broker."""


def merged(owners: Mapping[str, Iterable[Reading]], now: Instant) -> Reading:
    """The one reading of an account that several were heard of.

    Args:
        owners: each owner's name to the newest readings that came from it, over each endpoint. At least one.
        now: the time at which the readings are looked at.
    """
    told = {source: _of_one_owner(tuple(readings), now) for source, readings in owners.items()}
    fresh = {source: reading for source, reading in told.items() if now.up_s < reading.valid_until_s}
    if not fresh:
        return max(told.values(), key=lambda reading: reading.valid_until_s)
    if len(fresh) == 1:
        return next(iter(fresh.values()))
    return _of_several_owners(fresh, now)


def _of_one_owner(readings: tuple[Reading, ...], now: Instant) -> Reading:
    fresh = tuple(reading for reading in readings if now.up_s < reading.valid_until_s) or readings
    newest = max(fresh, key=lambda reading: (reading.broker_epoch, reading.version, reading.valid_until_s))
    vetoed = [reading for reading in fresh if reading.verdict.reason in _VETOES]
    if not vetoed:
        return newest
    strongest = min(vetoed, key=lambda reading: PRECEDENCE.index(reading.verdict.reason))
    return msgspec.structs.replace(
        newest, verdict=strongest.verdict, since_us=strongest.since_us, detail=strongest.detail
    )


def _of_several_owners(fresh: Mapping[str, Reading], now: Instant) -> Reading:
    def rank(reading: Reading) -> tuple[bool, int]:
        reason = reading.verdict.reason
        strength = PRECEDENCE.index(reason) if reason in PRECEDENCE else len(PRECEDENCE)
        return reading.verdict.available, strength

    readings = tuple(fresh.values())
    decides = min(readings, key=rank)
    newest = max(readings, key=lambda one: float("-inf") if one.as_of is None else one.as_of.up_s)
    return msgspec.structs.replace(
        decides,
        detail=_detail(decides, fresh, now),
        as_of=newest.as_of,
        cash=newest.cash,
        cash_unit=newest.cash_unit,
        cash_parts=newest.cash_parts,
        balance=newest.balance,
        unread=newest.unread,
        answer_ms=newest.answer_ms,
        money=next((one.money for one in readings if one.money), ()),
        key=max((one.key for one in readings if one.key), key=lambda key: key.checked_us, default=None),
        closed_markets={name: shut for one in readings for name, shut in one.closed_markets.items()},
        overtaken=newest.overtaken,
        max_age_s=newest.max_age_s,
        # One that is heard no longer has no say, and a proof that ends counts while its owner is heard.
        valid_until_s=max(reading.valid_until_s for reading in readings),
        outcome_until_s=min(reading.outcome_until_s for reading in readings),
        proven_until_s=min(reading.proven_until_s for reading in readings),
    )


def _detail(decides: Reading, fresh: Mapping[str, Reading], now: Instant) -> str:
    """The detail of the reading that decides, and in what the owners disagree."""
    answers = {(reading.verdict, reading.cash) for reading in fresh.values()}
    if len(answers) == 1:
        return decides.detail
    words = "; ".join(f"{source}: {_answer(reading, now)}" for source, reading in sorted(fresh.items()))
    return clipped(f"{len(fresh)} clusters disagree: {words}")


def _answer(reading: Reading, now: Instant) -> str:
    said = "available" if reading.verdict.available else f"not available ({reading.verdict.reason})"
    if reading.as_of is None or reading.cash is None:
        return f"{said}, no cash known"
    shown = f"{amount_text(reading.cash)} {reading.cash_unit}".rstrip()
    return f"{said}, cash {shown} {max(0.0, now.up_s - reading.as_of.up_s):.0f} s ago"
