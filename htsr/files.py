"""Files and folders that appear whole or not at all, whenever the process or the machine stops."""

import contextlib
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from htsr.errors import InputError

_LEFT_OVER = 24 * 3600  # seconds, after which nobody is still filling a temporary folder


def cache_folder() -> Path:
    """Where decoded videos and fetched weights are kept: ``$HTSR_CACHE``, or ``~/.cache/htsr``.

    Raises:
        InputError: the former is not set, and the user has no home, or none to write to.
    """
    if os.environ.get("HTSR_CACHE"):
        return Path(os.environ["HTSR_CACHE"])
    try:
        folder = Path.home() / ".cache" / "htsr"
        folder.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError) as error:
        reason = getattr(error, "strerror", None) or "this user has none"
        raise InputError(
            f"decoded videos and fetched weights are kept in the home folder, but {reason.lower()}; set HTSR_CACHE to a"
            " folder for them"
        ) from None
    return folder


def require_utf8(path: str | Path) -> str:
    """Return a path as TensorFlow and OpenCV take it; refuse a name that is not UTF-8, at which they end the process.

    Raises:
        InputError: the name is of that kind.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name {text!a} is not UTF-8, which TensorFlow and OpenCV need; rename it") from None
    return text


@contextlib.contextmanager
def new_file(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Context manager: a file to write, which becomes ``path`` when the block ends; the old one stays where it fails.

    Args:
        path: its folder is made where it is missing.
        mode: ``w`` for text (UTF-8, lines that end in a single newline character), ``wb`` for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(8)}")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n", "errors": "backslashreplace"}
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _say_where(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path, shared: bool = False) -> Iterator[Path]:
    """Context manager: a folder to fill, which becomes ``path`` when the block ends, and is gone where it fails.

    Args:
        path: its parent is made where it is missing.
        shared: whether other processes make the same folder: where one of them was faster, its ``path`` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.tmp-{'[0-9a-f]' * 16}"):
        if left.is_dir() and time.time() - left.stat().st_mtime > _LEFT_OVER:
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(8)}")
    try:
        temporary.mkdir()
        yield temporary
        try:
            os.rename(temporary, path)
        except OSError:
            if not (shared and path.is_dir()):
                raise
    except OSError as error:
        _say_where(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _say_where(error: OSError, path: Path) -> None:
    """Name the file in an error of the system that does not: that of a write says nothing of it."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)
