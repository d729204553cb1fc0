"""The service: predictions of clips, batches, limits, shutting down. Clips that are none: test_serving_media.py."""

import asyncio
import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command
import numpy as np
import pytest
from serving_client import SHAPE, Server, clip, moved, npy, served
from serving_stub import Stub, save_stub

from htsr.errors import InputError
from htsr.serving.batching import Batcher, Wanted
from htsr.serving.counters import Counters
from htsr.serving.guard import JsonLines
from htsr.serving.limits import HELP, Limits
from htsr.serving.model import ServedModel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stub(tmp_path_factory.mktemp("export") / "stub")


@pytest.fixture(scope="module")
def model(folder):
    return ServedModel(folder)


@pytest.fixture(scope="module")
def stochastic(tmp_path_factory):
    return ServedModel(save_stub(tmp_path_factory.mktemp("export") / "stochastic", stochastic=True))


@pytest.fixture(scope="module")
def server(model):
    with served(model, max_context=8, max_horizon=40, max_predicted=100, max_bytes=2**20) as running:
        yield running


def arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content)) as file:
        return dict(file)


def test_prediction_of_a_clip(server):
    frames = clip(0)
    status, headers, content = server.predict(npy(frames), "horizon=7&context=3&format=npz")
    assert status == 200
    answer = arrays(content)
    np.testing.assert_array_equal(answer["context"], frames[2:])
    np.testing.assert_array_equal(answer["prediction"], moved(frames[-1], 7)[np.newaxis])
    report = json.loads(headers["prediction-report"])
    assert report["used"] == {"count": 3, "last": 4, "stride": 1}
    assert report["frames"] == 5
    assert report["resized"] is False
    assert report["horizon"] == 7


@pytest.mark.parametrize(("kind", "begins"), [("mp4", b"\0\0\0"), ("gif", b"GIF89a"), ("npz", b"PK\x03\x04")])
def test_formats(server, kind, begins):
    status, headers, content = server.predict(npy(clip(1)), f"horizon=3&format={kind}")
    assert status == 200
    assert content.startswith(begins)
    assert headers["content-disposition"] == f'attachment; filename="prediction.{kind}"'


def test_frames_become_those_of_the_model(server):
    frames = np.zeros((4, 24, 32, 3), np.uint8)
    frames[:, :, :16, 1] = 200
    frames[1:, 0, 0] = np.arange(1, 4)[:, np.newaxis]
    _, headers, content = server.predict(npy(frames), "format=npz&horizon=1")
    assert arrays(content)["context"].shape == (4, *SHAPE)
    report = json.loads(headers["prediction-report"])
    assert report["resized"] == {"to": [16, 12], "fit": "stretch"}
    assert report["grey"] is True
    assert report["size"] == [32, 24]


def test_stride_of_the_training_data(tmp_path):
    strided = ServedModel(save_stub(tmp_path / "m", config={"data": {"stride": 2}, "eval": {"context": 3}}))
    frames = clip(2, 8)
    with served(strided) as running:
        _, headers, content = running.predict(npy(frames), "format=npz&horizon=1")
    np.testing.assert_array_equal(arrays(content)["context"], frames[[3, 5, 7]])
    assert json.loads(headers["prediction-report"])["used"] == {"count": 3, "last": 7, "stride": 2}


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("horizon=0", r"400 horizon must be 1 to 40, received '0'"),
        ("horizon=41", r"413 horizon must be 1 to 40, received '41'"),
        (f"horizon={'9' * 5000}", r"413 horizon must be 1 to 40, received '9{50}\.\.\.'"),
        ("horizon=1e3", r"400 horizon must be a whole number, 1 to 40, received '1e3'"),
        ("horizon=%F0%9F%92%A9", r"400 horizon must be a whole number, 1 to 40, received '\\U0001f4a9'"),
        ("horizon=%D9%A3", r"400 horizon must be a whole number"),
        ("horizon=-5", r"400 horizon must be 1 to 40, received '-5'"),
        ("context=1", r"400 context must be 2 to 8, received '1'"),
        ("context=9", r"413 context must be 2 to 8"),
        ("seed=-1", r"400 seed must be 0 to 2147483647"),
        ("num_samples=2", r"400 this model has one future for a clip, received num_samples=2; set 1"),
        ("horizon=40&num_samples=3", r"413 horizon x num_samples may be 100, received 40 x 3; predict fewer"),
        ("horizn=4", r"400 unknown argument 'horizn'; did you mean 'horizon'\?"),
        ("path=/etc/passwd", r"400 unknown argument 'path'; there are context, horizon"),
        ("horizon=4&horizon=5", r"400 horizon is given twice; give it once"),
        ("format=exe", r"400 format must be mp4, gif or npz, received 'exe'"),
    ],
)
def test_refused_arguments(server, query, error):
    assert re.fullmatch(f"{error}.*", server.error(npy(clip(0)), query))


