"""What pushed amounts are worth beside reads: shown, marked, confirmed or struck."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.actors.push_inbox import PushInbox
from brokerwatch.clock import Instant
from brokerwatch.exchanges.kraken_stream import KEPT_ENTRIES, KrakenStream
from brokerwatch.exchanges.stream import Opening
from brokerwatch.health.push import (
    DISTRUST_S,
    GRACE_S,
    MOST_STRIKES,
    Acknowledged,
    Asks,
    Connecting,
    Lost,
    PushWatch,
    Refused,
    StreamEvent,
)
from brokerwatch.messages import Balance, Holding
from brokerwatch.messages.balance import MAX_CURRENCIES
from brokerwatch.messages.stream import PushedAmounts, StreamState


class Line:
    """A connection of which nothing is asked."""

    last_frame_s = 0.0

    def reconnect(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


LINE: Final = Line()


def at(seconds: float) -> Instant:
    return Instant(round(seconds * 1_000_000), seconds)


def totals(amounts: Mapping[str, int]) -> Mapping[str, Holding]:
    return {code: Holding(free=None, used=None, total=Decimal(each)) for code, each in amounts.items()}


def whole(**amounts: int) -> PushedAmounts:
    return PushedAmounts(holdings=totals(amounts), whole=True)


def update(*unset: str, **amounts: int) -> PushedAmounts:
    return PushedAmounts(holdings=totals(amounts), unset=frozenset(unset))


def read(asked_s: float, used: int = 0, **amounts: int) -> Balance:
    held = {
        code: Holding(free=Decimal(each - used), used=Decimal(used), total=Decimal(each))
        for code, each in amounts.items()
    }
    return Balance(holdings=held, as_of=at(asked_s))


def shown(watch: PushWatch, balance: Balance) -> dict[str, tuple[Decimal | None, bool]]:
    """Currency to its total, and whether it is marked."""
    over = watch.shown(balance)
    assert over is not None
    return {
        code: (held.total, held.pushed_us is not None or held.unstated_since_us is not None)
        for code, held in over.holdings.items()
    }


def connected(**amounts: int) -> PushWatch:
    """A stream that is live by the second 2: the snapshot came at 1, and a read of 2 agrees."""
    watch = PushWatch().heard(Connecting(LINE), at(0)).heard(Acknowledged(sets=True), at(0.5))
    return watch.heard(whole(**amounts), at(1)).read(read(2, **amounts), at(2.1))


def test_it_is_live_after_acknowledgement_snapshot_and_a_read_that_began_after_both() -> None:
    watch = PushWatch()
    assert watch.data() is None, "there is no stream"
    watch = watch.heard(Connecting(LINE), at(0))
    assert watch.state is StreamState.CONNECTING
    watch = watch.heard(Acknowledged(sets=True), at(1)).heard(whole(USD=100), at(2))
    assert (watch.state, watch.live) == (StreamState.SUSPECT, False)
    assert watch.wanted == at(2), "a read is wanted that begins after the snapshot"
    before = watch.read(read(1.5, USD=100), at(2.5))
    assert (before.state, before.wanted) == (StreamState.SUSPECT, at(2)), "this one began before"
    after = before.read(read(2.6, USD=100), at(2.7))
    assert (after.state, after.live, after.wanted) == (StreamState.LIVE, True, None)


def test_an_update_is_shown_at_once_with_what_the_newest_read_says_is_held() -> None:
    known = read(2, 30, USD=100)
    watch = connected(USD=100).heard(update(USD=90), at(3))
    over = watch.shown(known)
    assert over is not None
    held = over.holdings["USD"]
    assert (held.total, held.free, held.used, held.pushed_us) == (
        Decimal(90),
        Decimal(60),
        Decimal(30),
        3_000_000,
    )
    assert watch.overtaken_s(known) == 3
    assert watch.wanted == at(3)


def test_a_total_below_what_was_held_leaves_what_is_free_unknown_and_never_less_than_nothing() -> None:
    over = connected(USD=100).heard(update(USD=20), at(3)).shown(read(2, 30, USD=100))
    assert over is not None
    held = over.holdings["USD"]
    assert (held.total, held.free, held.used) == (Decimal(20), None, None)


def test_a_read_that_began_after_the_push_confirms_it_and_one_that_began_before_does_not() -> None:
    watch = connected(USD=100).heard(update(USD=90), at(3))
    early = watch.read(read(2.9, USD=100), at(3.1))
    assert shown(early, read(2.9, USD=100)) == {"USD": (Decimal(90), True)}
    assert early.wanted is not None
    late = early.read(read(3.2, USD=90), at(3.3))
    assert shown(late, read(3.2, USD=90)) == {"USD": (Decimal(90), False)}
    assert (late.wanted, late.live) == (None, True)


def test_what_a_snapshot_leaves_out_is_in_doubt_and_asks_for_a_read() -> None:
    # P2: ccxt's own cache keeps the asset that was sold.
    known = read(2, USD=100, BTC=1)
    watch = connected(USD=100, BTC=1).heard(Lost("cut"), at(3)).heard(Connecting(LINE), at(3.1))
    watch = watch.heard(Acknowledged(sets=True), at(3.2)).heard(whole(USD=300), at(3.3))
    assert shown(watch, known) == {"USD": (Decimal(300), True), "BTC": (Decimal(1), True)}
    assert watch.wanted == at(3.3)


def test_a_lost_stream_asks_now_and_what_it_pushed_last_stays_shown_with_its_mark() -> None:
    known = read(2, USD=100)
    watch = connected(USD=100).heard(update(USD=90), at(3)).heard(Lost("cut"), at(4))
    assert (watch.state, watch.live, watch.wanted) == (StreamState.CONNECTING, False, at(4))
    assert "cut" in watch.detail
    assert shown(watch, known) == {"USD": (Decimal(90), True)}


def test_a_refused_stream_says_why_and_is_no_reason_to_ask() -> None:
    watch = PushWatch().heard(Connecting(LINE), at(0)).heard(Refused("EAccount:Invalid permissions"), at(1))
    assert (watch.state, watch.detail, watch.wanted) == (
        StreamState.REFUSED,
        "EAccount:Invalid permissions",
        None,
    )


def test_a_difference_that_a_frame_explains_is_none() -> None:
    watch = connected(USD=100).read(read(3, USD=90), at(3.1))
    assert (watch.state, watch.strikes, watch.wanted) == (StreamState.SUSPECT, 0, at(3.1))
    watch = watch.read(read(3.1 + GRACE_S - 0.1, USD=90), at(3.2 + GRACE_S))
    assert (watch.state, watch.strikes) == (StreamState.SUSPECT, 0), "a frame may be under way"
    watch = connected(USD=100).read(read(3, USD=90), at(3.1))
    watch = watch.heard(update(USD=90), at(3.5)).read(read(3.6, USD=90), at(3.7))
    assert (watch.live, watch.strikes) == (True, 0)


def test_an_amount_has_a_mark_while_a_difference_is_not_settled() -> None:
    """The read may be behind the stream, as Kraken's was by a minute."""
    known = read(3, USD=100, BTC=1, ETH=5)
    watch = connected(USD=100, BTC=1).heard(update(USD=90), at(2.5)).read(known, at(3.1))
    assert shown(watch, known) == {
        "USD": (Decimal(100), True),
        "BTC": (Decimal(1), False),
        "ETH": (Decimal(5), True),
    }, "the read counts, and which of both is right is not known"
    assert watch.overtaken_s(known) >= known.as_of.up_s
    settled = watch.read(read(4, USD=90, BTC=1), at(4.1))
    assert shown(settled, read(4, USD=90, BTC=1)) == {"USD": (Decimal(90), False), "BTC": (Decimal(1), False)}
    assert settled.overtaken_s(read(4, USD=90, BTC=1)) == float("-inf")
    gone = connected(USD=100, BTC=1).read(read(3, USD=100), at(3.1))
    assert shown(gone, read(3, USD=100))["BTC"] == (Decimal(0), True)


