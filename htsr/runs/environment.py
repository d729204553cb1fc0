"""What a result was computed with: versions, devices, threads, memory; and a TensorFlow that starts without chatter."""

import importlib.metadata
import json
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from htsr import __version__


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without the lines its C++ libraries print; scripts call it before importing anything else.

    They are printed before any log level is read, so the file descriptor itself is pointed elsewhere meanwhile. What
    an import that fails has printed is shown. ``TF_CPP_MIN_LOG_LEVEL``, where set, is respected: with 0 nothing is
    hidden.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()  # looks for CUDA, and says so
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def describe() -> dict[str, Any]:
    """Versions, processor, devices and thread count; bits on a CPU change with the last."""
    import tensorflow as tf
    from tensorflow.python.util import _pywrap_util_port

    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy", "av", "opencv-python-headless")
    return {
        "htsr": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "onednn": _pywrap_util_port.IsMklEnabled(),
        "gpus": [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")],
        "command": sys.argv,
    }


def save(path: str | Path) -> None:
    """Write ``describe()`` as JSON."""
    Path(path).write_text(json.dumps(describe(), indent=1, default=str) + "\n", encoding="utf-8")


def peak_memory_mib(usage: resource.struct_rusage | None = None) -> int:
    """Return the most memory this process has had in use so far, or the one whose ``usage`` is given, MiB."""
    peak = (usage or resource.getrusage(resource.RUSAGE_SELF)).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # opencv-python in place of the headless build
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0]
    return platform.processor()
