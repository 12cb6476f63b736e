"""The specification of one broker, made in Python or read from a file."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

import ccxt
import ccxt.async_support
import pytest

from brokerwatch.config import spec_types
from brokerwatch.config.broker_spec import KEYS, BrokerSpec
from brokerwatch.config.policy import GUARDED, SIMPLE, Rules
from brokerwatch.dropin.guard import guard
from brokerwatch.errors import ConfigError
from tests.support.configurations import SMALLEST, Loader, Mistakes


def test_every_field_of_a_broker_stands_in_the_table_of_keys() -> None:
    assert sorted(key.name for key in KEYS) == sorted(one.name for one in fields(BrokerSpec) if one.init)


def test_an_account_that_may_trade_is_guarded_unless_another_policy_is_named() -> None:
    assert (BrokerSpec("a").policy, BrokerSpec("a").rules) == ("simple", SIMPLE)
    trades = BrokerSpec("a", trading=True)
    assert (trades.policy, trades.policy_is_chosen) == ("guarded", False)
    assert trades.rules == GUARDED
    named = BrokerSpec("a", trading=True, policy="simple")
    assert (named.policy, named.policy_is_chosen, named.rules) == ("simple", True, SIMPLE)


def test_a_file_that_lets_an_account_trade_begins_with_the_rules_of_guarded(loaded: Loader) -> None:
    (spec,) = loaded(
        'version = 1\n[brokers.k]\nexchange = "kraken"\ntrading = true\n'
        "[brokers.k.rules]\nsuccesses_to_recover = 3\n"
    ).brokers
    assert (spec.policy, spec.policy_is_chosen) == ("guarded", False)
    assert spec.rules == replace(GUARDED, successes_to_recover=3)


def test_settings_cannot_be_changed_after_they_were_checked(loaded: Loader) -> None:
    (spec,) = loaded(SMALLEST).brokers
    with pytest.raises(AttributeError):
        spec.poll_interval_s = 0.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    for mapping in (spec.labels, spec.credentials, spec.ccxt):
        with pytest.raises(TypeError):
            cast("dict[str, Any]", mapping)["x"] = "y"


@pytest.mark.parametrize(
    ("name", "values", "key"),
    [
        ("A", {}, "brokers.A.name"),
        ("", {}, "brokers..name"),
        ("a" * 49, {}, f"brokers.{'a' * 49}.name"),
        ("a/b", {}, "brokers.a/b.name"),
        ("a", {"exchange": "A"}, "brokers.a.exchange"),
        ("a", {"poll_interval_s": 0.0}, "brokers.a.poll_interval_s"),
        ("a", {"fetch_deadline_s": 3_601.0}, "brokers.a.fetch_deadline_s"),
        ("a", {"max_consecutive_errors": 1_001}, "brokers.a.max_consecutive_errors"),
        ("a", {"cash_currencies": ("USD", "JPY")}, "brokers.a.cash_currencies"),
        ("a", {"policy": "paranoid"}, "brokers.a.policy"),
        ("a", {"rules": Rules(window_share=2.0)}, "brokers.a.rules.window_share"),
        ("a", {"requests_per_s": 0.0}, "brokers.a.requests_per_s"),
        ("a", {"request_burst": 0.0}, "brokers.a.request_burst"),
    ],
)
def test_a_spec_made_in_python_is_checked_like_one_from_a_file(
    name: str, values: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        BrokerSpec(name, **values)
    assert [problem.key for problem in raised.value.problems] == [key]


@pytest.mark.parametrize(
    "labels", ['{ note = "' + "x" * 257 + '" }', "{ " + ", ".join(f"k{n} = ''" for n in range(33)) + " }"]
)
def test_labels_are_bounded_because_receivers_bound_every_length(mistakes: Mistakes, labels: str) -> None:
    (problem,) = mistakes(SMALLEST + f"labels = {labels}\n")
    assert problem.key == "brokers.k.labels"


def test_a_currency_listed_twice_would_count_twice(mistakes: Mistakes) -> None:
    (problem,) = mistakes(SMALLEST + 'cash_currencies = ["USD", "USD"]\n')
    assert problem.key == "brokers.k.cash_currencies"


@pytest.mark.parametrize("library", [ccxt, ccxt.async_support])
def test_a_guarded_instance_is_refused_with_what_to_pass_in_its_place(library: Any) -> None:
    mine = library.kraken({"apiKey": "key", "secret": "c2VjcmV0"})
    with pytest.raises(ConfigError, match=r"brokers\.mine\.exchange: expected the ccxt instance itself"):
        BrokerSpec("mine", exchange=guard(mine))
    assert BrokerSpec("mine", exchange=mine).instance is mine


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        *(("usd", "USD"), ("Usdt", "USDT"), (" EUR", "EUR"), ("EUR\n", "EUR")),
        *(("XBT", "BTC"), ("xbt", "BTC"), ("ZUSD", "USD"), ("XXBT", "BTC")),
    ],
)
def test_another_spelling_of_a_cash_currency_would_show_a_false_zero(code: str, meant: str) -> None:
    with pytest.raises(ConfigError) as raised:
        BrokerSpec("a", exchange="kraken", cash_currencies=(code,))
    (problem,) = raised.value.problems
    assert problem.key == "brokers.a.cash_currencies"
    assert problem.expected.endswith(f"not {code!r}; did you mean {meant}?")


@pytest.mark.parametrize("code", ["USD", "BTC", "USDE", "sUSDX", "1INCH", "A-B"])
def test_a_currency_as_ccxt_writes_it_may_be_cash(code: str) -> None:
    assert BrokerSpec("a", exchange="kraken", cash_currencies=(code,)).cash_currencies == (code,)


def test_a_callable_of_the_program_may_name_its_currencies_as_it_likes() -> None:
    async def fetch() -> dict[str, str]:
        return {"usd": "1"}

    assert BrokerSpec("a", fetch=fetch, cash_currencies=("usd",)).cash_currencies == ("usd",)
    with pytest.raises(ConfigError, match="such as USD, not ''"):
        BrokerSpec("a", fetch=fetch, cash_currencies=("",))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", 5, "expected text, not int"),
        ("poll_interval_s", "10", "expected a number, not str"),
        ("poll_interval_s", True, "expected a number, not bool"),
        ("quiet_poll_interval_s", "10", "expected a number, or None, not str"),
        ("max_consecutive_errors", 3.0, "expected a whole number, not float"),
        ("trading", "yes", "expected True or False, not str"),
        ("trading", 1, "expected True or False, not int"),
        ("cash_currencies", "USD", "expected a tuple of texts, not str"),
        ("labels", [("desk", "one")], "expected a mapping, not list"),
        ("credentials", None, "expected a mapping, not NoneType"),
        ("ccxt", "sandbox", "expected a mapping, not str"),
        ("policy", None, "expected text, not NoneType"),
        ("rules", {"final_auth": True}, "expected Rules, not dict"),
        ("money_watch", {"floor": {}}, "expected MoneyRules, or None, not dict"),
        ("fetch", "balance", "expected an async callable, or None, not str"),
        ("egress_address", 7, "expected text, or None, not int"),
    ],
)
def test_a_value_of_another_type_is_named_and_not_repeated(key: str, value: Any, expected: str) -> None:
    values: dict[str, Any] = {"name": "a", "exchange": "kraken", key: value}
    with pytest.raises(ConfigError) as caught:
        BrokerSpec(**values)
    assert [(one.key.rpartition(".")[2], one.expected) for one in caught.value.problems] == [(key, expected)]


def test_every_field_of_a_spec_has_a_type_that_is_looked_at() -> None:
    looked_at = set(spec_types._TYPES)  # pyright: ignore[reportPrivateUsage] - the table itself is what is tested
    assert {each.name for each in fields(BrokerSpec) if each.init} - looked_at == {"exchange", "instance"}
