"""Videos decoded once: the frames of the reader; entries are whole or not there; sources that change."""

import json
import multiprocessing
import os
import shutil

import cv2
import numpy as np
import pytest

from htsr.data.video import cache
from htsr.data.video.cache import CachedVideos, open_videos, write_entry
from htsr.data.video.files import DamagedVideo, FrameFormat, find_videos, write_video
from htsr.data.video.reader import VideoReader
from htsr.errors import InputError
from htsr.files import cache_folder

FORM = FrameFormat(24, 32, 3)
NAMES = ("a.mp4", "b.avi", "c.npy", "walk")
FRAMES = 50


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HTSR_CACHE", str(tmp_path / "cache"))


def film(seed, frames=FRAMES):
    """uint8 (frames, 48, 64, 3), no frame like another."""
    corners = np.random.default_rng(seed).integers(0, 256, (frames, 6, 8, 3), np.uint8)
    return corners.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def folder(tmp_path):
    """A video of each kind: sought with and without care, an array, images."""
    path = tmp_path / "videos"
    (path / "walk").mkdir(parents=True)
    write_video(path / "a.mp4", film(0), 25, "mp4v")
    write_video(path / "b.avi", film(1), 25, "FFV1")
    np.save(path / "c.npy", film(2))
    for number, frame in enumerate(film(3)):
        cv2.imwrite(str(path / "walk" / f"frame_{number}.png"), frame)
    return path


def opened(folder, form=FORM, **arguments):
    return open_videos(find_videos(folder), form, what="films", **arguments)


def decoded(folder, form=FORM):
    return [np.array(list(VideoReader(video, form))) for video in find_videos(folder)]


def entries():
    return sorted(path.name for path in cache_folder().iterdir() if path.name != "hashes.json")


@pytest.fixture
def no_decoding(monkeypatch):
    def forbid():
        def refuse(*_):
            raise AssertionError("decoded again")

        monkeypatch.setattr(cache, "VideoReader", refuse)

    return forbid


# Frames


def test_cached_and_decoded_frames_are_the_same(folder):
    cached, plain = opened(folder), decoded(folder)
    assert cached.shape == (24, 32, 3)
    assert tuple(video.name for video in cached.videos) == NAMES
    assert [(video.first, video.frames) for video in cached.videos] == [(FRAMES * n, FRAMES) for n in range(4)]
    assert [video.fps for video in cached.videos] == [25, 25, None, None]
    assert [video.decoder.split()[0] for video in cached.videos] == ["pyav", "pyav", "numpy", "opencv"]
    for video, frames in enumerate(plain):
        for start, stop, stride in ((0, FRAMES, 1), (7, 8, 1), (31, FRAMES, 1), (0, 50, 7), (5, 46, 10), (49, 50, 3)):
            window = cached.read(video, start, stop, stride)
            assert window.dtype == np.uint8
            np.testing.assert_array_equal(window, frames[start:stop:stride])


def test_a_window_may_be_changed_by_its_reader(folder):
    store = opened(folder)
    window = store.read(0, 0, 4)
    window[:] = 0
    assert store.read(0, 0, 4).any()


@pytest.mark.parametrize("frames", [1, 100_000])
def test_frames_npy_can_be_read_by_numpy(tmp_path, frames):
    with open(tmp_path / "frames.npy", "wb") as file:
        sink = cache._FrameFile(file, FrameFormat(1, 1, 1))
        begin = file.tell()
        for number in range(frames):
            sink.keep(np.full((1, 1, 1), number % 256, np.uint8))
        sink.close(frames)
        assert file.tell() == begin
    array = np.load(tmp_path / "frames.npy")
    np.testing.assert_array_equal(array[:, 0, 0, 0], np.arange(frames) % 256)


# Once, and again when something has changed


def test_the_second_opening_decodes_nothing(folder, no_decoding, capsys):
    first = opened(folder)
    assert "films: decoding 4 videos once, into" in capsys.readouterr().err
    no_decoding()
    second = opened(folder)
    assert "decoding" not in capsys.readouterr().err
    assert second.videos == first.videos
    assert len(entries()) == 1


def test_a_touched_source_is_not_decoded_again(folder, no_decoding):
    opened(folder)
    os.utime(folder / "a.mp4", (1, 1))
    os.utime(folder / "walk" / "frame_3.png")
    no_decoding()
    opened(folder)


