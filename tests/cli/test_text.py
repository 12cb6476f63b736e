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
from brokerwatch.cli.live_table import screenful
from brokerwatch.cli.output import LineWriter
from brokerwatch.clock import ManualClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import (
    Balance,
    Fault,
    FaultKind,
    HealthState,
    Holding,
    Reading,
    Reason,
    Stamp,
    Verdict,
)
from brokerwatch.messages.key import KeyData, KeyWarning, KeyWarningData
from brokerwatch.messages.money import MoneyAlarm, MoneyAlarmData


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
    assert text.cash(heard(cash).reading) == (shown if cash is None else f"{shown} USD")
    assert shown in text.change_line(heard(cash))
    screenful([heard(cash).reading], caption="", width=80, height=24)


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [
        *((0.0, "0.0 s"), (59.9, "59.9 s"), (120.0, "2 min"), (5_000.0, "83 min")),
        *((7_200.0, "2 h"), (864_000.0, "10 d")),
    ],
)
def test_an_age_is_shown_in_the_unit_that_fits(age_s: float, shown: str) -> None:
    assert text.age(heard(Decimal(1), age_s=age_s).reading) == shown


def test_an_object_has_the_wires_keys_and_who_said_it() -> None:
    said = json.loads(text.json_object(heard(Decimal("1.50"), words="\ud800 down")))
    assert (said["cash"], said["src"], said["seq"], said["ts_us"]) == ("1.50", "supervisor/main", 7, 8)
    assert said["detail"] == "? down"
    nothing = json.loads(text.nothing_heard_object("where are they?"))
    assert (nothing["broker"], nothing["available"], nothing["reason"]) == (None, False, "nothing_heard")


PAGE = "BadResponse: HTTP 502: <!DOCTYPE html><html><head><title>502 Bad Gateway</title>" + "x" * 90


def lost(reading: Reading) -> Reading:
    """The same account, not available any more."""
    errors = Verdict(available=False, reason=Reason.ERRORS)
    return msgspec.structs.replace(reading, state=HealthState.UNAVAILABLE, verdict=errors)


