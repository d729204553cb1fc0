"""Any videos: a folder with one file a video or one sub-folder of images a video, or what ``prepare.py`` made of it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from htsr.data.cache import CachedVideos, Damaged, StoredVideo, open_videos
from htsr.data.clips import SPLITS, Clips, require_choice
from htsr.data.video_files import Fit, find_videos, frame_format
from htsr.data.video_windows import Segment, hold_out, synthetic_note, video_clips
from htsr.errors import InputError

IMAGE_SIZE, CHANNELS = 64, 3  # of folders that have not been prepared
SPLIT_FILE = "splits.json"
_HELD_OUT = 0.15  # share of the videos, or of their frames, in "test", and again in "valid"
_FEW = 3  # below this many, every video is divided in time


def videos(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    datadir: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: Fit | None = None,
    stride: int = 1,
    hop: int = 1,
    cache: bool = True,
    damaged: Damaged = "refuse",
) -> Clips:
    """Clips of your own videos, windows of (seq_len, height, width, channels).

    Which video is in which split: as ``prepare.py`` wrote; else as ``splits.json`` in the folder says, ``{"train":
    [names], "valid": [names], "test": [names]}``; else by the folders ``train``, ``valid`` and ``test``; else
    automatically, by a hash of their names, 70 % / 15 % / 15 %. One or two videos are divided in time in the same
    shares. Where nothing is "valid", the last twentieth of the training videos is, at least one.

    Args:
        split: "train", "valid" or "test"; no two splits share a frame.
        batch_size: clips per batch.
        seq_len: frames per clip.
        seed: of the training order.
        datadir: the folder, or one video file.
        image_size: side of the square frames in pixels, or (height, width); default 64, or as prepared.
        channels: 1 (grey) or 3 (RGB); default 3, or as prepared.
        fit: of pictures with another aspect ratio into the frame: stretch (default), crop or letterbox.
        stride: take every n-th frame.
        hop: frames between the beginnings of training clips; those of "valid" and "test" follow each other.
        cache: decode once, for all runs; false decodes whenever a clip is read.
        damaged: refuse, or skip, videos that cannot be decoded to their end.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or all too short.
    """
    require_choice("split", split, SPLITS)
    if datadir is None:
        raise InputError("videos reads your files: datadir, their folder, is missing; name it (--datadir my_videos)")
    folder, what = Path(datadir), f"{datadir}, {split}"
    if (folder / "manifest.json").is_file():
        store = CachedVideos(folder)
        asked = {"image_size": image_size, "channels": channels, "fit": fit}
        _require_as_prepared(folder, store.manifest["format"], asked)
        splits = {name: [Segment(*part) for part in parts] for name, parts in store.manifest["splits"].items()}
    else:
        asked = (IMAGE_SIZE if image_size is None else image_size, CHANNELS if channels is None else channels)
        form = frame_format(*asked, fit or "stretch")
        store = open_videos(find_videos(folder), form, what=str(folder), cache=cache, damaged=damaged)
        splits = split_videos(store.videos, folder)
    arguments = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "hop": hop, "stride": stride}
    return video_clips(store, splits[split], split, **arguments, what=what, note=synthetic_note(folder))


def split_videos(stored: Sequence[StoredVideo], folder: Path) -> dict[str, list[Segment]]:
    """Which parts of which videos are "train", "valid" and "test", by the rules of `videos`.

    Raises:
        InputError: ``splits.json`` is damaged, or names what is not there; there are too few videos.
    """
    listed = _listed(folder / SPLIT_FILE, [video.name for video in stored])
    if listed is None:
        tops = [video.name.partition("/")[0] for video in stored]
        if set(tops) <= set(SPLITS) and {"train", "test"} <= set(tops):
            listed = {name: [n for n, top in enumerate(tops) if top == name] for name in SPLITS}
        elif len(stored) < _FEW:
            return _divided_in_time(stored)
        else:
            listed = _automatic(stored)
    if not listed["valid"]:
        listed["train"], listed["valid"] = hold_out(listed["train"], f"the split train of {folder}")
    return {name: [Segment(n, 0, stored[n].frames) for n in numbers] for name, numbers in listed.items()}


def _listed(path: Path, names: list[str]) -> dict[str, list[int]] | None:
    if not path.is_file():
        return None
    expected = 'expected {"train": [names], "valid": [names], "test": [names]}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = {split: [str(name) for name in content.get(split, [])] for split in SPLITS}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {expected}") from None
    wanted = [name for split in SPLITS for name in listed[split]]
    unknown = [name for name in wanted if name not in names]
    twice = [name for name in wanted if wanted.count(name) > 1]
    if unknown or twice or not listed["train"] or not listed["test"]:
        reason = "train or test is empty"
        if unknown or twice:
            reason = f"{unknown[0]} is not there" if unknown else f"{twice[0]} is listed twice"
        raise InputError(f"{path}: {reason}; {expected}, names as below the folder, e.g. {names[0]}")
    return {split: [names.index(name) for name in listed[split]] for split in SPLITS}


def _automatic(stored: Sequence[StoredVideo]) -> dict[str, list[int]]:
    """By a hash of the names, so that a new video leaves most others where they are."""
    order = sorted(range(len(stored)), key=lambda n: hashlib.sha256(stored[n].name.encode()).digest())
    count = max(1, round(_HELD_OUT * len(stored)))
    parts = {"test": order[:count], "valid": order[count : 2 * count], "train": order[2 * count :]}
    return {name: sorted(numbers) for name, numbers in parts.items()}


def _divided_in_time(stored: Sequence[StoredVideo]) -> dict[str, list[Segment]]:
    splits: dict[str, list[Segment]] = {name: [] for name in SPLITS}
    for number, video in enumerate(stored):
        held_out = round(_HELD_OUT * video.frames)
        bounds = (0, video.frames - 2 * held_out, video.frames - held_out, video.frames)
        for name, start, stop in zip(SPLITS, bounds[:-1], bounds[1:], strict=True):
            splits[name].append(Segment(number, start, stop))
    return splits


def _require_as_prepared(folder: Path, prepared: dict, asked: dict) -> None:
    size = [prepared["height"], prepared["width"]]
    is_size = {"image_size": size, "channels": prepared["channels"], "fit": prepared["fit"]}
    for name, value in asked.items():
        wanted = [value, value] if name == "image_size" and isinstance(value, int) else value
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        if wanted not in (None, is_size[name]):
            raise InputError(
                f"{folder} was prepared with {name} {is_size[name]}, but data.{name} is {value}; leave it out, or"
                " prepare the videos again"
            )
