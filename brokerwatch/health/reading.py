"""How a reading is made: the evidence of a broker, and the vetoes of the supervisor laid over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec

from brokerwatch.clock import Clock, Instant, Leads
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.claim import UNCLAIMED, Claim
from brokerwatch.health.proof import Proof
from brokerwatch.health.state_machine import AVAILABLE, PRECEDENCE, Health, Vetoes, verdict
from brokerwatch.health.stated import confirming
from brokerwatch.messages import Capability, HealthState, Holding, Reading, Reason, clipped
from brokerwatch.messages.key import KeyData
from brokerwatch.messages.money import MoneyAlarmData
from brokerwatch.messages.stream import StreamData
from brokerwatch.messages.trading import ClosedMarket
from brokerwatch.money import is_money, unit

CLAIM_WORDS: Final = "claim: "
"""What the words of a claim begin with, which beside the reason say nothing new."""

_COUNTING = frozenset({HealthState.UNKNOWN, HealthState.HEALTHY, HealthState.DEGRADED})
"""The states in which one more error leads on to another state."""


def evidence(
    spec: BrokerSpec,
    epoch: str,
    health: Health,
    now: Instant,
    clock: Clock,
    heartbeat_s: float,
    *,
    capabilities: Mapping[str, Capability] = MappingProxyType({}),
    ordered_s: float = float("-inf"),
    closed_markets: Mapping[str, ClosedMarket] = MappingProxyType({}),
    proof: Proof | None = None,
    longest_age_s: float = float("inf"),
    leads: Leads | None = None,
    answer_ms: int | None = None,
    outcome_until_s: float = float("inf"),
    key: KeyData | None = None,
    money: tuple[MoneyAlarmData, ...] = (),
    stream: StreamData | None = None,
    vouched_s: float | None = None,
    claim: Claim = UNCLAIMED,
) -> Reading:
    """A broker's evidence about itself, with its own vetoes and without the supervisor's.

    Args:
        spec: the broker's configuration.
        epoch: the broker's incarnation.
        health: what the outcomes of its fetches say.
        now: the time of this evidence.
        clock: the clock that the reading computes its ages with.
        heartbeat_s: seconds between two heartbeats.
        capabilities: the state of the other kinds of call.
        ordered_s: a balance that was asked for before this monotonic second is overtaken by an order.
        proof: the newest success; None: the account is not used yet, and needs none.
        longest_age_s: for how many seconds a success proves the account.
        leads: how far the other clocks are ahead of the monotonic one.
        answer_ms: how long the exchange took over the newest balance.
        outcome_until_s: the monotonic second by which the next outcome is due.
        key: what the exchange states about the API key.
        money: alarms about the money in the account.
        stream: the state of the exchange's stream.
        vouched_s: the monotonic second at which the live stream last said that the balance stands.
        claim: of the API key, in a pool: the reading lasts no longer, and its end is a veto.
    """
    balance = health.balance
    proven_until_s = float("inf")
    if proof is not None and health.state in AVAILABLE:
        proven_until_s = proof.until_s(longest_age_s)
    vetoes = health.vetoes
    if claim.over:
        vetoes = vetoes.lay(Reason.CLAIM, claim.over.removeprefix(CLAIM_WORDS), claim.since or now)
    if proof is not None and now.up_s >= proven_until_s:
        vetoes = vetoes.lay(Reason.UNPROVEN, *_unproven(proof, proven_until_s, now))
    reading = Reading(
        broker=spec.name,
        exchange=spec.exchange,
        simulated=spec.simulated,
        broker_epoch=epoch,
        version=health.version,
        state=health.state,
        verdict=verdict(health.state),
        detail=_detail(spec, health),
        since_us=health.since.wall_us,
        error_count=health.error_count,
        fault=None if health.fault is None else health.fault.kind,
        as_of=None if balance is None else balance.as_of,
        cash=None if balance is None else balance.cash(spec.cash_currencies),
        cash_unit=unit(spec.cash_currencies[0]),
        cash_parts={} if balance is None else balance.cash_parts(spec.cash_currencies),
        balance=None if balance is None else balance.holdings,
        unread=frozenset() if balance is None else balance.unread,
        labels=spec.labels,
        valid_until_s=now.up_s + ttl_s(heartbeat_s),
        clock=clock,
        max_age_s=spec.rules.max_age_s,
        overtaken=balance is not None and balance.as_of.up_s < ordered_s,
        capabilities=capabilities,
        closed_markets=closed_markets,
        proven_until_s=min(proven_until_s, claim.until_s) if health.state in AVAILABLE else proven_until_s,
        leads=leads,
        answer_ms=answer_ms,
        outcome_until_s=outcome_until_s,
        key=key,
        money=money,
        stream=stream,
        vouched_s=vouched_s,
    )
    return composed(reading, vetoes)


def _unproven(proof: Proof, proven_until_s: float, now: Instant) -> tuple[str, Instant]:
    """Why no success stands behind an account, and since when."""
    if proof.doubted is not None:
        return f"{proof.why}; it is asked again", proof.doubted
    if proof.asked is None:
        return "no success in this life yet", now
    late_s = now.up_s - proven_until_s
    since = Instant(now.wall_us - round(late_s * 1_000_000), proven_until_s)
    return f"the newest success was asked for {now.up_s - proof.asked.up_s:.0f} s ago", since


def _detail(spec: BrokerSpec, health: Health) -> str:
    """The newest fault; else the money that is not counted as cash, so that a zero does not mislead."""
    if health.fault is not None:
        return health.fault.detail
    if health.balance is None:
        return confirming(health.doubts) or "no balance yet"
    notes = [
        f"{name} account not read: {wallet.trouble}"
        for name, wallet in health.balance.wallets.items()
        if wallet.trouble
    ]
    held_of, doubted = health.balance.holdings, health.doubts.missing
    unknown = [code for code, held in held_of.items() if held.free is None and code not in doubted]
    unread = sorted(health.balance.unread - held_of.keys())
    if unread:
        notes.insert(0, f"how much there is of {', '.join(unread)} is unknown")
    no_total = [code for code, held in held_of.items() if held.total is None and held.free is not None]
    if no_total:
        notes.insert(0, f"how much there is in all of {_known_parts(no_total, held_of)} is not stated")
    if unknown:
        notes.insert(0, f"how much is free of {_known_parts(unknown, held_of)} is unknown")
    pushed = [
        f"{_grouped(held.least_total)} {code}" for code, held in held_of.items() if held.pushed_us is not None
    ]
    if pushed:
        notes.insert(0, f"pushed, and not confirmed by a read yet: {', '.join(pushed)}")
    unstated = [
        f"{_grouped(held_of[code].least_total)} {code}" for code in sorted(doubted) if code in held_of
    ]
    if unstated:
        notes.insert(0, f"not stated any more, as last known: {', '.join(unstated)}")
    left_out = [
        f"{_grouped(held.free)} {code}"
        for code, held in health.balance.holdings.items()
        if is_money(code) and code not in spec.cash_currencies and held.free
    ]
    if left_out:
        notes.insert(0, f"{', '.join(left_out)} not counted")
    return clipped("; ".join(notes))


def _known_parts(codes: Iterable[str], holdings: Mapping[str, Holding]) -> str:
    """Currencies, each with the parts of it that its exchange states: `USDC (9 in all)`."""
    words = (("free", "free"), ("used", "held"), ("total", "in all"))
    shown: list[str] = []
    for code in codes:
        parts = [(getattr(holdings[code], part), word) for part, word in words]
        known = [f"{_grouped(number)} {word}" for number, word in parts if number is not None]
        shown.append(f"{code} ({', '.join(known)})")
    return ", ".join(shown)


def _grouped(number: Decimal) -> str:
    shown = f"{number:,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def ttl_s(heartbeat_s: float) -> float:
    """How many seconds a broker may be silent: four heartbeats and a second, everywhere the same."""
    return 4 * heartbeat_s + 1.0


def heartbeat_s(ttl_s: float) -> float:
    """The heartbeat of a publisher that announces this time to live: the inverse of `ttl_s`."""
    return max(0.0, (ttl_s - 1.0) / 4)


def composed(evidence: Reading, vetoes: Vetoes) -> Reading:
    """The evidence of a broker under the vetoes of the supervisor: the reading that is published.

    The evidence may have vetoes of its own: those of the broker, and where it comes from a node, those that
    were laid there.
    """
    strongest = vetoes.strongest
    said = evidence.verdict.reason
    # What the state itself says, such as `never_seen`, is no veto.
    own = said if said in PRECEDENCE and said is not verdict(evidence.state).reason else None
    if own is not None and (strongest is None or PRECEDENCE.index(own) < PRECEDENCE.index(strongest)):
        return evidence
    if evidence.verdict.reason is Reason.LOCAL_NETWORK:  # a node has found that out
        vetoes = replace(vetoes, cut_off=True)
    decided = verdict(evidence.state, vetoes)
    if strongest is None:
        if decided.available and said is Reason.OTHER and not evidence.verdict.available:
            return evidence  # a later version gave a reason that this one does not know
        return msgspec.structs.replace(
            evidence, verdict=decided, since_us=max(evidence.since_us, vetoes.lifted_us)
        )
    veto = vetoes.laid[strongest]
    return msgspec.structs.replace(
        evidence, verdict=decided, since_us=veto.since.wall_us, detail=veto.detail or evidence.detail
    )


def comparison_key(reading: Reading) -> tuple[object, ...]:
    """What makes two readings differ on the wire: all but ages, the version, and the detail."""
    return (
        reading.broker_epoch,
        reading.state,
        reading.verdict,
        reading.since_us,
        reading.error_count,
        reading.fault,
        reading.as_of_us,
        reading.cash,
        reading.balance,
        reading.unread,
        reading.overtaken,
        tuple((name, can.state, can.reason) for name, can in reading.capabilities.items()),
        tuple((symbol, each.since_us) for symbol, each in reading.closed_markets.items()),
        reading.key,
        reading.money,
        reading.stream,
    )


def change_key(reading: Reading) -> tuple[object, ...]:
    """What makes a reading a change for a subscriber: state, reason, balance, and what can be done.

    It is `comparison_key` without what each poll renews: when the balance was asked for, and how many errors
    there were, once the account is out. The beginning of `unproven` is computed anew each time, and is left
    out too.
    """
    return (
        reading.broker_epoch,
        reading.state,
        reading.verdict,
        reading.since_us if reading.verdict.reason is not Reason.UNPROVEN else None,
        reading.error_count if reading.state in _COUNTING else None,
        reading.fault,
        reading.cash,
        reading.balance,
        reading.unread,
        reading.overtaken,
        tuple((name, can.state, can.reason) for name, can in reading.capabilities.items()),
        tuple((symbol, each.since_us) for symbol, each in reading.closed_markets.items()),
        None if reading.key is None else msgspec.structs.replace(reading.key, checked_us=0),
        reading.money,
        reading.stream,
    )
