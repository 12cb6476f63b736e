"""A round of chaos: `make chaos`, or `python -m tests.chaos --seconds 30 --seed 4711`.

It prints its seed first, then what it does, and at the end how much there was to judge and what was broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.chaos import namespaces
from tests.chaos.cast import PROMISES
from tests.chaos.checker import figures, violations
from tests.chaos.plan import Action, plan
from tests.chaos.results import recording_of
from tests.chaos.stage import LOOK_S, START_S, Stage
from tests.support.programs import ROOT

HEAL_S: Final = 90.0
"""So many seconds after the last action everything is available again. A key whose program was killed with a
wrong clock may be refused for a minute (docs/configuration.md, "What is remembered")."""
SLOW_S: Final = 15.0
"""So often what is not available yet is printed."""
MOST_NAMED: Final = 4
MOST_SURPRISES: Final = 3
"""After so many ends that nothing of ours brought about there is nothing to wait for."""


def main() -> int:
    """Run a round. The status is 1 where something was broken."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Kill, stop, cut off and starve, and check."
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long things are done")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--no-namespaces", action="store_true", help="as on a machine that has none")
    options = parser.parse_args()
    why = "not wanted" if options.no_namespaces else namespaces.enter()
    print(f"seed {options.seed}, {options.seconds:g} s; again: make chaos SEED={options.seed}")
    print(f"network namespaces: {f'no ({why})' if why else 'yes'}")
    node = node_program()
    print(
        f"a subscriber in another language: {'yes' if node else 'no (`make node` has not run)'}", flush=True
    )
    folder = Path(tempfile.mkdtemp(prefix="bw-chaos-"))
    stage = Stage(folder, namespaces=not why, node=node)
    broken = play(stage, options.seed, options.seconds)
    for each in broken:
        print(f"BROKEN: {each}")
    if broken:
        print(f"{len(broken)} broken with seed {options.seed}; the recording is in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if broken else 0


def node_program() -> str:
    """Node; empty where it or a module of the example is missing."""
    found = shutil.which("node") or ""
    return found if (ROOT / "examples/node/node_modules/zeromq").exists() else ""


def play(stage: Stage, seed: int, length_s: float) -> list[str]:
    """Run one round; what was broken in it."""
    try:
        stage.build()
        missing = healed(stage, START_S)
        if missing or stage.surprises():
            return [
                f"not available {START_S:g} s after the start: {each}" for each in missing
            ] + stage.surprises()
        begins_s = time.monotonic()
        act(stage, plan(seed, length_s, stage.targets, PROMISES.ttl_s), begins_s)
        over_s = time.monotonic()
        missing = healed(stage, HEAL_S)
        ends_s = time.monotonic()
        print(f"healed {ends_s - over_s:.1f} s after the last action" if not missing else "not healed")
        stage.end_programs()
        recording = recording_of(stage, begins_s, ends_s, stage.orders())
        for what, count in figures(recording).items():
            print(f"{count:>9,}  {what}")
        unhealed = [f"not available {HEAL_S:g} s after the last action: {each}" for each in missing]
        return [*violations(recording), *stage.surprises(), *tracebacks(stage), *unhealed]
    finally:
        stage.close()


def act(stage: Stage, actions: tuple[Action, ...], begins_s: float) -> None:
    """Do and undo each action at its time."""
    moments = sorted(
        [(action.begin_s, number, stage.begin) for number, action in enumerate(actions)]
        + [(action.end_s, number, stage.end) for number, action in enumerate(actions)],
        key=lambda moment: moment[:2],
    )
    for at_s, number, do in moments:
        while (left_s := begins_s + at_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.2))
        if do == stage.begin:
            print(actions[number], flush=True)
        do(actions[number])


def healed(stage: Stage, patience_s: float) -> list[str]:
    """Wait until each subscriber shows each account as available; what it does not show by then."""
    began_s = time.monotonic()
    until_s, said_s = began_s + patience_s, began_s + SLOW_S
    while True:
        stage.look()
        missing = stage.not_shown(time.monotonic() - 2.0)
        if not missing or time.monotonic() > until_s or len(stage.surprises()) > MOST_SURPRISES:
            return missing
        if time.monotonic() > said_s:
            words = "; ".join(missing[:MOST_NAMED])
            print(f"after {said_s - began_s:.0f} s {len(missing)} are not available: {words}", flush=True)
            said_s += SLOW_S
        time.sleep(LOOK_S)


def tracebacks(stage: Stage) -> list[str]:
    """The programs whose logs have a traceback."""
    found: list[str] = []
    for victim in stage.victims.values():
        count = victim.log.read_text(errors="replace").count("Traceback (most recent call last)")
        if count:
            found.append(f"{victim.name} wrote {count} tracebacks; see {victim.log}")
    return found


if __name__ == "__main__":
    sys.exit(main())
