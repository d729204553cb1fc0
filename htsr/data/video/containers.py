"""Container files (.mp4, .avi, .webm …), decoded by PyAV, and what tells that a part of one is missing.

A file that was cut, or has a hole, passes for a shorter video with most decoders. Here its packets, of sound
as well as of pictures, are counted and timed while they are decoded.
"""

import itertools
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from htsr.data.video.files import DamagedVideo
from htsr.data.video.pictures import Pictures
from htsr.errors import DAMAGE

OPTIONS = {"protocol_whitelist": "file"}  # of FFmpeg; a process that reads what strangers send adds to them
_BOXES = b"ftyp styp sidx ssix prft emsg moov moof mfra mdat free skip wide uuid udta meta pnot".split()  # of MP4
_FROM_ZERO = ("matroska", "asf", "flv")  # durations that are the time of the end, in FLV of some programs
_JUMP = 4  # frame periods: cameras and encoders leave out one frame or two, damage takes many in a row
_EVEN = 0.9  # share of intervals that are one frame period, above which a frame rate does not vary
_MAY_LACK = 2  # frames: encoders count one or two that they never wrote
_ESTIMATED = 20  # a count that is the duration times the frame rate may be wrong by one in so many


class Container(Pictures):
    """The pictures of a container file, and, once they are out, whether some are missing."""

    decoder = f"pyav {av.__version__}"

    def __init__(self, path: Path, name: str):
        super().__init__(path, name)
        self._exact, self._counted = False, False  # are frames counted in a table of them all (MP4); in a header (AVI)?
        self._times = array("d")  # of the pictures, in seconds
        self._lost, self._torn = 0, False  # packets that could not be decoded; does the last one lack its end?
        self._begin, self._length, self._end, self._pause = 0.0, 0.0, 0.0, 0.0  # of all streams, in seconds

    def decode(self, start: int) -> Iterator[np.ndarray]:
        if _is_text(self._path):
            raise self._damaged("cannot be decoded: it is a text; replace or remove the file")
        whole = _is_whole(self._path)
        try:
            with av.open(str(self._path.absolute()), options=OPTIONS, metadata_errors="replace") as container:
                yield from itertools.islice(self._decoded(container), start, None)
        except (av.FFmpegError, *DAMAGE) as error:
            if isinstance(error, DamagedVideo):
                raise
            reason = "is damaged: the end of the file is missing" if whole is False else f"cannot be decoded ({error})"
            raise self._damaged(f"{reason}; replace or remove the file") from None
        self._verify(whole)

    def _decoded(self, container) -> Iterator[np.ndarray]:
        if not container.streams.video:
            raise self._damaged("has no picture; replace or remove the file")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        self.fps = float(stream.average_rate or stream.base_rate or 0) or None
        self._length, self._begin = (container.duration or 0) / 1e6, (container.start_time or 0) / 1e6
        if any(kind in container.format.name for kind in _FROM_ZERO) and self._begin < self._length:
            self._length -= self._begin
        turn_into_rgb = VideoReformatter()  # one for all frames: a new one computes its tables anew
        self.stated, name = stream.frames or round(self._length * (self.fps or 0)) or None, container.format.name
        self._exact = stream.frames > 0 and "mp4" in name
        self._counted = self._exact or (stream.frames > 0 and name == "avi")
        if self._exact and self.fps and 0 < self._length * self.fps < stream.frames - 1:
            self.stated, self._exact, self._counted = round(self._length * self.fps), False, False  # an edit list
        for packet in container.demux():
            self._torn = packet.is_corrupt if packet.size else self._torn
            if packet.pts is not None:
                time = float(packet.pts * packet.time_base) - self._begin
                self._pause = max(self._pause, time - self._end)
                self._end = max(self._end, time + float((packet.duration or 0) * packet.time_base))
            # FFmpeg refuses empty packets (repeated frames); one without a time asks for what is left.
            if packet.stream_index != stream.index or not (packet.size or packet.dts is None):
                continue
            try:
                frames = packet.decode()
            except av.InvalidDataError:
                self._lost += 1
                continue
            for frame in frames:
                self._times.append((frame.time or 0) - self._begin)
                # Bicubic, since OpenCV, which decoded earlier, asks for that: the bits are the same.
                pixels = "rgb48le" if max(part.bits for part in frame.format.components) == 16 else "rgb24"
                image = turn_into_rgb.reformat(frame, format=pixels, interpolation="BICUBIC").to_ndarray()
                yield np.rot90(image, frame.rotation // 90)

    def _verify(self, whole: bool | None) -> None:
        """Hold what was decoded against what the file states."""
        found, stated, fps = len(self._times), self.stated or 0, self.fps or 0
        about = max(_MAY_LACK, max(stated, found) // _ESTIMATED)
        missing = round((self._length - self._end) * fps)
        ends_early = not self._counted and missing > max(_MAY_LACK, stated // 100)
        if whole is False or self._torn or ends_early:
            raise self._damaged(
                f"is damaged: the end of the file is missing, {found} frames can be decoded; replace the file"
            )
        # Where frames are not counted one by one, times tell: a video whose frame rate varies has fewer than stated.
        last = 0 if self._exact else round(max(self._times, default=0) * fps) + 1
        after, within = stated - max(found, last), 0 if self._exact else frames_between(self._times)
        if self._lost > _MAY_LACK or after > (_MAY_LACK if self._counted else about if self._pause > 1 else stated):
            raise self._damaged(
                f"is damaged: it states {stated} frames, but only {found} can be decoded; replace the file"
            )
        if within > about:
            raise self._damaged(
                f"is damaged: some {within} frames are missing between the {found} that can be decoded; replace the"
                " file, or, if its frame rate is meant to vary, convert it to .mp4"
            )
        if stated > found or (self._exact and stated != found):
            self.note = f"states {stated} frames, has {found}"
        elif within:
            self.note = f"lacks some {within} frames"

    def _damaged(self, what: str) -> DamagedVideo:
        return DamagedVideo(f"video {self._name} {what}")


def frames_between(times: array) -> int:
    """Return how many frames are missing between others: none where the frame rate varies throughout."""
    known = np.array(times)
    rising = np.flatnonzero(np.diff(np.maximum.accumulate(known), prepend=-np.inf) > 0)  # some frames have no time
    frames, seconds = np.diff(rising), np.diff(known[rising])
    if not frames.size:
        return 0
    periods = seconds / np.median(seconds / frames)
    if np.mean(np.abs(periods / frames - 1) < 0.5) < _EVEN:
        return 0
    return int(np.sum((np.rint(periods) - frames)[periods / frames >= _JUMP]))


def _is_text(path: Path) -> bool:
    """Is it a text? FFmpeg takes some (playlists, lists of files) for videos, and reads the files they name."""
    with open(path, "rb") as file:
        head = file.read(256)
    printable = not any(byte < 32 and byte not in b"\t\n\f\r" for byte in head)
    return head.startswith((b"ffconcat", b"#EXTM3U")) or (printable and not head.startswith(b"YUV4MPEG2"))


def _is_whole(path: Path) -> bool | None:
    """Does the file end where it says (MP4, ASF, Ogg)? None where nothing tells."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, size - 2**16))
        tail = file.read()
        if head[:4] == b"OggS":  # RFC 3533, section 6: bit 2 of the header marks the last page
            return any(byte & 4 for byte in tail[tail.rfind(b"OggS") :][5:6])
        if head[:4] == bytes.fromhex("3026b275"):  # ASF, section 3.2: file properties
            properties = head.partition(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))[2]
            return int.from_bytes(properties[24:32], "little") <= size
        if head[4:8] not in _BOXES or not any(tail[-1024:]):  # zeros: room for a download that did not end
            return None
        position = 0
        while position + 8 <= size:  # the boxes of an MP4 file (ISO 14496-12)
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                length = int.from_bytes(file.read(8))
            if length == 0 or kind not in _BOXES:  # up to the end of the file; or something else was appended
                break
            position += max(8, length)
    return position <= size
