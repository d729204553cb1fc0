"""TaxiBJ: both published layouts on small files whose frames tell their place in time; order, scale, splits, errors."""

import h5py
import numpy as np
import pytest

from htsr.data import load_clips
from htsr.errors import InputError

YEARS = {
    "BJ13": ["2013-07-01", "2013-07-02", "2013-07-03", "2013-07-04", "2013-07-05"],  # the fourth lacks a half hour
    "BJ14": ["2014-03-01"],
    "BJ15": ["2015-03-01"],
    "BJ16": [str(np.datetime64("2015-11-01") + day) for day in range(57) if day != 34],  # 28 + 28, one day missing
}


def taxi(datadir, split="train", seq_len=8, source="openstl", batch_size=2, **arguments):
    arguments |= {"seq_len": seq_len, "source": source, "batch_size": batch_size, "datadir": datadir and str(datadir)}
    return load_clips("taxibj", split, **arguments)


def numbers(clips, scale):
    """What the inflow of every frame of every clip says, (clip, time)."""
    return np.rint([scale * clips.window(index)[:, 0, 0, 0] for index in range(clips.num_clips)]).astype(int)


def marked(inflow, low, high):
    """Frames (…, 2, 32, 32) of one inflow each; the outflow is ``low``, but ``high`` in row 3, column 5."""
    frames = np.full((*np.shape(inflow), 2, 32, 32), low, np.float32)
    frames[..., 0, :, :] = np.asarray(inflow)[..., np.newaxis, np.newaxis]
    frames[..., 1, 3, 5] = high
    return frames


def write_openstl(folder, **replaced):
    """Train clips begin at frames 0 … 47, test clips at 52 … 56; frame k has the inflow k / 1000 in [0, 1]."""
    arrays = {}
    for part, starts in {"train": np.arange(48), "test": np.arange(52, 57)}.items():
        clips = marked((starts[:, np.newaxis] + np.arange(8)) / 500 - 1, low=-1, high=1)
        arrays |= {f"X_{part}": clips[:, :4], f"Y_{part}": clips[:, 4:]}
    arrays |= replaced
    np.savez(folder / "dataset.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Folder of the original layout; frame i of the N in it has the inflow N - i, and their times in half hours."""
    folder, times, total = tmp_path_factory.mktemp("taxibj"), [], 63 * 48 - 1
    for year, days in YEARS.items():
        dates = [f"{day.replace('-', '')}{slot:02}" for day in days for slot in range(1, 49)]
        dates = [date for date in dates if date != "2013070407"]
        counts = marked(total - len(times) - np.arange(len(dates)), low=-3, high=total).astype(np.int16)
        times += [(np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:8]}").astype(int) * 48) + int(d[8:]) for d in dates]
        if year == "BJ16":
            counts[-1, 1, 3, 5] = 2 * total  # in the test split, above the maximum of what is before
        with h5py.File(folder / f"{year}_M32x32_T30_InOut.h5", "w") as file:
            file["data"], file["date"] = counts, np.array(dates, "S")
    assert len(times) == total
    return folder, np.array(times)


def test_openstl_order_scale_and_splits(tmp_path):
    write_openstl(tmp_path)
    splits = {split: numbers(taxi(tmp_path, split), 1000) for split in ("train", "valid", "test")}
    # 45 … 47 reach into the test frames; of the other 45, the last two are valid and 36 … 42 reach into those.
    starts = {"train": [*range(36)], "valid": [43, 44], "test": [*range(52, 57)]}
    assert {split: found[:, 0].tolist() for split, found in splits.items()} == starts
    for found in splits.values():
        np.testing.assert_array_equal(found, found[:, :1] + np.arange(8))
    assert not set.intersection(*(set(found.ravel()) for found in splits.values()))
    clips = taxi(tmp_path, "test", seq_len=5)
    assert (clips.shape, clips.source.units) == ((5, 32, 32, 2), (0.0, 1292.0))
    np.testing.assert_array_equal(numbers(clips, 1000)[2], np.arange(54, 59))
    outflow = clips.window(0)[0, :, :, 1]
    assert outflow[3, 5] == outflow.sum() == 1


def test_clips_pass_floats_of_two_channels_on_as_they_are(tmp_path):
    write_openstl(tmp_path)
    clips = taxi(tmp_path)
    batch = next(iter(clips.dataset(3, 4))).numpy()
    assert (batch.shape, batch.dtype, batch.max()) == ((2, 8, 32, 32, 2), np.float32, 1)
    np.testing.assert_array_equal(batch, clips.batch(3))
    np.testing.assert_array_equal(next(clips.examples()), np.stack([clips.window(0), clips.window(1)]))


def test_original_order_scale_and_splits(record):
    folder, times = record
    total, seen = len(times), {}
    for split, num_clips in {"train": 137 + 3 * 41, "valid": 1344 - 7, "test": 6 * 48 - 7 + 22 * 48 - 7}.items():
        clips = taxi(folder, split, source="original")
        assert (clips.num_clips, clips.shape, clips.source.units) == (num_clips, (8, 32, 32, 2), (0, total))
        places = total - numbers(clips, total)
        assert (np.diff(times[places]) == 1).all()
        seen[split] = np.unique(places)
    kept = np.concatenate([seen["train"], seen["valid"], seen["test"]])
    incomplete = np.arange(3 * 48, 4 * 48 - 1)
    np.testing.assert_array_equal(kept, np.setdiff1d(np.arange(total), incomplete))
    last = clips.window(clips.num_clips - 1)
    np.testing.assert_allclose(last[:, 9, 9, 0], np.arange(8, 0, -1) / total, rtol=1e-6)
    outflow = last[-1, :, :, 1]
    assert outflow[3, 5] == outflow.sum() == 1  # the count above the maximum is cut, those below zero are none


def test_original_clips_of_any_length(record):
    assert taxi(record[0], seq_len=144, source="original").num_clips == 1
    with pytest.raises(InputError, match=r"seq_len is 145, but the longest run .* train split of .* is 144 frames"):
        taxi(record[0], seq_len=145, source="original")


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"Y_train": None}, r"cannot read .*dataset.npz \('Y_train is not a file in the archive'\); expected OpenSTL"),
        ({"X_test": np.zeros((5, 4, 32, 32, 2))}, r"X_test is float64 \(5, 4, 32, 32, 2\), expected floats"),
        ({"X_test": np.zeros((5, 4, 2, 32, 32), int)}, "X_test is int64"),
        ({"X_test": np.zeros((4, 4, 2, 32, 32))}, "cannot read"),
        ({"X_test": np.array([{}])}, "cannot read .*allow_pickle=False"),
        ({"X_test": np.full((5, 4, 2, 32, 32), 3.0)}, r"expected values in \[-1, 1\], received -1.0 to 3.0"),
        ({"X_test": np.full((5, 4, 2, 32, 32), np.nan)}, "received nan to nan"),
        ({"X_train": np.zeros((0, 4, 2, 32, 32)), "Y_train": np.zeros((0, 4, 2, 32, 32))}, "too few clips for a train"),
    ],
)
def test_refused_openstl_files(tmp_path, replaced, message):
    write_openstl(tmp_path, **replaced)
    with pytest.raises(InputError, match=message):
        taxi(tmp_path)


