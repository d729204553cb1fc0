"""What was found in files, remembered with their sizes and times of change, so that each is read once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from htsr.data.video.files import images_in
from htsr.files import cache_folder, new_file


class Remembered:
    """``find(path)`` of files, and of folders of images.

    Args:
        name: of the file in the cache folder that keeps it.
        find: from a path, what is to be known of it, as JSON has it.
    """

    def __init__(self, name: str, find: Callable[[Path], Any]):
        self._path, self._find = cache_folder() / name, find
        try:
            self._known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}
        self._new: dict[str, list] = {}

    def __call__(self, path: Path, *about: Any) -> Any:
        """Return what ``find`` makes of the path, or made of it when it, and ``about``, were the same."""
        name, state = str(path.resolve()), [*_state(path), *about]
        known = self._new.get(name) or self._known.get(name)
        if not known or known[0] != state:
            known = self._new[name] = [state, self._find(path)]
        return known[1]

    def save(self) -> None:
        """Keep what is new."""
        if self._new:
            with new_file(self._path) as file:
                file.write(json.dumps({**self._known, **self._new}))


def files_of(path: Path) -> list[Path]:
    """A file, or the images of a folder by name."""
    return sorted(images_in(path)) if path.is_dir() else [path]


def _state(path: Path) -> list:
    states = [(file.name, file.stat()) for file in files_of(path)]
    return [[name, state.st_size, state.st_mtime_ns, state.st_ctime_ns] for name, state in states]
