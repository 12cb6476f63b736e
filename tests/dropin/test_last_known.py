"""The last known balance of a guarded instance: marked, bounded in age, and one for each account."""

from __future__ import annotations

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.dropin.guard import guard
from brokerwatch.dropin.last_known import MAX_ACCOUNTS
from brokerwatch.errors import BalanceUnknown
from brokerwatch.health.stated import AGREEING_OVER_S, AGREEING_READS
from brokerwatch.simulator import (
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
)
from tests.support.guarded_bots import alike, bot_on, both_modes, ccxt, every_kind

# --- the last known --------------------------------------------------------------------------------------


@both_modes
def test_three_errors_in_a_row_make_it_unavailable_and_one_success_brings_it_back(mode: str) -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine)
        bot.balance_of(safe)
        exchange.set_fault("http_502_html")
        for count in (1, 2, 3):
            assert safe.is_available()
            with pytest.raises(ccxt.ExchangeNotAvailable):
                bot.balance_of(safe)
            assert safe.get_error_count() == count
        assert not safe.is_available()
        exchange.mend()
        bot.balance_of(safe)
        assert (safe.is_available(), safe.get_error_count()) == (True, 0)


@both_modes
def test_what_was_never_read_is_never_served(mode: str) -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine, last_known=True)
        exchange.set_fault("empty_body")
        assert safe.last_known() is None
        with pytest.raises(BalanceUnknown):
            bot.balance_of(safe)
        assert safe.last_known() is None


def test_a_last_known_that_is_too_old_raises() -> None:
    clock = ManualClock()
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, last_known=True, max_age_s=60, clock=clock)
        fresh = bot.balance_of(safe)
        exchange.set_fault("empty_body")
        clock.advance(60.0)
        assert bot.balance_of(safe)["brokerwatch"] == {
            "stale": True,
            "age_ms": 60_000,
            "as_of": "2027-01-15T08:00:00.000Z",
            "fault": "bad_response",
            "detail": "BadResponse: HTTP 200 OK: an empty body",
            "error_count": 1,
        }
        clock.advance(0.001)
        with pytest.raises(BalanceUnknown):
            bot.balance_of(safe)
        known = safe.last_known()
        assert known["brokerwatch"]["stale"] is True
        assert alike(known) == alike(fresh)


def test_a_last_known_is_not_changed_by_who_got_it() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, last_known=True)
        read = bot.balance_of(safe)
        as_read = alike(read)
        read["total"].clear()
        assert alike(safe.last_known()) == as_read
        exchange.set_fault("closed")
        bot.balance_of(safe)["total"].clear()
        safe.last_known()["info"].clear()
        assert alike(bot.balance_of(safe)) == as_read


def test_parts_of_a_balance_have_no_mark_so_they_are_never_the_last_known() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, last_known=True)
        bot.balance_of(safe)
        exchange.set_fault("empty_body")
        for ask in (safe.fetch_free_balance, safe.fetch_used_balance, safe.fetch_total_balance):
            with pytest.raises(BalanceUnknown):
                ask()
        with pytest.raises(BalanceUnknown):
            safe.fetch_partial_balance("free")


@both_modes
def test_each_account_of_one_key_has_a_last_known_of_its_own(mode: str) -> None:
    exchange = SimulatedOkx()
    exchange.set_funding({"USDT": ("9", "0")})
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine, last_known=True)
        trading = bot.balance_of(safe)
        assert safe.last_known({"type": "funding"}) is None
        exchange.set_fault("closed")
        with pytest.raises(BalanceUnknown):
            bot.balance_of(safe, {"type": "funding"})
        assert alike(bot.balance_of(safe)) == alike(trading)
        exchange.mend()
        funding = bot.balance_of(safe, {"type": "funding"})
        assert alike(funding) == alike(bot.balance_of(bot.mine, {"type": "funding"}))
        assert alike(safe.last_known({"type": "funding"})) == alike(funding)
        assert alike(safe.last_known()) == alike(trading) != alike(funding)


