"""What HTSR registers: things are found, followed, told apart, moved on and drawn where they will be."""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from htsr.errors import InputError
from htsr.models.htsr import camera, flow, motion, things, tracking
from htsr.models.htsr.compose import Compositor
from htsr.models.htsr.looks import believed, period_of, shifted
from htsr.models.htsr.model import HTSR
from htsr.models.htsr.motion import Motion, Walls
from htsr.models.htsr.scene import Latest, SceneLayer

SIZE = 64
WALLS = Walls(tf.constant([12.0, 12.0]), tf.constant([51.0, 51.0]), tf.constant(0.0))


def bounce(start, velocity, length, low=12.0, high=51.0):
    """Places along one axis of a thing that stops at a wall and turns round, as in Moving MNIST."""
    path = [start]
    for _ in range(length - 1):
        place = path[-1] + velocity
        if not low < place < high:
            place, velocity = min(max(place, low), high), -velocity
        path.append(place)
    return np.array(path, np.float32)


def draw(shapes, background, length):
    """Frames of shapes, each (picture, places (length, 2)), at whole pixels over a background."""
    frames = np.repeat(background[None], length, 0).copy()
    for picture, places in shapes:
        half = len(picture) // 2
        for frame, (y, x) in zip(frames, np.round(places).astype(int), strict=False):
            part = frame[y - half : y - half + len(picture), x - half : x - half + len(picture)]
            part[picture > 0] = picture[picture > 0]
    return frames[None, ..., None].astype(np.float32)


@pytest.fixture(scope="module")
def two_shapes():
    """A disc and a cross that fly through each other and bounce, 36 frames seen and 60 to come."""
    shapes, places = disc_and_cross(), np.stack(crossing(96), 1)
    frames = draw(list(zip(shapes, crossing(96), strict=True)), np.zeros([SIZE, SIZE]), 96)
    return frames, places


def disc_and_cross():
    y, x = np.mgrid[-7:8, -7:8]
    return (y**2 + x**2 <= 49) * 0.9, ((abs(y) <= 2) | (abs(x) <= 2)) * 0.7


def crossing(length):
    first = np.stack([bounce(20, 1.57, length), bounce(14, 1.05, length)], -1)
    return first, np.stack([bounce(44, -1.12, length), bounce(48, -1.36, length)], -1)


def scene_layer(num_things, low=12.0, high=51.0):
    layer = SceneLayer(num_things)
    layer.build((SIZE, SIZE, 1))
    layer.low.assign([low / SIZE] * 2)
    layer.high.assign([high / SIZE] * 2)
    layer.reflected.assign(-1.0)
    return layer


def predict(layer, context, length):
    """The frames that the registered things and their background give."""
    scene = layer.register(Latest.of(tf.constant(context), context.shape[1])).scene
    scene, pose = layer.go_on(scene, tf.constant(length))
    return drawn(layer, scene, pose).numpy()


def drawn(layer, scene, pose):
    return things.draw(scene.things, pose.things, scene.background, layer.habits())


def psnr(a, b):
    return -10 * np.log10(np.mean(np.square(a - b)) + 1e-10)


def test_pictures_are_shifted():
    picture = np.random.default_rng(0).random([3, 9, 7]).astype(np.float32)
    moved = shifted(tf.constant(picture), tf.constant([2.0, -1.0])).numpy()
    assert np.array_equal(moved[:, 2:, :-1], picture[:, :-2, 1:])
    assert not moved[:, :2].any()
    assert not moved[:, :, -1].any()
    half = shifted(tf.constant(picture), tf.constant([0.5, 0.0])).numpy()
    np.testing.assert_allclose(half[:, 1:], (picture[:, 1:] + picture[:, :-1]) / 2, atol=1e-6)


