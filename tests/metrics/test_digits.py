"""The reader of digits: its parts, predictions of known quality, and the script that trains it."""

import hashlib
import itertools

import numpy as np
import pytest

from benchmarks.train_digit_classifier import augment, centred, folded, scenes, train_classifier, train_detector, write
from htsr.data import load_clips
from htsr.data.mnist_digits import load_digits
from htsr.errors import InputError
from htsr.metrics import digits
from htsr.metrics.digits import DigitReader, crop, locate

pytestmark = pytest.mark.usefixtures("plain_graphs")
NAMES = ["digits_count", "digits_identity", "digits_place"]
CLIPS, FRAMES = 40, 20


@pytest.fixture(scope="module")
def reader():
    return DigitReader()


@pytest.fixture(scope="module")
def load():
    """Frames, labels and corners of test clips of so many digits."""

    def load_digits_of(num_digits, num_clips=CLIPS, frames=FRAMES, **settings):
        settings = {"batch_size": 20, "seq_len": frames, "num_digits": num_digits, **settings}
        clips = load_clips("moving_mnist", "test", **settings)
        labels = np.stack([clips.source.labels(i) for i in range(num_clips)])
        corners = np.stack([clips.source.positions(i) for i in range(num_clips)])
        return np.concatenate(list(clips.examples(num_clips))), labels, corners

    return load_digits_of


def paste(corners, size=64, images=None):
    """A frame ``(1, 1, size, size, 1)`` of the first test digits (0, 1, 2 …), or others, at these corners."""
    images = load_digits("test").images if images is None else images
    frame = np.zeros((1, 1, size, size, 1))
    for image, (top, left) in zip(images, corners, strict=False):
        target = frame[0, 0, top : top + 28, left : left + 28, 0]
        np.maximum(target, image / 255, out=target)
    return frame


def means(values):
    return [values[name].mean() for name in NAMES]


def test_bundled_weights_read_the_test_digits(reader):
    """98.5 % of these 1,000; the networks have seen none of them."""
    test = load_digits("test")
    assert (reader.classify(centred(test.images)) == test.labels).mean() >= 0.97


def test_a_digit_is_cut_out_as_the_classifier_knows_it_wherever_it_is():
    images = load_digits("test").images[:20]
    corners = np.random.default_rng(0).integers(0, 37, (20, 2))
    corners[:4] = [[0, 0], [0, 36], [36, 0], [36, 36]]
    pasted = [paste([corner], images=[image])[0, 0, ..., 0] for image, corner in zip(images, corners, strict=True)]
    frames = np.stack(pasted).astype(np.float32)
    centres, ink = locate(frames)
    np.testing.assert_array_equal(crop(frames, centres[:, np.newaxis])[:, 0], centred(images))
    assert np.abs(centres - corners - 14).max() <= 1
    assert (ink > digits.EMPTY).all()


def test_crops_of_several_places():
    images = np.arange(2 * 30 * 33, dtype=float).reshape(2, 30, 33)
    cut = crop(images, np.array([[[14, 14], [15, 19]], [[16, 14], [0, 32]]]))
    np.testing.assert_array_equal(cut[0, 0], images[0, :28, :28])
    np.testing.assert_array_equal(cut[0, 1], images[0, 1:29, 5:33])
    np.testing.assert_array_equal(cut[1, 0], images[1, 2:30, :28])
    np.testing.assert_array_equal(cut[1, 1, 14:, :15], images[1, :14, 18:])
    assert not cut[1, 1, :14].any()
    assert not cut[1, 1, :, 15:].any()


def test_centre_is_the_centre_of_mass_of_the_ink():
    image = np.full((1, 9, 12), 0.05)
    image[0, 2, 3], image[0, 6, 11] = 0.75, 0.25
    centres, ink = locate(image)
    np.testing.assert_allclose(centres, [[3, 5]])
    np.testing.assert_allclose(ink, [1])


@pytest.mark.parametrize(
    ("num_digits", "least"), [(1, [0.99, 0.93, 1]), (2, [0.88, 0.86, 0.93]), (3, [0.7, 0.75, 0.87])]
)
def test_true_frames_are_the_ceiling(reader, load, num_digits, least):
    """The last frames of 200 clips: with two digits 0.93, 0.91, 0.97; with three 0.75, 0.81, 0.91."""
    frames, labels, corners = load(num_digits, num_clips=200)
    values = reader.read(frames[:, -1:], labels, corners[:, -1:])
    assert list(values) == NAMES
    for name, bound in zip(NAMES, least, strict=True):
        assert values[name].shape == (200, 1)
        assert values[name].mean() >= bound, name


