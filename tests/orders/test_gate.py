"""The gate: entries need a passing verification of the same key that is young enough; exits never do."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import ccxt
import msgspec
import pytest

from brokerwatch import VerificationRequired
from brokerwatch.clock import ManualClock, SystemClock
from brokerwatch.cluster.broker import Broker, requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes
from brokerwatch.config.fingerprint import key_fingerprint
from brokerwatch.config.loader import load_cluster
from brokerwatch.config.template import CONFIG_TEMPLATE
from brokerwatch.errors import ConfigError, EntryRefused
from brokerwatch.messages import OrderState
from brokerwatch.orders.gate import FOLDER_NAME, SILENT_S, Gate, keep
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import RefusalCode
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken, serve
from brokerwatch.verification.checklist import CHECKLIST, CheckOutcome, Judgement
from brokerwatch.verification.report import Finding, Report, decoded, encoded, report
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of, simulated_spec, until

SHORT_WAIT_S: Final = 0.5
"""How long a look is waited for in earnest."""
ENTRY: Final = Need(symbol="BTC/USD", side="buy", quote_amount=Decimal(50))
LEAVING: Final = Need(symbol="BTC/USD", side="sell", base_amount=Decimal("0.1"), exit=True)
KEY: Final = "0123456789abcdef01234567"
DAY_S: Final = 86_400.0
NOW_US: Final = 1_800_000_000_000_000


def made(
    key: str = KEY,
    ended_us: int = NOW_US,
    outcomes: Mapping[str, CheckOutcome] = MappingProxyType({}),
    *,
    elsewhere: bool = True,
) -> Report:
    """A report in which everything passed but for `outcomes`."""
    return report(
        [
            Finding(check, Judgement(outcomes.get(check.name, CheckOutcome.PASS), "seen"), 1)
            for check in CHECKLIST
        ],
        broker="main",
        exchange="kraken",
        key=key,
        elsewhere=elsewhere,
        started_us=ended_us - 1_000_000,
        ended_us=ended_us,
        versions={},
    )


FAILED: Final = {"safety.withdraw": CheckOutcome.FAIL}


@pytest.fixture
def look_wait_s() -> float:
    """On a machine under load a look may take seconds, and the tests are not about that."""
    return 20.0


@pytest.fixture(autouse=True)
def _waits_for_a_look(look_wait_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerwatch.orders.gate.LOOK_WAIT_S", look_wait_s)


in_vain = pytest.mark.parametrize("look_wait_s", [SHORT_WAIT_S])
"""For a test in which a look is waited for in vain."""


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
    assert said == (
        "main: entries need a verification of its key (01234567…), at most 24 h old, and there is none; "
        "run: brokerwatch verify main"
    )


def test_what_was_never_looked_at_lets_nobody_through(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made())
    assert "it is not known yet" in gate.trouble(KEY, "main", elsewhere=True)


def test_what_was_looked_at_too_long_ago_lets_nobody_through(
    tmp_path: Path, gate: Gate, clock: ManualClock
) -> None:
    keep(tmp_path, made())
    assert trouble(gate) == ""
    clock.advance(SILENT_S)
    assert gate.trouble(KEY, "main", elsewhere=True) == ""
    clock.advance(1.0)
    assert "for 6 s the disk has not said" in gate.trouble(KEY, "main", elsewhere=True)


def test_an_account_without_an_api_key_is_told_so(tmp_path: Path, gate: Gate) -> None:
    assert "it has none that can have one" in gate.trouble("broker main", "main", elsewhere=True)
    for key in ("", "broker main", "../outside"):
        with pytest.raises(OSError, match="no API key"):
            keep(tmp_path, made(key=key))


@pytest.mark.parametrize("outcome", [CheckOutcome.WARN, CheckOutcome.SKIP])
def test_a_report_that_has_passed_lets_through_also_with_remarks(
    tmp_path: Path, gate: Gate, outcome: CheckOutcome
) -> None:
    keep(tmp_path, made(outcomes={"trade.close": outcome}))
    assert trouble(gate) == ""


def test_a_report_that_failed_lets_nobody_through_and_names_what_failed(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made(outcomes=FAILED))
    assert "the newest one failed: safety.withdraw;" in trouble(gate)
    keep(tmp_path, made(outcomes={check.name: CheckOutcome.FAIL for check in CHECKLIST[:5]}))
    named = ", ".join(check.name for check in CHECKLIST[:3])
    assert f"the newest one failed: {named} and 2 more;" in trouble(gate)


def test_a_report_of_which_nothing_was_done_lets_nobody_through(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, made(outcomes={check.name: CheckOutcome.SKIP for check in CHECKLIST}))
    assert "nothing has passed" in trouble(gate)


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
    assert "the newest one, of 2027-01-15T08:00:00.000000Z, is 24 h old" in trouble(gate)
    clock.advance(2 * DAY_S)
    assert "is 3 days old" in trouble(gate)


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


@pytest.mark.parametrize("ended", ["", "yesterday", "2027-02-30T00:00:00.000000Z", "0001-01-01"])
def test_a_report_of_no_time_lets_nobody_through(tmp_path: Path, gate: Gate, ended: str) -> None:
    path = keep(tmp_path, made())
    path.write_bytes(encoded(msgspec.structs.replace(made(), ended=ended)))
    assert f"{KEY}.json" in trouble(gate)


def test_a_report_of_another_version_lets_nobody_through(tmp_path: Path, gate: Gate) -> None:
    keep(tmp_path, msgspec.structs.replace(made(), version=2))
    said = trouble(gate)
    assert " 2, not " in said
    assert "run: brokerwatch verify main" in said


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


def test_a_report_that_was_taken_away_lets_nobody_through(tmp_path: Path, gate: Gate) -> None:
    path = keep(tmp_path, made())
    assert trouble(gate) == ""
    path.unlink()
    assert "there is none" in trouble(gate)


def test_a_file_that_has_not_changed_is_not_read_again(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def reading(text: bytes) -> Report:
        read.append(text)
        return decoded(text)

    monkeypatch.setattr("brokerwatch.orders.gate.decoded", reading)
    keep(tmp_path, made())
    assert [trouble(gate) for _ in range(3)] == ["", "", ""]
    assert len(read) == 1
    keep(tmp_path, made())
    assert trouble(gate) == ""
    assert len(read) == 2


@in_vain
def test_an_entry_asks_the_disk_once_a_second_at_the_most(gate: Gate, clock: ManualClock) -> None:
    gate.look(KEY)
    # This gate was not started, so it never looks, and a caller that waits for a look waits in vain.
    assert asyncio.run(gate.looked(KEY, "main")) == ""
    clock.advance(1.0)
    assert "the disk has not said within 0.5 s" in asyncio.run(gate.looked(KEY, "main"))


def test_many_who_ask_at_once_are_answered_by_the_next_look(tmp_path: Path, clock: ManualClock) -> None:
    gate = Gate(tmp_path, DAY_S, clock)

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(gate.looked(KEY, "main") for _ in range(50)))

    try:
        gate.start([KEY])
        keep(tmp_path, made())
        clock.advance(1.0)
        assert asyncio.run(all_of_them()) == [""] * 50
        assert gate.trouble(KEY, "main", elsewhere=True) == ""
    finally:
        assert gate.close(20.0)
    clock.advance(1.0)
    assert asyncio.run(gate.looked(KEY, "main")) == "", "a gate that was closed is not waited for"


# --- how it is kept ----------------------------------------------------------------------------------


def test_a_report_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = keep(tmp_path / "state", made())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path == tmp_path / "state" / FOLDER_NAME / f"{KEY}.json"
    assert decoded(path.read_bytes()) == made()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_report_is_on_the_disk_before_it_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace_file = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        steps.append("synced")
        fsync(descriptor)

    def replaced(before: str, after: Path) -> None:
        steps.append("replaced")
        replace_file(before, after)

    monkeypatch.setattr("brokerwatch.orders.gate.os.fsync", synced)
    monkeypatch.setattr("brokerwatch.orders.gate.os.replace", replaced)
    keep(tmp_path, made())
    assert steps == ["synced", "replaced"]


def test_many_who_keep_at_once_leave_one_whole_report(tmp_path: Path) -> None:
    reports = [made(ended_us=NOW_US + number) for number in range(20)]
    threads = [threading.Thread(target=keep, args=(tmp_path, each)) for each in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [path] = (tmp_path / FOLDER_NAME).iterdir()
    assert decoded(path.read_bytes()) in reports


def test_processes_that_keep_at_once_leave_one_whole_report(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from brokerwatch.verification.report import decoded
from brokerwatch.orders.gate import keep
report = decoded(sys.stdin.buffer.read())
for _ in range(50):
    keep(Path(sys.argv[1]), report)
"""
    reports = [made(ended_us=NOW_US + number) for number in range(2)]
    command = [sys.executable, "-c", program, str(tmp_path)]
    running: list[subprocess.Popen[bytes]] = []
    for each in reports:
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        given = running[-1].stdin
        assert given is not None
        with given:
            given.write(encoded(each))
    assert [one.wait(20) for one in running] == [0, 0]
    [path] = (tmp_path / FOLDER_NAME).iterdir()
    assert decoded(path.read_bytes()) in reports


