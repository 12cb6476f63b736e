"""What another configuration changes in a cluster that runs: a pure comparison of two settings.

Each key has one answer to "what if it changes?", in the two tables below. A key without an answer fails a
test, so none is forgotten. The comparison comes first and changes nothing: a configuration in which anything
needs a restart is refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.config.balance_params import account_choice
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.errors import ConfigError, Problem


class Takes(Enum):
    """What it takes to change a key while the cluster runs."""

    NOTHING = "nothing"
    """What runs does not depend on it."""
    ACTOR = "actor"
    """The account's actor goes on by it. For a key of the cluster: the part that it is for."""
    ACCOUNT = "account"
    """What asks the exchange is built anew, on the same API key. The actor goes on by it too."""
    KEY = "key"
    """Another API key: it is verified before the old one is dropped."""
    RESTART = "restart"
    """It cannot be changed while the cluster runs."""


BROKER_KEYS: Final[Mapping[str, Takes]] = MappingProxyType(
    {
        "name": Takes.NOTHING,  # an account of another name is another account
        "exchange": Takes.RESTART,
        "fetch": Takes.ACCOUNT,
        "poll_interval_s": Takes.ACTOR,
        "quiet_poll_interval_s": Takes.ACTOR,
        "fetch_deadline_s": Takes.ACCOUNT,
        "max_consecutive_errors": Takes.ACTOR,
        "policy": Takes.ACTOR,
        "rules": Takes.ACTOR,
        "requests_per_s": Takes.ACCOUNT,
        "request_burst": Takes.ACCOUNT,
        "read_funding": Takes.ACCOUNT,
        "cash_currencies": Takes.ACCOUNT,
        "labels": Takes.ACTOR,
        "credentials": Takes.KEY,
        "origins": Takes.NOTHING,
        "ccxt": Takes.ACCOUNT,
        "simulated": Takes.RESTART,
        "trading": Takes.ACCOUNT,
        "entry_max_age_s": Takes.ACCOUNT,
        "repeat_exits": Takes.ACCOUNT,
        "max_proof_age_s": Takes.ACTOR,
        "instance": Takes.KEY,
        "policy_is_chosen": Takes.NOTHING,
        "key_watch_interval_s": Takes.ACTOR,
        "egress_address": Takes.ACTOR,
        "money_watch": Takes.ACTOR,
        "allow_empty": Takes.ACTOR,
        "balance_params": Takes.RESTART,  # they say which account of the key it is
        "same_account": Takes.NOTHING,  # it is read when the key changes
        "pin": Takes.NOTHING,  # the pool reads it
        "push": Takes.ACTOR,
        "reserved_requests": Takes.ACCOUNT,
        "nonce_fence": Takes.RESTART,
        "nonce_fence_confirmed": Takes.NOTHING,  # it is read where the fence is
    }
)
"""Each field of a `BrokerSpec`."""

CLUSTER_KEYS: Final[Mapping[str, Takes]] = MappingProxyType(
    {
        "name": Takes.RESTART,
        "health_endpoint": Takes.RESTART,
        "broker_endpoint": Takes.RESTART,
        "heartbeat_s": Takes.RESTART,
        "status_interval_s": Takes.ACTOR,
        "key_watch_interval_s": Takes.ACTOR,
        "egress_address": Takes.ACTOR,
        "publish_balances": Takes.ACTOR,
        "state": Takes.RESTART,
        "store": Takes.RESTART,
        "require_verification_max_age_s": Takes.ACTOR,
        "history_days": Takes.ACTOR,
        "remember": Takes.RESTART,
        "http": Takes.RESTART,
        "curve": Takes.RESTART,  # what its lists say counts without a reload
        "notify": Takes.ACTOR,
        "supervisors": Takes.RESTART,
        "pool": Takes.RESTART,
    }
)
"""Each field of the `ClusterSettings`."""

SETTINGS_KEYS: Final[Mapping[str, Takes]] = MappingProxyType(
    {"cluster": Takes.NOTHING, "brokers": Takes.NOTHING, "broken": Takes.NOTHING}
)
"""Each field of the `Settings`: the tables of a file. The three here are compared key by key."""

_SECRET: Final = frozenset({"store", "http", "notify", "curve", "supervisors", "pool"})
"""Keys whose value may hold a password, or is a whole table."""


@dataclass(frozen=True, slots=True)
class BrokerChange:
    """One account whose configuration changes."""

    before: BrokerSpec
    after: BrokerSpec
    keys: tuple[str, ...]
    """The keys that change, but for the API key."""
    rebuilds: bool
    """Whether what asks the exchange is built anew."""
    new_key: bool
    """Whether it has another API key."""

    @property
    def at_once(self) -> BrokerSpec:
        """What holds from now on: all but the API key, which has to be verified first."""
        return with_key_of(self.after, self.before) if self.new_key else self.after


def with_key_of(spec: BrokerSpec, other: BrokerSpec) -> BrokerSpec:
    """This configuration with the API key of another one."""
    return replace(spec, credentials=other.credentials, origins=other.origins, instance=other.instance)


