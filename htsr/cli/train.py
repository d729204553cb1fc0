"""Train a model.

    htsr train --config mmnist_laptop
    htsr train --config my_config.yml --set train.steps=1000

The same command continues an interrupted training. The run folder is <logdir>/<name of the config>. With --show the
command prints the config, every key with its value, and trains nothing.

With several GPUs add --devices N. On several machines start the command on each with --workers HOST:PORT,HOST:PORT and
--worker 0, 1, ...; the run folder must lie where all of them read and write.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from htsr.checks import require_choice
from htsr.config import check_named, check_section, differences, find_config, read_config, run_folder, save_config
from htsr.errors import InputError

if TYPE_CHECKING:
    from htsr.data.clips import Clips

# What may change between two starts of one run: it alters neither the weights nor the log.
MAY_CHANGE = (
    "eval", "data.download", "train.checkpoint_every", "train.checkpoint_minutes", "train.keep_last",
    "train.keep_every",
)  # fmt: skip

SET_BY_PROGRAM = ("model", "clips", "valid_clips", "run")  # arguments of ``fit`` that no config has


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--config", required=True, help="a .yml file, or the name of a config that comes with htsr")
    parser.add_argument("--logdir", default="logs", help="where run folders go (default: logs)")
    parser.add_argument("--from-run", help="begin a new run with the weights and Adam's slots of this one")
    parser.add_argument("--name", help="name of the run folder (default: the config's path below configs/)")
    parser.add_argument("--datadir", help="folder with data files, as data.datadir")
    parser.add_argument("--download", action="store_true", help="fetch the full MNIST, as data.download")
    replicas = parser.add_mutually_exclusive_group()
    replicas.add_argument("--devices", type=int, metavar="N", help="train on N GPUs of this machine: strategy mirrored")
    replicas.add_argument("--workers", help="train on several machines, host:port of each: strategy multiworker")
    parser.add_argument("--worker", type=int, help="which of the workers this is, counted from 0")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a config key")
    parser.add_argument("--show", action="store_true", help="print every key of the config, defaults too, and stop")


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say."""
    path = find_config(args.config)
    config = read_config(path, args.set)
    if args.datadir:
        config["data"]["datadir"] = args.datadir
    if args.download:
        config["data"]["download"] = True
    workers = args.workers.split(",") if args.workers else []
    if bool(workers) != (args.worker is not None):
        raise InputError("--workers and --worker belong together: the addresses of all, and which of them this one is")
    if workers or args.devices is not None:
        config["train"]["strategy"] = "multiworker" if workers else "mirrored"
    if args.show:
        return show(config)
    run = run_folder(args.logdir, path, args.name)
    return train(config, run, args.from_run, args.devices, workers, args.worker or 0)


def show(config: dict[str, dict[str, Any]]) -> int:
    """Print a config with every key that it may have."""
    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.data import DATASETS
    from htsr.evaluation.protocol import check_eval
    from htsr.models import MODELS
    from htsr.training.fit import fit
    from htsr.training.strategy import Name

    strategy = config["train"].pop("strategy", "one")
    require_choice("train.strategy", strategy, get_args(Name))
    of_data = () if "frame_shape" in config["model"] else ("frame_shape",)
    sections = {
        "model": check_named("model", config["model"], MODELS, reserved=of_data),
        "data": check_named("data", config["data"], DATASETS, reserved=("split",)),
        "train": {"strategy": strategy, **check_section("train", config["train"], fit, reserved=SET_BY_PROGRAM)},
        "eval": check_eval(config["eval"]),
    }
    print(yaml.safe_dump(sections, sort_keys=False), end="")
    return 0


