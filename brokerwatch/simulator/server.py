"""The network side: one thread, one event loop, a port of 127.0.0.1 for each simulated exchange.

When `serve` is left, nothing of it remains: hanging requests are cancelled, sockets closed, the thread
joined. A broken answer is acted out here, below HTTP, on the raw transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial

from aiohttp import web

from brokerwatch.simulator.connections import Broken, Ending
from brokerwatch.simulator.exchange import Call, SimulatedExchange
from brokerwatch.simulator.faults import Answer
from brokerwatch.simulator.trouble import Trouble

HOST = "127.0.0.1"
ANY_PORT = 0

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
# How long a request that is being answered may take to finish when the server stops.
GRACE_S = 0.05
DRIP_INTERVAL_S = 0.2
# Long enough for a client to have read the first answer and put the connection aside.
REPEAT_AFTER_S = 0.05

_Stop = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class PortUnavailable(OSError):
    """A port of 127.0.0.1 cannot be opened: another program listens there, or it is not permitted."""


@dataclass(frozen=True, slots=True)
class ServedCall:
    """One call to a simulated exchange: the request, the fault that it met, and the answer."""

    exchange: SimulatedExchange
    call: Call
    trouble: Trouble
    answer: Answer | Broken


Watcher = Callable[[ServedCall], None]
"""Called with each call before its answer is sent, on the server's thread. It must not block nor raise."""

OPERATOR_PATH = "/simulated/scene"
"""What is sent here is the operator's, and no call of a client: no fault meets it, and it is not counted."""

Operator = Callable[[SimulatedExchange, str], Answer]
"""Called with what was sent to OPERATOR_PATH, on the server's thread. It must not block nor raise."""


@contextmanager
def serve(
    *exchanges: SimulatedExchange,
    ports: Sequence[int] = (),
    watcher: Watcher | None = None,
    operator: Operator | None = None,
) -> Generator[None]:
    """Serve the exchanges, each on a port of 127.0.0.1, until the block is left.

    `ports` has one for each exchange, in order; 0, and every one that is left out, is a port that the
    kernel picks. They may be served again afterwards. PortUnavailable if a port cannot be had,
    ValueError for what is no port, RuntimeError if an exchange is served already, or if the thread did
    not end within STOP_TIMEOUT_S seconds. `watcher` is told of every call, and `operator` answers what is
    sent to OPERATOR_PATH; without one that path is like any other.
    """
    if len(ports) > len(exchanges):
        raise ValueError(f"{len(ports)} ports for {len(exchanges)} exchanges")
    if wrong := [port for port in ports if not 0 <= port <= 65_535]:
        raise ValueError(f"{wrong[0]} is no port; expected 1 to 65535, or 0 for any that is free")
    wanted = (*ports, *[ANY_PORT] * (len(exchanges) - len(ports)))
    ready: Future[_Stop] = Future()
    thread = threading.Thread(
        target=_thread_main,
        args=(tuple(zip(exchanges, wanted, strict=True)), _Ears(watcher, operator), ready),
        name="simulated-exchanges",
        daemon=True,
    )
    thread.start()
    try:
        loop, stop = ready.result(START_TIMEOUT_S)
    except Exception:
        thread.join(STOP_TIMEOUT_S)
        raise
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            raise RuntimeError(f"the simulated exchanges did not stop within {STOP_TIMEOUT_S:g} s")


@dataclass(frozen=True, slots=True)
class _Ears:
    """Who is told of what arrives."""

    watcher: Watcher | None
    operator: Operator | None


_Served = tuple[tuple[SimulatedExchange, int], ...]


def _thread_main(served: _Served, ears: _Ears, ready: Future[_Stop]) -> None:
    # A failure to start belongs to the caller of `serve`; it arrives there through the future.
    try:
        asyncio.run(_serve_until_stopped(served, ears, ready))
    except BaseException as failure:
        if ready.done():
            raise
        ready.set_exception(failure)


async def _serve_until_stopped(served: _Served, ears: _Ears, ready: Future[_Stop]) -> None:
    stop = asyncio.Event()
    runners: list[web.ServerRunner] = []
    opened: list[SimulatedExchange] = []
    try:
        for exchange, port in served:
            # With handler_cancellation a request whose client went away does not hang on.
            handler = web.Server(partial(_handle, exchange, ears), access_log=None, handler_cancellation=True)
            runner = web.ServerRunner(handler, shutdown_timeout=GRACE_S)
            await runner.setup()
            runners.append(runner)
            await _listen(runner, port)
            exchange.opened(f"http://{HOST}:{runner.addresses[0][1]}")
            opened.append(exchange)
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
    finally:
        for exchange in opened:
            exchange.closed()
        await asyncio.gather(*(runner.cleanup() for runner in runners))


async def _listen(runner: web.ServerRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        number = error.errno or errno.EADDRNOTAVAIL  # asyncio's own sentence repeats the address twice
        taken = number == errno.EADDRINUSE
        why = "another program listens there" if taken else os.strerror(number)
        raise PortUnavailable(number, f"port {port} of {HOST} cannot be had: {why}") from error


async def _handle(exchange: SimulatedExchange, ears: _Ears, request: web.BaseRequest) -> web.StreamResponse:
    if ears.operator is not None and (request.method, request.path) == ("POST", OPERATOR_PATH):
        told = (await request.read()).decode(errors="replace")
        return _response(exchange, ears.operator(exchange, told))
    if exchange.streams is not None and request.headers.get("Upgrade", "").lower() == "websocket":
        return await exchange.streams.serve(request)
    call = Call(
        method=request.method,
        path=request.path,
        target=request.raw_path,
        query=dict(request.query),
        headers=request.headers,
        body=await request.read(),
    )
    trouble = exchange.receive(call)
    answer = exchange.respond(call, trouble)
    if ears.watcher is not None:
        ears.watcher(ServedCall(exchange, call, trouble, answer))
    if isinstance(answer, Broken):
        return await _act_out(request, answer)
    return _response(exchange, answer)


def _response(exchange: SimulatedExchange, answer: Answer) -> web.Response:
    # Its own clock, as an exchange has it; it may be set.
    date = formatdate(exchange.now_s(), usegmt=True)
    headers = {"Date": date, "Content-Type": answer.content_type, **answer.headers}
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def _act_out(request: web.BaseRequest, broken: Broken) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        transport.write(broken.sent)
        match broken.ending:
            case Ending.CLOSE:
                transport.close()
            case Ending.RESET:
                # Closing with a linger time of zero makes the kernel send RST instead of FIN.
                peer: socket.socket = transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            case Ending.SILENCE:
                await _for_ever()
            case Ending.REPEAT:
                await asyncio.sleep(REPEAT_AFTER_S)
                transport.write(broken.sent)
                broken.finished.set()
                await _for_ever()
            case Ending.DRIP:
                while True:
                    transport.write(b"1\r\n \r\n")
                    await asyncio.sleep(DRIP_INTERVAL_S)
    broken.finished.set()
    # The transport is closing, so aiohttp drops this answer.
    return web.Response()


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
