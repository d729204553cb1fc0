"""KTH, GQN-Mazes and folders of videos: which frames of which file make which clip, from files of the published form.

Every video of these tests says in its grey level which frame of which file it is.
"""

import json
import zipfile

import numpy as np
import pytest

from htsr.data import load_clips, stand_ins
from htsr.data.synthetic import actions
from htsr.data.video.cache import StoredVideo, write_entry
from htsr.data.video.files import FrameFormat, find_videos, write_video
from htsr.data.videos import split_videos
from htsr.errors import InputError
from htsr.runs.folder import upgrade

PERSONS = (1, 14, 16, 17, 18, 19, 20, 21, 25)
FRAMES = 30


def frames_of(file, count=FRAMES):
    """uint8 (count, 16, 16, 1): the upper half tells the file, the lower half the frame."""
    video = np.zeros((count, 16, 16, 1), np.uint8)
    video[:, :8] = 2 * file
    video[:, 8:] = 4 * np.arange(count)[:, None, None, None]
    return video


def read_numbers(window):
    """(file, first frame) of a window of such a video."""
    return int(window[0, 2, 2, 0]) // 2, int(window[0, 12, 2, 0]) // 4


def load(name, split, datadir, **arguments):
    arguments = {"batch_size": 2, "seq_len": 10, "image_size": 16, "channels": 1, **arguments}
    return load_clips(name, split, datadir=datadir and str(datadir), **arguments)


def all_numbers(clips):
    return [read_numbers(clips.window(index)) for index in range(clips.num_clips)]


def files_by_split(name, datadir, **arguments):
    return {
        split: {file for file, _ in all_numbers(load(name, split, datadir, **arguments))}
        for split in ("train", "valid", "test")
    }


# KTH


@pytest.fixture
def kth(tmp_path):
    """Files as published: persons × (walking, boxing) × scenario 1, file number = person."""
    for person in PERSONS:
        for action in ("walking", "boxing"):
            (tmp_path / action).mkdir(exist_ok=True)
            path = tmp_path / action / f"person{person:02}_{action}_d1_uncomp.avi"
            write_video(path, frames_of(person), 25, "FFV1")
    return tmp_path


@pytest.mark.parametrize(
    ("persons", "expected"),
    [
        ("htsr", {"train": {1, 14, 16, 17, 18}, "valid": {19, 20}, "test": {21, 25}}),
        ("standard", {"train": {1, 14}, "valid": {16}, "test": {17, 18, 19, 20, 21, 25}}),
    ],
)
def test_kth_splits_are_of_persons(kth, persons, expected):
    assert files_by_split("kth", kth, persons=persons) == expected
    with pytest.raises(InputError, match="unknown persons 'published'; known: htsr, standard"):
        load("kth", "train", kth, persons="published")


def test_kth_actions(kth):
    both, one = load("kth", "test", kth), load("kth", "test", kth, actions=["boxing"])
    assert (both.num_clips, one.num_clips) == (12, 6)
    with pytest.raises(InputError, match="unknown action 'box'; did you mean 'boxing'"):
        load("kth", "test", kth, actions=["box"])
    with pytest.raises(InputError, match=r"no videos of persons 21 to 25 \(test\) with running; 18 others found"):
        load("kth", "test", kth, actions=["running"])


