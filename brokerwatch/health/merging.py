"""What several receivers' readings of one account amount to: endpoints of one cluster, or several clusters.

The owner of a reading is the process that has the account. Readings belong to one owner when one supervisor
published them, or when they are of one life of the broker and came from supervisors of one cluster, which
hear the same node. The readings of one owner differ by what has arrived: one endpoint may be behind another.
Their evidence has an order, (broker epoch, version), and the newest counts. The vetoes have none, so those
that are fresh are united. A hold that one endpoint has published is not lost because the other one has not
published it yet. One kind of veto is no word about the account: that a supervisor hears nothing of it. That
is refuted where another one of the same cluster has heard something newer since.

Between owners nothing can be ordered: each counts its own events. So the account is available only if every
owner that is still heard says so. The detail says where the owners disagree.

The merged reading has the amounts that were asked for last, also those of a reading that is over, and those
that a supervisor knew before it began anew. So none that is behind takes a last known balance away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from brokerwatch.clock import Instant
from brokerwatch.health.state_machine import OWN_VETOES, PRECEDENCE
from brokerwatch.messages import Reading, Reason, clipped
from brokerwatch.messages.balance import amount_text

_VETOES = frozenset(PRECEDENCE) - OWN_VETOES
"""The reasons that a supervisor lays over the evidence of a broker."""
_UNHEARD = frozenset({Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND})
"""Those of them by which it only says that it hears nothing."""


@dataclass(frozen=True, slots=True)
class Published:
    """A reading, and by whom it was published."""

    cluster: str
    """What proves which cluster it is, and its name. Two that differ in this are two clusters."""
    life: str
    """The epoch of the supervisor."""
    name: str
    """The supervisor, for people."""
    reading: Reading
    known: Reading | None
    """The newest reading with a balance that it published, in this life or before."""


def merged(published: Sequence[Published], now: Instant) -> Reading:
    """The one reading of an account that several were heard of.

    Args:
        published: the newest that came, over each endpoint. At least one.
        now: the time at which the readings are looked at.
    """
    known = _known(published)
    told: dict[str, Reading] = {}
    for group in _by_owner(published, now):
        reading = _of_one_owner(tuple(one.reading for one in group), now)
        balance = known.get(group[0].cluster)
        told[group[-1].name] = reading if balance is None else _with_balance_of(balance, reading)
    fresh = {source: reading for source, reading in told.items() if now.up_s < reading.valid_until_s}
    if not fresh:
        decided = max(told.values(), key=lambda reading: reading.valid_until_s)
    elif len(fresh) == 1:
        decided = next(iter(fresh.values()))
    else:
        decided = _of_several_owners(fresh, now)
    for reading in told.values():
        if _asked_s(reading) > _asked_s(decided):
            decided = _with_balance_of(reading, decided)
    return decided


def _known(published: Iterable[Published]) -> dict[str, Reading]:
    """By its cluster, the newest reading with a balance.

    By their order, because the moments at which they were asked for are only as exact as the wire is quick.
    """
    newest: dict[str, Reading] = {}
    for one in published:
        known, before = one.known, newest.get(one.cluster)
        if known is not None and (before is None or _rank(known) > _rank(before)):
            newest[one.cluster] = known
    return newest


def _by_owner(published: Iterable[Published], now: Instant) -> list[list[Published]]:
    groups: list[list[Published]] = []
    for one in published:
        same = [group for group in groups if any(_is_of_one_owner(one, other) for other in group)]
        groups = [group for group in groups if group not in same]
        groups.append([one, *(other for group in same for other in group)])
    return [group for group in groups if not _is_refuted(group, groups, now)]


def _is_of_one_owner(one: Published, other: Published) -> bool:
    if one.cluster != other.cluster:
        return False
    epoch = one.reading.broker_epoch
    return one.life == other.life or (epoch != "" and epoch == other.reading.broker_epoch)


def _is_refuted(group: list[Published], groups: list[list[Published]], now: Instant) -> bool:
    """Whether a supervisor only says that it hears nothing, and another one has heard a later life."""
    if any(one.reading.verdict.reason not in _UNHEARD for one in group):
        return False
    newest = max(one.reading.broker_epoch for one in group)
    return any(
        one.cluster == group[0].cluster
        and one.reading.broker_epoch > newest
        and now.up_s < one.reading.valid_until_s
        for other in groups
        for one in other
    )


def remembering(reading: Reading, before: Reading) -> Reading:
    """A reading with the last known balance of the one before, where it has none itself.

    Args:
        reading: what holds now, such as the word of a supervisor that has begun anew.
        before: the one that the same sender had published of the account.
    """
    return (
        _with_balance_of(before, reading) if reading.as_of is None and before.as_of is not None else reading
    )


def _with_balance_of(before: Reading, reading: Reading) -> Reading:
    return msgspec.structs.replace(
        reading,
        as_of=before.as_of,
        cash=before.cash,
        cash_unit=before.cash_unit,
        cash_parts=before.cash_parts,
        balance=before.balance,
        unread=before.unread,
        answer_ms=before.answer_ms,
        overtaken=before.overtaken,
        max_age_s=before.max_age_s,
        vouched_s=before.vouched_s,
    )


def _of_one_owner(readings: tuple[Reading, ...], now: Instant) -> Reading:
    fresh = tuple(reading for reading in readings if now.up_s < reading.valid_until_s) or readings
    newest = max(fresh, key=_rank)
    vetoed = [
        reading
        for reading in fresh
        if reading.verdict.reason in _VETOES
        and not (reading.verdict.reason in _UNHEARD and _order(reading) < _order(newest))
    ]
    if not vetoed:
        return newest
    strongest = min(vetoed, key=lambda reading: PRECEDENCE.index(reading.verdict.reason))
    return msgspec.structs.replace(
        newest, verdict=strongest.verdict, since_us=strongest.since_us, detail=strongest.detail
    )


def _order(reading: Reading) -> tuple[str, int]:
    return reading.broker_epoch, reading.version


def _rank(reading: Reading) -> tuple[str, int, float]:
    return *_order(reading), reading.valid_until_s


def _asked_s(reading: Reading) -> float:
    return float("-inf") if reading.as_of is None else reading.as_of.up_s


def _of_several_owners(fresh: Mapping[str, Reading], now: Instant) -> Reading:
    def rank(reading: Reading) -> tuple[bool, int]:
        reason = reading.verdict.reason
        strength = PRECEDENCE.index(reason) if reason in PRECEDENCE else len(PRECEDENCE)
        return reading.verdict.available, strength

    readings = tuple(fresh.values())
    decides = min(readings, key=rank)
    newest = max(readings, key=_asked_s)
    return msgspec.structs.replace(
        _with_balance_of(newest, decides),
        detail=_detail(decides, fresh, now),
        money=next((one.money for one in readings if one.money), ()),
        key=max((one.key for one in readings if one.key), key=lambda key: key.checked_us, default=None),
        closed_markets={name: shut for one in readings for name, shut in one.closed_markets.items()},
        stream=newest.stream,
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
