"""`compile_tflite`: what a device runs of a `.tflite` file, by its maker's compiler."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from .errors import UnsupportedOperators
from .evaluation.tools import CheckResult
from .evaluation.tools.qualcomm import compile_for_soc
from .evaluation.tools.vela import compile_file
from .flatbuffer.operators import read_operators
from .report import publish_files, versions, workspace


@dataclasses.dataclass(frozen=True)
class CompileReport:
    """Report of `compile_tflite`, also written as JSON beside the file.

    Attributes:
        path: the compiled file.
        target: name in `TARGETS`.
        source: the `.tflite` file that was compiled.
        source_sha256: of its bytes.
        compiled_by: the compiler, with versions.
        facts: its measurements or estimates, of the SoC or accelerator.
        size_bytes: of the compiled file.
        versions: of the packages here.
    """

    path: str
    target: str
    source: str
    source_sha256: str
    compiled_by: str
    facts: dict[str, Any]
    size_bytes: int
    versions: dict[str, str]

    def __str__(self):
        facts = "".join(f"\n  {key}: {value}" for key, value in self.facts.items())
        return (
            f"{self.path}: {self.size_bytes / 1e6:.2f} MB for {self.target}, of "
            f"{self.source}\n  compiled by {self.compiled_by}{facts}"
        )


def compile_tflite(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: str,
    *,
    options: Mapping[str, Any] | None = None,
) -> CompileReport:
    """Compile a `.tflite` file for a device, and publish what the device runs.

    Arguments:
        path: a `.tflite` file, as exported for the target.
        out: the compiled file, which the target's runtime opens, and no other; an
            existing one is replaced. `<out>.json` beside it is the report. Both appear
            whole or not at all.
        target: a name in `COMPILERS`: "qualcomm" for LiteRT on the device, with one
            operator, DISPATCH_OP; Ethos-U for LiteRT for Microcontrollers.
        options: as in `export.check`, of another device than the target's: "socs",
            one chip, for "qualcomm"; "accelerator" and others for Ethos-U.

    Raises:
        ValueError: the target or an option is unknown, `out` is `path`, or `path` is no
            TFLite file.
        UnsupportedOperators: the compiler does not take the file whole.
        FileNotFoundError: the file or the folder of `out` does not exist.
        OSError: the file cannot be written.
        MissingDependency: the compiler is not installed.
    """
    if target not in COMPILERS:
        raise ValueError(
            f"`target` must be one of {', '.join(COMPILERS)}, which have a compiler. "
            f"Received: target={target!r}"
        )
    if pathlib.Path(path).resolve() == pathlib.Path(out).resolve():
        raise ValueError(f"`out` must not be the file to compile. Received: '{out}'")
    read_operators(path)  # raises if it is no TFLite file
    with workspace(out) as work:
        result = COMPILERS[target](path, work, target, options)
        if result.unsupported:
            problems = "; ".join(map(str, result.unsupported))
            raise UnsupportedOperators(
                f"'{out}' was not written: {target} does not take '{path}' whole, by "
                f"{result.tool}: {problems}"
            )
        report = CompileReport(
            path=str(out),
            target=target,
            source=str(path),
            source_sha256=hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
            compiled_by=result.tool,
            facts=result.facts,
            size_bytes=work.stat().st_size,
            versions=versions(),
        )
        publish_files(work, out, dataclasses.asdict(report))
    return report


# Functions of (path, out, target, options) that write `out`.
COMPILERS: dict[str, Callable[..., CheckResult]] = {
    "qualcomm": compile_for_soc,
    "ethos_u55": compile_file,
    "ethos_u65": compile_file,
    "ethos_u85": compile_file,
}
