"""The card of a run: facts of its folder, of whatever it holds."""

import json

import numpy as np
import pytest

from htsr.errors import InputError
from htsr.runs import checkpoints
from htsr.runs.card import write_card
from htsr.runs.folder import UNFINISHED, results_of

CONFIG = """
model: {name: recurrent, cell: st_lstm, frame_shape: [8, 8, 1], context: 4, ce: null}
data: {name: moving_mnist, datadir: /home/someone/data}
train: {steps: 5}
eval: {context: 4}
"""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yml").write_text(CONFIG)
    arrays = {"model/a": np.zeros((30, 50), "f4"), "model/b": np.float32(1), "optimizer/a": np.zeros((30, 50), "f4")}
    checkpoints.save(folder / "model", 3, arrays)
    checkpoints.save(folder / "model", 12_000, arrays)
    return folder


def curve(value: float) -> dict:
    one = {"mean": value, "low": value - 1, "high": value + 1}
    return {**{end: [one[end]] * 2 for end in one}, "horizon_mean": one}


def results(run, time: str, psnr: float, **report) -> None:
    folder = run / "eval" / time
    folder.mkdir(parents=True)
    metrics = {"psnr": {"label": "PSNR (dB)", "better": "higher", "form": ".2f", "headline": 1}}
    metrics["mse"] = {"label": "MSE", "headline": None}
    provenance = {"num_examples": 7, "context": 4, "horizon": 2, "num_samples": 1, "noise": "sample"}
    provenance |= {"metric_mode": "htsr-1", "checkpoint": {"step": 12_000}, **report}
    curves = {"model": {"psnr": curve(psnr)}, "black": {"psnr": curve(10.0)}}
    differences = {"black": {"psnr": curve(5.0)}}
    found = {"metrics": metrics, "curves": curves, "differences": differences, "provenance": provenance}
    (folder / "curves.json").write_text(json.dumps(found))


def test_a_trained_run(run):
    path = write_card(run)
    text = path.read_text()
    assert path == run / "model.md"
    head, _, model, step, *_ = text.splitlines()
    assert head == "# mine"
    assert model == "- model: recurrent st_lstm, 1,501 parameters, stored as float32, frames of 8x8x1"
    assert step.startswith("- step 12,000; ")
    assert checkpoints.read_manifest(run / "model")["files"]["state.npz"]["sha256"] in text
    assert "not evaluated yet" in text
    assert '- model: name "recurrent", cell "st_lstm", frame_shape [8, 8, 1], context 4\n' in text
    assert "someone" not in text
    assert "Imported" not in text


def test_the_newest_evaluation(run):
    results(run, "2026-01-01_00-00-00", 11.0)
    results(run, "2026-01-02_00-00-00", 22.0)
    results(run, "2026-01-03_00-00-00", 33.0, checkpoint=None)  # of another version
    (run / "eval" / "2026-01-04_00-00-00").mkdir()
    (run / "eval" / "2026-01-04_00-00-00" / "curves.json").write_text("{")
    results(run, "2026-01-05_00-00-00", 55.0)
    (run / "eval" / "2026-01-05_00-00-00" / UNFINISHED).mkdir()
    assert [folder.name[:10] for folder, _ in results_of(run)] == ["2026-01-03", "2026-01-02", "2026-01-01"]
    text = write_card(run / "model").read_text()
    assert "7 clips, 4 context frames, 1 sample a clip, step 12,000 (eval/2026-01-02_00-00-00)" in text
    assert "| 2 | 22.00 [21.00, 23.00] | 10.00 [9.00, 11.00] + |" in text
    assert "11.00 [10" not in text
    assert "MSE" not in text


def test_the_evaluation_of_a_single_clip(run):
    """It has no intervals, and a score of events may be undefined: the file has null there."""
    results(run, "2026-01-01_00-00-00", 11.0)
    path = run / "eval" / "2026-01-01_00-00-00" / "curves.json"
    found = json.loads(path.read_text())
    for curve_ in (found["curves"]["model"]["psnr"], found["curves"]["black"]["psnr"]):
        for values in (curve_, curve_["horizon_mean"]):
            values["low"] = values["high"] = [None, None] if values is curve_ else None
        curve_ |= {"over_leads": None, "undefined": 2}
    found["differences"]["black"]["psnr"] |= {"low": [None, None], "high": [None, None]}
    found["differences"]["black"]["psnr"]["horizon_mean"] |= {"low": None, "high": None}
    path.write_text(json.dumps(found))
    text = write_card(run).read_text()
    assert "| 2 | 11.00 | 10.00 |" in text
    assert "| mean of leads | n/a | n/a |" in text


def test_refused(tmp_path, run):
    with pytest.raises(InputError, match="is not a run folder"):
        write_card(tmp_path)
    (run / "model" / "step_12000" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="step_12000 is damaged"):
        write_card(run)
    (tmp_path / "config.yml").write_text(CONFIG)
    with pytest.raises(InputError, match="holds no checkpoint"):
        write_card(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"arguments": 3}'])
def test_a_damaged_record_of_an_import(run, content):
    (run / "imported.json").write_text(content)
    with pytest.raises(InputError, match=r"imported\.json is damaged .*; import the weights again"):
        write_card(run)
