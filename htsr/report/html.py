"""The report of an evaluation, or of several compared: one HTML file with the numbers, curves and pictures.

The file loads nothing: style, script, numbers and pictures are inside it, and its content security policy forbids the
rest. Tables and pictures are plain HTML and need no script; the curves are drawn by ``assets/report.js``.
Pictures are stored as base64, a third larger than their files: six GIFs of a megabyte make a report of 8 MB.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from htsr.errors import InputError
from htsr.files import new_file
from htsr.report import numbers, sections
from htsr.report.content import Picture, parse

_ASSETS = Path(__file__).parent / "assets"


def write_report(folder: str | Path, title: str | None = None) -> Path:
    """Write ``report.html`` (``report.<mode>.html``) into the folder of an evaluation or comparison: its path.

    Reads ``curves.json`` (``curves.<mode>.json``) and, where they are there, the strips and GIFs that it names, or else
    all ``clip_<n>``, and ``latents.json`` with its pictures.

    Args:
        folder: what ``evaluate`` wrote.
        title: heading of the page; by default the name of the run, or the names of those compared.

    Raises:
        InputError: ``curves.json`` or a picture that it names is missing or unusable.
    """
    folder = Path(folder)
    found = sorted(folder.glob("curves*.json"), key=lambda path: len(path.name))
    if not found:
        raise InputError(f"{folder} has no curves.json; give the folder of an evaluation, <run>/eval/<time>")
    content, latents = _read(found[0]), None
    if (folder / "latents.json").exists():
        latents = _read(folder / "latents.json")
    page = render(
        content,
        _clip_pictures(folder, content.get("provenance") or {}),
        latents,
        _latent_pictures(folder) if latents else [],
        title=title or _title(folder.resolve(), content.get("provenance") or {}),
    )
    path = folder / found[0].with_suffix(".html").name.replace("curves", "report", 1)
    with new_file(path) as file:
        file.write(page)
    return path


def render(
    content: Mapping[str, Any],
    pictures: Sequence[Picture] = (),
    latents: Mapping[str, Any] | None = None,
    latent_pictures: Sequence[Picture] = (),
    *,
    title: str = "Evaluation",
) -> str:
    """Return the page of an evaluation, or of a comparison whose series are runs.

    Args:
        content: what ``curves.json`` holds: ``curves`` and, as far as known, ``provenance``, ``metrics``,
            ``differences`` and ``p_values``; ``provenance.reference`` names the series that the differences are taken
            from (default ``model``, or else the first one).
        pictures: of clips.
        latents: what ``latents.json`` holds, or None.
        latent_pictures: of latents.
        title: heading of the page.

    Raises:
        InputError: there are no curves, or a picture cannot be read.
    """
    parsed = parse(content)
    provenance, metrics = parsed.provenance, parsed.metrics
    below = {
        "clips": sections.gallery(pictures),
        "latents": sections.latents(latents, latent_pictures),
        "published": sections.published(parsed),
        "definitions": sections.definitions(parsed),
        "provenance": sections.record(provenance),
    }
    view = {
        "reference": parsed.reference,
        "metrics": [metric._asdict() | {"lines": [line._asdict() for line in metric.lines]} for metric in metrics],
    }
    script = (_ASSETS / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template((_ASSETS / "report.html").read_text(encoding="utf-8")).substitute(
        script_hash=f"sha256-{digest}",
        title=escape(title),
        style=(_ASSETS / "report.css").read_text(encoding="utf-8"),
        badges=sections.badges(provenance),
        timeline=sections.timeline(provenance),
        facts=sections.facts(provenance),
        links=sections.links(name for name, html in below.items() if html),
        warnings=sections.warnings(provenance.get("warnings") or []),
        cards=numbers.cards(parsed),
        choices="\n".join(numbers.choice(metric, metric is metrics[0]) for metric in metrics),
        tables="\n".join(numbers.table(parsed, metric) for metric in metrics),
        notes=sections.notes(parsed),
        below="\n".join(filter(None, below.values())),
        content=_json(content),
        view=_json(view),
        script=script,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); run the evaluation again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, received {type(content).__name__}; run the evaluation again")
    return content


def _title(folder: Path, provenance: Mapping[str, Any]) -> str:
    if provenance.get("runs"):
        return " vs ".join(provenance["runs"])
    return provenance.get("run") or (folder.parent.parent if folder.parent.name == "eval" else folder).name


def _clip_pictures(folder: Path, provenance: Mapping[str, Any]) -> list[Picture]:
    entries: list[dict[str, Any]] | None = provenance.get("pictures")
    if entries is None:
        entries = [{"clip": number, **_beside(folder, f"clip_{number}")} for number in _numbers(folder, "clip")]
    pictures = []
    for entry in entries:
        role = entry.get("role", "first")
        detail = [] if entry.get("psnr") is None else [f"PSNR {entry['psnr']:.2f} dB"]
        if role != "first" and entry.get("rule"):
            detail.append(f"{role} by {entry['rule']}")
        pictures.append(
            Picture(
                title=f"Clip {entry['clip']}" if role == "first" else f"{role.capitalize()}: clip {entry['clip']}",
                detail=", ".join(detail),
                animation=_inside(folder, entry.get("gif")),
                still=_inside(folder, entry.get("strip")),
                alternative=f"clip {entry['clip']}: the truth and what was predicted, frame by frame",
            )
        )
    return pictures


def _latent_pictures(folder: Path) -> list[Picture]:
    pictures = []
    if (folder / "latents.png").exists():
        pictures.append(Picture("All levels", "", None, folder / "latents.png", "plots of what the levels carry"))
    for level in _numbers(folder, "level"):
        files = {kind: _inside(folder, name) for kind, name in _beside(folder, f"level_{level}").items()}
        detail = "the truth, and futures that differ in what this level draws alone"
        title = f"Level {level}"
        pictures.append(Picture(title, detail, files.get("gif"), files.get("strip"), f"{title.lower()}: {detail}"))
    return pictures


def _numbers(folder: Path, stem: str) -> list[int]:
    matches = (re.fullmatch(rf"{stem}_(\d+)\.(?:gif|png)", path.name) for path in folder.iterdir())
    return sorted({int(match[1]) for match in matches if match})


def _beside(folder: Path, stem: str) -> dict[str, str]:
    names = {"gif": f"{stem}.gif", "strip": f"{stem}.png"}
    return {kind: name for kind, name in names.items() if (folder / name).exists()}


def _inside(folder: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    if Path(name).name != name or Path(name).suffix not in sections.MIME:
        raise InputError(f"curves.json names the picture {name!r}; expected a .gif or .png file of its own folder")
    return folder / name


def _json(value: Any) -> str:
    """JSON that cannot end its script element; numbers to seven digits, as many as the float32 values have."""
    short = json.loads(json.dumps(value), parse_float=lambda n: float(f"{float(n):.7g}"), parse_constant=lambda _: None)
    return json.dumps(short, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
