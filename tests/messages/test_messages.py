"""Money, topics and bytes: exact amounts, and a codec that answers with a message or a CodecError."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final, cast

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.errors import CodecError
from brokerwatch.messages import (
    Balance,
    Capability,
    CapabilityState,
    Envelope,
    Fault,
    FaultKind,
    HealthState,
    Holding,
    MessageType,
    Reading,
    ReadingData,
    Reason,
    Roster,
    RosterData,
    Stamp,
    Verdict,
    Wallet,
    amount,
    next_epoch,
    topics,
)
from brokerwatch.messages.balance import MAX_CURRENCIES, amount_text, is_amount_text
from brokerwatch.messages.codec import MAX_BODY_BYTES, decode, encode, words
from brokerwatch.messages.health import MAX_DETAIL
from brokerwatch.messages.reading import LazyHoldings
from brokerwatch.messages.wire import HoldingData
from tests.support import strategies as our

_msgpack: Final[Any] = msgpack  # it has no annotations
GOLDEN: Final = Path(__file__).parents[1] / "golden"
"""One file a type. `python -m tests.messages.test_messages` writes them anew, to change the protocol."""
NOW: Final = Instant(wall_us=1_800_000_000_000_000, up_s=1_000.0)
LONGEST: Final = "9" * 30 + "." + "9" * 18

# Amounts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("0", "0"),
        ("0.00", "0.00"),
        ("1234.56", "1234.56"),
        ("-0.5", "-0.5"),
        ("1e3", "1000"),
        ("1.5E+3", "1500"),
        ("1E-18", "0.000000000000000001"),
        ("1E-19", "0.000000000000000000"),
        ("1e-1000000", "0.000000000000000000"),
        ("0E-30", "0.000000000000000000"),
        ("0.1234567890123456789", "0.123456789012345678"),
        ("-0.0000000000000000019", "-0.000000000000000001"),
        ("1E+29", "1" + "0" * 29),
        (LONGEST, LONGEST),
        (LONGEST + "9", LONGEST),
        (7, "7"),
        (10**30 - 1, "9" * 30),
        (Decimal("1.10"), "1.10"),
    ],
)
def test_an_amount_is_what_was_said_cut_after_eighteen_digits(said: object, meant: str) -> None:
    assert amount_text(amount(said)) == meant
    assert is_amount_text(meant)


@pytest.mark.parametrize(
    "said",
    [
        "NaN",
        "sNaN",
        "-NaN",
        "Infinity",
        "-inf",
        Decimal("nan"),
        Decimal("inf"),
        "",
        " ",
        "abc",
        "1,5",
        "0x10",
        "1e",
        "--1",
        "1" + "0" * 30,
        "1E+30",
        "1e999999",
        10**30,
        -(10**30),
        1.5,
        0.0,
        float("nan"),
        True,
        False,
        None,
        b"1",
        [],
        {},
    ],
)
def test_what_is_no_exact_finite_amount_is_an_error_and_never_zero(said: object) -> None:
    with pytest.raises(ValueError, match=r"amount|digits"):
        amount(said)


@given(number=our.amounts())
def test_every_amount_survives_the_wire_digit_by_digit(number: Decimal) -> None:
    assert is_amount_text(amount_text(number))
    assert amount(amount_text(number)).as_tuple() == number.as_tuple()


@given(number=our.amounts())
def test_no_decimal_context_of_the_trading_program_changes_an_amount(number: Decimal) -> None:
    with localcontext(prec=3):
        assert amount(amount_text(number)).as_tuple() == number.as_tuple()


@given(text=st.text(st.sampled_from("0123456789-+.eE_ \n"), max_size=60))
def test_any_text_is_an_amount_that_the_wire_can_carry_or_a_value_error(text: str) -> None:
    try:
        number = amount(text)
    except ValueError:
        return
    assert is_amount_text(amount_text(number))
    assert abs(number - Decimal(text)) < Decimal("1e-18")


@pytest.mark.parametrize("text", ["1\n", "1.", ".5", "1e5", "+1", "", "١", "1" * 31, "0." + "1" * 19, "NaN"])
def test_what_is_not_written_as_the_wire_writes_it_is_no_amount_text(text: str) -> None:
    assert not is_amount_text(text)


# Holdings and balances ------------------------------------------------------------------------------


def holding(free: str, total: str = "0") -> Holding:
    return Holding(free=Decimal(free), used=Decimal(0), total=Decimal(total))


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1E+30", "1E-19", "-1E+30"])
@pytest.mark.parametrize("part", ["free", "used", "total", "staked", "earning"])
def test_a_holding_that_the_wire_cannot_carry_is_refused(part: str, bad: str) -> None:
    parts = {"free": Decimal(1), "used": Decimal(1), "total": Decimal(1), part: Decimal(bad)}
    with pytest.raises(ValueError, match="not an amount that the wire can carry"):
        Holding(**parts)


def test_a_holding_and_a_balance_cannot_be_changed() -> None:
    mine = {"USD": holding("1")}
    balance = Balance(holdings=mine, as_of=NOW)
    mine["USD"] = holding("2")
    mine["BTC"] = holding("3")
    assert dict(balance.holdings) == {"USD": holding("1")}, "the caller's dict is not the balance"
    with pytest.raises(TypeError):
        balance.holdings["USD"] = holding("2")  # type: ignore[index] # pyright: ignore[reportIndexIssue]
    with pytest.raises(AttributeError):
        balance.as_of = NOW  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError):
        balance.holdings["USD"].free = Decimal(2)  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def test_an_account_with_too_many_currencies_is_refused() -> None:
    one = holding("1")
    assert len(Balance(holdings={f"C{n}": one for n in range(MAX_CURRENCIES)}, as_of=NOW).holdings) == 4_000
    with pytest.raises(ValueError, match="4001 currencies in one account"):
        Balance(holdings={f"C{n}": one for n in range(MAX_CURRENCIES + 1)}, as_of=NOW)


def test_cash_is_the_free_amount_of_the_cash_currencies_alone() -> None:
    held = {"USD": holding("1.10", "5"), "USDC": holding("2.05", "9"), "BTC": holding("7")}
    balance = Balance(holdings=held, as_of=NOW)
    assert balance.cash(("USD", "USDC")) == Decimal("3.15")
    assert balance.cash(("USDC",)) == Decimal("2.05")
    assert balance.cash(("EUR",)) == Decimal(0), "none held is a true zero"
    assert Balance(holdings={}, as_of=NOW).cash(("USD",)) == Decimal(0)


@given(free=st.lists(st.integers(0, 10**18), min_size=1, max_size=4))
def test_cash_is_an_exact_sum(free: list[int]) -> None:
    held = {f"C{n}": holding(f"{units}.00000001") for n, units in enumerate(free)}
    cash = Balance(holdings=held, as_of=NOW).cash(list(held))
    assert cash == Decimal(f"{sum(free)}.{len(free):08d}")


def test_what_is_held_counts_orders_and_not_what_is_staked() -> None:
    usd = Holding(free=Decimal(7), used=Decimal("5.5"), total=Decimal("12.5"), staked=Decimal("3.25"))
    balance = Balance(holdings={"USD": usd, "USDC": holding("1"), "BTC": usd}, as_of=NOW)
    assert balance.held(("USD", "USDC", "EUR")) == Decimal("2.25")
    assert balance.held(("USD", "USD")) == Decimal("2.25"), "a currency that is named twice counts once"
    assert balance.cash(("USD", "USD")) == Decimal(7)
    assert balance.held(()) == Decimal(0)
    assert (usd.earning, holding("1").staked) == (Decimal(0), Decimal(0))


# Wallets that lie apart -----------------------------------------------------------------------------

BEFORE: Final = Instant(wall_us=NOW.wall_us - 60_000_000, up_s=NOW.up_s - 60.0)
READ: Final = Wallet(holdings={"USDT": holding("9", "9")}, as_of=BEFORE)
UNREAD: Final = Wallet(holdings=None, as_of=None, trouble="timed out")


def with_wallets(**wallets: Wallet) -> Balance:
    return Balance(holdings={"USD": holding("1")}, as_of=NOW, wallets=wallets)


def test_a_wallet_that_could_not_be_read_keeps_what_was_known_of_it_and_says_why() -> None:
    found = with_wallets(funding=UNREAD).after(with_wallets(funding=READ))
    assert found.wallets["funding"] == Wallet(holdings=READ.holdings, as_of=BEFORE, trouble="timed out")
    assert (found.holdings, found.as_of) == (with_wallets().holdings, NOW), "and nothing else is changed"
    again = with_wallets(funding=UNREAD).after(found)
    assert again.wallets["funding"].as_of == BEFORE, "its age goes on from when it was read"


def test_a_wallet_that_was_never_read_stays_unknown_and_one_that_was_read_is_new() -> None:
    unknown = with_wallets(funding=UNREAD)
    assert unknown.after(None) is unknown
    assert unknown.after(with_wallets()).wallets == unknown.wallets
    assert unknown.after(unknown).wallets["funding"].holdings is None
    fresh = with_wallets(funding=READ)
    assert fresh.after(unknown) is fresh
    assert with_wallets().after(fresh).wallets == {}, "an account that has none any more"
    both = with_wallets(one=UNREAD, two=READ).after(with_wallets(one=READ, two=UNREAD))
    assert {name: wallet.holdings for name, wallet in both.wallets.items()} == {
        "one": READ.holdings,
        "two": READ.holdings,
    }
    assert both.wallets["two"].trouble == ""


@given(
    chain=st.lists(st.dictionaries(st.sampled_from("ab"), our.wallets(), max_size=2), min_size=1, max_size=6)
)
def test_of_each_wallet_the_newest_reading_is_known_however_often_it_failed_since(
    chain: list[dict[str, Wallet]],
) -> None:
    known: Balance | None = None
    for wallets in chain:
        known = with_wallets(**wallets).after(known)
    assert known is not None
    assert known.wallets.keys() == chain[-1].keys()
    for name, wallet in known.wallets.items():
        # Back to where the account had no such wallet at all.
        unbroken = list(itertools.takewhile(lambda one: name in one, reversed(chain)))  # noqa: B023 - used at once
        read = [one[name] for one in unbroken if one[name].holdings is not None]
        assert wallet.holdings == (read[0].holdings if read else None)
        assert wallet.trouble == chain[-1][name].trouble
        assert wallet.as_of == (read[0] if read else chain[-1][name]).as_of or not read


def test_wallets_are_money_too_and_cannot_be_changed() -> None:
    mine = {"USDT": holding("1")}
    wallet = Wallet(holdings=mine, as_of=NOW)
    mine["USDT"] = holding("2")
    assert dict(wallet.holdings or {}) == {"USDT": holding("1")}
    for wrong in ({"": holding("1")}, {"A\nB": holding("1")}, {f"C{n}": holding("1") for n in range(4_001)}):
        with pytest.raises(ValueError, match=r"not a currency code|currencies in one account"):
            Wallet(holdings=wrong, as_of=NOW)
    wallets = {"funding": wallet}
    balance = Balance(holdings={}, as_of=NOW, wallets=wallets)
    wallets["other"] = wallet
    assert set(balance.wallets) == {"funding"}


def test_a_fault_keeps_as_much_of_the_exchanges_words_as_a_reading_may_show() -> None:
    assert Fault(FaultKind.NETWORK, "x" * MAX_DETAIL).detail == "x" * 256
    assert Fault(FaultKind.NETWORK, "x" * (MAX_DETAIL + 1)).detail == "x" * 255 + "…"


def test_the_numbers_of_the_states_are_fixed_for_ever() -> None:
    assert {state.name: int(state) for state in HealthState} == {
        "UNKNOWN": 0,
        "HEALTHY": 1,
        "DEGRADED": 2,
        "UNAVAILABLE": 3,
        "RECOVERING": 4,
        "MAINTENANCE": 5,
    }


def test_the_reasons_are_the_closed_list() -> None:
    assert {reason.value for reason in Reason} == {
        *("ok", "errors", "never_seen", "silent", "restarting", "failed", "held_out", "locked_out", "auth"),
        *("maintenance", "recovering", "blind", "local_network", "shutdown", "nothing_heard", "config"),
    }


# Readings -------------------------------------------------------------------------------------------


def reading(**values: Any) -> Reading:
    usual: dict[str, Any] = {
        "broker": "kraken-main",
        "exchange": "kraken",
        "simulated": True,
        "broker_epoch": "1800000000000000-0000abcd",
        "version": 7,
        "state": HealthState.DEGRADED,
        "verdict": Verdict(available=True, reason=Reason.OK),
        "detail": "timed out",
        "since_us": NOW.wall_us,
        "error_count": 1,
        "fault": FaultKind.NETWORK,
        "as_of": NOW,
        "cash": Decimal("1234.56"),
        "balance": {"USD": holding("1234.56", "1234.56"), "BTC": holding("0.50000000")},
        "labels": {"desk": "one"},
        "valid_until_s": 1_005.0,
        "clock": ManualClock(),
    }
    return Reading(**{**usual, **values})


def test_a_reading_that_nobody_renews_turns_unavailable_by_itself() -> None:
    clock = ManualClock()
    kept = reading(clock=clock)
    clock.advance(4.999)
    assert (kept.available, kept.reason, kept.expired) == (True, Reason.OK, False)
    clock.advance(0.001)
    assert (kept.available, kept.reason, kept.expired) == (False, Reason.SILENT, True)
    assert kept.data().available is False
    assert kept.data().reason is Reason.SILENT
    assert kept.available_until_s == 1_005.0
    refused = reading(clock=clock, verdict=Verdict(available=False, reason=Reason.ERRORS))
    assert refused.reason is Reason.ERRORS, "what was wrong before it expired is still what is wrong"
    assert refused.available_until_s == float("-inf")


def test_the_age_of_a_balance_follows_the_monotonic_clock_alone() -> None:
    clock = ManualClock()
    kept = reading(clock=clock)
    clock.jump_wall(-86_400.0)
    clock.advance(1.5)
    assert (kept.age_ms, kept.as_of_us) == (1_500, NOW.wall_us)
    never = reading(as_of=None)
    assert (never.age_ms, never.as_of_us) == (None, None)


@pytest.mark.parametrize(
    ("values", "stale"),
    [
        ({"state": HealthState.HEALTHY}, False),
        ({"state": HealthState.DEGRADED}, True),
        ({"state": HealthState.UNKNOWN}, True),
        ({"state": HealthState.HEALTHY, "as_of": None}, True),
        ({"state": HealthState.HEALTHY, "valid_until_s": 1_000.0}, True),
        ({"state": HealthState.HEALTHY, "verdict": Verdict(available=False, reason=Reason.SILENT)}, True),
        ({"state": HealthState.HEALTHY, "verdict": Verdict(available=False, reason=Reason.HELD_OUT)}, False),
    ],
)
def test_a_balance_is_stale_unless_it_is_the_newest_truth(values: dict[str, Any], stale: bool) -> None:
    assert reading(**values).stale is stale


@pytest.mark.parametrize(("after_s", "stale"), [(0.0, False), (59.999, False), (60.0, False), (60.001, True)])
def test_a_balance_beyond_its_age_is_stale_by_the_monotonic_clock_alone(after_s: float, stale: bool) -> None:
    clock = ManualClock(up_s=NOW.up_s)
    fresh = reading(clock=clock, state=HealthState.HEALTHY, max_age_s=60.0, valid_until_s=1e9)
    boundless = msgspec.structs.replace(fresh, max_age_s=None)
    clock.jump_wall(1e9)
    clock.advance(after_s)
    assert fresh.stale is fresh.data().stale is stale
    assert not boundless.stale
    assert fresh.available, "an old balance is stale; whether the account can be trusted is another matter"


def test_what_a_reading_says_of_other_calls_survives_the_wire_and_stays_out_of_the_roster() -> None:
    limited = Capability(
        state=CapabilityState.LIMITED, reason="cancel_only", detail="the exchange's own words", since_us=7
    )
    told = reading(state=HealthState.HEALTHY, overtaken=True, capabilities={"trade": limited})
    data = told.data()
    again = Reading.received(data, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
    assert again.overtaken
    assert again.stale
    assert again.capabilities == {"trade": limited}
    assert told.data(with_balance=False).capabilities == {}
    assert told.data(with_cash=False).capabilities["trade"].detail == ""


def test_the_limit_of_age_stands_on_the_wire_only_where_there_is_one() -> None:
    assert reading().data().max_age_ms is None
    limited = reading(max_age_s=60.0).data()
    assert limited.max_age_ms == 60_000
    got = Reading.received(limited, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
    assert got.max_age_s == 60.0
    message = Envelope(type=MessageType.READING, stamp=stamp(), data=limited)
    assert words(message)["data"]["max_age_ms"] == 60_000
    assert "max_age_ms" not in words(example(MessageType.READING))["data"]


def test_the_parts_of_a_holding_stand_on_the_wire_only_where_they_are_not_zero() -> None:
    plain_one = Holding(free=Decimal(1), used=Decimal(2), total=Decimal(3), staked=Decimal("0.00"))
    whole = Holding(
        free=Decimal(1), used=Decimal(2), total=Decimal(3), staked=Decimal("1.5"), earning=Decimal("0.50")
    )
    data = reading(balance={"A": plain_one, "B": whole}).data()
    assert data.balance is not None
    message = Envelope(type=MessageType.READING, stamp=stamp(), data=data)
    sent = words(message)["data"]["balance"]
    assert sent["A"] == {"free": "1", "used": "2", "total": "3"}
    assert sent["B"] == {"free": "1", "used": "2", "total": "3", "staked": "1.5", "earning": "0.50"}
    got = Reading.received(data, clock=ManualClock(), sent_up_s=1_000.0, valid_until_s=1e9)
    assert got.balance == {"A": plain_one, "B": whole}


def test_an_unknown_balance_is_null_on_the_wire_and_never_zero() -> None:
    data = reading(as_of=None, cash=None, balance=None).data()
    assert (data.cash, data.balance, data.as_of_us, data.age_ms) == (None, None, None, None)


def test_whoever_keeps_balances_private_shows_neither_cash_nor_holdings() -> None:
    private = reading().data(with_cash=False)
    assert (private.cash, private.balance) == (None, None)
    in_roster = Roster((reading(),)).data().readings[0]
    assert (in_roster.cash, in_roster.balance) == ("1234.56", None)
    assert Roster((reading(),)).data(with_cash=False).readings[0].cash is None


@settings(max_examples=our.examples(60))
@given(said=our.readings(), delay_s=st.floats(0.0, 10.0))
def test_who_receives_a_reading_says_the_same_of_the_broker(said: Reading, delay_s: float) -> None:
    theirs = ManualClock(up_s=5_000.0)
    theirs.advance(delay_s)
    data = said.data()
    got = Reading.received(data, clock=theirs, sent_up_s=5_000.0, valid_until_s=float("inf"))
    again = got.data()
    if data.age_ms is not None:
        assert again.age_ms == pytest.approx(data.age_ms + delay_s * 1_000, rel=1e-9, abs=1.0)
    same = msgspec.structs.replace(again, age_ms=data.age_ms, stale=data.stale)
    assert same == data


# Topics ---------------------------------------------------------------------------------------------


@given(one=st.tuples(our.names(), our.names()), other=st.tuples(our.names(), our.names()))
def test_no_topic_of_a_broker_is_a_prefix_of_another_brokers(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    for mine in our.topics_of(*one):
        for theirs in (*our.topics_of(*other), topics.ROSTER):
            if one != other or theirs == topics.ROSTER:
                assert not theirs.startswith(mine)
                assert not mine.startswith(topics.ROSTER)


@given(topic=our.all_topics())
def test_every_topic_ends_in_a_slash_and_has_plain_segments(topic: str) -> None:
    assert topic.endswith("/")
    assert len(topic.encode("ascii")) <= 128
    assert all(topics.is_name(segment) for segment in topic[:-1].split("/"))


def test_the_topics_are_those_of_the_protocol() -> None:
    assert topics.ROSTER == "health/1/all/"
    assert our.topics_of("okx", "main") == (
        "health/1/state/okx/main/",
        "broker/1/okx/main/balance/",
        "broker/1/okx/main/error/",
        "broker/1/okx/main/alive/",
    )
    assert topics.state("okx", "main").startswith(topics.ALL_STATES)
    assert topics.alive("okx", "main").startswith(topics.ALL_BROKERS)
    assert not topics.state("okx", "mainx").startswith(topics.state("okx", "main"))


@pytest.mark.parametrize("name", ["a", "0", "kraken-main_2", "a" * 48])
def test_a_name_may_stand_in_a_topic(name: str) -> None:
    assert topics.is_name(name)


@pytest.mark.parametrize("name", ["", "A", "a" * 49, "-a", "_a", "a/b", "a b", "a\n", "ä", "a.b", "*"])
def test_what_cannot_stand_in_a_topic_is_no_name(name: str) -> None:
    assert not topics.is_name(name)


# Epochs ---------------------------------------------------------------------------------------------


@given(start_us=st.integers(1, 10**15), predecessor=our.epochs())
def test_the_next_epoch_is_later_whatever_the_wall_clock_says(start_us: int, predecessor: str) -> None:
    if int(predecessor[:16]) < 10**16 - 1:
        epoch = next_epoch(start_us, predecessor, "00000000")
        assert epoch[:16] > predecessor[:16]
        assert epoch > predecessor
        assert int(epoch[:16]) >= start_us


def test_the_first_epoch_is_the_hour_and_the_entropy() -> None:
    assert next_epoch(NOW.wall_us, "", "0000abcd") == "1800000000000000-0000abcd"
    assert next_epoch(5, "1800000000000000-ffffffff", "00000000") == "1800000000000001-00000000"


# The codec ------------------------------------------------------------------------------------------


def stamp(**values: Any) -> Stamp:
    usual: dict[str, Any] = {
        "src": "supervisor/main",
        "epoch": "1800000000000000-0000abcd",
        "seq": 1,
        "ts_us": NOW.wall_us,
        "up_us": 5_000_000,
        "ttl_ms": 5_000,
    }
    return Stamp(**{**usual, **values})


def example(kind: MessageType) -> Envelope:
    """One message of each type, for ever the same."""
    if kind is MessageType.ROSTER:
        quiet = reading(
            broker="okx-2",
            exchange="okx",
            state=HealthState.UNKNOWN,
            verdict=Verdict(available=False, reason=Reason.NEVER_SEEN),
            as_of=None,
            cash=None,
            balance=None,
            labels={},
            fault=None,
            error_count=0,
            detail="",
            broker_epoch="",
            version=0,
        )
        return Envelope(type=kind, stamp=stamp(), data=Roster((reading(), quiet)).data())
    if kind is MessageType.READING:
        return Envelope(type=kind, stamp=stamp(), data=reading().data())
    own: dict[MessageType, dict[str, Any]] = {
        MessageType.BALANCE_SEEN: {
            "state": HealthState.HEALTHY,
            "error_count": 0,
            "fault": None,
            "detail": "",
        },
        MessageType.FETCH_FAILED: {
            "state": HealthState.UNAVAILABLE,
            "error_count": 3,
            "verdict": Verdict(available=False, reason=Reason.ERRORS),
        },
        MessageType.BROKER_ALIVE: {"version": 8},
    }
    broker = stamp(src="broker/kraken/kraken-main", seq=2)
    return Envelope(type=kind, stamp=broker, data=reading(**own[kind]).data())


def plain(kind: MessageType = MessageType.READING) -> dict[str, Any]:
    """The maps and texts of an example, to be spoilt."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(words(example(kind))))
    return found


