"""Which accounts are for one of several supervisors that share them: by a hash of the name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from brokerwatch.messages.wire import MAX_SHARDS

_FORM: Final = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class Shard:
    """One supervisor of several. Raises ValueError for one that cannot be."""

    number: int = 1
    """Which one, from 1."""
    of: int = 1
    """How many there are; together they have every account."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MAX_SHARDS:
            raise ValueError(f"expected K/N with K from 1 to N, and N up to {MAX_SHARDS}, such as 2/4")

    def has(self, name: str) -> bool:
        """Whether the account of this name is for this supervisor; the same on every host."""
        digest = blake2b(name.encode(), digest_size=8, person=b"brokerwatch-part").digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1


WHOLE: Final = Shard()
"""A supervisor of all accounts."""


def shard_of(text: str) -> Shard:
    """The shard that `K/N` names. Raises ValueError."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected K/N, such as 2/4, not {text!r}")
    return Shard(int(match[1]), int(match[2]))
