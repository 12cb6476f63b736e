"""The server at the end of a line that is cut: it answers each request, and writes down what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from typing import Final

PORT: Final = 8443
GOOD: Final = b'{"error":[],"result":{"ZUSD":{"balance":"31337.00","hold_trade":"0"}}}'
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            _say((await reader.readexactly(length)).decode())
            writer.write(ANSWER % (len(GOOD), GOOD))
            await writer.drain()
    writer.close()


async def main(address: str, pem: str) -> None:
    """Serve until the process is ended. `pem`: certificate and key; empty: without TLS."""
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    server = await asyncio.start_server(_answer, address, PORT, ssl=context)
    _say("ready")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