def drawn(*readings: Reading, width: int, height: int) -> list[str]:
    """The lines of the screen."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(screenful(readings, caption="in another terminal", width=width, height=height))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (130, 40)])
@pytest.mark.parametrize("name", ["a", "kraken-main", "coinbase-demo", "coinbase-main-desk"])
def test_the_screen_fits_the_terminal_and_cuts_neither_a_name_nor_a_reason(
    name: str, width: int, height: int
) -> None:
    reading = lost(heard(Decimal("12500"), words=PAGE, name=name).reading)
    lines = drawn(reading, width=width, height=height)
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if line.startswith(f"│ {name} "))
    assert row.rstrip().endswith("0.0 s │"), "the age has its unit, and the right edge is there"
    assert "12,500.00 USD" in row
    assert " errors " in row, "the reason"
    note = next(line for line in lines if line.startswith(f"{name}: since "))
    assert ", errors: BadResponse: H" in note
    assert note.endswith("(it is asked again)"), "what helps is never cut"
    assert "<" not in note


def test_the_columns_that_matter_least_are_left_out_where_the_terminal_is_narrow() -> None:
    reading = heard(Decimal("12500"), name="coinbase-main-desk").reading
    heads = {width: drawn(reading, width=width, height=24)[1] for width in (80, 100, 130)}
    assert ["status" in heads[width] for width in heads] == [False, True, True]
    assert ["since" in heads[width] for width in heads] == [False, False, True]
    assert all("reason" in head and "age" in head for head in heads.values())


def test_a_cash_that_is_a_sum_is_shown_with_its_parts() -> None:
    parts = {"USD": Decimal(100), "USDT": Decimal(5000)}
    reading = msgspec.structs.replace(heard(Decimal(5100)).reading, cash_parts=parts)
    assert text.cash(reading) == "5,100.00 USD"
    assert drawn(reading, width=80, height=24)[-1] == "a: 5,100.00 USD is 100.00 USD + 5,000.00 USDT"
    line = text.change_line(replace(heard(Decimal(5100)), reading=reading))
    assert "cash 5,100.00 USD (100.00 USD + 5,000.00 USDT, 0.0 s)" in line
    assert text.parts(heard(Decimal(5)).reading) == "", "one currency is its own part"


def partly_stated() -> ReceivedReading:
    """An account whose exchange states a total, and what is free of another currency."""
    clock = ManualClock()
    held = {
        "USD": Holding(free=None, used=None, total=Decimal("1234.5")),
        "USDC": Holding(free=Decimal(7), used=None, total=None),
    }
    health = Health.begin(clock.now()).seen(Balance(holdings=held, as_of=clock.now()), clock.now())
    reading = evidence(BrokerSpec("a"), "", health, clock.now(), clock, 1.0)
    return ReceivedReading(reading, heard(None).stamp)


def test_an_amount_that_is_unknown_is_null_in_json_and_never_a_zero() -> None:
    shown = json.loads(text.json_object(partly_stated()))
    assert shown["cash"] is None
    assert shown["balance"] == {
        "USD": {
            "free": None,
            "used": None,
            "total": "1234.5",
            "free_unknown": True,
            "used_unknown": True,
        },
        "USDC": {"free": "7", "used": None, "total": None, "used_unknown": True, "total_unknown": True},
    }


@pytest.mark.parametrize("width", [100, 130])
def test_the_screen_says_which_part_of_an_unknown_cash_is_known(width: int) -> None:
    reading = partly_stated().reading
    console = Console(width=width, file=io.StringIO())
    console.print(screenful([reading], caption="c", width=width, height=24))
    file = console.file
    assert isinstance(file, io.StringIO)
    assert "a: cash unknown, not zero: how much is free of USD (1,234.5 in all) is unknown" in file.getvalue()
    assert "0.00" not in file.getvalue()
    line = text.change_line(partly_stated())
    assert "cash unknown" in line
    assert "1,234.5 in all" in line


def test_more_notes_than_lines_are_counted() -> None:
    readings = [lost(heard(Decimal(1), name=f"a{number:02}").reading) for number in range(30)]
    lines = drawn(*readings, width=80, height=24)
    assert lines[-1] == "and 23 more: brokerwatch status"
    assert len(lines) < 24
    assert len(drawn(*readings[:5], width=80, height=24)) <= 24


LONG = "a-very-long-name-of-an-account-of-48-characters"
HUGE = Decimal("123456789012345.67")


@pytest.mark.parametrize(("width", "height"), [(52, 24), (64, 24), (80, 24), (100, 30), (130, 40)])
def test_a_long_name_and_a_huge_amount_leave_room_for_the_answer(width: int, height: int) -> None:
    ok = heard(HUGE, name=f"{LONG}1").reading
    out = lost(heard(Decimal("0.00000001"), words=PAGE, name=f"{LONG}2").reading)
    lines = drawn(ok, out, width=width, height=height)
    assert max(map(len, lines)) <= width
    rows = [line.rstrip() for line in lines if line.startswith("│")]
    assert len(rows) == 2
    assert all(row.endswith("│") for row in rows), "the right edge is there"
    assert [f"│ {word} " in row for word, row in zip(("yes", "no"), rows, strict=True)] == [True, True]
    assert "123,456,789,012,345.67 USD" in rows[0]
    assert "0.00000001 USD" in rows[1]
    names = [row.split("│")[1].strip() for row in rows]
    assert len(set(names)) == 2, "they can be told apart"
    text_below = " ".join(line.strip() for line in lines[lines.index("in another terminal") + 1 :])
    assert text_below.startswith(f"{names[1]}: since "), "the note has the name of the row"
    assert text_below.endswith("(it is asked again)")


def test_a_command_that_helps_is_shown_whole_however_long_the_name() -> None:
    verdict = Verdict(available=False, reason=Reason.AUTH)
    reading = msgspec.structs.replace(heard(Decimal(1), words=PAGE, name=LONG).reading, verdict=verdict)
    lines = drawn(reading, width=80, height=24)
    assert max(map(len, lines)) <= 80
    below = " ".join(line.strip() for line in lines[lines.index("in another terminal") + 1 :])
    assert f"brokerwatch reset {LONG})" in below


def test_the_parts_of_a_huge_cash_are_never_cut() -> None:
    parts = {"USD": HUGE, "USDT": Decimal("9876543210.12"), "USDC": Decimal("7654321.09")}
    reading = msgspec.structs.replace(heard(sum(parts.values(), Decimal(0))).reading, cash_parts=parts)
    below = " ".join(line.strip() for line in drawn(reading, width=80, height=24)[-2:])
    assert below.endswith("is 123,456,789,012,345.67 USD + 9,876,543,210.12 USDT + 7,654,321.09 USDC")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (130, 40), (80, 10)])
def test_of_more_accounts_than_lines_those_that_are_out_are_shown_and_the_others_counted(
    width: int, height: int
) -> None:
    readings = [heard(Decimal(1), name=f"a{number:02}").reading for number in range(60)]
    readings[58], readings[41] = lost(readings[58]), lost(readings[41])
    lines = drawn(*readings, width=width, height=height)
    assert len(lines) < height
    rows = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert rows[:3] == ["a41", "a58", "a00"][: len(rows)]
    hidden = 60 - len(rows)
    count = "all available" if len(rows) > 1 else "1 of them not available: brokerwatch status"
    assert f"and {hidden} more accounts, {count}" in lines
    assert any(line.startswith("a41: since ") for line in lines)
    assert any(line.startswith("a58: since ") for line in lines)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_note_and_names_the_account_in_a_command(reason: Reason) -> None:
    verdict = Verdict(available=False, reason=reason)
    note = text.trouble(msgspec.structs.replace(heard(Decimal(1), name="k").reading, verdict=verdict), 80)
    assert str(reason) in note
    assert "{" not in note
    if reason in (Reason.AUTH, Reason.FAILED):
        assert "brokerwatch reset k" in note


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
    console.print(screenful([lost(received.reading)], caption="c", width=200, height=24))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\\u001b]0;title" in shown


@pytest.mark.parametrize("since_us", [10**18, -(10**18), 2**63 - 1])
def test_a_moment_that_no_calendar_has_ends_no_program(since_us: int) -> None:
    received = heard(Decimal(1))
    wrong = replace(received, reading=msgspec.structs.replace(received.reading, since_us=since_us))
    assert "available" in text.change_line(wrong)
    screenful([wrong.reading], caption="", width=200, height=24)


def test_lines_that_are_shown_together_have_their_columns_below_each_other() -> None:
    names = ("k", "coinbase-main-desk", LONG)
    lines = [text.change_line(heard(Decimal(1), name=name), text.name_width(names)) for name in names]
    assert len({line.index(" available ") for line in lines}) == 1
    assert text.name_width(()) == text.NAME_WIDTH


def test_the_parts_of_sums_take_no_line_from_accounts_for_which_there_is_no_room() -> None:
    parts = {"USD": Decimal(100), "USDT": Decimal(5000)}
    readings = [
        msgspec.structs.replace(heard(Decimal(5100), name=f"a{number:02}").reading, cash_parts=parts)
        for number in range(40)
    ]
    lines = drawn(*readings, width=80, height=24)
    assert len(lines) < 24
    assert sum(line.startswith("\u2502") for line in lines) == 14
    assert lines[-1] == "and 38 more: brokerwatch status"


def test_warnings_about_a_key_and_the_money_stand_in_the_line_and_below_the_table() -> None:
    one = heard(Decimal(5))
    warning = KeyWarningData(word=KeyWarning.CAN_WITHDRAW, since_us=1, detail="it may withdraw")
    alarm = MoneyAlarmData(word=MoneyAlarm.UNEXPLAINED, currency="USD", since_us=1)
    key = KeyData(checked_us=1, withdraw=True, warnings=(warning,))
    reading = msgspec.structs.replace(one.reading, key=key, money=(alarm,))
    line = text.change_line(replace(one, reading=reading))
    assert "[its API key: it may withdraw]" in line
    assert "[its money: unexplained USD]" in line
    said = io.StringIO()
    Console(file=said, width=100).print(screenful([reading], caption="", width=100, height=20))
    assert "a: its API key: it may withdraw" in said.getvalue()
    assert json.loads(text.json_object(replace(one, reading=reading)))["key"]["trade"] is None