def test_what_cannot_be_kept_leaves_the_one_before(tmp_path: Path) -> None:
    path = keep(tmp_path, made())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("brokerwatch.orders.gate.os.replace", _full)
        with pytest.raises(OSError, match="full"):
            keep(tmp_path, made(outcomes=FAILED))
    assert decoded(path.read_bytes()) == made()
    assert list(path.parent.iterdir()) == [path]


def _full(*_: object) -> None:
    raise OSError(28, "the disk is full")


# --- in a cluster ------------------------------------------------------------------------------------

THREAD: Final = "brokerwatch-verifications"


class Guarded:
    """A simulated Kraken, a cluster on it that asks for verifications, and the handle."""

    def __init__(self, exchange: SimulatedExchange, cluster: Cluster, folder: Path) -> None:
        self.exchange, self.cluster, self.folder = exchange, cluster, folder
        self.broker: Broker = cluster.broker("kraken-test")
        self.key = requests_of(self.broker).account().access.lane.fingerprint

    def keep(self, **values: Any) -> None:
        chosen: dict[str, Any] = {"ended_us": now_us(), **values}
        keep(self.folder, made(self.key, **chosen))

    @property
    def unverified(self) -> str:
        return requests_of(self.broker).account().entry.unverified

    def exits(self) -> bool:
        """Whether an exit is placed."""
        before = self.exchange.placed_orders
        sold = self.broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert self.broker.close_position("BTC/USD", validate_only=True).state is OrderState.VALIDATED
        return sold.state is OrderState.ACCEPTED and self.exchange.placed_orders == before + 1

    def buy(self, **values: Any) -> Any:
        chosen: dict[str, Any] = {"quote_amount": Decimal(50), "validate_only": False, **values}
        return self.broker.place_market_order("BTC/USD", "buy", **chosen)

    def passes(self) -> bool:
        try:
            self.buy(validate_only=True)
        except VerificationRequired:
            return False
        return True


