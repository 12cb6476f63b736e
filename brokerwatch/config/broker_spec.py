"""What an operator configures: frozen settings, each with its unit, and what cannot be.

`brokerwatch.config.loader` reads them from TOML; a trading process may make them in Python as well.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.config.balance_params import parameter_mistakes
from brokerwatch.config.cash_currencies import cash_mistakes
from brokerwatch.config.credential_text import cleaned
from brokerwatch.config.key_readers import (
    read_exchange_id,
    read_limit,
    read_policy,
    read_switch,
    read_table,
    read_texts_by_name,
    read_words_or_none,
)
from brokerwatch.config.key_watch_settings import egress_mistakes, key_watch_mistakes
from brokerwatch.config.label_texts import labels_rule
from brokerwatch.config.money_watch_settings import MoneyRules, money_mistakes, money_rules
from brokerwatch.config.nonce_fence import confirmation_mistakes, fence_mistakes
from brokerwatch.config.policy import (
    POLICIES,
    POLLS_UNTIL_STALE,
    SIMPLE,
    Rules,
    default_policy,
    default_rules,
    rule_mistakes,
)
from brokerwatch.config.proxy_settings import proxy_mistakes
from brokerwatch.config.push_settings import push_mistakes, reserve_mistakes, slowest_s
from brokerwatch.config.spec_types import type_mistakes
from brokerwatch.config.suggestions import did_you_mean, nearest
from brokerwatch.config.toml_table import TomlTable
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.messages import topics
from brokerwatch.messages.reading import CUSTOM
from brokerwatch.money import DEFAULT_CASH

EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

GUARDED_MARK: Final = "brokerwatch_guarded"
"""The classes of what `brokerwatch.guard()` gives have this attribute; all else they share with ccxt's."""

