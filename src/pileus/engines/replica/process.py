"""How a replica's process begins and ends, as seen from outside: it dies with its parent, and says why it refuses."""

import ctypes
import os
import signal
import sys

import msgspec
from msgspec import Struct

from pileus.core.errors import OperatorError

EXIT_REFUSED = 78  # EX_CONFIG of sysexits.h: the same start would fail again
_PR_SET_PDEATHSIG = 1


class _Refusal(Struct, tag="refused"):
    code: str
    message: str


_decoder = msgspec.json.Decoder(_Refusal)


def die_with_parent() -> None:
    """Be killed when the process that started this one ends, however it ends. Linux only; elsewhere a no-op.

    Called by the worker itself, first of all: code between fork and exec is unsafe in a server with threads.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before the kernel knew
        sys.exit(1)


def refuse(error: OperatorError) -> int:
    """Tell why this replica cannot run, as one line of JSON on standard error. Returns the exit status."""
    line = msgspec.json.encode(_Refusal(error.code, error.message)).decode()
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # what the fleet reads
    return EXIT_REFUSED


def read_refusal(output: str) -> str | None:
    """The message of the refusal in a process's last lines."""
    for line in reversed(output.splitlines()):
        try:
            return _decoder.decode(line).message
        except msgspec.DecodeError:
            continue
    return None
