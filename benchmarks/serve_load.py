"""How long do concurrent clients wait for the service, are its answers right, and does its memory stay where it is?

    python -m benchmarks.serve_load --model exported/conv_lstm [--clients 50] [--rounds 4] [--horizon 20]

Starts htsr serve on a free port of this machine. Each client has a clip of its own, uploads it once a round, all at the
same time, and holds the answer against the model loaded here. Clients send seeds, and with those a model that draws its
futures computes one clip at a time (`htsr.serving.batching`); ``--unseeded`` leaves them out, and then the context in
an answer is checked alone.
"""

import argparse
import http.client
import io
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from htsr.runs import environment

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--context", type=int, default=10)
    parser.add_argument("--horizon", type=int, default=20)
    parser.add_argument("--unseeded", action="store_true")
    args = parser.parse_args()
    clients = [Client(number, args) for number in range(args.clients)]
    expect(clients, args)
    command = [sys.executable, "-m", "htsr", "serve", "--model", args.model, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+)$", server.stderr.readline()).group(1))
        with ThreadPoolExecutor(args.clients + 1) as threads:
            threads.submit(server.stderr.read)  # its log
            load(port, clients, args, threads)
            server.terminate()
    finally:
        server.kill()
        server.wait()


class Client:
    """One with a clip: a square that moves."""

    def __init__(self, number: int, args: argparse.Namespace):
        draw = np.random.default_rng(number)
        self.frames = np.zeros((args.context, 64, 64), np.uint8)
        place, speed = draw.integers(8, 40, 2), draw.integers(-2, 3, 2)
        for t, frame in enumerate(self.frames):
            y, x = np.clip(place + t * speed, 0, 48)
            frame[y : y + 16, x : x + 16] = draw.integers(100, 255)
        file = io.BytesIO()
        np.save(file, self.frames)
        self.body, self.seed, self.expected = file.getvalue(), number, np.zeros(0)
        self.query = f"/predict?format=npz&context={args.context}&horizon={args.horizon}"
        self.query += "" if args.unseeded else f"&seed={number}"

    def ask(self, port: int) -> tuple[int, float, int]:
        """Status, seconds, and the largest difference to what is right."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", self.query, self.body)
        answer = connection.getresponse()
        content = answer.read()
        seconds = time.perf_counter() - began
        connection.close()
        if answer.status != 200:
            return answer.status, seconds, 0
        with np.load(io.BytesIO(content)) as file:
            right = np.array_equal(file["context"][..., 0], self.frames)
            received = file["prediction"].astype(int)
        off = 0 if not self.expected.size else int(np.abs(received - self.expected).max())
        return answer.status, seconds, off if right else 255


def expect(clients: list[Client], args: argparse.Namespace) -> None:
    """What the model itself says of every clip, one at a time."""
    environment.import_tensorflow_quietly()
    import tensorflow as tf

    loaded = tf.saved_model.load(args.model)
    for client in clients if not args.unseeded else []:
        context = tf.constant(client.frames[np.newaxis, ..., np.newaxis])
        scalars = {"horizon": args.horizon, "seed": client.seed, "num_samples": 1}
        numbers = {name: tf.constant(value) for name, value in scalars.items()}
        frames = loaded.signatures["predict_uint8"](context=context, **numbers)["frames"]
        client.expected = frames.numpy()[:, 0].astype(int)


def load(port: int, clients: list[Client], args: argparse.Namespace, threads: ThreadPoolExecutor) -> None:
    about = environment.describe()
    print(
        f"{about['processor']}, {about['threads']} threads; load average {Path('/proc/loadavg').read_text().split()[0]}"
    )
    print(f"{args.clients} clients at once, {args.context} frames to {args.horizon}; seconds")
    print("| round | p50 | p95 | p99 | all done after | refused | largest error (of 255) | server's RSS, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| before | | | | | | | {metric(port, 'process_resident_memory_bytes') / 2**20:.0f} |")
    for number in range(1, args.rounds + 1):
        began = time.perf_counter()
        answers = list(threads.map(lambda client: client.ask(port), clients))
        wall = time.perf_counter() - began
        statuses, seconds, off = zip(*answers, strict=True)
        p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
        memory = metric(port, "process_resident_memory_bytes") / 2**20
        refused = sum(status != 200 for status in statuses)
        print(f"| {number} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {wall:.2f} | {refused} | {max(off)} | {memory:.0f} |")
    clips, batches = (metric(port, f"htsr_batch_size_{part}") for part in ("sum", "count"))
    print(f"clips a batch: {clips / batches:.1f}")


def metric(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))


if __name__ == "__main__":
    main()
