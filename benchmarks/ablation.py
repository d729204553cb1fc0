"""What does each change to HTSR bring at equal processor time? From the published loss to the laptop configs.

    python -m benchmarks.ablation mmnist_laptop [--seconds 1800] [--seeds 0] [--only NAME ...] [--logdir logs/ablation]

Trains the config with some of its changes taken back, each variant for as many steps as fit into the processor time
(measured over a few steps of it, the first ones left out), one after the other: what is there already is not trained
again. Then ``htsr compare`` evaluates all on the same test clips, beside the baselines, with paired intervals.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import yaml

from htsr.config import find_config, read_config
from htsr.runs import environment

PUBLISHED = {"imagine_from": None, "layers": 0, "calibrated": False, "frame_stddev": 1.0, "camera": False}
IMAGINED = {**PUBLISHED, "imagine_from": 36}
CALIBRATED = {**IMAGINED, "calibrated": True, "frame_stddev": 0.02}
VARIANTS = {
    "all": {},
    "published": PUBLISHED,
    "imagined": IMAGINED,
    "imagined_calibrated": CALIBRATED,
    "imagined_still_calibrated": {**CALIBRATED, "still": True},
    "all_but_calibrated": {"calibrated": False, "frame_stddev": 1.0},
}
PILOT = 6  # steps that are timed, after as many that are not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seconds", type=float, default=1800.0, help="processor time of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--logdir", type=Path, default=Path("logs/ablation"))
    parser.add_argument("--horizon", type=int, default=100)
    parser.add_argument("--num-examples", type=int, default=64)
    args = parser.parse_args()
    runs = {}
    for seed in args.seeds:
        for name in args.only:
            run = args.logdir / args.config / f"{name}_{seed}"
            if not (run / "training.png").exists():
                train(args.config, name, seed, run, args.seconds)
            runs[f"{name}_{seed}"] = run
    command = [sys.executable, "-m", "htsr", "compare", *(f"{name}={run}" for name, run in runs.items())]
    command += ["--horizon", str(args.horizon), "--num-examples", str(args.num_examples)]
    subprocess.run([*command, "--out", args.logdir / args.config / "comparison"], check=True)


def train(name: str, variant: str, seed: int, run: Path, seconds: float) -> None:
    """Train a variant of a config for some processor time, in processes of its own."""
    config = read_config(find_config(name))
    # Without things there are no walls to be off.
    config["model"] |= VARIANTS[variant] | ({"walls": True} if VARIANTS[variant].get("layers") == 0 else {})
    config["train"]["seed"] = config["data"]["seed"] = seed
    if config["model"]["imagine_from"] is None:
        config["model"]["decoded_frames"] *= 2  # as many as with those that are imagined
    run.parent.mkdir(parents=True, exist_ok=True)
    path = run.with_suffix(".yml")
    path.write_text(yaml.safe_dump(config))
    if not (run / "config.yml").exists():
        cost = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--pilot", path], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        config["train"]["steps"] = max(20, round(seconds / float(cost)))
        config["train"]["warmup_steps"] = config["train"]["steps"] // 8
        config["train"]["valid_every"] = config["train"]["steps"]
        path.write_text(yaml.safe_dump(config))
    subprocess.run(
        [sys.executable, "-m", "htsr", "train", "--config", path, "--logdir", run.parent, "--name", run.name],
        check=True,
    )


def pilot(path: str) -> float:
    """Return the processor seconds of a training step."""
    environment.import_tensorflow_quietly()
    import tensorflow as tf

    from htsr.data import load_clips
    from htsr.models import build_model
    from htsr.training.adam import Adam

    config = read_config(path)
    tf.config.experimental.enable_op_determinism()
    clips = load_clips(split="train", **config["data"])
    model = build_model(**config["model"], frame_shape=list(clips.shape[1:]))
    model.compile(Adam(1e-5, name="adam"), clip_norm=config["train"]["clip_norm"])
    step = tf.function(model.train_step, autograph=False)
    for index, clip in enumerate(clips.dataset(0, 2 * PILOT)):
        if index == PILOT:
            began = time.process_time()
        float(step(clip)["loss"])
    return (time.process_time() - began) / PILOT


if __name__ == "__main__":
    if sys.argv[1] == "--pilot":
        print(pilot(sys.argv[2]))
    else:
        main()
