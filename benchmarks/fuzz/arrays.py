"""Arrays of datasets."""

import gzip
import importlib.util
import os
import shutil
import struct
from pathlib import Path

import numpy as np

from benchmarks.fuzz.spoil import archive, npy, spoil
from benchmarks.fuzz.table import ARRAY, decoded, saved, target, written


@target
def idx():
    """MNIST files: idx, packed or not, and Keras's."""
    from htsr.data.mnist_digits import load_digits

    images = b"\0\0\x08\x03" + struct.pack(">III", 30, 28, 28) + bytes(30 * 784)
    labels = b"\0\0\x08\x01" + struct.pack(">I", 30) + bytes(30)
    digits = {"x_train": ARRAY[:, :, :, 0], "y_train": np.zeros(12, np.uint8)}

    def read(draw):
        for name in os.listdir("."):
            os.unlink(name)
        if draw.random() < 0.2:
            written("mnist.npz", archive(draw, {f"{name}.npy": saved(array) for name, array in digits.items()}))
        for name, good in (("images-idx3", images), ("labels-idx1", labels)):
            content = spoil(draw, good, [images, labels]) if draw.random() < 0.7 else good
            if draw.random() < 0.5:
                packed = gzip.compress(content, 1)
                written(f"train-{name}-ubyte.gz", spoil(draw, packed, [packed]) if draw.random() < 0.5 else packed)
            else:
                written(f"train-{name}-ubyte", content)
        load_digits("train", ".")

    return read


@target
def arrays():
    """Videos as .npy and .npz."""
    good = saved(ARRAY)
    floats = saved((ARRAY[:2] / 255).astype("f4"))

    def read(draw):
        content = draw.choice((lambda: npy(draw), lambda: spoil(draw, draw.choice((good, floats)), [good, floats])))()
        if draw.random() < 0.5:
            decoded(written("v.npy", content))
        else:
            decoded(written("v.npz", archive(draw, {"arr_0.npy": content})))

    return read


@target
def radar():
    """Sequences of radar frames."""
    from htsr.data.radar_files import RadarFiles, array_sequence, picture_sequence

    good = [
        saved(ARRAY[..., 0]),
        saved(np.linspace(-40, 160, 512, dtype="f4").reshape(2, 16, 16)),
        saved(ARRAY[0, ..., 0]),
    ]

    def read(draw):
        here = Path(".")
        shutil.rmtree("seq", ignore_errors=True)
        if draw.random() < 0.5:
            content = spoil(draw, draw.choice(good), good) if draw.random() < 0.7 else npy(draw)
            path = (
                written("s.npy", content)
                if draw.random() < 0.7
                else written("s.npz", archive(draw, {"a.npy": content}))
            )
            found = array_sequence(path, here)
        else:
            for number in range(3):
                written(f"seq/{number}.npy", spoil(draw, good[2], good) if draw.random() < 0.3 else good[2])
            found = picture_sequence(Path("seq"), here)
        files = RadarFiles([found], (-10.0, 85.0), None, draw.choice((None, 0.0, float("nan"))))
        files.survey("x")
        files.read(0, 0, min(2, found.frames))

    return read


@target
def netcdf():
    """Files of WeatherBench, where xarray is installed."""
    from htsr.data.weatherbench import Year

    if importlib.util.find_spec("xarray") is None or importlib.util.find_spec("h5netcdf") is None:
        return None
    import xarray

    times = np.datetime64("2017-01-01T00", "ns") + np.arange(5).astype("timedelta64[h]")
    values = np.full((5, 32, 64), 280, np.float32)
    axes = {"time": times, "lat": np.linspace(-88, 88, 32), "lon": np.arange(64.0)}
    xarray.Dataset({"t2m": (("time", "lat", "lon"), values)}, axes).to_netcdf("good.nc", engine="h5netcdf")
    good = Path("good.nc").read_bytes()

    def read(draw):
        Year(written("y.nc", spoil(draw, good, [good])), 2017).frames(np.arange(1))

    return read


@target
def taxi():
    """TaxiBJ as .npz and HDF5."""
    import h5py

    from htsr.data.taxibj import taxibj

    half = np.zeros((3, 4, 2, 32, 32), np.float32)
    members = {f"{name}_{part}.npy": saved(half + i) for i, name in enumerate("XY") for part in ("train", "test")}
    with h5py.File("good.h5", "w") as file:
        file["data"] = np.random.default_rng(0).integers(0, 9, (48, 2, 32, 32)).astype("f4")
        file["date"] = np.array([f"20130701{slot:02d}".encode() for slot in range(1, 49)])
    good = Path("good.h5").read_bytes()

    def read(draw):
        if draw.random() < 0.5:
            written("d/dataset.npz", archive(draw, members))
            taxibj("test", batch_size=1, seq_len=2, datadir="d", source="openstl").window(0)
        else:
            for year in range(13, 17):
                written(f"d/BJ{year}_M32x32_T30_InOut.h5", spoil(draw, good, [good]) if year == 14 else good)
            taxibj("test", batch_size=1, seq_len=2, datadir="d", source="original").window(0)

    return read
