"""``model.md``: what a run's model is, where it is from, how it did, how to use it. Facts of the run folder alone."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from htsr.errors import DAMAGE, InputError
from htsr.report.tables import block, headlines, markdown, title
from htsr.runs.checkpoints import read_manifest
from htsr.runs.folder import find_run, read_run_config, results_of

CARD, IMPORTED = "model.md", "imported.json"


def write_card(logdir: str | Path, name: str | None = None, results: str | Path | None = None) -> Path:
    """Write ``model.md`` into a run folder, from its config, newest checkpoint, newest evaluation and, where it was
    imported, ``imported.json``; an earlier card is replaced.

    Args:
        logdir: the run folder.
        name: what it is called in the card; None: as the folder.
        results: the run folder to take the evaluation from; None: the same.

    Returns:
        The card's path.

    Raises:
        InputError: no run, or no checkpoint.
    """
    run = find_run(logdir)
    config, manifest = read_run_config(run), read_manifest(run / "model")
    arrays = [about for key, about in manifest["arrays"].items() if key.startswith("model/")]
    parameters = sum(math.prod(about["shape"]) for about in arrays)
    stored = " and ".join(sorted({about["dtype"] for about in arrays}))
    name = name or run.name
    model = config["model"]
    cell = model.get("cell", model.get("translator", ""))
    kind = f"{model['name']} {cell['name'] if isinstance(cell, dict) else cell}".strip()
    shape = "x".join(map(str, model.get("frame_shape", [])))
    lines = [
        f"# {name}",
        "",
        f"- model: {kind}, {parameters:,} parameters, stored as {stored}, frames of {shape}",
        f"- step {manifest['step']:,}; SHA-256 of its `state.npz`: `{manifest['files']['state.npz']['sha256']}`",
        f"- data: {_inline(config['data'])}",
        *_origin(run, config),
        *_results(Path(results or run)),
        "",
        "## Use",
        "",
        "```bash",
        f"htsr predict --logdir {name} --input clip.mp4 --out out",
        f"htsr evaluate --logdir {name}",
        "```",
        "",
        f'or, in Python, `htsr.load_model("{name}")`; give the path of this folder.',
        "",
        "## Config",
        "",
        *(f"- {section}: {_inline(values)}" for section, values in config.items()),
        "",
    ]
    card = run / CARD
    card.write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
    return card


def _origin(run: Path, config: Mapping[str, Any]) -> list[str]:
    """Where imported weights are from; nothing for a run that was trained here from the beginning."""
    if not (run / IMPORTED).is_file():
        return []
    try:
        return _imported(json.loads((run / IMPORTED).read_text(encoding="utf-8")), config)
    except DAMAGE as error:
        raise InputError(f"{run / IMPORTED} is damaged ({error}); import the weights again") from None


def _imported(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    origins: dict[str, dict[str, Any]] = {}
    for key, origin in record["arguments"].items():
        origins.setdefault(origin, {})[key] = config["model"].get(key)
    counters = ", ".join(f"{key} {value}" for key, value in record["counters"].items())
    return [
        "",
        "## Imported",
        "",
        f"- from: {record['what']}; arrays of {' and '.join(record['types'])}",
        *(f"- `{file['name']}`, {file['bytes']:,} bytes, SHA-256 `{file['sha256']}`" for file in record["files"]),
        *_sets(record.get("weights") or {}),
        f"- the file's counters: {counters or 'none'}; optimizer: {record['optimizer']}",
        f"- in the file and not imported: {_names(record['left_out'])}; read by nothing: {_names(record['unread'])}",
        *(f"- by {origin}: {_inline(values)}" for origin, values in origins.items()),
        f"- every name, and what was made of it: [{IMPORTED}]({IMPORTED})",
    ]


def _sets(weights: Mapping[str, Any]) -> list[str]:
    if not weights.get("others"):
        return []
    return [f"- of several sets of weights in the file: `{weights['chosen']}`, not {', '.join(weights['others'])}"]


def _results(run: Path) -> list[str]:
    """The first headlines of the newest finished evaluation, over the horizon."""
    for folder, found in results_of(run):
        try:
            report, metrics = found["provenance"], found["metrics"]
            reduced = {**found, **{part: _numbers(found[part]) for part in ("curves", "differences")}}
            tables = [(metrics[m]["label"], markdown(block(reduced, report, m))) for m in headlines(metrics)[:3]]
            heading = f"{title(report)}, step {report['checkpoint']['step']:,} ({folder.relative_to(run)})"
        except (KeyError, TypeError):
            continue  # of another version
        parts = [line for label, table in tables for line in ("", f"{label}:", "", table)]
        marks = "Mean over clips [95 % bootstrap interval]; + model is better than this series, - it is worse."
        return ["", "## Results", "", heading, "", marks, *parts]
    return ["- not evaluated yet"]


def _numbers(values: Any) -> Any:
    """Put not-a-number where the file has null, as for the intervals of a single clip."""
    if isinstance(values, Mapping):
        return {name: _numbers(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_numbers(value) for value in values]
    return math.nan if values is None else values


def _names(some: Mapping[str, Any]) -> str:
    if not some["count"]:
        return "nothing"
    more = ", ..." if some["count"] > 3 else ""
    return f"{some['count']} ({', '.join(some['first'][:3])}{more})"


def _inline(values: Mapping[str, Any]) -> str:
    """Keys and values in a line; where data lies on this machine is nobody else's matter."""
    return ", ".join(f"{k} {json.dumps(v)}" for k, v in values.items() if v is not None and k != "datadir")
