"""Names of DDPAE's parameters in the authors' code."""

from collections.abc import Mapping
from typing import Any

from htsr.published.fc_lstm import cell_pairs
from htsr.published.layouts import Pairs, Recipe, layer_pairs, same, vector_norm_pairs
from htsr.published.readers.tensors import Contents, axis

SIGNATURE = ("pose_model.image_encoder.main.0.weight", "content_lstm.out_layer.weight", "object_decoder.main.0.weight")
UNREAD = r".*\.num_batches_tracked"
PUBLISHED = {"context": 10, "scale": 2.0}

_CELLS = {
    "encoder": "pose_model.encode_rnn",
    "predictor": "pose_model.predict_rnn",
    "initial": "pose_model.initial_pose_rnn",
    "content": "content_lstm.encoder",
}


def pairs(model) -> Pairs:
    """The variables of a ``DDPAE`` model, and where they are; PyTorch's LSTMs have two biases, which are summed."""
    found = layer_pairs(model.to_move, "pose_model.beta_mu_layer", "pose_model.beta_sigma_layer")
    found += layer_pairs(model.to_pose, "pose_model.initial_pose_mu", "pose_model.initial_pose_sigma")
    found += layer_pairs(model.to_code, "content_lstm.out_layer")
    for ours, theirs in _CELLS.items():
        found += cell_pairs(getattr(model, ours), theirs, 0)
    found += _encoder_pairs(model.frame_encoder, "pose_model.image_encoder.main")
    found += _encoder_pairs(model.object_encoder, "object_encoder.main")
    return found + _decoder_pairs(model.object_decoder, "object_decoder.main")


def _encoder_pairs(encoder, name: str) -> Pairs:
    """Convolutions, each with a normalisation and a ReLU but the first one, which has the ReLU alone; the last one is a
    dense layer here."""
    found = layer_pairs(encoder.convs[0], f"{name}.0")
    for i, (conv, norm) in enumerate(zip(encoder.convs[1:], encoder.norms, strict=True)):
        found += layer_pairs(conv, f"{name}.{3 * i + 2}") + _norm_pairs(norm, f"{name}.{3 * i + 3}")
    last = f"{name}.{3 * len(encoder.norms) + 2}.weight"
    return [*found, (encoder.dense.kernel, Recipe((last,), lambda a: a.transpose(2, 3, 1, 0).reshape(-1, len(a))))]


def _decoder_pairs(decoder, name: str) -> Pairs:
    """Transposed convolutions, each with a normalisation and a ReLU but the last one; the first one is a dense layer
    here."""
    found = [
        (decoder.dense.kernel, Recipe((f"{name}.0.weight",), lambda a: a.transpose(0, 2, 3, 1).reshape(len(a), -1)))
    ]
    for i, (conv, norm) in enumerate(zip(decoder.convs, decoder.norms, strict=True)):
        found += _norm_pairs(norm, f"{name}.{3 * i + 1}") + layer_pairs(conv, f"{name}.{3 * i + 3}")
    return found


def _norm_pairs(norm, name: str) -> Pairs:
    averages = [(norm.moving_mean, same(f"{name}.running_mean")), (norm.moving_variance, same(f"{name}.running_var"))]
    return vector_norm_pairs(norm, name) + averages


def infer(contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes and names say of the model: all but how many components there are, and their scale."""
    del given
    tensors, image = contents.tensors, "pose_model.image_encoder.main"
    halvings = 1
    while f"{image}.{3 * halvings + 2}.weight" in tensors:
        halvings += 1
    side, last = 4 * 2**halvings, f"{image}.{3 * halvings - 1}.weight"
    return {
        "frame_shape": [side, side, axis(tensors, SIGNATURE[0], 1)],
        "filters": axis(tensors, SIGNATURE[0], 0),
        "frame_units": axis(tensors, last, 0),
        "content_units": axis(tensors, "object_decoder.main.0.weight", 0),
        "units": axis(tensors, "pose_model.encode_rnn.weight_hh_l0", 1),
    }
