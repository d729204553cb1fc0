"""Videos as arrays: decoded once into a file that all runs share.

The cache is ``$HTSR_CACHE``, by default ``~/.cache/htsr``, and may be deleted at any time. An entry is a folder that
appears whole or not at all: ``frames.npy``, uint8 (frame, height, width, channel), all videos one after the other,
and ``manifest.json``, which says where each video begins, what decoded it and digests of its frames. Its name is a
hash of the videos' contents and the frame format: a source that has changed has another entry.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from htsr.checks import require_int
from htsr.data.video.contents import Digests, digests_of
from htsr.data.video.files import DamagedVideo, FrameFormat, Video, map_array
from htsr.data.video.reader import VideoReader
from htsr.data.video.remembered import Remembered, files_of
from htsr.errors import DAMAGE, InputError, out_of_reach
from htsr.files import cache_folder, new_file, new_folder

SCHEMA = 1
DECODING = 2  # counts what has changed in how frames are read: order, depth
_PART = 1000  # frames at once
Damaged = Literal["refuse", "skip"]


class StoredVideo(NamedTuple):
    """What is known of a video that has been decoded; ``first`` is its first frame's index in ``frames.npy``."""

    name: str
    first: int
    frames: int
    decoder: str
    fps: float | None
    note: str | None
    digests: str | None = None  # of its frames, as `htsr.data.video.contents` has them


class VideoStore(Protocol):
    """Videos whose frames can be had: ``videos``, in order; ``refused``, name → why; ``shape`` of a frame."""

    videos: list[StoredVideo]
    refused: dict[str, str]
    shape: tuple[int, int, int]

    def read(self, video: int, start: int, stop: int, stride: int) -> np.ndarray:
        """Every ``stride``-th of the frames start … stop - 1 of a video, uint8 (time, height, width, channel)."""
        ...

    def digests(self, video: int) -> str:
        """The digests of a video's frames (`htsr.data.video.contents`)."""
        ...


def open_videos(videos: Sequence[Video], form: FrameFormat, *, what: str, damaged: Damaged = "refuse") -> VideoStore:
    """The frames of videos, from the cache (and into it, with a progress bar, where they are not there yet).

    Args:
        videos: which ones, in the order in which they will be numbered.
        form: what frames become.
        what: the videos in words, for messages ("KTH, train").
        damaged: ``refuse`` raises for the first damaged video; ``skip`` leaves it out and says so.

    Raises:
        DamagedVideo: a video is damaged, or all of them are.
    """
    entry = cache_folder() / _key(videos, form, damaged)
    if not entry.exists():
        print(f"{what}: decoding {len(videos)} videos once, into {entry}", file=sys.stderr)
        write_entry(entry, videos, form, what=what, damaged=damaged)
    store = CachedVideos(entry)
    for why in store.refused.values():
        print(f"{what}: left out: {why}", file=sys.stderr)
    for video in store.videos:
        if video.note:
            print(f"{what}: {video.name} {video.note}", file=sys.stderr)
    return store


