"""Predictions frame by frame over a WebSocket."""

import contextlib
import json
import socket
import time

import cv2
import numpy as np
import pytest
from serving_client import SHAPE, clip, moved, served
from serving_stub import save_stub
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from htsr.serving.live import HEADER
from htsr.serving.model import ServedModel


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ServedModel(save_stub(tmp_path_factory.mktemp("export") / "stub"))


@pytest.fixture(scope="module")
def server(model):
    with served(model, max_live=3, max_live_fps=1000.0, idle_seconds=3.0, max_message=20_000) as running:
        yield running


@contextlib.contextmanager
def opened(server, query: str = "", **options):
    with connect(f"{server.live}?{query}", compression=None, max_size=None, **options) as client:
        yield client, json.loads(client.recv(10))


def raw(frame: np.ndarray) -> bytes:
    return b"\0" + frame.tobytes()


def read(message: bytes) -> tuple[int, np.ndarray]:
    """Frames observed, and those predicted."""
    observed, *shape = HEADER.unpack_from(message)
    return observed, np.frombuffer(message, np.uint8, offset=HEADER.size).reshape(shape)


def closed(client) -> tuple[str, int]:
    """The last error, and the code of the end."""
    error = ""
    try:
        while True:
            message = client.recv(10)
            if isinstance(message, str):
                error = json.loads(message)["error"]
    except ConnectionClosed as end:
        return error, end.rcvd.code


def test_every_frame_is_observed_and_followed(server):
    frames = clip(0, 6)
    with opened(server, "horizon=4&seed=3") as (client, hello):
        assert hello["frame_shape"] == list(SHAPE)
        assert (hello["horizon"], hello["min_context"], hello["max_message"]) == (4, 2, 20_000)
        for count, frame in enumerate(frames, 1):
            client.send(raw(frame))
            observed, predicted = read(client.recv(10))
            assert observed == count
            if count < 2:  # less than min_context
                assert predicted.shape == (0, *SHAPE)
            else:
                np.testing.assert_array_equal(predicted, moved(frame, 4))


def test_pictures(server):
    with opened(server, "horizon=1") as (client, _):
        for size in (SHAPE[:2], (48, 64)):
            picture = np.full((*size, 3), 90, np.uint8)
            for suffix in (".png", ".jpg"):
                client.send(b"\1" + cv2.imencode(suffix, picture)[1].tobytes())
                observed, predicted = read(client.recv(10))
        assert observed == 4
        np.testing.assert_allclose(predicted, np.full((1, *SHAPE), 90, np.uint8), atol=2)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("hello", "frames are binary messages, received a text"),
        (b"", "received 0 bytes that begin with nothing"),
        (b"\7abc", "received 4 bytes that begin with 07"),
        (b"\0abc", "a raw frame is 12 x 16 x 1 bytes after byte 0, received 3; resize it"),
        (b"\1abc", "the picture is no PNG or JPEG: it begins with 61 62 63"),
        (b"\1\xff\xd8\xff\0\0", "a picture cannot be decoded: it is damaged"),
    ],
)
def test_refused_messages(server, message, error):
    with opened(server) as (client, _):
        client.send(message)
        told, code = closed(client)
    assert error in told
    assert code == 1008


def test_refused_connections(server):
    for query, error in (("horizon=51", "horizon must be 1 to 50"), ("model=x", "unknown argument 'model'")):
        with connect(f"{server.live}?{query}") as client:
            told, code = closed(client)
        assert told.startswith(error)
        assert code == 1008
    with connect(server.live, origin="http://evil.example") as client:
        assert closed(client) == ("pages of other sites may not use this service; open its own page", 1008)
    with connect(server.live, origin=f"http://127.0.0.1:{server.port}") as client:
        assert "frame_shape" in client.recv(10)


def test_messages_that_are_too_long(server):
    with opened(server) as (client, _):
        client.send(bytes(20_001))
        assert closed(client) == ("", 1009)


