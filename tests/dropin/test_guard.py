"""The drop-in: plain ccxt's own balance where it is proven, and never an empty one where it is not."""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.dropin.guard import guard
from brokerwatch.errors import BalanceUnknown, CouldNotAsk
from brokerwatch.simulator import (
    FAULTS,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from tests.support.guarded_bots import (
    KINDS,
    PATIENT_MS,
    Bot,
    OlderCoinbase,
    Stranger,
    alike,
    bitso,
    bitso_says,
    bot_on,
    both_modes,
    ccxt,
    ccxt_async,
    config,
    every_kind,
    stranger,
)
from tests.support.pro_bots import guarded

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "ccxt-bot.md"
IMPATIENT_MS: Final = 100
ENDLESS: Final = ("hang", "stalled", "stalled_body", "drip")
HARMLESS: Final = {("coinbase", "warning_beside_result")}
"""Faults after which the answer still proves the balance."""
SILENT: Final = ("empty_body", "null_body", "html_200", "cut_json", "redirect")
"""Faults of which plain ccxt says nothing."""


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
    tested = ("def build_bot", "def cash", "def with_memory", "def watch", "def follow", "def show")
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


def test_the_page_s_watching_bot_goes_on_through_an_outage() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("100", "0")})
    watch = block_with("def watch")["watch"]

    async def story() -> list[float]:
        seen: list[float] = []

        async def act(balance: dict[str, Any]) -> None:
            seen.append(balance["total"]["USD"])
            exchange.set_fault("html_200", 1, path="/0/private/BalanceEx")
            exchange.set_balance({"USD": ("60", "0")})

        async with guarded(exchange) as safe:
            await watch(safe, act, 3)
        return seen

    with serve(exchange):
        assert asyncio.run(story()) == [100.0, 60.0]


def test_the_page_s_bot_for_orders_follows_one_through_an_outage() -> None:
    exchange = SimulatedKraken()
    exchange.set_balance({"USD": ("1000", "0")})
    follow = block_with("def follow")["follow"]

    async def story() -> list[str]:
        seen: list[str] = []

        async def act(order: dict[str, Any]) -> None:
            seen.append(order["status"])
            exchange.set_fault("html_200", 1, path="/0/private/QueryOrders")
            exchange.fill_open_orders()

        exchange.rest("BTC/USD", "buy", "0.01", "1000")
        async with guarded(exchange) as safe:
            await follow(safe, act, 3)
        return seen

    with serve(exchange):
        assert asyncio.run(story()) == ["open", "closed"]


def test_the_page_s_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    block_with("def show")["show"]()
    printed = "".join(f"    {line}\n" for line in capsys.readouterr().out.splitlines())
    assert PAGE.read_text(encoding="utf-8").endswith("\n\n" + printed)
