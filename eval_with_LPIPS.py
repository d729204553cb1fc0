"""An alias of ``htsr evaluate``."""

import sys

from htsr.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]], prog="eval_with_LPIPS.py"))
