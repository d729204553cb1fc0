"""Feed damaged and hostile inputs to every reader, and count what comes of them.

    python -m benchmarks.fuzz --inputs 1000000 --seed 1 --out fuzz.json
    python -m benchmarks.fuzz --only torch --seed 1 --at 1234

An input is drawn from (reader, seed, number). It may be read, or refused with an InputError. Wrong are any other
exception, a crash of the process, more than 5 seconds of processor time or a minute, more than 2 GiB beyond what the
process began with, a file outside of the folder, a process or a connection that is opened. Each is listed with its
number, and ``--at`` repeats it.
"""

import argparse
import contextlib
import importlib
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from benchmarks.fuzz import arrays, records, texts, videos, weights  # noqa: F401 (each fills the table)
from benchmarks.fuzz.table import TARGETS

SECONDS, MEMORY = 5, 2 << 30
ASKED = ("uname", "fc-list")  # programs that Python and Matplotlib ask about the machine
TENSORFLOW = {"config", "protocol", "run_records", "tf1"}
# Inputs a second differ by three orders of magnitude: shares of the whole.
SHARES = {
    "names": 30, "query": 30, "config": 8, "protocol": 6, "splits": 20, "command_line": 6, "safetensors": 30,
    "torch": 25, "checkpoint": 6, "run_records": 4, "cache": 8, "idx": 10, "arrays": 25, "radar": 10, "zips": 6,
    "pictures": 10, "tf1": 3, "links": 5, "uploads": 4, "containers": 2, "netcdf": 1, "taxi": 1,
}  # fmt: skip


class TooLong(BaseException):
    """An input takes too long; not an error that a reader could take for damage."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="of all readers together")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--at", type=int, help="read this input alone, with its traceback")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = {}
    for name in sorted(args.only, key=TENSORFLOW.__contains__):
        if name in TENSORFLOW:  # once, before there are children
            importlib.import_module("htsr.evaluation.protocol")
        count = -(-args.inputs * SHARES[name] // sum(SHARES[other] for other in args.only))
        found[name] = fuzz(name, args.seed, count, args.seconds, args.at)
        print(f"{name}: {found[name]}", flush=True)
        if args.out:
            args.out.write_text(json.dumps(found, indent=1))


def fuzz(name: str, seed: int, count: int, seconds: float, at: int | None = None) -> dict:
    """Read ``count`` inputs in child processes, a new one after each that ends: counts, and what was wrong."""
    place = Path(tempfile.mkdtemp(prefix="htsr-fuzz-"))
    shared = mmap.mmap(-1, 64)
    counts, wrong, began = Counter(), [], time.monotonic()
    number = 0 if at is None else at
    try:
        while number < (count if at is None else at + 1) and time.monotonic() - began < seconds and len(wrong) < 30:
            struct.pack_into("<qqq", shared, 0, number, 0, 0)
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.close(reading)
                stop = count if at is None else at + 1
                _read_all(name, seed, range(number, stop), place, shared, writing, began + seconds, at is not None)
            os.close(writing)
            with open(reading, errors="replace") as pipe:
                said = pipe.read()
            _, status = os.waitpid(child, 0)
            reached, good, refused = struct.unpack_from("<qqq", shared)
            counts += Counter({"read": good, "refused": refused})
            wrong += [json.loads(line) for line in said.splitlines()]
            if not status:
                break
            wrong.append({"number": reached, "what": f"status {os.waitstatus_to_exitcode(status)}"})
            number = reached + 1
    finally:
        shutil.rmtree(place, ignore_errors=True)
    total = counts.total() + len(wrong)
    return {"inputs": total, **counts, "wrong": wrong, "seconds": round(time.monotonic() - began, 1)}


def _read_all(name, seed, numbers, place, shared, writing, until, loud) -> None:  # noqa: PLR0912, PLR0915
    """In a child: read inputs one after the other; it never returns."""
    status = 1
    try:
        folder = place / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.chdir(folder)
        os.environ |= {"HTSR_CACHE": str(place / "cache"), "TMPDIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
        os.environ["MPLCONFIGDIR"] = str(place)
        tempfile.tempdir = str(folder)
        reports = os.fdopen(writing, "w")
        read = TARGETS[name]()
        from htsr.errors import InputError

        if not loud:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_used() + MEMORY,) * 2)
        outside: list[str] = []
        sys.addaudithook(_watch(place, outside))
        signal.signal(signal.SIGALRM, _too_long)
        signal.signal(signal.SIGPROF, _too_long)
        for number in numbers if read else ():
            _, good, refused = struct.unpack_from("<qqq", shared)
            what = None
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            signal.alarm(12 * SECONDS)
            try:
                read(random.Random(f"{name}/{seed}/{number}"))
                good += 1
            except InputError as error:
                refused += 1
                if loud:
                    print("refused:", error)
                if "\n" in str(error):
                    what = f"a refusal of several lines: {str(error)[:200]!r}"
            except BaseException as error:
                what = "".join(traceback.format_exception(error))[-1500:]
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
            if outside:
                what = f"outside: {outside}"
                outside.clear()
            if what:
                reports.write(json.dumps({"number": number, "what": what}) + "\n")
                reports.flush()
                if loud:
                    print(what)
            struct.pack_into("<qqq", shared, 0, number + 1, good, refused)
            if time.monotonic() > until:
                break
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            reports.close()
        os._exit(status)


def _used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _too_long(*_) -> None:
    raise TooLong(f"more than {SECONDS} seconds")


def _watch(place: Path, outside: list[str]):
    """An audit hook that notes what is written elsewhere, run or connected to."""
    allowed, begun = (str(place), "/dev/null", "/proc/"), os.getpid()

    def hook(event, arguments):
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else False
            if not writes or not isinstance(path, str | bytes | os.PathLike):
                return
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.link"):
            path = arguments[1 if event in ("os.rename", "os.symlink", "os.link") else 0]
        elif event in (
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "socket.connect",
            "pickle.find_class",
        ):
            if os.path.basename(str(arguments[0])) not in ASKED:
                outside.append(f"{event} {arguments!r}"[:300])
            return
        else:
            return
        full = os.path.abspath(os.fsdecode(path))
        if not full.startswith(allowed) and os.getpid() == begun and "__pycache__" not in full:
            outside.append(f"{event} {full!r}")

    return hook


if __name__ == "__main__":
    main()