def wrong(watch: PushWatch, from_s: float) -> PushWatch:
    """The stream says 100 and never anything else, and reads say 90 for longer than the grace."""
    for seconds in (from_s, from_s + 1, from_s + GRACE_S + 0.2):
        watch = watch.read(read(seconds, USD=90), at(seconds + 0.1))
    return watch


def test_a_difference_that_lasts_is_counted_and_the_read_counts_for_ten_minutes() -> None:
    # P1: the last update is lost without a gap.
    watch = wrong(connected(USD=100), 3)
    assert (watch.strikes, watch.state, watch.live) == (1, StreamState.SUSPECT, False)
    assert "100 USD pushed, 90 read" in watch.detail
    watch = watch.heard(update(USD=70), at(8))
    assert shown(watch, read(7, USD=90)) == {"USD": (Decimal(90), False)}, "it sets nothing"
    assert watch.wanted == at(8), "and asks all the same"
    assert not watch.due(at(100))
    assert watch.due(at(7 + DISTRUST_S))
    assert watch.trusted_again(at(700)).trusted


def test_after_the_third_time_it_is_off_and_says_why() -> None:
    watch, now_s = PushWatch(), 0.0
    for _ in range(MOST_STRIKES):
        watch = watch.trusted_again(at(now_s)) if watch.strikes else watch
        watch = watch.heard(Connecting(LINE), at(now_s)).heard(Acknowledged(sets=True), at(now_s))
        watch = wrong(watch.heard(whole(USD=100), at(now_s)), now_s + 1)
        now_s += 1_000
    assert (watch.state, watch.off) == (StreamState.ABSENT, True)
    assert "off: wrong for the 3rd time" in watch.detail
    assert watch.heard(whole(USD=1), at(now_s)) is watch
    assert PushWatch().heard(Connecting(LINE), at(now_s)).switched_off(at(now_s)).data() is None


