"""Datasets by name, all giving the same clips; this package never imports TensorFlow before a training pipeline is built."""

import difflib

from htsr.data.clips import Clips
from htsr.data.moving_mnist import moving_mnist
from htsr.errors import InputError

DATASETS = {"moving_mnist": moving_mnist}
SPLITS = ("train", "valid", "test")


def load_clips(name: str, split: str, *, batch_size: int, seq_len: int, seed: int = 0, **dataset_arguments) -> Clips:
    """The clips of one split of a dataset.

    Args:
        name: a key of ``DATASETS``.
        split: "train", "valid" or "test".
        batch_size: clips per batch.
        seq_len: frames per clip.
        seed: of the training order and of clips drawn on the fly.
        dataset_arguments: as in the signature of ``DATASETS[name]``.

    Returns:
        `htsr.data.clips.Clips`

    Raises:
        InputError: an unknown name or split, a refused argument, a missing or damaged file.

    Example:
        >>> clips = load_clips("moving_mnist", "test", batch_size=4, seq_len=36, num_digits=1)
        >>> clips.shape, clips.num_clips
        ((36, 64, 64, 1), 1000)
    """
    if name not in DATASETS:
        raise InputError(f"unknown dataset {name!r}{_nearest(name, DATASETS)}; known: {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}{_nearest(split, SPLITS)}; known: {', '.join(SPLITS)}")
    return DATASETS[name](split, batch_size=batch_size, seq_len=seq_len, seed=seed, **dataset_arguments)


def _nearest(name, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
