"""Uploaded clips into frames of the model, predictions into files. Runs in a process of `htsr.serving.workers`.

What a file is, its first bytes say; names and content types of clients are not looked at.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from htsr.data.video.clip import last_frames
from htsr.data.video.files import DAMAGED_PICTURE, DamagedVideo, FrameFormat, Video, convert, is_litter, map_array
from htsr.data.video.order import Doubtful, in_order
from htsr.data.video.reader import VideoReader
from htsr.errors import DAMAGE, InputError
from htsr.report.prediction import label_futures, save_animation
from htsr.serving.limits import KINDS, Limits, Refusal

# isort: split
import cv2  # after video_files, which chooses what OpenCV prints

_IMAGES = (".png", ".jpg", ".jpeg")
FPS = 10.0  # where the upload does not say


class Decoded(NamedTuple):
    """Frames for the model, uint8 (time, height, width, channel), and what was done to have them."""

    frames: np.ndarray
    report: dict[str, Any]


def kind_of(head: bytes) -> str:
    """What a file is that begins so: a suffix.

    Raises:
        Refusal: none that is read here.
    """
    if head[4:8] == b"ftyp":
        return ".mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ".avi"
    begins = {b"\x1aE\xdf\xa3": ".webm", b"GIF8": ".gif", b"\x93NUM": ".npy", b"PK\x03\x04": ".zip"}
    if head[:4] not in begins:
        shown = head[:8].hex(" ") or "nothing"
        raise Refusal(415, f"the body is no clip: expected {KINDS}, received a file that begins with {shown}; send one")
    return begins[head[:4]]


def decode(path: Path, form: FrameFormat, context: int, stride: int, limits: Limits) -> Decoded:
    """Read the last frames of a clip, ``stride`` apart; all there are, where it is shorter.

    Raises:
        Refusal: too much, or damaged.
    """
    with open(path, "rb") as file:
        suffix = kind_of(file.read(16))
    remark = None
    if suffix == ".zip":
        named, remark = _unpacked(path, limits)
    else:
        named = path.rename(path.with_suffix(suffix))
    _check_size(named, limits)
    reader = VideoReader(Video("the clip", named), form)
    try:
        frames = last_frames(_within(reader, limits), context, stride)
    except DamagedVideo as error:
        raise Refusal(422, str(error).replace(str(named), "the upload")) from None
    except (cv2.error, *DAMAGED_PICTURE) as error:
        raise Refusal(422, f"the clip cannot be decoded ({type(error).__name__}); convert it to .mp4 or .npz") from None
    height, width, channels = reader.size
    report = {
        "frames": reader.decoded,
        "size": [width, height],
        "used": {"count": len(frames), "last": reader.decoded - 1, "stride": stride},
        "resized": [height, width] != [form.height, form.width] and {"to": [form.width, form.height], "fit": form.fit},
        "grey": channels == 3 and form.channels == 1,
        "fps": reader.fps if reader.fps and 0 < reader.fps < 1000 else FPS,
        "note": "; ".join(filter(None, [remark, reader.note])) or None,
    }
    return Decoded(frames, report)


def decode_image(content: bytes, form: FrameFormat, limits: Limits) -> np.ndarray:
    """A PNG or JPEG picture as a frame, uint8 (height, width, channel).

    Raises:
        Refusal: it is none, or too large.
    """
    if not content.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        raise Refusal(422, f"the picture is no PNG or JPEG: it begins with {content[:8].hex(' ') or 'nothing'}")
    _check_image(content, limits)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        image = None
    if image is None:
        raise Refusal(422, "the picture cannot be decoded: it is damaged; send a whole PNG or JPEG")
    if image.dtype != np.uint8:
        raise Refusal(422, "the picture has 16 bits a value, expected 8: scale its values to 0 … 255")
    return convert(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), form)


def encode(folder: Path, context: np.ndarray, prediction: np.ndarray, fps: float, kind: str) -> bytes:
    """A prediction as a file.

    Args:
        folder: to work in.
        context: uint8 (time, height, width, channel).
        prediction: uint8 (num_samples, horizon, height, width, channel).
        fps: frames per second.
        kind: ``npz`` (arrays ``context``, ``prediction``, ``fps``; not compressed), or ``mp4`` or ``gif``: the
            pictures of ``htsr predict``, context framed green, prediction framed red.

    Raises:
        Refusal: they are too large for an ``mp4``.
    """
    if kind == "npz":
        file = io.BytesIO()
        np.savez(file, context=context, prediction=prediction, fps=np.float32(fps))
        return file.getvalue()
    path = folder / f"prediction.{kind}"
    try:
        save_animation(path, context, label_futures(prediction), fps)
    except InputError:
        raise Refusal(413, f"{len(prediction)} futures side by side are too wide for an {kind}; ask for npz") from None
    return path.read_bytes()


def _within(reader: VideoReader, limits: Limits) -> Iterator[np.ndarray]:
    """Yield the frames of a clip; refuse too large ones, and too many."""
    for frame in reader:
        _check_pixels(reader.size[1], reader.size[0], limits)
        if reader.decoded > limits.max_frames:
            raise Refusal(413, f"the clip has more than {limits.max_frames} frames; cut off its beginning")
        yield frame


def _check_size(path: Path, limits: Limits) -> None:
    """Refuse pictures that are too large before one of them is decoded, and arrays before they are read."""
    try:
        if path.suffix == ".gif":
            with open(path, "rb") as file:
                head = file.read(10)
            _check_pixels(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"), limits)
        elif path.suffix == ".npy":
            shape = map_array(path).shape
            if len(shape) in (3, 4):
                _check_pixels(shape[2], shape[1], limits)
        elif path.is_file():
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
            width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            capture.release()
            _check_pixels(width, height, limits)
    except DAMAGE as error:
        reason = str(error).replace(str(path), "the upload")
        raise Refusal(422, f"the clip cannot be read ({reason}); save it with np.save, uint8 frames") from None


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise Refusal(
            413, f"frames may have {limits.max_pixels} pixels, received {width} x {height}; make the clip smaller"
        )


def _check_image(content: bytes, limits: Limits) -> None:
    """Refuse what is no picture, or too large a one, from its header."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            size = image.size
    except DAMAGED_PICTURE:
        raise Refusal(422, "a picture cannot be decoded: it is damaged; send whole PNG or JPEG pictures") from None
    _check_pixels(*size, limits)


