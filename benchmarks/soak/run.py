"""`brokerwatch run` as it is, with a full garbage collection now and then, so that a leak is seen in minutes.

CPython makes a full collection only when a quarter of all objects were added, which takes a process of this
size hours. Until then it keeps freed tuples for later use, up to 2,000 of each length (some MB in all). With
polls and nothing else the memory rose by 15 MB an hour in the first minutes, and by 2 MB after a collection.
"""

from __future__ import annotations

import gc
import threading
import time
from typing import Final

from brokerwatch.cli.main import main

EVERY_S: Final = 20.0


def collect() -> None:
    """Collect as long as the process runs."""
    while True:
        time.sleep(EVERY_S)
        gc.collect()


if __name__ == "__main__":
    threading.Thread(target=collect, name="soak-collections", daemon=True).start()
    main()
