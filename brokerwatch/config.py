"""What an operator configures: frozen settings with units, one loader, and every mistake at once.

The loader never stops at the first mistake: it names each with the file, the key and what was
expected, so that one edit mends them all. Secrets are not in the file: it names the environment
variable or the file that holds each.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

from brokerwatch.credentials import unreadable_pem
from brokerwatch.currencies import DEFAULT_CASH, units
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.messages import topics

DEFAULT_HEALTH_ENDPOINT: Final = "tcp://127.0.0.1:5571"
DEFAULT_BROKER_ENDPOINT: Final = "inproc://brokers"
CUSTOM: Final = "custom"
"""The exchange of a broker whose balance a trader's own callable fetches."""

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

MAX_CONSECUTIVE_ERRORS: Final = 1_000
MAX_DEADLINE_S: Final = 3_600.0
HEARTBEAT_RANGE_S: Final = (0.02, 300.0)
"""Faster would burn the machine, slower would call a dead broker alive for twenty minutes."""


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """One broker: an account at an exchange that ccxt knows, or anything that `fetch` can read."""

    name: str
    """Topic characters only: a-z, 0-9, - and _."""
    exchange: str = CUSTOM
    """The ccxt id."""
    fetch: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
    """A trader's own async callable, in place of ccxt; see `brokerwatch.source.callable_source`."""
    poll_interval_s: float = 10.0
    """Seconds from one poll to the next; infinite: only when somebody asks."""
    fetch_deadline_s: float = 8.0
    """Seconds until a fetch counts as a network fault."""
    max_consecutive_errors: int = 3
    """Consecutive faults that make the broker unavailable."""
    cash_currencies: tuple[str, ...] = DEFAULT_CASH
    """Their free amounts are added up as cash; all pegged to one unit."""
    labels: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """The operator's own words, passed on in every reading."""
    credentials: Mapping[str, str] = field(default_factory=lambda: _EMPTY, repr=False)
    """ccxt's credentials in snake_case. Never shown."""
    ccxt: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, repr=False)
    """Further options of ccxt's constructor, passed on as they are."""
    simulated: bool = False
    """Whether the exchange behind it is a simulated one of ours."""

    def __post_init__(self) -> None:
        problems = [
            Problem("", f"brokers.{self.name}.{key}", expected) for key, expected in _spec_mistakes(self)
        ]
        if problems:
            raise ConfigError(tuple(problems))


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the brokers share."""

    name: str = "main"
    health_endpoint: str = DEFAULT_HEALTH_ENDPOINT
    """The public health topic; loopback, ipc or inproc only."""
    broker_endpoint: str = DEFAULT_BROKER_ENDPOINT
    """Brokers to supervisor."""
    heartbeat_s: float = 1.0
    """Seconds from one sign of life to the next; four of them and a second of silence convict."""
    publish_balances: bool = True
    """False keeps amounts out of what others can hear."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration that can be run."""

    cluster: ClusterSettings
    brokers: tuple[BrokerSpec, ...]
    broken: Mapping[str, tuple[str, str]] = field(default_factory=lambda: _EMPTY)
    """Brokers that cannot start (`keep_going`): name to (exchange, what is wrong)."""


class Catalogue(Protocol):
    """What is known about exchanges; the gateway answers this."""

    def exchanges(self) -> frozenset[str]:
        """Every exchange id."""
        ...

    def required_credentials(self, exchange: str) -> tuple[str, ...]:
        """The credentials that an exchange cannot do without, in snake_case."""
        ...


