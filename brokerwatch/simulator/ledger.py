"""The accounts of a simulated exchange: what is in them, what their keys may do, and what they hold.

A call over HTTP and a test's own arrangement meet here, so both happen under one lock. Everything public
may be called from any thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import ClassVar

from brokerwatch.simulator.account import (
    HOLDS,
    Account,
    BalanceSpec,
    PrivateCall,
    Row,
    as_told,
    checked_balance,
    checked_permissions,
    rows,
)
from brokerwatch.simulator.listings import Listings


class Ledger(Listings, ABC):
    """The part of a simulated exchange that keeps the accounts, one of them to begin with.

    `key_ip` is as `SimulatedExchange` has it.
    """

    ccxt_id: ClassVar[str]
    default_balance: ClassVar[BalanceSpec]
    # An open position in the exchange's own words, for `set_positions`.
    example_position: ClassVar[Mapping[str, object]]

    def __init__(self) -> None:
        super().__init__()
        # A key for a program on this machine.
        self.key_ip = "127.0.0.1"
        # The second, since 1970, at which keys end; None: never.
        self.key_ends_s: float | None = None
        self._holds = "told"
        self._left_out: frozenset[str] = frozenset()
        self._accounts: dict[str, Account] = {}
        self._private_calls = 0
        # A list to which each private call is added as it arrives; None: they are only counted.
        self.private_log: list[PrivateCall] | None = None
        self.credentials = self.add_account()

    # --- what a test arranges -----------------------------------------------------------------------

    def add_account(
        self,
        credentials: Mapping[str, str] | None = None,
        balance: BalanceSpec | None = None,
        permissions: Collection[str] = ("query", "trade"),
    ) -> dict[str, str]:
        """Open another account; returns its credentials, made up unless given (snake_case names).

        `permissions` are what its key may do: `query`, `trade`, `withdraw`.
        """
        account = Account(
            dict(credentials) if credentials is not None else self.new_credentials(),
            checked_balance(self.default_balance if balance is None else balance),
            checked_permissions(permissions),
        )
        with self._lock:
            before = self._accounts.get(account.api_key)
            if before is not None:
                account.stated = before.stated
            self._accounts[account.api_key] = account
        return dict(account.credentials)

    def add_key(
        self, *, account: str | None = None, permissions: Collection[str] = ("query", "trade")
    ) -> dict[str, str]:
        """Issue another API key of an account, as an operator who rotates keys does; its credentials.

        `account` is an API key of it; None is the first account. The keys that it has stay valid.
        """
        checked = checked_permissions(permissions)
        with self._lock:
            known = self._account(account)
            key = replace(
                known,
                credentials=self.new_credentials(),
                permissions=checked,
                private_calls=0,
                first_key=known.number,
            )
            self._accounts[key.api_key] = key
            return dict(key.credentials)

    def remove_key(self, api_key: str) -> None:
        """Delete an API key: it is refused from now on. ValueError where there is none of this name."""
        with self._lock:
            del self._accounts[self._account(api_key).api_key]

    def set_balance(self, balance: BalanceSpec, *, account: str | None = None) -> None:
        """Replace what is in an account: currency to (free, held). `{}` is an account without any currency.

        A currency that was in an answer before and is not named here is stated as zero from now on.
        `account` is an API key; None is the first account. ValueError for what is not a finite decimal.
        """
        checked = checked_balance(balance)
        with self._lock:
            owner = self._account(account)
            for each in self._accounts.values():
                if each.number == owner.number:
                    each.balance = checked
            if not checked:
                owner.stated.clear()

    def move_money(
        self,
        currency: str,
        amount: str,
        kind: str = "withdrawal",
        *,
        listed: bool = True,
        account: str | None = None,
    ) -> None:
        """Money comes or goes apart from orders: `amount` with a sign, of what is free.

        `kind` is what the ledger says of it (Kraken and OKX); it says nothing where not `listed`.
        """
        with self._lock:
            owner = self._account(account)
            owner.move(currency, free=Decimal(amount))
            if listed:
                owner.ledger.append((self.now_s(), currency, amount, kind))

    def set_permissions(self, permissions: Collection[str], *, account: str | None = None) -> None:
        """What the key of an account may do from now on: of `query`, `trade` and `withdraw`."""
        checked = checked_permissions(permissions)
        with self._lock:
            self._account(account).permissions = checked

    def set_positions(self, positions: Sequence[Mapping[str, object]], *, account: str | None = None) -> None:
        """What an account has open beside its balance, as the exchange writes it: see `example_position`."""
        with self._lock:
            self._account(account).positions[:] = positions

    @property
    def holds(self) -> str:
        """What balances say of what is held: `told`, `zero` or `missing`. ValueError for another word.

        `zero`: nothing is held, and what is free is what it was. `missing`: the fields are left out.
        """
        return self._holds

    @holds.setter
    def holds(self, word: str) -> None:
        if word not in HOLDS:
            raise ValueError(f"unknown holds {word!r}; there are: {', '.join(HOLDS)}")
        self._holds = word

    def leave_out(self, *currencies: str) -> None:
        """Leave these currencies out of all balances, though the accounts hold them; with none, name all.

        A broken answer in a whole envelope: nothing else in it is wrong.
        """
        with self._lock:
            self._left_out = frozenset(currencies)

    @property
    def private_calls(self) -> int:
        """How many private calls arrived so far, refused ones and those that met a fault included."""
        with self._lock:
            return self._private_calls

    def private_calls_of(self, account: str) -> int:
        """How many private calls arrived with this API key."""
        with self._lock:
            return self._account(account).private_calls

    # --- what a handler of a subclass uses ----------------------------------------------------------

    def rows_of(self, account: Account, fault: str) -> list[Row]:
        """The rows of the account's balance as of now, spoiled as `fault` says."""
        gone = dict.fromkeys(sorted(account.stated - account.balance.keys()), ("0", "0"))
        account.stated.update(account.balance)
        shown = rows({**account.balance, **gone}, fault)
        return [as_told(row, self.holds) for row in shown if row.currency not in self._left_out]

    def _owners(self) -> list[Account]:
        """Each account once, however many keys it has."""
        return list({account.number: account for account in self._accounts.values()}.values())

    def _account(self, api_key: str | None) -> Account:
        key = self.credentials["api_key"] if api_key is None else api_key
        if key not in self._accounts:
            raise ValueError(f"the simulated {self.ccxt_id} has no account with the API key {key!r}")
        return self._accounts[key]

    # --- what differs -------------------------------------------------------------------------------

    @abstractmethod
    def new_credentials(self) -> dict[str, str]:
        """Made-up credentials of the form this exchange issues."""