def now_us() -> int:
    return SystemClock().now().wall_us


def key_of(exchange: SimulatedExchange) -> str:
    return key_fingerprint("kraken", exchange.credentials)


@contextmanager
def guarded(
    folder: Path, before: Callable[[Path, str], object] | None = None, **values: Any
) -> Generator[Guarded]:
    """`before`: what is in the state folder at the start; called with it and the fingerprint."""
    exchange = SimulatedKraken()
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        if before is not None:
            before(folder, key_of(exchange))
        settings: dict[str, Any] = {"state": str(folder), "remember": False, **values}
        with cluster_of(spec, require_verification_max_age_s=DAY_S, **settings) as cluster:
            cluster.broker("kraken-test").get_account_balance()
            yield Guarded(exchange, cluster, folder)


def passing(folder: Path, key: str) -> None:
    keep(folder, made(key, now_us()))


def failing(folder: Path, key: str) -> None:
    keep(folder, made(key, now_us(), FAILED))


def too_old(folder: Path, key: str) -> None:
    keep(folder, made(key, now_us() - round((DAY_S + 60) * 1e6)))


def of_the_future(folder: Path, key: str) -> None:
    keep(folder, made(key, now_us() + 600_000_000))


def of_another_key(folder: Path, key: str) -> None:
    keep(folder, made(KEY, now_us())).rename(folder / FOLDER_NAME / f"{key}.json")


