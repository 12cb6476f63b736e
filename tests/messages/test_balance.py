"""Amounts, holdings and balances: exact, bounded, and never zero for what is unknown."""

from __future__ import annotations

import itertools
from decimal import Decimal, localcontext
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.messages import (
    Balance,
    Holding,
    Wallet,
    amount,
)
from brokerwatch.messages.balance import MAX_CURRENCIES, amount_text, is_amount_text
from tests.support import strategies as our
from tests.support.wire_examples import LONGEST, NOW, holding

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


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1E+30", "1E-19", "-1E+30"])
@pytest.mark.parametrize("part", ["free", "used", "total", "staked", "earning"])
def test_a_holding_that_the_wire_cannot_carry_is_refused(part: str, bad: str) -> None:
    parts: dict[str, Any] = {"free": Decimal(1), "used": Decimal(1), "total": Decimal(1), part: Decimal(bad)}
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


def test_an_amount_that_is_unknown_makes_a_sum_unknown_and_no_smaller() -> None:
    unknown = Holding(free=None, used=None, total=Decimal(5))
    balance = Balance(holdings={"USD": holding("100"), "USDT": unknown}, as_of=NOW)
    assert balance.cash(("USD",)) == Decimal(100), "another currency takes nothing away"
    assert balance.cash(("USD", "USDT")) is None
    assert balance.held(("USD",)) == Decimal(0)
    assert balance.held(("USD", "USDT")) is None
    assert unknown.known == ("total",)
    with pytest.raises(ValueError, match="free, used or the total of a holding must be known"):
        Holding(free=None, used=None, total=None)


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
