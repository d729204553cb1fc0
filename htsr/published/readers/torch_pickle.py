"""The pickles in PyTorch's files, read without unpickling.

A pickle is a program; Python's own reader of it may call anything. Here its opcodes are gone through one by one, and
all they can make is dicts, lists, tuples, numbers, texts and ``Tensor``s. Names of functions and classes are never
looked up: the few that rebuild tensors are recognised by their names, others of PyTorch, NumPy and training frameworks
become an empty ``Placeholder``, and any further one is refused. Sizes and steps are bounded, so that no small file can
fill the memory or take long.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from htsr.errors import InputError
from htsr.published.readers.tensors import SAVE_AGAIN

MAX_BYTES = 1 << 24
MAX_OPCODES = 1_000_000  # some 40,000 tensors
MAX_NAME = 300  # characters

# Of these packages' modules, and of the built-in types, names beside those known are passed over; none is imported.
PASSED_OVER = (
    "torch", "numpy", "collections", "argparse", "pathlib", "_codecs", "lightning", "lightning_fabric",
    "pytorch_lightning", "lightning_utilities", "omegaconf", "typing",
)  # fmt: skip

_TYPES = {
    "list",
    "dict",
    "set",
    "frozenset",
    "tuple",
    "int",
    "float",
    "complex",
    "bool",
    "str",
    "bytes",
    "object",
    "slice",
}

_VALUES = {
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEYS = (str, int, float, bytes, type(None))


class Name(NamedTuple):
    """A name of a function or class, never looked up."""

    module: str
    name: str


class Placeholder(NamedTuple):
    """In place of an object that no weights need: whatever it was, and holding nothing."""

    of: str


def read_pickle(file: BinaryIO, storage: Callable[[tuple], Any], rebuild: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """Read one pickle from a file's present place on, and leave the file behind it.

    Args:
        file: of at most ``MAX_BYTES`` bytes.
        storage: makes a storage of what the pickle says of it: its persistent id.
        rebuild: makes a tensor of storage, offset, size and stride.

    Raises:
        InputError: it is damaged, too long, or names something that weights do not need.
    """
    machine = _Machine(storage, rebuild)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > MAX_OPCODES:
                raise InputError(f"it has more than {MAX_OPCODES} steps; {SAVE_AGAIN}")
            machine.step(opcode.name, argument)
        return machine.result
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"its description of tensors is damaged ({str(error)[:100]}); fetch the file again") from None


class _Machine:
    """The stack machine of pickles."""

    def __init__(self, storage, rebuild):
        self._storage, self._rebuild = storage, rebuild
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # stacks below marks
        self._memo: dict[int, Any] = {}
        self._copied = 0
        self.result: Any = None

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self._stack.append(_CONSTANTS.get(opcode, argument))
        elif opcode in _NEW:
            self._stack.append(_NEW[opcode]())
        elif opcode in _TUPLES:
            size = _TUPLES[opcode]
            if len(self._stack) < size:
                raise ValueError("a tuple of nothing")
            self._stack[-size:] = [tuple(self._stack[-size:])]
        elif opcode not in ("PROTO", "FRAME"):
            method = getattr(self, f"_{opcode.lower()}", None)
            if method is None:
                raise InputError(f"it has the step {opcode}, which no weights need; {SAVE_AGAIN}")
            method(argument)

    def _stop(self, _):
        self.result = self._stack.pop()

    # ---- collections

    def _mark(self, _):
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _tuple(self, _):
        items = tuple(self._since_mark())
        self._stack.append(items)

    def _append(self, _):
        self._extend([self._stack.pop()])

    def _appends(self, _):
        self._extend(self._since_mark())

    _additems = _appends

    def _extend(self, items):
        target = self._stack[-1]
        if not isinstance(target, Placeholder):
            list.extend(target, items)

    def _setitem(self, _):
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self, _):
        self._set(self._since_mark())

    def _set(self, items):
        target = self._stack[-1]
        if isinstance(target, Placeholder):
            return
        # Other keys are passed over: hashing a nested tuple can take forever.
        pairs = zip(items[::2], items[1::2], strict=True)
        dict.update(target, {key: value for key, value in pairs if isinstance(key, _KEYS)})

    # ---- memory

    def _binput(self, index):
        self._memo[index] = self._stack[-1]

    _long_binput = _binput

    def _memoize(self, _):
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, index):
        self._stack.append(self._memo[index])

    _long_binget = _binget

    # ---- objects

    def _global(self, argument):
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _):
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module, name):
        plain = module in ("builtins", "__builtin__") and name in _TYPES
        known = len(module) + len(name) <= MAX_NAME and module.partition(".")[0] in PASSED_OVER
        if not plain and not known:
            raise InputError(
                f"it names {module}.{name}"[:120] + f", which no weights need and which is not run; {SAVE_AGAIN}"
            )
        self._stack.append(Name(module, name))

    def _binpersid(self, _):
        self._stack.append(self._storage(self._stack.pop()))

    def _reduce(self, _):
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._made(function, arguments))

    _newobj = _reduce

    def _build(self, _):
        """Attributes of an object: of none here is there any use."""
        self._stack.pop()

    def _made(self, function, arguments):
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no function")
        if function == ("collections", "OrderedDict"):
            pairs = arguments[0] if arguments else ()
            self._copied += len(pairs)  # one list can be named again and again
            if self._copied > MAX_OPCODES:
                raise InputError(f"its dicts are made of more than {MAX_OPCODES} pairs; {SAVE_AGAIN}")
            return {key: value for key, value in pairs if isinstance(key, _KEYS)}
        if function.module == "torch._utils":
            if function.name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
                return self._rebuild(*arguments[:4])
            if function.name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
                return arguments[0]
        return Placeholder(".".join(map(str, function)))
