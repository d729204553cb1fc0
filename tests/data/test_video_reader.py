"""The reader of videos: exact frames of every container at hand, rotation, and every kind of bad file.

Files are written here by OpenCV, Pillow, NumPy and, where it is installed, PyAV; damage is done to their bytes.
"""

import struct
import tracemalloc
import unicodedata
import wave
import zipfile
from array import array

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from htsr.data.video import files, reader
from htsr.data.video.containers import frames_between
from htsr.data.video.files import DamagedVideo, FrameFormat, Video, find_videos, write_video
from htsr.data.video.reader import VideoReader
from htsr.errors import InputError

LOSSLESS = ["FFV1.avi", "HFYU.avi", "PNG .avi", "FFV1.mkv", "HFYU.mkv", "PNG .mov", "FFV1.mp4", "FFV1.wmv"]
LOSSY = ["MJPG.avi", "XVID.avi", "mp4v.avi", "mp4v.mp4", "mp4v.m4v", "mp4v.mov", "mp4v.mkv", "VP80.webm", "VP90.webm"]
LOSSY += ["WMV2.wmv", "FLV1.flv", "VP80.ogv", "PIM1.mpg", "MPEG.mpg", "MPEG.mpeg", "MPEG.ts", "PIM1.ts", "PIM1.wmv"]
STATE_THEIR_LENGTH = ["FFV1.avi", "MJPG.avi", "XVID.avi", "mp4v.mp4", "mp4v.m4v", "MJPG.mov", "mp4v.mkv", "VP80.mkv"]
STATE_THEIR_LENGTH += ["VP80.webm", "VP90.webm", "WMV2.wmv", "FLV1.flv", "VP80.ogv"]


def noise(frames=20, height=48, width=64):
    """uint8 (frames, height, width, RGB) that no codec makes small: an index is a small part of the file."""
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)


def moving(frames=40, height=48, width=64):
    """Red, green and blue fields, and a white bar that runs from left to right: smooth enough for lossy codecs."""
    video = np.zeros((frames, height, width, 3), np.uint8)
    for channel in range(3):
        video[:, height * channel // 3 : height * (channel + 1) // 3, :, channel] = 200
    for number, frame in enumerate(video):
        frame[:, number : number + 8] = 255
    return video


def write(path, frames, fps=25):
    """A video whose codec is the first part of its name: ``FFV1.avi``."""
    write_video(path, frames, fps, path.name[:4])
    return path


def read(path, form=None, start=0):
    """(the frames, the reader)"""
    reader = VideoReader(Video(path.name, path), form, start)
    return np.array(list(reader)), reader


def refused(path, match, form=None):
    with pytest.raises(DamagedVideo, match=match) as caught:
        read(path, form)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def boxes(content, start=0):
    """(name, begin, end) of the boxes of an MP4 file."""
    while start < len(content):
        length, name = struct.unpack_from(">I4s", content, start)
        yield name.decode(), start, start + length
        start += length


def moov_first(path):
    """An MP4 file as it is for streaming: the table of its frames comes before the frames."""
    content = path.read_bytes()
    parts = {name: content[begin:end] for name, begin, end in boxes(content)}
    moov = bytearray(parts["moov"])
    table = moov.index(b"stco")
    for entry in range(struct.unpack_from(">I", moov, table + 8)[0]):
        at = table + 12 + 4 * entry
        struct.pack_into(">I", moov, at, struct.unpack_from(">I", moov, at)[0] + len(moov))
    path.write_bytes(parts["ftyp"] + moov + parts.get("free", b"") + parts["mdat"])
    return path


def encode(path, frames, codec, pixels="yuv420p", times=None, flags=0, **container_options):
    """A video written by PyAV; ``times`` in milliseconds."""
    from fractions import Fraction

    with av.open(str(path), "w", container_options=container_options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.flags |= flags
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = int(times[number]), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


# Whole files


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_containers_come_out_exactly(tmp_path, name):
    video = noise()
    frames, reader = read(write(tmp_path / name, video))
    np.testing.assert_array_equal(frames, video)
    assert reader.decoder == f"pyav {av.__version__}"
    assert (reader.stated, reader.decoded, reader.repeated, reader.note) == (20, 20, 0, None)
    assert reader.fps == pytest.approx(25)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_containers_have_all_frames_in_the_right_colours(tmp_path, name):
    video = moving()
    frames, reader = read(write(tmp_path / name, video))
    assert frames.shape == video.shape
    assert np.abs(frames.astype(int) - video).mean(axis=(1, 2, 3)).max() < 12
    if not name.startswith("PIM1"):  # FFmpeg takes MPEG-1 for twice as fast in some containers
        assert reader.note is None


@pytest.mark.parametrize("name", ["FFV1.avi", "VP80.webm", "mp4v.mp4"])
def test_odd_numbers_of_frames_and_a_single_one(tmp_path, name):
    for count in (1, 2, 3):
        frames, reader = read(write(tmp_path / name, moving(count)))
        assert len(frames) == reader.decoded == count


def test_grey(tmp_path):
    frames, _ = read(write(tmp_path / "FFV1.avi", moving(2)), FrameFormat(48, 64, 1))
    assert frames.shape == (2, 48, 64, 1)
    # ITU-R BT.601 luma of 200 red, 200 green, 200 blue
    np.testing.assert_allclose(frames[0, [8, 24, 40], 40, 0], [0.299 * 200, 0.587 * 200, 0.114 * 200], atol=1)


@pytest.mark.parametrize("name", ["FFV1.avi", "clip.npy", "frames", "clip.gif"])
def test_start(tmp_path, name):
    video, path = moving(10), tmp_path / name
    if name == "frames":
        write_images(path, video)
    elif name == "clip.npy":
        np.save(path, video)
    elif name == "clip.gif":
        write_gif(path, video)
    else:
        write(path, video)
    frames, reader = read(path, start=7)
    assert reader.decoded == 3
    np.testing.assert_array_equal(frames, read(path)[0][7:])


def write_gif(path, frames, **arguments):
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=50, **arguments)


@pytest.mark.parametrize("arguments", [{}, {"disposal": 1}, {"disposal": 2}, {"optimize": True}])
def test_gif(tmp_path, arguments):
    video = moving(12)
    write_gif(tmp_path / "clip.gif", video, **arguments)
    frames, reader = read(tmp_path / "clip.gif")
    np.testing.assert_array_equal(frames, video)
    assert reader.fps == 20
    assert reader.decoder.startswith("pillow")


def test_gif_with_transparent_parts(tmp_path):
    """Each picture but the first holds its bar alone and lets the ones before shine through."""
    images, expected = [], np.zeros((5, 16, 40, 3), np.uint8)
    for number in range(5):
        pixels = np.full((16, 40), 0 if number == 0 else 2, np.uint8)
        pixels[:, 8 * number : 8 * number + 4] = 1
        image = Image.fromarray(pixels, "P") if number < 0 else Image.frombytes("P", (40, 16), pixels.tobytes())
        image.putpalette([0, 0, 0, 255, 40, 0, 9, 9, 9])
        images.append(image)
        for earlier in range(number + 1):
            expected[number, :, 8 * earlier : 8 * earlier + 4] = (255, 40, 0)
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:], transparency=2, disposal=1)
    np.testing.assert_array_equal(read(tmp_path / "clip.gif")[0], expected)


