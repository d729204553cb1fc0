"""Files and folders that appear whole or not at all, whenever the process or the machine stops."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


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
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Context manager: a folder to fill, which becomes ``path`` when the block ends, and is gone where it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process with our number that was killed
    try:
        temporary.mkdir()
        yield temporary
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
