"""LMC-Memory against arrays computed by the original code (tests/fixtures/README.md)."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from htsr.models import build_model, training_step
from htsr.published import lmc_memory
from htsr.training.adam import Adam

DATA = Path(__file__).parents[1] / "fixtures" / "lmc_tiny.npz"
CONTEXT, START, LONG = 10, 2, 12
TOLERANCE = 2e-6
PHASES = {"store": "phase1", "recall": "phase2"}


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(DATA))


def load(arrays, **arguments):
    model = build_model("lmc_memory", frame_shape=(32, 32, 1), filters=16, slots=10, long_frames=LONG, **arguments)
    assign(model, arrays)
    return model


def assign(model, arrays):
    for variable, recipe in lmc_memory.pairs(model):
        variable.assign(recipe(lambda name: arrays[f"sd/{name}"]))


def names_of(model):
    """Our variables with their names in the original state dict."""
    found = [(variable, *recipe.names) for variable, recipe in lmc_memory.pairs(model)]
    assert {id(variable) for variable, _ in found} == {id(variable) for variable in model.weights}
    return found


def theirs(array, name):
    """A variable in the original's layout; of large arrays every 16th element, as the file has them."""
    array = np.asarray(array)
    if name.startswith("convlstm_list"):
        i, f, g, o = np.split(array, 4, -1)
        array = np.concatenate([i, g, f, o], -1)
    if array.ndim > 1 and name != "memory.memory_w":
        array = array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
    return array.ravel()[::16] if array.size > 1000 else array


def close(got, want, tolerance, name=""):
    """Within a share of the largest absolute value."""
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)


def last(array):
    """Channels last."""
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def clip_of(arrays):
    return tf.constant(arrays["frames_NTCHW"].transpose(0, 1, 3, 4, 2))


def outputs(model, clip, phase):
    context = clip[:, :CONTEXT]
    long = clip[:, START : START + LONG]
    recalled = model.memory(long, long=True) if phase == "store" else model.memory(context)
    return model._imagine(model._read(context, recalled), tf.range(5))[1].numpy().transpose(1, 0, 4, 2, 3)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_outputs(arrays, phase, output):
    key = PHASES[phase] if output == "linear" else f"kth/{PHASES[phase]}"
    model, clip = load(arrays, output=output), clip_of(arrays)
    close(outputs(model, clip, phase), arrays[f"{key}/out"], TOLERANCE)
    if phase == "recall":
        close(model.rollout(clip[:, :CONTEXT], 5)[0].transpose(0, 1, 4, 2, 3), arrays[f"{key}/out"], TOLERANCE)


@pytest.mark.parametrize("phase", PHASES)
def test_memory(arrays, phase):
    """What is recalled, and each block on the way, fed the original's inputs."""
    model, prefix, clip = load(arrays), PHASES[phase], clip_of(arrays)

    def act(module, what):
        return last(arrays[f"{prefix}/act/{module}/call0/{what}"])

    motion = "context" if phase == "store" else "matching"
    clip = clip[:, START : START + LONG] if phase == "store" else clip[:, :CONTEXT]
    queries = getattr(model.memory, f"{motion}_encoder")((clip[:, 1:] - clip[:, :-1])[:1])
    want = arrays[f"{prefix}/act/memory.motion_{motion}_encoder/call0/out0"]
    close(queries, want[:, :, 0].transpose(0, 2, 3, 1), TOLERANCE)
    rows = arrays[f"{prefix}/mem/query_rows"]
    close(tf.reshape(queries, rows.shape), rows, TOLERANCE)
    weights = model.memory.address(tf.constant(rows[None]))[0]
    close(weights, arrays[f"{prefix}/mem/address"], TOLERANCE)
    cosines = arrays[f"{prefix}/mem/cosine"]
    close(np.log(weights / weights[:, :1]), cosines - cosines[:, :1], TOLERANCE)
    read = model.memory.read(queries)
    close(tf.reshape(read, rows.shape), arrays[f"{prefix}/mem/read_rows"], TOLERANCE)
    close(read, act("memory.embedder", "in0"), TOLERANCE)
    recalled = model.memory(clip[:1], long=phase == "store")
    close(recalled, act("memory.embedder", "out0"), TOLERANCE)
    close(recalled, act("memory", "out0"), TOLERANCE)


def test_blocks(arrays):
    """Encoder, cells, attention and decoder, fed the original's inputs."""
    model = load(arrays)

    def act(module, call, what):
        return last(arrays[f"phase1/act/{module}/call{call}/{what}"])

    for call in (0, 9, 13):
        close(model.encoder(act("encoder", call, "in0")), act("encoder", call, "out0"), TOLERANCE)
    for call in (0, 13):
        for i, cell in enumerate(model.cells):
            x, *state = (act(f"convlstm_list.{i}", call, f"in{j}") for j in range(3))
            _, new = cell(x, state)
            for j, value in enumerate(new):
                close(value, act(f"convlstm_list.{i}", call, f"out{j}"), TOLERANCE, f"cell {i}, call {call}")
    for call in (0, 4):
        got = model.attention(act("attention_func", call, "in0"))[:, 0, 0]
        close(got, act("attention_func", call, "out0"), TOLERANCE)
        close(model.decoder(act("decoder", call, "in0")), act("decoder", call, "out0"), TOLERANCE)


