"""The cell of SwinLSTM."""

from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.conv_lstm import zero_state
from htsr.layers.window_attention import WindowAttention, channel_norm, dense


class SwinLSTMState(NamedTuple):
    """What ``SwinLSTMCell`` carries: each ``(batch, rows, columns, filters)``."""

    hidden: tf.Tensor
    cell: tf.Tensor


@keras.saving.register_keras_serializable("htsr")
class SwinLSTMCell(keras.layers.Layer):
    r"""One step of SwinLSTM (Tang et al., "SwinLSTM", ICCV 2023; arXiv 2308.09891, Eqs. 6-8).

    Swin transformer blocks make y of the input and the hidden state, and y alone is gate and update:

    .. math::
        F = \sigma(y), \qquad c' = F \circ (c + \tanh(y)), \qquad h' = F \circ \tanh(c')

    Windows of every second block are moved by half of their side. The first block is given the hidden state beside its
    input, each further one at an even place the cell's input.

    Args:
        filters: channels of the input and the states.
        depth: blocks.
        heads: of their attention.
        window: side of their windows.

    Call arguments:
        inputs: ``(batch, rows, columns, filters)``.
        states: ``SwinLSTMState``.
        kept: what the branches of the blocks are multiplied by, two a block, ``(batch, 2 * depth)``: 0 where one is
            dropped, the inverse of the share that is kept otherwise. None drops nothing.

    Returns:
        The output, which is the new hidden state, and the new ``SwinLSTMState``.
    """

    state_type = SwinLSTMState
    handed: tuple[str, ...] = ()

    def __init__(self, filters: int, depth: int = 2, heads: int = 4, window: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.depth, self.heads, self.window = filters, depth, heads, window
        policy = self.dtype_policy
        self.blocks = [
            SwinBlock(heads, window, i % 2 * (window // 2), i % 2 == 0, name=f"block{i}", dtype=policy)
            for i in range(depth)
        ]

    def build(self, inputs_shape, states_shape=None):
        if inputs_shape[-1] != self.filters:
            raise InputError(
                f"swin_lstm has states of as many channels as its input, {inputs_shape[-1]}, received filters "
                f"{self.filters}; give all layers the same number, and set embed"
            )
        for block in self.blocks:
            block.build(inputs_shape)

    def initial_state(self, inputs) -> SwinLSTMState:
        """Zeros for inputs of this shape."""
        return zero_state(SwinLSTMState, inputs, self.filters)

    def call(self, inputs, states, kept=None):
        states = SwinLSTMState(*states)
        y = inputs
        for i, block in enumerate(self.blocks):
            beside = None if i % 2 else states.hidden if i == 0 else inputs
            y = block(y, beside, None if kept is None else kept[:, 2 * i : 2 * i + 2])
        gate = tf.sigmoid(y)
        cell = gate * (states.cell + tf.tanh(y))
        hidden = gate * tf.tanh(cell)
        return hidden, SwinLSTMState(hidden, cell)

    def get_config(self):
        names = ("filters", "depth", "heads", "window")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("htsr")
class SwinBlock(keras.layers.Layer):
    """A Swin transformer block (arXiv 2103.14030) that may be given a second map.

    Args:
        heads, window, shift: as in ``WindowAttention``.
        joined: whether there is a second map: normalised as the first, and joined with it by a dense layer.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        beside: the second map, of the same shape, or None.
        kept: as in ``SwinLSTMCell``, ``(batch, 2)`` or None.

    Returns:
        The same shape.
    """

    def __init__(self, heads: int, window: int, shift: int, joined: bool, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.attention = WindowAttention(heads, window, shift, name="attention", dtype=policy)
        self.norm, self.mlp_norm = channel_norm("norm", policy), channel_norm("mlp_norm", policy)
        self.joined = joined

    def build(self, shape):
        channels, policy = shape[-1], self.dtype_policy
        if self.joined:
            self.join = dense(2 * channels, channels, "join", policy)
            self.join.build((*shape[:-1], 2 * channels))
        self.mlp_in = dense(channels, 4 * channels, "mlp_in", policy)
        self.mlp_out = dense(4 * channels, channels, "mlp_out", policy)
        for layer in (self.attention, self.norm, self.mlp_norm, self.mlp_in):
            layer.build(shape)
        self.mlp_out.build((*shape[:-1], 4 * channels))

    def call(self, x, beside=None, kept=None):
        y = self.norm(x)
        if self.joined:
            y = self.join(tf.concat([y, self.norm(beside)], -1))
        x += _kept(self.attention(y), kept, 0)
        y = self.mlp_out(tf.nn.gelu(self.mlp_in(self.mlp_norm(x)), approximate=False))
        return x + _kept(y, kept, 1)


def _kept(branch, kept, place: int):
    return branch if kept is None else branch * tf.cast(kept[:, place, None, None, None], branch.dtype)