def test_copying_a_frame_keeps_identity_but_not_place(reader, load):
    for num_digits, share in ((1, 0.4), (2, 0.5)):
        frames, labels, corners = load(num_digits)
        truth = reader.read(frames, labels, corners)
        still = reader.read(np.broadcast_to(frames[:, :1], frames.shape), labels, corners)
        for name in NAMES:
            np.testing.assert_array_equal(still[name][:, 0], truth[name][:, 0])
        np.testing.assert_array_equal(still["digits_count"], truth["digits_count"][:, :1].repeat(FRAMES, 1))
        assert still["digits_place"][:, 4:].mean() < share
        if num_digits == 1:
            np.testing.assert_array_equal(still["digits_identity"], truth["digits_identity"][:, :1].repeat(FRAMES, 1))
        else:
            assert still["digits_identity"][:, 4:].mean() < 0.5  # each is looked for at its true place


@pytest.mark.parametrize("num_digits", [1, 2])
@pytest.mark.parametrize("value", [0.0, 0.05, np.nan])
def test_frames_without_ink_show_no_digit(reader, load, num_digits, value):
    frames, labels, corners = load(num_digits, num_clips=2, frames=3)
    assert means(reader.read(np.full_like(frames, value), labels, corners)) == [0, 0, 0]


def test_one_pixel_that_is_not_a_number_spoils_its_frame_alone(reader, load):
    frames, labels, corners = load(2, num_clips=3, frames=3)
    truth = reader.read(frames, labels, corners)
    frames[1, 2, 60, 3] = np.nan
    values = reader.read(frames, labels, corners)
    for name in NAMES:
        truth[name][1, 2] = 0
        np.testing.assert_array_equal(values[name], truth[name])


def test_a_digit_of_next_to_no_ink_is_none(reader):
    corners = [(2, 2), (36, 36)]
    faint = paste(corners[:1]) + 0.12 * paste(corners)
    truth = np.array([[0, 1]]), np.array(corners)[np.newaxis, np.newaxis]
    assert [reader.read(np.clip(faint, 0, 1), *truth)[name].item() for name in NAMES] == [0, 0.5, 0.5]


def test_the_digits_of_other_clips_are_wrong(reader, load):
    """Every clip's prediction is that of its neighbour: right by chance only."""
    frames, labels, corners = load(1)
    count, identity, place = means(reader.read(np.roll(frames, 1, axis=0), labels, corners))
    assert count > 0.95
    assert identity < 0.25
    assert place < 0.25


def test_digits_too_few_and_too_many(reader):
    corners = np.array([(0, 0), (36, 36), (2, 34)])
    truth = np.array([[0, 1]]), corners[np.newaxis, np.newaxis, :2]
    for shown, expected in ((2, [1, 1, 1]), (1, [0, 0.5, 0.5]), (3, [0, 1, 1])):
        values = reader.read(paste(corners[:shown]), *truth)
        assert [values[name].item() for name in NAMES] == expected


def test_a_digit_in_another_place_is_neither_there_nor_lost(reader):
    truth = np.array([[0, 1]]), np.array([[[(0, 0), (36, 36)]]])
    for moved, expected in (((33, 36), 1), ((31, 36), 0.5)):
        values = reader.read(paste([(0, 0), moved]), *truth)
        assert values["digits_count"].item() == 1
        assert values["digits_place"].item() == expected
    values = reader.read(paste([(36, 36), (0, 0)]), *truth)  # exchanged
    assert [values[name].item() for name in NAMES] == [1, 0, 1]


def test_one_digit_is_looked_for_where_the_ink_is(reader):
    truth = np.array([[2]]), np.array([[[(10, 10)]]])
    two = load_digits("test").images[2:]
    for moved, expected in (((10, 10), 1), ((12, 12), 1), ((10, 16), 0)):
        values = reader.read(paste([moved], images=two), *truth)
        assert [values[name].item() for name in NAMES] == [1, 1, expected]


