"""How a command ends when something fails that is no bug: one line that says what to do, and status 2."""

import errno
import os

import pytest

from htsr.errors import InputError, one_line_errors


def line_of(capsys, error: Exception) -> str:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    printed = capsys.readouterr().err
    assert (end.value.code, printed.count("\n")) == (2, 1)
    return printed


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "make room there, and give the same command again"),
        (errno.EACCES, "allow this user to write and read there"),
        (errno.EIO, "check the disk or network it lies on"),
    ],
)
def test_failing_disks_have_a_remedy(capsys, code, remedy):
    found = line_of(capsys, OSError(code, os.strerror(code), "logs/run/metrics.jsonl"))
    assert "logs/run/metrics.jsonl" in found
    assert remedy in found


def test_too_little_memory_of_host_and_device(capsys):
    import tensorflow as tf

    for error in (MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nshape[4,6]")):
        assert "error: out of memory (" in (found := line_of(capsys, error))
        assert "lower batch_size" in found


def test_bugs_keep_their_traceback():
    with pytest.raises(KeyError), one_line_errors():
        raise KeyError


def test_a_refusal_is_one_line(capsys):
    assert (
        line_of(capsys, InputError("a name with\na new line; rename it"))
        == "error: a name with a new line; rename it\n"
    )
    assert "\n" not in str(InputError("a\nb"))
