"""WeatherBench: small files of the published form whose values tell the hour; order, scale, splits, errors.

They are written by xarray, where it is installed (pip install xarray h5netcdf); what needs no file runs without it.
"""

import builtins
import importlib.util

import h5py
import numpy as np
import pytest

from htsr.data import load_clips
from htsr.errors import InputError

needs_xarray = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("xarray", "h5netcdf")),
    reason="xarray and h5netcdf, an extra of the package, are not installed",
)
HOURS = 40
NAME = "2m_temperature_{}_5.625deg.nc"


def weather(datadir, split="valid", seq_len=24, batch_size=2, **arguments):
    return load_clips(
        "weatherbench", split, datadir=datadir and str(datadir), seq_len=seq_len, batch_size=batch_size, **arguments
    )


def hours_of(clips):
    """What the south-west corner of every frame of every clip says, (clip, time); the north-east is a tenth of it."""
    kelvin = np.stack([clips.window(index)[..., 0] for index in range(clips.num_clips)]) * 150.0 + 180.0
    np.testing.assert_allclose(kelvin[:, :, 0, -1] - 200, (kelvin[:, :, -1, 0] - 200) / 10, atol=1e-3)
    return np.rint(kelvin[:, :, -1, 0] - 200).astype(int)


def write(
    path,
    year,
    hours=HOURS,
    first=0,
    name="t2m",
    values=None,
    times=None,
    dims=("time", "lat", "lon"),
    order=(...,),
    **encoding,
):
    """A year's file of ``hours`` hours: frame k is 250 K, but 200 + first + k in the south-west corner."""
    import xarray

    if values is None:
        values = np.full((hours, 32, 64), 250, np.float32)
        values[:, 0, 0] = 200 + first + np.arange(hours)
        values[:, -1, -1] = 200 + (first + np.arange(hours)) / 10
    if times is None:
        times = np.datetime64(f"{year}-01-01", "ns") + np.arange(len(values)) * np.timedelta64(1, "h")
    latitude, longitude = np.linspace(-87.1875, 87.1875, 32), np.arange(64) * 5.625
    dataset = xarray.Dataset(
        {name: (dims, values)}, coords={dims[0]: times, dims[1]: latitude[: values.shape[1]], dims[2]: longitude}
    )
    dataset.transpose(*order).to_netcdf(path, engine="h5netcdf", encoding={name: encoding} if encoding else None)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The published layout, 40 hours a year; the hour count goes on from year to year within a split."""
    folder = tmp_path_factory.mktemp("weather")
    (folder / "2m_temperature").mkdir()
    for year in range(2010, 2019):
        begin = {2016: 2016, 2017: 2017, 2018: 2017}.get(year, 2010)
        write(folder / "2m_temperature" / NAME.format(year), year, first=(year - begin) * HOURS % 120)
    return folder


@needs_xarray
def test_splits_order_and_scale(record, capsys):
    valid = weather(record)
    assert (valid.num_clips, valid.shape, valid.source.units) == (HOURS - 23, (24, 32, 64, 1), (180, 330))
    assert "2m_temperature_2016_5.625deg.nc has 40 of the 8784 hours of 2016" in capsys.readouterr().err
    found = hours_of(valid)
    np.testing.assert_array_equal(found, found[:, :1] + np.arange(24))
    assert sorted(found[:, 0]) == list(range(HOURS - 23))
    assert found[0, 0] != 0 or found[1, 0] != 1  # the first clips are not the first hours
    np.testing.assert_array_equal(found, hours_of(weather(record, seed=5)))
    # Hours are missing between the years of these files: no clip spans two of them.
    assert weather(record, "test").num_clips == 2 * (HOURS - 23)
    train = hours_of(weather(record, "train"))
    np.testing.assert_array_equal(train[:, 0], (40 * np.arange(6)[:, None] % 120 + np.arange(17)).ravel())  # by time
    frame = valid.window(0)[0]
    assert frame.dtype == np.float32
    assert frame[5, 5, 0] == np.float32(70 / 150)


@needs_xarray
def test_clips_go_on_from_one_year_to_the_next(tmp_path):
    end = np.datetime64("2017-12-31T14", "ns") + np.arange(10) * np.timedelta64(1, "h")
    write(tmp_path / NAME.format(2017), 2017, hours=10, times=end)
    write(tmp_path / NAME.format(2018), 2018, hours=30, first=10)
    clips = weather(tmp_path, "test", seq_len=12, stride=3)
    assert clips.num_clips == 40 - 33
    found = hours_of(clips)
    np.testing.assert_array_equal(found, found[:, :1] + 3 * np.arange(12))
    with pytest.raises(InputError, match=r"seq_len 15 with stride 3 takes 43 hours, .* has 40; choose smaller ones"):
        weather(tmp_path, "test", seq_len=15, stride=3)


@needs_xarray
def test_no_clip_spans_a_missing_hour(tmp_path):
    times = np.datetime64("2016-02-28", "ns") + np.delete(np.arange(41), 10) * np.timedelta64(1, "h")
    write(tmp_path / NAME.format(2016), 2016, times=times)
    found = hours_of(weather(tmp_path, seq_len=8))
    assert sorted(found[:, 0]) == [0, 1, 2, *range(10, 33)]


@needs_xarray
def test_years_are_read_when_a_clip_of_theirs_is(record):
    clips = weather(record, "test")
    assert [year._values is None for year in clips.source._years] == [True, True]
    clips.window(int(np.argmin(clips.source._starts)))
    assert [year._values is None for year in clips.source._years] == [False, True]
    batch = next(iter(weather(record, "train").dataset(0, 1))).numpy()
    np.testing.assert_array_equal(batch, weather(record, "train").batch(0))


@needs_xarray
def test_packed_values_and_other_orders_of_dimensions(tmp_path):
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768, "zlib": True}
    write(tmp_path / NAME.format(2016), 2016, order=("lon", "time", "lat"), **packing)
    found = hours_of(weather(tmp_path))
    np.testing.assert_array_equal(found, found[:, :1] + np.arange(24))


@needs_xarray
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "t"}, "it has no t2m, but t"),
        ({"dims": ("time", "latitude", "longitude")}, "t2m has time 40, latitude 32, longitude 64, expected time 1"),
        ({"values": np.full((40, 16, 64), 250.0)}, "t2m has time 40, lat 16, lon 64, expected"),
        ({"times": np.arange(40.0)}, "time is float64, expected dates"),
        ({"year": 2015}, "times are 2015-01-01T00.* expected full hours of 2016"),
        ({"times": np.datetime64("2016-01-01T00:30", "ns") + np.arange(40) * np.timedelta64(1, "h")}, "full hours"),
        (
            {"times": np.datetime64("2016-01-02", "ns") - np.arange(24) * np.timedelta64(1, "h"), "hours": 24},
            "not incr",
        ),
    ],
)
def test_refused_files(tmp_path, arguments, message):
    write(tmp_path / NAME.format(2016), **({"year": 2016} | arguments))
    with pytest.raises(InputError, match=rf"cannot read .*2016_5.625deg.nc \(.*{message}.*netCDF 4 file"):
        weather(tmp_path)


@needs_xarray
@pytest.mark.parametrize("wrong", [25.0, np.nan, 400.0])
def test_refused_values(tmp_path, wrong):
    values = np.full((40, 32, 64), 250.0)
    values[3, 4, 5] = wrong
    write(tmp_path / NAME.format(2016), 2016, values=values)
    clips = weather(tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*t2m is .* to .*, expected Kelvin, 180 to 330"):
        clips.window(0)


@needs_xarray
def test_refused_bytes(tmp_path):
    path = tmp_path / NAME.format(2016)
    write(path, 2016)
    content = path.read_bytes()
    for damaged in (content[:3000], b"CDF\x01" + content[4:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"cannot read .* expected the netCDF 4 file of WeatherBench$"):
            weather(tmp_path)


@needs_xarray
def test_a_huge_stated_shape_is_refused_before_anything_is_read(tmp_path):
    with h5py.File(tmp_path / NAME.format(2016), "w") as file:
        for name, size in {"time": 10**13, "lat": 32, "lon": 64}.items():
            file.create_dataset(name, (size,), "f8", chunks=(32,)).make_scale(name)
        t2m = file.create_dataset("t2m", (10**13, 32, 64), "f4", chunks=(1, 32, 64))
        for axis, name in enumerate(("time", "lat", "lon")):
            t2m.dims[axis].attach_scale(file[name])
    with pytest.raises(InputError, match="t2m has time 10000000000000, lat 32, lon 64, expected time 1"):
        weather(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; did you mean 'test'"),
        ({"seq_len": 0}, "seq_len must be a whole number of at least 1, not 0"),
        ({"stride": 0}, "stride must be a whole number of at least 1, not 0"),
        ({"datadir": None}, "datadir, their folder, is missing; name it"),
        ({"datadir": "nowhere"}, "folder nowhere does not exist"),
        ({"split": "test"}, r"has no 2m_temperature_2018_5.625deg.nc, of which the test split is; unpack"),
    ],
)
def test_refused_arguments(tmp_path, arguments, message):
    for year in (2016, 2017):
        (tmp_path / NAME.format(year)).touch()
    with pytest.raises(InputError, match=message):
        weather(**({"datadir": tmp_path} | arguments))


def test_without_xarray(tmp_path, monkeypatch):
    (tmp_path / NAME.format(2016)).touch()
    real = builtins.__import__

    def lacking(name, *rest, **more):
        if name in ("xarray", "h5netcdf"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(InputError, match=r'with xarray and h5netcdf; pip install "xarray>=2024.7" "h5netcdf>=1.3"$'):
        weather(tmp_path)
