"""The numbers of a report as HTML: cards of the headlines, and a table a metric. All text is escaped."""

from collections.abc import Mapping
from html import escape
from typing import Any

from htsr.report.content import STYLES, Content, Metric, Value, finite
from htsr.report.tables import HEADLINES, leads

_BASELINES = ("copy_last", "mean_frame", "median_frame", "black")
_MARKS = {"better": "▲", "worse": "▼"}


def cards(content: Content) -> str:
    """The headline metrics over the whole horizon, the reference's beside those of the other series."""
    first = [metric for metric in content.metrics if metric.headline is not None] or content.metrics
    made = []
    for metric in first[:HEADLINES]:
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
        f'<label><input type="radio" name="metric" value="{escaped(metric.name)}"{" checked" if chosen else ""}>'
        f"<span>{escaped(metric.label)}</span></label>"
    )


def table(content: Content, metric: Metric) -> str:
    """A row a lead time, a column a line."""
    horizon = max(len(content.curves[line.series][line.column]["mean"]) for line in metric.lines)
    heads = ['<th scope="col">frame</th>']
    for line in metric.lines:
        key = f'<svg class="key s{line.style}" viewBox="0 0 34 8" aria-hidden="true"><path d="M0 4H34"/></svg>'
        heads.append(f'<th scope="col">{key}<span>{escaped(line.label)}</span></th>')
    rows = [f"<tr>{''.join(heads)}</tr></thead><tbody>"]
    for lead in [*leads(horizon), None]:
        cells = ['<th scope="row" class="mean">all</th>' if lead is None else f'<th scope="row">+{lead}</th>']
        for line in metric.lines:
            p = content.p_values.get(metric.name, {}).get(line.label) if lead is None else None
            cells.append(_cell(metric, content.value(line, lead), content.difference(line, lead), p, content.reference))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    label = escaped(metric.label)
    return (
        f'<section data-metric="{escaped(metric.name)}"><h3>{label} <span class="quiet">{_aim(metric)}</span></h3>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table of {label}"><table><thead>'
        f"{''.join(rows)}</tbody></table></div></section>"
    )


def scalar(value: Any) -> str:
    """A number of four digits, or another value, as HTML."""
    if isinstance(value, float) or value is None:
        return _number(finite(value))
    return escaped(value)


def escaped(value: Any) -> str:
    """A value as text that cannot become markup."""
    return escape(str(value))


def _card(content: Content, metric: Metric, values: Mapping[str, Value], differences: Mapping[str, Value]) -> str:
    own = values.get(content.reference, Value())
    interval = _interval(own, metric.digits)
    return (
        f'<article class="card"><h3>{escaped(metric.label)} <span class="quiet">{_aim(metric)}</span></h3>'
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
        words = f"<b>{_MARKS[verdict]} {verdict} than {escaped(rival)}</b>, {rank}: difference {gap}"
    elif difference.low is None:
        words = f"difference from {escaped(rival)}, {rank}: {gap}, without an interval"
    else:
        words = f"<b>≈ no clear difference</b> from {escaped(rival)}, {rank}: {gap}"
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
        track = f'<span class="track s{styles.index(name) % STYLES}">{marks}</span>'
        number = _number(value.mean, metric.digits)
        rows.append(f'<span class="name">{escaped(name)}</span>{track}<span>{number}</span>')
    way = {"higher": '<span class="way right">better →</span>', "lower": '<span class="way">← better</span>'}
    return f'<div class="forest">{"".join(rows)}{way.get(metric.better or "", "")}</div>'


def _aim(metric: Metric) -> str:
    return f"{metric.better} is better" if metric.better else "neither direction is better"


def _cell(metric: Metric, value: Value, difference: Value, p: float | None, reference: str) -> str:
    interval, verdict = _interval(value, metric.digits), _verdict(difference, metric.better)
    text = _number(value.mean, metric.digits) + (f"<small>{interval}</small>" if interval else "")
    words = [f"{_MARKS[verdict]} {escaped(reference)} {verdict}"] if verdict else []
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


def _interval(value: Value, digits: int | None) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"[{_number(value.low, digits)}, {_number(value.high, digits)}]"


def _p_value(p: float) -> str:
    return "p &lt; 0.001" if p < 0.001 else f"p = {p:.3f}"
