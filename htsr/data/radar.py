"""Radar sequences: reflectivity in dBZ, for precipitation nowcasting. CIKM2017, Shanghai2020, and folders of your own.

Frames are pictures of grey levels, of which 0 and 255 stand for two reflectivities, or arrays of dBZ. There is no mask:
what was not measured (NaN in arrays, or ``nodata``) is taken for the lower of the two, no echo, as in the published
pictures, and counts in training and in every metric; how many cells of arrays that are is said. Frames of another size
are made from dBZ, not from rain rates.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from htsr.checks import require_choice
from htsr.data.clips import SPLITS, Clips
from htsr.data.radar_files import RadarFiles, RadarSequence, array_sequence, picture_sequence
from htsr.data.video.windows import described, hold_out, video_clips, whole
from htsr.errors import InputError

Layout = Literal["cikm2017", "shanghai2020", "folders"]
DBZ = {"cikm2017": (-10.0, 85.0), "shanghai2020": (0.0, 70.0)}
CIKM_SEQUENCES = {"train": 8000, "valid": 2000, "test": 4000}
CIKM_FRAMES = 15
_FOLDERS = {"train": ("train",), "valid": ("valid", "validation"), "test": ("test",)}
_MAX_LIST_BYTES = 1 << 20


def radar(
    split: str,
    *,
    batch_size: int,
    seq_len: int,
    seed: int = 0,
    layout: Layout = "folders",
    datadir: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    dbz: tuple[float, float] | None = None,
    nodata: float | None = None,
    hop: int = 1,
) -> Clips:
    """Clips of radar echoes, windows of (seq_len, height, width, 1); ``clips.source.units`` are in dBZ.

    Args:
        split: "train", "valid" or "test"; no two splits share a frame of a file.
        batch_size: clips per batch.
        seq_len: frames per clip; at most 15 in CIKM2017 (papers predict 10 frames from 5), 20 in Shanghai2020 (10, 10).
        seed: of the training order.
        layout: "cikm2017": ``<datadir>/train/sample_1/img_1.png`` to ``img_15.png``, likewise in ``validation`` and
            ``test``, one frame every 6 minutes, 101x101 grey levels: 8,000, 2,000 and 4,000 sequences of one height
            of CIKM AnalytiCup 2017, as papers on nowcasting have them (the competition's text files are not read).
            "shanghai2020": ``<datadir>/train/data`` has the pictures and ``train/examples/<name>`` two lists of files
            in it, ``<name>-inputs-train.txt`` and ``<name>-targets-train.txt``, a sequence together; likewise in
            ``test`` (doi:10.5281/zenodo.7251972). "valid" is the last twentieth of the training sequences, and training
            sequences that share a picture with it are left out.
            "folders": a folder ``train`` and one ``test``, with one sub-folder a sequence of numbered .png or .npy
            frames (height, width), or a .npy or .npz file a sequence (time, height, width); a .npz file is unpacked
            whole for every clip. Arrays are grey levels where they are uint8, and dBZ where they are floats; what lies
            outside of ``dbz`` is cut. "valid" is the folder ``valid``, or else the last twentieth of ``train``.
        datadir: folder of the files.
        image_size: side of the square frames in pixels, or (height, width); None leaves them as they are. Pixels are
            averaged where frames become smaller.
        dbz: the reflectivities that grey levels 0 and 255 stand for; None for those of the layout: ``level * 95 / 255 -
            10`` in CIKM2017, ``level * 70 / 255`` in Shanghai2020.
        nodata: the value of cells that were not measured, a grey level or dBZ, where that is not NaN; of CIKM2017 255.
            Values beyond ±150 dBZ are refused otherwise.
        hop: frames between the beginnings of training clips; those of "valid" and "test" follow each other.

    Deviation: CIKM2017 marks what was not measured by -1, which the conversion to pictures that is in circulation lets
    wrap to 255, that is 85 dBZ. No echo is that strong: 255 becomes 0 here.

    Raises:
        InputError: an argument is out of range; files are missing, damaged or not of this form; all are too short.
    """
    require_choice("split", split, SPLITS)
    require_choice("layout", layout, get_args(Layout))
    units = _reflectivities(layout, dbz)
    nodata = 255 if nodata is None and layout == "cikm2017" else nodata
    if datadir is None:
        raise InputError("radar reads your files: datadir, their folder, is missing; name it (--datadir)")
    folder = Path(datadir)
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; expected one with radar sequences")
    find = {"cikm2017": _cikm, "shanghai2020": _shanghai, "folders": _folders}[layout]
    store = RadarFiles(find(folder, split), units, image_size, nodata)
    what, note = described("radar", split, folder)
    store.survey(what)
    about = {"what": what, "note": note, "units": units}
    about["resolved"] = {"dbz": list(units), "image_size": list(store.shape[:2])}
    arguments = {"batch_size": batch_size, "seq_len": seq_len, "seed": seed, "hop": hop}
    return video_clips(store, whole(store), split, **arguments, **about)


def _reflectivities(layout: str, dbz: Sequence[float] | None) -> tuple[float, float]:
    if dbz is None and layout not in DBZ:
        raise InputError(
            "which reflectivities do grey levels 0 and 255 stand for? dbz is missing; name both (data.dbz=[-10, 85])"
        )
    units = DBZ[layout] if dbz is None else tuple(map(float, dbz))
    if len(units) != 2 or not -1000 < units[0] < units[1] < 1000:
        raise InputError(f"dbz must be two reflectivities, the lower one first, such as [-10, 85], received {dbz}")
    return units


def _cikm(folder: Path, split: str) -> list[RadarSequence]:
    place = _place(folder, split, "train, validation and test")
    expected = [f"img_{number}.png" for number in range(1, CIKM_FRAMES + 1)]
    sequences = [picture_sequence(path, folder) for path in _natural(place) if path.is_dir()]
    for sequence in sequences:
        lacking = [name for name in expected if name not in sequence.files]
        if lacking or len(sequence.files) > CIKM_FRAMES:
            reason = f"has no {lacking[0]}" if lacking else f"has {len(sequence.files)} frames"
            raise InputError(f"{place.parent / sequence.name} {reason}; expected img_1.png to img_15.png")
    if not sequences:
        raise InputError(f"folder {place} has no sequences; expected sample_1/img_1.png and so on in it")
    if len(sequences) < CIKM_SEQUENCES[split]:
        print(f"{place} has {len(sequences)} of the {CIKM_SEQUENCES[split]} sequences", file=sys.stderr)
    return sequences


def _folders(folder: Path, split: str) -> list[RadarSequence]:
    held_out = split == "valid" and not _found(folder, "valid")
    if split != "test" and not _found(folder, "valid"):
        train, valid = hold_out(_sequences(folder, "train"), f"the folder train in {folder}")
        return valid if held_out else train
    return _sequences(folder, split)


def _sequences(folder: Path, split: str) -> list[RadarSequence]:
    place = _place(folder, split, "train, test and, if you like, valid")
    sequences = []
    for path in _natural(place):
        if path.is_dir():
            sequences.append(picture_sequence(path, folder))
        elif path.suffix.lower() in (".npy", ".npz"):
            sequences.append(array_sequence(path, folder))
    if not sequences:
        raise InputError(f"folder {place} has no sequences; expected sub-folders of .png or .npy frames, or .npy files")
    return sequences


def _shanghai(folder: Path, split: str) -> list[RadarSequence]:
    place = _place(folder, "test" if split == "test" else "train", "train and test, each with data and examples")
    if not (place / "examples").is_dir():
        raise InputError(
            f"folder {place} has no folder examples; expected that of Shanghai2020, with data and examples"
        )
    names: dict[str, str] = {}  # one string for a picture that many sequences share
    sequences = [_listed(path, folder, names) for path in _natural(place / "examples") if path.is_dir()]
    if not sequences:
        raise InputError(f"folder {place / 'examples'} has no sequences; expected a folder with two lists each")
    if split == "test":
        return sequences
    train, valid = hold_out(sequences, f"the folder {place}")
    if split == "valid":
        return valid
    seen = {file for sequence in valid for file in sequence.files}
    apart = [sequence for sequence in train if seen.isdisjoint(sequence.files)]
    if not apart:
        raise InputError(f"every sequence of {place} shares a picture with those of valid; add sequences")
    return apart


def _listed(example: Path, folder: Path, names: dict[str, str]) -> RadarSequence:
    """The sequence of an example's two lists, context and future."""
    data, files = example.parent.parent / "data", []
    for part in ("inputs", "targets"):
        found = [path for path in example.iterdir() if re.search(rf"-{part}-\w+\.txt$", path.name)]
        if len(found) != 1:
            raise InputError(f"{example} has {len(found)} lists {example.name}-{part}-….txt, expected one")
        if found[0].stat().st_size > _MAX_LIST_BYTES:
            raise InputError(f"list {found[0]} has more than {_MAX_LIST_BYTES} bytes; expected some 10 names of files")
        for line in found[0].read_text(encoding="utf-8", errors="replace").split("\n"):
            name = line.strip().replace("\\", "/")
            place = PurePosixPath(name)
            if place.is_absolute() or ".." in place.parts:
                raise InputError(f"list {found[0]} names {name}; expected files in {data}")
            files += [names.setdefault(name, name)] if name else []
    if not files:
        raise InputError(f"the lists of {example} are empty; expected names of files in {data}")
    return RadarSequence(example.relative_to(folder).as_posix(), data, tuple(files), len(files))


def _found(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in _FOLDERS[split] if (folder / name).is_dir()), None)


def _place(folder: Path, split: str, expected: str) -> Path:
    place = _found(folder, split)
    if place is None:
        raise InputError(f"folder {folder} has no folder {_FOLDERS[split][-1]}; expected {expected}")
    return place


def _natural(folder: Path) -> list[Path]:
    """What lies in a folder, ``sample_10`` after ``sample_9``; nothing hidden."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    parts = {path: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", path.name)] for path in paths}
    return sorted(paths, key=lambda path: (parts[path], path.name))
