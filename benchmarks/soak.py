"""Do memory, descriptors and disk stay where they are while training, evaluation and service run side by side?

    python -m benchmarks.soak --minutes 60 --out soak

Three processes, all with HTSR on Moving MNIST: a training that saves a checkpoint every 20 steps, one process that
evaluates the released weights over and over, and a service of them, whose client sends good clips, and damaged ones
and broken HTTP of ``benchmarks.fuzz.service`` between them. Every ten seconds: memory of each with its children (that
which no other process shares), descriptors, and bytes in the run's folder and in the folder for temporary files.
``soak.jsonl`` has the samples as they come, ``soak.json`` also what they grow in an hour, fitted to the last three
quarters; ``soak.png`` shows them.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.fuzz.service import ask, clips
from benchmarks.fuzz.table import ROOT
from htsr.runs import environment

sys.path[:0] = [str(ROOT / "tests" / "serving")]
WEIGHTS = ROOT / "pretrained" / "htsr-mmnist-laptop"
TRAINING = (
    "train", "--config", "mmnist_laptop", "--name", "soak", "--set", "train.steps=1000000", "--set",
    "train.checkpoint_every=20", "--set", "train.valid_every=100", "--set", "train.log_every=5", "--set",
    "data.batch_size=2", "--set", "data.seq_len=48",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--evaluations", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.evaluations:
        evaluate_for_ever(args.evaluations)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(Path(folder), 60 * args.minutes, args.out.with_suffix(".jsonl"))
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result["samples"], args.out.with_suffix(".png"))
    print(json.dumps({name: result[name] for name in result if name != "samples"}, indent=1))


def soak(folder: Path, seconds: float, kept: Path) -> dict:
    """Run the three for some seconds: samples, also in the file ``kept``; growth in an hour; what each of them did."""
    (folder / "tmp").mkdir()
    surroundings = {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    htsr, exported = (sys.executable, "-m", "htsr"), folder / "exported"
    subprocess.run([*htsr, "export", "--logdir", WEIGHTS, "--out", exported], check=True, env=surroundings)
    commands = {
        "training": (*htsr, *TRAINING, "--logdir", folder / "logs"),
        "evaluations": (sys.executable, "-m", __spec__.name, "--evaluations", folder / "evaluations"),
        "service": (*htsr, "serve", "--model", exported, "--port", "0"),
    }
    running = {}
    for name, command in commands.items():
        with open(folder / f"{name}.txt", "wb") as said:
            running[name] = subprocess.Popen(command, env=surroundings, stdout=said, stderr=said, cwd=folder)
    samples, answers, ends = [], collections.Counter(), threading.Event()
    try:
        client = threading.Thread(target=keep_asking, args=(folder / "service.txt", answers, ends))
        client.start()
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            time.sleep(10)
            ended = [name for name, process in running.items() if process.poll() is not None]
            if ended:
                raise SystemExit(f"{ended} ended: {(folder / f'{ended[0]}.txt').read_text()[-2000:]}")
            sample = {"seconds": round(time.monotonic() - began, 1)}
            for name, process in running.items():
                sample |= {f"{name}, {what}": value for what, value in held_by(process.pid).items()}
            samples.append(sample | {"folder, MB": size_of(folder / "logs"), "temporary, MB": size_of(folder / "tmp")})
            with open(kept, "a") as file:
                file.write(json.dumps(samples[-1]) + "\n")
        ends.set()
        client.join()
    finally:
        ends.set()
        for process in running.values():
            process.kill()
            process.wait()
    evaluations = len(re.findall(r"^\d+ [\d.]+$", (folder / "evaluations.txt").read_text(), re.M))
    saved = (folder / "logs" / "soak" / "model").glob("step_*")
    return {
        "minutes": seconds / 60,
        "training steps saved": max(int(path.name.removeprefix("step_")) for path in saved),
        "evaluations": evaluations,
        "answers": {str(status): count for status, count in answers.items()},
        "growth an hour": growth(samples),
        "machine": environment.describe(),
        "samples": samples,
    }


def evaluate_for_ever(folder: Path) -> None:
    """Evaluate eight clips over 100 frames, a line each time."""
    environment.import_tensorflow_quietly()
    import htsr
    from htsr.evaluation.baselines import MODEL
    from htsr.evaluation.evaluate import evaluate

    model, number = htsr.load_model(WEIGHTS), 0
    clips = htsr.load_clips("moving_mnist", "test", batch_size=8, seq_len=136, num_digits=1)
    while True:
        result = evaluate(model, clips, out=folder / "result", horizon=100, num_examples=8, seed=number)
        for path in (folder / "result").iterdir():
            path.unlink()
        number += 1
        print(number, result.reduced["curves"][MODEL]["psnr"]["horizon_mean"]["mean"], flush=True)


def keep_asking(log: Path, answers: collections.Counter, ends: threading.Event) -> None:
    """Send a good clip, see that its own frames come back, then something bad, and so on."""
    import serving_client

    while not (said := re.search(r"http://\S+:(\d+)", log.read_text())) and not ends.wait(0.5):
        pass
    if not said:
        return
    server, chance, goods = serving_client.Server(int(said.group(1)), None), random.Random(0), clips()
    frames = np.zeros((36, 64, 64, 1), np.uint8)
    for t, frame in enumerate(frames):
        frame[20:40, 8 + t // 2 : 20 + t // 2] = 200
    number = 0
    while not ends.wait(0.5):
        number += 1
        try:
            status, _, body = server.predict(serving_client.npy(frames), f"horizon=20&format=npz&seed={number}")
        except TimeoutError:
            answers["none in 30 s"] += 1
            continue
        answers[status if status != 200 or right(body, frames) else "wrong"] += 1
        answers[ask(server, chance, goods)] += 1


def right(answer: bytes, frames: np.ndarray) -> bool:
    """Say whether an answer has the frames that were sent."""
    with np.load(io.BytesIO(answer)) as file:
        return np.array_equal(file["context"], frames)


def held_by(pid: int) -> dict[str, float]:
    """Memory that no one shares (MiB), and descriptors, of a process and its children."""
    pids, held = [pid], {"MiB": 0.0, "descriptors": 0}
    for one in pids:  # grows in the loop
        try:
            for thread in Path(f"/proc/{one}/task").iterdir():
                pids += [int(child) for child in (thread / "children").read_text().split()]
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            held["MiB"] += sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+)", rollup, re.M)) / 1024
            held["descriptors"] += len(os.listdir(f"/proc/{one}/fd"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return held


def size_of(folder: Path) -> float:
    """Megabytes in a folder."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that go meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total / 1e6


def growth(samples: list[dict]) -> dict[str, dict[str, float]]:
    """Of each quantity the mean, the largest value and the slope an hour, by least squares, of the last 3/4."""
    kept = samples[len(samples) // 4 :]
    hours = np.array([sample["seconds"] for sample in kept]) / 3600
    grows = {}
    for name in kept[0]:
        if name != "seconds":
            values = np.array([sample[name] for sample in kept], float)
            grows[name] = {
                "mean": round(values.mean(), 1),
                "largest": round(values.max(), 1),
                "an hour": round(np.polyfit(hours, values, 1)[0], 2),
            }
    return grows


def draw(samples: list[dict], path: Path) -> None:
    """Plot every quantity over the time."""
    from htsr.report.plots import begin, finish, label

    names = [name for name in samples[0] if name != "seconds"]
    figure, panels = begin(len(names), "Training, evaluations and service side by side", "")
    for name, panel in zip(names, panels, strict=True):
        panel.plot([sample["seconds"] / 60 for sample in samples], [sample[name] for sample in samples], linewidth=1)
        panel.set_ylim(bottom=0)
        label(panel, name, "minutes")
    finish(figure, panels, path)


if __name__ == "__main__":
    main()
