"""Clips that are uploaded: which are read, and what is refused of bombs, fragments and files that name others."""

import asyncio
import io
import os
import signal
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from serving_client import clip, npy

from htsr.data.video import containers
from htsr.data.video.files import DamagedVideo, FrameFormat, Video, write_video
from htsr.data.video.reader import VideoReader
from htsr.serving import workers
from htsr.serving.limits import Limits, Refusal
from htsr.serving.workers import Workers

FORM = FrameFormat(12, 16, 1)
LIMITS = Limits(max_frames=40, max_pixels=10_000, max_unpacked=2**20, decode_seconds=20)


@pytest.fixture(scope="module")
def run():
    """Run something with one process that decodes; the same one for all tests, as long as it lives."""
    with asyncio.Runner() as runner:

        async def start():
            return Workers(1, LIMITS)

        workers = runner.run(start())
        yield lambda function: runner.run(function(workers))
        workers.close()


@pytest.fixture
def decode(run, tmp_path):
    def decode(content: bytes, context: int = 100, stride: int = 1):
        path = tmp_path / "upload"
        path.write_bytes(content)
        return run(lambda workers: workers.decode(path, FORM, context, stride))

    return decode


@pytest.fixture
def refusal(decode):
    def refusal(content: bytes) -> str:
        with pytest.raises(Refusal) as caught:
            decode(content)
        assert "\n" not in caught.value.message
        assert "htsr-" not in caught.value.message
        assert "/upload" not in caught.value.message
        return f"{caught.value.status} {caught.value.message}"

    return refusal


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def video(tmp_path: Path, name: str, codec: str, size=(48, 64), count: int = 12) -> bytes:
    frames = np.zeros((count, *size, 3), np.uint8)
    for t in range(count):
        frames[t, 4 : 4 + 20, 2 * t : 2 * t + 20] = 200
    write_video(tmp_path / name, frames, 25 if codec == "MPG1" else 10, codec)
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "XVID"), ("a.webm", "VP80")])
def test_videos(decode, tmp_path, name, codec):
    frames, report = decode(video(tmp_path, name, codec), context=5)
    assert frames.shape == (5, 12, 16, 1)
    assert (report["frames"], report["size"], report["fps"]) == (12, [64, 48], 10)
    assert report["used"] == {"count": 5, "last": 11, "stride": 1}


def test_animation(decode):
    file = io.BytesIO()
    pictures = [Image.fromarray(frame[..., 0]) for frame in clip(0, 6)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=50)
    frames, report = decode(file.getvalue())
    np.testing.assert_array_equal(frames, clip(0, 6))
    assert report["fps"] == 20


def test_arrays_and_pictures(decode):
    frames = clip(1, 12)
    pictures = {f"day {day}/frame_{t}.png": png(frames[t]) for t in range(12) for day in [1]}
    members = dict(sorted(pictures.items()))  # frame_10 before frame_2
    for content in (npy(frames), npy(frames / 255.0), packed({"arr_0.npy": npy(frames)}), packed(members)):
        np.testing.assert_array_equal(decode(content)[0], frames)
    np.testing.assert_array_equal(decode(npy(frames), context=3, stride=4)[0], frames[[3, 7, 11]])


def test_names_in_an_archive_lead_nowhere(decode, tmp_path):
    frames = clip(2, 3)
    names = ("../../1.png", "/tmp/2.png", "C:\\3.png")
    read, _ = decode(packed({name: png(frame) for name, frame in zip(names, frames, strict=True)}))
    assert len(read) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"upload", "upload.frames"}
    assert len(list((tmp_path / "upload.frames").iterdir())) == 3


@pytest.mark.parametrize(
    ("folder", "litter"),
    [
        ("clip/", ("__MACOSX/clip/._frame_0.png", "clip/.DS_Store")),
        ("", ("Thumbs.db", "desktop.ini", ".hidden.png")),
        ("clip\\", ("__MACOSX\\._clip",)),
    ],
)
def test_archives_of_a_mac_and_of_windows(decode, folder, litter):
    frames = clip(2, 12)
    members = {f"{folder}frame_{number}.png": png(frame) for number, frame in enumerate(frames)}
    np.testing.assert_array_equal(decode(packed(members | dict.fromkeys(litter, b"x")))[0], frames)
    np.testing.assert_array_equal(decode(packed({"clip.npy": npy(frames), "__MACOSX/._clip.npy": b"x"}))[0], frames)


