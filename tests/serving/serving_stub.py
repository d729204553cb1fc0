"""A small SavedModel with the signatures of an export, for the tests of serving.

It predicts that everything moves one pixel to the right each frame. The stochastic one adds 10 grey levels for each
row of a batch, 1 for each sample and the seed.
"""

import json
from pathlib import Path

import tensorflow as tf
from serving_client import SHAPE


class Stub(tf.Module):
    def __init__(self, stochastic: bool, shape=SHAPE):
        super().__init__()
        self.weight = tf.Variable(1.0)
        self._stochastic, self._shape = stochastic, shape

    def _predict(self, context, horizon, seed, num_samples):
        """In grey levels."""
        last, rows = context[:, -1], tf.shape(context)[0]
        future = tf.map_fn(lambda k: tf.roll(last, k, 2), tf.range(1, horizon + 1), fn_output_signature=tf.float32)
        frames = tf.transpose(future, [1, 0, 2, 3, 4])[tf.newaxis] * self.weight
        frames = tf.tile(frames, [num_samples, 1, 1, 1, 1, 1])
        if self._stochastic:
            levels = tf.range(num_samples)[:, tf.newaxis] + 10 * tf.range(rows)[tf.newaxis] + seed
            frames += tf.cast(tf.reshape(levels, [num_samples, rows, 1, 1, 1, 1]), tf.float32)
        return frames

    def signatures(self) -> dict:
        def spec(*shape, dtype=tf.float32):
            return tf.TensorSpec(shape, dtype)

        frame, number = spec(None, *self._shape), spec(dtype=tf.int32)
        state = {"state_00": frame, "state_01": spec(None, dtype=tf.int64)}
        signatures = {}
        for suffix, dtype, scale in (("", tf.float32, 255.0), ("_uint8", tf.uint8, 1.0)):

            def levels(frames, scale=scale):
                return tf.cast(frames, tf.float32) * scale

            def coded(frames, dtype=dtype, scale=scale):
                return tf.cast(tf.clip_by_value(frames, 0, 255) if dtype == tf.uint8 else frames / scale, dtype)

            def predict(context, horizon, seed, num_samples, levels=levels, coded=coded):
                return {"frames": coded(self._predict(levels(context), horizon, seed, num_samples))}

            def init(context, seed, levels=levels):
                count = tf.fill([tf.shape(context)[0]], tf.shape(context, tf.int64)[1])
                return {"state_00": levels(context[:, -1]) + 0.0 * tf.cast(seed, tf.float32), "state_01": count}

            def step(state_00, state_01, seed, coded=coded):
                new = tf.roll(state_00, 1, 2) + 0.0 * tf.cast(seed, tf.float32)
                return {"frame": coded(new), "state_00": new, "state_01": state_01 + 1}

            def observe(state_00, state_01, frame, seed, levels=levels):
                unchanged = 0.0 * (state_00 + tf.cast(seed, tf.float32))
                return {"state_00": levels(frame) + unchanged, "state_01": state_01 + 1}

            context, arrived = spec(None, None, *self._shape, dtype=dtype), spec(None, *self._shape, dtype=dtype)
            for function, given in (
                (predict, {"context": context, "horizon": number, "seed": number, "num_samples": number}),
                (init, {"context": context, "seed": number}),
                (step, {**state, "seed": number}),
                (observe, {**state, "frame": arrived, "seed": number}),
            ):
                named = {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in given.items()}
                traced = tf.function(function, autograph=False).get_concrete_function(**named)
                signatures[function.__name__ + suffix] = traced
        return signatures


def save_stub(folder: Path, stochastic: bool = False, **about) -> Path:
    """Write one; ``about`` goes into model.json."""
    stub = Stub(stochastic, tuple(about.get("frame_shape", SHAPE)))
    tf.saved_model.save(stub, str(folder), signatures=stub.signatures())
    said = {"model": "stub", "frame_shape": SHAPE, "min_context": 2, "stochastic": stochastic, "parameters": 1}
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "model.json").write_text(json.dumps({**said, "versions": {}, **about}))
    return folder
