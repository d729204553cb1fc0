"""A program is written with its inputs, variables among them, and with what comes out."""

import gzip

import numpy as np
import tensorflow as tf

from benchmarks.xla_programs import write


def test_a_program_with_variables(tmp_path):
    weights, offset = tf.Variable([[1.0, 2.0]]), tf.Variable([3.0])

    def gradients(x):
        with tf.GradientTape() as tape:
            made = x @ tf.transpose(weights) + offset
            loss = tf.reduce_sum(made)
        return loss, tape.gradient(loss, [weights, offset])

    x = tf.constant([[1.0, 1.0], [2.0, 0.0]])
    expected = {"products": 2 * (2 * 2) + 2 * (2 * 2), "convolutions": 0}
    assert write(tmp_path / "program", gradients, (x,), timing=False) == expected
    assert len(gzip.decompress((tmp_path / "program.hlo.gz").read_bytes())) > 100
    with np.load(tmp_path / "program.npz") as arrays:
        inputs, outputs = (
            [arrays[name] for name in sorted(arrays) if name.startswith(kind)] for kind in ("input", "output")
        )
    assert np.array_equal(inputs[0], x)
    assert {array.shape for array in inputs[1:]} == {(1, 2), (1,)}
    assert [output.tolist() for output in outputs] == [[11.0], [3.0, 1.0], [2.0]]


def test_for_timing_large_inputs_are_said_by_mean_and_deviation_and_nothing_is_computed(tmp_path):
    write(tmp_path / "program", lambda x, y: x * y, (tf.constant([[1.0, 3.0]]), tf.constant(2.0)), timing=True)
    with np.load(tmp_path / "program.npz") as arrays:
        assert {name: array.tolist() for name, array in arrays.items()} == {
            "noise_0000": [2.0, 1.0, 1.0, 2.0],
            "input_0001": 2.0,
        }
