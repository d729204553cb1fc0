"""Pictures: right size, right frames, right colours; refusals."""

import cv2
import numpy as np
import pytest
from PIL import Image

from htsr.errors import InputError
from htsr.report import figures, plots


def clips(time=6, size=16, channels=1, count=2):
    levels = np.arange(time, dtype=np.uint8)[:, None, None, None] * 8
    clip = np.broadcast_to(levels, (time, size, size, channels))
    return {f"row {index}": clip for index in range(count)}


def frame_levels(image: np.ndarray, rows: int = 1, size: int = 64) -> list[int]:
    """Return the grey level at the centre of every frame in the first row of a rollout image."""
    y = figures._TEXT + 2 * figures._GAP + figures._BORDER + size // 2
    cell = size + 2 * figures._BORDER + figures._GAP
    left = image.shape[1] % cell
    return [int(image[y, x, 0]) for x in range(left + figures._BORDER + size // 2, image.shape[1], cell)]


def borders(image: np.ndarray) -> list[tuple[int, ...]]:
    y = figures._TEXT + 2 * figures._GAP
    return [tuple(int(v) for v in pixel) for pixel in image[y] if tuple(pixel) != (255, 255, 255)]


def test_rollout_image_shows_every_frame_of_a_short_clip_in_order():
    image = figures.rollout_image(clips(time=6, size=16), context=2)
    assert image.dtype == np.uint8
    assert frame_levels(image) == [0, 8, 16, 24, 32, 40]
    width = 64 + 2 * figures._BORDER
    assert borders(image) == [figures.GREEN] * 2 * width + [figures.RED] * 4 * width


def test_long_clips_are_thinned_around_the_first_predicted_frame():
    time, context = 31, 7
    image = figures.rollout_image(clips(time, size=64), context)
    assert frame_levels(image) == [8 * t for t in sorted([*range(1, time, 2), context - 1])]
    image = figures.rollout_image(clips(time, size=64), context, every=12)
    assert frame_levels(image) == [8 * t for t in (6, 7, 19)]


@pytest.mark.parametrize(("time", "size"), [(1000, 64), (300, 128), (50, 200), (3, 300)])
def test_pictures_stay_readable(time, size):
    image = figures.rollout_image({"truth": np.zeros((time, size, size, 3), np.uint8)}, context=2)
    assert image.shape[1] < figures.MAX_WIDTH + 2 * size + 100


def test_count_agrees_with_the_axis_of_the_curves():
    assert [figures._count(t, 3) for t in range(6)] == ["-2", "-1", "0", "+1", "+2", "+3"]


@pytest.mark.parametrize("channels", [1, 3])
def test_strip_and_gif_files(tmp_path, channels):
    rows = clips(time=6, size=16, channels=channels, count=3)
    figures.save_strip(tmp_path / "strip.png", rows, context=2)
    with Image.open(tmp_path / "strip.png") as strip:
        np.testing.assert_array_equal(np.asarray(strip), figures.rollout_image(rows, 2))

    figures.save_gif(tmp_path / "rollout.gif", rows, context=2, fps=5)
    with Image.open(tmp_path / "rollout.gif") as animation:
        assert animation.n_frames == 6
        assert animation.info["duration"] == 200
        assert animation.info["loop"] == 0
        tile, top = 128 + 2 * figures._BORDER, figures._TEXT + 2 * figures._GAP
        assert animation.size == (3 * (tile + figures._GAP) + figures._GAP, tile + 2 * top)
        for t in range(6):
            animation.seek(t)
            picture = np.asarray(animation.convert("RGB")).astype(int)
            assert tuple(picture[0, 0]) == (255, 255, 255)
            for column in range(3):
                x = figures._GAP + column * (tile + figures._GAP)
                assert tuple(picture[top, x]) == (figures.GREEN if t < 2 else figures.RED)
                assert np.abs(picture[top + tile // 2, x + tile // 2] - 8 * t).max() <= 4


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (131, 3), (16, 2)])
def test_a_film_shows_the_pictures_of_the_gif(tmp_path, size, channels):
    rows = clips(time=6, size=size, channels=channels, count=2)
    figures.save_mp4(tmp_path / "rollout.mp4", rows, context=2, fps=29.97)
    figures.save_gif(tmp_path / "rollout.gif", rows, context=2)
    film = cv2.VideoCapture(str(tmp_path / "rollout.mp4"))
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97)
    with Image.open(tmp_path / "rollout.gif") as animation:
        assert [pixels % 2 for pixels in animation.size] == [0, 0]
        for t in range(6):
            animation.seek(t)
            picture = film.read()[1][..., ::-1].astype(int)
            assert np.abs(picture - np.asarray(animation.convert("RGB"))).mean() < 8  # of 255: a film is compressed
            assert np.abs(picture[60:80, 60:80] - 8 * t).mean() < 4  # the frame, not its neighbour
            red, green, _ = picture[30:80, figures._GAP].mean(axis=0)
            assert (green - red if t < 2 else red - green) > 80
    assert not film.read()[0]


def test_gif_of_black_and_white_is_exact(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (4, 16, 16, 1)).astype(np.uint8) * 255
    figures.save_gif(tmp_path / "noise.gif", {"noise": noise}, context=0)
    with Image.open(tmp_path / "noise.gif") as animation:
        animation.seek(3)
        picture = np.asarray(animation.convert("RGB"))
    y, x = figures._TEXT + 2 * figures._GAP + figures._BORDER, figures._GAP + figures._BORDER
    np.testing.assert_array_equal(picture[y : y + 128 : 8, x : x + 128 : 8, :1], noise[3])


def test_channels_that_are_no_colours_stand_side_by_side():
    flow = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 2), np.uint8)
    side_by_side = np.concatenate([flow[..., :1], flow[..., 1:]], axis=2)
    picture = figures.rollout_image({"a": flow}, 1)
    np.testing.assert_array_equal(picture, figures.rollout_image({"a": side_by_side}, 1))


