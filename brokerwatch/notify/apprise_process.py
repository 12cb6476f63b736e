"""Sends one message over one channel, in a process of its own: the only file that imports apprise.

apprise and its services may hang, leak or take a lock, and no thread of Python can be ended. A process can.
It reads one request as JSON from standard input and answers with lines of JSON. It has neither the
environment nor the memory of the trading process. It is started by its path, so it imports nothing of
brokerwatch.

The outcome is certain in more cases than apprise says. This file looks at what was sent: a failure before the
request was written, or after a status was read, is certain. Only what lies between is not.
"""

from __future__ import annotations

import http.client
import io
import json
import smtplib
import sys
import time
import warnings
from typing import Any, Final, cast

READ_TIMEOUT_S: Final = 20.0
"""How long an answer may take, where the address says nothing else (`rto=`)."""
ANSWER_BYTES: Final = 200_000
ANSWER_S: Final = 10.0
"""How much of an answer is read, and for how long. Its status says already what became of the message."""

UNUSABLE: Final = (
    "apprise cannot use this address: there is a mistake in it, or no such service "
    "(a plain webhook is json://HOST/PATH, or jsons:// with TLS)"
)


class Sent:
    """What has been sent and answered so far."""

    def __init__(self) -> None:
        self.unanswered = False
        """Whether a request was written of which no answer was read."""
        self.connecting = False
        """Whether any connection was begun."""
        self.accepted = 0
        """How many requests were accepted."""
        self.cut = False
        """Whether a request was accepted with an answer that was not read to its end."""
        self.method = ""
        """Of the newest request."""
        self.status = ""
        """The newest answer, in words."""


def main() -> None:
    """Read the request, send, and say the outcome."""
    request = json.loads(sys.stdin.read())
    sys.path[:] = request["path"]
    say(begun=True)
    if "call" in request:
        say(**called(request["call"], request["body"], float(request["limit_s"])))
        return
    warnings.simplefilter("ignore")  # services that warn at import are many, and say nothing to an operator
    try:
        import apprise
    except ImportError as error:
        say(outcome="failed", words=f"apprise cannot be imported: {error}", final=True)
        return
    sent = Sent()
    watch(sent)
    asset = apprise.AppriseAsset(
        app_id="brokerwatch", app_desc="brokerwatch", app_url="", storage_mode="memory", async_mode=False
    )
    channel = cast("Any", apprise.Apprise).instantiate(request["url"], asset=asset, suppress_exceptions=True)
    if channel is None:
        say(outcome="failed", words=UNUSABLE, final=True)
        return
    if request.get("check"):
        say(outcome="sent", words="", service=str(channel.service_name))
        return
    if channel.socket_read_timeout == apprise.URLBase.socket_read_timeout:
        channel.socket_read_timeout = READ_TIMEOUT_S
    try:
        is_sent = bool(
            channel.notify(
                title=request["title"],
                body=request["body"],
                notify_type=request["type"],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
        words = ""
    except Exception as error:  # noqa: BLE001 - whatever a service raises is an outcome
        is_sent, words = False, type(error).__name__
    # One address may have several receivers. When one has it, it is not sent to all of them again.
    partly = sent.accepted > 0 and len(channel) > 1
    outcome = "sent" if is_sent else "unknown" if sent.unanswered or sent.cut or partly else "failed"
    say(outcome=outcome, words=sent.status or words or "the service did not take it")


def say(**answer: Any) -> None:
    """Write one line of the answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def watch(sent: Sent) -> None:
    """See what HTTP and SMTP send and are answered, whichever service uses them."""
    send, data = http.client.HTTPConnection.send, smtplib.SMTP.data
    getresponse, putrequest = http.client.HTTPConnection.getresponse, http.client.HTTPConnection.putrequest

    def connecting(event: str, _: Any) -> None:
        # Of other protocols it is not known what was sent. A name that is still looked up has sent nothing.
        if event == "socket.connect" and not sent.connecting:
            sent.connecting = True
            say(written=True)

    def watched_request(self: Any, method: str, *arguments: Any, **more: Any) -> None:
        sent.method = method
        putrequest(self, method, *arguments, **more)

    def watched_send(self: Any, content: Any) -> None:
        send(self, content)  # it connects first, where it is not connected
        sent.unanswered, sent.status = True, "no answer came"
        say(written=True)

    def watched_response(self: Any) -> Any:
        answer = getresponse(self)
        is_moved = sent.method == "POST" and answer.status in (301, 302, 303)
        # A gateway that waited too long does not know either what became of the message. Nor does who is sent
        # elsewhere: some services redirect what they have taken, and others what they have not.
        sent.unanswered = answer.status == 504 or (is_moved and answer.status != 301)
        is_accepted = 200 <= answer.status < 300
        sent.accepted += is_accepted
        sent.status = f"HTTP status {answer.status}"
        if not sent.unanswered and not is_accepted:
            say(written=False)
        is_whole = read_ahead(answer)
        if is_moved:
            del answer.msg["Location"]  # it would be followed with GET, which takes the message nowhere
        sent.cut = is_accepted and not is_whole
        if is_accepted and is_whole:
            say(written=False)
        return answer

    def watched_data(self: Any, message: Any) -> Any:
        sent.unanswered, sent.status = True, "no answer of the mail server came"
        say(written=True)
        code, words = data(self, message)
        sent.unanswered, sent.status = False, f"SMTP status {code}"
        sent.accepted += code == 250
        say(written=False)
        return code, words

    sys.addaudithook(connecting)
    connection, mail = cast("Any", http.client.HTTPConnection), cast("Any", smtplib.SMTP)
    connection.send, connection.getresponse, mail.data = watched_send, watched_response, watched_data
    connection.putrequest = watched_request


def read_ahead(answer: Any) -> bool:
    """Read an answer into memory, within limits, and let the service read it from there.

    False where not all of it came: a server may never come to its end, and would be waited for, or fill the
    memory, although its status was read long ago.
    """
    until_s, parts, size, is_whole = time.monotonic() + ANSWER_S, list[bytes](), 0, True
    try:
        while part := answer.read1(65_536):
            parts.append(part)
            size += len(part)
            if size >= ANSWER_BYTES or time.monotonic() >= until_s:
                is_whole = False
                break
    except (OSError, http.client.HTTPException):
        is_whole = False
    body = b"".join(parts)
    answer.fp, answer.chunked, answer.length = io.BytesIO(body), False, len(body)
    for name in ("Transfer-Encoding", "Content-Length"):
        del answer.msg[name]
    answer.msg["Content-Length"] = str(len(body))
    return is_whole


def called(url: str, body: str, limit_s: float) -> dict[str, Any]:
    """Call an address with POST and a body of JSON; the outcome."""
    import ssl
    import urllib.error
    import urllib.request

    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    headers = {"Content-Type": "application/json", "User-Agent": "brokerwatch"}
    request = urllib.request.Request(url, body.encode(), headers, method="POST")  # noqa: S310 - checked before
    try:
        with urllib.request.urlopen(request, timeout=limit_s, context=context) as answer:  # noqa: S310 - as above
            return {"outcome": "sent", "words": f"HTTP status {answer.status}"}
    except urllib.error.HTTPError as error:
        return {"outcome": "failed", "words": f"HTTP status {error.code}"}
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return {"outcome": "failed", "words": type(reason).__name__}


if __name__ == "__main__":
    main()