def test_refused_requests(server):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert server.error(b"--x", **form).startswith("415 the body has to be the clip itself, received a form; curl")
    assert server.error(b"").startswith("415 the body is empty: expected mp4, avi,")
    assert server.error(bytes(2**20 + 1)).startswith("413 a clip may have 1048576 bytes, received more")
    foreign = {"Origin": "http://evil.example"}
    assert server.error(npy(clip(0)), **foreign).startswith("403 pages of http://evil.example may not use this")
    assert server.predict(npy(clip(0)), Origin=f"http://127.0.0.1:{server.port}")[0] == 200
    assert re.match(r"404 expected POST /predict, .* received GET /%C3%BC", server.refusal("GET", "/%c3%bc"))
    assert server.refusal("GET", "/predict").startswith("405 expected POST /predict")
    assert server.refusal("GET", "/../../etc/passwd").startswith("404 ")
    assert server.error(npy(clip(0, 1))).startswith("422 the model reads at least 2 frames, the clip has 1; send more")
    assert server.raw(b"GARBAGE\r\n\r\n").endswith(b'{"error": "Invalid HTTP request received; expected HTTP/1.1"}')


def test_chunked_upload_is_counted(server):
    parts = (bytes(2**16) for _ in range(64))
    try:
        status, _, content = server.request("POST", "/predict", parts)
    except (BrokenPipeError, ConnectionResetError):  # the refusal was sent before all was read
        return
    assert (status, json.loads(content)["error"][:12]) == (413, "a clip may h")


def test_requests_of_one_kind_are_computed_together(model):
    """Each gets its own answer."""
    with served(model, batch_window=0.5, max_batch=4) as running, ThreadPoolExecutor(8) as clients:
        clips = [clip(seed) for seed in range(8)]
        answers = list(clients.map(lambda frames: running.predict(npy(frames), "horizon=5&format=npz"), clips))
        for frames, (status, _, content) in zip(clips, answers, strict=True):
            assert status == 200
            np.testing.assert_array_equal(arrays(content)["prediction"][0], moved(frames[-1], 5))
        batches = running.metric("htsr_batch_size_count")
        assert batches < 8
        assert running.metric("htsr_batch_size_sum") == 8


def test_a_seed_gives_the_same_future_in_any_company(stochastic):
    with served(stochastic, batch_window=0.2) as running, ThreadPoolExecutor(6) as clients:
        frames = clip(3) // 2
        answers = list(
            clients.map(
                lambda seed: running.predict(npy(frames), f"horizon=2&num_samples=2&format=npz{seed}"),
                ["&seed=7", "", "", "&seed=7", "", "&seed=7"],
            )
        )
    expected = np.stack([moved(frames[-1], 2) + 7, moved(frames[-1], 2) + 8])
    for index in (0, 3, 5):
        np.testing.assert_array_equal(arrays(answers[index][2])["prediction"], expected)
        assert json.loads(answers[index][1]["prediction-report"])["seed"] == 7


class Slow:
    """A model that takes its time, and says when it is asked."""

    def __init__(self, model, seconds):
        self._model, self._seconds, self.asked = model, seconds, threading.Event()

    def __getattr__(self, name):
        return getattr(self._model, name)

    def predict(self, *arguments):
        self.asked.set()
        time.sleep(self._seconds)
        return self._model.predict(*arguments)


def test_too_many_requests_are_told_to_come_again(model):
    slow = Slow(model, 0.5)
    with served(slow, max_requests=2, max_batch=1) as running, ThreadPoolExecutor(2) as clients:
        two = [clients.submit(running.predict, npy(clip(seed)), "format=npz") for seed in range(2)]
        assert slow.asked.wait(10)
        while running.metric("htsr_predictions_in_progress") < 2:
            time.sleep(0.01)
        status, headers, content = running.predict(npy(clip(2)))
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(content) == {"error": "2 predictions are in progress, no more; try again"}
        assert [future.result()[0] for future in two] == [200, 200]
        assert running.predict(npy(clip(2)))[0] == 200


def test_an_answer_that_takes_too_long(model):
    slow = Slow(model, 1.5)
    with served(slow, deadline=0.7) as running:
        assert running.error(npy(clip(0))).startswith("504 no answer within 0.7 seconds; try again")
        assert running.metric("htsr_predictions_in_progress") == 0
        assert running.metric("htsr_queue_depth") == 0
        assert 'htsr_errors_total{code="504"} 1' in running.request("GET", "/metrics")[2].decode()


def test_a_model_that_fails(model, caplog):
    class Failing(Slow):
        def predict(self, *arguments):
            raise RuntimeError("no memory at /secret/place")

    with served(Failing(model, 0)) as running:
        assert running.error(npy(clip(0))) == "500 internal error; the log of the server says more"
        assert running.request("GET", "/healthz")[0] == 200
    assert "no memory at /secret/place" in caplog.text


