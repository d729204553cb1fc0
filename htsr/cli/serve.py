"""Serve an exported model: a page, POST /predict, and live predictions over a WebSocket.

    htsr export --logdir logs/mmnist_laptop --out exported/mmnist
    htsr serve --model exported/mmnist

Then open http://127.0.0.1:8000, or

    curl --data-binary @clip.mp4 "http://127.0.0.1:8000/predict?horizon=60&format=gif" -o prediction.gif

The service has no login and no encryption: put a proxy that has both before it, where other machines are to reach it.
The docstring of htsr.serving.live describes the protocol of live predictions. SIGTERM and Ctrl-C let running work
finish. The command needs the packages of the extra "serve"; TensorFlow alone runs the model.
"""

import argparse
import math

from htsr.errors import InputError
from htsr.serving.limits import HELP, Limits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--model", required=True, help="folder that htsr export wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--decoders", type=int, default=2, help="processes that read clips (default: 2)")
    parser.add_argument("--json-log", action="store_true", help="log lines of JSON, one a request")
    limits = parser.add_argument_group("limits")
    for name, value in Limits()._asdict().items():
        flag = f"--{name.replace('_', '-')}"
        limits.add_argument(flag, type=type(value), default=value, help=f"{HELP[name]} (default: {value:g})")


def run(args: argparse.Namespace) -> None:
    """Serve as the arguments say."""
    limits = Limits(**{name: getattr(args, name) for name in Limits._fields})
    least = {**dict.fromkeys(Limits._fields, 1), "decoders": 1, "port": 0}
    least |= dict.fromkeys(name for name, value in Limits()._asdict().items() if isinstance(value, float))
    for name, minimum in least.items():
        value = getattr(args, name)
        flag = f"--{name.replace('_', '-')}"
        if minimum is None and not 0 < value < math.inf:
            raise InputError(f"{flag} must be above 0, received {value:g}")
        if minimum is not None and value < minimum:
            raise InputError(f"{flag} must be at least {minimum}, received {value}")

    try:
        from htsr.serving import server
    except ImportError as error:
        raise InputError(f"{error}; serving needs more packages: pip install 'htsr[serve]'") from None
    from htsr.serving.model import ServedModel

    server.serve(ServedModel(args.model), args.host, args.port, limits, args.decoders, args.json_log)
