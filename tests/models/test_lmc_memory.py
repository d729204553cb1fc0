"""Behaviour of LMC-Memory that no reference array shows: phases, window, warm-up, freezing, resume, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.data import load_clips
from htsr.errors import InputError
from htsr.export.savedmodel import export_model
from htsr.models import build_model
from htsr.models.lmc_memory.memory import MotionMemory, _maxima
from htsr.runs import checkpoints
from htsr.training import fit as training
from htsr.training.adam import Adam

pytestmark = pytest.mark.usefixtures("plain_graphs")
TINY = {"frame_shape": (16, 16, 1), "filters": 4, "layers": 1, "slots": 5, "context": 9, "long_frames": 11}


def tiny(**arguments):
    keras.utils.set_random_seed(0)
    return build_model("lmc_memory", **{**TINY, "warmup_steps": 0, **arguments})


def clips(batch=2, time=12, shape=(16, 16, 1), seed=0):
    return tf.constant(np.random.default_rng(seed).random((batch, time, *shape), np.float32))


@pytest.fixture
def seen(monkeypatch):
    """A function of seed, step and phase: the frames of 16 that the memory is given, and whether as a long clip."""
    calls = []

    def record(memory, clip, long=False):
        calls.append((clip[:, :, 0, 0, 0].numpy().tolist(), long))
        return tf.zeros([2, 4, 4, 4])

    monkeypatch.setattr(MotionMemory, "call", record)
    model = tiny(warmup_steps=5, warmup_horizon=3)
    numbered = tf.repeat(tf.range(16.0)[None], 2, 0)[:, :, None, None, None] * tf.ones([16, 16, 1])

    def run(seed, step, phase="store"):
        model.loss_terms(numbered, tf.constant(seed), None if step is None else tf.constant(step), phase)
        (call,) = calls
        calls.clear()
        return call

    return run


def test_the_window_is_a_function_of_the_seed(seen):
    starts = set()
    for seed in range(24):
        window, long = seen(seed, 100)
        start = window[0][0]
        assert window == [[*np.arange(start, start + 11)]] * 2  # the same in every clip
        assert long
        starts.add(start)
    assert starts == set(range(6))
    assert seen(7, 5) == seen(7, 100)


def test_what_the_memory_is_given_besides(seen):
    for step in (0, 4):
        assert seen(1, step) == ([[*range(12)]] * 2, True)  # warm-up
    for step in (4, 5, None):
        assert seen(1, step, "recall") == ([[*range(9)]] * 2, False)


@pytest.mark.parametrize("phase", ["store", "recall"])
def test_warm_up_is_on_the_beginning_of_clips(phase):
    x, seed = clips(time=16), tf.constant(0)
    warm = tiny(warmup_steps=5, warmup_horizon=3).loss_terms(x, seed, tf.constant(4), phase)
    done = tiny(warmup_steps=5, warmup_horizon=3, long_frames=16).loss_terms(x, seed, tf.constant(5), phase)
    short = tiny(long_frames=12).loss_terms(x[:, :12], seed, phase=phase)
    whole = tiny(long_frames=16).loss_terms(x, seed, phase=phase)
    for name in ("l1", "l2"):
        np.testing.assert_allclose(warm[name], short[name], rtol=1e-5)
        np.testing.assert_allclose(done[name], whole[name], rtol=1e-5)
        assert (np.abs(short[name] - whole[name]) > 1e-4).all()


def test_clips_shorter_than_the_warm_up_are_counted_whole():
    x, seed = clips(time=12), tf.constant(0)
    warm = tiny(warmup_steps=5).loss_terms(x, seed, tf.constant(4), "store")
    np.testing.assert_allclose(warm["l2"], tiny(long_frames=12).loss_terms(x, seed, phase="store")["l2"], rtol=1e-5)


def test_validation_loss_is_that_of_the_rollout():
    model, x = tiny(), clips()
    error = model.rollout(x[:, :9], 3)[0] - x[:, 9:]
    terms = model.loss_terms(x, tf.constant(0))
    np.testing.assert_allclose(terms["l1"], np.abs(error).mean((1, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(terms["l2"], np.square(error).mean((1, 2, 3, 4)), rtol=1e-5)


def test_a_training_step_is_both_phases_whole_or_in_parts():
    """What is frozen in a phase is left alone, by weight decay too."""
    x, settings = clips(4), {"epsilon": 1e-3, "weight_decay": 0.5}
    model = tiny(long_frames=12)  # the whole clip: no draw
    model.compile(Adam(0.01, model.frozen_in_passes, **settings))
    parts = model.training_passes(x)
    step = tf.function(lambda index: model.training_step.take(parts[index], tf.constant(0)))
    losses = []
    for index, part in enumerate(parts):
        free = {v.path for v in model.weights} - {v.path for v in part.frozen}
        before = {v.path: v.numpy() for v in model.weights}
        losses.append(step(index)["loss"])
        moved = {v.path for v in model.weights if (v.numpy() != before[v.path]).any()}
        assert {path for path in free if not path.endswith("bias")} <= moved <= free  # a bias may have no gradient
        assert ("lmc_memory/memory/slots" in free) == (part.arguments["phase"] == "store")
    in_parts = tiny(long_frames=12)
    in_parts.compile(Adam(0.01, in_parts.frozen_in_passes, **settings), accumulate=2)
    logs = tf.function(in_parts.train_step)(x)
    assert set(logs) == {"loss", "l1", "l2", "grad_norm"}
    assert int(in_parts.optimizer.iterations) == in_parts.num_passes == 2
    np.testing.assert_allclose(logs["loss"], np.mean(losses), rtol=1e-5)
    for ours, whole in zip(in_parts.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours, whole, rtol=0, atol=1e-6, err_msg=whole.path)


def test_adam_counts_the_updates_of_each_variable():
    rng = np.random.default_rng(0)
    both, first = (keras.Variable(np.ones(3, np.float32), name=name) for name in ("both", "first"))
    alone = keras.Variable(np.ones(3, np.float32), name="alone")
    adam, plain = Adam(0.1, [[], [first]]), keras.optimizers.Adam(0.1)
    adam.build([both, first])
    for _ in range(5):
        grads = [tf.constant(rng.normal(size=3), tf.float32) for _ in range(3)]
        adam.apply(grads[:2], [both, first])
        adam.apply(grads[2:], [both])
        plain.apply(grads[1:2], [alone])
        np.testing.assert_allclose(first, alone, rtol=5e-6)
    assert len(adam.variables) == 2 + 2 * 2


def test_training_goes_on_from_a_checkpoint_bit_for_bit():
    """Warm-up, window and phases are functions of the step; the arrays of a checkpoint are all the state there is."""
    model, data = tiny(long_frames=10, warmup_steps=2, warmup_horizon=2), [clips(seed=i) for i in range(4)]
    model.compile(Adam(1e-3, model.frozen_in_passes, name="adam"), ema_decay=0.9)
    step = tf.function(model.train_step)
    owners = {"model": model, "optimizer": model.optimizer}

    def state():
        arrays = [checkpoints.model_arrays(owner, prefix) for prefix, owner in owners.items()]
        return {**arrays[0], **arrays[1]}, [v.numpy() for v in model.training_step.ema_variables]

    def train(batches):
        return [{name: float(value) for name, value in step(clip).items()} for clip in batches]

    train(data[:1])
    arrays, averages = state()
    logs, whole = train(data[1:]), state()
    for prefix, owner in owners.items():
        checkpoints.assign_model(owner, arrays, prefix)
    for variable, average in zip(model.training_step.ema_variables, averages, strict=True):
        variable.assign(average)
    assert train(data[1:]) == logs
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(state()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_motion_encoders_begin_alike():
    memory = tiny().memory
    pairs = list(zip(memory.context_encoder.weights, memory.matching_encoder.weights, strict=True))
    assert len(pairs) == 12
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
        assert a is not b
    assert len({float(v.numpy().ravel()[0]) for v, _ in pairs if v.ndim > 1}) == 6  # drawn one by one


def test_a_clip_without_motion_has_a_loss_and_gradients():
    model = tiny()
    x = tf.repeat(clips(time=1), 12, 1)
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(term) for term in model.loss_terms(x, tf.constant(0)).values()])
    for variable, grad in zip(
        model.trainable_variables, tape.gradient(loss, [v.value for v in model.trainable_variables]), strict=True
    ):
        assert grad is None or np.abs(grad).max() < 1e3, variable.path
    np.testing.assert_allclose(model.memory.address(tf.zeros([1, 4, 16])), np.full((1, 4, 5), 0.2), rtol=1e-6)


@pytest.mark.parametrize("frames", [1, 2])
def test_one_of_equal_maxima_has_the_gradient(frames):
    x = tf.Variable(np.ones((1, 5, 4, 6, 3), np.float32))
    with tf.GradientTape() as tape:
        y = _maxima(x, frames)
        total = tf.reduce_sum(y)
    assert y.shape == (1, 5 // frames, 2, 3, 3)
    grad = tape.gradient(total, x).numpy()
    assert set(np.unique(grad)) == {0, 1}
    assert grad.sum() == total


def test_maxima_are_over_frames_and_pixels():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 6, 3)).astype(np.float32)
    want = x[:, :4].reshape(2, 2, 2, 2, 2, 3, 2, 3).max((2, 4, 6))
    np.testing.assert_array_equal(_maxima(tf.constant(x), 2), want)


def test_mixed_precision_is_close_and_its_output_float32():
    wide, narrow = tiny(), tiny(dtype="mixed_bfloat16")
    narrow.set_weights(wide.get_weights())
    x = clips()
    ours = narrow.rollout(x[:, :9], 3)
    assert ours.dtype == np.float32
    assert (ours != tf.cast(tf.cast(ours, "bfloat16"), tf.float32)).numpy().mean() > 0.5
    np.testing.assert_allclose(ours, wide.rollout(x[:, :9], 3), rtol=0, atol=0.02)
    assert narrow.memory.slots.dtype == "float32"


def test_sigmoid_output():
    assert tiny(output="sigmoid").rollout(clips()[:, :9], 2).min() > 0
    assert tiny().rollout(clips()[:, :9], 2).min() < 0


def test_the_memory_is_saved_and_loaded():
    memory = MotionMemory(4, slots=5, name="memory")
    x = clips()
    y = memory(x)
    again = MotionMemory.from_config(memory.get_config())
    again.build(x.shape)
    again.set_weights(memory.get_weights())
    np.testing.assert_array_equal(again(x), y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_shape": (16, 24, 1)}, "height and width divisible by 16, received 16x24"),
        ({"filters": 5}, "filters must be even, .* received 5"),
        ({"filters": 0}, "filters must be at least 1, received 0"),
        ({"layers": 0}, "layers, slots and warmup_horizon must be at least 1, received 0, 5 and 10"),
        ({"slots": 0}, "layers, slots and warmup_horizon must be at least 1"),
        ({"warmup_horizon": 0}, "layers, slots and warmup_horizon must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, received -1"),
        ({"context": 8}, "context and long_frames must be at least 9, .* received 8 and 11"),
        ({"long_frames": 8}, "context and long_frames must be at least 9, .* received 9 and 8"),
        ({"output": "relu"}, "output must be one of linear, sigmoid, received 'relu'"),
        ({"dtype": "float16"}, "dtype must be float32, mixed_bfloat16 or mixed_float16"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        tiny(**arguments)


@pytest.mark.parametrize(("time", "long_frames"), [(9, 9), (11, 12)])
def test_short_clips_are_refused(time, long_frames):
    with pytest.raises(InputError, match=f"context is 9 and long_frames {long_frames}, but clips have {time} frames"):
        tiny(long_frames=long_frames).loss_terms(clips(time=time), tf.constant(0))


def test_a_context_too_short_for_the_model_is_refused_before_training(tmp_path):
    data = load_clips("moving_mnist", "train", batch_size=2, seq_len=13, image_size=32)
    with pytest.raises(InputError, match="valid_context must be at least 9 for lmc_memory, received 8"):
        training.fit(tiny(frame_shape=(32, 32, 1)), data, data, tmp_path, steps=1, valid_context=8, valid_horizon=2)


def test_an_exported_model_refuses_it_too(tmp_path):
    model, x = tiny(), clips()
    loaded = tf.saved_model.load(str(export_model(model, tmp_path / "exported")))
    frames = loaded.predict(x[:, :9], 3, 0, 1)["frames"]
    np.testing.assert_allclose(frames, model.rollout(x[:, :9], 3), rtol=0, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="context must be at least 9"):
        loaded.predict(x[:, :8], 3, 0, 1)
