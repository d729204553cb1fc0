"""An alias of ``htsr train``."""

import sys

from htsr.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], prog="train.py"))
