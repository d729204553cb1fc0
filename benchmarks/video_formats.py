"""Does the reader get every frame of every container, and the right picture? One table, held against other decoders.

The same moving picture of 100 frames is written into as many pairs of container and codec as PyAV can encode; our
reader (PyAV), OpenCV where it can, and, where it is installed, the ffmpeg program of imageio-ffmpeg read it back.
Videos named as arguments are read too. Every file is then cut at 60 % of its bytes: the last column says what the
reader makes of that.

    pip install imageio-ffmpeg
    python -m benchmarks.video_formats [videos …]

Exits with status 1 where counts differ, or where our pictures are not those of the other decoder.
"""

import argparse
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FRAMES, HEIGHT, WIDTH = 100, 64, 96
LIMIT = 6.0  # grey levels of mean difference: two conversions from YUV to RGB differ by less, two pictures by more
CUT = 0.6
INTERLACED = 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT and _ME


class Case(NamedTuple):
    """A file to write: its name, codec and pixel format, and what is special about it."""

    name: str
    codec: str
    pixels: str = "yuv420p"
    what: str = ""
    b_frames: int | None = None
    options: dict[str, str] = {}  # noqa: RUF012 (never changed)
    size: tuple[int, int] = (HEIGHT, WIDTH)
    rate: Fraction = Fraction(25)
    varying: bool = False
    flags: int = 0


NTSC = Fraction(30000, 1001)
CASES = [
    *(Case(f"h264.{suffix}", "libx264") for suffix in ("mp4", "mov", "mkv", "ts", "flv")),
    Case("h264_avi.avi", "libx264", b_frames=0),
    Case("h264_b.mp4", "libx264", what="B-frames", b_frames=3),
    Case("h264_b.mkv", "libx264", what="B-frames", b_frames=3),
    Case("h264_start.mp4", "libx264", what="table first", options={"movflags": "faststart"}),
    Case("h264_frag.mp4", "libx264", what="in fragments", options={"movflags": "frag_keyframe+empty_moov"}),
    Case("h264_live.mkv", "libx264", what="live: no length", options={"live": "1"}),
    Case("hevc.mp4", "libx265"),
    Case("vp8.webm", "libvpx"),
    Case("vp8_live.webm", "libvpx", what="live: no length", options={"live": "1"}),
    Case("vp9.webm", "libvpx-vp9"),
    Case("vp9.mkv", "libvpx-vp9"),
    Case("av1.webm", "libsvtav1"),
    Case("av1.mkv", "libsvtav1"),
    Case("av1.mp4", "libsvtav1"),
    Case("mpeg4.avi", "mpeg4"),
    Case("mpeg4_b.avi", "mpeg4", what="B-frames", b_frames=2),
    Case("mpeg4.mp4", "mpeg4"),
    Case("msmpeg4.avi", "msmpeg4"),
    Case("mpeg1.mpg", "mpeg1video"),
    Case("mpeg1.ts", "mpeg1video"),
    Case("mpeg2.mpg", "mpeg2video"),
    Case("mpeg2.ts", "mpeg2video"),
    Case("mpeg2_ntsc.mpg", "mpeg2video", what="29.97 frames/s", rate=NTSC),
    Case("mpeg2_inter.mpg", "mpeg2video", what="interlaced", flags=INTERLACED),
    Case("mjpeg.avi", "mjpeg", "yuvj420p"),
    Case("mjpeg.mov", "mjpeg", "yuvj420p"),
    Case("ffv1.mkv", "ffv1", "bgr0"),
    Case("ffv1.avi", "ffv1", "bgr0"),
    Case("huffyuv.avi", "huffyuv", "rgb24"),
    Case("png.mov", "png", "rgb24"),
    Case("raw.avi", "rawvideo", "bgr24"),
    Case("prores.mov", "prores_ks", "yuv422p10le"),
    Case("dv.avi", "dvvideo", what="interlaced", size=(576, 720)),
    Case("wmv2.wmv", "wmv2"),
    Case("flv1.flv", "flv"),
    Case("theora.ogv", "libtheora"),
    Case("gif.gif", "gif", "rgb8"),
    *(Case(f"h264_vfr.{suffix}", "libx264", what="varying rate", varying=True) for suffix in ("mkv", "mp4")),
    Case("vp8_vfr.webm", "libvpx", what="varying rate", varying=True),
    Case("ffv1_odd.mkv", "ffv1", "bgr0", "61 x 97", size=(61, 97)),
    Case("mjpeg_odd.avi", "mjpeg", "yuvj420p", "61 x 97", size=(61, 97)),
    Case("h264_odd.mp4", "libx264", "yuv444p", "61 x 97", size=(61, 97)),
    Case("vp9_odd.webm", "libvpx-vp9", what="61 x 97", size=(61, 97)),
]
PROGRAM_CASES = {  # made from h264.mp4 by the ffmpeg program: name → (what, arguments)
    "h264_trim.mp4": ("edit list", ["-ss", "2.5", "-i", "h264.mp4", "-c", "copy"]),
    "h264_turn.mp4": ("turned by 90°", ["-display_rotation", "90", "-i", "h264.mp4", "-c", "copy"]),
    "h264_late.mkv": ("begins at 10 s", ["-i", "h264.mp4", "-c", "copy", "-output_ts_offset", "10"]),
    "h264_sound.mkv": (
        "2 s more sound",
        ["-f", "lavfi", "-i", "sine=d=6", "-i", "h264.mp4", "-map", "1:v", "-map", "0:a", "-c:v", "copy"],
    ),
    "theora.ogv": ("", ["-i", "h264.mp4", "-c:v", "libtheora"]),
    "mpeg4_skip.avi": ("skipped frames", ["-i", "h264_vfr.mkv", "-c:v", "mpeg4", "-fps_mode", "vfr"]),
}
COLUMNS = ("container", "codec", "", "frames written", "ours", "OpenCV", "ffmpeg", "frames/s stated", "difference")
COLUMNS += ("decoder", "cut at 60 %")