def test_things_are_told_apart_where_they_cross(two_shapes):
    frames, places = two_shapes
    context = tf.constant(frames[:, :36])
    tracks = tracking.track(tracking.difference(context, tf.zeros_like(context[:, 0])), tf.ones([36]), 2)
    found = tracks.places.numpy()[0]
    if np.abs(found[0, 0] - places[0, 0]).sum() > np.abs(found[0, 0] - places[0, 1]).sum():
        found = found[:, ::-1]
    gap = np.abs(places[:36, 0] - places[:36, 1]).max(-1).min()
    assert gap < 8, "the shapes were to overlap"
    assert np.abs(found - places[:36]).max() < 2


def test_a_motion_is_found_through_its_bounces():
    truth = np.stack([bounce(20, 1.73, 336), bounce(40, -2.21, 336)], -1)
    seen = np.floor(truth[:36])[None, :, None]
    first, started = motion.fit(tf.constant(seen), tf.ones([1, 36, 1]), WALLS)
    last, _ = motion.retrace(first, started, WALLS)
    np.testing.assert_allclose(np.abs(first.velocity[0, 0]), [1.73, 2.21], atol=0.03)
    _, places = motion.follow(last, WALLS, tf.constant(300))
    assert np.abs(places.numpy()[0, :, 0] - truth[36:]).max() < 2.5


def test_a_frame_that_does_not_fit_misleads_nobody():
    truth = np.stack([bounce(20, 0.7, 60), bounce(25, 0.4, 60)], -1)
    seen = truth[None, :36, None].copy()
    seen[0, [5, 20]] += 9.0
    last, _ = motion.retrace(*motion.fit(tf.constant(seen), tf.ones([1, 36, 1]), WALLS), WALLS)
    _, places = motion.follow(last, WALLS, tf.constant(24))
    assert np.abs(places.numpy()[0, :, 0] - truth[36:]).max() < 1


def test_a_thing_that_comes_in_late_moves_as_it_is_seen_to():
    """Before it comes, tracking has no idea where it is."""
    truth = np.stack([np.full(60, 30.0), 60 - 1.1 * np.arange(60)], -1).astype(np.float32)
    seen = truth[None, :36, None].copy()
    seen[0, :12] = [[[33.0, 48.0]]]
    weights = (np.arange(36) >= 12).astype(np.float32)[None, :, None]
    far = Walls(tf.constant([-99.0] * 2), tf.constant([199.0] * 2), tf.constant(0.0))
    last, steady = motion.retrace(*motion.fit(tf.constant(seen), tf.constant(weights), far), far)
    np.testing.assert_allclose(steady[0, 12:, 0], truth[12:36], atol=0.5)
    np.testing.assert_allclose(last.velocity[0, 0], [0.0, -1.1], atol=0.02)


@pytest.mark.parametrize(("reflected", "expected"), [(0.0, 51.0), (1.0, 49.5)])
def test_walls_stop_or_mirror(reflected, expected):
    walls = WALLS._replace(reflected=tf.constant(reflected))
    start = Motion(tf.constant([[[50.0, 30.0]]]), tf.constant([[[2.5, 1.0]]]), tf.zeros([1, 1, 2]))
    after = motion.move(start, walls)
    np.testing.assert_allclose(after.place, [[[expected, 31.0]]])
    np.testing.assert_allclose(after.velocity, [[[-2.5, 1.0]]])


def test_walls_give_way_to_things_that_go_farther():
    y, x = np.mgrid[-5:6, -5:6]
    places = np.stack([bounce(20, 2.57, 36), bounce(34, 2.2, 36)], -1)
    frames = draw([((y**2 + x**2 <= 25) * 0.9, places)], np.zeros([SIZE, SIZE]), 36)
    losses = []
    for low, high in ((12.0, 51.0), (16.0, 47.0)):
        layer = scene_layer(1, low, high)
        with tf.GradientTape() as tape:
            losses.append(tf.reduce_mean(layer.register(Latest.of(tf.constant(frames), 36)).place_nll))
        of_low, of_high = tape.gradient(losses[-1], [layer.low.value, layer.high.value])
    assert losses[1] > 3 * losses[0]
    assert of_low.numpy().sum() > 0
    assert of_high.numpy().sum() < 0


