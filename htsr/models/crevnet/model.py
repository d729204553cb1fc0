"""CrevNet: windows of frames to maps without loss, and from their past to those of the next window."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.crevnet.predictor import LayerState, PredictorLayer
from htsr.models.crevnet.reversible import ReversibleAutoencoder
from htsr.models.next_frame import NextFramePredictor
from htsr.ops.scan import scan


class CrevNetState(NamedTuple):
    """What ``predict_next`` carries.

    Attributes:
        layers: a ``LayerState`` for each layer.
        memory: of the last layer, ``(batch, window, rows, columns, filters)``.
        known: how many frames of the next input, the first ones, are true; a scalar.
    """

    layers: tuple[LayerState, ...]
    memory: tf.Tensor
    known: tf.Tensor


class CrevNet(NextFramePredictor):
    """CrevNet (Yu et al., "Efficient and Information-Preserving Future Frame Prediction and Beyond", ICLR 2020; arXiv
    1910.08853).

    The input of a step is a window: the frame and those before it. A ``ReversibleAutoencoder`` makes two halves of maps
    of it. Each ``PredictorLayer`` reads one half and replaces what its gate says of the other one, then the halves
    change places. The autoencoder's way back gives the next window, whose last frame is the prediction. Frames of it
    that are known are put in their place; in later windows all are the model's own.

    The window is three frames with convolutions over space and time, the form for Moving MNIST, or one frame with
    convolutions over space, the form for Traffic4cast.

    In training and in validation losses all inputs are true. ``l2`` is the mean squared error of a window, summed over
    the steps.

    Args:
        frame_shape: height, width, channels.
        window: frames of a window, 3 or 1.
        blocks: of each stage of the autoencoder. Every stage halves rows and columns.
        layers: of the predictor.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        window: int = 3,
        blocks: Sequence[int] = (4, 5, 3),
        layers: int = 8,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype, name="crevnet")
        if window not in (1, 3):
            raise InputError(f"window must be 3 or 1, received {window}")
        if not isinstance(blocks, Sequence) or not blocks or min(blocks) < 1:
            raise InputError(f"blocks must be one number of at least 1 for every stage, received {blocks}")
        require_int("layers", layers, 2)
        factor = 2 ** len(blocks)
        if any(side % factor for side in frame_shape[:2]):
            raise InputError(
                f"height and width must be multiples of {factor}, received {tuple(frame_shape[:2])}; resize or crop "
                "the frames, or take fewer stages"
            )
        height, width, channels = frame_shape
        self.window = self.min_context = window
        self.autoencoder = ReversibleAutoencoder(blocks, window, channels, name="autoencoder", dtype=self.dtype_policy)
        self.maps = (window, height // factor, width // factor, self.autoencoder.widths[-1])
        self.predictor = [
            PredictorLayer(self.maps[-1], window, name=f"layer{i}", dtype=self.dtype_policy) for i in range(layers)
        ]

    def build(self, input_shape=None):
        self.autoencoder.build((None, self.window, *self.frame_shape))
        for layer in self.predictor:
            layer.build((None, *self.maps))
        self.built = True

    # ---- windows

    def patches(self, clip):
        """Return the windows of a clip, ``(time + 1 - window, batch, window, height, width, channel)``."""
        windows = [clip[:, i : i + 1 - self.window or None] for i in range(self.window)]
        return tf.transpose(tf.stack(windows, 2), [1, 0, 2, 3, 4, 5])

    def frames(self, patches):
        """Return the last frame of every window."""
        return tf.transpose(patches[:, :, -1], [1, 0, 2, 3, 4])

    # ---- steps

    def initial_states(self, inputs):
        zeros = tf.zeros([tf.shape(inputs)[0], *self.maps], self.compute_dtype)
        return CrevNetState((LayerState(zeros, zeros),) * len(self.predictor), zeros, tf.constant(self.window))

    def predict_next(self, layers, inputs):
        new, memory, maps = self._step(layers, self.autoencoder.encode(inputs))
        predicted, known = self.autoencoder.decode(*maps), tf.maximum(layers.known - 1, 0)
        is_true = (tf.range(self.window - 1) < known)[:, None, None, None]
        overlap = tf.where(is_true, inputs[:, 1:], predicted[:, :-1])
        return CrevNetState(new, memory, known), tf.concat([overlap, predicted[:, -1:]], 1)

    def _step(self, state: CrevNetState, maps):
        """The layers' new states, their memory, and the maps of the next window."""
        (first, second), memory, new = maps, state.memory, []
        for layer, old in zip(self.predictor, state.layers, strict=True):
            gate, layer_state, memory = layer(first, old, memory)
            new.append(layer_state)
            second += tf.cast(gate, tf.float32) * (tf.cast(layer_state.hidden, tf.float32) - second)
            first, second = second, first
        return tuple(new), memory, (first, second)

    # ---- training

    def loss_terms(self, clip, seed, step=None):
        """Return ``l2``: the mean squared error of a predicted window, summed over the steps."""
        steps, windows = clip.shape[1] - self.window, self.patches(clip)
        if steps < 1:
            raise InputError(
                f"{self.name} reads windows of {self.window} frames, but clips have {clip.shape[1]}; set data.seq_len "
                "above it"
            )
        turns = 0 if step is None else steps
        encoded = self.autoencoder.encode(_together(windows[:-1]), turns)
        encoded = tuple(tf.reshape(half, [steps, -1, *self.maps]) for half in encoded)

        def predict(carry, maps):
            state = carry[0]
            new, memory, predicted = self._step(state, maps)
            return state._replace(layers=new, memory=memory), predicted

        first = (self.initial_states(windows[0]), tuple(half[0] for half in encoded))
        _, maps = scan(predict, encoded, first, keep=lambda carry: carry[1])
        predicted = self.autoencoder.decode(*map(_together, maps), turns)
        error = tf.reshape(predicted - _together(windows[1:]), [steps, -1, self.window, *self.frame_shape])
        return {"l2": tf.reduce_sum(tf.reduce_mean(tf.square(error), [2, 3, 4, 5]), 0)}

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        state = super().start(context, num_samples, seeds, stochastic)
        return state._replace(layers=self._all_known(state.layers))

    def observe_stream(self, state, frame, seeds):
        layers, _ = self.predict_next(*state)
        window = tf.concat([state.inputs[:, 1:], frame[:, None]], 1)
        return state._replace(layers=self._all_known(layers), inputs=window)

    def _all_known(self, layers: CrevNetState) -> CrevNetState:
        """The state before an input of true frames."""
        return layers._replace(known=tf.constant(self.window))


def _together(x):
    """Steps and rows of a batch as one axis."""
    return tf.reshape(x, [-1, *x.shape[2:]])
