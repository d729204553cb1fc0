"""Files are damaged between two starts."""

import os
import shutil
import signal
from pathlib import Path

from benchmarks.faults.case import Case, kind
from benchmarks.faults.children import Ended
from benchmarks.faults.works import RUN, STEPS, finished_steps


def _spoil(case: Case, path: Path) -> None:
    """Damage a file as disks, copies and users do."""
    how = case.draw.choice(("truncate", "flip", "remove", "empty", "zeros", "text", "folder"))
    size = path.stat().st_size
    if how == "remove":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "text":
        path.write_bytes(case.draw.choice((b"{}", b"[]", b"null", b"\xff\xfe\x00", b"no", b'{"a": [1, {}]}\n')))
    elif how == "empty" or not size:
        path.write_bytes(b"")
    elif how == "truncate":
        os.truncate(path, case.draw.randrange(size))
    else:
        content, at = bytearray(path.read_bytes()), case.draw.randrange(size)
        if how == "flip":
            content[at] ^= 1 << case.draw.randrange(8)
        else:  # blocks that never reached the disk
            content[at : at + 4096] = bytes(len(content[at : at + 4096]))
        path.write_bytes(content)


def _spoiled(case: Case, pattern: str) -> Ended:
    """Damage one of some files, start, and put the good one back where the command refuses the damaged one."""
    found = sorted(path for path in case.folder.glob(pattern) if path.is_file())
    if not found:
        return case.stopped_soon()
    path = case.draw.choice(found)
    good = path.read_bytes()
    _spoil(case, path)
    ended = case.stopped_soon()
    if ended.status == 2 or not case.work.trains:
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(good)
    if not case.work.trains:
        shutil.rmtree(case.folder / case.work.out, ignore_errors=True)
    return ended


@kind("damaged checkpoint", "trainings")
def newest_checkpoint(case):
    newest = max(finished_steps(case.folder), default=None)
    ended = _spoiled(case, f"{RUN}/model/step_{newest}/*")
    case.forget()
    return ended


@kind("damaged checkpoint", "trainings")
def any_checkpoint(case):
    ended = _spoiled(case, f"{RUN}/model/step_*/*")
    case.forget()
    return ended


@kind("damaged checkpoint", "trainings")
def every_checkpoint(case):
    """The remedy is to start anew."""
    case.forget()
    there = list(case.run.glob("model/step_*/state.npz"))
    for path in there:
        os.truncate(path, path.stat().st_size // 2)
    ended = case.stopped_soon()
    if there and ended.status == 2:
        shutil.rmtree(case.run / "model")
    case.forget()
    return ended


@kind("damaged checkpoint", "others")
def model_of_a_run(case):
    ended = _spoiled(case, f"{RUN}/model/step_{STEPS}/*")
    case.forget()
    return ended


@kind("leftovers and strange names")
def leftovers(case):
    folder = case.run / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (".tmp-step_9", ".tmp-.tmp-step_9", "step_x", "step_-3", "step_²", "notes"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "state.npz").write_bytes(b"half")
    (case.run / ".config.yml.tmp-0123456789abcdef").write_text("model:")
    (folder / "step_7.bak").write_text("")
    return case.stopped_soon()


@kind("damaged log", "trainings")
def log(case):
    return _spoiled(case, f"{RUN}/metrics.jsonl")


@kind("damaged log", "models")
def pictures_and_events(case):
    """Files in the place of folders."""
    for name in ("samples", "tensorboard", "training.png"):
        path = case.run / name
        if case.draw.random() < 0.5:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
            case.run.mkdir(parents=True, exist_ok=True)
            path.write_text("") if name != "training.png" else path.mkdir()
    ended = case.stopped_soon()
    for name in ("samples", "tensorboard"):
        if (case.run / name).is_file():
            (case.run / name).unlink()
    return ended


@kind("damaged config or record", "commands")
def config_of_the_run(case):
    return _spoiled(case, f"{RUN}/config.yml")


@kind("damaged config or record", "commands")
def config_given(case):
    return _spoiled(case, "tiny.yml")


@kind("damaged config or record", "commands")
def records_of_the_run(case):
    return _spoiled(case, f"{RUN}/*.json")


@kind("damaged cache", "commands")
def frames_of_the_cache(case):
    return _spoiled(case, "cache/*/frames.npy")


@kind("damaged cache", "commands")
def any_file_of_the_cache(case):
    return _spoiled(case, "cache/**/*")


@kind("damaged cache", "commands")
def cache_is_removed(case):
    child = case.start()
    case.moment()
    shutil.rmtree(case.folder / "cache", ignore_errors=True)
    return case.wait(child)


@kind("damaged results", "others")
def what_is_there_already(case):
    """A part of an interrupted command is damaged."""
    child = case.start()
    case.moment()
    child.send(signal.SIGKILL)
    ended = case.wait(child)
    found = sorted(path for path in (case.folder / case.work.out).rglob("*") if path.is_file())
    if found:
        _spoil(case, case.draw.choice(found))
    return ended
