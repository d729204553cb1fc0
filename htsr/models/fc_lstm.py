"""FC-LSTM: an LSTM of whole frames that reads a context, and a second one that goes on from its state."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.base import VideoModel
from htsr.ops.scan import scan


class FCLSTMState(NamedTuple):
    """The states ``(hidden, cell)`` of the encoder's and the predictor's layers, and the predictor's next input."""

    encoder: tuple
    predictor: tuple
    inputs: tf.Tensor


class FCLSTM(VideoModel):
    """The future predictor of Srivastava et al., "Unsupervised learning of video representations using LSTMs" (arXiv
    1502.04681), the FC-LSTM of later papers' tables.

    A stack of LSTMs reads the frames of a context. From its states a second stack goes on: without an input at its
    first step, then with the frame before, true in training and its own otherwise. A dense layer and a logistic
    function make a frame of its last hidden state. ``cross_entropy`` is summed over pixels and predicted frames.

    Deviation: the authors' composite model also reconstructs the context, from a third stack. Weights begin uniform in
    the inverse root of a layer's units (0.022 for 2048), not in 0.01.

    Args:
        frame_shape: height, width, channels.
        units: of the layers, the same in both stacks.
        peepholes: whether gates see the cell, each unit its own.
        context: frames that are read at the beginning of a training clip.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    stochastic = False
    exports = frozenset({"tflite"})

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        units: Sequence[int] = (2048, 2048),
        peepholes: bool = True,
        context: int = 10,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype, name="fc_lstm")
        if not isinstance(units, Sequence) or not units or min(units) < 1:
            raise InputError(f"units must be one number of at least 1 for every layer, received {units}")
        require_int("context", context, 1)
        height, width, channels = frame_shape
        self.context, self.pixels = context, height * width * channels
        self.encoder, self.predictor = (
            [PeepholeCell(n, peepholes, name=f"{name}{i}", dtype=self.dtype_policy) for i, n in enumerate(units)]
            for name in ("encoder", "predictor")
        )
        self.readout = keras.layers.Dense(
            self.pixels, kernel_initializer=_start(units[-1] ** -0.5), name="readout", dtype="float32"
        )

    def build(self, input_shape=None):
        for stack in (self.encoder, self.predictor):
            size = self.pixels
            for cell in stack:
                cell.build((None, size))
                size = cell.units
        self.readout.build((None, size))
        self.built = True

    def loss_terms(self, clip, seed, step=None):
        """Return ``cross_entropy`` in nats per clip, of the frames after the context."""
        del seed
        horizon = clip.shape[1] - self.context
        if horizon < 1:
            raise InputError(
                f"context is {self.context}, but clips have {clip.shape[1]} frames; set data.seq_len above it"
            )
        frames, state = self._flat(clip), self._read(clip[:, : self.context])
        if step is None:
            _, logits = self._predict(state, horizon)
        else:
            inputs = tf.concat([state.inputs[None], frames[self.context : -1]], 0)

            def predict(carry, x):
                layers, hidden = _stepped(self.predictor, carry[0], x)
                return layers, hidden

            first = (state.predictor, tf.cast(state.predictor[-1][0], self.compute_dtype))
            logits = self.readout(scan(predict, inputs, first, keep=lambda carry: carry[1])[1])
        truth = frames[self.context :]
        nats = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits)
        return {"cross_entropy": tf.reduce_sum(nats, [0, 2])}

    def start(self, context, num_samples, seeds, stochastic):
        return tf.nest.map_structure(lambda x: tf.tile(x, [num_samples, 1]), self._read(context))

    def advance(self, state, length):
        state, logits = self._predict(state, length)
        return state, tf.transpose(self._frames(tf.sigmoid(logits)), [1, 0, 2, 3, 4])

    def step_stream(self, state, seeds):
        """As ``VideoModel.step_stream``; the encoder reads what is predicted, too, should true frames follow."""
        state, logits = self._predict(state, 1)
        encoder, _ = _stepped(self.encoder, state.encoder, state.inputs)
        return state._replace(encoder=encoder), self._frames(tf.sigmoid(logits))[0]

    def observe_stream(self, state, frame, seeds):
        encoder, _ = _stepped(self.encoder, state.encoder, self._flat(frame[:, None])[0])
        return FCLSTMState(encoder, encoder, tf.zeros_like(state.inputs))

    def _read(self, frames) -> FCLSTMState:
        """The state after frames."""
        xs = self._flat(frames)
        first = tuple(cell.initial_state(xs[0]) for cell in self.encoder)
        layers, _ = scan(lambda layers, x: _stepped(self.encoder, layers, x)[0], xs, first)
        return FCLSTMState(layers, layers, tf.zeros_like(xs[0]))

    def _predict(self, state: FCLSTMState, length) -> tuple[FCLSTMState, tf.Tensor]:
        """Go on from own predictions: the new state, and logits ``(length, batch, pixels)``."""

        def predict(carry, _):
            layers, hidden = _stepped(self.predictor, carry[0], carry[1])
            logits = self.readout(hidden)
            return layers, tf.sigmoid(logits), logits

        first = (state.predictor, state.inputs, state.inputs)
        (layers, inputs, _), logits = scan(predict, tf.range(length), first, keep=lambda carry: carry[2])
        return FCLSTMState(state.encoder, layers, inputs), logits

    def _flat(self, clip) -> tf.Tensor:
        """A clip as ``(time, batch, pixels)``."""
        return tf.reshape(tf.transpose(clip, [1, 0, 2, 3, 4]), [tf.shape(clip)[1], -1, self.pixels])

    def _frames(self, x) -> tf.Tensor:
        return tf.reshape(x, [tf.shape(x)[0], -1, *self.frame_shape])


def _stepped(stack, layers, x):
    """One step of a stack of cells: new states, and the last hidden state."""
    new = []
    for cell, old in zip(stack, layers, strict=True):
        x, state = cell(x, old)
        new.append(state)
    return tuple(new), x


@keras.saving.register_keras_serializable("htsr")
class PeepholeCell(keras.layers.Layer):
    r"""One step of an LSTM whose gates may see the cell (Gers et al., JMLR 2002; arXiv 1502.04681, Section 2.1).

    .. math::
        [i, f, g, o] = W_x x + W_h h + b, \qquad
        c' = \sigma(f + w_f c) c + \sigma(i + w_i c) \tanh(g), \qquad h' = \sigma(o + w_o c') \tanh(c')

    Args:
        units: of the states.
        peepholes: whether there are w; otherwise they are 0.

    Call arguments:
        inputs: ``(batch, channels)``.
        states: hidden and cell, ``(batch, units)`` each.

    Returns:
        The new hidden state, and both new states.
    """

    def __init__(self, units: int, peepholes: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.peepholes = units, peepholes

    def build(self, shape):
        width, start = 4 * self.units, _start(self.units**-0.5)
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], width), initializer=start)
        self.recurrent_kernel = self.add_weight(name="recurrent_kernel", shape=(self.units, width), initializer=start)
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")
        if self.peepholes:
            self.seen = self.add_weight(name="seen", shape=(3, self.units), initializer=_start(0.1))

    def initial_state(self, inputs):
        """Zeros for inputs of this shape."""
        zeros = tf.zeros([tf.shape(inputs)[0], self.units], self.compute_dtype)
        return zeros, zeros

    def call(self, inputs, states):
        hidden, cell = states
        gates = tf.matmul(inputs, self.kernel) + tf.matmul(hidden, self.recurrent_kernel) + self.bias
        i, f, g, o = tf.split(gates, 4, -1)
        to_i, to_f, to_o = tf.unstack(tf.convert_to_tensor(self.seen)) if self.peepholes else (0.0, 0.0, 0.0)
        new = tf.sigmoid(f + to_f * cell) * cell + tf.sigmoid(i + to_i * cell) * tf.tanh(g)
        hidden = tf.sigmoid(o + to_o * new) * tf.tanh(new)
        return hidden, (hidden, new)


def _start(bound: float):
    return keras.initializers.RandomUniform(-bound, bound)