def train(
    config: dict[str, dict[str, Any]],
    run: Path,
    from_run: str | None = None,
    devices: int | None = None,
    workers: Sequence[str] = (),
    worker: int = 0,
) -> int:
    """Train as a config says, in a run folder.

    Args:
        config: of the run, by section.
        run: its folder.
        from_run: run folder whose weights and slots a new run begins with; None for fresh ones.
        devices, workers, worker: as in ``htsr.training.strategy.make``.

    Returns:
        0 when the training is complete, or 128 plus the number of the signal that stopped it.
    """
    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    import keras
    import tensorflow as tf

    from htsr.data import DATASETS
    from htsr.evaluation.protocol import check_eval
    from htsr.models import build_model
    from htsr.runs import begin, card
    from htsr.runs.folder import RunLock
    from htsr.training import fit as training
    from htsr.training.strategy import Name, automatic, is_chief, make, noticing_loss

    name = config["train"].pop("strategy", "one")  # not kept: a run may go on with another one
    require_choice("train.strategy", name, get_args(Name))
    config["train"] = check_section("train", config["train"], training.fit, reserved=SET_BY_PROGRAM)
    data, settings = config["data"], config["train"]
    config["data"] = check_named("data", data, DATASETS, reserved=("split",))
    _check(settings)
    settings["jit_compile"], settings["deterministic"] = automatic(settings["jit_compile"], settings["deterministic"])
    strategy = make(name, devices, workers, worker)
    chief = is_chief(strategy)
    with noticing_loss(strategy, run):
        clips, valid_clips = _load(config)
        check_eval(config["eval"])
        keras.utils.set_random_seed(settings["seed"])
        with strategy.scope():
            model = build_model(**config["model"])
        # What is wrong with a config has been refused by now, so that no folder is made for it.
        with RunLock(run) if chief else contextlib.nullcontext():
            _refuse_another_config(run, config)
            if chief:
                save_config(config, run / "config.yml")
                environment.save(run / "environment.json")
                _announce(tf.config.list_physical_devices("GPU"))
            if from_run is not None and chief:
                begin.begin_with(run, from_run)
            result = training.fit(model, clips, valid_clips, run, **settings)
            if chief:
                card.write_card(run)
    following = f"; next: htsr evaluate --logdir {run}" if result.step == settings["steps"] else ""
    print(
        f"{run} is at step {result.step} of {settings['steps']}; peak memory {environment.peak_memory_mib()} "
        f"MiB{following}",
        file=sys.stderr,
    )
    return 0 if result.stopped_by is None else 128 + result.stopped_by


def _load(config: dict[str, dict[str, Any]]) -> tuple["Clips", "Clips"]:
    """The clips to train on and to validate with; what they say of data and model is put into the config."""
    from htsr.data import load_clips
    from htsr.models import MODELS

    clips, train = load_clips(split="train", **config["data"]), config["train"]
    frames = max(train["valid_context"] + train["valid_horizon"], clips.shape[0])
    try:
        valid_clips = load_clips(split="valid", **{**config["data"], "seq_len": frames})
    except InputError as error:
        raise InputError(
            f"validation clips of {frames} frames, the most of data.seq_len and train.valid_context + "
            f"train.valid_horizon: {error}"
        ) from None
    config["data"] |= clips.resolved
    shape = list(clips.shape[1:])
    if config["model"].setdefault("frame_shape", shape) != shape:
        raise InputError(f"model.frame_shape is {config['model']['frame_shape']}, but the data's is {shape}; omit it")
    config["model"] = check_named("model", config["model"], MODELS)
    return clips, valid_clips


def _announce(gpus: list) -> None:
    """Say what to expect of the first minute."""
    if not gpus:
        print(
            "No GPU found: training on the CPU. The configs called laptop, and videos.yml, are sized for that.",
            file=sys.stderr,
        )
    print("The first step takes longer than the others: the model's graph is built.", file=sys.stderr)


def _check(settings: dict[str, Any]) -> None:
    """Refuse, before there is a folder, what training would refuse."""
    from htsr.training.schedules import learning_rate

    if not 0 <= settings["seed"] < 2**31:
        raise InputError(f"train.seed must lie in 0..2147483647, received {settings['seed']}")
    learning_rate(*(settings[key] for key in ("learning_rate", "warmup_steps", "schedule", "steps")), num_passes=1)


def _refuse_another_config(run: Path, config: dict[str, dict[str, Any]]) -> None:
    from htsr.runs.folder import read_run_config

    if not (run / "config.yml").exists() or not any(run.glob("model/step_*")):
        return
    before = read_run_config(run)
    # A folder may move; without one, the bundled digits are used.
    moved = ("data.datadir",) if before["data"].get("datadir") and config["data"]["datadir"] else ()
    # Imported weights have been trained on nothing here.
    untrained = (run / "imported.json").exists() and not (run / "metrics.jsonl").exists()
    changed = differences(before, config, ignore=MAY_CHANGE + moved + ("data", "train") * untrained)
    changed = _without_more_steps(changed, before["train"], config["train"], run)
    if changed:
        raise InputError(
            f"{run} was trained with another config ({'; '.join(changed)}); restore these keys, or give another --name"
        )


def _without_more_steps(changed: list[str], before: dict[str, Any], now: dict[str, Any], run: Path) -> list[str]:
    """What has changed, but for a larger number of steps where a step does not depend on how many follow."""
    others = [key for key in changed if not key.startswith("train.steps:")]
    if len(others) == len(changed) or (now["schedule"] == "constant" and now["steps"] > before["steps"]):
        return others
    raise InputError(
        f"{run} is a run of {before['steps']} steps with the schedule {now['schedule']}, and now train.steps is"
        f" {now['steps']}; restore it, or train the weights further in a new run: --from-run {run} --name NAME"
    )
