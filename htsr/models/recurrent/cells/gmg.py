"""The cells of MotionRNN and of GMG: a spatiotemporal LSTM with a motion highway, and what moves its hidden state."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from htsr.layers.conv_lstm import zero_state
from htsr.layers.convolution import MultiScaleConv
from htsr.models.recurrent.blocks.attention import SelfAttentionMemory
from htsr.models.recurrent.blocks.focus import GlobalFocus
from htsr.models.recurrent.blocks.motion import MotionBlock, MotionState, Offsets, TrendDecay
from htsr.models.recurrent.cells.st_lstm import STLSTMCell, STLSTMState


class GMGState(NamedTuple):
    """What ``GMGCell`` carries: maps ``(batch, rows, columns, filters)``, and a ``MotionState``, or () without motion.

    Within a step, ``memory`` and ``highway`` are handed from layer to layer. The first layer's memory is the last one's
    of the step before, its highway a 1x1 convolution of the input; no highway passes from step to step.
    """

    hidden: tf.Tensor
    cell: tf.Tensor
    memory: tf.Tensor
    highway: tf.Tensor
    motion: MotionState | tuple[()]


@keras.saving.register_keras_serializable("htsr")
class GMGCell(keras.layers.Layer):
    r"""One step of GMG (Du et al., arXiv 2503.11297), or without ``focus`` of MotionRNN (Wu et al., arXiv 2103.02243).

    Of the spatiotemporal LSTM's new hidden state h, its output gate o, and the highway v, in MotionRNN

    .. math::
        v' = h + (1 - o) \circ v, \qquad h' = \mathrm{MotionBlock}(v')

    and in GMG, before that, with the input x and the LSTM's new memory m,

    .. math::
        h \leftarrow \mathrm{GlobalFocus}(h, x) \circ (W_1 \star x + W_3 \star x + W_5 \star x), \qquad
        [h, m'] = \mathrm{SelfAttentionMemory}(h, m)

    Args:
        filters: channels of the maps.
        kernel_size: of the LSTM's and the motion's convolutions, odd.
        layer_norm: normalise the convolutions of the LSTM and the multi-scale one.
        focus: global focus, multi-scale gate, attention memory, and growth of the motion's trend: GMG.
        motion: whether the hidden state passes a ``MotionBlock``; the last layer's does not.
        key_filters: of the attention; None: ``filters``.
        offsets, trend_decay: as in ``MotionGuided``.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: ``GMGState``.

    Returns:
        The output, which is the new hidden state, and the new ``GMGState``.

    Example:
        >>> import numpy as np
        >>> cell, x = GMGCell(16, 3), np.ones([2, 8, 6, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.motion.offset.shape
        (TensorShape([2, 8, 6, 16]), TensorShape([2, 4, 3, 18]))
    """

    state_type = GMGState
    handed = ("memory", "highway")

    def __init__(
        self,
        filters: int,
        kernel_size: int = 5,
        layer_norm: bool = False,
        focus: bool = True,
        motion: bool = True,
        key_filters: int | None = None,
        offsets: Offsets = "bounded",
        trend_decay: TrendDecay = "none",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.layer_norm = filters, kernel_size, layer_norm
        self.key_filters, self.offsets, self.trend_decay = key_filters, offsets, trend_decay
        policy = self.dtype_policy
        self.lstm = STLSTMCell(filters, kernel_size, layer_norm=layer_norm, name="lstm", dtype=policy)
        self.focus = GlobalFocus(name="focus", dtype=policy) if focus else None
        if focus:
            self.multi_scale = MultiScaleConv(filters, layer_norm, name="multi_scale", dtype=policy)
            self.attention = SelfAttentionMemory(
                key_filters, attended_filters=2 * filters, name="attention", dtype=policy
            )
        self.motion = None
        if motion:
            self.motion = MotionBlock(kernel_size, offsets, focus, trend_decay, name="motion", dtype=policy)

    def build(self, inputs_shape, states_shape=None):
        state = (*inputs_shape[:-1], self.filters)
        self.lstm.build(inputs_shape)
        if self.focus is not None:
            self.focus.build(state, inputs_shape)
            self.multi_scale.build(inputs_shape)
            self.attention.build(state)
        if self.motion is not None:
            self.motion.build(state)

    def initial_state(self, inputs) -> GMGState:
        """Zeros for inputs of this shape."""
        maps = zero_state(STLSTMState, inputs, self.filters)
        return GMGState(*maps, maps.hidden, () if self.motion is None else self.motion.initial_state(inputs))

    def call(self, inputs, states):
        hidden, cell, memory, highway, motion = states
        (hidden, cell, memory), gate = self.lstm.gated(inputs, STLSTMState(hidden, cell, memory))
        if self.focus is not None:
            hidden = self.focus(hidden, inputs) * self.multi_scale(inputs)
            hidden, memory = self.attention(hidden, memory)
        hidden = highway = hidden + (1.0 - gate) * highway
        if self.motion is not None:
            hidden, motion = self.motion(hidden, motion)
        return hidden, GMGState(hidden, cell, memory, highway, motion)

    def get_config(self):
        names = ("filters", "kernel_size", "layer_norm", "key_filters", "offsets", "trend_decay")
        parts = {"focus": self.focus is not None, "motion": self.motion is not None}
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, **parts}


def motionrnn_cell(
    filters: int,
    kernel_size: int = 5,
    layer_norm: bool = False,
    motion: bool = True,
    offsets: Offsets = "bounded",
    **kwargs: Any,
) -> GMGCell:
    """Return the cell of MotionRNN: a ``GMGCell`` without ``focus``."""
    return GMGCell(filters, kernel_size, layer_norm, False, motion, offsets=offsets, **kwargs)
