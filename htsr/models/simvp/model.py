"""SimVP: a block of frames from a block of frames, with convolutions alone or with attention."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.block_predictor import BlockPredictor
from htsr.models.simvp.frames import Decoder, Encoder
from htsr.models.simvp.translators import make_translator
from htsr.models.simvp.translators.block import draw_kept


class SimVP(BlockPredictor):
    """SimVP (Gao et al., CVPR 2022; arXiv 2206.05099) and its successors, as OpenSTL builds them.

    An ``Encoder`` makes maps of every frame of the context. Their channels, those of the first frame first, are what
    the translator turns into the channels of the frames to come. A ``Decoder`` makes frames of them, helped by the
    largest maps of the context. Clips that are longer than two blocks train it on its own frames, with the gradient
    through all blocks.

    The translator is that of SimVP (``incep_u``), of its second version (``gsta``), of TAU (``tau``; arXiv 2206.12126)
    or another one of ``htsr.models.simvp.translators``.

    Args:
        frame_shape: height, width, channels.
        context: frames of a block, read and predicted.
        filters: channels of the maps of a frame, even.
        stages: stages of encoder and decoder, even; every second one halves or doubles the maps.
        translator: a name, or a mapping of ``name``, ``filters``, ``depth``, ``mlp_ratio`` and ``drop_path``; see
            ``make_translator``.
        divergence: weight of the differential divergence, 0.1 in TAU.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        context: int = 10,
        filters: int = 64,
        stages: int = 4,
        translator: str | Mapping[str, Any] = "gsta",
        divergence: float = 0.0,
        dtype: str = "float32",
    ):
        super().__init__(frame_shape, context, context, dtype, name="simvp")
        for name, number in {"filters": filters, "stages": stages}.items():
            require_int(name, number, 2)
            if number % 2:
                raise InputError(f"{name} must be even, received {number}")
        if divergence < 0:
            raise InputError(f"divergence must be at least 0, received {divergence}")
        factor = 2 ** (stages // 2)
        if any(side % factor for side in frame_shape[:2]):
            raise InputError(
                f"height and width must be multiples of {factor}, received {tuple(frame_shape[:2])}; resize or crop "
                "the frames, or take fewer stages"
            )
        self.context, self.divergence, policy = context, divergence, self.dtype_policy
        self.grid = tuple(side // factor for side in frame_shape[:2])
        self.encoder = Encoder(filters, stages, name="encoder", dtype=policy)
        self.translator = make_translator(translator, context * filters, policy)
        self.decoder = Decoder(frame_shape[-1], filters, stages, name="decoder", dtype=policy)

    def build(self, input_shape=None):
        maps = (None, *self.grid, self.encoder.filters)
        self.encoder.build((None, *self.frame_shape))
        self.translator.build((*maps[:-1], self.block * maps[-1]))
        self.decoder.build(maps)
        self.built = True

    def predict_block(self, frames, kept=None, training=False):
        """Predict the next frames.

        Args:
            frames: ``(batch, context, height, width, channel)``.
            kept: float32 ``(batch, branches)`` by which the translator's branches are multiplied, or None for 1.
            training: whether batch normalisation is by the batch.
        """
        rows, columns = self.grid
        time, filters = self.block, self.encoder.filters
        x, first = self.encoder(tf.reshape(frames, [-1, *self.frame_shape]))
        x = tf.transpose(tf.reshape(x, [-1, time, rows, columns, filters]), [0, 2, 3, 1, 4])
        x = self.translator(tf.reshape(x, [-1, rows, columns, time * filters]), kept, training=training)
        x = tf.transpose(tf.reshape(x, [-1, rows, columns, time, filters]), [0, 3, 1, 2, 4])
        frames = self.decoder(tf.reshape(x, [-1, rows, columns, filters]), first)
        return tf.reshape(frames, [-1, time, *self.frame_shape])

    def loss_terms(self, clip, seed, step=None):
        """Return ``l2``, the squared error per clip, its mean over pixels and predicted frames, and ``divergence``
        where it has a weight; outside of training for averages of batch normalisation and without dropped paths."""
        training = step is not None

        def predict(block, number):
            kept = draw_kept(self.translator.drop_rates, clip, seed, number) if training else None
            return self.predict_block(block, kept, training)

        frames, truth = self._unrolled(clip, predict)
        terms = {"l2": tf.reduce_mean(tf.square(frames - truth), [1, 2, 3, 4])}
        if self.divergence:
            terms["divergence"] = differential_divergence(frames, truth)
        return terms

    def total_loss(self, terms, num_frames, step=None):
        """``l2`` and the weighted ``divergence``."""
        return terms["l2"] + self.divergence * terms.get("divergence", 0.0)


def differential_divergence(frames, truth):
    r"""Return TAU's regularisation per clip (arXiv 2206.12126, equations 6 to 9).

    The changes from frame to frame, divided by 0.1, become distributions over pixels by a softmax, :math:`p` of the
    prediction and :math:`q` of the truth; the mean over changes and pixels of :math:`p \ln(p / q)`.

    Args:
        frames, truth: float32 ``(batch, time, height, width, channel)``.

    Returns:
        ``(batch,)``; zero of fewer than three frames.
    """
    if frames.shape[1] < 3:
        return tf.zeros_like(frames[:, 0, 0, 0, 0])

    def changes(x):
        size = tf.reduce_prod(x.shape[2:])
        return tf.nn.softmax(tf.reshape(x[:, 1:] - x[:, :-1], [-1, x.shape[1] - 1, size]) / 0.1)

    p, q = changes(frames), changes(truth)
    return tf.reduce_mean(p * tf.math.log(p / (q + 1e-12) + 1e-12), [1, 2])