def test_uploads_that_never_end(model):
    with served(model, upload_seconds=0.5) as running:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
        assert b"408" in running.raw(head + b"GIF89a")[:30]
        assert running.metric("htsr_predictions_in_progress") == 0


def test_clients_that_go_away(model):
    slow = Slow(model, 0.5)
    with served(slow) as running:
        body = npy(clip(0))
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for sent in (head, head + body[:100], head + body):
            with socket.create_connection(("127.0.0.1", running.port)) as connection:
                connection.sendall(sent)
                time.sleep(0.1)
        deadline = time.monotonic() + 10
        while running.metric("htsr_predictions_in_progress") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.metric("htsr_predictions_in_progress") == 0
        assert 'code="499"' in running.request("GET", "/metrics")[2].decode()
        assert running.predict(body)[0] == 200


def test_silent_connections_are_closed(model, monkeypatch):
    from htsr.serving import server as module

    monkeypatch.setattr(module, "SILENCE", 0.5)
    with served(model, max_connections=3) as running:
        slow = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(3)]
        for connection in slow:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHo")
        answer = running.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answer
        for connection in slow:
            try:
                assert connection.recv(100) == b""
            except ConnectionResetError:
                pass
            finally:
                connection.close()
        assert running.request("GET", "/healthz")[0] == 200


def test_a_client_that_takes_its_answer_slowly_is_not_silent(model, monkeypatch):
    from htsr.serving import server as module
    from htsr.serving.app import Service

    class Connection(module.H11Protocol):
        def __init__(self, left, each):
            self.cycle, self.transport, self._left, self._each, self.ended = None, self, left, each, False

        def get_write_buffer_size(self):
            self._left -= self._each
            return self._left

        def abort(self):
            self.ended = True

    async def tick(server, times):
        for _ in range(times):
            await server.on_tick(0)
            await asyncio.sleep(0.02)

    monkeypatch.setattr(module, "SILENCE", 0.05)
    server = module.make_server(Service(model, Limits()), Limits())
    server.config.load()
    slow, stuck = Connection(1000, 10), Connection(1000, 0)
    server.server_state.connections |= {slow, stuck}
    asyncio.run(tick(server, 8))
    assert stuck.ended
    assert not slow.ended


def test_page_model_health_and_metrics(server):
    status, headers, content = server.request("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    linked = set(re.findall(r'(?:src|href)="([\w.]+\.(?:js|css))"', content.decode()))
    linked |= {"camera.js", "clip.js", "npz.js"}
    for name in linked:
        status, _, content = server.request("GET", f"/{name}")
        assert status == 200
        assert not re.search(rb"https?://", content), name
    about = json.loads(server.request("GET", "/model")[2])
    assert about["frame_shape"] == list(SHAPE)
    assert about["limits"]["max_horizon"] == 40
    assert "config" not in about
    assert json.loads(server.request("GET", "/healthz")[2]) == {"status": "ok", "model": "stub"}
    assert server.metric("process_resident_memory_bytes") > 1e7
    text = server.request("GET", "/metrics")[2].decode()
    assert 'htsr_requests_total{path="/healthz",code="200"}' in text


def test_counters():
    counters = Counters()
    for seconds in (0.003, 0.02, 100):
        counters.request("/predict", 200, seconds)
    counters.request("/predict", 413, 0.01)
    lines = counters.text().splitlines()
    assert 'htsr_requests_total{path="/predict",code="200"} 3' in lines
    assert 'htsr_errors_total{code="413"} 1' in lines
    assert 'htsr_request_seconds_bucket{path="/predict",le="0.01"} 2' in lines
    assert 'htsr_request_seconds_bucket{path="/predict",le="60"} 3' in lines
    assert 'htsr_request_seconds_bucket{path="/predict",le="+Inf"} 4' in lines
    assert 'htsr_request_seconds_sum{path="/predict"} 100.033000' in lines


def test_batches_are_bounded_by_clips_and_by_frames():
    sizes = []

    def compute(clips, horizon, seed, num_samples):
        assert seed is None
        return np.zeros((num_samples, len(clips), horizon, 1, 1, 1), np.uint8) + clips[:, -1, 0, 0, 0].reshape(
            -1, 1, 1, 1, 1
        )

    async def run(wanted):
        batcher = Batcher(compute, False, max_batch=4, max_predicted=30, window=0.01, seen=sizes.append)
        task = asyncio.create_task(batcher.run())
        clips = [np.full((2, 1, 1, 1), value, np.uint8) for value in range(6)]
        answers = await asyncio.gather(*(batcher.predict(frames, wanted) for frames in clips))
        assert [int(answer[0, 0, 0, 0, 0]) for answer in answers] == list(range(6))
        task.cancel()
        batcher.close()

    asyncio.run(run(Wanted(2, 5, 1, 3)))
    assert sizes == [4, 2]
    sizes.clear()
    asyncio.run(run(Wanted(2, 15, 1, None)))
    assert sizes == [2, 2, 2]
    sizes.clear()
    asyncio.run(run(Wanted(2, 100, 1, None)))
    assert sizes == [1] * 6


def test_every_limit_is_described():
    assert list(HELP) == list(Limits._fields)


@pytest.mark.parametrize(
    ("about", "error"),
    [
        ({"frame_shape": [12, 16, 2]}, r"frames of 2 channels, which no video has; serve another one"),
        ({"frame_shape": [12, 16]}, r"does not say what the model is"),
        ({"min_context": "2"}, r"does not say what the model is"),
    ],
)
def test_refused_descriptions(folder, tmp_path, about, error):
    said = json.loads((folder / "assets" / "model.json").read_text())
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "model.json").write_text(json.dumps({**said, **about}))
    with pytest.raises(InputError, match=error):
        ServedModel(tmp_path)


