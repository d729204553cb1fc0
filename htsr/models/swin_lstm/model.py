"""SwinLSTM: a recurrent cell of windowed attention, alone (B) or at several sizes of map (D)."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.layers.convolution import fan_in_bias, fan_in_uniform
from htsr.layers.resampling import DoublingConv
from htsr.layers.window_attention import channel_norm, dense
from htsr.models.next_frame import NextFramePredictor
from htsr.models.swin_lstm.cell import SwinLSTMCell
from htsr.ops import noise as noise_lib


class SwinLSTM(NextFramePredictor):
    """SwinLSTM (Tang et al., ICCV 2023; arXiv 2308.09891), as its authors' code and OpenSTL build it.

    Patches of 2x2 pixels become vectors. With one number in ``depths`` this is SwinLSTM-B: one ``SwinLSTMCell``. With
    more it is SwinLSTM-D: cells on maps of half the size and twice the channels each, with the blocks and heads given,
    and back: a cell for each of the smaller sizes, the smallest first, with the blocks of ``depths`` in their order and
    the heads in the reverse order. A transposed convolution and a sigmoid make the next frame.

    It is trained on the errors of all frames but the first, fed with its own predictions after the context.

    Args:
        frame_shape: height, width, channels.
        filters: channels of the largest map.
        depths: transformer blocks of the cells, largest map first.
        heads: of attention in these cells.
        window: side of a window.
        drop_path: share of clips for which a branch of a block is left out in training, drawn at every step: of B in
            every block, of D rising linearly from 0 on the way down and falling back on the way up.
        context: true frames at the beginning of a training clip.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    exports = frozenset({"tflite"})

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        filters: int = 128,
        depths: Sequence[int] = (2, 6),
        heads: Sequence[int] = (4, 8),
        window: int = 4,
        drop_path: float = 0.1,
        context: int = 10,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype, context=context, name="swin_lstm")
        for name, numbers in {"depths": depths, "heads": heads}.items():
            if not numbers or min(numbers) < 1 or len(numbers) != len(depths):
                raise InputError(f"{name} must be one number of at least 1 for every cell, received {list(numbers)}")
        require_int("window", window, 1)
        require_int("filters", filters, 1)
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path must be at least 0 and below 1, received {drop_path}")
        levels = len(depths) if len(depths) > 1 else 0
        self.grid = tuple(side // 2 for side in frame_shape[:2])
        if any(side % 2 ** (levels + 1) for side in frame_shape[:2]):
            raise InputError(
                f"height and width must be multiples of {2 ** (levels + 1)}, received {tuple(frame_shape[:2])}; resize "
                "or crop the frames, or take fewer cells"
            )
        self.filters, self.levels, policy = filters, levels, self.dtype_policy
        starts = {"kernel_initializer": fan_in_uniform(), "bias_initializer": fan_in_bias(4 * frame_shape[-1])}
        self.embed = keras.layers.Conv2D(filters, 2, 2, name="embed", dtype=policy, **starts)
        self.embed_norm = channel_norm("embed_norm", policy)
        width = [filters * 2**i for i in range(levels + 1)]
        down = zip(width, depths, heads, strict=levels == 0)
        self.down = [SwinLSTMCell(*sizes, window, name=f"down{i}", dtype=policy) for i, sizes in enumerate(down)]
        up = zip(width[:0:-1], depths, reversed(heads), strict=False)
        self.up = [SwinLSTMCell(*sizes, window, name=f"up{i}", dtype=policy) for i, sizes in enumerate(up)]
        self.merges = [Merge(name=f"merge{i}", dtype=policy) for i in range(levels)]
        self.expands = [Expand(name=f"expand{i}", dtype=policy) for i in range(levels)]
        self.output_conv = DoublingConv(frame_shape[-1], name="output", dtype="float32")
        ramp = np.linspace(0, drop_path, sum(depths)) if levels else np.full(sum(depths), drop_path)
        rates = np.concatenate([ramp, ramp[::-1]]) if levels else ramp
        self._keep_rates = np.repeat(1.0 - rates, 2).astype(np.float32)  # of the branches of all blocks, in their order

    def build(self, input_shape=None):
        self.embed.build((None, *self.frame_shape))
        rows, columns = self.grid
        shape = (None, rows, columns, self.filters)
        self.embed_norm.build(shape)
        for i, cell in enumerate(self.down):
            cell.build(shape)
            if self.levels:
                self.merges[i].build(shape)
                shape = (None, shape[1] // 2, shape[2] // 2, 2 * shape[3])
        for cell, expand in zip(self.up, self.expands, strict=True):
            cell.build(shape)
            expand.build(shape)
            shape = (None, 2 * shape[1], 2 * shape[2], shape[3] // 2)
        self.output_conv.build(shape)
        self.built = True

    def initial_states(self, inputs):
        maps, states = tf.cast(inputs[:, ::2, ::2], self.compute_dtype), []
        for cell in self.down:
            states.append(cell.initial_state(maps))
            maps = maps[:, ::2, ::2]
        sizes = reversed(states[1:]) if self.up else ()
        first = [self.up[0].initial_state(maps)] if self.up else []
        return tuple(states), tuple(first) + tuple(sizes)

    def predict_next(self, layers, inputs, kept=None):
        x, (down, up) = self.embed_norm(self.embed(inputs)), map(list, layers)
        depths = [2 * cell.depth for cell in (*self.down, *self.up)]
        parts = iter([None] * len(depths) if kept is None else tf.split(kept, depths, -1))
        for i, cell in enumerate(self.down):
            x, down[i] = cell(x, down[i], next(parts))
            x = self.merges[i](x) if self.levels else x
        for i, cell in enumerate(self.up):
            x, up[i] = cell(x, up[i], next(parts))
            x = self.expands[i](x)
        return (tuple(down), tuple(up)), tf.sigmoid(self.output_conv(x))

    def step_noise(self, batch, num_inputs, seed, step):
        """What the branches of the blocks are multiplied by: in training alone."""
        if step is None or (self._keep_rates == 1).all():
            return ()
        seeds = noise_lib.fold(noise_lib.fold(seed, noise_lib.rows(batch)), tf.range(num_inputs)[:, None])
        seeds = noise_lib.fold(seeds[..., None], 1000 + tf.range(len(self._keep_rates)))
        kept = tf.cast(noise_lib.uniform(seeds) < self._keep_rates, tf.float32)
        return (kept / self._keep_rates,)


@keras.saving.register_keras_serializable("htsr")
class Merge(keras.layers.Layer):
    """Four neighbours side by side, normalised, and a dense layer: half the rows and columns, twice the channels.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, rows / 2, columns / 2, 2 * channels)``.
    """

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.norm, self.dense = channel_norm("norm", policy), dense(channels, 2 * channels, "dense", policy, False)
        self.norm.build((*shape[:-1], 4 * channels))
        self.dense.build((*shape[:-1], 4 * channels))

    def call(self, x):
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.dense(self.norm(tf.concat(corners, -1)))


@keras.saving.register_keras_serializable("htsr")
class Expand(keras.layers.Layer):
    """A dense layer whose outputs become four neighbours, normalised: the way back from ``Merge``.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.

    Returns:
        ``(batch, 2 * rows, 2 * columns, channels / 2)``.
    """

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        self.dense, self.norm = dense(channels, 2 * channels, "dense", policy, False), channel_norm("norm", policy)
        self.dense.build(shape)
        self.norm.build((*shape[:-1], channels // 2))

    def call(self, x):
        return self.norm(tf.nn.depth_to_space(self.dense(x), 2))
