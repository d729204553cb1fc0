"""PDE-driven disentanglement: what stays and what moves in a clip, apart from each other."""

from typing import NamedTuple, get_args

import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.base import VideoModel, filled_up
from htsr.models.pde_driven.networks import DOWN, FACTORS, Decoder, Encoder, Form, ResidualMLP
from htsr.ops import noise as noise_lib
from htsr.ops.scan import scan


class Static(NamedTuple):
    """What does not move: a code, ``(batch, static_units)``, and with ``skips`` the maps it was made of."""

    code: tf.Tensor
    maps: tuple[tf.Tensor, ...]


class PDEState(NamedTuple):
    """What ``advance`` needs.

    Attributes:
        frames: the last ones, read or predicted, ``(batch, context, height, width, channel)``.
        static: ``Static``.
        dynamic: the code of the next frame, float32 ``(batch, dynamic_units)``.
    """

    frames: tf.Tensor
    static: Static
    dynamic: tf.Tensor


class PDEDriven(VideoModel):
    r"""PDE-driven spatiotemporal disentanglement (Donà et al., ICLR 2021; arXiv 2008.01352), as its authors' code
    builds it.

    One ``Encoder`` makes a static code S of the frames that are read, another one a dynamic code. Steps of a residual
    network, :math:`T_{k+1} = T_k + f(T_k)`, are those of a differential equation by Euler's method. A ``Decoder`` makes
    frame k of S and :math:`T_k`. A ``PDEState`` of one clip's ``static`` and another one's ``dynamic`` gives what is in
    the one with the motion of the other.

    The terms of the loss are for each clip: ``forecast`` and ``autoencoding``, mean squared errors of all predicted
    frames and of one that is decoded from the code of a random part of the clip; ``invariance``, the mean squared
    difference between the static codes (and maps) of the first and the last frames; ``regularisation``, half the
    squared norm of the first dynamic code.

    Deviation: weights of batch normalisation begin at 1, not normal around it with a stddev of 0.02.

    Args:
        frame_shape: height, width, channels; multiples of 16 pixels, or 8 for ``vgg``.
        context: frames that codes are made of. A shorter context is filled up in front with its first frame.
        form: of encoders and decoder, ``dcgan`` or ``vgg``; published for 64x64 and for 32x32 pixels.
        filters: of their first and last stage.
        static_units, dynamic_units: of the codes.
        hidden, blocks: units and number of the multilayer perceptrons, each with a residual, that make a step.
        gain: of the orthogonal matrices that these begin with.
        skips: whether the decoder reads the maps of the static code's encoder, too.
        reconstruct: whether the first dynamic code is that of the first frame read, so that these are decoded in
            training as well; otherwise it is that of the first one to predict.
        sigmoid: whether a logistic function ends the decoder.
        autoencoding, invariance, forecast, regularisation: weights of the terms.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    stochastic = False
    exports = frozenset({"tflite"})

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        context: int = 5,
        form: Form = "dcgan",
        filters: int = 64,
        static_units: int = 128,
        dynamic_units: int = 20,
        hidden: int = 512,
        blocks: int = 1,
        gain: float = 1.41,
        skips: bool = False,
        reconstruct: bool = True,
        sigmoid: bool = True,
        autoencoding: float = 10.0,
        invariance: float = 45.0,
        forecast: float = 45.0,
        regularisation: float = 0.001,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, dtype, name="pde_driven")
        if form not in get_args(Form):
            raise InputError(f"form must be one of {', '.join(get_args(Form))}, received {form!r}")
        counts = {"context": context, "filters": filters, "static_units": static_units, "blocks": blocks}
        for name, count in {**counts, "dynamic_units": dynamic_units, "hidden": hidden}.items():
            require_int(name, count, 1)
        self.weights_of_terms = {
            "autoencoding": autoencoding, "invariance": invariance, "forecast": forecast,
            "regularisation": regularisation,
        }  # fmt: skip
        for name, weight in self.weights_of_terms.items():
            if weight < 0:
                raise InputError(f"{name} must be at least 0, received {weight}")
        if any(side % FACTORS[form] for side in frame_shape[:2]):
            raise InputError(
                f"height and width must be multiples of {FACTORS[form]}, received {tuple(frame_shape[:2])}; resize or "
                "crop the frames"
            )
        self.context, self.skips, self.reconstruct, self.sigmoid = context, skips, reconstruct, sigmoid
        grid, policy = tuple(side // FACTORS[form] for side in frame_shape[:2]), self.dtype_policy
        self.static = Encoder(form, filters, grid, static_units, name="static", dtype=policy)
        self.dynamic = Encoder(form, filters, grid, dynamic_units, name="dynamic", dtype=policy)
        self.decoder = Decoder(form, filters, grid, frame_shape[-1], name="decoder", dtype=policy)
        self.blocks = [ResidualMLP(hidden, gain, name=f"block{i}", dtype=policy) for i in range(blocks)]
        self.units = (static_units, dynamic_units)
        self.maps_channels = [filters * widths[-1] * skips for widths in reversed(DOWN[form])]

    def build(self, input_shape=None):
        height, width, channels = self.frame_shape
        for encoder in (self.static, self.dynamic):
            encoder.build((None, height, width, self.context * channels))
        self.decoder.build((None, sum(self.units)), self.maps_channels)
        for block in self.blocks:
            block.build((None, self.units[1]))
        self.built = True

    # ---- training

    def loss_terms(self, clip, seed, step=None):
        num_frames, training = clip.shape[1], step is not None
        if num_frames <= self.context:
            raise InputError(
                f"{self.name} reads {self.context} frames, but clips have {num_frames}; set data.seq_len above it"
            )
        first = clip[:, : self.context]
        static = self._static(first, training)
        last = self._static(clip[:, -self.context :], training)
        # In this order, as averages of normalisation are of what was seen last.
        end = self.end_of_part(num_frames, seed)
        part = tf.gather(clip, end - self.context + tf.range(self.context), axis=1)
        decoded = self._decoded(static, self._dynamic(part, training), training)
        code = self._dynamic(first, training)
        frames, norm = [self._decoded(static, code, training)], 0.5 * tf.reduce_sum(tf.square(code), -1)
        truth = clip if self.reconstruct else clip[:, self.context :]
        for _ in range(truth.shape[1] - 1):
            code = self._moved(code)
            frames.append(self._decoded(static, code, training))
        whole = tf.gather(clip, end - self.context * self.reconstruct, axis=1)
        return {
            "autoencoding": tf.reduce_mean(tf.square(decoded - whole), [1, 2, 3]),
            "invariance": _difference(static, last),
            "forecast": tf.reduce_mean(tf.square(tf.stack(frames, 1) - truth), [1, 2, 3, 4]),
            "regularisation": norm,
        }

    def total_loss(self, terms, num_frames, step=None):
        """The weighted terms."""
        return tf.add_n([self.weights_of_terms[name] * term for name, term in terms.items()])

    def end_of_part(self, num_frames: int, seed) -> tf.Tensor:
        """After which frame the part of a clip ends of which one is decoded, the same for a batch."""
        choices = num_frames + self.reconstruct - self.context
        drawn = tf.cast(noise_lib.uniform(noise_lib.fold(seed, 0)) * choices, tf.int32)
        return self.context + tf.minimum(drawn, choices - 1)

    # ---- rollouts

    def start(self, context, num_samples, seeds, stochastic):
        frames = filled_up(context, self.context)
        return tf.nest.map_structure(
            lambda x: tf.tile(x, [num_samples, *[1] * (len(x.shape) - 1)]), self._begin(frames)
        )

    def advance(self, state, length):
        def predict(carry, _):
            return self._moved(carry[0]), self._decoded(state.static, carry[0])

        first = (state.dynamic, tf.zeros_like(state.frames[:, 0]))
        (dynamic, _), frames = scan(predict, tf.range(length), first, keep=lambda carry: carry[1])
        frames = tf.transpose(frames, [1, 0, 2, 3, 4])
        return PDEState(self._last(tf.concat([state.frames, frames], 1)), state.static, dynamic), frames

    def observe_stream(self, state, frame, seeds):
        return self._begin(tf.concat([state.frames, frame[:, None]], 1))

    def _begin(self, frames) -> PDEState:
        """The state after frames, of which the last ones count."""
        frames = self._last(frames)
        dynamic = self._dynamic(frames)
        for _ in range(self.context * self.reconstruct):
            dynamic = self._moved(dynamic)
        return PDEState(frames, self._static(frames), dynamic)

    def _last(self, frames):
        return tf.ensure_shape(frames[:, -self.context :], [None, self.context, *self.frame_shape])

    # ---- codes

    def _static(self, frames, training: bool = False) -> Static:
        code, maps = self.static(self._side_by_side(frames), training=training)
        return Static(code, maps if self.skips else ())

    def _dynamic(self, frames, training: bool = False) -> tf.Tensor:
        return tf.cast(self.dynamic(self._side_by_side(frames), training=training)[0], tf.float32)

    def _moved(self, code) -> tf.Tensor:
        """The dynamic code of the next frame; float32, or small steps would be lost in rounding."""
        for block in self.blocks:
            code += tf.cast(block(code), tf.float32)
        return code

    def _decoded(self, static: Static, dynamic, training: bool = False) -> tf.Tensor:
        code = tf.concat([static.code, tf.cast(dynamic, static.code.dtype)], -1)
        frame = self.decoder(code, static.maps, training=training)
        return tf.sigmoid(frame) if self.sigmoid else frame

    def _side_by_side(self, frames) -> tf.Tensor:
        """Channels of the first frame first."""
        height, width, channels = self.frame_shape
        return tf.reshape(tf.transpose(frames, [0, 2, 3, 1, 4]), [-1, height, width, self.context * channels])


def _difference(a: Static, b: Static) -> tf.Tensor:
    """The mean squared difference per clip over all numbers of a code and its maps."""
    pairs = zip((a.code, *a.maps), (b.code, *b.maps), strict=True)
    squares = [tf.square(tf.cast(x - y, tf.float32)) for x, y in pairs]
    sums = tf.add_n([tf.reduce_sum(x, list(range(1, len(x.shape)))) for x in squares])
    return sums / sum(x.shape[1:].num_elements() for x in squares)
