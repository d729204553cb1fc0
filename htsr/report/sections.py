"""The sections of a report as HTML; each is empty where there is nothing to show. All text is escaped."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from htsr.errors import InputError
from htsr.report.content import Content, Picture, finite
from htsr.report.numbers import escaped, scalar
from htsr.report.tables import bare_name

MIME = {".gif": "image/gif", ".png": "image/png"}

_ELSEWHERE = ("pictures", "definitions", "series", "warnings", "published_row")  # of the provenance, shown above it


def badges(provenance: Mapping[str, Any]) -> str:
    """What a reader must know first: data that stand in for others, foreign conventions, the split."""
    items = []
    if provenance.get("note"):
        items.append(f'<li class="loud">{escaped(provenance["note"])}</li>')
    if provenance.get("metric_mode") not in (None, provenance.get("metric_spec")):
        items.append(f'<li class="loud">metrics by the convention of {escaped(provenance["metric_mode"])}</li>')
    elif provenance.get("metric_spec"):
        items.append(f"<li>metrics {escaped(provenance['metric_spec'])}</li>")
    if provenance.get("split"):
        items.append(f"<li>{escaped(provenance['split'])} split</li>")
    return f'<ul class="badges">{"".join(items)}</ul>' if items else ""


def timeline(provenance: Mapping[str, Any]) -> str:
    """Context and horizon to scale."""
    context, horizon = (finite(provenance.get(key)) for key in ("context", "horizon"))
    if not context or not horizon:
        return ""
    return (
        f'<div class="timeline"><span class="seen" style="flex-grow:{context}">{context} frames seen</span>'
        f'<span class="predicted" style="flex-grow:{horizon}">{horizon} frames predicted</span></div>'
    )


def facts(provenance: Mapping[str, Any]) -> str:
    """What was evaluated, in a few numbers."""
    noise, samples = str(provenance.get("noise", "")), provenance.get("num_samples")
    kinds = {"mean": "1, of means", "none": "1, deterministic"}
    data, checkpoint = (provenance.get(key) or {} for key in ("data", "checkpoint"))
    known = {
        "Clips": provenance.get("num_examples"),
        "Futures of a clip": kinds.get(noise.partition(":")[0], samples and f"{samples}, sampled"),
        "Data": data.get("name") if isinstance(data, Mapping) else data,
        "Training step": checkpoint.get("step") if isinstance(checkpoint, Mapping) else checkpoint,
        "Seed": provenance.get("seed"),
    }
    cells = [f"<div><dt>{name}</dt><dd>{escaped(fact)}</dd></div>" for name, fact in known.items() if fact is not None]
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def links(sections: Iterable[str]) -> str:
    """To the sections of a page that it has beside the curves."""
    items = [f'<a href="#{name}">{name.capitalize()}</a>' for name in ("horizon", *sections)]
    return f'<nav aria-label="Sections">{"".join(items)}</nav>'


def warnings(warnings: Sequence[str]) -> str:
    """In a frame, each on a line."""
    items = "".join(f"<li>⚠ Warning: {escaped(warning)}</li>" for warning in warnings)
    return f'<aside class="warnings"><ul>{items}</ul></aside>' if items else ""


def notes(content: Content) -> str:
    """What the tables' numbers and marks mean."""
    provenance, reference = content.provenance, content.reference
    lines = []
    if provenance.get("num_examples") is not None:
        lines.append(f"Means over {provenance['num_examples']} clips; frames are counted from the end of the context.")
    if provenance.get("interval"):
        lines.append(f"In brackets: {provenance['interval']}.")
    if content.differences:
        lines.append(
            f"▲ {reference} better, ▼ {reference} worse than this column: the 95 % interval of their difference on the "
            "same clips excludes zero."
        )
    if content.p_values:
        lines.append("p: sign-flip permutation test of the mean difference over clips, corrected by Holm.")
    if (provenance.get("num_samples") or 1) > 1 and provenance.get("best_rule"):
        lines.append(f"Best of several samples: {provenance['best_rule']}.")
    exact = provenance.get("exact_frames") or {}
    lines += [f"{count} frames of {series} are exact." for series, count in exact.items() if count]
    fvd = provenance.get("fvd")
    if fvd:
        lines.append(f"FVD: {fvd.get('spec', '') if isinstance(fvd, Mapping) else fvd}")
    return f'<ul class="notes">{"".join(f"<li>{escaped(line)}</li>" for line in lines)}</ul>' if lines else ""