class Row(NamedTuple):
    """What came of one file; ``good`` is False where counts or pictures differ."""

    cells: list[Any]
    good: bool


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold the reader of videos against other decoders.")
    parser.add_argument("videos", nargs="*", type=Path, help="more files to read")
    videos = parser.parse_args().videos
    try:
        import av
    except ImportError:
        parser.error("PyAV writes the files: pip install av")
    av.logging.set_level(None)
    good = True
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    with tempfile.TemporaryDirectory() as folder:
        for path, what, written in [*written_files(Path(folder)), *((video, "", None) for video in videos)]:
            row = compare(path, what, written, Path(folder))
            good &= row.good
            print("| " + " | ".join(str(cell) for cell in row.cells) + " |", flush=True)
    return 0 if good else 1


def written_files(folder: Path) -> Iterator[tuple[Path, str, int | None]]:
    """(file, what is special about it, frames written) of all that can be encoded here."""
    import av

    for case in CASES:
        try:
            encode(folder / case.name, case)
        except (av.FFmpegError, ValueError) as error:
            (folder / case.name).unlink(missing_ok=True)
            if case.name not in PROGRAM_CASES:
                print(f"| {case.name} | {case.codec} | cannot be written here: {error} |" + " |" * 8)
            continue
        yield folder / case.name, case.what, FRAMES
    program = ffmpeg_program()
    for name, (what, arguments) in PROGRAM_CASES.items() if program else ():
        command = [program, "-loglevel", "error", "-y", *arguments, name]
        if not (folder / name).exists() and not subprocess.run(command, cwd=folder, check=False).returncode:
            yield folder / name, what, None if "-ss" in arguments else FRAMES