def test_the_order_of_an_archive(decode, refusal):
    frames = clip(2, 12)
    members = {f"u_{number / 4:g}.png": png(frame) for number, frame in enumerate(frames)}
    read, report = decode(packed(dict(sorted(members.items()))))
    np.testing.assert_array_equal(read, frames)
    assert report["note"] == "is in the order u_0.png, u_0.25.png, … u_2.75.png"
    picture = png(frames[0])
    for names, why in (
        (("f0.png", "f0.jpg"), "the archive holds .jpg and .png files, such as f0.jpg and f0.png"),
        (("f0.png", "f0_mask.png"), "the archive holds names of 2 kinds, such as f0.png and f0_mask.png"),
        (("f0.png", "f00.png"), "the archive has two files of the same number, f0.png and f00.png"),
        (("a/f0.png", "b/f0.png"), "the archive holds pictures of the same name in several folders"),
    ):
        assert refusal(packed(dict.fromkeys(names, picture))).startswith(f"422 {why}")


def test_pictures_of_16_bits(decode):
    levels = np.tile(np.arange(0, 4096, 273, np.uint16), (12, 1))
    members = {f"f{number}.png": png(np.roll(levels, number, 1)) for number in range(3)}
    read, report = decode(packed(members))
    np.testing.assert_array_equal(read[0, 0, :, 0], np.arange(0, 256, 17))
    assert report["note"] == "has 16-bit values up to 4095, read as 12 bits: 4095 becomes 255"


def test_what_is_no_clip(refusal):
    for content in (
        b"",
        b"hello",
        b"#EXTM3U\nfile:///etc/passwd",
        b"ffconcat version 1.0\nfile /etc/passwd",
        b"<svg/>",
    ):
        assert refusal(content).startswith("415 the body is no clip: expected mp4, avi, webm, gif, npy, npz")
    assert refusal(packed({"a.txt": b"x"})).startswith("415 the archive has to hold one .npy, or .png, .jpg, .jpeg")
    assert refusal(packed({"a.npy": npy(clip(0)), "b.npy": npy(clip(0))})).startswith(
        "422 the .npz has to hold one arr"
    )
    assert refusal(packed({})[:4] + packed({})).startswith("415 the body is no clip")


def test_pickled_objects_are_not_loaded(refusal):
    content = npy(np.array([{"a": 1}], dtype=object))
    assert refusal(content).startswith("422 the clip cannot be read (it holds Python objects")
    assert refusal(packed({"a.npy": content})).startswith("422 the clip cannot be read (it holds Python objects")


