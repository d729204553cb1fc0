"""The config of an imported run: what weights say, what was set, and where both are silent what was published."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from htsr.config import SECTIONS, check_named, check_section, read_config, read_overrides
from htsr.data import DATASETS
from htsr.errors import InputError
from htsr.evaluation.protocol import check_eval
from htsr.models import MODELS
from htsr.published.readers.tensors import Contents
from htsr.published.sources import Source
from htsr.training.fit import fit

FURTHER_STEPS = 10_000
_PARTS = ("cell", "translator")  # arguments that may be mappings

# Where an argument of the model comes from; later ones win, and what weights say no one may contradict.
WEIGHTS, SET, CONFIG, ORIGINAL, PUBLISHED, DEFAULT = (
    "the weights", "--set", "--config", "the original's config", "the published setting", "the default"
)  # fmt: skip


class Settled(NamedTuple):
    """A run's config by section, and for each argument of the model where it is from."""

    config: dict[str, dict[str, Any]]
    origins: dict[str, str]


def settle(
    name: str, source: Source, contents: Contents, config: str | Path | None, overrides: Iterable[str], step: int
) -> Settled:
    """Make the config of a run from a weight file.

    Args:
        name: the source's.
        source: the source.
        contents: of the file.
        config: path of a config of ours, or None.
        overrides: as in ``read_config``.
        step: training steps done.

    Raises:
        InputError: a refused key, or one that contradicts the weights.
    """
    overrides = read_overrides(overrides)
    ours = read_config(config) if config is not None else {section: {} for section in SECTIONS}
    original = source.original_config(contents.settings)
    arguments, origins = _arguments(name, source, contents, ours, original.get("model", {}), overrides["model"])
    frames = tuple(arguments["frame_shape"])
    training = {**source.training, "context": arguments.get("context", source.training.get("context"))}
    fallback = {
        "data": _data(frames, training),
        "train": _train(training, step),
        "eval": {key: training[key] for key in ("context", "horizon")},
    }
    if original.get("data", {}).get("name", fallback["data"]["name"]) != fallback["data"]["name"]:
        fallback["data"] = {}
    sections = {}
    for section, values in fallback.items():
        sections[section] = {**(ours[section] or {**values, **original.get(section, {})}), **overrides[section]}
    sections = {
        "model": {"name": source.model, **arguments},
        "data": check_named("data", sections["data"], DATASETS, reserved=("split",)),
        "train": check_section("train", sections["train"], fit, reserved=("model", "clips", "valid_clips", "run")),
        "eval": check_eval(sections["eval"]),
    }
    return Settled(sections, origins)


def _arguments(name: str, source: Source, contents: Contents, ours, original, given):
    """The model's arguments, complete and checked, and where they are from."""
    set_by_config = _flat(ours["model"])
    _check_model(name, source, set_by_config.pop("name", None), "--config has model.name")
    given = _flat(given)
    _check_model(name, source, given.pop("name", None), "--set has model.name")
    for key in source.kept:
        set_by_config.pop(key, None)
    size = ours["data"].get("image_size")
    fixed = {key: source.published[key] for key in source.fixed}
    certain = {**fixed, **source.infer(contents, {**set_by_config, **given})}
    guessed = source.guess(contents, certain)
    if "frame_shape" in guessed and size is not None:
        sides = list(size) if isinstance(size, Sequence) else [size, size]
        guessed["frame_shape"] = [*sides, guessed["frame_shape"][-1]]
    layers = {
        PUBLISHED: {**guessed, **source.published}, ORIGINAL: original, CONFIG: set_by_config, SET: given,
    }  # fmt: skip
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers.items():
        values |= layer
        origins |= dict.fromkeys(layer, origin)
    for key, value in certain.items():
        if key in (*set_by_config, *given) and _plain(values[key]) != _plain(value):
            raise InputError(
                f"model.{key} is {values[key]} in {origins[key]}, but the weights have {value}; leave it out"
            )
    values |= certain
    origins |= dict.fromkeys(certain, WEIGHTS) | dict.fromkeys(fixed, PUBLISHED)
    if "frame_shape" not in values:
        raise InputError(
            "these weights do not say what size frames have; add --set model.frame_shape=[height,width,channels]"
        )
    checked = check_section("model", _nested(values), MODELS[source.model])
    return checked, {key: origins.get(key, DEFAULT) for key in _flat(checked)}


def _flat(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A model's arguments, those of its cell or translator as ``cell.<key>`` beside the cell's name."""
    found = dict(arguments)
    for part in _PARTS:
        if isinstance(own := arguments.get(part), Mapping):
            found |= {f"{part}.{key}": value for key, value in own.items() if key != "name"} | {part: own.get("name")}
    return found


def _nested(arguments: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(arguments)
    for part in _PARTS:
        own = {key.partition(".")[2]: found.pop(key) for key in arguments if key.startswith(f"{part}.")}
        found |= {part: {"name": found[part], **own}} if own else {}
    return found


def _check_model(name: str, source: Source, found: Any, where: str) -> None:
    if found not in (None, source.model):
        raise InputError(f"{where} {found}, but weights of {name} are of {source.model}; give another --from or config")


def _data(frames: tuple[int, ...], training: Mapping[str, Any]) -> dict[str, Any]:
    """Data with frames of the model's shape."""
    height, width, channels = frames
    shared = {"seq_len": training["context"] + training["horizon"], "batch_size": training["batch_size"]}
    if frames == (32, 32, 2):
        return {"name": "taxibj", "source": "openstl" if shared["seq_len"] <= 8 else "original", **shared}
    if frames == (32, 64, 1):
        return {"name": "weatherbench", **shared}
    if height == width and channels == 1:
        return {"name": "moving_mnist", "source": "generated", "num_digits": 2, "image_size": height, **shared}
    return {"name": "videos", "image_size": [height, width], "channels": channels, **shared}


def _train(training: Mapping[str, Any], step: int) -> dict[str, Any]:
    context, horizon = training["context"], training["horizon"]
    return {
        "steps": step + FURTHER_STEPS,
        **{key: training[key] for key in ("learning_rate", "epsilon")},
        "clip_norm": None,
        "valid_context": context,
        "valid_horizon": min(horizon, 64),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
