"""Readings as text: a JSON object, a line for a pipe, and the words of a table's cells."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

import msgspec

from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.clock import NO_DATE, local_text
from brokerwatch.health.plain_words import plain_detail, rounded
from brokerwatch.health.reason_words import what_helps
from brokerwatch.log import escaped
from brokerwatch.messages import HealthState, Reading, Reason
from brokerwatch.messages.stream import StreamState
from brokerwatch.storage.records import OrderEvent, Transition


def json_object(received: ReceivedReading) -> str:
    """One reading as a JSON object: the wire's own map, with its publisher and its time beside it.

    An amount that is unknown is null, where the wire has a number beside a mark for receivers of old.
    """
    stamp = received.stamp
    fields = {"src": stamp.src, "epoch": stamp.epoch, "seq": stamp.seq, "ts_us": stamp.ts_us}
    shown: dict[str, Any] = msgspec.to_builtins(received.reading.data())
    balance: dict[str, dict[str, object]] = shown["balance"] or {}
    for held in balance.values():
        held.update({part: None for part in ("free", "used", "total") if held.get(f"{part}_unknown")})
    return json.dumps({**shown, **fields}, ensure_ascii=False)


def history_object(line: Transition) -> str:
    """One line of the history as a JSON object."""
    return json.dumps(asdict(line), ensure_ascii=False)


NAME_WIDTH: Final = 16
"""Names have so many characters in a line, and in lines that are shown together as many as the longest."""


def name_width(names: Iterable[str]) -> int:
    """The characters for each name in lines that are shown together."""
    return max([NAME_WIDTH, *map(len, names)])


def history_line(line: Transition, width: int = NAME_WIDTH) -> str:
    """One line of the history for people, in local time; `width`: characters for the name."""
    what = f"{line.after} by {line.before}" if line.event == "operator" else f"{line.before} -> {line.after}"
    answer = "available" if line.available else f"not available: {line.reason}"
    fault = "" if line.fault is None else f"  {line.fault}, error {line.error_count}"
    detail = f"  {plain_detail(line.detail)}" if line.detail else ""
    return (
        f"{local_text(line.at_us)}  {line.broker:<{width}} {line.event:<8}  {what}  ({answer}){fault}{detail}"
    )


def order_object(event: OrderEvent) -> str:
    """One line in the life of an order as a JSON object."""
    return json.dumps({"event": "order", **asdict(event)}, ensure_ascii=False)


def order_line(event: OrderEvent, width: int = NAME_WIDTH) -> str:
    """One line in the life of an order for people, in local time; `width`: characters for the name."""
    asked = (
        f"{event.base_amount} {event.symbol}"
        if event.base_amount
        else f"{event.symbol} for {event.quote_amount}"
    )
    filled = f"  {event.filled_base} filled" if event.filled_base else ""
    price = f" at {event.average_price}" if event.average_price else ""
    fee = f", fee {event.fee} {event.fee_currency}" if event.fee else ""
    detail = f"  {plain_detail(event.detail)}" if event.detail else ""
    begins = f"{local_text(event.at_us)}  {event.broker:<{width}} {'order':<8}"
    return (
        f"{begins}  {event.state:<16} {event.side} {asked}"
        f"{filled}{price}{fee}  {event.client_order_id}{detail}"
    )


def nothing_heard_object(detail: str) -> str:
    """The JSON object that is shown when nothing was ever received."""
    fields: dict[str, Any] = {
        "broker": None,
        "exchange": None,
        "state": int(HealthState.UNKNOWN),
        "status": "unknown",
        "available": False,
        "reason": str(Reason.NOTHING_HEARD),
        "detail": detail,
    }
    return json.dumps(fields)


def change_line(received: ReceivedReading, width: int = NAME_WIDTH) -> str:
    """One reading as a line for a log or a pipe, with the time at which it was said or ran out.

    `width`: characters for the name.
    """
    reading = received.reading
    notes = ", ".join(note for note in (parts(reading), age(reading)) if note)
    shown_age = f" ({notes})" if reading.as_of is not None else ""
    return (
        f"{clock_time(max(received.stamp.ts_us, reading.since_us))} {reading.broker:<{width}} "
        f"{'available' if reading.available else 'not available':<14}"
        f"{reading.status:<12} {reading.reason:<13} errors {reading.error_count:<4} "
        f"cash {cash(reading)}{shown_age} {plain_detail(reading.detail)}"
    ).rstrip() + "".join(f"  [{warning}]" for warning in warnings_of(reading))


def warnings_of(reading: Reading) -> list[str]:
    """What an operator has to know of the account's API key and of its money: a text for each warning."""
    warnings = () if reading.key is None else reading.key.warnings
    found = [f"its API key: {plain_detail(each.detail) or each.word}" for each in warnings]
    stream = reading.stream
    if stream is not None and stream.state in (StreamState.REFUSED, StreamState.ABSENT):
        found.append(f"its stream is {stream.state}: {plain_detail(stream.detail)}")
    return found + [f"its money: {each.detail or f'{each.word} {each.currency}'}" for each in reading.money]


def clock_time(wall_us: int) -> str:
    """The wall clock for people, in their own zone; `?` for a moment that no calendar has."""
    shown = local_text(wall_us)
    return "?" if shown == NO_DATE else shown.partition(" ")[2]


def trouble(reading: Reading, width: int, name: str = "") -> str:
    """Why an account is not available, since when, and what helps, in one line of `width` characters.

    Where it is too long, the words of the exchange are cut, and not what helps. So with a long name the line
    may be longer than `width`.

    Args:
        reading: of an account that is not available.
        width: characters of the line.
        name: what the account is called at the beginning of the line, unless by its whole name.
    """
    helps = what_helps(reading.reason, reading.broker)
    ends = f" ({helps})" if helps else ""
    begins = f"{name or reading.broker}: since {clock_time(reading.since_us)}, {reading.reason}"
    said = escaped(plain_detail(reading.detail))
    room = width - len(begins) - len(ends) - 2
    if said and room > 1:
        begins += f": {said}" if len(said) <= room else f": {said[: room - 1]}…"
    return f"{begins}{ends}"


def cash(reading: Reading) -> str:
    """The cash for people with its unit; the word `unknown` where it is."""
    return "unknown" if reading.cash is None else f"{rounded(reading.cash)} {reading.cash_unit}".rstrip()


def parts(reading: Reading) -> str:
    """What a cash that is a sum is made of: `100.00 USD + 5,000.00 USDT`; else empty."""
    if reading.cash is None or len(reading.cash_parts) < 2:
        return ""
    return " + ".join(f"{rounded(part)} {code}" for code, part in reading.cash_parts.items())


def age(reading: Reading) -> str:
    """The age of the balance for people; empty when there is none."""
    age_ms = reading.age_ms
    if age_ms is None:
        return ""
    seconds = age_ms / 1_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 6_000:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3_600
    return f"{hours:.0f} h" if hours < 100 else f"{hours / 24:.0f} d"
