"""The drop-in: plain ccxt's own balance where it is proven, and never an empty one where it is not."""

from __future__ import annotations

import asyncio
import copy
import http.server
import importlib
import inspect
import json
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.dropin.guard import guard
from brokerwatch.dropin.last_known import MAX_ACCOUNTS
from brokerwatch.errors import BalanceUnknown, ConfigError, CouldNotAsk
from brokerwatch.exchanges.coinbase import older_holdings
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.health.empty_answers import EMPTY_OVER_S, EMPTY_READS
from brokerwatch.simulator import (
    FAULTS,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.ccxt_config import ccxt_config

# Without its types, which do not pass a strict check.
ccxt: Any = importlib.import_module("ccxt")
ccxt_async: Any = importlib.import_module("ccxt.async_support")

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "ccxt-bot.md"
KINDS: Final[tuple[type[SimulatedExchange], ...]] = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)
PATIENT_MS: Final = 20_000
IMPATIENT_MS: Final = 100
ENDLESS: Final = ("hang", "stalled", "stalled_body", "drip")
HARMLESS: Final = {("coinbase", "warning_beside_result")}
"""Faults after which the answer still proves the balance."""
SILENT: Final = ("empty_body", "null_body", "html_200", "cut_json", "redirect")
"""Faults of which plain ccxt says nothing."""


class OlderCoinbase(SimulatedCoinbase):
    """With the list that ccxt reads unless it is told otherwise."""

    next_uri: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.private_routes = {**self.private_routes, ("GET", "/v2/accounts"): self._older}

    def _older(self, call: object, account: Any, fault: str) -> dict[str, Any]:
        del call
        if fault == "empty_result":
            return {"data": []}
        rows = [
            {
                "id": row.currency,
                "type": "wallet",
                "currency": {"code": row.currency},
                "balance": {"amount": row.free, "currency": row.currency},
            }
            for row in self.rows_of(account, fault)
        ]
        return {"pagination": {"limit": 250, "next_uri": self.next_uri}, "data": rows}


def config(exchange: SimulatedExchange, **values: Any) -> dict[str, Any]:
    return {**ccxt_config(exchange), "timeout": PATIENT_MS, **values}


def alike(balance: Mapping[str, Any]) -> str:
    """A balance without the moments that are in it, exact to the types."""

    moments = ("uTime", "timestamp", "datetime", "brokerwatch")

    def without(value: Any) -> Any:
        match value:
            case dict():
                inside = cast("dict[str, Any]", value)
                return {key: without(inner) for key, inner in inside.items() if key not in moments}
            case list():
                return [without(inner) for inner in cast("Iterable[Any]", value)]
            case _:
                return value

    return repr(without(balance))


class Bot:
    """A trader's instance, asynchronous or not, and how a test calls it."""

    def __init__(self, exchange: SimulatedExchange, mode: str, **values: Any) -> None:
        self._runner = asyncio.Runner() if mode == "async" else None
        library: Any = ccxt if self._runner is None else ccxt_async
        self.mine = getattr(library, exchange.ccxt_id)(config(exchange, **values))
        self.mine.timeout_on_exit = 0

    def run(self, ask: Callable[[], Any]) -> Any:
        if self._runner is None:
            return ask()

        async def asked() -> Any:
            return await ask()

        return self._runner.run(asked())

    def balance_of(self, which: Any, *params: Any) -> Any:
        return self.run(lambda: which.fetch_balance(*params))

    def close(self) -> None:
        if self._runner is not None:
            self.run(self.mine.close)
            self._runner.close()


@contextmanager
def bot_on(exchange: SimulatedExchange, mode: str, **values: Any) -> Generator[Bot]:
    with serve(exchange):
        bot = Bot(exchange, mode, **values)
        try:
            yield bot
        finally:
            bot.close()


@pytest.fixture(scope="module")
def bots() -> Iterator[dict[tuple[str, str], tuple[SimulatedExchange, Bot]]]:
    """One bot for each exchange and mode, for the whole table of faults."""
    exchanges = [kind() for kind in KINDS]
    with serve(*exchanges), ExitStack() as closing:
        found: dict[tuple[str, str], tuple[SimulatedExchange, Bot]] = {}
        for exchange in exchanges:
            for mode in ("sync", "async"):
                bot = Bot(exchange, mode)
                closing.callback(bot.close)
                bot.balance_of(bot.mine)  # its markets are loaded, as those of a bot that runs
                found[exchange.ccxt_id, mode] = exchange, bot
        yield found


both_modes = pytest.mark.parametrize("mode", ["sync", "async"])
every_kind = pytest.mark.parametrize("kind", KINDS)


# --- what plain ccxt gives -------------------------------------------------------------------------------


@both_modes
@pytest.mark.parametrize("kind", [*KINDS, OlderCoinbase])
def test_a_proven_balance_is_what_plain_ccxt_gives(kind: type[SimulatedExchange], mode: str) -> None:
    older: dict[str, Any] = {"options": {}} if kind is OlderCoinbase else {}
    exchange = kind()
    with bot_on(exchange, mode, **older) as bot:
        safe = guard(bot.mine)
        before_markets = bot.balance_of(safe)  # without a list of markets, the balance is the same
        plain = bot.balance_of(bot.mine)
        assert plain["total"]
        assert alike(bot.balance_of(safe)) == alike(plain) == alike(before_markets)
        assert "brokerwatch" not in before_markets
        assert bot.run(safe.fetchBalance).keys() == plain.keys()
        for part in ("free", "used", "total"):
            assert bot.run(getattr(safe, f"fetch_{part}_balance")) == plain[part]
            assert bot.run(getattr(safe, f"fetch{part.title()}Balance")) == plain[part]


