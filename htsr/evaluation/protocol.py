"""Evaluation protocols: which clips, how many frames, which rule and metrics, in one small file that can be replayed.

A protocol says everything that the numbers depend on but the model, and the digest of the very clips; results carry
theirs as ``protocol.yml``. Two results under one protocol are comparable, clip by clip.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from htsr.checks import require_choice
from htsr.config import check_section, read_config, save_config
from htsr.data import DATASETS, load_clips
from htsr.data.clips import Clips
from htsr.errors import InputError
from htsr.evaluation.evaluate import SET_BY_PROGRAM, evaluate
from htsr.evaluation.pictures import illustrate
from htsr.metrics import METRIC_SPEC
from htsr.runs.folder import results_of, upgrade_data, upgrade_eval

SECTIONS = ("protocol", "data", "eval")
OF_THE_MACHINE = ("batch_size", "rows", "num_pictures")  # arguments of `evaluate` that change a rounding at most
AFTER_EDITING = "after editing a protocol delete both digests in it"
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


def check_eval(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the eval section of a config, which ``evaluate`` and ``illustrate`` share, and fill in the defaults."""
    return check_section("eval", values, (evaluate, illustrate), reserved=(*SET_BY_PROGRAM, "result"))


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
    settings = upgrade_eval(content["eval"])
    check_section("eval", settings, evaluate, reserved=_NOT_IN_PROTOCOL)
    return make_protocol({**upgrade_data(content["data"]), **(data or {})}, settings)._replace(**about)


def save_protocol(protocol: Protocol, path: str | Path) -> None:
    """Write a protocol file."""
    about = protocol._asdict()
    data, settings = about.pop("data"), about.pop("eval")
    save_config({"protocol": about, "data": data, "eval": settings}, path)


def load_test_clips(protocol: Protocol) -> Clips:
    """The clips of a protocol, of context and horizon together."""
    frames = protocol.eval["context"] + protocol.eval["horizon"]
    try:
        return load_clips(split=protocol.split, **protocol.data, seq_len=frames, batch_size=1)
    except InputError as error:
        raise InputError(
            f"test clips of {frames} frames, eval.context (--open-loop-ctx) + eval.horizon (--horizon): {error}"
        ) from None


def find_results(run: Path, protocol: Protocol, manifest: Mapping[str, Any]) -> Path | None:
    """The newest results of a run's checkpoint, that of a manifest, under a protocol, or None.

    A protocol with the digest of its clips wants results on the very same ones.
    """
    for folder, content in results_of(run):
        try:
            found = read_protocol(folder / "protocol.yml")
            used = content["provenance"]["checkpoint"]["files"]
        except (InputError, KeyError, TypeError):
            continue  # of another version
        same_clips = protocol.clips_sha256 in (None, found.clips_sha256)
        if same_clips and (found.data, found.eval, used) == (protocol.data, protocol.eval, manifest["files"]):
            return folder
    return None
