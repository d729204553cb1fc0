"""Frame by frame: a client sends what happens, the service answers with what comes next.

``WS /live?horizon=10&seed=0`` opens a connection. All numbers are little endian.

The service first sends a text, JSON: ``{"frame_shape": [height, width, channels], "min_context": …, "horizon": …,
"max_fps": …, "max_message": …, "idle_seconds": …}``.

The client sends binary messages, a frame each:

    byte 0          0: raw bytes follow, exactly (height, width, channels) of the model, grey or RGB, row by row
                    1: a PNG or JPEG picture follows, of any size; it becomes what a video would (size, grey)

The service sends binary messages, each after some frames were observed:

    bytes 0 to 3    uint32: how many frames it has observed; counted from 0, the first predicted frame has this number
    bytes 4 to 11   uint16 each: n, height, width, channels
    then            n frames, uint8; n is 0 where only an observation is told

A client should wait for the count to reach what it has sent before it sends the next frame: so it never gets ahead of
the model. Every frame that arrives is observed, in order, ``max_fps`` of them a second; what comes faster waits in the
sockets. Predictions are left out, not queued: while frames wait to be observed, or while the client does not take the
message before, none is made, and of two messages that wait to be sent the newer one stays. Nothing is predicted before
``min_context`` frames.

Whatever is wrong is told in a text, ``{"error": "..."}``, and the connection closed: 1008 for what a client did (a
message of another kind or size, an unknown argument, another site's page), 1013 where there are too many connections,
1000 after ``idle_seconds`` without a frame (since the last one was observed), 1011 for our bug. A message of more than
``max_message`` bytes closes the connection with 1009, and no text; a server that is stopped closes with 1012.
"""

import asyncio
import functools
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from htsr.serving.limits import Limits, Refusal
from htsr.serving.model import ServedModel
from htsr.serving.query import read_query
from htsr.serving.workers import Workers

HEADER = struct.Struct("<IHHHH")
DEFAULT_HORIZON = 10
_RAW, _PICTURE = 0, 1
_BURST = 5  # frames that may come at once


