"""Every model at a tiny size: a new one needs a row here, and all tests of what models keep to run for it."""

import keras
import tensorflow as tf

from htsr.models import MODELS
from htsr.models.block_predictor import BlockPredictor


class TinyBlocks(BlockPredictor):
    """The smallest block predictor: a convolution of the frames side by side."""

    def __init__(self, frame_shape=(8, 12, 2), inputs=8, block=3, dtype="float32"):
        super().__init__(frame_shape, inputs, block, dtype, name="tiny_blocks")
        self.conv = keras.layers.Conv2D(block * frame_shape[-1], 3, padding="same", name="conv", dtype=dtype)

    def build(self, input_shape=None):
        height, width, channels = self.frame_shape
        self.conv.build((None, height, width, self.num_inputs * channels))
        self.built = True

    def predict_block(self, frames):
        height, width, channels = self.frame_shape
        x = tf.reshape(tf.transpose(frames, [0, 2, 3, 1, 4]), [-1, height, width, self.num_inputs * channels])
        x = tf.reshape(tf.sigmoid(self.conv(x)), [-1, height, width, self.block, channels])
        return tf.cast(tf.transpose(x, [0, 3, 1, 2, 4]), tf.float32)


MODELS["tiny_blocks"] = TinyBlocks

RECURRENT = {"name": "recurrent", "frame_shape": (16, 24, 2), "patch_size": 2, "filters": [4, 4], "context": 3}
MOVING = {**RECURRENT, "embed": False, "layer_norm": False, "time_reversed": False}
SIMVP = {"name": "simvp", "frame_shape": (8, 16, 2), "context": 8, "filters": 2, "stages": 2}
CHAIN = {"filters": 16, "depth": 2, "mlp_ratio": 2, "drop_path": 0.1}
CODES = {"name": "pde_driven", "frame_shape": (16, 32, 2), "context": 8, "filters": 2, "static_units": 6}
CODES |= {"dynamic_units": 4, "hidden": 8, "blocks": 2}
ROWS = {
    "tiny_blocks": {"name": "tiny_blocks"},
    "htsr": {"name": "htsr", "stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125}
    | {"temporal_factor": 2, "frame_shape": (64, 64, 1)},
    "htsr with layers": {"name": "htsr", "stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125}
    | {"levels": 2, "temporal_factor": 2, "frame_shape": (64, 64, 1), "imagine_from": 4, "layers": 2, "camera": True}
    | {"flow": True, "perceptual": 0.5}
    | {"calibrated": True, "frame_stddev": 0.02},
    "cms_lstm": {**RECURRENT, "cell": "cms_lstm"},
    "conv_lstm": {**RECURRENT, "cell": "conv_lstm", "embed": False, "layer_norm": False},
    "st_lstm": {**RECURRENT, "cell": {"name": "st_lstm", "ce": 2, "se": [2]}},
    "mixed precision": {**RECURRENT, "cell": "cms_lstm", "filters": [4], "dtype": "mixed_bfloat16"},
    "sa_conv_lstm": {**RECURRENT, "cell": {"name": "sa_conv_lstm", "key_filters": 2, "se": [1]}},
    "lmc_memory": {"name": "lmc_memory", "frame_shape": (16, 32, 2), "filters": 4, "layers": 2, "slots": 5}
    | {"context": 9, "long_frames": 9, "warmup_steps": 0},
    "causal_lstm": {**RECURRENT, "cell": {"name": "causal_lstm", "ce": 1}, "time_reversed": False},
    "mim": {**MOVING, "cell": "mim"},
    "mau": {**MOVING, "cell": {"name": "mau", "tau": 2}, "embed": True, "patch_size": 1, "reduction": 4},
    "swin_lstm": {"name": "swin_lstm", "frame_shape": (16, 32, 2), "filters": 4, "depths": [1, 2], "heads": [1, 2]}
    | {"window": 2, "context": 3},
    "simvp": {**SIMVP, "translator": {"name": "incep_u", "filters": 16, "depth": 2}},
    "gsta": {**SIMVP, "translator": {"name": "gsta", **CHAIN}, "dtype": "mixed_bfloat16"},
    "swin": {**SIMVP, "translator": {"name": "swin", **CHAIN}},
    "phydnet": {"name": "phydnet", "frame_shape": (8, 12, 2), "filters": 32, "lstm_filters": [4, 32], "context": 3},
    "e3d_lstm": {"name": "e3d_lstm", "frame_shape": (8, 12, 2), "filters": [4, 4], "kernel_size": 3, "patch_size": 2}
    | {"history": 4, "context": 3},
    "fc_lstm": {"name": "fc_lstm", "frame_shape": (4, 4, 2), "units": [16, 16], "context": 3},
    "wast": {"name": "wast", "frame_shape": (8, 16, 2), "context": 8, "filters": 2, "depths": [1, 1, 1]}
    | {"drop_from": 0},
    "st_resnet": {"name": "st_resnet", "frame_shape": (8, 12, 2), "closeness": 6, "day": 7, "week": 8, "filters": 4}
    | {"units": 1, "external": 3},
    "ddpae": {"name": "ddpae", "frame_shape": (16, 16, 2), "filters": 8, "frame_units": 64, "content_units": 8}
    | {"units": 16, "scale": 1.5, "context": 3},
    "crevnet": {"name": "crevnet", "frame_shape": (8, 12, 2), "blocks": [2, 1], "layers": 2},
    "crevnet of frames": {"name": "crevnet", "frame_shape": (8, 12, 2), "window": 1, "blocks": [2, 1], "layers": 2}
    | {"dtype": "mixed_bfloat16"},
    "pde_driven": {**CODES, "sigmoid": False},
    "pde_driven with skips": {**CODES, "skips": True, "reconstruct": False, "dtype": "mixed_bfloat16"},
    "predrnn-v2": {**MOVING, "cell": "st_lstm", "sampling": "reverse", "decoupling": 0.1},
    "motionrnn": {**MOVING, "cell": "motionrnn"},
    "gmg": {**MOVING, "cell": {"name": "gmg", "key_filters": 2}},
    "gmg with blocks": {**MOVING, "cell": {"name": "gmg", "trend_decay": "step", "ce": 1, "se": [2]}}
    | {"dtype": "mixed_bfloat16"},
}
