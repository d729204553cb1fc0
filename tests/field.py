"""A model that trains in seconds, and small videos, for tests of what users' files and machines do."""

import numpy as np
import yaml

TINY = {
    "model": {
        "name": "recurrent", "cell": "conv_lstm", "filters": [8], "kernel_size": 3, "patch_size": 4, "context": 4,
    },
    "data": {"name": "videos", "image_size": 16, "channels": 1, "seq_len": 8, "batch_size": 2},
    "train": {
        "steps": 2, "log_every": 1, "valid_every": 2, "valid_context": 4, "valid_horizon": 4, "valid_examples": 1,
        "checkpoint_every": 2,
    },
    "eval": {"context": 4, "horizon": 4, "num_examples": None, "lpips": False, "num_pictures": 0},
}  # fmt: skip


def config(folder, **changes):
    """Write the config of the tiny model, with changes by section: its path."""
    content = {section: values | changes.get(section, {}) for section, values in TINY.items()}
    path = folder / "tiny.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def noise(seed, frames=40, size=16):
    """A video whose frames occur nowhere else, uint8 (frame, size, size, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 1), np.uint8)


def write(folder, **videos):
    """Write arrays as .npy videos: the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in videos.items():
        np.save(folder / f"{name}.npy", frames)
    return folder
