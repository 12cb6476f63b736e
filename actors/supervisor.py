"""HealthSupervisor: watches the brokers, lays vetoes, publishes readings, restarts dead actors.

It knows a broker only by what arrives on the bus, and adds what a broker cannot know of itself: silence,
death, an event loop that hangs, a broken configuration. `brokerwatch.health.supervision` decides which
brokers are silent, `brokerwatch.health.loops` which loops hang, and `brokerwatch.health.restarts` how often
an actor may be restarted. This is the driver of the three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, assert_never

from brokerwatch.actors.base import stop_soon, tell
from brokerwatch.actors.health_rounds import HealthRounds
from brokerwatch.actors.loop_watch import LoopWatch
from brokerwatch.actors.protocol import (
    ITS_END,
    AskAnew,
    Died,
    Drain,
    GiveWay,
    Life,
    LookAtLoops,
    LookRound,
    OperatorCommand,
    Regroup,
    ReportNow,
    Reset,
    RestartDue,
    held_words,
)
from brokerwatch.actors.published_views import PublishedViews
from brokerwatch.actors.supervisor_context import SupervisorContext
from brokerwatch.clock import Instant, moment
from brokerwatch.errors import ControlError
from brokerwatch.health.loops import Finding, is_settled, look_interval_s
from brokerwatch.health.restarts import Restarts
from brokerwatch.health.supervision import View
from brokerwatch.log import about, logger
from brokerwatch.messages import Reason, clipped
from brokerwatch.storage.records import Hold

_log: Final = logger(__name__)

GIVEN_UP: Final = frozenset({Reason.CONFIG, Reason.FAILED})
"""Under these vetoes there is no running actor and none to restart."""
NOT_STORED: Final = "it could not be stored yet: until it is, a restart would not know of it"

SupervisorMessage = Drain | LookRound | LookAtLoops | Died | RestartDue | OperatorCommand | GiveWay | Regroup


class HealthSupervisor(HealthRounds):
    """Watches the broker actors of one cluster. All of its methods run on its own thread.

    `views` has one entry per broker. `lives` are the broker actors that run when the supervisor starts.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        lives: dict[str, Life],
        context: SupervisorContext,
        on_death: Callable[[str], None],
    ) -> None:
        published = PublishedViews(views, context.topic, context.journal, context.board, context.clock)
        super().__init__(published, context.alarms, context.heartbeat_s, on_death)
        self._lives = lives
        self._context = context
        self._board = context.board
        self._journal = context.journal
        self._restarts = context.restarts
        self._exempt = {name for name, view in views.items() if view.vetoes.laid.keys() & GIVEN_UP}
        """Brokers that have no running actor: given up, or waiting for their restart."""
        self._gave_way = ""
        """Why no exchange is asked any more, for good."""
        self._looks = False
        """Whether a look at the event loops is due."""
        hanging = {name for name, view in views.items() if Reason.LOOP in view.vetoes.laid}
        self._loops = LoopWatch(context.loops, context.heartbeat_s, context.clock.now(), hanging)

    def begin(self) -> None:
        now = self._context.clock.now()
        for name, view in self._views.items():
            self._views.put(name, self._held_as_known(name, view, now))
        self._views.begin()
        for life in self._lives.values():
            tell(life.ref, ReportNow())
        self._views.publish_all()
        self._arm(now)
        self._arm_loops()

    def handle(self, message: Any) -> None:
        """Handle one message of `SupervisorMessage`."""
        known: SupervisorMessage = message
        now = self._context.clock.now()
        match known:
            case Drain():
                moved = False
                for name, evidence in self._context.take_newest().items():
                    life = self._lives.get(name)
                    # Only the life that was started here: on a tcp bus any process may publish.
                    if life is not None and life.epoch == evidence.broker_epoch:
                        moved = moved or self._views[name].newest.fault is not evidence.fault
                        self._views.change(
                            name, self._settled(name, self._views[name].heard(evidence, now), now)
                        )
                if moved:
                    self._views.suspect_ourselves(self._exempt)
            case LookRound():
                self._look_round(now)
                self._views.suspect_ourselves(self._exempt)
                self._arm(now)
            case LookAtLoops():
                self._look_at_loops(now)
                self._arm_loops()
            case Died(broker, epoch, why):
                life = self._lives.get(broker)
                if life is not None and life.epoch == epoch and broker not in self._exempt:
                    self._replace(broker, f"its actor died: {why}", now)
            case RestartDue(broker):
                # An operator may have been quicker, and it may have been given up since then.
                if broker in self._exempt and Reason.FAILED not in self._views[broker].vetoes.laid:
                    self._start(broker, now)
            case OperatorCommand():
                self._obey(known, now)
            case Regroup():
                self._regroup(known, now)
            case GiveWay(why):
                self._gave_way = why
                for name, view in self._views.items():
                    self._views.change(name, view.vetoed(Reason.FAILED, why, now))
            case _:
                assert_never(known)

    def _regroup(self, regroup: Regroup, now: Instant) -> None:
        """Have other brokers from now on. Those that stay are not touched."""
        before, joined = dict(self._views), regroup.joined
        for name in before:
            if name in joined or name not in regroup.names:
                self._lives.pop(name, None)
                self._exempt.discard(name)
        for name, (_, life) in joined.items():
            self._restarts[name] = Restarts()
            if life is None:
                self._exempt.add(name)
            else:
                self._lives[name] = life
        why = self._gave_way
        # Each is as old as the reload: a hold may be newer, and only from here on it can be heard.
        joining = {
            name: self._held_as_known(name, replace(view, heard_s=now.up_s), now)
            for name, (view, _) in joined.items()
        }
        if why:
            joining = {name: view.vetoed(Reason.FAILED, why, now) for name, view in joining.items()}
        known = {name: joining.get(name) or before[name] for name in regroup.names}
        self._views.regroup(known, joining, regroup.arrangement)
        if regroup.arrangement == self._board.arrangement:
            # Once more, for what was being published just when they left. After another reload it may be old.
            for reading in regroup.left:
                self._context.topic.farewell(reading)
        self._views.publish_all()
        for _, life in joined.values():
            if life is not None:
                tell(life.ref, ReportNow())
        if not self._looks:
            self._arm_loops()  # the first account that has one may have come just now
        regroup.done.set_result(None)

    def _look_round(self, now: Instant) -> None:
        found = self._judge(now, self._exempt)
        for name in found.to_ask:
            tell(self._lives[name].ref, ReportNow())
        for name in found.to_replace:
            self._replace(name, "its actor hangs: nothing was heard of it", now)
        # The sweep finds actors that ended without a `Died`.
        for name, life in self._lives.items():
            if name not in self._exempt and not life.ref.is_alive():
                self._replace(name, "its actor is gone", now)
        self._end_holds(now)
        self._views.publish_all()

    def _arm_loops(self) -> None:
        me = self.actor_ref
        self._looks = bool(self._context.loops())
        if self._looks:
            interval_s = look_interval_s(self._context.heartbeat_s)
            self._context.alarms.after(interval_s, lambda: tell(me, LookAtLoops()))

    def _look_at_loops(self, now: Instant) -> None:
        for news in self._loops.look(now):
            for name in filter(self._views.__contains__, news.brokers):
                match news.finding:
                    case Finding.HANGS:
                        self._views.change(name, self._views[name].vetoed(Reason.LOOP, news.detail, now))
                        continue
                    case Finding.GIVE_UP:
                        self._views.change(name, self._views[name].vetoed(Reason.FAILED, news.detail, now))
                    case _:
                        pass
                # Also where it was given up: then its callers are answered at once.
                tell(self._lives[name].ref, AskAnew(news.detail))
        for name, view in self._views.items():
            self._views.change(name, self._settled(name, view, now))

    def _settled(self, name: str, view: View, now: Instant) -> View:
        """Without the veto of a loop that hung, once the account has answered on one that turns."""
        if Reason.LOOP in view.vetoes.laid and self._loops.turns(name) and is_settled(view):
            return view.released(now, Reason.LOOP)
        return view

    def _end_holds(self, now: Instant) -> None:
        for name, view in self._views.items():
            vetoes = view.vetoes.lift_ended(now)
            if vetoes is not view.vetoes and self._views.is_current(name):
                words = view.vetoes.laid[Reason.HELD_OUT].detail
                self._journal.held(name, None)
                self._journal.commanded("release", ITS_END, view.reading, words, now)
                _log.warning("%s is no longer held out %s", name, words, extra=about(name))
                self._views.change(name, replace(view, vetoes=vetoes))

    def _held_as_known(self, name: str, view: View, now: Instant) -> View:
        """The view with the hold that the journal knows, where it knows of any: the board may be behind."""
        if not self._journal.remembers:
            return view
        hold, laid = self._journal.hold_of(name), view.vetoes.laid.get(Reason.HELD_OUT)
        free = view.released(now, Reason.HELD_OUT)
        until = None if hold is None else moment(hold.until_us, now)
        if hold is None or (until is not None and until.up_s <= now.up_s and laid is None):
            return free
        words = held_words(hold)
        if laid is not None and laid.detail == clipped(words):
            return view
        return replace(free, vetoes=free.vetoes.lay(Reason.HELD_OUT, words, now, until=until))

    def _obey(self, command: OperatorCommand, now: Instant) -> None:
        name = command.broker
        if not command.reply.set_running_or_notify_cancel():
            return  # the operator cancelled the command
        try:
            reply, durable = self._obeyed(command, now)
        except ControlError as error:
            command.reply.set_exception(error)
            return
        except BaseException as error:
            words = f"the supervisor failed over this command: {type(error).__name__}: {error}"
            command.reply.set_exception(ControlError(words))
            raise
        self._journal.commanded(command.verb, command.by, self._views[name].reading, reply, now)
        _log.warning("%s (%s)", reply, command.by, extra=about(name))
        if durable is None:
            command.reply.set_result(reply)
        else:
            # The operator relies on the reply, also after a kill: it comes when the store has the hold.
            durable.add_done_callback(
                lambda done: command.reply.set_result(reply if done.result() else f"{reply}; {NOT_STORED}")
            )

    def _obeyed(self, command: OperatorCommand, now: Instant) -> tuple[str, Future[bool] | None]:
        """Carry out a command: the answer, and what is done when the store has it. Raises ControlError."""
        name = command.broker
        if self._gave_way:
            raise ControlError(self._gave_way)
        if name not in self._views and name in self._board:
            raise ControlError(f"{name} is just coming into the cluster; try again")
        if name not in self._views or name not in self._board:
            known = ", ".join(sorted(self._views)) or "none"
            raise ControlError(f"no broker named {name!r} in this cluster; there are: {known}")
        by_journal = self._journal.remembers and command.verb != "reset"
        if not self._views.is_current(name) and not by_journal:
            raise ControlError(f"{name} is just coming back into the cluster; try again")
        match command.verb:
            case "hold":
                return self._hold(command, now)
            case "release":
                return self._release(name, now)
            case "reset":
                return self._reset(name, now), None
            case _:
                raise ControlError(f"no such command: {command.verb[:40]!r}")

    def _hold(self, command: OperatorCommand, now: Instant) -> tuple[str, Future[bool] | None]:
        name, until = command.broker, command.until
        if not command.why.strip():
            raise ControlError("a hold needs a reason, so that others know: --why TEXT")
        if until is not None and until.up_s <= now.up_s:
            raise ControlError("that moment is over")
        until_us = None if until is None else until.wall_us
        hold = Hold(name, command.by, command.why.strip(), now.wall_us, until_us)
        words = held_words(hold)
        view = self._views[name].released(now, Reason.HELD_OUT)
        durable = self._journal.held(name, hold)
        self._views.change(
            name, replace(view, vetoes=view.vetoes.lay(Reason.HELD_OUT, words, now, until=until))
        )
        return f"{name} is held out {words}", durable

    def _release(self, name: str, now: Instant) -> tuple[str, Future[bool] | None]:
        view = self._views[name].released(now, Reason.HELD_OUT)
        if view is self._views[name]:
            raise ControlError(f"{name} is not held out")
        durable = self._journal.held(name, None)
        self._views.change(name, view)
        reading = view.reading
        answer = "available" if reading.available else f"not available: {reading.reason}"
        return f"{name} is released and is {answer}", durable

    def _reset(self, name: str, now: Instant) -> str:
        view = self._views[name]
        if Reason.CONFIG in view.vetoes.laid:
            raise ControlError(f"{name} is configured wrongly: {view.vetoes.laid[Reason.CONFIG].detail}")
        revived = self._loops.revive(name, now)
        for each in filter(self._views.__contains__, revived):
            # The veto of the loop stays until the account has answered.
            looped = self._views[each].released(now, Reason.FAILED).vetoed(Reason.LOOP, "reset", now)
            self._views.change(each, looped)
        if revived:
            return f"{', '.join(revived)}: asked again on another event loop"
        if Reason.FAILED in view.vetoes.laid or not self._lives[name].ref.is_alive():
            self._restarts[name] = Restarts()
            self._views.change(
                name, view.released(now, Reason.FAILED).vetoed(Reason.RESTARTING, "reset", now)
            )
            self._start(name, now)
            return f"{name} is started again"
        tell(self._lives[name].ref, Reset())
        match view.newest.verdict.reason:
            case Reason.AUTH:
                return f"{name} may ask its exchange again"
            case Reason.LOCKED_OUT:
                return f"{name} is still locked out by its exchange, which cannot be ended from here"
            case Reason.CLAIM:
                return f"{name} is not asked here: the claim of its key is another node's, or not confirmed"
            case _:
                return f"nothing was final for {name}; it asks its exchange now"

    def _replace(self, name: str, why: str, now: Instant) -> None:
        """Schedule a restart, unless the actor has used up its restarts."""
        if not self._views.is_current(name):
            return  # it has left, and `Regroup` is on its way
        self._exempt.add(name)
        stop_soon(self._lives[name].ref)
        self._restarts[name], wait_s = self._restarts[name].died(now.up_s, self._context.uniform)
        if wait_s is None:
            limit = self._restarts[name]
            text = f"gave up after {limit.limit} restarts within {limit.window_s:g} s; the last: {why}"
            _log.error("%s has failed: %s", name, text, extra=about(name, reason="failed"))
            self._views.change(name, self._views[name].vetoed(Reason.FAILED, text, now))
            return
        _log.warning(
            "%s is restarted in %.1f s: %s", name, wait_s, why, extra=about(name, reason="restarting")
        )
        self._views.change(name, self._views[name].vetoed(Reason.RESTARTING, why, now))
        me = self.actor_ref
        self._context.alarms.after(wait_s, lambda: tell(me, RestartDue(name)))

    def _start(self, name: str, now: Instant) -> None:
        if not self._views.is_current(name):
            return  # it left, and may have come back with an actor: it stays exempt until `Regroup` says so
        try:
            life = self._context.start_broker(name)
        except RuntimeError as error:  # the system gives no thread just now
            self._exempt.discard(name)
            self._replace(name, f"could not be started: {error}", now)
            return
        if life is None:
            return  # as above, just now
        self._lives[name] = life
        self._exempt.discard(name)
        self._views.put(name, replace(self._views[name], heard_s=now.up_s))
