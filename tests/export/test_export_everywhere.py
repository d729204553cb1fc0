"""Every model exported, and used with TensorFlow alone for all sizes; slow. ``HTSR_PLAIN_PYTHON`` may name the
interpreter of an environment in which nothing but TensorFlow is installed."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from model_rows import ROWS

from htsr.export.savedmodel import export_model
from htsr.models import build_model

SCRIPT = Path(__file__).with_name("loads_export.py")
SIZES = [(b, t, h, 1) for b in (1, 5) for t in (20, 36, 50) for h in (1, 7, 300)]
STEPS = 5000

HTSR = {"name": "htsr", "stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125}
SWITCHES = ("encoder_residual", "decoder_residual", "dense_residual", "top_down_residual")
RECURRENT = {"name": "recurrent", "frame_shape": (16, 24, 2), "patch_size": 2, "filters": [4, 4]}
OPENSTL = {"embed": False, "layer_norm": False}
MODELS = {
    "htsr": HTSR,
    "clockwork_vae": {**HTSR, "posterior": "independent", **dict.fromkeys(SWITCHES, False)},
    "cms_lstm": {**RECURRENT, "cell": "cms_lstm"},
    "conv_lstm": {**RECURRENT, "cell": "conv_lstm", **OPENSTL},
    "st_lstm": {**RECURRENT, "cell": "st_lstm", **OPENSTL},
    "sa_conv_lstm": {**RECURRENT, "cell": {"name": "sa_conv_lstm", "key_filters": 2}},
    "gmg": {**RECURRENT, "cell": {"name": "gmg", "key_filters": 2}, **OPENSTL},
    "motionrnn": {**RECURRENT, "cell": "motionrnn", **OPENSTL},
    "causal_lstm": {**RECURRENT, "cell": "causal_lstm", **OPENSTL},
    "predrnn-v2": {**RECURRENT, "cell": "st_lstm", "decoupling": 0.1, **OPENSTL},
    "mim": {**RECURRENT, "cell": "mim", **OPENSTL},
    "mau": {**RECURRENT, "cell": "mau", "reduction": 2},
    "swin_lstm": ROWS["swin_lstm"],
    "phydnet": ROWS["phydnet"],
    "simvp": ROWS["simvp"],
    "wast": ROWS["wast"],
    "st_resnet": ROWS["st_resnet"],
    "ddpae": ROWS["ddpae"],
    "e3d_lstm": ROWS["e3d_lstm"],
    "fc_lstm": ROWS["fc_lstm"],
    "crevnet": ROWS["crevnet"],
    "pde_driven": ROWS["pde_driven with skips"] | {"dtype": "float32"},
    "lmc_memory": {"name": "lmc_memory", "frame_shape": (16, 32, 2), "filters": 4, "layers": 2, "slots": 5},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_with_tensorflow_alone(name, tmp_path):
    keras.utils.set_random_seed(1)
    model = build_model(**MODELS[name])
    export_model(model, tmp_path / "model")
    context = np.random.default_rng(0).random((5, 50, *model.frame_shape), np.float32)
    np.savez(tmp_path / "given.npz", context=context, settings=SIZES)
    python = os.environ.get("HTSR_PLAIN_PYTHON", sys.executable)
    arguments = [tmp_path / "model", tmp_path / "given.npz", tmp_path / "received.npz", str(STEPS)]
    process = subprocess.run(
        [python, "-I", SCRIPT, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    received = np.load(tmp_path / "received.npz")
    worst = 0.0
    for batch, frames, horizon, samples in SIZES:
        expected = model.rollout(context[:batch, :frames], horizon, samples, seed=11)
        difference = np.abs(expected - received[f"predict_{batch}_{frames}_{horizon}_{samples}"]).max()
        worst = max(worst, difference)
    stepped = np.abs(received["stepped"] - expected[0]).max()
    print(f"{name}: predict {worst:.1e}, init + step {stepped:.1e}, observe {received['observed']:.1e}", end=", ")
    print("memory", np.round(received["memory"], 1).tolist(), "MiB")
    assert worst <= 1e-5
    assert stepped <= 1e-5
    assert received["observed"] <= 1e-5
    begin_steps, end_steps, begin_observed, end_observed = received["memory"]
    assert end_steps - begin_steps < 3
    assert end_observed - begin_observed < 3
