"""Another API key of an account that is watched: verified first, and the old one used until then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from brokerwatch.cluster import key_changes, rotation
from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.reloaded import Reloaded
from brokerwatch.config.broker_spec import BrokerSpec, Origin
from brokerwatch.config.policy import GUARDED
from brokerwatch.errors import BalanceUnknown, EarlierOrderUnknown, OrderStateUnknown
from brokerwatch.messages import HealthState, OrderState, Reason
from brokerwatch.simulator import (
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from tests.support.clusters import ONLY_WHEN_ASKED, PATIENCE_S, cluster_of, simulated_spec, until
from tests.support.desks import FIFTY, LOOKUP_PATHS, ORDER_PATHS, SYMBOLS, rich

STATING: Final = (SimulatedCoinbase, SimulatedOkx)
ALL: Final = (SimulatedKraken, *STATING)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key is confirmed soon. A reload waits for a new key as long as it takes."""
    monkeypatch.setattr(key_changes, "KEYS_S", PATIENCE_S)
    monkeypatch.setattr(rotation, "CONFIRM_S", 0.1)


@pytest.fixture
def _waits_in_vain(monkeypatch: pytest.MonkeyPatch, no_long_waits: None) -> None:
    """A reload goes on soon where the new key is not verified."""
    monkeypatch.setattr(key_changes, "KEYS_S", 1.5)


class Desk:
    """An account that is watched, and its exchange."""

    def __init__(self, exchange: SimulatedExchange, cluster: Cluster, spec: BrokerSpec) -> None:
        self.exchange, self.cluster, self.spec = exchange, cluster, spec
        self.broker = cluster.broker(spec.name)
        self.symbol = SYMBOLS[exchange.ccxt_id]
        self.lost: list[str] = []
        cluster.router.on_change(
            lambda change: self.lost.append(change.after.reason) if change.lost else None
        )

    def takes(self, credentials: Mapping[str, str], *, force_key: bool = False, **values: Any) -> str:
        """Reload with this key; what became of it, in words."""
        self.spec = replace(self.spec, credentials=MappingProxyType(dict(credentials)), **values)
        return self.reloads(force_key=force_key).keys.get(self.spec.name, "")

    def reloads(self, *, force_key: bool = False) -> Reloaded:
        settings = self.cluster._members.configured  # pyright: ignore[reportPrivateUsage] - what holds
        return self.cluster.reload(replace(settings, brokers=(self.spec,)), force_key=force_key)

    @property
    def key(self) -> str:
        """The API key that is used."""
        return requests_of(self.broker).spec.credentials["api_key"]

    def answers(self) -> bool:
        """Ask once: whether the account is known and available."""
        with contextlib.suppress(BalanceUnknown):
            return self.broker.get_account_balance() > 0 and self.broker.is_available()
        return False

    def buys(self, **values: Any) -> Any:
        chosen: dict[str, Any] = {"quote_amount": FIFTY, "validate_only": False, **values}
        return self.broker.place_market_order(self.symbol, "buy", **chosen)


@contextmanager
def desk(kind: type[SimulatedExchange], state: Path | None = None, **values: Any) -> Generator[Desk]:
    exchange = kind()
    rich(exchange)
    kept: dict[str, Any] = {} if state is None else {"state": str(state)}
    with serve(exchange):
        chosen: dict[str, Any] = {"trading": True, "policy": "simple", "fetch_deadline_s": 2.0, **values}
        spec = simulated_spec(exchange, **chosen)
        with cluster_of(spec, status_interval_s=float("inf"), **kept) as cluster:
            found = Desk(exchange, cluster, spec)
            until(lambda: found.answers() and found.broker.reading().error_count == 0)
            yield found


# --- verified first -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STATING)
def test_a_new_key_of_the_same_account_is_taken_over_without_a_gap(kind: type[SimulatedExchange]) -> None:
    with desk(kind) as found:
        cash, epoch = found.broker.reading().cash, found.broker.reading().broker_epoch
        new = found.exchange.add_key()
        words = found.takes(new)
        assert "was verified and is used, and the old one was dropped" in words
        assert "of the same account, as the exchange states" in words
        assert found.key == new["api_key"]
        assert (found.broker.reading().cash, found.broker.reading().broker_epoch) == (cash, epoch)
        assert found.broker.is_available()
        assert found.lost == []
        old = found.exchange.credentials["api_key"]
        found.exchange.remove_key(old)
        assert found.broker.get_account_balance() == cash
        assert found.broker.reading().error_count == 0
        assert found.buys().state is OrderState.ACCEPTED
        assert found.exchange.private_calls_of(new["api_key"]) > 0


