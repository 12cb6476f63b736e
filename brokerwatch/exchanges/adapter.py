"""What the rest of the program asks of an exchange: the protocol that each adapter answers.

An adapter makes ccxt's implicit calls and hands the answers to the pure readers in its own file, which
say what they prove. It is made anew for each connection and keeps nothing between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol, TypeVar

from brokerwatch.exchanges.balances import Code, FetchedBalance
from brokerwatch.exchanges.clock_skew import TOLERATED_S
from brokerwatch.exchanges.faults import NO_WORDS, Failure, FaultWords
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.market_refusals import MarketWords
from brokerwatch.exchanges.open_orders import Market, OpenOrder
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_deadline import DeadlineRule, OrderDeadline
from brokerwatch.exchanges.order_request import ANY_RULES, OrderRequest, OrderRules
from brokerwatch.exchanges.positions import Named
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.exchanges.refusals import NO_REFUSALS, RefusalWords
from brokerwatch.messages import Candle, Fault, Holding, Position, Product, Wallet
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.messages.trading import Status

T = TypeVar("T")

ORDERS_PER_PAGE: Final = 100
"""So many orders are asked for at once, where they cannot be asked for by our id."""
SKEW_US: Final = 300_000_000
"""So far the exchange's clock may be behind ours. (From 2 minutes on Coinbase refuses what we sign.)"""


@dataclass(slots=True)
class StatedBalance:
    """What the answers to one `fetch_balance` of ccxt have stated so far."""

    holdings: dict[str, Holding] = field(default_factory=dict)
    apart: dict[str, dict[str, Holding]] = field(default_factory=dict)
    """What no order can spend, by the name of its wallet."""
    accounts: set[str] = field(default_factory=set)
    """The accounts that were counted already."""
    stated: bool = True
    """See `Balance.stated`."""
    goes_on: bool = False
    """Whether the newest page promises another one."""

    def apart_of(self, currency: str) -> list[Holding]:
        """What no order can spend of a currency, in each wallet that has it."""
        return [wallet[currency] for wallet in self.apart.values() if currency in wallet]


ReadAnswer = Callable[[StatedBalance, object, Mapping[str, list[str]], Code], None]
"""Adds one answer to what was stated; it is given the query of the request too. Raises UnprovenAnswer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is the same for each account at one exchange. What is left out holds of an exchange that we know
    by ccxt's unified calls alone."""

    family: str = ""
    """The adapter's name: its ccxt id, which other ids of ccxt for the same exchange share."""
    own_envelope: bool = False
    """Whether the balance is read from the exchange's own answer, so that ccxt needs no list of markets."""
    fault_words: FaultWords = NO_WORDS
    refusals: RefusalWords = NO_REFUSALS
    market_words: MarketWords | None = None
    """How it says that one market is closed; None: by ccxt's classes, and by sentences."""
    budget: Budget | None = None
    """The published budget of private calls; None: ccxt says how often its calls may follow each other."""
    rising_nonces: bool = False
    """Whether private calls carry a number that must rise; others sign the time, or a token."""
    order_rules: OrderRules = ANY_RULES
    order_deadline: DeadlineRule | None = None
    """How an order says until when it may be taken; None: it cannot."""
    market_id: Callable[[str, str], str] | None = None
    """The exchange's own name for the market of a base and a quote currency; None: that takes its list."""
    well_known: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Markets without which its list is not whole: a base, and the quotes of which one must be there."""
    may_owe: bool = True
    """Whether an account may hold less than nothing."""
    buys_by_cost: bool = False
    """Whether a market order to buy is by the amount that it costs."""
    balance_call: tuple[str, tuple[Any, ...]] = ("fetch_balance", ())
    """The question for the balance: a method of ccxt, and its arguments."""
    balance_answers: Mapping[str, ReadAnswer] = field(default_factory=lambda: MappingProxyType({}))
    """How ccxt's own `fetch_balance` is checked: the end of a path, and how its answer is read."""
    ccxt_adds_up: bool = True
    """Whether ccxt gives one total for all that we count to one currency."""
    other_accounts: str = ""
    """Why `fetch_balance` of this exchange gets no parameters, and how its other accounts are reached; empty
    where it gets them."""
    pages_have_cursors: bool = False
    """Whether a trader who passes a `cursor` to `fetch_balance` reads one page of several."""
    clock_tolerance_s: float = TOLERATED_S
    """So far our clock may be off before it causes a refusal; infinite where requests carry no time."""
    second_clock: tuple[str, str] | None = None
    """Another question for the time than ccxt's: a method, and the key of its milliseconds."""


