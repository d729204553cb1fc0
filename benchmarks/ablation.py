"""What does each change to HTSR bring at equal processor time? From the published loss to the laptop configs.

    python -m benchmarks.ablation mmnist_laptop [--seconds 1800] [--seeds 0] [--only NAME ...] [--logdir logs/ablation]

Trains the config with some of its changes taken back, each variant for as many steps as fit into the processor time
(measured over a few steps of it, the first ones left out), one after the other: what is there already is not trained
again. Then ``htsr compare`` evaluates all on the same test clips, beside the baselines, with paired intervals.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.equal_time import train
from htsr.config import find_config, read_config

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
                train(changed(args.config, name, seed), run, args.seconds)
            runs[f"{name}_{seed}"] = run
    command = [sys.executable, "-m", "htsr", "compare", *(f"{name}={run}" for name, run in runs.items())]
    command += ["--horizon", str(args.horizon), "--num-examples", str(args.num_examples)]
    subprocess.run([*command, "--out", args.logdir / args.config / "comparison"], check=True)


def changed(name: str, variant: str, seed: int) -> dict[str, Any]:
    """Return a config with some of its changes taken back."""
    config = read_config(find_config(name))
    # Without things there are no walls to be off.
    config["model"] |= VARIANTS[variant] | ({"walls": True} if VARIANTS[variant].get("layers") == 0 else {})
    config["train"]["seed"] = config["data"]["seed"] = seed
    if config["model"]["imagine_from"] is None:
        config["model"]["decoded_frames"] *= 2  # as many as with those that are imagined
    return config


if __name__ == "__main__":
    main()