@both_modes
def test_amounts_are_of_the_type_that_the_owner_asked_for(mode: str) -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, mode, number=str) as bot:
        assert bot.balance_of(guard(bot.mine))["total"]["USDT"] == "5430.4400000001"


@both_modes
@pytest.mark.parametrize("fault", SILENT)
def test_plain_ccxt_calls_a_broken_answer_an_empty_account_and_the_guard_does_not(
    fault: str, mode: str
) -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, mode) as bot:
        assert bot.balance_of(bot.mine)["total"]
        exchange.set_fault(fault)
        assert bot.balance_of(bot.mine)["total"] == {}, "the reason why this exists"
        with pytest.raises(BalanceUnknown):
            bot.balance_of(guard(bot.mine))


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "drip"])
@both_modes
@every_kind
def test_no_fault_makes_an_empty_balance_or_one_without_a_mark(
    bots: dict[tuple[str, str], tuple[SimulatedExchange, Bot]],
    kind: type[SimulatedExchange],
    mode: str,
    fault: str,
) -> None:
    exchange, bot = bots[kind.ccxt_id, mode]
    blank, remembering = guard(bot.mine), guard(bot.mine, last_known=True)
    healthy = bot.balance_of(remembering)
    assert healthy["brokerwatch"]["stale"] is False
    exchange.set_fault(fault)
    bot.mine.timeout = IMPATIENT_MS if fault in ENDLESS else PATIENT_MS
    try:
        try:
            plain: Any = bot.balance_of(bot.mine)
        except Exception as error:  # noqa: BLE001 - whatever ccxt raises, its own or Python's
            plain = error
        if (exchange.ccxt_id, fault) in HARMLESS:
            assert alike(bot.balance_of(blank)) == alike(plain)
            assert plain["total"] == healthy["total"]
            return
        with pytest.raises(CouldNotAsk) as caught:
            bot.balance_of(blank)
        known = bot.balance_of(remembering)
    finally:
        exchange.mend()
        bot.mine.timeout = PATIENT_MS
    assert isinstance(caught.value, BalanceUnknown)
    assert isinstance(caught.value, ccxt.BaseError), "what a bot catches already"
    if isinstance(plain, ccxt.BaseError):
        assert isinstance(caught.value, type(plain)), (type(plain), type(caught.value).__mro__)
    lasting = {"auth": ccxt.AuthenticationError, "permission": ccxt.PermissionDenied}
    assert isinstance(caught.value, lasting.get(caught.value.kind, ccxt.NetworkError))
    assert alike(known) == alike(healthy)
    mark = known["brokerwatch"]
    assert (mark["stale"], mark["fault"], mark["error_count"]) == (True, caught.value.kind, 1)
    assert mark["as_of"] == healthy["brokerwatch"]["as_of"]
    assert mark["detail"]
    said = f"{caught.value} {mark['detail']}"
    for secret in exchange.credentials.values():
        assert not [line for line in secret.splitlines() if len(line) > 7 and line in said]


def test_a_server_that_drips_is_ended_by_the_deadline() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "async") as bot:
        exchange.set_fault("drip")
        safe = guard(bot.mine, deadline_s=0.3)
        with pytest.raises(ccxt.RequestTimeout, match=r"no answer within 0.3 s") as caught:
            bot.balance_of(safe)
        assert isinstance(caught.value, BalanceUnknown)
        assert safe.get_error_count() == 1


@every_kind
def test_a_server_that_drips_is_ended_by_ccxts_timeout_on_the_asynchronous_side(
    kind: type[SimulatedExchange],
) -> None:
    exchange = kind()
    with bot_on(exchange, "async") as bot:
        exchange.set_fault("drip")
        bot.mine.timeout = IMPATIENT_MS
        with pytest.raises(ccxt.RequestTimeout):
            bot.balance_of(guard(bot.mine))


@every_kind
def test_a_server_that_drips_gives_a_synchronous_bot_nothing_false_when_it_ends(
    kind: type[SimulatedExchange],
) -> None:
    """It holds the call for as long as it likes, which is why the page says so."""
    exchange = kind()
    with ThreadPoolExecutor(1) as pool:
        with bot_on(exchange, "sync") as bot:
            exchange.set_fault("drip")
            asked = exchange.private_calls
            waiting = pool.submit(guard(bot.mine).fetch_balance)
            look_again = threading.Event()
            while exchange.private_calls == asked:
                look_again.wait(0.01)
        error = waiting.exception(20)
    assert isinstance(error, BalanceUnknown)


# --- what is raised --------------------------------------------------------------------------------------


