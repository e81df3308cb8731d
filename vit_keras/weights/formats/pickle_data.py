"""Reader of pickles as data: nothing that the file names is imported or called.

A pickle is a program for a small stack machine (PEP 307 and PEP 3154; the standard
library's `pickletools` documents every opcode). Here `pickletools.genops` parses the
bytes, and only opcodes that a state dict and its settings need are supported. Work and
memory are proportional to the length of the stream: no handler copies a value that the
stream can repeat, and none recurses.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from vit_keras.weights.entries import CheckpointError

# Far above what a checkpoint takes (about 40 opcodes per tensor); a few seconds.
# Far above a checkpoint's need (about 40 opcodes per tensor); takes a few seconds.
MAX_OPCODES = 5_000_000
MAX_NAME = 200  # of a global; the longest in PyTorch has about 50 letters


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """A global of the file, or the result of calling it, represented by its name only.

    Arguments:
        name: the dotted name in the file, such as "argparse.Namespace".
    """

    name: str


class _Machine:
    """The stack, marks and memo, as in PEP 307 and `pickletools`."""

    def __init__(self, rebuild, persistent):
        self.rebuild, self.persistent = rebuild, persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}

    def push(self, value):
        self.stack.append(value)

    def pop(self):
        if not self.stack:
            raise CheckpointError("its pickle pops from an empty stack")
        return self.stack.pop()

    def pop_mark(self):
        """Return all values since the last mark."""
        if not self.outer:
            raise CheckpointError("its pickle has no mark where it needs one")
        values, self.stack = self.stack, self.outer.pop()
        return values

    def top(self):
        self.push(value := self.pop())
        return value


def _mark(machine, _):
    machine.outer.append(machine.stack)
    machine.stack = []


def _put(machine, index):
    machine.memo[len(machine.memo) if index is None else index] = machine.top()


def _get(machine, index):
    if index not in machine.memo:
        raise CheckpointError(f"its pickle has nothing at memo index {index}")
    machine.push(machine.memo[index])


def _tuple(count):
    def handler(machine, _):
        machine.push(tuple([machine.pop() for _ in range(count)][::-1]))

    return handler


def _append(machine, values):
    match machine.top():
        case list() as target:
            target.extend(values)
        case Unknown():
            pass
        case _:
            raise CheckpointError("its pickle appends to a value that is no list")


def _set(machine, values):
    match machine.top():
        case dict() as target:
            # Only string keys are needed. Others are skipped, because hashing a nested
            # tuple recurses, and chosen integers can be made to collide.
            pairs = zip(values[::2], values[1::2], strict=True)
            target.update((key, value) for key, value in pairs if type(key) is str)
        case Unknown():
            pass
        case _:
            raise CheckpointError("its pickle sets items of a value that is no dict")


def _global(machine, name):
    if len(name) > MAX_NAME:
        raise CheckpointError("its pickle has a global with an overlong name")
    machine.push(Unknown(name))


def _stack_global(machine, _):
    name, module = machine.pop(), machine.pop()
    # Checked before joining: the memo can repeat a long string for 3 bytes.
    if not all(type(part) is str and len(part) < MAX_NAME for part in (module, name)):
        raise CheckpointError("its pickle has a global without a proper name")
    _global(machine, f"{module}.{name}")


def _call(dropped):
    """Return a handler of calls with `dropped` arguments; it calls nothing."""

    def handler(machine, _):
        arguments = [machine.pop() for _ in range(dropped)][-1]
        function = machine.pop()
        if type(function) is not Unknown or type(arguments) is not tuple:
            raise CheckpointError("its pickle calls a value that is no global")
        build = machine.rebuild.get(function.name)
        machine.push(build(arguments) if build else function)

    return handler


def _push(value):
    return lambda machine, _: machine.push(value)


def _nothing(machine, _):
    pass


# Opcode -> handler(machine, argument). Text opcodes (protocol 0) are not supported:
# PyTorch cannot write a state dict with them, as storages have binary persistent ids.
HANDLERS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "STOP": _nothing,
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "BININT": _Machine.push,
    "BININT1": _Machine.push,
    "BININT2": _Machine.push,
    "LONG1": _Machine.push,
    "LONG4": _Machine.push,
    "BINFLOAT": _Machine.push,
    "BINUNICODE": _Machine.push,
    "BINUNICODE8": _Machine.push,
    "SHORT_BINUNICODE": _Machine.push,
    "BINSTRING": _Machine.push,
    "SHORT_BINSTRING": _Machine.push,
    "BINBYTES": _Machine.push,
    "BINBYTES8": _Machine.push,
    "SHORT_BINBYTES": _Machine.push,
    "BYTEARRAY8": _Machine.push,
    "EMPTY_TUPLE": _push(()),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: _append(machine, [machine.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: _set(machine, [machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: _set(machine, machine.pop_mark()),
    # State dicts have no sets, but settings may.
    "EMPTY_SET": _push(Unknown("set")),
    "ADDITEMS": lambda machine, _: machine.pop_mark(),
    "FROZENSET": lambda machine, _: _push(Unknown("set"))(machine, machine.pop_mark()),
    "MARK": _mark,
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_mark(),
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _put,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "GLOBAL": lambda machine, name: _global(machine, name.replace(" ", ".", 1)),
    "STACK_GLOBAL": _stack_global,
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
    "REDUCE": _call(1),
    "NEWOBJ": _call(1),
    "NEWOBJ_EX": _call(2),
    "BUILD": lambda machine, _: machine.pop(),  # attributes, such as `_metadata`
}


def load(
    stream: BinaryIO,
    rebuild: Mapping[str, Callable[[tuple], Any]],
    persistent: Callable[[Any], Any],
) -> Any:
    """Read one pickle.

    Arguments:
        stream: an `io.BytesIO`; left behind the pickle's last opcode.
        rebuild: dotted name of a global -> function of a call's argument tuple that
            returns its representation. A call of another global gives an `Unknown`.
        persistent: function from a persistent id to its value.

    Returns:
        Dicts (without items whose keys are no strings), lists, tuples, strings,
        numbers, None, `Unknown`, and results of the two arguments. Structures may be
        deeply nested or contain themselves: never recurse into them.

    Raises:
        CheckpointError: the bytes are no pickle, or need an unsupported opcode.
    """
    machine = _Machine(rebuild, persistent)
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if step == MAX_OPCODES:
                raise CheckpointError("its pickle is far too long for a state dict")
            if opcode.name not in HANDLERS:
                raise CheckpointError(f"its pickle has a {opcode.name} opcode")
            HANDLERS[opcode.name](machine, argument)
        return machine.pop()
    except CheckpointError:
        raise
    # Errors of pickletools and of wrong arguments of `rebuild`; a warning if a name has
    # a bad escape and the caller has made warnings errors.
    except (ValueError, TypeError, IndexError, OverflowError, Warning) as error:
        raise CheckpointError(f"its pickle is damaged ({error})") from error
