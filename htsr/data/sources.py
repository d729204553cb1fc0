"""What a dataset offers: windows, and what is known about them. Every attribute is declared here, with its default."""

from collections.abc import Callable
from typing import Any

import numpy as np

from htsr.data.video.contents import digests_of

_LOOKED_AT = 8  # windows


class WindowSource:
    """Base class of a dataset: ``num_clips`` windows of one shape, and what is known about them.

    A subclass sets ``shape`` and ``num_clips`` and defines ``window``. It overrides those of the other attributes that
    it knows something about; whoever reads them never has to ask whether they are there.

    Attributes:
        shape: of a window, (time, height, width, channel).
        num_clips: windows, per epoch where they are drawn on the fly.
        units: the quantities that 0 and 1 stand for, such as (-10.0, 85.0) dBZ; evaluation then reports errors in them,
            too. None where values are mere brightness.
        note: what every result on these clips has to say ("synthetic stand-in for KTH"), or None.
        no_validation: why there is no validation split, or None where there is one.
        labels: ``labels(index)`` returns the classes of the clip's objects, (object,); None where they are unknown.
        positions: ``positions(index)`` returns the objects' top left corners in pixels, (time, object, 2); or None.
        resolved: arguments of the dataset that followed from its files, with the values that they got.
    """

    shape: tuple[int, int, int, int]
    num_clips: int
    units: tuple[float, float] | None = None
    note: str | None = None
    no_validation: str | None = None
    labels: Callable[[int], np.ndarray] | None = None
    positions: Callable[[int], np.ndarray] | None = None
    resolved: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """Return window ``index`` of 0 … num_clips - 1, uint8, or float32 in [0, 1] where 256 levels are too few.

        Args:
            index: of the window.
            epoch: only sources that draw their clips make use of it.
        """
        raise NotImplementedError

    def contents(self) -> list[tuple[str, int, int, str]]:
        """Return what the windows are made of, by content: (name, first frame, last + 1, digests) of each part.

        Digests are of blocks of frames (`htsr.data.video.contents`). Here they are of some windows alone, which tells
        whether data was replaced.
        """
        chosen = sorted({self.num_clips * place // _LOOKED_AT for place in range(_LOOKED_AT)})
        return [("windows", 0, self.num_clips, digests_of(frame for index in chosen for frame in self.window(index)))]
