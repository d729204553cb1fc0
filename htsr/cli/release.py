"""Release a trained model: a run folder of its weights alone, in half precision, with a card.

    htsr release logs/mmnist_laptop pretrained/htsr-mmnist-laptop

The folder is used like any run folder (--logdir, htsr.load_model). It has a sixth of a checkpoint's size and no
optimiser, so it cannot be trained further.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("logdir", help="run folder")
    parser.add_argument("out", help="folder to create; it must not exist")
    parser.add_argument("--checkpoint", default="latest", help="latest (default), best or a step")


def run(args: argparse.Namespace) -> None:
    """Release the weights of a run."""
    from htsr.runs import environment

    environment.import_tensorflow_quietly()
    from htsr.runs.release import release

    print(f"released to {release(args.logdir, args.out, args.checkpoint)}")
