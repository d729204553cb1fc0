"""What is shown of the levels of a latent hierarchy: a table, warnings and a plot, of what ``latents.json`` holds."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from htsr.report import plots
from htsr.report.tables import aligned

ACTIVE = 0.01  # nats a tick from which a unit, and a level, counts; and the variance of Burda et al.
NOTHING = 0.02  # share of redrawing all levels below which redrawing one changes nothing
STILL = 1e-4  # of the range: futures whose pixels differ by less, on average, do not differ
ALL_LEVELS = "all levels"


def table(report: dict[str, Any]) -> str:
    """Return the numbers of ``diagnose`` as text: a row a level, a column a lead time, and the warnings."""
    numbers = ("kl_per_frame", "kl_per_tick", "prior_stddev", "posterior_stddev", "redraw_share_mean")
    levels = [["level", "period", "active units", "by variance", "KL/frame", "KL/tick", "prior stddev"]]
    levels[0] += ["posterior stddev", "redraw share"]
    for level in report["levels"]:
        counts = (level["level"], level["period"], f"{level['active_units']} of {level['units']}")
        row = map(str, (*counts, level["active_units_by_variance"]))
        levels.append([*row, *(f"{level[name]:.3g}" for name in numbers)])
    leads = sorted({lead for lead in (1, 10, 50, 100, 300, 1000) if lead < report["horizon"]} | {report["horizon"]})
    curves = report["psnr"] | {f"reconstruction minus {name}": curve for name, curve in report["gap"].items()}
    decibels = [["PSNR (dB)", *(f"+{lead}" for lead in leads), "mean"]]
    for name, curve in curves.items():
        values = [*(curve["mean"][lead - 1] for lead in leads), curve["mean"].mean()]
        decibels.append([name, *(f"{value:.2f}" for value in values)])
    warnings = [f"warning: {text}" for text in report["warnings"]]
    return "\n".join([_title(report), *aligned(levels), "", *aligned(decibels), *warnings])


def warnings_of(report: dict[str, Any], imagine_from: int | None) -> list[str]:
    """Say what a reader should not overlook."""
    context, end = report["context"], report["context"] + report["horizon"]
    everything, texts = report["redraw_stddev_all"]["mean"].mean(), []
    if imagine_from is not None and imagine_from < end:
        texts.append(
            f"trained with imagine_from={imagine_from}: KL and reconstruction of later frames are of posteriors that "
            "were never trained so late in a clip"
        )
    for level in report["levels"]:
        texts += _of_the_posterior(level, slowest=0 < level["level"] == len(report["levels"]) - 1)
        texts += _of_the_redraws(level, everything, context, end)
    return texts


@plots.as_by_default
def save_plot(path: Path, report: dict[str, Any]) -> None:
    """Plot KL over the frames as steps, KL by unit, PSNR, gap and the spread of redrawn futures, as a PNG file.

    Units are drawn from the largest to the smallest, and not below a tenth of ``ACTIVE``.
    """
    context, end = report["context"], report["context"] + report["horizon"]
    levels = {f"level {level['level']}": level for level in report["levels"]}
    spreads = {name: level["redraw_stddev"] for name, level in levels.items()}
    curves = {
        "PSNR (dB)": report["psnr"],
        "reconstruction minus rollout (dB)": report["gap"],
        "stddev of redrawn futures (of the range)": {**spreads, ALL_LEVELS: report["redraw_stddev_all"]},
    }
    figure, panels = plots.begin(len(levels) + 1 + len(curves), "What the levels carry", _title(report))
    looks = plots.looks_of([*levels, *(name for series in curves.values() for name in series)])
    units = panels[len(levels)]
    for panel, (name, level) in zip(panels, levels.items(), strict=False):
        ticks, nats, by_unit = np.arange(level["ticks"] + 1) * level["period"], level["kl"], level["kl_per_unit"]
        panel.stairs(nats, np.minimum(ticks, end) - context + 0.5, baseline=None, label=name, **looks[name])
        panel.set_ylim(0, 1.05 * nats[np.isfinite(nats)].max(initial=0) or 1)
        plots.label(panel, f"KL of {name} (nats a tick)", "frames after the context")
        falling = np.maximum(np.sort(by_unit)[::-1], ACTIVE / 10)
        units.stairs(falling, np.arange(len(by_unit) + 1) + 0.5, baseline=None, label=name, **looks[name])
    units.axhline(ACTIVE, color="gray", linewidth=0.8)
    units.set_yscale("log")
    units.xaxis.get_major_locator().set_params(integer=True)
    plots.label(units, f"KL by unit (nats a tick); active above {ACTIVE:g}", "units, the largest first")
    bands = {metric: {n: tuple(curve.values()) for n, curve in series.items()} for metric, series in curves.items()}
    plots.draw_bands(panels[len(levels) + 1 :], bands, looks)
    plots.finish(figure, panels, path)


def _of_the_posterior(level: dict[str, Any], slowest: bool) -> list[str]:
    carries = f"level {level['level']} carries {level['kl_per_frame']:.2g} nats a frame"
    if not math.isfinite(level["kl_per_frame"]):
        return [f"{carries}: the model has diverged"]
    if level["kl_per_tick"] < ACTIVE:
        excuse = " (not unusual for the slowest level on simple clips)" if slowest else ""
        return [f"{carries}: collapsed, its latents tell nothing{excuse}"]
    if level["active_units_by_variance"] == 0:
        return [f"{carries}, whatever the frames are: they pay for less noise, its latents tell nothing"]
    if 2 * level["active_units"] < level["units"]:
        return [f"level {level['level']}: only {level['active_units']} of {level['units']} units active"]
    return []


def _of_the_redraws(level: dict[str, Any], everything: float, context: int, end: int) -> list[str]:
    next_tick = math.ceil(context / level["period"]) * level["period"]
    if next_tick >= end:
        return [
            f"level {level['level']} does not tick before frame {next_tick}, so redrawing it changes nothing; predict "
            f"more than {next_tick - context} frames to see what it controls"
        ]
    if everything < STILL:
        return [f"redrawing level {level['level']} changes nothing, nor does redrawing all levels"]
    if level["redraw_share_mean"] < NOTHING:
        return [f"redrawing level {level['level']} changes nothing ({level['redraw_share_mean']:.1%} of what all do)"]
    return []


def _title(report: dict[str, Any]) -> str:
    kind = f" ({report['note']})" if "note" in report else ""
    frames = f"{report['context']} context frames, {report['horizon']} predicted"
    return f"{report['num_examples']} clips{kind}, {frames}, seed {report['seed']}"
