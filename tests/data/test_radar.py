"""Radar sequences of every layout, small files whose grey levels tell sequence and frame: splits, scale, errors."""

import zipfile

import cv2
import numpy as np
import pytest

from htsr.config import read_overrides
from htsr.data import load_clips
from htsr.data.clips import as_floats
from htsr.data.radar_files import picture_sequence
from htsr.errors import InputError
from htsr.metrics import event_counts


def radar(datadir, split="train", seq_len=5, batch_size=2, **arguments):
    arguments = {"layout": "folders", "dbz": [-10, 85]} | arguments
    return load_clips(
        "radar", split, datadir=datadir and str(datadir), seq_len=seq_len, batch_size=batch_size, **arguments
    )


def frame(sequence, number, height=12, width=10):
    """Grey levels: the upper half tells the sequence, the lower half the frame."""
    image = np.full((height, width), 10 * sequence, np.uint8)
    image[height // 2 :] = 3 * number
    return image


def numbers(clips):
    """(sequence, first frame) of every clip, sorted; frames follow each other."""
    found = []
    for index in range(clips.num_clips):
        window = clips.window(index)
        assert (np.diff(window[:, -1, 0, 0].astype(int)) == 3).all()
        found.append((int(window[0, 0, 0, 0]) // 10, int(window[0, -1, 0, 0]) // 3))
    return sorted(found)


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_folders(folder, splits, frames=6):
    for split, sequences in splits.items():
        for sequence in sequences:
            for number in range(frames):
                write_png(folder / split / f"storm_{sequence}" / f"{number + 8}.png", frame(sequence, number))


@pytest.fixture
def folders(tmp_path):
    write_folders(tmp_path, {"train": [1, 2, 10], "test": [5]})
    return tmp_path


# CIKM2017


@pytest.fixture(scope="module")
def cikm(tmp_path_factory):
    """3 training sequences, one of validation and two of test, as published."""
    folder = tmp_path_factory.mktemp("cikm")
    for split, sequences in {"train": (1, 2, 10), "validation": (4,), "test": (5, 6)}.items():
        for place, sequence in enumerate(sequences, 1):
            for number in range(15):
                image = frame(sequence, number, 101, 101)
                image[3, 4] = 255
                write_png(folder / split / f"sample_{place}" / f"img_{number + 1}.png", image)
    return folder


def test_cikm(cikm, capsys):
    clips = {split: radar(cikm, split, seq_len=15, layout="cikm2017", dbz=None) for split in ("train", "valid", "test")}
    assert {split: numbers(found) for split, found in clips.items()} == {
        "train": [(1, 0), (2, 0), (10, 0)],
        "valid": [(4, 0)],
        "test": [(5, 0), (6, 0)],
    }
    assert "train has 3 of the 8000 sequences" in capsys.readouterr().err
    train = clips["train"]
    assert (train.shape, train.source.units) == ((15, 101, 101, 1), (-10, 85))
    assert train.resolved == {"dbz": [-10, 85], "image_size": [101, 101]}
    window = train.window(2)
    assert window.dtype == np.uint8
    assert not window[:, 3, 4].any()  # 255, which was not measured
    # 100 of 255 is 27.25 dBZ.
    truth = window[:1, :50, :, 0][None, ..., None] / np.float32(255)
    counts = event_counts(truth, truth, [27, 27.25, 28], train.source.units)
    assert [int(counts[f"hits@{threshold}"].item()) for threshold in (27, 27.25, 28)] == [50 * 101 - 1] * 2 + [0]
    assert numbers(radar(cikm, seq_len=12, layout="cikm2017", hop=3))[:3] == [(1, 0), (1, 3), (2, 0)]


def test_clips_in_training_and_in_file_order(cikm):
    clips = radar(cikm, seq_len=15, layout="cikm2017", image_size=32)
    batch = as_floats(next(iter(clips.dataset(0, 1))).numpy())
    assert (batch.shape, batch.dtype) == ((2, 15, 32, 32, 1), np.float32)
    assert 0 < batch.max() <= 1
    np.testing.assert_array_equal(
        next(clips.examples()), np.stack([clips.window(0), clips.window(1)]) / np.float32(255)
    )


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("img_15.png", r"test/sample_1 has no img_15.png; expected img_1.png to img_15.png"),
        ("img_7.png", r"sample_1 lacks frames between img_6.png and img_8.png; add them, or number frames anew"),
    ],
)
def test_cikm_lacks_a_frame(tmp_path, removed, message):
    for number in range(1, 16):
        write_png(tmp_path / "test" / "sample_1" / f"img_{number}.png", frame(1, number))
    (tmp_path / "test" / "sample_1" / removed).unlink()
    with pytest.raises(InputError, match=message):
        radar(tmp_path, "test", layout="cikm2017")


def test_cikm_has_a_frame_too_many(tmp_path):
    for number in range(1, 17):
        write_png(tmp_path / "test" / "sample_1" / f"img_{number}.png", frame(1, number))
    with pytest.raises(InputError, match=r"test/sample_1 has 16 frames; expected img_1.png to img_15.png"):
        radar(tmp_path, "test", layout="cikm2017")


# Shanghai2020


@pytest.fixture
def shanghai(tmp_path):
    """Two parts of one record each; an example of three frames begins at every second one. 19 + 1 train and valid."""
    for split, count, begin in (("train", 44, 0), ("test", 8, 60)):
        for number in range(count):
            write_png(tmp_path / split / "data" / "2020" / f"{number:03}.png", frame(1, begin + number))
        for example, start in enumerate(range(0, count - 3, 2)):
            names = [f"2020/{number:03}.png" for number in range(start, start + 4)]
            lists = tmp_path / split / "examples" / f"example_{example}"
            lists.mkdir(parents=True)
            (lists / f"example_{example}-inputs-{split}.txt").write_text("\n".join(names[:2]) + "\n")
            (lists / f"example_{example}-targets-{split}.txt").write_text("\r\n".join(names[2:]))
    return tmp_path


def test_shanghai(shanghai):
    clips = {split: radar(shanghai, split, 4, layout="shanghai2020", dbz=None) for split in ("train", "valid", "test")}
    # Example 20 is valid; 19 shares two of its frames.
    starts = {"train": range(0, 38, 2), "valid": [40], "test": [60, 62, 64]}
    assert {split: [first for _, first in numbers(found)] for split, found in clips.items()} == {
        split: list(found) for split, found in starts.items()
    }
    assert clips["test"].source.units == (0, 70)
    assert clips["test"].shape == (4, 12, 10, 1)
    smaller = radar(shanghai, "test", 4, layout="shanghai2020", image_size=(6, 5))
    np.testing.assert_array_equal(smaller.window(0)[0, :, :, 0], clips["test"].window(0)[0, ::2, ::2, 0])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("example_0-inputs-train.txt", None, r"example_0 has 0 lists example_0-inputs-….txt, expected one"),
        ("example_0-inputs-valid.txt", "a.png", r"example_0 has 2 lists example_0-inputs-….txt, expected one"),
        ("example_0-inputs-train.txt", "../../secret.png", r"names ../../secret.png; expected files in .*data"),
        ("example_0-inputs-train.txt", "C:\\..\\x.png", r"names C:/../x.png; expected files in"),
        ("example_0-inputs-train.txt", "/etc/x.png", r"names /etc/x.png; expected files in"),
        ("example_0-inputs-train.txt", "x" * 2**20 + "x", r"has more than 1048576 bytes"),
    ],
)
def test_refused_lists(shanghai, name, text, message):
    path = shanghai / "train" / "examples" / "example_0" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=message):
        radar(shanghai, layout="shanghai2020")


