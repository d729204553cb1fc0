"""Evaluation protocols: which clips, how many frames, which rule and metrics, in one small file that can be replayed.

A protocol says everything that the numbers depend on but the model, and the digest of the very clips; results carry
theirs as ``protocol.yml``. Two results under one protocol are comparable, clip by clip.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from htsr.checks import require_choice
from htsr.config import check_section, read_config, save_config
from htsr.data import DATASETS, load_clips
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.evaluation.evaluate import SET_BY_PROGRAM, Evaluation, evaluate, results_of
from htsr.evaluation.latents import diagnose
from htsr.evaluation.partial import FOLDER, clips_sha256
from htsr.metrics import METRIC_SPEC
from htsr.models.htsr.model import HTSR
from htsr.report.html import write_report
from htsr.runs.card import write_card
from htsr.runs.folder import find_run, load_run, read_run_config, upgrade_data

SECTIONS = ("protocol", "data", "eval")
OF_THE_MACHINE = ("batch_size", "batched", "num_pictures")  # arguments of `evaluate` that change a rounding at most
_AFTER_EDITING = "after editing a protocol delete both digests in it"
LATENT_CLIPS = 16  # for the diagnostics of latents
_NOT_IN_PROTOCOL = (*SET_BY_PROGRAM, *OF_THE_MACHINE)
_OF_THE_CLIPS = ("seq_len", "batch_size")  # of the data section: they follow from the evaluation


class Protocol(NamedTuple):
    """What is evaluated.

    Attributes:
        data: a dataset's ``name`` and arguments, without those that follow from ``eval``.
        eval: arguments of ``htsr.evaluate``.
        metric_spec: the set of metrics.
        split: always the test split, which no training and no validation sees.
        clips_sha256: of all clips, as ``clips_sha256`` computes it; None before the first evaluation.
        first_clip_sha256: of the first clip, so that other data are noticed at once.
    """

    data: dict[str, Any]
    eval: dict[str, Any]
    metric_spec: Literal["htsr-1"] = METRIC_SPEC
    split: Literal["test"] = "test"
    clips_sha256: str | None = None
    first_clip_sha256: str | None = None


def make_protocol(data: Mapping[str, Any], settings: Mapping[str, Any]) -> Protocol:
    """The protocol of a data and an eval section of a config.

    Raises:
        InputError: for an unknown key or a wrong type in them.
    """
    settings = {name: value for name, value in settings.items() if name not in OF_THE_MACHINE}
    settings = check_section("eval", settings, evaluate, reserved=_NOT_IN_PROTOCOL)
    require_choice("dataset", data.get("name"), DATASETS)
    values = {key: value for key, value in data.items() if key not in ("name", *_OF_THE_CLIPS)}
    reserved = ("split", *_OF_THE_CLIPS)
    return Protocol({"name": data["name"], **check_section("data", values, DATASETS[data["name"]], reserved)}, settings)


def read_protocol(path: str | Path, data: Mapping[str, Any] | None = None) -> Protocol:
    """Read a protocol file.

    Args:
        path: of the file.
        data: what is different here in its data section: ``datadir``.

    Raises:
        InputError: it is no protocol, or one of another set of metrics.
    """
    content = read_config(path, [], SECTIONS)
    about = check_section("protocol", content["protocol"], Protocol, reserved=("data", "eval"))
    check_section("eval", content["eval"], evaluate, reserved=_NOT_IN_PROTOCOL)
    return make_protocol({**upgrade_data(content["data"]), **(data or {})}, content["eval"])._replace(**about)


def save_protocol(protocol: Protocol, path: str | Path) -> None:
    """Write a protocol file."""
    about = protocol._asdict()
    data, settings = about.pop("data"), about.pop("eval")
    save_config({"protocol": about, "data": data, "eval": settings}, path)


def evaluate_run(
    logdir: str | Path,
    protocol: Protocol,
    *,
    checkpoint: str | int = "latest",
    batch_size: int = 4,
    batched: bool = False,
    num_pictures: int = 6,
    latents: bool = True,
) -> Evaluation:
    """Evaluate a checkpoint of a run under a protocol: results, latent diagnostics of HTSR, protocol and report.

    Args:
        logdir: run folder; results go to ``<run>/eval/<time>/``, or to where the same evaluation was interrupted.
        protocol: what is evaluated.
        checkpoint: ``latest``, ``best`` or a step.
        batch_size, batched, num_pictures: as in ``htsr.evaluate``.
        latents: diagnose the latents of an HTSR model, too.

    Raises:
        InputError: run, protocol and data do not fit each other.
    """
    run = find_run(logdir)
    trained = read_run_config(run)["data"]
    same = trained.get("name") == protocol.data["name"]
    if same and trained.get("persons") != protocol.data.get("persons"):
        raise InputError(
            f"{run} was trained with data.persons={trained.get('persons')}, and the protocol has "
            f"{protocol.data.get('persons')}: it may know some of the test persons; use a run or a protocol of the same"
        )
    model, manifest = load_run(logdir, checkpoint)
    settings = protocol.eval
    clips = load_test_clips(protocol)
    _check_first_clip(protocol, clips)
    provenance = {
        "run": run.name,
        "split": protocol.split,
        "validation": clips.source.no_validation or "the split 'valid' of the same data",
        "data": protocol.data,
        "trained_on": trained,
        "checkpoint": {name: manifest[name] for name in ("step", "score", "files")},
    }

    def conclude(folder: Path, report: Mapping[str, Any]) -> None:
        digests = {name: report[name] for name in ("clips_sha256", "first_clip_sha256")}
        save_protocol(protocol._replace(**digests), folder / "protocol.yml")
        if latents and isinstance(model, HTSR):
            few = min(LATENT_CLIPS, report["num_examples"])
            shared = {name: settings[name] for name in ("context", "horizon", "seed")}
            diagnose(model, clips, out=folder, num_examples=few, **shared)
        page = write_report(folder)
        print(f"\nresults in {folder}; peak memory {report['peak_memory_mib']} MiB\nreport: {page}")

    result = evaluate(
        model,
        clips,
        out=run / "eval" / time.strftime("%Y-%m-%d_%H-%M-%S"),
        batch_size=batch_size,
        batched=batched,
        num_pictures=num_pictures,
        provenance=provenance,
        expected_sha256=protocol.clips_sha256,
        conclude=conclude,
        **settings,
    )
    write_card(run)
    found = result.provenance["clips_sha256"]
    if protocol.clips_sha256 not in (None, found):
        raise InputError(
            f"the clips were not those of the protocol (SHA-256 {found}, expected {protocol.clips_sha256}); "
            f"{result.folder} has the numbers of other clips: give the protocol's data, or {_AFTER_EDITING}"
        )
    return result


def load_test_clips(protocol: Protocol) -> Clips:
    """The clips of a protocol, of context and horizon together."""
    frames = protocol.eval["context"] + protocol.eval["horizon"]
    return load_clips(split=protocol.split, **protocol.data, seq_len=frames, batch_size=1)


def find_results(run: Path, protocol: Protocol, manifest: Mapping[str, Any]) -> Path | None:
    """The newest results of a run's checkpoint, that of a manifest, under a protocol, or None.

    A protocol with the digest of its clips wants results on the very same ones.
    """
    for path in sorted(run.glob("eval/*/protocol.yml"), reverse=True):
        try:
            found = read_protocol(path)
            curves = results_of(path.parent, ".json").read_text(encoding="utf-8")
            used = json.loads(curves)["provenance"]["checkpoint"]
        except (InputError, ValueError, KeyError):
            continue  # of another version
        asked = (protocol.data, protocol.eval, manifest["files"])
        finished = not (path.parent / FOLDER).exists()
        same_clips = protocol.clips_sha256 in (None, found.clips_sha256)
        if finished and same_clips and (found.data, found.eval, used["files"]) == asked:
            return path.parent
    return None


def _check_first_clip(protocol: Protocol, clips: Clips) -> None:
    if protocol.first_clip_sha256 is None:
        return
    found = clips_sha256(next(clips.examples(1)))
    if found != protocol.first_clip_sha256:
        raise InputError(
            f"the first clip is not that of the protocol: expected SHA-256 {protocol.first_clip_sha256}, received "
            f"{found}; give the protocol's data with --datadir, or {_AFTER_EDITING}"
        )