def pack(message: object) -> bytes:
    return cast("bytes", _msgpack.packb(message))


def hex_lines(body: bytes) -> str:
    text = body.hex()
    return "".join(text[start : start + 96] + "\n" for start in range(0, len(text), 96))


def write_golden() -> None:
    """What every released version must be able to read; change it only together with the protocol."""
    GOLDEN.mkdir(exist_ok=True)
    for kind in MessageType:
        (GOLDEN / f"{kind.value}.hex").write_text(hex_lines(encode(example(kind))), encoding="ascii")


@pytest.mark.parametrize("kind", MessageType)
def test_the_bytes_of_a_message_are_those_that_were_released(kind: MessageType) -> None:
    body = bytes.fromhex((GOLDEN / f"{kind.value}.hex").read_text(encoding="ascii"))
    assert encode(example(kind)) == body
    assert decode(body) == example(kind)


@given(message=our.envelopes())
def test_a_message_survives_the_wire(message: Envelope) -> None:
    assert decode(encode(message)) == message


def refuse(body: bytes) -> None:
    with pytest.raises(CodecError):
        decode(body)


def check(body: bytes) -> bool:
    """Whether it is a message; and nothing but a CodecError comes out when it is none."""
    try:
        message = decode(body)
    except CodecError:
        return False
    assert decode(encode(message)) == message
    return True