def test_changed_content_is_noticed(folder):
    opened(folder)
    np.save(folder / "c.npy", film(9))
    np.testing.assert_array_equal(opened(folder).read(2, 0, FRAMES), decoded(folder)[2])
    assert len(entries()) == 2


def test_changed_content_of_the_same_size_and_time_is_noticed(folder):
    before = opened(folder).read(2, 0, FRAMES)
    state = (folder / "c.npy").stat()
    np.save(folder / "c.npy", film(9))
    os.utime(folder / "c.npy", ns=(state.st_atime_ns, state.st_mtime_ns))
    now = (folder / "c.npy").stat()
    assert (now.st_size, now.st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert (opened(folder).read(2, 0, FRAMES) != before).any()


def test_a_changed_image_of_a_folder_is_noticed(folder):
    opened(folder)
    cv2.imwrite(str(folder / "walk" / "frame_3.png"), np.zeros((48, 64, 3), np.uint8))
    assert not opened(folder).read(3, 3, 4).any()
    (folder / "walk" / "frame_49.png").unlink()
    assert opened(folder).videos[3].frames == FRAMES - 1


def test_what_makes_another_entry(folder):
    forms = [
        FORM,
        FORM._replace(height=16),
        FORM._replace(width=16),
        FORM._replace(channels=1),
        FORM._replace(fit="crop"),
    ]
    for count, form in enumerate(forms, start=1):
        opened(folder, form)
        opened(folder, form)
        assert len(entries()) == count
    opened(folder, damaged="skip")
    shutil.copy(folder / "c.npy", folder / "d.npy")
    assert len(opened(folder).videos) == 5
    assert len(entries()) == len(forms) + 2


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("HTSR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "htsr"


def test_damaged_list_of_hashes_is_made_again(folder, no_decoding):
    opened(folder)
    (cache_folder() / "hashes.json").write_text("{")
    no_decoding()
    opened(folder)
    assert len(json.loads((cache_folder() / "hashes.json").read_text())) == 4


# Builds that do not end, or end twice


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), DamagedVideo("bad")])
def test_an_interrupted_build_leaves_nothing(folder, monkeypatch, error):
    class Interrupted(VideoReader):
        def __iter__(self):
            for frame in super().__iter__():
                if self.video.name == "b.avi" and self.decoded == 10:
                    raise error
                yield frame

    with monkeypatch.context() as patch:
        patch.setattr(cache, "VideoReader", Interrupted)
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            opened(folder)
    assert entries() == []
    np.testing.assert_array_equal(opened(folder).read(1, 0, FRAMES), decoded(folder)[1])


def test_leftovers_of_a_killed_process(folder):
    """They are no obstacle, and go when they are a day old; folders of other names are none of ours."""
    opened(folder)
    entry = cache_folder() / entries()[0]
    shutil.rmtree(entry)
    old, young = (cache_folder() / f".{entry.name}.tmp-{digit * 16}" for digit in "0f")
    foreign = cache_folder() / f".{entry.name}.tmp-mine"
    for path in (old, young, foreign):
        path.mkdir(parents=True)
        (path / "frames.npy").touch()
    for path in (old, foreign):
        os.utime(path, (1, 1))
    opened(folder)
    assert entry.is_dir()
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_two_builders(folder, monkeypatch):
    """Another one begins and ends while this one decodes."""
    first = decoded(folder)[0]
    other = []

    class Slow(VideoReader):
        def __iter__(self):
            yield from super().__iter__()
            if self.video.name == "walk" and not other:
                other.append(None)
                other[0] = opened(folder)

    monkeypatch.setattr(cache, "VideoReader", Slow)
    store = opened(folder)
    assert len(entries()) == 1
    for one in (store, *other):
        np.testing.assert_array_equal(one.read(0, 0, FRAMES), first)


def build(folder):
    store = opened(folder)
    return store.read(0, 0, FRAMES).tobytes()


def test_two_processes(folder):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        first, second = pool.map(build, [folder, folder], chunksize=1)
    assert first == second == decoded(folder)[0].tobytes()
    assert len(entries()) == 1