def encode(path: Path, case: Case) -> None:
    """Write the test picture, one flat field a corner and a bar that moves, as a case says."""
    import av

    with av.open(str(path), "w", container_options=case.options) as container:
        stream = container.add_stream(case.codec, rate=case.rate)
        stream.height, stream.width, stream.pix_fmt = *case.size, case.pixels
        stream.codec_context.flags |= case.flags
        if case.b_frames is not None:
            stream.codec_context.max_b_frames = case.b_frames
        time = 0
        for number, picture in enumerate(pictures(*case.size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if case.varying:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                time += 200 if number % 7 == 0 else 40
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def pictures(height: int, width: int) -> Iterator[np.ndarray]:
    """The test picture, uint8 (height, width, RGB): four flat fields, a gradient, and a bar that says the time."""
    for number in range(FRAMES):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[: height // 2, : width // 2, 0] = 200
        picture[: height // 2, width // 2 :, 1] = 200
        picture[height // 2 :, : width // 2, 2] = 200
        picture[height // 2 :, width // 2 :] = np.linspace(0, 255, width - width // 2).astype(np.uint8)[:, None]
        begin = 3 * number % (width - 8)
        picture[height // 4 : 3 * height // 4, begin : begin + 8] = 255
        yield picture


def compare(path: Path, what: str, written: int | None, folder: Path) -> Row:
    """Read a file with all decoders, whole and cut."""
    from htsr.data.video.files import DamagedVideo, Video
    from htsr.data.video.reader import VideoReader

    reader = VideoReader(Video(path.name, path), None)
    others, differences = opencv_frames(path), []
    independent = 0
    try:
        for count, frame in enumerate(reader, start=1):
            ours = str(count)
            if (other := next(others, None)) is not None:
                independent += 1
                same = other.shape == frame.shape
                differences.append(np.abs(frame.astype(int) - other).mean() if same else np.inf)
    except DamagedVideo as error:
        ours = f"refused: {error}"
    independent += sum(1 for _ in others)
    by_program = program_count(path)
    difference = float(np.mean(differences)) if differences else None
    counts = {ours, str(written or ours), str(independent or ours), str(by_program or ours)}
    fps = f"{reader.fps:.2f}" if reader.fps else ""
    part = folder / f"cut{path.suffix}"
    content = path.read_bytes()
    part.write_bytes(content[: int(CUT * len(content))])
    cells = [
        path.suffix,
        codec_of(path),
        what,
        written or "",
        ours,
        independent or "",
        by_program or "",
        fps,
        "" if difference is None else f"{difference:.2f}",
    ]
    return Row([*cells, reader.decoder, cut_result(part)], len(counts) == 1 and (difference or 0) < LIMIT)


def cut_result(path: Path) -> str:
    from htsr.data.video.files import DamagedVideo, Video
    from htsr.data.video.reader import VideoReader

    reader = VideoReader(Video(path.name, path), None)
    try:
        count = sum(1 for _ in reader)
    except DamagedVideo:
        return "refused"
    return f"{count} frames, nothing tells"


def codec_of(path: Path) -> str:
    import av

    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.codec.canonical_name


def opencv_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames by OpenCV alone, uint8 RGB; none where it cannot decode (AV1, interlaced pictures, GIF here)."""
    import cv2

    if path.suffix == ".gif":
        return
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    pictures = itertools.takewhile(lambda picture: picture is not None, (capture.read()[1] for _ in itertools.count()))
    begin = list(itertools.islice(pictures, 2))
    if len(begin) == 2 and np.array_equal(*begin):  # of interlaced pictures it gives the same buffer again and again
        return
    for picture in itertools.chain(begin, pictures):
        yield picture[..., ::-1]


def ffmpeg_program() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return shutil.which("ffmpeg")
    return imageio_ffmpeg.get_ffmpeg_exe()


def program_count(path: Path) -> int | None:
    """Frames that the ffmpeg program decodes; None without it."""
    program = ffmpeg_program()
    if not program:
        return None
    command = [program, "-loglevel", "error", "-nostdin", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "gray", "-vf", "scale=1:1", "-"]
    return len(subprocess.run(command, capture_output=True, check=False).stdout)


if __name__ == "__main__":
    raise SystemExit(main())
