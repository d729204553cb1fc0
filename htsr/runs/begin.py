"""Begin a run with what another one has learnt: its weights and Adam's slots, under another config."""

from pathlib import Path

import numpy as np

from htsr.errors import InputError
from htsr.runs import checkpoints
from htsr.runs.folder import find_run

_OF_THE_SCHEDULE = ("optimizer/learning_rate", "optimizer/iteration")


def begin_with(run: str | Path, other: str | Path) -> None:
    """Write a checkpoint of step 0 with the weights, averages and slots of another run's newest one.

    The schedule begins anew: iterations are counted from 0. A run that has a checkpoint already goes on from that.

    Raises:
        InputError: the other run has no checkpoint.
    """
    folder = Path(run) / "model"
    if any(folder.glob("step_*")):
        return
    source = find_run(other)
    found = checkpoints.load(source / "model")
    if found is None:
        raise InputError(f"--from-run {source} holds no checkpoint; give a run that was trained")
    arrays = {name: array for name, array in found[1].items() if name not in _OF_THE_SCHEDULE}
    checkpoints.save(folder, 0, {name: np.asarray(array) for name, array in arrays.items()})
