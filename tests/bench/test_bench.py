"""``htsr bench`` at a tiny size: the forms of its figures, and that a slow-down is seen."""

import json
import math

import pytest
from command import ROOT, run

from htsr.bench import ceilings, job, measure, show
from htsr.config import read_config
from htsr.errors import InputError

CONFIG = "fc_lstm/mmnist_laptop"
TINY = {
    "model": {"units": "[4]", "context": 3},
    "data": {"seq_len": 6, "batch_size": 2},
    "train": {"accumulate": 2, "valid_context": 3, "valid_horizon": 3},
    "eval": {"context": 3, "horizon": 3, "lpips": "false", "digits": "false"},
}
OVERRIDES = [f"{section}.{key}={value}" for section, values in TINY.items() for key, value in values.items()]
pytestmark = pytest.mark.usefixtures("plain_graphs")
LIMITS = {
    "products": {"float32": 2e9, "bfloat16": 4e9},
    "convolutions": {"float32": 1e9, "bfloat16": 3e9},
    "copy": 1e9,
    "memory": 2**34,
    "import": 2.0,
    "machine": {"processor": "a processor", "threads": 2},
}


@pytest.fixture
def config():
    return read_config(ROOT / "configs" / "fc_lstm" / "mmnist_laptop.yml", OVERRIDES)


@pytest.fixture
def in_this_process(monkeypatch):
    """Spare the start of processes: their memory is not told then, and no other checkout is measured."""

    def measured(name, config, repeats, checkout):
        if name == "first_step":
            return {"wall": [3.0] * repeats, "processor": [2.0] * repeats, "memory": 1.0}
        return job.timed(name, config, repeats, count=True)

    monkeypatch.setattr(measure, "_measured", measured)
    monkeypatch.setattr(measure, "limits", lambda: LIMITS)