def broken(folder: Path, key: str) -> None:
    keep(folder, made(key, now_us())).write_bytes(b"{")


def unreadable(folder: Path, key: str) -> None:
    folder.mkdir(exist_ok=True)
    # Not a folder: the user of the tests may be allowed to read everything.
    (folder / FOLDER_NAME).write_text("")


def a_disk_that_hangs(folder: Path, key: str) -> None:
    path = folder / FOLDER_NAME / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)  # opening it for reading waits until it is opened for writing


def goes_on(folder: Path, key: str) -> None:
    """The disk that hung answers, and there is a report."""
    path = folder / FOLDER_NAME / f"{key}.json"
    hanging = path.with_suffix(".fifo")
    path.rename(hanging)
    passing(folder, key)

    def let_go() -> bool:
        try:
            os.close(os.open(hanging, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # it has no reader
            return False
        return True

    until(let_go)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        pytest.param(None, "there is none; run: brokerwatch verify kraken-test", id="none"),
        pytest.param(failing, "the newest one failed: safety.withdraw", id="failing"),
        pytest.param(too_old, "is 24 h old", id="too old"),
        pytest.param(of_the_future, "is of the future", id="of the future"),
        pytest.param(of_another_key, "is of another key", id="of another key"),
        pytest.param(broken, "is no report", id="broken"),
        pytest.param(unreadable, "cannot be read", id="unreadable"),
    ],
)
def test_entries_wait_for_a_verification_and_exits_do_not(
    tmp_path: Path, before: Callable[[Path, str], object] | None, said: str
) -> None:
    with guarded(tmp_path, before) as found:
        sent = found.exchange.private_calls
        with pytest.raises(VerificationRequired, match=said):
            found.buy()
        with pytest.raises(EntryRefused, match=said):
            found.buy(validate_only=True)
        assert found.exchange.private_calls == sent
        assert found.exchange.calls_to("POST /0/private/AddOrder") == 0
        assert found.exits()


@pytest.mark.parametrize("outcome", [CheckOutcome.PASS, CheckOutcome.WARN, CheckOutcome.SKIP])
def test_entries_pass_after_a_verification_at_the_start(tmp_path: Path, outcome: CheckOutcome) -> None:
    def kept(folder: Path, key: str) -> None:
        keep(folder, made(key, now_us(), {"trade.close": outcome}))

    with guarded(tmp_path, kept) as found:
        assert found.buy(validate_only=True).state is OrderState.VALIDATED
        assert found.buy().state is OrderState.ACCEPTED
        assert found.exits()


def test_a_verification_at_another_address_opens_nothing_at_the_exchange_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_home(_: BrokerSpec) -> bool:
        return False

    monkeypatch.setattr("brokerwatch.gateway.gateway.is_elsewhere", at_home)
    with guarded(tmp_path, passing) as found:
        with pytest.raises(VerificationRequired, match="another address"):
            found.buy()
        assert found.exits()
        found.keep(elsewhere=False)
        until(found.passes)


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