def test_kth_frame_ranges(kth, capsys):
    listed = [f"person{p:02}_{a}_d1\t\tframes\t1-12, 15-20, 21-30" for p in PERSONS for a in ("walking", "boxing")]
    listed[-1] = "person25_boxing_d1\t\tframes\t1-9, 18-40"
    listed.remove("person21_boxing_d1\t\tframes\t1-12, 15-20, 21-30")
    (kth / "00sequences.txt").write_text("Some words about the data\n\n" + "\n".join(listed) + "\n")
    clips = load("kth", "test", kth)
    walking = [(person, first) for person in (21, 25) for first in (0, 20)]
    assert sorted(all_numbers(clips)) == sorted([(25, 17), (21, 0), (21, 10), (21, 20), *walking])
    said = capsys.readouterr().err
    assert "person21_boxing_d1 is not listed, taken whole" in said
    assert "person25_boxing_d1 lists 18-40 of 30 frames" in said
    assert clips.source.left_out == [
        "boxing/person25_boxing_d1_uncomp.avi (frames 0 to 8)",
        "walking/person21_walking_d1_uncomp.avi (frames 14 to 19)",
        "walking/person25_walking_d1_uncomp.avi (frames 14 to 19)",
    ]
    assert "3 of 9 sequences are shorter than 10 frames and left out: boxing/person25_boxing_d1_uncomp.avi" in said
    assert load("kth", "test", kth, sequences="whole").num_clips == 12
    with pytest.raises(InputError, match=r"KTH, test: no video has 31 frames.* the longest of 4 has 30"):
        load("kth", "test", kth, seq_len=31, sequences="whole")
    (kth / "00sequences.txt").write_text("nothing of use")
    with pytest.raises(InputError, match="has no line such as 'person01_boxing_d1 frames"):
        load("kth", "test", kth)


def test_kth_from_the_published_zip_archives(kth, tmp_path_factory):
    packed = tmp_path_factory.mktemp("zips")
    for action in ("walking", "boxing"):
        with zipfile.ZipFile(packed / f"{action}.zip", "w") as archive:
            for path in (kth / action).iterdir():
                archive.write(path, path.name)
    assert sorted(all_numbers(load("kth", "test", packed))) == sorted(all_numbers(load("kth", "test", kth)))
    # A file beside the archive replaces its packed self.
    write_video(packed / "person25_boxing_d1_uncomp.avi", frames_of(99), 25, "FFV1")
    assert {file for file, _ in all_numbers(load("kth", "test", packed))} == {21, 25, 99}


def test_kth_names_what_is_odd(kth, capsys):
    load("kth", "train", kth)
    assert "has 18 of the 599 videos of KTH" in capsys.readouterr().err
    write_video(kth / "walking" / "someone.avi", frames_of(0), 25, "FFV1")
    with pytest.raises(InputError, match=r"has walking/someone\.avi, no name such as person01_walking_d1_uncomp\.avi"):
        load("kth", "train", kth)
    with pytest.raises(InputError, match="unknown sequences 'listd'; did you mean 'listed'"):
        load("kth", "train", kth, sequences="listd")


def test_kth_in_folders_with_other_names(tmp_path):
    for part, count in {"train": 3, "test": 1}.items():
        (tmp_path / "KTH" / part).mkdir(parents=True)
        for number in range(count):
            write_video(
                tmp_path / "KTH" / part / f"{number}.avi", frames_of(number + 10 * (part == "test")), 25, "FFV1"
            )
    assert files_by_split("kth", tmp_path) == {"train": {0, 1}, "valid": {2}, "test": {10}}
    with pytest.raises(InputError, match=r"names such as person01_walking_d1.* there is KTH/test/0\.avi"):
        load("kth", "train", tmp_path, persons="standard")


# GQN-Mazes


def test_mazes_from_folders_and_from_the_zip_archive(tmp_path):
    folder = tmp_path / "GQN-Mazes"
    for part, numbers in {"train": range(40), "test": (50, 51)}.items():
        (folder / part).mkdir(parents=True)
        for number in numbers:
            write_video(folder / part / f"{number:02}.avi", frames_of(number), 10, "FFV1")
    with zipfile.ZipFile(tmp_path / "gqn_mazes.zip", "w") as archive:
        for path in folder.rglob("*.avi"):
            archive.write(path, f"gqn_mazes/{path.relative_to(folder).as_posix()}")
    (tmp_path / "zip").mkdir()
    (tmp_path / "gqn_mazes.zip").rename(tmp_path / "zip" / "gqn_mazes.zip")
    for place in (folder, tmp_path / "zip"):
        assert files_by_split("mazes", place) == {"train": set(range(38)), "valid": {38, 39}, "test": {50, 51}}
    (folder / "train").rename(folder / "training")
    with pytest.raises(InputError, match="has no videos in a folder train; put them into train and test"):
        load("mazes", "train", folder)


