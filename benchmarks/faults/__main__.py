"""Inject faults into trainings, evaluations and other commands, and count how they end.

    python -m benchmarks.faults --seed 1 --faults 200 --out faults.json

A case is a folder with a fresh or a half-done run; one to four faults disturb its command one after the other, then the
same command is given undisturbed. It has to make what an undisturbed run makes, to the bit. A start that was disturbed
may end well, by the signal, or with status 2 and one line; a checkpoint that was finished stays. Anything else is
written into ``--out`` as a failure, with the seed of its case: ``--case SEED`` runs that one again.

File systems are mounted (disk full, read-only), so the program starts itself again in a name space of its own, as root.
"""

import argparse
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.faults import children, works
from benchmarks.faults.case import KINDS, Case
from benchmarks.faults.children import STOPPED, TRACEBACK, Ended

for module in ("signals", "disks", "damage", "surroundings"):  # in this order: a seed chooses by place
    importlib.import_module(f"benchmarks.faults.{module}")
REMEDY = re.compile(
    r"\b(restore|remove|delete|give|choose|use|free|set|lower|raise|wait|start|name|train first|write access|evaluate"
    r"|omit|add|rename|restart|try|check|make|again|put|expected|make room|allow|move)\b"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after so long")
    parser.add_argument("--works", nargs="+", default=list(works.WORKS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--case", type=int)
    parser.add_argument("--out", type=Path, default=Path("faults.json"))
    args = parser.parse_args()
    if "HTSR_FAULTS" not in os.environ and os.getuid() == 0:
        os.environ["HTSR_FAULTS"] = "in a name space of its own"
        os.execvp("unshare", ["unshare", "-m", sys.executable, "-m", "benchmarks.faults", *sys.argv[1:]])
    if args.works != ["checkpoints alone"]:
        children.warm_up()
    place = Path(tempfile.mkdtemp(prefix="htsr-faults-"))
    try:
        found = inject(args, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(table(found))


def inject(args: argparse.Namespace, place: Path) -> list[dict]:
    found, made, began = [], {}, time.monotonic()
    seeds = random.Random(args.seed)
    while len(found) < args.faults and time.monotonic() - began < args.seconds:
        seed = seeds.randrange(2**32) if args.case is None else args.case
        draw = random.Random(seed)
        name = draw.choice(args.works)
        if name not in made:
            made[name] = works.make(name, place / name.replace(" ", "").replace(",", "-"))
        found += disturb(name, made[name], place / "case", draw, args.kinds, seed)
        args.out.write_text(json.dumps(found, indent=1))
        if args.case is not None:
            break
    return found


def disturb(name: str, made: works.Made, folder: Path, draw: random.Random, kinds: list[str], seed: int) -> list[dict]:
    """Run one case: a record a fault."""
    work = works.WORKS[name]
    half = work.trains and draw.random() < 0.6
    shutil.copytree(made.half if half else made.fresh, folder)
    case = Case(work, made._replace(half=made.half if half else None), folder, draw, draw.random() < 0.1)
    able = [kind for kind in kinds if KINDS[kind].works in classes(name)]
    records = []
    for _ in range(draw.choice((1, 2, 3, 4)) if work.trains else draw.choice((1, 2))):
        chosen = draw.choice(able)
        case.look()
        ended = KINDS[chosen].inject(case)
        wrong = judge(ended) or lost(case)
        records.append({"work": name, "half": half, "kind": chosen, "group": KINDS[chosen].group, "case": seed,
                        "status": ended.status, "line": ended.line[-300:], "failure": wrong})  # fmt: skip
        if wrong:
            records[-1]["output"] = ended.output[-6000:]
            break
    else:
        last = finish(case)
        for record in records:
            record["at last"] = last[0]
        if last[1]:
            records[-1] |= {"failure": last[0], "output": last[1]}
    for record in records:
        print(f"{record['case']} {name}: {record['kind']}: {record['status']} {record['line'][:150]}",
              "FAILURE" if record["failure"] else "", record["failure"] or "", flush=True)  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return records


def classes(name: str) -> tuple[str, ...]:
    """Which kinds of faults a work takes: as `Kind.works` has them."""
    if name == "checkpoints alone":
        return "all", "trainings"
    if works.WORKS[name].workers:
        return ("workers",)
    return ("all", "commands", "trainings", "models") if works.WORKS[name].trains else ("all", "commands", "others")


def judge(ended: Ended) -> str | None:
    """Say what was wrong with the end of a command that was disturbed, or None."""
    if ended.status == -99:
        return "it hangs"
    if ended.status == TRACEBACK or "Traceback" in ended.output:
        return "a traceback"
    if ended.status in (-7, -11, -6, -4, -8):
        return "a crash"
    if ended.status == 2 and "error:" in ended.output and not REMEDY.search(ended.output.split("error:")[-1]):
        return "no remedy"
    if ended.status not in (0, 2, *STOPPED):
        return "a strange status"
    return None


def lost(case: Case) -> str | None:
    steps = works.finished_steps(case.folder)
    return f"checkpoint {case.seen} was finished, and now {steps}" if max(steps, default=0) < case.seen else None


def finish(case: Case) -> tuple[str, str]:
    """Give the command once more: how it ended, and the output where that is wrong."""
    ended = case.wait(case.start())
    if ended.status == 2 and not case.work.trains and re.search("exist|already", ended.line) and not judge(ended):
        shutil.rmtree(case.folder / case.work.out)  # as the line says
        ended = case.wait(case.start())
    if wrong := judge(ended):
        return wrong, ended.output[-6000:]
    if ended.status:
        return f"the command cannot go on: {ended.line}", ended.output[-6000:]
    try:
        there = works.results(case.work, case.folder)
    except (OSError, StopIteration) as error:
        return f"results are missing: {error}", ended.output[-6000:]
    others = {key for key in {*there, *case.made.expected} if there.get(key) != case.made.expected.get(key)}
    return (f"other results: {sorted(others)}", ended.output[-6000:]) if others else ("identical", "")


def table(found: list[dict]) -> str:
    """Return kinds, counts and outcomes as a table."""
    groups: dict[str, Counter] = defaultdict(Counter)
    for record in found:
        groups[record["group"]]["faults"] += 1
        groups[record["group"]][_outcome(record)] += 1
    columns = ("faults", "went on", "refused", "stopped", "failures")
    rows = [
        f"| {group} | " + " | ".join(str(counts[name]) for name in columns) + " |" for group, counts in groups.items()
    ]
    total = " | ".join(str(sum(counts[name] for counts in groups.values())) for name in columns)
    return "\n".join(["| kind | " + " | ".join(columns) + " |", "|---" * 6 + "|", *sorted(rows), f"| all | {total} |"])


def _outcome(record: dict) -> str:
    if record["failure"]:
        return "failures"
    return {0: "went on", 2: "refused"}.get(record["status"], "stopped")


if __name__ == "__main__":
    main()