def test_an_entry_that_waits_for_its_turn_is_refused_when_a_verification_fails_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guarded(tmp_path, passing) as found:
        desk = requests_of(found.broker).account().executor
        order = desk.order

        async def late(*arguments: Any, **named: Any) -> Any:
            found.keep(outcomes=FAILED)
            await asyncio.to_thread(until, lambda: found.unverified)
            return await order(*arguments, **named)

        monkeypatch.setattr(desk, "order", late)
        with pytest.raises(VerificationRequired, match=r"safety\.withdraw"):
            found.buy()
        assert found.exchange.calls_to("POST /0/private/AddOrder") == 0


@in_vain
def test_a_disk_that_hangs_at_the_start_refuses_entries_and_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), guarded(tmp_path, a_disk_that_hangs) as found:
        with pytest.raises(VerificationRequired, match=r"the disk has not said within 0\.5 s"):
            found.buy()
        assert "it is not known yet" in found.unverified
        assert found.cluster.router.pick(ENTRY).broker is None
        assert found.exits()
        goes_on(tmp_path, found.key)
        until(found.passes)
    assert "kraken-test: entries need a verification" in caplog.text


@in_vain
def test_a_disk_that_begins_to_hang_refuses_entries_although_the_last_word_was_good(tmp_path: Path) -> None:
    with guarded(tmp_path, passing) as found:
        until(found.passes)
        a_disk_that_hangs(tmp_path, found.key)
        until(lambda: not found.passes())
        assert found.exchange.placed_orders == 0
        assert found.exits()
        goes_on(tmp_path, found.key)
        until(found.passes)


@in_vain
def test_a_stop_names_a_look_that_does_not_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), guarded(tmp_path, a_disk_that_hangs) as found:
        pass
    assert "left behind: a look at a verification" in caplog.text
    goes_on(tmp_path, found.key)


def test_a_cluster_that_remembers_finds_the_verification_at_its_start(tmp_path: Path) -> None:
    with guarded(tmp_path, passing, remember=True) as found:
        assert found.buy().state is OrderState.ACCEPTED


def test_files_are_looked_at_on_a_thread_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: set[str] = set()
    look = Gate.look

    def looking(gate: Gate, fingerprint: str) -> None:
        where.add(threading.current_thread().name)
        look(gate, fingerprint)

    monkeypatch.setattr(Gate, "look", looking)
    with guarded(tmp_path, passing) as found:
        assert found.passes()
        found.cluster.router.pick(ENTRY)
    assert where == {THREAD}


