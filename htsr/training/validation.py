"""What training is judged by on the way."""

import numpy as np
import tensorflow as tf

from htsr.report import figures
from htsr.training.log import Log


class Validation:
    """Loss and open-loop rollouts on the same held-out clips every time, with the same noise."""

    def __init__(self, model, clips, run, num_examples, context, horizon, noise, train_frames):
        self.model, self.clips, self.run = model, clips, run
        self.num_examples = min(num_examples, clips.num_clips)
        self.context, self.horizon, self.noise = context, horizon, noise
        self.train_frames = train_frames
        self._terms = tf.function(model.loss_terms, reduce_retracing=True, autograph=False)

    def __call__(self) -> tuple[dict[str, float], float]:
        """Return the record for the log, and the score: the rollouts' mean squared error."""
        terms, errors, count = {}, np.zeros(self.horizon), 0
        for i, clip in enumerate(self.clips.examples(self.num_examples)):
            for name, values in self._terms(clip[:, : self.train_frames], tf.constant(i)).items():
                terms[name] = terms.get(name, 0.0) + float(tf.reduce_sum(values))
            context, future = np.split(clip[:, : self.context + self.horizon], [self.context], 1)
            frames = self.model.rollout(context, self.horizon, seed=i, noise=self.noise)[0].clip(0, 1)
            errors += np.square(frames - future).mean((2, 3, 4), dtype=np.float64).sum(0)
            count += len(clip)
            if i == 0:
                self._first = clip[0], frames[0]
        terms = {name: value / count for name, value in terms.items()}
        loss = self.model.total_loss({name: tf.constant(value) for name, value in terms.items()}, self.train_frames)
        errors /= count
        record = {"valid/loss": float(loss), **{f"valid/{name}": value for name, value in terms.items()}}
        for h in (h for h in (1, 5, 10, 20, 50, 100) if h <= self.horizon):
            record[f"valid/rollout_mse_{h}"] = float(errors[h - 1])
        record["valid/rollout_mse"] = float(errors.mean())
        return record, record["valid/rollout_mse"]

    def draw(self, step: int, log: Log) -> None:
        """Draw the first clip of the last validation."""
        clip, prediction = self._first
        clip = np.round(clip[: self.context + self.horizon] * 255).astype(np.uint8)
        predicted = np.round(prediction * 255).astype(np.uint8)
        rows = {self.clips.label("truth"): clip, "prediction": np.concatenate([clip[: self.context], predicted])}
        folder = self.run / "samples"
        folder.mkdir(exist_ok=True)
        figures.save_strip(folder / f"step_{step}.png", rows, self.context)
        figures.save_gif(folder / f"step_{step}.gif", rows, self.context)
        log.image(step, "rollout", figures.rollout_image(rows, self.context))
