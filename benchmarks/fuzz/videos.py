"""Videos and pictures, in folders, archives and uploads."""

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz.spoil import NAMES, archive, npy, spoil
from benchmarks.fuzz.table import ARRAY, FORM, as_input_error, decoded, saved, target, written


def pictures_of() -> dict[str, bytes]:
    """Return good animations, and a picture, by suffix."""
    from PIL import Image

    found, frames = {}, [Image.fromarray(frame[..., 0]) for frame in ARRAY[:3]]
    for suffix, options in {"png": {}, "gif": {}, "webp": {}, "tif": {}}.items():
        file = io.BytesIO()
        frames[0].save(file, suffix.replace("tif", "tiff"), save_all=True, append_images=frames[1:], **options)
        found[suffix] = file.getvalue()
    file = io.BytesIO()
    frames[0].save(file, "png")
    return {**found, "single": file.getvalue()}


@target
def pictures():
    """Animations, and folders of pictures."""
    goods = pictures_of()

    def read(draw):
        kind = draw.choice(list(goods))
        content = spoil(draw, goods[kind], list(goods.values()))
        if kind == "single":
            shutil.rmtree("folder", ignore_errors=True)
            for number in range(3):
                written(f"folder/{number}.png", content if number == 1 else goods[kind])
            decoded(Path("folder"))
        else:
            decoded(written(f"v.{'apng' if kind == 'png' else kind}", content))

    return read


def containers_of() -> dict[str, bytes]:
    """Return good video files by suffix."""
    from htsr.data.video.files import write_video

    moving = np.stack([np.roll(np.tile(ARRAY[0], (2, 2, 3)), shift, 1) for shift in range(8)])
    found = {}
    for name, codec in (("a.mp4", "mp4v"), ("a.avi", "XVID"), ("a.webm", "VP80"), ("a.mkv", "FFV1")):
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / name, moving, 10, codec)
            found[name.rpartition(".")[2]] = (Path(folder) / name).read_bytes()
    return found


@target
def containers():
    """Video files."""
    goods = containers_of()

    def read(draw):
        kind = draw.choice(list(goods))
        decoded(written(f"v.{kind}", spoil(draw, goods[kind], list(goods.values()))))

    return read


@target
def zips():
    """Archives of videos."""
    from htsr.data.video.files import FrameFormat, find_videos
    from htsr.data.video.reader import VideoReader

    good = {"a.npy": saved(ARRAY), "b/c.gif": pictures_of()["gif"]}

    def read(draw):
        path = written("v.zip", archive(draw, good))
        for video in find_videos(path):
            for _ in VideoReader(video, FrameFormat(*FORM)):
                pass

    return read


@target
def uploads():
    """What the service decodes, whatever it is called."""
    from htsr.data.video.files import FrameFormat
    from htsr.serving.limits import Limits, Refusal
    from htsr.serving.media import decode, decode_image
    from htsr.serving.workers import guard

    guard()
    images = pictures_of()
    goods = [*containers_of().values(), images["gif"], saved(ARRAY)]
    limits = Limits(max_frames=100, max_unpacked=1 << 20, max_pixels=1 << 16)

    def read(draw):
        shutil.rmtree("up", ignore_errors=True)
        with as_input_error(Refusal):
            if draw.random() < 0.3:
                decode_image(spoil(draw, images["single"], goods), FrameFormat(*FORM), limits)
                return
            how = draw.random()
            if how < 0.4:
                members = {"1.png": images["single"], "2.png": images["single"], draw.choice(NAMES) or "x": b"x"}
                content = archive(draw, members)
            elif how < 0.5:
                content = archive(draw, {"frames.npy": npy(draw)})
            else:
                content = spoil(draw, draw.choice(goods), goods)
            decode(written("up/upload", content), FrameFormat(*FORM), 4, 1, limits)

    return read


@target
def links():
    """Folders with links and strange names."""
    from htsr.data.video.files import find_videos

    def read(draw):
        shutil.rmtree("tree", ignore_errors=True)
        os.makedirs("tree/a/b")
        for number in range(draw.randrange(1, 5)):
            place = os.fsencode(f"tree/{draw.choice(('', 'a/', 'a/b/'))}")
            name = draw.choice((b"x", b"caf\xe9", b"a\nb", b".h", b"-rf", b"*")) + str(number).encode()
            suffix = draw.choice((b".npy", b".zip", b".png", b".mp4", b""))
            with contextlib.suppress(FileExistsError):
                if draw.random() < 0.5:
                    goal = draw.choice(
                        (b"..", b".", b"/", b"/etc", b"nowhere", name + suffix, b"/dev/zero", b"/proc/self/mem")
                    )
                    goal = b"../.." if goal in (b"/", b"/etc") else goal
                    os.symlink(goal, place + name + draw.choice((b"", suffix)))
                elif draw.random() < 0.2:
                    os.mkfifo(place + name + suffix)
                else:
                    with open(place + name + suffix, "wb") as file:
                        file.write(draw.choice((b"", saved(ARRAY), b"PK\x03\x04")))
        for video in find_videos(Path("tree")):
            if video.path.suffix == ".npy":
                decoded(video.path)

    return read
