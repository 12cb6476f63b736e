"""The gate: entries need a passing verification of the same key that is young enough; exits never do."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
import pytest

from brokerwatch import VerificationRequired
from brokerwatch.broker import Broker
from brokerwatch.checklist import CHECKLIST, Judgement, Outcome
from brokerwatch.clock import ManualClock
from brokerwatch.cluster import Cluster
from brokerwatch.config import ClusterSettings, cluster_mistakes
from brokerwatch.errors import EntryRefused
from brokerwatch.messages import OrderState
from brokerwatch.need import Need
from brokerwatch.objections import RefusalCode
from brokerwatch.report import Finding, Report, decoded, report
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken, serve
from brokerwatch.verified import FOLDER_NAME, Gate, keep
from tests.clusters import cluster_of, simulated_spec, until

KEY: Final = "0123456789abcdef01234567"
DAY_S: Final = 86_400.0
NOW_US: Final = 1_800_000_000_000_000


def made(
    key: str = KEY,
    ended_us: int = NOW_US,
    outcomes: Mapping[str, Outcome] = MappingProxyType({}),
    *,
    elsewhere: bool = True,
) -> Report:
    """A report in which everything passed but for `outcomes`."""
    return report(
        [Finding(check, Judgement(outcomes.get(check.name, Outcome.PASS), "seen"), 1) for check in CHECKLIST],
        broker="main",
        exchange="kraken",
        key=key,
        elsewhere=elsewhere,
        started_us=ended_us - 1_000_000,
        ended_us=ended_us,
        versions={},
    )


FAILED: Final = {"safety.withdraw": Outcome.FAIL}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_us=NOW_US)


@pytest.fixture
def gate(tmp_path: Path, clock: ManualClock) -> Gate:
    return Gate(tmp_path, DAY_S, clock)


def trouble(gate: Gate, *, elsewhere: bool = True) -> str:
    gate.look(KEY)
    return gate.trouble(KEY, "main", elsewhere=elsewhere)


# --- what lets through -------------------------------------------------------------------------------


def test_without_a_report_nobody_passes_and_is_told_what_to_do(gate: Gate) -> None:
    said = trouble(gate)
    assert "there is none of its key" in said
    assert said.endswith("run: brokerwatch verify main")


def test_what_was_never_looked_at_lets_nobody_through(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made())
    assert gate.trouble(KEY, "main", elsewhere=True)


@pytest.mark.parametrize("outcome", [Outcome.WARN, Outcome.SKIP])
def test_a_report_that_has_passed_lets_through_also_with_remarks(
    tmp_path: Path, gate: Gate, outcome: Outcome
) -> None:
    keep(tmp_path, made(outcomes={"trade.close": outcome}))
    assert trouble(gate) == ""


def test_a_report_that_failed_lets_nobody_through_and_names_what_failed(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made(outcomes=FAILED))
    assert "the newest one failed: safety.withdraw" in trouble(gate)


def test_a_report_does_not_pass_by_its_own_word(tmp_path: Path, gate: Gate) -> None:
    lying = made(outcomes=FAILED)
    good = made()
    keep(tmp_path, msgspec.structs.replace(lying, verdict=good.verdict, exit_status=0, points=110))
    assert "failed" in trouble(gate)


def test_a_report_is_good_for_as_long_as_it_was_said(tmp_path: Path, gate: Gate, clock: ManualClock) -> None:
    keep(tmp_path, made())
    assert trouble(gate) == ""
    clock.advance(DAY_S)
    assert trouble(gate) == ""
    clock.advance(1.0)
    assert "the newest one is" in trouble(gate)


def test_a_report_of_the_future_is_none(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made(ended_us=NOW_US + 61_000_000))
    assert "future" in trouble(gate)
    keep(tmp_path, made(ended_us=NOW_US + 59_000_000))
    assert trouble(gate) == ""


def test_a_report_of_a_stand_in_says_nothing_about_the_exchange(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made(elsewhere=True))
    assert "another address" in trouble(gate, elsewhere=False)
    assert trouble(gate, elsewhere=True) == ""
    keep(tmp_path, made(elsewhere=False))
    assert trouble(gate, elsewhere=False) == ""


def test_a_report_of_another_key_is_none(tmp_path: Path, gate: Gate) -> None:
    path = keep(tmp_path, made(key="fedcba987654321001234567"))
    path.rename(path.with_name(f"{KEY}.json"))
    assert "another key" in trouble(gate)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"format": "x"}', b"[" * 100_000, b"\xff\xfe", b'{"version": 1e400}']
)
def test_what_is_no_report_lets_nobody_through(tmp_path: Path, gate: Gate, text: bytes) -> None:
    path = keep(tmp_path, made())
    path.write_bytes(text)
    assert "is no report" in trouble(gate)


def test_a_report_that_cannot_be_read_lets_nobody_through(tmp_path: Path, gate: Gate) -> None:
    path = keep(tmp_path, made())
    path.unlink()
    path.mkdir()
    assert "cannot be read" in trouble(gate)


def test_the_newest_report_is_the_word_about_a_key(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made())
    assert trouble(gate) == ""
    keep(tmp_path, made(outcomes=FAILED))
    assert "failed" in trouble(gate)
    keep(tmp_path, made())
    assert trouble(gate) == ""


def test_a_file_is_looked_at_once_a_second_at_the_most(gate: Gate, clock: ManualClock) -> None:
    assert gate.is_due(KEY)
    gate.look(KEY)
    assert not gate.is_due(KEY)
    clock.advance(1.0)
    assert gate.is_due(KEY)


# --- how it is kept ----------------------------------------------------------------------------------


def test_a_report_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = keep(tmp_path / "state", made())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path == tmp_path / "state" / FOLDER_NAME / f"{KEY}.json"
    assert decoded(path.read_bytes()) == made()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_many_who_keep_at_once_leave_one_whole_report(tmp_path: Path) -> None:
    reports = [made(ended_us=NOW_US + number) for number in range(20)]
    threads = [threading.Thread(target=keep, args=(tmp_path, each)) for each in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [path] = (tmp_path / FOLDER_NAME).iterdir()
    assert decoded(path.read_bytes()) in reports


def test_what_cannot_be_kept_leaves_the_one_before(tmp_path: Path) -> None:
    path = keep(tmp_path, made())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("brokerwatch.verified.os.replace", _full)
        with pytest.raises(OSError, match="full"):
            keep(tmp_path, made(outcomes=FAILED))
    assert decoded(path.read_bytes()) == made()
    assert list(path.parent.iterdir()) == [path]


def _full(*_: object) -> None:
    raise OSError(28, "the disk is full")


# --- in a cluster ------------------------------------------------------------------------------------


class Guarded:
    """A simulated Kraken, a cluster on it that asks for verifications, and the handle."""

    def __init__(self, exchange: SimulatedExchange, cluster: Cluster, folder: Path) -> None:
        self.exchange, self.cluster, self.folder = exchange, cluster, folder
        self.broker: Broker = cluster.broker("kraken-test")
        self.key = self.broker.asks().access.lane.fingerprint

    def keep(self, **values: Any) -> None:
        chosen: dict[str, Any] = {"ended_us": self.cluster.reading("kraken-test").since_us, **values}
        keep(self.folder, made(self.key, **chosen))

    def buy(self, **values: Any) -> Any:
        chosen: dict[str, Any] = {"quote_amount": Decimal(50), "validate_only": False, **values}
        return self.broker.place_market_order("BTC/USD", "buy", **chosen)

    def passes(self) -> bool:
        try:
            self.buy(validate_only=True)
        except VerificationRequired:
            return False
        return True


@contextmanager
def guarded(folder: Path, *, before: bool = False, **values: Any) -> Generator[Guarded]:
    exchange = SimulatedKraken()
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        if before:
            with cluster_of(spec) as cluster:
                Guarded(exchange, cluster, folder).keep()
        settings: dict[str, Any] = {"state": str(folder), "remember": False, **values}
        with cluster_of(spec, require_verification_max_age_s=DAY_S, **settings) as cluster:
            cluster.broker("kraken-test").get_account_balance()
            yield Guarded(exchange, cluster, folder)


def test_entries_wait_for_a_verification_and_exits_do_not(tmp_path: Path) -> None:
    with guarded(tmp_path) as found:
        with pytest.raises(VerificationRequired, match="brokerwatch verify kraken-test"):
            found.buy()
        with pytest.raises(EntryRefused):
            found.buy(validate_only=True)
        assert found.exchange.calls_to("POST /0/private/AddOrder") == 0
        sold = found.broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert sold.state is OrderState.ACCEPTED
        assert found.exchange.placed_orders == 1


def test_a_verification_opens_a_running_cluster_and_one_that_fails_closes_it(tmp_path: Path) -> None:
    with guarded(tmp_path) as found:
        assert not found.passes()
        found.keep()
        until(found.passes)
        found.keep(outcomes=FAILED)
        until(lambda: not found.passes())
        found.keep()
        until(found.passes)
        assert found.buy().state is OrderState.ACCEPTED


def test_a_cluster_that_remembers_finds_the_verification_at_its_start(tmp_path: Path) -> None:
    with guarded(tmp_path, before=True, remember=True) as found:
        assert found.buy().state is OrderState.ACCEPTED


def test_without_the_setting_nobody_asks_for_a_verification(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_of(simulated_spec(exchange, trading=True)) as cluster:
        found = Guarded(exchange, cluster, tmp_path)
        found.broker.get_account_balance()
        assert found.buy().state is OrderState.ACCEPTED


def test_a_start_says_who_is_not_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), guarded(tmp_path):
        pass
    [said] = [record.message for record in caplog.records if "verification" in record.message]
    assert said.startswith("kraken-test: entries need a verification")


def test_the_router_leaves_out_who_is_not_verified_for_entries_alone(tmp_path: Path) -> None:
    entry = Need(symbol="BTC/USD", side="buy", quote_amount=Decimal(50))
    leaving = Need(symbol="BTC/USD", side="sell", base_amount=Decimal("0.1"), exit=True)
    with guarded(tmp_path) as found:
        found.broker.get_all_products()
        choice = found.cluster.router.pick(entry)
        assert choice.broker is None
        assert [refusal.code for refusal in choice.refused] == [RefusalCode.VERIFICATION_REQUIRED]
        assert found.cluster.router.pick(leaving).broker is not None
        found.keep()
        until(lambda: found.cluster.router.pick(entry).broker is not None)


def test_the_key_is_nowhere_in_the_file(tmp_path: Path) -> None:
    with guarded(tmp_path) as found:
        found.keep()
        [path] = (tmp_path / FOLDER_NAME).iterdir()
        text = f"{path.name} {path.read_text()}"
        for secret in found.exchange.credentials.values():
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text


# --- the setting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("age_s", [0.0, -1.0, float("nan"), float("inf")])
def test_an_age_that_cannot_be_is_a_mistake(age_s: float) -> None:
    settings = replace(ClusterSettings(), require_verification_max_age_s=age_s)
    assert [key for key, _ in cluster_mistakes(settings)] == ["require_verification_max_age_s"]
