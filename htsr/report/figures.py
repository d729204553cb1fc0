"""Pictures of rollouts: strips, GIFs and films; arrays in, files out.

In every picture context frames are framed green and counted up to 0, predicted frames are framed red and counted from
+1, the same count as on the axis of the horizon curves.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from htsr.errors import InputError
from htsr.files import require_utf8

Rows = Mapping[str, np.ndarray]

GREEN, RED = (0, 158, 96), (220, 38, 38)
MAX_COLUMNS, MAX_WIDTH = 25, 2000

_BORDER, _GAP, _TEXT = 2, 4, 13
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_INTERFACE = (*_WHITE, *_BLACK, *GREEN, *RED)  # the first colours of every GIF


class _Ink(NamedTuple):
    """The colours around the frames of an animation, as its pictures have them: the mode they are drawn in first."""

    mode: str
    white: Any
    black: Any
    green: Any
    red: Any


_NUMBERS = _Ink("L", *range(4))  # in a GIF's table of colours
_RGB = _Ink("RGB", _WHITE, _BLACK, GREEN, RED)


def rollout_image(rows: Rows, context: int, every: int | None = None) -> np.ndarray:
    """Draw clips below each other, a column a time step.

    Args:
        rows: label → uint8 ``(time, height, width, channel)``, all of one shape; the channels of frames that are
            neither grey nor colour stand side by side.
        context: how many of the first frames were observed.
        every: show every n-th frame, counted from the first predicted one; by default all, or so few that the picture
            stays readable: at most 25 columns and about 2000 pixels.

    Returns:
        uint8 ``(height, width, 3)``.
    """
    if every is not None and every < 1:
        raise InputError(f"every must be at least 1, received {every}")
    clips = _checked(rows, context)
    time, height, width, _ = clips[0].shape
    scale = _scale(width, 64)
    cell_width, cell_height = width * scale + 2 * _BORDER + _GAP, height * scale + 2 * _BORDER + _GAP
    every = every or math.ceil(time / min(MAX_COLUMNS, max(8, MAX_WIDTH // cell_width)))
    shown = [t for t in range(time) if (t - context) % every == 0 or t == context - 1]
    font = _font()
    left = math.ceil(max(font.getlength(label) for label in rows)) + 3 * _GAP
    top = _TEXT + 2 * _GAP
    image = Image.new("RGB", (left + len(shown) * cell_width, top + len(clips) * cell_height), _WHITE)
    draw = ImageDraw.Draw(image)
    for column, t in enumerate(shown):
        x = left + column * cell_width
        draw.text((x + cell_width // 2, top // 2), _count(t, context), _colour(t, context), font, anchor="mm")
        for row, clip in enumerate(clips):
            rgb = np.broadcast_to(clip[t], (height, width, 3))
            image.paste(_framed(rgb, scale, _colour(t, context)), (x, top + row * cell_height))
    for row, label in enumerate(rows):
        draw.text((_GAP, top + row * cell_height + cell_height // 2), label, _BLACK, font, anchor="lm")
    return np.asarray(image)


def save_strip(path: str | Path, rows: Rows, context: int, every: int | None = None) -> None:
    """Write ``rollout_image`` as a PNG file."""
    Image.fromarray(rollout_image(rows, context, every)).save(path, "PNG", optimize=True)


def save_contact_sheet(path: str | Path, rows: Rows) -> None:
    """Write pictures below each other, a row a video, with its label above it, as a PNG file.

    Args:
        path: the file, ``.png``.
        rows: label → uint8 ``(picture, height, width, 1 or 3)``; rows may differ in the number of pictures.
    """
    if not rows:
        raise InputError("no videos to show; give at least one row")
    _, height, width, _ = next(iter(rows.values())).shape
    scale, font, line = _scale(width, 64), _font(), _TEXT + 2 * _GAP
    cell_height, cell_width = height * scale + 2 * _BORDER, width * scale + 2 * _BORDER
    longest = max(len(pictures) for pictures in rows.values()) * (cell_width + _GAP)
    size = (
        math.ceil(max(longest, *(font.getlength(label) for label in rows))) + 2 * _GAP,
        len(rows) * (cell_height + line),
    )
    sheet = Image.new("RGB", size, _WHITE)
    draw = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows.items()):
        top = row * (cell_height + line)
        draw.text((_GAP, top + line // 2), label, _BLACK, font, anchor="lm")
        for column, picture in enumerate(pictures):
            rgb = np.broadcast_to(picture, (height, width, 3))
            sheet.paste(_framed(rgb, scale, _BLACK), (_GAP + column * (cell_width + _GAP), top + line))
    sheet.save(path, "PNG", optimize=True)


def save_gif(path: str | Path, rows: Rows, context: int, fps: float = 10) -> None:
    """Write clips side by side as one looping animation.

    Args:
        path: the file, ``.gif``.
        rows: label → uint8 ``(time, height, width, channel)``, all of one shape, as in ``rollout_image``.
        context: how many of the first frames were observed.
        fps: frames per second, 1 to 50 (what viewers can show).
    """
    if not 1 <= fps <= 50:
        raise InputError(f"fps must be 1 to 50, received {fps}")
    clips = _checked(rows, context)
    colours = _common_colours(clips)
    pictures = list(_pictures(list(rows), [_indices(clip, colours) for clip in clips], context, _NUMBERS))
    for picture in pictures:
        picture.putpalette([*_INTERFACE, *colours])
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)


def save_mp4(path: str | Path, rows: Rows, context: int, fps: float = 10) -> None:
    """Write the pictures of ``save_gif`` as a film, in all their colours; its length takes no memory.

    Args:
        path: the file, ``.mp4``.
        rows: label → uint8 ``(time, height, width, channel)``, all of one shape, as in ``rollout_image``.
        context: how many of the first frames were observed.
        fps: frames per second.
    """
    import cv2  # here, so that htsr.data.video.files is the first to import it and chooses what OpenCV prints

    if not 0 < fps < math.inf:
        raise InputError(f"fps must be above 0, received {fps}")
    clips = [np.broadcast_to(clip, (*clip.shape[:3], 3)) for clip in _checked(rows, context)]
    pictures = _pictures(list(rows), clips, context, _RGB)
    first = next(pictures)
    writer = cv2.VideoWriter(require_utf8(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), fps, first.size)
    if not writer.isOpened():
        raise InputError(
            f"OpenCV cannot write {path} ({first.width} x {first.height} pixels; the mp4v codec takes up to 8191); is "
            "its folder there? Otherwise install opencv-python-headless"
        )
    try:
        for picture in itertools.chain([first], pictures):
            writer.write(cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


def _checked(rows: Rows, context: int) -> list[np.ndarray]:
    clips = [np.asarray(clip) for clip in rows.values()]
    if not clips:
        raise InputError("no clips to draw; give at least one row")
    for label, clip in zip(rows, clips, strict=True):
        good = clip.dtype == np.uint8 and clip.ndim == 4 and clip.size
        if not good or clip.shape != clips[0].shape:
            raise InputError(
                f"row '{label}': expected uint8 (time, height, width, channel) of one shape for all rows, "
                f"received {clip.dtype} {clip.shape}; multiply by 255, round and clip"
            )
    if not 0 <= context <= len(clips[0]):
        raise InputError(f"context must be 0 to {len(clips[0])} frames, received {context}")
    time, height, width, channels = clips[0].shape
    if channels in (1, 3):
        return clips
    return [clip.transpose(0, 1, 3, 2).reshape(time, height, channels * width, 1) for clip in clips]


def _scale(width: int, wanted: int) -> int:
    """Return the whole number by which frames are enlarged to at least ``wanted`` pixels."""
    return max(1, math.ceil(wanted / width))


def _colour(t: int, context: int) -> tuple[int, int, int]:
    return GREEN if t < context else RED


def _count(t: int, context: int) -> str:
    """Return the frame's number: … -1, 0 in the context, +1, +2 … after it."""
    number = t - context + 1
    return f"+{number}" if number > 0 else str(number)


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(_TEXT)


