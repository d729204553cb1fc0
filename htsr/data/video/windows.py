"""Windows of videos: which frames of which video make a clip."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from htsr.checks import require_int
from htsr.data.clips import Clips
from htsr.data.sources import WindowSource
from htsr.data.video.cache import VideoStore
from htsr.data.video.contents import part
from htsr.data.video.files import Video
from htsr.errors import InputError

SYNTHETIC = "SYNTHETIC.txt"  # marks a folder of generated videos; its first line says what they stand in for
_NAMES_SHOWN = 8


class Segment(NamedTuple):
    """The frames start … stop - 1 of a video of a store."""

    video: int
    start: int
    stop: int

    @property
    def frames(self) -> int:
        """How many they are."""
        return self.stop - self.start


class VideoWindows(WindowSource):
    """Windows of ``seq_len`` frames, ``stride`` apart, a new one every ``hop`` frames of a segment.

    A segment of n frames has ``(n - (seq_len - 1) * stride - 1) // hop + 1`` windows, so one of exactly the length of a
    clip has one. Segments that are shorter have none: they are named on stderr.

    Args:
        store: the videos.
        segments: which parts of them.
        seq_len, stride, hop: all in frames.
        what: the segments in words, for messages ("KTH, train").
        note: what every result on these clips has to say ("synthetic stand-in for KTH"), or None.
        resolved: arguments of the dataset that followed from the files.
        units: the quantities that 0 and 1 stand for, where values are quantities.
        mixed: whether windows are numbered in an order drawn once and for all, so that the first ones, which are often
            all that is evaluated, are of all videos; otherwise in file order.

    Attributes:
        store: the videos.
        left_out: the segments that are too short, each by name and length.

    Raises:
        InputError: all segments are too short.
    """

    def __init__(
        self,
        store: VideoStore,
        segments: Sequence[Segment],
        seq_len: int,
        *,
        stride: int,
        hop: int,
        what: str,
        note: str | None = None,
        resolved: Mapping[str, Any] | None = None,
        units: tuple[float, float] | None = None,
        mixed: bool = False,
    ):
        for name, value in {"seq_len": seq_len, "stride": stride, "hop": hop}.items():
            require_int(name, value, least=1)
        self.store, self._stride, self._hop, self.note = store, stride, hop, note
        self.resolved, self.units = dict(resolved or {}), units
        self._span = (seq_len - 1) * stride + 1
        self.left_out = [
            f"{store.videos[segment.video].name} (frames {segment.start} to {segment.stop - 1})"
            for segment in segments
            if segment.frames < self._span
        ]
        self._segments = [segment for segment in segments if segment.frames >= self._span]
        if not self._segments:
            longest = max((segment.frames for segment in segments), default=0)
            raise InputError(
                f"{what}: no video has {self._span} frames, which a clip of {seq_len} frames with stride {stride} takes"
                f"; the longest of {len(segments)} has {longest}; choose a smaller seq_len"
                " (context + horizon in evaluations) or stride"
            )
        if self.left_out:
            print(
                f"{what}: {len(self.left_out)} of {len(segments)} sequences are shorter than {self._span} frames and"
                f" left out: {some(self.left_out)}",
                file=sys.stderr,
            )
        counts = [(segment.frames - self._span) // hop + 1 for segment in self._segments]
        self._ends = np.cumsum(counts)
        self.num_clips = int(self._ends[-1])
        self._order = np.random.Generator(np.random.Philox(key=0)).permutation(self.num_clips) if mixed else None
        self.shape = (seq_len, *store.shape)

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """The window (time, height, width, channel), of the store's type; the same in every epoch."""
        index = index if self._order is None else int(self._order[index])
        number = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        segment = self._segments[number]
        start = segment.start + (index - before) * self._hop
        return self.store.read(segment.video, start, start + self._span, self._stride)

    def contents(self) -> list[tuple[str, int, int, str]]:
        """Return the segments, each with the digests of its frames."""
        found = []
        for number, start, stop in self._segments:
            video = self.store.videos[number]
            found.append((video.name, start, stop, part(self.store.digests(number), start, stop, video.frames)))
        return found


def video_clips(
    store: VideoStore,
    segments: Sequence[Segment],
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int,
    hop: int,
    stride: int = 1,
    what: str,
    note: str | None = None,
    resolved: Mapping[str, Any] | None = None,
    units: tuple[float, float] | None = None,
) -> Clips:
    """Clips of segments: one every ``hop`` frames in "train"; in "valid" and "test" no frame twice, in mixed order."""
    require_int("hop", hop, least=1)
    held_out = split != "train"
    hop = max(1, seq_len * stride) if held_out else hop
    about = {"what": what, "note": note, "resolved": resolved, "units": units, "mixed": held_out}
    windows = VideoWindows(store, segments, seq_len, stride=stride, hop=hop, **about)
    return Clips(windows, batch_size, seed)


def whole(store: VideoStore) -> list[Segment]:
    """Every video of a store from its first frame to its last."""
    return [Segment(number, 0, video.frames) for number, video in enumerate(store.videos)]


def hold_out(items: Sequence, what: str) -> tuple[list, list]:
    """(training, validation): the last twentieth, at least one, is held out."""
    if len(items) < 2:
        raise InputError(f"{what} has one video, which is the valid split; train needs a second one")
    count = max(1, len(items) // 20)
    return list(items[:-count]), list(items[-count:])


def by_folder(videos: Sequence[Video], folder: Path, split: str) -> list[Video]:
    """The videos of one split by the folder ``train`` or ``test`` they lie in; "valid" is held out of ``train``."""
    parts: dict[str, list[Video]] = {"train": [], "test": []}
    others = []
    for video in videos:
        place = next((part for part in video.name.split("/")[-2::-1] if part in parts), None)
        if place:
            parts[place].append(video)
        else:
            others.append(video.name)
    if others and split == "train":
        print(f"{folder}: {len(others)} videos outside train and test are left out: {some(others)}", file=sys.stderr)
    missing = [part for part, inside in parts.items() if not inside]
    if missing:
        raise InputError(f"{folder} has no videos in a folder {' or '.join(missing)}; put them into train and test")
    train, valid = hold_out(parts["train"], f"the folder train in {folder}")
    return {"train": train, "valid": valid, "test": parts["test"]}[split]


def synthetic_note(folder: Path) -> str | None:
    """What a folder of generated videos, or one in it, stands in for, in words; None for a folder of real ones."""
    marker = next((path for pattern in (SYNTHETIC, f"*/{SYNTHETIC}") for path in folder.glob(pattern)), None)
    return marker and (marker.read_text(encoding="utf-8").partition("\n")[0] or "synthetic")


def described(dataset: str, split: str, folder: Path) -> tuple[str, str | None]:
    """The videos of a split in words, for messages; and `synthetic_note`."""
    note = synthetic_note(folder)
    return f"{dataset}, {split}" if note is None else f"{dataset} (synthetic), {split}", note


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
