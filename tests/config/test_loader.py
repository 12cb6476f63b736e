"""The configuration file: every key arrives, and every mistake is one problem with its key."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokerwatch.bus.curve import made_pair
from brokerwatch.config.broker_spec import KEYS
from brokerwatch.config.cluster_settings import (
    ClusterSettings,
)
from brokerwatch.config.curve_keys import pair_text
from brokerwatch.config.loader import examine, load, load_cluster
from brokerwatch.config.policy import GUARDED, POLICIES, SIMPLE, Rules
from brokerwatch.config.template import CONFIG_TEMPLATE
from brokerwatch.errors import ConfigError
from brokerwatch.exchanges.registry import BUDGETS
from brokerwatch.gateway.catalogue import Catalogue
from tests.support.configurations import (
    ENVIRONMENT,
    KEY,
    SECRET,
    SMALLEST,
    Known,
    Loader,
    Mistakes,
    pem,
    scalars,
    values,
    words,
)

ISSUE: Final = """
version = 1
[cluster]
name = "main"
health_endpoint = "tcp://127.0.0.1:5571"   # the public health topic
broker_endpoint = "inproc://brokers"       # brokers to supervisor
heartbeat_s = 1.0
publish_balances = true
state = "remembered"                       # a folder beside this file
store = "postgresql+psycopg://watch@db/x"  # else SQLite in that folder
remember = true
[brokers.kraken-main]                      # the name: topic characters only
exchange = "kraken"                        # any ccxt id
api_key_env = "KRAKEN_MASTER_API_KEY"
secret_env = "KRAKEN_MASTER_API_SECRET"
poll_interval_s = 10                       # any positive number
fetch_deadline_s = 8                       # may exceed the interval
max_consecutive_errors = 3
cash_currencies = ["USD", "USDT", "USDC"]
labels = { desk = "a" }
policy = "guarded"
requests_per_s = 0.5
request_burst = 20
read_funding = false
allow_empty = true
[brokers.kraken-main.rules]
successes_to_recover = 4
max_age_s = inf
[brokers.kraken-main.ccxt]                 # passed to the ccxt constructor as it is, e.g. urls
"""


# --- what is right -------------------------------------------------------------------------------


def test_the_example_of_the_documentation_loads_with_every_value(loaded: Loader, tmp_path: Path) -> None:
    found = loaded(ISSUE + 'urls = { api = { public = "http://x", n = 1 } }\n')
    assert found.cluster == ClusterSettings(
        name="main",
        health_endpoint="tcp://127.0.0.1:5571",
        broker_endpoint="inproc://brokers",
        heartbeat_s=1.0,
        publish_balances=True,
        state=str(tmp_path / "remembered"),
        store="postgresql+psycopg://watch@db/x",
        remember=True,
    )
    (spec,) = found.brokers
    assert spec.policy == "guarded"
    assert spec.rules == replace(GUARDED, successes_to_recover=4, max_age_s=None)
    assert (spec.requests_per_s, spec.request_burst, spec.read_funding) == (0.5, 20.0, False)
    assert spec.allow_empty
    assert (spec.name, spec.exchange) == ("kraken-main", "kraken")
    assert dict(spec.credentials) == {"api_key": KEY, "secret": SECRET}
    assert (spec.poll_interval_s, spec.fetch_deadline_s, spec.max_consecutive_errors) == (10.0, 8.0, 3)
    assert spec.cash_currencies == ("USD", "USDT", "USDC")
    assert dict(spec.labels) == {"desk": "a"}
    assert dict(spec.ccxt) == {"urls": {"api": {"public": "http://x", "n": 1}}}
    assert not spec.simulated
    assert spec.fetch is None
    assert dict(found.broken) == {}


def test_every_value_of_the_file_arrives_and_not_a_default(loaded: Loader) -> None:
    found = loaded(
        'version = 1\n[cluster]\nname = "desk-2"\nhealth_endpoint = "ipc:///run/h"\n'
        'broker_endpoint = "tcp://127.0.0.1:7000"\nheartbeat_s = 0.25\npublish_balances = false\n'
        'state = "/srv/watch"\nstore = "sqlite:////srv/w.db"\nremember = false\n'
        '[brokers.k]\nexchange = "kraken"\npoll_interval_s = 0.2\nfetch_deadline_s = 30\n'
        'max_consecutive_errors = 7\ncash_currencies = ["EUR", "EURC"]\nlabels = { a = "b", c = "" }\n'
        'policy = "guarded"\nrequests_per_s = 3\nrequest_burst = 1.5\nread_funding = false\n'
    )
    assert found.cluster == ClusterSettings(
        name="desk-2",
        health_endpoint="ipc:///run/h",
        broker_endpoint="tcp://127.0.0.1:7000",
        heartbeat_s=0.25,
        publish_balances=False,
        state="/srv/watch",
        store="sqlite:////srv/w.db",
        remember=False,
    )
    (spec,) = found.brokers
    assert (spec.policy, spec.rules) == ("guarded", GUARDED)
    assert (spec.requests_per_s, spec.request_burst, spec.read_funding) == (3.0, 1.5, False)
    assert (spec.poll_interval_s, spec.fetch_deadline_s, spec.max_consecutive_errors) == (0.2, 30.0, 7)
    assert spec.cash_currencies == ("EUR", "EURC")
    assert dict(spec.labels) == {"a": "b", "c": ""}


def test_what_the_file_leaves_out_has_the_documented_default(loaded: Loader) -> None:
    found = loaded(SMALLEST)
    assert found.cluster == ClusterSettings()
    assert found.cluster.health_endpoint == "tcp://127.0.0.1:5571"
    (spec,) = found.brokers
    assert (spec.poll_interval_s, spec.fetch_deadline_s, spec.max_consecutive_errors) == (10.0, 8.0, 3)
    assert spec.cash_currencies == ("USD", "USDT", "USDC")
    assert (dict(spec.labels), dict(spec.ccxt)) == ({}, {})
    assert (spec.policy, spec.rules) == ("simple", SIMPLE)
    assert (spec.requests_per_s, spec.request_burst, spec.read_funding) == (None, None, True)
    assert not spec.allow_empty
    assert (found.cluster.state, found.cluster.store, found.cluster.remember) == ("", "", True)


RULES: Final[Mapping[str, tuple[str, object, str]]] = {
    "start_unknown": ("true", True, "false"),
    "final_auth": ("true", True, "false"),
    "auth_probes_s": ("[1, 60, 300, 900, 3600]", (1.0, 60.0, 300.0, 900.0, 3_600.0), "[]"),
    "maintenance_state": ("true", True, "false"),
    "window_fetches": ("20", 20, "0"),
    "window_minimum": ("9", 9, "6"),
    "window_share": ("0.25", 0.25, "0.5"),
    "successes_to_recover": ("2", 2, "1"),
    "confirm_after_s": ("[0.25, 0.5]", (0.25, 0.5), "[]"),
    "backoff_s": ("[1, 60]", (1.0, 60.0), "[]"),
    "max_age_s": ("60", 60.0, "inf"),
}
"""Each rule: how it is switched on in the file, what that is, and how it is switched off."""


def test_every_rule_is_tried() -> None:
    assert [field.name for field in fields(Rules)] == list(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_can_be_switched_on_alone_under_simple(loaded: Loader, rule: str) -> None:
    written, value, _ = RULES[rule]
    more = {"window_minimum": {"window_fetches": 20}}.get(rule, {})
    extra = "".join(f"{key} = {number}\n" for key, number in more.items())
    (spec,) = loaded(f"{SMALLEST}[brokers.k.rules]\n{rule} = {written}\n{extra}").brokers
    assert spec.policy == "simple"
    assert spec.rules == replace(SIMPLE, **cast("Any", {rule: value, **more}))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_can_be_switched_off_alone_under_guarded(loaded: Loader, rule: str) -> None:
    (spec,) = loaded(f'{SMALLEST}policy = "guarded"\n[brokers.k.rules]\n{rule} = {RULES[rule][2]}\n').brokers
    assert spec.policy == "guarded"
    assert spec.rules == replace(GUARDED, **cast("Any", {rule: getattr(SIMPLE, rule)}))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_without_rules_is_what_its_name_says(loaded: Loader, policy: str) -> None:
    (spec,) = loaded(f'{SMALLEST}policy = "{policy}"\n').brokers
    assert spec.rules == POLICIES[policy]


def test_who_is_polled_seldom_is_not_stale_between_two_polls_unless_the_rules_say_so(loaded: Loader) -> None:
    guarded = f'{SMALLEST}policy = "guarded"\npoll_interval_s = 300\n'
    (spec,) = loaded(guarded).brokers
    assert spec.rules.max_age_s == 900.0
    (spec,) = loaded(guarded + "[brokers.k.rules]\nmax_age_s = 5\n").brokers
    assert spec.rules.max_age_s == 5.0
    (spec,) = loaded(f"{SMALLEST}poll_interval_s = 300\n").brokers
    assert spec.rules.max_age_s is None, "simple has no limit to raise"


def test_an_interval_of_infinity_means_only_when_asked(loaded: Loader) -> None:
    (spec,) = loaded(SMALLEST + "poll_interval_s = inf\n").brokers
    assert spec.poll_interval_s == math.inf


def test_a_deadline_may_exceed_the_interval(loaded: Loader) -> None:
    (spec,) = loaded(SMALLEST + "poll_interval_s = 0.001\nfetch_deadline_s = 60\n").brokers
    assert spec.fetch_deadline_s > spec.poll_interval_s


def test_a_broken_configuration_can_still_be_examined(tmp_path: Path) -> None:
    path = tmp_path / "brokerwatch.toml"
    path.write_text(
        'version = 1\n[cluster]\nname = "here"\n[brokers.k]\nexchange = "kraken"\n'
        '[brokers.bad]\nexchange = "krakken"\n'
    )
    found = examine(path, Known(), environment=ENVIRONMENT)
    assert found.cluster is not None
    assert found.cluster.name == "here"
    assert [spec.name for spec in found.brokers] == ["k"]
    assert [(name, exchange) for name, (exchange, _) in found.broken.items()] == [("bad", "krakken")]
    assert not found.problems
    path.write_text('version = 2\n[cluster]\nheartbeat_s = "x"\n[brokers.k]\nexchange = "kraken"\n')
    found = examine(path, Known(), environment=ENVIRONMENT)
    assert (found.cluster, [spec.name for spec in found.brokers]) == (None, ["k"])
    assert [problem.key for problem in found.problems] == ["version", "cluster.heartbeat_s"]


def test_several_brokers_keep_the_order_of_the_file(loaded: Loader) -> None:
    names = ["z", "a", "m"]
    text = "version = 1\n" + "".join(f'[brokers.{name}]\nexchange = "kraken"\n' for name in names)
    environment = {f"{name.upper()}_API_{part}": "x" for name in names for part in ("KEY", "SECRET")}
    assert [spec.name for spec in loaded(text, environment).brokers] == names


def test_the_environment_of_the_process_is_what_counts_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_API_KEY", KEY)
    monkeypatch.setenv("K_API_SECRET", SECRET)
    path = tmp_path / "any.toml"
    path.write_text(SMALLEST)
    (spec,) = load(path, Known()).brokers
    assert spec.credentials["api_key"] == KEY


def test_the_template_loads_once_its_variables_are_set(loaded: Loader) -> None:
    environment = {"KRAKEN_MAIN_API_KEY": KEY, "KRAKEN_MAIN_API_SECRET": SECRET}
    found = loaded(CONFIG_TEMPLATE, environment)
    (spec,) = found.brokers
    assert (spec.name, dict(spec.labels)) == ("kraken-main", {"desk": "a"})
    assert (spec.policy, spec.rules) == ("guarded", GUARDED)
    assert found.cluster == ClusterSettings()


def test_the_template_loads_with_every_commented_account_too(loaded: Loader, tmp_path: Path) -> None:
    commented = [re.sub(r"^# (?=\[|[a-z_]+ = )", "", line) for line in CONFIG_TEMPLATE.splitlines()]
    (tmp_path / "coinbase.pem").write_text(pem())
    (tmp_path / "coinbase.pem").chmod(0o600)
    (tmp_path / "brokerwatch.token").write_text("a-token-made-up-for-tests")
    (tmp_path / "cluster.key").write_text(pair_text(made_pair("cluster")))
    (tmp_path / "cluster.key").chmod(0o600)
    (tmp_path / "subscribers.keys").touch(0o644)
    names = ("KRAKEN_MAIN_API_KEY", "KRAKEN_MAIN_API_SECRET", "COINBASE_API_KEY")
    okx = ("OKX_API_KEY", "OKX_API_SECRET", "OKX_API_PASSPHRASE")
    (tmp_path / "notify.urls").write_text("json://127.0.0.1:1/x")
    variables = {**dict.fromkeys((*names, *okx), "x"), "HEARTBEAT_URL": "https://ping.example.com/x"}
    found = loaded("\n".join(commented), variables)
    assert [spec.exchange for spec in found.brokers] == ["kraken", "coinbase", "okx"]
    for spec in found.brokers:
        assert (spec.policy, spec.rules) == ("guarded", GUARDED), "the rules it shows are those it would have"
    assert found.cluster.state == str(tmp_path / "brokerwatch-state")
    assert found.cluster.store.startswith("postgresql")
    assert found.cluster.http is not None
    assert found.cluster.notify.urls == ("json://127.0.0.1:1/x",)


# --- what is wrong: one problem each, with the key and what was expected ------------------------------


def key_of(line: str) -> str:
    """The key that a line of a file gives a value."""
    return line.partition(" = ")[0]


CLUSTER_TYPES: Final = {
    "name": ("1", "expected text, not a number (1)"),
    "health_endpoint": ("true", "expected text, not true or false (True)"),
    "broker_endpoint": ('["inproc://a"]', "expected text, not a list"),
    "heartbeat_s": ('"1"', "expected a number, not text (1)"),
    "publish_balances": ('"false"', "expected true or false, not text (false)"),
    "state": ("1", "expected text, not a number (1)"),
    "store": ("[]", "expected text, not a list"),
    "remember": ("0", "expected true or false, not a number (0)"),
}
RULE_TYPES: Final = {
    "start_unknown": ("1", "expected true or false, not a number (1)"),
    "final_auth": ('"yes"', "expected true or false, not text (yes)"),
    "maintenance_state": ("[]", "expected true or false, not a list"),
    "window_fetches": ("20.0", "expected a whole number, not a number (20.0)"),
    "window_minimum": ("true", "expected a whole number, not true or false (True)"),
    "window_share": ('"half"', "expected a number, not text (half)"),
    "successes_to_recover": ("2.5", "expected a whole number, not a number (2.5)"),
    "confirm_after_s": ("0.25", "expected a list of numbers, not a number (0.25)"),
    "backoff_s": ('["1", "60"]', "expected a list of numbers, not a list"),
    "max_age_s": ("false", "expected a number, not true or false (False)"),
}
RULE_RANGES: Final = (
    ("window_fetches = -1", "window_fetches", "expected from 0 (no window) to 1,000, not -1"),
    ("window_fetches = 1001", "window_fetches", "to 1,000, not 1001"),
    ("window_fetches = 4", "window_minimum", "expected at most window_fetches, 4"),
    ("window_minimum = 0", "window_minimum", "expected from 1 to 1,000, not 0"),
    ("window_minimum = 1001", "window_minimum", "expected from 1 to 1,000, not 1001"),
    ("window_minimum = 21", "window_minimum", "expected at most window_fetches, 20"),
    ("window_share = 0", "window_share", "expected above 0 and up to 1, not 0"),
    ("window_share = 1.01", "window_share", "expected above 0 and up to 1, not 1.01"),
    ("window_share = nan", "window_share", "not nan"),
    ("successes_to_recover = 0", "successes_to_recover", "expected from 1 to 100, not 0"),
    ("successes_to_recover = 101", "successes_to_recover", "expected from 1 to 100, not 101"),
    ("confirm_after_s = [0]", "confirm_after_s", "numbers of seconds above 0; [] switches it off"),
    ("confirm_after_s = [nan]", "confirm_after_s", "numbers of seconds above 0"),
    ("confirm_after_s = [86401]", "confirm_after_s", "up to 10 numbers of seconds above 0"),
    (f"confirm_after_s = {[1] * 11}", "confirm_after_s", "expected up to 10 numbers"),
    (f"confirm_after_s = [{'9' * 400}]", "confirm_after_s", "fewer than 300 digits"),
    ("backoff_s = [1]", "backoff_s", "two numbers of seconds, [shortest, longest]; [] switches it off"),
    ("backoff_s = [1, 2, 3]", "backoff_s", "expected two numbers"),
    ("backoff_s = [60, 1]", "backoff_s", "expected [shortest, longest] in seconds above 0"),
    ("backoff_s = [0, 1]", "backoff_s", "in seconds above 0"),
    ("backoff_s = [1, 86401]", "backoff_s", "[shortest, longest]"),
    ("backoff_s = [1, inf]", "backoff_s", "[shortest, longest]"),
    ("max_age_s = 0", "max_age_s", "expected seconds above 0, or inf for no limit, not 0"),
    ("max_age_s = nan", "max_age_s", "not nan"),
)
BROKER_TYPES: Final = {
    "poll_interval_s": ("true", "expected a number, not true or false (True)"),
    "fetch_deadline_s": ("2026-01-01", "expected a number, not a date"),
    "max_consecutive_errors": ("3.0", "expected a whole number, not a number (3.0)"),
    "cash_currencies": ('"USD"', "expected a list of texts, not text (USD)"),
    "labels": ('"a"', "expected a table, not text (a)"),
    "ccxt": ("[]", "expected a table, not a list"),
    "api_key_env": ("7", "expected the name of a variable, not a number"),
    "secret_file": ("false", "expected the name of a file, not true or false"),
    "policy": ("true", "expected text, not true or false (True)"),
    "rules": ('"guarded"', "expected a table, not text (guarded)"),
    "requests_per_s": ('"5"', "expected a number, not text (5)"),
    "request_burst": ("true", "expected a number, not true or false (True)"),
    "read_funding": ('"no"', "expected true or false, not text (no)"),
    "allow_empty": ("1", "expected true or false, not a number (1)"),
}
BROKER_VALUES: Final = {
    "an unknown key of a broker": (
        "poll_interval = 1",
        "did you mean poll_interval_s? known are: exchange, poll_interval_s",
    ),
    "an unknown credential": ('api_secret_env = "X"', "did you mean"),
    "a credential of another spelling": ('privatekey_env = "X"', "did you mean private_key_env"),
    "a variable that is not set": (
        'secret_env = "NOT_THERE"',
        "in the environment variable NOT_THERE, which is not set",
    ),
    "a secret file that is not there": ('secret_file = "gone.key"', "gone.key: No such file or directory"),
    "a secret file that is a folder": ('secret_file = "."', "Is a directory"),
    "an empty secret file": ('secret_file = "empty.key"', "empty.key, which is empty"),
    "a secret file that is no text": ('secret_file = "binary.key"', "binary.key: it is not text"),
    "a secret file that anybody can write": (
        'secret_file = "world.key"',
        "world.key to be writable by its owner alone; chmod 600 it",
    ),
    "a secret file that the group can write": (
        'secret_file = "group.key"',
        "group.key to be writable by its owner alone",
    ),
    "a secret in the configuration itself": (
        f'secret = "{SECRET}"',
        "secrets do not belong in this file; expected secret_env or secret_file",
    ),
    "an interval of zero": ("poll_interval_s = 0", "expected a number of seconds above 0, not 0"),
    "a negative interval": ("poll_interval_s = -0.5", "above 0, not -0.5"),
    "an interval that is no number": ("poll_interval_s = nan", "above 0, not nan"),
    "a deadline of zero": ("fetch_deadline_s = 0", "above 0 and up to"),
    "a deadline without end": ("fetch_deadline_s = inf", "not inf"),
    "a deadline that is no number": ("fetch_deadline_s = nan", "not nan"),
    "no error allowed at all": ("max_consecutive_errors = 0", "expected from 1 to 1,000, not 0"),
    "currencies of different units": (
        'cash_currencies = ["USD", "EUR", "USDC"]',
        "these are in USD and EUR, and adding them up would be wrong by the exchange rate",
    ),
    "no currency": ("cash_currencies = []", "expected at least one currency"),
    "an unknown policy": ('policy = "paranoid"', "expected simple or guarded, not 'paranoid'"),
    "a policy that is nearly right": ('policy = "Gaurded"', "not 'Gaurded'; did you mean guarded?"),
    "a proof that ends before the next poll": ("max_proof_age_s = 18", "more than 18 s"),
    "a proof that ends before a quiet poll": (
        "max_proof_age_s = 30\nquiet_poll_interval_s = 60",
        "more than 68 s",
    ),
    "a proof of no time": ("max_proof_age_s = 0\npoll_interval_s = inf", "more than 8 s"),
    "a proof that is no number": ("max_proof_age_s = nan", "inf for no limit, not nan"),
    "too few requests": ("requests_per_s = 0", "from 0.01 to 10000"),
    "too many requests": ("requests_per_s = inf", "not inf"),
    "requests that are no number": ("requests_per_s = nan", "not nan"),
    "a burst of nothing": ("request_burst = 0.5", "from 1 to 10000"),
    "a burst too large": ("request_burst = 10001", "not 10001"),
}
"""A wrong line of a broker, and what was expected of its key."""
CLUSTER_VALUES: Final = {
    "an unknown key of the cluster": (
        "heartbeat = 1",
        "did you mean heartbeat_s? known are: name, health_endpoint",
    ),
    "a bad name of the cluster": ('name = "A/b"', "not 'A/b'"),
    "a heartbeat of zero": ("heartbeat_s = 0", "from 0.02 to 300 seconds"),
    "a heartbeat that is no number": ("heartbeat_s = nan", "not nan"),
    "an endpoint beyond loopback": (
        'health_endpoint = "tcp://0.0.0.0:5571"',
        "can be reached from other machines and is not encrypted",
    ),
    "an inner endpoint beyond loopback": (
        'broker_endpoint = "tcp://*:5572"',
        "can be reached from other machines",
    ),
    "one endpoint twice": (
        'broker_endpoint = "tcp://127.0.0.1:5571"',
        "expected another endpoint than health_endpoint",
    ),
    "a policy of the whole cluster": ('policy = "guarded"', "; known are: name"),
    "a state folder of an unknown user": (
        'state = "~no-user-of-that-name/x"',
        "this machine has no user of that name: '~no-user-of-that-name/x'",
    ),
    "a state folder that no system can have": ('state = "a\\u0000b"', "expected a folder"),
}
"""A wrong line of the cluster, and what was expected of its key."""
WRONG: Final = {
    "malformed TOML": ("version = 1\n[cluster\n", "", "is not TOML: Expected ']'"),
    "a text without its end": ('version = 1\n[brokers.k]\nexchange = "kraken\n', "", "at line 3"),
    "a key twice": (
        SMALLEST + "poll_interval_s = 1\npoll_interval_s = 2\n",
        "",
        "is not TOML: Cannot overwrite a value (at line 5",
    ),
    "an unknown key at the top": (
        "wat = 1\n" + SMALLEST,
        "wat",
        "unknown key; known are: version, cluster, curve, http, brokers",
    ),
    "no version": ('[brokers.k]\nexchange = "kraken"\n', "version", "expected version = 1"),
    "another version": ('version = 2\n[brokers.k]\nexchange = "kraken"\n', "version", "expected version = 1"),
    "a version that only equals 1": (
        'version = true\n[brokers.k]\nexchange = "kraken"\n',
        "version",
        "expected version = 1",
    ),
    "no brokers": ("version = 1\n", "brokers", "expected at least one [brokers.NAME] table"),
    "an empty table of brokers": ("version = 1\n[brokers]\n", "brokers", "expected at least one"),
    "brokers that are no table": (
        "version = 1\nbrokers = 5\n",
        "brokers",
        "expected a table, not a number (5)",
    ),
    "a broker that is no table": (
        "version = 1\n[brokers]\nk = 5\n",
        "brokers.k",
        "expected a table, not a number (5)",
    ),
    "two brokers in one list": (
        'version = 1\n[[brokers.k]]\nexchange = "kraken"\n',
        "brokers.k",
        "expected a table, not a list",
    ),
    "a cluster that is no table": (
        "version = 1\ncluster = 1\n" + SMALLEST[12:],
        "cluster",
        "expected a table",
    ),
    "no exchange": ("version = 1\n[brokers.k]\n", "brokers.k.exchange", "expected a ccxt id such as kraken"),
    "an exchange that is no text": (
        "version = 1\n[brokers.k]\nexchange = 5\n",
        "brokers.k.exchange",
        "expected text, not a number (5)",
    ),
    "an unknown exchange": (
        'version = 1\n[brokers.k]\nexchange = "krakken"\n',
        "brokers.k.exchange",
        "ccxt knows no exchange 'krakken'; did you mean kraken, krakenfutures?",
    ),
    "an exchange like no other": (
        'version = 1\n[brokers.k]\nexchange = "nyse"\n',
        "brokers.k.exchange",
        "ccxt knows no exchange 'nyse'",
    ),
    "a default variable that is not set": (
        'version = 1\n[brokers.big-k]\nexchange = "kraken"\napi_key_env = "K_API_KEY"\n',
        "brokers.big-k.secret_env",
        "expected the secret of kraken in the environment variable BIG_K_API_SECRET",
    ),
    "two sources of one credential": (
        SMALLEST + 'secret_env = "K_API_SECRET"\nsecret_file = "good.key"\n',
        "brokers.k.secret_file",
        "expected one source of secret, and there are two",
    ),
    "a secret among ccxt's options": (
        SMALLEST + f'[brokers.k.ccxt]\napiKey = "{SECRET}"\n',
        "brokers.k.ccxt.apiKey",
        "secrets do not belong in this file",
    ),
    "a label that is no text": (
        SMALLEST + "labels = { a = 1 }\n",
        "brokers.k.labels.a",
        "expected text, not a number (1)",
    ),
    "a proxy that is passed over": (
        SMALLEST + '[brokers.k.ccxt]\nhttp_Proxy = "http://127.0.0.1:1"\n',
        "brokers.k.ccxt.http_Proxy",
        "ccxt passes over this one",
    ),
    "an option of ccxt that prints secrets": (
        SMALLEST + "ccxt = { verbose = true }\n",
        "brokers.k.ccxt.verbose",
        "ccxt would print keys",
    ),
    "a bad name": (
        'version = 1\n[brokers."Kraken Main"]\nexchange = "kraken"\n'
        'api_key_env = "K_API_KEY"\nsecret_env = "K_API_SECRET"\n',
        'brokers."Kraken Main"',
        "expected 1 to 48 of a-z, 0-9, - and _, beginning with a letter or a digit, not 'Kraken Main'",
    ),
    "an unknown rule": (
        SMALLEST + "[brokers.k.rules]\nbackoff = 1\n",
        "brokers.k.rules.backoff",
        "did you mean backoff_s? known are: start_unknown, final_auth",
    ),
    **{
        name: (f"{SMALLEST}{line}\n", f"brokers.k.{key_of(line)}", expected)
        for name, (line, expected) in BROKER_VALUES.items()
    },
    **{
        name: (f"{SMALLEST}[cluster]\n{line}\n", f"cluster.{key_of(line)}", expected)
        for name, (line, expected) in CLUSTER_VALUES.items()
    },
    **{
        f"the store {store!r}": (
            f'{SMALLEST}[cluster]\nstore = "{store}"\n',
            "cluster.store",
            "expected sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
        )
        for store in (
            "watch.db",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "mysql://h/d",
            "http://h",
            f"postgresql://me:{SECRET}@h:port/d",
            f"postgres://me:{SECRET}@h/d",
        )
    },
    **{
        f"the wrong type of rules.{key}": (
            f"{SMALLEST}[brokers.k.rules]\n{key} = {value}\n",
            f"brokers.k.rules.{key}",
            expected,
        )
        for key, (value, expected) in RULE_TYPES.items()
    },
    **{
        f"a rule out of range: {line[:40]}": (
            f'{SMALLEST}policy = "guarded"\n[brokers.k.rules]\n{line}\n',
            f"brokers.k.rules.{key}",
            expected,
        )
        for line, key, expected in RULE_RANGES
    },
    **{
        f"the wrong type of cluster.{key}": (
            f"{SMALLEST}[cluster]\n{key} = {value}\n",
            f"cluster.{key}",
            expected,
        )
        for key, (value, expected) in CLUSTER_TYPES.items()
    },
    **{
        f"the wrong type of {key}": (f"{SMALLEST}{key} = {value}\n", f"brokers.k.{key}", expected)
        for key, (value, expected) in BROKER_TYPES.items()
    },
}


@pytest.fixture
def secret_files(tmp_path: Path) -> None:
    """Files of every kind that a key `secret_file` may name."""
    for name, content, mode in (
        ("good.key", SECRET.encode(), 0o600),
        ("empty.key", b" \n", 0o600),
        ("binary.key", b"\xff\xfe", 0o600),
        ("world.key", SECRET.encode(), 0o602),
        ("group.key", SECRET.encode(), 0o620),
    ):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)


@pytest.mark.usefixtures("secret_files")
@pytest.mark.parametrize(("text", "key", "expected"), WRONG.values(), ids=WRONG)
def test_this_mistake_is_one_problem_that_names_its_key_and_what_was_expected(
    mistakes: Mistakes, text: str, key: str, expected: str
) -> None:
    (problem,) = mistakes(text)
    assert problem.key == key
    assert expected in problem.expected
    assert SECRET not in str(problem)
    assert KEY not in str(problem)


def test_every_key_of_the_documentation_has_its_wrong_type_tried() -> None:
    keys = {key_of(line) for line in ISSUE.splitlines() if " = " in line} - {
        "version",
        "exchange",
    }
    tried = {*CLUSTER_TYPES, *BROKER_TYPES, *RULE_TYPES, "secret_env"}
    assert keys <= tried


def test_the_help_names_every_key_that_is_read(mistakes: Mistakes) -> None:
    (problem,) = mistakes(SMALLEST + "wat = 1\n")
    known = problem.expected.partition("known are: ")[2].partition(", and a ")[0].split(", ")
    assert known == [key.name for key in KEYS if key.read is not None]


def test_an_unknown_key_is_named_with_its_line_wherever_it_stands(mistakes: Mistakes) -> None:
    text = (
        "# a comment\nversion = 1\nclustre = 1\n\n[brokers.k]  # here\nexchange = 'kraken'\n"
        'labels = { a = """\npolici = 1\n""" }\npolici = "guarded"\n'
        "[brokers.k.rules]\nauth_probes_s = [\n  1,\n\n  60,\n]\nwindow_fetch = 3\n"
        "[brokers.k.rule]\n[cluster]\nstatus.interval = 1\n"
    )
    found = {
        problem.key: (problem.line, problem.expected.partition(" known are")[0]) for problem in mistakes(text)
    }
    assert found["clustre"] == (3, "unknown key; did you mean cluster?")
    assert found["brokers.k.polici"] == (10, "unknown key; did you mean policy?")
    assert found["brokers.k.rules.window_fetch"] == (17, "unknown key; did you mean window_fetches?")
    assert found["brokers.k.rule"] == (18, "unknown key; did you mean rules?")
    assert found["cluster.status"][0] == 20


@pytest.mark.usefixtures("secret_files")
@pytest.mark.parametrize(("text", "key", "expected"), WRONG.values(), ids=WRONG)
def test_each_mistake_names_the_line_of_its_key_or_of_the_table_that_lacks_it(
    mistakes: Mistakes, text: str, key: str, expected: str
) -> None:
    del expected
    rows = ["", "# a comment", "", *text.splitlines()]
    (problem,) = mistakes("\n".join(rows))
    if not key:
        assert "is not TOML" in problem.expected, "tomllib names the line of that itself"
        return
    *parents, last = [part.strip('"') for part in key.split(".")]
    line = rows[problem.line - 1] if problem.line else ""
    own = [row for row in rows if re.search(rf"(?<![A-Za-z_-]){re.escape(last)}\"?\s*[=\]]", row)]
    if own:
        assert line == own[-1]
        assert f": {key}: line {problem.line}: " in str(problem)
    elif parents:
        assert line.startswith("[")
        assert parents[-1] in line
    else:
        assert not problem.line, "the file as a whole lacks it"


MANY_LINES: Final = """version = 1
[brokers]
k.exchange = "kraken"
k."policy" = "simpel"
k.labels = { desk = 1, "a b" = '''
x''', "c.d" = 2 }
k.cash_currencies = [
  "USD",  # and
  "EUR",
]
'k'.rules = { window_share = 3, backoff_s = [
  1,
] }
[brokers . k . "ccxt"]
"verbose" = true
[brokers."b.c".rules]
final_auth = 1
[[brokers.d]]
x = 1
"""


def test_the_line_is_right_in_inline_tables_lists_and_quoted_keys(mistakes: Mistakes) -> None:
    assert {problem.key: problem.line for problem in mistakes(MANY_LINES)} == {
        "brokers.k.policy": 4,
        "brokers.k.labels.desk": 5,
        'brokers.k.labels."c.d"': 6,
        "brokers.k.cash_currencies": 7,
        "brokers.k.rules.window_share": 11,
        "brokers.k.rules.backoff_s": 11,
        "brokers.k.ccxt.verbose": 15,
        'brokers."b.c"': 16,
        'brokers."b.c".exchange': 16,
        'brokers."b.c".rules.final_auth': 17,
        "brokers.d": 18,
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[clusters]\n", "cluster"),
        ("[broker.k]\n", "brokers"),
        ('[cluster]\nhealth_end_point = "x"\n', "health_endpoint"),
        (SMALLEST + "Trading = true\n", "trading"),
        (SMALLEST + "cash_currency = ['USD']\n", "cash_currencies"),
        (SMALLEST + 'api_key_evn = "K"\n', "api_key_env"),
        (SMALLEST + 'apiKeyEnv = "K"\n', "api_key_env"),
        (SMALLEST + 'wallet_adress_file = "K"\n', "wallet_address_file"),
        (SMALLEST + "[brokers.k.rules]\nmax_age = 60\n", "max_age_s"),
        (SMALLEST + "rules = { final_auht = true }\n", "final_auth"),
        (SMALLEST + 'policy = "gaurded"\n', "guarded"),
        (SMALLEST + 'policy = " SIMPLE"\n', "simple"),
        ('[brokers.k]\nexchange = "Kraken"\n', "kraken"),
        ('[brokers.k]\nexchange = "hyper-liquid"\n', "hyperliquid"),
    ],
)
def test_what_was_meant_is_asked_at_every_level(mistakes: Mistakes, text: str, meant: str) -> None:
    asked = [each for each in mistakes(text) if f"did you mean {meant}" in each.expected]
    assert len(asked) == 1
    assert asked[0].line


def test_an_exchange_that_ccxt_renamed_is_found_by_its_old_id(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text('version = 1\n[brokers.k]\nexchange = "huobi"\n')
    with pytest.raises(ConfigError, match=r"'huobi'; did you mean htx\?"):
        load(path, Catalogue(), environment=ENVIRONMENT)


@pytest.mark.usefixtures("secret_files")
def test_two_mistakes_of_any_kinds_are_named_in_one_run(mistakes: Mistakes) -> None:
    of_broker = {key_of(line): line for line, _ in BROKER_VALUES.values()}
    of_rules = {key: line for line, key, _ in reversed(RULE_RANGES) if key == key_of(line)}
    of_cluster = {key_of(line): line for line, _ in CLUSTER_VALUES.values()}
    for key, line in of_broker.items():
        for other, beside in of_broker.items():
            if other > key and not {key, other} <= {"secret", "secret_env", "secret_file"}:
                found = {problem.key for problem in mistakes(f"{SMALLEST}{line}\n{beside}\n")}
                assert found >= {f"brokers.k.{key}", f"brokers.k.{other}"}
        for table, others in (("cluster", of_cluster), ("brokers.k.rules", of_rules)):
            for other, beside in others.items():
                found = {problem.key for problem in mistakes(f"{SMALLEST}{line}\n[{table}]\n{beside}\n")}
                assert found >= {f"brokers.k.{key}", f"{table}.{other}"}


def test_a_file_that_others_may_write_has_its_mistakes_named_too(tmp_path: Path) -> None:
    path = tmp_path / "open.toml"
    path.write_text(SMALLEST + "wat = 1\n")
    path.chmod(0o666)
    with pytest.raises(ConfigError) as raised:
        load(path, Known(), environment=ENVIRONMENT)
    assert [problem.key for problem in raised.value.problems] == ["", "brokers.k.wat"]


def test_the_credentials_of_the_exchange_that_was_meant_are_asked_for(mistakes: Mistakes) -> None:
    found = {each.key for each in mistakes('version = 1\n[brokers.o]\nexchange = "okxx"\n')}
    assert found == {f"brokers.o.{key}" for key in ("exchange", "api_key_env", "secret_env", "password_env")}


def test_a_file_that_begins_with_a_byte_order_mark_is_read(loaded: Loader) -> None:
    assert [spec.name for spec in loaded("\ufeff" + SMALLEST).brokers] == ["k"]


@pytest.mark.parametrize(
    ("policy", "line", "key"),
    [
        ("paranoid", "window_fetches = -1", "window_fetches"),
        ("Guarded", "window_minimum = 21", "window_minimum"),
        ("guarded ", "backoff = 1", "backoff"),
        ("simpel", 'max_age_s = "x"', "max_age_s"),
        ("", "successes_to_recover = 0", "successes_to_recover"),
    ],
)
def test_a_mistake_in_the_rules_is_named_beside_a_policy_that_does_not_exist(
    mistakes: Mistakes, policy: str, line: str, key: str
) -> None:
    text = f'{SMALLEST}policy = "{policy}"\n[brokers.k.rules]\n{line}\n'
    wrong = {"brokers.k.policy"} if policy else set[str]()  # an empty one is left out
    assert {problem.key for problem in mistakes(text)} == {*wrong, f"brokers.k.rules.{key}"}


def test_rules_that_the_policy_which_was_meant_allows_are_no_mistake(mistakes: Mistakes) -> None:
    text = f'{SMALLEST}policy = "simpel"\n[brokers.k.rules]\nwindow_minimum = 21\n'
    assert {problem.key for problem in mistakes(text)} == {"brokers.k.policy"}


DOCUMENTATION: Final = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


@pytest.mark.parametrize(
    ("heading", "line"),
    [("## `[cluster]`", "[cluster]\nwat = 1\n"), ("## `[brokers.NAME]`", "wat = 1\n"),
     ("## Policies: `[brokers.NAME.rules]`", "[brokers.k.rules]\nwat = 1\n")],
    ids=["cluster", "brokers", "rules"],
)  # fmt: skip
def test_the_documentation_has_every_key_that_the_loader_knows_and_no_other(
    mistakes: Mistakes, heading: str, line: str
) -> None:
    (problem,) = mistakes(SMALLEST + line)
    known = set(re.findall(r"[a-z_]+", problem.expected.partition("known are: ")[2].partition(", and a ")[0]))
    section = DOCUMENTATION.read_text().partition(heading)[2].partition("\n## ")[0]
    documented = {key for row in section.splitlines() for key in re.findall(r"^\| `([a-z_]+)` \|", row)}
    assert documented == known - {"rules", "ccxt"}, "those two have a section of their own"


def test_the_budgets_in_the_documentation_are_those_of_the_code() -> None:
    text = DOCUMENTATION.read_text()
    found = {
        name.lower(): (float(burst), float(per_s))
        for name, burst, per_s in re.findall(
            r"^\| (Kraken|Coinbase|OKX) \| ([0-9.]+) \| ([0-9.]+) \|", text, re.M
        )
    }
    assert found == {name: (budget.burst, budget.per_s) for name, budget in BUDGETS.items()}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "gone.toml", Known(), environment={})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"version = 1\n\xff")
    with pytest.raises(ConfigError, match=r"binary\.toml: is not TOML"):
        load(path, Known(), environment={})


def test_all_mistakes_of_a_file_are_named_in_one_run(mistakes: Mistakes) -> None:
    found = mistakes(
        'wat = 1\n[cluster]\nname = "A"\nheartbeat_s = 0\n'
        '[brokers.a]\nexchange = "nyse"\npoll_interval_s = 0\n'
        '[brokers.b]\nexchange = "kraken"\ncash_currencies = ["USD", "EUR"]\nwat = 2\n'
        "requests_per_s = 0\n[brokers.b.rules]\nwindow_share = 2\nsuccesses_to_recover = 0\nwat = 3\n"
        '[brokers.c]\nexchange = "kraken"\napi_key_env = "K_API_KEY"\nsecret_env = "K_API_SECRET"\n'
        'policy = "strict"\nread_funding = 1\n'
    )
    assert {problem.key for problem in found} == {
        "wat",
        "version",
        "cluster.name",
        "cluster.heartbeat_s",
        "brokers.a.exchange",
        "brokers.a.poll_interval_s",
        "brokers.b.cash_currencies",
        "brokers.b.wat",
        "brokers.b.api_key_env",
        "brokers.b.secret_env",
        "brokers.b.requests_per_s",
        "brokers.b.rules.window_share",
        "brokers.b.rules.successes_to_recover",
        "brokers.b.rules.wat",
        "brokers.c.policy",
        "brokers.c.read_funding",
    }
    assert len(found) == 16


def test_keep_going_puts_only_the_broken_brokers_aside(loaded: Loader) -> None:
    found = loaded(
        SMALLEST
        + '[brokers.bad]\nexchange = "kraken"\npoll_interval_s = 0\n[brokers.worse]\nexchange = "nyse"\n',
        keep_going=True,
    )
    assert [spec.name for spec in found.brokers] == ["k"]
    assert found.broken.keys() == {"bad", "worse"}
    exchange_id, why = found.broken["bad"]
    assert exchange_id == "kraken"
    assert "poll_interval_s" in why
    assert "BAD_API_KEY" in why
    assert found.broken["worse"][0] == "nyse"


@pytest.mark.parametrize("mistake", ['policy = "paranoid"', "rules = { window_share = 2 }"])
def test_keep_going_puts_a_broker_of_a_wrong_policy_or_rule_aside(loaded: Loader, mistake: str) -> None:
    keys = 'api_key_env = "K_API_KEY"\nsecret_env = "K_API_SECRET"\n'
    found = loaded(f'{SMALLEST}[brokers.bad]\nexchange = "kraken"\n{keys}{mistake}\n', keep_going=True)
    assert [spec.name for spec in found.brokers] == ["k"]
    assert re.match(r"policy|rules", found.broken["bad"][1].removeprefix("brokers.bad."))


@pytest.mark.parametrize(
    "extra",
    ["[cluster]\nheartbeat_s = 0\n", '[brokers."No Topic"]\nexchange = "kraken"\n', "wat = 1\n"],
    ids=["cluster", "name", "top"],
)
def test_keep_going_does_not_forgive_what_concerns_everybody(loaded: Loader, extra: str) -> None:
    text = extra + SMALLEST if extra.startswith("wat") else SMALLEST + extra
    with pytest.raises(ConfigError):
        loaded(text, keep_going=True)


def test_a_sound_broker_is_not_loaded_beside_a_broken_one_unless_asked(loaded: Loader) -> None:
    with pytest.raises(ConfigError):
        loaded(SMALLEST + '[brokers.bad]\nexchange = "nyse"\n')


# --- anything at all -----------------------------------------------------------------------------


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML's escapes are JSON's, but for a lone surrogate, which text of Hypothesis here never holds.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, cast('list[object]', value)))}]"
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in table.items()) + "}"
    return repr(value)


def tables(*keys: str) -> st.SearchStrategy[dict[str, object]]:
    """A table of known and of unknown keys, with any values."""
    return st.dictionaries(st.sampled_from(keys) | words, values, max_size=5)


brokers = tables(
    "exchange", "poll_interval_s", "fetch_deadline_s", "max_consecutive_errors", "cash_currencies", "labels",
    "ccxt", "api_key_env", "secret_file", "api_key", "private_key_env",
    "policy", "requests_per_s", "request_burst", "read_funding",
    "allow_empty",
) | st.fixed_dictionaries({"rules": tables(*RULES)})  # fmt: skip
clusters = tables(
    "name",
    "health_endpoint",
    "broker_endpoint",
    "heartbeat_s",
    "publish_balances",
    "state",
    "store",
    "remember",
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1) | scalars,
        "cluster": clusters | scalars,
        "brokers": st.dictionaries(st.sampled_from(["k", "k-2"]) | words, brokers | scalars, max_size=3)
        | scalars,
        "wat": values,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(document=documents, keep_going=st.booleans())
def test_any_toml_loads_or_is_a_config_error_and_nothing_else(
    tmp_path: Path, document: dict[str, object], keep_going: bool
) -> None:
    path = tmp_path / "any.toml"
    path.write_text(
        "".join(f"{toml(key)} = {toml(value)}\n" for key, value in document.items()), encoding="utf-8"
    )
    try:
        found = load(path, Known(), environment=ENVIRONMENT, keep_going=keep_going)
    except ConfigError as error:
        problems = error.problems
    else:
        assert found.brokers or (keep_going and found.broken)
        assert all(spec.poll_interval_s > 0 for spec in found.brokers)
        return
    assert problems
    assert all(problem.where == str(path) for problem in problems)
    assert not any("is not TOML" in problem.expected for problem in problems), path.read_text()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_load_or_are_a_config_error_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load(path, Known(), environment={})


# --- the real catalogue ----------------------------------------------------------------------------


def test_the_real_catalogue_knows_the_exchanges_we_promise() -> None:
    known = Catalogue.exchanges()
    assert {"kraken", "coinbase", "okx", "myokx", "okxus"} <= known
    assert len(known) > 90


def test_a_file_for_real_exchanges_loads_with_the_real_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "real.toml"
    path.write_text('version = 1\n[brokers.o]\nexchange = "myokx"\n[brokers.c]\nexchange = "coinbase"\n')
    environment = {
        "O_API_KEY": "a", "O_API_SECRET": "b", "O_API_PASSPHRASE": "c", "C_API_KEY": "d",
        "C_API_SECRET": pem(),
    }  # fmt: skip
    found = load(path, Catalogue(), environment=environment)
    assert [spec.exchange for spec in found.brokers] == ["myokx", "coinbase"]


@pytest.mark.parametrize(
    "line",
    [
        "poll_interval_s = 1" + "0" * 400,
        "poll_interval_s = 1" + "0" * 5_000,
        'api_key_file = "a\\u0000b"',
        "x = " + "[" * 3_000,
    ],
    ids=["400 digits", "5,000 digits", "NUL in a path", "deep brackets"],
)
def test_a_file_beyond_what_python_reads_is_a_mistake_and_no_crash(mistakes: Mistakes, line: str) -> None:
    assert mistakes(SMALLEST + line + "\n")


@pytest.mark.parametrize("line", ['poll_interval_s = "a\\nb"', '"a\\nb" = 1'])
def test_each_mistake_is_one_line_whatever_stands_in_the_file(mistakes: Mistakes, line: str) -> None:
    found = mistakes(SMALLEST + line + "\n")
    assert len("\n".join(map(str, found)).splitlines()) == len(found)


@pytest.mark.parametrize("name", ["Kraken", "KRAKEN", "OKX", "cionbase"])
def test_a_name_that_is_nearly_right_gets_a_hint(mistakes: Mistakes, name: str) -> None:
    problem, *_ = mistakes(f'version = 1\n[brokers.k]\nexchange = "{name}"\n')
    assert "did you mean" in problem.expected


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_configuration_that_others_may_write_is_refused_whichever_part_is_read(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "brokerwatch.toml"
    path.write_text('[cluster]\nname = "main"\n')
    path.chmod(0o644)
    assert load_cluster(path).name == "main"
    path.chmod(mode)
    refused = r"brokerwatch\.toml.*its owner alone may write; chmod 600 it"
    with pytest.raises(ConfigError, match=refused):
        load_cluster(path)
    with pytest.raises(ConfigError, match=refused):
        load(path, Catalogue())