def test_without_the_setting_nobody_asks_for_a_verification(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    failing(tmp_path, key_of(exchange))
    with serve(exchange):
        spec = simulated_spec(exchange, trading=True)
        with cluster_of(spec, state=str(tmp_path), remember=False) as cluster:
            found = Guarded(exchange, cluster, tmp_path)
            found.broker.get_account_balance()
            assert found.buy().state is OrderState.ACCEPTED
            assert THREAD not in {thread.name for thread in threading.enumerate()}


def test_a_start_names_each_broker_with_orders_that_is_not_verified(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), caplog.at_level(logging.WARNING):
        specs = [
            simulated_spec(exchange, "first", trading=True),
            simulated_spec(exchange, "second", trading=True),
            simulated_spec(exchange, "watched"),
            BrokerSpec("own", fetch=Till()),
        ]
        settings: dict[str, Any] = {"require_verification_max_age_s": DAY_S, "state": str(tmp_path)}
        with cluster_of(*specs, remember=False, **settings):
            pass
        said = [record.message for record in caplog.records if "verification" in record.message]
        assert [line.partition(":")[0] for line in said] == ["first", "second"]
        passing(tmp_path, key_of(exchange))
        caplog.clear()
        with cluster_of(*specs, remember=False, **settings):
            pass
        assert "verification" not in caplog.text


def test_brokers_on_one_key_share_its_verification(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    passing(tmp_path, key_of(exchange))
    with serve(exchange):
        specs = [simulated_spec(exchange, name, trading=True) for name in ("first", "second")]
        settings: dict[str, Any] = {"require_verification_max_age_s": DAY_S, "state": str(tmp_path)}
        with cluster_of(*specs, remember=False, **settings) as cluster:
            for name in ("first", "second"):
                broker = cluster.broker(name)
                broker.get_account_balance()
                sent = broker.place_market_order(
                    "BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False
                )
                assert sent.state is OrderState.ACCEPTED


def test_an_instance_of_the_traders_own_needs_a_verification_too(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    given = exchange.credentials
    with serve(exchange):
        options: Any = {**exchange.ccxt_options(), "apiKey": given["api_key"], "secret": given["secret"]}
        instance = ccxt.kraken(options)
        spec = BrokerSpec("mine", exchange=instance, trading=True, poll_interval_s=ONLY_WHEN_ASKED)
        settings: dict[str, Any] = {"require_verification_max_age_s": DAY_S, "state": str(tmp_path)}
        with cluster_of(spec, remember=False, **settings) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            with pytest.raises(VerificationRequired, match="there is none"):
                broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
            passing(tmp_path, key_of(exchange))
            until(lambda: not requests_of(broker).account().entry.unverified)
            broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
    assert exchange.placed_orders == 1


def test_the_router_leaves_out_who_is_not_verified_for_entries_alone(tmp_path: Path) -> None:
    with guarded(tmp_path) as found:
        found.broker.get_all_products()
        choice = found.cluster.router.pick(ENTRY)
        assert choice.broker is None
        [refusal] = choice.refused
        assert (refusal.code, refusal.text) == (RefusalCode.VERIFICATION_REQUIRED, found.unverified)
        leaving = found.cluster.router.pick(LEAVING)
        assert leaving.broker == "kraken-test"
        assert leaving.ranked[0].cautions == ()
        found.keep()
        until(lambda: found.cluster.router.pick(ENTRY).broker is not None)


def test_a_new_report_is_noticed_although_nobody_asks(tmp_path: Path) -> None:
    with guarded(tmp_path) as found:
        assert found.unverified
        found.keep()
        until(lambda: not found.unverified)
        found.keep(outcomes=FAILED)
        until(lambda: found.unverified)


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


def cluster_toml(folder: Path, line: str) -> Path:
    path = folder / "brokerwatch.toml"
    path.write_text(f"version = 1\n[cluster]\n{line}\n")
    return path


def test_the_age_is_read_from_the_file(tmp_path: Path) -> None:
    assert load_cluster(cluster_toml(tmp_path, "")).require_verification_max_age_s is None
    written = cluster_toml(tmp_path, "require_verification_max_age_s = 86400")
    assert load_cluster(written).require_verification_max_age_s == DAY_S


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "true", '"a day"', "[1]"])
def test_an_age_that_cannot_be_is_named_with_its_key(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_cluster(cluster_toml(tmp_path, f"require_verification_max_age_s = {value}"))
    [problem] = caught.value.problems
    assert problem.key == "cluster.require_verification_max_age_s"
    assert "number" in problem.expected


def test_a_key_that_is_misspelt_is_answered_with_the_real_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known are: .*require_verification_max_age_s"):
        load_cluster(cluster_toml(tmp_path, "require_verification_max_age = 1"))


def test_the_template_shows_the_setting(tmp_path: Path) -> None:
    [line] = [each for each in CONFIG_TEMPLATE.splitlines() if "require_verification" in each]
    written = cluster_toml(tmp_path, line.removeprefix("# "))
    assert load_cluster(written).require_verification_max_age_s == DAY_S