def write_images(folder, frames, suffix=".png", names="frame_{}"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / (names.format(number) + suffix), quality=95)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_folder_of_images_in_natural_order(tmp_path, suffix):
    video = moving(12)
    write_images(tmp_path / "walk", video, suffix)
    (tmp_path / "walk" / "._frame_0.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "walk" / "notes.txt").write_text("not a frame")
    (found,) = find_videos(tmp_path)
    assert found == Video("walk", tmp_path / "walk")
    frames, reader = read(found.path)  # frame_2 comes before frame_10
    assert (len(frames), reader.stated, reader.fps) == (12, 12, None)
    assert np.abs(frames.astype(int) - video).mean() < (0.01 if suffix == ".png" else 8)


def test_folders_of_doubtful_order_are_refused_by_name(tmp_path):
    video = moving(4)
    write_images(tmp_path / "twice", video)
    write_images(tmp_path / "twice", video, ".jpg")
    refused(tmp_path / "twice", r"video twice holds .jpg and .png files, such as frame_0.jpg and frame_0.png")
    write_images(tmp_path / "masks", video)
    write_images(tmp_path / "masks", video, names="frame_{}_mask")
    refused(tmp_path / "masks", r"video masks holds names of 2 kinds, such as frame_0.png and frame_0_mask.png")
    write_images(tmp_path / "halves", video)
    write_images(tmp_path / "halves", video, ".bmp", names="picture_{}")
    refused(tmp_path / "halves", r"video halves holds .png and .bmp files")


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".webp"])
def test_folders_of_other_pictures(tmp_path, suffix):
    video = moving(4)
    for number, frame in enumerate(video):
        (tmp_path / "walk").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "walk" / f"f{number}{suffix}", lossless=True)
    assert find_videos(tmp_path) == [Video("walk", tmp_path / "walk")]
    np.testing.assert_array_equal(read(tmp_path / "walk")[0], video)


@pytest.mark.parametrize("name", ["stack.tif", "stack.tiff", "anim.webp", "anim.apng", "anim.png", "anim.gif"])
def test_every_picture_of_a_file_is_read(tmp_path, name):
    """The first page of a stack does not pass for all of it, nor for a frame."""
    video = moving(12)
    pictures = [Image.fromarray(frame) for frame in video]
    options = {} if "tif" in name else {"duration": 40}
    options |= {"lossless": True} if name.endswith("webp") else {"format": "PNG"} if name.endswith("png") else {}
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], **options)
    frames, reader = read(tmp_path / name)
    assert (len(frames), reader.stated, reader.fps) == (12, 12, None if "tif" in name else 25)
    np.testing.assert_array_equal(frames, video)
    np.testing.assert_array_equal(read(tmp_path / name, start=9)[0], video[9:])
    if name == "anim.gif":
        return
    pictures[0].save(
        tmp_path / f"frame{name[name.index('.') :]}", **{key: options[key] for key in options if key == "format"}
    )
    if name in ("anim.png", "anim.apng"):
        return
    (found,) = find_videos(tmp_path)
    assert found.path == tmp_path / name
    frames, reader = read(tmp_path)
    assert len(frames) == 1
    assert f"leaves out {name}, a video of its own" in reader.note


