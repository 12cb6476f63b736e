"""What `brokerwatch doctor` says of [http]: whether its port can be had."""

from __future__ import annotations

from collections.abc import Iterator

from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.preflight.diagnosis import Line, fail, ok
from brokerwatch.preflight.host_checks import tcp_trouble

SUBJECT = "http"


def http_lines(http: HttpSettings | None, own_cluster: str) -> Iterator[Line]:
    """The lines about [http]; none where nothing is served."""
    if http is None or not http.listen:
        return
    taken, why = tcp_trouble(f"tcp://{http.listen}")
    if not why:
        free = "any free port" if http.port == 0 else "free"
        yield ok(SUBJECT, "free", f"{http.listen} is {free}")
    elif taken and own_cluster:
        yield ok(SUBJECT, "free", f"{http.listen} is taken, and {own_cluster} runs this cluster now")
    else:
        advice = (
            "stop what has it, or set another listen under [http]"
            if taken
            else "set an address that this machine has, such as 127.0.0.1:5572, as listen under [http]"
        )
        yield fail(SUBJECT, "free", f"{http.listen} {why}", advice)