MAX_CONSECUTIVE_ERRORS: Final = 1_000
MAX_DEADLINE_S: Final = 3_600.0
CREDENTIALS: Final = (
    "api_key", "secret", "password", "uid", "account_id", "login", "twofa", "private_key", "wallet_address",
    "token",
)  # fmt: skip
"""Every credential that ccxt knows, in snake_case."""
CCXT_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "api_key": "apiKey",
        "account_id": "accountId",
        "private_key": "privateKey",
        "wallet_address": "walletAddress",
    }
)
"""ccxt's own names of the credentials, where they differ from ours."""
MARKETS_DEADLINE_S: Final = 60.0
"""A list of markets is megabytes at some exchanges, in several requests."""
ENTRY_AGE_S: Final = 30.0
"""How old a balance may be that sizes an entry, where polls are quicker than that."""
MOST_REQUESTS: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a credential was found. It is no secret, and names none."""

    kind: str
    """`variable` or `file`."""
    name: str
    """The variable's name, or the file's path."""

    def __str__(self) -> str:
        return f"${self.name}" if self.kind == "variable" else self.name


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """One broker: an account at an exchange that ccxt knows, or anything that `fetch` can read.

    Each field stands below with its unit. A spec is frozen, and checked when it is made.

    Raises:
        ConfigError: A value cannot be. It names every mistake, with the key and what was expected.
    """

    name: str
    """Topic characters only: a-z, 0-9, - and _."""
    exchange: Any = CUSTOM
    """The ccxt id; or a ccxt instance of your own, asynchronous or not, which is used and never closed. The
    field is the id afterwards, and `instance` is yours."""
    fetch: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
    """A trader's own async callable, in place of ccxt; see `gateway.async_source.callable_source`."""
    poll_interval_s: float = 10.0
    """Seconds from one poll to the next; infinite: only when a program asks."""
    quiet_poll_interval_s: float | None = None
    """Seconds up to which the interval grows while nothing in the account moves; None: it stays as it is."""
    fetch_deadline_s: float = 8.0
    """Seconds until a fetch counts as a network fault."""
    max_consecutive_errors: int = 3
    """Consecutive faults that make the broker unavailable."""
    policy: str = ""
    """By which rules its health is decided: `simple` or `guarded`. Empty: `guarded` for an account that may
    trade, else `simple`. The field names the policy afterwards."""
    rules: Rules = SIMPLE
    """The rules and their numbers; those of the policy unless the configuration has others."""
    requests_per_s: float | None = None
    """Requests a second that its API key may send steadily; None: what the exchange publishes."""
    request_burst: float | None = None
    """Requests that its API key may send at once; None: what the exchange publishes."""
    read_funding: bool = True
    """OKX: whether the funding account is read too. It is kept apart and never part of the cash."""
    cash_currencies: tuple[str, ...] = DEFAULT_CASH
    """Their free amounts are added up as cash; all pegged to one unit."""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """The operator's own words, passed on in every reading."""
    credentials: Mapping[str, str] = field(default_factory=lambda: EMPTY, repr=False)
    """ccxt's credentials in snake_case. Never shown."""
    origins: Mapping[str, Origin] = field(default_factory=lambda: EMPTY, repr=False, compare=False)
    """Where each credential was found; empty where a program gave them."""
    ccxt: Mapping[str, Any] = field(default_factory=lambda: EMPTY, repr=False)
    """Further options of ccxt's constructor, passed on as they are."""
    simulated: bool = False
    """Whether the exchange behind it is a simulated one of ours."""
    trading: bool = False
    """Whether orders may be placed at all."""
    entry_max_age_s: float | None = None
    """Seconds. An older balance sizes no entry. None: 30 s, or three polls where those last longer."""
    repeat_exits: bool = True
    """Whether an exit whose answer was lost is looked up and then sent again with its own id, where the
    exchange documents that an id places one order (Coinbase)."""
    max_proof_age_s: float | None = None
    """Seconds. Older successes prove nothing (`unproven`). None: so long that counted faults come first."""
    instance: Any = field(default=None, repr=False)
    """The trader's own ccxt instance; None: we make one."""
    policy_is_chosen: bool = field(default=True, init=False, repr=False, compare=False)
    """Whether the policy was named, and is not the default."""
    key_watch_interval_s: float | None = None
    """Seconds between two questions about what its API key may do; inf: never. None: as [cluster] says, and
    never where the account is not polled."""
    egress_address: str | None = None
    """The address that its calls leave from, as exchanges see it; None: as [cluster] says."""
    money_watch: MoneyRules | None = None
    """What its operator wants to be told about the money in it; None: nothing."""
    allow_empty: bool = False
    """Whether an answer without any currency is believed at once while no balance is known. Else it is
    believed after three such answers over 30 s."""
    balance_params: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    """Parameters of ccxt's `fetch_balance`: which account of the key it is, such as `{"type": "swap"}`."""
    same_account: bool = False
    """Whether another API key here is of the same account, where the exchange itself does not say it."""
    pin: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    """Labels, by name, that the node must have which runs it in a pool, such as `{"region": "tokyo"}`."""
    push: bool = False
    """Whether the exchange's private stream is used. What it pushes is shown at once, and read again."""
    reserved_requests: float = 4.0
    """So many requests of the key's budget are never spent on reads after a push, on the watch of the key or
    on following orders: they are for exits."""
    nonce_fence: bool = False
    """In a pool, where the exchange wants rising numbers: whether they carry the epoch of the key's claim."""
    nonce_fence_confirmed: str = ""
    """That the key is of no use without the fence afterwards: `this key cannot go back`."""

    def __post_init__(self) -> None:
        self._refuse(type_mistakes(self))  # the rules below compare numbers and search texts
        if not isinstance(self.exchange, str):
            self._adopt(self.exchange)
        else:
            # A program takes them from the environment too, with whatever stands around them there.
            found = {
                name: cleaned(name, value).value if isinstance(value, str) else value
                for name, value in cast("Mapping[str, object]", self.credentials).items()
            }
            object.__setattr__(self, "credentials", MappingProxyType(found))
        if not self.policy:
            object.__setattr__(self, "policy", default_policy(trading=self.trading))
            object.__setattr__(self, "policy_is_chosen", False)
        if self.policy in POLICIES and self.rules is SIMPLE:
            object.__setattr__(self, "rules", default_rules(self.policy, self.slowest_poll_s))
        self._refuse(_spec_mistakes(self))

    def _refuse(self, mistakes: Iterable[tuple[str, str]]) -> None:
        problems = [Problem("", f"brokers.{self.name}.{key}", expected) for key, expected in mistakes]
        if problems:
            raise ConfigError(tuple(problems))

    def _adopt(self, instance: Any) -> None:
        """Take the id and the credentials of a trader's own instance."""
        if hasattr(cast("object", type(instance)), GUARDED_MARK):  # its `__class__` is that of ccxt
            expected = (
                "expected the ccxt instance itself; what brokerwatch.guard() gives is a trader's stand-in"
            )
            raise ConfigError((Problem("", f"brokers.{self.name}.exchange", expected),))
        exchange = getattr(instance, "id", None)
        if not isinstance(exchange, str) or not callable(getattr(instance, "fetch_balance", None)):
            expected = f"expected a ccxt id or a ccxt instance, not {type(instance).__name__}"
            raise ConfigError((Problem("", f"brokers.{self.name}.exchange", expected),))
        held = {name: getattr(instance, CCXT_NAMES.get(name, name), None) for name in CREDENTIALS}
        found = {name: value for name, value in held.items() if isinstance(value, str) and value}
        object.__setattr__(self, "exchange", exchange)
        object.__setattr__(self, "instance", instance)
        object.__setattr__(self, "credentials", MappingProxyType(found))

    @property
    def slowest_poll_s(self) -> float:
        """How seldom it is polled at the most, in seconds."""
        return max(self.poll_interval_s, self.quiet_poll_interval_s or 0.0)

    @property
    def entry_age_s(self) -> float:
        """A balance older than this sizes no entry, in seconds."""
        if self.entry_max_age_s is not None:
            return self.entry_max_age_s
        polled_s = self.poll_interval_s if math.isfinite(self.poll_interval_s) else 0.0
        return max(ENTRY_AGE_S, POLLS_UNTIL_STALE * polled_s)


