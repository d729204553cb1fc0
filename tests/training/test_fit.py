"""Training as a user starts it: fresh processes, interrupted at random moments, against one that was left alone."""

import json
import random
import signal
import time

import command
import numpy as np
import pytest
import tensorflow as tf
from stub_model import Noise, Stub, start

from htsr import models
from htsr.data.clips import Clips, as_floats
from htsr.training.adam import Adam

MODELS = {
    "stub": "{name: stub}",
    "htsr": "{name: htsr, levels: 2, temporal_factor: 2, stoch: 4, deter: 8, units: 8, dense_layers: 1, "
    "channels_mult: 0.125}",
}
CONFIG = """
model: MODEL
data: {name: moving_mnist, num_digits: 1, seq_len: 6, batch_size: 4}
train: {steps: 60, learning_rate: 1.0e-3, warmup_steps: 5, schedule: cosine, ema_decay: 0.99, log_every: 1,
        valid_every: 30, valid_examples: 4, valid_context: 4, valid_horizon: 3, checkpoint_every: 3}
eval: {context: 4, horizon: 5}
"""


@pytest.fixture(autouse=True)
def stub_is_known(monkeypatch):
    monkeypatch.setitem(models.MODELS, "stub", Stub)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Files by the model's name, all called ``tiny.yml``."""
    folder = tmp_path_factory.mktemp("configs")
    for name, model in MODELS.items():
        (folder / name).mkdir()
        (folder / name / "tiny.yml").write_text(CONFIG.replace("MODEL", model))
    return {name: folder / name / "tiny.yml" for name in MODELS}


@pytest.fixture(scope="module")
def config(configs):
    return configs["stub"]


