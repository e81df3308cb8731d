"""Reads a pickle as data: nothing that the file names is ever imported or called.

A pickle is a program for a small stack machine (PEP 307 and PEP 3154; the standard
library's `pickletools` documents every opcode). Here `pickletools.genops` takes the
bytes apart, and only the opcodes that a state dict and the settings beside it need
have a meaning. All work and memory stay in proportion to the length of the stream:
no handler copies what the stream can mention twice, and none recurses.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from vit_keras.weights.entries import CheckpointError

# Far above what a checkpoint takes (about 40 opcodes per tensor); a few seconds.
MAX_OPCODES = 5_000_000
MAX_NAME = 200  # of a global; the longest that PyTorch writes has about 50 letters


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """A global of the file, or what calling it would give: a name, and nothing else.

    Arguments:
        name: the dotted name in the file, such as "argparse.Namespace".
    """

    name: str


class _Machine:
    """The stack, the marks and the memo, as PEP 307 and `pickletools` describe them."""

    def __init__(self, rebuild, persistent):
        self.rebuild, self.persistent = rebuild, persistent
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}

    def push(self, value):
        self.stack.append(value)

    def pop(self):
        if not self.stack:
            raise CheckpointError("its pickle takes from an empty stack")
        return self.stack.pop()

    def pop_mark(self):
        """All values since the last mark."""
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
            raise CheckpointError("its pickle appends to what is no list")


def _set(machine, values):
    match machine.top():
        case dict() as target:
            # Only names matter. Other keys are left out, because hashing a nested
            # tuple recurses, and chosen integers can be made to collide.
            pairs = zip(values[::2], values[1::2], strict=True)
            target.update((key, value) for key, value in pairs if type(key) is str)
        case Unknown():
            pass
        case _:
            raise CheckpointError("its pickle sets items of what is no dict")


def _global(machine, name):
    if len(name) > MAX_NAME:
        raise CheckpointError("its pickle has a global with an overlong name")
    machine.push(Unknown(name))


def _stack_global(machine, _):
    name, module = machine.pop(), machine.pop()
    # Checked before they are joined: the memo can repeat a long string for 3 bytes.
    if not all(type(part) is str and len(part) < MAX_NAME for part in (module, name)):
        raise CheckpointError("its pickle has a global without a proper name")
    _global(machine, f"{module}.{name}")


def _call(dropped):
    """A handler of a call with `dropped` arguments on the stack; calls nothing."""

    def handler(machine, _):
        arguments = [machine.pop() for _ in range(dropped)][-1]
        function = machine.pop()
        if type(function) is not Unknown or type(arguments) is not tuple:
            raise CheckpointError("its pickle calls what is no global")
        build = machine.rebuild.get(function.name)
        machine.push(build(arguments) if build else function)

    return handler


def _push(value):
    return lambda machine, _: machine.push(value)


def _nothing(machine, _):
    pass


# Opcode -> handler(machine, argument). Text opcodes (protocol 0) are missing: storages
# have binary persistent ids, so PyTorch cannot write a state dict with them.
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
    # No state dict has a set; settings may.
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
        rebuild: dotted name of a global -> what stands for a call of it with a tuple
            of arguments. A call of any other global gives an `Unknown` of its name.
        persistent: takes a persistent id and gives the value that it stands for.

    Returns:
        Dicts (items with other keys than strings are left out), lists, tuples,
        strings, numbers, None, `Unknown`, and what the two arguments give. Structures
        may be deeply nested or hold themselves: never recurse into them.

    Raises:
        CheckpointError: the bytes are no pickle, or need an opcode that has no
            meaning here.
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
    # What pickletools and wrong arguments of `rebuild` lead to. A warning comes from a
    # bad escape in a name, where the caller has made warnings errors.
    except (ValueError, TypeError, IndexError, OverflowError, Warning) as error:
        raise CheckpointError(f"its pickle is damaged ({error})") from error