def test_two_things_are_predicted_sharp_and_in_place(two_shapes):
    frames, _ = two_shapes
    predicted = predict(scene_layer(2), frames[:, :36], 60)
    assert psnr(predicted[:, 0], frames[:, 36]) > 32
    assert psnr(predicted, frames[:, 36:]) > 24
    assert psnr(np.median(frames[:, :36], 1)[:, None], frames[:, 36:]) < 15


def test_which_of_two_things_is_seen_where_they_meet_is_learnt():
    """Here the lighter one, as in Moving MNIST."""
    black = np.zeros([SIZE, SIZE])
    frames = np.maximum(*(draw([shape], black, 96) for shape in zip(disc_and_cross(), crossing(96), strict=True)))
    layer = scene_layer(2)
    found = layer.register(Latest.of(tf.constant(frames[:, :36]), 36)).scene
    scene, pose = layer.go_on(found, tf.constant(60))

    def error():
        return tf.reduce_mean(tf.square(drawn(layer, scene, pose) - frames[:, 36:]))

    with tf.GradientTape() as tape:
        undecided = error()
    assert tape.gradient(undecided, layer.lightest.value) < 0
    layer.lightest.assign(0.05)
    lighter = error()
    layer.lightest.assign(-0.05)
    assert lighter < undecided < error()


def test_averages_leave_out_what_does_not_belong():
    """Of ten crops of a square one is half covered and one cut out two pixels off: all ten count alike, and the average
    is the square, where the plain one is grey at its edges."""
    square = np.zeros([16, 16], np.float32)
    square[4:12, 4:12] = 0.8
    crops = np.repeat(square[None], 10, 0)
    crops[3, :, :8], crops[6] = 0.5, np.roll(square, 2, 0)
    crops = np.stack([crops, crops > 0, np.ones_like(crops)], 1)[None, None].astype(np.float32)
    weights = tf.fill([1, 1, 10, 10], 0.1)

    def furthest(crops):
        total = np.sum(crops, (0, 1, 2))
        return abs(total[0] / total[2] - square).max()

    assert furthest(crops) > 0.1
    assert furthest(believed(tf.constant(crops), weights)) < 0.005


@pytest.mark.parametrize(("known", "moved"), [(0.2, 3.0), (0.0, 2.85), (-0.2, 2.7)])
def test_places_are_rounded_as_far_as_things_move_by_whole_pixels(known, moved):
    layer = scene_layer(1)
    layer.whole_pixels.assign(known)
    with tf.GradientTape() as tape:
        rounded = layer.habits().rounded(tf.constant([2.7]))
    np.testing.assert_allclose(rounded, [moved], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(rounded, layer.whole_pixels.value), 3.0, rtol=1e-5)  # at the ends, too


def test_what_stands_still_is_drawn_as_it_is():
    background = np.random.default_rng(1).random([SIZE, SIZE]) * 0.5
    places = np.stack([bounce(32, 0.0, 56), np.linspace(12, 50, 56)], -1)
    frames = draw([(np.full([9, 9], 1.0), places)], background, 56)
    predicted = predict(scene_layer(1, -20.0, 90.0), frames[:, :36], 20)
    assert psnr(predicted, frames[:, 36:]) > 25
    apart = np.abs(predicted - background[None, None, ..., None])
    assert np.median(apart) < 1e-6


def test_without_walls_things_leave():
    frames = draw(
        [(np.full([9, 9], 1.0), np.stack([np.full(36, 32.0), 12.0 + np.arange(36)], -1))], np.zeros([SIZE, SIZE]), 36
    )
    layer = SceneLayer(1, has_walls=False)
    layer.build((SIZE, SIZE, 1))
    predicted = predict(layer, frames, 40)
    assert [variable.name for variable in layer.trainable_variables][:3] == ["alike", "likeness", "whole_pixels"]
    assert predicted[0, 0].sum() > 70
    assert predicted[0, 30:].max() < 0.01