def test_a_listed_frame_is_missing(shanghai):
    clips = radar(shanghai, "test", 4, layout="shanghai2020")
    (shanghai / "test" / "data" / "2020" / "004.png").unlink()
    with pytest.raises(InputError, match=r"frame .*004.png cannot be read \(No such file.*put it there, or remove"):
        [clips.window(index) for index in range(clips.num_clips)]


def test_refused_examples(shanghai):
    lists = sorted((shanghai / "test" / "examples" / "example_1").iterdir())
    for path in lists:
        path.write_text("\n")
    with pytest.raises(InputError, match=r"the lists of .*example_1 are empty"):
        radar(shanghai, "test", 4, layout="shanghai2020")
    write_folders(shanghai / "other", {"test": [1]})
    with pytest.raises(InputError, match="has no folder examples; expected that of Shanghai2020"):
        radar(shanghai / "other", "test", 4, layout="shanghai2020")


# Folders


def test_folders(folders, capsys):
    assert numbers(radar(folders, hop=1)) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert numbers(radar(folders, "valid")) == [(10, 0)]  # the last one: 10 comes after 2
    assert numbers(radar(folders, "test", 3)) == [(5, 0), (5, 3)]
    write_folders(folders, {"valid": [7]}, frames=4)
    assert numbers(radar(folders, "valid", 4)) == [(7, 0)]
    assert len(numbers(radar(folders, "train", 6))) == 3
    assert radar(folders).note is None
    (folders / "SYNTHETIC.txt").write_text("synthetic rain\n")
    assert radar(folders).note == "synthetic rain"