def test_what_is_named_without_an_amount_is_left_to_reads_and_is_no_difference() -> None:
    # P4: a delta, or an amount in another wallet.
    watch = connected(USD=100, ETH=2).heard(update("ETH"), at(3)).heard(Asks("several wallets"), at(3))
    assert shown(watch, read(2, USD=100, ETH=2))["ETH"] == (Decimal(2), False)
    assert watch.overtaken_s(read(2, USD=100, ETH=2)) == 3
    watch = watch.read(read(4, USD=100, ETH=5), at(4.1))
    assert (watch.live, watch.strikes) == (True, 0)


def test_a_stream_that_only_asks_sets_nothing_and_is_never_live() -> None:
    watch = PushWatch().heard(Connecting(LINE), at(0)).heard(Acknowledged(sets=False), at(1))
    watch = watch.heard(Asks("an order"), at(2))
    assert (watch.live, watch.wanted) == (False, at(2))
    watch = watch.read(read(3, USD=1), at(3.1))
    assert (watch.live, watch.wanted) == (False, None)


def test_the_last_digit_of_a_rounded_amount_is_no_difference() -> None:
    watch = connected(USD=100)
    close = Balance(
        holdings={"USD": Holding(free=Decimal(0), used=Decimal(0), total=Decimal("100.000000001"))},
        as_of=at(9),
    )
    assert watch.read(close, at(9.1)).live


_MOVES: Final = st.lists(
    st.tuples(
        st.sampled_from(["move", "move_unseen", "read", "slow_read", "reconnect", "lose"]),
        st.sampled_from(["USD", "BTC"]),
        st.integers(0, 9),
    ),
    max_size=30,
)


@given(moves=_MOVES)
def test_no_amount_that_was_pushed_is_ever_shown_without_a_mark(moves: list[tuple[str, str, int]]) -> None:
    """An amount without a mark is what the newest read stated; a marked one is what was pushed since."""
    truth, watch, now_s = {"USD": 100, "BTC": 1}, PushWatch(), 0.0
    known = read(0, **truth)
    for kind, code, amount in moves:
        now_s += 0.5
        match kind:
            case "move":
                truth[code] = amount
                watch = watch.heard(update(**{code: amount}), at(now_s))
            case "move_unseen":
                truth[code] = amount
            case "read":
                known = read(now_s, **truth)
                watch = watch.read(known, at(now_s))
            case "slow_read":
                known = read(now_s, **truth)  # an order comes while its answer is under way
                truth[code] = amount
                watch = watch.heard(update(**{code: amount}), at(now_s + 0.1)).read(known, at(now_s + 0.2))
            case "reconnect":
                watch = watch.heard(Connecting(LINE), at(now_s)).heard(Acknowledged(sets=True), at(now_s))
                watch = watch.heard(whole(**truth), at(now_s))
            case _:
                watch = watch.heard(Lost("cut"), at(now_s))
        for currency, (total, is_marked) in shown(watch, known).items():
            assert is_marked or total == known.holdings[currency].total
        if kind == "read":
            assert {code: int(total or 0) for code, (total, _) in shown(watch, known).items()} == truth


