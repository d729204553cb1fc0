"""Train a model for two steps on N logical devices; print the numbers of each step as JSON. A process has one N."""

import json
import sys

import keras
import numpy as np
import tensorflow as tf
from model_rows import ROWS
from stub_model import Noise

from htsr.data.clips import Clips
from htsr.models import build_model
from htsr.training import strategy
from htsr.training.adam import Adam

STEPS, BATCH = 2, 8


def train(row, replicas, accumulate, recompute):
    keras.utils.set_random_seed(0)
    with replicas.scope():
        model = build_model(**row)
        optimizer = Adam(1e-3, model.frozen_in_passes, epsilon=1e-4, weight_decay=0.1, name="adam")
        model.compile(optimizer, clip_norm=1.0, accumulate=accumulate, ema_decay=0.9, recompute=recompute)
    clips = Clips(Noise((18, *model.frame_shape), 2 * BATCH), BATCH)
    stream = replicas.distribute_datasets_from_function(
        lambda context: clips.dataset(0, STEPS, strategy.shares(context, BATCH, accumulate))
    )
    step = tf.function(lambda clip: replicas.run(model.train_step, (clip,)), autograph=False)
    own = strategy.Agreement(replicas).own
    logs = [{name: float(own(value)) for name, value in step(clip).items()} for clip in stream]
    averages = [float(tf.norm(average)) for average in model.training_step.ema_variables]
    return [*logs, {"averages": float(np.linalg.norm(averages))}]


if __name__ == "__main__":
    name, (accumulate, recompute, count) = sys.argv[1], map(json.loads, sys.argv[2:])
    replicas = strategy.make("mirrored", count)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    print(json.dumps(train(ROWS[name], replicas, accumulate, recompute)))