def test_sequences_of_unequal_length(folders, capsys):
    write_folders(folders, {"test": [3]}, frames=4)
    assert numbers(radar(folders, "test")) == [(5, 0)]
    assert "1 of 2 sequences are shorter than 5 frames and left out: test/storm_3" in capsys.readouterr().err
    with pytest.raises(InputError, match="no video has 7 frames, which a clip of 7 frames"):
        radar(folders, "test", 7)


def test_arrays_of_dbz(folders):
    dbz = np.stack([frame(6, number) for number in range(6)]) * 95.0 / 255 - 10
    dbz[0, 0, 0], dbz[1, 0, 0], dbz[2, 0, 0] = np.nan, -32, 99
    (folders / "array" / "test" / "single").mkdir(parents=True)
    np.save(folders / "array" / "test" / "a.npy", dbz.astype(np.float32))
    np.savez(folders / "array" / "test" / "b.npz", dbz.astype(np.float32))
    for number, image in enumerate(dbz.astype(np.float32)):
        np.save(folders / "array" / "test" / "single" / f"t{number}.npy", image)
    clips = radar(folders / "array", "test", 6, image_size=(12, 10))
    assert clips.num_clips == 3
    for index in range(3):
        window = clips.window(index)
        assert window.dtype == np.float32
        expected = np.stack([frame(6, number) for number in range(6)]).astype(float) / 255
        expected[:3, 0, 0] = 0, 0, 1
        np.testing.assert_allclose(window[..., 0], expected, atol=1e-6)
    assert radar(folders / "array", "test", 6, image_size=6).window(0).shape == (6, 6, 6, 1)
    halves = radar(folders / "array", "test", 3)
    levels = {tuple(np.rint(halves.window(index)[:, -1, -1, 0] * 85).astype(int)) for index in range(6)}
    assert levels == {(0, 1, 2), (3, 4, 5)}


def test_colour_pictures_of_grey_and_names_that_are_times(tmp_path):
    for minute, name in enumerate(("202006010054", "202006010100", "202006010106")):
        image = np.repeat(frame(1, minute)[..., None], 3 + minute % 2, axis=-1)
        write_png(tmp_path / "test" / "storm" / f"{name}.png", image)
    assert numbers(radar(tmp_path, "test", 3)) == [(1, 0)]


def test_frames_that_are_not_numbered_one_by_one(tmp_path):
    for name in ("f0.png", "f6.png", "f12.png"):
        write_png(tmp_path / "even" / name, frame(1, 1))
    assert picture_sequence(tmp_path / "even", tmp_path).files == ("f0.png", "f6.png", "f12.png")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "sequence .*odd has no frames; expected numbered .png frames"),
        (("1.png", "2.npy"), "has .png and .npy frames; expected numbered"),
        (("1.png", "two.png"), "frame .*two.png has no number; rename or remove it"),
        (("a1.png", "b1.png"), r"odd holds names of 2 kinds, such as a1.png and b1.png"),
        (("1.png", "01.png"), r"odd has two files of the same number, 01.png and 1.png"),
        (("f_1.png", "f_1_mask.png", "f_2.png"), r"odd holds names of 2 kinds, such as f_1.png and f_1_mask.png"),
        (("1.png", "2.png", "4.png"), "lacks frames between 2.png and 4.png; add them"),
    ],
)
def test_refused_sequences(tmp_path, names, message):
    (tmp_path / "odd").mkdir()
    for name in names:
        (tmp_path / "odd" / name).touch()
    with pytest.raises(InputError, match=message):
        picture_sequence(tmp_path / "odd", tmp_path)