def test_a_folder_of_stacks_is_no_video(tmp_path):
    pictures = [Image.fromarray(frame) for frame in moving(2)]
    (tmp_path / "a").mkdir()
    pictures[0].save(tmp_path / "a" / "f.tif", save_all=True, append_images=pictures[1:])
    refused(tmp_path / "a", "video a is no folder of single pictures: name f.tif itself")


DEEP = {
    8: (220, "has 16-bit values up to 220, read as 8 bits: 255 becomes 255"),
    10: (1000, "has 16-bit values up to 1000, read as 10 bits: 1023 becomes 255"),
    12: (3900, "has 16-bit values up to 3900, read as 12 bits: 4095 becomes 255"),
    16: (60000, "has 16-bit values up to 60000, read as 16 bits: 65535 becomes 255"),
}


@pytest.mark.parametrize("bits", DEEP)
@pytest.mark.parametrize("kind", ["png", "colours", "tif", "stack", "mkv"])
def test_values_of_16_bits_are_scaled_by_their_range(tmp_path, kind, bits):
    largest, note = DEEP[bits]
    values = (np.random.default_rng(0).random((6, 48, 64)) * largest).astype(np.uint16)
    values[3, 0, 0] = largest  # of all frames, not of the first or last
    expected = np.repeat(np.rint(values * (255 / (2**bits - 1)))[..., np.newaxis], 3, axis=3)
    path = tmp_path / {"stack": "a.tif", "mkv": "a.mkv"}.get(kind, "a")
    if kind == "mkv":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "gray16le"
            for picture in values:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray16le")))
            container.mux(stream.encode())
    elif kind == "stack":
        pictures = [Image.fromarray(picture) for picture in values]
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
        expected = expected[..., :1]
    else:
        path.mkdir()
        for number, picture in enumerate(values):
            colours = np.stack([picture, picture, picture], axis=2)
            name = f"f{number}.{'tif' if kind == 'tif' else 'png'}"
            cv2.imwrite(str(path / name), colours if kind == "colours" else picture)
    frames, reader = read(path)
    np.testing.assert_array_equal(frames, expected)
    assert reader.note == note
    frames, reader = read(path, start=5)
    np.testing.assert_array_equal(frames, expected[5:])
    assert reader.note == note


def test_values_that_cannot_be_scaled_are_refused(tmp_path):
    floats = Image.fromarray(np.ones((48, 64), np.float32))
    floats.save(tmp_path / "a.tif", save_all=True, append_images=[floats])
    refused(tmp_path / "a.tif", "picture 0 has values of the kind float32, expected whole ones of 8 or 16 bits; save")
    (tmp_path / "b").mkdir()
    floats.save(tmp_path / "b" / "f1.tif")
    refused(tmp_path / "b", "video b: f1.tif has values of the kind float32")
    deep = np.random.default_rng(0).integers(0, 4096, (2, 48, 64, 3), np.uint16)
    cv2.imwritemulti(str(tmp_path / "c.tif"), list(deep))
    refused(tmp_path / "c.tif", "c.tif has colours of 16 bits; save its pictures as a folder of .png files")
    (tmp_path / "d").mkdir()
    cv2.imwrite(str(tmp_path / "d" / "f1.png"), deep[0])
    cv2.imwrite(str(tmp_path / "d" / "f2.png"), deep[0].astype(np.uint8))
    refused(tmp_path / "d", "video d has frames of 8 and of 16 bits")


def test_a_video_that_is_nearly_black_says_so(tmp_path):
    np.save(tmp_path / "a.npy", (moving(4) > 0).astype(np.uint8))
    assert read(tmp_path / "a.npy")[1].note == "is nearly black: its brightest value is 1 of 255"
    assert read(tmp_path / "a.npy", start=2)[1].note == "is nearly black: its brightest value is 1 of 255"
    np.save(tmp_path / "b.npy", np.clip(moving(4), 0, 32))
    assert read(tmp_path / "b.npy")[1].note is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "mpeg4"),
        ("a.webm", "libvpx"),
        ("a.wmv", "wmv2"),
        ("a.flv", "flv"),
        ("a.mp4", "mpeg4"),
        ("a.ts", "mpeg2video"),
    ],
)
def test_a_video_that_begins_late_is_whole(tmp_path, name, codec):
    """Segments of a longer video keep its times; Matroska's duration is the time of the end."""
    for late in (4_000, 100_000):
        times = late + 40 * np.arange(40)
        frames, reader = read(encode(tmp_path / name, moving(40), codec, times=times))
        assert (len(frames), reader.stated, reader.note) == (40, 40, None)
    if name.endswith(("mkv", "webm", "wmv")):
        cut(tmp_path / name, 0.7)
        refused(tmp_path / name, "is damaged: the end of the file is missing")


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays(tmp_path, dtype, channels, suffix):
    video = noise(4)[..., 0] if channels is None else noise(4)[..., :channels]
    array = video if dtype == np.uint8 else (video / 255).astype(dtype)
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"clip{suffix}", array)
    frames, reader = read(tmp_path / f"clip{suffix}")
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, video[..., np.newaxis] if channels is None else video)
    assert reader.decoder == "numpy"
    frames, _ = read(tmp_path / f"clip{suffix}", FrameFormat(48, 64, 3))
    assert frames.shape == (4, 48, 64, 3)


