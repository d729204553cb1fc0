"""Run by tests with an interpreter of its own: an exported model, with TensorFlow and nothing else.

    python -I loads_export.py <export> <given.npz> <received.npz> [steps]

``given`` has a ``context`` (batch, time, ...). With ``steps``, as many frames are predicted and as many observed, and
``memory`` is what the process holds, MiB, at a fifth of the way and at the end of each.
"""

import sys


def main(folder, given, received, steps=0):
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    with np.load(given) as arrays:
        context, settings = arrays["context"], arrays["settings"]
    found = {}
    for batch, frames, horizon, samples in settings:
        part = context[:batch, :frames]
        name = f"{batch}_{frames}_{horizon}_{samples}"
        found[f"predict_{name}"] = loaded.predict(part, horizon, 11, samples)["frames"]
    served = loaded.signatures["predict"](context=tf.constant(part), horizon=horizon, seed=11, num_samples=samples)
    np.testing.assert_array_equal(served["frames"], found[f"predict_{name}"])

    batch, length, horizon, _ = settings[-1]
    part = context[:batch, :length]
    state = observed = loaded.init(part, seed=11)
    predicted = []
    for _ in range(horizon):
        state = loaded.step(**state, seed=11)
        predicted.append(state.pop("frame"))
    found["stepped"] = np.stack(predicted, 1)
    observed = loaded.init(part[:, : length // 2], seed=11)
    for frame in range(length // 2, length):
        observed = loaded.observe(**observed, frame=part[:, frame], seed=11)
    found["observed"] = max(np.abs(x - observed[name]).max() for name, x in loaded.init(part, 11).items())

    bytes_ = np.rint(255 * part).astype(np.uint8)
    found["bytes"] = loaded.predict_uint8(bytes_, horizon, 11, 1)["frames"]
    found["decoded"] = loaded.predict(bytes_ / np.float32(255), horizon, 11, 1)["frames"]
    state = loaded.init_uint8(bytes_[:, :-1], 11)
    state = loaded.observe_uint8(**state, frame=bytes_[:, -1], seed=11)
    found["byte_step"] = loaded.step_uint8(**state, seed=11)["frame"]

    if steps:
        memory = []
        for function in (loaded.step, loaded.observe):
            state = loaded.init(part, 11)
            frame = {} if function is loaded.step else {"frame": part[:, 0]}
            for count in range(1, steps + 1):
                state = function(**state, **frame, seed=count)
                state.pop("frame", None)
                if count in (steps // 5, steps):
                    memory.append(resident())
            assert all(np.isfinite(x).all() for x in state.values())
        found["memory"] = memory
    np.savez(received, **found)
    foreign = {"htsr", "tensorflow_probability", "tf_keras"} & set(sys.modules)
    assert not foreign, foreign


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) / 256


if __name__ == "__main__":
    sys.modules["keras"] = None  # importing it fails
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
