"""What a result was computed with: versions, devices, threads."""

import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

import htsr


def describe() -> dict[str, Any]:
    """Versions, processor, devices and thread count; bits on a CPU change with the last."""
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy", "opencv-python-headless")
    return {
        "htsr": htsr.__version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
        "gpus": [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")],
        "command": sys.argv,
    }


def save(path: str | Path) -> None:
    """Write ``describe()`` as JSON."""
    Path(path).write_text(json.dumps(describe(), indent=1, default=str) + "\n", encoding="utf-8")


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