@both_modes
@pytest.mark.parametrize(
    ("fault", "theirs"),
    [
        ("http_502_html", ccxt.ExchangeNotAvailable),
        ("http_429", ccxt.RateLimitExceeded),
        ("http_401_html", ccxt.AuthenticationError),
        ("bad_key", ccxt.AuthenticationError),
        ("maintenance", ccxt.OnMaintenance),
        ("bad_nonce", ccxt.InvalidNonce),
        ("closed", ccxt.NetworkError),
        ("empty_body", ccxt.BadResponse),
    ],
)
def test_the_handlers_of_a_bot_go_on_working(fault: str, theirs: type[Exception], mode: str) -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, mode) as bot:
        exchange.set_fault(fault)
        with pytest.raises(theirs) as caught:
            bot.balance_of(guard(bot.mine))
        assert type(caught.value).__mro__.index(theirs) > 0
        assert isinstance(caught.value, CouldNotAsk)
        assert caught.value.fault.kind == caught.value.kind
        assert str(caught.value).startswith(f"kraken: {caught.value.kind}: ")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__, "ccxt's own text may have a secret in it"


def test_a_secret_that_cannot_sign_is_told_without_the_secret() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync", secret="not/base64!") as bot:
        with pytest.raises(ccxt.ExchangeError, match="cannot sign") as caught:
            bot.balance_of(guard(bot.mine))
        assert isinstance(caught.value, BalanceUnknown)
        assert "not/base64" not in str(caught.value)


def test_an_instance_that_its_owner_closed_stays_closed_until_he_opens_it() -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, "async") as bot:
        safe = guard(bot.mine)
        bot.balance_of(safe)
        first = bot.mine.session
        bot.run(safe.close)
        assert bot.mine.session is None
        with pytest.raises(ccxt.ExchangeClosedByUser):
            bot.balance_of(safe)

        async def opened() -> Any:
            bot.mine.open()
            return await safe.fetch_balance()

        assert bot.run(opened)["total"]
        assert bot.mine.session is not first


def test_after_a_lockout_nothing_is_sent_until_it_is_over() -> None:
    clock = ManualClock()
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock)
        assert bot.balance_of(safe)["total"]
        exchange.set_fault("locked_out")
        with pytest.raises(ccxt.DDoSProtection):
            bot.balance_of(safe)
        exchange.mend()
        asked = exchange.private_calls
        assert not safe.is_available()
        clock.advance(899.0)
        with pytest.raises(ccxt.RateLimitExceeded, match="not asked: locked out until"):
            bot.balance_of(safe)
        assert (exchange.private_calls, safe.get_error_count()) == (asked, 1)
        clock.advance(1.0)
        assert bot.balance_of(safe)["total"]
        assert safe.is_available()


# --- the last known --------------------------------------------------------------------------------------


@both_modes
def test_three_errors_in_a_row_make_it_unavailable_and_one_success_brings_it_back(mode: str) -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine)
        bot.balance_of(safe)
        exchange.set_fault("http_502_html")
        for count in (1, 2, 3):
            assert safe.is_available()
            with pytest.raises(ccxt.ExchangeNotAvailable):
                bot.balance_of(safe)
            assert safe.get_error_count() == count
        assert not safe.is_available()
        exchange.mend()
        bot.balance_of(safe)
        assert (safe.is_available(), safe.get_error_count()) == (True, 0)


@both_modes
def test_what_was_never_read_is_never_served(mode: str) -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine, last_known=True)
        exchange.set_fault("empty_body")
        assert safe.last_known() is None
        with pytest.raises(BalanceUnknown):
            bot.balance_of(safe)
        assert safe.last_known() is None


def test_a_last_known_that_is_too_old_raises() -> None:
    clock = ManualClock()
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, last_known=True, max_age_s=60, clock=clock)
        fresh = bot.balance_of(safe)
        exchange.set_fault("empty_body")
        clock.advance(60.0)
        assert bot.balance_of(safe)["brokerwatch"] == {
            "stale": True,
            "age_ms": 60_000,
            "as_of": "2027-01-15T08:00:00.000Z",
            "fault": "bad_response",
            "detail": "BadResponse: HTTP 200 OK: an empty body",
            "error_count": 1,
        }
        clock.advance(0.001)
        with pytest.raises(BalanceUnknown):
            bot.balance_of(safe)
        known = safe.last_known()
        assert known["brokerwatch"]["stale"] is True
        assert alike(known) == alike(fresh)


def test_a_last_known_is_not_changed_by_who_got_it() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, last_known=True)
        read = bot.balance_of(safe)
        as_read = alike(read)
        read["total"].clear()
        assert alike(safe.last_known()) == as_read
        exchange.set_fault("closed")
        bot.balance_of(safe)["total"].clear()
        safe.last_known()["info"].clear()
        assert alike(bot.balance_of(safe)) == as_read


def test_parts_of_a_balance_have_no_mark_so_they_are_never_the_last_known() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, last_known=True)
        bot.balance_of(safe)
        exchange.set_fault("empty_body")
        for ask in (safe.fetch_free_balance, safe.fetch_used_balance, safe.fetch_total_balance):
            with pytest.raises(BalanceUnknown):
                ask()
        with pytest.raises(BalanceUnknown):
            safe.fetch_partial_balance("free")


@both_modes
def test_each_account_of_one_key_has_a_last_known_of_its_own(mode: str) -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine, last_known=True)
        trading = bot.balance_of(safe)
        assert safe.last_known({"type": "funding"}) is None
        exchange.set_fault("closed")
        with pytest.raises(BalanceUnknown):
            bot.balance_of(safe, {"type": "funding"})
        assert alike(bot.balance_of(safe)) == alike(trading)
        exchange.mend()
        funding = bot.balance_of(safe, {"type": "funding"})
        assert alike(funding) == alike(bot.balance_of(bot.mine, {"type": "funding"}))
        assert alike(safe.last_known({"type": "funding"})) == alike(funding)
        assert alike(safe.last_known()) == alike(trading) != alike(funding)


