"""One soak: starts the processes, carries out the script, comes to rest, and collects what was seen."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.soak.cluster import Cluster
from benchmarks.soak.measured import Life, Measured, Second
from benchmarks.soak.parts import Part, PartFailed
from benchmarks.soak.proc import Sample
from benchmarks.soak.program import ClusterFailed, Program
from benchmarks.soak.sampler import Sampler
from benchmarks.soak.script import BEGINNING, CALM_S, Configured, Event, script
from benchmarks.soak.watch import add_seen

SEATS: Final = {
    "plain-1": tuple(f"plain-{number}" for number in range(6)),
    "plain-2": tuple(f"plain-{number}" for number in range(6, 12)),
    "plain-3": tuple(f"plain-{number}" for number in range(12, 17)),
    "stalled": ("stalled",),
    "cut": ("cut",),
    "replaced": ("replaced",),
}
"""The processes of listeners, and who sits there: twenty in all."""
ALL_AVAILABLE_S: Final = 60.0
"""So soon everything is well in the beginning and after the last fault."""
BY_ITSELF_S: Final = 40.0
"""What has not come back by then is reset by an operator: its key was refused too often."""
REST_S: Final = 40.0
"""So soon connections and threads of the trouble are gone."""
LOOK_S: Final = 0.2
CALM_SAMPLES: Final = 3
"""The last ones of the calm in the beginning: its first readers have made threads and connections by then."""
EXTRA_S: Final = 600.0
"""A cluster ends by itself so long after the soak should have ended, should the soak be killed."""


class Soak:
    """Runs once. `stop` may be called from any thread, or from a handler of a signal."""

    def __init__(
        self,
        seed: int,
        length_s: float,
        folder: Path,
        logs: Path,
        progress: Callable[[Measured], object],
        *,
        is_split: bool = False,
    ) -> None:
        self.measured = Measured(seed=seed, length_s=length_s, began_s=time.monotonic())
        self._length_s = length_s
        self._folder = folder
        self._logs = logs
        self._is_split = is_split
        self._progress = progress
        self._stopped = threading.Event()
        self._available: dict[str, list[int]] = {}
        """By the process, how many accounts each of its listeners shows as available."""
        self._losses: dict[str, int] = {}
        self._were_held: set[str] = set()
        """Each is released at rest: one that was to be released while the cluster was away is still held."""
        self._parts: dict[str, Part] = {}
        self._sampler: Sampler | None = None
        self._configured: Configured = {name: {} for name in BEGINNING}
        self._commands: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        """End the trouble now, and go on to the end."""
        self._stopped.set()

    def run(self) -> Measured:
        """All of it. What goes wrong with the soak itself stands in `failure`."""
        measured = self.measured
        with ExitStack() as stack:
            self._exchanges = Part("exchanges")
            stack.callback(self._exchanges.close)
            try:
                self._start(stack)
                measured.began_s = time.monotonic()
                self._calm()
                self._carry_out()
                self._come_to_rest()
            except (ClusterFailed, PartFailed) as failure:
                measured.failure = str(failure)
            finally:
                self._collect()
        return measured

    def _start(self, stack: ExitStack) -> None:
        self._served = self._exchanges.hear()
        self._cluster = Cluster(self._folder, self._logs, self._served, is_split=self._is_split)
        self._cluster.configure(self._configured)
        stack.callback(self._end_cluster)
        for program in self._cluster.programs:
            self._begin_life(program)
        for name, seats in SEATS.items():
            part = Part("subscribers", partial(self._take, name))
            stack.callback(part.close)
            self._parts[name] = part
            part.ask(endpoint=self._cluster.endpoint, seats=seats, relayed=name == "cut")
        ports = frozenset(int(url.rpartition(":")[2]) for url in self._served["urls"].values())
        self._sampler = Sampler(
            self.measured,
            self._cluster,
            self._parts["plain-1"].pid,
            ports,
            lambda: self._progress(self.measured),
        )
        if not self._waited_for(self._all_available, ALL_AVAILABLE_S):
            raise PartFailed(f"not every account was available in the beginning: {self._available}")

    def _calm(self) -> None:
        self._stopped.wait(CALM_S)
        most = [_most(life.samples[-CALM_SAMPLES:]) for life in self.measured.lives if life.samples]
        self.measured.baseline = _total(most)

    def _carry_out(self) -> None:
        measured = self.measured
        for event in script(measured.seed, self._length_s):
            if self._stopped.wait(max(0.0, measured.began_s + event.at_s - time.monotonic())):
                break
            for program in self._cluster.programs:
                if (status := program.ended_by_itself()) is not None:
                    raise ClusterFailed(f"{program.name} ended by itself: status {status}; see {program.log}")
            self._do(event)
            measured.done[event.kind] += 1
        self._stopped.wait(max(0.0, measured.began_s + self._length_s - time.monotonic()))
        measured.ended_early = self._stopped.is_set()
        measured.length_s = time.monotonic() - measured.began_s

    def _do(self, event: Event) -> None:
        troubles, now_s = self.measured.troubles, time.monotonic()
        match event.kind:
            case "fault" | "mend" | "money":
                self._exchanges.ask(
                    op=event.kind, exchange=event.exchange, account=event.account, fault=event.says,
                    amount=event.says, public=event.public,
                )  # fmt: skip
            case "reload" if event.configured is not None:
                self._configured = event.configured
                self._cluster.configure(event.configured)
                self._cluster.reload()
            case "mistake":
                self._cluster.configure(self._configured, mistaken=True)
                self._cluster.reload()
            case "restart":
                self._restart(event.says)
            case "history":
                self._commands.append(self._cluster.make_history(event.account))
            case "stall":
                os.kill(self._parts["stalled"].pid, signal.SIGSTOP)
                troubles.stalled.append((now_s, float("inf")))
            case "go_on":
                self._go_on()
            case "cut":
                self._parts["cut"].tell(op="cut", lasts_s=event.lasts_s)
                troubles.cut.append((now_s, now_s + event.lasts_s))
            case "replace":
                self._parts["replaced"].tell(op="replace")
            case "hold":
                self._were_held.add(event.account)
                self._command("hold", event.account, "--why", "a soak")
            case _:
                self._release(event.account)

    def _restart(self, way: str) -> None:
        """End a process, each time the next one, and start it again."""
        began_s = time.monotonic()
        programs = self._cluster.programs
        program = programs[self.measured.done["restart"] % len(programs)]
        self._end_life(program, way)
        self._cluster.configure(self._configured)
        self._begin_life(program)
        self.measured.troubles.down.append((began_s, time.monotonic()))

    def _begin_life(self, program: Program) -> None:
        # Before it can be looked at.
        life = Life(program.name, time.monotonic(), 0.0)
        self.measured.lives.append(life)
        life.start_took_s = program.start(self._length_s + EXTRA_S)

    def _end_life(self, program: Program, way: str) -> None:
        life = next(life for life in reversed(self.measured.lives) if life.program == program.name)
        life.ended = way
        life.status = program.stop(kill=way == "killed")
        life.ended_s = time.monotonic()

    def _go_on(self) -> None:
        stalled = self.measured.troubles.stalled
        if stalled and stalled[-1][1] == float("inf"):
            os.kill(self._parts["stalled"].pid, signal.SIGCONT)
            stalled[-1] = (stalled[-1][0], time.monotonic())

    def _come_to_rest(self) -> None:
        measured = self.measured
        for exchange in self._served["urls"]:
            self._exchanges.ask(op="mend", exchange=exchange, account="")
        self._go_on()
        for name in self._were_held:
            self._release(name)
        self._end_commands()
        self._cluster.configure({name: {} for name in BEGINNING})
        self._cluster.reload()
        began_s = time.monotonic()
        if not self._waited_for(self._all_available, BY_ITSELF_S):
            short = sum(min(counts) < len(BEGINNING) for counts in self._available.values())
            measured.resets = short
            for name in BEGINNING:
                self._command("reset", name)
            self._end_commands()
            if not self._waited_for(self._all_available, ALL_AVAILABLE_S):
                return
        measured.recovered_s = time.monotonic() - began_s
        base = measured.baseline
        self._waited_for(lambda: base is None or _is_back(self._now(), base), REST_S)
        measured.rest = self._now()

    def _now(self) -> Sample | None:
        return None if self._sampler is None else _total(list(self._sampler.now().values()))

    def _collect(self) -> None:
        measured = self.measured
        if self._sampler is not None:
            self._sampler.end()
        with contextlib.suppress(PartFailed):
            for part in self._parts.values():
                said = part.ask(op="end")
                self._keep_seen(said)
                measured.lost += said["lost"]
                measured.healed += said["healed"]
                measured.undecodable += said["undecodable"]
            said = self._exchanges.ask(op="record")
            measured.proofs, measured.met, measured.calls = said["proofs"], said["met"], said["calls"]

    def _end_cluster(self) -> None:
        self._end_commands()
        measured = self.measured
        for program in self._cluster.programs:
            if program.pid is not None:
                try:
                    self._end_life(program, "orderly")
                except ClusterFailed as failure:
                    measured.failure = measured.failure or str(failure)
            measured.tracebacks += program.tracebacks()

    def _release(self, account: str) -> None:
        self._end_commands()  # a release that overtakes its hold would leave it there
        self._command("release", account)

    def _command(self, *words: str) -> None:
        self._commands = [each for each in self._commands if each.poll() is None]
        self._commands.append(self._cluster.command(*words))

    def _end_commands(self) -> None:
        for command in self._commands:
            command.wait()
        self._commands.clear()

    def _take(self, name: str, said: dict[str, Any]) -> None:
        """Take in what a process of listeners has counted. On a thread of that process's part."""
        self._available[name] = said["available"]
        self._losses[name] = said["lost"]
        self._keep_seen(said)
        if name == "plain-1":  # once a second
            counts = [count for each in self._available.values() for count in each]
            self.measured.seconds.append(
                Second(said["at_s"], Counter(), sum(self._losses.values()), min(counts, default=0))
            )
        if name.startswith("plain") and self.measured.seconds:
            latencies = Counter({int(number): count for number, count in said["latencies"].items()})
            self.measured.seconds[-1].latencies.update(latencies)
            self.measured.latencies.update(latencies)

    def _keep_seen(self, said: dict[str, Any]) -> None:
        for seen in said["seats"]:
            add_seen(self.measured.seats.setdefault(seen["name"], {}), seen)

    def _all_available(self) -> bool:
        counts = [count for each in tuple(self._available.values()) for count in each]
        return len(counts) == sum(map(len, SEATS.values())) and min(counts) == len(BEGINNING)

    def _waited_for(self, condition: Callable[[], bool], most_s: float) -> bool:
        until_s = time.monotonic() + most_s
        while not condition():
            if time.monotonic() >= until_s:
                return False
            time.sleep(LOOK_S)
        return True


def _most(samples: list[Sample]) -> Sample:
    """The most threads and descriptors of some samples of one process."""
    most = {name: max(getattr(each, name) for each in samples) for name in ("threads", "descriptors")}
    return replace(samples[-1], **most)


def _total(samples: list[Sample]) -> Sample | None:
    """The threads and descriptors of all processes together; the rest is of the first one."""
    if not samples:
        return None
    total = {name: sum(getattr(each, name) for each in samples) for name in ("threads", "descriptors")}
    return replace(samples[0], **total)


def _is_back(now: Sample | None, base: Sample) -> bool:
    return now is not None and now.threads <= base.threads and now.descriptors <= base.descriptors