def test_too_many_connections(server):
    with opened(server), opened(server), opened(server):
        assert server.metric("htsr_live_connections") == 3
        with connect(server.live) as client:
            assert closed(client) == ("there are 3 live connections, no more; try again later", 1013)
    deadline = time.monotonic() + 10
    while server.metric("htsr_live_connections") and time.monotonic() < deadline:
        time.sleep(0.02)
    with opened(server) as (_, hello):
        assert hello["horizon"] == 10


def test_silent_clients_are_closed(server):
    with opened(server) as (client, _):
        assert closed(client) == ("no frame in 3 seconds; connect again", 1000)


def test_clients_that_wait_for_us_are_not_silent(model):
    class Slow:
        def __getattr__(self, name):
            return getattr(model, name)

        def init(self, *arguments):
            time.sleep(3.5)
            return model.init(*arguments)

    with served(Slow(), idle_seconds=2.0) as running, opened(running, "horizon=1") as (client, _):
        for count, frame in enumerate(clip(0, 3), 1):
            client.send(raw(frame))
            assert read(client.recv(10))[0] == count
            time.sleep(1)
        assert closed(client) == ("no frame in 2 seconds; connect again", 1000)


def test_frames_that_come_too_fast_wait(model):
    with served(model, max_live_fps=20.0) as running:
        began = time.monotonic()  # before the service's own clock of the connection
        with opened(running, "horizon=1") as (client, _):
            for count, frame in enumerate(clip(0, 15), 1):
                client.send(raw(frame))
                assert read(client.recv(10))[0] == count
            assert time.monotonic() - began >= 0.4  # of 15 frames five come at once


def test_predictions_are_left_out_not_queued(model):
    """A client that sends frames faster than the model predicts: all are observed, and the last is followed."""

    class Slow:
        def __init__(self):
            self.followed = 0

        def __getattr__(self, name):
            return getattr(model, name)

        def follow(self, *arguments):
            self.followed += 1
            time.sleep(0.2)
            return model.follow(*arguments)

    slow, frames = Slow(), clip(1, 30)
    with served(slow, max_live_fps=1000.0) as running, opened(running, "horizon=2") as (client, _):
        for frame in frames:
            client.send(raw(frame))
            time.sleep(0.01)
        observed = 0
        while observed < len(frames):
            observed, predicted = read(client.recv(10))
        np.testing.assert_array_equal(predicted, moved(frames[-1], 2))
        assert running.metric("htsr_live_observed_total") == len(frames)
        assert running.metric("htsr_live_left_out_total") > 10
        assert slow.followed < 15


def test_a_client_that_does_not_read(model, monkeypatch):
    """Its frames are observed, what is predicted meanwhile is thrown away, and in the end it is closed."""
    monkeypatch.setattr("htsr.serving.server.SILENCE", 0.5)

    class Fast:
        def __getattr__(self, name):
            return getattr(model, name)

        def follow(self, state, horizon, seed):
            return np.zeros((horizon, *SHAPE), np.uint8)

    with served(Fast(), max_live_fps=1000.0, max_live_horizon=2000, idle_seconds=2.0) as running:
        taken = socket.create_connection(("127.0.0.1", running.port))
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with connect(
            f"{running.live}?horizon=2000", sock=taken, compression=None, max_queue=1, close_timeout=0.5
        ) as silent:
            until = time.monotonic() + 60
            with contextlib.suppress(ConnectionClosed, OSError):
                while time.monotonic() < until:
                    silent.send(raw(clip(2, 1)[0]))
                    time.sleep(0.02)
            assert time.monotonic() < until
            taken.close()
        assert running.metric("htsr_live_predicted_total") <= 4  # one of them a message, none of them waits
        assert running.metric("htsr_live_left_out_total") >= 1
        assert running.metric("htsr_live_connections") == 0


def test_live_connections_end_with_the_server(model):
    with served(model) as running, opened(running) as (client, _):
        running.stop()
        assert closed(client)[1] == 1012
