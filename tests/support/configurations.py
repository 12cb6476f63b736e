"""Configuration files that tests load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import strategies as st

from brokerwatch.config.cluster_settings import (
    Settings,
)
from brokerwatch.errors import Problem

SMALLEST: Final = 'version = 1\n[brokers.k]\nexchange = "kraken"\n'
KEY, SECRET, PASSPHRASE = "key-4f1b", "s3cr3t-9a77", "pass-51cc"
ENVIRONMENT: Final[Mapping[str, str]] = {
    "K_API_KEY": KEY,
    "K_API_SECRET": SECRET,
    "KRAKEN_MASTER_API_KEY": KEY,
    "KRAKEN_MASTER_API_SECRET": SECRET,
}


class Known:
    """A catalogue of a few exchanges."""

    def exchanges(self) -> frozenset[str]:
        return frozenset(("kraken", "krakenfutures", "coinbase", "okx", "hyperliquid"))

    def account_credential(self, exchange: str) -> str:
        del exchange
        return ""

    def counts_nonces(self, exchange: str) -> bool:
        return exchange == "kraken"

    def account_mistakes(
        self, exchange: str, credentials: Mapping[str, str], options: object, params: Mapping[str, object]
    ) -> tuple[tuple[str, str], ...]:
        del exchange, credentials, options, params
        return ()

    def required_credentials(self, exchange: str) -> tuple[str, ...]:
        return {
            "okx": ("api_key", "secret", "password"),
            "hyperliquid": ("wallet_address", "private_key"),
        }.get(exchange, ("api_key", "secret"))


Loader = Callable[..., Settings]
Mistakes = Callable[..., list[Problem]]


def pem() -> str:
    """A fresh private key as an exchange would issue it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        "kraken",
        "okx",
        "K_API_KEY",
        "tcp://127.0.0.1:1",
        "USD",
        "good.key",
        ".",
        "guarded",
        "~x/y",
        "~",
        "sqlite:///a",
        "postgresql://h/d",
    ]
)
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | words
    | st.dates()
    | st.times()
    | st.datetimes()
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(words, scalars, max_size=3)
