"""Read published weights into a run folder: predicted with, evaluated, trained further like any other.

    htsr import --from cms_lstm --file checkpoint.pth --out logs/imported

Nothing in a weight file is run; what is not plain arrays of the model is refused in one line. What was taken from where
is in <out>/imported.json and, in short, in <out>/model.md.
"""

import argparse

from htsr.config import find_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        help="whose code wrote them, such as cms_lstm, predrnn or htsr; docs/published.md has all",
    )
    parser.add_argument("--file", required=True, help="the weight file; of htsr and cwvae a checkpoint's folder")
    parser.add_argument("--out", required=True, help="run folder to create, such as logs/imported")
    parser.add_argument(
        "--config", help="for what the weights do not say: a file, or the name of a config (default: as published)"
    )
    parser.add_argument("--weights", metavar="NAME", help="which set, of a file that holds several: model, model_ema")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a config key")


def run(args: argparse.Namespace) -> None:
    """Import weights and print the card of the new run folder."""
    config = find_config(args.config) if args.config else None

    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.published.import_weights import import_weights

    folder = import_weights(args.source, args.file, args.out, config, args.set, args.weights)
    print((folder / "model.md").read_text(encoding="utf-8"))
