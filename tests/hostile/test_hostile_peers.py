"""A real cluster and a real listener under attack, for a moment each. `make hostile` does it at full size.

The bounds are those of SECURITY.md, and half of them here, since an attack is short.
"""

from __future__ import annotations

import sys
from typing import Final

import pytest

from brokerwatch.health.reading import ttl_s
from tests.hostile.scene import listener_attacked, scene

SEED: Final = 20_261_129
FOR_S: Final = 0.5
HEARTBEAT_S: Final = 4.0
"""One time to live is 17 s: a machine under load holds an honest thread for seconds, which is no attack."""
MOST_MB: Final = 256.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel counts no bytes for us")


def test_a_cluster_that_is_attacked_goes_on_within_its_bounds_and_a_listener_is_never_wrong() -> None:
    with scene(5, HEARTBEAT_S) as under:
        for name, port in (
            ("never_reads", under.health_port),
            ("half_open", under.health_port),
            ("endless_small_parts", under.health_port),
            ("random_frames", under.health_port),
            ("foreign_cancels", under.health_port),
            ("garbage", under.health_port),
            ("mutated_messages", under.brokers_port),
            ("one_byte_parts", under.brokers_port),
        ):
            found = under.attacked(name, port, FOR_S, SEED)
            assert under.is_alive, (name, SEED)
            assert not found.wrong, (name, SEED, found.wrong[:3])
            assert found.silent_s <= ttl_s(HEARTBEAT_S), (name, SEED)
            assert found.grown_mb < MOST_MB, (name, SEED)
            assert found.attack["connections"] > 0, name
        assert under.is_right_again()


@pytest.mark.parametrize("name", ["big_messages", "one_byte_parts", "mutated_messages"])
def test_a_listener_whose_port_an_attacker_has_stays_within_its_bound(name: str) -> None:
    found = listener_attacked(name, 4 * FOR_S, SEED)  # it comes to the attacker, and in its own time
    assert found.grown_mb < MOST_MB, SEED
    assert found.attack["sent_bytes"] > 0