def test_the_accounts_that_are_remembered_have_a_limit() -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine)
        for number in range(MAX_ACCOUNTS + 1):
            bot.balance_of(safe, {"number": number})
        known = [number for number in range(MAX_ACCOUNTS + 1) if safe.last_known({"number": number})]
        assert len(known) >= MAX_ACCOUNTS - 1
        assert 0 not in known


# --- empty accounts --------------------------------------------------------------------------------------


@every_kind
def test_an_account_that_suddenly_states_nothing_is_believed_when_it_stays_so(
    kind: type[SimulatedExchange],
) -> None:
    clock = ManualClock()
    exchange = kind()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock)
        assert bot.balance_of(safe)["total"]
        exchange.set_balance({})
        for _ in range(EMPTY_READS - 1):
            with pytest.raises(ccxt.BadResponse, match="no currency at all"):
                bot.balance_of(safe)
            clock.advance(EMPTY_OVER_S / (EMPTY_READS - 1))
        assert bot.balance_of(safe)["total"] == {}
        assert safe.is_available()


@every_kind
def test_what_fails_between_empty_answers_begins_their_count_again(kind: type[SimulatedExchange]) -> None:
    clock = ManualClock()
    exchange = kind()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine, clock=clock)
        bot.balance_of(safe)
        exchange.set_balance({})
        for fault in ("", "", "empty_body", "", ""):
            exchange.set_fault(fault) if fault else exchange.mend()
            clock.advance(EMPTY_OVER_S)
            with pytest.raises(BalanceUnknown):
                bot.balance_of(safe)


@every_kind
def test_an_account_that_was_always_empty_is_believed(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    exchange.set_balance({})
    with bot_on(exchange, "sync") as bot:
        assert bot.balance_of(guard(bot.mine))["total"] == {}


def test_an_account_that_kraken_never_stated_is_believed_when_it_comes_again() -> None:
    """It answers so to accounts that were never funded."""
    clock = ManualClock()
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        exchange.set_fault("empty_result")
        safe = guard(bot.mine, clock=clock)
        with pytest.raises(BalanceUnknown, match="no error and no result"):
            bot.balance_of(safe)
        clock.advance(EMPTY_OVER_S)
        assert bot.balance_of(safe)["total"] == {}


# --- in place of the instance ----------------------------------------------------------------------------


@both_modes
@every_kind
def test_the_owner_s_instance_stays_as_it_is(kind: type[SimulatedExchange], mode: str) -> None:
    exchange = kind()
    with bot_on(exchange, mode) as bot:
        bot.balance_of(bot.mine)
        passing = {"lastRestRequestTimestamp"}
        before = copy.deepcopy(bot.mine.options)

        def lasting() -> dict[str, Any]:
            return {name: value for name, value in bot.mine.__dict__.items() if name not in passing}

        kept = lasting()
        safe = guard(bot.mine)
        bot.balance_of(safe)
        assert lasting() == kept
        before.pop("lastNonce", None)
        assert {name: bot.mine.options[name] for name in before} == before
        assert "brokerwatch" not in str(bot.mine.__class__.__mro__)
        assert bot.balance_of(bot.mine)["total"]


@both_modes
def test_everything_else_goes_to_the_owner_s_instance(mode: str) -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine)
        assert isinstance(safe, ccxt.Exchange if mode == "sync" else ccxt_async.Exchange)
        assert safe.id == "kraken"
        assert safe.create_order == bot.mine.create_order
        assert "fetch_ticker" in dir(safe)
        assert "is_available" in dir(safe)
        assert repr(safe) == f"brokerwatch.guard({bot.mine!r})"
        safe.timeout = 1_234
        safe.tag = "mine"
        assert (bot.mine.timeout, bot.mine.tag) == (1_234, "mine")
        del safe.tag
        assert not hasattr(bot.mine, "tag")
        with pytest.raises(AttributeError):
            _ = safe.no_such_thing
        assert inspect.iscoroutinefunction(safe.fetch_balance) is (mode == "async")
        with pytest.raises(TypeError, match="not copied"):
            copy.copy(safe)
        assert bot.run(safe.load_markets) is bot.mine.markets


def test_a_block_closes_the_owner_s_instance_as_it_did_before() -> None:
    exchange = SimulatedOkx()

    async def story() -> None:
        async with guard(ccxt_async.okx(config(exchange))) as safe:
            assert (await safe.fetch_balance())["total"]
        assert safe.session is None

    with serve(exchange):
        asyncio.run(story())


@both_modes
def test_credentials_that_change_are_the_new_ones(mode: str) -> None:
    exchange = SimulatedKraken()
    second = exchange.add_account(balance={"USD": ("7", "0")})
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine)
        bot.balance_of(safe)
        safe.apiKey, safe.secret = second["api_key"], second["secret"]
        assert bot.balance_of(safe)["total"] == {"USD": 7.0}


