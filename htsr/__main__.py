"""``python -m htsr`` is the command ``htsr``."""

import sys

from htsr.cli.main import main

sys.exit(main())