# Entries that are damaged


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "frames.npy").write_bytes((entry / "frames.npy").read_bytes()[:5000]),
        lambda entry: (entry / "frames.npy").write_bytes(b""),
        lambda entry: np.save(entry / "frames.npy", np.zeros((3, 24, 32, 3), np.uint8)),
        lambda entry: np.save(entry / "frames.npy", np.zeros((4 * FRAMES, 24, 32, 3), np.float32)),
        lambda entry: (entry / "frames.npy").unlink(),
        lambda entry: (entry / "manifest.json").unlink(),
        lambda entry: (entry / "manifest.json").write_text("{"),
        lambda entry: (entry / "manifest.json").write_text("[]"),
        lambda entry: (entry / "manifest.json").write_bytes(b"\xff\xfe"),
        lambda entry: (entry / "manifest.json").write_text('{"videos": [{}], "refused": {}, "schema": 1}'),
        lambda entry: (entry / "manifest.json").write_text(
            (entry / "manifest.json").read_text().replace('"schema": 1', '"schema": 99')
        ),
    ],
)
def test_a_damaged_entry_is_named(folder, damage):
    opened(folder)
    entry = cache_folder() / entries()[0]
    damage(entry)
    with pytest.raises(InputError, match=r"is damaged .*; delete it, and decode the videos again") as caught:
        opened(folder)
    assert str(entry) in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(entry)
    opened(folder)


def test_frames_that_have_changed_are_noticed_once_a_file_is_another(folder, monkeypatch):
    opened(folder)
    entry = cache_folder() / entries()[0]
    with monkeypatch.context() as patch:  # what was just written, or looked at before, is not read again
        patch.setattr(CachedVideos, "_digests", None)
        opened(folder)
    os.utime(entry / "frames.npy", (1, 1))
    opened(folder)
    with monkeypatch.context() as patch:
        patch.setattr(CachedVideos, "_digests", None)
        opened(folder)
    content = bytearray((entry / "frames.npy").read_bytes())
    content[5000] ^= 1
    (entry / "frames.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged \(frames of .* have changed\); delete it"):
        opened(folder)


def test_frames_that_are_cut_while_they_are_read(folder):
    """A memory map would end the process with SIGBUS."""
    store = opened(folder)
    frames = cache_folder() / entries()[0] / "frames.npy"
    os.truncate(frames, 5000)
    with pytest.raises(InputError, match=r"frames\.npy was cut while it was read; delete"):
        store.read(1, 0, FRAMES)


# Damaged videos


@pytest.fixture
def damaged(folder):
    """b.avi is cut, gone.mp4 a link to nothing."""
    content = (folder / "b.avi").read_bytes()
    (folder / "b.avi").write_bytes(content[: len(content) // 2])
    (folder / "gone.mp4").symlink_to(folder / "nothing")
    return folder


def test_damaged_videos_are_refused(damaged):
    with pytest.raises(
        DamagedVideo, match=r"video b\.avi is damaged: .*, or leave damaged videos out with damaged: skip"
    ):
        opened(damaged)
    assert entries() == []


def test_damaged_videos_are_left_out_by_name(damaged, capsys, no_decoding):
    store = opened(damaged, damaged="skip")
    assert [video.name for video in store.videos] == ["a.mp4", "c.npy", "walk"]
    assert [video.first for video in store.videos] == [0, FRAMES, 2 * FRAMES]
    assert list(store.refused) == ["b.avi", "gone.mp4"]
    said = capsys.readouterr().err
    assert "films: left out: video b.avi is damaged" in said
    assert "films: left out: video gone.mp4 is empty or unreadable" in said
    for video, frames in enumerate(np.array(list(VideoReader(found, FORM))) for found in kept(damaged)):
        np.testing.assert_array_equal(store.read(video, 0, FRAMES, 1), frames)
    no_decoding()
    assert opened(damaged, damaged="skip").refused == store.refused
    assert "films: left out: video b.avi is damaged" in capsys.readouterr().err


def kept(folder):
    return [video for video in find_videos(folder) if video.name in ("a.mp4", "c.npy", "walk")]


def test_all_videos_damaged(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos" / name).touch()
    with pytest.raises(DamagedVideo, match=r"none of the 2 videos can be used; the first: video a\.mp4 is empty"):
        opened(tmp_path / "videos", damaged="skip")


# What htsr prepare writes


def test_an_entry_with_more_to_say(folder, tmp_path):
    write_entry(
        tmp_path / "out" / "mine",
        find_videos(folder),
        FORM,
        what="films",
        damaged="refuse",
        extra=lambda stored: {"names": [video.name for video in stored]},
    )
    store = CachedVideos(tmp_path / "out" / "mine")
    assert store.manifest["names"] == list(NAMES)
    assert store.manifest["format"] == {"height": 24, "width": 32, "channels": 3, "fit": "stretch"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