@pytest.mark.parametrize("names", [[f"u_{n / 4:g}.npy" for n in range(12)], [f"step_{n}.npy" for n in range(-6, 6)]])
def test_fractions_and_signs_are_numbers(tmp_path, capsys, names):
    for number, name in enumerate(names):
        (tmp_path / "test" / "storm").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "test" / "storm" / name, frame(1, number))
    assert numbers(radar(tmp_path, "test", 12)) == [(1, 0)]
    assert f"is in the order {names[0]}, {names[1]}, … {names[-1]}" in capsys.readouterr().err


def test_names_of_day_and_time(tmp_path):
    for number, name in enumerate(("20200601_0054", "20200601_0100", "20200602_0000", "20200602_0054")):
        write_png(tmp_path / "test" / "storm" / f"{name}.png", frame(1, number))
    assert numbers(radar(tmp_path, "test", 4)) == [(1, 0)]


# What was not measured


def storms(folder, nothing, dtype=np.float32):
    """The same echoes with a quarter of the cells not measured, which ``nothing`` stands for."""
    echoes = np.random.default_rng(1).uniform(-5, 45, (6, 12, 10)).astype(dtype)
    echoes[:, :6, :5] = nothing
    (folder / "test").mkdir(parents=True)
    np.save(folder / "test" / "a.npy", echoes)
    return folder


FILLS = [9.969209968386869e36, 1e20, -9999.0, -32768.0, 3.4e38, 999.0, np.inf]


@pytest.mark.parametrize("fill", FILLS)
def test_fill_values_are_no_echoes(tmp_path, capsys, fill):
    """They are refused, or count as what was not measured; never as the strongest echo."""
    expected = radar(storms(tmp_path / "nan", np.nan), "test", 6).window(0)
    assert "180 of 720 cells were not measured, and count as no echo" in capsys.readouterr().err
    assert not expected[:, :6, :5].any()
    folder = storms(tmp_path / "fill", fill)
    with pytest.raises(InputError, match=r"cells of .* dBZ, which no radar measures; .*data.nodata=") as caught:
        radar(folder, "test", 6)
    assert "\n" not in str(caught.value)
    offered = str(caught.value).partition("data.nodata=")[2].partition(",")[0]
    offered = read_overrides([f"data.nodata={offered}"])["data"]["nodata"]
    clips = radar(folder, "test", 6, nodata=offered)
    assert "180 of 720 cells were not measured" in capsys.readouterr().err
    np.testing.assert_array_equal(clips.window(0), expected)


def test_no_rain_is_no_echo_and_what_is_cut_is_said(tmp_path, capsys):
    assert not radar(storms(tmp_path / "a", -np.inf), "test", 6).window(0)[:, :6, :5].any()
    assert capsys.readouterr().err == ""
    assert (radar(storms(tmp_path / "b", 99), "test", 6).window(0)[:, :6, :5] == 1).all()
    assert "180 of 720 cells are above 85 dBZ, and count as that" in capsys.readouterr().err


def test_grey_levels_that_were_not_measured(folders):
    levels = radar(folders, "test", 6).window(0)
    expected = np.where(levels == levels[0, 0, 0], np.uint8(0), levels)
    np.testing.assert_array_equal(radar(folders, "test", 6, nodata=float(levels[0, 0, 0, 0])).window(0), expected)


def png(image):
    return cv2.imencode(".png", image)[1].tobytes()


