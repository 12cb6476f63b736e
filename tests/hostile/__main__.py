"""All attacks at full size, with the figures of each.

make hostile                               # 20 s each
make hostile ARGS="--seconds 60 --seed 7"  # longer, with other bytes
"""

from __future__ import annotations

import argparse
import platform
import random

import zmq

from brokerwatch.health.reading import ttl_s
from tests.hostile.attacks import DOWNSTREAM, UPSTREAM
from tests.hostile.scene import Outcome, listener_attacked, scene

MOST_MB = 256.0
"""What the attacked process may grow by, as SECURITY.md says."""
HEARTBEAT_S = 1.0


def main() -> int:
    """Attack. The status is 1 where a bound was broken."""
    parser = argparse.ArgumentParser(prog="make hostile", description="Attack a cluster and a listener.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each attack")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("attacks", nargs="*", help="only these")
    options = parser.parse_args()
    print(f"seed {options.seed}; {platform.platform()}, CPython {platform.python_version()},", end=" ")
    print(f"libzmq {zmq.zmq_version()}, pyzmq {zmq.__version__}")
    print(f"{'attack':42} {'grew MB':>8} {'files':>6} {'silent s':>8} {'out s':>6}  sent")
    broken = 0
    for place, attacks in (("health", UPSTREAM), ("brokers", DOWNSTREAM), ("listener", DOWNSTREAM)):
        for each in attacks:
            name = each.__name__
            if options.attacks and name not in options.attacks:
                continue
            if place == "listener":
                found, right = listener_attacked(name, options.seconds, options.seed), True
            else:
                with scene(options.accounts, HEARTBEAT_S) as under:
                    port = under.health_port if place == "health" else under.brokers_port
                    found = under.attacked(name, port, options.seconds, options.seed)
                    right = under.is_alive and under.is_right_again()
            fine = right and found.grown_mb < MOST_MB and not found.wrong
            fine = fine and found.silent_s <= ttl_s(HEARTBEAT_S)
            broken += not fine
            print(_line(f"{place}: {name}", found) + ("" if fine else "  BROKEN"), flush=True)
    return 1 if broken else 0


def _line(what: str, found: Outcome) -> str:
    sent = found.attack
    return (
        f"{what:42} {found.grown_mb:8.0f} {found.files:6} {found.silent_s:8.1f} {found.out_s:6.1f}  "
        f"{sent['sent_bytes'] / 1e6:,.0f} MB, {sent['connections']:,} connections, {sent['frames']:,} frames"
    )


if __name__ == "__main__":
    raise SystemExit(main())
