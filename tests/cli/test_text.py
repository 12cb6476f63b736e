"""Readings as text: nothing that an exchange states may end the program that shows it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from rich.console import Console

from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.cli import text
from brokerwatch.cli.live_table import table
from brokerwatch.cli.output import LineWriter
from brokerwatch.clock import ManualClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, Reading, Stamp


def heard(cash: Decimal | None, *, age_s: float = 0.0, words: str = "", name: str = "a") -> ReceivedReading:
    clock = ManualClock()
    health = Health.begin(clock.now())
    if cash is not None:
        held = Holding(free=cash, used=Decimal(0), total=cash)
        health = health.seen(Balance(holdings={"USD": held}, as_of=clock.now()), clock.now())
    if words:
        health = health.failed(Fault(FaultKind.NETWORK, words), clock.now())
    clock.advance(age_s)
    reading: Reading = evidence(BrokerSpec(name), "", health, clock.now(), clock, 1.0)
    stamp = Stamp(src="supervisor/main", epoch="0", seq=7, ts_us=8, up_us=9, ttl_ms=10)
    return ReceivedReading(reading, stamp)


@pytest.mark.parametrize(
    ("cash", "shown"),
    [
        (None, "unknown"),
        (Decimal(0), "0.00"),
        (Decimal("12500.005"), "12,500.00"),
        (Decimal("0.00000001"), "0.00000001"),
        (Decimal("0.0010000000"), "0.001"),
        (Decimal("0.0500000000"), "0.05"),
        (Decimal("-0.0020"), "-0.002"),
        (Decimal("0E-10"), "0.00"),
        (Decimal("1E+3"), "1,000.00"),
        (Decimal("-3.5"), "-3.50"),
        (Decimal("1" + "0" * 29), "100,000,000,000,000,000,000,000,000,000.00"),
        (Decimal("9" * 29 + "." + "9" * 18), "100,000,000,000,000,000,000,000,000,000.00"),
    ],
)
def test_cash_is_shown_for_people_whatever_its_size_and_never_as_a_false_zero(
    cash: Decimal | None, shown: str
) -> None:
    assert text.cash(heard(cash).reading) == shown
    assert shown in text.change_line(heard(cash))
    table([heard(cash).reading], caption="", width=80)


@pytest.mark.parametrize(("age_s", "shown"), [(0.0, "0.0 s"), (59.9, "59.9 s"), (120.0, "2 min")])
def test_an_age_is_shown_in_the_unit_that_fits(age_s: float, shown: str) -> None:
    assert text.age(heard(Decimal(1), age_s=age_s).reading) == shown


def test_an_object_has_the_wires_keys_and_who_said_it() -> None:
    said = json.loads(text.json_object(heard(Decimal("1.50"), words="\ud800 down")))
    assert (said["cash"], said["src"], said["seq"], said["ts_us"]) == ("1.50", "supervisor/main", 7, 8)
    assert said["detail"] == "? down"
    nothing = json.loads(text.nothing_heard_object("where are they?"))
    assert (nothing["broker"], nothing["available"], nothing["reason"]) == (None, False, "nothing_heard")


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_table_fits_the_terminal_and_never_cuts_a_name(width: int) -> None:
    words = "BadResponse: HTTP 502 Bad Gateway: " + "x" * 200
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table([heard(Decimal("12500"), words=words).reading], caption="c", width=width))
    drawn = console.export_text().splitlines()
    assert max(map(len, drawn)) <= width
    row = next(line for line in drawn if "degraded" in line)
    assert row.startswith("│ a ")
    assert row.rstrip().endswith("│"), "the right edge is there"
    assert "12,500.00" in row
    assert ("BadResponse" in row) == (width >= 120)


@pytest.mark.parametrize("name", ["a", "kraken-main", "coinbase-demo", "coinbase-main-desk"])
def test_a_table_of_longer_names_fits_eighty_columns_too(name: str) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table([heard(Decimal("12500"), words="down", name=name).reading], caption="c", width=80))
    drawn = console.export_text().splitlines()
    row = next(line for line in drawn if "degraded" in line)
    assert row.startswith(f"│ {name} ")
    assert row.rstrip().endswith("0.0 s │"), "the age is whole, and the right edge is there"
    assert ("errors" in "".join(drawn)) == (len(name) <= 9), "what matters least is left out"


EVIL = "down\x1b]0;title\x07\nb available ok\x9b2J"


def test_a_detail_changes_no_terminal_and_begins_no_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    received = heard(Decimal(1), words=EVIL)
    with LineWriter(lambda: False) as lines:
        lines.emit(text.change_line(received))
        lines.emit(text.json_object(received))
    first, second = capfd.readouterr().out.splitlines()
    assert first.isprintable()
    assert json.loads(second)["detail"] == EVIL, "the value is as it came"
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(table([received.reading], caption="c", width=200))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\\u001b]0;title" in shown


@pytest.mark.parametrize("since_us", [10**18, -(10**18), 2**63 - 1])
def test_a_moment_that_no_calendar_has_ends_no_program(since_us: int) -> None:
    received = heard(Decimal(1))
    wrong = replace(received, reading=msgspec.structs.replace(received.reading, since_us=since_us))
    assert "available" in text.change_line(wrong)
    table([wrong.reading], caption="", width=200)
