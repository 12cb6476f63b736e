"""The configuration file: TOML to settings, and every mistake at once.

The loader does not stop at the first mistake. It names each mistake with the file, the key and what was
expected, so that one edit mends them all. The file holds no secrets: it names the environment variable or the
file that has each.
"""

from __future__ import annotations

import math
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.config.broker_spec import CREDENTIALS, KEYS, BrokerSpec
from brokerwatch.config.cluster_settings import SQLITE, ClusterSettings, Settings, cluster_mistakes
from brokerwatch.config.credentials import NOT_FOR_CCXT, Catalogue, credentials_of, writable_by_others
from brokerwatch.config.curve_settings import CurveSettings, curve_mistakes, curve_of
from brokerwatch.config.http_settings import HttpSettings, http_of
from brokerwatch.config.notify_settings import NotifySettings, notify_settings
from brokerwatch.config.policy import POLICIES, Rules, default_policy, default_rules
from brokerwatch.config.suggestions import exchanges_like, nearest, unknown_exchange
from brokerwatch.config.toml_lines import TomlLines, key_path
from brokerwatch.config.toml_table import TomlTable, typed
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.log import logger
from brokerwatch.messages import topics
from brokerwatch.messages.reading import CUSTOM

_log: Final = logger(__name__)

_CLUSTER: Final = ClusterSettings()
_BROKER: Final = BrokerSpec("default")
"""What a key says that the file leaves out: the settings' own defaults."""
_TABLES: Final = ("curve", "http", "notify")
"""Fields of the cluster's settings that are tables of their own beside [cluster]."""
_BROKER_KEYS: Final = tuple(key.name for key in KEYS if key.read)
"""The keys of a broker's table, but for those of its credentials."""


def load(
    path: Path,
    catalogue: Catalogue,
    *,
    environment: Mapping[str, str] | None = None,
    keep_going: bool = False,
) -> Settings:
    """The settings that a TOML file says.

    Raises ConfigError with every problem. With `keep_going` the problems of a single broker only
    put that broker under `broken`; those of the file or the cluster still raise.
    """
    found = examine(path, catalogue, environment=environment)
    problems = list(found.problems)
    broken: dict[str, tuple[str, str]] = {}
    for name, (exchange, mistakes) in found.broken.items():
        if keep_going and topics.is_name(name):
            broken[name] = (exchange, "; ".join(str(replace(mistake, where="")) for mistake in mistakes))
        else:
            problems += mistakes
    if problems or found.cluster is None:
        raise ConfigError(tuple(problems))
    return Settings(found.cluster, found.brokers, MappingProxyType(broken))


@dataclass(frozen=True, slots=True)
class Examined:
    """What a file says, however much of it is wrong."""

    cluster: ClusterSettings | None
    """None: something in [cluster] or a table beside it is wrong."""
    brokers: tuple[BrokerSpec, ...]
    """The sound ones."""
    broken: Mapping[str, tuple[str, tuple[Problem, ...]]]
    """The others: name to (exchange, what is wrong)."""
    problems: tuple[Problem, ...]
    """What is wrong with the file or the cluster."""


def examine(path: Path, catalogue: Catalogue, *, environment: Mapping[str, str] | None = None) -> Examined:
    """Everything that can be had of a TOML file, and every problem. ConfigError: it is no TOML at all."""
    environment = os.environ if environment is None else environment
    where = str(path)
    problems: list[Problem] = []
    content, lines = _content(path, problems)
    top = TomlTable(where, "", content, problems, lines)
    version = top.take("version")
    if type(version) is not int or version != 1:
        top.wrong("version", "expected version = 1 at the top of the file")
    before = len(problems)
    curve_table = TomlTable(where, "curve", top.table("curve"), problems, lines)
    curve = curve_of(curve_table, path.parent, environment) if "curve" in content else None
    if curve is not None and len(problems) == before:
        for key, expected in curve_mistakes(curve):
            curve_table.wrong(key, expected)
    cluster = _cluster(TomlTable(where, "cluster", top.table("cluster"), problems, lines), path.parent, curve)
    if served := top.table("http"):
        http = http_of(TomlTable(where, "http", served, problems, lines), path.parent, environment)
        cluster = replace(cluster, http=http)
    notify = TomlTable(where, "notify", top.table("notify"), problems, lines)
    cluster = replace(cluster, notify=notify_settings(notify, path.parent, environment))
    is_sound = len(problems) == before
    before = len(problems)
    sections = top.table("brokers")
    if not sections and len(problems) == before:
        top.wrong("brokers", "expected at least one [brokers.NAME] table")
    top.end("version, cluster, curve, http, brokers, notify")
    specs: list[BrokerSpec] = []
    broken: dict[str, tuple[str, tuple[Problem, ...]]] = {}
    for name, section in sections.items():
        mistakes: list[Problem] = []
        if isinstance(section, dict):
            said = cast("dict[str, Any]", section)
            table = TomlTable(where, key_path("brokers", name), said, mistakes, lines)
            spec = _broker(name, table, path.parent, catalogue, environment)
        else:
            key, expected = key_path("brokers", name), f"expected a table, not {typed(section)}"
            mistakes.append(Problem(where, key, expected, lines.nearest(key)))
            spec = None
        if spec is not None and not mistakes:
            specs.append(spec)
        else:
            broken[name] = (_exchange_id(cast("object", section)), tuple(mistakes))
    return Examined(cluster if is_sound else None, tuple(specs), MappingProxyType(broken), tuple(problems))