def test_unreadable_openstl_files(tmp_path):
    write_openstl(tmp_path)
    path = tmp_path / "dataset.npz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cannot read .*not a zip file"):
        taxi(tmp_path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"cannot read .*dataset.npz"):
        taxi(tmp_path)


DATES = np.array([f"20130701{slot:02}" for slot in range(1, 49)], "S")


@pytest.mark.parametrize(
    ("data", "date", "message"),
    [
        (np.zeros((48, 32, 32, 2)), DATES, r"data is float64 \(48, 32, 32, 2\) with date \(48,\), expected"),
        (np.zeros((48, 2, 32, 32)), DATES[1:], r"with date \(47,\)"),
        (np.full((48, 2, 32, 32), np.inf), DATES, "values that are not finite"),
        (np.zeros((1, 2, 32, 32)), [b"2013070149"], "date '2013070149', expected YYYYMMDD and a half hour 01 to 48"),
        (np.zeros((1, 2, 32, 32)), [b"2013133001"], "cannot read .*BJ13"),
        (np.zeros((48, 2, 32, 32)), DATES, "1 days with all 48 half hours; more than 56 are needed"),
        (None, DATES, "cannot read .*BJ13_M32x32_T30_InOut.h5"),
        (None, None, "cannot read .*BJ13_M32x32_T30_InOut.h5"),
    ],
)
def test_refused_original_files(tmp_path, data, date, message):
    for year in YEARS:
        with h5py.File(tmp_path / f"{year}_M32x32_T30_InOut.h5", "w") as file:
            file["date"] = date if year == "BJ13" and date is not None else np.array([], "S10")
            if year != "BJ13" or data is not None:
                file["data"] = data if year == "BJ13" else np.zeros((0, 2, 32, 32))
    if date is None:
        (tmp_path / "BJ13_M32x32_T30_InOut.h5").write_bytes(b"no h5 file")
    with pytest.raises(InputError, match=message):
        taxi(tmp_path, source="original")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"source": "npz"}, "unknown source 'npz'; known: openstl, original"),
        ({"seq_len": 0}, "seq_len must be a whole number of at least 1, not 0"),
        ({"seq_len": 9}, r"seq_len is 9, but the clips of .*dataset.npz have 8 frames; choose at most 8"),
        ({"datadir": None}, "datadir, their folder, is missing; name it"),
        ({"datadir": "nowhere"}, "folder nowhere does not exist"),
        ({"source": "original"}, r"no BJ13_.*, BJ16_M32x32_T30_InOut.h5, which source=original reads; put"),
        ({"datadir": "."}, r"no dataset.npz, which source=openstl reads; put .* or BJ13_.* and source=original$"),
    ],
)
def test_refused_arguments(tmp_path, arguments, message):
    (tmp_path / "dataset.npz").touch()
    with pytest.raises(InputError, match=message):
        taxi(**({"datadir": tmp_path} | arguments))
