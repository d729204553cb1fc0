"""Around all routes: one line in the log and a count for each request, and no traceback to a client."""

import json
import logging
import time
from datetime import UTC, datetime
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from htsr.serving.counters import Counters

LOG = logging.getLogger("htsr.serving")
_FIELDS = ("client", "method", "path", "status", "milliseconds", "bytes")
_GONE = 499  # what logs have for a client that did not wait


class Guard:
    """ASGI middleware.

    Args:
        app: what is inside.
        counters: where requests are counted.
        paths: those that are counted by name; the others are "other".
    """

    def __init__(self, app: ASGIApp, counters: Counters, paths: set[str]):
        self._app, self._counters, self._paths = app, counters, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began, status, size = time.monotonic(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", 101 if message["type"] == "websocket.accept" else status)
            size += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except ClientDisconnect:
            status = _GONE
        except Exception:
            LOG.exception("a bug, or a machine that is too small")
            if scope["type"] == "http" and not status:
                await JSONResponse({"error": "internal error; the log of the server says more"}, 500)(
                    scope, receive, counted
                )
            status = status if status not in (0, 101) else 500
        seconds = time.monotonic() - began
        path = scope["path"] if scope["path"] in self._paths else "other"
        if scope["type"] == "http":
            self._counters.request(path, status, seconds)
        client = (scope.get("client") or ("-",))[0]
        method = scope.get("method", "WS")
        shown = quote(scope["path"][:200])
        about = (client, method, shown, status or _GONE, 1000 * seconds, size)
        LOG.info("%s %s %s %s %.0f ms %s B", *about, extra={"request": dict(zip(_FIELDS, about, strict=True))})


class JsonLines(logging.Formatter):
    """A record as a line of JSON: ``time`` (ISO 8601, UTC), ``level``, and a request's fields or a ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        about = getattr(record, "request", None) or {"message": record.getMessage()}
        if record.exc_info:
            about["traceback"] = self.formatException(record.exc_info)
        return json.dumps({"time": stamp, "level": record.levelname.lower(), **about})
