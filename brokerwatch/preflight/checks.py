"""Does each check of a verification on a running account, by asking what a trader would ask.

Every check ends in a judgement (`verification.*_findings`) on what was really
answered. What cannot be done because something before it did not pass is `NotDone`: a skip, and no points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from brokerwatch.config.balance_params import shown
from brokerwatch.config.broker_spec import CCXT_NAMES, BrokerSpec
from brokerwatch.config.credentials import secret_file_remark
from brokerwatch.errors import (
    BalanceUnknown,
    BrokerwatchError,
    CouldNotAsk,
    InvalidSymbol,
    NotSupported,
    SymbolError,
    UnknownSymbol,
)
from brokerwatch.exchanges.candles import DISORDER, NO_PRICE
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.registry import FAMILIES, profile_of
from brokerwatch.gateway.catalogue import Catalogue
from brokerwatch.messages import Candle, FaultKind
from brokerwatch.money import plain
from brokerwatch.preflight.account_probe import CANDLES, AccountProbe, NotDone
from brokerwatch.preflight.dry_run import DryRun
from brokerwatch.preflight.outage import Outage
from brokerwatch.preflight.policy_words import policy_words
from brokerwatch.verification import account_findings, market_findings, outage_findings
from brokerwatch.verification.checklist import Judgement, failed, passed, skipped, warned

IN_A_ROW: Final = 3
"""Signed questions that are asked one after the other."""


class Checks:
    """The checks of one verification, each a method. One thread calls them, in the order of the checklist.

    The cluster around the account polls no account by itself.

    Args:
        probe: What asks the account.
        configured: The account as it is configured; the probe asks it with other intervals.
        used_by: The process that uses the account's key now; empty where there is none.
        own_cluster: The process that runs the cluster of this account; empty where there is none.
    """

    def __init__(
        self, probe: AccountProbe, configured: BrokerSpec, *, used_by: str, own_cluster: str
    ) -> None:
        self._probe = probe
        self._trading = configured.trading
        self._push = configured.push
        self._policy = policy_words(configured)
        self._used_by = used_by
        self._own_cluster = own_cluster
        self._profile = profile_of(FAMILIES.get(probe.spec.exchange, ""))
        self.dry_run = DryRun(probe, trading=configured.trading)
        """The orders that were sent as dry runs."""
        self._outage = Outage(probe)
        self._overtaken = ""
        """How the exchange refused the number of a question; empty: it did not."""
        self.by_name: Mapping[str, Callable[[], Judgement]] = {
            "credentials.present": self._present,
            "credentials.kept": self._kept,
            "credentials.signs": self._signs,
            "connection.reach": self._reach,
            "connection.open": self._open,
            "connection.authentication": self._authentication,
            "connection.account": self._account,
            "balance.simple": self._simple,
            "balance.detailed": self._adds_up,
            "balance.held": self._held,
            "health.available": self._available,
            "health.error_count": lambda: outage_findings.counted_errors(self._outage.provocation()),
            "health.fallback": lambda: outage_findings.fallback(self._outage.provocation()),
            "health.flip": lambda: outage_findings.flip(self._outage.provocation()),
            "health.recovery": lambda: outage_findings.recovery(self._outage.provocation()),
            "market_data.products": self._listed,
            "market_data.candles_fresh": self._fresh,
            "market_data.candles_ordered": self._ordered,
            "market_data.candles_plausible": self._plausible,
            "symbols.normalised": self._normalised,
            "symbols.busd_refused": self._busd_refused,
            "symbols.usd_supported": self._usd_supported,
            "positions.structure": self._structure,
            "positions.open_orders": self._against_orders,
            "trade.market_order": self.dry_run.market_order,
            "trade.close": self.dry_run.close,
            "safety.withdraw": lambda: account_findings.withdraw(probe.spec.exchange, probe.key_facts),
            "safety.rights": self._rights,
            "safety.clock": self._clock_agrees,
            "safety.nonce": self._in_a_row,
        }
        """Every check by its name."""

    def _present(self) -> Judgement:
        needed = Catalogue.required_credentials(self._probe.spec.exchange)
        missing = [
            name
            for name in needed
            if not self._probe.spec.credentials.get(name)
            and not self._probe.spec.ccxt.get(CCXT_NAMES.get(name, name))
        ]
        if missing:
            return failed(f"{self._probe.spec.exchange} needs {', '.join(missing)}")
        origins = self._probe.spec.origins
        given = [
            f"{name} from {origins[name]}" if name in origins else name
            for name in self._probe.spec.credentials
        ]
        return passed(", ".join(given) or f"{self._probe.spec.exchange} needs none")

    def _kept(self) -> Judgement:
        origins = self._probe.spec.origins
        if not origins:
            return warned("given by a program: where it keeps them is not known")
        remarks: list[str] = []
        places: list[str] = []
        for origin in dict.fromkeys(origins.values()):
            if origin.kind == "file":
                remark = secret_file_remark(Path(origin.name))
                remarks += [f"{origin.name}: {remark}"] if remark else []
            places.append(str(origin))
        if remarks:
            return warned("; ".join(remarks))
        return passed(f"in {', '.join(places)}, for this user alone")

    def _signs(self) -> Judgement:
        try:
            request = self._probe.ask(self._probe.exchange.signed())
        except CouldNotAsk as error:
            return failed(f"no request can be signed: {error}")
        if not request:
            raise NotDone("no signed request could be had without sending it")
        return passed(f"signed and not sent: {request}")

    def _reach(self) -> Judgement:
        try:
            timing = self._probe.timing
        except NotSupported:
            # Somewhere it must be heard of all the same.
            count = len(self._probe.known_products())
            return passed(f"{self._probe.spec.exchange} has no clock to ask; it lists {count} markets")
        there = account_findings.moment(timing.theirs_ms / 1_000)
        return passed(f"answered in {timing.took_ms:.0f} ms; it was {there} there")

    def _open(self) -> Judgement:
        says = self._probe.access.venue.says_its_status
        status = self._probe.ask(self._probe.access.venue.status()) if says else None
        try:
            market = self._probe.market
        except (CouldNotAsk, NotDone):
            market = None  # the list of markets has a check of its own
        return account_findings.opened(self._probe.spec.exchange, status, market)

    def _authentication(self) -> Judgement:
        try:
            self._probe.ask_again(self._probe.exchange.ask_balance)
        except CouldNotAsk as error:
            if error.kind == FaultKind.PERMISSION:
                return failed(f"it knows the key, which may not read the balance: {error}")
            if error.kind != FaultKind.NONCE_CLOCK or not self._probe.access.lane.counts_nonces:
                raise
            # A cluster that was killed may have used up numbers that are still to come. Else another program
            # uses the key, and safety.nonce is about that.
            skipped_some = not self._used_by and self._probe.skip_numbers()
            self._overtaken = "" if skipped_some else str(error)
            self._probe.ask_again(self._probe.exchange.ask_balance)
        return passed("a signed question about the balance was answered")

    def _account(self) -> Judgement:
        self._probe.need("connection.authentication")
        name = self._probe.access.lane.fingerprint[:8]
        try:
            facts = self._probe.key_facts
        except NotSupported:
            facts = KeyFacts()
        ours = self._probe.spec.credentials.get("api_key", "")
        if facts.api_key and facts.api_key != ours:
            return failed("the exchange says that the question came with another key than ours")
        if facts.account:
            return passed(f"{facts.account}; key {name}")
        if facts.unsaid:
            return failed(f"no answer: {facts.unsaid}")
        # Where it has no name, it is known by what it holds, which an operator can compare.
        try:
            holds = ", ".join(self._probe.read_detailed().holdings) or "nothing"
        except (BalanceUnknown, CouldNotAsk):
            raise NotDone("not done: it has no name, and its balance could not be read either") from None
        judge = passed if self._profile.own_envelope else warned
        return judge(f"{self._probe.spec.exchange} gives it no name here; key {name}, which holds {holds}")

    def _simple(self) -> Judgement:
        cash = self._probe.cash
        params = self._probe.spec.balance_params
        which = f" with {shown(params)}" if params else ""
        names = "/".join(self._probe.spec.cash_currencies)
        if cash is None:
            detail = self._probe.broker.reading().detail
            return warned(
                f"how much {names} is free its exchange does not state, so no order can be sized by it, and "
                f"the router passes it over; read just now{which}: {detail}"
            )
        return passed(f"{plain(cash)} {names}, read just now{which}")

    def _adds_up(self) -> Judgement:
        return account_findings.detailed(
            self._probe.detailed,
            self._probe.cash,
            self._probe.spec.cash_currencies,
            may_owe=self._profile.may_owe,
        )

    def _held(self) -> Judgement:
        self._probe.need("balance.simple")
        self._probe.known_products()
        orders = self._probe.orders
        # Asked for after the orders: one that was placed in between is no contradiction.
        return account_findings.held(self._probe.read_detailed(), orders)

    def _available(self) -> Judgement:
        self._probe.need("balance.simple")
        reading = self._probe.broker.reading()
        if not (self._probe.broker.is_available() and reading.available):
            return failed(f"it is not: {reading.reason}: {reading.detail}".rstrip(": "))
        seen = f"is_available() is True; {reading.status}, {reading.reason}; {self._policy.text}"
        return warned(f"{seen}; {self._policy.advice}") if self._policy.advice else passed(seen)

    def _listed(self) -> Judgement:
        listed = self._probe.products
        try:
            # A list of nothing is no witness.
            second = self._probe.ask(self._probe.exchange.listed_elsewhere()) or None
        except (CouldNotAsk, NotSupported):
            second = None  # then there is one witness less, and the evidence says so
        try:
            counted: int | None = self._probe.ask(self._probe.exchange.counted())
        except (CouldNotAsk, NotSupported):
            counted = None
        try:
            holdings: tuple[str, ...] = tuple(
                code for code, held in self._probe.detailed.holdings.items() if held.least_total > 0
            )
            strange = {order.market for order in self._probe.orders if not order.listed}
        except (BrokerwatchError, NotDone):
            holdings, strange = (), set[str]()
        return market_findings.products(
            self._probe.spec.exchange,
            self._profile.well_known,
            listed,
            holdings=holdings,
            second=second,
            counted=counted,
            unlisted=strange,
            doubled=self._probe.ask(self._probe.exchange.doubled()),
        )

    def _seen_candles(self, mine: tuple[str, ...], others: tuple[str, ...]) -> list[Candle]:
        """The candles; NotDone where what is wrong with them is another check's to say."""
        try:
            return self._probe.candles
        except CouldNotAsk as error:
            detail = "" if error.fault is None else error.fault.detail
            if not mine:
                about_others = any(detail.startswith(words) for words in others)
            else:
                about_others = not any(detail.startswith(words) for words in mine)
            if about_others:
                raise NotDone("not done: the candles are none that can be used") from None
            raise

    def _fresh(self) -> Judgement:
        market = self._probe.market
        candles = self._seen_candles((), (*DISORDER, *NO_PRICE))
        return market_findings.candles_fresh(candles, self._probe.theirs_s, market.symbol)

    def _ordered(self) -> Judgement:
        return market_findings.candles_ordered(self._seen_candles(DISORDER, ()), CANDLES)

    def _plausible(self) -> Judgement:
        candles = self._seen_candles(NO_PRICE, ())
        return market_findings.candles_plausible(candles, self._probe.market.symbol, self._probe.price)

    def _normalised(self) -> Judgement:
        read: dict[str, str] = {}
        for text in market_findings.spellings(self._probe.market):
            try:
                read[text] = self._probe.broker.normalize_symbol(text)
            except SymbolError as error:
                read[text] = f"nothing ({error})"
        wrong_names = self._probe.ask(self._probe.exchange.misnamed())
        return market_findings.normalised(self._probe.market, read, wrong_names)

    def _busd_refused(self) -> Judgement:
        listed = self._probe.known_products()
        try:
            meant = self._probe.broker.normalize_symbol("BTC/BUSD")
        except UnknownSymbol as error:
            if self._probe.broker.supports_symbol("BTC/BUSD"):
                return failed("it is refused, and supports_symbol() says that it is supported")
            return market_findings.refused(None, "", str(error))
        except InvalidSymbol as error:
            return failed(f"it could not be read at all: {error}")
        return market_findings.refused(listed.by_symbol.get(meant), meant, "")

    def _usd_supported(self) -> Judgement:
        listed = self._probe.known_products()
        if self._probe.broker.supports_symbol("BTC/USD"):
            product = listed.product("BTC/USD")
            if (product.base, product.quote) != ("BTC", "USD"):
                return failed(f"BTC/USD is read as {product.symbol}")
            return passed(f"BTC/USD is {product.id} there")
        if ("BTC", ("USD",)) in self._profile.well_known:
            return failed(f"{self._probe.spec.exchange} does not list BTC/USD")
        return skipped(f"{self._probe.spec.exchange} lists no BTC/USD here")

    def _structure(self) -> Judgement:
        found = self._probe.positions
        balance = self._probe.broker.reading().balance or {}
        return account_findings.positions(
            found, balance, self._probe.products, self._probe.spec.cash_currencies
        )

    def _against_orders(self) -> Judgement:
        self._probe.need("balance.simple")
        listed = self._probe.known_products()
        try:
            found = self._probe.positions
        except CouldNotAsk:
            raise NotDone("not done, since positions.structure did not pass") from None
        return account_findings.against_orders(found, listed, self._probe.orders)

    def _rights(self) -> Judgement:
        unsaid = "not done: what the key may do could not be asked"
        try:
            facts = self._probe.key_facts
        except CouldNotAsk:
            raise NotDone(unsaid) from None
        if facts.unsaid:
            raise NotDone(unsaid)
        if self._trading and self.dry_run.accepted is False:
            return failed("trading is on, and the key was denied an order in a dry run")
        for what in ("orders", "positions"):
            denied = self._probe.denied(what)
            if denied:
                return failed(f"the key may not read {what}: {denied}")
        if self._trading and self.dry_run.look_up_denied:
            return warned(f"the key may not look orders up: {self.dry_run.look_up_denied}")
        if self._push and (lacking := self._probe.stream_right()):
            return failed(f"push is on, and the key has no right {lacking}")
        return account_findings.rights(
            facts,
            trading=self._trading,
            dry_run=self.dry_run.accepted,
            now_s=self._probe.clock.now().wall_us / 1_000_000,
            exchange=self._probe.spec.exchange,
        )

    def _clock_agrees(self) -> Judgement:
        try:
            timing = self._probe.timing
        except CouldNotAsk:
            raise NotDone("not done: the exchange's clock could not be asked") from None
        return account_findings.clock(timing.skew_ms, timing.took_ms)

    def _in_a_row(self) -> Judgement:
        if self._overtaken:
            return failed(f"the number of a question was refused: {self._overtaken}")
        self._probe.need("connection.authentication")
        for number in range(1, IN_A_ROW + 1):
            try:
                self._probe.ask_again(self._probe.exchange.ask_balance)
            except CouldNotAsk as error:
                return failed(f"of {IN_A_ROW} signed questions in a row number {number} was refused: {error}")
        detail = f"{IN_A_ROW} signed questions in a row, each accepted"
        other = self._used_by
        if other and other == self._own_cluster:
            return passed(f"{detail}, while {other}, the cluster of this account, uses the key too")
        if other:
            return warned(f"{detail}; {other} uses the same key now: give each a key of its own")
        return passed(detail)
