"""GQN-Mazes: first-person walks through mazes, 300 frames of 64x64 RGB (Eslami et al. 2018; Clockwork VAE's version).

Read from the published layout, ``train/`` and ``test/`` with .mp4 or .avi files, or from the zip archive it comes in;
or a synthetic stand-in, where it is asked for.
"""

from typing import Literal

from htsr.checks import require_choice
from htsr.data.clips import SPLITS, Clips
from htsr.data.stand_ins import find_folder
from htsr.data.video.cache import Damaged, open_videos
from htsr.data.video.files import find_videos, frame_format
from htsr.data.video.windows import by_folder, described, video_clips, whole


def mazes(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    datadir: str | None = None,
    stand_in: Literal["generated", "labmaze"] | None = None,
    image_size: int | tuple[int, int] = 64,
    channels: int = 3,
    stride: int = 1,
    hop: int = 1,
    damaged: Damaged = "refuse",
) -> Clips:
    """Clips of walks through mazes, windows of (seq_len, height, width, channels).

    Args:
        split: "train", "valid" or "test"; "valid" is the last twentieth of the training files by name, at least one.
        seq_len: frames per clip; the published videos have 300, so 36 + 264 are the most an evaluation can use.
        datadir: folder with ``train`` and ``test`` (also in ``GQN-Mazes/``), or with the zip archive.
        stand_in: what is drawn once where there is no ``datadir``: "generated": mazes with layouts and textures made
            here; "labmaze": with those of DeepMind Lab, from the package of that name.
        batch_size, seed, image_size, channels, stride, hop, damaged: as in `htsr.data.videos.videos`.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or all too short.
    """
    require_choice("split", split, SPLITS)
    form = frame_format(image_size, channels, "stretch")
    folder, resolved = find_folder("mazes", datadir, stand_in)
    what, note = described("GQN-Mazes", split, folder)
    found = by_folder(find_videos(folder), folder, split)
    store = open_videos(found, form, what=what, damaged=damaged)
    arguments = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "hop": hop, "stride": stride}
    return video_clips(store, whole(store), split, **arguments, what=what, note=note, resolved=resolved)
