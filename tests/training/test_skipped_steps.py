"""Steps whose gradient is not finite: they change no weight, and training goes on as if they had been foreseen."""

import numpy as np
import pytest
import tensorflow as tf
from stub_model import Noise, Stub

from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.runs import checkpoints
from htsr.training.fit import fit
from htsr.training.loop import MAX_SKIPPED

pytestmark = pytest.mark.usefixtures("plain_graphs")


class Overflows(Stub):
    """A stub whose loss is infinite at some steps."""

    bad: tuple[int, ...] = ()

    def loss_terms(self, clip, seed, step=None):
        bad = tf.reduce_any(tf.equal(step, self.bad)) if step is not None and self.bad else False
        return {"l2": super().loss_terms(clip, seed, step)["l2"] / tf.where(bad, 0.0, 1.0)}


def train(run, bad, steps, **settings):
    model = Overflows((16, 16, 1))
    model.bad = bad
    model.build()
    clips = Clips(Noise((4, 16, 16, 1), 6), 2)
    every = {"log_every": 1, "valid_every": 100, "valid_examples": 1, "valid_context": 2, "valid_horizon": 2}
    fit(model, clips, clips, run, steps=steps, learning_rate=0.1, **every, **settings)
    return checkpoints.load(run / "model")[1]


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.9}, {"clip_norm": None}])
def test_a_step_that_overflows_is_skipped(tmp_path, capsys, settings):
    whole = train(tmp_path / "whole", (1, 3), 5, **settings)
    assert all(np.isfinite(array).all() for array in whole.values())
    assert whole["optimizer/iteration"] == 5
    assert "step 2 is skipped: its loss or gradient is not finite" in capsys.readouterr().err
    train(tmp_path / "parts", (1, 3), 2, **settings)
    parts = train(tmp_path / "parts", (1, 3), 5, **settings)
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array, err_msg=name)
    assert (whole["model/scale"] != train(tmp_path / "none", (), 5, **settings)["model/scale"]).any()


def test_training_that_has_diverged_stops(tmp_path):
    with pytest.raises(InputError, match=rf"training stopped at step {2 + MAX_SKIPPED}: l2 is inf"):
        train(tmp_path, tuple(range(2, 40)), 40, checkpoint_every=2)
    step, arrays, _ = checkpoints.load(tmp_path / "model")
    assert step >= 2
    assert np.isfinite(arrays["model/scale"]).all()