def load_cluster(path: Path) -> ClusterSettings:
    """The [cluster] table alone: what an operator's command needs, without any credentials.

    Of [curve] it says which files there are, and reads none.
    """
    problems: list[Problem] = []
    content, lines = _content(path, problems)
    top = TomlTable(str(path), "", content, problems, lines)
    table = TomlTable(str(path), "curve", top.table("curve"), problems, lines)
    curve = curve_of(table, path.parent, os.environ) if "curve" in content else None
    table = TomlTable(str(path), "cluster", top.table("cluster"), problems, lines)
    settings = _cluster(table, path.parent, curve)
    if problems:
        raise ConfigError(tuple(problems))
    return settings


def load_http(path: Path, environment: Mapping[str, str] | None = None) -> HttpSettings | None:
    """The [http] table alone, for a program that serves and has no accounts; None where there is none."""
    problems: list[Problem] = []
    content, lines = _content(path, problems)
    served = TomlTable(str(path), "", content, problems, lines).table("http")
    table = TomlTable(str(path), "http", served, problems, lines)
    http = http_of(table, path.parent, os.environ if environment is None else environment) if served else None
    if problems:
        raise ConfigError(tuple(problems))
    return http


def load_notify(path: Path, *, environment: Mapping[str, str] | None = None) -> NotifySettings:
    """The [notify] table alone: what a watcher from outside needs, without any credentials."""
    problems: list[Problem] = []
    content, lines = _content(path, problems)
    top = TomlTable(str(path), "", content, problems, lines)
    table = TomlTable(str(path), "notify", top.table("notify"), problems, lines)
    settings = notify_settings(table, path.parent, os.environ if environment is None else environment)
    if problems:
        raise ConfigError(tuple(problems))
    return settings


def _content(path: Path, problems: list[Problem]) -> tuple[dict[str, Any], TomlLines]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
        if stat.S_ISREG(path.stat().st_mode) and writable_by_others(path):
            expected = "expected a file that its owner alone may write; chmod 600 it"
            problems.append(Problem(str(path), "", expected))
        return tomllib.loads(text), TomlLines(text)
    except OSError as error:
        raise ConfigError((Problem(str(path), "", f"cannot be read: {error.strerror}"),)) from error
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond what Python reads
        raise ConfigError((Problem(str(path), "", f"is not TOML: {error}"),)) from error


def _exchange_id(section: object) -> str:
    """The exchange that a broken section names, if it can stand in a topic."""
    if not isinstance(section, dict):
        return CUSTOM
    named = cast("dict[str, object]", section).get("exchange")
    return named if isinstance(named, str) and topics.is_name(named) else CUSTOM


def _beside(folder: Path, path: str) -> str:
    """A path of the configuration, which counts from the folder that the configuration lies in."""
    try:
        return str(folder.absolute() / Path(path).expanduser()) if path else ""
    except RuntimeError:  # the ~ of an unknown user: cluster_mistakes says so
        return path


def _store(folder: Path, url: str) -> str:
    """The store's URL, with the path of a SQLite file as `_beside` has it."""
    path = url.removeprefix(SQLITE)
    return url if path in (url, "", ":memory:") else SQLITE + _beside(folder, path)


def _cluster(table: TomlTable, folder: Path, curve: CurveSettings | None) -> ClusterSettings:
    settings = ClusterSettings(
        name=table.text("name", _CLUSTER.name),
        health_endpoint=table.text("health_endpoint", _CLUSTER.health_endpoint),
        broker_endpoint=table.text("broker_endpoint", _CLUSTER.broker_endpoint),
        heartbeat_s=table.limit("heartbeat_s"),
        status_interval_s=table.number("status_interval_s", _CLUSTER.status_interval_s),
        key_watch_interval_s=table.number("key_watch_interval_s", _CLUSTER.key_watch_interval_s),
        egress_address=table.text("egress_address", _CLUSTER.egress_address),
        publish_balances=table.switch("publish_balances", default=_CLUSTER.publish_balances),
        state=_beside(folder, table.text("state", os.fspath(_CLUSTER.state))),
        store=_store(folder, table.text("store", _CLUSTER.store)),
        require_verification_max_age_s=table.limit("require_verification_max_age_s"),
        history_days=table.number("history_days", _CLUSTER.history_days),
        remember=table.switch("remember", default=_CLUSTER.remember),
        curve=curve,
    )
    table.end(", ".join(field.name for field in fields(ClusterSettings) if field.name not in _TABLES))
    for key, expected in cluster_mistakes(settings):
        table.wrong(key, expected)
    return settings


