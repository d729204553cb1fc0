"""Time one job of a config, in a process of its own: ``python -P job.py REQUEST`` prints a line of JSON.

``htsr`` is imported from where ``PYTHONPATH`` says, from another checkout maybe: so this file takes nothing from its
own room before it has timed the job.
"""

import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

INPUT_SECONDS = 0.5  # of one timing of the input
EVALUATED = 4  # clips of one timing of an evaluation

Config = dict[str, dict[str, Any]]


class Job(NamedTuple):
    """What is timed.

    Attributes:
        call: does it, waits for it, and returns how many units of it were done.
        size: bytes of frames in a unit, as they are read or predicted.
        traced: functions of tensors of static shapes that together compute a unit, each with its tensors and how often
            it is done; None for a job of nothing but bytes.
    """

    call: Callable[[], float]
    size: int
    traced: Callable[[], list[tuple[Callable[..., Any], tuple[Any, ...], float]]] | None = None


def main() -> None:
    """Do what the request of the command line says."""
    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    print(json.dumps(timed(**json.loads(sys.argv[1]))))


def timed(name: str, config: Config, repeats: int, count: bool) -> dict[str, Any]:
    """Time a job after a first call, which traces.

    Args:
        name: a key of ``JOBS``.
        config: by section, as it was read.
        repeats: timings.
        count: whether its operations are counted, too.

    Returns:
        ``wall`` and ``processor``: seconds of every repeat, for one unit of the job; ``memory``: the most the process
        had in use, MiB, and ``gpu_memory`` of a GPU; ``bytes`` and ``operations`` of a unit, the latter by kind.
    """
    import tensorflow as tf

    from htsr.config import check_named
    from htsr.data import DATASETS

    job = JOBS[name]({**config, "data": check_named("data", config["data"], DATASETS, reserved=("split",))})
    job.call()
    wall, processor = [], []
    for _ in range(repeats):
        began = time.perf_counter(), time.process_time()
        units = job.call()
        wall.append((time.perf_counter() - began[0]) / units)
        processor.append((time.process_time() - began[1]) / units)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found = {"wall": wall, "processor": processor, "bytes": job.size, "memory": peak}
    if tf.config.list_physical_devices("GPU"):
        found["gpu_memory"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    if count and job.traced is not None:
        from htsr.bench.operations import counted

        total = Counter()
        for function, tensors, times in job.traced():
            total.update({kind: times * number for kind, number in counted(function, *tensors).items()})
        found["operations"] = dict(total)
    return found


def step(config: Config) -> Job:
    """A unit is a training step, on the first batch."""
    import tensorflow as tf

    from htsr.config import check_section
    from htsr.data import load_clips
    from htsr.models import training_step
    from htsr.training import schedules
    from htsr.training.adam import Adam
    from htsr.training.fit import fit
    from htsr.training.strategy import automatic

    train = {name: value for name, value in config["train"].items() if name != "strategy"}
    train = check_section("train", train, fit, reserved=("model", "clips", "valid_clips", "run"))
    compiled, deterministic = automatic(train["jit_compile"], train["deterministic"])
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    clips = load_clips(split="train", **config["data"])
    model = _model(config, clips)
    scheduled = (train[name] for name in ("learning_rate", "warmup_steps", "schedule", "steps"))
    adam = schedules.OneCycleAdam if train["schedule"] == "onecycle" else Adam
    rate = schedules.learning_rate(*scheduled, model.num_passes)
    optimizer = adam(rate, model.frozen_in_passes, epsilon=train["epsilon"], weight_decay=train["weight_decay"] or None)
    names = ("clip_norm", "accumulate", "ema_decay", "recompute")  # another checkout may not have all of them
    model.compile(optimizer, **{name: train[name] for name in names if name in train}, jit_compile=compiled)
    batch = tf.constant(clips.batch(0))
    graph = tf.function(model.train_step, autograph=False, jit_compile=compiled)

    def call():
        float(graph(batch)["loss"])
        return 1

    def gradients(part):
        frozen = {variable.path for variable in part.frozen}
        trained = [variable for variable in model.trainable_variables if variable.path not in frozen]
        return lambda clip, seed, step: training_step.gradients(model, clip, trained, seed, step, **part.arguments)

    def traced():
        passes = model.training_passes(tf.zeros([1, *batch.shape[1:]]))
        return [(gradients(part), (part.clip, tf.constant(0), tf.constant(0)), len(batch)) for part in passes]

    return Job(call, batch.numpy().nbytes, traced)


def rollout(config: Config, batch: int) -> Job:
    """A unit is a rollout of ``batch`` clips together, as long as an evaluation's."""
    import numpy as np
    import tensorflow as tf

    protocol, clips, model = _evaluated(config)
    known = next(clips.examples(min(batch, clips.num_clips), 0, batch))
    context = known[np.arange(batch) % len(known), : protocol.eval["context"]]
    horizon, noise = protocol.eval["horizon"], protocol.eval["noise"]

    def call():
        for _ in model.rollout_chunks(context, horizon, noise=noise):
            pass
        return 1

    def predict(context):
        return model.advance(model.start(context, 1, tf.constant([0]), tf.constant(True)), horizon)[1]

    one = tf.constant(context[:1], tf.float32)
    return Job(call, batch * horizon * context[0, 0].size, lambda: [(predict, (one,), batch)])


def read_clips(config: Config) -> Job:
    """A unit is a clip of the training pipeline, out of the cache where there is one."""
    from htsr.data import load_clips

    clips = load_clips(split="train", **config["data"])
    stream = iter(clips.dataset(0, 10**9))
    size = next(stream).numpy()[0].nbytes

    def call():
        count, until = 0, time.perf_counter() + INPUT_SECONDS
        while time.perf_counter() < until:
            count += len(next(stream))
        return count

    return Job(call, size)


def evaluation(config: Config) -> Job:
    """A unit is a clip: its rollout, all metrics of it and of the baselines, and its share of what ends an evaluation.

    Of its operations only those of the rollout are counted.
    """
    from htsr.evaluation.evaluate import evaluate
    from htsr.evaluation.protocol import check_eval

    protocol, clips, model = _evaluated(config)
    settings = check_eval(config["eval"])
    total = min(EVALUATED, clips.num_clips)
    chosen = {**protocol.eval, **{name: settings[name] for name in ("batch_size", "rows")}, "num_examples": total}

    def call():
        with tempfile.TemporaryDirectory() as out:
            evaluate(model, clips, out=out, **chosen)
        return total

    predicted = rollout(config, 1)
    return Job(call, predicted.size, predicted.traced)


def _evaluated(config: Config):
    """The protocol of a config, its clips, and a model for them."""
    from htsr.evaluation.protocol import load_test_clips, make_protocol

    protocol = make_protocol(config["data"], config["eval"])
    clips = load_test_clips(protocol)
    return protocol, clips, _model(config, clips)


def _model(config: Config, clips):
    """A model with fresh weights, of the frames of the clips."""
    import keras

    from htsr.config import check_named
    from htsr.models import MODELS, build_model

    keras.utils.set_random_seed(0)
    return build_model(**check_named("model", {**config["model"], "frame_shape": list(clips.shape[1:])}, MODELS))


JOBS: dict[str, Callable[[Config], Job]] = {
    "step": step,
    "rollout_1": lambda config: rollout(config, 1),
    "rollout_8": lambda config: rollout(config, 8),
    "input": read_clips,
    "evaluation": evaluation,
}

if __name__ == "__main__":
    main()
