"""The evaluation of a run under a protocol, as the command makes it: numbers, then everything that shows them."""

import contextlib
import os
import sys
import time
from pathlib import Path

from htsr.checks import require_int
from htsr.data.clips import Clips
from htsr.data.video.contents import BLOCK, DIGITS
from htsr.errors import InputError
from htsr.evaluation.baselines import MODEL
from htsr.evaluation.evaluate import evaluate
from htsr.evaluation.latents import diagnose
from htsr.evaluation.pictures import illustrate
from htsr.evaluation.protocol import AFTER_EDITING, Protocol, load_test_clips, save_protocol
from htsr.evaluation.result import Result, clips_sha256
from htsr.report.html import write_report
from htsr.report.tables import aligned, table
from htsr.runs import environment, trained_on
from htsr.runs.card import IMPORTED, write_card
from htsr.runs.folder import find_run, load_run, read_run_config

LATENT_CLIPS = 16  # for the diagnostics of latents


def evaluate_run(
    logdir: str | Path,
    protocol: Protocol,
    *,
    checkpoint: str | int = "latest",
    batch_size: int = 8,
    rows: int | None = 8,
    num_pictures: int = 6,
    latents: bool = True,
    all_metrics: bool = False,
    out: str | Path | None = None,
) -> Result:
    """Evaluate a checkpoint of a run under a protocol: results, protocol, latents and report; print a table.

    Args:
        logdir: run folder; results go to ``<run>/eval/<time>/``, or to where the same evaluation was interrupted.
        protocol: what is evaluated.
        checkpoint: ``latest``, ``best`` or a step.
        batch_size, rows: as in ``htsr.evaluate``.
        num_pictures: clips that get a strip and a GIF.
        latents: diagnose the latents of a model that has levels of them, too.
        all_metrics: print every metric with its intervals, not only the headlines.
        out: folder of the results, where they shall not be in the run's; its card then stays as it is.

    Raises:
        InputError: run, protocol and data do not fit each other.
    """
    require_int("eval.num_pictures", num_pictures, least=0)
    run = find_run(logdir)
    trained = read_run_config(run)["data"]
    same = trained.get("name") == protocol.data["name"]
    if same and trained.get("persons") != protocol.data.get("persons"):
        raise InputError(
            f"{run} was trained with data.persons={trained.get('persons')}, and the protocol has "
            f"{protocol.data.get('persons')}: it may know some of the test persons; use a run or a protocol of the same"
        )
    if out is None and not os.access(run, os.W_OK):
        raise InputError(f"{run} cannot be written to; name a folder for the results (--out)")
    model, manifest = load_run(logdir, checkpoint)
    clips = load_test_clips(protocol)
    _check_first_clip(protocol, clips)
    provenance = {
        "run": run.name,
        "split": protocol.split,
        "validation": clips.source.no_validation or "the split 'valid' of the same data",
        "data": protocol.data,
        "trained_on": trained,
        "seen_in_training": trained_on.seen(run, clips.source.contents(), BLOCK, DIGITS) if same else None,
        "checkpoint": {name: manifest[name] for name in ("step", "score", "files")},
    }
    try:
        with contextlib.ExitStack() as presented:
            result = evaluate(
                model,
                clips,
                out=out or run / "eval" / time.strftime("%Y-%m-%d_%H-%M-%S"),
                batch_size=batch_size,
                rows=rows,
                provenance=provenance,
                until=presented,
                **protocol.eval,
            )
            found = result.provenance["clips_sha256"]
            expected = protocol.clips_sha256 or found
            if found != expected:
                result.provenance["warnings"].append(
                    f"the clips are not those of the protocol: expected SHA-256 {expected}, received {found}"
                )
            _present(result, model, clips, protocol, num_pictures, latents, all_metrics)
    except KeyboardInterrupt as stop:
        for note in getattr(stop, "__notes__", ()):
            print(f"\n{note}; the same command goes on from there", file=sys.stderr)
        raise
    # The card of a released model stays as it was released.
    if out is None and ((run / "metrics.jsonl").exists() or (run / IMPORTED).exists()):
        write_card(run)
    if found != expected:
        raise InputError(
            f"the clips were not those of the protocol (SHA-256 {found}, expected {expected}); "
            f"{result.folder} has the numbers of other clips: give the protocol's data, or {AFTER_EDITING}"
        )
    return result


def summary(found: Result, all_metrics: bool = False) -> str:
    """Return what the terminal shows of a result: the headlines, or all metrics, FVD, warnings."""
    report = found.provenance
    lines = [table(found.reduced, report, MODEL, all_metrics), ""]
    fvd = report["fvd"]
    if isinstance(fvd, dict):
        fvd = f"({fvd['spec']}): " + ", ".join(f"{series} {value:.1f}" for series, value in fvd["values"].items())
    lines.append(f"FVD {fvd}")
    if "published_row" in report:
        rows = report["published_row"]
        names = list(rows[MODEL])
        cells = [["", *names], *([series, *(f"{row[n]:.6g}" for n in names)] for series, row in rows.items())]
        lines += ["", f"as the tables of {report['metric_mode']} have it ({report['published_rule']})", *aligned(cells)]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in report["warnings"])])


def _present(result: Result, model, clips, protocol: Protocol, num_pictures, latents, all_metrics) -> None:
    """Make everything of a result that shows it, in its folder, and print its table."""
    provenance, folder = result.provenance, result.folder
    provenance["pictures"] = illustrate(result, model, clips, num_pictures)
    provenance["peak_memory_mib"] = environment.peak_memory_mib()
    result.save()
    print(summary(result, all_metrics))
    digests = {name: provenance[name] for name in ("clips_sha256", "first_clip_sha256")}
    save_protocol(protocol._replace(**digests), folder / "protocol.yml")
    if latents and model.has_latents:
        shared = {name: protocol.eval[name] for name in ("context", "horizon", "seed")}
        diagnose(model, clips, out=folder, num_examples=min(LATENT_CLIPS, provenance["num_examples"]), **shared)
    page = write_report(folder)
    print(f"\nresults in {folder}; peak memory {provenance['peak_memory_mib']} MiB\nreport: {page}")


def _check_first_clip(protocol: Protocol, clips: Clips) -> None:
    found = clips_sha256(next(clips.examples(1)))
    if protocol.first_clip_sha256 not in (None, found):
        raise InputError(
            f"the first clip is not that of the protocol: expected SHA-256 {protocol.first_clip_sha256}, received "
            f"{found}; give the protocol's data with --datadir, or {AFTER_EDITING}"
        )
