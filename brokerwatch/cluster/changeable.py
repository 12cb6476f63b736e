"""What can be changed of a cluster that runs: its configuration, and what its operators say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from brokerwatch.cluster.key_changes import KeyChanges
from brokerwatch.cluster.members import Members
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.outlets import Outlets
from brokerwatch.cluster.pooling import Pooling
from brokerwatch.cluster.reloaded import Reloaded
from brokerwatch.cluster.startup import check
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.reload_plan import with_added, with_removed, with_replaced
from brokerwatch.errors import ClusterStopped, ConfigError, ControlError, Problem
from brokerwatch.log import logger

_log: Final = logger(__name__)

ReadAgain = Callable[[bool], Settings]
"""Reads the configuration again. With True brokers that are configured wrongly do not stop it."""
THIS_PROGRAM: Final = "this program"
"""Who gives a command that no operator gave, in the history."""


class ChangeableCluster:
    """The part of a `Cluster` that changes it while it runs; any thread may use it."""

    def __init__(
        self,
        members: Members,
        keys: KeyChanges,
        operators: Operators,
        outlets: Outlets,
        pooling: Pooling | None = None,
    ) -> None:
        self._members = members
        self._pooling = pooling
        self._outlets = outlets
        self._reloading = threading.Lock()
        """Held by the reload that is under way: the next one waits."""
        self._keys = keys
        self._operators = operators
        self._read: ReadAgain | None = None
        """Reads the file again for `reload`; None: the cluster was made in Python."""
        operators.reload = self.reload_for
        operators.renew = keys.renew

    def reload(self, settings: Settings | None = None, *, force_key: bool = False) -> Reloaded:
        """Go on by another configuration: all of it, or with a mistake nothing. Waits some seconds at most.

        What has not changed is not touched. No account becomes available by it: an account that is new, or
        that was not available, is so after its next success.

        Args:
            settings: The configuration; None: the file that the cluster was made from is read again.
            force_key: Drop the old API key of an account that has another one at once. Else the new one is
                verified against the exchange first, and the old one is used until then.

        Returns:
            What has changed. Its text says it in words.

        Raises:
            ConfigError: Nothing was changed. It names every mistake, and each key that needs a restart.
            ClusterStopped: The cluster does not run.
        """
        return self._reload(settings, THIS_PROGRAM, force_key=force_key)

    def add(self, spec: BrokerSpec) -> Reloaded:
        """Add a broker, at the end of the order. A reload from a file in which it is not removes it.

        In a pool it comes to the node that it falls to, if that one knows it too: each node has to be told,
        as of all changes.

        Raises:
            ConfigError: Its name is taken, or it cannot be used.
            ClusterStopped: The cluster does not run.
        """
        return self._changed(partial(with_added, spec=spec))

    def remove(self, broker: str) -> Reloaded:
        """Remove a broker. Orders of it that are under way are followed to their end; no other goes out.

        Handles of it are not available any more, and their calls raise UnknownBroker.

        Raises:
            UnknownBroker: There is none of this name.
            ClusterStopped: The cluster does not run.
        """
        self._refuse_unknown(broker)
        return self._changed(partial(with_removed, name=broker))

    def replace(self, spec: BrokerSpec) -> Reloaded:
        """Have the broker of this name go on by another configuration. Its handles stay as they are.

        Raises:
            UnknownBroker: There is none of this name.
            ConfigError: Nothing was changed: something in it cannot be, or needs a restart.
            ClusterStopped: The cluster does not run.
        """
        self._refuse_unknown(spec.name)
        return self._changed(partial(with_replaced, spec=spec))

    def _refuse_unknown(self, broker: str) -> None:
        if self._pooling is None or broker not in self._pooling.accounts:
            self._members.board.slot(broker)

    def _changed(
        self, change: Callable[[Settings], Settings], by: str = THIS_PROGRAM, *, force_key: bool = False
    ) -> Reloaded:
        """Go on by what this makes of the configuration that holds now: in a pool, of all its accounts."""
        pooling = self._pooling
        if pooling is None:
            return self._keys.change(change, by, force_key=force_key)
        with pooling.changing:
            wanted: list[Settings] = []

            def mine(now: Settings) -> Settings:
                wanted.append(change(pooling.whole(now)))
                return pooling.mine(wanted[-1], now)

            said = self._keys.change(mine, by, force_key=force_key)
            before, after = tuple(pooling.accounts), tuple(spec.name for spec in wanted[-1].brokers)
            pooling.follow(wanted[-1])
        # They come and go soon, here or at other nodes.
        added = tuple(name for name in after if name not in before)
        return replace(said, added=added, removed=tuple(name for name in before if name not in after))

    def reload_for(self, by: str, *, force_key: bool = False) -> str:
        """Reload at the command of an operator, and log what has changed, or what is wrong.

        Args:
            by: Who, or what, gave the command; it stands in the log.
            force_key: As for `reload`.

        Returns:
            What has changed, in words.

        Raises:
            ControlError: Nothing was changed; it says why.
        """
        try:
            said = str(self._reload(None, by, force_key=force_key))
        except ConfigError as error:
            _log.error("reload (%s): nothing was changed:\n%s", by, error)
            raise ControlError(f"nothing was changed:\n{error}") from None
        except ClusterStopped as error:
            raise ControlError(str(error)) from None
        _log.warning("reload (%s): %s", by, said.replace("\n", "; "))
        return said

    def _reload(self, settings: Settings | None, by: str, *, force_key: bool) -> Reloaded:
        with self._reloading:
            wanted = self._read_again() if settings is None else settings
            check(wanted.brokers, wanted.cluster)
            self._outlets.check(wanted.cluster)
            said = self._changed(lambda _: wanted, by, force_key=force_key)
            self._outlets.follow(wanted.cluster)
        return said

    def _read_again(self) -> Settings:
        """The configuration as its file says it now. Raises ConfigError."""
        if self._read is None:
            expected = "expected settings: this cluster was made in Python, and from no file"
            raise ConfigError((Problem("", "reload", expected),))
        # One that was started with brokers that are configured wrongly goes on with them as they are.
        return self._read(bool(self._members.broken))

    def hold(self, broker: str, why: str, *, until: datetime | None = None) -> str:
        """Hold a broker out: not available whatever its exchange says. It outlives a restart.

        Args:
            broker: The broker's name.
            why: The reason, up to 160 characters; it is shown wherever the hold is.
            until: When the hold ends, with a time zone; None: when it is released.

        Returns what was done, in words. Raises ControlError when the command was refused or the supervisor
        did not answer within 5 s, and ValueError when `until` has no time zone.
        """
        return self._operators.hold(broker, why, until)

    def release(self, broker: str) -> str:
        """End a hold; ControlError where there is none. The state is what it would have been without it."""
        return self._operators.release(broker)

    def reset(self, broker: str) -> str:
        """Ask again after a state that was final, such as refused credentials. Otherwise as `hold`."""
        return self._operators.reset(broker)