@pytest.mark.parametrize("kind", ALL)
def test_a_key_that_is_refused_changes_nothing(kind: type[SimulatedExchange]) -> None:
    with desk(kind) as found:
        old = found.exchange.credentials["api_key"]
        wrong = found.exchange.add_key()
        found.exchange.remove_key(wrong["api_key"])
        words = found.takes(wrong)
        assert "was refused, and the old one stays: auth" in words
        assert wrong["secret"] not in words
        assert found.key == old
        assert found.broker.is_available()
        assert found.broker.get_account_balance() > 0
        assert found.lost == []


@pytest.mark.usefixtures("_waits_in_vain")
@pytest.mark.parametrize("kind", ALL)
def test_a_key_that_cannot_be_verified_in_an_outage_waits_and_holds_up_nothing(
    kind: type[SimulatedExchange],
) -> None:
    with desk(kind, policy="guarded", rules=GUARDED) as found:
        old = found.exchange.credentials["api_key"]
        new = found.exchange.add_key()
        found.exchange.set_fault("http_502_html", account=new["api_key"])
        words = found.takes(new, labels={"desk": "x"}, same_account=kind is SimulatedKraken)
        assert "not taken yet: the new API key is not verified, and the old one is used until it is" in words
        assert found.broker.reading().labels == {"desk": "x"}, "all else holds at once"
        assert found.key == old
        assert found.broker.get_account_balance() > 0
        found.exchange.mend()
        found.reloads()  # the same key: it is tried again at once
        until(lambda: found.key == new["api_key"])
        assert found.broker.is_available()
        assert found.lost == []


@pytest.mark.usefixtures("_waits_in_vain")
def test_a_key_that_is_not_wanted_any_more_is_given_up() -> None:
    with desk(SimulatedKraken) as found:
        old = found.spec
        new = found.exchange.add_key()
        found.exchange.set_fault("http_502_html", account=new["api_key"])
        assert "not taken yet" in found.takes(new, same_account=True)
        found.cluster.replace(replace(found.spec, labels={"x": "y"}, credentials=old.credentials))
        found.exchange.mend()
        assert found.key == old.credentials["api_key"]
        until(lambda: "brokerwatch-key" not in str(threading.enumerate()))
        assert found.key == old.credentials["api_key"]


@pytest.mark.parametrize("kind", STATING)
def test_a_key_of_another_account_starts_with_nothing_known_or_is_not_taken(
    kind: type[SimulatedExchange],
) -> None:
    with desk(kind) as found:
        old = found.key
        other = found.exchange.add_account(balance={"USD": ("7", "0"), "USDT": ("0", "0")})
        words = found.takes(other, same_account=True)
        assert "of another account, although `same_account = true` says otherwise" in words
        assert found.key == old
        words = found.takes(other, same_account=False)
        assert "the exchange states another account for it" in words
        assert found.broker.get_account_balance() == 7


@pytest.mark.parametrize("kind", STATING)
def test_a_key_that_may_not_trade_is_not_taken_where_orders_go_out(kind: type[SimulatedExchange]) -> None:
    with desk(kind) as found:
        old = found.key
        assert "may not trade" in found.takes(found.exchange.add_key(permissions=("query",)))
        assert found.key == old


def test_where_the_exchange_does_not_say_whose_a_key_is_the_operator_may() -> None:
    with desk(SimulatedKraken) as found:
        cash = found.broker.reading().cash
        words = found.takes(found.exchange.add_key(), same_account=True)
        assert words.endswith("it is of the same account")
        assert (found.lost, found.broker.reading().cash) == ([], cash)
        found.exchange.set_balance({"USD": ("11", "0")})
        words = found.takes(found.exchange.add_key(), same_account=False)
        assert "starts with nothing known" in words
        assert found.broker.reading().cash == 11, "what the new key has read is known"
        assert found.broker.is_available()


@pytest.mark.parametrize("kind", ALL)
def test_a_key_that_was_refused_for_good_is_replaced_by_one_that_works(kind: type[SimulatedExchange]) -> None:
    with desk(kind, policy="guarded", rules=replace(GUARDED, auth_probes_s=())) as found:
        new = found.exchange.add_key()
        found.exchange.remove_key(found.key)
        found.broker.get_account_balance()
        assert found.broker.reading().reason is Reason.AUTH
        assert "was verified and is used" in found.takes(new, same_account=True)
        until(found.answers)


