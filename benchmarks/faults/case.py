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

from benchmarks.faults.children import Child, Ended
from benchmarks.faults.works import RUN, Made, Work, after_steps

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

    def start(self, inside: Callable[[], None] = lambda: None) -> Child:
        def prepared():
            if not self._pictures:
                from htsr.report import plots

                plots.save_training_curves = lambda *_: None
            inside()

        return Child(self.work.command, self.folder, prepared)

    def wait(self, child: Child) -> Ended:
        return child.wait(self.look)

    def look(self) -> None:
        """Note which checkpoints are there: those of a final name are whole."""
        steps = (path.name.removeprefix("step_") for path in self.run.glob("model/step_*"))
        self.seen = max([self.seen, *(int(step) for step in steps if step.isdecimal())])

    def forget(self) -> None:
        """Checkpoints were damaged on purpose."""
        self.seen = 0

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
            but checkpoints alone), others (than trainings).
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
