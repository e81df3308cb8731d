"""`c_array`: a `.tflite` file as a C header, for firmware without a file system."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from vit_keras.atomic import publishing

from ..errors import MissingDependency, UnsupportedOperators
from ..evaluation.check import check
from ..evaluation.runners import outputs_by_name
from ..evaluation.tools import CheckResult
from ..flatbuffer.first_run import check_first_run
from ..flatbuffer.metadata import read_metadata
from ..flatbuffer.operators import Operator, read_operators

TARGET = "micro"
# What Vela makes of a file: the NPU's driver runs it, which no interpreter here has.
ETHOS_U = "CUSTOM:ethos-u"
# Names of `MicroMutableOpResolver`'s functions that the rule below does not make.
ADDERS = {
    ETHOS_U: "AddEthosU",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
C_TYPES = {
    **{"float32": "float", "float64": "double", "bool": "bool"},
    **{
        f"{u}int{bits}": f"{u}int{bits}_t"
        for u in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
IN_A_LINE = 20  # bytes


@dataclasses.dataclass(frozen=True)
class CArray:
    """Report of `c_array`.

    Attributes:
        path: the header.
        name: what all names in it begin with.
        size_bytes: of the array.
        arena_bytes: memory for tensors that suffices, as measured here; None if nothing
            here can run the file.
        operators: names of the operators that firmware must register, sorted.
        checked_by: the interpreter that ran the file, or why none did.
    """

    path: str
    name: str
    size_bytes: int
    arena_bytes: int | None
    operators: tuple[str, ...]
    checked_by: str

    def __str__(self):
        arena = "unknown" if self.arena_bytes is None else f"{self.arena_bytes} bytes"
        return (
            f"{self.path}: {self.name}_data, {self.size_bytes} bytes; arena {arena}; "
            f"{len(self.operators)} types of operators\n  {self.checked_by}"
        )


def c_array(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> CArray:
    """Write a `.tflite` file as a C header, for LiteRT for Microcontrollers.

    The header is C11 and C++17 and includes nothing of the runtime. In it are, all with
    the header's own name in front: the file's bytes, aligned to 16; of each input and
    output the type, shape, scale and zero point; the bytes of the arena; in C++ a
    function that registers the operators with a `MicroMutableOpResolver`; and labels.
    `examples/device/microcontroller/main.cc` uses it.

    Arguments:
        path: a `.tflite` file for target "micro"; or what `compile_tflite` made of one
            for an Ethos-U, which is not run here.
        out: the header to write, such as "digits.h"; an existing one is replaced.

    Returns:
        What is in the header.

    Raises:
        ValueError: `path` is no TFLite file, its input or an output has a type that C
            does not, or two outputs have the same name there; or `out` is `path` or
            begins with no letter.
        UnsupportedOperators: the runtime lacks an operator or a type, or computes
            something else than LiteRT; the message says which, and what helps.
        FileNotFoundError: the file, or the folder of `out`, does not exist.
        MissingDependency: the extra "export" is not installed. Without "edge" the
            header is written all the same, and says that nothing ran the file.
    """
    name = _identifier(pathlib.Path(out).stem)
    if not re.match("[A-Za-z]", name):
        raise ValueError(
            f"`out` must begin with a letter, as names in C do. Received: out='{out}'"
        )
    if pathlib.Path(path).resolve() == pathlib.Path(out).resolve():
        raise ValueError(f"`out` must not be the file to read. Received: '{out}'")
    found = read_operators(path)
    kinds = tuple(sorted({op.name for op in found}))
    custom = [k for k in kinds if k.startswith("CUSTOM") and k != ETHOS_U]
    if custom:  # their names are any text, which must not become C
        raise UnsupportedOperators(
            f"'{out}' was not written: microcontrollers have no operator {custom[0]!r}"
        )
    result = _run_here(path, out, found)
    labels = read_metadata(path).get("labels", ())
    content = pathlib.Path(path).read_bytes()
    arena = result.facts.get("arena_bytes")
    parts = (
        _opening(name, pathlib.Path(path).name, result),
        *(_end(name, *facts) for facts in _ends(path)),
        _arena(name, arena),
        _operators(name, kinds),
        _labels(name, labels),
        _data(name, content),
        f"#endif  // {name.upper()}_H_\n",
    )
    with publishing(out) as work:
        work.write_text("\n".join(parts), encoding="ascii")
    return CArray(str(out), name, len(content), arena, kinds, result.tool)


def _identifier(text):
    return re.sub(r"\W", "_", text, flags=re.ASCII)


def _run_here(path, out, found: Sequence[Operator]) -> CheckResult:
    """Run the file in the interpreter for microcontrollers, if that is possible."""
    if any(op.name == ETHOS_U for op in found):
        return CheckResult("not run here: it is for an Ethos-U, see Vela's estimates")
    try:
        report = check(path, TARGET)
    except MissingDependency as error:
        return CheckResult(f"not run here: {error}")
    if not report.passed:
        raise UnsupportedOperators(
            f"'{out}' was not written: microcontrollers cannot run '{path}': {report}"
        )
    return CheckResult(f"run by {report.tool} on random pixels", (), report.facts)


def _ends(path):
    """Yield (name, type in C, shape, scale, zero point) of input and outputs: "input"
    and "output", or "output_NAME" of several."""
    from ai_edge_litert.interpreter import Interpreter

    check_first_run(path)
    # Without kernels, which a compiled file lacks: nothing is allocated or run.
    interpreter = Interpreter(model_path=str(path))
    outputs = outputs_by_name(interpreter)
    ends = [("input", "input", interpreter.get_input_details()[0])]
    macros: dict[str, str] = {}  # in capitals: names must differ by more than those
    for name, end in outputs.items():
        last = "" if len(outputs) == 1 else f"_{_identifier(name)}"
        other = macros.setdefault(last.upper(), name)
        if other != name:
            raise ValueError(
                "outputs of `path` must have names that differ in C. Received: "
                f"'{other}' and '{name}', both {last[1:].upper()} there"
            )
        ends.append((f"output{last}", name, end))
    for key, name, end in ends:
        scale, zero = end["quantization"]
        dtype = np.dtype(end["dtype"]).name
        if dtype not in C_TYPES:
            raise ValueError(
                f"input and outputs of `path` must be {', '.join(C_TYPES)}. Received: "
                f"'{name}' of {dtype}"
            )
        shape = tuple(int(n) for n in end["shape"]) or (1,)  # C has no empty arrays
        yield key, C_TYPES[dtype], shape, scale or 1.0, zero


def _opening(name, file, result):
    guard = f"{name.upper()}_H_"
    return (
        f"// {_in_comment(file)}, for LiteRT for Microcontrollers.\n"
        "// Written by vit-export c-array.\n"
        f"// {_in_comment(result.tool)}.\n"
        f"#ifndef {guard}\n#define {guard}\n\n"
        "#include <stddef.h>\n#include <stdint.h>\n"
        "#ifndef __cplusplus\n#include <stdalign.h>\n#include <stdbool.h>\n#endif\n"
    )


def _in_comment(text):
    """Text on one line in ASCII; a backslash at its end would continue the comment."""
    return " ".join(text.encode("ascii", "replace").decode().split()).replace("\\", "/")


def _end(name, end, dtype, shape, scale, zero):
    lower, upper = f"{name}_{end}", f"{name}_{end}".upper()
    sizes = ", ".join(map(str, shape))
    return (
        f"// {end}: real value = (stored - zero point) * scale\n"
        f"#define {upper}_TYPE {dtype}\n"
        f"#define {upper}_SCALE {float(scale)!r}f\n"
        f"#define {upper}_ZERO_POINT {zero}\n"
        f"#define {upper}_SIZE {int(np.prod(shape))}\n"
        f"static const int {lower}_shape[{len(shape)}] = {{{sizes}}};\n"
    )


def _arena(name, arena):
    if arena is None:
        return "// Bytes of the tensor arena: not measured, see above.\n"
    return (
        "// Bytes of the tensor arena that suffice on a 64-bit machine; 32 bits need "
        "less.\n"
        f"#define {name.upper()}_ARENA_BYTES {arena}\n"
    )


def _operators(name, kinds):
    calls = " &&\n         ".join(f"resolver.{adder(kind)}() == 0" for kind in kinds)
    return (
        f"#define {name.upper()}_OPERATORS {len(kinds)}\n\n"
        "#ifdef __cplusplus\n"
        f"// Registers them with a tflite::MicroMutableOpResolver<{name.upper()}"
        "_OPERATORS>.\n"
        "template <typename Resolver>\n"
        f"inline bool {name}_add_operators(Resolver& resolver) {{\n"
        f"  return {calls};\n}}\n#endif\n"
    )


def adder(operator: str) -> str:
    """The name of `MicroMutableOpResolver`'s function that adds an operator."""
    words = (w if w[0].isdigit() else w.capitalize() for w in operator.split("_"))
    return ADDERS.get(operator, "Add" + "".join(words))


def _labels(name, labels):
    if not labels:
        return "// There are no labels in the file.\n"
    rows = ",\n".join(f"    {_literal(label)}" for label in labels)
    return (
        f"#define {name.upper()}_LABELS {len(labels)}\n"
        f"static const char* const {name}_labels[{len(labels)}] = {{\n{rows}}};\n"
    )


def _literal(text):
    """A string of C in UTF-8. Escapes in octal end after three digits, those in
    hexadecimal do not; question marks would make trigraphs."""
    plain = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    ]
    return '"' + "".join(plain) + '"'


def _data(name, content):
    rows = (content[i : i + IN_A_LINE] for i in range(0, len(content), IN_A_LINE))
    values = ",\n    ".join(",".join(map(str, row)) for row in rows)
    return (
        f"static const size_t {name}_size = {len(content)};\n"
        f"alignas(16) static const unsigned char {name}_data[{len(content)}] = {{\n"
        f"    {values}}};\n"
    )
