"""What the package itself has written: run folders and the cache."""

import contextlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.fuzz.spoil import archive, npy, odd_value, spoil
from benchmarks.fuzz.table import ARRAY, CONFIG, target, written


@target
def checkpoint():
    """Checkpoints: manifests, arrays and logs."""
    from htsr.runs import checkpoints

    arrays = {"model/a": np.arange(6, dtype=np.float32), "optimizer/b": np.array(3)}
    log = written("log/metrics.jsonl", b'{"step": 1}\n')
    checkpoints.save("good", 1, arrays, score=0.5, log=log)
    good = {path.name: path.read_bytes() for path in Path("good/step_1").iterdir()}
    manifest = json.loads(good["manifest.json"])

    def read(draw):
        import hashlib

        changed = dict(good)
        if draw.random() < 0.5:
            name = draw.choice(list(good))
            changed[name] = spoil(draw, good[name], list(good.values()))
        if draw.random() < 0.5:  # by somebody who makes the digests fit
            with zipfile.ZipFile(io.BytesIO(good["state.npz"])) as file:
                members = {name: file.read(name) for name in file.namelist()}
            members = {name: npy(draw) if draw.random() < 0.3 else content for name, content in members.items()}
            changed["state.npz"] = archive(draw, members)
            tree = odd_value(draw, manifest) if draw.random() < 0.5 else json.loads(json.dumps(manifest))
            with contextlib.suppress(KeyError, TypeError):
                tree["files"]["state.npz"] = {
                    "bytes": len(changed["state.npz"]), "sha256": hashlib.sha256(changed["state.npz"]).hexdigest()
                }  # fmt: skip
            changed["manifest.json"] = json.dumps(tree).encode("utf-8", "surrogatepass")
        for name, content in changed.items():
            written(f"run/step_1/{name}", content)
        which = draw.choice(("latest", "best", 1))
        checkpoints.load("run", which)
        checkpoints.read_manifest("run")

    return read


@target
def run_records():
    """What lies in a run folder beside checkpoints, as a card and the results of an evaluation read it."""
    from htsr.runs import checkpoints, trained_on
    from htsr.runs.card import write_card
    from htsr.runs.folder import results_of

    checkpoints.save("run/model", 1, {"model/a": np.arange(6, dtype=np.float32)})
    written("run/config.yml", CONFIG)
    seen = {"train": [["a.npy", 0, 40, "0123456789abcdef" * 10]]}
    imported = {
        "arguments": {"levels": "file"}, "what": "x", "types": ["float32"], "counters": {"step": 3}, "optimizer": "no",
        "files": [{"name": "a", "bytes": 3, "sha256": "0"}], "left_out": {"count": 0, "first": []},
        "unread": {"count": 1, "first": ["x"]}, "weights": {"chosen": "a", "others": ["b"]},
    }  # fmt: skip
    manifest = json.loads(Path("run/model/step_1/manifest.json").read_text())
    result = {
        "provenance": {"checkpoint": {"step": 1}, "horizon": 3},
        "metrics": {"psnr": {"label": "PSNR"}},
        "curves": {},
    }
    files = {
        "trained_on.json": seen, "imported.json": imported, "model/step_1/manifest.json": manifest,
        "eval/1/curves.json": result,
    }  # fmt: skip

    def read(draw):
        name = draw.choice(list(files))
        for path, content in files.items():
            text = json.dumps(odd_value(draw, content) if path == name else content).encode("utf-8", "surrogatepass")
            written(f"run/{path}", spoil(draw, text, [text]) if path == name and draw.random() < 0.3 else text)
        trained_on.seen(Path("run"), seen["train"], 4, 16)
        list(results_of(Path("run")))
        write_card("run")

    return read


@target
def cache():
    """Entries of the cache and folders of ``htsr prepare``."""
    from htsr.data.videos import videos

    folder = Path("entry")
    folder.mkdir(exist_ok=True)
    np.save(folder / "frames.npy", ARRAY)
    manifest = {
        "schema": 1, "format": {"height": 16, "width": 16, "channels": 1, "fit": "stretch"}, "refused": {},
        "note": None,
        "splits": {"train": [[0, 0, 4]], "valid": [[0, 4, 8]], "test": [[0, 8, 12]]},
        "videos": [{"name": "a", "first": 0, "frames": 12, "decoder": "numpy", "fps": None, "note": None}],
    }  # fmt: skip
    good = (folder / "frames.npy").read_bytes()

    def read(draw):
        tree = odd_value(draw, manifest) if draw.random() < 0.8 else manifest
        written("entry/manifest.json", json.dumps(tree).encode("utf-8", "surrogatepass"))
        written("entry/frames.npy", spoil(draw, good, [good]) if draw.random() < 0.3 else good)
        clips = videos("train", datadir="entry", batch_size=1, seq_len=2)
        clips.window(0)

    return read
