"""The routes of the service.

    GET /           a page: a clip or the camera, beside what is predicted
    POST /predict   a clip as the body; ?context, horizon, num_samples, seed, format (mp4, gif, npz) -> a file
    WS /live        frame by frame: `htsr.serving.live`
    GET /model, /healthz, /metrics

What was done to a clip is JSON in the header Prediction-Report. An error is one line, {"error": "..."}, with its
status: 400 arguments, 403 another site's page, 408 an upload that does not end, 413 too much, 415 no clip, 422 damaged,
499 (in the log) the client has gone, 503 busy, 504 too late.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from htsr.serving.batching import Batcher, Wanted
from htsr.serving.counters import Counters
from htsr.serving.guard import Guard
from htsr.serving.limits import FORMATS, KINDS, Limits, Refusal
from htsr.serving.live import Live
from htsr.serving.model import DEFAULT_HORIZON, ServedModel
from htsr.serving.query import read_query
from htsr.serving.workers import Workers

_ROUTES = "POST /predict, WebSocket /live, GET /, /model, /healthz or /metrics"
_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


class Service:
    """A model behind its routes.

    Args:
        model: what is served.
        limits: of all that clients choose.
        decoders: processes that read clips and write answers.

    Attributes:
        app: the ASGI application.
    """

    def __init__(self, model: ServedModel, limits: Limits, decoders: int = 2):
        self._model, self._limits, self._decoders = model, limits, decoders
        self._counters, self._in_progress = Counters(), 0
        routes = [
            Route("/predict", self._predict, methods=["POST"]),
            Route("/model", self._describe),
            Route("/healthz", self._healthy),
            Route("/metrics", self._metrics),
            WebSocketRoute("/live", self._watch),
            *(_file(path) for path in sorted(_PAGE.iterdir())),
        ]
        self.app = Starlette(
            routes=routes,
            lifespan=self._running,
            exception_handlers={HTTPException: _http_error, Refusal: _refusal},
        )
        paths = {route.path for route in routes}
        self.app.add_middleware(Guard, counters=self._counters, paths=paths)

    @contextlib.asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        limits = self._limits
        self._workers, pictures = Workers(self._decoders, limits), Workers(1, limits)
        self._batcher = Batcher(
            self._model.predict,
            self._model.stochastic,
            limits.max_batch,
            limits.max_predicted,
            limits.batch_window,
            self._counters.batches.add,
        )
        self._live = Live(self._model, limits, pictures, self._counters.live)
        self._counters.gauges |= {
            "htsr_queue_depth": lambda: self._batcher.depth,
            "htsr_predictions_in_progress": lambda: self._in_progress,
            "htsr_live_connections": lambda: self._live.connections,
        }
        batches = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            batches.cancel()
            for part in (self._batcher, self._live, self._workers, pictures):
                part.close()

    async def _predict(self, request: Request) -> Response:
        _check_origin(request)
        wanted, kind = self._wanted(request)
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Refusal(415, "the body has to be the clip itself, received a form; curl --data-binary @clip.mp4")
        if self._in_progress >= self._limits.max_requests:
            raise Refusal(503, f"{self._in_progress} predictions are in progress, no more; try again", retry_after=1)
        self._in_progress += 1
        try:
            with tempfile.TemporaryDirectory(prefix="htsr-") as folder:
                await self._upload(request, Path(folder) / "upload")
                return await self._in_time(request, self._answer(Path(folder), wanted, kind))
        finally:
            self._in_progress -= 1

    def _wanted(self, request: Request) -> tuple[Wanted, str]:
        model, limits = self._model, self._limits
        query = read_query(
            request.query_params.multi_items(),
            {
                "context": (model.min_context, limits.max_context, min(model.context, limits.max_context)),
                "horizon": (1, limits.max_horizon, min(DEFAULT_HORIZON, limits.max_horizon)),
                "num_samples": (1, limits.max_samples, 1),
                "seed": (0, 2**31 - 1, None),
            },
            {"format": (tuple(FORMATS), "mp4")},
        )
        wanted = Wanted(query["context"], query["horizon"], query["num_samples"], query["seed"])
        frames = wanted.horizon * wanted.num_samples
        if frames > limits.max_predicted:
            raise Refusal(
                413,
                f"horizon x num_samples may be {limits.max_predicted}, received {wanted.horizon} x"
                f" {wanted.num_samples}; predict fewer",
            )
        if wanted.num_samples > 1 and not model.stochastic:
            raise Refusal(
                400, f"this model has one future for a clip, received num_samples={wanted.num_samples}; set 1"
            )
        return wanted, query["format"]

    async def _upload(self, request: Request, path: Path) -> None:
        """The body to a file."""
        most, seconds = self._limits.max_bytes, self._limits.upload_seconds
        too_much = Refusal(413, f"a clip may have {most} bytes, received more; send its end, or a smaller one")
        stated = request.headers.get("content-length", "0")
        if stated.isdecimal() and int(stated[:20]) > most:
            raise too_much
        received = 0
        try:
            async with asyncio.timeout(seconds):
                with open(path, "wb") as file:
                    async for part in request.stream():
                        received += len(part)
                        if received > most:
                            raise too_much
                        file.write(part)
        except TimeoutError:
            raise Refusal(408, f"the clip did not arrive in {seconds:g} seconds; send a smaller one") from None
        if not received:
            raise Refusal(415, f"the body is empty: expected {KINDS}; curl --data-binary @clip.mp4")

    async def _in_time(self, request: Request, work: Coroutine[Any, Any, Response]) -> Response:
        """The answer; or, when the client has gone or it is too late, a refusal, and the work is dropped."""
        answer, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({answer, gone}, timeout=self._limits.deadline, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise ClientDisconnect
            raise Refusal(
                504, f"no answer within {self._limits.deadline:g} seconds; try again, or predict fewer frames", 1
            )
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _answer(self, folder: Path, wanted: Wanted, kind: str) -> Response:
        model = self._model
        context, report = await self._workers.decode(folder / "upload", model.form, wanted.context, model.stride)
        if len(context) < model.min_context:
            raise Refusal(
                422, f"the model reads at least {model.min_context} frames, the clip has {report['frames']}; send more"
            )
        frames = await self._batcher.predict(context, wanted._replace(context=len(context)))
        fps = report["fps"] / model.stride
        content = await self._workers.encode(folder, context, np.ascontiguousarray(frames), fps, kind)
        report |= {name: getattr(wanted, name) for name in ("horizon", "num_samples", "seed")}
        headers = {
            "Prediction-Report": json.dumps(report),
            "Content-Disposition": f'attachment; filename="prediction.{kind}"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type=FORMATS[kind], headers=headers)

    async def _watch(self, socket: WebSocket) -> None:
        await self._live.connection(socket, _is_foreign(socket))

    async def _describe(self, _: Request) -> Response:
        return JSONResponse({**self._model.describe(), "limits": self._limits._asdict()})

    async def _healthy(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._model.name})

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse(self._counters.text(), media_type="text/plain; version=0.0.4")


def _file(path: Path) -> Route:
    content, name = path.read_bytes(), "/" if path.name == "index.html" else f"/{path.name}"
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}

    async def answer(_: Request) -> Response:
        return Response(content, media_type=_TYPES[path.suffix], headers=headers)

    return Route(name, answer)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _is_foreign(request: HTTPConnection) -> bool:
    """Whether a page of another site asks: browsers say so."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def _check_origin(request: Request) -> None:
    if _is_foreign(request):
        raise Refusal(403, f"pages of {request.headers['origin'][:100]} may not use this service; open its own page")


async def _http_error(request: Request, error: Exception) -> Response:
    """404 and 405."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    received = f"{request.method[:20]} {quote(request.url.path[:100])}"
    return JSONResponse({"error": f"expected {_ROUTES}, received {received}"}, status, headers)


async def _refusal(_: Request, error: Exception) -> Response:
    known = error if isinstance(error, Refusal) else Refusal(500, str(error))
    return JSONResponse({"error": known.message}, known.status, known.headers)