def _spec_mistakes(spec: BrokerSpec) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of a broker that cannot be."""
    found: list[tuple[str, str]] = []
    if not topics.is_name(spec.name):
        found.append(("name", f"expected 1 to 48 of a-z, 0-9, - and _, not {spec.name!r}"))
    if not topics.is_name(spec.exchange):
        found.append(("exchange", f"expected a ccxt id, not {spec.exchange!r}"))
    if math.isnan(spec.poll_interval_s) or spec.poll_interval_s <= 0:
        found.append(
            ("poll_interval_s", f"expected a number of seconds above 0, not {spec.poll_interval_s:g}")
        )
    if not 0 < spec.fetch_deadline_s <= MAX_DEADLINE_S:
        found.append(
            (
                "fetch_deadline_s",
                f"expected seconds above 0 and up to {MAX_DEADLINE_S:g}, not {spec.fetch_deadline_s:g}",
            )
        )
    if not 1 <= spec.max_consecutive_errors <= MAX_CONSECUTIVE_ERRORS:
        found.append(
            (
                "max_consecutive_errors",
                f"expected from 1 to {MAX_CONSECUTIVE_ERRORS:,}, not {spec.max_consecutive_errors}",
            )
        )
    if not spec.cash_currencies:
        found.append(("cash_currencies", "expected at least one currency"))
    different = units(spec.cash_currencies)
    if len(different) > 1:
        found.append(
            (
                "cash_currencies",
                f"expected currencies that are pegged to one unit; these are in {' and '.join(different)}, "
                "and adding them up would be wrong by the exchange rate",
            )
        )
    return found


def endpoint_mistake(endpoint: str) -> str:
    """What is wrong with a ZeroMQ endpoint; empty when nothing is."""
    if endpoint.startswith(("inproc://", "ipc://")):
        return "" if endpoint.partition("://")[2] else f"expected a name after ://, not {endpoint!r}"
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:\[\]]+):([0-9]{1,5}|\*)", endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65_535):
        return f"expected tcp://127.0.0.1:PORT, ipc://PATH or inproc://NAME, not {endpoint!r}"
    host = match[1].strip("[]")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        return ""
    return (
        f"{endpoint!r} can be reached from other machines and the bus is not encrypted yet; "
        "expected a loopback address such as tcp://127.0.0.1:5571"
    )


class _Table:
    """One TOML table while it is read: takes keys out by type, and notes what is wrong."""

    def __init__(self, where: str, path: str, content: Mapping[str, Any], problems: list[Problem]) -> None:
        self._where = where
        self._path = path
        self._left = dict(content)
        self._problems = problems

    def wrong(self, key: str, expected: str) -> None:
        self._problems.append(Problem(self._where, f"{self._path}.{key}".strip("."), expected))

    def take(self, key: str) -> Any:
        return self._left.pop(key, None)

    def text(self, key: str, default: str) -> str:
        value = self._left.pop(key, default)
        if isinstance(value, str):
            return value
        self.wrong(key, f"expected text, not {_typed(value)}")
        return default

    def number(self, key: str, default: float) -> float:
        value = self._left.pop(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        self.wrong(key, f"expected a number, not {_typed(value)}")
        return default

    def whole(self, key: str, default: int) -> int:
        value = self._left.pop(key, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.wrong(key, f"expected a whole number, not {_typed(value)}")
        return default

    def switch(self, key: str, *, default: bool) -> bool:
        value = self._left.pop(key, default)
        if isinstance(value, bool):
            return value
        self.wrong(key, f"expected true or false, not {_typed(value)}")
        return default

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._left.pop(key, default)
        if isinstance(value, list | tuple):
            listed = tuple(cast("list[object]", value))
            if all(isinstance(item, str) and item for item in listed):
                return cast("tuple[str, ...]", listed)
        self.wrong(key, f"expected a list of texts, not {_typed(cast('object', value))}")
        return default

    def table(self, key: str) -> Mapping[str, Any]:
        value = self._left.pop(key, {})
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        self.wrong(key, f"expected a table, not {_typed(value)}")
        return {}

    def matching(self, pattern: str) -> list[tuple[str, Any]]:
        keys = [key for key in self._left if re.fullmatch(pattern, key)]
        return [(key, self._left.pop(key)) for key in keys]

    def end(self, known: str) -> None:
        """Whatever was not taken is unknown."""
        for key in self._left:
            self.wrong(key, f"unknown key; known are: {known}")


def _typed(value: object) -> str:
    names: dict[type[Any], str] = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return f"{names.get(type(value), 'a date')} ({str(value)[:40]})"


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
    environment = os.environ if environment is None else environment
    where = str(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError((Problem(where, "", f"cannot be read: {error.strerror}"),)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError((Problem(where, "", f"is not TOML: {error}"),)) from error
    problems: list[Problem] = []
    top = _Table(where, "", content, problems)
    version = top.take("version")
    if type(version) is not int or version != 1:
        top.wrong("version", "expected version = 1 at the top of the file")
    cluster = _cluster(_Table(where, "cluster", top.table("cluster"), problems))
    sections = top.table("brokers")
    top.end("version, cluster, brokers")
    if not sections:
        top.wrong("brokers", "expected at least one [brokers.NAME] table")
    specs: list[BrokerSpec] = []
    broken: dict[str, tuple[str, str]] = {}
    for name, section in sections.items():
        mistakes: list[Problem] = []
        if isinstance(section, dict):
            table = _Table(where, f"brokers.{name}", cast("dict[str, Any]", section), mistakes)
            spec = _broker(name, table, path.parent, catalogue, environment)
        else:
            mistakes.append(Problem(where, f"brokers.{name}", f"expected a table, not {_typed(section)}"))
            spec = None
        if spec is not None and not mistakes:
            specs.append(spec)
        elif keep_going and topics.is_name(name):
            broken[name] = (
                _exchange_id(cast("object", section)),
                "; ".join(f"{p.key}: {p.expected}" for p in mistakes),
            )
        else:
            problems += mistakes
    if problems:
        raise ConfigError(tuple(problems))
    return Settings(cluster, tuple(specs), MappingProxyType(broken))


def _exchange_id(section: object) -> str:
    """The exchange that a broken section names, if it can stand in a topic."""
    if not isinstance(section, dict):
        return CUSTOM
    named = cast("dict[str, object]", section).get("exchange")
    return named if isinstance(named, str) and topics.is_name(named) else CUSTOM


def _cluster(table: _Table) -> ClusterSettings:
    settings = ClusterSettings(
        name=table.text("name", "main"),
        health_endpoint=table.text("health_endpoint", DEFAULT_HEALTH_ENDPOINT),
        broker_endpoint=table.text("broker_endpoint", DEFAULT_BROKER_ENDPOINT),
        heartbeat_s=table.number("heartbeat_s", 1.0),
        publish_balances=table.switch("publish_balances", default=True),
    )
    table.end("name, health_endpoint, broker_endpoint, heartbeat_s, publish_balances")
    for key, expected in cluster_mistakes(settings):
        table.wrong(key, expected)
    return settings


def cluster_mistakes(settings: ClusterSettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of the cluster that cannot be."""
    found: list[tuple[str, str]] = []
    if not topics.is_name(settings.name):
        found.append(("name", f"expected 1 to 48 of a-z, 0-9, - and _, not {settings.name!r}"))
    shortest, longest = HEARTBEAT_RANGE_S
    if not shortest <= settings.heartbeat_s <= longest:
        found.append(
            (
                "heartbeat_s",
                f"expected from {shortest:g} to {longest:g} seconds, not {settings.heartbeat_s:g}",
            )
        )
    for key, endpoint in (
        ("health_endpoint", settings.health_endpoint),
        ("broker_endpoint", settings.broker_endpoint),
    ):
        mistake = endpoint_mistake(endpoint)
        if mistake:
            found.append((key, mistake))
    if settings.health_endpoint == settings.broker_endpoint:
        found.append(("broker_endpoint", "expected another endpoint than health_endpoint"))
    return found


