"""What is each picture worth of which HTSR with ``still``, ``layers`` or ``camera`` composes its frames?

    python -m benchmarks.scene_parts logs/kth_laptop [--clips 64] [--horizons 1,2,5,10,20,50,100]

Rolls a run's test clips out once and prints the PSNR of every picture alone and of the composed frames, averaged
over clips, and how much of each picture a frame shows.
"""

import argparse

import numpy as np
import tensorflow as tf

from htsr.data import load_clips
from htsr.metrics.frame import psnr
from htsr.models.htsr.model import HTSR
from htsr.runs.folder import load_model, read_run_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--horizons", default="1,2,5,10,20,50,100")
    args = parser.parse_args()
    horizons = np.array([int(horizon) for horizon in args.horizons.split(",")])
    model = load_model(args.logdir)
    data = read_run_config(args.logdir)["data"]
    context, length = model.registered, int(horizons.max())
    data = {**data, "batch_size": 8, "seq_len": context + length}
    clips = load_clips(split="test", **data)
    values, drawn = {}, {}
    for clip in clips.examples(min(args.clips, clips.num_clips)):
        pictures, weights = pictures_of(model, tf.constant(clip[:, :context]), length)
        for name, picture in pictures.items():
            frames = np.clip(np.broadcast_to(picture, clip[:, context:].shape), 0, 1)[:, horizons - 1]
            values.setdefault(name, []).append(psnr(frames, clip[:, context:][:, horizons - 1]))
        for name, weight in weights.items():
            drawn.setdefault(name, []).append(weight.numpy()[:, horizons - 1])
    print("PSNR (dB), mean of", sum(map(len, values["composed"])), "clips")
    for found, digits in ((values, 1), (drawn, 3)):
        print(f"{'':12}", *(f"{horizon:>7}" for horizon in horizons))
        for name, parts in found.items():
            print(f"{name:12}", *(f"{value:7.{digits}f}" for value in np.concatenate(parts).mean(0)))


@tf.function(reduce_retracing=True)
def pictures_of(model: HTSR, context, length: int):
    """The pictures of a rollout of means, composed and apart, and how much of each is shown."""
    seeds = tf.zeros([tf.shape(context)[0]], tf.int32)
    state = model.start(context, 1, seeds, tf.constant(False))
    _, outputs = model.imagine(state, length)
    scene, pose = model.scene.go_on(state.scene, length)
    generated = model.generate(outputs)
    pictures = model.scene.pictures(scene, pose, generated)
    shares = model.scene.compositor.shares(list(pictures.values()), scene.deviation, pose.age, scene.evidence)
    shown = {name: tf.reduce_mean(share, [2, 3, 4]) for name, share in zip(pictures, shares, strict=True)}
    return {**pictures, "composed": model.scene.draw(scene, pose, generated)}, shown


if __name__ == "__main__":
    main()
