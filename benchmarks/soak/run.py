"""`brokerwatch run` as it is, with a full garbage collection now and then, so that a leak is seen in minutes.

CPython makes a full collection only when a quarter of all objects were added, which takes a process of this
size hours. Until then it keeps freed tuples for later use, up to 2,000 of each length (some MB in all). With
polls and nothing else the memory rose by 15 MB an hour in the first minutes, and by 2 MB after a collection.

What is free is given back to the system then. A page of the heap that was used once counts as used for ever
else, so that the memory shows the most that there ever was at one moment, which rises ever more slowly and
never falls, and not what there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from typing import Final

from brokerwatch.actors.workers import SIZE, WORKERS
from brokerwatch.cli.main import main

EVERY_S: Final = 20.0


def collect() -> None:
    """Collect as long as the process runs."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    while True:
        time.sleep(EVERY_S)
        gc.collect()
        if give_back is not None:
            give_back(0)


def start_workers() -> None:
    """Have all the accounts' workers: one that starts only when it is needed would be a thread too many.

    A program without accounts has none, and this waits for ever.
    """
    while not WORKERS.is_used:
        time.sleep(0.1)
    together = threading.Barrier(SIZE)

    def meet() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.5)

    for _ in range(SIZE):
        WORKERS.run(meet)


if __name__ == "__main__":
    threading.Thread(target=collect, name="soak-collections", daemon=True).start()
    threading.Thread(target=start_workers, name="soak-workers", daemon=True).start()
    main()
