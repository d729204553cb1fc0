"""The readers, each with good inputs that are spoilt: one call reads one input, below the current folder."""

import contextlib
import io
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from htsr.errors import InputError

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "published")]
Read = Callable[[random.Random], object]
TARGETS: dict[str, Callable[[], Read]] = {}
FORM = (16, 16, 1)
CONFIG = (ROOT / "configs" / "mmnist_laptop.yml").read_bytes()
YAML = tuple(
    b"*a &a !!python/object:os.system !!binary !!set << ? : - --- ... [ ] { } , # | > ' \" %YAML 1e309 .nan 0x1F 1:30"
    b" \xef\xbb\xbf \xff\xfe \x00 \xe2\x80\xa8 \t \n null ~ yes 2024-01-01 ${x}".split(b" ")
)
ARRAY = np.arange(12 * 16 * 16, dtype=np.uint8).reshape(12, 16, 16, 1)


def target(make: Callable[[], Read]) -> Callable[[], Read]:
    """Add a target: it is made once in each process, and then called for every input."""
    TARGETS[make.__name__] = make
    return make


def written(path: str, content: bytes) -> Path:
    """Write an input, in place of whatever is there."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


@contextlib.contextmanager
def as_input_error(kind: type[Exception]):
    """Count a refusal of another kind as one."""
    try:
        yield
    except kind as error:
        raise InputError(str(error)) from None


def saved(array: np.ndarray) -> bytes:
    """Return an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def decoded(path: Path) -> None:
    """Read a video to its end."""
    from htsr.data.video.files import FrameFormat, Video
    from htsr.data.video.reader import VideoReader

    for _ in VideoReader(Video(path.name, path), FrameFormat(*FORM)):
        pass
