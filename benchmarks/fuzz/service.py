"""Send damaged clips, nonsense arguments, broken HTTP and odd live messages to a service, and count its answers.

    python -m benchmarks.fuzz.service --requests 10000 --seed 1 --out service.json

The model is the stub of the tests. Every answer has to be a prediction, or one line of JSON with a status of 400 to
499, or 503; or the connection closes. At the end the service has to answer a good clip, with nothing left in progress;
its memory and descriptors are printed at the beginning and at the end.
"""

import argparse
import collections
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz.spoil import archive, npy, spoil
from benchmarks.fuzz.table import ROOT, saved
from benchmarks.fuzz.videos import containers_of, pictures_of

sys.path[:0] = [str(ROOT / "tests" / "serving")]
QUERY = (
    "horizon=2", "horizon=-1", "horizon=9999999999", "context=1", "context=99", "num_samples=9", "seed=1", "seed=%00",
    "format=npz", "format=gif", "format=exe", "x=1", "horizon=2&horizon=3", "%ff", "a" * 3000, "",
)  # fmt: skip
LINES = (
    b"POST /predict HTTP/1.1", b"GET / HTTP/1.1", b"GET /live HTTP/1.1", b"GET /../../etc/passwd HTTP/1.1",
    b"\x16\x03\x01\x02", b"PRI * HTTP/2.0", b"OPTIONS * HTTP/1.1", b"GET " + b"/a" * 9000 + b" HTTP/1.1",
)  # fmt: skip
HEADERS = (
    b"Host: x", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: 3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Upgrade: websocket\r\nConnection: upgrade",
    b"Expect: 100-continue", b"X: " + b"a" * 70_000, b"\xff\xfe: \x00", b"Origin: http://evil", b"Range: bytes=0-",
    b"Content-Type: multipart/form-data",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    import serving_client
    from serving_stub import save_stub

    from htsr.serving.model import ServedModel

    draw, statuses, wrong = random.Random(args.seed), collections.Counter(), []
    goods = clips()
    with tempfile.TemporaryDirectory(prefix="htsr-fuzz-") as folder:
        model = ServedModel(save_stub(Path(folder) / "stub"))
        limits = {"max_bytes": 2**20, "upload_seconds": 2.0, "decode_seconds": 5.0, "max_frames": 200}
        with serving_client.served(model, **limits) as server:
            server.predict(goods[0], "horizon=2")
            before = state()
            for number in range(args.requests):
                status = ask(server, draw, goods)
                statuses[status] += 1
                if not (status == "closed" or 100 <= status < 500 or status == 503):
                    wrong.append([number, status])
                if number % 1000 == 999:
                    print(number + 1, dict(statuses), state(), flush=True)
            good = server.predict(goods[0], "horizon=2&format=npz")[0]
            found = {
                "requests": args.requests, "seed": args.seed, "statuses": {str(k): v for k, v in statuses.items()},
                "wrong": wrong, "a good clip at last": good, "before": before, "after": state(),
                "in progress": server.metric("htsr_predictions_in_progress"),
            }  # fmt: skip
    print(json.dumps(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


def clips() -> list[bytes]:
    """Return good clips."""
    frames = np.random.default_rng(0).integers(0, 200, (6, 12, 16, 1), np.uint8)
    return [saved(frames), *containers_of().values(), pictures_of()["gif"]]


def ask(server, draw: random.Random, goods: list[bytes]) -> int | str:
    """Send one request: the status, or ``closed``."""
    broken = draw.random() < 0.3  # and then no more comes, which of a whole request says that its client has gone
    if broken:
        head = [draw.choice(LINES), *(draw.choice(HEADERS) for _ in range(draw.randrange(4)))]
        content = b"\r\n".join([*head, b"Connection: close", b"", draw.randbytes(draw.randrange(100))])
    else:
        body = spoil(draw, draw.choice(goods), goods) if draw.random() < 0.8 else draw.choice(goods)
        if draw.random() < 0.2:
            body = archive(draw, {"0.png": goods[-1], "a.npy": npy(draw)})
        query = "&".join(draw.choice(QUERY) for _ in range(draw.randrange(3)))
        head = f"POST /predict?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        content = head.encode() + body
    try:
        answer = server.raw(content, timeout=60, ends=broken)
    except (TimeoutError, ConnectionError, BrokenPipeError) as error:
        return "closed" if isinstance(error, ConnectionError) else 599
    if not answer:
        return "closed"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status >= 400:
        try:
            line = json.loads(body)["error"]
        except (ValueError, KeyError):
            return 598
        if "\n" in line or "Traceback" in line:
            return 597
    return status


def state() -> dict[str, int]:
    """Memory of this process, MiB, its descriptors, and its temporary files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    left = len([name for name in os.listdir(tempfile.gettempdir()) if name.startswith("htsr-")])
    return {"MiB": pages * 4096 >> 20, "descriptors": len(os.listdir("/proc/self/fd")), "temporary": left}


if __name__ == "__main__":
    main()
