"""Compare trained models on the same clips.

    htsr compare HTSR=logs/mmnist_laptop CW-VAE=logs/cwvae/mmnist_laptop --horizon 100 --out comparison

The first run is the one that the others are compared with. All are evaluated under one protocol: ``--protocol``, or the
first run's data and eval sections with the flags below; results that are there already are used again. Prints tables
with intervals and p-values and writes them, curves, GIFs and a report to ``--out``.
"""

import argparse
import os
from pathlib import Path

from htsr.errors import InputError
from htsr.evaluation.baselines import BASELINES, TRUTH
from htsr.runs.folder import find_run, read_run_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("runs", nargs="+", metavar="[NAME=]LOGDIR", help="run folders, each with a name for the tables")
    parser.add_argument("--out", required=True, help="folder for the comparison")
    parser.add_argument("--protocol", help="evaluate as this file says: the protocol.yml of other results")
    parser.add_argument("--horizon", type=int, help="predicted frames (default: the first run's eval.horizon)")
    parser.add_argument(
        "--open-loop-ctx", dest="context", type=int, help="context frames (the first run's eval.context)"
    )
    parser.add_argument("--num-examples", type=int, help="clips, as eval.num_examples")
    parser.add_argument("--datadir", help="folder with data files, as data.datadir")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")


def run(args: argparse.Namespace) -> None:
    """Evaluate what is not evaluated yet, and compare."""
    runs = _named(args.runs)
    if len(runs) < 2:
        raise InputError(f"a comparison needs at least two runs, received {len(runs)}; name another run folder")
    keys = ("context", "horizon", "num_examples")
    flags = {name: value for name in keys if (value := getattr(args, name)) is not None}
    data = {} if args.datadir is None else {"datadir": args.datadir}
    if args.protocol and flags:
        raise InputError(
            f"a protocol fixes {', '.join(flags)}; leave out the flags, or edit a copy of {args.protocol} and "
            "delete its digests"
        )
    config = read_run_config(find_run(next(iter(runs.values()))))

    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.evaluation.compare import compare
    from htsr.evaluation.protocol import find_results, load_test_clips, make_protocol, read_protocol, save_protocol
    from htsr.evaluation.run import evaluate_run
    from htsr.runs.folder import load_run

    if args.protocol:
        protocol = read_protocol(args.protocol, data)
    else:
        protocol = make_protocol({**config["data"], **data}, {**config["eval"], **flags})
    loaded = {name: load_run(run, args.checkpoint) for name, run in runs.items()}
    models = {name: model for name, (model, _) in loaded.items()}
    one_future = [name for name, model in models.items() if not model.stochastic]
    if protocol.eval["num_samples"] > 1 and one_future:
        raise InputError(f"{one_future[0]} has one future for a context; set eval.num_samples: 1 in the protocol")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, run in runs.items():
        results[name] = find_results(find_run(run), protocol, loaded[name][1])
        if results[name] is None:
            print(f"\n{name}: evaluating {run}", flush=True)
            apart = None if os.access(find_run(run), os.W_OK) else out / "results" / name.replace("/", "_")
            results[name] = evaluate_run(run, protocol, checkpoint=args.checkpoint, out=apart).folder
        protocol = read_protocol(results[name] / "protocol.yml", data)  # from now on with the digest of the clips
    compare(results, models, load_test_clips(protocol), out, protocol.eval["seed"])
    save_protocol(protocol, out / "protocol.yml")


def _named(arguments: list[str]) -> dict[str, Path]:
    """Folders of runs by name; one without a name is called by the last two parts of its run's path."""
    pairs = [argument.rpartition("=")[::2] for argument in arguments]
    runs = [find_run(folder) for _, folder in pairs]
    names = [name or "/".join(run.parts[-2:]) for (name, _), run in zip(pairs, runs, strict=True)]
    if len(set(names)) < len(names):
        raise InputError(f"two runs are called {max(names, key=names.count)}; name them: NAME=LOGDIR")
    taken = {*BASELINES, TRUTH} & set(names)
    if taken or any("/" in name for name, _ in pairs):
        raise InputError(
            f"a run cannot be called {', '.join(BASELINES)} or {TRUTH}, nor have a / in its name; give it another: "
            "NAME=LOGDIR"
        )
    return dict(zip(names, (Path(folder) for _, folder in pairs), strict=True))
