"""Cells and their blocks against NumPy, written from the papers' equations, and against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.errors import InputError
from htsr.layers.conv_lstm import ConvLSTMCell, ConvLSTMState
from htsr.layers.convolution import MapNormalisation, NormalisedConv
from htsr.models.recurrent.blocks.attention import SelfAttentionMemory
from htsr.models.recurrent.blocks.ce import ContextEmbedding
from htsr.models.recurrent.blocks.se import SpatiotemporalExpression
from htsr.models.recurrent.cells import make_cells
from htsr.models.recurrent.cells.causal_lstm import CausalLSTMCell
from htsr.models.recurrent.cells.cms_lstm import CMSLSTMCell
from htsr.models.recurrent.cells.gmg import GMGCell
from htsr.models.recurrent.cells.mau import MAUCell
from htsr.models.recurrent.cells.mim import MIMCell
from htsr.models.recurrent.cells.sa_conv_lstm import SAConvLSTMCell, SAConvLSTMState
from htsr.models.recurrent.cells.st_lstm import STLSTMCell, STLSTMState
from htsr.models.swin_lstm.cell import SwinLSTMCell
from htsr.ops.scan import scan

rng = np.random.default_rng(0)
ROWS, COLUMNS, CHANNELS, FILTERS = 4, 8, 3, 5

pytestmark = pytest.mark.usefixtures("plain_graphs")


def maps(*channels):
    made = [rng.normal(size=(2, ROWS, COLUMNS, n)).astype(np.float32) for n in channels]
    return made if len(made) > 1 else made[0]


def randomised(layer, *calls):
    """The layer, built, with weights that leave nothing at its neutral value."""
    layer(*calls)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape, scale=0.3))
    return layer


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def conv(layer, x):
    """What a ``NormalisedConv`` or ``Conv2D`` does, tap by tap."""
    inner = layer.conv if isinstance(layer, NormalisedConv) else layer
    if isinstance(inner, keras.layers.SeparableConv2D):
        depthwise, pointwise = inner.depthwise_kernel.numpy(), inner.pointwise_kernel.numpy()[0, 0]
        kernel = np.einsum("yxc,cd->yxcd", depthwise[..., 0], pointwise)
    else:
        kernel = inner.kernel.numpy()
    size = len(kernel)
    padded = np.pad(x, [(0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)])
    taps = [(y, x) for y in range(size) for x in range(size)]
    out = sum(padded[:, y : y + x_.shape[1], x : x + x_.shape[2]] @ kernel[y, x] for x_ in [x] for y, x in taps)
    out = out + inner.bias.numpy() if inner.use_bias else out
    return out if layer is inner or layer.norm is None else normalised(layer.norm, out)


def normalised(norm, x):
    mean, variance = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
    return norm.gamma.numpy() * (x - mean) / np.sqrt(variance + 1e-5) + norm.beta.numpy()


def attended(q, k, v):
    logits = q @ k.swapaxes(-1, -2)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def conv_lstm(cell, x, h, c):
    i, f, g, o = np.split(conv(cell.inputs_conv, x) + conv(cell.hidden_conv, h), 4, -1)
    c = sigmoid(f + cell.forget_bias) * c + sigmoid(i) * np.tanh(g)
    c = c if cell.norm is None else normalised(cell.norm, c)
    return sigmoid(o) * np.tanh(c), c


def st_lstm(cell, x, h, c, m):
    i, f, g, i2, f2, g2, o = np.split(conv(cell.inputs_conv, x), 7, -1)
    hi, hf, hg, ho = np.split(conv(cell.hidden_conv, h), 4, -1)
    mi, mf, mg = np.split(conv(cell.memory_conv, m), 3, -1)
    c = sigmoid(f + hf + cell.forget_bias) * c + sigmoid(i + hi) * np.tanh(g + hg)
    m = sigmoid(f2 + mf + cell.forget_bias) * m + sigmoid(i2 + mi) * np.tanh(g2 + mg)
    both = np.concatenate([c, m], -1)
    return sigmoid(o + ho + conv(cell.output_conv, both)) * np.tanh(conv(cell.join, both)), c, m


def context_embedding(block, x, h):
    for step in range(1, block.steps + 1):
        if step % 2:
            x = 2 * sigmoid(conv(block.inputs_gate, h)) * x
        else:
            h = 2 * sigmoid(conv(block.hidden_gate, x)) * h
    return x, h


def spatiotemporal_expression(block, h, c):
    both, n = np.stack([h, c], 3), h.shape[-1]  # (batch, row, column, half, channel)
    projected = conv(block.attention, both.reshape(2, ROWS, 2 * COLUMNS, n)).reshape(2, ROWS, COLUMNS, 2, -1)
    results = []
    for number, scale in enumerate(block.scales):
        q, k, v = np.split(projected[..., 3 * n * number : 3 * n * (number + 1)], 3, -1)
        result = np.empty_like(both)
        height, width = ROWS // scale, COLUMNS // scale
        for a in range(scale):
            for b in range(scale):
                block_of = np.s_[:, a * height : (a + 1) * height, b * width : (b + 1) * width]
                tokens = (part[block_of].reshape(2, -1, n) for part in (q, k, v))
                result[block_of] = attended(*tokens).reshape(2, height, width, 2, n)
        results.append(result + both)
    side_by_side = np.concatenate(results, -1).transpose(0, 1, 3, 2, 4).reshape(2, ROWS, 2 * COLUMNS, -1)
    z = conv(block.join_scales, side_by_side)
    z = conv(block.join_halves, np.concatenate([z[:, :, :COLUMNS], z[:, :, COLUMNS:]], -1))
    i, g, o = np.split(conv(block.update_hidden, h) + conv(block.update_attended, z), 3, -1)
    c = (1 - sigmoid(i)) * c + sigmoid(i) * np.tanh(g)
    c = c if block.norm is None else normalised(block.norm, c)
    return sigmoid(o) * c, c


def attention_memory(block, h, m):
    keys = block.key_filters or h.shape[-1]

    def tokens(x):
        return x.reshape(2, ROWS * COLUMNS, -1)

    q, k, v = np.split(tokens(conv(block.from_hidden, h)), [keys, 2 * keys], -1)
    k_memory, v_memory = np.split(tokens(conv(block.from_memory, m)), [keys], -1)
    z = np.concatenate([attended(q, k, v), attended(q, k_memory, v_memory)], -1)
    z = conv(block.join, z.reshape(2, ROWS, COLUMNS, -1))
    i, g, o = np.split(conv(block.update_hidden, h) + conv(block.update_attended, z), 3, -1)
    m = (1 - sigmoid(i)) * m + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * m, m


@pytest.mark.parametrize("norms", [{}, {"layer_norm": True}, {"cell_norm": True}, {"use_bias": True}])
def test_conv_lstm(norms):
    x, h, c = maps(CHANNELS, FILTERS, FILTERS)
    cell = randomised(ConvLSTMCell(FILTERS, 3, forget_bias=0.7, **norms), x, ConvLSTMState(h, c))
    output, states = cell(x, ConvLSTMState(h, c))
    close(output, states.hidden)
    for ours, theirs in zip(states, conv_lstm(cell, x, h, c), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_st_lstm(layer_norm):
    x, h, c, m = maps(CHANNELS, FILTERS, FILTERS, FILTERS)
    cell = randomised(STLSTMCell(FILTERS, 3, layer_norm=layer_norm), x, STLSTMState(h, c, m))
    output, states = cell(x, STLSTMState(h, c, m))
    close(output, states.hidden)
    for ours, theirs in zip(states, st_lstm(cell, x, h, c, m), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize(
    "arguments", [{}, {"key_filters": 2}, {"memory_kernel_size": 3}, {"layer_norm": True, "memory_kernel_size": 3}]
)
def test_sa_conv_lstm(arguments):
    x, h, c, m = maps(CHANNELS, FILTERS, FILTERS, FILTERS)
    cell = randomised(SAConvLSTMCell(FILTERS, 3, **arguments), x, SAConvLSTMState(h, c, m))
    output, states = cell(x, SAConvLSTMState(h, c, m))
    h, c = conv_lstm(cell.lstm, x, h, c)
    h, m = attention_memory(cell.attention, h, m)
    close(output, h)
    for ours, theirs in zip(states, (h, c, m), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("arguments", [{}, {"steps": 1}, {"steps": 4, "layer_norm": False}])
def test_context_embedding(arguments):
    x, h = maps(CHANNELS, FILTERS)
    block = randomised(ContextEmbedding(**arguments), x, h)
    for ours, theirs in zip(block(x, h), context_embedding(block, x, h), strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("arguments", [{}, {"scales": [2]}, {"scales": [4, 1], "layer_norm": False, "kernel_size": 3}])
def test_spatiotemporal_expression(arguments):
    h, c = maps(FILTERS, FILTERS)
    block = randomised(SpatiotemporalExpression(**arguments), h, c)
    for ours, theirs in zip(block(h, c), spatiotemporal_expression(block, h, c), strict=True):
        close(ours, theirs)


def test_cms_lstm():
    x, h, c = maps(CHANNELS, FILTERS, FILTERS)
    cell = randomised(CMSLSTMCell(FILTERS), x, ConvLSTMState(h, c))
    output, states = cell(x, ConvLSTMState(h, c))
    x, h = context_embedding(cell.ce, x, h)
    h, c = spatiotemporal_expression(cell.se, *conv_lstm(cell.cell, x, h, c))
    close(output, h)
    close(states.hidden, h)
    close(states.cell, c)


def test_blocks_around_an_st_lstm_leave_its_memory_alone():
    x, h, c, m = maps(CHANNELS, FILTERS, FILTERS, FILTERS)
    inner = STLSTMCell(FILTERS, 3)
    cell = randomised(CMSLSTMCell(FILTERS, cell=inner), x, STLSTMState(h, c, m))
    _, states = cell(x, STLSTMState(h, c, m))
    x, h = context_embedding(cell.ce, x, h)
    h, c, m = st_lstm(inner, x, h, c, m)
    h, c = spatiotemporal_expression(cell.se, h, c)
    for ours, theirs in zip(states, (h, c, m), strict=True):
        close(ours, theirs)
    assert cell.handed == ("memory",)


def test_without_blocks_and_norms_all_are_the_conv_lstm_of_keras():
    frames = rng.normal(size=(2, 6, ROWS, COLUMNS, CHANNELS)).astype(np.float32)
    theirs = keras.layers.ConvLSTM2D(
        FILTERS, 3, padding="same", recurrent_activation="sigmoid", unit_forget_bias=False, return_sequences=True
    )
    theirs(frames)
    bias = rng.normal(size=4 * FILTERS).astype(np.float32)
    theirs.cell.bias.assign(bias)
    ours = ConvLSTMCell(FILTERS, 3, forget_bias=0.0, use_bias=True)
    cms = CMSLSTMCell(FILTERS, 3, ce=0, se=(), layer_norm=False)  # with a forget bias of 1
    for cell, conv_cell in ((ours, ours), (cms, cms.cell)):
        states = cell.initial_state(frames[:, 0])
        cell(frames[:, 0], states)
        conv_cell.inputs_conv.conv.kernel.assign(theirs.cell.kernel)
        conv_cell.hidden_conv.conv.kernel.assign(theirs.cell.recurrent_kernel)
        conv_cell.inputs_conv.conv.bias.assign(bias)

    def outputs(cell):
        states, found = cell.initial_state(frames[:, 0]), []
        for t in range(6):
            output, states = cell(frames[:, t], states)
            found.append(output)
        return np.stack(found, 1)

    close(outputs(ours), theirs(frames))
    theirs.cell.bias.assign(bias + np.repeat(np.float32([0, 1, 0, 0]), FILTERS))
    close(outputs(cms), theirs(frames))


CELLS = {
    "conv_lstm": lambda: ConvLSTMCell(6, 3),
    "st_lstm": lambda: STLSTMCell(6, 3, layer_norm=True),
    "sa_conv_lstm": lambda: SAConvLSTMCell(6, 3, key_filters=2),
    "causal_lstm": lambda: CausalLSTMCell(6, 3, layer_norm=True, highway=True),
    "mim": lambda: MIMCell(6, 3, layer_norm=True, truncated=True),
    "swin_lstm": lambda: SwinLSTMCell(2, heads=1),
    "mau": lambda: MAUCell(2, 3, tau=2),
    "gmg": lambda: GMGCell(6, 3, layer_norm=True, key_filters=2, trend_decay="step"),
    "motionrnn": lambda: GMGCell(6, 3, focus=False, offsets="published"),
    "cms_lstm": lambda: CMSLSTMCell(6),
    "cms_lstm around an ST-LSTM": lambda: CMSLSTMCell(6, ce=2, se=[2], cell=STLSTMCell(6, 3)),
}


@pytest.mark.parametrize("arguments", [{"name": "causal_lstm"}, {"name": "mim"}, {"name": "swin_lstm", "heads": 1}])
def test_blocks_around_any_cell(arguments):
    """CE gates what the cell is given, SE updates the hidden and cell state it makes; other states pass by."""
    x = maps(FILTERS)
    cell = make_cells({**arguments, "ce": 2, "se": [2]}, [FILTERS, FILTERS], 3, False, "float32")[1]
    plain = cell.cell
    states = cell.initial_state(x)
    cell.build(x.shape)
    states = tf.nest.map_structure(lambda s: tf.constant(rng.normal(size=s.shape).astype(np.float32)), states)
    output, new = cell(x, states)
    gated, hidden = cell.ce(x, states.hidden)
    _, want = plain(gated, states._replace(hidden=hidden))
    hidden, updated = cell.se(want.hidden, want.cell)
    close(output, hidden)
    for ours, theirs in zip(
        *(tf.nest.flatten(s) for s in (new, want._replace(hidden=hidden, cell=updated))), strict=True
    ):
        close(ours, theirs)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_in_a_keras_model_of_ones_own(name, tmp_path):
    frames = keras.Input((2, 8, 8, 2))
    cell = CELLS[name]()
    states = cell.initial_state(frames[:, 0])
    for t in range(2):
        output, states = cell(frames[:, t], states)
    model = keras.Model(frames, keras.layers.Conv2D(2, 1)(output))
    model.compile("adam", "mse")
    x = rng.random((4, 2, 8, 8, 2)).astype(np.float32)
    before = [v.numpy() for v in cell.trainable_variables]
    model.fit(x, x[:, -1], verbose=0)
    after = [v.numpy() for v in cell.trainable_variables]
    assert all(np.isfinite(v).all() for v in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    model.save(tmp_path / "model.keras")
    close(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def test_gradient_of_the_normalisation():
    """Written by hand, against Keras's; in a loop as well."""
    x = tf.constant(maps(4))
    ours, theirs = MapNormalisation(), keras.layers.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5)
    for layer in (ours, theirs):
        layer.build(x.shape)
    weights = [rng.normal(size=w.shape) for w in theirs.weights]
    found = []
    for layer in (ours, theirs):
        layer.set_weights(weights)

        @tf.function
        def both(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                last, _ = scan(lambda x, _: tf.sin(layer(x)), tf.range(3), x)
                loss = tf.reduce_sum(last * tf.range(4, dtype=tf.float32))
            return [loss, *tape.gradient(loss, [x, *(w.value for w in layer.weights)])]

        found.append(both())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_start_of_a_depthwise_kernel():
    """Uniform in +-1/3, as in PyTorch: every filter sees the 3x3 pixels of one channel."""
    layer = NormalisedConv(12, 3, separable=True)
    layer.build((None, 8, 8, 64))
    assert 0.3 < np.abs(layer.conv.depthwise_kernel).max() <= 1 / 3
    assert 0.1 < np.abs(layer.conv.pointwise_kernel).max() <= 1 / 8


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_mixed_precision_stays_near(dtype):
    x = maps(CHANNELS)
    keras.utils.set_random_seed(0)
    full = CMSLSTMCell(8)
    output, _ = full(x, full.initial_state(x))
    other = CMSLSTMCell(8, dtype=dtype)
    x = tf.cast(x, other.compute_dtype)
    other.build(x.shape)
    other.set_weights(full.get_weights())
    ours, states = other(x, other.initial_state(x))
    assert {value.dtype.name for value in states} == {other.compute_dtype}
    np.testing.assert_allclose(tf.cast(ours, tf.float32), output, rtol=0, atol=0.1 if "16" in dtype else 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvLSTMCell(0), "filters must be at least 1, received 0"),
        (lambda: ConvLSTMCell(4, 4), "kernel_size must be odd and at least 1, received 4"),
        (lambda: ContextEmbedding(0), "steps must be at least 1, received 0"),
        (lambda: SpatiotemporalExpression([]), r"scales must be one or more .* received \[\]"),
        (lambda: SpatiotemporalExpression([3])(*maps(2, 2)), "must divide the grid of 4x8, which 3 does not"),
        (lambda: SelfAttentionMemory(0), "filters must be at least 1, received 0"),
        (lambda: SelfAttentionMemory(attended_filters=0), "filters must be at least 1, received 0"),
        (lambda: CMSLSTMCell(16, cell=STLSTMCell(8, 3)), "filters is 16, but the cell has 8"),
        (lambda: NormalisedConv(2, 3).build((None, None, 4, 2)), "needs rows and columns that are known"),
        (lambda: SpatiotemporalExpression().build((None, None, 4, 2)), "SE needs rows and columns that are known"),
    ],
)
def test_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
