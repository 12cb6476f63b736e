"""The one part of a context that says which keys are let in: a ZAP handler (ZeroMQ RFC 27) on its own thread.

libzmq asks it at each handshake. Where it is not there, a socket that enforces its domain lets nothing in, so
its death closes the door and does not open it. The threads of the sockets look at it, and start it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

import zmq
from zmq.utils import z85

from brokerwatch.bus.allow_list import AllowList, Answer
from brokerwatch.bus.sockets import OPEN_DOMAIN, Bus, Waker
from brokerwatch.bus.turning import TURN_S, Turning
from brokerwatch.errors import EndpointUnavailable
from brokerwatch.log import logger

_log: Final = logger(__name__)

ENDPOINT: Final = "inproc://zeromq.zap.01"
AGAIN_S: Final = 0.5
"""The shortest time between two starts."""
MOST_NAMED: Final = 100
"""Keys that were refused are named in the log: each once at each endpoint, and no more than so many."""
_VERSION: Final = b"1.0"
_CODES: Final = {Answer.YES: b"200", Answer.LATER: b"300", Answer.NO: b"400"}
"""To 300 libzmq only ends the connection, and the peer comes again. After 400 it does not come by itself."""


class ZapHandler:
    """Answers for every socket of one context.

    `start` comes before any socket binds. `tend` may be called from any thread.

    Args:
        bus: the context.
        lists: the name of each domain, and its list.
    """

    def __init__(self, bus: Bus, lists: Mapping[str, AllowList]) -> None:
        self._bus = bus
        self._lists = dict(lists)
        self._lock = threading.Lock()
        self._stopping = False
        self._waker = Waker()
        self._thread: threading.Thread | None = None
        self._started_s = 0.0
        self._named: set[tuple[str, bytes]] = set()
        self._turning = Turning()
        self._failure = ""
        """Why the newest start failed; empty: it answers, or did."""
        self.starts = 0
        """How often it was started."""

    def start(self) -> None:
        """Begin to answer. When this returns, handshakes are answered. Raises EndpointUnavailable."""
        self._begin().wait()
        if self._failure:
            raise EndpointUnavailable(self._failure)

    def tend(self) -> None:
        """Start it again if it has died. Never waits for it."""
        thread = self._thread
        if thread is None or thread.is_alive() or self._stopping:
            return
        with self._lock:
            is_due = time.monotonic() >= self._started_s + AGAIN_S
            if thread is self._thread and is_due and not self._stopping:
                _log.error("the check of keys has died and is started again; meanwhile it let nothing in")
                self._begin()

    def fault(self) -> str:
        """Whether it hangs, in words; empty where it does not. One that has died is started again."""
        thread = self._thread
        return "" if thread is None or not thread.is_alive() else self._turning.fault(thread)

    def stop(self, deadline_s: float) -> bool:
        """End the thread. False when that took too long. May be called twice."""
        with self._lock:
            self._stopping = True
        self._turning.end()
        self._waker.wake()
        if self._thread is not None:
            self._thread.join(deadline_s)
            if self._thread.is_alive():
                return False
        self._waker.close()
        return True

    def _begin(self) -> threading.Event:
        answers = threading.Event()
        self._started_s = time.monotonic()
        self.starts += 1
        thread = threading.Thread(target=self._run, args=(answers,), name="brokerwatch-keys", daemon=True)
        self._thread = thread
        thread.start()
        return answers

    def _run(self, answers: threading.Event) -> None:
        asked: zmq.Socket[bytes] | None = None
        try:
            asked = self._bus.socket(zmq.ROUTER)
            asked.linger = 0
            asked.bind(ENDPOINT)
            self._failure = ""
            answers.set()
            poller = zmq.Poller()
            poller.register(asked, zmq.POLLIN)
            poller.register(self._waker, zmq.POLLIN)
            while not self._stopping:
                self._turning.turn()
                for ready, _ in poller.poll(round(TURN_S * 1_000)):
                    if ready is asked:
                        asked.send_multipart(self._answer(asked.recv_multipart()))
                    else:
                        self._waker.clear()
        except Exception as error:  # noqa: BLE001 - said in the log here, and `tend` starts another
            self._failure = f"the check of keys has failed: {error}"
            _log.exception("the check of keys has failed")
        finally:
            answers.set()
            if asked is not None:
                asked.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """What is said to one request; libzmq has made it, and not the peer."""
        routing, empty, version, number, domain, address, _, mechanism, *credentials = request
        key = z85.encode(credentials[0]).decode("ascii") if mechanism == b"CURVE" and credentials else ""
        listed = self._lists.get(domain.decode("ascii", "replace"))
        answer = Answer.NO
        if domain == OPEN_DOMAIN.encode() and mechanism == b"NULL":
            answer = Answer.YES
        elif version == _VERSION and key and listed is not None:
            answer = listed.ask(key)
        if answer is not Answer.YES:
            self._name(key, domain, address)
        # A frame that arrives over the connection has this key as its User-Id.
        user = key.encode() if answer is Answer.YES else b""
        return [routing, empty, _VERSION, number, _CODES[answer], answer.value.encode(), user, b""]

    def _name(self, key: str, domain: bytes, address: bytes) -> None:
        if (key, domain) not in self._named and len(self._named) < MOST_NAMED:
            self._named.add((key, domain))
            where = address.decode("ascii", "replace")
            _log.warning("%s: the key %r was refused, from %s", domain.decode("ascii", "replace"), key, where)
