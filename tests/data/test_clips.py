"""Clips and Moving MNIST: reproducible order, the published trajectory, disjoint digits, every file layout, errors."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from htsr.data import load_clips, mnist_digits
from htsr.data.clips import Clips
from htsr.data.mnist_digits import load_digits
from htsr.data.moving_mnist import paste, trajectories
from htsr.data.sources import WindowSource
from htsr.errors import InputError

REFERENCE = Path(__file__).parents[1] / "fixtures" / "moving_mnist_trajectories.npz"
IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def moving(split="train", batch_size=4, seq_len=12, **arguments):
    return load_clips("moving_mnist", split, batch_size=batch_size, seq_len=seq_len, **arguments)


# The generated source


def test_trajectories_are_those_of_the_reference_generator():
    with np.load(REFERENCE) as reference:
        corners = trajectories(reference["draws"], num_frames=20, image_size=64)
        np.testing.assert_array_equal(corners[..., 0].T, reference["top"])
        np.testing.assert_array_equal(corners[..., 1].T, reference["left"])


def test_a_clip_is_that_of_the_reference_generator():
    with np.load(REFERENCE) as reference:
        corners = trajectories(reference["clip_draws"], num_frames=20, image_size=64)
        np.testing.assert_array_equal(paste(reference["clip_digits"], corners, 64), reference["clip"])


def test_a_digit_stops_at_the_wall_and_turns_round():
    corners = trajectories(np.array([[0.75, 0.5, 0.0]]), num_frames=5, image_size=128)
    # x: 0.85, 0.95, 1 (not 1.05), 0.9, 0.8 of the 100 free pixels; truncation hides the last bit of a float
    np.testing.assert_allclose(corners[:, 0, 1], [85, 95, 100, 90, 80], atol=1)
    assert corners[2, 0, 1] == 100
    np.testing.assert_array_equal(corners[:, 0, 0], 50)


@pytest.mark.parametrize(("num_digits", "image_size", "seq_len"), [(1, 64, 10), (3, 48, 2000), (2, 128, 30)])
def test_generated_shape_and_ground_truth(num_digits, image_size, seq_len):
    clips = moving(num_digits=num_digits, image_size=image_size, seq_len=seq_len)
    window = clips.window(5, epoch=2)
    assert window.shape == clips.shape == (seq_len, image_size, image_size, 1)
    assert window.dtype == np.uint8
    corners, labels = clips.source.positions(5, epoch=2), clips.source.labels(5, epoch=2)
    assert corners.shape == (seq_len, num_digits, 2)
    assert labels.shape == (num_digits,)
    top, left = corners.min(axis=1)[0]
    assert not window[0, :top].any()
    assert not window[0, :, :left].any()


def test_labels_and_positions_belong_to_the_clip():
    source = moving("test", num_digits=1).source
    digits = load_digits("test")
    for index in range(20):
        top, left = source.positions(index)[3, 0]
        seen = source.window(index)[3, top : top + 28, left : left + 28, 0]
        found = np.flatnonzero((digits.images == seen).all(axis=(1, 2)))
        assert digits.labels[found].tolist() == source.labels(index).tolist()


def test_a_longer_clip_continues_the_shorter_one():
    np.testing.assert_array_equal(moving(seq_len=50).window(3)[:12], moving(seq_len=12).window(3))


def test_epochs_seeds_splits_and_clips_differ_but_held_out_clips_do_not_change_with_the_epoch():
    def drawn(split="train", seed=0, index=0, epoch=0):
        return moving(split, seed=seed).window(index, epoch).tobytes()

    variants = [drawn(), drawn(epoch=1), drawn(index=1), drawn(seed=1), drawn("valid"), drawn("test")]
    assert len(set(variants)) == len(variants)
    assert drawn("valid", epoch=1) == drawn("valid")
    assert drawn("test", epoch=1) == drawn("test")


def test_number_of_clips():
    assert [moving(split).num_clips for split in ("train", "valid", "test")] == [10_000, 256, 1_000]
    assert moving(num_clips=10).steps_per_epoch == 2


# The order of the clips


def test_batches_are_a_permutation_in_every_epoch():
    clips = moving(num_clips=14, seq_len=2)
    orders = []
    for epoch in range(2):
        windows = [clips.window(index, epoch).tobytes() for index in range(14)]
        batches = [clips.batch(step) for step in range(3 * epoch, 3 * epoch + 3)]
        assert {batch.shape for batch in batches} == {(4, *clips.shape)}
        orders.append([windows.index(clip.tobytes()) for batch in batches for clip in batch])
    assert len(set(orders[0])) == len(set(orders[1])) == 12
    assert orders[0] != orders[1]
    np.testing.assert_array_equal(moving(num_clips=14, seq_len=2).batch(4), clips.batch(4))


def test_dataset_gives_the_batches_of_its_steps():
    clips = moving(num_clips=10)
    batches = list(clips.dataset(1, 5))
    assert clips.dataset(1, 5).element_spec == tf.TensorSpec((4, *clips.shape), tf.uint8)
    assert len(batches) == 4
    for step, batch in enumerate(batches, start=1):
        np.testing.assert_array_equal(batch, clips.batch(step))
    np.testing.assert_array_equal(next(iter(clips.dataset(3, 5))), batches[2])


def test_examples_come_in_file_order():
    clips = moving("valid", num_clips=10)
    batches = list(clips.examples())
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert batches[0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(batches)[9] * 255, clips.window(9))
    assert [len(batch) for batch in clips.examples(5)] == [4, 1]
    assert [len(batch) for batch in moving("valid", num_clips=3).examples()] == [3]


def test_a_fresh_process_makes_the_same_batch_without_tensorflow():
    code = (
        "import hashlib, sys; from htsr.data import load_clips;"
        "clips = load_clips('moving_mnist', 'train', batch_size=4, seq_len=12, seed=7);"
        "print(hashlib.sha256(clips.batch(6001).tobytes()).hexdigest(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hashlib.sha256(moving(seed=7).batch(6001).tobytes()).hexdigest(), "False"]


def test_the_clips_never_change():
    # Runs resumed under a later version of this package must see the same data.
    digest = hashlib.sha256(moving(seed=7).batch(6001).tobytes()).hexdigest()
    assert digest == "f50b6a178301d5b27b503c99c118bd2df9b375469708d0f9ca5c8dcd62d0fd8a"


# Digits


def test_bundled_digits_are_disjoint_and_balanced():
    splits = {split: load_digits(split) for split in ("train", "valid", "test")}
    seen = {split: {image.tobytes() for image in digits.images} for split, digits in splits.items()}
    assert {split: len(images) for split, images in seen.items()} == {"train": 3500, "valid": 500, "test": 1000}
    assert len(set.union(*seen.values())) == 5000
    for digits in splits.values():
        assert len(set(np.bincount(digits.labels, minlength=10))) == 1


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def mnist_arrays():
    """Stand-ins for the four files: 24 training and 5 test digits, each with its own grey value."""
    values = np.arange(1, 30, dtype=np.uint8)
    images, labels = np.repeat(values, 784).reshape(-1, 28, 28), values % 10
    return images[:24], labels[:24], images[24:], labels[24:]


def write_idx(folder, compress):
    for name, array in zip(IDX_NAMES, mnist_arrays(), strict=True):
        content = idx_bytes(array)
        path = folder / f"{name}.gz" if compress else folder / name
        path.write_bytes(gzip.compress(content) if compress else content)


def write_keras(folder):
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(folder / "mnist.npz", **dict(zip(names, mnist_arrays(), strict=True)))


@pytest.mark.parametrize("layout", ["idx", "idx.gz", "keras"])
def test_digits_from_files(tmp_path, layout):
    write_keras(tmp_path) if layout == "keras" else write_idx(tmp_path, compress=layout == "idx.gz")
    greys = {split: load_digits(split, tmp_path).images[:, 9, 9].tolist() for split in ("train", "valid", "test")}
    assert greys == {"train": [*range(1, 23)], "valid": [23, 24], "test": [*range(25, 30)]}
    assert load_digits("test", tmp_path).labels.tolist() == [5, 6, 7, 8, 9]
    clips = moving("valid", batch_size=16, datadir=str(tmp_path), num_digits=1)
    assert set(np.unique(clips.batch(0))) == {0, 23, 24}


def test_download_verifies_and_falls_back_to_the_next_mirror(tmp_path, monkeypatch, capsys):
    bad, good, datadir = (tmp_path / name for name in ("bad", "good", "datadir"))
    for folder in (bad, good):
        folder.mkdir()
    write_idx(good, compress=True)
    (bad / "t10k-images-idx3-ubyte.gz").write_bytes(b"not the file")
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in good.iterdir()}
    monkeypatch.setattr(mnist_digits, "SHA256", hashes)
    monkeypatch.setattr(mnist_digits, "MIRRORS", (bad.as_uri(), good.as_uri()))
    assert len(load_digits("test", datadir, download=True).images) == 5
    assert sorted(path.name for path in datadir.iterdir()) == [f"{name}.gz" for name in IDX_NAMES[2:]]
    assert capsys.readouterr().err.count("downloading") == 4
    load_digits("test", datadir, download=True)
    assert not capsys.readouterr().err


def test_failing_download_says_where_to_put_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_digits, "MIRRORS", ((tmp_path / "nothing").as_uri(),))
    with pytest.raises(InputError, match=r"cannot download train-images.*into .*data by hand$"):
        load_digits("train", tmp_path / "data", download=True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0", "cannot read .*train-images"),
        ("train-images-idx3-ubyte", b"", "cannot read .*train-images"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\x01\0\0\0\0", "not an idx file of bytes"),
        ("train-images-idx3-ubyte", idx_bytes(np.zeros((24, 28, 28), np.uint8))[:-1], "18815 values for the sizes"),
        ("train-images-idx3-ubyte", idx_bytes(np.zeros((24, 32, 32), np.uint8)), r"received uint8 \(24, 32, 32\)"),
        ("train-labels-idx1-ubyte", idx_bytes(np.zeros(23, np.uint8)), r"expected uint8 images .* uint8 \(23,\)"),
    ],
)
def test_damaged_digit_files(tmp_path, name, content, message):
    write_idx(tmp_path, compress=False)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_digits("train", tmp_path)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "mnist.npz"])
def test_truncated_compressed_digit_files(tmp_path, name):
    write_keras(tmp_path) if name == "mnist.npz" else write_idx(tmp_path, compress=True)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"cannot read .*{name}"):
        load_digits("train", tmp_path)


# Video files


def write_video(path, frames):
    """Lossless grey video; ``frames`` is uint8 (time, height, width, 1)."""
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(np.repeat(frame, 3, axis=2))
    writer.release()


@pytest.fixture
def archive(tmp_path):
    """Five training videos of 25 frames, one test video of 25; the clips they hold."""
    videos = [moving(seq_len=25).window(index) for index in range(6)]
    for number, video in enumerate(videos[:5]):
        write_video(tmp_path / "train-seq100" / f"{number}.avi", video)
    write_video(tmp_path / "test-seq1000" / "0.avi", videos[5])
    return tmp_path, videos


def test_archive_gives_exact_windows(archive):
    datadir, videos = archive
    clips = moving(source="archive", datadir=str(datadir))
    assert clips.num_clips == 4 * 2
    np.testing.assert_array_equal(clips.window(5), videos[2][12:24])
    np.testing.assert_array_equal(clips.window(5, epoch=9), videos[2][12:24])
    held_out = moving("valid", batch_size=2, source="archive", datadir=str(datadir))
    np.testing.assert_array_equal(next(held_out.examples()) * 255, np.stack([videos[4][:12], videos[4][12:24]]))
    whole = moving("test", batch_size=1, seq_len=25, source="archive", datadir=str(datadir))
    assert whole.num_clips == 1
    np.testing.assert_array_equal(whole.window(0), videos[5])


def test_archive_errors(archive):
    datadir = archive[0]
    with pytest.raises(InputError, match=r"Moving MNIST, train: no video has 26 frames.* the longest of 4 has 25"):
        moving(seq_len=26, source="archive", datadir=str(datadir))
    (datadir / "train-seq100" / "1.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"video 1.avi cannot be decoded"):
        moving(source="archive", datadir=str(datadir))
    for number in range(1, 5):
        (datadir / "train-seq100" / f"{number}.avi").unlink()
    with pytest.raises(InputError, match="train needs a second one"):
        moving(source="archive", datadir=str(datadir))
    (datadir / "train-seq100" / "0.avi").rename(datadir / "train-seq100" / "0.txt")
    with pytest.raises(InputError, match=r"train-seq100 has no videos; expected .avi"):
        moving(source="archive", datadir=str(datadir))
    with pytest.raises(InputError, match=r"folder .*train-seq100 does not exist"):
        moving(source="archive", datadir=str(datadir / "elsewhere"))


def test_an_error_inside_the_pipeline_is_kept():
    class Broken(WindowSource):
        shape, num_clips = (2, 4, 4, 1), 8

        def window(self, index, epoch):
            if index == 2:
                raise InputError("video 2.avi has changed")
            return np.zeros(self.shape, np.uint8)

    clips = Clips(Broken(), batch_size=4)
    with pytest.raises(tf.errors.OpError, match=r"video 2\.avi has changed"):
        list(clips.dataset(0, 2))
    with pytest.raises(InputError, match=r"video 2\.avi has changed"):
        raise clips.failure


# The test set of Toronto


def test_toronto(tmp_path):
    videos = np.random.default_rng(0).integers(0, 256, (20, 6, 64, 64), np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", videos)
    clips = moving("test", source="toronto", datadir=str(tmp_path))
    assert clips.num_clips == 6
    np.testing.assert_array_equal(clips.window(4), videos[:12, 4, :, :, np.newaxis])
    with pytest.raises(InputError, match="has no train split; use source=generated"):
        moving("train", source="toronto", datadir=str(tmp_path))
    with pytest.raises(InputError, match=r"seq_len is 21, but the sequences of .* have 20 frames"):
        moving("test", seq_len=21, source="toronto", datadir=str(tmp_path))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 2, 64, 64), np.float32), "received float32"),
        (np.zeros((2, 20, 64, 64), np.uint8), r"expected uint8 \(20, sequences, 64, 64\), received uint8 \(2, 20"),
        (np.zeros((20, 64, 64), np.uint8), r"received uint8 \(20, 64, 64\)"),
        (np.array([{}]), "not a readable .npy file"),
        (None, "mnist_test_seq.npy does not exist"),
    ],
)
def test_toronto_errors(tmp_path, array, message):
    if array is not None:
        np.save(tmp_path / "mnist_test_seq.npy", array)
    with pytest.raises(InputError, match=message):
        moving("test", source="toronto", datadir=str(tmp_path))


# Refused arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"source": "generate"}, "unknown source 'generate'; did you mean 'generated'"),
        ({"seq_len": 0}, "seq_len must be a whole number of at least 1, not 0"),
        ({"seq_len": 12.0}, "seq_len must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"num_digits": 0}, "num_digits must be"),
        ({"image_size": 28}, "image_size must be a whole number of at least 29"),
        ({"num_clips": 0}, "num_clips must be"),
        ({"download": True}, "download needs datadir"),
        ({"datadir": "nowhere"}, "datadir nowhere has no MNIST digits: expected train-images"),
        ({"source": "archive"}, "datadir, their folder, is missing"),
        ({"source": "archive", "num_digits": 1}, "num_digits=1 has no effect on source=archive"),
        ({"source": "toronto", "image_size": 128}, "image_size=128 has no effect on source=toronto"),
        ({"source": "toronto", "num_clips": 10}, "num_clips=10 has no effect"),
        ({"source": "archive", "download": True}, "download=True has no effect"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        moving(**arguments)


def test_refused_uses_of_clips():
    clips = moving(num_clips=3)
    for use in (lambda: clips.steps_per_epoch, lambda: clips.batch(0), lambda: clips.dataset(0, 1)):
        with pytest.raises(InputError, match="batch_size is 4, but there are only 3 clips of 12 frames"):
            use()
    with pytest.raises(InputError, match="clip 3 does not exist: there are 3"):
        clips.window(3)
    with pytest.raises(InputError, match="num_examples is 4, but there are only 3"):
        clips.examples(4)
    with pytest.raises(InputError, match="step must be a whole number of at least 0"):
        clips.batch(-1)
    with pytest.raises(InputError, match="stop must be a whole number of at least 5"):
        clips.dataset(5, 4)
    with pytest.raises(InputError, match="unknown dataset 'moving_minst'; did you mean 'moving_mnist'"):
        load_clips("moving_minst", "train", batch_size=4, seq_len=12)
