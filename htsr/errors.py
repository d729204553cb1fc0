"""The one exception users are meant to see, and how a script ends when it meets one."""

import contextlib
import errno
import lzma
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow this user to write and read there"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY), "move away what stands in its place"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT), "check the disk or network it lies on"),
}

# What Python, NumPy, Pillow and h5py raise for files that are damaged, or made to hurt.
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError,
    lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_OUT_OF_REACH = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}


def out_of_reach(error: Exception) -> bool:
    """Whether an error of ``DAMAGE`` says that a file cannot be read now, not that it is damaged: nobody removes it."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_REACH


class InputError(ValueError):
    """A refused argument, file or config; the message, one line, says what, expected, received and the way out.

    Anything else that escapes (a plain ``ValueError``, a ``TypeError``) is a bug of this package.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split("\n")))


class Output:
    """A stream of texts that never ends a command: what cannot be encoded is escaped, what is not read is lost.

    Args:
        stream: stdout or stderr.
        failures: of a write that are no matter: a reader that has closed its pipe, say. After any, the rest goes
            nowhere.
    """

    def __init__(self, stream: Any, failures: tuple[type[OSError], ...]):
        self._stream, self._failures = stream, failures
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text: the number of its characters."""
        with self._kept():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        with self._kept():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # with what the stream still holds
            os.close(nowhere)
            if not isinstance(error, self._failures):
                raise


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Scripts run inside this: whatever becomes of stdout and stderr, what they do is done to the end."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = Output(sys.stdout or nowhere, (BrokenPipeError,))
        sys.stderr = Output(sys.stderr or nowhere, (OSError,))
        try:
            yield
        finally:
            try:
                with one_line_errors():  # of a full disk that stdout goes to
                    sys.stdout.flush()
            finally:
                sys.stderr.flush()
                sys.stdout, sys.stderr = before


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Scripts run inside this: bad input, a failing disk or too little memory is one line on stderr and exit status 2;
    Ctrl-C is 130."""
    try:
        yield
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _line(error: Exception) -> str | None:
    """What to say of an error that is none of the package; None of one that is."""
    said = " ".join(str(error).split())
    tensorflow = sys.modules.get("tensorflow")
    if isinstance(error, MemoryError) or (tensorflow and isinstance(error, tensorflow.errors.ResourceExhaustedError)):
        return (
            f"out of memory ({said[:200] or type(error).__name__}); lower batch_size, seq_len or the model's size; a"
            " training can also raise train.accumulate, or set train.recompute"
        )
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno)
        return f"{said}; {remedy}, and give the same command again" if remedy else said
    return said if isinstance(error, InputError) else None
