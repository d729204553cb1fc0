"""Patch size and frame size from the channels of a patch, which is all that weights know of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from htsr.errors import InputError


def patching(patch_channels: int, grid: Sequence[int] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is certain of ``patch_size`` and ``frame_shape``.

    ``patch_channels`` are ``channels * patch_size ** 2``. Without a ``patch_size`` or ``frame_shape`` in ``given`` the
    frame is taken to have as few channels as it can: 16 are patches of 4x4 in grey, 8 of 2x2 with two channels.

    Args:
        patch_channels: outputs of the model's last convolution.
        grid: rows and columns of patches where layer normalisation tells, or None.
        given: arguments of the model that were set.
    """
    size, shape = given.get("patch_size"), given.get("frame_shape")
    channels = shape[-1] if isinstance(shape, Sequence) and len(shape) == 3 else None
    sides = [n for n in range(1, 65) if patch_channels % n**2 == 0 and channels in (None, patch_channels // n**2)]
    if size is None and sides:
        size = max(sides)
    if size not in sides:
        what = [f"patches of {size}x{size}"] * (size is not None)
        what += [f"frames of {channels} channels"] * (channels is not None)
        raise InputError(
            f"the weights have {patch_channels} channels a patch, which {' and '.join(what)} do not give; leave out "
            "model.patch_size or model.frame_shape"
        )
    channels = patch_channels // size**2
    return {"patch_size": size, **({"frame_shape": [*(n * size for n in grid), channels]} if grid else {})}


def published_frames(patch_channels: int, patch_size: int) -> dict[str, Any]:
    """The frames that models with so many channels a patch were published for, if there are any."""
    shapes = {(16, 4): [64, 64, 1], (8, 2): [32, 32, 2], (4, 2): [32, 64, 1]}
    shape = shapes.get((patch_channels, patch_size))
    return {"frame_shape": shape} if shape else {}