def test_the_accounts_that_are_remembered_have_a_limit() -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine)
        for number in range(MAX_ACCOUNTS + 1):
            bot.balance_of(safe, {"number": number})
        known = [number for number in range(MAX_ACCOUNTS + 1) if safe.last_known({"number": number})]
        assert len(known) >= MAX_ACCOUNTS - 1
        assert 0 not in known


# --- empty accounts --------------------------------------------------------------------------------------


@every_kind
def test_an_account_that_suddenly_states_nothing_is_believed_when_it_stays_so(
    kind: type[SimulatedExchange],
) -> None:
    clock = ManualClock()
    exchange = kind()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock)
        assert bot.balance_of(safe)["total"]
        exchange.set_balance({})
        for _ in range(AGREEING_READS - 1):
            with pytest.raises(ccxt.BadResponse, match="no currency at all"):
                bot.balance_of(safe)
            clock.advance(AGREEING_OVER_S / (AGREEING_READS - 1))
        assert bot.balance_of(safe)["total"] == {}
        assert safe.is_available()


@every_kind
def test_what_fails_between_empty_answers_begins_their_count_again(kind: type[SimulatedExchange]) -> None:
    clock = ManualClock()
    exchange = kind()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock)
        bot.balance_of(safe)
        exchange.set_balance({})
        for fault in ("", "", "empty_body", "", ""):
            exchange.set_fault(fault) if fault else exchange.mend()
            clock.advance(AGREEING_OVER_S)
            with pytest.raises(BalanceUnknown):
                bot.balance_of(safe)


@every_kind
def test_a_new_account_that_is_empty_is_believed_when_it_stays_so_and_has_no_errors(
    kind: type[SimulatedExchange],
) -> None:
    clock = ManualClock()
    exchange = kind()
    exchange.set_balance({})
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock)
        for _ in range(AGREEING_READS - 1):
            with pytest.raises(BalanceUnknown, match="empty, confirming"):
                bot.balance_of(safe)
            clock.advance(AGREEING_OVER_S / (AGREEING_READS - 1))
        assert safe.get_error_count() == 0
        assert bot.balance_of(safe)["total"] == {}


@every_kind
def test_a_currency_that_is_not_stated_keeps_its_total_and_nothing_of_it_is_free(
    kind: type[SimulatedExchange],
) -> None:
    clock = ManualClock()
    exchange = kind()
    exchange.set_balance({"USDC": ("50", "0"), "BTC": ("2", "0")})
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock, last_known=True)
        before = bot.balance_of(safe)
        exchange.set_balance({"USDC": ("40", "0"), "BTC": ("2", "0")})
        exchange.leave_out("BTC")
        for _ in range(AGREEING_READS - 1):
            found = bot.balance_of(safe)
            assert found["BTC"] == {"free": None, "used": None, "total": before["BTC"]["total"]}
            parts = (found["free"]["BTC"], found["used"]["BTC"], found["total"]["BTC"])
            assert parts == (None, None, before["total"]["BTC"])
            assert found["brokerwatch"]["unstated"] == ["BTC"]
            assert float(found["USDC"]["free"]) == 40
            clock.advance(AGREEING_OVER_S / (AGREEING_READS - 1))
        found = bot.balance_of(safe)
        assert "BTC" not in found["total"]
        assert "unstated" not in found["brokerwatch"]
        assert safe.get_error_count() == 0


def test_an_account_that_kraken_never_stated_is_believed_when_it_comes_again() -> None:
    """It answers so to accounts that were never funded."""
    clock = ManualClock()
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        exchange.set_fault("empty_result")
        safe = guard(bot.mine, clock=clock)
        with pytest.raises(BalanceUnknown, match="no error and no result"):
            bot.balance_of(safe)
        clock.advance(AGREEING_OVER_S)
        assert bot.balance_of(safe)["total"] == {}
