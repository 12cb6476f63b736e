"""A node of a pool inside a process that something else has started, and starts again when it ends.

Nothing here knows which engine that is. The engine asks for the state and for the end, and kills the process
when it likes: what is at stake is decided by the claims of the node, and by nothing that an engine says.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from socket import gethostname
from typing import Final, NamedTuple

from brokerwatch.cli import exits
from brokerwatch.cli.log_output import LogChoice, logging_to
from brokerwatch.cli.node import started_node
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.node_settings import NodeChoice
from brokerwatch.errors import BrokerwatchError
from brokerwatch.log import logger

_log: Final = logger(__name__)

LOOK_S: Final = 0.5
"""How often it is looked whether the node can still watch."""
AGAIN_S: Final = 5.0
"""After so long a node that could not be started is tried again."""
STOP_S: Final = 15.0
"""So long a node may take to end in order."""


class NodeState(NamedTuple):
    """What a node says of itself."""

    name: str
    """Its name in the pool; empty: it does not run yet."""
    host: str
    pid: int
    """Its process there."""
    accounts: int
    """How many it has."""
    available: int
    """How many of them are available."""
    why: str
    """Why it does not run; empty: it runs, or is just being started."""


class PoolActor:
    """One node. It is started at once, on a thread of its own, and tried again until it can be.

    Args:
        file: the configuration, on the host of this process.
        pool: the pool's name; empty: the one that the file names.
        keep_going: start although accounts are configured wrongly.
        log_level: from which on its log is written to standard error.
    """

    def __init__(self, file: str, pool: str, *, keep_going: bool = False, log_level: str = "warning") -> None:
        self._file = Path(file)
        # Without a name it takes its host's, with a number where that is taken.
        self._choice = NodeChoice("", pool=pool)
        self._keep_going = keep_going
        self._log = LogChoice(log_level)
        self._stopped = threading.Event()
        self._running: tuple[str, Cluster] | None = None
        self._why = ""
        self._thread = threading.Thread(target=self._run, name="brokerwatch-node", daemon=True)
        self._thread.start()

    def state(self) -> NodeState:
        """What is to be said of it now. Never waits."""
        running = self._running
        if running is None:
            return NodeState("", gethostname(), os.getpid(), 0, 0, self._why)
        name, cluster = running
        readings = cluster.readings()
        available = sum(reading.available for reading in readings)
        return NodeState(name, gethostname(), os.getpid(), len(readings), available, "")

    def stop(self) -> bool:
        """End the node in order: its claims are given back. Whether it has ended in time."""
        self._stopped.set()
        self._thread.join(STOP_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with logging_to(self._log):
                while not self._stopped.is_set():
                    self._watch()
        except BaseException:  # noqa: BLE001 - the process must not stay without its node
            _log.exception("the node has ended by a mistake in brokerwatch; its process ends with it")
            os._exit(exits.NO)

    def _watch(self) -> None:
        """Run the node until it is stopped, or say why it cannot be."""
        try:
            with ExitStack() as stack:
                cluster, _, name = started_node(self._file, self._choice, stack, keep_going=self._keep_going)
                self._running, self._why = (name, cluster), ""
                while not self._stopped.wait(LOOK_S):
                    if hung := cluster.hung:
                        _log.error("the node is ended, because some accounts can be asked no more: %s", hung)
                        os._exit(exits.HUNG)
        except BrokerwatchError as error:
            if str(error) != self._why:
                self._why = str(error)
                _log.error("the node cannot be started: %s", error)
            self._stopped.wait(AGAIN_S)
        finally:
            self._running = None
