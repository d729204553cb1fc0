"""What do the CE and SE blocks bring at laptop size? Table 3 of CMS-LSTM (arXiv 2102.03586) in small.

    python -m benchmarks.cms_ablation [--logdir logs] [--seeds 0 1 2] [--steps 400]

Trains ``configs/cms_lstm/mmnist_laptop.yml`` without blocks (a ConvLSTM), with CE, with SE and with both, for the same
number of steps and for every seed (of weights, batches and sampling), one after the other by ``train.py``: an
interrupted series continues where it stopped. Then 10 frames are predicted from 10 on 256 test clips. Prints, over the
seeds, mean and 95 % t interval of each variant and of its differences from the ConvLSTM of the same seed, and writes
them to ``<logdir>/ablation/results.json``.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np

from htsr.config import read_config
from htsr.runs import environment

CONFIG = "configs/cms_lstm/mmnist_laptop.yml"
VARIANTS = {"ConvLSTM": (0, []), "+CE": (5, []), "+SE": (0, [1, 2, 4]), "+CE +SE": (5, [1, 2, 4])}
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}  # quantiles of Student's t with one degree less
CLIPS, CONTEXT, HORIZON = 256, 10, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logdir", default="logs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    if len(args.seeds) not in T_975:
        parser.error(f"give 2 to 6 seeds, received {len(args.seeds)}")
    folder = Path(args.logdir) / "ablation"
    environment.import_tensorflow_quietly()
    scores = {name: [] for name in VARIANTS}
    for seed in args.seeds:
        for name, (ce, se) in VARIANTS.items():
            run = f"{name.replace(' ', '').replace('+', '_').lower().lstrip('_')}_{seed}"
            settings = {
                "model.cell": f"{{name: cms_lstm, ce: {ce}, se: {se}}}",
                "train.seed": seed, "data.seed": seed, "train.steps": args.steps,
                "model.sampling_steps": args.steps // 2, "train.valid_every": args.steps,
            }  # fmt: skip
            overrides = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
            command = [sys.executable, "train.py", "--config", CONFIG, "--logdir", folder, "--name", run, *overrides]
            subprocess.run(command, check=True)
            scores[name].append(score(folder / run))
    report(scores, folder / "results.json", args)


def score(run: Path) -> dict[str, float]:
    """Means over clips and predicted frames, and the size of the model."""
    from htsr import load_clips, load_model
    from htsr.metrics import frame_errors

    data = {**read_config(run / "config.yml")["data"], "seq_len": CONTEXT + HORIZON, "batch_size": 16, "seed": 0}
    model, values = load_model(run), []
    for clip in load_clips(split="test", **data).examples(CLIPS):
        predicted = np.clip(model.rollout(clip[:, :CONTEXT], HORIZON)[0], 0, 1)
        values.append(frame_errors(predicted, clip[:, CONTEXT:]))
    means = {m: float(np.mean([v[m].mean(1) for v in values])) for m in ("mse_sum", "psnr", "ssim")}
    return {**means, "parameters": model.count_params()}


def report(scores, path: Path, args) -> None:
    quantile = T_975[len(args.seeds)]

    def interval(values, form):
        half = quantile * np.std(values, ddof=1) / math.sqrt(len(values))
        return f"{np.mean(values):{form}} ± {half:{form.replace('+', '')}}"

    print(f"{args.steps} steps, seeds {args.seeds}, {CLIPS} test clips: mean ± 95 % t interval over the seeds")
    for name, runs in scores.items():
        cells = [f"{name:10}{runs[0]['parameters']:10,}"]
        for metric, form in (("mse_sum", ".2f"), ("psnr", ".2f"), ("ssim", ".3f")):
            values = np.array([run[metric] for run in runs])
            base = np.array([run[metric] for run in scores["ConvLSTM"]])
            cells.append(f"{metric} {interval(values, form)} (difference {interval(values - base, '+' + form)})")
        print("  ".join(cells))
    result = {"steps": args.steps, "seeds": args.seeds, "scores": scores, "environment": environment.describe()}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
