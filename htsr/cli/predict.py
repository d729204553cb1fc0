"""Predict how a video goes on; nobody needs to know how it really does.

    htsr predict --logdir logs/mine --input clip.mp4 --horizon 300 --num-samples 3 --out out
    htsr predict --pretrained htsr-mmnist-laptop --demo

The last frames of the video are the context, so the prediction is what comes after its end; --start N begins the
context at another frame. Frames become what the model was trained on: its size and channels, every n-th as in
data.stride of the run, other aspect ratios as in data.fit. One future is made of means instead of samples where the
run's eval.noise says so; several are always sampled. --out receives prediction.npz (every frame), prediction.mp4,
prediction.gif (300 predicted frames at most), strip.png and predict.json. --demo predicts the first clip of the test
split of the run's data and shows the truth beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from htsr.checks import require_int
from htsr.errors import InputError
from htsr.files import require_utf8
from htsr.runs.folder import find_run, load_run, pretrained_names, pretrained_run, read_run_config

if TYPE_CHECKING:  # OpenCV, which they import, is not needed for --help
    from htsr.data.video.clip import Context
    from htsr.data.video.files import FrameFormat, Video

FILES = ("prediction.npz", "predict.json", "strip.png", "prediction.gif", "prediction.mp4")
FPS = 10  # where the input does not say
MEANS = ", with means in place of samples (the run's eval.noise)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--logdir", help="run folder, or a model or step_<n> folder in it")
    names = " or ".join(pretrained_names())
    model.add_argument("--pretrained", metavar="NAME", help=f"a model that comes with htsr: {names}")
    video = parser.add_mutually_exclusive_group(required=True)
    video.add_argument("--input", help="video file, GIF, folder of images, .npy or .npz")
    video.add_argument("--demo", action="store_true", help="a test clip of the data the model was trained on")
    parser.add_argument("--out", help="folder of the results, made when missing (default with --demo: demo)")
    parser.add_argument("--context", type=int, help="frames shown to the model (default: the run's eval.context)")
    parser.add_argument("--horizon", type=int, help="frames predicted after them (default: the run's eval.horizon)")
    parser.add_argument("--start", type=int, help="the context's first frame, from 0 (default: it ends with the video)")
    parser.add_argument("--num-samples", type=int, default=1, help="futures (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the futures (default: 0)")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier prediction in --out")


def run(args: argparse.Namespace) -> None:
    """Predict as the arguments and the run's config say."""
    least = {"context": 1, "horizon": 1, "start": 0, "num_samples": 1, "seed": 0}
    for name, minimum in least.items():
        value = getattr(args, name)
        if value is not None and not minimum <= value < 2**31:
            bound = f"at least {minimum}" if value < minimum else f"at most {2**31 - 1}"
            raise InputError(f"--{name.replace('_', '-')} must be {bound}, received {value}")
    logdir = args.logdir or pretrained_run(args.pretrained)
    run = find_run(logdir)
    config = read_run_config(run)
    if args.demo and args.start is not None:
        raise InputError(f"--start {args.start} is for --input; --demo shows a clip from its beginning")
    if not args.demo and args.out is None:
        raise InputError("--out is missing; give a folder for the results")
    video, out = None if args.demo else _input(Path(args.input)), Path(args.out or "demo")
    _check_out(out, video, args.overwrite)

    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.data.video.clip import read_context
    from htsr.evaluation.protocol import check_eval

    given = {name: getattr(args, name) for name in ("context", "horizon", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    settings = check_eval({**config["eval"], **given})
    settings["num_samples"] = args.num_samples
    settings["noise"] = settings["noise"] if args.num_samples == 1 else "sample"
    model, manifest = load_run(logdir, args.checkpoint)
    if args.num_samples > 1 and not model.stochastic:
        raise InputError(
            f"this model has one future for a context, but --num-samples is {args.num_samples}; set it to 1"
        )
    means = model.stochastic and settings["noise"] == "mean"
    form, truth = None, None
    if video is None:
        context, truth, line = demo_clip(config["data"], settings)
        line += MEANS if means else ""
    else:
        form, stride = _format(model.frame_shape, config["data"].get("fit")), config["data"].get("stride", 1)
        require_int("data.stride", stride, least=1)
        context = read_context(video, form, settings["context"], stride, args.start)
        line = announcement(video, form, context, settings["context"], args.start, means)
    print(line + (f"; it {context.note}" if context.note else ""), file=sys.stderr)
    trained_on = _stand_in(config["data"])
    if trained_on:
        print(f"the model was trained on a {trained_on}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    numbers, prediction = context.numbers, rollout(model, context, settings, f"step {manifest['step']} of {run}")
    report = {
        "input": video.name if video else line,
        "frames": {"first": numbers[0], "last": numbers[-1], "stride": numbers.step, "count": len(numbers)},
        **{name: getattr(context, name) for name in ("total", "size", "fps", "note")},
        "format": form and form._asdict(),
        **{name: settings[name] for name in ("horizon", "num_samples", "seed")},
        "noise": settings["noise"] if model.stochastic else "none: the model is deterministic",
        "run": str(run),
        "trained_on": trained_on,
        "checkpoint": {name: manifest[name] for name in ("step", "score", "files")},
        "environment": environment.describe(),
    }
    save(out, context, prediction, report, truth)
    print(f"{', '.join(FILES)} are in {out}")


def demo_clip(data: dict, settings: dict) -> tuple[Context, np.ndarray, str]:
    """Return the first test clip of a model's data: its context, the frames after it, and a line that describes it."""
    from htsr.data.video.clip import Context
    from htsr.evaluation.protocol import load_test_clips, make_protocol

    clips = load_test_clips(make_protocol(data, settings))
    frames = np.rint(255 * next(clips.examples(1))[0]).astype(np.uint8)
    numbers, size = range(settings["context"]), (*frames.shape[1:3], frames.shape[3])
    line = f"first test clip of {data['name']}: predicting from {_frames(numbers)}"
    return Context(frames[: len(numbers)], numbers, len(frames), size, None, None), frames[len(numbers) :], line


def announcement(video: Video, form: FrameFormat, context: Context, count: int, start: int | None, means: bool) -> str:
    """Return the line that says which frames are used and what becomes of them."""
    numbers, stride = context.numbers, context.numbers.step
    shape = f"{context.size[1]} x {context.size[0]}" + (f", {context.fps:.4g} fps" if context.fps else "")
    line = f"{video.name} " + (f"has {context.total} frames ({shape})" if context.total else f"({shape})")
    short = len(numbers) < count
    if short:
        line += f", {(context.total or 0) - start} of them from --start {start} on" if start else ""
        wanted = f"the {(count - 1) * stride + 1} that " if stride > 1 else ""
        line += f", fewer than {wanted}--context {count}" + (f" takes, {stride} apart" if stride > 1 else "")
        line += f": {'all ' if stride == 1 else ''}{len(numbers)} are used"
    line += f"{',' if short else ':'} predicting from {_frames(numbers)}"
    if context.size[:2] != (form.height, form.width):
        done = {"stretch": "stretched", "crop": "cropped", "letterbox": "letterboxed"}[form.fit]
        same = context.size[0] * form.width == context.size[1] * form.height
        line += f", {'scaled' if same else done} to {form.width} x {form.height}"
    if context.size[2] != form.channels:
        line += ", in grey" if form.channels == 1 else ", in three equal channels"
    line += MEANS if means else ""
    return line + ("; --start chooses others" if start is None and not short else "")


def rollout(model, context: Context, settings: dict, checkpoint: str) -> np.ndarray:
    """Predict, a piece of the horizon at a time: uint8 (num_samples, horizon, height, width, channel)."""
    from tqdm import tqdm

    from htsr.data.clips import as_floats
    from htsr.evaluation.evaluate import CHUNK

    clip = as_floats(context.frames)[None]
    wanted = {name: settings[name] for name in ("horizon", "num_samples", "seed", "noise")}
    pieces = []
    with tqdm(total=settings["horizon"], desc="predicting", unit="frame", disable=None) as progress:
        for piece in model.rollout_chunks(clip, **wanted, rows=1, chunk=CHUNK):
            if not np.isfinite(piece).all():
                raise InputError(
                    f"{checkpoint} predicts nan or inf: the training has diverged; choose another --checkpoint"
                )
            pieces.append(np.rint(255 * np.clip(piece[:, 0], 0, 1)).astype(np.uint8))
            progress.update(piece.shape[2])
    return np.concatenate(pieces, axis=1)


def save(out: Path, context: Context, prediction: np.ndarray, report: dict, truth: np.ndarray | None = None) -> None:
    """Write ``FILES``: a prediction (num_samples, horizon, height, width, channel) and the truth where it is known.

    Those of an earlier prediction are deleted first, so that two are never mixed.
    """
    from htsr.report.prediction import PICTURED, label_futures, save_pictures

    for name in FILES:
        (out / name).unlink(missing_ok=True)
    fps = (context.fps or FPS) / context.numbers.step
    known = {} if truth is None else {"truth": truth}
    np.savez_compressed(out / "prediction.npz", context=context.frames, prediction=prediction, fps=fps, **known)
    (out / "predict.json").write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    save_pictures(out, context.frames, known | label_futures(prediction[:PICTURED]), fps)


def _input(path: Path) -> Video:
    """Return the video at ``path``, a file or a folder of images."""
    from htsr.data.video.files import IMAGES, Video, images_in, shown

    if not path.exists():
        raise InputError(f"--input {path} does not exist; give a video file, a folder of images, or a .npy or .npz")
    if path.is_dir() and not images_in(path):
        raise InputError(f"--input {path} has no images ({', '.join(IMAGES)}); give such a folder, or one video file")
    return Video(shown(path.name or path.resolve().name), path)


def _check_out(out: Path, video: Video | None, overwrite: bool) -> None:
    require_utf8(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    if video and out.exists() and out.samefile(video.path):
        raise InputError(f"--out {out} is the input; give another folder")
    if video and video.path.resolve().parent == out.resolve() and video.path.name in FILES:
        raise InputError(f"--input {video.path} is a file that this writes; give another --out")
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise InputError(f"--out {out} holds {', '.join(there)} already; give another folder, or --overwrite")


def _format(frame_shape: tuple[int, ...], fit: str | None) -> FrameFormat:
    """Return what the frames of the run's data became: the model's shape, and the ``fit`` of that dataset."""
    from htsr.data.video.files import frame_format

    height, width, channels = frame_shape
    if channels not in (1, 3):
        raise InputError(f"the model predicts frames of {channels} channels, which no video has; give another --logdir")
    return frame_format((height, width), channels, fit or "stretch")


def _stand_in(data: dict) -> str | None:
    """What the model was trained on, where that was generated for want of the real data."""
    return f"synthetic stand-in for {data['name']}" if data.get("stand_in") and not data.get("datadir") else None


def _frames(numbers: range) -> str:
    """Return frame numbers in words."""
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    return f"frames {numbers[0]} to {numbers[-1]}" + (f", {numbers.step} apart" if numbers.step > 1 else "")