@dataclass(frozen=True, slots=True)
class Plan:
    """What another configuration changes."""

    order: tuple[str, ...]
    """The names of all accounts afterwards, in the order of the configuration."""
    added: tuple[BrokerSpec, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[BrokerChange, ...] = ()
    cluster: tuple[str, ...] = ()
    """The keys of [cluster] that change."""
    reordered: bool = False
    """Whether the accounts that stay have another order."""
    refused: tuple[Problem, ...] = ()
    """What cannot be changed while the cluster runs. With any of these nothing is changed."""

    def words(self) -> dict[str, str]:
        """What changes, by the account, but for API keys."""
        found = {spec.name: "added; it is available after its first success" for spec in self.added}
        found |= dict.fromkeys(self.removed, "removed")
        found |= {one.after.name: f"changed: {', '.join(one.keys)}" for one in self.changed if one.keys}
        return found


def plan(before: Settings, after: Settings) -> Plan:
    """What changes from one configuration to another. Both were checked before."""
    known = {spec.name: spec for spec in before.brokers}
    wanted = {spec.name: spec for spec in after.brokers}
    refused = [*_refused_of_cluster(before.cluster, after.cluster), *_refused_tables(before, after)]
    refused += [
        Problem("", f"brokers.{name}", why)
        for name, (_, why) in after.broken.items()
        if name not in before.broken  # what was wrong at the start stays as it is
    ]
    changed: list[BrokerChange] = []
    for name, spec in wanted.items():
        if name in known:
            refused += _refused_of_broker(known[name], spec)
            if (change := change_of(known[name], spec)) is not None:
                changed.append(change)
    stays_before = tuple(name for name in known if name in wanted)
    stays = tuple(name for name in wanted if name in known)
    gone = (*known, *before.broken)
    return Plan(
        order=(*wanted, *after.broken),
        added=tuple(spec for name, spec in wanted.items() if name not in known),
        removed=tuple(name for name in gone if name not in wanted and name not in after.broken),
        changed=tuple(changed),
        cluster=tuple(
            key
            for key, takes in CLUSTER_KEYS.items()
            if takes is Takes.ACTOR and getattr(before.cluster, key) != getattr(after.cluster, key)
        ),
        reordered=stays_before != stays,
        refused=tuple(refused),
    )


def change_of(before: BrokerSpec, after: BrokerSpec) -> BrokerChange | None:
    """What changes of one account; None: nothing that anything depends on."""
    differs = [
        key
        for key, takes in BROKER_KEYS.items()
        if takes is not Takes.NOTHING and getattr(before, key) != getattr(after, key)
    ]
    keys = tuple(key for key in differs if BROKER_KEYS[key] in (Takes.ACTOR, Takes.ACCOUNT))
    # A callable of the trader's is asked without a key of ours.
    new_key = after.fetch is None and any(BROKER_KEYS[key] is Takes.KEY for key in differs)
    rebuilds = any(BROKER_KEYS[key] is Takes.ACCOUNT for key in keys)
    if not keys and not new_key and before.same_account == after.same_account:
        return None
    return BrokerChange(before, after, keys, rebuilds, new_key)


def with_added(before: Settings, spec: BrokerSpec) -> Settings:
    """With one account more, at the end. Raises ConfigError where its name is taken."""
    if any(spec.name == each.name for each in before.brokers) or spec.name in before.broken:
        expected = "expected a name of its own; the cluster has a broker of this name"
        raise ConfigError((Problem("", f"brokers.{spec.name}", expected),))
    return replace(before, brokers=(*before.brokers, spec))


def with_removed(before: Settings, name: str) -> Settings:
    """Without the account of this name."""
    brokers = tuple(spec for spec in before.brokers if spec.name != name)
    return replace(before, brokers=brokers, broken=_mended(before, name))


def with_replaced(before: Settings, spec: BrokerSpec) -> Settings:
    """With this configuration of the account of its name, at the same place."""
    brokers = tuple(spec if each.name == spec.name else each for each in before.brokers)
    if spec.name in before.broken:
        brokers = (*brokers, spec)
    return replace(before, brokers=brokers, broken=_mended(before, spec.name))


def _mended(before: Settings, name: str) -> Mapping[str, tuple[str, str]]:
    return MappingProxyType({each: why for each, why in before.broken.items() if each != name})


def _refused_of_cluster(before: ClusterSettings, after: ClusterSettings) -> list[Problem]:
    return [
        Problem("", f"cluster.{key}", _needs_restart(key, getattr(before, key), getattr(after, key)))
        for key, takes in CLUSTER_KEYS.items()
        if takes is Takes.RESTART and getattr(before, key) != getattr(after, key)
    ]


def _refused_tables(before: Settings, after: Settings) -> list[Problem]:
    return [
        Problem("", key, "cannot be changed while the cluster runs; restart it for that")
        for key, takes in SETTINGS_KEYS.items()
        if takes is Takes.RESTART and getattr(before, key) != getattr(after, key)
    ]


def _refused_of_broker(before: BrokerSpec, after: BrokerSpec) -> list[Problem]:
    found = [
        Problem(
            "", f"brokers.{before.name}.{key}", _needs_restart(key, getattr(before, key), getattr(after, key))
        )
        for key, takes in BROKER_KEYS.items()
        if takes is Takes.RESTART and getattr(before, key) != getattr(after, key)
    ]
    chosen, wanted = (account_choice(one.balance_params, one.ccxt.get("options")) for one in (before, after))
    if chosen != wanted and before.balance_params == after.balance_params:
        needs = _needs_restart("options", chosen, wanted)
        found.append(
            Problem("", f"brokers.{before.name}.ccxt.options", f"the account that they name {needs}")
        )
    if (before.fetch is None) is not (after.fetch is None):
        what = ("its exchange", "your own callable")
        now, then = what if before.fetch is None else what[::-1]
        found.append(
            Problem(
                "",
                f"brokers.{before.name}.fetch",
                f"cannot be changed while the cluster runs; it is read by {now}, and was to be by {then}",
            )
        )
    return found


def _needs_restart(key: str, before: Any, after: Any) -> str:
    words = "cannot be changed while the cluster runs; restart it for that"
    if key in _SECRET:
        return words
    return f"{words} (it is {before!r}, and was to be {after!r})"
