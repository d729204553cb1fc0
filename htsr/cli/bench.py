"""Measure how fast a config is on this machine, and how much of what the machine can do that is.

    htsr bench --config mmnist_laptop
    htsr bench --config mmnist_laptop --against ../before --figures step,rollout_8
    htsr bench --config mmnist_laptop --curve clip_length

Every figure is the median of repeats after a first call, in a process of its own, and comes with the peak of that
process's memory and the share of the limit: of the time in which the machine could do the same matrix products and
convolutions, copy the same bytes, or import TensorFlow. The limits are measured beside. Weights are fresh.

--against measures another checkout in turn, A B A B. Writes bench.json and bench.png.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from htsr import __version__
from htsr.bench import measure
from htsr.checks import require_choice
from htsr.config import find_config, read_config
from htsr.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--config", required=True, help="a .yml file, or the name of a config that comes with htsr")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a config key")
    parser.add_argument("--figures", default=",".join(measure.FIGURES), help="which ones (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timings in a process (default: 5)")
    parser.add_argument("--rounds", type=int, help="processes for every figure (default: 1; with --against 3)")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout of htsr, measured in turn")
    curves = ", ".join(measure.CURVES)
    other.add_argument("--curve", help=f"step and rollout over one of {curves} in place of the figures")
    parser.add_argument("--values", help="of the curve, separated by commas (default: some)")
    parser.add_argument("--out", type=Path, help="folder of the results (default: <name of the config>-bench)")


def run(args: argparse.Namespace) -> None:
    """Measure, print a table, write the numbers and a plot."""
    path = find_config(args.config)
    config = read_config(path, args.set)
    names = args.figures.split(",")
    for name in names:
        require_choice("figure", name, measure.FIGURES)
    if args.curve is not None:
        require_choice("curve", args.curve, measure.CURVES)
    elif args.values is not None:
        raise InputError("--values are those of a curve; give --curve, too")
    out = args.out or Path(f"{path.stem}-bench")

    load = os.getloadavg()[0]
    found = measure.limits()
    report = {
        "htsr": __version__,
        "config": args.config,
        "settings": config,
        "dtype": config["model"].get("dtype", "float32"),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load": load,
        "limits": found,
    }
    if args.curve is not None:
        values = [int(value) for value in args.values.split(",")] if args.values else ()
        report |= {"curve": args.curve, "records": measure.curve(config, args.curve, args.repeats, values, _say)}
    else:
        rounds = args.rounds or (3 if args.against else 1)
        figures = measure.figures(config, names, args.repeats, rounds, args.against, _say)
        for figure in figures.values():
            figure["share"] = measure.share(figure, found, report["dtype"])
        report |= {"against": args.against and str(args.against), "figures": figures}
    _present(report, out)


def _present(report: dict, out: Path) -> None:
    from htsr.bench import show
    from htsr.files import new_file

    with new_file(out / "bench.json") as file:
        json.dump(report, file, indent=1)
    show.draw(report, out / "bench.png")
    print(f"{show.table(report)}\n\nnumbers and plot in {out}")


def _say(line: str) -> None:
    print(f"{line} ...", file=sys.stderr)
