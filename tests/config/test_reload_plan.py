"""What another configuration changes: one decision for each key, and the whole of it refused where one is."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from brokerwatch.config.broker_spec import BrokerSpec, Origin
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.config.nonce_fence import CONFIRMED
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.config.policy import GUARDED
from brokerwatch.config.pool_settings import PoolSettings
from brokerwatch.config.reload_plan import (
    BROKER_KEYS,
    CLUSTER_KEYS,
    SETTINGS_KEYS,
    Plan,
    Takes,
    change_of,
    plan,
    with_added,
    with_removed,
    with_replaced,
)
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import ConfigError
from tests.support.clusters import Till

KEY: Final = MappingProxyType({"api_key": "k", "secret": "c2VjcmV0"})


def spec(name: str = "a", **values: Any) -> BrokerSpec:
    chosen: dict[str, Any] = {"exchange": "kraken", "credentials": KEY, **values}
    return BrokerSpec(name, **chosen)


def settings(*specs: BrokerSpec, broken: dict[str, tuple[str, str]] | None = None, **values: Any) -> Settings:
    return Settings(ClusterSettings(**values), specs, MappingProxyType(broken or {}))


OTHER: Final[dict[str, Any]] = {
    "exchange": "okx",
    "poll_interval_s": 11.0,
    "quiet_poll_interval_s": 60.0,
    "fetch_deadline_s": 4.0,
    "max_consecutive_errors": 5,
    "policy": "guarded",
    "rules": GUARDED,
    "requests_per_s": 2.0,
    "request_burst": 3.0,
    "read_funding": False,
    "cash_currencies": ("EUR",),
    "labels": {"desk": "b"},
    "pin": {"region": "tokyo"},
    "credentials": MappingProxyType({"api_key": "other", "secret": "c2VjcmV0"}),
    "ccxt": MappingProxyType({"timeout": 5_000}),
    "simulated": True,
    "trading": True,
    "entry_max_age_s": 7.0,
    "repeat_exits": False,
    "max_proof_age_s": 500.0,
    "key_watch_interval_s": 60.0,
    "egress_address": "203.0.113.7",
    "money_watch": MoneyRules(),
    "allow_empty": True,
    "balance_params": MappingProxyType({"type": "swap"}),
    "same_account": True,
    "push": True,
    "reserved_requests": 2.0,
    "nonce_fence": True,
    "nonce_fence_confirmed": CONFIRMED,
    "origins": MappingProxyType({"secret": Origin("file", "/run/secret")}),
}
"""Another value for each key that can be changed by itself."""

OTHER_OF_THE_CLUSTER: Final[dict[str, Any]] = {
    "name": "other",
    "health_endpoint": "tcp://127.0.0.1:6001",
    "broker_endpoint": "inproc://others",
    "heartbeat_s": 2.0,
    "status_interval_s": 60.0,
    "key_watch_interval_s": 60.0,
    "egress_address": "203.0.113.7",
    "publish_balances": False,
    "state": "/somewhere",
    "store": "postgresql://user:password@host/there",
    "pool": PoolSettings("desk"),
    "require_verification_max_age_s": 3_600.0,
    "history_days": 30.0,
    "remember": False,
    "curve": CurveSettings("own.key"),
    "http": HttpSettings("127.0.0.1:5572", "a token that no log shows"),
    "notify": NotifySettings(urls=("json://password@host",)),
    "supervisors": (SupervisorSettings("tcp://127.0.0.1:5572", "tcp://127.0.0.1:5571"),),
}


def test_every_key_has_a_decision() -> None:
    assert list(BROKER_KEYS) == [one.name for one in fields(BrokerSpec)]
    assert sorted(CLUSTER_KEYS) == sorted(one.name for one in fields(ClusterSettings))
    assert sorted(SETTINGS_KEYS) == sorted(one.name for one in fields(Settings))
    assert set(OTHER) == set(BROKER_KEYS) - {"name", "fetch", "instance", "policy_is_chosen"}
    assert set(OTHER_OF_THE_CLUSTER) == set(CLUSTER_KEYS)


@pytest.mark.parametrize("key", sorted(OTHER))
def test_a_change_of_one_key_of_an_account_is_carried_out_as_decided_or_refused(key: str) -> None:
    needed = {"nonce_fence_confirmed": CONFIRMED} if key == "nonce_fence" else {}
    before, other = settings(spec(), spec("b")), spec(**{key: OTHER[key], **needed})
    found = plan(before, settings(other, spec("b")))
    also = {"policy": "rules", "trading": "policy"}.get(key)  # a default that goes with it
    match BROKER_KEYS[key]:
        case Takes.RESTART:
            (problem,) = found.refused
            assert problem.key == f"brokers.a.{key}"
            assert "restart" in problem.expected
        case Takes.NOTHING:
            assert (found.refused, [one.keys for one in found.changed if one.keys]) == ((), [])
        case Takes.KEY:
            (change,) = found.changed
            assert (found.refused, change.keys, change.new_key, change.rebuilds) == ((), (), True, False)
            assert change.at_once.credentials == KEY, "the old key is used until the new one is verified"
        case takes:
            (change,) = found.changed
            assert (found.refused, change.new_key) == ((), False)
            assert key in change.keys
            assert set(change.keys) <= {key, also, "rules"}
            assert change.rebuilds is (takes is Takes.ACCOUNT)
            assert change.at_once is other


@pytest.mark.parametrize("key", sorted(OTHER_OF_THE_CLUSTER))
def test_a_change_of_one_key_of_the_cluster_is_carried_out_or_refused(key: str) -> None:
    before = settings(spec(), store="postgresql://user:secret@host/here")
    found = plan(
        before, Settings(replace(before.cluster, **{key: OTHER_OF_THE_CLUSTER[key]}), before.brokers)
    )
    if CLUSTER_KEYS[key] is Takes.RESTART:
        (problem,) = found.refused
        assert (problem.key, found.cluster) == (f"cluster.{key}", ())
        assert "restart" in problem.expected
        assert not {"password", "secret", "a token"} & {
            word for word in ("password", "secret", "a token") if word in str(problem)
        }
    else:
        assert (found.refused, found.cluster) == ((), (key,))


def test_the_same_configuration_changes_nothing() -> None:
    one = settings(spec(), spec("b", labels={"x": "y"}), broken={"c": ("okx", "why")})
    again = settings(spec(), spec("b", labels={"x": "y"}), broken={"c": ("okx", "why")})
    assert plan(one, again) == Plan(("a", "b", "c"))
    assert change_of(spec(), spec()) is None


def test_accounts_come_go_and_have_another_order() -> None:
    before = settings(spec(), spec("b"), spec("c"), broken={"d": ("okx", "why")})
    found = plan(before, settings(spec("e"), spec("c"), spec("d"), spec()))
    assert found.order == ("e", "c", "d", "a")
    assert [one.name for one in found.added] == ["e", "d"], "a broken one that was mended is new"
    assert (found.removed, found.reordered, found.changed, found.refused) == (("b",), True, (), ())


def test_every_reason_to_refuse_is_named_at_once() -> None:
    before = settings(spec(), spec("b"))
    wanted = settings(
        spec(exchange="okx"), spec("b", simulated=True), name="other", broken={"c": ("okx", "x: y")}
    )
    found = plan(before, wanted)
    assert [one.key for one in found.refused] == [
        "cluster.name",
        "brokers.c",
        "brokers.a.exchange",
        "brokers.b.simulated",
    ]


def test_options_of_ccxt_that_name_another_account_are_refused() -> None:
    swap = spec(ccxt=MappingProxyType({"options": {"defaultType": "swap"}}))
    (problem,) = plan(settings(spec()), settings(swap)).refused
    assert problem.key == "brokers.a.ccxt.options"


def test_a_callable_takes_no_exchanges_place_nor_the_reverse() -> None:
    by_callable = spec(fetch=Till(), credentials=MappingProxyType({}))
    for before, after in ((spec(), by_callable), (by_callable, spec())):
        refused = plan(settings(before), settings(after)).refused
        assert "brokers.a.fetch" in [one.key for one in refused]
    other = spec(fetch=Till(), credentials=MappingProxyType({}))
    (change,) = plan(settings(by_callable), settings(other)).changed
    assert (change.keys, change.rebuilds) == (("fetch",), True)


def test_an_account_whose_key_and_whose_rules_change_has_the_rules_at_once() -> None:
    other = spec(credentials=OTHER["credentials"], max_consecutive_errors=7)
    (change,) = plan(settings(spec()), settings(other)).changed
    assert change.at_once.max_consecutive_errors == 7
    assert (change.at_once.credentials, change.after) == (KEY, other)


def test_one_account_at_a_time() -> None:
    before = settings(spec(), broken={"b": ("okx", "why")})
    assert [one.name for one in with_added(before, spec("c")).brokers] == ["a", "c"]
    for taken in ("a", "b"):
        with pytest.raises(ConfigError, match=f"brokers.{taken}: expected a name of its own"):
            with_added(before, spec(taken))
    assert with_removed(before, "a").brokers == ()
    assert not with_removed(before, "b").broken
    assert with_replaced(before, spec(labels={"x": "y"})).brokers[0].labels == {"x": "y"}
    mended = with_replaced(before, spec("b"))
    assert ([one.name for one in mended.brokers], mended.broken) == (["a", "b"], {})


IN_PLACE: Final = (Takes.ACTOR, Takes.ACCOUNT)


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("broker keys in place", [key for key, takes in BROKER_KEYS.items() if takes in IN_PLACE]),
        ("cluster keys in place", [key for key, takes in CLUSTER_KEYS.items() if takes is Takes.ACTOR]),
        (
            "keys that need a restart",
            [
                *(f"cluster.{key}" for key, takes in CLUSTER_KEYS.items() if takes is Takes.RESTART),
                *(key for key, takes in BROKER_KEYS.items() if takes is Takes.RESTART),
            ],
        ),
    ],
)
def test_the_page_names_each_key_where_it_belongs(title: str, keys: list[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/reload.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {title} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert found is not None
    assert re.findall(r"`([^`]+)`", found[1]) == sorted(keys)
