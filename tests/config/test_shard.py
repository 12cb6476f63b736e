"""Which accounts are for one of several supervisors that share them."""

from __future__ import annotations

from collections import Counter

import pytest

from brokerwatch.config.shard import WHOLE, Shard, shard_of


@pytest.mark.parametrize("of", [1, 2, 3, 7, 64])
def test_each_account_is_for_one_supervisor_and_each_has_about_as_many(of: int) -> None:
    shards = [shard_of(f"{number}/{of}") for number in range(1, of + 1)]
    found = Counter(
        number for name in range(6_400) for number, shard in enumerate(shards) if shard.has(f"account-{name}")
    )
    assert sum(found.values()) == 6_400
    assert max(found.values()) < 1.5 * 6_400 / of
    assert min(found.values()) > 0.6 * 6_400 / of


def test_a_supervisor_of_all_has_all() -> None:
    assert WHOLE.has("anything")
    assert Shard(1, 1) == WHOLE


def test_the_hash_never_changes() -> None:
    assert [shard for shard in range(1, 5) if Shard(shard, 4).has("kraken-main")] == [3]


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/65", "a/b", "-1/2", "1/2/3"])
def test_what_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2/4"):
        shard_of(text)