class Live:
    """All live connections of a service. Their frames go through the model one after the other, in a thread.

    Args:
        model: what predicts.
        limits: of connections, frames, messages.
        pictures: where PNG and JPEG are decoded.
        counts: ``observed``, ``predicted`` and ``left_out`` are counted here.
    """

    def __init__(self, model: ServedModel, limits: Limits, pictures: Workers, counts: Counter[str]):
        self.model, self.limits, self.pictures, self.counts = model, limits, pictures, counts
        self.connections = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live")

    async def compute(self, function, *arguments) -> Any:
        """Run something of the model."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, functools.partial(function, *arguments))

    async def connection(self, socket: WebSocket, foreign: bool) -> None:
        """Serve one client until it goes, or has to."""
        await socket.accept()
        if self.connections >= self.limits.max_live:
            await _close(socket, 1013, f"there are {self.connections} live connections, no more; try again later")
            return
        self.connections += 1
        try:
            if foreign:
                raise Refusal(403, "pages of other sites may not use this service; open its own page")
            await _Session(self, socket).run()
        except Refusal as refusal:
            await _close(socket, 1008, refusal.message)
        except TimeoutError:
            await _close(socket, 1000, f"no frame in {self.limits.idle_seconds:g} seconds; connect again")
        except WebSocketDisconnect:
            pass
        except Exception:
            await _close(socket, 1011, "internal error; the log of the server says more")
            raise
        finally:
            self.connections -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class _Session:
    """One client: a task that reads, observes and predicts, and one that sends."""

    def __init__(self, live: Live, socket: WebSocket):
        self._live, self._socket = live, socket
        limits = live.limits
        query = read_query(
            socket.query_params.multi_items(),
            {
                "horizon": (1, limits.max_live_horizon, min(DEFAULT_HORIZON, limits.max_live_horizon)),
                "seed": (0, 2**31 - 1, 0),
            },
            {},
        )
        self._horizon, self._seed = query["horizon"], query["seed"]
        self._state: dict[str, Any] | None = None
        self._begin: list[np.ndarray] = []  # frames before there is a state
        self._observed = 0
        self._silent_since = asyncio.get_running_loop().time()
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(_BURST)
        self._outgoing: bytes | None = None
        self._something, self._sending = asyncio.Event(), False

    async def run(self) -> None:
        model, limits = self._live.model, self._live.limits
        hello = {
            "frame_shape": model.frame_shape,
            "min_context": model.min_context,
            "horizon": self._horizon,
            "max_fps": limits.max_live_fps,
            "max_message": limits.max_message,
            "idle_seconds": limits.idle_seconds,
        }
        await self._socket.send_json(hello)
        tasks = [asyncio.create_task(part) for part in (self._receive(), self._follow(), self._send())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        """Frames into the queue; where it is full, or they come too fast, they stay in the client's and our sockets."""
        limits, loop = self._live.limits, asyncio.get_running_loop()
        height, width, channels = self._live.model.frame_shape
        began, received = loop.time(), 0
        while True:
            try:
                async with asyncio.timeout_at(self._silent_since + limits.idle_seconds):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._observed < received:  # it waits for us
                    self._silent_since = loop.time()
                if loop.time() < self._silent_since + limits.idle_seconds:
                    continue
                raise
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            received += 1
            content = message.get("bytes")
            if content is None:
                raise Refusal(400, "frames are binary messages, received a text; see the service's documentation")
            if not content or content[0] not in (_RAW, _PICTURE):
                raise Refusal(
                    400,
                    "a message is byte 0 and a raw frame, or byte 1 and a picture, received"
                    f" {len(content)} bytes that begin with {content[:1].hex() or 'nothing'}",
                )
            if content[0] == _RAW and len(content) != 1 + height * width * channels:
                raise Refusal(
                    400,
                    f"a raw frame is {height} x {width} x {channels} bytes after byte 0, received {len(content) - 1};"
                    " resize it, or send a PNG or JPEG after byte 1",
                )
            early = (received - _BURST) / limits.max_live_fps - (loop.time() - began)
            await asyncio.sleep(max(0, early))
            await self._frames.put(content)

    async def _follow(self) -> None:
        """Observe every frame; predict where nothing else waits."""
        live = self._live
        while True:
            frame = await self._decoded(await self._frames.get())
            await self._observe(frame)
            self._observed += 1
            live.counts["observed"] += 1
            prediction = np.empty((0, *live.model.frame_shape), np.uint8)
            if self._state is not None:
                if self._frames.empty() and not self._sending:
                    prediction = await live.compute(live.model.follow, self._state, self._horizon, self._seed)
                    live.counts["predicted"] += 1
                else:
                    live.counts["left_out"] += 1
            self._outgoing = HEADER.pack(self._observed, *prediction.shape) + prediction.tobytes()
            self._silent_since = asyncio.get_running_loop().time()
            self._something.set()

    async def _observe(self, frame: np.ndarray) -> None:
        live = self._live
        if self._state is not None:
            self._state = await live.compute(live.model.observe, self._state, frame, self._seed)
            return
        self._begin.append(frame)
        if len(self._begin) == live.model.min_context:
            self._state = await live.compute(live.model.init, np.stack(self._begin), self._seed)
            self._begin.clear()

    async def _decoded(self, content: bytes) -> np.ndarray:
        model = self._live.model
        if content[0] == _PICTURE:
            return await self._live.pictures.decode_image(content[1:], model.form)
        return np.frombuffer(content, np.uint8, offset=1).reshape(model.frame_shape)

    async def _send(self) -> None:
        """The newest message, as fast as the client takes them."""
        while True:
            await self._something.wait()
            self._something.clear()
            content, self._outgoing = self._outgoing, None
            if content is None:
                continue
            self._sending = True
            try:
                async with asyncio.timeout(self._live.limits.idle_seconds):
                    await self._socket.send_bytes(content)
            except TimeoutError:  # it would not take a word of farewell either
                raise WebSocketDisconnect(1006) from None
            self._sending = False


async def _close(socket: WebSocket, code: int, message: str) -> None:
    if socket.client_state is WebSocketState.CONNECTED and socket.application_state is WebSocketState.CONNECTED:
        try:
            async with asyncio.timeout(5):
                await socket.send_json({"error": message})
                await socket.close(code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):  # gone, or does not listen
            pass