def gallery(pictures: Sequence[Picture]) -> str:
    """Figures side by side, which can be stopped."""
    if not pictures:
        return ""
    switch = '<label class="toggle needs-script"><input type="checkbox" id="still"> Still pictures only</label>'
    return _section("clips", "Clips", f"{switch}{_figures(pictures)}")


def latents(latents: Mapping[str, Any] | None, pictures: Sequence[Picture]) -> str:
    """What is said of each level in one number or word, as a table, and the pictures."""
    if not latents:
        return ""
    levels = latents.get("levels") or []
    names = dict.fromkeys(k for level in levels for k, value in level.items() if isinstance(value, int | float | str))
    rows = [[scalar(level.get(name)) for name in names] for level in levels]
    rules = latents.get("rules") or {}
    body = warnings(latents.get("warnings") or [])
    body += _grid("Table of levels", [name.replace("_", " ") for name in names], rows) if names else ""
    body += _terms("What is shown of a level", {name.replace("_", " "): rule for name, rule in rules.items()}, False)
    return _section("latents", "Latents", f'<div class="latents">{body}{_figures(pictures)}</div>')


def published(content: Content) -> str:
    """The row of another project's table, of every series."""
    rows = content.provenance.get("published_row")
    if not rows:
        return ""
    if not all(isinstance(row, Mapping) for row in rows.values()):
        rows = {content.reference: rows}
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [[escaped(series), *(scalar(row.get(name)) for name in names)] for series, row in rows.items()]
    mode = content.provenance.get("metric_mode", "its project")
    return _section("published", f"As the tables of {mode} have it", _grid("Published row", ["", *names], cells))


def definitions(content: Content) -> str:
    """What exactly each metric and each series is."""
    labels = {bare_name(metric.name): metric.label for metric in content.metrics}
    defined: Mapping[str, str] = content.provenance.get("definitions") or {}
    terms: dict[str, str] = {labels.get(name, name): text for name, text in defined.items()}
    terms |= content.provenance.get("series") or {}
    return _section("definitions", "Definitions", _terms("What each number and series is", terms, True))


def record(provenance: Mapping[str, Any]) -> str:
    """Everything else that is known of how the numbers came about."""
    facts = _flat(provenance).items()
    rows = "".join(f'<tr><th scope="row">{escaped(key)}</th><td>{escaped(value)}</td></tr>' for key, value in facts)
    summary = "<summary>How these numbers came about</summary>"
    body = f'<details class="more">{summary}<table class="record"><tbody>{rows}</tbody></table></details>'
    return _section("provenance", "Provenance", body if rows else "")


def _figures(pictures: Sequence[Picture]) -> str:
    return f'<div class="gallery">{"".join(map(_figure, pictures))}</div>' if pictures else ""


def _figure(picture: Picture) -> str:
    title, alternative = escaped(picture.title), escaped(picture.alternative)
    detail = f'<span class="quiet">{escaped(picture.detail)}</span>' if picture.detail else ""
    body = f"<figcaption><b>{title}</b>{detail}</figcaption>"
    if picture.animation:
        body += f'<img class="moving" alt="Animation of {alternative}" src="{_uri(picture.animation)}">'
    if picture.still:
        strip = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{title}, still picture">'
            f'<img alt="{alternative}" src="{_uri(picture.still)}"></div>'
        )
        body += f"<details><summary>Frame by frame</summary>{strip}</details>" if picture.animation else strip
    return f"<figure>{body}</figure>"


def _uri(path: Path) -> str:
    try:
        return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except FileNotFoundError:
        raise InputError(f"the picture {path} is missing; copy the whole folder, or run the evaluation again") from None


def _grid(label: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML; the first one of a row is its head."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in heads)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _terms(summary: str, terms: Mapping[str, str], is_open: bool) -> str:
    items = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in terms.items())
    opened = " open" if is_open else ""
    head = f'<details class="more"{opened}><summary>{summary}</summary><dl class="definitions">'
    return f"{head}{items}</dl></details>" if items else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as ``outer.inner`` keys."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and key not in _ELSEWHERE:
            flat |= _flat(value, f"{prefix}{key}.")
        elif key not in _ELSEWHERE:
            words = " " if key == "command" else ", "
            flat[prefix + key] = words.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return flat


def _section(name: str, heading: str, body: str) -> str:
    return f'<section id="{name}"><h2>{escaped(heading)}</h2>\n{body}\n</section>' if body else ""
