"""What the service takes and gives, what is too much for it, and how it is refused."""

from typing import NamedTuple

KINDS = "mp4, avi, webm, gif, npy, npz, or a zip of png or jpg images"
FORMATS = {"mp4": "video/mp4", "gif": "image/gif", "npz": "application/octet-stream"}


class Limits(NamedTuple):
    """Bounds of everything that clients choose; ``HELP`` says what they are."""

    max_bytes: int = 32 * 2**20
    max_frames: int = 3000
    max_pixels: int = 4096 * 2304
    max_unpacked: int = 256 * 2**20
    max_context: int = 100
    max_horizon: int = 1000
    max_samples: int = 8
    max_predicted: int = 2400
    max_batch: int = 8
    max_requests: int = 64
    max_connections: int = 256
    max_live: int = 8
    max_live_horizon: int = 50
    max_live_fps: float = 30.0
    max_message: int = 2**20
    batch_window: float = 0.005
    upload_seconds: float = 20.0
    decode_seconds: float = 10.0
    deadline: float = 60.0
    idle_seconds: float = 30.0


HELP = {
    "max_bytes": "bytes of an upload",
    "max_frames": "frames of a clip, those before the context included",
    "max_pixels": "pixels of one of its frames, as uploaded",
    "max_unpacked": "bytes of what is packed in an .npz or .zip",
    "max_context": "frames of context",
    "max_horizon": "frames predicted after them",
    "max_samples": "futures of one request",
    "max_predicted": "frames of all futures of all requests that are computed together",
    "max_batch": "requests that are computed together",
    "max_requests": "predictions in progress, from upload to answer; more get 503",
    "max_connections": "open connections; more get 503",
    "max_live": "live connections",
    "max_live_horizon": "frames of a live prediction",
    "max_live_fps": "frames a second of a live connection",
    "max_message": "bytes of a message of a live connection",
    "batch_window": "seconds that a request waits for others to be computed with",
    "upload_seconds": "seconds in which an upload has to arrive",
    "decode_seconds": "seconds that decoding a clip may take, and writing an answer",
    "deadline": "seconds from the end of an upload to its answer; then 504",
    "idle_seconds": "seconds after which a silent live connection, or one that takes no answer, is closed",
}


class Refusal(Exception):
    """An answer that is no prediction: a status and one line, what, expected, received and the way out."""

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.message = status, " ".join(message.split())
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
