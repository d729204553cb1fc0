"""What a container file states about itself, and what is missing in it: nothing is decoded.

Read from the bytes of MP4 (and QuickTime), Matroska (and WebM), ASF (.wmv), Ogg, FLV and GIF; of other files nothing is
known. And from the times of frames and, with PyAV, of packets.
"""

import mmap
import struct
from array import array
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, NamedTuple

import numpy as np

_BOXES = b"ftyp styp sidx ssix prft emsg moov moof mfra mdat free skip wide uuid udta meta pnot".split()  # of MP4
_JUMP = 4  # frame periods: cameras and encoders leave out one frame or two, damage takes many in a row
_EVEN = 0.9  # share of intervals that are one frame period, above which a frame rate does not vary
_INSTALL = 'pip install "av>=14.1"'


class Statement(NamedTuple):
    """Is the file ``whole`` (None: nothing tells)? Of MP4: how many ``seconds`` does it play (0: unknown), and is it
    ``fragmented``, where no table counts the frames?"""

    whole: bool | None = None
    seconds: float = 0
    fragmented: bool = False


def look_into(path: Path) -> Statement:
    """Is the file as long as it states, does the last page (of Ogg) say so? MP4: that, and `_boxes`."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, size - 2**16))
        tail = file.read()
        if head[:4] == b"OggS":  # RFC 3533, section 6: bit 2 of the header marks the last page
            return Statement(any(byte & 4 for byte in tail[tail.rfind(b"OggS") :][5:6]))
        if not any(tail[-1024:]):  # room was made for a download that did not end: nothing tells what came
            return Statement()
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes(file, size)
    stated = _length(head)
    return Statement(None if stated is None else stated <= size)


def sound_goes_on(path: Path, most: int) -> bool:
    """Are there at most so many packets of the picture, and others to the end? Without PyAV: False."""
    av = pyav()
    if not av:
        return False
    packets, end, pause = 0, None, 0.0
    try:
        with av.open(str(path.absolute())) as container:
            length, picture = (container.duration or 0) / 1e6, container.streams.video[0].index
            for packet in container.demux():
                packets += packet.stream_index == picture and packet.size > 0
                if packet.pts is not None and packet.time_base:
                    begin = float(packet.pts * packet.time_base)
                    pause = max(pause, begin - (begin if end is None else end))
                    end = max(end or 0.0, begin + float((packet.duration or 0) * packet.time_base))
    except av.FFmpegError:
        return False
    return packets <= most and pause < 1 and (end or 0) >= 0.95 * length


def frames_between(times: array) -> int:
    """Frames that are missing between others: none where the frame rate varies throughout."""
    known = np.array(times)
    rising = np.flatnonzero(np.diff(np.maximum.accumulate(known), prepend=-np.inf) > 0)  # some frames have no time
    frames, seconds = np.diff(rising), np.diff(known[rising])
    if not frames.size:
        return 0
    periods = seconds / np.median(seconds / frames)
    if np.mean(np.abs(periods / frames - 1) < 0.5) < _EVEN:
        return 0
    return int(np.sum((np.rint(periods) - frames)[periods / frames >= _JUMP]))


def pyav() -> ModuleType | None:
    """PyAV where it is installed and new enough: an empty folder "av" is neither."""
    try:
        import av
    except ImportError:
        return None
    return av if hasattr(getattr(av, "VideoFrame", None), "rotation") else None


def install_pyav() -> str:
    """What to do to have PyAV."""
    try:
        from av import __version__ as version
    except ImportError:
        return _INSTALL
    return f"PyAV {version} is too old: {_INSTALL}"


def is_text(path: Path) -> bool:
    """Is it a text? FFmpeg takes some (playlists, lists of files) for videos, and reads the files they name."""
    with open(path, "rb") as file:
        head = file.read(256)
    printable = not any(byte < 32 and byte not in b"\t\n\f\r" for byte in head)
    return head.startswith((b"ffconcat", b"#EXTM3U")) or (printable and not head.startswith(b"YUV4MPEG2"))


def gif_pictures(path: Path) -> int:
    """How many pictures a GIF file holds (GIF89a, appendix B).

    Raises:
        ValueError: its blocks do not lead from one to the next up to the trailer.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pictures = position = 0
        try:
            if content[:4] != b"GIF8":
                raise ValueError("it is no GIF")
            position = 13 + _colours(content[10])
            while content[position] != 0x3B:  # the trailer
                if content[position] == 0x2C:  # a picture: descriptor, colours, a number, blocks of pixels
                    pictures += 1
                    position += 11 + _colours(content[position + 9])
                elif content[position] == 0x21:  # an extension: its kind, blocks
                    position += 2
                else:
                    raise ValueError(f"damaged at byte {position} of {len(content)}, after {pictures} pictures")
                while length := content[position]:
                    position += 1 + length
                position += 1
        except IndexError:
            raise ValueError(f"the end of the file is missing, after {pictures} pictures") from None
    return pictures


def _colours(flags: int) -> int:
    """Bytes of the table of colours that such flags of a GIF announce."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


def _boxes(file: BinaryIO, size: int) -> Statement:
    """The boxes of an MP4 file (ISO 14496-12): do they end with it, and the time that "mvhd" says it plays."""
    position, seconds, fragmented = 0, 0.0, False
    while position + 8 <= size:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8))
        if length == 0 or kind not in _BOXES:  # up to the end of the file; or something else was appended
            break
        if kind == b"moov":
            header = file.read(40).ljust(40, b"\0")  # of "mvhd": size, name, version, two times of 4 or 8 bytes
            scale, duration = struct.unpack_from(">IQ" if header[8] else ">II", header, 28 if header[8] else 20)
            seconds = duration / max(1, scale)
        fragmented |= kind == b"moof"
        position += max(8, length)
    return Statement(position <= size, seconds, fragmented)


def _length(head: bytes) -> int | None:
    """How many bytes a file has, by its beginning."""
    if head[:4] == bytes.fromhex("1a45dfa3"):  # RFC 8794 and 9559: identifier, size, content; all is in a "Segment"
        segment = head.find(bytes.fromhex("18538067"))
        length, begin = _ebml_size(head, segment + 4)
        return None if segment < 0 or length is None else begin + length
    stated = 0.0
    if head[:4] == bytes.fromhex("3026b275"):  # ASF, section 3.2: file properties
        properties = head.partition(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))[2]
        stated = int.from_bytes(properties[24:32], "little")
    elif head[:3] == b"FLV":  # annex E.5: "onMetaData" may have a number of this name
        (stated,) = struct.unpack(">d", head.partition(b"\0\x08filesize\0")[2][:8].ljust(8, b"\0"))
    return int(stated) if 0 < stated < 2**63 else None


def _ebml_size(data: bytes, position: int) -> tuple[int | None, int]:
    """A number of variable length, None where it is unknown; and where it ends."""
    length = 9 - int.from_bytes(data[position : position + 1]).bit_length()
    number, most = int.from_bytes(data[position : position + length]), 1 << 7 * length
    return (None if number % most == most - 1 else number % most), position + length
