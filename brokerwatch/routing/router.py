"""Which broker to use, asked by a trader: the choice of `selection.py` on what is known this very moment.

Everything is read from memory, so nothing here waits. The same class serves a cluster and a process that
only listens: what differs is where the candidates come from, and whether their markets are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from brokerwatch.bus.change_dispatcher import ChangeDispatcher
from brokerwatch.health.changes import Change
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate
from brokerwatch.routing.selection import Choice, Ranked, choose


class Router:
    """Picks among the brokers that are known here.

    `candidates` gives what is known of each of them now and must not wait. `strict_products`: whether a
    broker whose markets are not known is refused; False where nobody can know them.
    """

    def __init__(
        self,
        candidates: Callable[[], Iterable[Candidate]],
        changes: ChangeDispatcher,
        *,
        strict_products: bool = True,
    ) -> None:
        self._candidates = candidates
        self._changes = changes
        self._strict_products = strict_products

    def pick(self, need: Need) -> Choice:
        """The best broker for `need`, those behind it, and why each other one was refused. Never waits.

        The choice is true when somebody was found. It is of this moment: between it and the order the
        broker may go out, which the order then says. The symbol of `choice.need` is the market that was
        meant. Raises InvalidSymbol, a ValueError, for a symbol that could mean two markets or none;
        TypeError for anything but a Need.
        """
        # Whoever has no type checker writes the symbol alone at first.
        if not isinstance(need, Need):  # pyright: ignore[reportUnnecessaryIsInstance] - see above
            raise TypeError(f'expected a need, Need(symbol="BTC/USD", side="buy"), not {need!r}'[:200])
        return choose(need, self._candidates(), strict_products=self._strict_products)

    def rank(self, need: Need) -> tuple[Ranked, ...]:
        """All who can take `need`, the best first; empty when nobody can."""
        return self.pick(need).ranked

    def on_change(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Call `callback` with each change from now on, on the dispatcher thread (`bus.change_dispatcher`).

        Returns what ends it. Raises ClusterStopped after the end.
        """
        return self._changes.subscribe(callback)
