"""The one exception users are meant to see, and how a script ends when it meets one."""

import contextlib
import sys
from collections.abc import Iterator


class InputError(ValueError):
    """A refused argument, file or config; the message says what, expected, received and the way out.

    Anything else that escapes (a plain ``ValueError``, a ``TypeError``) is a bug of this package.
    """


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Scripts run inside this: bad input or a failing disk is one line on stderr and exit status 2; Ctrl-C is 130."""
    try:
        yield
    except (InputError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
