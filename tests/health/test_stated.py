"""What an answer leaves out is in doubt, currency by currency, until it is stated, explained or steady."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.health import stated
from brokerwatch.health.state_machine import Health
from brokerwatch.health.stated import NO_DOUBTS, Doubts, Fill, Unconfirmed
from brokerwatch.messages import Balance, Fault, FaultKind, Holding
from brokerwatch.messages.balance import MAX_CURRENCIES
from brokerwatch.storage.health_record import carried_over, read, written
from tests.support.answers import held
from tests.support.strategies import examples

START_S: Final = 1_000.0
DOWN: Final = Fault(FaultKind.NETWORK, "no route")


def moment(seconds: float) -> Instant:
    """So long after the start."""
    return Instant(1_800_000_000_000_000 + round(seconds * 1e6), START_S + seconds)


def made(seconds: float, amounts: Mapping[str, str], *, stated: bool = True, summed: str = "") -> Balance:
    """An answer that was asked for so long after the start, with these amounts and no other."""
    return Balance(
        holdings={code: held(amount, "0", amount) for code, amount in amounts.items()},
        as_of=moment(seconds),
        stated=stated,
        summed=frozenset(summed.split()) if summed else None,
    )


def answer(seconds: float, **amounts: str) -> Balance:
    """The same, in fewer words."""
    return made(seconds, amounts)


@dataclass
class Account:
    """One account, as the actor folds its reads."""

    doubts: Doubts = NO_DOUBTS
    last: Balance | None = None
    funded: bool = False
    allow_empty: bool = False

    def read(self, outcome: Balance | Fault) -> Balance | Fault | Unconfirmed:
        self.doubts, found = stated.judged(
            self.doubts, outcome, self.last, funded=self.funded, allow_empty=self.allow_empty
        )
        if isinstance(found, Balance):
            self.funded = self.funded or bool(found.holdings)
            if self.last is None or found.as_of.up_s >= self.last.as_of.up_s:
                self.last = found
        return found

    def of(self, code: str) -> Holding | None:
        assert self.last is not None
        return self.last.holdings.get(code)

    def doubted(self) -> set[str]:
        """The currencies whose free amount is unknown and that are marked."""
        assert self.last is not None
        marked = {code for code, it in self.last.holdings.items() if it.unstated_since_us is not None}
        assert marked == {code for code, it in self.last.holdings.items() if it.free is None}
        assert marked == set(self.doubts.missing)
        return marked

    def again(self, seconds: float) -> None:
        """A restart at this moment: what is stored is read back by another process of the same boot."""
        now = moment(seconds)
        health = replace(Health.begin(now), balance=self.last, funded=self.funded, doubts=self.doubts)
        back = carried_over(read(written(health, now, "one"), threshold=3), now, "one")
        self.doubts, self.last, self.funded = back.doubts, back.balance, back.funded


def known(**amounts: str) -> Account:
    """An account whose first answer had these amounts."""
    account = Account()
    account.read(answer(0.0, **amounts))
    return account


# One currency -----------------------------------------------------------------------------------


def test_a_currency_that_is_not_stated_keeps_its_total_and_nothing_of_it_can_be_spent() -> None:
    account = known(USD="100", BTC="2")
    account.read(answer(10.0, BTC="3"))
    assert account.of("USD") == Holding(
        free=None, used=None, total=Decimal(100), unstated_since_us=moment(10.0).wall_us
    )
    assert account.of("BTC") == held("3", "0", "3"), "what is stated is believed"
    assert account.last is not None
    assert account.last.cash(["USD", "USDT"]) is None, "unknown, and not the rest"
    assert account.last.cash(["USDT"]) == 0


def test_a_currency_that_held_nothing_is_not_doubted() -> None:
    account = known(USD="0", BTC="2")
    account.read(answer(10.0, BTC="2"))
    assert account.doubted() == set()
    assert account.of("USD") is None


def test_what_is_bound_or_owed_is_doubted_too_and_the_staked_part_stays_known() -> None:
    account = Account()
    before = {"USD": held("-3", "3", "0"), "DOT": held("1", "4", "5", staked="4"), "BTC": held("1", "0", "1")}
    account.read(Balance(holdings=before, as_of=moment(0.0)))
    account.read(answer(1.0, BTC="1"))
    assert account.doubted() == {"USD", "DOT"}
    dot = account.of("DOT")
    assert dot is not None
    assert (dot.total, dot.staked) == (Decimal(5), Decimal(4))


@pytest.mark.parametrize("amount", ["0", "100", "7"])
def test_a_stated_amount_ends_the_doubt_at_once(amount: str) -> None:
    account = known(USD="100", BTC="2")
    account.read(answer(10.0, BTC="2"))
    account.read(answer(11.0, BTC="2", USD=amount))
    assert account.doubted() == set()
    assert account.of("USD") == held(amount, "0", amount)


@pytest.mark.parametrize(
    ("at", "gone"),
    [
        ((0.1, 0.2, 0.3, 29.9), False),
        ((1.0, 31.0), False),
        ((1.0, 2.0, 30.9), False),
        ((1.0, 2.0, 31.0), True),
        ((1.0, 500.0), False),
        ((1.0, 500.0, 501.0), True),
        ((1.0, 1.0, 31.0), False),
    ],
)
def test_three_answers_over_half_a_minute_are_believed_whatever_the_interval(
    at: tuple[float, ...], gone: bool
) -> None:
    account = known(USD="100", BTC="2")
    for seconds in at:
        account.read(answer(seconds, BTC="2"))
    assert account.doubted() == (set() if gone else {"USD"})
    assert (account.of("USD") is None) is gone


def test_each_currency_has_a_count_of_its_own() -> None:
    account = known(USD="100", BTC="2", ETH="5")
    account.read(answer(1.0, BTC="2", ETH="5"))
    account.read(answer(16.0, ETH="5"))
    account.read(answer(31.0, ETH="5"))
    assert account.doubted() == {"BTC"}
    assert account.of("USD") is None
    account.read(answer(46.0, ETH="5"))
    assert account.doubted() == set()


@pytest.mark.parametrize("between", ["a fault", "an empty answer", "an answer with it"])
def test_what_stands_between_begins_the_count_again_and_leaves_the_doubt(between: str) -> None:
    account = known(USD="100", BTC="2")
    for seconds in (1.0, 20.0):
        account.read(answer(seconds, BTC="2"))
    if between == "an answer with it":
        account.read(answer(25.0, BTC="2", USD="100"))
        assert account.doubted() == set()
    else:
        account.read(DOWN if between == "a fault" else answer(25.0))
        assert account.doubted() == {"USD"}
    for seconds in (40.0, 50.0, 69.9):
        account.read(answer(seconds, BTC="2"))
        assert account.doubted() == {"USD"}
    account.read(answer(70.0, BTC="2"))
    assert account.of("USD") is None
    assert account.doubted() == set()


def test_the_mark_says_since_when_whatever_stands_between() -> None:
    account = known(USD="100", BTC="2")
    account.read(answer(10.0, BTC="2"))
    account.read(DOWN)
    account.read(answer(20.0, BTC="2"))
    usd = account.of("USD")
    assert usd is not None
    assert usd.unstated_since_us == moment(10.0).wall_us


def test_an_answer_that_is_older_than_the_last_known_neither_begins_nor_ends_a_doubt() -> None:
    account = known(USD="100", BTC="2")
    account.read(answer(10.0, USD="90", BTC="2"))
    account.read(answer(5.0, BTC="2"))
    assert account.doubted() == set()
    account.read(answer(20.0, BTC="2"))
    account.read(answer(15.0, BTC="2", USD="100"))
    assert account.doubted() == {"USD"}
    usd = account.of("USD")
    assert usd is not None
    assert usd.total == 90


def test_a_currency_that_is_named_and_cannot_be_read_stays_in_doubt_however_often() -> None:
    account = known(USD="100", BTC="2")
    for seconds in (1.0, 20.0, 40.0, 60.0):
        account.read(msgspec.structs.replace(answer(seconds, BTC="2"), unread=frozenset({"USD"})))
        assert account.doubted() == {"USD"}
    for seconds in (70.0, 80.0):
        account.read(answer(seconds, BTC="2"))
        assert account.doubted() == {"USD"}
    account.read(answer(100.0, BTC="2"))
    assert account.of("USD") is None, "three answers in a row do not even name it"


def test_what_was_never_read_is_unknown_until_it_is_stated_or_steadily_not_named() -> None:
    account = Account()
    account.read(msgspec.structs.replace(answer(0.0, BTC="2"), unread=frozenset({"USD"})))
    for seconds in (10.0, 20.0):
        account.read(answer(seconds, BTC="2"))
        assert account.last is not None
        assert account.last.cash(["USD"]) is None
    account.again(25.0)
    account.read(answer(40.0, BTC="2"))
    assert account.last is not None
    assert account.last.cash(["USD"]) == 0
    assert account.doubts == NO_DOUBTS


def test_a_currency_of_which_only_what_was_free_is_known_is_unread_when_it_is_not_stated_any_more() -> None:
    account = known(BTC="2")
    free = Holding(free=Decimal(9), used=None, total=None)
    both = answer(5.0, BTC="2")
    account.read(msgspec.structs.replace(both, holdings={**both.holdings, "USD": free}))
    for seconds in (10.0, 25.0):
        account.read(answer(seconds, BTC="2"))
        assert account.last is not None
        assert account.of("USD") is None
        assert account.last.unread == {"USD"}
        assert account.last.cash(["USD"]) is None
    account.read(answer(41.0, BTC="2"))
    assert account.last is not None
    assert account.last.unread == frozenset()
    assert account.last.cash(["USD"]) == 0


# What explains it -------------------------------------------------------------------------------


def sold(amount: str, *, step: str = "0") -> Fill:
    return Fill(spent="BTC", received="USD", amount=Decimal(amount), step=Decimal(step))


@pytest.mark.parametrize(
    ("fills", "explained"),
    [
        ([sold("2")], True),
        ([sold("1.5"), sold("0.5")], True),
        ([sold("3")], True),
        ([sold("1.999")], False),
        ([sold("1.999", step="0.01")], True),
        ([sold("1.99", step="0.01")], False),
        ([replace(sold("0"), amount=None)], False),
        ([Fill(spent="USD", received="BTC", amount=Decimal(2))], False),
        ([sold("2"), Fill(spent="USD", received="BTC", amount=None)], False),
    ],
)
def test_only_fills_of_ours_that_took_all_of_it_explain_that_it_is_gone(
    fills: list[Fill], explained: bool
) -> None:
    account = known(USD="100", BTC="2")
    for fill in fills:
        account.doubts = account.doubts.filled(fill, moment(5.0))
    account.read(answer(6.0, USD="100"))
    assert (account.of("BTC") is None) is explained
    assert account.doubted() == (set() if explained else {"BTC"})


def test_a_fill_explains_no_answer_that_was_asked_for_before_it_and_none_after_the_next_amount() -> None:
    account = known(USD="100", BTC="2")
    account.doubts = account.doubts.filled(sold("2"), moment(5.0))
    account.read(answer(4.0, USD="100"))
    assert account.doubted() == {"BTC"}
    account.read(answer(6.0, USD="100"))
    assert account.doubted() == set(), "one that was asked for after it is explained"
    account.read(answer(7.0, USD="100", BTC="2"))
    account.read(answer(8.0, USD="100"))
    assert account.doubted() == {"BTC"}, "what was sold before says nothing about what came afterwards"


def test_an_answer_from_before_a_fill_does_not_take_its_explanation_away() -> None:
    account = known(USD="100", BTC="2")
    account.doubts = account.doubts.filled(sold("2"), moment(5.0))
    account.read(answer(4.0, USD="100", BTC="2"))
    account.read(answer(6.0, USD="100"))
    assert account.doubted() == set()


def test_fills_add_up_over_answers_that_leave_the_coin_out() -> None:
    account = known(USD="100", BTC="2")
    for seconds, doubted in ((5.0, {"BTC"}), (10.0, set[str]())):
        account.doubts = account.doubts.filled(sold("1"), moment(seconds))
        account.read(answer(seconds + 1.0, USD="100"))
        assert account.doubted() == doubted


def test_a_sum_that_agrees_explains_what_it_counted_before_and_nothing_else() -> None:
    account = Account()
    account.read(made(0.0, {"USD": "100", "BTC": "2", "XYZ": "5"}, summed="USD BTC"))
    account.read(made(1.0, {"USD": "100"}, summed="USD"))
    assert account.of("BTC") is None
    assert account.doubted() == {"XYZ"}, "no sum ever counted it"
    account.read(answer(2.0, ETH="1"))
    assert account.doubted() == {"XYZ", "USD"}, "an answer without a sum that agrees explains nothing"


# No currency at all -----------------------------------------------------------------------------


def test_what_is_named_and_cannot_be_read_is_never_believed_to_be_gone() -> None:
    account = Account()
    account.read(answer(0, USD="5", BTC="1"))
    for second in range(10, 200, 10):
        account.read(msgspec.structs.replace(answer(second, USD="5"), unread=frozenset({"BTC"})))
    assert account.doubted() == {"BTC"}
    for second in (200, 220):
        account.read(answer(second, USD="5"))
    assert account.doubted() == {"BTC"}, "only answers that leave it out count"
    account.read(answer(240, USD="5"))
    assert account.of("BTC") is None


def test_an_account_that_held_something_is_empty_after_three_such_answers_over_half_a_minute() -> None:
    account = known(USD="1")
    words = "no currency at all, and there were some before; believed after 3 such answers over 30 s"
    for seconds in (10.0, 20.0, 39.9):
        assert account.read(answer(seconds)) == Fault(FaultKind.BAD_RESPONSE, words)
        assert account.of("USD") == held("1", "0", "1")
    assert account.read(answer(40.0)) == answer(40.0)
    assert account.read(answer(41.0)) == answer(41.0), "and from then on it is what is known"


def test_fifty_empty_answers_of_one_moment_are_one_answer() -> None:
    account = known(USD="1")
    assert all(isinstance(account.read(answer(1.0)), Fault) for _ in range(50))


@pytest.mark.parametrize(
    ("is_stated", "why"),
    [
        (True, "empty, confirming: no currency at all; believed after 3 such answers over 30 s"),
        (False, "empty, confirming: no error and no result; believed after 2 such answers over 30 s"),
    ],
)
def test_while_nothing_is_known_an_empty_answer_is_no_error_and_no_success(is_stated: bool, why: str) -> None:
    account = Account()
    for seconds in (0.0, 15.0, 29.9):
        assert account.read(made(seconds, {}, stated=is_stated)) == Unconfirmed(why)
    believed = made(30.0, {}, stated=is_stated)
    assert account.read(believed) == believed
    assert account.read(DOWN) == DOWN
    later = made(60.0, {}, stated=is_stated)
    assert account.read(later) == later, "an account that is known as empty needs no second proof"


@pytest.mark.parametrize("is_stated", [True, False])
def test_an_operator_may_say_that_a_new_account_is_empty(is_stated: bool) -> None:
    account = Account(allow_empty=True)
    assert account.read(made(0.0, {}, stated=is_stated)) == made(0.0, {}, stated=is_stated)
    account.read(answer(1.0, USD="5"))
    assert isinstance(account.read(answer(2.0)), Fault), "it says nothing of one that holds something"


def test_no_result_from_an_account_that_held_something_is_never_believed() -> None:
    account = known(USD="1")
    never = Fault(
        FaultKind.BAD_RESPONSE, "no error and no result, from an account that held something before"
    )
    assert {account.read(made(seconds, {}, stated=False)) for seconds in range(1, 999, 10)} == {never}
    for seconds in (1_000.0, 1_030.0, 1_060.0):
        account.read(answer(seconds))
    assert account.last == answer(1_060.0)
    assert account.read(made(1_070.0, {}, stated=False)) == never


def test_an_empty_answer_from_before_the_last_known_is_an_error_that_proves_nothing() -> None:
    account = known(USD="1")
    account.read(answer(100.0, USD="1"))
    for seconds in (10.0, 50.0, 90.0, 95.0):
        assert isinstance(account.read(answer(seconds)), Fault)
    assert account.doubts == NO_DOUBTS


def test_more_currencies_than_one_account_can_have_are_an_error() -> None:
    account = Account()
    account.read(made(0.0, {f"A{number}": "1" for number in range(3_000)}))
    found = account.read(made(1.0, {f"B{number}": "1" for number in range(1_001)}))
    assert isinstance(found, Fault)
    found = account.read(made(2.0, {f"B{number}": "1" for number in range(1_000)}))
    assert isinstance(found, Balance)
    assert len(found.holdings) == MAX_CURRENCIES == 4_000


# Every history of a small account, and random ones of a larger one --------------------------------

Happened = tuple[str, float]
"""What happened, and when: a both, o without BTC, e without any, f failed, x all BTC sold, r restart."""


def outcome_of(what: str, seconds: float) -> Balance | Fault:
    if what == "f":
        return DOWN
    return made(seconds, {"a": {"USD": "1", "BTC": "2"}, "o": {"USD": "1"}, "e": {}}[what])


def agree(history: list[Happened], what: str) -> bool:
    """Whether the newest answers are all of this kind, three of them, over half a minute."""
    run: list[float] = []
    for happened, seconds in reversed(history):
        if happened == what:
            run.append(seconds)
        elif happened not in "xr":
            break
    return len(run) >= 3 and run[0] - run[-1] >= 30.0


def expected(history: list[Happened]) -> tuple[str, str]:
    """(the outcome of the newest read, what is known of BTC), by looking at the whole history each time."""
    outcome, bitcoin, is_known, sold_all = "", "unknown", "", False
    for number, (what, _) in enumerate(history, 1):
        so_far = history[:number]
        if what == "a":
            outcome, bitcoin, is_known, sold_all = "balance", "known", "some", False
        elif what == "o":
            if bitcoin in ("known", "doubted"):
                bitcoin = "gone" if sold_all or agree(so_far, "o") else "doubted"
            outcome, is_known = "balance", "some"
        elif what == "e":
            if is_known != "some" and (is_known == "none" or agree(so_far, "e")):
                outcome, is_known = "balance", "none"
            elif is_known == "some" and agree(so_far, "e"):
                outcome, bitcoin, is_known = "balance", "gone", "none"
            else:
                outcome = "fault" if is_known == "some" else "unconfirmed"
        elif what == "f":
            outcome = "fault"
        elif what == "x":
            sold_all = bitcoin in ("known", "doubted")
    return outcome, bitcoin


KINDS: Final = {Balance: "balance", Fault: "fault", Unconfirmed: "unconfirmed"}


@pytest.mark.parametrize(("every_s", "longest"), [(15.0, 6), (10.0, 5), (60.0, 4)])
def test_any_history_leads_to_what_all_of_it_says(every_s: float, longest: int) -> None:
    waiting: list[tuple[Account, list[Happened], str]] = [(Account(), [], "")]
    ends: set[tuple[str, str]] = set()
    looked_at = 0
    while waiting:
        account, history, outcome = waiting.pop()
        looked_at += 1
        found, bitcoin = expected(history)
        assert outcome == found, history
        ends.add((outcome, bitcoin))
        here = None if account.last is None else account.last.holdings.get("BTC")
        if bitcoin in ("unknown", "gone"):
            assert here is None, history
        else:
            assert here is not None, history
            assert here.total == 2, history
            assert (here.free is None) is (bitcoin == "doubted"), history
        if len(history) == longest:
            continue
        seconds = len(history) * every_s
        for what in "aoefxr":
            after, said = replace(account), outcome
            if what == "r":
                after.again(seconds)
            elif what == "x":
                after.doubts = after.doubts.filled(sold("2"), moment(seconds))
            else:
                said = KINDS[type(after.read(outcome_of(what, seconds)))]
            waiting.append((after, [*history, (what, seconds)], said))
    assert {bitcoin for _, bitcoin in ends} == {"unknown", "known", "doubted", "gone"}
    assert {outcome for outcome, _ in ends} == {"", "balance", "fault", "unconfirmed"}
    assert looked_at == (6 ** (longest + 1) - 1) // 5


CODES: Final = ("USD", "BTC", "ETH", "XYZ")


@st.composite
def reads(draw: st.DrawFn) -> list[tuple[float, str, frozenset[str]]]:
    """(seconds since the one before, what happened, the currencies that it states), in runs of like ones."""
    found: list[tuple[float, str, frozenset[str]]] = []
    for _ in range(draw(st.integers(1, 8))):
        what = draw(st.sampled_from(("read", "read", "read", "fault", "restart")))
        names = draw(st.frozensets(st.sampled_from(CODES)))
        gap = draw(st.sampled_from((0.5, 1.0, 10.0, 15.0, 29.9, 30.0, 600.0)))
        found += [(gap, what, names)] * (draw(st.integers(1, 4)) if what == "read" else 1)
    return found


@settings(max_examples=examples(100))
@given(reads())
def test_nothing_that_was_held_goes_but_by_three_answers_over_half_a_minute(
    ways: list[tuple[float, str, frozenset[str]]],
) -> None:
    account, seconds, number = Account(), 0.0, 0
    told: dict[str, Decimal] = {}
    silent: dict[str, list[float]] = {}
    for gap, what, names in ways:
        seconds += gap
        before = {} if account.last is None else dict(account.last.holdings)
        if what == "restart":
            account.again(seconds)
            assert account.last is None or account.last.holdings == before, "a restart changes nothing"
            continue
        number += 1
        amounts = dict.fromkeys(names, str(number))
        found = account.read(DOWN if what == "fault" else made(seconds, amounts))
        if not names or what == "fault":
            silent = {}  # it agrees with no answer that states something
            if not isinstance(found, Balance):
                after = {} if account.last is None else dict(account.last.holdings)
                assert after == before, "what proves nothing changes nothing"
            continue
        assert account.last is not None
        for code in CODES:
            here = account.last.holdings.get(code)
            if code in names:
                told[code], silent[code] = Decimal(number), []
                assert here == held(str(number), "0", str(number))
                continue
            silent.setdefault(code, []).append(seconds)
            if here is not None:
                assert (here.total, here.free) == (told[code], None)
                assert account.last.cash([code]) is None
            elif code in before:
                assert len(silent[code]) >= 3, (code, silent)
                assert silent[code][-1] - silent[code][0] >= 30.0, (code, silent)
                event("one went after steady answers")


def test_a_restart_keeps_the_count_and_a_wall_clock_that_jumps_adds_no_time_to_it() -> None:
    account = known(USD="100", BTC="2")
    for seconds in (1.0, 10.0):
        account.read(answer(seconds, BTC="2"))
    health = replace(Health.begin(moment(10.0)), balance=account.last, doubts=account.doubts)
    stored = read(written(health, moment(10.0), "one"), threshold=3)
    an_hour_on = Instant(moment(10.0).wall_us + 3_600_000_000, 5.0)
    other = carried_over(stored, an_hour_on, "another boot")
    asked = Instant(an_hour_on.wall_us, 6.0)
    after, found = stated.judged(
        other.doubts, msgspec.structs.replace(answer(0.0, BTC="2"), as_of=asked), other.balance
    )
    assert isinstance(found, Balance)
    assert found.holdings["USD"].free is None, "three answers, and nine seconds and one that are known of"
    assert after.missing["USD"].reads == 3
    asked = Instant(an_hour_on.wall_us, 27.0)
    _, found = stated.judged(after, msgspec.structs.replace(answer(0.0, BTC="2"), as_of=asked), found)
    assert isinstance(found, Balance)
    assert "USD" not in found.holdings, "nine seconds before and twenty-two after"


def test_what_is_remembered_late_puts_in_doubt_what_the_newer_balance_leaves_out() -> None:
    before = known(USD="100", BTC="2", ETH="1")
    before.read(answer(5.0, USD="100", ETH="1"))
    assert before.last is not None
    now = moment(20.0)
    fresh = Health.begin(now)
    assert fresh.remembered(before.last, now, before.doubts).doubts == before.doubts
    health = fresh.seen(answer(20.0, ETH="1"), now).remembered(before.last, now, before.doubts)
    assert health.balance is not None
    assert {code: (it.total, it.free) for code, it in health.balance.holdings.items()} == {
        "ETH": (Decimal(1), Decimal(1)),
        "USD": (Decimal(100), None),
        "BTC": (Decimal(2), None),
    }
    assert {code: absence.reads for code, absence in health.doubts.missing.items()} == {"USD": 1, "BTC": 2}
    _, found = stated.judged(health.doubts, answer(36.0, ETH="1"), health.balance)
    assert isinstance(found, Balance)
    assert set(found.holdings) == {"ETH", "USD"}, "the count goes on"
    own = known(ETH="1", XYZ="3")
    own.read(answer(30.0, ETH="1"))
    assert own.last is not None
    newest, doubts = stated.recalled(own.doubts, own.last, before.doubts, before.last)
    assert set(doubts.missing) == {"USD", "BTC", "XYZ"}, "and what is in doubt here stays so"
    assert {code for code, it in newest.holdings.items() if it.free is None} == {"USD", "BTC", "XYZ"}
