"""Holds an account and releases it, many times: `python -m benchmarks.soak.holds CONFIG ACCOUNT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from brokerwatch.cluster.control import SOCKET_NAME, Command, ask
from brokerwatch.config.loader import load
from brokerwatch.gateway.catalogue import Catalogue
from brokerwatch.storage.state_folder import folder_of

HOLDS: Final = 500
"""1,000 lines of the history. Some 500 fill the cache that SQLite has for a connection."""


def main(config: Path, account: str) -> int:
    """Until it is done. The status."""
    socket = folder_of(load(config, Catalogue()).cluster) / SOCKET_NAME
    for _ in range(HOLDS):
        ask(socket, Command("hold", account, "a history"))
        ask(socket, Command("release", account))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
