"""WeatherBench: the air temperature two metres above ground, 32 x 64 values around the globe, every hour.

ERA5 on a grid of 5.625 degrees (Rasp et al., "WeatherBench: a benchmark data set for data-driven weather forecasting",
arXiv:2002.00469). Papers on video prediction take 12 hours and predict the next 12, in the years that OpenSTL chose.
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from htsr.checks import require_choice, require_int
from htsr.data.clips import SPLITS, Clips
from htsr.data.sources import WindowSource
from htsr.errors import DAMAGE, InputError

YEARS = {"train": range(2010, 2016), "valid": range(2016, 2017), "test": range(2017, 2019)}
UNITS = (180.0, 330.0)
_FILE, _FOLDER = "2m_temperature_{}_5.625deg.nc", "2m_temperature"
_INSTALL = 'pip install "xarray>=2024.7" "h5netcdf>=1.3"'
_SHAPE = {"lat": 32, "lon": 64}
_MOST_HOURS = 366 * 24


def weatherbench(
    split: str, *, batch_size: int, seq_len: int = 24, seed: int = 0, datadir: str | None = None, stride: int = 1
) -> Clips:
    """Clips of the temperature, float32 windows of (seq_len, 32, 64, 1); a new one begins every hour. North is up.

    0 and 1 stand for 180 K and 330 K (``clips.source.units``), below and above everything ERA5 has at two metres, so
    that nothing is cut and no other year has to be read for the scale: ``mae_in_kelvin = 150 * mae`` and
    ``rmse_in_kelvin = 150 * mse**0.5``. OpenSTL standardises by mean and standard deviation of the training years (some
    278 K and 21 K). That is another linear map: errors in Kelvin do not depend on it, one standard deviation is 0.14
    here, and an l2 loss is 0.02 times that of standardised values.

    Args:
        split: "train" is 2010 to 2015, "valid" 2016, "test" 2017 and 2018. Clips of "valid" and "test" are numbered in
            an order drawn once and for all, so that the first ones, which are often all that is evaluated, are of all
            seasons; they overlap, as in OpenSTL, so that intervals for their mean are too narrow.
        batch_size: clips per batch.
        seq_len: frames per clip.
        seed: of the training order.
        datadir: folder of the files ``2m_temperature_2010_5.625deg.nc`` …, or that in which their folder
            ``2m_temperature`` lies. Only the years of the split are opened, and one is read (70 MB) when its first clip
            is asked for. Needs xarray and h5netcdf.
        stride: hours between the frames of a clip.

    A clip never spans a missing hour. Errors are means over grid cells, as in OpenSTL, not weighted by the cells' areas
    as in WeatherBench itself.

    Deviation: OpenSTL validates on the test set, and leaves out the last two of its clips.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or not of this form; there is no xarray.
    """
    require_choice("split", split, SPLITS)
    require_int("seq_len", seq_len, least=1)
    require_int("stride", stride, least=1)
    if datadir is None:
        raise InputError("weatherbench reads files: datadir, their folder, is missing; name it (--datadir)")
    folder = Path(datadir) / _FOLDER
    folder = folder if folder.is_dir() else Path(datadir)
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; expected the one with the files of WeatherBench")
    names = [_FILE.format(year) for year in YEARS[split]]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"folder {folder} has no {', '.join(missing)}, of which the {split} split is; unpack WeatherBench's"
            " 2m_temperature_5.625deg.zip there"
        )
    years = [Year(folder / name, year) for name, year in zip(names, YEARS[split], strict=True)]
    return Clips(TemperatureClips(years, seq_len, stride, mixed=split != "train"), batch_size, seed)


class Year:
    """A file of WeatherBench: its times are read at once, its values when they are first wanted.

    Args:
        path: the file.
        year: the one that it has to be of.

    Attributes:
        hours: since 1970, of the frames.
    """

    def __init__(self, path: Path, year: int):
        self._path, self._values, self._lock = path, None, threading.Lock()
        self.hours = _read(path, lambda file: _hours(file, year))
        expected = _MOST_HOURS if year % 4 == 0 else _MOST_HOURS - 24
        if len(self.hours) < expected:
            print(f"{path.name} has {len(self.hours)} of the {expected} hours of {year}", file=sys.stderr)

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """Some of the frames, float32 (time, 32, 64) in [0, 1]."""
        with self._lock:  # batches are made by several threads
            if self._values is None:
                self._values = _read(self._path, _temperatures)
        return self._values[rows]


class TemperatureClips(WindowSource):
    """Every run of frames, ``stride`` hours apart, in which no hour is missing.

    Args:
        years: one after the other.
        seq_len: frames per clip.
        stride: hours between them.
        mixed: whether clips are numbered in an order drawn once and for all, otherwise in that of time.
    """

    units = UNITS

    def __init__(self, years: Sequence[Year], seq_len: int, stride: int, mixed: bool):
        self._years = years
        self._ends = np.cumsum([len(year.hours) for year in years])
        self._steps = stride * np.arange(seq_len)
        hours = np.concatenate([year.hours for year in years])
        run = np.cumsum(np.diff(hours, prepend=hours[0]) != 1)
        starts = np.arange(max(0, len(hours) - self._steps[-1]))
        self._starts = starts[run[starts] == run[starts + self._steps[-1]]]
        if not len(self._starts):
            raise InputError(
                f"seq_len {seq_len} with stride {stride} takes {self._steps[-1] + 1} hours, but the longest run of"
                f" hours in the files of the split has {np.bincount(run).max()}; choose smaller ones"
            )
        if mixed:
            self._starts = np.random.Generator(np.random.Philox(key=0)).permutation(self._starts)
        self.num_clips = len(self._starts)
        self.shape = (seq_len, *_SHAPE.values(), 1)

    def window(self, index: int, epoch: int = 0) -> np.ndarray:
        """The clip, float32 (time, 32, 64, 1) in [0, 1]; the same in every epoch."""
        rows = self._starts[index] + self._steps
        window = np.empty(self.shape, np.float32)
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers):
            year, inside = self._years[number], numbers == number
            window[inside, ..., 0] = year.frames(rows[inside] - self._ends[number] + len(year.hours))
        return window


def _read(path: Path, read):
    """What ``read`` makes of a file that has the variable in the expected shape."""
    try:
        import h5netcdf  # noqa: F401  the netCDF reader that goes with h5py; netCDF4 brings an HDF5 of its own
        import xarray
    except ImportError:
        raise InputError(f"weatherbench reads netCDF files with xarray and h5netcdf; {_INSTALL}") from None
    try:
        coordinates = ["time", *_SHAPE]
        with xarray.open_dataset(path, engine="h5netcdf", drop_variables=coordinates) as file:  # those are read at once
            if "t2m" not in file.variables:
                raise ValueError(f"it has no t2m, but {', '.join(map(str, file.variables)) or 'nothing'}")
            sizes = dict(file["t2m"].sizes)
        hours = sizes.get("time", 0)
        if sizes != {"time": hours, **_SHAPE} or not 1 <= hours <= _MOST_HOURS:
            received = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"t2m has {received}, expected time 1 … {_MOST_HOURS}, lat 32, lon 64")
        with xarray.open_dataset(path, engine="h5netcdf") as file:
            return read(file)
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot read {path} ({reason}); expected the netCDF 4 file of WeatherBench") from None


def _hours(file, year: int) -> np.ndarray:
    times = file["time"].values
    if times.dtype.kind != "M":
        raise ValueError(f"time is {times.dtype}, expected dates")
    hours = times.astype("datetime64[h]")
    if (hours != times).any() or (hours.astype("datetime64[Y]") != np.datetime64(str(year))).any():
        raise ValueError(f"times are {times[0]} to {times[-1]}, expected full hours of {year}")
    if (np.diff(hours.astype(np.int64)) < 1).any():
        raise ValueError("times do not increase")
    return hours.astype(np.int64)


def _temperatures(file) -> np.ndarray:
    """All values, float32 (time, lat, lon) in [0, 1], from north to south."""
    values = file["t2m"].transpose("time", *_SHAPE).values.astype(np.float32, copy=False)
    low, high = UNITS
    if not low <= values.min() <= values.max() <= high:  # so is nan
        raise ValueError(f"t2m is {values.min():g} to {values.max():g}, expected Kelvin, {low:g} to {high:g}")
    values = (values - np.float32(low)) / np.float32(high - low)
    return values[:, ::-1] if file["lat"].values[0] < file["lat"].values[-1] else values
