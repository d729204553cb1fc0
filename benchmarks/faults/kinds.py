"""The faults by kind. Each starts the command once, disturbs it, and puts right what the machine's owner would."""

import builtins
import contextlib
import errno
import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.faults.children import Child, Ended
from benchmarks.faults.works import RUN, STEPS, Made, Work, after_steps, finished_steps

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.ESTALE, errno.EDQUOT)
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


# Signals


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
    return case.wait(case.start(_at_operation(case, lambda: os.kill(os.getpid(), signal.SIGKILL))))


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


# Disks


def _at_operation(case: Case, act: Callable[[], None], for_good: bool = False) -> Callable[[], None]:
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


def _failing(code: int) -> Callable[[], None]:
    def fail():
        raise OSError(code, os.strerror(code))

    return fail


@kind("failing file operation")
def one_operation_fails(case):
    return case.wait(case.start(_at_operation(case, _failing(case.draw.choice(ERRORS)))))


@kind("failing file operation")
def operations_fail_from_then_on(case):
    return case.wait(case.start(_at_operation(case, _failing(case.draw.choice(ERRORS)), for_good=True)))


@kind("failing file operation")
def writes_fail(case):
    """Python's writes, and flushes to the disk, fail after some bytes."""
    left, code = [int(np.exp(case.draw.uniform(3, 14)))], case.draw.choice((errno.ENOSPC, errno.EIO, errno.EDQUOT))
    folder = str(case.folder)

    def inside():
        before = builtins.open

        def opened(file, mode="r", *rest, **options):
            stream = before(file, mode, *rest, **options)
            if set(mode) & set("wax+") and isinstance(file, str | os.PathLike):
                path = os.path.abspath(file)
                if path.startswith(folder):
                    write = stream.write

                    def limited(content):
                        left[0] -= len(content) if hasattr(content, "__len__") else 1
                        if left[0] < 0:
                            raise OSError(code, os.strerror(code))
                        return write(content)

                    stream.write = limited
            return stream

        builtins.open = opened

    return case.wait(case.start(inside))


@kind("failing file operation", "trainings")
def flushes_fail(case):
    count, code = case.draw.randrange(1, 12), case.draw.choice(ERRORS)

    def inside():
        fsync, calls = os.fsync, []

        def failing(descriptor):
            calls.append(1)
            if len(calls) >= count:
                raise OSError(code, os.strerror(code))
            fsync(descriptor)

        os.fsync = failing

    return case.wait(case.start(inside))


@kind("slow disk, then SIGKILL")
def slow_disk(case):
    """Every flush and a tenth of the file operations wait."""

    def inside():
        fsync = os.fsync

        def slow(descriptor):
            time.sleep(0.05)
            fsync(descriptor)

        os.fsync = slow
        sys.addaudithook(lambda event, _: time.sleep(0.02) if event == "open" and random.random() < 0.1 else None)

    child = case.start(inside)
    case.moment()
    child.send(signal.SIGKILL)
    return case.wait(child)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


def _on_small_disk(case: Case, size: str, disturb: Callable[[Path], None]) -> Ended:
    """Run on a file system of its own, that is given back with what it held."""
    place, kept = case.folder, case.folder.with_name("kept")
    place.rename(kept)
    place.mkdir()
    _mount(place, "size=256m")
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True)
        used = sum(path.stat().st_blocks * 512 for path in place.rglob("*"))
        child_size = (
            used + int(np.exp(case.draw.uniform(np.log(4096), np.log(1 << 20)))) if size == "small" else 1 << 28
        )
        subprocess.run(["mount", "-o", f"remount,size={child_size}", place], check=True)
        child = case.start()
        disturb(place)
        ended = case.wait(child)
        subprocess.run(["mount", "-o", "remount,rw,size=256m", place], check=True)
        shutil.rmtree(kept)
        shutil.copytree(place, kept, symlinks=True)
        return ended
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()
        kept.rename(place)


@kind("disk full")
def disk_full(case):
    """A tmpfs with less space than is needed; then there is more."""
    return _on_small_disk(case, "small", lambda place: None)


@kind("disk full")
def file_size_limit(case):
    size = int(np.exp(case.draw.uniform(5, 13)))
    return case.wait(case.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))))


@kind("read-only folder")
def read_only_from_the_start(case):
    def disturb(place):
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    return _on_small_disk(case, "large", disturb)


@kind("read-only folder")
def read_only_for_this_user(case):
    """As an installation of somebody else's."""

    def inside():
        os.setgid(65534)
        os.setuid(65534)

    case.folder.parent.chmod(0o755)
    return case.wait(case.start(inside))


# Damage


