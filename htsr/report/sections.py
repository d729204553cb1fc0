"""The sections of a report as HTML; each is empty where there is nothing to show. All text is escaped."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from htsr.errors import InputError
from htsr.report.content import STYLES, Content, Metric, Picture, Value, finite
from htsr.report.tables import HEADLINES, bare_name, leads

MIME = {".gif": "image/gif", ".png": "image/png"}

_BASELINES = ("copy_last", "mean_frame", "median_frame", "black")
_MARKS = {"better": "▲", "worse": "▼"}
_ELSEWHERE = ("pictures", "definitions", "series", "warnings", "published_row")  # of the provenance, shown above it


def badges(provenance: Mapping[str, Any]) -> str:
    """What a reader must know first: data that stand in for others, foreign conventions, the split."""
    items = []
    if provenance.get("note"):
        items.append(f'<li class="loud">{_text(provenance["note"])}</li>')
    if provenance.get("metric_mode") not in (None, provenance.get("metric_spec")):
        items.append(f'<li class="loud">metrics by the convention of {_text(provenance["metric_mode"])}</li>')
    elif provenance.get("metric_spec"):
        items.append(f"<li>metrics {_text(provenance['metric_spec'])}</li>")
    if provenance.get("split"):
        items.append(f"<li>{_text(provenance['split'])} split</li>")
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
    cells = [f"<div><dt>{name}</dt><dd>{_text(fact)}</dd></div>" for name, fact in known.items() if fact is not None]
    return f'<dl class="facts">{"".join(cells)}</dl>' if cells else ""


def links(sections: Iterable[str]) -> str:
    """To the sections of a page that it has beside the curves."""
    items = [f'<a href="#{name}">{name.capitalize()}</a>' for name in ("horizon", *sections)]
    return f'<nav aria-label="Sections">{"".join(items)}</nav>'


def warnings(warnings: Sequence[str]) -> str:
    """In a frame, each on a line."""
    items = "".join(f"<li>⚠ Warning: {_text(warning)}</li>" for warning in warnings)
    return f'<aside class="warnings"><ul>{items}</ul></aside>' if items else ""


def cards(content: Content) -> str:
    """The headline metrics over the whole horizon, the reference's beside those of the other series."""
    shown = [metric for metric in content.metrics if metric.headline is not None] or content.metrics
    made = []
    for metric in shown[:HEADLINES]:
        lines = [line for line in metric.lines if line.label == line.series]
        values = {line.series: content.value(line, None) for line in lines}
        differences = {line.series: content.difference(line, None) for line in lines if line.paired}
        made.append(_card(content, metric, values, differences))
    fvd = content.provenance.get("fvd")
    if isinstance(fvd, Mapping) and fvd.get("values"):
        values = {series: Value(finite(value)) for series, value in fvd["values"].items() if series in content.curves}
        made.append(_card(content, Metric("fvd", "FVD", "lower", 1, []), values, {}))
    return f'<section class="cards" aria-label="Headline numbers">{"".join(made)}</section>'


def choice(metric: Metric, chosen: bool) -> str:
    """The button that chooses a metric."""
    return (
        f'<label><input type="radio" name="metric" value="{_text(metric.name)}"{" checked" if chosen else ""}>'
        f"<span>{_text(metric.label)}</span></label>"
    )


def table(content: Content, metric: Metric) -> str:
    """A row a lead time, a column a line."""
    horizon = max(len(content.curves[line.series][line.column]["mean"]) for line in metric.lines)
    heads = ['<th scope="col">frame</th>']
    for line in metric.lines:
        key = f'<svg class="key s{line.style}" viewBox="0 0 34 8" aria-hidden="true"><path d="M0 4H34"/></svg>'
        heads.append(f'<th scope="col">{key}<span>{_text(line.label)}</span></th>')
    rows = [f"<tr>{''.join(heads)}</tr></thead><tbody>"]
    for lead in [*leads(horizon), None]:
        cells = ['<th scope="row" class="mean">all</th>' if lead is None else f'<th scope="row">+{lead}</th>']
        for line in metric.lines:
            p = content.p_values.get(metric.name, {}).get(line.label) if lead is None else None
            cells.append(_cell(metric, content.value(line, lead), content.difference(line, lead), p, content.reference))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    label = _text(metric.label)
    return (
        f'<section data-metric="{_text(metric.name)}"><h3>{label} <span class="quiet">{_aim(metric)}</span></h3>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table of {label}"><table><thead>'
        f"{''.join(rows)}</tbody></table></div></section>"
    )


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
    return f'<ul class="notes">{"".join(f"<li>{_text(line)}</li>" for line in lines)}</ul>' if lines else ""


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
    rows = [[_scalar(level.get(name)) for name in names] for level in levels]
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
    cells = [[_text(series), *(_scalar(row.get(name)) for name in names)] for series, row in rows.items()]
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
    rows = "".join(f'<tr><th scope="row">{_text(key)}</th><td>{_text(value)}</td></tr>' for key, value in facts)
    summary = "<summary>How these numbers came about</summary>"
    body = f'<details class="more">{summary}<table class="record"><tbody>{rows}</tbody></table></details>'
    return _section("provenance", "Provenance", body if rows else "")