# Any videos


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        write_video(tmp_path / f"{number}.avi", frames_of(number), 10, "FFV1")
    return tmp_path


def test_automatic_split_is_disjoint_and_complete(folder):
    first = files_by_split("videos", folder)
    assert sorted(file for files in first.values() for file in files) == list(range(10))
    assert {name: len(files) for name, files in first.items()} == {"train": 7, "valid": 1, "test": 2}


def test_new_videos_move_no_others(tmp_path):
    def split(count):
        stored = [StoredVideo(f"{n}.avi", 0, 10, "", None, None) for n in range(count)]
        return {name: {part.video for part in parts} for name, parts in split_videos(stored, None, tmp_path).items()}

    few, many = split(40), split(400)
    assert all(files <= many[name] for name, files in few.items())
    assert abs(len(many["test"]) - 60) < 20 > abs(len(many["valid"]) - 60)


@pytest.mark.parametrize("count", range(3, 40))
def test_no_part_of_an_automatic_split_is_empty(count, tmp_path):
    stored = [StoredVideo(f"{n}.avi", 0, 10, "", None, None) for n in range(count)]
    parts = split_videos(stored, None, tmp_path)
    assert all(parts.values())
    assert sorted(segment.video for segments in parts.values() for segment in segments) == list(range(count))


def test_folders_of_splits_are_never_ignored(folder, capsys):
    for number in range(9):
        part = folder / ("train" if number < 7 else "test")
        part.mkdir(exist_ok=True)
        (folder / f"{number}.avi").rename(part / f"{number}.avi")
    with pytest.raises(
        InputError, match=r"has folders of splits, but 9\.avi lies in none of them; put all videos into"
    ):
        load("videos", "train", folder)
    (folder / "9.avi").rename(folder / "test" / "9.avi")
    assert files_by_split("videos", folder) == {"train": set(range(6)), "valid": {6}, "test": {7, 8, 9}}
    assert "videos: 6 train, 1 valid, 3 test" in capsys.readouterr().err
    (folder / "test").rename(folder / "val")
    with pytest.raises(InputError, match=r"but val/7\.avi lies in none of them"):
        load("videos", "train", folder)


def test_a_listed_video_that_is_damaged_can_be_left_out(folder):
    (folder / "0.avi").write_bytes(b"damaged")
    (folder / "splits.json").write_text(json.dumps({"train": [f"{n}.avi" for n in range(5)], "test": ["9.avi"]}))
    with pytest.raises(InputError, match=r"video 0\.avi cannot be decoded"):
        load("videos", "train", folder)
    assert files_by_split("videos", folder, damaged="skip") == {"train": {1, 2, 3}, "valid": {4}, "test": {9}}


def test_foreign_manifests_and_entries_of_the_cache(folder, video_cache):
    (folder / "manifest.json").write_text('{"author": "me"}')
    assert load("videos", "train", folder).num_clips == 7 * 21
    entry = next(path.parent for path in video_cache.glob("*/manifest.json"))
    with pytest.raises(InputError, match="is an entry of the cache; name the folder of the videos"):
        load("videos", "train", entry)


