"""A run folder: its config, in today's words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from htsr.config import read_config


def read_run_config(run: str | Path) -> dict[str, dict[str, Any]]:
    """Return the config of a run, in today's words."""
    return upgrade(read_config(Path(run) / "config.yml"))


def upgrade(config: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the config of an older run in today's words; one of today stays as it is."""
    config = {section: dict(values) for section, values in config.items()}
    config["data"] = upgrade_data(config["data"])
    return config


def upgrade_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data section of an older run or protocol in today's words; one of today stays as it is."""
    data = {name: value for name, value in data.items() if name != "cache"}
    if data.get("name") in ("kth", "mazes") and data.get("stand_in") in (None, "builtin"):
        data["stand_in"] = None if data.get("datadir") else "generated"
    return data
