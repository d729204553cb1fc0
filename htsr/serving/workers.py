"""Processes in which files of clients are decoded and answers written: they can be killed, and their memory is bounded.

FFmpeg may open .mp4, .avi and .webm files there, and nothing that such a file names.
"""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from htsr.data.video.files import FrameFormat
from htsr.serving.limits import Limits, Refusal

MEMORY = 3 * 2**30  # bytes of address space of a process
_ANSWER = 2**30  # bytes of an answer that are read


class Workers:
    """A number of processes, each with one job at a time.

    Args:
        count: how many.
        limits: of what they read.
    """

    def __init__(self, count: int, limits: Limits):
        self._limits, self._slots = limits, asyncio.Semaphore(count)
        self._idle = [_Worker() for _ in range(count)]

    async def decode(self, path: Path, form: FrameFormat, context: int, stride: int) -> tuple[np.ndarray, dict]:
        """`media.decode`: uint8 frames, and the report."""
        job = {"path": str(path), "form": form, "context": context, "stride": stride}
        answer, content = await self._run("decode", job, b"")
        return np.frombuffer(content, np.uint8).reshape(answer["shape"]), answer["report"]

    async def decode_image(self, content: bytes, form: FrameFormat) -> np.ndarray:
        """`media.decode_image`."""
        _, content = await self._run("decode_image", {"form": form}, content)
        return np.frombuffer(content, np.uint8).reshape(form[:3])

    async def encode(self, folder: Path, context: np.ndarray, prediction: np.ndarray, fps: float, kind: str) -> bytes:
        """`media.encode`."""
        job = {"folder": str(folder), "shapes": [context.shape, prediction.shape], "fps": fps, "kind": kind}
        return (await self._run("encode", job, context.tobytes() + prediction.tobytes()))[1]

    def close(self) -> None:
        """End the processes that have nothing to do; the others end with their jobs."""
        for worker in self._idle:
            worker.kill()
        self._idle.clear()

    async def _run(self, do: str, job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        await self._slots.acquire()
        taking = asyncio.ensure_future(self._take())
        try:
            worker = await asyncio.shield(taking)
        except asyncio.CancelledError:  # the client has gone; the process goes on starting, for the next one
            taking.add_done_callback(self._put_back)
            raise
        except BaseException:
            self._slots.release()
            raise
        try:
            return await self._ask(worker, do, job, content)
        finally:
            self._slots.release()

    async def _take(self) -> "_Worker":
        """Take an idle process, or start one."""
        worker = self._idle.pop() if self._idle else await asyncio.to_thread(_Worker)
        if not worker.is_ready:
            await asyncio.to_thread(worker.wait_until_ready)
        return worker

    def _put_back(self, taking: "asyncio.Future[_Worker]") -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._idle.append(taking.result())
        self._slots.release()

    async def _ask(self, worker: "_Worker", do: str, job: dict[str, Any], content: bytes):
        seconds = self._limits.decode_seconds
        try:
            async with asyncio.timeout(seconds):
                job = {"do": do, "limits": self._limits, **job}
                answer, content = await asyncio.to_thread(worker.call, job, content)
        except TimeoutError:
            worker.kill()
            if do == "encode":
                raise Refusal(
                    413, f"writing the answer takes more than {seconds:g} seconds; ask for npz, or fewer frames"
                ) from None
            raise Refusal(422, f"the clip takes more than {seconds:g} seconds; make it shorter or smaller") from None
        except (EOFError, OSError):
            worker.kill()
            raise Refusal(
                422, "the clip takes more memory than a clip may, or is damaged; make it smaller, or convert it"
            ) from None
        except BaseException:  # cancelled: the thread ends with the process
            worker.kill()
            raise
        self._idle.append(worker)
        if "error" in answer:
            raise Refusal(answer["status"], answer["error"])
        return answer, content


class _Worker:
    """A process and the pipe to it. What comes back is JSON and bytes: nothing is unpickled that a client's file may
    have had a hand in."""

    def __init__(self):
        spawn = multiprocessing.get_context("spawn")
        self.is_ready = False
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def wait_until_ready(self) -> None:
        """Wait for its imports, which may take longer than a job may: a first one makes a list of the fonts.

        Raises:
            Refusal: it has died.
        """
        try:
            self._pipe.recv_bytes()
        except (EOFError, OSError):
            self._process.join()
            logging.getLogger("htsr.serving").error(
                "a process that decodes clips died at its start, with status %s", self._process.exitcode
            )
            raise Refusal(503, "the processes that decode clips die at their start; the log says more", 5) from None
        self.is_ready = True

    def call(self, job: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        self._pipe.send_bytes(json.dumps(job).encode())
        self._pipe.send_bytes(content)
        return json.loads(self._pipe.recv_bytes(_ANSWER)), self._pipe.recv_bytes(_ANSWER)

    def kill(self) -> None:
        """End the process; a thread that waits for it gets an EOFError."""
        self._process.kill()
        self._process.join()


def guard() -> None:
    """Let this process open three container formats, from files, and no other."""
    from htsr.data.video import containers

    containers.OPTIONS["format_whitelist"] = "mov,avi,matroska"


def _work(pipe: Connection) -> None:
    """Do jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    guard()
    import cv2

    from htsr.serving import media

    cv2.setNumThreads(1)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(BrokenPipeError):  # the service has ended
        pipe.send_bytes(b"ready")
        while _work_once(media, pipe):
            pass


def _work_once(media, pipe: Connection) -> bool:
    """Do the next job; whether there was one."""
    try:
        job, content = json.loads(pipe.recv_bytes()), pipe.recv_bytes()
    except EOFError:
        return False
    try:
        answer, content = _JOBS[job.pop("do")](media, Limits(*job.pop("limits")), content, job)
    except Refusal as refusal:
        answer, content = {"status": refusal.status, "error": refusal.message}, b""
    except MemoryError:
        answer, content = {"status": 413, "error": "the clip takes too much memory; make it smaller"}, b""
    pipe.send_bytes(json.dumps(answer).encode())
    pipe.send_bytes(content)
    return True


def _decode(media, limits: Limits, content: bytes, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    del content
    form = FrameFormat(*job["form"])
    frames, report = media.decode(Path(job["path"]), form, job["context"], job["stride"], limits)
    return {"shape": frames.shape, "report": report}, frames.tobytes()


def _decode_image(media, limits: Limits, content: bytes, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    return {}, media.decode_image(content, FrameFormat(*job["form"]), limits).tobytes()


def _encode(media, limits: Limits, content: bytes, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    del limits
    frames, shapes = np.frombuffer(content, np.uint8), job["shapes"]
    count = int(np.prod(shapes[0]))
    context, prediction = frames[:count].reshape(shapes[0]), frames[count:].reshape(shapes[1])
    return {}, media.encode(Path(job["folder"]), context, prediction, job["fps"], job["kind"])


_JOBS = {"decode": _decode, "decode_image": _decode_image, "encode": _encode}
