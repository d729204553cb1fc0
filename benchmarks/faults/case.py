"""A folder in which a command is disturbed, and the table of the ways to do so."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.faults.children import Child, Ended, Team
from benchmarks.faults.works import RUN, Made, Work, after_steps, finished_steps, start

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir")


class Case:
    """A folder with what a command begins with, to be disturbed.

    Args:
        work: what runs.
        made: what it begins with.
        folder: where.
        draw: where all chances come from.
        pictures: whether the curves of a training are drawn, which takes half of its time.
    """

    def __init__(self, work: Work, made: Made, folder: Path, draw: random.Random, pictures: bool):
        self.work, self.made, self.folder, self.draw, self._pictures = work, made, folder, draw, pictures
        self.run = folder / RUN
        self.seen = 0  # the newest finished checkpoint that was seen, of a training
        self._damaged: set[int] = set()

    def start(self, inside: Callable[[], None] = lambda: None) -> Child | Team:
        def prepared():
            plots = sys.modules.get("htsr.report.plots")
            if plots and not self._pictures:
                plots.save_training_curves = lambda *_: None
            inside()

        return start(self.work, self.folder, prepared, self.draw)

    def wait(self, child: Child | Team) -> Ended:
        return child.wait(self.look)

    def look(self) -> None:
        """Note which checkpoints are there: those of a final name are whole."""
        self.seen = max([self.seen, *self._steps().difference(self._damaged)])

    def forget(self) -> None:
        """Checkpoints were damaged on purpose."""
        self.seen, self._damaged = 0, self._steps().difference(finished_steps(self.folder))

    def _steps(self) -> set[int]:
        steps = (path.name.removeprefix("step_") for path in self.run.glob("model/step_*"))
        return {int(step) for step in steps if step.isdecimal()}

    def moment(self) -> None:
        """Wait for a random moment of the command."""
        until = time.monotonic() + self.draw.uniform(0.0, 0.9 * self.made.seconds)
        while time.monotonic() < until:
            self.look()
            time.sleep(0.005)

    def stopped_soon(self, inside: Callable[[], None] = lambda: None) -> Ended:
        """Start, and stop a training after a few steps, so that there is something left to do."""
        steps = self.draw.randrange(1, 4)

        def stop():
            inside()
            if self.work.trains:
                after_steps(steps, lambda: os.kill(os.getpid(), signal.SIGTERM))

        return self.wait(self.start(stop))


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        group: under which it is counted.
        inject: starts the command of a case and disturbs it.
        works: of which commands: all, trainings (also of checkpoints alone), models (trainings with one), commands (all
            but checkpoints alone), others (than trainings); of trainings of two workers only: workers.
    """

    group: str
    inject: Callable[[Case], Ended]
    works: str


KINDS: dict[str, Kind] = {}


def kind(group: str, works: str = "all"):
    def add(inject):
        KINDS[inject.__name__] = Kind(group, inject, works)
        return inject

    return add


def at_operation(case: Case, act: Callable[[], None], for_good: bool = False) -> Callable[[], None]:
    """Do something at the n-th operation on a file below the folder: what opens, renames, makes, removes or lists."""
    count, folder = int(np.exp(case.draw.uniform(0, np.log(120)))), os.fsencode(case.folder)

    def inside():
        seen = []

        def hook(event, arguments):
            if event not in EVENTS or not arguments or not isinstance(arguments[0], str | bytes | os.PathLike):
                return
            path = os.fsencode(arguments[0])
            if path.startswith(b"/") and not path.startswith(folder):
                return
            seen.append(event)
            if len(seen) == count or (for_good and len(seen) > count):
                act()

        sys.addaudithook(hook)

    return inside