def finish(config, logdir, *arguments):
    process = start(config, logdir, *arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def finish_here(config, logdir, *arguments):
    """As ``finish``, in this process."""
    done = command.run("train", "--config", config, "--logdir", logdir, *arguments)
    return done.returncode, done.stdout + done.stderr


def last_state(run):
    with np.load(run / "model" / "step_60" / "state.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    return whole_run(config, tmp_path_factory)


@pytest.fixture(scope="module")
def htsr_run(configs, tmp_path_factory):
    return whole_run(configs["htsr"], tmp_path_factory)


def whole_run(config, tmp_path_factory):
    logdir = tmp_path_factory.mktemp("uninterrupted")
    status, output = finish(config, logdir)
    assert status == 0, output
    return logdir / "tiny"


def same(run, reference):
    assert (run / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    ours, theirs = last_state(run), last_state(reference)
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


def kill_during_a_save(process, run, rng):
    """SIGKILL while a checkpoint is being written; whether it came in time."""
    wanted = rng.randrange(2, 5)
    seen = set()
    while process.poll() is None:
        seen |= {p.name for p in run.glob("model/.tmp-*")}
        if len(seen) >= wanted and any(run.glob("model/.tmp-*")):
            process.kill()
            process.communicate()
            return any(run.glob("model/.tmp-*"))
        time.sleep(0.0005)
    return False


def kill_at_random(process, run, rng):
    """SIGKILL up to three seconds after the first steps, or while Python or TensorFlow starts."""
    if rng.random() < 0.8:
        before = newest(run)
        while process.poll() is None and newest(run) == before:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
    else:
        time.sleep(rng.random() * 5)
    process.kill()
    process.communicate()


def newest(run):
    return max((int(p.name[5:]) for p in run.glob("model/step_*")), default=0)


def interrupt_until_done(config, logdir, kills, saves, seed):
    """Start again and again, killing ``kills`` times of which ``saves`` during a save, then let it finish."""
    rng, run = random.Random(seed), logdir / "tiny"
    done = hits = 0
    while done < kills:
        during_save = hits < saves
        process = start(config, logdir)
        if during_save:
            hits += kill_during_a_save(process, run, rng)
        else:
            kill_at_random(process, run, rng)
        done += process.returncode == -signal.SIGKILL
        if newest(run) >= 50:  # nearly there: begin anew, so that every kill falls into training
            status, output = finish(config, logdir)
            assert status == 0, output
            yield run
            logdir, run = logdir.with_name(logdir.name + "+"), logdir.with_name(logdir.name + "+") / "tiny"
    assert (done, hits) >= (kills, saves)
    status, output = finish(config, logdir)
    assert status == 0, output
    yield run


@pytest.mark.parametrize(
    ("kills", "saves"), [(3, 1), pytest.param(25, 8, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_killed_equals_uninterrupted(config, uninterrupted, tmp_path, kills, saves):
    for run in interrupt_until_done(config, tmp_path / "killed", kills, saves, seed=kills):
        same(run, uninterrupted)


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_htsr_equals_uninterrupted(configs, htsr_run, tmp_path, kills):
    for run in interrupt_until_done(configs["htsr"], tmp_path / "killed", kills, 0, seed=1):
        same(run, htsr_run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(config, uninterrupted, tmp_path, number):
    run = tmp_path / "tiny"
    process = start(config, tmp_path)
    while process.poll() is None and newest(run) < 3:
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    assert "is at step" in output
    stopped = newest(run)
    status, output = finish(config, tmp_path)
    assert status == 0, output
    assert f"resuming {run} at step {stopped}" in output
    same(run, uninterrupted)


def test_run_folder(htsr_run):
    names = {path.name for path in htsr_run.iterdir()}
    assert {
        "config.yml",
        "environment.json",
        "metrics.jsonl",
        "model",
        "samples",
        "tensorboard",
        "training.png",
    } <= names
    assert {p.name for p in (htsr_run / "samples").iterdir()} == {
        f"step_{step}.{kind}" for step in (30, 60) for kind in ("gif", "png")
    }
    records = [json.loads(line) for line in (htsr_run / "metrics.jsonl").read_text().splitlines()]
    steps = [r["step"] for r in records if "loss" in r]
    assert steps == list(range(1, 61))
    assert {"nll", "kl_0", "kl_1", "grad_norm", "learning_rate"} <= set(records[0])
    rates = [r["learning_rate"] for r in records if "loss" in r]
    assert max(rates) == pytest.approx(1e-3, rel=0.01)
    assert rates[0] < 5e-4
    assert rates[-1] < 1e-5
    assert {"valid/loss", "valid/kl_0", "valid/rollout_mse", "valid/rollout_mse_1"} <= set(records[-1])
    assert json.loads((htsr_run / "environment.json").read_text())["tensorflow"]


def test_trained_run_is_left_alone(config, uninterrupted):
    status, output = finish(config, uninterrupted.parent)
    assert status == 0
    assert "has already been trained for 60 steps" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.learning_rate=2.0e-3"], "train.learning_rate: 0.001 (float) before, 0.002 (float) now"),
        (["--set", "train.stepz=3"], "did you mean 'steps'?"),
        (["--set", "model.level=3"], "did you mean 'levels'?"),
        (["--set", "data.digits=3"], "data: unknown key 'digits'"),
        (["--set", "eval.horizn=3"], "did you mean 'horizon'?"),
        (["--set", "train.learning_rate=1e-3"], "write 1.0e-3"),
        (["--set", "train.steps=many"], "train.steps: expected int, received 'many'"),
        (["--set", "data.batch_size=0"], "batch_size must be a whole number of at least 1"),
        (["--set", "train.valid_every=0", "--name", "other"], "train.valid_every must be a whole number of at least 1"),
        (["--set", "model.frame_shape=[64,64,3]"], "frame_shape is [64, 64, 3], but the data's is [64, 64, 1]"),
        (["--set", "data.image_size=48", "--name", "other"], "64x64 or 128x128 pixels, received 48"),
        (["--datadir", "nowhere", "--set", "data.source=archive", "--set", "data.num_digits=2"], "nowhere"),
        (["--set", "data.source=archive"], "num_digits=1 has no effect on source=archive"),
        (["--set", "model.imagine_from=6", "--name", "other"], "imagine_from is 6, but clips have 6 frames"),
        (["--set", "train.seed=-1", "--name", "other"], "train.seed must lie in 0..2147483647, received -1"),
        (["--set", "train.clip_norm=0.0", "--name", "other"], "clip_norm must be above 0"),
        (["--set", "train.keep_every=0", "--name", "other"], "train.keep_every must be above 0"),
        (["--set", "model.name=[htsr]"], "model.name must be one of htsr"),
        (["--name", "../x"], "run name must be a relative path"),
    ],
)
def test_bad_input_is_one_line_and_status_2(configs, htsr_run, arguments, message):
    before = (htsr_run / "config.yml").read_bytes()
    done = command.run("train", "--config", configs["htsr"], "--logdir", htsr_run.parent, *arguments)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert (htsr_run / "config.yml").read_bytes() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("train.warmup_steps=9999", "train.warmup_steps must lie in 0.."),
        ("data.source=archive", "num_digits=1 has no effect on source=archive"),
        ("model.levels=0", "levels must be"),
    ],
)
def test_a_config_that_is_refused_leaves_no_folder(configs, tmp_path, wrong, message):
    done = command.run("train", "--config", configs["htsr"], "--logdir", tmp_path, "--set", wrong)
    assert done.returncode == 2
    assert message in done.line
    assert not list(tmp_path.iterdir())


def test_second_run_in_a_folder_is_refused(config, tmp_path):
    first = start(config, tmp_path, "--set", "train.steps=1000000")
    while first.poll() is None and newest(tmp_path / "tiny") < 3:
        time.sleep(0.01)
    status, output = finish(config, tmp_path)
    first.kill()
    first.communicate()
    assert status == 2
    assert f"is in use by process {first.pid}" in output


def test_a_run_without_checkpoint_takes_another_config(config, tmp_path):
    """A first try that was refused while training leaves nothing that a corrected one would contradict."""
    status, output = finish_here(config, tmp_path, "--set", "train.accumulate=3")
    assert status == 2
    assert "a batch of 4 clips cannot be cut into train.accumulate = 3 equal parts" in output
    status, output = finish_here(config, tmp_path, "--set", "train.accumulate=2", "--set", "train.steps=1",
                            "--set", "train.warmup_steps=0")  # fmt: skip
    assert status == 0, output


def test_not_a_number_stops_with_step_and_term(config, tmp_path):
    status, output = finish_here(
        config, tmp_path, "--set", "train.learning_rate=1.0e+30", "--set", "train.warmup_steps=0"
    )
    assert status == 2, output
    assert "training stopped at step " in output
    assert newest(tmp_path / "tiny") < 60


def test_full_disk(configs, tmp_path, monkeypatch):
    """The log cannot be written: one line, and what is there is not touched."""
    full = lambda *_, **__: open("/dev/full", "w")  # noqa: SIM115, E731
    monkeypatch.setattr("htsr.training.log.open", full, raising=False)
    done = command.run("train", "--config", configs["htsr"], "--logdir", tmp_path)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert (tmp_path / "tiny" / "metrics.jsonl").read_bytes() == b""


def test_bytes_train_as_the_floats_they_stand_for():
    clip, found = Clips(Noise((6, 16, 16, 1), 4), 4).batch(0), []
    assert len(np.unique(clip)) == 256
    for frames in (clip, as_floats(clip)):
        model = Stub((16, 16, 1))
        model.build()
        model.compile(Adam(0.01, name="adam"))
        logs = tf.function(model.train_step, autograph=False)(tf.constant(frames))
        found.append([*logs.values(), *model.trainable_variables])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
