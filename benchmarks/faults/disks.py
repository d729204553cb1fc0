"""A disk fails, is slow, full, or not to be written to."""

import builtins
import errno
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

import numpy as np

from benchmarks.faults.case import Case, at_operation, kind
from benchmarks.faults.children import Ended

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.ESTALE, errno.EDQUOT)


def _failing(code: int) -> Callable[[], None]:
    def fail():
        raise OSError(code, os.strerror(code))

    return fail


@kind("failing file operation")
def one_operation_fails(case):
    return case.wait(case.start(at_operation(case, _failing(case.draw.choice(ERRORS)))))


@kind("failing file operation")
def operations_fail_from_then_on(case):
    return case.wait(case.start(at_operation(case, _failing(case.draw.choice(ERRORS)), for_good=True)))


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
