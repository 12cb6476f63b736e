"""The JSON web tokens that sign a call to Coinbase: how they are read, and which are good.

Everything wrong with a token is one ValueError here, because Coinbase does not tell a stranger either.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import uuid
from collections.abc import Mapping
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

# https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication
TOKEN_LIFE_S = 120
# The documentation names no tolerance for a client whose clock runs ahead; the older API allowed 30 s.
CLOCK_TOLERANCE_S = 30
ISSUERS = frozenset({"cdp", "coinbase-cloud"})


def new_es256_credentials() -> dict[str, str]:
    """A key name and a P-256 key in PEM, as in the JSON file that Coinbase lets its users download."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    return {"api_key": f"organizations/{uuid.uuid4()}/apiKeys/{uuid.uuid4()}", "secret": pem.decode()}


def new_ed25519_credentials() -> dict[str, str]:
    """The newer form: a UUID, and seed and public key together in base64."""
    seed = secrets.token_bytes(32)
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    pair = seed + public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"api_key": str(uuid.uuid4()), "secret": base64.b64encode(pair).decode()}


def key_name(token: str) -> str:
    """The API key that a token claims to be signed with; empty when it cannot be read."""
    try:
        return str(_decoded(token.split(".")[0]).get("kid", ""))
    except ValueError:
        return ""


def verify_owner(token: str, credentials: Mapping[str, str]) -> None:
    """ValueError unless the owner of `credentials` signed the token, as for a websocket: it names no call."""
    header, payload, signature = token.split(".")
    algorithm = str(_decoded(header).get("alg"))
    signed = f"{header}.{payload}".encode()
    try:
        _verify_signature(credentials["secret"], algorithm, base64url_decoded(signature), signed)
    except InvalidSignature as wrong:
        raise ValueError("the signature is wrong") from wrong
    if _decoded(payload).get("sub") != credentials["api_key"]:
        raise ValueError("the token was issued for another client")


def verify(token: str, credentials: Mapping[str, str], call: str, now_s: float) -> None:
    """ValueError unless the owner of `credentials` signed `call`, as in `GET host/path`, for this moment."""
    header, payload, signature = token.split(".")
    try:
        _verify_signature(
            credentials["secret"],
            str(_decoded(header).get("alg")),
            base64url_decoded(signature),
            f"{header}.{payload}".encode(),
        )
    except InvalidSignature as wrong:
        raise ValueError("the signature is wrong") from wrong
    _verify_claims(_decoded(payload), credentials["api_key"], call, now_s)


def base64url_decoded(text: str) -> bytes:
    """The bytes behind unpadded URL-safe base64; ValueError for anything else."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as broken:
        raise ValueError("not base64") from broken


def _verify_claims(claims: Mapping[str, object], api_key: str, call: str, now_s: float) -> None:
    not_before, expires = claims.get("nbf"), claims.get("exp")
    uris = claims.get("uris", [claims.get("uri")])
    if not (isinstance(not_before, int) and isinstance(expires, int) and isinstance(uris, list)):
        # A stranger sent this, so it is no mistake of ours that a TypeError would name.
        raise ValueError("nbf, exp or uri is missing")  # noqa: TRY004 - a token is refused by one error
    if claims.get("iss") not in ISSUERS or claims.get("sub") != api_key:
        raise ValueError("the token was issued for another client")
    if expires - not_before > TOKEN_LIFE_S or not not_before - CLOCK_TOLERANCE_S <= now_s < expires:
        raise ValueError("the token is not valid at this time")
    # ccxt takes only "https://" off the address before it signs it, so over plain HTTP the scheme stays.
    if call not in [str(uri).replace("http://", "", 1) for uri in cast("list[object]", uris)]:
        raise ValueError("the token was signed for another call")


def _decoded(part: str) -> dict[str, object]:
    value: object = json.loads(base64url_decoded(part))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - as above
    return cast("dict[str, object]", value)


def _verify_signature(secret: str, algorithm: str, signature: bytes, signed: bytes) -> None:
    if secret.startswith("-----BEGIN"):
        key = load_pem_private_key(secret.encode(), None)
        if algorithm != "ES256" or len(signature) != 64 or not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an ES256 token")
        # A JWT has the two numbers side by side, 32 bytes each; the library wants them in DER.
        numbers = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        key.public_key().verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashes.SHA256()))
        return
    if algorithm != "EdDSA":
        raise ValueError("not an EdDSA token")
    public = base64.b64decode(secret)[32:64]
    ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
