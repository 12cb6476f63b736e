"""One round: the exchanges, the programs and the subscribers on them, and what is done to them by a plan."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from brokerwatch.simulator import steady_credentials
from tests.chaos import cast
from tests.chaos.disk import SizeLimit, SmallDisk
from tests.chaos.lines import Line, LineFile
from tests.chaos.links import Link, Links
from tests.chaos.namespaces import HERE, Abroad
from tests.chaos.plan import Action, Targets
from tests.chaos.victims import Victim
from tests.support.command import environment_of
from tests.support.desks import LOOKUP_PATHS, ORDER_PATHS
from tests.support.ports import free_endpoint
from tests.support.programs import ROOT, run_program

START_S: Final = 120.0
LOOK_S: Final = 0.1
TAIL_BYTES: Final = 30_000


@dataclass(frozen=True, slots=True)
class LinkPeriod:
    """Something that was wrong with a link, and for how long."""

    link: str
    begin_s: float
    end_s: float
    action: Action


class Stage:
    """All that runs in one round. Its methods are for one thread."""

    def __init__(self, folder: Path, *, namespaces: bool, node: str) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._links = self._stack.enter_context(Links())
        self._abroad: Abroad | None = None
        if namespaces:
            self._abroad = Abroad()
            self._stack.callback(self._abroad.close)
        self._node = node
        self._events = LineFile(folder / "events.jsonl")
        self.victims: dict[str, Victim] = {}
        self.links: dict[str, Link] = {}
        self.link_periods: list[LinkPeriod] = []
        self._begun: dict[tuple[str, str], float] = {}

    # --- to begin with ----------------------------------------------------------------------------------

    def build(self) -> None:
        """Write the configurations, and start everything."""
        if self._abroad is not None:
            self._make_keys()
        self._start_truth()
        host = "127.0.0.1" if self._abroad is None else "0.0.0.0"
        health = {name: free_endpoint().replace("127.0.0.1", host) for name in cast.PUBLISHERS}
        brokers = {name: free_endpoint() for name in cast.SUPERVISORS}
        reported = {
            (node, supervisor): self._add_link(f"{node}-{supervisor}", brokers[supervisor])
            for node in cast.NODES
            for supervisor in cast.SUPERVISORS
        }
        urls = {name: options["urls"]["api"] for name, options in self._options.items()}
        encrypted = self._abroad is not None
        self._places = cast.Places(self.folder, health, brokers, reported, urls, encrypted)
        for name in (*cast.NODES, *cast.PUBLISHERS):
            self._add_process(name)
        for name in self.subscribers:
            self._add_subscriber(name)
        for victim in self.victims.values():
            victim.start()

    @property
    def subscribers(self) -> Mapping[str, tuple[str, ...]]:
        """Those that can run here, and what each listens to."""
        absent = {cast.ABROAD} if self._abroad is None else set[str]()
        absent |= set() if self._node else {cast.OTHER_LANGUAGE}
        return {name: heard for name, heard in cast.SUBSCRIBERS.items() if name not in absent}

    def _make_keys(self) -> None:
        for name in ("cluster", "subscriber", "node"):
            done = run_program(sys.executable, "-m", "brokerwatch", "keys", "make", name, cwd=self.folder)
            assert done.status == 0, done.err
        # A node hears the commands of operators, so it is a subscriber too.
        public = {
            name: (self.folder / f"{name}.pub").read_text().split()[-1] for name in ("subscriber", "node")
        }
        reported = " ".join(account for node in cast.NODES for account in cast.ACCOUNTS[node])
        for file, text in (
            ("subscribers.keys", "".join(f"{name} {key}\n" for name, key in public.items())),
            ("nodes.keys", f"node {public['node']} {reported}\n"),
        ):
            (self.folder / file).write_text(text)
            (self.folder / file).chmod(0o600)

    def _start_truth(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.truth", str(self.folder / "truth.jsonl")]
        self._truth = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_of({"PYTHONPATH": str(ROOT)}),
        )
        self._stack.callback(self._end_truth)
        accounts = [
            {"name": name, "exchange": exchange, "credentials": steady_credentials(exchange, name)}
            for accounts in cast.ACCOUNTS.values()
            for name, exchange in accounts.items()
        ]
        self._options = self._tell(accounts)

    def _end_truth(self) -> None:
        assert self._truth.stdin is not None
        assert self._truth.stdout is not None
        self._truth.stdin.close()
        self._truth.wait(20)
        self._truth.stdout.close()

    def _tell(self, command: object) -> Any:
        assert self._truth.stdin is not None
        assert self._truth.stdout is not None
        self._truth.stdin.write(json.dumps(command) + "\n")
        self._truth.stdin.flush()
        return json.loads(self._truth.stdout.readline())

    def _add_link(self, name: str, endpoint: str) -> str:
        """A link to an endpoint; the endpoint in front of it."""
        self.links[name] = self._links.add(_port(endpoint))
        return self.links[name].endpoint

    def _add_process(self, name: str) -> None:
        state = self._places.state(name)
        state.mkdir(mode=0o700)
        path = self.folder / f"{name}.toml"
        path.write_text(self._places.configuration(name))
        path.chmod(0o600)
        keys = cast.credentials_of(name) if name in cast.ACCOUNTS else {}
        victim = self._add_victim(name, self._places.program(name), keys)
        victim.disk = SizeLimit(lambda: victim.pid) if self._abroad is None else SmallDisk(state)

    def _add_victim(
        self, name: str, program: Sequence[str], keys: Mapping[str, str], before: tuple[str, ...] = ()
    ) -> Victim:
        clock = str(self.folder / f"{name}.clock")
        command = (*before, sys.executable, "-m", "tests.chaos.clocks", clock, *program)
        victim = self.victims[name] = Victim(name, command, self.folder, keys)
        self._stack.callback(victim.close)
        return victim

    def _add_subscriber(self, name: str) -> None:
        endpoints: list[str] = []
        for publisher in self.subscribers[name]:
            endpoint = self._places.health[publisher]
            if name == cast.ABROAD:
                endpoints.append(f"tcp://{HERE}:{_port(endpoint)}")
            elif name == cast.DIRECT:
                endpoints.append(f"tcp://127.0.0.1:{_port(endpoint)}")
            else:
                endpoints.append(self._add_link(link_name(name, publisher), endpoint))
        keys = [str(self.folder / "cluster.pub"), str(self.folder / "subscriber.key")]
        if name == cast.OTHER_LANGUAGE:
            program = [self._node, str(ROOT / "examples/node/listen.mjs"), *endpoints]
            program += keys if self._places.encrypted else []
            victim = self.victims[name] = Victim(name, program, self.folder, {})
            victim.said = LineFile(self.folder / f"{name}.shown")
            self._stack.callback(victim.close)
            return
        before = self._abroad.inside if self._abroad is not None and name == cast.ABROAD else ()
        shown = str(self.folder / f"{name}.shown")
        given = keys if self._places.encrypted else ["-", "-"]
        self._add_victim(name, ["tests.chaos.subscriber", shown, *given, *endpoints], {}, before)

    @property
    def targets(self) -> Targets:
        """What there is to act on."""
        links = (*self.links, cast.ABROAD) if self._abroad is not None else tuple(self.links)
        return Targets(
            processes=(*cast.NODES, *cast.PUBLISHERS),
            supervisors=cast.SUPERVISORS,
            subscribers=tuple(self.subscribers),
            links=links,
            exchanges=cast.EXCHANGES,
            disks=(*cast.NODES, *cast.PUBLISHERS),
            clocks=tuple(name for name in self.victims if name != cast.OTHER_LANGUAGE),
        )

    # --- what is done -----------------------------------------------------------------------------------

    def begin(self, action: Action) -> None:
        """Do it."""
        self._begun[action.kind, action.target] = time.monotonic()
        self._events.write(begin=str(action))
        exchange, victim = action.target, self.victims.get(action.target)
        match action.kind, victim:
            case "kill", Victim():
                victim.kill()
            case (("stop" | "sleep"), Victim()):
                victim.stop()
            case "clock", Victim():
                victim.set_wall(_number(action, "wall_s"))
            case "full disk", Victim():
                victim.fill_disk()
            case "fault", _:
                public = bool(action.detail["public"])
                self._tell({"exchange": exchange, "fault": action.detail["fault"], "public": public})
            case "lost orders", _:
                self._lose_orders(exchange, action)
            case _:
                self._set_link(action)

    def end(self, action: Action) -> None:
        """Undo it."""
        victim = self.victims.get(action.target)
        match action.kind, victim:
            case "kill", Victim():
                victim.start()
            case "stop", Victim():
                victim.go_on()
            case "clock", Victim():
                victim.set_wall(0.0)
            case "sleep", Victim():
                victim.wake()
            case "full disk", Victim():
                victim.free_disk()
            case (("fault" | "lost orders"), _):
                self._tell({"exchange": action.target, "mend": True})
            case _:
                self._set_link(None, action.target)
                self._note_link(action)
        self._events.write(end=str(action))

    def _note_link(self, action: Action) -> None:
        begun_s = self._begun[action.kind, action.target]
        self.link_periods.append(LinkPeriod(action.target, begun_s, time.monotonic(), action))

    def _lose_orders(self, exchange: str, action: Action) -> None:
        executed = bool(action.detail["executed"])
        lost = {"exchange": exchange, "path": ORDER_PATHS[exchange], "executed": executed}
        self._tell({**lost, "fault": "reset", "times": 2})
        if not action.detail["looked_up"]:
            for path in LOOKUP_PATHS[exchange]:
                self._tell({"exchange": exchange, "fault": "http_502_html", "path": path})

    def _set_link(self, action: Action | None, target: str = "") -> None:
        target = target or (action.target if action is not None else "")
        ways = frozenset(str(action.detail.get("ways", "up down")).split()) if action is not None else None
        if target == cast.ABROAD:
            assert self._abroad is not None
            self._abroad.cut(ways or frozenset())
            return
        link = self.links[target]
        match action.kind if action is not None else "":
            case "cut":
                self._links.do(link.set, cut=True)
            case "hold":
                self._links.do(link.set, held=ways)
            case "delay":
                assert action is not None
                self._links.do(link.set, late_s=_number(action, "late_s"))
            case _:
                self._links.do(link.set)

    def look(self) -> None:
        """Note what ended by itself."""
        for victim in self.victims.values():
            victim.look()

    def surprises(self) -> list[str]:
        """What ended by itself."""
        return [each for victim in self.victims.values() for each in victim.surprises]

    # --- what came of it --------------------------------------------------------------------------------

    def not_shown(self, since_s: float) -> list[str]:
        """What no look after a moment shows as available, by subscriber and account."""
        missing: list[str] = []
        for name, publishers in self.subscribers.items():
            shown = newest_shown(self.folder / f"{name}.shown", since_s)
            for account in (a for publisher in publishers for a in cast.accounts_published_by(publisher)):
                available, version, reason, _ = shown.get(account, (False, None, "not shown", ""))
                if not available or (version is None and name != cast.OTHER_LANGUAGE):
                    missing.append(f"{name}: {account}: {reason}")
        return list(dict.fromkeys(missing))

    def orders(self) -> list[list[str]]:
        """Every order that was placed: account, id, size."""
        found: list[list[str]] = self._tell({"orders": True})
        return found

    def end_programs(self) -> None:
        """End all but the exchanges."""
        for victim in self.victims.values():
            victim.close()

    def close(self) -> None:
        """End everything."""
        self._stack.close()
        self._events.close()


def _number(action: Action, name: str) -> float:
    value = action.detail[name]
    assert isinstance(value, float | int)
    return float(value)


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def link_name(subscriber: str, publisher: str) -> str:
    """The link over which a subscriber hears a publisher, in `Stage.links` and `Stage.link_periods`."""
    return cast.ABROAD if subscriber == cast.ABROAD else f"{subscriber}-{publisher}"


def newest_shown(path: Path, since_s: float) -> Mapping[str, tuple[bool, int | None, str, str]]:
    """What a subscriber showed last; nothing where that was before a moment.

    One that writes down changes alone shows the newest of each account until it says otherwise.
    """
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        tail = file.read().decode(errors="replace").splitlines()
    said: dict[str, tuple[bool, int | None, str, str]] = {}
    for text in reversed(tail):
        with contextlib.suppress(ValueError):
            line: Line = json.loads(text)
            if "shown" in line:
                return line["shown"] if line["at_s"] >= since_s else {}
            if "said" in line:
                change = json.loads(line["said"])
                said.setdefault(change["broker"], (change["available"], None, change["reason"], ""))
            elif line.get("began"):
                return said
    return said
