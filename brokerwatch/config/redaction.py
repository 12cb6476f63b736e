"""Secrets are taken out of every text that leaves the program: the one filter for all packages.

What is secret in a configuration is known here: credentials, and the password in a store's address. So it
stands beside the configuration, where the gateway, the storage and the checks before go-live reach it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import takewhile
from operator import eq
from typing import Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"

SHORTEST_SECRET: Final = 4
"""A shorter credential is no secret, and taking it out of a text would leave none of it."""
TELLTALE: Final = 12
"""So many characters of a secret's beginning give it away."""
SHORTEST_TOKEN: Final = 20
"""Shorter header values are no tokens and no signatures."""

_SIGNED: Final = re.compile(r"((?:signature|sign)=)[A-Za-z0-9%+/=_-]{16,}", re.IGNORECASE)
"""A signature in an address or a form."""
_SECRET: Final = re.compile(
    r"[0-9a-fA-F-]{24,}|(?=[^0-9]*[0-9])(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/=_-]{16,}"
)
"""Hexadecimal digits, or letters of both cases with digits: what exchanges give as keys and secrets."""
_PASSWORD: Final = re.compile(r"(//[^/@\s:]*):[^/@\s]+@")
"""A password in an address."""


def credential_spellings(credentials: Iterable[str]) -> tuple[str, ...]:
    """Each credential as it may appear in an error text; of a PEM key also each line. The longest first."""
    return longest_first(text for secret in credentials for text in _spellings(secret))


def password_spellings(passwords: Iterable[object]) -> tuple[str, ...]:
    """Each password as it is, and as an address has it. The longest first; what is empty is left out."""
    texts = {str(password) for password in passwords if password}
    return longest_first({*texts, *(quote(text, safe="") for text in texts)})


def longest_first(secrets: Iterable[str]) -> tuple[str, ...]:
    """In the order in which they have to be taken out, since one secret may be a part of another."""
    return tuple(sorted(set(secrets), key=len, reverse=True))


def redacted(text: str, secrets: Iterable[str], mark: str = REDACTED) -> str:
    """The text without these secrets, with `mark` in place of each."""
    for secret in secrets:
        text = text.replace(secret, mark)
    return text


def redacted_answer(text: str, secrets: Iterable[str]) -> str:
    """The same for a text from outside, without what a secret begins with, and without signatures.

    An exchange may have cut its text, and a secret in it.
    """
    for secret in secrets:
        text = _without_beginning(text.replace(secret, REDACTED), secret)
    return _SIGNED.sub(rf"\1{REDACTED}", text)


def looks_secret(text: str) -> bool:
    """Whether a text that should be the name of a variable or a file may be the secret itself."""
    return "-----BEGIN" in text or any(_SECRET.fullmatch(part) for part in (text, *text.split("/")))


def without_passwords(text: str) -> str:
    """The text with no password in any address in it."""
    return _PASSWORD.sub(r"\1:***@", text)


def _without_beginning(text: str, secret: str) -> str:
    beginning = secret[:TELLTALE]
    if len(secret) <= TELLTALE:
        return text
    kept: list[str] = []
    at = 0
    while (found := text.find(beginning, at)) >= 0:
        kept += (text[at:found], REDACTED)
        at = found + sum(1 for _ in takewhile(bool, map(eq, text[found : found + len(secret)], secret)))
    return "".join((*kept, text[at:]))


def _spellings(secret: str) -> Iterable[str]:
    lines = [line for line in secret.splitlines() if line and not line.startswith("-----")]
    every = (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], *lines)
    return (text for text in every if len(text) >= SHORTEST_SECRET)
