"""Replicas of a model: one device, all devices of a machine, or several machines (``tf.distribute``)."""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError

_PATIENCE = 600  # seconds

Name = Literal["one", "mirrored", "multiworker"]


def make(
    name: Name, devices: int | None = None, workers: Sequence[str] = (), worker: int = 0
) -> tf.distribute.Strategy:
    """Return the strategy in whose scope a model is built; it has to be made before TensorFlow does anything else.

    Args:
        name: ``one`` device; ``mirrored``, a replica on each GPU of this machine; ``multiworker``, one on each GPU of
            several machines, or one a machine where there is none. The same command runs on all machines.
        devices: of ``mirrored``: how many GPUs, or, where there is none, into how many the processor is divided. None
            for all GPUs.
        workers: of ``multiworker``: ``host:port`` of all machines, in the same order on each; empty where the
            environment variable ``TF_CONFIG`` has them.
        worker: which of them this process is.

    Raises:
        InputError: there are not as many devices, or the workers are not stated.
    """
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_devices(devices))
    if workers:
        if not 0 <= worker < len(workers):
            raise InputError(
                f"--worker must lie in 0..{len(workers) - 1}, as there are {len(workers)}, received {worker}"
            )
        cluster = {"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": worker}}
        os.environ["TF_CONFIG"] = json.dumps(cluster)
    elif "TF_CONFIG" not in os.environ:
        raise InputError(
            "train.strategy=multiworker needs the workers: --workers host:port,host:port and --worker 0, 1, ..., or the"
            " environment variable TF_CONFIG"
        )
    with _waiting():
        return tf.distribute.MultiWorkerMirroredStrategy()


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """While TensorFlow waits for the other workers, which no exception ends, and no other thread runs: let Ctrl-C end
    the process, and the alarm clock after `_PATIENCE`."""
    print(
        f"waiting for the other workers to start; an alarm ends this one if they have not in {_PATIENCE // 60} minutes",
        file=sys.stderr,
        flush=True,
    )
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGALRM)}
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _devices(count: int | None) -> list[str]:
    gpus = tf.config.list_logical_devices("GPU") if tf.config.list_physical_devices("GPU") else []
    if gpus:
        count = len(gpus) if count is None else count
        require_int("--devices", count, 1)
        if count > len(gpus):
            raise InputError(f"--devices is {count}, but TensorFlow sees {len(gpus)} GPUs; give at most as many")
        return [device.name for device in gpus[:count]]
    if count is None:
        raise InputError(
            "train.strategy=mirrored needs GPUs, and TensorFlow sees none; leave it out, or divide the processor with "
            "--devices 2"
        )
    require_int("--devices", count, 1)
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
    return [f"CPU:{index}" for index in range(count)]


def automatic(jit_compile: bool | Literal["auto"], deterministic: bool | Literal["auto"]) -> tuple[bool, bool]:
    """Return what ``auto`` stands for on this machine: XLA on a GPU, determinism without either.

    Raises:
        InputError: both are asked for, which Keras does not compile.
    """
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if jit_compile == "auto":
        jit_compile = on_gpu and deterministic is not True
    if deterministic == "auto":
        deterministic = not on_gpu and not jit_compile
    if jit_compile and deterministic:
        raise InputError("train.jit_compile and train.deterministic exclude each other; set one of them to false")
    return jit_compile, deterministic


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes take part in the training."""
    resolver = strategy.cluster_resolver
    return 1 if resolver is None else resolver.cluster_spec().num_tasks("worker")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: of several workers the first."""
    return num_workers(strategy) == 1 or strategy.cluster_resolver.task_id == 0


def shares(context: tf.distribute.InputContext, batch_size: int, accumulate: int) -> list[np.ndarray]:
    """Return the rows of a batch that each replica of this process trains on.

    Of each of the ``accumulate`` parts that a batch goes through in, every replica has the same number of rows, one
    replica's after the other's: so the parts are the same on however many replicas.

    Raises:
        InputError: the rows cannot be shared equally.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return [np.arange(batch_size)]
    if batch_size % (replicas * accumulate):
        raise InputError(
            f"data.batch_size is {batch_size}, but {replicas} replicas and train.accumulate = {accumulate} need a "
            f"multiple of {replicas * accumulate}"
        )
    rows = np.arange(batch_size).reshape(accumulate, replicas, -1).swapaxes(0, 1).reshape(replicas, -1)
    own = replicas // context.num_input_pipelines
    return list(rows[context.input_pipeline_id * own :][:own])


class Agreement:
    """What all workers tell each other, now and then, so that they do the same.

    Attributes:
        alone: whether there is no other worker.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.alone = num_workers(strategy) == 1

        def total(values):
            return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(values))

        self._total = tf.function(lambda values: strategy.run(total, (values,)), autograph=False)

    def __call__(self, value: int) -> list[int]:
        """Return the values of all workers; it waits for them."""
        if self.alone:
            return [value]
        count = num_workers(self._strategy)
        values = np.zeros(count, np.int64)
        values[self._strategy.cluster_resolver.task_id] = value
        replicas = self._strategy.num_replicas_in_sync // count  # of a worker, all of which say the same
        return (self.own(self._total(tf.constant(values))).numpy() // replicas).tolist()

    def own(self, value: Any) -> tf.Tensor:
        """Return the value of this process's first replica."""
        return self._strategy.experimental_local_results(value)[0]


@contextlib.contextmanager
def noticing_loss(strategy: tf.distribute.Strategy, run: Path) -> Iterator[None]:
    """Where there are several workers, say that another one has gone in place of TensorFlow's report of it.

    Raises:
        ConnectionError: an operation has failed, but not for want of memory.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if num_workers(strategy) == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        reason = " ".join(re.sub(r"{{.*?}}", "", str(error)).split())[:120]
        raise ConnectionError(
            f"another worker was lost ({reason}); start the same command on all workers again: it goes on from the "
            f"last checkpoint in {run}"
        ) from None