def test_members_of_zip_archives(tmp_path):
    video = noise()
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / "FFV1.avi", video)
    with zipfile.ZipFile(tmp_path / "walking.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("b/two.avi", "one.avi", "__MACOSX/b/two.avi"):
            archive.write(path, name)
        archive.writestr("readme.txt", "not a video")
    path.unlink()
    found = find_videos(tmp_path)
    assert [video.name for video in found] == ["walking.zip/b/two.avi", "walking.zip/one.avi"]
    for member in found:
        np.testing.assert_array_equal(list(VideoReader(member, None)), video)


@pytest.mark.parametrize("name", ["ü 漢字 😀.avi", "a:b.mp4", "100 %d.avi", "-i.avi", "x=1,y;z&'.avi"])
def test_names(tmp_path, monkeypatch, name):
    video = moving(3)
    for folder in (tmp_path / "Vidéos 漢字", tmp_path):
        folder.mkdir(exist_ok=True)
        written = write(tmp_path / ("mp4v.mp4" if name.endswith("mp4") else "FFV1.avi"), video)
        written.rename(folder / unicodedata.normalize("NFC", name))
        monkeypatch.chdir(folder)
        assert len(read(folder.relative_to(folder) / name)[0]) == 3
        assert (folder / name) in [found.path for found in find_videos(tmp_path)]


def test_10_000_frames_in_little_memory(tmp_path):
    bound, count = 4 * 2**20, 10_000
    path = write(tmp_path / "mp4v.mp4", np.tile(moving(40), (count // 40, 1, 1, 1)))
    reader = VideoReader(Video("long", path), FrameFormat(64, 64, 3))
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader) == reader.decoded == reader.stated == count
        assert tracemalloc.get_traced_memory()[1] < bound
        kept = [
            frame
            for frame, _ in zip(VideoReader(Video("long", path), FrameFormat(64, 64, 3)), range(1000), strict=False)
        ]
        assert tracemalloc.get_traced_memory()[1] > bound, f"the bound cannot fail: {len(kept)} frames fit"
    finally:
        tracemalloc.stop()


def rotate(path):
    """State in an MP4 file that its picture is to be shown a quarter turn clockwise."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, 0, 2**16, 0, -(2**16), 0, 0, 0, 0, 2**30)
    path.write_bytes(content)


def test_rotation_is_honoured(tmp_path):
    video = moving(5)
    path = write(tmp_path / "mp4v.mp4", video)
    rotate(path)
    frames, _ = read(path)
    expected = np.rot90(video, -1, axes=(1, 2))
    assert frames.shape == expected.shape == (5, 64, 48, 3)
    assert np.abs(frames.astype(int) - expected).mean() < 12


# Healthy files whose stated number of frames is not what comes out


def test_edit_list_that_hides_frames(tmp_path):
    """A trimmed MP4 still holds all its frames; an edit list says which are shown."""
    path = write(tmp_path / "mp4v.mp4", moving(40))
    content = bytearray(path.read_bytes())
    for name, at in (("mvhd", 20), ("elst", 12), ("tkhd", 24)):
        position = content.index(name.encode()) + at
        struct.pack_into(">I", content, position, struct.unpack_from(">I", content, position)[0] // 2)
    path.write_bytes(content)
    frames, reader = read(path)
    assert 19 <= len(frames) <= 21
    assert 19 <= reader.stated <= 21


def test_varying_frame_rates_are_no_damage(tmp_path):
    times = np.cumsum([0, *(200 if number % 7 == 0 else 40 for number in range(39))])
    for name, codec in (("a.mkv", "mpeg4"), ("b.webm", "libvpx"), ("c.mp4", "mpeg4"), ("d.flv", "flv")):
        frames, reader = read(encode(tmp_path / name, moving(40), codec, times=times))
        assert len(frames) == 40, (name, reader.stated)


def test_sound_that_goes_on_after_the_picture(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("mpeg4", rate=25), container.add_stream("pcm_s16le", rate=8000)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        for frame in moving(40):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        samples = np.random.default_rng(0).integers(-(2**15), 2**15, (1, 8000 * 4), np.int16)
        heard = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        heard.sample_rate = 8000
        container.mux(sound.encode(heard))
        container.mux(sound.encode())
    frames, reader = read(path)
    assert (len(frames), reader.stated, reader.note) == (40, 100, "states 100 frames, has 40")
    content = path.read_bytes()
    (tmp_path / "hole.mkv").write_bytes(
        content[: len(content) // 2] + bytes(len(content) // 3) + content[-len(content) // 6 :]
    )
    refused(tmp_path / "hole.mkv", "is damaged")
    refused(cut(path, 0.9), r"the end of the file is missing, \d+ frames can be decoded; replace the file")


def test_skipped_frames_of_avi_are_no_damage(tmp_path):
    times = np.cumsum([0, *(200 if number % 7 == 0 else 40 for number in range(39))])
    path = encode(tmp_path / "a.avi", moving(40), "mpeg4", times=times)
    frames, reader = read(path)
    assert len(frames) == 40
    assert reader.note == f"states {reader.stated} frames, has 40"


def test_live_recordings_state_nothing(tmp_path):
    frames, reader = read(encode(tmp_path / "live.webm", moving(40), "libvpx", live="1"))
    assert (len(frames), reader.stated, reader.note) == (40, None, None)


def test_fragmented_mp4(tmp_path):
    path = encode(tmp_path / "a.mp4", moving(40), "mpeg4", movflags="frag_keyframe+empty_moov")
    assert len(read(path)[0]) == 40
    refused(cut(path, 0.6), "damaged")


def test_interlaced_video(tmp_path):
    frames, _ = read(encode(tmp_path / "a.mpg", moving(40), "mpeg2video", flags=1 << 18 | 1 << 29))
    assert len(frames) == 40
    assert np.abs(frames.astype(int) - moving(40)).mean() < 12


def opencv_pictures(path):
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    pictures = []
    while (picture := capture.read()[1]) is not None:
        pictures.append(picture)
    return pictures


# Files that end early


@pytest.mark.parametrize("share", [0.5, 0.6, 0.9])
@pytest.mark.parametrize("name", STATE_THEIR_LENGTH)
def test_cut_files_are_refused(tmp_path, name, share):
    path = write(tmp_path / name, noise(40))
    assert len(read(path)[0]) == 40
    refused(cut(path, share), r"is damaged: (it states|the end of the file is missing).*replace (the file|or remove)")


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_cut_mp4_whose_table_comes_first(tmp_path, share):
    path = moov_first(write(tmp_path / "mp4v.mp4", noise(40)))
    assert len(read(path)[0]) == 40
    refused(cut(path, share), "is damaged: the end of the file is missing, .* frames can be decoded; replace the file")


@pytest.mark.parametrize("name", ["mp4v.mp4", "VP80.webm", "MJPG.avi", "FLV1.flv"])
def test_room_that_a_download_never_filled(tmp_path, name):
    path = write(tmp_path / name, noise(40))
    if name == "mp4v.mp4":
        moov_first(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    refused(
        path, r"damaged: (it states \d+ frames, but only|the end of the file is missing,) .* can be decoded; replace"
    )


HOLED = ["mp4v.mkv", "VP80.webm", "WMV2.wmv", "MJPG.avi", "FFV1.avi", "FLV1.flv", "FFV1.mkv", "mp4v.mp4", "MPEG.mpg"]


@pytest.mark.parametrize("name", [*HOLED, "MPEG.ts"])
def test_hole_in_the_middle(tmp_path, name):
    path = write(tmp_path / name, noise(200))
    content = path.read_bytes()
    begin, end = len(content) // 3, len(content) // 2
    path.write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    refused(path, r"is damaged: .* can be decoded; replace the file|cannot be decoded .*; replace or remove")


def test_hole_that_an_avi_index_bridges(tmp_path):
    """With larger pictures FFmpeg finds the frames after the hole, by the index at the end."""
    path = write(tmp_path / "MJPG.avi", np.repeat(np.repeat(noise(60, 24, 32), 8, axis=1), 8, axis=2))
    content = path.read_bytes()
    begin, end = len(content) // 3, len(content) // 2
    path.write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    refused(path, "is damaged: .* can be decoded; replace the file")


def test_frames_between_others():
    even = np.arange(100) / 25
    varying = np.cumsum([0.2 if number % 7 == 0 else 0.04 for number in range(100)])
    dropped = np.delete(even, np.arange(5, 95, 15))
    without_times = np.where(np.arange(100) % 10 < 4, 0, even)
    assert [frames_between(array("d", times)) for times in (even, varying, dropped, without_times, [], [0])] == [0] * 6
    assert frames_between(array("d", np.delete(even, range(30, 60)))) == 30
    assert frames_between(array("d", np.delete(2 * even, range(30, 60)))) == 30
    assert frames_between(array("d", [*even, *even])) == 0


def test_single_frames_left_out_at_an_even_rate_are_no_damage(tmp_path):
    times = np.delete(np.arange(200) * 40, np.arange(5, 195, 13))
    for name, codec in (("a.mkv", "mpeg4"), ("b.avi", "mpeg4")):
        frames, reader = read(encode(tmp_path / name, noise(len(times)), codec, times=times))
        assert len(frames) == len(times)
        assert reader.note == f"states {reader.stated} frames, has {len(times)}"


def test_flv_cut_near_its_end(tmp_path):
    path = write(tmp_path / "FLV1.flv", noise(200))
    content = path.read_bytes()
    refused(cut(path, 0.96), r"the end of the file is missing, \d+ frames can be decoded; replace the file")
    path.write_bytes(content.replace(b"filesize", b"FILESIZE"))
    refused(cut(path, 0.96), r"the end of the file is missing, \d+ frames can be decoded; replace the file")


def test_room_that_an_ogg_download_never_filled(tmp_path):
    path = write(tmp_path / "VP80.ogv", noise(40))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10] + bytes(len(content) // 5))
    refused(path, "the end of the file is missing")


@pytest.mark.parametrize("name", ["MPEG.mpg", "MPEG.ts"])
def test_nothing_tells_where_mpeg_streams_end(tmp_path, name):
    """A limit, not a wish: if one day something tells, the docstring of the module is to be changed."""
    frames, _ = read(cut(write(tmp_path / name, moving(40)), 0.6))
    assert 10 < len(frames) < 35


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_cut_gif_image_and_array(tmp_path, share):
    write_gif(tmp_path / "clip.gif", noise(8))
    refused(cut(tmp_path / "clip.gif", share), r"clip\.gif cannot be decoded .*; replace or remove the file")
    write_images(tmp_path / "folder", noise(3))
    cut(tmp_path / "folder" / "frame_2.png", share)
    np.save(tmp_path / "clip.npy", noise(8))
    refused(cut(tmp_path / "clip.npy", share), r"cannot read clip\.npy .*; expected one array \(time, height, width\)")
    np.savez(tmp_path / "clip.npz", noise(8))
    refused(cut(tmp_path / "clip.npz", share), r"cannot read clip\.npz .*; expected one array")


# Files that are something else


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.webm", "a.gif", "a.mpg"])
def test_empty_files(tmp_path, name):
    (tmp_path / name).touch()
    refused(tmp_path / name, r"is empty or unreadable \(.*\); replace or remove the file")


@pytest.mark.parametrize("content", [b"not a video", b"\x1aE\xdf\xa3", b"OggS", b"0&\xb2u", b"\0\0\0\x08ftyp", b"\x00"])
@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
def test_something_else_named_as_a_video(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(
        tmp_path / name,
        r"cannot be decoded \(.*\); replace or remove|the end of the file is miss|it is a text|has no frames",
    )


def test_sound_without_a_picture(tmp_path):
    with wave.open(str(tmp_path / "a.avi"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    refused(tmp_path / "a.avi", r"video a\.avi has no picture; replace or remove the file")


def test_gif_that_is_none(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a\0and no more")
    refused(tmp_path / "a.gif", r"a\.gif cannot be decoded .*; replace or remove the file")


def test_gif_with_a_hole_or_without_its_end(tmp_path):
    path = tmp_path / "clip.gif"
    write_gif(path, noise(30))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(3000) + content[middle + 3000 :])
    refused(path, r"clip\.gif cannot be decoded \(damaged at byte \d+ of \d+, after \d+ pictures\); replace or remove")
    path.write_bytes(content[:-1])
    refused(
        path, r"clip\.gif cannot be decoded \(the end of the file is missing, after 30 pictures\); replace or remove"
    )
    last = content.rindex(b"\x21\xf9\x04")  # the extension before the last picture
    path.write_bytes(content[:last])
    refused(path, r"the end of the file is missing, after 29 pictures")
    path.write_bytes(content + b"what a server appended")
    assert len(read(path)[0]) == 30


@pytest.mark.parametrize(
    "content", ["ffconcat version 1.0\nfile FFV1.avi\n", "#EXTM3U\n#EXTINF:1,\nFFV1.avi\n", "<?xml?><MPD/>"]
)
@pytest.mark.parametrize("binary", ["", "#\x01\n"])
def test_scripts_that_make_ffmpeg_read_other_files(tmp_path, content, binary):
    write(tmp_path / "FFV1.avi", noise(4))
    (tmp_path / "a.mp4").write_text(content + binary)
    refused(tmp_path / "a.mp4", r"video a\.mp4 cannot be decoded")
    if content[0] in "f#":
        refused(tmp_path / "a.mp4", "cannot be decoded: it is a text; replace or remove the file")


def test_images_of_two_sizes(tmp_path):
    write_images(tmp_path / "walk", moving(3))
    write_images(tmp_path / "other", moving(1, height=32))
    (tmp_path / "other" / "frame_0.png").rename(tmp_path / "walk" / "frame_3.png")
    refused(
        tmp_path / "walk",
        r"video walk changes its size: frame_3\.png is 64 x 32, expected 64 x 48 as at its beginning; make all",
    )


def test_damaged_image(tmp_path):
    write_images(tmp_path / "walk", moving(3))
    (tmp_path / "walk" / "frame_1.png").write_bytes(b"")
    refused(tmp_path / "walk", r"image walk/frame_1\.png cannot be decoded \(.*\); replace or remove it")
    (tmp_path / "walk" / "frame_1.png").unlink()
    (tmp_path / "walk" / "frame_1.png").mkdir()
    refused(tmp_path / "walk", r"image .*frame_1\.png cannot be read \(.*\); replace it")


@pytest.mark.parametrize("name", ["FFV1.avi", "mp4v.mp4"])
def test_one_picture_all_the_time(tmp_path, name):
    path = write(tmp_path / name, np.repeat(moving(1), 10, axis=0))
    refused(path, "shows the same picture in all of its 10 frames; replace or remove it")


def test_one_picture_all_the_time_in_an_array(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 8), np.uint8))
    refused(tmp_path / "a.npy", r"a\.npy shows the same picture in all of its 5 frames; replace or remove it")


def test_mostly_repeated_frames_are_noted(tmp_path):
    path = write(tmp_path / "FFV1.avi", np.repeat(moving(5), 4, axis=0))
    frames, reader = read(path)
    assert len(frames) == 20
    assert (reader.repeated, reader.note) == (15, "15 of 20 frames repeat the one before")


def test_what_moves_is_seen_before_the_picture_is_scaled(tmp_path):
    video = np.zeros((10, 720, 1280, 3), np.uint8)
    for number, frame in enumerate(video):
        frame[17, 100 + number] = 255
    frames, reader = read(write(tmp_path / "FFV1.avi", video), FrameFormat(64, 64, 1))
    assert (len(np.unique(frames, axis=0)), reader.repeated, reader.note) == (1, 0, None)


@pytest.mark.parametrize("name", ["FFV1.avi", "clip.npy", "clip.gif", "walk"])
def test_size_is_known_from_the_first_frame_on(tmp_path, name):
    path, video = tmp_path / name, moving(3)
    writers = {"FFV1.avi": write, "clip.npy": np.save, "clip.gif": write_gif, "walk": write_images}
    writers[name](path, video)
    reader = VideoReader(Video(name, path), FrameFormat(8, 8, 1))
    assert reader.size == ()
    assert next(iter(reader)).shape == (8, 8, 1)
    assert reader.size == (48, 64, 3)


def test_missing_images_are_noted(tmp_path):
    def note(*numbers, folder):
        write_images(tmp_path / folder, moving(len(numbers)))
        for position, number in reversed(list(enumerate(numbers))):
            (tmp_path / folder / f"frame_{position}.png").rename(tmp_path / folder / f"f_{number:03}.png")
        return read(tmp_path / folder)[1].note

    assert note(1, 2, 3, 4, 8, 9, folder="a") == "jumps from f_004.png to f_008.png"
    assert note(0, 2, 4, 8, 10, 12, 18, 20, folder="b") == "jumps from f_004.png to f_008.png, and 1 times more"
    assert note(0, 5, 10, 15, folder="c") is None
    assert note(3, 40, 51, 52, 90, folder="d") is None
    assert note(1, 2, folder="e") is None


def test_unreadable_files(tmp_path, monkeypatch):
    write(tmp_path / "FFV1.avi", moving(2))
    monkeypatch.setattr(reader.os, "access", lambda path, mode: False)
    refused(tmp_path / "FFV1.avi", "is empty or unreadable")


def test_a_folder_and_a_dead_link_named_as_videos(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(InputError, match="has no videos"):
        find_videos(tmp_path)
    refused(tmp_path / "a.mp4", "has no frames; replace or remove it")
    for name in ("b.mp4", "c.npy", "d.gif"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
        refused(tmp_path / name, r"is empty or unreadable|cannot read c\.npy .*No such file")
    assert [video.name for video in find_videos(tmp_path)] == ["b.mp4", "c.npy", "d.gif"]


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.array([{}, {}]), "pickle|Python object"),
        (np.zeros((64, 64, 3), np.uint8), r"received uint8 \(64, 64, 3\) is one picture, or frames 3 wide; save it as"),
        (np.zeros((64, 64, 1)), r"received float64 \(64, 64, 1\) is one picture, or frames 1 wide; save it as array"),
        (np.zeros((2, 2, 4, 4, 3), np.uint8), r"received uint8 \(2, 2, 4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"received uint8 \(4, 4\)"),
        (np.zeros((2, 4, 4, 2), np.uint8), r"received uint8 \(2, 4, 4, 2\)"),
        (np.zeros((0, 4, 4), np.uint8), r"received uint8 \(0, 4, 4\)"),
        (np.zeros((2, 4, 4), np.int64), r"received int64 \(2, 4, 4\)"),
        (np.zeros((2, 4, 4), bool), r"received bool \(2, 4, 4\)"),
        (np.full((2, 4, 4), np.nan), "received nan to nan"),
        (np.linspace(0, 255, 32).reshape(2, 4, 4), r"received 0 to 123\.\d+"),
        (np.linspace(-1, 1, 32).reshape(2, 4, 4), r"received -1 to"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_that_are_no_video(tmp_path, suffix, array, match):
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", array)
    refused(
        tmp_path / f"a{suffix}",
        rf"expected one array \(time, height, width\).*{match}|{match}.*(; expected one array|np\.newaxis\])",
    )


def test_archive_of_two_arrays_or_none(tmp_path):
    np.savez(tmp_path / "a.npz", x=noise(2), y=noise(2))
    refused(tmp_path / "a.npz", r"cannot read a\.npz \(it holds x, y\); expected one array")
    np.savez(tmp_path / "b.npz")
    refused(tmp_path / "b.npz", r"cannot read b\.npz \(it holds nothing\); expected one array")


def test_files_named_as_archives_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", noise(2))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    refused(tmp_path / "a.npz", r"cannot read a\.npz \(File is not a zip file\); expected one array")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    refused(tmp_path / "b.npz", r"cannot read b\.npz \(the magic string .*\); expected one array")


# Zip archives


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.write(write(tmp_path / "FFV1.avi", noise(4)), "one.avi")
    return path


def refused_member(archive, match):
    (member,) = [video for video in find_videos(archive.parent) if video.member]
    with pytest.raises(
        DamagedVideo, match=rf"cannot unpack all\.zip/one\.avi \({match}\); fetch the zip archive again"
    ):
        list(VideoReader(member, None))


def test_a_member_with_a_wrong_byte(archive):
    content = bytearray(archive.read_bytes())
    content[2000] ^= 255
    archive.write_bytes(content)
    refused_member(archive, "Bad CRC-32 for file 'one.avi'")


def test_a_member_that_is_larger_than_stated(archive):
    content = bytearray(archive.read_bytes())
    for name, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", content, content.index(name) + at, 1000)
    archive.write_bytes(content)
    refused_member(archive, ".*")


def test_a_member_above_the_limit(archive, monkeypatch):
    monkeypatch.setattr(files, "MAX_MEMBER_BYTES", 1000)
    refused_member(archive, r"\d+ bytes, at most 1000 are unpacked")


def test_an_encrypted_member(archive):
    content = bytearray(archive.read_bytes())
    for name, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(name) + at] |= 1
    archive.write_bytes(content)
    refused_member(archive, ".*encrypted.*")


def test_av1(tmp_path):
    frames, _ = read(encode(tmp_path / "a.webm", moving(20), "libsvtav1"))
    assert len(frames) == 20
    assert np.abs(frames.astype(int) - moving(20)).mean() < 12


@pytest.mark.parametrize(
    ("name", "pixels"), [("mp4v.mp4", "even"), ("VP80.webm", "odd"), ("MJPG.avi", "odd"), ("XVID.avi", "even")]
)
def test_bits_are_those_of_opencv(tmp_path, name, pixels):
    """Clips of KTH and others, and the digests in protocols, stay what they were when OpenCV decoded."""
    video = moving(20) if pixels == "even" else moving(20, 61, 97)
    frames, _ = read(write(tmp_path / name, video))
    np.testing.assert_array_equal(frames, [picture[..., ::-1] for picture in opencv_pictures(tmp_path / name)])


def test_titles_that_are_not_utf_8(tmp_path):
    encode(tmp_path / "a.mkv", moving(8), "ffv1", "bgr0")
    content = (tmp_path / "a.mkv").read_bytes()
    assert b"Lavf" in content
    (tmp_path / "a.mkv").write_bytes(content.replace(b"Lavf", b"L\xe9\xff\xfe"))
    assert len(read(tmp_path / "a.mkv")[0]) == 8


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'shape': (", b"{" * 5000, b"'a'", b"[1]", b"{'shape': 1j}", b"\0",
        b"{'descr': '|V0', 'fortran_order': False, 'shape': (-1,)}",  # NumPy ends the process
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_headers_of_arrays_that_are_none(tmp_path, header, suffix):
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    if suffix == ".npy":
        (tmp_path / "a.npy").write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("frames.npy", content)
    refused(tmp_path / f"a{suffix}", "cannot read a")


def test_an_array_that_says_it_is_huge(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = repr({"descr": "|u1", "fortran_order": False, "shape": (2**40, 8192, 8192)}).encode()
        archive.writestr("frames.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    refused(tmp_path / "a.npz", "more than the 17179869184 bytes that are unpacked")


def test_members_packed_in_a_way_that_is_damaged(tmp_path):
    np.save(tmp_path / "a.npy", moving(8))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "a.zip").write_bytes(content)
    (video,) = find_videos(tmp_path / "a.zip")
    with pytest.raises(DamagedVideo, match=r"cannot unpack a\.zip/a\.npy"):
        list(VideoReader(video, None))


def test_a_picture_that_ends_in_its_header(tmp_path):
    write_images(tmp_path / "a", moving(3))
    path = sorted((tmp_path / "a").iterdir())[1]
    path.write_bytes(path.read_bytes()[:20])
    refused(tmp_path / "a", "cannot be decoded")
