"""What is worth a warning while a model trains: each kind once a start, one line, with what to do about it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

_RECENT = 100  # steps that were looked at
_IN_A_ROW = 20  # steps, before a level counts as collapsed
_SILENT = 1e-3  # nats a frame, below which a level says nothing
_EXPLODED = 100.0  # times the median of the gradient's norm
_WAITING = 0.8  # share of the time, above which reading is what training waits for
_DARK = 32  # of 255


class Watch:
    """Looks at batches, and at the numbers of steps.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say, self._said = say, set()
        self._norms: deque[float] = deque(maxlen=_RECENT)
        self._silent: dict[str, int] = {}

    def batches(self, stream: Iterable[tf.Tensor]) -> Iterator[tf.Tensor]:
        """Yield the batches of a stream, and note how long it takes to give them."""
        waited = count = 0
        began = asked = time.monotonic()
        for batch in stream:
            waited, count = waited + time.monotonic() - asked, count + 1
            if count == 1:  # the first one fills the pipeline, and the first step compiles
                self._look_at(batch)
            elif count == 2:
                waited, began = 0.0, time.monotonic()
            elif count == _RECENT + 2 and waited > _WAITING * (time.monotonic() - began):
                share = round(100 * waited / (time.monotonic() - began))
                self._once(
                    "input",
                    f"reading takes {share} % of the time: htsr prepare decodes videos once, smaller frames and a"
                    " nearer disk are read faster, and more processor cores help",
                )
            yield batch
            asked = time.monotonic()

    def step(self, step: int, logs: Mapping[str, float]) -> None:
        """Look at the numbers of a step; they are finite."""
        norm = logs.get("grad_norm", 0.0)
        usual = float(np.median(self._norms)) if len(self._norms) == _RECENT else np.inf
        if norm > _EXPLODED * usual:
            self._once(
                "gradient",
                f"step {step}: the gradient's norm is {norm:.3g}, usually {usual:.3g}: lower train.clip_norm to about"
                " that, or train.learning_rate, in a new run",
            )
        self._norms.append(norm)
        for name, value in logs.items():
            if name.startswith("kl_") and name[3:].isdecimal():
                self._silent[name] = self._silent.get(name, 0) + 1 if value < _SILENT else 0
                if self._silent[name] == _IN_A_ROW:
                    self._once(
                        name,
                        f"step {step}: level {name[3:]} has collapsed, its KL is {value:.2g} nats a frame: lower"
                        " model.beta, raise model.free_nats, or leave the level out, in a new run",
                    )

    def _look_at(self, batch: tf.Tensor) -> None:
        batch = batch if isinstance(batch, tf.Tensor) else batch.values[0]  # of the first replica
        brightest = float(tf.reduce_max(batch))
        brightest = round(255 * brightest) if batch.dtype.is_floating else int(brightest)
        if brightest < _DARK:
            self._once(
                "dark",
                f"the first batch is nearly black, its brightest value is {brightest} of 255: look at the data's range",
            )

    def _once(self, kind: str, line: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(f"warning: {line}")