def test_another_secret_of_the_same_key_is_taken_over_on_the_same_lane() -> None:
    with desk(SimulatedOkx) as found:
        lane = requests_of(found.broker).account().access.lane
        exchange = found.exchange
        new = {**exchange.credentials, "password": "another passphrase"}
        assert "refused" in found.takes(new)
        exchange.add_account(new, balance={"USDT": ("5", "0")})
        assert "was verified and is used" in found.takes(new)
        assert requests_of(found.broker).account().access.lane is lane
        assert found.broker.is_available()


# --- dropped at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_a_key_that_leaked_is_dropped_at_once(kind: type[SimulatedExchange]) -> None:
    with desk(kind) as found:
        old, new = found.key, found.exchange.add_key()
        found.exchange.set_fault("http_502_html", account=new["api_key"])
        calls = found.exchange.private_calls_of(old)
        words = found.takes(new, force_key=True)
        assert "unverified, and the old one was dropped at once" in words
        assert found.key == new["api_key"]
        until(lambda: found.broker.reading().state is HealthState.UNKNOWN)
        assert not found.broker.is_available()
        found.exchange.mend()
        until(found.answers)
        assert found.exchange.private_calls_of(old) == calls, "not one call with it any more"


# --- orders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_an_order_whose_answer_was_lost_is_looked_up_with_the_new_key(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    with desk(kind, tmp_path, fetch_deadline_s=1.0) as found:
        name, old = found.exchange.ccxt_id, found.key
        found.exchange.set_fault("reset", path=ORDER_PATHS[name], executed=True, times=1)
        for path in LOOKUP_PATHS[name]:
            found.exchange.set_fault("http_502_html", path=path)
        with pytest.raises(OrderStateUnknown) as lost:
            found.buys()
        new = found.exchange.add_key()
        assert "is used" in found.takes(new, same_account=True)
        found.exchange.remove_key(old)
        with pytest.raises(EarlierOrderUnknown):
            found.buys()
        found.exchange.mend()
        order = found.broker.find_order(found.symbol, lost.value.client_order_id)
        assert order is not None
        assert found.exchange.placed_orders == 1
        until(lambda: not requests_of(found.broker).account().executor.unaccounted)
        found.buys()
        assert found.exchange.placed_orders == 2


def test_an_unknown_order_of_a_key_that_may_be_of_another_account_holds_up_entries() -> None:
    with desk(SimulatedKraken, fetch_deadline_s=1.0) as found:
        found.exchange.set_fault("reset", path=ORDER_PATHS["kraken"], executed=True, times=1)
        for path in LOOKUP_PATHS["kraken"]:
            found.exchange.set_fault("http_502_html", path=path)
        with pytest.raises(OrderStateUnknown):
            found.buys()
        new = found.exchange.add_key()
        assert "starts with nothing known" in found.takes(new)
        with pytest.raises(EarlierOrderUnknown, match="sent with another API key"):
            found.buys()
        found.exchange.mend()  # the old key looks it up, behind all other calls
        until(lambda: not requests_of(found.broker).account().executor.unaccounted)
        found.buys()
        assert found.exchange.placed_orders == 2


def test_an_order_of_the_key_before_is_known_after_a_restart_too(tmp_path: Path) -> None:
    with desk(SimulatedKraken, tmp_path, fetch_deadline_s=1.0) as found:
        found.exchange.set_fault("reset", path=ORDER_PATHS["kraken"], executed=True, times=1)
        for path in LOOKUP_PATHS["kraken"]:
            found.exchange.set_fault("http_502_html", path=path)
        with pytest.raises(OrderStateUnknown) as lost:
            found.buys()
        assert "is used" in found.takes(found.exchange.add_key(), same_account=True)
        found.cluster.stop()
        settings = found.cluster._settings  # pyright: ignore[reportPrivateUsage] - what it was made with
        with Cluster([found.spec], settings) as again:
            executor = requests_of(again.broker(found.spec.name)).account().executor
            assert [each.request.client_order_id for each in executor.lost()] == [lost.value.client_order_id]
            assert again.broker(found.spec.name).reading().cash is not None, "and so is the balance"


