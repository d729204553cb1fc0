"""CMS-LSTM: a recurrent cell between a context-embedding and a spatiotemporal-expression block."""

from collections.abc import Sequence
from typing import Any

import keras

from htsr.errors import InputError
from htsr.layers.conv_lstm import ConvLSTMCell
from htsr.models.recurrent.blocks.ce import ContextEmbedding
from htsr.models.recurrent.blocks.se import SpatiotemporalExpression


@keras.saving.register_keras_serializable("htsr")
class CMSLSTMCell(keras.layers.Layer):
    """One step of CMS-LSTM (Chai et al., arXiv 2102.03586), or of another cell with its two blocks around it.

    ``ContextEmbedding`` gates input and hidden state; the cell makes new states of them; ``SpatiotemporalExpression``
    updates hidden and cell state, and these are output and state. Any other state passes by both blocks.

    Deviation: the paper reports such transplants (Table 3), but neither text nor code says which state of an ST-LSTM
    or SA-ConvLSTM the second block sees. Here it is hidden and cell state, as in CMS-LSTM itself: the memory of an
    ST-LSTM stays in its own flow from layer to layer, and that of an SA-ConvLSTM has been updated already.

    Args:
        filters: channels of the states.
        kernel_size: of the first block, and of the cell unless one is given.
        ce: half-steps of ``ContextEmbedding``, 0 for no such block.
        se: scales of ``SpatiotemporalExpression``, none for no such block.
        layer_norm: in both blocks, and in the cell unless one is given; without it the gates have a bias, as in the
            paper.
        cell: the recurrent cell, with ``filters`` channels; None: CMS-LSTM's own, a ``ConvLSTMCell`` with a forget
            bias of 1 that also normalises its cell state.

    Call arguments:
        inputs: ``(batch, rows, columns, channels)``.
        states: the cell's.

    Returns:
        The output, which is the new hidden state, and the new states.

    Example:
        >>> import numpy as np
        >>> from htsr.models.recurrent.cells.st_lstm import STLSTMCell
        >>> cell, x = CMSLSTMCell(16, cell=STLSTMCell(16, 3)), np.ones([2, 8, 8, 4], "float32")
        >>> output, states = cell(x, cell.initial_state(x))
        >>> output.shape, states.memory.shape
        (TensorShape([2, 8, 8, 16]), TensorShape([2, 8, 8, 16]))
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        ce: int = 5,
        se: Sequence[int] = (1, 2, 4),
        layer_norm: bool = True,
        cell: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        if cell is None:
            norms = {"layer_norm": layer_norm, "cell_norm": layer_norm, "use_bias": not layer_norm}
            cell = ConvLSTMCell(filters, kernel_size, 1.0, **norms, name="cell", dtype=policy)
        if cell.filters != filters:
            raise InputError(f"filters is {filters}, but the cell has {cell.filters}; give both the same number")
        self.filters, self.kernel_size, self.layer_norm, self.cell = filters, kernel_size, layer_norm, cell
        self.ce = ContextEmbedding(ce, kernel_size, layer_norm, name="ce", dtype=policy) if ce else None
        self.se = SpatiotemporalExpression(se, layer_norm=layer_norm, name="se", dtype=policy) if se else None

    @property
    def state_type(self) -> type:
        return self.cell.state_type

    @property
    def handed(self) -> tuple[str, ...]:
        return self.cell.handed

    def build(self, inputs_shape):
        state = (*inputs_shape[:-1], self.filters)
        if not self.cell.built:  # a cell of its own may come from a file, built
            self.cell.build(inputs_shape)
        if self.ce is not None:
            self.ce.build(inputs_shape, state)
        if self.se is not None:
            self.se.build(state)

    def initial_state(self, inputs):
        """Zeros for inputs of this shape."""
        return self.cell.initial_state(inputs)

    def call(self, inputs, states):
        states = self.state_type(*states)
        if self.ce is not None:
            inputs, hidden = self.ce(inputs, states.hidden)
            states = states._replace(hidden=hidden)
        _, states = self.cell(inputs, states)
        if self.se is not None:
            hidden, cell = self.se(states.hidden, states.cell)
            states = states._replace(hidden=hidden, cell=cell)
        return states.hidden, states

    def get_config(self):
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "ce": self.ce.steps if self.ce else 0,
            "se": list(self.se.scales) if self.se else [],
            "layer_norm": self.layer_norm,
            "cell": keras.saving.serialize_keras_object(self.cell),
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})