@pytest.mark.parametrize("size", [(64, 64), (45, 70), (57, 91)])
def test_digits_are_found_on_any_canvas(reader, size):
    """Wherever they touch the edges, also where the canvas is not a whole number of the detector's cells."""
    height, width = size
    places = [*itertools.product((0, height - 28), (0, width // 2 - 14, width - 28))]
    frames = np.zeros((len(places), height, width))
    for frame, (top, left), image in zip(frames, places, load_digits("test").images, strict=False):
        frame[top : top + 28, left : left + 28] = image / 255
    found, is_found = reader.detect(frames)
    np.testing.assert_array_equal(is_found.sum(axis=1), np.ones(len(places)))
    assert np.linalg.norm(found[:, 0] - np.array(places) - 14, axis=1).max() < 3


def test_matching_is_the_best_of_all():
    rng = np.random.default_rng(0)
    found, is_found = rng.uniform(0, 30, (50, 6, 2)), rng.random((50, 6)) < 0.5
    true = rng.uniform(0, 30, (50, 3, 2))
    distances = digits._matched_distances(found, is_found, true)
    for i, (places, matched) in enumerate(zip(true, distances, strict=True)):
        points, near = found[i, is_found[i]], matched[matched < 100]
        assert len(near) == min(3, len(points))
        least = min(
            np.linalg.norm(places[list(rows)] - points[list(columns)], axis=1).sum()
            for rows in itertools.combinations(range(3), len(near))
            for columns in itertools.permutations(range(len(points)), len(near))
        )
        assert near.sum() == pytest.approx(least)


def test_a_frame_is_read_alike_in_any_batch(reader, load, monkeypatch):
    frames, labels, corners = load(2, num_clips=6, frames=5)
    whole = reader.read(frames, labels, corners)
    one = reader.read(frames[2:3, 3:], labels[2:3], corners[2:3, 3:])
    monkeypatch.setattr(digits, "_BLOCK", 7)
    blocks = reader.read(frames, labels, corners)
    for name in NAMES:
        np.testing.assert_array_equal(blocks[name], whole[name])
        np.testing.assert_array_equal(one[name], whole[name][2:3, 3:])


def test_other_input_is_refused(reader, load):
    frames, labels, corners = load(2, num_clips=2, frames=3)
    many = np.zeros((2, 6), int), np.zeros((2, 3, 6, 2), int)
    for arguments, message in [
        ((frames[0], labels, corners), r"received shape \(3, 64, 64, 1\)"),
        ((frames[:, :, :27], labels, corners), r"at least 28x28 pixels, received shape \(2, 3, 27, 64, 1\)"),
        (((255 * frames).astype(np.uint8), labels, corners), "received uint8; divide bytes by 255"),
        ((frames + 0.5, labels, corners), r"received \[0.5, 1.5\]; clip them first"),
        ((frames, labels[:1], corners), r"labels must be integers \(2, digit\).* received uint8 \(1, 2\)"),
        ((frames, labels / 2, corners), r"labels must be integers \(2, digit\).* received float64 \(2, 2\)"),
        ((frames, *many), r"with 1 to 5 digits, received int64 \(2, 6\)"),
        ((frames, labels, corners[:, 1:]), r"corners must be integers \(2, 3, 2, 2\), received int64 \(2, 2, 2, 2\)"),
        ((frames, labels, corners / 2), r"corners must be integers \(2, 3, 2, 2\), received float64"),
        ((frames, labels, corners + 36), "every digit inside frames of 64x64 pixels"),
    ]:
        with pytest.raises(InputError, match=message):
            reader.read(*arguments)


def test_missing_and_damaged_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"not found: expected .*none\.npz"):
        DigitReader(tmp_path / "none.npz")
    damaged = tmp_path / "weights.npz"
    content = bytearray(digits.WEIGHTS.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="damaged: expected SHA-256"):
        DigitReader(damaged)


def test_augmentation_is_mild_and_seeded():
    images = centred(load_digits("train").images[:50])
    warped = augment(images, np.random.default_rng(0))
    np.testing.assert_array_equal(warped, augment(images, np.random.default_rng(0)))
    assert warped.shape == images.shape
    assert warped.dtype == np.float32
    shift = np.abs(locate(warped)[0] - locate(images)[0])
    assert 1 < shift.max() < 4


def test_the_detector_learns_where_the_centres_are():
    images = centred(load_digits("train").images[:50])
    frames, marks = next(scenes(images, 64, np.random.default_rng(0)))
    assert frames.shape == marks.shape
    assert frames.dtype == marks.dtype == np.float32
    counts = (marks == 1).sum((1, 2, 3))
    assert set(counts) == set(range(6))
    for frame, mark in zip(frames[counts == 1, ..., 0], marks[counts == 1, ..., 0], strict=True):
        centre = np.argwhere(mark == 1)[0]
        assert np.linalg.norm(locate(frame)[0] - centre) < 2
    assert not frames[counts == 0].any()


def test_folding_normalisation_changes_nothing():
    import keras
    from keras import layers

    rng = np.random.default_rng(0)
    network = keras.Sequential([layers.Input((28, 28, 1))])
    for filters, stride in digits.CLASSIFIER:
        network.add(layers.Conv2D(filters, 3, stride, "valid" if stride == 1 else "same", use_bias=False))
        network.add(layers.BatchNormalization())
        network.add(layers.ReLU())
        shape = network.layers[-2].gamma.shape
        network.layers[-2].set_weights([rng.uniform(0.5, 1.5, shape), *rng.uniform(0.1, 1, (3, *shape))])
    network.add(layers.Flatten())
    network.add(layers.Dense(10))
    images = rng.random((4, 28, 28, 1), np.float32)
    expected = keras.ops.convert_to_numpy(network(images, training=False))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(folded(network)(images)), expected, rtol=1e-3, atol=1e-4)


def test_training_teaches_and_its_file_is_read(tmp_path, monkeypatch, capsys):
    path = tmp_path / "weights.npz"
    write(path, classifier=train_classifier(epochs=3), detector=train_detector(steps=40, batch_size=4))
    monkeypatch.setattr(digits, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    test = load_digits("test")
    accuracy = (DigitReader(path).classify(centred(test.images)) == test.labels).mean()
    assert accuracy > 0.5
    printed = capsys.readouterr().out
    assert float(printed.split("reads ")[1].split("%")[0]) == pytest.approx(100 * accuracy, abs=0.5)
