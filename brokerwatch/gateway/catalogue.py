"""Which exchanges ccxt has, which credentials each needs, and whether a configured address is its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast

import ccxt.async_support as ccxt

from brokerwatch.config.balance_params import account_choice
from brokerwatch.config.broker_spec import CCXT_NAMES, BrokerSpec
from brokerwatch.config.fingerprint import key_fingerprint
from brokerwatch.config.nonce_fence import counting_mistakes
from brokerwatch.exchanges.account_needs import NEEDS, account_mistakes
from brokerwatch.exchanges.order_request import ANY_RULES, OrderRules
from brokerwatch.exchanges.order_traits import OrderTraits
from brokerwatch.exchanges.registry import FAMILIES, profile_of

_SNAKE: Final = {theirs: ours for ours, theirs in CCXT_NAMES.items()}


class Catalogue:
    """What ccxt knows about exchanges, for the configuration to check itself against."""

    @staticmethod
    def exchanges() -> frozenset[str]:
        """Every exchange id."""
        return frozenset(ccxt.exchanges)

    @staticmethod
    @cache
    def required_credentials(exchange: str) -> tuple[str, ...]:
        """The credentials that an exchange cannot do without, in snake_case."""
        described = getattr(ccxt, exchange)().requiredCredentials
        return tuple(_SNAKE.get(str(name), str(name)) for name, needed in described.items() if needed)

    @staticmethod
    def account_credential(exchange: str) -> str:
        """The credential, in snake_case, that may say which account it is; empty: none besides."""
        need = NEEDS.get(exchange)
        return "" if need is None else need.credential

    @staticmethod
    def counts_nonces(exchange: str) -> bool:
        """Whether an exchange refuses a call whose number is not greater than those before."""
        return profile_of(FAMILIES.get(exchange, "")).rising_nonces

    @staticmethod
    def account_mistakes(
        exchange: str, credentials: Mapping[str, str], options: object, params: Mapping[str, object]
    ) -> tuple[tuple[str, str], ...]:
        """(key, what was expected) for what an account needs besides, or may not have."""
        return tuple(account_mistakes(exchange, credentials.items(), options, params))

    @staticmethod
    @cache
    def urls(exchange: str) -> dict[str, Any]:
        """The addresses of an exchange."""
        return dict(getattr(ccxt, exchange)().urls)


def account_mistakes_of(spec: BrokerSpec) -> tuple[tuple[str, str], ...]:
    """The same of a broker, whose ccxt options may have a credential under ccxt's own name."""
    options = spec.ccxt.get("options") if spec.instance is None else spec.instance.options
    theirs = {ours: str(spec.ccxt[name]) for name, ours in _SNAKE.items() if spec.ccxt.get(name)}
    found = Catalogue.account_mistakes(
        spec.exchange, {**theirs, **spec.credentials}, options, spec.balance_params
    )
    counts = Catalogue.counts_nonces(spec.exchange)
    return (*found, *counting_mistakes(spec.exchange, fence=spec.nonce_fence, counts=counts))


def order_traits(spec: BrokerSpec) -> OrderTraits | None:
    """How the exchange of a broker takes orders; None where its own adapter says it, or there is none."""
    if spec.fetch is not None or profile_of(FAMILIES.get(spec.exchange, "")).order_rules is not ANY_RULES:
        return None
    if spec.instance is not None:
        return OrderTraits.of(spec.instance)
    has, options = _described(spec.exchange)
    own: object = spec.ccxt.get("options")
    if isinstance(own, Mapping):
        options = {**options, **cast("Mapping[str, object]", own)}
    return OrderTraits(spec.exchange, has, options)


@cache
def _described(exchange: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    instance = getattr(ccxt, exchange)()
    return instance.has, instance.options


def order_rules(spec: BrokerSpec) -> OrderRules:
    """What the exchange of a broker takes in an order."""
    traits = order_traits(spec)
    return profile_of(FAMILIES.get(spec.exchange, "")).order_rules if traits is None else traits.rules


@cache
def call_spacing_ms(exchange: str) -> float:
    return float(getattr(ccxt, exchange)().rateLimit or 1_000.0)


def key_of(spec: BrokerSpec) -> str:
    """The fingerprint that a broker's lane, lock and stored nonces go by; empty when it has no credentials.

    Ids of ccxt for one exchange are one here: a key is the same key under each of them.
    """
    return key_fingerprint(FAMILIES.get(spec.exchange, "") or spec.exchange, spec.credentials)


def lane_name(spec: BrokerSpec) -> str:
    """The name of a broker's lane: the fingerprint of its key, or where it has none its own name."""
    return key_of(spec) or f"broker {spec.name}"


def report_key(spec: BrokerSpec) -> str:
    """The name that a verification of a broker goes by: the fingerprint of its key, or of another account of
    the key."""
    key, choice = key_of(spec), account_choice(spec.balance_params, None)
    return key_fingerprint(key, {"account": choice}) if key and choice else key


def is_elsewhere(spec: BrokerSpec) -> bool:
    """Whether an account is asked at another address than its exchange's own, such as a simulator's."""
    own = spec.instance
    if own is None:
        return "urls" in spec.ccxt
    return bool(own.urls.get("api") != own.describe().get("urls", {}).get("api"))
