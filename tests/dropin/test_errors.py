"""What a guarded instance raises: ours and the class of ccxt that a bot handles."""

from __future__ import annotations

import re
from typing import Any

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.dropin.guard import guard
from brokerwatch.errors import BalanceUnknown, ConfigError, CouldNotAsk
from brokerwatch.simulator import (
    SimulatedKraken,
    SimulatedOkx,
)
from tests.support.guarded_bots import bot_on, both_modes, ccxt, ccxt_async

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
