"""Requests that arrive within some milliseconds are computed together, where they differ in their clips alone."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np


class Wanted(NamedTuple):
    """What is to be predicted of a clip. Clips of one batch have equal ones."""

    context: int
    horizon: int
    num_samples: int
    seed: int | None


class _Waiting(NamedTuple):
    clip: np.ndarray
    answer: asyncio.Future
    since: float


_Group = tuple[Wanted, asyncio.Future | None]  # the future is that of a request that is computed alone


class Batcher:
    """Computes one batch at a time: first that of the request that has waited longest.

    The noise of a clip depends on its row in the batch. So a request with a seed of its own, of a stochastic model, is
    computed alone, and gets the same future every time; those without are computed together, with a seed that is drawn.

    Args:
        compute: uint8 (clip, time, height, width, channel), horizon, seed, num_samples -> uint8 (num_samples, clip,
            horizon, height, width, channel); is called in a thread.
        stochastic: whether the seed means anything.
        max_batch: clips of a batch.
        max_predicted: frames that a batch predicts, all futures together.
        window: seconds that the first request of a batch waits for others.
        seen: is told the size of every batch.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray, int, int | None, int], np.ndarray],
        stochastic: bool,
        max_batch: int,
        max_predicted: int,
        window: float,
        seen: Callable[[int], None] = lambda size: None,
    ):
        self._compute, self._stochastic, self._seen = compute, stochastic, seen
        self._max_batch, self._max_predicted, self._window = max_batch, max_predicted, window
        self._waiting: dict[_Group, list[_Waiting]] = {}
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")

    @property
    def depth(self) -> int:
        """Requests that wait to be computed."""
        return sum(map(len, self._waiting.values()))

    async def predict(self, clip: np.ndarray, wanted: Wanted) -> np.ndarray:
        """Predict, uint8 (time, height, width, channel) -> (num_samples, horizon, height, width, channel).

        Whoever cancels this while it waits is forgotten; what is being computed is finished.
        """
        waiting = _Waiting(clip, asyncio.get_running_loop().create_future(), time.monotonic())
        wanted = wanted if self._stochastic else wanted._replace(seed=None)
        alone = wanted.seed is not None
        group = (wanted, waiting.answer if alone else None)
        self._waiting.setdefault(group, []).append(waiting)
        self._arrived.set()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            self._forget(group, waiting)
            raise

    async def run(self) -> None:
        """Compute what arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            if not self._waiting:
                self._arrived.clear()
                continue
            group = min(self._waiting, key=lambda group: self._waiting[group][0].since)
            wanted, alone = group
            most = 1 if alone else self._rows(wanted)
            left = self._waiting[group][0].since + self._window - time.monotonic()
            if len(self._waiting[group]) < most and left > 0:
                await asyncio.sleep(left / 4)  # looks again: it may be full, or its requests gone
                continue
            batch = self._waiting[group][:most]
            self._waiting[group] = self._waiting[group][most:]
            if not self._waiting[group]:
                del self._waiting[group]
            await self._answer(batch, wanted)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _rows(self, wanted: Wanted) -> int:
        return max(1, min(self._max_batch, self._max_predicted // (wanted.horizon * wanted.num_samples)))

    async def _answer(self, batch: list[_Waiting], wanted: Wanted) -> None:
        self._seen(len(batch))
        try:
            clips = np.stack([waiting.clip for waiting in batch])
            frames = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._compute, clips, wanted.horizon, wanted.seed, wanted.num_samples
            )
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        for row, waiting in enumerate(batch):
            if not waiting.answer.done():
                waiting.answer.set_result(frames[:, row])

    def _forget(self, group: _Group, waiting: _Waiting) -> None:
        others = [other for other in self._waiting.get(group, ()) if other is not waiting]
        if others:
            self._waiting[group] = others
        else:
            self._waiting.pop(group, None)