def test_a_key_that_changed_while_nothing_ran_is_of_the_same_account_where_that_is_said(
    tmp_path: Path,
) -> None:
    with desk(SimulatedKraken, tmp_path, fetch_deadline_s=1.0) as found:
        found.exchange.set_fault("reset", path=ORDER_PATHS["kraken"], executed=True, times=1)
        for path in LOOKUP_PATHS["kraken"]:
            found.exchange.set_fault("http_502_html", path=path)
        with pytest.raises(OrderStateUnknown) as lost:
            found.buys()
        found.cluster.stop()
        settings = found.cluster._settings  # pyright: ignore[reportPrivateUsage] - what it was made with
        new = MappingProxyType(found.exchange.add_key())
        for same in (False, True):
            spec = replace(found.spec, credentials=new, same_account=same, poll_interval_s=ONLY_WHEN_ASKED)
            found.exchange.set_fault("http_502_html")
            with Cluster([spec], replace(settings, remember=same)) as again:
                executor = requests_of(again.broker(spec.name)).account().executor
                ids = [each.request.client_order_id for each in executor.lost()]
                assert ids == ([lost.value.client_order_id] if same else [])
                assert (again.broker(spec.name).reading().cash is not None) is same
                assert not again.broker(spec.name).is_available() or not same


# --- the files of a key -------------------------------------------------------------------------------


def test_a_reset_reads_the_files_of_a_key_again(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    rich(exchange)
    files = {name: tmp_path / name for name in ("api_key", "secret")}

    def writes(credentials: Mapping[str, str]) -> None:
        for name, file in files.items():
            file.write_text(credentials[name])
            file.chmod(0o600)

    writes(exchange.credentials)
    with serve(exchange):
        spec = replace(
            simulated_spec(exchange, policy="guarded", rules=replace(GUARDED, auth_probes_s=())),
            origins=MappingProxyType({name: Origin("file", str(file)) for name, file in files.items()}),
            same_account=True,
        )
        with cluster_of(spec, state=str(tmp_path / "state")) as cluster:
            broker = cluster.broker(spec.name)
            broker.get_account_balance()
            new = exchange.add_key()
            exchange.remove_key(exchange.credentials["api_key"])
            broker.get_account_balance()
            assert broker.reading().reason is Reason.AUTH
            writes(new)
            said = cluster.reset(spec.name)
            assert "the new API key was verified and is used" in said
            until(lambda: broker.get_account_balance() and broker.is_available())
            files["secret"].unlink()
            assert "its API key was not read again" in cluster.reset(spec.name)
            assert broker.is_available()


# --- nothing is left behind ---------------------------------------------------------------------------


def test_many_rotations_leave_nothing_behind() -> None:
    with desk(SimulatedOkx, poll_interval_s=ONLY_WHEN_ASKED) as found:
        found.takes(found.exchange.add_key())
        threads = threading.active_count()
        for _ in range(5):
            before = found.key
            assert "same account" in found.takes(found.exchange.add_key())
            found.exchange.remove_key(before) if before != found.exchange.credentials["api_key"] else None
        gateway = found.cluster._members.gateway  # pyright: ignore[reportPrivateUsage] - it shows nowhere else
        assert gateway is not None
        assert len(gateway._lanes._lanes) == 1  # pyright: ignore[reportPrivateUsage] - as above
        assert len(gateway._venues) == 1  # pyright: ignore[reportPrivateUsage] - as above
        until(lambda: threading.active_count() <= threads)
        assert found.lost == []


def test_a_question_that_an_exchange_does_not_know_holds_up_no_key() -> None:
    with desk(SimulatedKraken) as found:
        found.exchange.set_answer(
            '{"error":["EGeneral:Unknown method"]}', path="POST /0/private/GetApiKeyInfo"
        )
        assert "is used" in found.takes(found.exchange.add_key(), same_account=True)


def test_a_key_that_is_refused_is_asked_nothing_for_the_comparison() -> None:
    with desk(SimulatedOkx, policy="guarded", rules=replace(GUARDED, auth_probes_s=())) as found:
        old, new = found.key, found.exchange.add_key()
        found.exchange.set_fault("bad_key", account=old)
        found.broker.get_account_balance()
        calls = found.exchange.private_calls_of(old)
        assert "whether it is of the same account is not known" in found.takes(new)
        assert found.exchange.private_calls_of(old) == calls
