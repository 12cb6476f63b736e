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
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.config.broker_spec import CREDENTIALS, KEYS, BrokerSpec
from brokerwatch.config.cluster_settings import SQLITE, ClusterSettings, Settings, cluster_mistakes
from brokerwatch.config.credentials import NOT_FOR_CCXT, Catalogue, credentials_of, writable_by_others
from brokerwatch.config.curve_settings import CurveSettings, curve_mistakes, curve_of
from brokerwatch.config.http_settings import http_of
from brokerwatch.config.nonce_fence import counting_mistakes
from brokerwatch.config.notify_settings import notify_settings
from brokerwatch.config.policy import POLICIES, Rules, default_policy, default_rules
from brokerwatch.config.pool_settings import pool_of
from brokerwatch.config.shard import WHOLE, Shard
from brokerwatch.config.suggestions import exchanges_like, nearest, unknown_exchange
from brokerwatch.config.supervisor_settings import SupervisorSettings, supervisors_of
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
_TABLES: Final = ("curve", "http", "notify", "pool", "supervisors")
"""Fields of the cluster's settings that are tables of their own beside [cluster]."""
TOP_KEYS: Final = "version, cluster, curve, http, brokers, notify, pool, supervisors"
"""The tables of a file, and the version."""
_BROKER_KEYS: Final = tuple(key.name for key in KEYS if key.read)
"""The keys of a broker's table, but for those of its credentials."""


def load(
    path: Path,
    catalogue: Catalogue,
    *,
    environment: Mapping[str, str] | None = None,
    keep_going: bool = False,
    only: Collection[str] = (),
) -> Settings:
    """The settings that a TOML file says. `only`: the brokers that are looked at; none named: all.

    Raises ConfigError with every problem. With `keep_going` the problems of a single broker only
    put that broker under `broken`; those of the file or the cluster still raise.
    """
    found = examine(path, catalogue, environment=environment, only=only)
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
    reported: int = 0
    """Accounts that nodes report, of which nothing was looked at."""


def examine(
    path: Path,
    catalogue: Catalogue,
    *,
    environment: Mapping[str, str] | None = None,
    only: Collection[str] = (),
) -> Examined:
    """Everything that can be had of a TOML file, and every problem. ConfigError: it is no TOML at all.

    `only`: the brokers that are looked at; none named: all.
    """
    environment = os.environ if environment is None else environment
    where = str(path)
    problems: list[Problem] = []
    content, lines = content_of(path, problems)
    top = TomlTable(where, "", content, problems, lines)
    before = len(problems)
    cluster = _cluster_of(top, path.parent, environment)
    is_sound = len(problems) == before
    before = len(problems)
    sections = top.table("brokers")
    if not sections and len(problems) == before:
        top.wrong("brokers", "expected at least one [brokers.NAME] table")
    top.end(TOP_KEYS)
    specs: list[BrokerSpec] = []
    broken: dict[str, tuple[str, tuple[Problem, ...]]] = {}
    for name in only:
        if name not in sections:
            known = ", ".join(sections) or "none"
            problems.append(Problem(where, "", f"there is no broker named {name!r} here; there are: {known}"))
    for name, section in sections.items():
        if only and name not in only:
            continue
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


def _cluster_of(top: TomlTable, folder: Path, environment: Mapping[str, str]) -> ClusterSettings:
    """What the tables say that are for the whole cluster, all but the [brokers]."""
    where, problems, lines = top.where, top.problems, top.lines
    version = top.take("version")
    if type(version) is not int or version != 1:
        top.wrong("version", "expected version = 1 at the top of the file")
    before = len(problems)
    said = top.table_or_none("curve")
    curve_table = TomlTable(where, "curve", said or {}, problems, lines)
    curve = None if said is None else curve_of(curve_table, folder, environment)
    if curve is not None and len(problems) == before:
        for key, expected in curve_mistakes(curve):
            curve_table.wrong(key, expected)
    supervisors = supervisors_of(top.take("supervisors"), where, folder, problems, lines)
    table = TomlTable(where, "cluster", top.table("cluster"), problems, lines)
    cluster = _cluster(table, folder, curve, supervisors)
    if served := top.table("http"):
        http = http_of(TomlTable(where, "http", served, problems, lines), folder, environment)
        cluster = replace(cluster, http=http)
    cluster = replace(cluster, pool=pool_of(top, cluster.name))
    notify = TomlTable(where, "notify", top.table("notify"), problems, lines)
    return replace(cluster, notify=notify_settings(notify, folder, environment))


