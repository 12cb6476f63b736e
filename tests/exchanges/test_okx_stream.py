"""OKX's stream: pages, times, and what its frames prove, also when some are lost or come in another order."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.exchanges.okx_stream import OkxStream
from brokerwatch.exchanges.stream import Opening, Step, StreamFold, url_of
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.messages.balance import MAX_CURRENCIES

KEYS: Final = {"api_key": "key", "secret": "secret", "password": "phrase"}
OPENING: Final = Opening(KEYS, "", Instant(1_700_000_000_500_000, 0.0), str)


def opened() -> StreamFold:
    return OkxStream.opened(OPENING).fold


def detail(currency: str, total: str, at_ms: int, held: str = "0", **more: str) -> dict[str, str]:
    free = str(Decimal(total) - Decimal(held))
    return {
        "ccy": currency,
        "eq": total,
        "cashBal": total,
        "availBal": free,
        "availEq": "",
        "frozenBal": held,
        "uTime": str(at_ms),
        **more,
    }


def frame(*details: dict[str, str], at_ms: int, kind: str = "event_update", **more: Any) -> str:
    row = {"totalEq": "", "uTime": str(at_ms), "details": details}
    about = {"channel": "account", "uid": "1"}
    return json.dumps(
        {"arg": about, "eventType": kind, "curPage": 1, "lastPage": True, "data": [row], **more}
    )


def snapshot(*details: dict[str, str], at_ms: int, **more: Any) -> str:
    return frame(*details, at_ms=at_ms, kind="snapshot", **more)


def totals(step: Step) -> dict[str, Decimal | None]:
    return {} if step.amounts is None else {code: held.total for code, held in step.amounts.holdings.items()}


def after(*frames: str) -> Step:
    step = Step(opened())
    for each in frames:
        step = step.fold.heard(each)
    return step


def test_it_logs_in_with_a_signature_and_then_subscribes() -> None:
    step = OkxStream.opened(OPENING)
    (login,) = map(json.loads, step.send)
    digest = hmac.digest(b"secret", b"1700000000GET/users/self/verify", hashlib.sha256)
    signed = {"apiKey": "key", "passphrase": "phrase", "timestamp": "1700000000"}
    assert login == {"op": "login", "args": [{**signed, "sign": base64.b64encode(digest).decode()}]}
    step = step.fold.heard('{"event":"login","code":"0","msg":""}')
    (subscription,) = map(json.loads, step.send)
    assert subscription["args"][0]["channel"] == "account"
    assert step.fold.heard('{"event":"subscribe","arg":{"channel":"account"}}').acknowledged


@pytest.mark.parametrize(
    ("code", "refused"), [("60005", True), ("60024", True), ("60006", False), ("60012", False)]
)
def test_a_refused_login_is_told_in_the_words_of_the_exchange(code: str, refused: bool) -> None:
    step = after(json.dumps({"event": "error", "code": code, "msg": "words", "connId": "a"}))
    said = f"{code} words"
    assert (step.refused, step.ended) == ((said, "") if refused else ("", said))


def test_a_notice_that_the_server_ends_soon_ends_the_connection_and_others_do_not() -> None:
    assert "64008" in after('{"event":"notice","code":"64008","msg":"soon"}').ended
    assert not after('{"event":"notice","code":"64000","msg":"hello"}').ended


def test_a_snapshot_in_pages_counts_after_its_last_page() -> None:
    # P5: ccxt's own `watch_balance` gives page 1 as the balance.
    first = snapshot(detail("BTC", "1", 5), at_ms=10, lastPage=False)
    step = after(first)
    assert (step.amounts, step.asks) == (None, "")
    step = step.fold.heard(snapshot(detail("USDT", "100", 5, "30"), at_ms=10, curPage=2))
    assert totals(step) == {"BTC": Decimal(1), "USDT": Decimal(100)}
    assert step.amounts is not None
    assert step.amounts.whole
    held = step.amounts.holdings["USDT"]
    assert (held.free, held.used) == (Decimal(70), Decimal(30))


@pytest.mark.parametrize("page", [1, 3])
def test_a_page_that_is_lost_or_comes_twice_makes_no_snapshot(page: int) -> None:
    first = snapshot(detail("BTC", "1", 5), at_ms=10, lastPage=False)
    last = snapshot(detail("USDT", "100", 5), at_ms=10, curPage=page + 1 if page == 1 else page)
    frames = (first, first, last) if page == 1 else (first, last)
    step = after(*frames)
    assert bool(totals(step)) == (page == 1), "page 1 that comes again begins anew"
    if page == 3:
        assert step.asks


def test_an_update_sets_what_it_names_and_one_that_is_older_sets_nothing_and_asks_for_a_read() -> None:
    step = after(snapshot(detail("BTC", "1", 5), at_ms=10), frame(detail("BTC", "3", 30), at_ms=30))
    assert totals(step) == {"BTC": Decimal(3)}
    assert step.amounts is not None
    assert not step.amounts.whole
    late = step.fold.heard(frame(detail("BTC", "2", 20), at_ms=20))
    assert late.amounts is None
    assert late.asks, "the clock of the exchange may have been put back"
    assert step.fold.heard(snapshot(detail("BTC", "1", 5), at_ms=10)).amounts is None


def test_of_two_updates_of_one_moment_neither_is_taken_for_the_newer() -> None:
    step = after(frame(detail("BTC", "3", 30), at_ms=30), frame(detail("BTC", "2", 30), at_ms=30))
    assert step.amounts is not None
    assert (totals(step), set(step.amounts.unset)) == ({}, {"BTC"})
    assert step.asks


def test_the_equity_of_derivatives_is_left_to_a_read() -> None:
    step = after(snapshot(detail("USDT", "100", 5, cashBal="90"), detail("BTC", "1", 5), at_ms=10))
    assert step.amounts is not None
    assert (totals(step), set(step.amounts.unset)) == ({"BTC": Decimal(1)}, {"USDT"})


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        frame({"ccy": "BTC"}, at_ms=30),
        '{"arg":{"channel":"account"},"data":7}',
        frame({**detail("BTC", "1", 30), "eq": "n/a"}, at_ms=30),
        frame({**detail("BTC", "1", 30), "uTime": "soon"}, at_ms=30),
        frame(detail("BTC", "1", 30), detail("BTC", "2", 31), at_ms=30),
    ],
)
def test_a_frame_that_does_not_prove_an_amount_sets_none_and_asks_for_a_read(broken: str) -> None:
    step = after(snapshot(detail("BTC", "1", 5), at_ms=10), broken)
    assert totals(step) == {}
    assert step.asks


@pytest.mark.parametrize("said", ["pong", '{"event":"channel-conn-count","connCount":"1"}'])
def test_a_sign_of_life_says_nothing_of_money(said: str) -> None:
    step = after(said)
    assert (step.amounts, step.asks, step.ended) == (None, "", "")


def test_each_family_has_its_own_fold_and_another_address_is_kept_to() -> None:
    assert STREAMS["okx"] is OkxStream
    assert url_of(OkxStream, "okx", {"api": {"ws": "ws://127.0.0.1:1/ws/v5"}}, elsewhere=True) == (
        "ws://127.0.0.1:1/ws/v5/private"
    )
    assert "wseea" in url_of(OkxStream, "myokx", {}, elsewhere=False)
    assert url_of(OkxStream, "okx", {"api": {"rest": "http://127.0.0.1:1"}}, elsewhere=True) == ""


_CHANGES: Final = st.lists(st.tuples(st.sampled_from(["USDT", "BTC", "ETH"]), st.integers(0, 9)), max_size=12)


@given(changes=_CHANGES, order=st.randoms(use_true_random=False), mishap=st.floats(0, 0.5))
def test_in_whatever_order_frames_come_each_amount_is_the_newest_that_came(
    changes: list[tuple[str, int]], order: Any, mishap: float
) -> None:
    frames: list[tuple[dict[str, int], str]] = [
        ({"USDT": 100, "BTC": 1}, snapshot(detail("USDT", "100", 5), detail("BTC", "1", 5), at_ms=10))
    ]
    for number, (currency, balance) in enumerate(changes, 11):
        frames.append(({currency: balance}, frame(detail(currency, str(balance), number), at_ms=number)))
    received = [(0, frames[0])]
    rest = [(number, each) for number, each in enumerate(frames) if number and order.random() >= mishap]
    order.shuffle(rest)
    fold, shown, newest = opened(), dict[str, int](), dict[str, int]()
    truth: dict[str, int] = {}
    for number, (states, text) in received + rest:
        step = fold.heard(text)
        fold = step.fold
        for currency, balance in states.items():
            if number >= newest.get(currency, -1):
                newest[currency], truth[currency] = number, balance
        if step.amounts is not None:
            shown |= {code: int(held.total or 0) for code, held in step.amounts.holdings.items()}
    assert shown == truth


def test_more_currencies_than_any_account_holds_end_the_connection() -> None:
    step = after(snapshot(detail("USDT", "1", 1), at_ms=1))
    for number in range(MAX_CURRENCIES + 2):
        step = step.fold.heard(frame(detail(f"A{number}", "1", 2), at_ms=2))
        if step.ended:
            break
    assert step.asks == step.ended != ""


def test_a_snapshot_whose_pages_never_end_is_not_kept() -> None:
    step = Step(opened())
    for page in range(1, 6):
        rows = [detail(f"A{page}-{number}", "1", 1) for number in range(MAX_CURRENCIES // 4)]
        step = step.fold.heard(snapshot(*rows, at_ms=1, curPage=page, lastPage=False))
        if step.ended:
            break
    assert step.asks == step.ended != ""
