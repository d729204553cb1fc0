"""E3D-LSTM: a stack of eidetic 3-D LSTMs over windows of two frames."""

from collections.abc import Sequence

import tensorflow as tf

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.layers.convolution import conv
from htsr.models.e3d_lstm.cell import E3DLSTMCell
from htsr.models.next_frame import Loss, NextFramePredictor, Sampling
from htsr.models.recurrent.patches import from_patches, to_patches


class E3DLSTM(NextFramePredictor):
    """E3D-LSTM (Wang et al., ICLR 2019), as OpenSTL builds it.

    The input of a step is the frame and the one before it, in patches (zeros before the first one). The memory is
    handed from layer to layer, and from the last layer to the first one of the next step. A convolution over both
    moments of the last hidden state is the prediction of the next frame's patches, without activation.

    Args:
        frame_shape: height, width, channels; ``patch_size`` divides height and width.
        filters: of the layers, all the same.
        kernel_size: of the cells' convolutions.
        patch_size: side of a patch.
        history: steps that a cell attends to; from one less than the frames of a clip on, nothing is forgotten in
            training. Time and memory of a step grow with it.
        remember: whether the memory is kept from step to step; OpenSTL's is not, by mistake, and its weights need that.
        context, loss, sampling, sampling_steps: as in ``RecurrentPredictor``.
        dtype: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """

    exports = frozenset({"tflite"})

    def __init__(
        self,
        frame_shape: tuple[int, int, int] = (64, 64, 1),
        filters: Sequence[int] = (128, 128, 128, 128),
        kernel_size: int = 5,
        patch_size: int = 4,
        history: int = 20,
        remember: bool = True,
        context: int = 10,
        loss: Loss = "l1_l2",
        sampling: Sampling = "scheduled",
        sampling_steps: int = 50000,
        dtype: str = "float32",
    ):
        options = {"context": context, "loss": loss, "sampling": sampling, "sampling_steps": sampling_steps}
        super().__init__(frame_shape, dtype, name="e3d_lstm", **options)
        height, width, channels = frame_shape
        if patch_size < 1 or height % patch_size or width % patch_size:
            raise InputError(
                f"patch_size must divide the frame's {height}x{width} pixels, received {patch_size}; resize or crop "
                "the frames, or choose another patch size"
            )
        if not isinstance(filters, Sequence) or not filters or len(set(filters)) > 1:
            raise InputError(f"filters must be the same number for every layer, received {filters}")
        require_int("history", history, 1)
        self.patch_size, policy = patch_size, self.dtype_policy
        self.grid = (height // patch_size, width // patch_size, channels * patch_size**2)
        self.cells = [
            E3DLSTMCell(size, kernel_size, history, remember, name=f"cell{i}", dtype=policy)
            for i, size in enumerate(filters)
        ]
        self.output_conv = conv(self.grid[-1], 1, False, "output", "float32")

    def build(self, input_shape=None):
        rows, columns, channels = self.grid
        for cell in self.cells:
            cell.build((None, rows, columns, 2 * channels))
            channels = cell.filters
        self.output_conv.build((None, rows, columns, 2 * channels))
        self.built = True

    def patches(self, clip):
        return tf.transpose(to_patches(clip, self.patch_size), [1, 0, 2, 3, 4])

    def frames(self, patches):
        return from_patches(tf.transpose(patches, [1, 0, 2, 3, 4]), self.patch_size)

    def initial_states(self, inputs):
        """The frame before, and the states of the layers."""
        maps = tf.cast(inputs, self.compute_dtype)
        return tf.zeros_like(inputs), tuple(cell.initial_state(maps) for cell in self.cells)

    def predict_next(self, layers, inputs):
        before, states = layers
        x, memory, new = tf.concat([before, inputs], -1), states[-1].memory, []
        for cell, old in zip(self.cells, states, strict=True):
            x, state = cell(x, old._replace(memory=memory))
            memory = state.memory
            new.append(state)
        return (inputs, tuple(new)), self.output_conv(x)