@settings(max_examples=our.examples(300))
@given(body=st.binary(max_size=60))
def test_random_bytes_are_no_message(body: bytes) -> None:
    assert not check(body)


@settings(max_examples=our.examples(150))
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(st.characters(codec="utf-8"), max_size=5)
        | st.binary(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(("v", "type", "data", "seq")), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_well_formed_msgpack_of_another_shape_is_no_message(value: object) -> None:
    assert not check(pack(value))


@pytest.mark.parametrize("kind", MessageType)
def test_a_message_with_any_one_byte_changed_is_a_message_or_an_error(kind: MessageType) -> None:
    body = encode(example(kind))
    still = 0
    for place, byte in enumerate(body):
        for other in {byte ^ 0x01, byte ^ 0x80, 0x00, 0x90, 0xC0, 0xC1, 0xCB, 0xDB, 0xDD, 0xDF, 0xFF} - {
            byte
        }:
            still += check(body[:place] + bytes((other,)) + body[place + 1 :])
    assert still, "some changes only change a letter of the detail"


@pytest.mark.parametrize("kind", list(MessageType))
def test_the_short_way_and_the_long_one_through_the_decoder_come_to_the_same(
    kind: MessageType, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encode(example(kind))
    spoilt = [body]
    for at in range(len(body)):
        spoilt += [body[:at] + bytes([byte]) + body[at + 1 :] for byte in {0, 0xA1, 0xC4, body[at] ^ 1}]
    short = [_outcome(one) for one in spoilt]
    monkeypatch.setattr("brokerwatch.messages.codec._reading", _nothing_known)
    assert short == [_outcome(one) for one in spoilt]
    assert short[0] == example(kind)


def _nothing_known(body: bytes) -> None:
    del body


def _outcome(body: bytes) -> Envelope | None:
    try:
        return decode(body)
    except CodecError:
        return None


@pytest.mark.parametrize("kind", list(MessageType))
def test_a_message_that_was_cut_off_or_goes_on_is_refused(kind: MessageType) -> None:
    body = encode(example(kind))
    for length in range(len(body)):
        refuse(body[:length])
    refuse(body + b"\x00")
    refuse(body + body)


def hostile() -> Iterator[tuple[str, bytes]]:
    """Bytes that promise more than they hold, or nest deeper than anybody reads."""
    for code, word in ((0xDC, "array 16"), (0xDE, "map 16"), (0xDA, "text 16"), (0xC5, "bin 16")):
        yield word, bytes((code,)) + struct.pack(">H", 0xFFFF)
    for code, word in ((0xDD, "array 32"), (0xDF, "map 32"), (0xDB, "text 32"), (0xC6, "bin 32")):
        yield word, bytes((code,)) + struct.pack(">I", 0xFFFF_FFFF)
    yield "ext 32", b"\xc9" + struct.pack(">I", 0xFFFF_FFFF) + b"\x01"
    yield "timestamp", b"\xd6\xff\x00\x00\x00\x00"
    yield "a short timestamp", b"\xc7\x00\xff"
    yield "the code that is never used", b"\xc1"
    for depth in (500, 1_000, 100_000):
        yield f"{depth} arrays", b"\x91" * depth + b"\xc0"
        yield f"{depth} maps", b"\x81\xa1a" * depth + b"\xc0"
    yield "half a million empty maps", b"\xdd" + struct.pack(">I", 500_000) + b"\x80" * 500_000
    yield "text that is no UTF-8", b"\x81\xa1v\xa2\xff\xfe"
    yield "a key that is a number", b"\x81\x01\x01"
    yield "nothing", b""
    yield "too large", b"\xc0" * (MAX_BODY_BYTES + 1)


@pytest.mark.parametrize(("word", "body"), list(hostile()), ids=[word for word, _ in hostile()])
def test_a_hostile_body_is_refused(word: str, body: bytes) -> None:
    refuse(body)
    # And in place of a value in a message of ours. Where it is not looked at, moderate nesting is no harm.
    whole = pack({**plain(), "extra": 0})
    assert check(whole)
    if 0 < len(body) < MAX_BODY_BYTES:
        assert check(whole[:-1] + body) is (word in {"500 arrays", "500 maps", "1000 arrays", "1000 maps"})


@pytest.mark.parametrize("version", [0, 2, -1, 1.0, True, "1", None, [1], {"v": 1}, 2**63])
def test_another_protocol_version_is_refused(version: object) -> None:
    refuse(pack({**plain(), "v": version}))


@pytest.mark.parametrize("kind", ["", "Reading", "READING", "unknown", "__class__", 1, None, ["reading"]])
def test_an_unknown_type_is_refused(kind: object) -> None:
    refuse(pack({**plain(), "type": kind}))


ENVELOPE_KEYS: Final = ("v", "type", "src", "epoch", "seq", "ts_us", "up_us", "ttl_ms", "data")
READING_KEYS: Final = (
    *("broker", "exchange", "simulated", "broker_epoch", "version", "state", "status", "available", "reason"),
    *(
        "detail",
        "since_us",
        "error_count",
        "fault",
        "as_of_us",
        "age_ms",
        "stale",
        "cash",
        "balance",
        "labels",
    ),
)


OPTIONAL_KEYS: Final = ("max_age_ms", "staked", "earning")
"""They came later, and a receiver must do without them."""


@pytest.mark.parametrize("key", ENVELOPE_KEYS)
def test_a_key_that_is_missing_from_the_envelope_is_an_error(key: str) -> None:
    message = plain()
    del message[key]
    refuse(pack(message))


@pytest.mark.parametrize("key", READING_KEYS)
def test_a_key_that_is_missing_from_the_data_is_an_error(key: str) -> None:
    message = plain()
    del message["data"][key]
    refuse(pack(message))
    roster = plain(MessageType.ROSTER)
    del roster["data"]["readings"][1][key]
    refuse(pack(roster))


@settings(max_examples=our.examples(40))
@given(
    key=our.texts(12).filter(lambda key: key not in ENVELOPE_KEYS + READING_KEYS + OPTIONAL_KEYS),
    value=st.none() | st.integers(0, 9) | our.texts(5) | st.lists(st.floats()),
)
def test_a_key_that_we_do_not_know_is_ignored(key: str, value: object) -> None:
    message = plain()
    message[key] = value
    message["data"][key] = value
    message["data"]["balance"]["USD"][key] = value
    assert decode(pack(message)) == example(MessageType.READING)


NOTHING: Final[list[object]] = []
WRONG_VALUES: Final[tuple[tuple[str, object], ...]] = (
    *(("seq", wrong) for wrong in (0, -1, 1.0, True, "1", None, [1])),
    *((key, wrong) for key in ("up_us", "ttl_ms") for wrong in (-1, 1.0, True, "1", None)),
    *(("ts_us", wrong) for wrong in (1.0, float("nan"), True, "1", None)),
    *(("src", wrong) for wrong in ("", "x" * 129, 1, None, b"x")),
    *(
        ("epoch", wrong)
        for wrong in ("", "1", "1800000000000000-0000ABCD", "1800000000000000-0000abcd\n", "x" * 25, 1, None)
    ),
    *(("data", wrong) for wrong in (None, NOTHING, "x", {"readings": NOTHING})),
    *(
        (f"data.{key}", wrong)
        for key in ("broker", "exchange")
        for wrong in ("", "A/b", "a\n", "a" * 49, 1, None)
    ),
    *(
        (f"data.{key}", wrong)
        for key in ("simulated", "available", "stale")
        for wrong in (0, 1, "true", None)
    ),
    *((f"data.{key}", wrong) for key in ("version", "error_count") for wrong in (-1, 1.0, True, "1", None)),
    *(("data.state", wrong) for wrong in (6, -1, 1.0, True, "healthy", "1", None)),
    *(("data.reason", wrong) for wrong in ("", "fine", "OK", 1, None)),
    *(("data.fault", wrong) for wrong in ("", "odd", 1, False)),
    *(("data.detail", wrong) for wrong in ("x" * 257, 1, None, b"")),
    *(("data.status", wrong) for wrong in ("x" * 17, 1, None)),
    *(("data.since_us", wrong) for wrong in (1.0, "1", None)),
    *(("data.as_of_us", wrong) for wrong in (1.0, "1", True)),
    *(("data.age_ms", wrong) for wrong in (-1, 1.0, "1", True)),
    *(("data.max_age_ms", wrong) for wrong in (-1, 1.0, "1", True)),
    *(
        (key, wrong)
        for key in (
            "data.cash",
            *(f"data.balance.USD.{part}" for part in ("free", "used", "total", "staked", "earning")),
        )
        for wrong in (
            *("1e5", "NaN", "Infinity", "", "+1", "1.", ".5", "1\n", "1_0", "9" * 31, "0." + "1" * 19),
            1,
            1.5,
        )
    ),
    *((f"data.balance.USD.{part}", None) for part in ("free", "staked", "earning")),
    *(
        ("data.balance", wrong)
        for wrong in (NOTHING, "x", {"USD": None}, {"USD": "1"}, {"USD": {"free": "1"}})
    ),
    *(("data.labels", wrong) for wrong in (None, NOTHING, {"a": 1}, {"a": None}, {"a": "x" * 5_000})),
)


@pytest.mark.parametrize(("path", "wrong"), WRONG_VALUES)
def test_a_value_of_the_wrong_type_or_out_of_its_range_is_an_error(path: str, wrong: object) -> None:
    message = plain()
    assert check(pack(message))
    *way, last = path.split(".")
    inner = message
    for part in way:
        inner = inner[part]
    inner[last] = wrong
    refuse(pack(message))


def test_the_data_must_be_that_of_the_type() -> None:
    refuse(pack({**plain(), "type": "roster"}))
    refuse(pack({**plain(MessageType.ROSTER), "type": "reading"}))


@pytest.mark.parametrize("wrong", [b"x", _msgpack.ExtType(5, b"x"), _msgpack.Timestamp(1, 0)])
def test_bin_and_ext_types_are_refused_even_where_nobody_looks(wrong: object) -> None:
    refuse(pack({**plain(), "extra": wrong}))


def test_a_message_that_no_receiver_would_take_is_not_sent() -> None:
    huge = msgspec.structs.replace(reading().data(), labels={f"{n}": "x" * 4_000 for n in range(300)})
    with pytest.raises(CodecError, match="receivers accept 1,048,576"):
        encode(Envelope(type=MessageType.READING, stamp=stamp(), data=huge))


# The largest things that we send --------------------------------------------------------------------


def test_the_largest_account_fits_into_a_message() -> None:
    number = f"-{LONGEST}"
    held = HoldingData(free=number, used=number, total=number)
    balance = {f"{n:020d}": held for n in range(MAX_CURRENCIES)}
    data = msgspec.structs.replace(
        reading().data(), balance=balance, cash=LONGEST, detail="\N{MONEY BAG}" * MAX_DETAIL
    )
    message = Envelope(type=MessageType.READING, stamp=stamp(), data=data)
    assert decode(encode(message)) == message


def test_a_roster_of_five_hundred_brokers_fits_into_a_message() -> None:
    one = msgspec.structs.replace(
        reading().data(with_balance=False),
        broker="b" * 48,
        exchange="e" * 48,
        detail="é" * MAX_DETAIL,
        cash=LONGEST,
        labels={"desk": "l" * 100},
    )
    message = Envelope(type=MessageType.ROSTER, stamp=stamp(), data=RosterData(readings=(one,) * 500))
    assert decode(encode(message)) == message


def test_what_came_in_is_passed_on_as_it_came_and_is_the_same_money() -> None:
    data = decode(encode(example(MessageType.READING))).data
    assert isinstance(data, ReadingData)
    assert data.balance is not None
    heard = Reading.received(data, clock=ManualClock(), sent_up_s=1.0, valid_until_s=9.0)
    assert heard.data().balance == data.balance
    assert heard.balance is not None
    assert isinstance(heard.balance, LazyHoldings)
    same = {code: heard.balance[code] for code in heard.balance}
    assert all(isinstance(held.free, Decimal) for held in same.values())
    shown: object = heard.balance
    assert shown == same
    assert repr(heard.balance) == repr(same)
    zeros = {
        code: msgspec.structs.replace(held, free=held.free + ("0" if "." in held.free else ".0"))
        for code, held in data.balance.items()
    }
    assert LazyHoldings(zeros) == heard.balance, "more zeros are the same amount"
    code = next(iter(data.balance))
    other = {**data.balance, code: msgspec.structs.replace(data.balance[code], used="7")}
    assert LazyHoldings(other) != heard.balance
    with pytest.raises(KeyError):
        heard.balance["XYZ"]


# The schema -----------------------------------------------------------------------------------------


def properties(of: type[msgspec.Struct], *optional: str) -> dict[str, Any]:
    """What the exported schema says of each key; every key is required but the optional ones."""
    schema = msgspec.json.schema(of)
    found = schema["$defs"][of.__name__]
    assert [*found["required"], *optional] == list(found["properties"])
    keys: dict[str, Any] = found["properties"]
    return keys


def test_the_exported_schema_has_the_keys_of_the_protocol_and_no_others() -> None:
    later = ("max_age_ms", "overtaken", "capabilities")
    assert tuple(properties(ReadingData, *later)) == (*READING_KEYS, *later)
    assert ("v", "type", *properties(Stamp), "data") == ENVELOPE_KEYS
    assert tuple(properties(RosterData, "part", "parts")) == ("readings", "part", "parts")
    assert tuple(words(example(MessageType.ROSTER))["data"]) == ("readings",), "a roster in one part"
    parts = ("free", "used", "total", "staked", "earning")
    assert tuple(properties(HoldingData, "staked", "earning")) == parts
    for kind in MessageType:
        assert tuple(words(example(kind))) == ENVELOPE_KEYS
    assert tuple(words(example(MessageType.READING))["data"]) == READING_KEYS


def test_the_exported_schema_has_the_types_of_the_protocol() -> None:
    def kind(rule: dict[str, Any]) -> set[str]:
        if "$ref" in rule:
            return {str(rule["$ref"]).rpartition("/")[2]}
        parts = rule.get("anyOf", [rule])
        return {name for part in parts for name in (kind(part) if "$ref" in part else {str(part["type"])})}

    later = ("max_age_ms", "overtaken", "capabilities")
    assert {key: kind(rule) for key, rule in properties(ReadingData, *later).items()} == {
        "broker": {"string"},
        "exchange": {"string"},
        "simulated": {"boolean"},
        "broker_epoch": {"string"},
        "version": {"integer"},
        "state": {"HealthState"},
        "status": {"string"},
        "available": {"boolean"},
        "reason": {"Reason"},
        "detail": {"string"},
        "since_us": {"integer"},
        "error_count": {"integer"},
        "fault": {"FaultKind", "null"},
        "as_of_us": {"integer", "null"},
        "age_ms": {"integer", "null"},
        "stale": {"boolean"},
        "cash": {"string", "null"},
        "balance": {"object", "null"},
        "labels": {"object"},
        "max_age_ms": {"integer", "null"},
        "overtaken": {"boolean"},
        "capabilities": {"object"},
    }


if __name__ == "__main__":
    write_golden()
