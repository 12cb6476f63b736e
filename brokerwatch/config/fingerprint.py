"""The short name that an API key goes by in files, logs and reports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def key_fingerprint(exchange: str, credentials: Mapping[str, str]) -> str:
    """A name for an API key, the same in every process that uses it; empty when there are no credentials.

    Lanes, locks and stored nonces go by it. Where an exchange has no API key it stands for all of them.
    """
    if not credentials:
        return ""
    known = {"api_key": credentials["api_key"]} if "api_key" in credentials else credentials
    return _digest("key", exchange, known)


def fingerprint(exchange: str, credentials: Mapping[str, str]) -> str:
    """A name for all credentials of a broker together: another one means that they were changed."""
    return _digest("credentials", exchange, credentials)


def _digest(purpose: str, exchange: str, credentials: Mapping[str, str]) -> str:
    digest = hashlib.blake2b(digest_size=12, person=b"brokerwatch")
    for part in (purpose, exchange, *(text for pair in sorted(credentials.items()) for text in pair)):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