class Caller(Protocol):
    """What an adapter asks an exchange with. The gateway's `Connection` is one."""

    @property
    def family(self) -> str:
        """The name of the exchange's adapter; empty: it has none of its own."""
        ...

    @property
    def instance(self) -> Any:
        """The ccxt instance."""
        ...

    @property
    def used(self) -> Any:
        """The instance that made the newest call, with what that call left in it."""
        ...

    async def call(self, method: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Call a method of the instance, its requests with these headers too. Raises whatever ccxt raises."""
        ...

    def code(self, currency: str) -> str:
        """The common code of a currency in the exchange's own: XXBT to BTC."""
        ...

    def fault(self, error: BaseException) -> Fault:
        """The fault that `error` is, from what the last answer said."""
        ...

    def failure(self, error: BaseException) -> Failure:
        """What is known about a call that failed."""
        ...


class BalanceTurn(Protocol):
    """One reading of a balance in the lane of its key, as far as an adapter has a part in it."""

    @property
    def wants_funding(self) -> bool:
        """Whether money that no order can spend is read too."""
        ...

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of `fetch_balance`, for this call alone."""
        ...

    @property
    def known(self) -> Mapping[str, Holding] | None:
        """What the newest answer proves, if it reads as the last proof did, to the letter."""
        ...

    def keep(self, found: Mapping[str, Holding]) -> None:
        """Keep what the newest answer proved."""
        ...

    def holdings(
        self, answer: object, prove: Callable[[object, Code], Mapping[str, Holding]]
    ) -> Mapping[str, Holding]:
        """What an answer proves: `known`, or what `prove` finds, which is kept. Raises UnprovenAnswer."""
        ...

    async def another(self) -> None:
        """Wait until the key's budget has room for one more call."""
        ...

    async def aside(self, method: str, prove: Callable[[object, Code], Mapping[str, Holding]]) -> Wallet:
        """Money beside the balance, by a call of its own that never costs the balance."""
        ...


class PrivateQuestion(Protocol):
    """Asks one private question in the lane of the key.

    `read` says what the answer proves. Raises CouldNotAsk, NotAllowed, NotSupported.
    """

    async def __call__(self, read: Callable[[object], T], method: str, *arguments: object) -> T:
        """What `read` makes of the answer."""
        ...


class ExchangeAdapter(Protocol):
    """One exchange, as it is asked and as its answers are read.

    Its methods raise UnprovenAnswer, NotTaken, NotSupported, or whatever ccxt raises. They run on the loop of
    the connection that the adapter was made for.
    """

    profile: ClassVar[Profile]
    """What is the same for each account there."""
    has_dry_run: bool
    """Whether it can check an order without placing it."""
    needs_markets: bool
    """Whether ccxt must know the markets before it can be asked."""
    ids_are_final: bool
    """Whether the exchange itself never places a second order under an id of ours that it has seen."""
    says_its_status: bool
    """Whether it has a word about itself that we know how to read."""

    @property
    def prepare_calls(self) -> int:
        """How many private calls `prepare` makes now."""
        ...

    async def prepare(self) -> str:
        """Ask what an order of this account depends on, before one is written down and sent.

        What an operator should know of it, in words, or nothing. Raises NotSupported where no order can be
        placed in the mode that the account has.
        """
        ...

    async def place(self, request: OrderRequest, deadline: OrderDeadline | None = None) -> str:
        """Place an order; its id. Later than `deadline` the exchange must not take it."""
        ...

    async def validate(self, request: OrderRequest) -> None:
        """Have an order checked. Only where there is a dry run."""
        ...

    @property
    def find_calls(self) -> int:
        """How many private calls `find` makes for an order that is on the first page of each list."""
        ...

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        """An order of ours, by the id that we gave it; None when the exchange answers that it has none.

        `since_us`: when it was first sent, µs by our own clock; None when that is not known.
        """
        ...

    async def look_at(self, product: Product, order_id: str) -> FoundOrder:
        """An order by the exchange's own id of it. Raises NotSupported where that cannot be asked."""
        ...

    async def positions(self, named: Named) -> tuple[Position, ...]:
        """What is open beside the coins that are held; `named` gives our symbol for an id of the exchange."""
        ...

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        """The newest candles, oldest first."""
        ...

    async def status(self, now_us: int) -> Status | None:
        """Its own word about itself."""
        ...

    async def balance(self, turn: BalanceTurn) -> FetchedBalance:
        """What the account holds."""
        ...

    def proves_answered(self, answer: object) -> object:
        """Check that an answer to `profile.balance_call` is one: the key was accepted. Amounts are not read.

        Raises UnprovenAnswer.
        """
        ...

    async def key_facts(self, ask: PrivateQuestion) -> KeyFacts:
        """What the exchange says of the key. Raises what `ask` raises, and NotSupported."""
        ...

    async def stated_key(self, ask: PrivateQuestion) -> KeyFacts:
        """What the exchange states of the key, by calls that state it: none of them is meant to be refused.

        Raises what `ask` raises, and NotSupported where the exchange states nothing.
        """
        ...

    async def ledger(
        self, ask: PrivateQuestion, currencies: tuple[str, ...], since_us: int
    ) -> tuple[LedgerEntry, ...]:
        """What the exchange's own ledger has of these currencies since a moment, by its clock in µs.

        Raises what `ask` raises, and NotSupported where there is no ledger that can be read.
        """
        ...

    async def open_orders(self, ask: PrivateQuestion, market: Market) -> tuple[OpenOrder, ...]:
        """Every open order. Raises what `ask` raises."""
        ...

    @property
    def lists_open_orders(self) -> bool:
        """Whether `open_orders` can be asked."""
        ...

    async def market_ids(self) -> frozenset[str]:
        """The ids of the spot markets by another answer than the list of markets. Raises NotSupported."""
        ...

    async def market_count(self) -> int:
        """How many spot markets the exchange says it has. Raises NotSupported."""
        ...
