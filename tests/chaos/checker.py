"""What must hold of every recording, whatever was done to the processes. Pure.

* An account that is out is shown as available for its time to live at most, by each subscriber. It is out
  while the process that watches it is dead or stopped; after a start and after a leap of time until the
  exchange has answered again; from the error that reaches the threshold to the next answer; while the newest
  answer is too old to prove anything; and, for one subscriber, while it can hear of the account over no way.
* The balance of an account that is available is no older than the proof.
* What was known is known after each restart, and is not older than what was shown before, but for what
  waited to be written when the process was killed. Within one life it never becomes older.
* No order is doubled. None that was said to be placed is missing, and none was placed that was said not to
  be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tests.chaos.evidence import has_reached, ways
from tests.chaos.periods import EVER, Period, between, common, joined, that_holds
from tests.chaos.recording import Account, Process, Recording, Shown, Subscriber

HUNG_FOLD_S = 1.0
"""A fetch that is not over is given up so long after its deadline."""


def violations(recording: Recording) -> list[str]:
    """All that is broken, one sentence for each subscriber, account and period."""
    return [
        *_available_while_out(recording),
        *_available_with_an_old_balance(recording),
        *_forgotten(recording),
        *_orders(recording),
    ]


# --- an account that is out is not shown as available ---------------------------------------------------


def out_at_source(recording: Recording, account: Account) -> tuple[Period, ...]:
    """When the account was out for every subscriber, and why."""
    owner = recording.processes[account.owner]
    good = [call.at_s for call in account.calls if call.good]
    since = [period.begin_s for period in owner.lives] + list(owner.leaps)
    unproven = [Period(at_s, _next(good, at_s), "no answer since the start or the leap") for at_s in since]
    return joined(
        between(owner.lives, "its process was dead"),
        (replace(period, why="its process was stopped") for period in owner.stopped),
        unproven,
        _errors(recording, account),
        (
            Period(at_s + recording.promises.proof_s, after_s, "its newest answer proves nothing any more")
            for at_s, after_s in zip(good, [*good[1:], EVER], strict=True)
        ),
    )


def _next(moments: list[float], after_s: float) -> float:
    return next((at_s for at_s in moments if at_s >= after_s), EVER)


def _errors(recording: Recording, account: Account) -> Iterator[Period]:
    """From the error that reaches the threshold to the next answer."""
    row = 0
    for number, call in enumerate(account.calls):
        row = 0 if call.good else row + 1
        if row == recording.promises.threshold:
            over_s = recording.promises.deadline_s + HUNG_FOLD_S if call.hangs else 0.0
            good = [each.at_s for each in account.calls[number:] if each.good]
            yield Period(call.at_s + over_s, good[0] if good else EVER, "its exchange failed")


@dataclass(frozen=True, slots=True)
class Out:
    """When an account was out for one subscriber.

    A process that stands still loses nothing: what was sent to it waits, and is read when it goes on. So does
    what a connection holds. What else was the matter counts from its own beginning after that.
    """

    whole: tuple[Period, ...]
    """For any cause."""
    lost: tuple[Period, ...]
    """For causes by which nothing was underway."""
    waiting: tuple[Period, ...]
    """While what was underway waited."""

    def at(self, at_s: float) -> Period | None:
        """The period in which this moment lies."""
        is_waiting = that_holds(self.waiting, at_s) is not None
        return that_holds(self.whole if is_waiting else self.lost, at_s)


def out_for(
    recording: Recording, subscriber: Subscriber, account: Account, source: tuple[Period, ...]
) -> Out:
    """When an account was out for a subscriber: at its source, or because it was heard over no way."""
    whole: tuple[Period, ...] | None = None
    lost: tuple[Period, ...] = ()
    waiting: tuple[Period, ...] = ()
    for name, (nearer, further) in ways(subscriber, account).items():
        process = recording.processes[name]
        stopped = [replace(period, why=f"{name} was stopped") for period in process.stopped]
        goes_on = [each for each in stopped if that_holds(process.lives, each.end_s) is not None]
        deaf = joined(
            (replace(period, why=f"{name} was not heard") for period in nearer.cut),
            (replace(period, why=f"{name} did not hear {account.owner}") for period in further.cut),
            (each for each in stopped if each not in goes_on),
            between(process.lives, f"{name} was dead"),
        )
        held = (replace(each, why=f"{name} was not heard") for each in nearer.held)
        elsewhere = (replace(each, why=f"{name} did not hear {account.owner}") for each in further.held)
        goes_on = [*goes_on, *held, *elsewhere]
        still = joined(deaf, goes_on)
        whole, lost = (still, deaf) if whole is None else (common(whole, still), common(lost, deaf))
        waiting = joined(waiting, goes_on)
    whole = whole or ()
    return Out(joined(source, whole), joined(source, lost), common(whole, waiting))


def _late_s(subscriber: Subscriber, account: Account, begin_s: float, end_s: float) -> float:
    """The largest delay of what the subscriber heard of the account in a period.

    A delay that began before the life of the publisher did cannot be seen by a receiver (rule 4 of
    docs/wire.md).
    """
    return max(
        (
            sum(
                max(
                    (s for when, s in way.late if when.begin_s <= end_s and when.end_s + s >= begin_s),
                    default=0,
                )
                for way in pair
            )
            for pair in ways(subscriber, account).values()
        ),
        default=0.0,
    )


def _available_while_out(recording: Recording) -> Iterator[str]:
    outs = {name: out_at_source(recording, account) for name, account in recording.accounts.items()}
    for listener, subscriber in recording.subscribers.items():
        periods = {
            name: out_for(recording, subscriber, account, outs[name])
            for name, account in recording.accounts.items()
        }
        named: set[tuple[str, float]] = set()
        for shown in _judged(recording, subscriber):
            period = periods[shown.account].at(shown.at_s)
            if not shown.available or period is None or (shown.account, period.begin_s) in named:
                continue
            allowed_s = recording.promises.ttl_s + recording.promises.grace_s
            reach_s = period.begin_s + allowed_s
            account = recording.accounts[shown.account]
            late_s = _late_s(subscriber, account, period.begin_s, shown.at_s)
            since_s = shown.at_s - allowed_s - late_s
            if shown.at_s > reach_s + late_s and not has_reached(
                recording, subscriber, account, outs[shown.account], since_s=since_s, by_s=shown.at_s
            ):
                named.add((shown.account, period.begin_s))
                yield (
                    f"{listener} showed {shown.account} as available at {_at(recording, shown.at_s)}, "
                    f"{shown.at_s - period.begin_s:.1f} s after it was out (from "
                    f"{_at(recording, period.begin_s)} to {_at(recording, period.end_s)}: {period.why})"
                )


def _judged(recording: Recording, subscriber: Subscriber) -> Iterator[Shown]:
    for shown in subscriber.shown:
        if recording.begins_s <= shown.at_s <= recording.ends_s and shown.account in recording.accounts:
            yield shown


def _at(recording: Recording, at_s: float) -> str:
    return "the end" if at_s == EVER else f"{at_s - recording.begins_s:.1f} s"


def _available_with_an_old_balance(recording: Recording) -> Iterator[str]:
    promises = recording.promises
    for listener, subscriber in recording.subscribers.items():
        oldest_s = promises.proof_s + promises.ttl_s + promises.grace_s
        named: set[tuple[str, int | None]] = set()
        for shown in _judged(recording, subscriber):
            account = recording.accounts[shown.account]
            replaced = account.versions
            if not shown.available or (shown.account, shown.version) in named or not subscriber.says_versions:
                continue
            if shown.version is None:
                named.add((shown.account, None))
                yield f"{listener} showed {shown.account} as available without any balance"
            elif shown.version <= len(replaced) and shown.at_s - replaced[
                shown.version - 1
            ] > oldest_s + _late_s(subscriber, account, shown.at_s - oldest_s, shown.at_s):
                named.add((shown.account, shown.version))
                yield (
                    f"{listener} showed {shown.account} as available at {_at(recording, shown.at_s)} with a "
                    f"balance that was replaced {shown.at_s - replaced[shown.version - 1]:.1f} s before"
                )


# --- what is known is not lost --------------------------------------------------------------------------


def _forgotten(recording: Recording) -> Iterator[str]:
    heard, kept = _what_was_kept(recording)
    for listener, subscriber in recording.subscribers.items():
        named: set[tuple[str, str]] = set()
        before: dict[tuple[str, str], int] = {}
        for shown in _judged(recording, subscriber):
            key = shown.account, shown.epoch
            if key in named or not subscriber.says_versions:
                continue
            owner = recording.processes[recording.accounts[shown.account].owner]
            # By when it was first heard: one that listens late goes on to show what was before this life.
            life = that_holds(owner.lives, heard[key])
            known = max(before.get(key, 0), 0 if life is None else kept[shown.account, life])
            before[key] = max(before.get(key, 0), shown.version or 0)
            if (shown.version or 0) >= known:
                continue
            if shown.version is None and not _can_read(recording, owner, shown):
                continue
            named.add(key)
            now = "none" if shown.version is None else f"version {shown.version}"
            yield (
                f"{listener} showed {now} as the last known balance of {shown.account} at "
                f"{_at(recording, shown.at_s)}, in a life that was first heard at "
                f"{_at(recording, heard[key])}, and version {known} was known before"
            )


def _what_was_kept(
    recording: Recording,
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, Period], int]]:
    """When each life of an account's actor was first heard; and by account and life of its process, the
    newest version that was shown so long before the end of an earlier life that it was written, else 0."""
    everything = sorted(
        (shown for subscriber in recording.subscribers.values() for shown in subscriber.shown),
        key=lambda shown: shown.at_s,
    )
    heard: dict[tuple[str, str], float] = {}
    for shown in everything:
        heard.setdefault((shown.account, shown.epoch), shown.at_s)
    kept: dict[tuple[str, Period], int] = {}
    for name, account in recording.accounts.items():
        owner, newest = recording.processes[account.owner], 0
        mine = [shown for shown in everything if shown.account == name and shown.version is not None]
        for life in owner.lives:
            kept[name, life] = newest
            until_s = _written_until_s(recording, owner, life)
            versions = [
                shown.version or 0
                for shown in mine
                if shown.at_s <= until_s and life.holds(heard[name, shown.epoch])
            ]
            newest = max([newest, *versions])
    return heard, kept


def _written_until_s(recording: Recording, owner: Process, life: Period) -> float:
    """What was shown in a life up to this moment was written before its end."""
    promises = recording.promises
    hindered = joined(
        (Period(p.begin_s - promises.written_s, p.end_s + promises.rewritten_s) for p in owner.full),
        (Period(p.begin_s - promises.written_s, p.end_s + promises.written_s) for p in owner.stopped),
    )
    until_s = life.end_s - promises.written_s
    period = that_holds(hindered, until_s)
    return until_s if period is None else period.begin_s


def _can_read(recording: Recording, process: Process, shown: Shown) -> bool:
    """Whether the store can be read: a database on a full disk may not open."""
    return not any(
        period.begin_s <= shown.at_s <= period.end_s + recording.promises.rewritten_s
        for period in process.full
    )


# --- orders ---------------------------------------------------------------------------------------------


def _orders(recording: Recording) -> Iterator[str]:
    by_id = Counter((each.account, each.order_id) for each in recording.placed)
    by_size = Counter((each.account, each.size) for each in recording.placed)
    meant = {(each.account, each.size) for each in recording.intents}
    for (account, size), count in by_size.items():
        if count > 1:
            yield f"{account} has {count} orders for {size}, which was to be ordered once"
        if (account, size) not in meant:
            yield f"{account} has an order for {size}, which no program meant to place"
    for (account, order_id), count in by_id.items():
        if count > 1 and order_id:
            yield f"{account} has {count} orders with the id {order_id}"
    for intent in recording.intents:
        count = by_size[intent.account, intent.size]
        if intent.end == "placed" and count == 0:
            yield f"{intent.account} has no order for {intent.size}, which was said to be placed"
        if intent.end == "not placed" and count > 0:
            yield f"{intent.account} has an order for {intent.size}, which was said not to be placed"


def figures(recording: Recording) -> Mapping[str, int]:
    """How much there was to judge. A round in which little happened proves little."""
    shown = [each for subscriber in recording.subscribers.values() for each in subscriber.shown]
    return {
        "samples shown": len(shown),
        "of them available": sum(each.available for each in shown),
        "restarts": sum(len(process.lives) - 1 for process in recording.processes.values()),
        "periods out": sum(len(out_at_source(recording, each)) for each in recording.accounts.values()),
        "questions about balances": sum(len(account.calls) for account in recording.accounts.values()),
        "of them failed": sum(
            not call.good for account in recording.accounts.values() for call in account.calls
        ),
        "orders meant": len(recording.intents),
        "of unknown outcome": sum(not intent.end for intent in recording.intents),
        "orders placed": len(recording.placed),
    }
