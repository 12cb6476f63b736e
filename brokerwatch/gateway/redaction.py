"""Secrets are taken out of every text that leaves the gateway."""

from __future__ import annotations

import json
import re
from itertools import takewhile
from operator import eq
from typing import Final

SHORTEST_SECRET: Final = 4
"""A shorter credential is no secret, and taking it out of a text would leave none of it."""


TELLTALE: Final = 12
"""So many characters of a secret's beginning give it away."""


SHORTEST_TOKEN: Final = 20
"""Shorter header values are no tokens and no signatures."""


SIGNED: Final = re.compile(r"((?:signature|sign)=)[A-Za-z0-9%+/=_-]{16,}", re.IGNORECASE)
"""A signature in an address or a form."""


def without(text: str, secret: str) -> str:
    """The text without what a secret begins with: whoever cut the text may have cut the secret too."""
    beginning = secret[:TELLTALE]
    if len(secret) <= TELLTALE:
        return text
    kept: list[str] = []
    at = 0
    while (found := text.find(beginning, at)) >= 0:
        kept += (text[at:found], "[redacted]")
        at = found + sum(1 for _ in takewhile(bool, map(eq, text[found : found + len(secret)], secret)))
    return "".join((*kept, text[at:]))


def spellings(secret: str) -> tuple[str, ...]:
    """A secret as it may appear in an error text; of a PEM key also each line."""
    lines = [line for line in secret.splitlines() if line and not line.startswith("-----")]
    return tuple(
        {
            text
            for text in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], *lines)
            if len(text) >= SHORTEST_SECRET
        }
    )