def _broker(
    name: str, table: _Table, folder: Path, catalogue: Catalogue, environment: Mapping[str, str]
) -> BrokerSpec | None:
    exchange = table.text("exchange", "")
    if exchange not in catalogue.exchanges():
        table.wrong("exchange", _unknown_exchange(exchange, catalogue.exchanges()))
    options = table.table("ccxt")
    for key in sorted(options.keys() & _NOT_FOR_CCXT):
        table.wrong(f"ccxt.{key}", _NOT_FOR_CCXT[key])
    labels = table.table("labels")
    if not all(isinstance(value, str) for value in labels.values()):
        table.wrong("labels", "expected texts as values")
    values: dict[str, Any] = {
        "poll_interval_s": table.number("poll_interval_s", 10.0),
        "fetch_deadline_s": table.number("fetch_deadline_s", 8.0),
        "max_consecutive_errors": table.whole("max_consecutive_errors", 3),
        "cash_currencies": table.texts("cash_currencies", DEFAULT_CASH),
        "ccxt": MappingProxyType(dict(options)),
        "labels": MappingProxyType({key: str(value) for key, value in labels.items()}),
    }
    credentials = _credentials(name, exchange, table, folder, catalogue, environment)
    table.end(
        "exchange, poll_interval_s, fetch_deadline_s, max_consecutive_errors, cash_currencies, labels, ccxt, "
        "and a credential as <name>_env or <name>_file, such as api_key_env"
    )
    try:
        return BrokerSpec(name, exchange=exchange, credentials=MappingProxyType(credentials), **values)
    except ConfigError as error:
        for problem in error.problems:
            key = problem.key.rpartition(".")[2]
            if key != "exchange":  # that one was named above, in better words
                table.wrong("" if key == "name" else key, problem.expected)
        return None


