"""Run the command ``htsr`` in this process, which spares the start of TensorFlow, or in a process of its own."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from htsr.cli.main import main

ROOT = Path(__file__).parents[1]


class Completed(NamedTuple):
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """The last line of stderr."""
        return (self.stderr.splitlines() or [""])[-1]


def run(*arguments: object) -> Completed:
    """Run ``htsr <arguments>`` in this process; a bug, any exception but SystemExit, is raised."""
    command, out, error = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["htsr", *command]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            status = main()
        except SystemExit as end:
            status = end.code
    return Completed(status, out.getvalue(), error.getvalue())


def start_child(*arguments: object, **options) -> subprocess.Popen:
    """Start ``python -m htsr <arguments>``, with the options of ``subprocess.Popen``."""
    path = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "htsr", *map(str, arguments)]
    return subprocess.Popen(command, text=True, env={**os.environ, **path}, **options)


def run_child(*arguments: object, cwd: Path | None = None) -> Completed:
    """Run ``python -m htsr <arguments>`` to its end."""
    process = start_child(*arguments, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, error = process.communicate(timeout=300)
    return Completed(process.returncode, output, error)
