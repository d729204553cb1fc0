"""A SavedModel that needs TensorFlow and nothing of this package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from htsr.errors import InputError
from htsr.export import export_model
from htsr.models import build_model

TINY = {"stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125, "temporal_factor": 2}

LOAD = """
import sys
import numpy as np
import tensorflow as tf

folder, given, received = sys.argv[1:]
loaded = tf.saved_model.load(folder)
with np.load(given) as arrays:
    context = arrays["context"]
arguments = {"horizon": tf.constant(7), "seed": tf.constant(11), "num_samples": tf.constant(3)}
np.savez(
    received,
    direct=loaded.predict(context, 7, 11, 3)["frames"],
    served=loaded.signatures["predict"](context=tf.constant(context), **arguments)["frames"],
    other_sizes=loaded.predict(context[:1, :1], horizon=30, seed=0, num_samples=1)["frames"],
)
for argument, values in {"horizon": (0, 11, 3), "num_samples": (7, 11, 0)}.items():
    try:
        loaded.predict(context, *values)
    except tf.errors.InvalidArgumentError as error:
        assert f"{argument} must be at least 1" in str(error)
    else:
        raise AssertionError("not refused")
foreign = {"htsr", "tensorflow_probability", "tf_keras"} & set(sys.modules)
assert not foreign, foreign
"""


MODELS = {"htsr": TINY, "recurrent": {"filters": [4, 4], "patch_size": 16}}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    model = build_model(request.param, **MODELS[request.param])
    folder = tmp_path_factory.mktemp("export") / "new" / "model"
    assert export_model(model, folder, config={"model": MODELS[request.param]}) == folder
    return model, folder


def test_reloads_with_tensorflow_alone(exported, tmp_path):
    model, folder = exported
    context = np.random.default_rng(0).random((2, 5, 64, 64, 1), np.float32)
    np.savez(tmp_path / "given.npz", context=context)
    command = [sys.executable, "-c", LOAD, folder, tmp_path / "given.npz", tmp_path / "received.npz"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    expected = model.rollout(context, 7, num_samples=3, seed=11)
    with np.load(tmp_path / "received.npz") as received:
        np.testing.assert_allclose(received["direct"], expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(received["served"], received["direct"])
        assert received["other_sizes"].shape == (1, 1, 30, 64, 64, 1)
        np.testing.assert_allclose(received["other_sizes"], model.rollout(context[:1, :1], 30), rtol=0, atol=1e-6)


def test_description_and_plain_graph(exported):
    model, folder = exported
    description = json.loads((folder / "assets" / "model.json").read_text())
    assert description["model"] == model.name
    assert description["frame_shape"] == [64, 64, 1]
    assert description["parameters"] == sum(np.size(weight) for weight in model.get_weights())
    assert description["config"] == {"model": MODELS[model.name]}
    assert description["versions"]["tensorflow"] == tf.__version__
    graph = (folder / "saved_model.pb").read_bytes()
    for foreign in (b"PyFunc", b"_tf_keras", b"_XlaMustCompile\x12\x02(\x01"):
        assert foreign not in graph
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_existing_folder_is_refused(exported, tmp_path):
    model, folder = exported
    with pytest.raises(InputError, match=r"exists; choose another folder"):
        export_model(model, folder)
    with pytest.raises(InputError, match=r"exists; choose another folder"):
        export_model(model, tmp_path)


def test_failed_export_leaves_nothing(exported, tmp_path, monkeypatch):
    def fail(_, folder, **__):
        Path(folder).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        export_model(exported[0], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