def _unknown_exchange(exchange: str, known: frozenset[str]) -> str:
    if not exchange:
        return "expected a ccxt id such as kraken"
    near = sorted(one for one in known if exchange and (one.startswith(exchange[:4]) or exchange in one))
    hint = f"; did you mean {', '.join(near[:4])}?" if near else ""
    return f"ccxt knows no exchange {exchange!r}{hint}"


CREDENTIALS: Final = (
    "api_key", "secret", "password", "uid", "account_id", "login", "twofa", "private_key", "wallet_address",
    "token",
)  # fmt: skip
"""Every credential that ccxt knows, in snake_case."""

_CREDENTIAL_ABOVE: Final = "secrets do not belong into this file; expected <credential>_env or _file above"
_NOT_FOR_CCXT: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(
            (*CREDENTIALS, "apiKey", "accountId", "privateKey", "walletAddress"), _CREDENTIAL_ABOVE
        ),
        "verbose": "ccxt would print keys and signatures; expected without this key",
    }
)
"""Options of ccxt's constructor that would put a secret where it does not belong."""

_DEFAULT_VARIABLE: Final = {"api_key": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"}


def _credentials(
    name: str,
    exchange: str,
    table: _Table,
    folder: Path,
    catalogue: Catalogue,
    environment: Mapping[str, str],
) -> dict[str, str]:
    """The credentials that the keys name, or the variables of the default names."""
    found: dict[str, str] = {}
    missing: set[str] = set()
    pattern = f"({'|'.join(CREDENTIALS)})_(env|file)"
    for key, source in table.matching(pattern):
        credential, _, kind = key.rpartition("_")
        if not isinstance(source, str) or not source:
            table.wrong(
                key,
                f"expected the name of {'a variable' if kind == 'env' else 'a file'}, not {_typed(source)}",
            )
            missing.add(credential)
            continue
        if credential in found or credential in missing:
            table.wrong(key, f"expected one source of {credential}, and there are two")
        if kind == "env":
            value = environment.get(source, "")
            if not value:
                table.wrong(
                    key, f"expected the {credential} in the environment variable {source}, which is not set"
                )
        else:
            value = _read_secret(folder / source, key, table)
        if value:
            found[credential] = _normal(value)
        else:
            missing.add(credential)
    for key, _ in table.matching("|".join(CREDENTIALS)):
        table.wrong(key, f"secrets do not belong into this file; expected {key}_env or {key}_file")
        missing.add(key)
    prefix = re.sub(r"[^A-Z0-9]", "_", name.upper())
    needed = catalogue.required_credentials(exchange) if exchange in catalogue.exchanges() else ()
    for credential in dict.fromkeys((*needed, *_DEFAULT_VARIABLE)):
        if credential in found or credential in missing:
            continue
        variable = f"{prefix}_{_DEFAULT_VARIABLE.get(credential, credential.upper())}"
        value = environment.get(variable, "")
        if value:
            found[credential] = _normal(value)
        elif credential in needed:
            table.wrong(
                f"{credential}_env",
                f"expected the {credential} of {exchange} in the environment variable {variable}, "
                f"which is not set, or a key {credential}_env or {credential}_file",
            )
    for credential, value in found.items():
        mistake = unreadable_pem(value)
        if mistake:
            table.wrong(credential, mistake)
    return found


def _read_secret(path: Path, key: str, table: _Table) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        table.wrong(key, f"expected a readable file at {path}: {reason}")
        return ""
    if not value:
        table.wrong(key, f"expected the secret in {path}, which is empty")
    elif path.stat().st_mode & 0o022:
        table.wrong(key, f"expected {path} to be writable by its owner alone; chmod 600 it")
        return ""
    return value


def _normal(value: str) -> str:
    """A PEM in an environment variable has its line ends written as backslash and n."""
    return value.replace("\\n", "\n") if "-----BEGIN" in value else value