def _unpacked(path: Path, limits: Limits) -> tuple[Path, str | None]:
    """The one array of an .npz as .npy, or the pictures of a .zip as a folder, numbered, and a remark on their order.

    Sizes are counted; what a Mac or Windows put beside the pictures is passed over.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            if len(members) > limits.max_frames:
                raise Refusal(413, f"the archive has {len(members)} files, at most {limits.max_frames} are read")
            total = sum(info.file_size for info in members)
            if total > limits.max_unpacked:
                raise Refusal(
                    413,
                    f"the archive holds {total} bytes, at most {limits.max_unpacked} are unpacked; send fewer frames",
                )
            places = {info: PurePosixPath(info.filename.replace("\\", "/")) for info in members}
            members = [info for info in members if not is_litter(places[info])]
            if len(members) == 1 and members[0].filename.endswith(".npy"):
                unpacked = path.with_suffix(".npy")
                _copy(archive, members[0], unpacked)
                return unpacked, None
            if any(info.filename.endswith(".npy") for info in members):
                raise Refusal(
                    422, f"the .npz has to hold one array, received {len(members)}; save it as np.savez(file, clip)"
                )
            names = {places[info].name: info for info in members}
            if not names or any(Path(name).suffix.lower() not in _IMAGES for name in names):
                raise Refusal(415, f"the archive has to hold one .npy, or {', '.join(_IMAGES)} pictures alone")
            if len(names) < len(members):
                raise Refusal(422, "the archive holds pictures of the same name in several folders; send one sequence")
            ordered = in_order(list(names))
            folder = path.with_suffix(".frames")
            folder.mkdir()
            for number, name in enumerate(ordered.names):
                picture = folder / f"{number:06}.png"
                _copy(archive, names[name], picture)
                _check_image(picture.read_bytes(), limits)
            return folder, ordered.remark
    except Doubtful as error:
        raise Refusal(422, f"the archive {error}") from None
    except DAMAGE as error:
        raise Refusal(422, f"the archive cannot be unpacked ({error}); pack it again, without a password") from None


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    """Unpack a member, which gives no more bytes than it states."""
    with archive.open(info) as packed, open(path, "wb") as file:
        while part := packed.read(2**20):
            file.write(part)