GOOD = png(np.random.default_rng(0).integers(0, 255, (12, 10), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot be decoded \(damaged, or no picture\); fetch it again"),
        (b"JFIF" * 20, r"cannot be decoded \(damaged, or no picture\)"),
        (GOOD[:90], r"cannot be decoded \(.*\); fetch it again"),
        (GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:], r"cannot be decoded \(.*\); fetch it again"),
        (
            GOOD[:16] + (10**5).to_bytes(4, "big") + GOOD[20:],
            r"\(100000x12 pixels, at most 8192 a side\)",
        ),
        (png(np.zeros((12, 10), np.uint16)), "has pixels of the kind uint16, expected 8 bit grey levels"),
        (
            png(np.random.default_rng(0).integers(0, 255, (12, 10, 3), np.uint8)),
            "has colours, expected 8 bit grey",
        ),
        (png(np.zeros((10, 12), np.uint8)), r"storm_5 is uint8 \(10, 12\), expected uint8 \(12, 10\) as in .*storm_5"),
    ],
)
def test_refused_pictures(folders, content, message):
    clips = radar(folders, "test")
    (folders / "test" / "storm_5" / "9.png").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        clips.window(0)
    assert "\n" not in str(caught.value)


def huge(shape):
    """The beginning of a .npy file that states this shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((6, 12)), r"a.np. is float64 \(6, 12\), expected \(time, height, width\)"),
        (np.zeros((6, 0, 12)), "expected"),
        (np.zeros((6, 12, 10), int), r"is int64 \(6, 12, 10\), expected"),
        (np.zeros((1, 1, 9000), np.uint8), "expected .* of at most 8192 a side"),
        (np.array([{}]), "cannot read|is object"),
        (huge((10**9, 4096, 4096)), "cannot read .*a.np."),
        (huge((10**9, 4096, 4096))[:40], "cannot read .*a.np."),
        (b"no array", "cannot read .*a.np."),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_refused_arrays(tmp_path, array, message, suffix):
    path = tmp_path / "test" / f"a.{suffix}"
    path.parent.mkdir()
    if isinstance(array, bytes) and suffix == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("arr_0.npy", array)
    elif isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array) if suffix == "npy" else np.savez(path, array)
    with pytest.raises(InputError, match=message):
        radar(tmp_path, "test").window(0)


def test_refused_archives(tmp_path):
    (tmp_path / "test").mkdir()
    np.savez(tmp_path / "test" / "a.npz", np.zeros((6, 12, 10)), np.zeros(3))
    with pytest.raises(InputError, match=r"cannot read .* \(it holds arr_0, arr_1\)"):
        radar(tmp_path, "test")
    (tmp_path / "test" / "a.npz").write_bytes((tmp_path / "test" / "a.npz").read_bytes()[:300])
    with pytest.raises(InputError, match=r"cannot read .*a.npz \(File is not a zip file\); save it again"):
        radar(tmp_path, "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"layout": "cikm"}, "unknown layout 'cikm'; did you mean 'cikm2017'"),
        ({"dbz": None}, r"which reflectivities .* dbz is missing; name both \(data.dbz=\[-10, 85\]\)"),
        ({"dbz": [85, -10]}, "dbz must be two reflectivities, the lower one first"),
        ({"dbz": [1, 2, 3]}, "dbz must be two"),
        ({"dbz": [float("nan"), 2]}, "dbz must be two"),
        ({"datadir": None}, "datadir, their folder, is missing; name it"),
        ({"datadir": "nowhere"}, "folder nowhere does not exist"),
        ({"image_size": 0}, "image_size must be a whole number of at least 1, not 0"),
        ({"hop": 0}, "hop must be a whole number of at least 1, not 0"),
        ({"layout": "cikm2017"}, r"storm_1 has no img_1.png; expected img_1.png to img_15.png"),
        ({"layout": "cikm2017", "split": "valid"}, "has no folder validation; expected train, validation and test"),
        ({"layout": "shanghai2020"}, "has no folder examples"),
        ({"split": "train", "datadir": "empty"}, "folder empty/train has no sequences; expected sub-folders"),
        ({"split": "test", "datadir": "empty"}, "folder empty has no folder test; expected train, test and"),
    ],
)
def test_refused_arguments(folders, monkeypatch, arguments, message):
    monkeypatch.chdir(folders)
    (folders / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=message):
        radar(**({"datadir": folders} | arguments))