def _framed(pixels: np.ndarray, scale: int, colour: int | tuple[int, int, int]) -> Image.Image:
    """Return RGB pixels ``(height, width, 3)`` or colour numbers ``(height, width)`` enlarged, with a border."""
    large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    framed = np.empty((large.shape[0] + 2 * _BORDER, large.shape[1] + 2 * _BORDER, *large.shape[2:]), np.uint8)
    framed[:] = colour
    framed[_BORDER:-_BORDER, _BORDER:-_BORDER] = large
    return Image.fromarray(framed)


def _pictures(labels: list[str], clips: list[np.ndarray], context: int, ink: _Ink) -> Iterator[Image.Image]:
    """Yield the pictures of an animation: labelled frames side by side, and which one of the context or prediction.

    Clips are RGB pixels ``(time, height, width, 3)`` or colour numbers ``(time, height, width)``, as the ink is.
    """
    time, height, width = clips[0].shape[:3]
    scale, font, top = _scale(width, 128), _font(), _TEXT + 2 * _GAP
    tile_width, tile_height = width * scale + 2 * _BORDER, height * scale + 2 * _BORDER
    size = (len(clips) * (tile_width + _GAP) + _GAP, tile_height + 2 * top)
    for t in range(time):
        colour = ink.green if t < context else ink.red
        picture = Image.new(ink.mode, tuple(pixels + pixels % 2 for pixels in size), ink.white)  # films have even sizes
        draw = ImageDraw.Draw(picture)
        draw.fontmode = "1" if ink.mode == "L" else "L"  # no half tones between colour numbers
        for column, (label, clip) in enumerate(zip(labels, clips, strict=True)):
            x = _GAP + column * (tile_width + _GAP)
            draw.text((x, top // 2), label, ink.black, font, anchor="lm")
            picture.paste(_framed(clip[t], scale, colour), (x, top))
        counted = f"context {t + 1}/{context}" if t < context else f"predicted {t - context + 1}/{time - context}"
        draw.text((_GAP, top + tile_height + top // 2), counted, colour, font, anchor="lm")
        yield picture


def _common_colours(clips: list[np.ndarray]) -> list[int]:
    """Return the red, green, blue, red … of 64 greys, or of the 252 commonest colours of colour clips."""
    if clips[0].shape[-1] == 1:
        return np.linspace(0, 255, 64).round().astype(int).repeat(3).tolist()
    sample = np.concatenate([clip[:: math.ceil(len(clip) / 16)] for clip in clips])
    montage = Image.fromarray(sample.reshape(-1, *sample.shape[2:]))
    return montage.quantize(252, Image.Quantize.MEDIANCUT).getpalette()


def _indices(clip: np.ndarray, colours: list[int]) -> np.ndarray:
    """Return the numbers of the nearest colours, ``(time, height, width)``; the first four are the interface's."""
    if clip.shape[-1] == 1:
        return (clip[..., 0] / 255 * 63).round().astype(np.uint8) + 4
    palette = Image.new("P", (1, 1))
    palette.putpalette([*_INTERFACE, *colours])
    return np.stack([np.asarray(Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE)) for f in clip])
