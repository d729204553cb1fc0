"""Evaluate a trained model over a long horizon, LPIPS included.

    htsr evaluate --logdir logs/mmnist/model --horizon 300
    htsr evaluate --pretrained htsr-mmnist-laptop

Prints a table and writes numbers, curves, strips, GIFs, the protocol and a report to ``<run>/eval/<time>/``, of a model
that comes with htsr to ``NAME-evaluation``. An evaluation that was interrupted goes on with the same command.
"""

import argparse
from typing import Any

from htsr.errors import InputError
from htsr.runs.folder import find_run, pretrained_names, pretrained_run, read_run_config

# Keys of the sections that have a flag of their own.
FLAGS = {
    "eval": ("context", "horizon", "num_examples", "num_samples", "metric_mode", "select", "fvd"),
    "data": ("datadir",),
}
FIXED = ("data.name", "data.persons", "data.seq_len", "data.batch_size")
# A protocol does not fix these.
BESIDE_PROTOCOL = ("eval.batch_size", "eval.rows", "eval.num_pictures", "data.datadir")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--logdir", help="run folder, or a model or step_<n> folder in it")
    names = " or ".join(pretrained_names())
    model.add_argument("--pretrained", metavar="NAME", help=f"a model that comes with htsr: {names}")
    parser.add_argument("--protocol", help="evaluate as this file says: the protocol.yml of other results")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--eval-seq-len", type=int, help="frames in all: context and predicted ones")
    length.add_argument("--horizon", type=int, help="predicted frames (default: the run's eval.horizon)")
    parser.add_argument("--open-loop-ctx", dest="context", type=int, help="context frames (default: eval.context)")
    parser.add_argument("--num-examples", type=int, help="clips to evaluate, as eval.num_examples")
    parser.add_argument("--num-samples", type=int, help="futures per clip, as eval.num_samples")
    parser.add_argument("--metric-mode", help="whose convention of metrics: htsr-1 (default), openstl, cms, cwvae, ...")
    parser.add_argument("--select", help="how the best of several samples is picked: psnr or per_metric")
    parser.add_argument("--fvd", action="store_true", default=None, help="also FVD, as eval.fvd=true")
    parser.add_argument("--datadir", help="folder with data files, as data.datadir")
    parser.add_argument("--out", help="folder of the results (default: <run>/eval/<time>, or NAME-evaluation)")
    parser.add_argument("--no-latents", action="store_true", help="leave out the diagnostics of HTSR's latents")
    parser.add_argument("--all-metrics", action="store_true", help="print every metric with its intervals")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a key of data or eval"
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint as the run's config, or a protocol, and the arguments say."""
    logdir = args.logdir or pretrained_run(args.pretrained)
    folder = find_run(logdir)
    for override in args.set:
        key = override.partition("=")[0].strip()
        if not key.startswith(("eval.", "data.")) or key in FIXED:
            raise InputError(
                f"--set {override}: after training only eval.* and data.* can change, and of data neither name and "
                "persons (the model knows some of them) nor seq_len and batch_size (they follow from eval)"
            )
    config = read_run_config(folder, args.set)
    flags = _flags(args)
    for section, values in flags.items():
        config[section] |= values

    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.evaluation.protocol import check_eval, make_protocol, read_protocol
    from htsr.evaluation.run import evaluate_run

    settings = check_eval(config["eval"])
    if args.eval_seq_len is not None:
        settings["horizon"] = args.eval_seq_len - settings["context"]
        if settings["horizon"] < 1:
            raise InputError(
                f"--eval-seq-len {args.eval_seq_len} leaves nothing to predict after {settings['context']} context "
                "frames; it counts both, --horizon only the predicted ones"
            )
    if args.protocol:
        protocol = read_protocol(args.protocol, _given(config, args, flags))
    else:
        protocol = make_protocol(config["data"], settings)
    evaluate_run(
        logdir,
        protocol,
        checkpoint=args.checkpoint,
        batch_size=settings["batch_size"],
        rows=settings["rows"],
        num_pictures=settings["num_pictures"],
        latents=not args.no_latents,
        all_metrics=args.all_metrics,
        out=args.out or (f"{args.pretrained}-evaluation" if args.pretrained else None),
    )


def _flags(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The keys of eval and data that were given as flags."""
    return {
        section: {name: value for name in names if (value := getattr(args, name)) is not None}
        for section, names in FLAGS.items()
    }


def _given(config: dict, args: argparse.Namespace, flags: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was given of the data section beside a protocol, which fixes most of it."""
    keys = {override.partition("=")[0].strip() for override in args.set}
    keys |= {f"{section}.{name}" for section, values in flags.items() for name in values}
    fixed = sorted(keys.difference(BESIDE_PROTOCOL)) + ["--eval-seq-len"] * (args.eval_seq_len is not None)
    if fixed:
        raise InputError(
            f"a protocol fixes {', '.join(fixed)}; leave it out, or edit a copy of {args.protocol} and delete its "
            "digests"
        )
    return {name: value for name, value in config["data"].items() if f"data.{name}" in keys}
