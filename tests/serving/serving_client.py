"""A service in a thread and a client of it, for the tests of serving, and clips of which the stub's future is known."""

import contextlib
import http.client
import io
import json
import socket
import threading
import time

import numpy as np

SHAPE = (12, 16, 1)  # height, width, channels


def moved(frame: np.ndarray, count: int) -> np.ndarray:
    """What comes after a frame: uint8 (count, height, width, channel)."""
    return np.stack([np.roll(frame, k, 1) for k in range(1, count + 1)])


def clip(seed: int, length: int = 5, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (length, *shape), np.uint8)


def npy(frames: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, frames)
    return file.getvalue()


class Server:
    """A service in a thread, and a client of it."""

    def __init__(self, port: int, stop):
        self.port, self.stop = port, stop
        self.live = f"ws://127.0.0.1:{port}/live"

    def request(self, method: str, path: str, body=None, headers=()) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def predict(self, body: bytes, query: str = "", **headers) -> tuple[int, dict[str, str], bytes]:
        return self.request("POST", f"/predict?{query}", body, headers)

    def error(self, body: bytes, query: str = "", **headers) -> str:
        """``status error`` of a refused prediction, which has to be one line of JSON."""
        return self.refusal("POST", f"/predict?{query}", body, headers)

    def refusal(self, *request) -> str:
        status, headers, content = self.request(*request)
        assert headers["content-type"] == "application/json"
        answer = json.loads(content)
        assert list(answer) == ["error"]
        assert "\n" not in answer["error"]
        assert "Traceback" not in answer["error"]
        return f"{status} {answer['error']}"

    def metric(self, name: str) -> float:
        (line,) = (x for x in self.request("GET", "/metrics")[2].decode().splitlines() if x.startswith(f"{name} "))
        return float(line.split()[1])

    def raw(self, content: bytes, timeout: float = 30, ends: bool = False) -> bytes:
        """Whatever is answered to bytes, until the connection closes; ``ends`` says that no more of them will come."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            with contextlib.suppress(ConnectionError):  # the service may answer and close before all of it is sent
                connection.sendall(content)
            if ends:
                with contextlib.suppress(OSError):  # the same: it is not connected any more
                    connection.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    received += part
            return received


@contextlib.contextmanager
def served(model, **limits):
    """A service of a model with these limits, as a `Server`."""
    from htsr.serving.app import Service
    from htsr.serving.limits import Limits
    from htsr.serving.server import listen, make_server

    limits = Limits(**limits)
    server = make_server(Service(model, limits, decoders=1), limits)
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield Server(port, lambda: setattr(server, "should_exit", True))
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
