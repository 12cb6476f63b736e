"""A line that is cut after a request was written: a program that runs in a network namespace of its own.

It asks a server in another namespace, loses every packet on the way there, asks once more, and mends the line
when that call has ended. It prints what it saw as JSON: `left`, the sockets that the kernel still had when
the line was about to be mended, and `arrived`, what the server was asked, in order.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import ccxt.async_support as ccxt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from brokerwatch.clock import SystemClock
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.lease import KeyLease, Lease, Term
from brokerwatch.gateway.strict_ccxt import strict_class
from tests.chaos.namespaces import THERE, Abroad
from tests.support.cut_line_server import PORT

CALL_S: Final = 0.5
HELD_UP_S: Final = 1.0
"""How long the process stands still in the second telling."""
LATE_S: Final = 1.2
"""How long what may still arrive is waited for: the kernel tries again within twice the time of the cut."""


def certificate(folder: Path) -> Path:
    """A certificate of the server's address, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, THERE)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(THERE))]), False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def sockets_left() -> list[str]:
    """The kernel's sockets to the server by their states, also those that no program has any more."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[3] for row in rows if row[2].endswith(f":{PORT:04X}")]


async def ask(number: int, instance: Any) -> str:
    """Ask once. Empty, or why there was no answer."""
    try:
        await instance.privatePostBalanceEx({"number": f"n{number}"})
    except ccxt.NetworkError as error:
        return type(error).__name__
    return ""


async def story(away: Abroad, scheme: str, pem: str, *, has_term: bool, stands_still: bool) -> dict[str, Any]:
    loop_lease = Lease()
    sessions = Sessions(loop_lease)
    if pem:
        sessions._context = ssl.create_default_context(cafile=pem)  # pyright: ignore[reportPrivateUsage] - it is ours here
    url = f"{scheme}://{THERE}:{PORT}"
    instance: Any = strict_class(ccxt.kraken)(
        {"urls": {"api": {"private": url, "public": url}}, "apiKey": "k", "secret": "c2VjcmV0"}
    )
    instance.enableRateLimit, instance.timeout = False, CALL_S * 1_000
    term = Term(float("inf"), CALL_S)
    instance.lease = KeyLease(loop_lease, term, SystemClock()) if has_term else loop_lease
    sessions.lend(instance, large=False)
    assert not await ask(1, instance), "the connection that the second one uses"
    away.cut(frozenset({"down"}))
    cut_s = time.monotonic()
    second = asyncio.ensure_future(ask(2, instance))
    left: list[str] = []
    if stands_still:
        await asyncio.sleep(0.05)  # it is written by now, and its deadline has not passed
        time.sleep(HELD_UP_S)  # noqa: ASYNC251 - this very loop stands still
        left = sockets_left()
        away.cut(frozenset())
    outcome = await second
    if not stands_still:
        left = sockets_left()
        away.cut(frozenset())
    await asyncio.sleep(max(LATE_S, 2 * (time.monotonic() - cut_s)))
    third = ""
    for _ in range(20):
        if not (third := await ask(3, instance)):
            break
    await sessions.close()
    return {"left": left, "outcome": outcome, "third": third}


def main(folder: str, scheme: str, whose: str, way: str) -> None:
    """Tell one story, and print what was seen."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    pem = str(certificate(Path(folder))) if scheme == "https" else ""
    away = Abroad()
    server = subprocess.Popen(
        [*away.inside, sys.executable, "-m", "tests.support.cut_line_server", THERE, pem],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    lines: list[str] = []
    try:
        assert server.stdout.readline() == "ready\n"
        reader = threading.Thread(target=lambda: lines.extend(server.stdout or ()), daemon=True)
        reader.start()
        seen = asyncio.run(
            story(away, scheme, pem, has_term=whose == "term", stands_still=way == "stands still")
        )
    finally:
        server.terminate()
        server.wait(10)
        away.close()
    reader.join(10)
    arrived = [word for line in lines for word in ("n1", "n2", "n3") if f"number={word}" in line]
    sys.stdout.write(json.dumps({**seen, "arrived": arrived}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