def test_listed_split(folder):
    (folder / "splits.json").write_text(json.dumps({"train": [f"{n}.avi" for n in range(5)], "test": ["9.avi"]}))
    assert files_by_split("videos", folder) == {"train": {0, 1, 2, 3}, "valid": {4}, "test": {9}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"train": ["0.avi"], "test": ["elsewhere.avi"]}', "elsewhere.avi is not there; .* e.g. 0.avi"),
        ('{"train": ["0.avi"], "test": ["0.avi"]}', "0.avi is listed twice"),
        ('{"train": ["0.avi"]}', "train or test is empty"),
        ('{"train": ["0.avi"], "test": ["1.avi"]}', "has one video, which is the valid split"),
    ],
)
def test_damaged_split_files(folder, content, message):
    (folder / "splits.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load("videos", "train", folder)


def test_one_video_is_divided_in_time(tmp_path):
    write_video(tmp_path / "long.avi", frames_of(7, 60), 10, "FFV1")
    for datadir in (tmp_path, tmp_path / "long.avi"):
        starts = {
            split: [first for _, first in all_numbers(load("videos", split, datadir, seq_len=9))]
            for split in ("train", "valid", "test")
        }
        assert starts == {"train": list(range(34)), "valid": [42], "test": [51]}


def test_colours_and_sizes(tmp_path):
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (12, 6, 8, 3), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    for number in range(3):
        write_video(tmp_path / f"{number}.avi", np.roll(video, number, axis=0), 10, "FFV1")
    default = load_clips("videos", "test", datadir=str(tmp_path), batch_size=1, seq_len=12)
    assert default.shape == (12, 64, 64, 3)
    exact = load("videos", "test", tmp_path, image_size=(24, 32), channels=3, seq_len=12)
    assert any(np.array_equal(exact.window(0), np.roll(video, n, axis=0)) for n in range(3))
    refused = {
        "channels": (2, "channels must be 1"),
        "fit": ("squeeze", "unknown fit"),
        "image_size": (0, "image_size must"),
    }
    for name, (value, message) in refused.items():
        with pytest.raises(InputError, match=message):
            load("videos", "test", tmp_path, **{name: value})


def test_videos_errors(tmp_path):
    with pytest.raises(InputError, match="datadir, their folder, is missing; name it"):
        load("videos", "train", None)
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist"):
        load("videos", "train", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no videos; expected .avi, .mp4"):
        load("videos", "train", tmp_path)


def test_split_of_no_video_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown split 'training'; did you mean 'train'"):
        load("videos", "training", tmp_path)


# Stand-ins


@pytest.mark.parametrize(("name", "shape"), [("kth", (10, 64, 64, 1)), ("mazes", (10, 64, 64, 3))])
def test_stand_ins_are_read_by_the_loaders_and_labelled(tiny_stand_ins, capsys, name, shape):
    with pytest.raises(InputError, match=r"\(--datadir\), or ask .* \(--set data.stand_in=generated\)"):
        load_clips(name, "train", batch_size=1, seq_len=10)
    clips = load_clips(name, "train", batch_size=1, seq_len=10, stand_in="generated")
    said = capsys.readouterr().err
    assert "SYNTHETIC videos stand in for" in said
    assert "generating it once" in said
    assert "--datadir" in said
    assert clips.shape == shape
    assert clips.note.startswith("synthetic stand-in for ")
    assert clips.label("truth") == "truth, synthetic"
    for split in ("valid", "test"):
        assert load_clips(name, split, batch_size=1, seq_len=10, stand_in="generated").num_clips >= 1
    assert "generating" not in capsys.readouterr().err
    (folder,) = tiny_stand_ins.glob("synthetic-*")
    real = load_clips(name, "test", batch_size=1, seq_len=10, datadir=str(folder), stand_in="generated")
    assert (real.note, real.resolved) == (clips.note, {"stand_in": None})


def test_the_stand_in_for_kth_has_its_files_and_ranges(tiny_stand_ins):
    clips = load_clips("kth", "train", batch_size=1, seq_len=60, actions=["walking"], stand_in="generated")
    (folder,) = tiny_stand_ins.glob("synthetic-kth-*")
    assert (folder / "walking" / "person01_walking_d1_uncomp.avi").is_file()
    ranges = actions.action_video(1, "walking", 1)[1]
    assert f"person01_walking_d1\t\tframes\t{ranges[0][0]}-{ranges[0][1]}, " in (folder / "00sequences.txt").read_text()
    assert clips.num_clips == sum(max(0, last - first + 1 - 59) for first, last in ranges)


def test_an_interrupted_generation_leaves_nothing(tiny_stand_ins, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stand_ins, "write_video", fail)
    with pytest.raises(KeyboardInterrupt):
        load_clips("mazes", "train", batch_size=1, seq_len=10, stand_in="generated")
    assert not list(tiny_stand_ins.iterdir())


def test_the_label_is_found_above_and_below(tmp_path):
    for number in range(4):
        (tmp_path / "KTH").mkdir(exist_ok=True)
        write_video(tmp_path / "KTH" / f"{number}.avi", frames_of(number), 10, "FFV1")
    assert load("videos", "train", tmp_path).note is None
    (tmp_path / "KTH" / "SYNTHETIC.txt").write_text("synthetic stand-in for KTH\n")
    assert load("videos", "train", tmp_path).note == "synthetic stand-in for KTH"
    (tmp_path / "KTH" / "SYNTHETIC.txt").write_text("")
    assert load("videos", "train", tmp_path / "KTH").note == "synthetic"


def test_stand_ins_of_labmaze(tiny_stand_ins):
    with pytest.raises(InputError, match=r"unknown stand_in 'labmaze'.* known: generated"):
        load_clips("kth", "train", batch_size=1, seq_len=10, stand_in="labmaze")
    pytest.importorskip("labmaze")
    assert load_clips("mazes", "train", batch_size=1, seq_len=10, stand_in="labmaze").shape == (10, 64, 64, 3)
    assert (tiny_stand_ins / "synthetic-mazes-labmaze-1").is_dir()


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"name": "kth", "datadir": None, "cache": True}, {"name": "kth", "datadir": None, "stand_in": "generated"}),
        ({"name": "kth", "datadir": "KTH"}, {"name": "kth", "datadir": "KTH", "stand_in": None}),
        ({"name": "mazes", "stand_in": "builtin"}, {"name": "mazes", "stand_in": "generated"}),
        ({"name": "mazes", "stand_in": "labmaze"}, {"name": "mazes", "stand_in": "labmaze"}),
        ({"name": "videos", "cache": False}, {"name": "videos"}),
    ],
)
def test_data_sections_of_older_runs(old, now):
    config = upgrade({"model": {}, "data": old, "train": {}, "eval": {}})
    assert config["data"] == now
    assert upgrade(config) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"format": {}}, {"format": "x"}, {"note": 3}, {"splits": {"train": [[0, 0]]}}, {"splits": []},
        {"splits": {"train": [[9, 0, 4]], "valid": [], "test": []}},
        {"splits": {"train": [[0, 0, 10**9]], "valid": [], "test": []}},
        {"splits": {"train": [["0", 0, 4]], "valid": [], "test": []}},
    ],
)  # fmt: skip
def test_damaged_manifests_of_prepared_folders(tmp_path, changes):
    write_entry(
        tmp_path / "mine", find_videos(_folder_of_arrays(tmp_path)), FrameFormat(16, 16, 1), what="x", damaged="refuse",
        extra=lambda stored: {"splits": {name: [[0, 0, 4]] for name in ("train", "valid", "test")}, "note": None},
    )  # fmt: skip
    path = tmp_path / "mine" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=r"manifest\.json is damaged .*; prepare the videos again"):
        load_clips("videos", "train", datadir=str(tmp_path / "mine"), batch_size=1, seq_len=2)


def _folder_of_arrays(folder):
    (folder / "videos").mkdir()
    np.save(folder / "videos" / "a.npy", np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), np.uint8))
    return folder / "videos"
