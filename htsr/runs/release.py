"""Release a trained model: a run folder of its weights alone, in half precision, with a card.

The folder is used like any run folder (``--logdir``, ``htsr.load_model``). It has a sixth of a checkpoint's size and no
optimiser, so it cannot be trained further.
"""

import shutil
from pathlib import Path

import numpy as np

from htsr import files
from htsr.config import save_config
from htsr.errors import InputError
from htsr.runs import checkpoints, trained_on
from htsr.runs.card import write_card
from htsr.runs.folder import find_run, load_run, read_run_config


def release(logdir: str | Path, out: str | Path, which: str | int = "latest") -> Path:
    """Write the weights of a run, averaged ones where it kept them, as float16.

    Args:
        logdir: run folder.
        out: folder to create; it appears only when it is complete. Its card has the run's newest evaluation, which is
            of the weights before they were rounded.
        which: ``"latest"``, ``"best"`` or a step.

    Returns:
        The folder.

    Raises:
        InputError: ``out`` exists, there is no such checkpoint, or a weight is too large for float16.
    """
    run, out = find_run(logdir), Path(out)
    if out.exists():
        raise InputError(f"{out} exists; choose another folder to release to, or remove it")
    model, manifest = load_run(run, which)
    arrays = checkpoints.model_arrays(model)
    with np.errstate(over="ignore"):
        rounded = {name: array.astype(np.float16) for name, array in arrays.items()}
    too_large = [name for name, array in rounded.items() if not np.isfinite(array).all()]
    if too_large:
        raise InputError(f"{too_large[0]} has values beyond float16 (65504); release another checkpoint")
    with files.new_folder(out) as folder:
        save_config(read_run_config(run), folder / "config.yml")
        checkpoints.save(folder / "model", manifest["step"], rounded, score=manifest["score"])
        if (run / trained_on.NAME).is_file():
            shutil.copyfile(run / trained_on.NAME, folder / trained_on.NAME)
        write_card(folder, out.name, results=run)
    return out
