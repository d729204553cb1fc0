"""Processes that run ``htsr``, forked from one that has imported TensorFlow and never computed anything.

Importing it takes five seconds and a fork a few milliseconds. TensorFlow starts its threads with the first operation,
so a child is as good as a process of its own; that the bits are the same is checked against one.
"""

import contextlib
import faulthandler
import importlib
import os
import pkgutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import htsr
from htsr.cli.main import main
from htsr.errors import lasting_output, one_line_errors

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "training")]
TRACEBACK = 70  # status of a command that ended with an exception: a bug
SIGNALS = (signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
STOPPED = (130, 143, *(-number for number in SIGNALS))


def warm_up() -> None:
    """Import all that the commands need."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["MPLBACKEND"] = "3", "agg"
    for module in pkgutil.walk_packages(htsr.__path__, "htsr."):
        if module.name not in ("htsr.__main__", "htsr.export.onnx"):
            importlib.import_module(module.name)
    sys.modules["htsr.training.strategy"]._PATIENCE = 60
    sys.modules["htsr.models"].MODELS["stub"] = importlib.import_module("stub_model").Stub


class Ended(NamedTuple):
    """How a command ended: its status, minus the number of the signal that killed it, and all that it printed."""

    status: int
    output: str

    @property
    def line(self) -> str:
        """The last line."""
        return self.output.removesuffix("\n").split("\n")[-1]


class Child:
    """A started command.

    Args:
        arguments: of ``htsr``.
        folder: the working folder, and below it the cache.
        inside: called in the child before the command.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, inside: Callable[[], None] | None = None):
        self._output = folder.parent / f"{folder.name}.{time.monotonic_ns()}.output"
        self.began = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the child is the command
        self.pid = os.fork()
        if not self.pid:
            _run(list(arguments), folder, self._output, inside)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def send(self, number: int) -> None:
        """Send a signal, if the process is still there."""
        if self.running():
            os.kill(self.pid, number)

    def running(self) -> bool:
        """Whether it has not ended yet; it is not reaped."""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is None

    def wait(self, look: Callable[[], None] = lambda: None, timeout: float = 1200.0) -> Ended:
        """Wait until it ends; one that hangs is killed, and shows where it was."""
        while self.running():
            look()
            time.sleep(0.005)
            if time.monotonic() - self.began > timeout:
                self.send(signal.SIGUSR1)
                time.sleep(1.0)
                self.send(signal.SIGKILL)
                break
        _, status = os.waitpid(self.pid, 0)
        hung = time.monotonic() - self.began > timeout
        output = self._output.read_text(errors="replace").replace("\r", "\n") if self._output.exists() else ""
        self._output.unlink(missing_ok=True)
        return Ended(-99 if hung else os.waitstatus_to_exitcode(status), output)


class Team:
    """A training of two workers, one of which is disturbed.

    Args:
        arguments, folder: as of a ``Child``.
        hit: which of them gets the signals, and ``inside``.
        inside: called there before the command.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, hit: int = 0, inside: Callable[[], None] | None = None):
        with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
            addresses = ",".join(f"127.0.0.1:{found.getsockname()[1]}" for found in (first, second))
        self.members = [
            Child([*arguments, "--workers", addresses, "--worker", str(i)], folder, inside if i == hit else None)
            for i in (0, 1)
        ]
        self._hit = self.members[hit]

    def send(self, number: int) -> None:
        """Send a signal to the one that is disturbed."""
        self._hit.send(number)

    def wait(self, look: Callable[[], None] = lambda: None, timeout: float = 1200.0) -> Ended:
        """Wait until both have ended; return the worse end, and all that they printed."""
        ends = [member.wait(look, timeout) for member in self.members]
        worse = max(ends, key=lambda end: (end.status not in (0, 2, *STOPPED), end.status == 2, end.status != 0))
        return worse._replace(output="\n".join(end.output for end in ends if end is not worse) + "\n" + worse.output)


def _run(arguments: list[str], folder: Path, output: Path, inside: Callable[[], None] | None) -> None:
    """Be the command; it never returns."""
    status = TRACEBACK
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        os.close(descriptor)
        faulthandler.register(signal.SIGUSR1, file=os.dup(2))
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        os.chdir(folder)
        os.environ["HTSR_CACHE"] = str(folder / "cache")
        if inside is not None:
            inside()
        with mock.patch.object(sys, "argv", ["htsr", *arguments]), lasting_output(), one_line_errors():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            status = sys.modules["benchmarks.faults.works"].save() if arguments == ["save"] else main()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)
