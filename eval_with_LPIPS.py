"""Evaluate a trained model over a long horizon, LPIPS included.

    python eval_with_LPIPS.py --logdir logs/mmnist/model --horizon 300

Prints a table and writes numbers, curves, strips and GIFs to ``<run>/eval/<time>/``.
"""

import argparse
import sys
import time

from htsr.checkpoints import find_run, load_run
from htsr.config import check_section, read_config
from htsr.errors import InputError, one_line_errors

FIXED = ("data.name", "data.persons", "data.seq_len", "data.batch_size")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logdir", required=True, help="run folder, or the model folder in it")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--eval-seq-len", type=int, help="frames in all: context and predicted ones")
    length.add_argument("--horizon", type=int, help="predicted frames (default: the run's eval.horizon)")
    parser.add_argument("--open-loop-ctx", type=int, help="context frames (default: the run's eval.context)")
    parser.add_argument("--num-examples", type=int, help="clips to evaluate, as eval.num_examples")
    parser.add_argument("--num-samples", type=int, help="futures per clip, as eval.num_samples")
    parser.add_argument("--datadir", help="folder with data files, as data.datadir")
    parser.add_argument("--no-cache", action="store_true", help="decode videos for every clip, as data.cache=false")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a key of data or eval"
    )
    args = parser.parse_args()
    with one_line_errors():
        evaluate_run(args)
        return 0


def evaluate_run(args: argparse.Namespace) -> None:
    """Evaluate a checkpoint as the run's config and the arguments say."""
    run = find_run(args.logdir)
    for override in args.set:
        key = override.partition("=")[0].strip()
        if not key.startswith(("eval.", "data.")) or key in FIXED:
            raise InputError(
                f"--set {override}: after training only eval.* and data.* can change, and of data neither name and "
                "persons (the model knows some of them) nor seq_len and batch_size (they follow from eval)"
            )
    config = read_config(run / "config.yml", [*args.set, *(["data.cache=false"] if args.no_cache else [])])

    from htsr import environment

    environment.import_tensorflow_quietly()
    from htsr.data import load_clips
    from htsr.evaluation import SET_BY_PROGRAM, evaluate

    settings = check_section("eval", _with_flags(config["eval"], args), evaluate, reserved=SET_BY_PROGRAM)
    if args.eval_seq_len is not None:
        settings["horizon"] = args.eval_seq_len - settings["context"]
        if settings["horizon"] < 1:
            raise InputError(
                f"--eval-seq-len {args.eval_seq_len} leaves nothing to predict after {settings['context']} context "
                "frames; it counts both, --horizon only the predicted ones"
            )
    data = _test_data(config["data"], settings, args.datadir)
    model, manifest = load_run(run, args.checkpoint)
    clips = load_clips(split="test", **data)
    provenance = {
        "split": "test",
        "data": data,
        "checkpoint": {name: manifest[name] for name in ("step", "score", "files")},
    }
    out = run / "eval" / time.strftime("%Y-%m-%d_%H-%M-%S")
    result = evaluate(model, clips, out=out, provenance=provenance, **settings)
    print(f"\nresults in {out}; peak memory {result.provenance['peak_memory_mib']} MiB")


def _with_flags(section: dict, args: argparse.Namespace) -> dict:
    """The eval section with the flags that were given."""
    flags = {
        "context": args.open_loop_ctx,
        "horizon": args.horizon,
        "num_examples": args.num_examples,
        "num_samples": args.num_samples,
    }
    return {**section, **{name: value for name, value in flags.items() if value is not None}}


def _test_data(section: dict, settings: dict, datadir: str | None) -> dict:
    """The data section for clips of the evaluation's length."""
    from htsr.data import DATASETS
    from htsr.data.clips import require_choice

    data = {key: value for key, value in section.items() if key != "name"}
    require_choice("dataset", section.get("name"), DATASETS)
    data["seq_len"] = settings["context"] + settings["horizon"]
    data["batch_size"] = settings["batch_size"]
    if datadir is not None:
        data["datadir"] = datadir
    return {"name": section["name"], **check_section("data", data, DATASETS[section["name"]], reserved=("split",))}


if __name__ == "__main__":
    sys.exit(main())