@pytest.mark.parametrize(
    ("rows", "context", "message"),
    [
        ({}, 0, "at least one row"),
        ({"a": np.zeros((2, 4, 4, 1), np.float32)}, 0, "row 'a': expected uint8 .* received float32"),
        ({"a": np.zeros((2, 4, 4), np.uint8)}, 0, "row 'a': expected uint8"),
        ({"a": np.zeros((0, 4, 4, 1), np.uint8)}, 0, "row 'a'"),
        ({"a": np.zeros((2, 4, 4, 1), np.uint8), "b": np.zeros((3, 4, 4, 1), np.uint8)}, 0, "row 'b': .* of one shape"),
        (clips(time=6), 7, "context must be 0 to 6 frames, received 7"),
        (clips(time=6), -1, "context must be 0 to 6"),
    ],
)
def test_refused_clips(tmp_path, rows, context, message):
    with pytest.raises(InputError, match=message):
        figures.rollout_image(rows, context)
    for save in (figures.save_gif, figures.save_mp4):
        with pytest.raises(InputError, match=message):
            save(tmp_path / "x", rows, context)


def test_refused_numbers(tmp_path):
    with pytest.raises(InputError, match="every must be at least 1"):
        figures.rollout_image(clips(), 2, every=0)
    for fps in (0, 51):
        with pytest.raises(InputError, match="fps must be 1 to 50"):
            figures.save_gif(tmp_path / "x.gif", clips(), 2, fps=fps)
    for fps in (0, float("inf")):
        with pytest.raises(InputError, match="fps must be above 0"):
            figures.save_mp4(tmp_path / "x.mp4", clips(), 2, fps=fps)
    with pytest.raises(InputError, match=r"cannot write .*x.mp4 \(276 x 174 pixels.*is its folder there\?"):
        figures.save_mp4(tmp_path / "missing" / "x.mp4", clips(), 2)
    with pytest.raises(InputError, match="no curves"):
        plots.save_curves(tmp_path / "x.png", {}, "title", "subtitle")
    with pytest.raises(InputError, match="no training records"):
        plots.save_training_curves(tmp_path / "x.png", [{"step": 1, "loss": float("nan"), "note": "x"}])


@pytest.fixture
def drawn_figures(monkeypatch):
    """The figures drawn by the code under test."""
    drawn = []
    original = plots.finish

    def finish(figure, panels, path):
        original(figure, panels, path)
        drawn.append(figure)

    monkeypatch.setattr(plots, "finish", finish)
    return drawn


def test_horizon_curves(tmp_path, drawn_figures):
    band = (np.array([3.0, 2.0, np.nan]), np.array([2.0, 1.0, np.nan]), np.array([4.0, 3.0, np.nan]))
    curves = {
        "PSNR (dB), higher is better": {"htsr": band, "copy last frame": band},
        "MSE": {"copy last frame": band},
        "custom": {"new": band},
    }
    plots.save_curves(tmp_path / "curves.png", curves, "title", "256 clips")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = drawn_figures[0].axes
    assert [panel.get_title("left") for panel in panels] == list(curves)
    np.testing.assert_array_equal(panels[0].lines[0].get_xdata(), [1, 2, 3])
    assert panels[0].lines[1].get_color() == panels[1].lines[0].get_color() != panels[0].lines[0].get_color()
    assert panels[0].lines[0].get_linestyle() != panels[0].lines[1].get_linestyle()
    assert [text.get_text() for text in drawn_figures[0].legends[0].get_texts()] == ["htsr", "copy last frame", "new"]


def test_horizon_of_one_frame_is_visible(tmp_path, drawn_figures):
    plots.save_curves(tmp_path / "curves.png", {"ssim": {"htsr": (np.ones(1),) * 3}}, "title", "one frame")
    assert drawn_figures[0].axes[0].lines[0].get_marker() == "o"


def test_training_curves(tmp_path, drawn_figures):
    records = [{"step": step, "loss": 100.0 - step, "kl_0": 1, "kl_1": 2, "time": "10:00"} for step in range(1000)]
    records += [{"step": 500, "valid/loss": 40.0, "kl_0": float("inf")}]
    plots.save_training_curves(tmp_path / "training.png", records, "mmnist")
    panels = {panel.get_title("left"): panel for panel in drawn_figures[0].axes}
    assert list(panels) == ["loss", "kl"]
    loss, valid = panels["loss"].lines
    assert len(loss.get_xdata()) == 400
    np.testing.assert_allclose(loss.get_ydata(), 100 - loss.get_xdata())
    assert (valid.get_label(), list(valid.get_xdata()), list(valid.get_ydata())) == ("valid/loss", [500], [40])
    assert [line.get_label() for line in panels["kl"].lines] == ["kl_0", "kl_1"]
