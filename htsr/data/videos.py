"""Any videos: a folder of files, or of folders of images, one a video; or what ``htsr prepare`` made of it."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from htsr.checks import require_choice, require_int
from htsr.data.clips import SPLITS, Clips
from htsr.data.video.cache import CachedVideos, Damaged, StoredVideo, open_videos
from htsr.data.video.files import Fit, FrameFormat, find_videos, frame_format, is_prepared
from htsr.data.video.windows import Segment, hold_out, synthetic_note, video_clips
from htsr.errors import DAMAGE, InputError

DEFAULTS = {"image_size": 64, "channels": 3, "fit": "stretch"}  # of folders that have not been prepared
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
    damaged: Damaged = "refuse",
) -> Clips:
    """Clips of your own videos, windows of (seq_len, height, width, channels).

    Which video is in which split: as ``htsr prepare`` wrote; else as ``splits.json`` in the folder says, ``{"train":
    [names], "valid": [names], "test": [names]}``; else by the folders ``train``, ``valid`` and ``test``; else
    automatically, by a hash of their names, about 70 % / 15 % / 15 %, so that a new video moves no other (but for the
    first few). One or two videos are divided in time in the same shares. Where nothing is "valid", the last twentieth
    of the training videos is, at least one.

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
        damaged: refuse, or skip, videos that cannot be decoded to their end.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or all too short.
    """
    require_choice("split", split, SPLITS)
    if datadir is None:
        raise InputError("videos reads your files: datadir, their folder, is missing; name it (--datadir my_videos)")
    folder, asked = Path(datadir), {"image_size": image_size, "channels": channels, "fit": fit}
    if is_prepared(folder):
        store = CachedVideos(folder)
        form = _as_prepared(folder, store.manifest, asked)
        splits, note = _prepared_splits(folder, store)
    else:
        form = frame_format(*(default if asked[name] is None else asked[name] for name, default in DEFAULTS.items()))
        found = find_videos(folder)
        listed = listed_split(folder, [video.name for video in found])
        store = open_videos(found, form, what=str(folder), damaged=damaged)
        splits, note = split_videos(store.videos, listed, folder), synthetic_note(folder)
    what = f"{datadir}, {split}"
    if split == "train":
        counts = ", ".join(f"{len({part.video for part in parts})} {name}" for name, parts in splits.items())
        print(f"{datadir}: videos: {counts}", file=sys.stderr)
    if any(part.frames < store.videos[part.video].frames for part in splits[split]):
        what += " (parts of videos, which are divided in time)"
    arguments = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "hop": hop, "stride": stride}
    return video_clips(store, splits[split], split, **arguments, what=what, note=note, resolved=_arguments(form))


def listed_split(folder: Path, names: Sequence[str]) -> dict[str, list[str]] | None:
    """Which video is in which split by ``splits.json`` or by folders; None where neither says.

    Args:
        folder: of the videos.
        names: the videos found in it.

    Raises:
        InputError: ``splits.json`` is damaged, or names what is not there; only some videos lie in folders of splits.
    """
    if (folder / SPLIT_FILE).is_file():
        return _read_split(folder / SPLIT_FILE, names)
    parts = {name: [video for video in names if video.startswith(f"{name}/")] for name in SPLITS}
    others = [video for video in names if video.partition("/")[0] not in SPLITS]
    if not any(parts.values()):
        return None
    if others or not parts["train"] or not parts["test"]:
        reason = f"{others[0]} lies in none of them" if others else "train or test has no video"
        raise InputError(
            f"{folder} has folders of splits, but {reason}; put all videos into train, test and, if you like, valid, or"
            f" list them in {SPLIT_FILE}"
        )
    return parts


def split_videos(
    stored: Sequence[StoredVideo], listed: Mapping[str, Sequence[str]] | None, folder: Path
) -> dict[str, list[Segment]]:
    """Which parts of which videos are "train", "valid" and "test", by the rules of `videos`.

    Args:
        stored: the videos that could be decoded.
        listed: what `listed_split` found.
        folder: for messages.

    Raises:
        InputError: there are too few videos.
    """
    if listed is None and len(stored) < _FEW:
        return _divided_in_time(stored)
    if listed is None:
        numbers = _automatic(stored)
    else:
        index = {video.name: n for n, video in enumerate(stored)}
        numbers = {split: sorted(index[name] for name in listed[split] if name in index) for split in SPLITS}
    if not numbers["valid"]:
        numbers["train"], numbers["valid"] = hold_out(numbers["train"], f"the split train of {folder}")
    return {split: [Segment(n, 0, stored[n].frames) for n in numbers[split]] for split in SPLITS}


def _read_split(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    expected = 'expected {"train": [names], "valid": [names], "test": [names]}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = {split: [str(name) for name in content.get(split, [])] for split in SPLITS}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {expected}") from None
    known, wanted = set(names), Counter(name for split in SPLITS for name in listed[split])
    unknown = [name for name in wanted if name not in known]
    twice = [name for name, times in wanted.items() if times > 1]
    if unknown or twice or not listed["train"] or not listed["test"]:
        reason = "train or test is empty"
        if unknown or twice:
            reason = f"{unknown[0]} is not there" if unknown else f"{twice[0]} is listed twice"
        raise InputError(f"{path}: {reason}; {expected}, names as below the folder, e.g. {names[0]}")
    return listed


def _automatic(stored: Sequence[StoredVideo]) -> dict[str, list[int]]:
    """By a hash of each name; with few videos the lowest hashes are "test" and "valid" all the same."""
    shares = [int.from_bytes(hashlib.sha256(video.name.encode()).digest()[:8]) / 2**64 for video in stored]
    order = sorted(range(len(stored)), key=shares.__getitem__)
    test = max(1, sum(share < _HELD_OUT for share in shares))
    valid = max(test + 1, sum(share < 2 * _HELD_OUT for share in shares))
    valid = min(valid, len(stored) - 1)
    test = min(test, valid - 1)
    parts = {"train": order[valid:], "valid": order[test:valid], "test": order[:test]}
    return {name: sorted(numbers) for name, numbers in parts.items()}


def _divided_in_time(stored: Sequence[StoredVideo]) -> dict[str, list[Segment]]:
    splits: dict[str, list[Segment]] = {name: [] for name in SPLITS}
    for number, video in enumerate(stored):
        held_out = round(_HELD_OUT * video.frames)
        bounds = (0, video.frames - 2 * held_out, video.frames - held_out, video.frames)
        for name, start, stop in zip(SPLITS, bounds[:-1], bounds[1:], strict=True):
            splits[name].append(Segment(number, start, stop))
    return splits


def _prepared_splits(folder: Path, store: CachedVideos) -> tuple[dict[str, list[Segment]], str | None]:
    """Which parts of which videos are in which split, and the note, as ``htsr prepare`` wrote."""
    try:
        splits = {name: [Segment(*part) for part in store.manifest["splits"][name]] for name in SPLITS}
        for part in (part for parts in splits.values() for part in parts):
            require_int("video", part.video, 0, len(store.videos) - 1)
            require_int("stop", part.stop, 1, store.videos[part.video].frames)
            require_int("start", part.start, 0, part.stop - 1)
        note = store.manifest["note"]
        if not isinstance(note, str | None):
            raise ValueError(f"note is {note!r:.40}")
    except DAMAGE as error:
        raise InputError(f"{folder}/manifest.json is damaged ({error}); prepare the videos again") from None
    return splits, note


def _as_prepared(folder: Path, manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> FrameFormat:
    """The format that the videos were prepared in, which arguments may repeat but not change."""
    if "splits" not in manifest:
        raise InputError(
            f"{folder} is an entry of the cache; name the folder of the videos, or one that htsr prepare made"
        )
    try:
        form = FrameFormat(**manifest["format"])
        frame_format((form.height, form.width), form.channels, form.fit)
    except DAMAGE as error:
        raise InputError(f"{folder}/manifest.json is damaged ({error}); prepare the videos again") from None
    has = _arguments(form)
    for name, value in asked.items():
        wanted = [value, value] if name == "image_size" and isinstance(value, int) else value
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        if wanted not in (None, has[name]):
            raise InputError(
                f"{folder} was prepared with {name} {has[name]}, but data.{name} is {value}; leave it out, or prepare"
                " the videos again"
            )
    return form


def _arguments(form: FrameFormat) -> dict[str, Any]:
    """The arguments of `videos` that ask for this format, as a config has them."""
    return {"image_size": [form.height, form.width], "channels": form.channels, "fit": form.fit}
