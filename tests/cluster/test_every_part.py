"""The table "Everything is watched by something" of docs/architecture.md: each row is killed, and hangs.

What is mended is mended on one cluster, one part after the other. Where a part stays broken, no account is
available any more, and each says why.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pykka
import pytest

from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.recorder import Recorder
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus import change_dispatcher
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.publisher import Publisher
from brokerwatch.clock import SystemClock
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.health.changes import Change
from brokerwatch.messages import Reading, Reason
from brokerwatch.notify.notifier import Notifier
from brokerwatch.web.chronicle import Chronicle
from brokerwatch.web.events import Events
from tests.cluster.test_broken_part import BROKEN
from tests.support.clusters import until
from tests.support.parts import TTL_S, Scene, Way, dies, once, running

PAGE: Final = Path(__file__).parents[2] / "docs" / "architecture.md"


def stops_loop(name: str, scene: Scene) -> None:
    loop = loop_of(name, scene)
    loop.call(loop.asyncio_loop.stop)


def loop_of(name: str, scene: Scene) -> Any:
    return next(loop for loop in scene.cluster._loops if loop.name == name)  # pyright: ignore[reportPrivateUsage] - nothing else names it


def hangs_fetch(scene: Scene) -> None:
    scene.till.stuck.clear()
    scene.till.hangs = True
    assert scene.till.stuck.wait(60.0)
    scene.till.hangs = False


def closes_socket(scene: Scene) -> None:
    control: Any = scene.cluster._operators._control  # pyright: ignore[reportPrivateUsage] - where it can be hurt
    old = control._server  # another one takes its place soon
    loop_of("brokerwatch-timers", scene).call(old.close)
    until(lambda: not old.is_serving())


def hangs_callback(scene: Scene) -> None:
    """One callback of two hangs: the other one is called again, and this one catches up."""
    other: list[Change] = []
    late: list[Change] = []

    def slow(change: Change) -> None:
        scene.held.wait()
        late.append(change)

    ends = [scene.cluster.router.on_change(slow), scene.cluster.router.on_change(other.append)]
    scene.till.failure = ConnectionError("down")
    # By its verdict: a reading in a change is not renewed, and expires.
    until(lambda: other and not other[-1].after.verdict.available)
    assert late == []
    scene.till.failure = None
    until(lambda: other[-1].after.verdict.available)
    scene.held.set()
    until(lambda: len(late) > 1 and late[-1].after.verdict.available)
    for end in ends:
        end()


def kills_dispatcher(scene: Scene) -> None:
    """It ends by an error between two changes, and the subscribers stay."""
    came: list[Change] = []
    once(change_dispatcher.ChangeDispatcher, "_next", dies, scene.patch)
    end = scene.cluster.router.on_change(came.append)
    scene.till.failure = ConnectionError("down")
    until(lambda: came and not came[-1].after.verdict.available)
    scene.till.failure = None
    until(lambda: came[-1].after.verdict.available)
    end()


def kills_page(scene: Scene) -> None:
    once(Events, "start", dies, scene.patch)
    server: Any = scene.cluster._outlets._http  # pyright: ignore[reportPrivateUsage] - where it can be hurt
    url = scene.cluster.http_url
    server._loop.call_soon_threadsafe(server._loop.stop)
    # It is down for a moment only. This line comes once it is, and before it is up again.
    until(lambda: any("the page and the API failed" in line for line in scene.lines))
    until(lambda: scene.cluster.http_url == url)
    with urllib.request.urlopen(f"{url}/healthz", timeout=60.0) as answer:
        assert answer.status == 200


def kills_threads_that_only_hear(scene: Scene) -> None:
    for owner, method in ((Notifier, "_look"), (Chronicle, "look"), (Chronicle, "_has_store")):
        called = threading.Event()

        def ends(*_: Any, called: threading.Event = called) -> Any:
            called.set()
            raise SystemExit

        once(owner, method, ends, scene.patch)
        assert called.wait(60.0)


def station_takes(what: Callable[..., Any], scene: Scene) -> None:
    """The station of the test's own listener: the cluster's page has another one."""
    station: Any = scene.listener._stations[0]  # pyright: ignore[reportPrivateUsage] - where it can be hurt
    take, done = station._take, threading.Lock()

    def instead(topic: str, body: bytes) -> Any:
        return what() if done.acquire(blocking=False) else take(topic, body)

    scene.patch.setattr(station, "_take", instead)


def hangs_listener(scene: Scene) -> None:
    """Nothing can be heard while its thread hangs, so nothing may be believed."""
    station_takes(scene.hang, scene)
    until(lambda: not scene.listener.is_available("a"))
    scene.held.set()


@dataclass(frozen=True)
class Mended:
    """A row of the table that goes on by itself."""

    part: str
    way: str
    breaks: Way
    said: str = ""
    """What is in the log of it; empty: the reading says it, or no account is touched."""


def of(owner: type, method: str, *, name: str = "") -> tuple[Way, Way]:
    """It dies, and it hangs, in this method."""
    return (
        lambda scene: once(owner, method, dies, scene.patch, of=name),
        lambda scene: once(owner, method, scene.hang, scene.patch, of=name),
    )


ACTOR: Final = of(BrokerActor, "handle")
MENDED: Final = (
    Mended("an account's actor", "dies", ACTOR[0], "its actor"),
    Mended("an account's actor", "hangs", ACTOR[1], "its actor hangs"),
    Mended("a fetch", "hangs", hangs_fetch),
    Mended("the loop of some accounts", "dies", partial(stops_loop, "brokerwatch-sources"), "event loop"),
    Mended(
        "the loop of some accounts",
        "hangs",
        lambda scene: loop_of("brokerwatch-sources", scene).call(scene.hang),
        "event loop",
    ),
    Mended("the supervisor", "dies", of(HealthSupervisor, "handle")[0], "the supervisor died"),
    Mended(
        "all actors, by `pykka.ActorRegistry.stop_all()`",
        "stopped",
        lambda _: pykka.ActorRegistry.stop_all(),
        "the program around it has stopped it",
    ),
    Mended(
        "the bus of the brokers",
        "dies",
        of(Publisher, "_send", name="brokerwatch-brokers")[0],
        "brokerwatch-brokers failed and begins again",
    ),
    Mended("the inbox of the supervisor", "dies", of(Inbox, "_keep")[0], "brokerwatch-inbox failed"),
    Mended(
        "the health topic",
        "dies",
        of(Publisher, "_send", name="brokerwatch-health")[0],
        "brokerwatch-health failed and begins again",
    ),
    Mended("the timers", "dies", partial(stops_loop, "brokerwatch-timers"), "the timers: "),
    Mended(
        "the timers",
        "hangs",
        lambda scene: loop_of("brokerwatch-timers", scene).call(scene.hang),
        "the timers: ",
    ),
    Mended("the recorder", "dies", of(Recorder, "handle")[0], "the recorder died"),
    Mended("the recorder", "hangs", of(Recorder, "handle")[1], "the recorder: nothing is stored"),
    Mended("the operators' socket", "dies", closes_socket),
    Mended("callbacks of `on_change`", "dies", kills_dispatcher, "brokerwatch-changes failed"),
    Mended("callbacks of `on_change`", "hangs", hangs_callback, "a callback has not returned"),
    Mended("a subscription of a listener", "dies", partial(station_takes, dies), "the subscription to"),
    Mended("a subscription of a listener", "hangs", hangs_listener),
    Mended("the page", "dies", kills_page, "the page and the API failed and begins again"),
    Mended(
        "messages to people, chronicle", "dies", kills_threads_that_only_hear, "brokerwatch-notifier failed"
    ),
)
ELSEWHERE: Final = {
    "a trader's own loop": "tests/cluster/test_account_loops.py::"
    "test_a_loop_of_the_traders_own_is_watched_and_never_replaced",
    "the check of keys (`bus/zap_handler.py`)": "tests/bus/test_zap_handler.py::"
    "test_a_handler_that_hangs_is_a_broken_part_of_its_cluster",
    "the ways between a node and a supervisor": "tests/cluster/test_several_processes.py::"
    "test_what_ends_by_an_error_between_a_node_and_its_supervisor_begins_again",
    "a node's uplink, its ear (`bus/command_listener.py`)": "tests/cluster/test_several_processes.py::"
    "test_what_ends_by_an_error_between_a_node_and_its_supervisor_begins_again",
    "the connections of these": "tests/bus/test_command_listener.py::"
    "test_a_supervisor_that_is_not_heard_is_connected_to_anew_with_both_sockets",
    "a supervisor that runs alone": "tests/actors/test_remote_supervisor.py::"
    "test_a_new_life_of_the_supervisor_knows_at_once_what_was_heard_before",
    "its inbox": "tests/cluster/test_several_processes.py::"
    "test_what_ends_by_an_error_between_a_node_and_its_supervisor_begins_again",
    "a node": "tests/cli/test_several_programs.py::"
    "test_nodes_and_a_supervisor_in_any_order_through_kills_reloads_and_commands",
    "the claims of a node of a pool (`pool/keeper.py`), its moves (`cluster/pooling.py`)": (
        "tests/pool/test_parts.py::test_a_node_whose_claims_or_moves_end_or_hang_is_broken"
    ),
    "the watch of the parts": "tests/cluster/test_part_watch.py::"
    "test_a_watch_that_hangs_itself_is_found_by_whoever_reads_it",
    "the whole process": "tests/cli/test_processes.py::"
    "test_a_killed_cluster_leaves_nothing_heard_of_each_broker_that_was_known",
}
"""Rows that need another scene: the test that holds them."""


@pytest.fixture(scope="module")
def shared(short_base: Path) -> Iterator[Scene]:
    """One cluster for all parts that are mended."""
    before = set(threading.enumerate())
    with (
        pytest.MonkeyPatch.context() as patch,
        running(
            patch,
            state=str(short_base / "every-part"),
            http=HttpSettings("127.0.0.1:0"),
            notify=NotifySettings(heartbeat_url="http://127.0.0.1:9/"),
        ) as scene,
    ):
        yield scene
    until(lambda: set(threading.enumerate()) <= before)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """In place of the one for all tests: threads of the shared cluster are replaced, and `shared` looks."""


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    """The shared cluster, well at the beginning and at the end."""
    shared.held = threading.Event()
    until(shared.is_well)
    shared.lines.clear()
    with pytest.MonkeyPatch.context() as patch:
        shared.patch = patch
        yield shared
        shared.held.set()
    until(shared.is_well)


def believed_for_too_long(scene: Scene) -> list[Reading]:
    """What is available for longer than a time to live from now, unless a fetch or a heartbeat renews it."""
    readings = scene.readings()
    now_s = SystemClock().up_s()  # after them: what is renewed in between would look too long
    return [each for each in readings if each.available and each.valid_until_s > now_s + TTL_S + 0.1]


@pytest.mark.parametrize("row", MENDED, ids=lambda row: f"{row.part}-{row.way}")
def test_a_part_is_mended_and_meanwhile_nothing_is_believed_that_is_not_renewed(
    row: Mended, scene: Scene
) -> None:
    row.breaks(scene)
    until(lambda: not row.said or any(row.said in line for line in scene.lines))
    broke_s = SystemClock().up_s()

    def renewed() -> bool:
        assert not believed_for_too_long(scene)
        readings = scene.readings()
        return all(each.available and each.as_of and each.as_of.up_s > broke_s for each in readings)

    if row.part == "the recorder" and row.way == "hangs":
        scene.held.set()  # a disk cannot be replaced
    until(renewed)
    if row.part == "the operators' socket":
        assert "is held out" in scene.cluster.hold("a", "a test")
        until(lambda: scene.cluster.reading("a").reason is Reason.HELD_OUT)
        scene.cluster.release("a")


def test_the_table_of_the_documentation_has_these_rows_and_no_others() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("| part | who notices") : text.index("**What is remembered.**")]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.strip().splitlines()[2:]]
    assert set(rows) == {row.part for row in MENDED} | set(BROKEN) | set(ELSEWHERE)
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("part", ELSEWHERE)
def test_a_row_that_needs_another_scene_has_its_test_elsewhere(part: str) -> None:
    file, name = ELSEWHERE[part].split("::")
    assert f"def {name}(" in (Path(__file__).parents[2] / file).read_text(encoding="utf-8")
