"""A process is stopped, by a signal, a person, a machine."""

import os
import signal
import time

from benchmarks.faults.case import Case, at_operation, kind
from benchmarks.faults.children import Child, Ended, Team
from benchmarks.faults.works import after_steps


def _signalled(case: Case, *numbers: int) -> Ended:
    child = case.start()
    case.moment()
    for number in numbers:
        child.send(number)
        time.sleep(case.draw.uniform(0, 0.3))
    return case.wait(child)


@kind("SIGKILL")
def killed(case):
    return _signalled(case, signal.SIGKILL)


@kind("SIGKILL")
def killed_at_a_file_operation(case):
    """Also in the middle of a save, at every operation of which it may come."""
    return case.wait(case.start(at_operation(case, lambda: os.kill(os.getpid(), signal.SIGKILL))))


@kind("SIGKILL", "trainings")
def killed_in_a_save(case):
    count, late = case.draw.randrange(1, 6), case.draw.uniform(0, 0.01)

    def inside():
        fsync, calls = os.fsync, []

        def kill(descriptor):
            calls.append(1)
            if len(calls) == count:
                time.sleep(late)
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)

        os.fsync = kill

    return case.wait(case.start(inside))


@kind("SIGTERM")
def terminated(case):
    return _signalled(case, signal.SIGTERM)


@kind("Ctrl-C")
def interrupted(case):
    return _signalled(case, signal.SIGINT)


@kind("Ctrl-C")
def interrupted_twice(case):
    return _signalled(case, signal.SIGINT, signal.SIGINT)


@kind("terminal closed")
def hung_up(case):
    return _signalled(case, signal.SIGHUP)


@kind("process stopped, then killed")
def frozen(case):
    child = case.start()
    case.moment()
    child.send(signal.SIGSTOP)
    time.sleep(0.3)
    child.send(signal.SIGCONT)
    time.sleep(case.draw.uniform(0, 0.5))
    child.send(signal.SIGKILL)
    return case.wait(child)


def _at_a_step(case: Case, number: int) -> Child | Team:
    """Start, with a signal to itself after a few steps."""
    steps = case.draw.randrange(1, 10)
    return case.start(lambda: after_steps(steps, lambda: os.kill(os.getpid(), number)))


@kind("a worker of two is lost", "workers")
def worker_killed(case):
    return case.wait(_at_a_step(case, signal.SIGKILL))


@kind("a worker of two is lost", "workers")
def worker_killed_at_a_file_operation(case):
    """Also before it has met the other one."""
    return killed_at_a_file_operation(case)


@kind("a worker of two is lost", "workers")
def worker_frozen(case):
    child = _at_a_step(case, signal.SIGSTOP)
    time.sleep(case.made.seconds + case.draw.uniform(0, 20))
    child.send(signal.SIGKILL)
    return case.wait(child)


@kind("a worker of two is stopped", "workers")
def worker_stopped(case):
    return case.wait(_at_a_step(case, case.draw.choice((signal.SIGTERM, signal.SIGINT))))
