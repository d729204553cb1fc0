"""What a container file states about itself, read from its bytes: nothing is decoded, nothing here knows of htsr.

MP4 (and QuickTime), Matroska (and WebM), ASF (.wmv) and Ogg; of other files nothing is known.
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

_BOXES = b"ftyp styp sidx ssix prft emsg moov moof mfra mdat free skip wide uuid udta meta pnot".split()  # of MP4


class Statement(NamedTuple):
    """Is the file ``whole`` (None: nothing tells)? Of MP4: how many ``seconds`` does it play (0: unknown), and is it
    ``fragmented``, where no table counts the frames?"""

    whole: bool | None = None
    seconds: float = 0
    fragmented: bool = False


def look_into(path: Path) -> Statement:
    """Matroska, ASF, Ogg: is the file as long as they state, does the last page say so? MP4: that, and `_boxes`."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, size - 2**16))
        tail = file.read()
        if not any(tail[-1024:]):  # room was made for a download that did not end: nothing tells what came
            return Statement()
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes(file, size)
    if head[:4] == bytes.fromhex("1a45dfa3"):  # RFC 8794 and 9559: identifier, size, content; all is in a "Segment"
        segment = head.find(bytes.fromhex("18538067"))
        length, begin = _ebml_size(head, segment + 4)
        return Statement(None if segment < 0 or length is None else begin + length <= size)
    properties = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if head[:4] == bytes.fromhex("3026b275") and properties > 0:  # ASF, section 3.2: file properties
        stated = int.from_bytes(head[properties + 40 : properties + 48], "little")
        return Statement(stated <= size if stated else None)
    if head[:4] == b"OggS":  # RFC 3533, section 6: bit 2 of the header marks the last page
        return Statement(any(byte & 4 for byte in tail[tail.rfind(b"OggS") :][5:6]))
    return Statement()


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


def _ebml_size(data: bytes, position: int) -> tuple[int | None, int]:
    """A number of variable length, None where it is unknown; and where it ends."""
    length = 9 - int.from_bytes(data[position : position + 1]).bit_length()
    number, most = int.from_bytes(data[position : position + length]), 1 << 7 * length
    return (None if number % most == most - 1 else number % most), position + length
