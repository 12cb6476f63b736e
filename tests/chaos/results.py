"""The recording of a round, read from its files and from what the round did itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.chaos import cast
from tests.chaos.lines import lines_of
from tests.chaos.periods import Period, joined
from tests.chaos.recording import Account, Call, Intent, Placed, Recording, Shown, Subscriber, Way
from tests.chaos.stage import LinkPeriod, Stage, link_name

HELD_EVERY_S: Final = 0.5
"""So often a program that writes down changes alone counts as showing what it showed last."""
AWAKE_S: Final = 2.0
"""A program that was stopped, or has just said something, may take so long until it says the next thing."""


def recording_of(stage: Stage, begins_s: float, ends_s: float, orders: list[list[str]]) -> Recording:
    """All that was recorded. To be called when the programs have ended."""
    folder = stage.folder
    return Recording(
        promises=cast.PROMISES,
        begins_s=begins_s,
        ends_s=ends_s,
        processes={name: stage.victims[name].record() for name in (*cast.NODES, *cast.PUBLISHERS)},
        accounts=_accounts(stage),
        subscribers={name: _subscriber(stage, name) for name in stage.subscribers},
        intents=tuple(_intents(folder / f"{cast.DESK}.journal")),
        placed=tuple(Placed(*order) for order in orders),
    )


def _accounts(stage: Stage) -> Mapping[str, Account]:
    calls: dict[str, list[Call]] = {}
    versions: dict[str, list[float]] = {}
    for line in lines_of(stage.folder / "truth.jsonl"):
        if "account" in line:
            call = Call(line["at_s"], line["good"], line["hangs"])
            calls.setdefault(line["account"], []).append(call)
        elif "replaced" in line:
            versions.setdefault(line["replaced"], []).append(line["at_s"])
    return {
        name: Account(
            owner,
            {cast.DESK: Way()}
            if owner == cast.DESK
            else {each: _way(stage, f"{owner}-{each}", "up") for each in cast.SUPERVISORS},
            tuple(calls.get(name, ())),
            tuple(versions.get(name, ())),
        )
        for owner, accounts in cast.ACCOUNTS.items()
        for name in accounts
    }


def _way(stage: Stage, link: str, direction: str) -> Way:
    """What was wrong with a link, for what comes over it in a direction."""
    periods = [each for each in stage.link_periods if each.link == link]
    return Way(
        tuple(Period(each.begin_s, each.end_s) for each in periods if _is_lost(each)),
        tuple(Period(each.begin_s, each.end_s) for each in periods if _is_held(each, direction)),
        tuple(
            (Period(each.begin_s, each.end_s), float(str(each.action.detail["late_s"])))
            for each in periods
            if each.action.kind == "delay" and link != cast.ABROAD
        ),
    )


def _is_lost(period: LinkPeriod) -> bool:
    return period.action.kind == "cut" and period.link != cast.ABROAD


def _is_held(period: LinkPeriod, direction: str) -> bool:
    if period.link == cast.ABROAD:
        return True  # without an answer from there nothing more is sent, and what was sent is sent again
    return direction in str(period.action.detail.get("ways", "")).split()


def _subscriber(stage: Stage, name: str) -> Subscriber:
    hears = {
        publisher: _way(stage, link_name(name, publisher), "down") for publisher in stage.subscribers[name]
    }
    path = stage.folder / f"{name}.shown"
    if name != cast.OTHER_LANGUAGE:
        return Subscriber(tuple(_shown(path)), hears)
    process = stage.victims[name].record()
    silent = [Period(each.begin_s, each.end_s + AWAKE_S) for each in process.stopped]
    return Subscriber(tuple(held_on(path, joined(silent))), hears, says_versions=False)


def _shown(path: Path) -> Iterator[Shown]:
    for line in lines_of(path):
        for account, (available, version, reason, epoch) in line.get("shown", {}).items():
            yield Shown(line["at_s"], account, available, version, reason, epoch)


def held_on(path: Path, silent: tuple[Period, ...]) -> Iterator[Shown]:
    """What a program showed that writes down changes alone: the newest of each account, until its next word.

    While it was stopped it showed nothing.
    """
    newest: dict[str, tuple[float, bool, str]] = {}

    def until(account: str, end_s: float) -> Iterator[Shown]:
        at_s, available, reason = newest[account]
        while at_s < end_s:
            if not any(period.holds(at_s) for period in silent):
                yield Shown(at_s, account, available, None, reason)
            at_s += HELD_EVERY_S

    for line in lines_of(path):
        if "said" in line:
            said = json.loads(line["said"])
            account = said["broker"]
            if account in newest:
                yield from until(account, line["at_s"])
            newest[account] = line["at_s"], said["available"], said["reason"]
        elif "ended" in line:
            for account in newest:
                yield from until(account, line["at_s"])
            newest = {}


def _intents(path: Path) -> list[Intent]:
    meant: dict[str, Intent] = {}
    for line in lines_of(path):
        if "meant" in line:
            account, order_id, size = line["meant"]
            meant[order_id] = Intent(account, order_id, size, "")
        elif "order" in line:
            before = meant[line["order"]]
            meant[line["order"]] = Intent(before.account, before.order_id, before.size, line["end"])
    return list(meant.values())