def load_supervised(
    path: Path, *, environment: Mapping[str, str] | None = None, shard: Shard = WHOLE
) -> Settings:
    """What a supervisor without accounts of its own needs: the cluster, and which accounts there are.

    Of each account it reads the exchange, and neither its credentials nor anything else: those are for the
    node that runs it. `shard`: of several supervisors that share the accounts, the one that is meant. Raises
    ConfigError with every problem.
    """
    problems: list[Problem] = []
    content, lines = content_of(path, problems)
    top = TomlTable(str(path), "", content, problems, lines)
    cluster = _cluster_of(top, path.parent, os.environ if environment is None else environment)
    specs: list[BrokerSpec] = []
    for name, section in top.table("brokers").items():
        key = key_path("brokers", name)
        if not topics.is_name(name):
            top.wrong(key, f"expected a name of {topics.NAME_RULE}")
        elif not isinstance(section, dict):
            top.wrong(key, f"expected a table, not {typed(section)}")
        else:
            said = TomlTable(str(path), key, cast("dict[str, Any]", section), problems, lines)
            exchange = said.text("exchange", CUSTOM)
            if not topics.is_name(exchange):
                said.wrong("exchange", f"expected the ccxt id of an exchange, not {exchange!r}")
            else:
                specs.append(BrokerSpec(name, exchange=exchange))
    if not specs and not problems:
        top.wrong("brokers", "expected a [brokers.NAME] table for each account that a node reports")
    top.end(TOP_KEYS)
    if problems:
        raise ConfigError(tuple(problems))
    return Settings(cluster, tuple(spec for spec in specs if shard.has(spec.name)))


def examine_supervised(path: Path, *, environment: Mapping[str, str] | None = None) -> Examined:
    """The same as `examine` for a supervisor without accounts of its own."""
    try:
        found = load_supervised(path, environment=environment)
    except ConfigError as error:
        return Examined(None, (), MappingProxyType({}), error.problems)
    return Examined(found.cluster, (), MappingProxyType({}), (), len(found.brokers))


def load_cluster(path: Path) -> ClusterSettings:
    """The [cluster] and [pool] tables alone: what an operator's command needs, without any credentials.

    Of [curve] it says which files there are, and reads none.
    """
    problems: list[Problem] = []
    content, lines = content_of(path, problems)
    top = TomlTable(str(path), "", content, problems, lines)
    table = TomlTable(str(path), "curve", top.table("curve"), problems, lines)
    curve = curve_of(table, path.parent, os.environ) if "curve" in content else None
    table = TomlTable(str(path), "cluster", top.table("cluster"), problems, lines)
    settings = _cluster(table, path.parent, curve, ())
    settings = replace(settings, pool=pool_of(top, settings.name))
    if problems:
        raise ConfigError(tuple(problems))
    return settings


def content_of(path: Path, problems: list[Problem]) -> tuple[dict[str, Any], TomlLines]:
    """What a file says, and where each key stands. Raises ConfigError where it is no TOML."""
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


def _cluster(
    table: TomlTable,
    folder: Path,
    curve: CurveSettings | None,
    supervisors: tuple[SupervisorSettings, ...],
) -> ClusterSettings:
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
        supervisors=supervisors,
    )
    table.end(", ".join(field.name for field in fields(ClusterSettings) if field.name not in _TABLES))
    for key, expected in cluster_mistakes(settings):
        if any(problem.key == key for problem in table.problems):
            continue  # it was named when it was read
        if key.startswith("supervisors"):
            table.problems.append(Problem(table.where, key, expected, table.lines.nearest(key)))
        else:
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
    counts = catalogue.counts_nonces(likely)
    for key, expected in counting_mistakes(likely, fence=values["nonce_fence"] is True, counts=counts):
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
