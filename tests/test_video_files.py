"""Which videos are found, what their frames become on other sizes and aspect ratios, and writing them."""

import zipfile

import numpy as np
import pytest

from htsr.data.video_files import FrameFormat, Video, convert, find_videos, write_video
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
