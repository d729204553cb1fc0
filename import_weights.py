"""Read published weights into a run folder: predicted with, evaluated, trained further like any other.

    python import_weights.py --from cms_lstm --file checkpoint.pth --out logs/imported

Nothing in a weight file is run; what is not plain arrays of the model is refused in one line. What was taken from where
is in <out>/imported.json and, in short, in <out>/model.md.
"""

import argparse
import sys

from htsr.errors import one_line_errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        help="whose code wrote them: htsr, cwvae, cms_lstm, conv_lstm, predrnn, motionrnn, gmg or lmc_memory",
    )
    parser.add_argument("--file", required=True, help="the weight file; of htsr and cwvae a checkpoint's folder")
    parser.add_argument("--out", required=True, help="run folder to create, such as logs/imported")
    parser.add_argument("--config", help="a file of configs/, for what the weights do not say (default: as published)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a config key")
    args = parser.parse_args()
    with one_line_errors():
        from htsr.runs import environment

        environment.import_tensorflow_quietly()
        from htsr.published.import_weights import import_weights

        run = import_weights(args.source, args.file, args.out, args.config, args.set)
        print((run / "model.md").read_text(encoding="utf-8"))
        return 0


if __name__ == "__main__":
    sys.exit(main())
