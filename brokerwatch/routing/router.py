"""Which broker to use right now: the choice of `selection.py`, made from what is known at this moment.

Everything is read from memory, so no call here waits. The same class serves a cluster and a process that
only listens. The two differ in where the candidates come from, and in whether their markets are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from brokerwatch.health.changes import Change
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate
from brokerwatch.routing.selection import Choice, Ranked, choose


class Subscribe(Protocol):
    """Registers a callback for changes, and returns the function that ends the subscription."""

    def __call__(self, callback: Callable[[Change], object], *, renewals: bool = False) -> Callable[[], None]:
        """With `renewals` the callback is called for each poll too that found nothing new."""
        ...


class Router:
    """Picks among the brokers that are known here. Any thread may call it, and no call waits.

    Get it from `Cluster.router` or `Listener.router`.

    Args:
        candidates: Gives what is known of each broker at this moment. It must not wait.
        subscribe: Registers a callback for changes of readings; called once for each `on_change`.
        strict_products: Whether a broker whose markets are not known is refused. A process that only
            listens cannot know markets, and passes False.
    """

    def __init__(
        self,
        candidates: Callable[[], Iterable[Candidate]],
        subscribe: Subscribe,
        *,
        strict_products: bool = True,
    ) -> None:
        self._candidates = candidates
        self._subscribe = subscribe
        self._strict_products = strict_products

    def pick(self, need: Need) -> Choice:
        """Choose the best broker for `need`.

        The choice is of this moment. The broker may become unavailable between it and the order; the order
        says so then.

        Args:
            need: What is to be traded: symbol, side, and amount where it is known.

        Returns:
            The best broker, those behind it, and the reason why each other one was refused. It is true when
            a broker was found. The symbol of `choice.need` is the market that was meant.

        Raises:
            InvalidSymbol: The symbol could mean two markets, or none. It is a ValueError.
            TypeError: `need` is anything but a `Need`.
        """
        # A program without a type checker often passes the symbol alone at first.
        if not isinstance(need, Need):  # pyright: ignore[reportUnnecessaryIsInstance] - see above
            raise TypeError(f'expected a need, Need(symbol="BTC/USD", side="buy"), not {need!r}'[:200])
        return choose(need, self._candidates(), strict_products=self._strict_products)

    def rank(self, need: Need) -> tuple[Ranked, ...]:
        """Every broker that can take `need`, the best first; empty when there is none.

        Args and Raises as for `pick`.
        """
        return self.pick(need).ranked

    def on_change(
        self, callback: Callable[[Change], object], *, renewals: bool = False
    ) -> Callable[[], None]:
        """Call `callback` with each change of state, reason or balance from now on.

        The calls are made one after the other on a thread of their own, so a callback that takes long delays
        the others.

        Args:
            callback: Called with each change. An exception that it raises is logged.
            renewals: Call it for each poll too that found nothing new, and for each further error of an
                account that is out. `change.renewal` says which it is.

        Returns:
            A function that ends the subscription. Any thread may call it, also more than once.

        Raises:
            ClusterStopped: The cluster, or the listener, has ended.
        """
        return self._subscribe(callback, renewals=renewals)
