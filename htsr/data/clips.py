"""Clips: windows of a dataset in a reproducible order, as the source has them or as float32 batches in [0, 1].

A dataset is a `htsr.data.sources.WindowSource`, which gives any one of its windows. The rest is here, once for all
datasets: the training order (a permutation computed from (seed, epoch), so the whole data state is the step), the
batches and the ``tf.data`` pipeline. TensorFlow is imported when that pipeline is asked for.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from htsr.checks import require_int
from htsr.data.sources import WindowSource
from htsr.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

SPLITS = ("train", "valid", "test")


class Clips:
    """The windows of one split, in training order or in file order.

    Args:
        source: where the windows come from; kept as ``clips.source``.
        batch_size: clips per batch.
        seed: of the training order.

    Attributes:
        shape, num_clips, note, resolved: those of the source.
        failure: the error that ended a pipeline of ``dataset``, which TensorFlow reports as one of its own; or None.

    Raises:
        InputError: the batch size is below 1 or the seed below 0.
    """

    def __init__(self, source: WindowSource, batch_size: int, seed: int = 0):
        require_int("batch_size", batch_size, least=1)
        require_int("seed", seed, least=0)
        self.source = source
        self.shape = source.shape
        self.num_clips = source.num_clips
        self.note = source.note
        self.resolved = source.resolved
        self.batch_size = batch_size
        self.seed = seed
        self.failure: Exception | None = None

    def label(self, row: str) -> str:
        """What a row of frames of these clips is called in pictures; synthetic ones say so."""
        return f"{row}, synthetic" if self.note else row

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; an `InputError` where there is not even one (evaluation needs none)."""
        if self.batch_size > self.num_clips:
            raise InputError(
                f"batch_size is {self.batch_size}, but there are only {self.num_clips} clips of {self.shape[0]} frames;"
                " choose a smaller batch_size or seq_len"
            )
        return self.num_clips // self.batch_size

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """One window as the source has it, uint8 or float32 (time, height, width, channel)."""
        if not 0 <= index < self.num_clips:
            raise InputError(f"clip {index} does not exist: there are {self.num_clips}, counted from 0")
        return self.source.window(int(index), int(epoch))

    def batch(self, step: int, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The training batch of one step, windows stacked to (batch, time, …), from (seed, step) alone; or some rows.

        Args:
            step: training steps before it.
            rows: which of the ``batch_size``; None for all.
        """
        require_int("step", step, least=0)
        epoch, position = divmod(int(step), self.steps_per_epoch)
        order = _order(self.seed, epoch, self.num_clips)
        chosen = order[position * self.batch_size :][: self.batch_size]
        return np.stack([self.window(index, epoch) for index in (chosen if rows is None else chosen[rows])])

    def dataset(self, start: int, stop: int, shares: Sequence[np.ndarray] = ()) -> "tf.data.Dataset":
        """Training clips of the steps start … stop - 1, (batch, time, height, width, channel), as the source has them.

        Args:
            start: first step.
            stop: step after the last.
            shares: rows of the batch, equally many each: a step is then as many elements, one after the other.
        """
        import tensorflow as tf

        require_int("start", start, least=0)
        require_int("stop", stop, least=start)
        _ = self.steps_per_epoch  # too large a batch is refused here, not inside the pipeline

        shares = np.array(shares or [range(self.batch_size)])
        dtype = self.window(0).dtype

        def load(element):
            # Not stateful: deterministic ops would otherwise load one batch at a time, and none ahead.
            clip = tf.numpy_function(self._training_clip, [element, shares], dtype, stateful=False)
            return tf.ensure_shape(clip, (shares.shape[1], *self.shape))

        elements = tf.data.Dataset.range(start * len(shares), stop * len(shares))
        return elements.map(load, num_parallel_calls=4, deterministic=True).prefetch(2 * len(shares))

    def examples(
        self, num_examples: int | None = None, start: int = 0, batch_size: int | None = None
    ) -> Iterator[np.ndarray]:
        """The first ``num_examples`` clips (default: all) in file order, float32 in [0, 1], by batches.

        Only the last batch may be smaller than ``batch_size`` (default: that of these clips). Those before ``start``
        are left out.
        """
        count = self.num_clips if num_examples is None else num_examples
        require_int("num_examples", count, least=1)
        if count > self.num_clips:
            raise InputError(
                f"num_examples is {count}, but there are only {self.num_clips} clips of {self.shape[0]} frames"
            )
        size = self.batch_size if batch_size is None else batch_size
        return (self._examples(first, min(first + size, count)) for first in range(start, count, size))

    def _examples(self, first: int, last: int) -> np.ndarray:
        return as_floats(np.stack([self.window(index) for index in range(first, last)]))

    def _training_clip(self, element: np.int64, shares: np.ndarray) -> np.ndarray:
        step, share = divmod(int(element), len(shares))
        try:
            return self.batch(step, shares[share])
        except Exception as error:
            self.failure = error
            raise


@functools.lru_cache(maxsize=2)  # the end of one epoch and the beginning of the next
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The training order of an epoch: a permutation of 0 … count - 1."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def as_floats(windows: np.ndarray) -> np.ndarray:
    """Return frames as float32 in [0, 1]: bytes divided by 255, floats as they are."""
    return windows / np.float32(255) if windows.dtype == np.uint8 else windows
