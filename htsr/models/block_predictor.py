"""Models that map a number of frames to a block of frames at once."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.base import VideoModel, filled_up
from htsr.ops.scan import scan


class BlockState(NamedTuple):
    """What ``advance`` needs: the frames read, the block predicted from them, and how many of it were handed out."""

    inputs: tf.Tensor
    block: tf.Tensor
    used: tf.Tensor


class BlockPredictor(VideoModel):
    """A model of which a subclass writes ``predict_block`` (and ``build``) alone.

    Further blocks are predicted from the model's own frames. A context shorter than ``inputs`` is filled up in front
    with its first frame; a horizon need not be a multiple of ``block``. Training minimises the mean squared error of
    all frames after the first ``inputs`` of a clip, through fed-back predictions.

    Args:
        frame_shape: height, width and channels of a frame.
        inputs: frames that a block is predicted from.
        block: frames of a block.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    stochastic = False

    def __init__(self, frame_shape: tuple[int, int, int], inputs: int, block: int, dtype: str = "float32", **kwargs):
        super().__init__(frame_shape, dtype, **kwargs)
        require_int("inputs", inputs, 1)
        require_int("block", block, 1)
        self.num_inputs, self.block = inputs, block

    @abstractmethod
    def predict_block(self, frames: tf.Tensor) -> tf.Tensor:
        """Predict the next frames: ``(batch, inputs, height, width, channel)`` to ``(batch, block, ...)``, float32."""

    def loss_terms(self, clip, seed, step=None):
        """Return ``l2``, the squared error per clip, its mean over pixels and predicted frames."""
        horizon = self._horizon(clip)
        _, frames = self._continue(self._begin(clip[:, : self.num_inputs]), (horizon - 1) // self.block)
        return {"l2": tf.reduce_mean(tf.square(frames[:, :horizon] - clip[:, self.num_inputs :]), [1, 2, 3, 4])}

    def start(self, context, num_samples, seeds, stochastic):
        state = self._begin(filled_up(context, self.num_inputs))
        inputs, block = (tf.tile(x, [num_samples, 1, 1, 1, 1]) for x in state[:2])
        return BlockState(inputs, block, state.used)

    def advance(self, state, length):
        end = state.used + length
        blocks = (end - 1) // self.block  # beside the one that is there
        new, frames = self._continue(state, blocks)
        return new._replace(used=end - blocks * self.block), frames[:, state.used : end]

    def observe_stream(self, state, frame, seeds):
        return self._begin(tf.concat([state.inputs, state.block[:, : state.used], frame[:, None]], 1))

    def _unrolled(self, clip, predict: Callable[[tf.Tensor, int], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The frames that a clip's first ones lead to, block by block, and those of the clip; ``predict`` makes a block
        of the one before it and its number. For models of as many inputs as a block has frames."""
        horizon, blocks = self._horizon(clip), [clip[:, : self.block]]
        for i in range(-(-horizon // self.block)):
            blocks.append(predict(blocks[-1], i))
        return tf.concat(blocks[1:], 1)[:, :horizon], clip[:, self.block :]

    def _horizon(self, clip) -> int:
        """How many frames of a training clip are predicted."""
        horizon = clip.shape[1] - self.num_inputs
        if horizon < 1:
            raise InputError(
                f"{self.name} reads {self.num_inputs} frames, but clips have {clip.shape[1]}; set data.seq_len above it"
            )
        return horizon

    def _begin(self, frames) -> BlockState:
        """The state after frames, of which the last ones count."""
        inputs = tf.ensure_shape(frames[:, -self.num_inputs :], [None, self.num_inputs, *self.frame_shape])
        return BlockState(inputs, self.predict_block(inputs), tf.constant(0))

    def _continue(self, state: BlockState, blocks) -> tuple[BlockState, tf.Tensor]:
        """Predict further blocks: the new state, and the frames of the present block and of these."""

        def predict(state, _):
            return self._begin(tf.concat([state.inputs, state.block], 1))

        last, later = scan(predict, tf.range(blocks), state, keep=lambda state: state.block)
        later = tf.reshape(tf.transpose(later, [1, 0, 2, 3, 4, 5]), [tf.shape(state.block)[0], -1, *self.frame_shape])
        return last, tf.concat([state.block, later], 1)