@both_modes
def test_a_subclass_of_the_trader_s_own_is_asked_by_its_own_method(mode: str) -> None:
    exchange = SimulatedOkx()
    library: Any = ccxt if mode == "sync" else ccxt_async

    def parsed(mine: Any, kind: object, response: Any) -> Any:
        return {**library.okx.parse_balance_by_type(mine, kind, response), "by": mine.tag}

    Mine: Any = type("Mine", (library.okx,), {"parse_balance_by_type": parsed, "tag": "mine"})  # noqa: N806 - a class

    with bot_on(exchange, mode) as bot:
        mine = Mine(config(exchange))
        bot.run(bot.mine.load_markets)
        try:
            safe = guard(mine)
            assert bot.balance_of(safe)["by"] == "mine"
            exchange.set_fault("html_200")
            with pytest.raises(BalanceUnknown):
                bot.balance_of(safe)
        finally:
            if mode == "async":
                bot.run(mine.close)


@pytest.mark.parametrize("swallows", ["all", "some"])
def test_a_subclass_that_swallows_what_went_wrong_is_not_believed(swallows: str) -> None:
    exchange = SimulatedOkx()

    def hopeful(mine: Any, params: Any = {}) -> Any:  # noqa: B006 - ccxt's own signature
        if swallows == "some":
            mine.privateGetAccountBalance(params)
        try:
            return {**ccxt.okx.fetch_balance(mine, params), "total": {}}
        except ccxt.BaseError:
            return {"total": {}, "free": {}, "used": {}, "info": {}}

    Hopeful: Any = type("Hopeful", (ccxt.okx,), {"fetch_balance": hopeful})  # noqa: N806 - a class

    with serve(exchange):
        mine = Hopeful(config(exchange))
        mine.load_markets()
        if swallows == "all":
            exchange.set_fault("empty_body")
        with pytest.raises(BalanceUnknown, match=r"no currency|has none"):
            guard(mine).fetch_balance()


def test_calls_of_the_owner_and_of_the_guard_at_once_share_one_rising_nonce() -> None:
    """Kraken refuses a nonce that does not rise, and both take theirs from the clock's milliseconds."""
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine)
        bot.mine.load_markets()
        bot.mine.milliseconds = lambda: 1_800_000_000_000  # a clock that stands still
        for _ in range(5):
            assert bot.balance_of(safe)["total"]
            assert bot.balance_of(bot.mine)["total"]


def test_tasks_that_ask_at_once_each_get_their_answer() -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, "async") as bot:
        safe = guard(bot.mine)

        async def many() -> list[Any]:
            return await asyncio.gather(*(safe.fetch_balance() for _ in range(20)))

        assert len({alike(found) for found in bot.run(many)}) == 1


def test_threads_that_ask_at_once_each_get_their_answer() -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, "sync") as bot, ThreadPoolExecutor(4) as pool:
        safe = guard(bot.mine)
        asked = [pool.submit(safe.fetch_balance) for _ in range(20)]
        assert len({alike(one.result()) for one in asked}) == 1


def test_a_call_that_is_cancelled_is_no_outcome() -> None:
    exchange = SimulatedOkx()
    with bot_on(exchange, "async") as bot:
        safe = guard(bot.mine)
        exchange.set_fault("hang")

        async def given_up() -> None:
            asked = exchange.private_calls
            task = asyncio.create_task(safe.fetch_balance())
            while exchange.private_calls == asked:  # noqa: ASYNC110 - the exchange is on another thread
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        bot.run(given_up)
        assert (safe.get_error_count(), safe.is_available()) == (0, True)


@both_modes
def test_the_owner_s_rate_limit_is_waited_for(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, mode, enableRateLimit=True) as bot:
        waited: list[Any] = []

        async def nothing() -> None:
            return

        def throttle(who: Any, cost: Any = None) -> Any:
            del cost
            waited.append(who)
            return nothing() if mode == "async" else None

        monkeypatch.setattr(bot.mine.__class__, "throttle", throttle)
        bot.balance_of(guard(bot.mine))
        assert waited == [bot.mine]
        stamped = bot.mine.lastRestRequestTimestamp
        assert stamped > 0
        bot.mine.enableRateLimit = False
        bot.balance_of(guard(bot.mine))
        assert len(waited) == 1
        assert bot.mine.lastRestRequestTimestamp >= stamped


def test_an_answer_that_comes_late_replaces_no_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, clock = SimulatedKraken(), ManualClock()
    exchange.set_balance({"USD": ("1", "0")})
    with bot_on(exchange, "async") as bot:
        safe = guard(bot.mine, clock=clock)
        plain = bot.mine.__class__.fetch_balance

        async def story() -> list[Any]:
            arrived, released = asyncio.Event(), asyncio.Event()

            async def late(who: Any, params: Any) -> Any:
                found = await plain(who, params)
                arrived.set()
                await released.wait()
                return found

            monkeypatch.setattr(bot.mine.__class__, "fetch_balance", late)
            first = asyncio.create_task(safe.fetch_balance())
            await arrived.wait()
            monkeypatch.setattr(bot.mine.__class__, "fetch_balance", plain)
            exchange.set_balance({"USD": ("2", "0")})
            clock.advance(1.0)
            second = await safe.fetch_balance()
            released.set()
            return [await first, second, safe.last_known()]

        assert [found["total"] for found in bot.run(story)] == [{"USD": 1.0}, {"USD": 2.0}, {"USD": 2.0}]


