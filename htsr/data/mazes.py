"""GQN-Mazes: first-person walks through mazes, 300 frames of 64x64 RGB (Eslami et al. 2018; Clockwork VAE's version).

Read from the published layout, ``train/`` and ``test/`` with .mp4 or .avi files, or from the zip archive it comes in.
Without files, a synthetic stand-in is generated.
"""

from pathlib import Path
from typing import Literal, get_args

from htsr.checks import require_choice
from htsr.data import stand_ins
from htsr.data.clips import SPLITS, Clips
from htsr.data.video.cache import Damaged, open_videos
from htsr.data.video.files import find_videos, frame_format
from htsr.data.video.windows import by_folder, described, video_clips, whole
from htsr.errors import InputError

StandIn = Literal["builtin", "labmaze"]


def mazes(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    datadir: str | None = None,
    stand_in: StandIn = "builtin",
    image_size: int | tuple[int, int] = 64,
    channels: int = 3,
    stride: int = 1,
    hop: int = 1,
    cache: bool = True,
    damaged: Damaged = "refuse",
) -> Clips:
    """Clips of walks through mazes, windows of (seq_len, height, width, channels).

    Args:
        split: "train", "valid" or "test"; "valid" is the last twentieth of the training files by name, at least one.
        batch_size: clips per batch.
        seq_len: frames per clip; the published videos have 300, so 36 + 264 are the most an evaluation can use.
        seed: of the training order.
        datadir: folder with ``train`` and ``test`` (also in ``GQN-Mazes/``), or with the zip archive. None: the
            synthetic stand-in, generated once.
        stand_in: "builtin" mazes, or layouts and textures of DeepMind Lab ("labmaze", from the package of that name).
        image_size: side of the square frames in pixels, or (height, width).
        channels: 3, or 1 for grey.
        stride: take every n-th frame.
        hop: frames between the beginnings of training clips; those of "valid" and "test" follow each other.
        cache: decode once, for all runs; false decodes whenever a clip is read.
        damaged: refuse, or skip, videos that cannot be decoded to their end.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or all too short.
    """
    require_choice("split", split, SPLITS)
    form = frame_format(image_size, channels, "stretch")
    require_choice("stand_in", stand_in, get_args(StandIn))
    if datadir and stand_in != "builtin":
        raise InputError(f"stand_in={stand_in} has no effect where datadir is set; leave one of them out")
    folder = Path(datadir) if datadir else stand_ins.stand_in("mazes" if stand_in == "builtin" else "mazes-labmaze")
    what, note = described("GQN-Mazes", split, folder)
    found = by_folder(find_videos(folder), folder, split)
    store = open_videos(found, form, what=what, cache=cache, damaged=damaged)
    arguments = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "hop": hop, "stride": stride}
    return video_clips(store, whole(store), split, **arguments, what=what, note=note)
