"""What doctor says of the port of [http]."""

from __future__ import annotations

import socket

import pytest

from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.preflight.diagnosis import Line, LineOutcome
from brokerwatch.preflight.http_checks import http_lines


def line(listen: str, own_cluster: str = "") -> Line:
    (found,) = http_lines(HttpSettings(listen=listen), own_cluster)
    return found


def test_nothing_is_said_where_nothing_is_served() -> None:
    assert list(http_lines(None, "")) == []


@pytest.mark.parametrize("listen", ["127.0.0.1:*", "localhost:0", "0.0.0.0:*"])
def test_a_port_that_can_be_had_is_ok(listen: str) -> None:
    assert line(listen) == Line(LineOutcome.OK, "http", "free", f"{listen} is any free port")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_a_failure_unless_this_cluster_runs(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"{host}:{other.getsockname()[1]}"
        found = line(listen)
        assert found.outcome is LineOutcome.FAIL
        assert found.evidence == f"{listen} is in use"
        assert "another listen under [http]" in found.advice
        ours = line(listen, "process 7")
        assert ours.outcome is LineOutcome.OK
        assert ours.evidence == f"{listen} is taken, and process 7 runs this cluster now"


def test_an_address_that_this_machine_does_not_have_is_a_failure() -> None:
    found = line("[2001:db8::1]:5572")  # for documentation, so no machine has it (RFC 3849)
    assert found.outcome is LineOutcome.FAIL
    assert "cannot be bound" in found.evidence
    assert "an address that this machine has" in found.advice