def test_an_answer_that_proves_no_balance_yet_asks_for_no_read_at_once() -> None:
    watch = connected(USD=100).heard(update(USD=90), at(3))
    assert watch.answered(at(2.9)).wanted == at(3)
    assert watch.answered(at(3.1)).wanted is None


def test_more_currencies_than_any_account_has_are_not_shown_and_stop_nothing() -> None:
    def many(first: int) -> PushedAmounts:
        return PushedAmounts(holdings=totals({f"C{number}": 1 for number in range(first, first + 3_000)}))

    known = read(2, USD=100)
    watch = connected(USD=100)
    for first in (0, 3_000, 6_000):
        watch = watch.heard(many(first), at(3 + first))
        assert len(watch.amounts) <= MAX_CURRENCIES
    over = watch.shown(known)
    assert over is not None
    assert len(over.holdings) <= MAX_CURRENCIES
    assert watch.read(read(20_000, USD=100), at(20_001)).strikes == 0


def test_a_day_of_frames_leaves_no_more_behind_than_an_hour() -> None:
    step = KrakenStream.opened(Opening({}, "", at(0), str))
    wallets = [{"type": "spot", "id": "main", "balance": 1}]
    rows = [{"asset": code, "balance": 1, "wallets": wallets} for code in ("USD", "BTC")]
    frames: list[dict[str, object]] = [
        {"channel": "balances", "type": "snapshot", "data": rows, "sequence": 1}
    ]
    watch = PushWatch().heard(Connecting(LINE), at(0)).heard(Acknowledged(sets=True), at(0))
    inbox = PushInbox(lambda _: True)
    for number in range(2, 6_000):
        row = {"asset": ("USD", "BTC")[number % 2], "ledger_id": f"L{number}", "balance": number}
        row |= {"wallet_type": "spot", "wallet_id": "main"}
        frames.append({"channel": "balances", "type": "update", "data": [row], "sequence": number})
    for number, frame in enumerate(frames):
        step = step.fold.heard(json.dumps(frame))
        assert step.amounts is not None
        inbox.put(step.amounts)
        if number % 500 == 0:
            for event in inbox.take():
                watch = watch.heard(event, at(number))
    left = inbox.take()
    assert len(left) == 1, "what was not taken yet is one event"
    watch = watch.heard(left[0], at(6_000))
    fold = step.fold
    assert isinstance(fold, KrakenStream)
    assert (len(fold.entries), len(watch.amounts)) == (KEPT_ENTRIES, 2)
    assert {int(each.held.total or 0) for each in watch.amounts.values()} == {5_998, 5_999}


def test_currencies_that_are_named_without_an_amount_are_not_kept_for_ever() -> None:
    watch = connected(USD=1)
    for number in range(3 * MAX_CURRENCIES):
        watch = watch.heard(update(f"A{number}"), at(20 + number))
    assert len(watch.unset) <= MAX_CURRENCIES
    assert watch.wanted is not None


def test_an_actor_that_takes_nothing_leaves_no_more_behind_than_the_newest_connections() -> None:
    inbox = PushInbox(lambda _: True)
    for number in range(1_000):
        inbox.put(Connecting(LINE))
        inbox.put(Acknowledged(sets=True))
        inbox.put(whole(USD=1, BTC=number))
        inbox.put(update(ETH=number))
        inbox.put(Asks("an order"))
        inbox.put(Lost("cut"))
    events = inbox.take()
    assert len(events) <= 20
    watch = PushWatch()
    for event in events:
        watch = watch.heard(event, at(10))
    assert watch.state is StreamState.CONNECTING
    assert watch.detail == "lost: cut"
    assert {code: each.held.total for code, each in watch.amounts.items()} == {
        "USD": 1,
        "BTC": 999,
        "ETH": 999,
    }
    assert watch.wanted is not None


def test_what_is_dropped_of_an_earlier_connection_keeps_the_amounts_that_it_stated() -> None:
    inbox = PushInbox(lambda _: True)
    first: list[StreamEvent] = [update(USD=90), Lost("cut")]
    second: list[StreamEvent] = [Connecting(LINE), Acknowledged(sets=True), whole(USD=80), Lost("cut")]
    for event in (*first, *second, Connecting(LINE), Lost("503"), Connecting(LINE)):
        inbox.put(event)
    watch = PushWatch()
    for event in inbox.take():
        watch = watch.heard(event, at(10))
    assert watch.amounts["USD"].held.total == 80