# --- other servers ---------------------------------------------------------------------------------------


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers each path with what the test gave it, and keeps what was asked."""

    pages: ClassVar[dict[str, tuple[int, dict[str, str], str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        type(self).asked.append(path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, text = self.pages.get(path, (404, {}, "{}"))
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(text.encode())),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET  # noqa: N815 - http.server finds it by this name

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stranger() -> Generator[str]:
    Stranger.pages, Stranger.asked = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


BITSO_BOOK: Final[Mapping[str, Any]] = {
    "book": "btc_mxn",
    "minimum_price": "500",
    "maximum_price": "10000000",
    "minimum_amount": "0.00005",
    "maximum_amount": "500",
    "minimum_value": "5",
    "maximum_value": "10000000",
    "tick_size": "0.01",
    "fees": {"flat_rate": {"maker": "0.500", "taker": "0.650"}, "structure": []},
}


def bitso_says(balances: list[dict[str, str]]) -> None:
    def page(payload: object) -> tuple[int, dict[str, str], str]:
        return 200, {}, json.dumps({"success": True, "payload": payload})

    Stranger.pages = {
        "/v3/available_books": page([dict(BITSO_BOOK)]),
        "/v3/catalogues": page({"currencies": []}),
        "/v3/balance": page({"balances": balances}),
    }


def bitso(url: str, mode: str) -> Any:
    library: Any = ccxt if mode == "sync" else ccxt_async
    return library.bitso(
        {"apiKey": "k" * 10, "secret": "s" * 10, "urls": {"api": {"rest": url}}, "enableRateLimit": False}
    )


@both_modes
def test_an_exchange_whose_envelope_we_do_not_know_is_believed_where_it_names_a_currency(mode: str) -> None:
    with stranger() as url, asyncio.Runner() as runner:
        mine, plain = bitso(url, mode), bitso(url, mode)

        def ask(which: Any) -> Any:
            async def asked() -> Any:
                return await which.fetch_balance()

            return runner.run(asked()) if mode == "async" else which.fetch_balance()

        try:
            safe = guard(mine)
            bitso_says([{"currency": "btc", "available": "0.5", "locked": "0.25", "total": "0.75"}])
            Stranger.pages["/v3/available_books"] = 200, {}, '{"success": true, "payload": []}'
            with pytest.raises(ccxt.BadResponse, match="list of markets is empty"):
                ask(safe)
            bitso_says([{"currency": "btc", "available": "0.5", "locked": "0.25", "total": "0.75"}])
            assert ask(safe) == ask(plain)
            assert ask(safe)["total"] == {"BTC": 0.75}
            books = Stranger.asked.count("/v3/available_books")
            ask(safe)
            assert Stranger.asked.count("/v3/available_books") == books, "they are loaded once"
            assert mine.markets is None
            twice = Stranger.pages["/v3/balance"][2].removesuffix("}") + ', "success": true}'
            for broken in (
                twice,
                '{"success": true}',
                '{"success": true, "payload": {}}',
                "",
                "<html>",
                '{"succ',
            ):
                Stranger.pages["/v3/balance"] = 200, {}, broken
                with pytest.raises(BalanceUnknown):
                    ask(safe)
            bitso_says([])
            assert ask(plain)["total"] == {}
            with pytest.raises(ccxt.BadResponse, match="cannot be told from a broken answer"):
                ask(safe)
            bitso_says([{"currency": "btc", "available": "x", "locked": "0", "total": "1"}])
            with pytest.raises(BalanceUnknown):
                ask(safe)
        finally:
            if mode == "async":
                for one in (mine, plain):
                    runner.run(one.close())


@both_modes
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(mode: str, status: int) -> None:
    """It would carry key and signature to a stranger, whose answer would be believed."""
    exchange = SimulatedKraken()
    with stranger() as url, bot_on(exchange, mode) as bot:
        bot.balance_of(bot.mine)
        Stranger.pages = {
            "/0/private/BalanceEx": (status, {"Location": "/elsewhere"}, ""),
            "/elsewhere": (200, {}, '{"error": [], "result": {"ZUSD": {"balance": "1", "hold_trade": "0"}}}'),
        }
        bot.mine.urls["api"] = {"public": url, "private": url}
        with pytest.raises(BalanceUnknown, match=f"HTTP {status}"):
            bot.balance_of(guard(bot.mine))
        assert Stranger.asked == ["/0/private/BalanceEx"]


def test_no_redirect_is_followed_through_a_socks_proxy_either(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = SimulatedKraken()
    with stranger() as url, bot_on(exchange, "async") as bot:
        Stranger.pages = {"/0/private/BalanceEx": (307, {"Location": "/elsewhere"}, "")}
        bot.mine.urls["api"] = {"public": url, "private": url}
        bot.mine.socksProxy = "socks5://127.0.0.1:1"
        asked: list[tuple[Any, str]] = []

        def session(who: Any, proxy: str) -> Any:
            asked.append((who, proxy))
            return who.session

        monkeypatch.setattr(bot.mine.__class__, "get_socks_proxy_session", session)
        with pytest.raises(BalanceUnknown, match="HTTP 307"):
            bot.balance_of(guard(bot.mine))
        assert asked == [(bot.mine, "socks5://127.0.0.1:1")], "who made it closes it"
        assert Stranger.asked == ["/0/private/BalanceEx"]


def test_markets_that_the_owner_is_loading_are_not_waited_for() -> None:
    """They would come to his instance, and not to ours."""

    async def story(url: str) -> None:
        async with bitso(url, "async") as mine:
            bitso_says([{"currency": "btc", "available": "0.5", "locked": "0.25", "total": "0.75"}])
            loading = asyncio.create_task(mine.load_markets())
            await asyncio.sleep(0)
            assert mine.markets_loading is not None
            assert (await guard(mine).fetch_balance())["total"] == {"BTC": 0.75}
            await loading

    with stranger() as url:
        asyncio.run(story(url))


def test_two_assets_of_one_code_are_refused_where_ccxt_would_keep_one() -> None:
    exchange = SimulatedKraken()
    with stranger() as url, bot_on(exchange, "sync") as bot:
        row = {"balance": "5", "hold_trade": "0"}
        answer: dict[str, Any] = {"error": [], "result": {"ZUSD": row, "USD": {**row, "balance": "0"}}}
        Stranger.pages = {"/0/private/BalanceEx": (200, {}, json.dumps(answer))}
        bot.mine.urls["api"] = {"public": url, "private": url}
        with pytest.raises(BalanceUnknown, match="two assets of one code"):
            guard(bot.mine).fetch_balance()


def test_an_account_that_ccxt_leaves_out_is_missed() -> None:
    """Older answers of Coinbase have no type; ccxt passes over such an account and says nothing."""
    exchange = SimulatedCoinbase()
    account = {
        "uuid": "1",
        "currency": "USD",
        "available_balance": {"value": "5", "currency": "USD"},
        "hold": {"value": "1", "currency": "USD"},
    }
    with stranger() as url, bot_on(exchange, "sync") as bot:
        answer = {"accounts": [account], "has_next": False, "cursor": ""}
        Stranger.pages = {"/api/v3/brokerage/accounts": (200, {}, json.dumps(answer))}
        bot.mine.urls["api"]["rest"] = url
        with pytest.raises(BalanceUnknown, match="ccxt reads None USD, and the exchange states 6"):
            guard(bot.mine).fetch_balance()


# --- Coinbase's pages ------------------------------------------------------------------------------------


@both_modes
def test_all_pages_are_read_and_who_pages_himself_may(mode: str) -> None:
    exchange = SimulatedCoinbase()
    exchange.page_size = 2
    with bot_on(exchange, mode) as bot:
        safe = guard(bot.mine)
        whole = bot.balance_of(safe)
        assert len(whole["total"]) == 5
        assert alike(whole) == alike(bot.balance_of(bot.mine))
        page = bot.balance_of(safe, {"cursor": "Mg"})
        assert len(page["total"]) == 2


def test_pages_that_ccxt_does_not_read_are_missed() -> None:
    exchange = SimulatedCoinbase()
    account = {
        "uuid": "1",
        "currency": "USD",
        "type": "ACCOUNT_TYPE_FIAT",
        "available_balance": {"value": "5", "currency": "USD"},
        "hold": {"value": "1", "currency": "USD"},
    }
    with stranger() as url, bot_on(exchange, "sync") as bot:
        bot.mine.urls["api"]["rest"] = url

        def states(**page: Any) -> None:
            answer = json.dumps({"accounts": [account], **page})
            Stranger.pages = {"/api/v3/brokerage/accounts": (200, {}, answer)}

        states(has_next=False, cursor="")
        assert guard(bot.mine).fetch_balance()["total"] == {"USD": 6.0}
        states(has_next=True, cursor="")
        with pytest.raises(BalanceUnknown, match="cursor of the next page"):
            guard(bot.mine).fetch_balance()
        states(has_next=True, cursor="again")
        with pytest.raises(BalanceUnknown, match="comes twice"):
            guard(bot.mine).fetch_balance()
        account["uuid"] = ""  # nothing shows that it comes twice; ccxt stops, since the cursor does not move
        states(has_next=True, cursor="again")
        with pytest.raises(BalanceUnknown, match="stopped before the last page"):
            guard(bot.mine).fetch_balance()


def test_pages_that_never_end_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = importlib.import_module("brokerwatch.dropin.lent_instance")
    monkeypatch.setattr(module, "MAX_REQUESTS", 4)
    exchange = SimulatedCoinbase()
    exchange.page_size = 1
    with bot_on(exchange, "sync") as bot:
        with pytest.raises(BalanceUnknown, match="does not end after 4 requests"):
            guard(bot.mine).fetch_balance()
        monkeypatch.setattr(module, "MAX_REQUESTS", 5)
        assert len(guard(bot.mine).fetch_balance()["total"]) == 5


def test_a_subclass_may_read_its_pages_twice() -> None:
    exchange = SimulatedCoinbase()
    exchange.page_size = 2

    def twice(mine: Any, params: Any = {}) -> Any:  # noqa: B006 - ccxt's own signature
        ccxt.coinbase.fetch_balance(mine, params)
        return ccxt.coinbase.fetch_balance(mine, params)

    Twice: Any = type("Twice", (ccxt.coinbase,), {"fetch_balance": twice})  # noqa: N806 - a class
    with serve(exchange):
        assert len(guard(Twice(config(exchange))).fetch_balance()["total"]) == 5


@both_modes
@pytest.mark.parametrize("fault", ["", "empty_body", "empty_result", "missing_amount", "text_amount"])
def test_the_older_list_of_coinbase_is_proven_too(mode: str, fault: str) -> None:
    exchange = OlderCoinbase()
    with bot_on(exchange, mode, options={}) as bot:
        safe = guard(bot.mine)
        if fault:
            exchange.set_fault(fault)
        else:
            assert bot.balance_of(safe)["total"]["BTC"] == 0.115, "without what is on hold"
            exchange.next_uri = "/v2/accounts?starting_after=1"
        with pytest.raises(BalanceUnknown) as caught:
            bot.balance_of(safe)
        if not fault:
            assert "v3PrivateGetBrokerageAccounts" in str(caught.value)
            assert bot.balance_of(safe, {"v3": True})["total"]["BTC"] == 0.125


NO_OLDER_LISTS: Final[list[Any]] = [
    None,
    [],
    {},
    {"data": []},
    {"data": [], "pagination": None},
    {"data": [], "pagination": {}},
    {"data": {}, "pagination": {"next_uri": None}},
    {"data": [], "pagination": {"next_uri": None}, "errors": [{"id": "x"}]},
    {"data": [[]], "pagination": {"next_uri": None}},
    {"data": [{"type": "wallet"}], "pagination": {"next_uri": None}},
    *(
        {
            "data": [{"type": kind, "balance": {"amount": stated, "currency": "BTC"}}],
            "pagination": {"next_uri": None},
        }
        for kind, stated in [("wallet", "x"), ("wallet", "NaN"), ("wallet", None), ("new", "1"), (1, "1")]
    ),
]


@pytest.mark.parametrize("answer", NO_OLDER_LISTS)
def test_what_the_older_list_does_not_state_is_no_proof(answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        older_holdings(answer, str)


def test_the_older_list_adds_up_wallets_of_one_currency_and_leaves_vaults_out() -> None:
    rows = [
        {"type": kind, "balance": {"amount": stated, "currency": "BTC"}}
        for kind, stated in [("wallet", "0.1"), ("fiat", "0.2"), ("vault", "5")]
    ]
    found = older_holdings({"data": rows, "pagination": {"next_uri": ""}}, str)
    assert {code: str(held.total) for code, held in found.items()} == {"BTC": "0.3"}


# --- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instance", "options", "said"),
    [
        ("kraken", {}, "expected a ccxt instance, not str"),
        (object(), {}, "expected a ccxt instance, not object"),
        (ccxt.kraken(), {"deadline_s": 5}, "a synchronous call cannot be ended"),
        (ccxt.kraken(), {"max_age_s": 0}, "guard.max_age_s: expected seconds above 0, not 0"),
        (ccxt.kraken(), {"max_age_s": float("nan")}, "not nan"),
        (ccxt_async.kraken(), {"deadline_s": -1}, "guard.deadline_s: expected seconds above 0, not -1"),
        (ccxt.kraken(), {"max_consecutive_errors": 0}, "max_consecutive_errors"),
        (guard(ccxt.kraken()), {}, "not one that is guarded already"),
    ],
)
def test_what_cannot_be_guarded_is_a_clear_error(instance: Any, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        guard(instance, **options)


# --- the page --------------------------------------------------------------------------------------------


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def block_with(word: str) -> dict[str, Any]:
    """What the one block with this word defines, run as it stands."""
    (code,) = [block for block in blocks() if word in block]
    found: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), found)
    return found


def test_every_block_of_the_page_is_run_here() -> None:
    tested = ("def build_bot", "def cash", "def with_memory", "def show")
    assert [next(word for word in tested if word in block) for block in blocks()] == list(tested)


def test_the_page_s_first_lines_guard_a_bot() -> None:
    exchange = SimulatedKraken()
    with bot_on(exchange, "sync") as bot:
        safe = block_with("def build_bot")["build_bot"](bot.mine)
        assert safe.fetch_balance()["free"]
        exchange.set_fault("html_200")
        with pytest.raises(BalanceUnknown):
            safe.fetch_balance()


@every_kind
def test_the_page_s_handlers_do_what_they_say(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    exchange.set_balance({"USD": ("12.5", "2.5")})
    page = block_with("def cash")
    with bot_on(exchange, "sync") as bot:
        safe = guard(bot.mine)
        assert (page["cash"](safe), page["cash"](safe, "EUR")) == (12.5, 0.0)
        assert page["explain"](safe) == ("ok", "")
        exchange.set_fault("empty_body")
        assert page["cash"](safe) is None
        assert page["explain"](safe)[0] == "bad_response"
        exchange.set_fault("bad_key")
        with pytest.raises(ccxt.AuthenticationError):
            page["cash"](safe)
        assert page["explain"](safe)[0] == "auth"


def test_the_page_s_loop_survives_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    exchange = SimulatedOkx()
    page = block_with("def with_memory")
    with bot_on(exchange, "async") as bot:
        safe = page["with_memory"](bot.mine)
        healthy = bot.run(lambda: page["look"](safe))
        assert capsys.readouterr().out == ""
        exchange.set_fault("http_502_html")
        assert alike(bot.run(lambda: page["look"](safe))) == alike(healthy)
        bot.run(lambda: page["loop"](safe, 2, 0))
        said = capsys.readouterr().out.splitlines()
        assert [line.partition(": ")[2] for line in said[:3]] == [
            f"exchange_down, {count} in a row" for count in (1, 2, 3)
        ]
        assert said[3:] == ["no new orders on okx"]


def test_the_page_s_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    block_with("def show")["show"]()
    printed = "".join(f"    {line}\n" for line in capsys.readouterr().out.splitlines())
    assert PAGE.read_text(encoding="utf-8").endswith("\n\n" + printed)
