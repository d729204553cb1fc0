"""Training on several replicas: logical devices of the processor, and processes that talk over loopback."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import command
import numpy as np
import pytest
import tensorflow as tf
from model_rows import ROWS
from stub_model import environment, start

from htsr.errors import InputError
from htsr.models import build_model
from htsr.runs import checkpoints
from htsr.training import strategy
from htsr.training.adam import Adam

PROGRAM = Path(__file__).with_name("replicas.py")
# Cells whose normalisations amplify rounding: an input that is one unit in the last place larger moves the gradient's
# norm of the second step by 13 and 5 %, on one device; and rows in bfloat16. The others agree to 3e-4.
AMPLIFY = ("cms_lstm", "mixed precision", "crevnet of frames", "pde_driven with skips")
CONFIG = """
model: {name: stub}
data: {name: moving_mnist, num_digits: 1, seq_len: 6, batch_size: 4}
train: {steps: 40, learning_rate: 1.0e-3, schedule: cosine, ema_decay: 0.99, log_every: 5, valid_every: 40,
        valid_examples: 4, valid_context: 4, valid_horizon: 3, checkpoint_every: 5}
eval: {context: 4, horizon: 5}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yml"
    path.write_text(CONFIG)
    return path


def finish(*processes):
    """Their outputs and statuses."""
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    return outputs, [process.returncode for process in processes]


def wait_for(path, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(run, reference):
    ours, theirs = records(run), records(reference)
    assert [record.keys() for record in ours] == [record.keys() for record in theirs]
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(list(our.values()), list(their.values()), rtol=1e-4)
    step, arrays, _ = checkpoints.load(run / "model")
    assert step == 40
    for name, array in checkpoints.load(reference / "model")[1].items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-3, atol=1e-6, err_msg=name)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def test_two_replicas_train_as_one_which_goes_on_from_there(config, tmp_path):
    together = start(config, tmp_path / "two", "--devices", 2)
    wait_for(tmp_path / "two" / "tiny" / "model" / "step_10")
    together.send_signal(signal.SIGTERM)
    outputs, statuses = finish(together)
    assert statuses == [128 + signal.SIGTERM], outputs
    outputs, statuses = finish(start(config, tmp_path / "two"), start(config, tmp_path / "one", "--devices", 1))
    assert statuses == [0, 0]
    assert "resuming" in outputs[0]
    assert_alike(tmp_path / "two" / "tiny", tmp_path / "one" / "tiny")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "accumulate", "recompute"), [*((name, 1, "null") for name in ROWS), ("htsr", 2, "null"), ("htsr", 2, 5)]
)
def test_every_model_trains_on_replicas_as_on_one(name, accumulate, recompute):
    found = []
    for count in (1, 2, 4) if name == "htsr" else (1, 2):
        arguments = [sys.executable, PROGRAM, name, str(accumulate), str(recompute), str(count)]
        done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    one, *several = found
    for steps in several:
        for number, (expected, received) in enumerate(zip(one, steps, strict=True)):
            keys = ["loss"] * (number == 0) if name in AMPLIFY else expected
            for key in keys:
                np.testing.assert_allclose(received[key], expected[key], rtol=1e-3, err_msg=key)


@pytest.mark.slow
def test_a_lost_worker_ends_the_others_and_the_same_command_goes_on(config, tmp_path):
    def workers():
        addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
        return [start(config, tmp_path / "two", "--workers", addresses, "--worker", index) for index in (0, 1)]

    finish(start(config, tmp_path / "one"))
    first = workers()
    wait_for(tmp_path / "two" / "tiny" / "model" / "step_10")
    first[1].kill()
    outputs, statuses = finish(*first)
    assert statuses == [2, -signal.SIGKILL]
    assert "waiting for the other workers to start" in outputs[0]
    assert "error: another worker was lost" in outputs[0].splitlines()[-1]
    outputs, statuses = finish(*workers())
    assert statuses == [0, 0], outputs
    assert_alike(tmp_path / "two" / "tiny", tmp_path / "one" / "tiny")


def test_a_worker_that_waits_in_vain_can_be_stopped_and_ends(monkeypatch):
    """TensorFlow waits where neither exceptions nor Python's handlers reach it."""
    before = signal.getsignal(signal.SIGINT)

    def wait():
        handlers = {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
        return handlers, 590 < signal.getitimer(signal.ITIMER_REAL)[0] <= 600

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", wait)
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert strategy.make("multiworker") == ({signal.SIG_DFL}, True)
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_shares_are_the_batch(replicas, accumulate):
    """Of every part of the batch each replica has its share, on however many processes."""
    parts = np.arange(8).reshape(accumulate, -1)
    for workers in {1, replicas}:
        found = [
            rows
            for worker in range(workers)
            for rows in strategy.shares(tf.distribute.InputContext(workers, worker, replicas), 8, accumulate)
        ]
        np.testing.assert_array_equal(np.hstack([rows.reshape(accumulate, -1) for rows in found]), parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mirrored"}, "needs GPUs, and TensorFlow sees none"),
        ({"name": "mirrored", "devices": 0}, "--devices must be a whole number of at least 1"),
        ({"name": "multiworker"}, "needs the workers: --workers host:port"),
        ({"name": "multiworker", "workers": ["a:1", "b:1"], "worker": 2}, r"--worker must lie in 0\.\.1"),
    ],
)
def test_bad_replicas_are_refused(monkeypatch, arguments, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    with pytest.raises(InputError, match=message):
        strategy.make(**arguments)


@pytest.mark.parametrize(
    "arguments", [["--workers", "a:1,b:1"], ["--worker", 1], ["--devices", 2, "--workers", "a:1", "--worker", 0]]
)
def test_flags_that_contradict_each_other_are_refused(config, tmp_path, arguments):
    done = command.run("train", "--config", config, "--logdir", tmp_path / "logs", *arguments)
    assert done.returncode == 2
    assert re.search("belong together|not allowed with", done.line)


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"jit_compile": True}])
def test_batch_normalisation_of_parts_of_replicas_is_refused(monkeypatch, settings):
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: True)  # not so if deterministic
    model = build_model(**ROWS["gsta"])
    monkeypatch.setattr(
        type(model), "distribute_strategy", types.SimpleNamespace(num_replicas_in_sync=2, scope=contextlib.nullcontext)
    )
    with pytest.raises(InputError, match=r"batch normalisation .* of 2 replicas at once.*; set them to 1 and false"):
        model.compile(Adam(1e-3, name="adam"), **settings)


@pytest.mark.parametrize(
    ("gpus", "given", "meant"),
    [
        ([], ("auto", "auto"), (False, True)),
        ([], (True, "auto"), (True, False)),
        (["a GPU"], ("auto", "auto"), (True, False)),
        (["a GPU"], ("auto", True), (False, True)),
        (["a GPU"], (False, "auto"), (False, False)),
    ],
)
def test_what_is_automatic(monkeypatch, gpus, given, meant):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus)
    assert strategy.automatic(*given) == meant
    with pytest.raises(InputError, match="exclude each other; set one of them to false"):
        strategy.automatic(True, True)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(
        InputError, match=r"data\.batch_size is 6, but 2 replicas and train.accumulate = 2 need a multiple"
    ):
        strategy.shares(tf.distribute.InputContext(1, 0, 2), 6, 2)