def _card(content: Content, metric: Metric, values: Mapping[str, Value], differences: Mapping[str, Value]) -> str:
    own = values.get(content.reference, Value())
    interval = _interval(own, metric.digits)
    return (
        f'<article class="card"><h3>{_text(metric.label)} <span class="quiet">{_aim(metric)}</span></h3>'
        f'<p class="big">{_number(own.mean, metric.digits)}{interval and f" <small>{interval}</small>"}</p>'
        f"{_sentence(content, metric, values, differences)}{_forest(content, metric, values)}</article>"
    )


def _sentence(content: Content, metric: Metric, values: Mapping[str, Value], differences: Mapping[str, Value]) -> str:
    """How the reference compares with the best other series."""
    own = values.get(content.reference, Value()).mean
    others = {name: value.mean for name, value in values.items() if name != content.reference}
    rivals = {name: mean for name, mean in others.items() if mean is not None}
    if metric.better is None or own is None or not rivals:
        return ""
    rival = (max if metric.better == "higher" else min)(rivals, key=rivals.__getitem__)
    rank = "the best baseline" if set(rivals) <= set(_BASELINES) else "the best of the others"
    difference = differences.get(rival, Value(own - rivals[rival]))
    verdict = _verdict(difference, metric.better)
    gap = f"{_number(difference.mean, metric.digits)} {_interval(difference, metric.digits)}".strip()
    p = content.p_values.get(metric.name, {}).get(rival)
    gap += "" if p is None else f", {_p_value(p)}"
    if verdict:
        words = f"<b>{_MARKS[verdict]} {verdict} than {_text(rival)}</b>, {rank}: difference {gap}"
    elif difference.low is None:
        words = f"difference from {_text(rival)}, {rank}: {gap}, without an interval"
    else:
        words = f"<b>≈ no clear difference</b> from {_text(rival)}, {rank}: {gap}"
    return f'<p class="verdict {verdict}">{words}</p>'


def _forest(content: Content, metric: Metric, values: Mapping[str, Value]) -> str:
    """A row a series: its mean as a point on its interval, all on one scale."""
    styles = list(content.curves)
    numbers = [number for value in values.values() for number in value if number is not None]
    low, span = min(numbers, default=0.0), (max(numbers, default=0.0) - min(numbers, default=0.0)) or 1.0
    rows = []
    for name, value in values.items():
        mean, left, right = (None if end is None else 3 + 94 * (end - low) / span for end in value)
        marks = ""
        if left is not None and right is not None:
            marks += f'<i class="interval" style="left:{left:.1f}%;width:{right - left:.1f}%"></i>'
        if mean is not None:
            marks += f'<i class="point" style="left:{mean:.1f}%"></i>'
        rows.append(
            f'<span class="name">{_text(name)}</span><span class="track s{styles.index(name) % STYLES}">{marks}</span>'
            f"<span>{_number(value.mean, metric.digits)}</span>"
        )
    way = {"higher": '<span class="way right">better →</span>', "lower": '<span class="way">← better</span>'}
    return f'<div class="forest">{"".join(rows)}{way.get(metric.better or "", "")}</div>'


def _aim(metric: Metric) -> str:
    return f"{metric.better} is better" if metric.better else "neither direction is better"


def _cell(metric: Metric, value: Value, difference: Value, p: float | None, reference: str) -> str:
    interval, verdict = _interval(value, metric.digits), _verdict(difference, metric.better)
    text = _number(value.mean, metric.digits) + (f"<small>{interval}</small>" if interval else "")
    words = [f"{_MARKS[verdict]} {_text(reference)} {verdict}"] if verdict else []
    words += [] if p is None else [_p_value(p)]
    if words:
        text += f'<span class="verdict {verdict}">{", ".join(words)}</span>'
    return f"<td>{text}</td>"


def _verdict(difference: Value, better: str | None) -> str:
    """Whether the reference is ``better`` or ``worse``, which it is where the interval excludes zero; or ``""``."""
    if better is None or difference.low is None or difference.high is None:
        return ""
    if difference.low > 0 or difference.high < 0:
        return "better" if (difference.low > 0) == (better == "higher") else "worse"
    return ""


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return '<abbr title="not a number">–</abbr>'
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:#.4g}"


def _scalar(value: Any) -> str:
    if isinstance(value, float) or value is None:
        return _number(finite(value))
    return _text(value)


def _interval(value: Value, digits: int | None) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"[{_number(value.low, digits)}, {_number(value.high, digits)}]"


def _p_value(p: float) -> str:
    return "p &lt; 0.001" if p < 0.001 else f"p = {p:.3f}"


def _figures(pictures: Sequence[Picture]) -> str:
    return f'<div class="gallery">{"".join(map(_figure, pictures))}</div>' if pictures else ""


def _figure(picture: Picture) -> str:
    title, alternative = _text(picture.title), _text(picture.alternative)
    detail = f'<span class="quiet">{_text(picture.detail)}</span>' if picture.detail else ""
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
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heads)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _terms(summary: str, terms: Mapping[str, str], shown: bool) -> str:
    items = "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>" for name, text in terms.items())
    opened = " open" if shown else ""
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
    return f'<section id="{name}"><h2>{_text(heading)}</h2>\n{body}\n</section>' if body else ""


def _text(value: Any) -> str:
    return escape(str(value))
