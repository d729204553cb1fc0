"""Trainings that cost the same processor time, whatever a step of theirs takes: shared by the comparisons here."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from htsr.config import read_config
from htsr.runs import environment

PILOT = 6  # steps that are timed, after as many that are not


def train(config: dict[str, Any], run: Path, seconds: float) -> None:
    """Train a config in a process of its own for some processor time; one that was stopped goes on.

    How many steps these are is measured over a few of them. What the config counts in steps keeps its share of them.
    The folder's parent also gets ``<run>.yml``, the config, and ``<run>.seconds``, the processor time it really took.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    path, took = run.with_suffix(".yml"), run.with_suffix(".seconds")
    if not (run / "config.yml").exists():
        path.write_text(yaml.safe_dump(config))
        pilot = subprocess.run([sys.executable, "-m", __spec__.name, path], check=True, stdout=subprocess.PIPE)
        usual, steps = config["train"]["steps"], max(20, round(seconds / float(pilot.stdout)))
        config["train"] |= {"steps": steps, "valid_every": steps}
        for section, name in (("train", "warmup_steps"), ("train", "checkpoint_every"), ("model", "sampling_steps")):
            if config[section].get(name):
                config[section][name] = max(1, round(config[section][name] * steps / usual))
        path.write_text(yaml.safe_dump(config))
        took.write_text("0")
    before = _seconds_of_children()
    try:
        subprocess.run(
            [sys.executable, "-m", "htsr", "train", "--config", path, "--logdir", run.parent, "--name", run.name],
            check=True,
        )
    finally:
        took.write_text(str(float(took.read_text()) + _seconds_of_children() - before))


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    print(pilot(sys.argv[1]))