def _spoil(case: Case, path: Path) -> None:
    """Damage a file as disks, copies and users do."""
    how = case.draw.choice(("truncate", "flip", "remove", "empty", "zeros", "text", "folder"))
    size = path.stat().st_size
    if how == "remove":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "text":
        path.write_bytes(case.draw.choice((b"{}", b"[]", b"null", b"\xff\xfe\x00", b"no", b'{"a": [1, {}]}\n')))
    elif how == "empty" or not size:
        path.write_bytes(b"")
    elif how == "truncate":
        os.truncate(path, case.draw.randrange(size))
    else:
        content, at = bytearray(path.read_bytes()), case.draw.randrange(size)
        if how == "flip":
            content[at] ^= 1 << case.draw.randrange(8)
        else:  # blocks that never reached the disk
            content[at : at + 4096] = bytes(len(content[at : at + 4096]))
        path.write_bytes(content)


def _spoiled(case: Case, pattern: str) -> Ended:
    """Damage one of some files, start, and put the good one back where the command refuses the damaged one."""
    found = sorted(path for path in case.folder.glob(pattern) if path.is_file())
    if not found:
        return case.stopped_soon()
    path = case.draw.choice(found)
    good = path.read_bytes()
    _spoil(case, path)
    ended = case.stopped_soon()
    if ended.status == 2 or not case.work.trains:
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(good)
    if not case.work.trains:
        shutil.rmtree(case.folder / case.work.out, ignore_errors=True)
    return ended


@kind("damaged checkpoint", "trainings")
def newest_checkpoint(case):
    newest = max(finished_steps(case.folder), default=None)
    ended = _spoiled(case, f"{RUN}/model/step_{newest}/*")
    case.forget()
    return ended


@kind("damaged checkpoint", "trainings")
def any_checkpoint(case):
    ended = _spoiled(case, f"{RUN}/model/step_*/*")
    case.forget()
    return ended


@kind("damaged checkpoint", "trainings")
def every_checkpoint(case):
    """The remedy is to start anew."""
    case.forget()
    there = list(case.run.glob("model/step_*/state.npz"))
    for path in there:
        os.truncate(path, path.stat().st_size // 2)
    ended = case.stopped_soon()
    if there and ended.status == 2:
        shutil.rmtree(case.run / "model")
    case.forget()
    return ended


@kind("damaged checkpoint", "others")
def model_of_a_run(case):
    ended = _spoiled(case, f"{RUN}/model/step_{STEPS}/*")
    case.forget()
    return ended


@kind("leftovers and strange names")
def leftovers(case):
    folder = case.run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (".tmp-step_9", ".tmp-.tmp-step_9", "step_x", "step_-3", "step_²", "notes"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "state.npz").write_bytes(b"half")
    (case.run / ".config.yml.tmp-0123456789abcdef").write_text("model:")
    (folder / "step_7.bak").write_text("")
    return case.stopped_soon()


@kind("damaged log", "trainings")
def log(case):
    return _spoiled(case, f"{RUN}/metrics.jsonl")


@kind("damaged log", "models")
def pictures_and_events(case):
    """Files in the place of folders."""
    for name in ("samples", "tensorboard", "training.png"):
        path = case.run / name
        if case.draw.random() < 0.5:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
            case.run.mkdir(parents=True, exist_ok=True)
            path.write_text("") if name != "training.png" else path.mkdir()
    ended = case.stopped_soon()
    for name in ("samples", "tensorboard"):
        if (case.run / name).is_file():
            (case.run / name).unlink()
    return ended


@kind("damaged config or record", "commands")
def config_of_the_run(case):
    return _spoiled(case, f"{RUN}/config.yml")


@kind("damaged config or record", "commands")
def config_given(case):
    return _spoiled(case, "tiny.yml")


@kind("damaged config or record", "commands")
def records_of_the_run(case):
    return _spoiled(case, f"{RUN}/*.json")


@kind("damaged cache", "commands")
def frames_of_the_cache(case):
    return _spoiled(case, "cache/*/frames.npy")


@kind("damaged cache", "commands")
def any_file_of_the_cache(case):
    return _spoiled(case, "cache/**/*")


@kind("damaged cache", "commands")
def cache_is_removed(case):
    child = case.start()
    case.moment()
    shutil.rmtree(case.folder / "cache", ignore_errors=True)
    return case.wait(child)


@kind("damaged results", "others")
def what_is_there_already(case):
    """A part of an interrupted command is damaged."""
    child = case.start()
    case.moment()
    child.send(signal.SIGKILL)
    ended = case.wait(child)
    found = sorted(path for path in (case.folder / case.work.out).rglob("*") if path.is_file())
    if found:
        _spoil(case, case.draw.choice(found))
    return ended


# Clocks, memory, numbers


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


# Data


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


# Neighbours


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


# Standard streams


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
