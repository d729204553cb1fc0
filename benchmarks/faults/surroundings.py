"""What is around a process: the clock, memory, its numbers, its data, its neighbours, its terminal."""

import contextlib
import fcntl
import os
import random
import shutil
import sys
import time

import numpy as np

from benchmarks.faults.case import Case, kind
from benchmarks.faults.children import Ended
from benchmarks.faults.works import STEPS, after_steps, finished_steps


@kind("clock")
def clock_goes_back(case):
    """By up to a year, at every look; files are of the future."""
    for path in case.folder.rglob("*"):
        if case.draw.random() < 0.5:
            stamp = time.time() + case.draw.uniform(-1, 1) * 3e8
            os.utime(path, (stamp, stamp))

    def inside():
        now = [time.time()]

        def clock():
            now[0] -= random.uniform(0, 3e7 / 100)
            return now[0]

        time.time = clock

    return case.stopped_soon(inside)


@kind("out of memory", "models")
def device_is_full(case):
    count, how = case.draw.randrange(1, STEPS), case.draw.choice(("device", "host"))

    def inside():
        import tensorflow as tf

        def fail():
            if how == "host":
                raise MemoryError
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[4,6,64,64,1]")

        after_steps(count, fail)

    return case.wait(case.start(inside))


@kind("out of memory", "commands")
def reading_needs_too_much(case):
    """NumPy cannot have an array."""
    count = case.draw.randrange(1, 60)

    def inside():
        from htsr.data.clips import Clips

        before, calls = Clips.window, []

        def window(clips, *arguments):
            calls.append(1)
            if len(calls) == count:
                raise np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype(np.uint8))
            return before(clips, *arguments)

        Clips.window = window

    return case.wait(case.start(inside))


@kind("loss not finite", "models")
def five_losses_in_a_row(case):
    """From a random step on the loss is not a number: the training stops, and its newest checkpoint is whole.

    The checkpoints of skipped steps have other counts than an undisturbed run's; so they are removed, as by a user who
    goes back.
    """
    before, first = set(finished_steps(case.folder)), case.draw.randrange(1, STEPS)

    def inside():
        import stub_model
        import tensorflow as tf

        from htsr.models.htsr.model import HTSR

        for model in (stub_model.Stub, HTSR):

            def terms(self, clip, seed, step=None, _before=model.loss_terms):
                found = _before(self, clip, seed, step)
                bad = tf.where(tf.cast(step, tf.int32) >= first, float("nan"), 0.0) if step is not None else 0.0
                return {name: value + bad for name, value in found.items()}

            model.loss_terms = terms

    ended = case.wait(case.start(inside))
    for step in set(finished_steps(case.folder)) - before:
        if step > first:
            shutil.rmtree(case.run / "model" / f"step_{step}")
    case.forget()
    return ended


@kind("data changes", "commands")
def a_video_changes(case):
    """It is replaced, removed, cut or added to, and put back when that was refused."""
    path, how = (
        case.folder / "videos" / f"{case.draw.choice('abc')}.npy",
        case.draw.choice(("other", "gone", "cut", "new")),
    )
    good = path.read_bytes()
    if how == "other":
        np.save(path, np.random.default_rng(case.draw.randrange(99)).integers(0, 256, (40, 64, 64, 1), np.uint8))
    elif how == "gone":
        path.unlink()
    elif how == "cut":
        os.truncate(path, case.draw.randrange(len(good)))
    else:
        np.save(path.with_name("new.npy"), np.load(path)[::-1])
    ended = case.stopped_soon()
    path.with_name("new.npy").unlink(missing_ok=True)
    path.write_bytes(good)
    _undo(case, ended)
    return ended


def _undo(case: Case, ended: Ended) -> None:
    """What a command did on other data is no part of the case: a run that had nothing before begins again."""
    if ended.status != 2:
        if case.work.trains and not case.made.half:
            shutil.rmtree(case.run, ignore_errors=True)
        elif not case.work.trains:
            shutil.rmtree(case.folder / case.work.out, ignore_errors=True)


@kind("data disappears", "commands")
def the_folder_disappears(case):
    child = case.start()
    case.moment()
    moved = case.folder / "videos.away"
    (case.folder / "videos").rename(moved)
    ended = case.wait(child)
    moved.rename(case.folder / "videos")
    return ended


@kind("two runs in one folder")
def twins(case):
    """The second start is refused, or waits for nothing; the first one ends as if alone."""
    child = case.start()
    case.moment()
    second = Case(case.work, case.made, case.folder, case.draw, False).start()
    other = second.wait(case.look)
    ended = case.wait(child)
    return Ended(ended.status, ended.output + "\n" + other.output) if other.status in (0, 2) else other


@kind("locks", "trainings")
def strange_lock(case):
    """Left behind by a machine that is no more, of another user, no file at all."""
    path, how = case.run / "lock", case.draw.choice(("stale", "garbage", "folder", "held"))
    case.run.mkdir(parents=True, exist_ok=True)
    held = None
    if how == "folder":
        path.unlink(missing_ok=True)
        path.mkdir()
    else:
        path.write_bytes(b"process 1 on elsewhere\n" if how != "garbage" else bytes(range(256)))
    if how == "held":
        held = open(path, "a")  # noqa: SIM115
        fcntl.flock(held, fcntl.LOCK_EX)
    ended = case.stopped_soon()
    if held:
        held.close()
    if path.is_dir():
        path.rmdir()
    return ended


@kind("stdout or stderr closed or full")
def streams(case):
    """Closed, full, or a pipe that nobody reads any more."""
    how = [case.draw.choice(("closed", "full", "broken pipe", "as it is")) for _ in range(3)]

    def inside():
        for number, what in enumerate(how):
            if what == "closed":
                os.close(number)
            elif what == "full" and number:
                os.dup2(os.open("/dev/full", os.O_WRONLY), number)
            elif what == "broken pipe" and number:
                end, start = os.pipe()
                os.close(end)
                os.dup2(start, number)
        sys.stdin = None if how[0] == "closed" else sys.stdin
        for number, name in ((1, "stdout"), (2, "stderr")):
            gone = how[number] == "closed"
            setattr(sys, name, None if gone else open(number, "w", closefd=False))  # noqa: SIM115

    return case.stopped_soon(inside)


@kind("stdout or stderr closed or full")
def nobody_reads_for_a_while(case):
    """Both go into a pipe of one page, which is nearly full."""
    end, start = os.pipe()
    fcntl.fcntl(start, fcntl.F_SETPIPE_SZ, 4096)
    os.write(start, bytes(4000))

    def inside():
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(start, number)
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115

    child = case.start(inside)
    os.close(start)
    case.moment()
    os.set_blocking(end, False)
    found = []

    def read():
        with contextlib.suppress(BlockingIOError):
            found.append(os.read(end, 1 << 16))

    ended = child.wait(lambda: (read(), case.look()))
    read()
    os.close(end)
    return ended._replace(output=b"".join(found).decode(errors="replace").strip("\0"))
