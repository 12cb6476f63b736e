"""Kraken's stream: what its frames prove, also when some are lost, come twice or in another order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.exchanges.balances import MOST_DIGITS
from brokerwatch.exchanges.kraken import holdings, pending
from brokerwatch.exchanges.kraken_stream import KrakenStream
from brokerwatch.exchanges.stream import Opening, Step, StreamFold, url_of
from brokerwatch.messages.balance import MAX_CURRENCIES

OPENING: Final = Opening({}, "token", Instant(0, 0.0), lambda asset: {"XDG": "DOGE"}.get(asset, asset))


def opened() -> StreamFold:
    return KrakenStream.opened(OPENING).fold


def row(asset: str, balance: object, *wallets: str) -> dict[str, Any]:
    """A row of a snapshot; `balance` is written as a JSON number."""
    return {
        "asset": asset,
        "asset_class": "currency",
        "balance": balance,
        "wallets": [{"type": name, "id": "main", "balance": balance} for name in wallets or ("spot",)],
    }


def snapshot(*rows: dict[str, Any], sequence: int = 1) -> str:
    return json.dumps({"channel": "balances", "type": "snapshot", "data": rows, "sequence": sequence})


def entry(asset: str, balance: object, number: int, wallet: str = "spot") -> dict[str, Any]:
    """An entry of the ledger."""
    return {
        "asset": asset,
        "amount": 1,
        "balance": balance,
        "fee": 0,
        "ledger_id": f"L{number}",
        "ref_id": f"R{number}",
        "timestamp": "2026-11-30T00:00:00Z",
        "type": "trade",
        "wallet_type": wallet,
        "wallet_id": "main",
    }


def update(*rows: dict[str, Any], sequence: int) -> str:
    return json.dumps({"channel": "balances", "type": "update", "data": rows, "sequence": sequence})


def totals(step: Step) -> dict[str, Decimal | None]:
    return {} if step.amounts is None else {code: held.total for code, held in step.amounts.holdings.items()}


def after(*frames: str) -> Step:
    """What the last of these frames leads to."""
    step = Step(opened())
    for frame in frames:
        step = step.fold.heard(frame)
    return step


def test_it_subscribes_with_the_token_and_takes_the_answer() -> None:
    step = KrakenStream.opened(OPENING)
    (sent,) = map(json.loads, step.send)
    assert sent["method"] == "subscribe"
    assert sent["params"] == {"channel": "balances", "token": "token", "snapshot": True}
    answer = {"method": "subscribe", "success": True, "result": {"channel": "balances"}, "req_id": 1}
    assert step.fold.heard(json.dumps(answer)).acknowledged


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("EAccount:Invalid permissions", True),
        ("EGeneral:Permission denied", True),
        ("ESession:Invalid session", False),
        ("EService:Unavailable", False),
    ],
)
def test_a_refused_subscription_is_told_in_the_words_of_the_exchange(words: str, refused: bool) -> None:
    # P6: ccxt's own `watch_balance` waits for ever.
    step = after(json.dumps({"method": "subscribe", "success": False, "error": words, "req_id": 1}))
    assert (step.refused, step.ended) == ((words, "") if refused else ("", words))


def test_a_snapshot_states_all_and_leaves_an_asset_in_other_wallets_to_a_read() -> None:
    step = after(snapshot(row("BTC", 1.25), row("ETH", 2, "spot", "earn"), row("DOT.S", 3), row("KFEE", 9)))
    assert step.amounts is not None
    assert step.amounts.whole
    assert totals(step) == {"BTC": Decimal("1.25")}
    assert step.amounts.unset == {"ETH", "DOT"}
    (held,) = step.amounts.holdings.values()
    assert (held.free, held.used) == (None, None), "P8: the channel does not state what orders hold"


def test_an_asset_with_a_suffix_is_of_the_currency_that_a_read_counts_it_to() -> None:
    names = ("DOT28.S", "ADA.M", "XBT.F", "ZUSD.HOLD", "TSLA.T", "ETH2.S")
    answer: Any = {"error": [], "result": {name: {"balance": "1", "hold_trade": "0"} for name in names}}
    step = after(snapshot(*(row(name, 1) for name in names)))
    assert step.amounts is not None
    read = {*holdings(answer, OPENING.code), *pending(answer, OPENING.code)["hold"]}
    assert step.amounts.unset == read


def test_an_update_sets_the_balance_after_the_entry_digit_for_digit() -> None:
    frame = update(entry("XDG", 0, 1), sequence=2).replace('"balance": 0', '"balance": 0.1000000000000001')
    step = after(snapshot(row("XDG", 5)), frame)
    assert totals(step) == {"DOGE": Decimal("0.1000000000000001")}
    assert not step.asks


def test_both_sides_of_a_trade_are_two_entries_and_each_counts_once() -> None:
    first, second = entry("USD", 80, 1), entry("BTC", 2, 2)
    step = after(snapshot(row("USD", 100), row("BTC", 1)), update(first, second, sequence=2))
    assert totals(step) == {"USD": Decimal(80), "BTC": Decimal(2)}
    again = step.fold.heard(update(first, second, sequence=3))
    assert again.amounts is None, "entries of these ids were counted"
    assert again.asks, "and a read says whether one of them is another"


def test_an_older_frame_sets_nothing_and_a_gap_asks_for_a_read() -> None:
    step = after(snapshot(row("USD", 100)), update(entry("USD", 80, 2), sequence=3))
    assert totals(step) == {"USD": Decimal(80)}
    assert "1 frames are missing" in step.asks
    late = step.fold.heard(update(entry("USD", 90, 1), sequence=2))
    assert late.amounts is None, "what it says is older than what is known"
    assert step.fold.heard(snapshot(row("USD", 100))).amounts is None, "and so is the first snapshot"
    again = step.fold.heard(update(entry("USD", 70, 3), sequence=3))
    assert again.amounts is None, "two frames of one number are not two"


def test_numbers_that_begin_anew_ask_for_a_read_and_end_the_connection() -> None:
    """Else each frame after that would be dropped as older, and no read would ask until the next sweep."""
    step = after(snapshot(row("USD", 100)), update(entry("USD", 80, 2), sequence=2))
    anew = step.fold.heard(snapshot(row("USD", 60)))
    assert anew.amounts is None
    assert anew.asks == anew.ended != ""
    again = step.fold.heard(update(entry("USD", 70, 3), sequence=2))
    assert (again.amounts, again.ended) == (None, "")
    assert again.asks


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        json.dumps({"channel": "balances", "type": "update", "data": [{}], "sequence": 2}),
        json.dumps({"channel": "balances", "type": "update", "data": [entry("USD", 1, 1)]}),
        update(entry("USD", "NaN", 1), sequence=2),
        update(entry("USD", -1, 1), sequence=2),
        update(entry("USD", 5, 1, "earn"), sequence=2),
        update(entry("\n", 5, 1), sequence=2),
        update(entry("N" * 65, 5, 1), sequence=2),
        json.dumps({"channel": "balances", "type": "delta", "data": [], "sequence": 2}),
    ],
)
def test_a_frame_that_does_not_prove_an_amount_sets_none_and_asks_for_a_read(frame: str) -> None:
    step = after(snapshot(row("USD", 100)), frame)
    assert totals(step) == {}
    assert step.asks


def test_an_amount_too_large_for_the_wire_is_set_no_more_than_it_is_read() -> None:
    # Two of 30 digits add up to more than a message carries, and subscribers would keep the amount of before.
    step = after(snapshot(row("USD", 100)), update(entry("USD", 10**MOST_DIGITS, 1), sequence=2))
    assert step.amounts is not None
    assert not totals(step)
    assert step.amounts.unset == {"USD"}
    assert step.asks
    assert after(snapshot(row("USD", 10**MOST_DIGITS))).ended
    assert totals(after(snapshot(row("USD", 10**MOST_DIGITS - 1))))


def test_an_update_before_the_snapshot_sets_nothing() -> None:
    step = after(update(entry("USD", 5, 1), sequence=7))
    assert step.amounts is None
    assert step.asks


@pytest.mark.parametrize("frame", ['{"channel":"heartbeat"}', '{"method":"pong","req_id":2}', "{}"])
def test_a_heartbeat_says_nothing_of_money(frame: str) -> None:
    step = after(frame)
    assert (step.amounts, step.asks, step.ended) == (None, "", "")


def test_another_address_for_requests_never_leads_the_token_to_the_exchange_itself() -> None:
    urls: Mapping[str, Any] = {"api": {"private": "http://127.0.0.1:1"}}
    assert url_of(KrakenStream, "kraken", urls, elsewhere=True) == ""
    assert url_of(KrakenStream, "kraken", urls, elsewhere=False) == "wss://ws-auth.kraken.com/v2"
    urls = {"api": {"ws": {"privateV2": "ws://127.0.0.1:1/v2"}}}
    assert url_of(KrakenStream, "kraken", urls, elsewhere=True) == "ws://127.0.0.1:1/v2"


_CHANGES: Final = st.lists(st.tuples(st.sampled_from(["USD", "BTC", "ETH"]), st.integers(0, 9)), max_size=12)


@given(changes=_CHANGES, order=st.randoms(use_true_random=False), mishap=st.floats(0, 0.5))
def test_whatever_order_frames_come_in_the_amounts_are_those_of_the_newest_or_a_read_is_asked_for(
    changes: list[tuple[str, int]], order: Any, mishap: float
) -> None:
    truth = [{"USD": 100, "BTC": 1}]
    frames = [snapshot(row("USD", 100), row("BTC", 1))]
    for number, (asset, balance) in enumerate(changes, 1):
        truth.append({**truth[-1], asset: balance})
        frames.append(update(entry(asset, balance, number), sequence=number + 1))
    received = [(number, frame) for number, frame in enumerate(frames) if order.random() >= mishap]
    received += [each for each in received if order.random() < mishap]
    if order.random() < mishap:
        order.shuffle(received)
    fold, shown, asked, newest = opened(), dict[str, int](), False, -1
    for number, frame in received:
        step = fold.heard(frame)
        fold, asked, newest = step.fold, asked or bool(step.asks), max(newest, number)
        if step.amounts is not None:
            stated = {code: int(held.total or 0) for code, held in step.amounts.holdings.items()}
            shown = stated if step.amounts.whole else {**shown, **stated}
    assert asked or newest < 0 or shown == truth[newest]


def test_more_assets_than_any_account_holds_end_the_connection() -> None:
    """Those that lie in another wallet are remembered, and an exchange may name new ones for ever."""
    step = after(snapshot(row("USD", 1)))
    for number in range(MAX_CURRENCIES + 2):
        step = step.fold.heard(update(entry(f"A{number}", 1, number, wallet="earn"), sequence=number + 2))
        if step.ended:
            break
    assert step.asks == step.ended != ""
    assert len(step.fold.apart) <= MAX_CURRENCIES  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType] - what is kept
