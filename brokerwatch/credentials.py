"""Credentials: whether a PEM key can be used, and names for them that give nothing away.

ccxt would raise a bare ValueError for a broken PEM, at the first fetch and without saying which. The
only file that imports cryptography.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast


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


def downloaded_key(value: str) -> dict[str, str] | None:
    """The credentials in a key file as Coinbase's portal gives it; None when it is not one."""
    try:
        found: object = json.loads(value) if value.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    parts = cast("dict[str, object]", found)
    name, key = parts.get("name", parts.get("id")), parts.get("privateKey")
    if not isinstance(name, str) or not isinstance(key, str):
        return None
    return {"api_key": name, "secret": key}


def writable_by_others(path: Path) -> bool:
    """Whether others than the owner may change what is in a file of a secret. Raises OSError."""
    return bool(path.stat().st_mode & 0o022)


def secret_file_remark(path: Path) -> str:
    """What is wrong with the permissions of a secret's file, and what to do; empty when nothing is.

    Containers mount secrets 0444, so one that others can read is worth a remark and no refusal. Raises
    OSError.
    """
    if writable_by_others(path):
        return "can be changed by other users of this machine; chmod 600 it"
    if path.stat().st_mode & 0o044:
        return "can be read by other users of this machine; chmod 600 it"
    return ""


def unreadable_pem(value: str) -> str:
    """What is wrong with a PEM private key; empty when nothing is, or when it is no PEM at all."""
    if "-----BEGIN" not in value:
        return ""
    # Imported here: a process that only listens never meets a key, and this costs it 3 MB.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        load_pem_private_key(value.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return (
            "expected a PEM private key without a passphrase, and this one cannot be read; "
            "copy it whole, from -----BEGIN to -----END, with its line ends (or \\n for each)"
        )
    return ""
