"""Which predictor is right for how long? Every model at laptop size, trained for the same processor time.

    python -m benchmarks.long_table [--digits 1] [--seconds 1800] [--only NAME ...] [--logdir logs/long_table]
    python -m benchmarks.long_table --page [--digits 1]

The first command trains the laptop config of each model on Moving MNIST, one after the other, evaluates it on the same
256 test clips, 36 frames seen and 300 predicted (a model of fixed context sees the last of them), and writes what was
found to ``docs/results/long_table/``: one small file a model, so what is there is not trained again. The second one
writes table and curves of all that are there.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml

from benchmarks.equal_time import train
from htsr.config import find_config, read_config
from htsr.evaluation.baselines import BASELINES, TRUTH
from htsr.metrics import metric as metric_table
from htsr.report import plots

RESULTS = Path(__file__).parent.parent / "docs" / "results"
MODELS = {  # name: config, and what is set in it
    "HTSR": ("mmnist_laptop",),
    "HTSR, published loss": (
        "mmnist_laptop", "model.layers=0", "model.imagine_from=null", "model.calibrated=false",
        "model.frame_stddev=1.0", "model.decoded_frames=12",
    ),
    "CW-VAE": ("cwvae/mmnist_laptop",),
    "DDPAE": ("ddpae/mmnist_laptop",),
    "PDE-driven": ("pde_driven/mmnist_laptop",),
    "FC-LSTM": ("fc_lstm/mmnist_laptop",),
    "ConvLSTM": ("conv_lstm/mmnist_laptop",),
    "CMS-LSTM": ("cms_lstm/mmnist_laptop",),
    "PredRNN++": ("predrnnpp/mmnist_laptop",),
    "PredRNN-V2": ("predrnnv2/mmnist_laptop",),
    "MIM": ("mim/mmnist_laptop",),
    "MotionRNN": ("motionrnn/mmnist_laptop",),
    "MAU": ("mau/mmnist_laptop",),
    "GMG": ("gmg/mmnist_laptop",),
    "LMC-Memory": ("lmc_memory/mmnist_laptop",),
    "E3D-LSTM": ("e3d_lstm/mmnist_laptop",),
    "SwinLSTM": ("swin_lstm/mmnist_laptop",),
    "PhyDNet": ("phydnet/mmnist_laptop",),
    "CrevNet": ("crevnet/mmnist_laptop",),
    "SimVP": ("simvp/mmnist_laptop",),
    "TAU": ("simvp/mmnist_laptop", "model.translator.name=tau", "model.divergence=0.1"),
    "WaST": ("wast/mmnist_laptop",),
    "ST-ResNet": ("st_resnet/mmnist_laptop",),
}  # fmt: skip
METRICS = {  # and their decimals
    "digits_place": 2,
    "digits_identity": 2,
    "sharpness": 2,
    "lpips": 3,
    "psnr": 1,
    "psnr_moving": 1,
    "ssim": 3,
}
CONTEXT, HORIZON, CLIPS = 36, 300, 256
LEADS = (1, 2, 5, 10, 20, 50, 100, 200, 300)
SHOWN_AT = [LEADS.index(lead) for lead in (1, 10, 50, 100, 300)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seconds", type=float, default=1800.0, help="processor time of each training")
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    parser.add_argument("--logdir", type=Path, default=Path("logs/long_table"))
    parser.add_argument("--machine", default="", help="what the page calls the machine")
    parser.add_argument("--page", action="store_true", help="write table and curves of what is there")
    args = parser.parse_args()
    folder = RESULTS / "long_table" / f"{args.digits}_digits"
    folder.mkdir(parents=True, exist_ok=True)
    for name in [] if args.page else args.only:
        if not (path := _file(folder, name)).exists():
            content = measure(name, args.digits, args.seconds, args.logdir / folder.name)
            path.write_text(json.dumps({**content, "machine": args.machine}) + "\n")
    found = {name: json.loads(path.read_text()) for name in MODELS if (path := _file(folder, name)).exists()}
    write_page(args.digits, args.seconds, found)


def _file(folder: Path, name: str) -> Path:
    """Return the file of what was found of a model."""
    return folder / (re.sub(r"\W+", "_", name).lower() + ".json")


def measure(name: str, digits: int, seconds: float, logdir: Path) -> dict:
    """Train and evaluate one of the models: what its file says."""
    path, *overrides = MODELS[name]
    if path == "mmnist_laptop" and digits == 2:
        path = "mmnist_laptop_2digits"
    config = read_config(find_config(path), [*overrides, f"data.num_digits={digits}"])
    run = logdir / _file(logdir, name).stem
    out = run.with_name(f"{run.name}-evaluation")
    if not (run / "training.png").exists():
        train(config, run, seconds)
    if not (out / "curves.json").exists():
        evaluate(run, out, digits)
    arrays = json.loads(next((run / "model").glob("step_*/manifest.json")).read_text())["arrays"]
    return {
        "command": " --set ".join((f"htsr train --config {path}", *overrides)),
        "parameters": sum(math.prod(about["shape"]) for key, about in arrays.items() if key.startswith("model/")),
        "steps": yaml.safe_load(run.with_suffix(".yml").read_text())["train"]["steps"],
        "seconds": round(float(run.with_suffix(".seconds").read_text())),
        "seed": config["train"].get("seed", 0),
        "date": time.strftime("%Y-%m-%d"),
        "curves": {
            series: {
                metric: [[round(curve[key][lead - 1], 4) for key in ("mean", "low", "high")] for lead in LEADS]
                for metric in METRICS
                if (curve := values.get(metric))
            }
            for series, values in json.loads((out / "curves.json").read_text())["curves"].items()
        },
    }


def evaluate(run: Path, out: Path, digits: int) -> None:
    """Evaluate a run under the protocol of all."""
    protocol = out.parent / "protocol.yml"
    if not protocol.exists():
        from htsr.evaluation.protocol import make_protocol, save_protocol

        data = {"name": "moving_mnist", "source": "generated", "num_digits": digits}
        settings = {"context": CONTEXT, "horizon": HORIZON, "num_examples": CLIPS, "noise": "mean"}
        save_protocol(make_protocol(data, settings), protocol)
    command = [sys.executable, "-m", "htsr", "evaluate", "--logdir", run, "--protocol", protocol, "--out", out]
    subprocess.run([*command, "--no-latents"], check=True)


def write_page(digits: int, seconds: float, found: dict[str, dict]) -> None:
    """Write ``long_table_<digits>.yml`` for the documentation, and the curves beside the other pictures."""
    last = list(found.values())[-1]
    series = {name: content["curves"]["model"] for name, content in found.items()}
    series |= {name: last["curves"][name] for name in (*BASELINES, TRUTH) if name in last["curves"]}
    cost = {
        "heading": "training",
        "columns": ["parameters", "steps", "processor s"],
        "rows": [[n, f"{c['parameters']:,}", f"{c['steps']:,}", f"{c['seconds']:,}"] for n, c in found.items()],
    }
    page = {
        "commands": [f"python -m benchmarks.long_table --digits {digits} --seconds {seconds:g}"],
        "steps": "as many as fit into the same processor time, below",
        "seed": last["seed"],
        "machine": "; ".join(sorted({content["machine"] for content in found.values()})),
        "date": " to ".join(sorted({content["date"] for content in found.values()})[:: max(1, len(found) - 1)]),
        "clips": f"{CLIPS} test clips of digits that no model was trained on; {CONTEXT} frames of context; "
        "95 % bootstrap intervals",
        "tables": [cost, *(_table(metric, series) for metric in METRICS)],
    }
    path = RESULTS / f"long_table_{digits}_digits.yml"
    path.write_text(yaml.safe_dump(page, sort_keys=False, allow_unicode=True, width=1000))
    figure, panels = plots.begin(4, f"Every model, {digits} digit{'s' * (digits > 1)}, 36 frames seen", "")
    looks = plots.looks_of(series)
    for panel, metric in zip(panels, METRICS, strict=False):
        for name, curves in series.items():
            if metric in curves:
                panel.plot(LEADS, [mean for mean, _, _ in curves[metric]], label=name, **looks[name])
        panel.set_xscale("log")
        plots.label(panel, metric_table.METRICS[metric].label, "frames after the context")
    plots.finish(figure, panels, RESULTS.parent / "pictures" / f"long_table_{digits}_digits.png")


def _table(metric: str, series: dict[str, dict]) -> dict:
    """Return a table of one metric: a row a model, best first at the middle of the horizon."""
    form, sign = f".{METRICS[metric]}f", -1 if metric_table.METRICS[metric].better == "higher" else 1
    found = {name: [curves[metric][i] for i in SHOWN_AT] for name, curves in series.items() if metric in curves}
    rows = [
        [name, *(f"{m:{form}} [{low:{form}}, {high:{form}}]" for m, low, high in found[name])]
        for name in sorted(found, key=lambda name: sign * found[name][len(SHOWN_AT) // 2][0])
    ]
    return {
        "heading": f"{metric_table.METRICS[metric].label}, after",
        "columns": [LEADS[i] for i in SHOWN_AT],
        "rows": rows,
    }


if __name__ == "__main__":
    main()
