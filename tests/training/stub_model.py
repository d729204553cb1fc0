"""Train a model of a few numbers: what is tested of training is the same for every model, and this one starts quickly.

Run as a program it is ``htsr train`` that knows one model more.
"""

import os
import subprocess
import sys
from typing import NamedTuple

import command
import numpy as np
import tensorflow as tf

from htsr.cli.main import main
from htsr.data.sources import WindowSource
from htsr.models import MODELS
from htsr.models.base import VideoModel
from htsr.ops import noise


def start(config, logdir, *arguments):
    """Start ``htsr train``, which knows the stub, in a process of its own."""
    program = [sys.executable, __file__, "--config", config, "--logdir", logdir, *map(str, arguments)]
    return subprocess.Popen(program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def environment():
    """Of processes that import the package and what the tests share."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(command.ROOT), str(command.ROOT / "tests")])}


class Noise(WindowSource):
    """Random bytes, the same at every start."""

    def __init__(self, shape, num_clips):
        self.shape, self.num_clips = shape, num_clips

    def window(self, index, epoch=0):
        return np.random.default_rng(index).integers(0, 256, self.shape, np.uint8)


class State(NamedTuple):
    """The last frame."""

    frame: tf.Tensor


class Stub(VideoModel):
    """Predict the last frame times a map of weights plus a bias; the loss is noisy, as that of latent models."""

    stochastic = False

    def __init__(self, frame_shape: tuple[int, int, int] = (64, 64, 1), dtype: str = "float32"):
        super().__init__(frame_shape, dtype=dtype, name="stub")

    def build(self, input_shape=None):
        self.scale = self.add_weight(name="scale", shape=self.frame_shape, initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")
        self.built = True

    def loss_terms(self, clip, seed, step=None):
        weight = noise.uniform(noise.fold(seed, noise.rows(tf.shape(clip)[0])))
        error = self.scale * clip[:, :-1] + self.bias - clip[:, 1:]
        return {"l2": weight * tf.reduce_mean(tf.square(error), [1, 2, 3, 4])}

    def start(self, context, num_samples, seeds, stochastic):
        return State(tf.tile(context[:, -1], [num_samples, 1, 1, 1]))

    def advance(self, state, length):
        frame = self.scale * state.frame + self.bias
        return State(frame), tf.repeat(frame[:, None], length, 1)

    def observe_stream(self, state, frame, seeds):
        return State(frame)


if __name__ == "__main__":
    MODELS["stub"] = Stub
    sys.exit(main(["train", *sys.argv[1:]]))
