"""The ccxt instances of one process: what each of them shares, and what it must not.

For each exchange and address the constructor makes one, without credentials. Each account has a copy of it,
or of the instance that its trader brought.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

from brokerwatch.config.broker_spec import CCXT_NAMES, CREDENTIALS, BrokerSpec
from brokerwatch.exchanges.registry import FAMILIES, profile_of
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.loop import Loop
from brokerwatch.gateway.owner_instance import borrow_async, borrow_sync, is_async
from brokerwatch.gateway.strict_ccxt import QUIET, clone, strict_class

MOST_PROTOTYPES: Final = 64
"""So many are kept to copy from: one for each exchange, address and deadline."""


class Instances:
    """Makes the ccxt instances of one process. `ccxt_class` gives ccxt's class of an id.

    All but the constructor is called on the instance's own loop.
    """

    def __init__(self, loop: Loop, ccxt_class: Callable[[str], type[Any]]) -> None:
        self.sessions = {loop: Sessions(loop.lease)}
        """Of each loop."""
        self._ccxt_class = ccxt_class
        self._prototypes: dict[str, Any] = {}

    def moved(self, old: Loop, new: Loop) -> Sessions:
        """Make the instances of one loop on another one from here on. Returns the sessions of the old loop.

        Called by any thread, before an instance is made on the new loop.
        """
        left = self.sessions.pop(old)
        self.sessions[new] = Sessions(new.lease)
        self._prototypes = {}  # each has a session lent; only a loop of ours has any
        return left

    def forget(self) -> None:
        """Let go of instances that no account may be copied from any more, where there are many of them."""
        if len(self._prototypes) > MOST_PROTOTYPES:
            self._prototypes = {}

    def of_account(self, spec: BrokerSpec, family: str, lane: Lane, loop: Loop) -> Any:
        """A strict ccxt instance for one account."""
        if spec.instance is not None:
            instance = self._borrowed(spec.instance, loop)
            if not is_async(spec.instance):
                # A call ends by its own time-out alone: one that was given up must not hold its thread.
                instance.timeout = min(instance.timeout, round(spec.fetch_deadline_s * 1_000))
            if lane.counts_nonces:
                # The trader's own calls and ours take their numbers from one place, which ccxt allows for.
                spec.instance.nonce = lane.nonces.next if lane.lease.term is None else lane.next_nonce
        else:
            instance = clone(self._prototype(spec, loop, large=not profile_of(family).own_envelope))
            for name, value in spec.credentials.items():
                setattr(instance, CCXT_NAMES.get(name, name), value)
        if profile_of(family).own_envelope:
            # The balance needs no list of markets (160 KiB an account instead of 11 to 17 MiB).
            instance.markets = {}
        if lane.counts_nonces:
            instance.nonces = lane.nonces
        instance.lease = lane.lease
        if (term := lane.lease.term) is not None:
            instance.timeout = min(instance.timeout, math.floor(term.call_s * 1_000))
        return instance

    def of_venue(self, blank: BrokerSpec, own: Any, loop: Loop) -> Any:
        """A strict ccxt instance without credentials; `own` is the trader's, or None."""
        if own is None:
            made = self._prototype(blank, loop, large=True)
        else:
            made = self._borrowed(own, loop)
            for credential in CREDENTIALS:
                if hasattr(made, CCXT_NAMES.get(credential, credential)):
                    setattr(made, CCXT_NAMES.get(credential, credential), "")
        # Prices and steps as they were written; markets of its own, that no other instance changes. Some
        # exchanges have no list that could be asked for: ccxt has their markets built in.
        made.number = str
        made.markets = made.describe().get("markets")
        made.lease = loop.lease
        return made

    def _borrowed(self, own: Any, loop: Loop) -> Any:
        if not is_async(own):
            return borrow_sync(own)
        if loop not in self.sessions:
            self.sessions[loop] = Sessions(loop.lease)
        return borrow_async(own, self.sessions[loop])

    def _prototype(self, spec: BrokerSpec, loop: Loop, *, large: bool) -> Any:
        """A ccxt instance without credentials, which others are copied from."""
        options: dict[str, Any] = {
            # ccxt's throttle would add 3 s to each Kraken call, by the wall clock; the lane has the budget.
            "enableRateLimit": False,
            "timeout": round(spec.fetch_deadline_s * 1_000) + 1_000,  # the deadline of ours comes first
            # Floats would lose digits where ccxt parses the balance; we parse it where we know the form.
            **({} if profile_of(FAMILIES.get(spec.exchange, "")).own_envelope else {"number": str}),
            **spec.ccxt,
        }
        name = json.dumps([spec.exchange, large, options], sort_keys=True, default=repr)
        if name not in self._prototypes:
            made = strict_class(self._ccxt_class(spec.exchange))(options)
            # At DEBUG ccxt's own logger would print keys and signatures.
            made.logger = QUIET
            self.sessions[loop].lend(made, large=large)
            self._prototypes[name] = made
        return self._prototypes[name]
