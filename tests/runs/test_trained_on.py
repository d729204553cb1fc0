"""A run knows its frames again: folders that grow, files that are renamed, replaced or taken away."""

import json
import shutil

import field
import numpy as np
import pytest
from command import run

from htsr.data import load_clips
from htsr.data.video.contents import BLOCK, DIGITS, STILL, digests_of, part
from htsr.errors import InputError
from htsr.runs import trained_on

pytestmark = pytest.mark.usefixtures("plain_graphs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on two videos, which are divided in time, and its folder of data."""
    folder = tmp_path_factory.mktemp("trained")
    data = field.write(folder / "data", part1=field.noise(1, 60), part2=field.noise(2, 60))
    done = run("train", "--config", field.config(folder), "--logdir", folder / "logs", "--datadir", data)
    assert done.returncode == 0, done.stderr
    return folder / "logs" / "tiny", data


def evaluated(logdir, data):
    done = run("evaluate", "--logdir", logdir, "--datadir", data, "--set", "eval.num_pictures=0")
    assert done.returncode == 0, done.stderr
    (results,) = logdir.glob("eval/*/curves.json")
    found = json.loads(results.read_text())["provenance"]["warnings"]
    shutil.rmtree(logdir / "eval")
    assert all(f"warning: {warning}" in done.stdout for warning in found)
    return [warning for warning in found if "trained on" in warning]


def test_test_frames_that_were_trained_on_are_told(trained, tmp_path):
    logdir, data = trained
    assert evaluated(logdir, data) == []
    renamed = field.write(tmp_path / "renamed", a=field.noise(1, 60), b=field.noise(2, 60))
    assert evaluated(logdir, renamed) == []
    grown = field.write(
        tmp_path / "grown", part1=field.noise(1, 60), part2=field.noise(2, 60), part3=field.noise(3, 60)
    )
    (warning,) = evaluated(logdir, grown)  # one of three is the test split now
    assert warning.startswith("the model was trained on 40 of the 60 frames of this test split (part1.npy)")
    longer = [np.concatenate([field.noise(n, 60), field.noise(n + 8, 10)]) for n in (1, 2)]
    assert evaluated(logdir, field.write(tmp_path / "longer", part1=longer[0], part2=longer[1])) == []
    field.write(tmp_path / "split" / "train", a=field.noise(3), b=field.noise(4))
    field.write(tmp_path / "split" / "test", c=field.noise(2, 60), d=field.noise(5))
    (warning,) = evaluated(logdir, tmp_path / "split")
    assert "trained on 40 of the 100 frames of this test split (test/c.npy)" in warning


def test_training_goes_on_with_the_same_frames_alone(trained, tmp_path):
    logdir, data = trained
    copy = tmp_path / "logs" / "tiny"
    shutil.copytree(logdir, copy)

    def again(folder):
        arguments = ("--config", field.config(tmp_path), "--logdir", tmp_path / "logs", "--datadir", folder)
        return run("train", *arguments)

    assert again(shutil.copytree(data, tmp_path / "moved")).returncode == 0
    for videos, change in (
        ({"part3": 3}, "part1.npy is not there any more"),
        ({"part1": 1, "part2": 3}, "part2.npy is not there any more; part2.npy is new"),
        ({"part1": 1, "part2": 2, "part3": 3}, "part1.npy is not there any more"),
    ):
        folder = field.write(tmp_path / "-".join(videos), **{name: field.noise(n, 60) for name, n in videos.items()})
        done = again(folder)
        assert done.returncode == 2
        assert f"tiny was trained on other data ({change}" in done.line
        assert "give it that data, or give another --name" in done.line
    (copy / trained_on.NAME).write_text("{")
    assert "trained_on.json is damaged" in again(data).line
    (copy / trained_on.NAME).unlink()  # of a run of an older version
    assert again(data).returncode == 0


def test_digests_of_frames():
    frames = field.noise(0, 10)
    digests = digests_of(frames)
    assert len(digests) == 3 * DIGITS
    assert digests_of(np.concatenate([frames, frames]))[: 2 * DIGITS] == digests[: 2 * DIGITS]
    assert part(digests, 0, 10, 10) == digests
    assert part(digests, 1, 10, 10) == digests[DIGITS:]
    assert part(digests, 0, 9, 10) == digests[: 2 * DIGITS]
    assert part(digests, 1, 4, 10) == ""
    assert digests_of([frames[0]] * 2 * BLOCK) == 2 * STILL


@pytest.mark.parametrize(
    ("name", "arguments"), [("moving_mnist", {"seq_len": 4}), ("videos", {"seq_len": 8}), ("radar", {"seq_len": 6})]
)
def test_every_source_tells_its_contents(tmp_path, name, arguments):
    if name == "videos":
        arguments["datadir"] = str(field.write(tmp_path, a=field.noise(1), b=field.noise(2), c=field.noise(3)))
    if name == "radar":
        for split in ("train", "test"):
            field.write(tmp_path / split, a=field.noise(1)[..., 0], b=field.noise(2)[..., 0])
        arguments |= {"datadir": str(tmp_path), "dbz": (-10.0, 85.0)}
    found = {split: load_clips(name, split, batch_size=1, **arguments).source.contents() for split in ("train", "test")}
    assert found["train"] == load_clips(name, "train", batch_size=1, **arguments).source.contents()
    trained_on.keep(tmp_path, found["train"], resumed=False)
    trained_on.keep(tmp_path, found["train"], resumed=True)
    assert bool(trained_on.seen(tmp_path, found["test"], BLOCK, DIGITS)) == (name == "radar")
    with pytest.raises(InputError, match="was trained on other data"):
        trained_on.keep(tmp_path, found["test"] + found["train"], resumed=True)


@pytest.mark.parametrize(
    "content", ["[]", '{"train": [["a", Infinity, 4, ""]]}', '{"train": [[1]]}', '{"train": null}']
)
def test_a_record_that_is_damaged(tmp_path, content):
    (tmp_path / trained_on.NAME).write_text(content)
    with pytest.raises(InputError, match=r"trained_on\.json is damaged .*; remove it"):
        trained_on.seen(tmp_path, [("a", 0, 4, "")], 4, 16)
