"""KTH: six human actions, 25 persons, 4 scenarios, grey video at 25 frames per second (Schuldt et al., ICPR 2004).

Read from the original files, ``person01_walking_d1_uncomp.avi`` (160x120), in folders or in the zip archives they are
published in, or from folders ``train`` and ``test``; or a synthetic stand-in, where it is asked for.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from htsr.checks import require_choice
from htsr.data.clips import SPLITS, Clips
from htsr.data.stand_ins import find_folder
from htsr.data.synthetic.actions import ACTIONS
from htsr.data.video.cache import Damaged, VideoStore, open_videos
from htsr.data.video.files import Fit, Video, find_videos, frame_format
from htsr.data.video.windows import Segment, by_folder, described, video_clips, whole
from htsr.errors import InputError

PersonSplit = Literal["htsr", "standard"]
Sequences = Literal["listed", "whole"]
LAST_TRAINING_PERSON = {"htsr": 20, "standard": 16}
NUM_VIDEOS = 599  # person 13 does not clap in scenario 3
VALID_PERSONS = 2  # the last of the training persons
SEQUENCES = "00sequences.txt"
_NAME = re.compile(r"person(\d\d)_([a-z]+)_d(\d)")
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")


def kth(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    datadir: str | None = None,
    stand_in: Literal["generated"] | None = None,
    persons: PersonSplit = "htsr",
    actions: list[str] | None = None,
    sequences: Sequences = "listed",
    image_size: int | tuple[int, int] = 64,
    channels: int = 1,
    fit: Fit = "stretch",
    stride: int = 1,
    hop: int = 1,
    damaged: Damaged = "refuse",
) -> Clips:
    """Clips of human actions, windows of (seq_len, height, width, channels).

    Args:
        datadir: folder with the files, named as published, in any folders below it or in zip archives in it; or with
            folders ``train`` and ``test`` (also in ``KTH/``) of files with other names, of which the last twentieth of
            the training files is "valid".
        stand_in: "generated": where there is no ``datadir``, a synthetic stand-in, drawn once.
        persons: "htsr": persons 1 to 20 train, 21 to 25 test, as in HTSR; "standard": 1 to 16 and 17 to 25, as in most
            papers. The last 2 of the training persons are "valid".
        actions: those wanted, of walking, jogging, running, boxing, handwaving, handclapping; None takes all.
        sequences: "listed": where ``00sequences.txt`` lies in ``datadir``, clips lie inside its ranges of frames, in
            which somebody is to be seen; "whole" takes files from beginning to end, as HTSR does.
        channels: 1, or 3 equal ones.
        split, batch_size, seq_len, seed, image_size, fit, stride, hop, damaged: as in `htsr.data.videos.videos`; no two
            splits share a person.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or all too short.
    """
    require_choice("split", split, SPLITS)
    require_choice("persons", persons, get_args(PersonSplit))
    for action in actions or []:
        require_choice("action", action, ACTIONS)
    require_choice("sequences", sequences, get_args(Sequences))
    form = frame_format(image_size, channels, fit)
    folder, resolved = find_folder("kth", datadir, stand_in)
    found = _split(folder, split, persons, actions)
    what, note = described("KTH", split, folder)
    store = open_videos(found, form, what=what, damaged=damaged)
    listed = _listed_ranges(folder) if sequences == "listed" else {}
    segments = _listed_segments(store, listed, what) if listed else whole(store)
    arguments = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "hop": hop, "stride": stride}
    return video_clips(store, segments, split, **arguments, what=what, note=note, resolved=resolved)


def _split(folder: Path, split: str, persons: str, actions: Sequence[str] | None) -> list[Video]:
    found = sorted(find_videos(folder), key=lambda video: video.member is None)  # a file replaces its packed self
    videos = list({_stem(video.name) or video.name: video for video in found}.values())
    parsed = [_NAME.search(video.name) for video in videos]
    odd = next((video.name for video, match in zip(videos, parsed, strict=True) if not match), None)
    if odd and any(parsed):
        raise InputError(f"{folder} has {odd}, no name such as person01_walking_d1_uncomp.avi; rename or remove it")
    if odd and (actions or persons != "htsr"):
        raise InputError(
            "persons and actions are read from names such as person01_walking_d1_uncomp.avi, but there is"
            f" {odd} in {folder}; leave both out, or rename the files"
        )
    if odd:
        return by_folder(videos, folder, split)
    if len(videos) < NUM_VIDEOS and split == "train":
        print(f"{folder} has {len(videos)} of the {NUM_VIDEOS} videos of KTH", file=sys.stderr)
    last = LAST_TRAINING_PERSON[persons]
    numbers = {
        "train": range(1, last - VALID_PERSONS + 1),
        "valid": range(last - VALID_PERSONS + 1, last + 1),
        "test": range(last + 1, 26),
    }[split]
    chosen = [
        video
        for video, (person, action, _) in zip(videos, (match.groups() for match in parsed), strict=True)
        if int(person) in numbers and (not actions or action in actions)
    ]
    if not chosen:
        wanted = ", ".join(actions) if actions else "any action"
        raise InputError(
            f"{folder} has no videos of persons {numbers[0]} to {numbers[-1]} ({split}) with {wanted};"
            f" {len(videos)} others found; add them"
        )
    return chosen


def _stem(name: str) -> str | None:
    match = _NAME.search(name)
    return match and match.group()


def _listed_ranges(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """``00sequences.txt``: person01_boxing_d1 → first and last frame of each sequence, counted from 1."""
    path = next((path for path in (folder / SEQUENCES, folder / "KTH" / SEQUENCES) if path.is_file()), None)
    if path is None:
        return {}
    ranges = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _NAME.search(line)
        if match and "frames" in line:
            ranges[match.group()] = [(int(a), int(b)) for a, b in _RANGE.findall(line.partition("frames")[2])]
    if not ranges:
        raise InputError(f"{path} has no line such as 'person01_boxing_d1 frames 1-95, 96-185'; fetch it again")
    return ranges


def _listed_segments(store: VideoStore, listed: dict[str, list[tuple[int, int]]], what: str) -> list[Segment]:
    segments, odd = [], []
    for number, video in enumerate(store.videos):
        stem = _stem(video.name) or video.name
        if stem not in listed:
            odd.append(f"{stem} is not listed, taken whole")
            segments.append(Segment(number, 0, video.frames))
        for first, last in listed.get(stem, []):
            if not 1 <= first <= last <= video.frames:
                odd.append(f"{stem} lists {first}-{last} of {video.frames} frames")
            if max(1, first) <= min(last, video.frames):
                segments.append(Segment(number, max(1, first) - 1, min(last, video.frames)))
    if odd:
        print(f"{what}: {SEQUENCES}: {'; '.join(odd)}", file=sys.stderr)
    return segments