def header(shape: tuple, descr: str = "|u1") -> bytes:
    """An .npy file that claims a shape, and ends after its header."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def test_bombs(refusal):
    giant = (10_000, 1000, 1000)
    assert refusal(header(giant)).startswith("422 the clip cannot be read (mmap length is greater than file size)")
    assert refusal(header((10**30, 2, 2))).startswith("422 the clip cannot be read")
    assert refusal(packed({"a.npy": header(giant)})).startswith("422 the clip cannot be read (mmap length")
    deflated = packed({"a.npy": header((1, 2**20, 2)) + bytes(2**21)})
    assert len(deflated) < 5000
    assert refusal(deflated).startswith("413 the archive holds 2097280 bytes, at most 1048576 are unpacked; send fewer")
    lying = bytearray(packed({"a.npy": npy(np.zeros((3, 2**17), np.uint8))}))
    for at in (lying.find(b"PK\x03\x04") + 22, lying.find(b"PK\x01\x02") + 24):
        lying[at : at + 4] = struct.pack("<I", 200)  # bytes that it states to hold
    assert refusal(bytes(lying)).startswith("422 ")
    assert refusal(packed({f"{n}.png": b"x" for n in range(41)})).startswith("413 the archive has 41 files, at most 40")
    assert refusal(npy(clip(0, 41))).startswith("413 the clip has more than 40 frames; cut off its beginning")
    assert refusal(npy(np.zeros((3, 101, 100), np.uint8))).startswith(
        "413 frames may have 10000 pixels, received 100 x"
    )


def test_pictures_that_claim_to_be_huge(refusal, tmp_path):
    image = b"\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    image = b"\x89PNG\r\n\x1a\n" + image + struct.pack(">I", zlib.crc32(image[4:]))
    idat = b"IDAT" + zlib.compress(bytes(2**20))
    image += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    assert refusal(packed({"1.png": image})).split()[0] in ("413", "422")
    gif = b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0" + bytes(6) + b","
    gif += struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x08\x04\x01\0\0\0\0;"
    assert refusal(gif).startswith("413 frames may have 10000 pixels, received 65535 x 65535")
    content = video(tmp_path, "large.mp4", "mp4v", (200, 200), 3)
    assert refusal(content).startswith("413 frames may have 10000 pixels, received 200 x 200; make the clip smaller")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "XVID")])
def test_fragments(refusal, tmp_path, name, codec, kept):
    content = video(tmp_path, name, codec)
    assert refusal(content[: max(16, int(kept * len(content)))]).startswith("422 video the clip ")


def test_videos_of_kinds_that_are_not_opened(refusal, tmp_path):
    assert refusal(video(tmp_path, "a.mpg", "MPG1")).startswith("415 the body is no clip")


def test_ffmpeg_opens_listed_formats_alone(tmp_path):
    """An .mpg, which is read elsewhere, is not opened in the processes."""
    video(tmp_path, "a.mp4", "mp4v")
    video(tmp_path, "a.mpg", "MPG1")
    first, second = (Video(name, tmp_path / name) for name in ("a.mp4", "a.mpg"))
    for reader in (VideoReader(first, None), VideoReader(second, None)):
        next(iter(reader))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(containers, "OPTIONS", dict(containers.OPTIONS))
        workers.guard()
        next(iter(VideoReader(first, None)))
        with pytest.raises(DamagedVideo, match=r"a\.mpg cannot be decoded"):
            next(iter(VideoReader(second, None)))


def test_live_pictures(run):
    frame = clip(3, 1)[0]
    decode = lambda content: run(lambda workers: workers.decode_image(content, FORM))  # noqa: E731
    np.testing.assert_array_equal(decode(png(frame)), frame)
    assert decode(cv2.imencode(".jpg", np.zeros((50, 50, 3), np.uint8))[1].tobytes()).shape == (12, 16, 1)
    for content, error in (
        (b"", "the picture is no PNG or JPEG: it begins with nothing"),
        (b"GIF89a", "the picture is no PNG or JPEG: it begins with 47 49 46"),
        (png(frame)[:40], "a picture cannot be decoded|the picture cannot be decoded: it is damaged"),
        (png(np.zeros((101, 100), np.uint8)), "frames may have 10000 pixels, received 100 x 101"),
    ):
        with pytest.raises(Refusal, match=error):
            decode(content)


def test_decoding_that_takes_too_long_is_ended():
    async def run():
        workers = Workers(1, LIMITS._replace(decode_seconds=0.1))
        (worker,) = workers._idle
        worker.wait_until_ready()
        os.kill(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(Refusal, match=r"the clip takes more than 0.1 seconds; make it shorter or smaller"):
            await workers.decode_image(png(clip(0, 1)[0]), FORM)
        assert not worker._process.is_alive()

    asyncio.run(run())


def test_a_slow_start_is_not_decoding():
    async def run():
        workers = Workers(1, LIMITS._replace(decode_seconds=3))
        process = workers._idle[0]._process
        os.kill(process.pid, signal.SIGSTOP)
        threading.Timer(4, os.kill, (process.pid, signal.SIGCONT)).start()
        assert (await workers.decode_image(png(clip(0, 1)[0]), FORM)).shape == (12, 16, 1)
        workers.close()

    asyncio.run(run())


def test_clients_that_go_during_a_start_do_not_cost_a_process_each(caplog):
    async def run():
        workers = Workers(1, LIMITS)
        process = workers._idle[0]._process
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(workers.decode_image(png(clip(0, 1)[0]), FORM), 0.01)
        assert (await workers.decode_image(png(clip(0, 1)[0]), FORM)).shape == (12, 16, 1)
        assert [worker._process for worker in workers._idle] == [process]
        assert process.is_alive()
        workers.close()

    asyncio.run(run())
    assert not caplog.text


@pytest.mark.parametrize(
    ("ready", "line"),
    [(True, "takes more memory than a clip may, or is damaged"), (False, "die at their start; the log says more")],
)
def test_a_process_that_dies_is_replaced(ready, line, caplog):
    async def run():
        workers = Workers(1, LIMITS)
        (worker,) = workers._idle
        if ready:
            worker.wait_until_ready()
        worker._process.kill()
        with pytest.raises(Refusal, match=line):
            await workers.decode_image(png(clip(0, 1)[0]), FORM)
        assert ready or "died at its start, with status -9" in caplog.text
        assert (await workers.decode_image(png(clip(0, 1)[0]), FORM)).shape == (12, 16, 1)
        workers.close()

    asyncio.run(run())
