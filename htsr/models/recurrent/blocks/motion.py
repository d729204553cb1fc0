"""What carries a hidden state along with the motion in it: MotionRNN's MotionGRU and GMG's motion guided module."""

import math
from typing import Literal, NamedTuple

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.convolution import conv, fan_in_uniform
from htsr.models.recurrent.blocks.warp import POINTS, Warp

Offsets = Literal["bounded", "published"]
TrendDecay = Literal["none", "step", "batch"]


class MotionState(NamedTuple):
    """What motion carries in time, float32: ``offset`` and ``trend``, ``(batch, rows, columns, 18)``, in pixels of the
    motion's map, and ``steps (batch, 1, 1, 1)``, how many there have been."""

    offset: tf.Tensor
    trend: tf.Tensor
    steps: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class TrendGrowth(keras.layers.Layer):
    r"""How much of a trend is kept, one factor a sample (GMG, arXiv 2503.11297, as in the released code).

    .. math::
        \alpha = (\alpha_0 + \sigma(W_\alpha \bar x + b_\alpha)) / 2, \quad
        \beta = (\beta_0 + \sigma(W_\beta \bar x + b_\beta)) / 2, \quad
        \gamma = \sigma(W_\gamma \bar x), \qquad g = \exp(-\beta t) + \alpha \gamma

    where the bar is the mean over positions. Deviation: t is the sample's place in the batch in the released code, so
    that a prediction depends on its batch mates (``decay="batch"``, for weights trained so, with rollouts that are
    ``rows``). By default there is no decay: t = 0, what the code does to the first sample, and no ``beta``. With
    ``decay="step"`` t counts time steps.

    Args:
        decay: ``none``, ``step`` or ``batch``.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        steps: as in ``MotionState``.

    Returns:
        g, float32 ``(batch, 1, 1, 1)``.
    """

    def __init__(self, decay: TrendDecay = "none", **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if decay not in ("none", "step", "batch"):
            raise InputError(f"trend_decay must be one of none, step, batch, received {decay!r}")
        self.decay = decay

    def build(self, x_shape, steps_shape=None):
        # Of gamma, alpha and, where there is decay, beta.
        rates = 1 if self.decay == "none" else 2
        self.kernel = self.add_weight(name="kernel", shape=(x_shape[-1], 1 + rates), initializer=fan_in_uniform())
        self.bias = self.add_weight(name="bias", shape=(rates,), initializer="zeros")
        start = keras.initializers.Constant([0.5, 0.9][:rates])
        self.start = self.add_weight(name="start", shape=(rates,), initializer=start)

    def call(self, x, steps):
        mean = tf.reduce_mean(x, [1, 2])
        bias = tf.pad(self.bias, [[1, 0]])
        gates = tf.sigmoid(tf.reduce_sum(mean[:, :, None] * _wide(self.kernel), 1) + _wide(bias))
        gamma, alpha = gates[:, 0], 0.5 * (self.start[0] + gates[:, 1])
        kept = tf.ones_like(alpha)
        if self.decay != "none":
            beta = 0.5 * (self.start[1] + gates[:, 2])
            t = steps[:, 0, 0, 0] if self.decay == "step" else tf.range(tf.shape(x)[0], dtype=tf.float32)
            kept = tf.exp(_wide((-beta * t)[:, None]))[:, 0]
        return (kept + alpha * gamma)[:, None, None, None]

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable("htsr")
class MotionGuided(keras.layers.Layer):
    r"""Offsets from a gated recurrent unit and their trend, and the map warped by them.

    The MotionGRU of MotionRNN (Wu et al., arXiv 2103.02243), and with ``growth`` the motion guided module of GMG (Du et
    al., arXiv 2503.11297). Of the map x, the carried offset F and trend D:

    .. math::
        [z, q] = \sigma(W_{zq} \star [x; F]), \quad n = \tanh(W_n \star [x; q \circ F]), \quad
        T = (1 - z) \circ F + z \circ n, \quad y = \mathrm{Warp}(x, T + D')

    and, with g = 1 or ``TrendGrowth``:

    - ``published``: ``D' = (g D + F) / 2``, and F' = T + D' is carried. It diverges: with n = 0 the map from (F, D) to
      (F', D') has an eigenvalue above 1 for every z < 1 and g >= 1, 1.31 at the published start, and an offset that
      has left the map reads zeros.
    - ``bounded``: ``D' = (g D + F) / (g + 1)``, and F' = T is carried. Both are averages of numbers in (-1, 1), so that
      no offset exceeds 2 pixels, however long it goes on. For g = 1, in MotionRNN, D' is the published one; a growing
      trend is one with a longer memory.

    It computes in float32, whatever its policy.

    Args:
        offsets: ``bounded`` or ``published``.
        growth: whether the trend grows and decays (GMG).
        trend_decay: of ``TrendGrowth``.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        state: ``MotionState``.

    Returns:
        The map warped, float32, and the new ``MotionState``.
    """

    def __init__(self, offsets: Offsets = "bounded", growth: bool = True, trend_decay: TrendDecay = "none", **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if offsets not in ("bounded", "published"):
            raise InputError(f"offsets must be one of bounded, published, received {offsets!r}")
        self.offsets = offsets
        # The update gate, then the reset gate. Kernels begin at zero, so that the first offsets are zero too.
        self.gates = conv(4 * POINTS, 3, True, "gates", "float32", start="zeros")
        self.candidate = conv(2 * POINTS, 3, True, "candidate", "float32", start="zeros")
        self.growth = TrendGrowth(trend_decay, name="growth") if growth else None
        self.warp = Warp(name="warp")

    def build(self, x_shape, state_shape=None):
        joined = (*x_shape[:-1], x_shape[-1] + 2 * POINTS)
        self.gates.build(joined)
        self.candidate.build(joined)
        if self.growth is not None:
            self.growth.build(x_shape)
        self.warp.build(x_shape)

    def call(self, x, state):
        offset, trend, steps = state
        update, reset = tf.split(tf.sigmoid(self.gates(tf.concat([x, offset], -1))), 2, -1)
        new = tf.tanh(self.candidate(tf.concat([x, reset * offset], -1)))
        transient = (1.0 - update) * offset + update * new
        growth = 1.0 if self.growth is None else self.growth(x, steps)
        if self.offsets == "bounded":
            growth = tf.maximum(growth, 0.0)  # its learnt start may become negative
            trend = (growth * trend + offset) / (growth + 1.0)
            carried = transient
        else:
            trend = 0.5 * (growth * trend + offset)
            carried = transient + trend
        return self.warp(x, transient + trend), MotionState(carried, trend, steps + 1.0)

    def get_config(self):
        growth = {} if self.growth is None else {"trend_decay": self.growth.decay}
        return {**super().get_config(), "offsets": self.offsets, "growth": self.growth is not None, **growth}


@keras.saving.register_keras_serializable("htsr")
class MotionBlock(keras.layers.Layer):
    r"""A hidden state mixed with itself, moved: the block between two layers of MotionRNN and GMG.

    .. math::
        u = W_d \star^T \mathrm{MotionGuided}(W_e \star h), \qquad r = \sigma(W_r \star [u; h]), \qquad
        h' = r \circ u + (1 - r) \circ h

    The motion works at half the resolution and a quarter of the width.

    Args:
        kernel_size: of encoder and gate, odd.
        offsets, growth, trend_decay: as in ``MotionGuided``.

    Call arguments:
        hidden: ``(batch, rows, columns, filters)``, rows and columns even.
        state: ``MotionState`` of half the rows and columns.

    Returns:
        The hidden state and the ``MotionState``, both new.

    Example:
        >>> import numpy as np
        >>> block, h = MotionBlock(), np.ones([2, 8, 6, 16], "float32")
        >>> h, state = block(h, block.initial_state(h))
        >>> h.shape, state.offset.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 4, 3, 18]))
    """

    def __init__(
        self,
        kernel_size: int = 5,
        offsets: Offsets = "bounded",
        growth: bool = True,
        trend_decay: TrendDecay = "none",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.guided = MotionGuided(offsets, growth, trend_decay, name="guided")

    def build(self, hidden_shape, state_shape=None):
        _, rows, columns, filters = hidden_shape
        if rows is None or columns is None or rows % 2 or columns % 2:
            raise InputError(
                f"motion works at half the resolution and needs an even grid, received {rows}x{columns}; choose "
                "another patch size"
            )
        width, policy, size = max(filters // 4, 1), self.dtype_policy, self.kernel_size
        # Padded by encode and decode. PyTorch's fan in of a transposed convolution is what a kernel's output sees.
        bound = 1 / math.sqrt(16 * filters)
        self.encoder = keras.layers.Conv2D(
            width, size, 2, kernel_initializer=fan_in_uniform(), name="encoder", dtype=policy
        )
        self.decoder = keras.layers.Conv2D(
            filters, 4, kernel_initializer=keras.initializers.RandomUniform(-bound, bound), name="decoder", dtype=policy
        )
        self.gate = conv(filters, size, True, "gate", policy)
        self.encoder.build((None, rows + size - 1, columns + size - 1, filters))
        self.guided.build((None, rows // 2, columns // 2, width))
        self.decoder.build((None, rows + 3, columns + 3, width))
        self.gate.build((*hidden_shape[:-1], 2 * filters))

    def initial_state(self, hidden) -> MotionState:
        """Zeros for a hidden state, or anything, of these rows and columns. Deviation: the released code draws fresh
        noise in every forward pass, in testing too."""
        zeros = keras.ops.cast(keras.ops.zeros_like(hidden[:, ::2, ::2, :1]), "float32")
        offset = keras.ops.repeat(zeros, 2 * POINTS, -1)
        return MotionState(offset, offset, zeros[:, :1, :1])

    def encode(self, hidden):
        """The map that moves, ``(batch, rows / 2, columns / 2, filters / 4)``."""
        # The same on every side: Keras's "same" puts less before than behind at stride 2.
        pad = [self.kernel_size // 2] * 2
        return self.encoder(tf.pad(hidden, [[0, 0], pad, pad, [0, 0]]))

    def decode(self, moved):
        """Back: a transposed convolution, 4x4 with stride 2, as a convolution of the map with zeros between its pixels.
        TensorFlow's own has other last bits for other sizes of a batch."""
        _, rows, columns, width = moved.shape
        none, zero = [0, 0], [0, 1]
        spread = tf.pad(moved[:, :, None, :, None], [none, none, zero, none, zero, none])
        spread = tf.reshape(spread, [-1, 2 * rows, 2 * columns, width])
        return self.decoder(tf.pad(spread, [none, [2, 1], [2, 1], none]))

    def call(self, hidden, state):
        moved, state = self.guided(self.encode(hidden), MotionState(*state))
        moved = self.decode(tf.cast(moved, hidden.dtype))
        gate = tf.sigmoid(self.gate(tf.concat([moved, hidden], -1)))
        return gate * moved + (1.0 - gate) * hidden, state

    def get_config(self):
        guided = self.guided.get_config()
        options = {name: guided[name] for name in ("offsets", "growth", "trend_decay") if name in guided}
        return {**super().get_config(), "kernel_size": self.kernel_size, **options}


def _wide(x):
    """The last axis filled up to sixteen. A product with a single row, and what is left when a vector of a processor is
    full, are computed by other means than the rest: the last bits of a sample would depend on the size of its batch."""
    return tf.pad(x, [[0, 0]] * (len(x.shape) - 1) + [[0, 16 - x.shape[-1]]])