@pytest.fixture(scope="module")
def trained(arrays):
    """A model, and a function of the phase: loss and gradients, None where a phase does not train."""
    with pytest.MonkeyPatch.context() as patch:
        # The long window is that of the file: frames 2 to 13.
        patch.setattr("htsr.ops.noise.uniform", lambda seed: tf.constant((START + 0.5) / (15 - LONG + 1)))
        model, clip = load(arrays, warmup_steps=0), clip_of(arrays)

        parts = {part.arguments["phase"]: part for part in model.training_passes(clip)}
        variables = {
            phase: {name: v for v, name in names_of(model) if v.path not in {f.path for f in part.frozen}}
            for phase, part in parts.items()
        }

        @tf.function
        def gradients(phase):
            of = list(variables[phase].values())
            return training_step.gradients(model, clip, of, tf.constant(0), tf.constant(0), phase=phase)[::2]

        def named(phase):
            loss, grads = gradients(phase)
            grads = dict(zip(variables[phase], grads, strict=True))
            return loss, {name: grads[name].numpy() if name in grads else None for _, name in names_of(model)}

        yield model, named


@pytest.mark.parametrize("phase", PHASES)
def test_gradients(arrays, phase, trained):
    model, gradients = trained
    assign(model, arrays)
    loss, grads = gradients(phase)
    prefix = PHASES[phase]
    np.testing.assert_allclose(loss, arrays[f"{prefix}/loss"], rtol=1e-6)
    norms = dict(zip(arrays[f"{prefix}/gradnorm_names"], arrays[f"{prefix}/gradnorm_values"], strict=True))
    assert set(grads) == set(norms)
    for name, grad in grads.items():
        assert (grad is None) == np.isnan(norms[name]), name
        if grad is not None:
            close(theirs(grad, name), arrays[f"{prefix}/grad/{name}"], 2e-5, name)
            np.testing.assert_allclose(np.linalg.norm(grad), norms[name], rtol=2e-5, err_msg=name)


@pytest.mark.parametrize("convention", ["grads_none", "grads_zero_torch16"])
def test_two_training_steps_of_the_original(arrays, convention, trained):
    """Our gradients and PyTorch's Adam, with what a phase does not train left out or, as in the original's day, handed
    gradients of zero once it has had others: then the memory moves in the second phase, too."""
    model, gradients = trained
    assign(model, arrays)
    pairs, before = names_of(model), values(model)
    counts, first, second = ({name: 0.0 for _, name in pairs} for _ in range(3))
    memories = [model.memory.slots.numpy()]
    for i, phase in enumerate([*PHASES] * 2):
        loss, grads = gradients(phase)
        np.testing.assert_allclose(loss, arrays[f"train2/{convention}/losses"][i], rtol=2e-6)
        for variable, name in pairs:
            grad = grads[name]
            if grad is None:
                if convention == "grads_none" or not counts[name]:
                    continue
                grad = np.zeros(variable.shape)
            grad = grad.astype(np.float64)
            counts[name] += 1
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.999 * second[name] + 0.001 * grad**2
            stddev = np.sqrt(second[name] / (1 - 0.999 ** counts[name]))
            variable.assign(variable.numpy() - 2e-4 * first[name] / (1 - 0.9 ** counts[name]) / (stddev + 1e-8))
        memories.append(model.memory.slots.numpy())
        want = arrays[f"train2/{convention}/memory_w_after_each_step"][i]
        np.testing.assert_allclose(memories[-1], want, rtol=0, atol=5e-7)
    moved = [np.abs(b - a).max() for a, b in itertools.pairwise(memories)]
    assert (moved[1] > 1e-4) == (moved[3] > 1e-4) == (convention == "grads_zero_torch16")
    compare_moves(model, arrays, before, f"train2/{convention}/param/", 1e-4)


def test_two_training_steps(arrays, trained):
    """Our own, truly frozen: variables that a phase does not train stay, and so do their slots in the optimiser."""
    model, _ = trained
    assign(model, arrays)
    before = values(model)
    # The original's epsilon of 1e-8 is inside the bias correction: outside of it, it is 3.2e-10 in the first step.
    model.compile(Adam(2e-4, model.frozen_in_passes, epsilon=3.2e-10, name="adam"))
    parts = model.training_passes(clip_of(arrays))
    step = tf.function(lambda index: model.training_step.take(parts[index], tf.constant(0)))
    for i, index in enumerate([0, 1, 0, 1]):
        part = parts[index]
        paths = [variable.path.replace("/", "_") for variable in part.frozen]
        slots = [v for v in model.optimizer.variables if any(path in v.path for path in paths)]
        assert len(slots) == 2 * len(part.frozen)
        fixed = {v.path: v.numpy() for v in (*part.frozen, *slots)}
        np.testing.assert_allclose(step(index)["loss"], arrays["train2/grads_none/losses"][i], rtol=5e-6)
        for variable in (*part.frozen, *slots):
            np.testing.assert_array_equal(variable, fixed[variable.path], err_msg=variable.path)
    compare_moves(model, arrays, before, "train2/grads_none/param/", 0.01)


def values(model):
    return {variable.path: variable.numpy() for variable in model.weights}


def compare_moves(model, arrays, before, prefix, tolerance):
    """The weights against the original's: what is missed, as a share of what was moved."""
    for variable, name in names_of(model):
        moved = arrays[prefix + name] - theirs(before[variable.path], name)
        missed = theirs(variable, name) - arrays[prefix + name]
        assert np.linalg.norm(missed) < tolerance * np.linalg.norm(moved), name


def test_number_of_parameters_of_the_published_setting():
    assert build_model("lmc_memory").count_params() == 33_911_825