def _broker(
    name: str, table: TomlTable, folder: Path, catalogue: Catalogue, environment: Mapping[str, str]
) -> BrokerSpec | None:
    values = {
        key.name: key.read(table, key.name, getattr(_BROKER, key.name))
        for key in KEYS
        if key.read is not None
    }
    exchange: str = values["exchange"]
    known = catalogue.exchanges()
    if exchange and exchange not in known:
        table.wrong("exchange", unknown_exchange(exchange, known))
    for key in sorted(values["ccxt"].keys() & NOT_FOR_CCXT):
        table.wrong(f"ccxt.{key}", NOT_FOR_CCXT[key])
    said = values.pop("rules")
    path = key_path("brokers", name, "rules")
    rules = TomlTable(table.where, path, said, table.problems, table.lines)
    policy = values["policy"] or default_policy(trading=values["trading"])
    slowest_s = max(values["poll_interval_s"], values["quiet_poll_interval_s"] or 0.0)
    # Beside a policy that does not exist, the mistakes in the rules are named all the same: by the policy
    # that was most likely meant, since what a rule may be depends on the others.
    meant = policy if policy in POLICIES else (*nearest(policy, POLICIES), "guarded")[0]
    values["rules"] = _rules(rules, default_rules(meant, slowest_s))
    # So are the credentials of the exchange that was most likely meant.
    likely = exchange if exchange in known else (*exchanges_like(exchange, known), exchange)[0]
    credentials, origins = credentials_of(name, likely, table, folder, catalogue, environment)
    options, params = values["ccxt"].get("options"), values["balance_params"]
    for key, expected in catalogue.account_mistakes(likely, credentials, options, params):
        table.wrong(key, expected)
    table.end(
        f"{', '.join(_BROKER_KEYS)}, and a credential as <name>_env or <name>_file, such as api_key_env",
        (*_BROKER_KEYS, *(f"{name}_{kind}" for name in CREDENTIALS for kind in ("env", "file"))),
    )
    try:
        return BrokerSpec(
            name,
            credentials=MappingProxyType(credentials),
            origins=MappingProxyType(origins),
            **values,
        )
    except ConfigError as error:
        for problem in error.problems:
            key, expected = problem.key.removeprefix(f"brokers.{name}."), problem.expected
            option, colon, text = expected.partition(": ")
            if key == "ccxt" and colon and option in values["ccxt"]:  # what is wrong with one of them
                key, expected = key_path(key, option), text
            if key != "exchange":  # that one was named above, in better words
                table.wrong("" if key == "name" else key, expected)
        return None


def _rules(table: TomlTable, policy: Rules) -> Rules:
    """The rules of the policy, with what the configuration says otherwise."""
    rules = Rules(
        start_unknown=table.switch("start_unknown", default=policy.start_unknown),
        final_auth=table.switch("final_auth", default=policy.final_auth),
        auth_probes_s=table.numbers("auth_probes_s", policy.auth_probes_s),
        maintenance_state=table.switch("maintenance_state", default=policy.maintenance_state),
        window_fetches=table.whole("window_fetches", policy.window_fetches),
        window_minimum=table.whole("window_minimum", policy.window_minimum),
        window_share=table.number("window_share", policy.window_share),
        successes_to_recover=table.whole("successes_to_recover", policy.successes_to_recover),
        confirm_after_s=table.numbers("confirm_after_s", policy.confirm_after_s),
        backoff_s=_range(table, "backoff_s", policy.backoff_s),
        max_age_s=_finite(
            table.number("max_age_s", math.inf if policy.max_age_s is None else policy.max_age_s)
        ),
    )
    table.end(", ".join(field.name for field in fields(Rules)))
    return rules


def _range(table: TomlTable, key: str, default: tuple[float, float] | None) -> tuple[float, float] | None:
    found = table.numbers(key, () if default is None else default)
    match found:
        case ():
            return None
        case (shortest, longest):
            return (shortest, longest)
        case _:
            table.wrong(key, "expected two numbers of seconds, [shortest, longest]; [] switches it off")
            return default


def _finite(number: float) -> float | None:
    return None if number == math.inf else number
