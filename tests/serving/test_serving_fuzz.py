"""Nonsense, seeded: whatever is sent, the service answers in one line, or closes, and goes on."""

import io
import json
import random
import struct

import cv2
import numpy as np
import pytest
from serving_client import clip, moved, npy, served
from serving_stub import save_stub
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from htsr.data.video.files import write_video
from htsr.serving.model import ServedModel

SENT = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = ServedModel(save_stub(tmp_path_factory.mktemp("export") / "stub"))
    with served(model, max_bytes=2**20, upload_seconds=2.0, decode_seconds=5.0, max_live_fps=1000.0) as running:
        yield running
        np.testing.assert_array_equal(_prediction(running), moved(clip(0)[-1], 3))
        assert running.metric("htsr_predictions_in_progress") == 0
        assert running.metric("htsr_live_connections") == 0


def _prediction(server) -> np.ndarray:
    status, _, content = server.predict(npy(clip(0)), "horizon=3&format=npz")
    assert status == 200
    with np.load(io.BytesIO(content)) as file:
        return file["prediction"][0]


@pytest.fixture(scope="module")
def bodies(tmp_path_factory) -> list[bytes]:
    """Good clips to be spoilt."""
    folder, frames = tmp_path_factory.mktemp("bodies"), clip(5, 8, (32, 32, 3))
    found = [npy(frames)]
    for name, codec in (("a.mp4", "mp4v"), ("a.avi", "XVID"), ("a.webm", "VP80")):
        write_video(folder / name, frames, 10, codec)
        found.append((folder / name).read_bytes())
    np.savez_compressed(folder / "a.npz", frames)
    return [*found, (folder / "a.npz").read_bytes()]


def test_spoilt_clips(server, bodies):
    chance, statuses = random.Random(1), set()
    for _ in range(SENT):
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.choice((0, 1, 5, 50))):
            body[chance.randrange(len(body))] = chance.randrange(256)
        spoil = chance.choice(("nothing", "cut", "repeat", "number"))
        if spoil == "cut":
            del body[chance.randrange(len(body)) :]
        elif spoil == "repeat":
            body += body[: chance.randrange(len(body))]
        elif spoil == "number":
            at = chance.randrange(len(body) - 4)
            body[at : at + 4] = struct.pack("<I", chance.choice((0, 2**31 - 1, 2**32 - 1)))
        status, headers, content = server.predict(bytes(body), "horizon=2")
        statuses.add(status)
        if status != 200:
            assert status in (413, 415, 422), content
            assert headers["content-type"] == "application/json"
            (error,) = json.loads(content).values()
            assert "\n" not in error
    assert {200, 422} <= statuses


def test_nonsense_arguments(server):
    chance, body = random.Random(2), npy(clip(0))
    names = ("horizon", "context", "num_samples", "seed", "format", "model", "", "%E2%80%AE", "a" * 3000)
    values = ("", "-1", "1e9", "9" * 400, "NaN", "%00", "%ff", "../../etc/passwd", "http://x/", "1;2", "[]", "None")
    for _ in range(SENT):
        query = "&".join(f"{chance.choice(names)}={chance.choice(values)}" for _ in range(chance.randrange(1, 4)))
        assert server.error(body, query)[:3] in ("400", "413")


def test_nonsense_requests(server):
    chance = random.Random(3)
    lines = (
        b"POST /predict HTTP/1.1",
        b"GET / HTTP/1.1",
        b"GET /live HTTP/1.1",
        b"\x16\x03\x01\x02",
        b"PRI * HTTP/2.0",
    )
    headers = (
        b"Host: x",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Upgrade: websocket\r\nConnection: upgrade",
        b"Expect: 100-continue",
        b"X: " + b"a" * 70_000,
        b"\xff\xfe: \x00",
    )
    for _ in range(SENT):
        request = [chance.choice(lines), *(chance.choice(headers) for _ in range(chance.randrange(4)))]
        content = b"\r\n".join([*request, b"Connection: close", b"", chance.randbytes(chance.randrange(100))])
        answer = server.raw(content, timeout=10, ends=True)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer
        assert b"Traceback" not in answer


def test_nonsense_live_messages(server):
    chance = random.Random(4)
    picture = b"\1" + cv2.imencode(".png", clip(0)[0])[1].tobytes()
    for _ in range(SENT // 3):
        with connect(f"{server.live}?horizon={chance.randrange(1, 4)}", compression=None) as client:
            assert "frame_shape" in client.recv(10)
            try:
                for _ in range(chance.randrange(1, 6)):
                    message = bytearray(chance.choice((picture, b"\0" + clip(1)[0].tobytes())))
                    if chance.random() < 0.5:
                        message[chance.randrange(len(message))] = chance.randrange(256)
                    if chance.random() < 0.2:
                        del message[chance.randrange(len(message)) :]
                    client.send(chance.choice((bytes(message), bytes(message), chance.randbytes(50), "text \0 {}")))
                    answer = client.recv(10)
                    assert isinstance(answer, bytes) or list(json.loads(answer)) == ["error"]
                code = None
            except ConnectionClosed as end:
                code = end.rcvd and end.rcvd.code
        assert code in (None, 1008)
