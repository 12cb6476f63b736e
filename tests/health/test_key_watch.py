"""The watch of one key: what begins and ends a warning, each once, and what is not stated."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.health.key_watch import DAY_US, KeyWatch, is_left_out, news
from brokerwatch.messages.key import KeyStatement, KeyWarning

NOW_US: Final = 1_800_000_000_000_000
HOUR_US: Final = 3_600_000_000
RIGHTS: Final = ("modify-trades", "query-funds")


def said(**values: Any) -> KeyStatement:
    usual: dict[str, Any] = {"read": True, "trade": True, "withdraw": False, "rights": RIGHTS}
    usual["fingerprint"] = "k"
    return KeyStatement(**{**usual, **values})


def words(watch: KeyWatch) -> list[KeyWarning]:
    return [each.word for each in watch.warnings]


def test_a_key_of_which_nothing_is_stated_is_unknown_and_no_warning() -> None:
    assert KeyWatch().data is None
    assert KeyWatch().at(NOW_US) == KeyWatch()
    watch = KeyWatch().stated(KeyStatement(fingerprint="k"), NOW_US, "203.0.113.7")
    data = watch.data
    assert data is not None
    assert (data.read, data.trade, data.withdraw, data.expires_us, data.never_ends) == (
        *(None, None, None, None),
        False,
    )
    assert data.address_bound is None
    assert data.checked_us == NOW_US
    assert not data.warnings


@pytest.mark.parametrize(
    ("days", "word"),
    [
        (15.0, None),
        (14.0, KeyWarning.ENDS_IN_14_DAYS),
        (7.1, KeyWarning.ENDS_IN_14_DAYS),
        (7.0, KeyWarning.ENDS_IN_7_DAYS),
        (1.0, KeyWarning.ENDS_IN_1_DAY),
        (0.1, KeyWarning.ENDS_IN_1_DAY),
        (0.0, KeyWarning.ENDED),
        (-3.0, KeyWarning.ENDED),
    ],
)
def test_a_key_that_ends_soon_has_the_warning_of_its_last_days(days: float, word: KeyWarning | None) -> None:
    watch = KeyWatch().stated(said(expires_us=NOW_US + round(days * DAY_US)), NOW_US)
    assert words(watch) == ([] if word is None else [word])


def test_each_of_the_warnings_before_the_end_is_news_once() -> None:
    watch = KeyWatch().stated(said(expires_us=NOW_US + 20 * DAY_US), NOW_US)
    begun: list[str] = []
    for hour in range(21 * 24):
        now_us = NOW_US + hour * HOUR_US
        later = watch.stated(said(expires_us=NOW_US + 20 * DAY_US), now_us) if hour % 5 else watch.at(now_us)
        begun += [str(each.word) for each in news(watch, later)]
        # What a restart would know.
        watch = msgspec.json.decode(msgspec.json.encode(later), type=KeyWatch)
    assert begun == ["ends_in_14_days", "ends_in_7_days", "ends_in_1_day", "ended"]


def test_a_clock_that_is_set_back_repeats_no_warning() -> None:
    watch = KeyWatch().stated(said(expires_us=NOW_US + DAY_US), NOW_US)
    back = watch.at(NOW_US - 30 * DAY_US)
    assert words(back) == [KeyWarning.ENDS_IN_1_DAY]
    assert not list(news(watch, back.at(NOW_US)))


def test_a_key_that_was_renewed_is_warned_of_anew() -> None:
    watch = KeyWatch().stated(said(expires_us=NOW_US + DAY_US), NOW_US)
    renewed = watch.stated(said(expires_us=NOW_US + 13 * DAY_US), NOW_US + HOUR_US)
    assert [str(each.word) for each in news(watch, renewed)] == ["ends_in_14_days"]
    assert not words(renewed.stated(said(never_ends=True), NOW_US))
    assert not words(renewed.stated(said(expires_us=NOW_US + 90 * DAY_US), NOW_US))


def test_the_right_to_withdraw_is_news_when_it_is_gained_and_ends_with_it() -> None:
    before = KeyWatch().stated(said(), NOW_US)
    gained = before.stated(said(withdraw=True), NOW_US + 1)
    assert [(each.word, each.detail) for each in news(before, gained)] == [
        (KeyWarning.CAN_WITHDRAW, "it has gained the right to withdraw")
    ]
    again = gained.stated(said(withdraw=True), NOW_US + 2)
    assert not list(news(gained, again))
    assert words(again.stated(said(withdraw=None), NOW_US + 3)) == [KeyWarning.CAN_WITHDRAW], "not stated"
    lost = again.stated(said(withdraw=False), NOW_US + 4)
    assert not words(lost), "that a thief cannot withdraw is no loss"
    assert list(news(lost, lost.stated(said(withdraw=True), NOW_US + 5)))


def test_a_key_that_could_always_withdraw_is_told_once_too() -> None:
    first = KeyWatch().stated(said(withdraw=True), NOW_US)
    assert [each.detail for each in news(KeyWatch(), first)] == ["it may withdraw"]


def test_a_right_that_is_lost_is_named_until_it_is_back_or_acknowledged() -> None:
    before = KeyWatch().stated(said(), NOW_US)
    lost = before.stated(said(trade=False, rights=("query-funds",)), NOW_US + 1)
    assert [each.detail for each in news(before, lost)] == ["it has lost the right modify-trades"]
    assert words(lost.stated(said(rights=None), NOW_US + 2)) == [KeyWarning.RIGHT_LOST], "not stated"
    assert not words(lost.stated(said(), NOW_US + 2))
    known = lost.acknowledged()
    assert not words(known)
    assert not words(known.stated(said(trade=False, rights=("query-funds",)), NOW_US + 3))
    assert words(known.stated(said(rights=()), NOW_US + 4)) == [KeyWarning.RIGHT_LOST]


def test_another_key_begins_anew() -> None:
    watch = KeyWatch().stated(said(withdraw=True, expires_us=NOW_US), NOW_US)
    other = watch.stated(said(fingerprint="other", rights=("query-funds",)), NOW_US + 1)
    assert not words(other)
    assert other.had == ("query-funds",)


OURS: Final = "203.0.113.7"


@pytest.mark.parametrize(
    ("listed", "left_out"),
    [
        (None, False),
        ((), False),
        ((OURS,), False),
        (("198.51.100.9", OURS), False),
        (("198.51.100.9",), True),
        (("203.0.113.0/24",), False),
        (("203.0.112.0/24",), True),
        (("203.0.113.1-203.0.113.9",), False),
        (("203.0.113.8-203.0.113.9",), True),
        (("2001:db8::/32",), True),
        (("*",), False),
        (("203.**.154",), False),
        (("bot.example.com", "198.51.100.9"), False),
    ],
)
def test_our_address_is_left_out_only_where_that_is_certain(
    listed: tuple[str, ...] | None, left_out: bool
) -> None:
    assert is_left_out(OURS, listed) is left_out
    watch = KeyWatch().stated(said(addresses=listed), NOW_US, OURS)
    assert words(watch) == ([KeyWarning.ADDRESS_NOT_LISTED] if left_out else [])
    assert not words(KeyWatch().stated(said(addresses=listed), NOW_US)), "we do not know our address"
    assert watch.data is not None
    assert watch.data.address_bound is (None if listed is None else bool(listed))


def test_the_exchanges_own_refusal_of_our_address_stands_until_it_answers() -> None:
    refused = KeyWatch().refused("Your IP is not included", NOW_US)
    assert words(refused) == [KeyWarning.ADDRESS_NOT_LISTED]
    assert refused.data is not None
    assert refused.data.checked_us == 0, "it stated nothing of the key"
    assert refused.refused("other words, once more", NOW_US + 1) is refused
    assert not words(refused.answered(NOW_US + 2))
    watch = KeyWatch().stated(said(), NOW_US)
    assert watch.answered(NOW_US + 1) is watch


@given(
    st.lists(
        st.tuples(
            st.sampled_from((None, True, False)),
            st.none() | st.sets(st.sampled_from(("a", "b"))).map(lambda each: tuple(sorted(each))),
            st.none() | st.integers(-2, 20),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_whatever_is_stated_no_warning_is_news_twice_and_a_restart_changes_nothing(
    history: list[tuple[bool | None, tuple[str, ...] | None, int | None, int]],
) -> None:
    watch, now_us, told = KeyWatch(), NOW_US, list[tuple[str, int]]()
    for withdraw, rights, days, hours in history:
        now_us += 1 + hours * HOUR_US
        ends_us = None if days is None else NOW_US + days * DAY_US
        after = watch.stated(said(withdraw=withdraw, rights=rights, expires_us=ends_us), now_us)
        told += [(str(each.word), each.since_us) for each in news(watch, after)]
        assert len({each.word for each in after.warnings}) == len(after.warnings)
        watch = msgspec.json.decode(msgspec.json.encode(after), type=KeyWatch)
        assert watch == after
    assert len(told) == len(set(told))