def test_a_look_that_recurs_is_replayed_in_phase():
    """A bar that turns every third frame, in place."""
    y, x = np.mgrid[-8:9, -8:9]
    looks = [abs(y) <= 1, abs(x) <= 1, abs(y - x) <= 1]
    frames = np.zeros([1, 60, SIZE, SIZE, 1], np.float32)
    for i in range(60):
        frames[0, i, 24:41, 24:41, 0] = looks[i % 3] * 0.8
    predicted = predict(scene_layer(1), frames[:, :36], 24)
    box = (0, slice(None), slice(24, 41), slice(24, 41))
    assert psnr(predicted[box], frames[:, 36:][box]) > 10
    assert psnr(predicted[box], np.roll(frames[:, 36:], 1, 1)[box]) < 9


def test_a_lag_of_which_little_was_seen_is_no_period():
    """A look that does not recur, seen from the 10th frame on: lags that reach before it are nothing to go by, and
    two moments that look the same by chance are too few."""
    unlike = np.abs(np.subtract.outer(np.arange(36.0), np.arange(36.0))).astype(np.float32)[None, None]
    unlike[0, 0, [34, 35], [10, 11]] = 0.0
    usable = (np.arange(36) >= 10).astype(np.float32)[None, None]
    assert period_of(tf.constant(unlike), tf.constant(usable)).numpy() == 1


def test_what_a_thing_stood_before_for_long_is_background():
    """A walker whose foot stays on one spot for more than half of the frames: the median shows it, what the walker
    uncovers does not."""
    background = np.random.default_rng(1).random([SIZE, SIZE]) * 0.3
    path = 20.0 + np.arange(36)
    body, foot = np.full([9, 9], 1.0), np.full([3, 3], 1.0)
    standing = np.where(abs(path - 30) < 9.5, 30.0, path)
    frames = draw(
        [(body, np.stack([np.full(36, 32.0), path], -1)), (foot, np.stack([np.full(36, 39.0), standing], -1))],
        background,
        36,
    )
    layer = scene_layer(1, -20.0, 90.0)
    scene = layer.register(Latest.of(tf.constant(frames), 36)).scene
    assert psnr(np.median(frames, 1)[0, ..., 0], background) < 30
    assert psnr(scene.background[0, ..., 0].numpy(), background) > 40


@pytest.mark.parametrize("seen", [1, 2])
def test_a_short_context_is_enough(seen, two_shapes):
    layer = scene_layer(2)
    scene = layer.register(Latest.of(tf.constant(two_shapes[0][:, :seen]), 36)).scene
    scene, pose = layer.go_on(scene, tf.constant(5))
    frames = layer.draw(scene, pose, tf.zeros([1, 5, SIZE, SIZE, 1]))
    assert np.isfinite(frames).all()


def test_the_median_is_of_the_frames_that_were_seen():
    frames = np.random.default_rng(0).random([2, 6, SIZE, SIZE, 3]).astype(np.float32)
    layer = SceneLayer(0)
    layer.build((SIZE, SIZE, 3))
    scene = layer.register(Latest.of(tf.constant(frames), 9)).scene
    np.testing.assert_allclose(scene.background, np.median(frames, 1), atol=1e-6)
    np.testing.assert_allclose(scene.mean, frames.mean(1), atol=1e-6)
    assert scene.things == ()


def seen_through(camera_, length):
    """Frames of a smooth picture that a camera shows, from far inside of it."""
    world = cv2.GaussianBlur(np.random.default_rng(2).random([256, 256]).astype(np.float32), (0, 0), 3)
    world = (world - world.min()) / (world.max() - world.min())
    zoom, (down, right) = camera_
    frames, scale, move = [], 1.0, np.zeros(2)
    for _ in range(length):
        matrix = np.float32([[scale, 0, 31.5 - 127.5 * scale + move[1]], [0, scale, 31.5 - 127.5 * scale + move[0]]])
        frames.append(cv2.warpAffine(world, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR))
        scale, move = scale * zoom, move * zoom + [down, right]
    return np.stack(frames)[None, ..., None]