class CachedVideos:
    """An entry of the cache, or a folder of the same form.

    Args:
        folder: holds ``frames.npy`` and ``manifest.json``.

    Raises:
        InputError: the folder is not of that form.
    """

    def __init__(self, folder: Path):
        try:
            self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            self.videos = [StoredVideo(**video) for video in self.manifest["videos"]]
            self.refused = dict(self.manifest["refused"])
            frames = map_array(folder / "frames.npy")
            total = 0
            for video in self.videos:
                require_int("first", video.first, total, total)
                require_int("frames", video.frames, 1)
                total += video.frames
                if not isinstance(video.name, str) or not isinstance(video.digests, str | None):
                    raise ValueError(f"a video is called {video.name!r:.40}")
            plain = frames.dtype == np.uint8 and frames.ndim == 4 and frames.size and frames.flags.c_contiguous
            if self.manifest["schema"] != SCHEMA or not plain or len(frames) != total:
                raise ValueError(f"frames.npy and manifest.json do not belong together, or not to schema {SCHEMA}")
            self.shape, self._begin, self._folder = frames.shape[1:], frames.offset, folder
            # Read, not mapped: where the file is cut meanwhile, a map ends the process without a word.
            self._file = os.open(folder / "frames.npy", os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            self._hold_against_digests()
        except DAMAGE as error:
            if out_of_reach(error):
                raise
            raise InputError(f"{folder} is damaged ({error}); delete it, and decode the videos again") from None

    def read(self, video: int, start: int, stop: int, stride: int = 1) -> np.ndarray:
        first = self.videos[video].first + start
        frames = np.empty((stop - start, *self.shape), np.uint8)
        left, at = memoryview(frames).cast("B"), self._begin + first * math.prod(self.shape)
        while len(left):
            count = os.preadv(self._file, [left], at)
            if not count:
                raise InputError(f"{self._folder}/frames.npy was cut while it was read; delete {self._folder}")
            left, at = left[count:], at + count
        return frames[::stride]

    def digests(self, video: int) -> str:
        found = self.videos[video].digests
        return self._digests(video) if found is None else found  # an older entry has none

    def _digests(self, video: int) -> str:
        count = self.videos[video].frames
        parts = (self.read(video, at, min(at + _PART, count)) for at in range(0, count, _PART))
        return digests_of(frame for part in parts for frame in part)

    def _hold_against_digests(self) -> None:
        """Whether the frames are those that were decoded, where the file is not the one that was looked at last."""
        state = _state(self._file)
        if self.manifest.get("state") == state:
            return
        for number, video in enumerate(self.videos):
            if video.digests not in (None, self._digests(number)):
                raise ValueError(f"frames of {video.name} have changed")
        with contextlib.suppress(OSError), new_file(self._folder / "manifest.json") as file:
            json.dump({**self.manifest, "state": state}, file, indent=1)


def _state(file: int) -> list[int]:
    """Size and times of change of an open file, as JSON has them."""
    found = os.fstat(file)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def write_entry(
    folder: Path,
    videos: Sequence[Video],
    form: FrameFormat,
    *,
    what: str,
    damaged: Damaged,
    extra: Callable[[list[StoredVideo]], dict[str, Any]] = lambda stored: {},
) -> None:
    """Decode videos into ``folder``, which appears when it is complete.

    Args:
        folder: must not exist yet.
        videos, form, what, damaged: as in `open_videos`.
        extra: from the videos decoded, what else the manifest shall hold.
    """
    with new_folder(folder, shared=True) as temporary:
        with open(temporary / "frames.npy", "wb") as file:
            frames = _FrameFile(file, form)
            stored, refused = _decode_all(videos, form, f"decoding {what}", damaged, frames)
            frames.close(sum(video.frames for video in stored))
            state = _state(file.fileno())
        manifest = {"schema": SCHEMA, "format": form._asdict(), "refused": refused, **extra(stored), "state": state}
        manifest["videos"] = [video._asdict() for video in stored]
        with open(temporary / "manifest.json", "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            os.fsync(file.fileno())


class _FrameFile:
    """``frames.npy`` while its length is not known yet: NumPy's header leaves room for it to grow in place."""

    def __init__(self, file, form: FrameFormat):
        self._file, self._shape, self._starts = file, (form.height, form.width, form.channels), []
        self._header(0)

    def begin(self, video: Video) -> None:
        self._starts.append(self._file.tell())

    def keep(self, frame: np.ndarray) -> None:
        self._file.write(frame)

    def drop(self) -> None:
        self._file.truncate(self._file.seek(self._starts.pop()))

    def close(self, frames: int) -> None:
        self._file.seek(0)
        self._header(frames)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _header(self, frames: int) -> None:
        description = {"descr": "|u1", "fortran_order": False, "shape": (frames, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, description)


def _decode_all(videos, form: FrameFormat, title: str, damaged: Damaged, sink):
    """Decode videos one after the other: ``sink.begin(video)``, ``sink.keep(frame)`` …, ``sink.drop()`` if damaged.

    Returns:
        the videos that could be used, and name → why of those that could not.
    """
    stored: list[StoredVideo] = []
    refused: dict[str, str] = {}
    first = 0
    with tqdm(videos, desc=title, unit="video", disable=None) as progress:
        for video in progress:
            reader, digests = VideoReader(video, form), Digests()
            sink.begin(video)
            try:
                for frame in reader:
                    sink.keep(frame)
                    digests.add(frame)
                    if reader.decoded % 1000 == 0:
                        progress.set_postfix(frames=first + reader.decoded)
            except DamagedVideo as error:
                if damaged == "refuse":
                    raise DamagedVideo(f"{error}, or leave damaged videos out with damaged: skip") from None
                sink.drop()
                refused[video.name] = str(error)
                continue
            found = (reader.decoder, reader.fps, reader.note, digests.text)
            stored.append(StoredVideo(video.name, first, reader.decoded, *found))
            first += reader.decoded
    if not stored:
        raise DamagedVideo(f"none of the {len(videos)} videos can be used; the first: {next(iter(refused.values()))}")
    return stored, refused


def _key(videos: Sequence[Video], form: FrameFormat, damaged: Damaged) -> str:
    """The name of the entry: a hash of the format and of the videos' names and contents."""
    digest = Remembered("hashes.json", sha256_of)
    parts = [DECODING, *form, damaged, *([video.name, video.member, _or_why(digest, video.path)] for video in videos)]
    digest.save()
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, or of the names and contents of a folder's images."""
    digest = hashlib.sha256()
    for file in files_of(path):
        digest.update(os.fsencode(file.name))
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _or_why(digest: Remembered, path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:  # the reader says what is wrong with it
        return str(error)