def _spec_mistakes(spec: BrokerSpec) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of a broker that cannot be."""
    found = [(key.name, expected) for key in KEYS for expected in key.rule(spec)]
    money = () if spec.money_watch is None else money_mistakes(spec.money_watch)
    return [
        *found,
        *((f"rules.{key}", expected) for key, expected in rule_mistakes(spec.rules)),
        *((f"money_watch.{key}", expected) for key, expected in money),
    ]


# --- what each value must be: every rule gives what was expected, and nothing where the value can be -----


def _anything(_: BrokerSpec) -> Iterator[str]:
    yield from ()


def _name_rule(spec: BrokerSpec) -> Iterator[str]:
    if not topics.is_name(spec.name):
        yield f"expected {topics.NAME_RULE}, not {spec.name!r}"


def _exchange_rule(spec: BrokerSpec) -> Iterator[str]:
    if not topics.is_name(spec.exchange):
        yield f"expected a ccxt id, not {spec.exchange!r}"


def _fetch_rule(spec: BrokerSpec) -> Iterator[str]:
    if spec.instance is not None and spec.fetch is not None:
        yield "expected a callable or an instance of ccxt, not both"


def _poll_rule(spec: BrokerSpec) -> Iterator[str]:
    if math.isnan(spec.poll_interval_s) or spec.poll_interval_s <= 0:
        yield f"expected a number of seconds above 0, not {spec.poll_interval_s:g}"


def _quiet_poll_rule(spec: BrokerSpec) -> Iterator[str]:
    quiet_s = spec.quiet_poll_interval_s
    if quiet_s is not None and not spec.poll_interval_s <= quiet_s < float("inf"):
        yield f"expected at least poll_interval_s, and an end, not {quiet_s:g}"


def _deadline_rule(spec: BrokerSpec) -> Iterator[str]:
    if not 0 < spec.fetch_deadline_s <= MAX_DEADLINE_S:
        yield f"expected seconds above 0 and up to {MAX_DEADLINE_S:g}, not {spec.fetch_deadline_s:g}"


def _errors_rule(spec: BrokerSpec) -> Iterator[str]:
    if not 1 <= spec.max_consecutive_errors <= MAX_CONSECUTIVE_ERRORS:
        yield f"expected from 1 to {MAX_CONSECUTIVE_ERRORS:,}, not {spec.max_consecutive_errors}"


def _cash_rule(spec: BrokerSpec) -> Iterator[str]:
    return cash_mistakes(spec.cash_currencies, is_own=spec.fetch is not None)


def _policy_rule(spec: BrokerSpec) -> Iterator[str]:
    if spec.policy not in POLICIES:
        hint = did_you_mean(nearest(spec.policy, POLICIES))
        yield f"expected {' or '.join(POLICIES)}, not {spec.policy!r}{hint}"


def _requests_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from _requests(spec.requests_per_s, 0.01)


def _burst_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from _requests(spec.request_burst, 1.0)


def _requests(value: float | None, least: float) -> Iterator[str]:
    if value is not None and not least <= value <= MOST_REQUESTS:
        yield f"expected from {least:g} to {MOST_REQUESTS:g}, not {value:g}"


def _entry_age_rule(spec: BrokerSpec) -> Iterator[str]:
    if spec.entry_max_age_s is not None and not spec.entry_max_age_s > 0:
        yield f"expected seconds above 0, not {spec.entry_max_age_s:g}"


def _proof_age_rule(spec: BrokerSpec) -> Iterator[str]:
    age_s = spec.max_proof_age_s
    if age_s is None:
        return
    polled_s = slowest_s(spec.slowest_poll_s, push=spec.push) if math.isfinite(spec.slowest_poll_s) else 0.0
    shortest_s = polled_s + spec.fetch_deadline_s
    if not age_s > shortest_s:
        yield (
            f"expected more than {shortest_s:g} s, a poll interval and the deadline of a fetch, or inf for "
            f"no limit, not {age_s:g}: the account would be unproven between two polls"
        )


def _push_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from push_mistakes(
        push=spec.push,
        callable_of_its_own=spec.fetch is not None,
        instance_of_its_own=spec.instance is not None,
    )


def _fence_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from fence_mistakes(
        fence=spec.nonce_fence, confirmed=spec.nonce_fence_confirmed, of_its_own=spec.fetch is not None
    )


def _fence_words_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from confirmation_mistakes(spec.nonce_fence_confirmed)


def _reserve_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from reserve_mistakes(spec.reserved_requests)


def _key_watch_rule(spec: BrokerSpec) -> Iterator[str]:
    if spec.key_watch_interval_s is not None:
        yield from key_watch_mistakes(spec.key_watch_interval_s)


def _egress_rule(spec: BrokerSpec) -> Iterator[str]:
    if spec.egress_address is not None:
        yield from egress_mistakes(spec.egress_address)


def _ccxt_rule(spec: BrokerSpec) -> Iterator[str]:
    yield from proxy_mistakes(spec.ccxt)


def _balance_params_rule(spec: BrokerSpec) -> Iterator[str]:
    secrets, is_own = spec.credentials.values(), spec.fetch is not None
    yield from parameter_mistakes(spec.balance_params, secrets, trading=spec.trading, is_own=is_own)


def _credentials_rule(spec: BrokerSpec) -> Iterator[str]:
    for name in sorted(spec.credentials.keys() - set(CREDENTIALS)):
        hint = did_you_mean(nearest(name, CREDENTIALS))
        yield f"expected ccxt's credentials in snake_case, such as api_key, not {name!r}{hint}"
    if spec.instance is not None:
        return
    for name, value in cast("Mapping[str, object]", spec.credentials).items():
        # The value is not repeated.
        no_text = f"expected text, not {type(value).__name__}"
        mistake = cleaned(name, value).mistake if isinstance(value, str) else no_text
        if mistake:
            yield f"{name}: {mistake}"


@dataclass(frozen=True, slots=True)
class Key:
    """One field of a broker: how it is read from a file, and what its value must be."""

    name: str
    read: Callable[[TomlTable, str, Any], Any] | None = None
    """Takes it out of its table, where it stands at a key, and else has a default. None: it stands in no file
    by this name."""
    rule: Callable[[BrokerSpec], Iterator[str]] = _anything
    """What was expected, for each mistake."""


KEYS: Final = (
    Key("name", None, _name_rule),
    Key("exchange", read_exchange_id, _exchange_rule),
    Key("fetch", None, _fetch_rule),
    Key("poll_interval_s", TomlTable.number, _poll_rule),
    Key("quiet_poll_interval_s", read_limit, _quiet_poll_rule),
    Key("fetch_deadline_s", TomlTable.number, _deadline_rule),
    Key("max_consecutive_errors", TomlTable.whole, _errors_rule),
    Key("cash_currencies", TomlTable.texts, _cash_rule),
    Key("policy", read_policy, _policy_rule),
    Key("rules", read_table),
    Key("requests_per_s", read_limit, _requests_rule),
    Key("request_burst", read_limit, _burst_rule),
    Key("read_funding", read_switch),
    Key("allow_empty", read_switch),
    Key("balance_params", read_table, _balance_params_rule),
    Key("same_account", read_switch),
    Key("push", read_switch, _push_rule),
    Key("reserved_requests", TomlTable.number, _reserve_rule),
    Key("nonce_fence", read_switch, _fence_rule),
    Key("nonce_fence_confirmed", TomlTable.text, _fence_words_rule),
    Key("trading", read_switch),
    Key("entry_max_age_s", read_limit, _entry_age_rule),
    Key("repeat_exits", read_switch),
    Key("max_proof_age_s", read_limit, _proof_age_rule),
    Key("key_watch_interval_s", read_limit, _key_watch_rule),
    Key("egress_address", read_words_or_none, _egress_rule),
    Key("money_watch", money_rules),
    Key("labels", read_texts_by_name, labels_rule("labels")),
    Key("pin", read_texts_by_name, labels_rule("pin")),
    Key("ccxt", read_table, _ccxt_rule),
    Key("credentials", None, _credentials_rule),
    Key("origins"),
    Key("simulated"),
    Key("instance"),
)
"""Every field of a `BrokerSpec`, in the order in which a file's mistakes are named."""
