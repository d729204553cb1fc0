"""Look through your videos and decode them once, ready for training.

    htsr prepare my_videos/ --size 64 --gray --out data/mine
    htsr train --config videos --datadir data/mine

Prints every video found, what is refused and why, and which videos are for training, validation and test (see
``htsr.data.videos`` for the rules). ``--out`` receives ``frames.npy``, ``manifest.json`` and ``contact_sheet.png``.
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from htsr.errors import InputError

SHEET_VIDEOS, SHEET_PICTURES = 40, 8
CONFIG_FRAMES = 100  # context and horizon of configs/videos.yml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("videos", help="a folder (one file a video, or one sub-folder of images a video), or one file")
    parser.add_argument("--out", required=True, help="folder of the result; must not exist yet")
    parser.add_argument("--size", type=int, nargs="+", default=[64], metavar="N", help="side, or height and width (64)")
    parser.add_argument("--gray", action="store_true", help="one channel in place of three")
    parser.add_argument("--fit", default="stretch", help="stretch (default), crop or letterbox other aspect ratios")
    parser.add_argument("--damaged", default="skip", help="skip (default) or refuse videos that cannot be decoded")


def run(args: argparse.Namespace) -> None:
    """Decode, divide, report."""
    from htsr.checks import require_choice
    from htsr.data.video.cache import CachedVideos, Damaged, write_entry
    from htsr.data.video.files import find_videos, frame_format, passed_over
    from htsr.data.video.windows import SYNTHETIC, some, synthetic_note
    from htsr.data.videos import SPLIT_FILE, listed_split, split_videos

    source, out = Path(args.videos), Path(args.out)
    if len(args.size) > 2:
        raise InputError(f"--size takes one number, or height and width, received {len(args.size)}")
    require_choice("--damaged", args.damaged, get_args(Damaged))
    form = frame_format(args.size[0] if len(args.size) == 1 else tuple(args.size), 1 if args.gray else 3, args.fit)
    if out.exists():
        raise InputError(f"{out} exists; give --out a new folder, or delete it first")
    found = find_videos(source)
    print(f"{source}: {len(found)} videos found")
    others = passed_over(source, found) if source.is_dir() else []
    if others := [name for name in others if Path(name).name not in (SPLIT_FILE, SYNTHETIC)]:
        print(f"  passed over, since they are no videos: {some(others)}")
    listed = listed_split(source, [video.name for video in found])

    def divided(stored):
        parts = split_videos(stored, listed, source)
        return {"splits": parts, "note": synthetic_note(source)}

    write_entry(out, found, form, what=str(source), damaged=args.damaged, extra=divided)
    store = CachedVideos(out)
    _report(store, out)
    _save_sheet(store, out / "contact_sheet.png")


def _report(store, out: Path) -> None:
    width = max(len(video.name) for video in store.videos)
    for video in store.videos:
        fps = f"{video.fps:.4g} fps" if video.fps else "no frame rate"
        print(f"  {video.name:{width}}  {video.frames:7,} frames  {fps}{f'  ({video.note})' if video.note else ''}")
    for why in store.refused.values():
        print(f"  refused: {why}")
    for split, segments in store.manifest["splits"].items():
        frames = sum(stop - start for _, start, stop in segments)
        print(f"{split}: {frames:,} frames in {len(segments)}: {', '.join(_name(store, part) for part in segments)}")
    size = (out / "frames.npy").stat().st_size / 2**20
    height, wide, channels = store.shape
    print(f"{out}: frames of {height} x {wide} x {channels}, {size:.1f} MiB; look at {out}/contact_sheet.png")
    print(f"next: htsr train --config videos --datadir {out}")
    parts = {name: max(stop - start for _, start, stop in store.manifest["splits"][name]) for name in ("valid", "test")}
    if min(parts.values()) < CONFIG_FRAMES:
        print(
            f"but the longest part of valid has {parts['valid']} frames, of test {parts['test']}, and that config takes"
            f" {CONFIG_FRAMES}: set train.valid_horizon and eval.horizon lower, or add longer videos"
        )
    if (height, wide) != (64, 64):
        print("but its model, htsr, takes frames of 64 x 64 pixels: recurrent (configs/cms_lstm) takes others")


def _name(store, segment) -> str:
    number, start, stop = segment
    video = store.videos[number]
    return video.name if stop - start == video.frames else f"{video.name} (frames {start} to {stop - 1})"


def _save_sheet(store, path: Path) -> None:
    """Some pictures of each part of each split, at equal distances from first to last."""
    from htsr.report import figures

    rows = {}
    for split, segments in store.manifest["splits"].items():
        for segment in segments:
            number, start, stop = segment
            chosen = np.unique(np.linspace(start, stop - 1, SHEET_PICTURES).round().astype(int))
            pictures = np.concatenate([store.read(number, index, index + 1) for index in chosen])
            rows[f"{split}: {_name(store, segment)}"] = pictures
    figures.save_contact_sheet(path, dict(list(rows.items())[:SHEET_VIDEOS]))
    if len(rows) > SHEET_VIDEOS:
        print(f"the contact sheet shows the first {SHEET_VIDEOS} of {len(rows)}")
