"""Parse the command line of ``htsr`` and run the chosen command; only the module of that command is imported."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from htsr import __version__
from htsr.checks import did_you_mean
from htsr.errors import lasting_output, one_line_errors

# Command -> its module in htsr.cli, and what it does.
COMMANDS = {
    "train": ("train", "train a model as a config says, or continue an interrupted training"),
    "evaluate": ("evaluate", "evaluate a trained model over a long horizon"),
    "predict": ("predict", "predict how a video goes on"),
    "prepare": ("prepare", "check your own videos and decode them once, ready for training"),
    "compare": ("compare", "compare trained models on the same clips"),
    "export": ("export", "export a trained model as a SavedModel"),
    "import": ("import_weights", "read published weights into a run folder"),
    "serve": ("serve", "serve an exported model over HTTP"),
    "release": ("release", "write the weights of a run in half precision, to be shared"),
    "bench": ("bench", "measure how fast a config is on this machine"),
    "doctor": ("doctor", "say what is installed, on what machine, and what is known to go wrong there"),
}
EPILOG = "'htsr COMMAND --help' describes a command."


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command ``htsr``.

    Args:
        arguments: the command line without the program's name; None takes that of the process.
        prog: what the usage text calls the chosen command (default: ``htsr <command>``).

    Returns:
        The exit status of the command.

    Raises:
        SystemExit: with status 2 for bad input, which is one line on stderr; with 0 after ``--help``.
    """
    os.environ["MPLBACKEND"] = "agg"  # Keras imports Matplotlib, which refuses some values, a notebook's for one
    with lasting_output(), one_line_errors():
        return _run(sys.argv[1:] if arguments is None else list(arguments), prog)


def _run(arguments: list[str], prog: str | None) -> int:
    chosen = next(iter(arguments), "")
    parser = argparse.ArgumentParser("htsr", description="Long-horizon video prediction.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"htsr {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary)
    if chosen and not chosen.startswith("-") and chosen not in COMMANDS:
        parser.error(f"unknown command {chosen!r}; {did_you_mean(chosen, COMMANDS)}")
    if chosen not in COMMANDS:
        parser.parse_args(arguments)
    command = importlib.import_module(f"htsr.cli.{COMMANDS[chosen][0]}")
    options = argparse.ArgumentParser(
        prog or f"htsr {chosen}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(options)
    return command.run(options.parse_args(arguments[1:])) or 0
