"""Which answers of a guarded instance prove a balance."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any, Final

import pytest

from brokerwatch.dropin.guard import guard
from brokerwatch.dropin.proof import Proof
from brokerwatch.errors import BalanceUnknown
from brokerwatch.exchanges.coinbase import Coinbase, older_holdings
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedKraken,
    serve,
)
from tests.support.guarded_bots import (
    OlderCoinbase,
    Stranger,
    alike,
    bitso,
    bitso_says,
    bot_on,
    both_modes,
    ccxt,
    config,
    stranger,
)


@both_modes
def test_an_exchange_whose_envelope_we_do_not_know_is_believed_where_it_names_a_currency(mode: str) -> None:
    with stranger() as url, asyncio.Runner() as runner:
        mine, plain = bitso(url, mode), bitso(url, mode)

        def ask(which: Any) -> Any:
            async def asked() -> Any:
                return await which.fetch_balance()

            return runner.run(asked()) if mode == "async" else which.fetch_balance()

        try:
            safe = guard(mine)
            bitso_says([{"currency": "btc", "available": "0.5", "locked": "0.25", "total": "0.75"}])
            Stranger.pages["/v3/available_books"] = 200, {}, '{"success": true, "payload": []}'
            with pytest.raises(ccxt.BadResponse, match="list of markets is empty"):
                ask(safe)
            bitso_says([{"currency": "btc", "available": "0.5", "locked": "0.25", "total": "0.75"}])
            assert ask(safe) == ask(plain)
            assert ask(safe)["total"] == {"BTC": 0.75}
            books = Stranger.asked.count("/v3/available_books")
            ask(safe)
            assert Stranger.asked.count("/v3/available_books") == books, "they are loaded once"
            assert mine.markets is None
            twice = Stranger.pages["/v3/balance"][2].removesuffix("}") + ', "success": true}'
            for broken in (
                twice,
                '{"success": true}',
                '{"success": true, "payload": {}}',
                "",
                "<html>",
                '{"succ',
            ):
                Stranger.pages["/v3/balance"] = 200, {}, broken
                with pytest.raises(BalanceUnknown):
                    ask(safe)
            bitso_says([])
            assert ask(plain)["total"] == {}
            with pytest.raises(ccxt.BadResponse, match="no currency at all, and there were some before"):
                ask(safe)
            bitso_says([{"currency": "btc", "available": "x", "locked": "0", "total": "1"}])
            with pytest.raises(BalanceUnknown):
                ask(safe)
        finally:
            if mode == "async":
                for one in (mine, plain):
                    runner.run(one.close())


def test_two_assets_of_one_code_are_refused_where_ccxt_would_keep_one() -> None:
    exchange = SimulatedKraken()
    with stranger() as url, bot_on(exchange, "sync") as bot:
        row = {"balance": "5", "hold_trade": "0"}
        answer: dict[str, Any] = {"error": [], "result": {"ZUSD": row, "USD": {**row, "balance": "0"}}}
        Stranger.pages = {"/0/private/BalanceEx": (200, {}, json.dumps(answer))}
        bot.mine.urls["api"] = {"public": url, "private": url}
        with pytest.raises(BalanceUnknown, match="two assets of one code"):
            guard(bot.mine).fetch_balance()


def test_an_account_that_ccxt_leaves_out_is_missed() -> None:
    """Older answers of Coinbase have no type; ccxt passes over such an account and says nothing."""
    exchange = SimulatedCoinbase()
    account = {
        "uuid": "1",
        "currency": "USD",
        "available_balance": {"value": "5", "currency": "USD"},
        "hold": {"value": "1", "currency": "USD"},
    }
    with stranger() as url, bot_on(exchange, "sync") as bot:
        answer = {"accounts": [account], "has_next": False, "cursor": ""}
        Stranger.pages = {"/api/v3/brokerage/accounts": (200, {}, json.dumps(answer))}
        bot.mine.urls["api"]["rest"] = url
        with pytest.raises(BalanceUnknown, match="ccxt reads None USD, and the exchange states 6"):
            guard(bot.mine).fetch_balance()


# --- Coinbase's pages ------------------------------------------------------------------------------------


@both_modes
def test_all_pages_are_read_and_who_pages_himself_may(mode: str) -> None:
    exchange = SimulatedCoinbase()
    exchange.page_size = 2
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine)
        whole = bot.balance_of(safe)
        assert len(whole["total"]) == 5
        assert alike(whole) == alike(bot.balance_of(bot.mine))
        page = bot.balance_of(safe, {"cursor": "Mg"})
        assert len(page["total"]) == 2


def test_pages_that_ccxt_does_not_read_are_missed() -> None:
    exchange = SimulatedCoinbase()
    account = {
        "uuid": "1",
        "currency": "USD",
        "type": "ACCOUNT_TYPE_FIAT",
        "available_balance": {"value": "5", "currency": "USD"},
        "hold": {"value": "1", "currency": "USD"},
    }
    with stranger() as url, bot_on(exchange, "sync") as bot:
        bot.mine.urls["api"]["rest"] = url

        def states(**page: Any) -> None:
            answer = json.dumps({"accounts": [account], **page})
            Stranger.pages = {"/api/v3/brokerage/accounts": (200, {}, answer)}

        states(has_next=False, cursor="")
        assert guard(bot.mine).fetch_balance()["total"] == {"USD": 6.0}
        states(has_next=True, cursor="")
        with pytest.raises(BalanceUnknown, match="cursor of the next page"):
            guard(bot.mine).fetch_balance()
        states(has_next=True, cursor="again")
        with pytest.raises(BalanceUnknown, match="comes twice"):
            guard(bot.mine).fetch_balance()
        account["uuid"] = ""  # nothing shows that it comes twice; ccxt stops, since the cursor does not move
        states(has_next=True, cursor="again")
        with pytest.raises(BalanceUnknown, match="stopped before the last page"):
            guard(bot.mine).fetch_balance()


def test_pages_that_never_end_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = importlib.import_module("brokerwatch.dropin.lent_instance")
    monkeypatch.setattr(module, "MAX_REQUESTS", 4)
    exchange = SimulatedCoinbase()
    exchange.page_size = 1
    with bot_on(exchange, "sync") as bot:
        with pytest.raises(BalanceUnknown, match="does not end after 4 requests"):
            guard(bot.mine).fetch_balance()
        monkeypatch.setattr(module, "MAX_REQUESTS", 5)
        assert len(guard(bot.mine).fetch_balance()["total"]) == 5


def test_a_subclass_may_read_its_pages_twice() -> None:
    exchange = SimulatedCoinbase()
    exchange.page_size = 2

    def twice(mine: Any, params: Any = {}) -> Any:  # noqa: B006 - ccxt's own signature
        ccxt.coinbase.fetch_balance(mine, params)
        return ccxt.coinbase.fetch_balance(mine, params)

    Twice: Any = type("Twice", (ccxt.coinbase,), {"fetch_balance": twice})  # noqa: N806 - a class
    with serve(exchange):
        assert len(guard(Twice(config(exchange))).fetch_balance()["total"]) == 5


@both_modes
@pytest.mark.parametrize("fault", ["", "empty_body", "empty_result", "missing_amount", "text_amount"])
def test_the_older_list_of_coinbase_is_proven_too(mode: str, fault: str) -> None:
    exchange = OlderCoinbase()
    with bot_on(exchange, mode, options={}) as bot:
        safe = guard(bot.mine)
        if fault:
            exchange.set_fault(fault)
        else:
            assert bot.balance_of(safe)["total"]["BTC"] == 0.115, "without what is on hold"
            exchange.next_uri = "/v2/accounts?starting_after=1"
        with pytest.raises(BalanceUnknown) as caught:
            bot.balance_of(safe)
        if not fault:
            assert "v3PrivateGetBrokerageAccounts" in str(caught.value)
            assert bot.balance_of(safe, {"v3": True})["total"]["BTC"] == 0.125


NO_OLDER_LISTS: Final[list[Any]] = [
    None,
    [],
    {},
    {"data": []},
    {"data": [], "pagination": None},
    {"data": [], "pagination": {}},
    {"data": {}, "pagination": {"next_uri": None}},
    {"data": [], "pagination": {"next_uri": None}, "errors": [{"id": "x"}]},
    {"data": [[]], "pagination": {"next_uri": None}},
    {"data": [{"type": "wallet"}], "pagination": {"next_uri": None}},
    *(
        {
            "data": [{"type": kind, "balance": {"amount": stated, "currency": "BTC"}}],
            "pagination": {"next_uri": None},
        }
        for kind, stated in [("wallet", "x"), ("wallet", "NaN"), ("wallet", None), ("new", "1"), (1, "1")]
    ),
]


@pytest.mark.parametrize("answer", NO_OLDER_LISTS)
def test_what_the_older_list_does_not_state_is_no_proof(answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        older_holdings(answer, str)


def test_the_older_list_adds_up_wallets_of_one_currency_and_leaves_vaults_out() -> None:
    rows = [
        {"type": kind, "balance": {"amount": stated, "currency": "BTC"}}
        for kind, stated in [("wallet", "0.1"), ("fiat", "0.2"), ("vault", "5")]
    ]
    found = older_holdings({"data": rows, "pagination": {"next_uri": ""}}, str)
    assert {code: str(held.total) for code, held in found.items()} == {"BTC": "0.3"}


def test_money_that_no_spot_order_can_spend_is_taken_out_of_what_ccxt_adds_up() -> None:
    def account(currency: str, amount: str, platform: str) -> dict[str, Any]:
        return {
            "uuid": f"{currency}-{platform}",
            "type": "ACCOUNT_TYPE_FIAT",
            "platform": f"ACCOUNT_PLATFORM_{platform}",
            "available_balance": {"value": amount, "currency": currency},
            "hold": {"value": "0", "currency": currency},
        }

    rows = [
        account("USD", "100.5", "CONSUMER"),
        account("USD", "500", "CFM_CONSUMER"),
        account("EUR", "7", "INTX"),
    ]
    proof = Proof(Coinbase.profile, str)
    proof.take("https://x/api/v3/brokerage/accounts", json.dumps({"accounts": rows, "has_next": False}))
    whole = {"USD": 600.5, "EUR": 7.0}
    found: dict[str, Any] = {part: dict(whole) for part in ("free", "total")}
    found |= {"used": {"USD": 0.0, "EUR": 0.0}, "USD": {"free": 600.5, "used": 0.0, "total": 600.5}}
    proof.agree(found)
    proof.take_apart_out(found)
    assert found == {
        "free": {"USD": 100.5},
        "used": {"USD": 0.0},
        "total": {"USD": 100.5},
        "USD": {"free": 100.5, "used": 0.0, "total": 100.5},
    }
    with pytest.raises(UnprovenAnswer, match="ccxt reads"):
        proof.agree({"total": {"USD": 601.0}})
