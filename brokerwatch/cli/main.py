"""The program `brokerwatch`: its group of commands, and the last place where an error can end up.

No command module loads ccxt, aiohttp or a simulator when it is imported, so `--help` is quick.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import sys
import traceback
from typing import Final, NoReturn, TextIO

import click

from brokerwatch.cli import exits
from brokerwatch.cli.doctor import doctor
from brokerwatch.cli.keys import keys
from brokerwatch.cli.notify import notify, silence
from brokerwatch.cli.operate import history, hold, release, reload, reset
from brokerwatch.cli.pool import pool
from brokerwatch.cli.serve import serve
from brokerwatch.cli.simulate import simulate
from brokerwatch.cli.streams import settle_streams
from brokerwatch.cli.verify import verify, verify_kraken
from brokerwatch.cli.watch import init, listen, node, run, status, supervise, top
from brokerwatch.errors import BrokerwatchError, ReaderGone

YOUNG: Final = 5_000
"""So many new objects until the garbage collector looks at them, in place of 700. What a program loads when
it starts stays, and the collector looked through all of it four times: a fifth of the 1.45 s until
`run --demo` has started (CPython 3.11.7, 2 cores). A process in which a trader runs us keeps its own setting.
"""


@click.group(epilog=exits.ALL_STATUSES)
@click.version_option(package_name="brokerwatch")
def app() -> None:
    """Which exchange accounts can be trusted right now, and how much money is in each."""


for _command in (
    *(run, node, supervise, listen, top, status, serve, init),
    *(history, hold, release, reset, reload),
    *(notify, silence),
    *(simulate, verify, doctor, keys, pool),
):
    app.add_command(_command)


def main() -> None:
    """The command line. An error is shown as a sentence and not as a traceback."""
    _guarded(app)


def run_alone() -> None:
    """`run` as a program of its own."""
    _guarded(run)


def verify_kraken_alone() -> None:
    """The verification of Kraken's master account as a program of its own."""
    _guarded(verify_kraken)


def _guarded(command: click.Command) -> NoReturn:
    """Run the command and end the process, even while a thread of a library hangs.

    A name server that does not answer holds a thread for half a minute, and Python would wait for it.
    """
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    settle_streams()
    code = _status(command)
    streams: tuple[TextIO | None, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(OSError):
            if stream is not None:  # Python has None for a stream that was closed before the start
                stream.flush()
    os._exit(code)


def _status(command: click.Command) -> int:
    try:
        command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else exits.NO if ended.code else exits.YES
    except BrokerwatchError as error:
        exits.say(str(error))
        return exits.USAGE
    except ReaderGone:
        return exits.YES
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            traceback.print_exc()
            return exits.NO
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        exits.say(
            f"too many open files: this process may have {limit:,}; raise that, such as with `ulimit -n`; "
            "`brokerwatch doctor` says how many are needed"
        )
        return exits.USAGE
    except Exception:  # noqa: BLE001 - a bug of ours: shown whole, and the process still ends
        traceback.print_exc()
        return exits.NO
    return exits.YES