def test_refused_exports(folder, tmp_path):
    with pytest.raises(InputError, match=r"is no export: it has no assets/model.json; write one with htsr export"):
        ServedModel(tmp_path)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "model.json").write_bytes((folder / "assets" / "model.json").read_bytes())
    with pytest.raises(InputError, match=r"cannot be loaded \(.*\); export the model again"):
        ServedModel(tmp_path)
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(InputError, match=r"has no signature predict, predict_uint8, init_uint8"):
        ServedModel(tmp_path)


def test_a_model_that_has_diverged(tmp_path):
    import tensorflow as tf

    stub = Stub(False)
    stub.weight.assign(np.nan)
    save_stub(tmp_path)
    tf.saved_model.save(stub, str(tmp_path), signatures=stub.signatures())
    with pytest.raises(InputError, match=r"predicts nan or inf: its training has diverged"):
        ServedModel(tmp_path)


def test_log_of_json():
    """A line a request, and a bug with its traceback."""
    record = logging.LogRecord("htsr.serving", logging.INFO, "", 0, "shown", (), None)
    record.request = {
        "client": "::1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "milliseconds": 3.5,
        "bytes": 7,
    }
    found = json.loads(JsonLines().format(record))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found == {"level": "info", **record.request}
    try:
        raise RuntimeError("a\nb")
    except RuntimeError:
        record = logging.LogRecord("htsr.serving", logging.ERROR, "", 0, "a bug: %s", ("x",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "a bug: x"
    assert "RuntimeError: a\nb" in json.loads(line)["traceback"]


def test_script_serves_and_ends_its_work_on_sigterm(folder):
    """What is running is finished, what is new is refused; TensorFlow alone runs the model."""
    arguments = [sys.executable, "-c", SCRIPT, "--model", folder, "--port", "0", "--batch-window", "1.5"]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        port = int(re.fullmatch(r"serving stub at http://127\.0\.0\.1:(\d+)\n", line)[1])
        running = Server(port, None)
        assert running.request("GET", "/healthz")[0] == 200
        with ThreadPoolExecutor(1) as client:
            answer = client.submit(running.predict, npy(clip(4)), "horizon=2&format=npz")
            while running.metric("htsr_queue_depth") < 1:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            status, _, content = answer.result()
        assert status == 200
        np.testing.assert_array_equal(arrays(content)["prediction"][0], moved(clip(4)[-1], 2))
        with pytest.raises(ConnectionError):
            running.request("GET", "/healthz")
        log = process.stderr.read()
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        process.stderr.close()
    assert re.search(r"^[\d-]+ [\d:,]+ 127\.0\.0\.1 POST /predict 200 \d+ ms \d+ B$", log, re.M)
    assert "Traceback" not in log
    assert "foreign" not in log


SCRIPT = """
import sys
from htsr.cli.main import main
from htsr.serving import server
run = server.serve
def checked(*arguments):
    foreign = {"tf_keras", "tensorflow_probability", "htsr.models"} & set(sys.modules)
    assert not foreign, f"foreign {foreign}"
    run(*arguments)
server.serve = checked
main(["serve", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--model", "nowhere"], r"error: nowhere is no export"),
        (["--model", ".", "--max-batch", "0"], r"error: --max-batch must be at least 1, received 0"),
        (["--model", ".", "--deadline", "nan"], r"error: --deadline must be above 0, received nan"),
    ],
)
def test_script_refuses_in_one_line(tmp_path, arguments, error):
    done = command.run_child("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(f"{error}.*\n", done.stderr)


def test_a_taken_address_is_refused(model):
    from htsr.serving.server import serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen at 127.0.0.1, port {port} \(.*\); give another"):
            serve(model, "127.0.0.1", port, Limits())
