"""Sockets: a service on an address until SIGTERM or Ctrl-C, which let running work finish.

uvicorn speaks HTTP and WebSocket. What it leaves open is closed here: connections above a limit, those on which no
request comes to its end, and those whose client does not take its answer.
"""

import json
import logging
import math
import socket
import sys
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from htsr.errors import InputError
from htsr.serving.app import Service
from htsr.serving.guard import LOG, JsonLines
from htsr.serving.limits import Limits
from htsr.serving.model import ServedModel

SILENCE = 10.0  # seconds in which a connection has to bring its next request, or take the rest of its answer


def serve(model: ServedModel, host: str, port: int, limits: Limits, decoders: int = 2, json_log: bool = False) -> None:
    """Serve until a signal comes; one line on stderr says where, then one for each request.

    Args:
        model: what is served.
        host, port: where; port 0 takes a free one.
        limits: of all that clients choose.
        decoders: processes that read clips and write answers.
        json_log: log lines of JSON.

    Raises:
        InputError: the address is taken, or is none.
    """
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(JsonLines() if json_log else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(handlers=[log])
    LOG.setLevel(logging.INFO)
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {model.name} at http://{shown}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    make_server(Service(model, limits, decoders), limits).run([listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. What a slow client does not take waits in little memory, so that it misses predictions
    instead of getting old ones."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen at {host}, port {port} ({error}); give another --host or --port") from None
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**18)
    return listening


def make_server(service: Service, limits: Limits) -> uvicorn.Server:
    """A server: ``make_server(service, limits).run([listen(host, port)])``."""
    config = uvicorn.Config(
        service.app,
        http=_protocol(limits),
        ws="websockets-sansio",
        ws_max_size=limits.max_message,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(limits.upload_seconds + limits.deadline) + 5,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Looks once a second for connections that nothing happens on."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self._silent: dict[Any, tuple[Any, float]] = {}

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            now, silent = time.monotonic(), {}
            for connection in self.server_state.connections:
                request = getattr(connection, "cycle", None)
                busy = request is not None and not request.response_complete
                live = not isinstance(connection, H11Protocol) and not connection.transport.is_closing()
                if busy or live:
                    continue
                at = (request, connection.transport.get_write_buffer_size())  # a slow client gets on
                before, since = self._silent.get(connection, (at, now))
                since = since if before == at else now
                silent[connection] = (at, since)
                if now - since > SILENCE:
                    connection.transport.abort()
            self._silent = silent
        return await super().on_tick(counter)


def _protocol(limits: Limits) -> type[H11Protocol]:
    class Protocol(H11Protocol):
        """HTTP/1.1 with a limit of connections, whose refusals are JSON as all others."""

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.max_connections:
                self._refuse("503 Service Unavailable", "too many connections; try again", "Retry-After: 1\r\n")

        def send_400_response(self, msg: str) -> None:
            self._refuse("400 Bad Request", f"{msg.rstrip('.')}; expected HTTP/1.1")

        def _refuse(self, status: str, message: str, headers: str = "") -> None:
            body = json.dumps({"error": message})
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            self.transport.write(f"{head}{headers}Connection: close\r\n\r\n{body}".encode())
            self.transport.close()

    return Protocol
