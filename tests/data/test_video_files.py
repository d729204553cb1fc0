"""Which videos are found, what their frames become on other sizes and aspect ratios, and writing them."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from htsr.data.video.files import FrameFormat, Video, convert, find_videos, frame_format, write_video
from htsr.data.video.reader import VideoReader
from htsr.errors import InputError


def test_folders_without_videos(tmp_path):
    with pytest.raises(InputError, match=r"folder .*gone does not exist; expected one with videos"):
        find_videos(tmp_path / "gone")
    for content in ((), ("notes.txt", "readme.md", ".hidden.avi")):
        for name in content:
            (tmp_path / name).write_text("text")
        with pytest.raises(
            InputError, match=r"has no videos; expected \.avi, .*, folders of \.png, .* or zip archives"
        ):
            find_videos(tmp_path)


def test_videos_are_found_by_name(tmp_path):
    for name in ("b.avi", "a/c.MP4", "a/b/d.npy", ".hidden/e.avi", "a/f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert [video.name for video in find_videos(tmp_path)] == ["a/b/d.npy", "a/c.MP4", "b.avi"]
    assert find_videos(tmp_path / "b.avi") == [Video("b.avi", tmp_path / "b.avi")]


def test_a_cut_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("one.avi", bytes(1000))
    content = (tmp_path / "all.zip").read_bytes()
    for share in (0.5, 0.9):
        (tmp_path / "all.zip").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=r"cannot read .*all\.zip \(.*\); fetch the zip archive again"):
            find_videos(tmp_path)


def test_links_are_followed_and_no_folder_is_found_twice(tmp_path):
    for name in ("data/z/a.avi", "elsewhere/b.avi"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data" / "z")
    (tmp_path / "data" / "z" / "loop").symlink_to(tmp_path / "data")
    assert [video.name for video in find_videos(tmp_path / "data")] == ["linked/b.avi", "z/a.avi"]


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.avi").touch()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        InputError, match=r"folder .*locked cannot be read \(Permission denied\); allow it, or move the"
    ):
        find_videos(tmp_path)


def test_what_archives_hold(tmp_path, capsys):
    np.save(tmp_path / "c.npy", np.arange(48, dtype=np.uint8).reshape(3, 4, 4))
    with zipfile.ZipFile(tmp_path / "walk.zip", "w") as archive:
        for name in ("a/c.npy", "a/.c.npy", "__MACOSX/c.npy", "b/c.GIF", "done/frames.npy", "done/manifest.json"):
            archive.write(tmp_path / "c.npy", name)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.write(tmp_path / "c.npy", "f_0.png")
    assert [video.name for video in find_videos(tmp_path)] == ["c.npy", "walk.zip/a/c.npy", "walk.zip/b/c.GIF"]
    assert "images.zip has no videos, and is left out; unpack folders of images\n" in capsys.readouterr().err
    first, second = find_videos(tmp_path / "walk.zip")
    assert first == Video("walk.zip/a/c.npy", tmp_path / "walk.zip", "a/c.npy")
    assert np.array(list(VideoReader(first, None))).ravel().tolist() == list(range(48))
    assert second.name == "walk.zip/b/c.GIF"
    with pytest.raises(
        InputError, match=r"images\.zip has no videos; expected \.avi, .* in it; unpack folders of images"
    ):
        find_videos(tmp_path / "images.zip")
    assert not capsys.readouterr().err


def test_the_images_of_one_video(tmp_path, monkeypatch):
    (tmp_path / "walk").mkdir()
    for number in range(3):
        (tmp_path / "walk" / f"f_{number}.png").touch()
    assert find_videos(tmp_path / "walk") == [Video("walk", tmp_path / "walk")]
    monkeypatch.chdir(tmp_path / "walk")
    (found,) = find_videos(Path("."))
    assert found.name == "walk"
    (tmp_path / "walk" / "b.avi").touch()
    assert [video.name for video in find_videos(tmp_path / "walk")] == ["b.avi"]


def test_pipes_and_devices_are_passed_over(tmp_path):
    """Opening a pipe would never end."""
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    os.mkfifo(tmp_path / "b.mp4")
    (tmp_path / "c.npy").symlink_to("/dev/zero")
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / "0.png")
    assert [video.name for video in find_videos(tmp_path)] == ["a.npy"]


def test_what_was_prepared_is_no_video(tmp_path):
    for name in ("done/frames.npy", "done/manifest.json", "done/contact_sheet.png", "done/in/a.avi", "frames.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [video.name for video in find_videos(tmp_path)] == ["frames.npy"]
    with pytest.raises(
        InputError, match=r"folder .*done holds what htsr prepare made of videos; name the folder of the"
    ):
        find_videos(tmp_path / "done")


@pytest.mark.parametrize(
    ("size", "match"),
    [
        ((64, 64, 64), r"image_size must be the side of a square, or \(height, width\), received \(64, 64, 64\)"),
        ([], r"image_size must be the side of a square, or \(height, width\), received \[\]"),
        (60000, "image_size must be at most 8192 a side, received 60000"),
        ((64, 8193), "image_size must be at most 8192 a side, received 8193"),
        ((64, 0), "image_size must be a whole number of at least 1, not 0"),
        ("64", "image_size must be a whole number"),
        (None, "image_size must be a whole number"),
    ],
)
def test_sizes_that_are_none(size, match):
    with pytest.raises(InputError, match=match):
        frame_format(size, 3, "stretch")


def test_sizes():
    assert frame_format(64, 3, "crop") == FrameFormat(64, 64, 3, "crop")
    assert frame_format([8192, 1], 1, "stretch") == FrameFormat(8192, 1, 1)


def test_fit():
    """A picture of 2 x 4 pixels in four columns 0, 100, 200, 40, on 4 x 4, 2 x 2 and 4 x 2 pixels."""
    image = np.repeat(np.array([[0, 100, 200, 40]], np.uint8), 2, axis=0)[..., None]
    made = {
        (fit, height, width): convert(image, FrameFormat(height, width, 1, fit))[..., 0].tolist()
        for fit in ("stretch", "crop", "letterbox")
        for height, width in ((2, 2), (4, 4), (4, 2), (2, 4))
    }
    assert made["stretch", 2, 2] == [[50, 120]] * 2
    assert made["crop", 2, 2] == [[100, 200]] * 2
    assert made["letterbox", 2, 2] in ([[0, 0], [50, 120]], [[50, 120], [0, 0]])
    assert made["letterbox", 4, 4] == [[0] * 4, [0, 100, 200, 40], [0, 100, 200, 40], [0] * 4]
    assert made["letterbox", 4, 2][0] == [0, 0]
    assert [50, 120] in made["letterbox", 4, 2]
    for fit in ("stretch", "crop", "letterbox"):
        assert made[fit, 2, 4] == image[..., 0].tolist()
    # Twice as large: 0 25 75 125 175 160 80 40, of which the middle is taken.
    assert made["crop", 4, 4] == [[75, 125, 175, 160]] * 4


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 48), (48, 64), (200, 31), (1, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_is_met(fit, size, channels):
    frame = convert(np.zeros((48, 64, 3), np.uint8), FrameFormat(*size, channels, fit))
    assert (frame.shape, frame.dtype) == ((*size, channels), np.uint8)
    assert frame.flags.c_contiguous


def test_smaller_is_averaged():
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    frame = convert(board, FrameFormat(32, 32, 1))
    assert np.abs(frame.astype(int) - 127.5).max() <= 0.5
    frame = convert(board, FrameFormat(20, 20, 1))
    assert np.abs(frame.astype(int) - 127.5).max() < 16


def test_larger_is_interpolated():
    frame = convert(np.array([[[0], [100]]], np.uint8), FrameFormat(1, 8, 1))
    assert (np.diff(frame[0, :, 0].astype(int)) >= 0).all()
    assert len(np.unique(frame)) > 2


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match=r"OpenCV cannot write .*a\.avi with the codec NONE; install opencv"):
        write_video(tmp_path / "a.avi", np.zeros((2, 48, 64, 3), np.uint8), 25, "NONE")
