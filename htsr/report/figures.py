"""Pictures of rollouts (strips, GIFs, films) and numbers (curves over the horizon or a training): arrays in, files out.

In every picture context frames are framed green and counted up to 0, predicted frames are framed red and counted from
+1, the same count as on the axis of the horizon curves. Curves use the colours of Okabe and Ito (Color Universal
Design, 2008), which colour-blind readers can tell apart, and a line style each.
"""

import functools
import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from htsr.errors import InputError
from htsr.files import require_utf8

_backend = os.environ.pop("MPLBACKEND", None)  # of a notebook, say: Matplotlib refuses to be imported with some
try:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

Rows = Mapping[str, np.ndarray]
Band = tuple[np.ndarray, np.ndarray, np.ndarray]

GREEN, RED = (0, 158, 96), (220, 38, 38)
MAX_COLUMNS, MAX_WIDTH = 25, 2000
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))

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


def _as_by_default(draw):
    """Draw with Matplotlib's own settings: those of the user's matplotlibrc may need LaTeX, or hide what is drawn."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.style.context("default"):
            return draw(*args, **kwargs)

    return drawn


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


@_as_by_default
def save_curves(path: str | Path, curves: Mapping[str, Mapping[str, Band]], title: str, subtitle: str) -> None:
    """Plot metrics over the horizon, a panel a metric, with 95 % intervals as bands.

    Args:
        path: the file, ``.png``.
        curves: metric in words → series (model or baseline) → mean, low and high, each ``(horizon,)``.
        title: first line.
        subtitle: second line: what the numbers are of (clips, samples, context).
    """
    if not curves:
        raise InputError("no curves to plot; give at least one metric")
    figure, panels = _panels(len(curves), title, subtitle)
    names = list(dict.fromkeys(name for series in curves.values() for name in series))
    for panel, (metric, series) in zip(panels, curves.items(), strict=True):
        for name, (mean, low, high) in series.items():
            frames = np.arange(1, len(mean) + 1)
            look = _look(names.index(name))
            panel.fill_between(frames, low, high, color=look["color"], alpha=0.15, linewidth=0)
            panel.plot(frames, mean, label=name, marker="o" if len(mean) == 1 else None, **look)
        panel.set_title(metric, fontsize=10, loc="left")
        panel.set_xlabel("frames after the context")
    _finish(figure, panels, path)


@_as_by_default
def save_latents(
    path: str | Path,
    kl: Mapping[str, tuple[np.ndarray, np.ndarray]],
    units: Mapping[str, np.ndarray],
    active: float,
    curves: Mapping[str, Mapping[str, Band]],
    title: str,
    subtitle: str,
) -> None:
    """Plot what the levels of a latent hierarchy carry: KL over the frames as steps, KL by unit, and horizon curves.

    Args:
        path: the file, ``.png``.
        kl: level → the ends of its ticks in frames, counted as in pictures, ``(ticks + 1,)``, and nats ``(ticks,)``.
        units: level → nats a tick of every unit; drawn from the largest to the smallest, and not below a tenth of
            ``active``.
        active: the KL from which a unit counts as active.
        curves: as in ``save_curves``.
        title: first line.
        subtitle: second line: what the numbers are of.
    """
    figure, panels = _panels(len(kl) + 1 + len(curves), title, subtitle)
    names = list(dict.fromkeys([*units, *(name for series in curves.values() for name in series)]))
    looks = {name: _look(index) for index, name in enumerate(names)}
    for panel, (level, (edges, nats)) in zip(panels, kl.items(), strict=False):
        panel.stairs(nats, edges, baseline=None, label=level, **looks[level])
        panel.set_ylim(0, 1.05 * nats[np.isfinite(nats)].max(initial=0) or 1)
        panel.set_title(f"KL of {level} (nats a tick)", fontsize=10, loc="left")
        panel.set_xlabel("frames after the context")
    panel, floor = panels[len(kl)], active / 10
    for level, nats in units.items():
        edges = np.arange(len(nats) + 1) + 0.5
        panel.stairs(np.maximum(np.sort(nats)[::-1], floor), edges, baseline=None, label=level, **looks[level])
    panel.axhline(active, color="gray", linewidth=0.8)
    panel.set_yscale("log")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_title(f"KL by unit (nats a tick); active above {active:g}", fontsize=10, loc="left")
    panel.set_xlabel("units, the largest first")
    for panel, (metric, series) in zip(panels[len(kl) + 1 :], curves.items(), strict=True):
        for name, (mean, low, high) in series.items():
            frames = np.arange(1, len(mean) + 1)
            panel.fill_between(frames, low, high, color=looks[name]["color"], alpha=0.15, linewidth=0)
            panel.plot(frames, mean, label=name, marker="o" if len(mean) == 1 else None, **looks[name])
        panel.set_title(metric, fontsize=10, loc="left")
        panel.set_xlabel("frames after the context")
    _finish(figure, panels, path)


@_as_by_default
def save_training_curves(path: str | Path, records: Sequence[Mapping[str, object]], title: str = "Training") -> None:
    """Plot what a training logged, over its steps.

    Every finite number but the step is a curve. Names that differ in a leading ``valid/`` or a trailing level number
    (``nll`` and ``valid/nll``, ``kl_0`` and ``kl_1``) share a panel. Long curves are averaged to 400 points; axes
    show the middle 99 % of the values.

    Args:
        path: the file, ``.png``.
        records: lines of ``metrics.jsonl``, each with ``step`` and any numbers.
        title: first line.
    """
    curves = _by_panel(records)
    if not curves:
        raise InputError("no training records with numbers to plot; metrics.jsonl is written by htsr train")
    figure, panels = _panels(len(curves), title, f"{len(records)} records")
    for panel, (quantity, series) in zip(panels, curves.items(), strict=True):
        for index, (name, points) in enumerate(series.items()):
            steps, values = (_binned(np.array(column), 400) for column in zip(*points, strict=True))
            panel.plot(steps, values, label=name, marker="o" if len(steps) < 20 else None, markersize=3, **_look(index))
        values = [value for points in series.values() for _, value in points]
        low, high = np.percentile(values, [0.5, 99.5])
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        panel.set_ylim(low - margin, high + margin)
        panel.set_title(quantity, fontsize=10, loc="left")
        panel.set_xlabel("training steps")
        if len(series) > 1:
            panel.legend(fontsize=8)
    _finish(figure, [], path)


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

    Args:
        labels: one a clip.
        clips: RGB pixels ``(time, height, width, 3)`` or colour numbers ``(time, height, width)``, as ``ink`` is.
        context: how many of the first frames were observed.
        ink: what to draw with.
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


def _panels(count: int, title: str, subtitle: str) -> tuple[Figure, list]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.4 * columns, 3.1 * rows + 1.1), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}\n{subtitle}", fontsize=11, x=0.01, ha="left")
    panels = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _look(index: int) -> dict:
    """Return colour and line style of the index-th series: colours return with other line styles."""
    turn, place = divmod(index, len(OKABE_ITO))
    return {
        "color": OKABE_ITO[place],
        "linestyle": LINE_STYLES[(place + 4 * turn) % len(LINE_STYLES)],
        "linewidth": 1.6,
    }


def _finish(figure: Figure, panels: list, path: str | Path) -> None:
    """Write the figure, with one legend below for the panels given."""
    series = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if series:
        figure.legend(series.values(), series.keys(), loc="outside lower left", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, format="png")


def _by_panel(records: Sequence[Mapping[str, object]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return panel → curve → (step, value) pairs."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        for name, value in record.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if number and name != "step":
                quantity = re.sub(r"_\d+$", "", name.removeprefix("valid/"))
                curves.setdefault(quantity, {}).setdefault(name, []).append((record["step"], value))
    return curves


def _binned(values: np.ndarray, points: int) -> np.ndarray:
    """Return the means of equally many neighbours, at most ``points`` of them."""
    return np.array([part.mean() for part in np.array_split(values, min(points, len(values)))])
