"""A broker's own word as a reading: its health, its last known, and what its other calls say."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from brokerwatch.clock import Clock, Instant
from brokerwatch.config import BrokerSpec
from brokerwatch.currencies import is_money
from brokerwatch.health import Health, verdict
from brokerwatch.messages import Capability, Reading, clipped
from brokerwatch.messages.balance import amount_text
from brokerwatch.view import composed, ttl_s


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
) -> Reading:
    """What a broker says of itself: the evidence, without anybody's vetoes.

    A balance that was asked for before `ordered_s`, in monotonic seconds, is overtaken by an order.
    """
    balance = health.balance
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
        balance=None if balance is None else balance.holdings,
        labels=spec.labels,
        valid_until_s=now.up_s + ttl_s(heartbeat_s),
        clock=clock,
        max_age_s=spec.rules.max_age_s,
        overtaken=balance is not None and balance.as_of.up_s < ordered_s,
        capabilities=capabilities,
    )
    return composed(reading, health.vetoes)


def _detail(spec: BrokerSpec, health: Health) -> str:
    """The newest fault; else the money that is there and not in the cash, so that no zero is false."""
    if health.fault is not None:
        return health.fault.detail
    if health.balance is None:
        return "no balance yet"
    notes = [
        f"{name} account not read: {wallet.trouble}"
        for name, wallet in health.balance.wallets.items()
        if wallet.trouble
    ]
    left_out = [
        f"{_grouped(held.free)} {code}"
        for code, held in health.balance.holdings.items()
        if is_money(code) and code not in spec.cash_currencies and held.free
    ]
    if left_out:
        notes.insert(0, f"{', '.join(left_out)} not counted")
    return clipped("; ".join(notes))


def _grouped(number: Decimal) -> str:
    whole, point, fraction = amount_text(number).partition(".")
    return f"{int(whole):,}{point}{fraction}".rstrip("0").rstrip(".") if point else f"{int(whole):,}"
