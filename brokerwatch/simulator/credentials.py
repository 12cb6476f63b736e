"""Made-up credentials that are the same every time, so that a client is configured once.

They follow from a name, and can be computed by anyone: there is nothing behind them but play money on
this machine. Each has the form that its exchange issues.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


def steady_credentials(ccxt_id: str, name: str) -> dict[str, str]:
    """The credentials that go with a name at an exchange, snake_case; KeyError for one not simulated."""
    return _FORMS[ccxt_id](f"simulated {ccxt_id} {name}")


def secret_mistake(ccxt_id: str, secret: str) -> str:
    """What to say of a secret that its exchange would not issue; never the secret itself."""
    if ccxt_id == "okx":
        return ""
    if ccxt_id == "coinbase" and secret.startswith("-----BEGIN"):
        try:
            key = load_pem_private_key(secret.encode(), None)
        except (ValueError, TypeError):
            return "expected a private key in PEM, and it cannot be read"
        return "" if isinstance(key, ec.EllipticCurvePrivateKey) else "expected an elliptic curve key in PEM"
    try:
        length = len(base64.b64decode(secret, validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if ccxt_id == "coinbase":
        return "" if length == 64 else "expected a private key in PEM, or 64 bytes in base64"
    return "" if length else "expected base64"


def _bytes(name: str, what: str, length: int) -> bytes:
    return hashlib.shake_256(f"{name} {what}".encode()).digest(length)


def _kraken(name: str) -> dict[str, str]:
    return {
        "api_key": base64.b64encode(_bytes(name, "key", 42)).decode(),
        "secret": base64.b64encode(_bytes(name, "secret", 64)).decode(),
    }


def _coinbase(name: str) -> dict[str, str]:
    # 31 bytes are below the order of the curve, and the odd number is not 0.
    number = int.from_bytes(_bytes(name, "secret", 31)) | 1
    pem = ec.derive_private_key(number, ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    organization, key = (uuid.UUID(bytes=_bytes(name, what, 16), version=4) for what in ("owner", "key"))
    return {"api_key": f"organizations/{organization}/apiKeys/{key}", "secret": pem.decode()}


def _okx(name: str) -> dict[str, str]:
    return {
        "api_key": str(uuid.UUID(bytes=_bytes(name, "key", 16), version=4)),
        "secret": _bytes(name, "secret", 16).hex().upper(),
        "password": f"Pass-{_bytes(name, 'password', 6).hex()}",
    }


_FORMS: Mapping[str, Callable[[str], dict[str, str]]] = {
    "kraken": _kraken,
    "coinbase": _coinbase,
    "okx": _okx,
}