def test_every_figure(config, in_this_process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "INPUT_SECONDS", 0.01)
    sets = [word for override in OVERRIDES for word in ("--set", override)]
    done = run("bench", "--config", CONFIG, "--repeats", 1, *sets)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:7]] == list(measure.FIGURES.values())
    report = json.loads((tmp_path / "mmnist_laptop-bench" / "bench.json").read_text())
    assert set(report["figures"]) == set(measure.FIGURES)
    for figure in report["figures"].values():
        assert figure["wall"]["low"] <= figure["wall"]["median"] <= figure["wall"]["high"]
        assert figure["share"] > 0
    counts = {name: figure["operations"] for name, figure in report["figures"].items() if "operations" in figure}
    assert set(counts) == {"step", "rollout_1", "rollout_8", "evaluation"}
    assert counts["rollout_1"]["products"] > 0
    assert counts["rollout_8"] == {kind: 8 * number for kind, number in counts["rollout_1"].items()}
    assert (tmp_path / "mmnist_laptop-bench" / "bench.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "key", "figures"),
    [
        ("clip_length", ("data", "seq_len"), ["step"]),
        ("batch", ("data", "batch_size"), ["step"]),
        ("levels", ("model", "levels"), ["step", "rollout_8"]),
        ("frame_size", ("data", "image_size"), ["step", "rollout_8"]),
    ],
)
def test_a_curve(name, key, figures, in_this_process, monkeypatch, tmp_path):
    def measured(figure, config, repeats, checkout):
        seconds = float(config[key[0]][key[1]])
        return {"wall": [seconds] * repeats, "processor": [1.0], "memory": 100.0}

    monkeypatch.setattr(measure, "_measured", measured)
    done = run("bench", "--config", "mmnist", "--curve", name, "--values", "1,2", "--repeats", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["1", "2"]
    records = json.loads((tmp_path / "bench.json").read_text())["records"]
    assert [record[name] for record in records] == [1, 2]
    assert [list(record) for record in records] == [[name, *figures]] * 2
    assert [record["step"]["wall"]["median"] for record in records] == [1.0, 2.0]
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_a_slower_checkout_is_seen(config, tmp_path):
    (tmp_path / "htsr").mkdir()
    (tmp_path / "htsr" / "__init__.py").write_text(
        f"import time\n__path__ = [{str(ROOT / 'htsr')!r}]\n__version__ = '0'\n"
        "from htsr.data.sources import WindowSource\nfrom htsr.data.clips import Clips\nbatch = Clips.batch\n"
        "def slow(*args):\n    time.sleep(0.1)\n    return batch(*args)\nClips.batch = slow\n"
    )
    found = measure.figures(config, ["input"], repeats=1, against=tmp_path, say=lambda line: None)["input"]
    assert found["faster"]["wall"]["median"] > 2
    assert found["against"]["wall"]["median"] > 0.01
    assert min(found["memory"], found["against"]["memory"]) > 10
    found["share"] = measure.share(found, LIMITS, "float32")
    report = {"config": "tiny", "dtype": "float32", "date": "today", "against": "b", "load": 1.0, "limits": LIMITS}
    report["figures"] = {"input": found}
    assert "times faster" in show.table(report)
    show.draw(report, tmp_path / "bench.png")


@pytest.mark.slow
def test_the_first_step_of_a_training(config):
    found = measure.first_step(config, 1, ROOT)
    assert 1 < found["wall"][0] < 120
    assert 1 < found["processor"][0] < 120
    assert found["memory"] > 100


def test_a_process_that_fails_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "htsr").mkdir()
    (tmp_path / "htsr" / "__init__.py").write_text("raise OSError('no such luck')")
    monkeypatch.setattr(measure, "OWN", tmp_path)
    with pytest.raises(InputError, match="a measuring process failed: OSError: no such luck"):
        measure.limits()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figures", "steps"], "unknown figure 'steps'; did you mean 'step'?"),
        (["--curve", "lenght"], "unknown curve 'lenght'; "),
        (["--values", "1,2"], "--values are those of a curve; give --curve, too"),
        (["--repeats", "0"], "--repeats must be a whole number of at least 1, not 0"),
        (["--set", "data.digits=2"], "data: unknown key 'digits'; "),
        (["--set", "model.unit=2"], "model: unknown key 'unit'; did you mean 'units'?"),
        (["--against", "docs"], "--against docs is no checkout of htsr: "),
    ],
)
def test_refused_arguments(in_this_process, arguments, message, tmp_path):
    done = run("bench", "--config", CONFIG, "--out", tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.line.startswith(f"error: {message}")


def test_shares_of_the_limit():
    wall = {"wall": {"median": 2.0}}
    counts = {"operations": {"products": 2e9, "convolutions": 1e9}}
    assert measure.share(wall | counts, LIMITS, "float32") == 1.0
    assert math.isclose(measure.share(wall | counts, LIMITS, "mixed_bfloat16"), (1 / 2 + 1 / 3) / 2)
    assert measure.share(wall | {"bytes": 1e9}, LIMITS, "float32") == 0.5
    assert measure.share(wall, LIMITS, "float32") == 1.0
    assert measure.share(wall | {"operations": {}, "bytes": 1e9}, LIMITS, "float32") is None


def test_ratios_are_of_all_timings_with_the_spread_of_the_rounds():
    ours = [{"wall": [1.0, 1.0], "processor": [1.0]}, {"wall": [2.0, 2.0], "processor": [1.0]}]
    theirs = [{"wall": [2.0, 2.0], "processor": [3.0]}, {"wall": [8.0, 8.0], "processor": [3.0]}]
    for timings in ours + theirs:
        timings["memory"] = 1
    found = measure.ratio(theirs, ours)
    assert found["wall"] == {"median": 5.0 / 1.5, "low": 2.0, "high": 4.0}
    assert found["processor"]["median"] == 3.0


def test_limits_of_a_machine():
    found = ceilings.measure(0.01)
    assert all(found[kind][dtype] > 0 for kind in ("products", "convolutions") for dtype in ("float32", "bfloat16"))
    assert found["copy"] > 0
    assert found["memory"] > 2**28
