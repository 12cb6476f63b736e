"""Health as text and back: a copy that folds on the same, ages that never fall, and no other error."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.config.policy import GUARDED, SIMPLE, Rules
from brokerwatch.health.state_machine import OWN_VETOES, PRECEDENCE, Health, verdict
from brokerwatch.health.stated import NO_DOUBTS, Absence, Doubts, Taken
from brokerwatch.health.watched import NOTHING_WATCHED, Watched
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Reason, Wallet
from brokerwatch.messages.key import KeyStatement
from brokerwatch.storage.health_record import (
    FORM,
    LARGEST_US,
    LONGEST_VETO_S,
    Written,
    carried_over,
    read,
    written,
)
from tests.support import strategies as our
from tests.support.strategies import Step, fold, moved

NOW: Final = our.THE_START
LATER: Final = moved(NOW, 90.0)
MONEY: Final = our.SMALL_BALANCES[1]
DOUBTS: Final = Doubts(
    missing={"BTC": Absence(moved(NOW, 1.0), moved(NOW, 2.0), moved(NOW, 3.0), 2)},
    empty=Absence(moved(NOW, 4.0), moved(NOW, 5.0), moved(NOW, 6.0), 1),
    taken={"ETH": Taken(Decimal("1.5"), Decimal("0.01"), moved(NOW, 7.0))},
)
"""Something in every field."""


def lived(history: list[Step], rules: Rules = GUARDED, threshold: int = 3) -> Health:
    health = Health.begin(NOW, threshold=threshold, rules=rules)
    for step, now in our.moments(history):
        health = fold(health, step, now)
    return health


def example() -> Health:
    """A health with something in every field."""
    funding = Wallet(holdings=MONEY.holdings, as_of=moved(NOW, -40.0), trouble="not today")
    unread = Wallet(holdings=None, as_of=None, trouble="never read")
    balance = msgspec.structs.replace(MONEY, wallets={"funding": funding, "vault": unread})
    health = lived(
        [Step("success", balance=balance), Step("fault", fault=Fault(FaultKind.NETWORK, "x", 3.0))]
    )
    health = health.failed(Fault(FaultKind.AUTH, "no", lockout_s=900.0), LATER).locked(
        moved(NOW, 1e5), "y", LATER
    )
    return replace(health, doubts=DOUBTS)


# A copy ---------------------------------------------------------------------------------------------


@settings(max_examples=our.examples(150))
@given(
    before=our.histories(8),
    after=our.histories(8),
    rules=our.rules(),
    threshold=st.integers(1, 4),
)
def test_writing_and_reading_anywhere_in_a_history_changes_nothing_that_follows(
    before: list[Step], after: list[Step], rules: Rules, threshold: int
) -> None:
    health = lived(before, rules, threshold)
    found = read(written(health, LATER), threshold=threshold, rules=rules)
    copy, at = found.health, found.at
    assert (copy, at) == (health, LATER)
    for step, now in our.moments(after, moved(LATER, 86_400.0)):
        health, copy = fold(health, step, now), fold(copy, step, now)
        assert copy == health
        assert verdict(copy.state, copy.vetoes) == verdict(health.state, health.vetoes)
    assert written(copy, LATER) == written(health, LATER)


def possible(known: Balance | Wallet) -> bool:
    """Whether a clock can have shown when it was asked for: what lies beyond 2099 is not read back."""
    return known.as_of is None or known.as_of.wall_us < LARGEST_US


@settings(max_examples=our.examples(60))
@given(
    balance=our.balances().filter(possible),
    wallets=st.dictionaries(our.texts(8), our.wallets().filter(possible), max_size=2),
    fault=our.faults(),
)
def test_every_digit_and_every_word_is_kept(
    balance: Balance, wallets: dict[str, Wallet], fault: Fault
) -> None:
    whole = msgspec.structs.replace(balance, wallets=wallets, stated=False)
    health = Health.begin(NOW).seen(whole, NOW).failed(fault, NOW)
    copy = read(written(health, NOW), threshold=3).health
    assert copy == health
    assert copy.balance is not None
    for code, held in balance.holdings.items():
        kept = copy.balance.holdings[code]
        for part in ("free", "used", "total", "staked", "earning"):
            assert str(getattr(kept, part)) == str(getattr(held, part))


def test_every_field_of_a_health_is_written_but_those_of_the_configuration() -> None:
    plain = json.loads(written(example(), LATER))
    own = {each.name for each in fields(Health)} - {"threshold", "rules"}
    assert set(plain) == own | {"form", "written", "boot", "lifted_us"}
    assert plain["form"] == FORM == 1
    begun = Health.begin(NOW)
    assert all(getattr(example(), name) != getattr(begun, name) for name in own - {"successes", "recent"})


def test_rules_and_threshold_are_those_of_the_configuration_of_today() -> None:
    found = read(written(example(), LATER), threshold=7, rules=SIMPLE).health
    assert (found.threshold, found.rules) == (7, SIMPLE)
    assert read(written(example(), LATER), threshold=7).health.rules == SIMPLE
    recovering = lived([*[Step("fault", fault=Fault(FaultKind.NETWORK))] * 3, Step("success", balance=MONEY)])
    simple = read(written(recovering, NOW), threshold=3).health
    assert simple.state is HealthState.RECOVERING
    assert simple.seen(MONEY, NOW).state is HealthState.HEALTHY


# Another process, another clock ---------------------------------------------------------------------


def ages(health: Health, now: Instant) -> dict[str, float]:
    """How long ago each moment is, by the monotonic clock of the process that asks."""
    found = {"since": now.up_s - health.since.up_s}
    if health.balance is not None:
        found["as_of"] = now.up_s - health.balance.as_of.up_s
        for name, wallet in health.balance.wallets.items():
            if wallet.as_of is not None:
                found[f"wallet {name}"] = now.up_s - wallet.as_of.up_s
    for reason, veto in health.vetoes.laid.items():
        found[f"{reason} since"] = now.up_s - veto.since.up_s
        if veto.until is not None:
            found[f"{reason} until"] = now.up_s - veto.until.up_s
    return found


@settings(max_examples=our.examples(200))
@given(
    history=our.histories(8),
    rules=our.rules(),
    gone_s=our.steps_s(),
    jump_s=our.wall_jumps_s() | st.just(0.0),
    up_s=st.sampled_from((0.0, 12.5, 1_000.0, 1e7)),
)
def test_no_jump_of_the_wall_clock_makes_anything_younger_in_the_next_process(
    history: list[Step], rules: Rules, gone_s: float, jump_s: float, up_s: float
) -> None:
    health = lived(history, rules)
    wrote = moved(LATER, 86_400.0)
    now = Instant(wrote.wall_us + round((gone_s + jump_s) * 1_000_000), up_s)
    carried = carried_over(Written(health, wrote, ""), now)
    before, after = ages(health, wrote), ages(carried, now)
    assert after.keys() == before.keys()
    passed_s = max(0.0, gone_s + jump_s)
    for name, age_s in after.items():
        assert age_s >= before[name] - 1e-5, name
        assert age_s == pytest.approx(before[name] + passed_s, abs=1e-4), name
    # The moments as people read them, and everything that is no moment, stay.
    assert timeless(carried) == timeless(health)
    if health.balance is not None and carried.balance is not None:
        assert carried.balance.as_of.wall_us == min(health.balance.as_of.wall_us, now.wall_us)
        assert carried.balance.as_of.up_s <= now.up_s
        assert dict(carried.balance.holdings) == dict(health.balance.holdings)


def timeless(health: Health) -> tuple[object, ...]:
    vetoes = {
        reason: (veto.since.wall_us, veto.detail, veto.until is None)
        for reason, veto in health.vetoes.laid.items()
    }
    plain = replace(health, since=NOW, balance=None, vetoes=replace(health.vetoes, laid={}))
    return (health.since.wall_us, plain, vetoes)


def test_what_passed_between_two_processes_is_the_wall_clocks_difference() -> None:
    health = example()
    now = Instant(LATER.wall_us + 60_000_000, 5.0)
    carried = carried_over(Written(health, LATER, ""), now)
    assert carried.since == Instant(LATER.wall_us, 5.0 - 60.0)
    assert carried.balance is not None
    assert carried.balance.as_of == Instant(NOW.wall_us, 5.0 - 150.0)
    assert carried.balance.wallets["funding"].as_of == Instant(NOW.wall_us - 40_000_000, 5.0 - 190.0)
    assert carried.balance.wallets["funding"].trouble == "not today"
    assert carried.balance.wallets["vault"].as_of is None
    lockout = carried.vetoes.laid[Reason.LOCKED_OUT]
    assert lockout.until is not None
    assert lockout.until.up_s == 5.0 + LONGEST_VETO_S, "no lockout lasts longer"
    assert carried.vetoes.laid[Reason.AUTH].until is None
    assert carried.vetoes.lifted_us == health.vetoes.lifted_us
    set_back = carried_over(Written(health, LATER, ""), Instant(LATER.wall_us - 10**15, 5.0))
    assert set_back.since.up_s == 5.0


@pytest.mark.parametrize("lasts_s", [900.0, LONGEST_VETO_S])
def test_a_lockout_goes_on_for_what_is_left_of_it(lasts_s: float) -> None:
    told = Instant(NOW.wall_us + 1, NOW.up_s + lasts_s)
    health = lived([]).locked(told, "told", NOW)
    at_once = carried_over(Written(health, NOW, ""), Instant(NOW.wall_us, 5.0))
    assert at_once.vetoes.laid[Reason.LOCKED_OUT].until == Instant(told.wall_us, 5.0 + lasts_s)
    later = carried_over(Written(health, NOW, ""), Instant(NOW.wall_us + 300_000_000, 5.0))
    assert later.vetoes.laid[Reason.LOCKED_OUT].until == Instant(told.wall_us, 5.0 + lasts_s - 300.0)


def test_a_lockout_that_no_exchange_tells_is_cut_to_the_longest_on_both_clocks() -> None:
    health = lived([]).locked(moved(NOW, 86_400.0), "the clock jumped", NOW)
    now = Instant(NOW.wall_us + 60_000_000, 5.0)
    carried = carried_over(Written(health, NOW, ""), now)
    assert carried.vetoes.laid[Reason.LOCKED_OUT].until == moved(now, 3_600.0)


def test_within_one_boot_a_clock_that_was_set_back_makes_nothing_younger() -> None:
    health = lived([Step("success", balance=MONEY)])
    stored = read(written(health, NOW, "boot-1"), threshold=3)
    hour_back = Instant(NOW.wall_us - 3_600_000_000, NOW.up_s + 15.0)
    here = carried_over(stored, hour_back, "boot-1").balance
    assert here is not None
    assert hour_back.up_s - here.as_of.up_s == pytest.approx(15.0 + NOW.up_s - MONEY.as_of.up_s)
    elsewhere = carried_over(stored, hour_back, "boot-2").balance
    assert elsewhere is not None
    assert hour_back.up_s - elsewhere.as_of.up_s == pytest.approx(NOW.up_s - MONEY.as_of.up_s)


def test_nothing_was_read_in_the_future() -> None:
    tomorrow = Instant(NOW.wall_us + 86_400_000_000, NOW.up_s + 86_400.0)
    ahead = replace(lived([Step("success", balance=MONEY)]), balance=our.seen_at(MONEY, tomorrow))
    carried = carried_over(Written(ahead, NOW, ""), LATER)
    assert carried.balance is not None
    assert (carried.balance.as_of.up_s, carried.balance.as_of.wall_us) == (LATER.up_s, LATER.wall_us)
    fresh = our.seen_at(our.SMALL_BALANCES[0], LATER)
    assert carried.seen(fresh, LATER).balance == fresh, "what is read from now on is newer"


@pytest.mark.parametrize(
    ("key", "absurd"),
    [
        ("error_count", 10**18),
        ("lifted_us", 10**18),
        ("since", {"wall_us": 0, "up_s": 1e308}),
        ("written", {"wall_us": 0, "up_s": -1e308}),
        ("since", {"wall_us": 10**17, "up_s": 0.0}),
    ],
)
def test_a_moment_or_a_count_that_cannot_be_is_not_read(key: str, absurd: object) -> None:
    assert "cannot be" in refused(json.dumps({**plain(), key: absurd}))


@pytest.mark.parametrize(
    ("key", "last", "too_much"),
    [
        ("version", LARGEST_US - 1, LARGEST_US),
        ("since", {"wall_us": LARGEST_US - 1, "up_s": 0.0}, {"wall_us": LARGEST_US, "up_s": 0.0}),
        ("since", {"wall_us": 0, "up_s": 9_999_999_999.0}, {"wall_us": 0, "up_s": 10_000_000_000.0}),
    ],
)
def test_the_year_2100_and_three_hundred_years_of_uptime_are_the_first_that_cannot_be(
    key: str, last: object, too_much: object
) -> None:
    read(json.dumps({**plain(), key: last}), threshold=3)
    assert "cannot be" in refused(json.dumps({**plain(), key: too_much}))


@pytest.mark.parametrize("moment", ["since", "until"])
def test_a_veto_with_a_moment_that_cannot_be_is_not_read(moment: str) -> None:
    document = plain()
    document["vetoes"]["locked_out"][moment] = {"wall_us": 10**17, "up_s": 0.0}
    assert "cannot be" in refused(json.dumps(document))


def test_where_nobody_knows_the_boot_none_is_written() -> None:
    assert json.loads(written(example(), LATER))["boot"] == ""


def test_a_fresh_answer_replaces_what_was_carried_over() -> None:
    for wall_us in (0, NOW.wall_us, NOW.wall_us + 10**15):
        now = Instant(wall_us, 3.0)
        carried = carried_over(Written(lived([Step("success", balance=MONEY)]), NOW, ""), now).restarted(now)
        fresh = our.seen_at(our.SMALL_BALANCES[0], now)
        assert carried.seen(fresh, now).balance == fresh


def test_nothing_that_was_convicted_is_available_in_the_next_process() -> None:
    for health in (example(), lived([Step("fault", fault=Fault(FaultKind.NETWORK))] * 3)):
        again = read(written(health, LATER), threshold=3, rules=GUARDED)
        next_life = carried_over(again, Instant(0, 0.0)).restarted(Instant(0, 0.0))
        assert next_life.state is HealthState.UNAVAILABLE
        assert next_life.vetoes.laid.keys() == health.vetoes.laid.keys()


# Anything else --------------------------------------------------------------------------------------


def refused(text: str) -> str:
    with pytest.raises(ValueError, match=r"not a health of ours|written in form|surrogates") as error:
        read(text, threshold=3)
    return str(error.value)


def check(text: str) -> bool:
    """Whether it is a health; and nothing but a ValueError comes out when it is none."""
    try:
        found = read(text, threshold=3)
    except ValueError:
        return False
    assert read(written(found.health, found.at, found.boot), threshold=3) == found
    return True


def plain() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(example(), LATER))
    return found


def test_another_form_is_not_read_and_says_which_one_it_is() -> None:
    assert refused(json.dumps({**plain(), "form": 2})) == "written in form 2; this version reads 1"
    assert refused("").startswith("not a health of ours: ")


@settings(max_examples=our.examples(200))
@given(text=st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_random_text_is_no_health(text: str) -> None:
    assert not check(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", "0", '"x"', "NaN", "{", "\ud800", "\x00", '{"form":1}', "é" * 1_000),
        *("[" * 100_000, '{"a":' * 100_000, "1" * 100_000, '{"balance":' * 5_000),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_hostile_text_is_no_health(text: str) -> None:
    refused(text)


NODES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(("", "x", "network", "locked_out", "1e400", "\ud800")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node below the top."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = [*cast("dict[str, Any]", value).items()]
    elif isinstance(value, list):
        inner = list(enumerate(cast("list[object]", value)))
    return [found for key, child in inner for found in ((*path, key), *paths(child, (*path, key)))]


@settings(max_examples=our.examples(400))
@given(data=st.data())
def test_a_health_with_any_node_spoilt_or_lost_is_a_health_or_a_value_error(data: st.DataObject) -> None:
    document = plain()
    *way, last = data.draw(st.sampled_from(paths(document)))
    inner: Any = document
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[last] = data.draw(NODES)
    else:
        del inner[last]
    check(json.dumps(document))


def test_a_health_with_any_one_character_changed_or_cut_off_is_a_health_or_a_value_error() -> None:
    text = written(example(), LATER)
    still = sum(
        check(text[:place] + other + text[place + 1 :])
        for place in range(len(text))
        for other in ("0", "-", '"', "}", "e")
    )
    assert still, "some changes only change a word"
    for length in range(len(text)):
        assert not check(text[:length])


LATER_KEYS: Final = {"doubts", "refusals", "probe_at"}
"""Keys that the first version did not write."""


def test_what_the_first_version_wrote_is_read() -> None:
    document = plain()
    for key in LATER_KEYS:
        del document[key]
    found = read(json.dumps(document), threshold=3).health
    assert (found.refusals, found.probe_at) == (0, None)


@pytest.mark.parametrize("key", sorted(json.loads(written(example(), LATER)).keys() - LATER_KEYS))
def test_a_key_that_is_missing_is_an_error(key: str) -> None:
    document = plain()
    del document[key]
    refused(json.dumps(document))


def test_a_health_that_an_older_version_wrote_has_nothing_in_doubt() -> None:
    document = plain()
    del document["doubts"]
    for held in document["balance"]["holdings"].values():
        del held["unstated_since_us"]
    del document["balance"]["summed"]
    found = read(json.dumps(document), threshold=3, rules=GUARDED).health
    assert found == replace(example(), doubts=NO_DOUBTS)


def test_the_time_over_which_answers_agree_goes_on_within_one_boot_alone() -> None:
    for boot, gone_s in (("one", 40.0), ("other", 0.0), ("", 0.0)):
        stored = read(written(example(), LATER, "one"), threshold=3)
        now = Instant(LATER.wall_us + 3_600_000_000, LATER.up_s + 40.0)
        doubts = carried_over(stored, now, boot).doubts
        absence, empty, fills = doubts.missing["BTC"], doubts.empty, doubts.taken["ETH"]
        assert empty is not None
        moments = [absence.since, absence.first, absence.newest, empty.since, empty.first, empty.newest]
        ages_s = [now.up_s - moment.up_s - gone_s for moment in (*moments, fills.at)]
        assert ages_s == pytest.approx([89.0, 88.0, 87.0, 86.0, 85.0, 84.0, 83.0])
        assert (absence.reads, empty.reads, fills.amount) == (2, 1, Decimal("1.5"))


@pytest.mark.parametrize("key", ["error_count", "version", "successes"])
def test_a_count_below_zero_would_put_off_a_conviction_and_is_refused(key: str) -> None:
    for wrong in (-1, -(2**40), 1.5, "1", None, True):
        refused(json.dumps({**plain(), key: wrong}))


@pytest.mark.parametrize("reason", sorted(set(Reason) - OWN_VETOES))
def test_a_veto_that_no_broker_lays_itself_is_refused(reason: Reason) -> None:
    # Nothing would lift it again: it would bar every call, and give no reason.
    assert reason in PRECEDENCE or reason not in OWN_VETOES
    document = plain()
    document["vetoes"][reason.value] = document["vetoes"]["auth"]
    refused(json.dumps(document))


def test_a_moment_that_is_no_number_is_refused() -> None:
    for wrong in (None, "now", float("inf"), float("nan")):
        document = plain()
        document["since"]["up_s"] = wrong
        assert not check(json.dumps(document))


def test_what_cannot_be_written_is_a_mistake_of_ours_and_is_told() -> None:
    nothing: Any = object()
    odd = replace(Health.begin(NOW), fault=nothing)
    with pytest.raises(NotImplementedError, match="cannot be written: object"):
        written(odd, NOW)


# What is watched beside the health ------------------------------------------------------------------


def test_what_is_watched_of_a_key_is_read_back_and_a_health_alone_is_as_it_was() -> None:
    said = KeyStatement(fingerprint="k", withdraw=True, rights=("query-funds",), expires_us=1)
    watched = Watched(key=NOTHING_WATCHED.key.stated(said, 5))
    document = written(example(), LATER, watched=watched)
    assert read(document, threshold=3).watched == watched
    assert "watched" not in json.loads(written(example(), LATER))
    assert read(written(example(), LATER), threshold=3).watched == NOTHING_WATCHED


def test_what_a_later_version_watches_costs_no_balance() -> None:
    plain = json.loads(written(example(), LATER))
    for unknown in ({"key": {"had": 7}}, [1], "x", None, {"moon": True}):
        found = read(json.dumps({**plain, "watched": unknown}), threshold=3)
        assert found.health.balance == example().balance
        assert found.watched == NOTHING_WATCHED
