"""What frames are, whatever their files are called: digests of every four of them.

Of two videos, or of a video and what it has grown to, they are equal where the frames are.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

BLOCK = 4  # frames
DIGITS = 16  # of a digest, hexadecimal
STILL = "0" * DIGITS  # a block of equal frames, which any video may have


class Digests:
    """The digests of a video's blocks, one after the other: ``add`` every frame, then read ``text``."""

    def __init__(self):
        self._done, self._block = [], []

    def add(self, frame: np.ndarray | bytes) -> None:
        """Take the next frame, or the content of its file."""
        self._block.append(hashlib.sha256(frame if isinstance(frame, bytes) else np.ascontiguousarray(frame)).digest())
        if len(self._block) == BLOCK:
            self._done.append(_digest(self._block))
            self._block = []

    @property
    def text(self) -> str:
        """Digests of all blocks, the last one perhaps shorter."""
        return "".join([*self._done, *([_digest(self._block)] if self._block else [])])


def digests_of(frames: Iterable[np.ndarray | bytes]) -> str:
    """Return the digests of some frames."""
    digests = Digests()
    for frame in frames:
        digests.add(frame)
    return digests.text


def part(digests: str, start: int, stop: int, frames: int) -> str:
    """Return the digests of the blocks that lie inside the frames start … stop - 1 of a video of so many frames."""
    first, last = -(-start // BLOCK), stop // BLOCK if stop < frames else -(-stop // BLOCK)
    return digests[first * DIGITS : last * DIGITS]


def _digest(block: list[bytes]) -> str:
    if len(block) > 1 and len(set(block)) == 1:
        return STILL
    return hashlib.sha256(b"".join(block)).hexdigest()[:DIGITS]
