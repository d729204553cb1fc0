"""Datasets by name, all giving the same clips; TensorFlow is not imported before a training pipeline is built."""

from htsr.checks import require_choice
from htsr.data.clips import Clips
from htsr.data.kth import kth
from htsr.data.mazes import mazes
from htsr.data.moving_mnist import moving_mnist
from htsr.data.radar import radar
from htsr.data.taxibj import taxibj
from htsr.data.videos import videos
from htsr.data.weatherbench import weatherbench

DATASETS = {
    "moving_mnist": moving_mnist,
    "kth": kth,
    "mazes": mazes,
    "videos": videos,
    "taxibj": taxibj,
    "weatherbench": weatherbench,
    "radar": radar,
}


def load_clips(name: str, split: str, *, batch_size: int, seq_len: int, seed: int = 0, **dataset_arguments) -> Clips:
    """The clips of one split of a dataset.

    Args:
        name: a key of ``DATASETS``.
        split: "train", "valid" or "test".
        batch_size: clips per batch.
        seq_len: frames per clip.
        seed: of the training order, and of clips drawn on the fly.
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
    require_choice("dataset", name, DATASETS)
    return DATASETS[name](split, batch_size=batch_size, seq_len=seq_len, seed=seed, **dataset_arguments)
