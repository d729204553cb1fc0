"""Translators that are a chain of blocks."""

from abc import abstractmethod

import keras
import numpy as np
import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.models.simvp.parts import dense
from htsr.ops import noise as noise_lib


class Block(keras.layers.Layer):
    """One block of a chain. A subclass writes ``build`` and ``call``.

    Args:
        mlp_ratio: channels of its MLP, as a multiple of the block's.
        index: its place in the chain.
        widens: whether the chain changes the number of channels after it.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        kept: float32 ``(batch, branches)`` by which its branches are multiplied, or None for 1.
        training: whether batch normalisation is by the batch.

    Returns:
        The shape of ``x``.

    Attributes:
        branches: branches that may be dropped.
        divisor: divides the channels.
    """

    branches = 2
    divisor = 1

    def __init__(self, mlp_ratio: int = 8, index: int = 0, widens: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.mlp_ratio, self.index, self.widens = mlp_ratio, index, widens

    @abstractmethod
    def call(self, x, kept=None, training=False): ...

    def scale(self, name: str, channels: int, start: float):
        """A weight a channel, from ``start`` on."""
        return self.add_weight(name=name, shape=(channels,), initializer=keras.initializers.Constant(start))

    def get_config(self):
        return {**super().get_config(), "mlp_ratio": self.mlp_ratio, "index": self.index, "widens": self.widens}


def share(branch, kept, number: int):
    """A branch, zero in the clips that it is dropped for."""
    return branch if kept is None else branch * tf.cast(kept[:, number], branch.dtype)[:, None, None, None]


def draw_kept(rates: np.ndarray, clip, seed, number: int):
    """Return what branches are multiplied by in a training step, in block ``number`` of a clip.

    Args:
        rates: float32 ``(branches,)``, the share of clips for which each one is dropped.
        clip: the batch.
        seed: int32 scalar.
        number: of the block of frames.

    Returns:
        float32 ``(batch, branches)``, or None where none is ever dropped.
    """
    if not rates.any():
        return None
    seeds = noise_lib.fold(noise_lib.fold(seed, number), noise_lib.rows(tf.shape(clip)[0]))
    kept = noise_lib.uniform(noise_lib.fold(seeds[:, None], tf.range(len(rates)))) >= rates
    return tf.cast(kept, tf.float32) / (1.0 - rates)


class Chain(keras.layers.Layer):
    """Blocks one after the other, 1x1 convolutions where the number of channels changes (MidMetaNet of OpenSTL).

    Args:
        block: their class.
        channels: in and out.
        filters: channels within.
        depth: number of blocks. The first one works on ``channels``, the others on ``filters``.
        mlp_ratio: as in ``Block``.
        drop_path: share of clips for which a branch of the last block is dropped in training; of the first one it is
            0.01, in between on the line.

    Call arguments:
        x: ``(batch, rows, columns, channels)``.
        kept: float32 ``(batch, branches)`` of all blocks in their order, or None for 1.
        training: whether batch normalisation is by the batch.

    Returns:
        The same shape.
    """

    def __init__(self, block, channels: int, filters=512, depth=8, mlp_ratio=8, drop_path=0.0, **kwargs):
        super().__init__(**kwargs)
        for name, number in {"filters": filters, "mlp_ratio": mlp_ratio}.items():
            require_int(f"translator {name}", number, 1)
        require_int("translator depth", depth, 2)
        if not 0 <= drop_path < 1:
            raise InputError(f"translator drop_path must be at least 0 and below 1, received {drop_path}")
        self.widths = [channels, *[filters] * (depth - 1), channels]
        for width in self.widths:
            if width % block.divisor:
                raise InputError(
                    f"{block.__name__} needs channels that {block.divisor} divides, received {width}: change "
                    "model.filters, model.context or translator filters"
                )
        policy = self.dtype_policy
        changes = [a != b for a, b in zip(self.widths[:-1], self.widths[1:], strict=True)]
        self.blocks = [block(mlp_ratio, i, change, name=f"block{i}", dtype=policy) for i, change in enumerate(changes)]
        self.projections = [
            dense(*self.widths[i : i + 2], f"projection{i}", policy) for i, change in enumerate(changes) if change
        ]
        rates = np.linspace(0.01, drop_path, depth)
        self.drop_rates = np.concatenate([np.repeat(rate, block.branches) for rate in rates]).astype(np.float32)

    def build(self, shape):
        projections = iter(self.projections)
        for block, width in zip(self.blocks, self.widths, strict=False):
            shape = (*shape[:-1], width)
            block.build(shape)
            if block.widens:
                next(projections).build(shape)

    def call(self, x, kept=None, training=False):
        projections = iter(self.projections)
        for i, block in enumerate(self.blocks):
            n = block.branches
            x = block(x, None if kept is None else kept[:, n * i : n * (i + 1)], training=training)
            x = next(projections)(x) if block.widens else x
        return x