@pytest.mark.parametrize("truth", [(1.0, (0.0, 0.0)), (1.0, (1.0, -2.5)), (1.04, (0.0, 3.0)), (0.97, (-1.25, 0.0))])
def test_a_camera_is_followed(truth):
    frames = seen_through(truth, 9)
    found, error = camera.find(tf.constant(frames[:, 3]), tf.constant(frames[:, 4]))
    assert error < 1e-3
    np.testing.assert_allclose(found.zoom, [truth[0]], atol=0.006)
    np.testing.assert_allclose(found.pan, [truth[1]], atol=0.3)
    times = tf.constant([[0.0, 1.0, 4.0]])
    carried, known = camera.carry(tf.constant(frames[:, 4]), found, times)
    for i, frame in enumerate((4, 5, 8)):
        seen = known[0, i, ..., 0].numpy() > 0.99
        assert np.abs(carried[0, i, ..., 0].numpy() - frames[0, frame, ..., 0])[seen].max() < 0.12
        assert seen.mean() > 0.4


def test_what_covers_the_background_goes_on_as_it_moved():
    """Many small things, each with a velocity of its own; one of them leaves."""
    background = np.random.default_rng(3).random([SIZE, SIZE]).astype(np.float32) * 0.3
    last = np.array([(10, 16), (12, 50), (32, 30), (50, 44), (54, 8)])
    velocities = np.array([(0.0, 0.75), (0.5, -0.5), (0.0, 2.0), (-0.75, 0.0), (0.0, -0.25)])
    time = np.arange(-11, 21)[:, None]
    paths = np.clip(last[:, None] + time * velocities[:, None], 3, SIZE + 4)
    wide = np.pad(background, 8)
    frames = draw([(np.full([5, 5], 1.0), path + 8) for path in paths], wide, len(time))[:, :, 8:-8, 8:-8]
    behind = tf.constant(background[None, ..., None])
    found, error = flow.find(tf.constant(frames[:, :12]), tf.ones(12), behind)
    places = tf.constant(last)
    np.testing.assert_allclose(tf.gather_nd(found.velocity[0], places), velocities, atol=0.15)
    backwards = tf.constant(np.concatenate([frames[:, 10::-1], frames[:, 11:12]], 1))
    assert error < 0.5 * flow.find(backwards, tf.ones(12), behind)[1]
    moved = flow.carry(found, behind, tf.range(1.0, 21.0)[None]).numpy()
    for ahead in (1, 5, 10, 20):
        truth = frames[:, 11 + ahead]
        assert psnr(moved[:, ahead - 1], truth) > psnr(frames[:, 11], truth) + 3
    gone = moved[0, -1, 28:37, 54:, 0] - background[28:37, 54:]
    assert np.abs(gone).max() < 0.05


def test_the_compositor_learns_whom_to_believe_when():
    """Of two pictures one is right for near frames, the other one for far frames."""
    rng = np.random.default_rng(0)
    truth = rng.random([4, 2, 16, 16, 1]).astype(np.float32)
    near, far = truth.copy(), truth.copy()
    near[:, 1], far[:, 0] = rng.random([2, 4, 16, 16, 1])
    age, none = tf.constant([[1.0, 60.0]] * 4), tf.zeros([4, 16, 16, 1])
    compositor, optimizer = Compositor(2, 1), keras.optimizers.Adam(0.02)
    compositor.build()

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(compositor([near, far], none, age, tf.zeros([4, 1])) - truth))
        variables = compositor.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    first = step()
    for _ in range(60):
        last = step()
    assert last < 0.02 * first


@pytest.mark.parametrize("arguments", [{"layers": 1}, {"still": True}, {"camera": True}, {"flow": True}])
def test_registering_needs_a_number_of_frames(arguments):
    with pytest.raises(InputError, match="imagine_from"):
        HTSR(**arguments)
